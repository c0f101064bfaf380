//! The other half of the contract: what is asked of ThingSpace, and what it says, where we are its client.
//!
//! Written as the contract spells it; read leniently, as good receivers do (contract §6.1): members and kinds in
//! any case that was seen, and whatever else there is passed over.

use crate::answers::StatusAnswer;
use reveille_domain::{Eid, Iccid};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The path of the token call. Source: contract §3.1.
pub const TOKEN: &str = "/api/ts/v1/oauth2/token";

/// The body of a token call.
pub const TOKEN_FORM: &str = "grant_type=client_credentials";

/// The path of the login. Source: contract §3.2.
pub const LOGIN: &str = "/api/m2m/v1/session/login";

/// The path of a profile action's call. Source: contract §5.
pub fn action_path(name: &str) -> String {
    format!("/api/m2m/v1/devices/profile/actions/{name}")
}

/// The path of the v2 status of a request. Source: contract §5.1.
pub fn status_path(account: &str, request: &str) -> String {
    format!("/api/m2m/v2/accounts/{account}/requests/{request}/status")
}

/// The path of an account's listeners. Source: contract §7.
pub fn listeners_path(account: &str) -> String {
    format!("/api/m2m/v1/callbacks/{account}")
}

/// The body of a login. Source: contract §3.2.
#[derive(Serialize)]
pub struct Login<'a> {
    /// The user's name.
    pub username: &'a str,
    /// Its password.
    pub password: &'a str,
}

/// The body of a listener's registration. Source: contract §7.
#[derive(Serialize)]
pub struct Registration<'a> {
    /// The callback service.
    pub name: &'a str,
    /// Where its callbacks go.
    pub url: &'a str,
    /// Echoed in every callback.
    pub username: &'a str,
    /// Likewise.
    pub password: &'a str,
}

/// The body of a profile action. Source: contract §4 and §5.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Action<'a> {
    /// The targets.
    pub devices: Vec<Device<'a>>,
    /// The account that they belong to.
    pub account_name: &'a str,
    /// The service plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_plan: Option<&'a str>,
    /// The area where a number is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdn_zip_code: Option<&'a str>,
    /// The SM-SR, as older products have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smsr_oid: Option<&'a str>,
    /// The carrier, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier_name: Option<&'a str>,
    /// Why a profile is deactivated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<&'a str>,
    /// Whether the fee for an early end is waived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etf_waiver: Option<bool>,
    /// Whether what a card falls back to is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_fallback_profile: Option<bool>,
}

/// One target of a profile action.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    device_ids: Vec<DeviceId<'a>>,
}

#[derive(Serialize)]
struct DeviceId<'a> {
    kind: &'static str,
    id: &'a str,
}

impl<'a> Device<'a> {
    /// A profile.
    pub fn profile(iccid: &'a Iccid) -> Self {
        Self { device_ids: vec![DeviceId { kind: "iccid", id: iccid.as_str() }] }
    }

    /// A profile, with the eUICC that it is on.
    pub fn profile_on(iccid: &'a Iccid, eid: &'a Eid) -> Self {
        let identifier = |kind, id| DeviceId { kind, id };
        Self { device_ids: vec![identifier("iccid", iccid.as_str()), identifier("eid", eid.as_str())] }
    }

    /// A device as a whole, by its eUICC.
    pub fn whole(eid: &'a Eid) -> Self {
        Self { device_ids: vec![DeviceId { kind: "eid", id: eid.as_str() }] }
    }
}

/// A body as it is posted.
pub fn to_bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body of text and lists of text always serialises")
}

/// What is read of an error. Source: contract §9.1 and §9.2.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    fault: Option<GatewayFault>,
}

#[derive(Deserialize)]
struct GatewayFault {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// How long a text of the other side's may be that is kept or shown; more is cut off.
const CHARS_MAX: usize = 1_000;

/// How long the id of a request may be.
const ID_CHARS_MAX: usize = 100;

/// A text of the other side's as it may be kept and shown: no control characters, and not without end.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(CHARS_MAX).collect()
}

