"""The whole family of calls, as the published SDKs have them: one eUICC goes through its life.

Both SDKs have the same methods under the same names; how a body becomes a call is the SDK's own.
"""

from server import ACCOUNT, profile

ESIM = "managing_e_sim_profiles"
EUICC = "e_uicc_device_profile_management"
DEVICE = "device_profile_management"
ACTIONS = "device_actions"
REPORTING = "global_reporting"

# A number that no other fleet of the proofs has.
NUMBER = 900_001
SMSR = "1.3.6.1.4.1.31746.1.500.200.101.5"


def euicc():
    """A LEAD in service, and a Global profile that was never activated."""
    lead = profile(ACCOUNT, NUMBER, "verizon-us", "ACTIVE")
    other = profile(ACCOUNT, NUMBER, "global", "PRE_ACTIVE")
    return lead, other._replace(profile_status="NOT_DOWNLOADED")


def identifiers(one):
    return [{"id": one.iccid, "kind": "iccid"}, {"id": one.eid, "kind": "eid"}]


def steps(lead, other):
    """Each call: namespace, method, the SDK's model, its body, and what the profile's callback says."""
    devices = {"devices": [{"deviceIds": identifiers(other)}], "accountName": ACCOUNT}
    iccid = {"devices": [{"deviceIds": identifiers(other)[:1]}], "accountName": ACCOUNT}
    carrier = {"carrierName": "Verizon Wireless"}
    managed = devices | {"smsrOid": SMSR}
    deactivation = {"devices": [{"ids": identifiers(other)}], "accountName": ACCOUNT, "reasonCode": "FF"} | carrier
    fallback = {"devices": [{"deviceIds": identifiers(lead)}], "accountName": ACCOUNT} | carrier
    bare_fallback = {"devices": [identifiers(lead)], "accountName": ACCOUNT}
    leaving = devices | {"etfWaiver": True, "reasonCode": "FF"}
    activation = devices | carrier | {"servicePlan": "", "mdnZipCode": "98801", "primaryPlaceOfUse": None}
    activation = {name: value for name, value in activation.items() if value}
    return [
        (ESIM, "activate_a_device_profile", "GIOProfileRequest", devices | {"mdnZipCode": "98801"}, "ACTIVE NOT_DOWNLOADED"),
        (ESIM, "download_a_device_profile", "DeviceProfileRequest", devices, "ACTIVE DOWNLOAD_DISABLE"),
        (ESIM, "enable_a_device_profile", "DeviceProfileRequest", devices, "ACTIVE ENABLE"),
        (ESIM, "profile_suspend", "GIOProfileRequest", iccid, "SUSPEND ENABLE"),
        (ESIM, "resume_profile", "GIOProfileRequest", iccid, "ACTIVE ENABLE"),
        (ESIM, "set_fallback", "FallBack", bare_fallback, "ACTIVE DISABLE"),
        (DEVICE, "profile_to_set_fallback_attribute", "SetFallbackAttributeRequest", fallback, "ProfileAlreadyFallback"),
        (EUICC, "disable_local_profile", "ProfileChangeStateRequest", managed, "ACTIVE DISABLE"),
        (ESIM, "deactivate_a_device_profile", "GIODeactivateDeviceProfileRequest", leaving, "DEACTIVE DISABLE"),
        (ESIM, "delete_a_device_profile", "DeviceProfileRequest", devices, "DEACTIVE DELETE"),
        (DEVICE, "profile_to_activate_device", "ProfileRequest", activation, "ACTIVE NOT_DOWNLOADED"),
        (EUICC, "download_local_profile_to_disable", "ProfileChangeStateRequest", managed, "ACTIVE DOWNLOAD_DISABLE"),
        (EUICC, "enable_local_profile", "ProfileChangeStateRequest", managed, "ACTIVE ENABLE"),
        (EUICC, "disable_local_profile", "ProfileChangeStateRequest", managed, "ACTIVE DISABLE"),
        (DEVICE, "profile_to_deactivate_device", "DeactivateDeviceProfileRequest", deactivation, "DEACTIVE DISABLE"),
        (DEVICE, "activate_device_through_profile", "ActivateDeviceProfileRequest", devices, "ACTIVE ENABLE"),
        (EUICC, "disable_local_profile", "ProfileChangeStateRequest", managed, "ACTIVE DISABLE"),
        (DEVICE, "profile_to_deactivate_device", "DeactivateDeviceProfileRequest", deactivation, "DEACTIVE DISABLE"),
        (EUICC, "delete_local_profile", "ProfileChangeStateRequest", managed, "DEACTIVE DELETE"),
        (DEVICE, "profile_to_activate_device", "ProfileRequest", activation, "ACTIVE NOT_DOWNLOADED"),
        (EUICC, "download_local_profile_to_enable", "ProfileChangeStateRequest", managed, "ACTIVE DOWNLOAD_ENABLE"),
        (ESIM, "enable_a_device_profile_for_download", "DeviceProfileRequest", devices, "ProfileAlreadyDownloaded"),
    ]


