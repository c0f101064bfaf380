#!/usr/bin/env python3
"""The documented example as a customer copies it, every spelling of it and of other calls that is seen in the wild, and
the calls that no SDK has."""

import json
import uuid

from report import Report
from scene import scene
from server import ACCOUNT, KEY, SECRET, US_PLAN, arguments_of, basic, profile, run_proof

SECOND_PLAN = "Verizon IoT 10MB"
ACTIONS = "devices/profile/actions/"
RESUME = ACTIONS + "profile_resume"
PREFIXES = ("/api/m2m/v1//", "/api/m2m/v1/", "/v1/", "/m2m/v1/", "/api/v1/", "//api//m2m/v1//", "/v1//")
TOKEN_PATHS = ("/api/ts/v1/oauth2/token", "/ts/v1/oauth2/token", "/api/ts/v1//oauth2/token")

# As the documentation prints it, line ends and all; only the ICCID and the plan's name are filled in.
DOCUMENTED = """{
"devices": [
{
"deviceIds": [
{
"kind": "iccid",
"id": "%s"
}
]
}
],
"accountName": "0000123456-00001",
"servicePlan": "%s"
}"""


def proof(report, arguments):
    with scene(report, arguments.binary, "spellings") as at:
        documented_example(report, at)
        paths(report, at)
        at.server.apply(f'[[account]]\nname = "{ACCOUNT}"\n[[account.service_plan]]\nname = "{SECOND_PLAN}"\n'
                        'network = "verizon-us"\n')
        family_paths(report, at)
        uncalled_by_sdks(report, at)
        headers(report, at)
        bodies(report, at)
        tokens(report, at)
        statuses(report, at)


def accepted(report, name, at, answer, iccids, statuses=None):
    """The answer is a 200 with a UUID, and each ICCID is told about once, as expected."""
    if not report.check(f"{name}: 200 with a requestId", answer.status == 200 and is_uuid(answer.request_id),
                        answer.status, answer.raw[:300]):
        return None
    told = at.told(answer.request_id, len(iccids))
    report.equal(f"{name}: each profile is told of", {iccid: body["status"] for iccid, body in told.items()},
                 dict(zip(iccids, statuses or ["SUCCESS"] * len(iccids))))
    return told


def fault_of(told, iccid):
    return told.get(iccid, {}).get("faultResponse", {}).get("faultcode")


def is_uuid(text):
    try:
        return str(uuid.UUID(text)) == text
    except (ValueError, TypeError):
        return False


def documented_example(report, at):
    iccid, = at.iccids(1, "verizon-us")
    answer = at.client.send("POST", "/api/m2m/v1//" + RESUME, (DOCUMENTED % (iccid, US_PLAN)).encode(), {
        "Authorization": f"Bearer {at.client.token}", "VZ-M2M-Token": at.client.session, "Content-Type": "application/json"})
    told = accepted(report, "the documented example", at, answer, [iccid])
    report.equal("its answer has one member", list(answer.json), ["requestId"])
    report.check("its answer is JSON", answer.headers.get("content-type", answer.headers.get("Content-Type", ""))
                 .startswith("application/json"), answer.headers)
    if told and iccid in told:
        before = next(one for one in at.fleet if one.iccid == iccid)
        ids = [{"id": before.eid, "kind": "Eid"}, {"id": before.imei, "kind": "Imei"},
               {"id": before.msisdn, "kind": "msisdn"}, {"id": iccid, "kind": "Iccid"}]
        expected = {"requestId": answer.request_id, "deviceIds": ids,
                    "deviceResponse": {"deviceProfileResponse": {
                        "deviceIdentifierCollection": ids, "state": "ACTIVE", "profileStatus": "ENABLE", "profileRole": "LEAD"}},
                    "status": "SUCCESS", "callbackCount": 1, "maxCallbackThreshold": 4}
        report.equal("its callback is the documented one, members in order", json.dumps(told[iccid]), json.dumps(expected))


def paths(report, at):
    for prefix in PREFIXES:
        iccids = at.iccids(1)
        answer = at.client.call("POST", prefix + RESUME, body_of(iccids))
        accepted(report, prefix + "…", at, answer, iccids)


