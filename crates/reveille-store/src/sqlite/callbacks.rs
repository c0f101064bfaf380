//! What is due, what became of attempts, replays, and showing callbacks.

use super::Sqlite;
use super::codes::{
    HEAD, Heads, optional_at, optional_id, optional_state, read_at, read_fault, read_id, read_role,
    read_status,
};
use super::writer::Urgency;
use crate::{
    ArchiveReason, AttemptResult, AttemptView, Callback, CallbackFilter, CallbackState, CallbackView,
    Callbacks, Mark, ReplayScope, Replayed, Result,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, Fault, LeftAs, Position, RequestId, Timestamp, Told};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use std::collections::HashMap;

#[async_trait]
impl Callbacks for Sqlite {
    async fn untold(&self) -> Result<Vec<(AccountName, Timestamp)>> {
        self.readers.read("find the accounts with untold callbacks", untold).await
    }

    async fn due(&self, account: &AccountName, until: Timestamp, limit: usize) -> Result<Vec<Callback>> {
        let account = account.clone();
        self.readers.read("read due callbacks", move |db| due(db, &account, until, limit)).await
    }

    async fn next_due(&self, account: &AccountName, after: Timestamp) -> Result<Option<Timestamp>> {
        let account = account.clone();
        let earliest = move |db: &Connection| earliest_due(db, &account, after);
        self.readers.read("see when a callback is due", earliest).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        let rows = marks.len();
        self.writer.write("mark callbacks", rows, Urgency::InCompany, move |db| mark(db, &marks)).await
    }

    async fn replay(&self, scope: ReplayScope, at: Timestamp, limit: usize) -> Result<Replayed> {
        let search = move |db: &Connection| match &scope {
            ReplayScope::One { request, number } => ended_one(db, *request, *number),
            ReplayScope::Account { .. } => ended_in(db, &scope, limit),
        };
        let found = self.readers.read("find callbacks to replay", search).await?;
        let next = found.last().copied().filter(|_| found.len() == limit);
        let replay = move |db: &Connection| replay(db, &found, at);
        let callbacks = self.writer.write("replay callbacks", limit, Urgency::Now, replay).await?;
        Ok(Replayed { callbacks, next })
    }

    async fn archived(&self, account: &AccountName) -> Result<u64> {
        let account = account.clone();
        let count = move |db: &Connection| {
            let select = "SELECT coalesce(sum(callbacks_archived), 0) FROM request
                          WHERE account = ? AND callbacks_archived > 0";
            db.prepare_cached(select)?.query_row([account.as_str()], |row| row.get(0))
        };
        self.readers.read("count archived callbacks", count).await
    }

    async fn callbacks(&self, filter: CallbackFilter) -> Result<Vec<CallbackView>> {
        self.readers.read("list callbacks", move |db| callbacks(db, &filter)).await
    }

    async fn callback(
        &self,
        request: RequestId,
        number: u32,
    ) -> Result<Option<(CallbackView, Vec<AttemptView>)>> {
        self.readers.read("read a callback", move |db| callback(db, request, number)).await
    }
}

fn untold(db: &Connection) -> rusqlite::Result<Vec<(AccountName, Timestamp)>> {
    let mut names = db.prepare_cached("SELECT name FROM account ORDER BY name")?;
    let names: Vec<AccountName> =
        names.query_map([], |row| read_id(row, "name"))?.collect::<rusqlite::Result<_>>()?;
    let mut untold = Vec::new();
    for name in names {
        if let Some(due) = earliest_due(db, &name, Timestamp(i64::MIN))? {
            untold.push((name, due));
        }
    }
    Ok(untold)
}

fn earliest_due(
    db: &Connection,
    account: &AccountName,
    after: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = db.prepare_cached(
        "SELECT min(next_attempt_at) AS due FROM callback WHERE account = ? AND next_attempt_at > ?",
    )?;
    select.query_row(params![account.as_str(), after.0], |row| optional_at(row, "due"))
}

/// Bounds of a request's own order number, so that its callbacks are found without a walk past the others.
const OF_REQUEST: &str =
    "r.sequence >= max(:sequence, coalesce((SELECT sequence FROM request WHERE request_id = :request), 0))
           AND r.sequence <= coalesce((SELECT sequence FROM request WHERE request_id = :request), 9223372036854775807)
           AND (:request IS NULL OR r.request_id = :request)";

