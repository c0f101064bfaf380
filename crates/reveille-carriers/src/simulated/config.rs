//! What can be said of a simulated network, and what of it cannot be meant.

use super::ScriptEntry;
use std::time::Duration;

/// A simulated network's configuration. The default answers at once and is never in trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedConfig {
    /// How long a reply takes. Counted in whole milliseconds, as is `jitter`.
    pub latency: Duration,
    /// The longest that a reply takes on top of that, evenly spread.
    pub jitter: Duration,
    /// What chance follows from.
    pub seed: u64,
    /// Of 1000 tries, how many are told to retry later.
    pub retry_later_per_mille: u16,
    /// Of 1000 tries, how many are carried out but not answered.
    pub unanswered_per_mille: u16,
    /// Of 1000 operations, how many are rejected, at each of their tries.
    pub rejected_per_mille: u16,
    /// Whether it cannot tell how a profile is when it is asked.
    pub unobservable: bool,
    /// Whether ICCIDs that begin with [`super::RESERVED_PREFIX`] name a behaviour.
    pub scripted: bool,
    /// Read from the top, before the reserved ICCIDs; the first that fits decides.
    pub script: Vec<ScriptEntry>,
}

/// Why a configuration cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSimulatedConfig {
    /// A share of more than all operations.
    #[error("rejected_per_mille is {0}; a share is at most 1000")]
    RejectedOfMoreThanAll(u16),
    /// Shares of the same tries that come to more than all of them.
    #[error("retry_later_per_mille and unanswered_per_mille come to {0}; together they are at most 1000")]
    TroubleOfMoreThanAll(u32),
    /// A prefix that no ICCID has.
    #[error("iccid_prefix is {0:?}; it is made of digits, at most 20")]
    PrefixOfNoIccid(Box<str>),
}

impl SimulatedConfig {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidSimulatedConfig> {
        if self.rejected_per_mille > 1000 {
            return Err(InvalidSimulatedConfig::RejectedOfMoreThanAll(self.rejected_per_mille));
        }
        let trouble = u32::from(self.retry_later_per_mille) + u32::from(self.unanswered_per_mille);
        if trouble > 1000 {
            return Err(InvalidSimulatedConfig::TroubleOfMoreThanAll(trouble));
        }
        let wrong = self.script.iter().find(|entry| !begins_an_iccid(&entry.iccid_prefix));
        wrong.map_or(Ok(()), |entry| Err(InvalidSimulatedConfig::PrefixOfNoIccid(entry.iccid_prefix.clone())))
    }
}

fn begins_an_iccid(prefix: &str) -> bool {
    prefix.len() <= 20 && prefix.bytes().all(|byte| byte.is_ascii_digit())
}
