//! `reveille serve`

use super::{Configured, asked_to_stop, block_on};
use crate::server::{Given, Server};
use anyhow::Result;
use std::process::ExitCode;

pub(super) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = configured.read()?;
    block_on(async {
        let server = Server::start(&config, Given::default()).await?;
        asked_to_stop().await?;
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
