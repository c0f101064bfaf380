//! Suspensions that last, and changes that a network makes by itself.

use crate::app::{ACCOUNT, App};
use crate::fleet::{eid, iccid};
use crate::listener::Listener;
use crate::real_time::Patience;
use serde_json::{Value, json};
use std::time::Duration;

const LONGEST: (&str, &str) = ("SUSPENSIONS_LONGEST", "90days");

fn one() -> String {
    format!("{} global active euicc=1\n", iccid(1))
}

async fn state(app: &App) -> Value {
    app.profile(&iccid(1)).await["state"].clone()
}

#[tokio::test]
async fn a_long_suspension_is_told_of_seven_days_before_and_then_ends_by_itself() {
    let app = App::configured([LONGEST], &one()).await;
    let tracking = app.another_listener().await;
    app.register_for("ResumeTrackingNotification", ACCOUNT, &tracking).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("82days").await;
    assert!(tracking.bodies().is_empty());
    app.settle_for("2days").await;
    let [notice] = &tracking.bodies()[..] else { panic!("one notice: {:?}", tracking.bodies()) };
    let expected = json!({"resumeTrackingResponse": {
        "resumesAt": "2026-04-01T00:00:00.000Z",
        "comment": "Device will be auto resumed on - 4/1/2026 12:00:00 AM",
    }});
    assert_eq!(notice["deviceResponse"], expected);
    assert_eq!(notice["deviceIds"][1], json!({"id": iccid(1), "kind": "Iccid"}));
    assert_eq!(state(&app).await, "SUSPEND");
    app.settle_for("7days").await;
    assert_eq!(state(&app).await, "ACTIVE");
    assert_eq!(tracking.bodies().len(), 1);
    let resumed = app.listener.bodies().pop().unwrap();
    assert_eq!(resumed["deviceResponse"]["deviceProfileResponse"]["state"], "ACTIVE");
    let history = app.get(&format!("/api/reveille/v1/profiles/{}/history", iccid(1))).await;
    assert_eq!(history["history"][1]["user"], "reveille");
}

#[tokio::test]
async fn a_suspension_that_ended_and_began_again_counts_anew() {
    let app = App::configured([LONGEST], &one()).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("60days").await;
    app.resume(&iccid(1)).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("60days").await;
    assert_eq!(state(&app).await, "SUSPEND");
    app.settle_for("31days").await;
    assert_eq!(state(&app).await, "ACTIVE");
}

#[tokio::test]
async fn without_a_longest_suspension_nothing_starts_by_itself() {
    let app = App::with_fleet(&one()).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("400days").await;
    assert_eq!(state(&app).await, "SUSPEND");
}

#[tokio::test]
async fn what_was_imported_as_suspended_is_left_alone() {
    let app = App::configured([LONGEST], &format!("{} global suspended\n", iccid(1))).await;
    app.settle_for("100days").await;
    assert_eq!(state(&app).await, "SUSPEND");
}

#[tokio::test]
async fn a_notice_outlasts_restarts_and_is_made_once() {
    let mut app = App::configured([LONGEST], &one()).await;
    let tracking = app.another_listener().await;
    app.register_for("ResumeTrackingNotification", ACCOUNT, &tracking).await;
    app.act("device_suspend", &eid(1), json!({})).await;
    app.settle_for("84days").await;
    for _ in 0..3 {
        app.restart().await;
        app.settle_for("3h").await;
    }
    assert_eq!(tracking.bodies().len(), 1);
}

/// How long a virtual year may take: it takes under a second, but tests are debug builds that share their cores.
const YEAR_TAKES_AT_MOST: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_year_passes_with_an_archive_a_notice_and_a_resume() {
    let patience = Patience::default();
    let app = App::configured([("SUSPENSIONS_LONGEST", "180days")], &one()).await;
    app.listener.always_answers(503);
    let request = app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("29days").await;
    assert_eq!(app.request(&request).await["callbacks"]["archived"], 1);
    app.listener.always_answers(200);
    app.settle_for("2days").await;
    let gone = app.call(hyper::Method::GET, &format!("/api/reveille/v1/requests/{request}"), None).await;
    assert_eq!(gone.status, 404, "the archive is kept for 30 days");
    app.settle_for("334days").await;
    assert_eq!(state(&app).await, "ACTIVE");
    assert!(patience.had() < YEAR_TAKES_AT_MOST, "the year took {:?}", patience.had());
}

