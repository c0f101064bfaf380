//! A RADIUS server whose users are in an SQL database, as FreeRADIUS's `rlm_sql` keeps them: a suspended profile is a
//! user with a row `Auth-Type := Reject`, one in service a user without. What was seen of FreeRADIUS 3.2.1 is said
//! where it is relied on.
//!
//! An operation looks first, changes what is not as it shall be, and so is safe to repeat. It leaves every other row
//! alone.

mod config;
mod database;
mod disconnect;
mod packet;
mod postgres;
mod sqlite;
mod tls;
mod username;

pub use config::{DisconnectConfig, InvalidRadiusConfig, RadiusConfig, RadiusDatabase, SharedSecret};
pub use username::{InvalidUsername, Username};

use crate::{Capabilities, Carrier, Effect, Health, Observation, Observed, Operation, Replies, Reply};
use async_trait::async_trait;
use database::{Became, Database, Entry, Failure, Wish};
use disconnect::Disconnect;
use postgres::Postgres;
use reveille_domain::{Clock, EndState, OperationId, Profile};
use sqlite::Sqlite;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::task::JoinSet;
use username::{Missing, Numbers};

/// How many users are changed in one transaction: a commit costs more than all of them do, and others wait for
/// their locks.
const AT_A_TIME: usize = 128;

/// How many operations are of use at a time: each connection has a transaction's worth.
const IN_FLIGHT: usize = 512;

/// The ends that a user can be brought to. The last two are the same here: a profile that is out of service keeps
/// its user, whose rows could not be brought back.
const ENDS: &[EndState] = &[EndState::InService, EndState::Suspended, EndState::OutOfService];

/// One RADIUS server. Safe to share.
pub struct Radius {
    username: Username,
    database: Database,
    disconnect: Option<Arc<Disconnect>>,
}

/// What an operation comes to before anything is sent, where it goes no further.
type Step<T> = Result<T, Reply>;

impl Radius {
    /// A RADIUS server with that database; connects when there is something to say. [`RadiusConfig::check`] is the
    /// caller's to call. `bits` are random ones, from which packets are numbered.
    pub fn new(config: RadiusConfig, clock: Arc<dyn Clock>, bits: u32) -> Self {
        let database = match config.database {
            RadiusDatabase::Postgres(config) => {
                Database::Postgres(Box::new(Postgres::new(*config, Arc::clone(&clock))))
            }
            RadiusDatabase::Sqlite(file) => Database::Sqlite(Sqlite::new(file)),
        };
        let disconnect = config.disconnect.map(|config| Arc::new(Disconnect::new(config, clock, bits)));
        Self { username: config.username, database, disconnect }
    }

    fn wish(&self, operation: &Operation) -> Step<Wish> {
        let refused = refused_at(operation.end_state).ok_or_else(|| rejected(UNABLE))?;
        let (imsi, msisdn) = (operation.imsi.as_ref(), operation.msisdn.as_ref());
        let user = self.username.of(Numbers { imsi, msisdn, iccid: &operation.iccid });
        user.map(|user| Wish { user, refused }).map_err(|missing| rejected(words_of(missing)))
    }

    /// Fulfils wishes in one transaction, and tells what is known of each. Replies to those whose sessions are to be
    /// ended come from `ending`. Where there is no use in going on, the answer is what to say to the others.
    async fn drive(&self, wanted: Vec<Wanted>, replies: &Replies, ending: &mut JoinSet<()>) -> Option<Reply> {
        let wishes = wanted.iter().map(|wanted| wanted.wish.clone()).collect();
        let became = match self.database.fulfil(wishes).await {
            Ok(became) => became,
            Err(failure) => {
                let said = said_of(failure);
                tell_all(&wanted, &said, replies);
                return Some(said).filter(|said| *said != Reply::Unknown);
            }
        };
        let mut to_end = Vec::new();
        for (wanted, became) in wanted.into_iter().zip(became) {
            let reply = reply(became);
            match &self.disconnect {
                // Also where it was so: whoever did it may not have come to that.
                Some(_) if wanted.wish.refused && !matches!(reply, Reply::Rejected { .. }) => {
                    to_end.push((wanted, reply));
                }
                _ => drop(replies.send((wanted.id, reply))),
            }
        }
        if let Some(disconnect) = self.disconnect.as_ref().filter(|_| !to_end.is_empty()) {
            self.end(to_end, disconnect, replies, ending).await;
        }
        None
    }

    /// Ends the sessions of users who are refused, side by side. They are looked for after the change, when no more
    /// can begin.
    async fn end(
        &self,
        of: Vec<(Wanted, Reply)>,
        disconnect: &Arc<Disconnect>,
        replies: &Replies,
        ending: &mut JoinSet<()>,
    ) {
        let users = of.iter().map(|(wanted, _)| wanted.wish.user.clone()).collect();
        // Where they cannot be read, or not soon, the gateway is told the user alone.
        let read = disconnect.in_time(self.database.sessions(users)).await;
        let mut sessions = read.and_then(Result::ok).unwrap_or_default();
        for (Wanted { id, wish }, reply) in of {
            let sessions = sessions.remove(&wish.user).unwrap_or_default();
            let (disconnect, replies) = (Arc::clone(disconnect), replies.clone());
            ending.spawn(async move {
                let ended = disconnect.end(&wish.user, &sessions).await;
                let reply = if ended && reply == LATER { Reply::Done(Effect::Now) } else { reply };
                let _nobody_listens = replies.send((id, reply));
            });
        }
    }
}

