//! The one place where a refusal becomes HTTP.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use reveille_domain::{Fate, Refusal};
use reveille_store::StoreError;
use reveille_wire::{ErrorBody, Gateway, code, message};
use std::time::Duration;
use tracing::warn;

/// When to try again while the store cannot answer.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// A refusal on its way out, in the dialect of the call that it answers.
#[derive(Debug)]
pub(crate) struct Refused {
    refusal: Refusal,
    dialect: Dialect,
}

/// How a call spells its errors. Source: contract §9.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `errorCode` is the three-digit status, the message begins with the code.
    Esim,
    /// `errorCode` is the code behind a service name: session and callback calls.
    Service,
}

impl Dialect {
    /// The dialect of the call at that path.
    pub(crate) fn of(path: &str) -> Self {
        let services = ["/api/m2m/v1/session/", "/api/m2m/v1/callbacks/"];
        if services.iter().any(|prefix| path.starts_with(prefix)) { Self::Service } else { Self::Esim }
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Refused {
        Refused { refusal, dialect: self }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Dialect::Esim.refuse(refusal)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Dialect::Esim.refuse(unavailable(&error))
    }
}

/// What a caller is told when the store fails; the log has the cause.
pub(crate) fn unavailable(error: &StoreError) -> Refusal {
    warn!(%error, source = std::error::Error::source(error).map(tracing::field::display), "The store could not answer");
    let fate = if matches!(error, StoreError::Unconfirmed) { Fate::Unknown } else { Fate::Refused };
    Refusal::StoreUnavailable { fate }
}

/// No `_` arm: a new refusal does not compile until it has its place here. Source: contract §9.5.
pub(crate) fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownPath | Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
        Refusal::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::MissingBearer
        | Refusal::MissingClient
        | Refusal::InvalidBearer
        | Refusal::MissingSession
        | Refusal::InvalidSession
        | Refusal::ExpiredSession => StatusCode::UNAUTHORIZED,
        Refusal::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::NotJsonContent => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::ForeignAccount | Refusal::OperatorsOnly => StatusCode::FORBIDDEN,
        Refusal::StoreUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::EmptyBody
        | Refusal::Malformed { .. }
        | Refusal::AccountMissing
        | Refusal::DeviceNotProvided { .. }
        | Refusal::KindInvalid { .. }
        | Refusal::IdentifierInvalid { .. }
        | Refusal::TooManyTargets { .. }
        | Refusal::IdempotencyKey { .. }
        | Refusal::ActionUnsupported { .. }
        | Refusal::InvalidField { .. }
        | Refusal::LoginFailed => StatusCode::BAD_REQUEST,
    }
}

fn body(refused: &Refused, status: StatusCode) -> ErrorBody {
    let refusal = &refused.refusal;
    let (error_code, error_message) = match refused.dialect {
        Dialect::Esim => (status.as_str().to_owned(), format!("[{}] {}", code(refusal), message(refusal))),
        Dialect::Service => (format!("UnifiedWebService.{}", code(refusal)), message(refusal)),
    };
    ErrorBody { fault: Gateway::of(refusal), error_code, error_message }
}

fn retry_after(refusal: &Refusal) -> Option<Duration> {
    match refusal {
        Refusal::Overloaded { retry_after, .. } => Some(*retry_after),
        Refusal::StoreUnavailable { .. } => Some(STORE_RETRY_AFTER),
        _ => None,
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = status(&self.refusal);
        let mut response = (status, Json(body(&self, status))).into_response();
        if let Some(after) = retry_after(&self.refusal) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
