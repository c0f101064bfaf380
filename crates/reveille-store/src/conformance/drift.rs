//! Drift: where networks differ from the record, and how far that was looked at.

use super::Bench;
use super::house::{ALL, House, account, at, iccid};
use crate::{Compared, DriftView, Seen, Standing};
use reveille_domain::{Network, RequestId};
use std::time::Duration;

const OUT: Seen = Seen::Otherwise { in_service: Some(false), enabled: None };
const OTHER: Seen = Seen::Otherwise { in_service: Some(true), enabled: Some(false) };

fn compared(number: u32, seen: Option<Seen>) -> Compared {
    Compared { account: account(1), network: Network::Global, iccid: iccid(1, number), seen }
}

async fn note(house: &House, number: u32, seen: Option<Seen>, second: i64) -> Standing {
    house.note_compared(vec![compared(number, seen)], at(second)).await.expect("noted")[0]
}

/// Rounds begin so often and no more, go on where they were left, and one process is at them at a time.
pub async fn comparing_takes_turns_and_goes_on(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    let begin = async |second, network| {
        let every = Duration::from_secs(100);
        house.begin_comparing(network, at(second), at(second + 10), every).await.expect("answered")
    };
    assert_eq!(begin(1_000, Network::Global).await, Some(None), "a first round begins at once");
    assert_eq!(begin(1_009, Network::Global).await, None, "another is at it");
    assert_eq!(begin(1_009, Network::VerizonUs).await, Some(None));
    house.end_comparing(Network::Global, Some(iccid(1, 1))).await.expect("noted");
    assert_eq!(begin(1_009, Network::Global).await, Some(Some(iccid(1, 1))));
    assert_eq!(begin(1_019, Network::Global).await, Some(Some(iccid(1, 1))), "whoever was at it is gone");
    house.end_comparing(Network::Global, None).await.expect("noted");
    assert_eq!(begin(1_099, Network::Global).await, None, "that was this round");
    assert_eq!(begin(1_100, Network::Global).await, Some(None));
}

/// What is seen once is suspected, twice found, and told once; another difference is another drift.
pub async fn a_drift_is_found_when_it_is_seen_twice(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    assert_eq!(note(&house, 1, None, 10).await, Standing::Agrees);
    assert_eq!(note(&house, 1, Some(OUT), 11).await, Standing::Suspected);
    assert_eq!(house.drifts(&account(1), None, ALL).await.expect("read"), []);
    let found = Standing::Found { found_at: at(11) };
    assert_eq!(note(&house, 1, Some(OUT), 12).await, found);
    assert_eq!(note(&house, 1, Some(OUT), 13).await, found, "as long as it is not told");
    let request = RequestId::from_random(7);
    house.tell_drift(&iccid(1, 1), at(99), request).await.expect("noted");
    assert_eq!(note(&house, 1, Some(OUT), 14).await, found, "that was another drift");
    house.tell_drift(&iccid(1, 1), at(11), request).await.expect("noted");
    assert_eq!(note(&house, 1, Some(OUT), 15).await, Standing::Told);
    let view = DriftView {
        iccid: iccid(1, 1),
        network: Network::Global,
        seen: OUT,
        found_at: at(11),
        request: Some(request),
    };
    assert_eq!(house.drifts(&account(1), None, ALL).await.expect("read"), [view]);
    assert_eq!(house.drifts(&account(2), None, ALL).await.expect("read"), []);
    assert_eq!(house.drift_counts().await.expect("read"), [(Network::Global, 1)]);
    assert_eq!(note(&house, 1, Some(OTHER), 16).await, Standing::Suspected, "it has changed");
    assert_eq!(note(&house, 1, Some(OTHER), 17).await, Standing::Found { found_at: at(16) });
    assert_eq!(note(&house, 1, None, 18).await, Standing::Agrees);
    assert_eq!(house.drift_counts().await.expect("read"), []);
    assert_eq!(note(&house, 1, Some(OTHER), 19).await, Standing::Suspected, "it begins anew");
}

/// Whatever is seen is kept as it is, in batches and in pages.
pub async fn every_drift_is_shown_as_it_was_seen(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 9).await;
    let said = [Some(true), Some(false), None];
    let mut seen: Vec<Seen> = said
        .into_iter()
        .flat_map(|in_service| said.map(|enabled| Seen::Otherwise { in_service, enabled }))
        .filter(|seen| *seen != Seen::Otherwise { in_service: None, enabled: None })
        .collect();
    seen.push(Seen::NoSuchProfile);
    let batch: Vec<Compared> = (1..).zip(&seen).map(|(number, seen)| compared(number, Some(*seen))).collect();
    for _ in 0..2 {
        house.note_compared(batch.clone(), at(10)).await.expect("noted");
    }
    let (mut shown, mut after) = (Vec::new(), None);
    loop {
        let page = house.drifts(&account(1), after, 4).await.expect("read");
        shown.extend(page.iter().map(|view| view.seen));
        match page.last() {
            Some(last) => after = Some(last.iccid.clone()),
            None => break,
        }
    }
    assert_eq!(shown, seen);
}
