//! A furnished store for the suite: accounts, fleets, requests, outcomes and marks, made in one line each.

use super::{Bench, Place};
use crate::{
    AcceptLimits, Acceptance, AttemptResult, AttemptView, Callback, CallbackFilter, CallbackName,
    CallbackView, Change, Declaration, FleetRow, IdempotencyKey, Lane, Mark, NewRequest, NewSubrequest,
    Outlet, ProfileFilter, Recorded, Recording, RequestFilter, RequestHead, RequestView, Store,
    SubrequestFilter, Target, Tells, Waiting,
};
use reveille_domain::{
    AccountName, Action, Condition, Doubt, Fault, Iccid, Left, LeftAs, ListenerName, Network, Position,
    ProfileState, ProfileStatus, RequestId, Role, Service, Subject, SuspendedBy, Terms, Timestamp, Told,
};
use std::fmt::{Debug, Write};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More than any part of the suite writes: a page of this size is the whole.
pub(super) const ALL: usize = 10_000;

/// Limits that nothing reaches.
pub(super) const UNLIMITED: AcceptLimits =
    AcceptLimits { waiting_per_account: 1_000_000, waiting_in_all: 1_000_000 };

/// Suspended, as every profile of the suite is in the beginning.
pub(super) const SUSPENDED: ProfileState = ProfileState::Suspended(SuspendedBy::Profile);

/// Whoever asks.
pub(super) const USER: &str = "demo";

/// A store under test. Its methods are the port's own, and those that furnish it.
pub(super) struct House {
    place: Box<dyn Place>,
    store: Arc<dyn Store>,
    next_id: AtomicU64,
}

