//! Requests: list, show, their subrequests, cancel.

use super::{instant, invalid, limit};
use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use reveille_domain::{Fault, Refusal, RequestId, Subject};
use reveille_store::{RequestFilter, RequestView, SubrequestFilter, SubrequestState, SubrequestView};
use reveille_wire::{fault_code, fault_text, named_fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request with its counts.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    request_id: String,
    account: String,
    /// The action's name in its path: `profile_resume`.
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_plan: Option<String>,
    /// Who asked.
    user: String,
    accepted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// `running` until its last subrequest has ended, then `ended`.
    state: &'static str,
    cancelled: bool,
    subrequests: u32,
    waiting: u32,
    succeeded: u32,
    failed: u32,
    /// How many failed with which fault code.
    faults: BTreeMap<String, u32>,
    callbacks: CallbackCounts,
}

/// Where a request's callbacks are.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CallbackCounts {
    waiting: u32,
    delivered: u32,
    archived: u32,
}

impl From<&RequestView> for Request {
    fn from(view: &RequestView) -> Self {
        let plan = view.head.service_plan.as_deref();
        let code =
            |name: &str| Fault::named(name, plan).map_or_else(|| name.to_owned(), |fault| fault_code(&fault));
        Self {
            request_id: view.head.id.to_string(),
            account: view.head.account.to_string(),
            action: view.head.action.name(),
            service_plan: plan.map(Into::into),
            user: view.user.to_string(),
            accepted_at: instant(view.head.accepted_at),
            ended_at: view.ended_at.map(instant),
            state: if view.ended_at.is_some() { "ended" } else { "running" },
            cancelled: view.head.cancelled,
            subrequests: view.subrequests,
            waiting: view.waiting(),
            succeeded: view.succeeded,
            failed: view.failed,
            faults: view.faults.iter().map(|(name, count)| (code(name), *count)).collect(),
            callbacks: CallbackCounts {
                waiting: view.callbacks_waiting(),
                delivered: view.callbacks_delivered,
                archived: view.callbacks_archived,
            },
        }
    }
}

/// A page of requests, newest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RequestPage {
    requests: Vec<Request>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct RequestQuery {
    account: String,
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// A query that was read, or the refusal that it is.
pub(crate) fn queried<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|rejection| invalid(format!("query: {rejection}")))
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<RequestQuery>, QueryRejection>,
) -> Result<Json<RequestPage>, Refused> {
    let query = queried(query)?;
    let ended = match query.state.as_deref() {
        None => None,
        Some("running") => Some(false),
        Some("ended") => Some(true),
        Some(_) => return Err(invalid("state is running or ended").into()),
    };
    let after =
        query.after.map(|after| after.parse()).transpose().map_err(|_| invalid("after is a request id"))?;
    let limit = limit(query.limit)?;
    let filter = RequestFilter { account: caller.account_named(&query.account)?, ended, after, limit };
    let views = app.engine.store().requests(filter).await?;
    let next = views.last().filter(|_| views.len() == limit).map(|view| view.head.id.to_string());
    Ok(Json(RequestPage { requests: views.iter().map(Request::from).collect(), next }))
}

/// The request of that id, where it is one of the caller's.
pub(crate) async fn find(app: &App, caller: &Caller, request: &str) -> Result<RequestView, Refused> {
    let unknown = || Refusal::NotFound { what: "request" };
    let id: RequestId = request.parse().map_err(|_| unknown())?;
    let view = app.engine.store().request(id).await?;
    Ok(view.filter(|view| caller.sees(&view.head.account)).ok_or_else(unknown)?)
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(request): Path<String>,
) -> Result<Json<Request>, Refused> {
    Ok(Json(Request::from(&find(&app, &caller, &request).await?)))
}

pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(request): Path<String>,
) -> Result<Json<Request>, Refused> {
    let known = find(&app, &caller, &request).await?;
    let cancelled = app.engine.cancel(known.head.id).await?;
    Ok(Json(Request::from(&cancelled.unwrap_or(known))))
}

/// A subrequest.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subrequest {
    number: u32,
    /// The profile; absent where it is about a device or a page of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iccid: Option<String>,
    /// The device, where it is about one as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    eid: Option<String>,
    /// `waiting`, `succeeded` or `failed`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
}

/// Why a subrequest failed.
#[derive(Serialize, JsonSchema)]
pub(crate) struct FaultView {
    /// The code, without the service name that its callback puts before it.
    code: String,
    text: String,
}

impl From<&Fault> for FaultView {
    fn from(fault: &Fault) -> Self {
        Self { code: fault_code(fault), text: fault_text(fault) }
    }
}

/// The EID of a subject that is a device as a whole.
pub(crate) fn device_of(subject: &Subject) -> Option<&str> {
    match subject {
        Subject::Device(eid) => Some(eid.as_str()),
        Subject::Profile(_) | Subject::Page => None,
    }
}

impl From<&SubrequestView> for Subrequest {
    fn from(view: &SubrequestView) -> Self {
        let state = match view.state {
            SubrequestState::Waiting => "waiting",
            SubrequestState::Succeeded => "succeeded",
            SubrequestState::Failed => "failed",
        };
        Self {
            number: view.number,
            iccid: view.subject.iccid().map(|iccid| iccid.as_str().into()),
            eid: device_of(&view.subject).map(Into::into),
            state,
            fault: view.fault.as_ref().map(FaultView::from),
            ended_at: view.ended_at.map(instant),
        }
    }
}

/// A page of subrequests, in their order.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SubrequestPage {
    subrequests: Vec<Subrequest>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u32>,
}

#[derive(Deserialize)]
pub(crate) struct SubrequestQuery {
    state: Option<String>,
    fault: Option<String>,
    after: Option<u32>,
    limit: Option<usize>,
}

pub(crate) async fn subrequests(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(request): Path<String>,
    query: Result<Query<SubrequestQuery>, QueryRejection>,
) -> Result<Json<SubrequestPage>, Refused> {
    let query = queried(query)?;
    let request = find(&app, &caller, &request).await?.head.id;
    let state = match query.state.as_deref() {
        None => None,
        Some("waiting") => Some(SubrequestState::Waiting),
        Some("succeeded") => Some(SubrequestState::Succeeded),
        Some("failed") => Some(SubrequestState::Failed),
        Some(_) => return Err(invalid("state is waiting, succeeded or failed").into()),
    };
    let unknown_fault = || invalid("fault is a fault code, REQUEST_FAILED.ProfileAlreadyResumed for one");
    let fault =
        query.fault.map(|code| named_fault(&code).map(Into::into).ok_or_else(unknown_fault)).transpose()?;
    let limit = limit(query.limit)?;
    let filter = SubrequestFilter { request, state, fault, after: query.after.unwrap_or(0), limit };
    let views = app.engine.store().subrequests(filter).await?;
    let next = views.last().filter(|_| views.len() == limit).map(|view| view.number);
    Ok(Json(SubrequestPage { subrequests: views.iter().map(Subrequest::from).collect(), next }))
}
