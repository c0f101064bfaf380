//! `reveille carriers list|hold|release`

use super::{Configured, block_on};
use crate::server::open_store;
use crate::system::SystemClock;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use reveille_domain::{Clock, Network};
use reveille_engine::set_hold;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List networks, and whose carriers are held.
    List {
        #[command(flatten)]
        configured: Configured,
    },
    /// Hold a network's carrier: nothing more is begun on it. A running server notices within a second.
    Hold {
        /// verizon-us or global.
        network: String,
        #[command(flatten)]
        configured: Configured,
    },
    /// Release a held carrier; one whose logins had failed too often tries once more.
    Release {
        /// verizon-us or global.
        network: String,
        #[command(flatten)]
        configured: Configured,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List { configured } => list(&configured),
        Command::Hold { network, configured } => set(&network, &configured, true),
        Command::Release { network, configured } => set(&network, &configured, false),
    }
}

fn list(configured: &Configured) -> Result<ExitCode> {
    let config = configured.read()?;
    let store = open_store(&config)?;
    let held = block_on(async { Ok(store.holds().await?) })?;
    let unserved = config.unserved();
    for network in Network::ALL {
        let state = match (held.contains(&network), unserved.contains(&network)) {
            (_, true) => "unserved",
            (true, false) => "held",
            (false, false) => "running",
        };
        println!("{:<12}{state}", network.name());
    }
    Ok(ExitCode::SUCCESS)
}

fn set(network: &str, configured: &Configured, hold: bool) -> Result<ExitCode> {
    let networks = Network::ALL.map(Network::name).join(", ");
    let network = Network::named(network)
        .with_context(|| format!("there is no network {network:?}; there are {networks}"))?;
    let store = open_store(&configured.read()?)?;
    let at = hold.then(|| SystemClock::default().now());
    block_on(async { Ok(set_hold(&*store, network, at).await?) })?;
    println!("{} is {}", network.name(), if hold { "held" } else { "released" });
    Ok(ExitCode::SUCCESS)
}
