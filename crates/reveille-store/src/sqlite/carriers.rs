//! What carriers must not forget: notices, and how logins ended.

use super::Sqlite;
use super::codes::read_id;
use crate::writer::Urgency;
use crate::{Carriers, KeptNotice, LoginEnd, LoginTurn, NoticeKey, Result};
use async_trait::async_trait;
use reveille_domain::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

#[async_trait]
impl Carriers for Sqlite {
    async fn keep_notices(&self, notices: Vec<KeptNotice>) -> Result<()> {
        let rows = notices.len();
        self.write("keep notices", rows, Urgency::InCompany, move |db| keep(db, &notices)).await
    }

    async fn notices(&self, of: Vec<NoticeKey>) -> Result<Vec<Option<Box<str>>>> {
        self.readers.read("read notices", move |db| notices(db, &of)).await
    }

    async fn noticed(&self, since: Timestamp, limit: usize) -> Result<Vec<NoticeKey>> {
        let noticed = move |db: &Connection| {
            let mut select = db.prepare_cached(
                "SELECT name, iccid FROM carrier_notice WHERE heard_at >= ?
                 ORDER BY heard_at DESC LIMIT ?",
            )?;
            let key =
                |row: &rusqlite::Row<'_>| Ok(NoticeKey { name: row.get("name")?, iccid: read_id(row, 1)? });
            select.query_map(params![since.0, limit], key)?.collect()
        };
        self.readers.read("see what was noticed", noticed).await
    }

    async fn begin_login(
        &self,
        login: &str,
        credentials: &str,
        failures_max: u32,
        at: Timestamp,
        until: Timestamp,
    ) -> Result<LoginTurn> {
        let (login, credentials) = (login.to_owned(), credentials.to_owned());
        let begin = move |db: &Connection| begin_login(db, &login, &credentials, failures_max, at, until);
        self.write("begin a login", 1, Urgency::Now, begin).await
    }

    async fn end_login(&self, login: &str, ended: LoginEnd) -> Result<()> {
        let login = login.to_owned();
        let end = move |db: &Connection| {
            let update = match ended {
                LoginEnd::Succeeded => {
                    "UPDATE carrier_login SET failures = 0, proven = 1, begun_until = 0 WHERE login = ?"
                }
                LoginEnd::Refused => "UPDATE carrier_login SET proven = 0, begun_until = 0 WHERE login = ?",
                LoginEnd::NotSent => {
                    "UPDATE carrier_login SET failures = failures - 1, begun_until = 0 WHERE login = ?"
                }
            };
            db.execute(update, [&login]).map(drop)
        };
        self.write("end a login", 1, Urgency::Now, end).await
    }

    async fn forgive_logins(&self, failures: u32) -> Result<()> {
        let forgive = move |db: &Connection| {
            db.execute("UPDATE carrier_login SET failures = min(failures, ?)", [failures]).map(drop)
        };
        self.write("forgive failed logins", 1, Urgency::Now, forgive).await
    }
}

fn keep(db: &Connection, notices: &[KeptNotice]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO carrier_notice (name, iccid, text, heard_at) VALUES (?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    for KeptNotice { key, text, heard_at } in notices {
        insert.execute(params![key.name, key.iccid.as_str(), text, heard_at.0])?;
    }
    Ok(())
}

fn notices(db: &Connection, of: &[NoticeKey]) -> rusqlite::Result<Vec<Option<Box<str>>>> {
    let select = "SELECT text FROM carrier_notice WHERE name = ? AND iccid = ?";
    let mut select = db.prepare_cached(select)?;
    let text = |key: &NoticeKey| {
        let found = select.query_row(params![key.name, key.iccid.as_str()], |row| row.get(0));
        found.optional()
    };
    of.iter().map(text).collect()
}

fn begin_login(
    db: &Connection,
    login: &str,
    credentials: &str,
    failures_max: u32,
    at: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<LoginTurn> {
    db.execute(
        "INSERT INTO carrier_login (login, credentials, failures, proven, begun_until) VALUES (?, ?, 0, 0, 0)
         ON CONFLICT DO NOTHING",
        [login, credentials],
    )?;
    let begun = db.execute(
        "UPDATE carrier_login SET failures = failures + 1, begun_until = ?1, proven = proven AND credentials = ?2,
                credentials = ?2
         WHERE login = ?3 AND begun_until <= ?4
           AND (iif(credentials = ?2, proven OR failures < ?5, failures <= ?5))",
        params![until.0, credentials, login, at.0, failures_max],
    )?;
    if begun > 0 {
        return Ok(LoginTurn::Now);
    }
    let select = "SELECT begun_until FROM carrier_login WHERE login = ?";
    let begun_until: i64 = db.query_row(select, [login], |row| row.get(0))?;
    Ok(if begun_until > at.0 { LoginTurn::Later } else { LoginTurn::NoMore })
}
