//! What is due, what became of attempts, replays, and showing callbacks.
//!
//! A callback that is due is leased to the node that attempts it, by the database's clock. The lease keeps two
//! nodes from telling the same at once, no more than that: a mark holds whoever makes it, for what it says
//! has happened.

use super::Postgres;
use super::codes::{
    self, HEAD, Heads, get, int, limit, optional_at, optional_id, optional_role, optional_state,
    optional_status, optional_text, read_at, read_fault, read_id, read_listener, read_position, read_subject,
    read_u32,
};
use super::connection::{Db, Sql, SqlError, in_order};
use super::leases::millis;
use crate::writer::Urgency;
use crate::{
    ArchiveReason, AttemptResult, AttemptView, Callback, CallbackFilter, CallbackKey, CallbackName,
    CallbackState, CallbackView, Callbacks, Mark, Outlet, ReplayScope, Replayed, Result, Tells,
};
use async_trait::async_trait;
use reveille_domain::{Action, Fault, Left, LeftAs, Position, RequestId, Service, Targets, Timestamp, Told};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

#[async_trait]
impl Callbacks for Postgres {
    async fn untold(&self) -> Result<Vec<(Outlet, Timestamp)>> {
        self.readers.read("find the accounts with untold callbacks", untold).await
    }

    async fn due(&self, outlet: &Outlet, until: Timestamp, limit: usize) -> Result<Vec<Callback>> {
        let (outlet, node, lasts) = (outlet.clone(), self.node, self.lease);
        let lease = move |db: &mut Db| lease_due(db, node, lasts, &outlet, until, limit);
        self.readers.write("lease due callbacks", lease).await
    }

    async fn document(&self, position: Position) -> Result<Option<Box<str>>> {
        self.readers.read("read a callback's document", move |db| document(db, position)).await
    }

    async fn next_due(&self, outlet: &Outlet, after: Timestamp) -> Result<Option<Timestamp>> {
        let outlet = outlet.clone();
        let earliest = move |db: &mut Db| earliest_due(db, &outlet, after);
        self.readers.read("see when a callback is due", earliest).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        let rows = marks.len();
        self.marking.write("mark callbacks", rows, Urgency::InCompany, move |db| mark(db, &marks)).await
    }

