//! Further listeners: who else is told what a service's own listener is told.
//!
//! ThingSpace knows one listener for each service, and its calls show and change that one alone.

use super::requests::queried;
use super::{instant, invalid};
use crate::App;
use crate::auth::Caller;
use crate::door::JsonBody;
use crate::listening::{ARCHIVED, Stated, archived, checked};
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use hyper::header::{HeaderName, HeaderValue};
use reveille_domain::{AccountName, ListenerName, Refusal};
use reveille_store::{FURTHER_LISTENERS_MAX, Listener as Kept};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tracing::info;

/// An account's listeners, by service and name.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ListenerList {
    listeners: Vec<Listener>,
}

/// A listener. Its password is not shown.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listener {
    /// The callback service.
    service: String,
    /// The further listener's name; absent of the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where its callbacks go.
    url: String,
    /// Echoed in its callbacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    registered_at: String,
}

impl From<Kept> for Listener {
    fn from(kept: Kept) -> Self {
        Self {
            service: kept.service.into(),
            name: Some(kept.name).filter(|name| !name.is_own()).map(|name| name.to_string()),
            url: kept.url.into(),
            username: kept.username.map(Into::into),
            registered_at: instant(kept.registered_at),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct ListenerQuery {
    account: String,
}

/// Where a further listener's callbacks go.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct FurtherListenerBody {
    /// An http or https URL.
    url: String,
    /// Echoed in every callback; at most 40 characters.
    #[serde(default)]
    username: Option<String>,
    /// Likewise.
    #[serde(default)]
    password: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ListenerQuery>, QueryRejection>,
) -> Result<Json<ListenerList>, Refused> {
    let account = caller.account_named(&queried(query)?.account)?;
    listed(&app, &account).await
}

pub(crate) async fn register(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((service, name)): Path<(String, String)>,
    query: Result<Query<ListenerQuery>, QueryRejection>,
    JsonBody(body): JsonBody<FurtherListenerBody>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<ListenerList>), Refused> {
    let account = caller.account_named(&queried(query)?.account)?;
    let name = named(&name)?;
    let FurtherListenerBody { url, username, password } = body;
    let listener =
        checked(&app, Stated { service: service.clone(), name, url: Some(url), username, password }).await?;
    must_have_room(&app, &account, &listener).await?;
    app.engine.store().register(&account, listener).await?;
    app.engine.listener_changed();
    let archived = archived(&app, &account, &service, name).await?;
    info!(account.name = %account, service, listener = %name, archived, "Registered a further listener");
    Ok(([(ARCHIVED, HeaderValue::from(archived))], listed(&app, &account).await?))
}

pub(crate) async fn deregister(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((service, name)): Path<(String, String)>,
    query: Result<Query<ListenerQuery>, QueryRejection>,
) -> Result<Json<ListenerList>, Refused> {
    let account = caller.account_named(&queried(query)?.account)?;
    let name = named(&name)?;
    if !app.engine.store().deregister(&account, &service, name).await? {
        return Err(Refusal::NotFound { what: "listener" }.into());
    }
    app.engine.listener_changed();
    info!(account.name = %account, service, listener = %name, "Deregistered a further listener");
    listed(&app, &account).await
}

async fn must_have_room(app: &App, account: &AccountName, new: &Kept) -> Result<(), Refused> {
    let others = app.engine.store().listeners(account).await?;
    let others = others.iter().filter(|kept| kept.service == new.service && !kept.name.is_own());
    if others.filter(|kept| kept.name != new.name).count() >= FURTHER_LISTENERS_MAX {
        let detail =
            format!("a service has at most {FURTHER_LISTENERS_MAX} further listeners: deregister one");
        return Err(invalid(detail).into());
    }
    Ok(())
}

fn named(name: &str) -> Result<ListenerName, Refusal> {
    name.parse().map_err(|error| invalid(format!("name: {error}")))
}

async fn listed(app: &App, account: &AccountName) -> Result<Json<ListenerList>, Refused> {
    let kept = app.engine.store().listeners(account).await?;
    Ok(Json(ListenerList { listeners: kept.into_iter().map(Listener::from).collect() }))
}
