//! A request in: all of it or nothing, in an order, once per key, within limits.

use super::Bench;
use super::house::{ALL, House, LANES, UNLIMITED, USER, account, at, iccids, key, subject, subrequests_of};
use crate::{AcceptLimits, Acceptance, IdempotencyKey, Lane, NewRequest, NewSubrequest, Store};
use reveille_domain::{Fault, Network, Position, RequestId};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// What was accepted is shown with every part of it, in the order given.
pub async fn an_accepted_request_is_shown_as_it_was_given(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let request = house.request_for(1, [3, 1, 99]).await;
    let head = house.accepted(request.clone()).await;
    assert_eq!((head.id, &head.account, head.action), (request.id, &account(1), request.action));
    assert_eq!(head.service_plan.as_deref(), Some("Verizon IoT 5MB"));
    assert_eq!((head.accepted_at, head.cancelled), (at(10), false));
    let view = house.view(head.id).await;
    assert_eq!((&*view.user, view.ended_at, view.subrequests, view.waiting()), (USER, None, 3, 3));
    assert_eq!((view.succeeded, view.failed, view.callbacks_waiting()), (0, 0, 0));
    let parts = house.subrequests(subrequests_of(head.id)).await.expect("read");
    let parts: Vec<_> = parts.into_iter().map(|part| (part.number, part.subject, part.ended_at)).collect();
    assert_eq!(parts, [(1, subject(1, 3), None), (2, subject(1, 1), None), (3, subject(1, 99), None)]);
}

