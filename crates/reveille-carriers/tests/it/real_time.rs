//! The clock of programs that are not ours.

use reveille_domain::clock::Sleep;
use reveille_domain::{Clock, Timestamp};
use std::time::SystemTime;

/// A real peer lives in real time.
pub(crate) struct RealTime;

impl Clock for RealTime {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp(since.as_millis().try_into().unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in")]
    fn sleep_until(&self, at: Timestamp) -> Sleep {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}
