//! Outcomes in batches to the store; what is durable frees its eUICC and is told.

use crate::order::Item;
use crate::perform::notice_key;
use crate::{Busy, Chain, Shared};
use reveille_carriers::name_in;
use reveille_domain::{Left, ListenerName, Timestamp, Told};
use reveille_store::{
    Callback, Change, Handed, Lane, Outlet, Recorded, Recording, RequestHead, SettlingCall, UnsettledCall,
    Warning, Written,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// How many outcomes are recorded in one transaction at most.
const BATCH_MAX: usize = 1_024;

/// How long others are kept from what a carrier has accepted for later, at most: as long its work would stand still if
/// this process died.
const KEPT_FROM_OTHERS_MAX: Duration = Duration::from_secs(300);

/// How long after a failure the same batch is written again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How a subrequest has ended.
pub(crate) struct Ended {
    pub(crate) told: Told,
    pub(crate) changes: Vec<Change>,
    pub(crate) call: Option<SettlingCall>,
    pub(crate) at: Timestamp,
    /// Whether it holds its eUICC until this is durable.
    pub(crate) claimed: bool,
}

/// Something that is to be recorded.
pub(crate) enum ToRecord {
    Outcome {
        item: Box<Item>,
        recording: Box<Recording>,
        claimed: bool,
    },
    Warning(Box<Warning>, Busy),
    Call(UnsettledCall, Busy),
    Handle(Box<ToAskAbout>),
    /// Answered when everything sent before it has been recorded.
    Flush(oneshot::Sender<()>),
}

/// What its carrier has accepted: asked about from then on, once it is kept under which name.
pub(crate) struct ToAskAbout {
    item: Item,
    handed: Handed,
    at: Timestamp,
}

impl Shared {
    /// Sends under which name a carrier has accepted a subrequest. It holds its eUICC meanwhile.
    pub(crate) fn send_handle(&self, item: Item, handle: Box<str>, at: Timestamp) {
        self.lane(item.lane()).begin_recording();
        let lease = self.store.lease().unwrap_or_default();
        let keep_for = at.since(self.now()).min(KEPT_FROM_OTHERS_MAX) + lease;
        let handed = Handed { position: item.position(), handle, guard: self.guard(&item), keep_for };
        let _ = self.to_record.send(ToRecord::Handle(Box::new(ToAskAbout { item, handed, at })));
    }

    /// Sends an outcome to be recorded.
    pub(crate) fn send(&self, item: Item, ended: Ended) {
        let Ended { told, changes, call, at, claimed } = ended;
        let (request, number) = (Arc::clone(&item.waiting.request), item.waiting.number);
        let guard = self.guard(&item);
        let recording = Box::new(Recording { request, number, at, told, changes, call, guard });
        let _ = self.to_record.send(ToRecord::Outcome { item: Box::new(item), recording, claimed });
    }

    pub(crate) fn send_warning(&self, warning: Warning) {
        let _ = self.to_record.send(ToRecord::Warning(Box::new(warning), self.busy()));
    }

    pub(crate) fn send_call(&self, call: UnsettledCall) {
        let _ = self.to_record.send(ToRecord::Call(call, self.busy()));
    }

    /// Ends when everything that was sent to be recorded before has been.
    pub(crate) async fn flushed(&self) {
        let (flushed, wait) = oneshot::channel();
        if self.to_record.send(ToRecord::Flush(flushed)).is_ok() {
            let _ = wait.await;
        }
    }
}

/// Records what ends, until nobody can send any more.
pub(crate) async fn run(shared: Arc<Shared>, mut to_record: mpsc::UnboundedReceiver<ToRecord>) {
    let mut gathered = Vec::with_capacity(BATCH_MAX);
    while to_record.recv_many(&mut gathered, BATCH_MAX).await > 0 {
        let batch = Batch::of(gathered.drain(..));
        shared.outbox.begin_recording();
        if !batch.calls.is_empty() {
            note(&shared, batch.calls).await;
        }
        if !batch.to_ask_about.is_empty() {
            keep(&shared, batch.to_ask_about).await;
        }
        if !batch.warnings.is_empty() {
            write_warnings(&shared, batch.warnings).await;
        }
        if !batch.recordings.is_empty() {
            let (recorded, since) = record(&shared, &batch.recordings).await;
            release(&shared, &batch.items);
            tell(&shared, batch.recordings, &recorded, since);
        }
        shared.outbox.end_recording();
        drop(batch.busy);
        for waiting in batch.flushed {
            let _ = waiting.send(()); // who waited may have gone
        }
    }
}

/// What was gathered, by what is to be done with it.
#[derive(Default)]
struct Batch {
    items: Vec<(Item, bool)>,
    recordings: Vec<Recording>,
    warnings: Vec<Warning>,
    calls: Vec<UnsettledCall>,
    to_ask_about: Vec<ToAskAbout>,
    busy: Vec<Busy>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn of(gathered: impl Iterator<Item = ToRecord>) -> Self {
        let mut batch = Self::default();
        for one in gathered {
            match one {
                ToRecord::Outcome { item, recording, claimed } => {
                    batch.items.push((*item, claimed));
                    batch.recordings.push(*recording);
                }
                ToRecord::Warning(warning, busy) => {
                    batch.warnings.push(*warning);
                    batch.busy.push(busy);
                }
                ToRecord::Call(call, busy) => {
                    batch.calls.push(call);
                    batch.busy.push(busy);
                }
                ToRecord::Handle(one) => batch.to_ask_about.push(*one),
                ToRecord::Flush(waiting) => batch.flushed.push(waiting),
            }
        }
        batch
    }
}

/// Keeps calls for the timeline; one that cannot be kept is missing there, and nothing waits for it.
async fn note(shared: &Shared, calls: Vec<UnsettledCall>) {
    if let Err(error) = shared.store.note_calls(calls).await {
        error!(error = %Chain(&error), "Cannot keep calls to carriers; they are missing in timelines");
    }
}

/// Keeps handles until that is confirmed; what they are of is asked about at its time.
async fn keep(shared: &Shared, to_ask_about: Vec<ToAskAbout>) {
    let handles: Vec<Handed> = to_ask_about.iter().map(|one| one.handed.clone()).collect();
    while let Err(error) = shared.store.keep_handles(handles.clone()).await {
        error!(error = %Chain(&error), "Cannot keep {} handles; trying again", handles.len());
        shared.clock.sleep(AGAIN_AFTER).await;
    }
    let mut keys = Vec::with_capacity(to_ask_about.len());
    for ToAskAbout { item, handed, at } in to_ask_about {
        let lane = item.lane();
        keys.extend(notice_key(&item, &handed.handle));
        shared.order().park(item, at, name_in(&handed.handle));
        shared.lane(lane).end_recording(1);
    }
    // What was heard before nobody waited for; what is heard from here on finds who does.
    match shared.store.notices(keys.clone()).await {
        Ok(heard) => {
            let heard = keys.into_iter().zip(heard).filter_map(|(key, text)| text.map(|_| key));
            shared.unpark(&heard.collect::<Vec<_>>());
        }
        Err(error) => warn!(error = %Chain(&error), "Cannot see what was heard; carriers are asked in time"),
    }
}

/// Writes warnings until that is confirmed, and has them told.
async fn write_warnings(shared: &Shared, warnings: Vec<Warning>) {
    let (Written { each, further }, since) = loop {
        let since = shared.now();
        match shared.store.warn(warnings.clone()).await {
            Ok(written) => break (written, since),
            Err(error) => {
                error!(error = %Chain(&error), "Cannot write {} warnings; trying again", warnings.len());
            }
        }
        shared.clock.sleep(AGAIN_AFTER).await;
    };
    for (warning, _) in warnings.into_iter().zip(each).filter(|(_, written)| *written) {
        let Warning { request, number, told, .. } = warning;
        offer(shared, request, number, told, &further, since);
    }
    shared.outbox.wake();
}

/// Writes until it is confirmed: the guard of each outcome makes a repetition safe. With when that began, from
/// which on the callbacks are this process's to attempt.
async fn record(shared: &Shared, recordings: &[Recording]) -> (Written<Recorded>, Timestamp) {
    loop {
        let since = shared.now();
        match shared.store.record(recordings.to_vec()).await {
            Ok(recorded) => return (recorded, since),
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

/// A document is large: it is read from the store when its callback is sent.
fn without_document(mut told: Told) -> Told {
    if let Ok(Left::Document(text)) = &mut told.result {
        *text = "".into();
    }
    told
}

/// Has the outbox tell what was written: to the service's own listener, and to further ones.
fn offer(
    shared: &Shared,
    request: Arc<RequestHead>,
    number: u32,
    told: Told,
    further: &[Outlet],
    since: Timestamp,
) {
    let own = Callback { request, number, listener: ListenerName::OWN, told, series: 1, attempts: 0 };
    for outlet in of_service(further, &own.request) {
        shared.outbox.offer(Callback { listener: outlet.listener, ..own.clone() }, since);
    }
    shared.outbox.offer(own, since);
}

/// Those of the outlets that a request's callbacks leave by.
fn of_service<'a>(further: &'a [Outlet], request: &'a RequestHead) -> impl Iterator<Item = &'a Outlet> {
    let service = request.action.service();
    further.iter().filter(move |outlet| (&outlet.account, outlet.service) == (&request.account, service))
}

fn tell(shared: &Shared, recordings: Vec<Recording>, written: &Written<Recorded>, since: Timestamp) {
    let Written { each: recorded, further } = written;
    shared.progress.touch(recordings.iter().map(|recording| recording.request.id));
    shared.metrics.ended(&recordings, recorded);
    let outcomes = recordings.len();
    for (recording, recorded) in recordings.into_iter().zip(recorded) {
        match recorded {
            Recorded::Now => {
                let (request, number) = (recording.request, recording.number);
                offer(shared, request, number, without_document(recording.told), further, since);
            }
            // Its callbacks stand in the store; nobody but the store may know of them.
            Recorded::Before => {
                shared.outbox.expect(&Outlet::of(&recording.request), recording.at);
                for outlet in of_service(further, &recording.request) {
                    shared.outbox.expect(outlet, recording.at);
                }
            }
            Recorded::Refused => {
                let Recording { request, number, .. } = recording;
                warn!(request.id = %request.id, number, "Another process performs what this one had claimed");
            }
        }
    }
    shared.outbox.wake();
    info!(outcomes, "Recorded {outcomes} outcomes");
}
