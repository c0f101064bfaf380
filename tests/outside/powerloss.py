#!/usr/bin/env python3
"""The power-loss test: at each kill, what was not synced is lost too.

kill -9 leaves the page cache, so it cannot show a missing fsync. Here a shim (powerloss.c, compiled
with gcc and loaded with LD_PRELOAD) remembers what every write to the database's files replaced,
and forgets it when the file is synced. After each kill this script puts the old content back:

    all      every unsynced write is lost
    some     each 512-byte sector is as after a random number of the unsynced writes to it

The shared-memory index (-shm) is deleted. Then the server starts again on what is left, and in the
end the independent checker looks for anything lost.

--prove runs the server with its test-only switch REVEILLE_DATABASE_SYNCHRONOUS=off, and passes only
if the checker then finds a loss. --self-test tries the shim on SQLite alone, as Python has it.
"""

import io
import os
import random
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing, redirect_stdout
from pathlib import Path

from report import Report
from server import HERE, argument, arguments_of, run_proof, scratch
from workload import BULK, Workload

KILLED_AFTER = (0.02, 0.8)  # seconds after the server was ready
STARTING_KILLED_AFTER = (0.0, 0.08)
STARTING_KILLS = 0.2  # of all
UNSYNCED_KILLS = 0.7  # of all: those that wait for a moment between a write and its sync
UNSYNCED_WITHIN = 0.3  # seconds

SECTOR = 512
RECORD = struct.Struct("<IIQQQQ")  # magic, reserved, offset, length, saved, old size: as in powerloss.c
MAGIC = 0x4F444E55


# The shim, and the loss

