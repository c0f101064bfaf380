//! Further listeners: told what the service's own listener is told, each with callbacks of its own.

use super::Bench;
use super::answering::warning;
use super::house::{
    ALL, House, account, at, callbacks_of, delivered, exhausted, failed_until, mark, outcome, outlet,
    succeeded,
};
use crate::{
    ArchiveReason, AttemptResult, CallbackFilter, CallbackName, CallbackState, CallbackView, Listener,
    NewRequest, Outlet, Recorded, ReplayScope, RequestHead,
};
use reveille_domain::{Action, ListenerName, Position, Service, Timestamp};

fn name(text: &str) -> ListenerName {
    text.parse().expect("a name")
}

fn listener(service: Service, named: &str) -> Listener {
    Listener {
        service: service.name().into(),
        name: name(named),
        url: format!("https://{named}.example/").into(),
        username: Some("user".into()),
        password: None,
        registered_at: at(1),
    }
}

/// The outlet of account 1's further listener of that name.
fn further(named: &str) -> Outlet {
    Outlet { listener: name(named), ..outlet(1) }
}

async fn with_listeners(bench: &dyn Bench, profiles: u32, names: &[&str]) -> House {
    let house = House::with_fleet(bench, profiles).await;
    for named in names {
        house.register(&account(1), listener(Service::DeviceProfile, named)).await.expect("registered");
    }
    house
}

async fn numbers_due(house: &House, outlet: &Outlet) -> Vec<u32> {
    let due = house.due(outlet, at(99), ALL).await.expect("read");
    due.iter().map(|callback| callback.number).collect()
}

/// Marks the attempt of a further listener's only callback that is due.
async fn marked(house: &House, named: &str, ended_at: Timestamp, how: AttemptResult) {
    let due = house.due(&further(named), ended_at, ALL).await.expect("read");
    assert_eq!(due.len(), 1, "one is due for {named}");
    house.mark(vec![mark(&due[0], ended_at, how)]).await.expect("marked");
}

async fn untold(house: &House) -> Vec<Outlet> {
    let mut untold = house.untold().await.expect("read");
    untold.sort();
    untold.into_iter().map(|(outlet, _)| outlet).collect()
}

async fn listed(house: &House, filter: CallbackFilter) -> Vec<CallbackView> {
    house.callbacks(filter).await.expect("read")
}

fn for_listener(named: &str) -> CallbackFilter {
    CallbackFilter { listener: name(named), ..callbacks_of(&account(1)) }
}

fn told_to(head: &RequestHead, number: u32, named: &str) -> CallbackName {
    CallbackName { listener: name(named), ..outcome(head, number) }
}

/// Each further listener has a callback of its own for each outcome, which its request does not count.
pub async fn further_listeners_are_told_too(bench: &dyn Bench) {
    let house = with_listeners(bench, 2, &["noc", "erp"]).await;
    let head = house.resuming(1, [1]).await;
    let recording = succeeded(&house.waits(&head).await[0], at(20));
    for expected in [Recorded::Now, Recorded::Before] {
        let mut written = house.record(vec![recording.clone()]).await.expect("recorded");
        written.further.sort();
        assert_eq!((written.each, written.further), (vec![expected], vec![further("erp"), further("noc")]));
    }
    house.resumed(2, [1], at(20)).await;
    let others = Outlet { account: account(2), ..outlet(1) };
    assert_eq!(untold(&house).await, [outlet(1), further("erp"), further("noc"), others]);
    assert_eq!(house.backlog().await.expect("read").untold, 4);
    let own = &house.due(&outlet(1), at(20), ALL).await.expect("read")[0];
    let noc = &house.due(&further("noc"), at(20), ALL).await.expect("read")[0];
    assert_eq!((&noc.told, noc.outlet(), noc.name()), (&own.told, further("noc"), told_to(&head, 1, "noc")));
    assert_eq!(house.next_due(&further("noc"), at(0)).await.expect("read"), Some(at(20)));

    marked(&house, "noc", at(21), delivered()).await;
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_archived), (0, 0));
    house.marked(&head, 1, at(22), delivered()).await;
    assert_eq!(house.view(head.id).await.callbacks_delivered, 1);
    assert_eq!(numbers_due(&house, &further("noc")).await, []);
    assert_eq!(numbers_due(&house, &further("erp")).await, [1]);
    assert_eq!(house.backlog().await.expect("read").untold, 2);
}

/// A further listener is told from its registration on; what waits when it is gone stays due, to be archived.
pub async fn a_further_listener_is_told_while_it_is_registered(bench: &dyn Bench) {
    let house = with_listeners(bench, 3, &[]).await;
    house.resumed(1, [1], at(20)).await;
    house.register(&account(1), listener(Service::ExternalChanges, "noc")).await.expect("registered");
    house.resumed(1, [1], at(21)).await;
    assert_eq!(untold(&house).await, [outlet(1)], "the listener is of another service");
    house.register(&account(1), listener(Service::DeviceProfile, "noc")).await.expect("registered");
    let head = house.resumed(1, [2], at(22)).await;
    assert_eq!(numbers_due(&house, &further("noc")).await, [1]);
    let service = Service::DeviceProfile.name();
    assert!(house.deregister(&account(1), service, name("noc")).await.expect("removed"));
    house.resumed(1, [3], at(23)).await;
    assert_eq!(untold(&house).await, [outlet(1), further("noc")]);
    marked(&house, "noc", at(24), AttemptResult::NoListener).await;
    let (view, _) = house.callback(told_to(&head, 1, "noc")).await.expect("read").expect("it is there");
    assert_eq!(view.archived, Some(ArchiveReason::NoListener));
    assert_eq!(untold(&house).await, [outlet(1)]);
}

