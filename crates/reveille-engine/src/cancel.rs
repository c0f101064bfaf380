//! Cancelling a request: durably first, then what of it is in memory, then what is in the store alone.
//!
//! A device's own part is not cancelled: it concludes from its profiles', and so ends last.

use crate::order::Item;
use crate::perform::{Batch, told, until_read};
use crate::record::Ended;
use crate::unsettled::doubts;
use crate::{Chain, Shared};
use reveille_domain::{Fault, Profile, RequestId};
use reveille_store::{ProfileKey, RequestView, Result, Waiting};
use std::sync::Arc;
use tracing::{info, warn};

/// How many subrequests of a cancelled request are read at a time.
const PAGE: usize = 512;

/// Cancels a request.
pub(crate) async fn cancel(shared: &Arc<Shared>, request: RequestId) -> Result<Option<RequestView>> {
    let Some(view) = shared.store.cancel(request, shared.now()).await? else { return Ok(None) };
    if view.ended_at.is_some() {
        return Ok(Some(view));
    }
    info!(request.id = %request, "Cancelled request {request}");
    let taken = shared.order().cancel(view.head.sequence, &view.head.account);
    end_taken(shared, taken.behind, Begun::Never, false).await;
    end_taken(shared, taken.first, Begun::Perhaps, true).await; // last: what holds the eUICC frees it
    let mut after = 0;
    loop {
        let page = shared.store.waiting_of(request, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        let items = page.into_iter().map(Item::new);
        let to_end = items.filter(|item| !item.concludes() && !is_held(shared, &item.waiting));
        end_read(shared, to_end.collect()).await;
    }
    shared.flushed().await;
    shared.store.request(request).await
}

fn is_held(shared: &Shared, waiting: &Waiting) -> bool {
    let device = waiting.target.as_ref().ok().and_then(reveille_store::Target::device);
    device.is_some_and(|device| shared.order().holds(device, waiting.position()))
}

/// Goes on with cancellations that a process before this one left unfinished.
pub(crate) async fn go_on(shared: Arc<Shared>) {
    let cancelled = until_read(&shared, || shared.store.cancelled()).await;
    for request in cancelled {
        if let Err(error) = cancel(&shared, request).await {
            warn!(error = %Chain(&error), request.id = %request, "Cannot end what was cancelled; it ends at the next start");
        }
    }
}

/// Whether a process before this one may have begun a cancelled subrequest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Never,
    Perhaps,
}

/// Ends cancelled subrequests that were read from the store: those whose turn it was on their eUICC may
/// have been begun.
pub(crate) async fn end_read(shared: &Shared, items: Vec<Item>) {
    let devices: Vec<_> = items.iter().filter_map(Item::device).collect();
    let mut earliest = until_read(shared, || shared.store.earliest_on(devices.clone())).await.into_iter();
    let mut first_on_its_device =
        |item: &Item| item.device().is_some() && earliest.next().flatten() == Some(item.position());
    let (first, behind): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| first_on_its_device(item));
    end_taken(shared, first, Begun::Perhaps, false).await;
    end_taken(shared, behind, Begun::Never, false).await;
}

/// With `claimed`, they hold their eUICCs until that is durable.
async fn end_taken(shared: &Shared, items: Vec<Item>, begun: Begun, claimed: bool) {
    for part in items.chunks(PAGE) {
        let batch = until_read(shared, || Batch::read(shared, part)).await;
        for (item, profile) in part.iter().zip(&batch.profiles) {
            let others = item.profile().map(|target| batch.others(target.profile)).unwrap_or_default();
            end(shared, item.clone(), profile.as_ref(), &others, begun, claimed);
        }
    }
}

/// Ends a subrequest that this process has not begun. Where one before it may have, its profile is in doubt
/// from now on, and so are the others that its action concerns.
pub(crate) fn end(
    shared: &Shared,
    item: Item,
    profile: Option<&Profile>,
    others: &[(ProfileKey, Profile)],
    begun: Begun,
    claimed: bool,
) {
    let told = told(&item, profile, Err(Fault::Cancelled));
    let doubtful = begun == Begun::Perhaps && shared.may_have_begun_before(&item);
    let changes = if doubtful && profile.is_some() { doubts(&item, others) } else { Vec::new() };
    shared.lane(item.lane()).begin_recording();
    let ended = Ended { told, changes, call: None, at: shared.now(), claimed };
    shared.send(item, ended);
}
