//! Questions about devices that are answered by callback. Source: contract §5.3 and §5.4.

use super::profile_actions::key;
use crate::App;
use crate::auth::Caller;
use crate::door::JsonBytes;
use crate::refused::Refused;
use axum::Json;
use axum::extract::State;
use hyper::HeaderMap;
use reveille_domain::{AccountName, Action, RequestId, Terms};
use reveille_engine::{Asked, Named};
use reveille_store::{IdempotencyKey, Identifier, Page, ProfileFilter};
use reveille_wire::answers::AcceptedAnswer;
use reveille_wire::device_queries::{DeviceHistoryBody, DeviceListBody, QueriedIdentifier};
use std::sync::Arc;

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<AcceptedAnswer>, Refused> {
    let body = DeviceListBody::decode(&bytes)?;
    let account = caller.account(body.account()?)?;
    let asked = body.filter()?;
    let key = key(&app, &headers, Action::DeviceList, &bytes)?;
    let nothing = asked.states.as_ref().is_some_and(Vec::is_empty);
    let filter = ProfileFilter {
        network: asked.network,
        states: asked.states.unwrap_or_default(),
        statuses: asked.statuses,
        ..of_account(account.clone(), asked.identifiers)
    };
    let pages = app.engine.list_pages((!nothing).then_some(filter)).await?;
    let request = accept(&app, &caller, account, Action::DeviceList, pages, key).await?;
    Ok(Json(AcceptedAnswer::new(request)))
}

pub(crate) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<AcceptedAnswer>, Refused> {
    let body = DeviceHistoryBody::decode(&bytes)?;
    let account = caller.account(body.account()?)?;
    let asked = body.filter()?;
    let key = key(&app, &headers, Action::DeviceHistory, &bytes)?;
    let filter = of_account(account.clone(), asked.identifiers);
    let pages = app.engine.history_pages(filter, asked.earliest, asked.latest).await?;
    let request = accept(&app, &caller, account, Action::DeviceHistory, pages, key).await?;
    Ok(Json(AcceptedAnswer::new(request)))
}

fn of_account(account: AccountName, identifiers: Vec<QueriedIdentifier>) -> ProfileFilter {
    let known = |identifier| match identifier {
        QueriedIdentifier::Iccid(iccid) => Identifier::Iccid(iccid),
        QueriedIdentifier::Eid(eid) => Identifier::Eid(eid),
        QueriedIdentifier::Imei(imei) => Identifier::Imei(imei),
        QueriedIdentifier::Msisdn(msisdn) => Identifier::Msisdn(msisdn),
    };
    let identifiers = identifiers.into_iter().map(known).collect();
    ProfileFilter { account: Some(account), identifiers, ..ProfileFilter::default() }
}

async fn accept(
    app: &App,
    caller: &Caller,
    account: AccountName,
    action: Action,
    pages: Vec<Page>,
    key: Option<IdempotencyKey>,
) -> Result<RequestId, Refused> {
    let asked = Asked {
        account,
        action,
        service_plan: None,
        terms: Terms::default(),
        user: caller.user.name.clone(),
        targets: Named::Pages(pages),
        key,
    };
    Ok(app.engine.accept(asked).await?)
}
