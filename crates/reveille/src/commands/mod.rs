//! What is typed: one file per command.

mod actions;
mod apply;
mod bench;
mod callbacks;
mod carriers;
mod check;
mod demo;
mod fleet;
pub(crate) mod listen;
mod migrate;
mod profiles;
mod requests;
mod serve;
mod store;
mod users;

use crate::config::Config;
use crate::telemetry;
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// An eSIM profile lifecycle server that speaks the ThingSpace eSIM-profile contract.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the main job on this machine: a sample fleet, its suspended profiles resumed, callbacks shown.
    Demo(demo::Arguments),
    /// Run the server.
    Serve(Configured),
    /// Write accounts, service plans, API clients, users and listeners from TOML files.
    Apply(apply::Arguments),
    /// Import or export devices and profiles as CSV.
    Fleet(fleet::Arguments),
    /// Listen for callbacks and print what arrives (for development).
    Listen(listen::Arguments),
    #[command(flatten)]
    Action(actions::Command),
    /// List, show, follow and cancel requests.
    Requests(requests::Arguments),
    /// List and show profiles, with what became of them.
    Profiles(profiles::Arguments),
    /// List, show and replay callbacks.
    Callbacks(callbacks::Arguments),
    /// List, hold and release carriers.
    Carriers(carriers::Arguments),
    /// List and unlock users, and give them new passwords.
    Users(users::Arguments),
    /// Validate a configuration, and see whether its store and carriers can be used.
    Check(Configured),
    /// Bring the store's schema up to date, or say whether that is due.
    Migrate(migrate::Arguments),
    /// Copy a store, to go from one server to many nodes.
    Store(store::Arguments),
    /// Measure this machine: the main job beside the same callbacks posted without a server.
    Bench(bench::Arguments),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
pub struct Configured {
    /// The configuration file; reveille.toml where none is named and it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configured {
    /// Reads it, and starts logging as it says.
    fn read(&self) -> Result<Config> {
        let config = Config::read(self.config.as_deref())?;
        telemetry::start(&config.log, &config.log_format)?;
        Ok(config)
    }
}

/// Runs a command; the exit code says whether all went well.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Demo(demo) => demo::run(demo),
        Command::Serve(configured) => serve::run(&configured),
        Command::Apply(apply) => apply::run(&apply),
        Command::Fleet(fleet) => fleet::run(fleet),
        Command::Listen(listen) => listen::run(&listen),
        Command::Action(action) => actions::run(action),
        Command::Requests(requests) => requests::run(requests),
        Command::Profiles(profiles) => profiles::run(profiles),
        Command::Callbacks(callbacks) => callbacks::run(callbacks),
        Command::Carriers(carriers) => carriers::run(carriers),
        Command::Users(users) => users::run(users),
        Command::Check(configured) => check::run(&configured),
        Command::Migrate(migrate) => migrate::run(&migrate),
        Command::Store(store) => store::run(store),
        Command::Bench(bench) => bench::run(&bench),
    }
}

/// Runs asynchronous work on a runtime with a thread per core.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Ends when the process is asked to: Ctrl-C, or SIGTERM.
async fn asked_to_stop() -> Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
        _ = terminated.recv() => Ok(()),
    }
}
