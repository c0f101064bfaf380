//! Which call brings a profile to its end. Source: contract §5 and §8.

use crate::Operation;
use reveille_domain::{Action, EndState, Role};

/// There is a call for every end.
pub(super) const ENDS: &[EndState] = &[
    EndState::InService,
    EndState::Suspended,
    EndState::OutOfService,
    EndState::OnPlan,
    EndState::Downloaded,
    EndState::DownloadedAndEnabled,
    EndState::Enabled,
    EndState::Disabled,
    EndState::InServiceAndEnabled,
    EndState::Deleted,
    EndState::Fallback,
];

/// A call, and what its targets are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) by: By,
}

/// What names a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    Iccid,
    /// Older products want to know the card as well.
    IccidAndEid,
    Eid,
}

/// The call for an operation: the action's own, but that devices are asked for profile by profile, since each is an
/// operation. A US profile is suspended with its device only; of the others on it each finds that it is so already.
pub(super) fn verb_of(operation: &Operation) -> Verb {
    let terms = &operation.asked.terms;
    let older = terms.smsr_oid.is_some() || terms.carrier_name.is_some();
    let by = if older { By::IccidAndEid } else { By::Iccid };
    match (operation.asked.action, operation.role) {
        (Action::DeviceSuspend, Role::Local) => Verb { name: Action::ProfileSuspend.name(), by },
        (Action::DeviceSuspend, Role::Lead | Role::Default) => {
            Verb { name: Action::DeviceSuspend.name(), by: By::Eid }
        }
        (Action::DeviceResume, _) => Verb { name: Action::ProfileResume.name(), by },
        (action, _) => Verb { name: action.name(), by },
    }
}

/// The words of which one follows *already* where a profile is said to be at that end.
pub(super) fn already(end: EndState) -> &'static [&'static str] {
    match end {
        EndState::InService => &["resumed", "active", "activated"],
        EndState::Suspended => &["suspended"],
        EndState::OutOfService => &["deactivated", "deactive"],
        EndState::OnPlan => &["on", "set"],
        EndState::Downloaded => &["downloaded"],
        EndState::Enabled => &["enabled"],
        // Asked for twice, these are refused for the first of what they do.
        EndState::DownloadedAndEnabled => &["enabled", "downloaded"],
        EndState::InServiceAndEnabled => &["enabled", "active", "activated"],
        EndState::Disabled => &["disabled"],
        EndState::Deleted => &["deleted"],
        EndState::Fallback => &["the", "fallback"],
    }
}
