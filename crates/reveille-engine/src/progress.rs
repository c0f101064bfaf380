//! Who follows a request, and when it has moved.

use reveille_domain::RequestId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Progress {
    followed: Mutex<HashMap<RequestId, watch::Sender<u64>>>,
}

impl Progress {
    pub(crate) fn watch(&self, request: RequestId) -> watch::Receiver<u64> {
        let mut followed = self.lock();
        followed.retain(|_, sender| sender.receiver_count() > 0);
        followed.entry(request).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// These requests have moved; a request may be named many times.
    pub(crate) fn touch(&self, requests: impl Iterator<Item = RequestId>) {
        let followed = self.lock();
        if followed.is_empty() {
            return;
        }
        let mut last = None;
        for request in requests {
            if last.replace(request) != Some(request)
                && let Some(sender) = followed.get(&request)
            {
                sender.send_modify(|moves| *moves += 1);
            }
        }
    }

    /// Any of them may have moved: another process would not say so.
    pub(crate) fn touch_all(&self) {
        self.lock().values().for_each(|sender| sender.send_modify(|moves| *moves += 1));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, watch::Sender<u64>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