class Shim:
    """The compiled shim and its logs, for the database files in one folder."""

    def __init__(self, folder, watched):
        self.watched = Path(watched).resolve()
        self.logs = Path(folder).resolve() / "undo"
        self.logs.mkdir()
        self.library = Path(folder).resolve() / "powerloss.so"
        subprocess.run(["gcc", "-O2", "-Wall", "-fPIC", "-shared", "-pthread", "-o", str(self.library),
                        str(HERE / "powerloss.c"), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(self.library), "POWERLOSS_DIR": str(self.watched),
                            "POWERLOSS_LOGS": str(self.logs)}
        self.lost_writes = self.lost_bytes = 0

    def counters(self):
        """(files opened, changes, syncs) that the shim saw, in all processes so far."""
        path = self.logs / "counters"
        return struct.unpack("<QQQ", path.read_bytes()) if path.exists() else (0, 0, 0)

    def await_unsynced(self):
        """Waits, a moment at most, until a write is not synced yet."""
        deadline = time.monotonic() + UNSYNCED_WITHIN
        while time.monotonic() < deadline and not any(name.endswith(".undo") for name in os.listdir(self.logs)):
            pass

    def lose(self, dice, some):
        """What a loss of power does to the files; only while no process has them open."""
        records = {}
        for log in sorted(self.logs.glob("*.undo")):
            name = log.name.rsplit(".", 2)[0]
            records.setdefault(name, []).extend(read_records(log.read_bytes()))
            log.unlink()
        for name, changes in records.items():
            path = self.watched / name
            if path.exists():
                before = path.read_bytes()
                after = undo(before, changes, dice if some else None)
                path.write_bytes(after)
                self.lost_writes += len(changes)
                self.lost_bytes += sum(change[1] for change in changes)
        for index in self.watched.glob("*-shm"):
            index.unlink()


def read_records(data):
    """(offset, length, previous bytes, previous size) of each whole record; the last may be torn."""
    at = 0
    while at + RECORD.size <= len(data):
        magic, _, offset, length, saved, old_size = RECORD.unpack_from(data, at)
        if magic != MAGIC:
            raise RuntimeError("an undo log is damaged")
        start = at + RECORD.size
        if start + saved > len(data):
            return
        yield offset, length, data[start:start + saved], old_size
        at = start + saved


def undo(content, changes, dice=None):
    """The content before `changes`; with `dice`, each sector after a random number of its changes."""
    content = bytearray(content)
    survivors = {}  # sector → how many of the changes it keeps

    def kept(sector):
        if dice is None:
            return 0
        if sector not in survivors:
            survivors[sector] = dice.choice((0, len(changes), dice.randint(0, len(changes))))
        return survivors[sector]

    size_kept = kept("size")
    size = changes[size_kept][3] if size_kept < len(changes) else len(content)
    for number in range(len(changes) - 1, -1, -1):
        offset, length, previous, old_size = changes[number]
        if len(content) < offset + length:
            content.extend(bytes(offset + length - len(content)))
        previous = previous + bytes(length - len(previous))
        for sector in range(offset // SECTOR, (offset + length - 1) // SECTOR + 1):
            if kept(sector) <= number:
                start, end = max(offset, sector * SECTOR), min(offset + length, (sector + 1) * SECTOR)
                content[start:end] = previous[start - offset:end - offset]
    content.extend(bytes(max(0, size - len(content))))
    return bytes(content[:size])


# The server under loss of power

def run(report, arguments, number, kills, dice, environment, keep=True):
    with scratch(report, f"powerloss-{number}", keep) as folder:
        shim = Shim(folder, prepared(folder / "store"))
        workload = Workload(folder, arguments.binary, dice.random(), arguments.latency,
                            shim.environment | environment, arguments.profiles, arguments.carrier)
        losses = {"all": 0, "some": 0}

        def lose():
            variant = dice.choice(("all", "some"))
            losses[variant] += 1
            shim.lose(dice, variant == "some")

        try:
            workload.begin()
            while kills:
                time.sleep(dice.uniform(*KILLED_AFTER))
                workload.die(lose, shim.await_unsynced if dice.random() < UNSYNCED_KILLS else None)
                kills -= 1
                while kills and dice.random() < STARTING_KILLS:
                    workload.die_while_starting(dice.uniform(*STARTING_KILLED_AFTER), lose)
                    kills -= 1
                workload.start()
            time.sleep(0.5)
            opened, changes, syncs = shim.counters()
            report.say(f"run {number}: the shim saw {changes} writes and {syncs} syncs; at {losses['all']} losses of all and "
                       f"{losses['some']} of some unsynced writes, {shim.lost_writes} writes were undone")
            report.check("the shim watched the database", opened and changes,
                         "it saw nothing: is the binary linked statically, or the database elsewhere?")
            workload.finish(report)
        finally:
            workload.close()


def prepared(folder):
    folder.mkdir(parents=True)
    return folder


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    if arguments.prove:
        prove(report, arguments, dice)
        return
    self_test(report, dice)
    runs, kills = (8, 136) if arguments.long else (arguments.runs, arguments.kills)
    for number in range(runs):
        run(report, arguments, number + 1, kills // runs + (number < kills % runs), dice, {})


def prove(report, arguments, dice):
    """A server that does not sync must be found out."""
    found = Report()
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            run(found, arguments, 1, 4, dice, {"REVEILLE_DATABASE_SYNCHRONOUS": "off"}, keep=False)
        how = f"{found.failed} checks failed"
    except Exception as error:  # such as a database that cannot be opened any more
        found.failed += 1
        how = f"it broke down: {error}"
    lines = output.getvalue().splitlines()
    for line in lines:
        print(f"    {line[:200]}", flush=True)
    report.say(f"without syncs: {how}")
    report.check("a server that does not sync its store is found out", found.failed, *lines)
    report.check("… by the loss of an accepted request or an outcome",
                 any(line.startswith("FAILED") and ("200 was seen exists" in line or "has changed since" in line
                                                    or "tells of a subrequest that exists" in line) for line in lines)
                 or how.startswith("it broke down"), *lines)


# The shim on SQLite alone

COMMITTER = """
import sqlite3, sys, threading
path, synchronous, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
def connect():
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous=" + synchronous)
    connection.execute("PRAGMA wal_autocheckpoint=40")
    return connection
connect().execute("PRAGMA journal_mode=WAL")
lock = threading.Lock()
def commit(thread):
    connection, number = connect(), 0
    while True:
        number += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO kept VALUES (?, ?, ?)",
                               [(thread, number, "x" * 200)] + [(-1 - thread, number, "y" * 900)] * 3)
        connection.execute("DELETE FROM kept WHERE thread = ? AND number < ?", (-1 - thread, number - 5))
        connection.execute("COMMIT")
        with lock:
            sys.stdout.write(f"{thread} {number}\\n")
            sys.stdout.flush()
for thread in range(threads):
    threading.Thread(target=commit, args=(thread,)).start()
"""


def self_test(report, dice, rounds=6):
    """Commits rows from several threads, loses power, and looks for the rows: there with FULL, not with OFF."""
    for synchronous in ("FULL", "OFF"):
        missing_rounds = damaged = committed_rows = lost_writes = 0
        for number in range(rounds):
            with scratch(report, "shim") as folder:
                shim = Shim(folder, prepared(folder / "store"))
                database = folder / "store" / "test.db"
                with closing(sqlite3.connect(database)) as connection:
                    connection.execute("CREATE TABLE kept (thread, number, filler)")
                    connection.commit()
                for _ in range(2):  # a loss, and one more on what was recovered after it
                    committed = commit_and_lose(shim, database, synchronous, dice, some=number % 2 == 1)
                    committed_rows += len(committed)
                    try:
                        with closing(sqlite3.connect(database)) as connection:
                            rows = set(connection.execute("SELECT thread, number FROM kept WHERE thread >= 0"))
                            whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                            connection.execute("DELETE FROM kept")
                            connection.commit()
                    except sqlite3.DatabaseError:
                        rows, whole = set(), False
                    missing_rounds += not committed <= rows
                    damaged += not whole
                    if not whole:
                        break
                lost_writes += shim.lost_writes
        report.say(f"shim, synchronous={synchronous}: {committed_rows} rows committed, {lost_writes} writes undone, "
                   f"rows missing after {missing_rounds} losses, damage after {damaged}")
        if synchronous == "FULL":
            report.equal("with synchronous=FULL no committed row is missing, nothing is damaged", (missing_rounds, damaged), (0, 0))
            report.check("rows were committed, and unsynced writes undone", committed_rows > 50 and lost_writes > 0)
        else:
            report.check("with synchronous=OFF committed rows are missing", missing_rounds >= rounds // 2,
                         f"after {missing_rounds} losses")


def commit_and_lose(shim, database, synchronous, dice, some):
    """Runs the committer for a moment, kills it, loses what was not synced; the rows it said are committed."""
    process = subprocess.Popen([sys.executable, "-c", COMMITTER, str(database), synchronous, "2"],
                               stdout=subprocess.PIPE, text=True, env=os.environ | shim.environment)
    first = process.stdout.readline()  # however long Python takes to start
    timer = threading.Timer(dice.uniform(0.1, 0.3), process.kill)
    timer.start()
    lines = [first] + process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    timer.join()
    process.wait()
    shim.lose(dice, some)
    return {tuple(map(int, line.split())) for line in lines if line.endswith("\n")}


def main():
    if "--self-test" in sys.argv:
        run_proof(Report(), lambda report: self_test(report, random.Random()))
    arguments = arguments_of(
        __doc__,
        argument("--kills", type=int, default=12, help="in all runs together (default: 12)"),
        argument("--runs", type=int, default=2, help="each with a fresh store (default: 2)"),
        argument("--profiles", type=int, default=BULK, help=f"suspended, in the fleet (default: {BULK})"),
        argument("--latency", default="20ms", help="of the simulated carriers (default: 20ms)"),
        argument("--carrier", default="", help="one more line for the carriers' configuration"),
        argument("--prove", action="store_true", help="run the server without syncs; pass if that is found out"),
        argument("--self-test", action="store_true", help="try the shim alone; needs no server"),
        argument("--long", action="store_true", help="8 runs, 136 kills"))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
