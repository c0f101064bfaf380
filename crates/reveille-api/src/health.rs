//! Is it up, is it ready, what does it count. No detail goes to whoever may not have it.

use crate::App;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use reveille_engine::Secrets;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.engine.store().backlog().await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

/// For loopback, or with the configured token.
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let admitted = match (&app.config.metrics_token, bearer) {
        (Some(token), Some(bearer)) => Secrets::same(token.as_bytes(), bearer.as_bytes()),
        (Some(_), None) => false,
        (None, _) => peer.ip().to_canonical().is_loopback(),
    };
    if !admitted {
        return (StatusCode::FORBIDDEN, "metrics are for loopback, or for whoever has metrics_token\n")
            .into_response();
    }
    match app.engine.metrics_text().await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store cannot answer\n").into_response(),
    }
}
