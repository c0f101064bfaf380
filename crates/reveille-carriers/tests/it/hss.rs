//! A real nextepc-hss of the test's own, and the database that it reads, as its operator would use it.
//!
//! `tests/open5gs.sh` keeps the programs. This process holds a pipe to that script, so they go when the process does.

use crate::s6a::{GRANTED, Mme};
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Client, Collection, IndexModel};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/open5gs.sh");

/// A subscriber that nobody but this file touches: once the HSS knows it, it has its database again.
const SENTINEL: &str = "001019000000000";

/// How many subscribers are made by one command.
const MADE_AT_ONCE: usize = 1000;

/// A running HSS and its database; gone when this is.
pub(crate) struct Hss {
    pub(crate) address: Ipv4Addr,
    pub(crate) mme: Mme,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _keeper: Child,
}

impl Hss {
    /// One at an address that no other test has, whichever process runs it.
    ///
    /// # Panics
    /// Where a program is missing, or does not start.
    pub(crate) async fn start() -> Self {
        let address = fresh_address();
        let mut script = Command::new(KEEPER);
        script.arg(address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        script.process_group(0); // Ctrl-C must not end it before it has cleaned up
        let mut keeper = script.spawn().expect("the script starts");
        let orders = keeper.stdin.take().expect("it is piped");
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut first = String::new();
        said.read_line(&mut first).expect("the script prints text");
        if first != "ready\n" {
            said.read_to_string(&mut first).expect("the script prints text");
            panic!("there is no HSS for this test: {first}");
        }
        let pipes = Mutex::new((orders, said));
        let hss = Self { address, mme: Mme::new(address), pipes, _keeper: keeper };
        let unique = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder().keys(doc! { "imsi": 1 }).options(unique).build();
        hss.subscribers().await.create_index(index).await.expect("the database makes an index");
        hss.create(&[SENTINEL.into()]).await;
        hss.wait_until_it_reads();
        hss
    }

    /// Has the script carry out an order: `stop`, `start`, `freeze`, `thaw` or `lock`.
    pub(crate) fn order(&self, order: &str) {
        let (orders, said) = &mut *self.pipes.lock().unwrap();
        writeln!(orders, "{order}").expect("the script reads");
        let mut answer = String::new();
        said.read_line(&mut answer).expect("the script prints text");
        assert_eq!(answer, "done\n", "{order}");
    }

    /// Waits until the HSS has its database: without one, it says of everybody that there is no such user.
    pub(crate) fn wait_until_it_reads(&self) {
        while self.mme.locate(SENTINEL) != GRANTED {}
    }

    pub(crate) fn url(&self) -> String {
        format!("mongodb://{}:27017", self.address)
    }

    /// The collection, over a connection of this call's own.
    pub(crate) async fn subscribers(&self) -> Collection<Document> {
        let client = Client::with_uri_str(self.url()).await.expect("the database is there");
        client.database("nextepc").collection("subscribers")
    }

    /// New subscribers, as the operator's tools write them; the keys are of no handset.
    pub(crate) async fn create(&self, imsis: &[String]) {
        let subscribers = self.subscribers().await;
        for some in imsis.chunks(MADE_AT_ONCE) {
            subscribers.insert_many(some.iter().map(subscriber)).await.expect("the database takes them");
        }
    }

    /// Changes a subscriber by another hand than Reveille's.
    pub(crate) async fn change(&self, imsi: &str, change: Document) {
        let changed = self.subscribers().await.update_one(doc! { "imsi": imsi }, change).await;
        assert_eq!(changed.expect("the database takes it").matched_count, 1, "there is such a subscriber");
    }

    pub(crate) async fn find(&self, imsi: &str) -> Option<Document> {
        self.subscribers().await.find_one(doc! { "imsi": imsi }).await.expect("the database answers")
    }
}

fn subscriber(imsi: &String) -> Document {
    let rate = doc! { "uplink": 1_024_000_i64, "downlink": 1_024_000_i64 };
    let arp = doc! { "priority_level": 8, "pre_emption_vulnerability": 1, "pre_emption_capability": 1 };
    doc! {
        "imsi": imsi,
        "subscriber_status": 0,
        "access_restriction_data": 32,
        "network_access_mode": 2,
        "subscribed_rau_tau_timer": 12,
        "ambr": rate.clone(),
        "security": {
            "k": "465B5CE8 B199B49F AA5F0A2E E238A6BC",
            "opc": "E8ED289D EBA952E4 283B54E8 8E6183CA",
            "amf": "8000",
        },
        "pdn": [{ "apn": "internet", "type": 0, "ambr": rate, "qos": { "qci": 9, "arp": arp } }],
    }
}

/// 127.A.B.C, of the process and of how many it had before. An HLR of `hlr.rs` may have the same, and other ports.
fn fresh_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(taken < 4, "a test process has four HSSs at most");
    let [_, high, middle, low] = std::process::id().to_be_bytes(); // at most 22 bits, says Linux
    Ipv4Addr::new(127, taken << 6 | high & 0x3f, middle, low)
}
