//! Suspensions that last: told before they end by themselves, and ended, where the contract has a maximum.
//!
//! Source: contract §7 (ResumeTrackingNotification) and §8 (c). Off by default: a server that starts service
//! by itself is a surprise.

use crate::accept::{Asked, Named};
use crate::{Chain, Shared};
use reveille_domain::{Action, Refusal, RequestId, Terms, Timestamp};
use reveille_store::{ITSELF, IdempotencyKey, Result, Suspension};
use reveille_wire::profile_action::NamedTarget;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How often suspensions are looked through.
const EVERY: Duration = Duration::from_secs(3_600);

/// How long before its end a suspension is told of. Source: contract §7.
const NOTICE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How many suspensions are read at a time.
const PAGE: usize = 500;

/// Looks through suspensions each hour, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(longest) = shared.config.suspension_max else { return };
    loop {
        let now = shared.now();
        if let Err(error) = look_through(&shared, now, longest).await {
            warn!(error = %Chain(&error), "Cannot look through suspensions; trying again in an hour");
        }
        shared.clock.sleep_until(now.plus(EVERY)).await;
    }
}

async fn look_through(shared: &Arc<Shared>, now: Timestamp, longest: Duration) -> Result<()> {
    let noticed_after = longest.saturating_sub(NOTICE);
    let mut after = None;
    loop {
        let page = shared.store.suspended(now.minus(noticed_after).plus(ONE_MORE), after, PAGE).await?;
        for suspension in &page {
            look_at(shared, now, longest, suspension).await;
        }
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => after = Some(last.iccid.clone()),
            None => return Ok(()),
        }
    }
}

/// The store is asked for what is older than a time; this makes that time count, too.
const ONE_MORE: Duration = Duration::from_millis(1);

async fn look_at(shared: &Arc<Shared>, now: Timestamp, longest: Duration, suspension: &Suspension) {
    let resumes_at = suspension.since.plus(longest);
    let asked = if now >= resumes_at {
        shared.ask_itself(suspension, Action::ProfileResume, Terms::default()).await
    } else if !suspension.noticed {
        let terms = Terms { resumes_at: Some(resumes_at), ..Terms::default() };
        shared.ask_itself(suspension, Action::ResumeNotice, terms).await
    } else {
        return;
    };
    match asked {
        Ok(request) => info!(request.id = %request, "A suspension lasts long: made request {request}"),
        Err(refusal) => warn!(?refusal, "Cannot act on a long suspension; trying again in an hour"),
    }
}

impl Shared {
    /// Makes a request in the server's own name, once for each suspension and action.
    async fn ask_itself(
        self: &Arc<Self>,
        suspension: &Suspension,
        action: Action,
        terms: Terms,
    ) -> std::result::Result<RequestId, Refusal> {
        let Suspension { account, iccid, since, .. } = suspension;
        let key = IdempotencyKey {
            key: format!("{}:{}:{}", action.name(), iccid.as_str(), since.0).into(),
            digest: [0; 32],
            since: Timestamp(i64::MIN),
        };
        let asked = Asked {
            account: account.clone(),
            action,
            service_plan: None,
            terms,
            user: ITSELF.into(),
            targets: Named::Profiles(vec![NamedTarget::bare(iccid.clone())]),
            key: Some(key),
        };
        self.accept(asked).await
    }
}