/// The columns that `read_callback` reads, of `callback AS c JOIN subrequest AS s JOIN request AS r`.
const CALLBACK: &str =
    "c.number, c.eid, c.imei, c.msisdn, c.left_state, c.left_status, c.left_role, c.series,
    c.attempts, c.next_attempt_at, c.ended_at AS told_at, c.answered, c.archived,
    s.iccid, s.fault, s.fault_detail, s.ended_at AS recorded_at";
const JOINED: &str =
    "callback AS c JOIN subrequest AS s USING (sequence, number) JOIN request AS r USING (sequence)";

fn due(
    db: &Connection,
    account: &AccountName,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Callback>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
         WHERE c.account = ? AND c.next_attempt_at <= ? ORDER BY c.next_attempt_at LIMIT ?"
    ))?;
    let mut heads = Heads::default();
    select
        .query_map(params![account.as_str(), until.0, limit], |row| read_callback(row, &mut heads))?
        .collect()
}

fn read_callback(row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<Callback> {
    Ok(Callback {
        request: heads.of(row)?,
        number: row.get("number")?,
        told: Told {
            iccid: read_id(row, "iccid")?,
            eid: optional_id(row, "eid")?,
            imei: optional_id(row, "imei")?,
            msisdn: optional_id(row, "msisdn")?,
            result: read_result(row)?,
        },
        series: row.get("series")?,
        attempts: row.get("attempts")?,
    })
}

fn read_result(row: &Row<'_>) -> rusqlite::Result<std::result::Result<LeftAs, Fault>> {
    match (read_fault(row)?, optional_state(row, "left_state")?) {
        (None, Some(state)) => Ok(Ok(LeftAs {
            state,
            status: read_status(row, "left_status")?,
            role: read_role(row, "left_role")?,
        })),
        (fault, _) => Ok(Err(fault.unwrap_or(Fault::DeviceNotFound))),
    }
}

/// What a batch of marks adds to a request's counts.
#[derive(Default)]
struct Ends {
    delivered: u32,
    archived: u32,
    last_at: i64,
}

fn mark(db: &Connection, marks: &[Mark]) -> rusqlite::Result<()> {
    let mut ends: HashMap<i64, Ends> = HashMap::new();
    for mark in marks {
        if !end_attempt(db, mark)? {
            continue;
        }
        insert_attempt(db, mark)?;
        let counts = ends.entry(mark.position.sequence).or_default();
        counts.last_at = counts.last_at.max(mark.at.0);
        match mark.result {
            AttemptResult::Delivered { .. } => counts.delivered += 1,
            AttemptResult::Exhausted { .. } | AttemptResult::NoListener => counts.archived += 1,
            AttemptResult::Failed { .. } => {}
        }
    }
    for (sequence, ends) in ends {
        count_ends(db, sequence, &ends)?;
    }
    Ok(())
}

/// Whether the mark still holds: the callback has not ended, and is in the same series.
fn end_attempt(db: &Connection, mark: &Mark) -> rusqlite::Result<bool> {
    let (next_at, ended_at) = match mark.result {
        AttemptResult::Failed { next_at, .. } => (Some(next_at.0), None),
        _ => (None, Some(mark.at.0)),
    };
    let (answered, archived) = match &mark.result {
        AttemptResult::Delivered { status } => (Some(*status), None),
        AttemptResult::Failed { .. } => (None, None),
        AttemptResult::Exhausted { .. } => (None, Some("exhausted")),
        AttemptResult::NoListener => (None, Some("no_listener")),
    };
    let mut update = db.prepare_cached(
        "UPDATE callback SET attempts = max(attempts, ?), next_attempt_at = ?, ended_at = ?, answered = ?, archived = ?
         WHERE sequence = ? AND number = ? AND series = ? AND ended_at IS NULL",
    )?;
    let Position { sequence, number } = mark.position;
    let changed = update.execute(params![
        mark.ordinal,
        next_at,
        ended_at,
        answered,
        archived,
        sequence,
        number,
        mark.series
    ])?;
    Ok(changed == 1)
}

fn insert_attempt(db: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    let (status, error) = match &mark.result {
        AttemptResult::Failed { status, error, .. } | AttemptResult::Exhausted { status, error } => {
            (status, error)
        }
        AttemptResult::Delivered { .. } | AttemptResult::NoListener => return Ok(()),
    };
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO attempt (sequence, number, series, ordinal, account, ended_at, answered, error)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let Position { sequence, number } = mark.position;
    insert.execute(params![
        sequence,
        number,
        mark.series,
        mark.ordinal,
        mark.account.as_str(),
        mark.at.0,
        status,
        error
    ])?;
    Ok(())
}

fn count_ends(db: &Connection, sequence: i64, ends: &Ends) -> rusqlite::Result<()> {
    let ended = ends.delivered + ends.archived;
    if ended == 0 {
        return Ok(());
    }
    let mut update = db.prepare_cached(
        "UPDATE request SET callbacks_delivered = callbacks_delivered + :delivered,
             callbacks_archived = callbacks_archived + :archived,
             told_at = CASE WHEN callbacks_delivered + callbacks_archived + :ended = subrequests THEN :at END
         WHERE sequence = :sequence",
    )?;
    update.execute(named_params! {
        ":delivered": ends.delivered, ":archived": ends.archived, ":ended": ended, ":at": ends.last_at,
        ":sequence": sequence,
    })?;
    db.prepare_cached("UPDATE backlog SET untold = untold - ?")?.execute([ended])?;
    Ok(())
}

/// How many of these begin a new series: those that have still ended.
fn replay(db: &Connection, found: &[Position], at: Timestamp) -> rusqlite::Result<usize> {
    let mut delivered = db.prepare_cached(
        "SELECT answered IS NOT NULL FROM callback WHERE sequence = ? AND number = ? AND ended_at IS NOT NULL",
    )?;
    let mut replayed = 0;
    for position in found {
        let key = params![position.sequence, position.number];
        let ended: Option<bool> = delivered.query_row(key, |row| row.get(0)).optional()?;
        if let Some(delivered) = ended {
            make_due_again(db, *position, delivered, at)?;
            replayed += 1;
        }
    }
    Ok(replayed)
}

fn ended_one(db: &Connection, request: RequestId, number: u32) -> rusqlite::Result<Vec<Position>> {
    let mut select = db.prepare_cached(
        "SELECT c.sequence, c.number FROM request AS r JOIN callback AS c USING (sequence)
         WHERE r.request_id = ? AND c.number = ? AND c.ended_at IS NOT NULL",
    )?;
    select.query_map(params![request.to_string(), number], read_ended)?.collect()
}

fn read_ended(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { sequence: row.get(0)?, number: row.get(1)? })
}

