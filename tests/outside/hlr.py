#!/usr/bin/env python3
"""The full circle on a real HLR: what a customer asks of Reveille is what a handset meets on the network.

1. One profile: suspended by the API, it is refused by the HLR, cause 7 and 11, seen by a probe that asks for service as a
   serving node does; resumed by the API it is accepted; the callbacks say so, the timeline says from when on. With `kick`
   the node that serves it is told at once.
2. What an HLR cannot do is refused before it is accepted; what it does not know, or we do not, fails and says so.
3. The HLR's database is locked: nothing fails, and all is done when it is free. The HLR is frozen past the deadline: the
   other network is as quick as before.
4. Thousands of profiles, while the HLR and the server are killed and started again: nothing is lost, and HLR, inventory
   and callbacks agree profile by profile.
5. Suspensions and resumes of the same profiles behind each other, while the HLR is frozen and the server killed: what was
   asked for last is so.
6. The same with two nodes, of which the one dies that was asked first.
7. Somebody takes access, or a subscriber, from the HLR by hand: that is told once, listed, and left alone.
"""

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from cluster import Cluster
from gsup import GPRS_NOT_ALLOWED, PLMN_NOT_ALLOWED, Ctrl, Hlr, Peer
from listener import Listener
from report import Report
from server import ACCOUNT, Server, apply_text, argument, arguments_of, fleet, run_proof, scratch

REFUSED, ACCEPTED = (GPRS_NOT_ALLOWED, PLMN_NOT_ALLOWED), (True, True)
NODE = "SGSN-probe-1"
TIMEOUT = 1.0  # seconds: the carrier's, so that a frozen HLR is soon past it
LEASE = 6  # seconds; two more than any call or attempt may take
KICK_TIMEOUT = 2.0
KICKED_WITHIN = 3.0
DOWN_WITHIN = 10.0
ENDED_WITHIN = 120.0
FACTOR, SLACK = 1.5, 0.5  # the other network may take so much longer beside a frozen HLR, and so many seconds


def carriers(hlr, kick, timeout, more=""):
    """Global is the HLR's; the other network is simulated, to see that it is left alone."""
    gsup = f'kick = "{hlr.address}:4222"\nkick_timeout = "{KICK_TIMEOUT}s"\n' if kick else ""
    return {
        "global": f'kind = "osmo-hlr"\ntimeout = "{timeout}s"\nretry_first = "50ms"\nretry_longest = "500ms"\n{more}'
                  f'[carriers.global.osmo-hlr]\naddress = "{hlr.address}:4259"\n{gsup}',
        "verizon-us": 'kind = "simulated"\nlatency = "5ms"\ntimeout = "2s"\n',
    }


