//! Actions on the card: one profile enabled on an eUICC, cards that are slow, and cards that go back.

use crate::app::App;
use crate::fleet::{eid, iccid};
use reveille_domain::{Clock, Network};
use serde_json::{Value, json};

/// A LEAD in service, and a Global profile whose ICCID scripts behaviour, not downloaded yet.
fn scripted(code: &str, status: &str) -> (String, String) {
    let global = format!("890000{code}000000000002");
    let fleet =
        format!("{} verizon-us active euicc=1\n{global} global active euicc=1 status={status}\n", iccid(1));
    (global, fleet)
}

fn statuses(told: &[Value]) -> Vec<&str> {
    told.iter().map(|body| body["status"].as_str().unwrap()).collect()
}

async fn enabled(app: &App) -> Vec<String> {
    let profile = app.profile(&iccid(1)).await;
    let device = profile["device"].as_array().unwrap();
    let is_enabled =
        |profile: &&Value| matches!(profile["profileStatus"].as_str(), Some("ENABLE" | "DOWNLOAD_ENABLE"));
    device.iter().filter(is_enabled).map(|one| one["iccid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_profile_lives_on_a_card_from_download_to_deletion() {
    let (global, fleet) = scripted("00", "NOT_DOWNLOADED");
    let app = App::with_fleet(&fleet).await;
    for (action, expected) in [
        ("download", iccid(1)),
        ("enable", global.clone()),
        ("disable", iccid(1)),
        ("deactivate", iccid(1)),
        ("delete", iccid(1)),
        ("activate", iccid(1)),
        ("download_enable", global.clone()),
    ] {
        let request = app.act(action, &global, json!({})).await;
        app.settle().await;
        assert_eq!(statuses(&app.told_of(&request)), ["SUCCESS"], "{action}");
        assert_eq!(enabled(&app).await, [expected], "{action}");
    }
}

#[tokio::test]
async fn a_slow_card_is_told_by_a_warning_and_then_by_its_outcome() {
    let (global, fleet) = scripted("13", "DISABLE");
    let app = App::configured([("CALLBACKS_WARNINGS", "true")], &fleet).await;
    let request = app.act("enable", &global, json!({})).await;
    app.settle_for("45s").await;
    let told = app.told_of(&request);
    assert_eq!(statuses(&told), ["warning"]);
    assert_eq!(told[0]["deviceIds"][1], json!({"id": global, "kind": "Iccid"}));
    assert!(told[0]["faultResponse"]["faultstring"].as_str().unwrap().contains("the outcome follows"));
    let view = app.request(&request).await;
    assert_eq!((&view["waiting"], &view["callbacks"]["delivered"]), (&json!(1), &json!(0)));
    app.settle_for("5m").await;
    let told = app.told_of(&request);
    assert_eq!(statuses(&told), ["warning", "SUCCESS"]);
    assert_eq!(told[1]["callbackCount"], 1);
    let listed = app
        .get(&format!("/api/reveille/v1/callbacks?account={}&requestId={request}", crate::app::ACCOUNT))
        .await;
    let ids: Vec<&str> =
        listed["callbacks"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [format!("{request}.1"), format!("{request}.1w")]);
    let warning = app.get(&format!("/api/reveille/v1/callbacks/{request}.1w")).await;
    assert_eq!((&warning["status"], &warning["state"]), (&json!("warning"), &json!("delivered")));
}

#[tokio::test]
async fn a_warning_is_attempted_until_acknowledged_like_any_callback_and_made_once() {
    let (global, fleet) = scripted("14", "DISABLE");
    let keys = [("CALLBACKS_WARNINGS", "true"), ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1h")];
    let mut app = App::configured(keys, &fleet).await;
    app.listener.answers([503]);
    let request = app.act("enable", &global, json!({})).await;
    app.settle_for("10m").await;
    app.restart().await;
    app.settle_for("2h").await;
    let told = app.told_of(&request);
    assert_eq!(statuses(&told), ["warning", "warning", "Failed"]);
    assert_eq!((&told[0]["callbackCount"], &told[1]["callbackCount"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn a_warning_is_not_sent_again_when_the_outcome_is_there() {
    let (global, fleet) = scripted("13", "DISABLE");
    let app = App::configured([("CALLBACKS_WARNINGS", "true")], &fleet).await;
    app.listener.answers([503]);
    let request = app.act("enable", &global, json!({})).await;
    app.settle_for("1h").await;
    assert_eq!(statuses(&app.told_of(&request)), ["warning", "SUCCESS"]);
    let warning = app.get(&format!("/api/reveille/v1/callbacks/{request}.1w")).await;
    assert_eq!((&warning["state"], &warning["archived"]), (&json!("archived"), &json!("overtaken")));
}

#[tokio::test]
async fn without_warnings_a_slow_card_is_told_once() {
    let (global, fleet) = scripted("13", "DISABLE");
    let app = App::with_fleet(&fleet).await;
    let request = app.act("enable", &global, json!({})).await;
    app.settle_for("10m").await;
    assert_eq!(statuses(&app.told_of(&request)), ["SUCCESS"]);
}

#[tokio::test]
async fn a_card_that_cannot_be_reached_waits_for_the_device_to_come_back() {
    let (global, fleet) = scripted("00", "DISABLE");
    let app = App::with_fleet(&fleet).await;
    app.act("device_suspend", &eid(1), json!({})).await;
    app.settle().await;
    app.act("profile_resume", &global, json!({})).await;
    let enable = app.act("enable", &global, json!({})).await;
    app.settle_for("1m").await;
    assert!(app.told_of(&enable).is_empty(), "its LEAD is suspended: the device is not reached");
    assert_eq!(enabled(&app).await, [iccid(1)]);
    app.post(&format!("/api/reveille/v1/requests/{enable}/cancel"), json!({})).await;
    app.settle_for("25h").await;
    assert_eq!(statuses(&app.told_of(&enable)), ["Failed"]);
}

#[tokio::test]
async fn a_card_that_goes_back_has_enabled_what_the_record_says() {
    let (global, fleet) = scripted("15", "NOT_DOWNLOADED");
    let app = App::with_fleet(&fleet).await;
    let request = app.act("download_enable", &global, json!({})).await;
    app.settle().await;
    let told = app.told_of(&request);
    assert_eq!(told[0]["faultResponse"]["faultcode"], "UnifiedWebService.REQUEST_FAILED.CarrierRejected");
    assert_eq!(app.profile(&global).await["profileStatus"], "DOWNLOAD_DISABLE", "it is on the card");
    assert_eq!(enabled(&app).await, [iccid(1)]);
}

#[tokio::test]
async fn a_card_goes_back_to_its_fallback_where_the_former_profile_has_no_service() {
    let (global, fleet) = scripted("15", "DISABLE");
    let other = iccid(3);
    let app = App::with_fleet(&format!("{fleet}{other} global active euicc=1 status=DISABLE\n")).await;
    app.act("setfallbackattribute", &other, json!({})).await;
    app.act("enable", &global, json!({})).await;
    app.settle().await;
    assert_eq!(enabled(&app).await, [iccid(1)], "the former one has service, and comes before the fallback");
    app.act("deactivate", &iccid(1), json!({})).await;
    let request = app.act("enable", &global, json!({})).await;
    app.settle().await;
    let told = app.told_of(&request);
    assert_eq!(told[0]["faultResponse"]["faultcode"], "UnifiedWebService.REQUEST_FAILED.CarrierRejected");
    assert_eq!(enabled(&app).await, [other], "the former one has none");
    assert_eq!(app.profile(&iccid(1)).await["profileStatus"], "DISABLE");
}

#[tokio::test]
async fn an_enabling_that_is_given_up_leaves_the_whole_card_in_doubt_until_the_next_action() {
    let (global, fleet) = scripted("14", "DISABLE");
    let app = App::with_fleet(&fleet).await;
    let request = app.act("enable", &global, json!({})).await;
    app.settle_for("25h").await;
    let told = app.told_of(&request);
    assert_eq!(told[0]["faultResponse"]["faultcode"], "UnifiedWebService.REQUEST_FAILED.Unsettled");
    for iccid in [&global, &iccid(1)] {
        let profile = app.profile(iccid).await;
        assert_eq!(profile["inDoubt"], true);
        let why = profile["whyNotInService"].as_str().unwrap();
        assert!(why.starts_with("In doubt since 2026-01-02"), "{why}");
    }
    let lead = app.act("enable", &iccid(1), json!({})).await;
    app.settle().await;
    assert_eq!(statuses(&app.told_of(&lead)), ["SUCCESS"], "recorded as enabled, but in doubt: it is driven");
    assert_eq!(app.profile(&iccid(1)).await["inDoubt"], false);
}

#[tokio::test]
async fn a_download_needs_the_lead_in_service() {
    let (global, fleet) = scripted("00", "NOT_DOWNLOADED");
    let app = App::with_fleet(&fleet).await;
    app.act("device_suspend", &eid(1), json!({})).await;
    app.act("profile_resume", &global, json!({})).await;
    let early = app.act("download", &global, json!({})).await;
    app.act("profile_resume", &iccid(1), json!({})).await;
    let later = app.act("download", &global, json!({})).await;
    app.settle().await;
    assert_eq!(statuses(&app.told_of(&early)), ["Failed"]);
    assert_eq!(statuses(&app.told_of(&later)), ["SUCCESS"]);
}

#[tokio::test]
async fn after_a_restart_a_cancelled_enabling_leaves_the_whole_card_in_doubt() {
    let (global, fleet) = scripted("05", "DISABLE");
    let mut app = App::configured([("STOP_WITHIN", "1s")], &fleet).await;
    let request = app.act("enable", &global, json!({})).await;
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
    for iccid in [&global, &iccid(1)] {
        assert_eq!(app.profile(iccid).await["inDoubt"], true);
    }
}
