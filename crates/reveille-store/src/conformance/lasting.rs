//! What lasts: every write is there when the store is opened again, and none is lost among many at once.

use super::Bench;
use super::house::{
    ALL, House, UNLIMITED, account, at, delivered, failed_until, key, mark, outcome, outcome_of, outlet, row,
    succeeded,
};
use crate::{
    Acceptance, Backlog, ClientDeclaration, Declaration, Listener, NewRequest, Recorded, ReplayScope,
    RequestView, Session, Store, UserDeclaration,
};
use reveille_domain::{ListenerName, Network, RequestId};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Closes and opens the store: everything is as it was, and something is not as it was before.
async fn lasts(house: House, changed_since: &mut String, what: &str) -> House {
    let before = house.everything().await;
    assert_ne!(before, *changed_since, "{what} is seen");
    let house = house.reopened().await;
    assert_eq!(house.everything().await, before, "{what} lasts");
    *changed_since = before;
    house
}

/// Requests, outcomes, ends of attempts, replays and what was forgotten outlast a restart.
pub async fn what_requests_write_outlasts_a_restart(bench: &dyn Bench) {
    let mut house = House::with_fleet(bench, 3).await;
    let mut before = String::new();
    house = lasts(house, &mut before, "an import").await;
    let request = NewRequest { key: key("lasting", 1), ..house.request_for(1, [1, 2, 99]).await };
    let head = house.accepted(request.clone()).await;
    house = lasts(house, &mut before, "an accepted request").await;
    let again = NewRequest { id: house.new_id(), ..request };
    let answer = house.accept(again, UNLIMITED).await.expect("answered");
    assert_eq!(answer, Acceptance::Repeated { request: head.id }, "its key lasts");
    house.record(vec![succeeded(&house.waits(&head).await[0], at(20))]).await.expect("recorded");
    house = lasts(house, &mut before, "an outcome").await;
    house.cancel(head.id, at(21)).await.expect("cancelled");
    house = lasts(house, &mut before, "a cancellation").await;
    house.marked(&head, 1, at(22), failed_until(at(30))).await;
    house = lasts(house, &mut before, "a failed attempt").await;
    house.end(&head, at(25)).await;
    house.deliver_all(&head, at(31)).await;
    house = lasts(house, &mut before, "a delivery").await;
    let one = ReplayScope::One(outcome(&head, 1));
    house.replay(one, at(40), ALL).await.expect("replayed");
    house = lasts(house, &mut before, "a replay").await;
    house.deliver_all(&head, at(41)).await;
    while house.forget(at(99), at(99), ALL).await.expect("forgotten") > 0 {}
    lasts(house, &mut before, "forgetting").await;
}

/// Accounts, clients, users, sessions, listeners and holds outlast a restart.
pub async fn what_the_directory_writes_outlasts_a_restart(bench: &dyn Bench) {
    let mut house = House::empty(bench).await;
    let mut before = String::new();
    house.apply(declaration(), at(1)).await.expect("applied");
    house = lasts(house, &mut before, "a declaration").await;
    let client = house.client("demo-key").await.expect("read").expect("a client of that key").number;
    house.issue_token(client, at(2), at(0)).await.expect("issued");
    house = lasts(house, &mut before, "a token").await;
    house.revoke_token(client).await.expect("revoked");
    house = lasts(house, &mut before, "a revocation").await;
    let session =
        Session { token_digest: [1; 32], user: "demo".into(), client, last_used_at: at(3), ended_at: None };
    house.open_session(session).await.expect("opened");
    house = lasts(house, &mut before, "a session").await;
    house.touch_sessions(vec![([1; 32], at(4))]).await.expect("noted");
    house = lasts(house, &mut before, "a use").await;
    house.end_session([1; 32], at(5)).await.expect("ended");
    house = lasts(house, &mut before, "the end of a session").await;
    house.login_failed("demo", at(6), 1).await.expect("counted");
    house = lasts(house, &mut before, "a lock").await;
    house.unlock("demo").await.expect("unlocked");
    house = lasts(house, &mut before, "an unlocking").await;
    house.set_password("demo", "reset".into()).await.expect("set");
    house = lasts(house, &mut before, "a password").await;
    house.register(&account(1), listener()).await.expect("registered");
    house = lasts(house, &mut before, "a listener").await;
    house.deregister(&account(1), "DeviceProfileService", ListenerName::OWN).await.expect("removed");
    house = lasts(house, &mut before, "its removal").await;
    house.set_hold(Network::Global, Some(at(7))).await.expect("held");
    house = lasts(house, &mut before, "a hold").await;
    house.set_hold(Network::Global, None).await.expect("released");
    lasts(house, &mut before, "a release").await;
}

