//! Values read back from the tables.

use super::connection::{Sql, SqlError};
use crate::RequestHead;
pub(super) use crate::codes::{HEAD, PROFILE, lane, role, service, state, status, subject};
use crate::codes::{role_named, state_named, status_named, subject_named};
use reveille_domain::{
    AccountName, Action, Doubt, Fault, ListenerName, Network, Position, Profile, ProfileState, ProfileStatus,
    Reported, RequestId, Role, Subject, Terms, Timestamp,
};
use std::str::FromStr;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

type Column = &'static str;

/// A column of any type that the driver reads.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: Column) -> Sql<T> {
    Ok(row.try_get(column)?)
}

/// A count or a number that is never negative.
pub(super) fn read_u32(row: &Row, column: Column) -> Sql<u32> {
    let value: i32 = get(row, column)?;
    u32::try_from(value).map_err(|_| SqlError::Corrupt { column, text: value.to_string() })
}

/// A text, where there is one.
pub(super) fn optional_text(row: &Row, column: Column) -> Sql<Option<Box<str>>> {
    Ok(get::<Option<&str>>(row, column)?.map(Into::into))
}

/// A text.
pub(super) fn read_text(row: &Row, column: Column) -> Sql<Box<str>> {
    Ok(get::<&str>(row, column)?.into())
}

fn corrupt(column: Column, text: &str) -> SqlError {
    SqlError::Corrupt { column, text: text.into() }
}

/// Reads a column of such a text; a text that nobody writes is an error, not a default.
fn read<T>(row: &Row, column: Column, find: impl Fn(&str) -> Option<T>) -> Sql<T> {
    optional(row, column, find)?.ok_or_else(|| corrupt(column, "NULL"))
}

fn optional<T>(row: &Row, column: Column, find: impl Fn(&str) -> Option<T>) -> Sql<Option<T>> {
    match get::<Option<&str>>(row, column)? {
        None => Ok(None),
        Some(text) => find(text).map(Some).ok_or_else(|| corrupt(column, text)),
    }
}

pub(super) fn read_subject(row: &Row) -> Sql<Subject> {
    read(row, "subject", subject_named)
}

pub(super) fn read_state(row: &Row, column: Column) -> Sql<ProfileState> {
    read(row, column, state_named)
}

pub(super) fn optional_state(row: &Row, column: Column) -> Sql<Option<ProfileState>> {
    optional(row, column, state_named)
}

pub(super) fn read_status(row: &Row, column: Column) -> Sql<ProfileStatus> {
    read(row, column, status_named)
}

pub(super) fn optional_status(row: &Row, column: Column) -> Sql<Option<ProfileStatus>> {
    optional(row, column, status_named)
}

pub(super) fn read_role(row: &Row, column: Column) -> Sql<Role> {
    read(row, column, role_named)
}

pub(super) fn optional_role(row: &Row, column: Column) -> Sql<Option<Role>> {
    optional(row, column, role_named)
}

pub(super) fn read_network(row: &Row, column: Column) -> Sql<Network> {
    read(row, column, Network::named)
}

pub(super) fn read_id<T: FromStr>(row: &Row, column: Column) -> Sql<T> {
    read(row, column, |text| text.parse().ok())
}

pub(super) fn optional_id<T: FromStr>(row: &Row, column: Column) -> Sql<Option<T>> {
    optional(row, column, |text| text.parse().ok())
}

pub(super) fn read_listener(row: &Row, column: Column) -> Sql<ListenerName> {
    if get::<&str>(row, column)?.is_empty() { Ok(ListenerName::OWN) } else { read_id(row, column) }
}

/// The fault in the columns `fault` and `fault_detail`.
pub(super) fn read_fault(row: &Row) -> Sql<Option<Fault>> {
    let detail = get::<Option<&str>>(row, "fault_detail")?;
    optional(row, "fault", |text| Fault::named(text, detail))
}

pub(super) fn read_at(row: &Row, column: Column) -> Sql<Timestamp> {
    get(row, column).map(Timestamp)
}

pub(super) fn optional_at(row: &Row, column: Column) -> Sql<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp))
}

/// The position in the columns `sequence` and `number`.
pub(super) fn read_position(row: &Row) -> Sql<Position> {
    Ok(Position { sequence: get(row, "sequence")?, number: read_u32(row, "number")? })
}

fn read_doubt(row: &Row) -> Sql<Doubt> {
    let bits: i32 = get(row, "in_doubt")?;
    let known = u8::try_from(bits).map(Doubt::from_bits);
    known.map_err(|_| SqlError::Corrupt { column: "in_doubt", text: bits.to_string() })
}

/// Reads the columns of `PROFILE`.
pub(super) fn read_profile(row: &Row) -> Sql<Profile> {
    Ok(Profile {
        iccid: read_id(row, "iccid")?,
        eid: read_id(row, "eid")?,
        imei: optional_id(row, "imei")?,
        msisdn: optional_id(row, "msisdn")?,
        imsi: optional_id(row, "imsi")?,
        network: read_network(row, "network")?,
        role: read_role(row, "role")?,
        state: read_state(row, "state")?,
        status: read_status(row, "status")?,
        service_plan: optional_text(row, "service_plan")?,
        in_doubt: read_doubt(row)?,
        fallback: get(row, "fallback")?,
    })
}

pub(super) fn read_action(row: &Row) -> Sql<Action> {
    read(row, "action", Action::named)
}

/// Reads the columns of `HEAD`.
pub(super) fn read_head(row: &Row) -> Sql<RequestHead> {
    Ok(RequestHead {
        sequence: get(row, "sequence")?,
        id: read_id::<RequestId>(row, "request_id")?,
        account: read_id::<AccountName>(row, "account")?,
        action: read_action(row)?,
        service_plan: optional_text(row, "service_plan")?,
        terms: read_terms(row)?,
        accepted_at: read_at(row, "accepted_at")?,
        cancelled: get::<Option<i64>>(row, "cancelled_at")?.is_some(),
    })
}

fn read_terms(row: &Row) -> Sql<Terms> {
    let (state, status) = (optional_state(row, "reported_state")?, optional_status(row, "reported_status")?);
    let reported = (state.is_some() || status.is_some()).then_some(Reported { state, status });
    Ok(Terms {
        mdn_zip_code: optional_text(row, "mdn_zip_code")?,
        smsr_oid: optional_text(row, "smsr_oid")?,
        carrier_name: optional_text(row, "carrier_name")?,
        reason_code: optional_text(row, "reason_code")?,
        etf_waiver: get(row, "etf_waiver")?,
        spares_fallback: get(row, "spares_fallback")?,
        reported,
        resumes_at: optional_at(row, "resumes_at")?,
    })
}

/// Heads of rows that come in the order of their requests: each is made once and shared.
#[derive(Default)]
pub(super) struct Heads {
    last: Option<Arc<RequestHead>>,
}

impl Heads {
    pub(super) fn of(&mut self, row: &Row) -> Sql<Arc<RequestHead>> {
        let sequence: i64 = get(row, "sequence")?;
        if let Some(last) = self.last.as_ref().filter(|last| last.sequence == sequence) {
            return Ok(Arc::clone(last));
        }
        let head = Arc::new(read_head(row)?);
        self.last = Some(Arc::clone(&head));
        Ok(head)
    }
}

/// A number as the tables keep it; those that are kept are far below the limit.
pub(super) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A limit as a statement takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
