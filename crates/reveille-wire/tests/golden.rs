//! The contract's examples, byte for byte: what a callback says, for each way in which it can say it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use reveille_domain::{Already, Fault, Left, LeftAs, ProfileState, ProfileStatus, Role, Subject, Told};
use reveille_wire::{CallbackBody, Credentials};

fn told(result: Result<Left, Fault>) -> Told {
    Told {
        subject: Subject::Profile("89148000000800139708".parse().unwrap()),
        eid: Some("89049032000001000000000000000001".parse().unwrap()),
        imei: Some("350000000000001".parse().unwrap()),
        msisdn: Some("15550000001".parse().unwrap()),
        result,
    }
}

fn same(body: &CallbackBody<'_>, golden: &str) {
    assert_eq!(String::from_utf8(body.to_bytes()).unwrap(), golden.trim_end());
}

#[test]
fn a_success_is_the_published_example_byte_for_byte() {
    let left = LeftAs { state: ProfileState::Active, status: ProfileStatus::Enable, role: Role::Local };
    let told = told(Ok(Left::Profile(left)));
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    same(&CallbackBody::new(request, &told, None, 1, 4), include_str!("golden/success.json"));
}

#[test]
fn a_fault_has_empty_credentials_and_its_code_and_leaves_out_what_is_unknown() {
    let told = Told {
        subject: Subject::Profile("20180903000000000009".parse().unwrap()),
        eid: None,
        imei: Some("201809030000009".parse().unwrap()),
        msisdn: None,
        result: Err(Fault::Already(Already::Resumed)),
    };
    let request = "076f7ea9-8230-49b1-9386-8dafaddc7d9e".parse().unwrap();
    same(&CallbackBody::new(request, &told, None, 1, 4), include_str!("golden/fault.json"));
}

#[test]
fn registered_credentials_stand_first_and_an_unknown_profile_is_its_iccid_alone() {
    let told = Told {
        subject: Subject::Profile("8914800000080013970".parse().unwrap()),
        eid: None,
        imei: None,
        msisdn: None,
        result: Err(Fault::DeviceNotFound),
    };
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let credentials = Credentials { username: "fleet", password: "sec\"ret" };
    same(
        &CallbackBody::new(request, &told, Some(credentials), 3, 4),
        include_str!("golden/unknown-with-credentials.json"),
    );
}

#[test]
fn all_sends_of_one_callback_are_the_same_bytes_but_for_their_count() {
    let told = told(Err(Fault::ServicePlanNotFound("Verizon IoT 5MB".into())));
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let first = String::from_utf8(CallbackBody::new(request, &told, None, 1, 4).to_bytes()).unwrap();
    let third = String::from_utf8(CallbackBody::new(request, &told, None, 3, 4).to_bytes()).unwrap();
    assert_eq!(first.replace("\"callbackCount\":1", "\"callbackCount\":3"), third);
    assert!(third.contains("UnifiedWebService.REQUEST_FAILED.Verizon IoT 5MB.NotFound"));
}
