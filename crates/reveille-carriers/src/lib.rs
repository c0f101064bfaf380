//! Southbound: what really gives or takes a profile's network access, behind one port.
//!
//! A carrier states end states, so repeating an operation is safe. It knows no store, no callbacks and no
//! order: the engine sees to it that one eUICC never has two operations under way, to deadlines, and to
//! asking again.

pub mod conformance;
pub mod simulated;

use async_trait::async_trait;
use reveille_domain::{Eid, EndState, Iccid, Imsi, Msisdn, OperationId, Profile, Reported};
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
    /// How it shall be.
    pub end_state: EndState,
    /// The service plan that the request names: what `EndState::OnPlan` means, a wish beside the others.
    pub service_plan: Option<Box<str>>,
    /// Where the card is touched: every profile on the eUICC, this one among them, as they are recorded.
    pub card: Vec<Profile>,
}

/// What a carrier said of one operation. Silence is an answer too, so there is no `Err`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is so now, and was not before.
    Done,
    /// It was so already. Counts as done: whether a repetition or somebody else did it cannot be told.
    AlreadySo,
    /// Refused for good, in the carrier's words, fit to be shown to a customer.
    Rejected {
        /// Why.
        reason: Box<str>,
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
    /// Sent, and no telling what became of it: the engine drives it again under the same id.
    Unknown,
}

impl Reply {
    /// It in one word, for the timeline and the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::AlreadySo => "already_so",
            Self::Rejected { .. } => "rejected",
            Self::RolledBack { .. } => "rolled_back",
            Self::RetryLater { .. } => "retry_later",
            Self::Unknown => "unknown",
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

/// Where replies go, each as soon as it is known, in any order.
pub type Replies = mpsc::UnboundedSender<(OperationId, Reply)>;

/// An adapter that performs operations on one network.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// The `kind` of the configuration: `simulated`, …
    fn kind(&self) -> &'static str;

    /// Performs `operations`, no two of which are on the same eUICC, and tells each one's reply as soon as
    /// it is known, so that a slow tail holds nobody up. An operation without a reply when the future ends,
    /// or when the caller drops it at the deadline, is `Unknown`.
    async fn apply(&self, operations: Vec<Operation>, replies: Replies);

    /// The next change that the network made by itself; never, where it reports none. What was told once is
    /// not told again. Safe to drop while it waits.
    async fn report(&self) -> Report {
        std::future::pending().await
    }
}
