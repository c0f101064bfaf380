//! The configuration: a file over the defaults, the environment over the file. The only room that reads
//! the environment.

mod carriers;

use anyhow::{Context, Result, anyhow, bail, ensure};
use carriers::{Carrier, SharedByCarriers};
use reveille_api::{ApiConfig, ServerConfig};
use reveille_callbacks::{Guard, Loopback, Tls};
use reveille_domain::{Clock, Network, Schedule};
use reveille_engine::{CarrierSetup, ChangeLimits, EngineConfig, Random};
use reveille_store::AcceptLimits;
use reveille_store::postgres::PostgresConfig;
use reveille_store::sqlite::{SqliteConfig, Synchronous};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::{Table, Value};

/// The one list of keys, defaults and meanings.
pub const DEFAULTS: &str = include_str!("reveille.default.toml");

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "reveille.toml";

/// What every name in the environment begins with.
const PREFIX: &str = "REVEILLE_";

/// What stands in for a configuration file where there is none.
const NO_FILE: &str = r#"
[carriers.verizon-us]
kind = "simulated"
scripted = true
[carriers.global]
kind = "simulated"
scripted = true
"#;

/// How many readers the store has.
const READERS: usize = 4;

/// How much longer than a call a lease must last: for claiming before it, and recording after it.
const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// How long history must be kept where it is not kept for ever: limits on changes look back that far.
const KEEP_HISTORY_MIN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Where everything is kept.
pub enum Database {
    /// In a file of this machine.
    Sqlite(SqliteConfig),
    /// In a database that nodes share.
    Postgres(PostgresConfig),
}

/// A configuration, as it was read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub database: String,
    database_synchronous: String,
    database_connections: usize,
    database_lease: Text,
    key_file: PathBuf,
    server_key: Secret,
    /// What is logged.
    pub log: String,
    /// How: `text` or `json`.
    pub log_format: String,
    metrics_token: Secret,
    strict: bool,
    connections_max: usize,
    head_timeout: Text,
    body_timeout: Text,
    body_bytes_max: usize,
    stop_within: Text,
    keep_history: Text,
    limits: Limits,
    suspensions: Suspensions,
    sessions: Sessions,
    callbacks: Callbacks,
    #[serde(default)]
    carriers: BTreeMap<String, Carrier>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    waiting_per_account: u64,
    waiting_in_all: u64,
    actions_per_day: u32,
    plan_changes_per_month: u32,
    disk_free_bytes_min: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspensions {
    longest: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sessions {
    token_life: Text,
    idle: Text,
    login_failures_max: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Callbacks {
    retry_after: Vec<Text>,
    timeout: Text,
    warnings: bool,
    warn_after: Text,
    keep_archived: Text,
    allow_addresses: Vec<ipnet::IpNet>,
    connections_per_listener: usize,
    connections_in_all: usize,
}

/// A duration, as text.
#[derive(Clone, Copy, Debug)]
struct Text(Duration);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(|error| {
            serde::de::Error::custom(format!(
                "{text:?} is no duration ({error}); write \"250ms\", \"4s\", \"5m\""
            ))
        })
    }
}

