//! What is due, and what became of attempts.

use super::Bench;
use super::house::{
    ALL, House, at, delivered, exhausted, failed, failed_until, mark, outcome, outlet, succeeded,
};
use crate::{ArchiveReason, AttemptResult, AttemptView, Backlog, CallbackState};
use reveille_domain::{Fault, Timestamp};

/// Callbacks are due by account, longest due first, and no sooner than their time.
pub async fn the_longest_due_callback_comes_first(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let head = house.resuming(1, [1, 2, 3]).await;
    let waits = house.waits(&head).await;
    let recordings = vec![
        succeeded(&waits[0], at(23)),
        failed(&waits[1], at(21), Fault::Unsettled),
        succeeded(&waits[2], at(22)),
    ];
    house.record(recordings).await.expect("recorded");
    house.resumed(2, [1], at(5)).await;
    assert_eq!(due(&house, at(20), ALL).await, []);
    assert_eq!(due(&house, at(22), ALL).await, [2, 3], "due at the very instant");
    assert_eq!(due(&house, at(99), ALL).await, [2, 3, 1]);
    assert_eq!(due(&house, at(99), 2).await, [2, 3]);
}

/// The numbers of account 1's due callbacks.
async fn due(house: &House, until: Timestamp, limit: usize) -> Vec<u32> {
    let due = house.due(&outlet(1), until, limit).await.expect("read");
    due.into_iter().map(|callback| callback.number).collect()
}

/// A due callback is told as it was recorded, with its request and how often it was attempted.
pub async fn a_due_callback_says_what_was_recorded(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resuming(1, [1, 2]).await;
    let waits = house.waits(&head).await;
    let recordings = vec![
        succeeded(&waits[0], at(20)),
        failed(&waits[1], at(20), Fault::CarrierRejected("barred".into())),
    ];
    house.record(recordings.clone()).await.expect("recorded");
    house.marked(&head, 1, at(21), failed_until(at(30))).await;
    let mut due = house.due(&outlet(1), at(99), ALL).await.expect("read");
    due.sort_by_key(crate::Callback::key);
    for (callback, recording) in due.iter().zip(&recordings) {
        assert_eq!((&callback.request, callback.key().position), (&head, recording.position()));
        assert_eq!(callback.told, recording.told);
        assert_eq!(callback.told.subject, recording.told.subject);
    }
    assert_eq!(due.iter().map(|due| (due.series, due.attempts)).collect::<Vec<_>>(), [(1, 1), (1, 0)]);
}

/// When the next attempt is due, and which accounts have any.
pub async fn the_next_due_instant_is_known(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    assert!(house.untold().await.expect("read").is_empty());
    assert_eq!(house.next_due(&outlet(1), at(0)).await.expect("read"), None);
    house.resumed(1, [1], at(30)).await;
    let head = house.resumed(1, [2], at(20)).await;
    house.resumed(2, [1], at(40)).await;
    assert_eq!(house.next_due(&outlet(1), at(0)).await.expect("read"), Some(at(20)));
    assert_eq!(house.next_due(&outlet(1), at(20)).await.expect("read"), Some(at(30)), "after, not at");
    assert_eq!(house.next_due(&outlet(1), at(30)).await.expect("read"), None);
    house.marked(&head, 1, at(21), delivered()).await;
    let mut untold = house.untold().await.expect("read");
    untold.sort();
    assert_eq!(untold, [(outlet(1), at(30)), (outlet(2), at(40))]);
}

/// An acknowledged callback is delivered: it is due no more, and shows the attempt.
pub async fn an_acknowledged_callback_is_delivered(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resumed(1, [1, 2], at(20)).await;
    house.marked(&head, 1, at(21), delivered()).await;
    let (view, attempts) = house.told(&head, 1).await;
    assert_eq!((view.state, view.ended_at), (CallbackState::Delivered, Some(at(21))));
    assert_eq!((view.next_attempt_at, view.archived), (None, None));
    assert_eq!(attempts, [attempt(1, 1, 21, Some(204))]);
    assert_eq!(due(&house, at(99), ALL).await, [2]);
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_archived, view.callbacks_waiting()), (1, 0, 1));
    assert_eq!(house.backlog().await.expect("read"), Backlog { waiting: 0, untold: 1 });
}

fn attempt(series: u32, ordinal: u32, seconds: i64, status: Option<u16>) -> AttemptView {
    let error = if status.is_none() { Some("timed out".into()) } else { None };
    AttemptView { series, ordinal, ended_at: at(seconds), status, error }
}

