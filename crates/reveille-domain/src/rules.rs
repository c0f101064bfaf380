//! The one table: what each action needs of a profile and what it leaves behind, and `decide` over it.
//!
//! Adding an action adds rows. `docs/actions.md` is made from this table. Source: contract §8 and §12 Q7 to
//! Q11, Q23, Q27, Q29, Q30.

use crate::{
    Action, Already, Condition, Doubt, EndState, Fault, Profile, ProfileState, ProfileStatus, Role,
    SuspendedBy,
};

/// One row: an action on such a profile leads there, or finds it there already.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The action.
    pub action: Action,
    /// The roles that the row is about.
    pub roles: &'static [Role],
    /// The service states.
    pub states: &'static [ProfileState],
    /// The statuses on the card.
    pub statuses: &'static [ProfileStatus],
    /// What else must hold.
    pub when: When,
    /// What follows.
    pub then: Then,
}

/// What else a row needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing.
    Always,
    /// The eUICC's LEAD profile is in service: the device is reached through it.
    LeadInService,
    /// The eUICC falls back to the profile.
    IsFallback,
    /// The eUICC does not fall back to the profile.
    IsNotFallback,
    /// The request does not spare what the eUICC falls back to, or that is another profile.
    FallbackAllows,
    /// The profile is on the plan that the request names.
    SamePlan,
}

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The carrier is asked for an end, and the record changes.
    Leads(Lead),
    /// Nothing is to be done, and a fault says so. Where just that is in doubt, the profile is driven all the
    /// same, to the end at which it is recorded to be.
    Already(Already, EndState),
}

/// Where a row leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// What the carrier is asked for.
    pub drives: EndState,
    /// The service state from then on; as it was where nothing is said.
    pub state: Option<ProfileState>,
    /// The status on the card from then on; as it was where nothing is said.
    pub status: Option<ProfileStatus>,
    /// Whether the profile takes the plan that the request names, where it names one.
    pub takes_plan: bool,
    /// What becomes of the others on the eUICC.
    pub others: Others,
}

/// What becomes of the other profiles on an eUICC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nothing.
    Stay,
    /// The enabled one is disabled.
    AreDisabled,
    /// The one that the card falls back to is enabled.
    FallbackIsEnabled,
    /// None of them is the fallback any more.
    LoseFallback,
}

const ANY_ROLE: &[Role] = &Role::ALL;
const LEAD_OR_LOCAL: &[Role] = &[Role::Lead, Role::Local];
const LOCAL: &[Role] = &[Role::Local];

const ANY_STATE: &[ProfileState] = &ProfileState::ALL;
const ACTIVE: &[ProfileState] = &[ProfileState::Active];
const SUSPENDED: &[ProfileState] =
    &[ProfileState::Suspended(SuspendedBy::Profile), ProfileState::Suspended(SuspendedBy::Device)];
const SUSPENDED_BY_DEVICE: &[ProfileState] = &[ProfileState::Suspended(SuspendedBy::Device)];
const ACTIVE_OR_SUSPENDED: &[ProfileState] = &[
    ProfileState::Active,
    ProfileState::Suspended(SuspendedBy::Profile),
    ProfileState::Suspended(SuspendedBy::Device),
];
const DEACTIVE: &[ProfileState] = &[ProfileState::Deactive];
const NOT_ACTIVATED: &[ProfileState] = &[ProfileState::PreActive, ProfileState::Deactive];

const ANY_STATUS: &[ProfileStatus] = &ProfileStatus::ALL;
const NOT_DOWNLOADED: &[ProfileStatus] = &[ProfileStatus::NotDownloaded];
const NOT_ON_CARD: &[ProfileStatus] =
    &[ProfileStatus::NotDownloaded, ProfileStatus::Delete, ProfileStatus::Unknown];
const ON_CARD: &[ProfileStatus] = &[
    ProfileStatus::DownloadDisable,
    ProfileStatus::DownloadEnable,
    ProfileStatus::Enable,
    ProfileStatus::Disable,
];
const ENABLED: &[ProfileStatus] = &[ProfileStatus::DownloadEnable, ProfileStatus::Enable];
const DISABLED: &[ProfileStatus] = &[ProfileStatus::DownloadDisable, ProfileStatus::Disable];
const DISABLED_OR_UNKNOWN: &[ProfileStatus] =
    &[ProfileStatus::DownloadDisable, ProfileStatus::Disable, ProfileStatus::Unknown];
