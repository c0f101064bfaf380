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

/// How often suspensions are looked through at least and at most: a day's share of the longest one, so that
/// none is first seen after it is due.
const EVERY_AT_LEAST: Duration = Duration::from_secs(60);
const EVERY_AT_MOST: Duration = Duration::from_secs(24 * 3_600);

/// How long after a failure they are looked through again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long before its end a suspension is told of. Source: contract §7.
const NOTICE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How many suspensions are read at a time.
const PAGE: usize = 500;

/// Looks through suspensions, and again when one of them is due, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(longest) = shared.config.suspension_max else { return };
    let every = (longest / 24).clamp(EVERY_AT_LEAST, EVERY_AT_MOST);
    loop {
        let now = shared.now();
        let busy = shared.busy();
        let next = match look_through(&shared, now, longest).await {
            Ok(next) => next.map_or(now.plus(every), |due| due.min(now.plus(every))),
            Err(error) => {
                warn!(error = %Chain(&error), "Cannot look through suspensions; trying again in a minute");
                now.plus(AGAIN_AFTER)
            }
        };
        drop(busy);
        shared.clock.sleep_until(next).await;
    }
}

/// When the next one is due that is not yet.
async fn look_through(shared: &Arc<Shared>, now: Timestamp, longest: Duration) -> Result<Option<Timestamp>> {
    let mut next: Option<Timestamp> = None;
    let mut after = None;
    loop {
        let page = shared.store.suspended(Timestamp(i64::MAX), after, PAGE).await?;
        for suspension in &page {
            let due = Due::of(suspension, longest);
            if due.at > now {
                next = Some(next.map_or(due.at, |earliest| earliest.min(due.at)));
            } else {
                act(shared, suspension, due).await;
            }
        }
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => after = Some(last.iccid.clone()),
            None => return Ok(next),
        }
    }
}

/// What a suspension needs next, and when.
struct Due {
    at: Timestamp,
    action: Action,
    terms: Terms,
}

impl Due {
    fn of(suspension: &Suspension, longest: Duration) -> Self {
        let resumes_at = suspension.since.plus(longest);
        let terms = Terms { resumes_at: Some(resumes_at), ..Terms::default() };
        if suspension.noticed {
            return Self { at: resumes_at, action: Action::ProfileResume, terms };
        }
        Self { at: resumes_at.minus(NOTICE.min(longest)), action: Action::ResumeNotice, terms }
    }
}

async fn act(shared: &Arc<Shared>, suspension: &Suspension, due: Due) {
    match shared.ask_itself(suspension, due.action, due.terms).await {
        Ok(request) => info!(request.id = %request, "A suspension lasts long: made request {request}"),
        Err(refusal) => warn!(?refusal, "Cannot act on a long suspension; trying again"),
    }
}

impl Shared {
    /// Whether a suspension since then is the one that ends by itself at that time.
    pub(crate) fn lasts_until(&self, since: Option<Timestamp>, resumes_at: Timestamp) -> bool {
        let ends = since.zip(self.config.suspension_max).map(|(since, longest)| since.plus(longest));
        ends == Some(resumes_at)
    }

    /// Makes a request in the server's own name, once for each suspension and action.
    async fn ask_itself(
        self: &Arc<Self>,
        suspension: &Suspension,
        action: Action,
        terms: Terms,
    ) -> std::result::Result<RequestId, Refusal> {
        let Suspension { account, iccid, .. } = suspension;
        let until = terms.resumes_at.unwrap_or(suspension.since);
        let key = IdempotencyKey {
            key: format!("{}:{}:{}", action.name(), iccid.as_str(), until.0).into(),
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
