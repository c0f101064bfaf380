//! What became of profiles: the changes of their records, and all that was asked of them.

use super::callbacks;
use super::codes::{
    self, optional_at, optional_id, optional_status, read_at, read_fault, read_id, read_state, read_status,
};
use crate::codes::USUAL_REPLY;
use crate::requests::OldHistory;
use crate::{
    CallView, DeviceKey, HistoryForgotten, HistorySpan, HistoryView, PlanChange, ProfileKey, SubrequestState,
    TimelineEntry, TimelineRequest,
};
use reveille_domain::{Action, Condition, Iccid, Position, ProfileStatus, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// What is behind everything.
const LAST: Position = Position { sequence: i64::MAX, number: u32::MAX };

/// The latest changes of a profile's record, oldest first.
pub(super) fn history(db: &Connection, iccid: &Iccid, limit: usize) -> rusqlite::Result<Vec<HistoryView>> {
    let mut select = db.prepare_cached("SELECT number FROM profile WHERE iccid = ?")?;
    let found = select.query_row([iccid.as_str()], |row| row.get(0)).optional()?;
    let Some(key) = found.map(ProfileKey) else { return Ok(Vec::new()) };
    let mut latest = Vec::new();
    let mut walk = Walk::of(db, key)?;
    walk.down_to(Position { sequence: 0, number: 0 }, |view| {
        latest.push(view);
        latest.len() < limit
    })?;
    latest.truncate(limit);
    latest.reverse();
    Ok(latest)
}

/// A part of a profile's history, oldest first.
pub(super) fn history_span(
    db: &Connection,
    key: ProfileKey,
    span: HistorySpan,
) -> rusqlite::Result<Vec<HistoryView>> {
    let HistorySpan { from, until, after, limit } = span;
    let mut positions = db.prepare_cached(
        "SELECT sequence, number FROM history
         WHERE profile = ? AND changed AND (sequence, number) > (?, ?) AND at >= ? AND at < ?
         ORDER BY sequence, number LIMIT ?",
    )?;
    let bounds = params![key.0, after.sequence, after.number, from.0, until.0, limit];
    let positions = positions.query_map(bounds, read_position)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let Some(last) = positions.last().copied() else { return Ok(Vec::new()) };
    let mut views = Vec::new();
    Walk::of(db, key)?.down_to(after, |view| {
        if view.position <= last && view.at >= from && view.at < until {
            views.push(view);
        }
        true
    })?;
    views.reverse();
    Ok(views)
}

fn read_position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { sequence: row.get(0)?, number: row.get(1)? })
}

/// A walk through a profile's changes, the newest first. A row says the status and the fallback attribute
/// only where it changed them, so both are carried back from what is recorded now.
struct Walk<'a> {
    db: &'a Connection,
    key: ProfileKey,
    status: ProfileStatus,
    fallback: bool,
}

impl<'a> Walk<'a> {
    fn of(db: &'a Connection, key: ProfileKey) -> rusqlite::Result<Self> {
        let mut select = db.prepare_cached("SELECT status, fallback FROM profile WHERE number = ?")?;
        let start = |row: &Row<'_>| {
            Ok(Self { db, key, status: read_status(row, "status")?, fallback: row.get("fallback")? })
        };
        select.query_row([key.0], start)
    }

    /// Hands out changes down to the one behind `after`, as long as they are wanted.
    fn down_to(
        &mut self,
        after: Position,
        mut wanted: impl FnMut(HistoryView) -> bool,
    ) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT h.sequence, h.number, h.at, h.from_state, h.to_state, h.in_doubt, h.from_status, h.to_status,
                    h.from_fallback, h.to_fallback, h.from_plan, h.to_plan, r.request_id, r.action, r.user
             FROM history AS h LEFT JOIN request AS r USING (sequence)
             WHERE h.profile = ? AND (h.sequence, h.number) > (?, ?) AND h.changed
             ORDER BY h.sequence DESC, h.number DESC",
        )?;
        let mut rows = select.query(params![self.key.0, after.sequence, after.number])?;
        while let Some(row) = rows.next()? {
            let view = self.read(row)?;
            if !wanted(view) {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, row: &Row<'_>) -> rusqlite::Result<HistoryView> {
        let to = Condition {
            state: read_state(row, "to_state")?,
            status: optional_status(row, "to_status")?.unwrap_or(self.status),
            fallback: row.get::<_, Option<bool>>("to_fallback")?.unwrap_or(self.fallback),
        };
        let from = Condition {
            state: read_state(row, "from_state")?,
            status: optional_status(row, "from_status")?.unwrap_or(to.status),
            fallback: row.get::<_, Option<bool>>("from_fallback")?.unwrap_or(to.fallback),
        };
        (self.status, self.fallback) = (from.status, from.fallback);
        let action = row.get::<_, Option<String>>("action")?.and_then(|name| Action::named(&name));
        let moved_to: Option<Box<str>> = row.get("to_plan")?;
        let moved_from = row.get("from_plan")?;
        Ok(HistoryView {
            at: read_at(row, "at")?,
            position: Position { sequence: row.get("sequence")?, number: row.get("number")? },
            request: optional_id(row, "request_id")?.zip(action),
            user: row.get("user")?,
            from,
            to,
            plan: moved_to.map(|to| PlanChange { from: moved_from, to }),
            in_doubt: row.get("in_doubt")?,
        })
    }
}

