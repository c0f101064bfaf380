//! Recording outcomes, warnings and calls: what subrequests came to, in one transaction.
//!
//! A batch is written in a few statements, each over all of it. The eUICCs concerned are locked first, in the
//! order of their keys: whoever claims one of them waits for this, or this sees that it was claimed.

use super::callbacks::read_outlet;
use super::codes::{self, get, int};
use super::connection::{Db, Sql};
use super::leases::millis;
use crate::codes::USUAL_REPLY;
use crate::{
    Change, Guard, Handed, Outlet, ProfileKey, Recorded, Recording, RequestHead, UnsettledCall, Warning,
    Written,
};
use reveille_domain::{AccountName, Doubt, Eid, Fault, Imei, Left, Msisdn, Position, ProfileState, Service};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// How a guard is told to a statement.
const FREE: i32 = 0;
const LEASED: i32 = 1;
const UNBEGUN: i32 = 2;

pub(super) fn record(
    db: &mut Db,
    node: i32,
    lasts: Duration,
    recordings: &[Recording],
) -> Sql<Written<Recorded>> {
    let mut seen = HashSet::with_capacity(recordings.len());
    let firsts: Vec<&Recording> =
        recordings.iter().filter(|recording| seen.insert(recording.position())).collect();
    lock_euiccs(db, &firsts)?;
    let leases = end(db, &firsts)?;
    let now: Vec<Now<'_>> = firsts
        .iter()
        .filter_map(|recording| Some(Now { recording, lease: *leases.get(&recording.position())? }))
        .collect();
    change_profiles(db, &now)?;
    end_warnings(db, &now)?;
    let services = Services::of(firsts.iter().map(|recording| &*recording.request));
    let further = insert_callbacks(db, node, lasts, &now, &services)?;
    count(db, &now)?;
    let refused = if now.len() == firsts.len() { HashSet::new() } else { without_outcome(db, &firsts)? };
    let mut fresh: HashSet<Position> = leases.into_keys().collect();
    let answer = |recording: &Recording| match recording.position() {
        position if fresh.remove(&position) => Recorded::Now,
        position if refused.contains(&position) => Recorded::Refused,
        _ => Recorded::Before,
    };
    Ok(Written { each: recordings.iter().map(answer).collect(), further })
}

/// The services that those requests tell, each once, as a statement looks for their further listeners: one by one
/// (`OFFSET 0`), for the planner would read them all where it has seen few.
struct Services<'a> {
    account: Vec<&'a str>,
    name: Vec<&'static str>,
    service: Vec<i32>,
}

impl<'a> Services<'a> {
    fn of(requests: impl Iterator<Item = &'a RequestHead>) -> Self {
        let told: HashSet<(&AccountName, Service)> =
            requests.map(|request| (&request.account, request.action.service())).collect();
        Self {
            account: told.iter().map(|(account, _)| account.as_str()).collect(),
            name: told.iter().map(|(_, service)| service.name()).collect(),
            service: told.iter().map(|(_, service)| codes::service(*service).into()).collect(),
        }
    }
}

/// An outcome that is recorded with this batch, and the number by which its profile's history is in order.
struct Now<'a> {
    recording: &'a Recording,
    lease: i64,
}

impl Now<'_> {
    fn account(&self) -> &str {
        self.recording.request.account.as_str()
    }

    fn sequence(&self) -> i64 {
        self.recording.request.sequence
    }

    fn number(&self) -> i32 {
        int(self.recording.number)
    }
}

fn places(recordings: &[&Recording]) -> (Vec<i64>, Vec<i32>) {
    recordings.iter().map(|recording| (recording.request.sequence, int(recording.number))).unzip()
}

fn lock_euiccs(db: &mut Db, recordings: &[&Recording]) -> Sql<()> {
    let (sequences, numbers) = places(recordings);
    db.execute(
        "SELECT d.number FROM device AS d
         WHERE d.number IN (SELECT s.device FROM unnest($1::BIGINT[], $2::INTEGER[]) AS k (sequence, number)
                            JOIN subrequest AS s USING (sequence, number))
         ORDER BY d.number FOR NO KEY UPDATE",
        &[&sequences, &numbers],
    )?;
    Ok(())
}

