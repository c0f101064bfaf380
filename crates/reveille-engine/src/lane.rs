//! A lane's control: whether its carrier may be called, how much is under way, and how it is.

use crate::breaker::{Breaker, Circuit};
use crate::drift::Comparing;
use reveille_carriers::{Carrier, Health, Trouble};
use reveille_domain::{Backoff, Network, Timestamp};
use reveille_store::Lane;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{info, warn};

/// How many outcomes of a lane may wait to be recorded before no more is claimed.
const RECORDING_MAX: usize = 4_096;

/// How many subrequests are claimed at a time: they share one reading and one call.
pub(crate) const CLAIM_MAX: usize = 512;

/// A carrier and the limits under which it is called.
#[derive(Clone)]
pub struct CarrierSetup {
    /// The adapter.
    pub carrier: Arc<dyn Carrier>,
    /// How many operations may be under way.
    pub concurrency: usize,
    /// How many operations may begin per second, if that is limited.
    pub rate: Option<u32>,
    /// How often the service state of one profile may be changed within 24 hours; more waits.
    pub changes_per_day: Option<u32>,
    /// How long a call may take; an operation without reply by then is unknown.
    pub timeout: Duration,
    /// How long after its acceptance a subrequest is given up.
    pub give_up_after: Duration,
    /// How long to wait between tries, where the carrier gives no hint.
    pub backoff: Backoff,
    /// How its profiles are compared with what it says; not at all, where nothing is said.
    pub comparing: Option<Comparing>,
}

/// A carrier as it is shown.
#[derive(Clone, Debug)]
pub struct CarrierView {
    /// The network that it serves.
    pub network: Network,
    /// Its kind; nothing where the network is unserved.
    pub kind: Option<&'static str>,
    /// Whether an operator holds it.
    pub held: bool,
    /// How it is: what it came to lately, or what it said when it was asked.
    pub health: Health,
    /// When it is tried again, where it is left alone.
    pub tried_again_at: Option<Timestamp>,
    /// How many subrequests are claimed.
    pub begun: usize,
}

pub(crate) struct LaneControl {
    pub(crate) setup: Option<CarrierSetup>,
    pub(crate) changed: Notify,
    calls: AtomicUsize,
    with_carrier: AtomicUsize,
    recording: AtomicUsize,
    held: AtomicBool,
    breaker: Mutex<Breaker>,
    /// Why the breaker opened last.
    trouble: Mutex<Option<Trouble>>,
    /// What the carrier said when it was asked how it is.
    probed: Mutex<Health>,
    allowance: Mutex<Allowance>,
}

/// What is left of a rate.
struct Allowance {
    operations: f64,
    at: Timestamp,
}

pub(crate) fn controls(
    carriers: &HashMap<Network, CarrierSetup>,
    now: Timestamp,
) -> HashMap<Lane, LaneControl> {
    let networks = Network::ALL.map(|network| (Lane::Network(network), carriers.get(&network).cloned()));
    let lanes = networks.into_iter().chain([(Lane::Here, None)]);
    lanes.map(|(lane, setup)| (lane, LaneControl::new(setup, now))).collect()
}

