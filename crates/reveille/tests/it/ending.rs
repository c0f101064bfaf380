//! Promises 2 and 5: every subrequest ends, once, whatever its carrier does; operations are safe to repeat.

use crate::app::App;
use crate::fleet;
use reveille_domain::{Clock, Network};
use serde_json::{Value, json};
use std::collections::HashMap;

/// One profile for each behaviour of the simulated network, by its code.
fn scripted() -> (Vec<String>, String) {
    let iccids: Vec<_> = (0..=12).map(|code| format!("890000{code:02}0000000000{code:02}")).collect();
    let fleet = fleet::of(&iccids.join(" "), "verizon-us suspended");
    (iccids, fleet)
}

/// The status that each profile was told of, or its fault.
fn told(app: &App) -> HashMap<String, Vec<String>> {
    let mut told: HashMap<_, Vec<_>> = HashMap::new();
    for one in app.listener.received() {
        let body = one.json();
        let said = body["faultResponse"]["faultcode"].as_str().or(body["status"].as_str());
        told.entry(one.iccid()).or_default().push(said.unwrap().to_owned());
    }
    told
}

#[tokio::test]
async fn every_scripted_behaviour_ends_once_with_its_callback() {
    let (iccids, fleet) = scripted();
    let app = App::with_fleet(&fleet).await;
    let request = app.resume(&iccids.join(" ")).await;
    app.settle_for("23h").await;
    let unsettled: Vec<_> = app.subrequests(&request).await;
    let waiting = unsettled.iter().filter(|one| one["state"] == "waiting").map(|one| one["iccid"].clone());
    assert_eq!(waiting.collect::<Vec<_>>(), [iccids[5].as_str(), &iccids[8]]);
    app.settle_for("2h").await;
    let told = told(&app);
    for (code, iccid) in iccids.iter().enumerate() {
        let expected = match code {
            1 | 10 => "UnifiedWebService.REQUEST_FAILED.CarrierRejected",
            5 | 8 => "UnifiedWebService.REQUEST_FAILED.Unsettled",
            _ => "SUCCESS",
        };
        assert_eq!(told[iccid], [expected], "behaviour {code}");
        let profile = app.profile(iccid).await;
        assert_eq!(profile["state"] == "ACTIVE", expected == "SUCCESS", "behaviour {code}");
        assert_eq!(profile["inDoubt"], code == 5 || code == 8, "behaviour {code}");
    }
    let view = app.request(&request).await;
    assert_eq!((&view["succeeded"], &view["failed"]), (&json!(9), &json!(4)));
}

#[tokio::test]
async fn a_virtual_day_without_an_answer_ends_as_unsettled_and_in_doubt() {
    let profile = "89000005000000000001";
    let app = App::with_fleet("89000005000000000001 global suspended").await;
    let request = app.resume(profile).await;
    app.settle_for("1d").await;
    app.settle_for("2m").await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_FAILED.Unsettled": 1}));
    let recorded = app.profile(profile).await;
    assert_eq!((&recorded["state"], &recorded["inDoubt"]), (&json!("SUSPEND"), &json!(true)));
}