/// A text that is not printed.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl Secret {
    /// It, or what stands in that file, where one is named; without the line's end.
    fn or_of(&self, file: &Path) -> Result<String> {
        if file.as_os_str().is_empty() {
            return Ok(self.0.clone());
        }
        ensure!(self.0.is_empty(), "it is given both directly and in a file; leave out one");
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Config {
    /// Reads the file (`reveille.toml` where none is named and it is there), then the environment.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        let found = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| found.exists().then_some(found));
        let text = file.map(|file| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        });
        let text = text.transpose()?;
        let name = file.map_or_else(|| "the defaults".into(), |file| file.display().to_string());
        Self::from_text(text.as_deref(), environment()).with_context(|| format!("configuration ({name})"))
    }

    /// The configuration of that text and environment over the defaults; without a text, both networks are
    /// simulated and scripted.
    pub fn from_text(text: Option<&str>, environment: BTreeMap<String, String>) -> Result<Self> {
        let defaults: Table = DEFAULTS.parse().context("the defaults")?;
        let carrier = defaults["carriers"]["verizon-us"].clone();
        let mut merged = defaults.clone();
        let given: Table = match text {
            Some(text) => {
                merged.remove("carriers");
                text.parse().map_err(|error: toml::de::Error| anyhow!("{}", error.to_string().trim_end()))?
            }
            None => NO_FILE.parse()?,
        };
        if let Some(text) = text {
            check_keys(&given, &defaults, text)?;
        }
        overlay(&mut merged, given);
        apply_environment(&mut merged, &environment)?;
        complete_carriers(&mut merged, &carrier);
        let config: Self = Value::Table(merged)
            .try_into()
            .map_err(|error: toml::de::Error| anyhow!("{}", error.to_string().trim_end()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        for name in self.carriers.keys() {
            let networks = Network::ALL.map(Network::name).join(", ");
            ensure!(Network::named(name).is_some(), "[carriers.{name}] is no network; there are {networks}");
        }
        for (name, carrier) in &self.carriers {
            carrier.check().with_context(|| format!("[carriers.{name}]"))?;
        }
        carriers::check_doors(&self.carriers)?;
        ensure!(matches!(self.log_format.as_str(), "text" | "json"), "log_format is \"text\" or \"json\"");
        ensure!(self.callbacks.timeout.0 > Duration::ZERO, "callbacks.timeout must be longer than nothing");
        ensure!(self.body_bytes_max >= 65_536, "body_bytes_max must be at least 65536");
        let keeps = self.keep_history.0;
        ensure!(
            keeps.is_zero() || keeps >= KEEP_HISTORY_MIN,
            "keep_history ({keeps:?}) must be at least 30d, as limits on changes look back that far, or \"0s\": for ever"
        );
        if let Database::Postgres(postgres) = self.database()? {
            self.check_lease(postgres.lease)?;
        }
        Ok(())
    }

    /// A call to a carrier, and an attempt of a callback, must end before the lease that it is made under.
    fn check_lease(&self, lease: Duration) -> Result<()> {
        let timeouts =
            self.carriers.iter().map(|(name, carrier)| (format!("carriers.{name}"), carrier.timeout));
        for (section, timeout) in timeouts.chain([("callbacks".to_owned(), self.callbacks.timeout)]) {
            ensure!(
                lease >= timeout.0 + LEASE_MARGIN,
                "database_lease ({lease:?}) must be at least {LEASE_MARGIN:?} longer than {section}.timeout ({:?}); \
                 raise the one or lower the other",
                timeout.0
            );
        }
        Ok(())
    }

    /// How the store is opened.
    pub fn database(&self) -> Result<Database> {
        if let Some(path) = self.sqlite_file() {
            return Ok(Database::Sqlite(self.sqlite(path)?));
        }
        let is_postgres =
            ["postgres://", "postgresql://"].iter().any(|scheme| self.database.starts_with(scheme));
        ensure!(
            is_postgres,
            "database must be sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME; {:?} is neither",
            scheme(&self.database)
        );
        ensure!(self.database_connections > 0, "database_connections must be at least 1");
        Ok(Database::Postgres(PostgresConfig {
            url: self.database.clone(),
            readers: self.database_connections,
            lease: self.database_lease.0,
        }))
    }

    /// The file of an embedded store.
    pub fn sqlite_file(&self) -> Option<&Path> {
        self.database.strip_prefix("sqlite:").filter(|path| !path.is_empty()).map(Path::new)
    }

    fn sqlite(&self, path: &Path) -> Result<SqliteConfig> {
        let synchronous = match self.database_synchronous.as_str() {
            "full" => Synchronous::Full,
            "off" => Synchronous::Off,
            _ => bail!("database_synchronous is \"full\" or \"off\""),
        };
        Ok(SqliteConfig {
            path: path.to_owned(),
            disk_free_min: self.limits.disk_free_bytes_min,
            synchronous,
            readers: READERS,
        })
    }

    /// Where the server's key is.
    pub fn key_file(&self) -> Result<PathBuf> {
        if !self.key_file.as_os_str().is_empty() {
            return Ok(self.key_file.clone());
        }
        let beside = self.sqlite_file().map(|path| path.with_file_name("reveille.key"));
        beside.context(
            "with postgres:// every node needs the same key: give it as key_file, or in REVEILLE_SERVER_KEY \
             (64 hexadecimal digits)",
        )
    }

    /// Whether the key is made beside a new database, as none is configured.
    pub fn makes_its_key(&self) -> bool {
        self.key_file.as_os_str().is_empty()
    }

    /// The key itself, where it is given.
    pub fn server_key(&self) -> Option<&str> {
        Some(self.server_key.0.as_str()).filter(|key| !key.is_empty())
    }

    /// Where listeners may be.
    pub fn guard(&self) -> Guard {
        let loopback = if self.listen.ip().is_loopback() { Loopback::Allowed } else { Loopback::Refused };
        Guard::new(self.callbacks.allow_addresses.clone(), loopback)
    }

    /// The networks that no carrier serves.
    pub fn unserved(&self) -> Vec<Network> {
        Network::ALL.into_iter().filter(|network| !self.carriers.contains_key(network.name())).collect()
    }

    /// The networks whose carriers are simulated.
    pub fn simulated(&self) -> Vec<Network> {
        let simulated =
            |network: &Network| self.carriers.get(network.name()).is_some_and(|c| c.kind == "simulated");
        Network::ALL.into_iter().filter(simulated).collect()
    }

    /// How the engine works.
    pub fn engine(&self, clock: &Arc<dyn Clock>, random: &dyn Random) -> Result<EngineConfig> {
        Ok(EngineConfig {
            limits: AcceptLimits {
                waiting_per_account: self.limits.waiting_per_account,
                waiting_in_all: self.limits.waiting_in_all,
            },
            schedule: Schedule::new(self.callbacks.retry_after.iter().map(|delay| delay.0).collect()),
            attempt_timeout: self.callbacks.timeout.0,
            connections_per_listener: self.callbacks.connections_per_listener,
            connections_in_all: self.callbacks.connections_in_all,
            guard: self.guard(),
            tls: Tls::system(),
            carriers: self.carriers(clock, random)?,
            warn_after: self.callbacks.warnings.then_some(self.callbacks.warn_after.0),
            change_limits: ChangeLimits {
                actions_per_day: limit(self.limits.actions_per_day),
                plan_changes_per_month: limit(self.limits.plan_changes_per_month),
            },
            suspension_max: Some(self.suspensions.longest.0).filter(|longest| !longest.is_zero()),
            keep_archived: self.callbacks.keep_archived.0,
            keep_history: Some(self.keep_history.0).filter(|lasts| !lasts.is_zero()),
            stop_within: self.stop_within.0,
        })
    }

    fn carriers(
        &self,
        clock: &Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<HashMap<Network, CarrierSetup>> {
        let mut carriers = HashMap::new();
        let shared = SharedByCarriers::default();
        for (name, carrier) in &self.carriers {
            if let Some(network) = Network::named(name) {
                carriers.insert(
                    network,
                    carrier.setup(clock, &shared, random).with_context(|| format!("[carriers.{name}]"))?,
                );
            }
        }
        Ok(carriers)
    }

    /// How the door works.
    pub fn api(&self) -> ApiConfig {
        let token = Some(self.metrics_token.0.as_str()).filter(|token| !token.is_empty());
        ApiConfig {
            token_life: self.sessions.token_life.0,
            session_idle: self.sessions.idle.0,
            login_failures_max: self.sessions.login_failures_max,
            body_bytes_max: self.body_bytes_max,
            body_timeout: self.body_timeout.0,
            strict: self.strict,
            metrics_token: token.map(Into::into),
        }
    }

    /// How the socket is served.
    pub fn server(&self) -> ServerConfig {
        ServerConfig {
            connections_max: self.connections_max,
            head_timeout: self.head_timeout.0,
            stop_within: self.stop_within.0,
        }
    }
}

/// A limit; none is written as 0.
fn limit(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number > 0)
}

/// What is shown of a database's address: it may hold a password.
fn scheme(database: &str) -> &str {
    database.split(':').next().unwrap_or_default()
}

/// Refuses keys that there are not, with their line.
fn check_keys(given: &Table, defaults: &Table, text: &str) -> Result<()> {
    for (key, value) in given {
        let Some(default) = defaults.get(key) else { return Err(unknown(key, text, defaults)) };
        match (value, default, key.as_str()) {
            (Value::Table(carriers), _, "carriers") => {
                for carrier in carriers.values().filter_map(Value::as_table) {
                    let known = defaults["carriers"]["verizon-us"].as_table();
                    check_keys(carrier, known.unwrap_or(defaults), text)?;
                }
            }
            (_, _, "accounts") => {} // names of the operator's own
            (Value::Table(section), Value::Table(default), _) => check_keys(section, default, text)?,
            _ => {}
        }
    }
    Ok(())
}

fn unknown(key: &str, text: &str, defaults: &Table) -> anyhow::Error {
    let names_it = |line: &&str| line.trim_start().trim_start_matches('[').starts_with(key);
    let line = text.lines().position(|line| names_it(&line)).map_or(0, |index| index + 1);
    let known = defaults.keys().cloned().collect::<Vec<_>>().join(", ");
    anyhow!("line {line}: there is no key {key:?} here; there are {known}")
}

fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// What a carrier's section leaves out is as in the defaults.
fn complete_carriers(merged: &mut Table, defaults: &Value) {
    let Some(Value::Table(carriers)) = merged.get_mut("carriers") else { return };
    for (_, carrier) in carriers.iter_mut() {
        let (Value::Table(mut complete), Value::Table(given)) = (defaults.clone(), carrier.clone()) else {
            continue;
        };
        complete.remove("kind"); // nobody gets a simulated network without saying so
        overlay(&mut complete, given);
        *carrier = Value::Table(complete);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// Sets what the environment names, as the type that the default has.
fn apply_environment(merged: &mut Table, environment: &BTreeMap<String, String>) -> Result<()> {
    let defaults: Table = DEFAULTS.parse()?;
    for (path, default) in leaves(&defaults, &[]) {
        let name = format!("{PREFIX}{}", path.join("_").replace('-', "_").to_ascii_uppercase());
        if let Some(text) = environment.get(&name) {
            let value = read_as(text, &default).with_context(|| format!("{name} in the environment"))?;
            set(merged, &path, value);
        }
    }
    Ok(())
}

fn leaves(table: &Table, path: &[String]) -> Vec<(Vec<String>, Value)> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        let path: Vec<String> = path.iter().cloned().chain([key.clone()]).collect();
        match value {
            Value::Table(inner) if path == ["carriers", "global"] => {
                // The same keys as the other network has.
                let all = table["verizon-us"].as_table().unwrap_or(inner);
                leaves.extend(self::leaves(all, &path));
            }
            Value::Table(inner) => leaves.extend(self::leaves(inner, &path)),
            value => leaves.push((path, value.clone())),
        }
    }
    leaves
}

fn read_as(text: &str, like: &Value) -> Result<Value> {
    Ok(match like {
        Value::Integer(_) => Value::Integer(text.parse().context("a number is needed")?),
        Value::Boolean(_) => Value::Boolean(text.parse().context("true or false is needed")?),
        Value::Array(_) => {
            let table: Table =
                format!("list = {text}").parse().context("a TOML list is needed, [\"5m\", \"5m\"]")?;
            table["list"].clone()
        }
        _ => Value::String(text.into()),
    })
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        Config::from_text(Some(text), BTreeMap::new())
    }

    #[test]
    fn without_a_file_both_networks_are_simulated_and_scripted() {
        let config = Config::from_text(None, BTreeMap::new()).unwrap();
        assert_eq!(config.simulated(), Network::ALL);
        assert!(config.carriers.values().all(|carrier| carrier.scripted));
        assert_eq!(config.callbacks.timeout.0, Duration::from_secs(4));
    }

    #[test]
    fn with_a_file_a_network_without_a_section_is_unserved() {
        let config = read("[carriers.global]\nkind = \"simulated\"\n").unwrap();
        assert_eq!(config.unserved(), [Network::VerizonUs]);
        assert!(!config.carriers["global"].scripted);
        assert_eq!(config.carriers["global"].concurrency, 1024);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error =
            format!("{:#}", read("listen = \"127.0.0.1:1\"\n[callbacks]\nretry = [\"1s\"]\n").unwrap_err());
        assert!(
            error.contains("line 3") && error.contains("\"retry\"") && error.contains("retry_after"),
            "{error}"
        );
        let error = format!("{:#}", read("[carriers.mars]\nkind = \"simulated\"\n").unwrap_err());
        assert!(error.contains("verizon-us, global"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_with_a_remedy() {
        for (text, remedy) in [
            ("[callbacks]\ntimeout = \"soon\"\n", "write \"250ms\""),
            ("database = \"mysql://secret@host\"\n", "sqlite:FILE"),
            ("[carriers.global]\nkind = \"hlr\"\n", "simulated"),
            ("[carriers.global]\nkind = \"osmo-hlr\"\n", "address is not given"),
            (
                "[carriers.global]\nkind = \"osmo-hlr\"\n[carriers.global.osmo-hlr]\naddress = \"h:1\"\nservices = [\"sms\"]\n",
                "\"ps\" (data)",
            ),
            (
                "[carriers.global]\nkind = \"simulated\"\n[carriers.global.osmo-hlr]\naddress = \"h:1\"\n",
                "write kind = \"osmo-hlr\"",
            ),
            ("[carriers.global]\nkind = \"open5gs\"\n", "url is not given"),
            (
                "[carriers.global]\nkind = \"open5gs\"\n[carriers.global.open5gs]\nurl = \"mongodb://u:secret@h:port\"\n",
                "mongodb://name:password@host",
            ),
            (
                "[carriers.global]\nkind = \"open5gs\"\n[carriers.global.open5gs]\nurl = \"mongodb://h\"\nmode = \"bar\"\n",
                "\"hide\" (certain)",
            ),
            (
                "[carriers.global]\nkind = \"open5gs\"\n[carriers.global.open5gs]\nurl_file = \"no/such/file\"\n",
                "url_file: cannot read no/such/file",
            ),
            (
                "[carriers.global]\nkind = \"simulated\"\n[carriers.global.open5gs]\nurl = \"mongodb://u:secret@h\"\n",
                "write kind = \"open5gs\"",
            ),
            ("[carriers.global]\nkind = \"radius\"\n", "database is not given"),
            (
                "[carriers.global]\nkind = \"radius\"\n[carriers.global.radius]\ndatabase = \"mysql://u:secret@h/r\"\n",
                "sqlite:FILE",
            ),
            (
                "[carriers.global]\nkind = \"radius\"\n[carriers.global.radius]\ndatabase = \"sqlite:r.db\"\nusername = \"{eid}\"\n",
                "{imsi}",
            ),
            (
                "[carriers.global]\nkind = \"simulated\"\n[carriers.global.radius]\ndatabase = \"postgres://u:secret@h/r\"\n",
                "write kind = \"radius\"",
            ),
            ("[carriers.global]\nkind = \"thingspace\"\n", "url is \"\""),
            (
                "[carriers.global]\nkind = \"thingspace\"\n[carriers.global.thingspace]\nurl = \"https://h/api\"\n",
                "an origin without a path",
            ),
            (
                "[carriers.global]\nkind = \"thingspace\"\n[carriers.global.thingspace]\nurl = \"https://h\"\nkey = \"k\"\nsecret = \"secret\"\n",
                "username is not given",
            ),
            (
                "[carriers.global]\nkind = \"simulated\"\n[carriers.global.thingspace]\nurl = \"https://h\"\n",
                "write kind = \"thingspace\"",
            ),
            ("[carriers.global]\nkind = \"tmf640\"\n", "url is \"\""),
            (
                "[carriers.global]\nkind = \"tmf640\"\n[carriers.global.tmf640]\nurl = \"https://h\"\ntoken = \"secret\"\ntoken_url = \"https://h/t\"\n",
                "a token stays, or is fetched",
            ),
            (
                "[carriers.global]\nkind = \"tmf640\"\n[carriers.global.tmf640]\nurl = \"https://h\"\ncertificate_file = \"/dev/null\"\n",
                "go together",
            ),
            (
                "[carriers.global]\nkind = \"tmf640\"\n[carriers.global.tmf640]\nurl = \"https://h\"\nca_file = \"/nowhere\"\n",
                "cannot read /nowhere",
            ),
            (
                "[carriers.global]\nkind = \"tmf640\"\n[carriers.global.tmf640]\nurl = \"https://h\"\nlate_within = \"1h\"\n",
                "shorter than the carrier's timeout",
            ),
            (
                "[carriers.global]\nkind = \"simulated\"\n[carriers.global.tmf640]\nurl = \"https://h\"\n",
                "write kind = \"tmf640\"",
            ),
            ("[carriers.global]\nkind = \"simulated\"\nretry_first = \"2m\"\n", "retry_longest"),
            ("log_format = \"xml\"\n", "json"),
            (
                "database = \"postgres://u:secret@host/name\"\ndatabase_lease = \"5s\"\n",
                "longer than callbacks.timeout",
            ),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(remedy), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let environment = BTreeMap::from([
            ("REVEILLE_CALLBACKS_TIMEOUT".to_owned(), "2s".to_owned()),
            ("REVEILLE_CALLBACKS_RETRY_AFTER".to_owned(), "[\"1s\"]".to_owned()),
            ("REVEILLE_CARRIERS_GLOBAL_CONCURRENCY".to_owned(), "7".to_owned()),
            ("REVEILLE_DATABASE_SYNCHRONOUS".to_owned(), "off".to_owned()),
        ]);
        let text = "[callbacks]\ntimeout = \"9s\"\n[carriers.global]\nkind = \"simulated\"\n";
        let config = Config::from_text(Some(text), environment).unwrap();
        assert_eq!(config.callbacks.timeout.0, Duration::from_secs(2));
        assert_eq!(config.callbacks.retry_after.len(), 1);
        assert_eq!(config.carriers["global"].concurrency, 7);
        let Database::Sqlite(sqlite) = config.database().unwrap() else { panic!("it is a file") };
        assert_eq!(sqlite.synchronous, Synchronous::Off);
    }
}
