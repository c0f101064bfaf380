//! Users in a file of SQLite's.
//!
//! A transaction has SQLite's write lock from its beginning to its end, and is not confirmed where nobody waits for
//! it any more; so what comes after it finds it done, or never to be done. The file is opened for each, since
//! another may have been put in its place, and its journal mode is left to the RADIUS server.

use super::database::{Became, Entry, Failure, SESSIONS_MAX, Sessions, Wish, session};
use crate::Trouble;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the database may be locked by others before it is tried again later.
const BUSY_FOR: Duration = Duration::from_secs(2);

const LOOK_UP: &str = "SELECT
         EXISTS (SELECT 1 FROM radcheck WHERE username = ?1
                    AND NOT (attribute = 'Auth-Type' AND op = ':=' AND value = 'Reject'))
             OR EXISTS (SELECT 1 FROM radreply WHERE username = ?1)
             OR EXISTS (SELECT 1 FROM radusergroup WHERE username = ?1),
         EXISTS (SELECT 1 FROM radcheck WHERE username = ?1
                    AND attribute = 'Auth-Type' AND op = ':=' AND value = 'Reject'),
         EXISTS (SELECT 1 FROM radusergroup AS g JOIN radgroupcheck AS c ON c.groupname = g.groupname
                    WHERE g.username = ?1 AND c.attribute = 'Auth-Type' AND c.op = ':=' AND c.value <> 'Reject')";

const REFUSE: &str =
    "INSERT INTO radcheck (username, attribute, op, value) VALUES (?1, 'Auth-Type', ':=', 'Reject')";

const LET_IN: &str = "DELETE FROM radcheck
     WHERE username = ?1 AND attribute = 'Auth-Type' AND op = ':=' AND value = 'Reject'";

const SESSIONS: &str = "SELECT acctsessionid, nasipaddress FROM radacct
     WHERE username = ?1 AND acctstoptime IS NULL ORDER BY radacctid DESC LIMIT ?2";

/// A file, used by one at a time.
pub(super) struct Sqlite {
    file: PathBuf,
    turn: Arc<Semaphore>,
}

/// Where something went wrong.
enum Broken {
    /// Before it was confirmed.
    Before(Error),
    /// In confirming it.
    AtCommit,
    /// Nobody waits for it, so it was not confirmed.
    Unwanted,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

impl Sqlite {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn fulfil(&self, wishes: Vec<Wish>) -> Result<Vec<Became>, Failure> {
        self.with_file(move |db, caller| fulfil(db, &wishes, caller)).await
    }

    pub(super) async fn look_up(&self, users: Vec<String>) -> Result<Vec<Entry>, Failure> {
        self.with_file(move |db, _| {
            let snapshot = db.transaction()?;
            Ok(users.iter().map(|user| look_up(&snapshot, user)).collect::<Result<_, _>>()?)
        })
        .await
    }

    pub(super) async fn sessions(&self, users: Vec<String>) -> Result<Sessions, Failure> {
        self.with_file(move |db, _| {
            let mut found = Sessions::new();
            for user in users {
                let mut statement = db.prepare_cached(SESSIONS)?;
                let rows = statement.query_map((&user, SESSIONS_MAX), |row| {
                    Ok(session(row.get(0)?, row.get::<_, Option<String>>(1)?.as_deref()))
                })?;
                let sessions = rows.collect::<Result<Vec<_>, _>>()?;
                drop(statement);
                if !sessions.is_empty() {
                    found.insert(user, sessions);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Asks something whose answer does not matter.
    pub(super) async fn ask(&self, sql: &'static str) -> Result<(), Failure> {
        self.with_file(move |db, _| Ok(db.prepare(sql)?.exists([]).map(drop)?)).await
    }

    /// Does something with the file, where it may block, in turn. The second argument is there as long as the
    /// caller is.
    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &Weak<()>) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.expect("it is never closed");
        let waits = Arc::new(());
        let caller = Arc::downgrade(&waits);
        let file = self.file.clone();
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            open(&file).map_err(Broken::Before).and_then(|mut db| work(&mut db, &caller))
        });
        match working.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Broken::Before(error))) => Err(failure(&self.file, &error)),
            Ok(Err(Broken::Unwanted)) => Err(Failure::NotNow),
            Ok(Err(Broken::AtCommit)) | Err(_) => Err(Failure::Unknown),
        }
    }
}

/// The file must be there: whose it is makes it.
fn open(file: &Path) -> Result<Connection, Error> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(BUSY_FOR)?;
    Ok(db)
}

/// One transaction: lock, look, change, and confirm.
fn fulfil(db: &mut Connection, wishes: &[Wish], caller: &Weak<()>) -> Result<Vec<Became>, Broken> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut became = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let of = wish.at(look_up(&transaction, &wish.user)?);
        if of == Became::Done {
            let sql = if wish.refused { REFUSE } else { LET_IN };
            transaction.prepare_cached(sql)?.execute([&wish.user])?;
        }
        became.push(of);
    }
    if caller.strong_count() == 0 {
        return Err(Broken::Unwanted);
    }
    match transaction.commit() {
        Ok(()) => Ok(became),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Err(error.into()), // and undone
        Err(_) => Err(Broken::AtCommit),
    }
}

fn look_up(db: &Connection, user: &str) -> Result<Entry, Error> {
    let mut statement = db.prepare_cached(LOOK_UP)?;
    statement.query_row([user], |row| {
        Ok(Entry { known: row.get(0)?, refused: row.get(1)?, overruled: row.get(2)? })
    })
}

/// What to make of an error before which nothing was confirmed.
fn failure(file: &Path, error: &Error) -> Failure {
    let at = format!("The RADIUS database {}", file.display());
    let words = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
            return Failure::NotNow;
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => {
            let words =
                format!("{at} may not be written by us ({error}): let our user write it and its folder");
            return Failure::Unavailable(Trouble::Credentials(words.into()));
        }
        Some(ErrorCode::CannotOpen) => {
            format!(
                "{at} cannot be opened: make it, let our user write it and its folder, or correct `database`"
            )
        }
        Some(ErrorCode::NotADatabase) => format!("{at} is none of SQLite's: correct `database`"),
        _ => {
            format!("{at} cannot be used ({error}): correct `database`, or load FreeRADIUS's schema into it")
        }
    };
    Failure::Unavailable(Trouble::Transport(words.into()))
}
