#!/usr/bin/env python3
"""The independent checker: nothing lost, nothing twice, everything told, in order.

It compares four witnesses that share no code with the server: the client's journal (what was sent
and answered), the listener's log (what was told), the fleet as imported, and what the server's API
says now. It wants every request ended and every callback delivered or archived. It understands
profile_resume, profile_suspend and cancellations.

Where several nodes share the work, the journal tells of their troubles. A callback that was on its way then, or
whose acknowledgement was not written down in time, may be sent once more by another node, which cannot know what
became of it; by whichever node it is sent, its bytes are the same.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from urllib.parse import urlsplit

from journal import read_journal
from listener import read_log, without_count
from report import Report
from server import ACCOUNT, GLOBAL_PLAN, KEY, OWN, PAGE, PASSWORD, SECRET, US_PLAN, USER, Client, read_fleet, run_proof

ACTIVE, SUSPEND = "ACTIVE", "SUSPEND"
LEAVES = {"profile_resume": (SUSPEND, ACTIVE), "profile_suspend": (ACTIVE, SUSPEND)}
ALREADY = {"profile_resume": ("REQUEST_FAILED.ProfileAlreadyResumed", ACTIVE),
           "profile_suspend": ("REQUEST_FAILED.ProfileAlreadySuspended", SUSPEND)}
CANCELLED = "REQUEST_CANCELLED"
NOT_FOUND = "REQUEST_FAILED.DeviceNotFound"
WRONG_STATE = "INPUT_INVALID.DeviceState.Invalid"
SUCCESS_MEMBERS = ["requestId", "deviceIds", "deviceResponse", "status", "callbackCount", "maxCallbackThreshold"]
FAILURE_MEMBERS = ["username", "password", "requestId", "deviceIds", "faultResponse", "status", "callbackCount",
                   "maxCallbackThreshold"]  # of listeners without credentials
PLANS = {"verizon-us": US_PLAN, "global": GLOBAL_PLAN}

MARKED_WITHIN = 10.0  # seconds within which the end of an attempt is recorded, however busy the machine
OVERDUE = 0.9  # seconds after a send, from when on it may be another node's turn: a lease lasts that much longer than it
KILL_SLACK = 1.0  # seconds by which the log may lag behind the kill that cut an attempt off
MILLISECOND = 0.001  # in which the server counts
DETAILED = 200  # callbacks whose attempts are read one by one
CALLED = 200  # eUICCs whose calls to carriers are read one by one

SETTLED = re.compile(r": (?:done|already_so|rejected|rolled_back) after (\d+) ms")


class World:
    """All that the server's API says of some accounts, and all that the listener heard."""

    def __init__(self, client, accounts, log_paths, iccids):
        self.requests = {}
        self.subrequests = {}
        self.profiles = {}
        self.callbacks = {}
        for account in accounts:
            for request in client.requests(account):
                self.requests[request["requestId"]] = request
            for profile in client.profiles(account):
                self.profiles[profile["iccid"]] = profile
            for callback in client.callbacks(account):
                self.callbacks.setdefault((callback["requestId"], callback["number"]), []).append(callback)
        for request_id, subrequests in zip(self.requests, all_subrequests(client, list(self.requests))):
            self.subrequests[request_id] = subrequests
        named = sorted(iccid for iccid in self.profiles if iccid in iccids)
        histories = client.get_many([f"{OWN}/profiles/{iccid}/history" for iccid in named])
        self.histories = {iccid: body["history"] for iccid, body in zip(named, histories)}
        self.sends = defaultdict(list)  # (requestId, iccid) → sends, by time
        self.not_callbacks = []
        for path in log_paths:
            for received in read_log(path):
                try:
                    body = json.loads(received.body)
                    iccid = next((one["id"] for one in body["deviceIds"] if one["kind"] == "Iccid"), None)
                    self.sends[body["requestId"], iccid].append((received, body))
                except (ValueError, KeyError, TypeError):
                    self.not_callbacks.append(received)
        for sends in self.sends.values():
            sends.sort(key=lambda send: send[0].at)

    def each_subrequest(self):
        for request_id, subrequests in self.subrequests.items():
            for subrequest in subrequests:
                yield self.requests[request_id], subrequest


