//! Where networks differ from the record: looked for at a steady pace, told once, and left as it is.
//!
//! A profile is compared while nothing waits on its eUICC, and counts where its record was the same before the network
//! was asked and after. A difference is told when it was seen twice.

use crate::accept::{Asked, Named};
use crate::{CarrierSetup, Chain, Shared, observed};
use reveille_carriers::{Observation, Observed};
use reveille_domain::{
    Action, Iccid, Network, ProfileState, ProfileStatus, Reported, SuspendedBy, Terms, Timestamp,
};
use reveille_store::{
    Compared, ITSELF, IdempotencyKey, OwnedProfile, ProfileFilter, ProfileTarget, Result, Seen, Standing,
};
use reveille_wire::profile_action::NamedTarget;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How many profiles are compared in one call to a network at most.
const PAGE: usize = 64;

/// How long a suspected difference is left before it is looked at again.
const CONFIRMED_AFTER: Duration = Duration::from_secs(2);

/// How long to wait where it is not this process's turn, or the network cannot be asked.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long a page may take before another process may take it up, or this one after a crash: two looks, as calls
/// usually go. That two look at one page does no harm.
const PAGE_LASTS_MAX: Duration = Duration::from_secs(30);

/// How long a repeated telling of the same drift is recognised; longer than it can take to note that it was told.
const TOLD_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// How often a page is asked about that the network does not answer in time, before it is passed by.
const TRIES_MAX: u32 = 3;

/// How a network's profiles are compared with what it says.
#[derive(Clone, Copy, Debug)]
pub struct Comparing {
    /// How many per second.
    pub rate: u32,
    /// How long from the beginning of one round to that of the next at least.
    pub every: Duration,
}

/// What became of a turn.
enum Turn {
    /// So many profiles were looked at.
    Compared(usize),
    /// The network did not say of all how they are.
    Unanswered,
    /// It was another process's, or the round is over.
    NotOurs,
}

/// Compares a network's profiles, round after round, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>, network: Network, setup: CarrierSetup, pace: Comparing) {
    let mut tries = 0;
    loop {
        let turn = take_turn(&shared, network, &setup, pace, tries + 1 >= TRIES_MAX).await;
        let pause = match turn {
            Ok(Turn::Compared(profiles)) => {
                tries = 0;
                Duration::from_secs_f64(profiles as f64 / f64::from(pace.rate.max(1)))
            }
            Ok(Turn::Unanswered) => {
                tries += 1;
                LOOK_AGAIN_AFTER
            }
            Ok(Turn::NotOurs) => LOOK_AGAIN_AFTER,
            Err(error) => {
                warn!(error = %Chain(&error), carrier = network.name(), "Cannot compare profiles with their network");
                LOOK_AGAIN_AFTER
            }
        };
        shared.clock.sleep(pause).await;
    }
}

/// Compares a page where it is this process's turn; at the last try, what is not answered is passed by.
async fn take_turn(
    shared: &Arc<Shared>,
    network: Network,
    setup: &CarrierSetup,
    pace: Comparing,
    last_try: bool,
) -> Result<Turn> {
    let (now, mut busy) = (shared.now(), Some(shared.busy()));
    let turn = shared.store.begin_comparing(network, now, now.plus(PAGE_LASTS_MAX), pace.every).await?;
    let Some(after) = turn else { return Ok(Turn::NotOurs) };
    let limit = PAGE.min(usize::try_from(pace.rate.max(1)).unwrap_or(PAGE));
    let filter =
        ProfileFilter { network: Some(network), after: after.clone(), limit, ..ProfileFilter::default() };
    let page = shared.store.fleet(filter).await?;
    let profiles = page.len();
    let reached = page.last().filter(|_| profiles == limit).map(|last| last.profile.iccid.clone());
    let mut left = page;
    for look in 0..2 {
        let Some(looked) = look_at(shared, setup, left).await? else {
            if last_try {
                warn!(
                    carrier = network.name(),
                    profiles, "A network does not say how profiles are; they are passed by"
                );
                break;
            }
            shared.store.end_comparing(network, after).await?;
            return Ok(Turn::Unanswered);
        };
        if look == 0 {
            shared.metrics.compared(network, looked.len());
        }
        left = note(shared, looked).await?;
        if left.is_empty() {
            break;
        }
        let _ = busy.take(); // nothing moves before the clock does
        shared.clock.sleep(CONFIRMED_AFTER).await;
        busy = Some(shared.busy());
    }
    let ended = reached.is_none();
    shared.store.end_comparing(network, reached).await?;
    if ended {
        info!(carrier = network.name(), "Compared all profiles with what their network says");
    }
    drop(busy);
    Ok(Turn::Compared(profiles))
}