/// The profiles behind `after` whose oldest change was before `before`, and where those behind them begin.
pub(super) fn old(
    db: &Connection,
    before: Timestamp,
    after: Option<ProfileKey>,
    limit: usize,
) -> rusqlite::Result<OldHistory> {
    let mut select = db.prepare_cached(
        "SELECT p.number, (SELECT h.at FROM history AS h WHERE h.profile = p.number
                           ORDER BY h.sequence, h.number LIMIT 1) AS oldest_at
         FROM profile AS p WHERE p.number > ? ORDER BY p.number LIMIT ?",
    )?;
    let read = |row: &Row<'_>| Ok((ProfileKey(row.get(0)?), row.get(1)?));
    let profiles = select.query_map(params![after.map_or(0, |key| key.0), limit], read)?;
    Ok(OldHistory::of(profiles.collect::<rusqlite::Result<_>>()?, before, limit))
}

/// Removes what is old of them.
pub(super) fn forget(
    db: &Connection,
    before: Timestamp,
    old: &OldHistory,
    limit: usize,
) -> rusqlite::Result<HistoryForgotten> {
    let mut delete = db.prepare_cached(
        "DELETE FROM history WHERE (profile, sequence, number) IN
             (SELECT profile, sequence, number FROM history WHERE profile = ? AND at < ?
              ORDER BY sequence, number LIMIT ?)",
    )?;
    old.forget(limit, |profile, at_most| delete.execute(params![profile.0, before.0, at_most]))
}

/// Everything that was asked of a profile.
pub(super) fn timeline(
    db: &Connection,
    iccid: &Iccid,
    after: Position,
    limit: usize,
) -> rusqlite::Result<Vec<TimelineEntry>> {
    let mut select = db.prepare_cached("SELECT number, device FROM profile WHERE iccid = ?")?;
    let keys = |row: &Row<'_>| Ok((ProfileKey(row.get(0)?), DeviceKey(row.get(1)?)));
    let Some((key, device)) = select.query_row([iccid.as_str()], keys).optional()? else {
        return Ok(Vec::new());
    };
    let positions = asked(db, key, device, after, limit)?;
    let mut changes = changes(db, key, &positions)?;
    positions.into_iter().map(|position| entry(db, key, position, changes.remove(&position))).collect()
}

/// Where the subrequests stand that changed a profile, tried to, or wait to.
fn asked(
    db: &Connection,
    key: ProfileKey,
    device: DeviceKey,
    after: Position,
    limit: usize,
) -> rusqlite::Result<Vec<Position>> {
    let mut ended = db.prepare_cached(
        "SELECT sequence, number FROM history WHERE profile = ? AND (sequence, number) > (?, ?)
         ORDER BY sequence, number LIMIT ?",
    )?;
    let bounds = params![key.0, after.sequence, after.number, limit];
    let mut positions = ended.query_map(bounds, read_position)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut waiting = db.prepare_cached(
        "SELECT sequence, number FROM subrequest
         WHERE device = ? AND ended_at IS NULL AND (sequence, number) > (?, ?) AND profile = ?
         ORDER BY sequence, number LIMIT ?",
    )?;
    let bounds = params![device.0, after.sequence, after.number, key.0, limit];
    positions.extend(waiting.query_map(bounds, read_position)?.collect::<rusqlite::Result<Vec<_>>>()?);
    positions.sort();
    positions.dedup();
    positions.truncate(limit);
    Ok(positions)
}