/// Ends those subrequests whose guard holds and that have not ended; each with the number of its lease, or
/// where it has none, the next. They are asked for an outcome, not for their end, lest an index of what waits is
/// taken for a way to them.
fn end(db: &mut Db, recordings: &[&Recording]) -> Sql<HashMap<Position, i64>> {
    let (sequences, numbers) = places(recordings);
    let fault = |recording: &&Recording| recording.told.result.as_ref().err().cloned();
    let faults: Vec<Option<Fault>> = recordings.iter().map(fault).collect();
    let names: Vec<Option<&str>> = faults.iter().map(|fault| fault.as_ref().map(Fault::name)).collect();
    let details: Vec<Option<&str>> =
        faults.iter().map(|fault| fault.as_ref().and_then(Fault::detail)).collect();
    let ended_at: Vec<i64> = recordings.iter().map(|recording| recording.at.0).collect();
    let call = |recording: &&Recording| recording.call;
    let calls: Vec<i32> = recordings.iter().map(|r| call(r).map_or(0, |call| int(call.ordinal))).collect();
    let called_at: Vec<Option<i64>> =
        recordings.iter().map(|r| call(r).map(|call| call.began_at.0)).collect();
    let replies: Vec<Option<&str>> = recordings
        .iter()
        .map(|r| call(r).map(|call| call.reply).filter(|reply| *reply != USUAL_REPLY))
        .collect();
    let (guards, leases): (Vec<i32>, Vec<i64>) = recordings.iter().map(|r| told(r.guard)).unzip();
    let rows = db.query(
        "UPDATE subrequest AS s
         SET outcome = CASE WHEN k.fault IS NULL THEN 'succeeded' ELSE 'failed' END, fault = k.fault,
             fault_detail = k.detail, ended_at = k.ended_at, calls = k.calls, called_at = k.called_at,
             reply = k.reply
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::INTEGER[],
                     $7::BIGINT[], $8::TEXT[], $9::INTEGER[], $10::BIGINT[])
                  AS k (sequence, number, fault, detail, ended_at, calls, called_at, reply, guard, lease)
         WHERE s.sequence = k.sequence AND s.number = k.number AND s.outcome IS NULL
           AND CASE k.guard
                   WHEN 0 THEN true
                   WHEN 1 THEN EXISTS (SELECT 1 FROM device AS d WHERE d.number = s.device AND d.lease = k.lease)
                   ELSE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.number = s.device
                                    AND d.lease_sequence = s.sequence AND d.lease_position = s.number)
               END
         RETURNING s.sequence, s.number, CASE k.guard WHEN 1 THEN k.lease ELSE nextval('lease_number') END AS lease",
        &[
            &sequences, &numbers, &names, &details, &ended_at, &calls, &called_at, &replies, &guards, &leases,
        ],
    )?;
    rows.iter().map(|row| Ok((codes::read_position(row)?, get(row, "lease")?))).collect()
}

fn told(guard: Guard) -> (i32, i64) {
    match guard {
        Guard::Free => (FREE, 0),
        Guard::Leased(lease) => (LEASED, lease.0),
        Guard::Unbegun => (UNBEGUN, 0),
    }
}

/// Which of them are there and have no outcome.
fn without_outcome(db: &mut Db, recordings: &[&Recording]) -> Sql<HashSet<Position>> {
    let (sequences, numbers) = places(recordings);
    let rows = db.query(
        "SELECT s.sequence, s.number FROM unnest($1::BIGINT[], $2::INTEGER[]) AS k (sequence, number)
         JOIN subrequest AS s USING (sequence, number) WHERE s.outcome IS NULL",
        &[&sequences, &numbers],
    )?;
    rows.iter().map(codes::read_position).collect()
}

