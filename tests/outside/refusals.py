#!/usr/bin/env python3
"""Bad input from outside: every refusal has its status and body, none is a 500, and none has an effect.

Beside the contract's table of refusals (each cause alone, and pairs that show which is checked first)
it sends what no client should: deep nesting, 50 MB, invalid UTF-8, broken HTTP. Afterwards the list of
requests, the profiles and the listener must be as they were.
"""

import json
import socket
import sqlite3
import threading
import time
import uuid

from report import Report
from scene import scene
from server import (ACCOUNT, ACTIONS, KEY, OWN, PASSWORD, SECRET, SERVICE, USER, Answer, Client, NoAnswer, action_body,
                    arguments_of, basic, run_proof)

RESUME = ACTIONS + "profile_resume"
OTHERS_ACCOUNT, OTHER_USER = "0000654321-00002", "somebody-else"
OTHER_KEY, OTHER_SECRET = "another-key", "another-secret"
LOCKED_USER = "forgetful"
UNKNOWN_ACCOUNT = "0000999999-00009"
LISTENERS = f"/api/m2m/v1/callbacks/{ACCOUNT}"
LOGIN = "/api/m2m/v1/session/login"
TOKEN = "/api/ts/v1/oauth2/token"
MARKER = "8999900{:013d}"  # profiles that nothing but refused requests names
NESTED = 100_000
HUGE = 50 * 1024 * 1024
QUIET_FOR = 1.0  # seconds in which no callback of a refused request arrives
LOCKED_FOR = 3.0  # shorter than the server waits for a lock
LOCKED_OUT_FOR = 7.0  # longer
CONNECTIONS = 20
IDLE, TOKEN_LIFE = 2.0, 6.0  # of sessions and tokens that are to end
WAITING_MAX = 5  # of the account whose backlog is to be full

GATEWAY, ESIM, OTHER_FAMILY, OAUTH = "gateway", "eSIM", "session and callbacks", "OAuth"


class Table:
    """Sends bad calls, and looks at each answer."""

    def __init__(self, report, at):
        self.report, self.at = report, at
        self.markers = (MARKER.format(number) for number in range(10**9))
        self.statuses = set()

    def body(self, **changes):
        """A good body about a marker profile, with members replaced; `...` leaves one out."""
        body = action_body(ACCOUNT, [next(self.markers)]) | changes
        return {name: value for name, value in body.items() if value is not ...}

    def device(self, *identifiers):
        """A body with one device of these (kind, id)."""
        return self.body(devices=[{"deviceIds": [{"kind": kind, "id": text} for kind, text in identifiers]}])

    def call(self, method, path, body=None, headers=None):
        try:
            answer = self.at.client.call(method, path, body, headers)
        except NoAnswer as error:
            return Answer(0, {}, str(error).encode())
        self.statuses.add(answer.status)
        return answer

    def refused(self, name, status, code, body=None, headers=None, method="POST", path=RESUME, family=ESIM):
        """One call whose answer must be this one. `status` and `code` may be tuples of what is acceptable."""
        answer = self.call(method, path, body, headers)
        self.answer_is(name, answer, status, code, family)
        return answer

    def answer_is(self, name, answer, status, code, family):
        statuses = status if isinstance(status, tuple) else (status,)
        codes = code if isinstance(code, tuple) else (code,)
        body = answer.json if isinstance(answer.json, dict) else {}
        error_code, message = body.get("errorCode"), body.get("errorMessage")
        fault = body.get("fault", {})
        right = answer.status in statuses
        if family == OAUTH:
            right = right and body.get("error") in codes and isinstance(body.get("error_description"), str)
        elif family == GATEWAY:
            right = right and fault.get("code") in codes and bool(fault.get("message")) and "description" in fault \
                and bool(error_code) and bool(message)
        elif family == ESIM:
            right = right and error_code == str(answer.status) and isinstance(message, str) \
                and any(message.startswith(f"[{code}]") for code in codes)
        else:
            right = right and error_code in [f"UnifiedWebService.{code}" for code in codes] and bool(message)
        if answer.status in (429, 503):
            right = right and any(name.lower() == "retry-after" for name in answer.headers)
        self.report.check(f"{name}: {status} {code}", right, answer.status, answer.raw[:400])


def proof(report, arguments):
    users = {USER: [ACCOUNT], OTHER_USER: [OTHERS_ACCOUNT], LOCKED_USER: [ACCOUNT]}
    with scene(report, arguments.binary, "refusals", accounts=[ACCOUNT, OTHERS_ACCOUNT], users=users,
               clients={KEY: SECRET, OTHER_KEY: OTHER_SECRET}) as at:
        table = Table(report, at)
        used_key = accepted_once(report, at)
        before = state_of(at)
        paths_and_methods(table)
        tokens(table)
        sessions(table)
        contents(table)
        accounts(table)
        devices(table)
        keys(table, used_key)
        order(table)
        other_calls(table)
        broken_http(table)
        huge(table)
        time.sleep(QUIET_FOR)
        after = state_of(at)
        report.equal("no request was made", after[0], before[0])
        report.equal("no profile changed", after[1], before[1])
        report.equal("no callback arrived", after[2], before[2])
        report.none("no answer was a 5xx", sorted(status for status in table.statuses if status >= 500))
        report.check("the server is alive", at.server.alive(), at.server.last_log())
        connections(table)
        refusals_keep_no_key(report, at)
        locked_store(table)
        lock_out(table)
    ended_tokens(report, arguments)
    backlog(report, arguments)
    full_disk(report, arguments)


