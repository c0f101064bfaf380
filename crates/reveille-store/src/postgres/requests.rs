//! Claiming and reading back what waits, and showing requests.

use super::codes::{
    self, HEAD, Heads, PROFILE, get, int, lane, limit, optional_at, read_fault, read_head, read_id,
    read_network, read_position, read_profile, read_subject, read_text, read_u32,
};
use super::connection::{Db, Sql, in_order};
use super::pages::PAGE;
use super::{Postgres, accept, history, leases, pages, record};
use crate::writer::Urgency;
use crate::{
    AcceptLimits, Acceptance, Accepted, Backlog, ChangeCounts, Claim, DeviceKey, Handed, HistoryForgotten,
    ITSELF, Lane, NewRequest, ProfileKey, ProfileTarget, Recorded, Recording, RequestFilter, RequestView,
    Requests, Result, SubrequestFilter, SubrequestState, SubrequestView, Target, UnsettledCall, Waiting,
    Warning, Written,
};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Fault, Network, Part, Position, Profile, RequestId, Subject, Timestamp,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;

#[async_trait]
impl Requests for Postgres {
    async fn accept_then(
        &self,
        request: NewRequest,
        limits: AcceptLimits,
        accepted: Accepted,
    ) -> Result<Acceptance> {
        let rows = request.subrequests.len();
        let write = move |db: &mut Db| accept::accept(db, &request, limits);
        let settled = |acceptance: &Acceptance| {
            if let Acceptance::Accepted { sequence } = acceptance {
                accepted(*sequence);
            }
        };
        self.accepting.write_then("accept a request", rows, Urgency::Now, write, settled).await
    }

    async fn lanes(&self) -> Result<Vec<(AccountName, Lane)>> {
        self.readers.read("find the lanes in which work waits", lanes).await
    }

    async fn waiting(
        &self,
        account: &AccountName,
        in_lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>> {
        let account = account.clone();
        self.readers.read("read what waits", move |db| waiting(db, &account, in_lane, after, limit)).await
    }

    async fn waiting_of(&self, request: RequestId, after: u32, limit: usize) -> Result<Vec<Waiting>> {
        let read = move |db: &mut Db| waiting_of(db, request, after, limit);
        self.readers.read("read what waits of a request", read).await
    }

    async fn earliest_on(&self, devices: Vec<DeviceKey>) -> Result<Vec<Option<Position>>> {
        self.readers.read("see whose turn it is", move |db| earliest_on(db, &devices)).await
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.lease)
    }

    async fn claim(&self, claims: Vec<(DeviceKey, Position)>) -> Result<Vec<Claim>> {
        let (node, lasts) = (self.node, self.lease);
        self.readers.write("claim eUICCs", move |db| leases::claim(db, node, lasts, &claims)).await
    }

    async fn strays(
        &self,
        accepted_before: Timestamp,
        after: Position,
        except: Vec<AccountName>,
        limit: usize,
    ) -> Result<Vec<Waiting>> {
        let node = self.node;
        let read = move |db: &mut Db| strays(db, node, accepted_before, after, &except, limit);
        self.readers.read("find what nobody performs", read).await
    }

    async fn profiles(&self, keys: Vec<ProfileKey>) -> Result<Vec<Option<Profile>>> {
        self.readers.read("read profiles", move |db| profiles(db, &keys)).await
    }

    async fn on_devices(&self, devices: Vec<DeviceKey>) -> Result<Vec<Vec<(ProfileKey, Profile)>>> {
        self.readers.read("read what is on devices", move |db| on_devices(db, &devices)).await
    }

    async fn change_counts(
        &self,
        profiles: Vec<ProfileKey>,
        actions_since: Timestamp,
        plans_since: Timestamp,
    ) -> Result<Vec<ChangeCounts>> {
        let count = move |db: &mut Db| change_counts(db, &profiles, actions_since, plans_since);
        self.readers.read("count changes", count).await
    }

    async fn parts(&self, own: Position) -> Result<Option<Vec<Part>>> {
        self.readers.read("read how a device's profiles ended", move |db| parts(db, own)).await
    }