/// Callbacks are listed, counted and replayed for one listener at a time.
pub async fn one_listeners_callbacks_are_listed_and_replayed(bench: &dyn Bench) {
    let house = with_listeners(bench, 2, &["noc"]).await;
    let head = house.resumed(1, [1], at(20)).await;
    house.marked(&head, 1, at(21), delivered()).await;
    marked(&house, "noc", at(21), failed_until(at(30))).await;
    marked(&house, "noc", at(31), exhausted()).await;
    let archived = CallbackFilter { state: Some(CallbackState::Archived), ..for_listener("noc") };
    let names = |views: Vec<CallbackView>| views.iter().map(|view| view.callback.name()).collect::<Vec<_>>();
    assert_eq!(names(listed(&house, archived.clone()).await), [told_to(&head, 1, "noc")]);
    assert_eq!(names(listed(&house, callbacks_of(&account(1))).await), [outcome(&head, 1)]);
    let behind = CallbackFilter { after: Some(told_to(&head, 1, "noc")), ..archived };
    assert_eq!(names(listed(&house, behind).await), []);
    let counted = async |outlet: &Outlet| house.archived(outlet).await.expect("counted");
    assert_eq!((counted(&outlet(1)).await, counted(&further("noc")).await), (0, 1));

    let scope = |listener| ReplayScope::Account {
        account: account(1),
        listener,
        request: None,
        from: None,
        to: None,
        delivered: false,
        after: Position { sequence: 0, number: 0 },
    };
    let replayed = async |scope| house.replay(scope, at(50), ALL).await.expect("replayed").callbacks;
    assert_eq!(replayed(scope(ListenerName::OWN)).await, 0);
    assert_eq!(replayed(scope(name("noc"))).await, 1);
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_archived), (1, 0));
    assert_eq!(house.backlog().await.expect("read").untold, 1);
    marked(&house, "noc", at(51), delivered()).await;
    let (_, attempts) = house.callback(told_to(&head, 1, "noc")).await.expect("read").expect("it is there");
    let ordinals: Vec<_> = attempts.iter().map(|attempt| (attempt.series, attempt.ordinal)).collect();
    assert_eq!(ordinals, [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(house.told(&head, 1).await.1.len(), 1, "the own listener's attempts are its own");
    assert_eq!(replayed(ReplayScope::One(told_to(&head, 1, "noc"))).await, 1);
}

/// A request stays while a further listener has not been told.
pub async fn a_request_stays_while_a_further_listener_waits(bench: &dyn Bench) {
    let house = with_listeners(bench, 1, &["noc"]).await;
    let head = house.resumed(1, [1], at(20)).await;
    house.marked(&head, 1, at(21), delivered()).await;
    let forget = async || house.forget(at(99), at(0), ALL).await.expect("forgotten");
    assert_eq!(forget().await, 0);
    marked(&house, "noc", at(22), failed_until(at(30))).await;
    marked(&house, "noc", at(31), delivered()).await;
    while forget().await > 0 {}
    assert!(house.request(head.id).await.expect("read").is_none());
    assert_eq!(listed(&house, for_listener("noc")).await.len(), 0);
}

/// Further listeners are warned, too; what still waits of that ends with the subrequest.
pub async fn further_listeners_are_warned_too(bench: &dyn Bench) {
    let house = with_listeners(bench, 1, &["noc"]).await;
    let request = NewRequest { action: Action::Enable, ..house.request_for(1, [1]).await };
    let head = house.accepted(request).await;
    let waits = house.waits(&head).await;
    for is_new in [true, false] {
        let written = house.warn(vec![warning(&waits[0], 20)]).await.expect("written");
        assert_eq!((written.each, written.further), (vec![is_new], vec![further("noc")]));
    }
    assert_eq!(house.backlog().await.expect("read").untold, 2);
    assert_eq!(numbers_due(&house, &further("noc")).await, [1]);
    house.end(&head, at(30)).await;
    assert_eq!(house.backlog().await.expect("read").untold, 2, "the outcomes alone");
    marked(&house, "noc", at(31), delivered()).await;
    let ends = listed(&house, for_listener("noc")).await;
    let ends: Vec<_> = ends.iter().map(|view| (view.state, view.archived)).collect();
    assert_eq!(
        ends,
        [(CallbackState::Delivered, None), (CallbackState::Archived, Some(ArchiveReason::Overtaken))]
    );
}

/// A service's listeners are told apart by their names; its own has none.
pub async fn a_service_has_its_own_listener_and_further_ones(bench: &dyn Bench) {
    let house = with_listeners(bench, 1, &["noc", "erp"]).await;
    let own = Listener { name: ListenerName::OWN, ..listener(Service::DeviceProfile, "own") };
    house.register(&account(1), own.clone()).await.expect("registered");
    let moved = Listener { url: "https://moved.example/".into(), ..listener(Service::DeviceProfile, "noc") };
    house.register(&account(1), moved.clone()).await.expect("registered");
    let kept = async || house.listeners(&account(1)).await.expect("read");
    let erp = listener(Service::DeviceProfile, "erp");
    assert_eq!(kept().await, [own.clone(), erp, moved.clone()]);
    let service = Service::DeviceProfile.name();
    let remove = async |named| house.deregister(&account(1), service, named).await.expect("answered");
    assert!(remove(name("erp")).await);
    assert!(!remove(name("erp")).await, "it is gone");
    assert!(remove(ListenerName::OWN).await);
    assert_eq!(kept().await, [moved]);
}
