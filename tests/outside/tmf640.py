#!/usr/bin/env python3
"""The full circle on service activation servers (TMF640): what a customer asks of Reveille is how the service is there.

1. One profile on tmf-mock, which somebody else wrote: suspended by the API its service is inactive, resumed it is active;
   the callbacks say so. What the server cannot do, and whom it does not know.
2. Hundreds of profiles, while tmf-mock is frozen and the server killed: nothing is lost, and tmf-mock, inventory and
   callbacks agree profile by profile.
3. Suspensions and resumes of the same profiles behind each other, while it is frozen and the server killed: what was
   asked for last is so.
4. Changes that are accepted for later, on a server of our own: its events wake who waits and settle nothing, what it
   tells nobody is asked for, and a server that is killed meanwhile asks for nothing twice.
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
from server import ACCOUNT, Server, apply_text, argument, arguments_of, fleet, run_proof, scratch
from tmf import BASE, PORT, Later, Mock

TIMEOUT = 1.5  # seconds: the carrier's, so that a frozen server is soon past it
ENDED_WITHIN = 60.0
AWAKE_WITHIN = 10.0


def section(keys):
    return (f'kind = "tmf640"\ntimeout = "{TIMEOUT}s"\nretry_first = "50ms"\nretry_longest = "500ms"\n'
            "[carriers.global.tmf640]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))


class Circle:
    """A server before a service activation server that knows its Global profiles, and a listener."""

    def __init__(self, folder, arguments, iccids, carrier):
        self.iccids = [one.iccid for one in iccids]
        folder.mkdir(exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.listener = stack.enter_context(Listener(folder / "callbacks.log"))
            self.server = stack.enter_context(
                Server(folder, arguments.binary, carriers=lambda door: {"global": section(carrier(door))}))
            self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}))
            self.server.import_fleet(iccids)
            self.server.start()
            self.client = self.server.client()
            self.stack = stack.pop_all()

    def ask(self, action, iccids):
        return self.client.act(action, ACCOUNT, iccids)

    def do(self, action, iccids):
        """Asks, waits until all has ended and was told; what the callbacks said, counted."""
        request_id = self.ask(action, iccids).request_id
        self.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        return self.told(request_id)

    def told(self, request_id):
        return Counter(body.get("faultResponse", body).get("faultcode", body["status"])
                       for body in self.bodies(request_id).values())

    def bodies(self, request_id):
        bodies = [json.loads(received.body) for received in self.listener.received()]
        return {body["deviceIds"][-1]["id"]: body for body in bodies if body["requestId"] == request_id}

    def restart(self):
        self.server.kill()
        self.server.start()
        self.client = self.server.client()

    def recorded(self):
        return {one.iccid: one.state for one in self.server.fleet() if one.iccid in set(self.iccids)}

    def agree(self, report, name, mock, state, there):
        recorded, states = self.recorded(), mock.states()
        report.none(f"{name}: the inventory has every profile as {state}",
                    (iccid for iccid in self.iccids if recorded[iccid] != state))
        report.none(f"{name}: tmf-mock agrees, profile by profile",
                    (f"{iccid}: {states[iccid]}" for iccid in self.iccids if states[iccid] != there))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()


def global_fleet(count):
    return [one for one in fleet(ACCOUNT, 3 * count, state="ACTIVE") if one.network == "global"][:count]


@contextlib.contextmanager
def with_mock(folder, arguments, count):
    profiles = global_fleet(count)
    with Mock(folder, arguments.address) as mock:
        mock.create([one.iccid for one in profiles], "active")
        keys = {"url": f"http://{arguments.address}:{PORT}", "base_path": BASE, "lookup": "category={iccid}"}
        with Circle(folder, arguments, profiles, lambda _: keys) as circle:
            yield mock, circle


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    for name, part in (("one", one_profile), ("many", many), ("order", order), ("later", later)):
        if arguments.only in (None, name):
            with scratch(report, f"tmf640-{name}") as folder:
                part(report, arguments, folder, dice)
            report.say(name)


def one_profile(report, arguments, folder, dice):
    with with_mock(folder, arguments, 3) as (mock, circle):
        first, second, gone = circle.iccids
        report.equal("suspended", circle.do("profile_suspend", [first]), Counter({"SUCCESS": 1}))
        states = mock.states()
        report.equal("its service is inactive, the others are not", [states[iccid] for iccid in circle.iccids],
                     ["inactive", "active", "active"])
        report.check("the timeline says that it was done", ": done" in circle.client.called(first)[-1], circle.client.called(first))
        report.equal("the network says what is recorded", circle.client.on_network(first),
                     {"network": "global", "answer": "seen", "inService": False, "agrees": True})
        report.equal("resumed", circle.do("profile_resume", [first]), Counter({"SUCCESS": 1}))
        report.equal("its service is active", mock.states()[first], "active")
        mock.set(second, "inactive")
        report.equal("what others changed there is seen", circle.client.on_network(second),
                     {"network": "global", "answer": "seen", "inService": False, "agrees": False})
        report.equal("and is so already when it is asked for", circle.do("profile_suspend", [second]), Counter({"SUCCESS": 1}))
        report.check("which the timeline says", "already_so" in circle.client.called(second)[-1], circle.client.called(second))
        assert mock.call("DELETE", f"/service/{mock.ids[gone]}")[0] == 204
        report.equal("whom it does not know fails, and nobody else", circle.do("profile_suspend", [first, gone]),
                     Counter({"SUCCESS": 1, "UnifiedWebService.REQUEST_FAILED.CarrierRejected": 1}))
        report.equal("and is not there", circle.client.on_network(gone)["answer"], "no_such_profile")
        refused = circle.ask("enable", [first])
        report.check("what it cannot do is refused", refused.status == 400
                     and "[INPUT_INVALID.Action.NotSupported]" in refused.json["errorMessage"], refused.raw[:300])
        report.equal("it is well", circle.client.carrier("global")["health"], "ok")


def many(report, arguments, folder, dice):
    with with_mock(folder, arguments, arguments.profiles) as (mock, circle):
        for action, state, there in (("profile_suspend", "SUSPEND", "inactive"), ("profile_resume", "ACTIVE", "active")):
            answer = circle.ask(action, circle.iccids)
            for kills in (False, True):
                time.sleep(dice.uniform(0.05, 0.2))
                mock.freeze()
                time.sleep(dice.uniform(0.0, 1.2 * TIMEOUT))
                if kills:
                    circle.restart()
                mock.thaw()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal(f"{action}: every profile is told of once, as done", circle.told(answer.request_id),
                         Counter({"SUCCESS": len(circle.iccids)}))
            circle.agree(report, action, mock, state, there)


def order(report, arguments, folder, dice):
    with with_mock(folder, arguments, 64) as (mock, circle):
        for turn in range(arguments.turns):
            circle.ask("profile_suspend", circle.iccids)
            time.sleep(dice.uniform(0.0, 0.03))
            mock.freeze()
            circle.ask("profile_resume", circle.iccids)
            time.sleep(dice.uniform(0.0, 0.8))
            thaw = threading.Timer(dice.uniform(0.0, 0.3), mock.thaw)
            thaw.start()
            circle.restart()
            thaw.join()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            circle.agree(report, f"turn {turn + 1}", mock, "ACTIVE", "active")


def later(report, arguments, folder, dice):
    profiles = global_fleet(40)
    with Later([one.iccid for one in profiles], "active") as there:
        def keys(door):
            return {"url": f"http://127.0.0.1:{there.port}", "base_path": "/tmf", "ask_after": "60s", "callback_from": ["127.0.0.1/32"],
                    "callback_url": f"http://127.0.0.1:{door}/api/reveille/v1/carriers/global/callbacks"}
        with Circle(folder, arguments, profiles, keys) as circle:
            suspended = circle.ask("profile_suspend", circle.iccids).request_id
            awaits(report, "all are accepted for later", lambda: there.under_way() == set(circle.iccids))
            first = circle.iccids[0]
            awaits(report, "the timeline says so", lambda: "pending" in " ".join(circle.client.called(first)))
            report.equal("nobody is told of yet", circle.told(suspended), Counter())
            forged = {"service": {"id": first, "state": "inactive"}}
            report.equal("an event that is not true is taken", there.tell("serviceStateChangeEvent", forged), 200)
            awaits(report, "and looked into", lambda: sum(there.asked.values()))
            report.equal("and settles nothing", circle.told(suspended), Counter())
            circle.restart()
            awaits(report, "a server that was killed asks what became of each",
                   lambda: len(there.asked) == len(circle.iccids))
            there.have_done(circle.iccids[:30])
            awaits(report, "events wake who waits", lambda: circle.told(suspended)["SUCCESS"] == 30)
            failed = {"statusCode": "422", "body": json.dumps({"code": "9", "reason": "Not provisioned"})}
            there.have_done(circle.iccids[30:], failed)
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            rejected = "UnifiedWebService.REQUEST_FAILED.CarrierRejected"
            report.equal("what failed there is told as failed", circle.told(suspended), Counter({"SUCCESS": 30, rejected: 10}))
            words = {body["faultResponse"]["faultstring"] for body in circle.bodies(suspended).values() if "faultResponse" in body}
            report.check("in its words", all("422 9 Not provisioned" in text for text in words), words)
            report.equal("nothing was asked for twice", set(there.changes.values()), {1})
            report.equal("the door was registered once by each process", [one["callback"] for one in there.hubs],
                         [keys(circle.server.port)["callback_url"]] * 2)
        there.tells = False
        with Circle(folder / "silent", arguments, profiles, lambda door: keys(door) | {"ask_after": "1s"}) as circle:
            request_id = circle.ask("profile_suspend", circle.iccids[30:]).request_id
            awaits(report, "accepted again", lambda: there.under_way() == set(circle.iccids[30:]))
            there.have_done(circle.iccids)
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal("what no event tells is asked for", circle.told(request_id), Counter({"SUCCESS": 10}))


def awaits(report, name, holds):
    deadline = time.monotonic() + AWAKE_WITHIN
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    report.check(name, held)


def main():
    address = f"127.78.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
    arguments = arguments_of(__doc__, argument("--address", default=address, help="a loopback address for tmf-mock"),
                             argument("--profiles", type=int, default=200), argument("--turns", type=int, default=2),
                             argument("--only", choices=("one", "many", "order", "later")))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
