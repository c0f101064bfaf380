//! Every cell of the table of actions: each profile action, on every profile that there can be, beside every
//! sort of other profiles. What is expected is written from the contract (§8, §12), one function per action,
//! and knows nothing of the table in the code.

#![expect(clippy::unwrap_used, reason = "a test may")]

use reveille_domain::ProfileState::{Active, Deactive, PreActive, Suspended};
use reveille_domain::ProfileStatus::{
    Delete, Disable, DownloadDisable, DownloadEnable, Enable, NotDownloaded, Unknown,
};
use reveille_domain::Role::{Default, Lead, Local};
use reveille_domain::{
    Action, Already, Condition, Decision, Doubt, EndState, Fault, Intent, Network, Part, Profile,
    ProfileState, ProfileStatus, Role, SuspendedBy, Targets, concerns_euicc, decide, device_outcome,
};
use std::collections::{BTreeSet, HashMap, HashSet};

// ---- What the contract says -------------------------------------------------------------------------------

/// What an action finds: the profile, the others on its eUICC, and what the request says.
struct Scene<'a> {
    profile: &'a Profile,
    others: &'a [Profile],
    /// The service plan that the request names.
    named: Option<&'a str>,
    /// The account's plans on the profile's network.
    contracted: &'a [Box<str>],
    /// `checkFallbackProfile` (§5).
    spares_fallback: bool,
}

type Outcome = Result<Decision, Fault>;

/// §12 Q8 and Q11: a wrong state and a wrong role are the same fault.
const INVALID: Outcome = Err(Fault::DeviceStateInvalid);

fn already(already: Already) -> Outcome {
    Err(Fault::Already(already))
}

/// §8, the table of states: downloaded and not deleted since, be it in use or not.
fn on_card(status: ProfileStatus) -> bool {
    in_use(status) || matches!(status, DownloadDisable | Disable)
}

/// §8: "in service" is said of these two alone.
fn in_use(status: ProfileStatus) -> bool {
    matches!(status, DownloadEnable | Enable)
}

impl Scene<'_> {
    /// Where nothing else is said, an action changes neither its fallback nor its plan, and no other profile.
    fn leads(&self, drives: EndState, state: ProfileState, status: ProfileStatus) -> Decision {
        let to = Condition { state, status, fallback: self.profile.fallback };
        Decision { drives, to, takes_plan: false, others: Vec::new() }
    }

    /// §8, download: "device on, connected through its US profile".
    fn is_connected_through_lead(&self) -> bool {
        let connects = |other: &Profile| other.role == Lead && other.state == Active && in_use(other.status);
        self.others.iter().any(connects)
    }

    /// §8, disable: "boot/default profile becomes enabled"; before it, what the card was told to fall back to;
    /// after it, the US profile. A card can enable only what is on it.
    fn card_falls_back_to(&self) -> Option<usize> {
        let first = |is: &dyn Fn(&Profile) -> bool| {
            self.others.iter().position(|other| on_card(other.status) && is(other))
        };
        first(&|other| other.fallback)
            .or_else(|| first(&|other| other.role == Default))
            .or_else(|| first(&|other| other.role == Lead))
    }

    /// §8, enable: "one enabled profile per eUICC". That one of the others is it from now on, or none of them:
    /// any other that was in use is DISABLE ("was enabled, now disabled"); what was not in use stays as it is.
    fn card_uses(&self, used: Option<usize>) -> Vec<(usize, Condition)> {
        let mut changed = Vec::new();
        for (at, other) in self.others.iter().enumerate() {
            if in_use(other.status) != (used == Some(at)) {
                let status = if used == Some(at) { Enable } else { Disable };
                changed.push((at, Condition { state: other.state, status, fallback: other.fallback }));
            }
        }
        changed
    }
}