    async fn record(&self, recordings: Vec<Recording>) -> Result<Written<Recorded>> {
        let (rows, node, lasts) = (recordings.len(), self.node, self.lease);
        let write = move |db: &mut Db| record::record(db, node, lasts, &recordings);
        self.write("record outcomes", rows, Urgency::InCompany, write).await
    }

    async fn warn(&self, warnings: Vec<Warning>) -> Result<Written<bool>> {
        let (rows, node, lasts) = (warnings.len(), self.node, self.lease);
        let write = move |db: &mut Db| record::warn(db, node, lasts, &warnings);
        self.write("write warnings", rows, Urgency::InCompany, write).await
    }

    async fn note_calls(&self, calls: Vec<UnsettledCall>) -> Result<()> {
        let rows = calls.len();
        self.write("note calls", rows, Urgency::InCompany, move |db| record::note_calls(db, &calls)).await
    }

    async fn keep_handles(&self, handles: Vec<Handed>) -> Result<()> {
        let rows = handles.len();
        self.write("keep handles", rows, Urgency::InCompany, move |db| record::keep_handles(db, &handles))
            .await
    }

    async fn handles(&self, positions: Vec<Position>) -> Result<Vec<Option<Box<str>>>> {
        self.readers.read("read handles", move |db| handles(db, &positions)).await
    }

    async fn cancel(&self, request: RequestId, at: Timestamp) -> Result<Option<RequestView>> {
        self.write("cancel a request", 1, Urgency::Now, move |db| cancel(db, request, at)).await
    }

    async fn cancelled(&self) -> Result<Vec<RequestId>> {
        let cancelled = |db: &mut Db| {
            let select = "SELECT request_id FROM request WHERE cancelled_at IS NOT NULL AND ended_at IS NULL
                          ORDER BY sequence";
            db.query(select, &[])?.iter().map(|row| read_id(row, "request_id")).collect()
        };
        self.readers.read("find cancelled requests", cancelled).await
    }

    async fn request(&self, request: RequestId) -> Result<Option<RequestView>> {
        let found = self.readers.read("read a request", move |db| one_request(db, request)).await?;
        if found.is_some() {
            return Ok(found);
        }
        // A transaction whose answer was lost may still be about to commit it.
        let settled = move |db: &mut Db| {
            db.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&request.to_string()])?;
            one_request(db, request)
        };
        self.readers.write("settle a request's fate", settled).await
    }

    async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>> {
        self.readers.read("list requests", move |db| requests(db, &filter)).await
    }

    async fn subrequests(&self, filter: SubrequestFilter) -> Result<Vec<SubrequestView>> {
        self.readers.read("list subrequests", move |db| subrequests(db, &filter)).await
    }

    async fn last_sequence(&self) -> Result<i64> {
        let last = |db: &mut Db| {
            let select =
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS last FROM request_sequence_seq";
            get(&db.query_one(select, &[])?, "last")
        };
        self.readers.read("read the last order number", last).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.readers.read("read the backlog", backlog).await
    }

    async fn forget(
        &self,
        requests_before: Timestamp,
        keys_before: Timestamp,
        limit: usize,
    ) -> Result<usize> {
        let is_old = move |db: &mut Db| is_anything_old(db, requests_before, keys_before);
        if !self.readers.read("see whether anything is old", is_old).await? {
            return Ok(0); // the writer is left alone
        }
        let forget = move |db: &mut Db| forget(db, requests_before, keys_before, limit);
        self.write("forget what is old", limit, Urgency::InCompany, forget).await
    }

    async fn forget_history(
        &self,
        before: Timestamp,
        after: Option<ProfileKey>,
        limit: usize,
    ) -> Result<HistoryForgotten> {
        let look = move |db: &mut Db| history::old(db, before, after, limit);
        let old = self.readers.read("see whether any history is old", look).await?;
        if old.profiles.is_empty() {
            return Ok(HistoryForgotten { rows: 0, next: old.next }); // the writer is left alone
        }
        let forget = move |db: &mut Db| {
            let others = HistoryForgotten::default();
            if forgets(db)? { history::forget(db, before, &old, limit) } else { Ok(others) }
        };
        self.write("forget old history", limit, Urgency::InCompany, forget).await
    }
}

