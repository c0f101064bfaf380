//! Leases on eUICCs: which node performs what, by the database's clock.
//!
//! A lease is for one subrequest, the earliest without outcome on its eUICC, and ends with it or with its
//! time. It carries a number, given while the eUICC's row is locked, so that a later lease has a higher one;
//! an outcome is recorded only under the number that the row still carries. Rows that another node is just
//! looking at are passed by, never waited for.

use super::codes::{get, int, read_u32};
use super::connection::{Db, Sql};
use crate::{Claim, DeviceKey, Lease};
use reveille_domain::Position;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;

/// A number for this start of a node, never given again.
pub(super) fn number(db: &mut Db) -> Sql<i32> {
    get(&db.query_one("SELECT nextval('node_number')::INTEGER AS number", &[])?, "number")
}

/// How an eUICC stands, its row being locked.
struct Standing {
    /// Where its row is, which stays there while it is locked: found without a way through an index.
    place: String,
    /// The earliest subrequest on it without outcome, and whether its request was cancelled.
    earliest: Option<(Position, bool)>,
    /// What the last lease was for.
    leased: Option<Position>,
    /// Whether that lease still holds, and is another node's.
    is_others: bool,
}

/// Takes a lease on each eUICC for the subrequest named beside it, where it is that one's turn.
pub(super) fn claim(
    db: &mut Db,
    node: i32,
    lasts: Duration,
    claims: &[(DeviceKey, Position)],
) -> Sql<Vec<Claim>> {
    let devices: Vec<i64> = claims.iter().map(|(device, _)| device.0).collect();
    let standings = lock(db, node, &devices)?;
    let answer = |(device, position): &(DeviceKey, Position)| match standings.get(&device.0) {
        None => Claim::Later,
        Some(standing) => standing.answer(*position),
    };
    let mut answers: Vec<Claim> = claims.iter().map(answer).collect();
    let is_granted = |answer: &Claim| matches!(answer, Claim::Granted { .. });
    let granted = claims.iter().zip(&answers).filter(|(_, answer)| is_granted(answer));
    let granted = granted.filter_map(|((device, position), _)| Some((standings.get(&device.0)?, *position)));
    let leases = grant(db, node, lasts, &granted.collect::<Vec<_>>())?;
    for ((device, _), answer) in claims.iter().zip(&mut answers) {
        if let (Claim::Granted { lease, .. }, Some(number)) = (answer, leases.get(&device.0)) {
            *lease = Lease(*number);
        }
    }
    Ok(answers)
}

impl Standing {
    fn answer(&self, position: Position) -> Claim {
        match self.earliest {
            Some((earliest, _)) if earliest < position => Claim::Later,
            Some((earliest, cancelled)) if earliest == position => {
                if self.is_others {
                    return Claim::Later;
                }
                Claim::Granted { lease: Lease(0), begun_before: self.leased == Some(position), cancelled }
            }
            Some(_) | None => Claim::Ended,
        }
    }
}

/// Locks those of the eUICCs that nobody else has locked, and sees how they stand then.
fn lock(db: &mut Db, node: i32, devices: &[i64]) -> Sql<HashMap<i64, Standing>> {
    let locked = "SELECT ctid::TEXT AS place FROM device
                  WHERE number = ANY($1) ORDER BY number FOR NO KEY UPDATE SKIP LOCKED";
    let locked = db.query(locked, &[&devices])?;
    let places: Vec<&str> = locked.iter().map(|row| get(row, "place")).collect::<Sql<_>>()?;
    // A statement of its own, so that it sees what was committed while the rows were being locked.
    let rows = db.query(
        "SELECT d.number AS device, d.ctid::TEXT AS place, d.lease_sequence, d.lease_position, e.sequence, e.number,
                EXISTS (SELECT 1 FROM request AS r WHERE r.sequence = e.sequence
                        AND r.cancelled_at IS NOT NULL AND r.ended_at IS NULL) AS cancelled,
                coalesce(d.lease_node <> $2 AND d.lease_until > clock_timestamp()
                         AND (SELECT l.outcome IS NULL FROM subrequest AS l
                              WHERE l.sequence = d.lease_sequence AND l.number = d.lease_position), false) AS is_others
         FROM device AS d
         LEFT JOIN LATERAL
             (SELECT s.sequence, s.number FROM subrequest AS s
              WHERE s.device = d.number AND s.ended_at IS NULL
              ORDER BY s.sequence, s.number LIMIT 1) AS e ON true
         WHERE d.ctid = ANY($1::TEXT[]::TID[])",
        &[&places, &node],
    )?;
    rows.iter().map(|row| Ok((get(row, "device")?, read_standing(row)?))).collect()
}

fn read_standing(row: &Row) -> Sql<Standing> {
    let earliest = match get::<Option<i64>>(row, "sequence")? {
        Some(sequence) => {
            let position = Position { sequence, number: read_u32(row, "number")? };
            Some((position, get(row, "cancelled")?))
        }
        None => None,
    };
    let leased = match get::<Option<i64>>(row, "lease_sequence")? {
        Some(sequence) => Some(Position { sequence, number: read_u32(row, "lease_position")? }),
        None => None,
    };
    Ok(Standing { place: get(row, "place")?, earliest, leased, is_others: get(row, "is_others")? })
}

/// Writes the leases; each eUICC's number.
fn grant(
    db: &mut Db,
    node: i32,
    lasts: Duration,
    granted: &[(&Standing, Position)],
) -> Sql<HashMap<i64, i64>> {
    if granted.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<&str> = granted.iter().map(|(standing, _)| &*standing.place).collect();
    let sequences: Vec<i64> = granted.iter().map(|(_, position)| position.sequence).collect();
    let numbers: Vec<i32> = granted.iter().map(|(_, position)| int(position.number)).collect();
    let rows = db.query(
        "UPDATE device AS d SET lease = nextval('lease_number'), lease_node = $4,
                lease_until = clock_timestamp() + $5::BIGINT * INTERVAL '1 millisecond',
                lease_sequence = k.sequence, lease_position = k.number
         FROM unnest($1::TEXT[]::TID[], $2::BIGINT[], $3::INTEGER[]) AS k (place, sequence, number)
         WHERE d.ctid = k.place RETURNING d.number, d.lease",
        &[&places, &sequences, &numbers, &node, &millis(lasts)],
    )?;
    rows.iter().map(|row| Ok((get(row, "number")?, get(row, "lease")?))).collect()
}

/// Leaves the callbacks that the node would attempt next to the others: it stops.
pub(super) fn release_callbacks(db: &mut Db, node: i32) -> Sql<()> {
    db.execute(
        "UPDATE callback SET lease_node = NULL, lease_until = NULL
         WHERE next_attempt_at IS NOT NULL AND lease_node = $1",
        &[&node],
    )?;
    Ok(())
}

/// A duration as a statement takes it.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
