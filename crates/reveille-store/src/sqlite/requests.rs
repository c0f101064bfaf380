//! Accepting requests, reading back what waits, and showing them.

use super::Sqlite;
use super::codes::{
    self, HEAD, Heads, PROFILE, lane, optional_at, optional_id, read_fault, read_head, read_id, read_network,
    read_role, read_state, read_status, read_subject,
};
use super::{history, pages, record};
use crate::writer::Urgency;
use crate::{
    AcceptLimits, Acceptance, Accepted, Backlog, ChangeCounts, Claim, DeviceKey, Handed, HistoryForgotten,
    ITSELF, IdempotencyKey, Lane, Lease, NewRequest, NewSubrequest, ProfileKey, ProfileTarget, Recorded,
    Recording, RequestFilter, RequestView, Requests, Result, StoreError, SubrequestFilter, SubrequestState,
    SubrequestView, Target, UnsettledCall, Waiting, Warning, Written, lane_of,
};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Doubt, Fault, Network, Part, Position, Profile, RequestId, Subject, Terms, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[async_trait]
impl Requests for Sqlite {
    async fn accept_then(
        &self,
        request: NewRequest,
        limits: AcceptLimits,
        accepted: Accepted,
    ) -> Result<Acceptance> {
        self.check_room()?;
        self.settle_log().await?; // else, while the disk errs, ever more requests would be of unknown fate
        let rows = request.subrequests.len();
        let write = move |db: &mut Connection| accept(db, &request, limits);
        let settled = |acceptance: &Acceptance| {
            if let Acceptance::Accepted { sequence } = acceptance {
                accepted(*sequence);
            }
        };
        let answer = self.writer.write_then("accept a request", rows, Urgency::Now, write, settled).await;
        if matches!(answer, Err(StoreError::Unconfirmed)) {
            self.unsettled.store(true, Ordering::SeqCst);
        }
        answer
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
        self.readers
            .read("read what waits of a request", move |db| waiting_of(db, request, after, limit))
            .await
    }

    async fn earliest_on(&self, devices: Vec<DeviceKey>) -> Result<Vec<Option<Position>>> {
        self.readers
            .read("see whose turn it is", move |db| devices.iter().map(|key| earliest_on(db, *key)).collect())
            .await
    }

    fn lease(&self) -> Option<Duration> {
        None
    }

    async fn claim(&self, claims: Vec<(DeviceKey, Position)>) -> Result<Vec<Claim>> {
        self.readers
            .read("see whose turn it is", move |db| claims.iter().map(|claim| see(db, *claim)).collect())
            .await
    }

    async fn strays(&self, _: Timestamp, _: Position, _: Vec<AccountName>, _: usize) -> Result<Vec<Waiting>> {
        Ok(Vec::new())
    }

    async fn profiles(&self, keys: Vec<ProfileKey>) -> Result<Vec<Option<Profile>>> {
        self.readers.read("read profiles", move |db| profiles(db, &keys)).await
    }

    async fn on_devices(&self, devices: Vec<DeviceKey>) -> Result<Vec<Vec<(ProfileKey, Profile)>>> {
        let read = move |db: &Connection| devices.iter().map(|device| on_device(db, *device)).collect();
        self.readers.read("read what is on devices", read).await
    }

    async fn change_counts(
        &self,
        profiles: Vec<ProfileKey>,
        actions_since: Timestamp,
        plans_since: Timestamp,
    ) -> Result<Vec<ChangeCounts>> {
        let count = move |db: &Connection| {
            profiles.iter().map(|key| change_counts(db, *key, actions_since, plans_since)).collect()
        };
        self.readers.read("count changes", count).await
    }

    async fn parts(&self, own: Position) -> Result<Option<Vec<Part>>> {
        self.readers.read("read how a device's profiles ended", move |db| parts(db, own)).await
    }

    async fn record(&self, recordings: Vec<Recording>) -> Result<Written<Recorded>> {
        let rows = recordings.len();
        self.write("record outcomes", rows, Urgency::InCompany, move |db| record::record(db, &recordings))
            .await
    }