fn ended_in(db: &Connection, scope: &ReplayScope, limit: usize) -> rusqlite::Result<Vec<Position>> {
    let ReplayScope::Account { account, request, from, to, delivered, after } = scope else {
        return Ok(Vec::new());
    };
    let mut select = db.prepare_cached(&format!(
        "SELECT c.sequence, c.number
         FROM request AS r JOIN callback AS c USING (sequence) JOIN subrequest AS s USING (sequence, number)
         WHERE r.account = :account AND {OF_REQUEST}
           AND r.callbacks_archived + CASE WHEN :delivered THEN r.callbacks_delivered ELSE 0 END > 0
           AND (r.sequence, c.number) > (:sequence, :number)
           AND r.accepted_at < :to AND coalesce(r.ended_at, :from) >= :from
           AND c.ended_at IS NOT NULL AND (:delivered OR c.archived IS NOT NULL)
           AND s.ended_at >= :from AND s.ended_at < :to
         ORDER BY r.sequence, c.number LIMIT :limit"
    ))?;
    let bounds = named_params! {
        ":account": account.as_str(), ":request": request.map(|request| request.to_string()), ":delivered": delivered,
        ":sequence": after.sequence, ":number": after.number, ":from": from.map_or(i64::MIN, |from| from.0),
        ":to": to.map_or(i64::MAX, |to| to.0), ":limit": limit,
    };
    select.query_map(bounds, read_ended)?.collect()
}

/// Begins a new series. The attempt that was acknowledged moves from the callback to the others.
fn make_due_again(
    db: &Connection,
    position: Position,
    delivered: bool,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let Position { sequence, number } = position;
    if delivered {
        db.prepare_cached(
            "INSERT OR IGNORE INTO attempt (sequence, number, series, ordinal, account, ended_at, answered, error)
             SELECT sequence, number, series, attempts, account, ended_at, answered, NULL FROM callback
             WHERE sequence = ? AND number = ?",
        )?
        .execute(params![sequence, number])?;
    }
    db.prepare_cached(
        "UPDATE callback SET series = series + 1, attempts = 0, next_attempt_at = ?, ended_at = NULL, answered = NULL,
             archived = NULL
         WHERE sequence = ? AND number = ?",
    )?
    .execute(params![at.0, sequence, number])?;
    let column = if delivered { "callbacks_delivered" } else { "callbacks_archived" };
    db.prepare_cached(&format!(
        "UPDATE request SET {column} = {column} - 1, told_at = NULL WHERE sequence = ?"
    ))?
    .execute([sequence])?;
    db.prepare_cached("UPDATE backlog SET untold = untold + 1")?.execute([])?;
    Ok(())
}