/// An operation, as far as the database is concerned.
struct Wanted {
    id: OperationId,
    wish: Wish,
}

/// As many as one transaction takes, none of a user who is among them already.
fn next(waiting: &mut VecDeque<Wanted>) -> Vec<Wanted> {
    let mut users = HashSet::new();
    let mut next = Vec::new();
    while next.len() < AT_A_TIME {
        let Some(wanted) = waiting.pop_front_if(|wanted| users.insert(wanted.wish.user.clone())) else {
            break;
        };
        next.push(wanted);
    }
    next
}

const UNABLE: &str = "This network can give a profile service and take it, and nothing else";
const NO_SUCH_USER: &str = "The RADIUS server has no user with the profile's user name";
const OVERRULED: &str =
    "A group of the profile's user sets Auth-Type, and the RADIUS server would go by that";
const BUSY: &str = "The RADIUS database is busy, or being stopped: work waits for it";
const LATER: Reply = Reply::Done(Effect::AtNextRegistration);
const RETRY: Reply = Reply::RetryLater { after: None };

/// Whether access is refused at that end; nothing where there is no such end here.
fn refused_at(end: EndState) -> Option<bool> {
    match end {
        EndState::InService => Some(false),
        EndState::Suspended | EndState::OutOfService => Some(true),
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

fn words_of(missing: Missing) -> &'static str {
    match missing {
        Missing::Imsi => {
            "The profile's IMSI is not in the inventory, and the RADIUS server's user name has it"
        }
        Missing::Msisdn => {
            "The profile's MSISDN is not in the inventory, and the RADIUS server's user name has it"
        }
    }
}

fn rejected(reason: &str) -> Reply {
    Reply::Rejected { reason: reason.into() }
}

/// What to say of what became of a wish. A change is felt when access is asked for next.
fn reply(became: Became) -> Reply {
    match became {
        Became::Done => LATER,
        Became::AlreadySo => Reply::AlreadySo,
        Became::NoSuchUser => rejected(NO_SUCH_USER),
        Became::Overruled => rejected(OVERRULED),
    }
}

fn said_of(failure: Failure) -> Reply {
    match failure {
        Failure::Unavailable(trouble) => Reply::Unavailable(trouble),
        Failure::NotNow => RETRY,
        Failure::Unknown => Reply::Unknown,
    }
}

fn tell_all(wanted: &[Wanted], reply: &Reply, replies: &Replies) {
    for wanted in wanted {
        let _nobody_listens = replies.send((wanted.id, reply.clone()));
    }
}

/// A refusal that is not heeded is none.
fn observation(entry: Entry) -> Observation {
    if !entry.known {
        return Observation::NoSuchProfile;
    }
    let in_service = if entry.refused && entry.overruled { None } else { Some(!entry.refused) };
    Observation::Seen(Observed { in_service, enabled: None })
}

fn unseen(failure: &Failure) -> Observation {
    match failure {
        Failure::Unavailable(trouble) => Observation::Unavailable(trouble.clone()),
        Failure::NotNow | Failure::Unknown => Observation::NotAble,
    }
}

#[async_trait]
impl Carrier for Radius {
    fn kind(&self) -> &'static str {
        "radius"
    }

    fn capabilities(&self) -> Capabilities {
        let needs_imsi = self.username.needs_imsi();
        Capabilities { ends: ENDS, needs_imsi, in_flight_max: IN_FLIGHT, accepts_for_later: false }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        let mut waiting = VecDeque::with_capacity(operations.len());
        for operation in operations {
            match self.wish(&operation) {
                Ok(wish) => waiting.push_back(Wanted { id: operation.id, wish }),
                Err(reply) => drop(replies.send((operation.id, reply))),
            }
        }
        let mut ending = JoinSet::new();
        while !waiting.is_empty() {
            let next = next(&mut waiting);
            if let Some(said) = self.drive(next, &replies, &mut ending).await {
                tell_all(waiting.make_contiguous(), &said, &replies);
                break;
            }
        }
        while ending.join_next().await.is_some() {}
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        let name = |of: &Profile| {
            let numbers = Numbers { imsi: of.imsi.as_ref(), msisdn: of.msisdn.as_ref(), iccid: &of.iccid };
            self.username.of(numbers).ok()
        };
        let names: Vec<Option<String>> = profiles.iter().map(name).collect();
        let mut entries = Vec::with_capacity(names.len());
        let users: Vec<String> = names.iter().flatten().cloned().collect();
        for users in users.chunks(AT_A_TIME) {
            match self.database.look_up(users.to_vec()).await {
                Ok(found) => entries.extend(found.into_iter().map(observation)),
                Err(failure) => entries.extend(users.iter().map(|_| unseen(&failure))),
            }
        }
        let mut entries = entries.into_iter();
        let next = |name: Option<String>| name.and_then(|_| entries.next()).unwrap_or(Observation::NotAble);
        names.into_iter().map(next).collect()
    }

    async fn probe(&self) -> Health {
        match self.database.probe().await {
            Ok(()) if self.disconnect.is_none() => Health::Ok,
            Ok(()) => match self.database.probe_sessions().await {
                Err(Failure::Unavailable(trouble)) => {
                    Health::Degraded(format!("{trouble}; sessions are ended by user name alone").into())
                }
                Ok(()) | Err(Failure::NotNow | Failure::Unknown) => Health::Ok,
            },
            Err(Failure::Unavailable(trouble)) => Health::Down(trouble),
            Err(Failure::NotNow | Failure::Unknown) => Health::Degraded(BUSY.into()),
        }
    }
}
