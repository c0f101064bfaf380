#!/usr/bin/env python3
"""Reveille as a gateway: what a customer asks of it is forwarded to a ThingSpace, which a second Reveille plays.

Between that one's callbacks and the gateway lies a relay that loses, doubles and delays them as it is told; before its
API a proxy that holds answers.

1. Every action, through the gateway: upstream agrees, the customer is told, a fault comes in upstream's words, and what
   is so already is no fault. A US profile is suspended with its device.
2. Callbacks are lost, doubled, delayed, and come before the answer to the call that they are of.
3. Sessions and tokens expire all the time: each is renewed, nobody is locked.
4. The password is wrong: the gateway, started again and again and on several nodes, stops before the user is locked;
   nothing fails meanwhile, and all is done when the password is corrected.
5. Gateway and upstream are killed, and upstream is frozen, while thousands of profiles are under way. The customer has
   two listeners, of which one refuses all for a while; both are told everything.
6. Of two nodes one is asked, and callbacks come to the other.
7. So many calls may be made per minute: what is more waits, and nothing fails.
"""

import contextlib
import http.client
import http.server
import json
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from cluster import Cluster
from listener import Listener, without_count
from proxy import Proxy
from report import Report
from server import (ACCOUNT, OWN, PASSWORD, SECRET, USER, Client, Server, apply_text, argument, arguments_of, fleet, run_proof,
                    scratch)
from upstream import DOOR, THEIRS, TIMEOUT, Upstream, forwarding

ENDED_WITHIN = 120.0
LOGIN_FAILURES_MAX = 5  # as ThingSpace has it
LOGINS_MAX = 3  # as Reveille promises
BILLING = "billing"  # a further listener