    async fn replay(&self, scope: ReplayScope, at: Timestamp, limit: usize) -> Result<Replayed> {
        let search = move |db: &mut Db| match &scope {
            ReplayScope::One(name) => ended_one(db, *name),
            ReplayScope::Account { .. } => ended_in(db, &scope, limit),
        };
        let found = self.readers.read("find callbacks to replay", search).await?;
        let next = found.last().map(|key| key.position).filter(|_| found.len() == limit);
        let replay = move |db: &mut Db| replay(db, &found, at);
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

/// Two looks into the index for each service there is, and for each further listener that has something due,
/// registered or not any more; however many callbacks wait.
fn untold(db: &mut Db) -> Sql<Vec<(Outlet, Timestamp)>> {
    let services: Vec<i32> = Service::ALL.into_iter().map(service).collect();
    let rows = db.query(
        "SELECT a.name AS account, o.service, l.listener, n.due
         FROM account AS a CROSS JOIN unnest($1::INTEGER[]) AS o (service) CROSS JOIN LATERAL
             (WITH RECURSIVE l (listener) AS
                  (SELECT '' COLLATE \"C\" UNION ALL
                   SELECT (SELECT c.listener FROM callback AS c
                           WHERE c.account = a.name AND c.service = o.service AND c.listener > l.listener
                             AND c.next_attempt_at IS NOT NULL
                           ORDER BY c.listener LIMIT 1) FROM l WHERE l.listener IS NOT NULL)
              SELECT listener FROM l) AS l CROSS JOIN LATERAL
             (SELECT c.next_attempt_at AS due FROM callback AS c
              WHERE c.account = a.name AND c.service = o.service AND c.listener = l.listener
                AND c.next_attempt_at IS NOT NULL
              ORDER BY c.next_attempt_at LIMIT 1) AS n",
        &[&services],
    )?;
    rows.iter().map(|row| Ok((read_outlet(row)?, read_at(row, "due")?))).collect()
}

pub(super) fn read_outlet(row: &Row) -> Sql<Outlet> {
    let number: i32 = get(row, "service")?;
    let found = Service::ALL.into_iter().find(|known| service(*known) == number);
    let service = found.ok_or(SqlError::Corrupt { column: "service", text: number.to_string() })?;
    Ok(Outlet { account: read_id(row, "account")?, service, listener: read_listener(row, "listener")? })
}

fn service(service: Service) -> i32 {
    codes::service(service).into()
}

fn earliest_due(db: &mut Db, outlet: &Outlet, after: Timestamp) -> Sql<Option<Timestamp>> {
    let row = db.query_one(
        "SELECT min(next_attempt_at) AS due FROM callback
         WHERE account = $1 AND service = $2 AND listener = $3 AND next_attempt_at > $4",
        &[&outlet.account.as_str(), &service(outlet.service), &outlet.listener.as_str(), &after.0],
    )?;
    optional_at(&row, "due")
}

fn archived(db: &mut Db, outlet: &Outlet) -> Sql<u64> {
    if !outlet.listener.is_own() {
        let row = db.query_one(
            "SELECT count(*) AS archived FROM callback
             WHERE account = $1 AND listener = $2 AND listener <> '' AND answered IS NULL AND service = $3
               AND archived IS NOT NULL AND warned_at = 0",
            &[&outlet.account.as_str(), &outlet.listener.as_str(), &service(outlet.service)],
        )?;
        return Ok(u64::try_from(get::<i64>(&row, "archived")?).unwrap_or(0));
    }
    let own = |action: &Action| action.service() == outlet.service;
    let names: Vec<&str> = Action::ALL.iter().filter(|action| own(action)).map(|one| one.name()).collect();
    let row = db.query_one(
        "SELECT coalesce(sum(callbacks_archived), 0)::BIGINT AS archived FROM request
         WHERE account = $1 AND callbacks_archived > 0 AND action = ANY($2::TEXT[])",
        &[&outlet.account.as_str(), &names],
    )?;
    let archived: i64 = get(&row, "archived")?;
    u64::try_from(archived).map_err(|_| SqlError::Corrupt { column: "archived", text: archived.to_string() })
}

/// The columns that `read_callback` reads, of `callback AS c JOIN subrequest AS s JOIN request AS r`.
const CALLBACK: &str =
    "c.number, c.warned_at, c.listener, c.eid, c.imei, c.msisdn, c.left_state, c.left_status, c.left_role, c.series,
    c.attempts, c.next_attempt_at, c.ended_at AS told_at, c.answered, c.archived,
    s.subject, s.fault, s.fault_detail, CASE WHEN c.warned_at > 0 THEN c.warned_at ELSE s.ended_at END AS recorded_at";
/// The columns of `callback AS c` among them.
const KEPT: &str =
    "c.sequence, c.number, c.warned_at, c.listener, c.eid, c.imei, c.msisdn, c.left_state, c.left_status, c.left_role, c.series,
     c.attempts, c.next_attempt_at, c.ended_at, c.answered, c.archived";
const JOINED: &str =
    "callback AS c JOIN subrequest AS s USING (sequence, number) JOIN request AS r USING (sequence)";

/// Takes or prolongs a lease on an outlet's due callbacks. Those that another node holds, or is just looking
/// at, are passed by.
fn lease_due(
    db: &mut Db,
    node: i32,
    lasts: Duration,
    outlet: &Outlet,
    until: Timestamp,
    at_most: usize,
) -> Sql<Vec<Callback>> {
    in_order(db);
    let rows = db.query(
        &format!(
            "WITH free AS MATERIALIZED
                 (SELECT c.sequence, c.number, c.warned_at FROM callback AS c
                  WHERE c.account = $1 AND c.service = $2 AND c.listener = $7 AND c.next_attempt_at <= $3
                    AND (c.lease_node IS NULL OR c.lease_node = $4 OR c.lease_until < clock_timestamp())
                  ORDER BY c.next_attempt_at LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED),
             leased AS
                 (UPDATE callback AS c
                  SET lease_node = $4, lease_until = clock_timestamp() + $6::BIGINT * INTERVAL '1 millisecond'
                  FROM free AS f
                  WHERE c.sequence = f.sequence AND c.number = f.number AND c.warned_at = f.warned_at
                    AND c.listener = $7
                  RETURNING {KEPT})
             SELECT {HEAD}, {CALLBACK}
             FROM leased AS c JOIN subrequest AS s USING (sequence, number) JOIN request AS r USING (sequence)
             ORDER BY c.next_attempt_at, c.sequence, c.number, c.warned_at"
        ),
        &[
            &outlet.account.as_str(),
            &service(outlet.service),
            &until.0,
            &node,
            &limit(at_most),
            &millis(lasts),
            &outlet.listener.as_str(),
        ],
    )?;
    let mut heads = Heads::default();
    rows.iter().map(|row| read_callback(row, &mut heads)).collect()
}

fn document(db: &mut Db, position: Position) -> Sql<Option<Box<str>>> {
    let found = db.query_opt(
        "SELECT body FROM callback_document WHERE sequence = $1 AND number = $2",
        &[&position.sequence, &int(position.number)],
    )?;
    found.map(|row| Ok(get::<&str>(&row, "body")?.into())).transpose()
}

fn read_callback(row: &Row, heads: &mut Heads) -> Sql<Callback> {
    let request = heads.of(row)?;
    let result = match get::<i64>(row, "warned_at")? {
        0 => read_result(row, request.action)?,
        _ => Ok(Left::Waiting),
    };
    Ok(Callback {
        number: read_u32(row, "number")?,
        listener: read_listener(row, "listener")?,
        told: Told {
            subject: read_subject(row)?,
            eid: optional_id(row, "eid")?,
            imei: optional_id(row, "imei")?,
            msisdn: optional_id(row, "msisdn")?,
            result,
        },
        series: read_u32(row, "series")?,
        attempts: read_u32(row, "attempts")?,
        request,
    })
}

fn read_result(row: &Row, action: Action) -> Sql<std::result::Result<Left, Fault>> {
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

/// How many callbacks of one request ended, or where they are below zero, begin again.
#[derive(Default)]
struct Ends {
    delivered: i32,
    archived: i32,
    /// That the request does not count.
    others: i32,
    last_at: i64,
}

/// The columns that `Ends::read` reads, of callbacks that have ended, grouped by their sequence.
const ENDS: &str =
    "sequence, count(*) FILTER (WHERE warned_at = 0 AND listener = '' AND answered IS NOT NULL)::INTEGER AS delivered,
     count(*) FILTER (WHERE warned_at = 0 AND listener = '' AND archived IS NOT NULL)::INTEGER AS archived,
     count(*) FILTER (WHERE warned_at > 0 OR listener <> '')::INTEGER AS others,
     coalesce(max(ended_at) FILTER (WHERE warned_at = 0 AND listener = ''), 0) AS last_at";

impl Ends {
    fn read(row: &Row) -> Sql<Self> {
        Ok(Self {
            delivered: get(row, "delivered")?,
            archived: get(row, "archived")?,
            others: get(row, "others")?,
            last_at: get(row, "last_at")?,
        })
    }

    fn add(&mut self, more: &Self) {
        self.delivered += more.delivered;
        self.archived += more.archived;
        self.others += more.others;
        self.last_at = self.last_at.max(more.last_at);
    }

    fn begun_again(self) -> Self {
        let Self { delivered, archived, others, last_at } = self;
        Self { delivered: -delivered, archived: -archived, others: -others, last_at }
    }

    fn in_all(&self) -> i64 {
        i64::from(self.delivered) + i64::from(self.archived) + i64::from(self.others)
    }
}

fn mark(db: &mut Db, marks: &[Mark]) -> Sql<()> {
    let mut ends: BTreeMap<i64, Ends> = BTreeMap::new();
    for round in rounds(marks) {
        for row in end_attempts(db, &round)? {
            ends.entry(get(&row, "sequence")?).or_default().add(&Ends::read(&row)?);
        }
    }
    count(db, &ends)
}

/// The marks in the order of their callbacks, and no callback twice in one round: a statement changes a row
/// once. There is one round, but for what was marked twice.
fn rounds(marks: &[Mark]) -> Vec<Vec<&Mark>> {
    let mut sorted: Vec<&Mark> = marks.iter().collect();
    sorted.sort_by_key(|mark| mark.key);
    let mut rounds: Vec<Vec<&Mark>> = Vec::new();
    for of_one in sorted.chunk_by(|one, next| one.key == next.key) {
        rounds.resize_with(rounds.len().max(of_one.len()), Vec::new);
        for (round, mark) in rounds.iter_mut().zip(of_one) {
            round.push(mark);
        }
    }
    rounds
}

/// Writes those of the marks that still hold: the callback has not ended, and is in the same series. Answers
/// the ends of callbacks among them, by request.
fn end_attempts(db: &mut Db, marks: &[&Mark]) -> Sql<Vec<Row>> {
    let ends: Vec<Ended<'_>> = marks.iter().map(|mark| Ended::of(mark)).collect();
    let sequences: Vec<i64> = marks.iter().map(|mark| mark.key.position.sequence).collect();
    let numbers: Vec<i32> = marks.iter().map(|mark| int(mark.key.position.number)).collect();
    let outcomes: Vec<bool> = marks.iter().map(|mark| is_outcome(mark.key.tells)).collect();
    let listeners: Vec<&str> = marks.iter().map(|mark| mark.key.listener.as_str()).collect();
    let series: Vec<i32> = marks.iter().map(|mark| int(mark.series)).collect();
    let ordinals: Vec<i32> = marks.iter().map(|mark| int(mark.ordinal)).collect();
    let times: Vec<i64> = marks.iter().map(|mark| mark.at.0).collect();
    let next: Vec<Option<i64>> = ends.iter().map(|end| end.next_at).collect();
    let statuses: Vec<Option<i32>> = ends.iter().map(|end| end.status).collect();
    let errors: Vec<Option<&str>> = ends.iter().map(|end| end.error).collect();
    let archived: Vec<Option<&str>> = ends.iter().map(|end| end.archived).collect();
    db.query(
        &format!(
            "WITH marked AS
                 (UPDATE callback AS c
                  SET attempts = greatest(c.attempts, m.ordinal), next_attempt_at = m.next_at,
                      ended_at = CASE WHEN m.next_at IS NULL THEN m.at END,
                      answered = CASE WHEN m.next_at IS NULL AND m.archived IS NULL THEN m.status END,
                      archived = m.archived, lease_node = NULL, lease_until = NULL
                  FROM unnest($1::BIGINT[], $2::INTEGER[], $3::BOOLEAN[], $4::INTEGER[], $5::INTEGER[], $6::BIGINT[],
                              $7::BIGINT[], $8::INTEGER[], $9::TEXT[], $10::TEXT[], $11::TEXT[])
                      AS m (sequence, number, is_outcome, series, ordinal, at, next_at, status, error, archived, listener)
                  WHERE c.sequence = m.sequence AND c.number = m.number AND (c.warned_at = 0) = m.is_outcome
                    AND c.listener = m.listener AND c.series = m.series AND c.ended_at IS NULL
                  RETURNING c.sequence, c.number, c.warned_at, c.listener, c.account, c.series, m.ordinal, m.at, m.status, m.error,
                      c.ended_at, c.answered, c.archived),
             attempted AS
                 (INSERT INTO attempt (sequence, number, warned_at, listener, series, ordinal, account, ended_at,
                                       answered, error)
                  SELECT sequence, number, warned_at, listener, series, ordinal, account, at, status, error FROM marked
                  WHERE ended_at IS NULL OR archived = 'exhausted'
                  ON CONFLICT DO NOTHING)
             SELECT {ENDS} FROM marked WHERE ended_at IS NOT NULL GROUP BY sequence"
        ),
        &[
            &sequences, &numbers, &outcomes, &series, &ordinals, &times, &next, &statuses, &errors, &archived,
            &listeners,
        ],
    )
}

/// How a mark's result stands in the tables.
#[derive(Default)]
struct Ended<'a> {
    next_at: Option<i64>,
    status: Option<i32>,
    error: Option<&'a str>,
    archived: Option<&'static str>,
}

impl<'a> Ended<'a> {
    fn of(mark: &'a Mark) -> Self {
        let nothing = Self::default();
        match &mark.result {
            AttemptResult::Delivered { status } => Self { status: Some((*status).into()), ..nothing },
            AttemptResult::Failed { status, error, next_at } => Self {
                next_at: Some(next_at.0),
                status: status.map(i32::from),
                error: error.as_deref(),
                ..nothing
            },
            AttemptResult::Exhausted { status, error } => Self {
                status: status.map(i32::from),
                error: error.as_deref(),
                archived: Some("exhausted"),
                ..nothing
            },
            AttemptResult::NoListener => Self { archived: Some("no_listener"), ..nothing },
        }
    }
}

fn is_outcome(tells: Tells) -> bool {
    tells == Tells::Outcome
}

/// Adds to the counts of requests, whose rows are locked in one order by all nodes.
fn count(db: &mut Db, ends: &BTreeMap<i64, Ends>) -> Sql<()> {
    let told = ends.iter().filter(|(_, ends)| ends.delivered != 0 || ends.archived != 0);
    let (sequences, told): (Vec<i64>, Vec<&Ends>) = told.unzip();
    if !sequences.is_empty() {
        let delivered: Vec<i32> = told.iter().map(|ends| ends.delivered).collect();
        let archived: Vec<i32> = told.iter().map(|ends| ends.archived).collect();
        let times: Vec<i64> = told.iter().map(|ends| ends.last_at).collect();
        db.execute(
            "WITH locked AS MATERIALIZED
                 (SELECT sequence FROM request WHERE sequence = ANY($1) ORDER BY sequence FOR NO KEY UPDATE)
             UPDATE request AS r
             SET callbacks_delivered = r.callbacks_delivered + m.delivered,
                 callbacks_archived = r.callbacks_archived + m.archived,
                 told_at = CASE WHEN r.callbacks_delivered + r.callbacks_archived + m.delivered + m.archived
                                     = r.subrequests THEN m.at END
             FROM locked JOIN unnest($1::BIGINT[], $2::INTEGER[], $3::INTEGER[], $4::BIGINT[])
                 AS m (sequence, delivered, archived, at) USING (sequence)
             WHERE r.sequence = locked.sequence",
            &[&sequences, &delivered, &archived, &times],
        )?;
    }
    db.counts.add_untold(-ends.values().map(Ends::in_all).sum::<i64>());
    Ok(())
}

/// Begins a new series of these, as far as they have still ended; how many that were. An attempt that was
/// acknowledged moves from the callback to the others.
fn replay(db: &mut Db, found: &[CallbackKey], at: Timestamp) -> Sql<usize> {
    let sequences: Vec<i64> = found.iter().map(|key| key.position.sequence).collect();
    let numbers: Vec<i32> = found.iter().map(|key| int(key.position.number)).collect();
    let outcomes: Vec<bool> = found.iter().map(|key| is_outcome(key.tells)).collect();
    let listeners: Vec<&str> = found.iter().map(|key| key.listener.as_str()).collect();
    let rows = db.query(
        &format!(
            "WITH ended AS MATERIALIZED
                 (SELECT c.sequence, c.number, c.warned_at, c.listener, c.account, c.series, c.attempts, c.ended_at,
                         c.answered, c.archived
                  FROM callback AS c JOIN unnest($1::BIGINT[], $2::INTEGER[], $3::BOOLEAN[], $5::TEXT[])
                      AS k (sequence, number, is_outcome, listener)
                      ON c.sequence = k.sequence AND c.number = k.number AND (c.warned_at = 0) = k.is_outcome
                          AND c.listener = k.listener
                  WHERE c.ended_at IS NOT NULL
                  ORDER BY c.sequence, c.number, c.warned_at, c.listener FOR NO KEY UPDATE OF c),
             acknowledged AS
                 (INSERT INTO attempt (sequence, number, warned_at, listener, series, ordinal, account, ended_at,
                                       answered)
                  SELECT sequence, number, warned_at, listener, series, attempts, account, ended_at, answered FROM ended
                  WHERE answered IS NOT NULL
                  ON CONFLICT DO NOTHING),
             begun AS
                 (UPDATE callback AS c
                  SET series = c.series + 1, attempts = 0, next_attempt_at = $4, ended_at = NULL, answered = NULL,
                      archived = NULL, lease_node = NULL, lease_until = NULL
                  FROM ended AS e
                  WHERE c.sequence = e.sequence AND c.number = e.number AND c.warned_at = e.warned_at
                    AND c.listener = e.listener)
             SELECT {ENDS} FROM ended GROUP BY sequence"
        ),
        &[&sequences, &numbers, &outcomes, &at.0, &listeners],
    )?;
    let begun = |row: &Row| Ok((get(row, "sequence")?, Ends::read(row)?.begun_again()));
    let begun = rows.iter().map(begun).collect::<Sql<BTreeMap<i64, Ends>>>()?;
    count(db, &begun)?;
    let replayed: i64 = begun.values().map(Ends::in_all).sum();
    Ok(usize::try_from(-replayed).unwrap_or(0))
}

fn ended_one(db: &mut Db, name: CallbackName) -> Sql<Vec<CallbackKey>> {
    let rows = db.query(
        "SELECT c.sequence, c.number, c.warned_at, c.listener FROM request AS r JOIN callback AS c USING (sequence)
         WHERE r.request_id = $1 AND c.number = $2 AND (c.warned_at = 0) = $3 AND c.listener = $4
           AND c.ended_at IS NOT NULL",
        &[&name.request.to_string(), &int(name.number), &is_outcome(name.tells), &name.listener.as_str()],
    )?;
    rows.iter().map(read_ended).collect()
}

fn read_ended(row: &Row) -> Sql<CallbackKey> {
    let tells = if get::<i64>(row, "warned_at")? == 0 { Tells::Outcome } else { Tells::Warning };
    Ok(CallbackKey { position: read_position(row)?, tells, listener: read_listener(row, "listener")? })
}

fn ended_in(db: &mut Db, scope: &ReplayScope, at_most: usize) -> Sql<Vec<CallbackKey>> {
    let ReplayScope::Account { account, listener, request, from, to, delivered, after } = scope else {
        return Ok(Vec::new());
    };
    let Some((first, last)) = sequences_of(db, *request)? else { return Ok(Vec::new()) };
    let from = from.map_or(i64::MIN, |from| from.0);
    let to = to.map_or(i64::MAX, |to| to.0);
    in_order(db);
    if !listener.is_own() && !delivered {
        let rows = db.query(
            "SELECT c.sequence, c.number, c.warned_at, c.listener
             FROM callback AS c JOIN subrequest AS s USING (sequence, number)
             WHERE c.account = $1 AND c.listener = $2 AND c.listener <> '' AND c.answered IS NULL
               AND c.archived IS NOT NULL AND c.warned_at = 0 AND c.sequence BETWEEN $3 AND $4
               AND (c.sequence, c.number) > ($5, $6) AND s.ended_at >= $7 AND s.ended_at < $8
             ORDER BY c.sequence, c.number LIMIT $9",
            &[
                &account.as_str(),
                &listener.as_str(),
                &first.max(after.sequence),
                &last,
                &after.sequence,
                &int(after.number),
                &from,
                &to,
                &limit(at_most),
            ],
        )?;
        return rows.iter().map(read_ended).collect();
    }
    let rows = db.query(
        "SELECT r.sequence, k.number, k.warned_at, k.listener FROM request AS r CROSS JOIN LATERAL
             (SELECT c.number, c.warned_at, c.listener FROM callback AS c JOIN subrequest AS s USING (sequence, number)
              WHERE c.sequence = r.sequence AND (c.sequence, c.number) > ($5, $6)
                AND c.ended_at IS NOT NULL AND ($4 OR c.archived IS NOT NULL) AND c.warned_at = 0 AND c.listener = $10
                AND s.ended_at >= $7 AND s.ended_at < $8
              ORDER BY c.number LIMIT $9) AS k
         WHERE r.account = $1 AND r.sequence BETWEEN $2 AND $3
           AND ($10 <> '' OR r.callbacks_archived + CASE WHEN $4 THEN r.callbacks_delivered ELSE 0 END > 0)
           AND r.accepted_at < $8 AND coalesce(r.ended_at, $7) >= $7
         ORDER BY r.sequence, k.number LIMIT $9",
        &[
            &account.as_str(),
            &first.max(after.sequence),
            &last,
            delivered,
            &after.sequence,
            &int(after.number),
            &from,
            &to,
            &limit(at_most),
            &listener.as_str(),
        ],
    )?;
    rows.iter().map(read_ended).collect()
}

/// Bounds of a request's own order number, or else of all, so that its callbacks are found without a walk past
/// the others; nothing where it is not there.
fn sequences_of(db: &mut Db, request: Option<RequestId>) -> Sql<Option<(i64, i64)>> {
    let Some(request) = request else { return Ok(Some((0, i64::MAX))) };
    let found =
        db.query_opt("SELECT sequence FROM request WHERE request_id = $1", &[&request.to_string()])?;
    found.map(|row| get(&row, "sequence").map(|sequence| (sequence, sequence))).transpose()
}

fn callbacks(db: &mut Db, filter: &CallbackFilter) -> Sql<Vec<CallbackView>> {
    let is_open = matches!(filter.state, Some(CallbackState::Waiting | CallbackState::Archived));
    if is_open && !filter.listener.is_own() {
        return open_further(db, filter);
    }
    let (has_some, is_one) = match filter.state {
        None => ("true", "true"),
        Some(CallbackState::Waiting) => {
            ("r.succeeded + r.failed > r.callbacks_delivered + r.callbacks_archived", "c.ended_at IS NULL")
        }
        Some(CallbackState::Delivered) => ("r.callbacks_delivered > 0", "c.answered IS NOT NULL"),
        Some(CallbackState::Archived) => ("r.callbacks_archived > 0", "c.archived IS NOT NULL"),
    };
    let Some((first, last)) = sequences_of(db, filter.request)? else { return Ok(Vec::new()) };
    let after = sequence_behind(db, filter)?;
    in_order(db);
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {CALLBACK} FROM request AS r CROSS JOIN LATERAL
                 (SELECT {KEPT} FROM callback AS c
                  WHERE c.sequence = r.sequence AND (c.sequence, c.number) >= ($4, $5)
                    AND (c.sequence, c.number, c.warned_at > 0) > ($4, $5, $6) AND c.listener = $8 AND {is_one}
                  ORDER BY c.number, c.warned_at LIMIT $7) AS c
                 JOIN subrequest AS s ON s.sequence = c.sequence AND s.number = c.number
             WHERE r.account = $1 AND r.sequence BETWEEN $2 AND $3 AND (r.ended_at IS NULL OR $8 <> '' OR {has_some})
             ORDER BY r.sequence, c.number, c.warned_at LIMIT $7"
        ),
        &[
            &filter.account.as_str(),
            &first.max(after),
            &last,
            &after,
            &filter.after.map_or(0, |after| int(after.number)),
            &filter.after.is_some_and(|after| after.tells == Tells::Warning),
            &limit(filter.limit),
            &filter.listener.as_str(),
        ],
    )?;
    let mut heads = Heads::default();
    rows.iter().map(|row| read_view(row, &mut heads)).collect()
}

