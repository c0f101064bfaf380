//! What is decided without a database: how a document is read, and what is written to it.

use super::config::Mode;
use super::subscriber::{ComesTo, Found, Subscriber};
use super::*;
use mongodb::bson::doc;

fn imsi() -> Imsi {
    "001010000000001".parse().unwrap()
}

/// A subscriber of that IMSI with those fields.
fn subscriber(fields: Document) -> Subscriber {
    let mut document = doc! { "_id": 7, "imsi": "001010000000001", "subscriber_status": 0 };
    document.extend(fields);
    match Found::of(vec![document]) {
        Found::One(subscriber) => subscriber,
        other => panic!("{other:?}"),
    }
}

fn hidden(mut fields: Document) -> Subscriber {
    fields.insert("imsi", "suspended:001010000000001");
    subscriber(fields)
}

fn given(of: &Subscriber) -> (Document, ComesTo) {
    let step = of.give(&imsi());
    (step.change, step.comes_to)
}

fn taken(of: &Subscriber, mode: Mode) -> (Document, ComesTo) {
    let step = of.take(&imsi(), mode, 1);
    (step.change, step.comes_to)
}

#[test]
fn a_subscriber_is_hidden_under_a_new_name_and_found_again_under_the_old() {
    let change = doc! {
        "$set": { "reveille.writes": 1_i64, "imsi": "suspended:001010000000001", "reveille.hidden": true }
    };
    assert_eq!(taken(&subscriber(doc! {}), Mode::Hide), (change, ComesTo::Done));
    let change = doc! {
        "$set": { "reveille.writes": 3_i64, "imsi": "001010000000001" },
        "$unset": { "reveille.hidden": "" }
    };
    let ours = doc! { "reveille": { "writes": 2_i64, "hidden": true } };
    assert_eq!(given(&hidden(ours)), (change, ComesTo::Done));
}

#[test]
fn a_bar_keeps_what_was_there_and_brings_it_back() {
    let barred = |before: mongodb::bson::Bson| {
        doc! { "$set": {
            "reveille.writes": 1_i64, "reveille.barred": before,
            "subscriber_status": 1, "operator_determined_barring": 1,
        } }
    };
    let before = subscriber(doc! { "operator_determined_barring": 4 });
    assert_eq!(taken(&before, Mode::Status), (barred(4.into()), ComesTo::Done));
    let before = subscriber(doc! {});
    assert_eq!(taken(&before, Mode::Status), (barred(mongodb::bson::Bson::Null), ComesTo::Done));
    let ours = subscriber(doc! { "subscriber_status": 1, "reveille": { "writes": 1_i64, "barred": 4 } });
    let change = doc! {
        "$set": { "reveille.writes": 2_i64, "subscriber_status": 0, "operator_determined_barring": 4 },
        "$unset": { "reveille.barred": "" }
    };
    assert_eq!(given(&ours), (change, ComesTo::Done));
}

#[test]
fn what_is_so_already_is_written_to_without_a_change() {
    let touch = |writes: i64| doc! { "$set": { "reveille.writes": writes } };
    assert_eq!(given(&subscriber(doc! {})), (touch(1), ComesTo::AlreadySo));
    let by_us = doc! { "reveille": { "writes": 8_i64, "hidden": true } };
    for of in [hidden(by_us), hidden(doc! { "reveille": { "writes": 8_i64 } })] {
        assert_eq!(taken(&of, Mode::Hide), (touch(9), ComesTo::AlreadySo));
        assert_eq!(taken(&of, Mode::Status), (touch(9), ComesTo::AlreadySo), "it is not found at all");
    }
    let barred = subscriber(doc! { "subscriber_status": 1 });
    assert_eq!(taken(&barred, Mode::Status), (touch(1), ComesTo::AlreadySo));
    assert_eq!(taken(&barred, Mode::Hide).1, ComesTo::Done, "an MME may not heed that it is barred");
}

#[test]
fn what_others_have_taken_is_theirs_to_give() {
    for of in [
        hidden(doc! {}),
        subscriber(doc! { "subscriber_status": 1 }),
        hidden(doc! { "subscriber_status": 1, "reveille": { "writes": 0_i64, "hidden": true } }),
    ] {
        let touch = doc! { "$set": { "reveille.writes": 1_i64 } };
        assert_eq!(given(&of), (touch, ComesTo::TakenByOthers));
    }
}

#[test]
fn a_mark_of_ours_that_others_have_outdated_goes_with_the_next_operation() {
    let unhidden = subscriber(doc! { "reveille": { "writes": 3_i64, "hidden": true } });
    let change = doc! { "$set": { "reveille.writes": 4_i64 }, "$unset": { "reveille.hidden": "" } };
    assert_eq!(given(&unhidden), (change, ComesTo::AlreadySo));
    assert_eq!(taken(&unhidden, Mode::Hide).1, ComesTo::DoneAgain);
    let unbarred = subscriber(doc! { "operator_determined_barring": 2, "reveille": { "barred": 4 } });
    let change = doc! { "$set": { "reveille.writes": 1_i64 }, "$unset": { "reveille.barred": "" } };
    assert_eq!(given(&unbarred), (change, ComesTo::AlreadySo), "nor is their value overwritten");
    assert_eq!(taken(&unbarred, Mode::Status).1, ComesTo::DoneAgain);
}

#[test]
fn a_write_matches_only_what_was_found() {
    let found = subscriber(doc! { "reveille": { "writes": 5_i64 }, "mme_host": "left alone" });
    let unchanged = doc! {
        "_id": 7, "imsi": "001010000000001", "subscriber_status": 0, "reveille.writes": 5_i64,
    };
    assert_eq!(found.unchanged(), unchanged);
    let absent = doc! { "$exists": false };
    assert_eq!(subscriber(doc! {}).unchanged().get("reveille.writes"), Some(&absent.into()));
}

#[test]
fn the_one_that_the_network_finds_counts_where_there_are_two() {
    let seen = doc! { "_id": 1, "imsi": "001010000000001" };
    let not_seen = doc! { "_id": 2, "imsi": "suspended:001010000000001" };
    for documents in [vec![seen.clone(), not_seen.clone()], vec![not_seen, seen]] {
        let Found::Twice(of) = Found::of(documents) else { panic!("there are two") };
        assert!(of.is_in_service());
    }
    assert_eq!(Found::of(Vec::new()), Found::Nobody);
}

#[test]
fn only_a_status_that_the_hss_can_read_counts() {
    for (status, in_service) in
        [(1.into(), false), (0.into(), true), (1.0.into(), true), (1_i64.into(), true)]
    {
        let status: mongodb::bson::Bson = status;
        assert_eq!(
            subscriber(doc! { "subscriber_status": &status }).is_in_service(),
            in_service,
            "{status:?}"
        );
    }
}
