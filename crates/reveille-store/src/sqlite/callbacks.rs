//! What is due, what became of attempts, replays, and showing callbacks.

use super::Sqlite;
use super::codes::{
    self, HEAD, Heads, optional_at, optional_id, optional_role, optional_state, optional_status, read_at,
    read_fault, read_id, read_listener, read_subject,
};
use super::record::count_untold;
use crate::writer::Urgency;
use crate::{
    ArchiveReason, AttemptResult, AttemptView, Callback, CallbackFilter, CallbackKey, CallbackName,
    CallbackState, CallbackView, Callbacks, Mark, Outlet, ReplayScope, Replayed, Result, Tells,
};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Fault, Left, LeftAs, ListenerName, Position, Service, Targets, Timestamp, Told,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use std::collections::HashMap;

#[async_trait]
impl Callbacks for Sqlite {
    async fn untold(&self) -> Result<Vec<(Outlet, Timestamp)>> {
        self.readers.read("find the accounts with untold callbacks", untold).await
    }

    async fn due(&self, outlet: &Outlet, until: Timestamp, limit: usize) -> Result<Vec<Callback>> {
        let outlet = outlet.clone();
        self.readers.read("read due callbacks", move |db| due(db, &outlet, until, limit)).await
    }

    async fn document(&self, position: Position) -> Result<Option<Box<str>>> {
        self.readers.read("read a callback's document", move |db| document(db, position)).await
    }

    async fn next_due(&self, outlet: &Outlet, after: Timestamp) -> Result<Option<Timestamp>> {
        let outlet = outlet.clone();
        let earliest = move |db: &Connection| earliest_due(db, &outlet, after);
        self.readers.read("see when a callback is due", earliest).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        let rows = marks.len();
        self.write("mark callbacks", rows, Urgency::InCompany, move |db| mark(db, &marks)).await
    }

    async fn replay(&self, scope: ReplayScope, at: Timestamp, limit: usize) -> Result<Replayed> {
        let search = move |db: &Connection| match &scope {
            ReplayScope::One(name) => ended_one(db, *name),
            ReplayScope::Account { .. } => ended_in(db, &scope, limit),
        };
        let found = self.readers.read("find callbacks to replay", search).await?;
        let next = found.last().map(|key| key.position).filter(|_| found.len() == limit);
        let replay = move |db: &Connection| replay(db, &found, at);
        let callbacks = self.write("replay callbacks", limit, Urgency::Now, replay).await?;
        Ok(Replayed { callbacks, next })
    }

    async fn archived(&self, outlet: &Outlet) -> Result<u64> {
        let outlet = outlet.clone();
        self.readers.read("count archived callbacks", move |db| archived(db, &outlet)).await
    }

    async fn callbacks(&self, filter: CallbackFilter) -> Result<Vec<CallbackView>> {
        self.readers.read("list callbacks", move |db| callbacks(db, &filter)).await
    }

    async fn callback(&self, name: CallbackName) -> Result<Option<(CallbackView, Vec<AttemptView>)>> {
        self.readers.read("read a callback", move |db| callback(db, name)).await
    }
}

fn untold(db: &Connection) -> rusqlite::Result<Vec<(Outlet, Timestamp)>> {
    let mut names = db.prepare_cached("SELECT name FROM account ORDER BY name")?;
    let names: Vec<AccountName> =
        names.query_map([], |row| read_id(row, "name"))?.collect::<rusqlite::Result<_>>()?;
    let mut untold = Vec::new();
    for account in names {
        for service in Service::ALL {
            let mut listener = Some(ListenerName::OWN);
            while let Some(name) = listener {
                let outlet = Outlet { account: account.clone(), service, listener: name };
                listener = next_untold(db, &outlet)?;
                if let Some(due) = earliest_due(db, &outlet, Timestamp(i64::MIN))? {
                    untold.push((outlet, due));
                }
            }
        }
    }
    Ok(untold)
}

