#!/usr/bin/env python3
"""The full circle on a real HSS: what a customer asks of Reveille is what a handset meets on the LTE network.

1. One profile, in either mode: suspended by the API it is unknown to the HSS (mode "hide"), or the MME is told that it is
   barred (mode "status"), seen by a probe that asks for service as an MME does; resumed by the API it is accepted; the
   callbacks say so, the timeline says from when on.
2. What an HSS cannot do is refused before it is accepted; what it does not know fails; what its operator has taken by hand
   is not given back.
3. Hundreds of profiles, while the database and the server are killed and started again: nothing is lost, and HSS,
   database, inventory and callbacks agree profile by profile.
4. Suspensions and resumes of the same profiles behind each other, while the database is frozen and the server killed: what
   was asked for last is so.
"""

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter

from listener import Listener
from report import Report
from s6a import BARRED, GRANTED, SUCCESS, USER_UNKNOWN, Database, Hss, Mme, subscriber, within_environment
from server import ACCOUNT, Server, apply_text, argument, arguments_of, fleet, run_proof, scratch

ACCEPTED, UNKNOWN, TOLD_BARRED = (SUCCESS, SUCCESS, GRANTED), (USER_UNKNOWN, USER_UNKNOWN, None), (SUCCESS, SUCCESS, BARRED)
TIMEOUT = 1.0  # seconds: the carrier's, so that a frozen database is soon past it
ENDED_WITHIN = 60.0
READS_WITHIN = 30.0  # the HSS finds its database again after some seconds
SENTINEL = "001019000000000"


def carriers(database, mode):
    return {"global": f'kind = "open5gs"\ntimeout = "{TIMEOUT}s"\nretry_first = "50ms"\nretry_longest = "500ms"\n'
                      f'[carriers.global.open5gs]\nurl = "{database.url}"\ndatabase = "nextepc"\nmode = "{mode}"\n',
            "verizon-us": 'kind = "simulated"\n'}


class Circle:
    """A server before the database of an HSS that knows its Global profiles, a listener, and a node that serves them."""

    def __init__(self, folder, arguments, profiles, mode="hide"):
        self.imsis = {one.iccid: one.imsi for one in fleet(ACCOUNT, 2 * profiles + 2, state="ACTIVE")
                      if one.network == "global"}
        self.imsis = dict(list(self.imsis.items())[:profiles])
        with contextlib.ExitStack() as stack:
            self.database = stack.enter_context(Database(folder / "database", arguments.address))
            self.subscribers = self.database.client().nextepc.subscribers
            self.subscribers.create_index("imsi", unique=True)
            self.subscribers.insert_many(subscriber(imsi) for imsi in (SENTINEL, *self.imsis.values()))
            self.hss = stack.enter_context(Hss(folder / "hss", arguments.address))
            self.listener = stack.enter_context(Listener(folder / "callbacks.log"))
            self.server = stack.enter_context(
                Server(folder, arguments.binary, carriers=carriers(self.database, mode)))
            self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}))
            self.server.import_fleet([one for one in fleet(ACCOUNT, 2 * profiles + 2, state="ACTIVE")
                                      if one.iccid in self.imsis])
            self.server.start()
            self.client = self.server.client()
            self.stack = stack.pop_all()

    def restart_server(self):
        self.server.kill()
        self.server.start()
        self.client = self.server.client()

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
        """What a handset is told, as seen by the serving node, once the HSS reads its database."""
        with Mme(self.hss.address) as mme:
            deadline = time.monotonic() + READS_WITHIN
            while not mme.attach(SENTINEL)[SENTINEL].accepted and time.monotonic() < deadline:
                time.sleep(0.01)
            imsis = [self.imsis[iccid] for iccid in iccids or self.imsis]
            return {imsi: tuple(attach[:3]) for imsi, attach in mme.attach(*imsis).items()}

    def agree(self, report, name, state, access):
        """HSS, database and inventory, profile by profile."""
        recorded = {one.iccid: one.state for one in self.server.fleet() if one.iccid in self.imsis}
        held = {one["imsi"] for one in self.subscribers.find({}, {"imsi": 1})}
        hidden = "suspended:" if access == UNKNOWN else ""
        report.none(f"{name}: the inventory has every profile as {state}",
                    (iccid for iccid in self.imsis if recorded[iccid] != state))
        report.equal(f"{name}: the database agrees, profile by profile", held,
                     {f"{hidden}{imsi}" for imsi in self.imsis.values()} | {SENTINEL})
        report.none(f"{name}: and so does a handset",
                    (f"{imsi}: {told}" for imsi, told in self.served().items() if told != access))

    def close(self):
        self.stack.close()


