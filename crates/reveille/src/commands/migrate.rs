//! `reveille migrate`

use super::Configured;
use crate::config::Database;
use crate::server::open_store;
use anyhow::{Context, Result, bail};
use clap::Args;
use reveille_store::postgres::Postgres;
use reveille_store::sqlite::Sqlite;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    /// Change nothing; say both versions, and exit with 1 where a migration is due.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    configured: Configured,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = arguments.configured.read()?;
    let database = config.database()?;
    let place = config.sqlite_file().map_or("postgres://…".into(), |file| file.display().to_string());
    let before = versions(&database)?;
    match before {
        Some((version, known)) if version == known => {
            println!("{place}: schema {version} is what this release has");
            return Ok(ExitCode::SUCCESS);
        }
        Some((version, known)) if version > known => {
            bail!("{place} has schema {version}, this release knows {known}: a newer one wrote it");
        }
        Some((version, known)) if arguments.check => {
            println!("{place}: schema {version}, this release has {known}: a migration is due");
            return Ok(ExitCode::FAILURE);
        }
        None if arguments.check => {
            println!("{place} does not exist yet; serve, apply and migrate make it");
            return Ok(ExitCode::FAILURE);
        }
        Some(_) | None => {}
    }
    match &database {
        Database::Sqlite(_) => open_store(&config)?.close(),
        Database::Postgres(postgres) => Postgres::migrate(postgres).context("database postgres://…")?,
    }
    let (now, _) = versions(&database)?.context("the database is gone")?;
    match before {
        Some((version, _)) => println!("{place}: schema brought from {version} to {now}"),
        None => println!("{place} did not exist; made with schema {now}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The version of the store's schema, and the newest that this release knows; nothing where there is no file.
fn versions(database: &Database) -> Result<Option<(usize, usize)>> {
    match database {
        Database::Sqlite(sqlite) => {
            Sqlite::versions(&sqlite.path).with_context(|| format!("database {}", sqlite.path.display()))
        }
        Database::Postgres(postgres) => {
            Postgres::versions(postgres).map(Some).context("database postgres://…")
        }
    }
}
