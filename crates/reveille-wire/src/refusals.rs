//! The contract's codes and messages for refusals. Source: contract §9.1, §9.2, §9.5; our names in docs/choices.md.

use reveille_domain::{Fate, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// The gateway's words, where the gateway of the original would have answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<Gateway>,
    /// The three digits of the HTTP status on the eSIM calls; the code itself on session and callback calls.
    pub error_code: String,
    /// What is wrong and what to do; on the eSIM calls it begins with the code in brackets.
    pub error_message: String,
}

/// The gateway's words. Source: contract §9.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gateway {
    /// Six digits.
    pub code: String,
    /// In two or three words.
    pub message: String,
    /// In a sentence.
    pub description: String,
}

impl Gateway {
    /// What the gateway says of `refusal`, where it is the gateway's to refuse.
    pub fn of(refusal: &Refusal) -> Option<Self> {
        let (code, text) = match refusal {
            Refusal::UnknownPath | Refusal::WrongMethod => {
                ("900906", "No matching resource found in the API for the given request")
            }
            Refusal::MissingBearer | Refusal::MissingClient => ("900902", "Missing Credentials"),
            Refusal::InvalidBearer => ("900901", "Invalid Credentials"),
            _ => return None,
        };
        Some(Self { code: code.into(), message: text.into(), description: message(refusal) })
    }
}

/// The code of a refusal, without a service name before it.
pub fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownPath | Refusal::NotFound { .. } => "REQUEST_FAILED.NotFound",
        Refusal::WrongMethod => "REQUEST_FAILED.MethodNotAllowed",
        Refusal::MissingBearer | Refusal::MissingClient => "REQUEST_FAILED.Authorization.Missing",
        Refusal::InvalidBearer => "REQUEST_FAILED.Authorization.Invalid",
        Refusal::MissingSession => "REQUEST_FAILED.SessionToken.Format",
        Refusal::InvalidSession => "INPUT_INVALID.SessionToken.Invalid",
        Refusal::ExpiredSession => "REQUEST_FAILED.SessionToken.Expired",
        Refusal::Overloaded { .. } => "REQUEST_FAILED.TooManyRequests",
        Refusal::BodyTooLarge { .. } => "INPUT_INVALID.Request.TooLarge",
        Refusal::NotJsonContent => "INPUT_INVALID.Request.ContentType",
        Refusal::EmptyBody => "INPUT_INVALID.RequestUndefined",
        Refusal::Malformed { .. } | Refusal::StoreUnavailable { .. } => "REQUEST_FAILED.UnexpectedError",
        Refusal::AccountMissing => "INPUT_INVALID.Account.NotDefined",
        Refusal::ForeignAccount => "REQUEST_FAILED.AccountName",
        Refusal::DeviceNotProvided { .. } => "INPUT_INVALID.DeviceNotProvided",
        Refusal::KindInvalid { .. } => "INPUT_INVALID.Device.Kind.Invalid",
        Refusal::IdentifierInvalid { .. } => "INPUT_INVALID.Device.Identifier.Invalid",
        Refusal::TooManyTargets { .. } => "INPUT_INVALID.MaxRequestsExceeded",
        Refusal::IdempotencyKey { .. } => "INPUT_INVALID.IdempotencyKey",
        Refusal::ActionUnsupported { .. } => "INPUT_INVALID.Action.NotSupported",
        Refusal::InvalidField { .. } => "INPUT_INVALID.Field",
        Refusal::LoginFailed => "REQUEST_FAILED.Login.Invalid",
        Refusal::OperatorsOnly => "REQUEST_FAILED.OperatorsOnly",
    }
}

/// What is wrong and what to do, in a sentence or two.
pub fn message(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownPath => "No such resource. See /openapi.json for those that there are.".into(),
        Refusal::WrongMethod => "This resource exists, but not with this method; the Allow header names those that it takes.".into(),
        Refusal::MissingBearer => "Send Authorization: Bearer with a token from /api/ts/v1/oauth2/token.".into(),
        Refusal::MissingClient => {
            "Send Authorization: Basic with the client's key and secret, key:secret in base64.".into()
        }
        Refusal::InvalidBearer => "The bearer token is wrong, expired or revoked. Get a new one from /api/ts/v1/oauth2/token.".into(),
        Refusal::MissingSession => "Send VZ-M2M-Token with a session token from /api/m2m/v1/session/login.".into(),
        Refusal::InvalidSession => "The session token is of no live session of this client. Log in again.".into(),
        Refusal::ExpiredSession => "The session has expired. Log in again.".into(),
        Refusal::Overloaded { what, .. } => format!("{what} Repeat the call after the time in Retry-After."),
        Refusal::BodyTooLarge { bytes_max } => format!("The body is larger than {bytes_max} bytes. Split the request."),
        Refusal::NotJsonContent => "Send Content-Type: application/json.".into(),
        Refusal::EmptyBody => "The request has no body.".into(),
        Refusal::Malformed { detail } => format!("The body is not the JSON that this call takes: {detail}."),
        Refusal::AccountMissing => "accountName is missing.".into(),
        Refusal::ForeignAccount => "No such account among those of this user.".into(),
        Refusal::DeviceNotProvided { detail }
        | Refusal::KindInvalid { detail }
        | Refusal::InvalidField { detail } => format!("{detail}."),
        Refusal::IdentifierInvalid { detail } => format!("Malformed identifiers: {detail}."),
        Refusal::TooManyTargets { targets_max } => {
            format!("More than {targets_max} profiles. Split the request into several.")
        }
        Refusal::IdempotencyKey { detail } => format!("Idempotency-Key: {detail}."),
        Refusal::ActionUnsupported { action, network } => format!(
            "The carrier of network {} cannot do {}; leave its profiles out, or name another action.",
            network.name(),
            action.name()
        ),
        Refusal::StoreUnavailable { fate: Fate::Refused } => "The store cannot answer now; nothing of this request was kept. Repeat it.".into(),
        Refusal::StoreUnavailable { fate: Fate::Unknown } => {
            "The store did not confirm in time: the request may have been accepted. Repeat it with the same Idempotency-Key.".into()
        }
        Refusal::LoginFailed => {
            "No user of that name has that password, or it is locked after failed logins until an operator unlocks it."
                .into()
        }
        Refusal::NotFound { what } => format!("No such {what} among those of this user."),
        Refusal::OperatorsOnly => "This call is for operators. Log in as a user with operator = true.".into(),
    }
}
