//! Requests, subrequests and callbacks as they are listed: in order, filtered, page by page.

use super::Bench;
use super::house::{
    ALL, House, account, at, callbacks_of, delivered, exhausted, failed, failed_until, outcome_of,
    requests_of, subrequests_of, succeeded,
};
use crate::{CallbackFilter, CallbackState, RequestFilter, SubrequestFilter, SubrequestState};
use reveille_domain::{Fault, RequestId};

/// An account's requests, newest first, page by page, and never another account's.
pub async fn requests_are_listed_newest_first(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, house.resuming(1, [1]).await.id);
        house.resuming(2, [1]).await;
    }
    assert_eq!(listed(&house, requests_of(&account(1))).await, expected);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().copied();
        let page = listed(&house, RequestFilter { after, limit: 2, ..requests_of(&account(1)) }).await;
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2 && paged.len() < expected.len(), "it comes to an end");
        paged.extend(page);
    }
    assert_eq!(paged, expected);
    assert!(listed(&house, requests_of(&account(3))).await.is_empty());
}

async fn listed(house: &House, filter: RequestFilter) -> Vec<RequestId> {
    let views = house.requests(filter).await.expect("read");
    views.into_iter().map(|view| view.head.id).collect()
}

/// The requests that have ended, and those that have not.
pub async fn requests_are_listed_by_whether_they_have_ended(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let ended = house.resumed(1, [1], at(20)).await.id;
    let begun = house.resuming(1, [1, 2]).await;
    house.record(vec![succeeded(&house.waits(&begun).await[0], at(20))]).await.expect("recorded");
    let only = |ended| RequestFilter { ended: Some(ended), ..requests_of(&account(1)) };
    assert_eq!(listed(&house, only(true)).await, [ended]);
    assert_eq!(listed(&house, only(false)).await, [begun.id]);
}

/// A listed request shows what it shows alone.
pub async fn a_listed_request_shows_its_counts(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let head = house.resuming(1, [1, 2, 3]).await;
    let waits = house.waits(&head).await;
    let recordings = vec![succeeded(&waits[0], at(20)), failed(&waits[1], at(20), Fault::Unsettled)];
    house.record(recordings).await.expect("recorded");
    house.marked(&head, 1, at(21), delivered()).await;
    house.marked(&head, 2, at(21), exhausted()).await;
    let listed = house.requests(requests_of(&account(1))).await.expect("read");
    assert_eq!(format!("{:?}", listed[0]), format!("{:?}", house.view(head.id).await));
    assert_eq!(listed[0].faults, [("unsettled".into(), 1)]);
}

/// Another account's request is no place from which a list goes on.
pub async fn another_accounts_request_moves_no_page(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let mine = house.resumed(1, [1], at(20)).await.id;
    let others = house.resumed(2, [1], at(20)).await.id;
    let mine_too = house.resumed(1, [1], at(20)).await.id;
    let unknown = house.new_id();
    let mut pages = Vec::new();
    for after in [others, unknown] {
        let filter = RequestFilter { after: Some(after), ..requests_of(&account(1)) };
        let callbacks = CallbackFilter { after: Some(outcome_of(after, 1)), ..callbacks_of(&account(1)) };
        pages.push((listed(&house, filter).await, callbacks_listed(&house, callbacks).await));
    }
    assert_eq!(pages[0], pages[1], "whether it exists is not told");
    assert_eq!(listed(&house, requests_of(&account(1))).await, [mine_too, mine]);
}

async fn callbacks_listed(house: &House, filter: CallbackFilter) -> Vec<(RequestId, u32)> {
    let views = house.callbacks(filter).await.expect("read");
    views.into_iter().map(|view| (view.callback.request.id, view.callback.number)).collect()
}

