#!/usr/bin/env python3
"""What becomes of requests, callbacks, listeners, users and files in the course of their lives.

Cancelling, holding and releasing a carrier, replays, listeners that change or go, event streams, passwords
and lock-outs, logging out, revoking a token, fleet and apply files, the command line, graceful stops, the
store's lock and key.
Each part has a server of its own; --only runs those whose name contains a word.
"""

import contextlib
import csv
import http.client
import io
import json
import random
import re
import threading
import time
import uuid
from collections import Counter, defaultdict

from journal import read_journal
from listener import without_count
from report import Report
from scene import scene
from server import (ACCOUNT, KEY, OWN, PASSWORD, SECRET, SERVICE, US_PLAN, USER, Client, NoAnswer, Profile, Server,
                    apply_text, argument, arguments_of, basic, fleet, free_port, run_proof, scratch, write_fleet)
from workload import Workload

NETWORKS = ("verizon-us", "global")
LISTENERS = f"/api/m2m/v1/callbacks/{ACCOUNT}"
LOGIN = "/api/m2m/v1/session/login"
LOGOUT = "/api/m2m/v1/session/logout"
RESET = "/api/m2m/v1/session/password/actions/reset"
TOKEN, REVOKE = "/api/ts/v1/oauth2/token", "/api/ts/v1/oauth2/revoke"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CANCELLED = "REQUEST_CANCELLED"
ALREADY = "REQUEST_FAILED.ProfileAlreadyResumed"
SOON = ("100ms", "100ms", "100ms")
QUIET_FOR = 0.7  # seconds in which nothing more may come
NOTICED_WITHIN = 15.0  # seconds in which a running server sees what another process wrote
FOLLOWERS, FOLLOWED = 16, 1_600  # who open event streams at once, and how many
STREAM_WITHIN = 30.0  # seconds for the next event of a stream, when all has happened
STOPPED_WITHIN = 20.0  # seconds from SIGTERM to the end, whatever is under way: stop_within and as much again
SOON_STOPPED = 8.0  # less than stop_within: nothing was waited for to no end


# What the parts share

def hold(at, networks=NETWORKS, verb="hold"):
    return [at.client.call("POST", f"{OWN}/carriers/{network}/{verb}") for network in networks]


def register(at, path, username=None, password=None):
    body = {"name": SERVICE, "url": at.listener.url(path)}
    body |= {name: value for name, value in (("username", username), ("password", password)) if value}
    answer = at.client.call("POST", LISTENERS, body)
    assert answer.status == 200, answer


def within(seconds, happened):
    """Whether (and what) `happened` gives before time is up."""
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def sends(at, request_id=None, path=""):
    """What the listener received: ICCID → (`Received`, body) in order."""
    by_iccid = defaultdict(list)
    for received in at.listener.received():
        body = json.loads(received.body)
        if received.path.startswith(path) and request_id in (None, body["requestId"]):
            by_iccid[body["deviceIds"][-1]["id"]].append((received, body))
    return by_iccid


def counts(some):
    return [body["callbackCount"] for _, body in some]


def bare(body):
    """A callback's bytes without what may differ between its sends."""
    return re.sub(rb'"(username|password)":"[^"]*",', b"", without_count(body))


def states(at, iccids):
    profiles = {profile["iccid"]: profile for profile in at.client.profiles(ACCOUNT)}
    return Counter((profiles[iccid]["state"], profiles[iccid]["inDoubt"]) for iccid in iccids)


def detail(at, request_id, number):
    return at.client.get(f"{OWN}/callbacks/{request_id}.{number}")


# Cancelling

def cancel_while_held(report, at):
    hold(at)
    iccids = at.iccids(1_000)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    time.sleep(0.3)
    report.equal("under a hold all of a request waits", at.client.request(request_id)["waiting"], 1_000)
    answer = at.client.call("POST", f"{OWN}/requests/{request_id}/cancel")
    report.check("a cancellation is answered with the request", answer.status == 200 and answer.json["cancelled"]
                 and answer.json["requestId"] == request_id, answer)
    request = at.ended(request_id)
    report.equal("all of it ends as cancelled, while the carriers are held",
                 (request["state"], request["waiting"], request["succeeded"], request["failed"], request["faults"]),
                 ("ended", 0, 0, 1_000, {CANCELLED: 1_000}))
    report.equal("… and is told", request["callbacks"], {"waiting": 0, "delivered": 1_000, "archived": 0})
    told = sends(at, request_id)
    report.equal("… once for each profile, as failed", Counter((len(some), some[0][1]["status"], some[0][1]["faultResponse"]["faultcode"])
                                                              for some in told.values()),
                 Counter({(1, "Failed", f"UnifiedWebService.{CANCELLED}"): 1_000}))
    report.equal("… and listed by its fault", len(at.client.subrequests(request_id, f"?fault={CANCELLED}")), 1_000)
    report.equal("the carriers are still held, with nothing begun",
                 [(one["held"], one["begun"]) for one in at.client.get(f"{OWN}/carriers")["carriers"]], [(True, 0)] * 2)
    report.equal("no profile was touched", states(at, iccids), Counter({("SUSPEND", False): 1_000}))
    report.equal("its status is Failed", at.client.get(f"/api/m2m/v2/accounts/{ACCOUNT}/requests/{request_id}/status")["status"], "Failed")
    again = at.client.call("POST", f"{OWN}/requests/{request_id}/cancel")
    report.equal("cancelling again changes nothing", (again.status, again.json), (200, at.client.request(request_id)))
    after = at.iccids(10)
    later = at.client.resume(ACCOUNT, after).request_id
    hold(at, verb="release")
    report.equal("what was accepted afterwards is done when the carriers are released", at.ended(later)["succeeded"], 10)
    report.equal("… and the cancelled is not", states(at, iccids), Counter({("SUSPEND", False): 1_000}))
    answer = at.client.call("POST", f"{OWN}/requests/{later}/cancel")
    report.equal("cancelling what has ended changes nothing", (answer.status, answer.json), (200, at.client.request(later)))
    report.equal("a cancelled profile can be resumed", at.ended(at.client.resume(ACCOUNT, iccids).request_id)["succeeded"], 1_000)
    report.equal("all in all one callback for each outcome", sum(map(len, sends(at).values())), 2_010)


