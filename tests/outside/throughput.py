#!/usr/bin/env python3
"""What one, two and three nodes do on one PostgreSQL cluster, and one server on SQLite beside it, in one run.

Each kind has a store of its own, and its turn in every round: profiles in requests of up to 10,000, of several
accounts and spread over the nodes, from the first POST to the last callback; then single-profile requests over 64
connections, each durable. The processor's time of the nodes and of PostgreSQL says what bounds the figures: where
nodes, PostgreSQL, listener and this client share a few cores, more nodes share those cores too, and add nothing
but what they cost.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import time
from collections import defaultdict
from pathlib import Path

from cluster import Cluster, children
from report import Report
from server import (ACTIONS, Server, action_body, apply_text, argument, arguments_of, fleet,
                    nodes, run_proof, scratch)

ACCOUNTS = [f"0000123456-{number:05d}" for number in range(1, 5)]
REQUEST = 10_000  # profiles at most
CONNECTIONS = 64  # of single-profile requests
SINGLES_FOR = 3.0  # seconds
WITHIN = 120.0  # seconds for one round of all profiles
TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP = 1  # rounds that are not counted


# A listener that only counts, in a process of its own

def listen(sockets, heard):
    """Answers every POST with 200 and counts them: a read may hold several, or a part of one."""
    class Connection(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.kept = transport, b""

        def data_received(self, data):
            data = self.kept + data if self.kept else data
            at = count = 0
            while (end := data.find(b"\r\n\r\n", at)) >= 0:
                head = data[at:end].lower()
                length = head.index(b"content-length:") + 15
                body_end = end + 4 + int(head[length:].split(b"\r\n", 1)[0])
                if body_end > len(data):
                    break
                at, count = body_end, count + 1
            self.kept = data[at:]
            if count:
                heard.value += count  # this process alone writes
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * count)

    async def serve():
        loop = asyncio.get_running_loop()
        await loop.create_server(Connection, sock=sockets)
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextlib.contextmanager
def listener():
    """Its URL, its count and its process."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    heard = multiprocessing.Value("q", 0, lock=False)
    process = multiprocessing.Process(target=listen, args=(sock, heard), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/callbacks", heard, process.pid
    finally:
        process.kill()
        process.join()


# The processor's time

def seconds_of(pid, ended_too=False):
    """User and system time of a process so far, `ended_too` with its ended children's."""
    fields = Path(f"/proc/{pid}/stat").read_text()
    fields = fields[fields.rindex(")") + 2:].split()
    return sum(map(int, fields[11:15 if ended_too else 13])) / TICKS


def seconds_of_cluster(cluster):
    first = cluster.first_process()
    total = seconds_of(first, ended_too=True)
    for child in list(children(first)):
        with contextlib.suppress(FileNotFoundError):
            total += seconds_of(child)
    return total


# A kind: its servers and its store

class Kind:
    def __init__(self, name, servers, cluster):
        self.name, self.servers, self.cluster = name, servers, cluster
        self.figures = defaultdict(list)
        self.next = 0  # of the fleets

    def prepare(self, url, each):
        """Accounts and fleets; what one node applies, all have."""
        first = self.servers[0]
        first.apply(apply_text({account: url for account in ACCOUNTS}))
        profiles = []
        for number, account in enumerate(ACCOUNTS):
            profiles += fleet(account, each, first=number * each)
        first.import_fleet(profiles)
        self.iccids = {account: [p.iccid for p in profiles if p.account == account] for account in ACCOUNTS}

    def start(self):
        for server in self.servers:
            server.start()
        self.clients = [server.client() for server in self.servers]

    def cpu(self):
        nodes_ = sum(seconds_of(server.process.pid) for server in self.servers)
        return nodes_, seconds_of_cluster(self.cluster) if self.cluster else 0.0

    def run(self, heard, listener_pid, profiles, counted):
        """All profiles resumed and told of; each round takes others."""
        each = profiles // len(ACCOUNTS)
        before, told_before, listener_before = self.cpu(), heard.value, seconds_of(listener_pid)
        began = time.monotonic()
        sent = 0
        for account in ACCOUNTS:
            iccids = self.iccids[account][self.next:self.next + each]
            for at in range(0, each, REQUEST):
                client = self.clients[sent % len(self.clients)]
                answer = client.resume(account, iccids[at:at + REQUEST])
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {answer.raw[:300]!r}")
                sent += 1
        accepted = time.monotonic() - began
        self.wait(heard, told_before + profiles)
        took = time.monotonic() - began
        self.next += each
        after = self.cpu()
        if counted:
            self.figures["s"].append(took)
            self.figures["accepted in s"].append(accepted)
            self.figures["per s"].append(profiles / took)
            self.figures["node CPU us"].append((after[0] - before[0]) / profiles * 1e6)
            self.figures["PostgreSQL CPU us"].append((after[1] - before[1]) / profiles * 1e6)
            self.figures["listener CPU us"].append((seconds_of(listener_pid) - listener_before) / profiles * 1e6)

    def wait(self, heard, expected):
        deadline = time.monotonic() + WITHIN
        while heard.value < expected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {heard.value} of {expected} callbacks within {WITHIN} s")
            time.sleep(0.002)

    def singles(self, heard, counted):
        """Single-profile requests as fast as they are accepted; by another process, which is quicker at it."""
        told_before = heard.value
        ports = [server.port for server in self.servers]
        parent, child = multiprocessing.Pipe()
        headers = [client.headers() for client in self.clients]
        process = multiprocessing.Process(target=send_singles, args=(child, ports, headers, self.iccids), daemon=True)
        process.start()
        if not parent.poll(SINGLES_FOR + 60):
            process.kill()
            raise TimeoutError(f"{self.name}: single-profile requests do not end")
        accepted, refused, took = parent.recv()
        process.join()
        self.wait(heard, told_before + accepted)
        if counted:
            self.figures["singles per s"].append(accepted / took)
        return refused

    def say(self):
        def middle(name, digits=0):
            figures = self.figures[name]
            return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}–{max(figures):.{digits}f})"
        print(f"{self.name:22} {middle('s', 2):>20} {middle('per s'):>22} {middle('accepted in s', 2):>20} "
              f"{middle('node CPU us'):>16} {middle('PostgreSQL CPU us'):>16} {middle('listener CPU us'):>14} "
              f"{middle('singles per s'):>20}", flush=True)


