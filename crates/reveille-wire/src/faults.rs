//! The contract's codes and texts for faults. Source: contract §9.3 and §12 Q7; the rest are our names.

use reveille_domain::Fault;

/// The code, without the service name that stands before it in a callback.
pub fn fault_code(fault: &Fault) -> String {
    match fault {
        Fault::DeviceNotFound => "REQUEST_FAILED.DeviceNotFound".into(),
        Fault::IdentifierMismatch => "INPUT_INVALID.Device.Identifier.Invalid".into(),
        Fault::ServicePlanNotFound(plan) => format!("REQUEST_FAILED.{plan}.NotFound"),
        Fault::ProfileAlreadyResumed => "REQUEST_FAILED.ProfileAlreadyResumed".into(),
        Fault::DeviceStateInvalid => "INPUT_INVALID.DeviceState.Invalid".into(),
        Fault::Cancelled => "REQUEST_CANCELLED".into(),
        Fault::NetworkUnserved => "REQUEST_FAILED.NetworkUnserved".into(),
        Fault::CarrierRejected(_) => "REQUEST_FAILED.CarrierRejected".into(),
        Fault::Unsettled => "REQUEST_FAILED.Unsettled".into(),
    }
}

/// The text beside the code: its class, then a sentence.
pub fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::DeviceNotFound => "REQUEST_FAILED. Device is not found".into(),
        Fault::IdentifierMismatch => {
            "INPUT_INVALID. An identifier beside the ICCID belongs to another device".into()
        }
        Fault::ServicePlanNotFound(plan) => {
            format!(
                "REQUEST_FAILED. Service plan {plan} is not a plan of this account on the profile's network"
            )
        }
        Fault::ProfileAlreadyResumed => "REQUEST_FAILED. Profile is already resumed".into(),
        Fault::DeviceStateInvalid => {
            "INPUT_INVALID. The profile is in no state that this action applies to".into()
        }
        Fault::Cancelled => "REQUEST_CANCELLED. The request was cancelled before this profile's turn".into(),
        Fault::NetworkUnserved => "REQUEST_FAILED. No carrier serves the profile's network".into(),
        Fault::CarrierRejected(reason) => format!("REQUEST_FAILED. The carrier refused: {reason}"),
        Fault::Unsettled => {
            "REQUEST_FAILED. The carrier did not settle the operation in time; the profile is in doubt".into()
        }
    }
}

/// The name under which faults of that code are kept and counted; the plan's name does not matter.
pub fn named_fault(code: &str) -> Option<&'static str> {
    let bare = [
        Fault::DeviceNotFound,
        Fault::IdentifierMismatch,
        Fault::ProfileAlreadyResumed,
        Fault::DeviceStateInvalid,
        Fault::Cancelled,
        Fault::NetworkUnserved,
        Fault::CarrierRejected("".into()),
        Fault::Unsettled,
    ];
    let found = bare.iter().find(|fault| fault_code(fault) == code).map(Fault::name);
    let plan = code.starts_with("REQUEST_FAILED.") && code.ends_with(".NotFound");
    found.or_else(|| plan.then(|| Fault::ServicePlanNotFound("".into()).name()))
}