class Relay:
    """Forwards upstream's callbacks to the gateway, or does not."""

    def __init__(self, dice):
        self.dice = dice
        self.to = None  # the gateway's port
        self.lost = self.doubled = 0.0  # shares
        self.delay = 0.0  # seconds at most
        self.counts = Counter()
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                relay.forward(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # upstream was killed on the way
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forward(self, path, body):
        self.counts["came"] += 1
        if self.dice.random() < self.lost:
            self.counts["lost"] += 1
            return
        for _ in range(2 if self.dice.random() < self.doubled else 1):
            if self.delay:
                threading.Timer(self.dice.uniform(0, self.delay), self.send, (path, body)).start()
            else:
                self.send(path, body)

    def send(self, path, body):
        for _ in range(100):  # as upstream would, but sooner
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.to, timeout=10)
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                status = connection.getresponse().status
                connection.close()
                if status // 100 == 2:
                    self.counts["forwarded"] += 1
                    return
                self.counts[status] += 1
            time.sleep(0.05)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Scene:
    """A gateway, its customer's listener, and the upstream that it forwards to."""

    def __init__(self, folder, arguments, dice, profiles=40, state="ACTIVE", upstream="", password=PASSWORD,
                 ask_after="1s", calls_per_minute=0, **options):
        self.folder, self.arguments = folder, arguments
        self.fleet = fleet(ACCOUNT, profiles, state=state)
        with contextlib.ExitStack() as stack:
            self.relay = Relay(dice)
            stack.callback(self.relay.close)
            self.listener = stack.enter_context(Listener(folder / "callbacks.log"))
            self.billing = stack.enter_context(Listener(folder / "billing.log"))
            self.upstream = stack.enter_context(Upstream(folder / "upstream", arguments.binary, more=upstream))
            self.upstream.take(self.fleet)
            self.upstream.start()
            self.proxy = stack.enter_context(Proxy(self.upstream.port))
            carriers = forwarding(self.proxy.port, self.relay.port, password, ask_after, calls_per_minute)
            self.server = stack.enter_context(Server(folder / "gateway", arguments.binary, carriers=carriers, **options))
            self.relay.to = self.server.port
            further = [(ACCOUNT, BILLING, self.billing.url("/ok"))]
            self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}, further=further))
            self.server.import_fleet(self.fleet)
            self.server.start()
            self.client, self.there = self.server.client(), self.upstream.client()
            self.stack = stack.pop_all()

    def iccids(self, network=None):
        return [one.iccid for one in self.fleet if network in (None, one.network)]

    def act(self, action, iccids, **options):
        return self.client.act(action, ACCOUNT, iccids, **options).request_id

    def on_devices(self, action, eids):
        devices = [{"deviceIds": [{"kind": "eid", "id": eid}]} for eid in eids]
        return self.client.call("POST", f"/api/m2m/v1/devices/profile/actions/{action}",
                                {"devices": devices, "accountName": ACCOUNT}).request_id

    def ended(self, request_id):
        """What was told of a request that has ended, by last identifier."""
        self.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        bodies = [json.loads(received.body) for received in self.listener.received()]
        return {body["deviceIds"][-1]["id"]: body for body in bodies if body["requestId"] == request_id}

    def told(self, request_id):
        return Counter(body.get("faultResponse", body).get("faultcode", body["status"])
                       for body in self.ended(request_id).values())

    def agree(self, report, name, state=None):
        """Both inventories, profile by profile."""
        ours = {one.iccid: (one.state, one.profile_status, one.service_plan) for one in self.server.fleet()}
        theirs = {one.iccid: (one.state, one.profile_status, one.service_plan) for one in self.upstream.fleet()}
        report.none(f"{name}: upstream agrees, profile by profile",
                    (f"{iccid}: {ours[iccid]} here, {theirs[iccid]} there" for iccid in ours if ours[iccid] != theirs[iccid]))
        if state:
            report.none(f"{name}: every profile is {state}", (iccid for iccid in ours if ours[iccid][0] != state))

    def calls_there(self, call):
        """How often upstream was called so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream.port, timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return sum(int(float(line.split()[1])) for line in lines
                   if line.startswith("reveille_") and f'call="{call}"' in line and "_total" in line)

    def user_is_locked(self):
        return any(USER in line and "locked" in line for line in self.upstream.command("users", "list").splitlines())

    def close(self):
        self.stack.close()


@contextlib.contextmanager
def scene(*arguments, **options):
    made = Scene(*arguments, **options)
    try:
        yield made
    finally:
        made.close()


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    for name, part in (("actions", actions), ("callbacks", callbacks), ("early", early), ("sessions", sessions), ("lockout", lockout),
                       ("kills", kills), ("nodes", two_nodes), ("quota", quota)):
        if arguments.only in (None, name):
            with scratch(report, f"gateway-{name}") as folder:
                part(report, arguments, folder, dice)


def actions(report, arguments, folder, dice):
    with scene(folder, arguments, dice) as at:
        glob, lead = at.iccids("global"), at.iccids("verizon-us")
        one = glob[0]
        report.equal("suspended", at.told(at.act("profile_suspend", glob)), Counter({"SUCCESS": len(glob)}))
        at.agree(report, "suspended")
        report.equal("the timeline says that it was accepted, and then done",
                     [("pending" in text, "done" in text) for text in at.client.called(one)], [(True, False), (False, True)])
        there = at.there.act("profile_resume", THEIRS, [one])
        report.equal("somebody resumes one upstream", there.status, 200)
        at.there.wait_ended(THEIRS, ENDED_WITHIN)
        report.equal("resumed; what was so already too", at.told(at.act("profile_resume", glob)),
                     Counter({"SUCCESS": len(glob)}))
        report.check("which the timeline says", "already_so" in " ".join(at.client.called(one)), at.client.called(one))
        at.agree(report, "resumed", "ACTIVE")
        eids = [one.eid for one in at.fleet[:6]]
        on_them = [one.iccid for one in at.fleet if one.eid in eids]
        told = at.ended(at.on_devices("device_suspend", eids))
        report.equal("devices are suspended, each profile and each device told of",
                     (len(told), {body["status"] for body in told.values()}), (len(on_them) + len(set(eids)), {"SUCCESS"}))
        at.agree(report, "devices suspended")
        told = at.ended(at.on_devices("device_resume", eids))
        report.equal("and resumed", {body["status"] for body in told.values()}, {"SUCCESS"})
        at.agree(report, "devices resumed", "ACTIVE")
        for action in ("deactivate", "activate", "enable"):
            report.equal(action, at.told(at.act(action, [one])), Counter({"SUCCESS": 1}))
            at.agree(report, action)
        # What upstream does not have, of a bulk of which it has the rest.
        stranger = fleet(ACCOUNT, 1, first=9_000, state="ACTIVE")[0]
        stranger = stranger._replace(network="global", role="LOCAL", iccid="89445009999999999999", suspended_by="")
        at.server.import_fleet([stranger], "stranger.csv")
        told = at.ended(at.act("profile_suspend", [stranger.iccid, *glob[1:4]]))
        report.equal("what upstream does not have fails in its words", told[stranger.iccid]["faultResponse"],
                     {"faultcode": "UnifiedWebService.REQUEST_FAILED.DeviceNotFound",
                      "faultstring": "REQUEST_FAILED. Device is not found"})
        report.equal("and nothing else does", Counter(body["status"] for body in told.values()),
                     Counter({"SUCCESS": 3, "Failed": 1}))
        # Many at once become few.
        before = at.calls_there("profile_resume") + at.calls_there("profile_suspend")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda iccid: at.client.twin().act("profile_resume", ACCOUNT, [iccid]), glob[1:4] * 20))
        at.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        made = at.calls_there("profile_resume") + at.calls_there("profile_suspend") - before
        report.check("requests for single profiles are made together", made < 30, made)
        door(report, at)
        report.equal("no secret is in the log", [word for word in (SECRET, PASSWORD, DOOR[1]) if word in at.server.log.read_text()], [])


def door(report, at):
    """The route of callbacks takes them from upstream alone."""
    body = {"requestId": "d1f08526-5443-4054-9a29-4456490ea9f8", "deviceIds": [{"id": at.iccids()[0], "kind": "Iccid"}],
            "status": "SUCCESS", "callbackCount": 1, "maxCallbackThreshold": 4}
    path = "/api/reveille/v1/carriers/global/callbacks"
    bare = Client(at.server.port)

    def status(body, to=path):
        return bare.call("POST", to, body).status

    known = {"username": DOOR[0], "password": DOOR[1]}
    report.equal("a callback with the credentials is kept, one without is not",
                 [status(body | known), status(body), status(body | known | {"password": "x"})], [200, 401, 401])
    report.equal("what is none is refused", [status(b"[]"), status(b"{}"), status(b"\xff"), status(b"")], [400] * 4)
    report.equal("so is a network that there is not", status(body | known, path.replace("global", "mars")), 404)


def callbacks(report, arguments, folder, dice):
    with scene(folder, arguments, dice, profiles=arguments.profiles) as at:
        everything = at.iccids("global")
        for name, lost, doubled, delay in (("lost", 1.0, 0.0, 0.0), ("half lost, doubled, late", 0.5, 0.5, 2.0),
                                           ("all there", 0.0, 0.0, 0.0)):
            at.relay.lost, at.relay.doubled, at.relay.delay = lost, doubled, delay
            asked = at.calls_there("status_v2")
            for action, state in (("profile_suspend", "SUSPEND"), ("profile_resume", "ACTIVE")):
                began = time.monotonic()
                report.equal(f"{name}: {action}", at.told(at.act(action, everything)), Counter({"SUCCESS": len(everything)}))
                report.say(f"{name}: {action} of {len(everything)} in {time.monotonic() - began:.2f} s")
            at.agree(report, name, "ACTIVE")
            asked = at.calls_there("status_v2") - asked
            report.check(f"{name}: upstream is asked where it must be", (asked > 0) == (lost > 0), asked)


def early(report, arguments, folder, dice):
    """A callback comes before the answer to the call that it is of: the proxy holds what upstream answers."""
    with scene(folder, arguments, dice, ask_after="10m") as at:
        one = at.iccids("global")[0]
        report.equal("one, so that all is open", at.told(at.act("profile_suspend", [one])), Counter({"SUCCESS": 1}))
        came = at.relay.counts["forwarded"]
        at.proxy.stall(answers_only=True)
        request = at.act("profile_resume", [one])
        deadline = time.monotonic() + 2.0
        while at.relay.counts["forwarded"] == came and time.monotonic() < deadline:
            time.sleep(0.01)
        report.check("the callback is there before the answer", at.relay.counts["forwarded"] > came
                     and at.client.request(request)["state"] != "ended", at.relay.counts)
        at.proxy.resume()
        report.equal("and counts when that comes", at.told(request), Counter({"SUCCESS": 1}))
        report.equal("without a question", at.calls_there("status_v2"), 0)
        at.agree(report, "at last", "ACTIVE")


def sessions(report, arguments, folder, dice):
    short = '[sessions]\ntoken_life = "2s"\nidle = "1s"\nlogin_failures_max = %d\n' % LOGIN_FAILURES_MAX
    with scene(folder, arguments, dice, upstream=short) as at:
        everything = at.iccids("global")
        for turn in range(6):
            action = ("profile_suspend", "profile_resume")[turn % 2]
            report.equal(f"turn {turn + 1}: {action}", at.told(at.act(action, everything)), Counter({"SUCCESS": len(everything)}))
            time.sleep(dice.uniform(0.5, 1.5))
        report.check("sessions were renewed", at.calls_there("login") >= 3, at.calls_there("login"))
        report.check("and the user is not locked", not at.user_is_locked())


def lockout(report, arguments, folder, dice):
    with Cluster() as cluster:
        shared = {"database": cluster.database(), "key": "cd" * 32, "before": 'database_lease = "6s"\n'}
        strict = "[sessions]\nlogin_failures_max = %d\n" % LOGIN_FAILURES_MAX
        with scene(folder, arguments, dice, upstream=strict, password="wrong", **shared) as at:
            singles, everything = at.iccids("global")[:9], at.iccids("global")[9:]
            request = at.act("profile_suspend", everything)
            others = [Server(folder / f"node-{number}", arguments.binary,
                             carriers=forwarding(at.proxy.port, at.relay.port, "wrong"), **shared) for number in range(2)]
            with contextlib.ExitStack() as stack:
                for other in others:
                    stack.enter_context(other)
                    other.start()
                for turn in range(3):
                    for number, node in enumerate((at.server, *others)):
                        node.kill()
                        node.start()
                        node.client().act("profile_suspend", ACCOUNT, [singles[3 * turn + number]])
                        time.sleep(0.3)
            at.client = at.server.client()
            state = at.client.request(request)
            report.equal("with a wrong password nothing fails", (state["failed"], state["succeeded"]), (0, 0))
            tried = at.calls_there("login") - 1  # one is the scene's own
            report.say(f"{tried} logins by three nodes that were started ten times")
            report.check("the user was tried, and not so often that it is locked",
                         0 < tried <= LOGINS_MAX and not at.user_is_locked(), tried)
            deadline = time.monotonic() + 15
            while (carrier := at.client.carrier("global"))["health"] != "down" and time.monotonic() < deadline:
                time.sleep(0.1)
            report.check("the carrier says what to do", "thingspace.password" in carrier.get("trouble", ""), carrier)
            at.server.kill()
            right = Server(folder / "right", arguments.binary, carriers=forwarding(at.proxy.port, at.relay.port), **shared)
            with right:
                right.start()
                at.relay.to, at.client = right.port, right.client()
                report.equal("with the right one all is done", at.told(request), Counter({"SUCCESS": len(everything)}))
                at.server = right
                at.agree(report, "afterwards")


def kills(report, arguments, folder, dice):
    with scene(folder, arguments, dice, profiles=arguments.profiles) as at:
        at.relay.lost, at.relay.doubled, at.relay.delay = 0.1, 0.1, 0.5
        everything = at.iccids("global")
        at.billing.answer(503)
        for action, state in (("profile_suspend", "SUSPEND"), ("profile_resume", "ACTIVE")):
            request = at.act(action, everything)
            for number in range(arguments.kills):
                time.sleep(dice.uniform(0.05, 0.5))
                if number % 3 == 2:  # past the time that a call has
                    at.upstream.process.send_signal(signal.SIGSTOP)
                    time.sleep(TIMEOUT + 1.0)
                    at.upstream.process.send_signal(signal.SIGCONT)
                    continue
                victim = (at.server, at.upstream)[number % 2]
                victim.kill()
                victim.start()
            at.client = at.server.client()
            report.equal(f"{action}: every profile is told of once, as done", at.told(request),
                         Counter({"SUCCESS": len(everything)}))
            at.agree(report, action)
            report.check("the own listener waited for no other", not tells(at.billing, request))
            at.billing.answer()
            at.client.wait_told(ACCOUNT, BILLING, ENDED_WITHIN)  # archived, most of it
            at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT, "listener": BILLING})
            at.client.wait_told(ACCOUNT, BILLING, ENDED_WITHIN)
            report.equal(f"{action}: the other is told the same", tells(at.billing, request), tells(at.listener, request))
            at.billing.answer(503)


def tells(listener, request_id):
    """What a listener acknowledged of a request, each once."""
    return {without_count(received.body) for received in listener.received()
            if received.status == 200 and request_id.encode() in received.body}


def two_nodes(report, arguments, folder, dice):
    with Cluster() as cluster:
        shared = {"database": cluster.database(), "key": "ef" * 32, "before": 'database_lease = "6s"\n'}
        with scene(folder, arguments, dice, profiles=200, ask_after="5m", **shared) as at:
            everything = at.iccids("global")
            carriers = forwarding(at.proxy.port, at.relay.port, ask_after="5m")
            with Server(folder / "other", arguments.binary, carriers=carriers, **shared) as other:
                other.start()
                at.relay.to = other.port
                began = time.monotonic()
                report.equal("callbacks that come to another node count", at.told(at.act("profile_suspend", everything)),
                             Counter({"SUCCESS": len(everything)}))
                report.say(f"{len(everything)} profiles in {time.monotonic() - began:.2f} s, heard of by the other node")
                report.equal("without a question", at.calls_there("status_v2"), 0)
                at.agree(report, "by way of another node")


def quota(report, arguments, folder, dice):
    per_minute = 30
    with scene(folder, arguments, dice, ask_after="5m", calls_per_minute=per_minute) as at:
        began, one = time.monotonic(), at.iccids("global")[0]
        told = [at.told(at.act(("profile_suspend", "profile_resume")[turn % 2], [one])) for turn in range(per_minute)]
        took = time.monotonic() - began
        made = sum(at.calls_there(call) for call in ("token", "login", "listener_list", "listener_register", "profile_suspend",
                                                     "profile_resume")) - 2  # the scene's own
        report.equal("what is beyond the quota waits, and nothing fails", Counter(map(str, told)),
                     Counter({str(Counter({"SUCCESS": 1})): per_minute}))
        report.check("no more calls were made than may be", made <= per_minute * (1 + took / 60) + 1, made, took)
        report.check("and it was reached", made > per_minute, made)
        report.say(f"{made} calls in {took:.1f} s at {per_minute} a minute")
        at.agree(report, "within the quota", "ACTIVE")


def main():
    arguments = arguments_of(__doc__, argument("--profiles", type=int, default=1_000), argument("--kills", type=int, default=4),
                             argument("--only", choices=("actions", "callbacks", "early", "sessions", "lockout", "kills", "nodes", "quota")))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
