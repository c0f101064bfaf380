//! The body of a callback. Source: contract §6.1, §6.2, §6.6 and §12 Q5, Q28.

use crate::{fault_code, fault_text, spelling};
use reveille_domain::{Fault, LeftAs, RequestId, Told};
use schemars::JsonSchema;
use serde::Serialize;

/// What a listener was registered with, echoed in every callback.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// As registered; empty where only a password was.
    pub username: &'a str,
    /// As registered; empty where only a user name was.
    pub password: &'a str,
}

/// One callback as it is posted: what was frozen with the outcome, and which attempt this is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallbackBody<'a> {
    /// As registered with the listener. Left out of a success where none was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    /// As registered with the listener. Left out of a success where none was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// The request that this is an outcome of.
    request_id: String,
    /// What is known of the profile's device: Eid, Imei, msisdn, Iccid, in that order.
    device_ids: Identifiers<'a>,
    /// How the profile was left; in a success only.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_response: Option<DeviceResponse<'a>>,
    /// Why the profile was left alone; in a failure only.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault_response: Option<FaultResponse>,
    /// `SUCCESS` or `Failed`.
    status: &'static str,
    /// Which attempt this is, from 1.
    callback_count: u32,
    /// How many attempts there are at most.
    max_callback_threshold: u32,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeviceResponse<'a> {
    device_profile_response: DeviceProfileResponse<'a>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeviceProfileResponse<'a> {
    device_identifier_collection: Identifiers<'a>,
    state: &'static str,
    profile_status: &'static str,
    profile_role: &'static str,
}

/// Why a profile was left alone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultResponse {
    /// `UnifiedWebService.` and the code of the fault.
    pub faultcode: String,
    /// The class of the fault and a sentence.
    pub faultstring: String,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Identifier<'a> {
    id: &'a str,
    kind: &'static str,
}

type Identifiers<'a> = Vec<Identifier<'a>>;

impl<'a> CallbackBody<'a> {
    /// The body of the attempt of that ordinal.
    pub fn new(
        request: RequestId,
        told: &'a Told,
        credentials: Option<Credentials<'a>>,
        callback_count: u32,
        max_callback_threshold: u32,
    ) -> Self {
        let nothing = told.result.is_err().then_some("");
        let identifiers = identifiers(told);
        Self {
            username: credentials.map_or(nothing, |known| Some(known.username)),
            password: credentials.map_or(nothing, |known| Some(known.password)),
            request_id: request.to_string(),
            device_response: told.result.as_ref().ok().map(|left| response(*left, identifiers.clone())),
            device_ids: identifiers,
            fault_response: told.result.as_ref().err().map(FaultResponse::of),
            status: if told.result.is_ok() { "SUCCESS" } else { "Failed" },
            callback_count,
            max_callback_threshold,
        }
    }

    /// The bytes that are posted.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(768);
        serde_json::to_writer(&mut bytes, self).expect("a body of text and numbers always serialises");
        bytes
    }
}

impl FaultResponse {
    /// What a callback says of `fault`.
    pub fn of(fault: &Fault) -> Self {
        Self { faultcode: format!("UnifiedWebService.{}", fault_code(fault)), faultstring: fault_text(fault) }
    }
}

fn response(left: LeftAs, identifiers: Identifiers<'_>) -> DeviceResponse<'_> {
    DeviceResponse {
        device_profile_response: DeviceProfileResponse {
            device_identifier_collection: identifiers,
            state: spelling::state(left.state),
            profile_status: spelling::status(left.status),
            profile_role: spelling::role(left.role),
        },
    }
}

fn identifiers(told: &Told) -> Identifiers<'_> {
    let known = [
        (told.eid.as_ref().map(reveille_domain::Eid::as_str), "Eid"),
        (told.imei.as_ref().map(reveille_domain::Imei::as_str), "Imei"),
        (told.msisdn.as_ref().map(reveille_domain::Msisdn::as_str), "msisdn"),
        (Some(told.iccid.as_str()), "Iccid"),
    ];
    let mut identifiers = Vec::with_capacity(known.len());
    identifiers.extend(known.into_iter().filter_map(|(id, kind)| Some(Identifier { id: id?, kind })));
    identifiers
}
