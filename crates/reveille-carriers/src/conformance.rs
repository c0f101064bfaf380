//! What every adapter must do: the definition of the port, as code that a test of any adapter runs.
//!
//! [`conforms`] runs all of it; each part is public too, so that a test can be named after it. A failure is a
//! panic that says what was expected. The suite keeps no time of its own: an adapter that hangs hangs the
//! test. The network under test is healthy: it may be busy or fall silent now and then, but it rejects nobody
//! whom it knows, and settles each operation within [`TRIES_MAX`] tries. Where the network is a program that can
//! be stopped and frozen, the bench has a [`Peer`], and the suite does so.

mod peers;
#[cfg(test)]
mod tests;

pub use peers::*;

use crate::{Asked, Carrier, Health, Observation, Operation, Replies, Reply, name_in};
use async_trait::async_trait;
use reveille_domain::{
    Action, Doubt, Eid, EndState, Iccid, Imsi, Msisdn, Network, OperationId, Profile, ProfileState,
    ProfileStatus, RequestId, Role, Terms, ends_of,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, error::TryRecvError};
use tokio::task::JoinSet;

/// How often the suite drives one operation before it calls it unsettled.
pub const TRIES_MAX: usize = 50;

/// The most operations in one call: a caller bounds its batches, so the suite does.
pub const BATCH_MAX: usize = 512;

/// The size of the largest request that the contract allows.
const FLEET: usize = 10_000;

/// How many turns the runtime gets to clear away what a dropped call has left.
const TURNS_MAX: usize = 1000;

/// One profile on the network under test, and all that the inventory would know of it.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The profile.
    pub iccid: Iccid,
    /// The eUICC that it is on, which no other subscription shares.
    pub eid: Eid,
    /// What the network knows it by, where the adapter needs it.
    pub imsi: Option<Imsi>,
    /// Its phone number, where the adapter needs it.
    pub msisdn: Option<Msisdn>,
    /// Every profile on its eUICC, as they are recorded; none where the card plays no part.
    pub card: Vec<Profile>,
}

/// An adapter under test, with a network behind it.
#[async_trait]
pub trait Bench: Send + Sync {
    /// The adapter.
    fn carrier(&self) -> Arc<dyn Carrier>;

    /// The id of a request that this network has not seen.
    fn request_id(&self) -> RequestId;

    /// That many subscriptions that the network knows, in either state, and that no earlier call has named.
    async fn fresh(&self, count: usize) -> Vec<Subscription>;

    /// Likewise, all on one eUICC: the first its LEAD, enabled; the others on the card and disabled. Asked for
    /// only where the adapter knows ends on the card.
    async fn fresh_card(&self, count: usize) -> Vec<Subscription>;

    /// Whether the network itself has a profile at that end, seen past the adapter; `None` where that cannot
    /// be seen.
    async fn shows(&self, subscription: &Subscription, end: EndState) -> Option<bool>;

    /// A subscription that the network does not know; `None` where it knows whatever it is asked about.
    async fn stranger(&self) -> Option<Subscription> {
        None
    }

    /// Ends when what was accepted for later has had as long as the adapter asks for.
    async fn waited(&self, _ask_after: Duration) {}

    /// What the other side has sent by itself until then, of a profile under the name by which it was accepted: the
    /// text of a [`crate::Notice`].
    fn heard(&self, _name: &str, _iccid: &Iccid) -> Option<Box<str>> {
        None
    }

    /// The program behind the adapter, where there is one that can be stopped.
    fn peer(&self) -> Option<&dyn Peer> {
        None
    }

    /// A new adapter on the same network, such as another process has. Asked for only where there is a peer.
    fn another(&self) -> Arc<dyn Carrier> {
        self.carrier()
    }
}

/// The program that an adapter speaks to. It runs when a part of the suite begins and when it ends.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Ends it at once, as a crash does. What it has said to be done is kept.
    async fn stop(&self);

    /// Starts it again, with what it had; it can be used when this returns.
    async fn start(&self);

    /// Has it stand still: it can be connected to and sent to, and reads nothing.
    async fn freeze(&self);

    /// Has it go on where it stood.
    async fn thaw(&self);

    /// Ends after as long as a caller waits for a reply; whatever a running peer was sent before is done then.
    async fn deadline(&self);
}

