#!/usr/bin/env python3
"""One account's trouble is its own; and a request of 10,000 profiles is told of exactly once each.

1. Ten accounts resume at once. One has a listener where nothing listens, one a listener that never
   answers; the other eight must be told about as fast as in a round without those two.
2. A hundred accounts have listeners that never answer, more than there are connections; another one with a
   good listener must be told sooner than one of their attempts ends.
3. One account has 100,000 profiles waiting, another one profile: the single one is told within
   seconds, while the other still waits.
4. One request of 10,000 profiles: one callback for each ICCID, and whenever the request is looked at,
   waiting, succeeded and failed add up to 10,000.
"""

import json
import random
import threading
import time
from collections import Counter

from listener import Listener, count_lines
from report import Report
from server import OWN, NoAnswer, Server, apply_text, argument, arguments_of, fleet, free_port, run_proof, scratch

SICK = ("dead", "hanging")
HEALTHY = 8
SICK_PROFILES = 16  # of each account with a hanging listener: enough for all the connections it may have
FACTOR, SLACK = 2.0, 2.0  # a healthy account may take this much longer, and so many seconds, beside sick ones
ROUND_WITHIN = 120.0
SINGLE_WITHIN = 3.5  # less than the 4 seconds that an attempt at a hanging listener takes
CROWD = 100_000
BULK = 10_000


def account(number):
    return f"0000{200_000 + number}-{number:05d}"


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    sick_listeners(report, arguments, dice)
    many_sick_listeners(report, arguments)
    single_beside_crowd(report, arguments, dice)
    exactly_once(report, arguments, dice)


# 1. Sick listeners

def sick_listeners(report, arguments, dice):
    healthy = [account(number) for number in range(HEALTHY)]
    dead, hanging = (account(HEALTHY + number) for number in range(len(SICK)))
    with scratch(report, "isolation") as folder, Listener(folder / "callbacks.log") as listener, \
            Server(folder, arguments.binary) as server:
        urls = {name: listener.url(f"/ok/{name}") for name in healthy}
        urls |= {dead: f"http://127.0.0.1:{free_port()}/", hanging: listener.url(f"/hang/{hanging}")}
        server.apply(apply_text(urls))
        fleets = [{name: fleet(name, arguments.profiles, first=(turn * len(urls) + at) * arguments.profiles)
                   for at, name in enumerate(urls)} for turn in range(2)]
        for turn, some in enumerate(fleets):
            server.import_fleet([one for profiles in some.values() for one in profiles], f"fleet-{turn}.csv")
        server.start()
        client = server.client()
        alone = round_of(report, "alone", client, listener, fleets[0], healthy, healthy)
        order = [dead, hanging] + dice.sample(healthy, HEALTHY)
        beside = round_of(report, "beside the sick", client, listener, fleets[1], order, healthy)
        if not alone or not beside:
            return
        slowest = max(alone.values())
        report.say(f"{HEALTHY} healthy accounts of {arguments.profiles} profiles: all told after {slowest:.2f} s alone, "
                   f"{max(beside[name] for name in healthy):.2f} s beside a dead and a hanging listener")
        report.none("a healthy account is not held up by sick ones",
                    (f"{name}: {beside[name]:.2f} s, alone {alone[name]:.2f} s" for name in healthy
                     if beside[name] > FACTOR * slowest + SLACK))
        told = Counter(iccid_of(received) for received in listener.received() if received.path.startswith("/ok/"))
        report.equal("each healthy profile was told of once", Counter(told.values()), Counter({1: 2 * HEALTHY * arguments.profiles}))
        for name, kind in zip((dead, hanging), SICK):
            request, = client.requests(name)
            report.check(f"the {kind} listener's callbacks are kept, and its profiles resumed",
                         request["succeeded"] == arguments.profiles
                         and request["callbacks"]["waiting"] + request["callbacks"]["archived"] == arguments.profiles, request)