impl LaneControl {
    fn new(setup: Option<CarrierSetup>, now: Timestamp) -> Self {
        Self {
            setup,
            changed: Notify::new(),
            calls: AtomicUsize::new(0),
            with_carrier: AtomicUsize::new(0),
            recording: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            breaker: Mutex::default(),
            trouble: Mutex::default(),
            probed: Mutex::new(Health::Ok),
            allowance: Mutex::new(Allowance { operations: 1.0, at: now }),
        }
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn set_held(&self, held: bool) {
        if self.held.swap(held, Ordering::Relaxed) != held {
            self.wake();
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    pub(crate) fn begin_calls(&self, operations: usize) {
        self.calls.fetch_add(operations, Ordering::AcqRel);
    }

    pub(crate) fn end_calls(&self, operations: usize) {
        self.calls.fetch_sub(operations, Ordering::AcqRel);
        self.wake();
    }

    /// That many of the calls are the carrier's now.
    pub(crate) fn hand_over(&self, operations: usize) {
        self.with_carrier.fetch_add(operations, Ordering::AcqRel);
    }

    /// The carrier has answered so many, or will not.
    pub(crate) fn take_back(&self, operations: usize) {
        self.with_carrier.fetch_sub(operations, Ordering::AcqRel);
        self.end_calls(operations);
    }

    /// How many are claimed and not with the carrier yet.
    pub(crate) fn preparing(&self) -> usize {
        self.calls().saturating_sub(self.with_carrier.load(Ordering::Acquire))
    }

    pub(crate) fn recording(&self) -> usize {
        self.recording.load(Ordering::Acquire)
    }

    pub(crate) fn begin_recording(&self) {
        self.recording.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end_recording(&self, outcomes: usize) {
        self.recording.fetch_sub(outcomes, Ordering::AcqRel);
        self.wake();
    }

    /// How many more subrequests may be claimed, when so many are under way already.
    pub(crate) fn room(&self, now: Timestamp, under_way: usize) -> usize {
        if self.held.load(Ordering::Relaxed) {
            return 0;
        }
        let Some(setup) = &self.setup else { return RECORDING_MAX.saturating_sub(under_way).min(CLAIM_MAX) };
        let concurrency = match self.circuit(now) {
            Circuit::Closed => setup.concurrency.min(setup.carrier.capabilities().in_flight_max),
            Circuit::Trial => 1,
            Circuit::Open { .. } => 0,
        };
        let calls = concurrency.saturating_sub(self.calls());
        let allowed = setup.rate.map_or(usize::MAX, |rate| self.allowance(rate, now));
        calls.min(RECORDING_MAX.saturating_sub(self.recording())).min(allowed).min(CLAIM_MAX)
    }

    pub(crate) fn may_claim(&self, now: Timestamp, under_way: usize) -> bool {
        self.room(now, under_way) > 0
    }

    /// When there is room again by the clock alone: the breaker's trial, the next operation of the rate.
    pub(crate) fn room_at(&self, now: Timestamp) -> Option<Timestamp> {
        if let Circuit::Open { until } = self.circuit(now) {
            return Some(until);
        }
        let rate = self.setup.as_ref()?.rate?;
        (self.allowance(rate, now) == 0).then(|| now.plus(self.next_operation_in(rate)))
    }

    /// How long until the rate allows one operation, in whole milliseconds.
    fn next_operation_in(&self, rate: u32) -> Duration {
        let operations = self.allowance.lock().unwrap_or_else(PoisonError::into_inner).operations;
        let millis = (1.0 - operations).max(0.0) * 1_000.0 / f64::from(rate.max(1));
        Duration::from_millis((millis.ceil() as u64).max(1))
    }

    /// Uses up that much of the rate.
    pub(crate) fn spend(&self, operations: usize) {
        if self.setup.as_ref().is_some_and(|setup| setup.rate.is_some()) {
            self.allowance.lock().unwrap_or_else(PoisonError::into_inner).operations -= operations as f64;
        }
    }

    /// Gives back what was used up for nothing: so many were claimed and not begun.
    pub(crate) fn give_back(&self, operations: usize) {
        if self.setup.as_ref().is_some_and(|setup| setup.rate.is_some()) {
            self.allowance.lock().unwrap_or_else(PoisonError::into_inner).operations += operations as f64;
        }
    }

    fn allowance(&self, rate: u32, now: Timestamp) -> usize {
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.since(allowance.at).as_secs_f64() * f64::from(rate);
        allowance.operations = (allowance.operations + earned).min(f64::from(rate).max(1.0));
        allowance.at = now;
        allowance.operations.max(0.0) as usize
    }

    pub(crate) fn answered(&self) {
        self.breaker().answered();
        if let (Some(trouble), Some(setup)) = (self.trouble().take(), &self.setup) {
            info!(carrier.kind = setup.carrier.kind(), %trouble, "A carrier answers again");
        }
    }

    pub(crate) fn unanswered(&self, now: Timestamp) {
        if self.breaker().unanswered(now) {
            self.note_trouble(Trouble::Transport("It does not answer in time.".into()));
        }
    }

    /// Nothing could be sent to it.
    pub(crate) fn unavailable(&self, now: Timestamp, trouble: Trouble) {
        self.breaker().unavailable(now);
        self.note_trouble(trouble);
    }

    fn note_trouble(&self, trouble: Trouble) {
        let mut known = self.trouble();
        if known.as_ref() != Some(&trouble) {
            let kind = self.setup.as_ref().map(|setup| setup.carrier.kind());
            warn!(carrier.kind = kind, %trouble, "A carrier cannot be used; what waits for it waits on");
            *known = Some(trouble);
        }
    }

    /// Whether its carrier has not answered lately, though nobody holds it, and it is not for who we say we are.
    pub(crate) fn is_silent_and_not_held(&self, now: Timestamp) -> bool {
        self.circuit(now) != Circuit::Closed
            && !self.held.load(Ordering::Relaxed)
            && !self.waits_for_credentials()
    }

    /// Whether the carrier does not accept who we say we are: that is nobody's fault who waits.
    pub(crate) fn waits_for_credentials(&self) -> bool {
        matches!(*self.trouble(), Some(Trouble::Credentials(_)))
    }

    /// What the carrier says when it is asked how it is.
    pub(crate) fn note_probed(&self, health: Health) {
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    fn circuit(&self, now: Timestamp) -> Circuit {
        self.breaker().circuit(now)
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self, network: Network, begun: usize, now: Timestamp) -> CarrierView {
        let trouble = self.trouble().clone();
        let (health, tried_again_at) = match (self.circuit(now), trouble) {
            (Circuit::Open { until }, Some(trouble)) => (Health::Down(trouble), Some(until)),
            (Circuit::Trial, Some(trouble)) => (Health::Degraded(trouble.words().into()), None),
            _ => (self.probed.lock().unwrap_or_else(PoisonError::into_inner).clone(), None),
        };
        CarrierView {
            network,
            kind: self.setup.as_ref().map(|setup| setup.carrier.kind()),
            held: self.held.load(Ordering::Relaxed),
            health,
            tried_again_at,
            begun,
        }
    }
}