/// A failed attempt is counted and made again at its time; the last one archives.
pub async fn a_callback_is_due_again_until_it_is_exhausted(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    house.marked(&head, 1, at(21), failed_until(at(300))).await;
    assert_eq!(due(&house, at(299), ALL).await, []);
    let (view, _) = house.told(&head, 1).await;
    assert_eq!((view.state, view.next_attempt_at), (CallbackState::Waiting, Some(at(300))));
    assert_eq!((view.callback.series, view.callback.attempts), (1, 1));
    let no_answer = AttemptResult::Failed { status: None, error: Some("timed out".into()), next_at: at(600) };
    house.marked(&head, 1, at(301), no_answer).await;
    assert_eq!(house.backlog().await.expect("read").untold, 1);
    house.marked(&head, 1, at(601), exhausted()).await;
    let (view, attempts) = house.told(&head, 1).await;
    assert_eq!((view.state, view.archived), (CallbackState::Archived, Some(ArchiveReason::Exhausted)));
    assert_eq!((view.ended_at, view.next_attempt_at, view.callback.attempts), (Some(at(601)), None, 3));
    let expected = [attempt(1, 1, 21, Some(503)), attempt(1, 2, 301, None), attempt(1, 3, 601, None)];
    assert_eq!(attempts, expected);
    assert_eq!(house.view(head.id).await.callbacks_archived, 1);
    assert_eq!(house.backlog().await.expect("read"), Backlog::default());
}

/// Where there is no listener a callback is archived without an attempt, and those made before still count.
pub async fn without_a_listener_a_callback_is_archived(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resumed(1, [1, 2], at(20)).await;
    house.marked(&head, 1, at(21), AttemptResult::NoListener).await;
    let (view, attempts) = house.told(&head, 1).await;
    assert_eq!((view.state, view.archived), (CallbackState::Archived, Some(ArchiveReason::NoListener)));
    assert_eq!((view.callback.attempts, attempts), (0, vec![]));
    house.marked(&head, 2, at(21), failed_until(at(30))).await;
    house.marked(&head, 2, at(31), AttemptResult::NoListener).await;
    let (view, attempts) = house.told(&head, 2).await;
    assert_eq!((view.archived, view.ended_at), (Some(ArchiveReason::NoListener), Some(at(31))));
    assert_eq!((view.callback.attempts, attempts), (1, vec![attempt(1, 1, 21, Some(503))]));
    assert_eq!(house.view(head.id).await.callbacks_archived, 2);
}

/// The end of an attempt that was written twice counts once.
pub async fn a_mark_made_twice_counts_once(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    let callback = house.told(&head, 1).await.0.callback;
    let failed = mark(&callback, at(21), failed_until(at(30)));
    house.mark(vec![failed.clone(), failed.clone()]).await.expect("marked");
    let before = house.everything().await;
    house.mark(vec![failed]).await.expect("marked");
    assert_eq!(house.everything().await, before);
    let callback = house.told(&head, 1).await.0.callback;
    let last = mark(&callback, at(31), delivered());
    house.mark(vec![last.clone(), last]).await.expect("marked");
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_waiting()), (1, 0));
    assert_eq!(house.told(&head, 1).await.1.len(), 2);
    assert_eq!(house.backlog().await.expect("read").untold, 0);
}

/// However late a mark comes, a callback that has ended stays as it ended.
pub async fn a_mark_of_an_ended_callback_changes_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resumed(1, [1, 2], at(20)).await;
    let callbacks = house.due(&outlet(1), at(99), ALL).await.expect("read");
    house.mark(vec![mark(&callbacks[0], at(21), delivered())]).await.expect("marked");
    house.mark(vec![mark(&callbacks[1], at(21), exhausted())]).await.expect("marked");
    let before = house.everything().await;
    assert_eq!(house.view(head.id).await.callbacks_waiting(), 0);
    for result in results() {
        let late = callbacks.iter().map(|callback| mark(callback, at(40), result.clone())).collect();
        house.mark(late).await.expect("answered");
        assert_eq!(house.everything().await, before, "{result:?}");
    }
}

fn results() -> [AttemptResult; 4] {
    [delivered(), failed_until(at(50)), exhausted(), AttemptResult::NoListener]
}

/// A mark of a series that a replay has left behind changes nothing.
pub async fn a_mark_of_an_older_series_changes_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resumed(1, [1], at(20)).await;
    let first = house.told(&head, 1).await.0.callback;
    house.mark(vec![mark(&first, at(21), exhausted())]).await.expect("marked");
    let one = crate::ReplayScope::One(outcome(&head, 1));
    house.replay(one, at(30), ALL).await.expect("replayed");
    let before = house.everything().await;
    for result in results() {
        house.mark(vec![mark(&first, at(40), result.clone())]).await.expect("answered");
        assert_eq!(house.everything().await, before, "{result:?}");
    }
}

/// Marks of several requests, accounts and kinds are written together and counted apart.
pub async fn a_batch_of_marks_may_span_requests(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    let one = house.resumed(1, [1, 2, 3, 4], at(20)).await;
    let two = house.resumed(2, [1, 2], at(20)).await;
    let mut marks = Vec::new();
    for (owner, results) in [(1, results().to_vec()), (2, vec![delivered(), delivered()])] {
        let due = house.due(&outlet(owner), at(99), ALL).await.expect("read");
        marks.extend(due.iter().zip(results).map(|(callback, result)| mark(callback, at(21), result)));
    }
    house.mark(marks).await.expect("marked");
    house.mark(Vec::new()).await.expect("nothing is marked");
    let view = house.view(one.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_archived, view.callbacks_waiting()), (1, 2, 1));
    let view = house.view(two.id).await;
    assert_eq!((view.callbacks_delivered, view.callbacks_archived, view.callbacks_waiting()), (2, 0, 0));
    assert_eq!(house.backlog().await.expect("read").untold, 1);
}
