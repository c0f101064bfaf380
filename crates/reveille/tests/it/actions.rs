//! Every profile action, from its call to its callback.

use crate::app::{ACCOUNT, App, action_body, action_path};
use crate::fleet::iccid;
use hyper::Method;
use serde_json::{Value, json};

/// An eUICC with a LEAD in service and a Global profile; ICCIDs 1 and 2.
fn euicc(global: &str) -> String {
    format!("{} verizon-us active euicc=1\n{} global {global} euicc=1\n", iccid(1), iccid(2))
}

/// What the one callback of a request says: `state profileStatus`, or the fault's code.
fn outcome(told: &[Value]) -> String {
    let [body] = told else { panic!("one callback: {told:?}") };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let left = &body["deviceResponse"]["deviceProfileResponse"];
    match body["status"].as_str() {
        Some("SUCCESS") => format!("{} {}", text(&left["state"]), text(&left["profileStatus"])),
        _ => text(&body["faultResponse"]["faultcode"]).replace("UnifiedWebService.", ""),
    }
}

/// What an action on the Global profile of such an eUICC comes to.
async fn on_global(global: &str, action: &str, more: Value) -> String {
    let app = App::with_fleet(&euicc(global)).await;
    let request = app.act(action, &iccid(2), more).await;
    app.settle().await;
    let told = outcome(&app.told_of(&request));
    let profile = app.profile(&iccid(2)).await;
    let recorded = format!("{} {}", profile["state"], profile["profileStatus"]).replace('"', "");
    assert!(!told.contains(' ') || told == recorded, "told {told}, recorded {recorded}");
    told
}

#[tokio::test]
async fn every_action_leaves_what_the_contract_says() {
    for (global, action, expected) in [
        ("suspended status=DISABLE", "profile_resume", "ACTIVE DISABLE"),
        ("active status=DISABLE", "profile_suspend", "SUSPEND DISABLE"),
        ("pre_active status=NOT_DOWNLOADED", "activate", "ACTIVE NOT_DOWNLOADED"),
        ("deactive status=DELETE", "activate", "ACTIVE NOT_DOWNLOADED"),
        ("deactive status=DISABLE", "activate", "ACTIVE DISABLE"),
        ("pre_active status=DOWNLOAD_DISABLE", "activate_enable", "ACTIVE ENABLE"),
        ("active status=DISABLE", "deactivate", "DEACTIVE DISABLE"),
        ("suspended status=DISABLE", "deactivate", "DEACTIVE DISABLE"),
        ("active status=DISABLE", "enable", "ACTIVE ENABLE"),
        ("active status=DOWNLOAD_DISABLE", "enable", "ACTIVE ENABLE"),
        ("active status=NOT_DOWNLOADED", "download", "ACTIVE DOWNLOAD_DISABLE"),
        ("active status=NOT_DOWNLOADED", "download_disable", "ACTIVE DOWNLOAD_DISABLE"),
        ("active status=NOT_DOWNLOADED", "download_enable", "ACTIVE DOWNLOAD_ENABLE"),
        ("deactive status=DISABLE", "delete", "DEACTIVE DELETE"),
        ("active status=DISABLE", "setfallbackattribute", "ACTIVE DISABLE"),
    ] {
        assert_eq!(on_global(global, action, json!({})).await, expected, "{action} on {global}");
    }
}

#[tokio::test]
async fn what_is_already_so_is_told_by_its_fault() {
    for (global, action, expected) in [
        ("active status=DISABLE", "profile_resume", "ProfileAlreadyResumed"),
        ("suspended status=DISABLE", "profile_suspend", "ProfileAlreadySuspended"),
        ("suspended by=device status=DISABLE", "profile_suspend", "ProfileAlreadySuspended"),
        ("active status=DISABLE", "activate", "DeviceAlreadyActive"),
        ("active status=DISABLE", "activate_enable", "DeviceAlreadyActive"),
        ("deactive status=DISABLE", "deactivate", "ProfileAlreadyDeactivated"),
        ("active status=DISABLE", "disable", "ProfileAlreadyDisabled"),
        ("active status=DISABLE", "download", "ProfileAlreadyDownloaded"),
        ("active status=DISABLE", "download_enable", "ProfileAlreadyDownloaded"),
        ("deactive status=DELETE", "delete", "ProfileAlreadyDeleted"),
    ] {
        let told = on_global(global, action, json!({})).await;
        assert_eq!(told, format!("REQUEST_FAILED.{expected}"), "{action} on {global}");
    }
}

