//! What SQLite promises beside the port: failed writes, other processes, other releases.

use crate::folder::Folder;
use reveille_domain::{AccountName, Action, Fault, RequestId, Subject, Terms, Timestamp, Told};
use reveille_store::Store;
use reveille_store::sqlite::{Sqlite, SqliteConfig};
use reveille_store::{
    AcceptLimits, Acceptance, Declaration, Directory, NewRequest, NewSubrequest, Recorded, Recording,
    Requests, StoreError,
};
use std::error::Error;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const LIMITS: AcceptLimits = AcceptLimits { waiting_per_account: 1_000, waiting_in_all: 1_000 };

fn account() -> AccountName {
    "0000123456-00001".parse().unwrap()
}

async fn store_with_account(folder: &Folder) -> Sqlite {
    let store = folder.open();
    let declaration = Declaration { accounts: vec![account()], ..Declaration::default() };
    store.apply(declaration, Timestamp(0)).await.unwrap();
    store
}

fn request(number: u64) -> NewRequest {
    let targets = (1..=3).map(|target| NewSubrequest {
        subject: Subject::Profile(format!("891480000008{target:08}").parse().unwrap()),
        target: Err(Fault::DeviceNotFound),
    });
    NewRequest {
        id: RequestId::from_random(u128::from(number) << 80),
        account: account(),
        action: Action::ProfileResume,
        terms: Terms::default(),
        service_plan: None,
        user: "demo".into(),
        accepted_at: Timestamp(1),
        key: None,
        subrequests: targets.collect(),
    }
}

async fn accepted(store: &Sqlite, number: u64) -> RequestId {
    let request = request(number);
    let id = request.id;
    let acceptance = store.accept(request, LIMITS).await.unwrap();
    assert!(matches!(acceptance, Acceptance::Accepted { .. }), "{acceptance:?}");
    id
}

async fn record_all(store: &Sqlite, id: RequestId) -> reveille_store::Result<Vec<Recorded>> {
    let waiting = store.waiting_of(id, 0, 1_000).await.unwrap();
    let recordings = waiting.into_iter().map(|waiting| Recording {
        told: Told {
            subject: waiting.subject.clone(),
            eid: None,
            imei: None,
            msisdn: None,
            result: Err(Fault::DeviceNotFound),
        },
        request: waiting.request,
        number: waiting.number,
        at: Timestamp(2),
        changes: Vec::new(),
        call: None,
        guard: reveille_store::Guard::Free,
    });
    store.record(recordings.collect()).await.map(|written| written.each)
}

/// How many rows each table of a request holds, and what is counted.
fn written(folder: &Folder) -> [i64; 8] {
    let counts = [
        "SELECT count(*) FROM request",
        "SELECT count(*) FROM subrequest",
        "SELECT count(*) FROM subrequest WHERE ended_at IS NOT NULL",
        "SELECT count(*) FROM callback",
        "SELECT coalesce(sum(succeeded + failed), 0) FROM request",
        "SELECT sum(waiting) FROM account",
        "SELECT waiting FROM backlog",
        "SELECT untold FROM backlog",
    ];
    let connection = folder.connection();
    counts.map(|count| connection.query_row(count, [], |row| row.get(0)).unwrap())
}

const ONE_WAITS: [i64; 8] = [1, 3, 0, 0, 0, 3, 3, 0];
const ONE_HAS_ENDED: [i64; 8] = [1, 3, 3, 3, 3, 0, 0, 3];

/// Another connection lays a trap, and takes it away when it is dropped.
struct Trap<'a>(&'a Folder);

impl<'a> Trap<'a> {
    fn set(folder: &'a Folder, when: &str, springs: &str) -> Self {
        let trap = format!(
            "CREATE TABLE IF NOT EXISTS trap (never INTEGER REFERENCES backlog (only_row) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER trapped {when} BEGIN {springs}; END"
        );
        folder.connection().execute_batch(&trap).unwrap();
        Self(folder)
    }
}

impl Drop for Trap<'_> {
    fn drop(&mut self) {
        self.0.connection().execute_batch("DROP TRIGGER trapped; DROP TABLE trap").unwrap();
    }
}

/// Breaks a rule that is checked at the commit alone.
const COMMIT_FAILS: &str = "INSERT INTO trap (never) VALUES (2)";

/// Ends the transaction under the writer's feet.
const TRANSACTION_ENDS: &str = "SELECT RAISE (ROLLBACK, 'trapped')";

/// Breaks one statement.
const STATEMENT_FAILS: &str = "SELECT RAISE (ABORT, 'trapped')";

#[tokio::test]
async fn a_failed_commit_leaves_nothing_and_the_store_works_on() {
    for springs in [COMMIT_FAILS, TRANSACTION_ENDS] {
        let folder = Folder::new();
        let store = store_with_account(&folder).await;
        let first = accepted(&store, 1).await;
        let trap = Trap::set(&folder, "AFTER INSERT ON request", springs);
        for number in [2, 3] {
            let error = store.accept(request(number), LIMITS).await.unwrap_err();
            assert!(matches!(error, StoreError::Unconfirmed), "{error:?}");
        }
        assert_eq!(written(&folder), ONE_WAITS);
        assert!(store.request(request(2).id).await.unwrap().is_none(), "read back while writes fail");
        drop(trap);
        record_all(&store, first).await.unwrap();
        assert_eq!(written(&folder), ONE_HAS_ENDED);
        accepted(&store, 2).await;
    }
}