/// Changes of profiles that one statement may make: none of a profile twice.
#[derive(Default)]
struct Wave<'a> {
    to: Vec<(&'a Now<'a>, &'a Change)>,
    doubts: Vec<(&'a Now<'a>, ProfileKey, Doubt)>,
    notices: Vec<(&'a Now<'a>, ProfileKey)>,
}

fn change_profiles(db: &mut Db, now: &[Now<'_>]) -> Sql<()> {
    let mut waves: Vec<Wave<'_>> = Vec::new();
    let mut next_wave: HashMap<ProfileKey, usize> = HashMap::new();
    for ended in now {
        for change in &ended.recording.changes {
            let profile = match change {
                Change::To { profile, .. }
                | Change::InDoubt { profile, .. }
                | Change::Noticed { profile } => *profile,
            };
            let at = next_wave.entry(profile).or_default();
            if waves.len() == *at {
                waves.push(Wave::default());
            }
            match change {
                Change::To { .. } => waves[*at].to.push((ended, change)),
                Change::InDoubt { profile, of } => waves[*at].doubts.push((ended, *profile, *of)),
                Change::Noticed { profile } => waves[*at].notices.push((ended, *profile)),
            }
            *at += 1;
        }
    }
    for wave in &waves {
        if !wave.to.is_empty() {
            move_profiles(db, &wave.to)?;
        }
        if !wave.doubts.is_empty() {
            doubt_profiles(db, &wave.doubts)?;
        }
        if !wave.notices.is_empty() {
            let (keys, at): (Vec<i64>, Vec<i64>) =
                wave.notices.iter().map(|(ended, profile)| (profile.0, ended.recording.at.0)).unzip();
            db.execute(
                "UPDATE profile AS p SET noticed_at = k.at FROM unnest($1::BIGINT[], $2::BIGINT[]) AS k (profile, at)
                 WHERE p.number = k.profile",
                &[&keys, &at],
            )?;
        }
    }
    let is_noted = |ended: &&Now<'_>| {
        ended.recording.changes.iter().all(|change| matches!(change, Change::Noticed { .. }))
    };
    note_unchanged(db, &now.iter().filter(is_noted).collect::<Vec<_>>())
}

