//! A profile: one subscription on an eUICC, with its state on two axes and its role.

use crate::{Eid, Iccid, Imei, Imsi, Msisdn};

/// The network that a profile belongs to; each is served by one carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// Verizon US: the lead profile, present from manufacture.
    VerizonUs,
    /// A local carrier abroad, downloaded to the card.
    Global,
}

impl Network {
    /// Every network, for whoever must look at each.
    pub const ALL: [Self; 2] = [Self::VerizonUs, Self::Global];

    /// `verizon-us` or `global`, as in the configuration, the fleet file and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::VerizonUs => "verizon-us",
            Self::Global => "global",
        }
    }

    /// The network of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }
}

/// What a profile is on its eUICC. Source: contract §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The Verizon US profile.
    Lead,
    /// A downloaded Global profile.
    Local,
    /// A boot profile that is neither (contract §12 Q25).
    Default,
}

/// Why a profile is suspended: device_resume lifts only what device_suspend laid. Source: contract §8 (a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SuspendedBy {
    /// Suspended on its own.
    Profile,
    /// Suspended with its whole device.
    Device,
}

/// The service state of a profile. Source: contract §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProfileState {
    /// Known, never activated.
    PreActive,
    /// Has service, as far as its status on the card allows.
    Active,
    /// No service, still billed.
    Suspended(SuspendedBy),
    /// Out of service.
    Deactive,
}

/// The status of a profile on the card. Source: contract §5.3 and §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProfileStatus {
    /// Ready for a download.
    NotDownloaded,
    /// On the card, never enabled.
    DownloadDisable,
    /// Downloaded and enabled by the same call.
    DownloadEnable,
    /// Enabled.
    Enable,
    /// Was enabled, now disabled.
    Disable,
    /// Deleted from the card.
    Delete,
    /// Not known.
    Unknown,
}

/// One profile as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The profile itself.
    pub iccid: Iccid,
    /// The eUICC that it is on.
    pub eid: Eid,
    /// The device that the eUICC is in.
    pub imei: Option<Imei>,
    /// Its phone number.
    pub msisdn: Option<Msisdn>,
    /// What its network knows it by.
    pub imsi: Option<Imsi>,
    /// The network it belongs to.
    pub network: Network,
    /// What it is on its eUICC.
    pub role: Role,
    /// Its recorded service state.
    pub state: ProfileState,
    /// Its recorded status on the card.
    pub status: ProfileStatus,
    /// Whether its eUICC falls back to it when the enabled profile has no service.
    pub fallback: bool,
    /// The service plan that it is on.
    pub service_plan: Option<Box<str>>,
    /// What of this its network and card may contradict.
    pub in_doubt: Doubt,
}

/// What of a profile's record is in doubt: an operation that may have changed it was given up unsettled. Each
/// part is settled by an operation whose end says how it is, and by no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Doubt(u8);

impl Doubt {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Its service state.
    pub const SERVICE: Self = Self(1);
    /// Whether it is the enabled one of its card.
    pub const ENABLED: Self = Self(2);
    /// Whether it is on its card.
    pub const ON_CARD: Self = Self(4);
    /// Whether its card falls back to it.
    pub const FALLBACK: Self = Self(8);
    /// Its service plan.
    pub const PLAN: Self = Self(16);
    /// All of it.
    pub const ALL: Self = Self(31);

    /// The parts as bits, under which they are kept; stable.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The parts that those bits stand for.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether there is any.
    pub fn is_any(self) -> bool {
        self != Self::NONE
    }

    /// Whether any part is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The parts that are in either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The parts that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The parts that an operation on another profile of the card can have changed.
    #[must_use]
    pub fn of_others(self) -> Self {
        self.without(Self::SERVICE.and(Self::PLAN))
    }
}

/// What of a profile's record an action changes, its service plan aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Its service state.
    pub state: ProfileState,
    /// Its status on the card.
    pub status: ProfileStatus,
    /// Whether its eUICC falls back to it.
    pub fallback: bool,
}

impl Profile {
    /// How it is recorded now.
    pub fn condition(&self) -> Condition {
        Condition { state: self.state, status: self.status, fallback: self.fallback }
    }

    /// Whether it gives its device network access, as far as the record says.
    pub fn is_in_service(&self) -> bool {
        self.state == ProfileState::Active && self.status.is_enabled()
    }
}

impl ProfileState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::PreActive,
        Self::Active,
        Self::Suspended(SuspendedBy::Profile),
        Self::Suspended(SuspendedBy::Device),
        Self::Deactive,
    ];
}

impl ProfileStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::NotDownloaded,
        Self::DownloadDisable,
        Self::DownloadEnable,
        Self::Enable,
        Self::Disable,
        Self::Delete,
        Self::Unknown,
    ];

    /// Whether it is the one that the card uses.
    pub fn is_enabled(self) -> bool {
        matches!(self, Self::DownloadEnable | Self::Enable)
    }

    /// Whether it is on the card, enabled or not.
    pub fn is_on_card(self) -> bool {
        matches!(self, Self::DownloadDisable | Self::DownloadEnable | Self::Enable | Self::Disable)
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Lead, Self::Local, Self::Default];
}

/// How a profile shall be on its network and card: an operation states an end, so that repeating it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndState {
    /// It shall have network access, as far as the card uses it.
    InService,
    /// It shall have none, and keep its subscription.
    Suspended,
    /// Its subscription shall be at rest.
    OutOfService,
    /// It shall be on the service plan that the operation names.
    OnPlan,
    /// It shall be on the card, and not enabled by that.
    Downloaded,
    /// It shall be on the card and the enabled one.
    DownloadedAndEnabled,
    /// It shall be the card's enabled one.
    Enabled,
    /// It shall have network access, and be the card's enabled one.
    InServiceAndEnabled,
    /// It shall not be enabled; the card enables what it falls back to.
    Disabled,
    /// It shall not be on the card.
    Deleted,
    /// It shall be what the card falls back to.
    Fallback,
}

impl EndState {
    /// Every end state.
    pub const ALL: [Self; 11] = [
        Self::InService,
        Self::Suspended,
        Self::OutOfService,
        Self::OnPlan,
        Self::Downloaded,
        Self::DownloadedAndEnabled,
        Self::Enabled,
        Self::InServiceAndEnabled,
        Self::Disabled,
        Self::Deleted,
        Self::Fallback,
    ];

    /// What of a profile's record is certain where it is reached, and in doubt where it may have been.
    pub fn settles(self) -> Doubt {
        match self {
            Self::InService | Self::Suspended | Self::OutOfService => Doubt::SERVICE,
            Self::OnPlan => Doubt::PLAN,
            Self::Downloaded => Doubt::ON_CARD,
            Self::DownloadedAndEnabled | Self::Enabled | Self::Disabled | Self::Deleted => {
                Doubt::ON_CARD.and(Doubt::ENABLED)
            }
            Self::InServiceAndEnabled => Doubt::SERVICE.and(Doubt::ON_CARD).and(Doubt::ENABLED),
            Self::Fallback => Doubt::FALLBACK,
        }
    }

    /// Whether the card must be reached for it.
    pub fn touches_card(self) -> bool {
        match self {
            Self::InService | Self::Suspended | Self::OutOfService | Self::OnPlan => false,
            Self::Downloaded
            | Self::DownloadedAndEnabled
            | Self::Enabled
            | Self::InServiceAndEnabled
            | Self::Disabled
            | Self::Deleted
            | Self::Fallback => true,
        }
    }
}
