//! The embedded store: SQLite in WAL mode, `synchronous=FULL`, one writer that group-commits, pooled readers.
//!
//! One process works on the backlog, so nothing is claimed durably: what has no outcome is driven again
//! under the same operation id. Other processes (`apply`, `fleet import`) may write at the same time.

mod callbacks;
mod codes;
mod directory;
mod history;
mod inventory;
mod pages;
mod readers;
mod record;
mod requests;
mod schema;
mod writer;

use crate::{Result, StoreError};
use readers::Readers;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;
use writer::Writer;

/// How long a statement waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How large the write-ahead log grows before it is moved into the database, in pages of 4 KiB.
const CHECKPOINT_PAGES: u32 = 4_000;

/// How the embedded store is opened.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The database file; it is made where it is absent.
    pub path: PathBuf,
    /// Below this many free bytes on its disk nothing new is accepted.
    pub disk_free_min: u64,
    /// Whether each commit is synced to disk. `Off` loses accepted requests with the power: for the test
    /// that proves so, and for nothing else.
    pub synchronous: Synchronous,
    /// How many readers there are.
    pub readers: usize,
}

/// Whether commits are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Each one, before it is confirmed.
    Full,
    /// None.
    Off,
}

/// The store in one SQLite file.
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens the file and brings its schema up to date.
    ///
    /// # Errors
    /// Where the file cannot be opened or written, or was written by a newer release.
    pub fn open(config: &SqliteConfig) -> Result<Self> {
        let mut connection =
            connect(config, OpenFlags::default()).map_err(unavailable("open the database"))?;
        schema::migrate(&mut connection).map_err(unavailable("bring the schema up to date"))?;
        let readers = Readers::open(config)?;
        Ok(Self { writer: Writer::start(config.clone(), connection), readers })
    }

    /// Waits for what is being written, then closes the file.
    pub fn close(&self) {
        self.writer.stop();
    }
}

/// Bytes that are free on the disk that holds `path`.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn connect(config: &SqliteConfig, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(&config.path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    let synchronous = match config.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn unavailable(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Unavailable { what, source: Box::new(source) }
}