/// What the contract says of an action.
fn expected(action: Action, scene: &Scene<'_>) -> Outcome {
    // §12 Q12, §9.3: a plan that is none of the account's is told before anything else.
    if let Some(plan) = scene.named
        && !scene.contracted.iter().any(|contracted| **contracted == *plan)
    {
        return Err(Fault::ServicePlanNotFound(plan.into()));
    }
    match action {
        Action::ProfileResume => profile_resume(scene),
        Action::ProfileSuspend => profile_suspend(scene),
        Action::DeviceSuspend => device_suspend(scene),
        Action::DeviceResume => device_resume(scene),
        Action::Activate => activate(scene),
        Action::ActivateEnable => activate_enable(scene),
        Action::Deactivate => deactivate(scene),
        Action::Enable => enable(scene),
        Action::Disable => disable(scene),
        Action::Download | Action::DownloadDisable => download(scene),
        Action::DownloadEnable => download_enable(scene),
        Action::Delete => delete(scene),
        Action::SetFallback => set_fallback(scene),
        Action::ServicePlan => service_plan(scene),
        Action::DeviceList
        | Action::DeviceHistory
        | Action::ResumeNotice
        | Action::ExternalChange
        | Action::Drift => {
            panic!("{action:?} is not asked of a profile")
        }
    }
}

/// LEAD, LOCAL; suspended; state → ACTIVE, status unchanged. Whatever it was suspended by: §8 (b), Q29.
fn profile_resume(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (Lead | Local, Suspended(_)) => Ok(scene.leads(EndState::InService, Active, scene.profile.status)),
        (Lead | Local, Active) => already(Already::Resumed), // Q7, Q8
        (Lead | Local, PreActive | Deactive) | (Default, _) => INVALID, // Q8; Q25
    }
}

/// LOCAL only; active; state → SUSPEND, by itself; status unchanged.
fn profile_suspend(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (Local, Active) => {
            let alone = Suspended(SuspendedBy::Profile);
            Ok(scene.leads(EndState::Suspended, alone, scene.profile.status))
        }
        (Local, Suspended(_)) => already(Already::Suspended), // Q29: also with its device
        (Local, PreActive | Deactive) => INVALID,
        (Lead | Default, _) => INVALID, // Q11: a US profile can be suspended only by device_suspend
    }
}

/// The whole eUICC: "every active profile → SUSPEND; ones already suspended report an error".
fn device_suspend(scene: &Scene<'_>) -> Outcome {
    match scene.profile.state {
        Active => {
            let with_device = Suspended(SuspendedBy::Device); // §8 (a)
            Ok(scene.leads(EndState::Suspended, with_device, scene.profile.status))
        }
        Suspended(_) => already(Already::Suspended),
        PreActive | Deactive => INVALID,
    }
}

/// The whole eUICC: "active profiles come back; profiles suspended before stay suspended; already-active ones
/// report an error".
fn device_resume(scene: &Scene<'_>) -> Outcome {
    match scene.profile.state {
        Suspended(SuspendedBy::Device) => Ok(scene.leads(EndState::InService, Active, scene.profile.status)),
        Suspended(SuspendedBy::Profile) => INVALID, // Q30
        Active => already(Already::Resumed),
        PreActive | Deactive => INVALID,
    }
}

/// LEAD, LOCAL; "also for a deactivated profile"; state → ACTIVE; "new Global profile NOT_DOWNLOADED", while
/// what is on the card stays there as it is. It begins a service, on the plan that is named (§5).
fn activate(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (role @ (Lead | Local), PreActive | Deactive) => {
            let is_new = role == Local && !on_card(scene.profile.status);
            let status = if is_new { NotDownloaded } else { scene.profile.status };
            Ok(Decision { takes_plan: true, ..scene.leads(EndState::InService, Active, status) })
        }
        (Lead | Local, Active) => already(Already::Active), // §9.3 DeviceAlreadyActive
        (Lead | Local, Suspended(_)) | (Default, _) => INVALID,
    }
}

/// Activate, and enable: so it is on the card, and becomes the one in use there. §8 does not list it; of what
/// has service §9.3 says "already active", whatever its status.
fn activate_enable(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (Lead | Local, PreActive | Deactive) if on_card(scene.profile.status) => Ok(Decision {
            takes_plan: true,
            others: scene.card_uses(None),
            ..scene.leads(EndState::InServiceAndEnabled, Active, Enable)
        }),
        (Lead | Local, Active) => already(Already::Active),
        (Lead | Local, PreActive | Deactive | Suspended(_)) | (Default, _) => INVALID,
    }
}

