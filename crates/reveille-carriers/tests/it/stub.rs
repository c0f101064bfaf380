//! A service activation server of the test's own, for what no server at hand has: monitors, a hub, entity tags, tokens,
//! every refusal. It keeps what it has when it is stopped, and can be frozen.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) const BASE: &str = "/tmf";

/// It, listening while this lives.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    tls: Option<Arc<ServerConfig>>,
    frozen: watch::Sender<bool>,
    let_go: watch::Sender<bool>,
    running: Mutex<Option<(watch::Sender<()>, JoinHandle<()>)>>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `PATCH /tmf/service/…`.
    pub(crate) call: String,
    pub(crate) authorization: String,
    pub(crate) if_match: String,
    pub(crate) media: String,
    pub(crate) body: String,
}

/// What is answered.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Default)]
pub(crate) struct State {
    /// State and version, by id.
    pub(crate) services: HashMap<String, (String, u64)>,
    pub(crate) monitors: HashMap<String, Value>,
    pub(crate) hubs: Vec<Value>,
    /// Whether services have entity tags.
    pub(crate) tags: bool,
    /// Whether changes are accepted for later, by a monitor each.
    pub(crate) accepts: bool,
    /// Whether the next change is not carried out before it is let go of.
    pub(crate) holds: bool,
    /// Who is let in: any, where nothing is said.
    pub(crate) token: Option<String>,
    /// What is answered next to a call that begins so, in place of what would be.
    pub(crate) next: VecDeque<(&'static str, Said)>,
    pub(crate) seen: Vec<Seen>,
}

impl Stub {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, _) = watch::channel(false);
        let (let_go, _) = watch::channel(false);
        let stub = Self {
            address,
            state: Arc::default(),
            tls: tls.map(Arc::new),
            frozen,
            let_go,
            running: Mutex::default(),
        };
        stub.run(listener);
        stub
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was asked since this was asked last.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.call).collect()
    }

    pub(crate) fn answers_next(&self, call: &'static str, said: Said) {
        self.state().next.push_back((call, said));
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Lies on the next change, until it is let go of.
    pub(crate) fn hold_next_change(&self) {
        self.state().holds = true;
        self.let_go.send_replace(false);
    }

    /// Until there is a change that it lies on.
    pub(crate) async fn holds_one(&self) {
        while self.state().holds {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn let_go(&self) {
        self.let_go.send_replace(true);
    }

    /// Ends every connection and listens no more.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some((stop, ended)) = running {
            drop(stop);
            ended.await.unwrap();
        }
    }

    pub(crate) async fn start_again(&self) {
        self.run(TcpListener::bind(self.address).await.unwrap());
    }

    fn run(&self, listener: TcpListener) {
        let (stop, stopped) = watch::channel(());
        let (state, tls) = (self.state.clone(), self.tls.clone());
        let gates = [self.frozen.subscribe(), self.let_go.subscribe()];
        let serving = tokio::spawn(async move {
            let mut gone = stopped.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = gone.changed() => return,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (state, tls, gates) = (state.clone(), tls.clone(), gates.clone());
                let mut gone = stopped.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, tls, state, gates) => {}
                        _ = gone.changed() => {}
                    }
                });
            }
        });
        *self.running.lock().unwrap() = Some((stop, serving));
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<Mutex<State>>,
    gates: [watch::Receiver<bool>; 2],
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (state, [mut frozen, mut let_go]) = (state.clone(), gates.clone());
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return Ok(respond(&Said::new(400, Value::Null))) };
            // On its own: what was read is carried out, whether or not anybody waits for it any more.
            let carried_out = tokio::spawn(async move {
                frozen.wait_for(|frozen| !frozen).await.unwrap();
                if head.method == Method::PATCH && std::mem::take(&mut state.lock().unwrap().holds) {
                    let_go.wait_for(|let_go| *let_go).await.unwrap();
                }
                let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                let path = head.uri.path_and_query().unwrap().as_str();
                state.lock().unwrap().answer(&format!("{} {path}", head.method), &head.headers, text)
            });
            Ok::<_, Infallible>(respond(&carried_out.await.unwrap()))
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _cut_off = match tls {
        None => http.serve_connection(TokioIo::new(stream), answer).await,
        Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
            Ok(stream) => http.serve_connection(TokioIo::new(stream), answer).await,
            Err(_refused) => Ok(()),
        },
    };
}

fn respond(said: &Said) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(said.status).header("content-type", "application/json");
    for (name, value) in &said.headers {
        response = response.header(*name, value);
    }
    let body = if said.body.is_null() { String::new() } else { said.body.to_string() };
    response.body(Full::from(body)).unwrap()
}

impl State {
    fn answer(&mut self, call: &str, headers: &HeaderMap, body: String) -> Said {
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let seen = Seen {
            call: call.into(),
            authorization: header("authorization"),
            if_match: header("if-match"),
            media: header("content-type"),
            body,
        };
        self.seen.push(seen.clone());
        if let Some(at) = self.next.iter().position(|(of, _)| call.starts_with(of)) {
            return self.next.remove(at).unwrap().1;
        }
        if self.token.as_ref().is_some_and(|token| seen.authorization != format!("Bearer {token}")) {
            return Said::new(401, json!({ "code": "41", "reason": "Missing credentials" }));
        }
        let nobody = || Said::new(404, json!({ "code": "60", "reason": "Resource not found" }));
        let (method, path) = call.split_once(' ').unwrap();
        let Some(path) = path.strip_prefix(BASE) else { return Said::new(404, Value::Null) };
        match (method, path.split_once("/service/"), path.split_once("/monitor/")) {
            ("GET", Some((_, id)), _) => self.services.get(id).map_or_else(nobody, |of| self.shown(id, of)),
            ("PATCH", Some((_, id)), _) => self.change(id, &seen).unwrap_or_else(nobody),
            ("GET", _, Some((_, id))) => {
                self.monitors.get(id).map_or_else(nobody, |is| Said::new(200, is.clone()))
            }
            ("GET", None, None) if path.starts_with("/service?") => Said::new(200, json!([])),
            ("POST", None, None) if path == "/hub" => {
                self.hubs.push(serde_json::from_str(&seen.body).unwrap());
                Said::new(201, json!({ "id": "1" }))
            }
            _ => nobody(),
        }
    }

    fn shown(&self, id: &str, (state, version): &(String, u64)) -> Said {
        let said = Said::new(
            200,
            json!({ "id": id, "href": format!("http://elsewhere/service/{id}"), "state": state }),
        );
        if self.tags { said.with("etag", &format!("\"{version}\"")) } else { said }
    }

    fn change(&mut self, id: &str, seen: &Seen) -> Option<Said> {
        let (tags, accepts) = (self.tags, self.accepts);
        let (state, version) = self.services.get_mut(id)?;
        if tags && !seen.if_match.is_empty() && seen.if_match != format!("\"{version}\"") {
            return Some(Said::new(412, json!({ "code": "412", "reason": "Precondition failed" })));
        }
        let wanted: Value = serde_json::from_str(&seen.body).unwrap();
        if accepts {
            let monitor = json!({ "id": format!("m-{id}"), "state": "InProgress", "sourceHref": format!("/service/{id}") });
            self.monitors.insert(format!("m-{id}"), monitor.clone());
            return Some(Said::new(202, monitor));
        }
        *state = wanted["state"].as_str().unwrap().into();
        *version += 1;
        let of = self.services[id].clone();
        Some(self.shown(id, &of))
    }
}
