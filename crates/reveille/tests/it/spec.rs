//! What each action does to a profile, written from the contract (§8, and §12 for what it leaves open) and not
//! from the table in the code.

use reveille_domain::{
    Action, Already, EndState, Fault, Profile, ProfileState, ProfileStatus, Role, SuspendedBy,
};

pub(crate) const SUSPENDED: ProfileState = ProfileState::Suspended(SuspendedBy::Profile);
pub(crate) const WITH_DEVICE: ProfileState = ProfileState::Suspended(SuspendedBy::Device);

fn is_enabled(status: ProfileStatus) -> bool {
    matches!(status, ProfileStatus::Enable | ProfileStatus::DownloadEnable)
}

/// On the card and not in use there.
fn is_disabled(status: ProfileStatus) -> bool {
    matches!(status, ProfileStatus::Disable | ProfileStatus::DownloadDisable)
}

fn is_on_card(status: ProfileStatus) -> bool {
    is_enabled(status) || is_disabled(status)
}

/// A cell: an action asked of a profile.
pub(crate) struct Cell<'a> {
    pub(crate) action: Action,
    pub(crate) profile: &'a Profile,
    pub(crate) lead_in_service: bool,
    /// `checkFallbackProfile`.
    pub(crate) spares_fallback: bool,
    pub(crate) same_plan: bool,
}

/// What follows: what the carrier is asked for, the state and the status from then on.
pub(crate) type Follows = Result<(EndState, ProfileState, ProfileStatus), Fault>;

const INVALID: Follows = Err(Fault::DeviceStateInvalid);

fn already(already: Already) -> Follows {
    Err(Fault::Already(already))
}

/// §8, action by action.
pub(crate) fn expected(cell: &Cell<'_>) -> Follows {
    let Profile { role, state, status, fallback, .. } = *cell.profile;
    let local = role == Role::Local;
    // §8: the profile actions are on LEAD and LOCAL; whole-eUICC actions take every profile (Q25).
    let of_profile = !matches!(cell.action, Action::DeviceSuspend | Action::DeviceResume);
    if of_profile && role == Role::Default {
        return INVALID;
    }
    match cell.action {
        // "LEAD, LOCAL; suspended; state → ACTIVE; profile status unchanged"; Q8, Q29.
        Action::ProfileResume => match state {
            SUSPENDED | WITH_DEVICE => Ok((EndState::InService, ProfileState::Active, status)),
            ProfileState::Active => already(Already::Resumed),
            _ => INVALID,
        },
        // "LOCAL only; a US profile can be suspended only by device_suspend"; Q11, Q29.
        Action::ProfileSuspend if !local => INVALID,
        Action::ProfileSuspend => match state {
            ProfileState::Active => Ok((EndState::Suspended, SUSPENDED, status)),
            SUSPENDED | WITH_DEVICE => already(Already::Suspended),
            _ => INVALID,
        },
        // "every active profile → SUSPEND; ones already suspended report an error".
        Action::DeviceSuspend => match state {
            ProfileState::Active => Ok((EndState::Suspended, WITH_DEVICE, status)),
            SUSPENDED | WITH_DEVICE => already(Already::Suspended),
            _ => INVALID,
        },
        // "profiles suspended before stay suspended; already-active ones report an error"; Q30.
        Action::DeviceResume => match state {
            WITH_DEVICE => Ok((EndState::InService, ProfileState::Active, status)),
            ProfileState::Active => already(Already::Resumed),
            _ => INVALID,
        },
        // "also for a deactivated profile; state → ACTIVE; new Global profile NOT_DOWNLOADED".
        Action::Activate => match state {
            ProfileState::PreActive | ProfileState::Deactive => {
                let new = local && !is_on_card(status);
                let status = if new { ProfileStatus::NotDownloaded } else { status };
                Ok((EndState::InService, ProfileState::Active, status))
            }
            ProfileState::Active => already(Already::Active),
            _ => INVALID,
        },
        Action::ActivateEnable => match state {
            ProfileState::PreActive | ProfileState::Deactive if is_on_card(status) => {
                Ok((EndState::InServiceAndEnabled, ProfileState::Active, ProfileStatus::Enable))
            }
            ProfileState::Active => already(Already::Active),
            _ => INVALID,
        },
        // "state → DEACTIVE"; nothing goes out of service that never was in it.
        Action::Deactivate => match state {
            ProfileState::Active | SUSPENDED | WITH_DEVICE if cell.spares_fallback && fallback => INVALID,
            ProfileState::Active | SUSPENDED | WITH_DEVICE => {
                Ok((EndState::OutOfService, ProfileState::Deactive, status))
            }
            ProfileState::Deactive => already(Already::Deactivated),
            ProfileState::PreActive => INVALID,
        },
        // "on the card → ENABLE"; Q23: not of a suspended profile.
        Action::Enable => match (state, status) {
            (ProfileState::Active, status) if is_enabled(status) => already(Already::Enabled),
            (ProfileState::Active, status) if is_disabled(status) || status == ProfileStatus::Unknown => {
                Ok((EndState::Enabled, state, ProfileStatus::Enable))
            }
            _ => INVALID,
        },
        // "LOCAL; enabled → DISABLE".
        Action::Disable if !local => INVALID,
        Action::Disable if is_enabled(status) => Ok((EndState::Disabled, state, ProfileStatus::Disable)),
        Action::Disable if is_disabled(status) => already(Already::Disabled),
        Action::Disable => INVALID,
        // "LOCAL; device on, connected through its US profile → DOWNLOAD_DISABLE", or DOWNLOAD_ENABLE.
        Action::Download | Action::DownloadDisable | Action::DownloadEnable => {
            let enables = cell.action == Action::DownloadEnable;
            match (local, state, status) {
                (true, ProfileState::Active, ProfileStatus::NotDownloaded) if !cell.lead_in_service => {
                    INVALID
                }
                (true, ProfileState::Active, ProfileStatus::NotDownloaded) if enables => {
                    Ok((EndState::DownloadedAndEnabled, state, ProfileStatus::DownloadEnable))
                }
                (true, ProfileState::Active, ProfileStatus::NotDownloaded) => {
                    Ok((EndState::Downloaded, state, ProfileStatus::DownloadDisable))
                }
                (true, ProfileState::Active, status) if is_on_card(status) => already(Already::Downloaded),
                _ => INVALID,
            }
        }
        // "LOCAL only"; Q27: not enabled, and DEACTIVE or never activated; not what the card falls back to.
        Action::Delete => match (local, state, status) {
            (true, ProfileState::Deactive | ProfileState::PreActive, ProfileStatus::Delete) => {
                already(Already::Deleted)
            }
            (true, ProfileState::Deactive | ProfileState::PreActive, status)
                if is_disabled(status) && !fallback =>
            {
                Ok((EndState::Deleted, state, ProfileStatus::Delete))
            }
            _ => INVALID,
        },
        // "marks a fallback": of what is on the card.
        Action::SetFallback => match (state, is_on_card(status), fallback) {
            (ProfileState::Active, true, false) => Ok((EndState::Fallback, state, status)),
            (ProfileState::Active, true, true) => already(Already::Fallback),
            _ => INVALID,
        },
        // "not while suspended; plan changes".
        Action::ServicePlan => match state {
            ProfileState::Active if cell.same_plan => already(Already::OnPlan),
            ProfileState::Active => Ok((EndState::OnPlan, state, status)),
            _ => INVALID,
        },
        Action::DeviceList
        | Action::DeviceHistory
        | Action::ResumeNotice
        | Action::ExternalChange
        | Action::Drift => {
            unreachable!("no rule is about them")
        }
    }
}