    async fn warn(&self, warnings: Vec<Warning>) -> Result<Written<bool>> {
        let rows = warnings.len();
        self.write("write warnings", rows, Urgency::InCompany, move |db| record::warn(db, &warnings)).await
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
        let cancelled = |db: &Connection| {
            let select = "SELECT request_id FROM request WHERE cancelled_at IS NOT NULL AND ended_at IS NULL
                          ORDER BY sequence";
            db.prepare_cached(select)?.query_map([], |row| read_id(row, 0))?.collect()
        };
        self.readers.read("find cancelled requests", cancelled).await
    }

    async fn request(&self, request: RequestId) -> Result<Option<RequestView>> {
        let found = self.readers.read("read a request", move |db| one_request(db, request)).await?;
        if found.is_none() {
            self.settle_log().await?; // what is not seen now may be found by a recovery
        }
        Ok(found)
    }

    async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>> {
        self.readers.read("list requests", move |db| requests(db, &filter)).await
    }

    async fn subrequests(&self, filter: SubrequestFilter) -> Result<Vec<SubrequestView>> {
        self.readers.read("list subrequests", move |db| subrequests(db, &filter)).await
    }

    async fn last_sequence(&self) -> Result<i64> {
        let last = |db: &Connection| {
            let mut select = db.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'request'")?;
            Ok(select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
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
        let is_old = move |db: &Connection| is_anything_old(db, requests_before, keys_before);
        if !self.readers.read("see whether anything is old", is_old).await? {
            return Ok(0); // the writer is left alone
        }
        let forget = move |db: &Connection| forget(db, requests_before, keys_before, limit);
        self.write("forget what is old", limit, Urgency::InCompany, forget).await
    }

    async fn forget_history(
        &self,
        before: Timestamp,
        after: Option<ProfileKey>,
        limit: usize,
    ) -> Result<HistoryForgotten> {
        let look = move |db: &Connection| history::old(db, before, after, limit);
        let old = self.readers.read("see whether any history is old", look).await?;
        if old.profiles.is_empty() {
            return Ok(HistoryForgotten { rows: 0, next: old.next }); // the writer is left alone
        }
        let forget = move |db: &Connection| history::forget(db, before, &old, limit);
        self.write("forget old history", limit, Urgency::InCompany, forget).await
    }
}

fn accept(db: &Connection, request: &NewRequest, limits: AcceptLimits) -> rusqlite::Result<Acceptance> {
    if let Some(key) = &request.key
        && let Some(answer) = known_by(db, request, key)?
    {
        return Ok(answer);
    }
    let account = request.account.as_str();
    let waiting: Option<u64> = db
        .prepare_cached("SELECT waiting FROM account WHERE name = ?")?
        .query_row([account], |row| row.get(0))
        .optional()?;
    let Some(waiting) = waiting else { return Ok(Acceptance::NoAccount) };
    let more = u64::try_from(request.subrequests.len()).unwrap_or(u64::MAX);
    if waiting + more > limits.waiting_per_account || backlog(db)?.waiting + more > limits.waiting_in_all {
        return Ok(Acceptance::Overloaded);
    }
    let sequence = insert_request(db, request)?;
    insert_subrequests(db, sequence, account, request.action, &request.subrequests)?;
    if let Some(key) = &request.key {
        insert_key(db, request, key)?;
    }
    count_waiting(db, account, i64::try_from(more).unwrap_or(i64::MAX))?;
    Ok(Acceptance::Accepted { sequence })
}

fn known_by(
    db: &Connection,
    request: &NewRequest,
    key: &IdempotencyKey,
) -> rusqlite::Result<Option<Acceptance>> {
    let mut known = db.prepare_cached(
        "SELECT digest, request_id FROM idempotency_key
         WHERE account = ? AND user = ? AND key = ? AND accepted_at > ?",
    )?;
    let scope = params![request.account.as_str(), request.user, key.key, key.since.0];
    let answer = known.query_row(scope, |row| {
        let same = row.get::<_, Vec<u8>>("digest")? == key.digest;
        let first = read_id(row, "request_id")?;
        Ok(if same { Acceptance::Repeated { request: first } } else { Acceptance::KeyReused })
    });
    answer.optional()
}

fn insert_request(db: &Connection, request: &NewRequest) -> rusqlite::Result<i64> {
    let mut insert = db.prepare_cached(
        "INSERT INTO request (account, request_id, action, service_plan, user, accepted_at, subrequests)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    let sequence = insert.insert(params![
        request.account.as_str(),
        request.id.to_string(),
        request.action.name(),
        request.service_plan,
        request.user,
        request.accepted_at.0,
        request.subrequests.len(),
    ])?;
    if request.terms != Terms::default() {
        add_terms(db, sequence, &request.terms)?;
    }
    Ok(sequence)
}

fn add_terms(db: &Connection, sequence: i64, terms: &Terms) -> rusqlite::Result<()> {
    let mut add = db.prepare_cached(
        "UPDATE request SET mdn_zip_code = ?, smsr_oid = ?, carrier_name = ?, reason_code = ?, etf_waiver = ?,
             spares_fallback = ?, reported_state = ?, reported_status = ?, resumes_at = ?
         WHERE sequence = ?",
    )?;
    add.execute(params![
        terms.mdn_zip_code,
        terms.smsr_oid,
        terms.carrier_name,
        terms.reason_code,
        terms.etf_waiver,
        terms.spares_fallback,
        terms.reported.and_then(|reported| reported.state).map(codes::state),
        terms.reported.and_then(|reported| reported.status).map(codes::status),
        terms.resumes_at.map(|at| at.0),
        sequence,
    ])?;
    Ok(())
}

fn insert_subrequests(
    db: &Connection,
    sequence: i64,
    account: &str,
    action: Action,
    subrequests: &[NewSubrequest],
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO subrequest (sequence, number, account, subject, profile, device, lane, fault, fault_detail)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (number, subrequest) in (1_u32..).zip(subrequests) {
        let NewSubrequest { subject, target } = subrequest;
        let known = target.as_ref().ok();
        let fault = target.as_ref().err();
        insert.execute(params![
            sequence,
            number,
            account,
            codes::subject(subject),
            known.and_then(Target::profile).map(|target| target.profile.0),
            known.and_then(Target::device).map(|device| device.0),
            lane(lane_of(action, target)),
            fault.map(Fault::name),
            fault.and_then(Fault::detail),
        ])?;
        if let Ok(Target::Page(page)) = target {
            pages::insert(db, Position { sequence, number }, account, page)?;
        }
    }
    Ok(())
}

fn insert_key(db: &Connection, request: &NewRequest, key: &IdempotencyKey) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO idempotency_key (account, user, key, digest, request_id, accepted_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        request.account.as_str(),
        request.user,
        key.key,
        key.digest,
        request.id.to_string(),
        request.accepted_at.0,
    ])?;
    Ok(())
}

