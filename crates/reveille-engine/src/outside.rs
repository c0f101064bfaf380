//! Changes that a network made by itself: recorded in their turn, and told. Source: contract §7
//! (ExternalProvisioningChanges).

use crate::accept::{Asked, Named};
use crate::{CarrierSetup, Chain, Shared};
use reveille_carriers::Report;
use reveille_domain::{Action, Network, Profile, Refusal, Reported, Terms};
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
    let found = shared.store.profile(&report.iccid).await.map_err(|error| {
        warn!(error = %Chain(&error), "Cannot read a profile");
        crate::accept::refused(&error)
    })?;
    let Some(OwnedProfile { account, profile }) = found.filter(|found| found.profile.network == network)
    else {
        warn!(
            carrier = network.name(),
            "A network reports a change of a profile that is not in the inventory"
        );
        return Ok(());
    };
    if !differs(&profile, report.reported) {
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

fn differs(profile: &Profile, reported: Reported) -> bool {
    reported.state.is_some_and(|state| state != profile.state)
        || reported.status.is_some_and(|status| status != profile.status)
}