fn declaration() -> Declaration {
    let user = UserDeclaration {
        name: "demo".into(),
        password_hash: "initial".into(),
        operator: Some(true),
        accounts: vec![account(1)],
    };
    Declaration {
        accounts: vec![account(1)],
        service_plans: vec![(account(1), Network::Global, "Global 5MB".into())],
        listeners: Vec::new(),
        clients: vec![ClientDeclaration { key: "demo-key".into(), secret_digest: [1; 32], given: true }],
        users: vec![user],
    }
}

fn listener() -> Listener {
    Listener {
        name: ListenerName::OWN,
        service: "DeviceProfileService".into(),
        url: "https://fleet.example/callbacks".into(),
        username: Some("fleet".into()),
        password: Some([1, 2, 3].into()),
        registered_at: at(6),
    }
}

/// How many tasks write at once.
const TASKS: u32 = 64;

/// How many subrequests each of their requests has.
const EACH: u32 = 5;

/// Many tasks accept, record and deliver at once: every request ends, every callback is told, all counts add
/// up, and a restart finds the same.
pub async fn many_at_once_lose_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 0).await;
    let rows = (1..=TASKS * EACH).map(|number| row(1, number)).collect();
    house.import(rows).await.expect("imported");
    let mut tasks = JoinSet::new();
    let mut ids = Vec::new();
    for task in 0..TASKS {
        let request = house.request_for(1, task * EACH + 1..=(task + 1) * EACH).await;
        ids.push(request.id);
        tasks.spawn(resume_and_deliver(house.shared(), request, task % 2 == 0));
    }
    tasks.join_all().await;
    let delivering = u64::from(TASKS / 2 * EACH);
    let expected = Backlog { waiting: 0, untold: delivering };
    assert_eq!(house.backlog().await.expect("read"), expected);
    assert!(house.last_sequence().await.expect("read") >= i64::from(TASKS));
    let house = house.reopened().await;
    assert_eq!(house.backlog().await.expect("read"), expected);
    for id in ids {
        assert_counts_add_up(&house, id).await;
    }
    assert!(house.lanes().await.expect("read").is_empty());
    let due = house.due(&outlet(1), at(999), ALL).await.expect("read");
    assert_eq!(u64::try_from(due.len()).expect("a small number"), delivering);
}

async fn resume_and_deliver(store: Arc<dyn Store>, request: NewRequest, deliver: bool) {
    let id = request.id;
    let acceptance = store.accept(request, UNLIMITED).await.expect("accepted");
    assert!(matches!(acceptance, Acceptance::Accepted { .. }), "{acceptance:?}");
    for waits in store.waiting_of(id, 0, ALL).await.expect("read") {
        let (first, again) = (succeeded(&waits, at(20)), succeeded(&waits, at(21)));
        let (one, two) = tokio::join!(store.record(vec![first]), store.record(vec![again]));
        let mut recorded = [one.expect("recorded").each, two.expect("recorded").each].concat();
        recorded.sort_by_key(|recorded| *recorded == Recorded::Before);
        assert_eq!(recorded, [Recorded::Now, Recorded::Before]);
        let (view, _) =
            store.callback(outcome_of(id, waits.number)).await.expect("read").expect("a callback");
        if deliver {
            store.mark(vec![mark(&view.callback, at(30), delivered())]).await.expect("marked");
        }
    }
}

async fn assert_counts_add_up(house: &House, id: RequestId) {
    let view: RequestView = house.view(id).await;
    assert_eq!((view.subrequests, view.succeeded, view.failed), (EACH, EACH, 0));
    assert!(view.ended_at.is_some());
    assert_eq!(view.callbacks_delivered + view.callbacks_waiting(), EACH);
    assert_eq!(house.waits(&view.head).await.len(), 0);
}