class Circle:
    """A server before an HLR that knows its Global profiles, a listener, and a node that serves them."""

    def __init__(self, folder, arguments, profiles, kick=False, timeout=TIMEOUT, more="", **shared):
        self.fleet = [one for one in fleet(ACCOUNT, 2 * profiles, state="ACTIVE") if one.network == "global"][:profiles]
        self.us = [one for one in fleet(ACCOUNT, 400, first=100_000) if one.network == "verizon-us"]
        self.imsis = {one.iccid: one.imsi for one in self.fleet}
        with contextlib.ExitStack() as stack:
            self.hlr = stack.enter_context(Hlr(folder / "hlr", arguments.address))
            self.listener = stack.enter_context(Listener(folder / "callbacks.log"))
            self.server = stack.enter_context(
                Server(folder, arguments.binary, carriers=carriers(self.hlr, kick, timeout, more), **shared))
            with Ctrl(self.hlr.address) as ctrl:
                ctrl.create(*self.imsis.values())
            self.node = Peer(self.hlr.address, NODE)
            stack.callback(lambda: self.node.close())  # that of then
            self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}))
            self.server.import_fleet(self.fleet + self.us)
            self.server.start()
            self.client = self.server.client()
            self.stack = stack.pop_all()

    def ask(self, action, iccids):
        return self.client.act(action, ACCOUNT, iccids)

    def do(self, report, action, iccids):
        """Asks, waits until all has ended and was told; what the callbacks said, counted."""
        answer = self.ask(action, iccids)
        if not report.check(f"{action} is accepted", answer.status == 200, answer.status, answer.raw[:300]):
            return Counter()
        self.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        return self.told(answer.request_id)

    def told(self, request_id):
        bodies = [json.loads(received.body) for received in self.listener.received()]
        once = {body["deviceIds"][-1]["id"]: body for body in bodies if body["requestId"] == request_id}
        return Counter(body.get("faultResponse", body).get("faultcode", body["status"]) for body in once.values())

    def served(self, iccids=None):
        """What a handset is told, as seen by the serving node; it is connected anew, as the HLR may have died."""
        self.node.close()
        self.node = Peer(self.hlr.address, NODE)
        imsis = [self.imsis[iccid] for iccid in iccids or self.imsis]
        return Counter(self.node.serves(*imsis).values())

    def agree(self, report, name, state, access):
        """HLR, inventory and probe, profile by profile."""
        recorded = {one.iccid: one.state for one in self.server.fleet() if one.iccid in self.imsis}
        with Ctrl(self.hlr.address) as ctrl:
            held = ctrl.enabled(*self.imsis.values())
        report.none(f"{name}: the inventory has every profile as {state}",
                    (iccid for iccid in self.imsis if recorded[iccid] != state))
        report.none(f"{name}: the HLR agrees, profile by profile",
                    (f"{iccid}: {held[imsi]}" for iccid, imsi in self.imsis.items()
                     if held[imsi] != ((access == ACCEPTED,) * 2)))
        report.equal(f"{name}: and so does a handset", self.served(), Counter({access: len(self.imsis)}))

    def close(self):
        self.stack.close()


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    for name, part in (("one", one_profile), ("faults", what_cannot_be), ("trouble", trouble), ("many", many),
                       ("order", order), ("nodes", two_nodes), ("drift", drift)):
        if arguments.only in (None, name):
            with scratch(report, f"hlr-{name}") as folder:
                part(report, arguments, folder, dice)


def one_profile(report, arguments, folder, dice):
    for name, kick, answers in (("without kick", False, False), ("with kick", True, True), ("kick unanswered", True, False)):
        circle = Circle(folder / name.replace(" ", "-"), arguments, 3, kick, timeout=3 * KICK_TIMEOUT)
        try:
            iccid, imsi = next(iter(circle.imsis.items()))
            report.equal(f"{name}: attached", circle.served([iccid]), Counter({ACCEPTED: 1}))
            with ThreadPoolExecutor(1) as node:
                kicked = node.submit(circle.node.cancelled, KICKED_WITHIN, answers)
                told = circle.do(report, "profile_suspend", [iccid])
                kicked = kicked.result()
            report.equal(f"{name}: suspended", told, Counter({"SUCCESS": 1}))
            report.equal(f"{name}: whether the serving node hears of it", kicked and kicked.imsi, imsi if kick else None)
            report.equal(f"{name}: the timeline is honest about when",
                         ["at_next_registration" in one for one in circle.client.called(iccid)], [not answers])
            report.equal(f"{name}: refused, cause 7 and 11", circle.served([iccid]), Counter({REFUSED: 1}))
            report.equal(f"{name}: the others are accepted", circle.served(list(circle.imsis)[1:]), Counter({ACCEPTED: 2}))
            report.equal(f"{name}: resumed", circle.do(report, "profile_resume", [iccid]), Counter({"SUCCESS": 1}))
            report.equal(f"{name}: accepted again", circle.served([iccid]), Counter({ACCEPTED: 1}))
        finally:
            circle.close()


def what_cannot_be(report, arguments, folder, dice):
    circle = Circle(folder, arguments, 4)
    try:
        stranger, first = list(circle.imsis)[-1], list(circle.imsis)[0]
        before = len(circle.client.requests(ACCOUNT))
        refused = circle.ask("enable", [first])
        report.check("what an HLR cannot do is refused", refused.status == 400
                     and "[INPUT_INVALID.Action.NotSupported]" in refused.json["errorMessage"], refused.raw[:300])
        report.equal("and leaves nothing behind", len(circle.client.requests(ACCOUNT)), before)
        report.equal("the network says what is recorded", circle.client.on_network(first),
                     {"network": "global", "answer": "seen", "inService": True, "agrees": True})
        with Ctrl(circle.hlr.address) as ctrl:
            ctrl.enable(circle.imsis[first], ps=False, cs=False)
            report.equal("what others changed on the HLR is seen", circle.client.on_network(first),
                         {"network": "global", "answer": "seen", "inService": False, "agrees": False})
            ctrl.enable(circle.imsis[first], ps=True, cs=True)
            ctrl.one(f"SET subscriber.delete {circle.imsis[stranger]}")
        report.equal("and whom it does not know", circle.client.on_network(stranger)["answer"], "no_such_profile")
        report.equal("a subscriber that the HLR does not know fails", circle.do(report, "profile_suspend", [first, stranger]),
                     Counter({"SUCCESS": 1, "UnifiedWebService.REQUEST_FAILED.CarrierRejected": 1}))
    finally:
        circle.close()


