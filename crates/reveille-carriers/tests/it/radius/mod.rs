//! The adapter on a real FreeRADIUS with either database, seen by what a device is told that asks for access.

mod bench;
mod disconnect;
mod freeradius;
mod users;

use bench::{Net, adapter, config, name, told};
use freeradius::SECRET;
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::radius::{DisconnectConfig, RadiusConfig};
use reveille_carriers::{Carrier, Effect, Health, Observation, Observed, Operation, Reply, Trouble};
use reveille_domain::EndState;
use std::time::Duration;
use tokio::sync::mpsc;
use users::{NAME, connect, url};

const LATER: Reply = Reply::Done(Effect::AtNextRegistration);
const RETRY: Reply = Reply::RetryLater { after: None };

#[tokio::test]
async fn freeradius_on_postgresql_conforms() {
    let net = Net::on_postgres().await;
    conformance::conforms(&net).await;
    it_does_as_it_says(&net).await;

    a_commit_that_was_left_is_waited_for(&net).await;
    a_database_that_is_busy_is_tried_again_later(&net).await;
    it_needs_no_more_rights_than_its_page_says(&net).await;
    what_is_wrong_with_a_database_is_told_and_no_profile_is_to_blame(&net).await;
}

#[tokio::test]
async fn freeradius_on_sqlite_conforms() {
    let net = Net::on_sqlite();
    conformance::conforms(&net).await;
    it_does_as_it_says(&net).await;

    what_nobody_waits_for_is_not_done(&net).await;
    what_is_wrong_with_a_file_is_told_and_no_profile_is_to_blame(&net).await;
}

async fn it_does_as_it_says(net: &Net) {
    one_refusal_is_put_in_and_taken_out(net).await;
    a_user_who_is_nothing_but_refused_is_nobody(net).await;
    a_user_who_needs_no_password_is_refused(net).await;
    a_group_that_lets_its_users_in_is_found_out(net).await;
    profiles_of_one_user_are_driven_one_after_the_other(net).await;
}

async fn one_refusal_is_put_in_and_taken_out(net: &Net) {
    let of = net.user().await;
    let user = name(&of);
    assert!(net.server.radclient_is_let_in(user));
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo);
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
    assert!(!net.server.radclient_is_let_in(user));
    assert_eq!(net.told(&of, EndState::OutOfService).await, Reply::AlreadySo);
    assert_eq!(net.users.rows(user).await, 2, "the password, and one refusal");
    let by_hand = format!(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ('{user}', 'Auth-Type', ':=', 'Reject')"
    );
    net.users.run(&by_hand).await;
    assert_eq!(net.told(&of, EndState::InService).await, LATER);
    assert!(net.server.radclient_is_let_in(user), "of two refusals none is left");
    assert_eq!(net.users.rows(user).await, 1, "the password is left alone");
}

async fn a_user_who_is_nothing_but_refused_is_nobody(net: &Net) {
    let of = net.user().await;
    let user = name(&of);
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
    net.users.run(&format!("DELETE FROM radcheck WHERE username = '{user}' AND value <> 'Reject'")).await;
    let Reply::Rejected { reason } = net.told(&of, EndState::InService).await else { panic!("he is gone") };
    assert_eq!(&*reason, "The RADIUS server has no user with the profile's user name");
    for table in [
        "radreply (username, attribute, op, value) VALUES ('{user}', 'Class', ':=', 'x')",
        "radusergroup (username, groupname) VALUES ('{user}', 'g')",
    ] {
        let of = net.user().await;
        let user = name(&of);
        net.users.run(&format!("DELETE FROM radcheck WHERE username = '{user}'")).await;
        net.users.run(&format!("INSERT INTO {}", table.replace("{user}", user))).await;
        assert_eq!(net.told(&of, EndState::Suspended).await, LATER, "{table}");
    }
}

/// Seen of FreeRADIUS 3.2.1: of a user's own rows for `Auth-Type` one refusal is enough, wherever it stands.
async fn a_user_who_needs_no_password_is_refused(net: &Net) {
    let of = net.user().await;
    let user = name(&of);
    let let_in = format!(
        "DELETE FROM radcheck WHERE username = '{user}' AND value <> 'Reject';
         INSERT INTO radcheck (username, attribute, op, value) VALUES ('{user}', 'Auth-Type', ':=', 'Accept')"
    );
    net.users.run(&let_in).await;
    assert!(net.server.lets_in(user));
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
    assert!(!net.server.lets_in(user));
    assert_eq!(net.told(&of, EndState::InService).await, LATER);
    assert!(net.server.lets_in(user));
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
    net.users.run(&let_in).await;
    assert!(!net.server.lets_in(user), "also where a row comes after it");
    assert_eq!(net.told(&of, EndState::Suspended).await, Reply::AlreadySo);
}

