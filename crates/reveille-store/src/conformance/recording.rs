//! An outcome: once, with its profile's state, history and callback, and counted.

use super::Bench;
use super::house::{
    ALL, House, SUSPENDED, account, at, condition, failed, iccid, iccids, outcome, subject, subrequests_of,
    succeeded, told,
};
use crate::{Backlog, CallbackState, Change, Recorded, Recording, SubrequestState, Target, Waiting};
use reveille_domain::{Doubt, Fault, Left, LeftAs, Profile, ProfileState, ProfileStatus, Role};

/// An outcome comes with its profile's state, its history entry and its callback, in one go.
pub async fn an_outcome_comes_with_state_history_and_callback(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resuming(1, [1, 2]).await;
    let waits = house.waits(&head).await;
    let recorded = house.record(vec![succeeded(&waits[1], at(20))]).await.expect("recorded");
    assert_eq!(recorded.each, [Recorded::Now]);
    let profile = house.profile(&iccid(1, 2)).await.expect("read").expect("a profile").profile;
    assert_eq!((profile.state, profile.in_doubt), (ProfileState::Active, Doubt::NONE));
    let history = house.history(&iccid(1, 2), ALL).await.expect("read");
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].at, history[0].position.number, history[0].in_doubt), (at(20), 2, false));
    assert_eq!((history[0].from, history[0].to), (condition(SUSPENDED), condition(ProfileState::Active)));
    assert_eq!(history[0].request, Some((head.id, head.action)));
    let (view, attempts) = house.told(&head, 2).await;
    let left = LeftAs { state: ProfileState::Active, status: ProfileStatus::Enable, role: Role::Lead };
    assert_eq!(view.callback.told, told(&subject(1, 2), Ok(Left::Profile(left))));
    assert_eq!((view.callback.series, view.callback.attempts, attempts.len()), (1, 0, 0));
    assert_eq!((view.state, view.recorded_at), (CallbackState::Waiting, at(20)));
    assert_eq!(view.next_attempt_at, Some(at(20)), "it is due at once");
    assert!(house.callback(outcome(&head, 1)).await.expect("read").is_none(), "its neighbour has no outcome");
    let untouched = house.profile(&iccid(1, 1)).await.expect("read").expect("a profile").profile;
    assert_eq!(untouched.state, SUSPENDED);
}

/// A failed outcome is kept with its fault, its detail and what it tells, and changes no profile.
pub async fn a_fault_is_kept_with_its_detail(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let head = house.resuming(1, [1, 2, 99]).await;
    let waits = house.waits(&head).await;
    let faults =
        [Fault::CarrierRejected("barred by operator".into()), Fault::Unsettled, Fault::DeviceNotFound];
    let recordings: Vec<_> =
        waits.iter().zip(&faults).map(|(waits, fault)| failed(waits, at(20), fault.clone())).collect();
    house.record(recordings).await.expect("recorded");
    let parts = house.subrequests(subrequests_of(head.id)).await.expect("read");
    for (part, fault) in parts.iter().zip(&faults) {
        assert_eq!((part.state, part.fault.as_ref()), (SubrequestState::Failed, Some(fault)));
        assert_eq!(part.ended_at, Some(at(20)));
        let (view, _) = house.told(&head, part.number).await;
        assert_eq!(view.callback.told, told(&part.subject, Err(fault.clone())));
    }
    assert!(house.history(&iccid(1, 1), ALL).await.expect("read").is_empty());
}

/// What is told may lack what the inventory did not know.
pub async fn what_is_told_may_be_sparse(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resuming(1, [99]).await;
    let mut recording = failed(&house.waits(&head).await[0], at(20), Fault::DeviceNotFound);
    (recording.told.eid, recording.told.imei, recording.told.msisdn) = (None, None, None);
    house.record(vec![recording.clone()]).await.expect("recorded");
    assert_eq!(house.told(&head, 1).await.0.callback.told, recording.told);
}

