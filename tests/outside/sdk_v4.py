#!/usr/bin/env python3
"""The published SDK `vz-apimatic-v-4-sdk` 0.0.1, unmodified, against the server.

It is strict where the other one is lenient: no nulls, no empty bodies, typed members; and it sends an
Idempotency-Key with every call that writes. Run it with the Python of a virtual environment that has
the package; sdk.sh makes one.
"""

import json
import re
import time
import uuid

from verizon import VerizonClient
from verizon.core import ApiError, ClientCredentials, OAuthToken, RawError

from family import consumer, family
from report import Report
from scene import scene
from server import ACCOUNT, KEY, PASSWORD, SECRET, SERVICE, USER, argument, arguments_of, run_proof

ENDED_WITHIN = 60.0


class FixedToken:
    """Gives the SDK a bearer token that no server made."""

    def fetch(self, credentials):
        return OAuthToken(access_token="0" * 32, token_type="Bearer", expires_in=3600)


def client_of(port, session=None, secret=SECRET, token_source=None):
    base = f"http://127.0.0.1:{port}"
    return VerizonClient(
        thingspace_oauth=ClientCredentials(client_id=KEY, client_secret=secret), vz_m2_m_token=session,
        thingspace_oauth_token_source=token_source, environment="production",
        server_config={"thingspace": {"production": {"base_url": base + "/api"}},
                       "o_auth_server": {"production": {"base_url": base + "/api/ts/v1"}}})


def body_of(iccids, account=ACCOUNT, plan=None):
    body = {"devices": [{"device_ids": [{"kind": "iccid", "id": iccid}]} for iccid in iccids], "account_name": account}
    return body | ({"service_plan": plan} if plan else {})


def called(client, namespace, method, _model, body):
    """One call of the SDK, whose own bodies have names with underscores."""
    return getattr(getattr(client, namespace), method)(underscored(body))


def underscored(value):
    if isinstance(value, dict):
        return {re.sub(r"(?=[A-Z])", "_", name).lower(): underscored(inner) for name, inner in value.items()}
    return [underscored(inner) for inner in value] if isinstance(value, list) else value


def raised(call):
    """What the SDK raises, or None."""
    try:
        call()
    except ApiError as error:
        return error
    return None


def content_of(error):
    """The body of what was raised: the documented errors as a model, all others as raw bytes."""
    if isinstance(error.error, RawError):
        return json.loads(error.error.content)
    return error.error.model_dump(by_alias=True)


def refused(report, name, call, status, code):
    error = raised(call)
    content = content_of(error) if error else {}
    report.check(f"{name}: raises ApiError {status} [{code}]",
                 error is not None and error.status_code == status and content.get("errorCode") == str(status)
                 and content.get("errorMessage", "").startswith(f"[{code}]"), repr(error), content)


def proof(report, arguments):
    with scene(report, arguments.binary, "sdk-v4", registered=False, gateway=arguments.gateway) as at:
        port = at.server.port
        session = log_in(report, port)
        client = client_of(port, session)
        listeners(report, client, at)
        resumes(report, client, at)
        family(report, at, lambda *call: called(client, *call).request_id, zone="Z")
        error = raised(lambda: called(client, "sim_actions", "setactivate_using_post", None, consumer()))
        report.check("a consumer-eSIM body raises 400 and says so", error is not None and error.status_code == 400
                     and "consumer eSIM" in repr(error.error), repr(error))
        refusals(report, client, at, session)
        report.equal("logout tells the session that it ended",
                     client.session_management.end_connectivity_management_session().session_token, session)
        error = raised(lambda: client.managing_e_sim_profiles.resume_profile(body_of(at.iccids(1))))
        report.check("a dead session raises 401", error is not None and error.status_code == 401
                     and "SessionToken" in content_of(error)["errorMessage"], repr(error))


def log_in(report, port):
    result = client_of(port).session_management.start_connectivity_management_session(
        body={"username": USER, "password": PASSWORD})
    session = result.session_token
    report.equal("the session token is a UUID", str(uuid.UUID(session)), session)
    error = raised(lambda: client_of(port).session_management.start_connectivity_management_session(
        body={"username": USER, "password": "not this one"}))
    report.check("a wrong password raises, with a code after UnifiedWebService.", error is not None
                 and error.status_code in (400, 401)
                 and content_of(error)["errorCode"].startswith("UnifiedWebService."), repr(error))
    error = raised(lambda: client_of(port, secret="wrong").session_management.start_connectivity_management_session(
        body={"username": USER, "password": PASSWORD}))
    report.check("a wrong secret raises 401 invalid_client", error is not None and error.status_code == 401
                 and "invalid_client" in repr(error.error), repr(error), repr(error and error.error))
    return session