def cancel_midway(report, at):
    iccids = at.iccids(1_000)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    before = within(60, lambda: (now := at.client.request(request_id))["succeeded"] >= 100 and now)
    answer = at.client.call("POST", f"{OWN}/requests/{request_id}/cancel").json
    report.check("only what was begun still waits when a cancellation is answered", answer["waiting"] <= 100, before, answer)
    request = at.ended(request_id)
    report.equal("what was begun finished, the rest is cancelled",
                 (request["succeeded"] + request["failed"], request["faults"]), (1_000, {CANCELLED: request["failed"]}))
    report.check("nothing more was begun then", before["succeeded"] <= answer["succeeded"] <= request["succeeded"]
                 <= answer["succeeded"] + answer["waiting"] and request["failed"] > 0, before, answer, request)
    told = sends(at, request_id)
    outcomes = {sub["iccid"]: sub["state"] for sub in at.client.subrequests(request_id)}
    words = {"succeeded": "SUCCESS", "failed": "Failed"}
    report.equal("each is told once", Counter(map(len, told.values())), Counter({1: 1_000}))
    report.none("… as it ended", (iccid for iccid in iccids if words[outcomes[iccid]] != told[iccid][0][1]["status"]))
    by_outcome = {state: [iccid for iccid in iccids if outcomes[iccid] == state] for state in words}
    report.equal("the finished are active, the cancelled suspended, none in doubt",
                 (states(at, by_outcome["succeeded"]), states(at, by_outcome["failed"])),
                 (Counter({("ACTIVE", False): request["succeeded"]}), Counter({("SUSPEND", False): request["failed"]})))


def cancel_after_crash(report, at):
    """Two requests for the same profiles; the second is cancelled while the first is under way again after a crash."""
    iccids = at.iccids(4_000)
    first = at.client.resume(ACCOUNT, iccids).request_id
    second = at.client.resume(ACCOUNT, iccids[::-1]).request_id
    time.sleep(0.2)
    at.restart(kill=True)
    time.sleep(0.3)
    at.client.call("POST", f"{OWN}/requests/{second}/cancel")
    one, two = at.ended(first), at.ended(second)
    report.equal("the first request succeeds", (one["succeeded"], one["failed"]), (4_000, 0))
    report.check("the second is cancelled, but for what had its turn", two["succeeded"] == 0 and two["failed"] == 4_000
                 and set(two["faults"]) <= {CANCELLED, ALREADY} and two["faults"].get(CANCELLED, 0) > 0, two)
    now = states(at, iccids)
    doubtful = sum(n for (_, in_doubt), n in now.items() if in_doubt)
    report.equal("every profile is recorded as the first request left it", {state for state, _ in now}, {"ACTIVE"})
    if any(state == "SUSPEND" for state, _ in now):
        report.say(f"recorded as (state, in doubt): {dict(now)}")
    third = at.ended(at.client.resume(ACCOUNT, iccids).request_id)
    report.check("the next resume settles all doubt", third["succeeded"] <= doubtful and
                 third["faults"].get(ALREADY, 0) == third["failed"], f"{doubtful} in doubt", third)
    report.equal("… after which no profile is in doubt", states(at, iccids), Counter({("ACTIVE", False): 4_000}))
    report.say(f"cancelled after a crash: {two['faults']}, {doubtful} profiles were in doubt")


def cancel_cut_off(report, at):
    """The server dies while a cancellation is on its way; what of it is durable goes on by itself, under a hold too."""
    dice = random.Random(1)
    hold(at)
    iccids = at.iccids(10_000)
    cut_off, stuck, odd = 0, [], []
    for _ in range(5):
        request_id = at.client.resume(ACCOUNT, iccids).request_id
        cancelling = threading.Thread(target=cancel_unheard, args=(at.client.twin(), request_id))
        cancelling.start()
        time.sleep(dice.uniform(0.01, 0.08))
        at.restart(kill=True)
        cancelling.join()
        request = at.client.request(request_id)
        if request["cancelled"]:
            cut_off += request["waiting"] > 0
            request = at.ended(request_id, 30)
            if request["faults"] != {CANCELLED: 10_000}:
                stuck.append(request)
        elif request["waiting"] != 10_000:
            odd.append(request)
        at.client.call("POST", f"{OWN}/requests/{request_id}/cancel")
        request = at.ended(request_id)
        if request["faults"] != {CANCELLED: 10_000} or request["callbacks"]["delivered"] != 10_000:
            odd.append(request)
    report.none("a cancellation that was cut off goes on after the start, while the carriers are held", stuck)
    report.none("… and one that was not kept does nothing, until it is repeated", odd)
    report.equal("no profile was touched", {state for state, _ in states(at, iccids)}, {"SUSPEND"})
    report.say(f"{cut_off} of 5 cancellations were cut off halfway")


def cancel_unheard(client, request_id):
    with contextlib.suppress(NoAnswer):
        client.call("POST", f"{OWN}/requests/{request_id}/cancel")


# Holding

def hold_and_release(report, at):
    answers = hold(at)
    report.equal("an operator holds the carriers", [answer.status for answer in answers], [200, 200])
    iccids = at.iccids(500)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    time.sleep(1)
    report.equal("nothing is begun meanwhile", (at.client.request(request_id)["waiting"], len(sends(at))), (500, 0))
    waiting = []
    for _ in range(4):
        at.restart(kill=True)
        time.sleep(0.2)
        waiting.append(at.client.request(request_id)["waiting"])
    report.equal("a hold outlives crashes, from the first instant on", (list(held(at).values()), waiting), ([True, True], [500] * 4))
    hold(at, verb="release")
    report.equal("released, all is done", at.ended(request_id)["succeeded"], 500)

    at.server.command("carriers", "hold", "verizon-us")
    report.check("a running server notices a hold by the command line", within(NOTICED_WITHIN, lambda: held(at)["verizon-us"]))
    report.check("… which lists it", re.search(r"verizon-us\s+held", at.server.command("carriers", "list")))
    us, _, other = at.iccids(5, "verizon-us"), at.iccids(5, "global"), at.iccids(5, "global")  # on different devices
    request_id = at.client.resume(ACCOUNT, us + other).request_id
    within(60, lambda: at.client.request(request_id)["waiting"] == 5)
    time.sleep(0.3)
    report.equal("the other carrier goes on", {sub["iccid"] for sub in at.client.subrequests(request_id, "?state=succeeded")}, set(other))
    at.server.command("carriers", "release", "verizon-us")
    report.equal("released by the command line, all is done", at.ended(request_id)["succeeded"], 10)
    report.check("a network that there is not is refused",
                 at.server.run("carriers", "hold", "mars", "--config", str(at.server.config)).returncode != 0)


def held(at):
    return {one["network"]: one["held"] for one in at.client.get(f"{OWN}/carriers")["carriers"]}


# Replays and listeners

