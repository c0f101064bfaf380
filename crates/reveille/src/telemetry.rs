//! Logs: one line an event on standard error, as text or JSON.

use anyhow::{Context, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging; the first call counts.
pub fn start(directives: &str, format: &str) -> Result<()> {
    let filter = EnvFilter::builder().parse(directives).with_context(|| format!("log = {directives:?}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        "json" => subscriber.json().try_init(),
        _ => subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    Ok(())
}