def accepted_once(report, at):
    """One good request under a key; returns the key."""
    key = str(uuid.uuid4())
    answer = at.client.resume(ACCOUNT, at.iccids(1), key)
    report.check("a good request is accepted, and told of",
                 answer.status == 200 and len(at.told(answer.request_id, 1)) == 1, answer)
    at.client.wait_ended(ACCOUNT, 60)
    return key


def state_of(at):
    return (at.client.requests(ACCOUNT), at.client.profiles(ACCOUNT), len(at.listener.received()))


# Rows 1 to 6: the path, the tokens

def paths_and_methods(table):
    for path in ("/api/m2m/v1/devices/profile/actions/no_such_action", "/api/m2m/v3/devices/profile/actions/profile_resume",
                 "/api/m2m/v1/devices/profile/actions/", "/api/m2m/v1/devices/profile/actions/profile_resume/more",
                 "/nothing/here", "/api/m2m/v1/devices/profile/actions/..%2f..%2fprofile_resume", "/api/m2m/v1/%00",
                 "/api/ts/v1/oauth2/nothing", "/api/reveille/v1/nothing", "/api/m2m/v1/accounts//requests//status"):
        table.refused(f"unknown path {path}", 404, "900906", table.body(), path=path, family=GATEWAY)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = table.refused(f"{method} of an action", 405, "900906", None if method == "GET" else table.body(),
                               method=method, family=GATEWAY)
        table.report.check(f"{method} of an action: the Allow header names POST",
                           "POST" in {name.lower(): value for name, value in answer.headers.items()}.get("allow", ""), answer.headers)
    table.refused("POST of a status", 405, "900906", {}, family=GATEWAY,
                  path=f"/api/m2m/v2/accounts/{ACCOUNT}/requests/{uuid.uuid4()}/status")
    table.refused("GET of login", 405, "900906", method="GET", path=LOGIN, family=GATEWAY)
    table.refused("GET of the token", 405, "900906", method="GET", path=TOKEN, family=GATEWAY)


def tokens(table):
    token, session = table.at.client.token, table.at.client.session
    for name, value, code in (
            ("no Authorization", None, "900902"), ("Basic instead of Bearer", basic(KEY, SECRET), "900902"),
            ("an empty Authorization", "", "900902"), ("a made-up bearer", "Bearer " + "0" * 32, "900901"),
            ("an empty bearer", "Bearer ", ("900901", "900902")), ("half a bearer", f"Bearer {token[:16]}", "900901"),
            ("a bearer and more", f"Bearer {token}{token}", "900901"),
            ("the session as bearer", f"Bearer {session}", "900901")):
        table.refused(name, 401, code, table.body(), {"Authorization": value}, family=GATEWAY)
    answer = table.call("POST", RESUME, table.body(), {"Authorization": "Bearer " + "a" * 60_000})
    table.report.check("a bearer of 60 kB: refused", answer.status in (0, 400, 401, 431), answer.status)
    for name, value, code in (
            ("no session", None, "REQUEST_FAILED.SessionToken.Format"),
            ("an empty session", "", ("REQUEST_FAILED.SessionToken.Format", "INPUT_INVALID.SessionToken.Invalid")),
            ("a session that never was", str(uuid.uuid4()), "INPUT_INVALID.SessionToken.Invalid"),
            ("a session that is no UUID", "x' OR 1=1 --", "INPUT_INVALID.SessionToken.Invalid"),
            ("the bearer as session", token, "INPUT_INVALID.SessionToken.Invalid")):
        table.refused(name, 401, code, table.body(), {"VZ-M2M-Token": value})
        table.refused(f"{name}, listing listeners", 401, code, None, {"VZ-M2M-Token": value}, "GET", LISTENERS, OTHER_FAMILY)
    other = Client(table.at.server.port, OTHER_KEY, OTHER_SECRET)
    table.refused("a session with another client's bearer", 401, "INPUT_INVALID.SessionToken.Invalid", table.body(),
                  {"Authorization": f"Bearer {other.fetch_token()}"})
    ended = table.at.server.client()
    ended.call("POST", "/api/m2m/v1/session/logout")
    table.refused("a session that was logged out", 401,
                  ("INPUT_INVALID.SessionToken.Invalid", "REQUEST_FAILED.SessionToken.Expired"), table.body(),
                  {"VZ-M2M-Token": ended.session})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    grant = b"grant_type=client_credentials"
    table.refused("the token without Basic", 401, "900902", grant, form | {"Authorization": None}, path=TOKEN, family=GATEWAY)
    for name, header, body, status, code in (
            ("the token with a wrong secret", basic(KEY, "wrong"), grant, 401, "invalid_client"),
            ("the token of an unknown key", basic("nobody", SECRET), grant, 401, "invalid_client"),
            ("the token without grant_type", basic(KEY, SECRET), b"", 400, "invalid_request"),
            ("the token for another grant", basic(KEY, SECRET), b"grant_type=password", 400,
             ("invalid_request", "unsupported_grant_type"))):
        table.refused(name, status, code, body, form | {"Authorization": header, "VZ-M2M-Token": None}, path=TOKEN, family=OAUTH)
    answer = table.call("POST", TOKEN, grant, form | {"Authorization": "Basic !!!not base64!!!"})
    table.report.equal("the token with a broken Basic", answer.status, 401)


