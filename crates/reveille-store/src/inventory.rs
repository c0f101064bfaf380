//! The port's part about the fleet: devices and profiles, imported, found and shown.

use crate::{Result, Target};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Eid, Iccid, Imei, Imsi, Msisdn, Network, Profile, ProfileState, ProfileStatus,
    RequestId, Role, Timestamp,
};

/// Devices and profiles.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Finds where an account's profiles are, in the order asked. Another account's are not found.
    async fn resolve(&self, account: &AccountName, iccids: Vec<Iccid>) -> Result<Vec<Option<Target>>>;

    /// What would keep rows from being imported: unknown accounts, identifiers that others have.
    async fn check_fleet(&self, rows: Vec<FleetRow>) -> Result<Vec<FleetProblem>>;

    /// Writes rows. State columns apply to profiles that are new; what is known of others is completed.
    async fn import(&self, rows: Vec<FleetRow>) -> Result<Imported>;

    /// Profiles in the order of their ICCIDs.
    async fn fleet(&self, filter: ProfileFilter) -> Result<Vec<OwnedProfile>>;

    /// One profile, whoever's it is.
    async fn profile(&self, iccid: &Iccid) -> Result<Option<OwnedProfile>>;

    /// The changes of a profile's record, oldest first; at most `limit`, the latest where there are more.
    async fn history(&self, iccid: &Iccid, limit: usize) -> Result<Vec<HistoryView>>;
}

/// Where a profile is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileKey(pub i64);

/// Where an eUICC is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey(pub i64);

/// One line of a fleet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetRow {
    /// The line that it stands on, for messages.
    pub line: u64,
    /// The account that owns the device.
    pub account: AccountName,
    /// The eUICC.
    pub eid: Eid,
    /// The device that it is in.
    pub imei: Option<Imei>,
    /// The profile.
    pub iccid: Iccid,
    /// Its phone number.
    pub msisdn: Option<Msisdn>,
    /// What its network knows it by.
    pub imsi: Option<Imsi>,
    /// Its network.
    pub network: Network,
    /// What it is on the eUICC.
    pub role: Role,
    /// Its state, where it is new.
    pub state: ProfileState,
    /// Its status on the card, where it is new.
    pub status: ProfileStatus,
    /// The plan that it is on.
    pub service_plan: Option<Box<str>>,
}

/// Why a row cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetProblem {
    /// The line that it stands on.
    pub line: u64,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// eUICCs that are new.
    pub devices_new: usize,
    /// Profiles that are new.
    pub profiles_new: usize,
    /// Profiles that were there.
    pub profiles_known: usize,
}

/// Which profiles are shown.
#[derive(Clone, Debug, Default)]
pub struct ProfileFilter {
    /// Of this account; otherwise of all.
    pub account: Option<AccountName>,
    /// Only of this network.
    pub network: Option<Network>,
    /// Only in one of these states; otherwise in any.
    pub states: Vec<ProfileState>,
    /// With higher ICCIDs.
    pub after: Option<Iccid>,
    /// At most so many.
    pub limit: usize,
}

/// A profile and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedProfile {
    /// The account.
    pub account: AccountName,
    /// The profile.
    pub profile: Profile,
}

/// One change of a profile's record, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryView {
    /// When.
    pub at: Timestamp,
    /// The request that changed it; nothing where that has been forgotten.
    pub request: Option<(RequestId, Action)>,
    /// The subrequest's number.
    pub number: u32,
    /// The state before.
    pub from: ProfileState,
    /// The state after.
    pub to: ProfileState,
    /// Whether it was left in doubt.
    pub in_doubt: bool,
}
