//! `reveille requests list|show|follow|cancel`

use super::actions::{Sum, follow, style};
use crate::client::Access;
use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the account's requests, newest first.
    List {
        /// running or ended.
        #[arg(long)]
        state: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        access: Access,
    },
    /// Show a request as JSON.
    Show {
        /// The request id.
        request: String,
        #[command(flatten)]
        access: Access,
    },
    /// Follow a request until it has ended; the exit code says whether all succeeded.
    Follow {
        /// The request id.
        request: String,
        #[command(flatten)]
        access: Access,
    },
    /// Cancel a request: what was not begun ends as failed.
    Cancel {
        /// The request id.
        request: String,
        #[command(flatten)]
        access: Access,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List { state, limit, access } => list(state, limit, access),
        Command::Show { request, access } => {
            let view = access.log_in()?.get(&format!("/api/reveille/v1/requests/{request}"))?;
            println!("{view:#}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Follow { request, access } => {
            let mut client = access.log_in()?;
            let view = client.get(&format!("/api/reveille/v1/requests/{request}"))?;
            let bar = ProgressBar::new(view["subrequests"].as_u64().unwrap_or(0)).with_style(style()?);
            let ended = follow(&mut client, &[request], &bar)?;
            bar.finish_and_clear();
            ended.iter().for_each(line);
            Ok(if Sum::of(&ended).failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Cancel { request, access } => {
            let view = access.log_in()?.post(&format!("/api/reveille/v1/requests/{request}/cancel"), None)?;
            line(&view);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(state: Option<String>, limit: u32, access: Access) -> Result<ExitCode> {
    let mut client = access.log_in()?;
    let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
    let path = format!("/api/reveille/v1/requests?account={}&limit={limit}{state}", client.account()?);
    let page = client.get(&path)?;
    page["requests"].as_array().into_iter().flatten().for_each(line);
    Ok(ExitCode::SUCCESS)
}

fn line(view: &Value) {
    let text = |member: &str| view[member].as_str().unwrap_or_default().to_owned();
    let count = |member: &str| view[member].as_u64().unwrap_or_default();
    println!(
        "{}  {}  {:<8} {:>6} waiting {:>6} succeeded {:>6} failed  {}",
        text("requestId"),
        text("acceptedAt"),
        text("state"),
        count("waiting"),
        count("succeeded"),
        count("failed"),
        text("action"),
    );
}
