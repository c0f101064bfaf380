//! A callback to its listener until acknowledged or archived.

use crate::listeners::Destination;
use crate::outbox::{Standing, Taken};
use crate::{Chain, Shared};
use bytes::Bytes;
use reveille_callbacks::{AttemptFailed, Connection, ListenerUrl};
use reveille_domain::{Left, Timestamp};
use reveille_store::{AttemptResult, Callback, Mark, Outlet};
use reveille_wire::CallbackBody;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

/// How many marks are written in one transaction at most.
const BATCH_MAX: usize = 1_024;

/// How long marks are gathered while attempts are under way.
const GATHER_FOR: Duration = Duration::from_millis(5);

/// How long after a failure of the store something is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long a connection keeps its place while others wait for one.
const TURN: Duration = Duration::from_secs(1);

/// How long a connection without work is kept alive.
const IDLE: Duration = Duration::from_secs(10);

/// Sees to it that what is due is in memory, and that listeners have the connections they need.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    while !shared.is_stopping() {
        let changed = shared.outbox.changed.notified();
        let now = shared.now(); // one instant for both: what falls due between them would wake nobody
        for (outlet, limit) in shared.outbox.refills(now) {
            tokio::spawn(refill(Arc::clone(&shared), outlet, limit));
        }
        for (outlet, standing) in shared.outbox.wanted() {
            tokio::spawn(connect_and_send(Arc::clone(&shared), outlet, standing));
        }
        let due = shared.outbox.next_due().filter(|due| *due > now);
        tokio::select! {
            () = changed => {}
            () = sleep_until(&shared, due) => {}
            _ = stopping.changed() => {}
        }
    }
}

async fn sleep_until(shared: &Shared, at: Option<Timestamp>) {
    match at {
        Some(at) => shared.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn refill(shared: Arc<Shared>, outlet: Outlet, limit: usize) {
    let now = shared.now();
    let (read, more_at) = match read_due(&shared, &outlet, now, limit).await {
        Ok(read) => read,
        Err(error) => {
            warn!(error = %Chain(&error), "Cannot read due callbacks; trying again");
            (Vec::new(), Some(now.plus(AGAIN_AFTER)))
        }
    };
    shared.outbox.refilled(&outlet, limit, read, now, more_at);
    shared.outbox.wake();
}

type Read = (Vec<Callback>, Option<Timestamp>);

async fn read_due(
    shared: &Shared,
    outlet: &Outlet,
    now: Timestamp,
    limit: usize,
) -> reveille_store::Result<Read> {
    let read = shared.store.due(outlet, now, limit).await?;
    let more_at = if read.len() == limit { Some(now) } else { shared.store.next_due(outlet, now).await? };
    Ok((read, more_at))
}

/// One connection of an outlet's listener: sends what waits until nothing has for a while.
async fn connect_and_send(shared: Arc<Shared>, outlet: Outlet, standing: Standing) {
    if let Ok(permit) = Arc::clone(shared.outbox.share_of(standing)).acquire_owned().await {
        send_while_wanted(&shared, &outlet, standing).await;
        drop(permit);
    }
    shared.outbox.leave(&outlet);
}

async fn send_while_wanted(shared: &Shared, outlet: &Outlet, standing: Standing) {
    let share = shared.outbox.share_of(standing);
    let mut line = Line { connection: None };
    let turn_until = shared.now().plus(TURN);
    while !shared.is_stopping() {
        let offered = shared.outbox.offered.notified();
        match shared.outbox.take(outlet, standing, shared.now()) {
            Taken::Callback(callback) => {
                deliver(shared, &mut line, *callback).await;
                if share.available_permits() == 0 && shared.now() >= turn_until {
                    return; // others wait for the place; the next turn is behind theirs
                }
                continue;
            }
            Taken::Excess => return,
            Taken::Nothing => {}
        }
        if share.available_permits() == 0 || line.connection.is_none() {
            return; // somebody else may be waiting for the place
        }
        tokio::select! {
            () = offered => {}
            () = shared.clock.sleep(IDLE) => if !shared.outbox.has_work(outlet) { return },
        }
        if !shared.outbox.has_work(outlet) && share.available_permits() == 0 {
            return;
        }
    }
}

/// The connection of one sender, and where it leads.
struct Line {
    connection: Option<(ListenerUrl, Connection)>,
}

/// Makes one attempt, or archives at once where there is no listener; its end is marked.
async fn deliver(shared: &Shared, line: &mut Line, mut callback: Callback) {
    let outlet = callback.outlet();
    let destination = match prepare(shared, &outlet, &mut callback).await {
        Ok(destination) => destination,
        Err(error) => {
            warn!(error = %Chain(&error), "Cannot read what an attempt needs; trying again");
            shared.outbox.put_back(callback, shared.now());
            return shared.clock.sleep(AGAIN_AFTER).await;
        }
    };
    let result = match destination {
        None => AttemptResult::NoListener,
        Some(destination) => attempt(shared, line, &callback, &destination).await,
    };
    let failed = matches!(result, AttemptResult::Failed { .. } | AttemptResult::Exhausted { .. });
    let ordinal = callback.attempts + u32::from(result != AttemptResult::NoListener);
    let mark = Mark {
        request: callback.request.id,
        key: callback.key(),
        outlet,
        series: callback.series,
        ordinal,
        at: shared.now(),
        result,
    };
    shared.outbox.attempted(&mark.outlet, failed);
    let _ = shared.marks.send(mark);
}

/// Where the callback goes now; its document is read, where it tells one.
async fn prepare(
    shared: &Shared,
    outlet: &Outlet,
    callback: &mut Callback,
) -> reveille_store::Result<Option<Arc<Destination>>> {
    let destination = shared.outbox.listeners.of(shared, outlet).await?;
    let position = callback.key().position;
    if let (Some(_), Ok(Left::Document(text))) = (&destination, &mut callback.told.result) {
        *text = shared.store.document(position).await?.unwrap_or_default();
    }
    Ok(destination)
}

async fn attempt(shared: &Shared, line: &mut Line, callback: &Callback, to: &Destination) -> AttemptResult {
    let began_at = shared.now();
    let ordinal = callback.attempts + 1;
    let threshold = shared.config.schedule.attempts_max();
    let body = CallbackBody::new(callback.request.id, &callback.told, to.credentials(), ordinal, threshold);
    let posted = tokio::select! {
        biased;
        posted = line.post(shared, to, body.to_bytes().into()) => posted,
        () = shared.clock.sleep(shared.config.attempt_timeout) => {
            line.connection = None;
            Err(format!("no answer within {:?}", shared.config.attempt_timeout))
        }
    };
    let ended_at = shared.now();
    shared.metrics.attempted(posted.as_ref().ok().copied(), ended_at.since(began_at));
    let (status, error) = match posted {
        Ok(status) if (200..300).contains(&status) => return AttemptResult::Delivered { status },
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error.into_boxed_str())),
    };
    debug!(request.id = %callback.request.id, ordinal, ?status, ?error, "An attempt was not acknowledged");
    match shared.config.schedule.delay_after(ordinal) {
        Some(delay) => AttemptResult::Failed { status, error, next_at: ended_at.plus(delay) },
        None => AttemptResult::Exhausted { status, error },
    }
}

