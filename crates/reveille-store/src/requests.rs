//! The port's part about requests: accept them, read back what waits, record outcomes, show them.

use crate::{DeviceKey, ProfileKey, Result, Written};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Condition, Doubt, Fault, Network, Part, Position, Profile, RequestId, Subject,
    Terms, Timestamp, Told,
};
use std::sync::Arc;
use std::time::Duration;

/// Who asks where the server does by itself; no user has this name.
pub const ITSELF: &str = "reveille";

/// Requests and their subrequests.
#[async_trait]
pub trait Requests: Send + Sync + 'static {
    /// Writes one request with all its subrequests, or nothing of it.
    ///
    /// Calls that come at the same time share one sync of the disk. Where the idempotency key is known, or
    /// becomes known by a neighbour in the same sync, the answer is the first request's.
    async fn accept(&self, request: NewRequest, limits: AcceptLimits) -> Result<Acceptance> {
        self.accept_then(request, limits, Box::new(|_| {})).await
    }

    /// The same; `accepted` is called with the order number once that is durable, before this ends. Of the
    /// requests that one process accepts, it is called in the order of their numbers.
    async fn accept_then(
        &self,
        request: NewRequest,
        limits: AcceptLimits,
        accepted: Accepted,
    ) -> Result<Acceptance>;

    /// The lanes in which anything waits, for a start.
    async fn lanes(&self) -> Result<Vec<(AccountName, Lane)>>;

    /// The waiting subrequests of one lane behind `after`, in order; at most `limit`.
    async fn waiting(
        &self,
        account: &AccountName,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>>;

    /// The waiting subrequests of one request behind `after`, in order; at most `limit`.
    async fn waiting_of(&self, request: RequestId, after: u32, limit: usize) -> Result<Vec<Waiting>>;

    /// For each eUICC, where its earliest waiting subrequest stands.
    async fn earliest_on(&self, devices: Vec<DeviceKey>) -> Result<Vec<Option<Position>>>;

    /// How long what this process has claimed is its own; nothing where no other process works on this store,
    /// and so nothing has to be claimed.
    fn lease(&self) -> Option<Duration>;

    /// Claims eUICCs, each for the subrequest named beside it: at a time, one process performs one
    /// subrequest on it.
    async fn claim(&self, claims: Vec<(DeviceKey, Position)>) -> Result<Vec<Claim>>;

    /// Subrequests without outcome behind `after` that were accepted before `accepted_before` and that no
    /// other process is performing, in order, of all accounts but those `except`; at most `limit`. Empty where
    /// no other process works on this store.
    async fn strays(
        &self,
        accepted_before: Timestamp,
        after: Position,
        except: Vec<AccountName>,
        limit: usize,
    ) -> Result<Vec<Waiting>>;

    /// The recorded profiles of those keys, in the order asked.
    async fn profiles(&self, keys: Vec<ProfileKey>) -> Result<Vec<Option<Profile>>>;

    /// The profiles on those eUICCs, in the order asked; on each in the order of their keys.
    async fn on_devices(&self, devices: Vec<DeviceKey>) -> Result<Vec<Vec<(ProfileKey, Profile)>>>;

    /// For each of those, how often its service state was changed by a request since `actions_since`, and its
    /// service plan since `plans_since`.
    async fn change_counts(
        &self,
        profiles: Vec<ProfileKey>,
        actions_since: Timestamp,
        plans_since: Timestamp,
    ) -> Result<Vec<ChangeCounts>>;

    /// How a device action ended for the profiles of the device whose own subrequest stands at `own`, each
    /// with its state now; nothing while one of them has not ended.
    async fn parts(&self, own: Position) -> Result<Option<Vec<Part>>>;

    /// Writes outcomes, each with its profile's new state, its history entry and its callback, in one
    /// transaction; a warning of it that still waits is archived in the same. One that has ended before keeps
    /// its first outcome; one whose guard does not hold any more is refused.
    async fn record(&self, recordings: Vec<Recording>) -> Result<Written<Recorded>>;

    /// Writes that subrequests are slow, each with a callback that says so, unless one was written before or
    /// the subrequest has ended; whether it was written now.
    async fn warn(&self, warnings: Vec<Warning>) -> Result<Written<bool>>;

    /// Writes calls to carriers that left their operations unsettled, for the timeline.
    async fn note_calls(&self, calls: Vec<UnsettledCall>) -> Result<()>;

    /// Keeps under which names carriers have accepted subrequests for later; of each the last counts. Those that
    /// have ended, or whose guard does not hold any more, are left alone.
    async fn keep_handles(&self, handles: Vec<Handed>) -> Result<()>;

    /// The names kept of those subrequests, in the order asked.
    async fn handles(&self, positions: Vec<Position>) -> Result<Vec<Option<Box<str>>>>;

    /// Marks a request as cancelled from `at`; its view, or nothing where there is none of that id.
    async fn cancel(&self, request: RequestId, at: Timestamp) -> Result<Option<RequestView>>;

    /// The requests that were cancelled and have not ended, in order.
    async fn cancelled(&self) -> Result<Vec<RequestId>>;

    /// One request.
    async fn request(&self, request: RequestId) -> Result<Option<RequestView>>;

    /// An account's requests, newest first.
    async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>>;

    /// A request's subrequests, in order.
    async fn subrequests(&self, filter: SubrequestFilter) -> Result<Vec<SubrequestView>>;

    /// The highest order number given so far; 0 before the first.
    async fn last_sequence(&self) -> Result<i64>;

    /// What waits in all.
    async fn backlog(&self) -> Result<Backlog>;

    /// Removes what is older: requests told before `requests_before`, with everything that belongs to
    /// them, keys and ended sessions before `keys_before`; in one small batch of about `limit` rows.
    /// How many rows went; none means there is nothing left to remove.
    async fn forget(&self, requests_before: Timestamp, keys_before: Timestamp, limit: usize)
    -> Result<usize>;

    /// Removes what was recorded before `before` from the history of profiles behind `after`, in one small
    /// batch: looks at `limit` profiles at most, and removes `limit` rows at most.
    async fn forget_history(
        &self,
        before: Timestamp,
        after: Option<ProfileKey>,
        limit: usize,
    ) -> Result<HistoryForgotten>;
}