def send_singles(out, ports, headers, iccids):
    """64 connections, each with one request under way; counts what was accepted."""
    def raw(number, port, of):
        account = ACCOUNTS[number % len(ACCOUNTS)]
        body = json.dumps(action_body(account, [iccids[account][number % len(iccids[account])]])).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in of.items())
        return (f"POST {ACTIONS}profile_resume HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body

    async def one(place, until, counts):
        node = place % len(ports)
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[node])
        number = place
        while time.monotonic() < until:
            writer.write(raw(number, ports[node], headers[node]))
            number += CONNECTIONS
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            await reader.readexactly(int(lower[at:].split(b"\r\n", 1)[0]))
            counts[head.startswith(b"HTTP/1.1 200")] += 1
        writer.close()

    async def all_of_them():
        counts = [0, 0]
        began = time.monotonic()
        await asyncio.gather(*(one(place, began + SINGLES_FOR, counts) for place in range(CONNECTIONS)))
        out.send((counts[1], counts[0], time.monotonic() - began))

    asyncio.run(all_of_them())


def measure(report, arguments):
    rounds = arguments.rounds + WARM_UP
    each = arguments.profiles // len(ACCOUNTS) * rounds
    with scratch(report, "throughput") as folder, listener() as (url, heard, listener_pid), \
            Cluster("shared_buffers = 512MB", "max_wal_size = 4GB") as cluster, contextlib.ExitStack() as stack:
        options = {"binary": arguments.binary, "latency": "0ms", "carrier": 'jitter = "0ms"'}
        kinds = [Kind("SQLite, one server", [Server(folder / "sqlite", **options)], None)]
        for count in (1, 2, 3):
            database = cluster.database()
            kinds.append(Kind(f"PostgreSQL, {count} node{'s' * (count > 1)}",
                              nodes(folder / str(count), [database] * count, **options), cluster))
        for kind in kinds:
            for server in kind.servers:
                stack.enter_context(server)
            kind.prepare(url, each)
        report.say("prepared")
        for number in range(rounds):
            for kind in kinds:  # in turns, so that what slows the machine slows all; only one kind's servers run
                kind.start()
                kind.run(heard, listener_pid, arguments.profiles, counted=number >= WARM_UP)
                refused = kind.singles(heard, counted=number >= WARM_UP)
                report.equal(f"round {number}, {kind.name}: no request is refused", refused, 0)
                for client in kind.clients:
                    client.close()
                for server in kind.servers:
                    report.equal(f"round {number}, {kind.name}: it stops in order", server.stop(), 0)
            report.say(f"round {number}{' (not counted)' if number < WARM_UP else ''}")
        print(f"{arguments.profiles} profiles, {os.cpu_count()} cores, medians (least–most) of {arguments.rounds} rounds\n"
              f"{'':22} {'POST to last s':>20} {'profiles per s':>22} {'accepted in s':>20} {'node CPU us':>16} "
              f"{'PostgreSQL CPU':>16} {'listener CPU':>14} {'singles per s':>20}")
        for kind in kinds:
            kind.say()


if __name__ == "__main__":
    given = arguments_of(__doc__, argument("--profiles", type=int, default=20_000, help="per round (default: 20,000)"),
                         argument("--rounds", type=int, default=5, help="that are counted (default: 5)"), seed=False)
    run_proof(Report(), measure, given)