def replays(report, at):
    register(at, "/status/500/first", "one", "secret-one")
    requests = {}
    for name, count in (("a", 3), ("b", 2), ("c", 1)):
        requests[name] = at.client.resume(ACCOUNT, at.iccids(count)).request_id
        at.ended(requests[name])
        time.sleep(0.05)  # so that a window can tell them apart
    a, b, c = requests.values()
    report.equal("a refused callback is sent four times", Counter(tuple(counts(some)) for some in sends(at).values()), Counter({(1, 2, 3, 4): 6}))
    report.equal("… and archived", [at.client.request(one)["callbacks"]["archived"] for one in (a, b, c)], [3, 2, 1])
    time.sleep(QUIET_FOR)
    report.equal("… and not sent any more", sum(map(len, sends(at).values())), 24)
    gaps = [later.at - earlier.at for some in sends(at).values() for (earlier, _), (later, _) in zip(some, some[1:])]
    report.check("… after 100 ms each", min(gaps) >= 0.095 and max(gaps) < 15, min(gaps), max(gaps))
    one = detail(at, a, 1)
    report.equal("it says so of itself", (one["state"], one["archived"], one["series"], one["callbackCount"], one["maxCallbackThreshold"]),
                 ("archived", "exhausted", 1, 4, 4))
    report.equal("… with every attempt", [(try_["series"], try_["callbackCount"], try_.get("status")) for try_ in one["attempts"]],
                 [(1, count, 500) for count in (1, 2, 3, 4)])
    body = json.loads(sends(at, a)[one["iccid"]][0][0].body)
    report.equal("the listener's credentials stand first", list(body.items())[:2], [("username", "one"), ("password", "secret-one")])
    first_bytes = {iccid: bare(some[0][0].body) for iccid, some in sends(at).items()}

    register(at, "/ok/second", "two", "secret-two")
    time.sleep(QUIET_FOR)
    report.equal("a new listener alone replays nothing", len(sends(at, path="/ok/second")), 0)

    def replay(name, answer, request_id, expected):
        report.equal(f"a replay {name} says how many", (answer.status, answer.json), (200, {"replayed": expected}))
        request = at.ended(request_id)
        return request["callbacks"]

    left = replay("of one callback", at.client.call("POST", f"{OWN}/callbacks/{a}.1/replay"), a, 1)
    report.equal("… it is delivered, the others stay archived", left, {"waiting": 0, "delivered": 1, "archived": 2})
    left = replay("of a request", at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT, "requestId": a}), a, 2)
    report.equal("… takes the archived ones", left, {"waiting": 0, "delivered": 3, "archived": 0})
    recorded = {name: sorted(one["recordedAt"] for one in at.client.callbacks(ACCOUNT, f"&requestId={requests[name]}")) for name in requests}
    window = {"account": ACCOUNT, "from": recorded["b"][0], "to": recorded["c"][0]}
    left = replay("of a window", at.client.call("POST", f"{OWN}/callbacks/replay", window), b, 2)
    report.equal("… takes what was recorded in it", (left, at.client.request(c)["callbacks"]["archived"]),
                 ({"waiting": 0, "delivered": 2, "archived": 0}, 1))
    done = at.server.customer("callbacks", "replay", "--request", c)
    report.check("a replay by the command line", done.returncode == 0 and "1 callbacks" in done.stdout, done)
    report.equal("… delivers the last", at.ended(c)["callbacks"], {"waiting": 0, "delivered": 1, "archived": 0})

    second = sends(at, path="/ok/second")
    report.equal("each came once more, counted from 1", Counter(tuple(counts(some)) for some in second.values()), Counter({(1,): 6}))
    report.none("… the same bytes but for the count and the credentials",
                (f"{some[0][0].body!r}, first {first_bytes[iccid]!r}" for iccid, some in second.items()
                 if bare(some[0][0].body) != first_bytes[iccid]))
    report.equal("… with the new credentials", {(some[0][1]["username"], some[0][1]["password"]) for some in second.values()}, {("two", "secret-two")})
    one = detail(at, a, 1)
    report.equal("it is delivered as series 2", (one["state"], one["series"], one["callbackCount"]), ("delivered", 2, 1))
    report.equal("… with the attempts of both series", [(try_["series"], try_["callbackCount"], try_.get("status")) for try_ in one["attempts"]],
                 [(1, count, 500) for count in (1, 2, 3, 4)] + [(2, 1, 200)])

    report.equal("what was delivered is not replayed as archived",
                 at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT, "requestId": c}).json, {"replayed": 0})
    register(at, "/status/404/third")
    replay("of what was delivered", at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT, "requestId": c, "state": "ended"}), c, 1)
    one = detail(at, c, 1)
    report.equal("refused again, it is archived again, as series 3", (one["state"], one["series"], one["callbackCount"]), ("archived", 3, 4))
    report.equal("… after four attempts of that series", [try_["callbackCount"] for try_ in one["attempts"] if try_["series"] == 3], [1, 2, 3, 4])
    at.restart(kill=True)
    one_again = detail(at, c, 1)
    report.equal("a crash changes none of it", one_again, one)
    time.sleep(QUIET_FOR)
    report.equal("… and sends none of it", sum(map(len, sends(at).values())), 24 + 6 + 4)


def listener_changes(report, at):
    register(at, "/status/500/one", "user-one", "password-one")
    iccid, = at.iccids(1)
    request_id = at.client.resume(ACCOUNT, [iccid]).request_id
    within(60, lambda: sends(at, request_id))
    register(at, "/ok/two", "user-two", "password-two")
    request = at.ended(request_id)
    some = sends(at, request_id)[iccid]
    report.equal("the next attempt goes to the listener that is registered then",
                 [(received.path, body["callbackCount"], body["username"], body["password"]) for received, body in some],
                 [("/status/500/one", 1, "user-one", "password-one"), ("/ok/two", 2, "user-two", "password-two")])
    report.check("… with the same bytes but for the count and the credentials", len({bare(received.body) for received, _ in some}) == 1, some)
    report.equal("… and is delivered", request["callbacks"]["delivered"], 1)

    register(at, "/status/503/three")
    iccid, = at.iccids(1)
    request_id = at.client.resume(ACCOUNT, [iccid]).request_id
    within(60, lambda: sends(at, request_id))
    report.equal("a listener is deregistered", at.client.call("DELETE", f"{LISTENERS}/name/{SERVICE}").status, 200)
    at.ended(request_id)
    one = detail(at, request_id, 1)
    report.equal("what waited for its next attempt is archived without one", (one["state"], one.get("archived"), counts(sends(at, request_id)[iccid])),
                 ("archived", "no_listener", [1]))

    at.server.apply(apply_text({ACCOUNT: at.listener.url("/ok/four")}))
    time.sleep(2.5)  # a second is what a running server may take to see it
    iccid, = at.iccids(1)
    request_id = at.client.resume(ACCOUNT, [iccid]).request_id
    at.ended(request_id)
    report.equal("a running server goes by the listener that `apply` set", [received.path for received, _ in sends(at, request_id)[iccid]], ["/ok/four"])

    for status, acknowledged in ((201, True), (204, True), (299, True), (302, False), (404, False)):
        register(at, f"/status/{status}/x")
        iccid, = at.iccids(1)
        request_id = at.client.resume(ACCOUNT, [iccid]).request_id
        if acknowledged:
            report.equal(f"{status} acknowledges", at.ended(request_id)["callbacks"]["delivered"], 1)
        else:
            report.check(f"{status} does not acknowledge", within(60, lambda: len(sends(at, request_id).get(iccid, ())) >= 2))
    report.equal("redirects are not followed", sends(at, path="/ok/redirected"), {})


