//! OAuth2 client credentials. Source: contract §3.1; RFC 6749 §4.4 and §5.2; RFC 7009.

use crate::App;
use crate::door::read_whole;
use crate::refused::{Refused, unavailable};
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Form, Json};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use reveille_domain::Refusal;
use reveille_engine::Secrets;
use reveille_store::Client;
use reveille_wire::answers::{OauthError, TokenAnswer};
use serde::Deserialize;
use std::sync::Arc;

/// Names the token that was revoked.
const REVOKED: HeaderName = HeaderName::from_static("revokedaccesstoken");

/// The form of both calls; what else is in it, `scope` for one, is ignored.
#[derive(Default, Deserialize)]
pub(crate) struct TokenForm {
    #[serde(default)]
    grant_type: String,
    #[serde(default)]
    token: String,
}

pub(crate) async fn token(State(app): State<Arc<App>>, request: Request) -> Result<Response, Response> {
    let client = client(&app, request.headers()).await?;
    let form = form(&app, request).await?;
    match form.grant_type.as_str() {
        "client_credentials" => {}
        "" => {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Missing grant_type parameter value",
            ));
        }
        _ => {
            let what = "grant_type must be client_credentials";
            return Err(refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", what));
        }
    }
    let now = app.engine.clock().now();
    let life = app.config.token_life;
    let issued = app.engine.store().issue_token(client.number, now, now.minus(life)).await;
    let issued_at = issued
        .map_err(|error| Refused::from(unavailable(&error)).into_response())?
        .ok_or_else(wrong_client)?;
    app.client_changed(client.number);
    let answer = TokenAnswer {
        access_token: app.secrets.token(client.number, issued_at),
        token_type: "Bearer".into(),
        expires_in: u32::try_from(issued_at.plus(life).since(now).as_secs()).unwrap_or(u32::MAX).max(1),
        scope: "default".into(),
    };
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(answer)).into_response())
}

pub(crate) async fn revoke(State(app): State<Arc<App>>, request: Request) -> Result<Response, Response> {
    let client = client(&app, request.headers()).await?;
    let form = form(&app, request).await?;
    if form.token.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "invalid_request", "Missing token parameter value"));
    }
    let current = client.token_issued_at.map(|issued_at| app.secrets.token(client.number, issued_at));
    let mut response = Json(serde_json::json!({})).into_response();
    if current.is_some_and(|current| current.eq_ignore_ascii_case(&form.token)) {
        let revoked = app.engine.store().revoke_token(client.number).await;
        revoked.map_err(|error| Refused::from(unavailable(&error)).into_response())?;
        app.client_changed(client.number);
        if let Ok(token) = HeaderValue::from_str(&form.token) {
            response.headers_mut().insert(REVOKED, token);
        }
    }
    Ok(response)
}

/// The form, read only once it is known who sends it; what is no form is an empty one.
async fn form(app: &App, request: Request) -> Result<TokenForm, Response> {
    let read = read_whole(request, app).await;
    let bytes = read.map_err(|refusal| Refused::from(refusal).into_response())?;
    let whole = hyper::Request::post("/").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let Ok(whole) = whole.body(Body::from(bytes)) else { return Ok(TokenForm::default()) };
    Ok(Form::from_request(whole, &()).await.map_or_else(|_| TokenForm::default(), |Form(form)| form))
}

/// The client whose key and secret are in the Basic credentials.
async fn client(app: &App, headers: &HeaderMap) -> Result<Client, Response> {
    let missing = || Refused::from(Refusal::MissingClient).into_response();
    let basic = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, encoded) = basic.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let decoded = decode_base64(encoded.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
    let (key, secret) = decoded.as_deref().and_then(|text| text.split_once(':')).ok_or_else(wrong_client)?;
    let known = app.engine.store().client(key).await;
    let known = known.map_err(|error| Refused::from(unavailable(&error)).into_response())?;
    let expected = known.as_ref().map_or([0; 32], |client| client.secret_digest);
    let same = Secrets::same(&Secrets::digest(secret), &expected);
    known.filter(|_| same).ok_or_else(wrong_client)
}

fn wrong_client() -> Response {
    let mut response =
        refuse(StatusCode::UNAUTHORIZED, "invalid_client", "No client of that key has that secret");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"reveille\""));
    response
}

fn refuse(status: StatusCode, error: &str, description: &str) -> Response {
    let body = OauthError { error: error.into(), error_description: description.into() };
    (status, Json(body)).into_response()
}

/// RFC 4648 §4, padding optional; nothing where it is no base64.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(decode_base64("ZGVtby1rZXk6ZGVtby1zZWNyZXQ=").unwrap(), b"demo-key:demo-secret");
        assert_eq!(decode_base64("ZGVtby1rZXk6ZGVtby1zZWNyZXQ").unwrap(), b"demo-key:demo-secret");
        assert_eq!(decode_base64("?"), None);
    }
}
