//! The contract's codes and texts for faults. Source: contract §9.3 and §12 Q7; the rest are our names.

use reveille_domain::{Already, Fault, Limit};

/// The code, without the service name that stands before it in a callback.
pub fn fault_code(fault: &Fault) -> String {
    match fault {
        Fault::DeviceNotFound => "REQUEST_FAILED.DeviceNotFound".into(),
        Fault::IdentifierMismatch => "INPUT_INVALID.Device.Identifier.Invalid".into(),
        Fault::ServicePlanNotFound(plan) => format!("REQUEST_FAILED.{plan}.NotFound"),
        Fault::Already(already) => format!("REQUEST_FAILED.{}", already_code(*already)),
        Fault::DeviceStateInvalid => "INPUT_INVALID.DeviceState.Invalid".into(),
        Fault::LimitReached(Limit::ActionsPerDay) => "REQUEST_FAILED.ActionsPerDayExceeded".into(),
        Fault::LimitReached(Limit::PlanChangesPerMonth) => {
            "REQUEST_FAILED.PlanChangesPerMonthExceeded".into()
        }
        Fault::DeviceActionFailed => "REQUEST_FAILED.DeviceActionFailed".into(),
        Fault::Cancelled => "REQUEST_CANCELLED".into(),
        Fault::NetworkUnserved => "REQUEST_FAILED.NetworkUnserved".into(),
        Fault::CarrierRejected(_) => "REQUEST_FAILED.CarrierRejected".into(),
        Fault::Relayed(said) => relayed(said).0.into(),
        Fault::Unsettled => "REQUEST_FAILED.Unsettled".into(),
    }
}

/// The code and the text of a fault that a carrier's own callback told.
fn relayed(said: &str) -> (&str, &str) {
    const OF_ITS_OWN: (&str, &str) =
        ("REQUEST_FAILED.Relayed", "REQUEST_FAILED. The carrier's callback told a fault of its own");
    said.split_once(' ').unwrap_or(OF_ITS_OWN)
}

fn already_code(already: Already) -> &'static str {
    match already {
        Already::Resumed => "ProfileAlreadyResumed",
        Already::Suspended => "ProfileAlreadySuspended",
        Already::Active => "DeviceAlreadyActive",
        Already::Deactivated => "ProfileAlreadyDeactivated",
        Already::Enabled => "ProfileAlreadyEnabled",
        Already::Disabled => "ProfileAlreadyDisabled",
        Already::Downloaded => "ProfileAlreadyDownloaded",
        Already::Deleted => "ProfileAlreadyDeleted",
        Already::Fallback => "ProfileAlreadyFallback",
        Already::OnPlan => "ServicePlanAlreadySet",
    }
}

/// The text beside the code: its class, then a sentence.
pub fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::DeviceNotFound => "REQUEST_FAILED. Device is not found".into(),
        Fault::IdentifierMismatch => {
            "INPUT_INVALID. An identifier beside the one that counts belongs to another device".into()
        }
        Fault::ServicePlanNotFound(plan) => {
            format!(
                "REQUEST_FAILED. Service plan {plan} is not a plan of this account on the profile's network"
            )
        }
        Fault::Already(already) => format!("REQUEST_FAILED. {}", already_text(*already)),
        Fault::DeviceStateInvalid => {
            "INPUT_INVALID. The profile is in no state that this action applies to".into()
        }
        Fault::LimitReached(Limit::ActionsPerDay) => {
            "REQUEST_FAILED. The profile's service state was changed as often as it may be within a day"
                .into()
        }
        Fault::LimitReached(Limit::PlanChangesPerMonth) => {
            "REQUEST_FAILED. The profile's service plan was changed as often as it may be within a month"
                .into()
        }
        Fault::DeviceActionFailed => {
            "REQUEST_FAILED. No profile of the device could be changed, for different reasons".into()
        }
        Fault::Cancelled => "REQUEST_CANCELLED. The request was cancelled before this profile's turn".into(),
        Fault::NetworkUnserved => "REQUEST_FAILED. No carrier serves the profile's network".into(),
        Fault::CarrierRejected(reason) => format!("REQUEST_FAILED. The carrier refused: {reason}"),
        Fault::Relayed(said) => relayed(said).1.into(),
        Fault::Unsettled => {
            "REQUEST_FAILED. The carrier did not settle the operation in time; the profile is in doubt".into()
        }
    }
}

fn already_text(already: Already) -> &'static str {
    match already {
        Already::Resumed => "Profile is already resumed",
        Already::Suspended => "Profile is already suspended",
        Already::Active => "Device is already active",
        Already::Deactivated => "Profile is already deactivated",
        Already::Enabled => "Profile is already enabled",
        Already::Disabled => "Profile is already disabled",
        Already::Downloaded => "Profile is already downloaded",
        Already::Deleted => "Profile is already deleted",
        Already::Fallback => "Profile is already the fallback profile",
        Already::OnPlan => "Profile is already on this service plan",
    }
}

/// The name under which faults of that code are kept and counted; the plan's name does not matter.
pub fn named_fault(code: &str) -> Option<&'static str> {
    let found = Fault::every().iter().find(|fault| fault_code(fault) == code).map(Fault::name);
    let plan = code.starts_with("REQUEST_FAILED.") && code.ends_with(".NotFound");
    found.or_else(|| plan.then(|| Fault::ServicePlanNotFound("".into()).name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_fault_has_a_code_of_its_own_by_which_its_name_is_found() {
        let every = Fault::every();
        let codes: HashSet<String> = every.iter().map(fault_code).collect();
        assert_eq!(codes.len(), every.len());
        for fault in every {
            assert_eq!(named_fault(&fault_code(&fault)), Some(fault.name()));
        }
    }
}