#[tokio::test]
async fn what_an_action_does_not_apply_to_is_told_and_left_alone() {
    let app = App::with_fleet(&euicc("active status=DISABLE")).await;
    for (action, iccid) in [
        ("profile_suspend", iccid(1)), // a US profile
        ("delete", iccid(1)),
        ("disable", iccid(1)),
        ("delete", iccid(2)), // in service
        ("setfallbackattribute", iccid(99)),
    ] {
        let request = app.act(action, &iccid, json!({})).await;
        app.settle().await;
        let told = outcome(&app.told_of(&request));
        let unknown = told == "REQUEST_FAILED.DeviceNotFound" && iccid.ends_with("99");
        assert!(unknown || told == "INPUT_INVALID.DeviceState.Invalid", "{action} on {iccid}: {told}");
    }
    let suspended = on_global("suspended status=DISABLE", "enable", json!({})).await;
    assert_eq!(suspended, "INPUT_INVALID.DeviceState.Invalid", "Q23");
}

#[tokio::test]
async fn a_profile_moves_to_another_plan_and_its_record_says_so() {
    let app = App::with_fleet(&euicc("active status=DISABLE plan=Global_IoT_5MB")).await;
    let plan = async |name: &str| {
        let request = app.act("serviceplan", &iccid(2), json!({"servicePlan": name})).await;
        app.settle().await;
        outcome(&app.told_of(&request))
    };
    assert_eq!(plan("Global IoT 50MB").await, "ACTIVE DISABLE");
    assert_eq!(app.profile(&iccid(2)).await["servicePlan"], "Global IoT 50MB");
    assert_eq!(plan("Global IoT 50MB").await, "REQUEST_FAILED.ServicePlanAlreadySet");
    assert_eq!(plan("Verizon IoT 5MB").await, "REQUEST_FAILED.Verizon IoT 5MB.NotFound");
    let history = app.get(&format!("/api/reveille/v1/profiles/{}/history", iccid(2))).await;
    assert_eq!(history["history"][0]["servicePlan"], "Global IoT 50MB");
    let bare = action_body(&iccid(2), json!({}));
    let missing = app.call(Method::POST, &action_path("serviceplan"), Some(&bare)).await;
    assert_eq!((missing.status, missing.bracketed()), (400, "REQUEST_FAILED.UnexpectedError"));
    assert!(missing.body["errorMessage"].as_str().unwrap().contains("servicePlan is missing"));
}

#[tokio::test]
async fn an_activation_takes_the_named_plan_and_a_resume_keeps_the_one_there_is() {
    let app = App::with_fleet(&euicc("deactive status=DISABLE plan=Global_IoT_5MB")).await;
    let plan = json!({"servicePlan": "Global IoT 50MB"});
    for (action, expected) in [
        ("activate", "Global IoT 50MB"),
        ("profile_suspend", "Global IoT 50MB"),
        ("profile_resume", "Global IoT 50MB"),
    ] {
        let named =
            if action == "activate" { plan.clone() } else { json!({"servicePlan": "Global IoT 5MB"}) };
        app.act(action, &iccid(2), named).await;
        app.settle().await;
        assert_eq!(app.profile(&iccid(2)).await["servicePlan"], expected, "{action}");
    }
}

