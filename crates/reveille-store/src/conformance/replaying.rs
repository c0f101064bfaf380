//! Replays: a new series from one, of callbacks that have ended, in batches, with all counts as before.

use super::Bench;
use super::house::{
    ALL, BEFORE_ALL, House, account, at, callbacks_of, delivered, exhausted, failed_until, outcome,
    outcome_of, outlet,
};
use crate::{AttemptResult, Backlog, CallbackState, ReplayScope, Replayed, RequestHead};
use reveille_domain::{AccountName, ListenerName, Position, RequestId};
use std::sync::Arc;

/// One archived callback begins again: due at that time, its former attempts shown still.
pub async fn a_replay_is_a_new_series(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    let before = house.told(&head, 1).await.0.callback.told;
    house.marked(&head, 1, at(21), failed_until(at(30))).await;
    house.marked(&head, 1, at(31), exhausted()).await;
    assert_eq!(house.archived(&outlet(1)).await.expect("counted"), 1);
    assert_eq!(replay_one(&house, &head, 1).await, Replayed { callbacks: 1, next: None });
    assert_eq!(house.archived(&outlet(1)).await.expect("counted"), 0);
    let (view, attempts) = house.told(&head, 1).await;
    assert_eq!((view.state, view.next_attempt_at), (CallbackState::Waiting, Some(at(50))));
    assert_eq!((view.ended_at, view.archived, view.recorded_at), (None, None, at(20)));
    assert_eq!((view.callback.series, view.callback.attempts, attempts.len()), (2, 0, 2));
    assert_eq!(view.callback.told, before, "it says the same");
    let due = house.due(&outlet(1), at(50), ALL).await.expect("read");
    assert_eq!((due.len(), due[0].series, due[0].attempts), (1, 2, 0));
    house.marked(&head, 1, at(51), delivered()).await;
    assert_eq!(ordinals(&house, &head, 1).await, [(1, 1), (1, 2), (2, 1)]);
}

async fn replay_one(house: &House, head: &RequestHead, number: u32) -> Replayed {
    let one = ReplayScope::One(outcome(head, number));
    house.replay(one, at(50), ALL).await.expect("replayed")
}

async fn ordinals(house: &House, head: &RequestHead, number: u32) -> Vec<(u32, u32)> {
    let (_, attempts) = house.told(head, number).await;
    attempts.iter().map(|attempt| (attempt.series, attempt.ordinal)).collect()
}

/// A delivered callback can be replayed, too; the attempt that was acknowledged is shown still.
pub async fn the_acknowledged_attempt_outlives_replays(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    for series in 1..=3 {
        house.marked(&head, 1, at(21), failed_until(at(22))).await;
        house.marked(&head, 1, at(23), AttemptResult::Delivered { status: 200 }).await;
        let (_, attempts) = house.told(&head, 1).await;
        let acknowledged: Vec<_> =
            attempts.iter().filter(|attempt| attempt.status == Some(200)).map(|one| one.series).collect();
        assert_eq!(acknowledged, (1..=series).collect::<Vec<_>>());
        assert_eq!(attempts.len(), 2 * acknowledged.len());
        assert_eq!(replay_one(&house, &head, 1).await.callbacks, 1);
        assert_eq!(house.told(&head, 1).await.1, attempts);
    }
}

/// What waits still is not replayed, nor is what is not there.
pub async fn only_ended_callbacks_are_replayed(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resumed(1, [1, 2], at(20)).await;
    house.marked(&head, 1, at(21), failed_until(at(30))).await;
    let before = house.everything().await;
    for number in 1..=3 {
        assert_eq!(replay_one(&house, &head, number).await, Replayed { callbacks: 0, next: None });
    }
    let unknown = ReplayScope::One(outcome_of(house.new_id(), 1));
    assert_eq!(house.replay(unknown, at(50), ALL).await.expect("answered").callbacks, 0);
    assert_eq!(replay(&house, all_of(1, true), ALL).await.callbacks, 0);
    assert_eq!(house.everything().await, before);
}

async fn replay(house: &House, scope: ReplayScope, limit: usize) -> Replayed {
    house.replay(scope, at(50), limit).await.expect("replayed")
}

fn all_of(owner: u32, delivered: bool) -> ReplayScope {
    within(account(owner), None, (None, None), delivered, BEFORE_ALL)
}

fn within(
    account: AccountName,
    request: Option<RequestId>,
    (from, to): (Option<i64>, Option<i64>),
    delivered: bool,
    after: Position,
) -> ReplayScope {
    ReplayScope::Account {
        account,
        listener: ListenerName::OWN,
        request,
        from: from.map(at),
        to: to.map(at),
        delivered,
        after,
    }
}