/// The id of a request, where it can be one: visible, not empty, and without what adapters write behind it.
pub fn request_id(text: &str) -> Option<&str> {
    let sound = (1..=ID_CHARS_MAX).contains(&text.len()) && !text.contains('#');
    (sound && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

/// Why a call was refused: its code, as far as one was told, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `REQUEST_FAILED.SessionToken.Expired` for one, without service name; or a gateway's number.
    pub code: String,
    /// The words, or nothing.
    pub words: String,
}

/// What the body of an error says. One that says nothing readable has neither code nor words.
pub fn refusal(body: &[u8]) -> Refusal {
    let refused: Refused = serde_json::from_slice(body).unwrap_or_default();
    let gateway = refused.fault.and_then(|fault| Some((fault.code?, fault.message.unwrap_or_default())));
    let words = refused.error_message.or(refused.error_description);
    let bracketed = words.as_deref().and_then(|words| {
        let (code, words) = words.strip_prefix('[')?.split_once(']')?;
        Some((code.to_owned(), words.trim().to_owned()))
    });
    let coded = refused.error_code.filter(|code| code.contains('.'));
    let (code, words) = match (coded, bracketed, gateway, words) {
        (Some(code), _, _, words) => (without_service(&code).to_owned(), words.unwrap_or_default()),
        (None, Some(told), _, _) => told,
        (None, None, Some((code, message)), words) => (code, words.unwrap_or(message)),
        (None, None, None, words) => (String::new(), words.unwrap_or_default()),
    };
    Refusal { code: plain(&code), words: plain(&words) }
}

/// A code without the name of the service before it, which may be another one. Source: contract §9.2.
fn without_service(code: &str) -> &str {
    const CLASSES: [&str; 4] = ["INPUT_INVALID", "REQUEST_FAILED", "REQUEST_ONHOLD", "REQUEST_CANCELLED"];
    let begins = CLASSES.iter().filter_map(|class| code.find(class)).min();
    &code[begins.unwrap_or(0)..]
}

/// How ThingSpace says that a subrequest is going. Source: contract §5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// It is under way.
    Pending,
    /// It has succeeded.
    Success,
    /// It has failed.
    Failed,
}

/// How a request is going, by the v2 status.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// As a whole.
    pub whole: Going,
    /// Each of its targets, by its ICCID, or its EID.
    pub of: HashMap<String, Going>,
}

/// What a v2 status says; nothing where it cannot be read.
pub fn status(body: &[u8]) -> Option<Status> {
    let status: StatusAnswer = serde_json::from_slice(body).ok()?;
    let word = |word: &str| match word.to_ascii_lowercase().as_str() {
        "success" => Going::Success,
        "failed" | "failure" => Going::Failed,
        _ => Going::Pending,
    };
    let mut of = HashMap::with_capacity(status.sub_requests.len());
    for subrequest in status.sub_requests {
        let says = word(&subrequest.status);
        of.extend(subrequest.ids.into_iter().map(|known| (known.id, says)));
    }
    Some(Status { whole: word(&status.status), of })
}

/// A listener that is registered there. Credentials may be left out. Source: contract §7.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The callback service.
    pub service_name: String,
    /// Where its callbacks go.
    #[serde(default)]
    pub url: String,
    /// As registered.
    #[serde(default)]
    pub username: String,
    /// Likewise.
    #[serde(default)]
    pub password: String,
}

/// The listeners of an account; nothing where that cannot be read. An empty body is an empty list.
pub fn registered(body: &[u8]) -> Option<Vec<Registered>> {
    if body.trim_ascii().is_empty() { Some(Vec::new()) } else { serde_json::from_slice(body).ok() }
}

/// A callback as it came. Source: contract §6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The credentials that it brought.
    pub username: String,
    /// Likewise.
    pub password: String,
    /// The request that it is of.
    pub request: String,
    /// The profile; nothing of a device as a whole.
    pub iccid: Option<Iccid>,
    /// What it says.
    pub says: Says,
}

/// What a callback says of its profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// It is so now.
    Succeeded,
    /// It is not, for that reason: a code without service name, and a text.
    Failed {
        /// The code.
        code: String,
        /// The text.
        text: String,
    },
    /// It will be told later.
    NotYet,
}

#[derive(Deserialize)]
struct CallbackMembers {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(rename = "requestId", alias = "RequestId")]
    request: String,
    #[serde(rename = "deviceIds", alias = "DeviceIds", default)]
    identifiers: Vec<CallbackIdentifier>,
    #[serde(rename = "faultResponse", alias = "FaultResponse", default)]
    fault: Option<CallbackFault>,
    #[serde(default, alias = "Status")]
    status: Option<String>,
    #[serde(flatten)]
    _others: HashMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct CallbackIdentifier {
    #[serde(alias = "Id")]
    id: String,
    #[serde(alias = "Kind")]
    kind: String,
}

#[derive(Deserialize)]
struct CallbackFault {
    #[serde(default, alias = "faultCode", alias = "FaultCode")]
    faultcode: Option<String>,
    #[serde(default, alias = "faultString", alias = "FaultString")]
    faultstring: Option<String>,
}