def all_subrequests(client, request_ids):
    """The lists of the requests' subrequests, in their order."""
    lists = {request_id: [] for request_id in request_ids}
    paths = {request_id: f"{OWN}/requests/{request_id}/subrequests?limit={PAGE}" for request_id in request_ids}
    while paths:
        pages = dict(zip(paths, client.get_many(list(paths.values()))))
        for request_id, page in pages.items():
            lists[request_id] += page["subrequests"]
        paths = {request_id: f"{OWN}/requests/{request_id}/subrequests?limit={PAGE}&after={page['next']}"
                 for request_id, page in pages.items() if "next" in page}
    return list(lists.values())


class Asked:
    """All sends of the journal that mean one request: those with one key, or a single one without."""

    def __init__(self, sends):
        self.sends = sends
        first = sends[0]
        self.account, self.action, self.iccids, self.plan = first.account, first.action, first.iccids, first.plan
        self.sent_at = min(one.at for one in sends)
        answers = [one.answered_at for one in sends if one.accepted]
        self.answered_at = min(answers) if answers else None
        self.request_ids = {one.request_id for one in sends if one.accepted}
        self.uncertain = any(one.uncertain for one in sends)
        self.must_be_refused = first.must_be_refused

    def before(self, other):
        """Whether this one's 200 left before the other was sent: then it takes effect first."""
        return self.answered_at is not None and self.answered_at < other.sent_at

    def content(self):
        return self.account, self.action, self.iccids

    def __str__(self):
        return f"{self.sends[0]}"


def group(sends):
    groups = defaultdict(list)
    for one in sends:
        groups[(one.account, one.key) if one.key and not one.must_be_refused else one.number].append(one)
    return [Asked(sends) for sends in groups.values()]


def check(report, client, accounts, journal_path, log_paths, fleet):
    """Runs every check; all of the journal's requests must have ended, with their callbacks."""
    sends, saw, kills, cancels, troubles = read_journal(journal_path)
    asked = group(sends)
    iccids = {iccid for one in sends for iccid in one.iccids}
    world = World(client, accounts, log_paths, iccids)
    fleet = {profile.iccid: profile for profile in fleet}
    by_request = check_accepted(report, world, asked)
    check_refused(report, world, asked)
    check_counts(report, world)
    check_seen(report, world, saw)
    check_cancelled(report, world, cancels)
    check_profiles(report, world, fleet)
    check_order(report, world, fleet, by_request)
    check_euiccs(report, world, fleet, by_request)
    interruptions = Interruptions(kills, troubles)
    check_callbacks(report, world, fleet, interruptions)
    check_attempts(report, world, client, interruptions)
    check_calls(report, world, client, fleet)
    return world


def check_accepted(report, world, asked):
    """What was accepted is there, whole; what is there was asked for. Returns requestId → `Asked`."""
    report.none("one Idempotency-Key gave one requestId",
                (f"{one}: {sorted(one.request_ids)}" for one in asked if len(one.request_ids) > 1))
    report.none("two requests without a common key never share a requestId",
                (request_id for request_id, n in
                 Counter(request_id for one in asked for request_id in one.request_ids).items() if n > 1))
    by_request = {request_id: one for one in asked for request_id in one.request_ids}
    report.none("every request whose 200 was seen exists",
                (f"{request_id}: {one}" for request_id, one in by_request.items() if request_id not in world.requests))
    # A request that exists without a seen 200 must be one whose answer was lost.
    lost_answers = defaultdict(list)
    for one in asked:
        if not one.request_ids and one.uncertain:
            lost_answers[one.content()].append(one)
    phantoms = []
    for request_id, request in world.requests.items():
        if request_id not in by_request:
            iccids = tuple(one["iccid"] for one in world.subrequests[request_id])
            candidates = lost_answers[request["account"], request["action"], iccids]
            if candidates:
                by_request[request_id] = candidates.pop()
            else:
                phantoms.append(request)
    report.none("every request that exists was sent, at most once per key, and not refused", phantoms)
    wrong = []
    for request_id, one in by_request.items():
        found = [(sub["number"], sub["iccid"]) for sub in world.subrequests.get(request_id, ())]
        if request_id in world.requests and found != list(enumerate(one.iccids, 1)):
            wrong.append(f"{request_id}: {len(found)} subrequests, {len(one.iccids)} profiles were named by {one}")
    report.none("every request has all its subrequests, in the order given", wrong)
    return by_request