fn lanes(db: &mut Db) -> Sql<Vec<(AccountName, Lane)>> {
    let rows = db.query(
        "SELECT DISTINCT r.account, s.lane FROM request AS r JOIN subrequest AS s USING (sequence)
         WHERE r.ended_at IS NULL AND s.ended_at IS NULL",
        &[],
    )?;
    let mut lanes = rows
        .iter()
        .map(|row| {
            let in_lane = Network::named(get(row, "lane")?).map_or(Lane::Here, Lane::Network);
            Ok((read_id::<AccountName>(row, "account")?, in_lane))
        })
        .collect::<Sql<Vec<_>>>()?;
    lanes.sort_by(|(one, in_one), (other, in_other)| (one.as_str(), in_one).cmp(&(other.as_str(), in_other)));
    Ok(lanes)
}

/// What a waiting subrequest is read from.
const WAITING: &str = "s.number, s.subject, s.profile, s.device, s.fault, s.fault_detail, p.network";
/// What of it stands in `subrequest AS s`.
const OWN: &str = "s.sequence, s.number, s.subject, s.profile, s.device, s.fault, s.fault_detail";
/// What it is read from besides.
const BESIDE: &str = "LEFT JOIN profile AS p ON p.number = s.profile
             LEFT JOIN page AS g ON g.sequence = s.sequence AND g.number = s.number";

fn waiting(
    db: &mut Db,
    account: &AccountName,
    in_lane: Lane,
    after: Position,
    at_most: usize,
) -> Sql<Vec<Waiting>> {
    in_order(db);
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {WAITING}, {PAGE} FROM request AS r CROSS JOIN LATERAL
                 (SELECT {OWN} FROM subrequest AS s
                  WHERE s.sequence = r.sequence AND (s.sequence, s.number) > ($2, $3) AND s.lane = $4
                    AND s.ended_at IS NULL
                  ORDER BY s.number LIMIT $5) AS s
             {BESIDE}
             WHERE r.account = $1 AND r.ended_at IS NULL AND r.sequence >= $2
             ORDER BY r.sequence, s.number LIMIT $5"
        ),
        &[&account.as_str(), &after.sequence, &int(after.number), &lane(in_lane), &limit(at_most)],
    )?;
    read_all_waiting(&rows)
}

fn waiting_of(db: &mut Db, request: RequestId, after: u32, at_most: usize) -> Sql<Vec<Waiting>> {
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {WAITING}, {PAGE} FROM request AS r JOIN subrequest AS s USING (sequence)
             {BESIDE}
             WHERE r.request_id = $1 AND s.number > $2 AND s.ended_at IS NULL ORDER BY s.number LIMIT $3"
        ),
        &[&request.to_string(), &int(after), &limit(at_most)],
    )?;
    read_all_waiting(&rows)
}

/// A subrequest that another node is performing is known by its lease.
fn strays(
    db: &mut Db,
    node: i32,
    accepted_before: Timestamp,
    after: Position,
    except: &[AccountName],
    at_most: usize,
) -> Sql<Vec<Waiting>> {
    in_order(db);
    let except: Vec<&str> = except.iter().map(AccountName::as_str).collect();
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {WAITING}, {PAGE} FROM request AS r CROSS JOIN LATERAL
                 (SELECT {OWN} FROM subrequest AS s LEFT JOIN device AS d ON d.number = s.device
                  WHERE s.sequence = r.sequence AND (s.sequence, s.number) > ($2, $3) AND s.ended_at IS NULL
                    AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp() OR d.lease_node = $4
                         OR d.lease_sequence <> s.sequence OR d.lease_position <> s.number)
                  ORDER BY s.number LIMIT $5) AS s
             {BESIDE}
             WHERE r.ended_at IS NULL AND r.accepted_at < $1 AND r.sequence >= $2 AND r.account <> ALL($6::TEXT[])
             ORDER BY r.sequence, s.number LIMIT $5"
        ),
        &[&accepted_before.0, &after.sequence, &int(after.number), &node, &limit(at_most), &except],
    )?;
    read_all_waiting(&rows)
}

