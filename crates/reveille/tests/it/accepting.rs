//! Promise 1: accepted means durable, and refused means that nothing is left; what a request is accepted as.

use crate::app::{ACCOUNT, App, OTHER_ACCOUNT, RESUME, resume_body};
use reveille_store::{SubrequestFilter, SubrequestState};
use serde_json::{Value, json};

const PROFILE: &str = "89148000000000000019";
const SECOND: &str = "89148000000000000029";
const FLEET: &str = "89148000000000000019 verizon-us suspended\n89148000000000000029 global suspended";

#[tokio::test]
async fn a_request_is_on_disk_with_its_subrequests_when_it_is_answered() {
    let app = App::configured([("DATABASE_SYNCHRONOUS", "full")], FLEET).await;
    app.hold("verizon-us").await;
    app.hold("global").await;
    let request = app.resume(&format!("{PROFILE} {SECOND} 89148000000000009999")).await;
    let store = app.second_store();
    let id = request.parse().unwrap();
    let kept = store.request(id).await.unwrap().expect("another connection finds it");
    assert_eq!((kept.subrequests, kept.head.account.as_str()), (3, ACCOUNT));
    let all = SubrequestFilter { request: id, state: None, fault: None, after: 0, limit: 10 };
    let subrequests = store.subrequests(all).await.unwrap();
    let kept: Vec<_> = subrequests
        .iter()
        .map(|one| (one.number, one.subject.iccid().unwrap().as_str(), one.state))
        .collect();
    assert_eq!(kept[0], (1, PROFILE, SubrequestState::Waiting));
    assert_eq!(kept[1], (2, SECOND, SubrequestState::Waiting));
    assert_eq!((kept[2].0, kept[2].1), (3, "89148000000000009999"));
    store.close();
    app.release("verizon-us").await;
    app.release("global").await;
    app.settle().await;
}

#[tokio::test]
async fn a_refused_request_leaves_nothing_behind() {
    let app = App::with_fleet(FLEET).await;
    let caller = app.log_in("demo", "demo-password").await;
    let malformed =
        |id: &str| json!({"accountName": ACCOUNT, "devices": [{"deviceIds": [{"kind": "iccid", "id": id}]}]});
    let too_many: String = crate::fleet::iccids(0, 10_001);
    for (body, status) in [
        (json!({"accountName": ACCOUNT}), 400),
        (json!({"accountName": ACCOUNT, "devices": []}), 400),
        (json!({"devices": []}), 400),
        (json!({"accountName": ACCOUNT, "devices": [{"deviceIds": [{"kind": "eid", "id": "1"}]}]}), 400),
        (malformed("12"), 400),
        (malformed("8914800000000000001x"), 400),
        (resume_body(OTHER_ACCOUNT, PROFILE), 403),
        (resume_body("0000999999-00001", PROFILE), 403),
        (resume_body(ACCOUNT, &too_many), 400),
    ] {
        let answer = caller.post(RESUME, &body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let unknown = app.stranger().post(RESUME, &resume_body(ACCOUNT, PROFILE)).await;
    assert_eq!(unknown.status, 401);
    app.settle_for("1h").await;
    assert_eq!(app.store().last_sequence().await.unwrap(), 0, "no request was ever kept");
    assert_eq!(app.profile(PROFILE).await["state"], "SUSPEND");
    assert!(app.listener.received().is_empty());
}

#[tokio::test]
async fn a_backlog_over_its_limit_is_refused_and_leaves_nothing() {
    let app = App::configured([("LIMITS_WAITING_PER_ACCOUNT", "1")], FLEET).await;
    app.hold("verizon-us").await;
    app.resume(PROFILE).await;
    let caller = app.log_in("demo", "demo-password").await;
    let refused = caller.post(RESUME, &resume_body(ACCOUNT, SECOND)).await;
    assert_eq!((refused.status, refused.bracketed()), (429, "REQUEST_FAILED.TooManyRequests"));
    assert_eq!(refused.headers["retry-after"], "5");
    app.release("verizon-us").await;
    app.settle().await;
    assert_eq!(app.profile(SECOND).await["state"], "SUSPEND");
    app.resume(SECOND).await;
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1, 1]);
}

#[tokio::test]
async fn a_repeat_under_the_same_key_is_the_same_request_for_a_day() {
    let app = App::with_fleet(FLEET).await;
    let body = resume_body(ACCOUNT, PROFILE);
    let first = app.log_in("demo", "demo-password").await.under_key("key-1").post(RESUME, &body).await;
    app.settle_for("23h").await;
    let again = app.log_in("demo", "demo-password").await.under_key("key-1").post(RESUME, &body).await;
    assert_eq!(again.request_id(), first.request_id());
    app.settle_for("2h").await;
    let later = app.log_in("demo", "demo-password").await.under_key("key-1").post(RESUME, &body).await;
    assert_ne!(later.request_id(), first.request_id());
    app.settle().await;
    let told: Vec<_> = app.listener.bodies().iter().map(|body| body["status"].clone()).collect();
    assert_eq!(told, ["SUCCESS", "Failed"], "the second one found the profile resumed");
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_and_a_refusal_uses_up_no_key() {
    let app = App::with_fleet(FLEET).await;
    let caller = app.log_in("demo", "demo-password").await.under_key("key-1");
    assert_eq!(caller.post(RESUME, &json!({"accountName": ACCOUNT})).await.status, 400);
    let first = caller.post(RESUME, &resume_body(ACCOUNT, PROFILE)).await;
    let other = caller.post(RESUME, &resume_body(ACCOUNT, SECOND)).await;
    assert_eq!((first.status, other.status), (200, 400));
    assert_eq!(other.bracketed(), "INPUT_INVALID.IdempotencyKey");
    let malformed = caller.under_key("with a blank").post(RESUME, &resume_body(ACCOUNT, SECOND)).await;
    assert_eq!(malformed.bracketed(), "INPUT_INVALID.IdempotencyKey");
    app.settle().await;
}

#[tokio::test]
async fn of_two_at_once_under_one_key_one_is_accepted_and_both_are_answered_its_id() {
    let app = App::with_fleet(FLEET).await;
    let caller = app.log_in("demo", "demo-password").await.under_key("key-1");
    let body = resume_body(ACCOUNT, PROFILE);
    let (one, two, three) =
        tokio::join!(caller.post(RESUME, &body), caller.post(RESUME, &body), caller.post(RESUME, &body));
    assert_eq!(one.request_id(), two.request_id());
    assert_eq!(one.request_id(), three.request_id());
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1]);
}

