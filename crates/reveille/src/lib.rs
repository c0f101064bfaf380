//! The binary's rooms: commands, configuration, telemetry, and the wiring of all the others.

pub mod client;
pub mod commands;
pub mod config;
pub mod declaration;
pub mod fleet;
pub mod server;
pub mod system;
pub mod telemetry;
