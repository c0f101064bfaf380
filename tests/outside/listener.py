#!/usr/bin/env python3
"""A fast callback listener that remembers everything it was told.

Every received body is appended to a log file, one line each, BEFORE it is answered, so that the
log survives the death of the sender and of the listener:

    <receive time> <status answered> <path> <length of the body> <body>

The first part of the path decides how a POST is answered:

    /flaky/…    503 to the first attempt of about 3 % of the callbacks, 200 to all others
    /refuse/…   503
    /status/N/… the status N
    /hang/…     never answered (logged with status 0)
    anything else: 200

With --orders, whoever started it may say otherwise meanwhile, by a status or 0 on a line of standard input; "usual"
is as above again. Each is answered by itself, and in force then; the listener ends with its standard input.

Parsed by hand on asyncio: HTTP/1.1 with Content-Length, keep-alive, pipelining. Several POSTs in
one read become one append and one send.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
import zlib
from collections import namedtuple

HEAD_BYTES_MAX = 16 * 1024  # a request head longer than this is not a callback
BODY_BYTES_MAX = 1024 * 1024
FLAKY_PER_MILLE = 30

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
COUNT = re.compile(rb'("callbackCount":\s*)(\d+)')

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
OTHER = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\nLocation: /ok/redirected\r\n\r\n"
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Received = namedtuple("Received", "at status path body")


def status_for(path, body):
    """The status a POST of `body` to `path` is answered with; 0 means no answer at all."""
    kind = path.split(b"/", 2)[1] if path.startswith(b"/") else path
    if kind == b"flaky":
        count = COUNT.search(body)
        first = count is not None and count.group(2) == b"1"
        return 503 if first and zlib.crc32(body) % 1000 < FLAKY_PER_MILLE else 200
    if kind == b"status":
        return int(path.split(b"/", 3)[2])
    return {b"refuse": 503, b"hang": 0}.get(kind, 200)


class Mood:
    """What every POST is answered with, whatever its path says; None: as that says."""

    status = None


class Connection(asyncio.Protocol):
    """One connection of a sender."""

    def __init__(self, log, mood):
        self.log = log
        self.mood = mood
        self.buffer = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        buffer = self.buffer + data if self.buffer else data
        at, lines, answers, close = 0, [], [], False
        now = time.time()
        while not close:
            head_end = buffer.find(b"\r\n\r\n", at)
            if head_end < 0:
                if len(buffer) - at > HEAD_BYTES_MAX:
                    answers.append(BAD)
                    close = True
                break
            head = buffer[at:head_end + 2]
            length = CONTENT_LENGTH.search(head)
            parts = head.split(b" ", 2)
            if length is None or len(parts) < 3 or int(length.group(1)) > BODY_BYTES_MAX:
                lines.append(b"%.6f 400 /not-a-callback %d %b\n" % (now, len(head), head))
                answers.append(BAD)
                close = True
                break
            body_end = head_end + 4 + int(length.group(1))
            if len(buffer) < body_end:
                break
            body = buffer[head_end + 4:body_end]
            path = parts[1]
            status = status_for(path, body) if self.mood.status is None else self.mood.status
            if parts[0] != b"POST":
                status = 400
            lines.append(b"%.6f %d %b %d %b\n" % (now, status, path, len(body), body))
            if status:
                answers.append(OK if status == 200 else OTHER % status)
            close = CLOSE.search(head) is not None
            at = body_end
        self.buffer = buffer[at:]
        if lines:
            append(self.log, b"".join(lines))
        if answers:
            self.transport.write(b"".join(answers))
        if close:
            self.transport.close()


def append(file_descriptor, data):
    """Writes all of `data`; an O_APPEND write is in the page cache when it returns."""
    while data:
        data = data[os.write(file_descriptor, data):]


def read_log(path, offset=0):
    """The log's complete lines as `Received`, from byte `offset`. A torn last line is left out."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    at = 0
    while True:
        head = data[at:at + 4096].split(b" ", 4)
        if len(head) < 5:
            return
        start = at + sum(len(part) + 1 for part in head[:4])
        end = start + int(head[3])
        if data[end:end + 1] != b"\n":
            return
        yield Received(float(head[0]), int(head[1]), head[2].decode(), data[start:end])
        at = end + 1


