//! What a request asks for, and how each of its subrequests ends.

use crate::{Condition, Eid, Iccid, Imei, Msisdn, ProfileState, ProfileStatus, RequestId, Role, Timestamp};
use std::fmt;

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Bring suspended profiles back into service.
    ProfileResume,
    /// Suspend Global profiles.
    ProfileSuspend,
    /// Suspend every active profile of a device.
    DeviceSuspend,
    /// Bring back what was suspended with its device.
    DeviceResume,
    /// Begin, or begin again, the service of profiles.
    Activate,
    /// The same, and enable them on the card.
    ActivateEnable,
    /// End the service of profiles.
    Deactivate,
    /// Make profiles the enabled ones of their cards.
    Enable,
    /// Take enabled profiles out of use on their cards.
    Disable,
    /// Bring Global profiles onto their cards.
    Download,
    /// The same, and enable them.
    DownloadEnable,
    /// The same as `Download`, in the words of an older product.
    DownloadDisable,
    /// Remove Global profiles from their cards.
    Delete,
    /// Make profiles what their cards fall back to.
    SetFallback,
    /// Move profiles to another service plan.
    ServicePlan,
    /// Tell an account's devices.
    DeviceList,
    /// Tell what became of an account's devices.
    DeviceHistory,
    /// Tell that a suspension will end by itself.
    ResumeNotice,
    /// Record and tell what a network changed by itself.
    ExternalChange,
    /// Tell where a network differs from the record, and leave both.
    Drift,
}

/// What the targets of an action are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Profiles, each a subrequest.
    Profiles,
    /// Devices: each profile on the eUICC is a subrequest, and the device itself another, which ends last.
    Devices,
    /// Pages of an answer that is told by callback.
    Pages,
}

/// A callback service: what an account registers a listener for. Source: contract §6.3 and §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Outcomes of what was asked for.
    DeviceProfile,
    /// Suspensions that will end by themselves.
    ResumeTracking,
    /// Changes that did not come through the API.
    ExternalChanges,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 20] = [
        Self::ProfileResume,
        Self::ProfileSuspend,
        Self::DeviceSuspend,
        Self::DeviceResume,
        Self::Activate,
        Self::ActivateEnable,
        Self::Deactivate,
        Self::Enable,
        Self::Disable,
        Self::Download,
        Self::DownloadEnable,
        Self::DownloadDisable,
        Self::Delete,
        Self::SetFallback,
        Self::ServicePlan,
        Self::DeviceList,
        Self::DeviceHistory,
        Self::ResumeNotice,
        Self::ExternalChange,
        Self::Drift,
    ];

    /// The name in the path of its call, where it has one, in the store and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProfileResume => "profile_resume",
            Self::ProfileSuspend => "profile_suspend",
            Self::DeviceSuspend => "device_suspend",
            Self::DeviceResume => "device_resume",
            Self::Activate => "activate",
            Self::ActivateEnable => "activate_enable",
            Self::Deactivate => "deactivate",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Download => "download",
            Self::DownloadEnable => "download_enable",
            Self::DownloadDisable => "download_disable",
            Self::Delete => "delete",
            Self::SetFallback => "setfallbackattribute",
            Self::ServicePlan => "serviceplan",
            Self::DeviceList => "device_list",
            Self::DeviceHistory => "device_history",
            Self::ResumeNotice => "resume_notice",
            Self::ExternalChange => "external_change",
            Self::Drift => "drift",
        }
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// What its targets are.
    pub fn targets(self) -> Targets {
        match self {
            Self::DeviceSuspend | Self::DeviceResume => Targets::Devices,
            Self::DeviceList | Self::DeviceHistory => Targets::Pages,
            _ => Targets::Profiles,
        }
    }

    /// Whether a slow card is told by a `warning` first. Source: contract §12 Q22.
    pub fn warns(self) -> bool {
        matches!(
            self,
            Self::Download
                | Self::DownloadEnable
                | Self::DownloadDisable
                | Self::Enable
                | Self::Disable
                | Self::Delete
                | Self::ActivateEnable
        )
    }

    /// The service whose listener is told.
    pub fn service(self) -> Service {
        match self {
            Self::ResumeNotice => Service::ResumeTracking,
            Self::ExternalChange | Self::Drift => Service::ExternalChanges,
            _ => Service::DeviceProfile,
        }
    }
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::DeviceProfile, Self::ResumeTracking, Self::ExternalChanges];

    /// The name under which a listener is registered. Source: contract §7.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceProfile => "DeviceProfileService",
            Self::ResumeTracking => "ResumeTrackingNotification",
            Self::ExternalChanges => "ExternalProvisioningChanges",
        }
    }
}