fn move_profiles(db: &mut Db, changes: &[(&Now<'_>, &Change)]) -> Sql<()> {
    let is_suspended = |state| matches!(state, ProfileState::Suspended(_));
    let mut columns = Moves::default();
    for (ended, change) in changes {
        let Change::To { profile, from, to, plan, settles } = change else { continue };
        columns.profile.push(profile.0);
        columns.kept.push(!i32::from(settles.bits()));
        columns.lease.push(ended.lease);
        columns.sequence.push(ended.sequence());
        columns.number.push(ended.number());
        columns.account.push(ended.account());
        columns.at.push(ended.recording.at.0);
        columns.from_state.push(codes::state(from.state));
        columns.to_state.push(codes::state(to.state));
        columns.from_status.push(codes::status(from.status));
        columns.to_status.push(codes::status(to.status));
        columns.from_fallback.push(from.fallback);
        columns.to_fallback.push(to.fallback);
        columns.from_plan.push(plan.as_ref().and_then(|plan| plan.from.as_deref()));
        columns.to_plan.push(plan.as_ref().map(|plan| &*plan.to));
        columns.is_suspended.push(is_suspended(to.state));
        columns.was_suspended.push(is_suspended(from.state));
    }
    let Moves {
        profile,
        at,
        to_state,
        to_status,
        to_fallback,
        to_plan,
        is_suspended,
        was_suspended,
        kept,
        ..
    } = &columns;
    db.execute(
        "UPDATE profile AS p
         SET state = k.state, status = k.status, fallback = k.fallback, in_doubt = p.in_doubt & k.kept,
             service_plan = coalesce(k.plan, p.service_plan),
             suspended_at = CASE WHEN k.suspended AND NOT k.before THEN k.at WHEN k.suspended THEN p.suspended_at END,
             noticed_at = CASE WHEN k.suspended AND k.before THEN p.noticed_at END
         FROM unnest($1::BIGINT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BOOLEAN[], $6::TEXT[], $7::BOOLEAN[],
                     $8::BOOLEAN[], $9::INTEGER[])
                  AS k (profile, at, state, status, fallback, plan, suspended, before, kept)
         WHERE p.number = k.profile",
        &[profile, at, to_state, to_status, to_fallback, to_plan, is_suspended, was_suspended, kept],
    )?;
    let Moves { lease, sequence, number, account, from_state, from_status, from_fallback, from_plan, .. } =
        &columns;
    db.execute(
        "INSERT INTO history (profile, lease, sequence, number, account, at, from_state, to_state, from_status,
                              to_status, from_fallback, to_fallback, from_plan, to_plan, in_doubt, changed)
         SELECT k.*, false, true
         FROM unnest($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::TEXT[], $6::BIGINT[], $7::TEXT[],
                     $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::BOOLEAN[], $12::BOOLEAN[], $13::TEXT[],
                     $14::TEXT[]) AS k",
        &[
            profile, lease, sequence, number, account, at, from_state, to_state, from_status, to_status,
            from_fallback, to_fallback, from_plan, to_plan,
        ],
    )?;
    Ok(())
}

/// Columns of `move_profiles`.
#[derive(Default)]
struct Moves<'a> {
    profile: Vec<i64>,
    /// What stays in doubt, if it is.
    kept: Vec<i32>,
    lease: Vec<i64>,
    sequence: Vec<i64>,
    number: Vec<i32>,
    account: Vec<&'a str>,
    at: Vec<i64>,
    from_state: Vec<&'static str>,
    to_state: Vec<&'static str>,
    from_status: Vec<&'static str>,
    to_status: Vec<&'static str>,
    from_fallback: Vec<bool>,
    to_fallback: Vec<bool>,
    from_plan: Vec<Option<&'a str>>,
    to_plan: Vec<Option<&'a str>>,
    is_suspended: Vec<bool>,
    was_suspended: Vec<bool>,
}

fn doubt_profiles(db: &mut Db, doubts: &[(&Now<'_>, ProfileKey, Doubt)]) -> Sql<()> {
    let keys: Vec<i64> = doubts.iter().map(|(_, profile, _)| profile.0).collect();
    let of: Vec<i32> = doubts.iter().map(|(_, _, of)| of.bits().into()).collect();
    let leases: Vec<i64> = doubts.iter().map(|(ended, _, _)| ended.lease).collect();
    let sequences: Vec<i64> = doubts.iter().map(|(ended, _, _)| ended.sequence()).collect();
    let numbers: Vec<i32> = doubts.iter().map(|(ended, _, _)| ended.number()).collect();
    let accounts: Vec<&str> = doubts.iter().map(|(ended, _, _)| ended.account()).collect();
    let at: Vec<i64> = doubts.iter().map(|(ended, _, _)| ended.recording.at.0).collect();
    db.execute(
        "UPDATE profile AS p SET in_doubt = p.in_doubt | k.of
         FROM unnest($1::BIGINT[], $2::INTEGER[]) AS k (profile, of) WHERE p.number = k.profile",
        &[&keys, &of],
    )?;
    db.execute(
        "INSERT INTO history (profile, lease, sequence, number, account, at, from_state, to_state, from_status,
                              to_status, from_fallback, to_fallback, in_doubt, changed)
         SELECT p.number, k.lease, k.sequence, k.number, k.account, k.at, p.state, p.state, p.status, p.status,
                p.fallback, p.fallback, true, true
         FROM unnest($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::TEXT[], $6::BIGINT[])
                  AS k (profile, lease, sequence, number, account, at)
         JOIN profile AS p ON p.number = k.profile
         ON CONFLICT (profile, lease, sequence, number) DO UPDATE SET in_doubt = true",
        &[&keys, &leases, &sequences, &numbers, &accounts, &at],
    )?;
    Ok(())
}

/// Outcomes that changed nothing: the profile's rows lead to them all the same.
fn note_unchanged(db: &mut Db, ended: &[&Now<'_>]) -> Sql<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let sequences: Vec<i64> = ended.iter().map(|ended| ended.sequence()).collect();
    let numbers: Vec<i32> = ended.iter().map(|ended| ended.number()).collect();
    let leases: Vec<i64> = ended.iter().map(|ended| ended.lease).collect();
    let at: Vec<i64> = ended.iter().map(|ended| ended.recording.at.0).collect();
    db.execute(
        "INSERT INTO history (profile, lease, sequence, number, account, at, from_state, to_state, from_status,
                              to_status, from_fallback, to_fallback, in_doubt, changed)
         SELECT p.number, k.lease, s.sequence, s.number, s.account, k.at, p.state, p.state, p.status, p.status,
                p.fallback, p.fallback, false, false
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::BIGINT[], $4::BIGINT[]) AS k (sequence, number, lease, at)
         JOIN subrequest AS s USING (sequence, number) JOIN profile AS p ON p.number = s.profile",
        &[&sequences, &numbers, &leases, &at],
    )?;
    Ok(())
}

