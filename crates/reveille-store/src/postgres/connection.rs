//! One connection: statements prepared once, and every wait on the database has an end.
//!
//! A connection belongs to one thread at a time and drives its socket on a small runtime of its own, so that
//! the functions over it read like those over SQLite.

use super::counts::{self, Counts};
use super::{PostgresConfig, tls};
use crate::writer::Chain;
use std::collections::HashMap;
use std::mem::take;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// How long one statement may take, from sending it to the end of its answer. A database that does not
/// answer by then is given up, and with it the connection.
const STATEMENT_WITHIN: Duration = Duration::from_secs(30);

/// How long a migration may take: of a big store it rebuilds indexes.
const MIGRATED_WITHIN: Duration = Duration::from_hours(6);

/// How long opening a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long synchronous standbys may take to catch up with what a new session could see.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

/// A commit that changes nothing.
const EMPTY_COMMIT: &str = "SELECT pg_logical_emit_message(true, 'reveille', '')";

/// What each session is told: a commit is confirmed when it is on disk (and with synchronous standbys, on
/// theirs), no statement waits long for another's rows, and a transaction whose node went away ends soon.
///
/// Statements are planned once, whatever their parameters, and along indexes, however few rows a table had then
/// or many of them are sought: else a claim of 512 eUICCs would read all eUICCs. `tests/outside/plans.py` looks at
/// each. None runs long enough to be worth compiling.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '25s'; SET lock_timeout = '5s';
     SET idle_in_transaction_session_timeout = '10s'; SET TIME ZONE 'UTC'; SET client_min_messages = warning;
     SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    /// The database refused, or the connection broke.
    #[error("{}", told(.0))]
    Refused(tokio_postgres::Error), // no source: its words are all told
    /// The database did not answer in time.
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    /// Its synchronous standbys do not have what it shows.
    #[error(
        "the database's synchronous standbys (synchronous_standby_names) did not confirm a commit within \
         {FOLLOWED_WITHIN:?}: see that one is connected"
    )]
    Unfollowed,
    /// A column holds what nobody writes.
    #[error("column {column} holds {text:?}")]
    Corrupt {
        /// Which.
        column: &'static str,
        /// What.
        text: String,
    },
    /// The connection cannot be made.
    #[error("{0}")]
    Setup(String),
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

/// The server's own words, where it has said any, without details, which may name identifiers.
fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => Chain(error).to_string(),
    }
}

/// What the functions over a connection answer.
pub(super) type Sql<T> = Result<T, SqlError>;

/// An open connection.
pub(super) struct Db {
    client: Client,
    statements: HashMap<Box<str>, Statement>,
    /// Taken out when the connection is dropped.
    runtime: Option<Runtime>,
    broken: bool,
    ahead: String,
    /// What the transaction adds to what waits and is untold.
    pub(super) counts: Counts,
    /// Where that is counted: each writer of a node has a place of its own.
    pub(super) slot: i32,
}

