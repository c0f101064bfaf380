//! Users in PostgreSQL.
//!
//! A transaction first takes an advisory lock for each of its users, and its COMMIT is sent when everything before
//! it has been answered. So of a connection that was given up, the server either has no COMMIT, and what it reads
//! of the rest it rolls back; or it has all locks until that COMMIT is done, and whoever comes later waits for them.

use super::database::{Became, Entry, Failure, SESSIONS_MAX, Sessions, Wish, session};
use super::tls;
use crate::Trouble;
use reveille_domain::Clock;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, Row};

/// How many connections there are at most. One transaction has many users, so more gain little.
const CONNECTIONS_MAX: usize = 4;

/// How long it may take to connect, and to be welcome.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the other end's system may say nothing before a connection counts as lost. It answers while the
/// database itself stands still.
const GONE_AFTER: Duration = Duration::from_secs(30);
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// How a transaction begins: it waits for nobody for long, and ends soon when we go away in the middle of it. Said
/// in each, since a pooler may give each to another session.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '8s';
     SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// What tells our locks from those of others: "reveille", as a number.
const LOCKS: i64 = i64::from_be_bytes(*b"reveille");

/// In one order, so that of two transactions none waits for what the other will not let go.
const LOCK: &str = "SELECT pg_advisory_xact_lock(lock.key) FROM (
         SELECT DISTINCT hashtextextended(wish.name, $2) AS key FROM unnest($1::text[]) AS wish (name) ORDER BY key
     ) AS lock";

const LOOK_UP: &str = "SELECT
         EXISTS (SELECT FROM radcheck AS c WHERE c.username = wish.name
                    AND NOT (c.attribute = 'Auth-Type' AND c.op = ':=' AND c.value = 'Reject'))
             OR EXISTS (SELECT FROM radreply AS r WHERE r.username = wish.name)
             OR EXISTS (SELECT FROM radusergroup AS g WHERE g.username = wish.name) AS known,
         EXISTS (SELECT FROM radcheck AS c WHERE c.username = wish.name
                    AND c.attribute = 'Auth-Type' AND c.op = ':=' AND c.value = 'Reject') AS refused,
         EXISTS (SELECT FROM radusergroup AS g JOIN radgroupcheck AS c ON c.groupname = g.groupname
                    WHERE g.username = wish.name
                      AND c.attribute = 'Auth-Type' AND c.op = ':=' AND c.value <> 'Reject') AS overruled
     FROM unnest($1::text[]) WITH ORDINALITY AS wish (name, place) ORDER BY wish.place";

const REFUSE: &str = "INSERT INTO radcheck (username, attribute, op, value)
     SELECT wish.name, 'Auth-Type', ':=', 'Reject' FROM unnest($1::text[]) AS wish (name)
     WHERE NOT EXISTS (SELECT FROM radcheck AS c WHERE c.username = wish.name
                          AND c.attribute = 'Auth-Type' AND c.op = ':=' AND c.value = 'Reject')";

const LET_IN: &str = "DELETE FROM radcheck
     WHERE username = ANY ($1::text[]) AND attribute = 'Auth-Type' AND op = ':=' AND value = 'Reject'";

/// An address is `inet` in the schema that FreeRADIUS brings, and text in others.
const SESSIONS: &str = "SELECT username::text, acctsessionid::text, split_part(nasipaddress::text, '/', 1)
     FROM radacct WHERE username = ANY ($1::text[]) AND acctstoptime IS NULL ORDER BY radacctid DESC LIMIT $2";

/// A database, and the connections to it that are idle.
pub(super) struct Postgres {
    config: Config,
    /// Host, port and name, in words for operators.
    at: Box<str>,
    clock: Arc<dyn Clock>,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// A connection; closed when this goes, whatever is under way on it.
struct Connection {
    client: Arc<Client>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where something went wrong.
enum Broken {
    /// Before the COMMIT was sent.
    Before(Error),
    /// After that.
    AtCommit,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

impl Postgres {
    pub(super) fn new(mut config: Config, clock: Arc<dyn Clock>) -> Self {
        config.application_name("reveille");
        config.tcp_user_timeout(GONE_AFTER).keepalives_idle(ASKED_EVERY).keepalives_interval(ASKED_EVERY);
        let at = place(&config).into();
        Self { config, at, clock, places: Semaphore::new(CONNECTIONS_MAX), idle: Mutex::default() }
    }

    pub(super) async fn fulfil(&self, wishes: &[Wish]) -> Result<Vec<Became>, Failure> {
        self.with_connection(|client| fulfil(client, wishes)).await
    }

    pub(super) async fn look_up(&self, users: &[String]) -> Result<Vec<Entry>, Failure> {
        self.with_connection(|client| async move { Ok(look_up(&client, users).await?) }).await
    }

    pub(super) async fn sessions(&self, users: &[String]) -> Result<Sessions, Failure> {
        let rows = self.with_connection(|client| async move {
            Ok(client.query_typed(SESSIONS, &[texts(&users), (&SESSIONS_MAX, Type::INT8)]).await?)
        });
        let mut sessions = Sessions::new();
        for row in rows.await? {
            let found = session(row.get(1), row.get(2));
            sessions.entry(row.get(0)).or_default().push(found);
        }
        Ok(sessions)
    }

    /// Asks something whose answer does not matter.
    pub(super) async fn ask(&self, sql: &'static str) -> Result<(), Failure> {
        self.with_connection(|client| async move { Ok(client.query_typed(sql, &[]).await?) }).await.map(drop)
    }