/// Those of a further listener that wait or are archived. No request says whether it has any: they have an index.
fn open_further(db: &mut Db, filter: &CallbackFilter) -> Sql<Vec<CallbackView>> {
    let Some((first, last)) = sequences_of(db, filter.request)? else { return Ok(Vec::new()) };
    let after = sequence_behind(db, filter)?;
    in_order(db);
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
             WHERE c.account = $1 AND c.listener = $8 AND c.listener <> '' AND c.answered IS NULL
               AND (c.archived IS NOT NULL) = $9 AND c.sequence BETWEEN $2 AND $3 AND (c.sequence, c.number) >= ($4, $5)
               AND (c.sequence, c.number, c.warned_at > 0) > ($4, $5, $6)
             ORDER BY c.sequence, c.number, c.warned_at LIMIT $7"
        ),
        &[
            &filter.account.as_str(),
            &first.max(after),
            &last,
            &after,
            &filter.after.map_or(0, |after| int(after.number)),
            &filter.after.is_some_and(|after| after.tells == Tells::Warning),
            &limit(filter.limit),
            &filter.listener.as_str(),
            &(filter.state == Some(CallbackState::Archived)),
        ],
    )?;
    let mut heads = Heads::default();
    rows.iter().map(|row| read_view(row, &mut heads)).collect()
}

