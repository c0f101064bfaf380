//! Where an outlet's callbacks go now: read from the store, kept for a second, judged by the guard.

use crate::Shared;
use reveille_callbacks::{ListenerUrl, UrlRefused};
use reveille_domain::Timestamp;
use reveille_store::{Listener, Outlet};
use reveille_wire::Credentials;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a listener is taken for what it was: another process may have changed it.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// How many are kept.
const KEPT_MAX: usize = 10_000;

/// A listener as the next attempt needs it.
pub(crate) struct Destination {
    pub(crate) url: Result<ListenerUrl, UrlRefused>,
    credentials: Option<(Box<str>, Box<str>)>,
}

impl Destination {
    pub(crate) fn credentials(&self) -> Option<Credentials<'_>> {
        let (username, password) = self.credentials.as_ref()?;
        Some(Credentials { username, password })
    }
}

#[derive(Default)]
struct Kept {
    of: HashMap<Outlet, (Timestamp, Option<Arc<Destination>>)>,
    /// Grows whenever all is to be read again: what was being read then is not kept.
    generation: u64,
}

#[derive(Default)]
pub(crate) struct Listeners {
    kept: Mutex<Kept>,
}

impl Listeners {
    /// What was kept is read again.
    pub(crate) fn forget_all(&self) {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.of.clear();
    }

    /// The listener that is registered now; nothing where there is none.
    pub(crate) async fn of(
        &self,
        shared: &Shared,
        outlet: &Outlet,
    ) -> reveille_store::Result<Option<Arc<Destination>>> {
        let now = shared.now();
        let generation = {
            let kept = self.lock();
            match kept.of.get(outlet) {
                Some((at, destination)) if now.since(*at) < KEPT_FOR => return Ok(destination.clone()),
                _ => kept.generation,
            }
        };
        let destination = read(shared, outlet).await?.map(Arc::new);
        let mut kept = self.lock();
        if kept.of.len() >= KEPT_MAX {
            kept.of.clear();
        }
        if kept.generation == generation {
            kept.of.insert(outlet.clone(), (now, destination.clone()));
        }
        Ok(destination)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(shared: &Shared, outlet: &Outlet) -> reveille_store::Result<Option<Destination>> {
    let listeners = shared.store.listeners(&outlet.account).await?;
    let (service, name) = (outlet.service.name(), outlet.listener);
    let of_outlet = |listener: &Listener| *listener.service == *service && listener.name == name;
    let Some(listener) = listeners.into_iter().find(of_outlet) else { return Ok(None) };
    let password = listener.password.as_deref().map(|sealed| shared.secrets.open(sealed).unwrap_or_default());
    let credentials = match (listener.username, password) {
        (None, None) => None,
        (username, password) => Some((username.unwrap_or_default(), password.unwrap_or_default())),
    };
    Ok(Some(Destination { url: shared.config.guard.check(&listener.url), credentials }))
}
