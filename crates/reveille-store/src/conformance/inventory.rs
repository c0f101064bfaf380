//! The fleet: imported, found by its account alone, and shown.

use super::Bench;
use super::house::{ALL, House, SUSPENDED, account, at, iccid, iccids, row};
use crate::{FleetRow, Imported, ProfileFilter};
use reveille_domain::{Doubt, Iccid, Network, Profile, ProfileState, ProfileStatus, Role, SuspendedBy};

/// An imported profile is shown with every column.
pub async fn an_imported_profile_is_shown_whole(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 0).await;
    let bare = FleetRow { imei: None, msisdn: None, imsi: None, ..row(1, 2) };
    let full = FleetRow {
        role: Role::Default,
        state: ProfileState::Suspended(SuspendedBy::Device),
        status: ProfileStatus::DownloadEnable,
        service_plan: Some("Verizon IoT 5MB".into()),
        ..row(1, 1)
    };
    let imported = house.import(vec![full.clone(), bare.clone()]).await.expect("imported");
    assert_eq!(imported, Imported { devices_new: 2, profiles_new: 2, profiles_known: 0 });
    for row in [full, bare] {
        let owned = house.profile(&row.iccid).await.expect("read").expect("a profile");
        assert_eq!(owned.account, account(1));
        assert_eq!(owned.profile, shown(&row));
    }
    assert!(house.profile(&iccid(1, 9)).await.expect("read").is_none());
}

fn shown(row: &FleetRow) -> Profile {
    Profile {
        iccid: row.iccid.clone(),
        eid: row.eid.clone(),
        imei: row.imei.clone(),
        msisdn: row.msisdn.clone(),
        imsi: row.imsi.clone(),
        network: row.network,
        role: row.role,
        state: row.state,
        status: row.status,
        service_plan: row.service_plan.clone(),
        fallback: false,
        in_doubt: Doubt::NONE,
    }
}

/// An eUICC may hold several profiles; each knows the device.
pub async fn profiles_may_share_an_euicc(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 0).await;
    let rows = vec![row(1, 1), FleetRow { eid: row(1, 1).eid, imei: None, ..row(1, 2) }];
    let imported = house.import(rows).await.expect("imported");
    assert_eq!(imported, Imported { devices_new: 1, profiles_new: 2, profiles_known: 0 });
    let found = house.resolve(&account(1), iccids(1, [1, 2])).await.expect("resolved");
    let [Some(one), Some(two)] = &found[..] else { panic!("both are found: {found:?}") };
    assert_eq!(one.device, two.device);
    assert_ne!(one.profile, two.profile);
}

/// Profiles are found in the order asked; an unknown one and another account's are not found.
pub async fn profiles_are_found_by_their_account_alone(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    let asked = vec![iccid(1, 3), iccid(2, 1), iccid(1, 9), iccid(1, 1), iccid(1, 3)];
    let found = house.resolve(&account(1), asked).await.expect("resolved");
    let there: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, false, true, true]);
    assert_eq!(found[0], found[4]);
    let three = found[0].as_ref().expect("it is there");
    let expected = row(1, 3);
    assert_eq!(three.network, expected.network);
    let profile = house.profiles(vec![three.profile]).await.expect("read").remove(0).expect("it is there");
    assert_eq!((profile.iccid, profile.eid), (expected.iccid, expected.eid));
    let nobody = house.resolve(&account(3), iccids(1, [1])).await.expect("resolved");
    assert_eq!(nobody, [None]);
    assert!(house.resolve(&account(1), Vec::new()).await.expect("resolved").is_empty());
}

/// A file that can be imported, new or again, has no problems.
pub async fn a_good_fleet_has_no_problems(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let before = house.everything().await;
    let rows = (1..=4).map(|number| row(1, number)).collect();
    assert_eq!(house.check_fleet(rows).await.expect("checked"), []);
    assert_eq!(house.everything().await, before, "checking writes nothing");
}

/// What keeps a row from being imported is named with its line.
pub async fn a_bad_row_is_named_by_its_line(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 4).await;
    let bad = [
        FleetRow { line: 11, ..row(3, 1) },                     // no such account
        FleetRow { line: 12, eid: row(2, 1).eid, ..row(1, 9) }, // another account's eUICC
        FleetRow { line: 13, eid: row(1, 2).eid, ..row(1, 1) }, // on another eUICC
        FleetRow { line: 14, iccid: iccid(2, 1), ..row(1, 8) }, // another account's profile
        FleetRow { line: 15, network: Network::Global, ..row(1, 3) }, // on another network
        FleetRow { line: 16, imsi: row(1, 2).imsi, ..row(1, 6) }, // another profile's IMSI
    ];
    let mut rows = vec![row(1, 1), row(1, 7)];
    rows.extend(bad);
    let problems = house.check_fleet(rows).await.expect("checked");
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [11, 12, 13, 14, 15, 16], "{problems:?}");
    assert!(problems.iter().all(|problem| !problem.problem.is_empty()));
    let others = account(2);
    assert!(problems.iter().all(|problem| !problem.problem.contains(others.as_str())), "whose is not told");
}

/// An import that is repeated changes nothing and says so.
pub async fn an_import_repeated_changes_nothing(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 3).await;
    house.resumed(1, [1], at(20)).await;
    let before = house.everything().await;
    let rows = (1..=3).map(|number| row(1, number)).collect();
    let imported = house.import(rows).await.expect("imported");
    assert_eq!(imported, Imported { devices_new: 0, profiles_new: 0, profiles_known: 3 });
    assert_eq!(house.everything().await, before, "not even the state of what was resumed");
}