#[tokio::test]
async fn history_is_kept_for_ever_or_for_as_long_as_is_configured() {
    for (keep, kept) in [("0s", ["SUSPEND", "ACTIVE"].as_slice()), ("40days", &["ACTIVE"])] {
        let app = App::configured([("KEEP_HISTORY", keep)], &one()).await;
        app.act("profile_suspend", &iccid(1), json!({})).await;
        app.settle_for("20days").await;
        app.resume(&iccid(1)).await;
        app.settle_for("19days").await;
        let states = async || -> Vec<Value> {
            let history = app.get(&format!("/api/reveille/v1/profiles/{}/history", iccid(1))).await;
            let changes = history["history"].as_array().expect("a list").clone();
            changes.into_iter().map(|change| change["to"].clone()).collect()
        };
        assert_eq!(states().await, ["SUSPEND", "ACTIVE"], "{keep}: none is 40 days old");
        app.settle_for("2days").await;
        assert_eq!(states().await, kept, "{keep}");
        assert_eq!(state(&app).await, "ACTIVE");
    }
}

#[tokio::test]
async fn what_a_network_changes_by_itself_is_recorded_and_told() {
    for (code, expected) in [("17", "SUSPEND"), ("18", "DEACTIVE")] {
        let profile = format!("890000{code}000000000001");
        let app = App::with_fleet(&format!("{profile} global suspended euicc=1\n")).await;
        let outside = app.another_listener().await;
        app.register_for("ExternalProvisioningChanges", ACCOUNT, &outside).await;
        app.resume(&profile).await;
        app.settle().await;
        assert_eq!(app.profile(&profile).await["state"], "ACTIVE");
        app.settle_for("2m").await;
        assert_eq!(app.profile(&profile).await["state"], expected);
        let [told] = &outside.bodies()[..] else { panic!("one message") };
        assert_eq!(told["status"], "SUCCESS");
        assert_eq!(told["deviceResponse"]["deviceProfileResponse"]["state"], expected);
        assert_eq!(app.listener.bodies().len(), 1, "the other listener hears of the resume alone");
        let history = app.get(&format!("/api/reveille/v1/profiles/{profile}/history")).await;
        assert_eq!(
            (&history["history"][1]["action"], &history["history"][1]["user"]),
            (&json!("external_change"), &json!("reveille"))
        );
    }
}

