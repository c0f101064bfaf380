//! What carriers must not forget: notices, and how logins ended.

use super::Bench;
use super::house::{House, at, iccid};
use crate::{KeptNotice, LoginEnd, LoginTurn, NoticeKey};
use reveille_domain::Timestamp;

fn key(name: &str, number: u32) -> NoticeKey {
    NoticeKey { name: name.into(), iccid: iccid(1, number) }
}

fn notice(name: &str, number: u32, text: &str, heard_at: Timestamp) -> KeptNotice {
    KeptNotice { key: key(name, number), text: text.into(), heard_at }
}

/// A notice is kept under its name and profile, the first of several; of what it came is known from its time on.
pub async fn the_first_notice_counts(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    let notices = vec![
        notice("one", 1, "done", at(10)),
        notice("one", 2, "failed", at(11)),
        notice("two", 1, "done", at(12)),
    ];
    house.keep_notices(notices).await.expect("kept");
    let late = vec![notice("one", 1, "failed after all", at(20)), notice("two", 1, "done", at(12))];
    house.keep_notices(late).await.expect("kept");
    let of = vec![key("two", 1), key("one", 1), key("two", 2), key("one", 2), key("three", 1)];
    let known = house.notices(of).await.expect("read");
    assert_eq!(known, [Some("done".into()), Some("done".into()), None, Some("failed".into()), None]);
    assert_eq!(house.noticed(at(11), 9).await.expect("read"), [key("two", 1), key("one", 2)]);
    assert_eq!(house.noticed(at(10), 1).await.expect("read"), [key("two", 1)]);
    assert_eq!(house.noticed(at(13), 9).await.expect("read"), []);
}

/// Old notices go, the others stay.
pub async fn an_old_notice_is_forgotten(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    let notices = vec![notice("old", 1, "done", at(10)), notice("young", 1, "done", at(30))];
    house.keep_notices(notices).await.expect("kept");
    while house.forget(at(20), at(20), 1).await.expect("forgotten") > 0 {}
    let known = house.notices(vec![key("old", 1), key("young", 1)]).await.expect("read");
    assert_eq!(known, [None, Some("done".into())]);
}

const LOGIN: &str = "who and where";

async fn begin(house: &House, second: i64) -> LoginTurn {
    begin_with(house, "a digest", second).await
}

async fn begin_with(house: &House, credentials: &str, second: i64) -> LoginTurn {
    house.begin_login(LOGIN, credentials, 3, at(second), at(second + 60)).await.expect("answered")
}

async fn end(house: &House, ended: LoginEnd) {
    house.end_login(LOGIN, ended).await.expect("written");
}

/// One login is under way at a time; what nobody heard the end of gives way in time, and counts as failed.
pub async fn logins_take_turns(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    assert_eq!(begin(&house, 0).await, LoginTurn::Now);
    assert_eq!(begin(&house, 59).await, LoginTurn::Later);
    let others = house.begin_login("another", "a digest", 3, at(1), at(61)).await.expect("answered");
    assert_eq!(others, LoginTurn::Now);
    assert_eq!(begin(&house, 60).await, LoginTurn::Now);
    end(&house, LoginEnd::NotSent).await;
    assert_eq!(begin(&house, 61).await, LoginTurn::Now);
    assert_eq!(begin(&house, 200).await, LoginTurn::Now);
    assert_eq!(begin(&house, 300).await, LoginTurn::NoMore);
}

/// So many fail in a row and no more, whatever is between them; one that succeeds begins the count anew.
pub async fn logins_that_fail_come_to_an_end(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    for _ in 0..2 {
        assert_eq!(begin(&house, 0).await, LoginTurn::Now);
        end(&house, LoginEnd::Refused).await;
    }
    assert_eq!(begin(&house, 0).await, LoginTurn::Now);
    end(&house, LoginEnd::Succeeded).await;
    for second in [0, 100, 200, 300] {
        assert_eq!(begin(&house, second).await, LoginTurn::Now, "they are good, though nobody answers");
    }
    end(&house, LoginEnd::Refused).await;
    assert_eq!(begin(&house, 400).await, LoginTurn::NoMore, "they are not any more");
    house.forgive_logins(2).await.expect("written");
    assert_eq!(begin(&house, 400).await, LoginTurn::Now);
    end(&house, LoginEnd::Refused).await;
    assert_eq!(begin(&house, 400).await, LoginTurn::NoMore);
}

/// Other credentials are tried once where the ones before had failed too often: what counts is the user's.
pub async fn other_credentials_get_one_try(bench: &dyn Bench) {
    let house = House::empty(bench).await;
    for _ in 0..3 {
        assert_eq!(begin(&house, 0).await, LoginTurn::Now);
        end(&house, LoginEnd::Refused).await;
    }
    assert_eq!(begin(&house, 0).await, LoginTurn::NoMore);
    assert_eq!(begin_with(&house, "others", 0).await, LoginTurn::Now);
    end(&house, LoginEnd::Refused).await;
    for credentials in ["others", "a digest", "yet others"] {
        assert_eq!(begin_with(&house, credentials, 0).await, LoginTurn::NoMore, "{credentials}");
    }
    house.forgive_logins(2).await.expect("written");
    assert_eq!(begin_with(&house, "yet others", 0).await, LoginTurn::Now);
    end(&house, LoginEnd::Succeeded).await;
    assert_eq!(
        begin(&house, 0).await,
        LoginTurn::Now,
        "the first are not proven any more, and get their tries"
    );
}
