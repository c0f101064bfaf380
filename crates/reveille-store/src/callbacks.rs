//! The port's part about callbacks: what is due, what became of attempts, replays, and showing them.

use crate::{RequestHead, Result};
use async_trait::async_trait;
use reveille_domain::{AccountName, Iccid, Position, RequestId, Timestamp, Told};
use std::sync::Arc;

/// Callbacks and their delivery attempts.
#[async_trait]
pub trait Callbacks: Send + Sync + 'static {
    /// The accounts that have callbacks neither delivered nor archived, each with when its next is due.
    async fn untold(&self) -> Result<Vec<(AccountName, Timestamp)>>;

    /// An account's callbacks whose next attempt is due by `until`, longest due first; at most `limit`.
    async fn due(&self, account: &AccountName, until: Timestamp, limit: usize) -> Result<Vec<Callback>>;

    /// When an account's next attempt is due after `after`, if one is.
    async fn next_due(&self, account: &AccountName, after: Timestamp) -> Result<Option<Timestamp>>;

    /// Writes the ends of attempts. One of an older series, or of a callback that has ended, changes nothing.
    async fn mark(&self, marks: Vec<Mark>) -> Result<()>;

    /// Makes callbacks that have ended due again from `at`, as a new series, at most `limit` at a time.
    async fn replay(&self, scope: ReplayScope, at: Timestamp, limit: usize) -> Result<Replayed>;

    /// How many of an account's callbacks are archived.
    async fn archived(&self, account: &AccountName) -> Result<u64>;

    /// An account's callbacks, in the order of the store.
    async fn callbacks(&self, filter: CallbackFilter) -> Result<Vec<CallbackView>>;

    /// One callback with every attempt whose end is recorded.
    async fn callback(
        &self,
        request: RequestId,
        number: u32,
    ) -> Result<Option<(CallbackView, Vec<AttemptView>)>>;
}

/// A callback that is to be delivered.
#[derive(Clone, Debug)]
pub struct Callback {
    /// The request whose outcome it tells.
    pub request: Arc<RequestHead>,
    /// The subrequest's number.
    pub number: u32,
    /// What it says.
    pub told: Told,
    /// Which series of attempts this is, from 1.
    pub series: u32,
    /// How many attempts of the series have ended.
    pub attempts: u32,
}

impl Callback {
    /// Where its subrequest stands in the order: its key.
    pub fn position(&self) -> Position {
        Position { sequence: self.request.sequence, number: self.number }
    }
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The request whose outcome it tells.
    pub request: RequestId,
    /// The callback.
    pub position: Position,
    /// Its account.
    pub account: AccountName,
    /// The series that the attempt belongs to.
    pub series: u32,
    /// Which attempt of the series it was, from 1; 0 where it was archived without one.
    pub ordinal: u32,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub result: AttemptResult,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Acknowledged with a 2xx.
    Delivered {
        /// Which.
        status: u16,
    },
    /// Not acknowledged, to be made again.
    Failed {
        /// The status, where one came.
        status: Option<u16>,
        /// What went wrong, where none did.
        error: Option<Box<str>>,
        /// When the next is due.
        next_at: Timestamp,
    },
    /// Not acknowledged, and the last.
    Exhausted {
        /// The status, where one came.
        status: Option<u16>,
        /// What went wrong, where none did.
        error: Option<Box<str>>,
    },
    /// There is no listener: archived without an attempt.
    NoListener,
}

/// Why a callback was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveReason {
    /// Every attempt failed.
    Exhausted,
    /// There was no listener.
    NoListener,
}

/// Which callbacks are made due again. Only those that have ended are.
#[derive(Clone, Debug)]
pub enum ReplayScope {
    /// This one.
    One {
        /// Its request.
        request: RequestId,
        /// Its subrequest's number.
        number: u32,
    },
    /// An account's, as far as the other conditions hold.
    Account {
        /// The account.
        account: AccountName,
        /// Of this request.
        request: Option<RequestId>,
        /// Recorded at this time or later.
        from: Option<Timestamp>,
        /// Recorded before this time.
        to: Option<Timestamp>,
        /// The delivered ones too; otherwise the archived alone.
        delivered: bool,
        /// Only callbacks behind this one: for going on in batches.
        after: Position,
    },
}

/// What a replay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many callbacks are due again.
    pub callbacks: usize,
    /// Where to go on; nothing where the scope is exhausted.
    pub next: Option<Position>,
}

/// Where a callback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackState {
    /// Its next attempt is due, or will be.
    Waiting,
    /// Acknowledged.
    Delivered,
    /// Given up, kept for replay.
    Archived,
}

/// Which callbacks are shown.
#[derive(Clone, Debug)]
pub struct CallbackFilter {
    /// Of this account.
    pub account: AccountName,
    /// Of this request.
    pub request: Option<RequestId>,
    /// Only in this state.
    pub state: Option<CallbackState>,
    /// Behind this one.
    pub after: Option<(RequestId, u32)>,
    /// At most so many.
    pub limit: usize,
}

/// A callback as it is shown.
#[derive(Clone, Debug)]
pub struct CallbackView {
    /// The callback.
    pub callback: Callback,
    /// Where it is.
    pub state: CallbackState,
    /// When its outcome was recorded.
    pub recorded_at: Timestamp,
    /// When its next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered or archived.
    pub ended_at: Option<Timestamp>,
    /// Why it was archived.
    pub archived: Option<ArchiveReason>,
}

/// An attempt as it is shown. An archived callback without any has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// The series that it belongs to.
    pub series: u32,
    /// Which of the series: its `callbackCount`.
    pub ordinal: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The HTTP status, where one came.
    pub status: Option<u16>,
    /// What went wrong, where none did.
    pub error: Option<Box<str>>,
}

impl Callback {
    /// The profile that it is about.
    pub fn iccid(&self) -> &Iccid {
        &self.told.iccid
    }
}