/// Seen of FreeRADIUS 3.2.1: `Auth-Type` of a group comes after that of the user, and replaces it.
async fn a_group_that_lets_its_users_in_is_found_out(net: &Net) {
    let of = net.user().await;
    let user = name(&of);
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
    let group = "INSERT INTO radgroupcheck (groupname, attribute, op, value) VALUES ('open', 'Auth-Type', ':=', 'Accept')";
    net.users.run(group).await;
    net.users.run(&format!("INSERT INTO radusergroup (username, groupname) VALUES ('{user}', 'open')")).await;
    assert!(net.server.radclient_is_let_in(user), "the refusal is not heeded");
    assert_eq!(observed(net, &of).await, Observation::Seen(Observed::default()));
    let Reply::Rejected { reason } = net.told(&of, EndState::Suspended).await else { panic!("it cannot be") };
    assert!(reason.starts_with("A group of the profile's user sets Auth-Type"), "{reason}");
    assert_eq!(net.told(&of, EndState::InService).await, LATER);
}

async fn observed(net: &Net, of: &Subscription) -> Observation {
    let profile = reveille_domain::Profile {
        iccid: of.iccid.clone(),
        eid: of.eid.clone(),
        imei: None,
        msisdn: None,
        imsi: of.imsi.clone(),
        network: reveille_domain::Network::Global,
        role: reveille_domain::Role::Local,
        state: reveille_domain::ProfileState::Active,
        status: reveille_domain::ProfileStatus::Enable,
        fallback: false,
        service_plan: None,
        in_doubt: reveille_domain::Doubt::NONE,
    };
    net.carrier.observe(&[profile]).await.remove(0)
}

async fn profiles_of_one_user_are_driven_one_after_the_other(net: &Net) {
    let of = net.user().await;
    let ends = [EndState::Suspended, EndState::Suspended, EndState::InService, EndState::Suspended];
    let operations: Vec<Operation> = ends.iter().map(|end| net.operation(&of, *end)).collect();
    let (sender, mut replies) = mpsc::unbounded_channel();
    net.carrier.apply(operations, sender).await;
    let mut said = Vec::new();
    while let Some((_, reply)) = replies.recv().await {
        said.push(reply);
    }
    assert_eq!(said, [LATER, Reply::AlreadySo, LATER, LATER]);
    assert!(!net.server.lets_in(name(&of)));
}

/// Promise 4 on a real database: a suspension is being confirmed, slowly, when its caller goes; whoever resumes the
/// profile over another connection comes after it.
async fn a_commit_that_was_left_is_waited_for(net: &Net) {
    let of = net.user().await;
    let user = name(&of);
    let slowly = "CREATE FUNCTION slowly () RETURNS trigger LANGUAGE plpgsql AS
                      $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;
                  CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON radcheck DEFERRABLE INITIALLY DEFERRED
                      FOR EACH ROW EXECUTE FUNCTION slowly ()";
    net.users.run(slowly).await;
    assert_eq!(cut_off(net, &of).await, None, "it is being confirmed");
    let resume = Operation { begun_before: true, ..net.operation(&of, EndState::InService) };
    assert_eq!(told(&*net.another(), resume).await, LATER, "it was found suspended");
    net.users.run("DROP TRIGGER slowly ON radcheck").await; // waits for all who write
    assert!(net.server.lets_in(user));
}

/// The same in a file: a suspension waits for the lock when its caller goes, and gets it.
async fn what_nobody_waits_for_is_not_done(net: &Net) {
    let of = net.user().await;
    net.freeze().await;
    assert_eq!(cut_off(net, &of).await, None, "it waits for the lock");
    net.thaw().await;
    net.deadline().await;
    assert!(net.server.lets_in(name(&of)));
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
}

/// What is said of a suspension before its caller goes.
async fn cut_off(net: &Net, of: &Subscription) -> Option<Reply> {
    tokio::select! {
        biased;
        reply = net.told(of, EndState::Suspended) => Some(reply),
        () = net.deadline() => None,
    }
}

async fn a_database_that_is_busy_is_tried_again_later(net: &Net) {
    let of = net.user().await;
    let mut other = connect(&url(net.port(), NAME)).await;
    let transaction = other.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE radcheck IN SHARE MODE").await.unwrap();
    assert_eq!(net.told(&of, EndState::Suspended).await, RETRY);
    transaction.rollback().await.unwrap();
    let read_only = |on| format!("ALTER DATABASE {NAME} SET default_transaction_read_only = {on}");
    net.users.run(&read_only("on")).await;
    assert_eq!(told(&*net.another(), net.operation(&of, EndState::Suspended)).await, RETRY);
    other.batch_execute(&read_only("off")).await.unwrap();
    assert!(net.server.lets_in(name(&of)));
    assert_eq!(net.told(&of, EndState::Suspended).await, LATER);
}