/// LEAD, LOCAL; state → DEACTIVE. A suspended line may be ended too; one that never began cannot.
fn deactivate(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (Lead | Local, Deactive) => already(Already::Deactivated),
        (Lead | Local, Active | Suspended(_)) if scene.profile.fallback && scene.spares_fallback => INVALID,
        (Lead | Local, Active | Suspended(_)) => {
            Ok(scene.leads(EndState::OutOfService, Deactive, scene.profile.status))
        }
        (Lead | Local, PreActive) | (Default, _) => INVALID,
    }
}

/// LEAD, LOCAL; on the card (or not known not to be); → ENABLE, all others → DISABLE.
fn enable(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state, scene.profile.status) {
        (Lead | Local, Active, DownloadDisable | Disable | Unknown) => {
            Ok(Decision { others: scene.card_uses(None), ..scene.leads(EndState::Enabled, Active, Enable) })
        }
        (Lead | Local, Active, DownloadEnable | Enable) => already(Already::Enabled),
        (Lead | Local, Active, NotDownloaded | Delete) => INVALID,
        (Lead | Local, PreActive | Suspended(_) | Deactive, _) => INVALID, // Q23
        (Default, _, _) => INVALID,
    }
}

/// LOCAL; enabled; → DISABLE, "boot/default profile becomes enabled". In any service state: it is the card's.
fn disable(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.status) {
        (Local, DownloadEnable | Enable) => Ok(Decision {
            others: scene.card_uses(scene.card_falls_back_to()),
            ..scene.leads(EndState::Disabled, scene.profile.state, Disable)
        }),
        (Local, DownloadDisable | Disable) => already(Already::Disabled),
        (Local, NotDownloaded | Delete | Unknown) => INVALID,
        (Lead | Default, _) => INVALID, // Q11
    }
}

/// LOCAL; activated first; device connected through its US profile; → DOWNLOAD_DISABLE.
fn download(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state, scene.profile.status) {
        (Local, Active, NotDownloaded) if scene.is_connected_through_lead() => {
            Ok(scene.leads(EndState::Downloaded, Active, DownloadDisable))
        }
        (Local, Active, DownloadDisable | DownloadEnable | Enable | Disable) => already(Already::Downloaded),
        (Local, Active, NotDownloaded | Delete | Unknown) => INVALID,
        (Local, PreActive | Suspended(_) | Deactive, _) | (Lead | Default, _, _) => INVALID, // Q11
    }
}

/// The same, → DOWNLOAD_ENABLE, "all others disabled".
fn download_enable(scene: &Scene<'_>) -> Outcome {
    download(scene).map(|_| Decision {
        others: scene.card_uses(None),
        ..scene.leads(EndState::DownloadedAndEnabled, Active, DownloadEnable)
    })
}

/// LOCAL only; not enabled, and DEACTIVE or never activated (Q27); → DELETE. Not what the card falls back to.
fn delete(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state, scene.profile.status) {
        (Local, state @ (PreActive | Deactive), DownloadDisable | Disable) if !scene.profile.fallback => {
            Ok(scene.leads(EndState::Deleted, state, Delete))
        }
        (Local, PreActive | Deactive, Delete) => already(Already::Deleted),
        (Local, PreActive | Deactive, _) | (Local, Active | Suspended(_), _) => INVALID,
        (Lead | Default, _, _) => INVALID, // Q11; "cannot be deleted"
    }
}

/// "Marks a fallback": one that has service and is on the card. A card falls back to one profile.
fn set_fallback(scene: &Scene<'_>) -> Outcome {
    let unmarked = |(at, other): (usize, &Profile)| {
        other.fallback.then_some((at, Condition { fallback: false, ..other.condition() }))
    };
    match (scene.profile.role, scene.profile.state, scene.profile.status) {
        (Lead | Local, Active, DownloadDisable | DownloadEnable | Enable | Disable) => {
            if scene.profile.fallback {
                return already(Already::Fallback);
            }
            Ok(Decision {
                drives: EndState::Fallback,
                to: Condition { fallback: true, ..scene.profile.condition() },
                takes_plan: false,
                others: scene.others.iter().enumerate().filter_map(unmarked).collect(),
            })
        }
        (Lead | Local, Active, NotDownloaded | Delete | Unknown) => INVALID,
        (Lead | Local, PreActive | Suspended(_) | Deactive, _) | (Default, _, _) => INVALID,
    }
}