def sessions(table):
    for name, status, code, body, headers, family in (
            ("login without bearer", 401, "900902", {"username": USER, "password": PASSWORD}, {"Authorization": None}, GATEWAY),
            ("login with a made-up bearer", 401, "900901", {"username": USER, "password": PASSWORD},
             {"Authorization": "Bearer " + "f" * 32}, GATEWAY),
            ("login with an empty body", 400, "INPUT_INVALID.RequestUndefined", b"", {}, OTHER_FAMILY),
            ("login with no JSON", 400, "REQUEST_FAILED.UnexpectedError", b"username=a", {}, OTHER_FAMILY),
            ("login without a password", 400, "REQUEST_FAILED.UnexpectedError", {"username": USER}, {}, OTHER_FAMILY),
            ("login with a number for a name", 400, "REQUEST_FAILED.UnexpectedError", {"username": 1, "password": "x"}, {}, OTHER_FAMILY),
            ("login as text/plain", 415, "INPUT_INVALID.Request.ContentType", {"username": USER, "password": PASSWORD},
             {"Content-Type": "text/plain"}, OTHER_FAMILY)):
        table.refused(name, status, code, body, {"VZ-M2M-Token": None} | headers, path=LOGIN, family=family)


# Rows 8 to 11: the body

def contents(table):
    good = json.dumps(table.body())
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data",
                         "application/jsonx", "", "garbage"):
        table.refused(f"content type {content_type!r}", 415, "INPUT_INVALID.Request.ContentType", good.encode(),
                      {"Content-Type": content_type})
    table.refused("no content type", 415, "INPUT_INVALID.Request.ContentType", good.encode(), {"Content-Type": None})
    table.refused("an empty body", 400, "INPUT_INVALID.RequestUndefined", b"")
    broken = "REQUEST_FAILED.UnexpectedError"
    table.refused("white space", 400, ("INPUT_INVALID.RequestUndefined", broken), b" \r\n\t ")
    devices = json.dumps(table.body()["devices"])
    for name, body in (
            ("half a JSON", good[:-10].encode()), ("a trailing comma", good[:-1].encode() + b",}"),
            ("a second JSON behind it", good.encode() + b" {}"), ("single quotes", good.replace('"', "'").encode()),
            ("an array", b"[]"), ("a text", b'"accountName"'), ("a number", b"12"), ("null", b"null"), ("true", b"true"),
            ("NaN", b'{"accountName": NaN}'), ("a zero byte", good.encode() + b"\0"), ("UTF-16", good.encode("utf-16")),
            ("a byte-order mark", b"\xef\xbb\xbf" + good.encode()),
            ("invalid UTF-8 in a value", good.encode().replace(b"00001", b"0\xff\xfe1")),
            ("invalid UTF-8 in a name", good.encode().replace(b"kind", b"k\xffnd")),
            ("invalid UTF-8 in an unknown member", good.encode()[:-1] + b',"x":"\xc3\x28"}'),
            ("a lone surrogate", good.encode().replace(b"00001", b"\\ud800")),
            ("a control character", good.encode().replace(b"00001", b"\x01")),
            ("the account as a number", table.body(accountName=123456)), ("the account as an object", table.body(accountName={})),
            ("the plan as a list", table.body(servicePlan=["a"])), ("devices as an object", table.body(devices={})),
            ("devices as a text", table.body(devices="all")), ("a device as a text", table.body(devices=["89148000000000000000"])),
            ("a device as a number", table.body(devices=[1])), ("deviceIds as an object", table.body(devices=[{"deviceIds": {}}])),
            ("an identifier as a text", table.body(devices=[{"deviceIds": ["iccid"]}])),
            ("an ICCID as a number", table.body(devices=[{"deviceIds": [{"kind": "iccid", "id": 89999000000000000000}]}])),
            ("a kind as a number", table.body(devices=[{"deviceIds": [{"kind": 1, "id": "89999000000000000000"}]}])),
            ("nesting in an unknown member",
             f'{{"deep":{"[" * NESTED}{"]" * NESTED},"accountName":"{ACCOUNT}","devices":{devices}}}'.encode()),
            ("nesting in devices", b'{"accountName":"' + ACCOUNT.encode() + b'","devices":' + b"[" * NESTED + b"]" * NESTED + b"}"),
            ("nesting of objects", b'{"a":' * NESTED + b"1" + b"}" * NESTED),
            ("nesting that never ends", b"[" * NESTED)):
        code = (broken, "REQUEST_FAILED.AccountName") if name == "a lone surrogate" else broken
        table.refused(name, (400, 403) if name == "a lone surrogate" else 400, code, body)


# Rows 12 to 18: what it asks for

def accounts(table):
    missing = "INPUT_INVALID.Account.NotDefined"
    table.refused("no accountName", 400, missing, table.body(accountName=...))
    table.refused("accountName null", 400, missing, table.body(accountName=None))
    table.refused("accountName empty", (400, 403), (missing, "REQUEST_FAILED.AccountName"), table.body(accountName=""))
    answers = []
    for name, account in (("an unknown account", UNKNOWN_ACCOUNT), ("another user's account", OTHERS_ACCOUNT),
                          ("an account with letters", "TestAccount-1"), ("an account with a quote", "0000123456-00001'--"),
                          ("an account with spaces", f" {ACCOUNT} "), ("an account of 10,000 characters", "1" * 10_000)):
        answers.append(table.refused(name, 403, "REQUEST_FAILED.AccountName", table.body(accountName=account)))
    table.report.equal("another user's account and an unknown one get the same answer", answers[1].raw, answers[0].raw)
    answers = [table.refused(f"listeners of {name}", 403, "REQUEST_FAILED.AccountName", method="GET", family=OTHER_FAMILY,
                             path=f"/api/m2m/v1/callbacks/{account}")
               for name, account in (("an unknown account", UNKNOWN_ACCOUNT), ("another user's account", OTHERS_ACCOUNT))]
    table.report.equal("… the same answer for both", answers[1].raw, answers[0].raw)


