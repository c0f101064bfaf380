//! How a request is going, in the contract's two forms. Source: contract §5.1, §5.2 and §12 Q20, Q31.

use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::Json;
use axum::extract::{Path, State};
use reveille_domain::{Refusal, Subject};
use reveille_store::{RequestView, SubrequestFilter, SubrequestState, SubrequestView};
use reveille_wire::answers::{
    SimpleStatusAnswer, StatusAnswer, StatusIdentifier, SubrequestStatus, status_word,
};
use std::sync::Arc;

pub(crate) async fn v2(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((account, request)): Path<(String, String)>,
) -> Result<Json<StatusAnswer>, Refused> {
    let view = find(&app, &caller, &account, &request).await?;
    let limit = usize::try_from(view.subrequests).unwrap_or(usize::MAX);
    let all = SubrequestFilter { request: view.head.id, state: None, fault: None, after: 0, limit };
    let subrequests = app.engine.store().subrequests(all).await?;
    Ok(Json(StatusAnswer {
        request_id: view.head.id.to_string(),
        status: status_word(view.waiting(), view.failed).into(),
        sub_requests: subrequests.into_iter().map(subrequest).collect(),
    }))
}

fn subrequest(view: SubrequestView) -> SubrequestStatus {
    let status = match view.state {
        SubrequestState::Waiting => "Pending",
        SubrequestState::Succeeded => "Success",
        SubrequestState::Failed => "Failed",
    };
    let identifier = |id: &str, kind: &str| StatusIdentifier { id: id.into(), kind: kind.into() };
    let ids = match &view.subject {
        Subject::Profile(iccid) => vec![identifier(iccid.as_str(), "iccid")],
        Subject::Device(eid) => vec![identifier(eid.as_str(), "eid")],
        Subject::Page => Vec::new(),
    };
    SubrequestStatus { ids, status: status.into() }
}

pub(crate) async fn v1(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((account, request)): Path<(String, String)>,
) -> Result<Json<SimpleStatusAnswer>, Refused> {
    let view = find(&app, &caller, &account, &request).await?;
    if view.subrequests > 1 {
        let detail = "this call tells of requests with one profile; ask \
                      /api/m2m/v2/accounts/{accountName}/requests/{requestId}/status about this one";
        return Err(Refusal::InvalidField { detail: detail.into() }.into());
    }
    let status = status_word(view.waiting(), view.failed).into();
    Ok(Json(SimpleStatusAnswer { request_id: view.head.id.to_string(), status }))
}

async fn find(app: &App, caller: &Caller, account: &str, request: &str) -> Result<RequestView, Refused> {
    let account = caller.account_named(account)?;
    let unknown = Refusal::NotFound { what: "request" };
    let Ok(id) = request.parse() else { return Err(unknown.into()) };
    let view = app.engine.store().request(id).await?;
    view.filter(|view| view.head.account == account).ok_or(unknown.into())
}
