//! What carriers must not forget: notices, and how logins ended.

use super::Postgres;
use super::codes::{get, int, limit, read_id, read_text};
use super::connection::{Db, Sql};
use crate::writer::Urgency;
use crate::{Carriers, KeptNotice, LoginEnd, LoginTurn, NoticeKey, Result};
use async_trait::async_trait;
use reveille_domain::Timestamp;
use tokio_postgres::Row;

#[async_trait]
impl Carriers for Postgres {
    async fn keep_notices(&self, notices: Vec<KeptNotice>) -> Result<()> {
        let rows = notices.len();
        self.write("keep notices", rows, Urgency::InCompany, move |db| keep(db, &notices)).await
    }

    async fn notices(&self, of: Vec<NoticeKey>) -> Result<Vec<Option<Box<str>>>> {
        self.readers.read("read notices", move |db| notices(db, &of)).await
    }

    async fn noticed(&self, since: Timestamp, at_most: usize) -> Result<Vec<NoticeKey>> {
        let noticed = move |db: &mut Db| {
            let rows = db.query(
                "SELECT name, iccid FROM carrier_notice WHERE heard_at >= $1
                 ORDER BY heard_at DESC LIMIT $2",
                &[&since.0, &limit(at_most)],
            )?;
            let key =
                |row: &Row| Ok(NoticeKey { name: read_text(row, "name")?, iccid: read_id(row, "iccid")? });
            rows.iter().map(key).collect()
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
        let begin = move |db: &mut Db| begin_login(db, &login, &credentials, failures_max, at, until);
        self.write("begin a login", 1, Urgency::Now, begin).await
    }

    async fn end_login(&self, login: &str, ended: LoginEnd) -> Result<()> {
        let login = login.to_owned();
        let end = move |db: &mut Db| {
            let update = match ended {
                LoginEnd::Succeeded => {
                    "UPDATE carrier_login SET failures = 0, proven = true, begun_until = 0 WHERE login = $1"
                }
                LoginEnd::Refused => {
                    "UPDATE carrier_login SET proven = false, begun_until = 0 WHERE login = $1"
                }
                LoginEnd::NotSent => {
                    "UPDATE carrier_login SET failures = failures - 1, begun_until = 0 WHERE login = $1"
                }
            };
            db.execute(update, &[&login]).map(drop)
        };
        self.write("end a login", 1, Urgency::Now, end).await
    }

    async fn forgive_logins(&self, failures: u32) -> Result<()> {
        let forgive = move |db: &mut Db| {
            db.execute("UPDATE carrier_login SET failures = least(failures, $1)", &[&int(failures)]).map(drop)
        };
        self.write("forgive failed logins", 1, Urgency::Now, forgive).await
    }
}

/// The columns of keys, for UNNEST.
fn columns<'a>(keys: impl Iterator<Item = &'a NoticeKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (&*key.name, key.iccid.as_str())).unzip()
}

fn keep(db: &mut Db, notices: &[KeptNotice]) -> Sql<()> {
    let (names, iccids) = columns(notices.iter().map(|notice| &notice.key));
    let texts: Vec<&str> = notices.iter().map(|notice| &*notice.text).collect();
    let heard_at: Vec<i64> = notices.iter().map(|notice| notice.heard_at.0).collect();
    db.execute(
        "INSERT INTO carrier_notice (name, iccid, text, heard_at)
         SELECT k.name, k.iccid, k.text, k.heard_at
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[]) AS k (name, iccid, text, heard_at)
         ORDER BY k.name, k.iccid
         ON CONFLICT DO NOTHING",
        &[&names, &iccids, &texts, &heard_at],
    )?;
    Ok(())
}

fn notices(db: &mut Db, of: &[NoticeKey]) -> Sql<Vec<Option<Box<str>>>> {
    let (names, iccids) = columns(of.iter());
    let rows = db.query(
        "SELECT n.text FROM unnest($1::TEXT[], $2::TEXT[]) WITH ORDINALITY AS k (name, iccid, place)
         LEFT JOIN carrier_notice AS n ON n.name = k.name AND n.iccid = k.iccid ORDER BY k.place",
        &[&names, &iccids],
    )?;
    rows.iter().map(|row| get(row, "text")).collect()
}

fn begin_login(
    db: &mut Db,
    login: &str,
    credentials: &str,
    failures_max: u32,
    at: Timestamp,
    until: Timestamp,
) -> Sql<LoginTurn> {
    db.execute(
        "INSERT INTO carrier_login (login, credentials, failures, proven, begun_until)
         VALUES ($1, $2, 0, false, 0) ON CONFLICT DO NOTHING",
        &[&login, &credentials],
    )?;
    let begun = db.execute(
        "UPDATE carrier_login SET failures = failures + 1, begun_until = $1, proven = proven AND credentials = $2,
                credentials = $2
         WHERE login = $3 AND begun_until <= $4
           AND CASE WHEN credentials = $2 THEN proven OR failures < $5 ELSE failures <= $5 END",
        &[&until.0, &credentials, &login, &at.0, &int(failures_max)],
    )?;
    if begun > 0 {
        return Ok(LoginTurn::Now);
    }
    let select = "SELECT begun_until FROM carrier_login WHERE login = $1";
    let begun_until: i64 = get(&db.query_one(select, &[&login])?, "begun_until")?;
    Ok(if begun_until > at.0 { LoginTurn::Later } else { LoginTurn::NoMore })
}