def devices(table):
    missing = "INPUT_INVALID.DeviceNotProvided"
    kind = "INPUT_INVALID.Device.Kind.Invalid"
    malformed = "INPUT_INVALID.Device.Identifier.Invalid"
    broken = "REQUEST_FAILED.UnexpectedError"
    good = {"deviceIds": [{"kind": "iccid", "id": next(table.markers)}]}
    for name, devices in (("no devices", ...), ("devices null", None), ("devices empty", []), ("a device without deviceIds", [{}]),
                          ("deviceIds null", [{"deviceIds": None}]), ("deviceIds empty", [{"deviceIds": []}]),
                          ("one empty device among good ones", [good, {"deviceIds": []}, good])):
        table.refused(name, 400, missing, table.body(devices=devices))
    table.refused("a device null", 400, (missing, broken), table.body(devices=[None, good]))
    table.refused("an identifier null", 400, (missing, broken, kind), table.body(devices=[{"deviceIds": [None]}]))
    table.refused("a kind null", 400, (kind, broken), table.body(devices=[{"deviceIds": [{"kind": None, "id": next(table.markers)}]}]))
    table.refused("an id null", 400, (malformed, broken), table.body(devices=[{"deviceIds": [{"kind": "iccid", "id": None}]}]))
    table.refused("no kind", 400, (kind, broken), table.body(devices=[{"deviceIds": [{"id": next(table.markers)}]}]))
    table.refused("no id", 400, (malformed, broken), table.body(devices=[{"deviceIds": [{"kind": "iccid"}]}]))
    for unknown in ("colour", "", "iccid ", "İCCID", "iccidd", "esn"):
        table.refused(f"the kind {unknown!r}", 400, kind, table.device((unknown, next(table.markers))))
    table.refused("an EID without an ICCID", 400, (kind, missing), table.device(("eid", "89049032000000000000000000000001")))
    for name, text in (("12 digits", "891480000000"), ("25 digits", "8" * 25), ("18 digits", "8" * 18), ("21 digits", "8" * 21),
                       ("letters", "8914800000000000000A"), ("an F at the end", "8914800000000000000F"), ("no digits", ""),
                       ("spaces", " 9148000000000000000"), ("a sign", "-8914800000000000000"), ("a dot", "8914800000.000000000"),
                       ("digits of another script", "٨٩١٤٨٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠"), ("full-width digits", "８９１４８０００００００００００００００"),
                       ("a line end", "8914800000000000000\n"), ("a zero character", "8914800000000000000\0"),
                       ("100,000 digits", "8" * 100_000)):
        table.refused(f"an ICCID of {name}", 400, malformed, table.device(("iccid", text)))
    table.refused("an EID of 31 digits beside a good ICCID", 400, malformed,
                  table.device(("iccid", next(table.markers)), ("eid", "8" * 31)))
    table.refused("an IMEI of 13 digits beside a good ICCID", 400, malformed,
                  table.device(("iccid", next(table.markers)), ("imei", "8" * 13)))
    answer = table.refused("thirty malformed ICCIDs", 400, malformed, action_body(ACCOUNT, [f"{number}" for number in range(30)]))
    table.report.check("… the message is short", len(answer.raw) < 1500, len(answer.raw))
    table.refused("one malformed ICCID among 9,999 good ones", 400, malformed,
                  action_body(ACCOUNT, [next(table.markers) for _ in range(9_999)] + ["12"]))
    table.refused("10,001 devices", 400, "INPUT_INVALID.MaxRequestsExceeded",
                  action_body(ACCOUNT, [next(table.markers) for _ in range(10_001)]))
    table.refused("10,001 ICCIDs in one device", 400, "INPUT_INVALID.MaxRequestsExceeded",
                  table.body(devices=[{"deviceIds": [{"kind": "iccid", "id": next(table.markers)} for _ in range(10_001)]}]))


def keys(table, used):
    code = "INPUT_INVALID.IdempotencyKey"
    for name, key in (("256 characters", "k" * 256), ("with a space", "a b"), ("with a tab", "a\tb"), ("with an ü", "schl\xfcssel"),
                      ("empty", "")):
        table.refused(f"a key {name}", 400, code, table.body(), {"Idempotency-Key": key})
    table.refused("a key that was used with another body", 400, code, table.body(), {"Idempotency-Key": used})