impl Deref for House {
    type Target = dyn Store;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl House {
    /// Nothing in it.
    pub(super) async fn empty(bench: &dyn Bench) -> Self {
        Self::at(bench.empty_place().await).await
    }

    /// What is kept in a place.
    pub(super) async fn at(place: Box<dyn Place>) -> Self {
        let store = place.open().await;
        Self { place, store, next_id: AtomicU64::new(1) }
    }

    /// Accounts 1 and 2 with profiles 1 to `profiles`, all suspended, each on an eUICC of its own; those with
    /// odd numbers on `verizon-us`, the others on `global`.
    pub(super) async fn with_fleet(bench: &dyn Bench, profiles: u32) -> Self {
        let house = Self::empty(bench).await;
        let accounts = vec![account(1), account(2)];
        house.apply(Declaration { accounts, ..Declaration::default() }, at(0)).await.expect("accounts");
        for owner in [1, 2] {
            let rows = (1..=profiles).map(|number| row(owner, number)).collect();
            house.import(rows).await.expect("a fleet");
        }
        house
    }

    /// Closes the store and opens it again.
    pub(super) async fn reopened(self) -> Self {
        let Self { place, store, next_id } = self;
        store.close();
        drop(store);
        let store = place.open().await;
        Self { place, store, next_id }
    }

    /// The same place opened once more, beside this: another process on it.
    pub(super) async fn opened_again(&self) -> Arc<dyn Store> {
        self.place.open().await
    }

    /// The store, for a task of its own.
    pub(super) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// A request of an account for those of its profiles, accepted at second 10.
    pub(super) async fn request_for(&self, owner: u32, numbers: impl IntoIterator<Item = u32>) -> NewRequest {
        let iccids: Vec<Iccid> = numbers.into_iter().map(|number| iccid(owner, number)).collect();
        let found = self.resolve(&account(owner), iccids.clone()).await.expect("resolved");
        let subrequests = iccids
            .into_iter()
            .zip(found)
            .map(|(iccid, found)| NewSubrequest {
                subject: Subject::Profile(iccid),
                target: found.map(Target::Profile).ok_or(Fault::DeviceNotFound),
            })
            .collect();
        NewRequest {
            id: self.new_id(),
            account: account(owner),
            action: Action::ProfileResume,
            service_plan: Some("Verizon IoT 5MB".into()),
            terms: Terms::default(),
            user: USER.into(),
            accepted_at: at(10),
            key: None,
            subrequests,
        }
    }

    /// A request id that was not there before.
    pub(super) fn new_id(&self) -> RequestId {
        RequestId::from_random(u128::from(self.next_id.fetch_add(1, Ordering::Relaxed)) << 80)
    }

    /// Accepts a request, which is not refused.
    pub(super) async fn accepted(&self, request: NewRequest) -> Arc<RequestHead> {
        let id = request.id;
        let acceptance = self.accept(request, UNLIMITED).await.expect("accepted");
        assert!(matches!(acceptance, Acceptance::Accepted { .. }), "{acceptance:?}");
        self.view(id).await.head
    }

    /// Accepts a request for those profiles.
    pub(super) async fn resuming(
        &self,
        owner: u32,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Arc<RequestHead> {
        self.accepted(self.request_for(owner, numbers).await).await
    }

    /// A request whose subrequests have all succeeded at `ended_at`.
    pub(super) async fn resumed(
        &self,
        owner: u32,
        numbers: impl IntoIterator<Item = u32>,
        ended_at: Timestamp,
    ) -> Arc<RequestHead> {
        let head = self.resuming(owner, numbers).await;
        self.end(&head, ended_at).await;
        head
    }

    /// Records success for whatever waits of a request.
    pub(super) async fn end(&self, head: &RequestHead, ended_at: Timestamp) {
        let waiting = self.waits(head).await;
        let recordings: Vec<Recording> = waiting.iter().map(|waiting| succeeded(waiting, ended_at)).collect();
        let expected = vec![Recorded::Now; recordings.len()];
        assert_eq!(self.record(recordings).await.expect("recorded").each, expected);
    }

    /// What waits of a request.
    pub(super) async fn waits(&self, head: &RequestHead) -> Vec<Waiting> {
        self.waiting_of(head.id, 0, ALL).await.expect("what waits of a request")
    }

    /// Likewise, of one that was just accepted.
    pub(super) async fn waits_of(&self, head: Arc<RequestHead>) -> Vec<Waiting> {
        self.waits(&head).await
    }

    /// A request that is there.
    pub(super) async fn view(&self, id: RequestId) -> RequestView {
        self.request(id).await.expect("read").expect("a request of that id")
    }

    /// A callback that is there, with its attempts.
    pub(super) async fn told(&self, head: &RequestHead, number: u32) -> (CallbackView, Vec<AttemptView>) {
        self.callback(outcome(head, number)).await.expect("read").expect("a callback of that number")
    }

    /// Marks the attempt of a callback that is under way.
    pub(super) async fn marked(&self, head: &RequestHead, number: u32, ended: Timestamp, how: AttemptResult) {
        let (view, _) = self.told(head, number).await;
        self.mark(vec![mark(&view.callback, ended, how)]).await.expect("marked");
    }

    /// Delivers every callback of a request at `ended_at`.
    pub(super) async fn deliver_all(&self, head: &RequestHead, ended_at: Timestamp) {
        let filter = CallbackFilter { request: Some(head.id), ..callbacks_of(&head.account) };
        let views = self.callbacks(filter).await.expect("callbacks");
        let marks = views.iter().map(|view| mark(&view.callback, ended_at, delivered())).collect();
        self.mark(marks).await.expect("marked");
    }

    /// Everything that the port shows, as text: two of them are the same where nothing has changed between.
    pub(super) async fn everything(&self) -> String {
        let mut all = String::new();
        note(&mut all, "last", self.last_sequence().await.expect("read"));
        note(&mut all, "backlog", self.backlog().await.expect("read"));
        note(&mut all, "lanes", self.lanes().await.expect("read"));
        note(&mut all, "untold", self.untold().await.expect("read"));
        for owner in 1..=3 {
            self.note_account(&mut all, &account(owner)).await;
        }
        self.note_fleet(&mut all).await;
        self.note_callers(&mut all).await;
        all
    }

    /// Likewise, without profiles and order numbers: what a request leaves nothing of once it is forgotten.
    pub(super) async fn everything_but_history(&self) -> String {
        let all = self.everything().await;
        let kept = |line: &&str| !line.starts_with("profile: ") && !line.starts_with("last: ");
        all.lines().filter(kept).collect::<Vec<_>>().join("\n")
    }

    async fn note_account(&self, all: &mut String, owner: &AccountName) {
        note(all, "account", (owner, self.account_exists(owner).await.expect("read")));
        note(all, "plans", self.service_plans(owner).await.expect("read"));
        note(all, "listeners", self.listeners(owner).await.expect("read"));
        for lane in LANES {
            note(all, "waiting", self.waiting(owner, lane, BEFORE_ALL, ALL).await.expect("read"));
        }
        for view in self.requests(requests_of(owner)).await.expect("read") {
            note(all, "subrequests", self.subrequests(subrequests_of(view.head.id)).await.expect("read"));
            note(all, "request", view);
        }
        for view in self.callbacks(callbacks_of(owner)).await.expect("read") {
            note(all, "callback", self.told(&view.callback.request, view.callback.number).await);
        }
        for service in Service::ALL {
            let outlet = Outlet { account: owner.clone(), service, listener: ListenerName::OWN };
            note(all, "due", self.due(&outlet, Timestamp(i64::MAX), ALL).await.expect("read"));
        }
        for kept in self.listeners(owner).await.expect("read").iter().filter(|kept| !kept.name.is_own()) {
            let filter = CallbackFilter { listener: kept.name, ..callbacks_of(owner) };
            for view in self.callbacks(filter).await.expect("read") {
                note(all, "callback", self.callback(view.callback.name()).await.expect("read"));
            }
        }
    }

    async fn note_fleet(&self, all: &mut String) {
        let whole = ProfileFilter { limit: ALL, ..ProfileFilter::default() };
        for owned in self.fleet(whole).await.expect("read") {
            let history = self.history(&owned.profile.iccid, ALL).await.expect("read");
            note(all, "profile", (owned, history));
        }
    }

    async fn note_callers(&self, all: &mut String) {
        for (name, _) in self.users().await.expect("read") {
            note(all, "user", self.user(&name).await.expect("read"));
        }
        for number in 1..=4 {
            note(all, "client", self.client_numbered(number).await.expect("read"));
        }
        for number in 1..=4 {
            note(all, "session", self.session([number; 32]).await.expect("read"));
        }
        note(all, "holds", self.holds().await.expect("read"));
    }
}

/// Every lane there is.
pub(super) const LANES: [Lane; 3] =
    [Lane::Network(Network::VerizonUs), Lane::Network(Network::Global), Lane::Here];

/// Nothing stands before it.
pub(super) const BEFORE_ALL: Position = Position { sequence: 0, number: 0 };

fn note(all: &mut String, what: &str, value: impl Debug) {
    writeln!(all, "{what}: {value:?}").expect("a text can be written to");
}

/// So many seconds after the suite began.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

fn parsed<T: std::str::FromStr<Err = reveille_domain::InvalidIdentifier>>(text: &str) -> T {
    text.parse().expect("an identifier of the suite is well formed")
}

pub(super) fn account(number: u32) -> AccountName {
    parsed(&format!("0000123456-{number:05}"))
}

pub(super) fn iccid(owner: u32, number: u32) -> Iccid {
    parsed(&format!("8914{owner:05}{number:010}"))
}

pub(super) fn iccids(owner: u32, numbers: impl IntoIterator<Item = u32>) -> Vec<Iccid> {
    numbers.into_iter().map(|number| iccid(owner, number)).collect()
}

/// The line of a fleet file for an account's profile of that number.
pub(super) fn row(owner: u32, number: u32) -> FleetRow {
    let (network, role) =
        if number % 2 == 1 { (Network::VerizonUs, Role::Lead) } else { (Network::Global, Role::Local) };
    FleetRow {
        line: u64::from(number),
        account: account(owner),
        eid: parsed(&format!("8904{owner:05}{number:023}")),
        imei: Some(parsed(&format!("35{owner:04}{number:08}"))),
        iccid: iccid(owner, number),
        msisdn: Some(parsed(&format!("1{owner:04}{number:06}"))),
        imsi: Some(parsed(&format!("311480{owner:03}{number:06}"))),
        network,
        role,
        state: SUSPENDED,
        status: ProfileStatus::Enable,
        service_plan: None,
    }
}

/// A key that counts for the suite's whole time.
pub(super) fn key(key: &str, digest: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.into(), digest: [digest; 32], since: at(0) })
}

