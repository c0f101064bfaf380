#!/usr/bin/env python3
"""A private PostgreSQL cluster for the outside proofs: stopped, restarted and killed as they like.

`../cluster.sh` makes and keeps it, and removes it when this process has gone, however it went. Run by
hand, this file serves a cluster with an empty database and prints its URL.
"""

import argparse
import contextlib
import csv
import io
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KEEPER = Path(__file__).resolve().parent.parent / "cluster.sh"
USER = "postgres"
READY_WITHIN = 150.0  # seconds, with recovery; the keeper gives up sooner, and says why
STOPPED_WITHIN = 90.0
KILLED_WITHIN = 30.0
ANSWER_WITHIN = 60.0  # seconds for what psql runs


class Cluster:
    """One cluster in a folder of its own. `settings` are lines of postgresql.conf; the server's log is left at `log`.

    With `standby_of` it follows that cluster, and has its settings."""

    def __init__(self, *settings, log=None, standby_of=None):
        self.settings = ("--standby-of", str(standby_of.port)) if standby_of else settings
        self.log = log
        self.port = self.folder = self.programs = None
        self.keeper = None
        self.databases = 0

    def start(self):
        """Makes it, or starts it again at the same port; returns when it accepts connections."""
        if self.keeper:
            self.order("start", READY_WITHIN)
            return self
        self.keeper = subprocess.Popen([KEEPER, *self.settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       process_group=0)  # else Ctrl-C would end it before it has cleaned up
        try:
            _, port, folder, self.programs = self.said("ready", READY_WITHIN).split(" ")
        except BaseException:
            self.close()
            raise
        self.port, self.folder = int(port), Path(folder)
        return self

    def stop(self, mode="fast"):
        """"fast" ends all sessions and writes what is in memory; "immediate" is as good as a crash."""
        self.order(f"stop {mode}", STOPPED_WITHIN)

    def freeze(self):
        """Has all of its processes stand still: it can be connected to, and reads nothing."""
        self.order("freeze", STOPPED_WITHIN)

    def thaw(self):
        self.order("thaw", STOPPED_WITHIN)

    def promote(self):
        """A standby follows nobody any more; returns when it takes writes."""
        self.order("promote", READY_WITHIN)

    def is_followed(self):
        """Whether a standby has all that was committed, and each commit waits for it."""
        return self.psql("SELECT sync_state FROM pg_stat_replication") == [["sync"]]

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def kill9(self):
        """kill -9 of every process that it has, each by its number; all of them have ended when this returns."""
        first = self.first_process()
        with contextlib.ExitStack() as stack:
            handle = handle_of(first, stack)
            signal.pidfd_send_signal(handle, signal.SIGSTOP)  # so that it starts no others meanwhile
            wait_for(lambda: stat(first)[0] == "T", KILLED_WITHIN, "PostgreSQL's first process does not stop")
            handles = [*filter(None, (handle_of(child, stack) for child in children(first))), handle]
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            for handle in handles:
                if not readable(handle, KILLED_WITHIN):
                    raise TimeoutError(f"a process of PostgreSQL lives {KILLED_WITHIN} s after kill -9")
        (self.folder / "data" / "postmaster.pid").unlink()  # the number in it may be another's before the next start

    def close(self):
        """Stops it, and removes all of it but the log."""
        if self.keeper is None:
            return
        if self.log and self.folder:
            with contextlib.suppress(OSError):
                shutil.copyfile(self.folder / "server.log", self.log)
        self.keeper.stdin.close()
        self.keeper.wait(STOPPED_WITHIN)
        self.keeper.stdout.close()
        self.keeper = None

    def database(self):
        """Creates an empty database; returns its URL."""
        self.databases += 1
        name = f"outside_{self.databases}"
        self.psql(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, database="postgres"):
        return f"postgres://{USER}@127.0.0.1:{self.port}/{database}"

    def psql(self, sql, url=None, within=ANSWER_WITHIN):
        """Runs statements, each a transaction of its own; returns the rows of all, as lists of texts (NULL: "")."""
        done = subprocess.run([f"{self.programs}/psql", "--no-psqlrc", "--quiet", "--csv", "--tuples-only",
                               "--set=ON_ERROR_STOP=1", url or self.url()],
                              input=sql, timeout=within, capture_output=True, text=True, env={})
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()} ({sql[:300]})")
        return list(csv.reader(io.StringIO(done.stdout)))

    def alive(self):
        """Whether its first process runs."""
        with contextlib.suppress(FileNotFoundError):
            return stat(self.first_process())[0] not in "ZX"
        return False

    def first_process(self):
        return int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    def last_log(self, characters=2000):
        return (self.folder / "server.log").read_text(errors="replace")[-characters:]

    def order(self, order, within):
        self.keeper.stdin.write(f"{order}\n".encode())
        self.keeper.stdin.flush()
        self.said("done", within)

    def said(self, expected, within):
        """The keeper's next line, which begins as expected; otherwise it says why not, and has ended."""
        if not readable(self.keeper.stdout, within):
            raise TimeoutError(f"PostgreSQL's keeper did not say {expected!r} within {within} s")
        line = self.keeper.stdout.readline().decode().rstrip("\n")
        if line.split(" ", 1)[0] != expected:
            raise RuntimeError(f"PostgreSQL: {line}\n{self.keeper.stdout.read().decode()}")
        return line

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


