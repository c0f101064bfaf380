//! What is true of eSIM profiles: identifiers, states, the one table of rules, and time as a value.
//!
//! Pure: no I/O, no async runtime, no clock or randomness of its own, no serialisation. How things are
//! spelled on the wire is `reveille-wire`'s, how they are kept is `reveille-store`'s.

pub mod clock;
mod ids;
mod profile;
mod refusal;
mod request;
mod retry;
pub mod rules;

pub use clock::{Clock, Timestamp};
pub use ids::{AccountName, Eid, Iccid, Imei, Imsi, InvalidIdentifier, ListenerName, Msisdn, RequestId};
pub use profile::{
    Condition, Doubt, EndState, Network, Profile, ProfileState, ProfileStatus, Role, SuspendedBy,
};
pub use refusal::{Fate, Refusal};
pub use request::{
    Action, Already, Fault, Left, LeftAs, Limit, OperationId, Position, Reported, Service, Subject, Targets,
    Terms, Told,
};
pub use retry::{Backoff, Schedule};
pub use rules::{
    Decision, Intent, Part, concerns_euicc, decide, device_outcome, device_state, doubted_by,
    enabled_instead, ends_of,
};