/// An import that was cut off is completed by the whole.
pub async fn an_import_is_completed_by_a_repeat(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let rows: Vec<_> = (1..=5).map(|number| row(1, number)).collect();
    let imported = house.import(rows).await.expect("imported");
    assert_eq!(imported, Imported { devices_new: 3, profiles_new: 3, profiles_known: 2 });
    assert_eq!(house.import(Vec::new()).await.expect("nothing is imported"), Imported::default());
}

/// What an import knows of a profile that is there completes it; an empty column takes nothing away, and the
/// state columns count for new profiles alone.
pub async fn an_import_completes_what_is_known(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 0).await;
    let bare = FleetRow { imei: None, msisdn: None, imsi: None, ..row(1, 1) };
    house.import(vec![bare.clone()]).await.expect("imported");
    let full = FleetRow {
        state: ProfileState::Deactive,
        status: ProfileStatus::Delete,
        service_plan: Some("Verizon IoT 5MB".into()),
        ..row(1, 1)
    };
    for rows in [vec![full.clone()], vec![bare.clone()]] {
        house.import(rows).await.expect("imported");
        let owned = house.profile(&iccid(1, 1)).await.expect("read").expect("a profile");
        let expected = FleetRow { state: bare.state, status: bare.status, ..full.clone() };
        assert_eq!(owned.profile, shown(&expected));
    }
}

/// Even unchecked rows never take a device or profile from another account.
pub async fn an_import_takes_nothing_from_another_account(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let before = house.profile(&iccid(2, 1)).await.expect("read");
    let grasping = vec![
        FleetRow { eid: row(2, 1).eid, ..row(1, 9) },
        FleetRow { iccid: iccid(2, 1), service_plan: Some("Theirs".into()), ..row(1, 1) },
    ];
    house.import(grasping).await.expect("answered");
    assert_eq!(house.profile(&iccid(2, 1)).await.expect("read"), before);
    assert!(house.profile(&iccid(1, 9)).await.expect("read").is_none());
}

/// The fleet in the order of its ICCIDs, whole or page by page, of one account or all.
pub async fn the_fleet_is_shown_page_by_page(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 5).await;
    let of_one = ProfileFilter { account: Some(account(1)), limit: ALL, ..ProfileFilter::default() };
    assert_eq!(listed(&house, of_one.clone()).await, iccids(1, 1..=5));
    let all = ProfileFilter { account: None, ..of_one.clone() };
    assert_eq!(listed(&house, all.clone()).await, [iccids(1, 1..=5), iccids(2, 1..=5)].concat());
    let page = ProfileFilter { after: Some(iccid(1, 4)), limit: 2, ..of_one };
    assert_eq!(listed(&house, page.clone()).await, iccids(1, [5]));
    let page = ProfileFilter { account: None, ..page };
    assert_eq!(listed(&house, page).await, [iccid(1, 5), iccid(2, 1)]);
    let nobodys = ProfileFilter { account: Some(account(3)), ..all };
    assert!(listed(&house, nobodys).await.is_empty());
}

async fn listed(house: &House, filter: ProfileFilter) -> Vec<Iccid> {
    let fleet = house.fleet(filter).await.expect("read");
    fleet.into_iter().map(|owned| owned.profile.iccid).collect()
}

/// The fleet by network and by state.
pub async fn the_fleet_is_shown_by_network_and_state(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 5).await;
    house.resumed(1, [2, 5], at(20)).await;
    let by_device = FleetRow { state: ProfileState::Suspended(SuspendedBy::Device), ..row(1, 6) };
    house.import(vec![by_device]).await.expect("imported");
    let all = ProfileFilter { account: Some(account(1)), limit: ALL, ..ProfileFilter::default() };
    let global = ProfileFilter { network: Some(Network::Global), ..all.clone() };
    assert_eq!(listed(&house, global.clone()).await, iccids(1, [2, 4, 6]));
    let in_states = |states: &[ProfileState]| ProfileFilter { states: states.to_vec(), ..all.clone() };
    assert_eq!(listed(&house, in_states(&[ProfileState::Active])).await, iccids(1, [2, 5]));
    assert_eq!(listed(&house, in_states(&[SUSPENDED])).await, iccids(1, [1, 3, 4]));
    let suspended = [SUSPENDED, ProfileState::Suspended(SuspendedBy::Device)];
    assert_eq!(listed(&house, in_states(&suspended)).await, iccids(1, [1, 3, 4, 6]));
    assert!(listed(&house, in_states(&[ProfileState::Deactive])).await.is_empty());
    let both = ProfileFilter { states: suspended.to_vec(), ..global };
    assert_eq!(listed(&house, both).await, iccids(1, [4, 6]));
}

/// A profile's history is told oldest first; where there is more than asked for, the latest.
pub async fn history_is_told_oldest_first(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let mut requests = Vec::new();
    for seconds in [20, 30, 40] {
        let head = house.resumed(1, [2, 1], at(seconds)).await;
        requests.push((at(seconds), Some((head.id, head.action)), 2));
    }
    for (limit, expected) in [(ALL, &requests[..]), (2, &requests[1..]), (1, &requests[2..])] {
        let history = house.history(&iccid(1, 1), limit).await.expect("read");
        let told: Vec<_> =
            history.iter().map(|entry| (entry.at, entry.request, entry.position.number)).collect();
        assert_eq!(told, expected);
    }
    assert!(house.history(&iccid(2, 1), ALL).await.expect("read").is_empty());
    assert!(house.history(&iccid(1, 9), ALL).await.expect("read").is_empty());
}
