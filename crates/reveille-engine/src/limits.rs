//! How often a profile may be changed, where the account is so limited. Source: contract §10.

use crate::Shared;
use reveille_domain::{Decision, Fault, Limit, Profile};
use reveille_store::{ChangeCounts, ProfileKey, RequestHead, Result};
use std::collections::HashMap;
use std::time::Duration;

/// How long a change counts against the actions per day, and against the plan changes per month.
const DAY: Duration = Duration::from_secs(24 * 3_600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How often one profile may be changed; no limit where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeLimits {
    /// Changes of its service state within 24 hours.
    pub actions_per_day: Option<u32>,
    /// Changes of its service plan by `serviceplan` within 30 days.
    pub plan_changes_per_month: Option<u32>,
}

impl Shared {
    /// How often those profiles were changed lately; nothing where there is no limit.
    pub(crate) async fn change_counts(
        &self,
        keys: Vec<ProfileKey>,
    ) -> Result<HashMap<ProfileKey, ChangeCounts>> {
        let ChangeLimits { actions_per_day, plan_changes_per_month } = self.config.change_limits;
        let of_account = actions_per_day.is_some() || plan_changes_per_month.is_some();
        let of_carrier = || self.config.carriers.values().any(|setup| setup.changes_per_day.is_some());
        if keys.is_empty() || !(of_account || of_carrier()) {
            return Ok(HashMap::new());
        }
        let now = self.now();
        let counts = self.store.change_counts(keys.clone(), now.minus(DAY), now.minus(MONTH)).await?;
        Ok(keys.into_iter().zip(counts).collect())
    }

    /// Whether the carrier takes no more changes of that profile today: they wait, however long.
    pub(crate) fn waits_for_tomorrow(
        &self,
        decision: &Decision,
        profile: &Profile,
        counts: Option<&ChangeCounts>,
    ) -> bool {
        let setup = self.config.carriers.get(&profile.network);
        let limit = setup.and_then(|setup| setup.changes_per_day);
        let reached = limit.zip(counts).is_some_and(|(limit, counts)| counts.actions >= limit);
        reached && decision.to.state != profile.state
    }

    /// Whether the change that was decided may be made once more.
    pub(crate) fn within_limits(
        &self,
        decision: &Decision,
        profile: &Profile,
        counts: ChangeCounts,
        request: &RequestHead,
    ) -> std::result::Result<(), Fault> {
        let limits = self.config.change_limits;
        let reached = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| count >= limit);
        let changes_plan = request.action == reveille_domain::Action::ServicePlan;
        if decision.to.state != profile.state && reached(limits.actions_per_day, counts.actions) {
            Err(Fault::LimitReached(Limit::ActionsPerDay))
        } else if changes_plan && reached(limits.plan_changes_per_month, counts.plans) {
            Err(Fault::LimitReached(Limit::PlanChangesPerMonth))
        } else {
            Ok(())
        }
    }
}
