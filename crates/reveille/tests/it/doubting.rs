//! What is in doubt stays so until an operation settles just that.

use crate::app::App;
use crate::fleet::{eid, iccid};
use serde_json::{Value, json};

const UNHEARD: &str = r#"[{ iccid_prefix = "PROFILE", behaviour = "done-unanswered", times = 1 }]"#;

/// A network that carries out the first operation on that profile and does not say so.
async fn unheard(profile: &str, fleet: &str) -> App {
    let script = UNHEARD.replace("PROFILE", profile);
    let keys = [
        ("CARRIERS_GLOBAL_SCRIPT", script.as_str()),
        ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1m"),
        ("CARRIERS_GLOBAL_UNOBSERVABLE", "true"),
    ];
    App::configured(keys, fleet).await
}

/// Asks for what the network does unheard, and waits until it is given up.
async fn gives_up(app: &App, action: &str, profile: &str) {
    let request = app.act(action, profile, json!({})).await;
    app.settle().await;
    app.hold("global").await;
    app.settle_for("30m").await;
    app.release("global").await;
    assert_eq!(fault(app, &request), "REQUEST_FAILED.Unsettled");
    assert_eq!(app.profile(profile).await["inDoubt"], true);
}

async fn succeeds(app: &App, action: &str, target: &str, more: Value) {
    let request = app.act(action, target, more).await;
    app.settle().await;
    assert!(app.told_of(&request).iter().all(|told| told["status"] == "SUCCESS"), "{action} of {target}");
}

fn fault(app: &App, request: &str) -> String {
    let told = app.told_of(request);
    let code = told[0]["faultResponse"]["faultcode"].as_str().unwrap_or("UnifiedWebService.none");
    code.trim_start_matches("UnifiedWebService.").to_owned()
}