def round_of(report, name, client, listener, fleets, accounts, healthy):
    """All of `accounts` resume their fleets; the seconds until each healthy one was told of its last profile."""
    started = {}
    for one in accounts:
        started[one] = time.time()
        answer = client.resume(one, [profile.iccid for profile in fleets[one]])
        if not report.check(f"{name}: accepted", answer.status == 200, one, answer.status, answer.raw[:200]):
            return None
    wanted = {one: {profile.iccid for profile in fleets[one]} for one in healthy}
    deadline = time.monotonic() + ROUND_WITHIN
    while True:
        last, count = {}, Counter()
        for received in listener.received():
            one = received.path.rsplit("/", 1)[1]
            if one in wanted and iccid_of(received) in wanted[one]:
                last[one] = received.at
                count[one] += 1
        if all(count[one] >= len(wanted[one]) for one in healthy):
            return {one: last[one] - started[one] for one in healthy}
        if time.monotonic() > deadline:
            report.check(f"{name}: every healthy account was told", False, count)
            return None
        time.sleep(0.1)


def iccid_of(received):
    return json.loads(received.body)["deviceIds"][-1]["id"]


# 2. More sick listeners than connections

def many_sick_listeners(report, arguments):
    sick, healthy = [account(100 + number) for number in range(arguments.sick)], account(99)
    with scratch(report, "sick") as folder, Listener(folder / "callbacks.log") as listener, Server(folder, arguments.binary) as server:
        server.apply(apply_text({name: listener.url("/hang") for name in sick} | {healthy: listener.url("/ok")}))
        fleets = {name: fleet(name, SICK_PROFILES, first=at * SICK_PROFILES) for at, name in enumerate(sick)}
        mine = fleet(healthy, 5, first=arguments.sick * SICK_PROFILES)
        server.import_fleet([one for profiles in fleets.values() for one in profiles] + mine)
        server.start()
        client = server.client()
        answers = [client.resume(name, [one.iccid for one in profiles]) for name, profiles in fleets.items()]
        report.none("all are accepted", (answer for answer in answers if answer.status != 200))
        took = []
        for profile in mine:
            sent, before = time.time(), sum(received.path == "/ok" for received in listener.received())
            client.resume(healthy, [profile.iccid])
            while time.time() < sent + ROUND_WITHIN and sum(received.path == "/ok" for received in listener.received()) == before:
                time.sleep(0.02)
            took.append(time.time() - sent)
        report.say(f"beside {arguments.sick} hanging listeners one is told after {', '.join(f'{seconds:.2f}' for seconds in took)} s")
        report.none("a healthy account is told soon beside more sick ones than there are connections",
                    (f"{seconds:.2f} s" for seconds in took if seconds > SINGLE_WITHIN))


# 3. A crowd and a single one

def single_beside_crowd(report, arguments, dice):
    crowd, single = account(50), account(51)
    with scratch(report, "crowd") as folder, Listener(folder / "crowd.log") as crowds_listener, \
            Listener(folder / "single.log") as listener, Server(folder, arguments.binary, latency=arguments.latency) as server:
        server.apply(apply_text({crowd: crowds_listener.url("/ok"), single: listener.url("/ok")}))
        profiles = fleet(crowd, arguments.crowd)
        singles = fleet(single, 5, first=arguments.crowd)
        server.import_fleet(profiles + singles)
        server.start()
        client = server.client()
        started = time.monotonic()
        iccids = [profile.iccid for profile in profiles]
        answers = [client.resume(crowd, iccids[first:first + BULK]) for first in range(0, len(iccids), BULK)]
        report.none("the crowd is accepted", (f"{answer.status} {answer.raw[:200]}" for answer in answers if answer.status != 200))
        report.say(f"{len(iccids)} profiles accepted in {time.monotonic() - started:.2f} s")
        took = []
        for profile in singles:
            time.sleep(dice.uniform(0, 0.3))
            sent = time.time()
            answer = client.resume(single, [profile.iccid])
            while answer.status == 200 and time.time() < sent + 4 * SINGLE_WITHIN:
                if count_lines(listener.log) > len(took):
                    break
                time.sleep(0.01)
            took.append(time.time() - sent)
        waiting = sum(request["waiting"] for request in client.requests(crowd))
        report.say(f"a single profile is told of after {', '.join(f'{seconds:.2f}' for seconds in took)} s; "
                   f"{waiting} of the other account still wait")
        report.none("a single profile is told of soon beside a crowd",
                    (f"{seconds:.2f} s" for seconds in took if seconds > SINGLE_WITHIN))
        report.check("… while the crowd still waits", waiting > arguments.crowd // 10,
                     f"{waiting} wait: choose a longer --latency")
        sums = [request["waiting"] + request["succeeded"] + request["failed"] for request in client.requests(crowd)]
        report.equal("the crowd's sums", sums, [min(BULK, len(iccids))] * len(answers))


