//! How many calls may be made: so many per minute, by a bucket that fills again while nothing is called.

use reveille_domain::{Clock, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is left of the calls per minute.
pub(super) struct Quota {
    per_minute: Option<u32>,
    clock: Arc<dyn Clock>,
    left: Mutex<(f64, Timestamp)>,
}

impl Quota {
    pub(super) fn new(per_minute: Option<u32>, clock: Arc<dyn Clock>) -> Self {
        let left = Mutex::new((f64::from(per_minute.unwrap_or(0)), clock.now()));
        Self { per_minute, clock, left }
    }

    /// Takes one call, or says when there will be one.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let (most, now) = (f64::from(per_minute), self.clock.now());
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.since(left.1).as_secs_f64() / 60.0 * most;
        *left = ((left.0 + earned).min(most), now);
        if left.0 >= 1.0 {
            left.0 -= 1.0;
            return Ok(());
        }
        let millis = (1.0 - left.0) / most * 60_000.0;
        Err(Duration::from_millis((millis.ceil() as u64).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_domain::clock::ManualClock;

    #[test]
    fn calls_are_spent_and_earned_again() {
        let clock = ManualClock::new(Timestamp(0));
        let quota = Quota::new(Some(2), Arc::new(clock.clone()));
        assert_eq!((quota.take(), quota.take()), (Ok(()), Ok(())));
        assert_eq!(quota.take(), Err(Duration::from_secs(30)));
        clock.advance(Duration::from_secs(30));
        assert_eq!((quota.take(), quota.take().is_err()), (Ok(()), true));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!((quota.take(), quota.take(), quota.take().is_err()), (Ok(()), Ok(()), true));
        let unlimited = Quota::new(None, Arc::new(clock));
        assert!((0..1_000).all(|_| unlimited.take().is_ok()));
    }
}
