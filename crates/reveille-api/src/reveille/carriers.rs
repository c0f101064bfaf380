//! Carriers: how each is; hold and release, for operators.

use super::instant;
use crate::App;
use crate::auth::Caller;
use crate::door::JsonBytes;
use crate::refused::Refused;
use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use reveille_domain::{Network, Refusal};
use reveille_engine::{CarrierView, Health, Unheard};
use schemars::JsonSchema;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// The carriers.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CarrierList {
    carriers: Vec<Carrier>,
}

/// A network's carrier.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Carrier {
    /// `verizon-us` or `global`.
    network: &'static str,
    /// The adapter's kind; absent where the network is unserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// An operator holds it: nothing is begun.
    held: bool,
    /// `ok`; `degraded`: it is tried with one operation at a time, or something beside it does not answer; `down`.
    health: &'static str,
    /// What is wrong where it is not `ok`, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// When a carrier that is left alone is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    tried_again_at: Option<String>,
    /// How many subrequests are claimed and have neither ended nor been put off.
    begun: usize,
}

impl From<CarrierView> for Carrier {
    fn from(view: CarrierView) -> Self {
        let (health, trouble) = match view.health {
            Health::Ok => ("ok", None),
            Health::Degraded(words) => ("degraded", Some(words.into())),
            Health::Down(trouble) => ("down", Some(trouble.to_string())),
        };
        Self {
            network: view.network.name(),
            kind: view.kind,
            held: view.held,
            health,
            trouble,
            tried_again_at: view.tried_again_at.map(instant),
            begun: view.begun,
        }
    }
}

pub(crate) async fn list(State(app): State<Arc<App>>, _caller: Caller) -> Json<CarrierList> {
    Json(CarrierList { carriers: app.engine.carriers().into_iter().map(Carrier::from).collect() })
}

pub(crate) async fn hold(
    state: State<Arc<App>>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<CarrierList>, Refused> {
    set(state, caller, path, true).await
}

pub(crate) async fn release(
    state: State<Arc<App>>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<CarrierList>, Refused> {
    set(state, caller, path, false).await
}

/// What the network behind a carrier sends by itself. It has no credentials of ours: its own are in its body.
pub(crate) async fn hear(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(network): Path<String>,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Refused> {
    let nobody = || Refusal::NotFound { what: "network that sends callbacks" };
    let network = Network::named(&network).ok_or_else(nobody)?;
    match app.engine.hear(network, peer.ip().to_canonical(), &body).await? {
        Ok(()) => Ok("kept\n".into_response()),
        Err(Unheard::NotExpected) => Err(nobody().into()),
        Err(Unheard::Unreadable) => Err(Refusal::Malformed { detail: "it is no callback".into() }.into()),
        Err(Unheard::Stranger) => {
            let words =
                "Its user name, its password or its address is not what the carrier is configured with.\n";
            Ok((StatusCode::UNAUTHORIZED, words).into_response())
        }
    }
}

/// The same, where what it is about stands behind the URL, as in TMF640's `/listener/serviceStateChangeEvent`: its body
/// says so too.
pub(crate) async fn hear_event(
    state: State<Arc<App>>,
    from: ConnectInfo<SocketAddr>,
    Path((network, _event)): Path<(String, String)>,
    body: JsonBytes,
) -> Result<Response, Refused> {
    hear(state, from, Path(network), body).await
}

async fn set(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(network): Path<String>,
    hold: bool,
) -> Result<Json<CarrierList>, Refused> {
    caller.must_operate()?;
    let network = Network::named(&network).ok_or(Refusal::NotFound { what: "network" })?;
    app.engine.hold(network, hold).await?;
    Ok(list(State(app), caller).await)
}
