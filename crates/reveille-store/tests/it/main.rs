//! The store's adapters: each conforms to the port, and keeps its own promises beside it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know for tests")]

mod conforms;
mod folder;
mod plans;
mod sqlite;
mod upgrades;
