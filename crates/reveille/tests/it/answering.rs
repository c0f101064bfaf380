//! Questions that are answered by callback, and the same at once on Reveille's own surface.

use crate::app::{ACCOUNT, App};
use crate::fleet::{self, eid, iccid};
use hyper::Method;
use serde_json::{Value, json};

const LIST: &str = "/api/m2m/v2/devices/actions/list";
const HISTORY: &str = "/api/m2m/v2/devices/history/actions/list";

/// Asks, and gives the pages in their order.
async fn pages(app: &App, path: &str, more: Value) -> Vec<Value> {
    let mut body = json!({"accountName": ACCOUNT});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = app.post(path, body).await;
    app.settle().await;
    let told = app.told_of(answer["requestId"].as_str().unwrap());
    let mut pages: Vec<Value> = told
        .into_iter()
        .map(|body| {
            assert_eq!(body["status"], "SUCCESS", "{body}");
            assert_eq!(body["deviceIds"], Value::Null, "{body}");
            body["deviceResponse"].as_object().unwrap().values().next().unwrap().clone()
        })
        .collect();
    pages.sort_by_key(|page| page["page"].as_u64());
    for (at, page) in (1..).zip(&pages) {
        assert_eq!(
            (page["page"].as_u64(), page["pages"].as_u64()),
            (Some(at), u64::try_from(pages.len()).ok())
        );
    }
    pages
}

/// The ICCIDs that a list names, by their last digits.
fn named(pages: &[Value]) -> Vec<usize> {
    let devices = pages.iter().flat_map(|page| page["devices"].as_array().unwrap());
    let iccid = |device: &Value| device["deviceIds"].as_array().unwrap().last().unwrap()["id"].clone();
    devices.map(|device| iccid(device).as_str().unwrap()[10..].parse().unwrap()).collect()
}

fn some() -> String {
    let (one, two, three, four) = (iccid(1), iccid(2), iccid(3), iccid(4));
    format!(
        "{one} verizon-us active euicc=1 imei=353456789012345 msisdn=15551234567\n\
         {two} global suspended euicc=1 status=DISABLE\n{three} global active euicc=3 plan=Global_IoT_5MB\n\
         {four} global active account=0000123456-00002\n"
    )
}

#[tokio::test]
async fn a_list_comes_by_callback_with_what_is_recorded() {
    let app = App::with_fleet(&some()).await;
    let pages = pages(&app, LIST, json!({})).await;
    assert_eq!(named(&pages), [1, 2, 3], "and nothing of another account");
    let ids = json!([
        {"id": eid(1), "kind": "Eid"}, {"id": "353456789012345", "kind": "Imei"},
        {"id": "15551234567", "kind": "msisdn"}, {"id": iccid(1), "kind": "Iccid"},
    ]);
    let expected = json!({
        "deviceIds": ids, "accountName": ACCOUNT, "carrierName": "Verizon Wireless", "state": "ACTIVE",
        "profileStatus": "ENABLE", "profileRole": "LEAD",
    });
    assert_eq!(pages[0]["devices"][0], expected);
    assert_eq!(pages[0]["devices"][2]["servicePlan"], "Global IoT 5MB");
}

#[tokio::test]
async fn filters_choose_what_a_list_names() {
    let app = App::with_fleet(&some()).await;
    let device = |kind: &str, id: &str| json!({"deviceFilter": [{"kind": kind, "id": id}]});
    for (filter, expected) in [
        (json!({"provisioningStatusFilter": "ACTIVE"}), vec![1, 3]),
        (json!({"provisioningStatusFilter": "SUSPEND"}), vec![2]),
        (json!({"provisioningStatusFilter": "RETIRED"}), vec![]),
        (json!({"profileStatusFilter": "DISABLE"}), vec![2]),
        (json!({"carrierNameFilter": "Verizon Wireless"}), vec![1]),
        (device("eid", &eid(1)), vec![1, 2]),
        (device("imei", "353456789012345"), vec![1, 2]),
        (device("mdn", "15551234567"), vec![1]),
        (device("iccid", &iccid(3)), vec![3]),
        (device("iccid", &iccid(4)), vec![]),
        (json!({"deviceFilter": [{"kind": "eid", "id": eid(1)}], "carrierNameFilter": "Global"}), vec![2]),
    ] {
        let pages = pages(&app, LIST, filter.clone()).await;
        assert_eq!((named(&pages), pages.len()), (expected, 1), "{filter}");
    }
}