/// LEAD, LOCAL; "not while suspended"; the plan changes and nothing else does.
fn service_plan(scene: &Scene<'_>) -> Outcome {
    match (scene.profile.role, scene.profile.state) {
        (Lead | Local, Active) if scene.profile.service_plan.as_deref() == scene.named => {
            already(Already::OnPlan)
        }
        (Lead | Local, Active) => {
            Ok(Decision { takes_plan: true, ..scene.leads(EndState::OnPlan, Active, scene.profile.status) })
        }
        (Lead | Local, PreActive | Suspended(_) | Deactive) | (Default, _) => INVALID,
    }
}

// ---- What there can be ------------------------------------------------------------------------------------

fn actions() -> impl Iterator<Item = Action> {
    let not_asked = [
        Action::DeviceList,
        Action::DeviceHistory,
        Action::ResumeNotice,
        Action::ExternalChange,
        Action::Drift,
    ];
    Action::ALL.into_iter().filter(move |action| !not_asked.contains(action))
}

fn profile(role: Role, state: ProfileState, status: ProfileStatus) -> Profile {
    Profile {
        iccid: "89148000000800139708".parse().unwrap(),
        eid: "89049032000001000000000000000001".parse().unwrap(),
        imei: None,
        msisdn: None,
        imsi: None,
        network: if role == Lead { Network::VerizonUs } else { Network::Global },
        role,
        state,
        status,
        fallback: false,
        service_plan: Some("Plan A".into()),
        in_doubt: Doubt::NONE,
    }
}

/// Every profile: role × state × status × whether the card falls back to it.
fn profiles() -> Vec<Profile> {
    let mut profiles = Vec::new();
    for role in Role::ALL {
        for state in ProfileState::ALL {
            for status in ProfileStatus::ALL {
                for fallback in [false, true] {
                    profiles.push(Profile { fallback, ..profile(role, state, status) });
                }
            }
        }
    }
    profiles
}

/// What there may be beside it: nothing; a LEAD in every state and status; and cards with a LEAD, a boot
/// profile and another LOCAL, one of them in use, none or one of them the fallback.
fn neighbours() -> Vec<Vec<Profile>> {
    let mut neighbours = vec![Vec::new()];
    for state in ProfileState::ALL {
        neighbours.extend(ProfileStatus::ALL.map(|status| vec![profile(Lead, state, status)]));
    }
    for lead in [Enable, Disable, Unknown] {
        for boot in [None, Some(Unknown), Some(DownloadDisable), Some(Enable)] {
            for local in [None, Some(NotDownloaded), Some(DownloadEnable)] {
                let mut card = Vec::new();
                card.extend(local.map(|status| profile(Local, Active, status)));
                card.push(profile(Lead, Active, lead));
                card.extend(boot.map(|status| profile(Default, Active, status)));
                if card.iter().filter(|other| in_use(other.status)).count() > 1 {
                    continue;
                }
                for fallback in 0..card.len() {
                    let mut card = card.clone();
                    card[fallback].fallback = true;
                    neighbours.push(card);
                }
                neighbours.push(card);
            }
        }
    }
    neighbours
}

/// The profile's plan, the plan that is named, and whether that one is contracted.
const PLANS: [(Option<&str>, Option<&str>, bool); 8] = [
    (Some("Plan A"), None, true),
    (Some("Plan A"), Some("Plan B"), true),
    (Some("Plan A"), Some("Plan A"), true),
    (Some("Plan A"), Some("Plan B"), false),
    (Some("Plan A"), Some("Plan A"), false),
    (None, None, true),
    (None, Some("Plan A"), true),
    (None, Some("Plan A"), false),
];

