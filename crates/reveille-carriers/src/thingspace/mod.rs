//! ThingSpace itself, or another Reveille: operations are forwarded in requests like ours, and its callbacks are their
//! outcomes. What no callback tells is asked for.
//!
//! ThingSpace knows no operation, so a request may be made twice: it states an end, and *already so* counts as done.
//! Source: contract §2 to §9.

mod bulk;
mod config;
mod listeners;
mod quota;
mod said;
mod session;
mod verbs;

pub use config::{InvalidThingSpaceConfig, ThingSpaceConfig};
pub use session::Session;

use crate::http::Call;
use crate::side_by_side::side_by_side;
use crate::{
    Capabilities, Carrier, Effect, Health, Logins, Notice, Operation, Replies, Reply, Trouble, Unheard,
};
use async_trait::async_trait;
use bulk::{Bulk, Gathering, Waiting};
use hyper::header::HeaderName;
use ipnet::IpNet;
use listeners::Listeners;
use reveille_domain::{AccountName, Clock};
use reveille_wire::answers::AcceptedAnswer;
use reveille_wire::client::{self, Action, Device, Going, Status};
use said::Standing;
use session::Failed;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};
use verbs::By;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// When an account is tried again that is not this user's there.
const ACCOUNT_REFUSED: Duration = Duration::from_secs(60);

/// When a call is made again that was answered *not now*, without a time.
const NOT_NOW: Duration = Duration::from_secs(5);

/// ThingSpace as one network's carrier.
pub struct ThingSpace {
    shared: Arc<Forwarding>,
}

struct Forwarding {
    session: Arc<Session>,
    accounts: HashMap<AccountName, AccountName>,
    listeners: Listeners,
    username: String,
    password: String,
    from: Vec<IpNet>,
    ask_after: Duration,
    gather: Duration,
    clock: Arc<dyn Clock>,
    gathering: Gathering,
    /// An account that was not accepted lately.
    refused: Mutex<Option<AccountName>>,
}

