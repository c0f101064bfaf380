//! What is given up: it was begun, or waits in vain, and nobody can tell what became of it. Its network is asked a
//! last time.

use crate::order::{Claimed, Item};
use crate::perform::{Batch, Work, decided, told, until_read};
use crate::{Shared, observed};
use reveille_carriers::Observation;
use reveille_domain::{Fault, Profile, doubted_by};
use reveille_store::{Change, Lane, ProfileKey};
use std::sync::Arc;
use tracing::{info, warn};

/// What is written of the call that settled what its network showed to be so.
const OBSERVED: &str = "observed";

/// Gives up what was begun and is still unsettled long after its acceptance, and what waits that long for a
/// carrier that does not answer. What was not begun and is held waits on, as does what the carrier was heard of.
pub(crate) fn give_up(shared: &Arc<Shared>, lane: Lane) {
    let Some(setup) = &shared.lane(lane).setup else { return };
    if shared.lane(lane).waits_for_credentials() {
        return;
    }
    let accepted_before = shared.now().minus(setup.give_up_after);
    let unbegun_too = shared.lane(lane).is_silent_and_not_held(shared.now());
    let items = shared.order().give_up(lane, accepted_before, unbegun_too);
    if items.is_empty() {
        return;
    }
    let (shared, busy) = (Arc::clone(shared), shared.busy());
    tokio::spawn(async move {
        let items = shared.hold(Claimed { items, unsure: Vec::new() }).await;
        let mut batch = until_read(&shared, || Batch::read(&shared, &items)).await;
        let profiles = std::mem::take(&mut batch.profiles);
        let mut work = Vec::with_capacity(items.len());
        for (item, profile) in items.into_iter().zip(profiles) {
            if batch.is_heard_of(&item) {
                shared.order().delay(item, shared.now()); // what was heard settles it, as soon as its carrier may be used
                continue;
            }
            let (Some(profile), Some(target)) = (profile, item.profile()) else {
                let told = told(&item, None, Err(Fault::Unsettled));
                shared.end(item, told, Vec::new());
                continue;
            };
            let others = batch.others(target.profile);
            match decided(&shared, &batch, &item, &profile, &others) {
                Ok(decision) => {
                    work.push(Work::new(item, profile, target.profile, decision, others, shared.now()));
                }
                Err(_) => end(&shared, item, &profile, &others),
            }
        }
        end_as_shown(&shared, lane, work).await;
        drop(busy);
    });
}

/// Gives up one subrequest whose time is over.
pub(crate) fn end_in_time(shared: &Arc<Shared>, work: Work) {
    let (shared, busy) = (Arc::clone(shared), shared.busy());
    tokio::spawn(async move {
        let lane = work.item.lane();
        end_as_shown(&shared, lane, vec![work]).await;
        drop(busy);
    });
}

/// Ends as done what its network shows to be so; the rest as unsettled. That it is not so proves nothing: what was
/// sent may still arrive.
async fn end_as_shown(shared: &Shared, lane: Lane, work: Vec<Work>) {
    let profiles: Vec<Profile> = work.iter().map(|work| work.profile.clone()).collect();
    let seen = match &shared.lane(lane).setup {
        Some(setup) => observed(setup, &*shared.clock, &profiles).await,
        None => Vec::new(),
    };
    let mut seen = seen.into_iter();
    for mut work in work {
        let is_so = match seen.next() {
            Some(Observation::Seen(seen)) => seen.shows(work.decision.drives) == Some(true),
            _ => false,
        };
        if is_so && work.plan.is_none() && work.item.tries > 0 {
            info!(request.id = %work.item.waiting.request.id, "Its network shows that a subrequest is done");
            work.call.reply = OBSERVED;
            shared.end_done(work);
        } else {
            end(shared, work.item, &work.profile, &work.others);
        }
    }
}

/// Ends a subrequest as failed because its carrier left it unsettled: what it would have changed is in doubt.
fn end(shared: &Shared, item: Item, profile: &Profile, others: &[(ProfileKey, Profile)]) {
    warn!(request.id = %item.waiting.request.id, tries = item.tries, "Gave up a subrequest unsettled");
    let told = told(&item, Some(profile), Err(Fault::Unsettled));
    let doubtful = item.tries > 0 || shared.may_have_begun_before(&item);
    let doubts = if doubtful { doubts(&item, others) } else { Vec::new() };
    shared.end(item, told, doubts);
}

/// What is in doubt when it is not known what became of a subrequest's operation.
pub(crate) fn doubts(item: &Item, others: &[(ProfileKey, Profile)]) -> Vec<Change> {
    let of = doubted_by(item.waiting.request.action);
    let own = item.profile().map(|target| Change::InDoubt { profile: target.profile, of });
    let others = others.iter().map(|(other, _)| Change::InDoubt { profile: *other, of: of.of_others() });
    own.into_iter().chain(others).collect()
}
