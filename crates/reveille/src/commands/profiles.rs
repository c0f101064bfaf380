//! `reveille profiles list|show|timeline`

use crate::client::Access;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the account's profiles, by ICCID.
    List {
        /// PRE_ACTIVE, ACTIVE, SUSPEND or DEACTIVE.
        #[arg(long)]
        state: Option<String>,
        /// verizon-us or global.
        #[arg(long)]
        network: Option<String>,
        /// The EID of one device.
        #[arg(long)]
        eid: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// The ICCID behind which the list goes on.
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        access: Access,
    },
    /// Show a profile as JSON: its record, its device, and why it is not in service, if it is not.
    Show {
        /// The ICCID.
        iccid: String,
        #[command(flatten)]
        access: Access,
    },
    /// Show everything that was asked of a profile and what came of it, oldest first.
    Timeline {
        /// The ICCID.
        iccid: String,
        #[command(flatten)]
        access: Access,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List { state, network, eid, limit, after, access } => {
            let mut client = access.log_in()?;
            let mut path = format!("/api/reveille/v1/profiles?account={}&limit={limit}", client.account()?);
            let filters = [("state", state), ("network", network), ("eid", eid), ("after", after)];
            for (name, value) in filters.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                path.push_str(&format!("&{name}={value}"));
            }
            let page = client.get(&path)?;
            page["profiles"].as_array().into_iter().flatten().for_each(line);
        }
        Command::Show { iccid, access } => {
            let view = access.log_in()?.get(&format!("/api/reveille/v1/profiles/{iccid}"))?;
            println!("{view:#}");
        }
        Command::Timeline { iccid, access } => timeline(&iccid, access)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn line(profile: &Value) {
    let text = |member: &str| profile[member].as_str().unwrap_or_default().to_owned();
    println!(
        "{:<20}  {:<10}  {:<7}  {:<10}  {:<16}  {}",
        text("iccid"),
        text("network"),
        text("role"),
        text("state"),
        text("profileStatus"),
        text("servicePlan"),
    );
}

fn timeline(iccid: &str, access: Access) -> Result<()> {
    let mut client = access.log_in()?;
    let mut after = String::new();
    loop {
        let page = client.get(&format!("/api/reveille/v1/profiles/{iccid}/timeline?limit=100{after}"))?;
        for entry in page["timeline"].as_array().into_iter().flatten() {
            let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
            println!("{} {} by {}", text("requestId"), text("action"), text("user"));
            for event in entry["events"].as_array().into_iter().flatten() {
                let text = |member: &str| event[member].as_str().unwrap_or_default().to_owned();
                println!("  {}  {:<9} {}", text("at"), text("event"), text("detail"));
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(()),
        }
    }
}