/// Every way in which a subrequest can leave its profile is read back as it was recorded.
pub async fn every_state_and_status_is_kept(bench: &dyn Bench) {
    use reveille_domain::SuspendedBy::{Device, Profile};
    let house = House::with_fleet(bench, 1).await;
    let states = [
        ProfileState::PreActive,
        ProfileState::Active,
        ProfileState::Suspended(Profile),
        ProfileState::Suspended(Device),
        ProfileState::Deactive,
    ];
    let statuses = [
        ProfileStatus::NotDownloaded,
        ProfileStatus::DownloadDisable,
        ProfileStatus::DownloadEnable,
        ProfileStatus::Enable,
        ProfileStatus::Disable,
        ProfileStatus::Delete,
        ProfileStatus::Unknown,
    ];
    let roles = [Role::Lead, Role::Local, Role::Default];
    let ways = statuses.iter().zip(states.iter().cycle()).zip(roles.iter().cycle());
    for ((status, state), role) in ways {
        let head = house.resuming(1, [1]).await;
        let mut recording = succeeded(&house.waits(&head).await[0], at(20));
        let left = LeftAs { state: *state, status: *status, role: *role };
        recording.told.result = Ok(Left::Profile(left));
        let Some(Change::To { to, .. }) = recording.changes.first_mut() else {
            panic!("it changes its profile")
        };
        (to.state, to.status) = (*state, *status);
        house.record(vec![recording]).await.expect("recorded");
        assert_eq!(house.told(&head, 1).await.0.callback.told.result, Ok(Left::Profile(left)));
        let profile = house.profile(&iccid(1, 1)).await.expect("read").expect("a profile").profile;
        assert_eq!((profile.state, profile.status), (*state, *status));
    }
}

/// A subrequest that has ended keeps its first outcome; a second one changes nothing at all.
pub async fn a_second_outcome_changes_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resuming(1, [1, 2]).await;
    let waits = house.waits(&head).await;
    house.record(vec![succeeded(&waits[0], at(20))]).await.expect("recorded");
    let before = house.everything().await;
    let doubted = in_doubt(&waits[0], Doubt::SERVICE);
    for second in [failed(&waits[0], at(30), Fault::Unsettled), succeeded(&waits[0], at(31)), doubted] {
        assert_eq!(house.record(vec![second]).await.expect("answered").each, [Recorded::Before]);
        assert_eq!(house.everything().await, before);
    }
}

/// In one batch, too, the first outcome counts, and the others are recorded beside it.
pub async fn the_first_outcome_of_a_batch_counts(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let head = house.resuming(1, [1, 2, 3]).await;
    let waits = house.waits(&head).await;
    house.record(vec![succeeded(&waits[2], at(20))]).await.expect("recorded");
    let batch = vec![
        failed(&waits[0], at(21), Fault::Unsettled),
        succeeded(&waits[0], at(22)),
        failed(&waits[2], at(23), Fault::Unsettled),
        succeeded(&waits[1], at(24)),
    ];
    let recorded = house.record(batch).await.expect("recorded");
    assert_eq!(recorded.each, [Recorded::Now, Recorded::Before, Recorded::Before, Recorded::Now]);
    let view = house.view(head.id).await;
    assert_eq!((view.succeeded, view.failed, view.ended_at), (2, 1, Some(at(24))));
    assert_eq!(view.faults, [("unsettled".into(), 1)]);
    assert_eq!(house.backlog().await.expect("read"), Backlog { waiting: 0, untold: 3 });
}

/// What was never accepted cannot end.
pub async fn an_unknown_subrequest_cannot_end(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resuming(1, [1]).await;
    let before = house.everything().await;
    let waits = Waiting { number: 2, ..house.waits(&head).await[0].clone() };
    assert_eq!(
        house.record(vec![succeeded(&waits, at(20))]).await.expect("answered").each,
        [Recorded::Before]
    );
    assert_eq!(house.everything().await, before);
}

