//! Where networks differ from the record.

use super::Postgres;
use super::codes::{get, limit, optional_id, read_at, read_id, read_network, read_text, read_u32};
use super::connection::{Db, Sql};
use crate::writer::Urgency;
use crate::{Compared, Drift, DriftView, Result, Seen, Standing};
use async_trait::async_trait;
use reveille_domain::{AccountName, Iccid, Network, RequestId, Timestamp};
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;

#[async_trait]
impl Drift for Postgres {
    async fn begin_comparing(
        &self,
        network: Network,
        at: Timestamp,
        until: Timestamp,
        every: Duration,
    ) -> Result<Option<Option<Iccid>>> {
        let begin = move |db: &mut Db| {
            let earliest = at.minus(every).0;
            db.execute(
                "INSERT INTO comparison (network, after, began_at, begun_until) VALUES ($1, NULL, $2, 0)
                 ON CONFLICT DO NOTHING",
                &[&network.name(), &earliest],
            )?;
            let row = db.query_opt(
                "UPDATE comparison SET begun_until = $1,
                        began_at = CASE WHEN after IS NULL THEN $2 ELSE began_at END
                 WHERE network = $3 AND begun_until <= $2 AND (after IS NOT NULL OR began_at <= $4)
                 RETURNING after",
                &[&until.0, &at.0, &network.name(), &earliest],
            )?;
            row.map(|row| optional_id(&row, "after")).transpose()
        };
        self.write("begin comparing profiles", 1, Urgency::Now, begin).await
    }

    async fn end_comparing(&self, network: Network, reached: Option<Iccid>) -> Result<()> {
        let end = move |db: &mut Db| {
            let reached = reached.as_ref().map(Iccid::as_str);
            let update = "UPDATE comparison SET after = $1, begun_until = 0 WHERE network = $2";
            db.execute(update, &[&reached, &network.name()]).map(drop)
        };
        self.write("end comparing profiles", 1, Urgency::InCompany, end).await
    }

    async fn note_compared(&self, compared: Vec<Compared>, at: Timestamp) -> Result<Vec<Standing>> {
        if compared.iter().all(|compared| compared.seen.is_none()) {
            let iccids: Vec<Iccid> = compared.iter().map(|compared| compared.iccid.clone()).collect();
            let none = move |db: &mut Db| is_none_known(db, &iccids);
            if self.readers.read("see what drifts", none).await? {
                return Ok(vec![Standing::Agrees; compared.len()]); // the writer is left alone
            }
        }
        let rows = compared.len();
        self.write("note what drifts", rows, Urgency::InCompany, move |db| note(db, &compared, at)).await
    }

    async fn tell_drift(&self, iccid: &Iccid, found_at: Timestamp, request: RequestId) -> Result<()> {
        let iccid = iccid.clone();
        let tell = move |db: &mut Db| {
            let update = "UPDATE profile_drift SET request_id = $1 WHERE iccid = $2 AND found_at = $3";
            db.execute(update, &[&request.to_string(), &iccid.as_str(), &found_at.0]).map(drop)
        };
        self.write("note what tells of a drift", 1, Urgency::InCompany, tell).await
    }

    async fn drifts(
        &self,
        account: &AccountName,
        after: Option<Iccid>,
        at_most: usize,
    ) -> Result<Vec<DriftView>> {
        let account = account.clone();
        let drifts = move |db: &mut Db| {
            let after = after.as_ref().map_or("", Iccid::as_str);
            let rows = db.query(
                "SELECT iccid, network, seen, found_at, request_id FROM profile_drift
                 WHERE account = $1 AND iccid > $2 AND looks > 1 ORDER BY iccid LIMIT $3",
                &[&account.as_str(), &after, &limit(at_most)],
            )?;
            rows.iter().map(read_drift).collect()
        };
        self.readers.read("list drifts", drifts).await
    }

    async fn drift_counts(&self) -> Result<Vec<(Network, u64)>> {
        let counts = |db: &mut Db| {
            let select =
                "SELECT network, count(*) AS profiles FROM profile_drift WHERE looks > 1 GROUP BY network";
            let count = |row: &Row| {
                let profiles: i64 = get(row, "profiles")?;
                Ok((read_network(row, "network")?, u64::try_from(profiles).unwrap_or(0)))
            };
            db.query(select, &[])?.iter().map(count).collect()
        };
        self.readers.read("count drifts", counts).await
    }
}

fn is_none_known(db: &mut Db, iccids: &[Iccid]) -> Sql<bool> {
    let iccids: Vec<&str> = iccids.iter().map(Iccid::as_str).collect();
    let select = "SELECT NOT EXISTS (SELECT 1 FROM profile_drift WHERE iccid = ANY($1)) AS is_none";
    get(&db.query_one(select, &[&iccids])?, "is_none")
}

fn note(db: &mut Db, compared: &[Compared], at: Timestamp) -> Sql<Vec<Standing>> {
    let agree: Vec<&str> =
        compared.iter().filter(|one| one.seen.is_none()).map(|one| one.iccid.as_str()).collect();
    db.execute("DELETE FROM profile_drift WHERE iccid = ANY($1)", &[&agree])?;
    let differing: Vec<(&Compared, Seen)> =
        compared.iter().filter_map(|one| Some((one, one.seen?))).collect();
    let iccids: Vec<&str> = differing.iter().map(|(one, _)| one.iccid.as_str()).collect();
    let accounts: Vec<&str> = differing.iter().map(|(one, _)| one.account.as_str()).collect();
    let networks: Vec<&str> = differing.iter().map(|(one, _)| one.network.name()).collect();
    let seen: Vec<&str> = differing.iter().map(|(_, seen)| seen.word()).collect();
    let rows = db.query(
        "INSERT INTO profile_drift AS d (iccid, account, network, seen, found_at, looks)
         SELECT k.iccid, k.account, k.network, k.seen, $5, 1
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[]) AS k (iccid, account, network, seen)
         ORDER BY k.iccid
         ON CONFLICT (iccid) DO UPDATE SET
             looks = CASE WHEN d.seen = excluded.seen THEN d.looks + 1 ELSE 1 END,
             found_at = CASE WHEN d.seen = excluded.seen THEN d.found_at ELSE excluded.found_at END,
             request_id = CASE WHEN d.seen = excluded.seen THEN d.request_id END,
             seen = excluded.seen, account = excluded.account, network = excluded.network
         RETURNING iccid, looks, found_at, request_id IS NOT NULL AS is_told",
        &[&iccids, &accounts, &networks, &seen, &at.0],
    )?;
    let standing = |row: &Row| -> Sql<(Iccid, Standing)> {
        let standing = match (read_u32(row, "looks")?, get(row, "is_told")?) {
            (1, _) => Standing::Suspected,
            (_, true) => Standing::Told,
            (_, false) => Standing::Found { found_at: read_at(row, "found_at")? },
        };
        Ok((read_id(row, "iccid")?, standing))
    };
    let standings: HashMap<Iccid, Standing> = rows.iter().map(standing).collect::<Sql<_>>()?;
    Ok(compared.iter().map(|one| standings.get(&one.iccid).copied().unwrap_or(Standing::Agrees)).collect())
}

fn read_drift(row: &Row) -> Sql<DriftView> {
    Ok(DriftView {
        iccid: read_id(row, "iccid")?,
        network: read_network(row, "network")?,
        seen: Seen::of_word(&read_text(row, "seen")?),
        found_at: read_at(row, "found_at")?,
        request: optional_id(row, "request_id")?,
    })
}
