//! The shared store on a cluster of the tests' own.

use crate::cluster::Cluster;
use async_trait::async_trait;
use reveille_store::Store;
use reveille_store::conformance::{Bench, Place};
use reveille_store::postgres::{Postgres, PostgresConfig};
use std::sync::Arc;
use std::time::Duration;

/// How long a lease lasts here: longer than what a part does under one.
const LEASE: Duration = Duration::from_secs(2);

/// PostgreSQL, each time in a new database.
pub(crate) struct PostgresBench;

/// A database of that URL.
pub(crate) struct Database(pub(crate) String);

#[async_trait]
impl Bench for PostgresBench {
    async fn empty_place(&self) -> Box<dyn Place> {
        Box::new(Database(Cluster::shared().fresh_database()))
    }

    #[expect(clippy::disallowed_methods, reason = "leases last by the database's clock, which nobody moves")]
    async fn leases_run_out(&self) {
        tokio::time::sleep(LEASE).await;
    }
}

#[async_trait]
impl Place for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(Postgres::open(&config(&self.0)).unwrap())
    }
}

pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig { url: url.to_owned(), readers: 2, lease: LEASE }
}

/// Where a standby should have everything, nothing is shown that none has; and who gives up leaves no session waiting.
#[test]
fn a_database_without_its_synchronous_standby_is_not_opened() {
    let cluster = Cluster::start(&["synchronous_standby_names = 'nobody'"]).unwrap();
    let refused = Postgres::open(&config(&cluster.url("postgres"))).err().unwrap();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("synchronous_standby_names"), "{why}");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reveille' AND wait_event = 'SyncRep'";
    assert_eq!(cluster.psql(left).trim(), "0");
    cluster.psql("ALTER SYSTEM SET synchronous_standby_names = ''");
    cluster.psql("SELECT pg_reload_conf()");
    Postgres::open(&config(&cluster.url("postgres"))).unwrap();
}
