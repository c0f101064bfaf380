//! Sessions: login, logout, password reset. Source: contract §3.2 and §12 Q16, Q32.

use crate::App;
use crate::auth::{Caller, Reset};
use crate::door::{Bearer, JsonBody};
use crate::passwords::random_password;
use crate::refused::{Dialect, Refused, unavailable};
use axum::Json;
use axum::extract::State;
use hyper::HeaderMap;
use reveille_domain::{Fate, Refusal, RequestId};
use reveille_engine::Secrets;
use reveille_store::{LoginFailure, Session, StoreError};
use reveille_wire::answers::{LoginBody, ResetAnswer, ResetBody, SessionAnswer};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long the repeat of a reset gets the first one's answer.
const SAME_RESET: Duration = Duration::from_secs(60);

fn refuse(refusal: Refusal) -> Refused {
    Dialect::Service.refuse(refusal)
}

fn failed(error: StoreError) -> Refused {
    refuse(unavailable(&error))
}

pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Bearer(client): Bearer,
    JsonBody(body): JsonBody<LoginBody>,
) -> Result<Json<SessionAnswer>, Refused> {
    let store = app.engine.store();
    let user = store.user(&body.username).await.map_err(failed)?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let verified = app.auth.passwords.verify(body.password, hash).await.map_err(refuse)?;
    let now = app.engine.clock().now();
    let Some(user) = user.filter(|user| verified && !user.locked) else {
        let failure =
            store.login_failed(&body.username, now, app.config.login_failures_max).await.map_err(failed)?;
        if failure == LoginFailure::Locked {
            warn!("A user is locked after failed logins");
        }
        return Err(refuse(Refusal::LoginFailed));
    };
    let session_token = RequestId::from_random(app.random.bits()).to_string();
    let session = Session {
        token_digest: Secrets::digest(&session_token),
        user: user.name,
        client: client.number,
        last_used_at: now,
        ended_at: None,
    };
    if !store.open_session(session).await.map_err(failed)? {
        return Err(refuse(Refusal::LoginFailed)); // locked in the meantime
    }
    Ok(Json(SessionAnswer { session_token }))
}

pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<SessionAnswer>, Refused> {
    app.engine.store().end_session(caller.session, app.engine.clock().now()).await.map_err(failed)?;
    app.session_changed(caller.session);
    let token = headers.get(crate::auth::SESSION_HEADER).and_then(|value| value.to_str().ok());
    Ok(Json(SessionAnswer { session_token: token.unwrap_or_default().trim().into() }))
}

pub(crate) async fn reset(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<ResetBody>,
) -> Result<Json<ResetAnswer>, Refused> {
    // In a task of its own: a caller that hangs up and comes again must find what the first reset did.
    let resetting = tokio::spawn(reset_password(app, caller, body.old_password));
    let unknown = Refusal::StoreUnavailable { fate: Fate::Unknown };
    resetting.await.unwrap_or_else(|_| Err(refuse(unknown))).map(Json)
}

async fn reset_password(app: Arc<App>, caller: Caller, old_password: String) -> Result<ResetAnswer, Refused> {
    let now = app.engine.clock().now();
    let digest = Secrets::digest(&old_password);
    // One at a time: a repeat at the same moment must find what the first did.
    let mut resets = app.auth.resets.lock().await;
    let before = resets.get(&caller.session).cloned();
    if let Some(before) =
        before.filter(|reset| now.since(reset.at) < SAME_RESET && reset.old_password_digest == digest)
    {
        return Ok(ResetAnswer { new_password: before.new_password });
    }
    let store = app.engine.store();
    let user = store
        .user(&caller.user.name)
        .await
        .map_err(failed)?
        .ok_or_else(|| refuse(Refusal::InvalidSession))?;
    let verified = app.auth.passwords.verify(old_password, Some(user.password_hash)).await.map_err(refuse)?;
    if !verified || user.locked {
        store.login_failed(&user.name, now, app.config.login_failures_max).await.map_err(failed)?;
        return Err(refuse(Refusal::LoginFailed));
    }
    let new_password = random_password(app.random.as_ref());
    let hash =
        app.auth.passwords.hash(new_password.clone(), Arc::clone(&app.random)).await.map_err(refuse)?;
    store.set_password(&user.name, hash).await.map_err(failed)?;
    info!("A user's password was reset");
    resets.retain(|_, reset| now.since(reset.at) < SAME_RESET);
    resets.insert(
        caller.session,
        Reset { at: now, old_password_digest: digest, new_password: new_password.clone() },
    );
    Ok(ResetAnswer { new_password })
}
