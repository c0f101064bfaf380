//! What a network has already said of operations under way.

use super::SimulatedConfig;
use super::script::{Manner, Script};
use reveille_domain::Iccid;
use std::collections::HashMap;

/// How many unsettled operations a generation of [`Tries`] holds: some 9 MB of 16-byte entries.
const GENERATION_MAX: usize = 400_000;

pub(super) struct Memory {
    tries: Tries,
    script: Script,
}

/// How an operation is treated, and how often it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) manner: Manner,
    pub(super) tries: u32,
}

/// The digits of an ICCID as a number, with a 1 before them so that 19 and 20 digits never meet.
pub(super) fn profile_key(iccid: &Iccid) -> u128 {
    iccid.as_str().bytes().fold(1, |number, digit| number * 10 + u128::from(digit - b'0'))
}

impl Memory {
    pub(super) fn new(config: &SimulatedConfig) -> Self {
        Self { tries: Tries::new(GENERATION_MAX), script: Script::new(config) }
    }

    /// What is known of an operation; of a new one, how the script will have it treated.
    pub(super) fn past_of(&mut self, key: u64, iccid: &Iccid) -> Past {
        let known = self.tries.get(key);
        known.unwrap_or_else(|| Past { manner: self.script.next_for(iccid), tries: 0 })
    }

    pub(super) fn remember(&mut self, key: u64, past: Past) {
        self.tries.put(key, past);
    }

    pub(super) fn forget(&mut self, key: u64) {
        self.tries.remove(key);
    }
}

impl Past {
    pub(super) fn with_one_more(self) -> Self {
        Self { tries: self.tries.saturating_add(1), ..self }
    }
}

/// The operations that are not settled, by a 64-bit digest of operation id and profile.
///
/// Settled ones are removed. Those that never settle (never answered, given up, or the caller is gone) would
/// pile up, so they age: when the young generation is full it becomes the old one, and what the old one held
/// is forgotten. So at least the last `generation_max` unsettled operations are known and at most twice that;
/// one tried again after it was forgotten is taken for new.
struct Tries {
    generation_max: usize,
    young: HashMap<u64, Past>,
    old: HashMap<u64, Past>,
}

impl Tries {
    fn new(generation_max: usize) -> Self {
        Self { generation_max, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&self, key: u64) -> Option<Past> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, past: Past) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, past);
    }

    fn remove(&mut self, key: u64) {
        for generation in [&mut self.young, &mut self.old] {
            if !generation.is_empty() {
                generation.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iccid_of_19_digits_is_never_taken_for_one_of_20() {
        let short: Iccid = "0890000000000000001".parse().unwrap();
        let long: Iccid = "00890000000000000001".parse().unwrap();
        assert_ne!(profile_key(&short), profile_key(&long));
        let longest: Iccid = "99999999999999999999".parse().unwrap();
        assert_eq!(profile_key(&longest), 199_999_999_999_999_999_999);
    }

    #[test]
    fn operations_that_never_settle_age_and_are_forgotten() {
        let past = Past { manner: Manner::ByChance, tries: 1 };
        let mut tries = Tries::new(10);
        for key in 0..1000 {
            tries.put(key, past);
            assert!(tries.young.len() + tries.old.len() <= 20);
        }
        assert!((990..1000).all(|key| tries.get(key) == Some(past)));
        assert_eq!(tries.get(900), None);
    }

    #[test]
    fn a_settled_operation_is_forgotten_in_both_generations() {
        let mut tries = Tries::new(1);
        for key in [7, 8] {
            tries.put(key, Past { manner: Manner::ByChance, tries: 1 });
        }
        tries.remove(7);
        tries.remove(8);
        assert_eq!((tries.get(7), tries.get(8)), (None, None));
    }

    #[test]
    fn an_unsettled_operation_costs_16_bytes() {
        assert_eq!(size_of::<(u64, Past)>(), 16);
    }
}
