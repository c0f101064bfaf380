//! Networks that differ from the record: found, told once, and left as they are.

use crate::app::{ACCOUNT, App};
use serde_json::{Value, json};

const DRIFTS: &str = "8900002300000000017";
const FLEET: &str = "8900002300000000017 global suspended\n89445000000000000027 global suspended";
const COMPARED: [(&str, &str); 2] =
    [("CARRIERS_GLOBAL_COMPARE_RATE", "10"), ("CARRIERS_GLOBAL_COMPARE_EVERY", "10m")];

async fn drifting(app: &App) -> Vec<Value> {
    let page = app.get(&format!("/api/reveille/v1/drift?account={ACCOUNT}")).await;
    page["profiles"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_profile_that_its_network_suspends_unseen_is_told_of_once_and_left_alone() {
    let app = App::configured(COMPARED, FLEET).await;
    let changes = app.another_listener().await;
    app.register_for("ExternalProvisioningChanges", ACCOUNT, &changes).await;
    app.resume(DRIFTS).await;
    app.settle_for("30s").await;
    assert_eq!(drifting(&app).await, [] as [Value; 0], "the network says what is recorded");
    app.settle_for("1h").await;
    let [told] = &changes.bodies()[..] else { panic!("one message, in six rounds: {:?}", changes.bodies()) };
    assert_eq!(told["status"], "SUCCESS");
    assert_eq!(told["deviceResponse"]["deviceProfileResponse"]["state"], "SUSPEND");
    let found = drifting(&app).await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["iccid"], &found[0]["inService"]), (&json!(DRIFTS), &json!(false)));
    assert_eq!(found[0]["requestId"], told["requestId"]);
    assert_eq!(app.profile(DRIFTS).await["state"], "ACTIVE", "the record is left as it is");
    let metrics = app.metrics().await;
    assert!(metrics.contains("reveille_profiles_drifting{carrier=\"global\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_drift_that_ends_and_comes_again_is_told_again() {
    let app = App::configured(COMPARED, FLEET).await;
    let changes = app.another_listener().await;
    app.register_for("ExternalProvisioningChanges", ACCOUNT, &changes).await;
    for turn in 1..=2 {
        app.resume(DRIFTS).await;
        app.settle_for("30m").await;
        assert_eq!((changes.bodies().len(), drifting(&app).await.len()), (turn, 1));
        app.act("profile_suspend", DRIFTS, json!({})).await;
        app.settle_for("30m").await;
        assert_eq!(
            (changes.bodies().len(), drifting(&app).await.len()),
            (turn, 0),
            "both say that it is suspended"
        );
    }
}

#[tokio::test]
async fn a_restart_goes_on_with_comparing_and_tells_nothing_twice() {
    let mut app = App::configured(COMPARED, FLEET).await;
    let changes = app.another_listener().await;
    app.register_for("ExternalProvisioningChanges", ACCOUNT, &changes).await;
    app.resume(DRIFTS).await;
    app.settle_for("30m").await;
    assert_eq!(changes.bodies().len(), 1);
    app.restart().await;
    app.settle_for("1h").await;
    assert_eq!(changes.bodies().len(), 1);
}