#[tokio::test]
async fn a_profile_in_doubt_is_driven_by_the_next_resume_which_clears_the_doubt() {
    let script = r#"[{ iccid_prefix = "89148000000000000019", behaviour = "never-answers", times = 1 }]"#;
    let keys = [("CARRIERS_GLOBAL_SCRIPT", script), ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1m")];
    let app = App::configured(keys, "89148000000000000019 global suspended").await;
    let profile = "89148000000000000019";
    let given_up = app.resume(profile).await;
    app.settle_for("5m").await;
    assert_eq!(app.request(&given_up).await["failed"], 1);
    assert_eq!(app.profile(profile).await["inDoubt"], true);
    let driven = app.resume(profile).await;
    app.settle_for("1m").await;
    assert_eq!(app.request(&driven).await["succeeded"], 1);
    let recorded = app.profile(profile).await;
    assert_eq!((&recorded["state"], &recorded["inDoubt"]), (&json!("ACTIVE"), &json!(false)));
    assert_eq!(app.request(&given_up).await["failed"], 1, "an outcome is final");
    let history = app.get(&format!("/api/reveille/v1/profiles/{profile}/history")).await;
    let doubts: Vec<_> =
        history["history"].as_array().unwrap().iter().map(|one| one["inDoubt"].clone()).collect();
    assert_eq!(doubts, [true, false]);
}

#[tokio::test]
async fn ten_thousand_profiles_in_one_request_are_told_of_exactly_once_each() {
    let iccids = fleet::iccids(0, 10_000);
    let fleet = fleet::of(&iccids, "verizon-us suspended");
    let fleet = fleet.replace("3 verizon-us", "3 global").replace("8 verizon-us", "8 global");
    let keys = [("CARRIERS_GLOBAL_LATENCY", "20ms"), ("CARRIERS_VERIZON_US_JITTER", "50ms")];
    let app = App::configured(keys, &fleet).await;
    let request = app.resume(&iccids).await;
    loop {
        let view = app.request(&request).await;
        let count = |member: &str| view[member].as_u64().unwrap();
        assert_eq!(count("waiting") + count("succeeded") + count("failed"), 10_000);
        let told: u64 = view["callbacks"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(told, count("succeeded") + count("failed"));
        if view["state"] == "ended" {
            break;
        }
        app.settle_for("5ms").await;
    }
    app.settle().await;
    let mut told: Vec<String> =
        app.listener.received().iter().map(crate::listener::Received::iccid).collect();
    told.sort_unstable();
    assert_eq!(told.join(" "), iccids);
    let view = app.request(&request).await;
    assert_eq!(view["callbacks"], json!({"waiting": 0, "delivered": 10_000, "archived": 0}));
    assert_eq!(view["succeeded"], 10_000);
}

#[tokio::test]
async fn a_restart_goes_on_with_what_waits_and_what_is_untold() {
    let fleet = "89148000000000000019 verizon-us suspended\n89148000000000000029 global suspended";
    let mut app = App::with_fleet(fleet).await;
    app.hold("global").await;
    app.listener.answers([503]);
    let request = app.resume("89148000000000000019 89148000000000000029").await;
    app.settle().await;
    let view = app.request(&request).await;
    assert_eq!((&view["waiting"], &view["callbacks"]["waiting"]), (&json!(1), &json!(1)));
    app.restart().await;
    app.settle().await;
    assert_eq!(app.carrier("global").await["held"], true, "a hold outlasts a restart");
    app.release("global").await;
    app.settle_for("1h").await;
    let mut counts = app.listener.callback_counts();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
    assert_eq!(app.request(&request).await["callbacks"]["delivered"], 2);
}

#[tokio::test]
async fn an_operation_cut_off_by_a_stop_is_driven_again_and_counts_once() {
    let fleet = "89148000000000000019 verizon-us suspended";
    let keys = [("CARRIERS_VERIZON_US_LATENCY", "9s"), ("STOP_WITHIN", "1s")];
    let mut app = App::configured(keys, fleet).await;
    let request = app.resume("89148000000000000019").await;
    app.settle().await;
    assert_eq!(app.carrier("verizon-us").await["begun"], 1);
    app.restart().await;
    app.settle_for("1m").await;
    assert_eq!(app.request(&request).await["succeeded"], 1);
    assert_eq!(app.listener.callback_counts(), [1]);
    let history = app.get("/api/reveille/v1/profiles/89148000000000000019/history").await;
    assert_eq!(history["history"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_cancelled_request_ends_what_was_not_begun() {
    let iccids = fleet::iccids(0, 40);
    let app = App::with_fleet(&fleet::of(&iccids, "verizon-us suspended")).await;
    app.hold("verizon-us").await;
    let request = app.resume(&iccids).await;
    let view = app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    assert_eq!((&view["state"], &view["cancelled"]), (&json!("ended"), &json!(true)));
    assert_eq!(view["faults"], json!({"REQUEST_CANCELLED": 40}));
    app.settle().await;
    app.release("verizon-us").await;
    app.settle().await;
    let told = told(&app);
    assert_eq!(told.len(), 40);
    assert!(told.values().all(|said| *said == ["UnifiedWebService.REQUEST_CANCELLED"]));
    let profile = app.profile(&fleet::iccid(0)).await;
    assert_eq!((&profile["state"], &profile["inDoubt"]), (&json!("SUSPEND"), &json!(false)));
    let next = app.resume(&fleet::iccid(0)).await;
    app.settle().await;
    assert_eq!(app.request(&next).await["succeeded"], 1);
}

#[tokio::test]
async fn what_was_begun_before_a_cancellation_ends_as_its_carrier_says() {
    let keys = [("CARRIERS_VERIZON_US_LATENCY", "1s"), ("CARRIERS_VERIZON_US_CONCURRENCY", "1")];
    let iccids = fleet::iccids(0, 3);
    let app = App::configured(keys, &fleet::of(&iccids, "verizon-us suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle().await;
    app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    app.settle_for("10s").await;
    let states: Vec<_> = app.subrequests(&request).await.iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["succeeded", "failed", "failed"]);
}

#[tokio::test]
async fn after_a_restart_a_cancelled_profile_may_have_been_begun_and_is_in_doubt() {
    let keys = [("STOP_WITHIN", "1s")];
    let mut app = App::configured(keys, "89000005000000000001 global suspended").await;
    let profile = "89000005000000000001";
    let request = app.resume(profile).await;
    app.settle().await;
    app.stop().await;
    let store = app.second_store();
    store.set_hold(Network::Global, Some(app.clock.now())).await.unwrap();
    store.close();
    app.start_again().await;
    app.settle().await;
    app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    app.settle().await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_CANCELLED": 1}));
    assert_eq!(app.profile(profile).await["inDoubt"], true);
}

#[tokio::test]
async fn a_cancellation_that_was_cut_off_goes_on_at_the_next_start() {
    let iccids = fleet::iccids(0, 20);
    let mut app = App::with_fleet(&fleet::of(&iccids, "global suspended")).await;
    app.hold("global").await;
    let request = app.resume(&iccids).await;
    app.stop().await;
    let store = app.second_store();
    store.cancel(request.parse().unwrap(), app.clock.now()).await.unwrap();
    store.close();
    app.start_again().await;
    app.settle().await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_CANCELLED": 20}));
    assert_eq!(app.listener.received().len(), 20);
    app.release("global").await;
}

#[tokio::test]
async fn what_was_begun_is_given_up_in_time_also_while_its_carrier_is_held() {
    let keys = [("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1h")];
    let app = App::configured(keys, "89000008000000000001 global suspended").await;
    let request = app.resume("89000008000000000001").await;
    app.settle_for("10m").await;
    app.hold("global").await;
    app.settle_for("2h").await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_FAILED.Unsettled": 1}));
    assert_eq!(app.profile("89000008000000000001").await["inDoubt"], true);
    app.release("global").await;
}

#[tokio::test]
async fn a_cancellation_twice_or_after_the_end_changes_nothing() {
    let app = App::with_fleet("89148000000000000019 verizon-us suspended").await;
    let request = app.resume("89148000000000000019").await;
    app.settle().await;
    for _ in 0..2 {
        let view = app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
        assert_eq!((&view["state"], &view["succeeded"]), (&json!("ended"), &json!(1)));
    }
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1]);
}

#[tokio::test]
async fn what_was_told_thirty_days_ago_is_removed_and_the_profiles_history_stays() {
    let profile = "89148000000000000019";
    let app = App::with_fleet("89148000000000000019 verizon-us suspended").await;
    let request = app.resume(profile).await;
    app.settle_for("29d").await;
    assert_eq!(app.request(&request).await["state"], "ended");
    app.settle_for("2d").await;
    let path = format!("/api/reveille/v1/requests/{request}");
    crate::real_time::until("the request is removed", || async {
        app.settle_for("1h").await;
        app.call(hyper::Method::GET, &path, None).await.status == 404
    })
    .await;
    let history = app.get(&format!("/api/reveille/v1/profiles/{profile}/history")).await;
    let [entry] = &history["history"].as_array().unwrap()[..] else { panic!("one entry: {history}") };
    assert_eq!((&entry["from"], &entry["to"]), (&json!("SUSPEND"), &json!("ACTIVE")));
    assert!(entry.get("requestId").is_none());
    assert_eq!(app.profile(profile).await["state"], "ACTIVE");
}

#[tokio::test]
async fn what_its_carrier_has_accepted_is_asked_about_also_after_a_restart() {
    let profile = "89000022000000000001";
    for restarts in [false, true] {
        let mut app = App::with_fleet(&format!("{profile} global suspended")).await;
        let request = app.resume(profile).await;
        app.settle_for("10s").await;
        assert_eq!(app.request(&request).await["waiting"], 1, "it is accepted, and not done");
        if restarts {
            app.restart().await;
        }
        app.settle_for("1m").await;
        assert_eq!(app.request(&request).await["succeeded"], 1);
        let timeline = app.get(&format!("/api/reveille/v1/profiles/{profile}/timeline")).await;
        let events = timeline["timeline"][0]["events"].as_array().unwrap().clone();
        let called: Vec<String> = events
            .iter()
            .filter(|event| event["event"] == "called")
            .map(|event| event["detail"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(called.iter().filter(|call| call.contains(": pending")).count(), 1, "{called:?}");
        assert!(called.iter().any(|call| call.contains(": done")), "it was asked about, not asked for again");
    }
}
