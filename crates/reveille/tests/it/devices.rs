//! Devices as a whole: each profile on the eUICC, then the device itself.

use crate::app::App;
use crate::fleet::{eid, iccid};
use serde_json::{Value, json};

/// What a callback is about and says: the last digit of the ICCID or `device`, and its state or fault.
fn said(body: &Value) -> String {
    let ids = body["deviceIds"].as_array().unwrap();
    let own = ids.iter().find(|id| id["kind"] == "Iccid").map(|id| id["id"].as_str().unwrap());
    let about = own.map_or("device", |iccid| &iccid[iccid.len() - 1..]);
    let left = &body["deviceResponse"]["deviceProfileResponse"]["state"];
    let fault = body["faultResponse"]["faultcode"].as_str().map(|code| code.rsplit('.').next().unwrap());
    format!("{about} {}", left.as_str().or(fault).unwrap())
}

/// What was told of a request: the profiles in any order, the device where it came.
fn told(app: &App, request: &str) -> Vec<String> {
    let mut told: Vec<String> = app.told_of(request).iter().map(said).collect();
    told.sort();
    told
}

async fn act(app: &App, action: &str) -> Vec<String> {
    let request = app.act(action, &eid(1), json!({})).await;
    app.settle().await;
    told(app, &request)
}

fn three(states: [&str; 3]) -> String {
    let [us, one, two] = states;
    let (us, one, two) = (
        format!("{} verizon-us {us} euicc=1", iccid(1)),
        format!("{} global {one} euicc=1 status=DISABLE", iccid(2)),
        format!("{} global {two} euicc=1 status=DISABLE", iccid(3)),
    );
    format!("{us}\n{one}\n{two}\n")
}

#[tokio::test]
async fn a_suspended_device_comes_back_without_what_was_suspended_on_its_own() {
    let app = App::with_fleet(&three(["active", "suspended", "active"])).await;
    let suspended = act(&app, "device_suspend").await;
    assert_eq!(suspended, ["1 SUSPEND", "2 ProfileAlreadySuspended", "3 SUSPEND", "device SUSPEND"]);
    assert_eq!(app.profile(&iccid(3)).await["suspendedBy"], "device");
    let resumed = act(&app, "device_resume").await;
    assert_eq!(resumed, ["1 ACTIVE", "2 Invalid", "3 ACTIVE", "device ACTIVE"]);
    assert_eq!(app.profile(&iccid(2)).await["suspendedBy"], "profile");
    let again = act(&app, "device_resume").await;
    let already = "ProfileAlreadyResumed";
    assert_eq!(
        again,
        [format!("1 {already}"), "2 Invalid".into(), format!("3 {already}"), format!("device {already}")]
    );
}

#[tokio::test]
async fn a_device_fails_where_every_profile_did_and_has_their_fault_where_it_is_one() {
    let app = App::with_fleet(&three(["suspended", "suspended", "suspended"])).await;
    let already = "ProfileAlreadySuspended";
    let expected = ["1", "2", "3", "device"].map(|about| format!("{about} {already}"));
    assert_eq!(act(&app, "device_suspend").await, expected, "Q10");
    let app = App::with_fleet(&three(["suspended", "deactive", "suspended"])).await;
    let mixed = act(&app, "device_suspend").await;
    assert_eq!(mixed[3], "device DeviceActionFailed", "{mixed:?}");
}

#[tokio::test]
async fn the_devices_own_outcome_is_recorded_last_whatever_is_slow() {
    let app = App::with_fleet(&three(["active", "active", "active"])).await;
    app.hold("global").await;
    let request = app.act("device_suspend", &eid(1), json!({})).await;
    app.settle().await;
    let states = async || {
        let all = app.subrequests(&request).await;
        all.iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["succeeded", "waiting", "waiting", "waiting"]);
    app.release("global").await;
    app.settle().await;
    assert_eq!(states().await, ["succeeded"; 4]);
    let subrequests = app.subrequests(&request).await;
    assert_eq!((&subrequests[3]["eid"], &subrequests[3]["iccid"]), (&json!(eid(1)), &Value::Null));
    let order: Vec<String> = app.told_of(&request).iter().map(said).collect();
    assert_eq!(order.last().map(String::as_str), Some("device SUSPEND"));
    let status =
        app.get(&format!("/api/m2m/v2/accounts/{}/requests/{request}/status", crate::app::ACCOUNT)).await;
    assert_eq!(status["status"], "Success");
    assert_eq!(status["subRequests"][3]["ids"][0], json!({"id": eid(1), "kind": "eid"}));
}