def nobody_listens(report, at):
    iccids = at.iccids(3)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    request = at.ended(request_id)
    report.equal("without a listener a request runs, and its callbacks are archived at once",
                 (request["succeeded"], request["callbacks"]), (3, {"waiting": 0, "delivered": 0, "archived": 3}))
    one = detail(at, request_id, 1)
    report.equal("… for that reason, unsent", (one["state"], one["archived"], one["series"], one["callbackCount"], one["attempts"]),
                 ("archived", "no_listener", 1, 0, []))
    report.equal("its status can be asked for", at.client.get(f"/api/m2m/v2/accounts/{ACCOUNT}/requests/{request_id}/status")["status"], "Success")
    register(at, "/ok")
    time.sleep(QUIET_FOR)
    report.equal("registering replays nothing by itself", sends(at), {})
    answer = at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT, "requestId": request_id})
    report.equal("a replay after registration", (answer.status, answer.json), (200, {"replayed": 3}))
    report.equal("… delivers", at.ended(request_id)["callbacks"], {"waiting": 0, "delivered": 3, "archived": 0})
    report.equal("… each once, counted from 1", sorted((iccid, counts(some)) for iccid, some in sends(at).items()),
                 sorted((iccid, [1]) for iccid in iccids))
    report.equal("… as series 2", detail(at, request_id, 1)["series"], 2)
    replayed = at.client.call("POST", f"{OWN}/callbacks/replay", {"account": ACCOUNT})
    report.equal("a replay of all that is archived, when nothing is", (replayed.status, replayed.json), (200, {"replayed": 0}))


# Events

class Stream:
    """A request's server-sent events, one by one."""

    def __init__(self, client, request_id):
        self.client = client.twin()
        connection = self.client.connection = http.client.HTTPConnection(client.host, client.port, timeout=STREAM_WITHIN)
        connection.request("GET", f"{OWN}/requests/{request_id}/events", headers=self.client.headers() | {"Accept": "text/event-stream"})
        self.response = connection.getresponse()

    def next(self):
        """The next event as (name, data); None at the end of the stream. Raises `TimeoutError`."""
        fields = {}
        while line := self.response.readline():
            line = line.decode().rstrip("\n")
            if not line and fields:
                return fields["event"], json.loads(fields["data"])
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return None

    def rest(self):
        return list(iter(self.next, None))


