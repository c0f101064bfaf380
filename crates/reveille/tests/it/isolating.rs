//! Promise 6: nobody sees another account's data, and whoever is slow or dead delays only its own.

use crate::app::{ACCOUNT, App, OTHER_ACCOUNT, RESUME, resume_body};
use crate::fleet;
use crate::listener::{Listener, Received, Reply};
use hyper::Method;
use serde_json::{Value, json};

const MINE: &str = "89148000000000000019";
const THEIRS: &str = "89148000000000000029";
const FLEET: &str = "89148000000000000019 verizon-us suspended\n89148000000000000029 verizon-us suspended account=0000123456-00002";

#[tokio::test]
async fn what_is_another_accounts_looks_like_what_does_not_exist() {
    let app = App::with_fleet(FLEET).await;
    let request = app.resume(MINE).await;
    app.settle().await;
    let other = app.log_in("other", "other-password").await;
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let own = "/api/reveille/v1";
    for (method, theirs, unknown) in [
        (Method::GET, format!("{own}/requests/{request}"), format!("{own}/requests/{nowhere}")),
        (
            Method::GET,
            format!("{own}/requests/{request}/subrequests"),
            format!("{own}/requests/{nowhere}/subrequests"),
        ),
        (Method::GET, format!("{own}/requests/{request}/events"), format!("{own}/requests/{nowhere}/events")),
        (
            Method::POST,
            format!("{own}/requests/{request}/cancel"),
            format!("{own}/requests/{nowhere}/cancel"),
        ),
        (Method::GET, format!("{own}/profiles/{MINE}"), format!("{own}/profiles/89148000000000009999")),
        (
            Method::GET,
            format!("{own}/profiles/{MINE}/history"),
            format!("{own}/profiles/89148000000000009999/history"),
        ),
        (Method::GET, format!("{own}/callbacks/{request}.1"), format!("{own}/callbacks/{nowhere}.1")),
        (
            Method::POST,
            format!("{own}/callbacks/{request}.1/replay"),
            format!("{own}/callbacks/{nowhere}.1/replay"),
        ),
        (
            Method::GET,
            format!("{own}/profiles?account={ACCOUNT}"),
            format!("{own}/profiles?account=0000999999-00001"),
        ),
        (
            Method::GET,
            format!("{own}/requests?account={ACCOUNT}"),
            format!("{own}/requests?account=0000999999-00001"),
        ),
        (
            Method::GET,
            format!("{own}/callbacks?account={ACCOUNT}"),
            format!("{own}/callbacks?account=0000999999-00001"),
        ),
        (
            Method::GET,
            format!("/api/m2m/v1/callbacks/{ACCOUNT}"),
            "/api/m2m/v1/callbacks/0000999999-00001".into(),
        ),
        (
            Method::GET,
            format!("/api/m2m/v2/accounts/{OTHER_ACCOUNT}/requests/{request}/status"),
            format!("/api/m2m/v2/accounts/{OTHER_ACCOUNT}/requests/{nowhere}/status"),
        ),
        (
            Method::GET,
            format!("/api/m2m/v1/accounts/{ACCOUNT}/requests/{request}/status"),
            format!("/api/m2m/v1/accounts/0000999999-00001/requests/{nowhere}/status"),
        ),
    ] {
        let (one, two) =
            (other.call(method.clone(), &theirs, None).await, other.call(method, &unknown, None).await);
        assert_eq!((one.status, &one.body), (two.status, &two.body), "{theirs}");
        assert!(matches!(one.status, 403 | 404), "{theirs}: {}", one.status);
    }
    assert_eq!(app.request(&request).await["cancelled"], false);
    assert_eq!(app.listener.callback_counts(), [1], "nothing was replayed");
}

#[tokio::test]
async fn another_accounts_profile_is_told_of_as_unknown() {
    let app = App::with_fleet(FLEET).await;
    app.resume(&format!("{THEIRS} 89148000000000009999")).await;
    app.settle().await;
    let faceless = |body: &Value| body["faultResponse"].clone();
    let bodies = app.listener.bodies();
    assert_eq!(faceless(&bodies[0]), faceless(&bodies[1]));
    assert!(bodies.iter().all(|body| body["deviceIds"].as_array().unwrap().len() == 1));
    let other = app.log_in("other", "other-password").await;
    let theirs = other.get(&format!("/api/reveille/v1/profiles/{THEIRS}")).await;
    assert_eq!(theirs.body["state"], "SUSPEND");
}

