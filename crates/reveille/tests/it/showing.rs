//! What is going on can be seen while it goes on.

use crate::app::{ACCOUNT, App};
use crate::fleet;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// The next event of a stream: its name and what it carries; nothing at the end.
async fn event(stream: &mut Incoming) -> Option<(String, Value)> {
    loop {
        let frame = stream.frame().await?.expect("a whole stream");
        let bytes = frame.into_data().expect("no trailers");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(ToOwned::to_owned);
        if let Some(name) = line("event: ") {
            let carried = serde_json::from_str(&line("data: ").expect("an event carries the request"));
            return Some((name, carried.expect("as JSON")));
        }
    }
}

#[tokio::test]
async fn a_followed_request_begins_with_its_counts_and_ends_with_ended() {
    let iccids = fleet::iccids(0, 3);
    let keys = [("CARRIERS_GLOBAL_LATENCY", "1s"), ("CARRIERS_GLOBAL_CONCURRENCY", "1")];
    let app = App::configured(keys, &fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle_for("1s").await;
    let caller = app.log_in("demo", "demo-password").await;
    let mut stream = caller.stream(&format!("/api/reveille/v1/requests/{request}/events")).await;
    let (name, first) = event(&mut stream).await.unwrap();
    assert_eq!((name.as_str(), &first["succeeded"], &first["waiting"]), ("progress", &json!(1), &json!(2)));
    app.settle_for("1m").await;
    let mut last = (name, first);
    while let Some(next) = event(&mut stream).await {
        assert!(next.1["succeeded"].as_u64() >= last.1["succeeded"].as_u64());
        last = next;
    }
    assert_eq!(
        (last.0.as_str(), &last.1["succeeded"], &last.1["state"]),
        ("ended", &json!(3), &json!("ended"))
    );
}

#[tokio::test]
async fn a_request_that_has_ended_is_followed_to_its_end_at_once() {
    let app = App::with_fleet("89148000000000000019 global suspended").await;
    let request = app.resume("89148000000000000019").await;
    app.settle().await;
    let caller = app.log_in("demo", "demo-password").await;
    let mut stream = caller.stream(&format!("/api/reveille/v1/requests/{request}/events")).await;
    assert_eq!(event(&mut stream).await.unwrap().0, "ended");
    assert_eq!(event(&mut stream).await, None);
}

#[tokio::test]
async fn the_history_of_a_profile_says_which_request_changed_it() {
    let app = App::with_fleet("89148000000000000019 global suspended").await;
    let request = app.resume("89148000000000000019").await;
    app.settle().await;
    let history = app.get("/api/reveille/v1/profiles/89148000000000000019/history").await;
    let entry = json!({
        "at": "2026-01-01T00:00:00.000Z", "requestId": request, "number": 1, "action": "profile_resume",
        "user": "demo", "from": "SUSPEND", "to": "ACTIVE", "fromStatus": "ENABLE", "toStatus": "ENABLE",
        "inDoubt": false,
    });
    assert_eq!(history["history"], json!([entry]));
}

#[tokio::test]
async fn lists_are_read_to_their_end_a_page_at_a_time() {
    let iccids = fleet::iccids(0, 25);
    let app = App::with_fleet(&fleet::of(&iccids, "global suspended")).await;
    let request = app.resume(&iccids).await;
    app.settle().await;
    let lists = [
        (format!("/api/reveille/v1/profiles?account={ACCOUNT}&limit=10"), "profiles"),
        (format!("/api/reveille/v1/requests/{request}/subrequests?limit=10"), "subrequests"),
        (format!("/api/reveille/v1/callbacks?account={ACCOUNT}&limit=10"), "callbacks"),
    ];
    for (first, member) in lists {
        let mut seen = Vec::new();
        let mut path = first.clone();
        loop {
            let page = app.get(&path).await;
            seen.extend(
                page[member].as_array().unwrap().iter().map(|one| one["iccid"].as_str().unwrap().to_owned()),
            );
            let separator = if first.contains('?') { '&' } else { '?' };
            match &page["next"] {
                Value::String(next) => path = format!("{first}{separator}after={next}"),
                Value::Number(next) => path = format!("{first}{separator}after={next}"),
                _ => break,
            }
        }
        assert_eq!(seen.join(" "), iccids, "{member}");
    }
}

#[tokio::test]
async fn the_counts_of_the_metrics_outlast_a_restart() {
    let mut app = App::with_fleet("89148000000000000019 global suspended").await;
    app.hold("global").await;
    app.resume("89148000000000000019").await;
    let waiting = |metrics: &Value| {
        let line =
            metrics.as_str().unwrap().lines().find(|line| {
                line.starts_with("reveille_") && line.contains("waiting") && line.ends_with(" 1")
            });
        line.map(ToOwned::to_owned)
    };
    let before = waiting(&app.stranger().get("/metrics").await.body);
    assert!(before.is_some(), "one subrequest waits");
    app.restart().await;
    assert_eq!(waiting(&app.stranger().get("/metrics").await.body), before);
    app.release("global").await;
    app.settle().await;
}

#[tokio::test]
async fn a_network_is_asked_how_a_profile_truly_is() {
    let (known, untouched) = (crate::fleet::iccid(1), crate::fleet::iccid(2));
    let script = format!(r#"[{{ iccid_prefix = "{known}", behaviour = "done-never-answered" }}]"#);
    let keys = [("CARRIERS_GLOBAL_SCRIPT", script.as_str()), ("CARRIERS_GLOBAL_GIVE_UP_AFTER", "1m")];
    let fleet = format!("{known} global suspended\n{untouched} global suspended\n");
    let app = App::configured(keys, &fleet).await;
    let on_network = async |iccid: &str| app.get(&format!("/api/reveille/v1/profiles/{iccid}/network")).await;
    app.resume(&known).await;
    app.settle().await;
    let seen = on_network(&known).await;
    let expected = json!({"network": "global", "answer": "seen", "inService": true, "agrees": false});
    assert_eq!(seen, expected, "done, unheard, and not recorded");
    assert_eq!(on_network(&untouched).await, json!({"network": "global", "answer": "seen"}));
    let stranger = app.log_in("other", "other-password").await;
    let hidden = stranger.get(&format!("/api/reveille/v1/profiles/{known}/network")).await;
    assert_eq!(hidden.status, 404);
    app.settle_for("30m").await;
    assert_eq!(on_network(&known).await["agrees"], true, "it was asked before it was given up");
}
