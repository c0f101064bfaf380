//! Random fleets and thousands of random requests, in virtual time, against a small model of what the contract
//! says: after every few requests the record is what the model expects, and what must never be is not.

use crate::app::{ACCOUNT, App, action_body, action_path};
use crate::fleet;
use crate::spec::{Cell, SUSPENDED, WITH_DEVICE, expected};
use reveille_domain::{
    AccountName, Action, Condition, Doubt, EndState, Fault, Network, Profile, ProfileState, ProfileStatus,
    Role, Targets,
};
use reveille_store::{ProfileFilter, SubrequestFilter};
use serde_json::json;
use std::collections::BTreeMap;

const PLANS: [(Network, &str); 3] = [
    (Network::VerizonUs, "Verizon IoT 5MB"),
    (Network::Global, "Global IoT 5MB"),
    (Network::Global, "Global IoT 50MB"),
];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }
}

/// The fleet as the model has it, by eUICC.
struct Model {
    euiccs: Vec<Vec<Profile>>,
}

/// Whether a profile gives its device access.
fn serves(profile: &Profile) -> bool {
    profile.state == ProfileState::Active && is_enabled(profile)
}

fn is_enabled(profile: &Profile) -> bool {
    matches!(profile.status, ProfileStatus::Enable | ProfileStatus::DownloadEnable)
}

fn is_on_card(profile: &Profile) -> bool {
    is_enabled(profile) || matches!(profile.status, ProfileStatus::Disable | ProfileStatus::DownloadDisable)
}

impl Model {
    /// Some eUICCs, each with a LEAD, some Global profiles and perhaps a boot profile, one of them enabled.
    fn random(dice: &mut Dice) -> Self {
        let mut number = 0;
        let mut euiccs = Vec::new();
        for euicc in 1..=6 {
            let mut roles = vec![Role::Lead];
            roles.extend(vec![Role::Local; dice.roll(4)]);
            roles.extend((dice.roll(3) == 0).then_some(Role::Default));
            let mut profiles: Vec<Profile> = Vec::new();
            for role in roles {
                number += 1;
                profiles.push(random_profile(dice, euicc, number, role));
            }
            let enabled = dice.roll(profiles.len());
            profiles[enabled].status = ProfileStatus::Enable;
            euiccs.push(profiles);
        }
        Self { euiccs }
    }

    fn csv(&self) -> String {
        let mut lines = String::new();
        for (euicc, profiles) in (1..).zip(&self.euiccs) {
            for profile in profiles {
                let (state, by) = match profile.state {
                    ProfileState::PreActive => ("pre_active", ""),
                    ProfileState::Active => ("active", ""),
                    SUSPENDED => ("suspended", " by=profile"),
                    WITH_DEVICE => ("suspended", " by=device"),
                    ProfileState::Deactive => ("deactive", ""),
                };
                let plan = profile.service_plan.as_deref().unwrap_or_default().replace(' ', "_");
                lines.push_str(&format!(
                    "{} {} {state} euicc={euicc} role={} status={}{by} plan={plan}\n",
                    profile.iccid.as_str(),
                    profile.network.name(),
                    reveille_wire::spelling::role(profile.role),
                    reveille_wire::spelling::status(profile.status),
                ));
            }
        }
        lines
    }

    /// Whether an action on the card of that eUICC would have to wait for its device.
    fn is_out_of_reach(&self, euicc: usize, profile: usize) -> bool {
        let enabled = self.euiccs[euicc].iter().position(is_enabled);
        enabled.is_some_and(|at| at != profile && !serves(&self.euiccs[euicc][at]))
    }