const DELETED: &[ProfileStatus] = &[ProfileStatus::Delete];

/// The rows, read from the top; the first that fits decides. Where none fits, the profile is in no state that
/// the action applies to.
pub const RULES: &[Rule] = &[
    // A resume lifts a suspension, whoever laid it; the status on the card stays as it was.
    on(Action::ProfileResume, LEAD_OR_LOCAL, SUSPENDED, ANY_STATUS)
        .leads(to(EndState::InService).state(ProfileState::Active)),
    on(Action::ProfileResume, LEAD_OR_LOCAL, ACTIVE, ANY_STATUS)
        .already(Already::Resumed, EndState::InService),
    // A LEAD profile is suspended with its device only.
    on(Action::ProfileSuspend, LOCAL, ACTIVE, ANY_STATUS)
        .leads(to(EndState::Suspended).state(ProfileState::Suspended(SuspendedBy::Profile))),
    on(Action::ProfileSuspend, LOCAL, SUSPENDED, ANY_STATUS).already(Already::Suspended, EndState::Suspended),
    on(Action::DeviceSuspend, ANY_ROLE, ACTIVE, ANY_STATUS)
        .leads(to(EndState::Suspended).state(ProfileState::Suspended(SuspendedBy::Device))),
    on(Action::DeviceSuspend, ANY_ROLE, SUSPENDED, ANY_STATUS)
        .already(Already::Suspended, EndState::Suspended),
    // What was suspended on its own before stays so.
    on(Action::DeviceResume, ANY_ROLE, SUSPENDED_BY_DEVICE, ANY_STATUS)
        .leads(to(EndState::InService).state(ProfileState::Active)),
    on(Action::DeviceResume, ANY_ROLE, ACTIVE, ANY_STATUS).already(Already::Resumed, EndState::InService),
    on(Action::Activate, LOCAL, NOT_ACTIVATED, NOT_ON_CARD).leads(
        to(EndState::InService).state(ProfileState::Active).status(ProfileStatus::NotDownloaded).takes_plan(),
    ),
    on(Action::Activate, LEAD_OR_LOCAL, NOT_ACTIVATED, ANY_STATUS)
        .leads(to(EndState::InService).state(ProfileState::Active).takes_plan()),
    on(Action::Activate, LEAD_OR_LOCAL, ACTIVE, ANY_STATUS).already(Already::Active, EndState::InService),
    on(Action::ActivateEnable, LEAD_OR_LOCAL, NOT_ACTIVATED, ON_CARD).leads(
        to(EndState::InServiceAndEnabled)
            .state(ProfileState::Active)
            .status(ProfileStatus::Enable)
            .takes_plan()
            .others(Others::AreDisabled),
    ),
    on(Action::ActivateEnable, LEAD_OR_LOCAL, ACTIVE, ANY_STATUS)
        .already(Already::Active, EndState::InService),
    on(Action::Deactivate, LEAD_OR_LOCAL, ACTIVE_OR_SUSPENDED, ANY_STATUS)
        .when(When::FallbackAllows)
        .leads(to(EndState::OutOfService).state(ProfileState::Deactive)),
    on(Action::Deactivate, LEAD_OR_LOCAL, DEACTIVE, ANY_STATUS)
        .already(Already::Deactivated, EndState::OutOfService),
    on(Action::Enable, LEAD_OR_LOCAL, ACTIVE, DISABLED_OR_UNKNOWN)
        .leads(to(EndState::Enabled).status(ProfileStatus::Enable).others(Others::AreDisabled)),
    on(Action::Enable, LEAD_OR_LOCAL, ACTIVE, ENABLED).already(Already::Enabled, EndState::Enabled),
    on(Action::Disable, LOCAL, ANY_STATE, ENABLED)
        .leads(to(EndState::Disabled).status(ProfileStatus::Disable).others(Others::FallbackIsEnabled)),
    on(Action::Disable, LOCAL, ANY_STATE, DISABLED).already(Already::Disabled, EndState::Disabled),
    on(Action::Download, LOCAL, ACTIVE, NOT_DOWNLOADED)
        .when(When::LeadInService)
        .leads(to(EndState::Downloaded).status(ProfileStatus::DownloadDisable)),
    on(Action::Download, LOCAL, ACTIVE, ON_CARD).already(Already::Downloaded, EndState::Downloaded),
    on(Action::DownloadDisable, LOCAL, ACTIVE, NOT_DOWNLOADED)
        .when(When::LeadInService)
        .leads(to(EndState::Downloaded).status(ProfileStatus::DownloadDisable)),
    on(Action::DownloadDisable, LOCAL, ACTIVE, ON_CARD).already(Already::Downloaded, EndState::Downloaded),
    on(Action::DownloadEnable, LOCAL, ACTIVE, NOT_DOWNLOADED).when(When::LeadInService).leads(
        to(EndState::DownloadedAndEnabled).status(ProfileStatus::DownloadEnable).others(Others::AreDisabled),
    ),
    on(Action::DownloadEnable, LOCAL, ACTIVE, ON_CARD).already(Already::Downloaded, EndState::Downloaded),
    // What the card uses or falls back to cannot be deleted, nor what is in service.
    on(Action::Delete, LOCAL, NOT_ACTIVATED, DISABLED)
        .when(When::IsNotFallback)
        .leads(to(EndState::Deleted).status(ProfileStatus::Delete)),
    on(Action::Delete, LOCAL, NOT_ACTIVATED, DELETED).already(Already::Deleted, EndState::Deleted),
    on(Action::SetFallback, LEAD_OR_LOCAL, ACTIVE, ON_CARD)
        .when(When::IsNotFallback)
        .leads(to(EndState::Fallback).others(Others::LoseFallback)),
    on(Action::SetFallback, LEAD_OR_LOCAL, ACTIVE, ON_CARD)
        .when(When::IsFallback)
        .already(Already::Fallback, EndState::Fallback),
    on(Action::ServicePlan, LEAD_OR_LOCAL, ACTIVE, ANY_STATUS)
        .when(When::SamePlan)
        .already(Already::OnPlan, EndState::OnPlan),
    on(Action::ServicePlan, LEAD_OR_LOCAL, ACTIVE, ANY_STATUS).leads(to(EndState::OnPlan).takes_plan()),
];