#[tokio::test]
async fn an_unconfirmed_request_is_not_said_to_be_absent_before_the_log_is_settled() {
    let folder = Folder::new();
    let store = store_with_account(&folder).await;
    let trap = Trap::set(&folder, "AFTER INSERT ON request", COMMIT_FAILS);
    store.accept(request(1), LIMITS).await.unwrap_err();
    drop(trap);
    let other = folder.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap(); // so that the store cannot write
    assert!(store.request(request(1).id).await.is_err(), "a recovery may find it yet");
    other.execute_batch("COMMIT").unwrap();
    assert!(store.request(request(1).id).await.unwrap().is_none());
    accepted(&store, 1).await;
}

#[tokio::test]
async fn outcomes_whose_commit_failed_can_be_recorded_again() {
    for (when, springs) in [
        ("AFTER INSERT ON callback WHEN new.number = 3", COMMIT_FAILS),
        ("AFTER INSERT ON callback WHEN new.number = 3", TRANSACTION_ENDS),
        ("AFTER INSERT ON callback WHEN new.number = 3", STATEMENT_FAILS),
        ("AFTER UPDATE ON backlog", STATEMENT_FAILS),
    ] {
        let folder = Folder::new();
        let store = store_with_account(&folder).await;
        let id = accepted(&store, 1).await;
        let trap = Trap::set(&folder, when, springs);
        record_all(&store, id).await.unwrap_err();
        assert_eq!(written(&folder), ONE_WAITS, "{when} {springs}");
        drop(trap);
        assert_eq!(record_all(&store, id).await.unwrap(), [Recorded::Now; 3]);
        assert_eq!(written(&folder), ONE_HAS_ENDED);
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_its_neighbours_alone() {
    let folder = Folder::new();
    let store = store_with_account(&folder).await;
    let unlucky = "AFTER INSERT ON subrequest WHEN new.number = 3 AND new.sequence = 2";
    let trap = Trap::set(&folder, unlucky, STATEMENT_FAILS);
    // Nothing is left of what fails, so the next is given the same order number and fails, too.
    let answers = tokio::join!(
        store.accept(request(1), LIMITS),
        store.accept(request(2), LIMITS),
        store.accept(request(3), LIMITS),
    );
    drop(trap);
    assert!(matches!(answers.0, Ok(Acceptance::Accepted { .. })), "{answers:?}");
    for answer in [answers.1, answers.2] {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(written(&folder), ONE_WAITS);
    accepted(&store, 2).await;
}

#[tokio::test]
async fn a_database_that_stays_locked_is_an_error_until_it_is_released() {
    let folder = Folder::new();
    let store = store_with_account(&folder).await;
    let other = folder.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.accept(request(1), LIMITS).await; // after the busy time-out
    assert!(refused.is_err(), "{refused:?}");
    assert!(store.request(request(1).id).await.unwrap().is_none(), "it can be read meanwhile");
    other.execute_batch("COMMIT").unwrap();
    accepted(&store, 1).await;
    assert_eq!(written(&folder), ONE_WAITS);
}

#[tokio::test]
async fn two_processes_may_write_the_same_file() {
    let folder = Folder::new();
    let (one, two) = (store_with_account(&folder).await, folder.open());
    let mut sequences = Vec::new();
    for number in 1..=4 {
        let store = if number % 2 == 0 { &one } else { &two };
        accepted(store, number).await;
        sequences.push((one.last_sequence().await.unwrap(), two.last_sequence().await.unwrap()));
    }
    assert_eq!(sequences, [(1, 1), (2, 2), (3, 3), (4, 4)]);
}

#[test]
fn a_database_of_a_newer_release_is_refused() {
    let folder = Folder::new();
    drop(folder.open());
    folder.connection().pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&folder.config()).err().unwrap();
    let source = error.source().unwrap().to_string();
    assert!(source.contains("schema 99") && source.contains("this release knows"), "{source}");
    let version: i64 =
        folder.connection().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99, "it is left as it was");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.database(), "no database".repeat(1_000)).unwrap();
    let error = Sqlite::open(&folder.config()).err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_nearly_full_disk_accepts_nothing_but_ends_what_was_accepted() {
    let folder = Folder::new();
    let id = accepted(&store_with_account(&folder).await, 1).await;
    let store = Sqlite::open(&SqliteConfig { disk_free_min: u64::MAX, ..folder.config() }).unwrap();
    let refused = store.accept(request(2), LIMITS).await.unwrap_err();
    assert!(matches!(refused, StoreError::DiskNearlyFull { .. }), "{refused:?}");
    record_all(&store, id).await.unwrap();
    assert_eq!(written(&folder), ONE_HAS_ENDED);
}

#[tokio::test]
async fn a_closed_store_writes_nothing_and_says_so() {
    let folder = Folder::new();
    let store = store_with_account(&folder).await;
    store.close();
    let refused = store.accept(request(1), LIMITS).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    store.close();
}

#[tokio::test]
async fn it_closes_while_somebody_has_not_taken_an_answer() {
    let folder = Folder::new();
    let store = Arc::new(store_with_account(&folder).await);
    let mut write = std::pin::pin!(accepted(&store, 1));
    let is_sent = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await;
    assert!(is_sent, "it was answered at once");
    let (closed, closing) = std::sync::mpsc::channel();
    let closes = Arc::clone(&store);
    std::thread::spawn(move || {
        closes.close();
        let _ = closed.send(());
    });
    closing.recv_timeout(Duration::from_secs(10)).expect("it closes");
    write.await;
}