/// The further listener behind the outlet's that has something due, registered or not any more.
fn next_untold(db: &Connection, outlet: &Outlet) -> rusqlite::Result<Option<ListenerName>> {
    let mut select = db.prepare_cached(
        "SELECT listener FROM callback
         WHERE account = ? AND service = ? AND listener > ? AND next_attempt_at IS NOT NULL
         ORDER BY listener LIMIT 1",
    )?;
    let behind = params![outlet.account.as_str(), codes::service(outlet.service), outlet.listener.as_str()];
    select.query_row(behind, |row| read_listener(row, "listener")).optional()
}

fn earliest_due(db: &Connection, outlet: &Outlet, after: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = db.prepare_cached(
        "SELECT min(next_attempt_at) AS due FROM callback
         WHERE account = ? AND service = ? AND listener = ? AND next_attempt_at > ?",
    )?;
    let Outlet { account, service, listener } = outlet;
    let bounds = params![account.as_str(), codes::service(*service), listener.as_str(), after.0];
    select.query_row(bounds, |row| optional_at(row, "due"))
}

fn archived(db: &Connection, outlet: &Outlet) -> rusqlite::Result<u64> {
    if !outlet.listener.is_own() {
        let mut select = db.prepare_cached(
            "SELECT count(*) FROM callback
             WHERE account = ? AND listener = ? AND listener <> '' AND answered IS NULL AND service = ?
               AND archived IS NOT NULL AND warned_at = 0",
        )?;
        let Outlet { account, service, listener } = outlet;
        let bounds = params![account.as_str(), listener.as_str(), codes::service(*service)];
        return select.query_row(bounds, |row| row.get(0));
    }
    let own = |action: &Action| action.service() == outlet.service;
    let names: Vec<&str> =
        Action::ALL.iter().filter(|action| own(action)).map(|action| action.name()).collect();
    let mut select = db.prepare_cached(
        "SELECT coalesce(sum(callbacks_archived), 0) FROM request
         WHERE account = ? AND callbacks_archived > 0 AND instr(?, ',' || action || ',') > 0",
    )?;
    let names = format!(",{},", names.join(","));
    select.query_row(params![outlet.account.as_str(), names], |row| row.get(0))
}

/// Bounds of a request's own order number, so that its callbacks are found without a walk past the others.
const OF_REQUEST: &str =
    "r.sequence >= max(:sequence, coalesce((SELECT sequence FROM request WHERE request_id = :request), 0))
           AND r.sequence <= coalesce((SELECT sequence FROM request WHERE request_id = :request), 9223372036854775807)
           AND (:request IS NULL OR r.request_id = :request)";

/// Those of a further listener that wait or are archived, in the same bounds. No request says whether it has any, so they
/// are looked for by an index of their own.
const OPEN_OF_FURTHER: &str =
    "c.account = :account AND c.listener = :listener AND c.listener <> '' AND c.answered IS NULL
           AND c.sequence >= max(:sequence, coalesce((SELECT sequence FROM request WHERE request_id = :request), 0))
           AND c.sequence <= coalesce((SELECT sequence FROM request WHERE request_id = :request), 9223372036854775807)
           AND (:request IS NULL OR r.request_id = :request)";

/// The columns that `read_callback` reads, of `callback AS c JOIN subrequest AS s JOIN request AS r`.
const CALLBACK: &str =
    "c.number, c.warned_at, c.listener, c.eid, c.imei, c.msisdn, c.left_state, c.left_status, c.left_role, c.series,
    c.attempts, c.next_attempt_at, c.ended_at AS told_at, c.answered, c.archived,
    s.subject, s.fault, s.fault_detail, CASE WHEN c.warned_at > 0 THEN c.warned_at ELSE s.ended_at END AS recorded_at";
const JOINED: &str =
    "callback AS c JOIN subrequest AS s USING (sequence, number) JOIN request AS r USING (sequence)";

