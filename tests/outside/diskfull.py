#!/usr/bin/env python3
"""A disk that fills up, and one that errs: requests are refused, nothing is lost, and service comes back by itself.

The store lies on a small file system of its own, a tmpfs in a mount namespace of this process, so that it is gone with it,
however it ends. Meanwhile the crash test's work is under way. Two runs, each with a fresh store:

    full    The rest of the disk is taken by a file and given back: first with limits.disk_free_bytes_min at work, so that
            requests are refused while what was accepted ends in the room that is left; then with that limit at 0, so that
            SQLite meets a full disk in the middle of commits; then once more, and the server dies of kill -9 in it.
    errs    A shim (diskerrors.c, compiled with gcc and loaded with LD_PRELOAD) answers EIO to writes, to syncs, and
            to some of both; then to syncs, and the server dies of kill -9 in it: under work, and after one request alone.
            What it refused with "nothing of this request was kept" must not be there after the restart.

In the end of each the independent checker looks for anything lost or doubled.
"""

import contextlib
import http.client
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

from report import Report
from server import HERE, argument, arguments_of, run_proof, scratch
from workload import Workload

DISK = 64 << 20
RESERVED = 32 << 20  # limits.disk_free_bytes_min, where it is at work
LEFT = 28 << 20  # bytes when the disk is "nearly full": SQLite's log, which takes 16 MiB at times, and what it is moved to
PROFILES = 700
CARRIER = "concurrency = 12"
REFUSES_WITHIN = 8.0  # seconds after the disk is full
BACK_WITHIN = 8.0  # seconds after it has room again
TROUBLE_LASTS = 1.2  # seconds from the first refusal
WORKS_BEFORE = 0.5  # seconds
ENDED_WITHIN = 30.0  # seconds in which what was accepted ends on a nearly full disk

WRITES, SYNCS = 1, 2
CONTROL = struct.Struct("<IIQQQQ")  # failing, per mille, dice, failed writes, failed syncs, seen: as in diskerrors.c
NAMESPACE = "REVEILLE_PROOF_IN_NAMESPACE"


# A disk of its own

def enter_namespace():
    """Starts this program again where it may mount, unless that was done; returns why not, where nothing helps."""
    refusals = []
    if os.environ.get(NAMESPACE):
        return refusals
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        probe = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()], capture_output=True, text=True)
        if probe.returncode == 0:
            os.execvpe(command[0], [*command, sys.executable, *sys.argv], os.environ | {NAMESPACE: "yes"})
        refusals.append(f"{' '.join(command)}: {probe.stderr.strip()}")
    return refusals


@contextlib.contextmanager
def small_disk(report, folder):
    """A file system of `DISK` bytes at `folder`; what is on it when a check has failed is copied to the disk below."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
    failed_before, ran = report.failed, False
    kept = folder.with_name(f"{folder.name}-kept")
    try:
        yield
        ran = True
    finally:
        if not ran or report.failed > failed_before:
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("filler"))
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Filler:
    """The file that takes the room of a disk."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "filler"

    def fill(self, left=0):
        """Takes all but `left` bytes."""
        with open(self.path, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while (free := self.free()) > left:
                file.write(bytes(min(1 << 20, free - left)))

    def hold(self, for_seconds):
        """Takes again and again what becomes free."""
        deadline = time.monotonic() + for_seconds
        while time.monotonic() < deadline:
            self.fill()
            time.sleep(0.01)

    def free(self):
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def remove(self):
        self.path.unlink(missing_ok=True)


class Shim:
    """The compiled shim, and the page through which it is told what fails."""

    def __init__(self, folder, watched, dice):
        library, control = folder / "diskerrors.so", folder / "diskerrors.control"
        subprocess.run(["gcc", "-O2", "-Wall", "-fPIC", "-shared", "-o", str(library), str(HERE / "diskerrors.c"), "-ldl"],
                       check=True)
        control.write_bytes(CONTROL.pack(0, 1000, dice.getrandbits(64), 0, 0, 0))
        with open(control, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), CONTROL.size)
        self.environment = {"LD_PRELOAD": str(library), "DISKERRORS_DIR": str(watched), "DISKERRORS_CONTROL": str(control)}

    def fail(self, kinds, per_mille=1000):
        self.page[4:8] = struct.pack("<I", per_mille)
        self.page[0:4] = struct.pack("<I", kinds)

    def failed(self):
        """How many writes and syncs failed so far."""
        return CONTROL.unpack(self.page[:])[3:5]


