//! What nobody performs: left by a process that has died, or waiting with one that is busier than this.
//!
//! A node works on what it has accepted, straight from memory. What has waited for a while is anybody's: each
//! node looks through the store for it, a page at a time, and takes up as much as it has room for. An account
//! whose window is full is passed by, so that nobody's backlog hides what others wait for. Whoever claims an
//! eUICC first performs it.

use crate::Shared;
use crate::lane::LaneControl;
use crate::order::Item;
use reveille_domain::Position;
use reveille_store::Result;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

/// Where a look through the store begins.
pub(crate) const START: Position = Position { sequence: 0, number: 0 };

/// How long after its acceptance a subrequest is left to the process that has accepted it.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(2);

/// How many subrequests are read at a time, and how many pages in one look.
const PAGE: usize = 2_048;
const PAGES: usize = 8;

/// Takes up strays, from where the last look ended; the next begins anew where this one comes to the end.
pub(crate) async fn take_up(shared: &Shared) -> Result<()> {
    let mut full = BTreeSet::new();
    for _ in 0..PAGES {
        let after = *shared.strays_after.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted_before = shared.now().minus(LEFT_ALONE_FOR);
        let page = shared.store.strays(accepted_before, after, full.iter().cloned().collect(), PAGE).await?;
        let is_last = page.len() < PAGE;
        let next = page.last().filter(|_| !is_last).map_or(START, reveille_store::Waiting::position);
        *shared.strays_after.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let mut order = shared.order();
        for waiting in page {
            let account = waiting.request.account.clone();
            if !order.adopt(Item::new(waiting)) {
                full.insert(account);
            }
        }
        drop(order);
        shared.lanes.values().for_each(LaneControl::wake);
        if is_last {
            break;
        }
    }
    Ok(())
}