/// Warnings that still wait would be told after the outcomes.
fn end_warnings(db: &mut Db, now: &[Now<'_>]) -> Sql<()> {
    let warned: Vec<&Now<'_>> = now.iter().filter(|ended| ended.recording.request.action.warns()).collect();
    if warned.is_empty() {
        return Ok(());
    }
    let sequences: Vec<i64> = warned.iter().map(|ended| ended.sequence()).collect();
    let numbers: Vec<i32> = warned.iter().map(|ended| ended.number()).collect();
    let at: Vec<i64> = warned.iter().map(|ended| ended.recording.at.0).collect();
    let ended = db.execute(
        "UPDATE callback AS c
         SET next_attempt_at = NULL, ended_at = k.at, archived = 'overtaken', lease_node = NULL, lease_until = NULL
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::BIGINT[]) AS k (sequence, number, at)
         WHERE c.sequence = k.sequence AND c.number = k.number AND c.warned_at > 0 AND c.ended_at IS NULL",
        &[&sequences, &numbers, &at],
    )?;
    db.counts.add_untold(-i64::try_from(ended).unwrap_or(0));
    Ok(())
}

/// Columns of `insert_callbacks`.
#[derive(Default)]
struct Messages<'a> {
    sequence: Vec<i64>,
    number: Vec<i32>,
    account: Vec<&'a str>,
    service: Vec<i32>,
    eid: Vec<Option<&'a str>>,
    imei: Vec<Option<&'a str>>,
    msisdn: Vec<Option<&'a str>>,
    left_state: Vec<Option<&'static str>>,
    left_status: Vec<Option<&'static str>>,
    left_role: Vec<Option<&'static str>>,
    at: Vec<i64>,
    document: Vec<Option<&'a str>>,
}

