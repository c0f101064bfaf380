//! A service activation server, by TM Forum's TMF640: a profile is a service there, in service while its state is
//! `active`. What was seen of real servers is said in docs/carriers/tmf640.md.
//!
//! An operation reads the service, changes its state where it is another, and so is safe to repeat. It leaves
//! everything else of the service alone, and creates and deletes none.

mod config;
mod door;
mod hub;
mod later;
mod said;
mod services;
mod template;
mod under_way;

pub use config::{Access, InvalidTmf640Config, Tmf640Config};

use crate::http::Call;
use crate::side_by_side::side_by_side;
use crate::{
    Capabilities, Carrier, Effect, Health, Notice, Observation, Observed, Operation, Replies, Reply, Trouble,
    Unheard,
};
use async_trait::async_trait;
use door::{Door, Failed};
use hub::Hub;
use hyper::header::IF_MATCH;
use reveille_domain::{Clock, EndState, Profile};
use said::{Handle, Service, Verdict, verdict};
use serde_json::json;
use services::{By, Found, Unread};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use template::{Known, Name, encoded};
use under_way::UnderWay;

/// A JSON merge patch, in the media type that TMF640 has for it.
const MEDIA: &str = "application/json;charset=utf-8";

/// How often a service is read and changed that somebody else changes in between.
const ROUNDS_MAX: usize = 3;

const ENDS: &[EndState] = &[EndState::InService, EndState::Suspended, EndState::OutOfService];

/// One server. Safe to share.
pub struct Tmf640 {
    door: Arc<Door>,
    calls: UnderWay,
    hub: Hub,
    by: By,
    out_of_service: &'static str,
    probe: String,
    ask_after: Duration,
    in_flight: usize,
    late_within: Duration,
    clock: Arc<dyn Clock>,
}

/// What a change was answered.
enum Changed {
    /// That state.
    To(Option<Box<str>>),
    /// Done later, as that monitor will tell.
    Later(Option<Box<str>>),
    /// It is not as it was read.
    Conflict { outdated: bool },
    /// Nothing; it may have been done all the same.
    Perhaps(Option<Duration>),
}

/// What an operation comes to; the one that ends it early is its `Err`.
type Step<T> = Result<T, Reply>;

const DONE: Reply = Reply::Done(Effect::Now);
const RETRY: Reply = Reply::RetryLater { after: None };
const UNABLE: &str = "This network can give a profile service and take it, and nothing else";

impl Tmf640 {
    /// The server of that configuration; connects when there is something to say.
    ///
    /// # Errors
    /// Where [`Tmf640Config::check`] has one.
    pub fn new(config: &Tmf640Config, clock: Arc<dyn Clock>) -> Result<Self, InvalidTmf640Config> {
        config.check()?;
        let template = |text: &str| {
            text.parse().map_err(|_| InvalidTmf640Config::NamesNobody("service_id", text.into(), "{iccid}"))
        };
        let by = match &config.lookup {
            Some(lookup) => By::Query(template(lookup)?),
            None => By::Id(template(&config.service_id)?),
        };
        let service_id = match &by {
            By::Id(template) => Some(template.clone()),
            By::Query(_) => None,
        };
        let door = Arc::new(Door::new(config, Arc::clone(&clock))?);
        Ok(Self {
            calls: UnderWay::new(Arc::clone(&door), Arc::clone(&clock), config.in_flight),
            door,
            hub: Hub::new(config, service_id, Arc::clone(&clock)),
            by,
            out_of_service: if config.out_of_service == TERMINATED { TERMINATED } else { INACTIVE },
            probe: config.probe.clone(),
            ask_after: config.ask_after,
            in_flight: config.in_flight,
            late_within: config.late_within,
            clock,
        })
    }

    fn service(&self, id: &str) -> String {
        self.door.path(&format!("/service/{}", encoded(id)))
    }

    /// Performs one waiting operation after the other, until there are no more or nobody listens.
    async fn work(&self, waiting: &Mutex<std::vec::IntoIter<Operation>>, replies: &Replies) {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(operation) = next() {
            let handle = operation.accepted_as.as_deref().and_then(Handle::of);
            let reply = match handle {
                Some(handle) => self.ask(&operation, handle).await,
                None => self.bring(&operation).await,
            };
            let (Ok(reply) | Err(reply)) = reply;
            if replies.send((operation.id, reply)).is_err() {
                return;
            }
        }
    }

    /// Brings a service to its end, by as many readings as it takes to know.
    async fn bring(&self, operation: &Operation) -> Step<Reply> {
        let end = self.end(operation.end_state).ok_or_else(|| rejected(UNABLE))?;
        let mut found = self.read_for_change(operation).await?;
        for _ in 0..ROUNDS_MAX {
            if end.is(&found.state) {
                return Ok(Reply::AlreadySo);
            }
            let changed = self.change(&found, end).await?;
            let doubted = operation.begun_before && found.etag.is_none();
            match &changed {
                Changed::Later(monitor) => return Ok(self.accepted(operation, found.id, monitor.clone())),
                Changed::To(Some(state)) if end.is(state) && !doubted => return Ok(DONE),
                _ => {}
            }
            found = self.read(&operation.into()).await.map_err(|_| Reply::Unknown)?;
            let is_so = end.is(&found.state);
            match changed {
                Changed::Conflict { .. } if is_so => return Ok(Reply::AlreadySo),
                _ if is_so => return Ok(DONE),
                Changed::Conflict { outdated: true } => {}
                Changed::Conflict { outdated: false } => return Err(RETRY),
                Changed::Perhaps(after) => return Err(Reply::RetryLater { after }),
                Changed::To(Some(state)) if end.is(&state) => return Err(RETRY), // something came between
                Changed::To(_) | Changed::Later(_) => return Ok(self.accepted(operation, found.id, None)),
            }
        }
        Err(RETRY)
    }