#[tokio::test]
async fn without_a_key_each_call_is_a_request() {
    let app = App::with_fleet(FLEET).await;
    let (one, two) = (app.resume(PROFILE).await, app.resume(PROFILE).await);
    assert_ne!(one, two);
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1, 1]);
}

#[tokio::test]
async fn a_profile_named_twice_is_one_target() {
    let app = App::with_fleet(FLEET).await;
    let request = app.resume(&format!("{PROFILE} {SECOND} {PROFILE}")).await;
    app.settle().await;
    assert_eq!(app.request(&request).await["subrequests"], 2);
    assert_eq!(app.listener.callback_counts(), [1, 1]);
}

#[tokio::test]
async fn a_plan_of_one_network_faults_the_other_half_of_a_mixed_request() {
    let app = App::with_fleet(FLEET).await;
    let plan = json!({"servicePlan": "Verizon IoT 5MB"});
    let request = app.resume_with(&format!("{PROFILE} {SECOND}"), plan).await;
    app.settle().await;
    let view = app.request(&request).await;
    assert_eq!((&view["succeeded"], &view["failed"]), (&json!(1), &json!(1)));
    assert_eq!(view["faults"], json!({"REQUEST_FAILED.Verizon IoT 5MB.NotFound": 1}));
    assert_eq!(app.profile(PROFILE).await["state"], "ACTIVE");
    assert_eq!(app.profile(SECOND).await["state"], "SUSPEND");
}

#[tokio::test]
async fn an_identifier_beside_the_iccid_must_agree_with_the_inventory() {
    let fleet = "89148000000000000019 verizon-us suspended euicc=1 imei=353456789012345 msisdn=15551234567\n\
                 89148000000000000029 verizon-us suspended euicc=2 imei=353456789012346";
    let app = App::with_fleet(fleet).await;
    let ids = |iccid: &str, kind: &str, id: &str| {
        let (first, second) = (json!({"kind": "ICCID", "id": iccid}), json!({"kind": kind, "id": id}));
        json!({"deviceIds": [first, second]})
    };
    let devices =
        json!([ids(PROFILE, "imei", "353456789012345"), ids(SECOND, "Eid", &crate::fleet::eid(1)),]);
    let request = app.post(RESUME, json!({"accountName": ACCOUNT, "devices": devices})).await;
    app.settle().await;
    let request = request["requestId"].as_str().unwrap();
    let states: Vec<_> = app.subrequests(request).await.iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["succeeded", "failed"]);
    assert_eq!(app.request(request).await["faults"], json!({"INPUT_INVALID.Device.Identifier.Invalid": 1}));
    assert_eq!(app.profile(SECOND).await["state"], "SUSPEND");
}

#[tokio::test]
async fn the_contracts_status_calls_tell_how_a_request_is_going() {
    let app = App::configured([("CARRIERS_GLOBAL_LATENCY", "1s")], FLEET).await;
    let request = app.resume(&format!("{PROFILE} {SECOND}")).await;
    app.settle().await;
    let path = format!("/api/m2m/v2/accounts/{ACCOUNT}/requests/{request}/status");
    let ids = |iccid: &str| json!([{"id": iccid, "kind": "iccid"}]);
    let expected = |overall: &str, second: &str| {
        let children =
            json!([{"ids": ids(PROFILE), "status": "Success"}, {"ids": ids(SECOND), "status": second}]);
        json!({"requestId": request, "status": overall, "subRequests": children})
    };
    assert_eq!(app.get(&path).await, expected("Pending", "Pending"));
    app.settle_for("1s").await;
    assert_eq!(app.get(&path).await, expected("Success", "Success"));
    let several = app.log_in("demo", "demo-password").await.get(&path.replace("/v2/", "/v1/")).await;
    assert_eq!(several.status, 400);
}

#[tokio::test]
async fn every_spelling_of_the_path_is_the_same_call() {
    let app = App::with_fleet(FLEET).await;
    for path in [
        "/api/m2m/v1//devices/profile/actions/profile_resume",
        "/v1/devices/profile/actions/profile_resume",
        "/api/v1/devices/profile/actions/profile_resume",
        "/m2m/v1/devices/profile/actions/profile_resume",
    ] {
        let answer: Value = app.post(path, resume_body(ACCOUNT, PROFILE)).await;
        assert_eq!(answer["requestId"].as_str().unwrap().len(), 36);
    }
    app.settle().await;
    assert_eq!(app.listener.received().len(), 4);
}
