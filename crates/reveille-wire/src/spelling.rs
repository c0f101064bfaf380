//! The contract's words for states, statuses and roles. Source: contract §5.3, §6.1; our choices in docs/choices.md.

use reveille_domain::{ProfileState, ProfileStatus, Role, SuspendedBy};

/// The word for a service state; the reason of a suspension is not on the wire.
pub fn state(state: ProfileState) -> &'static str {
    match state {
        ProfileState::PreActive => "PRE_ACTIVE",
        ProfileState::Active => "ACTIVE",
        ProfileState::Suspended(_) => "SUSPEND",
        ProfileState::Deactive => "DEACTIVE",
    }
}

/// The state of that word; `suspended_by` says by what, where it is a suspension.
pub fn state_named(word: &str, suspended_by: SuspendedBy) -> Option<ProfileState> {
    Some(match word {
        "PRE_ACTIVE" => ProfileState::PreActive,
        "ACTIVE" => ProfileState::Active,
        "SUSPEND" => ProfileState::Suspended(suspended_by),
        "DEACTIVE" => ProfileState::Deactive,
        _ => return None,
    })
}

/// The word for what a profile was suspended by: Reveille's own, in the fleet file and on its own surface.
pub fn suspended_by(by: SuspendedBy) -> &'static str {
    match by {
        SuspendedBy::Profile => "profile",
        SuspendedBy::Device => "device",
    }
}

/// The reason of that word.
pub fn suspended_by_named(word: &str) -> Option<SuspendedBy> {
    [SuspendedBy::Profile, SuspendedBy::Device].into_iter().find(|by| suspended_by(*by) == word)
}

/// The word for a status on the card.
pub fn status(status: ProfileStatus) -> &'static str {
    match status {
        ProfileStatus::NotDownloaded => "NOT_DOWNLOADED",
        ProfileStatus::DownloadDisable => "DOWNLOAD_DISABLE",
        ProfileStatus::DownloadEnable => "DOWNLOAD_ENABLE",
        ProfileStatus::Enable => "ENABLE",
        ProfileStatus::Disable => "DISABLE",
        ProfileStatus::Delete => "DELETE",
        ProfileStatus::Unknown => "UNKNOWN",
    }
}

/// Every status on the card, as the fleet file may name it.
pub const STATUSES: [ProfileStatus; 7] = [
    ProfileStatus::NotDownloaded,
    ProfileStatus::DownloadDisable,
    ProfileStatus::DownloadEnable,
    ProfileStatus::Enable,
    ProfileStatus::Disable,
    ProfileStatus::Delete,
    ProfileStatus::Unknown,
];

/// The status of that word.
pub fn status_named(word: &str) -> Option<ProfileStatus> {
    STATUSES.into_iter().find(|known| status(*known) == word)
}

/// The word for a role.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Lead => "LEAD",
        Role::Local => "LOCAL",
        Role::Default => "DEFAULT",
    }
}

/// The role of that word.
pub fn role_named(word: &str) -> Option<Role> {
    [Role::Lead, Role::Local, Role::Default].into_iter().find(|known| role(*known) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_as_what_it_was_written_for() {
        for known in STATUSES {
            assert_eq!(status_named(status(known)), Some(known));
        }
        for word in ["LEAD", "LOCAL", "DEFAULT"] {
            assert_eq!(role_named(word).map(role), Some(word));
        }
        for word in ["PRE_ACTIVE", "ACTIVE", "SUSPEND", "DEACTIVE"] {
            assert_eq!(state_named(word, SuspendedBy::Device).map(state), Some(word));
        }
        assert_eq!(state_named("active", SuspendedBy::Device), None);
    }
}