#[tokio::test]
async fn no_listener_is_registered_for_another_account() {
    let app = App::with_fleet(FLEET).await;
    let other = app.log_in("other", "other-password").await;
    let body = json!({"name": "DeviceProfileService", "url": "http://127.0.0.1:9"});
    let refused = other.post(&format!("/api/m2m/v1/callbacks/{ACCOUNT}"), &body).await;
    assert_eq!((refused.status, refused.error_code()), (403, "UnifiedWebService.REQUEST_FAILED.AccountName"));
    let path = format!("/api/m2m/v1/callbacks/{ACCOUNT}/name/DeviceProfileService");
    assert_eq!(other.call(Method::DELETE, &path, None).await.status, 403);
    app.resume(MINE).await;
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1]);
}

#[tokio::test]
async fn a_dead_listener_does_not_slow_nine_live_ones() {
    let app = App::with_fleet("").await;
    let account = |number: usize| format!("0000777777-{number:05}");
    let mut listeners: Vec<Listener> = Vec::new();
    let names: Vec<_> = (0..10).map(account).collect();
    for number in 0..10 {
        let listener = app.another_listener().await;
        app.register(&account(number), &listener).await;
        let iccids = fleet::iccids(number * 100, 100);
        let profiles = fleet::of(&iccids, &format!("verizon-us suspended account={}", account(number)));
        app.import(&profiles).await;
        listeners.push(listener);
    }
    app.declare(&format!("[[user]]\nusername = \"all\"\npassword = \"secret\"\naccounts = {names:?}\n"))
        .await;
    let caller = app.log_in("all", "secret").await;
    listeners[0].always_answers(Reply::Hangs);
    for number in 0..10 {
        let body = resume_body(&account(number), &fleet::iccids(number * 100, 100));
        assert_eq!(caller.post(RESUME, &body).await.status, 200);
    }
    app.settle().await;
    for live in &listeners[1..] {
        assert_eq!(live.received().len(), 100, "told without a moment's delay");
    }
    assert!(listeners[0].received().len() <= 8, "a listener has eight connections");
    app.settle_for("2h").await;
    assert!(listeners[0].hanging() <= 1, "a failing listener has one connection");
    listeners[0].always_answers(200);
    app.settle_for("1h").await;
    let told: std::collections::HashSet<_> = listeners[0].received().iter().map(Received::iccid).collect();
    assert_eq!(told.len(), 100);
}

#[tokio::test]
async fn accounts_take_turns_on_a_carrier() {
    let small = "89148000000000000029 verizon-us suspended account=0000123456-00002";
    let large = fleet::iccids(1_000, 500);
    let fleet = format!("{}{small}", fleet::of(&large, "verizon-us suspended"));
    let app = App::configured([("CARRIERS_VERIZON_US_RATE", "100")], &fleet).await;
    app.resume(&large).await;
    let other = app.log_in("other", "other-password").await;
    let answer = other.post(RESUME, &resume_body(OTHER_ACCOUNT, THEIRS)).await;
    app.settle_for("1s").await;
    let view = other.get(&format!("/api/reveille/v1/requests/{}", answer.request_id())).await;
    assert_eq!(view.body["state"], "ended", "it did not wait for the five hundred before it");
    app.settle_for("10s").await;
}

#[tokio::test]
async fn a_silent_carrier_holds_up_its_own_network_alone() {
    let fleet = "89000005000000000001 verizon-us suspended\n89148000000000000029 global suspended";
    let keys = [("CARRIERS_VERIZON_US_GIVE_UP_AFTER", "1m")];
    let app = App::configured(keys, fleet).await;
    let stuck = app.resume("89000005000000000001").await;
    let free = app.resume("89148000000000000029").await;
    app.settle().await;
    assert_eq!(app.request(&free).await["state"], "ended");
    assert_eq!(app.request(&stuck).await["state"], "running");
    app.settle_for("5m").await;
}