fn read_all_waiting(rows: &[Row]) -> Sql<Vec<Waiting>> {
    let mut heads = Heads::default();
    rows.iter().map(|row| read_waiting(row, &mut heads)).collect()
}

fn read_waiting(row: &Row, heads: &mut Heads) -> Sql<Waiting> {
    let request = heads.of(row)?;
    let number = read_u32(row, "number")?;
    let subject = read_subject(row)?;
    let profile = get::<Option<i64>>(row, "profile")?.map(ProfileKey);
    let device = get::<Option<i64>>(row, "device")?.map(DeviceKey);
    let target = match (profile, device) {
        (Some(profile), Some(device)) => {
            Ok(Target::Profile(ProfileTarget { profile, device, network: read_network(row, "network")? }))
        }
        (None, Some(device)) => Ok(Target::Device(device)),
        _ => match pages::read(row)? {
            Some(page) if subject == Subject::Page => Ok(Target::Page(page)),
            _ => Err(read_fault(row)?.unwrap_or(Fault::DeviceNotFound)),
        },
    };
    Ok(Waiting { request, number, subject, target })
}

fn handles(db: &mut Db, positions: &[Position]) -> Sql<Vec<Option<Box<str>>>> {
    let (sequences, numbers): (Vec<i64>, Vec<i32>) =
        positions.iter().map(|position| (position.sequence, int(position.number))).unzip();
    let rows = db.query(
        "SELECT s.handle FROM unnest($1::BIGINT[], $2::INTEGER[]) WITH ORDINALITY AS k (sequence, number, place)
         LEFT JOIN subrequest AS s ON s.sequence = k.sequence AND s.number = k.number ORDER BY k.place",
        &[&sequences, &numbers],
    )?;
    rows.iter().map(|row| get(row, "handle")).collect()
}

fn earliest_on(db: &mut Db, devices: &[DeviceKey]) -> Sql<Vec<Option<Position>>> {
    let keys: Vec<i64> = devices.iter().map(|device| device.0).collect();
    let rows = db.query(
        "SELECT e.sequence, e.number FROM unnest($1::BIGINT[]) WITH ORDINALITY AS k (device, place)
         LEFT JOIN LATERAL
             (SELECT s.sequence, s.number FROM subrequest AS s WHERE s.device = k.device AND s.ended_at IS NULL
              ORDER BY s.sequence, s.number LIMIT 1) AS e ON true
         ORDER BY k.place",
        &[&keys],
    )?;
    let earliest = |row: &Row| match get::<Option<i64>>(row, "sequence")? {
        Some(_) => read_position(row).map(Some),
        None => Ok(None),
    };
    rows.iter().map(earliest).collect()
}

fn profiles(db: &mut Db, keys: &[ProfileKey]) -> Sql<Vec<Option<Profile>>> {
    let numbers: Vec<i64> = keys.iter().map(|key| key.0).collect();
    let rows = db.query(
        &format!(
            "SELECT {PROFILE}, p.number AS key FROM profile AS p JOIN device AS d ON d.number = p.device
             WHERE p.number = ANY($1)"
        ),
        &[&numbers],
    )?;
    let found = rows.iter().map(|row| Ok((get::<i64>(row, "key")?, read_profile(row)?)));
    let found = found.collect::<Sql<HashMap<_, _>>>()?;
    Ok(numbers.iter().map(|number| found.get(number).cloned()).collect())
}

fn on_devices(db: &mut Db, devices: &[DeviceKey]) -> Sql<Vec<Vec<(ProfileKey, Profile)>>> {
    let numbers: Vec<i64> = devices.iter().map(|device| device.0).collect();
    let rows = db.query(
        &format!(
            "SELECT {PROFILE}, p.number AS key, p.device FROM profile AS p JOIN device AS d ON d.number = p.device
             WHERE p.device = ANY($1) ORDER BY p.number"
        ),
        &[&numbers],
    )?;
    let mut on: HashMap<i64, Vec<(ProfileKey, Profile)>> = HashMap::new();
    for row in &rows {
        on.entry(get(row, "device")?).or_default().push((ProfileKey(get(row, "key")?), read_profile(row)?));
    }
    Ok(numbers.iter().map(|number| on.get(number).cloned().unwrap_or_default()).collect())
}