    /// Does something on a connection that nobody else has, on a new one where an old one turns out to be dead.
    /// After an error, or where the caller goes, it is closed.
    async fn with_connection<T, F>(&self, work: impl Fn(Arc<Client>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Broken>>,
    {
        let _place = self.place().await;
        loop {
            let idle = self.idle().pop();
            let (kept, connection) = match idle {
                Some(connection) => (true, connection),
                None => (false, self.connect().await.map_err(Failure::Unavailable)?),
            };
            match work(Arc::clone(&connection.client)).await {
                Ok(done) => {
                    self.idle().push(connection);
                    return Ok(done);
                }
                Err(Broken::AtCommit) => return Err(Failure::Unknown),
                Err(Broken::Before(error)) if kept && is_lost(&error) => {}
                Err(Broken::Before(error)) => return Err(self.failure(&error)),
            }
        }
    }

    async fn place(&self) -> SemaphorePermit<'_> {
        self.places.acquire().await.expect("it is never closed")
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let at = &self.at;
        tokio::select! {
            biased;
            connected = tls::connect(self.config.clone()) => match connected {
                Ok((client, task)) => Ok(Connection { client: Arc::new(client), task }),
                Err(error) => Err(self.trouble(&error)),
            },
            () = self.clock.sleep(CONNECT_WITHIN) => {
                let within = CONNECT_WITHIN.as_secs();
                let words = format!("{at} does not answer within {within} s: look after PostgreSQL, or the network");
                Err(Trouble::Transport(words.into()))
            }
        }
    }

    /// What to make of an error before which nothing was confirmed.
    fn failure(&self, error: &Error) -> Failure {
        let Some(code) = error.code() else { return Failure::Unavailable(self.trouble(error)) };
        let not_now = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        // The whole class 53 is of what has run out: disk, memory, connections.
        if not_now.contains(code) || code.code().starts_with("53") {
            return Failure::NotNow;
        }
        Failure::Unavailable(self.trouble(error))
    }

    /// What keeps us from using it, in words for the operator. They are the server's own where it has said any,
    /// without details, which may name users.
    fn trouble(&self, error: &Error) -> Trouble {
        let at = &self.at;
        let Some(said) = error.as_db_error() else {
            let words = match cause::<io::Error>(error) {
                Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    format!("{at} refuses connections: start PostgreSQL, or correct `database`")
                }
                Some(error) => {
                    format!("{at} cannot be talked to ({error}): correct `database`, or the network")
                }
                None => format!(
                    "{at} cannot be talked to ({error}): look after PostgreSQL, or correct `database`"
                ),
            };
            return Trouble::Transport(words.into());
        };
        let (code, message) = (said.code().code(), said.message());
        match *said.code() {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Trouble::Credentials(
                format!("{at} refuses our user or password ({message}, {code}): correct `database`").into(),
            ),
            SqlState::INSUFFICIENT_PRIVILEGE => Trouble::Credentials(
                format!("{at} does not let our user do what is needed ({message}, {code}): grant it, see docs/carriers/radius.md").into(),
            ),
            SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_CATALOG_NAME => {
                Trouble::Transport(
                    format!("{at} is not a RADIUS server's ({message}, {code}): correct `database`, or load FreeRADIUS's schema into it").into(),
                )
            }
            _ => Trouble::Transport(format!("{at} cannot be used ({message}, {code}): see its log").into()),
        }
    }
}

/// One transaction: lock, look, change, and confirm.
async fn fulfil(client: Arc<Client>, wishes: &[Wish]) -> Result<Vec<Became>, Broken> {
    let users: Vec<String> = wishes.iter().map(|wish| wish.user.clone()).collect();
    client.batch_execute(BEGIN).await?;
    client.query_typed(LOCK, &[texts(&users.as_slice()), (&LOCKS, Type::INT8)]).await?;
    let entries = look_up(&client, &users).await?;
    let became: Vec<Became> = wishes.iter().zip(entries).map(|(wish, entry)| wish.at(entry)).collect();
    for (refused, sql) in [(true, REFUSE), (false, LET_IN)] {
        let of =
            wishes.iter().zip(&became).filter(|(wish, of)| wish.refused == refused && **of == Became::Done);
        let of: Vec<String> = of.map(|(wish, _)| wish.user.clone()).collect();
        if !of.is_empty() {
            client.query_typed(sql, &[texts(&of.as_slice())]).await?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(|_| Broken::AtCommit)?;
    Ok(became)
}

async fn look_up(client: &Client, users: &[String]) -> Result<Vec<Entry>, Error> {
    let entry = |row: &Row| Entry { known: row.get(0), refused: row.get(1), overruled: row.get(2) };
    Ok(client.query_typed(LOOK_UP, &[texts(&users)]).await?.iter().map(entry).collect())
}

/// A parameter whose type is said, so that nothing is prepared: a pooler may give each transaction another session.
fn texts<'a>(texts: &'a &'a [String]) -> (&'a (dyn ToSql + Sync), Type) {
    (texts, Type::TEXT_ARRAY)
}

/// Whether a connection is no more; the server says that too, when it is being stopped.
fn is_lost(error: &Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code),
    }
}

fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut source = error.source();
    while let Some(one) = source {
        if let Some(found) = one.downcast_ref() {
            return Some(found);
        }
        source = one.source();
    }
    None
}

/// "The RADIUS database radius at db.example:5432".
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => "nowhere".into(),
    };
    let port = config.get_ports().first().unwrap_or(&5432);
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("The RADIUS database {name} at {host}:{port}")
}
