//! The body of a callback. Source: contract §6.1, §6.2, §6.6 and §12 Q5, Q28.

use crate::{fault_code, fault_text, spelling};
use reveille_domain::{Eid, Fault, Iccid, Imei, Left, LeftAs, Msisdn, RequestId, Subject, Told};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

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
    /// What is known of the profile's device: Eid, Imei, msisdn, Iccid, in that order; of a device as a whole
    /// Eid and Imei. Left out of the pages of a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_ids: Identifiers<'a>,
    /// How the profile was left, or the answer that was asked for; in a success only.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_response: Option<DeviceResponse<'a>>,
    /// Why the profile was left alone, or is not through yet; in a failure or a warning only.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault_response: Option<FaultResponse>,
    /// `SUCCESS`, `Failed` or `warning`.
    status: &'static str,
    /// Which attempt this is, from 1.
    callback_count: u32,
    /// How many attempts there are at most.
    max_callback_threshold: u32,
}

/// How a profile or a device was left; or a document of `documents`.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum DeviceResponse<'a> {
    Profile(ProfileResponse<'a>),
    Document(#[schemars(with = "crate::documents::Document<'a>")] &'a RawValue),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileResponse<'a> {
    device_profile_response: DeviceProfileResponse<'a>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeviceProfileResponse<'a> {
    device_identifier_collection: Identifiers<'a>,
    state: &'static str,
    /// Left out of a device as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_status: Option<&'static str>,
    /// Left out of a device as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_role: Option<&'static str>,
}

/// Why a profile was left alone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultResponse {
    /// `UnifiedWebService.` and the code of the fault.
    pub faultcode: String,
    /// The class of the fault and a sentence.
    pub faultstring: String,
}

/// One identifier of a device or a profile.
#[derive(Clone, Serialize, JsonSchema)]
pub(crate) struct Identifier<'a> {
    id: &'a str,
    kind: &'static str,
}

pub(crate) type Identifiers<'a> = Vec<Identifier<'a>>;

impl<'a> CallbackBody<'a> {
    /// The body of the attempt of that ordinal.
    pub fn new(
        request: RequestId,
        told: &'a Told,
        credentials: Option<Credentials<'a>>,
        callback_count: u32,
        max_callback_threshold: u32,
    ) -> Self {
        let faulty = matches!(told.result, Err(_) | Ok(Left::Waiting));
        let nothing = faulty.then_some("");
        let identifiers = identifiers_of(told);
        Self {
            username: credentials.map_or(nothing, |known| Some(known.username)),
            password: credentials.map_or(nothing, |known| Some(known.password)),
            request_id: request.to_string(),
            device_response: told.result.as_ref().ok().and_then(|left| response(left, &identifiers)),
            device_ids: identifiers,
            fault_response: match &told.result {
                Err(fault) => Some(FaultResponse::of(fault)),
                Ok(Left::Waiting) => Some(FaultResponse::slow()),
                Ok(_) => None,
            },
            status: status_of(told),
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

    /// What a warning says.
    fn slow() -> Self {
        Self {
            faultcode: "UnifiedWebService.REQUEST_ONHOLD.DeviceUnreachable".into(),
            faultstring: "REQUEST_ONHOLD. The device has not answered yet; the outcome follows".into(),
        }
    }
}

/// The word for what a callback tells: `SUCCESS`, `Failed` or `warning`.
pub fn status_of(told: &Told) -> &'static str {
    match told.result {
        Ok(Left::Waiting) => "warning",
        Ok(_) => "SUCCESS",
        Err(_) => "Failed",
    }
}

fn response<'a>(left: &'a Left, identifiers: &Identifiers<'a>) -> Option<DeviceResponse<'a>> {
    let (state, status, role) = match left {
        Left::Profile(LeftAs { state, status, role }) => (*state, Some(*status), Some(*role)),
        Left::Device(state) => (*state, None, None),
        Left::Document(text) => return serde_json::from_str(text).ok().map(DeviceResponse::Document),
        Left::Waiting => return None,
    };
    Some(DeviceResponse::Profile(ProfileResponse {
        device_profile_response: DeviceProfileResponse {
            device_identifier_collection: identifiers.clone(),
            state: spelling::state(state),
            profile_status: status.map(spelling::status),
            profile_role: role.map(spelling::role),
        },
    }))
}

fn identifiers_of(told: &Told) -> Identifiers<'_> {
    let imei = told.imei.as_ref();
    match &told.subject {
        Subject::Profile(iccid) => identifiers(told.eid.as_ref(), imei, told.msisdn.as_ref(), Some(iccid)),
        Subject::Device(eid) => identifiers(Some(eid), imei, None, None),
        Subject::Page => Vec::new(),
    }
}

/// Those that are known, in the contract's order.
pub(crate) fn identifiers<'a>(
    eid: Option<&'a Eid>,
    imei: Option<&'a Imei>,
    msisdn: Option<&'a Msisdn>,
    iccid: Option<&'a Iccid>,
) -> Identifiers<'a> {
    let known = [
        (eid.map(Eid::as_str), "Eid"),
        (imei.map(Imei::as_str), "Imei"),
        (msisdn.map(Msisdn::as_str), "msisdn"),
        (iccid.map(Iccid::as_str), "Iccid"),
    ];
    let mut identifiers = Vec::with_capacity(known.len());
    identifiers.extend(known.into_iter().filter_map(|(id, kind)| Some(Identifier { id: id?, kind })));
    identifiers
}
