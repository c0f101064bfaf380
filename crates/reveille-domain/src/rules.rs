//! The one table: what each action needs of a profile and what it leaves behind, and `decide` over it.
//!
//! Adding an action adds rows. Source: contract §8 and §12 Q8, Q12, Q29.

use crate::{Action, EndState, Fault, Network, Profile, ProfileState, SuspendedBy};

/// One row: an action on such a profile is carried out as that end state and leaves that state.
struct Rule {
    action: Action,
    network: Networks,
    from: From,
    drives: EndState,
    to: ProfileState,
}

/// What a row says of the profile's network.
#[derive(Clone, Copy)]
enum Networks {
    Any,
}

/// What a row says of the profile's state.
#[derive(Clone, Copy)]
enum From {
    Suspended,
}

/// The rows, read from the top; the first that fits decides.
const RULES: &[Rule] = &[
    // A resume lifts a suspension, whoever laid it; the status on the card stays as it was.
    Rule {
        action: Action::ProfileResume,
        network: Networks::Any,
        from: From::Suspended,
        drives: EndState::InService,
        to: ProfileState::Active,
    },
];

/// What a legal action does: what its carrier must bring about, and the state recorded then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the carrier is asked for.
    pub drives: EndState,
    /// The state that the profile has afterwards.
    pub to: ProfileState,
}

/// What `action` does to `profile`, or the fault that its callback tells.
///
/// `service_plan` is the plan that the request names, `contracted` the account's plans on the profile's
/// network. A profile in doubt is never found to be *already so*: its network is asked to make it so.
pub fn decide(
    action: Action,
    profile: &Profile,
    service_plan: Option<&str>,
    contracted: &[Box<str>],
) -> Result<Change, Fault> {
    if let Some(plan) = service_plan
        && !contracted.iter().any(|known| **known == *plan)
    {
        return Err(Fault::ServicePlanNotFound(plan.into()));
    }
    let rule = RULES.iter().find(|rule| rule.allows(action, profile));
    rule.map(|rule| Change { drives: rule.drives, to: rule.to }).map_or_else(|| already(action, profile), Ok)
}

/// No row fits: the profile is where the action would lead, or somewhere it does not apply.
fn already(action: Action, profile: &Profile) -> Result<Change, Fault> {
    let row = RULES.iter().find(|rule| rule.action == action && rule.to == profile.state);
    match (row, action) {
        (Some(rule), _) if profile.in_doubt => Ok(Change { drives: rule.drives, to: rule.to }),
        (Some(_), Action::ProfileResume) => Err(Fault::ProfileAlreadyResumed),
        (None, _) => Err(Fault::DeviceStateInvalid),
    }
}

impl Rule {
    fn allows(&self, action: Action, profile: &Profile) -> bool {
        self.action == action && self.network.holds(profile.network) && self.from.holds(profile.state)
    }
}

impl Networks {
    fn holds(self, _network: Network) -> bool {
        match self {
            Self::Any => true,
        }
    }
}

impl From {
    fn holds(self, state: ProfileState) -> bool {
        match self {
            Self::Suspended => {
                matches!(state, ProfileState::Suspended(SuspendedBy::Profile | SuspendedBy::Device))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProfileStatus, Role};

    const STATES: [ProfileState; 5] = [
        ProfileState::PreActive,
        ProfileState::Active,
        ProfileState::Suspended(SuspendedBy::Profile),
        ProfileState::Suspended(SuspendedBy::Device),
        ProfileState::Deactive,
    ];
    const STATUSES: [ProfileStatus; 7] = [
        ProfileStatus::NotDownloaded,
        ProfileStatus::DownloadDisable,
        ProfileStatus::DownloadEnable,
        ProfileStatus::Enable,
        ProfileStatus::Disable,
        ProfileStatus::Delete,
        ProfileStatus::Unknown,
    ];

    fn profile(network: Network, role: Role, state: ProfileState, status: ProfileStatus) -> Profile {
        Profile {
            iccid: "89148000000800139708".parse().unwrap(),
            eid: "89049032000001000000000000000001".parse().unwrap(),
            imei: None,
            msisdn: None,
            imsi: None,
            network,
            role,
            state,
            status,
            service_plan: None,
            in_doubt: false,
        }
    }

    /// The expectation is written from contract §8 and §12, not from the table above.
    fn expected(state: ProfileState) -> Result<ProfileState, Fault> {
        match state {
            ProfileState::Suspended(_) => Ok(ProfileState::Active),
            ProfileState::Active => Err(Fault::ProfileAlreadyResumed),
            ProfileState::PreActive | ProfileState::Deactive => Err(Fault::DeviceStateInvalid),
        }
    }

    #[test]
    fn every_cell_of_the_resume_table_is_as_the_contract_says() {
        for network in Network::ALL {
            for role in [Role::Lead, Role::Local, Role::Default] {
                for state in STATES {
                    for status in STATUSES {
                        let decided =
                            decide(Action::ProfileResume, &profile(network, role, state, status), None, &[]);
                        assert_eq!(decided.map(|change| change.to), expected(state), "{state:?} {status:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_named_plan_must_be_contracted_on_the_profiles_network() {
        let suspended = profile(
            Network::Global,
            Role::Local,
            ProfileState::Suspended(SuspendedBy::Profile),
            ProfileStatus::Enable,
        );
        let contracted = ["Global 5MB".into()];
        assert!(decide(Action::ProfileResume, &suspended, Some("Global 5MB"), &contracted).is_ok());
        let fault = decide(Action::ProfileResume, &suspended, Some("Verizon 5MB"), &contracted);
        assert_eq!(fault, Err(Fault::ServicePlanNotFound("Verizon 5MB".into())));
    }

    #[test]
    fn a_profile_in_doubt_is_driven_again_and_never_already_so() {
        let mut doubtful =
            profile(Network::VerizonUs, Role::Lead, ProfileState::Active, ProfileStatus::Enable);
        doubtful.in_doubt = true;
        let change = decide(Action::ProfileResume, &doubtful, None, &[]).unwrap();
        assert_eq!((change.drives, change.to), (EndState::InService, ProfileState::Active));
    }
}