impl Line {
    /// POSTs over the connection there is, or a new one; a stale one is replaced within the attempt.
    async fn post(&mut self, shared: &Shared, to: &Destination, body: Bytes) -> Result<u16, String> {
        let url = to.url.as_ref().map_err(ToString::to_string)?;
        let kept =
            self.connection.take().filter(|(leads_to, connection)| leads_to == url && connection.is_open());
        if let Some((_, mut connection)) = kept {
            match connection.post(body.clone()).await {
                Err(failed) if failed.is_stale() => {}
                answer => return self.keep(url, connection, answer),
            }
        }
        let opened = Connection::open(url, &shared.config.guard, &shared.config.tls).await;
        let mut connection = opened.map_err(|failed| failed.to_string())?;
        let answer = connection.post(body).await;
        self.keep(url, connection, answer)
    }

    fn keep(
        &mut self,
        url: &ListenerUrl,
        connection: Connection,
        answer: Result<u16, AttemptFailed>,
    ) -> Result<u16, String> {
        if connection.is_open() {
            self.connection = Some((url.clone(), connection));
        }
        answer.map_err(|failed| failed.to_string())
    }
}

/// Writes the ends of attempts, until nobody can send any more.
pub(crate) async fn mark(shared: Arc<Shared>, mut marks: mpsc::UnboundedReceiver<Mark>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while marks.recv_many(&mut batch, BATCH_MAX).await > 0 {
        gather(&shared, &mut batch, &mut marks).await;
        while let Err(error) = shared.store.mark(batch.clone()).await {
            error!(error = %Chain(&error), "Cannot mark {} callbacks; trying again", batch.len());
            shared.clock.sleep(AGAIN_AFTER).await;
        }
        debug!(marks = batch.len(), "Marked callbacks");
        shared.outbox.marked(batch.iter().map(|mark| (&mark.outlet, mark.key, next_at(mark))));
        shared.progress.touch(batch.iter().map(|mark| mark.request));
        batch.clear();
    }
}

/// Waits a moment for more marks while attempts are under way: a mark that is lost with the power costs one
/// repeated callback, a commit for each few costs the disk.
async fn gather(shared: &Shared, batch: &mut Vec<Mark>, marks: &mut mpsc::UnboundedReceiver<Mark>) {
    if batch.len() < BATCH_MAX && shared.outbox.attempts_under_way() > 0 {
        pause(GATHER_FOR).await;
        while batch.len() < BATCH_MAX
            && let Ok(mark) = marks.try_recv()
        {
            batch.push(mark);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the disk is spared in real time, whatever the clock says")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn next_at(mark: &Mark) -> Option<Timestamp> {
    match mark.result {
        AttemptResult::Failed { next_at, .. } => Some(next_at),
        _ => None,
    }
}
