//! Who may do what: declarations, clients and tokens, users and sessions, listeners, plans, holds.

use super::Bench;
use super::house::{House, account, at};
use crate::{
    Applied, ClientDeclaration, Declaration, Listener, ListenerDeclaration, LoginFailure, Session,
    UserDeclaration,
};
use reveille_domain::{ListenerName, Network};

/// One of everything.
fn declaration() -> Declaration {
    Declaration {
        accounts: vec![account(1), account(2)],
        service_plans: vec![
            (account(1), Network::VerizonUs, "Verizon IoT 5MB".into()),
            (account(1), Network::Global, "Global 5MB".into()),
        ],
        listeners: vec![ListenerDeclaration { account: account(1), listener: listener("http://one/") }],
        clients: vec![client("demo-key", 1, true)],
        users: vec![user("demo", "initial", &[1])],
    }
}

fn listener(url: &str) -> Listener {
    Listener {
        name: ListenerName::OWN,
        service: "DeviceProfileService".into(),
        url: url.into(),
        username: Some("fleet".into()),
        password: Some([1, 2, 3].into()),
        registered_at: at(5),
    }
}

fn client(key: &str, digest: u8, given: bool) -> ClientDeclaration {
    ClientDeclaration { key: key.into(), secret_digest: [digest; 32], given }
}

fn user(name: &str, password_hash: &str, accounts: &[u32]) -> UserDeclaration {
    let accounts = accounts.iter().map(|number| account(*number)).collect();
    UserDeclaration { name: name.into(), password_hash: password_hash.into(), operator: None, accounts }
}

async fn declared(bench: &dyn Bench) -> House {
    let house = House::empty(bench).await;
    house.apply(declaration(), at(10)).await.expect("applied");
    house
}

async fn applied(house: &House, declaration: Declaration) -> Applied {
    house.apply(declaration, at(20)).await.expect("applied")
}

/// A store keeps to the first key that it was given.
pub async fn a_store_takes_one_key(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    for (key, is_its_own) in [(1, true), (2, false), (1, true)] {
        assert_eq!(house.takes_key([key; 32]).await.expect("answered"), is_its_own);
    }
}

/// What is declared is there, and the answer says what was new.
pub async fn a_declaration_is_applied(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    assert!(!house.account_exists(&account(1)).await.expect("read"));
    let expected = Applied {
        accounts_new: 2,
        service_plans_new: 2,
        listeners_set: 1,
        clients_new: vec!["demo-key".into()],
        clients_rotated: vec![],
        users_new: vec!["demo".into()],
    };
    assert_eq!(applied(&house, declaration()).await, expected);
    assert!(house.account_exists(&account(2)).await.expect("read"));
    assert!(!house.account_exists(&account(3)).await.expect("read"));
    let mut plans = house.service_plans(&account(1)).await.expect("read");
    plans.sort();
    let named = |network, name: &str| (network, Box::from(name));
    assert_eq!(plans, [named(Network::VerizonUs, "Verizon IoT 5MB"), named(Network::Global, "Global 5MB")]);
    assert!(house.service_plans(&account(2)).await.expect("read").is_empty());
    let expected = Listener { registered_at: at(20), ..listener("http://one/") };
    assert_eq!(house.listeners(&account(1)).await.expect("read"), [expected]);
}

/// Applied again it changes nothing; what is absent from it stays.
pub async fn a_declaration_applied_again_changes_nothing(bench: &dyn Bench) {
    let house = declared(bench).await;
    let before = house.everything().await;
    assert_eq!(applied(&house, declaration()).await, Applied::default());
    assert_eq!(applied(&house, Declaration::default()).await, Applied::default());
    assert_eq!(house.everything().await, before);
}

