//! A circuit breaker per carrier: it opens on silence and where nothing could be sent, never on rejections.

use reveille_domain::Timestamp;
use std::time::Duration;

/// How many operations in a row must stay without answer before the breaker opens.
const SILENCE_MAX: u32 = 64;

/// How long it stays open first; twice as long each time that the trial stays without answer too.
const OPEN_FIRST: Duration = Duration::from_secs(1);

/// It never stays open longer.
const OPEN_LONGEST: Duration = Duration::from_secs(30);

/// Whether a carrier may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// It may.
    Closed,
    /// With one operation at a time: it has not answered lately.
    Trial,
    /// It is left alone until then.
    Open { until: Timestamp },
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

    /// One operation stays without answer; whether that opens it.
    pub(crate) fn unanswered(&mut self, now: Timestamp) -> bool {
        self.silent += 1;
        self.silent >= SILENCE_MAX && self.open(now)
    }

    /// Nothing can be sent; whether that opens it.
    pub(crate) fn unavailable(&mut self, now: Timestamp) -> bool {
        self.open(now)
    }

    fn open(&mut self, now: Timestamp) -> bool {
        if matches!(self.circuit(now), Circuit::Open { .. }) {
            return false;
        }
        let longer = OPEN_FIRST.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX));
        self.open_until = Some(now.plus(longer.min(OPEN_LONGEST)));
        self.openings += 1;
        self.silent = SILENCE_MAX - 1; // the next silence opens it again
        true
    }

    pub(crate) fn circuit(&self, now: Timestamp) -> Circuit {
        match self.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open { until },
            Some(_) => Circuit::Trial,
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
        assert_eq!(breaker.circuit(Timestamp(0)), Circuit::Closed);
        breaker.unanswered(Timestamp(0));
        assert_eq!(breaker.circuit(Timestamp(0)), Circuit::Open { until: Timestamp(1_000) });
        assert_eq!(breaker.circuit(Timestamp(1_000)), Circuit::Trial);
        breaker.unanswered(Timestamp(1_000));
        assert_eq!(breaker.circuit(Timestamp(1_000)), Circuit::Open { until: Timestamp(3_000) });
        breaker.answered();
        assert_eq!(breaker.circuit(Timestamp(1_000)), Circuit::Closed);
    }

    #[test]
    fn it_opens_at_once_where_nothing_can_be_sent() {
        let mut breaker = Breaker::default();
        assert!(breaker.unavailable(Timestamp(0)));
        assert_eq!(breaker.circuit(Timestamp(0)), Circuit::Open { until: Timestamp(1_000) });
        assert!(!breaker.unavailable(Timestamp(0)), "it is open already");
        assert!(breaker.unavailable(Timestamp(1_000)));
        assert_eq!(breaker.circuit(Timestamp(1_000)), Circuit::Open { until: Timestamp(3_000) });
        breaker.answered();
        assert_eq!(breaker.circuit(Timestamp(1_000)), Circuit::Closed);
    }
}