/// Those that could be compared, each with what its network says otherwise; nothing where it cannot be asked.
async fn look_at(
    shared: &Shared,
    setup: &CarrierSetup,
    page: Vec<OwnedProfile>,
) -> Result<Option<Vec<(OwnedProfile, Option<Seen>)>>> {
    let before = at_rest(shared, page).await?;
    if before.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let profiles: Vec<_> = before.iter().map(|(owned, _)| owned.profile.clone()).collect();
    let seen = observed(setup, &*shared.clock, &profiles).await;
    if seen.len() < profiles.len() || seen.iter().any(|seen| matches!(seen, Observation::Unavailable(_))) {
        return Ok(None);
    }
    let keys = before.iter().map(|(_, target)| target.profile).collect();
    let devices = before.iter().map(|(_, target)| target.device).collect();
    let now = shared.store.profiles(keys).await?;
    let waiting = shared.store.earliest_on(devices).await?;
    let looked = before.into_iter().zip(seen).zip(now.into_iter().zip(waiting));
    let same = looked.filter(|(((owned, _), _), (now, waiting))| {
        waiting.is_none() && now.as_ref() == Some(&owned.profile)
    });
    let differs = |(((owned, _), seen), _): (((OwnedProfile, ProfileTarget), Observation), _)| {
        let seen = match seen {
            Observation::Seen(seen) => seen
                .differing_from(&owned.profile)
                .map(|Observed { in_service, enabled }| Seen::Otherwise { in_service, enabled }),
            Observation::NoSuchProfile => Some(Seen::NoSuchProfile),
            Observation::NotAble | Observation::Unavailable(_) => return None,
        };
        Some((owned, seen))
    };
    Ok(Some(same.filter_map(differs).collect()))
}

/// Those on whose eUICCs nothing waits, and where they are in the inventory.
async fn at_rest(shared: &Shared, page: Vec<OwnedProfile>) -> Result<Vec<(OwnedProfile, ProfileTarget)>> {
    let mut accounts: HashMap<_, Vec<Iccid>> = HashMap::new();
    for owned in &page {
        accounts.entry(owned.account.clone()).or_default().push(owned.profile.iccid.clone());
    }
    let mut targets = HashMap::new();
    for (account, iccids) in accounts {
        let found = shared.store.resolve(&account, iccids.clone()).await?;
        targets.extend(iccids.into_iter().zip(found).filter_map(|(iccid, found)| Some((iccid, found?))));
    }
    let found: Vec<_> = page
        .into_iter()
        .filter_map(|owned| targets.get(&owned.profile.iccid).map(|target| (owned, *target)))
        .collect();
    let devices = found.iter().map(|(_, target)| target.device).collect();
    let waiting = shared.store.earliest_on(devices).await?;
    Ok(found.into_iter().zip(waiting).filter(|(_, waiting)| waiting.is_none()).map(|(one, _)| one).collect())
}

/// Notes how they stand, and tells what was found; those that are to be looked at again.
async fn note(shared: &Arc<Shared>, looked: Vec<(OwnedProfile, Option<Seen>)>) -> Result<Vec<OwnedProfile>> {
    let compared = looked.iter().map(|(owned, seen)| Compared {
        account: owned.account.clone(),
        network: owned.profile.network,
        iccid: owned.profile.iccid.clone(),
        seen: *seen,
    });
    let standings = shared.store.note_compared(compared.collect(), shared.now()).await?;
    let mut suspected = Vec::new();
    for ((owned, seen), standing) in looked.into_iter().zip(standings) {
        match (standing, seen) {
            (Standing::Suspected, _) => suspected.push(owned),
            (Standing::Found { found_at }, Some(seen)) => tell(shared, owned, seen, found_at).await?,
            (Standing::Found { .. } | Standing::Agrees | Standing::Told, _) => {}
        }
    }
    Ok(suspected)
}

/// Has a drift told; under a key, so that it is told once whatever happens before that is noted.
async fn tell(shared: &Arc<Shared>, owned: OwnedProfile, seen: Seen, found_at: Timestamp) -> Result<()> {
    let OwnedProfile { account, profile } = owned;
    let key = format!("drift {} {}", profile.iccid.as_str(), found_at.0);
    let asked = Asked {
        account,
        action: Action::Drift,
        service_plan: None,
        terms: Terms { reported: reported(seen), ..Terms::default() },
        user: ITSELF.into(),
        targets: Named::Profiles(vec![NamedTarget::bare(profile.iccid.clone())]),
        key: Some(IdempotencyKey {
            key: key.into(),
            digest: [0; 32], // there is one way to tell it
            since: shared.now().minus(TOLD_WITHIN),
        }),
    };
    match shared.accept(asked).await {
        Ok(request) => {
            warn!(request.id = %request, carrier = profile.network.name(), ?seen, "A network differs from the record");
            shared.store.tell_drift(&profile.iccid, found_at, request).await
        }
        Err(refusal) => {
            warn!(?refusal, "Cannot tell of a drift now; it is found again in the next round");
            Ok(())
        }
    }
}

/// What a drift is told as; a network does not say by whom a profile is suspended.
fn reported(seen: Seen) -> Option<Reported> {
    let Seen::Otherwise { in_service, enabled } = seen else { return None };
    let out = ProfileState::Suspended(SuspendedBy::Profile);
    Some(Reported {
        state: in_service.map(|is| if is { ProfileState::Active } else { out }),
        status: enabled.map(|is| if is { ProfileStatus::Enable } else { ProfileStatus::Disable }),
    })
}
