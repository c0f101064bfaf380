#!/usr/bin/env python3
"""The crash test: kill -9 at random moments of much work, restart, and nothing is lost or doubled.

Each run has a fresh store with many suspended profiles on both networks and some active ones,
requests of 10,000 profiles one after the other, a stream of small requests with Idempotency-Keys
(pairs of equal keys at the same moment, repeated after a crash), requests that must be refused, and a
cancellation now and then. The runs take turns between a good carrier, a busy one, a silent one, and one
with more waiting than fits into memory. Some kills hit a server that is still starting. In the end the
independent checker compares the journal, the listener's log, the fleet and the API.

Then the hammer: two calls with equal keys at the same moment, a hundred times, with kills in between:
one request each.

--prove plants trouble in what the checker compares (a callback's line deleted from the listener's log, a
row from the store, and so on), and passes only if each is found out.
"""

import io
import json
import random
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections import Counter, namedtuple
from contextlib import closing, redirect_stdout
from pathlib import Path

from checker import KILL_SLACK, all_subrequests, check
from journal import Journal
from listener import Listener, without_count
from report import Report
from server import (ACCOUNT, ACTIONS, NoAnswer, Server, action_body, apply_text, argument, arguments_of, fleet, run_proof,
                    scratch)
from workload import BULK, ENDED_WITHIN, NEXT_BULK_BELOW, Workload

KILLED_AFTER = (0.02, 0.8)  # seconds after the server was ready
STARTING_KILLED_AFTER = (0.0, 0.08)
STARTING_KILLS = 0.2  # of all
PROFILES = 14_000

Manner = namedtuple("Manner", "name latency carrier next_bulk_below")
QUICK = 'retry_first = "50ms"\nretry_longest = "400ms"'
MANNERS = (
    Manner("a good carrier", "20ms", "", NEXT_BULK_BELOW),
    Manner("a busy carrier", "20ms", f"retry_later_per_mille = 100\n{QUICK}", NEXT_BULK_BELOW),
    Manner("a carrier that sometimes is silent", "20ms", f'unanswered_per_mille = 10\ntimeout = "400ms"\n{QUICK}', NEXT_BULK_BELOW),
    Manner("a slow carrier and a long backlog", "20ms", "concurrency = 192", 3 * BULK),
)

