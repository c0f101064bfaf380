//! A network in this process: profiles with a state of their own, latency, and trouble on request.
//!
//! The stand-in where no real network is at hand. What it does to a profile follows from the script, from the
//! reserved ICCIDs or from chance; chance follows from a seed, so that thread timing changes no reply. All of
//! it lives in memory; `docs/simulated-network.md` tells users what that means.
//!
//! An operation takes effect when it arrives, and its reply travels for the latency. A call that is dropped
//! on the way has therefore been carried out unheard, which is the harder case for the caller.

mod behaviour;
mod chance;
mod config;
mod memory;
mod reports;
mod script;
#[cfg(test)]
mod tests;
mod world;

pub use behaviour::{Behaviour, UnknownBehaviour};
pub use config::{InvalidSimulatedConfig, SimulatedConfig};
pub use script::{RESERVED_PREFIX, ScriptEntry};
pub use world::World;

use crate::{Capabilities, Carrier, Observation, Operation, Replies, Reply, Report, Trouble};
use async_trait::async_trait;
use behaviour::{REFUSED, Said, Step};
use memory::{Memory, Past};
use reports::Reports;
use reveille_domain::{Clock, Eid, EndState, Iccid, OperationId, Profile, Reported, Timestamp};
use script::Manner;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use world::Enabling;

/// How long the answer of [`Behaviour::Slow`] takes, in place of the configured latency.
const SLOW: Duration = Duration::from_secs(5);

/// When an operation that was accepted for later is to be asked about.
const ASK_AFTER: Duration = Duration::from_secs(30);

/// How long after an operation the network undoes it by itself, where a script says so.
const UNDONE_AFTER: Duration = Duration::from_secs(60);

/// The simulated network of one carrier. Safe to share: calls wait for each other only while they look
/// something up, never for latency.
pub struct Simulated {
    config: SimulatedConfig,
    clock: Arc<dyn Clock>,
    world: Arc<World>,
    memory: Mutex<Memory>,
    reports: Reports,
}

/// What a batch has come to: replies in the order of their time, and whether one of them never comes.
struct Batch {
    answers: Vec<Answer>,
    hangs: bool,
}

/// A reply under way. With `forgets`, its operation is over once it has been told.
struct Answer {
    at: Timestamp,
    id: OperationId,
    reply: Reply,
    forgets: Option<u64>,
}

impl Simulated {
    /// A network in that world. [`SimulatedConfig::check`] is the caller's to call; an unchecked configuration
    /// does no harm, but some of it may have no effect.
    pub fn new(config: SimulatedConfig, clock: Arc<dyn Clock>, world: Arc<World>) -> Self {
        let memory = Mutex::new(Memory::new(&config));
        let reports = Reports::new(Arc::clone(&clock));
        Self { config, clock, world, memory, reports }
    }

    /// Whether a profile is in service, suspended or out of service; `None` until an operation on it was
    /// carried out.
    pub fn state_of(&self, iccid: &Iccid) -> Option<EndState> {
        self.world.lock().service_of(iccid)
    }

    /// The profile that a card has enabled; `None` until it was touched.
    pub fn enabled_on(&self, eid: &Eid) -> Option<Iccid> {
        self.world.lock().enabled_on(eid)
    }

    /// Whether a profile is at that end; `None` where nothing is known of it.
    pub fn shows(&self, iccid: &Iccid, eid: &Eid, end: EndState) -> Option<bool> {
        self.world.lock().shows(iccid, eid, end)
    }

