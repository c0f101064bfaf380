//! How values are spelled in the tables of every adapter, and the columns that more than one file reads.

use crate::Lane;
use reveille_domain::{ProfileState, ProfileStatus, Role, Service, Subject, SuspendedBy};

pub(crate) fn state(state: ProfileState) -> &'static str {
    match state {
        ProfileState::PreActive => "pre_active",
        ProfileState::Active => "active",
        ProfileState::Suspended(SuspendedBy::Profile) => "suspended_by_profile",
        ProfileState::Suspended(SuspendedBy::Device) => "suspended_by_device",
        ProfileState::Deactive => "deactive",
    }
}

pub(crate) fn status(status: ProfileStatus) -> &'static str {
    match status {
        ProfileStatus::NotDownloaded => "not_downloaded",
        ProfileStatus::DownloadDisable => "download_disable",
        ProfileStatus::DownloadEnable => "download_enable",
        ProfileStatus::Enable => "enable",
        ProfileStatus::Disable => "disable",
        ProfileStatus::Delete => "delete",
        ProfileStatus::Unknown => "unknown",
    }
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Lead => "lead",
        Role::Local => "local",
        Role::Default => "default",
    }
}

pub(crate) fn lane(lane: Lane) -> &'static str {
    match lane {
        Lane::Network(network) => network.name(),
        Lane::Here => "none",
    }
}

/// The service that callbacks are told to.
pub(crate) fn service(service: Service) -> u8 {
    match service {
        Service::DeviceProfile => 0,
        Service::ResumeTracking => 1,
        Service::ExternalChanges => 2,
    }
}

/// What a subrequest is about: its kinds differ in their length.
pub(crate) fn subject(subject: &Subject) -> &str {
    match subject {
        Subject::Profile(iccid) => iccid.as_str(),
        Subject::Device(eid) => eid.as_str(),
        Subject::Page => "",
    }
}

/// The subject of that text.
pub(crate) fn subject_named(text: &str) -> Option<Subject> {
    match text.len() {
        0 => Some(Subject::Page),
        32 => text.parse().ok().map(Subject::Device),
        _ => text.parse().ok().map(Subject::Profile),
    }
}

/// The state of that text.
pub(crate) fn state_named(text: &str) -> Option<ProfileState> {
    ProfileState::ALL.into_iter().find(|known| state(*known) == text)
}

/// The status of that text.
pub(crate) fn status_named(text: &str) -> Option<ProfileStatus> {
    ProfileStatus::ALL.into_iter().find(|known| status(*known) == text)
}

/// The role of that text.
pub(crate) fn role_named(text: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|known| role(*known) == text)
}

/// What a call that settled its operation was replied where nothing else is written.
pub(crate) const USUAL_REPLY: &str = "done";

/// The columns that `read_head` reads, of a table `request AS r`.
pub(crate) const HEAD: &str = "r.sequence, r.request_id, r.account, r.action, r.service_plan, r.accepted_at, r.cancelled_at, r.mdn_zip_code, r.smsr_oid, r.carrier_name, r.reason_code, r.etf_waiver, r.spares_fallback, r.reported_state, r.reported_status, r.resumes_at";

/// The columns that `read_profile` reads, of tables `profile AS p JOIN device AS d`.
pub(crate) const PROFILE: &str = "p.iccid, d.eid, d.imei, p.msisdn, p.imsi, p.network, p.role, p.state, p.status, p.service_plan, p.in_doubt, p.fallback";

/// Why a row of a fleet file is not taken whose IMSI another profile has.
pub(crate) const ANOTHERS_IMSI: &str =
    "this IMSI is another profile's on this network, and what is done to one would be done to both";
