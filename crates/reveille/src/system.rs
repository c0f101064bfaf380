//! What the operating system gives: time and randomness.

use reveille_domain::clock::Sleep;
use reveille_domain::{Clock, Timestamp};
use reveille_engine::Random;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The system's clock; it stands still while the system sets it back.
#[derive(Default)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in everywhere else")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.latest.fetch_max(millis, Ordering::Relaxed).max(millis))
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
