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