/// A target is read back as it was resolved, a known fault with its detail.
pub async fn a_target_waits_as_it_was_resolved(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let mut request = house.request_for(1, [1, 2]).await;
    let faults = [Fault::DeviceNotFound, Fault::ServicePlanNotFound("No such plan".into())];
    let foregone = faults.map(|fault| NewSubrequest { subject: subject(1, 77), target: Err(fault) });
    request.subrequests = request.subrequests.iter().cloned().chain(foregone).collect();
    let head = house.accepted(request.clone()).await;
    let waits = house.waits(&head).await;
    for (given, waits) in request.subrequests.iter().zip(&waits) {
        assert_eq!((&waits.subject, &waits.target), (&given.subject, &given.target));
        assert_eq!(waits.request, head);
    }
    assert_eq!(waits.iter().map(|waits| waits.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// A request that breaks in the middle leaves nothing: here, one under an id that is taken. An order number
/// may be used up.
pub async fn a_request_that_cannot_be_written_leaves_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let first = house.resuming(1, [1]).await;
    let before = house.everything_but_history().await;
    let mut second = house.request_for(1, [2, 3]).await;
    (second.id, second.key) = (first.id, key("taken", 1));
    house.accept(second.clone(), UNLIMITED).await.expect_err("the id is taken");
    assert_eq!(house.everything_but_history().await, before);
    second.id = house.new_id();
    house.accepted(second).await; // and its key was not consumed
}

/// Nobody's request is refused, and leaves nothing.
pub async fn a_request_of_an_unknown_account_leaves_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let before = house.everything().await;
    let request = NewRequest { key: key("nobody", 1), ..house.request_for(3, [1]).await };
    assert_eq!(house.accept(request.clone(), UNLIMITED).await.expect("answered"), Acceptance::NoAccount);
    assert!(house.request(request.id).await.expect("read").is_none());
    assert_eq!(house.everything().await, before);
}

/// Order numbers grow, over all accounts, and the last is known.
pub async fn order_numbers_grow(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    assert_eq!(house.last_sequence().await.expect("read"), 0);
    let mut last = 0;
    for owner in [1, 2, 2, 1] {
        let head = house.resuming(owner, [1]).await;
        assert!(head.sequence > last, "{} follows {last}", head.sequence);
        last = head.sequence;
        assert_eq!(house.last_sequence().await.expect("read"), last);
    }
}

/// The same call under the same key is the first request; another body under it is refused.
pub async fn a_repeat_under_a_key_is_the_first_request(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let first = NewRequest { key: key("once", 1), ..house.request_for(1, [1]).await };
    house.accepted(first.clone()).await;
    let before = house.everything().await;
    let again = NewRequest { id: house.new_id(), ..first.clone() };
    let repeated = Acceptance::Repeated { request: first.id };
    assert_eq!(house.accept(again.clone(), UNLIMITED).await.expect("answered"), repeated);
    let full = AcceptLimits { waiting_per_account: 0, waiting_in_all: 0 };
    assert_eq!(house.accept(again.clone(), full).await.expect("answered"), repeated, "whatever waits");
    let other = NewRequest { key: key("once", 2), ..again };
    assert_eq!(house.accept(other, UNLIMITED).await.expect("answered"), Acceptance::KeyReused);
    assert_eq!(house.everything().await, before);
}

/// A key belongs to one user in one account.
pub async fn a_key_counts_for_its_user_and_account_only(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let once = key("once", 1);
    house.accepted(NewRequest { key: once.clone(), ..house.request_for(1, [1]).await }).await;
    house.accepted(NewRequest { key: once.clone(), ..house.request_for(2, [1]).await }).await;
    let by_another = NewRequest { user: "another".into(), ..house.request_for(1, [1]).await };
    house.accepted(NewRequest { key: once, ..by_another }).await;
}

/// A key that has expired names the new request from then on.
pub async fn an_expired_key_is_free_again(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    house.accepted(NewRequest { key: key("old", 1), ..house.request_for(1, [1]).await }).await;
    let since = |seconds| Some(IdempotencyKey { key: "old".into(), digest: [2; 32], since: at(seconds) });
    let later = NewRequest { accepted_at: at(100), ..house.request_for(1, [1]).await };
    let later = NewRequest { key: since(50), ..later };
    house.accepted(later.clone()).await;
    let again = NewRequest { id: house.new_id(), key: since(51), ..later.clone() };
    let repeated = Acceptance::Repeated { request: later.id };
    assert_eq!(house.accept(again, UNLIMITED).await.expect("answered"), repeated);
}

/// An account's backlog and the whole have limits; what is refused consumes nothing, not even its key.
pub async fn limits_refuse_without_a_trace(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    house.resuming(1, [1, 2]).await;
    house.resuming(2, [1]).await;
    let before = house.everything().await;
    let request = NewRequest { key: key("limited", 1), ..house.request_for(1, [3, 4]).await };
    let in_account = AcceptLimits { waiting_per_account: 3, waiting_in_all: 100 };
    let in_all = AcceptLimits { waiting_per_account: 100, waiting_in_all: 4 };
    for limits in [in_account, in_all] {
        let answer = house.accept(request.clone(), limits).await.expect("answered");
        assert_eq!(answer, Acceptance::Overloaded);
        assert_eq!(house.everything().await, before);
    }
    let just_enough = AcceptLimits { waiting_per_account: 4, waiting_in_all: 5 };
    let answer = house.accept(request, just_enough).await.expect("answered");
    assert!(matches!(answer, Acceptance::Accepted { .. }), "{answer:?}");
}

/// What has ended makes room for more.
pub async fn ended_work_makes_room_within_the_limits(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let limits = AcceptLimits { waiting_per_account: 1, waiting_in_all: 1 };
    let first = house.resuming(1, [1]).await;
    let second = house.request_for(1, [2]).await;
    assert_eq!(house.accept(second.clone(), limits).await.expect("answered"), Acceptance::Overloaded);
    house.end(&first, at(11)).await;
    let answer = house.accept(second, limits).await.expect("answered");
    assert!(matches!(answer, Acceptance::Accepted { .. }), "{answer:?}");
}

/// Calls that come at once under one key are one request; their neighbours are accepted, refused or fail as
/// they would alone.
pub async fn calls_at_once_do_not_harm_one_another(bench: &dyn Bench) {
    const EACH: usize = 12;
    let house = House::with_fleet(bench, 4).await;
    let taken = house.resuming(2, [1]).await.id;
    let mut calls = JoinSet::new();
    for _ in 0..EACH {
        let same = NewRequest { key: key("same", 1), ..house.request_for(1, [1]).await };
        let alone = house.request_for(1, [2, 3]).await;
        let broken = NewRequest { id: taken, ..house.request_for(1, [4]).await };
        let nobodys = house.request_for(3, [1]).await;
        for (kind, request) in [same, alone, broken, nobodys].into_iter().enumerate() {
            calls.spawn(accept_as(house.shared(), kind, request));
        }
    }
    let mut answers = [const { Vec::new() }; 4];
    for (kind, id, answer) in calls.join_all().await {
        answers[kind].push((id, answer));
    }
    let [same, alone, broken, nobodys] = answers;
    let firsts: Vec<RequestId> = accepted_of(&same);
    assert_eq!(firsts.len(), 1, "one of them is the first: {same:?}");
    let repeats =
        same.iter().filter(|(_, answer)| *answer == Some(Acceptance::Repeated { request: firsts[0] }));
    assert_eq!(repeats.count(), EACH - 1, "{same:?}");
    assert_eq!(accepted_of(&alone).len(), EACH, "{alone:?}");
    assert!(broken.iter().all(|(_, answer)| answer.is_none()), "{broken:?}");
    assert!(nobodys.iter().all(|(_, answer)| *answer == Some(Acceptance::NoAccount)), "{nobodys:?}");
    let waiting = u64::try_from(1 + 1 + 2 * EACH).expect("a small number");
    assert_eq!(house.backlog().await.expect("read").waiting, waiting);
    let mut sequences: Vec<_> =
        alone.iter().chain(&same).filter_map(|(_, answer)| sequence_of(answer)).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), EACH + 1, "each has an order number of its own");
}

/// Of requests that come at the same time, whoever accepts them hears of the earlier first.
pub async fn order_numbers_are_told_in_their_order(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let told: Arc<Mutex<Vec<i64>>> = Arc::default();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (store, told) = (house.shared(), Arc::clone(&told));
        let request = house.request_for(1, [1]).await;
        let note = Box::new(move |sequence| told.lock().expect("not poisoned").push(sequence));
        calls.spawn(async move { store.accept_then(request, UNLIMITED, note).await.expect("accepted") });
    }
    let answered = calls.join_all().await.len();
    let told = told.lock().expect("not poisoned");
    assert_eq!(told.len(), answered, "each was told before it was answered");
    assert!(told.is_sorted(), "{told:?}");
}