pub(super) fn count_waiting(db: &Connection, account: &str, more: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE account SET waiting = waiting + ? WHERE name = ?")?
        .execute(params![more, account])?;
    db.prepare_cached("UPDATE backlog SET waiting = waiting + ?")?.execute([more])?;
    Ok(())
}

fn lanes(db: &Connection) -> rusqlite::Result<Vec<(AccountName, Lane)>> {
    let mut exists = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM request AS r CROSS JOIN subrequest AS s USING (sequence)
                        WHERE r.account = ? AND r.ended_at IS NULL AND s.lane = ? AND s.ended_at IS NULL)",
    )?;
    let mut accounts = db.prepare_cached("SELECT name FROM account WHERE waiting > 0 ORDER BY name")?;
    let accounts: Vec<AccountName> =
        accounts.query_map([], |row| read_id(row, "name"))?.collect::<rusqlite::Result<_>>()?;
    let mut lanes = Vec::new();
    for account in accounts {
        for in_lane in Network::ALL.map(Lane::Network).into_iter().chain([Lane::Here]) {
            if exists.query_row(params![account.as_str(), lane(in_lane)], |row| row.get(0))? {
                lanes.push((account.clone(), in_lane));
            }
        }
    }
    Ok(lanes)
}

/// The columns of a waiting subrequest, of a table `subrequest AS s`.
const WAITING: &str = "s.number, s.subject, s.profile, s.device, s.lane, s.fault, s.fault_detail";

