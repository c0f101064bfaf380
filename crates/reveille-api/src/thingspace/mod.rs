//! The ThingSpace surface, call by call as `contract.md` has it.

pub(crate) mod listeners;
pub(crate) mod profile_actions;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod token;
