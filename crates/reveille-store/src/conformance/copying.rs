//! A store with something of everything, for whoever copies stores: before, the original; after, the copy.

use super::Place;
use super::house::{
    ALL, BEFORE_ALL, House, SUSPENDED, account, at, condition, delivered, exhausted, failed, failed_until,
    iccid, key, outcome, recording, row, subject, succeeded, told,
};
use crate::{
    Change, ClientDeclaration, Compared, Declaration, HistorySpan, KeptNotice, Listener, NewRequest,
    NewSubrequest, NoticeKey, Page, PageContent, PlanChange, ReplayScope, Seen, Session, SettlingCall,
    Target, UnsettledCall, UserDeclaration, Waiting, Warning,
};
use reveille_domain::{
    Action, Already, Condition, Doubt, Fault, Left, LeftAs, ListenerName, Network, ProfileState,
    ProfileStatus, RequestId, Role, Subject, Terms,
};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Such a store.
pub struct Furnished(House);

const ACTIVE: Condition =
    Condition { state: ProfileState::Active, status: ProfileStatus::Enable, fallback: false };
const DISABLED: Condition = Condition { status: ProfileStatus::Disable, ..ACTIVE };

/// The key under which secrets are kept.
const KEY: [u8; 32] = [7; 32];

impl Furnished {
    /// Furnishes an empty place, and closes it.
    ///
    /// # Panics
    /// Where the store does not take it.
    pub async fn original(place: Box<dyn Place>) -> Self {
        let house = House::at(place).await;
        directory(&house).await;
        house.import((1..=6).map(|number| row(1, number)).collect()).await.expect("a fleet");
        house.import(vec![row(2, 1)]).await.expect("a fleet");
        outcomes(&house).await;
        changes(&house).await;
        answers(&house).await;
        // The last is forgotten: its order number is not given again.
        let gone = house.resumed(2, [1], at(60)).await;
        house.deliver_all(&gone, at(61)).await;
        while house.forget(at(62), at(0), ALL).await.expect("forgotten") > 0 {}
        house.resuming(1, [5, 6]).await;
        let gone = house.resumed(2, [1], at(63)).await;
        house.deliver_all(&gone, at(64)).await;
        while house.forget(at(65), at(0), ALL).await.expect("forgotten") > 0 {}
        carriers(&house).await;
        Self(house.reopened().await)
    }

    /// The copy of an original.
    pub async fn copy(place: Box<dyn Place>) -> Self {
        Self(House::at(place).await)
    }

    /// Everything that the port shows.
    ///
    /// # Panics
    /// Where the store cannot be read.
    pub async fn everything(&self) -> String {
        let mut all = self.0.everything().await;
        for number in 1..=6 {
            let timeline = self.0.timeline(&iccid(1, number), BEFORE_ALL, ALL).await.expect("read");
            writeln!(all, "timeline: {timeline:?}").expect("a text can be written to");
        }
        let suspended = self.0.suspended(at(1_000), None, ALL).await.expect("read");
        writeln!(all, "suspended: {suspended:?}").expect("a text can be written to");
        all
    }

    /// What waits ends and is told, and what is new stands behind all that was there.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn goes_on(&self) {
        let house = &self.0;
        assert!(house.takes_key(KEY).await.expect("read"), "it has the original's key");
        assert!(!house.takes_key([8; 32]).await.expect("read"));
        for id in running(house).await {
            for waits in house.waiting_of(id, 0, ALL).await.expect("read") {
                let ended = failed(&waits, at(100), Fault::Already(Already::Resumed));
                house.record(vec![ended]).await.expect("recorded");
            }
        }
        let before = house.last_sequence().await.expect("read");
        let known = house.history(&iccid(1, 1), ALL).await.expect("read");
        let request = NewRequest { id: RequestId::from_random(1 << 120), ..house.request_for(1, [1]).await };
        let head = house.accepted(request).await;
        assert_eq!(head.sequence, before + 1, "order goes on behind the highest ever given");
        let waits = house.waits(&head).await;
        change(house, &waits[0], 101, DISABLED, condition(SUSPENDED), None).await;
        let history = house.history(&iccid(1, 1), ALL).await.expect("read");
        assert_eq!((&history[..known.len()], history.len()), (&known[..], known.len() + 1), "it is the last");
        house.import(vec![row(1, 7)]).await.expect("new keys are free");
        let client = |key: &str| ClientDeclaration { key: key.into(), secret_digest: [9; 32], given: true };
        let declaration = Declaration { clients: vec![client("another-key")], ..Declaration::default() };
        assert_eq!(house.apply(declaration, at(102)).await.expect("applied").clients_new.len(), 1);
        let of = |owner, listener| crate::CallbackFilter {
            listener,
            ..super::house::callbacks_of(&account(owner))
        };
        let noc = "noc".parse().expect("a name");
        for whose in [of(1, ListenerName::OWN), of(1, noc), of(2, ListenerName::OWN)] {
            let callbacks = house.callbacks(whose).await.expect("read");
            let untold = callbacks.iter().filter(|view| view.ended_at.is_none());
            let marks = untold.map(|view| super::house::mark(&view.callback, at(110), delivered()));
            house.mark(marks.collect()).await.expect("marked");
        }
        let backlog = house.backlog().await.expect("read");
        assert_eq!((backlog.waiting, backlog.untold), (0, 0), "the sums were right");
        while house.forget(at(999), at(999), ALL).await.expect("forgotten") > 0 {}
    }
}

