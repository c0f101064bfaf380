//! Northbound: what customers call. The ThingSpace surface and Reveille's own, one file per group of calls.
//!
//! A handler reads, asks the engine or the store, and answers; it holds no rule. Who may call is `auth`'s
//! and `door`'s, how a refusal looks is `refused`'s, which calls there are is `endpoints`'.

mod auth;
mod door;
mod endpoints;
mod health;
mod listening;
mod openapi;
mod passwords;
mod paths;
mod refused;
mod reveille;
mod server;
mod thingspace;
mod unread;

pub use endpoints::{OpenapiProblem, openapi};
pub use passwords::{hash_password, random_password};
pub use server::{ServerConfig, Serving, serve};

use auth::Auth;
use reveille_engine::{Engine, Random, Secrets};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How many event streams there may be at a time: each keeps a connection.
const STREAMS_MAX: usize = 256;

/// How the door works; made from the configuration.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// How long a bearer token lives. Source: contract §3.1.
    pub token_life: Duration,
    /// How long a session lives without use. Source: contract §3.2.
    pub session_idle: Duration,
    /// Failed logins in a row that lock a user. Source: contract §3.2.
    pub login_failures_max: u32,
    /// The largest body that is read.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Whether listeners' ports are those of the contract's list.
    pub strict: bool,
    /// What lets others than loopback read `/metrics`.
    pub metrics_token: Option<Box<str>>,
}

/// What every handler works with.
pub struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) auth: Auth,
    pub(crate) config: ApiConfig,
    /// How many more event streams there may be.
    pub(crate) streams: Arc<Semaphore>,
    /// Streams end when the server stops.
    pub(crate) stopping: watch::Sender<bool>,
}

impl App {
    /// The door of an engine.
    pub fn new(
        engine: Arc<Engine>,
        secrets: Arc<Secrets>,
        random: Arc<dyn Random>,
        config: ApiConfig,
    ) -> Arc<Self> {
        let stopping = watch::Sender::new(false);
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Arc::new(Self { engine, secrets, random, auth: Auth::default(), config, streams, stopping })
    }
}
