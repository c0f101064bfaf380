//! What a handler takes: the caller, and the body, each refused in the contract's order. Source: §9.5.

use crate::App;
use crate::auth::Caller;
use crate::refused::{Dialect, Refused};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use reveille_domain::Refusal;
use reveille_store::Client;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The longest `Idempotency-Key`. Source: contract §12 Q19.
const KEY_CHARS_MAX: usize = 255;

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(parts.uri.path());
        app.caller(&parts.headers).await.map_err(|refusal| dialect.refuse(refusal))
    }
}

/// A client with a live token, where no session is needed.
pub(crate) struct Bearer(pub(crate) Client);

impl FromRequestParts<Arc<App>> for Bearer {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(parts.uri.path());
        app.bearer(&parts.headers).await.map(Self).map_err(|refusal| dialect.refuse(refusal))
    }
}

/// The bytes of a JSON body: announced as JSON, not empty, within the limit, not yet parsed.
pub(crate) struct JsonBytes(pub(crate) Bytes);

impl FromRequest<Arc<App>> for JsonBytes {
    type Rejection = Refused;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(request.uri().path());
        read(request, app).await.map(Self).map_err(|refusal| dialect.refuse(refusal))
    }
}

/// A JSON body of one shape.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(request.uri().path());
        let bytes = read(request, app).await.map_err(|refusal| dialect.refuse(refusal))?;
        reveille_wire::json::decode_to_keep(&bytes).map(Self).map_err(|refusal| dialect.refuse(refusal))
    }
}

async fn read(request: Request, app: &App) -> Result<Bytes, Refusal> {
    let announced_as_json = is_json(request.headers());
    let bytes = read_whole(request, app).await?;
    if !announced_as_json {
        return Err(Refusal::NotJsonContent);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::EmptyBody);
    }
    Ok(bytes)
}

/// A whole body, within the limits on its size and its time.
pub(crate) async fn read_whole(request: Request, app: &App) -> Result<Bytes, Refusal> {
    let limit = app.config.body_bytes_max;
    let too_large = || Refusal::BodyTooLarge { bytes_max: limit };
    let (parts, body) = request.into_parts();
    if announced_length(&parts.headers).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let reading = Limited::new(body, limit).collect();
    let read = tokio::select! {
        read = reading => read,
        () = app.engine.clock().sleep(app.config.body_timeout) => {
            return Err(Refusal::Malformed { detail: "the body did not arrive in time".into() });
        }
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Refusal::Malformed { detail: format!("the body broke off: {error}") }),
    }
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 17
            && essence.to_ascii_lowercase().starts_with("application/")
            && essence.ends_with("+json"))
}

/// The `Idempotency-Key` of a request, where it has one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let visible =
        |text: &&str| (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let malformed = Refusal::IdempotencyKey { detail: "a key has 1 to 255 visible ASCII characters" };
    value.to_str().ok().filter(visible).map(|text| Some(text.into())).ok_or(malformed)
}
