//! Changes that a network made by itself: recorded in their turn, and told. Source: contract §7
//! (ExternalProvisioningChanges).

use crate::accept::{Asked, Named};
use crate::{CarrierSetup, Chain, Shared};
use reveille_carriers::Report;
use reveille_domain::{Action, Network, Refusal, Terms};
use reveille_store::{ITSELF, OwnedProfile};
use reveille_wire::profile_action::NamedTarget;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long to wait before a report is taken up again that the store could not take.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Takes up what a carrier reports, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>, network: Network, setup: CarrierSetup) {
    loop {
        let report = setup.carrier.report().await;
        loop {
            let busy = shared.busy();
            let Err(refusal) = take_up(&shared, network, &report).await else { break };
            drop(busy);
            warn!(?refusal, "Cannot take up a change that a network reports; trying again");
            shared.clock.sleep(AGAIN_AFTER).await;
        }
    }
}

async fn take_up(shared: &Arc<Shared>, network: Network, report: &Report) -> Result<(), Refusal> {
    let read = read(shared, report).await.map_err(|error| {
        warn!(error = %Chain(&error), "Cannot read a profile");
        crate::accept::refused(&error)
    })?;
    let (found, waits) = read;
    let Some(OwnedProfile { account, profile }) = found.filter(|found| found.profile.network == network)
    else {
        warn!(
            carrier = network.name(),
            "A network reports a change of a profile that is not in the inventory"
        );
        return Ok(());
    };
    let recorded = profile.condition();
    if !waits && report.reported.upon(recorded) == recorded {
        return Ok(());
    }
    let asked = Asked {
        account,
        action: Action::ExternalChange,
        service_plan: None,
        terms: Terms { reported: Some(report.reported), ..Terms::default() },
        user: ITSELF.into(),
        targets: Named::Profiles(vec![NamedTarget::bare(report.iccid.clone())]),
        key: None,
    };
    let request = shared.accept(asked).await?;
    info!(request.id = %request, carrier = network.name(), "A network changed a profile by itself: request {request}");
    Ok(())
}

/// The profile, and whether anything waits on its eUICC: then the record may not be what it is at the report's
/// turn.
async fn read(shared: &Shared, report: &Report) -> reveille_store::Result<(Option<OwnedProfile>, bool)> {
    let Some(found) = shared.store.profile(&report.iccid).await? else { return Ok((None, false)) };
    let target = shared.store.resolve(&found.account, vec![report.iccid.clone()]).await?;
    let devices = target.into_iter().flatten().map(|target| target.device).collect();
    let waits = shared.store.earliest_on(devices).await?.into_iter().any(|earliest| earliest.is_some());
    // What has ended just before is in the record that is read now.
    Ok((shared.store.profile(&report.iccid).await?, waits))
}