impl Db {
    /// Connects, and says how the session shall be.
    pub(super) fn open(config: &PostgresConfig) -> Sql<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SqlError::Setup(error.to_string()))?;
        let connecting = tls::connect(&config.url);
        let client = within(&runtime, CONNECT_WITHIN, connecting)?;
        let mut db = Self {
            client,
            statements: HashMap::new(),
            runtime: Some(runtime),
            broken: false,
            ahead: String::new(),
            counts: Counts::default(),
            slot: 0,
        };
        db.batch(SESSION)?;
        db.be_followed()?;
        Ok(db)
    }

    /// Ends when the database's synchronous standbys, if it has any, have all that this session can see.
    ///
    /// Whoever waits for a commit learns of it when they have it; but a database that comes back from a crash shows
    /// also what had not got so far. Told to anybody, it would be a promise that a failover breaks. Such a commit is
    /// followed by this one, which waits as all do.
    fn be_followed(&mut self) -> Sql<()> {
        let runtime = self.runtime.as_ref().expect("it is there until the connection is dropped");
        let commit = async { Ok(self.client.batch_execute(EMPTY_COMMIT).await?) };
        match within(runtime, FOLLOWED_WITHIN, commit) {
            Err(SqlError::Silent(_)) => {
                // Nobody else ends a session that waits for a standby, and there would be one more at each try.
                let _ = within(runtime, CONNECT_WITHIN, tls::cancel(&self.client));
                Err(SqlError::Unfollowed)
            }
            done => done,
        }
    }

    /// Whether it must not be used again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.client.is_closed()
    }

    /// Every row that `sql` answers.
    pub(super) fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Sql<Vec<Row>> {
        let statement = self.prepare(sql)?;
        self.run(|client| async move { client.query(&statement, params).await })
    }

    /// The row that `sql` answers, if it answers any.
    pub(super) fn query_opt(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Sql<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// The row that `sql` answers, which answers one.
    pub(super) fn query_one(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Sql<Row> {
        let statement = self.prepare(sql)?;
        self.run(|client| async move { client.query_one(&statement, params).await })
    }

    /// How many rows `sql` changed.
    pub(super) fn execute(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Sql<usize> {
        let statement = self.prepare(sql)?;
        let rows = self.run(|client| async move { client.execute(&statement, params).await })?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Sql<()> {
        self.run(|client| async move { client.batch_execute(sql).await })
    }

    /// The same where it may take long, for nobody waits behind it.
    pub(super) fn batch_at_leisure(&mut self, sql: &str) -> Sql<()> {
        self.run_within(MIGRATED_WITHIN, |client| async move { client.batch_execute(sql).await })
    }

    /// Sends this ahead of what comes next, whose answer is not waited for twice. It must be a statement that
    /// succeeds on a sound connection: where it fails, the connection is given up.
    pub(super) fn ahead(&mut self, sql: &str) {
        self.ahead.push_str(sql);
        self.ahead.push(';');
    }

    /// Ends the transaction, synced, with its counts; where this fails, nobody knows.
    pub(super) fn commit(&mut self) -> Sql<()> {
        counts::write(self)?;
        self.batch("COMMIT")
    }

    fn prepare(&mut self, sql: &str) -> Sql<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.run(|client| async move { client.prepare(sql).await })?;
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    fn run<'a, T, F>(&'a mut self, work: impl FnOnce(&'a Client) -> F) -> Sql<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>> + 'a,
    {
        self.run_within(STATEMENT_WITHIN, work)
    }

    fn run_within<'a, T, F>(&'a mut self, limit: Duration, work: impl FnOnce(&'a Client) -> F) -> Sql<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>> + 'a,
    {
        let runtime = self.runtime.as_ref().expect("it is there until the connection is dropped");
        let (client, ahead) = (&self.client, take(&mut self.ahead));
        let sent = async {
            let first = async { if ahead.is_empty() { Ok(()) } else { client.batch_execute(&ahead).await } };
            Ok(tokio::join!(biased; first, work(client)))
        };
        let (first, done) = match within(runtime, limit, sent) {
            Ok((first, done)) => (first, done.map_err(SqlError::from)),
            Err(silent) => (Ok(()), Err(silent)),
        };
        // A statement that was refused leaves the connection as it was; silence does not.
        self.broken |= first.is_err() || matches!(done, Err(SqlError::Silent(_)));
        first?;
        done
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // may be dropped where nothing may block
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the database lives in real time, not in the server's clock")]
fn within<T>(runtime: &Runtime, limit: Duration, work: impl Future<Output = Sql<T>>) -> Sql<T> {
    runtime
        .block_on(async { tokio::time::timeout(limit, work).await.unwrap_or(Err(SqlError::Silent(limit))) })
}

/// Has the planner take rows as they come out of the indexes, for the rest of the
/// transaction: it does not know how few are wanted, and would read and sort all to answer the first.
pub(super) fn in_order(db: &mut Db) {
    db.ahead("SET LOCAL enable_sort = off");
}
