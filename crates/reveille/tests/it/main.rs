//! The promises of `ARCHITECTURE.md` on the whole program, in virtual time.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know for tests")]

mod accepting;
mod actions;
mod actions_page;
mod answering;
mod app;
mod bounding;
mod caller;
mod cards;
#[path = "../../../reveille-store/tests/cluster/mod.rs"]
mod cluster;
mod commands;
mod devices;
mod doubting;
mod drifting;
mod ending;
mod entering;
mod fleet;
mod folder;
mod forwarding;
mod isolating;
mod lasting;
mod listener;
mod listening;
mod model;
mod ordering;
mod racing;
mod real_time;
mod showing;
mod spec;
mod telling;
mod tidy;