def family(report, at, call, zone=""):
    """`call(namespace, method, model, body)` makes one call with the SDK; the request's id. `zone` stands behind
    instants: one SDK insists on it, the other leaves it out."""
    lead, other = euicc()
    at.import_fleet([lead, other], name="family.csv")
    for namespace, method, model, body, expected in steps(lead, other):
        request_id = call(namespace, method, model, body)
        told = at.told(request_id, 1)
        about = lead if "fallback" in method else other
        report.equal(f"{namespace}.{method}", said(told.get(about.iccid)), expected)
    device(report, at, call, lead, other)
    questions(report, at, call, zone, lead, other)


def said(body):
    if body is None:
        return "nothing"
    if "faultResponse" in body:
        return body["faultResponse"]["faultcode"].rsplit(".", 1)[-1]
    left = body["deviceResponse"]["deviceProfileResponse"]
    return " ".join(left[name] for name in ("state", "profileStatus") if name in left)


def device(report, at, call, lead, other):
    body = {"devices": [{"deviceIds": [{"id": lead.eid, "kind": "eid"}]}], "accountName": ACCOUNT}
    told = at.told(call(ESIM, "device_suspend", "GIOProfileRequest", body), 3)
    report.equal(f"{ESIM}.device_suspend tells each profile and the device",
                 [said(told.get(key)) for key in (lead.iccid, other.iccid, lead.imei)],
                 ["SUSPEND DISABLE", "SUSPEND DOWNLOAD_ENABLE", "SUSPEND"])


def questions(report, at, call, zone, lead, other):
    one = [{"id": lead.eid, "kind": "eid"}]
    listing = {"accountName": ACCOUNT, "deviceFilter": one}
    span = {"earliest": f"2021-10-15T04:49:35{zone}", "latest": f"2099-10-15T04:49:35{zone}"}
    history = {"accountName": ACCOUNT, "deviceFilter": [{"id": other.iccid, "kind": "iccid"}]} | span
    for namespace, method, model in ((ACTIONS, "retrieve_the_global_device_list", "GetDeviceListWithProfilesRequest"),
                                     (REPORTING, "retrieve_global_list", "ESIMGlobalDeviceList")):
        page = answer(at, call(namespace, method, model, listing))["deviceListResponse"]
        report.equal(f"{namespace}.{method} is answered by callback",
                     ([device["state"] for device in page["devices"]], page["page"], page["pages"]), (["SUSPEND"] * 2, 1, 1))
    for namespace, method, model in ((ACTIONS, "retrieve_device_provisioning_history", "ProvhistoryRequest"),
                                     (REPORTING, "deviceprovhistory_using_post", "ESIMProvhistoryRequest")):
        page = answer(at, call(namespace, method, model, history))["deviceHistoryResponse"]
        report.equal(f"{namespace}.{method} is answered by callback",
                     (page["history"][0]["action"], page["history"][-1]["action"]), ("activate", "device_suspend"))


def answer(at, request_id):
    told = at.told(request_id, 1)
    return next(iter(told.values()))["deviceResponse"] if told else {}


def consumer():
    """A body of another product at the same path: it is refused."""
    lead, _ = euicc()
    ids = [{"id": lead.eid, "kind": "eid"}, {"id": lead.imei, "kind": "imei"}]
    return {"devices": [{"deviceIds": ids}], "accountName": ACCOUNT, "servicePlan": "HybridESim",
            "carrierName": "Verizon Wireless"}