/// Runs the whole suite.
pub async fn conforms(bench: &dyn Bench) {
    an_empty_batch_has_no_replies(bench).await;
    repeating_an_operation_is_safe(bench).await;
    a_suspended_profile_is_resumed(bench).await;
    a_whole_request_is_settled_in_batches(bench).await;
    batches_run_side_by_side(bench).await;
    a_call_dropped_at_once_is_settled_by_repeating(bench).await;
    a_call_dropped_midway_is_settled_by_repeating(bench).await;
    every_end_that_is_known_is_reached_and_may_be_repeated(bench).await;
    ends_that_are_not_known_are_rejected(bench).await;
    one_profile_of_a_card_is_enabled(bench).await;
    a_profile_goes_through_its_life_on_a_card(bench).await;
    a_card_call_that_was_dropped_is_settled_by_repeating(bench).await;
    an_unknown_subscription_is_rejected_and_disturbs_none(bench).await;
    observing_agrees_with_the_network_and_changes_nothing(bench).await;
    a_peer_that_is_not_there_is_unavailable_and_nothing_begun(bench).await;
    a_peer_that_stops_midway_is_settled_by_repeating(bench).await;
    a_peer_that_freezes_is_settled_by_repeating(bench).await;
    what_was_left_on_a_connection_does_not_come_last(bench).await;
}

/// Nothing asked, nothing said.
pub async fn an_empty_batch_has_no_replies(bench: &dyn Bench) {
    assert!(call(&*bench.carrier(), &[]).await.is_empty());
}

/// An operation that is applied again under its own id, or under another, leaves the same end.
pub async fn repeating_an_operation_is_safe(bench: &dyn Bench) {
    for end_state in [EndState::Suspended, EndState::InService] {
        let subscriptions = bench.fresh(20).await;
        let first = operations(bench.request_id(), &subscriptions, end_state);
        let again = operations(bench.request_id(), &subscriptions, end_state);
        for batch in [&first, &first, &again] {
            settle(bench, batch).await;
        }
    }
}

/// Suspension and resumption take effect, each time anew.
pub async fn a_suspended_profile_is_resumed(bench: &dyn Bench) {
    let subscriptions = bench.fresh(100).await;
    for end_state in [EndState::Suspended, EndState::InService, EndState::Suspended, EndState::InService] {
        settle(bench, &operations(bench.request_id(), &subscriptions, end_state)).await;
    }
}

/// 10,000 profiles, in batches of at most [`BATCH_MAX`].
pub async fn a_whole_request_is_settled_in_batches(bench: &dyn Bench) {
    let subscriptions = bench.fresh(FLEET).await;
    for end_state in [EndState::Suspended, EndState::InService] {
        settle(bench, &operations(bench.request_id(), &subscriptions, end_state)).await;
    }
}

/// Calls at the same time, on different eUICCs and to different ends, do not disturb each other.
pub async fn batches_run_side_by_side(bench: &dyn Bench) {
    let mut batches = Vec::new();
    for end_state in [EndState::Suspended, EndState::InService].repeat(4) {
        batches.push(operations(bench.request_id(), &bench.fresh(64).await, end_state));
    }
    let mut calls = JoinSet::new();
    for batch in batches.clone() {
        let carrier = bench.carrier();
        calls.spawn(async move { call(&*carrier, &batch).await });
    }
    while let Some(ended) = calls.join_next().await {
        ended.expect("a call at the same time as others panicked");
    }
    for batch in &batches {
        settle(bench, batch).await;
    }
}

/// A call that is dropped after its first step leaves nothing running, and a repetition settles it.
pub async fn a_call_dropped_at_once_is_settled_by_repeating(bench: &dyn Bench) {
    let batch = operations(bench.request_id(), &bench.fresh(BATCH_MAX).await, EndState::Suspended);
    let (sender, replies) = mpsc::unbounded_channel();
    let carrier = bench.carrier();
    tokio::select! {
        biased;
        () = carrier.apply(batch.clone(), sender) => {}
        () = std::future::ready(()) => {}
    }
    told(replies, &batch).await;
    settle(bench, &batch).await;
}

