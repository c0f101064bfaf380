//! Promise 7: a carrier is called as much as its limits allow, and a backlog lives in the store.

use crate::app::{ACCOUNT, App, RESUME, action_body, action_path};
use crate::fleet;
use hyper::Method;
use serde_json::{Value, json};

/// How many operations each second had, from when they ended on a carrier that answers at once.
fn per_second(subrequests: &[Value]) -> Vec<usize> {
    let mut seconds = std::collections::BTreeMap::new();
    for one in subrequests {
        *seconds.entry(one["endedAt"].as_str().expect("all have ended")[..19].to_owned()).or_insert(0) += 1;
    }
    seconds.into_values().collect()
}

#[tokio::test]
async fn no_more_operations_begin_per_second_than_the_rate_allows() {
    let iccids = fleet::iccids(0, 100);
    let app =
        App::configured([("CARRIERS_GLOBAL_RATE", "20")], &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle_for("10s").await;
    let ended = per_second(&app.subrequests(&request).await);
    assert!(ended.iter().all(|second| *second <= 20), "{ended:?}");
    assert!(ended.len() <= 6, "the rate is used, not only kept: {ended:?}");
}

#[tokio::test]
async fn no_more_operations_are_under_way_than_the_concurrency_allows() {
    let iccids = fleet::iccids(0, 10);
    let keys = [("CARRIERS_GLOBAL_CONCURRENCY", "3"), ("CARRIERS_GLOBAL_LATENCY", "1s")];
    let app = App::configured(keys, &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle().await;
    assert_eq!(app.carrier("global").await["begun"], 3);
    app.settle_for("10s").await;
    assert_eq!(per_second(&app.subrequests(&request).await), [3, 3, 3, 1]);
}

#[tokio::test]
async fn a_held_carrier_begins_nothing_until_it_is_released() {
    let iccids = fleet::iccids(0, 10);
    let fleet =
        format!("{}89148000010000099999 verizon-us suspended", fleet::of(&iccids, "global suspended"));
    let app = App::with_fleet(&fleet).await;
    app.hold("global").await;
    let held = app.resume(&iccids).await;
    let free = app.resume("89148000010000099999").await;
    app.settle_for("1h").await;
    assert_eq!(app.request(&held).await["waiting"], 10);
    assert_eq!(app.request(&free).await["state"], "ended");
    app.release("global").await;
    app.settle().await;
    assert_eq!(app.request(&held).await["succeeded"], 10);
}

#[tokio::test]
async fn only_operators_hold_a_carrier() {
    let app = App::with_fleet("").await;
    let other = app.log_in("other", "other-password").await;
    let refused = other.call(Method::POST, "/api/reveille/v1/carriers/global/hold", None).await;
    assert_eq!((refused.status, refused.bracketed()), (403, "REQUEST_FAILED.OperatorsOnly"));
    assert_eq!(app.carrier("global").await["held"], false);
}

#[tokio::test]
async fn the_breaker_opens_on_silence_and_closes_on_the_first_answer() {
    let iccids = fleet::iccids(0, 200);
    let script = r#"[{ iccid_prefix = "", behaviour = "unanswered-then-done", times = 200 }]"#;
    let keys = [("CARRIERS_GLOBAL_SCRIPT", script), ("CARRIERS_GLOBAL_CONCURRENCY", "100")];
    let app = App::configured(keys, &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle().await;
    let silent = app.carrier("global").await;
    assert_eq!(silent["health"], "down");
    assert_eq!(silent["trouble"], "It does not answer in time.");
    assert!(silent["triedAgainAt"].is_string());
    app.settle_for("5m").await;
    assert_eq!(app.carrier("global").await["health"], "ok");
    assert_eq!(app.request(&request).await["succeeded"], 200);
}

#[tokio::test]
async fn a_silent_carrier_is_left_alone_for_longer_and_longer() {
    let iccids: Vec<_> = (0..70).map(|number| format!("890000050000{number:08}")).collect();
    let iccids = iccids.join(" ");
    let keys = [("CARRIERS_GLOBAL_TIMEOUT", "1s"), ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "10m")];
    let app = App::configured(keys, &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle_for("1500ms").await;
    assert_eq!(app.carrier("global").await["health"], "down");
    app.settle_for("5m").await;
    assert!(app.carrier("global").await["begun"].as_u64().unwrap() <= 1, "one trial at a time");
    app.settle_for("2h").await;
    assert_eq!(app.request(&request).await["failed"], 70);
}

#[tokio::test]
async fn a_carrier_that_cannot_be_used_is_left_alone_at_once_and_nothing_was_begun() {
    let iccids = fleet::iccids(0, 1);
    let script = r#"[{ iccid_prefix = "", behaviour = "network-unreachable", times = 1 }]"#;
    let app =
        App::configured([("CARRIERS_GLOBAL_SCRIPT", script)], &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle().await;
    let down = app.carrier("global").await;
    assert_eq!(
        (&down["health"], &down["trouble"]),
        (&json!("down"), &json!("The simulated network is not reachable"))
    );
    app.settle_for("5m").await;
    assert_eq!(app.carrier("global").await["health"], "ok");
    assert_eq!(app.request(&request).await["succeeded"], 1);
    let timeline = app.get(&format!("/api/reveille/v1/profiles/{}/timeline", iccids.trim())).await;
    let events = timeline["timeline"][0]["events"].as_array().unwrap();
    let called: Vec<_> = events.iter().filter(|event| event["event"] == "called").collect();
    assert_eq!(called.len(), 1, "nothing was sent before: {called:?}");
    assert!(called[0]["detail"].as_str().unwrap().starts_with("call 1 to the carrier: done"), "{called:?}");
}

#[tokio::test]
async fn what_is_cancelled_while_its_carrier_cannot_be_used_leaves_no_doubt() {
    let iccids = fleet::iccids(0, 1);
    let script = r#"[{ iccid_prefix = "", behaviour = "network-unreachable", times = 1 }]"#;
    let app =
        App::configured([("CARRIERS_GLOBAL_SCRIPT", script)], &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle_for("2s").await;
    app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    app.settle_for("5m").await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_CANCELLED": 1}));
    assert_eq!(app.profile(iccids.trim()).await["inDoubt"], false);
}

#[tokio::test]
async fn a_carriers_own_credentials_are_no_reason_to_give_up() {
    let iccids = fleet::iccids(0, 1);
    for (behaviour, ends) in [("credentials-refused", "succeeded"), ("network-unreachable", "failed")] {
        let script = format!(r#"[{{ iccid_prefix = "", behaviour = "{behaviour}", times = 1 }}]"#);
        let keys = [("CARRIERS_GLOBAL_SCRIPT", &*script), ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "10s")];
        let app = App::configured(keys, &fleet::of(&iccids, "global suspended")).await;
        let request = app.resume(&iccids).await;
        app.settle_for("1h").await;
        assert_eq!(app.request(&request).await[ends], 1, "{behaviour}");
        assert_eq!(app.profile(iccids.trim()).await["inDoubt"], false, "{behaviour}: nothing was sent");
    }
}

#[tokio::test]
async fn what_a_network_cannot_do_is_refused_and_nothing_of_it_is_accepted() {
    let iccids = fleet::iccids(0, 2);
    let (us, hlr) = (fleet::iccid(0), fleet::iccid(1));
    let keys = [("CARRIERS_GLOBAL_KIND", "osmo-hlr"), ("CARRIERS_GLOBAL_OSMO_HLR_ADDRESS", "127.0.0.1:9")];
    let app = App::configured(
        keys,
        &format!("{us} verizon-us active status=DISABLE\n{hlr} global active status=DISABLE\n"),
    )
    .await;
    let refused =
        app.call(Method::POST, &action_path("enable"), Some(&action_body(&iccids, json!({})))).await;
    assert_eq!((refused.status, refused.bracketed()), (400, "INPUT_INVALID.Action.NotSupported"));
    assert!(refused.body.to_string().contains("network global cannot do enable"), "{}", refused.body);
    assert_eq!(app.get(&format!("/api/reveille/v1/requests?account={ACCOUNT}")).await["requests"], json!([]));
    let request = app.act("enable", &us, json!({})).await;
    app.settle_for("1m").await;
    assert_eq!(app.request(&request).await["succeeded"], 1, "the other network can");
}

#[tokio::test]
async fn what_its_network_cannot_find_fails_before_it_is_asked() {
    let keys = [("CARRIERS_GLOBAL_KIND", "osmo-hlr"), ("CARRIERS_GLOBAL_OSMO_HLR_ADDRESS", "127.0.0.1:9")];
    let app = App::configured(keys, &format!("{} global suspended", fleet::iccid(0))).await;
    let request = app.resume(&fleet::iccid(0)).await;
    app.settle().await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_FAILED.CarrierRejected": 1}));
    assert_eq!(app.carrier("global").await["begun"], 0);
}

#[tokio::test]
async fn a_backlog_beyond_memory_ends_in_order_on_both_networks() {
    // Each eUICC has a profile on either network, of which one is far faster; both windows of 16,384 overflow.
    let us = |from| fleet::iccids(from, 9_000);
    let global = |from| fleet::iccids(1_000_000 + from, 9_000);
    let keys = [("CARRIERS_VERIZON_US_LATENCY", "1s"), ("CARRIERS_GLOBAL_LATENCY", "10ms")];
    let app = App::configured(keys, "").await;
    for from in [0, 9_000] {
        let pairs = us(from)
            .split_whitespace()
            .zip(global(from).split_whitespace())
            .enumerate()
            .map(|(number, (us, global))| {
                let euicc = from + number;
                format!("{us} verizon-us suspended euicc={euicc}\n{global} global suspended euicc={euicc}\n")
            })
            .collect::<String>();
        app.import(&pairs).await;
    }
    app.call(Method::DELETE, "/api/m2m/v1/callbacks/0000123456-00001/name/DeviceProfileService", None).await;
    app.hold("verizon-us").await;
    app.hold("global").await;
    // The first half begins on its US profile, the second on its Global one.
    let requests = [
        app.resume(&us(0)).await,
        app.resume(&global(9_000)).await,
        app.resume(&global(0)).await,
        app.resume(&us(9_000)).await,
    ];
    app.release("verizon-us").await;
    app.release("global").await;
    app.settle_for("1h").await;
    let mut ended = Vec::new();
    for request in &requests {
        let subrequests = app.subrequests(request).await;
        let succeeded = subrequests.iter().filter(|one| one["state"] == "succeeded").count();
        assert_eq!((subrequests.len(), succeeded), (9_000, 9_000));
        ended.push(subrequests);
    }
    for (earlier, later) in [(&ended[0], &ended[2]), (&ended[1], &ended[3])] {
        let instant = |one: &Value| one["endedAt"].as_str().unwrap().to_owned();
        assert!(earlier.iter().zip(later).all(|(earlier, later)| instant(earlier) < instant(later)));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let app = App::configured([("BODY_BYTES_MAX", "65536")], "").await;
    let caller = app.log_in("demo", "demo-password").await;
    let refused = caller.post(RESUME, &json!({"accountName": "x".repeat(65_536)})).await;
    assert_eq!((refused.status, refused.bracketed()), (413, "INPUT_INVALID.Request.TooLarge"));
}
