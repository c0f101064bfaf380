//! Who is treated how: the configured script, then the reserved ICCIDs, then chance.

use super::{Behaviour, SimulatedConfig};
use reveille_domain::Iccid;

/// ICCIDs that begin so name a behaviour by the two digits that follow. No issuer has this prefix, since no
/// country code begins with 0. Source: ITU-T E.118 and E.164.
pub const RESERVED_PREFIX: &str = "890000";

/// One entry of the configured script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptEntry {
    /// The ICCIDs that begin so; empty means all.
    pub iccid_prefix: Box<str>,
    /// How they are treated.
    pub behaviour: Behaviour,
    /// To how many operations it applies before the entry is passed over; `None` means to all. Repetitions
    /// of one operation count once.
    pub times: Option<u32>,
}

/// How an operation is treated, at each of its tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Scripted(Behaviour),
    ByChance,
}

/// The script as far as it has not been used up.
pub(super) struct Script {
    entries: Vec<ScriptEntry>,
    reserved: bool,
}

impl Script {
    pub(super) fn new(config: &SimulatedConfig) -> Self {
        Self { entries: config.script.clone(), reserved: config.scripted }
    }

    /// How a new operation on that profile is treated; uses up one of the entry's times.
    pub(super) fn next_for(&mut self, iccid: &Iccid) -> Manner {
        let fits = |entry: &&mut ScriptEntry| {
            iccid.as_str().starts_with(&*entry.iccid_prefix) && entry.times != Some(0)
        };
        if let Some(entry) = self.entries.iter_mut().find(fits) {
            entry.times = entry.times.map(|left| left - 1);
            return Manner::Scripted(entry.behaviour);
        }
        let code = iccid.as_str().strip_prefix(RESERVED_PREFIX).filter(|_| self.reserved);
        code.map_or(Manner::ByChance, |rest| Manner::Scripted(coded(rest)))
    }
}

/// The behaviour that the first two digits name; one that is not listed is done.
fn coded(digits: &str) -> Behaviour {
    let code: Option<usize> = digits.get(..2).and_then(|two| two.parse().ok());
    code.and_then(|code| Behaviour::ALL.get(code).copied()).unwrap_or(Behaviour::AlwaysDone)
}
