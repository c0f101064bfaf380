//! The contract's examples, byte for byte: what a callback says, for each way in which it can say it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use reveille_domain::{
    Action, Already, Condition, Doubt, Fault, Left, LeftAs, Network, Profile, ProfileState, ProfileStatus,
    RequestId, Role, Subject, SuspendedBy, Targets, Terms, Timestamp, Told,
};
use reveille_wire::device_queries::{
    DeviceHistoryBody, DeviceListBody, HistoryFilter, ListFilter, QueriedIdentifier,
};
use reveille_wire::documents::{self, HistoryItem, ListedProfile};
use reveille_wire::profile_action::ProfileActionBody;
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

#[test]
fn a_device_as_a_whole_has_its_own_identifiers_and_its_state_alone() {
    let told = |result| Told {
        subject: Subject::Device("89049032000001000000000000000001".parse().unwrap()),
        eid: Some("89049032000001000000000000000001".parse().unwrap()),
        imei: Some("350000000000001".parse().unwrap()),
        msisdn: None,
        result,
    };
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let suspended = ProfileState::Suspended(SuspendedBy::Device);
    let success = told(Ok(Left::Device(suspended)));
    same(&CallbackBody::new(request, &success, None, 1, 4), include_str!("golden/device.json"));
    let failure = told(Err(Fault::Already(Already::Suspended)));
    same(&CallbackBody::new(request, &failure, None, 1, 4), include_str!("golden/device-fault.json"));
}

#[test]
fn a_warning_says_that_the_outcome_follows() {
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let told = told(Ok(Left::Waiting));
    same(&CallbackBody::new(request, &told, None, 1, 4), include_str!("golden/warning.json"));
}

fn profile() -> Profile {
    Profile {
        iccid: "89148000000800139708".parse().unwrap(),
        eid: "89049032000001000000000000000001".parse().unwrap(),
        imei: Some("350000000000001".parse().unwrap()),
        msisdn: None,
        imsi: None,
        network: Network::Global,
        role: Role::Local,
        state: ProfileState::Active,
        status: ProfileStatus::Enable,
        fallback: false,
        service_plan: Some("Global IoT 5MB".into()),
        in_doubt: Doubt::NONE,
    }
}

fn document(subject: Subject, text: String) -> Told {
    let eid = match subject {
        Subject::Page => None,
        _ => Some("89049032000001000000000000000001".parse().unwrap()),
    };
    Told { subject, eid, imei: None, msisdn: None, result: Ok(Left::Document(text.into())) }
}

#[test]
fn answers_come_in_numbered_pages() {
    let request: RequestId = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let (account, profile) = ("0000123456-00001".parse().unwrap(), profile());
    let listed = ListedProfile { account: &account, profile: &profile };
    let change = HistoryItem {
        at: Timestamp(1_769_860_800_123),
        request: Some((request, Action::Enable)),
        from: Condition { status: ProfileStatus::Disable, ..profile.condition() },
        to: profile.condition(),
        service_plan: None,
        in_doubt: false,
    };
    for (text, golden) in [
        (documents::device_list(2, 3, &[listed]), include_str!("golden/list.json")),
        (documents::device_list(1, 1, &[]), include_str!("golden/list-empty.json")),
        (documents::device_history(1, 1, Some(&profile), &[change]), include_str!("golden/history.json")),
    ] {
        let told = document(Subject::Page, text);
        same(&CallbackBody::new(request, &told, None, 1, 4), golden);
    }
}

#[test]
fn a_notice_says_when_the_suspension_ends() {
    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let subject = Subject::Profile("89148000000800139708".parse().unwrap());
    let told = document(subject, documents::resume_notice(Timestamp(1_489_536_000_000)));
    same(&CallbackBody::new(request, &told, None, 1, 4), include_str!("golden/notice.json"));
}

/// What is read of a request body that an SDK sends.
fn read(action: Action, body: &str) -> (Vec<String>, Option<String>, Terms) {
    let body = ProfileActionBody::decode(body.as_bytes()).unwrap();
    let named = match action.targets() {
        Targets::Devices => {
            body.devices(action).unwrap().iter().map(|device| device.eid.as_str().to_owned()).collect()
        }
        _ => body.targets(action).unwrap().iter().map(|target| target.iccid.as_str().to_owned()).collect(),
    };
    assert_eq!(body.account().unwrap().as_str(), "0000123456-00001");
    (named, body.service_plan(action).unwrap().map(Into::into), body.terms(action).unwrap())
}

