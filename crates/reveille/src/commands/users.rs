//! `reveille users list`, `reveille users unlock NAME`

use super::{Configured, block_on};
use crate::server::open_store;
use crate::system::Dice;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use reveille_api::{hash_password, random_password};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List users, and which are locked.
    List {
        #[command(flatten)]
        configured: Configured,
    },
    /// Give a user a new password, and print it: for whoever has lost theirs. It unlocks the user too.
    Password {
        /// The user's name.
        name: String,
        #[command(flatten)]
        configured: Configured,
    },
    /// Let a locked user log in again.
    Unlock {
        /// The user's name.
        name: String,
        #[command(flatten)]
        configured: Configured,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List { configured } => {
            let store = open_store(&configured.read()?)?;
            for (name, locked) in block_on(async { Ok(store.users().await?) })? {
                println!("{name}{}", if locked { "  locked" } else { "" });
            }
        }
        Command::Password { name, configured } => {
            let store = open_store(&configured.read()?)?;
            let dice = Dice::default();
            let password = random_password(&dice);
            let hash = hash_password(&password, &dice);
            if !block_on(async { Ok(store.set_password(&name, hash).await? && store.unlock(&name).await?) })?
            {
                bail!("there is no user {name:?}; `reveille users list` shows those that there are");
            }
            println!("{name}: password {password} (shown this once)");
        }
        Command::Unlock { name, configured } => {
            let store = open_store(&configured.read()?)?;
            if !block_on(async { Ok(store.unlock(&name).await?) })? {
                bail!("there is no user {name:?}; `reveille users list` shows those that there are");
            }
            println!("{name} may log in again");
        }
    }
    Ok(ExitCode::SUCCESS)
}
