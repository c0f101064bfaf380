//! The whole table of actions: every action on every profile that there can be. What is expected is written
//! from the contract (§8, and §12 for what it leaves open), not from the table in the code.

#![expect(clippy::unwrap_used, reason = "a test may")]

use reveille_domain::rules::RULES;
use reveille_domain::{
    Action, Already, Condition, Decision, EndState, Fault, Intent, Network, Profile, ProfileState,
    ProfileStatus, Role, SuspendedBy, decide,
};

const SUSPENDED: ProfileState = ProfileState::Suspended(SuspendedBy::Profile);
const WITH_DEVICE: ProfileState = ProfileState::Suspended(SuspendedBy::Device);
const PLAN: &str = "Plan A";
const OTHER_PLAN: &str = "Plan B";

fn profile(role: Role, state: ProfileState, status: ProfileStatus, fallback: bool) -> Profile {
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
        fallback,
        service_plan: Some(PLAN.into()),
        in_doubt: false,
    }
}

/// What is on the eUICC besides: a LEAD in service or out of it, and a disabled boot profile.
fn beside(lead_in_service: bool) -> Vec<Profile> {
    let state = if lead_in_service { ProfileState::Active } else { WITH_DEVICE };
    let boot = profile(Role::Default, ProfileState::Active, ProfileStatus::DownloadDisable, false);
    let lead = profile(Role::Lead, state, ProfileStatus::Enable, false);
    vec![lead, boot]
}

fn actions() -> impl Iterator<Item = Action> {
    let without_rules =
        [Action::DeviceList, Action::DeviceHistory, Action::ResumeNotice, Action::ExternalChange];
    Action::ALL.into_iter().filter(move |action| !without_rules.contains(action))
}

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
struct Cell<'a> {
    action: Action,
    profile: &'a Profile,
    lead_in_service: bool,
    /// `checkFallbackProfile`.
    spares_fallback: bool,
    same_plan: bool,
}

/// What follows: what the carrier is asked for, the state and the status from then on.
type Follows = Result<(EndState, ProfileState, ProfileStatus), Fault>;

const INVALID: Follows = Err(Fault::DeviceStateInvalid);

fn already(already: Already) -> Follows {
    Err(Fault::Already(already))
}

/// §8, action by action.
fn expected(cell: &Cell<'_>) -> Follows {
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
        Action::DeviceList | Action::DeviceHistory | Action::ResumeNotice | Action::ExternalChange => {
            unreachable!("no rule is about them")
        }
    }
}

/// What becomes of the two others: "all others → DISABLE", "boot/default profile becomes enabled".
fn expected_beside(action: Action, others: &[Profile]) -> Vec<(usize, Condition)> {
    let with = |at: usize, status| (at, Condition { status, ..others[at].condition() });
    match action {
        Action::Enable | Action::DownloadEnable | Action::ActivateEnable => {
            vec![with(0, ProfileStatus::Disable)]
        }
        Action::Disable => vec![with(0, ProfileStatus::Disable), with(1, ProfileStatus::Enable)],
        _ => Vec::new(),
    }
}

/// Every profile that there can be, and whether the LEAD on its eUICC is in service.
fn profiles() -> Vec<(Profile, bool)> {
    let mut profiles = Vec::new();
    for role in Role::ALL {
        for state in ProfileState::ALL {
            for status in ProfileStatus::ALL {
                for (fallback, lead) in [(false, false), (false, true), (true, false), (true, true)] {
                    profiles.push((profile(role, state, status, fallback), lead));
                }
            }
        }
    }
    profiles
}

/// Every way to ask for an action: with which plan, and whether a fallback is spared.
fn intents() -> Vec<Intent<'static>> {
    let mut intents = Vec::new();
    for action in actions() {
        for service_plan in [None, Some(PLAN), Some(OTHER_PLAN)] {
            for spares_fallback in [false, true] {
                // `serviceplan` without a plan is refused at the door.
                if action != Action::ServicePlan || service_plan.is_some() {
                    intents.push(Intent { action, service_plan, spares_fallback });
                }
            }
        }
    }
    intents
}

