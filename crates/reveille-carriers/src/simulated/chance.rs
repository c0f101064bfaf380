//! Chance that follows from a seed: the same question has the same answer, whoever asks and when.

use super::SimulatedConfig;
use super::behaviour::{REFUSED, Step};
use reveille_domain::OperationId;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// What a number is drawn for, so that one question's answer says nothing about another's.
const REJECTION: u8 = 0;
const TROUBLE: u8 = 1;
const JITTER: u8 = 2;

/// A number that follows from the seed and the question.
pub(super) fn draw(seed: u64, question: impl Hash) -> u64 {
    let mut mixer = Mixer(seed);
    question.hash(&mut mixer);
    mixer.finish()
}

/// What happens to an unscripted operation that was tried `tries` times before.
///
/// Rejection is drawn for the operation, not for the try: one that was carried out unheard is never rejected
/// when it is repeated, and one that was rejected stays so.
pub(super) fn step(config: &SimulatedConfig, id: OperationId, tries: u32) -> Step {
    if per_mille(config.seed, (REJECTION, id)) < config.rejected_per_mille {
        return Step::Reject(REFUSED);
    }
    let trouble = per_mille(config.seed, (TROUBLE, id, tries));
    if trouble < config.retry_later_per_mille {
        Step::Postpone { after: None }
    } else if trouble < config.retry_later_per_mille.saturating_add(config.unanswered_per_mille) {
        Step::CarryOutUnanswered
    } else {
        Step::CarryOut
    }
}

/// What this try waits on top of the latency: whole milliseconds from none to the configured jitter.
pub(super) fn jitter(config: &SimulatedConfig, id: OperationId, tries: u32) -> Duration {
    let longest = u64::try_from(config.jitter.as_millis()).unwrap_or(u64::MAX);
    if longest == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(draw(config.seed, (JITTER, id, tries)) % longest.saturating_add(1))
}

fn per_mille(seed: u64, question: impl Hash) -> u16 {
    u16::try_from(draw(seed, question) % 1000).unwrap_or(0)
}

/// SplitMix64 over whatever is written into it. A `Hasher`, because identifiers can be hashed but not taken
/// apart; unlike the standard one the same in each process. Source: Steele, Lea and Flood, OOPSLA 2014.
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = mix(self.0 ^ u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_is_splitmix64() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf); // the first output of the reference for seed 0
    }

    #[test]
    fn a_draw_depends_on_the_seed_and_on_each_part_of_the_question() {
        let drawn = [(1, 2_u128, 3_u32), (9, 2, 3), (1, 9, 3), (1, 2, 9)].map(|(s, a, b)| draw(s, (a, b)));
        for (at, one) in drawn.iter().enumerate() {
            assert!(!drawn[at + 1..].contains(one));
        }
        assert_eq!(draw(1, (2_u128, 3_u32)), drawn[0]);
    }
}