def check_refused(report, world, asked):
    refused = [one for one in asked if one.must_be_refused]
    report.none("what had to be refused was refused, or not answered", (str(one) for one in refused if one.request_ids))
    markers = {iccid for one in refused for iccid in one.iccids}
    report.none("no profile that only refused requests name is in a subrequest",
                (f"{request['requestId']}: {sub['iccid']}" for request, sub in world.each_subrequest()
                 if sub["iccid"] in markers))
    report.none("… or in a callback", (str(key) for key in world.sends if key[1] in markers))
    report.none("… or has a history", (iccid for iccid, history in world.histories.items()
                                       if iccid in markers and changes(history)))


def check_counts(report, world):
    wrong_end, wrong_sum, wrong_list, wrong_faults, wrong_callbacks = [], [], [], [], []
    for request_id, request in world.requests.items():
        states = Counter(sub["state"] for sub in world.subrequests[request_id])
        if request["state"] != "ended" or request["waiting"] or "endedAt" not in request:
            wrong_end.append(request)
        if request["waiting"] + request["succeeded"] + request["failed"] != request["subrequests"]:
            wrong_sum.append(request)
        if any(states[state] != request[state] for state in ("waiting", "succeeded", "failed")) \
                or sum(states.values()) != request["subrequests"]:
            wrong_list.append(f"{request} lists {dict(states)}")
        faults = Counter(sub["fault"]["code"] for sub in world.subrequests[request_id] if "fault" in sub)
        if faults != Counter(request["faults"]):
            wrong_faults.append(f"{request} lists {dict(faults)}")
        callbacks = request["callbacks"]
        if callbacks["waiting"] or sum(callbacks.values()) != request["subrequests"]:
            wrong_callbacks.append(request)
    report.none("every request has ended", wrong_end)
    report.none("waiting + succeeded + failed = subrequests", wrong_sum)
    report.none("the counts of every request are those of its list", wrong_list)
    report.none("the faults of every request are those of its list", wrong_faults)
    report.none("every request has one callback per outcome, none waiting", wrong_callbacks)
    report.none("every subrequest has one outcome: a fault with failed, none with succeeded, a time with both",
                (f"{request['requestId']}: {sub}" for request, sub in world.each_subrequest()
                 if sub["state"] not in ("succeeded", "failed") or ("fault" in sub) != (sub["state"] == "failed")
                 or "endedAt" not in sub))


def check_seen(report, world, saw):
    """An outcome that the API told of before a crash is still the outcome."""
    now = {(request["requestId"], sub["number"]): (sub["state"], sub.get("fault", {}).get("code"))
           for request, sub in world.each_subrequest()}
    report.none("no outcome that was seen has changed since",
                (f"{one}, now {now.get((one['requestId'], one['number']))}" for one in saw
                 if now.get((one["requestId"], one["number"])) != (one["state"], one.get("fault"))))


def check_cancelled(report, world, cancels):
    """A confirmed cancellation holds, and nothing is cancelled unasked."""
    asked = {request_id for request_id, *_ in cancels}
    report.none("a cancellation that was confirmed holds, unless the request had ended before",
                (world.requests.get(request_id, request_id) for request_id, status, had_ended in cancels
                 if status == 200 and not had_ended and not world.requests.get(request_id, {}).get("cancelled")))
    report.none("nothing was cancelled that nobody asked to cancel",
                (request for request in world.requests.values()
                 if (request["cancelled"] or CANCELLED in request["faults"]) and request["requestId"] not in asked))


def instant(text):
    """The seconds since 1970 of an instant as the API writes it; no instant is never."""
    return datetime.fromisoformat(text).timestamp() if text else float("inf")


def changes(history):
    """The entries of a history that are outcomes: what a request changed, for certain."""
    return [entry for entry in history if entry.get("requestId") and not entry["inDoubt"]]