#[tokio::test]
async fn a_long_list_comes_in_numbered_pages_that_name_each_profile_once() {
    let iccids = fleet::iccids(0, 1_203);
    let app = App::with_fleet(&fleet::of(&iccids, "global active")).await;
    let pages = pages(&app, LIST, json!({})).await;
    assert_eq!(pages.len(), 3);
    assert_eq!(named(&pages), (0..1_203).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_that_nobody_heard_is_archived_and_replayed_as_it_was() {
    let app = App::with_fleet(&some()).await;
    app.listener.always_answers(503);
    let answer = app.post(LIST, json!({"accountName": ACCOUNT})).await;
    app.settle_for("1h").await;
    app.resume(&iccid(2)).await;
    app.listener.always_answers(200);
    app.settle_for("1h").await;
    let request = answer["requestId"].as_str().unwrap();
    let before = app.told_of(request)[0].clone();
    let replayed = app.post("/api/reveille/v1/callbacks/replay", json!({"account": ACCOUNT})).await;
    assert_eq!(replayed["replayed"], 1);
    app.settle().await;
    let again = app.told_of(request).pop().unwrap();
    assert_eq!((&again, &again["callbackCount"]), (&before, &json!(1)));
    let shown = app.get(&format!("/api/reveille/v1/callbacks/{request}.1")).await;
    assert_eq!(shown["body"]["deviceResponse"], before["deviceResponse"]);
}

#[tokio::test]
async fn a_history_tells_what_became_of_a_profile_and_when() {
    let app = App::with_fleet(&some()).await;
    app.settle_for("1h").await;
    let resumed = app.resume(&iccid(2)).await;
    app.settle_for("1h").await;
    app.act("enable", &iccid(2), json!({})).await;
    app.settle().await;
    let one = json!({"kind": "iccid", "id": iccid(2)});
    let whole = pages(&app, HISTORY, json!({"deviceFilter": one})).await;
    let history = whole[0]["history"].as_array().unwrap();
    let first = json!({
        "occurredAt": "2026-01-01T01:00:00.000Z", "action": "profile_resume", "requestId": resumed,
        "previousState": "SUSPEND", "state": "ACTIVE", "previousProfileStatus": "DISABLE",
        "profileStatus": "DISABLE", "inDoubt": false,
    });
    assert_eq!((history.len(), &history[0]), (2, &first));
    assert_eq!(history[1]["profileStatus"], "ENABLE");
    let late = json!({"deviceFilter": [one], "earliest": "2026-01-01T01:30:00"});
    assert_eq!(pages(&app, HISTORY, late).await[0]["history"].as_array().unwrap().len(), 1);
    let early = json!({"deviceFilter": [one], "latest": "2026-01-01T03:30:00+02:00"});
    assert_eq!(pages(&app, HISTORY, early).await[0]["history"][0], first);
    let lead = json!({"deviceFilter": {"kind": "eid", "id": eid(1)}});
    let both = pages(&app, HISTORY, lead).await;
    assert_eq!(both.len(), 2, "each profile of the device has its own");
    assert_eq!(both[0]["history"][0]["profileStatus"], "DISABLE", "enabling one disabled the other");
    let nobody = json!({"deviceFilter": {"kind": "iccid", "id": iccid(4)}});
    assert_eq!(pages(&app, HISTORY, nobody).await, [json!({"page": 1, "pages": 1, "history": []})]);
}

#[tokio::test]
async fn a_question_that_is_none_is_refused() {
    let app = App::with_fleet(&some()).await;
    for (path, body, code) in [
        (LIST, json!({}), "INPUT_INVALID.Account.NotDefined"),
        (LIST, json!({"accountName": "0000123456-00002"}), "REQUEST_FAILED.AccountName"),
        (LIST, json!({"accountName": ACCOUNT, "provisioningStatusFilter": "asleep"}), "INPUT_INVALID.Field"),
        (HISTORY, json!({"accountName": ACCOUNT}), "INPUT_INVALID.DeviceNotProvided"),
    ] {
        let answer = app.call(Method::POST, path, Some(&body)).await;
        assert_eq!(answer.bracketed(), code, "{body}");
    }
}

#[tokio::test]
async fn profiles_are_found_at_once_by_what_is_known_of_them() {
    let app = App::with_fleet(&some()).await;
    let found = async |query: &str| {
        let page = app.get(&format!("/api/reveille/v1/profiles?account={ACCOUNT}&{query}")).await;
        let profiles = page["profiles"].as_array().unwrap();
        profiles
            .iter()
            .map(|one| one["iccid"].as_str().unwrap()[10..].parse().unwrap())
            .collect::<Vec<usize>>()
    };
    assert_eq!(found(&format!("eid={}", eid(1))).await, [1, 2]);
    assert_eq!(found("profileStatus=DISABLE").await, [2]);
    assert_eq!(found("role=LEAD").await, [1]);
    assert_eq!(found("servicePlan=Global%20IoT%205MB").await, [3]);
    assert_eq!(found("msisdn=15551234567").await, [1]);
    assert_eq!(found("imei=353456789012345&network=global").await, [2]);
    assert!(found("inDoubt=true").await.is_empty());
}

#[tokio::test]
async fn one_sentence_says_why_a_profile_is_not_in_service() {
    let app = App::with_fleet(&some()).await;
    let why = async |number: usize| app.profile(&iccid(number)).await["whyNotInService"].clone();
    assert_eq!(why(1).await, Value::Null, "it is");
    assert_eq!(why(2).await, "Suspended on its own.");
    let suspended = app.act("device_suspend", &eid(3), json!({})).await;
    app.resume(&iccid(2)).await;
    app.settle().await;
    let since = "2026-01-01T00:00:00.000Z";
    let expected =
        format!("Suspended with its device since {since} by demo's request {suspended} (device_suspend).");
    assert_eq!(why(3).await, expected);
    let instead = format!("Active, but disabled on its card; the card has {} enabled.", iccid(1));
    assert_eq!(why(2).await, instead);
}

#[tokio::test]
async fn a_timeline_tells_everything_that_was_asked_and_what_came_of_it() {
    let app = App::with_fleet("89000002000000000001 global suspended euicc=1 status=DISABLE").await;
    let profile = "89000002000000000001";
    app.listener.answers([503]);
    let resumed = app.resume(profile).await;
    app.settle_for("1h").await;
    let refused = app.resume(profile).await;
    app.settle().await;
    app.hold("global").await;
    let waits = app.act("profile_suspend", profile, json!({})).await;
    app.settle().await;
    let timeline =
        async |query: &str| app.get(&format!("/api/reveille/v1/profiles/{profile}/timeline{query}")).await;
    let whole = timeline("").await;
    let entries = whole["timeline"].as_array().unwrap();
    let ids: Vec<&Value> = entries.iter().map(|entry| &entry["requestId"]).collect();
    assert_eq!(ids, [&json!(resumed), &json!(refused), &json!(waits)]);
    let events = |entry: &Value| -> Vec<String> {
        let events = entry["events"].as_array().unwrap().iter();
        events.map(|one| one["event"].as_str().unwrap().to_owned()).collect()
    };
    let happened = [
        "accepted",
        "called",
        "called",
        "called",
        "changed",
        "ended",
        "told",
        "attempt",
        "attempt",
        "delivered",
    ];
    assert_eq!(events(&entries[0]), happened, "{}", entries[0]);
    assert_eq!(entries[0]["events"][1]["detail"], "call 1 to the carrier: retry_later after 0 ms");
    assert_eq!(entries[0]["events"][4]["detail"], "SUSPEND to ACTIVE");
    assert_eq!(entries[0]["user"], "demo");
    assert_eq!(events(&entries[1]), ["accepted", "ended", "told", "attempt", "delivered"]);
    assert_eq!((events(&entries[2]), &entries[2]["state"]), (vec!["accepted".to_owned()], &json!("waiting")));
    let first = timeline("?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let second = timeline(&format!("?limit=1&after={next}")).await;
    assert_eq!(second["timeline"][0], entries[1]);
    app.release("global").await;
    app.settle_for("1m").await;
}