/// The changes among those positions.
fn changes(
    db: &Connection,
    key: ProfileKey,
    positions: &[Position],
) -> rusqlite::Result<BTreeMap<Position, HistoryView>> {
    let mut changes = BTreeMap::new();
    let (Some(first), last) = (positions.first(), positions.last().copied().unwrap_or(LAST)) else {
        return Ok(changes);
    };
    let before = Position { sequence: first.sequence, number: first.number.saturating_sub(1) };
    Walk::of(db, key)?.down_to(before, |view| {
        if view.position <= last {
            changes.insert(view.position, view);
        }
        true
    })?;
    Ok(changes)
}

fn entry(
    db: &Connection,
    key: ProfileKey,
    position: Position,
    change: Option<HistoryView>,
) -> rusqlite::Result<TimelineEntry> {
    let mut entry = TimelineEntry {
        position,
        request: None,
        outcome: None,
        fault: None,
        calls: Vec::new(),
        change,
        callbacks: Vec::new(),
    };
    let mut select = db.prepare_cached(
        "SELECT r.request_id, r.action, r.user, r.accepted_at, r.cancelled_at, s.profile, s.outcome, s.fault,
                s.fault_detail, s.ended_at, s.calls, s.called_at, s.reply
         FROM request AS r JOIN subrequest AS s USING (sequence) WHERE s.sequence = ? AND s.number = ?",
    )?;
    let mut rows = select.query(params![position.sequence, position.number])?;
    let Some(row) = rows.next()? else { return Ok(entry) };
    entry.request = Some(TimelineRequest {
        id: read_id(row, "request_id")?,
        action: codes::read_action(row)?,
        user: row.get("user")?,
        accepted_at: read_at(row, "accepted_at")?,
        cancelled_at: optional_at(row, "cancelled_at")?,
    });
    let ended_at = optional_at(row, "ended_at")?;
    entry.fault = if ended_at.is_some() { read_fault(row)? } else { None };
    let state = match (ended_at, &entry.fault) {
        (None, _) => SubrequestState::Waiting,
        (Some(_), None) => SubrequestState::Succeeded,
        (Some(_), Some(_)) => SubrequestState::Failed,
    };
    entry.outcome = Some((state, ended_at));
    if row.get::<_, Option<i64>>("profile")? == Some(key.0) {
        entry.calls = calls(db, position, row)?;
        entry.callbacks = callbacks::of_subrequest(db, position)?;
    }
    Ok(entry)
}

/// The calls that left the operation unsettled, then the one that settled it.
fn calls(db: &Connection, position: Position, settled: &Row<'_>) -> rusqlite::Result<Vec<CallView>> {
    let mut select = db.prepare_cached(
        "SELECT ordinal, began_at, ended_at, reply FROM carrier_call WHERE sequence = ? AND number = ? ORDER BY ordinal",
    )?;
    let read = |row: &Row<'_>| {
        Ok(CallView {
            ordinal: row.get("ordinal")?,
            began_at: read_at(row, "began_at")?,
            ended_at: read_at(row, "ended_at")?,
            reply: row.get("reply")?,
        })
    };
    let unsettled = select.query_map(params![position.sequence, position.number], read)?;
    let mut calls = unsettled.collect::<rusqlite::Result<Vec<_>>>()?;
    let began_at = optional_at(settled, "called_at")?;
    if let Some((began_at, ended_at)) = began_at.zip(optional_at(settled, "ended_at")?) {
        let reply = settled.get::<_, Option<Box<str>>>("reply")?.unwrap_or_else(|| USUAL_REPLY.into());
        calls.push(CallView { ordinal: settled.get("calls")?, began_at, ended_at, reply });
    }
    Ok(calls)
}
