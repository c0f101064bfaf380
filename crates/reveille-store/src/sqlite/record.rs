//! Recording outcomes, warnings and calls: what a subrequest came to, in one transaction.

use super::codes;
use super::requests::count_waiting;
use crate::codes::USUAL_REPLY;
use crate::{
    Change, Handed, Outlet, PlanChange, ProfileKey, Recorded, Recording, RequestHead, UnsettledCall, Warning,
    Written,
};
use reveille_domain::{
    AccountName, Condition, Eid, Fault, Imei, Left, ListenerName, Msisdn, ProfileState, Service, Told,
};
use rusqlite::{CachedStatement, Connection, named_params, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a batch of outcomes adds to a request's counts.
#[derive(Default)]
struct Counts {
    succeeded: u32,
    failed: u32,
    faults: HashMap<&'static str, u32>,
    last_at: i64,
}

/// The further listeners of services, each looked up once for a batch.
#[derive(Default)]
struct Further<'a>(HashMap<(&'a AccountName, Service), Vec<ListenerName>>);

impl<'a> Further<'a> {
    fn of(&mut self, db: &Connection, request: &'a RequestHead) -> rusqlite::Result<&[ListenerName]> {
        let service = request.action.service();
        Ok(match self.0.entry((&request.account, service)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(further_listeners(db, &request.account, service)?),
        })
    }

    fn outlets(self) -> Vec<Outlet> {
        let outlets = |((account, service), names): ((&AccountName, Service), Vec<ListenerName>)| {
            let account = account.clone();
            names.into_iter().map(move |listener| Outlet { account: account.clone(), service, listener })
        };
        self.0.into_iter().flat_map(outlets).collect()
    }
}

fn further_listeners(
    db: &Connection,
    account: &AccountName,
    service: Service,
) -> rusqlite::Result<Vec<ListenerName>> {
    let mut select =
        db.prepare_cached("SELECT name FROM further_listener WHERE account = ? AND service = ?")?;
    let of = params![account.as_str(), service.name()];
    select.query_map(of, |row| codes::read_listener(row, "name"))?.collect()
}

pub(super) fn record(db: &Connection, recordings: &[Recording]) -> rusqlite::Result<Written<Recorded>> {
    let mut writes = RecordWrites::prepare(db)?;
    let mut further = Further::default();
    let mut counts: HashMap<i64, (&RequestHead, Counts)> = HashMap::new();
    let mut recorded = Vec::with_capacity(recordings.len());
    for recording in recordings {
        let also_told = further.of(db, &recording.request)?;
        if !writes.end(recording)? {
            recorded.push(Recorded::Before);
            continue;
        }
        if recording.changes.is_empty() {
            writes.note_unchanged(recording)?;
        }
        for change in &recording.changes {
            writes.change_profile(recording, change)?;
        }
        if recording.request.action.warns() {
            writes.end_warning(recording)?;
        }
        writes.insert_callbacks(recording, also_told)?;
        let (_, count) = counts
            .entry(recording.request.sequence)
            .or_insert_with(|| (&recording.request, Counts::default()));
        count.add(recording);
        recorded.push(Recorded::Now);
    }
    for (sequence, (head, counts)) in &counts {
        count(db, *sequence, head, counts)?;
    }
    Ok(Written { each: recorded, further: further.outlets() })
}

impl Counts {
    fn add(&mut self, recording: &Recording) {
        self.last_at = self.last_at.max(recording.at.0);
        match &recording.told.result {
            Ok(_) => self.succeeded += 1,
            Err(fault) => {
                self.failed += 1;
                *self.faults.entry(fault.name()).or_default() += 1;
            }
        }
    }
}

/// What is written of each outcome.
struct RecordWrites<'a> {
    db: &'a Connection,
    end: CachedStatement<'a>,
    profile: CachedStatement<'a>,
    history: CachedStatement<'a>,
    callback: CachedStatement<'a>,
}

