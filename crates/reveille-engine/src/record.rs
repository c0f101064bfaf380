//! Outcomes in batches to the store; what is durable frees its eUICC and is told.

use crate::order::Item;
use crate::{Chain, Shared};
use reveille_domain::{Timestamp, Told};
use reveille_store::{Callback, Change, Lane, Recorded, Recording};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

/// How many outcomes are recorded in one transaction at most.
const BATCH_MAX: usize = 1_024;

/// How long after a failure the same batch is written again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A subrequest that has ended and is to be recorded.
pub(crate) enum Ended {
    Outcome {
        item: Item,
        recording: Box<Recording>,
        claimed: bool,
    },
    /// Answered when everything sent before it has been recorded.
    Flush(oneshot::Sender<()>),
}

impl Ended {
    pub(crate) fn new(item: Item, told: Told, change: Option<Change>, at: Timestamp, claimed: bool) -> Self {
        let request = Arc::clone(&item.waiting.request);
        let recording = Recording { request, number: item.waiting.number, at, told, change };
        Self::Outcome { item, recording: Box::new(recording), claimed }
    }

    pub(crate) fn flush(flushed: oneshot::Sender<()>) -> Self {
        Self::Flush(flushed)
    }
}

/// Records what ends, until nobody can send any more.
pub(crate) async fn run(shared: Arc<Shared>, mut ended: mpsc::UnboundedReceiver<Ended>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while ended.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut items = Vec::with_capacity(batch.len());
        let mut recordings = Vec::with_capacity(batch.len());
        let mut flushed = Vec::new();
        for one in batch.drain(..) {
            match one {
                Ended::Outcome { item, recording, claimed } => {
                    items.push((item, claimed));
                    recordings.push(*recording);
                }
                Ended::Flush(waiting) => flushed.push(waiting),
            }
        }
        if !recordings.is_empty() {
            let recorded = record(&shared, &recordings).await;
            release(&shared, &items);
            tell(&shared, recordings, &recorded);
        }
        for waiting in flushed {
            let _ = waiting.send(()); // who waited may have gone
        }
    }
}

/// Writes until it is confirmed: the guard of each outcome makes a repetition safe.
async fn record(shared: &Shared, recordings: &[Recording]) -> Vec<Recorded> {
    loop {
        match shared.store.record(recordings.to_vec()).await {
            Ok(recorded) => return recorded,
            Err(error) => {
                error!(error = %Chain(&error), "Cannot record {} outcomes; trying again", recordings.len());
            }
        }
        shared.clock.sleep(AGAIN_AFTER).await;
    }
}

fn release(shared: &Shared, items: &[(Item, bool)]) {
    let mut lanes: HashMap<Lane, usize> = HashMap::new();
    let mut order = shared.order();
    for (item, claimed) in items {
        if *claimed {
            order.finish(item);
        }
        *lanes.entry(item.lane()).or_default() += 1;
    }
    drop(order);
    for (lane, outcomes) in lanes {
        shared.lane(lane).end_recording(outcomes);
    }
    shared.lanes.values().for_each(crate::lane::LaneControl::wake);
}

fn tell(shared: &Shared, recordings: Vec<Recording>, recorded: &[Recorded]) {
    shared.progress.touch(recordings.iter().map(|recording| recording.request.id));
    shared.metrics.ended(&recordings, recorded);
    let outcomes = recordings.len();
    for (recording, recorded) in recordings.into_iter().zip(recorded) {
        match recorded {
            Recorded::Now => shared.outbox.offer(Callback {
                request: recording.request,
                number: recording.number,
                told: recording.told,
                series: 1,
                attempts: 0,
            }),
            // Its callback stands in the store; nobody but the store may know of it.
            Recorded::Before => shared.outbox.expect(&recording.request.account, recording.at),
        }
    }
    shared.outbox.wake();
    info!(outcomes, "Recorded {outcomes} outcomes");
}