/// A changed listener takes the place of the declared one.
pub async fn a_changed_listener_is_applied(bench: &dyn Bench) {
    let house = declared(bench).await;
    let moved = listener("http://two/");
    let listeners = vec![ListenerDeclaration { account: account(1), listener: moved.clone() }];
    let answer = applied(&house, Declaration { listeners, ..Declaration::default() }).await;
    assert_eq!(answer, Applied { listeners_set: 1, ..Applied::default() });
    let expected = Listener { registered_at: at(20), ..moved };
    assert_eq!(house.listeners(&account(1)).await.expect("read"), [expected]);
}

/// A secret that is given rotates; a generated one is taken only where the client is new.
pub async fn a_given_secret_rotates(bench: &dyn Bench) {
    let house = declared(bench).await;
    let clients = |clients| Declaration { clients, ..Declaration::default() };
    let both = vec![client("demo-key", 7, false), client("other-key", 8, false)];
    let answer = applied(&house, clients(both)).await;
    assert_eq!(answer, Applied { clients_new: vec!["other-key".into()], ..Applied::default() });
    assert_eq!(secret(&house, "demo-key").await, [1; 32]);
    assert_eq!(secret(&house, "other-key").await, [8; 32]);
    let answer = applied(&house, clients(vec![client("demo-key", 9, true)])).await;
    assert_eq!(answer, Applied { clients_rotated: vec!["demo-key".into()], ..Applied::default() });
    assert_eq!(secret(&house, "demo-key").await, [9; 32]);
}

/// Whoever had the former secret loses its token, too.
pub async fn a_rotated_secret_revokes_the_token(bench: &dyn Bench) {
    let house = declared(bench).await;
    let number = house.client("demo-key").await.expect("read").expect("a client").number;
    house.issue_token(number, at(10), at(0)).await.expect("issued");
    let rotated = Declaration { clients: vec![client("demo-key", 9, true)], ..Declaration::default() };
    applied(&house, rotated).await;
    let client = house.client_numbered(number).await.expect("read").expect("a client");
    assert_eq!(client.token_issued_at, None);
}

async fn secret(house: &House, key: &str) -> [u8; 32] {
    house.client(key).await.expect("read").expect("a client of that key").secret_digest
}

/// A user's declared password is initial: it undoes no later reset. Accounts are added, the role follows.
pub async fn a_declared_password_undoes_no_reset(bench: &dyn Bench) {
    let house = declared(bench).await;
    house.set_password("demo", "reset".into()).await.expect("set");
    let users = vec![
        UserDeclaration { operator: Some(true), ..user("demo", "initial", &[2]) },
        user("another", "theirs", &[]),
    ];
    let answer = applied(&house, Declaration { users, ..Declaration::default() }).await;
    assert_eq!(answer, Applied { users_new: vec!["another".into()], ..Applied::default() });
    let demo = house.user("demo").await.expect("read").expect("a user of that name");
    assert_eq!((&*demo.name, &*demo.password_hash), ("demo", "reset"));
    assert!(demo.operator && !demo.locked);
    assert_eq!(demo.accounts, [account(1), account(2)]);
    applied(&house, Declaration { users: vec![user("demo", "initial", &[])], ..Declaration::default() })
        .await;
    let demo = house.user("demo").await.expect("read").expect("a user of that name");
    assert!(demo.operator, "what is not declared stays");
    let another = house.user("another").await.expect("read").expect("a user of that name");
    assert!(!another.operator && another.accounts.is_empty());
    assert!(house.user("nobody").await.expect("read").is_none());
    assert!(!house.set_password("nobody", "x".into()).await.expect("answered"));
    assert!(house.user("nobody").await.expect("read").is_none());
}

/// A client is found by its key and by its number, which is its own.
pub async fn a_client_is_found_by_key_and_number(bench: &dyn Bench) {
    let house = declared(bench).await;
    let clients = vec![client("other-key", 2, true)];
    applied(&house, Declaration { clients, ..Declaration::default() }).await;
    let demo = house.client("demo-key").await.expect("read").expect("a client of that key");
    let other = house.client("other-key").await.expect("read").expect("a client of that key");
    assert_ne!(demo.number, other.number);
    assert_eq!((demo.secret_digest, demo.token_issued_at), ([1; 32], None));
    assert_eq!(house.client_numbered(other.number).await.expect("read"), Some(other));
    assert_eq!(house.client("no-key").await.expect("read"), None);
    assert_eq!(house.client_numbered(999).await.expect("read"), None);
}

