//! The port's part about the fleet: devices and profiles, imported, found and shown.

use crate::{AttemptView, CallbackView, HistorySpan, PlanChange, ProfileTarget, Result, SubrequestState};
use async_trait::async_trait;
use reveille_domain::{
    AccountName, Action, Condition, Eid, Fault, Iccid, Imei, Imsi, Msisdn, Network, Position, Profile,
    ProfileState, ProfileStatus, RequestId, Role, Timestamp,
};

/// Devices and profiles.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Finds where an account's profiles are, in the order asked. Another account's are not found.
    async fn resolve(&self, account: &AccountName, iccids: Vec<Iccid>) -> Result<Vec<Option<ProfileTarget>>>;

    /// Finds an account's devices with the profiles on them, in the order asked. Another account's are not
    /// found.
    async fn resolve_devices(
        &self,
        account: &AccountName,
        eids: Vec<Eid>,
    ) -> Result<Vec<Option<DeviceTarget>>>;

    /// The keys of all profiles that the filter lets through, in the order of their ICCIDs, whatever its
    /// `after` and `limit`.
    async fn matching(&self, filter: ProfileFilter) -> Result<Vec<ProfileKey>>;

    /// Profiles that have been suspended since before `before`, behind that ICCID, in the order of their
    /// ICCIDs; at most `limit` of them, out of those that Reveille itself has suspended.
    async fn suspended(
        &self,
        before: Timestamp,
        after: Option<Iccid>,
        limit: usize,
    ) -> Result<Vec<Suspension>>;

    /// Since when those profiles have been suspended, in the order asked; nothing where one is not, or where
    /// Reveille did not suspend it.
    async fn suspended_since(&self, profiles: Vec<ProfileKey>) -> Result<Vec<Option<Timestamp>>>;

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

    /// A part of a profile's history, oldest first.
    async fn history_span(&self, profile: ProfileKey, span: HistorySpan) -> Result<Vec<HistoryView>>;

    /// Everything that was asked of a profile, behind `after` in the order of the store; at most `limit`.
    async fn timeline(&self, iccid: &Iccid, after: Position, limit: usize) -> Result<Vec<TimelineEntry>>;
}

/// Where a device is in the inventory, and what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceTarget {
    /// The eUICC.
    pub device: DeviceKey,
    /// The device that it is in.
    pub imei: Option<Imei>,
    /// The profiles on it, in the order of their keys.
    pub profiles: Vec<(Iccid, ProfileTarget)>,
}

/// A profile that has been suspended for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Whose it is.
    pub account: AccountName,
    /// The profile.
    pub iccid: Iccid,
    /// Since when.
    pub since: Timestamp,
    /// Whether it was told that this will end by itself.
    pub noticed: bool,
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
    /// Only with one of these statuses on the card; otherwise with any.
    pub statuses: Vec<ProfileStatus>,
    /// Only in this role.
    pub role: Option<Role>,
    /// Only on this service plan.
    pub service_plan: Option<Box<str>>,
    /// Only those that are in doubt, or only those that are not.
    pub in_doubt: Option<bool>,
    /// Only profiles that have one of these identifiers, or whose device has; otherwise any.
    pub identifiers: Vec<Identifier>,
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

/// An identifier by which profiles are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// The profile's own.
    Iccid(Iccid),
    /// Its eUICC's.
    Eid(Eid),
    /// Its device's.
    Imei(Imei),
    /// Its phone number.
    Msisdn(Msisdn),
}

/// One change of a profile's record, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryView {
    /// When.
    pub at: Timestamp,
    /// Where the subrequest that changed it stands.
    pub position: Position,
    /// The request that changed it; nothing where that has been forgotten.
    pub request: Option<(RequestId, Action)>,
    /// Who asked; nothing where the request has been forgotten.
    pub user: Option<Box<str>>,
    /// How it was recorded before.
    pub from: Condition,
    /// How it was recorded afterwards.
    pub to: Condition,
    /// The plan that it moved to, where it did.
    pub plan: Option<PlanChange>,
    /// Whether it was left in doubt.
    pub in_doubt: bool,
}

/// One thing that was asked of a profile, and all that came of it. What has been forgotten is left out.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    /// Where its subrequest stands.
    pub position: Position,
    /// The request.
    pub request: Option<TimelineRequest>,
    /// Where the subrequest is, and when it ended.
    pub outcome: Option<(SubrequestState, Option<Timestamp>)>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// The calls to the carrier, in their order.
    pub calls: Vec<CallView>,
    /// The change of the profile's record.
    pub change: Option<HistoryView>,
    /// The callbacks, the warning first, each with its attempts.
    pub callbacks: Vec<(CallbackView, Vec<AttemptView>)>,
}

/// The request of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineRequest {
    /// Its name.
    pub id: RequestId,
    /// What it does.
    pub action: Action,
    /// Who asked.
    pub user: Box<str>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
}

/// A call to a carrier, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallView {
    /// Which of the operation's calls, from 1.
    pub ordinal: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What the carrier replied, in one word.
    pub reply: Box<str>,
}