fn due(db: &Connection, outlet: &Outlet, until: Timestamp, limit: usize) -> rusqlite::Result<Vec<Callback>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
         WHERE c.account = ? AND c.service = ? AND c.listener = ? AND c.next_attempt_at <= ?
         ORDER BY c.next_attempt_at LIMIT ?"
    ))?;
    let mut heads = Heads::default();
    let Outlet { account, service, listener } = outlet;
    let bounds = params![account.as_str(), codes::service(*service), listener.as_str(), until.0, limit];
    select.query_map(bounds, |row| read_callback(row, &mut heads))?.collect()
}

fn document(db: &Connection, position: Position) -> rusqlite::Result<Option<Box<str>>> {
    let mut select =
        db.prepare_cached("SELECT body FROM callback_document WHERE sequence = ? AND number = ?")?;
    select.query_row(params![position.sequence, position.number], |row| row.get(0)).optional()
}

fn read_callback(row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<Callback> {
    let request = heads.of(row)?;
    let result = match row.get::<_, i64>("warned_at")? {
        0 => read_result(row, request.action)?,
        _ => Ok(Left::Waiting),
    };
    Ok(Callback {
        number: row.get("number")?,
        listener: read_listener(row, "listener")?,
        told: Told {
            subject: read_subject(row)?,
            eid: optional_id(row, "eid")?,
            imei: optional_id(row, "imei")?,
            msisdn: optional_id(row, "msisdn")?,
            result,
        },
        series: row.get("series")?,
        attempts: row.get("attempts")?,
        request,
    })
}

fn read_result(row: &Row<'_>, action: Action) -> rusqlite::Result<std::result::Result<Left, Fault>> {
    if let Some(fault) = read_fault(row)? {
        return Ok(Err(fault));
    }
    let profile = optional_status(row, "left_status")?.zip(optional_role(row, "left_role")?);
    Ok(match (optional_state(row, "left_state")?, profile) {
        (Some(state), Some((status, role))) => Ok(Left::Profile(LeftAs { state, status, role })),
        (Some(state), None) => Ok(Left::Device(state)),
        (None, _) if action.targets() == Targets::Pages || action == Action::ResumeNotice => {
            Ok(Left::Document("".into()))
        }
        (None, _) => Err(Fault::DeviceNotFound),
    })
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
        if !mark.key.is_counted() {
            count_untold(db, if matches!(mark.result, AttemptResult::Failed { .. }) { 0 } else { -1 })?;
            continue;
        }
        let counts = ends.entry(mark.key.position.sequence).or_default();
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
         WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ? AND series = ? AND ended_at IS NULL",
    )?;
    let Position { sequence, number } = mark.key.position;
    let changed = update.execute(params![
        mark.ordinal,
        next_at,
        ended_at,
        answered,
        archived,
        sequence,
        number,
        is_outcome(mark.key.tells),
        mark.key.listener.as_str(),
        mark.series
    ])?;
    Ok(changed == 1)
}

fn is_outcome(tells: Tells) -> bool {
    tells == Tells::Outcome
}