def order(table):
    """Two causes at once: the one that stands first in the table is told."""
    nobody = {"Authorization": None}
    table.refused("an unknown path before a missing bearer", 404, "900906", table.body(), nobody, path="/api/m2m/v1/no", family=GATEWAY)
    table.refused("a wrong method before a missing bearer", 405, "900906", None, nobody, "GET", family=GATEWAY)
    table.refused("the bearer before the session", 401, "900901", table.body(),
                  {"Authorization": "Bearer x", "VZ-M2M-Token": None}, family=GATEWAY)
    table.refused("the session before the content type", 401, "REQUEST_FAILED.SessionToken.Format", b"x",
                  {"VZ-M2M-Token": None, "Content-Type": "text/plain"})
    table.refused("the content type before the empty body", 415, "INPUT_INVALID.Request.ContentType", b"", {"Content-Type": "text/plain"})
    table.refused("the shape before the account", 400, "REQUEST_FAILED.UnexpectedError",
                  table.body(accountName=UNKNOWN_ACCOUNT, devices="x"))
    table.refused("the account before the devices", 403, "REQUEST_FAILED.AccountName", table.body(accountName=UNKNOWN_ACCOUNT, devices=[]))
    table.refused("a missing account before missing devices", 400, "INPUT_INVALID.Account.NotDefined", {})
    table.refused("missing devices before a malformed key", 400, "INPUT_INVALID.DeviceNotProvided", table.body(devices=[]),
                  {"Idempotency-Key": "a b"})
    table.refused("a missing identifier before a wrong kind", 400, "INPUT_INVALID.DeviceNotProvided",
                  table.body(devices=[{"deviceIds": [{"kind": "colour", "id": "1"}]}, {"deviceIds": []}]))
    table.refused("a wrong kind before a malformed identifier", 400, "INPUT_INVALID.Device.Kind.Invalid",
                  table.device(("iccid", "12"), ("colour", "1")))
    table.refused("a malformed identifier before too many", 400, "INPUT_INVALID.Device.Identifier.Invalid",
                  action_body(ACCOUNT, [next(table.markers) for _ in range(10_001)] + ["12"]))
    table.refused("too many before a malformed key", 400, "INPUT_INVALID.MaxRequestsExceeded",
                  action_body(ACCOUNT, [next(table.markers) for _ in range(10_001)]), {"Idempotency-Key": "a b"})


# The other calls

def other_calls(table):
    def listener(name, status, code, body, path=LISTENERS, headers=None):
        table.refused(f"a listener {name}", status, code, body, headers, path=path, family=OTHER_FAMILY)

    good = {"name": SERVICE, "url": table.at.listener.url("/ok")}
    listener("for another user's account", 403, "REQUEST_FAILED.AccountName", good, f"/api/m2m/v1/callbacks/{OTHERS_ACCOUNT}")
    listener("with an empty body", 400, "INPUT_INVALID.RequestUndefined", b"")
    listener("with no JSON", 400, "REQUEST_FAILED.UnexpectedError", b"name")
    listener("as text/plain", 415, "INPUT_INVALID.Request.ContentType", good, headers={"Content-Type": "text/plain"})
    before = table.call("GET", LISTENERS).raw
    for name, body in (
            ("without a URL", {"name": SERVICE}), ("without a name", {"url": good["url"]}),
            ("at ftp://", good | {"url": "ftp://127.0.0.1/x"}), ("at a text that is no URL", good | {"url": "not a url"}),
            ("with user info", good | {"url": "http://a:b@127.0.0.1:9001/"}),
            ("at the metadata address", good | {"url": "http://169.254.169.254/latest"}),
            ("at the metadata address in IPv6", good | {"url": "http://[::ffff:169.254.169.254]/"}),
            ("at the unspecified address", good | {"url": "http://0.0.0.0:9001/"}),
            ("at a multicast address", good | {"url": "http://224.0.0.1/"}),
            ("at a private address that is not allowed", good | {"url": "http://10.1.2.3/"}),
            ("with a password of 41 characters", good | {"password": "p" * 41}),
            ("with a user name of 41 characters", good | {"username": "u" * 41})):
        answer = table.call("POST", LISTENERS, body)
        error_code = (answer.json or {}).get("errorCode", "")
        table.report.check(f"a listener {name}: 400", answer.status == 400 and error_code.startswith("UnifiedWebService."),
                           answer.status, answer.raw[:300])
    table.report.equal("the listeners are as before", table.call("GET", LISTENERS).raw, before)

    unknown = str(uuid.uuid4())
    for path in (f"/api/m2m/v2/accounts/{ACCOUNT}/requests/{unknown}/status", f"/api/m2m/v1/accounts/{ACCOUNT}/requests/{unknown}/status",
                 f"{OWN}/requests/{unknown}", f"{OWN}/requests/{unknown}/subrequests", f"{OWN}/profiles/{MARKER.format(1)}",
                 f"{OWN}/profiles/{MARKER.format(1)}/history", f"{OWN}/callbacks/{unknown}.1"):
        table.report.equal(f"GET {path}: 404", table.call("GET", path).status, 404)
    other = table.at.server.client(OTHER_USER)
    request = table.at.client.requests(ACCOUNT)[0]["requestId"]
    iccid = table.at.fleet[0].iccid
    for path, never in ((f"{OWN}/requests/{{}}", unknown), (f"{OWN}/requests/{{}}/subrequests", unknown),
                        (f"{OWN}/callbacks/{{}}.1", unknown), (f"/api/m2m/v2/accounts/{OTHERS_ACCOUNT}/requests/{{}}/status", unknown),
                        (f"{OWN}/profiles/{{}}", MARKER.format(1)), (f"{OWN}/profiles/{{}}/history", MARKER.format(1))):
        real = iccid if "profiles" in path else request
        answers = [other.call("GET", path.format(one)) for one in (real, never)]
        table.report.check(f"{path} of another user: the same answer as for what never was",
                           answers[0].status == answers[1].status in (403, 404)
                           and answers[0].raw.replace(real.encode(), b"") == answers[1].raw.replace(never.encode(), b""),
                           *[(answer.status, answer.raw) for answer in answers])
    answers = [other.call("POST", f"{OWN}/requests/{one}/cancel") for one in (request, unknown)]
    table.report.check("another user cannot cancel, nor learn of it", answers[0].status == answers[1].status in (403, 404),
                       *[(answer.status, answer.raw) for answer in answers])
    for query in ("limit=0", "limit=1001", "limit=abc", "limit=-1", "limit=99999999999999999999", "after=%00", "after=zzz", "state=blue",
                  "after=9999999999999999999999"):
        for path in (f"requests?account={ACCOUNT}", f"profiles?account={ACCOUNT}", f"callbacks?account={ACCOUNT}",
                     f"requests/{request}/subrequests?x=1"):
            answer = table.call("GET", f"{OWN}/{path}&{query}")
            table.report.check(f"GET {path}&{query}: a 2xx or a 4xx", 200 <= answer.status < 500, answer.status, answer.raw[:200])
    for path in ("requests", "profiles", "callbacks"):
        for account in (UNKNOWN_ACCOUNT, OTHERS_ACCOUNT, ""):
            answer = table.call("GET", f"{OWN}/{path}?account={account}")
            table.report.check(f"GET {path}?account={account}: refused", answer.status in (400, 403, 404),
                               answer.status, answer.raw[:200])
        answer = table.call("GET", f"{OWN}/{path}")
        table.report.check(f"GET {path} without account: refused", answer.status in (400, 403), answer.status, answer.raw[:200])
    for body in (b"", b"x", {}, {"account": OTHERS_ACCOUNT}, {"account": ACCOUNT, "state": "blue"}, {"account": ACCOUNT, "from": "yesterday"},
                 {"account": 1}):
        answer = table.call("POST", f"{OWN}/callbacks/replay", body)
        table.report.check(f"a replay of {body}: refused", 400 <= answer.status < 500, answer.status, answer.raw[:200])
    for network in ("verizon-us", "no-such-network"):
        answer = table.call("POST", f"{OWN}/carriers/{network}/hold")
        table.report.check(f"holding the carrier {network} is for operators", answer.status in (403, 404), answer.status, answer.raw[:200])