PAIRS = 100
PAIRS_KILLED = 0.25  # of them have the server killed while they are answered
PAIR_KILLED_AFTER = (0.0, 0.015)  # seconds after both were sent
PAIR_PROFILES = (1, 1, 3, 500)
OTHER_BODIES = 25  # pairs with one key and different bodies
PAIR_WITHIN = 90.0


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    if arguments.prove:
        prove(report, arguments, dice)
        return
    runs, kills = (16, 240) if arguments.long else (arguments.runs, arguments.kills)
    for number in range(runs):
        manner = MANNERS[number % len(MANNERS)]
        if arguments.carrier or arguments.latency:
            manner = Manner("as said", arguments.latency or "20ms", arguments.carrier, NEXT_BULK_BELOW)
        run(report, arguments, number + 1, kills // runs + (number < kills % runs), dice, manner)
    hammer(report, arguments, dice)


def run(report, arguments, number, kills, dice, manner):
    report.say(f"run {number}: {kills} kills, {manner.name}")
    with scratch(report, f"crash-{number}") as folder:
        workload = Workload(folder, arguments.binary, dice.random(), manner.latency, profiles=arguments.profiles,
                            carrier=manner.carrier, next_bulk_below=manner.next_bulk_below, further=number % 2 == 1)
        try:
            live_and_die(workload, kills, dice)
            workload.finish(report)
            report.equal("the server stops in order", workload.server.stop(), 0)
        finally:
            workload.close()


def live_and_die(workload, kills, dice):
    workload.begin()
    while kills:
        time.sleep(dice.uniform(*KILLED_AFTER))
        workload.die()
        kills -= 1
        while kills and dice.random() < STARTING_KILLS:
            workload.die_while_starting(dice.uniform(*STARTING_KILLED_AFTER))
            kills -= 1
        workload.start()
    time.sleep(0.5)


# The hammer

class Hammered:
    """A served account whose server dies while pairs of equal calls are answered."""

    def __init__(self, folder, binary, dice):
        self.dice = dice
        self.listener = Listener(folder / "callbacks.log")
        self.journal_path = folder / "journal.jsonl"
        self.journal = Journal(self.journal_path)
        self.server = Server(folder, binary)
        self.fleet = fleet(ACCOUNT, 2_000)
        self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}))
        self.server.import_fleet(self.fleet)
        self.start()

    def start(self):
        self.server.start()
        base = self.server.client()
        self.clients = [base.twin(), base.twin()]

    def die(self):
        self.journal.killed()
        self.server.kill()

    def some(self):
        return [one.iccid for one in self.dice.sample(self.fleet, self.dice.choice(PAIR_PROFILES))]

    def pair(self, key, bodies, kill_after=None):
        """Sends both lists of ICCIDs under one key at the same moment; the answers."""
        barrier = threading.Barrier(3)
        answers = [None, None]

        def send(at):
            barrier.wait(60)
            answers[at] = self.journal.act(self.clients[at], "profile_resume", ACCOUNT, bodies[at], key)

        threads = [threading.Thread(target=send, args=(at,)) for at in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait(60)
        if kill_after is not None:
            time.sleep(kill_after)
            self.die()
        for thread in threads:
            thread.join()
        if kill_after is not None:
            self.start()
        return answers

    def close(self):
        self.server.kill()
        self.listener.stop()


def hammer(report, arguments, dice):
    with scratch(report, "hammer") as folder:
        at = Hammered(folder, arguments.binary, dice)
        try:
            kills, torn = pairs_of_equals(report, at, dice)
            report.say(f"{PAIRS} pairs with equal keys, {kills} kills, {torn} pairs without two answers at first")
            at.server.client().wait_ended(ACCOUNT, PAIR_WITHIN)
            at.journal.close()
            check(report, at.server.client(), [ACCOUNT], at.journal_path, [at.listener.log], at.fleet)
            pairs_of_others(report, at)
        finally:
            at.close()


def pairs_of_equals(report, at, dice):
    kills = torn = 0
    differing, unanswered, odd = [], [], []
    for number in range(PAIRS):
        key, iccids = f"pair-{number}-{dice.getrandbits(64):016x}", at.some()
        kill_after = dice.uniform(*PAIR_KILLED_AFTER) if dice.random() < PAIRS_KILLED else None
        kills += kill_after is not None
        answers = at.pair(key, (iccids, iccids), kill_after)
        torn += None in answers
        seen = list(answers)
        deadline = time.monotonic() + PAIR_WITHIN
        while not all(answer and answer.status == 200 for answer in answers) and time.monotonic() < deadline:
            answers = at.pair(key, (iccids, iccids))
            seen += answers
        odd += [f"{key}: {answer.status} {answer.raw[:200]}" for answer in seen if answer and answer.status not in (200, 401, 503)]
        ids = {answer.request_id for answer in seen if answer and answer.status == 200}
        if len(ids) > 1:
            differing.append(f"{key}: {ids}")
        if not ids:
            unanswered.append(key)
    report.none("two equal calls at the same moment are one request, also across a crash", differing)
    report.none("every pair was accepted in the end", unanswered)
    report.none("nothing but 200, 401 and 503 was answered", odd)
    report.equal("there are as many requests as keys", len(at.server.client().requests(ACCOUNT)), PAIRS)
    return kills, torn


def pairs_of_others(report, at):
    """One key with two bodies at the same moment: one is accepted, the other refused."""
    at.journal = Journal(at.journal_path.with_name("others.jsonl"))
    before = len(at.server.client().requests(ACCOUNT))
    wrong = []
    for number in range(OTHER_BODIES):
        answers = at.pair(f"other-{number}", ([at.fleet[number].iccid], [at.fleet[-1 - number].iccid]))
        if sorted(answer.status if answer else 0 for answer in answers) != [200, 400]:
            wrong.append([answer and (answer.status, answer.raw[:200]) for answer in answers])
    report.none("of two bodies under one key at the same moment one is accepted", wrong)
    report.equal("… and there is one request of each pair", len(at.server.client().requests(ACCOUNT)) - before, OTHER_BODIES)


# Planted trouble

def prove(report, arguments, dice):
    """Each planted trouble must fail the check that is meant to see it, and the untouched evidence must pass."""
    with scratch(report, "crash-prove") as folder:
        workload = Workload(folder, arguments.binary, dice.random(), "20ms", profiles=3_000)
        try:
            live_and_die(workload, 3, dice)
            workload.finish(report, lambda: work_to_plant_in(report, workload))
            workload.server.stop()
            evidence = folder / "evidence"
            evidence.mkdir()
            shutil.copytree(workload.server.store, evidence / "store")
            for path in (workload.journal_path, workload.listener.log):
                shutil.copy(path, evidence)
            for name, (plant, found_by) in PLANTED.items():
                restore(workload, evidence)
                planted = plant(workload, dice)
                failed = failed_checks(workload) if planted else []
                report.check(f"planted: {name}; found by {found_by!r}",
                             planted and any(line.startswith(found_by) for line in failed),
                             "could not be planted" if not planted else f"what failed: {failed}")
        finally:
            workload.close()


def work_to_plant_in(report, workload):
    """Work of which it is certain what becomes, so that every trouble has its place in the evidence.

    It is the last, is no more cut off by a kill, and suspends and resumes what was imported active: the Global profiles
    change twice, the others, which are suspended with their devices only, not at all. One call has a key, the other has
    none, and what became of it is seen."""
    time.sleep(KILL_SLACK)
    client = workload.client.twin()
    iccids = [one.iccid for one in workload.active]
    suspended = workload.act(client, "profile_suspend", iccids, "to-plant-in")
    resumed = workload.act(client, "profile_resume", iccids)
    report.equal("what trouble is planted in was accepted", [one and one.status for one in (suspended, resumed)], [200, 200])
    client.wait_ended(ACCOUNT, ENDED_WITHIN)
    for subrequest in all_subrequests(client, [resumed.request_id])[0]:
        workload.journal.saw(resumed.request_id, subrequest)


def restore(workload, evidence):
    workload.server.kill()
    shutil.rmtree(workload.server.store)
    shutil.copytree(evidence / "store", workload.server.store)
    for path in (workload.journal_path, workload.listener.log):
        shutil.copy(evidence / re.sub(".*/", "", str(path)), path)


def failed_checks(workload):
    """The names of the checks that fail on what is there now."""
    found, output = Report(), io.StringIO()
    with redirect_stdout(output):
        workload.server.start()
        check(found, workload.server.client(), [ACCOUNT], workload.journal_path, [workload.listener.log],
              workload.suspended + workload.active)
    workload.server.stop()
    return [line.removeprefix("FAILED").strip() for line in output.getvalue().splitlines() if line.startswith("FAILED")]


def in_lines(path, change):
    """Replaces the lines of a witness by what `change` makes of them; whether it made anything."""
    lines = path.read_bytes().splitlines(keepends=True)
    changed = change(lines)
    if changed is None:
        return False
    path.write_bytes(b"".join(changed))
    return True


def log_line(change):
    """Changes the listener's log; `change` gets the lines and the indices of the callbacks that were sent once."""
    def plant(workload, dice):
        def changed(lines):
            callbacks = [without_count(line.split(b" ", 4)[4]) for line in lines]
            sends = Counter(callbacks)
            return change(lines, [at for at, callback in enumerate(callbacks) if sends[callback] == 1], dice)

        return in_lines(Path(workload.listener.log), changed)
    return plant


def deleted(lines, once, dice):
    at = dice.choice(once)
    return lines[:at] + lines[at + 1:]


def with_body(line, old, new):
    """The line with its body, and the body's length, changed; None where `old` is not in it."""
    at, status, path, _, body = line.rstrip(b"\n").split(b" ", 4)
    if old not in body:
        return None
    body = body.replace(old, new)
    return b"%b %b %b %d %b\n" % (at, status, path, len(body), body)


def body_change(old, new):
    def change(lines, once, dice):
        fitting = [at for at in once if old in lines[at]]
        if not fitting:
            return None
        at = dice.choice(fitting)
        return lines[:at] + [with_body(lines[at], old, new)] + lines[at + 1:]
    return log_line(change)


def again_after_the_last_kill(lines, *_):
    at, rest = lines[-1].split(b" ", 1)
    return lines + [b"%.6f %b" % (float(at) + 1, rest)]


def unknown_request(lines, once, dice):
    at = dice.choice(once)
    request_id = re.search(rb'"requestId":"([^"]+)"', lines[at]).group(1)
    return lines + [lines[at].replace(request_id, str(uuid.uuid4()).encode())]


def journal_change(change):
    def plant(workload, dice):
        return in_lines(workload.journal_path, lambda lines: change([json.loads(line) for line in lines], dice))
    return plant


def accepted_but_unknown(entries, _):
    last = max(entry.get("sent", 0) for entry in entries) + 1
    sent = {"sent": last, "at": time.time(), "account": ACCOUNT, "action": "profile_resume", "iccids": ["8914800000000000000"]}
    answered = {"answered": last, "at": time.time(), "status": 200, "requestId": str(uuid.uuid4())}
    return as_lines(entries + [sent, answered])


def forgotten_by_the_client(entries, dice):
    """One that asked for what no other asked for: an equal one whose answer was lost would account for it."""
    asked = {entry["sent"]: (entry["action"], *entry["iccids"]) for entry in entries if "sent" in entry}
    times = Counter(asked.values())
    keyless = {entry["sent"] for entry in entries if "sent" in entry and "key" not in entry}
    alone = [entry["answered"] for entry in entries if entry.get("status") == 200 and entry.get("answered") in keyless
             and times[asked[entry["answered"]]] == 1]
    if not alone:
        return None
    number = dice.choice(alone)
    return as_lines([entry for entry in entries if number not in (entry.get("sent"), entry.get("answered"))])


def another_id_under_a_key(entries, dice):
    keys = {entry["sent"]: entry.get("key") for entry in entries if "sent" in entry}
    with_key = [entry for entry in entries if entry.get("status") == 200 and "answered" in entry and keys[entry["answered"]]]
    answered = dice.choice(with_key)
    last = max(entry.get("sent", 0) for entry in entries) + 1
    sent = next(entry for entry in entries if entry.get("sent") == answered["answered"])
    return as_lines(entries + [sent | {"sent": last}, answered | {"answered": last, "requestId": str(uuid.uuid4())}])


def another_outcome_was_seen(entries, dice):
    seen = [at for at, entry in enumerate(entries) if entry.get("saw", {}).get("state") == "succeeded"]
    if not seen:
        return None
    at = dice.choice(seen)
    entries[at]["saw"] |= {"state": "failed", "fault": "REQUEST_FAILED.DeviceNotFound"}
    return as_lines(entries)


def as_lines(entries):
    return [json.dumps(entry).encode() + b"\n" for entry in entries]


def in_store(*statements):
    """Changes the stopped server's store; every statement must change a row."""
    def plant(workload, _):
        with closing(sqlite3.connect(workload.server.store / "reveille.db")) as store:
            store.execute("PRAGMA ignore_check_constraints = ON")
            changed = all(store.execute(statement).rowcount > 0 for statement in statements)
            store.commit()
        return changed
    return plant


OF_THE_LAST = "FROM history WHERE from_state <> to_state AND in_doubt = 0 ORDER BY sequence DESC, number DESC LIMIT 1"
A_SUCCESS = f"(SELECT sequence, number {OF_THE_LAST})"
ITS_PROFILE = f"(SELECT profile {OF_THE_LAST})"
ITS_OLD_STATE = f"(SELECT from_state {OF_THE_LAST})"
ITS_SUCCESS_BEFORE = (f"(SELECT sequence, number FROM history WHERE profile = {ITS_PROFILE} AND from_state <> to_state "
                      f"AND (sequence, number) <> {A_SUCCESS} ORDER BY sequence DESC, number DESC LIMIT 1)")
PLANTED = {
    "a callback's line is deleted from the listener's log":
        (log_line(deleted), "every outcome was told"),
    "a callback arrives again, though nothing crashed":
        (log_line(again_after_the_last_kill), "a callback is sent twice under one callbackCount only if"),
    "a callback tells of a request that never was":
        (log_line(unknown_request), "every callback tells of a subrequest that exists"),
    "a callback tells another state": (body_change(b'"state":"ACTIVE"', b'"state":"SUSPEND"'), "every callback says what its subrequest says"),
    "a callback tells another fault": (body_change(b"ProfileAlreadyResumed", b"DeviceNotFound"), "every callback says what its subrequest says"),
    "a callback begins to count at 2": (body_change(b'"callbackCount":1,', b'"callbackCount":2,'), "callbackCount goes from 1 upwards"),
    "a request was answered 200 and is not there": (journal_change(accepted_but_unknown), "every request whose 200 was seen exists"),
    "a request is there that nobody sent": (journal_change(forgotten_by_the_client), "every request that exists was sent"),
    "one key was given two requestIds": (journal_change(another_id_under_a_key), "one Idempotency-Key gave one requestId"),
    "an outcome changed after it was seen": (journal_change(another_outcome_was_seen), "no outcome that was seen has changed since"),
    "a subrequest is gone": (in_store(f"DELETE FROM subrequest WHERE (sequence, number) = {A_SUCCESS}"), "every request has all its subrequests"),
    "a callback is gone from the store": (in_store(f"DELETE FROM callback WHERE (sequence, number) = {A_SUCCESS}"),
                                          "every subrequest has one callback in the list"),
    "a profile is back in its old state":
        (in_store(f"UPDATE profile SET state = {ITS_OLD_STATE} WHERE number = {ITS_PROFILE}"),
         "every profile's state is where its history ends"),
    "a change is missing from a history": (in_store(f"DELETE FROM history WHERE (sequence, number) = {A_SUCCESS}"),
                                           "the successes of a profile are exactly the changes in its history"),
    "a success is recorded as a failure":
        (in_store(f"UPDATE subrequest SET outcome = 'failed', fault = 'device_not_found' WHERE (sequence, number) = {A_SUCCESS}"),
         "the counts of every request are those of its list"),
    "a profile is in doubt": (in_store(f"UPDATE profile SET in_doubt = 1 WHERE number = {ITS_PROFILE}"), "no profile is in doubt but by"),
    "a doubt that a success has ended is back":
        (in_store(f"UPDATE subrequest SET outcome = 'failed', fault = 'cancelled' WHERE (sequence, number) = {ITS_SUCCESS_BEFORE}",
                  f"UPDATE history SET in_doubt = 1 WHERE (sequence, number) = {ITS_SUCCESS_BEFORE}",
                  f"UPDATE profile SET in_doubt = 1 WHERE number = {ITS_PROFILE}"),
         "no profile is in doubt but by a cancellation, until its next success"),
    "a request's counts are off": (in_store("UPDATE request SET succeeded = succeeded + 1, failed = failed - 1 WHERE failed > 0"),
                                   "the counts of every request are those of its list"),
}


def main():
    arguments = arguments_of(
        __doc__,
        argument("--kills", type=int, default=20, help="in all runs together (default: 20)"),
        argument("--runs", type=int, default=4, help="each with a fresh store (default: 4)"),
        argument("--profiles", type=int, default=PROFILES, help=f"suspended, in the fleet (default: {PROFILES})"),
        argument("--latency", default="", help="of the simulated carriers, instead of the four manners"),
        argument("--carrier", default="", help="one more line for the carriers' configuration, instead of the four manners"),
        argument("--prove", action="store_true", help="plant trouble; pass if all of it is found out"),
        argument("--long", action="store_true", help="16 runs, 240 kills"))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