fn waiting(
    db: &Connection,
    account: &AccountName,
    in_lane: Lane,
    after: Position,
    limit: usize,
) -> rusqlite::Result<Vec<Waiting>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {WAITING} FROM request AS r CROSS JOIN subrequest AS s USING (sequence)
         WHERE r.account = ? AND r.ended_at IS NULL AND r.sequence >= ? AND s.lane = ? AND s.ended_at IS NULL
           AND (r.sequence, s.number) > (?, ?)
         ORDER BY r.sequence, s.number LIMIT ?"
    ))?;
    let Position { sequence, number } = after;
    let bounds = params![account.as_str(), sequence, lane(in_lane), sequence, number, limit];
    let mut heads = Heads::default();
    select.query_map(bounds, |row| read_waiting(db, row, &mut heads))?.collect()
}

fn waiting_of(
    db: &Connection,
    request: RequestId,
    after: u32,
    limit: usize,
) -> rusqlite::Result<Vec<Waiting>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {WAITING} FROM request AS r JOIN subrequest AS s USING (sequence)
         WHERE r.request_id = ? AND s.number > ? AND s.ended_at IS NULL ORDER BY s.number LIMIT ?"
    ))?;
    let mut heads = Heads::default();
    select
        .query_map(params![request.to_string(), after, limit], |row| read_waiting(db, row, &mut heads))?
        .collect()
}

fn read_waiting(db: &Connection, row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<Waiting> {
    let request = heads.of(row)?;
    let number = row.get("number")?;
    let subject = read_subject(row)?;
    let profile = row.get::<_, Option<i64>>("profile")?.map(ProfileKey);
    let device = row.get::<_, Option<i64>>("device")?.map(DeviceKey);
    let target = match (profile, device) {
        (Some(profile), Some(device)) => {
            let network = match Network::named(&row.get::<_, String>("lane")?) {
                Some(network) => network,
                None => network_of(db, profile)?,
            };
            Ok(Target::Profile(ProfileTarget { profile, device, network }))
        }
        (None, Some(device)) => Ok(Target::Device(device)),
        _ if subject == Subject::Page => {
            Ok(Target::Page(pages::read(db, Position { sequence: request.sequence, number })?))
        }
        _ => Err(read_fault(row)?.unwrap_or(Fault::DeviceNotFound)),
    };
    Ok(Waiting { request, number, subject, target })
}

fn handles(db: &Connection, positions: &[Position]) -> rusqlite::Result<Vec<Option<Box<str>>>> {
    let mut select = db.prepare_cached("SELECT handle FROM subrequest WHERE sequence = ? AND number = ?")?;
    let handle = |position: &Position| {
        let handle = select.query_row(params![position.sequence, position.number], |row| row.get(0));
        Ok(handle.optional()?.flatten())
    };
    positions.iter().map(handle).collect()
}

/// The network of a profile whose subrequest is in no network's lane.
fn network_of(db: &Connection, key: ProfileKey) -> rusqlite::Result<Network> {
    let mut select = db.prepare_cached("SELECT network FROM profile WHERE number = ?")?;
    select.query_row([key.0], |row| read_network(row, 0))
}

/// Nothing is written: one process works on the file, and its memory knows what is under way.
fn see(db: &Connection, (device, position): (DeviceKey, Position)) -> rusqlite::Result<Claim> {
    Ok(match earliest_on(db, device)? {
        Some(earliest) if earliest < position => Claim::Later,
        Some(earliest) if earliest == position => {
            let cancelled = "SELECT cancelled_at IS NOT NULL FROM request WHERE sequence = ?";
            let cancelled = db.prepare_cached(cancelled)?.query_row([position.sequence], |row| row.get(0))?;
            Claim::Granted { lease: Lease(0), begun_before: false, cancelled }
        }
        Some(_) | None => Claim::Ended,
    })
}

fn earliest_on(db: &Connection, device: DeviceKey) -> rusqlite::Result<Option<Position>> {
    let mut select = db.prepare_cached(
        "SELECT sequence, number FROM subrequest WHERE device = ? AND ended_at IS NULL
         ORDER BY sequence, number LIMIT 1",
    )?;
    let position = |row: &Row<'_>| Ok(Position { sequence: row.get(0)?, number: row.get(1)? });
    select.query_row([device.0], position).optional()
}

fn profiles(db: &Connection, keys: &[ProfileKey]) -> rusqlite::Result<Vec<Option<Profile>>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {PROFILE} FROM profile AS p JOIN device AS d ON d.number = p.device WHERE p.number = ?"
    ))?;
    keys.iter().map(|key| select.query_row([key.0], read_profile).optional()).collect()
}

