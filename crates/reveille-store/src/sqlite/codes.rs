//! Values read back from the tables.

use crate::RequestHead;
pub(super) use crate::codes::{HEAD, PROFILE, lane, role, service, state, status, subject};
use crate::codes::{role_named, state_named, status_named, subject_named};
use reveille_domain::{
    AccountName, Action, Fault, ListenerName, Network, ProfileState, ProfileStatus, Reported, RequestId,
    Role, Subject, Terms, Timestamp,
};
use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Error, Row, RowIndex};
use std::str::FromStr;
use std::sync::Arc;

pub(super) fn read_subject(row: &Row<'_>) -> rusqlite::Result<Subject> {
    read(row, "subject", subject_named)
}

/// A column, by name or, where many rows are read, by position.
pub(super) trait Column: RowIndex + Copy + std::fmt::Debug {}

impl<T: RowIndex + Copy + std::fmt::Debug> Column for T {}

/// Reads a column of such a text; a text that nobody writes is an error, not a default.
fn read<T>(row: &Row<'_>, column: impl Column, find: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    optional(row, column, find)?.ok_or_else(|| corrupt(column, "NULL"))
}

fn optional<T>(
    row: &Row<'_>,
    column: impl Column,
    find: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null().map_err(|error| from_sql(column, &error))? {
        None => Ok(None),
        Some(text) => find(text).map(Some).ok_or_else(|| corrupt(column, text)),
    }
}

fn from_sql(column: impl Column, error: &FromSqlError) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, format!("{column:?}: {error}").into())
}

fn corrupt(column: impl Column, text: &str) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, format!("{column:?} holds {text:?}").into())
}

pub(super) fn read_state(row: &Row<'_>, column: impl Column) -> rusqlite::Result<ProfileState> {
    read(row, column, state_named)
}

pub(super) fn optional_state(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<ProfileState>> {
    optional(row, column, state_named)
}

pub(super) fn read_status(row: &Row<'_>, column: impl Column) -> rusqlite::Result<ProfileStatus> {
    read(row, column, status_named)
}

pub(super) fn optional_status(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<ProfileStatus>> {
    optional(row, column, status_named)
}

pub(super) fn optional_role(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<Role>> {
    optional(row, column, role_named)
}

pub(super) fn read_role(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Role> {
    read(row, column, role_named)
}

pub(super) fn read_network(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Network> {
    read(row, column, Network::named)
}

pub(super) fn read_id<T: FromStr>(row: &Row<'_>, column: impl Column) -> rusqlite::Result<T> {
    read(row, column, |text| text.parse().ok())
}

pub(super) fn optional_id<T: FromStr>(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<T>> {
    optional(row, column, |text| text.parse().ok())
}

/// A number of rows, as it is added to a count.
pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(super) fn read_listener(row: &Row<'_>, column: impl Column) -> rusqlite::Result<ListenerName> {
    match row.get_ref(column)? {
        ValueRef::Text(b"") => Ok(ListenerName::OWN),
        _ => read_id(row, column),
    }
}

pub(super) fn read_fault(row: &Row<'_>) -> rusqlite::Result<Option<Fault>> {
    let detail: Option<Box<str>> = row.get("fault_detail")?;
    optional(row, "fault", |text| Fault::named(text, detail.as_deref()))
}

pub(super) fn read_at(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

pub(super) fn optional_at(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

pub(super) fn read_action(row: &Row<'_>) -> rusqlite::Result<Action> {
    read(row, "action", Action::named)
}

pub(super) fn read_head(row: &Row<'_>) -> rusqlite::Result<RequestHead> {
    Ok(RequestHead {
        sequence: row.get("sequence")?,
        id: read_id::<RequestId>(row, "request_id")?,
        account: read_id::<AccountName>(row, "account")?,
        action: read_action(row)?,
        service_plan: row.get("service_plan")?,
        terms: read_terms(row)?,
        accepted_at: read_at(row, "accepted_at")?,
        cancelled: row.get::<_, Option<i64>>("cancelled_at")?.is_some(),
    })
}

fn read_terms(row: &Row<'_>) -> rusqlite::Result<Terms> {
    let (state, status) = (optional_state(row, "reported_state")?, optional_status(row, "reported_status")?);
    let reported = (state.is_some() || status.is_some()).then_some(Reported { state, status });
    Ok(Terms {
        mdn_zip_code: row.get("mdn_zip_code")?,
        smsr_oid: row.get("smsr_oid")?,
        carrier_name: row.get("carrier_name")?,
        reason_code: row.get("reason_code")?,
        etf_waiver: row.get("etf_waiver")?,
        spares_fallback: row.get("spares_fallback")?,
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
    pub(super) fn of(&mut self, row: &Row<'_>) -> rusqlite::Result<Arc<RequestHead>> {
        let sequence: i64 = row.get("sequence")?;
        if let Some(last) = self.last.as_ref().filter(|last| last.sequence == sequence) {
            return Ok(Arc::clone(last));
        }
        let head = Arc::new(read_head(row)?);
        self.last = Some(Arc::clone(&head));
        Ok(head)
    }
}
