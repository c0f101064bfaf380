//! What became of profiles: the changes of their records, and all that was asked of them.
//!
//! Positions say what a page of them holds; the leases under which changes were recorded say their order.

use super::callbacks;
use super::codes::{
    get, int, limit, optional_at, optional_id, optional_text, read_action, read_at, read_fault, read_id,
    read_position, read_state, read_status, read_text, read_u32,
};
use super::connection::{Db, Sql};
use crate::codes::USUAL_REPLY;
use crate::requests::OldHistory;
use crate::{
    CallView, DeviceKey, HistoryForgotten, HistorySpan, HistoryView, PlanChange, ProfileKey, SubrequestState,
    TimelineEntry, TimelineRequest,
};
use reveille_domain::{Action, Condition, Iccid, Position, Timestamp};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// The columns that `read_change` reads, of `history AS h LEFT JOIN request AS r`.
const CHANGE: &str =
    "h.sequence, h.number, h.at, h.from_state, h.to_state, h.in_doubt, h.from_status, h.to_status,
    h.from_fallback, h.to_fallback, h.from_plan, h.to_plan, r.request_id, r.action, r.\"user\"";

/// The latest changes of a profile's record, oldest first.
pub(super) fn history(db: &mut Db, iccid: &Iccid, at_most: usize) -> Sql<Vec<HistoryView>> {
    let rows = db.query(
        &format!(
            "SELECT {CHANGE} FROM history AS h LEFT JOIN request AS r ON r.sequence = h.sequence
             WHERE h.profile = (SELECT number FROM profile WHERE iccid = $1) AND h.changed
             ORDER BY h.lease DESC, h.sequence DESC, h.number DESC LIMIT $2"
        ),
        &[&iccid.as_str(), &limit(at_most)],
    )?;
    rows.iter().rev().map(read_change).collect()
}

/// A part of a profile's history, oldest first.
pub(super) fn history_span(db: &mut Db, key: ProfileKey, span: HistorySpan) -> Sql<Vec<HistoryView>> {
    let rows = db.query(
        &format!(
            "WITH span AS
                 (SELECT profile, lease, sequence, number FROM history
                  WHERE profile = $1 AND changed AND (sequence, number) > ($2, $3) AND at >= $4 AND at < $5
                  ORDER BY sequence, number LIMIT $6)
             SELECT {CHANGE} FROM span JOIN history AS h USING (profile, lease, sequence, number)
                 LEFT JOIN request AS r ON r.sequence = h.sequence
             ORDER BY h.lease, h.sequence, h.number"
        ),
        &[
            &key.0,
            &span.after.sequence,
            &int(span.after.number),
            &span.from.0,
            &span.until.0,
            &limit(span.limit),
        ],
    )?;
    rows.iter().map(read_change).collect()
}

fn read_change(row: &Row) -> Sql<HistoryView> {
    let action = get::<Option<&str>>(row, "action")?.and_then(Action::named);
    let moved_from = optional_text(row, "from_plan")?;
    let moved_to = optional_text(row, "to_plan")?;
    Ok(HistoryView {
        at: read_at(row, "at")?,
        position: read_position(row)?,
        request: optional_id(row, "request_id")?.zip(action),
        user: optional_text(row, "user")?,
        from: Condition {
            state: read_state(row, "from_state")?,
            status: read_status(row, "from_status")?,
            fallback: get(row, "from_fallback")?,
        },
        to: Condition {
            state: read_state(row, "to_state")?,
            status: read_status(row, "to_status")?,
            fallback: get(row, "to_fallback")?,
        },
        plan: moved_to.map(|to| PlanChange { from: moved_from, to }),
        in_doubt: get(row, "in_doubt")?,
    })
}

/// The profiles behind `after` whose oldest change was before `before`, and where those behind them begin.
pub(super) fn old(
    db: &mut Db,
    before: Timestamp,
    after: Option<ProfileKey>,
    at_most: usize,
) -> Sql<OldHistory> {
    let rows = db.query(
        "SELECT p.number, (SELECT h.at FROM history AS h WHERE h.profile = p.number
                           ORDER BY h.lease, h.sequence, h.number LIMIT 1) AS oldest_at
         FROM profile AS p WHERE p.number > $1 ORDER BY p.number LIMIT $2",
        &[&after.map_or(0, |key| key.0), &limit(at_most)],
    )?;
    let read = |row: &Row| Ok((ProfileKey(get(row, "number")?), get(row, "oldest_at")?));
    Ok(OldHistory::of(rows.iter().map(read).collect::<Sql<_>>()?, before, at_most))
}

/// Removes what is old of them.
pub(super) fn forget(
    db: &mut Db,
    before: Timestamp,
    old: &OldHistory,
    at_most: usize,
) -> Sql<HistoryForgotten> {
    old.forget(at_most, |profile, at_most| {
        db.execute(
            "DELETE FROM history WHERE (profile, lease, sequence, number) IN
                 (SELECT profile, lease, sequence, number FROM history WHERE profile = $1 AND at < $2
                  ORDER BY lease, sequence, number LIMIT $3)",
            &[&profile.0, &before.0, &limit(at_most)],
        )
    })
}

