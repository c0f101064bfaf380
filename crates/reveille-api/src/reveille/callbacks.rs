//! Callbacks: list, show with every attempt, replay.

use super::requests::{device_of, find, queried};
use super::{instant, invalid, limit, parse_instant};
use crate::App;
use crate::auth::Caller;
use crate::door::JsonBody;
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use reveille_domain::{ListenerName, Position, Refusal, RequestId};
use reveille_store::{
    ArchiveReason, AttemptView, CallbackFilter, CallbackName, CallbackState, CallbackView, ReplayScope, Tells,
};
use reveille_wire::{CallbackBody, status_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A callback.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Callback {
    /// The request's id, a full stop, the subrequest's number; of a warning, a `w` behind; of a further listener, `.`
    /// and its name behind.
    id: String,
    request_id: String,
    number: u32,
    /// The profile; absent where it is about a device or a page of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iccid: Option<String>,
    /// The device, where it is about one as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    eid: Option<String>,
    /// The callback service whose listener is told.
    service: &'static str,
    /// The further listener that is told; absent of the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<String>,
    /// What it tells: `SUCCESS`, `Failed` or `warning`.
    status: &'static str,
    /// `waiting`, `delivered` or `archived`.
    state: &'static str,
    /// Why it was archived: `exhausted`, `no_listener`, or `overtaken` of a warning whose outcome came first.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<&'static str>,
    /// Which series of attempts this is, from 1; each replay begins one.
    series: u32,
    /// How many attempts of the series have ended.
    callback_count: u32,
    max_callback_threshold: u32,
    recorded_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
}

impl Callback {
    fn new(view: &CallbackView, max_callback_threshold: u32) -> Self {
        let callback = &view.callback;
        let state = match view.state {
            CallbackState::Waiting => "waiting",
            CallbackState::Delivered => "delivered",
            CallbackState::Archived => "archived",
        };
        let archived = view.archived.map(|reason| match reason {
            ArchiveReason::Exhausted => "exhausted",
            ArchiveReason::NoListener => "no_listener",
            ArchiveReason::Overtaken => "overtaken",
        });
        Self {
            id: id(callback.name()),
            request_id: callback.request.id.to_string(),
            number: callback.number,
            iccid: callback.told.subject.iccid().map(|iccid| iccid.as_str().into()),
            eid: device_of(&callback.told.subject).map(Into::into),
            service: callback.outlet().service.name(),
            listener: Some(callback.listener).filter(|name| !name.is_own()).map(|name| name.to_string()),
            status: status_of(&callback.told),
            state,
            archived,
            series: callback.series,
            callback_count: callback.attempts,
            max_callback_threshold,
            recorded_at: instant(view.recorded_at),
            next_attempt_at: view.next_attempt_at.map(instant),
            ended_at: view.ended_at.map(instant),
        }
    }
}

fn id(name: CallbackName) -> String {
    let CallbackName { request, number, tells, listener } = name;
    let warning = if tells == Tells::Warning { "w" } else { "" };
    let further = if listener.is_own() { "" } else { "." };
    format!("{request}.{number}{warning}{further}{listener}")
}

fn parse_id(id: &str) -> Option<CallbackName> {
    let (request, number) = id.split_once('.')?;
    let (number, listener) = match number.split_once('.') {
        Some((number, name)) => (number, name.parse().ok()?),
        None => (number, ListenerName::OWN),
    };
    let (number, tells) = match number.strip_suffix('w') {
        Some(number) => (number, Tells::Warning),
        None => (number, Tells::Outcome),
    };
    Some(CallbackName { request: request.parse().ok()?, number: number.parse().ok()?, tells, listener })
}

/// A page of callbacks, in the order of their outcomes' requests.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CallbackPage {
    callbacks: Vec<Callback>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallbackQuery {
    account: String,
    listener: Option<String>,
    request_id: Option<String>,
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<CallbackQuery>, QueryRejection>,
) -> Result<Json<CallbackPage>, Refused> {
    let query = queried(query)?;
    let state = match query.state.as_deref() {
        None => None,
        Some("waiting") => Some(CallbackState::Waiting),
        Some("delivered") => Some(CallbackState::Delivered),
        Some("archived") => Some(CallbackState::Archived),
        Some(_) => return Err(invalid("state is waiting, delivered or archived").into()),
    };
    let after = query.after.map(|after| parse_id(&after).ok_or_else(|| invalid("after is a callback's id")));
    let limit = limit(query.limit)?;
    let filter = CallbackFilter {
        account: caller.account_named(&query.account)?,
        listener: listener(query.listener.as_deref())?,
        request: query.request_id.map(|request| parse_request(&request)).transpose()?,
        state,
        after: after.transpose()?,
        limit,
    };
    let views = app.engine.store().callbacks(filter).await?;
    let threshold = app.engine.attempts_max();
    let callbacks: Vec<Callback> = views.iter().map(|view| Callback::new(view, threshold)).collect();
    let next = callbacks.last().filter(|_| callbacks.len() == limit).map(|callback| callback.id.clone());
    Ok(Json(CallbackPage { callbacks, next }))
}

/// Whose callbacks are meant: the service's own listener's, or those of a further one that is named.
fn listener(name: Option<&str>) -> Result<ListenerName, Refusal> {
    name.map_or(Ok(ListenerName::OWN), |name| {
        name.parse().map_err(|error| invalid(format!("listener: {error}")))
    })
}

fn parse_request(request: &str) -> Result<RequestId, Refusal> {
    request.parse().map_err(|_| invalid("requestId is a UUID"))
}

/// A callback with what it says and every attempt whose end is recorded.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CallbackWithAttempts {
    #[serde(flatten)]
    callback: Callback,
    /// What it says, as its latest attempt sent it but without the listener's credentials.
    body: serde_json::Value,
    attempts: Vec<Attempt>,
}