def check_profiles(report, world, fleet):
    """Each profile's history starts at its import, has no gap, and ends at its recorded state."""
    report.none("every imported profile is there, and no other",
                sorted(set(fleet) ^ set(world.profiles)))
    gaps, ends, untouched, doubts = [], [], [], []
    cancelled = {(request["requestId"], sub["number"]) for request, sub in world.each_subrequest()
                 if sub.get("fault", {}).get("code") == CANCELLED}
    for iccid, profile in world.profiles.items():
        before = fleet.get(iccid)
        if before is None:
            continue
        history = changes(world.histories.get(iccid, ()))
        states = [before.state] + [entry["to"] for entry in history]
        if any(entry["from"] != state for entry, state in zip(history, states)):
            gaps.append(f"{iccid}: imported {before.state}, {history}")
        if profile["state"] != states[-1]:
            ends.append(f"{iccid}: {profile['state']}, {history}")
        if (profile["eid"], profile["network"], profile["role"], profile["profileStatus"]) != \
                (before.eid, before.network, before.role, before.profile_status) \
                or (profile["state"] == SUSPEND) != ("suspendedBy" in profile):
            untouched.append(f"{profile}, imported {before}")
        if profile["inDoubt"] and not left_in_doubt(world.histories.get(iccid, ()), cancelled):
            doubts.append(iccid)
    report.none("every history goes from → to without a gap, from the imported state", gaps)
    report.none("every profile's state is where its history ends", ends)
    report.none("nothing else of a profile changed; a reason of suspension exactly while suspended", untouched)
    report.none("no profile is in doubt but by a cancellation, until its next success", doubts)


def left_in_doubt(history, cancelled):
    """Whether one of the cancelled subrequests left a doubt that no success after it, in order and in time, has ended."""
    return any(entry["inDoubt"] and (entry.get("requestId"), entry["number"]) in cancelled
               and not any(instant(later["at"]) > instant(entry["at"]) for later in changes(history[at + 1:]))
               for at, entry in enumerate(history))


def check_order(report, world, fleet, by_request):
    """Replays each profile's history, and finds for each failure a turn at which it was right.

    A success must change the state as its action does, once, and every outcome must have a turn that
    does not contradict what is known of the order: of two requests, the one whose 200 was seen before
    the other was sent takes effect first."""
    outcomes = defaultdict(list)  # iccid → (request, subrequest)
    for request, sub in world.each_subrequest():
        outcomes[sub["iccid"]].append((request, sub))
    twice, unrecorded, illegal, disordered, wrong_faults = [], [], [], [], []
    for iccid, ends in outcomes.items():
        profile = fleet.get(iccid)
        history = changes(world.histories.get(iccid, ()))
        entries = Counter((entry["requestId"], entry["number"]) for entry in history)
        twice += [f"{iccid}: {key} {n} times" for key, n in entries.items() if n > 1]
        succeeded = {(request["requestId"], sub["number"]) for request, sub in ends if sub["state"] == "succeeded"}
        if succeeded != set(entries):
            unrecorded.append(f"{iccid}: successes {sorted(succeeded)}, history {sorted(entries)}")
            continue
        actions = {request["requestId"]: request["action"] for request, _ in ends}
        doubted = any(entry["inDoubt"] for entry in world.histories.get(iccid, ()))
        for entry in history:
            leaves, becomes = LEAVES[actions[entry["requestId"]]]
            if entry["to"] != becomes or entry["from"] != leaves and not (doubted and entry["from"] == becomes):
                illegal.append(f"{iccid}: {entry}")
        turns = [by_request.get(entry["requestId"]) for entry in history]
        disordered += [f"{iccid}: {later} took effect before {earlier}, whose 200 had left"
                       for at, later in enumerate(turns) for earlier in turns[at + 1:]
                       if later and earlier and earlier.before(later)]
        states = [profile.state if profile else None] + [entry["to"] for entry in history]
        for request, sub in ends:
            if sub["state"] == "failed":
                asked = by_request.get(request["requestId"])
                if not fault_is_right(sub["fault"]["code"], request, profile, states, turns, asked):
                    wrong_faults.append(f"{iccid} ({profile and profile.state}): {sub}, {asked}, history {history}")
    report.none("no subrequest changed its profile twice", twice)
    report.none("the successes of a profile are exactly the changes in its history", unrecorded)
    report.none("every success led from the state that its action needs to the state that it leaves", illegal)
    report.none("what was accepted first took effect first", disordered)
    report.none("every fault was right at some turn that the order allows", wrong_faults)