/// Reads a callback; nothing where it is none.
pub fn heard(body: &[u8]) -> Option<Heard> {
    let members: CallbackMembers = serde_json::from_slice(body).ok()?;
    request_id(&members.request)?;
    let iccid = members.identifiers.iter().find(|known| known.kind.eq_ignore_ascii_case("iccid"));
    let iccid = match iccid {
        Some(known) => Some(known.id.parse().ok()?),
        None => None,
    };
    let status = members.status.unwrap_or_default();
    let says = if status.eq_ignore_ascii_case("warning") {
        Says::NotYet
    } else if status.eq_ignore_ascii_case("success") && members.fault.is_none() {
        Says::Succeeded
    } else {
        let fault = members.fault.unwrap_or(CallbackFault { faultcode: None, faultstring: None });
        let code = fault.faultcode.as_deref().map(without_service).unwrap_or_default();
        let code = if code.is_empty() { "REQUEST_FAILED" } else { code };
        Says::Failed {
            code: plain(&code.split_whitespace().collect::<Vec<_>>().join("_")),
            text: plain(&fault.faultstring.unwrap_or_else(|| status.clone())),
        }
    };
    Some(Heard {
        username: members.username.unwrap_or_default(),
        password: members.password.unwrap_or_default(),
        request: members.request,
        iccid,
        says,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_callbacks_are_read() {
        let success = br#"{"requestId":"d1f08526-5443-4054-9a29-4456490ea9f8",
            "deviceIds":[{"id":"89148000000800139708","kind":"Iccid"}],
            "deviceResponse":{"deviceProfileResponse":{"state":"ACTIVE"}},
            "status":"SUCCESS","callbackCount":1,"maxCallbackThreshold":4}"#;
        let told = heard(success).unwrap();
        assert_eq!(told.says, Says::Succeeded);
        assert_eq!(told.iccid.unwrap().as_str(), "89148000000800139708");
        assert_eq!((told.username.as_str(), told.password.as_str()), ("", ""));
        let failure = br#"{"username":"u","password":"p","requestId":"r","deviceIds":[{"id":"20180903000000000009",
            "kind":"ICCID"}],"faultResponse":{"faultcode":"UnifiedWebService.REQUEST_FAILED.DeviceAlreadyActive",
            "faultstring":"REQUEST_FAILED. Device is already active"},"status":"Failed"}"#;
        let told = heard(failure).unwrap();
        let Says::Failed { code, text } = told.says else { panic!("it failed") };
        assert_eq!(code, "REQUEST_FAILED.DeviceAlreadyActive");
        assert_eq!(text, "REQUEST_FAILED. Device is already active");
        let warning = br#"{"requestId":"r","status":"warning","deviceIds":[{"id":"8","kind":"Eid"}]}"#;
        assert_eq!(heard(warning).unwrap().says, Says::NotYet);
        assert!(heard(b"{}").is_none() && heard(b"[]").is_none() && heard(b"\xff").is_none());
    }

    #[test]
    fn the_code_of_a_refusal_is_found_wherever_it_stands() {
        let of = |text: &str| refusal(text.as_bytes());
        let expired = "REQUEST_FAILED.SessionToken.Expired";
        let esim =
            of(r#"{"errorCode":"401","errorMessage":"[REQUEST_FAILED.SessionToken.Expired] Log in again."}"#);
        assert_eq!((esim.code.as_str(), esim.words.as_str()), (expired, "Log in again."));
        let service = of(
            r#"{"errorCode":"UnifiedWebService.REQUEST_FAILED.SessionToken.Expired","errorMessage":"Log in."}"#,
        );
        assert_eq!((service.code.as_str(), service.words.as_str()), (expired, "Log in."));
        assert_eq!(of(r#"{"fault":{"code":"900901","message":"Invalid Credentials"}}"#).code, "900901");
        assert_eq!(of("<html>"), Refusal { code: String::new(), words: String::new() });
    }

    #[test]
    fn a_status_is_read_target_by_target() {
        let body = br#"{"requestId":"r","status":"Pending","subRequests":[
            {"ids":[{"id":"89148000000800139708","kind":"iccid"}],"status":"Success"},
            {"ids":[{"id":"89148000000800139716","kind":"Iccid"}],"status":"Pending"},
            {"ids":[{"id":"89049032000001000000000000000001","kind":"eid"}],"status":"Failed"}]}"#;
        let Status { whole, of } = status(body).unwrap();
        assert_eq!((whole, of.len()), (Going::Pending, 3));
        assert_eq!(of["89148000000800139708"], Going::Success);
        assert_eq!(of["89148000000800139716"], Going::Pending);
        assert_eq!(of["89049032000001000000000000000001"], Going::Failed);
    }

    #[test]
    fn what_the_other_side_writes_is_kept_without_what_no_store_takes() {
        let hostile = br#"{"errorCode":"X.INPUT_INVALID.Q","errorMessage":"a\u0000b\nc"}"#;
        assert_eq!(refusal(hostile).words, "abc");
        let long = format!(r#"{{"errorMessage":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(refusal(long.as_bytes()).words.len(), CHARS_MAX);
        for id in ["", "a b", "a#b", "a\u{0}b", &"x".repeat(ID_CHARS_MAX + 1)] {
            assert_eq!(request_id(id), None, "{id:?}");
        }
        assert!(request_id("d1f08526-5443-4054-9a29-4456490ea9f8").is_some());
    }

    #[test]
    fn listeners_are_read_with_credentials_or_without() {
        let body = br#"[{"accountName":"a","serviceName":"s","url":"u"},{"serviceName":"t","url":"v","username":"n","password":"p"}]"#;
        let listed = registered(body).unwrap();
        assert_eq!((listed[0].username.as_str(), listed[1].password.as_str()), ("", "p"));
        assert_eq!((registered(b" "), registered(b"[]")), (Some(Vec::new()), Some(Vec::new())));
        assert_eq!(registered(b"<html>"), None);
    }
}