/// The messages that tell the outcomes, to the services' own listeners and to further ones, whose outlets are answered;
/// whoever records them attempts them first.
fn insert_callbacks(
    db: &mut Db,
    node: i32,
    lasts: Duration,
    now: &[Now<'_>],
    services: &Services<'_>,
) -> Sql<Vec<Outlet>> {
    let mut columns = Messages::default();
    for ended in now {
        let told = &ended.recording.told;
        let (state, profile, document) = match &told.result {
            Ok(Left::Profile(left)) => (Some(left.state), Some((left.status, left.role)), None),
            Ok(Left::Device(state)) => (Some(*state), None, None),
            Ok(Left::Document(body)) => (None, None, Some(&**body)),
            Ok(Left::Waiting) | Err(_) => (None, None, None),
        };
        columns.sequence.push(ended.sequence());
        columns.number.push(ended.number());
        columns.account.push(ended.account());
        columns.service.push(codes::service(ended.recording.request.action.service()).into());
        columns.eid.push(told.eid.as_ref().map(Eid::as_str));
        columns.imei.push(told.imei.as_ref().map(Imei::as_str));
        columns.msisdn.push(told.msisdn.as_ref().map(Msisdn::as_str));
        columns.left_state.push(state.map(codes::state));
        columns.left_status.push(profile.map(|(status, _)| codes::status(status)));
        columns.left_role.push(profile.map(|(_, role)| codes::role(role)));
        columns.at.push(ended.recording.at.0);
        columns.document.push(document);
    }
    let Messages { sequence, number, account, service, eid, imei, msisdn, left_state, left_status, .. } =
        &columns;
    let rows = db.query(
        "WITH k AS MATERIALIZED
             (SELECT * FROM unnest($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::INTEGER[], $5::TEXT[], $6::TEXT[],
                                   $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::BIGINT[])
                  AS k (sequence, number, account, service, eid, imei, msisdn, left_state, left_status, left_role, at)),
         further AS MATERIALIZED
             (SELECT o.account, o.service, l.name AS listener
              FROM unnest($14::TEXT[], $15::TEXT[], $16::INTEGER[]) AS o (account, name, service) CROSS JOIN LATERAL
                  (SELECT l.name FROM further_listener AS l WHERE l.account = o.account AND l.service = o.name OFFSET 0)
                  AS l),
         own AS
             (INSERT INTO callback (sequence, number, account, service, eid, imei, msisdn, left_state, left_status,
                                    left_role, next_attempt_at, lease_node, lease_until)
              SELECT k.*, $12, clock_timestamp() + $13::BIGINT * INTERVAL '1 millisecond' FROM k),
         others AS
             (INSERT INTO callback (sequence, number, account, service, eid, imei, msisdn, left_state, left_status,
                                    left_role, next_attempt_at, listener, lease_node, lease_until)
              SELECT k.*, f.listener, $12, clock_timestamp() + $13::BIGINT * INTERVAL '1 millisecond'
              FROM further AS f JOIN k USING (account, service))
         SELECT f.account, f.service, f.listener FROM further AS f",
        &[
            sequence, number, account, service, eid, imei, msisdn, left_state, left_status,
            &columns.left_role, &columns.at, &node, &millis(lasts), &services.account, &services.name,
            &services.service,
        ],
    )?;
    let further = rows.iter().map(read_outlet).collect::<Sql<Vec<Outlet>>>()?;
    let is_told = |ended: &&Now<'_>, outlet: &Outlet| {
        let request = &ended.recording.request;
        (&request.account, request.action.service()) == (&outlet.account, outlet.service)
    };
    let others = further.iter().map(|outlet| now.iter().filter(|ended| is_told(ended, outlet)).count());
    db.counts.add_untold(i64::try_from(others.sum::<usize>()).unwrap_or(i64::MAX));
    if columns.document.iter().any(Option::is_some) {
        db.execute(
            "INSERT INTO callback_document (sequence, number, account, body)
             SELECT k.* FROM unnest($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::TEXT[])
                  AS k (sequence, number, account, body) WHERE k.body IS NOT NULL",
            &[sequence, number, account, &columns.document],
        )?;
    }
    Ok(further)
}

/// What a batch of outcomes adds to a request's counts.
#[derive(Default)]
struct Counts {
    succeeded: i32,
    failed: i32,
    last_at: i64,
}