/// A queue of waiting work within an account: one for each network's carrier, and one for what needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Work for the carrier of that network.
    Network(Network),
    /// Work that is done here: a fault that was known at acceptance, a device's own part, a page, a notice.
    Here,
}

/// The lane of a subrequest.
pub fn lane_of(action: Action, target: &std::result::Result<Target, Fault>) -> Lane {
    match (action, target) {
        (Action::ResumeNotice | Action::ExternalChange | Action::Drift, _) => Lane::Here,
        (_, Ok(Target::Profile(target))) => Lane::Network(target.network),
        (_, Ok(Target::Device(_) | Target::Page(_)) | Err(_)) => Lane::Here,
    }
}

/// What is to happen with a request's order number.
pub type Accepted = Box<dyn FnOnce(i64) + Send>;

/// A request to be accepted.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// Its name, made by the caller.
    pub id: RequestId,
    /// The account that the targets belong to.
    pub account: AccountName,
    /// What is asked for.
    pub action: Action,
    /// The service plan that was named.
    pub service_plan: Option<Box<str>>,
    /// What it says besides.
    pub terms: Terms,
    /// Who asked.
    pub user: Box<str>,
    /// When.
    pub accepted_at: Timestamp,
    /// Under which key, if any.
    pub key: Option<IdempotencyKey>,
    /// The targets, in order; numbered from 1.
    pub subrequests: Arc<[NewSubrequest]>,
}

/// A key under which a repeat of a call is the same request; scoped by user and account.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters.
    pub key: Box<str>,
    /// Of the action and the raw body.
    pub digest: [u8; 32],
    /// Keys older than this do not count any more.
    pub since: Timestamp,
}

