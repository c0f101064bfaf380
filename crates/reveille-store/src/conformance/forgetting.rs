//! Retention: what is old and told goes, in small steps; everything else stays.

use super::Bench;
use super::house::{
    ALL, House, account, at, delivered, exhausted, failed_until, iccid, key, outcome, requests_of,
};
use crate::{Acceptance, HistoryForgotten, IdempotencyKey, NewRequest, ReplayScope, Session};
use reveille_domain::{RequestId, Timestamp};

/// Before everything of the suite: nothing is that old.
const NEVER: Timestamp = Timestamp(0);

/// Forgets until nothing is left to forget; in how many steps.
async fn forget_all(house: &House, requests: Timestamp, keys: Timestamp, limit: usize) -> usize {
    for steps in 0..1_000 {
        if house.forget(requests, keys, limit).await.expect("forgotten") == 0 {
            return steps;
        }
    }
    panic!("forgetting comes to no end");
}

async fn ids(house: &House, owner: u32) -> Vec<RequestId> {
    let views = house.requests(requests_of(&account(owner))).await.expect("read");
    views.into_iter().map(|view| view.head.id).collect()
}

/// A request that waits, or whose callbacks do, is never forgotten; nor is one that was told of late.
pub async fn nothing_untold_or_young_is_forgotten(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    house.resuming(1, [1]).await; // without outcome
    house.resumed(1, [1], at(20)).await; // with an untold one
    let partly = house.resuming(1, [1, 2]).await;
    let first = house.waits(&partly).await.swap_remove(0);
    house.record(vec![super::house::succeeded(&first, at(20))]).await.expect("recorded");
    house.deliver_all(&partly, at(21)).await; // told, as far as it has ended
    let tried = house.resumed(1, [1, 2], at(20)).await;
    house.marked(&tried, 1, at(21), delivered()).await;
    house.marked(&tried, 2, at(21), failed_until(at(22))).await; // told in part
    let young = house.resumed(1, [1], at(20)).await;
    house.deliver_all(&young, at(100)).await;
    let before = house.everything().await;
    assert_eq!(forget_all(&house, at(100), NEVER, ALL).await, 0);
    assert_eq!(house.everything().await, before);
}

/// An old request that is told goes with all that belongs to it, in small steps, and nothing else does.
pub async fn an_old_told_request_goes_in_small_steps(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 8).await;
    let stays = house.resumed(1, [1], at(20)).await;
    let before = house.everything_but_history().await;
    let old = house.resumed(2, 1..=8, at(20)).await;
    for number in 1..=8 {
        house.marked(&old, number, at(21), failed_until(at(22))).await;
        house.marked(&old, number, at(23), if number % 2 == 0 { exhausted() } else { delivered() }).await;
    }
    let steps = forget_all(&house, at(24), NEVER, 2).await;
    assert!(steps >= 4, "8 subrequests went in {steps} steps of about 2 rows");
    assert!(house.request(old.id).await.expect("read").is_none());
    assert!(house.callback(outcome(&old, 1)).await.expect("read").is_none());
    assert_eq!(ids(&house, 2).await, []);
    assert_eq!(ids(&house, 1).await, [stays.id]);
    assert_eq!(house.everything_but_history().await, before);
}

/// A profile's history outlives the requests that made it.
pub async fn history_outlives_its_request(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let old = house.resumed(1, [1], at(20)).await;
    house.deliver_all(&old, at(21)).await;
    let mut expected = house.history(&iccid(1, 1), ALL).await.expect("read");
    forget_all(&house, at(99), NEVER, ALL).await;
    (expected[0].request, expected[0].user) = (None, None);
    assert_eq!(house.history(&iccid(1, 1), ALL).await.expect("read"), expected);
}

/// A replay that is told again makes its request young again.
pub async fn a_replayed_request_is_kept_until_it_is_told_again(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resumed(1, [1, 2], at(20)).await;
    house.deliver_all(&head, at(21)).await;
    house.replay(ReplayScope::One(outcome(&head, 1)), at(50), ALL).await.expect("replayed");
    assert_eq!(forget_all(&house, at(99), NEVER, ALL).await, 0, "it is untold again");
    house.marked(&head, 1, at(60), delivered()).await;
    assert_eq!(forget_all(&house, at(60), NEVER, ALL).await, 0, "it was told at 60");
    forget_all(&house, at(61), NEVER, ALL).await;
    assert!(house.request(head.id).await.expect("read").is_none());
}

