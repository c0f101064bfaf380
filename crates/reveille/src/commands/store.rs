//! `reveille store copy`

use crate::server::lock_file;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reveille_store::copy::{Compared, CopyError, Progress, Side, copy};
use reveille_store::postgres::PostgresConfig;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copy a SQLite store, which no server works on, into an empty PostgreSQL database; then compare the two.
    Copy {
        /// What is copied: sqlite:FILE.
        #[arg(long, value_name = "URL")]
        from: String,
        /// Where to: postgres://USER:PASSWORD@HOST:PORT/NAME.
        #[arg(long, value_name = "URL")]
        to: String,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let Command::Copy { from, to } = arguments.command;
    let source = from.strip_prefix("sqlite:").filter(|file| !file.is_empty()).map(Path::new);
    match (source, is_postgres(&to)) {
        (Some(file), true) => copy_file(file, to),
        (None, true) if is_postgres(&from) => {
            bail!("from PostgreSQL to PostgreSQL, pg_dump and pg_restore copy; this copies from sqlite:FILE")
        }
        _ => bail!(
            "a store is copied from sqlite:FILE to postgres://USER:PASSWORD@HOST/NAME, and no other way"
        ),
    }
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

fn copy_file(file: &Path, to: String) -> Result<ExitCode> {
    let place = file.display();
    if !file.exists() {
        bail!("{place} does not exist");
    }
    let _lock = lock_file(file).context("stop the server before its store is copied")?;
    // Of these, copying needs the address alone.
    let target = PostgresConfig { url: to, readers: 1, lease: Duration::ZERO };
    let bar = ProgressBar::new(0).with_style(style()?);
    let copied = copy(file, &target, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    match copied {
        Ok(tables) => {
            print(&tables);
            let rows: u64 = tables.iter().map(|table| table.source.rows).sum();
            println!(
                "{place}: {} tables with {rows} rows are copied, and the same on both sides",
                tables.len()
            );
            println!(
                "The server's key is not in the store: give every node the one of {place} (reveille.key beside it, \
                 unless key_file or server_key says otherwise)"
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(CopyError::Differs(tables)) => {
            print(&tables);
            bail!(
                "the copy is not the same as {place}, and was taken back; drop the target, see what else writes to it, \
                 and copy into a new one"
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot copy {place}")),
    }
}

fn style() -> Result<ProgressStyle> {
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len} rows of {prefix}")?)
}

fn show(bar: &ProgressBar, progress: Progress<'_>) {
    let reads_back = if progress.reads_back { ", read back" } else { "" };
    bar.set_prefix(format!("{}{reads_back}", progress.table));
    bar.set_length(progress.of);
    bar.set_position(progress.rows);
}

/// A line for each table; where the sides differ, one for each side.
fn print(tables: &[Compared]) {
    let line = |what: &str, side: &Side| {
        let digest: String = side.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{what:<24} {:>10} rows  sha-256 {digest}", side.rows);
    };
    for table in tables {
        if table.is_same() {
            line(&table.table, &table.source);
        } else {
            line(&format!("{} (source)", table.table), &table.source);
            line(&format!("{} (DIFFERS)", table.table), &table.target);
        }
    }
}
