//! What is to be known of a subscriber database to use it, and what of it cannot be meant.

use mongodb::options::ConnectionString;
use std::str::FromStr;
use std::time::Duration;

/// One database's configuration. The default is Open5GS's own names, and suspends by hiding.
#[derive(Clone, PartialEq, Eq)]
pub struct Open5gsConfig {
    /// Where it is: `mongodb://host:27017`. It may hold a password, so `Debug` shows nothing of it.
    pub url: String,
    /// The database: `open5gs`, of NextEPC `nextepc`.
    pub database: String,
    /// The collection that the HSS or UDR reads.
    pub collection: String,
    /// How access is taken.
    pub mode: Mode,
    /// What is written to `operator_determined_barring` with [`Mode::Status`]: a bit mask, of which the lowest bit
    /// bars all packet services. Source: 3GPP TS 29.272, clause 7.3.30.
    pub barring: i32,
    /// How long before it hides a subscriber the HSS is asked to have it detached; without it, nobody is asked.
    pub cancel_location: Option<Duration>,
}

/// How access is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The subscriber stays, and its MME is told that its operator has barred it: for MMEs that heed that.
    Status,
    /// The subscriber is renamed, so that the network does not find it: for all.
    Hide,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Status, Self::Hide];

    /// `status` or `hide`, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Hide => "hide",
        }
    }
}

/// A name that no mode has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no mode; those are \"hide\" (certain) and \"status\" (for MMEs that heed Subscriber-Status)"
)]
pub struct UnknownMode(pub Box<str>);

impl FromStr for Mode {
    type Err = UnknownMode;
    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| UnknownMode(name.into()))
    }
}

impl Default for Open5gsConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            database: "open5gs".into(),
            collection: "subscribers".into(),
            mode: Mode::Hide,
            barring: 1,
            cancel_location: None,
        }
    }
}

impl std::fmt::Debug for Open5gsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, database, collection, mode, barring, cancel_location } = self;
        f.debug_struct("Open5gsConfig")
            .field("url", &"***")
            .field("database", database)
            .field("collection", collection)
            .field("mode", mode)
            .field("barring", barring)
            .field("cancel_location", cancel_location)
            .finish()
    }
}

/// Why a configuration cannot be meant. Nothing of the URL is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOpen5gsConfig {
    /// No database is named.
    #[error("url is not given; it is where the subscribers are, such as \"mongodb://127.0.0.1:27017\"")]
    NoUrl,
    /// A text that is no URL of a MongoDB.
    #[error(
        "url is none of a MongoDB; such as \"mongodb://name:password@host:27017/?tls=true\", with each of @ : / % in \
         a password as %40 %3A %2F %25, and all hosts of a replica set by name (mongodb+srv is not known)"
    )]
    NotAUrl,
    /// A database or collection without a name.
    #[error("{0} is empty; leave it out, or name the one that the HSS reads")]
    NoName(&'static str),
    /// Nothing would be barred, or by bits that do not exist.
    #[error("barring is {0}; it is a bit mask from 1 to 511, and 1 bars all packet services")]
    NoBarring(i32),
    /// Only a subscriber that is hidden needs it.
    #[error(
        "cancel_location is for mode = \"hide\"; with \"status\", the HSS tells the MME what has changed"
    )]
    CancelsWithoutHiding,
}

/// All the bits that have a meaning.
const BARRING_MAX: i32 = 0x1ff;

impl Open5gsConfig {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidOpen5gsConfig> {
        if self.url.is_empty() {
            return Err(InvalidOpen5gsConfig::NoUrl);
        }
        ConnectionString::parse(&self.url).map_err(|_| InvalidOpen5gsConfig::NotAUrl)?;
        for (key, name) in [("database", &self.database), ("collection", &self.collection)] {
            if name.is_empty() {
                return Err(InvalidOpen5gsConfig::NoName(key));
            }
        }
        if !(1..=BARRING_MAX).contains(&self.barring) {
            return Err(InvalidOpen5gsConfig::NoBarring(self.barring));
        }
        if self.mode == Mode::Status && self.cancel_location.is_some() {
            return Err(InvalidOpen5gsConfig::CancelsWithoutHiding);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Open5gsConfig)) -> Open5gsConfig {
        let mut config = Open5gsConfig { url: "mongodb://u:secret@127.0.0.1".into(), ..Default::default() };
        change(&mut config);
        config
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_url() {
        assert_eq!(config(|_| {}).check(), Ok(()));
        let wrong: [fn(&mut Open5gsConfig); 8] = [
            |config| config.url.clear(),
            |config| config.url = "postgres://u:secret@host".into(),
            |config| config.url = "mongodb+srv://u:secret@host".into(),
            |config| config.url = "mongodb://u:secret@host:port".into(),
            |config| config.url = "mongodb://u:sec@ret@host".into(),
            |config| config.collection.clear(),
            |config| config.barring = 0,
            |config| (config.mode, config.cancel_location) = (Mode::Status, Some(Duration::ZERO)),
        ];
        for (number, wrong) in wrong.into_iter().enumerate() {
            let error = config(wrong).check().expect_err(&number.to_string());
            assert!(!error.to_string().contains("sec"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", config(|_| {})).contains("secret"));
    }

    #[test]
    fn a_mode_is_known_by_its_name_alone() {
        assert_eq!("hide".parse(), Ok(Mode::Hide));
        assert_eq!("status".parse(), Ok(Mode::Status));
        assert!("Hide".parse::<Mode>().is_err());
    }
}