/// A client has one token within its hour, and another after it.
pub async fn a_token_is_the_same_within_its_hour(bench: &dyn Bench) {
    let house = declared(bench).await;
    let number = demo_client(&house).await;
    assert_eq!(issued(&house, number, 1_000).await, Some(at(1_000)));
    assert_eq!(issued(&house, number, 1_001).await, Some(at(1_000)));
    assert_eq!(issued(&house, number, 4_599).await, Some(at(1_000)));
    assert_eq!(issued(&house, number, 4_600).await, Some(at(4_600)), "its hour is over");
    let client = house.client_numbered(number).await.expect("read").expect("a client of that number");
    assert_eq!(client.token_issued_at, Some(at(4_600)));
    assert_eq!(issued(&house, 999, 1_000).await, None);
}

async fn demo_client(house: &House) -> u32 {
    house.client("demo-key").await.expect("read").expect("a client of that key").number
}

async fn issued(house: &House, client: u32, seconds: i64) -> Option<reveille_domain::Timestamp> {
    house.issue_token(client, at(seconds), at(seconds - 3600)).await.expect("answered")
}

/// After a revocation the token is another, even within the same millisecond or by a clock set back.
pub async fn a_revoked_token_never_comes_back(bench: &dyn Bench) {
    let house = declared(bench).await;
    let number = demo_client(&house).await;
    let mut tokens = Vec::new();
    for seconds in [1_000, 1_000, 900] {
        let token = issued(&house, number, seconds).await.expect("a token");
        assert!(!tokens.contains(&token), "{token:?} was revoked");
        assert_eq!(issued(&house, number, seconds).await, Some(token));
        tokens.push(token);
        house.revoke_token(number).await.expect("revoked");
        let client = house.client_numbered(number).await.expect("read").expect("a client of that number");
        assert_eq!(client.token_issued_at, None);
        house.revoke_token(number).await.expect("revoked again");
    }
    house.revoke_token(999).await.expect("nothing to revoke");
}

/// Failed logins in a row lock; a success between them begins the row anew.
pub async fn failed_logins_in_a_row_lock(bench: &dyn Bench) {
    let house = declared(bench).await;
    let fails = async || house.login_failed("demo", at(30), 3).await.expect("answered");
    assert_eq!([fails().await, fails().await], [LoginFailure::Counted; 2]);
    house.open_session(session(1)).await.expect("opened");
    assert_eq!([fails().await, fails().await], [LoginFailure::Counted; 2]);
    assert!(!locked(&house).await);
    assert_eq!([fails().await, fails().await], [LoginFailure::Locked; 2]);
    assert!(locked(&house).await);
    assert_eq!(house.login_failed("nobody", at(30), 3).await.expect("answered"), LoginFailure::NoUser);
    assert_eq!(house.users().await.expect("read"), [("demo".into(), true)]);
}

async fn locked(house: &House) -> bool {
    house.user("demo").await.expect("read").expect("a user of that name").locked
}

/// An unlocked user has all its tries again.
pub async fn an_unlocked_user_may_fail_again(bench: &dyn Bench) {
    let house = declared(bench).await;
    for _ in 0..3 {
        house.login_failed("demo", at(30), 3).await.expect("answered");
    }
    assert!(locked(&house).await);
    assert!(house.unlock("demo").await.expect("answered"));
    assert!(!locked(&house).await);
    assert_eq!(house.login_failed("demo", at(31), 3).await.expect("answered"), LoginFailure::Counted);
    assert!(!house.unlock("nobody").await.expect("answered"));
}