/// What a request asked for counts; what a network or the server did by itself does not.
fn change_counts(
    db: &mut Db,
    keys: &[ProfileKey],
    actions_since: Timestamp,
    plans_since: Timestamp,
) -> Sql<Vec<ChangeCounts>> {
    let numbers: Vec<i64> = keys.iter().map(|key| key.0).collect();
    let rows = db.query(
        "SELECT (count(*) FILTER (WHERE h.at >= $2::BIGINT AND h.from_state <> h.to_state))::INTEGER AS actions,
                (count(*) FILTER (WHERE h.at >= $3::BIGINT AND h.to_plan IS NOT NULL AND coalesce(r.action, $4::TEXT) = $4))::INTEGER
                    AS plans
         FROM unnest($1::BIGINT[]) WITH ORDINALITY AS k (profile, place)
         LEFT JOIN (history AS h LEFT JOIN request AS r USING (sequence))
             ON h.profile = k.profile AND h.changed AND NOT h.in_doubt AND h.at >= least($2::BIGINT, $3::BIGINT)
                AND coalesce(r.\"user\", '') <> $5
         GROUP BY k.place ORDER BY k.place",
        &[&numbers, &actions_since.0, &plans_since.0, &Action::ServicePlan.name(), &ITSELF],
    )?;
    rows.iter()
        .map(|row| Ok(ChangeCounts { actions: read_u32(row, "actions")?, plans: read_u32(row, "plans")? }))
        .collect()
}

fn parts(db: &mut Db, own: Position) -> Sql<Option<Vec<Part>>> {
    let place: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&own.sequence, &int(own.number)];
    let device = "SELECT device FROM subrequest WHERE sequence = $1 AND number = $2";
    let device: Option<i64> = get(&db.query_one(device, &place)?, "device")?;
    let rows = db.query(
        "SELECT s.device, s.fault, s.fault_detail, s.ended_at, p.state
         FROM subrequest AS s LEFT JOIN profile AS p ON p.number = s.profile
         WHERE s.sequence = $1 AND s.number < $2 ORDER BY s.number DESC",
        &place,
    )?;
    let mut parts = Vec::new();
    for row in &rows {
        let Some(state) = codes::optional_state(row, "state")? else { break };
        if get::<Option<i64>>(row, "device")? != device {
            break;
        }
        if optional_at(row, "ended_at")?.is_none() {
            return Ok(None);
        }
        parts.push(Part { result: read_fault(row)?.map_or(Ok(()), Err), state });
    }
    parts.reverse();
    Ok(Some(parts))
}

fn cancel(db: &mut Db, request: RequestId, at: Timestamp) -> Sql<Option<RequestView>> {
    db.execute(
        "UPDATE request SET cancelled_at = $1
         WHERE request_id = $2 AND cancelled_at IS NULL AND ended_at IS NULL",
        &[&at.0, &request.to_string()],
    )?;
    one_request(db, request)
}

/// The columns that `read_request` reads.
const REQUEST: &str = "r.\"user\", r.ended_at, r.subrequests, r.succeeded, r.failed, r.callbacks_delivered, r.callbacks_archived";

fn one_request(db: &mut Db, request: RequestId) -> Sql<Option<RequestView>> {
    let select = format!("SELECT {HEAD}, {REQUEST} FROM request AS r WHERE r.request_id = $1");
    let rows = db.query(&select, &[&request.to_string()])?;
    Ok(with_faults(db, &rows)?.pop())
}

fn requests(db: &mut Db, filter: &RequestFilter) -> Sql<Vec<RequestView>> {
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {REQUEST} FROM request AS r
             WHERE r.account = $1 AND ($2::BOOLEAN IS NULL OR (r.ended_at IS NOT NULL) = $2)
               AND r.sequence < coalesce((SELECT sequence FROM request WHERE request_id = $3::TEXT AND account = $1),
                                         9223372036854775807)
             ORDER BY r.sequence DESC LIMIT $4"
        ),
        &[
            &filter.account.as_str(),
            &filter.ended,
            &filter.after.map(|after| after.to_string()),
            &limit(filter.limit),
        ],
    )?;
    with_faults(db, &rows)
}