async fn running(house: &House) -> Vec<RequestId> {
    let mut ids = Vec::new();
    for owner in [account(1), account(2)] {
        let views = house.requests(super::house::requests_of(&owner)).await.expect("read");
        ids.extend(views.iter().filter(|view| view.ended_at.is_none()).map(|view| view.head.id));
    }
    ids
}

async fn carriers(house: &House) {
    let key = NoticeKey { name: "theirs".into(), iccid: iccid(1, 1) };
    house.keep_notices(vec![KeptNotice { key, text: "done".into(), heard_at: at(66) }]).await.expect("kept");
    let (account, network, iccid) = (account(1), Network::Global, iccid(1, 1));
    let compared = Compared { account, network, iccid, seen: Some(Seen::NoSuchProfile) };
    house.note_compared(vec![compared], at(66)).await.expect("noted");
    house.begin_comparing(network, at(66), at(67), Duration::ZERO).await.expect("begun");
    house.begin_login("a login", "a digest", 3, at(66), at(67)).await.expect("begun");
}

async fn directory(house: &House) {
    let client = |key: &str| ClientDeclaration { key: key.into(), secret_digest: [1; 32], given: true };
    let user = UserDeclaration {
        name: "demo".into(),
        password_hash: "hash".into(),
        operator: Some(true),
        accounts: vec![account(1), account(2)],
    };
    let declaration = Declaration {
        accounts: vec![account(1), account(2)],
        service_plans: vec![(account(1), Network::Global, "Plan \\ \"ü\"".into())],
        listeners: Vec::new(),
        clients: vec![client("demo-key"), client("other-key")],
        users: vec![user],
    };
    house.apply(declaration, at(1)).await.expect("applied");
    house.issue_token(1, at(2), at(0)).await.expect("issued");
    house.revoke_token(1).await.expect("revoked");
    let session = Session {
        token_digest: [1; 32],
        user: "demo".into(),
        client: 2,
        last_used_at: at(3),
        ended_at: None,
    };
    house.open_session(session).await.expect("opened");
    house.login_failed("demo", at(4), 1).await.expect("counted");
    let listener = Listener {
        name: ListenerName::OWN,
        service: "DeviceProfileService".into(),
        url: "https://fleet.example/callbacks".into(),
        username: Some("fleet".into()),
        password: Some([0, 1, 255].into()),
        registered_at: at(5),
    };
    house.register(&account(1), listener.clone()).await.expect("registered");
    let further = Listener { name: "noc".parse().expect("a name"), ..listener };
    house.register(&account(1), further).await.expect("registered");
    house.set_hold(Network::Global, Some(at(6))).await.expect("held");
    assert!(house.takes_key(KEY).await.expect("written"));
}

/// Requests that were told, tried, archived, replayed, refused, warned of and cancelled.
async fn outcomes(house: &House) {
    let request = NewRequest { key: key("a key", 3), ..house.request_for(1, [4, 5, 6]).await };
    let head = house.accepted(request).await;
    let waits = house.waits(&head).await;
    let call = |ordinal: u32, seconds| UnsettledCall {
        position: waits[0].position(),
        account: account(1),
        ordinal,
        began_at: at(seconds),
        ended_at: at(seconds + 1),
        reply: "unknown",
    };
    house.note_calls(vec![call(1, 11), call(2, 13)]).await.expect("noted");
    let Waiting { request, number, subject, .. } = &waits[0];
    let slow = told(subject, Ok(Left::Waiting));
    let warning = Warning { request: Arc::clone(request), number: *number, at: at(14), told: slow };
    house.warn(vec![warning]).await.expect("written");
    let settling = SettlingCall { ordinal: 3, began_at: at(15), reply: "already_so" };
    let first = crate::Recording { call: Some(settling), ..succeeded(&waits[0], at(16)) };
    let second = failed(&waits[1], at(17), Fault::Already(Already::Resumed));
    house.record(vec![first, second, succeeded(&waits[2], at(18))]).await.expect("recorded");
    house.marked(&head, 1, at(20), failed_until(at(21))).await;
    house.marked(&head, 1, at(22), exhausted()).await;
    house.marked(&head, 2, at(22), delivered()).await;
    let one = ReplayScope::One(outcome(&head, 1));
    house.replay(one, at(23), ALL).await.expect("replayed");
    let head = house.resuming(1, [4, 99]).await;
    house.cancel(head.id, at(24)).await.expect("cancelled");
}

