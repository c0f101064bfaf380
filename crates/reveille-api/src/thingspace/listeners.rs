//! Callback registration. Source: contract §7 and §12 Q17, Q18.

use crate::App;
use crate::auth::Caller;
use crate::door::JsonBody;
use crate::refused::{Dialect, Refused, unavailable};
use axum::Json;
use axum::extract::{Path, State};
use hyper::header::{HeaderName, HeaderValue};
use reveille_callbacks::ListenerUrl;
use reveille_domain::{AccountName, Refusal, Service};
use reveille_store::{Listener, Outlet, StoreError};
use reveille_wire::answers::{CREDENTIAL_CHARS_MAX, ListedListener, ListenerAnswer, ListenerBody, SERVICES};
use std::sync::Arc;
use tracing::info;

/// The ports of the contract's list, asked for where `strict` is set.
const PORTS: [std::ops::RangeInclusive<u16>; 5] =
    [80..=80, 443..=443, 9001..=9006, 50551..=50559, 28200..=28220];

/// Says how many callbacks are archived: registering sends none of them again by itself, a replay does.
const ARCHIVED: HeaderName = HeaderName::from_static("reveille-archived-callbacks");

fn refuse(refusal: Refusal) -> Refused {
    Dialect::Service.refuse(refusal)
}

fn failed(error: StoreError) -> Refused {
    refuse(unavailable(&error))
}

fn invalid(detail: impl Into<String>) -> Refused {
    refuse(Refusal::InvalidField { detail: detail.into() })
}

pub(crate) async fn register(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
    JsonBody(body): JsonBody<ListenerBody>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<ListenerAnswer>), Refused> {
    let account = caller.account_named(&account).map_err(refuse)?;
    let listener = check(&app, body).await?;
    let service = listener.service.to_string();
    app.engine.store().register(&account, listener).await.map_err(failed)?;
    app.engine.listener_changed();
    let archived = archived(&app, &account, &service).await?;
    info!(account.name = %account, service, archived, "Registered a listener for {service}; {archived} callbacks are archived");
    Ok(([(ARCHIVED, HeaderValue::from(archived))], Json(answer(&account, service))))
}

/// How many callbacks are archived that the service's listener would have been told.
async fn archived(app: &App, account: &AccountName, service: &str) -> Result<u64, Refused> {
    let Some(service) = Service::ALL.into_iter().find(|known| known.name() == service) else { return Ok(0) };
    let outlet = Outlet { account: account.clone(), service };
    app.engine.store().archived(&outlet).await.map_err(failed)
}

async fn check(app: &App, body: ListenerBody) -> Result<Listener, Refused> {
    let name = body
        .name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| invalid("name is missing: the callback service"))?;
    if !SERVICES.contains(&name.as_str()) {
        return Err(invalid(format!("name is none of the callback services: {}", SERVICES.join(", "))));
    }
    let url = body
        .url
        .filter(|url| !url.is_empty())
        .ok_or_else(|| invalid("url is missing: where callbacks go"))?;
    let parsed = app
        .engine
        .guard()
        .check_registration(&url)
        .await
        .map_err(|error| invalid(format!("url: {error}")))?;
    check_port(app, &parsed)?;
    let too_long =
        |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > CREDENTIAL_CHARS_MAX);
    if too_long(&body.username) || too_long(&body.password) {
        return Err(invalid(format!(
            "username and password have at most {CREDENTIAL_CHARS_MAX} characters each"
        )));
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Listener {
        service: name.into(),
        url: url.into(),
        username: given(body.username).map(Into::into),
        password: given(body.password).map(|password| app.secrets.seal(&password)),
        registered_at: app.engine.clock().now(),
    })
}

fn check_port(app: &App, url: &ListenerUrl) -> Result<(), Refused> {
    if app.config.strict && !PORTS.iter().any(|range| range.contains(&url.port())) {
        let ports = "80, 443, 9001-9006, 50551-50559, 28200-28220";
        return Err(invalid(format!(
            "url: port {} is none of {ports}, which strict = true asks for",
            url.port()
        )));
    }
    Ok(())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
) -> Result<Json<Vec<ListedListener>>, Refused> {
    let account = caller.account_named(&account).map_err(refuse)?;
    let listeners = app.engine.store().listeners(&account).await.map_err(failed)?;
    let listed = listeners.into_iter().map(|listener| ListedListener {
        account_name: account.as_str().into(),
        service_name: listener.service.into(),
        url: listener.url.into(),
        username: listener.username.unwrap_or_default().into(),
        password: listener.password.and_then(|sealed| app.secrets.open(&sealed)).unwrap_or_default().into(),
    });
    Ok(Json(listed.collect()))
}

pub(crate) async fn deregister(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((account, service)): Path<(String, String)>,
) -> Result<Json<ListenerAnswer>, Refused> {
    let account = caller.account_named(&account).map_err(refuse)?;
    if !app.engine.store().deregister(&account, &service).await.map_err(failed)? {
        return Err(refuse(Refusal::NotFound { what: "listener" }));
    }
    app.engine.listener_changed();
    info!(account.name = %account, "Deregistered a listener");
    Ok(Json(answer(&account, service)))
}

fn answer(account: &AccountName, service_name: String) -> ListenerAnswer {
    ListenerAnswer { account_name: account.as_str().into(), service_name }
}