fn insert_attempt(db: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    let (status, error) = match &mark.result {
        AttemptResult::Failed { status, error, .. } | AttemptResult::Exhausted { status, error } => {
            (status, error)
        }
        AttemptResult::Delivered { .. } | AttemptResult::NoListener => return Ok(()),
    };
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO attempt (sequence, number, warned_at, listener, series, ordinal, account, ended_at,
                                        answered, error)
         SELECT sequence, number, warned_at, listener, ?, ?, account, ?, ?, ? FROM callback
         WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ?",
    )?;
    let Position { sequence, number } = mark.key.position;
    insert.execute(params![
        mark.series,
        mark.ordinal,
        mark.at.0,
        status,
        error,
        sequence,
        number,
        is_outcome(mark.key.tells),
        mark.key.listener.as_str()
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
    count_untold(db, -i64::from(ended))
}

/// How many of these begin a new series: those that have still ended.
fn replay(db: &Connection, found: &[CallbackKey], at: Timestamp) -> rusqlite::Result<usize> {
    let mut delivered = db.prepare_cached(
        "SELECT answered IS NOT NULL FROM callback
         WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ? AND ended_at IS NOT NULL",
    )?;
    let mut replayed = 0;
    for key in found {
        let Position { sequence, number } = key.position;
        let bounds = params![sequence, number, is_outcome(key.tells), key.listener.as_str()];
        let ended: Option<bool> = delivered.query_row(bounds, |row| row.get(0)).optional()?;
        if let Some(delivered) = ended {
            make_due_again(db, *key, delivered, at)?;
            replayed += 1;
        }
    }
    Ok(replayed)
}

fn ended_one(db: &Connection, name: CallbackName) -> rusqlite::Result<Vec<CallbackKey>> {
    let mut select = db.prepare_cached(
        "SELECT c.sequence, c.number, c.warned_at, c.listener FROM request AS r JOIN callback AS c USING (sequence)
         WHERE r.request_id = ? AND c.number = ? AND (c.warned_at = 0) = ? AND c.listener = ? AND c.ended_at IS NOT NULL",
    )?;
    let CallbackName { request, number, tells, listener } = name;
    let bounds = params![request.to_string(), number, is_outcome(tells), listener.as_str()];
    select.query_map(bounds, read_ended)?.collect()
}

fn read_ended(row: &Row<'_>) -> rusqlite::Result<CallbackKey> {
    let tells = if row.get::<_, i64>(2)? == 0 { Tells::Outcome } else { Tells::Warning };
    let position = Position { sequence: row.get(0)?, number: row.get(1)? };
    Ok(CallbackKey { position, tells, listener: read_listener(row, 3)? })
}

fn ended_in(db: &Connection, scope: &ReplayScope, limit: usize) -> rusqlite::Result<Vec<CallbackKey>> {
    let ReplayScope::Account { account, listener, request, from, to, delivered, after } = scope else {
        return Ok(Vec::new());
    };
    let of_further = format!(
        "SELECT c.sequence, c.number, c.warned_at, c.listener FROM {JOINED}
         WHERE {OPEN_OF_FURTHER} AND c.archived IS NOT NULL AND c.warned_at = 0 AND NOT :delivered
           AND (c.sequence, c.number) > (:sequence, :number) AND s.ended_at >= :from AND s.ended_at < :to
         ORDER BY c.sequence, c.number LIMIT :limit"
    );
    let of_any = format!(
        "SELECT c.sequence, c.number, c.warned_at, c.listener
         FROM request AS r JOIN callback AS c USING (sequence) JOIN subrequest AS s USING (sequence, number)
         WHERE r.account = :account AND {OF_REQUEST}
           AND (:listener <> '' OR
                r.callbacks_archived + CASE WHEN :delivered THEN r.callbacks_delivered ELSE 0 END > 0)
           AND (r.sequence, c.number) > (:sequence, :number)
           AND r.accepted_at < :to AND coalesce(r.ended_at, :from) >= :from
           AND c.ended_at IS NOT NULL AND (:delivered OR c.archived IS NOT NULL) AND c.warned_at = 0
           AND c.listener = :listener
           AND s.ended_at >= :from AND s.ended_at < :to
         ORDER BY r.sequence, c.number LIMIT :limit"
    );
    let is_open_further = !listener.is_own() && !delivered;
    let mut select = db.prepare_cached(if is_open_further { &of_further } else { &of_any })?;
    let request = request.map(|request| request.to_string());
    let bounds = named_params! {
        ":account": account.as_str(), ":request": request, ":delivered": delivered, ":sequence": after.sequence,
        ":number": after.number, ":from": from.map_or(i64::MIN, |from| from.0),
        ":to": to.map_or(i64::MAX, |to| to.0), ":listener": listener.as_str(), ":limit": limit,
    };
    select.query_map(bounds, read_ended)?.collect()
}

/// Begins a new series. The attempt that was acknowledged moves from the callback to the others.
fn make_due_again(db: &Connection, key: CallbackKey, delivered: bool, at: Timestamp) -> rusqlite::Result<()> {
    let Position { sequence, number } = key.position;
    if delivered {
        db.prepare_cached(
            "INSERT OR IGNORE INTO attempt (sequence, number, warned_at, listener, series, ordinal, account, ended_at,
                                            answered)
             SELECT sequence, number, warned_at, listener, series, attempts, account, ended_at, answered FROM callback
             WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ?",
        )?
        .execute(params![sequence, number, is_outcome(key.tells), key.listener.as_str()])?;
    }
    db.prepare_cached(
        "UPDATE callback SET series = series + 1, attempts = 0, next_attempt_at = ?, ended_at = NULL, answered = NULL,
             archived = NULL
         WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ?",
    )?
    .execute(params![at.0, sequence, number, is_outcome(key.tells), key.listener.as_str()])?;
    if key.is_counted() {
        let column = if delivered { "callbacks_delivered" } else { "callbacks_archived" };
        db.prepare_cached(&format!(
            "UPDATE request SET {column} = {column} - 1, told_at = NULL WHERE sequence = ?"
        ))?
        .execute([sequence])?;
    }
    count_untold(db, 1)
}