/// Goes over every cell; the plans beside few neighbours, as neither has to do with the other.
fn every_cell(mut visit: impl FnMut(Action, &Scene<'_>)) {
    let neighbours = neighbours();
    for mut profile in profiles() {
        for (nth, others) in neighbours.iter().enumerate() {
            let plans = if nth % 8 == 0 { &PLANS[..] } else { &PLANS[..2] };
            for (plan, named, is_contracted) in plans {
                profile.service_plan = plan.map(Into::into);
                let contracted: Vec<Box<str>> = match named {
                    Some(named) if *is_contracted => vec!["Plan C".into(), (*named).into()],
                    _ => vec!["Plan C".into()],
                };
                for spares_fallback in [false, true] {
                    let (named, contracted) = (*named, &contracted[..]);
                    let scene = Scene { profile: &profile, others, named, contracted, spares_fallback };
                    for action in actions() {
                        // §9.4: a call of `serviceplan` without a plan is refused at the door.
                        if action != Action::ServicePlan || named.is_some() {
                            visit(action, &scene);
                        }
                    }
                }
            }
        }
    }
}

fn decided(action: Action, scene: &Scene<'_>) -> Outcome {
    let intent = Intent { action, service_plan: scene.named, spares_fallback: scene.spares_fallback };
    decide(intent, scene.profile, scene.others, scene.contracted)
}

fn doubt(doubted: bool) -> Doubt {
    if doubted { Doubt::ALL } else { Doubt::NONE }
}

/// The same scene, with the profile in doubt.
fn in_doubt<T>(scene: &Scene<'_>, then: impl FnOnce(&Scene<'_>) -> T) -> T {
    let profile = Profile { in_doubt: Doubt::ALL, ..scene.profile.clone() };
    then(&Scene { profile: &profile, ..*scene })
}

/// What is asked of the profile, in one line, for whoever reads a failure.
fn told(action: Action, scene: &Scene<'_>) -> String {
    let one = |profile: &Profile| {
        let fallback = if profile.fallback { " fallback" } else { "" };
        format!("{:?} {:?} {:?}{fallback}", profile.role, profile.state, profile.status)
    };
    let others: Vec<String> = scene.others.iter().map(one).collect();
    let spares = if scene.spares_fallback { ", sparing the fallback" } else { "" };
    let plan = (scene.profile.service_plan.as_deref(), scene.named, scene.contracted.len() > 1);
    format!("{} of {} beside {others:?}, plans {plan:?}{spares}", action.name(), one(scene.profile))
}