fn with_faults(db: &mut Db, rows: &[Row]) -> Sql<Vec<RequestView>> {
    let mut views = rows.iter().map(read_request).collect::<Sql<Vec<_>>>()?;
    let sequences: Vec<i64> = views.iter().map(|view| view.head.sequence).collect();
    let faults = db.query(
        "SELECT sequence, fault, subrequests FROM request_fault WHERE sequence = ANY($1)
         ORDER BY sequence, fault COLLATE \"C\"",
        &[&sequences],
    )?;
    let mut of: HashMap<i64, Vec<(Box<str>, u32)>> = HashMap::new();
    for row in &faults {
        let fault = (read_text(row, "fault")?, read_u32(row, "subrequests")?);
        of.entry(get(row, "sequence")?).or_default().push(fault);
    }
    for view in &mut views {
        view.faults = of.remove(&view.head.sequence).unwrap_or_default();
    }
    Ok(views)
}

fn read_request(row: &Row) -> Sql<RequestView> {
    Ok(RequestView {
        head: Arc::new(read_head(row)?),
        user: read_text(row, "user")?,
        ended_at: optional_at(row, "ended_at")?,
        subrequests: read_u32(row, "subrequests")?,
        succeeded: read_u32(row, "succeeded")?,
        failed: read_u32(row, "failed")?,
        faults: Vec::new(),
        callbacks_delivered: read_u32(row, "callbacks_delivered")?,
        callbacks_archived: read_u32(row, "callbacks_archived")?,
    })
}

fn subrequests(db: &mut Db, filter: &SubrequestFilter) -> Sql<Vec<SubrequestView>> {
    let outcome = filter.state.map(|state| match state {
        SubrequestState::Waiting => "waiting",
        SubrequestState::Succeeded => "succeeded",
        SubrequestState::Failed => "failed",
    });
    let rows = db.query(
        "SELECT s.number, s.subject, s.outcome, s.fault, s.fault_detail, s.ended_at
         FROM request AS r JOIN subrequest AS s USING (sequence)
         WHERE r.request_id = $1 AND s.number > $2
           AND ($3::TEXT IS NULL OR coalesce(s.outcome, 'waiting') = $3)
           AND ($4::TEXT IS NULL OR (s.fault = $4 AND s.outcome IS NOT NULL))
         ORDER BY s.number LIMIT $5",
        &[
            &filter.request.to_string(),
            &int(filter.after),
            &outcome,
            &filter.fault.as_deref(),
            &limit(filter.limit),
        ],
    )?;
    rows.iter().map(read_subrequest).collect()
}

fn read_subrequest(row: &Row) -> Sql<SubrequestView> {
    let ended_at = optional_at(row, "ended_at")?;
    let fault = if ended_at.is_some() { read_fault(row)? } else { None };
    let state = match (ended_at, &fault) {
        (None, _) => SubrequestState::Waiting,
        (Some(_), None) => SubrequestState::Succeeded,
        (Some(_), Some(_)) => SubrequestState::Failed,
    };
    Ok(SubrequestView {
        number: read_u32(row, "number")?,
        subject: read_subject(row)?,
        state,
        fault,
        ended_at,
    })
}

fn backlog(db: &mut Db) -> Sql<Backlog> {
    let row = db.query_one(
        "SELECT coalesce(sum(waiting), 0)::BIGINT AS waiting, coalesce(sum(untold), 0)::BIGINT AS untold
         FROM backlog",
        &[],
    )?;
    let count = |sum: i64| u64::try_from(sum).unwrap_or(0);
    Ok(Backlog { waiting: count(get(&row, "waiting")?), untold: count(get(&row, "untold")?) })
}