/// A batch may hold outcomes of several requests and accounts, or none.
pub async fn a_batch_of_outcomes_may_span_requests(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    assert!(house.record(Vec::new()).await.expect("nothing is recorded").each.is_empty());
    let (one, two) = (house.resuming(1, [1]).await, house.resuming(2, [2]).await);
    let batch = [house.waits(&one).await, house.waits(&two).await].concat();
    let batch: Vec<_> = batch.iter().map(|waits| succeeded(waits, at(20))).collect();
    assert_eq!(house.record(batch).await.expect("recorded").each, [Recorded::Now, Recorded::Now]);
    for head in [one, two] {
        assert_eq!(house.view(head.id).await.ended_at, Some(at(20)));
    }
}

/// A request's counts follow its outcomes, by fault; it ends with the last of them and not before.
pub async fn a_request_ends_exactly_with_its_last_subrequest(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    let head = house.resuming(1, [1, 2, 3, 4, 99]).await;
    let waits = house.waits(&head).await;
    let batches = [
        (vec![succeeded(&waits[4], at(20))], (1, 0), None),
        (vec![failed(&waits[0], at(21), Fault::Unsettled)], (1, 1), None),
        (vec![failed(&waits[1], at(22), Fault::Cancelled), succeeded(&waits[2], at(23))], (2, 2), None),
        (vec![failed(&waits[3], at(24), Fault::Unsettled)], (2, 3), Some(at(24))),
    ];
    for (batch, (succeeded, failed), ended_at) in batches {
        house.record(batch).await.expect("recorded");
        let view = house.view(head.id).await;
        assert_eq!((view.succeeded, view.failed, view.ended_at), (succeeded, failed, ended_at));
        let ended = u64::from(succeeded + failed);
        assert_eq!((u64::from(view.waiting()), u64::from(view.callbacks_waiting())), (5 - ended, ended));
        let backlog = house.backlog().await.expect("read");
        assert_eq!(backlog, Backlog { waiting: 5 - ended, untold: ended });
    }
    let mut faults = house.view(head.id).await.faults;
    faults.sort();
    assert_eq!(faults, [("cancelled".into(), 1), ("unsettled".into(), 2)]);
}

/// A profile that was left unsettled is in doubt, in its record and its history, until an outcome settles just
/// what is in doubt.
pub async fn a_profile_is_in_doubt_until_it_is_settled(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    for of in [Doubt::SERVICE, Doubt::ENABLED.and(Doubt::ON_CARD)] {
        let head = house.resuming(1, [1]).await;
        house.record(vec![in_doubt(&house.waits(&head).await[0], of)]).await.expect("recorded");
    }
    let profile = || async { house.profile(&iccid(1, 1)).await.expect("read").expect("a profile").profile };
    let both = Doubt::SERVICE.and(Doubt::ENABLED).and(Doubt::ON_CARD);
    assert_eq!((profile().await.state, profile().await.in_doubt), (SUSPENDED, both));
    house.resumed(1, [1], at(30)).await;
    let left = Doubt::ENABLED.and(Doubt::ON_CARD);
    assert_eq!((profile().await.state, profile().await.in_doubt), (ProfileState::Active, left));
    let doubtful = crate::ProfileFilter { in_doubt: Some(true), limit: 9, ..Default::default() };
    assert_eq!(house.fleet(doubtful).await.expect("read").len(), 1);
    let history = house.history(&iccid(1, 1), ALL).await.expect("read");
    let doubts: Vec<_> = history.iter().map(|entry| (entry.at, entry.in_doubt)).collect();
    assert_eq!(doubts, [(at(25), true), (at(25), true), (at(30), false)]);
}