fn callbacks(db: &Connection, filter: &CallbackFilter) -> rusqlite::Result<Vec<CallbackView>> {
    let state = filter.state.map(|state| match state {
        CallbackState::Waiting => "waiting",
        CallbackState::Delivered => "delivered",
        CallbackState::Archived => "archived",
    });
    let of_further = format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
         WHERE {OPEN_OF_FURTHER} AND (c.archived IS NOT NULL) = (:state = 'archived')
           AND (c.sequence, c.number) >= (:sequence, :number)
           AND (c.sequence, c.number, c.warned_at > 0) > (:sequence, :number, :warning)
         ORDER BY c.sequence, c.number, c.warned_at LIMIT :limit"
    );
    let of_any = format!(
        "SELECT {HEAD}, {CALLBACK} FROM request AS r JOIN callback AS c USING (sequence)
             JOIN subrequest AS s USING (sequence, number)
         WHERE r.account = :account AND {OF_REQUEST}
           AND (r.ended_at IS NULL OR :listener <> '' OR
                CASE :state WHEN 'waiting' THEN r.succeeded + r.failed > r.callbacks_delivered + r.callbacks_archived
                            WHEN 'delivered' THEN r.callbacks_delivered > 0
                            WHEN 'archived' THEN r.callbacks_archived > 0 ELSE 1 END)
           AND (r.sequence, c.number) >= (:sequence, :number)
           AND (r.sequence, c.number, c.warned_at > 0) > (:sequence, :number, :warning) AND c.listener = :listener
           AND CASE :state WHEN 'waiting' THEN c.ended_at IS NULL WHEN 'delivered' THEN c.answered IS NOT NULL
                           WHEN 'archived' THEN c.archived IS NOT NULL ELSE 1 END
         ORDER BY r.sequence, c.number, c.warned_at LIMIT :limit"
    );
    let is_open = matches!(filter.state, Some(CallbackState::Waiting | CallbackState::Archived));
    let mut select =
        db.prepare_cached(if is_open && !filter.listener.is_own() { &of_further } else { &of_any })?;
    let mut sequence =
        db.prepare_cached("SELECT sequence FROM request WHERE request_id = ? AND account = ?")?;
    let sequence: Option<i64> = filter
        .after
        .map(|after| {
            let mine = params![after.request.to_string(), filter.account.as_str()];
            sequence.query_row(mine, |row| row.get(0)).optional()
        })
        .transpose()?
        .flatten();
    let bounds = named_params! {
        ":account": filter.account.as_str(), ":request": filter.request.map(|request| request.to_string()),
        ":state": state, ":sequence": sequence.unwrap_or(0), ":number": filter.after.map_or(0, |after| after.number),
        ":warning": filter.after.is_some_and(|after| after.tells == Tells::Warning),
        ":listener": filter.listener.as_str(), ":limit": filter.limit,
    };
    let mut heads = Heads::default();
    select.query_map(bounds, |row| read_view(row, &mut heads))?.collect()
}