fn count(db: &mut Db, now: &[Now<'_>]) -> Sql<()> {
    let mut requests: BTreeMap<i64, Counts> = BTreeMap::new();
    let mut faults: BTreeMap<(i64, &'static str), i32> = BTreeMap::new();
    let mut accounts: BTreeMap<&str, i64> = BTreeMap::new();
    for ended in now {
        let counts = requests.entry(ended.sequence()).or_default();
        counts.last_at = counts.last_at.max(ended.recording.at.0);
        match &ended.recording.told.result {
            Ok(_) => counts.succeeded += 1,
            Err(fault) => {
                counts.failed += 1;
                *faults.entry((ended.sequence(), fault.name())).or_default() += 1;
            }
        }
        *accounts.entry(ended.account()).or_default() -= 1;
    }
    count_requests(db, &requests)?;
    if !faults.is_empty() {
        let (sequences, names): (Vec<i64>, Vec<&str>) = faults.keys().copied().unzip();
        let subrequests: Vec<i32> = faults.into_values().collect();
        db.execute(
            "INSERT INTO request_fault AS f (sequence, fault, subrequests)
             SELECT k.* FROM unnest($1::BIGINT[], $2::TEXT[], $3::INTEGER[]) AS k
             ON CONFLICT (sequence, fault) DO UPDATE SET subrequests = f.subrequests + excluded.subrequests",
            &[&sequences, &names, &subrequests],
        )?;
    }
    for (account, more) in accounts {
        db.counts.add_waiting(account, more);
    }
    db.counts.add_untold(i64::try_from(now.len()).unwrap_or(i64::MAX));
    Ok(())
}

/// Adds to the requests' counts, their rows locked in one order: other nodes record outcomes of them too.
fn count_requests(db: &mut Db, requests: &BTreeMap<i64, Counts>) -> Sql<()> {
    let sequences: Vec<i64> = requests.keys().copied().collect();
    let succeeded: Vec<i32> = requests.values().map(|counts| counts.succeeded).collect();
    let failed: Vec<i32> = requests.values().map(|counts| counts.failed).collect();
    let last_at: Vec<i64> = requests.values().map(|counts| counts.last_at).collect();
    let locked = "SELECT sequence FROM request WHERE sequence = ANY($1) ORDER BY sequence FOR NO KEY UPDATE";
    db.execute(locked, &[&sequences])?;
    db.execute(
        "UPDATE request AS r
         SET succeeded = r.succeeded + k.succeeded, failed = r.failed + k.failed,
             ended_at = CASE WHEN r.succeeded + r.failed + k.succeeded + k.failed = r.subrequests THEN k.at END
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::INTEGER[], $4::BIGINT[]) AS k (sequence, succeeded, failed, at)
         WHERE r.sequence = k.sequence",
        &[&sequences, &succeeded, &failed, &last_at],
    )?;
    Ok(())
}

/// Which warnings were written: those of subrequests without outcome that were not warned of before.
pub(super) fn warn(db: &mut Db, node: i32, lasts: Duration, warnings: &[Warning]) -> Sql<Written<bool>> {
    let services = Services::of(warnings.iter().map(|warning| &*warning.request));
    let rows = db.query(
        "SELECT o.account, o.service, l.name AS listener
         FROM unnest($1::TEXT[], $2::TEXT[], $3::INTEGER[]) AS o (account, name, service) CROSS JOIN LATERAL
             (SELECT l.name FROM further_listener AS l WHERE l.account = o.account AND l.service = o.name OFFSET 0)
             AS l",
        &[&services.account, &services.name, &services.service],
    )?;
    let further = rows.iter().map(read_outlet).collect::<Sql<Vec<Outlet>>>()?;
    let accounts: Vec<&str> = further.iter().map(|outlet| outlet.account.as_str()).collect();
    let numbers: Vec<i32> = further.iter().map(|outlet| codes::service(outlet.service).into()).collect();
    let listeners: Vec<&str> = further.iter().map(|outlet| outlet.listener.as_str()).collect();
    let mut callbacks = 0;
    let mut written = Vec::with_capacity(warnings.len());
    for warning in warnings {
        let told = &warning.told;
        let service = i32::from(codes::service(Outlet::of(&warning.request).service));
        let rows = db.execute(
            "INSERT INTO callback (sequence, number, warned_at, account, service, eid, imei, msisdn, next_attempt_at,
                                   lease_node, lease_until)
             SELECT s.sequence, s.number, $3, s.account, $4, $5, $6, $7, $3, $8,
                    clock_timestamp() + $9::BIGINT * INTERVAL '1 millisecond'
             FROM subrequest AS s
             WHERE s.sequence = $1 AND s.number = $2 AND s.ended_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM callback AS c
                               WHERE c.sequence = s.sequence AND c.number = s.number AND c.warned_at > 0)",
            &[
                &warning.request.sequence,
                &int(warning.number),
                &warning.at.0.max(1),
                &service,
                &told.eid.as_ref().map(Eid::as_str),
                &told.imei.as_ref().map(Imei::as_str),
                &told.msisdn.as_ref().map(Msisdn::as_str),
                &node,
                &millis(lasts),
            ],
        )?;
        written.push(rows == 1);
        callbacks += rows;
        if rows == 1 && !further.is_empty() {
            callbacks += db.execute(
                "INSERT INTO callback (sequence, number, warned_at, listener, account, service, eid, imei, msisdn,
                                       next_attempt_at, lease_node, lease_until)
                 SELECT c.sequence, c.number, c.warned_at, l.listener, c.account, c.service, c.eid, c.imei, c.msisdn,
                        c.next_attempt_at, c.lease_node, c.lease_until
                 FROM callback AS c JOIN unnest($3::TEXT[], $4::INTEGER[], $5::TEXT[]) AS l (account, service, listener)
                     ON l.account = c.account AND l.service = c.service
                 WHERE c.sequence = $1 AND c.number = $2 AND c.warned_at > 0 AND c.listener = ''",
                &[&warning.request.sequence, &int(warning.number), &accounts, &numbers, &listeners],
            )?;
        }
    }
    db.counts.add_untold(i64::try_from(callbacks).unwrap_or(i64::MAX));
    Ok(Written { each: written, further })
}

