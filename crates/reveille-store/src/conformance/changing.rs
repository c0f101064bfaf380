//! What other actions than a resume write: whole devices, plans, suspensions, doubts of others, limits.

use super::Bench;
use super::house::{
    ALL, House, SUSPENDED, account, at, condition, iccid, recording, requests_of, row, subject,
};
use crate::{
    Change, DeviceTarget, FleetRow, ITSELF, NewRequest, NewSubrequest, PlanChange, ProfileFilter, ProfileKey,
    ProfileTarget, Target, Waiting,
};
use reveille_domain::{
    Action, Already, Condition, Doubt, Fault, Left, LeftAs, Part, Position, ProfileState, ProfileStatus,
    Reported, Role, Subject, SuspendedBy, Terms, Timestamp,
};

const ACTIVE: Condition = condition_of(ProfileState::Active, ProfileStatus::Enable);
const DISABLED: Condition = condition_of(ProfileState::Active, ProfileStatus::Disable);

const fn condition_of(state: ProfileState, status: ProfileStatus) -> Condition {
    Condition { state, status, fallback: false }
}

/// A fleet whose account 1 has profiles 1 and 2 on one eUICC.
async fn pair(bench: &dyn Bench) -> House {
    let house = House::with_fleet(bench, 0).await;
    let first = row(1, 1);
    let second = FleetRow { eid: first.eid.clone(), imei: first.imei.clone(), ..row(1, 2) };
    house.import(vec![first, second, row(2, 3)]).await.expect("a fleet");
    house
}

async fn device(house: &House) -> DeviceTarget {
    let eid = row(1, 1).eid;
    let found = house.resolve_devices(&account(1), vec![eid]).await.expect("read");
    found.into_iter().next().flatten().expect("the device")
}

/// A request of another action for whatever the device has, and the device itself.
async fn whole(house: &House, action: Action) -> NewRequest {
    let found = device(house).await;
    let own =
        NewSubrequest { subject: Subject::Device(row(1, 1).eid), target: Ok(Target::Device(found.device)) };
    let profiles = found.profiles.into_iter().map(|(iccid, target)| NewSubrequest {
        subject: Subject::Profile(iccid),
        target: Ok(Target::Profile(target)),
    });
    let subrequests = profiles.chain([own]).collect();
    NewRequest { action, service_plan: None, subrequests, ..house.request_for(1, []).await }
}

fn changed(profile: ProfileKey, from: Condition, to: Condition) -> Change {
    Change::To { profile, from, to, plan: None, settles: Doubt::NONE }
}

fn target(waiting: &Waiting) -> ProfileTarget {
    waiting.target.as_ref().ok().and_then(Target::profile).expect("a profile")
}

fn left(to: Condition) -> Result<Left, Fault> {
    Ok(Left::Profile(LeftAs { state: to.state, status: to.status, role: Role::Lead }))
}

/// Records a success that changes those profiles.
async fn changes(house: &House, waiting: &Waiting, seconds: i64, changes: Vec<Change>) {
    let recording = recording(waiting, at(seconds), left(ACTIVE), changes);
    house.record(vec![recording]).await.expect("recorded");
}

/// A device is found with what is on it, by its own account alone.
pub async fn a_device_is_found_with_what_is_on_it(bench: &dyn Bench) {
    let house = pair(bench).await;
    let found = device(&house).await;
    let iccids: Vec<_> = found.profiles.iter().map(|(iccid, _)| iccid.clone()).collect();
    assert_eq!((found.imei, iccids), (row(1, 1).imei, vec![iccid(1, 1), iccid(1, 2)]));
    let foreign = house.resolve_devices(&account(2), vec![row(1, 1).eid, row(2, 3).eid]).await.expect("read");
    assert_eq!((foreign[0].is_none(), foreign[1].is_some()), (true, true));
    let on_them = house.on_devices(vec![found.device, crate::DeviceKey(999)]).await.expect("read");
    let keys: Vec<_> = on_them[0].iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, found.profiles.iter().map(|(_, target)| target.profile).collect::<Vec<_>>());
    assert_eq!((&on_them[0][1].1.iccid, on_them[1].len()), (&iccid(1, 2), 0));
}

