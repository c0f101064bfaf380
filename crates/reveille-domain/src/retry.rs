//! When to try again: a fixed schedule for callbacks, a growing back-off for carriers.

use std::time::Duration;

/// The schedule by which an unacknowledged callback is sent again. Source: contract §6.5, §12 Q3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delays: Box<[Duration]>,
}

impl Schedule {
    /// A schedule with one attempt more than it has delays.
    pub fn new(delays: Vec<Duration>) -> Self {
        Self { delays: delays.into() }
    }

    /// How often a callback is attempted at most: `maxCallbackThreshold`.
    pub fn attempts_max(&self) -> u32 {
        u32::try_from(self.delays.len()).map_or(u32::MAX, |delays| delays.saturating_add(1))
    }

    /// How long to wait after the attempt of that ordinal (from 1) failed; `None` after the last.
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
        self.delays.get(index).copied()
    }
}

/// A doubling delay with jitter, between a first and a longest, for a carrier that did not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first try.
    pub first: Duration,
    /// No delay is longer.
    pub longest: Duration,
}

impl Backoff {
    /// The delay after the try of that ordinal (from 1), shortened by up to half by `random`.
    pub fn delay_after(&self, attempt: u32, random: u64) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let full = doubled.min(self.longest);
        let part = u32::try_from(random % 512).unwrap_or(0);
        full - full / 1024 * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_delays_make_four_attempts() {
        let schedule = Schedule::new(vec![Duration::from_secs(300); 3]);
        assert_eq!(schedule.attempts_max(), 4);
        assert_eq!(schedule.delay_after(3), Some(Duration::from_secs(300)));
        assert_eq!(schedule.delay_after(4), None);
        assert_eq!(schedule.delay_after(0), None);
    }

    #[test]
    fn a_back_off_doubles_to_its_longest_and_never_falls_below_half() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(60) };
        assert_eq!(backoff.delay_after(1, 0), Duration::from_millis(100));
        assert_eq!(backoff.delay_after(4, 0), Duration::from_millis(800));
        assert_eq!(backoff.delay_after(99, 0), Duration::from_secs(60));
        assert!(backoff.delay_after(99, 511) >= Duration::from_secs(30));
    }
}