/// A row without its end.
struct Row(Rule);

const fn on(
    action: Action,
    roles: &'static [Role],
    states: &'static [ProfileState],
    statuses: &'static [ProfileStatus],
) -> Row {
    let then = Then::Already(Already::Resumed, EndState::InService);
    Row(Rule { action, roles, states, statuses, when: When::Always, then })
}

impl Row {
    const fn when(mut self, when: When) -> Self {
        self.0.when = when;
        self
    }

    const fn leads(mut self, lead: Lead) -> Rule {
        self.0.then = Then::Leads(lead);
        self.0
    }

    const fn already(mut self, already: Already, drives: EndState) -> Rule {
        self.0.then = Then::Already(already, drives);
        self.0
    }
}

const fn to(drives: EndState) -> Lead {
    Lead { drives, state: None, status: None, takes_plan: false, others: Others::Stay }
}

impl Lead {
    const fn state(mut self, state: ProfileState) -> Self {
        self.state = Some(state);
        self
    }

    const fn status(mut self, status: ProfileStatus) -> Self {
        self.status = Some(status);
        self
    }

    const fn takes_plan(mut self) -> Self {
        self.takes_plan = true;
        self
    }

    const fn others(mut self, others: Others) -> Self {
        self.others = others;
        self
    }
}

/// What a request asks of each of its profiles.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// The action.
    pub action: Action,
    /// The plan that it names.
    pub service_plan: Option<&'a str>,
    /// Whether what a card falls back to is spared.
    pub spares_fallback: bool,
}

/// What a legal action does: what its carrier must bring about, and what is recorded then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the carrier is asked for.
    pub drives: EndState,
    /// How the profile is recorded afterwards.
    pub to: Condition,
    /// Whether it takes the plan that the request names.
    pub takes_plan: bool,
    /// Which of the others on its eUICC change, by their place among them, and how they are recorded then.
    pub others: Vec<(usize, Condition)>,
}

