//! Everything that was asked of a profile and all that came of it: who can prove what happened reads this.

use super::requests::queried;
use super::{instant, invalid, limit, profiles};
use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use reveille_domain::{Position, Refusal, Timestamp};
use reveille_store::{
    ArchiveReason, AttemptView, CallView, CallbackView, HistoryView, SubrequestState, TimelineEntry,
};
use reveille_wire::{fault_code, spelling, status_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A page of a profile's timeline, oldest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Timeline {
    timeline: Vec<Entry>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One thing that was asked of the profile, or of another on its eUICC that changed it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// The request; absent once that is no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The subrequest's number within it.
    number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    /// Who asked; `reveille` where the server did by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// `waiting`, `succeeded` or `failed`; absent once that is no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// What happened, in the order of time.
    events: Vec<Event>,
}

/// Something that happened.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Event {
    at: String,
    /// `accepted`, `cancelled`, `called`, `changed`, `ended`, `told`, `attempt`, `delivered` or `archived`.
    event: &'static str,
    /// What is to be said of it.
    detail: String,
}

struct Events(Vec<(Timestamp, &'static str, String)>);

impl Events {
    fn add(&mut self, at: Timestamp, event: &'static str, detail: impl Into<String>) {
        self.0.push((at, event, detail.into()));
    }

    /// In the order of time; what happened at the same instant stays in the order in which it was added.
    fn in_order(mut self) -> Vec<Event> {
        self.0.sort_by_key(|(at, _, _)| *at);
        self.0.into_iter().map(|(at, event, detail)| Event { at: instant(at), event, detail }).collect()
    }
}

impl From<TimelineEntry> for Entry {
    fn from(entry: TimelineEntry) -> Self {
        let mut events = Events(Vec::new());
        if let Some(request) = &entry.request {
            events.add(request.accepted_at, "accepted", format!("asked for by {}", request.user));
            if let Some(at) = request.cancelled_at {
                events.add(at, "cancelled", "what was not begun");
            }
        }
        entry.calls.iter().for_each(|call| add_call(&mut events, call));
        if let Some(change) = &entry.change {
            events.add(change.at, "changed", what_changed(change));
        }
        if let Some((state, Some(at))) = &entry.outcome {
            let fault = entry.fault.as_ref().map(fault_code);
            events.add(*at, "ended", fault.unwrap_or_else(|| state_word(*state).into()));
        }
        entry.callbacks.iter().for_each(|(callback, attempts)| add_callback(&mut events, callback, attempts));
        Self {
            request_id: entry.request.as_ref().map(|request| request.id.to_string()),
            number: entry.position.number,
            action: entry.request.as_ref().map(|request| request.action.name()),
            user: entry.request.as_ref().map(|request| request.user.to_string()),
            state: entry.outcome.map(|(state, _)| state_word(state)),
            events: events.in_order(),
        }
    }
}

fn state_word(state: SubrequestState) -> &'static str {
    match state {
        SubrequestState::Waiting => "waiting",
        SubrequestState::Succeeded => "succeeded",
        SubrequestState::Failed => "failed",
    }
}

fn add_call(events: &mut Events, call: &CallView) {
    let millis = call.ended_at.since(call.began_at).as_millis();
    let detail = format!("call {} to the carrier: {} after {millis} ms", call.ordinal, call.reply);
    events.add(call.began_at, "called", detail);
}

fn what_changed(change: &HistoryView) -> String {
    let mut parts = Vec::new();
    let (from, to) = (change.from, change.to);
    if from.state != to.state {
        parts.push(format!("{} to {}", spelling::state(from.state), spelling::state(to.state)));
    }
    if from.status != to.status {
        parts.push(format!("{} to {}", spelling::status(from.status), spelling::status(to.status)));
    }
    match (from.fallback, to.fallback) {
        (false, true) => parts.push("its card falls back to it".into()),
        (true, false) => parts.push("its card does not fall back to it any more".into()),
        _ => {}
    }
    if let Some(plan) = &change.plan {
        parts.push(format!("service plan {} to {}", plan.from.as_deref().unwrap_or("none"), plan.to));
    }
    if change.in_doubt {
        parts.push("in doubt".into());
    }
    if parts.is_empty() { "confirmed as it was".into() } else { parts.join(", ") }
}

fn add_callback(events: &mut Events, view: &CallbackView, attempts: &[AttemptView]) {
    let callback = &view.callback;
    let service = callback.outlet().service.name();
    let whom = if callback.listener.is_own() { String::new() } else { format!("{}: ", callback.listener) };
    events.add(view.recorded_at, "told", format!("{whom}{} for {service}", status_of(&callback.told)));
    for attempt in attempts {
        let answer = attempt.status.map(|status| status.to_string());
        let answer = answer.or_else(|| attempt.error.as_ref().map(ToString::to_string)).unwrap_or_default();
        let detail = format!("{whom}series {}, callbackCount {}: {answer}", attempt.series, attempt.ordinal);
        events.add(attempt.ended_at, "attempt", detail);
    }
    let Some(ended_at) = view.ended_at else { return };
    let (what, why) = match view.archived {
        None => ("delivered", ""),
        Some(ArchiveReason::Exhausted) => ("archived", "every attempt failed"),
        Some(ArchiveReason::NoListener) => ("archived", "there was no listener"),
        Some(ArchiveReason::Overtaken) => ("archived", "the outcome came first"),
    };
    let detail = if why.is_empty() { callback.listener.to_string() } else { format!("{whom}{why}") };
    events.add(ended_at, what, detail);
}

#[derive(Deserialize)]
pub(crate) struct TimelineQuery {
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(iccid): Path<String>,
    query: Result<Query<TimelineQuery>, QueryRejection>,
) -> Result<Json<Timeline>, Refused> {
    let query = queried(query)?;
    let limit = limit(query.limit)?;
    let after = query.after.as_deref().map_or(Ok(Position { sequence: 0, number: 0 }), parse_position)?;
    let owned = profiles::find(&app, &caller, &iccid).await?;
    let entries = app.engine.store().timeline(&owned.profile.iccid, after, limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|last| position(last.position));
    Ok(Json(Timeline { timeline: entries.into_iter().map(Entry::from).collect(), next }))
}

/// A place in the order of the store, as the pages of a timeline name it.
fn position(position: Position) -> String {
    format!("{}.{}", position.sequence, position.number)
}

fn parse_position(text: &str) -> Result<Position, Refusal> {
    let parts = text.split_once('.');
    let parsed = parts.and_then(|(sequence, number)| Some((sequence.parse().ok()?, number.parse().ok()?)));
    let (sequence, number) = parsed.ok_or_else(|| invalid("after is the `next` of the page before"))?;
    Ok(Position { sequence, number })
}