pub(super) fn note_calls(db: &mut Db, calls: &[UnsettledCall]) -> Sql<()> {
    for call in calls {
        let UnsettledCall { position, account, ordinal, began_at, ended_at, reply } = call;
        db.execute(
            "INSERT INTO carrier_call (sequence, number, ordinal, account, began_at, ended_at, reply)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &[
                &position.sequence,
                &int(position.number),
                &int(*ordinal),
                &account.as_str(),
                &began_at.0,
                &ended_at.0,
                reply,
            ],
        )?;
    }
    Ok(())
}

pub(super) fn keep_handles(db: &mut Db, handles: &[Handed]) -> Sql<()> {
    let sequences: Vec<i64> = handles.iter().map(|handed| handed.position.sequence).collect();
    let numbers: Vec<i32> = handles.iter().map(|handed| int(handed.position.number)).collect();
    let names: Vec<&str> = handles.iter().map(|handed| &*handed.handle).collect();
    let (guards, leases): (Vec<i32>, Vec<i64>) = handles.iter().map(|handed| told(handed.guard)).unzip();
    db.execute(
        "UPDATE subrequest AS s SET handle = k.handle
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::INTEGER[], $5::BIGINT[])
                  AS k (sequence, number, handle, guard, lease)
         WHERE s.sequence = k.sequence AND s.number = k.number AND s.outcome IS NULL
           AND CASE k.guard
                   WHEN 1 THEN EXISTS (SELECT 1 FROM device AS d WHERE d.number = s.device AND d.lease = k.lease)
                   ELSE true
               END",
        &[&sequences, &numbers, &names, &guards, &leases],
    )?;
    // Nobody else is to ask about it meanwhile, nor to try in vain to perform what is behind it.
    let lasts: Vec<i64> = handles.iter().map(|handed| millis(handed.keep_for)).collect();
    db.execute(
        "UPDATE device AS d SET lease_until = clock_timestamp() + k.lasts * INTERVAL '1 millisecond'
         FROM unnest($1::BIGINT[], $2::INTEGER[], $3::INTEGER[], $4::BIGINT[], $5::BIGINT[])
                  AS k (sequence, number, guard, lease, lasts)
         JOIN subrequest AS s ON s.sequence = k.sequence AND s.number = k.number AND s.outcome IS NULL
         WHERE k.guard = 1 AND d.number = s.device AND d.lease = k.lease",
        &[&sequences, &numbers, &guards, &leases, &lasts],
    )?;
    Ok(())
}
