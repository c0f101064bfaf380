//! Promise 4: operations take effect in order, one at a time on each eUICC; devices do not wait for another.

use crate::app::App;
use crate::fleet;
use serde_json::{Value, json};

const US: &str = "89148000000000000019";
const GLOBAL: &str = "89148000000000000029";
const ONE_EUICC: &str =
    "89148000000000000019 verizon-us suspended euicc=1\n89148000000000000029 global suspended euicc=1";

/// Both networks take a second for each operation, so that instants tell what ran when.
const SLOW: [(&str, &str); 2] = [("CARRIERS_VERIZON_US_LATENCY", "1s"), ("CARRIERS_GLOBAL_LATENCY", "1s")];

fn ended_at(subrequest: &Value) -> &str {
    subrequest["endedAt"].as_str().expect("it has ended")
}

#[tokio::test]
async fn two_requests_on_one_profile_take_effect_in_order() {
    let app = App::configured(SLOW, ONE_EUICC).await;
    let first = app.resume(US).await;
    let second = app.resume(US).await;
    app.settle_for("1m").await;
    assert_eq!(app.request(&first).await["succeeded"], 1);
    let faults = json!({"REQUEST_FAILED.ProfileAlreadyResumed": 1});
    assert_eq!(app.request(&second).await["faults"], faults);
}

#[tokio::test]
async fn one_euicc_never_has_two_operations_under_way_whatever_their_networks() {
    let app = App::configured(SLOW, ONE_EUICC).await;
    let request = app.resume(&format!("{GLOBAL} {US}")).await;
    app.settle().await;
    let begun = |carrier: Value| carrier["begun"].as_u64().unwrap();
    assert_eq!(begun(app.carrier("global").await), 1);
    assert_eq!(begun(app.carrier("verizon-us").await), 0);
    app.settle_for("1s").await;
    assert_eq!(begun(app.carrier("global").await), 0);
    assert_eq!(begun(app.carrier("verizon-us").await), 1);
    app.settle_for("1s").await;
    let ended = app.subrequests(&request).await;
    assert_eq!(ended_at(&ended[0]), "2026-01-01T00:00:01.000Z");
    assert_eq!(ended_at(&ended[1]), "2026-01-01T00:00:02.000Z");
}

#[tokio::test]
async fn requests_on_one_euicc_take_effect_in_the_order_of_their_answers() {
    let app = App::configured(SLOW, ONE_EUICC).await;
    let mut requests = Vec::new();
    for profile in [US, GLOBAL, GLOBAL, US] {
        requests.push(app.resume(profile).await);
    }
    app.settle_for("1m").await;
    let mut instants = Vec::new();
    for request in &requests {
        instants.push(ended_at(&app.request(request).await).to_owned());
    }
    assert!(instants.is_sorted(), "{instants:?}");
    assert_eq!(instants[1], "2026-01-01T00:00:02.000Z");
}

#[tokio::test]
async fn different_devices_do_not_wait_for_each_other() {
    let iccids = fleet::iccids(0, 300);
    let app = App::configured(SLOW, &fleet::of(&iccids, "verizon-us suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle_for("1s").await;
    assert_eq!(app.request(&request).await["endedAt"], "2026-01-01T00:00:01.000Z");
}

#[tokio::test]
async fn a_profile_that_its_carrier_puts_off_holds_back_what_follows_on_its_euicc_alone() {
    let fleet = "89000002000000000001 verizon-us suspended euicc=1\n89148000000000000029 global suspended euicc=1\n\
                 89148000000000000039 global suspended euicc=2";
    let app = App::with_fleet(fleet).await;
    let first = app.resume("89000002000000000001").await;
    let second = app.resume(GLOBAL).await;
    let third = app.resume("89148000000000000039").await;
    app.settle().await;
    let mut states = Vec::new();
    for request in [&first, &second, &third] {
        states.push(app.request(request).await["state"].clone());
    }
    assert_eq!(states, ["running", "running", "ended"]);
    app.settle_for("1m").await;
    let (first, second) = (app.request(&first).await, app.request(&second).await);
    assert!(ended_at(&first) <= ended_at(&second));
    assert_eq!(second["succeeded"], 1);
}

#[tokio::test]
async fn the_order_outlasts_a_restart() {
    let mut app = App::configured(SLOW, ONE_EUICC).await;
    app.hold("verizon-us").await;
    app.hold("global").await;
    let mut requests = Vec::new();
    for profile in [GLOBAL, US, US, GLOBAL] {
        requests.push(app.resume(profile).await);
    }
    app.restart().await;
    app.release("global").await;
    app.settle_for("5s").await;
    app.release("verizon-us").await;
    app.settle_for("1m").await;
    let mut instants = Vec::new();
    for request in &requests {
        instants.push(ended_at(&app.request(request).await).to_owned());
    }
    assert!(instants.is_sorted(), "{instants:?}");
    assert_eq!(app.request(&requests[0]).await["succeeded"], 1);
    assert_eq!(app.request(&requests[3]).await["failed"], 1);
}
