//! What needs no carrier: faults that were known at acceptance, a device's own part, pages of an answer, and
//! what the server asks of itself.

use crate::order::Item;
use crate::perform::{changed, told};
use crate::{Chain, Shared, answers, cancel};
use cancel::Begun;
use reveille_domain::{
    Action, Doubt, Fault, Left, LeftAs, Position, Profile, Reported, Subject, Timestamp, device_outcome,
    device_state, doubted_by, enabled_instead,
};
use reveille_store::{Change, DeviceKey, HistorySpan, ProfileKey, ProfileTarget, Result, Target};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// How long a subrequest is put off when the store could not be read, or what it concludes from is not recorded.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Performs claimed subrequests, one after the other: none of them waits for anything but the store.
pub(crate) async fn perform(shared: &Arc<Shared>, items: Vec<Item>) {
    for item in items {
        if let Err((item, error)) = perform_one(shared, item).await {
            warn!(error = %Chain(&error), "Cannot read what is to be told; trying again");
            shared.order().delay(item, shared.now().plus(LOOK_AGAIN_AFTER));
        }
    }
}

/// How many changes are looked at that may have overtaken a report: more than may happen to one profile while
/// the report waits.
const CHANGES_MAX: usize = 10_000;

type Failed = (Item, reveille_store::StoreError);

async fn perform_one(shared: &Arc<Shared>, item: Item) -> std::result::Result<(), Failed> {
    let request = Arc::clone(&item.waiting.request);
    let cancelled = request.cancelled || shared.order().is_cancelled(request.sequence);
    if cancelled && !item.concludes() {
        cancel::end(shared, item, None, &[], Begun::Never, true);
        return Ok(());
    }
    let ended = match &item.waiting.target {
        Err(fault) => Ok((told(&item, None, Err(fault.clone())), Vec::new())),
        Ok(Target::Device(device)) => match conclude(shared, &item, *device).await {
            Ok(Some(concluded)) => Ok(concluded),
            Ok(None) => {
                shared.order().delay(item, shared.now().plus(LOOK_AGAIN_AFTER));
                return Ok(());
            }
            Err(error) => Err(error),
        },
        Ok(Target::Page(page)) => {
            let document = answers::document(shared, &item, page).await;
            document.map(|text| (told(&item, None, Ok(Left::Document(text))), Vec::new()))
        }
        Ok(Target::Profile(target)) => by_itself(shared, &item, *target).await,
    };
    match ended {
        Ok((told, changes)) => {
            let is_page = item.waiting.subject == Subject::Page;
            shared.end(item, told, changes);
            if is_page {
                shared.flushed().await; // a page is large: one at a time is in memory
            }
            Ok(())
        }
        Err(error) => Err((item, error)),
    }
}

type Outcome = (reveille_domain::Told, Vec<Change>);

/// How a device action ended for the device as a whole; nothing while one of its profiles has not: what is
/// cancelled leaves its eUICC before its outcome is recorded.
async fn conclude(shared: &Shared, item: &Item, device: DeviceKey) -> Result<Option<Outcome>> {
    let Some(parts) = shared.store.parts(item.position()).await? else { return Ok(None) };
    let on_device = shared.store.on_devices(vec![device]).await?.into_iter().flatten();
    let profiles: Vec<Profile> = on_device.map(|(_, profile)| profile).collect();
    let outcome = device_outcome(item.waiting.request.action, &parts);
    let result = outcome.map(|()| Left::Device(device_state(&profiles)));
    let mut told = told(item, profiles.first(), result);
    told.msisdn = None;
    Ok(Some((told, Vec::new())))
}