def fault_is_right(code, request, profile, states, turns, asked):
    """Whether `code` is what the contract says at some turn: after the first n changes of the profile."""
    if code == CANCELLED:
        return request["cancelled"]
    if profile is None or profile.account != request["account"]:
        return code in (NOT_FOUND, "INPUT_INVALID.Device.Account.Invalid")
    plan = request.get("servicePlan")
    if plan is not None and plan != PLANS[profile.network]:
        return code == f"REQUEST_FAILED.{plan}.NotFound"
    if request["action"] == "profile_suspend" and profile.role != "LOCAL":
        return code == WRONG_STATE
    already, needed = ALREADY[request["action"]]
    for done, state in enumerate(states):
        possible = asked is None or not (
            any(turn and asked.before(turn) for turn in turns[:done])
            or any(turn and turn.before(asked) for turn in turns[done:]))
        if possible and (state == needed and code == already or
                         state not in (ACTIVE, SUSPEND) and code == WRONG_STATE):
            return True
    return False


def check_euiccs(report, world, fleet, by_request):
    """On one eUICC, what was accepted first ends first, whichever of its profiles is meant."""
    on_euicc = defaultdict(list)  # EID → (`Asked`, when it ended, subrequest)
    for request, sub in world.each_subrequest():
        profile, asked = fleet.get(sub["iccid"]), by_request.get(request["requestId"])
        if profile and asked and profile.account == request["account"] and "endedAt" in sub \
                and sub.get("fault", {}).get("code") != CANCELLED:
            on_euicc[profile.eid].append((asked, sub["endedAt"], sub))
    report.none("on one eUICC, what was accepted first ended first",
                (f"{eid}: {earlier_sub} of {earlier} and {later_sub} of {later}"
                 for eid, ends in on_euicc.items() for later, later_at, later_sub in ends
                 for earlier, earlier_at, earlier_sub in ends if earlier_at > later_at and earlier.before(later)))


def check_calls(report, world, client, fleet):
    """The calls to carriers that settled something never overlap on one eUICC; on those with the most work."""
    on_euicc = Counter(fleet[sub["iccid"]].eid for _, sub in world.each_subrequest() if sub["iccid"] in fleet)
    eids = {eid for eid, _ in on_euicc.most_common(CALLED)}
    iccids = [iccid for iccid, profile in fleet.items() if profile.eid in eids]
    pages = client.get_many([f"{OWN}/profiles/{iccid}/timeline" for iccid in iccids])
    calls = defaultdict(list)  # EID → (from, until, ICCID, requestId)
    for iccid, page in zip(iccids, pages):
        for entry in page["timeline"]:
            called = [event for event in entry["events"] if event["event"] == "called"]
            if called and entry["state"] != "waiting" and (took := SETTLED.search(called[-1]["detail"])):
                began = instant(called[-1]["at"])
                calls[fleet[iccid].eid].append((began, began + int(took.group(1)) / 1000, iccid, entry["requestId"]))
    overlapping = []
    for eid, some in calls.items():
        some.sort()
        overlapping += [f"{eid}: {one} and {next_one}" for one, next_one in zip(some, some[1:]) if one[1] > next_one[0] + MILLISECOND]
    report.none(f"no eUICC had two calls under way that settled something ({sum(map(len, calls.values()))} calls)", overlapping)


class Interruptions:
    """Why a callback may be sent again though nothing is wrong with it: a server died, or one of several nodes was in
    trouble, or so slow that it was another's turn."""

    def __init__(self, kills, troubles):
        self.kills = kills
        self.troubles = [(began, ended) for _, began, ended in troubles]

    def between(self, one, other):
        """Whether that may have come between the end of the first of two sends and the other."""
        last = min(other.at, one.at + MARKED_WITHIN)
        return any(one.at - KILL_SLACK <= kill <= last for kill in self.kills) \
            or any(began <= last and one.at - KILL_SLACK <= ended for began, ended in self.troubles) \
            or self.troubles != [] and other.at - one.at >= OVERDUE

    def keep_unheard(self, attempt):
        """Whether an attempt that failed may have been another to the listener: its node was in trouble then."""
        ended_at = instant(attempt["endedAt"])
        return "status" not in attempt and any(
            began <= ended_at and ended_at - MARKED_WITHIN <= ended for began, ended in self.troubles)

    def explain(self, sends):
        """Whether, among several nodes, each send that does not follow from the one before came after that."""
        return self.troubles != [] and count_of(sends[0][1]) == 1 and all(
            count_of(body) == count_of(body_before) + 1 and not acknowledges(before) or self.between(before, received)
            for (before, body_before), (received, body) in zip(sends, sends[1:]))


