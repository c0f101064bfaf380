//! The carriers' part of the configuration: a section for each network, with a sub-table for each kind.

use super::{Secret, Text, limit};
use anyhow::{Context, Result, anyhow, bail, ensure};
use reveille_carriers::open5gs::{Open5gs, Open5gsConfig};
use reveille_carriers::osmo_hlr::{OsmoHlr, OsmoHlrConfig};
use reveille_carriers::radius::{DisconnectConfig, Radius, RadiusConfig, RadiusDatabase};
use reveille_carriers::simulated::{ScriptEntry, Simulated, SimulatedConfig, World};
use reveille_carriers::thingspace::{Session, ThingSpace, ThingSpaceConfig};
use reveille_carriers::tmf640::{Access, Tmf640, Tmf640Config};
use reveille_domain::{Backoff, Clock};
use reveille_engine::{CarrierSetup, Comparing, Random};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Carrier {
    pub(super) kind: String,
    pub(super) concurrency: usize,
    rate: u32,
    changes_per_day: u32,
    compare_rate: u32,
    compare_every: Text,
    pub(super) timeout: Text,
    give_up_after: Text,
    retry_first: Text,
    retry_longest: Text,
    latency: Text,
    jitter: Text,
    seed: u64,
    retry_later_per_mille: u16,
    unanswered_per_mille: u16,
    rejected_per_mille: u16,
    unobservable: bool,
    pub(super) scripted: bool,
    script: Vec<Script>,
    #[serde(rename = "osmo-hlr")]
    osmo_hlr: OsmoHlrKeys,
    open5gs: Open5gsKeys,
    radius: RadiusKeys,
    thingspace: ThingSpaceKeys,
    tmf640: Tmf640Keys,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThingSpaceKeys {
    url: String,
    key: String,
    secret: Secret,
    secret_file: PathBuf,
    username: String,
    password: Secret,
    password_file: PathBuf,
    accounts: BTreeMap<String, String>,
    callback_url: String,
    callback_username: String,
    callback_password: Secret,
    callback_password_file: PathBuf,
    callback_from: Vec<ipnet::IpNet>,
    ask_after: Text,
    gather: Text,
    calls_per_minute: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tmf640Keys {
    url: String,
    base_path: String,
    service_id: String,
    lookup: String,
    out_of_service: String,
    probe: String,
    token: Secret,
    token_file: PathBuf,
    token_url: String,
    client_id: String,
    client_secret: Secret,
    client_secret_file: PathBuf,
    scope: String,
    ca_file: PathBuf,
    certificate_file: PathBuf,
    key_file: PathBuf,
    callback_url: String,
    callback_query: String,
    callback_from: Vec<ipnet::IpNet>,
    ask_after: Text,
    in_flight: usize,
    late_within: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OsmoHlrKeys {
    address: String,
    services: Vec<String>,
    kick: String,
    kick_timeout: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open5gsKeys {
    url: Secret,
    url_file: PathBuf,
    database: String,
    collection: String,
    mode: String,
    barring: i32,
    cancel_location: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RadiusKeys {
    database: Secret,
    database_password_file: PathBuf,
    username: String,
    disconnect: String,
    disconnect_secret: Secret,
    disconnect_secret_file: PathBuf,
    disconnect_timeout: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    iccid_prefix: String,
    behaviour: String,
    #[serde(default)]
    times: Option<u32>,
}

impl Carrier {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.concurrency > 0, "concurrency must be at least 1");
        ensure!(self.timeout.0 > Duration::ZERO, "timeout must be longer than nothing");
        ensure!(self.retry_first.0 > Duration::ZERO, "retry_first must be longer than nothing");
        ensure!(
            self.retry_longest.0 >= self.retry_first.0,
            "retry_longest must not be shorter than retry_first"
        );
        for (kind, key, given) in [
            ("osmo-hlr", "address", !self.osmo_hlr.address.is_empty()),
            (
                "open5gs",
                "url",
                !self.open5gs.url.0.is_empty() || !self.open5gs.url_file.as_os_str().is_empty(),
            ),
            ("radius", "database", !self.radius.database.0.is_empty()),
            ("thingspace", "url", !self.thingspace.url.is_empty()),
            ("tmf640", "url", !self.tmf640.url.is_empty()),
        ] {
            ensure!(
                !given || self.kind == kind,
                "{kind}.{key} is given, and kind is {:?}; write kind = {kind:?}, or leave it out",
                self.kind
            );
        }
        match self.kind()? {
            Kind::Simulated => self.simulated().map(drop),
            Kind::OsmoHlr => self.osmo_hlr().map(drop).context("osmo-hlr"),
            Kind::Open5gs => self.open5gs().map(drop).context("open5gs"),
            Kind::Radius => self.radius().map(drop).context("radius"),
            Kind::ThingSpace => self.thingspace().map(drop).context("thingspace"),
            Kind::Tmf640 => self.tmf640().map(drop).context("tmf640"),
        }
    }

    fn kind(&self) -> Result<Kind> {
        match self.kind.as_str() {
            "simulated" => Ok(Kind::Simulated),
            "osmo-hlr" => Ok(Kind::OsmoHlr),
            "open5gs" => Ok(Kind::Open5gs),
            "radius" => Ok(Kind::Radius),
            "thingspace" => Ok(Kind::ThingSpace),
            "tmf640" => Ok(Kind::Tmf640),
            other => bail!(
                "kind {other:?} is none that this release has; those are \"simulated\", \"osmo-hlr\", \"open5gs\", \"radius\", \"thingspace\" and \"tmf640\""
            ),
        }
    }

    pub(super) fn setup(
        &self,
        clock: &Arc<dyn Clock>,
        shared: &SharedByCarriers,
        random: &dyn Random,
    ) -> Result<CarrierSetup> {
        let clock = Arc::clone(clock);
        let carrier: Arc<dyn reveille_carriers::Carrier> = match self.kind()? {
            Kind::Simulated => Arc::new(Simulated::new(self.simulated()?, clock, Arc::clone(&shared.world))),
            Kind::OsmoHlr => Arc::new(OsmoHlr::new(self.osmo_hlr()?, clock, random.bits() as u32)),
            Kind::Open5gs => Arc::new(Open5gs::new(self.open5gs()?, clock)),
            Kind::Radius => Arc::new(Radius::new(self.radius()?, clock, random.bits() as u32)),
            Kind::ThingSpace => {
                let config = self.thingspace()?;
                let session = shared.session(&config, &clock).context("thingspace.url is no origin")?;
                Arc::new(ThingSpace::new(&config, session, clock))
            }
            Kind::Tmf640 => Arc::new(Tmf640::new(&self.tmf640()?, clock).context("tmf640")?),
        };
        Ok(CarrierSetup {
            carrier,
            concurrency: self.concurrency,
            rate: limit(self.rate),
            changes_per_day: limit(self.changes_per_day),
            comparing: limit(self.compare_rate).map(|rate| Comparing { rate, every: self.compare_every.0 }),
            timeout: self.timeout.0,
            give_up_after: self.give_up_after.0,
            backoff: Backoff { first: self.retry_first.0, longest: self.retry_longest.0 },
        })
    }

    fn osmo_hlr(&self) -> Result<OsmoHlrConfig> {
        let OsmoHlrKeys { address, services, kick, kick_timeout } = &self.osmo_hlr;
        let config = OsmoHlrConfig {
            address: address.clone(),
            services: services.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            kick: Some(kick.clone()).filter(|address| !address.is_empty()),
            kick_timeout: kick_timeout.0,
        };
        config.check()?;
        Ok(config)
    }

    fn open5gs(&self) -> Result<Open5gsConfig> {
        let Open5gsKeys { url, url_file, database, collection, mode, barring, cancel_location } =
            &self.open5gs;
        let url = url.or_of(url_file).context("url_file")?;
        let config = Open5gsConfig {
            url: url.trim().to_owned(),
            database: database.clone(),
            collection: collection.clone(),
            mode: mode.parse()?,
            barring: *barring,
            cancel_location: Some(cancel_location.0).filter(|ahead| !ahead.is_zero()),
        };
        config.check()?;
        Ok(config)
    }

    fn radius(&self) -> Result<RadiusConfig> {
        let keys = &self.radius;
        let mut database: RadiusDatabase = keys.database.0.parse()?;
        let password =
            Secret::default().or_of(&keys.database_password_file).context("database_password_file")?;
        if !password.is_empty() {
            database = database.with_password(&password)?;
        }
        let secret =
            keys.disconnect_secret.or_of(&keys.disconnect_secret_file).context("disconnect_secret_file")?;
        let disconnect = Some(keys.disconnect.clone()).filter(|address| !address.is_empty());
        let disconnect = disconnect.map(|address| DisconnectConfig {
            address,
            secret: secret.as_str().into(),
            timeout: keys.disconnect_timeout.0,
        });
        let config = RadiusConfig { database, username: keys.username.parse()?, disconnect };
        config.check()?;
        Ok(config)
    }

    fn thingspace(&self) -> Result<ThingSpaceConfig> {
        let keys = &self.thingspace;
        let account = |(ours, theirs): (&String, &String)| {
            let parsed =
                |name: &String| name.parse().map_err(|_| anyhow!("accounts: {name:?} is no account's name"));
            Ok((parsed(ours)?, parsed(theirs)?))
        };
        let config = ThingSpaceConfig {
            url: keys.url.clone(),
            key: keys.key.clone(),
            secret: keys.secret.or_of(&keys.secret_file).context("secret_file")?,
            username: keys.username.clone(),
            password: keys.password.or_of(&keys.password_file).context("password_file")?,
            accounts: keys.accounts.iter().map(account).collect::<Result<_>>()?,
            callback_url: keys.callback_url.clone(),
            callback_username: keys.callback_username.clone(),
            callback_password: keys
                .callback_password
                .or_of(&keys.callback_password_file)
                .context("callback_password_file")?,
            callback_from: keys.callback_from.clone(),
            ask_after: keys.ask_after.0,
            gather: keys.gather.0,
            calls_per_minute: limit(keys.calls_per_minute),
        };
        config.check()?;
        Ok(config)
    }

    fn tmf640(&self) -> Result<Tmf640Config> {
        let keys = &self.tmf640;
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let identity = match (file(&keys.certificate_file)?, file(&keys.key_file)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("certificate_file and key_file go together"),
        };
        let config = Tmf640Config {
            url: keys.url.clone(),
            base_path: keys.base_path.clone(),
            service_id: keys.service_id.clone(),
            lookup: given(&keys.lookup),
            out_of_service: keys.out_of_service.clone(),
            probe: keys.probe.clone(),
            access: keys.access()?,
            authorities: file(&keys.ca_file)?,
            identity,
            callback_url: given(&keys.callback_url),
            callback_query: keys.callback_query.clone(),
            callback_from: keys.callback_from.clone(),
            ask_after: keys.ask_after.0,
            in_flight: keys.in_flight,
            late_within: keys.late_within.0,
        };
        config.check()?;
        ensure!(
            config.late_within < self.timeout.0,
            "late_within ({:?}) must be shorter than the carrier's timeout ({:?})",
            config.late_within,
            self.timeout.0
        );
        Ok(config)
    }

    fn simulated(&self) -> Result<SimulatedConfig> {
        let script = self.script.iter().map(|entry| {
            let behaviour = entry.behaviour.parse().context("script")?;
            Ok(ScriptEntry {
                iccid_prefix: entry.iccid_prefix.as_str().into(),
                behaviour,
                times: entry.times,
            })
        });
        let config = SimulatedConfig {
            latency: self.latency.0,
            jitter: self.jitter.0,
            seed: self.seed,
            retry_later_per_mille: self.retry_later_per_mille,
            unanswered_per_mille: self.unanswered_per_mille,
            rejected_per_mille: self.rejected_per_mille,
            unobservable: self.unobservable,
            scripted: self.scripted,
            script: script.collect::<Result<_>>()?,
        };
        config.check()?;
        Ok(config)
    }
}

impl Tmf640Keys {
    fn access(&self) -> Result<Access> {
        let token = self.token.or_of(&self.token_file)?;
        match (token.is_empty(), self.token_url.is_empty()) {
            (true, true) => Ok(Access::Open),
            (false, true) => Ok(Access::Token(token)),
            (true, false) => Ok(Access::Client {
                token_url: self.token_url.clone(),
                id: self.client_id.clone(),
                secret: self.client_secret.or_of(&self.client_secret_file)?,
                scope: self.scope.clone(),
            }),
            (false, false) => bail!("token and token_url are both given; a token stays, or is fetched"),
        }
    }
}

/// What a carrier can be.
enum Kind {
    Simulated,
    OsmoHlr,
    Open5gs,
    Radius,
    ThingSpace,
    Tmf640,
}

/// What carriers share: simulated ones the world that their cards are in, those of one user at ThingSpace its login.
#[derive(Default)]
pub(super) struct SharedByCarriers {
    world: Arc<World>,
    sessions: RefCell<HashMap<[String; 3], Arc<Session>>>,
}

impl SharedByCarriers {
    fn session(&self, config: &ThingSpaceConfig, clock: &Arc<dyn Clock>) -> Option<Arc<Session>> {
        let of = [config.url.clone(), config.key.clone(), config.username.clone()];
        let mut sessions = self.sessions.borrow_mut();
        if let Some(session) = sessions.get(&of) {
            return Some(Arc::clone(session));
        }
        let session = Arc::new(Session::new(config, Arc::clone(clock))?);
        sessions.insert(of, Arc::clone(&session));
        Some(session)
    }
}

/// What stands in a file, where one is named.
fn file(path: &Path) -> Result<Option<Vec<u8>>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    std::fs::read(path).map(Some).with_context(|| format!("cannot read {}", path.display()))
}

/// Networks that share a login at ThingSpace share its listener there.
pub(super) fn check_doors(carriers: &BTreeMap<String, Carrier>) -> Result<()> {
    let mut doors: HashMap<[&str; 3], (&str, &str)> = HashMap::new();
    for (name, carrier) in carriers.iter().filter(|(_, carrier)| carrier.kind == "thingspace") {
        let ThingSpaceKeys { url, key, username, callback_url, .. } = &carrier.thingspace;
        let (other, door) = *doors.entry([url, key, username]).or_insert((name, callback_url));
        ensure!(
            door == callback_url,
            "carriers.{other} and carriers.{name} have the same login at ThingSpace, which has one listener for both: \
             write the same thingspace.callback_url in both; either network's does"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<Config> {
        Config::from_text(Some(text), BTreeMap::new())
    }

    #[test]
    fn secrets_of_a_carrier_may_be_in_files_and_are_not_printed() {
        let folder = std::env::temp_dir().join(format!("reveille-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("hush");
        std::fs::write(&file, "hush\n").unwrap();
        let text = |more: &str| {
            format!(
                "[carriers.global]\nkind = \"radius\"\n[carriers.global.radius]\ndatabase = \"postgres://u:hush@h/r\"\n\
                 disconnect = \"h:3799\"\ndisconnect_secret_file = {file:?}\n{more}"
            )
        };
        let config = read(&text(&format!("database_password_file = {file:?}\n"))).unwrap();
        let radius = config.carriers["global"].radius().unwrap();
        assert_eq!(radius.disconnect.as_ref().unwrap().secret, "hush".into());
        let RadiusDatabase::Postgres(database) = &radius.database else { panic!("it is a URL") };
        assert_eq!(database.get_password(), Some(&b"hush"[..]));
        let printed = format!("{config:?} {radius:?}").replace(&file.display().to_string(), "");
        assert!(!printed.contains("hush"), "{printed}");
        let none = text("").replace("disconnect_secret_file", "# disconnect_secret_file");
        let error = format!("{:#}", read(&none).unwrap_err());
        assert!(error.contains("write disconnect_secret or disconnect_secret_file"), "{error}");
        let error = format!("{:#}", read(&text("disconnect_secret = \"other\"\n")).unwrap_err());
        assert!(error.contains("leave out one"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
        let error = format!("{:#}", read(&text("")).unwrap_err());
        assert!(error.contains("disconnect_secret_file: cannot read"), "{error}");
    }

    #[test]
    fn networks_that_share_a_login_share_its_door() {
        let section = |network: &str, door: &str| {
            format!(
                "[carriers.{network}]\nkind = \"thingspace\"\n[carriers.{network}.thingspace]\nurl = \"https://h\"\n\
                 key = \"k\"\nsecret = \"s\"\nusername = \"u\"\npassword = \"p\"\ncallback_password = \"c\"\n\
                 callback_url = \"https://us/{door}\"\n"
            )
        };
        read(&format!("{}{}", section("verizon-us", "one"), section("global", "one"))).unwrap();
        let error =
            read(&format!("{}{}", section("verizon-us", "one"), section("global", "other"))).unwrap_err();
        assert!(format!("{error:#}").contains("the same thingspace.callback_url in both"), "{error:#}");
    }
}