/// An outcome may change one thing of its profile and leave another in doubt: that is one row of its history.
pub async fn a_change_and_a_doubt_are_one_row_of_history(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resuming(1, [1]).await;
    let waits = house.waits(&head).await;
    let mut recording = succeeded(&waits[0], at(20));
    recording.changes.extend(in_doubt(&waits[0], Doubt::PLAN).changes);
    house.record(vec![recording]).await.expect("recorded");
    let profile = house.profile(&iccid(1, 1)).await.expect("read").expect("a profile").profile;
    assert_eq!((profile.state, profile.in_doubt), (ProfileState::Active, Doubt::PLAN));
    let history = house.history(&iccid(1, 1), ALL).await.expect("read");
    let [entry] = &history[..] else { panic!("one row: {history:?}") };
    assert_eq!((entry.from.state, entry.to.state, entry.in_doubt), (SUSPENDED, ProfileState::Active, true));
}

fn in_doubt(waits: &Waiting, of: Doubt) -> Recording {
    let mut recording = failed(waits, at(25), Fault::Unsettled);
    let profile = waits.target.as_ref().ok().and_then(Target::profile);
    recording.changes =
        profile.map(|target| Change::InDoubt { profile: target.profile, of }).into_iter().collect();
    recording
}

/// A doubt leaves the record as it is when the doubt is written, whatever was read before.
pub async fn a_doubt_never_takes_a_profile_back(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let first = house.resuming(1, [1]).await;
    let second = house.resuming(1, [1]).await;
    let (waits, doubted) = (house.waits(&first).await, house.waits(&second).await);
    house
        .record(vec![succeeded(&waits[0], at(20)), in_doubt(&doubted[0], Doubt::SERVICE)])
        .await
        .expect("recorded");
    let profile = house.profile(&iccid(1, 1)).await.expect("read").expect("a profile").profile;
    assert_eq!((profile.state, profile.in_doubt), (ProfileState::Active, Doubt::SERVICE));
    let history = house.history(&iccid(1, 1), ALL).await.expect("read");
    let last = history.last().expect("a doubt");
    assert_eq!(
        (last.from, last.to, last.in_doubt),
        (condition(ProfileState::Active), condition(ProfileState::Active), true)
    );
}

/// Profiles are read as they are recorded, in the order asked, and none for an unknown key.
pub async fn profiles_are_read_in_the_order_asked(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    house.resumed(1, [2], at(20)).await;
    let found = house.resolve(&account(1), iccids(1, [3, 2])).await.expect("resolved");
    let mut keys: Vec<_> = found.into_iter().flatten().map(|found| found.profile).collect();
    keys.insert(1, crate::ProfileKey(999_999));
    let read = house.profiles(keys).await.expect("read");
    let read: Vec<_> = read.iter().map(|profile| profile.as_ref().map(brief)).collect();
    let (three, two) = (iccid(1, 3), iccid(1, 2));
    assert_eq!(read, [Some((&three, SUSPENDED)), None, Some((&two, ProfileState::Active))]);
}

fn brief(profile: &Profile) -> (&reveille_domain::Iccid, ProfileState) {
    (&profile.iccid, profile.state)
}

/// A cancelled request is shown so wherever it is read; what waits still waits. An ended one stays as it was.
pub async fn a_request_is_cancelled_while_it_waits(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resuming(1, [1, 2]).await;
    house.record(vec![succeeded(&house.waits(&head).await[0], at(20))]).await.expect("recorded");
    let view = house.cancel(head.id, at(21)).await.expect("cancelled").expect("a request of that id");
    assert!(view.head.cancelled);
    assert_eq!((view.waiting(), view.succeeded, view.ended_at), (1, 1, None));
    let waits = house.waits(&head).await;
    assert!(waits.len() == 1 && waits[0].request.cancelled);
    let again = house.cancel(head.id, at(22)).await.expect("cancelled").expect("a request of that id");
    assert!(again.head.cancelled);
    let ended = house.resumed(1, [1], at(20)).await;
    let view = house.cancel(ended.id, at(21)).await.expect("answered").expect("a request of that id");
    assert!(!view.head.cancelled, "it had ended");
    assert!(house.cancel(house.new_id(), at(21)).await.expect("answered").is_none());
}
