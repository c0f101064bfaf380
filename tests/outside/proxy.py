#!/usr/bin/env python3
"""A TCP proxy that fails on command: what lies between a server and its database in the outside proofs.

One for each server, so that one can lose the database while others have it. It is a process of its own,
which reads orders from its standard input, one a line, and ends with it:

    cut            ends all connections, both sides by RST; what was under way in them is lost
    refuse         refuses new connections, as if nobody listened; those that are open go on
    stall          accepts, and forwards nothing of what either side sends
    stall-answers  forwards what is sent to the database, but nothing of what it sends
    resume         neither refuses nor stalls; what was held is forwarded
    to PORT        connections that come from now on lead there
    count          does nothing

Each is answered by a line with the number of connections that were open when it came, and is in force then.
Run by hand, orders are typed.
"""

import argparse
import asyncio
import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from urllib.parse import urlsplit

BACKLOG = 1024
HELD_BYTES_MAX = 256 * 1024  # for a side that is slow to read; the other is not read meanwhile
ANSWER_WITHIN = 30.0  # seconds for an order
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST


class Proxy:
    """The proxy as a process of its own, before `port` of this machine."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--to", str(port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self.port = self.said()

    def url(self, url):
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{self.port}").geturl()

    def cut(self):
        """Ends all connections by RST; returns how many."""
        return self.order("cut")

    def refuse(self):
        """Refuses new connections; those that are open go on."""
        return self.order("refuse")

    def partition(self):
        """Ends all connections, and refuses new ones."""
        self.refuse()
        return self.cut()

    def stall(self, answers_only=False):
        """Accepts and holds what comes, from both sides or from the database alone."""
        return self.order("stall-answers" if answers_only else "stall")

    def resume(self):
        """Neither refuses nor stalls; what was held is forwarded."""
        return self.order("resume")

    def lead_to(self, port):
        """Connections that come from now on lead there."""
        return self.order(f"to {port}")

    def connections(self):
        """How many are open."""
        return self.order("count")

    def order(self, order):
        self.process.stdin.write(f"{order}\n".encode())
        self.process.stdin.flush()
        return self.said()

    def said(self):
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(ANSWER_WITHIN * 1000):
            raise TimeoutError(f"the proxy did not answer within {ANSWER_WITHIN} s")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        return int(line)

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(ANSWER_WITHIN)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# The process

class Side(asyncio.Protocol):
    """One side of a connection; what it sends is forwarded to the other, its peer."""

    def __init__(self, pair):
        self.pair = pair
        self.peer = None
        self.transport = None  # until connected
        self.has_ended = False  # it sends no more
        self.is_full = False  # it is slow to read

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(HELD_BYTES_MAX)
        transport.pause_reading()
        self.pair.made(self)

    def data_received(self, data):
        self.peer.transport.write(data)

    def eof_received(self):
        self.has_ended = True
        if self.peer.has_ended:
            self.transport.close()
            self.peer.transport.close()
        elif not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True  # the peer may still have something to say

    def pause_writing(self):
        self.is_full = True
        self.pair.read()

    def resume_writing(self):
        self.is_full = False
        self.pair.read()

    def connection_lost(self, error):
        self.pair.lost(self, error)

    def reset(self):
        if self.transport and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.transport.abort()


class Pair:
    """A client's connection, and the one made for it to the database."""

    def __init__(self, middle):
        self.middle = middle
        self.client, self.database = Side(self), Side(self)
        self.client.peer, self.database.peer = self.database, self.client
        self.connecting = None

    def made(self, side):
        if side is self.client:
            self.middle.pairs.add(self)
        self.read()

    def read(self):
        """Reads of each side what may be forwarded."""
        if self.connecting is None and not self.middle.holds_requests:
            self.connecting = asyncio.create_task(self.connect())
        if self.database.transport is None:
            return
        for side, held in ((self.client, self.middle.holds_requests), (self.database, self.middle.holds_answers)):
            if held or side.peer.is_full:
                side.transport.pause_reading()
            else:
                side.transport.resume_reading()

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.database, "127.0.0.1", self.middle.to)
        except OSError:
            self.reset()

    def reset(self):
        if self.connecting and self.database.transport is None:
            self.connecting.cancel()
        self.client.reset()
        self.database.reset()

    def lost(self, side, error):
        if error:
            side.peer.reset()
        elif side.peer.transport:
            side.peer.transport.close()
        if side is self.client:
            self.middle.pairs.discard(self)