/// A change of a profile, by a request of its own.
async fn change(
    house: &House,
    waits: &Waiting,
    seconds: i64,
    from: Condition,
    to: Condition,
    plan: Option<PlanChange>,
) {
    let target = waits.target.as_ref().ok().and_then(Target::profile).expect("a profile");
    let left = Left::Profile(LeftAs { state: to.state, status: to.status, role: Role::Lead });
    let to = Change::To { profile: target.profile, from, to, plan, settles: Doubt::NONE };
    house.record(vec![recording(waits, at(seconds), Ok(left), vec![to])]).await.expect("recorded");
}

/// A history that says status and fallback in some of its rows alone, of two profiles in turns.
async fn changes(house: &House) {
    let fallback = Condition { fallback: true, ..DISABLED };
    let by_profile = Condition { state: SUSPENDED, ..fallback };
    let path = [condition(SUSPENDED), ACTIVE, DISABLED, fallback, by_profile, fallback, DISABLED];
    for (seconds, pair) in (30..).zip(path.windows(2)) {
        for number in [1, 2] {
            let waits = house.waits_of(house.resuming(1, [number]).await).await;
            let plan = (seconds == 32).then(|| PlanChange { from: None, to: "Plan B".into() });
            change(house, &waits[0], seconds, pair[0], pair[1], plan).await;
        }
    }
    let waits = house.waits_of(house.resuming(1, [2]).await).await;
    house.record(vec![failed(&waits[0], at(40), Fault::DeviceNotFound)]).await.expect("recorded");
    let waits = house.waits_of(house.resuming(1, [2]).await).await;
    let profile = waits[0].target.as_ref().ok().and_then(Target::profile).expect("a profile").profile;
    let doubt = vec![Change::InDoubt { profile, of: Doubt::SERVICE }];
    let given_up = recording(&waits[0], at(41), Err(Fault::Unsettled), doubt);
    house.record(vec![given_up]).await.expect("recorded");
    let waits = house.waits_of(house.resuming(1, [3]).await).await;
    change(house, &waits[0], 42, condition(SUSPENDED), ACTIVE, None).await;
    let waits = house.waits_of(house.resuming(1, [3]).await).await;
    change(house, &waits[0], 43, ACTIVE, condition(SUSPENDED), None).await;
}

/// Pages of lists and histories, one of them answered; and terms.
async fn answers(house: &House) {
    let targets = house.resolve(&account(1), vec![iccid(1, 1), iccid(1, 2)]).await.expect("read");
    let keys: Arc<[_]> = targets.into_iter().flatten().map(|target| target.profile).collect();
    let span = HistorySpan { from: at(1), until: at(99), after: BEFORE_ALL, limit: 7 };
    let contents = [
        PageContent::Profiles(Arc::clone(&keys)),
        PageContent::History { profile: keys[0], span },
        PageContent::Profiles(Arc::new([])),
    ];
    let page =
        |content| NewSubrequest { subject: Subject::Page, target: Ok(Target::Page(Page { of: 3, content })) };
    let request = NewRequest {
        action: Action::DeviceList,
        service_plan: None,
        terms: Terms { mdn_zip_code: Some("98801".into()), etf_waiver: true, ..Terms::default() },
        subrequests: contents.map(page).into(),
        ..house.request_for(1, []).await
    };
    let head = house.accepted(request).await;
    let waits = house.waits(&head).await;
    let text = "{\"says\":\"a \\\\ and a \u{1F4F6}\"}";
    let ended = recording(&waits[0], at(50), Ok(Left::Document(text.into())), Vec::new());
    house.record(vec![ended]).await.expect("recorded");
    let unknown = NewSubrequest { subject: subject(1, 99), target: Err(Fault::DeviceNotFound) };
    let request = NewRequest { subrequests: vec![unknown].into(), ..house.request_for(2, []).await };
    house.accepted(request).await;
}