#[tokio::test]
async fn what_the_card_falls_back_to_is_spared_where_that_is_asked() {
    let app = App::with_fleet(&euicc("active status=DISABLE")).await;
    app.act("setfallbackattribute", &iccid(2), json!({})).await;
    let spared = app.act("deactivate", &iccid(2), json!({"checkFallbackProfile": true})).await;
    let more = json!({"etfWaiver": true, "reasonCode": "FF", "checkFallbackProfile": false});
    let not_spared = app.act("deactivate", &iccid(2), more).await;
    app.settle().await;
    assert_eq!(outcome(&app.told_of(&spared)), "INPUT_INVALID.DeviceState.Invalid");
    assert_eq!(outcome(&app.told_of(&not_spared)), "DEACTIVE DISABLE");
    let deleted = app.act("delete", &iccid(2), json!({})).await;
    app.settle().await;
    assert_eq!(
        outcome(&app.told_of(&deleted)),
        "INPUT_INVALID.DeviceState.Invalid",
        "it is still the fallback"
    );
}

#[tokio::test]
async fn the_forms_that_sdks_send_are_read() {
    let app = App::with_fleet(&euicc("active status=DISABLE")).await;
    let identifiers = json!([{"id": iccid(2), "kind": "ICCID"}, {"id": crate::fleet::eid(1), "kind": "Eid"}]);
    let forms = [
        ("setfallbackattribute", json!({"devices": [identifiers], "accountName": ACCOUNT})),
        (
            "deactivate",
            json!({"devices": [{"ids": identifiers}], "accountName": ACCOUNT, "etfwaiver": false, "servicePlan": ""}),
        ),
        (
            "activate",
            json!({"devices": [{"deviceIds": identifiers}], "accountName": ACCOUNT, "mdnZipCode": "98801",
                   "smrsOid": "1.3.6.1.4.1.31746.1.500.200.101.5", "carrierName": "Verizon Wireless"}),
        ),
    ];
    for (action, body) in forms {
        let path = if action == "setfallbackattribute" {
            "/api/v1/devices/profile/actions/setfallbackattribute".to_owned() // as one SDK spells it
        } else {
            action_path(action)
        };
        let answer = app.call(Method::POST, &path, Some(&body)).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        app.settle().await;
        let told = app.told_of(answer.request_id());
        assert_eq!(told[0]["status"], "SUCCESS", "{action}: {told:?}");
    }
}

