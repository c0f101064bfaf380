//! Promise 3: every outcome is told, until acknowledged or archived, with the same bytes.

use crate::app::{ACCOUNT, App};
use crate::fleet;
use crate::listener::{Received, Reply};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PROFILE: &str = "89148000000000000019";
const FLEET: &str = "89148000000000000019 verizon-us suspended imei=353456789012345 msisdn=15551234567";

#[tokio::test]
async fn an_outcome_is_told_in_the_contracts_words() {
    let app = App::with_fleet(FLEET).await;
    let request = app.resume(PROFILE).await;
    app.settle().await;
    let ids = json!([
        {"id": "89049032000001000000000010000019", "kind": "Eid"},
        {"id": "353456789012345", "kind": "Imei"},
        {"id": "15551234567", "kind": "msisdn"},
        {"id": PROFILE, "kind": "Iccid"},
    ]);
    let response = json!({
        "deviceIdentifierCollection": ids, "state": "ACTIVE", "profileStatus": "ENABLE", "profileRole": "LEAD",
    });
    let expected = json!({
        "requestId": request, "deviceIds": ids, "deviceResponse": {"deviceProfileResponse": response},
        "status": "SUCCESS", "callbackCount": 1, "maxCallbackThreshold": 4,
    });
    assert_eq!(app.listener.bodies(), [expected]);
    let head = &app.listener.received()[0].head;
    assert!(head.starts_with("POST /callbacks HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
}

#[tokio::test]
async fn a_callback_is_sent_again_until_acknowledged() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([503, 503, 200]);
    app.resume(PROFILE).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2, 3]);
    let received = app.listener.received();
    let minutes: Vec<_> = received.iter().map(|one| one.at.since(received[0].at).as_secs() / 60).collect();
    assert_eq!(minutes, [0, 5, 10]);
}

#[tokio::test]
async fn all_sends_are_the_same_bytes_but_for_callback_count() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([503, 500, 404]);
    app.resume(PROFILE).await;
    app.settle_for("1h").await;
    let received = app.listener.received();
    assert_eq!(received.len(), 4);
    for (count, one) in (1..).zip(&received) {
        let as_first = one.body.replace(&format!("\"callbackCount\":{count},"), "\"callbackCount\":1,");
        assert_eq!(as_first, received[0].body);
    }
}

#[tokio::test]
async fn a_callback_is_archived_after_the_fourth_attempt() {
    let app = App::with_fleet(FLEET).await;
    app.listener.always_answers(503);
    let request = app.resume(PROFILE).await;
    app.settle_for("1d").await;
    assert_eq!(app.listener.callback_counts(), [1, 2, 3, 4]);
    let callback = app.callback(&request).await;
    assert_eq!((&callback["state"], &callback["archived"]), (&json!("archived"), &json!("exhausted")));
    let attempts = callback["attempts"].as_array().unwrap();
    assert!(attempts.iter().all(|attempt| attempt["status"] == 503));
    assert_eq!(app.request(&request).await["succeeded"], 1, "the outcome stays what it is");
}

#[tokio::test]
async fn as_many_attempts_are_made_as_are_configured() {
    let app = App::configured([("CALLBACKS_RETRY_AFTER", "[\"1s\"]")], FLEET).await;
    app.listener.always_answers(500);
    app.resume(PROFILE).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2]);
    assert_eq!(app.listener.last()["maxCallbackThreshold"], 2);
}

#[tokio::test]
async fn any_2xx_acknowledges() {
    for status in [200, 201, 202, 204, 299] {
        let app = App::with_fleet(FLEET).await;
        app.listener.answers([status]);
        app.resume(PROFILE).await;
        app.settle_for("1h").await;
        assert_eq!(app.listener.callback_counts(), [1], "{status}");
    }
}

#[tokio::test]
async fn a_listener_that_hangs_past_the_time_out_is_tried_again() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([Reply::Hangs]);
    let request = app.resume(PROFILE).await;
    app.settle_for("3s").await;
    assert_eq!((app.listener.hanging(), app.listener.callback_counts()), (1, vec![1]));
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2]);
    let error = app.callback(&request).await["attempts"][0]["error"].clone();
    assert_eq!(error, "no answer within 4s");
}

#[tokio::test]
async fn a_slow_answer_within_the_time_out_counts() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([Reply::Late(Duration::from_millis(3_900)), Reply::Late(Duration::from_secs(5))]);
    app.resume(PROFILE).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1]);
}

#[tokio::test]
async fn a_listener_that_closes_without_an_answer_is_tried_again() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([Reply::Closes, Reply::Closes]);
    app.resume(PROFILE).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2, 3]);
}

#[tokio::test]
async fn a_listener_that_does_not_listen_is_tried_again() {
    let app = App::with_fleet(FLEET).await;
    app.listener.goes_away().await;
    let request = app.resume(PROFILE).await;
    app.settle_for("6m").await;
    app.listener.comes_back();
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [3]);
    let error = app.callback(&request).await["attempts"][0]["error"].clone();
    assert!(error.as_str().unwrap().starts_with("connection refused by 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let app = App::with_fleet(FLEET).await;
    let elsewhere = app.another_listener().await;
    app.listener.answers([Reply::Redirects(elsewhere.url())]);
    let request = app.resume(PROFILE).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2]);
    assert!(elsewhere.received().is_empty());
    assert_eq!(app.callback(&request).await["attempts"][0]["status"], 307);
}

