//! An Osmocom HLR, driven over its control interface: a profile in service is a subscriber with its services
//! granted, a suspended one a subscriber without. What was seen of osmo-hlr 1.5.0 is said where it is relied on.
//!
//! An operation reads what the HLR has, sets what is not as it shall be, and so is safe to repeat. It leaves the
//! subscriber, its keys and the services that are not configured alone.

mod config;
mod ctrl;
mod gsup;
mod ipa;
mod kick;
mod subscriber;
mod tcp;
#[cfg(test)]
mod tests;

pub use config::{InvalidOsmoHlrConfig, OsmoHlrConfig, Service, UnknownService};

use crate::side_by_side::side_by_side;
use crate::{
    Capabilities, Carrier, Effect, Health, Observation, Observed, Operation, Replies, Reply, Trouble,
};
use async_trait::async_trait;
use ctrl::{Answer, Ctrl, Heard, IN_FLIGHT, Unheard};
use kick::Kick;
use reveille_domain::{Clock, EndState, Imsi, Profile};
use std::sync::{Arc, Mutex, PoisonError};
use subscriber::{Subscriber, UNKNOWN};
use tcp::Peer;

/// How many operations of one call are under way at a time: enough to keep the connection full, and few enough
/// that what is cut off midway is little.
const AT_A_TIME: usize = 32;

/// The ends that a subscriber can be brought to. The last two are the same here: a profile that is out of service
/// keeps its subscriber, since its keys could not be brought back.
const ENDS: &[EndState] = &[EndState::InService, EndState::Suspended, EndState::OutOfService];

/// One HLR. Safe to share; all calls use one connection.
pub struct OsmoHlr {
    services: Vec<Service>,
    ctrl: Ctrl,
    kick: Option<Kick>,
}

/// What an operation comes to; the one that ends it early is its `Err`.
type Step<T> = Result<T, Reply>;

impl OsmoHlr {
    /// An HLR at that address; connects when there is something to say. [`OsmoHlrConfig::check`] is the caller's
    /// to call. `bits` are random ones, from which follows the name that serving nodes hear, so that no two
    /// processes have the same.
    pub fn new(config: OsmoHlrConfig, clock: Arc<dyn Clock>, bits: u32) -> Self {
        let peer = |address, what, key| Peer { address, what, key, clock: Arc::clone(&clock) };
        let ctrl = Ctrl::new(peer(config.address, "The HLR's control interface", "address"));
        let kick = config.kick.map(|address| {
            Kick::new(peer(address, "The HLR's GSUP port", "kick"), config.kick_timeout, bits)
        });
        Self { services: config.services, ctrl, kick }
    }

    /// Performs one waiting operation after the other, until there are no more or nobody listens.
    async fn work(&self, waiting: &Mutex<std::vec::IntoIter<Operation>>, replies: &Replies) {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(operation) = next() {
            let reply = self.perform(&operation).await;
            if replies.send((operation.id, reply)).is_err() {
                return;
            }
        }
    }

    async fn perform(&self, operation: &Operation) -> Reply {
        match self.bring(operation).await {
            Ok(reply) | Err(reply) => reply,
        }
    }

    /// Brings a subscriber to its end. Where it may have been begun before, everything that was sent then is
    /// done before anything else is looked at, so that it cannot come last.
    async fn bring(&self, operation: &Operation) -> Step<Reply> {
        let granted = granted_at(operation.end_state).ok_or_else(|| rejected(UNABLE))?;
        let imsi = operation.imsi.as_ref().ok_or_else(|| rejected(NO_IMSI))?;
        if operation.begun_before {
            self.ctrl.fence().await.map_err(unavailable)?;
        }
        let found = self.look_up(imsi).await?;
        let wrong: Vec<Service> = self.of_ours(|service| found.has(service) != granted);
        if wrong.is_empty() {
            self.effect(imsi, granted).await; // whoever set it may not have come to that
            return Ok(Reply::AlreadySo);
        }
        self.grant(imsi, &wrong, granted).await?;
        if operation.begun_before {
            let left = self.look_up(imsi).await.map_err(|_| Reply::Unknown)?;
            if !self.of_ours(|service| left.has(service) != granted).is_empty() {
                return Err(RETRY);
            }
        }
        Ok(Reply::Done(self.effect(imsi, granted).await))
    }

    /// When a change is felt: now, where service was taken and everybody who serves the subscriber has let go,
    /// or nobody serves it. Who does is asked after the change, when no more can come.
    async fn effect(&self, imsi: &Imsi, granted: bool) -> Effect {
        let Some(kick) = self.kick.as_ref().filter(|_| !granted) else { return Effect::AtNextRegistration };
        let Ok(found) = self.look_up(imsi).await else { return Effect::AtNextRegistration };
        let nodes = found.nodes(&self.services);
        let gone = nodes.is_empty() || kick.let_go(imsi, &nodes).await;
        if gone { Effect::Now } else { Effect::AtNextRegistration }
    }

    fn of_ours(&self, is: impl Fn(Service) -> bool) -> Vec<Service> {
        self.services.iter().copied().filter(|service| is(*service)).collect()
    }