# Processes

def stat(process):
    """State and parent of a process, by its number. Raises `FileNotFoundError` where it is gone."""
    text = Path(f"/proc/{process}/stat").read_text()
    state, parent = text[text.rindex(")") + 2:].split(" ", 2)[:2]
    return state, int(parent)


def children(parent):
    for entry in os.listdir("/proc"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.isdigit() and stat(entry)[1] == parent:
                yield int(entry)


def handle_of(process, stack):
    """A handle that means this very process, also when its number is another's; None where it is gone."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process)
        stack.callback(os.close, handle)
        return handle
    return None


def readable(file, within):
    """Waits until there is something to read, or for a process's handle, until it has ended."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(within * 1000))


def wait_for(condition, within, otherwise):
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.001)


# By hand

def main():
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="check that it does what it says, and end")
    if parser.parse_args().self_test:
        sys.exit(self_test())
    with Cluster() as cluster, contextlib.suppress(KeyboardInterrupt):
        print(f"{cluster.database()}\nfiles in {cluster.folder}, until Ctrl-C", flush=True)
        signal.pause()


def self_test():
    """Loses nothing that was committed, over every way of ending; leaves nothing behind."""
    from report import Report

    report = Report()
    with Cluster() as cluster:
        report.say("made")
        url = cluster.database()
        report.check("each database is another", cluster.database() != url)
        cluster.psql("CREATE TABLE kept (way TEXT)", url)
        ways = {"fast": cluster.restart, "immediate": lambda: cluster.restart("immediate"),
                "kill -9": lambda: (cluster.kill9(), cluster.start())}
        for way, end in ways.items():
            cluster.psql(f"INSERT INTO kept VALUES ('{way}')", url)
            before = cluster.first_process()
            end()
            report.say(f"started again after {way}")
            report.check(f"{way}: it is another process", cluster.first_process() != before)
        report.equal("what was committed is kept", cluster.psql("SELECT way FROM kept", url), [[way] for way in ways])
        report.equal("it syncs", cluster.psql("SHOW fsync; SHOW synchronous_commit"), [["on"], ["on"]])
        cluster.stop()
        report.check("stopped, it does not run", not cluster.alive())
        try:
            cluster.psql("SELECT 1")
            report.check("stopped, it answers nothing", False)
        except RuntimeError:
            report.check("stopped, it answers nothing", True)
        cluster.start()
        cluster.kill9()
        report.check("killed, it does not run", not cluster.alive())
    report.check("its folder is gone when it was killed", not cluster.folder.exists())
    with Cluster("work_mem = 5MB") as cluster:
        report.equal("settings are taken", cluster.psql("SHOW work_mem"), [["5MB"]])
        first = cluster.first_process()
    report.check("its folder is gone when it was closed", not cluster.folder.exists())
    report.check("and its process", not Path(f"/proc/{first}").exists() or stat(first)[0] == "Z")
    try:
        Cluster("nonsense = 1").start()
        report.check("a cluster that cannot start says why", False)
    except RuntimeError as error:
        report.check("a cluster that cannot start says why", "nonsense" in str(error), error)
    return report.end()


if __name__ == "__main__":
    main()
