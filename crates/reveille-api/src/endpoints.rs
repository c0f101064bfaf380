//! Which calls there are: one list, from which the router and the OpenAPI document are both made.

use crate::openapi::{Answer, Schema, document};
use crate::refused::{Dialect, Refused};
use crate::reveille::{
    callbacks, carriers, drift, events, listeners as further, profiles, requests, timeline,
};
use crate::thingspace::profile_actions::ActionCall;
use crate::thingspace::{device_queries, listeners, profile_actions, session, status, token};
use crate::{App, health};
use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use hyper::Method;
use reveille_domain::Refusal;
use reveille_wire::answers::{
    AcceptedAnswer, ListedListener, ListenerAnswer, ListenerBody, LoginBody, ResetAnswer, ResetBody,
    SessionAnswer, SimpleStatusAnswer, StatusAnswer, TokenAnswer,
};
use reveille_wire::device_queries::{DeviceHistoryBody, DeviceListBody};
use reveille_wire::profile_action::ProfileActionBody;
use schemars::JsonSchema;
use std::sync::Arc;
use tracing::info;

/// Why the document could not be made.
pub type OpenapiProblem = serde_json::Error;

/// The OpenAPI document, as `/openapi.json` has it.
///
/// # Errors
/// Where a schema is no JSON, which a test rules out.
pub fn openapi() -> Result<String, OpenapiProblem> {
    serde_json::to_string_pretty(&document(&endpoints()))
}

/// One call.
pub(crate) struct Endpoint {
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) needs: Needs,
    pub(crate) takes: Option<Schema>,
    pub(crate) answers: Answer,
    pub(crate) query: &'static [(&'static str, &'static str)],
    /// Whether outcomes of what it accepts are told by callback.
    pub(crate) tells: bool,
    handler: MethodRouter<Arc<App>>,
}

/// What a caller must show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Basic,
    Bearer,
    Session,
}

fn endpoint<H, T>(
    name: &'static str,
    method: Method,
    path: &'static str,
    summary: &'static str,
    handler: H,
) -> Endpoint
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let filter =
        MethodFilter::try_from(method.clone()).expect("the methods in the list are those that axum has");
    Endpoint {
        name,
        method,
        path,
        summary,
        needs: Needs::Session,
        takes: None,
        answers: Answer::text(),
        query: &[],
        tells: false,
        handler: on(filter, handler),
    }
}

impl Endpoint {
    fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    fn takes<T: JsonSchema>(self) -> Self {
        Self { takes: Some(Schema::json::<T>()), ..self }
    }

    fn takes_form(self) -> Self {
        Self { takes: Some(Schema::Form), ..self }
    }

    fn answers<T: JsonSchema>(self) -> Self {
        Self { answers: Answer::json::<T>(), ..self }
    }

    fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }

    fn tells(self) -> Self {
        Self { tells: true, ..self }
    }
}

