//! Callback registration: the one listener of each service. Source: contract §7.

use crate::App;
use crate::auth::Caller;
use crate::door::JsonBody;
use crate::listening::{ARCHIVED, Stated, archived, checked};
use crate::refused::{Dialect, Refused, unavailable};
use axum::Json;
use axum::extract::{Path, State};
use hyper::header::{HeaderName, HeaderValue};
use reveille_domain::{AccountName, ListenerName, Refusal};
use reveille_store::{Listener, StoreError};
use reveille_wire::answers::{ListedListener, ListenerAnswer, ListenerBody};
use std::sync::Arc;
use tracing::info;

fn refuse(refusal: Refusal) -> Refused {
    Dialect::Service.refuse(refusal)
}

fn failed(error: StoreError) -> Refused {
    refuse(unavailable(&error))
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
    let archived = archived(&app, &account, &service, ListenerName::OWN).await.map_err(failed)?;
    info!(account.name = %account, service, archived, "Registered a listener for {service}; {archived} callbacks are archived");
    Ok(([(ARCHIVED, HeaderValue::from(archived))], Json(answer(&account, service))))
}

async fn check(app: &App, body: ListenerBody) -> Result<Listener, Refused> {
    let ListenerBody { name, url, username, password } = body;
    let missing = || Refusal::InvalidField { detail: "name is missing: the callback service".into() };
    let service = name.filter(|name| !name.is_empty()).ok_or_else(|| refuse(missing()))?;
    let stated = Stated { service, name: ListenerName::OWN, url, username, password };
    checked(app, stated).await.map_err(refuse)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(account): Path<String>,
) -> Result<Json<Vec<ListedListener>>, Refused> {
    let account = caller.account_named(&account).map_err(refuse)?;
    let listeners = app.engine.store().listeners(&account).await.map_err(failed)?;
    let own = listeners.into_iter().filter(|listener| listener.name.is_own());
    let listed = own.map(|listener| ListedListener {
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
    if !app.engine.store().deregister(&account, &service, ListenerName::OWN).await.map_err(failed)? {
        return Err(refuse(Refusal::NotFound { what: "listener" }));
    }
    app.engine.listener_changed();
    info!(account.name = %account, "Deregistered a listener");
    Ok(Json(answer(&account, service)))
}

fn answer(account: &AccountName, service_name: String) -> ListenerAnswer {
    ListenerAnswer { account_name: account.as_str().into(), service_name }
}
