//! One sentence that says why a profile is not in service.

use super::instant;
use reveille_domain::{Profile, ProfileState, ProfileStatus, SuspendedBy};
use reveille_store::{HistoryView, OwnedProfile};

/// Why `profile` gives its device no network access, as far as the record says; nothing where it does.
///
/// `device` is everything on its eUICC, `history` the changes of its record, oldest first.
pub(super) fn not_in_service(
    profile: &Profile,
    device: &[OwnedProfile],
    history: &[HistoryView],
) -> Option<String> {
    if profile.in_doubt.is_any() {
        let doubt = history.iter().rev().find(|change| change.in_doubt);
        return Some(format!(
            "In doubt{}: its carrier left an operation unsettled, so the network may differ from the record; \
             the next action of that kind on it settles that.",
            by(doubt)
        ));
    }
    let since = history.iter().rev().find(|change| change.from.state != change.to.state);
    let put_so = history.iter().rev().find(|change| change.from.status != change.to.status);
    let enabled = device.iter().find(|other| other.profile.status.is_enabled());
    let instead = enabled.map(|other| format!("; the card has {} enabled", other.profile.iccid.as_str()));
    let instead = instead.unwrap_or_else(|| "; the card has no profile enabled".into());
    let why = match (profile.state, profile.status) {
        (ProfileState::PreActive, _) => "Never activated.".into(),
        (ProfileState::Deactive, _) => format!("Deactivated{}.", by(since)),
        (ProfileState::Suspended(SuspendedBy::Profile), _) => format!("Suspended on its own{}.", by(since)),
        (ProfileState::Suspended(SuspendedBy::Device), _) => {
            format!("Suspended with its device{}.", by(since))
        }
        (ProfileState::Active, ProfileStatus::Enable | ProfileStatus::DownloadEnable) => return None,
        (ProfileState::Active, ProfileStatus::NotDownloaded) => {
            format!("Active, but not downloaded to its card{instead}.")
        }
        (ProfileState::Active, ProfileStatus::DownloadDisable) => {
            format!("Active and on its card, but never enabled{instead}.")
        }
        (ProfileState::Active, ProfileStatus::Disable) => {
            format!("Active, but disabled on its card{}{instead}.", by(put_so))
        }
        (ProfileState::Active, ProfileStatus::Delete) => {
            format!("Active, but deleted from its card{}.", by(put_so))
        }
        (ProfileState::Active, ProfileStatus::Unknown) => {
            format!("Active, but its status on the card is not known{instead}.")
        }
    };
    Some(why)
}

/// When it became so, and who asked, as far as that is kept.
fn by(change: Option<&HistoryView>) -> String {
    let Some(change) = change else { return String::new() };
    let who = change
        .user
        .as_ref()
        .zip(change.request)
        .map(|(user, (request, action))| format!(" by {user}'s request {request} ({})", action.name()));
    format!(" since {}{}", instant(change.at), who.unwrap_or_default())
}