def acknowledges(received):
    return 200 <= received.status < 300


def check_callbacks(report, world, fleet, interruptions):
    report.none("the listener received nothing but callbacks", world.not_callbacks)
    subrequests = {(request["requestId"], sub["iccid"]): (request, sub) for request, sub in world.each_subrequest()}
    report.none("every callback tells of a subrequest that exists",
                (f"{key}: {[send[0].body[:200] for send in world.sends[key][:1]]}"
                 for key in world.sends if key not in subrequests))
    silent, lying, unequal, miscounted, repeated, unlisted, misstated = [], [], [], [], [], [], []
    for key, (request, sub) in subrequests.items():
        listed = world.callbacks.get((request["requestId"], sub["number"]), [])
        sends = world.sends.get(key, [])
        if len(listed) != 1:
            unlisted.append(f"{key}: {listed}")
            continue
        callback = listed[0]
        if not sends:
            silent.append(f"{key}: {sub}, callback {callback}")
            continue
        threshold = sends[0][1].get("maxCallbackThreshold")
        acknowledged = [count_of(body) for received, body in sends if acknowledges(received)]
        delivered = callback["state"] == "delivered" and bool(acknowledged)
        archived = callback["state"] == "archived" and len(sends) >= threshold and not acknowledged
        if not delivered and not archived:
            misstated.append(f"{callback}: {[(received.at, received.status) for received, _ in sends]}")
        lying += [f"{received.body!r} of {sub}" for received, body in sends
                  if not tells(body, request, sub, fleet.get(sub["iccid"]))]
        if len({without_count(received.body) for received, _ in sends}) != 1:
            unequal.append(f"{key}: {[received.body for received, _ in sends]}")
        counts = [count_of(body) for _, body in sends]
        in_order = sorted(set(counts)) == list(range(1, max(counts) + 1)) and counts == sorted(counts) \
            and not any(count > min(acknowledged) for count in counts if acknowledged)
        if max(counts) > threshold or not in_order and not interruptions.explain(sends):
            miscounted.append(f"{key}: {[(received.at, received.status, count_of(body)) for received, body in sends]}")
        for (one, one_body), (other, other_body) in zip(sends, sends[1:]):
            if count_of(one_body) == count_of(other_body) and not interruptions.between(one, other):
                repeated.append(f"{key}: count {count_of(one_body)} at {one.at:.3f} and {other.at:.3f}")
    report.none("every subrequest has one callback in the list", unlisted)
    report.none("every outcome was told", silent)
    report.none("delivered means acknowledged, archived means refused each time", misstated)
    report.none("every callback says what its subrequest says", lying)
    report.none("all sends of a callback are the same bytes but for callbackCount", unequal)
    report.none("callbackCount goes from 1 upwards, to the threshold at most, and not past an acknowledgement", miscounted)
    report.none("a callback is sent twice under one callbackCount only if the server died just then", repeated)


def count_of(body):
    return body.get("callbackCount", 0)


def tells(body, request, sub, profile):
    """Whether a callback's body is the one that the subrequest's outcome asks for."""
    ids = [{"id": value, "kind": kind} for value, kind in
           ((profile.eid, "Eid"), (profile.imei, "Imei"), (profile.msisdn, "msisdn")) if value] if profile else []
    ids.append({"id": sub["iccid"], "kind": "Iccid"})
    if body["deviceIds"] != ids:
        return False
    if sub["state"] == "failed":
        return list(body) == FAILURE_MEMBERS and body["status"] == "Failed" \
            and body["faultResponse"]["faultcode"] == "UnifiedWebService." + sub["fault"]["code"]
    return list(body) == SUCCESS_MEMBERS and body["status"] == "SUCCESS" and body["deviceResponse"] == {
        "deviceProfileResponse": {"deviceIdentifierCollection": ids, "state": LEAVES[request["action"]][1],
                                  "profileStatus": profile.profile_status, "profileRole": profile.role}}


