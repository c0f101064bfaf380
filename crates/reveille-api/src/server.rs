//! The listening socket: connections up to a limit, slow ones ended, and a graceful end.

use crate::endpoints::router;
use crate::unread::SharedBody;
use crate::{App, paths};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower_service::Service;
use tracing::{debug, warn};

/// A request's own number, for the log and the answer; a caller may bring one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken over from a caller.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// How the socket is served.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// How many connections there may be; more wait to be accepted.
    pub connections_max: usize,
    /// How long the head of a request may take, and a connection may be idle.
    pub head_timeout: Duration,
    /// How long a graceful stop waits for requests under way.
    pub stop_within: Duration,
}

/// A served socket.
pub struct Serving {
    address: SocketAddr,
    app: Arc<App>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and ends when requests under way have been answered.
    pub async fn stop(self) {
        self.app.stopping.send_replace(true);
        let _ = self.task.await;
    }
}

/// Serves the app on a bound socket.
///
/// # Errors
/// Where the socket has no address.
pub fn serve(app: Arc<App>, listener: TcpListener, config: ServerConfig) -> io::Result<Serving> {
    let address = listener.local_addr()?;
    let stopped = app.stopping.subscribe();
    let task = tokio::spawn(accept(Arc::clone(&app), listener, config, stopped));
    Ok(Serving { address, app, task })
}

async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    config: ServerConfig,
    mut stopped: watch::Receiver<bool>,
) {
    let router = router(Arc::clone(&app));
    let places = Arc::new(Semaphore::new(config.connections_max.max(1)));
    let graceful = GracefulShutdown::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stopped.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = graceful.watch(connection(&app, router.clone(), stream, peer, config));
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = connection.await {
                        debug!(%error, "A connection ended early");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: leave others time to close some.
                warn!(%error, "Cannot accept a connection");
                app.engine.clock().sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = app.engine.clock().sleep(config.stop_within) => warn!("Stopped before every request was answered"),
    }
}

fn connection(
    app: &Arc<App>,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    config: ServerConfig,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error, Output = hyper::Result<()>> + use<>
{
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "Cannot set TCP_NODELAY");
    }
    let app = Arc::clone(app);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, mut router) = (Arc::clone(&app), router.clone());
        let request_id = request_id(&app, &request);
        let request = prepared(request, peer, &request_id).map(SharedBody::new);
        let body = request.body().clone();
        async move {
            let mut response = router.call(request).await?;
            if !read_to_its_end(&app, body).await {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.headers_mut().insert(REQUEST_ID, request_id);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.head_timeout)
        .serve_connection(TokioIo::new(stream), service)
}

/// Reads what the handler left of the body, within the limits of a body; whether it came to its end.
async fn read_to_its_end(app: &App, body: SharedBody) -> bool {
    let bytes_max = app.config.body_bytes_max;
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return false;
    }
    tokio::select! {
        ended = body.drain(bytes_max) => ended,
        () = app.engine.clock().sleep(app.config.body_timeout) => false,
    }
}

fn request_id(app: &App, request: &Request<Incoming>) -> HeaderValue {
    let brought = request.headers().get(&REQUEST_ID).filter(|value| value.len() <= REQUEST_ID_CHARS_MAX);
    brought.cloned().unwrap_or_else(|| {
        let made = format!("{:016x}", app.random.bits() >> 64);
        HeaderValue::from_str(&made).expect("hexadecimal digits are a header's value")
    })
}

fn prepared(mut request: Request<Incoming>, peer: SocketAddr, request_id: &HeaderValue) -> Request<Incoming> {
    let path = paths::canonical(request.uri().path());
    let with_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    if let Ok(uri) = Uri::try_from(with_query) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}