    /// Reads a service that is to be changed, when no change of ours is under way any more, nor one that was cut off
    /// is likely to be: an entity tag outdates such a one.
    async fn read_for_change(&self, operation: &Operation) -> Step<Found> {
        let known = Known::from(operation);
        let mut found = self.read(&known).await?;
        if self.calls.ended(&found.id).await {
            found = self.read(&known).await?;
        }
        if operation.begun_before && found.etag.is_none() && !self.late_within.is_zero() {
            self.clock.sleep(self.late_within).await;
            found = self.read(&known).await?;
        }
        Ok(found)
    }

    async fn change(&self, found: &Found, end: End) -> Step<Changed> {
        let body = json!({ "state": end.state }).to_string().into_bytes();
        let mut call = Call::patch(self.service(&found.id), MEDIA, body);
        if let Some(etag) = &found.etag {
            call = call.with(IF_MATCH, etag);
        }
        let answer = self.calls.change(&found.id, call).await.map_err(|failed| match failed {
            Failed::Trouble(trouble) => Reply::Unavailable(trouble),
            Failed::Lost => Reply::Unknown,
        })?;
        match verdict(answer.status) {
            Verdict::Taken if answer.status == 202 => Ok(Changed::Later(said::monitor_in(&answer))),
            Verdict::Taken => {
                Ok(Changed::To(said::json(&answer.body).and_then(|value| Service::of(&value).state)))
            }
            Verdict::Conflict => Ok(Changed::Conflict { outdated: answer.status == 412 }),
            Verdict::Later => Err(Reply::RetryLater { after: answer.retry_after }),
            Verdict::PerhapsDone => Ok(Changed::Perhaps(answer.retry_after)),
            Verdict::NoSuch | Verdict::Refused | Verdict::NotIt => {
                Err(rejected(&refused(answer.status, &said::words(&answer.body))))
            }
        }
    }

    /// How a service is at that end; nothing where there is no such end here.
    fn end(&self, end: EndState) -> Option<End> {
        match end {
            EndState::InService => Some(End { state: ACTIVE, or: ACTIVE }),
            EndState::Suspended => Some(End { state: INACTIVE, or: INACTIVE }),
            EndState::OutOfService => Some(End { state: self.out_of_service, or: TERMINATED }),
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

    async fn observed(&self, profile: &Profile) -> Observation {
        match self.read(&profile.into()).await {
            Ok(found) => {
                let in_service = Some(found.state.eq_ignore_ascii_case(ACTIVE));
                Observation::Seen(Observed { in_service, enabled: None })
            }
            Err(Unread::NoSuch(_)) => Observation::NoSuchProfile,
            Err(Unread::Is(Reply::Unavailable(trouble))) => Observation::Unavailable(trouble),
            Err(Unread::Is(_)) => Observation::NotAble,
        }
    }
}

const ACTIVE: &str = "active";
const INACTIVE: &str = "inactive";
const TERMINATED: &str = "terminated";

/// The state that is asked for, and another that is as good.
#[derive(Clone, Copy)]
struct End {
    state: &'static str,
    or: &'static str,
}

impl End {
    fn is(self, state: &str) -> bool {
        state.eq_ignore_ascii_case(self.state) || state.eq_ignore_ascii_case(self.or)
    }
}

fn rejected(reason: &str) -> Reply {
    Reply::Rejected { reason: reason.into() }
}

fn refused(status: u16, words: &str) -> String {
    format!("The network refuses: {status} {words}").trim_end().to_owned()
}

#[async_trait]
impl Carrier for Tmf640 {
    fn kind(&self) -> &'static str {
        "tmf640"
    }

    fn capabilities(&self) -> Capabilities {
        let (By::Id(template) | By::Query(template)) = &self.by;
        Capabilities {
            ends: ENDS,
            needs_imsi: template.uses(Name::Imsi),
            in_flight_max: self.in_flight,
            accepts_for_later: true,
        }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        self.hub.see_to(&self.door).await;
        let at_a_time = self.in_flight.min(operations.len());
        let waiting = Mutex::new(operations.into_iter());
        side_by_side((0..at_a_time).map(|_| self.work(&waiting, &replies))).await;
    }

    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        let waiting = Mutex::new(profiles.iter().enumerate());
        let seen = Mutex::new(vec![Observation::NotAble; profiles.len()]);
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let look = || async {
            while let Some((at, profile)) = next() {
                let observation = self.observed(profile).await;
                seen.lock().unwrap_or_else(PoisonError::into_inner)[at] = observation;
            }
        };
        side_by_side((0..self.in_flight.min(profiles.len())).map(|_| look())).await;
        seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn probe(&self) -> Health {
        let path = self.door.path(&self.probe);
        let trouble = match self.door.call(Call::get(path.clone())).await {
            Ok(answer) => match verdict(answer.status) {
                Verdict::Taken | Verdict::Later => None,
                _ => Some(self.door.not_it(answer.status, &path)),
            },
            Err(failed) => Some(failed),
        };
        match trouble {
            Some(Failed::Trouble(trouble)) => Health::Down(trouble),
            Some(Failed::Lost) => {
                Health::Down(Trouble::Transport(format!("{} does not answer.", self.door.origin()).into()))
            }
            None => match self.hub.trouble() {
                Some(words) => Health::Degraded(
                    format!("Events are not registered, so outcomes are asked for: {words}. Correct tmf640.callback_url.")
                        .into(),
                ),
                None => Health::Ok,
            },
        }
    }

    fn hear(&self, from: IpAddr, body: &[u8]) -> Result<Vec<Notice>, Unheard> {
        self.hub.hear(from, body)
    }
}