/// Whether an action concerns the other profiles on the eUICC: looks at them, changes them, or touches the card.
pub fn concerns_euicc(action: Action) -> bool {
    let leads = |rule: &Rule| match rule.then {
        Then::Leads(lead) => lead.others != Others::Stay || lead.drives.touches_card(),
        Then::Already(..) => false,
    };
    let concerns = |rule: &Rule| rule.when == When::LeadInService || leads(rule);
    RULES.iter().any(|rule| rule.action == action && concerns(rule))
}

/// The ends that a carrier may be asked for by an action; some more than once.
pub fn ends_of(action: Action) -> impl Iterator<Item = EndState> {
    RULES.iter().filter(move |rule| rule.action == action).map(|rule| match rule.then {
        Then::Leads(lead) => lead.drives,
        Then::Already(_, drives) => drives,
    })
}

/// What of a profile an action may have changed that was given up unsettled.
pub fn doubted_by(action: Action) -> Doubt {
    ends_of(action).fold(Doubt::NONE, |doubt, end| doubt.and(end.settles()))
}

/// What `intent` does to `profile`, or the fault that its callback tells.
///
/// `others` are the other profiles on its eUICC, where `concerns_euicc` says so; `contracted` the account's
/// plans on the profile's network. What is in doubt is never found to be *already so*: the network is asked to
/// make it so.
pub fn decide(
    intent: Intent<'_>,
    profile: &Profile,
    others: &[Profile],
    contracted: &[Box<str>],
) -> Result<Decision, Fault> {
    if let Some(plan) = intent.service_plan
        && !contracted.iter().any(|known| **known == *plan)
    {
        return Err(Fault::ServicePlanNotFound(plan.into()));
    }
    let rule = RULES.iter().find(|rule| rule.fits(intent, profile, others));
    match rule.map(|rule| rule.then) {
        Some(Then::Leads(lead)) => Ok(lead.decision(profile, others)),
        Some(Then::Already(_, drives)) if profile.in_doubt.meets(drives.settles()) => {
            Ok(confirmation(drives, profile, others))
        }
        Some(Then::Already(already, _)) => Err(Fault::Already(already)),
        None => Err(Fault::DeviceStateInvalid),
    }
}

/// Drives a profile in doubt to where it is recorded to be.
fn confirmation(drives: EndState, profile: &Profile, others: &[Profile]) -> Decision {
    let others = if drives == EndState::Enabled { enabled_instead(others, None) } else { Vec::new() };
    Decision { drives, to: profile.condition(), takes_plan: false, others }
}

impl Rule {
    fn fits(&self, intent: Intent<'_>, profile: &Profile, others: &[Profile]) -> bool {
        self.action == intent.action
            && self.roles.contains(&profile.role)
            && self.states.contains(&profile.state)
            && self.statuses.contains(&profile.status)
            && match self.when {
                When::Always => true,
                When::LeadInService => {
                    others.iter().any(|other| other.role == Role::Lead && other.is_in_service())
                }
                When::IsFallback => profile.fallback,
                When::IsNotFallback => !profile.fallback,
                When::FallbackAllows => !(intent.spares_fallback && profile.fallback),
                When::SamePlan => profile.service_plan.as_deref() == intent.service_plan,
            }
    }
}

impl Lead {
    fn decision(self, profile: &Profile, others: &[Profile]) -> Decision {
        let mut to = profile.condition();
        to.state = self.state.unwrap_or(to.state);
        to.status = self.status.unwrap_or(to.status);
        to.fallback |= self.drives == EndState::Fallback;
        Decision { drives: self.drives, to, takes_plan: self.takes_plan, others: self.others.changes(others) }
    }
}

impl Others {
    fn changes(self, others: &[Profile]) -> Vec<(usize, Condition)> {
        match self {
            Self::Stay => Vec::new(),
            Self::AreDisabled => enabled_instead(others, None),
            Self::FallbackIsEnabled => enabled_instead(others, falls_back_to(others)),
            Self::LoseFallback => {
                let fallbacks = others.iter().enumerate().filter(|(_, other)| other.fallback);
                fallbacks
                    .map(|(at, other)| (at, Condition { fallback: false, ..other.condition() }))
                    .collect()
            }
        }
    }
}

