//! Claims: one process at a time performs what is first on an eUICC.
//!
//! On a store for one process nothing has to be claimed, and these parts see that it says so.

use super::Bench;
use super::house::{ALL, House, account, at, succeeded};
use crate::{Claim, DeviceKey, Guard, Handed, Lease, Recorded, Recording, Store, Target, Waiting};
use reveille_domain::Position;
use std::sync::Arc;
use std::time::Duration;

/// A second process on the same store; nothing where there cannot be one.
async fn second(house: &House) -> Option<Arc<dyn Store>> {
    match house.lease() {
        Some(_) => Some(house.opened_again().await),
        None => None,
    }
}

fn place(waits: &Waiting) -> (DeviceKey, Position) {
    let device = waits.target.as_ref().ok().and_then(Target::device).expect("it is on an eUICC");
    (device, waits.position())
}

async fn claim(store: &dyn Store, waits: &Waiting) -> Claim {
    store.claim(vec![place(waits)]).await.expect("claimed")[0]
}

fn lease_of(claim: Claim) -> Lease {
    match claim {
        Claim::Granted { lease, .. } => lease,
        Claim::Later | Claim::Ended => panic!("it is granted: {claim:?}"),
    }
}

async fn the_only_one(house: &House, id: reveille_domain::RequestId) -> Waiting {
    house.waiting_of(id, 0, ALL).await.expect("read").pop().expect("one waits")
}

/// What is first on an eUICC is granted, what is behind it comes later, and what has ended is over.
pub async fn whose_turn_it_is_may_claim(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let first = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let behind = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    assert_eq!(claim(&*house.shared(), &behind).await, Claim::Later);
    let granted = claim(&*house.shared(), &first).await;
    assert!(matches!(granted, Claim::Granted { begun_before: false, cancelled: false, .. }), "{granted:?}");
    let guard = Guard::Leased(lease_of(granted));
    let recorded =
        house.record(vec![Recording { guard, ..succeeded(&first, at(20)) }]).await.expect("recorded");
    assert_eq!(recorded.each, [Recorded::Now]);
    assert_eq!(claim(&*house.shared(), &first).await, Claim::Ended);
    lease_of(claim(&*house.shared(), &behind).await);
}

/// A claim says that the request was cancelled.
pub async fn a_claim_tells_of_a_cancellation(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let id = house.resuming(1, [1]).await.id;
    let waits = the_only_one(&house, id).await;
    house.cancel(id, at(15)).await.expect("cancelled");
    let granted = claim(&*house.shared(), &waits).await;
    assert!(matches!(granted, Claim::Granted { cancelled: true, .. }), "{granted:?}");
}

/// While one process has an eUICC, another does not get it; nor does it see what is there as a stray.
pub async fn two_processes_never_have_one_euicc(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let Some(other) = second(&house).await else { return };
    let waits = house.waiting_of(house.resuming(1, [1, 2]).await.id, 0, ALL).await.expect("read");
    lease_of(claim(&*house.shared(), &waits[0]).await);
    let start = Position { sequence: 0, number: 0 };
    let strays = other.strays(at(999), start, Vec::new(), ALL).await.expect("read");
    assert_eq!(strays.iter().map(Waiting::position).collect::<Vec<_>>(), [waits[1].position()]);
    assert!(other.strays(at(1), start, Vec::new(), ALL).await.expect("read").is_empty(), "it is too young");
    let except = vec![account(1)];
    assert!(other.strays(at(999), start, except, ALL).await.expect("read").is_empty(), "it is passed by");
    assert_eq!(claim(&*other, &waits[0]).await, Claim::Later);
    let first = lease_of(claim(&*other, &waits[1]).await);
    let again = lease_of(claim(&*other, &waits[1]).await);
    assert!(again > first, "a later lease has a higher number");
}

/// What an outcome of a subrequest is recorded under, after it was claimed where that is needed.
async fn guard_of(house: &House, waits: &Waiting) -> Guard {
    match house.lease() {
        Some(_) => Guard::Leased(lease_of(claim(&*house.shared(), waits).await)),
        None => Guard::Free,
    }
}

/// A process that was frozen past its lease records nothing of what another has claimed since.
pub async fn a_late_outcome_is_refused(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let waits = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let frozen = lease_of(claim(&*house.shared(), &waits).await);
    bench.leases_run_out().await;
    let granted = claim(&*other, &waits).await;
    assert!(matches!(granted, Claim::Granted { begun_before: true, .. }), "{granted:?}");
    let before = house.everything().await;
    for guard in [Guard::Leased(frozen), Guard::Unbegun] {
        let late = Recording { guard, ..succeeded(&waits, at(20)) };
        assert_eq!(house.record(vec![late]).await.expect("answered").each, [Recorded::Refused]);
    }
    assert_eq!(house.everything().await, before, "nothing was written");
    let guard = Guard::Leased(lease_of(granted));
    let recorded =
        other.record(vec![Recording { guard, ..succeeded(&waits, at(21)) }]).await.expect("recorded");
    assert_eq!(recorded.each, [Recorded::Now]);
}