# What is not even HTTP

def raw_exchange(port, data, timeout=5.0):
    """Sends bytes; what comes back until the end or the time-out."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # the server may answer and close before it has read all
        try:
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received += part
        except OSError:
            pass
    return received


def broken_http(table):
    client = table.at.client
    head = f"Host: x\r\nAuthorization: Bearer {client.token}\r\nVZ-M2M-Token: {client.session}\r\nContent-Type: application/json\r\n"
    body = json.dumps(table.body())
    post = f"POST {RESUME} HTTP/1.1\r\n{head}"
    length = f"Content-Length: {len(body)}\r\n"
    for name, data in (
            ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 200),
            ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("HTTP/9.9", f"POST {RESUME} HTTP/9.9\r\n{head}{length}\r\n{body}".encode()),
            ("a header without a colon", f"{post}garbage\r\n{length}\r\n{body}".encode()),
            ("a header name with spaces", f"{post}X Y: z\r\n{length}\r\n{body}".encode()),
            ("a zero byte in a header", f"{post}X: a\0b\r\n{length}\r\n{body}".encode()),
            ("a header of 1 MB", f"{post}X: {'x' * (1 << 20)}\r\n{length}\r\n{body}".encode()),
            ("10,000 headers", (post + "".join(f"X-{n}: y\r\n" for n in range(10_000)) + f"{length}\r\n{body}").encode()),
            ("a length that is no number", f"{post}Content-Length: many\r\n\r\n{body}".encode()),
            ("a negative length", f"{post}Content-Length: -1\r\n\r\n{body}".encode()),
            ("an endless length", f"{post}Content-Length: {'9' * 40}\r\n\r\n{body}".encode()),
            ("two different lengths", f"{post}Content-Length: 1\r\n{length}\r\n{body}".encode()),
            ("a length and chunks", f"{post}{length}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{body}".encode()),
            ("a broken chunk", f"{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n".encode()),
            ("a body that ends early", f"{post}Content-Length: {len(body) + 100}\r\n\r\n{body}".encode()),
            ("a path of 100 kB", f"POST /{'a' * 100_000} HTTP/1.1\r\n{head}{length}\r\n{body}".encode()),
            ("a path with a space", f"POST {RESUME} x HTTP/1.1\r\n{head}{length}\r\n{body}".encode()),
            ("a path with bytes above 127", b"POST /\xff\xfe HTTP/1.1\r\n" + f"{head}{length}\r\n{body}".encode()),
            ("two bearers", f"{post}Authorization: Bearer x\r\n{length}\r\n".encode() + b"x" * len(body))):
        answer = raw_exchange(table.at.server.port, data)
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.") and answer[9:12].isdigit() else 0
        table.report.check(f"{name}: a 4xx, or the connection ends", status == 0 or 400 <= status < 500 or status == 505, answer[:200])
    table.report.check("the server still answers", table.call("GET", LISTENERS).status == 200)


def huge(table):
    client = table.at.client
    head = (f"POST {RESUME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\nVZ-M2M-Token: {client.session}\r\n"
            "Content-Type: application/json\r\nConnection: close\r\n").encode()
    before = table.at.server.memory()
    body = b'{"accountName":"' + b"x" * HUGE + b'"}'
    chunks = b"".join(b"%x\r\n%b\r\n" % (1 << 20, b"y" * (1 << 20)) for _ in range(HUGE >> 20)) + b"0\r\n\r\n"
    for name, data in (("with its length", head + b"Content-Length: %d\r\n\r\n" % len(body) + body),
                       ("in chunks", head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)):
        answer = raw_exchange(table.at.server.port, data)
        headers, _, raw = answer.partition(b"\r\n\r\n")
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        if status or name == "in chunks":
            table.report.check(f"50 MB {name}: 413, or the connection ends", status in (0, 413), answer[:300])
        if status:
            table.answer_is(f"50 MB {name}", Answer(status, {}, raw), 413, "INPUT_INVALID.Request.TooLarge", ESIM)
    grown = table.at.server.memory() - before
    table.report.check("50 MB do not stay in memory", grown < 2 * HUGE, f"{grown >> 20} MiB more")
    table.report.check("the server still answers after 50 MB", table.call("GET", LISTENERS).status == 200)


# After the comparison: what may leave a trace

def connections(table):
    """A refusal that does not need the body still reads it, or says that the connection closes: a client that
    goes on writing would else lose the answer, and the next call on its connection."""
    one, many = action_body(ACCOUNT, [next(table.markers)]), action_body(ACCOUNT, [next(table.markers) for _ in range(10_000)])
    dead = {"VZ-M2M-Token": str(uuid.uuid4())}
    for name, path, body, headers, status in (
            ("a dead session", RESUME, one, dead, 401), ("no bearer", RESUME, one, {"Authorization": None}, 401),
            ("an unknown path", RESUME + "x", one, {}, 404), ("a wrong method", f"{OWN}/requests", one, {}, 405),
            ("another content type", RESUME, one, {"Content-Type": "text/plain"}, 415),
            ("a dead session under 10,000 profiles", RESUME, many, dead, 401),
            ("no bearer over 10,000 profiles", RESUME, many, {"Authorization": None}, 401)):
        lost, broken = [], []
        for _ in range(CONNECTIONS):
            client = table.at.client.twin()
            try:
                answer = client.call("POST", path, body, headers)
            except NoAnswer as error:
                lost.append(error)
                continue
            if answer.status != status:
                lost.append((answer.status, answer.raw[:200]))
            if client.connection is None:  # the server said that it closes
                continue
            try:
                client.call("GET", "/healthz")
            except NoAnswer as error:
                broken.append(error)
            client.close()
        table.report.none(f"{name}: each of {CONNECTIONS} callers sees the {status}", lost)
        table.report.none(f"{name}: a connection that stays open takes the next call", broken)


def refusals_keep_no_key(report, at):
    key = str(uuid.uuid4())
    iccids = at.iccids(1)
    refused = at.client.resume(UNKNOWN_ACCOUNT, iccids, key)
    too_many = at.client.resume(ACCOUNT, [MARKER.format(10**9 + number) for number in range(10_001)], key)
    accepted = at.client.resume(ACCOUNT, iccids, key)
    report.equal("a refusal consumes no key", (refused.status, too_many.status, accepted.status), (403, 400, 200))


def locked_store(table):
    """Somebody else holds the database's write lock: a request waits, or is answered 503, and is whole either way."""
    for seconds in (LOCKED_FOR, LOCKED_OUT_FOR):
        iccids = table.at.iccids(1)
        key = str(uuid.uuid4())
        lock = sqlite3.connect(table.at.server.store / "reveille.db", isolation_level=None, check_same_thread=False)
        try:
            lock.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            lock.close()
            table.report.check("the store could be locked from outside", False)
            return
        release = threading.Timer(seconds, lambda: (lock.rollback(), lock.close()))
        release.start()
        started = time.monotonic()
        answer = table.at.client.resume(ACCOUNT, iccids, key)
        waited = time.monotonic() - started
        reading = table.at.client.call("GET", f"{OWN}/requests?account={ACCOUNT}").status
        release.join()
        if answer.status == 200:
            table.report.check(f"a store locked for {seconds} s: a request waits for the lock", waited >= seconds - 1, f"{waited:.1f} s")
        else:
            table.answer_is(f"a store locked for {seconds} s", answer, 503, "REQUEST_FAILED.UnexpectedError", ESIM)
        table.report.equal("… reading goes on", reading, 200)
        again = table.at.client.resume(ACCOUNT, iccids, key)
        table.report.check("… repeated with its key, it is accepted once", again.status == 200 and
                           answer.request_id in (None, again.request_id), again.status, again.raw[:300])
        table.report.equal("… and performed once", len(table.at.told(again.request_id, 1)), 1)
        mine = [request for request in table.at.client.requests(ACCOUNT)
                if [sub["iccid"] for sub in table.at.client.subrequests(request["requestId"])] == iccids]
        table.report.equal("… and there is one request of it", len(mine), 1)


