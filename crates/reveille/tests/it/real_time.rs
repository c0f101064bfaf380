//! The one place where tests meet real time: waiting for other threads and for sockets, but not for long.

use std::time::{Duration, Instant};

/// How long anything may take in real time before the test fails.
const LIMIT: Duration = Duration::from_secs(20);

/// How long other tasks are given way to before the thread is, too.
const SPIN: Duration = Duration::from_millis(1);

/// How much real time a wait has had.
pub(crate) struct Patience {
    began_at: Instant,
    spins_until: Instant,
}

impl Default for Patience {
    #[expect(clippy::disallowed_methods, reason = "a limit on the test itself, not on what it tests")]
    fn default() -> Self {
        let now = Instant::now();
        Self { began_at: now, spins_until: now + SPIN }
    }
}

impl Patience {
    /// How much real time has passed.
    #[expect(clippy::disallowed_methods, reason = "how fast virtual time passes is measured in real time")]
    pub(crate) fn had(&self) -> Duration {
        Instant::now() - self.began_at
    }

    /// Gives way to others for an instant; fails the test when that has gone on for too long.
    #[expect(clippy::disallowed_methods, reason = "other threads and sockets live in real time")]
    pub(crate) async fn wait(&mut self, what: &str) {
        let now = Instant::now();
        assert!(now - self.began_at < LIMIT, "{what}");
        if now < self.spins_until {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Waits until something is so that no clock and no engine tells of.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let mut patience = Patience::default();
    while !is_so().await {
        patience.wait(what).await;
    }
}