/// A call that is dropped between its replies leaves nothing running, and a repetition settles it.
pub async fn a_call_dropped_midway_is_settled_by_repeating(bench: &dyn Bench) {
    let batch = operations(bench.request_id(), &bench.fresh(BATCH_MAX).await, EndState::Suspended);
    let (sender, mut replies) = mpsc::unbounded_channel();
    let carrier = bench.carrier();
    tokio::select! {
        biased;
        _first = replies.recv() => {}
        () = carrier.apply(batch.clone(), sender) => {}
    }
    told(replies, &batch).await;
    settle(bench, &batch).await;
}

/// The service plan that the suite's operations name.
const PLAN: &str = "Plan of the suite";

/// Each end that the adapter knows is reached, stays reached when it is asked for again under the same id,
/// and under another.
pub async fn every_end_that_is_known_is_reached_and_may_be_repeated(bench: &dyn Bench) {
    for end in EndState::ALL.into_iter().filter(|end| bench.carrier().capabilities().ends.contains(end)) {
        let about =
            if end.touches_card() { bench.fresh_card(2).await.split_off(1) } else { bench.fresh(2).await };
        let first = operations(bench.request_id(), &about, end);
        let again = operations(bench.request_id(), &about, end);
        for batch in [&first, &first, &again] {
            settle(bench, batch).await;
        }
        for subscription in &about {
            assert_ne!(bench.shows(subscription, end).await, Some(false), "{end:?} was said to be reached");
        }
    }
}

/// An end that the adapter does not know is rejected for good, at once.
pub async fn ends_that_are_not_known_are_rejected(bench: &dyn Bench) {
    for end in EndState::ALL.into_iter().filter(|end| !bench.carrier().capabilities().ends.contains(end)) {
        let batch = operations(bench.request_id(), &bench.fresh(2).await, end);
        let replies = call(&*bench.carrier(), &batch).await;
        for operation in &batch {
            let reply = replies.get(&operation.id);
            assert!(matches!(reply, Some(Reply::Rejected { .. })), "{end:?} is not known; said: {reply:?}");
        }
    }
}

/// Enabling one profile of an eUICC disables the others.
pub async fn one_profile_of_a_card_is_enabled(bench: &dyn Bench) {
    if !bench.carrier().capabilities().ends.contains(&EndState::Enabled) {
        return;
    }
    let card = bench.fresh_card(3).await;
    for enabled in [1, 2, 0, 0, 1] {
        settle(bench, &operations(bench.request_id(), &card[enabled..=enabled], EndState::Enabled)).await;
        for (at, subscription) in card.iter().enumerate() {
            let shows = bench.shows(subscription, EndState::Enabled).await;
            assert_eq!(shows.unwrap_or(at == enabled), at == enabled, "profile {at} of the card");
        }
    }
}

/// Enabled, disabled, deleted and downloaded again, as far as the adapter knows these ends.
pub async fn a_profile_goes_through_its_life_on_a_card(bench: &dyn Bench) {
    use EndState::{Deleted, Disabled, Downloaded, Enabled};
    let life = [Enabled, Disabled, Deleted, Downloaded, Enabled];
    if !life.iter().all(|end| bench.carrier().capabilities().ends.contains(end)) {
        return;
    }
    let about = bench.fresh_card(2).await.split_off(1);
    for end in life {
        settle(bench, &operations(bench.request_id(), &about, end)).await;
        assert_ne!(bench.shows(&about[0], end).await, Some(false), "{end:?} was said to be reached");
    }
}

/// A call that touches cards and is dropped is settled by repeating it.
pub async fn a_card_call_that_was_dropped_is_settled_by_repeating(bench: &dyn Bench) {
    if !bench.carrier().capabilities().ends.contains(&EndState::Enabled) {
        return;
    }
    let about = bench.fresh_card(2).await.split_off(1);
    let batch = operations(bench.request_id(), &about, EndState::Enabled);
    let (sender, replies) = mpsc::unbounded_channel();
    let carrier = bench.carrier();
    tokio::select! {
        biased;
        () = carrier.apply(batch.clone(), sender) => {}
        () = std::future::ready(()) => {}
    }
    told(replies, &batch).await;
    settle(bench, &batch).await;
}