/// A device's own part waits behind its profiles, and knows how they ended; also after a restart.
pub async fn a_devices_own_part_knows_how_its_profiles_ended(bench: &dyn Bench) {
    let house = pair(bench).await;
    let other = house.resuming(1, [1]).await;
    house.end(&other, at(11)).await;
    let head = house.accepted(whole(&house, Action::DeviceSuspend).await).await;
    let house = house.reopened().await;
    let waits = house.waits(&head).await;
    assert!(matches!(waits[2].target, Ok(Target::Device(_))), "{:?}", waits[2]);
    assert_eq!(waits[2].subject, Subject::Device(row(1, 1).eid));
    let suspended = condition(ProfileState::Suspended(SuspendedBy::Device));
    changes(&house, &waits[0], 20, vec![changed(target(&waits[0]).profile, ACTIVE, suspended)]).await;
    let early = house.parts(waits[2].position()).await.expect("read");
    assert_eq!(early, None, "one has not ended");
    let already = Err(Fault::Already(Already::Suspended));
    house.record(vec![recording(&waits[1], at(21), already, Vec::new())]).await.expect("recorded");
    let parts = house.parts(waits[2].position()).await.expect("read");
    let expected = [
        Part { result: Ok(()), state: suspended.state },
        Part { result: Err(Fault::Already(Already::Suspended)), state: SUSPENDED },
    ];
    assert_eq!(parts.as_deref(), Some(&expected[..]));
    let own = recording(&waits[2], at(22), Ok(Left::Device(suspended.state)), Vec::new());
    house.record(vec![own]).await.expect("recorded");
    let told = house.told(&head, 3).await.0.callback.told;
    assert_eq!((told.subject, told.result), (waits[2].subject.clone(), Ok(Left::Device(suspended.state))));
    assert!(house.view(head.id).await.ended_at.is_some());
}

/// One outcome may change several profiles, each with a history of its own.
pub async fn one_outcome_may_change_several_profiles(bench: &dyn Bench) {
    let house = pair(bench).await;
    let waits = house.waits_of(house.resuming(1, [1]).await).await;
    let keys: Vec<_> = device(&house).await.profiles.iter().map(|(_, target)| target.profile).collect();
    let fallback = Condition { fallback: true, ..DISABLED };
    let both = vec![
        changed(keys[0], condition(SUSPENDED), ACTIVE),
        changed(keys[1], condition(SUSPENDED), fallback),
    ];
    changes(&house, &waits[0], 20, both).await;
    let profile = async |number| house.profile(&iccid(1, number)).await.expect("read").expect("it").profile;
    assert_eq!((profile(1).await.condition(), profile(2).await.condition()), (ACTIVE, fallback));
    for (number, to) in [(1, ACTIVE), (2, fallback)] {
        let history = house.history(&iccid(1, number), ALL).await.expect("read");
        assert_eq!((history.len(), history[0].from, history[0].to), (1, condition(SUSPENDED), to));
    }
}