def devices_of(*identifiers):
    """A body with one device for each list of (kind, id)."""
    ids = [[{"kind": kind, "id": text} for kind, text in one] for one in identifiers]
    return {"devices": [{"deviceIds": one} for one in ids], "accountName": ACCOUNT}


def said(body):
    """What a callback says: the state, and the status on the card where it is a profile's; or the fault."""
    if body is None:
        return "nothing"
    if "faultResponse" in body:
        return body["faultResponse"]["faultcode"]
    left = body["deviceResponse"]["deviceProfileResponse"]
    return " ".join(left[name] for name in ("state", "profileStatus") if name in left)


def tells(report, name, at, answer, expected):
    """The answer is a 200 with a UUID, and callbacks say what is expected, by their last identifier."""
    if report.check(f"{name}: 200 with a requestId", answer.status == 200 and is_uuid(answer.request_id),
                    answer.status, answer.raw[:300]):
        told = at.told(answer.request_id, len(expected))
        report.equal(f"{name}: what is told", {key: said(body) for key, body in told.items()}, expected)


def euicc(at, number):
    """A LEAD in service and a Global profile, on a device that no other fleet of the proofs has."""
    lead = profile(ACCOUNT, number, "verizon-us", "ACTIVE")
    other = profile(ACCOUNT, number, "global", "ACTIVE")
    at.server.import_fleet([lead, other], name=f"euicc-{number}.csv")
    return lead, other


def family_paths(report, at):
    """The spellings of other calls: pages and SDKs leave out now `/m2m`, now `/api`."""
    lead, other = euicc(at, 910_001)
    plans = (SECOND_PLAN, US_PLAN)
    for at_turn, prefix in enumerate(PREFIXES):
        def call(version, path, body):
            return at.client.call("POST", prefix.replace("v1", version) + path, body)

        one = (lead, other)[at_turn % 2]
        status = "ENABLE" if one is lead else "DISABLE"
        answer = call("v1", ACTIONS + "setfallbackattribute", devices_of([("iccid", one.iccid), ("eid", one.eid)]))
        tells(report, f"{prefix}…setfallbackattribute", at, answer, {one.iccid: f"ACTIVE {status}"})
        answer = call("v1", ACTIONS + "serviceplan", devices_of([("iccid", lead.iccid)]) | {"servicePlan": plans[at_turn % 2]})
        tells(report, f"{prefix}…serviceplan", at, answer, {lead.iccid: "ACTIVE ENABLE"})
        answer = call("v1", ACTIONS + "device_suspend", devices_of([("eid", lead.eid)]))
        tells(report, f"{prefix}…device_suspend", at, answer,
              {lead.iccid: "SUSPEND ENABLE", other.iccid: "SUSPEND DISABLE", lead.imei: "SUSPEND"})
        answer = call("v2", "devices/actions/list", {"accountName": ACCOUNT, "deviceFilter": [{"kind": "eid", "id": lead.eid}],
                                                     "carrierNameFilter": "VerizonWireless"})
        told = at.told(answer.request_id, 1)
        listed = [page["deviceResponse"]["deviceListResponse"]["devices"] for page in told.values()]
        report.equal(f"{prefix}…actions/list by v2", [[one["carrierName"], one["state"]] for one in sum(listed, [])],
                     [["Verizon Wireless", "SUSPEND"]])
        answer = call("v1", ACTIONS + "device_resume", devices_of([("eid", lead.eid)]))
        at.ended(answer.request_id)


