//! What the operating system gives: time and randomness.

use reveille_domain::clock::Sleep;
use reveille_domain::{Clock, Timestamp};
use reveille_engine::Random;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The system's clock. When the system is set back, it goes on by the time that really passes.
pub struct SystemClock {
    latest: Mutex<(Timestamp, Instant)>,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { latest: Mutex::new(read()) }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in everywhere else")]
fn read() -> (Timestamp, Instant) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)), Instant::now())
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let (wall, instant) = read();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = latest.0.plus(instant.saturating_duration_since(latest.1));
        if wall >= passed {
            *latest = (wall, instant);
        }
        passed.max(wall)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in everywhere else")]
    fn sleep_until(&self, at: Timestamp) -> Sleep {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

/// The system's cryptographic randomness.
pub struct Dice {
    system: SystemRandom,
}

impl Default for Dice {
    fn default() -> Self {
        Self { system: SystemRandom::new() }
    }
}

impl Random for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        self.system.fill(bytes).expect("the operating system gives random bytes");
    }
}