def count_lines(path):
    """How many callbacks the log holds; fast, for waiting (bodies of the server hold no newline)."""
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def without_count(body):
    """The body with its callbackCount blanked: what every send of one callback must share."""
    return COUNT.sub(rb"\1N", body)


class Listener:
    """The listener as a process of its own."""

    def __init__(self, log, port=0):
        self.log = str(log)
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--port", str(port), "--log", self.log, "--orders"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the listener did not start: {line!r}")
        self.port = int(line.rsplit(":", 1)[1])

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, status=None):
        """Answers every POST with `status` from now on (0: not at all), or as its path says again."""
        order = "usual" if status is None else str(status)
        print(order, file=self.process.stdin, flush=True)
        if self.process.stdout.readline() != f"{order}\n":
            raise RuntimeError("the listener has ended")

    def received(self):
        return list(read_log(self.log))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


async def listen(port, log_path, obeys):
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    loop = asyncio.get_running_loop()
    mood = Mood()
    server = await loop.create_server(lambda: Connection(log, mood), "127.0.0.1", port, backlog=1024)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await (obey(mood) if obeys else server.serve_forever())


async def obey(mood):
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := (await orders.readline()).decode().strip():
        mood.status = None if order == "usual" else int(order)
        print(order, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (default) picks a free one")
    parser.add_argument("--log", default="callbacks.log", help="file to append to (default: callbacks.log)")
    parser.add_argument("--orders", action="store_true", help="obey what comes in by standard input, and end with it")
    parser.add_argument("--self-test", action="store_true",
                        help="measure how fast it is, check its log, and end")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test())
    try:
        asyncio.run(listen(arguments.port, arguments.log, arguments.orders))
    except KeyboardInterrupt:
        pass


def self_test(posts=40_000, pipelined=1):
    """Sends POSTs over eight connections, and compares the log with what was sent."""
    import socket
    import tempfile
    import threading
    from report import Report

    report = Report()
    with tempfile.TemporaryDirectory() as folder, Listener(os.path.join(folder, "log")) as listener:
        def send(worker, count, pipelined):
            connection = socket.create_connection(("127.0.0.1", listener.port))
            answer_bytes = len(OK) * pipelined
            for first in range(0, count, pipelined):
                posts = b""
                for number in range(first, first + pipelined):
                    body = b'{"worker":%d,"number":%d,"filler":"%b"}' % (worker, number, b"x" * 600)
                    posts += b"POST /ok/%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (
                        worker, len(body), body)
                connection.sendall(posts)
                received = 0
                while received < answer_bytes:
                    received += len(connection.recv(65536))
            connection.close()

        for pipelined in (1, 10):
            started = time.monotonic()
            workers = [threading.Thread(target=send, args=(n, posts // 8, pipelined)) for n in range(8)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            rate = posts / (time.monotonic() - started)
            report.say(f"{rate:,.0f} POSTs/s with {pipelined} in a write (sender included)")
        lines = listener.received()
        report.equal("every POST is in the log, once per round", len(lines), 2 * posts)
        report.equal("no two of a round are the same", len({line.body for line in lines}), posts)

        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            body = b'{"a":1}'
            whole = b"POST /ok/slow HTTP/1.1\r\ncontent-length: 7\r\n\r\n" + body
            for byte in whole:  # one byte at a time
                connection.sendall(bytes([byte]))
                time.sleep(0.0005)
            report.equal("a POST in small pieces is understood", connection.recv(4096), OK)
            report.equal("and logged", (listener.received()[-1].path, listener.received()[-1].body),
                         ("/ok/slow", body))
            listener.answer(418)
            connection.sendall(whole)
            report.check("it answers as it is told", connection.recv(4096).startswith(b"HTTP/1.1 418 "))
            listener.answer(0)
            connection.sendall(whole)
            connection.settimeout(0.2)
            try:
                report.check("or not at all", connection.recv(4096) is None)
            except TimeoutError:
                report.check("or not at all", True)
            connection.settimeout(None)
            listener.answer()
            connection.sendall(whole)
            report.equal("and as the path says again", connection.recv(4096), OK)
            report.equal("all of that is logged", [one.status for one in listener.received()[-3:]], [418, 0, 200])
    return report.end()


if __name__ == "__main__":
    main()