/// An order number is never given twice, not even that of a request that was forgotten.
pub async fn order_numbers_are_never_given_again(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    house.deliver_all(&head, at(21)).await;
    forget_all(&house, at(99), NEVER, ALL).await;
    assert_eq!(house.last_sequence().await.expect("read"), head.sequence);
    let house = house.reopened().await;
    assert_eq!(house.last_sequence().await.expect("read"), head.sequence);
    let next = house.resumed(1, [1], at(30)).await;
    assert!(next.sequence > head.sequence);
    assert_eq!(house.history(&iccid(1, 1), ALL).await.expect("read").len(), 2);
}

/// Keys are forgotten by their own age; the requests under them stay.
pub async fn old_keys_are_forgotten(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let under = |name, seconds| {
        let house = &house;
        async move {
            let request = house.request_for(1, [1]).await;
            let request = NewRequest { accepted_at: at(seconds), key: key(name, 1), ..request };
            house.accepted(request.clone()).await;
            request
        }
    };
    let (old, young) = (under("old", 10).await, under("young", 20).await);
    assert!(forget_all(&house, NEVER, at(20), 1).await >= 1);
    let repeat = NewRequest { id: house.new_id(), ..young.clone() };
    let answer = house.accept(repeat, super::house::UNLIMITED).await.expect("answered");
    assert_eq!(answer, Acceptance::Repeated { request: young.id });
    let fresh = |key: Option<IdempotencyKey>| NewRequest { id: house.new_id(), key, ..old.clone() };
    house.accepted(fresh(key("old", 2))).await; // no longer in the way of another body
    house.view(old.id).await;
}

/// Sessions are forgotten by their last use.
pub async fn old_sessions_are_forgotten(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    let demo = crate::UserDeclaration {
        name: "demo".into(),
        password_hash: "hash".into(),
        operator: None,
        accounts: vec![],
    };
    let declaration = crate::Declaration { users: vec![demo], ..crate::Declaration::default() };
    house.apply(declaration, at(0)).await.expect("applied");
    for (number, last_used_at) in [(1, at(10)), (2, at(10)), (3, at(10)), (4, at(20))] {
        let token_digest = [number; 32];
        let session = Session { token_digest, user: "demo".into(), client: 1, last_used_at, ended_at: None };
        house.open_session(session).await.expect("opened");
    }
    house.end_session([1; 32], at(11)).await.expect("ended");
    house.touch_sessions(vec![([2; 32], at(30))]).await.expect("noted");
    forget_all(&house, NEVER, at(20), 1).await;
    let mut kept = Vec::new();
    for number in 1..=4 {
        if house.session([number; 32]).await.expect("read").is_some() {
            kept.push(number);
        }
    }
    assert_eq!(kept, [2, 4]);
}

/// How many rows of history an adapter may remove in a step of this part.
const FEW: usize = 2;

/// Old history goes in small steps, profile by profile; what is left says what it said, and nothing else goes.
pub async fn old_history_goes_in_small_steps(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 7).await;
    let young = house.resumed(1, [7], at(70)).await; // of a profile behind all the others
    for seconds in [20, 30, 40, 50, 60] {
        house.resumed(1, [1], at(seconds)).await;
    }
    house.resumed(1, [3, 4], at(30)).await;
    let whole = house.history(&iccid(1, 1), ALL).await.expect("read");
    let but_profiles = house.everything_but_history().await;
    let (mut after, mut steps, mut rows) = (None, 0, 0);
    loop {
        let gone = house.forget_history(at(50), after, FEW).await.expect("forgotten");
        assert!(gone.rows <= FEW, "{gone:?}");
        (steps, rows) = (steps + 1, rows + gone.rows);
        assert!(steps < 100, "forgetting comes to no end");
        match gone.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(rows, 5, "3 of one profile, 1 of each of two");
    assert_eq!(house.history(&iccid(1, 1), ALL).await.expect("read"), whole[3..]);
    for (number, changes) in [(2, 0), (3, 0), (4, 0), (7, 1)] {
        let history = house.history(&iccid(1, number), ALL).await.expect("read");
        assert_eq!(history.len(), changes, "profile {number}");
    }
    assert_eq!(house.everything_but_history().await, but_profiles);
    house.view(young.id).await;
    let nothing = house.forget_history(at(50), None, ALL).await.expect("forgotten");
    assert_eq!(nothing, HistoryForgotten::default());
}
