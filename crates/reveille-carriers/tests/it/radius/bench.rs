//! A RADIUS server as the suite asks for a network: an adapter, users, and a database that is stopped and frozen.

use super::freeradius::FreeRadius;
use super::users::Users;
use crate::real_time::RealTime;
use async_trait::async_trait;
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::radius::{Radius, RadiusConfig, Username};
use reveille_carriers::{Carrier, Operation, Reply};
use reveille_domain::{Clock, EndState, OperationId, RequestId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// A RADIUS server with its users, and an adapter to it.
pub(crate) struct Net {
    pub(crate) users: Users,
    pub(crate) server: FreeRadius,
    pub(crate) carrier: Arc<Radius>,
    /// A lock on a file that stands still.
    lock: Mutex<Option<rusqlite::Connection>>,
    last: AtomicU64,
}

impl Net {
    pub(crate) async fn on_postgres() -> Self {
        Self::new(Users::on_postgres().await)
    }

    pub(crate) fn on_sqlite() -> Self {
        Self::new(Users::on_sqlite())
    }

    fn new((users, server): (Users, FreeRadius)) -> Self {
        let carrier = adapter(config(&users));
        Self { users, server, carrier, lock: Mutex::default(), last: AtomicU64::new(1) }
    }

    /// A user whom nobody has touched.
    pub(crate) async fn user(&self) -> Subscription {
        self.fresh(1).await.remove(0)
    }

    pub(crate) fn operation(&self, of: &Subscription, end_state: EndState) -> Operation {
        let id = OperationId { request: self.request_id(), number: 1 };
        conformance::operation(id, of, end_state)
    }

    /// What one try of an operation of its own is told.
    pub(crate) async fn told(&self, of: &Subscription, end: EndState) -> Reply {
        told(&*self.carrier, self.operation(of, end)).await
    }

    pub(crate) fn file(&self) -> Option<&str> {
        if let Users::Sqlite { file } = &self.users { Some(file) } else { None }
    }

    pub(crate) fn port(&self) -> u16 {
        let Users::Postgres { cluster } = &self.users else { panic!("it has a file") };
        cluster.port
    }
}

pub(crate) fn config(users: &Users) -> RadiusConfig {
    RadiusConfig { database: users.configured(), username: Username::default(), disconnect: None }
}

pub(crate) fn adapter(config: RadiusConfig) -> Arc<Radius> {
    config.check().unwrap();
    Arc::new(Radius::new(config, Arc::new(RealTime), 0x5eed_0001))
}

#[async_trait]
impl Bench for Net {
    fn carrier(&self) -> Arc<dyn Carrier> {
        self.carrier.clone()
    }

    fn request_id(&self) -> RequestId {
        RequestId::from_random(self.last.fetch_add(1, Ordering::Relaxed).into())
    }

    async fn fresh(&self, count: usize) -> Vec<Subscription> {
        let numbers = std::iter::repeat_with(|| self.last.fetch_add(1, Ordering::Relaxed));
        let subscription = |number: u64| Subscription {
            iccid: format!("89148{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: Some(format!("00101{number:010}").parse().unwrap()),
            msisdn: None,
            card: Vec::new(),
        };
        let fresh: Vec<Subscription> = numbers.take(count).map(subscription).collect();
        let names: Vec<String> = fresh.iter().map(|of| name(of).into()).collect();
        self.users.create(&names).await;
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("a RADIUS server knows no ends on the card")
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        Some(self.server.lets_in(name(of)) == (end == EndState::InService))
    }

    async fn stranger(&self) -> Option<Subscription> {
        let imsi = Some("001019999999999".parse().unwrap());
        let (iccid, eid) = ("89149999999999999999".parse().unwrap(), "9".repeat(32).parse().unwrap());
        Some(Subscription { iccid, eid, imsi, msisdn: None, card: Vec::new() })
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }

    fn another(&self) -> Arc<dyn Carrier> {
        adapter(config(&self.users))
    }
}

/// The database. A file stands still while somebody else has its lock, and is stopped by being put away.
#[async_trait]
impl Peer for Net {
    async fn stop(&self) {
        match &self.users {
            Users::Postgres { cluster } => cluster.order("stop immediate"),
            Users::Sqlite { file } => {
                let _nobody_else = locked(file);
                std::fs::rename(file, format!("{file}.away")).unwrap();
            }
        }
    }

    async fn start(&self) {
        match &self.users {
            Users::Postgres { cluster } => cluster.order("start"),
            Users::Sqlite { file } => std::fs::rename(format!("{file}.away"), file).unwrap(),
        }
    }

    async fn freeze(&self) {
        match &self.users {
            Users::Postgres { cluster } => cluster.order("freeze"),
            Users::Sqlite { file } => *self.lock.lock().unwrap() = Some(locked(file)),
        }
    }

    async fn thaw(&self) {
        match &self.users {
            Users::Postgres { cluster } => cluster.order("thaw"),
            Users::Sqlite { .. } => *self.lock.lock().unwrap() = None,
        }
    }

    async fn deadline(&self) {
        RealTime.sleep(Duration::from_millis(300)).await;
    }
}

/// A connection that has the write lock.
fn locked(file: &str) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(file).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db
}

pub(crate) fn name(of: &Subscription) -> &str {
    of.imsi.as_ref().expect("each has one").as_str()
}

pub(crate) async fn told(carrier: &dyn Carrier, operation: Operation) -> Reply {
    let (sender, mut replies) = mpsc::unbounded_channel();
    let id = operation.id;
    carrier.apply(vec![operation], sender).await;
    let (of, reply) = replies.recv().await.expect("each operation has a reply");
    assert_eq!(of, id);
    reply
}