def uncalled_by_sdks(report, at):
    """The two calls that no SDK has, and every callback of theirs."""
    lead, other = euicc(at, 910_002)
    alone = at.client.call("POST", "/api/m2m/v1/" + ACTIONS + "profile_suspend", devices_of([("iccid", other.iccid)]))
    tells(report, "profile_suspend", at, alone, {other.iccid: "SUSPEND DISABLE"})
    device = devices_of([("eid", lead.eid)])
    at.ended(at.client.call("POST", "/api/m2m/v1/" + ACTIONS + "device_suspend", device).request_id)
    answer = at.client.call("POST", "/api/m2m/v1//" + ACTIONS + "device_resume", device)
    tells(report, "device_resume", at, answer, {
        lead.iccid: "ACTIVE ENABLE", other.iccid: "UnifiedWebService.INPUT_INVALID.DeviceState.Invalid", lead.imei: "ACTIVE"})
    body = at.told(answer.request_id, 3).get(lead.imei)
    ids = [{"id": lead.eid, "kind": "Eid"}, {"id": lead.imei, "kind": "Imei"}]
    expected = {"requestId": answer.request_id, "deviceIds": ids,
                "deviceResponse": {"deviceProfileResponse": {"deviceIdentifierCollection": ids, "state": "ACTIVE"}},
                "status": "SUCCESS", "callbackCount": 1, "maxCallbackThreshold": 4}
    report.equal("device_resume: the device's own callback, members in order", json.dumps(body), json.dumps(expected))
    moved = devices_of([("iccid", lead.iccid)], [("iccid", other.iccid)]) | {"servicePlan": SECOND_PLAN}
    answer = at.client.call("POST", "/api/m2m/v1//" + ACTIONS + "serviceplan", moved)
    tells(report, "serviceplan", at, answer, {
        lead.iccid: "ACTIVE ENABLE", other.iccid: f"UnifiedWebService.REQUEST_FAILED.{SECOND_PLAN}.NotFound"})
    report.equal("serviceplan: the profile is on the new plan",
                 at.client.call("GET", f"/api/reveille/v1/profiles/{lead.iccid}").json["servicePlan"], SECOND_PLAN)
    answer = at.client.call("POST", "/api/m2m/v1/" + ACTIONS + "serviceplan", devices_of([("iccid", lead.iccid)]))
    report.equal("serviceplan without a plan: 400", answer.status, 400)


def headers(report, at):
    for name, changed in (
            ("lower-case header names", {"VZ-M2M-Token": None, "vz-m2m-token": at.client.session}),
            ("upper-case header names", {"VZ-M2M-Token": None, "VZ-M2M-TOKEN": at.client.session}),
            ("a charset", {"Content-Type": "application/json; charset=utf-8"}),
            ("a content type in capitals", {"Content-Type": "Application/JSON"}),
            ("Accept: */*", {"Accept": "*/*"}),
            ("Accept: application/json", {"Accept": "application/json", "User-Agent": "APIMATIC 3.0"}),
            ("a lower-case scheme", {"Authorization": f"bearer {at.client.token}"}),
            ("Accept-Encoding: gzip", {"Accept-Encoding": "identity;q=0.5, *;q=0"})):
        iccids = at.iccids(1)
        answer = at.client.call("POST", "/api/m2m/v1/" + RESUME, body_of(iccids), changed)
        accepted(report, name, at, answer, iccids)


