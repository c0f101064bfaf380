//! The suite on adapters with one flaw each: it finds every one.

use super::*;
use crate::{Capabilities, Effect, Observed, Trouble};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the adapter under test goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    AnswersForeign,
    AnswersTwice,
    RunsOn,
    ToldButNotDone,
    NeverSettles,
    Rejects,
    TakesStrangers,
    ObservesWrongly,
    ObservesByChanging,
    UnknownWhileStopped,
    DoneWhileStopped,
    DoneWhileFrozen,
    WellWhileStopped,
    IgnoresWhatWasLeft,
}

/// A network with a program in front of it that can be stopped and frozen.
#[derive(Default)]
struct World {
    ends: HashMap<Iccid, EndState>,
    stopped: bool,
    frozen: bool,
    /// What was sent to the frozen program by callers who have gone.
    left: Vec<(Iccid, EndState)>,
}

impl World {
    fn do_what_was_left(&mut self) {
        let left = std::mem::take(&mut self.left);
        self.ends.extend(left);
    }
}

/// A change that was sent: done, or left behind where its caller goes before.
struct Sent<'a> {
    world: &'a Mutex<World>,
    change: Option<(Iccid, EndState)>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.world.lock().unwrap().left.extend(self.change.take());
    }
}

struct Flawed {
    flaw: Flaw,
    world: Arc<Mutex<World>>,
}

impl Flawed {
    async fn perform(&self, operation: &Operation) -> Reply {
        let change = (operation.iccid.clone(), operation.end_state);
        let known = matches!(operation.end_state, EndState::InService | EndState::Suspended);
        match self.flaw {
            Flaw::Rejects => return Reply::Rejected { reason: "unknown".into() },
            Flaw::NeverSettles => return Reply::Unknown,
            Flaw::ToldButNotDone => return Reply::Done(Effect::Now),
            _ if !known => return Reply::Rejected { reason: "unknown here".into() },
            _ => {}
        }
        if self.world.lock().unwrap().stopped {
            return match self.flaw {
                Flaw::UnknownWhileStopped => Reply::Unknown,
                Flaw::DoneWhileStopped => Reply::Done(Effect::Now),
                _ => Reply::Unavailable(Trouble::Transport("it is stopped".into())),
            };
        }
        let mut sent = Sent { world: &self.world, change: Some(change) };
        while self.flaw != Flaw::DoneWhileFrozen && self.world.lock().unwrap().frozen {
            tokio::task::yield_now().await;
        }
        let mut world = self.world.lock().unwrap();
        if operation.begun_before && self.flaw != Flaw::IgnoresWhatWasLeft {
            world.do_what_was_left();
        }
        let change = sent.change.take();
        if self.flaw != Flaw::TakesStrangers && !world.ends.contains_key(&operation.iccid) {
            return Reply::Rejected { reason: "nobody knows it".into() };
        }
        world.ends.extend(change);
        Reply::Done(Effect::Now)
    }
}

#[async_trait]
impl Carrier for Flawed {
    fn kind(&self) -> &'static str {
        "flawed"
    }

    fn capabilities(&self) -> Capabilities {
        let ends = &[EndState::InService, EndState::Suspended];
        Capabilities { ends, needs_imsi: false, in_flight_max: usize::MAX, accepts_for_later: false }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        for operation in operations {
            let mut id = operation.id;
            let reply = self.perform(&operation).await;
            match self.flaw {
                Flaw::AnswersForeign => id.number += 100_000,
                Flaw::AnswersTwice => replies.send((id, reply.clone())).unwrap(),
                Flaw::RunsOn => drop(tokio::spawn(never_ends(replies.clone()))),
                _ => {}
            }
            replies.send((id, reply)).unwrap();
            tokio::task::yield_now().await;
        }
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        let mut world = self.world.lock().unwrap();
        let mut observe = |profile: &Profile| {
            let Some(end) = world.ends.get_mut(&profile.iccid) else { return Observation::NoSuchProfile };
            let in_service = (*end == EndState::InService) != (self.flaw == Flaw::ObservesWrongly);
            if self.flaw == Flaw::ObservesByChanging {
                *end = EndState::InService;
            }
            Observation::Seen(Observed { in_service: Some(in_service), enabled: None })
        };
        profiles.iter().map(&mut observe).collect()
    }

    async fn probe(&self) -> Health {
        let well = !self.world.lock().unwrap().stopped || self.flaw == Flaw::WellWhileStopped;
        if well { Health::Ok } else { Health::Down(Trouble::Transport("it is stopped".into())) }
    }
}

