//! The embedded store: SQLite in WAL mode, `synchronous=FULL`, one writer that group-commits, pooled readers.
//!
//! One process works on the backlog, so nothing is claimed durably: what has no outcome is driven again
//! under the same operation id. Other processes (`apply`, `fleet import`) may write at the same time.

mod callbacks;
mod carriers;
mod codes;
pub(crate) mod copy;
mod directory;
mod drift;
mod history;
mod inventory;
mod pages;
mod readers;
mod record;
mod requests;
mod schema;

use crate::writer::{Database, Urgency, Writer};
use crate::{Result, StoreError};
use readers::Readers;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
    writer: Writer<File>,
    readers: Readers,
    config: SqliteConfig,
    /// Whether a commit was not confirmed, and the log was not settled since.
    unsettled: Arc<AtomicBool>,
}

/// The file, as its writer opens it.
struct File(SqliteConfig);

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
        let writer = Writer::start(File(config.clone()), connection);
        Ok(Self { writer, readers, config: config.clone(), unsettled: Arc::default() })
    }

    /// The version of the file's schema, and the newest that this release knows; nothing where there is no
    /// file. Changes nothing.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn versions(path: &Path) -> Result<Option<(usize, usize)>> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = connect_to_read(path).map_err(unavailable("open the database"))?;
        schema::versions(&connection).map(Some).map_err(unavailable("read the schema's version"))
    }

    /// Refuses while the disk is nearly full: what is under way needs the room that is left.
    fn check_room(&self) -> Result<()> {
        match free_bytes(&self.config.path) {
            Some(free_bytes) if free_bytes < self.config.disk_free_min => {
                Err(StoreError::DiskNearlyFull { free_bytes })
            }
            _ => Ok(()),
        }
    }

    /// After a commit that was not confirmed, makes certain that what readers do not see is not there. Where its
    /// sync failed, its frames lie behind the log's end, unseen, but the recovery after a crash would take them
    /// for the log's. A frame that is written over the first of them ends that.
    async fn settle_log(&self) -> Result<()> {
        if !self.unsettled.load(Ordering::SeqCst) {
            return Ok(());
        }
        let unsettled = Arc::clone(&self.unsettled);
        let write_over = |db: &mut Connection| {
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            db.pragma_update(None, "user_version", version) // writes a page, although nothing changes
        };
        let settled = move |&(): &()| unsettled.store(false, Ordering::SeqCst);
        let what = "settle the log";
        let written = self.writer.write_then(what, 1, Urgency::Now, write_over, settled).await;
        written.map_err(|error| StoreError::Unavailable { what, source: Box::new(error) })
    }

    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        rows: usize,
        urgency: Urgency,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.write(what, rows, urgency, |db: &mut Connection| work(db)).await
    }
}

impl crate::Store for Sqlite {
    fn close(&self) {
        self.writer.stop();
    }
}

impl Database for File {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn open(&self) -> rusqlite::Result<Connection> {
        let mut connection = connect(&self.0, OpenFlags::default())?;
        schema::migrate(&mut connection)?;
        Ok(connection)
    }

    fn begin(connection: &mut Connection) -> rusqlite::Result<()> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    fn commit(connection: &mut Connection) -> rusqlite::Result<()> {
        connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    fn in_savepoint<T>(
        connection: &mut Connection,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<rusqlite::Result<T>> {
        connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let result = work(connection);
        if connection.is_autocommit() {
            return Err(rusqlite::Error::ExecuteReturnedResults); // SQLite rolled the whole batch back
        }
        if result.is_err() {
            connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        connection.prepare_cached("RELEASE job")?.execute([])?;
        Ok(result)
    }

    fn close(connection: Connection) {
        let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
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

/// Connects to a file that is there, and writes nothing.
fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn unavailable(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Unavailable { what, source: Box::new(source) }
}