const PAGED: (&str, &str) = ("limit", "How many at most, 1 to 1000; 100 where nothing is said");
const AFTER: (&str, &str) = ("after", "The `next` of the page before");
const ACCOUNT: (&str, &str) = ("account", "One of the user's accounts (required)");

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let mut all = vec![
        endpoint("token", post.clone(), "/api/ts/v1/oauth2/token", "Get a bearer token", token::token)
            .needs(Needs::Basic)
            .takes_form()
            .answers::<TokenAnswer>(),
        endpoint(
            "revoke",
            post.clone(),
            "/api/ts/v1/oauth2/revoke",
            "Revoke the bearer token",
            token::revoke,
        )
        .needs(Needs::Basic)
        .takes_form(),
        endpoint("login", post.clone(), "/api/m2m/v1/session/login", "Open a session", session::login)
            .needs(Needs::Bearer)
            .takes::<LoginBody>()
            .answers::<SessionAnswer>(),
        endpoint("logout", post.clone(), "/api/m2m/v1/session/logout", "End the session", session::logout)
            .answers::<SessionAnswer>(),
        endpoint(
            "password_reset",
            put,
            "/api/m2m/v1/session/password/actions/reset",
            "Get a new password",
            session::reset,
        )
        .takes::<ResetBody>()
        .answers::<ResetAnswer>(),
        endpoint(
            "listener_register",
            post.clone(),
            "/api/m2m/v1/callbacks/{account}",
            "Register a callback listener",
            listeners::register,
        )
        .takes::<ListenerBody>()
        .answers::<ListenerAnswer>(),
        endpoint(
            "listener_list",
            get.clone(),
            "/api/m2m/v1/callbacks/{account}",
            "List callback listeners",
            listeners::list,
        )
        .answers::<Vec<ListedListener>>(),
        endpoint(
            "listener_deregister",
            delete,
            "/api/m2m/v1/callbacks/{account}/name/{service}",
            "Deregister a callback listener",
            listeners::deregister,
        )
        .answers::<ListenerAnswer>(),
        endpoint(
            "device_list",
            post.clone(),
            "/api/m2m/v2/devices/actions/list",
            "List devices; the list comes by callback, in numbered pages",
            device_queries::list,
        )
        .takes::<DeviceListBody<'static>>()
        .answers::<AcceptedAnswer>()
        .tells(),
        endpoint(
            "device_history",
            post.clone(),
            "/api/m2m/v2/devices/history/actions/list",
            "Ask what became of devices; it comes by callback, in numbered pages",
            device_queries::history,
        )
        .takes::<DeviceHistoryBody<'static>>()
        .answers::<AcceptedAnswer>()
        .tells(),
        endpoint(
            "status_v2",
            get.clone(),
            "/api/m2m/v2/accounts/{account}/requests/{request}/status",
            "How a request is going, profile by profile",
            status::v2,
        )
        .answers::<StatusAnswer>(),
        endpoint(
            "status_v1",
            get.clone(),
            "/api/m2m/v1/accounts/{account}/requests/{request}/status",
            "How a request with one profile is going",
            status::v1,
        )
        .answers::<SimpleStatusAnswer>(),
    ];
    all.extend(profile_actions::CALLS.iter().map(|call| action(&post, call)));
    all.push(
        endpoint(
            "renew_activation_code",
            post.clone(),
            "/api/m2m/v1/devices/profile/actions/renew_activation_code",
            "Always refused: a call for consumer eSIMs, which are not served",
            profile_actions::of_consumers,
        )
        .takes::<ProfileActionBody<'static>>(),
    );
    all.extend(own_endpoints(&get, &post));
    all
}

fn action(post: &Method, call: &'static ActionCall) -> Endpoint {
    let of = call.action;
    let accept = move |app, caller, headers, body| profile_actions::accept(of, app, caller, headers, body);
    endpoint(of.name(), post.clone(), call.path, call.summary, accept)
        .takes::<ProfileActionBody<'static>>()
        .answers::<AcceptedAnswer>()
        .tells()
}

