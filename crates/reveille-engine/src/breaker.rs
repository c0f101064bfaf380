//! A circuit breaker per carrier: it opens on silence, never on rejections.

use reveille_domain::Timestamp;
use std::time::Duration;

/// How many operations in a row must stay without answer before the breaker opens.
const SILENCE_MAX: u32 = 64;

/// How long it stays open first; twice as long each time that the trial stays without answer too.
const OPEN_FIRST: Duration = Duration::from_secs(1);

/// It never stays open longer.
const OPEN_LONGEST: Duration = Duration::from_secs(30);

/// How a carrier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Answering,
    /// It has not answered lately; it is tried with one operation at a time.
    Trial,
    /// It does not answer; it is left alone until then.
    Silent {
        /// When it is tried again.
        until: Timestamp,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    silent: u32,
    openings: u32,
    open_until: Option<Timestamp>,
}

impl Breaker {
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn unanswered(&mut self, now: Timestamp) {
        self.silent += 1;
        let open = matches!(self.health(now), Health::Silent { .. });
        if self.silent >= SILENCE_MAX && !open {
            let longer = OPEN_FIRST.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX));
            self.open_until = Some(now.plus(longer.min(OPEN_LONGEST)));
            self.openings += 1;
            self.silent = SILENCE_MAX - 1; // the next silence opens it again
        }
    }

    pub(crate) fn health(&self, now: Timestamp) -> Health {
        match self.open_until {
            None => Health::Answering,
            Some(until) if now < until => Health::Silent { until },
            Some(_) => Health::Trial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_on_silence_and_closes_on_the_first_answer() {
        let mut breaker = Breaker::default();
        for _ in 1..SILENCE_MAX {
            breaker.unanswered(Timestamp(0));
        }
        assert_eq!(breaker.health(Timestamp(0)), Health::Answering);
        breaker.unanswered(Timestamp(0));
        assert_eq!(breaker.health(Timestamp(0)), Health::Silent { until: Timestamp(1_000) });
        assert_eq!(breaker.health(Timestamp(1_000)), Health::Trial);
        breaker.unanswered(Timestamp(1_000));
        assert_eq!(breaker.health(Timestamp(1_000)), Health::Silent { until: Timestamp(3_000) });
        breaker.answered();
        assert_eq!(breaker.health(Timestamp(1_000)), Health::Answering);
    }
}
