//! `reveille check`

use super::{Configured, block_on};
use crate::config::Config;
use crate::server::{open_store, read_secrets};
use crate::system::{Dice, SystemClock};
use anyhow::{Context, Result};
use reveille_domain::{Clock, Network};
use reveille_store::Requests;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::read(configured.config.as_deref())?;
    println!("configuration  valid");
    let sqlite = config.sqlite()?;
    if sqlite.path.exists() {
        let store = open_store(&config)?;
        let backlog = block_on(async move { store.backlog().await.context("cannot read the store") })?;
        println!(
            "store          {}: {} subrequests and {} callbacks waiting",
            sqlite.path.display(),
            backlog.waiting,
            backlog.untold
        );
    } else {
        println!("store          {} does not exist yet; serve and apply make it", sqlite.path.display());
    }
    if config.server_key().is_some() || sqlite.path.exists() || config.key_file()?.exists() {
        read_secrets(&config, &Dice::default())?;
        match config.server_key() {
            Some(_) => println!("key            given directly"),
            None => println!("key            {}", config.key_file()?.display()),
        }
    } else {
        println!(
            "key            {} does not exist yet; serve and apply make it",
            config.key_file()?.display()
        );
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let engine = config.engine(&clock)?;
    for network in Network::ALL {
        match engine.carriers.get(&network) {
            Some(setup) => println!("carrier        {}: {}", network.name(), setup.carrier.kind()),
            None => println!("carrier        {}: none, so its profiles will fail", network.name()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
