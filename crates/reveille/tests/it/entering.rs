//! Who may come in: tokens, sessions, locked users and new passwords, by the clock of the contract.

use crate::app::{ACCOUNT, App, RESUME, resume_body};
use crate::caller::Answer;
use hyper::Method;
use serde_json::json;

const PROFILES: &str = "/api/reveille/v1/profiles?account=0000123456-00001";
const RESET: &str = "/api/m2m/v1/session/password/actions/reset";
const FORM: &str = "grant_type=client_credentials";

fn expires_in(answer: &Answer) -> u64 {
    answer.body["expires_in"].as_u64().expect("expires_in is an integer")
}

#[tokio::test]
async fn a_token_lives_an_hour_and_is_the_same_within_it() {
    let app = App::with_fleet("").await;
    let mut caller = app.stranger();
    let first = caller.get_token("demo-key", "demo-secret").await;
    assert_eq!((expires_in(&first), &first.body["token_type"]), (3_600, &json!("Bearer")));
    assert!(first.body["scope"].is_string());
    app.settle_for("59m").await;
    let again = caller.get_token("demo-key", "demo-secret").await;
    assert_eq!(again.body["access_token"], first.body["access_token"]);
    assert_eq!(expires_in(&again), 60);
    caller.log_in("demo", "demo-password").await;
    assert_eq!(caller.get(PROFILES).await.status, 200);
    app.settle_for("1m").await;
    let expired = caller.get(PROFILES).await;
    assert_eq!((expired.status, &expired.body["fault"]["code"]), (401, &json!("900901")));
    let new = caller.get_token("demo-key", "demo-secret").await;
    assert_ne!(new.body["access_token"], first.body["access_token"]);
    assert_eq!(expires_in(&new), 3_600);
    assert_eq!(caller.get(PROFILES).await.status, 200, "the session goes on under the client's new token");
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_the_next_is_another() {
    let app = App::with_fleet("").await;
    let mut caller = app.log_in("demo", "demo-password").await;
    let token = caller.bearer.clone();
    let form = format!("{FORM}&token={token}");
    let revoked = caller.token_call("revoke", "demo-key", "demo-secret", &form).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(caller.get(PROFILES).await.status, 401);
    caller.get_token("demo-key", "demo-secret").await;
    assert_ne!(caller.bearer, token);
    assert_eq!(caller.get(PROFILES).await.status, 200);
}

#[tokio::test]
async fn a_token_needs_the_clients_key_and_secret() {
    let app = App::with_fleet("").await;
    let caller = app.stranger();
    for (key, secret) in [("demo-key", "wrong"), ("no-such-key", "demo-secret")] {
        let refused = caller.token_call("token", key, secret, FORM).await;
        assert_eq!((refused.status, &refused.body["error"]), (401, &json!("invalid_client")));
    }
    let refused = caller.token_call("token", "demo-key", "demo-secret", "").await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn a_session_dies_after_twenty_minutes_without_use() {
    let app = App::with_fleet("").await;
    let caller = app.log_in("demo", "demo-password").await;
    app.settle_for("19m").await;
    assert_eq!(caller.get(PROFILES).await.status, 200);
    app.settle_for("19m").await;
    assert_eq!(caller.get(PROFILES).await.status, 200, "each use extends it");
    app.settle_for("20m").await;
    let expired = caller.get(PROFILES).await;
    assert_eq!((expired.status, expired.bracketed()), (401, "REQUEST_FAILED.SessionToken.Expired"));
    let listeners = format!("/api/m2m/v1/callbacks/{ACCOUNT}");
    assert_eq!(
        caller.get(&listeners).await.error_code(),
        "UnifiedWebService.REQUEST_FAILED.SessionToken.Expired"
    );
}

#[tokio::test]
async fn a_use_extends_a_session_also_across_a_restart() {
    let mut app = App::with_fleet("").await;
    let caller = app.log_in("demo", "demo-password").await;
    app.settle_for("15m").await;
    assert_eq!(caller.get(PROFILES).await.status, 200);
    app.restart().await;
    app.settle_for("15m").await;
    assert_eq!(caller.at(app.server().address()).get(PROFILES).await.status, 200);
}

#[tokio::test]
async fn a_session_ends_with_its_logout_and_earlier_requests_are_told_all_the_same() {
    let app =
        App::configured([("CARRIERS_GLOBAL_LATENCY", "1s")], "89148000000000000019 global suspended").await;
    let caller = app.log_in("demo", "demo-password").await;
    let second = app.log_in("demo", "demo-password").await;
    caller.post(RESUME, &resume_body(ACCOUNT, "89148000000000000019")).await;
    let ended = caller.call(Method::POST, "/api/m2m/v1/session/logout", None).await;
    assert_eq!(ended.body, json!({"sessionToken": caller.session}));
    assert_eq!(caller.get(PROFILES).await.bracketed(), "INPUT_INVALID.SessionToken.Invalid");
    assert_eq!(second.get(PROFILES).await.status, 200, "other sessions of the user go on");
    app.settle_for("1m").await;
    assert_eq!(app.listener.callback_counts(), [1]);
}

#[tokio::test]
async fn a_session_works_with_tokens_of_its_own_client_alone() {
    let app = App::with_fleet("").await;
    let mut caller = app.log_in("demo", "demo-password").await;
    caller.get_token("other-key", "other-secret").await;
    assert_eq!(caller.get(PROFILES).await.bracketed(), "INPUT_INVALID.SessionToken.Invalid");
    caller.session.clear();
    assert_eq!(caller.get(PROFILES).await.bracketed(), "REQUEST_FAILED.SessionToken.Format");
    caller.bearer.clear();
    assert_eq!(caller.get(PROFILES).await.body["fault"]["code"], "900902");
}

#[tokio::test]
async fn five_failed_logins_lock_a_user_until_it_is_unlocked() {
    let app = App::with_fleet("").await;
    let mut caller = app.stranger();
    caller.get_token("demo-key", "demo-secret").await;
    for _ in 0..5 {
        let refused = caller.log_in("demo", "wrong").await;
        assert_eq!(refused.error_code(), "UnifiedWebService.REQUEST_FAILED.Login.Invalid");
    }
    let locked = caller.log_in("demo", "demo-password").await;
    assert_eq!(locked.error_code(), "UnifiedWebService.REQUEST_FAILED.Login.Invalid", "nobody learns of it");
    let store = app.second_store();
    assert!(store.unlock("demo").await.unwrap());
    store.close();
    app.settle_for("1s").await;
    assert_eq!(caller.log_in("demo", "demo-password").await.status, 200);
}

#[tokio::test]
async fn a_login_between_failures_counts_them_from_the_start() {
    let app = App::with_fleet("").await;
    let mut caller = app.stranger();
    caller.get_token("demo-key", "demo-secret").await;
    for _ in 0..2 {
        for _ in 0..4 {
            caller.log_in("demo", "wrong").await;
        }
        assert_eq!(caller.log_in("demo", "demo-password").await.status, 200);
    }
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_are_refused_alike() {
    let app = App::with_fleet("").await;
    let mut caller = app.stranger();
    caller.get_token("demo-key", "demo-secret").await;
    let (unknown, wrong) = (caller.log_in("nobody", "wrong").await, caller.log_in("demo", "wrong").await);
    assert_eq!((unknown.status, unknown.body), (wrong.status, wrong.body));
}

#[tokio::test]
async fn a_password_reset_repeated_within_a_minute_answers_the_same_password() {
    let app = App::with_fleet("").await;
    let mut caller = app.log_in("demo", "demo-password").await;
    let reset = json!({"oldPassword": "demo-password"});
    let first = caller.call(Method::PUT, RESET, Some(&reset)).await;
    app.settle_for("59s").await;
    let again = caller.call(Method::PUT, RESET, Some(&reset)).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    app.settle_for("2s").await;
    assert_eq!(caller.call(Method::PUT, RESET, Some(&reset)).await.status, 400);
    assert_eq!(caller.log_in("demo", "demo-password").await.status, 400);
    let new = first.body["newPassword"].as_str().unwrap().to_owned();
    assert_eq!(caller.log_in("demo", &new).await.status, 200);
}
