//! What is kept: one port, several adapters. SQL lives in this crate alone.
//!
//! The port is a few wide methods, each on a batch, in six traits by subject. A method's future ends only
//! when what it wrote is durable: synced to disk. How a body is spelled is not known here; secrets come in
//! as digests or encrypted.

mod callbacks;
mod carriers;
mod codes;
pub mod conformance;
pub mod copy;
mod directory;
mod drift;
mod inventory;
pub mod postgres;
mod requests;
pub mod sqlite;
mod writer;

pub use callbacks::{
    ArchiveReason, AttemptResult, AttemptView, Callback, CallbackFilter, CallbackKey, CallbackName,
    CallbackState, CallbackView, Callbacks, Mark, Outlet, ReplayScope, Replayed, Tells, Written,
};
pub use carriers::{Carriers, KeptNotice, LoginEnd, LoginTurn, NoticeKey};
pub use directory::{
    Applied, Client, ClientDeclaration, Declaration, Directory, FURTHER_LISTENERS_MAX, Listener,
    ListenerDeclaration, LoginFailure, Session, User, UserDeclaration,
};
pub use drift::{Compared, Drift, DriftView, Seen, Standing};
pub use inventory::{
    CallView, DeviceKey, DeviceTarget, FleetProblem, FleetRow, HistoryView, Identifier, Imported, Inventory,
    OwnedProfile, ProfileFilter, ProfileKey, Suspension, TimelineEntry, TimelineRequest,
};
pub use requests::{
    AcceptLimits, Acceptance, Accepted, Backlog, Change, ChangeCounts, Claim, Guard, Handed,
    HistoryForgotten, HistorySpan, ITSELF, IdempotencyKey, Lane, Lease, NewRequest, NewSubrequest, Page,
    PageContent, PlanChange, ProfileTarget, Recorded, Recording, RequestFilter, RequestHead, RequestView,
    Requests, SettlingCall, SubrequestFilter, SubrequestState, SubrequestView, Target, UnsettledCall,
    Waiting, Warning, lane_of,
};

/// Everything that is kept, behind one value that the rest of the program cannot tell apart.
pub trait Store: Requests + Callbacks + Carriers + Directory + Drift + Inventory {
    /// Waits for what is being written, and lets go of the store. Blocks.
    fn close(&self);
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The commit's answer was lost: what was to be written may be there or not. Read back.
    #[error("the store did not confirm the write")]
    Unconfirmed,
    /// Nothing was written or read.
    #[error("the store is unavailable: {what}")]
    Unavailable {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is nearly full: nothing new is accepted until there is room again.
    #[error("the disk is nearly full: {free_bytes} bytes are left")]
    DiskNearlyFull {
        /// What is left.
        free_bytes: u64,
    },
}

/// What the port's methods answer.
pub type Result<T> = std::result::Result<T, StoreError>;
