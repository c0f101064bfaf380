//! `reveille check`

use super::{Configured, block_on};
use crate::config::Config;
use crate::server::{check_key, open_store, read_secrets};
use crate::system::{Dice, SystemClock};
use anyhow::{Context, Result};
use reveille_domain::{Clock, Network};
use reveille_engine::{Health, probed};
use reveille_store::Backlog;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::read(configured.config.as_deref())?;
    println!("configuration  valid");
    let new_file = config.sqlite_file().filter(|file| !file.exists());
    let store = match new_file {
        Some(file) => {
            println!("store          {} does not exist yet; serve and apply make it", file.display());
            None
        }
        None => {
            let store = open_store(&config)?;
            let backlog = block_on(async { store.backlog().await.context("cannot read the store") })?;
            let place =
                config.sqlite_file().map_or("postgres://…".into(), |file| file.display().to_string());
            let Backlog { waiting, untold } = backlog;
            println!("store          {place}: {waiting} subrequests and {untold} callbacks waiting");
            Some(store)
        }
    };
    if config.server_key().is_some() || store.is_some() || config.key_file()?.exists() {
        let secrets = read_secrets(&config, &Dice::default())?;
        if let Some(store) = &store {
            block_on(async { check_key(&**store, &secrets).await })?;
        }
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
    let engine = config.engine(&clock, &Dice::default())?;
    for network in Network::ALL {
        let said = match engine.carriers.get(&network) {
            Some(setup) => {
                let health = block_on(async { Ok(probed(setup, &*clock).await) })?;
                format!("{}, {}", setup.carrier.kind(), said_of(&health))
            }
            None => "none, so its profiles will fail".into(),
        };
        println!("carrier        {}: {said}", network.name());
    }
    Ok(ExitCode::SUCCESS)
}

/// A carrier that cannot be reached now is no mistake of the configuration.
fn said_of(health: &Health) -> String {
    match health {
        Health::Ok => "which answers".into(),
        Health::Degraded(words) => format!("in part: {words}"),
        Health::Down(trouble) => format!("which cannot be used now: {trouble}"),
    }
}