#[tokio::test]
async fn a_listener_replaced_between_attempts_gets_the_next_with_its_own_credentials() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([503]);
    app.resume(PROFILE).await;
    app.settle().await;
    let new = app.another_listener().await;
    let path = format!("/api/m2m/v1/callbacks/{ACCOUNT}");
    let body =
        json!({"name": "DeviceProfileService", "url": new.url(), "username": "fleet", "password": "secret"});
    app.post(&path, body).await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1]);
    let told = new.last();
    assert_eq!((&told["username"], &told["password"]), (&json!("fleet"), &json!("secret")));
    assert_eq!(told["callbackCount"], 2);
    let text = &new.received()[0].body;
    assert!(text.starts_with(r#"{"username":"fleet","password":"secret","requestId":"#), "{text}");
}

#[tokio::test]
async fn a_listener_removed_while_attempts_wait_has_them_archived_for_that_reason() {
    let app = App::with_fleet(FLEET).await;
    app.listener.answers([503]);
    let request = app.resume(PROFILE).await;
    app.settle().await;
    app.call(Method::DELETE, &format!("/api/m2m/v1/callbacks/{ACCOUNT}/name/DeviceProfileService"), None)
        .await;
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1]);
    let callback = app.callback(&request).await;
    assert_eq!((&callback["state"], &callback["archived"]), (&json!("archived"), &json!("no_listener")));
    let listener = json!({"name": "DeviceProfileService", "url": app.listener.url()});
    let path = format!("/api/m2m/v1/callbacks/{ACCOUNT}");
    let registered = app.call(Method::POST, &path, Some(&listener)).await;
    assert_eq!(registered.headers["reveille-archived-callbacks"], "1");
    app.settle_for("1d").await;
    assert_eq!(app.listener.callback_counts(), [1], "registering again replays nothing by itself");
}

#[tokio::test]
async fn without_a_listener_a_request_runs_and_its_callback_is_archived_at_once() {
    let app = App::with_fleet(FLEET).await;
    app.call(Method::DELETE, &format!("/api/m2m/v1/callbacks/{ACCOUNT}/name/DeviceProfileService"), None)
        .await;
    let request = app.resume(PROFILE).await;
    app.settle().await;
    let callback = app.callback(&request).await;
    assert_eq!(callback["archived"], "no_listener");
    assert_eq!((&callback["callbackCount"], &callback["attempts"]), (&json!(0), &json!([])));
    assert_eq!(app.profile(PROFILE).await["state"], "ACTIVE");
}

#[tokio::test]
async fn a_replay_after_a_day_is_a_new_series_from_1() {
    let app = App::with_fleet(FLEET).await;
    app.listener.goes_away().await;
    let request = app.resume(PROFILE).await;
    app.settle_for("1d").await;
    assert_eq!(app.callback(&request).await["state"], "archived");
    app.listener.comes_back();
    app.listener.answers([503]);
    let replayed = app.post(&format!("/api/reveille/v1/callbacks/{request}.1/replay"), json!({})).await;
    assert_eq!(replayed["replayed"], 1);
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 2]);
    let callback = app.callback(&request).await;
    assert_eq!((&callback["state"], &callback["series"]), (&json!("delivered"), &json!(2)));
    let attempts = callback["attempts"].as_array().unwrap();
    let series: Vec<_> = attempts.iter().map(|attempt| attempt["series"].as_u64().unwrap()).collect();
    assert_eq!(series, [1, 1, 1, 1, 2, 2]);
}

#[tokio::test]
async fn a_replay_by_window_sends_what_was_recorded_in_it() {
    let profiles = ["89148000000000000019", "89148000000000000029", "89148000000000000039"];
    let app = App::with_fleet(&fleet::of(&profiles.join(" "), "global suspended")).await;
    app.listener.goes_away().await;
    for profile in profiles {
        app.resume(profile).await;
        app.settle_for("1h").await;
    }
    app.listener.comes_back();
    let window = json!({"account": ACCOUNT, "from": "2026-01-01T01:00:00Z", "to": "2026-01-01T02:00:00Z"});
    assert_eq!(app.post("/api/reveille/v1/callbacks/replay", window.clone()).await["replayed"], 1);
    app.settle_for("1h").await;
    let told: Vec<_> = app.listener.received().iter().map(Received::iccid).collect();
    assert_eq!(told, ["89148000000000000029"]);
    assert_eq!(app.post("/api/reveille/v1/callbacks/replay", window.clone()).await["replayed"], 0);
    let mut delivered_too: Value = window;
    delivered_too["state"] = "ended".into();
    assert_eq!(app.post("/api/reveille/v1/callbacks/replay", delivered_too).await["replayed"], 1);
    app.settle_for("1h").await;
    assert_eq!(app.listener.callback_counts(), [1, 1]);
}

#[tokio::test]
async fn a_fault_names_what_it_is_with_empty_credentials() {
    let app = App::with_fleet("89148000000000000019 verizon-us active").await;
    app.resume("89148000000000000019 89148000000000009999").await;
    app.settle().await;
    let mut faults: Vec<_> = app.listener.bodies();
    faults.sort_by_key(|body| body["deviceIds"].as_array().unwrap().len());
    let [unknown, already] = &faults[..] else { panic!("two callbacks") };
    assert_eq!(unknown["deviceIds"], json!([{"id": "89148000000000009999", "kind": "Iccid"}]));
    assert_eq!(unknown["faultResponse"]["faultcode"], "UnifiedWebService.REQUEST_FAILED.DeviceNotFound");
    let code = "UnifiedWebService.REQUEST_FAILED.ProfileAlreadyResumed";
    let said = json!({"faultcode": code, "faultstring": "REQUEST_FAILED. Profile is already resumed"});
    assert_eq!(already["faultResponse"], said);
    for fault in [unknown, already] {
        assert_eq!(
            (&fault["status"], &fault["username"], &fault["password"]),
            (&json!("Failed"), &json!(""), &json!(""))
        );
        assert!(fault.get("deviceResponse").is_none());
    }
}
