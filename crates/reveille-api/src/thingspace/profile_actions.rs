//! The profile actions: a body in, a request id out. Source: contract §4 and §5.

use crate::App;
use crate::auth::Caller;
use crate::door::{JsonBytes, idempotency_key};
use crate::refused::Refused;
use axum::Json;
use axum::extract::State;
use hyper::HeaderMap;
use reveille_domain::{Action, Refusal};
use reveille_engine::{Asked, Secrets};
use reveille_store::IdempotencyKey;
use reveille_wire::answers::AcceptedAnswer;
use reveille_wire::profile_action::ProfileActionBody;
use std::sync::Arc;
use std::time::Duration;

/// How long a key means the same request. Source: contract §12 Q19.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3_600);

pub(crate) async fn profile_resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<Json<AcceptedAnswer>, Refused> {
    let asked = read(&app, &caller, &headers, &body, Action::ProfileResume)?;
    let request = app.engine.accept(asked).await?;
    Ok(Json(AcceptedAnswer::new(request)))
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
    let account = caller.account(body.account()?)?;
    let targets = body.targets()?;
    let service_plan = body.service_plan()?.map(Into::into);
    let key = idempotency_key(headers)?.map(|key| IdempotencyKey {
        key,
        digest: Secrets::digest_of(&[action.name().as_bytes(), b"\n", bytes]),
        since: app.engine.clock().now().minus(KEY_LIFE),
    });
    Ok(Asked { account, action, service_plan, user: caller.user.name.clone(), targets, key })
}
