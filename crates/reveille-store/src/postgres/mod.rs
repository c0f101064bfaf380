//! The shared store: PostgreSQL. Any number of nodes work on it, and none leads.
//!
//! A node performs what it holds a lease for: on an eUICC, by the database's clock, fenced by a number that
//! every write guarded by it names (`leases.rs`). A callback is leased with the outcome that it tells.

mod accept;
mod callbacks;
mod carriers;
mod codes;
mod connection;
pub(crate) mod copy;
mod counts;
mod directory;
mod drift;
mod history;
mod inventory;
mod leases;
mod pages;
mod readers;
mod record;
mod requests;
mod schema;
mod tls;

use crate::writer::{Database, Urgency, Writer};
use crate::{Result, StoreError};
use connection::{Db, Sql, SqlError};
use readers::Readers;
use std::time::Duration;
use tracing::warn;

/// How the shared store is opened.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`, with `?sslmode=require` for TLS.
    pub url: String,
    /// How many connections read at most, besides the three that write.
    pub readers: usize,
    /// How long a lease lasts, by the database's clock.
    pub lease: Duration,
}

/// The store in a PostgreSQL database.
pub struct Postgres {
    /// Accepts requests, and writes what somebody outside waits for.
    accepting: Writer<Server>,
    /// Records outcomes, and the rest.
    recording: Writer<Server>,
    /// Marks callbacks. A writer of its own, so that no transaction locks requests twice: nodes that count
    /// outcomes and marks of the same ones would lock each other out.
    marking: Writer<Server>,
    readers: Readers,
    node: i32,
    lease: Duration,
    config: PostgresConfig,
}

/// The database, as a writer opens it.
struct Server {
    config: PostgresConfig,
    slot: i32,
}

/// How many nodes have a place of their own for what they count; more share them.
const SLOTS: i32 = 8;

/// How many writers a node has.
const WRITERS: i32 = 3;

impl Postgres {
    /// Connects, and brings the schema up to date; the node gets a number of its own. Blocks.
    ///
    /// # Errors
    /// Where the database cannot be reached, runs without fsync, or was written by a newer release.
    pub fn open(config: &PostgresConfig) -> Result<Self> {
        on_a_thread(|| Self::connect(config))
    }

    fn connect(config: &PostgresConfig) -> Result<Self> {
        let mut first = Db::open(config).map_err(unavailable("connect to the database"))?;
        schema::migrate(&mut first).map_err(unavailable("bring the schema up to date"))?;
        let node = leases::number(&mut first).map_err(unavailable("number the node"))?;
        let server = |writer: i32| Server { config: config.clone(), slot: node % SLOTS * WRITERS + writer };
        let started = |server: Server| {
            let connection = server.open().map_err(unavailable("connect to the database"))?;
            Ok(Writer::start(server, connection))
        };
        drop(first);
        Ok(Self {
            accepting: started(server(0))?,
            recording: started(server(1))?,
            marking: started(server(2))?,
            readers: Readers::new(config),
            node,
            lease: config.lease,
            config: config.clone(),
        })
    }

    /// The version of the database's schema, and the newest that this release knows. Blocks, changes nothing.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub fn versions(config: &PostgresConfig) -> Result<(usize, usize)> {
        on_a_thread(|| {
            let mut db = Db::open(config).map_err(unavailable("connect to the database"))?;
            schema::versions(&mut db).map_err(unavailable("read the schema's version"))
        })
    }

    /// Brings the schema up to date, and no node begins. Blocks.
    ///
    /// # Errors
    /// Where the database cannot be reached, runs without fsync, or was written by a newer release.
    pub fn migrate(config: &PostgresConfig) -> Result<()> {
        on_a_thread(|| {
            let mut db = Db::open(config).map_err(unavailable("connect to the database"))?;
            schema::migrate(&mut db).map_err(unavailable("bring the schema up to date"))
        })
    }

    /// Writes in the company of others; ends when that is synced.
    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        rows: usize,
        urgency: Urgency,
        work: impl FnOnce(&mut Db) -> Sql<T> + Send + 'static,
    ) -> Result<T> {
        let writer = if urgency == Urgency::Now { &self.accepting } else { &self.recording };
        writer.write(what, rows, urgency, work).await
    }
}

impl crate::Store for Postgres {
    fn close(&self) {
        self.accepting.stop();
        self.recording.stop();
        self.marking.stop();
        self.readers.close();
        let released = on_a_thread(|| {
            let mut db = Db::open(&self.config).map_err(unavailable("connect to the database"))?;
            leases::release_callbacks(&mut db, self.node).map_err(unavailable("release callbacks"))
        });
        if let Err(error) = released {
            warn!(%error, "Cannot release callbacks; other nodes take them when their leases have run out");
        }
    }
}

impl Database for Server {
    type Connection = Db;
    type Error = SqlError;

    fn open(&self) -> Sql<Db> {
        let mut db = Db::open(&self.config)?;
        db.slot = self.slot;
        Ok(db)
    }

    fn begin(db: &mut Db) -> Sql<()> {
        db.batch("BEGIN ISOLATION LEVEL READ COMMITTED")
    }

    fn commit(db: &mut Db) -> Sql<()> {
        db.commit()
    }

    fn in_savepoint<T>(db: &mut Db, work: impl FnOnce(&mut Db) -> Sql<T>) -> Sql<Sql<T>> {
        let counts = db.counts.clone();
        db.ahead("SAVEPOINT job");
        let result = work(db);
        if db.is_broken() {
            return result.map(Ok);
        }
        if result.is_err() {
            db.counts = counts;
            db.batch("ROLLBACK TO job")?;
        } else {
            db.ahead("RELEASE job");
        }
        Ok(result)
    }

    fn close(db: Db) {
        drop(db);
    }
}

/// A connection has a runtime of its own, which must not be driven by a thread that drives another.
pub(crate) fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn unavailable(what: &'static str) -> impl Fn(SqlError) -> StoreError {
    move |source| StoreError::Unavailable { what, source: Box::new(source) }
}