#[test]
fn every_form_of_request_that_sdks_send_is_read() {
    let iccid = || vec!["89148000000800139708".to_owned()];
    let eid = || vec!["89049032000001000000000000000001".to_owned()];
    let smsr_oid = || Some("1.3.6.1.4.1.31746.1.500.200.101.5".into());
    let carrier = || Some("Verizon Wireless".into());
    let none = Terms::default;
    for (action, body, expected) in [
        (
            Action::ProfileSuspend,
            include_str!("golden/request/gio-profile.json"),
            (iccid(), Some("service plan name".into()), none()),
        ),
        (
            Action::Activate,
            include_str!("golden/request/gio-activate.json"),
            (
                iccid(),
                Some("service plan name".into()),
                Terms { mdn_zip_code: Some("98801".into()), ..none() },
            ),
        ),
        (Action::DeviceSuspend, include_str!("golden/request/gio-device.json"), (eid(), None, none())),
        (
            Action::Deactivate,
            include_str!("golden/request/gio-deactivate.json"),
            (iccid(), None, Terms { etf_waiver: true, reason_code: Some("FF".into()), ..none() }),
        ),
        (
            Action::Deactivate,
            include_str!("golden/request/euicc-deactivate.json"),
            (
                iccid(),
                None,
                Terms {
                    carrier_name: carrier(),
                    reason_code: Some("FF".into()),
                    spares_fallback: true,
                    ..none()
                },
            ),
        ),
        (
            Action::Activate,
            include_str!("golden/request/euicc-activate.json"),
            (
                iccid(),
                Some("service plan name".into()),
                Terms {
                    mdn_zip_code: Some("98801".into()),
                    smsr_oid: smsr_oid(),
                    carrier_name: carrier(),
                    ..none()
                },
            ),
        ),
        (
            Action::ActivateEnable,
            include_str!("golden/request/euicc-activate-enable.json"),
            (
                iccid(),
                Some("service plan name".into()),
                Terms { mdn_zip_code: Some("98801".into()), ..none() },
            ),
        ),
        (
            Action::SetFallback,
            include_str!("golden/request/euicc-fallback.json"),
            (iccid(), None, Terms { carrier_name: carrier(), ..none() }),
        ),
        (Action::SetFallback, include_str!("golden/request/fall-back.json"), (iccid(), None, none())),
        (
            Action::DownloadEnable,
            include_str!("golden/request/euicc-local.json"),
            (iccid(), None, Terms { smsr_oid: smsr_oid(), ..none() }),
        ),
    ] {
        assert_eq!(read(action, body), expected, "{body}");
    }
}

#[test]
fn every_form_of_question_that_sdks_send_is_read() {
    let iccid = || QueriedIdentifier::Iccid("89148000000800139708".parse().unwrap());
    let imei = || QueriedIdentifier::Imei("350000000000001".parse().unwrap());
    let eid = || QueriedIdentifier::Eid("89049032000001000000000000000001".parse().unwrap());
    for (body, status, identifier) in [
        (include_str!("golden/request/list.json"), ProfileStatus::Disable, iccid()),
        (include_str!("golden/request/list-esim.json"), ProfileStatus::Enable, imei()),
    ] {
        let read = DeviceListBody::decode(body.as_bytes()).unwrap();
        assert_eq!(read.account().unwrap().as_str(), "0000123456-00001");
        let expected = ListFilter {
            states: Some(vec![ProfileState::Active]),
            statuses: vec![status],
            network: Some(Network::VerizonUs),
            identifiers: vec![identifier],
        };
        assert_eq!(read.filter().unwrap(), expected, "{body}");
    }
    for (body, identifier) in [
        (include_str!("golden/request/history.json"), iccid()),
        (include_str!("golden/request/history-esim.json"), eid()),
    ] {
        let read = DeviceHistoryBody::decode(body.as_bytes()).unwrap();
        assert_eq!(read.account().unwrap().as_str(), "0000123456-00001");
        let expected = HistoryFilter {
            identifiers: vec![identifier],
            earliest: Timestamp(1_634_273_375_000),
            latest: Timestamp(1_634_532_575_000),
        };
        assert_eq!(read.filter().unwrap(), expected, "{body}");
    }
}
