//! What a simulated network will change by itself, and when.

use super::behaviour::Said;
use crate::Report;
use reveille_domain::{Clock, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many changes may lie ahead; a script that asks for more is not followed beyond that.
const AHEAD_MAX: usize = 10_000;

pub(super) struct Reports {
    clock: Arc<dyn Clock>,
    ahead: Mutex<Ahead>,
    changed: Notify,
}

/// Reports by their time, numbered so that none takes another's place.
#[derive(Default)]
struct Ahead {
    reports: BTreeMap<(Timestamp, u64), (Report, Said)>,
    added: u64,
}

impl Reports {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn add(&self, at: Timestamp, report: Report, said: Said) {
        let mut ahead = self.lock();
        if ahead.reports.len() < AHEAD_MAX {
            ahead.added += 1;
            let place = (at, ahead.added);
            ahead.reports.insert(place, (report, said));
        }
        drop(ahead);
        self.changed.notify_one();
    }

    /// The next one, at its time. Nothing is taken before it is handed out.
    pub(super) async fn next(&self) -> (Report, Said) {
        loop {
            let changed = self.changed.notified();
            let now = self.clock.now();
            let at = match self.lock().reports.first_entry() {
                Some(entry) if entry.key().0 <= now => return entry.remove(),
                Some(entry) => Some(entry.key().0),
                None => None,
            };
            match at {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = self.clock.sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