/// What a request says beside its targets and its service plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where a number is wanted, on activation: five digits.
    pub mdn_zip_code: Option<Box<str>>,
    /// The SM-SR that manages the card.
    pub smsr_oid: Option<Box<str>>,
    /// The carrier, as an older product names it.
    pub carrier_name: Option<Box<str>>,
    /// Why a profile is deactivated: two characters.
    pub reason_code: Option<Box<str>>,
    /// Whether the fee for an early end is waived.
    pub etf_waiver: bool,
    /// Whether a profile that its card falls back to is spared from deactivation.
    pub spares_fallback: bool,
    /// What a network reported, of a change that it made by itself.
    pub reported: Option<Reported>,
    /// When a suspension will end by itself, of a notice that says so and of the resume that ends it. It tells
    /// that suspension from a later one.
    pub resumes_at: Option<Timestamp>,
}

/// What a network reports of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its service state, where that has changed.
    pub state: Option<ProfileState>,
    /// Its status on the card, where that has changed.
    pub status: Option<ProfileStatus>,
}

impl Reported {
    /// How a profile is recorded from then on. What is suspended stays so by whatever suspended it: a network
    /// does not know.
    pub fn upon(self, mut now: Condition) -> Condition {
        let suspended = |state| matches!(state, ProfileState::Suspended(_));
        let stays = |state: &ProfileState| suspended(*state) && suspended(now.state);
        now.state = self.state.filter(|state| !stays(state)).unwrap_or(now.state);
        now.status = self.status.unwrap_or(now.status);
        now
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

/// What a subrequest is about, as it was named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A profile.
    Profile(Iccid),
    /// A device as a whole.
    Device(Eid),
    /// A page of an answer.
    Page,
}

impl Subject {
    /// The ICCID, where it is a profile.
    pub fn iccid(&self) -> Option<&Iccid> {
        match self {
            Self::Profile(iccid) => Some(iccid),
            Self::Device(_) | Self::Page => None,
        }
    }
}

/// Where the action would lead, the profile is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Already {
    /// In service.
    Resumed,
    /// Suspended.
    Suspended,
    /// Activated.
    Active,
    /// Deactivated.
    Deactivated,
    /// The enabled one.
    Enabled,
    /// Not the enabled one.
    Disabled,
    /// On the card.
    Downloaded,
    /// Not on the card any more.
    Deleted,
    /// What the card falls back to.
    Fallback,
    /// On that plan.
    OnPlan,
}

impl Already {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Resumed,
        Self::Suspended,
        Self::Active,
        Self::Deactivated,
        Self::Enabled,
        Self::Disabled,
        Self::Downloaded,
        Self::Deleted,
        Self::Fallback,
        Self::OnPlan,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Resumed => "profile_already_resumed",
            Self::Suspended => "profile_already_suspended",
            Self::Active => "device_already_active",
            Self::Deactivated => "profile_already_deactivated",
            Self::Enabled => "profile_already_enabled",
            Self::Disabled => "profile_already_disabled",
            Self::Downloaded => "profile_already_downloaded",
            Self::Deleted => "profile_already_deleted",
            Self::Fallback => "profile_already_fallback",
            Self::OnPlan => "service_plan_already_set",
        }
    }
}

/// How often something may be done to one profile, where the account is so limited. Source: contract §10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Changes of its service state within 24 hours.
    ActionsPerDay,
    /// Changes of its service plan within 30 days.
    PlanChangesPerMonth,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 2] = [Self::ActionsPerDay, Self::PlanChangesPerMonth];

    fn name(self) -> &'static str {
        match self {
            Self::ActionsPerDay => "actions_per_day",
            Self::PlanChangesPerMonth => "plan_changes_per_month",
        }
    }
}

