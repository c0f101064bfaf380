//! The port's part about drift: where networks say otherwise than the record, and how far that was looked at.

use crate::Result;
use async_trait::async_trait;
use reveille_domain::{AccountName, Iccid, Network, RequestId, Timestamp};
use std::time::Duration;

/// Where networks differ from the record.
#[async_trait]
pub trait Drift: Send + Sync + 'static {
    /// Whose turn it is to compare a network's next profiles, from `at` until `until`: behind which ICCID, `None`
    /// within at the beginning. Nothing where another process is at it, or `every` has not passed since the last round
    /// began.
    async fn begin_comparing(
        &self,
        network: Network,
        at: Timestamp,
        until: Timestamp,
        every: Duration,
    ) -> Result<Option<Option<Iccid>>>;

    /// Notes how far this round has come; to its end, where nothing is said.
    async fn end_comparing(&self, network: Network, reached: Option<Iccid>) -> Result<()>;

    /// Notes what networks say, seen at `at`; how each stands then, in the order given.
    async fn note_compared(&self, compared: Vec<Compared>, at: Timestamp) -> Result<Vec<Standing>>;

    /// Notes which request tells of a drift, as long as it is still the one that was found then.
    async fn tell_drift(&self, iccid: &Iccid, found_at: Timestamp, request: RequestId) -> Result<()>;

    /// An account's drifts that were seen more than once, behind that ICCID, in order; at most `limit`.
    async fn drifts(
        &self,
        account: &AccountName,
        after: Option<Iccid>,
        limit: usize,
    ) -> Result<Vec<DriftView>>;

    /// How many there are of each network.
    async fn drift_counts(&self) -> Result<Vec<(Network, u64)>>;
}

/// A profile that was compared with what its network says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Whose it is.
    pub account: AccountName,
    /// Its network.
    pub network: Network,
    /// The profile.
    pub iccid: Iccid,
    /// What the network says otherwise; nothing where it agrees.
    pub seen: Option<Seen>,
}

/// What a network says otherwise than the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It has no such profile.
    NoSuchProfile,
    /// It is in service, or not; it is enabled, or not; as far as that differs.
    Otherwise {
        /// Whether it has network access.
        in_service: Option<bool>,
        /// Whether its card has it enabled.
        enabled: Option<bool>,
    },
}

impl Seen {
    /// It as a word, under which it is kept; stable.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NoSuchProfile => "no_such_profile",
            Self::Otherwise { in_service, enabled } => match (in_service, enabled) {
                (Some(true), Some(true)) => "in_service enabled",
                (Some(true), Some(false)) => "in_service not_enabled",
                (Some(true), None) => "in_service",
                (Some(false), Some(true)) => "not_in_service enabled",
                (Some(false), Some(false)) => "not_in_service not_enabled",
                (Some(false), None) => "not_in_service",
                (None, Some(true)) => "enabled",
                (None, Some(false)) => "not_enabled",
                (None, None) => "",
            },
        }
    }

    /// What that word stands for.
    pub(crate) fn of_word(word: &str) -> Self {
        if word == Self::NoSuchProfile.word() {
            return Self::NoSuchProfile;
        }
        let said = |yes: &str, no: &str| {
            word.split(' ')
                .find_map(|part| if part == yes { Some(true) } else { (part == no).then_some(false) })
        };
        Self::Otherwise {
            in_service: said("in_service", "not_in_service"),
            enabled: said("enabled", "not_enabled"),
        }
    }
}

/// How a compared profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As recorded.
    Agrees,
    /// It differs, as was not seen before: perhaps it is changing just now.
    Suspected,
    /// It differs as it did before, and that was not told.
    Found {
        /// Since when that is so, as far as was looked.
        found_at: Timestamp,
    },
    /// It differs as was told.
    Told,
}

/// A drift as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftView {
    /// The profile.
    pub iccid: Iccid,
    /// Its network.
    pub network: Network,
    /// What that says.
    pub seen: Seen,
    /// When that was seen first.
    pub found_at: Timestamp,
    /// The request that tells it, where there is one already.
    pub request: Option<RequestId>,
}