fn callbacks(db: &Connection, filter: &CallbackFilter) -> rusqlite::Result<Vec<CallbackView>> {
    let state = filter.state.map(|state| match state {
        CallbackState::Waiting => "waiting",
        CallbackState::Delivered => "delivered",
        CallbackState::Archived => "archived",
    });
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM request AS r JOIN callback AS c USING (sequence)
             JOIN subrequest AS s USING (sequence, number)
         WHERE r.account = :account AND {OF_REQUEST}
           AND CASE :state WHEN 'waiting' THEN r.succeeded + r.failed > r.callbacks_delivered + r.callbacks_archived
                           WHEN 'delivered' THEN r.callbacks_delivered > 0
                           WHEN 'archived' THEN r.callbacks_archived > 0 ELSE 1 END
           AND (r.sequence, c.number) > (:sequence, :number)
           AND CASE :state WHEN 'waiting' THEN c.ended_at IS NULL WHEN 'delivered' THEN c.answered IS NOT NULL
                           WHEN 'archived' THEN c.archived IS NOT NULL ELSE 1 END
         ORDER BY r.sequence, c.number LIMIT :limit"
    ))?;
    let (after, number) = filter.after.map_or((None, 0), |(request, number)| (Some(request), number));
    let mut sequence =
        db.prepare_cached("SELECT sequence FROM request WHERE request_id = ? AND account = ?")?;
    let sequence: Option<i64> = after
        .map(|after| {
            let mine = params![after.to_string(), filter.account.as_str()];
            sequence.query_row(mine, |row| row.get(0)).optional()
        })
        .transpose()?
        .flatten();
    let bounds = named_params! {
        ":account": filter.account.as_str(), ":request": filter.request.map(|request| request.to_string()),
        ":state": state, ":sequence": sequence.unwrap_or(0), ":number": number, ":limit": filter.limit,
    };
    let mut heads = Heads::default();
    select.query_map(bounds, |row| read_view(row, &mut heads))?.collect()
}

fn read_view(row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<CallbackView> {
    let archived = match row.get::<_, Option<String>>("archived")?.as_deref() {
        None => None,
        Some("no_listener") => Some(ArchiveReason::NoListener),
        Some(_) => Some(ArchiveReason::Exhausted),
    };
    let ended_at = optional_at(row, "told_at")?;
    let state = match (ended_at, archived) {
        (None, _) => CallbackState::Waiting,
        (Some(_), None) => CallbackState::Delivered,
        (Some(_), Some(_)) => CallbackState::Archived,
    };
    Ok(CallbackView {
        callback: read_callback(row, heads)?,
        state,
        recorded_at: read_at(row, "recorded_at")?,
        next_attempt_at: optional_at(row, "next_attempt_at")?,
        ended_at,
        archived,
    })
}

fn callback(
    db: &Connection,
    request: RequestId,
    number: u32,
) -> rusqlite::Result<Option<(CallbackView, Vec<AttemptView>)>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED} WHERE r.request_id = ? AND c.number = ?"
    ))?;
    let mut heads = Heads::default();
    let with_answer =
        |row: &Row<'_>| Ok((read_view(row, &mut heads)?, row.get::<_, Option<u16>>("answered")?));
    let found = select.query_row(params![request.to_string(), number], with_answer).optional()?;
    let Some((view, answered)) = found else { return Ok(None) };
    let mut attempts = attempts(db, view.callback.position())?;
    if let (Some(status), Some(ended_at)) = (answered, view.ended_at) {
        let Callback { series, attempts: ordinal, .. } = view.callback;
        attempts.push(AttemptView { series, ordinal, ended_at, status: Some(status), error: None });
    }
    Ok(Some((view, attempts)))
}

fn attempts(db: &Connection, position: Position) -> rusqlite::Result<Vec<AttemptView>> {
    let mut select = db.prepare_cached(
        "SELECT series, ordinal, ended_at, answered, error FROM attempt
         WHERE sequence = ? AND number = ? ORDER BY series, ordinal",
    )?;
    let read = |row: &Row<'_>| {
        Ok(AttemptView {
            series: row.get("series")?,
            ordinal: row.get("ordinal")?,
            ended_at: read_at(row, "ended_at")?,
            status: row.get("answered")?,
            error: row.get("error")?,
        })
    };
    select.query_map(params![position.sequence, position.number], read)?.collect()
}
