//! The port's part about callbacks: what is due, what became of attempts, replays, and showing them.

use crate::{RequestHead, Result};
use async_trait::async_trait;
use reveille_domain::{AccountName, Left, ListenerName, Position, RequestId, Service, Timestamp, Told};
use std::sync::Arc;

/// Callbacks and their delivery attempts.
#[async_trait]
pub trait Callbacks: Send + Sync + 'static {
    /// The outlets that have callbacks neither delivered nor archived, each with when its next is due.
    async fn untold(&self) -> Result<Vec<(Outlet, Timestamp)>>;

    /// An outlet's callbacks whose next attempt is due by `until`, longest due first; at most `limit`. Their
    /// documents are left empty: `document` reads them one by one.
    async fn due(&self, outlet: &Outlet, until: Timestamp, limit: usize) -> Result<Vec<Callback>>;

    /// The document of the callback of that subrequest's outcome, where it tells one.
    async fn document(&self, position: Position) -> Result<Option<Box<str>>>;

    /// When an outlet's next attempt is due after `after`, if one is.
    async fn next_due(&self, outlet: &Outlet, after: Timestamp) -> Result<Option<Timestamp>>;

    /// Writes the ends of attempts. One of an older series, or of a callback that has ended, changes nothing.
    async fn mark(&self, marks: Vec<Mark>) -> Result<()>;

    /// Makes callbacks that have ended due again from `at`, as a new series, at most `limit` at a time.
    async fn replay(&self, scope: ReplayScope, at: Timestamp, limit: usize) -> Result<Replayed>;

    /// How many of an outlet's callbacks are archived, warnings not counted.
    async fn archived(&self, outlet: &Outlet) -> Result<u64>;

    /// An account's callbacks, in the order of the store; their documents are left empty.
    async fn callbacks(&self, filter: CallbackFilter) -> Result<Vec<CallbackView>>;

    /// One callback with every attempt whose end is recorded.
    async fn callback(&self, name: CallbackName) -> Result<Option<(CallbackView, Vec<AttemptView>)>>;
}

/// Where callbacks leave: one of an account's listeners for one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outlet {
    /// The account.
    pub account: AccountName,
    /// The service.
    pub service: Service,
    /// Which of its listeners.
    pub listener: ListenerName,
}

impl Outlet {
    /// Where a request's callbacks leave to the service's own listener.
    pub fn of(request: &RequestHead) -> Self {
        Self {
            account: request.account.clone(),
            service: request.action.service(),
            listener: ListenerName::OWN,
        }
    }
}

/// What a callback tells of its subrequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tells {
    /// Its outcome.
    Outcome,
    /// That it is slow; the outcome follows in a callback of its own.
    Warning,
}

/// Where a callback is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallbackKey {
    /// Where its subrequest stands in the order.
    pub position: Position,
    /// What it tells of it.
    pub tells: Tells,
    /// Whom.
    pub listener: ListenerName,
}

impl CallbackKey {
    /// Whether it is among those that its request counts: of each outcome, that for the service's own listener.
    pub fn is_counted(&self) -> bool {
        self.tells == Tells::Outcome && self.listener.is_own()
    }
}

/// What a callback is called outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackName {
    /// Its request.
    pub request: RequestId,
    /// Its subrequest's number.
    pub number: u32,
    /// What it tells of it.
    pub tells: Tells,
    /// Whom.
    pub listener: ListenerName,
}

/// A callback that is to be delivered.
#[derive(Clone, Debug)]
pub struct Callback {
    /// The request whose outcome it tells.
    pub request: Arc<RequestHead>,
    /// The subrequest's number.
    pub number: u32,
    /// Whom it tells.
    pub listener: ListenerName,
    /// What it says.
    pub told: Told,
    /// Which series of attempts this is, from 1.
    pub series: u32,
    /// How many attempts of the series have ended.
    pub attempts: u32,
}

impl Callback {
    /// Where it is kept.
    pub fn key(&self) -> CallbackKey {
        let position = Position { sequence: self.request.sequence, number: self.number };
        CallbackKey { position, tells: self.tells(), listener: self.listener }
    }

    /// What it is called outside.
    pub fn name(&self) -> CallbackName {
        CallbackName {
            request: self.request.id,
            number: self.number,
            tells: self.tells(),
            listener: self.listener,
        }
    }

    /// Where it leaves.
    pub fn outlet(&self) -> Outlet {
        Outlet { listener: self.listener, ..Outlet::of(&self.request) }
    }

    fn tells(&self) -> Tells {
        match self.told.result {
            Ok(Left::Waiting) => Tells::Warning,
            _ => Tells::Outcome,
        }
    }
}

/// What was written, and whom besides the services' own listeners it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// One for each that was to be written.
    pub each: Vec<T>,
    /// The outlets of further listeners that have callbacks of them, as far as they were written, now or before.
    pub further: Vec<Outlet>,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The request whose outcome it tells.
    pub request: RequestId,
    /// The callback.
    pub key: CallbackKey,
    /// Where it leaves.
    pub outlet: Outlet,
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
    /// It is a warning, and the outcome came before it was acknowledged.
    Overtaken,
}

/// Which callbacks are made due again. Only those that have ended are; a warning only where it is named.
#[derive(Clone, Debug)]
pub enum ReplayScope {
    /// This one.
    One(CallbackName),
    /// An account's, as far as the other conditions hold.
    Account {
        /// The account.
        account: AccountName,
        /// Those for this listener.
        listener: ListenerName,
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
    /// For this listener.
    pub listener: ListenerName,
    /// Of this request.
    pub request: Option<RequestId>,
    /// Only in this state.
    pub state: Option<CallbackState>,
    /// Behind this one.
    pub after: Option<CallbackName>,
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
    /// When its outcome, or its warning, was recorded.
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
