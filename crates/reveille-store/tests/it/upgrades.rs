//! A database of each released schema is brought up to date, and says what it said before.

use crate::folder::Folder;
use reveille_domain::{
    AccountName, Already, Doubt, Fault, Left, LeftAs, ListenerName, Position, ProfileState, ProfileStatus,
    Role, Service, Subject, SuspendedBy, Terms, Timestamp,
};
use reveille_store::{
    AttemptView, Callbacks, Directory, Inventory, Lane, Outlet, Requests, SubrequestFilter, Target,
};

const FIRST: &str = include_str!("../../migrations/sqlite/0001_the_main_job.sql");

/// What a server of the first release left behind: one request that has ended and was told of in part, one
/// that waits.
const LEFT_BEHIND: &str = "
INSERT INTO account (name, waiting) VALUES ('0000123456-00001', 1);
INSERT INTO service_plan VALUES ('0000123456-00001', 'global', 'Global IoT 5MB');
INSERT INTO client VALUES (1, 'key', x'00', 5, 0);
INSERT INTO user VALUES ('demo', 'hash', 1, 2, NULL);
INSERT INTO user_account VALUES ('demo', '0000123456-00001');
INSERT INTO session VALUES (x'01', 'demo', 1, 7, NULL);
INSERT INTO listener VALUES ('0000123456-00001', 'DeviceProfileService', 'http://127.0.0.1:9/', 'u', NULL, 3);
INSERT INTO carrier_hold VALUES ('global', 9);
INSERT INTO device VALUES (1, '0000123456-00001', '89049032000001000000000000000001', '350000000000001');
INSERT INTO profile VALUES (1, '0000123456-00001', '89148000000000000001', 1, '15550000001', '311480000000001',
                            'verizon-us', 'lead', 'active', 'enable', 'Verizon', 1);
INSERT INTO profile VALUES (2, '0000123456-00001', '89445000000000000002', 1, NULL, NULL,
                            'global', 'local', 'suspended_by_device', 'disable', NULL, 0);
INSERT INTO request VALUES (1, '0000123456-00001', 'd1f08526-5443-4054-9a29-4456490ea9f8', 'profile_resume', NULL,
                            'demo', 10, NULL, 20, NULL, 2, 1, 1, 0, 1);
INSERT INTO request VALUES (2, '0000123456-00001', 'd1f08526-5443-4054-9a29-4456490ea9f9', 'profile_resume', 'Plan',
                            'demo', 11, NULL, NULL, NULL, 1, 0, 0, 0, 0);
INSERT INTO request_fault VALUES (1, 'profile_already_resumed', 1);
INSERT INTO idempotency_key VALUES ('0000123456-00001', 'demo', 'key', x'02', 'd1f08526-5443-4054-9a29-4456490ea9f8', 10);
INSERT INTO subrequest VALUES (1, 1, '0000123456-00001', '89148000000000000001', 1, 1, 'verizon-us', NULL, NULL, 'succeeded', 20);
INSERT INTO subrequest VALUES (1, 2, '0000123456-00001', '89445000000000000002', 2, 1, 'global',
                               'profile_already_resumed', NULL, 'failed', 20);
INSERT INTO subrequest VALUES (2, 1, '0000123456-00001', '89445000000000000002', 2, 1, 'global', NULL, NULL, NULL, NULL);
INSERT INTO history VALUES (1, 1, 1, '0000123456-00001', 20, 'suspended_by_device', 'active', 0);
INSERT INTO callback VALUES (1, 1, '0000123456-00001', '89049032000001000000000000000001', '350000000000001',
                             '15550000001', 'active', 'enable', 'lead', 1, 1, 300, NULL, NULL, NULL);
INSERT INTO callback VALUES (1, 2, '0000123456-00001', NULL, NULL, NULL, NULL, NULL, NULL, 2, 4, NULL, 30, NULL, 'exhausted');
INSERT INTO attempt VALUES (1, 1, 1, 1, '0000123456-00001', 25, 503, NULL);
UPDATE backlog SET waiting = 1, untold = 1;
";

fn account() -> AccountName {
    "0000123456-00001".parse().unwrap()
}

#[tokio::test]
async fn a_database_of_the_first_release_is_brought_up_to_date() {
    let folder = Folder::new();
    let old = folder.connection();
    old.execute_batch(FIRST).unwrap();
    old.execute_batch(LEFT_BEHIND).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let store = folder.open();
    let version = folder.connection().pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
    assert_eq!(version.unwrap(), 8);

    let lead = store.profile(&"89148000000000000001".parse().unwrap()).await.unwrap().unwrap().profile;
    assert_eq!(
        (lead.state, lead.status, lead.in_doubt),
        (ProfileState::Active, ProfileStatus::Enable, Doubt::SERVICE)
    );
    assert_eq!((lead.fallback, lead.service_plan.as_deref()), (false, Some("Verizon")));
    assert_eq!(store.suspended(Timestamp(i64::MAX), None, 9).await.unwrap(), [], "nobody knows since when");
    assert_eq!(
        (store.service_plans(&account()).await.unwrap().len(), store.holds().await.unwrap().len()),
        (1, 1)
    );
    assert_eq!(store.listeners(&account()).await.unwrap()[0].username.as_deref(), Some("u"));
    assert!(store.user("demo").await.unwrap().is_some());

    let nothing_before = Position { sequence: 0, number: 0 };
    let lane = Lane::Network(reveille_domain::Network::Global);
    let waits = store.waiting(&account(), lane, nothing_before, 9).await.unwrap();
    assert_eq!(waits.len(), 1);
    assert!(matches!(waits[0].target, Ok(Target::Profile(_))));
    assert_eq!((waits[0].request.sequence, &waits[0].request.terms), (2, &Terms::default()));

    let request = "d1f08526-5443-4054-9a29-4456490ea9f8".parse().unwrap();
    let all = SubrequestFilter { request, state: None, fault: None, after: 0, limit: 9 };
    let subrequests = store.subrequests(all).await.unwrap();
    assert_eq!(subrequests[0].subject, Subject::Profile("89148000000000000001".parse().unwrap()));
    assert_eq!(subrequests[1].fault, Some(Fault::Already(Already::Resumed)));

    let outlet = Outlet { account: account(), service: Service::DeviceProfile, listener: ListenerName::OWN };
    let due = store.due(&outlet, Timestamp(300), 9).await.unwrap();
    let left = LeftAs { state: ProfileState::Active, status: ProfileStatus::Enable, role: Role::Lead };
    assert_eq!((due.len(), due[0].attempts, &due[0].told.result), (1, 1, &Ok(Left::Profile(left))));
    let (_, attempts) = store.callback(due[0].name()).await.unwrap().unwrap();
    let attempt =
        AttemptView { series: 1, ordinal: 1, ended_at: Timestamp(25), status: Some(503), error: None };
    assert_eq!(attempts, [attempt]);

    let history = store.history(&lead.iccid, 9).await.unwrap();
    let from = history[0].from;
    assert_eq!(
        (from.state, from.status),
        (ProfileState::Suspended(SuspendedBy::Device), ProfileStatus::Enable)
    );
    let timeline = store.timeline(&lead.iccid, nothing_before, 9).await.unwrap();
    assert_eq!((timeline.len(), timeline[0].callbacks.len()), (1, 1));
}
