//! Where networks differ from the record.

use super::Sqlite;
use super::codes::{optional_id, read_at, read_id, read_network};
use crate::writer::Urgency;
use crate::{Compared, Drift, DriftView, Result, Seen, Standing};
use async_trait::async_trait;
use reveille_domain::{AccountName, Iccid, Network, RequestId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

#[async_trait]
impl Drift for Sqlite {
    async fn begin_comparing(
        &self,
        network: Network,
        at: Timestamp,
        until: Timestamp,
        every: Duration,
    ) -> Result<Option<Option<Iccid>>> {
        let begin = move |db: &Connection| {
            db.execute(
                "INSERT INTO comparison (network, after, began_at, begun_until) VALUES (?, NULL, ?, 0)
                 ON CONFLICT DO NOTHING",
                params![network.name(), at.minus(every).0],
            )?;
            let update = "UPDATE comparison SET begun_until = ?1, began_at = iif(after IS NULL, ?2, began_at)
                          WHERE network = ?3 AND begun_until <= ?2 AND (after IS NOT NULL OR began_at <= ?4)
                          RETURNING after";
            let turn = params![until.0, at.0, network.name(), at.minus(every).0];
            db.query_row(update, turn, |row| optional_id(row, 0)).optional()
        };
        self.write("begin comparing profiles", 1, Urgency::Now, begin).await
    }

    async fn end_comparing(&self, network: Network, reached: Option<Iccid>) -> Result<()> {
        let end = move |db: &Connection| {
            let reached = reached.as_ref().map(Iccid::as_str);
            let update = "UPDATE comparison SET after = ?, begun_until = 0 WHERE network = ?";
            db.execute(update, params![reached, network.name()]).map(drop)
        };
        self.write("end comparing profiles", 1, Urgency::InCompany, end).await
    }

    async fn note_compared(&self, compared: Vec<Compared>, at: Timestamp) -> Result<Vec<Standing>> {
        if compared.iter().all(|compared| compared.seen.is_none()) {
            let iccids: Vec<Iccid> = compared.iter().map(|compared| compared.iccid.clone()).collect();
            let none = move |db: &Connection| is_none_known(db, &iccids);
            if self.readers.read("see what drifts", none).await? {
                return Ok(vec![Standing::Agrees; compared.len()]); // the writer is left alone
            }
        }
        let rows = compared.len();
        let note = move |db: &Connection| compared.iter().map(|compared| note(db, compared, at)).collect();
        self.write("note what drifts", rows, Urgency::InCompany, note).await
    }

    async fn tell_drift(&self, iccid: &Iccid, found_at: Timestamp, request: RequestId) -> Result<()> {
        let iccid = iccid.clone();
        let tell = move |db: &Connection| {
            let update = "UPDATE profile_drift SET request_id = ? WHERE iccid = ? AND found_at = ?";
            db.execute(update, params![request.to_string(), iccid.as_str(), found_at.0]).map(drop)
        };
        self.write("note what tells of a drift", 1, Urgency::InCompany, tell).await
    }

    async fn drifts(
        &self,
        account: &AccountName,
        after: Option<Iccid>,
        limit: usize,
    ) -> Result<Vec<DriftView>> {
        let account = account.clone();
        let drifts = move |db: &Connection| {
            let mut select = db.prepare_cached(
                "SELECT iccid, network, seen, found_at, request_id FROM profile_drift
                 WHERE account = ? AND iccid > ? AND looks > 1 ORDER BY iccid LIMIT ?",
            )?;
            let after = after.as_ref().map_or("", Iccid::as_str);
            select.query_map(params![account.as_str(), after, limit], read_drift)?.collect()
        };
        self.readers.read("list drifts", drifts).await
    }

    async fn drift_counts(&self) -> Result<Vec<(Network, u64)>> {
        let counts = |db: &Connection| {
            let select = "SELECT network, count(*) FROM profile_drift WHERE looks > 1 GROUP BY network";
            let count = |row: &Row<'_>| Ok((read_network(row, 0)?, row.get(1)?));
            db.prepare_cached(select)?.query_map([], count)?.collect()
        };
        self.readers.read("count drifts", counts).await
    }
}

fn is_none_known(db: &Connection, iccids: &[Iccid]) -> rusqlite::Result<bool> {
    let mut select = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM profile_drift WHERE iccid = ?)")?;
    for iccid in iccids {
        if select.query_row([iccid.as_str()], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn note(db: &Connection, compared: &Compared, at: Timestamp) -> rusqlite::Result<Standing> {
    let Compared { account, network, iccid, seen } = compared;
    let Some(seen) = seen else {
        db.prepare_cached("DELETE FROM profile_drift WHERE iccid = ?")?.execute([iccid.as_str()])?;
        return Ok(Standing::Agrees);
    };
    let mut upsert = db.prepare_cached(
        "INSERT INTO profile_drift AS d (iccid, account, network, seen, found_at, looks) VALUES (?, ?, ?, ?, ?, 1)
         ON CONFLICT (iccid) DO UPDATE SET
             looks = iif(d.seen = excluded.seen, d.looks + 1, 1),
             found_at = iif(d.seen = excluded.seen, d.found_at, excluded.found_at),
             request_id = iif(d.seen = excluded.seen, d.request_id, NULL),
             seen = excluded.seen, account = excluded.account, network = excluded.network
         RETURNING looks, found_at, request_id IS NOT NULL",
    )?;
    let row = params![iccid.as_str(), account.as_str(), network.name(), seen.word(), at.0];
    upsert.query_row(row, |row| {
        Ok(match (row.get::<_, u32>(0)?, row.get(2)?) {
            (1, _) => Standing::Suspected,
            (_, true) => Standing::Told,
            (_, false) => Standing::Found { found_at: read_at(row, 1)? },
        })
    })
}

fn read_drift(row: &Row<'_>) -> rusqlite::Result<DriftView> {
    Ok(DriftView {
        iccid: read_id(row, 0)?,
        network: read_network(row, 1)?,
        seen: Seen::of_word(&row.get::<_, Box<str>>(2)?),
        found_at: read_at(row, 3)?,
        request: optional_id(row, 4)?,
    })
}
