//! `reveille fleet import FILE.csv`, `reveille fleet export`

use super::{Configured, block_on};
use crate::fleet::{COLUMNS, PROBLEMS_MAX, fields, read};
use crate::server::open_store;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reveille_store::{FleetProblem, FleetRow, Imported, ProfileFilter, Store};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// How many rows are checked or written at a time.
const BATCH: usize = 2_000;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Import devices and profiles. The whole file is checked before anything is written.
    Import {
        /// A CSV file with a header; account, eid, iccid and network are required.
        file: PathBuf,
        #[command(flatten)]
        configured: Configured,
    },
    /// Write all profiles as CSV to standard output.
    Export {
        /// Of this account alone.
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        configured: Configured,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Import { file, configured } => import(&file, &configured),
        Command::Export { account, configured } => export(account, &configured),
    }
}

fn import(path: &PathBuf, configured: &Configured) -> Result<ExitCode> {
    let config = configured.read()?;
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = match read(BufReader::new(file)) {
        Ok(rows) => rows,
        Err(problems) => return Ok(refuse(path, &problems)),
    };
    let store = open_store(&config)?;
    let bar = ProgressBar::new(u64::try_from(rows.len())?).with_style(style()?);
    let imported = block_on(write(&*store, rows, &bar))?;
    bar.finish_and_clear();
    store.close();
    match imported {
        Ok(imported) => {
            println!(
                "{}: {} profiles new, {} known; {} devices new",
                path.display(),
                imported.profiles_new,
                imported.profiles_known,
                imported.devices_new
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => Ok(refuse(path, &problems)),
    }
}

fn style() -> Result<ProgressStyle> {
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len} profiles, {per_sec}, {eta} left")?)
}

fn refuse(path: &std::path::Path, problems: &[FleetProblem]) -> ExitCode {
    for FleetProblem { line, problem } in problems.iter().take(PROBLEMS_MAX) {
        eprintln!("{}:{line}: {problem}", path.display());
    }
    let more = if problems.len() >= PROBLEMS_MAX { " (and perhaps more)" } else { "" };
    eprintln!("{} problems{more}; nothing was imported", problems.len());
    ExitCode::FAILURE
}

/// Checks every row against the store, then writes them in batches; a repeat completes what was cut off.
pub(super) async fn write(
    store: &dyn Store,
    rows: Vec<FleetRow>,
    bar: &ProgressBar,
) -> Result<Result<Imported, Vec<FleetProblem>>> {
    let mut problems = Vec::new();
    for batch in rows.chunks(BATCH) {
        problems.extend(store.check_fleet(batch.to_vec()).await?);
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let mut all = Imported::default();
    for batch in rows.chunks(BATCH) {
        let imported = store.import(batch.to_vec()).await?;
        all.devices_new += imported.devices_new;
        all.profiles_new += imported.profiles_new;
        all.profiles_known += imported.profiles_known;
        bar.inc(u64::try_from(batch.len())?);
    }
    Ok(Ok(all))
}

fn export(account: Option<String>, configured: &Configured) -> Result<ExitCode> {
    let config = configured.read()?;
    let account = account.map(|account| account.parse()).transpose()?;
    let store = open_store(&config)?;
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    writer.write_record(COLUMNS)?;
    block_on(async {
        let mut after = None;
        loop {
            let filter =
                ProfileFilter { account: account.clone(), after, limit: BATCH, ..ProfileFilter::default() };
            let page = store.fleet(filter).await?;
            for owned in &page {
                writer.write_record(fields(owned))?;
            }
            match page.last().filter(|_| page.len() == BATCH) {
                Some(last) => after = Some(last.profile.iccid.clone()),
                None => break,
            }
        }
        writer.flush()?;
        Ok(())
    })?;
    std::io::stdout().flush()?;
    Ok(ExitCode::SUCCESS)
}
