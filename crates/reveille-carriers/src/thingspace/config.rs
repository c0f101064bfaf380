//! What is to be known of ThingSpace to forward to it, and what of it cannot be meant.

use crate::http::is_origin;
use ipnet::IpNet;
use reveille_domain::AccountName;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// How long a listener's credentials may be. Source: contract §7.
const CREDENTIAL_CHARS_MAX: usize = 40;

/// How ThingSpace, or another Reveille, is used.
#[derive(Clone)]
pub struct ThingSpaceConfig {
    /// Its origin: `https://thingspace.verizon.com`.
    pub url: String,
    /// The OAuth2 client.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// The user who logs in.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Accounts that are called otherwise there.
    pub accounts: HashMap<AccountName, AccountName>,
    /// Where it sends callbacks: the URL of our door as it sees it.
    pub callback_url: String,
    /// What its listener is registered with, and its callbacks bring back.
    pub callback_username: String,
    /// Likewise.
    pub callback_password: String,
    /// The networks that callbacks may come from; any, where none is named.
    pub callback_from: Vec<IpNet>,
    /// How long a callback is waited for before the request's status is asked for.
    pub ask_after: Duration,
    /// How long operations are gathered that may go in one request.
    pub gather: Duration,
    /// How many calls may be made per minute; any number where nothing is said.
    pub calls_per_minute: Option<u32>,
}

impl fmt::Debug for ThingSpaceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, key, username, .. } = self;
        f.debug_struct("ThingSpaceConfig")
            .field("url", url)
            .field("key", key)
            .field("username", username)
            .finish_non_exhaustive()
    }
}

/// Why a configuration cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidThingSpaceConfig {
    /// No server is named.
    #[error("url is {0:?}; it is an origin without a path, such as \"https://thingspace.verizon.com\"")]
    NoOrigin(String),
    /// Something is missing that nothing goes without.
    #[error("{0} is not given; {1}")]
    Missing(&'static str, &'static str),
    /// No place for callbacks.
    #[error(
        "callback_url is {0:?}; it is where ThingSpace reaches this server, such as \"https://reveille.example/api/reveille/v1/carriers/NETWORK/callbacks\""
    )]
    NoCallbackUrl(String),
    /// ThingSpace would not take it.
    #[error("{0} is longer than {CREDENTIAL_CHARS_MAX} characters, which ThingSpace does not take")]
    TooLong(&'static str),
    /// No time at all.
    #[error("ask_after is less than a second; a callback takes longer than that")]
    AsksTooSoon,
}

impl ThingSpaceConfig {
    /// Whether it can be meant; else the first mistake.
    pub fn check(&self) -> Result<(), InvalidThingSpaceConfig> {
        use InvalidThingSpaceConfig::{AsksTooSoon, Missing, NoCallbackUrl, NoOrigin, TooLong};
        if !is_origin(&self.url) {
            return Err(NoOrigin(self.url.clone()));
        }
        let client = "an OAuth2 client has a key and a secret";
        let user = "a session is opened with a user name and a password";
        let listener = "callbacks are told from a stranger's by it";
        for (key, value, why) in [
            ("key", &self.key, client),
            ("secret", &self.secret, client),
            ("username", &self.username, user),
            ("password", &self.password, user),
            ("callback_password", &self.callback_password, listener),
        ] {
            if value.is_empty() {
                return Err(Missing(key, why));
            }
        }
        for (key, value) in
            [("callback_username", &self.callback_username), ("callback_password", &self.callback_password)]
        {
            if value.chars().count() > CREDENTIAL_CHARS_MAX {
                return Err(TooLong(key));
            }
        }
        let path =
            self.callback_url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        if path.is_none_or(|(_, rest)| rest.is_empty() || rest.starts_with('/')) {
            return Err(NoCallbackUrl(self.callback_url.clone()));
        }
        if self.ask_after < Duration::from_secs(1) { Err(AsksTooSoon) } else { Ok(()) }
    }
}
