//! Changes that are under way. One runs on its own: a caller who goes does not cut it off, so that the next change of
//! the same service waits for its end instead of overtaking it.

use super::door::{Door, Failed};
use crate::http::{Answer, Call};
use reveille_domain::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};

/// When a change that is not answered is let go of, and its connection with it: a server that went without a word
/// must not hold up the rest for as long as TCP would.
const LET_GO_AFTER: Duration = Duration::from_secs(60);

/// The changes of one server that are under way, by the id of their service.
pub(super) struct UnderWay {
    door: Arc<Door>,
    clock: Arc<dyn Clock>,
    in_flight: Arc<Semaphore>,
    changes: Arc<Mutex<HashMap<Box<str>, watch::Receiver<()>>>>,
}

impl UnderWay {
    pub(super) fn new(door: Arc<Door>, clock: Arc<dyn Clock>, in_flight: usize) -> Self {
        let in_flight = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        Self { door, clock, in_flight, changes: Arc::default() }
    }

    /// Asks for something; whoever goes takes the call along.
    pub(super) async fn read(&self, path: String) -> Result<Answer, Failed> {
        let _in_flight = self.in_flight.acquire().await;
        match self.door.call(Call::get(path.clone())).await {
            Err(Failed::Lost) => self.door.call(Call::get(path)).await, // on a connection that is not an old one
            answered => answered,
        }
    }

    /// Changes a service; goes on when the caller goes.
    pub(super) async fn change(&self, service: &str, call: Call) -> Result<Answer, Failed> {
        let in_flight = Arc::clone(&self.in_flight).acquire_owned().await;
        let (tell, told) = oneshot::channel();
        let (end, ended) = watch::channel(());
        let service: Box<str> = service.into();
        locked(&self.changes).insert(service.clone(), ended);
        let (door, changes) = (Arc::clone(&self.door), Arc::clone(&self.changes));
        let let_go = self.clock.sleep(LET_GO_AFTER);
        tokio::spawn(async move {
            let answer = tokio::select! {
                answer = door.call(call) => answer,
                () = let_go => Err(Failed::Lost),
            };
            locked(&changes).remove(&service);
            drop((in_flight, end));
            let _ = tell.send(answer); // whoever has gone asks again
        });
        told.await.unwrap_or(Err(Failed::Lost))
    }

    /// Waits for the change of a service that is under way; whether there was one.
    pub(super) async fn ended(&self, service: &str) -> bool {
        let change = locked(&self.changes).get(service).cloned();
        let Some(mut change) = change else { return false };
        while change.changed().await.is_ok() {}
        true
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