fn own_endpoints(get: &Method, post: &Method) -> Vec<Endpoint> {
    let (get, post) = (|| get.clone(), || post.clone());
    vec![
        endpoint(
            "requests",
            get(),
            "/api/reveille/v1/requests",
            "List requests, newest first",
            requests::list,
        )
        .query(&[ACCOUNT, ("state", "`running` or `ended`"), AFTER, PAGED])
        .answers::<requests::RequestPage>(),
        endpoint(
            "request",
            get(),
            "/api/reveille/v1/requests/{request}",
            "Show a request with its counts",
            requests::show,
        )
        .answers::<requests::Request>(),
        endpoint(
            "subrequests",
            get(),
            "/api/reveille/v1/requests/{request}/subrequests",
            "List a request's subrequests",
            requests::subrequests,
        )
        .query(&[("state", "`waiting`, `succeeded` or `failed`"), ("fault", "A fault code"), AFTER, PAGED])
        .answers::<requests::SubrequestPage>(),
        endpoint(
            "request_events",
            get(),
            "/api/reveille/v1/requests/{request}/events",
            "Follow a request: server-sent events `progress` and `ended`, each with the request",
            events::follow,
        ),
        endpoint(
            "request_cancel",
            post(),
            "/api/reveille/v1/requests/{request}/cancel",
            "Cancel a request: what was not begun ends as failed, REQUEST_CANCELLED",
            requests::cancel,
        )
        .answers::<requests::Request>(),
        endpoint("profiles", get(), "/api/reveille/v1/profiles", "List profiles, by ICCID", profiles::list)
            .query(&[
                ACCOUNT,
                ("state", "`PRE_ACTIVE`, `ACTIVE`, `SUSPEND` or `DEACTIVE`"),
                ("profileStatus", "A status on the card, `ENABLE` for one"),
                ("network", "`verizon-us` or `global`"),
                ("role", "`LEAD`, `LOCAL` or `DEFAULT`"),
                ("servicePlan", "The name of a service plan"),
                ("inDoubt", "`true` or `false`"),
                ("eid", "On this eUICC"),
                ("imei", "In this device"),
                ("msisdn", "With this number"),
                AFTER,
                PAGED,
            ])
            .answers::<profiles::ProfilePage>(),
        endpoint(
            "profile",
            get(),
            "/api/reveille/v1/profiles/{iccid}",
            "Show a profile with its device, and why it is not in service, if it is not",
            profiles::show,
        )
        .answers::<profiles::ProfileWithDevice>(),
        endpoint(
            "profile_network",
            get(),
            "/api/reveille/v1/profiles/{iccid}/network",
            "Ask a profile's network how it truly is, and compare that with the record",
            profiles::on_network,
        )
        .answers::<profiles::OnNetwork>(),
        endpoint(
            "profile_timeline",
            get(),
            "/api/reveille/v1/profiles/{iccid}/timeline",
            "Show everything that was asked of a profile and all that came of it, oldest first",
            timeline::show,
        )
        .query(&[AFTER, PAGED])
        .answers::<timeline::Timeline>(),
        endpoint(
            "profile_history",
            get(),
            "/api/reveille/v1/profiles/{iccid}/history",
            "Show what changed a profile's record, oldest first",
            profiles::history,
        )
        .answers::<profiles::History>(),
        endpoint("callbacks", get(), "/api/reveille/v1/callbacks", "List callbacks", callbacks::list)
            .query(&[
                ACCOUNT,
                ("listener", "For this further listener; left out, for the services' own"),
                ("requestId", "Of this request"),
                ("state", "`waiting`, `delivered` or `archived`"),
                AFTER,
                PAGED,
            ])
            .answers::<callbacks::CallbackPage>(),
        endpoint(
            "callbacks_replay",
            post(),
            "/api/reveille/v1/callbacks/replay",
            "Send callbacks again, each as a new series",
            callbacks::replay,
        )
        .takes::<callbacks::ReplayBody>()
        .answers::<callbacks::ReplayAnswer>(),
        endpoint(
            "callback",
            get(),
            "/api/reveille/v1/callbacks/{callback}",
            "Show a callback with every attempt",
            callbacks::show,
        )
        .answers::<callbacks::CallbackWithAttempts>(),
        endpoint(
            "callback_replay",
            post(),
            "/api/reveille/v1/callbacks/{callback}/replay",
            "Send a callback again, as a new series",
            callbacks::replay_one,
        )
        .answers::<callbacks::ReplayAnswer>(),
        endpoint(
            "listeners",
            get(),
            "/api/reveille/v1/listeners",
            "List listeners, the services' own and further ones",
            further::list,
        )
        .query(&[ACCOUNT])
        .answers::<further::ListenerList>(),
        endpoint(
            "further_listener_register",
            Method::PUT,
            "/api/reveille/v1/listeners/{service}/{name}",
            "Register a further listener, who is told what the service's own is told from now on",
            further::register,
        )
        .query(&[ACCOUNT])
        .takes::<further::FurtherListenerBody>()
        .answers::<further::ListenerList>(),
        endpoint(
            "further_listener_deregister",
            Method::DELETE,
            "/api/reveille/v1/listeners/{service}/{name}",
            "Deregister a further listener; what waits for it is archived",
            further::deregister,
        )
        .query(&[ACCOUNT])
        .answers::<further::ListenerList>(),
        endpoint(
            "drift",
            get(),
            "/api/reveille/v1/drift",
            "List profiles whose network says otherwise than their record",
            drift::list,
        )
        .query(&[ACCOUNT, AFTER, PAGED])
        .answers::<drift::DriftPage>(),
        endpoint("carriers", get(), "/api/reveille/v1/carriers", "List carriers", carriers::list)
            .answers::<carriers::CarrierList>(),
        endpoint(
            "carrier_hold",
            post(),
            "/api/reveille/v1/carriers/{network}/hold",
            "Hold a carrier: nothing more is begun (operators)",
            carriers::hold,
        )
        .answers::<carriers::CarrierList>(),
        endpoint(
            "carrier_release",
            post(),
            "/api/reveille/v1/carriers/{network}/release",
            "Release a held carrier (operators)",
            carriers::release,
        )
        .answers::<carriers::CarrierList>(),
        endpoint(
            "carrier_callback",
            post(),
            "/api/reveille/v1/carriers/{network}/callbacks",
            "Where the network behind a carrier sends its callbacks, with the credentials of its listener",
            carriers::hear,
        )
        .needs(Needs::Nothing),
        endpoint(
            "carrier_event",
            post(),
            "/api/reveille/v1/carriers/{network}/callbacks/listener/{event}",
            "The same, for networks that put the kind of event behind the URL",
            carriers::hear_event,
        )
        .needs(Needs::Nothing),
        endpoint("healthz", get(), "/healthz", "Is the process alive", health::alive).needs(Needs::Nothing),
        endpoint("readyz", get(), "/readyz", "Can it serve: 200 or 503", health::ready).needs(Needs::Nothing),
        endpoint(
            "metrics",
            get(),
            "/metrics",
            "Metrics for Prometheus; loopback, or with metrics_token",
            health::metrics,
        )
        .needs(Needs::Nothing),
        endpoint("openapi", get(), "/openapi.json", "This document", openapi_json).needs(Needs::Nothing),
    ]
}

async fn openapi_json() -> Response {
    match openapi() {
        Ok(text) => ([("content-type", "application/json")], text).into_response(),
        Err(_) => hyper::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The router of every call; whatever else comes is refused in the contract's words.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let seen = from_fn_with_state((Arc::clone(&app), endpoint.name), observe);
        router = router.route(endpoint.path, endpoint.handler.layer(seen));
    }
    router.method_not_allowed_fallback(wrong_method).fallback(unknown_path).with_state(app)
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Refused {
    app.engine.metrics().answered("none", 405);
    Dialect::of(request.uri().path()).refuse(Refusal::WrongMethod)
}

async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> Refused {
    app.engine.metrics().answered("none", 404);
    Dialect::of(request.uri().path()).refuse(Refusal::UnknownPath)
}

/// One line and one count per call.
async fn observe(
    State((app, call)): State<(Arc<App>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let began_at = app.engine.clock().now();
    let request_id = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let request_id = request_id.unwrap_or_default().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let millis = app.engine.clock().now().since(began_at).as_millis();
    info!(
        http.call = call,
        http.status = status,
        http.request_id = request_id,
        millis,
        "Answered {call} with {status}"
    );
    app.engine.metrics().answered(call, status);
    response
}