async fn never_ends(_held: Replies) {
    std::future::pending::<()>().await;
}

struct FlawedBench {
    flaw: Flaw,
    world: Arc<Mutex<World>>,
    last: AtomicU64,
}

impl FlawedBench {
    fn subscription(&self) -> Subscription {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        Subscription {
            iccid: format!("8999{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: None,
            msisdn: None,
            card: Vec::new(),
        }
    }
}

#[async_trait]
impl Bench for FlawedBench {
    fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::new(Flawed { flaw: self.flaw, world: self.world.clone() })
    }

    fn request_id(&self) -> RequestId {
        RequestId::from_random(self.last.fetch_add(1, Ordering::Relaxed).into())
    }

    async fn fresh(&self, count: usize) -> Vec<Subscription> {
        let fresh: Vec<Subscription> = std::iter::repeat_with(|| self.subscription()).take(count).collect();
        let known = fresh.iter().map(|of| (of.iccid.clone(), EndState::InService));
        self.world.lock().unwrap().ends.extend(known);
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("it knows no ends on the card")
    }

    async fn shows(&self, subscription: &Subscription, end: EndState) -> Option<bool> {
        Some(self.world.lock().unwrap().ends.get(&subscription.iccid) == Some(&end))
    }

    async fn stranger(&self) -> Option<Subscription> {
        Some(self.subscription())
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }
}

#[async_trait]
impl Peer for FlawedBench {
    async fn stop(&self) {
        self.world.lock().unwrap().stopped = true;
    }

    async fn start(&self) {
        self.world.lock().unwrap().stopped = false;
    }

    async fn freeze(&self) {
        self.world.lock().unwrap().frozen = true;
    }

    async fn thaw(&self) {
        self.world.lock().unwrap().frozen = false;
    }

    async fn deadline(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let mut world = self.world.lock().unwrap();
        if !world.frozen {
            world.do_what_was_left();
        }
    }
}

fn bench(flaw: Flaw) -> FlawedBench {
    FlawedBench { flaw, world: Arc::default(), last: AtomicU64::new(1) }
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

#[tokio::test]
#[should_panic(expected = "nobody whom the network knows; said")]
async fn a_stranger_who_is_taken_is_found() {
    an_unknown_subscription_is_rejected_and_disturbs_none(&bench(Flaw::TakesStrangers)).await;
}

#[tokio::test]
#[should_panic(expected = "as observed and as it is")]
async fn an_observation_that_is_wrong_is_found() {
    observing_agrees_with_the_network_and_changes_nothing(&bench(Flaw::ObservesWrongly)).await;
}

#[tokio::test]
#[should_panic(expected = "observing changed")]
async fn an_observation_that_changes_something_is_found() {
    observing_agrees_with_the_network_and_changes_nothing(&bench(Flaw::ObservesByChanging)).await;
}

#[tokio::test]
#[should_panic(expected = "nobody is there; said: Some(Unknown)")]
async fn a_doubt_about_what_was_not_sent_is_found() {
    a_peer_that_is_not_there_is_unavailable_and_nothing_begun(&bench(Flaw::UnknownWhileStopped)).await;
}

#[tokio::test]
#[should_panic(expected = "nobody is there; said: Ok")]
async fn a_health_that_asks_nobody_is_found() {
    a_peer_that_is_not_there_is_unavailable_and_nothing_begun(&bench(Flaw::WellWhileStopped)).await;
}

#[tokio::test]
#[should_panic(expected = "was said to be settled")]
async fn a_done_without_a_peer_is_found() {
    a_peer_that_stops_midway_is_settled_by_repeating(&bench(Flaw::DoneWhileStopped)).await;
}

#[tokio::test]
#[should_panic(expected = "a frozen peer answers nothing")]
async fn a_done_that_nobody_answered_is_found() {
    a_peer_that_freezes_is_settled_by_repeating(&bench(Flaw::DoneWhileFrozen)).await;
}

#[tokio::test]
#[should_panic(expected = "what came before InService was done after it")]
async fn what_comes_last_and_was_sent_first_is_found() {
    what_was_left_on_a_connection_does_not_come_last(&bench(Flaw::IgnoresWhatWasLeft)).await;
}
