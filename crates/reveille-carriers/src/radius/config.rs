//! What is to be known of a RADIUS server's database and gateway to use them, and what of it cannot be meant.

use super::username::Username;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One RADIUS server's configuration.
#[derive(Clone, Debug)]
pub struct RadiusConfig {
    /// Where it keeps its users.
    pub database: RadiusDatabase,
    /// What it knows a profile by.
    pub username: Username,
    /// Who ends sessions; without it, a device that is connected stays so until it asks for access again.
    pub disconnect: Option<DisconnectConfig>,
}

/// The database of a RADIUS server's SQL module.
#[derive(Clone, Debug)]
pub enum RadiusDatabase {
    /// By its URL. `Debug` leaves out the password.
    Postgres(Box<tokio_postgres::Config>),
    /// In that file of this machine.
    Sqlite(PathBuf),
}

/// A gateway, or whatever passes on to gateways, that takes Disconnect-Requests.
#[derive(Clone, Debug)]
pub struct DisconnectConfig {
    /// Where: `10.0.0.1:3799`.
    pub address: String,
    /// What it shares with us.
    pub secret: SharedSecret,
    /// How long it may take to answer. One that does not is not said to have ended anything.
    pub timeout: Duration,
}

/// What two parties of RADIUS have in common. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Box<str>);

impl SharedSecret {
    /// The octets that sign.
    pub(super) fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&str> for SharedSecret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a configuration cannot be meant. The words hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRadiusConfig {
    /// No database is named.
    #[error(
        "database is not given; it is where the RADIUS server keeps its users: \"postgres://USER@HOST/NAME\" or \"sqlite:FILE\""
    )]
    NoDatabase,
    /// Another kind of database, or none. What there is may hold a password.
    #[error("database is neither \"postgres://USER@HOST/NAME\" nor \"sqlite:FILE\"")]
    NeitherDatabase,
    /// A URL that leads nowhere.
    #[error(
        "database is no URL that PostgreSQL's clients take, or it names no host; write \"postgres://USER@HOST/NAME\""
    )]
    InvalidUrl,
    /// A password for a file.
    #[error("database_password_file is given, and database is a file, which has no password; leave it out")]
    PasswordForFile,
    /// A text that names no host and port.
    #[error("disconnect is {0:?}; it is a host and a port, such as \"10.0.0.1:3799\"")]
    NoHostAndPort(Box<str>),
    /// A gateway takes nothing that is not signed.
    #[error("disconnect is given without a secret; write disconnect_secret or disconnect_secret_file")]
    NoSecret,
    /// No time to answer in.
    #[error("disconnect_timeout is less than a millisecond; no gateway answers in that")]
    NoTimeToAnswer,
}

impl FromStr for RadiusDatabase {
    type Err = InvalidRadiusConfig;

    fn from_str(text: &str) -> Result<Self, InvalidRadiusConfig> {
        if text.is_empty() {
            return Err(InvalidRadiusConfig::NoDatabase);
        }
        if let Some(file) = text.strip_prefix("sqlite:").filter(|file| !file.is_empty()) {
            return Ok(Self::Sqlite(file.into()));
        }
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(InvalidRadiusConfig::NeitherDatabase);
        }
        let parsed = text.parse().ok();
        let named = parsed.filter(|config: &tokio_postgres::Config| !config.get_hosts().is_empty());
        named.map(|config| Self::Postgres(Box::new(config))).ok_or(InvalidRadiusConfig::InvalidUrl)
    }
}

impl RadiusDatabase {
    /// The same, with that password.
    ///
    /// # Errors
    /// Where it is a file.
    pub fn with_password(self, password: &str) -> Result<Self, InvalidRadiusConfig> {
        match self {
            Self::Postgres(mut config) => {
                config.password(password);
                Ok(Self::Postgres(config))
            }
            Self::Sqlite(_) => Err(InvalidRadiusConfig::PasswordForFile),
        }
    }
}

impl RadiusConfig {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidRadiusConfig> {
        let Some(disconnect) = &self.disconnect else { return Ok(()) };
        if !is_host_and_port(&disconnect.address) {
            return Err(InvalidRadiusConfig::NoHostAndPort(disconnect.address.as_str().into()));
        }
        if disconnect.secret.octets().is_empty() {
            return Err(InvalidRadiusConfig::NoSecret);
        }
        if disconnect.timeout < Duration::from_millis(1) {
            return Err(InvalidRadiusConfig::NoTimeToAnswer);
        }
        Ok(())
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let sound = !host.contains(char::is_whitespace) && (bracketed || !host.contains([':', '/']));
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        !host.is_empty() && sound && digits && port.parse().is_ok_and(|port: u16| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(database: &str) -> String {
        database.parse::<RadiusDatabase>().unwrap_err().to_string()
    }

    #[test]
    fn a_database_is_a_url_or_a_file() {
        for good in
            ["postgres://radius:pw@db.example:5433/radius", "postgresql://u@10.0.0.1/r?sslmode=require"]
        {
            assert!(matches!(good.parse(), Ok(RadiusDatabase::Postgres(_))), "{good}");
        }
        assert!(matches!("sqlite:/var/lib/radius.db".parse(), Ok(RadiusDatabase::Sqlite(_))));
        assert!(mistake("").starts_with("database is not given"));
        for bad in ["mysql://u:secret@h/r", "sqlite:", "/var/lib/radius.db"] {
            assert!(mistake(bad).starts_with("database is neither"), "{bad}");
        }
        for bad in ["postgres://u:secret@h:port/r", "postgres:///radius", "postgres://u:secret@h/r?secret=1"]
        {
            let words = mistake(bad);
            assert!(words.starts_with("database is no URL") && !words.contains("secret"), "{bad}: {words}");
        }
    }

    #[test]
    fn a_password_may_be_given_beside_the_url_and_is_never_shown() {
        let url: RadiusDatabase = "postgres://radius@h/r".parse().unwrap();
        let RadiusDatabase::Postgres(config) = url.with_password("hush").unwrap() else { panic!("a URL") };
        assert_eq!(config.get_password(), Some(&b"hush"[..]));
        assert!(!format!("{config:?}").contains("hush"));
        let file: RadiusDatabase = "sqlite:radius.db".parse().unwrap();
        assert_eq!(file.with_password("hush").unwrap_err(), InvalidRadiusConfig::PasswordForFile);
    }

    #[test]
    fn a_disconnect_needs_an_address_a_secret_and_time() {
        let check = |address: &str, secret: &str, millis| {
            let timeout = Duration::from_millis(millis);
            let disconnect = DisconnectConfig { address: address.into(), secret: secret.into(), timeout };
            let database = RadiusDatabase::Sqlite("radius.db".into());
            let config =
                RadiusConfig { database, username: Username::default(), disconnect: Some(disconnect) };
            assert!(!format!("{config:?}").contains("hush"));
            config.check()
        };
        assert_eq!(check("gateway.example:3799", "hush", 500), Ok(()));
        assert_eq!(check("[::1]:3799", "hush", 1), Ok(()));
        assert_eq!(check("gateway.example:3799", "", 500), Err(InvalidRadiusConfig::NoSecret));
        assert_eq!(check("gateway.example:3799", "hush", 0), Err(InvalidRadiusConfig::NoTimeToAnswer));
        for bad in ["gateway", ":3799", "gateway:0", "::1:3799", "http://gateway:3799"] {
            assert_eq!(check(bad, "hush", 500), Err(InvalidRadiusConfig::NoHostAndPort(bad.into())));
        }
    }
}
