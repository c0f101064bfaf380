#!/usr/bin/env python3
"""The published SDK `sdksio-verizon-apis-sdk` 2.0.0, unmodified, against the server.

Run it with the Python of a virtual environment that has the package; sdk.sh makes one.
"""

import importlib
import json
import re
import time
import uuid

from verizon.configuration import Configuration, Server as Environment
from verizon.exceptions.api_exception import APIException
from verizon.exceptions.connectivity_management_result_exception import ConnectivityManagementResultException
from verizon.exceptions.gio_rest_error_response_exception import GIORestErrorResponseException
from verizon.http.auth.thingspace_oauth import ThingspaceOauthCredentials
from verizon.http.auth.vz_m2m_token import VZM2mTokenCredentials
from verizon.models.gio_device_id import GIODeviceId
from verizon.models.gio_device_list import GIODeviceList
from verizon.models.gio_profile_request import GIOProfileRequest
from verizon.models.log_in_request import LogInRequest
from verizon.models.oauth_token import OauthToken
from verizon.models.register_callback_request import RegisterCallbackRequest
from verizon.verizon_client import VerizonClient

from apimatic_core.exceptions.auth_validation_exception import AuthValidationException

from family import consumer, family
from report import Report
from scene import scene
from server import ACCOUNT, KEY, PASSWORD, SECRET, SERVICE, USER, argument, arguments_of, run_proof

ENDED_WITHIN = 60.0


def client_of(port, session=None, secret=SECRET, token=None):
    class Local(Configuration):
        def get_base_uri(self, server=Environment.THINGSPACE):
            return super().get_base_uri(server).replace("https://thingspace.verizon.com", f"http://127.0.0.1:{port}")

    oauth = ThingspaceOauthCredentials(oauth_client_id=KEY, oauth_client_secret=secret, oauth_token=token)
    m2m = VZM2mTokenCredentials(vz_m2m_token=session) if session else None
    return VerizonClient(config=Local(thingspace_oauth_credentials=oauth, vz_m2m_token_credentials=m2m))


def body_of(iccids, account=ACCOUNT, plan=None):
    devices = [GIODeviceList(device_ids=[GIODeviceId(kind="iccid", id=iccid)]) for iccid in iccids]
    more = {"service_plan": plan} if plan else {}
    return GIOProfileRequest(devices=devices, account_name=account, **more)


def called(client, namespace, method, model, body):
    """One call of the SDK with a body of its own model."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model).lower()
    models = importlib.import_module(f"verizon.models.{name}")
    return getattr(getattr(client, namespace), method)(getattr(models, model).from_dictionary(body))


def raised(call):
    """What the SDK raises, or None."""
    try:
        call()
    except (APIException, AuthValidationException) as error:
        return error
    return None


def refused(report, name, call, status, code):
    """A call of the eSIM family must raise the SDK's own exception, with this status and code."""
    error = raised(call)
    report.check(f"{name}: raises GIORestErrorResponseException {status} [{code}]",
                 isinstance(error, GIORestErrorResponseException) and error.response_code == status
                 and error.error_code == str(status) and error.error_message.startswith(f"[{code}]"),
                 f"{type(error).__name__}: {error}", getattr(getattr(error, "response", None), "text", ""))


def proof(report, arguments):
    with scene(report, arguments.binary, "sdk-v2", registered=False, gateway=arguments.gateway) as at:
        port = at.server.port
        session = log_in(report, port)
        client = client_of(port, session)
        listeners(report, client, at)
        resumes(report, client, at)
        family(report, at, lambda *call: called(client, *call).body.request_id)
        error = raised(lambda: called(client, "sim_actions", "setactivate_using_post", "ESIMProfileRequest", consumer()))
        report.check("a consumer-eSIM body raises 400 and says so", getattr(error, "response_code", None) == 400
                     and "consumer eSIM" in error.response.text, repr(error))
        refusals(report, client, at, session)
        report.equal("logout tells the session that it ended",
                     client.session_management.end_connectivity_management_session().body.session_token, session)
        error = raised(lambda: client.managing_e_sim_profiles.resume_profile(body_of(at.iccids(1))))
        report.check("a dead session raises 401", isinstance(error, GIORestErrorResponseException)
                     and error.response_code == 401 and error.error_code == "401" and "SessionToken" in error.error_message,
                     repr(error))


def log_in(report, port):
    result = client_of(port).session_management.start_connectivity_management_session(
        body=LogInRequest(username=USER, password=PASSWORD))
    report.equal("login answers 200", result.status_code, 200)
    session = result.body.session_token
    report.equal("the session token is a UUID", str(uuid.UUID(session)), session)
    error = raised(lambda: client_of(port).session_management.start_connectivity_management_session(
        body=LogInRequest(username=USER, password="not this one")))
    report.check("a wrong password raises, with a code after UnifiedWebService.", isinstance(error, APIException)
                 and error.response_code in (400, 401)
                 and json.loads(error.response.text)["errorCode"].startswith("UnifiedWebService."), repr(error))
    error = raised(lambda: client_of(port, secret="wrong").session_management.start_connectivity_management_session(
        body=LogInRequest(username=USER, password=PASSWORD)))
    report.check("a wrong secret raises AuthValidationException", isinstance(error, AuthValidationException), repr(error))
    return session