# 4. Exactly once

def exactly_once(report, arguments, dice):
    name = account(60)
    with scratch(report, "once") as folder, Listener(folder / "callbacks.log") as listener, \
            Server(folder, arguments.binary) as server:
        server.apply(apply_text({name: listener.url("/ok")}))
        profiles = fleet(name, BULK)
        server.import_fleet(profiles)
        server.start()
        client = server.client()
        iccids = [profile.iccid for profile in profiles]
        dice.shuffle(iccids)
        started = time.time()
        answer = client.resume(name, iccids + iccids[:1])  # 10,001 devices, 10,000 distinct profiles
        if not report.check("10,000 profiles, one of them twice, are accepted", answer.status == 200, answer.status, answer.raw[:300]):
            return
        accepted = time.time() - started
        events = EventsReader(client.twin(), answer.request_id)
        looks, sums, order = 0, set(), []
        deadline = time.monotonic() + ROUND_WITHIN
        while time.monotonic() < deadline:
            request = client.request(answer.request_id)
            looks += 1
            sums.add(request["waiting"] + request["succeeded"] + request["failed"])
            order.append(request["waiting"])
            time.sleep(0.01)
            if request["state"] == "ended" and not request["callbacks"]["waiting"]:
                break
        lines = listener.received()
        report.say(f"10,000 profiles: accepted in {accepted:.3f} s, all told after {lines[-1].at - started:.2f} s, looked at {looks} times")
        report.equal("whenever looked at, the sums were 10,000", sums, {BULK})
        report.equal("what waits only becomes less", order, sorted(order, reverse=True))
        report.equal("all succeeded", (request["succeeded"], request["callbacks"]["delivered"]), (BULK, BULK))
        report.equal("one callback for each ICCID", Counter(map(iccid_of, lines)), Counter(iccids))
        time.sleep(1.5)  # no second one arrives where the first was acknowledged
        report.equal("and no more later", count_lines(listener.log), BULK)
        events.check(report)


class EventsReader(threading.Thread):
    """Reads a request's server-sent events until they end."""

    def __init__(self, client, request_id):
        super().__init__(daemon=True)
        self.client, self.path = client, f"{OWN}/requests/{request_id}/events"
        self.answer = None
        self.start()

    def run(self):
        try:
            self.answer = self.client.call("GET", self.path)
        except NoAnswer as error:
            self.answer = error

    def check(self, report):
        self.join(10)
        raw = getattr(self.answer, "raw", b"")
        events = []
        for block in raw.decode(errors="replace").replace("\r\n", "\n").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
            if "event" in fields:
                events.append((fields["event"], json.loads(fields.get("data", "null"))))
        names = [event for event, _ in events]
        report.check("the events are progress, and then ended", bool(names) and names[-1] == "ended"
                     and set(names[:-1]) <= {"progress"}, self.answer if not events else names)
        report.none("whatever an event tells of adds up to 10,000",
                    (data for _, data in events if data and data["waiting"] + data["succeeded"] + data["failed"] != BULK))


def main():
    arguments = arguments_of(
        __doc__, argument("--profiles", type=int, default=500, help="of each of the ten accounts (default: 500)"),
        argument("--sick", type=int, default=100, help="accounts with hanging listeners (default: 100)"),
        argument("--crowd", type=int, default=CROWD, help=f"waiting profiles of the large account (default: {CROWD})"),
        argument("--latency", default="200ms", help="of the carriers under the crowd (default: 200ms)"))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