fn is_anything_old(db: &mut Db, requests_before: Timestamp, keys_before: Timestamp) -> Sql<bool> {
    let row = db.query_one(
        // The ends of indexes, as EXISTS would be planned as a walk that is expected to find one soon.
        "SELECT coalesce((SELECT min(told_at) FROM request WHERE told_at IS NOT NULL) < $1, false)
             OR coalesce((SELECT min(accepted_at) FROM idempotency_key) < $2, false)
             OR coalesce((SELECT min(last_used_at) FROM session) < $2, false)
             OR coalesce((SELECT min(heard_at) FROM carrier_notice) < $1, false) AS is_old",
        &[&requests_before.0, &keys_before.0],
    )?;
    get(&row, "is_old")
}

/// The advisory lock under which one node forgets.
const FORGETTING: i64 = 0x666f_7267_6574;

/// Whether this node forgets, until the transaction ends; else another is at it.
fn forgets(db: &mut Db) -> Sql<bool> {
    get(&db.query_one("SELECT pg_try_advisory_xact_lock($1) AS is_mine", &[&FORGETTING])?, "is_mine")
}

fn forget(db: &mut Db, requests_before: Timestamp, keys_before: Timestamp, at_most: usize) -> Sql<usize> {
    if !forgets(db)? {
        return Ok(0);
    }
    let mut gone = forget_request(db, requests_before, at_most)?;
    // By their places: rows that are found so are not sought in the whole table, and one that another node is
    // just renewing is another then, and stays.
    let aged = [
        "DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY
             (SELECT ctid FROM idempotency_key WHERE accepted_at < $1 ORDER BY accepted_at LIMIT $2))",
        "DELETE FROM session WHERE ctid = ANY (ARRAY
             (SELECT ctid FROM session WHERE last_used_at < $1 ORDER BY last_used_at LIMIT $2))",
    ];
    for delete in aged {
        gone += db.execute(delete, &[&keys_before.0, &limit(at_most)])?;
    }
    let delete = "DELETE FROM carrier_notice WHERE ctid = ANY (ARRAY
                      (SELECT ctid FROM carrier_notice WHERE heard_at < $1 ORDER BY heard_at LIMIT $2))";
    gone += db.execute(delete, &[&requests_before.0, &limit(at_most)])?;
    Ok(gone)
}

/// Removes a part of the request that was told longest ago, to all of its listeners; the request itself goes with its last
/// part. Its callbacks are looked at by themselves (`OFFSET 0`), not joined with those of all.
fn forget_request(db: &mut Db, before: Timestamp, at_most: usize) -> Sql<usize> {
    let oldest = "SELECT r.sequence FROM request AS r WHERE r.told_at < $1 AND NOT EXISTS
             (SELECT 1 FROM callback AS c WHERE c.sequence = r.sequence AND c.ended_at IS NULL OFFSET 0)
         ORDER BY r.told_at LIMIT 1";
    let Some(row) = db.query_opt(oldest, &[&before.0])? else { return Ok(0) };
    let sequence: i64 = get(&row, "sequence")?;
    let row = db.query_one(
        "SELECT max(number) AS last FROM
             (SELECT number FROM subrequest WHERE sequence = $1 ORDER BY number LIMIT $2) AS part",
        &[&sequence, &limit(at_most)],
    )?;
    let Some(last) = get::<Option<i32>>(&row, "last")? else {
        db.execute("DELETE FROM request_fault WHERE sequence = $1", &[&sequence])?;
        return db.execute("DELETE FROM request WHERE sequence = $1", &[&sequence]);
    };
    // Outcomes that changed nothing go with their request, changes stay.
    let mut gone = db.execute(
        "DELETE FROM history AS h USING subrequest AS s
         WHERE s.sequence = $1 AND s.number <= $2 AND h.profile = s.profile AND h.sequence = s.sequence
           AND h.number = s.number AND NOT h.changed",
        &[&sequence, &last],
    )?;
    for table in ["attempt", "callback", "callback_document", "carrier_call", "page", "subrequest"] {
        let delete = format!("DELETE FROM {table} WHERE sequence = $1 AND number <= $2");
        gone += db.execute(&delete, &[&sequence, &last])?;
    }
    Ok(gone)
}