/// A history says the status and the fallback at each change, also where the change was of something else.
pub async fn history_says_how_a_profile_was_at_each_change(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let path = [
        condition(SUSPENDED),
        ACTIVE,
        DISABLED,
        condition_of(SUSPENDED, ProfileStatus::Disable),
        Condition { fallback: true, ..DISABLED },
        Condition { fallback: true, ..ACTIVE },
    ];
    for (seconds, pair) in (20..).zip(path.windows(2)) {
        let waits = house.waits_of(house.resuming(1, [1]).await).await;
        changes(&house, &waits[0], seconds, vec![changed(target(&waits[0]).profile, pair[0], pair[1])]).await;
    }
    let history = house.history(&iccid(1, 1), ALL).await.expect("read");
    let said: Vec<_> = history.iter().map(|change| (change.from, change.to)).collect();
    let expected: Vec<_> = path.windows(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(said, expected);
    let latest = house.history(&iccid(1, 1), 2).await.expect("read");
    assert_eq!(latest, history[3..]);
}

/// A change of plan is in the record and in the history; without one the plan stays.
pub async fn a_plan_is_changed_and_kept(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let plan = PlanChange { from: None, to: "Plan B".into() };
    let waits = house.waits_of(house.resuming(1, [1]).await).await;
    let profile = target(&waits[0]).profile;
    let (from, settles) = (condition(SUSPENDED), Doubt::NONE);
    let to = Change::To { profile, from, to: ACTIVE, plan: Some(plan.clone()), settles };
    changes(&house, &waits[0], 20, vec![to]).await;
    let waits = house.waits_of(house.resuming(1, [1]).await).await;
    changes(&house, &waits[0], 21, vec![changed(profile, ACTIVE, DISABLED)]).await;
    let kept = house.profile(&iccid(1, 1)).await.expect("read").expect("it").profile;
    assert_eq!(kept.service_plan.as_deref(), Some("Plan B"));
    let history = house.history(&iccid(1, 1), ALL).await.expect("read");
    assert_eq!(history.into_iter().map(|change| change.plan).collect::<Vec<_>>(), [Some(plan), None]);
}

/// A suspension is known from when it was recorded until it ends; an imported one is not.
pub async fn a_suspension_is_known_while_it_lasts(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let suspended = async || house.suspended(Timestamp(i64::MAX), None, ALL).await.expect("read");
    assert_eq!(suspended().await, [], "they were imported so");
    let change = async |seconds, to: Condition, from: Condition| {
        let waits = house.waits_of(house.resuming(1, [2]).await).await;
        changes(&house, &waits[0], seconds, vec![changed(target(&waits[0]).profile, from, to)]).await;
    };
    let by_device = condition(ProfileState::Suspended(SuspendedBy::Device));
    change(20, ACTIVE, condition(SUSPENDED)).await;
    change(30, condition(SUSPENDED), ACTIVE).await;
    change(40, by_device, condition(SUSPENDED)).await;
    let waits = house.waits_of(house.resuming(1, [2]).await).await;
    changes(&house, &waits[0], 50, vec![Change::Noticed { profile: target(&waits[0]).profile }]).await;
    let [one] = &suspended().await[..] else { panic!("one suspension") };
    assert_eq!((&one.account, &one.iccid, one.since, one.noticed), (&account(1), &iccid(1, 2), at(30), true));
    assert_eq!(house.suspended(at(30), None, ALL).await.expect("read"), [], "since before");
    assert_eq!(house.suspended(at(31), Some(iccid(1, 2)), ALL).await.expect("read"), [], "behind");
    let keys = vec![target(&waits[0]).profile, crate::ProfileKey(999_999)];
    let since = async || house.suspended_since(keys.clone()).await.expect("read");
    assert_eq!(since().await, [Some(at(30)), None]);
    change(60, ACTIVE, by_device).await;
    assert_eq!(suspended().await, []);
    assert_eq!(since().await, [None, None]);
    change(70, condition(SUSPENDED), ACTIVE).await;
    assert!(!suspended().await[0].noticed, "it is another one");
}

/// Changes are counted by kind and time; what the server did by itself is not.
pub async fn changes_are_counted(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let change =
        async |seconds, action, user: &str, to: Condition, from: Condition, plan: Option<PlanChange>| {
            let request = NewRequest { action, user: user.into(), ..house.request_for(1, [1]).await };
            let waits = house.waits_of(house.accepted(request).await).await;
            let profile = target(&waits[0]).profile;
            changes(
                &house,
                &waits[0],
                seconds,
                vec![Change::To { profile, from, to, plan, settles: Doubt::NONE }],
            )
            .await;
            profile
        };
    let suspended = condition(SUSPENDED);
    let plan = |to: &str| Some(PlanChange { from: None, to: to.into() });
    change(20, Action::ProfileResume, "demo", ACTIVE, suspended, None).await;
    change(30, Action::ProfileSuspend, "demo", suspended, ACTIVE, None).await;
    change(40, Action::ProfileResume, ITSELF, ACTIVE, suspended, None).await;
    change(50, Action::Enable, "demo", DISABLED, ACTIVE, None).await;
    change(60, Action::ServicePlan, "demo", DISABLED, DISABLED, plan("A")).await;
    let profile = change(70, Action::Activate, "demo", ACTIVE, DISABLED, plan("B")).await;
    let counts = async |actions, plans| {
        let counted = house.change_counts(vec![profile, ProfileKey(999)], at(actions), at(plans)).await;
        let counted = counted.expect("counted");
        assert_eq!((counted[1].actions, counted[1].plans), (0, 0));
        (counted[0].actions, counted[0].plans)
    };
    assert_eq!(counts(0, 0).await, (2, 1));
    assert_eq!(counts(25, 61).await, (1, 0));
}

/// What a request says besides is kept with it.
pub async fn the_terms_of_a_request_are_kept(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let terms = Terms {
        mdn_zip_code: Some("98801".into()),
        smsr_oid: Some("1.3.6".into()),
        carrier_name: Some("Verizon Wireless".into()),
        reason_code: Some("FF".into()),
        etf_waiver: true,
        spares_fallback: true,
        reported: Some(Reported {
            state: Some(ProfileState::Deactive),
            status: Some(ProfileStatus::Disable),
        }),
        resumes_at: Some(at(99)),
    };
    let request = NewRequest { terms: terms.clone(), ..house.request_for(1, [1]).await };
    let head = house.accepted(request).await;
    assert_eq!(head.terms, terms);
    assert_eq!(house.waits(&head).await[0].request.terms, terms);
    assert_eq!(house.requests(requests_of(&account(1))).await.expect("read")[0].head.terms, terms);
}

/// Profiles are found by whatever is known of them.
pub async fn profiles_are_found_by_what_is_known_of_them(bench: &dyn Bench) {
    use crate::Identifier;
    let house = pair(bench).await;
    let by = |identifiers| ProfileFilter { identifiers, ..ProfileFilter::default() };
    let one = row(1, 1);
    for (filter, expected) in [
        (by(vec![Identifier::Eid(one.eid.clone())]), vec![subject(1, 1), subject(1, 2)]),
        (by(vec![Identifier::Imei(one.imei.clone().expect("an IMEI"))]), vec![subject(1, 1), subject(1, 2)]),
        (by(vec![Identifier::Msisdn(one.msisdn.clone().expect("a number"))]), vec![subject(1, 1)]),
        (by(vec![Identifier::Iccid(iccid(1, 2)), Identifier::Iccid(iccid(2, 3))]), vec![subject(1, 2)]),
        (ProfileFilter { role: Some(Role::Local), ..ProfileFilter::default() }, vec![subject(1, 2)]),
        (ProfileFilter { statuses: vec![ProfileStatus::Disable], ..ProfileFilter::default() }, vec![]),
        (ProfileFilter { in_doubt: Some(true), ..ProfileFilter::default() }, vec![]),
        (ProfileFilter { service_plan: Some("none".into()), ..ProfileFilter::default() }, vec![]),
        (
            ProfileFilter { states: vec![SUSPENDED], ..ProfileFilter::default() },
            vec![subject(1, 1), subject(1, 2)],
        ),
    ] {
        let filter = ProfileFilter { account: Some(account(1)), limit: ALL, ..filter };
        let found = house.fleet(filter.clone()).await.expect("read");
        let named: Vec<_> = found.into_iter().map(|owned| Subject::Profile(owned.profile.iccid)).collect();
        assert_eq!(named, expected, "{filter:?}");
        let keys = house.matching(ProfileFilter { limit: 0, ..filter.clone() }).await.expect("read");
        assert_eq!(keys.len(), expected.len(), "{filter:?}");
    }
}

/// Everything that was asked of a profile is in its timeline: what changed it, what did not, what waits, and
/// what was asked of another on its eUICC and changed it.
pub async fn a_timeline_has_everything_that_was_asked(bench: &dyn Bench) {
    let house = pair(bench).await;
    let keys: Vec<_> = device(&house).await.profiles.iter().map(|(_, target)| target.profile).collect();
    let first = house.resuming(1, [1]).await;
    house.end(&first, at(20)).await;
    let refused = house.resuming(1, [1]).await;
    let waits = house.waits(&refused).await;
    let already = Err(Fault::Already(Already::Resumed));
    house.record(vec![recording(&waits[0], at(21), already, Vec::new())]).await.expect("recorded");
    let sibling = house.resuming(1, [2]).await;
    let waits = house.waits(&sibling).await;
    let both = vec![changed(keys[1], condition(SUSPENDED), ACTIVE), changed(keys[0], ACTIVE, DISABLED)];
    changes(&house, &waits[0], 22, both).await;
    let waiting = house.resuming(1, [1]).await;
    let whole = house.timeline(&iccid(1, 1), Position { sequence: 0, number: 0 }, ALL).await.expect("read");
    let ids: Vec<_> = whole.iter().map(|entry| entry.request.as_ref().expect("kept").id).collect();
    assert_eq!(ids, [first.id, refused.id, sibling.id, waiting.id]);
    let has = |at: usize| (whole[at].change.is_some(), whole[at].fault.is_some(), whole[at].callbacks.len());
    assert_eq!(
        [has(0), has(1), has(2), has(3)],
        [(true, false, 1), (false, true, 1), (true, false, 0), (false, false, 0)]
    );
    let page = house.timeline(&iccid(1, 1), whole[0].position, 2).await.expect("read");
    let paged: Vec<_> = page.iter().map(|entry| entry.position).collect();
    assert_eq!(paged, [whole[1].position, whole[2].position]);
    house.deliver_all(&refused, at(30)).await;
    while house.forget(at(99), at(0), ALL).await.expect("forgotten") > 0 {}
    let after = house.timeline(&iccid(1, 1), Position { sequence: 0, number: 0 }, ALL).await.expect("read");
    assert_eq!(after.len(), 3, "what changed nothing goes with its request");
}