fn read_view(row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<CallbackView> {
    let archived = match row.get::<_, Option<String>>("archived")?.as_deref() {
        None => None,
        Some("no_listener") => Some(ArchiveReason::NoListener),
        Some("overtaken") => Some(ArchiveReason::Overtaken),
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

type WithAttempts = (CallbackView, Vec<AttemptView>);

fn callback(db: &Connection, name: CallbackName) -> rusqlite::Result<Option<WithAttempts>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
         WHERE r.request_id = ? AND c.number = ? AND (c.warned_at = 0) = ? AND c.listener = ?"
    ))?;
    let mut heads = Heads::default();
    let CallbackName { request, number, tells, listener } = name;
    let bounds = params![request.to_string(), number, is_outcome(tells), listener.as_str()];
    let found = select.query_row(bounds, |row| read_with_answer(row, &mut heads)).optional()?;
    let Some((mut view, answered)) = found else { return Ok(None) };
    if matches!(view.callback.told.result, Ok(Left::Document(_))) {
        let body = document(db, view.callback.key().position)?.unwrap_or_default();
        view.callback.told.result = Ok(Left::Document(body));
    }
    with_attempts(db, view, answered).map(Some)
}

/// The callbacks of one subrequest, those of the warning first.
pub(super) fn of_subrequest(db: &Connection, at: Position) -> rusqlite::Result<Vec<WithAttempts>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
         WHERE c.sequence = ? AND c.number = ? ORDER BY c.warned_at DESC, c.listener DESC"
    ))?;
    let mut heads = Heads::default();
    let bounds = params![at.sequence, at.number];
    let views = select.query_map(bounds, |row| read_with_answer(row, &mut heads))?;
    let views = views.collect::<rusqlite::Result<Vec<_>>>()?;
    views.into_iter().map(|(view, answered)| with_attempts(db, view, answered)).collect()
}

fn read_with_answer(row: &Row<'_>, heads: &mut Heads) -> rusqlite::Result<(CallbackView, Option<u16>)> {
    Ok((read_view(row, heads)?, row.get("answered")?))
}

fn with_attempts(
    db: &Connection,
    view: CallbackView,
    answered: Option<u16>,
) -> rusqlite::Result<WithAttempts> {
    let mut attempts = attempts(db, view.callback.key())?;
    if let (Some(status), Some(ended_at)) = (answered, view.ended_at) {
        let Callback { series, attempts: ordinal, .. } = view.callback;
        attempts.push(AttemptView { series, ordinal, ended_at, status: Some(status), error: None });
    }
    Ok((view, attempts))
}

fn attempts(db: &Connection, key: CallbackKey) -> rusqlite::Result<Vec<AttemptView>> {
    let mut select = db.prepare_cached(
        "SELECT series, ordinal, ended_at, answered, error FROM attempt
         WHERE sequence = ? AND number = ? AND (warned_at = 0) = ? AND listener = ?",
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
    let CallbackKey { position, tells, listener } = key;
    let bounds = params![position.sequence, position.number, is_outcome(tells), listener.as_str()];
    let mut attempts = select.query_map(bounds, read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| (attempt.series, attempt.ordinal)); // a few; the planner would sort them, too
    Ok(attempts)
}