impl<'a> RecordWrites<'a> {
    fn prepare(db: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            end: db.prepare_cached(
                "UPDATE subrequest SET outcome = ?, fault = ?, fault_detail = ?, ended_at = ?, calls = ?,
                     called_at = ?, reply = ?
                 WHERE sequence = ? AND number = ? AND ended_at IS NULL",
            )?,
            profile: db.prepare_cached(
                "UPDATE profile SET state = ?1, status = ?2, fallback = ?3, in_doubt = in_doubt & ~?8,
                     suspended_at = CASE WHEN ?4 THEN ?5 WHEN ?6 THEN suspended_at END,
                     noticed_at = CASE WHEN ?6 AND NOT ?4 THEN noticed_at END
                 WHERE number = ?7",
            )?,
            history: db.prepare_cached(
                "INSERT INTO history (profile, sequence, number, account, at, from_state, to_state, in_doubt)
                 VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            )?,
            callback: db.prepare_cached(
                "INSERT INTO callback (sequence, number, warned_at, listener, account, service, eid, imei, msisdn,
                                       left_state, left_status, left_role, next_attempt_at)
                 VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
        })
    }

    /// Whether the subrequest ended with this.
    fn end(&mut self, recording: &Recording) -> rusqlite::Result<bool> {
        let fault = recording.told.result.as_ref().err();
        let call = recording.call;
        let ended = self.end.execute(params![
            if fault.is_none() { "succeeded" } else { "failed" },
            fault.map(Fault::name),
            fault.and_then(Fault::detail),
            recording.at.0,
            call.map_or(0, |call| call.ordinal),
            call.map(|call| call.began_at.0),
            call.map(|call| call.reply).filter(|reply| *reply != USUAL_REPLY),
            recording.request.sequence,
            recording.number,
        ])?;
        Ok(ended == 1)
    }

    fn change_profile(&mut self, recording: &Recording, change: &Change) -> rusqlite::Result<()> {
        let (RequestHead { sequence, account, .. }, number) = (recording.request.as_ref(), recording.number);
        let (account, at) = (account.as_str(), recording.at.0);
        match change {
            Change::To { profile, from, to, plan, settles } => {
                let is_suspended = |state| matches!(state, ProfileState::Suspended(_));
                let (suspended, before) = (is_suspended(to.state), is_suspended(from.state));
                let begins = suspended && !before;
                let (state, status) = (codes::state(to.state), codes::status(to.status));
                let settles = settles.bits();
                let now = params![state, status, to.fallback, begins, at, suspended, profile.0, settles];
                self.profile.execute(now)?;
                let was = codes::state(from.state);
                self.history.execute(params![profile.0, sequence, number, account, at, was, state])?;
                if from.status != to.status || from.fallback != to.fallback || plan.is_some() {
                    self.complete_history(recording, *profile, (*from, *to), plan.as_ref())?;
                }
            }
            Change::InDoubt { profile, of } => {
                self.db
                    .prepare_cached("UPDATE profile SET in_doubt = in_doubt | ? WHERE number = ?")?
                    .execute(params![of.bits(), profile.0])?;
                self.db
                    .prepare_cached(
                        "INSERT INTO history (profile, sequence, number, account, at, from_state, to_state, in_doubt)
                         SELECT number, ?, ?, ?, ?, state, state, 1 FROM profile WHERE number = ?
                         ON CONFLICT (profile, sequence, number) DO UPDATE SET in_doubt = 1",
                    )?
                    .execute(params![sequence, number, account, at, profile.0])?;
            }
            Change::Noticed { profile } => {
                self.db
                    .prepare_cached("UPDATE profile SET noticed_at = ? WHERE number = ?")?
                    .execute([at, profile.0])?;
                self.note_unchanged(recording)?;
            }
        }
        Ok(())
    }

    /// What changed besides the service state stands in the same row of history, where it did.
    fn complete_history(
        &mut self,
        recording: &Recording,
        profile: ProfileKey,
        (from, to): (Condition, Condition),
        plan: Option<&PlanChange>,
    ) -> rusqlite::Result<()> {
        if let Some(plan) = plan {
            self.db
                .prepare_cached("UPDATE profile SET service_plan = ? WHERE number = ?")?
                .execute(params![plan.to, profile.0])?;
        }
        let moved = from.status != to.status;
        let turned = from.fallback != to.fallback;
        let mut complete = self.db.prepare_cached(
            "UPDATE history SET from_status = ?, to_status = ?, from_fallback = ?, to_fallback = ?, from_plan = ?,
                 to_plan = ?
             WHERE profile = ? AND sequence = ? AND number = ?",
        )?;
        complete.execute(params![
            moved.then(|| codes::status(from.status)),
            moved.then(|| codes::status(to.status)),
            turned.then_some(from.fallback),
            turned.then_some(to.fallback),
            plan.and_then(|plan| plan.from.as_ref()),
            plan.map(|plan| &plan.to),
            profile.0,
            recording.request.sequence,
            recording.number,
        ])?;
        Ok(())
    }

    /// An outcome that changed nothing: the profile's rows lead to it all the same.
    fn note_unchanged(&mut self, recording: &Recording) -> rusqlite::Result<()> {
        let mut note = self.db.prepare_cached(
            "INSERT INTO history (profile, sequence, number, account, at, from_state, to_state, in_doubt, changed)
             SELECT p.number, s.sequence, s.number, s.account, ?, p.state, p.state, 0, 0
             FROM subrequest AS s JOIN profile AS p ON p.number = s.profile
             WHERE s.sequence = ? AND s.number = ?",
        )?;
        note.execute(params![recording.at.0, recording.request.sequence, recording.number])?;
        Ok(())
    }

    /// A warning that still waits would be told after the outcome.
    fn end_warning(&mut self, recording: &Recording) -> rusqlite::Result<()> {
        let mut end = self.db.prepare_cached(
            "UPDATE callback SET next_attempt_at = NULL, ended_at = ?, archived = 'overtaken'
             WHERE sequence = ? AND number = ? AND warned_at > 0 AND ended_at IS NULL",
        )?;
        let ended = end.execute(params![recording.at.0, recording.request.sequence, recording.number])?;
        if ended > 0 { count_untold(self.db, -codes::count(ended)) } else { Ok(()) }
    }

    fn insert_callbacks(
        &mut self,
        recording: &Recording,
        also_told: &[ListenerName],
    ) -> rusqlite::Result<()> {
        self.insert_callback(recording, ListenerName::OWN)?;
        for listener in also_told {
            self.insert_callback(recording, *listener)?;
        }
        if !also_told.is_empty() {
            count_untold(self.db, codes::count(also_told.len()))?;
        }
        match &recording.told.result {
            Ok(Left::Document(body)) => self.insert_document(recording, body),
            _ => Ok(()),
        }
    }

    fn insert_callback(&mut self, recording: &Recording, listener: ListenerName) -> rusqlite::Result<()> {
        let told = &recording.told;
        let (state, profile) = match &told.result {
            Ok(Left::Profile(left)) => (Some(left.state), Some((left.status, left.role))),
            Ok(Left::Device(state)) => (Some(*state), None),
            Ok(Left::Document(_) | Left::Waiting) | Err(_) => (None, None),
        };
        self.callback.execute(params![
            recording.request.sequence,
            recording.number,
            listener.as_str(),
            recording.request.account.as_str(),
            codes::service(recording.request.action.service()),
            told.eid.as_ref().map(Eid::as_str),
            told.imei.as_ref().map(Imei::as_str),
            told.msisdn.as_ref().map(Msisdn::as_str),
            state.map(codes::state),
            profile.map(|(status, _)| codes::status(status)),
            profile.map(|(_, role)| codes::role(role)),
            recording.at.0,
        ])?;
        Ok(())
    }

    fn insert_document(&mut self, recording: &Recording, body: &str) -> rusqlite::Result<()> {
        let RequestHead { sequence, account, .. } = recording.request.as_ref();
        self.db
            .prepare_cached(
                "INSERT INTO callback_document (sequence, number, account, body) VALUES (?, ?, ?, ?)",
            )?
            .execute(params![sequence, recording.number, account.as_str(), body])?;
        Ok(())
    }
}