fn session(number: u8) -> Session {
    Session {
        token_digest: [number; 32],
        user: "demo".into(),
        client: 1,
        last_used_at: at(40),
        ended_at: None,
    }
}

/// A session is found by its token until it is forgotten; its uses are noted, its end is kept.
pub async fn a_session_is_opened_used_and_ended(bench: &dyn Bench) {
    let house = declared(bench).await;
    for number in [1, 2] {
        house.open_session(session(number)).await.expect("opened");
    }
    assert_eq!(house.session([1; 32]).await.expect("read"), Some(session(1)));
    assert_eq!(house.session([3; 32]).await.expect("read"), None);
    let uses = vec![([1; 32], at(50)), ([1; 32], at(45)), ([3; 32], at(50))];
    house.touch_sessions(uses).await.expect("noted");
    let used = Session { last_used_at: at(50), ..session(1) };
    assert_eq!(house.session([1; 32]).await.expect("read"), Some(used.clone()), "never used earlier again");
    house.end_session([1; 32], at(60)).await.expect("ended");
    house.end_session([1; 32], at(70)).await.expect("ended before");
    let ended = Session { ended_at: Some(at(60)), ..used };
    assert_eq!(house.session([1; 32]).await.expect("read"), Some(ended));
    assert_eq!(house.session([2; 32]).await.expect("read"), Some(session(2)));
}

/// Two sessions never share a token.
pub async fn a_token_opens_one_session(bench: &dyn Bench) {
    let house = declared(bench).await;
    house.open_session(session(1)).await.expect("opened");
    house.open_session(session(1)).await.expect_err("the token is taken");
    let nobodys = Session { token_digest: [7; 32], user: "nobody".into(), ..session(1) };
    assert!(!house.open_session(nobodys).await.expect("answered"));
    assert_eq!(house.session([7; 32]).await.expect("read"), None);
    assert_eq!(house.session([1; 32]).await.expect("read"), Some(session(1)));
}

/// A listener is registered in the place of the account's former one for that service.
pub async fn a_listener_takes_the_place_of_the_former(bench: &dyn Bench) {
    let house = declared(bench).await;
    let plain =
        Listener { username: None, password: None, registered_at: at(30), ..listener("https://two/") };
    let other = Listener { service: "CarrierService".into(), ..listener("https://three/") };
    house.register(&account(1), plain.clone()).await.expect("registered");
    house.register(&account(1), other.clone()).await.expect("registered");
    house.register(&account(2), other.clone()).await.expect("registered");
    let mut listeners = house.listeners(&account(1)).await.expect("read");
    listeners.sort_by(|one, two| one.service.cmp(&two.service));
    assert_eq!(listeners, [other.clone(), plain.clone()]);
    assert!(house.deregister(&account(1), "CarrierService", ListenerName::OWN).await.expect("answered"));
    assert!(
        !house.deregister(&account(1), "CarrierService", ListenerName::OWN).await.expect("answered"),
        "it is gone"
    );
    assert_eq!(house.listeners(&account(1)).await.expect("read"), [plain]);
    assert_eq!(house.listeners(&account(2)).await.expect("read"), [other]);
    assert!(house.listeners(&account(3)).await.expect("read").is_empty());
}

/// A network's carrier is held until it is released.
pub async fn a_carrier_is_held_until_released(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    assert!(house.holds().await.expect("read").is_empty());
    for network in [Network::Global, Network::VerizonUs, Network::Global] {
        house.set_hold(network, Some(at(30))).await.expect("held");
    }
    let mut holds = house.holds().await.expect("read");
    holds.sort();
    assert_eq!(holds, [Network::VerizonUs, Network::Global]);
    house.set_hold(Network::Global, None).await.expect("released");
    house.set_hold(Network::Global, None).await.expect("released before");
    assert_eq!(house.holds().await.expect("read"), [Network::VerizonUs]);
}