def bodies(report, at):
    def resume(name, body, iccids, statuses=None):
        return accepted(report, name, at, at.client.call("POST", "/api/m2m/v1/" + RESUME, body), iccids, statuses)

    iccids = at.iccids(1)
    resume("unknown members and another order of members",
           {"mdnZipCode": "98801", "servicePlan": None, "accountName": ACCOUNT, "more": [{"deep": {"er": 1}}],
            "devices": [{"x": None, "deviceIds": [{"id": iccids[0], "colour": 1, "kind": "iccid"}]}]}, iccids)
    iccids = at.iccids(2)
    resume("two ICCIDs in one deviceIds",
           {"devices": [{"deviceIds": [{"kind": "iccid", "id": iccid} for iccid in iccids]}], "accountName": ACCOUNT}, iccids)
    iccids = at.iccids(2)
    told = resume("the same ICCID three times", body_of([iccids[0], iccids[1], iccids[0], iccids[0]]), iccids)
    if told:
        request_id = next(iter(told.values()))["requestId"]
        report.equal("… it is one subrequest, in the order of first mention",
                     [sub["iccid"] for sub in at.client.subrequests(request_id)], iccids)
    for kind in ("ICCID", "Iccid", "iccId"):
        iccids = at.iccids(1)
        resume(f"the kind {kind}",
               {"devices": [{"deviceIds": [{"kind": kind, "id": iccids[0]}]}], "accountName": ACCOUNT}, iccids)
    iccid, = at.iccids(1)
    known = next(one for one in at.fleet if one.iccid == iccid)
    resume("an EID that agrees",
           {"devices": [{"deviceIds": [{"kind": "eid", "id": known.eid}, {"kind": "iccid", "id": iccid}]}], "accountName": ACCOUNT}, [iccid])
    iccid, = at.iccids(1)
    told = resume("an EID that disagrees",
                     {"devices": [{"deviceIds": [{"kind": "eid", "id": "9" * 32}, {"kind": "iccid", "id": iccid}]}],
                      "accountName": ACCOUNT}, [iccid], ["Failed"])
    if told:
        report.equal("… its fault says so", fault_of(told, iccid),
                     "UnifiedWebService.INPUT_INVALID.Device.Identifier.Invalid")
    unknown = "8914800099999999999"
    told = resume("an ICCID that is not in the inventory", body_of([unknown]), [unknown], ["Failed"])
    if told:
        report.equal("… is told by the ICCID alone", told.get(unknown, {}).get("deviceIds"), [{"id": unknown, "kind": "Iccid"}])
        report.equal("… as not found", fault_of(told, unknown),
                     "UnifiedWebService.REQUEST_FAILED.DeviceNotFound")
    iccids = at.iccids(1, "verizon-us") + at.iccids(1, "global")
    resume("a plan of one network for both", body_of(iccids) | {"servicePlan": US_PLAN}, iccids, ["SUCCESS", "Failed"])
    iccids = at.iccids(1)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    answers = [at.client.call("POST", prefix + RESUME, body_of(iccids), headers) for prefix in ("/api/m2m/v1/", "/v1//")]
    report.check("a repeat with the same key, even by another spelling, is the same request",
                 answers[0].status == 200 and answers[0].request_id == answers[1].request_id,
                 *[answer.raw for answer in answers])


def tokens(report, at):
    form = {"Authorization": basic(KEY, SECRET), "Content-Type": "application/x-www-form-urlencoded"}
    seen = []
    for path in TOKEN_PATHS:
        answer = at.client.send("POST", path, b"grant_type=client_credentials", form)
        body = answer.json or {}
        report.check(f"{path}: all four members", answer.status == 200 and sorted(body) == [
            "access_token", "expires_in", "scope", "token_type"] and body["token_type"] == "Bearer"
            and type(body["expires_in"]) is int and 0 < body["expires_in"] <= 3600, answer.status, answer.raw)
        seen.append(body.get("access_token"))
    answer = at.client.send("POST", TOKEN_PATHS[0], b"grant_type=client_credentials&scope=", form)
    seen.append((answer.json or {}).get("access_token"))
    report.equal("the same token within the hour", len(set(seen)), 1)


def statuses(report, at):
    iccids = at.iccids(1)
    answer = at.client.call("POST", "/api/m2m/v1/" + RESUME, body_of(iccids))
    at.told(answer.request_id, 1)
    path = f"accounts/{ACCOUNT}/requests/{answer.request_id}/status"
    expected = {"requestId": answer.request_id, "status": "Success",
                "subRequests": [{"ids": [{"id": iccids[0], "kind": "iccid"}], "status": "Success"}]}
    for prefix in ("/api/m2m/v2/", "/m2m/v2/", "/api/v2/", "/v2/", "/api/m2m/v2//"):
        report.equal(f"the status by {prefix}…", at.client.call("GET", prefix + path).json, expected)
    report.equal("the status of a single one by v1", at.client.call("GET", "/api/m2m/v1/" + path).json,
                 {"requestId": answer.request_id, "status": "Success"})
    answer = at.client.call("POST", "/api/m2m/v1/session/logout", None, {"Content-Length": "0"})
    report.equal("logout without body or content type", (answer.status, answer.json),
                 (200, {"sessionToken": at.client.session}))


def body_of(iccids):
    return {"devices": [{"deviceIds": [{"kind": "iccid", "id": iccid}]} for iccid in iccids], "accountName": ACCOUNT}


def main():
    arguments = arguments_of(__doc__, seed=False)
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
