//! The wiring: store, engine and API from one configuration.

use crate::config::{Config, Database};
use crate::system::{Dice, SystemClock};
use anyhow::{Context, Result, bail, ensure};
use reveille_api::{App, Serving, serve};
use reveille_domain::Clock;
use reveille_engine::{Engine, Metrics, Parts, Random, Secrets};
use reveille_store::Store;
use reveille_store::postgres::Postgres;
use reveille_store::sqlite::Sqlite;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// How often a running server looks for what other processes changed in the store.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// How often the carriers are asked how they are.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    serving: Serving,
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    noticing: [JoinHandle<()>; 2],
    _lock: Option<File>,
}

/// What a server is given besides its configuration; a test hands in its own.
pub struct Given {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
}

impl Default for Given {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::default()), random: Arc::new(Dice::default()) }
    }
}

/// The store that a configuration names, opened. Where it is new, its key is made first.
pub fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    match config.database()? {
        Database::Sqlite(sqlite) => {
            if !sqlite.path.exists() {
                read_secrets(config, &Dice::default())?;
            }
            let store =
                Sqlite::open(&sqlite).with_context(|| format!("database {}", sqlite.path.display()))?;
            Ok(Arc::new(store))
        }
        Database::Postgres(postgres) => {
            Ok(Arc::new(Postgres::open(&postgres).context("database postgres://…")?))
        }
    }
}

/// Refuses a key that is not the one under which the store's secrets are kept. A new store takes it as its own.
pub async fn check_key(store: &dyn Store, secrets: &Secrets) -> Result<()> {
    let is_its_own = store.takes_key(secrets.fingerprint()).await.context("cannot read the store")?;
    ensure!(
        is_its_own,
        "this is not the key under which the store's callback passwords and tokens were made: give the one that its \
         other nodes have (key_file, or REVEILLE_SERVER_KEY)"
    );
    Ok(())
}

/// The secrets of the configured key. Beside a database that is new, a key is made where none is configured.
pub fn read_secrets(config: &Config, random: &dyn Random) -> Result<Arc<Secrets>> {
    if let Some(key) = config.server_key() {
        return Ok(Arc::new(Secrets::new(&parse_key(key).context("server_key")?)));
    }
    let path = config.key_file()?;
    if !path.exists() {
        let is_new = config.makes_its_key() && config.sqlite_file().is_some_and(|file| !file.exists());
        ensure!(
            is_new,
            "the key file {} is missing: bearer tokens and stored callback passwords depend on it. Restore it; if \
             it is lost, write 64 new hexadecimal digits there and register the listeners' passwords again",
            path.display()
        );
        make_key(&path, random).with_context(|| format!("cannot make the key file {}", path.display()))?;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("key_file {}", path.display()))?;
    let key = parse_key(text.trim()).with_context(|| format!("key_file {}", path.display()))?;
    Ok(Arc::new(Secrets::new(&key)))
}

/// Written whole before it has its name, so that no half of a key is ever found.
fn make_key(path: &Path, random: &dyn Random) -> Result<()> {
    let mut key = [0; 32];
    random.fill(&mut key);
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let unnamed = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unnamed)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let named = std::fs::hard_link(&unnamed, path);
    std::fs::remove_file(&unnamed)?;
    match named {
        Ok(()) => info!("Made the key file {}", path.display()),
        // Another process made it in between.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Keeps a second server off the same SQLite file until the value is dropped, or the process has ended.
fn lock_store(config: &Config) -> Result<Option<File>> {
    config.sqlite_file().map(lock_file).transpose()
}

/// Likewise, of that file.
pub fn lock_file(database: &Path) -> Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another server works on this store already ({})", path.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn parse_key(text: &str) -> Result<[u8; 32]> {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(text.len() == 64 && hexadecimal, "a key has 64 hexadecimal digits");
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits)?;
        *byte = u8::from_str_radix(digits, 16).context("a key has 64 hexadecimal digits")?;
    }
    Ok(key)
}

impl Server {
    /// Starts everything that `config` says.
    pub async fn start(config: &Config, given: Given) -> Result<Self> {
        let lock = lock_store(config)?;
        let secrets = read_secrets(config, given.random.as_ref())?;
        let store = open_store(config)?;
        check_key(&*store, &secrets).await?;
        let socket = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let parts = Parts {
            store: Arc::clone(&store),
            clock: Arc::clone(&given.clock),
            random: Arc::clone(&given.random),
            secrets: Arc::clone(&secrets),
            metrics: Arc::new(Metrics::default()),
        };
        for network in config.simulated() {
            warn!("Network {} is simulated: nothing happens on a real one", network.name());
        }
        for network in config.unserved() {
            warn!(
                "Network {} has no [carriers.{}] section: its profiles will fail",
                network.name(),
                network.name()
            );
        }
        let engine = Engine::start(config.engine(&given.clock, &*given.random)?, parts)
            .await
            .context("cannot start on the store")?;
        let engine = Arc::new(engine);
        let app = App::new(Arc::clone(&engine), secrets, given.random, config.api());
        let serving = serve(app, socket, config.server())?;
        info!("Listening on {}", serving.address());
        let noticing = [tokio::spawn(notice(Arc::clone(&engine))), tokio::spawn(probe(Arc::clone(&engine)))];
        Ok(Self { serving, engine, store, noticing, _lock: lock })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Answers what is asked already, finishes or safely leaves what is under way, and closes the store.
    pub async fn stop(self) {
        info!("Stopping");
        self.noticing.iter().for_each(JoinHandle::abort);
        self.serving.stop().await;
        self.engine.stop().await;
        self.store.close();
        info!("Stopped");
    }
}

/// Asks the carriers how they are, in real time too.
#[expect(clippy::disallowed_methods, reason = "networks live in real time, not in the server's clock")]
async fn probe(engine: Arc<Engine>) {
    loop {
        engine.probe_carriers().await;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Looks for what other processes changed: it happens in real time, whatever the clock.
#[expect(clippy::disallowed_methods, reason = "other processes live in real time, not in the server's clock")]
async fn notice(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(NOTICE_EVERY).await;
        if let Err(error) = engine.notice_others().await {
            warn!(%error, "Cannot see what other processes did");
        }
    }
}