def trouble(report, arguments, folder, dice):
    circle = Circle(folder, arguments, 200)
    try:
        half = len(circle.us) // 2
        alone = timed(circle, "profile_resume", [one.iccid for one in circle.us[:half]])
        with circle.hlr.locked():
            answer = circle.ask("profile_suspend", list(circle.imsis))
            time.sleep(2.0)
            request = circle.client.request(answer.request_id)
            report.equal("while the HLR's database is locked nothing fails", (request["failed"], request["succeeded"]), (0, 0))
        circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        report.equal("all is done when it is free", circle.told(answer.request_id), Counter({"SUCCESS": len(circle.imsis)}))
        circle.hlr.freeze()
        answer = circle.ask("profile_resume", list(circle.imsis))
        time.sleep(3 * TIMEOUT)
        beside = timed(circle, "profile_resume", [one.iccid for one in circle.us[half:]])
        deadline = time.monotonic() + DOWN_WITHIN  # now and then it is tried
        while (health := circle.client.carrier("global")["health"]) != "down" and time.monotonic() < deadline:
            time.sleep(0.05)
        circle.hlr.thaw()
        report.equal("a frozen HLR is seen to be down", health, "down")
        report.say(f"{half} profiles of the other network: {alone:.2f} s alone, {beside:.2f} s beside a frozen HLR")
        report.check("the other network is as quick as before", beside <= FACTOR * alone + SLACK, alone, beside)
        circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        report.equal("and what waited is done", circle.told(answer.request_id), Counter({"SUCCESS": len(circle.imsis)}))
        circle.agree(report, "after all that", "ACTIVE", ACCEPTED)
    finally:
        circle.close()


def timed(circle, action, iccids):
    began = time.monotonic()
    request_id = circle.ask(action, iccids).request_id
    while circle.client.request(request_id)["state"] != "ended":
        time.sleep(0.01)
    return time.monotonic() - began


def many(report, arguments, folder, dice):
    circle = Circle(folder, arguments, arguments.profiles)
    try:
        for action, state, access in (("profile_suspend", "SUSPEND", REFUSED), ("profile_resume", "ACTIVE", ACCEPTED)):
            answer = circle.ask(action, list(circle.imsis))
            for number in range(arguments.kills):
                time.sleep(dice.uniform(0.05, 0.3))
                circle.hlr.kill()
                if number % 2:
                    circle.server.kill()
                    circle.server.start()
                    circle.client = circle.server.client()
                time.sleep(dice.uniform(0.0, 0.3))
                circle.hlr.start()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal(f"{action}: every profile is told of once, as done", circle.told(answer.request_id),
                         Counter({"SUCCESS": len(circle.imsis)}))
            circle.agree(report, action, state, access)
    finally:
        circle.close()


def order(report, arguments, folder, dice):
    """See gsup.late: commands that were left on a connection must not come after what was asked for later."""
    circle = Circle(folder, arguments, 64)
    try:
        for turn in range(arguments.turns):
            circle.hlr.freeze()
            for action in ("profile_suspend", "profile_resume"):
                circle.ask(action, list(circle.imsis))
            time.sleep(dice.uniform(0.0, 2 * TIMEOUT))
            circle.server.kill()
            thaw = threading.Timer(dice.uniform(0.0, 0.2), circle.hlr.thaw)
            thaw.start()
            circle.server.start()
            thaw.join()
            circle.client = circle.server.client()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            circle.agree(report, f"turn {turn + 1}", "ACTIVE", ACCEPTED)
    finally:
        circle.close()