#[tokio::test]
async fn bodies_of_other_products_are_refused_with_what_to_do() {
    let app = App::with_fleet(&euicc("pre_active status=NOT_DOWNLOADED")).await;
    let consumer =
        json!([{"kind": "eid", "id": crate::fleet::eid(1)}, {"kind": "imei", "id": "353456789012345"}]);
    for (action, body, code, says) in [
        (
            "activate",
            json!({"devices": [{"deviceIds": consumer}], "accountName": ACCOUNT, "servicePlan": "HybridESim"}),
            "REQUEST_FAILED.UnexpectedError",
            "consumer eSIMs",
        ),
        (
            "activate",
            json!({"devices": [{"deviceIds": consumer}], "accountName": ACCOUNT}),
            "INPUT_INVALID.Device.Kind.Invalid",
            "consumer eSIM",
        ),
        (
            "deactivate",
            json!({"devices": [{"deviceIds": [consumer[0]]}], "accountName": ACCOUNT}),
            "INPUT_INVALID.Device.Kind.Invalid",
            "consumer eSIM",
        ),
        (
            "renew_activation_code",
            json!({"devices": [{"deviceIds": consumer}], "accountName": ACCOUNT}),
            "REQUEST_FAILED.UnexpectedError",
            "consumer eSIMs",
        ),
        (
            "device_suspend",
            action_body(&iccid(2), json!({})),
            "INPUT_INVALID.Device.Kind.Invalid",
            "takes eid",
        ),
        (
            "profile_suspend",
            action_body(&crate::fleet::eid(1), json!({})),
            "INPUT_INVALID.Device.Kind.Invalid",
            "iccid",
        ),
        (
            "activate",
            action_body(&iccid(2), json!({"mdnZipCode": "9880"})),
            "REQUEST_FAILED.UnexpectedError",
            "five digits",
        ),
        (
            "enable",
            json!({"devices": [{"deviceIds": consumer, "ids": consumer}], "accountName": ACCOUNT}),
            "REQUEST_FAILED.UnexpectedError",
            "either deviceIds or ids",
        ),
        (
            "enable",
            json!({"devices": [[["iccid", iccid(2)]]], "accountName": ACCOUNT}),
            "REQUEST_FAILED.UnexpectedError",
            "object",
        ),
    ] {
        let answer = app.call(Method::POST, &action_path(action), Some(&body)).await;
        assert_eq!((answer.status, answer.bracketed()), (400, code), "{action} {body}");
        let message = answer.body["errorMessage"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
    let path = action_path("renew_activation_code");
    let answer = app.stranger().call(Method::POST, &path, Some(&json!({}))).await;
    assert_eq!(answer.status, 401, "who calls is found out first, as at the other calls");
    assert_eq!(app.store().last_sequence().await.unwrap(), 0, "nothing is left behind");
}

#[tokio::test]
async fn limits_of_an_account_are_told_by_their_faults_and_end_with_time() {
    let limits = [("LIMITS_ACTIONS_PER_DAY", "2"), ("LIMITS_PLAN_CHANGES_PER_MONTH", "1")];
    let app = App::configured(limits, &euicc("active status=DISABLE")).await;
    let act = async |action: &str, more: Value| {
        let request = app.act(action, &iccid(2), more).await;
        app.settle().await;
        outcome(&app.told_of(&request))
    };
    let plan = |name: &str| json!({"servicePlan": name});
    assert_eq!(act("profile_suspend", json!({})).await, "SUSPEND DISABLE");
    assert_eq!(act("profile_suspend", json!({})).await, "REQUEST_FAILED.ProfileAlreadySuspended");
    assert_eq!(act("profile_resume", json!({})).await, "ACTIVE DISABLE");
    assert_eq!(act("profile_suspend", json!({})).await, "REQUEST_FAILED.ActionsPerDayExceeded");
    assert_eq!(act("serviceplan", plan("Global IoT 50MB")).await, "ACTIVE DISABLE");
    assert_eq!(
        act("serviceplan", plan("Global IoT 5MB")).await,
        "REQUEST_FAILED.PlanChangesPerMonthExceeded"
    );
    app.settle_for("24h 1s").await;
    assert_eq!(act("profile_suspend", json!({})).await, "SUSPEND DISABLE");
    assert_eq!(act("profile_resume", json!({})).await, "ACTIVE DISABLE");
    app.settle_for("30days").await;
    assert_eq!(act("serviceplan", plan("Global IoT 5MB")).await, "ACTIVE DISABLE");
}

#[tokio::test]
async fn what_a_carrier_takes_no_more_of_today_waits_for_tomorrow() {
    let app =
        App::configured([("CARRIERS_GLOBAL_CHANGES_PER_DAY", "2")], &euicc("active status=DISABLE")).await;
    let act = async |action: &str| app.act(action, &iccid(2), json!({})).await;
    for action in ["profile_suspend", "profile_resume"] {
        let request = act(action).await;
        app.settle().await;
        assert!(outcome(&app.told_of(&request)).starts_with(if action == "profile_resume" {
            "ACTIVE"
        } else {
            "SUSPEND"
        }));
    }
    let third = act("profile_suspend").await;
    let fourth = act("profile_resume").await;
    app.settle_for("23h").await;
    assert_eq!(app.told_of(&third).len() + app.told_of(&fourth).len(), 0, "they wait, in order");
    app.settle_for("2h").await;
    assert_eq!(outcome(&app.told_of(&third)), "SUSPEND DISABLE");
    assert_eq!(outcome(&app.told_of(&fourth)), "ACTIVE DISABLE");
}