fn count(db: &Connection, sequence: i64, head: &RequestHead, counts: &Counts) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE request SET succeeded = succeeded + :succeeded, failed = failed + :failed,
             ended_at = CASE WHEN succeeded + failed + :succeeded + :failed = subrequests THEN :at END
         WHERE sequence = :sequence",
    )?;
    update.execute(named_params! {
        ":succeeded": counts.succeeded, ":failed": counts.failed, ":at": counts.last_at, ":sequence": sequence,
    })?;
    let mut fault = db.prepare_cached(
        "INSERT INTO request_fault (sequence, fault, subrequests) VALUES (?, ?, ?)
         ON CONFLICT (sequence, fault) DO UPDATE SET subrequests = subrequests + excluded.subrequests",
    )?;
    for (name, subrequests) in &counts.faults {
        fault.execute(params![sequence, name, subrequests])?;
    }
    let ended = i64::from(counts.succeeded + counts.failed);
    count_waiting(db, head.account.as_str(), -ended)?;
    count_untold(db, ended)
}

pub(super) fn count_untold(db: &Connection, more: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE backlog SET untold = untold + ?")?.execute([more])?;
    Ok(())
}

/// Which warnings were written: those of subrequests without outcome that were not warned of before.
pub(super) fn warn(db: &Connection, warnings: &[Warning]) -> rusqlite::Result<Written<bool>> {
    let mut insert = db.prepare_cached(
        "INSERT INTO callback (sequence, number, warned_at, listener, account, service, eid, imei, msisdn,
                               next_attempt_at)
         SELECT s.sequence, s.number, :at, :listener, s.account, :service, :eid, :imei, :msisdn, :at
         FROM subrequest AS s
         WHERE s.sequence = :sequence AND s.number = :number AND s.ended_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM callback AS c
                           WHERE c.sequence = s.sequence AND c.number = s.number AND c.warned_at > 0
                             AND c.listener = :listener)",
    )?;
    let mut further = Further::default();
    let mut callbacks = 0;
    let mut written = Vec::with_capacity(warnings.len());
    for warning in warnings {
        let Told { eid, imei, msisdn, .. } = &warning.told;
        let mut insert = |listener: ListenerName| {
            insert.execute(named_params! {
                ":at": warning.at.0.max(1), ":listener": listener.as_str(),
                ":service": codes::service(warning.request.action.service()),
                ":eid": eid.as_ref().map(Eid::as_str), ":imei": imei.as_ref().map(Imei::as_str),
                ":msisdn": msisdn.as_ref().map(Msisdn::as_str), ":sequence": warning.request.sequence,
                ":number": warning.number,
            })
        };
        let is_new = insert(ListenerName::OWN)? == 1;
        callbacks += usize::from(is_new);
        for listener in further.of(db, &warning.request)?.iter().filter(|_| is_new) {
            callbacks += insert(*listener)?;
        }
        written.push(is_new);
    }
    count_untold(db, codes::count(callbacks))?;
    Ok(Written { each: written, further: further.outlets() })
}

pub(super) fn note_calls(db: &Connection, calls: &[UnsettledCall]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO carrier_call (sequence, number, ordinal, account, began_at, ended_at, reply)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for call in calls {
        let UnsettledCall { position, account, ordinal, began_at, ended_at, reply } = call;
        insert.execute(params![
            position.sequence,
            position.number,
            ordinal,
            account.as_str(),
            began_at.0,
            ended_at.0,
            reply
        ])?;
    }
    Ok(())
}

pub(super) fn keep_handles(db: &Connection, handles: &[Handed]) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE subrequest SET handle = ? WHERE sequence = ? AND number = ? AND ended_at IS NULL",
    )?;
    for Handed { position, handle, .. } in handles {
        update.execute(params![handle, position.sequence, position.number])?;
    }
    Ok(())
}
