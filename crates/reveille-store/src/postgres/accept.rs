//! Accepting requests: whether there is room, and all of a request at once.

use super::codes::{self, get, lane, read_id};
use super::connection::{Db, Sql};
use super::pages;
use crate::{AcceptLimits, Acceptance, NewRequest, NewSubrequest, Target, lane_of};
use reveille_domain::{Fault, Position};
use tokio_postgres::Row;

pub(super) fn accept(db: &mut Db, request: &NewRequest, limits: AcceptLimits) -> Sql<Acceptance> {
    let row = look(db, request)?;
    if let Some(answer) = known(&row, request)? {
        return Ok(answer);
    }
    if !get::<bool>(&row, "is_there")? {
        return Ok(Acceptance::NoAccount);
    }
    let account = request.account.as_str();
    let more = i64::try_from(request.subrequests.len()).unwrap_or(i64::MAX);
    let exceeds = |waiting: i64, limit: u64| u64::try_from(waiting + more).unwrap_or(0) > limit;
    if exceeds(get::<i64>(&row, "of_account")? + db.counts.waiting_of(account), limits.waiting_per_account)
        || exceeds(get::<i64>(&row, "in_all")? + db.counts.waiting(), limits.waiting_in_all)
    {
        return Ok(Acceptance::Overloaded);
    }
    let Some(sequence) = insert(db, request)? else {
        // Another node had the key first.
        return Ok(known(&look(db, request)?, request)?.unwrap_or(Acceptance::KeyReused));
    };
    for (number, subrequest) in (1..).zip(&*request.subrequests) {
        if let Ok(Target::Page(page)) = &subrequest.target {
            pages::insert(db, Position { sequence, number }, account, page)?;
        }
    }
    db.counts.add_waiting(account, more);
    Ok(Acceptance::Accepted { sequence })
}

/// What is known of the request's key, and how much waits. Whoever asks what became of the request waits from here
/// on until that is known.
fn look(db: &mut Db, request: &NewRequest) -> Sql<Row> {
    let key = request.key.as_ref();
    db.query_one(
        "SELECT pg_advisory_xact_lock(hashtextextended($2, 0)),
                EXISTS (SELECT 1 FROM account WHERE name = $1) AS is_there,
                (SELECT coalesce(sum(waiting), 0)::BIGINT FROM account_backlog WHERE account = $1) AS of_account,
                (SELECT coalesce(sum(waiting), 0)::BIGINT FROM backlog) AS in_all, k.digest, k.request_id
         FROM (VALUES (1)) AS one
         LEFT JOIN idempotency_key AS k
             ON k.account = $1 AND k.\"user\" = $3 AND k.key = $4 AND k.accepted_at > $5",
        &[
            &request.account.as_str(),
            &request.id.to_string(),
            &&*request.user,
            &key.map(|key| &*key.key),
            &key.map(|key| key.since.0),
        ],
    )
}

/// The answer to a request whose key is taken.
fn known(row: &Row, request: &NewRequest) -> Sql<Option<Acceptance>> {
    let (Some(key), Some(digest)) = (&request.key, get::<Option<&[u8]>>(row, "digest")?) else {
        return Ok(None);
    };
    let first = read_id(row, "request_id")?;
    let same = digest == key.digest;
    Ok(Some(if same { Acceptance::Repeated { request: first } } else { Acceptance::KeyReused }))
}

/// Writes the request with its key and its subrequests; nothing where another has taken the key in between. The
/// key comes first: of two nodes at once, the second waits there for the first's commit.
fn insert(db: &mut Db, request: &NewRequest) -> Sql<Option<i64>> {
    let terms = &request.terms;
    let reported = terms.reported;
    let key = request.key.as_ref();
    let subrequests = &request.subrequests;
    let known = |subrequest: &NewSubrequest| subrequest.target.as_ref().ok().cloned();
    let subjects: Vec<&str> = subrequests.iter().map(|s| codes::subject(&s.subject)).collect();
    let profiles: Vec<Option<i64>> =
        subrequests.iter().map(|s| known(s).and_then(|t| t.profile()).map(|t| t.profile.0)).collect();
    let devices: Vec<Option<i64>> =
        subrequests.iter().map(|s| known(s).and_then(|t| t.device()).map(|d| d.0)).collect();
    let lanes: Vec<&str> = subrequests.iter().map(|s| lane(lane_of(request.action, &s.target))).collect();
    let faults: Vec<Option<&str>> =
        subrequests.iter().map(|s| s.target.as_ref().err().map(Fault::name)).collect();
    let details: Vec<Option<&str>> =
        subrequests.iter().map(|s| s.target.as_ref().err().and_then(Fault::detail)).collect();
    let row = db.query_opt(
        "WITH named AS
             (INSERT INTO idempotency_key AS i (account, \"user\", key, digest, request_id, accepted_at)
              SELECT $1, $5, $17, $18, $2, $6 WHERE $17::TEXT IS NOT NULL
              ON CONFLICT (account, \"user\", key) DO UPDATE
                  SET digest = excluded.digest, request_id = excluded.request_id, accepted_at = excluded.accepted_at
                  WHERE i.accepted_at <= $19
              RETURNING key),
         accepted AS
             (INSERT INTO request (account, request_id, action, service_plan, \"user\", accepted_at, subrequests,
                                   mdn_zip_code, smsr_oid, carrier_name, reason_code, etf_waiver, spares_fallback,
                                   reported_state, reported_status, resumes_at)
              SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
              WHERE $17::TEXT IS NULL OR EXISTS (SELECT 1 FROM named)
              RETURNING sequence),
         parts AS
             (INSERT INTO subrequest (sequence, number, account, subject, profile, device, lane, fault, fault_detail)
              SELECT a.sequence, k.number, $1, k.subject, k.profile, k.device, k.lane, k.fault, k.detail
              FROM accepted AS a CROSS JOIN
                   unnest($20::TEXT[], $21::BIGINT[], $22::BIGINT[], $23::TEXT[], $24::TEXT[], $25::TEXT[])
                       WITH ORDINALITY AS k (subject, profile, device, lane, fault, detail, number))
         SELECT sequence FROM accepted",
        &[
            &request.account.as_str(),
            &request.id.to_string(),
            &request.action.name(),
            &request.service_plan.as_deref(),
            &&*request.user,
            &request.accepted_at.0,
            &i32::try_from(subrequests.len()).unwrap_or(i32::MAX),
            &terms.mdn_zip_code.as_deref(),
            &terms.smsr_oid.as_deref(),
            &terms.carrier_name.as_deref(),
            &terms.reason_code.as_deref(),
            &terms.etf_waiver,
            &terms.spares_fallback,
            &reported.and_then(|reported| reported.state).map(codes::state),
            &reported.and_then(|reported| reported.status).map(codes::status),
            &terms.resumes_at.map(|at| at.0),
            &key.map(|key| &*key.key),
            &key.map(|key| &key.digest[..]),
            &key.map(|key| key.since.0),
            &subjects,
            &profiles,
            &devices,
            &lanes,
            &faults,
            &details,
        ],
    )?;
    row.as_ref().map(|row| get(row, "sequence")).transpose()
}
