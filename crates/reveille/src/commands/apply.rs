//! `reveille apply FILE…`

use super::{Configured, block_on};
use crate::declaration::{self, Declared, Keeping};
use crate::server::{check_key, open_store, read_secrets};
use crate::system::{Dice, SystemClock};
use anyhow::{Context, Result};
use clap::Args;
use reveille_domain::Clock;
use reveille_store::{Applied, Store};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Arguments {
    /// TOML files with [[account]], [[client]] and [[user]] sections.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    configured: Configured,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = arguments.configured.read()?;
    let random = Dice::default();
    let secrets = read_secrets(&config, &random)?;
    let guard = config.guard();
    let keeping = Keeping { secrets: &secrets, random: &random, guard: &guard };
    let mut files = Vec::new();
    for path in &arguments.files {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path, declaration::read(&text, &keeping).with_context(|| path.display().to_string())?));
    }
    let store = open_store(&config)?;
    block_on(async {
        check_key(&*store, &secrets).await?;
        for (path, declared) in files {
            let applied =
                apply(&*store, declared).await.with_context(|| format!("cannot apply {}", path.display()))?;
            println!("{}: {applied}", path.display());
        }
        Ok(())
    })?;
    store.close();
    Ok(ExitCode::SUCCESS)
}

/// Writes what is declared; says what changed, with the secrets that were made up.
pub(super) async fn apply(store: &dyn Store, declared: Declared) -> Result<String> {
    let applied = store.apply(declared.declaration, SystemClock::default().now()).await?;
    Ok(summary(&applied, &declared.client_secrets, &declared.user_passwords))
}

fn summary(applied: &Applied, secrets: &[(String, String)], passwords: &[(String, String)]) -> String {
    let mut lines = vec![format!(
        "{} accounts, {} service plans, {} clients and {} users new; {} listeners set; {} secrets rotated",
        applied.accounts_new,
        applied.service_plans_new,
        applied.clients_new.len(),
        applied.users_new.len(),
        applied.listeners_set,
        applied.clients_rotated.len(),
    )];
    // A secret is told only where it was taken.
    let new = |names: &[Box<str>], name: &str| names.iter().any(|new| **new == *name);
    for (key, secret) in secrets.iter().filter(|(key, _)| new(&applied.clients_new, key)) {
        lines.push(format!("  client {key}: secret {secret} (shown this once)"));
    }
    for (name, password) in passwords.iter().filter(|(name, _)| new(&applied.users_new, name)) {
        lines.push(format!("  user {name}: password {password} (shown this once)"));
    }
    lines.join("\n")
}