/// One POST to the listener.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempt {
    series: u32,
    callback_count: u32,
    ended_at: String,
    /// The HTTP status, where one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What went wrong, where none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<AttemptView> for Attempt {
    fn from(view: AttemptView) -> Self {
        Self {
            series: view.series,
            callback_count: view.ordinal,
            ended_at: instant(view.ended_at),
            status: view.status,
            error: view.error.map(Into::into),
        }
    }
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(callback): Path<String>,
) -> Result<Json<CallbackWithAttempts>, Refused> {
    let name = one(&app, &caller, &callback).await?;
    let found = app.engine.store().callback(name).await?;
    let (view, attempts) = found.ok_or(Refusal::NotFound { what: "callback" })?;
    let threshold = app.engine.attempts_max();
    let told = &view.callback.told;
    let body =
        CallbackBody::new(name.request, told, None, view.callback.attempts.max(1), threshold).to_bytes();
    Ok(Json(CallbackWithAttempts {
        callback: Callback::new(&view, threshold),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        attempts: attempts.into_iter().map(Attempt::from).collect(),
    }))
}

/// The callback of that id, where its request is one of the caller's.
async fn one(app: &App, caller: &Caller, callback: &str) -> Result<CallbackName, Refused> {
    let unknown = Refusal::NotFound { what: "callback" };
    let Some(name) = parse_id(callback) else { return Err(unknown.into()) };
    match find(app, caller, &name.request.to_string()).await {
        Ok(_) => Ok(name),
        Err(_) => Err(unknown.into()),
    }
}

/// How many callbacks are due again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReplayAnswer {
    replayed: usize,
}

pub(crate) async fn replay_one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(callback): Path<String>,
) -> Result<Json<ReplayAnswer>, Refused> {
    let name = one(&app, &caller, &callback).await?;
    let replayed = app.engine.replay(ReplayScope::One(name)).await?;
    Ok(Json(ReplayAnswer { replayed }))
}

/// Which callbacks are sent again.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplayBody {
    account: String,
    /// Those for this further listener; left out, those for the services' own.
    #[serde(default)]
    listener: Option<String>,
    /// Of this request.
    #[serde(default)]
    request_id: Option<String>,
    /// Recorded at this instant (RFC 3339) or later.
    #[serde(default)]
    from: Option<String>,
    /// Recorded before this instant (RFC 3339).
    #[serde(default)]
    to: Option<String>,
    /// `archived` (the default), or `ended`: the delivered ones too.
    #[serde(default)]
    state: Option<String>,
}

pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<ReplayBody>,
) -> Result<Json<ReplayAnswer>, Refused> {
    let delivered = match body.state.as_deref() {
        None | Some("archived") => false,
        Some("ended") => true,
        Some(_) => return Err(invalid("state is archived or ended").into()),
    };
    let scope = ReplayScope::Account {
        account: caller.account_named(&body.account)?,
        listener: listener(body.listener.as_deref())?,
        request: body.request_id.map(|request| parse_request(&request)).transpose()?,
        from: body.from.map(|from| parse_instant("from", &from)).transpose()?,
        to: body.to.map(|to| parse_instant("to", &to)).transpose()?,
        delivered,
        after: Position { sequence: 0, number: 0 },
    };
    Ok(Json(ReplayAnswer { replayed: app.engine.replay(scope).await? }))
}