/// Whom the network does not know is rejected, and those beside are done.
pub async fn an_unknown_subscription_is_rejected_and_disturbs_none(bench: &dyn Bench) {
    let Some(stranger) = bench.stranger().await else { return };
    for end_state in [EndState::Suspended, EndState::InService] {
        let mut subscriptions = bench.fresh(20).await;
        subscriptions.insert(10, stranger.clone());
        let mut batch = operations(bench.request_id(), &subscriptions, end_state);
        let replies = call(&*bench.carrier(), &batch).await;
        let mut unknown = batch.remove(10);
        let mut reply = replies.get(&unknown.id).cloned();
        for _ in 1..TRIES_MAX {
            match &reply {
                Some(Reply::Pending { handle, ask_after }) => {
                    unknown.accepted_as = Some(handle.clone());
                    bench.waited(*ask_after).await;
                    unknown.heard = bench.heard(name_in(handle), &unknown.iccid);
                }
                None | Some(Reply::RetryLater { .. } | Reply::Unavailable(_) | Reply::Unknown) => {}
                Some(_) => break,
            }
            reply = call(&*bench.carrier(), std::slice::from_ref(&unknown)).await.remove(&unknown.id);
        }
        let rejected = matches!(reply, Some(Reply::Rejected { .. } | Reply::Relayed { .. }));
        assert!(rejected, "{} is nobody whom the network knows; said: {reply:?}", unknown.id);
        settle(bench, &batch).await;
    }
}

/// What is observed is what the network itself shows, and stays so.
pub async fn observing_agrees_with_the_network_and_changes_nothing(bench: &dyn Bench) {
    const SERVICE: [EndState; 2] = [EndState::Suspended, EndState::InService];
    let carrier = bench.carrier();
    for end_state in SERVICE {
        let subscriptions = bench.fresh(20).await;
        settle(bench, &operations(bench.request_id(), &subscriptions, end_state)).await;
        let profiles: Vec<Profile> = subscriptions.iter().map(recorded).collect();
        for _ in 0..2 {
            let observations = carrier.observe(&profiles).await;
            assert_eq!(observations.len(), profiles.len(), "as many observations as profiles");
            for (observation, of) in observations.iter().zip(&subscriptions) {
                assert_ne!(*observation, Observation::NoSuchProfile, "the network knows {:?}", of.iccid);
                for end in SERVICE {
                    let shows = bench.shows(of, end).await.unwrap_or(end == end_state);
                    assert_eq!(shows, end == end_state, "{end:?}: observing changed {:?}", of.iccid);
                    let Observation::Seen(observed) = observation else { continue };
                    let seen = observed.shows(end).unwrap_or(shows);
                    assert_eq!(seen, shows, "{end:?} of {:?} as observed and as it is", of.iccid);
                }
            }
        }
    }
    if let Some(stranger) = bench.stranger().await {
        let observed = carrier.observe(&[recorded(&stranger)]).await;
        let seen = matches!(observed[..], [Observation::Seen(_)]);
        assert!(!seen, "nobody whom the network knows was observed: {observed:?}");
    }
}

/// A subscription as an inventory would have it.
fn recorded(of: &Subscription) -> Profile {
    Profile {
        iccid: of.iccid.clone(),
        eid: of.eid.clone(),
        imei: None,
        msisdn: of.msisdn.clone(),
        imsi: of.imsi.clone(),
        network: Network::Global,
        role: Role::Local,
        state: ProfileState::Active,
        status: ProfileStatus::Enable,
        fallback: false,
        service_plan: None,
        in_doubt: Doubt::NONE,
    }
}

/// One operation per subscription, numbered as a request numbers its subrequests.
fn operations(request: RequestId, subscriptions: &[Subscription], end_state: EndState) -> Vec<Operation> {
    let numbered = (1..).zip(subscriptions);
    numbered.map(|(number, of)| operation(OperationId { request, number }, of, end_state)).collect()
}

/// The operation that brings a subscription to that end, asked for the first time.
pub fn operation(id: OperationId, of: &Subscription, end_state: EndState) -> Operation {
    Operation {
        id,
        iccid: of.iccid.clone(),
        eid: of.eid.clone(),
        imsi: of.imsi.clone(),
        msisdn: of.msisdn.clone(),
        role: Role::Local,
        asked: Arc::new(asked(end_state)),
        end_state,
        service_plan: (end_state == EndState::OnPlan).then(|| PLAN.into()),
        card: if end_state.touches_card() { of.card.clone() } else { Vec::new() },
        begun_before: false,
        accepted_as: None,
        heard: None,
    }
}