def check_attempts(report, world, client, interruptions):
    """What the server says that it sent is what the listener heard; for some callbacks, the much-sent first."""
    keys = sorted(world.sends, key=lambda key: -len(world.sends[key]))[:DETAILED]
    numbers = {(request["requestId"], sub["iccid"]): sub["number"] for request, sub in world.each_subrequest()}
    keys = [key for key in keys if key in numbers]
    details = client.get_many([f"{OWN}/callbacks/{request_id}.{numbers[request_id, iccid]}"
                               for request_id, iccid in keys])
    unequal, unheard = [], []
    for key, detail in zip(keys, details):
        sends = world.sends[key]
        body = detail["body"]
        same = without_count(body.encode()) == without_count(sends[0][0].body) if isinstance(body, str) else \
            {**body, "callbackCount": 0} == {**sends[0][1], "callbackCount": 0}
        if not same:
            unequal.append(f"{key}: {body!r}, heard {sends[0][0].body!r}")
        counts = [attempt["callbackCount"] for attempt in detail["attempts"]]
        heard = {(count_of(body), received.status or None) for received, body in sends}
        times = Counter(count_of(body) for _, body in sends)  # more than once where two nodes had its turn
        in_order = counts == sorted(counts) and set(counts) == set(range(1, len(set(counts)) + 1)) and \
            all(counts.count(count) <= max(1, times[count]) for count in counts)
        if not in_order or not counts or \
                any((attempt["callbackCount"], attempt.get("status")) not in heard and not interruptions.keep_unheard(attempt)
                    for attempt in detail["attempts"]):
            unheard.append(f"{key}: {detail['attempts']}, heard {sorted(heard)}")
    report.none(f"the recorded body is the one that was sent ({len(keys)} callbacks)", unequal)
    report.none(f"the recorded attempts are those that were heard ({len(keys)} callbacks)", unheard)


def check_further(report, world, client, account, name, log_path):
    """What a further listener was told is what its account's own one was: every outcome, in the same bytes, until it
    acknowledged; it may have been told again where the own one may."""
    heard = defaultdict(list)
    for received in read_log(log_path):
        body = json.loads(received.body)
        heard[body["requestId"], body["deviceIds"][-1]["id"]].append(received)
    outcomes = {(request["requestId"], sub["iccid"]): sub["number"] for request, sub in world.each_subrequest()
                if request["account"] == account}
    listed = {(one["requestId"], one["number"]): one for one in client.callbacks(account, f"&listener={name}")}
    report.none(f"{name}: every outcome was told, and nothing else", sorted(map(str, outcomes.keys() ^ heard.keys())))
    report.equal(f"{name}: every outcome has one callback in its list", len(listed), len(outcomes))
    report.none(f"{name}: all is told in the bytes that the own listener heard",
                (f"{key}: {received.body!r}" for key, sends in heard.items() for received in sends
                 if key in world.sends and without_count(received.body) != without_count(world.sends[key][0][0].body)))
    report.none(f"{name}: delivered means acknowledged",
                (f"{key}: {listed.get((key[0], number))}, {[(one.at, one.status) for one in heard[key]]}"
                 for key, number in outcomes.items() if key in heard
                 and (listed.get((key[0], number), {}).get("state") == "delivered") != any(map(acknowledges, heard[key]))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of the server, such as http://127.0.0.1:8080")
    parser.add_argument("--journal", required=True, help="the client's journal (see journal.py)")
    parser.add_argument("--log", action="append", required=True, help="the listener's log; may be repeated")
    parser.add_argument("--fleet", action="append", required=True, help="the fleet file as imported; may be repeated")
    parser.add_argument("--account", action="append", help=f"may be repeated (default: {ACCOUNT})")
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--secret", default=SECRET)
    parser.add_argument("--username", default=USER)
    parser.add_argument("--password", default=PASSWORD)
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)

    def proof(report):
        client = Client(url.port, arguments.key, arguments.secret, arguments.username, arguments.password,
                        url.hostname).login()
        fleet = [profile for path in arguments.fleet for profile in read_fleet(path)]
        check(report, client, arguments.account or [ACCOUNT], arguments.journal, arguments.log, fleet)

    run_proof(Report(), proof)


if __name__ == "__main__":
    main()
