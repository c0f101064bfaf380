//! Migrations: forward only, each in one transaction with its version, by one node at a time.

use super::connection::{Db, Sql, SqlError};

/// Every migration, in order; the first brings an empty database to version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_the_main_job.sql"),
    include_str!("../../migrations/postgres/0002_every_action.sql"),
    include_str!("../../migrations/postgres/0003_many_nodes.sql"),
    include_str!("../../migrations/postgres/0004_accepted_elsewhere.sql"),
    include_str!("../../migrations/postgres/0005_gateways.sql"),
    include_str!("../../migrations/postgres/0006_drift.sql"),
    include_str!("../../migrations/postgres/0007_one_imsi.sql"),
    include_str!("../../migrations/postgres/0008_further_listeners.sql"),
];

/// The advisory lock under which one node migrates.
const LOCK: i64 = 0x5265_7665_696c_6c65;

/// Brings the schema to the newest version, and refuses a database that loses what it has confirmed.
pub(super) fn migrate(db: &mut Db) -> Sql<()> {
    refuse_unsafe(db)?;
    db.query("SELECT pg_advisory_lock($1)", &[&LOCK])?;
    let migrated = step_by_step(db);
    db.query("SELECT pg_advisory_unlock($1)", &[&LOCK])?;
    migrated
}

/// The version of the schema, and the newest that this release knows.
pub(super) fn versions(db: &mut Db) -> Sql<(usize, usize)> {
    let row = db.query_one("SELECT to_regclass('schema_version') IS NOT NULL AS there", &[])?;
    let version = if row.try_get("there")? { version(db)? } else { 0 };
    Ok((version, MIGRATIONS.len()))
}

fn version(db: &mut Db) -> Sql<usize> {
    let row = db.query_one("SELECT coalesce(max(version), 0) AS version FROM schema_version", &[])?;
    let version: i32 = row.try_get("version")?;
    Ok(usize::try_from(version).unwrap_or(0))
}

fn step_by_step(db: &mut Db) -> Sql<()> {
    db.batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL CONSTRAINT schema_version_once PRIMARY KEY)")?;
    let version = version(db)?;
    if version > MIGRATIONS.len() {
        let known = MIGRATIONS.len();
        return Err(SqlError::Setup(format!(
            "the database has schema {version}, this release knows {known}"
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let version = index + 1;
        db.batch_at_leisure(&format!(
            "BEGIN; SET LOCAL statement_timeout = 0; {migration};
             INSERT INTO schema_version (version) VALUES ({version}); COMMIT"
        ))?;
    }
    Ok(())
}

fn refuse_unsafe(db: &mut Db) -> Sql<()> {
    let row = db.query_one("SELECT current_setting('fsync') AS fsync", &[])?;
    match row.try_get::<_, &str>("fsync")? {
        "off" => Err(SqlError::Setup(
            "the database runs with fsync=off and may lose what it has confirmed; set fsync=on".into(),
        )),
        _ => Ok(()),
    }
}