def lock_out(table):
    """Five wrong passwords lock a user; the answer to a sixth does not tell whether it was right."""
    def login(password):
        return table.call("POST", LOGIN, {"username": LOCKED_USER, "password": password}, {"VZ-M2M-Token": None})

    table.report.equal("the user can log in", login(PASSWORD).status, 200)
    wrong = [login(f"wrong {number}") for number in range(5)]
    table.report.check("five wrong passwords are refused, with a code", all(
        answer.status in (400, 401, 403) and (answer.json or {}).get("errorCode", "").startswith("UnifiedWebService.")
        for answer in wrong), *[(answer.status, answer.raw) for answer in wrong])
    locked, wrong_again = login(PASSWORD), login("wrong again")
    table.report.check("then the right one is refused too", locked.status in (400, 401, 403), locked.status, locked.raw)
    table.report.equal("… with the same answer as a wrong one, so that nobody learns it by trying on",
                       (locked.status, locked.raw), (wrong_again.status, wrong_again.raw))
    nobody = table.call("POST", LOGIN, {"username": "nobody at all", "password": "x"}, {"VZ-M2M-Token": None})
    table.report.equal("an unknown user gets the answer of a wrong password", (nobody.status, nobody.raw), (wrong[0].status, wrong[0].raw))


# Rows 3, 6 and 7: what ends by itself, and what is full

