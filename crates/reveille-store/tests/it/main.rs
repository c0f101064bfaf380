//! The store's adapters: each conforms to the port, and keeps its own promises beside it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know for tests")]

#[path = "../cluster/mod.rs"]
mod cluster;
mod conforms;
mod copying;
mod dialects;
mod folder;
mod plans;
mod postgres;
mod sqlite;
mod upgrades;