/// A Global profile whose network changes it by itself a minute after each of its resumes, beside a LEAD.
async fn changing_outside(behaviours: &[&str]) -> App {
    let (lead, global) = (iccid(1), iccid(2));
    let entry = |what: &&str| format!(r#"{{ iccid_prefix = "{global}", behaviour = "{what}", times = 1 }}"#);
    let mut entries: Vec<String> = Vec::new();
    for (nth, behaviour) in behaviours.iter().enumerate() {
        if nth > 0 {
            entries.push(entry(&"always-done")); // the suspension between two resumes
        }
        entries.push(entry(behaviour));
    }
    let script = format!("[{}]", entries.join(", "));
    let fleet =
        format!("{lead} verizon-us active euicc=1\n{global} global suspended euicc=1 status=DISABLE\n");
    let app = App::configured([("CARRIERS_GLOBAL_SCRIPT", script.as_str())], &fleet).await;
    for nth in 0..behaviours.len() {
        if nth > 0 {
            app.act("profile_suspend", &global, json!({})).await;
        }
        app.resume(&global).await;
        app.settle_for("10s").await;
    }
    app
}

/// Has the eUICC wait for the LEAD's carrier, until the reports of the next two minutes wait behind it.
async fn behind_the_lead(app: &App) {
    app.hold("verizon-us").await;
    app.act("serviceplan", &iccid(1), json!({"servicePlan": "Verizon IoT 5MB"})).await;
    app.settle_for("2m").await;
    app.release("verizon-us").await;
    app.settle().await;
}

#[tokio::test]
async fn two_reports_that_wait_behind_a_slow_operation_both_count() {
    let app = changing_outside(&["suspended-outside", "deactivated-outside"]).await;
    behind_the_lead(&app).await;
    assert_eq!(app.profile(&iccid(2)).await["state"], "DEACTIVE");
}

#[tokio::test]
async fn a_report_of_what_is_recorded_counts_where_another_waits_before_it() {
    let app = changing_outside(&["suspended-outside", "deactivated-outside", "suspended-outside"]).await;
    app.act("profile_suspend", &iccid(2), json!({})).await;
    app.settle().await;
    behind_the_lead(&app).await;
    assert_eq!(app.profile(&iccid(2)).await["state"], "SUSPEND");
}

#[tokio::test]
async fn a_change_of_plan_does_not_overtake_a_report_of_the_state() {
    let app = changing_outside(&["suspended-outside"]).await;
    app.hold("global").await;
    app.act("serviceplan", &iccid(2), json!({"servicePlan": "Global IoT 50MB"})).await;
    app.settle_for("2m").await;
    app.release("global").await;
    app.settle().await;
    let recorded = app.profile(&iccid(2)).await;
    assert_eq!(
        (&recorded["state"], &recorded["servicePlan"]),
        (&json!("SUSPEND"), &json!("Global IoT 50MB"))
    );
}

#[tokio::test]
async fn a_report_that_an_operation_has_overtaken_changes_nothing_and_is_not_told_as_a_change() {
    let app = changing_outside(&["suspended-outside"]).await;
    let outside = app.another_listener().await;
    app.register_for("ExternalProvisioningChanges", ACCOUNT, &outside).await;
    app.hold("global").await;
    app.act("deactivate", &iccid(2), json!({})).await;
    app.settle_for("2m").await;
    app.release("global").await;
    app.settle().await;
    assert_eq!(app.profile(&iccid(2)).await["state"], "DEACTIVE");
    let [told] = &outside.bodies()[..] else { panic!("one message") };
    assert_eq!(told["status"], "Failed");
}

#[tokio::test]
async fn what_is_suspended_with_its_device_stays_so_when_its_network_reports_a_suspension() {
    let app = changing_outside(&["suspended-outside"]).await;
    let outside = app.another_listener().await;
    app.register_for("ExternalProvisioningChanges", ACCOUNT, &outside).await;
    app.act("device_suspend", &eid(1), json!({})).await;
    app.settle_for("2m").await;
    assert_eq!(app.profile(&iccid(2)).await["suspendedBy"], "device");
    assert!(outside.bodies().is_empty(), "nothing has changed");
}

/// Suspends for that long, then has a resume and another suspension wait for a held carrier, with what the
/// server asks of itself in the two days after behind them.
async fn suspended_anew_after(days: &str) -> (App, Listener) {
    let app = App::configured([LONGEST], &one()).await;
    let tracking = app.another_listener().await;
    app.register_for("ResumeTrackingNotification", ACCOUNT, &tracking).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for(days).await;
    app.hold("global").await;
    app.resume(&iccid(1)).await;
    app.act("profile_suspend", &iccid(1), json!({})).await;
    app.settle_for("2days").await;
    app.release("global").await;
    app.settle().await;
    (app, tracking)
}

#[tokio::test]
async fn the_end_of_one_suspension_does_not_lift_the_next() {
    let (app, _tracking) = suspended_anew_after("89days").await;
    assert_eq!(state(&app).await, "SUSPEND");
    app.settle_for("89days").await;
    assert_eq!(state(&app).await, "SUSPEND");
    app.settle_for("2days").await;
    assert_eq!(state(&app).await, "ACTIVE");
}

#[tokio::test]
async fn the_notice_of_one_suspension_is_none_of_the_next() {
    let (app, tracking) = suspended_anew_after("82days").await;
    let notices = || -> Vec<Value> {
        let bodies = tracking.bodies().into_iter();
        bodies.map(|body| body["deviceResponse"]["resumeTrackingResponse"]["resumesAt"].clone()).collect()
    };
    assert!(notices().iter().all(Value::is_null), "{:?}", notices());
    app.settle_for("85days").await;
    assert_eq!(notices().last(), Some(&json!("2026-06-24T00:00:00.000Z")));
    assert_eq!(state(&app).await, "SUSPEND");
}
