//! What every adapter must do: the definition of the port, as code that a test of any adapter runs.
//!
//! [`conforms`] runs all of it; each part is public too, so that a test can be named after it. A failure is a
//! panic that says what was expected. The suite keeps no time of its own: an adapter that hangs hangs the
//! test. The network under test is healthy: it may be busy or fall silent now and then, but it rejects nothing
//! and settles each operation within [`TRIES_MAX`] tries.

use crate::{Carrier, Operation, Replies, Reply};
use async_trait::async_trait;
use reveille_domain::{Eid, EndState, Iccid, Imsi, Msisdn, OperationId, Profile, RequestId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
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
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
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

/// One operation per subscription, numbered as a request numbers its subrequests.
fn operations(request: RequestId, subscriptions: &[Subscription], end_state: EndState) -> Vec<Operation> {
    let numbered = (1..).zip(subscriptions.iter().cloned());
    let operation = |(number, of): (u32, Subscription)| Operation {
        id: OperationId { request, number },
        iccid: of.iccid,
        eid: of.eid,
        imsi: of.imsi,
        msisdn: of.msisdn,
        end_state,
        service_plan: (end_state == EndState::OnPlan).then(|| PLAN.into()),
        card: if end_state.touches_card() { of.card } else { Vec::new() },
        begun_before: false,
    };
    numbered.map(operation).collect()
}

/// Drives operations until each is done or was so already, and looks whether the network agrees.
async fn settle(bench: &dyn Bench, batch: &[Operation]) {
    let carrier = bench.carrier();
    let mut open = batch.to_vec();
    for _ in 0..TRIES_MAX {
        let mut settled = HashSet::new();
        for part in open.chunks(BATCH_MAX) {
            settled.extend(
                call(&*carrier, part).await.into_iter().filter_map(|(id, reply)| settles(id, &reply)),
            );
        }
        open.retain(|operation| !settled.contains(&operation.id));
        open.iter_mut().for_each(|operation| operation.begun_before = true);
        if open.is_empty() {
            break;
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
        Reply::RetryLater { .. } | Reply::Unavailable(_) | Reply::Unknown => None,
        Reply::Rejected { reason } | Reply::RolledBack { reason, .. } => {
            panic!("{id} names a subscription that the network knows; said: {reason}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capabilities, Effect};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// How the adapter under test goes wrong.
    #[derive(Clone, Copy)]
    enum Flaw {
        None,
        AnswersForeign,
        AnswersTwice,
        RunsOn,
        ToldButNotDone,
        NeverSettles,
        Rejects,
    }

    struct Flawed {
        flaw: Flaw,
        network: Arc<Mutex<HashMap<Iccid, EndState>>>,
    }

    #[async_trait]
    impl Carrier for Flawed {
        fn kind(&self) -> &'static str {
            "flawed"
        }

        fn capabilities(&self) -> Capabilities {
            let ends = &[EndState::InService, EndState::Suspended];
            Capabilities { ends, needs_imsi: false, in_flight_max: usize::MAX }
        }

        async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
            for operation in operations {
                let mut id = operation.id;
                let known = matches!(operation.end_state, EndState::InService | EndState::Suspended);
                let reply = match self.flaw {
                    Flaw::None if !known => Reply::Rejected { reason: "unknown here".into() },
                    Flaw::Rejects => Reply::Rejected { reason: "unknown".into() },
                    Flaw::NeverSettles => Reply::Unknown,
                    _ => Reply::Done(Effect::Now),
                };
                if !matches!(self.flaw, Flaw::ToldButNotDone) {
                    self.network.lock().unwrap().insert(operation.iccid, operation.end_state);
                }
                match self.flaw {
                    Flaw::AnswersForeign => id.number += 100_000,
                    Flaw::AnswersTwice => replies.send((id, reply.clone())).unwrap(),
                    Flaw::RunsOn => drop(tokio::spawn(never_ends(replies.clone()))),
                    _ => {}
                }
                replies.send((id, reply)).unwrap();
            }
        }
    }

    async fn never_ends(_held: Replies) {
        std::future::pending::<()>().await;
    }

    struct FlawedBench {
        flaw: Flaw,
        network: Arc<Mutex<HashMap<Iccid, EndState>>>,
        last: AtomicU64,
    }

    #[async_trait]
    impl Bench for FlawedBench {
        fn carrier(&self) -> Arc<dyn Carrier> {
            Arc::new(Flawed { flaw: self.flaw, network: self.network.clone() })
        }

        fn request_id(&self) -> RequestId {
            RequestId::from_random(self.last.fetch_add(1, Ordering::Relaxed).into())
        }

        async fn fresh(&self, count: usize) -> Vec<Subscription> {
            let numbers = std::iter::repeat_with(|| self.last.fetch_add(1, Ordering::Relaxed));
            let subscription = |number: u64| Subscription {
                iccid: format!("8999{number:015}").parse().unwrap(),
                eid: format!("{number:032}").parse().unwrap(),
                imsi: None,
                msisdn: None,
                card: Vec::new(),
            };
            numbers.take(count).map(subscription).collect()
        }

        async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
            panic!("it knows no ends on the card")
        }

        async fn shows(&self, subscription: &Subscription, end: EndState) -> Option<bool> {
            Some(self.network.lock().unwrap().get(&subscription.iccid) == Some(&end))
        }
    }

    fn bench(flaw: Flaw) -> FlawedBench {
        FlawedBench { flaw, network: Arc::default(), last: AtomicU64::new(1) }
    }

    #[tokio::test]
    async fn an_adapter_without_a_flaw_conforms() {
        conforms(&bench(Flaw::None)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "was not asked for")]
    async fn a_reply_to_what_was_not_asked_is_found() {
        a_suspended_profile_is_resumed(&bench(Flaw::AnswersForeign)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "was answered twice")]
    async fn a_second_reply_is_found() {
        a_suspended_profile_is_resumed(&bench(Flaw::AnswersTwice)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "still runs")]
    async fn a_call_that_leaves_something_running_is_found() {
        a_call_dropped_midway_is_settled_by_repeating(&bench(Flaw::RunsOn)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "was said to be settled")]
    async fn a_done_that_is_not_done_is_found() {
        a_suspended_profile_is_resumed(&bench(Flaw::ToldButNotDone)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "unsettled after 50 tries")]
    async fn an_operation_that_never_settles_is_found() {
        repeating_an_operation_is_safe(&bench(Flaw::NeverSettles)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "is not known; said")]
    async fn an_end_that_is_taken_for_known_is_found() {
        ends_that_are_not_known_are_rejected(&bench(Flaw::ToldButNotDone)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "that the network knows")]
    async fn a_rejection_of_a_known_subscription_is_found() {
        repeating_an_operation_is_safe(&bench(Flaw::Rejects)).await;
    }
}