class Middle:
    """All connections, and what is in force for them."""

    def __init__(self, to):
        self.to = to
        self.pairs = set()
        self.holds_requests = self.holds_answers = False
        self.server = None
        # Never listens: it keeps the port while connections are refused.
        self.place = bound_socket(0)
        self.port = self.place.getsockname()[1]

    async def listen(self):
        if self.server is None:
            self.server = await asyncio.get_running_loop().create_server(
                lambda: Pair(self).client, sock=bound_socket(self.port), backlog=BACKLOG)

    async def obey(self, order):
        count = len(self.pairs)
        if order == "cut":
            for pair in list(self.pairs):
                pair.reset()
            while self.pairs:
                await asyncio.sleep(0)  # they are closed in the loop's next rounds
        elif order == "refuse":
            if self.server:
                self.server.close()
                self.server = None
        elif order in ("stall", "stall-answers", "resume"):
            self.holds_requests, self.holds_answers = order == "stall", order != "resume"
            for pair in self.pairs:
                pair.read()
            if order == "resume":
                await self.listen()
        elif order.startswith("to "):
            self.to = int(order.removeprefix("to "))
        elif order != "count":
            raise ValueError(f"an unknown order: {order!r}")
        return count


def bound_socket(port):
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def serve(to):
    middle = Middle(to)
    await middle.listen()
    print(middle.port, flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        print(await middle.obey(order.decode().strip()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=int, metavar="PORT", help="where to forward to; the proxy's own port is printed")
    what.add_argument("--self-test", action="store_true", help="check that it does what it says, and end")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.to))


def self_test():
    """Obeys every order, seen from both sides of a connection."""
    from report import Report

    report = Report()
    database = socket.create_server(("127.0.0.1", 0))
    with database, Proxy(database.getsockname()[1]) as proxy:
        def connect():
            return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)

        def connected():
            client, server = connect(), database.accept()[0]
            server.settimeout(10)
            return client, server

        def nothing_comes(side):
            side.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                return side.recv(10) is None
            side.settimeout(10)
            return True

        def is_reset(side):
            with contextlib.suppress(ConnectionResetError):
                return side.recv(10) is None
            return True

        report.equal("the URL leads through it", proxy.url("postgres://u:5432@127.0.0.1:5432/d?x=1"),
                     f"postgres://u:5432@127.0.0.1:{proxy.port}/d?x=1")
        client, server = connected()
        client.sendall(b"ask")
        report.equal("what is asked arrives", server.recv(10), b"ask")
        server.sendall(b"answer")
        report.equal("what is answered arrives", client.recv(10), b"answer")
        big = os.urandom(8_000_000)
        sender = threading.Thread(target=client.sendall, args=(big,))
        sender.start()
        report.equal("much arrives whole", receive(server, len(big)), big)
        sender.join()

        proxy.stall()
        client.sendall(b"ask")
        server.sendall(b"answer")
        report.check("stalled, nothing arrives", nothing_comes(server) and nothing_comes(client))
        late = connect()
        late.sendall(b"late")
        database.settimeout(0.2)
        try:
            database.accept()
            report.check("stalled, nobody is connected", False)
        except TimeoutError:
            report.check("stalled, nobody is connected", True)
        database.settimeout(10)
        report.equal("both count", proxy.resume(), 2)
        report.equal("resumed, what was held arrives", (server.recv(10), client.recv(10)), (b"ask", b"answer"))
        late_server = database.accept()[0]
        report.equal("also of whoever came meanwhile", late_server.recv(10), b"late")

        proxy.stall(answers_only=True)
        client.sendall(b"write")
        report.equal("answers stalled, what is asked arrives", server.recv(10), b"write")
        server.sendall(b"written")
        report.check("but no answer", nothing_comes(client))
        report.equal("all are cut", proxy.cut(), 2)
        report.check("both sides are reset", all(map(is_reset, (client, server, late, late_server))))
        report.equal("none is left", proxy.connections(), 0)
        with socket.create_server(("127.0.0.1", 0)) as other:
            proxy.resume()
            proxy.lead_to(other.getsockname()[1])
            client = connect()
            client.sendall(b"ask")
            report.equal("it leads elsewhere", other.accept()[0].recv(10), b"ask")
            proxy.cut()
            proxy.lead_to(database.getsockname()[1])
        proxy.resume()

        client, server = connected()
        proxy.refuse()
        try:
            connect()
            report.check("new ones are refused", False)
        except ConnectionRefusedError:
            report.check("new ones are refused", True)
        client.sendall(b"ask")
        report.equal("an open one goes on", server.recv(10), b"ask")
        report.equal("a partition cuts it", proxy.partition(), 1)
        report.check("both sides are reset", is_reset(client) and is_reset(server))
        proxy.resume()
        client, server = connected()
        client.shutdown(socket.SHUT_WR)
        report.equal("a client's end is passed on", server.recv(10), b"")
        server.sendall(b"last words")
        server.close()
        report.equal("what comes after it still arrives", receive(client, 11), b"last words")
        client, server = connected()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        server.close()
        report.check("a reset is passed on", is_reset(client))
    with Proxy(proxy.port) as proxy:
        try:
            report.check("where nobody listens, a client is reset", is_reset(connect()))
        except ConnectionResetError:
            report.check("where nobody listens, a client is reset", True)
    return report.end()


def receive(side, length):
    """That many bytes, or what comes until the end."""
    received = bytearray()
    while len(received) < length and (some := side.recv(1 << 20)):
        received += some
    return bytes(received)


if __name__ == "__main__":
    main()
