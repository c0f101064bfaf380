//! What is older than configured is removed, in small batches.

use crate::{Chain, Shared};
use reveille_domain::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How often the store is looked through.
const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// How many rows are removed in one transaction, and at how many profiles' history one look is taken: a few
/// milliseconds of the writer's time.
const BATCH: usize = 500;

/// How long to leave the writer to others between two batches.
const PAUSE: Duration = Duration::from_millis(20);

/// How long idempotency keys and ended sessions are remembered. Source: contract §12 Q19, Q33.
const KEEP_KEYS: Duration = Duration::from_secs(24 * 3_600);

/// Removes what is old, every six hours, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let now = shared.now();
        say(forget(&shared, now).await);
        if let Some(lasts) = shared.config.keep_history {
            say(forget_history(&shared, now.minus(lasts)).await);
        }
        shared.clock.sleep_until(now.plus(EVERY)).await;
    }
}

fn say(removed: reveille_store::Result<usize>) {
    match removed {
        Ok(0) => {}
        Ok(rows) => info!(rows, "Removed {rows} rows that were older than configured"),
        Err(error) => {
            warn!(error = %Chain(&error), "Cannot remove what is old; trying again in six hours");
        }
    }
}

async fn forget(shared: &Shared, now: Timestamp) -> reveille_store::Result<usize> {
    let requests_before = now.minus(shared.config.keep_archived);
    let keys_before = now.minus(KEEP_KEYS);
    let mut rows = 0;
    loop {
        let busy = shared.busy();
        let gone = shared.store.forget(requests_before, keys_before, BATCH).await?;
        drop(busy);
        if gone == 0 {
            return Ok(rows);
        }
        rows += gone;
        shared.clock.sleep(PAUSE).await;
    }
}

/// Goes through all profiles: an index by age would cost every outcome a write more.
async fn forget_history(shared: &Shared, before: Timestamp) -> reveille_store::Result<usize> {
    let (mut rows, mut after) = (0, None);
    loop {
        let busy = shared.busy();
        let gone = shared.store.forget_history(before, after, BATCH).await?;
        drop(busy);
        rows += gone.rows;
        if gone.next.is_none() {
            return Ok(rows);
        }
        after = gone.next;
        shared.clock.sleep(PAUSE).await;
    }
}