/// Under which name a carrier has accepted a subrequest is kept until it ends, the last one of several.
pub async fn handles_are_kept(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let waits = house.waits_of(house.resuming(1, [1, 2]).await).await;
    let guard = guard_of(&house, &waits[0]).await;
    let handed = |handle: &str| Handed {
        position: waits[0].position(),
        handle: handle.into(),
        guard,
        keep_for: Duration::ZERO,
    };
    let kept = async || {
        let unknown = Position { sequence: 999, number: 1 };
        let asked = vec![waits[1].position(), waits[0].position(), unknown];
        house.handles(asked).await.expect("read")
    };
    assert_eq!(kept().await, [None, None, None]);
    house.keep_handles(vec![handed("first")]).await.expect("kept");
    house.keep_handles(vec![handed("last")]).await.expect("kept");
    assert_eq!(kept().await, [None, Some("last".into()), None]);
    house.record(vec![Recording { guard, ..succeeded(&waits[0], at(20)) }]).await.expect("recorded");
    house.keep_handles(vec![handed("late")]).await.expect("answered");
    assert_eq!(kept().await, [None, Some("last".into()), None], "it has ended");
}

/// A process that was frozen past its lease does not overwrite the name that another has been given since.
pub async fn a_late_handle_is_left_alone(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let waits = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let frozen = lease_of(claim(&*house.shared(), &waits).await);
    bench.leases_run_out().await;
    let granted = lease_of(claim(&*other, &waits).await);
    for (lease, handle) in [(granted, "the holder's"), (frozen, "late")] {
        let guard = Guard::Leased(lease);
        let (position, handle) = (waits.position(), handle.into());
        let handed = Handed { position, handle, guard, keep_for: Duration::ZERO };
        house.keep_handles(vec![handed]).await.expect("answered");
    }
    let kept = house.handles(vec![waits.position()]).await.expect("read");
    assert_eq!(kept, [Some("the holder's".into())]);
}

/// What a carrier has accepted for later stays with the process that it told, as long as that says, and no longer.
pub async fn what_is_accepted_for_later_is_kept_from_others(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let waits = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let guard = Guard::Leased(lease_of(claim(&*house.shared(), &waits).await));
    let (position, start) = (waits.position(), Position { sequence: 0, number: 0 });
    let handed = |keep_for| Handed { position, handle: "theirs".into(), guard, keep_for };
    house.keep_handles(vec![handed(Duration::from_secs(600))]).await.expect("kept");
    bench.leases_run_out().await;
    assert_eq!(claim(&*other, &waits).await, Claim::Later);
    assert!(other.strays(at(999), start, Vec::new(), ALL).await.expect("read").is_empty(), "it is no stray");
    house.keep_handles(vec![handed(Duration::ZERO)]).await.expect("kept");
    let granted = claim(&*other, &waits).await;
    assert!(matches!(granted, Claim::Granted { begun_before: true, .. }), "{granted:?}");
}

/// A lease ends with its subrequest: the next on the eUICC need not wait for its time.
pub async fn a_lease_ends_with_its_subrequest(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let first = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let next = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let guard = Guard::Leased(lease_of(claim(&*house.shared(), &first).await));
    assert_eq!(claim(&*other, &next).await, Claim::Later);
    house.record(vec![Recording { guard, ..succeeded(&first, at(20)) }]).await.expect("recorded");
    lease_of(claim(&*other, &next).await);
}

/// What nobody has claimed may be ended without a claim; a claim that comes then is too late.
pub async fn what_nobody_has_begun_may_be_ended(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let first = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let behind = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    let guard = Guard::Leased(lease_of(claim(&*house.shared(), &first).await));
    let ended = Recording { guard: Guard::Unbegun, ..succeeded(&behind, at(20)) };
    assert_eq!(other.record(vec![ended]).await.expect("recorded").each, [Recorded::Now]);
    house.record(vec![Recording { guard, ..succeeded(&first, at(21)) }]).await.expect("recorded");
    assert_eq!(claim(&*other, &behind).await, Claim::Ended);
}

/// What one process has recorded, it alone attempts to tell, as long as its lease lasts.
pub async fn two_processes_do_not_tell_one_callback_at_once(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let Some(other) = second(&house).await else { return };
    let waits = the_only_one(&house, house.resuming(1, [1]).await.id).await;
    house.record(vec![succeeded(&waits, at(20))]).await.expect("recorded");
    let outlet = super::house::outlet(1);
    assert_eq!(outlet.account, account(1));
    assert!(other.due(&outlet, at(999), ALL).await.expect("read").is_empty());
    bench.leases_run_out().await;
    assert_eq!(other.due(&outlet, at(999), ALL).await.expect("read").len(), 1);
    assert!(house.due(&outlet, at(999), ALL).await.expect("read").is_empty(), "now it is the other's");
}