/// What changes when a card has that one of `profiles` enabled, or none of them.
pub fn enabled_instead(profiles: &[Profile], enabled: Option<usize>) -> Vec<(usize, Condition)> {
    let change = |(at, profile): (usize, &Profile)| {
        let status = match (enabled == Some(at), profile.status.is_enabled()) {
            (true, false) => ProfileStatus::Enable,
            (false, true) => ProfileStatus::Disable,
            (true, true) | (false, false) => return None,
        };
        Some((at, Condition { status, ..profile.condition() }))
    };
    profiles.iter().enumerate().filter_map(change).collect()
}

/// Which of `profiles` a card enables by itself when the enabled one is taken away: what it falls back to,
/// else its boot profile, else the LEAD profile; of those that are on the card.
pub fn falls_back_to(profiles: &[Profile]) -> Option<usize> {
    let on_card = |is: &dyn Fn(&Profile) -> bool| {
        profiles.iter().position(|profile| profile.status.is_on_card() && is(profile))
    };
    on_card(&|profile| profile.fallback)
        .or_else(|| on_card(&|profile| profile.role == Role::Default))
        .or_else(|| on_card(&|profile| profile.role == Role::Lead))
}

/// How a device action ended for one profile of the device, and how that is recorded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its outcome.
    pub result: Result<(), Fault>,
    /// Its service state afterwards.
    pub state: ProfileState,
}

/// How a device action ended for the device as a whole, when `parts` are its profiles.
///
/// It succeeded unless every profile failed; one that device_resume leaves suspended on its own is not
/// counted. Where all failed alike, the device's fault is theirs. Source: contract §12 Q9, Q10, Q30.
pub fn device_outcome(action: Action, parts: &[Part]) -> Result<(), Fault> {
    let alone = ProfileState::Suspended(SuspendedBy::Profile);
    let spared = |part: &&Part| action == Action::DeviceResume && part.state == alone;
    let counted = parts.iter().filter(|part| !spared(part)).map(|part| &part.result);
    let mut faults = counted.clone().filter_map(|result| result.as_ref().err());
    match faults.next() {
        Some(_) if counted.clone().any(Result::is_ok) => Ok(()),
        Some(first) if faults.all(|fault| fault == first) => Err(first.clone()),
        Some(_) => Err(Fault::DeviceActionFailed),
        None => Ok(()),
    }
}

