//! What a callback tells that was asked about, and not changed: a list of devices, a history, a notice.
//!
//! The contract publishes none of these bodies; `docs/callbacks.md` describes them. Each is made once, when
//! its outcome is recorded, and stands in the callback as its `deviceResponse`.

use crate::callback::{Identifiers, identifiers};
use crate::instant;
use crate::spelling;
use reveille_domain::{AccountName, Action, Condition, Network, Profile, RequestId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// What stands in a callback in the place of how a profile was left.
#[derive(Serialize, JsonSchema)]
pub(crate) enum Document<'a> {
    /// A page of a list of devices.
    #[serde(rename = "deviceListResponse")]
    DeviceList(DeviceListPage<'a>),
    /// A page of a profile's history.
    #[serde(rename = "deviceHistoryResponse")]
    DeviceHistory(DeviceHistoryPage<'a>),
    /// A notice that a suspension will end by itself.
    #[serde(rename = "resumeTrackingResponse")]
    ResumeTracking(ResumeNotice),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceListPage<'a> {
    /// Which page this is, from 1.
    page: u32,
    /// How many there are: as many callbacks.
    pages: u32,
    /// At most 500.
    devices: Vec<ListedDevice<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ListedDevice<'a> {
    device_ids: Identifiers<'a>,
    account_name: &'a str,
    /// `Verizon Wireless` or `Global`.
    carrier_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_plan: Option<&'a str>,
    state: &'static str,
    profile_status: &'static str,
    profile_role: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceHistoryPage<'a> {
    /// Which page this is, from 1.
    page: u32,
    /// How many there are: as many callbacks.
    pages: u32,
    /// The profile; left out where none was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_ids: Identifiers<'a>,
    /// At most 500, oldest first.
    history: Vec<HistoryEntry>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HistoryEntry {
    occurred_at: String,
    /// What was asked for; left out once the request is no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    previous_state: &'static str,
    state: &'static str,
    previous_profile_status: &'static str,
    profile_status: &'static str,
    /// The plan that it moved to, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_plan: Option<Box<str>>,
    /// Whether the network may differ from the record.
    in_doubt: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResumeNotice {
    /// When it will end.
    resumes_at: String,
    /// The same in the words of the older surface, in UTC.
    comment: String,
}

/// A profile in a list.
#[derive(Clone, Copy, Debug)]
pub struct ListedProfile<'a> {
    /// Whose it is.
    pub account: &'a AccountName,
    /// The profile.
    pub profile: &'a Profile,
}

/// A change in a history.
#[derive(Clone, Debug)]
pub struct HistoryItem {
    /// When.
    pub at: Timestamp,
    /// The request that asked for it, as far as it is kept.
    pub request: Option<(RequestId, Action)>,
    /// How the profile was recorded before.
    pub from: Condition,
    /// How it was recorded afterwards.
    pub to: Condition,
    /// The plan that it moved to, where it did.
    pub service_plan: Option<Box<str>>,
    /// Whether it was left in doubt.
    pub in_doubt: bool,
}

/// The contract's name for the carrier of a network. Source: contract §5.3.
pub(crate) fn carrier_name(network: Network) -> &'static str {
    match network {
        Network::VerizonUs => "Verizon Wireless",
        Network::Global => "Global",
    }
}

/// A page of a list.
pub fn device_list(page: u32, pages: u32, profiles: &[ListedProfile<'_>]) -> String {
    let devices = profiles.iter().map(|ListedProfile { account, profile }| ListedDevice {
        device_ids: all_of(profile),
        account_name: account.as_str(),
        carrier_name: carrier_name(profile.network),
        service_plan: profile.service_plan.as_deref(),
        state: spelling::state(profile.state),
        profile_status: spelling::status(profile.status),
        profile_role: spelling::role(profile.role),
    });
    let page = DeviceListPage { page, pages, devices: devices.collect() };
    text(&Document::DeviceList(page))
}

/// A page of the history of `profile`; of none where none was found.
pub fn device_history(page: u32, pages: u32, profile: Option<&Profile>, items: &[HistoryItem]) -> String {
    let history = items.iter().map(|item| HistoryEntry {
        occurred_at: instant::text(item.at),
        action: item.request.map(|(_, action)| action.name()),
        request_id: item.request.map(|(request, _)| request.to_string()),
        previous_state: spelling::state(item.from.state),
        state: spelling::state(item.to.state),
        previous_profile_status: spelling::status(item.from.status),
        profile_status: spelling::status(item.to.status),
        service_plan: item.service_plan.clone(),
        in_doubt: item.in_doubt,
    });
    let device_ids = profile.map(all_of).unwrap_or_default();
    let page = DeviceHistoryPage { page, pages, device_ids, history: history.collect() };
    text(&Document::DeviceHistory(page))
}

/// A notice that a suspension ends at that time.
pub fn resume_notice(resumes_at: Timestamp) -> String {
    let comment = format!("Device will be auto resumed on - {}", instant::american(resumes_at));
    let notice = ResumeNotice { resumes_at: instant::text(resumes_at), comment };
    text(&Document::ResumeTracking(notice))
}

fn all_of(profile: &Profile) -> Identifiers<'_> {
    identifiers(Some(&profile.eid), profile.imei.as_ref(), profile.msisdn.as_ref(), Some(&profile.iccid))
}

fn text(document: &Document<'_>) -> String {
    serde_json::to_string(document).expect("a document of text and numbers always serialises")
}