def listeners(report, client, at):
    callbacks = client.connectivity_callbacks
    report.equal("no listener: an empty list", callbacks.list_registered_callbacks(ACCOUNT).body, [])
    url = at.listener.url("/ok")
    result = callbacks.register_callback(ACCOUNT, RegisterCallbackRequest(
        name=SERVICE, url=url, username="listener", password="listener-password"))
    report.equal("the listener is registered", (result.status_code, result.body.account_name, result.body.service_name),
                 (200, ACCOUNT, SERVICE))
    listed = callbacks.list_registered_callbacks(ACCOUNT).body
    report.equal("… and listed", [(one.account_name, one.service_name, one.url, one.username, one.password) for one in listed],
                 [(ACCOUNT, SERVICE, url, "listener", "listener-password")])
    error = raised(lambda: callbacks.list_registered_callbacks("0000999999-00009"))
    report.check("listeners of an unknown account raise 403", isinstance(error, APIException) and error.response_code == 403
                 and json.loads(error.response.text)["errorCode"] == "UnifiedWebService.REQUEST_FAILED.AccountName", repr(error))


def status_of(client, request_id):
    deadline = time.monotonic() + ENDED_WITHIN
    while True:
        body = client.device_actions.get_asynchronous_request_status(ACCOUNT, request_id).body
        if body.status != "Pending" or time.monotonic() > deadline:
            return body
        time.sleep(0.05)


def resumes(report, client, at):
    esim = client.managing_e_sim_profiles
    iccids = at.iccids(3) + [at.active[0].iccid]
    result = esim.resume_profile(body_of(iccids))
    request_id = result.body.request_id
    report.equal("resume answers 200 and a lower-case UUID",
                 (result.status_code, request_id), (200, str(uuid.UUID(request_id))))
    told = at.told(request_id, 4)
    report.equal("one callback for each profile, three succeeded, one failed",
                 [told.get(iccid, {}).get("status") for iccid in iccids], ["SUCCESS"] * 3 + ["Failed"])
    report.equal("the fault says that the profile is already resumed", told[iccids[3]]["faultResponse"]["faultcode"],
                 "UnifiedWebService.REQUEST_FAILED.ProfileAlreadyResumed")
    report.check("the listener's credentials stand first in every callback",
                 all(list(body.items())[:2] == [("username", "listener"), ("password", "listener-password")]
                     for body in told.values()), *told.values())
    report.equal("the v2 status is Failed, since one failed", status_of(client, request_id).status, "Failed")
    error = raised(lambda: client.account_requests.get_current_asynchronous_request_status(ACCOUNT, request_id))
    report.check("the v1 status of several profiles raises 400", isinstance(error, ConnectivityManagementResultException)
                 and error.response_code == 400, repr(error))

    request_id = esim.resume_profile(body_of(at.iccids(1))).body.request_id
    at.told(request_id, 1)
    report.equal("the v2 status of a single one is Success", status_of(client, request_id).status, "Success")
    result = client.account_requests.get_current_asynchronous_request_status(ACCOUNT, request_id)
    report.equal("the v1 status of a single one is Success", (result.body.request_id, result.body.status), (request_id, "Success"))

    iccids = at.iccids(1)
    request_id = esim.resume_profile(body_of(iccids, plan="No such plan")).body.request_id
    told = at.told(request_id, 1)
    report.equal("an unknown plan is a fault by callback",
                 told.get(iccids[0], {}).get("faultResponse", {}).get("faultcode"),
                 "UnifiedWebService.REQUEST_FAILED.No such plan.NotFound")


def refusals(report, client, at, session):
    esim = client.managing_e_sim_profiles
    iccids = at.iccids(1)
    token = OauthToken(access_token="0" * 32, token_type="Bearer", expires_in=3600)
    bad = client_of(at.server.port, session, token=token).managing_e_sim_profiles
    error = raised(lambda: bad.resume_profile(body_of(iccids)))
    report.check("a bad bearer raises 401, with errorCode and fault", isinstance(error, GIORestErrorResponseException)
                 and error.response_code == 401 and error.error_code == "401"
                 and json.loads(error.response.text)["fault"]["code"] == "900901", repr(error))
    stranger = client_of(at.server.port, str(uuid.uuid4())).managing_e_sim_profiles
    refused(report, "a session that never was", lambda: stranger.resume_profile(body_of(iccids)), 401,
            "INPUT_INVALID.SessionToken.Invalid")
    refused(report, "an unknown account", lambda: esim.resume_profile(body_of(iccids, account="0000999999-00009")), 403,
            "REQUEST_FAILED.AccountName")
    refused(report, "a malformed ICCID", lambda: esim.resume_profile(body_of(["891480000000"])), 400,
            "INPUT_INVALID.Device.Identifier.Invalid")
    refused(report, "no devices", lambda: esim.resume_profile(body_of([])), 400, "INPUT_INVALID.DeviceNotProvided")
    error = raised(lambda: client.device_actions.get_asynchronous_request_status(ACCOUNT, str(uuid.uuid4())))
    report.check("the status of an unknown request raises 404", isinstance(error, GIORestErrorResponseException)
                 and error.response_code == 404 and error.error_code == "404", repr(error))


def main():
    arguments = arguments_of(__doc__, argument("--gateway", action="store_true", help="the server forwards to another"), seed=False)
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
