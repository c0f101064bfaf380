//! Pooled connections for reading; a read runs on a blocking thread of the runtime.

use super::connection::{Db, Sql};
use super::{PostgresConfig, unavailable};
use crate::{Result, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Db>>>,
    places: Arc<Semaphore>,
    config: PostgresConfig,
}

impl Readers {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        let places = Arc::new(Semaphore::new(config.readers.max(1)));
        Self { idle: Arc::default(), places, config: config.clone() }
    }

    /// Runs `read` on a consistent view of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&mut Db) -> Sql<T> + Send + 'static,
    ) -> Result<T> {
        self.on_a_connection(what, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", read).await
    }

    /// Runs `write` in a transaction of its own, synced: for what must not wait behind the writers' batches.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        write: impl FnOnce(&mut Db) -> Sql<T> + Send + 'static,
    ) -> Result<T> {
        self.on_a_connection(what, "BEGIN ISOLATION LEVEL READ COMMITTED", write).await
    }

    async fn on_a_connection<T: Send + 'static>(
        &self,
        what: &'static str,
        begin: &'static str,
        work: impl FnOnce(&mut Db) -> Sql<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed(what))?;
        let idle = Arc::clone(&self.idle);
        let config = self.config.clone();
        let running = tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut db = begun(&idle, &config, begin)?;
            let value = work(&mut db)?; // where this fails, the connection is dropped with its transaction
            db.commit()?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
            Ok(value)
        });
        running.await.map_err(|_| closed(what))?.map_err(unavailable(what))
    }

    /// Closes what is idle.
    pub(super) fn close(&self) {
        self.places.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection on which a transaction has begun: an idle one, or where those are dead, a new one.
fn begun(idle: &Mutex<Vec<Db>>, config: &PostgresConfig, begin: &str) -> Sql<Db> {
    loop {
        let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(mut db) = kept else { break };
        if !db.is_broken() && db.batch(begin).is_ok() {
            return Ok(db);
        }
    }
    let mut db = Db::open(config)?;
    db.batch(begin)?;
    Ok(db)
}

fn closed(what: &'static str) -> StoreError {
    StoreError::Unavailable { what, source: "the store is closing".into() }
}