    /// What the HLR has of a subscriber; nothing has been changed where that cannot be told.
    async fn look_up(&self, imsi: &Imsi) -> Step<Subscriber> {
        match self.ctrl.ask(subscriber::look_up(imsi)).await {
            Ok(Answer::Value(info)) => Subscriber::parse(&info).ok_or(RETRY),
            Ok(Answer::Refused(words)) if words == UNKNOWN => Err(rejected(NO_SUBSCRIBER)),
            Ok(Answer::Refused(_)) => Err(RETRY),
            Err(unheard) => Err(unavailable(unheard)),
        }
    }

    /// Grants these services, or takes them: all of them, or it is said what is known.
    async fn grant(&self, imsi: &Imsi, services: &[Service], granted: bool) -> Step<()> {
        let mut queued = Vec::with_capacity(services.len());
        for service in services {
            queued.push(self.ctrl.queue(subscriber::grant(imsi, *service, granted)).await);
        }
        let mut heard = Vec::with_capacity(queued.len());
        for each in queued {
            heard.push(match each {
                Ok(queued) => queued.heard().await,
                Err(unheard) => Err(unheard),
            });
        }
        said_of(heard)
    }

    fn observation(&self, heard: Heard) -> Observation {
        match heard {
            Ok(Answer::Value(info)) => Subscriber::parse(&info)
                .map_or(Observation::NotAble, |found| Observation::Seen(self.observed(&found))),
            Ok(Answer::Refused(words)) if words == UNKNOWN => Observation::NoSuchProfile,
            Ok(Answer::Refused(_)) => Observation::NotAble,
            Err(unheard) => Observation::Unavailable(trouble(unheard)),
        }
    }

    /// In service with all of our services, out of it with none; anything between is neither.
    fn observed(&self, found: &Subscriber) -> Observed {
        let has = self.of_ours(|service| found.has(service)).len();
        let in_service = match has {
            0 => Some(false),
            all if all == self.services.len() => Some(true),
            _ => None,
        };
        Observed { in_service, enabled: None }
    }
}

const UNABLE: &str = "This network can give a profile service and take it, and nothing else";
const NO_IMSI: &str =
    "The profile's IMSI is not in the inventory, and this network knows profiles by nothing else";
const NO_SUBSCRIBER: &str = "The network has no subscriber with the profile's IMSI";
const RETRY: Reply = Reply::RetryLater { after: None };

/// Whether a subscriber has its services at that end; nothing where there is no such end here.
fn granted_at(end: EndState) -> Option<bool> {
    match end {
        EndState::InService => Some(true),
        EndState::Suspended | EndState::OutOfService => Some(false),
        EndState::OnPlan
        | EndState::Enabled
        | EndState::Disabled
        | EndState::InServiceAndEnabled
        | EndState::Downloaded
        | EndState::DownloadedAndEnabled
        | EndState::Deleted
        | EndState::Fallback => None,
    }
}

fn rejected(reason: &str) -> Reply {
    Reply::Rejected { reason: reason.into() }
}

fn unavailable(unheard: Unheard) -> Reply {
    Reply::Unavailable(trouble(unheard))
}

fn trouble(unheard: Unheard) -> Trouble {
    Trouble::Transport(unheard.into_words())
}

/// What to make of what was said to changes that belong together. An error is one of the database's, which the
/// HLR does not name: the subscriber was there a moment ago. Nothing of ours is done then, so it is tried again.
fn said_of(heard: Vec<Heard>) -> Step<()> {
    let all = heard.len();
    let done = heard.iter().filter(|said| matches!(said, Ok(Answer::Value(_)))).count();
    let lost = heard.iter().any(|said| matches!(said, Err(Unheard::Lost(_))));
    if done == all {
        return Ok(());
    }
    if lost || done > 0 {
        return Err(Reply::Unknown);
    }
    let unsent = heard.into_iter().find_map(Result::err);
    Err(unsent.map_or(RETRY, unavailable))
}

#[async_trait]
impl Carrier for OsmoHlr {
    fn kind(&self) -> &'static str {
        "osmo-hlr"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ends: ENDS, needs_imsi: true, in_flight_max: IN_FLIGHT, accepts_for_later: false }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        let waiting = Mutex::new(operations.into_iter());
        side_by_side((0..AT_A_TIME).map(|_| self.work(&waiting, &replies))).await;
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        let mut queued = Vec::with_capacity(profiles.len());
        for profile in profiles {
            queued.push(match &profile.imsi {
                Some(imsi) => Some(self.ctrl.queue(subscriber::look_up(imsi)).await),
                None => None,
            });
        }
        let mut observations = Vec::with_capacity(queued.len());
        for each in queued {
            observations.push(match each {
                Some(Ok(queued)) => self.observation(queued.heard().await),
                Some(Err(unheard)) => Observation::Unavailable(trouble(unheard)),
                None => Observation::NotAble,
            });
        }
        observations
    }

    async fn probe(&self) -> Health {
        if let Err(unheard) = self.ctrl.ask(Ctrl::harmless()).await {
            return Health::Down(trouble(unheard));
        }
        let Some(kick) = &self.kick else { return Health::Ok };
        kick.ping().await.map_or_else(Health::Degraded, |()| Health::Ok)
    }
}