/// A request's subrequests, in order, by state, by fault, page by page.
pub async fn subrequests_are_listed_in_order(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 5).await;
    let head = house.resuming(1, [5, 4, 3, 2, 1, 99]).await;
    house.resuming(1, [1]).await;
    let waits = house.waits(&head).await;
    let recordings = vec![
        succeeded(&waits[1], at(20)),
        failed(&waits[2], at(20), Fault::Cancelled),
        succeeded(&waits[3], at(20)),
        failed(&waits[4], at(20), Fault::CarrierRejected("barred".into())),
    ];
    house.record(recordings).await.expect("recorded");
    let all = subrequests_of(head.id);
    let state = |state| SubrequestFilter { state: Some(state), ..all.clone() };
    let fault = |name: &str| SubrequestFilter { fault: Some(name.into()), ..all.clone() };
    assert_eq!(numbers(&house, all.clone()).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&house, SubrequestFilter { after: 2, limit: 3, ..all.clone() }).await, [3, 4, 5]);
    assert_eq!(numbers(&house, state(SubrequestState::Waiting)).await, [1, 6]);
    assert_eq!(numbers(&house, state(SubrequestState::Succeeded)).await, [2, 4]);
    assert_eq!(numbers(&house, state(SubrequestState::Failed)).await, [3, 5]);
    let second = SubrequestFilter { after: 3, limit: 1, ..state(SubrequestState::Failed) };
    assert_eq!(numbers(&house, second).await, [5]);
    assert_eq!(numbers(&house, fault("carrier_rejected")).await, [5]);
    assert!(numbers(&house, fault("device_not_found")).await.is_empty(), "foreseen, but not ended");
    let both = SubrequestFilter { state: Some(SubrequestState::Succeeded), ..fault("cancelled") };
    assert!(numbers(&house, both).await.is_empty());
    assert!(numbers(&house, subrequests_of(house.new_id())).await.is_empty());
}

async fn numbers(house: &House, filter: SubrequestFilter) -> Vec<u32> {
    let parts = house.subrequests(filter).await.expect("read");
    parts.into_iter().map(|part| part.number).collect()
}

/// An account's callbacks, in the order of the store, by request, by state, page by page.
pub async fn callbacks_are_listed_in_the_order_of_the_store(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    let first = house.resumed(1, 1..=4, at(30)).await;
    house.resumed(2, 1..=4, at(20)).await;
    let second = house.resumed(1, 1..=2, at(20)).await;
    house.marked(&first, 2, at(31), delivered()).await;
    house.marked(&first, 3, at(31), exhausted()).await;
    house.marked(&first, 4, at(31), failed_until(at(40))).await;
    house.marked(&second, 2, at(31), exhausted()).await;
    let (one, two) = (first.id, second.id);
    let all = callbacks_of(&account(1));
    let expected = [(one, 1), (one, 2), (one, 3), (one, 4), (two, 1), (two, 2)];
    assert_eq!(callbacks_listed(&house, all.clone()).await, expected);
    for (skipped, after) in expected.into_iter().enumerate() {
        let page = CallbackFilter { after: Some(outcome_of(after.0, after.1)), limit: 2, ..all.clone() };
        let upto = expected.len().min(skipped + 3);
        assert_eq!(callbacks_listed(&house, page).await, expected[skipped + 1..upto]);
    }
    let of = |request| CallbackFilter { request: Some(request), ..all.clone() };
    let state = |state| CallbackFilter { state: Some(state), ..all.clone() };
    assert_eq!(callbacks_listed(&house, of(two)).await, expected[4..]);
    let later =
        |request, (after, number)| CallbackFilter { after: Some(outcome_of(after, number)), ..of(request) };
    assert_eq!(callbacks_listed(&house, later(two, (one, 3))).await, expected[4..]);
    assert_eq!(callbacks_listed(&house, later(one, (one, 2))).await, expected[2..4]);
    assert!(callbacks_listed(&house, later(one, (two, 1))).await.is_empty());
    assert!(callbacks_listed(&house, of(house.new_id())).await.is_empty());
    assert_eq!(callbacks_listed(&house, state(CallbackState::Waiting)).await, [(one, 1), (one, 4), (two, 1)]);
    assert_eq!(callbacks_listed(&house, state(CallbackState::Delivered)).await, [(one, 2)]);
    assert_eq!(callbacks_listed(&house, state(CallbackState::Archived)).await, [(one, 3), (two, 2)]);
    let rest =
        CallbackFilter { after: Some(outcome_of(one, 3)), limit: ALL, ..state(CallbackState::Archived) };
    assert_eq!(callbacks_listed(&house, rest).await, [(two, 2)]);
    let others = CallbackFilter { account: account(2), ..of(two) };
    assert!(callbacks_listed(&house, others).await.is_empty(), "another account's request");
}

/// A listed callback shows what it shows alone.
pub async fn a_listed_callback_shows_where_it_is(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let head = house.resumed(1, 1..=3, at(20)).await;
    house.marked(&head, 1, at(21), delivered()).await;
    house.marked(&head, 2, at(21), exhausted()).await;
    for view in house.callbacks(callbacks_of(&account(1))).await.expect("read") {
        let (alone, _) = house.told(&head, view.callback.number).await;
        assert_eq!(format!("{view:?}"), format!("{alone:?}"));
    }
    assert!(house.callback(outcome_of(house.new_id(), 1)).await.expect("read").is_none());
}
