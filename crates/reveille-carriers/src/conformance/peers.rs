//! What an adapter must do when the program behind it stops, freezes and comes again.

use super::*;

/// Where nobody answers, nothing is sent and each operation is told so; the adapter says that it is down.
pub async fn a_peer_that_is_not_there_is_unavailable_and_nothing_begun(bench: &dyn Bench) {
    let Some(peer) = bench.peer() else { return };
    let subscriptions = bench.fresh(40).await;
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    let suspend = operations(bench.request_id(), &subscriptions, EndState::Suspended);
    peer.stop().await;
    let never_connected = bench.another();
    for carrier in [bench.carrier(), never_connected] {
        call(&*carrier, &suspend).await; // the first may learn only now that its connection is gone
        let replies = call(&*carrier, &suspend).await;
        for operation in &suspend {
            let reply = replies.get(&operation.id);
            assert!(matches!(reply, Some(Reply::Unavailable(_))), "nobody is there; said: {reply:?}");
        }
        let health = carrier.probe().await;
        assert!(matches!(health, Health::Down(_)), "nobody is there; said: {health:?}");
    }
    peer.start().await;
    for subscription in &subscriptions {
        assert_ne!(bench.shows(subscription, EndState::InService).await, Some(false), "nothing was begun");
    }
    let health = bench.carrier().probe().await;
    assert!(!matches!(health, Health::Down(_)), "the peer is back; said: {health:?}");
    settle(bench, &suspend).await;
}

/// A peer that stops between its replies keeps what was said to be done, and repeating settles the rest.
pub async fn a_peer_that_stops_midway_is_settled_by_repeating(bench: &dyn Bench) {
    let Some(peer) = bench.peer() else { return };
    let subscriptions = bench.fresh(BATCH_MAX).await;
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    let mut suspend = operations(bench.request_id(), &subscriptions, EndState::Suspended);
    let (sender, mut replies) = mpsc::unbounded_channel();
    let carrier = bench.carrier();
    let stopping = async {
        let first = replies.recv().await;
        peer.stop().await;
        first
    };
    let (first, ()) = tokio::join!(stopping, carrier.apply(suspend.clone(), sender));
    let mut told = told(replies, &suspend).await;
    told.extend(first);
    peer.start().await;
    let done = |id: &OperationId| told.get(id).is_some_and(|reply| settles(*id, reply).is_some());
    for (operation, subscription) in suspend.iter().zip(&subscriptions) {
        let shows = bench.shows(subscription, EndState::Suspended).await;
        assert!(!done(&operation.id) || shows != Some(false), "{} was said to be settled", operation.id);
    }
    suspend.iter_mut().for_each(|operation| operation.begun_before = true);
    settle(bench, &suspend).await;
}

/// Calls that a frozen peer does not answer are settled by repeating them when it goes on.
pub async fn a_peer_that_freezes_is_settled_by_repeating(bench: &dyn Bench) {
    let Some(peer) = bench.peer() else { return };
    let subscriptions = bench.fresh(100).await;
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    let mut suspend = operations(bench.request_id(), &subscriptions, EndState::Suspended);
    peer.freeze().await;
    for _ in 0..2 {
        let told = cut_off(peer, &*bench.carrier(), &suspend).await;
        let done = told.iter().find(|(id, reply)| settles(**id, reply).is_some());
        assert!(done.is_none(), "a frozen peer answers nothing; said: {done:?}");
        suspend.iter_mut().for_each(|operation| operation.begun_before = true);
    }
    peer.thaw().await;
    settle(bench, &suspend).await;
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    peer.deadline().await;
    all_are(bench, &subscriptions, EndState::InService).await;
}

/// What one adapter had sent when its peer froze and its caller went is not done after what another, which does
/// the same again, is asked later.
pub async fn what_was_left_on_a_connection_does_not_come_last(bench: &dyn Bench) {
    let Some(peer) = bench.peer() else { return };
    let subscriptions = bench.fresh(BATCH_MAX).await;
    settle(bench, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    let mut suspend = operations(bench.request_id(), &subscriptions, EndState::Suspended);
    let (sender, mut replies) = mpsc::unbounded_channel();
    let (carrier, other) = (bench.carrier(), bench.another());
    tokio::select! {
        biased;
        () = carrier.apply(suspend.clone(), sender) => {}
        () = async {
            replies.recv().await;
            peer.freeze().await;
            peer.deadline().await;
        } => {}
    }
    let told = told(replies, &suspend).await;
    suspend.retain(|operation| !told.contains_key(&operation.id));
    suspend.iter_mut().for_each(|operation| operation.begun_before = true);
    let thawing = async {
        peer.deadline().await;
        peer.thaw().await;
    };
    tokio::join!(call(&*other, &suspend), thawing);
    settle_by(bench, &*other, &suspend).await;
    settle_by(bench, &*other, &operations(bench.request_id(), &subscriptions, EndState::InService)).await;
    peer.deadline().await;
    all_are(bench, &subscriptions, EndState::InService).await;
}

async fn all_are(bench: &dyn Bench, subscriptions: &[Subscription], end: EndState) {
    for of in subscriptions {
        assert_ne!(bench.shows(of, end).await, Some(false), "what came before {end:?} was done after it");
    }
}

/// A call whose caller goes when it has waited long enough, and what it said.
async fn cut_off(peer: &dyn Peer, carrier: &dyn Carrier, batch: &[Operation]) -> HashMap<OperationId, Reply> {
    let (sender, replies) = mpsc::unbounded_channel();
    tokio::select! {
        biased;
        () = carrier.apply(batch.to_vec(), sender) => {}
        () = peer.deadline() => {}
    }
    told(replies, batch).await
}
