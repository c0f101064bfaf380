//! What a request asks for, and how each of its subrequests ends.

use crate::{Eid, Iccid, Imei, Msisdn, ProfileState, ProfileStatus, RequestId, Role};
use std::fmt;

/// What one request does to each of its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Bring suspended profiles back into service.
    ProfileResume,
}

impl Action {
    /// The name in the path of its call, in the store and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProfileResume => "profile_resume",
        }
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::ProfileResume].into_iter().find(|action| action.name() == name)
    }
}

/// Where a subrequest stands in the order of the store: by request, then by number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The request's order number, given by the store.
    pub sequence: i64,
    /// The subrequest's number within its request, from 1.
    pub number: u32,
}

/// The name of one operation on a carrier: the same for every attempt, restart and node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct OperationId {
    /// The request.
    pub request: RequestId,
    /// The subrequest's number within it.
    pub number: u32,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.request, self.number)
    }
}

/// Why a subrequest failed; told by its callback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The account has no such profile (or another account has it, which is not told).
    DeviceNotFound,
    /// An identifier beside the ICCID disagrees with the inventory.
    IdentifierMismatch,
    /// The named service plan is not one of the account's on the profile's network.
    ServicePlanNotFound(Box<str>),
    /// A resume of a profile that is in service.
    ProfileAlreadyResumed,
    /// The profile is in no state that the action applies to.
    DeviceStateInvalid,
    /// The request was cancelled before this subrequest began.
    Cancelled,
    /// The profile's network has no carrier configured.
    NetworkUnserved,
    /// The carrier refused for good, in its words.
    CarrierRejected(Box<str>),
    /// The carrier left it unsettled until the engine gave up; the profile is in doubt.
    Unsettled,
}

impl Fault {
    /// The name under which it is kept and counted; stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeviceNotFound => "device_not_found",
            Self::IdentifierMismatch => "identifier_mismatch",
            Self::ServicePlanNotFound(_) => "service_plan_not_found",
            Self::ProfileAlreadyResumed => "profile_already_resumed",
            Self::DeviceStateInvalid => "device_state_invalid",
            Self::Cancelled => "cancelled",
            Self::NetworkUnserved => "network_unserved",
            Self::CarrierRejected(_) => "carrier_rejected",
            Self::Unsettled => "unsettled",
        }
    }

    /// What it says beyond its name: the plan that was not found, the carrier's words.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::ServicePlanNotFound(text) | Self::CarrierRejected(text) => Some(text),
            _ => None,
        }
    }

    /// The fault of that name and detail.
    pub fn named(name: &str, detail: Option<&str>) -> Option<Self> {
        let detail = || detail.unwrap_or_default().into();
        Some(match name {
            "device_not_found" => Self::DeviceNotFound,
            "identifier_mismatch" => Self::IdentifierMismatch,
            "service_plan_not_found" => Self::ServicePlanNotFound(detail()),
            "profile_already_resumed" => Self::ProfileAlreadyResumed,
            "device_state_invalid" => Self::DeviceStateInvalid,
            "cancelled" => Self::Cancelled,
            "network_unserved" => Self::NetworkUnserved,
            "carrier_rejected" => Self::CarrierRejected(detail()),
            "unsettled" => Self::Unsettled,
            _ => return None,
        })
    }
}

/// What a callback says of one outcome: frozen with it, whatever becomes of the profile later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The profile, as the request named it.
    pub iccid: Iccid,
    /// The eUICC that it was on, where the inventory knew.
    pub eid: Option<Eid>,
    /// The device that the eUICC was in, where the inventory knew.
    pub imei: Option<Imei>,
    /// Its phone number, where the inventory knew.
    pub msisdn: Option<Msisdn>,
    /// How the profile was left, or why it was left alone.
    pub result: Result<LeftAs, Fault>,
}

/// How a succeeded subrequest left its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftAs {
    /// Its service state.
    pub state: ProfileState,
    /// Its status on the card.
    pub status: ProfileStatus,
    /// Its role on the eUICC.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_again_by_its_name_and_detail() {
        let every = [
            Fault::DeviceNotFound,
            Fault::IdentifierMismatch,
            Fault::ServicePlanNotFound("Verizon IoT 5MB".into()),
            Fault::ProfileAlreadyResumed,
            Fault::DeviceStateInvalid,
            Fault::Cancelled,
            Fault::NetworkUnserved,
            Fault::CarrierRejected("barred".into()),
            Fault::Unsettled,
        ];
        for fault in every {
            assert_eq!(Fault::named(fault.name(), fault.detail()), Some(fault));
        }
        assert_eq!(Fault::named("no such fault", None), None);
    }
}
