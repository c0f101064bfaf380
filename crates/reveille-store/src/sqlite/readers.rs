//! Pooled read-only connections; a read runs on a blocking thread of the runtime.

use super::{SqliteConfig, connect, unavailable};
use crate::{Result, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// How much of the database each reader keeps in memory, in KiB.
const READER_CACHE_KIB: i64 = 2_048;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
    config: SqliteConfig,
}

impl Readers {
    pub(super) fn open(config: &SqliteConfig) -> Result<Self> {
        let places = Arc::new(Semaphore::new(config.readers.max(1)));
        let first = reader(config).map_err(unavailable("open a reader"))?;
        Ok(Self { idle: Arc::new(Mutex::new(vec![first])), places, config: config.clone() })
    }

    /// Runs `read` on a consistent view of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed(what))?;
        let idle = Arc::clone(&self.idle);
        let config = self.config.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => reader(&config)?,
            };
            let transaction = connection.transaction()?;
            let value = read(&transaction)?;
            drop(transaction);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(value)
        });
        reading.await.map_err(|_| closed(what))?.map_err(unavailable(what))
    }
}

fn closed(what: &'static str) -> StoreError {
    StoreError::Unavailable { what, source: "the store is closing".into() }
}

fn reader(config: &SqliteConfig) -> rusqlite::Result<Connection> {
    let connection = connect(config, OpenFlags::default())?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}