/// Fails with a few of each action's disagreements, and how many there are.
#[derive(Default)]
struct Disagreements(HashMap<&'static str, (usize, Vec<String>)>);

impl Disagreements {
    fn note(&mut self, action: Action, scene: &Scene<'_>, what: impl std::fmt::Display) {
        let (count, shown) = self.0.entry(action.name()).or_default();
        *count += 1;
        if shown.len() < 5 {
            shown.push(format!("{}: {what}", told(action, scene)));
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

// ---- The table --------------------------------------------------------------------------------------------

#[test]
fn every_cell_of_the_table_is_as_the_contract_says() {
    let mut disagreements = Disagreements::default();
    let mut cells = 0_u32;
    every_cell(|action, scene| {
        cells += 1;
        let (decided, expected) = (decided(action, scene), expected(action, scene));
        if decided != expected {
            disagreements.note(action, scene, format!("is {decided:?}, should be {expected:?}"));
        }
    });
    disagreements.none();
    assert!(cells > 250_000, "{cells} cells");
}

#[test]
fn a_profile_in_doubt_is_never_already_so() {
    let mut disagreements = Disagreements::default();
    let mut say_already = BTreeSet::new();
    every_cell(|action, scene| {
        let sure = expected(action, scene);
        let doubted = in_doubt(scene, |scene| decided(action, scene));
        if matches!(sure, Err(Fault::Already(_))) {
            say_already.insert(action.name());
            if matches!(doubted, Err(Fault::Already(_))) {
                disagreements.note(action, scene, format!("is {doubted:?}"));
            }
        } else if doubted != sure {
            disagreements.note(action, scene, format!("doubt makes {doubted:?} of {sure:?}"));
        }
    });
    disagreements.none();
    assert_eq!(say_already, actions().map(Action::name).collect(), "each action has an already");
}

/// The end that confirms what each `Already` says.
fn confirms(already: Already) -> EndState {
    match already {
        Already::Resumed | Already::Active => EndState::InService,
        Already::Suspended => EndState::Suspended,
        Already::Deactivated => EndState::OutOfService,
        Already::Enabled => EndState::Enabled,
        Already::Disabled => EndState::Disabled,
        Already::Downloaded => EndState::Downloaded,
        Already::Deleted => EndState::Deleted,
        Already::Fallback => EndState::Fallback,
        Already::OnPlan => EndState::OnPlan,
    }
}

/// Where it is already so, the record is right when the carrier has made it so. §8 (a) and Q29: whatever
/// suspended a profile, it stays suspended by that.
#[test]
fn a_profile_in_doubt_is_driven_to_where_it_is_already() {
    let mut disagreements = Disagreements::default();
    every_cell(|action, scene| {
        let Err(Fault::Already(already)) = expected(action, scene) else { return };
        let doubted = in_doubt(scene, |scene| decided(action, scene));
        let is_driven = doubted.as_ref().is_ok_and(|decision| {
            decision.drives == confirms(already)
                && decision.to == scene.profile.condition()
                && !decision.takes_plan
                && (decision.others.is_empty() || already == Already::Enabled)
        });
        if !is_driven {
            disagreements.note(action, scene, format!("in doubt is {doubted:?}"));
        }
    });
    disagreements.none();
}

#[test]
fn what_was_done_is_already_so_when_it_is_asked_for_again() {
    let mut disagreements = Disagreements::default();
    every_cell(|action, scene| {
        for doubted in [false, true] {
            let mut profile = Profile { in_doubt: doubt(doubted), ..scene.profile.clone() };
            let first = Scene { profile: &profile, ..*scene };
            let Ok(decision) = decided(action, &first) else { continue };
            let mut others = scene.others.to_vec();
            apply(&decision, scene.named, &mut profile, &mut others.iter_mut().collect::<Vec<_>>());
            let again = decided(action, &Scene { profile: &profile, others: &others, ..*scene });
            if !matches!(again, Err(Fault::Already(_))) {
                disagreements.note(action, scene, format!("led to {decision:?}; again it is {again:?}"));
            }
        }
    });
    disagreements.none();
}

#[test]
fn what_does_not_concern_the_euicc_neither_looks_at_it_nor_touches_it() {
    let mut disagreements = Disagreements::default();
    every_cell(|action, scene| {
        let concerns = concerns_euicc(action);
        let decided_here = decided(action, scene);
        if !concerns && decided_here != decided(action, &Scene { others: &[], ..*scene }) {
            disagreements.note(action, scene, "looks at the others");
        }
        let touches =
            decided_here.is_ok_and(|decision| decision.drives.touches_card() || !decision.others.is_empty());
        if touches && !concerns {
            disagreements.note(action, scene, "touches the card or the others");
        }
    });
    disagreements.none();
}

#[test]
fn the_lead_profile_is_never_deleted() {
    every_cell(|action, scene| {
        for outcome in [decided(action, scene), in_doubt(scene, |scene| decided(action, scene))] {
            let Ok(decision) = outcome else { continue };
            let deletes = decision.drives == EndState::Deleted;
            assert!(!deletes || scene.profile.role == Local, "{}", told(action, scene));
            // Nor does anything that is done to another take a profile from the card.
            for (at, to) in &decision.others {
                let stays = on_card(scene.others[*at].status) == on_card(to.status);
                assert!(stays, "{}: {decision:?}", told(action, scene));
            }
        }
    });
}

#[test]
fn no_decision_leaves_two_profiles_enabled() {
    every_cell(|action, scene| {
        let one_at_most = |profile: &Profile, others: &[Profile]| {
            others.iter().chain([profile]).filter(|profile| in_use(profile.status)).count() <= 1
        };
        if !one_at_most(scene.profile, scene.others) {
            return;
        }
        for doubted in [false, true] {
            let mut profile = Profile { in_doubt: doubt(doubted), ..scene.profile.clone() };
            let Ok(decision) = decided(action, &Scene { profile: &profile, ..*scene }) else { continue };
            let mut others = scene.others.to_vec();
            apply(&decision, scene.named, &mut profile, &mut others.iter_mut().collect::<Vec<_>>());
            assert!(one_at_most(&profile, &others), "{}: {decision:?}", told(action, scene));
        }
    });
}

// ---- Devices as a whole -----------------------------------------------------------------------------------

#[test]
fn a_device_fails_only_when_each_of_its_profiles_did() {
    let part = |result, state| Part { result, state };
    let suspended = || Err(Fault::Already(Already::Suspended));
    let resumed = || Err(Fault::Already(Already::Resumed));
    let invalid = || Err(Fault::DeviceStateInvalid);
    let (alone, with_device) = (Suspended(SuspendedBy::Profile), Suspended(SuspendedBy::Device));
    let outcome = |action, parts: &[Part]| device_outcome(action, parts);

    // Q9: SUCCESS unless every profile failed.
    let mixed = [part(Ok(()), with_device), part(suspended(), alone), part(invalid(), Deactive)];
    assert_eq!(outcome(Action::DeviceSuspend, &mixed), Ok(()));
    // Q10: all already suspended is a failure, and theirs.
    let all = [part(suspended(), alone), part(suspended(), with_device)];
    assert_eq!(outcome(Action::DeviceSuspend, &all), suspended());
    assert_eq!(outcome(Action::DeviceSuspend, &mixed[1..]), Err(Fault::DeviceActionFailed));
    // Q30: what was suspended by itself stays so, and is not counted as failed.
    let spared = [part(invalid(), alone), part(resumed(), Active)];
    assert_eq!(outcome(Action::DeviceResume, &spared), resumed());
    let spared = [part(invalid(), alone), part(Ok(()), Active)];
    assert_eq!(outcome(Action::DeviceResume, &spared), Ok(()));
}

// ---- Walks ------------------------------------------------------------------------------------------------

/// Records what was decided, as done.
fn apply(decision: &Decision, named: Option<&str>, profile: &mut Profile, others: &mut [&mut Profile]) {
    let record = |profile: &mut Profile, to: Condition| {
        (profile.state, profile.status, profile.fallback) = (to.state, to.status, to.fallback);
    };
    record(profile, decision.to);
    profile.in_doubt = profile.in_doubt.without(decision.drives.settles());
    if let Some(named) = named.filter(|_| decision.takes_plan) {
        profile.service_plan = Some(named.into());
    }
    for (at, to) in &decision.others {
        record(others[*at], *to);
    }
}

/// Decides an action on one profile of a card, with the others where they are looked at, and records it.
fn step(card: &mut [Profile], at: usize, intent: Intent<'_>) -> Result<(), Fault> {
    let contracted = ["Plan A".into(), "Plan B".into()];
    let others: Vec<Profile> = match concerns_euicc(intent.action) {
        true => card.iter().enumerate().filter(|(place, _)| *place != at).map(|(_, p)| p.clone()).collect(),
        false => Vec::new(),
    };
    let decision = decide(intent, &card[at], &others, &contracted)?;
    let (before, rest) = card.split_at_mut(at);
    let (profile, after) = rest.split_first_mut().unwrap();
    let mut others: Vec<&mut Profile> = before.iter_mut().chain(after).collect();
    apply(&decision, intent.service_plan, profile, &mut others);
    Ok(())
}

/// What holds on a card whatever was done, when its LEAD profile is on it and one profile is enabled at first.
fn assert_sound(card: &[Profile], how: &dyn Fn() -> String) {
    let enabled = card.iter().filter(|profile| in_use(profile.status)).count();
    assert_eq!(enabled, 1, "§8: one enabled profile per eUICC; {}", how());
    let fallbacks = card.iter().filter(|profile| profile.fallback).count();
    assert!(fallbacks <= 1, "a card falls back to one profile; {}", how());
    for profile in card {
        let stays = profile.role != Lead || on_card(profile.status);
        assert!(stays, "§8: the LEAD profile cannot be deleted; {}", how());
        let stays = !profile.fallback || on_card(profile.status);
        assert!(stays, "what the card falls back to is on it; {}", how());
        let suspended_alone = profile.state == Suspended(SuspendedBy::Profile);
        assert!(!suspended_alone || profile.role == Local, "Q11: only with its device; {}", how());
    }
}

/// A LEAD in use, a boot profile, and LOCAL ones that were never activated.
fn new_card(locals: usize) -> Vec<Profile> {
    let mut card = vec![profile(Lead, Active, Enable), profile(Default, Active, DownloadDisable)];
    card.extend((0..locals).map(|_| profile(Local, PreActive, NotDownloaded)));
    card
}

fn conditions(card: &[Profile]) -> Vec<Condition> {
    card.iter().map(Profile::condition).collect()
}

/// Goes to every card that can be reached, each action asked of each profile, which is in doubt or not.
fn reach_every_card(doubts: &[bool]) {
    let mut open = vec![new_card(1)];
    let mut seen = HashSet::from([conditions(&open[0])]);
    while let Some(card) = open.pop() {
        for action in actions().filter(|action| *action != Action::ServicePlan) {
            for (at, spares_fallback) in (0..card.len()).flat_map(|at| [(at, false), (at, true)]) {
                for doubted in doubts {
                    let intent = Intent { action, service_plan: None, spares_fallback };
                    let mut next = card.clone();
                    next[at].in_doubt = doubt(*doubted);
                    if step(&mut next, at, intent).is_err() {
                        continue;
                    }
                    let how = || {
                        let (from, to) = (conditions(&card), conditions(&next));
                        format!("{intent:?} of {at} in doubt: {doubted}, from {from:#?} to {to:#?}")
                    };
                    assert_sound(&next, &how);
                    if seen.insert(conditions(&next)) {
                        open.push(next);
                    }
                }
            }
        }
    }
    assert!(seen.len() > 500, "{} cards", seen.len());
}

#[test]
fn every_card_that_can_be_reached_is_sound() {
    reach_every_card(&[false]);
}

#[test]
fn every_card_that_can_be_reached_through_doubts_is_sound() {
    reach_every_card(&[false, true]);
}

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Lives of cards with more profiles, at random; with doubts, one operation in eight is given up unsettled.
fn live_long(with_doubts: bool) {
    let actions: Vec<Action> = actions().collect();
    let mut done = HashMap::new();
    for seed in 0..8 {
        let mut random = SplitMix64(seed);
        let mut card = new_card(3);
        for nth in 0..20_000 {
            let (action, at) = (actions[random.below(actions.len())], random.below(card.len()));
            let service_plan = [None, Some("Plan A"), Some("Plan B"), Some("Plan C")][random.below(4)];
            if action == Action::ServicePlan && service_plan.is_none() {
                continue;
            }
            let intent = Intent { action, service_plan, spares_fallback: random.one_in(2) };
            let was = card.clone();
            // A device action goes to each of its profiles.
            let places = if action.targets() == Targets::Devices { 0..card.len() } else { at..at + 1 };
            for at in places {
                if with_doubts && random.one_in(8) {
                    card[at].in_doubt = Doubt::ALL; // given up unsettled: the record stays
                } else if step(&mut card, at, intent).is_ok() {
                    *done.entry(action).or_insert(0) += 1;
                }
            }
            let how = || format!("seed {seed}, step {nth}: {intent:?} of {at}, from {was:#?} to {card:#?}");
            assert_sound(&card, &how);
            for (was, is) in was.iter().zip(&card) {
                assert!(is.service_plan.as_deref() != Some("Plan C"), "not contracted; {}", how());
                let alone = was.state == Suspended(SuspendedBy::Profile);
                let lifted = alone && is.state != was.state && action.targets() == Targets::Devices;
                assert!(!lifted, "§8 (a): suspended before stays suspended; {}", how());
            }
        }
    }
    for action in actions {
        assert!(done.get(&action).is_some_and(|done| *done > 20), "{action:?} is done: {done:?}");
    }
}

#[test]
fn a_long_life_of_a_card_is_sound() {
    live_long(false);
}

#[test]
fn a_long_life_of_a_card_with_doubts_is_sound() {
    live_long(true);
}