/// Everything that was asked of a profile.
pub(super) fn timeline(
    db: &mut Db,
    iccid: &Iccid,
    after: Position,
    at_most: usize,
) -> Sql<Vec<TimelineEntry>> {
    let keys = db.query_opt("SELECT number, device FROM profile WHERE iccid = $1", &[&iccid.as_str()])?;
    let Some(keys) = keys else { return Ok(Vec::new()) };
    let (key, device) = (ProfileKey(get(&keys, "number")?), DeviceKey(get(&keys, "device")?));
    let positions = asked(db, key, device, after, at_most)?;
    let mut changes = changes(db, key, &positions)?;
    positions.into_iter().map(|position| entry(db, key, position, changes.remove(&position))).collect()
}

/// Where the subrequests stand that changed a profile, tried to, or wait to.
fn asked(
    db: &mut Db,
    key: ProfileKey,
    device: DeviceKey,
    after: Position,
    at_most: usize,
) -> Sql<Vec<Position>> {
    let rows = db.query(
        "(SELECT sequence, number FROM history
          WHERE profile = $1 AND (sequence, number) > ($3, $4) ORDER BY sequence, number LIMIT $5)
         UNION
         (SELECT sequence, number FROM subrequest
          WHERE device = $2 AND ended_at IS NULL AND (sequence, number) > ($3, $4) AND profile = $1
          ORDER BY sequence, number LIMIT $5)
         ORDER BY sequence, number LIMIT $5",
        &[&key.0, &device.0, &after.sequence, &int(after.number), &limit(at_most)],
    )?;
    rows.iter().map(read_position).collect()
}

/// The changes among those positions.
fn changes(db: &mut Db, key: ProfileKey, positions: &[Position]) -> Sql<BTreeMap<Position, HistoryView>> {
    let sequences: Vec<i64> = positions.iter().map(|position| position.sequence).collect();
    let numbers: Vec<i32> = positions.iter().map(|position| int(position.number)).collect();
    let rows = db.query(
        &format!(
            "SELECT {CHANGE} FROM unnest($2::BIGINT[], $3::INTEGER[]) AS k (sequence, number)
                 JOIN history AS h ON h.sequence = k.sequence AND h.number = k.number
                 LEFT JOIN request AS r ON r.sequence = h.sequence
             WHERE h.profile = $1 AND h.changed"
        ),
        &[&key.0, &sequences, &numbers],
    )?;
    rows.iter().map(|row| Ok((read_position(row)?, read_change(row)?))).collect()
}

fn entry(
    db: &mut Db,
    key: ProfileKey,
    position: Position,
    change: Option<HistoryView>,
) -> Sql<TimelineEntry> {
    let mut entry = TimelineEntry {
        position,
        request: None,
        outcome: None,
        fault: None,
        calls: Vec::new(),
        change,
        callbacks: Vec::new(),
    };
    let found = db.query_opt(
        "SELECT r.request_id, r.action, r.\"user\", r.accepted_at, r.cancelled_at, s.profile, s.outcome, s.fault,
                s.fault_detail, s.ended_at, s.calls, s.called_at, s.reply
         FROM request AS r JOIN subrequest AS s USING (sequence) WHERE s.sequence = $1 AND s.number = $2",
        &[&position.sequence, &int(position.number)],
    )?;
    let Some(row) = found else { return Ok(entry) };
    entry.request = Some(TimelineRequest {
        id: read_id(&row, "request_id")?,
        action: read_action(&row)?,
        user: read_text(&row, "user")?,
        accepted_at: read_at(&row, "accepted_at")?,
        cancelled_at: optional_at(&row, "cancelled_at")?,
    });
    let ended_at = optional_at(&row, "ended_at")?;
    entry.fault = if ended_at.is_some() { read_fault(&row)? } else { None };
    let state = match (ended_at, &entry.fault) {
        (None, _) => SubrequestState::Waiting,
        (Some(_), None) => SubrequestState::Succeeded,
        (Some(_), Some(_)) => SubrequestState::Failed,
    };
    entry.outcome = Some((state, ended_at));
    if get::<Option<i64>>(&row, "profile")? == Some(key.0) {
        entry.calls = calls(db, position, &row)?;
        entry.callbacks = callbacks::of_subrequest(db, position)?;
    }
    Ok(entry)
}

/// The calls that left the operation unsettled, then the one that settled it.
fn calls(db: &mut Db, position: Position, settled: &Row) -> Sql<Vec<CallView>> {
    let unsettled = db.query(
        "SELECT ordinal, began_at, ended_at, reply FROM carrier_call WHERE sequence = $1 AND number = $2
         ORDER BY ordinal",
        &[&position.sequence, &int(position.number)],
    )?;
    let read = |row: &Row| {
        Ok(CallView {
            ordinal: read_u32(row, "ordinal")?,
            began_at: read_at(row, "began_at")?,
            ended_at: read_at(row, "ended_at")?,
            reply: read_text(row, "reply")?,
        })
    };
    let mut calls = unsettled.iter().map(read).collect::<Sql<Vec<_>>>()?;
    let began_at = optional_at(settled, "called_at")?;
    if let Some((began_at, ended_at)) = began_at.zip(optional_at(settled, "ended_at")?) {
        let reply = optional_text(settled, "reply")?.unwrap_or_else(|| USUAL_REPLY.into());
        calls.push(CallView { ordinal: read_u32(settled, "calls")?, began_at, ended_at, reply });
    }
    Ok(calls)
}
