//! What is to be known of a service activation server to use it, and what of it cannot be meant.

use super::template::Template;
use crate::http::{InvalidTls, Tls, is_origin};
use ipnet::IpNet;
use std::fmt;
use std::time::Duration;

/// One server's configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tmf640Config {
    /// Its origin: `https://oss.operator.example`.
    pub url: String,
    /// What its paths begin with: `/tmf-api/ServiceActivationAndConfiguration/v4`.
    pub base_path: String,
    /// The id of a profile's service, by `{iccid}`, `{eid}`, `{imsi}` and `{msisdn}`.
    pub service_id: String,
    /// What finds it, where the server gives ids of its own: the query of a list, likewise.
    pub lookup: Option<String>,
    /// The state of a service whose profile is out of service: `inactive` or `terminated`.
    pub out_of_service: String,
    /// What is asked for, behind the base path, to see how it is.
    pub probe: String,
    /// How we say who we are, besides TLS.
    pub access: Access,
    /// The authorities that are trusted, in PEM; the system's where nothing is said.
    pub authorities: Option<Vec<u8>>,
    /// Our certificate's chain and its key, in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Where it sends events: the URL of our door as it sees it. Nothing is registered where nothing is said.
    pub callback_url: Option<String>,
    /// Which events: the query of the registration.
    pub callback_query: String,
    /// The networks that events may come from.
    pub callback_from: Vec<IpNet>,
    /// How long an event is waited for before it is asked what became of what was accepted.
    pub ask_after: Duration,
    /// How many calls are made at a time.
    pub in_flight: usize,
    /// How late a change that was cut off may still be carried out.
    pub late_within: Duration,
}

/// How we say who we are.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// Not at all.
    #[default]
    Open,
    /// By a bearer token that stays.
    Token(String),
    /// As an OAuth2 client, by tokens that are fetched. Source: RFC 6749 §4.4.
    Client {
        /// Where: an origin with a path.
        token_url: String,
        /// Its id.
        id: String,
        /// Its secret.
        secret: String,
        /// The scope that is asked for; none where it is empty.
        scope: String,
    },
}

impl fmt::Debug for Tmf640Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, base_path, service_id, lookup, .. } = self;
        f.debug_struct("Tmf640Config")
            .field("url", url)
            .field("base_path", base_path)
            .field("service_id", service_id)
            .field("lookup", lookup)
            .finish_non_exhaustive()
    }
}

/// Why a configuration cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTmf640Config {
    /// No server is named.
    #[error("url is {0:?}; it is an origin without a path, such as \"https://oss.operator.example\"")]
    NoOrigin(String),
    /// No path.
    #[error("{0} is {1:?}; it is a path that begins with \"/\", without a space")]
    NoPath(&'static str, String),
    /// It names no profile.
    #[error(
        "{0} is {1:?}; it names a profile by {{iccid}}, {{eid}}, {{imsi}} or {{msisdn}}, such as \"{2}\""
    )]
    NamesNobody(&'static str, String, &'static str),
    /// No such state.
    #[error(
        "out_of_service is {0:?}; it is \"inactive\", or \"terminated\" (which most servers do not take back)"
    )]
    NoSuchState(String),
    /// Two ways at once, or half of one.
    #[error("{0}")]
    Access(&'static str),
    /// No place to fetch tokens.
    #[error(
        "token_url is {0:?}; it is where tokens are fetched, such as \"https://login.operator.example/oauth2/token\""
    )]
    NoTokenUrl(String),
    /// No certificate, or no key.
    #[error("{0}: see ca_file, certificate_file and key_file")]
    Tls(String),
    /// Certificates where nobody shows any.
    #[error("ca_file or certificate_file is given, and url is no https://")]
    TlsWithout,
    /// No place for events.
    #[error(
        "callback_url is {0:?}; it is where the server reaches this one, such as \"https://reveille.example/api/reveille/v1/carriers/NETWORK/callbacks\""
    )]
    NoCallbackUrl(String),
    /// Anybody could send events, and nobody signs them.
    #[error(
        "callback_from is empty; it is where events may come from, such as [\"203.0.113.0/24\"], as they bring no password"
    )]
    FromAnywhere,
    /// No time at all.
    #[error("ask_after is less than a second; what is accepted for later takes longer than that")]
    AsksTooSoon,
    /// Nothing would ever be sent.
    #[error("in_flight must be at least 1")]
    NothingInFlight,
}

impl From<InvalidTls> for InvalidTmf640Config {
    fn from(invalid: InvalidTls) -> Self {
        Self::Tls(invalid.to_string())
    }
}

impl Tmf640Config {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidTmf640Config> {
        use InvalidTmf640Config as Not;
        if !is_origin(&self.url) {
            return Err(Not::NoOrigin(self.url.clone()));
        }
        if !self.base_path.is_empty() && (!is_path(&self.base_path) || self.base_path.ends_with('/')) {
            return Err(Not::NoPath("base_path", self.base_path.clone()));
        }
        if !is_path(&self.probe) {
            return Err(Not::NoPath("probe", self.probe.clone()));
        }
        let (key, text, usual) = match &self.lookup {
            Some(lookup) => ("lookup", lookup, "serviceCharacteristic.value={iccid}"),
            None => ("service_id", &self.service_id, "{iccid}"),
        };
        if text.parse::<Template>().is_err() || key == "lookup" && !is_path(&format!("/{text}")) {
            return Err(Not::NamesNobody(key, text.clone(), usual));
        }
        if !matches!(self.out_of_service.as_str(), "inactive" | "terminated") {
            return Err(Not::NoSuchState(self.out_of_service.clone()));
        }
        self.check_access()?;
        if self.tls_is_given() && !self.url.starts_with("https:") {
            return Err(Not::TlsWithout);
        }
        self.tls().config()?;
        let is_url = |url: &String| origin_and_path(url).is_some();
        if let Some(url) = self.callback_url.as_ref().filter(|url| !is_url(url)) {
            return Err(Not::NoCallbackUrl(url.clone()));
        }
        if self.callback_url.is_some() && self.callback_from.is_empty() {
            return Err(Not::FromAnywhere);
        }
        match self {
            Self { in_flight: 0, .. } => Err(Not::NothingInFlight),
            Self { ask_after, .. } if *ask_after < Duration::from_secs(1) => Err(Not::AsksTooSoon),
            _ => Ok(()),
        }
    }

    fn check_access(&self) -> Result<(), InvalidTmf640Config> {
        let Access::Client { token_url, id, secret, .. } = &self.access else { return Ok(()) };
        if origin_and_path(token_url).is_none() {
            return Err(InvalidTmf640Config::NoTokenUrl(token_url.clone()));
        }
        if id.is_empty() || secret.is_empty() {
            return Err(InvalidTmf640Config::Access("an OAuth2 client has a client_id and a client_secret"));
        }
        Ok(())
    }

    fn tls_is_given(&self) -> bool {
        self.authorities.is_some() || self.identity.is_some()
    }

    pub(super) fn tls(&self) -> Tls<'_> {
        let identity = self.identity.as_ref().map(|(chain, key)| (&chain[..], &key[..]));
        Tls { authorities: self.authorities.as_deref(), identity }
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// An URL in two.
pub(super) fn origin_and_path(url: &str) -> Option<(&str, &str)> {
    let scheme = url.find("://")? + 3;
    let path = scheme + url[scheme..].find('/')?;
    let (origin, path) = url.split_at(path);
    (is_origin(origin) && is_path(path)).then_some((origin, path))
}
