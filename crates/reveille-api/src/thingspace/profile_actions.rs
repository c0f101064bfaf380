//! The profile actions: a body in, a request id out. Source: contract §4 and §5.

use crate::App;
use crate::auth::Caller;
use crate::door::{JsonBytes, idempotency_key};
use crate::refused::Refused;
use axum::Json;
use axum::extract::State;
use hyper::HeaderMap;
use reveille_domain::{Action, Refusal, Targets};
use reveille_engine::{Asked, Named, Secrets};
use reveille_store::IdempotencyKey;
use reveille_wire::answers::AcceptedAnswer;
use reveille_wire::profile_action::ProfileActionBody;
use std::sync::Arc;
use std::time::Duration;

/// How long a key means the same request. Source: contract §12 Q19.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// One profile action as a call.
pub(crate) struct ActionCall {
    pub(crate) action: Action,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
}

const fn call(action: Action, path: &'static str, summary: &'static str) -> ActionCall {
    ActionCall { action, path, summary }
}

/// Every profile action that is called by a path of its own.
pub(crate) const CALLS: [ActionCall; 15] = [
    call(
        Action::ProfileResume,
        "/api/m2m/v1/devices/profile/actions/profile_resume",
        "Resume suspended profiles, 1 to 10,000",
    ),
    call(
        Action::ProfileSuspend,
        "/api/m2m/v1/devices/profile/actions/profile_suspend",
        "Suspend Global profiles, 1 to 10,000",
    ),
    call(
        Action::DeviceSuspend,
        "/api/m2m/v1/devices/profile/actions/device_suspend",
        "Suspend every active profile of devices, 1 to 10,000",
    ),
    call(
        Action::DeviceResume,
        "/api/m2m/v1/devices/profile/actions/device_resume",
        "Resume what was suspended with devices, 1 to 10,000",
    ),
    call(
        Action::Activate,
        "/api/m2m/v1/devices/profile/actions/activate",
        "Activate profiles, for the first time or again, 1 to 10,000",
    ),
    call(
        Action::ActivateEnable,
        "/api/m2m/v1/devices/profile/actions/activate_enable",
        "Activate profiles and enable them on their cards, 1 to 10,000",
    ),
    call(
        Action::Deactivate,
        "/api/m2m/v1/devices/profile/actions/deactivate",
        "Deactivate profiles, 1 to 10,000",
    ),
    call(
        Action::Enable,
        "/api/m2m/v1/devices/profile/actions/enable",
        "Enable profiles on their cards, 1 to 10,000",
    ),
    call(
        Action::Disable,
        "/api/m2m/v1/devices/profile/actions/disable",
        "Disable Global profiles on their cards, 1 to 10,000",
    ),
    call(
        Action::Download,
        "/api/m2m/v1/devices/profile/actions/download",
        "Download Global profiles to their cards, 1 to 10,000",
    ),
    call(
        Action::DownloadEnable,
        "/api/m2m/v1/devices/profile/actions/download_enable",
        "Download Global profiles to their cards and enable them, 1 to 10,000",
    ),
    call(
        Action::DownloadDisable,
        "/api/m2m/v1/devices/profile/actions/download_disable",
        "Download Global profiles to their cards and leave them disabled, 1 to 10,000",
    ),
    call(
        Action::Delete,
        "/api/m2m/v1/devices/profile/actions/delete",
        "Delete deactivated Global profiles from their cards, 1 to 10,000",
    ),
    call(
        Action::SetFallback,
        "/api/m2m/v1/devices/profile/actions/setfallbackattribute",
        "Make profiles what their cards fall back to, 1 to 10,000",
    ),
    call(
        Action::ServicePlan,
        "/api/m2m/v1/devices/profile/actions/serviceplan",
        "Move profiles to another service plan, 1 to 10,000",
    ),
];

/// Takes a call of that action.
pub(crate) async fn accept(
    action: Action,
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<Json<AcceptedAnswer>, Refused> {
    let asked = read(&app, &caller, &headers, &body, action)?;
    let request = app.engine.accept(asked).await?;
    Ok(Json(AcceptedAnswer::new(request)))
}

/// Refuses a call that only consumer eSIMs have.
pub(crate) async fn of_consumers(_: Caller, _: JsonBytes) -> Refused {
    Refusal::Malformed { detail: "this call is for consumer eSIMs, which are not served here".into() }.into()
}

/// The body as a request, or the first refusal that holds of it, from row 11 of §9.5 on.
fn read(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    bytes: &[u8],
    action: Action,
) -> Result<Asked, Refusal> {
    let body = ProfileActionBody::decode(bytes)?;
    let service_plan = body.service_plan(action)?.map(Into::into);
    let terms = body.terms(action)?;
    let account = caller.account(body.account()?)?;
    let targets = match action.targets() {
        Targets::Devices => Named::Devices(body.devices(action)?),
        Targets::Profiles | Targets::Pages => Named::Profiles(body.targets(action)?),
    };
    let key = key(app, headers, action, bytes)?;
    Ok(Asked { account, action, service_plan, terms, user: caller.user.name.clone(), targets, key })
}

/// The call's key, under which a repeat of the same action with the same bytes is the same request.
pub(super) fn key(
    app: &App,
    headers: &HeaderMap,
    action: Action,
    bytes: &[u8],
) -> Result<Option<IdempotencyKey>, Refusal> {
    Ok(idempotency_key(headers)?.map(|key| IdempotencyKey {
        key,
        digest: Secrets::digest_of(&[action.name().as_bytes(), b"\n", bytes]),
        since: app.engine.clock().now().minus(KEY_LIFE),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_ends_with_the_name_of_its_action() {
        for call in CALLS {
            assert_eq!(call.path.rsplit('/').next(), Some(call.action.name()));
        }
    }
}
