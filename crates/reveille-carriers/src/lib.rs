//! Southbound: what really gives or takes a profile's network access, behind one port.
//!
//! A carrier states end states, so repeating an operation is safe. It knows no store, no callbacks and no
//! order: the engine sees to it that one eUICC never has two operations under way, to deadlines, and to
//! asking again.

pub mod conformance;
pub mod simulated;

use async_trait::async_trait;
use reveille_domain::{Eid, EndState, Iccid, Imsi, Msisdn, OperationId};
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
    /// Not now; nothing was done.
    RetryLater {
        /// When to come again, where the carrier says so.
        after: Option<Duration>,
    },
    /// Sent, and no telling what became of it: the engine drives it again under the same id.
    Unknown,
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
}