impl ThingSpace {
    /// ThingSpace by that configuration, which the caller has checked, in that session.
    pub fn new(config: &ThingSpaceConfig, session: Arc<Session>, clock: Arc<dyn Clock>) -> Self {
        let shared = Forwarding {
            session,
            accounts: config.accounts.clone(),
            listeners: Listeners::new(config),
            username: config.callback_username.clone(),
            password: config.callback_password.clone(),
            from: config.callback_from.clone(),
            ask_after: config.ask_after,
            gather: config.gather,
            clock,
            gathering: Gathering::default(),
            refused: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Forwarding {
    /// What that account is called there.
    fn theirs<'a>(&'a self, account: &'a AccountName) -> &'a str {
        self.accounts.get(account).unwrap_or(account).as_str()
    }

    /// Makes requests of everything that is gathered.
    async fn post_all(&self) {
        side_by_side(self.gathering.take().into_iter().map(|bulk| self.post(bulk))).await;
    }

    /// Makes a request of a bulk; of its halves, where something in it is not accepted.
    async fn post(&self, bulk: Bulk) {
        let mut open = vec![bulk];
        while let Some(mut bulk) = open.pop() {
            bulk.waiting.retain(Waiting::is_wanted);
            if bulk.waiting.is_empty() {
                continue;
            }
            let account = self.theirs(&bulk.common.account).to_owned();
            if let Err(failed) = self.listeners.see_to(&self.session, &account).await {
                let reply = self.not_made(&bulk.common.account, failed);
                tell_all(bulk, &reply);
                continue;
            }
            bulk.waiting.retain(Waiting::is_wanted);
            match self.asked_for(&bulk, &account).await {
                Asked::Is(reply) => tell_all(bulk, &reply),
                Asked::As(request) => self.tell_pending(bulk, &request),
                Asked::NotAllOfIt => open.extend(bulk.halves()),
                Asked::NotByAll => open.push(bulk),
            }
        }
    }

    async fn asked_for(&self, bulk: &Bulk, account: &str) -> Asked {
        let path = client::action_path(bulk.common.verb.name);
        let call = Call::post(path.clone(), "application/json", body(bulk, account));
        let is_wanted = || bulk.waiting.iter().all(Waiting::is_wanted);
        let answer = self.session.call_while(&is_wanted, call.with(IDEMPOTENCY_KEY, &bulk.key())).await;
        let ours = &bulk.common.account;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failed::Unwanted) => return Asked::NotByAll,
            Err(failed) => return Asked::Is(self.not_made(ours, failed)),
        };
        if let Some(failed) = self.session.beside_the_point(&answer, &path) {
            return Asked::Is(self.not_made(ours, failed));
        }
        let refusal = client::refusal(&answer.body);
        let many = bulk.waiting.len() > 1;
        match answer.status {
            200..=299 => {
                debug!(targets = bulk.waiting.len(), call = bulk.common.verb.name, "A request was accepted");
                let accepted = serde_json::from_slice::<AcceptedAnswer>(&answer.body).ok();
                let id =
                    accepted.and_then(|accepted| Some(client::request_id(&accepted.request_id)?.to_owned()));
                id.map_or(Asked::Is(Reply::Unknown), Asked::As)
            }
            408 | 425 => Asked::Is(Reply::Unknown),
            413 if many => Asked::NotAllOfIt,
            400 if many && concerns_targets(&refusal.code) => Asked::NotAllOfIt,
            400..=499 => {
                let code = if refusal.code.is_empty() { "REQUEST_FAILED".into() } else { refusal.code };
                Asked::Is(Reply::Relayed { code: code.into(), text: refusal.words.into() })
            }
            _ => Asked::Is(Reply::Unknown),
        }
    }

    /// What a call comes to that was not made, or was answered beside the point.
    fn not_made(&self, account: &AccountName, failed: Failed) -> Reply {
        match failed {
            Failed::Wait(after) => Reply::NotSent { after },
            Failed::Unwanted => Reply::NotSent { after: NOT_NOW },
            Failed::Trouble(trouble) => Reply::Unavailable(trouble),
            Failed::Lost => Reply::Unknown,
            Failed::Account(words) => {
                let theirs = self.theirs(account);
                warn!(
                    account.name = theirs,
                    words,
                    "An account is not accepted at {}",
                    self.session.origin()
                );
                self.refuse(Some(account.clone()));
                Reply::NotSent { after: ACCOUNT_REFUSED }
            }
        }
    }

    fn tell_pending(&self, bulk: Bulk, request: &str) {
        self.refuse(None);
        for Waiting { operation, replies, second, .. } in bulk.waiting {
            let pending = Reply::Pending { handle: said::handle(request, second), ask_after: self.ask_after };
            let _ = replies.send((operation.id, pending)); // whoever has gone asks again
        }
    }

    fn refuse(&self, account: Option<AccountName>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = account;
    }

    /// Asks how a request is going, for those of its operations of which nothing was heard. Gives back those that are
    /// to be asked for anew: what failed without a word, once.
    async fn ask(&self, request: &str, account: &AccountName, asked: Vec<Waiting>) -> Vec<Waiting> {
        let path = client::status_path(self.theirs(account), request);
        let answer = match self.session.call(Call::get(path.clone())).await {
            Ok(answer) => answer,
            Err(failed) => {
                tell_each(asked, &self.not_made(account, failed));
                return Vec::new();
            }
        };
        let status = match answer.status {
            200 => client::status(&answer.body),
            // It knows nothing of it: as if it had failed.
            404 => Some(Status { whole: Going::Failed, of: HashMap::new() }),
            _ => None,
        };
        let Some(status) = status else {
            let failed = self.session.beside_the_point(&answer, &path).unwrap_or(Failed::Lost);
            tell_each(asked, &self.not_made(account, failed));
            return Vec::new();
        };
        let mut anew = Vec::new();
        for mut waiting in asked {
            let reply = match going(&status, &waiting.operation) {
                Going::Success => Reply::Done(Effect::Now),
                Going::Pending => {
                    let handle = said::handle(request, waiting.second);
                    Reply::Pending { handle, ask_after: self.ask_after }
                }
                Going::Failed if waiting.second => Reply::Rejected {
                    reason: format!(
                        "{} says that its request {request} has failed, and has not said why: its callback did not come",
                        self.session.origin()
                    )
                    .into(),
                },
                Going::Failed => {
                    (waiting.second, waiting.instead_of) = (true, Some(request.into()));
                    anew.push(waiting);
                    continue;
                }
            };
            let _ = waiting.replies.send((waiting.operation.id, reply));
        }
        anew
    }
}

/// What became of a request that was to be made.
enum Asked {
    /// It comes to that for all of its operations.
    Is(Reply),
    /// It was accepted under that id.
    As(String),
    /// Something in it was not accepted.
    NotAllOfIt,
    /// Nothing was sent, as some of it is not wanted any more.
    NotByAll,
}

/// Whether a refusal may be because of some of the targets.
fn concerns_targets(code: &str) -> bool {
    code.is_empty()
        || [
            "INPUT_INVALID.Device",
            "INPUT_INVALID.Action",
            "INPUT_INVALID.MaxRequests",
            "REQUEST_FAILED.Device",
        ]
        .iter()
        .any(|of| code.starts_with(of))
}

fn body(bulk: &Bulk, account: &str) -> Vec<u8> {
    let devices = bulk.waiting.iter().map(|Waiting { operation, .. }| match bulk.common.verb.by {
        By::Iccid => Device::profile(&operation.iccid),
        By::IccidAndEid => Device::profile_on(&operation.iccid, &operation.eid),
        By::Eid => Device::whole(&operation.eid),
    });
    let terms = &bulk.common.terms;
    client::to_bytes(&Action {
        devices: devices.collect(),
        account_name: account,
        service_plan: bulk.common.service_plan.as_deref(),
        mdn_zip_code: terms.mdn_zip_code.as_deref(),
        smsr_oid: terms.smsr_oid.as_deref(),
        carrier_name: terms.carrier_name.as_deref(),
        reason_code: terms.reason_code.as_deref(),
        etf_waiver: terms.etf_waiver.then_some(true),
        check_fallback_profile: terms.spares_fallback.then_some(true),
    })
}

/// How an operation is going: as its profile is, or, where the request is for its device, as that is; else as the whole.
fn going(status: &Status, operation: &Operation) -> Going {
    let by_eid = verbs::verb_of(operation).by == By::Eid;
    let of_device = || status.of.get(operation.eid.as_str()).filter(|_| by_eid);
    let known = status.of.get(operation.iccid.as_str()).or_else(of_device);
    match (known, status.whole) {
        (Some(known), _) => *known,
        (None, Going::Pending) => Going::Pending,
        (None, Going::Success | Going::Failed) => Going::Failed, // it was never part of it
    }
}

fn tell_all(bulk: Bulk, reply: &Reply) {
    tell_each(bulk.waiting, reply);
}

fn tell_each(waiting: Vec<Waiting>, reply: &Reply) {
    for Waiting { operation, replies, .. } in waiting {
        let _ = replies.send((operation.id, reply.clone())); // whoever has gone asks again
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(left: &str, right: &str) -> bool {
    let pairs = left.bytes().zip(right.bytes());
    left.len() == right.len() && pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[async_trait]
impl Carrier for ThingSpace {
    fn kind(&self) -> &'static str {
        "thingspace"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ends: verbs::ENDS,
            needs_imsi: false,
            in_flight_max: usize::MAX,
            accepts_for_later: true,
        }
    }

    async fn apply(&self, operations: Vec<Operation>, replies: Replies) {
        let (until_told, mut all_told) = mpsc::channel(1);
        let mut to_post = Vec::new();
        let mut to_ask: HashMap<(Box<str>, AccountName), Vec<Waiting>> = HashMap::new();
        for operation in operations {
            let (handle, heard) = (operation.accepted_as.clone(), operation.heard.clone());
            match (said::standing(handle.as_deref()), heard) {
                (Standing::ToMake { instead_of }, _) => {
                    let (instead_of, replies) = (instead_of.map(Into::into), replies.clone());
                    let until_told = until_told.clone();
                    to_post.push(Waiting { operation, replies, instead_of, second: false, until_told });
                }
                (Standing::Made { request, .. }, Some(notice)) => {
                    let reply = said::reply_to(&notice, request, operation.end_state);
                    let _ = replies.send((operation.id, reply)); // whoever has gone asks again
                }
                (Standing::Made { request, second }, None) => {
                    let key = (request.into(), operation.asked.account.clone());
                    let (replies, until_told) = (replies.clone(), until_told.clone());
                    let waiting = Waiting { operation, replies, instead_of: None, second, until_told };
                    to_ask.entry(key).or_default().push(waiting);
                }
            }
        }
        drop((replies, until_told));
        let anew = Mutex::new(to_post);
        side_by_side(to_ask.into_iter().map(async |((request, account), asked)| {
            let asked = self.shared.ask(&request, &account, asked).await;
            anew.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
        }))
        .await;
        let to_post = anew.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.shared.gathering.add(to_post) {
            let shared = Arc::clone(&self.shared);
            // On its own: what others have added must not go with the call that came first.
            tokio::spawn(async move {
                shared.clock.sleep(shared.gather).await;
                shared.post_all().await;
            });
        }
        let _ = all_told.recv().await; // which nobody sends: it ends with the last of them
    }

    async fn probe(&self) -> Health {
        match self.shared.session.probe().await {
            Err(Failed::Trouble(trouble)) => return Health::Down(trouble),
            Err(Failed::Lost) => {
                let words = format!("{} does not answer.", self.shared.session.origin());
                return Health::Down(Trouble::Transport(words.into()));
            }
            Ok(()) | Err(Failed::Wait(_) | Failed::Unwanted | Failed::Account(_)) => {}
        }
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(account) = refused {
            let words = format!(
                "{} does not accept account {}: give it to the user there, or correct thingspace.accounts.",
                self.shared.session.origin(),
                account.as_str()
            );
            return Health::Degraded(words.into());
        }
        match self.shared.listeners.elsewhere() {
            Some(account) => Health::Degraded(
                format!(
                    "Callbacks of account {account} go to another listener, so outcomes are asked for: deregister it at {}.",
                    self.shared.session.origin()
                )
                .into(),
            ),
            None => Health::Ok,
        }
    }

    fn count_logins_in(&self, logins: Arc<dyn Logins>) {
        self.shared.session.count_logins_in(logins);
    }

    fn hear(&self, from: IpAddr, body: &[u8]) -> Result<Vec<Notice>, Unheard> {
        let Forwarding { from: networks, username, password, .. } = &*self.shared;
        if !networks.is_empty() && !networks.iter().any(|network| network.contains(&from)) {
            return Err(Unheard::Stranger);
        }
        let heard = client::heard(body).ok_or(Unheard::Unreadable)?;
        if !(same(&heard.username, username) & same(&heard.password, password)) {
            return Err(Unheard::Stranger);
        }
        Ok(said::notice_of(heard).into_iter().collect())
    }
}