/// Two accounts; account 1 has requests that ended at 20 and 30, each with profile 1 delivered, 2 exhausted, 3
/// without listener and 4 waiting.
async fn house_with_ends(bench: &dyn Bench) -> (House, [Arc<RequestHead>; 3]) {
    let house = House::with_fleet(bench, 4).await;
    let old = house.resumed(1, 1..=4, at(20)).await;
    let young = house.resumed(1, 1..=4, at(30)).await;
    let others = house.resumed(2, 1..=4, at(20)).await;
    for head in [&old, &young, &others] {
        house.marked(head, 1, at(40), delivered()).await;
        house.marked(head, 2, at(40), exhausted()).await;
        house.marked(head, 3, at(40), AttemptResult::NoListener).await;
    }
    (house, [old, young, others])
}

/// The callbacks that are in their second series, by request and number.
async fn replayed(house: &House, heads: &[Arc<RequestHead>; 3]) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for owner in [1, 2] {
        for view in house.callbacks(callbacks_of(&account(owner))).await.expect("read") {
            let place = heads.iter().position(|head| head.id == view.callback.request.id);
            let place = place.expect("a callback of one of them");
            if view.callback.series == 2 {
                found.push((place, view.callback.number));
            }
        }
    }
    found
}

/// An account's archived callbacks, and nobody else's.
pub async fn an_accounts_archive_is_replayed(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    assert_eq!(replay(&house, all_of(1, false), ALL).await, Replayed { callbacks: 4, next: None });
    assert_eq!(replayed(&house, &heads).await, [(0, 2), (0, 3), (1, 2), (1, 3)]);
}

/// Where the delivered ones are asked for, they come with the archived.
pub async fn delivered_callbacks_are_replayed_where_asked(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    assert_eq!(replay(&house, all_of(1, true), ALL).await.callbacks, 6);
    assert_eq!(replayed(&house, &heads).await, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
}

/// One request's callbacks; another account's request has none.
pub async fn one_requests_callbacks_are_replayed(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    let of = |head: &RequestHead| within(account(1), Some(head.id), (None, None), false, BEFORE_ALL);
    assert_eq!(replay(&house, of(&heads[2]), ALL).await.callbacks, 0, "another account's");
    assert_eq!(replay(&house, of(&heads[1]), ALL).await.callbacks, 2);
    assert_eq!(replayed(&house, &heads).await, [(1, 2), (1, 3)]);
}

/// Callbacks that were recorded in a window of time: from its first instant, to before its last.
pub async fn a_window_of_time_is_replayed(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    let window = |from, to| within(account(1), None, (from, to), false, BEFORE_ALL);
    assert_eq!(replay(&house, window(Some(21), Some(30)), ALL).await.callbacks, 0);
    assert_eq!(replay(&house, window(None, Some(20)), ALL).await.callbacks, 0);
    assert_eq!(replay(&house, window(Some(20), Some(30)), ALL).await.callbacks, 2);
    assert_eq!(replayed(&house, &heads).await, [(0, 2), (0, 3)]);
    assert_eq!(replay(&house, window(Some(30), None), ALL).await.callbacks, 2);
}

/// A replay goes on where its last batch ended, and does each callback once.
pub async fn a_replay_goes_on_in_batches(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    let mut after = BEFORE_ALL;
    let mut batches = Vec::new();
    loop {
        let scope = within(account(1), None, (None, None), true, after);
        let done = replay(&house, scope, 4).await;
        batches.push(done.callbacks);
        match done.next {
            Some(next) => after = next,
            None => break,
        }
        assert!(batches.len() < 4, "it comes to an end");
    }
    assert_eq!(batches, [4, 2]);
    assert_eq!(replayed(&house, &heads).await.len(), 6);
}

/// After a replay and new ends the counts are as if there had been no other series.
pub async fn counts_are_true_after_a_replay(bench: &dyn Bench) {
    let (house, heads) = house_with_ends(bench).await;
    let counts = |id| {
        let house = &house;
        async move {
            let view = house.view(id).await;
            (view.callbacks_delivered, view.callbacks_archived, view.callbacks_waiting())
        }
    };
    assert_eq!(counts(heads[0].id).await, (1, 2, 1));
    assert_eq!(house.backlog().await.expect("read"), Backlog { waiting: 0, untold: 3 });
    replay(&house, all_of(1, false), ALL).await;
    assert_eq!(counts(heads[0].id).await, (1, 0, 3));
    assert_eq!(house.backlog().await.expect("read").untold, 7);
    replay(&house, all_of(1, true), ALL).await;
    assert_eq!(counts(heads[0].id).await, (0, 0, 4));
    assert_eq!(house.backlog().await.expect("read").untold, 9);
    for number in 1..=4 {
        house.marked(&heads[0], number, at(60), delivered()).await;
    }
    assert_eq!(counts(heads[0].id).await, (4, 0, 0));
    assert_eq!(counts(heads[2].id).await, (1, 2, 1), "another account's are as they were");
    assert_eq!(house.backlog().await.expect("read").untold, 5);
    let untold = house.untold().await.expect("read");
    assert!(untold.iter().any(|(name, due)| *name == outlet(1) && *due == at(30)), "{untold:?}");
}
