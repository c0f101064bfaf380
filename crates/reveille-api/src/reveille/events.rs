//! A request's progress as server-sent events: the counts now, then whenever they have changed.
//!
//! Every event is read from the store, so a stream that is opened late or twice tells the same as the
//! others. `progress` carries the request; `ended` the same once its last subrequest has ended.

use super::requests::{Request, find};
use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use reveille_domain::{Refusal, RequestId};
use reveille_store::RequestView;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The shortest time between two events of a stream.
const EVERY: Duration = Duration::from_millis(100);

/// The longest time without a word: proxies close connections on which nothing comes.
const ALIVE: Duration = Duration::from_secs(15);

pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(request): Path<String>,
) -> Result<Response, Refused> {
    let request = find(&app, &caller, &request).await?.head.id;
    // First the watch, then the counts: whatever moves after the reading is seen.
    let moves = app.engine.watch(request);
    let view = app.engine.store().request(request).await?.ok_or(Refusal::NotFound { what: "request" })?;
    let place = Arc::clone(&app.streams).try_acquire_owned();
    let place =
        place.map_err(|_| Refusal::Overloaded { what: "Too many event streams.", retry_after: ALIVE })?;
    let (sender, events) = mpsc::channel(4);
    tokio::spawn(async move {
        let _place = place;
        send(app, view, moves, sender).await;
    });
    let mut response = Body::new(Events(events)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn send(
    app: Arc<App>,
    first: RequestView,
    mut moves: watch::Receiver<u64>,
    sender: mpsc::Sender<Bytes>,
) {
    let id = first.head.id;
    let mut view = first;
    loop {
        let ended = view.ended_at.is_some();
        let name = if ended { "ended" } else { "progress" };
        let gone = sender.send(event(name, &view)).await.is_err();
        if gone || ended {
            return;
        }
        let Some(next) = next(&app, id, &mut moves, &sender).await else { return };
        view = next;
    }
}

/// The request after it has moved; nothing when nobody listens any more, or the server stops.
async fn next(
    app: &App,
    id: RequestId,
    moves: &mut watch::Receiver<u64>,
    sender: &mpsc::Sender<Bytes>,
) -> Option<RequestView> {
    let mut stopping = app.stopping.subscribe();
    tokio::select! {
        () = app.engine.clock().sleep(EVERY) => {}
        _ = stopping.wait_for(|stopping| *stopping) => return None,
    }
    loop {
        let has_moved = tokio::select! {
            moved = moves.changed() => moved.is_ok(),
            () = app.engine.clock().sleep(ALIVE) => false,
            () = sender.closed() => return None,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        if has_moved {
            break;
        }
        sender.send(Bytes::from_static(b": alive\n\n")).await.ok()?;
    }
    app.engine.store().request(id).await.ok()?
}

fn event(name: &str, view: &RequestView) -> Bytes {
    let data = serde_json::to_string(&Request::from(view)).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The events as a body.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