#[tokio::test]
async fn the_devices_own_message_has_the_device_alone() {
    let fleet = format!("{} verizon-us active euicc=1 imei=353456789012345 msisdn=15551234567\n", iccid(1));
    let app = App::with_fleet(&fleet).await;
    let request = app.act("device_suspend", &eid(1), json!({})).await;
    app.settle().await;
    let own = app.told_of(&request).into_iter().find(|body| said(body).starts_with("device")).unwrap();
    let ids = json!([{"id": eid(1), "kind": "Eid"}, {"id": "353456789012345", "kind": "Imei"}]);
    let response = json!({"deviceIdentifierCollection": ids, "state": "SUSPEND"});
    let expected = json!({
        "requestId": request, "deviceIds": ids, "deviceResponse": {"deviceProfileResponse": response},
        "status": "SUCCESS", "callbackCount": 1, "maxCallbackThreshold": 4,
    });
    assert_eq!(own, expected);
}

#[tokio::test]
async fn an_unknown_device_is_told_by_its_eid_and_a_wrong_imei_is_found() {
    let app =
        App::with_fleet(&format!("{} verizon-us active euicc=1 imei=353456789012345\n", iccid(1))).await;
    let unknown = app.act("device_suspend", &eid(9), json!({})).await;
    app.settle().await;
    let told = app.told_of(&unknown);
    assert_eq!(told[0]["deviceIds"], json!([{"id": eid(9), "kind": "Eid"}]));
    assert_eq!(told[0]["faultResponse"]["faultcode"], "UnifiedWebService.REQUEST_FAILED.DeviceNotFound");
    let ids = json!([{"kind": "eid", "id": eid(1)}, {"kind": "imei", "id": "353456789012346"}]);
    let body = json!({"devices": [{"deviceIds": ids}], "accountName": crate::app::ACCOUNT});
    let answer = app.post(&crate::app::action_path("device_suspend"), body).await;
    app.settle().await;
    let told = app.told_of(answer["requestId"].as_str().unwrap());
    let code = &told[0]["faultResponse"]["faultcode"];
    assert_eq!((told.len(), code), (1, &json!("UnifiedWebService.INPUT_INVALID.Device.Identifier.Invalid")));
}

#[tokio::test]
async fn a_half_done_device_action_goes_on_after_a_restart_with_the_device_last() {
    let mut app = App::with_fleet(&three(["active", "active", "active"])).await;
    app.hold("global").await;
    let request = app.act("device_suspend", &eid(1), json!({})).await;
    app.settle().await;
    app.restart().await;
    app.release("global").await;
    app.settle().await;
    assert_eq!(told(&app, &request), ["1 SUSPEND", "2 SUSPEND", "3 SUSPEND", "device SUSPEND"]);
}

#[tokio::test]
async fn a_cancelled_device_action_concludes_from_what_became_of_its_profiles() {
    let app = App::with_fleet(&three(["active", "active", "active"])).await;
    app.hold("global").await;
    let request = app.act("device_suspend", &eid(1), json!({})).await;
    app.settle().await;
    app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    app.settle().await;
    let cancelled = "REQUEST_CANCELLED";
    let expected = [
        "1 SUSPEND".to_owned(),
        format!("2 {cancelled}"),
        format!("3 {cancelled}"),
        "device ACTIVE".to_owned(),
    ];
    assert_eq!(told(&app, &request), expected, "one of them was suspended");
}

#[tokio::test]
async fn a_device_action_that_was_cancelled_as_a_whole_fails_as_cancelled() {
    let globals = |n: usize| {
        let (one, two) = (iccid(2 * n), iccid(2 * n + 1));
        format!("{one} global active euicc={n}\n{two} global active euicc={n} status=DISABLE\n")
    };
    let app = App::with_fleet(&(1..=50).map(globals).collect::<String>()).await;
    app.hold("global").await;
    let eids: Vec<String> = (1..=50).map(eid).collect();
    let request = app.act("device_suspend", &eids.join(" "), json!({})).await;
    app.settle().await;
    app.post(&format!("/api/reveille/v1/requests/{request}/cancel"), json!({})).await;
    app.settle_for("1s").await;
    assert_eq!(app.request(&request).await["faults"], json!({"REQUEST_CANCELLED": 150}));
}

#[tokio::test]
async fn ten_devices_in_one_request_each_have_their_set() {
    let fleet: String = (1..=10)
        .map(|n| {
            let (us, global) = (iccid(n), iccid(100 + n));
            format!("{us} verizon-us active euicc={n}\n{global} global active euicc={n} status=DISABLE\n")
        })
        .collect();
    let app = App::with_fleet(&fleet).await;
    let eids: Vec<String> = (1..=10).map(eid).collect();
    let request = app.act("device_suspend", &eids.join(" "), json!({})).await;
    app.settle().await;
    let view = app.request(&request).await;
    assert_eq!((&view["subrequests"], &view["succeeded"]), (&json!(30), &json!(30)));
    assert_eq!(app.told_of(&request).len(), 30);
}