/// Reads the columns of `PROFILE`, which stand first in the row.
pub(super) fn read_profile(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile {
        iccid: read_id(row, 0)?,
        eid: read_id(row, 1)?,
        imei: optional_id(row, 2)?,
        msisdn: optional_id(row, 3)?,
        imsi: optional_id(row, 4)?,
        network: read_network(row, 5)?,
        role: read_role(row, 6)?,
        state: read_state(row, 7)?,
        status: read_status(row, 8)?,
        service_plan: row.get(9)?,
        in_doubt: Doubt::from_bits(row.get(10)?),
        fallback: row.get(11)?,
    })
}

fn on_device(db: &Connection, device: DeviceKey) -> rusqlite::Result<Vec<(ProfileKey, Profile)>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {PROFILE}, p.number AS key FROM profile AS p JOIN device AS d ON d.number = p.device
         WHERE p.device = ? ORDER BY p.number"
    ))?;
    let keyed = |row: &Row<'_>| Ok((ProfileKey(row.get("key")?), read_profile(row)?));
    select.query_map([device.0], keyed)?.collect()
}

/// What a request asked for counts; what a network or the server did by itself does not.
fn change_counts(
    db: &Connection,
    key: ProfileKey,
    actions_since: Timestamp,
    plans_since: Timestamp,
) -> rusqlite::Result<ChangeCounts> {
    let mut select = db.prepare_cached(
        "SELECT count(CASE WHEN h.at >= :actions AND h.from_state <> h.to_state THEN 1 END),
                count(CASE WHEN h.at >= :plans AND h.to_plan IS NOT NULL AND coalesce(r.action, :plan) = :plan
                      THEN 1 END)
         FROM history AS h LEFT JOIN request AS r USING (sequence)
         WHERE h.profile = :profile AND h.changed AND NOT h.in_doubt AND h.at >= min(:actions, :plans)
           AND coalesce(r.user, '') <> :itself",
    )?;
    let bounds = named_params! {
        ":actions": actions_since.0, ":plans": plans_since.0, ":plan": Action::ServicePlan.name(),
        ":profile": key.0, ":itself": ITSELF,
    };
    select.query_row(bounds, |row| Ok(ChangeCounts { actions: row.get(0)?, plans: row.get(1)? }))
}

fn parts(db: &Connection, own: Position) -> rusqlite::Result<Option<Vec<Part>>> {
    let mut device = db.prepare_cached("SELECT device FROM subrequest WHERE sequence = ? AND number = ?")?;
    let device: Option<i64> = device.query_row(params![own.sequence, own.number], |row| row.get(0))?;
    let mut select = db.prepare_cached(
        "SELECT s.device, s.fault, s.fault_detail, s.ended_at, p.state
         FROM subrequest AS s LEFT JOIN profile AS p ON p.number = s.profile
         WHERE s.sequence = ? AND s.number < ? ORDER BY s.number DESC",
    )?;
    let mut rows = select.query(params![own.sequence, own.number])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(state) = codes::optional_state(row, "state")? else { break };
        if row.get::<_, Option<i64>>("device")? != device {
            break;
        }
        if row.get::<_, Option<i64>>("ended_at")?.is_none() {
            return Ok(None);
        }
        parts.push(Part { result: read_fault(row)?.map_or(Ok(()), Err), state });
    }
    parts.reverse();
    Ok(Some(parts))
}

