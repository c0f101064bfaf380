//! Adapters against the programs that they are for, which nobody of Reveille's wrote. One that is missing is
//! named, and never passed over.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know for tests")]

mod hlr;
mod hss;
mod open5gs;
mod osmo_hlr;
mod radius;
mod real_time;
mod s6a;
mod serving;
mod stalling;
mod stub;
mod tmf640;
mod tmf_mock;
