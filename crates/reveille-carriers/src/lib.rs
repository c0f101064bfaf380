//! Southbound: what really gives or takes a profile's network access, behind one port.
//!
//! A carrier states end states, so repeating an operation is safe. It knows no store, no callbacks and no
//! order: the engine sees to it that one eUICC never has two operations under way, to deadlines, and to
//! asking again.

pub mod conformance;
mod http;
pub mod open5gs;
pub mod osmo_hlr;
pub mod radius;
mod side_by_side;
pub mod simulated;
pub mod thingspace;
pub mod tmf640;

use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Eid, EndState, Iccid, Imsi, Msisdn, OperationId, Profile, ProfileState, Reported,
    Role, Terms,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// One operation: bring this profile to that end, under an id that every repetition shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The same for every attempt, restart and node.
    pub id: OperationId,
    /// The profile, as the inventory knows it.
    pub iccid: Iccid,
    /// The eUICC that it is on.
    pub eid: Eid,
    /// What its network knows it by, where the inventory has it.
    pub imsi: Option<Imsi>,
    /// Its phone number, where the inventory has it.
    pub msisdn: Option<Msisdn>,
    /// What it is on its eUICC.
    pub role: Role,
    /// What was asked for, and by which account: for a network that takes requests like ours.
    pub asked: Arc<Asked>,
    /// How it shall be.
    pub end_state: EndState,
    /// The service plan that the request names: what `EndState::OnPlan` means, a wish beside the others.
    pub service_plan: Option<Box<str>>,
    /// Where the card is touched: every profile on the eUICC, this one among them, as they are recorded.
    pub card: Vec<Profile>,
    /// Whether an earlier try, or another process, may have begun an operation on it that nobody heard the end of:
    /// what such a one has sent may still be on its way.
    pub begun_before: bool,
    /// The name under which the carrier has accepted it before: it is to be asked about, not asked for again.
    pub accepted_as: Option<Box<str>>,
    /// What the other side has sent of it by itself since then: the text of a `Notice`.
    pub heard: Option<Box<str>>,
}

/// What all operations of one request share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The account whose profiles they are.
    pub account: AccountName,
    /// What the request asked for.
    pub action: Action,
    /// What it said besides.
    pub terms: Terms,
}

/// When a change is felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is in force.
    Now,
    /// A device that is attached goes on as it was until it registers with the network again.
    AtNextRegistration,
}

/// What a carrier said of one operation. Silence is an answer too, so there is no `Err`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is so now, and was not before.
    Done(Effect),
    /// It was so already. Counts as done: whether a repetition or somebody else did it cannot be told.
    AlreadySo,
    /// Refused for good, in the carrier's words, fit to be shown to a customer.
    Rejected {
        /// Why.
        reason: Box<str>,
    },
    /// Refused for good by one that answers as we do: its code and its text are told on as they are.
    Relayed {
        /// The code, without the service name before it.
        code: Box<str>,
        /// The text.
        text: Box<str>,
    },
    /// Refused for good after the card had tried: it went back, and has that profile enabled now.
    RolledBack {
        /// Why.
        reason: Box<str>,
        /// What the card has enabled.
        enabled: Option<Iccid>,
    },
    /// Not now; nothing was done. A card that cannot be reached is such a case.
    RetryLater {
        /// When to come again, where the carrier says so.
        after: Option<Duration>,
    },
    /// Accepted, and not done yet. The name is kept, also across a restart, and comes back with the operation.
    Pending {
        /// What the carrier calls it; behind a `#`, what the adapter wants to remember of it besides.
        handle: Box<str>,
        /// When to ask what became of it.
        ask_after: Duration,
    },
    /// Nothing was sent, and nobody was asked: it has to wait so long for its turn.
    NotSent {
        /// When to come again.
        after: Duration,
    },
    /// Nothing was sent, for the carrier is in trouble of its own; no profile is to blame.
    Unavailable(Trouble),
    /// Sent, and no telling what became of it: the engine drives it again under the same id.
    Unknown,
}

/// What keeps a carrier from being used, in words for its operator: who was asked, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached.
    Transport(Box<str>),
    /// It does not accept who we say we are. Work waits until that is put right, however long.
    Credentials(Box<str>),
}

impl Trouble {
    /// The words.
    pub fn words(&self) -> &str {
        match self {
            Self::Transport(words) | Self::Credentials(words) => words,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

impl Reply {
    /// It in one word, for the timeline and the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done(Effect::Now) => "done",
            Self::Done(Effect::AtNextRegistration) => "done_at_next_registration",
            Self::AlreadySo => "already_so",
            Self::Rejected { .. } | Self::Relayed { .. } => "rejected",
            Self::RolledBack { .. } => "rolled_back",
            Self::RetryLater { .. } => "retry_later",
            Self::Pending { .. } => "pending",
            Self::NotSent { .. } => "not_sent",
            Self::Unavailable(_) => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

/// What an adapter's network can do; the same as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The ends that it knows. A request that needs others is refused before it is accepted.
    pub ends: &'static [EndState],
    /// Whether it knows profiles by their IMSI: one without fails at its turn.
    pub needs_imsi: bool,
    /// How many operations it has use for at a time, whatever is configured.
    pub in_flight_max: usize,
    /// Whether it may accept operations for later.
    pub accepts_for_later: bool,
}

/// How an adapter's network is, asked without changing anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Ok,
    /// It answers, and something beside it does not.
    Degraded(Box<str>),
    /// It cannot be used.
    Down(Trouble),
}

/// What a network said of a profile when it was asked, nothing being changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It knows the profile.
    Seen(Observed),
    /// It has no such profile.
    NoSuchProfile,
    /// It could not be asked.
    Unavailable(Trouble),
    /// It cannot tell.
    NotAble,
}

/// How a profile truly is, as far as its network can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether it has network access.
    pub in_service: Option<bool>,
    /// Whether it is its card's enabled one.
    pub enabled: Option<bool>,
}

