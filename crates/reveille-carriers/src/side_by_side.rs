//! Futures that run together and end together.

use std::pin::Pin;
use std::task::Poll;

/// Runs all of them in this one future, so that whoever drops it drops them all, at once.
pub(crate) async fn side_by_side<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