def ended_tokens(report, arguments):
    """Sessions end after a time without use, tokens after a time; both say so, also after a restart."""
    with scene(report, arguments.binary, "ended", profiles=4,
               more=f'[sessions]\nidle = "{IDLE:.0f}s"\ntoken_life = "{TOKEN_LIFE:.0f}s"\n') as at:
        table = Table(report, at)
        expired = "REQUEST_FAILED.SessionToken.Expired"
        at.client.login()
        used_for = time.monotonic() + 1.5 * IDLE
        uses = []
        while time.monotonic() < used_for:  # each use makes it last longer
            uses.append(at.client.call("GET", LISTENERS).status)
            time.sleep(IDLE / 5)
        report.equal("a session that is used does not expire", set(uses), {200})
        time.sleep(1.2 * IDLE)
        for turn in ("", ", after a restart"):
            at.client.token = at.client.fetch_token()
            table.refused(f"an expired session{turn}", 401, expired, table.body())
            table.refused(f"an expired session{turn}, listing listeners", 401, expired, method="GET", path=LISTENERS, family=OTHER_FAMILY)
            table.refused(f"an expired session{turn}, on the server's own surface", 401, expired, method="GET",
                          path=f"{OWN}/requests?account={ACCOUNT}")
            table.refused(f"an expired session{turn} before another content type", 401, expired, b"x", {"Content-Type": "text/plain"})
            table.refused(f"an expired session{turn}, logging out", 401, expired, path="/api/m2m/v1/session/logout", family=OTHER_FAMILY)
            if not turn:
                at.server.stop()
                at.server.start()
                at.client.close()
        at.client.login()
        first, began = at.client.token, time.monotonic()
        report.equal("after a new login all is well", at.client.call("GET", LISTENERS).status, 200)
        report.equal("a token that lives is given again", at.client.fetch_token(), first)
        while time.monotonic() < began + 1.1 * TOKEN_LIFE:
            at.client.call("GET", LISTENERS)
            time.sleep(IDLE / 5)
        table.refused("an expired bearer", 401, "900901", table.body(), family=GATEWAY)
        at.client.token = at.client.fetch_token()
        report.check("the next token is another one", at.client.token != first)
        table.refused("the expired bearer, when there is a new one", 401, "900901", table.body(),
                      {"Authorization": f"Bearer {first}"}, family=GATEWAY)
        report.equal("no request was made", at.client.login().requests(ACCOUNT), [])


def backlog(report, arguments):
    """More than an account may have waiting is refused with 429, keeps nothing, and is accepted when there is room."""
    with scene(report, arguments.binary, "backlog", profiles=2 * WAITING_MAX, operator=True,
               more=f"[limits]\nwaiting_per_account = {WAITING_MAX}\n") as at:
        table = Table(report, at)
        for network in ("verizon-us", "global"):
            at.client.call("POST", f"{OWN}/carriers/{network}/hold")
        too_many = "REQUEST_FAILED.TooManyRequests"
        iccids, more = at.iccids(WAITING_MAX), at.iccids(2)
        key = str(uuid.uuid4())
        table.refused("more at once than may wait", 429, too_many, action_body(ACCOUNT, iccids + more))
        full = at.client.resume(ACCOUNT, iccids)
        report.equal("as many as may wait are accepted", full.status, 200)
        table.refused("one more than may wait", 429, too_many, action_body(ACCOUNT, more), {"Idempotency-Key": key})
        table.refused("an unknown account when another's backlog is full", 403, "REQUEST_FAILED.AccountName", table.body(accountName=UNKNOWN_ACCOUNT))
        report.equal("only what was accepted is there", [one["requestId"] for one in at.client.requests(ACCOUNT)], [full.request_id])
        for network in ("verizon-us", "global"):
            at.client.call("POST", f"{OWN}/carriers/{network}/release")
        at.client.wait_ended(ACCOUNT, 60)
        again = at.client.resume(ACCOUNT, more, key)
        report.equal("with room again, the same key is accepted", again.status, 200)
        at.client.wait_ended(ACCOUNT, 60)
        report.equal("all of it is told", len(at.listener.received()), WAITING_MAX + len(more))


def full_disk(report, arguments):
    """With less room on the disk than must stay free nothing is accepted, and all that only reads goes on."""
    with scene(report, arguments.binary, "disk", profiles=4, before="", more=f"[limits]\ndisk_free_bytes_min = {1 << 60}\n") as at:
        table = Table(report, at)
        table.refused("a request when the disk is nearly full", 503, "REQUEST_FAILED.UnexpectedError", action_body(ACCOUNT, at.iccids(2)))
        report.equal("… reading goes on", (at.client.requests(ACCOUNT), at.client.call("GET", LISTENERS).status), ([], 200))


def main():
    arguments = arguments_of(__doc__, seed=False)
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