/// What the server asked of itself: to tell that a suspension will end, to record what a network did, to tell where it
/// differs.
async fn by_itself(shared: &Shared, item: &Item, target: ProfileTarget) -> Result<Outcome> {
    let on_device = shared.store.on_devices(vec![target.device]).await?.into_iter().flatten();
    let profiles: Vec<(ProfileKey, Profile)> = on_device.collect();
    let Some(at) = profiles.iter().position(|(key, _)| *key == target.profile) else {
        return Ok((told(item, None, Err(Fault::DeviceNotFound)), Vec::new()));
    };
    let (key, profile) = &profiles[at];
    if item.waiting.request.action == Action::ResumeNotice {
        return notice(shared, item, *key, profile).await;
    }
    let is_drift = item.waiting.request.action == Action::Drift;
    let Some(reported) = item.waiting.request.terms.reported else {
        // The network does not know it; or there is nothing to record.
        let fault = if is_drift { Fault::DeviceNotFound } else { Fault::DeviceStateInvalid };
        return Ok((told(item, Some(profile), Err(fault)), Vec::new()));
    };
    let Some(reported) = still_true(shared, item, *key, reported).await? else {
        return Ok((told(item, Some(profile), Err(Fault::DeviceStateInvalid)), Vec::new()));
    };
    let to = reported.upon(profile.condition());
    let left = LeftAs { state: to.state, status: to.status, role: profile.role };
    if to == profile.condition() || is_drift {
        return Ok((told(item, Some(profile), Ok(Left::Profile(left))), Vec::new()));
    }
    let settles = settled(reported);
    let mut changes = vec![Change::To { profile: *key, from: profile.condition(), to, plan: None, settles }];
    if to.status.is_enabled() {
        let others: Vec<_> = profiles.iter().filter(|(other, _)| other != key).cloned().collect();
        let alone: Vec<Profile> = others.iter().map(|(_, other)| other.clone()).collect();
        changes.extend(changed(&others, enabled_instead(&alone, None)));
    }
    Ok((told(item, Some(profile), Ok(Left::Profile(left))), changes))
}

/// What of a report no operation has overtaken that ended after the report was taken up; nothing where all of
/// it is overtaken.
async fn still_true(
    shared: &Shared,
    item: &Item,
    key: ProfileKey,
    mut reported: Reported,
) -> Result<Option<Reported>> {
    let from = Timestamp(item.waiting.request.accepted_at.0.saturating_add(1));
    let first = Position { sequence: 0, number: 0 };
    let span = HistorySpan { from, until: Timestamp(i64::MAX), after: first, limit: CHANGES_MAX };
    for change in shared.store.history_span(key, span).await? {
        let by = change.request.map(|(_, action)| action);
        if change.in_doubt || matches!(by, Some(Action::ExternalChange | Action::Drift)) {
            continue; // it is not known what became of that; another report is no answer to this one
        }
        let asked = (change.from == change.to).then(|| by.map(doubted_by)).flatten().unwrap_or_default();
        if change.from.state != change.to.state || asked.meets(Doubt::SERVICE) {
            reported.state = None;
        }
        if change.from.status != change.to.status || asked.meets(Doubt::ENABLED) {
            reported.status = None;
        }
    }
    Ok(Some(reported).filter(|left| left.state.is_some() || left.status.is_some()))
}

/// What a report makes certain.
fn settled(reported: Reported) -> Doubt {
    let state = reported.state.map(|_| Doubt::SERVICE);
    let status = reported.status.map(|_| Doubt::ON_CARD.and(Doubt::ENABLED));
    state.unwrap_or_default().and(status.unwrap_or_default())
}

/// Tells when the suspension will end, unless it has.
async fn notice(shared: &Shared, item: &Item, key: ProfileKey, profile: &Profile) -> Result<Outcome> {
    let since = shared.store.suspended_since(vec![key]).await?.into_iter().flatten().next();
    let resumes_at = item.waiting.request.terms.resumes_at;
    let result = match resumes_at.filter(|at| shared.lasts_until(since, *at)) {
        Some(at) => Ok(Left::Document(reveille_wire::documents::resume_notice(at).into())),
        None => Err(Fault::DeviceStateInvalid),
    };
    let noticed = result.is_ok().then_some(Change::Noticed { profile: key });
    Ok((told(item, Some(profile), result), noticed.into_iter().collect()))
}