/// Why a subrequest failed; told by its callback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The account has no such profile or device (or another account has it, which is not told).
    DeviceNotFound,
    /// An identifier beside the one that counts disagrees with the inventory.
    IdentifierMismatch,
    /// The named service plan is not one of the account's on the profile's network.
    ServicePlanNotFound(Box<str>),
    /// The profile is where the action would lead.
    Already(Already),
    /// The profile is in no state that the action applies to.
    DeviceStateInvalid,
    /// It was done as often as the account may.
    LimitReached(Limit),
    /// No profile of the device could be changed, for different reasons.
    DeviceActionFailed,
    /// The request was cancelled before this subrequest began.
    Cancelled,
    /// The profile's network has no carrier configured.
    NetworkUnserved,
    /// The carrier refused for good, in its words.
    CarrierRejected(Box<str>),
    /// The carrier, which answers as we do, refused for good: its code, a space, and its text.
    Relayed(Box<str>),
    /// The carrier left it unsettled until the engine gave up; the profile is in doubt.
    Unsettled,
}

impl Fault {
    /// Every fault, those with a detail with an empty one.
    pub fn every() -> Vec<Self> {
        let mut every = vec![
            Self::DeviceNotFound,
            Self::IdentifierMismatch,
            Self::ServicePlanNotFound("".into()),
            Self::DeviceStateInvalid,
            Self::DeviceActionFailed,
            Self::Cancelled,
            Self::NetworkUnserved,
            Self::CarrierRejected("".into()),
            Self::Relayed("".into()),
            Self::Unsettled,
        ];
        every.extend(Already::ALL.map(Self::Already));
        every.extend(Limit::ALL.map(Self::LimitReached));
        every
    }

    /// The name under which it is kept and counted; stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeviceNotFound => "device_not_found",
            Self::IdentifierMismatch => "identifier_mismatch",
            Self::ServicePlanNotFound(_) => "service_plan_not_found",
            Self::Already(already) => already.name(),
            Self::DeviceStateInvalid => "device_state_invalid",
            Self::LimitReached(limit) => limit.name(),
            Self::DeviceActionFailed => "device_action_failed",
            Self::Cancelled => "cancelled",
            Self::NetworkUnserved => "network_unserved",
            Self::CarrierRejected(_) => "carrier_rejected",
            Self::Relayed(_) => "relayed",
            Self::Unsettled => "unsettled",
        }
    }

    /// What it says beyond its name: the plan that was not found, the carrier's words.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::ServicePlanNotFound(text) | Self::CarrierRejected(text) | Self::Relayed(text) => Some(text),
            _ => None,
        }
    }

    /// The fault of that name and detail.
    pub fn named(name: &str, detail: Option<&str>) -> Option<Self> {
        let detail = || detail.unwrap_or_default().into();
        Some(match name {
            "service_plan_not_found" => Self::ServicePlanNotFound(detail()),
            "carrier_rejected" => Self::CarrierRejected(detail()),
            "relayed" => Self::Relayed(detail()),
            _ => Self::every().into_iter().find(|fault| fault.name() == name)?,
        })
    }
}

/// What a callback says of one outcome: frozen with it, whatever becomes of the profile later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is about, as the request named it.
    pub subject: Subject,
    /// The eUICC, where the inventory knew.
    pub eid: Option<Eid>,
    /// The device that the eUICC was in, where the inventory knew.
    pub imei: Option<Imei>,
    /// The profile's phone number, where the inventory knew.
    pub msisdn: Option<Msisdn>,
    /// What is the case now, or why it is not.
    pub result: Result<Left, Fault>,
}

/// What a subrequest left that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// A profile.
    Profile(LeftAs),
    /// A device as a whole, in this state.
    Device(ProfileState),
    /// An answer, as the JSON that was made of it.
    Document(Box<str>),
    /// Nothing yet: the card is slow to answer, and the outcome is told later.
    Waiting,
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
        let detailed =
            [Fault::ServicePlanNotFound("Verizon IoT 5MB".into()), Fault::CarrierRejected("barred".into())];
        for fault in Fault::every().into_iter().chain(detailed) {
            assert_eq!(Fault::named(fault.name(), fault.detail()), Some(fault));
        }
        assert_eq!(Fault::named("no such fault", None), None);
    }

    #[test]
    fn an_action_is_found_again_by_its_name() {
        for action in Action::ALL {
            assert_eq!(Action::named(action.name()), Some(action));
        }
    }
}