/// A request that leads to that end.
pub fn asked(end_state: EndState) -> Asked {
    let leads_there = |action: &Action| ends_of(*action).any(|end| end == end_state);
    Asked {
        account: "0000123456-00001".parse().expect("an account's name"),
        action: Action::ALL.into_iter().find(leads_there).expect("some action leads to each end"),
        terms: Terms::default(),
    }
}

/// Drives operations until each is done or was so already, and looks whether the network agrees.
async fn settle(bench: &dyn Bench, batch: &[Operation]) {
    settle_by(bench, &*bench.carrier(), batch).await;
}

async fn settle_by(bench: &dyn Bench, carrier: &dyn Carrier, batch: &[Operation]) {
    let mut open = batch.to_vec();
    for _ in 0..TRIES_MAX {
        let (mut settled, mut accepted, mut wait) = (HashSet::new(), HashMap::new(), None);
        for part in open.chunks(BATCH_MAX) {
            for (id, reply) in call(carrier, part).await {
                settled.extend(settles(id, &reply));
                if let Reply::Pending { handle, ask_after } = reply {
                    accepted.insert(id, handle);
                    wait = wait.max(Some(ask_after));
                }
            }
        }
        open.retain(|operation| !settled.contains(&operation.id));
        for operation in &mut open {
            operation.begun_before = true;
            operation.accepted_as = accepted.remove(&operation.id).or(operation.accepted_as.take());
        }
        if open.is_empty() {
            break;
        }
        if let Some(ask_after) = wait {
            bench.waited(ask_after).await;
        }
        for operation in &mut open {
            let name = operation.accepted_as.as_deref().map(name_in);
            operation.heard = name.and_then(|name| bench.heard(name, &operation.iccid));
        }
    }
    assert!(
        open.is_empty(),
        "{} of {} operations unsettled after {TRIES_MAX} tries",
        open.len(),
        batch.len()
    );
    for operation in batch {
        let of = Subscription {
            iccid: operation.iccid.clone(),
            eid: operation.eid.clone(),
            imsi: operation.imsi.clone(),
            msisdn: operation.msisdn.clone(),
            card: Vec::new(),
        };
        let shows = bench.shows(&of, operation.end_state).await;
        assert_ne!(shows, Some(false), "{} was said to be settled", operation.id);
    }
}

fn settles(id: OperationId, reply: &Reply) -> Option<OperationId> {
    match reply {
        Reply::Done(_) | Reply::AlreadySo => Some(id),
        Reply::RetryLater { .. } | Reply::Pending { .. } | Reply::NotSent { .. } => None,
        Reply::Unavailable(_) | Reply::Unknown => None,
        Reply::Rejected { reason: text }
        | Reply::Relayed { text, .. }
        | Reply::RolledBack { reason: text, .. } => {
            panic!("{id} names a subscription that the network knows; said: {text}")
        }
    }
}

/// One call to its end, and what it said.
async fn call(carrier: &dyn Carrier, batch: &[Operation]) -> HashMap<OperationId, Reply> {
    let (sender, replies): (Replies, _) = mpsc::unbounded_channel();
    carrier.apply(batch.to_vec(), sender).await;
    told(replies, batch).await
}

/// All that a call said that has ended or was dropped: of operations that it was asked for, of each at most
/// once, and nothing later, since nobody holds the other end any more.
async fn told(
    mut replies: UnboundedReceiver<(OperationId, Reply)>,
    batch: &[Operation],
) -> HashMap<OperationId, Reply> {
    let asked: HashSet<OperationId> = batch.iter().map(|operation| operation.id).collect();
    let mut told = HashMap::new();
    for _ in 0..TURNS_MAX {
        match replies.try_recv() {
            Ok((id, reply)) => {
                assert!(asked.contains(&id), "{id} was not asked for");
                assert!(told.insert(id, reply).is_none(), "{id} was answered twice");
            }
            Err(TryRecvError::Disconnected) => return told,
            Err(TryRecvError::Empty) => tokio::task::yield_now().await,
        }
    }
    panic!("the call is over, and something of it still runs");
}