async fn doubt_and_status(app: &App, profile: &str) -> (bool, String) {
    let profile = app.profile(profile).await;
    (profile["inDoubt"].as_bool().unwrap(), profile["profileStatus"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_change_of_plan_leaves_it_in_doubt_whether_a_profile_is_suspended() {
    let profile = iccid(1);
    let app = unheard(&profile, &format!("{profile} global active")).await;
    gives_up(&app, "profile_suspend", &profile).await;
    succeeds(&app, "serviceplan", &profile, json!({"servicePlan": "Global IoT 50MB"})).await;
    assert_eq!(app.profile(&profile).await["inDoubt"], true);
    succeeds(&app, "profile_resume", &profile, json!({})).await;
    let recorded = app.profile(&profile).await;
    assert_eq!((&recorded["state"], &recorded["inDoubt"]), (&json!("ACTIVE"), &json!(false)));
}

#[tokio::test]
async fn a_suspension_and_a_resume_leave_it_in_doubt_what_the_card_has_enabled() {
    let (lead, global) = (iccid(1), iccid(2));
    let fleet = format!("{lead} verizon-us active euicc=1\n{global} global active euicc=1 status=DISABLE\n");
    let app = unheard(&global, &fleet).await;
    gives_up(&app, "enable", &global).await;
    succeeds(&app, "device_suspend", &eid(1), json!({})).await;
    succeeds(&app, "device_resume", &eid(1), json!({})).await;
    assert_eq!(doubt_and_status(&app, &lead).await, (true, "ENABLE".into()));
    assert_eq!(doubt_and_status(&app, &global).await, (true, "DISABLE".into()));
    succeeds(&app, "enable", &lead, json!({})).await;
    assert_eq!(doubt_and_status(&app, &lead).await, (false, "ENABLE".into()));
}

#[tokio::test]
async fn what_is_disabled_by_another_stays_in_doubt_about_its_service() {
    let (lead, global) = (iccid(1), iccid(2));
    let fleet = format!("{lead} verizon-us active euicc=1\n{global} global active euicc=1 status=DISABLE\n");
    let silent = format!(r#"[{{ iccid_prefix = "{lead}", behaviour = "never-answers", times = 1 }}]"#);
    let keys = [("CARRIERS_VERIZON_US_SCRIPT", silent.as_str()), ("CARRIERS_VERIZON_US_GIVE_UP_AFTER", "1m")];
    let app = App::configured(keys, &fleet).await;
    app.act("deactivate", &lead, json!({})).await;
    app.settle_for("5m").await;
    assert_eq!(doubt_and_status(&app, &lead).await, (true, "ENABLE".into()));
    succeeds(&app, "enable", &global, json!({})).await;
    assert_eq!(doubt_and_status(&app, &lead).await, (true, "DISABLE".into()));
}

/// A LEAD of the reserved prefix on whose card enabling it fails, and two others.
fn stubborn() -> (String, String, String, String) {
    let (lead, global, third) =
        ("89000015000000000001".to_owned(), iccid(2), "89000015000000000003".to_owned());
    let fleet = format!(
        "{lead} verizon-us active euicc=1\n{global} global active euicc=1 status=DISABLE\n\
         {third} global active euicc=1 status=DISABLE\n"
    );
    (lead, global, third, fleet)
}

#[tokio::test]
async fn a_card_that_goes_back_is_never_recorded_with_two_profiles_enabled() {
    let (lead, global, _, fleet) = stubborn();
    let app = unheard(&global, &fleet).await;
    gives_up(&app, "enable", &global).await;
    let request = app.act("enable", &lead, json!({})).await;
    app.settle().await;
    assert_eq!(fault(&app, &request), "REQUEST_FAILED.CarrierRejected");
    assert_eq!(doubt_and_status(&app, &lead).await, (false, "DISABLE".into()));
    assert_eq!(doubt_and_status(&app, &global).await.1, "ENABLE");
}

#[tokio::test]
async fn a_card_that_goes_back_to_another_leaves_a_row_for_the_profile_that_was_asked_about() {
    let (lead, global, third, fleet) = stubborn();
    let app = unheard(&global, &fleet).await;
    gives_up(&app, "enable", &global).await;
    let request = app.act("enable", &third, json!({})).await;
    app.settle().await;
    assert_eq!(fault(&app, &request), "REQUEST_FAILED.CarrierRejected");
    assert_eq!(doubt_and_status(&app, &lead).await.1, "DISABLE");
    assert_eq!(doubt_and_status(&app, &global).await.1, "ENABLE");
    let timeline = app.get(&format!("/api/reveille/v1/profiles/{third}/timeline")).await;
    assert!(timeline.to_string().contains(&request), "{timeline}");
}

#[tokio::test]
async fn a_network_that_can_tell_is_asked_before_anything_is_given_up() {
    let script = r#"[{ iccid_prefix = "", behaviour = "done-never-answered" }]"#;
    for (unobservable, fault) in [("false", "none"), ("true", "REQUEST_FAILED.Unsettled")] {
        let keys = [
            ("CARRIERS_GLOBAL_SCRIPT", script),
            ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1m"),
            ("CARRIERS_GLOBAL_UNOBSERVABLE", unobservable),
        ];
        let app = App::configured(keys, &format!("{} global suspended", iccid(1))).await;
        let request = app.act("profile_resume", &iccid(1), json!({})).await;
        app.settle_for("30m").await;
        assert_eq!(self::fault(&app, &request), fault);
        let profile = app.profile(&iccid(1)).await;
        let state = if fault == "none" { "ACTIVE" } else { "SUSPEND" };
        assert_eq!((&profile["state"], &profile["inDoubt"]), (&json!(state), &json!(fault != "none")));
        let timeline = app.get(&format!("/api/reveille/v1/profiles/{}/timeline", iccid(1))).await;
        assert_eq!(timeline.to_string().contains("to the carrier: observed"), fault == "none", "{timeline}");
    }
}