type Answered = (RequestId, Option<Acceptance>);

async fn accept_as(
    store: Arc<dyn Store>,
    kind: usize,
    request: NewRequest,
) -> (usize, RequestId, Option<Acceptance>) {
    let id = request.id;
    (kind, id, store.accept(request, UNLIMITED).await.ok())
}

fn sequence_of(answer: &Option<Acceptance>) -> Option<i64> {
    match answer {
        Some(Acceptance::Accepted { sequence }) => Some(*sequence),
        _ => None,
    }
}

fn accepted_of(answers: &[Answered]) -> Vec<RequestId> {
    answers.iter().filter(|(_, answer)| sequence_of(answer).is_some()).map(|(id, _)| *id).collect()
}

/// Work waits by account and lane, in the order of the store, and is read on from any position.
pub async fn a_lane_waits_in_order(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 6).await;
    let first = house.resuming(1, [1, 2, 3, 99]).await;
    house.resuming(2, [1, 2]).await;
    let second = house.resuming(1, [98, 6, 5, 4]).await;
    let position = |head: &crate::RequestHead, number| Position { sequence: head.sequence, number };
    let expected = [
        vec![position(&first, 1), position(&first, 3), position(&second, 3)],
        vec![position(&first, 2), position(&second, 2), position(&second, 4)],
        vec![position(&first, 4), position(&second, 1)],
    ];
    for (lane, expected) in LANES.into_iter().zip(expected) {
        for skipped in 0..=expected.len() {
            let after = skipped.checked_sub(1).map_or(super::house::BEFORE_ALL, |last| expected[last]);
            for limit in [1, 2, ALL] {
                let waiting = house.waiting(&account(1), lane, after, limit).await.expect("read");
                let positions: Vec<_> = waiting.iter().map(crate::Waiting::position).collect();
                assert_eq!(positions, expected[skipped..expected.len().min(skipped.saturating_add(limit))]);
            }
        }
    }
    let us = house.waiting(&account(1), LANES[0], position(&first, 1), 1).await.expect("read");
    assert_eq!((&us[0].request, &us[0].subject), (&first, &subject(1, 3)));
}

/// What waits of one request, behind a number.
pub async fn a_request_waits_in_order_across_its_lanes(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    let head = house.resuming(1, [2, 1, 99, 4, 3]).await;
    house.resuming(1, [1]).await;
    let page = house.waiting_of(head.id, 1, 3).await.expect("read");
    assert_eq!(page.iter().map(|waits| waits.number).collect::<Vec<_>>(), [2, 3, 4]);
    let named: Vec<_> = page.into_iter().map(|waits| waits.subject).collect();
    assert_eq!(named, [1, 99, 4].map(|number| subject(1, number)));
    assert!(house.waiting_of(head.id, 5, ALL).await.expect("read").is_empty());
    assert!(house.waiting_of(house.new_id(), 0, ALL).await.expect("read").is_empty());
}

/// The lanes in which anything waits, and no others.
pub async fn lanes_are_those_in_which_anything_waits(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    assert!(house.lanes().await.expect("read").is_empty());
    let us = house.resuming(1, [1]).await;
    house.resuming(2, [2, 99]).await;
    let mut expected = vec![
        (account(1), Lane::Network(Network::VerizonUs)),
        (account(2), Lane::Network(Network::Global)),
        (account(2), Lane::Here),
    ];
    let sorted = |mut lanes: Vec<_>| {
        lanes.sort();
        lanes
    };
    assert_eq!(sorted(house.lanes().await.expect("read")), sorted(expected.clone()));
    house.end(&us, at(11)).await;
    assert_eq!(sorted(house.lanes().await.expect("read")), sorted(expected.split_off(1)));
}

/// The earliest work on each eUICC, in the order asked; none where nothing waits there.
pub async fn the_earliest_on_an_euicc_is_whose_turn_it_is(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let resolved = house.resolve(&account(1), iccids(1, [3, 2, 1])).await.expect("resolved");
    let devices: Vec<_> = resolved.iter().flatten().map(|found| found.device).collect();
    let first = house.resuming(1, [1, 2]).await;
    let second = house.resuming(1, [2, 1]).await;
    let stands = |head: &crate::RequestHead, number| Some(Position { sequence: head.sequence, number });
    let earliest = house.earliest_on(devices.clone()).await.expect("read");
    assert_eq!(earliest, [None, stands(&first, 2), stands(&first, 1)]);
    house.end(&first, at(11)).await;
    let earliest = house.earliest_on(devices.clone()).await.expect("read");
    assert_eq!(earliest, [None, stands(&second, 1), stands(&second, 2)]);
    house.end(&second, at(12)).await;
    assert_eq!(house.earliest_on(devices).await.expect("read"), [None, None, None]);
}