def listeners(report, client, at):
    callbacks = client.connectivity_callbacks
    report.equal("no listener: an empty list", callbacks.list_registered_callbacks(ACCOUNT), [])
    url = at.listener.url("/ok")
    result = callbacks.register_callback(ACCOUNT, {"name": SERVICE, "url": url})
    report.equal("the listener is registered", (result.account_name, result.service_name), (ACCOUNT, SERVICE))
    listed = callbacks.list_registered_callbacks(ACCOUNT)
    report.equal("… and listed, credentials never null",
                 [(one.account_name, one.service_name, one.url, one.username or "", one.password or "") for one in listed],
                 [(ACCOUNT, SERVICE, url, "", "")])
    error = raised(lambda: callbacks.list_registered_callbacks("0000999999-00009"))
    report.check("listeners of an unknown account raise 403", error is not None and error.status_code == 403
                 and content_of(error)["errorCode"] == "UnifiedWebService.REQUEST_FAILED.AccountName", repr(error))


def status_of(client, request_id):
    deadline = time.monotonic() + ENDED_WITHIN
    while True:
        status = client.device_actions.get_asynchronous_request_status(ACCOUNT, request_id)
        if status.status != "Pending" or time.monotonic() > deadline:
            return status
        time.sleep(0.05)


def resumes(report, client, at):
    esim = client.managing_e_sim_profiles
    iccids = at.iccids(3) + [at.active[0].iccid]
    request_id = esim.resume_profile(body_of(iccids)).request_id
    report.equal("resume answers a lower-case UUID", request_id, str(uuid.UUID(request_id)))
    told = at.told(request_id, 4)
    report.equal("one callback for each profile, three succeeded, one failed",
                 [told.get(iccid, {}).get("status") for iccid in iccids], ["SUCCESS"] * 3 + ["Failed"])
    report.equal("the fault says that the profile is already resumed", told[iccids[3]]["faultResponse"]["faultcode"],
                 "UnifiedWebService.REQUEST_FAILED.ProfileAlreadyResumed")
    report.equal("without credentials, a success has none and a fault has empty ones",
                 [(told[iccid].get("username"), told[iccid].get("password")) for iccid in iccids],
                 [(None, None)] * 3 + [("", "")])
    report.equal("the v2 status is Failed, since one failed", status_of(client, request_id).status, "Failed")
    error = raised(lambda: client.account_requests.get_current_asynchronous_request_status(ACCOUNT, request_id))
    report.check("the v1 status of several profiles raises 400", error is not None and error.status_code == 400, repr(error))

    request_id = esim.resume_profile(body_of(at.iccids(1))).request_id
    at.told(request_id, 1)
    report.equal("the v2 status of a single one is Success", status_of(client, request_id).status, "Success")
    result = client.account_requests.get_current_asynchronous_request_status(ACCOUNT, request_id)
    report.equal("the v1 status of a single one is Success", (result.request_id, result.status), (request_id, "Success"))

    iccids = at.iccids(1)
    request_id = esim.resume_profile(body_of(iccids, plan="No such plan")).request_id
    told = at.told(request_id, 1)
    report.equal("an unknown plan is a fault by callback",
                 told.get(iccids[0], {}).get("faultResponse", {}).get("faultcode"),
                 "UnifiedWebService.REQUEST_FAILED.No such plan.NotFound")


def refusals(report, client, at, session):
    esim = client.managing_e_sim_profiles
    iccids = at.iccids(1)
    bad = client_of(at.server.port, session, token_source=FixedToken()).managing_e_sim_profiles
    error = raised(lambda: bad.resume_profile(body_of(iccids)))
    report.check("a bad bearer raises 401, with errorCode and fault", error is not None and error.status_code == 401
                 and content_of(error)["errorCode"] == "401" and content_of(error)["fault"]["code"] == "900901", repr(error))
    stranger = client_of(at.server.port, str(uuid.uuid4())).managing_e_sim_profiles
    refused(report, "a session that never was", lambda: stranger.resume_profile(body_of(iccids)), 401,
            "INPUT_INVALID.SessionToken.Invalid")
    refused(report, "an unknown account", lambda: esim.resume_profile(body_of(iccids, account="0000999999-00009")), 403,
            "REQUEST_FAILED.AccountName")
    refused(report, "a malformed ICCID", lambda: esim.resume_profile(body_of(["891480000000"])), 400,
            "INPUT_INVALID.Device.Identifier.Invalid")
    refused(report, "no devices", lambda: esim.resume_profile(body_of([])), 400, "INPUT_INVALID.DeviceNotProvided")
    error = raised(lambda: client.device_actions.get_asynchronous_request_status(ACCOUNT, str(uuid.uuid4())))
    report.check("the status of an unknown request raises 404", error is not None and error.status_code == 404
                 and content_of(error)["errorCode"] == "404", repr(error))


def main():
    arguments = arguments_of(__doc__, argument("--gateway", action="store_true", help="the server forwards to another"), seed=False)
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