impl Observed {
    /// That of it which is not as recorded; nothing where all that can be told is.
    pub fn differing_from(self, profile: &Profile) -> Option<Self> {
        let active = profile.state == ProfileState::Active;
        let differing = Self {
            in_service: self.in_service.filter(|is| *is != active),
            enabled: self.enabled.filter(|is| *is != profile.status.is_enabled()),
        };
        (differing != Self::default()).then_some(differing)
    }

    /// Whether the profile is at that end; nothing where that cannot be told.
    pub fn shows(self, end: EndState) -> Option<bool> {
        let not = |is: bool| !is;
        match end {
            EndState::InService => self.in_service,
            EndState::Suspended | EndState::OutOfService => self.in_service.map(not),
            EndState::Enabled => self.enabled,
            EndState::Disabled => self.enabled.map(not),
            EndState::InServiceAndEnabled => Some(self.in_service? && self.enabled?),
            EndState::OnPlan
            | EndState::Downloaded
            | EndState::DownloadedAndEnabled
            | EndState::Deleted
            | EndState::Fallback => None,
        }
    }
}

/// A change that a network made by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The profile.
    pub iccid: Iccid,
    /// What is so now.
    pub reported: Reported,
}

/// What the other side has sent by itself of an operation that it had accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The name under which it was accepted.
    pub name: Box<str>,
    /// The profile.
    pub iccid: Iccid,
    /// What it said, in the adapter's own spelling. It comes back with the operation.
    pub text: Box<str>,
}

/// Why a message is not taken for a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// This network sends none.
    NotExpected,
    /// It does not come from who it should come from: its credentials or its address are wrong.
    Stranger,
    /// It cannot be read.
    Unreadable,
}

/// The name in a handle, without what the adapter remembers besides.
pub fn name_in(handle: &str) -> &str {
    handle.split_once('#').map_or(handle, |(name, _)| name)
}

/// How often logins with the same credentials may fail in a row before there is none any more: networks lock users
/// out, ThingSpace after five (contract §3.2).
pub const LOGIN_FAILURES_MAX: u32 = 3;

/// What adapters must not forget of logins that they share, whatever restarts and on how many nodes they are.
#[async_trait]
pub trait Logins: Send + Sync + 'static {
    /// Whether that login may begin with those credentials: it is then counted as failed until its end is told.
    /// At most one is under way at a time, and at most `LOGIN_FAILURES_MAX` fail in a row, and one more with others.
    async fn begin(&self, login: &str, credentials: &str) -> MayLogIn;

    /// Tells how it ended.
    async fn end(&self, login: &str, ended: LoginEnded);
}

/// Whether a login may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayLogIn {
    /// It may.
    Now,
    /// Another is under way, or it could not be found out.
    Later,
    /// It failed too often: one more might lock the user.
    NoMore,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEnded {
    /// The credentials are good.
    Succeeded,
    /// They are not.
    Refused,
    /// It certainly never arrived.
    NotSent,
}

/// Where replies go, each as soon as it is known, in any order.
pub type Replies = mpsc::UnboundedSender<(OperationId, Reply)>;

/// An adapter that performs operations on one network.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// The `kind` of the configuration: `simulated`, …
    fn kind(&self) -> &'static str;

    /// What its network can do.
    fn capabilities(&self) -> Capabilities;

    /// Performs `operations`, no two of which are on the same eUICC, and tells each one's reply as soon as
    /// it is known, so that a slow tail holds nobody up. An operation without a reply when the future ends,
    /// or when the caller drops it at the deadline, is `Unknown`.
    async fn apply(&self, operations: Vec<Operation>, replies: Replies);

    /// What is true of these profiles now, in the order asked; changes nothing. The caller keeps the deadline.
    async fn observe(&self, profiles: &[Profile]) -> Vec<Observation> {
        vec![Observation::NotAble; profiles.len()]
    }

    /// How the network is, without any effect on it. The caller keeps the deadline.
    async fn probe(&self) -> Health {
        Health::Ok
    }

    /// Hands it what keeps count of logins; an adapter that logs in nowhere has no use for it.
    fn count_logins_in(&self, _logins: Arc<dyn Logins>) {}

    /// Reads what the other side sent to our door: a page of notices, or none where it says nothing of use.
    ///
    /// # Errors
    /// Where it is not to be believed, or makes no sense.
    fn hear(&self, _from: IpAddr, _body: &[u8]) -> Result<Vec<Notice>, Unheard> {
        Err(Unheard::NotExpected)
    }

    /// The next change that the network made by itself; never, where it reports none. What was told once is
    /// not told again. Safe to drop while it waits.
    async fn report(&self) -> Report {
        std::future::pending().await
    }
}