def events(report, at):
    hold(at)
    iccids = at.iccids(50)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    stream = Stream(at.client, request_id)
    report.check("it is an event stream", stream.response.status == 200
                 and stream.response.getheader("content-type").startswith("text/event-stream"), stream.response.getheaders())
    began = time.monotonic()
    name, first = stream.next()
    report.equal("it begins at once with the counts of now", (name, first["waiting"], first == at.client.request(request_id), time.monotonic() - began < 5),
                 ("progress", 50, True, True))
    hold(at, verb="release")
    told = stream.rest()
    report.check("it ends with `ended`, after nothing but `progress`", told and told[-1][0] == "ended" and {name for name, _ in told[:-1]} <= {"progress"},
                 [name for name, _ in told])
    report.equal("… and with the last counts", (told[-1][1]["state"], told[-1][1]["succeeded"], told[-1][1]["waiting"]), ("ended", 50, 0))
    waits = [data["waiting"] for _, data in told]
    report.check("what waits only becomes less, the sums stay", waits == sorted(waits, reverse=True) and
                 all(data["waiting"] + data["succeeded"] + data["failed"] == 50 for _, data in told), told)
    report.equal("of a request that has ended there is one event", [name for name, _ in Stream(at.client, request_id).rest()], ["ended"])
    report.equal("of an unknown request there is none", at.client.call("GET", f"{OWN}/requests/{uuid.uuid4()}/events").status, 404)
    hung, lock = [], threading.Lock()

    def follow_many(number):
        client = at.client.twin()
        for turn in range(FOLLOWED // FOLLOWERS):
            # Of a profile that there is not: it fails as soon as it is accepted.
            request_id = client.resume(ACCOUNT, [f"89445000009{number:03d}{turn:05d}"]).request_id
            try:
                last = Stream(client, request_id).rest()[-1][0]
            except (TimeoutError, IndexError, OSError) as error:
                last = repr(error)
            if last != "ended":
                with lock:
                    hung.append(f"{request_id}: {last}, is {client.request(request_id)['state']}")

    at.client.call("DELETE", f"{LISTENERS}/name/{SERVICE}")  # no callbacks that wake the stream once more
    followers = [threading.Thread(target=follow_many, args=(number,)) for number in range(FOLLOWERS)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join(180)
    report.none("streams that are opened just when a request ends tell of its end", hung)


# Users, sessions, tokens

def passwords(report, at):
    def login(username, password):
        return Client(at.server.port, username=username, password=password).login()

    def may_login(username, password):
        try:
            return bool(login(username, password).session)
        except RuntimeError:
            return False

    client = login("resetter", PASSWORD)
    answer = client.call("PUT", RESET, {"oldPassword": PASSWORD})
    new = (answer.json or {}).get("newPassword", "")
    report.check("a reset gives a new password", answer.status == 200 and list(answer.json) == ["newPassword"] and len(new) >= 8, answer)
    repeats = [client.call("PUT", RESET, {"oldPassword": PASSWORD}) for _ in range(7)]
    report.equal("its repeat gives the same one", {(one.status, one.raw) for one in repeats}, {(200, answer.raw)})
    report.equal("the new password is valid at once, the old one not", (may_login("resetter", new), may_login("resetter", PASSWORD)), (True, False))
    wrong = client.call("PUT", RESET, {"oldPassword": "wrong"})
    report.check("a wrong old password resets nothing", 400 <= wrong.status < 500 and may_login("resetter", new), wrong)
    at.server.apply((at.folder / "apply.toml").read_text())
    report.equal("`apply` does not undo a reset", (may_login("resetter", new), may_login("resetter", PASSWORD)), (True, False))
    report.equal("the session lives on", client.call("GET", LISTENERS).status, 200)
    client = login("hasty", PASSWORD)
    twins, answers = [client.twin() for _ in range(3)], []
    barrier = threading.Barrier(len(twins))

    def reset(twin):
        barrier.wait(60)
        answers.append(twin.call("PUT", RESET, {"oldPassword": PASSWORD}))

    threads = [threading.Thread(target=reset, args=(twin,)) for twin in twins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = {answer.json.get("newPassword") for answer in answers if answer.status == 200}
    report.check("resets at the same moment give one password, which is valid", len(given) == 1 and may_login("hasty", next(iter(given))),
                 *[(answer.status, answer.raw) for answer in answers])

    session = login("forgetful", PASSWORD)
    for _ in range(4):
        may_login("forgetful", "wrong")
    report.check("four failures do not lock", may_login("forgetful", PASSWORD))
    for _ in range(4):
        may_login("forgetful", "wrong")
    report.check("… nor four after a success", may_login("forgetful", PASSWORD))
    for _ in range(5):
        may_login("forgetful", "wrong")
    report.check("five failures in a row lock", not may_login("forgetful", PASSWORD))
    report.equal("a session from before lives on", session.call("GET", LISTENERS).status, 200)
    report.check("… nobody else", may_login(USER, PASSWORD))
    at.restart(kill=True)
    report.check("… also across a crash", not may_login("forgetful", PASSWORD))
    report.check("`users list` says so", re.search(r"forgetful\s+locked", at.server.command("users", "list")))
    at.server.command("users", "unlock", "forgetful")
    report.check("`users unlock` lets it in", within(NOTICED_WITHIN, lambda: may_login("forgetful", PASSWORD)))
    report.check("nobody else is locked", "locked" not in at.server.command("users", "list"))
    report.check("an unknown user cannot be unlocked", at.server.run("users", "unlock", "nobody", "--config", str(at.server.config)).returncode != 0)


def sessions_and_tokens(report, at):
    iccids = at.iccids(5)
    other = at.server.client()
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    answer = at.client.call("POST", LOGOUT)
    report.equal("logout echoes the session", (answer.status, answer.json), (200, {"sessionToken": at.client.session}))
    report.equal("… which is dead at once", at.client.call("GET", LISTENERS).status, 401)
    report.equal("… the user's other session is not", other.call("GET", LISTENERS).status, 200)
    report.equal("no callback had come yet", len(sends(at)), 0)
    report.equal("after the logout its callbacks still come", {iccid: body["status"] for iccid, body in at.told(request_id, len(iccids)).items()},
                 {iccid: "SUCCESS" for iccid in iccids})

    client = other
    old = client.token
    answer = client.send("POST", REVOKE, f"grant_type=client_credentials&token={old}".encode(), FORM | {"Authorization": basic("other-key", "other-secret")})
    report.equal("another client's revocation revokes nothing", client.call("GET", LISTENERS).status, 200)
    answer = client.send("POST", REVOKE, f"grant_type=client_credentials&token={old}".encode(), FORM | {"Authorization": basic(KEY, SECRET)})
    report.check("a revocation names the token in a header", answer.status == 200 and old in answer.headers.values(), answer)
    dead = client.call("GET", LISTENERS)
    report.check("the revoked token is refused at once", dead.status == 401 and dead.json["fault"]["code"] == "900901", dead)
    client.close()
    client.token = client.fetch_token()
    report.check("the next token is a new one", client.token != old)
    report.equal("… with which the session goes on", client.call("GET", LISTENERS).status, 200)
    report.equal("… the old stays dead", client.call("GET", LISTENERS, headers={"Authorization": f"Bearer {old}"}).status, 401)
    client.close()
    at.restart(kill=True)
    client.port = at.server.port
    report.equal("a crash leaves token and session alive", client.call("GET", LISTENERS).status, 200)
    report.equal("… and the revoked one dead", client.call("GET", LISTENERS, headers={"Authorization": f"Bearer {old}"}).status, 401)


# Files and commands

def rows_of(text):
    return [Profile(**row) for row in csv.DictReader(io.StringIO(text))]


def by_iccid(profiles):
    return sorted(profiles, key=lambda one: one.iccid)


def fleet_files(report, at):
    everything = at.fleet + at.active
    exported = at.server.command("fleet", "export")
    report.equal("an export is what was imported", by_iccid(rows_of(exported)), by_iccid(everything))
    with scratch(report, "fleet") as folder:
        second = Server(folder, at.server.binary)
        second.apply(apply_text({ACCOUNT: None}))
        path = folder / "exported.csv"
        path.write_text(exported)
        second.command("fleet", "import", str(path))
        report.equal("an export that is imported elsewhere is exported the same", second.command("fleet", "export"), exported)
    iccids = at.iccids(10)
    at.ended(at.client.resume(ACCOUNT, iccids).request_id)
    report.equal("an export shows what has become of profiles", by_iccid(rows_of(at.server.command("fleet", "export"))),
                 by_iccid(one._replace(state="ACTIVE", suspended_by="") if one.iccid in iccids else one for one in everything))
    said = at.server.import_fleet(everything, "again.csv")
    report.check("importing again adds nothing", f"0 profiles new, {len(everything)} known; 0 devices new" in said, said)
    report.equal("… and takes no profile back", states(at, iccids), Counter({("ACTIVE", False): 10}))

    more = fleet(ACCOUNT, 6, first=500_000)
    at.server.import_fleet(more, "more.csv")
    report.equal("what is imported beside a running server can be resumed",
                 at.ended(at.client.resume(ACCOUNT, [one.iccid for one in more]).request_id)["succeeded"], 6)
    before = at.server.command("fleet", "export")
    good = fleet(ACCOUNT, 3, first=600_000)
    for name, bad, says in (
            ("an ICCID of 12 digits", good[2]._replace(iccid="891480000000"), "iccid"),
            ("an unknown state", good[2]._replace(state="SLEEPING"), "state"),
            ("an unknown network", good[2]._replace(network="mars"), "network"),
            ("an EID of 31 digits", good[2]._replace(eid="8" * 31), "eid"),
            ("the same ICCID twice", good[2]._replace(iccid=good[0].iccid), ""),
            ("an unknown account", good[2]._replace(account="0000999999-00009"), "account"),
            ("another EID for a known profile", good[2]._replace(iccid=everything[0].iccid), "")):
        path = at.folder / "bad.csv"
        write_fleet(path, good[:2] + [bad])
        done = at.server.run("fleet", "import", str(path), "--config", str(at.server.config))
        report.check(f"a file with {name} is refused, with its line", done.returncode != 0 and ":4" in done.stderr and says in done.stderr,
                     done.returncode, done.stdout, done.stderr)
    report.equal("… and leaves nothing behind", at.server.command("fleet", "export"), before)
    for name, text in (("an empty file", ""), ("a header alone", ",".join(Profile._fields) + "\n"), ("an unknown column", "account,eid,iccid,network,colour\n")):
        (at.folder / "bad.csv").write_text(text)
        done = at.server.run("fleet", "import", str(at.folder / "bad.csv"), "--config", str(at.server.config))
        report.check(f"{name} is no accident", done.returncode in (0, 1) and "panicked" not in done.stderr
                     and (name == "a header alone") == (done.returncode == 0), done)


def resume_command(report, at):
    server = at.server
    iccids = at.iccids(5)
    done = server.customer("resume", *iccids)
    report.check("`resume` of suspended profiles: 0", done.returncode == 0 and "5 succeeded, 0 failed" in done.stdout, done)
    done = server.customer("resume", *iccids)
    report.check("… of active ones: 1, and why", done.returncode == 1 and "0 succeeded, 5 failed" in done.stdout and ALREADY in done.stdout, done)
    mixed = at.iccids(2) + iccids[:1] + ["89445000000099999999"]
    done = server.customer("resume", "--json", *mixed)
    said = json.loads(done.stdout)
    report.check("--json is one object", done.returncode == 1 and (said["succeeded"], said["failed"]) == (2, 2)
                 and said["faults"] == {ALREADY: 1, "REQUEST_FAILED.DeviceNotFound": 1} and len(said["requests"]) == 1, done)
    wrong_plan = server.customer("resume", "--json", "--service-plan", "No such plan", *at.iccids(1))
    report.equal("--service-plan is passed on", json.loads(wrong_plan.stdout)["faults"], {"REQUEST_FAILED.No such plan.NotFound": 1})
    many = fleet(ACCOUNT, 12_000, first=700_000)
    server.import_fleet(many, "many.csv")
    done = server.customer("resume", "--csv", str(at.folder / "many.csv"), "--json")
    said = json.loads(done.stdout)
    report.check("a CSV of 12,000 becomes two requests", done.returncode == 0 and said["succeeded"] == 12_000 and
                 [one["subrequests"] for one in said["requests"]] == [10_000, 2_000], done.stdout[:300], done.stderr[:300])
    done = server.customer("resume", "--no-wait", *at.iccids(2))
    request_id = done.stdout.strip()
    report.check("--no-wait prints the request's id", done.returncode == 0 and at.client.request(request_id)["subrequests"] == 2, done)
    followed = server.customer("requests", "follow", request_id)
    report.check("`requests follow`: 0 when all succeeded", followed.returncode == 0 and request_id in followed.stdout, followed)
    report.equal("… 1 when some failed", server.customer("requests", "follow", at.client.resume(ACCOUNT, iccids).request_id).returncode, 1)
    at.client.wait_ended(ACCOUNT, 30)  # with its callbacks: else they may be delivered between the two looks
    shown = server.customer("requests", "show", request_id)
    report.equal("`requests show` is the request", json.loads(shown.stdout), at.client.request(request_id))
    listed = server.customer("requests", "list", "--limit", "3")
    report.equal("`requests list`, newest first", [line.split()[0] for line in listed.stdout.splitlines()],
                 [one["requestId"] for one in at.client.requests(ACCOUNT)[:3]])
    hold(at)
    request_id = at.client.resume(ACCOUNT, at.iccids(2)).request_id
    done = server.customer("requests", "cancel", request_id)
    report.check("`requests cancel`", done.returncode == 0 and at.ended(request_id)["faults"] == {CANCELLED: 2}, done)
    hold(at, verb="release")
    (at.folder / "access.toml").write_text(
        f'server = "http://127.0.0.1:9"\naccount = "{ACCOUNT}"\nkey = "{KEY}"\nsecret = "{SECRET}"\nusername = "{USER}"\npassword = "{PASSWORD}"\n')
    done = server.run("requests", "list", "--credentials", str(at.folder / "access.toml"), "--server", f"http://127.0.0.1:{server.port}")
    report.check("what stands on the command line goes before the credentials file", done.returncode == 0, done)
    before = len(at.client.requests(ACCOUNT))
    for name, changes, arguments in (
            ("a malformed ICCID", {}, ("12345",)), ("no ICCIDs", {}, ()), ("a CSV that is not there", {}, ("--csv", "/nowhere/at-all.csv")),
            ("a wrong password", {"password": "wrong"}, iccids), ("a wrong secret", {"secret": "wrong"}, iccids),
            ("another account", {"account": "0000999999-00009"}, iccids), ("no server", {"server": "http://127.0.0.1:9"}, iccids)):
        done = server.customer("resume", *arguments, **changes)
        report.check(f"`resume` with {name}: not 0, and a sentence", done.returncode not in (0, -6, 101) and done.stderr.strip()
                     and "panicked" not in done.stderr, done)
    report.equal("… and sends nothing", len(at.client.requests(ACCOUNT)), before)


def resume_across_crash(report, at):
    """The command follows its request through the server's death."""
    path = at.folder / "half.csv"
    write_fleet(path, at.suspended)
    results = []
    command = threading.Thread(target=lambda: results.append(at.server.customer("resume", "--csv", str(path), "--json")))
    command.start()
    within(60, lambda: any(request["succeeded"] for request in at.client.requests(ACCOUNT)))
    at.restart(kill=True)
    command.join(180)
    done = results[0] if results else None
    report.check("`resume` goes on when the server died and came back", done and done.returncode == 0
                 and json.loads(done.stdout)["succeeded"] == len(at.suspended), done)


def apply_again(report, at):
    def text(secret, listener=True, account=ACCOUNT):
        lines = f'[[account]]\nname = "{account}"\n[[account.service_plan]]\nname = "{US_PLAN}"\nnetwork = "verizon-us"\n'
        if listener:
            lines += (f'[[account.listener]]\nservice = "{SERVICE}"\nurl = "{at.listener.url("/ok/applied")}"\n'
                      'username = "fleet"\npassword = "callback-secret"\n')
        return lines + (f'[[client]]\nkey = "rotating"\nsecret = "{secret}"\n[[client]]\nkey = "made-up"\n'
                        f'[[user]]\nusername = "applied"\npassword = "{PASSWORD}"\naccounts = ["{account}"]\n[[user]]\nusername = "no-password"\n')

    def may(secret):
        try:
            return bool(Client(at.server.port, "rotating", secret).fetch_token())
        except RuntimeError:
            return False

    first = at.server.apply(text("first-secret"))
    report.check("an apply says what is new, and the secrets that it made up", "2 clients and 2 users new; 1 listeners set; 0 secrets rotated" in first
                 and re.search(r"made-up: secret \S+", first) and re.search(r"no-password: password \S+", first) and "first-secret" not in first, first)
    second = at.server.apply(text("first-secret"))
    report.check("applied again it changes nothing", "0 accounts, 0 service plans, 0 clients and 0 users new; 0 listeners set; 0 secrets rotated" in second, second)
    report.check("… and tells no secret again", "made-up" not in second and "no-password" not in second, second)
    made = re.search(r"made-up: secret (\S+)", first).group(1)
    report.check("the made-up secret is valid", Client(at.server.port, "made-up", made).fetch_token())
    client = Client(at.server.port, "rotating", "first-secret", "applied").login()
    report.equal("so is the given one; the listener is set", client.call("GET", LISTENERS).json,
                 [{"accountName": ACCOUNT, "serviceName": SERVICE, "url": at.listener.url("/ok/applied"), "username": "fleet", "password": "callback-secret"}])
    third = at.server.apply(text("second-secret", listener=False))
    report.check("another secret rotates", "1 secrets rotated" in third, third)
    report.equal("… at once: the new one is valid, the old one not", (may("second-secret"), may("first-secret")), (True, False))
    report.equal("… and the token that the old one was given is revoked", client.call("GET", LISTENERS).status, 401)
    client.secret = "second-secret"
    client.token = client.fetch_token()
    listed = client.call("GET", LISTENERS)
    report.equal("what a file leaves out stays", (listed.status, len(listed.json)), (200, 1))
    bad = text("third-secret") + '[[user]]\nusername = "broken"\naccounts = ["no account name!"]\n'
    (at.folder / "bad.toml").write_text(bad)
    done = at.server.run("apply", str(at.folder / "bad.toml"), "--config", str(at.server.config))
    report.check("a file with a mistake is refused whole", done.returncode != 0 and "panicked" not in done.stderr and may("second-secret"), done)
    for name, mistake in (("an unknown key", '[[account]]\nname = "1-1"\ncolour = "red"\n'), ("an unknown section", "[[thing]]\n"),
                          ("a listener at a private address", f'[[account]]\nname = "{ACCOUNT}"\n[[account.listener]]\nservice = "{SERVICE}"\nurl = "http://10.1.2.3/"\n'),
                          ("no TOML", "what is this")):
        (at.folder / "bad.toml").write_text(mistake)
        done = at.server.run("apply", str(at.folder / "bad.toml"), "--config", str(at.server.config))
        report.check(f"a file with {name} is refused", done.returncode not in (0, 101) and "panicked" not in done.stderr and done.stderr.strip(), done)


def operate_under_load(report, arguments):
    """Commands that write to the store do so in time, however busy the server is."""
    with scratch(report, "operate") as folder:
        workload = Workload(folder, arguments.binary, 1, "5ms")
        try:
            workload.begin()
            time.sleep(0.3)
            config = ("--config", str(workload.server.config))
            took, failed = [], []
            for _ in range(3):
                for command in (("carriers", "hold", "global"), ("carriers", "release", "global"), ("users", "unlock", USER),
                                ("apply", str(folder / "apply.toml"))):
                    began = time.monotonic()
                    done = workload.server.run(*command, *config)
                    took.append(time.monotonic() - began)
                    if done.returncode:
                        failed.append(done)
            report.none("an operator's commands succeed beside a server under load", failed)
            report.check("… in time", max(took) < 15, f"{max(took):.1f} s")
            report.say(f"{len(took)} commands beside a server under load: {max(took):.2f} s at most")
            workload.finish(report)
        finally:
            workload.close()


# Stopping, and the house

def stop_under_load(report, arguments):
    with scratch(report, "stop") as folder:
        workload = Workload(folder, arguments.binary, 1, "20ms", profiles=8_000)
        try:
            workload.begin()
            stops = []
            for _ in range(3):
                time.sleep(0.6)
                began = time.monotonic()
                stops.append((workload.rest(), time.monotonic() - began))
                workload.start()
            report.say("stopped under load after " + ", ".join(f"{seconds:.2f} s" for _, seconds in stops))
            report.none("a server under load stops in order and in time", (stop for stop in stops if stop[0] != 0 or stop[1] > STOPPED_WITHIN))
            time.sleep(0.5)
            workload.finish(report)  # with no kill in the journal, nothing may be told twice
            sends, *_ = read_journal(workload.journal_path)
            answered = {one.request_id for one in sends}
            report.none("what a stopping server accepted, it answered",
                        (request for request in workload.client.requests(ACCOUNT) if request["requestId"] not in answered))
        finally:
            workload.close()


def timed_stop(at):
    began = time.monotonic()
    return at.server.stop(within=60), time.monotonic() - began


def stop_while_held(report, at):
    hold(at)
    request_id = at.client.resume(ACCOUNT, at.iccids(100)).request_id
    stream = Stream(at.client, request_id)
    stream.next()
    code, seconds = timed_stop(at)
    report.check("a held backlog and an open event stream do not hold up a stop", code == 0 and seconds < SOON_STOPPED, f"exit code {code} after {seconds:.1f} s")
    at.server.start()
    at.client = at.server.client()
    hold(at, verb="release")
    report.equal("… and the backlog is done later", at.ended(request_id)["succeeded"], 100)


def stop_with_slow_carrier(report, at):
    iccids = at.iccids(50)
    request_id = at.client.resume(ACCOUNT, iccids).request_id
    time.sleep(0.3)
    code, seconds = timed_stop(at)
    report.check("a carrier that takes longer than stop_within is left behind", code == 0 and 1.5 < seconds < 7, f"exit code {code} after {seconds:.1f} s")
    at.server.start()
    at.client = at.server.client()
    request = at.ended(request_id)
    report.equal("… and asked again after the start", (request["succeeded"], request["callbacks"]["delivered"]), (50, 50))
    report.equal("… each told once", sum(map(len, sends(at).values())), 50)


def stop_with_hanging_listener(report, at):
    request_id = at.client.resume(ACCOUNT, at.iccids(20)).request_id
    within(60, lambda: sends(at))
    code, seconds = timed_stop(at)
    report.check("a listener that never answers is waited for no longer than an attempt takes", code == 0 and seconds < SOON_STOPPED,
                 f"exit code {code} after {seconds:.1f} s")
    at.server.start()
    at.client = at.server.client()
    register(at, "/ok")
    request = at.ended(request_id)
    report.equal("… and the rest is told after the start", request["callbacks"]["delivered"], 20)


def house_calls(report, at):
    iccids = at.iccids(7)
    at.ended(at.client.resume(ACCOUNT, iccids + iccids[:1]).request_id)
    at.ended(at.client.resume(ACCOUNT, iccids[:2]).request_id)
    anybody = Client(at.server.port)
    for path in ("/healthz", "/readyz"):
        report.equal(f"{path} needs nobody", anybody.call("GET", path).status, 200)
    openapi = anybody.call("GET", "/openapi.json")
    paths = openapi.json["paths"]
    report.check("/openapi.json describes the calls", openapi.status == 200 and openapi.json["openapi"].startswith("3.")
                 and {"/api/m2m/v1/devices/profile/actions/profile_resume", f"{OWN}/requests/{{request}}", TOKEN} <= set(paths), list(paths))
    missing = [path for path in re.findall(r'"(/api/[^"{]*)"', openapi.raw.decode()) if "{" not in path and anybody.call("GET", path).status == 404]
    report.none("… all of which there are", missing)
    metrics = anybody.call("GET", "/metrics")
    text = metrics.raw.decode()
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line and not line.startswith("#")}
    report.check("/metrics answers in the form that Prometheus reads", metrics.status == 200 and text.endswith("# EOF\n")
                 and "openmetrics" in {name.lower(): value for name, value in metrics.headers.items()}["content-type"], metrics.headers, text[-200:])

    def total(name, **labels):
        return sum(value for key, value in values.items() if key.split("{")[0] == name and all(f'{label}="{of}"' in key for label, of in labels.items()))

    report.equal("… and counts what happened", (total("reveille_subrequests_accepted_total"), total("reveille_subrequests_ended_total", outcome="succeeded"),
                                                 total("reveille_subrequests_ended_total", outcome="failed"), total("reveille_callback_attempts_total"),
                                                 total("reveille_subrequests_waiting"), total("reveille_callbacks_waiting")), (9, 7, 2, 9, 0, 0))
    report.none("… naming nobody", [word for word in (ACCOUNT, USER, KEY, iccids[0]) if word in text])
    checked = at.server.run("check", "--config", str(at.server.config))
    report.check("`check` beside a running server", checked.returncode == 0 and "valid" in checked.stdout, checked)
    for name, line in (("an unknown key", "colour = 1"), ("a duration that is none", 'head_timeout = "soon"'), ("a carrier without a kind", "[carriers.mars]")):
        path = at.folder / "wrong.toml"
        path.write_text(line + "\n")
        for command in ("check", "serve"):
            done = at.server.run(command, "--config", str(path))
            report.check(f"`{command}` refuses {name}", done.returncode not in (0, 101) and done.stderr.strip() and "panicked" not in done.stderr, done)


def secrets_stay(report, at):
    """No secret and no whole identifier in the log, even a talkative one; no secret in the store."""
    register(at, "/status/500", "callback-user", "callback-password")
    iccids = at.iccids(3)
    at.client.resume(ACCOUNT, iccids, "a-key-of-mine")
    at.client.call("POST", LOGIN, {"username": USER, "password": "a wrong password"})
    new = Client(at.server.port, username="resetter").login().call("PUT", RESET, {"oldPassword": PASSWORD}).json["newPassword"]
    at.client.call("GET", f"{OWN}/profiles/{iccids[0]}")
    at.client.call("POST", "/api/m2m/v1/devices/profile/actions/profile_resume", b'{"accountName": "x", "secret": "in a broken body"')
    time.sleep(0.5)
    token, session = at.client.token, at.client.session
    at.server.stop()
    log = at.server.log.read_text()
    report.check("the log is talkative", len(log) > 2_000 and "DEBUG" in log, log[:300])
    secrets = {"the client's secret": SECRET, "a password": PASSWORD, "a wrong password": "a wrong password", "a reset password": new,
               "a bearer token": token, "a session token": session, "a callback's password": "callback-password", "a body": "in a broken body",
               "an ICCID": iccids[0], "an EID": at.fleet[0].eid, "an IMEI": at.fleet[0].imei, "an MSISDN": at.fleet[0].msisdn}
    report.none("no secret, body or whole identifier is in the log",
                (f"{name}: {next(line for line in log.splitlines() if text in line)}" for name, text in secrets.items() if text in log))
    stored = b"".join(path.read_bytes() for path in at.server.store.iterdir() if path.name.startswith("reveille.db"))
    kept = {name: text for name, text in secrets.items() if "secret" in name or "password" in name or "token" in name}
    report.none("no secret is in the store as it is", (name for name, text in kept.items() if text.encode() in stored))
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in at.server.store.iterdir()}
    report.equal("the key is for its owner alone", modes.get("reveille.key"), "0o600")


def store_and_key(report, at):
    """A store has one server, and one key."""
    def refused_start(config=at.server.config, **environment):
        done = at.server.run("serve", "--config", str(config), environment=environment)
        return done.returncode not in (0, 101) and done.stderr.strip() and "panicked" not in done.stderr, done

    register(at, "/ok", "fleet", "callback-secret")
    elsewhere = at.folder / "elsewhere.toml"  # another port, the same store
    elsewhere.write_text(at.server.config.read_text().replace(f":{at.server.port}", f":{free_port()}"))
    report.check("a second server on the same store does not start", *refused_start(elsewhere))
    iccids = at.iccids(3)
    report.equal("… and leaves the first alone", at.ended(at.client.resume(ACCOUNT, iccids).request_id)["succeeded"], 3)
    at.restart(kill=True)
    report.equal("a killed server leaves no lock behind", at.client.call("GET", LISTENERS).status, 200)
    at.server.stop()

    path = at.server.store / "reveille.key"
    key = path.read_text()
    path.unlink()
    report.check("a store without its key is not served", *refused_start())
    report.check("… nor given another one", not path.exists())
    for name, wrong in (("too short", "ab" * 16), ("no hexadecimal", "x" * 64)):
        report.check(f"a key that is {name} is refused", *refused_start(REVEILLE_SERVER_KEY=wrong))
    at.server.environment["REVEILLE_SERVER_KEY"] = key.strip()
    at.server.start()
    at.client.close()
    listed = at.client.call("GET", LISTENERS)
    report.equal("with the key from the environment, tokens, sessions and callback passwords are what they were",
                 (listed.status, listed.json and [(one["username"], one["password"]) for one in listed.json]), (200, [("fleet", "callback-secret")]))
    report.check("… and it is written nowhere", not path.exists())


USERS = {USER: [ACCOUNT], "resetter": [ACCOUNT], "forgetful": [ACCOUNT], "hasty": [ACCOUNT]}
PARTS = {  # name → (part, options of its scene); a part without options makes its own
    "cancel_while_held": (cancel_while_held, dict(profiles=1_100)),
    "cancel_midway": (cancel_midway, dict(profiles=1_000, latency="500ms", carrier="concurrency = 50")),
    "cancel_after_crash": (cancel_after_crash, dict(profiles=4_000, latency="150ms", carrier="concurrency = 100")),
    "cancel_cut_off": (cancel_cut_off, dict(profiles=10_000)),
    "hold_and_release": (hold_and_release, dict(profiles=560)),
    "replays": (replays, dict(registered=False, retry_after=SOON)),
    "listener_changes": (listener_changes, dict(registered=False, retry_after=("2s", "2s", "2s"))),
    "nobody_listens": (nobody_listens, dict(registered=False)),
    "events": (events, dict(profiles=500, latency="1ms", carrier='jitter = "0ms"')),
    "passwords": (passwords, dict(users=USERS)),
    "sessions_and_tokens": (sessions_and_tokens, dict(latency="2500ms", clients={KEY: SECRET, "other-key": "other-secret"})),
    "fleet_files": (fleet_files, dict(profiles=200)),
    "resume_command": (resume_command, dict(profiles=60)),
    "resume_across_crash": (resume_across_crash, dict(profiles=4_000, latency="100ms", carrier="concurrency = 100")),
    "apply_again": (apply_again, dict(registered=False)),
    "operate_under_load": (operate_under_load, None),
    "stop_under_load": (stop_under_load, None),
    "stop_while_held": (stop_while_held, dict(profiles=120)),
    "stop_with_slow_carrier": (stop_with_slow_carrier, dict(profiles=60, latency="9s", before='stop_within = "2s"\n')),
    "stop_with_hanging_listener": (stop_with_hanging_listener, dict(profiles=60, listener_path="/hang")),
    "house_calls": (house_calls, {}),
    "store_and_key": (store_and_key, dict(registered=False)),
    "secrets_stay": (secrets_stay, dict(users=USERS, before='log = "debug"\n')),
}


def proof(report, arguments):
    for name, (part, options) in PARTS.items():
        if arguments.only not in name:
            continue
        began, failed = time.monotonic(), report.failed
        if options is None:
            part(report, arguments)
        else:
            try:
                with scene(report, arguments.binary, name, operator=True, **options) as at:
                    part(report, at)
            except Exception as error:  # the other parts can still be proven
                import traceback
                traceback.print_exc()
                report.check(f"{name} ran to its end", False, f"{type(error).__name__}: {error}")
        report.say(f"{name}: {time.monotonic() - began:.1f} s" + (f", {report.failed - failed} failed" if report.failed > failed else ""))


def main():
    arguments = arguments_of(__doc__, argument("--only", default="", help="parts whose name contains this word"), seed=False)
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
