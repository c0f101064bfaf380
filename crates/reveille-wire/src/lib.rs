//! What is said: the bodies of the ThingSpace contract as they are spelled on the wire.
//!
//! The one crate that knows the contract's field names, letter case and value spellings. What the values
//! mean is `reveille-domain`'s; which call takes which body is `reveille-api`'s.

pub mod answers;
mod callback;
pub mod client;
pub mod device_queries;
pub mod documents;
mod faults;
pub mod instant;
pub mod json;
pub mod profile_action;
mod refusals;
pub mod spelling;

pub use callback::{CallbackBody, Credentials, FaultResponse, status_of};
pub use faults::{fault_code, fault_text, named_fault};
pub use refusals::{ErrorBody, Gateway, code, message};