/// The state of a device as a whole: the best that one of its profiles is in.
pub fn device_state(profiles: &[Profile]) -> ProfileState {
    let rank = |state: &ProfileState| match state {
        ProfileState::Active => 0,
        ProfileState::Suspended(_) => 1,
        ProfileState::PreActive => 2,
        ProfileState::Deactive => 3,
    };
    profiles.iter().map(|profile| profile.state).min_by_key(rank).unwrap_or(ProfileState::Deactive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    fn profile(role: Role, state: ProfileState, status: ProfileStatus) -> Profile {
        Profile {
            iccid: "89148000000800139708".parse().unwrap(),
            eid: "89049032000001000000000000000001".parse().unwrap(),
            imei: None,
            msisdn: None,
            imsi: None,
            network: if role == Role::Lead { Network::VerizonUs } else { Network::Global },
            role,
            state,
            status,
            fallback: false,
            service_plan: None,
            in_doubt: Doubt::NONE,
        }
    }

    fn intent(action: Action) -> Intent<'static> {
        Intent { action, service_plan: None, spares_fallback: false }
    }

    #[test]
    fn a_named_plan_must_be_contracted_on_the_profiles_network() {
        let suspended =
            profile(Role::Local, ProfileState::Suspended(SuspendedBy::Profile), ProfileStatus::Enable);
        let contracted = ["Global 5MB".into()];
        let named = |plan| Intent { service_plan: Some(plan), ..intent(Action::ProfileResume) };
        assert!(decide(named("Global 5MB"), &suspended, &[], &contracted).is_ok());
        let fault = decide(named("Verizon 5MB"), &suspended, &[], &contracted);
        assert_eq!(fault, Err(Fault::ServicePlanNotFound("Verizon 5MB".into())));
    }

    #[test]
    fn a_profile_in_doubt_is_driven_again_and_never_already_so() {
        let mut doubtful = profile(Role::Lead, ProfileState::Active, ProfileStatus::Enable);
        doubtful.in_doubt = Doubt::ALL;
        for (action, drives) in
            [(Action::ProfileResume, EndState::InService), (Action::Enable, EndState::Enabled)]
        {
            let decision = decide(intent(action), &doubtful, &[], &[]).unwrap();
            assert_eq!((decision.drives, decision.to), (drives, doubtful.condition()));
        }
    }

    #[test]
    fn a_doubt_about_one_thing_leaves_the_others_certain() {
        let mut doubtful = profile(Role::Lead, ProfileState::Active, ProfileStatus::Enable);
        doubtful.in_doubt = doubted_by(Action::Enable);
        assert!(decide(intent(Action::Enable), &doubtful, &[], &[]).is_ok());
        let resume = decide(intent(Action::ProfileResume), &doubtful, &[], &[]);
        assert_eq!(resume, Err(Fault::Already(Already::Resumed)));
    }

    #[test]
    fn a_doubt_whether_a_profile_is_enabled_is_not_settled_by_its_being_on_the_card() {
        let doubt = doubted_by(Action::Enable);
        for end in [EndState::Downloaded, EndState::Fallback, EndState::InService, EndState::OnPlan] {
            assert!(doubt.without(end.settles()).meets(Doubt::ENABLED), "{end:?}");
        }
        assert_eq!(doubt.without(EndState::Disabled.settles()), Doubt::NONE);
    }

    #[test]
    fn what_an_action_may_leave_in_doubt_the_same_action_settles() {
        for rule in RULES {
            if let Then::Leads(lead) = rule.then {
                let left = doubted_by(rule.action).without(lead.drives.settles());
                assert_eq!(left, Doubt::NONE, "{:?}", rule.action);
            }
        }
    }

    #[test]
    fn a_card_falls_back_to_its_fallback_then_its_boot_profile_then_its_lead() {
        let mut lead = profile(Role::Lead, ProfileState::Active, ProfileStatus::Disable);
        let boot = profile(Role::Default, ProfileState::Active, ProfileStatus::DownloadDisable);
        let absent = profile(Role::Lead, ProfileState::Active, ProfileStatus::Unknown);
        assert_eq!(falls_back_to(&[absent.clone(), lead.clone()]), Some(1));
        assert_eq!(falls_back_to(&[lead.clone(), boot.clone()]), Some(1));
        lead.fallback = true;
        assert_eq!(falls_back_to(&[boot, lead]), Some(1));
        assert_eq!(falls_back_to(&[absent]), None);
    }

    #[test]
    fn a_device_fails_where_every_profile_that_counts_did() {
        let part = |result, state| Part { result, state };
        let suspended = || Err(Fault::Already(Already::Suspended));
        let (active, alone) = (ProfileState::Active, ProfileState::Suspended(SuspendedBy::Profile));
        let outcome = |action, parts: &[Part]| device_outcome(action, parts);
        let both = [part(suspended(), alone), part(suspended(), alone)];
        assert_eq!(outcome(Action::DeviceSuspend, &both), suspended());
        let one = [part(suspended(), alone), part(Ok(()), active)];
        assert_eq!(outcome(Action::DeviceSuspend, &one), Ok(()));
        let different = [part(suspended(), alone), part(Err(Fault::Unsettled), active)];
        assert_eq!(outcome(Action::DeviceSuspend, &different), Err(Fault::DeviceActionFailed));
        let spared = [part(Err(Fault::DeviceStateInvalid), alone), part(Err(Fault::Unsettled), active)];
        assert_eq!(outcome(Action::DeviceResume, &spared), Err(Fault::Unsettled));
        let gone = [part(Err(Fault::DeviceStateInvalid), ProfileState::Deactive)];
        assert_eq!(outcome(Action::DeviceResume, &gone), Err(Fault::DeviceStateInvalid));
    }
}
