//! What is asked of either database, and what it says.

use super::packet::Session;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use crate::Trouble;
use std::collections::HashMap;

/// How many open sessions are read at a time: those of a transaction's users, and whoever has more than a few is
/// somebody whose ends accounting has missed.
pub(super) const SESSIONS_MAX: i64 = 4096;

const PROBE: &str = "SELECT username FROM radcheck LIMIT 1";
const PROBE_SESSIONS: &str = "SELECT acctsessionid FROM radacct LIMIT 1";

/// That access be refused to a user, or not.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) user: String,
    pub(super) refused: bool,
}

/// What a database has of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// It has something beside a refusal.
    pub(super) known: bool,
    /// Access is refused to him by a row of his own.
    pub(super) refused: bool,
    /// A group of his says how he is let in, and that is what the server goes by.
    pub(super) overruled: bool,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// It is so now, and was not before.
    Done,
    /// It was so.
    AlreadySo,
    /// Nobody has that name.
    NoSuchUser,
    /// The refusal would not be heeded.
    Overruled,
}

/// Why wishes were not fulfilled; all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The database cannot be used. Nothing has been done.
    Unavailable(Trouble),
    /// Not now. Nothing has been done.
    NotNow,
    /// They were to be confirmed, and the answer is lost.
    Unknown,
}

/// The sessions that accounting has seen no end of, by user.
pub(super) type Sessions = HashMap<String, Vec<Session>>;

/// Where users are kept.
///
/// Whoever changes a user holds a lock on him from before he looks until the database has the end of the
/// transaction, also when that end lies unread at the database and nobody is left to hear of it. So nothing
/// that was sent earlier can be done later.
pub(super) enum Database {
    Postgres(Box<Postgres>),
    Sqlite(Sqlite),
}

impl Database {
    /// Fulfils wishes about as many users in one transaction; what became of each, in their order.
    pub(super) async fn fulfil(&self, wishes: Vec<Wish>) -> Result<Vec<Became>, Failure> {
        match self {
            Self::Postgres(postgres) => postgres.fulfil(&wishes).await,
            Self::Sqlite(sqlite) => sqlite.fulfil(wishes).await,
        }
    }

    /// What it has of each user, in their order.
    pub(super) async fn look_up(&self, users: Vec<String>) -> Result<Vec<Entry>, Failure> {
        match self {
            Self::Postgres(postgres) => postgres.look_up(&users).await,
            Self::Sqlite(sqlite) => sqlite.look_up(users).await,
        }
    }

    /// The sessions of these users, the latest [`SESSIONS_MAX`].
    pub(super) async fn sessions(&self, users: Vec<String>) -> Result<Sessions, Failure> {
        match self {
            Self::Postgres(postgres) => postgres.sessions(&users).await,
            Self::Sqlite(sqlite) => sqlite.sessions(users).await,
        }
    }

    /// Whether its users can be read.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        self.ask(PROBE).await
    }

    /// Whether its sessions can be read.
    pub(super) async fn probe_sessions(&self) -> Result<(), Failure> {
        self.ask(PROBE_SESSIONS).await
    }

    async fn ask(&self, sql: &'static str) -> Result<(), Failure> {
        match self {
            Self::Postgres(postgres) => postgres.ask(sql).await,
            Self::Sqlite(sqlite) => sqlite.ask(sql).await,
        }
    }
}

impl Wish {
    /// What becomes of it where a database has that, and whether there is something to change.
    pub(super) fn at(&self, entry: Entry) -> Became {
        match entry {
            Entry { known: false, .. } => Became::NoSuchUser,
            Entry { overruled: true, .. } if self.refused => Became::Overruled,
            Entry { refused, .. } if refused == self.refused => Became::AlreadySo,
            Entry { .. } => Became::Done,
        }
    }
}

/// The session of a row of accounting; an address that is none is left out.
pub(super) fn session(id: String, nas: Option<&str>) -> Session {
    Session { id, nas: nas.and_then(|nas| nas.parse().ok()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_by_nothing_but_a_refusal_is_nobody() {
        let became = |refused, known, has, overruled| {
            Wish { user: "u".into(), refused }.at(Entry { known, refused: has, overruled })
        };
        for (refused, known, has, overruled, expected) in [
            (true, true, false, false, Became::Done),
            (true, true, true, false, Became::AlreadySo),
            (true, true, false, true, Became::Overruled),
            (true, true, true, true, Became::Overruled),
            (true, false, false, false, Became::NoSuchUser),
            (true, false, true, false, Became::NoSuchUser),
            (false, true, true, false, Became::Done),
            (false, true, true, true, Became::Done),
            (false, true, false, true, Became::AlreadySo),
            (false, false, true, false, Became::NoSuchUser),
        ] {
            assert_eq!(
                became(refused, known, has, overruled),
                expected,
                "{refused} {known} {has} {overruled}"
            );
        }
    }
}