# The work, and what is answered to it

class Watched(Workload):
    """The workload, with a count of what its requests were answered since `turn`, and a look at the process's health."""

    def __init__(self, folder, binary, seed):
        super().__init__(folder, binary, seed, "20ms", profiles=PROFILES, carrier=CARRIER, next_bulk_below=PROFILES // 2)
        self.answers = Counter()
        self.wrong = []  # a 503 without Retry-After
        self.sick = []  # a /healthz other than 200
        self.changed = threading.Condition()
        self.journal_act, self.journal.act = self.journal.act, self.act_watched

    def act_watched(self, *arguments, **options):
        answer = self.journal_act(*arguments, **options)
        if answer is not None:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            if answer.status == 503 and not headers.get("retry-after", "").isdigit():
                self.wrong.append(f"503 with {answer.headers}: {answer.raw[:200]!r}")
            with self.changed:
                self.answers[answer.status] += 1
                self.changed.notify_all()
        return answer

    def turn(self):
        """Counts anew; what was answered before."""
        with self.changed:
            before, self.answers = self.answers, Counter()
        return before

    def await_answer(self, status, within):
        """Seconds until a request was answered so, or None."""
        began = time.monotonic()
        with self.changed:
            came = self.changed.wait_for(lambda: self.answers[status], within)
        return time.monotonic() - began if came else None

    def look_at_health(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
            if status != 200:
                self.sick.append(f"/healthz: {status}")
        except (OSError, http.client.HTTPException) as error:
            self.sick.append(f"/healthz: {error!r}")
        finally:
            connection.close()


def trouble(report, workload, name, begin, during, end):
    """One trouble from its begin to its end, by which the server must refuse, live on, and come back."""
    time.sleep(WORKS_BEFORE)
    workload.turn()
    begin()
    refused_after = refuses(report, workload, name)
    during()
    workload.look_at_health()
    report.check(f"{name}: the process lives on", workload.server.alive(), workload.server.last_log())
    answers = workload.turn()
    end()
    workload.turn()
    back_after = workload.await_answer(200, BACK_WITHIN)
    report.check(f"{name}: accepted again within {BACK_WITHIN} s, without a restart", back_after is not None,
                 f"answered since: {dict(workload.answers)}", workload.server.last_log())
    report.say(f"{name}: refused after {said(refused_after)}, answered {answers[503]} times 503 and {answers[200]} times 200; "
               f"accepted again after {said(back_after)}")


def dies(report, workload, name, begin, end):
    """The same, but the server dies in it; after the end it is started again."""
    time.sleep(WORKS_BEFORE)
    workload.turn()
    begin()
    refused_after = refuses(report, workload, name)
    workload.die()
    answers = workload.turn()
    end()
    workload.start()
    back_after = workload.await_answer(200, BACK_WITHIN)
    report.check(f"{name}: after the restart it accepts", back_after is not None, workload.server.last_log())
    report.say(f"{name}: refused after {said(refused_after)}, answered {answers[503]} times 503, killed; after the restart "
               f"accepted after {said(back_after)}")


def refuses(report, workload, name):
    refused_after = workload.await_answer(503, REFUSES_WITHIN)
    report.check(f"{name}: requests are refused with 503", refused_after is not None, f"answered: {dict(workload.answers)}")
    return refused_after


def said(seconds):
    return "never" if seconds is None else f"{seconds:.2f} s"


# The two runs

def full(report, arguments, folder, dice):
    filler = Filler(folder / "store")
    with small_disk(report, filler.folder):
        workload = Watched(folder, arguments.binary, dice.random())
        limit = "REVEILLE_LIMITS_DISK_FREE_BYTES_MIN"
        try:
            workload.server.environment |= {limit: str(RESERVED)}
            workload.begin()
            trouble(report, workload, "nearly full", lambda: filler.fill(LEFT),
                    lambda: all_ends(report, workload), filler.remove)
            report.equal("it stops in order", workload.rest(), 0)
            workload.server.environment |= {limit: "0"}
            workload.start()
            trouble(report, workload, "full", filler.fill, lambda: filler.hold(TROUBLE_LASTS), filler.remove)
            dies(report, workload, "full, and killed", filler.fill, filler.remove)
            finish(report, workload)
        finally:
            workload.close()


def all_ends(report, workload):
    """On a nearly full disk, what was accepted ends and is told, while nothing more is accepted."""
    workload.turn()
    client, deadline = workload.client.twin(), time.monotonic() + ENDED_WITHIN
    while (working := workload.is_working()) and time.monotonic() < deadline:
        time.sleep(0.05)
    report.check("nearly full: what was accepted ends, and is told of", not working)
    report.equal("nearly full: nothing more is accepted", workload.answers[200], 0)
    client.close()


def errs(report, arguments, folder, dice):
    filler = Filler(folder / "store")
    with small_disk(report, filler.folder):
        shim = Shim(folder, filler.folder, dice)
        workload = Watched(folder, arguments.binary, dice.random())
        try:
            workload.server.environment |= shim.environment | {"REVEILLE_LIMITS_DISK_FREE_BYTES_MIN": "0"}
            workload.begin()
            for name, kinds, per_mille in (("writes fail", WRITES, 1000), ("syncs fail", SYNCS, 1000),
                                           ("some fail", WRITES | SYNCS, 40)):
                failed_before = shim.failed()
                trouble(report, workload, name, lambda: shim.fail(kinds, per_mille), lambda: time.sleep(TROUBLE_LASTS),
                        lambda: shim.fail(0))
                failed = [now - before for now, before in zip(shim.failed(), failed_before)]
                report.check(f"{name}: the shim was asked", any(failed), "is the binary linked statically?")
                report.say(f"{name}: {failed[0]} writes and {failed[1]} syncs failed")
            dies(report, workload, "syncs fail, and killed", lambda: shim.fail(SYNCS), lambda: shim.fail(0))
            for _ in range(arguments.alone):
                refused_alone(report, workload, shim)
            finish(report, workload)
        finally:
            workload.close()


def refused_alone(report, workload, shim):
    """The last that the log got before a death is a request whose sync failed: whatever it was answered has to hold."""
    time.sleep(WORKS_BEFORE)
    workload.up.clear()  # nothing else is sent
    client, deadline = workload.client.twin(), time.monotonic() + ENDED_WITHIN
    while workload.is_working() and time.monotonic() < deadline:
        time.sleep(0.05)
    shim.fail(SYNCS)
    answer = workload.act(client, "profile_resume", [workload.active[0].iccid])
    client.close()
    report.check("a request alone whose sync fails is refused", answer is not None and answer.status == 503, answer)
    report.say(f"a request alone whose sync fails: {answer.json}")
    workload.journal.killed()
    workload.server.kill()
    shim.fail(0)
    workload.start()


def finish(report, workload):
    time.sleep(WORKS_BEFORE)
    workload.finish(report)
    report.none("every 503 says when to come again", workload.wrong)
    report.none("the process was healthy all the time", workload.sick)
    report.equal("the server stops in order", workload.server.stop(), 0)


RUNS = {"full": full, "errs": errs}


def proof(report, arguments, refusals):
    if not report.none("a small file system can be mounted, by root or in a user namespace", refusals):
        return
    dice = random.Random(arguments.seed)
    for name, run in RUNS.items():
        seed = dice.random()
        if arguments.only in (None, name):
            with scratch(report, f"disk-{name}") as folder:
                run(report, arguments, folder.resolve(), random.Random(seed))


def main():
    refusals = enter_namespace()
    arguments = arguments_of(
        __doc__,
        argument("--only", choices=RUNS, help="one of the two runs"),
        argument("--alone", type=int, default=1, help="deaths after a request whose sync failed (default: 1)"))
    run_proof(Report(), proof, arguments, refusals)


if __name__ == "__main__":
    main()
