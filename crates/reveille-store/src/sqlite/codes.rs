//! How values are spelled in the tables, and read back from them.

use crate::{Lane, RequestHead};
use reveille_domain::{
    AccountName, Action, Fault, Network, ProfileState, ProfileStatus, RequestId, Role, SuspendedBy, Timestamp,
};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Error, Row, RowIndex};
use std::str::FromStr;
use std::sync::Arc;

pub(super) fn state(state: ProfileState) -> &'static str {
    match state {
        ProfileState::PreActive => "pre_active",
        ProfileState::Active => "active",
        ProfileState::Suspended(SuspendedBy::Profile) => "suspended_by_profile",
        ProfileState::Suspended(SuspendedBy::Device) => "suspended_by_device",
        ProfileState::Deactive => "deactive",
    }
}

const STATES: [ProfileState; 5] = [
    ProfileState::PreActive,
    ProfileState::Active,
    ProfileState::Suspended(SuspendedBy::Profile),
    ProfileState::Suspended(SuspendedBy::Device),
    ProfileState::Deactive,
];

pub(super) fn status(status: ProfileStatus) -> &'static str {
    match status {
        ProfileStatus::NotDownloaded => "not_downloaded",
        ProfileStatus::DownloadDisable => "download_disable",
        ProfileStatus::DownloadEnable => "download_enable",
        ProfileStatus::Enable => "enable",
        ProfileStatus::Disable => "disable",
        ProfileStatus::Delete => "delete",
        ProfileStatus::Unknown => "unknown",
    }
}

const STATUSES: [ProfileStatus; 7] = [
    ProfileStatus::NotDownloaded,
    ProfileStatus::DownloadDisable,
    ProfileStatus::DownloadEnable,
    ProfileStatus::Enable,
    ProfileStatus::Disable,
    ProfileStatus::Delete,
    ProfileStatus::Unknown,
];

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Lead => "lead",
        Role::Local => "local",
        Role::Default => "default",
    }
}

pub(super) fn lane(lane: Lane) -> &'static str {
    match lane {
        Lane::Network(network) => network.name(),
        Lane::Foregone => "none",
    }
}

pub(super) fn lane_named(text: &str) -> Lane {
    Network::named(text).map_or(Lane::Foregone, Lane::Network)
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
    read(row, column, |text| STATES.into_iter().find(|known| state(*known) == text))
}

pub(super) fn optional_state(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<ProfileState>> {
    optional(row, column, |text| STATES.into_iter().find(|known| state(*known) == text))
}

pub(super) fn read_status(row: &Row<'_>, column: impl Column) -> rusqlite::Result<ProfileStatus> {
    read(row, column, |text| STATUSES.into_iter().find(|known| status(*known) == text))
}

pub(super) fn read_role(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Role> {
    let roles = [Role::Lead, Role::Local, Role::Default];
    read(row, column, |text| roles.into_iter().find(|known| role(*known) == text))
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

/// The columns that `read_head` reads, of a table `request AS r`.
pub(super) const HEAD: &str =
    "r.sequence, r.request_id, r.account, r.action, r.service_plan, r.accepted_at, r.cancelled_at";

pub(super) fn read_head(row: &Row<'_>) -> rusqlite::Result<RequestHead> {
    Ok(RequestHead {
        sequence: row.get("sequence")?,
        id: read_id::<RequestId>(row, "request_id")?,
        account: read_id::<AccountName>(row, "account")?,
        action: read(row, "action", Action::named)?,
        service_plan: row.get("service_plan")?,
        accepted_at: read_at(row, "accepted_at")?,
        cancelled: row.get::<_, Option<i64>>("cancelled_at")?.is_some(),
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