/// A target, as it was resolved at acceptance.
#[derive(Clone, Debug)]
pub struct NewSubrequest {
    /// What it is about, as it was named.
    pub subject: Subject,
    /// What it works on; or why it will fail.
    pub target: std::result::Result<Target, Fault>,
}

/// What a subrequest works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A profile.
    Profile(ProfileTarget),
    /// A device as a whole, when its profiles are through.
    Device(DeviceKey),
    /// A page of an answer.
    Page(Page),
}

/// Where a profile is in the inventory, and who performs what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileTarget {
    /// The profile.
    pub profile: ProfileKey,
    /// The eUICC that it is on: never two operations at once.
    pub device: DeviceKey,
    /// The network whose carrier performs it.
    pub network: Network,
}

/// What one callback of an answer covers, fixed at acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many pages the answer has.
    pub of: u32,
    /// What stands on this one.
    pub content: PageContent,
}

/// What stands on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageContent {
    /// These profiles, as they are when the page is made.
    Profiles(Arc<[ProfileKey]>),
    /// Changes of this profile's record.
    History {
        /// The profile.
        profile: ProfileKey,
        /// Which of its changes.
        span: HistorySpan,
    },
}

/// A part of a profile's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySpan {
    /// Changes at this time or later.
    pub from: Timestamp,
    /// Changes before this time.
    pub until: Timestamp,
    /// Changes behind this one.
    pub after: Position,
    /// At most so many.
    pub limit: usize,
}

impl Target {
    /// The eUICC that must not have two operations under way, if one is concerned.
    pub fn device(&self) -> Option<DeviceKey> {
        match self {
            Self::Profile(target) => Some(target.device),
            Self::Device(device) => Some(*device),
            Self::Page(_) => None,
        }
    }

    /// The profile, where it is one.
    pub fn profile(&self) -> Option<ProfileTarget> {
        match self {
            Self::Profile(target) => Some(*target),
            Self::Device(_) | Self::Page(_) => None,
        }
    }
}

/// How many subrequests may wait before nothing more is accepted.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// In one account.
    pub waiting_per_account: u64,
    /// In all.
    pub waiting_in_all: u64,
}

/// What became of a request at the store's door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It is on disk, at this place in the order.
    Accepted {
        /// The request's order number.
        sequence: i64,
    },
    /// The same call was accepted before, as this request.
    Repeated {
        /// The first request.
        request: RequestId,
    },
    /// The key was used with another body.
    KeyReused,
    /// Too much waits already.
    Overloaded,
    /// There is no such account.
    NoAccount,
}

/// What all subrequests of a request share.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its order number.
    pub sequence: i64,
    /// Its name.
    pub id: RequestId,
    /// Its account.
    pub account: AccountName,
    /// What it does.
    pub action: Action,
    /// The service plan that it named.
    pub service_plan: Option<Box<str>>,
    /// What it says besides.
    pub terms: Terms,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whether it was cancelled when this was read.
    pub cancelled: bool,
}

/// A subrequest without outcome.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its request.
    pub request: Arc<RequestHead>,
    /// Its number within it.
    pub number: u32,
    /// What it is about, as it was named.
    pub subject: Subject,
    /// As it was resolved at acceptance.
    pub target: std::result::Result<Target, Fault>,
}

impl Waiting {
    /// Where it stands in the order.
    pub fn position(&self) -> Position {
        Position { sequence: self.request.sequence, number: self.number }
    }

    /// Its lane.
    pub fn lane(&self) -> Lane {
        lane_of(self.request.action, &self.target)
    }
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this process's turn.
    Granted {
        /// Under which its outcome is recorded.
        lease: Lease,
        /// Whether another process, or this one, may have begun it before.
        begun_before: bool,
        /// Whether its request was cancelled.
        cancelled: bool,
    },
    /// Earlier work on the eUICC has no outcome yet, or another process is at it.
    Later,
    /// It has an outcome.
    Ended,
}