/// What a callback says of a subrequest. Identifiers that no inventory has: they are kept as told.
pub(super) fn told(subject: &Subject, result: Result<Left, Fault>) -> Told {
    Told {
        subject: subject.clone(),
        eid: Some(parsed("89049032000001000000000000004711")),
        imei: Some(parsed("990000862471854")),
        msisdn: Some(parsed("15551234567")),
        result,
    }
}

/// How a resume leaves a profile of the suite.
pub(super) const ACTIVE: LeftAs =
    LeftAs { state: ProfileState::Active, status: ProfileStatus::Enable, role: Role::Lead };

/// A profile of the suite in that state: enabled, and no fallback.
pub(super) fn condition(state: ProfileState) -> Condition {
    Condition { state, status: ProfileStatus::Enable, fallback: false }
}

/// The outlet of an account's outcomes.
pub(super) fn outlet(number: u32) -> Outlet {
    Outlet { account: account(number), service: Service::DeviceProfile, listener: ListenerName::OWN }
}

/// The callback that tells a subrequest's outcome.
pub(super) fn outcome(head: &RequestHead, number: u32) -> CallbackName {
    outcome_of(head.id, number)
}

/// Likewise.
pub(super) fn outcome_of(request: RequestId, number: u32) -> CallbackName {
    CallbackName { request, number, tells: Tells::Outcome, listener: ListenerName::OWN }
}

