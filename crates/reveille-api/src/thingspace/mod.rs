//! The ThingSpace surface, call by call as ThingSpace documents it; what it leaves open: docs/choices.md.

pub(crate) mod device_queries;
pub(crate) mod listeners;
pub(crate) mod profile_actions;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod token;