async fn it_needs_no_more_rights_than_its_page_says(net: &Net) {
    let page = include_str!("../../../../../docs/carriers/radius.md");
    let rights = page.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    net.users.run(rights).await;
    let (of, url) = (net.user().await, url(net.port(), NAME).replace("postgres@", "reveille@"));
    let disconnect = Some(DisconnectConfig {
        address: format!("{}:3799", net.server.address),
        secret: SECRET.into(),
        timeout: Duration::from_secs(5),
    });
    let carrier = adapter(RadiusConfig { database: url.parse().unwrap(), disconnect, ..config(&net.users) });
    assert_eq!(carrier.probe().await, Health::Ok);
    let (user, session) = (name(&of), "'81a2f3', '81a2f3', '10.0.0.7', now()");
    net.users.run(&format!("INSERT INTO radacct (username, acctsessionid, acctuniqueid, nasipaddress, acctstarttime) VALUES ('{user}', {session})")).await;
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, Reply::Done(Effect::Now));
    assert_eq!(net.server.ended(), [format!("{user} 81a2f3 10.0.0.7")]);
    assert!(!net.server.lets_in(user));
    assert_eq!(told(&*carrier, net.operation(&of, EndState::InService)).await, LATER);
    assert!(net.server.lets_in(user));
}

async fn what_is_wrong_with_a_database_is_told_and_no_profile_is_to_blame(net: &Net) {
    let of = net.user().await;
    let at = format!("at 127.0.0.1:{}", net.port());
    net.users.run("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await;
    net.users.run("CREATE DATABASE empty TEMPLATE template0").await;
    let base = url(net.port(), NAME).replace("postgres@", "postgres:hush@");
    for (url, credentials, words) in [
        (base.replace("postgres:hush", "nobody:hush"), true, "refuses our user or password"),
        (base.replace("postgres:hush", "reader:hush"), true, "does not let our user do what is needed"),
        (base.replace("/radius", "/none"), false, "load FreeRADIUS's schema into it"),
        (base.replace("/radius", "/empty"), false, "load FreeRADIUS's schema into it"),
        (base.replace(&net.port().to_string(), "1"), false, "refuses connections: start PostgreSQL"),
        (base.replace("127.0.0.1", "nowhere.invalid"), false, "cannot be talked to"),
    ] {
        let carrier = adapter(RadiusConfig { database: url.parse().unwrap(), ..config(&net.users) });
        let trouble = match told(&*carrier, net.operation(&of, EndState::Suspended)).await {
            Reply::Unavailable(trouble) => trouble,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(matches!(trouble, Trouble::Credentials(_)), credentials, "{url}: {trouble}");
        assert!(trouble.words().contains(words) && !trouble.words().contains("hush"), "{url}: {trouble}");
        assert!(credentials == trouble.words().contains(&at) || !credentials, "{trouble}");
        assert!(!trouble.words().contains(name(&of)), "{trouble}");
    }
    assert!(net.server.lets_in(name(&of)));
}

async fn what_is_wrong_with_a_file_is_told_and_no_profile_is_to_blame(net: &Net) {
    let of = net.user().await;
    let file = net.file().expect("it has one");
    net.freeze().await;
    assert_eq!(net.told(&of, EndState::Suspended).await, RETRY);
    assert_eq!(net.carrier.probe().await, Health::Ok, "who reads is not kept out");
    net.thaw().await;
    let (empty, text) = (format!("{file}.empty"), format!("{file}.text"));
    rusqlite::Connection::open(&empty).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    std::fs::write(&text, "no database at all, but long enough to be taken for one ".repeat(20)).unwrap();
    for (file, words) in [
        (format!("{file}.none"), "cannot be opened"),
        (empty, "load FreeRADIUS's schema into it"),
        (text, "is none of SQLite's"),
    ] {
        let database = format!("sqlite:{file}").parse().unwrap();
        let carrier = adapter(RadiusConfig { database, ..config(&net.users) });
        match told(&*carrier, net.operation(&of, EndState::Suspended)).await {
            Reply::Unavailable(Trouble::Transport(said)) => {
                assert!(said.contains(words) && said.contains(&file), "{said}");
            }
            other => panic!("{file}: {other:?}"),
        }
        let Health::Down(_) = carrier.probe().await else { panic!("{file} is none") };
    }
    assert!(net.server.lets_in(name(&of)));
}
