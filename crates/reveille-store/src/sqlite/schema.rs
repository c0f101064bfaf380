//! Migrations: forward only, each in one transaction with its version.

use rusqlite::{Connection, TransactionBehavior};

/// Every migration, in order; the first brings an empty file to version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_the_main_job.sql"),
    include_str!("../../migrations/sqlite/0002_every_action.sql"),
    include_str!("../../migrations/sqlite/0003_many_nodes.sql"),
    include_str!("../../migrations/sqlite/0004_accepted_elsewhere.sql"),
    include_str!("../../migrations/sqlite/0005_gateways.sql"),
    include_str!("../../migrations/sqlite/0006_drift.sql"),
    include_str!("../../migrations/sqlite/0007_one_imsi.sql"),
    include_str!("../../migrations/sqlite/0008_further_listeners.sql"),
];

/// The version of the schema, and the newest that this release knows.
pub(super) fn versions(connection: &Connection) -> rusqlite::Result<(usize, usize)> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((version, MIGRATIONS.len()))
}

/// Brings the schema to the newest version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > MIGRATIONS.len() {
        let newer = format!("the database has schema {version}, this release knows {}", MIGRATIONS.len());
        return Err(rusqlite::Error::ToSqlConversionFailure(newer.into()));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
    }
    transaction.commit()
}
