//! Further listeners: each is told what the service's own is told, and none waits for another.

use crate::app::{ACCOUNT, App};
use crate::listener::{Listener, Reply};
use hyper::Method;
use serde_json::{Value, json};

const PROFILE: &str = "89148000000000000019";
const FLEET: &str = "89148000000000000019 verizon-us suspended
                     89148000000000000027 verizon-us suspended";

fn path(name: &str) -> String {
    format!("/api/reveille/v1/listeners/DeviceProfileService/{name}?account={ACCOUNT}")
}

/// Registers one more listener under a name; its URL and name back from the list.
async fn further(app: &App, name: &str) -> Listener {
    let listener = app.another_listener().await;
    let body = json!({"url": listener.url(), "username": name, "password": "secret"});
    let answer = app.call(Method::PUT, &path(name), Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    listener
}

async fn callbacks(app: &App, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/api/reveille/v1/callbacks?account={ACCOUNT}&{query}")).await;
    page["callbacks"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_listener_is_told_every_outcome_once() {
    let app = App::with_fleet(FLEET).await;
    let (noc, erp) = (further(&app, "noc").await, further(&app, "erp").await);
    let request = app.resume(&format!("{PROFILE} 89148000000000000027 89148000000000000035")).await;
    app.settle().await;
    let told = |listener: &Listener| {
        let mut bodies = listener.bodies();
        for body in &mut bodies {
            let members = body.as_object_mut().unwrap();
            members.retain(|name, _| !["username", "password"].contains(&name.as_str()));
        }
        bodies.sort_by_key(ToString::to_string);
        bodies
    };
    assert_eq!(told(&app.listener).len(), 3);
    assert_eq!((told(&noc), told(&erp)), (told(&app.listener), told(&app.listener)));
    assert!(
        noc.bodies()
            .iter()
            .all(|body| (&body["username"], &body["password"]) == (&json!("noc"), &json!("secret")))
    );
    let counted = app.request(&request).await["callbacks"].clone();
    assert_eq!(
        counted,
        json!({"waiting": 0, "delivered": 3, "archived": 0}),
        "the own listener's are counted"
    );
    let ids: Vec<_> =
        callbacks(&app, "listener=noc").await.into_iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, (1..=3).map(|number| json!(format!("{request}.{number}.noc"))).collect::<Vec<_>>());
    let one = app.get(&format!("/api/reveille/v1/callbacks/{request}.1.noc")).await;
    assert_eq!((&one["listener"], &one["state"]), (&json!("noc"), &json!("delivered")));
    assert_eq!(callbacks(&app, "").await.len(), 3);
}

#[tokio::test]
async fn a_dead_listener_delays_its_own_callbacks_alone() {
    let app = App::with_fleet(FLEET).await;
    let (noc, erp) = (further(&app, "noc").await, further(&app, "erp").await);
    noc.always_answers(Reply::Hangs);
    let request = app.resume(PROFILE).await;
    app.settle_for("3s").await;
    assert_eq!((app.listener.callback_counts(), erp.callback_counts()), (vec![1], vec![1]));
    app.settle_for("1d").await;
    assert_eq!(noc.callback_counts(), [1, 2, 3, 4]);
    assert_eq!(callbacks(&app, "state=archived").await, Vec::<Value>::new());
    let archived = callbacks(&app, "state=archived&listener=noc").await;
    assert_eq!(archived[0]["id"], format!("{request}.1.noc"));

    noc.always_answers(200);
    let replay = json!({"account": ACCOUNT, "listener": "noc"});
    assert_eq!(app.post("/api/reveille/v1/callbacks/replay", replay).await["replayed"], 1);
    app.settle().await;
    assert_eq!(noc.callback_counts(), [1, 2, 3, 4, 1]);
    assert_eq!((app.listener.callback_counts(), erp.callback_counts()), (vec![1], vec![1]));
    let timeline = app.get(&format!("/api/reveille/v1/profiles/{PROFILE}/timeline")).await.to_string();
    assert!(timeline.contains("noc: series 1, callbackCount 4") && timeline.contains("erp: "), "{timeline}");
}

#[tokio::test]
async fn what_waits_for_a_listener_that_is_deregistered_is_archived() {
    let app = App::with_fleet(FLEET).await;
    let noc = further(&app, "noc").await;
    noc.always_answers(503);
    app.resume(PROFILE).await;
    app.settle_for("6m").await;
    let answer = app.call(Method::DELETE, &path("noc"), None).await;
    assert_eq!((answer.status, answer.body["listeners"].as_array().unwrap().len()), (200, 1));
    app.resume("89148000000000000027").await;
    app.settle_for("1d").await;
    assert_eq!(noc.callback_counts(), [1, 2]);
    let ends: Vec<_> =
        callbacks(&app, "listener=noc").await.iter().map(|one| one["archived"].clone()).collect();
    assert_eq!(ends, ["no_listener"]);
    assert_eq!(app.call(Method::DELETE, &path("noc"), None).await.status, 404);
}

#[tokio::test]
async fn thingspaces_calls_know_the_own_listener_alone() {
    let app = App::with_fleet(FLEET).await;
    let noc = further(&app, "noc").await;
    let path = format!("/api/m2m/v1/callbacks/{ACCOUNT}");
    let listed = app.get(&path).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["url"], app.listener.url());
    let own = format!("{path}/name/DeviceProfileService");
    assert_eq!(app.call(Method::DELETE, &own, None).await.status, 200);
    app.resume(PROFILE).await;
    app.settle().await;
    assert_eq!((noc.callback_counts(), app.listener.callback_counts()), (vec![1], vec![]));
    assert_eq!(callbacks(&app, "").await[0]["archived"], "no_listener", "the own one was told nothing");
    let listed = app.get(&format!("/api/reveille/v1/listeners?account={ACCOUNT}")).await;
    assert_eq!(listed["listeners"][0]["name"], "noc");
    assert!(listed["listeners"][0].get("password").is_none());
}

#[tokio::test]
async fn a_further_listener_that_cannot_be_is_refused() {
    let app = App::with_fleet(FLEET).await;
    let good = json!({"url": app.listener.url()});
    let put = async |path: &str, body: &Value| app.call(Method::PUT, path, Some(body)).await;
    for (path, body, why) in [
        (path("NOC"), good.clone(), "lower-case"),
        (path("much-too-long-a-name"), good.clone(), "1 to 16"),
        (path("noc"), json!({"url": "ftp://127.0.0.1/"}), "url"),
        (path("noc"), json!({}), "url"),
        (path("noc").replace("DeviceProfileService", "NoService"), good.clone(), "callback services"),
        (path("noc"), json!({"url": app.listener.url(), "password": "p".repeat(41)}), "40"),
    ] {
        let answer = put(&path, &body).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.body["errorMessage"].as_str().unwrap().contains(why), "{path}: {}", answer.body);
    }
    for number in 1..=8 {
        assert_eq!(put(&path(&format!("no-{number}")), &good).await.status, 200);
    }
    assert_eq!(put(&path("no-1"), &good).await.status, 200, "that one is replaced");
    let answer = put(&path("no-9"), &good).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["errorMessage"].as_str().unwrap().contains("at most 8"), "{}", answer.body);
    let foreign = path("noc").replace(ACCOUNT, "0000999999-00009");
    assert_eq!(
        put(&foreign, &good).await.status,
        put(&path("x").replace(ACCOUNT, "nobody-1"), &good).await.status
    );
}