def two_nodes(report, arguments, folder, dice):
    """One suspends, the other resumes the same profiles behind it, while the HLR is frozen; then the first one dies."""
    with Cluster() as cluster:
        shared = {"database": cluster.database(), "key": "ab" * 32, "before": f'database_lease = "{LEASE}s"\n'}
        circle = Circle(folder / "first", arguments, 64, **shared)
        other = Server(folder / "second", arguments.binary, carriers=carriers(circle.hlr, False, TIMEOUT), **shared)
        try:
            other.start()
            client = other.client()
            for turn in range(arguments.turns):
                circle.hlr.freeze()
                circle.ask("profile_suspend", list(circle.imsis))
                client.act("profile_resume", ACCOUNT, list(circle.imsis))
                time.sleep(dice.uniform(0.0, 2 * TIMEOUT))
                circle.server.kill()
                circle.hlr.thaw()
                client.wait_ended(ACCOUNT, ENDED_WITHIN)
                circle.agree(report, f"two nodes, turn {turn + 1}", "ACTIVE", ACCEPTED)
                circle.server.start()
                circle.client = circle.server.client()
        finally:
            other.kill()
            circle.close()


def drift(report, arguments, folder, dice):
    circle = Circle(folder, arguments, 200, more='compare_rate = 1000\ncompare_every = "1s"\n')
    try:
        circle.client.call("POST", f"/api/m2m/v1/callbacks/{ACCOUNT}",
                           {"name": "ExternalProvisioningChanges", "url": circle.listener.url("/changes")})
        time.sleep(3.0)
        report.equal("the HLR is as recorded", drifting(circle), {})
        barred, gone = list(circle.imsis)[5:65:20], list(circle.imsis)[100]
        with Ctrl(circle.hlr.address) as ctrl:
            for iccid in barred:
                ctrl.enable(circle.imsis[iccid], ps=False, cs=False)
            ctrl.one(f"SET subscriber.delete {circle.imsis[gone]}")
            expected = {iccid: (False, False) for iccid in barred} | {gone: (True, None)}
            until(lambda: drifting(circle) == expected)
            report.equal("what was taken by hand is listed", drifting(circle), expected)
            until(lambda: all(one.get("requestId") for one in listed(circle)))
            circle.server.kill()
            circle.server.start()
            circle.client = circle.server.client()
            time.sleep(5.0)
            told = [(body["deviceIds"][-1]["id"], body["status"]) for body in
                    (json.loads(one.body) for one in circle.listener.received() if one.path == "/changes")]
            report.equal("and told once each, also across a restart", sorted(told),
                         sorted([(iccid, "SUCCESS") for iccid in barred] + [(gone, "Failed")]))
            report.equal("the record is left as it is", {one.state for one in circle.server.fleet() if one.iccid in circle.imsis},
                         {"ACTIVE"})
            report.equal("and so is the HLR", ctrl.enabled(*(circle.imsis[iccid] for iccid in barred)),
                         {circle.imsis[iccid]: (False, False) for iccid in barred})
            report.equal("one is suspended, so both agree", circle.do(report, "profile_suspend", barred[:1]),
                         Counter({"SUCCESS": 1}))
            for iccid in barred[1:]:
                ctrl.enable(circle.imsis[iccid], ps=True, cs=True)
        until(lambda: list(drifting(circle)) == [gone], within=90.0)  # the crash may have come amidst a comparison
        report.equal("what agrees again is not listed any more", list(drifting(circle)), [gone])
    finally:
        circle.close()


def drifting(circle):
    """What drifts: unknown to the HLR or not, and in service or not."""
    return {one["iccid"]: (one["unknown"], one.get("inService")) for one in listed(circle)}


def listed(circle):
    return list(circle.client.pages(f"/api/reveille/v1/drift?account={ACCOUNT}", "profiles"))


def until(happened, within=20.0):
    deadline = time.monotonic() + within
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.1)


def main():
    arguments = arguments_of(__doc__, argument("--address", default=f"127.77.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}",
                                               help="a loopback address for the HLR"),
                             argument("--profiles", type=int, default=2_000), argument("--kills", type=int, default=4),
                             argument("--turns", type=int, default=2),
                             argument("--only", choices=("one", "faults", "trouble", "many", "order", "nodes", "drift")))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