/// The order number of the request behind whose callback the list begins, where that is the account's.
fn sequence_behind(db: &mut Db, filter: &CallbackFilter) -> Sql<i64> {
    let Some(after) = filter.after else { return Ok(0) };
    let found = db.query_opt(
        "SELECT sequence FROM request WHERE request_id = $1 AND account = $2",
        &[&after.request.to_string(), &filter.account.as_str()],
    )?;
    found.map_or(Ok(0), |row| get(&row, "sequence"))
}

fn read_view(row: &Row, heads: &mut Heads) -> Sql<CallbackView> {
    let archived = match get::<Option<&str>>(row, "archived")? {
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

fn callback(db: &mut Db, name: CallbackName) -> Sql<Option<WithAttempts>> {
    let found = db.query_opt(
        &format!(
            "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
             WHERE r.request_id = $1 AND c.number = $2 AND (c.warned_at = 0) = $3 AND c.listener = $4"
        ),
        &[&name.request.to_string(), &int(name.number), &is_outcome(name.tells), &name.listener.as_str()],
    )?;
    let Some(row) = found else { return Ok(None) };
    let (mut view, attempts) = with_attempts(db, &row, &mut Heads::default())?;
    if matches!(view.callback.told.result, Ok(Left::Document(_))) {
        let body = document(db, view.callback.key().position)?.unwrap_or_default();
        view.callback.told.result = Ok(Left::Document(body));
    }
    Ok(Some((view, attempts)))
}

/// The callbacks of one subrequest, those of the warning first.
pub(super) fn of_subrequest(db: &mut Db, at: Position) -> Sql<Vec<WithAttempts>> {
    let rows = db.query(
        &format!(
            "SELECT {HEAD}, {CALLBACK} FROM {JOINED}
             WHERE c.sequence = $1 AND c.number = $2 ORDER BY c.warned_at DESC, c.listener DESC"
        ),
        &[&at.sequence, &int(at.number)],
    )?;
    let mut heads = Heads::default();
    rows.iter().map(|row| with_attempts(db, row, &mut heads)).collect()
}

fn with_attempts(db: &mut Db, row: &Row, heads: &mut Heads) -> Sql<WithAttempts> {
    let view = read_view(row, heads)?;
    let mut attempts = attempts(db, view.callback.key())?;
    if let (Some(status), Some(ended_at)) = (answered(row)?, view.ended_at) {
        let Callback { series, attempts: ordinal, .. } = view.callback;
        attempts.push(AttemptView { series, ordinal, ended_at, status: Some(status), error: None });
    }
    Ok((view, attempts))
}

fn attempts(db: &mut Db, key: CallbackKey) -> Sql<Vec<AttemptView>> {
    let rows = db.query(
        "SELECT series, ordinal, ended_at, answered, error FROM attempt
         WHERE sequence = $1 AND number = $2 AND (warned_at = 0) = $3 AND listener = $4
         ORDER BY warned_at, listener, series, ordinal",
        &[&key.position.sequence, &int(key.position.number), &is_outcome(key.tells), &key.listener.as_str()],
    )?;
    let read = |row: &Row| {
        Ok(AttemptView {
            series: read_u32(row, "series")?,
            ordinal: read_u32(row, "ordinal")?,
            ended_at: read_at(row, "ended_at")?,
            status: answered(row)?,
            error: optional_text(row, "error")?,
        })
    };
    rows.iter().map(read).collect()
}

/// The HTTP status that was answered, where one was.
fn answered(row: &Row) -> Sql<Option<u16>> {
    let status: Option<i32> = get(row, "answered")?;
    let read = |status: i32| {
        u16::try_from(status).map_err(|_| SqlError::Corrupt { column: "answered", text: status.to_string() })
    };
    status.map(read).transpose()
}
