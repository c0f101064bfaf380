//! What is to be known of an HLR to use it, and what of it cannot be meant.

use std::str::FromStr;
use std::time::Duration;

/// One HLR's configuration. The default takes and gives both services, and kicks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsmoHlrConfig {
    /// Where its control interface is: `127.0.0.1:4259`. It knows neither passwords nor TLS, so that should be
    /// loopback or a private network.
    pub address: String,
    /// What is taken and given. A service that is not named stays as it is.
    pub services: Vec<Service>,
    /// Where its GSUP port is, `127.0.0.1:4222`, to have the serving node let go of a profile whose services
    /// are taken; without it, a device that is attached keeps its service until it registers next.
    pub kick: Option<String>,
    /// How long a serving node may take to answer. One that does not is not said to have let go.
    pub kick_timeout: Duration,
}

/// A service that an HLR grants a subscriber or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Data. An SGSN serves it.
    Ps,
    /// Voice and SMS. An MSC with its VLR serves it.
    Cs,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 2] = [Self::Ps, Self::Cs];

    /// `ps` or `cs`, as in the configuration and on the control interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ps => "ps",
            Self::Cs => "cs",
        }
    }
}

/// A name that no service has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service of an HLR; those are \"ps\" (data) and \"cs\" (voice and SMS)")]
pub struct UnknownService(pub Box<str>);

impl FromStr for Service {
    type Err = UnknownService;
    fn from_str(name: &str) -> Result<Self, UnknownService> {
        Self::ALL.into_iter().find(|of| of.name() == name).ok_or_else(|| UnknownService(name.into()))
    }
}

impl Default for OsmoHlrConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            services: Service::ALL.to_vec(),
            kick: None,
            kick_timeout: Duration::from_millis(500),
        }
    }
}

/// Why a configuration cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOsmoHlrConfig {
    /// No HLR is named.
    #[error("address is not given; it is where the HLR's control interface is, such as \"127.0.0.1:4259\"")]
    NoAddress,
    /// A text that names no host and port.
    #[error("{key} is {text:?}; it is a host and a port, such as \"127.0.0.1:{usual}\"")]
    NoHostAndPort {
        /// Which key: `address` or `kick`.
        key: &'static str,
        /// What it is.
        text: Box<str>,
        /// The port that an HLR has there.
        usual: u16,
    },
    /// Nothing to take or give.
    #[error("services is empty; it names \"ps\" (data), \"cs\" (voice and SMS), or both")]
    NoServices,
    /// One of them twice.
    #[error("services names {:?} twice", .0.name())]
    ServiceTwice(Service),
    /// No time to answer in.
    #[error("kick_timeout is less than a millisecond; no serving node answers in that")]
    NoTimeToAnswer,
}

/// The ports of osmo-hlr, which 1.5.0 has no way to change.
const CTRL_PORT: u16 = 4259;
const GSUP_PORT: u16 = 4222;

impl OsmoHlrConfig {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidOsmoHlrConfig> {
        if self.address.is_empty() {
            return Err(InvalidOsmoHlrConfig::NoAddress);
        }
        host_and_port("address", &self.address, CTRL_PORT)?;
        if self.services.is_empty() {
            return Err(InvalidOsmoHlrConfig::NoServices);
        }
        for service in Service::ALL {
            if self.services.iter().filter(|named| **named == service).count() > 1 {
                return Err(InvalidOsmoHlrConfig::ServiceTwice(service));
            }
        }
        let Some(kick) = &self.kick else { return Ok(()) };
        host_and_port("kick", kick, GSUP_PORT)?;
        if self.kick_timeout < Duration::from_millis(1) {
            return Err(InvalidOsmoHlrConfig::NoTimeToAnswer);
        }
        Ok(())
    }
}

fn host_and_port(key: &'static str, text: &str, usual: u16) -> Result<(), InvalidOsmoHlrConfig> {
    let named = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let sound = !host.contains(char::is_whitespace) && (bracketed || !host.contains([':', '/']));
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        !host.is_empty() && sound && digits && port.parse().is_ok_and(|port: u16| port != 0)
    });
    named.then_some(()).ok_or_else(|| InvalidOsmoHlrConfig::NoHostAndPort { key, text: text.into(), usual })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> OsmoHlrConfig {
        OsmoHlrConfig { address: address.into(), ..OsmoHlrConfig::default() }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:4259", "hlr.example:4259", "[::1]:4259"] {
            assert_eq!(at(good).check(), Ok(()), "{good}");
        }
        for bad in
            ["hlr", "hlr:", ":4259", "hlr:0", "hlr:65536", "hlr:+1", "::1:4259", "http://hlr:1", "a b:1"]
        {
            let mistake = at(bad).check().unwrap_err();
            assert_eq!(
                mistake.to_string(),
                format!("address is {bad:?}; it is a host and a port, such as \"127.0.0.1:4259\"")
            );
        }
        assert_eq!(at("").check(), Err(InvalidOsmoHlrConfig::NoAddress));
    }

    #[test]
    fn a_kick_needs_an_address_and_time() {
        let kicking = |kick: &str, millis| OsmoHlrConfig {
            kick: Some(kick.into()),
            kick_timeout: Duration::from_millis(millis),
            ..at("127.0.0.1:4259")
        };
        assert_eq!(kicking("127.0.0.1:4222", 500).check(), Ok(()));
        assert_eq!(kicking("127.0.0.1:4222", 0).check(), Err(InvalidOsmoHlrConfig::NoTimeToAnswer));
        assert_eq!(
            kicking("127.0.0.1", 500).check().unwrap_err().to_string(),
            "kick is \"127.0.0.1\"; it is a host and a port, such as \"127.0.0.1:4222\""
        );
    }

    #[test]
    fn services_are_named_once_each() {
        let with = |services: &[Service]| OsmoHlrConfig { services: services.to_vec(), ..at("hlr:4259") };
        assert_eq!(with(&[Service::Cs]).check(), Ok(()));
        assert_eq!(with(&[]).check(), Err(InvalidOsmoHlrConfig::NoServices));
        let twice = with(&[Service::Ps, Service::Cs, Service::Ps]).check().unwrap_err();
        assert_eq!(twice.to_string(), "services names \"ps\" twice");
        assert_eq!("cs".parse(), Ok(Service::Cs));
        assert!("sms".parse::<Service>().unwrap_err().to_string().starts_with("\"sms\" is no service"));
    }
}
