//! The subscriber database of Open5GS, or of NextEPC before it: a profile in service is a subscriber whom the HSS
//! finds and does not call barred. What was seen of nextepc-hss 0.3.10 is said where it is relied on.
//!
//! An operation reads how the subscriber is and writes once, on the condition that nobody has written since: so
//! each write of ours has a number, and what was sent earlier and comes later does nothing. It leaves all that the
//! operator has written alone, but for the fields that its mode is about.

mod config;
mod database;
mod subscriber;
#[cfg(test)]
mod tests;

pub use config::{InvalidOpen5gsConfig, Mode, Open5gsConfig, UnknownMode};

use crate::side_by_side::side_by_side;
use crate::{Capabilities, Carrier, Effect, Health, Observation, Observed, Operation, Replies, Reply};
use async_trait::async_trait;
use database::{Database, Undone};
use mongodb::bson::Document;
use reveille_domain::{Clock, EndState, Imsi, OperationId, Profile};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use subscriber::{ComesTo, Found, Subscriber};
use tracing::warn;

/// How many operations of one call are under way at a time, each with a connection, and how many of them are looked
/// up at once. A slow one holds up those beside it in its piece, and no other.
const AT_A_TIME: usize = 64;
const PIECE: usize = 16;

/// How many profiles are observed by one question.
const OBSERVED_AT_A_TIME: usize = 512;

/// The ends that a subscriber can be brought to. The last two are the same here: a profile that is out of service
/// keeps its subscriber, since its keys could not be brought back.
const ENDS: &[EndState] = &[EndState::InService, EndState::Suspended, EndState::OutOfService];

/// One database of subscribers. Safe to share.
pub struct Open5gs {
    database: Database,
    mode: Mode,
    barring: i32,
    cancel_location: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// What is needed of an operation to send it.
struct Sendable {
    id: OperationId,
    imsi: Imsi,
    granted: bool,
}

impl Open5gs {
    /// A database at that address; connects when there is something to ask. [`Open5gsConfig::check`] is the caller's
    /// to call.
    pub fn new(config: Open5gsConfig, clock: Arc<dyn Clock>) -> Self {
        let Open5gsConfig { mode, barring, cancel_location, .. } = config;
        let database = Database::new(config, AT_A_TIME as u32);
        Self { database, mode, barring, cancel_location, clock }
    }

    /// Performs one waiting piece after the other, until there are no more or nobody listens. Where one cannot be
    /// looked up, those that wait cannot either, and are told so at once.
    async fn work(&self, waiting: &Mutex<Vec<Sendable>>, replies: &Replies) {
        loop {
            let piece = taken(waiting, PIECE);
            if piece.is_empty() {
                return;
            }
            let imsis: Vec<&Imsi> = piece.iter().map(|one| &one.imsi).collect();
            match self.database.look_up(&imsis).await {
                Ok(found) => {
                    let operations = piece.iter().zip(&found);
                    let each = |(one, found)| async move { tell(replies, one, self.bring(one, found).await) };
                    side_by_side(operations.map(each)).await;
                }
                Err(trouble) => {
                    for one in piece.iter().chain(&taken(waiting, usize::MAX)) {
                        tell(replies, one, Reply::Unavailable(trouble.clone()));
                    }
                }
            }
            if replies.is_closed() {
                return;
            }
        }
    }

    /// Brings a subscriber that was found so to its end. It is written to even where it is there already, so that
    /// nothing which an earlier try has sent can be done from now on.
    async fn bring(&self, one: &Sendable, found: &Found) -> Reply {
        let of = match found {
            Found::Nobody => return rejected(NO_SUBSCRIBER),
            Found::One(of) => of,
            Found::Twice(of) => return self.write(of, of.touch(), || rejected(TWICE)).await,
        };
        let step = match one.granted {
            true => of.give(&one.imsi),
            false => of.take(&one.imsi, self.mode, self.barring),
        };
        let id = one.id;
        match step.comes_to {
            ComesTo::DoneAgain => {
                warn!(operation.id = %id, "Somebody else has given what Reveille had taken; {id} takes it again");
            }
            ComesTo::TakenByOthers => {
                warn!(operation.id = %id, "Somebody else has taken what {id} is to give; it is left to them");
            }
            ComesTo::Done | ComesTo::AlreadySo => {}
        }
        let takes = !one.granted && reply_to(step.comes_to) == DONE;
        if let Some(ahead) = self.cancel_location.filter(|_| takes) {
            return self.cancel_and_take(one, of, ahead).await;
        }
        self.write(of, step.change, || reply_to(step.comes_to)).await
    }