    /// Does an action to one profile; what its subrequest comes to.
    fn act(&mut self, action: Action, plan: Option<&str>, euicc: usize, at: usize) -> Result<(), Fault> {
        let profiles = &mut self.euiccs[euicc];
        let contracted =
            |network: Network| PLANS.iter().any(|(on, name)| *on == network && Some(*name) == plan);
        if let Some(plan) = plan.filter(|_| !contracted(profiles[at].network)) {
            return Err(Fault::ServicePlanNotFound(plan.into()));
        }
        let lead_in_service = profiles.iter().any(|other| other.role == Role::Lead && serves(other));
        let same_plan = profiles[at].service_plan.as_deref() == plan;
        let cell =
            Cell { action, profile: &profiles[at], lead_in_service, spares_fallback: false, same_plan };
        let (drives, state, status) = expected(&cell)?;
        (profiles[at].state, profiles[at].status) = (state, status);
        if matches!(action, Action::Activate | Action::ActivateEnable | Action::ServicePlan) && plan.is_some()
        {
            profiles[at].service_plan = plan.map(Into::into);
        }
        match drives {
            EndState::Enabled | EndState::DownloadedAndEnabled | EndState::InServiceAndEnabled => {
                for (other, profile) in profiles.iter_mut().enumerate() {
                    if other != at && is_enabled(profile) {
                        profile.status = ProfileStatus::Disable;
                    }
                }
            }
            EndState::Disabled => {
                let others = |is: &dyn Fn(&Profile) -> bool| {
                    profiles.iter().enumerate().position(|(other, p)| other != at && is_on_card(p) && is(p))
                };
                let back = others(&|p| p.fallback)
                    .or_else(|| others(&|p| p.role == Role::Default))
                    .or_else(|| others(&|p| p.role == Role::Lead));
                if let Some(back) = back {
                    profiles[back].status = ProfileStatus::Enable;
                }
            }
            EndState::Fallback => {
                profiles.iter_mut().enumerate().for_each(|(other, p)| p.fallback = other == at);
            }
            _ => {}
        }
        Ok(())
    }

    fn never(&self) {
        for profiles in &self.euiccs {
            assert!(profiles.iter().filter(|profile| is_enabled(profile)).count() <= 1, "{profiles:?}");
            assert!(is_on_card(&profiles[0]), "a LEAD is never deleted: {profiles:?}");
        }
    }
}

fn random_profile(dice: &mut Dice, euicc: usize, number: usize, role: Role) -> Profile {
    let network = if role == Role::Lead { Network::VerizonUs } else { Network::Global };
    let states =
        [ProfileState::Active, ProfileState::PreActive, SUSPENDED, WITH_DEVICE, ProfileState::Deactive];
    let off = [
        ProfileStatus::Disable,
        ProfileStatus::DownloadDisable,
        ProfileStatus::NotDownloaded,
        ProfileStatus::NotDownloaded,
        ProfileStatus::Delete,
    ];
    Profile {
        iccid: fleet::iccid(number).parse().unwrap(),
        eid: fleet::eid(euicc).parse().unwrap(),
        imei: None,
        msisdn: None,
        imsi: None,
        network,
        role,
        state: dice.one_of(&states),
        status: if role == Role::Local { dice.one_of(&off) } else { ProfileStatus::Disable },
        fallback: false,
        service_plan: (dice.roll(2) == 0)
            .then(|| PLANS.iter().find(|(on, _)| *on == network).unwrap().1.into()),
        in_doubt: Doubt::NONE,
    }
}

/// One random request, and what the model expects of each of its subrequests.
struct Asked {
    action: Action,
    targets: String,
    plan: Option<&'static str>,
    expected: Vec<Result<(), Fault>>,
}

fn random_request(dice: &mut Dice, model: &mut Model) -> Option<Asked> {
    let asked = Action::ALL[..15].to_vec();
    let action = dice.one_of(&asked);
    let plan = match action {
        Action::ServicePlan => Some(dice.one_of(&PLANS).1),
        _ if action.targets() == Targets::Profiles && dice.roll(8) == 0 => Some(dice.one_of(&PLANS).1),
        _ => None,
    };
    let mut expected = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    for _ in 0..=dice.roll(3) {
        let euicc = dice.roll(model.euiccs.len());
        if action.targets() == Targets::Devices {
            let eid = fleet::eid(euicc + 1);
            if !targets.contains(&eid) {
                targets.push(eid);
                expected.extend(on_device(model, action, euicc));
            }
            continue;
        }
        let at = dice.roll(model.euiccs[euicc].len());
        let iccid = model.euiccs[euicc][at].iccid.as_str().to_owned();
        let touches = action.warns() || action == Action::SetFallback;
        if targets.contains(&iccid) || (touches && model.is_out_of_reach(euicc, at)) {
            continue;
        }
        targets.push(iccid);
        expected.push(model.act(action, plan, euicc, at));
    }
    if dice.roll(10) == 0 && action.targets() == Targets::Profiles {
        targets.push(fleet::iccid(9_999));
        expected.push(Err(Fault::DeviceNotFound));
    }
    (!targets.is_empty()).then(|| Asked { action, targets: targets.join(" "), plan, expected })
}