fn cancel(db: &Connection, request: RequestId, at: Timestamp) -> rusqlite::Result<Option<RequestView>> {
    db.prepare_cached(
        "UPDATE request SET cancelled_at = ? WHERE request_id = ? AND cancelled_at IS NULL AND ended_at IS NULL",
    )?
    .execute(params![at.0, request.to_string()])?;
    one_request(db, request)
}

/// The columns that `read_request` reads.
const REQUEST: &str =
    "r.user, r.ended_at, r.subrequests, r.succeeded, r.failed, r.callbacks_delivered, r.callbacks_archived";

fn one_request(db: &Connection, request: RequestId) -> rusqlite::Result<Option<RequestView>> {
    let mut select =
        db.prepare_cached(&format!("SELECT {HEAD}, {REQUEST} FROM request AS r WHERE r.request_id = ?"))?;
    let view = select.query_row([request.to_string()], read_request).optional()?;
    view.map(|view| with_faults(db, view)).transpose()
}

fn requests(db: &Connection, filter: &RequestFilter) -> rusqlite::Result<Vec<RequestView>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {REQUEST} FROM request AS r
         WHERE r.account = :account AND (:ended IS NULL OR (r.ended_at IS NOT NULL) = :ended)
           AND r.sequence < coalesce((SELECT sequence FROM request WHERE request_id = :after AND account = :account),
                                     9223372036854775807)
         ORDER BY r.sequence DESC LIMIT :limit"
    ))?;
    let bounds = named_params! {
        ":account": filter.account.as_str(), ":ended": filter.ended,
        ":after": filter.after.map(|after| after.to_string()), ":limit": filter.limit,
    };
    let views: Vec<RequestView> = select.query_map(bounds, read_request)?.collect::<rusqlite::Result<_>>()?;
    views.into_iter().map(|view| with_faults(db, view)).collect()
}

fn read_request(row: &Row<'_>) -> rusqlite::Result<RequestView> {
    Ok(RequestView {
        head: Arc::new(read_head(row)?),
        user: row.get("user")?,
        ended_at: optional_at(row, "ended_at")?,
        subrequests: row.get("subrequests")?,
        succeeded: row.get("succeeded")?,
        failed: row.get("failed")?,
        faults: Vec::new(),
        callbacks_delivered: row.get("callbacks_delivered")?,
        callbacks_archived: row.get("callbacks_archived")?,
    })
}

fn with_faults(db: &Connection, mut view: RequestView) -> rusqlite::Result<RequestView> {
    let mut faults =
        db.prepare_cached("SELECT fault, subrequests FROM request_fault WHERE sequence = ? ORDER BY fault")?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    view.faults = faults.query_map([view.head.sequence], pair)?.collect::<rusqlite::Result<_>>()?;
    Ok(view)
}

fn subrequests(db: &Connection, filter: &SubrequestFilter) -> rusqlite::Result<Vec<SubrequestView>> {
    let outcome = filter.state.map(|state| match state {
        SubrequestState::Waiting => "waiting",
        SubrequestState::Succeeded => "succeeded",
        SubrequestState::Failed => "failed",
    });
    let mut select = db.prepare_cached(
        "SELECT s.number, s.subject, s.outcome, s.fault, s.fault_detail, s.ended_at
         FROM request AS r JOIN subrequest AS s USING (sequence)
         WHERE r.request_id = :request AND s.number > :after
           AND (:outcome IS NULL OR coalesce(s.outcome, 'waiting') = :outcome)
           AND (:fault IS NULL OR (s.fault = :fault AND s.outcome IS NOT NULL))
         ORDER BY s.number LIMIT :limit",
    )?;
    let bounds = named_params! {
        ":request": filter.request.to_string(), ":after": filter.after, ":outcome": outcome,
        ":fault": filter.fault, ":limit": filter.limit,
    };
    select.query_map(bounds, read_subrequest)?.collect()
}