/// The number of a claim: of two on one eUICC the later has the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(pub i64);

/// What must still be so for an outcome to be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: no eUICC is concerned, or no other process works on this store.
    #[default]
    Free,
    /// The eUICC is claimed under this lease.
    Leased(Lease),
    /// Nobody has claimed the eUICC for this subrequest.
    Unbegun,
}

/// A subrequest that its carrier has accepted for later.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Which.
    pub position: Position,
    /// The carrier's name for it, by which it is asked about.
    pub handle: Box<str>,
    /// What must still be so.
    pub guard: Guard,
    /// How long it stays this process's, where others work on the store: until it is asked about, and a lease longer.
    pub keep_for: Duration,
}

/// An outcome to be recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The subrequest's request.
    pub request: Arc<RequestHead>,
    /// Its number within it.
    pub number: u32,
    /// When it ended.
    pub at: Timestamp,
    /// What its callback says; its result is the outcome.
    pub told: Told,
    /// What becomes of profiles' records: of its own first.
    pub changes: Vec<Change>,
    /// The call to the carrier that settled it, where there was one.
    pub call: Option<SettlingCall>,
    /// What must still be so.
    pub guard: Guard,
}

/// The call to a carrier that settled an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlingCall {
    /// Which of the operation's calls it was, from 1.
    pub ordinal: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// What the carrier replied, in one word.
    pub reply: &'static str,
}

/// A call to a carrier that left its operation unsettled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsettledCall {
    /// The operation's subrequest.
    pub position: Position,
    /// Its account.
    pub account: AccountName,
    /// Which of the operation's calls it was, from 1.
    pub ordinal: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What the carrier replied, in one word.
    pub reply: &'static str,
}

/// A subrequest that is slow.
#[derive(Clone, Debug)]
pub struct Warning {
    /// The subrequest's request.
    pub request: Arc<RequestHead>,
    /// Its number within it.
    pub number: u32,
    /// When that was found.
    pub at: Timestamp,
    /// What its callback says; its result is `Left::Waiting`.
    pub told: Told,
}

impl Recording {
    /// Where its subrequest stands in the order.
    pub fn position(&self) -> Position {
        Position { sequence: self.request.sequence, number: self.number }
    }
}

/// What becomes of a profile's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record is so from now on. Where it becomes suspended, that is since the recording.
    To {
        /// The profile.
        profile: ProfileKey,
        /// How it was recorded until now.
        from: Condition,
        /// How it is recorded from now on.
        to: Condition,
        /// The service plan that it moves to, where it does.
        plan: Option<PlanChange>,
        /// What was in doubt until now, and is not any more.
        settles: Doubt,
    },
    /// The network may differ from the record, which stays as it is at that moment. May follow a change of the
    /// same profile.
    InDoubt {
        /// The profile.
        profile: ProfileKey,
        /// In what, beside what is in doubt already.
        of: Doubt,
    },
    /// It was told that its suspension will end by itself.
    Noticed {
        /// The profile.
        profile: ProfileKey,
    },
}

/// A change of service plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    /// The plan until now.
    pub from: Option<Box<str>>,
    /// The plan from now on.
    pub to: Box<str>,
}

/// How often a profile was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Changes of its service state that a request asked for.
    pub actions: u32,
    /// Changes of its service plan.
    pub plans: u32,
}

/// What a batch of old history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryForgotten {
    /// How many rows went.
    pub rows: usize,
    /// Behind which profile the next batch begins; nothing where there are no more.
    pub next: Option<ProfileKey>,
}

/// Profiles that have old history, out of some in the order of their keys.
pub(crate) struct OldHistory {
    pub(crate) profiles: Vec<ProfileKey>,
    /// Behind which the next begin; nothing where there are no more.
    pub(crate) next: Option<ProfileKey>,
}