def one_profile(report, arguments, folder, dice):
    for mode, refused in (("status", TOLD_BARRED), ("hide", UNKNOWN)):
        circle = Circle(folder / mode, arguments, 3, mode)
        try:
            iccid, imsi = next(iter(circle.imsis.items()))
            report.equal(f"{mode}: attached", circle.served([iccid]), {imsi: ACCEPTED})
            report.equal(f"{mode}: suspended", circle.do(report, "profile_suspend", [iccid]), Counter({"SUCCESS": 1}))
            report.equal(f"{mode}: the timeline is honest about when",
                         ["at_next_registration" in one for one in circle.client.called(iccid)], [True])
            report.equal(f"{mode}: refused", circle.served([iccid]), {imsi: refused})
            report.equal(f"{mode}: the network says what is recorded", circle.client.on_network(iccid),
                         {"network": "global", "answer": "seen", "inService": False, "agrees": True})
            report.equal(f"{mode}: the others are accepted", set(circle.served(list(circle.imsis)[1:]).values()), {ACCEPTED})
            report.equal(f"{mode}: resumed", circle.do(report, "profile_resume", [iccid]), Counter({"SUCCESS": 1}))
            report.equal(f"{mode}: accepted again", circle.served([iccid]), {imsi: ACCEPTED})
            if mode == "hide":
                what_cannot_be(report, circle)
        finally:
            circle.close()


def what_cannot_be(report, circle):
    first, second, stranger = circle.imsis
    before = len(circle.client.requests(ACCOUNT))
    refused = circle.ask("enable", [first])
    report.check("what an HSS cannot do is refused", refused.status == 400
                 and "[INPUT_INVALID.Action.NotSupported]" in refused.json["errorMessage"], refused.raw[:300])
    report.equal("and leaves nothing behind", len(circle.client.requests(ACCOUNT)), before)
    circle.subscribers.delete_one({"imsi": circle.imsis[stranger]})
    report.equal("whom the network does not know is seen", circle.client.on_network(stranger)["answer"], "no_such_profile")
    report.equal("and fails", circle.do(report, "profile_suspend", [first, second, stranger]),
                 Counter({"SUCCESS": 2, "UnifiedWebService.REQUEST_FAILED.CarrierRejected": 1}))
    hidden = f"suspended:{circle.imsis[second]}"
    circle.subscribers.update_one({"imsi": hidden}, {"$set": {"subscriber_status": 1}})
    report.equal("what its operator has barred by hand is not given back", circle.do(report, "profile_resume", [first, second]),
                 Counter({"SUCCESS": 1, "UnifiedWebService.REQUEST_FAILED.CarrierRejected": 1}))
    report.equal("and stays as it is", circle.served([first, second]),
                 {circle.imsis[first]: ACCEPTED, circle.imsis[second]: UNKNOWN})


def many(report, arguments, folder, dice):
    circle = Circle(folder, arguments, arguments.profiles)
    try:
        for action, state, access in (("profile_suspend", "SUSPEND", UNKNOWN), ("profile_resume", "ACTIVE", ACCEPTED)):
            answer = circle.ask(action, list(circle.imsis))
            for number in range(arguments.kills):
                time.sleep(dice.uniform(0.05, 0.2))
                circle.database.kill()
                if number % 2:
                    circle.restart_server()
                circle.database.start()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal(f"{action}: every profile is told of once, as done", circle.told(answer.request_id),
                         Counter({"SUCCESS": len(circle.imsis)}))
            circle.agree(report, action, state, access)
        for turn in range(arguments.turns):
            circle.database.freeze()
            for action in ("profile_suspend", "profile_resume"):
                circle.ask(action, list(circle.imsis)[:64])
            time.sleep(dice.uniform(0.0, 2 * TIMEOUT))
            circle.server.kill()
            thaw = threading.Timer(dice.uniform(0.0, 0.2), circle.database.thaw)
            thaw.start()
            circle.server.start()
            thaw.join()
            circle.client = circle.server.client()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            circle.agree(report, f"turn {turn + 1}", "ACTIVE", ACCEPTED)
    finally:
        circle.close()


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    for name, part in (("one", one_profile), ("many", many)):
        if arguments.only in (None, name):
            with scratch(report, f"open5gs-{name}") as folder:
                part(report, arguments, folder, dice)


def main():
    within_environment()
    arguments = arguments_of(__doc__, argument("--address", default=f"127.78.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}",
                                               help="a loopback address for the HSS and its database"),
                             argument("--profiles", type=int, default=300), argument("--kills", type=int, default=2),
                             argument("--turns", type=int, default=1), argument("--only", choices=("one", "many")))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