/// Each profile of a device, then the device itself: §6.4, and §12 Q9, Q10, Q30.
fn on_device(model: &mut Model, action: Action, euicc: usize) -> Vec<Result<(), Fault>> {
    let count = model.euiccs[euicc].len();
    let mut outcomes: Vec<_> = (0..count).map(|at| model.act(action, None, euicc, at)).collect();
    let spared = |at: usize| action == Action::DeviceResume && model.euiccs[euicc][at].state == SUSPENDED;
    let counted: Vec<_> = (0..count).filter(|at| !spared(*at)).map(|at| outcomes[at].clone()).collect();
    let own = match counted.first() {
        None => Ok(()),
        Some(_) if counted.iter().any(Result::is_ok) => Ok(()),
        Some(first) if counted.iter().all(|outcome| outcome == first) => first.clone(),
        Some(_) => Err(Fault::DeviceActionFailed),
    };
    outcomes.push(own);
    outcomes
}

async fn outcomes(app: &App, request: &str) -> Vec<Result<(), Fault>> {
    let request = request.parse().unwrap();
    let all = SubrequestFilter { request, state: None, fault: None, after: 0, limit: 1_000 };
    let views = app.store().subrequests(all).await.unwrap();
    assert!(views.iter().all(|view| view.ended_at.is_some()), "{views:?}");
    views.into_iter().map(|view| view.fault.map_or(Ok(()), Err)).collect()
}

async fn recorded(app: &App) -> BTreeMap<String, Profile> {
    let account: Option<AccountName> = Some(ACCOUNT.parse().unwrap());
    let filter = ProfileFilter { account, limit: 1_000, ..ProfileFilter::default() };
    let fleet = app.store().fleet(filter).await.unwrap();
    fleet.into_iter().map(|owned| (owned.profile.iccid.as_str().to_owned(), owned.profile)).collect()
}

/// A profile's history, from what was imported to what is recorded now, without a gap.
async fn replays(app: &App, profile: &Profile, imported: Condition) {
    let history = app.store().history(&profile.iccid, 100_000).await.unwrap();
    let mut now = imported;
    for change in history {
        assert_eq!(change.from, now, "{:?} at {:?}", profile.iccid, change.at);
        now = change.to;
    }
    assert_eq!(now, profile.condition(), "{:?}", profile.iccid);
}

async fn walk(seed: u64, requests: usize) {
    let mut dice = Dice(seed);
    let mut model = Model::random(&mut dice);
    let app = App::with_fleet(&model.csv()).await;
    let imported = recorded(&app).await;
    let mut sent = 0;
    let mut succeeded = 0;
    while sent < requests {
        let mut batch = Vec::new();
        for _ in 0..=dice.roll(4) {
            let Some(asked) = random_request(&mut dice, &mut model) else { continue };
            let more = asked.plan.map_or(json!({}), |plan| json!({"servicePlan": plan}));
            let answer = app.post(&action_path(asked.action.name()), action_body(&asked.targets, more)).await;
            batch.push((asked, answer["requestId"].as_str().unwrap().to_owned()));
            model.never();
        }
        app.settle().await;
        sent += batch.len();
        for (Asked { action, targets, expected, .. }, request) in batch {
            succeeded += expected.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(outcomes(&app, &request).await, expected, "{} {targets}, seed {seed}", action.name());
        }
        let recorded = recorded(&app).await;
        for profile in model.euiccs.iter().flatten() {
            assert_eq!(&recorded[profile.iccid.as_str()], profile, "seed {seed}, after {sent} requests");
        }
    }
    for (iccid, profile) in recorded(&app).await {
        replays(&app, &profile, imported[&iccid].condition()).await;
    }
    assert!(succeeded > requests / 4, "{succeeded} of {requests} came to something");
}

#[tokio::test]
async fn a_thousand_random_requests_come_to_what_the_model_says() {
    walk(1, 1_000).await;
}

#[tokio::test]
async fn many_small_fleets_come_to_what_the_model_says() {
    for seed in 100..120 {
        walk(seed, 100).await;
    }
}