#[test]
fn every_cell_of_the_table_is_as_the_contract_says() {
    let contracted: Vec<Box<str>> = vec![PLAN.into(), OTHER_PLAN.into()];
    let mut cells = 0;
    for (profile, lead_in_service) in &profiles() {
        let others = beside(*lead_in_service);
        for intent in intents() {
            let Intent { action, service_plan, spares_fallback } = intent;
            let same_plan = service_plan == Some(PLAN);
            let cell =
                Cell { action, profile, lead_in_service: *lead_in_service, spares_fallback, same_plan };
            let takes_plan =
                matches!(action, Action::Activate | Action::ActivateEnable | Action::ServicePlan);
            let fallback = profile.fallback || action == Action::SetFallback;
            let expected = expected(&cell).map(|(drives, state, status)| Decision {
                drives,
                to: Condition { state, status, fallback },
                takes_plan,
                others: expected_beside(action, &others),
            });
            let decided = decide(intent, profile, &others, &contracted);
            assert_eq!(decided, expected, "{action:?} on {profile:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, (3 * 5 * 7 * 4) * (14 * 3 + 2) * 2);
}

#[test]
fn a_plan_that_is_not_contracted_is_a_fault_before_anything_else() {
    for (profile, lead) in &profiles() {
        for action in actions() {
            let intent = Intent { action, service_plan: Some(OTHER_PLAN), spares_fallback: false };
            let decided = decide(intent, profile, &beside(*lead), &[PLAN.into()]);
            assert_eq!(decided, Err(Fault::ServicePlanNotFound(OTHER_PLAN.into())));
        }
    }
}

#[test]
fn a_profile_in_doubt_is_never_already_so() {
    for (mut profile, lead) in profiles() {
        profile.in_doubt = true;
        for action in actions() {
            let intent = Intent { action, service_plan: Some(PLAN), spares_fallback: false };
            let decided = decide(intent, &profile, &beside(lead), &[PLAN.into()]);
            assert!(!matches!(decided, Err(Fault::Already(_))), "{action:?} on {profile:?}: {decided:?}");
        }
    }
}

#[test]
fn a_lead_is_never_deleted_nor_suspended_without_its_device() {
    for rule in RULES.iter().filter(|rule| matches!(rule.action, Action::Delete | Action::ProfileSuspend)) {
        assert_eq!(rule.roles, [Role::Local], "{rule:?}");
    }
}

/// A walk of many steps over one eUICC: whatever is decided, it never has two enabled profiles.
#[test]
fn no_walk_leads_to_two_enabled_profiles_or_two_fallbacks() {
    let mut state = 7_u64;
    let mut draw = |bound: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15); // SplitMix64
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    };
    let actions: Vec<Action> = actions().collect();
    let mut euicc = beside(true);
    euicc.push(profile(Role::Local, ProfileState::PreActive, ProfileStatus::NotDownloaded, false));
    euicc.push(profile(Role::Local, ProfileState::Active, ProfileStatus::NotDownloaded, false));
    let mut decided = 0;
    for _ in 0..100_000 {
        let at = draw(euicc.len());
        let intent =
            Intent { action: actions[draw(actions.len())], service_plan: None, spares_fallback: false };
        let places: Vec<usize> = (0..euicc.len()).filter(|other| *other != at).collect();
        let others: Vec<Profile> = places.iter().map(|other| euicc[*other].clone()).collect();
        let Ok(decision) = decide(intent, &euicc[at], &others, &[]) else { continue };
        let changes = decision.others.iter().map(|(other, to)| (places[*other], *to));
        for (place, to) in changes.chain([(at, decision.to)]) {
            let profile = &mut euicc[place];
            (profile.state, profile.status, profile.fallback) = (to.state, to.status, to.fallback);
        }
        decided += 1;
        assert!(euicc.iter().filter(|profile| profile.status.is_enabled()).count() <= 1, "{euicc:?}");
        assert!(euicc.iter().filter(|profile| profile.fallback).count() <= 1, "{euicc:?}");
        assert!(euicc[0].status.is_on_card(), "the LEAD stays on the card");
    }
    assert!(decided > 1_000, "{decided} steps were legal");
}