    /// The network changes a profile by itself, and reports it.
    pub fn change_outside(&self, iccid: &Iccid, reported: Reported) {
        self.reports.add(self.clock.now(), Report { iccid: iccid.clone(), reported }, Said::Yes);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what is to be carried out, all at once, and says when who shall hear what.
    fn perform(&self, operations: &[Operation], arrived: Timestamp) -> Batch {
        let mut batch = Batch { answers: Vec::with_capacity(operations.len()), hangs: false };
        let mut memory = self.memory();
        for operation in operations {
            self.perform_one(operation, arrived, &mut memory, &mut batch);
        }
        drop(memory);
        batch.answers.sort_by_key(|answer| answer.at); // stable: the first of two replies stays the first
        batch
    }

    fn perform_one(&self, operation: &Operation, arrived: Timestamp, memory: &mut Memory, batch: &mut Batch) {
        let profile = memory::profile_key(&operation.iccid);
        let key = chance::draw(self.config.seed, (operation.id, profile));
        let past = memory.past_of(key, &operation.iccid);
        let step = self.step(operation, past);
        let at = arrived.plus(self.delay(operation.id, past, step));
        let replies = self.replies_to(step, operation, arrived);
        let postponed = matches!(replies[0], Some(Reply::RetryLater { .. }));
        let settles = step.settles() && !postponed;
        let forgets = if settles && at == arrived {
            memory.forget(key); // told before anything can cut it off
            None
        } else {
            memory.remember(key, past.with_one_more());
            settles.then_some(key)
        };
        let answer = |reply| Answer { at, id: operation.id, reply, forgets };
        batch.answers.extend(replies.into_iter().flatten().map(answer));
        batch.hangs |= step == Step::Hang;
    }

    fn step(&self, operation: &Operation, past: Past) -> Step {
        match past.manner {
            Manner::Scripted(behaviour) => {
                behaviour.step(past.tries, operation.end_state, operation.accepted_as.is_some())
            }
            Manner::ByChance => chance::step(&self.config, operation.id, past.tries),
        }
    }

    /// What a step says, in this order; carries the operation out where the step does.
    fn replies_to(&self, step: Step, operation: &Operation, arrived: Timestamp) -> [Option<Reply>; 2] {
        let carry_out = |enabling| self.world.lock().carry_out(operation, enabling);
        match step {
            Step::CarryOut | Step::CarryOutSlowly => [Some(carry_out(Enabling::Works)), None],
            Step::CarryOutUnanswered => {
                carry_out(Enabling::Works);
                [None, None]
            }
            Step::CarryOutAndAnswerTwice => {
                let reply = carry_out(Enabling::Works);
                [Some(reply.clone()), Some(reply)]
            }
            Step::CarryOutAndContradict => {
                [Some(carry_out(Enabling::Works)), Some(Reply::Rejected { reason: REFUSED.into() })]
            }
            Step::ClaimAlreadySo => {
                carry_out(Enabling::Works);
                [Some(Reply::AlreadySo), None]
            }
            Step::GoBack => [Some(carry_out(Enabling::Fails)), None],
            Step::CarryOutForNow(state, said) => {
                let reported = Reported { state: Some(state), status: None };
                let report = Report { iccid: operation.iccid.clone(), reported };
                self.reports.add(arrived.plus(UNDONE_AFTER), report, said);
                [Some(carry_out(Enabling::Works)), None]
            }
            Step::Reject(reason) => [Some(Reply::Rejected { reason: reason.into() }), None],
            Step::Postpone { after } => [Some(Reply::RetryLater { after }), None],
            Step::AcceptForLater => {
                let handle = operation.accepted_as.clone().unwrap_or_else(|| operation.id.to_string().into());
                [Some(Reply::Pending { handle, ask_after: ASK_AFTER }), None]
            }
            Step::BeUnreachable => [
                Some(Reply::Unavailable(Trouble::Transport("The simulated network is not reachable".into()))),
                None,
            ],
            Step::RefuseCredentials => {
                let words = "The simulated network does not accept the credentials";
                [Some(Reply::Unavailable(Trouble::Credentials(words.into()))), None]
            }
            Step::Lose | Step::Hang => [None, None],
        }
    }

    fn delay(&self, id: OperationId, past: Past, step: Step) -> Duration {
        match step {
            Step::CarryOutSlowly => SLOW,
            _ => self.config.latency.saturating_add(chance::jitter(&self.config, id, past.tries)),
        }
    }

    /// Sends each reply at its time, all from this one future, until nobody listens.
    async fn tell(&self, batch: Batch, arrived: Timestamp, replies: &Replies) {
        let mut now = arrived;
        let mut answers = batch.answers.into_iter().peekable();
        while let Some(next) = answers.peek() {
            if next.at > now {
                self.clock.sleep_until(next.at).await;
                now = self.clock.now();
            }
            let mut over = Vec::new();
            while let Some(answer) = answers.next_if(|answer| answer.at <= now) {
                if replies.send((answer.id, answer.reply)).is_err() {
                    return;
                }
                over.extend(answer.forgets);
            }
            self.forget(&over);
        }
        if batch.hangs {
            replies.closed().await;
        }
    }

    fn forget(&self, over: &[u64]) {
        if over.is_empty() {
            return;
        }
        let mut memory = self.memory();
        for &key in over {
            memory.forget(key);
        }
    }
}

#[async_trait]
impl Carrier for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ends: &EndState::ALL,
            needs_imsi: false,
            in_flight_max: usize::MAX,
            accepts_for_later: true,
        }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        let arrived = self.clock.now();
        let batch = self.perform(&operations, arrived);
        self.tell(batch, arrived, &replies).await;
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        if self.config.unobservable {
            return vec![Observation::NotAble; profiles.len()];
        }
        let world = self.world.lock();
        profiles
            .iter()
            .map(|profile| Observation::Seen(world.observed(&profile.iccid, &profile.eid)))
            .collect()
    }

    async fn report(&self) -> Report {
        loop {
            let (report, said) = self.reports.next().await;
            self.world.lock().change_outside(&report.iccid, report.reported);
            if said == Said::Yes {
                return report;
            }
        }
    }
}
