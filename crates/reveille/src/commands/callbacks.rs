//! `reveille callbacks list|show|replay`

use crate::client::Access;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the account's callbacks.
    List {
        /// waiting, delivered or archived.
        #[arg(long)]
        state: Option<String>,
        /// Of this request.
        #[arg(long)]
        request: Option<String>,
        /// For this further listener; left out, for the services' own.
        #[arg(long)]
        listener: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        access: Access,
    },
    /// Show a callback with every attempt, as JSON.
    Show {
        /// The callback's id: request id, full stop, number; of a further listener, full stop, its name.
        callback: String,
        #[command(flatten)]
        access: Access,
    },
    /// Send callbacks again: one, or the archived ones of a request or a time window.
    Replay {
        /// The callback's id.
        callback: Option<String>,
        /// Of this request.
        #[arg(long)]
        request: Option<String>,
        /// Recorded at this instant or later: 2026-01-31T12:00:00Z.
        #[arg(long)]
        from: Option<String>,
        /// Recorded before this instant.
        #[arg(long)]
        to: Option<String>,
        /// Those for this further listener; left out, those for the services' own.
        #[arg(long)]
        listener: Option<String>,
        /// The delivered ones too.
        #[arg(long)]
        delivered: bool,
        #[command(flatten)]
        access: Access,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List { state, request, listener, limit, access } => {
            list([("state", state), ("requestId", request), ("listener", listener)], limit, access)?;
        }
        Command::Show { callback, access } => {
            println!("{:#}", access.log_in()?.get(&format!("/api/reveille/v1/callbacks/{callback}"))?);
        }
        Command::Replay { callback: Some(callback), access, .. } => {
            let answer =
                access.log_in()?.post(&format!("/api/reveille/v1/callbacks/{callback}/replay"), None)?;
            println!("{} callbacks are sent again", answer["replayed"]);
        }
        Command::Replay { callback: None, request, from, to, listener, delivered, access } => {
            if request.is_none() && from.is_none() && to.is_none() {
                bail!("name a callback, --request, or a time window with --from and --to");
            }
            let mut client = access.log_in()?;
            let state = if delivered { "ended" } else { "archived" };
            let mut body = json!({"account": client.account()?, "state": state});
            for (member, given) in
                [("requestId", request), ("from", from), ("to", to), ("listener", listener)]
            {
                if let Some(text) = given {
                    body[member] = Value::String(text);
                }
            }
            let answer = client.post("/api/reveille/v1/callbacks/replay", Some(&body))?;
            println!("{} callbacks are sent again", answer["replayed"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(conditions: [(&str, Option<String>); 3], limit: u32, access: Access) -> Result<()> {
    let mut client = access.log_in()?;
    let mut path = format!("/api/reveille/v1/callbacks?account={}&limit={limit}", client.account()?);
    for (name, given) in conditions {
        if let Some(text) = given {
            path.push_str(&format!("&{name}={text}"));
        }
    }
    let page = client.get(&path)?;
    for view in page["callbacks"].as_array().into_iter().flatten() {
        let text = |member: &str| view[member].as_str().unwrap_or_default().to_owned();
        println!(
            "{}  {}  {:<7} {:<9} attempts {} of {}",
            text("id"),
            text("iccid"),
            text("status"),
            text("state"),
            view["callbackCount"],
            view["maxCallbackThreshold"],
        );
    }
    Ok(())
}