impl OldHistory {
    /// Out of up to `limit` profiles, each with the instant of its oldest change.
    pub(crate) fn of(found: Vec<(ProfileKey, Option<i64>)>, before: Timestamp, limit: usize) -> Self {
        let next = found.last().filter(|_| found.len() == limit).map(|(key, _)| *key);
        let is_old = |oldest_at: Option<i64>| oldest_at.is_some_and(|at| at < before.0);
        let profiles = found.into_iter().filter(|(_, oldest_at)| is_old(*oldest_at)).map(|(key, _)| key);
        Self { profiles: profiles.collect(), next }
    }

    /// Lets `delete` remove up to so many rows of each, until `limit` rows have gone; the next batch then
    /// begins with the profile that it came to.
    pub(crate) fn forget<E>(
        &self,
        limit: usize,
        mut delete: impl FnMut(ProfileKey, usize) -> std::result::Result<usize, E>,
    ) -> std::result::Result<HistoryForgotten, E> {
        let mut rows = 0;
        for profile in &self.profiles {
            rows += delete(*profile, limit - rows)?;
            if rows >= limit {
                return Ok(HistoryForgotten { rows, next: Some(ProfileKey(profile.0 - 1)) });
            }
        }
        Ok(HistoryForgotten { rows, next: self.next })
    }
}

/// What became of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is on disk.
    Now,
    /// The subrequest had ended before; nothing was changed.
    Before,
    /// Its guard did not hold any more: it is another process's, and has no outcome yet.
    Refused,
}

/// A request as it is shown.
#[derive(Clone, Debug)]
pub struct RequestView {
    /// What its subrequests share.
    pub head: Arc<RequestHead>,
    /// Who asked.
    pub user: Box<str>,
    /// When its last subrequest ended.
    pub ended_at: Option<Timestamp>,
    /// How many subrequests it has.
    pub subrequests: u32,
    /// How many have succeeded.
    pub succeeded: u32,
    /// How many have failed.
    pub failed: u32,
    /// How many have failed with which fault, by its name.
    pub faults: Vec<(Box<str>, u32)>,
    /// How many callbacks were delivered.
    pub callbacks_delivered: u32,
    /// How many callbacks were archived.
    pub callbacks_archived: u32,
}

impl RequestView {
    /// How many subrequests have no outcome yet.
    pub fn waiting(&self) -> u32 {
        self.subrequests - self.succeeded - self.failed
    }

    /// How many callbacks have neither been delivered nor archived.
    pub fn callbacks_waiting(&self) -> u32 {
        self.succeeded + self.failed - self.callbacks_delivered - self.callbacks_archived
    }
}

/// Which requests are shown.
#[derive(Clone, Debug)]
pub struct RequestFilter {
    /// Of this account.
    pub account: AccountName,
    /// Only those that have ended, or only those that have not.
    pub ended: Option<bool>,
    /// Older than this one.
    pub after: Option<RequestId>,
    /// At most so many.
    pub limit: usize,
}

/// Where a subrequest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubrequestState {
    /// Without outcome.
    Waiting,
    /// What was asked for is so.
    Succeeded,
    /// It is not.
    Failed,
}

/// Which subrequests are shown.
#[derive(Clone, Debug)]
pub struct SubrequestFilter {
    /// Of this request.
    pub request: RequestId,
    /// Only in this state.
    pub state: Option<SubrequestState>,
    /// Only with a fault of this name.
    pub fault: Option<Box<str>>,
    /// With higher numbers.
    pub after: u32,
    /// At most so many.
    pub limit: usize,
}

/// A subrequest as it is shown.
#[derive(Clone, Debug)]
pub struct SubrequestView {
    /// Its number.
    pub number: u32,
    /// What it is about, as it was named.
    pub subject: Subject,
    /// Where it is.
    pub state: SubrequestState,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What waits in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Subrequests without outcome.
    pub waiting: u64,
    /// Callbacks neither delivered nor archived.
    pub untold: u64,
}
