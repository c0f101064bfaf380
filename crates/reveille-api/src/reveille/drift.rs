//! Drift: profiles whose network says otherwise than their record.

use super::requests::queried;
use super::{instant, invalid, limit};
use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use reveille_store::{DriftView, Seen};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A page of drifting profiles, in the order of their ICCIDs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DriftPage {
    profiles: Vec<Drifting>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A profile whose network says otherwise.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Drifting {
    iccid: String,
    network: &'static str,
    /// The network has no such profile.
    unknown: bool,
    /// Whether the network gives it access, where that differs from the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_service: Option<bool>,
    /// Whether its card has it enabled, where that differs from the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// When that was seen first.
    found_at: String,
    /// The request whose callback tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl From<DriftView> for Drifting {
    fn from(view: DriftView) -> Self {
        let (unknown, in_service, enabled) = match view.seen {
            Seen::NoSuchProfile => (true, None, None),
            Seen::Otherwise { in_service, enabled } => (false, in_service, enabled),
        };
        Self {
            iccid: view.iccid.as_str().into(),
            network: view.network.name(),
            unknown,
            in_service,
            enabled,
            found_at: instant(view.found_at),
            request_id: view.request.map(|request| request.to_string()),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct DriftQuery {
    account: String,
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<DriftQuery>, QueryRejection>,
) -> Result<Json<DriftPage>, Refused> {
    let DriftQuery { account, after, limit: asked } = queried(query)?;
    let (account, limit) = (caller.account_named(&account)?, limit(asked)?);
    let after = after.map(|text| text.parse().map_err(|_| invalid("after is an ICCID"))).transpose()?;
    let found = app.engine.store().drifts(&account, after, limit).await?;
    let profiles: Vec<Drifting> = found.into_iter().map(Drifting::from).collect();
    let next = profiles.last().filter(|_| profiles.len() == limit).map(|profile| profile.iccid.clone());
    Ok(Json(DriftPage { profiles, next }))
}