fn read_subrequest(row: &Row<'_>) -> rusqlite::Result<SubrequestView> {
    let ended_at = optional_at(row, "ended_at")?;
    let fault = if ended_at.is_some() { read_fault(row)? } else { None };
    let state = match (ended_at, &fault) {
        (None, _) => SubrequestState::Waiting,
        (Some(_), None) => SubrequestState::Succeeded,
        (Some(_), Some(_)) => SubrequestState::Failed,
    };
    Ok(SubrequestView { number: row.get("number")?, subject: read_subject(row)?, state, fault, ended_at })
}

fn backlog(db: &Connection) -> rusqlite::Result<Backlog> {
    let mut select = db.prepare_cached("SELECT waiting, untold FROM backlog")?;
    select.query_row([], |row| Ok(Backlog { waiting: row.get(0)?, untold: row.get(1)? }))
}

fn is_anything_old(
    db: &Connection,
    requests_before: Timestamp,
    keys_before: Timestamp,
) -> rusqlite::Result<bool> {
    let mut select = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM request WHERE told_at < ?1)
             OR EXISTS (SELECT 1 FROM idempotency_key WHERE accepted_at < ?2)
             OR EXISTS (SELECT 1 FROM session WHERE last_used_at < ?2)
             OR EXISTS (SELECT 1 FROM carrier_notice WHERE heard_at < ?1)",
    )?;
    select.query_row(params![requests_before.0, keys_before.0], |row| row.get(0))
}

fn forget(
    db: &Connection,
    requests_before: Timestamp,
    keys_before: Timestamp,
    limit: usize,
) -> rusqlite::Result<usize> {
    let mut gone = forget_request(db, requests_before, limit)?;
    let aged = [
        "DELETE FROM idempotency_key WHERE (account, user, key) IN
             (SELECT account, user, key FROM idempotency_key WHERE accepted_at < ?1 LIMIT ?2)",
        "DELETE FROM session WHERE token_digest IN
             (SELECT token_digest FROM session WHERE last_used_at < ?1 LIMIT ?2)",
    ];
    for delete in aged {
        gone += db.prepare_cached(delete)?.execute(params![keys_before.0, limit])?;
    }
    let delete = "DELETE FROM carrier_notice WHERE (name, iccid) IN
                      (SELECT name, iccid FROM carrier_notice WHERE heard_at < ? LIMIT ?)";
    gone += db.prepare_cached(delete)?.execute(params![requests_before.0, limit])?;
    Ok(gone)
}

/// Removes a part of the request that was told longest ago; the request itself goes with its last part.
fn forget_request(db: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
    let mut oldest = db.prepare_cached(
        "SELECT sequence FROM request AS r WHERE r.told_at < ? AND NOT EXISTS
             (SELECT 1 FROM callback AS c WHERE c.sequence = r.sequence AND c.ended_at IS NULL)
             ORDER BY r.told_at LIMIT 1",
    )?;
    let Some(sequence) = oldest.query_row([before.0], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(0);
    };
    let mut last = db.prepare_cached(
        "SELECT max(number) FROM
             (SELECT number FROM subrequest WHERE sequence = ? ORDER BY number LIMIT ?)",
    )?;
    let last: Option<u32> = last.query_row(params![sequence, limit], |row| row.get(0))?;
    let Some(last) = last else {
        db.prepare_cached("DELETE FROM request_fault WHERE sequence = ?")?.execute([sequence])?;
        return db.prepare_cached("DELETE FROM request WHERE sequence = ?")?.execute([sequence]);
    };
    // Outcomes that changed nothing go with their request, changes stay.
    let mut gone = db
        .prepare_cached(
            "DELETE FROM history WHERE (profile, sequence, number) IN
                 (SELECT h.profile, h.sequence, h.number FROM subrequest AS s JOIN history AS h
                      ON h.profile = s.profile AND h.sequence = s.sequence AND h.number = s.number
                  WHERE s.sequence = ? AND s.number <= ? AND NOT h.changed)",
        )?
        .execute(params![sequence, last])?;
    for table in ["attempt", "callback", "callback_document", "carrier_call", "page", "subrequest"] {
        let delete = format!("DELETE FROM {table} WHERE sequence = ? AND number <= ?");
        gone += db.prepare_cached(&delete)?.execute(params![sequence, last])?;
    }
    Ok(gone)
}