    /// Has a subscriber detached before it is hidden: once it is hidden, the HSS can no longer say whom to detach.
    /// It has to see the request change, and takes a moment to look.
    async fn cancel_and_take(&self, one: &Sendable, found: &Subscriber, ahead: Duration) -> Reply {
        let mut of = found.clone();
        let mut begun = false;
        let asks: &[bool] = if of.cancel_is_asked_for() { &[false, true] } else { &[true] };
        for asked_for in asks {
            let (change, next) = of.cancel(*asked_for);
            match self.write(&of, change, || DONE).await {
                DONE => of = next,
                Reply::Unavailable(_) if begun => return Reply::Unknown,
                other => return other,
            }
            begun = true;
        }
        self.clock.sleep(ahead).await;
        let step = of.take(&one.imsi, self.mode, self.barring);
        match self.write(&of, step.change, || DONE).await {
            Reply::Unavailable(_) => Reply::Unknown,
            reply => reply,
        }
    }

    /// Writes, and says what that comes to; another time where somebody has written since it was looked up.
    async fn write(&self, of: &Subscriber, change: Document, written: impl FnOnce() -> Reply) -> Reply {
        match self.database.change(of, change).await {
            Ok(true) => written(),
            Ok(false) | Err(Undone::Refused) => RETRY,
            Err(Undone::Unsent(trouble)) => Reply::Unavailable(trouble),
            Err(Undone::Doubtful) => Reply::Unknown,
        }
    }
}

const UNABLE: &str = "This network can give a profile service and take it, and nothing else";
const NO_IMSI: &str =
    "The profile's IMSI is not in the inventory, and this network knows profiles by nothing else";
const NO_SUBSCRIBER: &str = "The network has no subscriber with the profile's IMSI";
const TWICE: &str = "The network has the profile's subscriber twice, as it was made anew while it was suspended: \
                     its operator has to remove one";
const TAKEN_BY_OTHERS: &str = "The network's operator has taken the profile's access by other means, and has to \
                               give it back the same way";
const RETRY: Reply = Reply::RetryLater { after: None };
const DONE: Reply = Reply::Done(Effect::AtNextRegistration);

fn reply_to(comes_to: ComesTo) -> Reply {
    match comes_to {
        ComesTo::Done | ComesTo::DoneAgain => DONE,
        ComesTo::AlreadySo => Reply::AlreadySo,
        ComesTo::TakenByOthers => rejected(TAKEN_BY_OTHERS),
    }
}

/// What is needed to send an operation; else why it never is.
fn sendable(operation: &Operation) -> Result<Sendable, Reply> {
    let granted = granted_at(operation.end_state).ok_or_else(|| rejected(UNABLE))?;
    let imsi = operation.imsi.clone().ok_or_else(|| rejected(NO_IMSI))?;
    Ok(Sendable { id: operation.id, imsi, granted })
}

/// Whether a subscriber has access at that end; nothing where there is no such end here.
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

fn tell(replies: &Replies, one: &Sendable, reply: Reply) {
    let _nobody_listens = replies.send((one.id, reply));
}

/// The next of those that wait, at most so many.
fn taken(waiting: &Mutex<Vec<Sendable>>, at_most: usize) -> Vec<Sendable> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let many = waiting.len().min(at_most);
    waiting.drain(..many).collect()
}

#[async_trait]
impl Carrier for Open5gs {
    fn kind(&self) -> &'static str {
        "open5gs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ends: ENDS, needs_imsi: true, in_flight_max: AT_A_TIME, accepts_for_later: false }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        let mut waiting = Vec::with_capacity(operations.len());
        for operation in operations {
            match sendable(&operation) {
                Ok(one) => waiting.push(one),
                Err(reply) => drop(replies.send((operation.id, reply))),
            }
        }
        let waiting = Mutex::new(waiting);
        side_by_side((0..AT_A_TIME / PIECE).map(|_| self.work(&waiting, &replies))).await;
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        let mut observations = Vec::with_capacity(profiles.len());
        for some in profiles.chunks(OBSERVED_AT_A_TIME) {
            let imsis: Vec<&Imsi> = some.iter().filter_map(|profile| profile.imsi.as_ref()).collect();
            let looked_up = self.database.look_up(&imsis).await;
            let mut found = looked_up.map(Vec::into_iter);
            observations.extend(some.iter().map(|profile| match (&profile.imsi, &mut found) {
                (None, _) => Observation::NotAble,
                (Some(_), Err(trouble)) => Observation::Unavailable(trouble.clone()),
                (Some(_), Ok(found)) => found.next().map_or(Observation::NotAble, observation),
            }));
        }
        observations
    }

    async fn probe(&self) -> Health {
        self.database.ask().await.map_or_else(Health::Down, |()| Health::Ok)
    }
}

fn observation(found: Found) -> Observation {
    match found {
        Found::Nobody => Observation::NoSuchProfile,
        Found::One(of) | Found::Twice(of) => {
            Observation::Seen(Observed { in_service: Some(of.is_in_service()), enabled: None })
        }
    }
}