/// What a subrequest about a profile is about.
pub(super) fn subject(owner: u32, number: u32) -> Subject {
    Subject::Profile(iccid(owner, number))
}

/// Its profile is in service again.
pub(super) fn succeeded(waiting: &Waiting, ended_at: Timestamp) -> Recording {
    let profile = waiting.target.as_ref().ok().and_then(Target::profile);
    let change = profile.map(|target| Change::To {
        profile: target.profile,
        from: condition(SUSPENDED),
        to: condition(ProfileState::Active),
        plan: None,
        settles: Doubt::SERVICE,
    });
    recording(waiting, ended_at, Ok(Left::Profile(ACTIVE)), change.into_iter().collect())
}

/// It failed, and its profile is as it was.
pub(super) fn failed(waiting: &Waiting, ended_at: Timestamp, fault: Fault) -> Recording {
    recording(waiting, ended_at, Err(fault), Vec::new())
}

/// An outcome of a waiting subrequest.
pub(super) fn recording(
    waiting: &Waiting,
    ended_at: Timestamp,
    result: Result<Left, Fault>,
    changes: Vec<Change>,
) -> Recording {
    Recording {
        request: Arc::clone(&waiting.request),
        number: waiting.number,
        at: ended_at,
        told: told(&waiting.subject, result),
        changes,
        call: None,
        guard: crate::Guard::Free,
    }
}

/// The end of the attempt of a callback that is under way.
pub(super) fn mark(callback: &Callback, ended_at: Timestamp, result: AttemptResult) -> Mark {
    let attempted = result != AttemptResult::NoListener;
    Mark {
        request: callback.request.id,
        key: callback.key(),
        outlet: callback.outlet(),
        series: callback.series,
        ordinal: if attempted { callback.attempts + 1 } else { 0 },
        at: ended_at,
        result,
    }
}

pub(super) fn delivered() -> AttemptResult {
    AttemptResult::Delivered { status: 204 }
}

pub(super) fn failed_until(next_at: Timestamp) -> AttemptResult {
    AttemptResult::Failed { status: Some(503), error: None, next_at }
}

pub(super) fn exhausted() -> AttemptResult {
    AttemptResult::Exhausted { status: None, error: Some("timed out".into()) }
}

/// All requests of an account.
pub(super) fn requests_of(owner: &AccountName) -> RequestFilter {
    RequestFilter { account: owner.clone(), ended: None, after: None, limit: ALL }
}

/// All subrequests of a request.
pub(super) fn subrequests_of(request: RequestId) -> SubrequestFilter {
    SubrequestFilter { request, state: None, fault: None, after: 0, limit: ALL }
}

/// All callbacks of an account.
pub(super) fn callbacks_of(owner: &AccountName) -> CallbackFilter {
    CallbackFilter {
        account: owner.clone(),
        listener: ListenerName::OWN,
        request: None,
        state: None,
        after: None,
        limit: ALL,
    }
}
