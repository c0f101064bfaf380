//! The server's door: whoever calls says who we are, by a token that is renewed, or stays; and what is no answer to
//! the call, but to who we are, is told apart.

use super::config::{Access, origin_and_path};
use super::said::{self, Verdict, verdict};
use super::template::encoded;
use super::{InvalidTmf640Config, Tmf640Config};
use crate::Trouble;
use crate::http::{Answer, Call, Server, Unanswered};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT, AUTHORIZATION};
use reveille_domain::{Clock, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long before its end a token is not used any more; of one that lasts less than ten times that, a tenth.
const TOKEN_MARGIN: Duration = Duration::from_secs(30);

/// How long a token is used of which nobody says how long it lasts.
const TOKEN_LASTS: Duration = Duration::from_secs(300);

/// The door of one server.
pub(super) struct Door {
    server: Server,
    base_path: String,
    badge: Badge,
}

/// What is shown there.
enum Badge {
    None,
    Token(String),
    Client(Box<Client>),
}

/// An OAuth2 client, and its token.
struct Client {
    server: Server,
    path: String,
    authorization: String,
    form: String,
    clock: Arc<dyn Clock>,
    /// Held while one is fetched, so that it is done once.
    token: Mutex<Option<(Arc<str>, Timestamp)>>,
}

/// Why there is no answer to a call.
#[derive(Debug)]
pub(super) enum Failed {
    /// It was not made, or not let in.
    Trouble(Trouble),
    /// It was made, and nobody knows what came of it.
    Lost,
}

impl Door {
    pub(super) fn new(config: &Tmf640Config, clock: Arc<dyn Clock>) -> Result<Self, InvalidTmf640Config> {
        let server = |origin: &str| {
            let tls = config.tls().config()?;
            Server::in_tls(origin, tls).ok_or_else(|| InvalidTmf640Config::NoOrigin(origin.into()))
        };
        let badge = match &config.access {
            Access::Open => Badge::None,
            Access::Token(token) => Badge::Token(token.clone()),
            Access::Client { token_url, id, secret, scope } => {
                let parts = origin_and_path(token_url);
                let (origin, path) =
                    parts.ok_or_else(|| InvalidTmf640Config::NoTokenUrl(token_url.clone()))?;
                let basic = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
                let scope =
                    if scope.is_empty() { String::new() } else { format!("&scope={}", encoded(scope)) };
                Badge::Client(Box::new(Client {
                    server: server(origin)?,
                    path: path.into(),
                    authorization: format!("Basic {basic}"),
                    form: format!("grant_type=client_credentials{scope}"),
                    clock,
                    token: Mutex::default(),
                }))
            }
        };
        Ok(Self { server: server(&config.url)?, base_path: config.base_path.clone(), badge })
    }

    pub(super) fn origin(&self) -> &str {
        self.server.origin()
    }

    /// A path behind the base path.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.base_path)
    }

    /// Makes a call as who we are. One whose token is refused is made once more with a new one: it was not let in.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, Failed> {
        let call = call.with(ACCEPT, "application/json");
        let mut renewed = false;
        loop {
            let token = match &self.badge {
                Badge::None => None,
                Badge::Token(token) => Some(token.as_str().into()),
                Badge::Client(client) => Some(client.token().await?),
            };
            let authorized = match &token {
                Some(token) => call.clone().with(AUTHORIZATION, &format!("Bearer {token}")),
                None => call.clone(),
            };
            let answer =
                self.server.send(&authorized).await.map_err(|none| failed(&self.server, none, "url"))?;
            if let (401, Badge::Client(client), Some(token), false) =
                (answer.status, &self.badge, token, renewed)
            {
                client.forget(&token).await;
                renewed = true;
                continue;
            }
            return match answer.status {
                401 | 403 => Err(self.not_let_in(&answer)),
                _ if verdict(answer.status) == Verdict::NotIt => Err(self.not_it(answer.status, &call.path)),
                _ => Ok(answer),
            };
        }
    }

    fn not_let_in(&self, answer: &Answer) -> Failed {
        let what = match &self.badge {
            Badge::None => "us without a token: give tmf640.token_file or tmf640.token_url",
            Badge::Token(_) => "the token: correct tmf640.token_file, or what it may do there",
            Badge::Client(_) => {
                "the token that it has just been given: correct tmf640.scope, or what the client may do there"
            }
        };
        let words = said::words(&answer.body);
        let words =
            format!("{} answers {} ({words}), so it does not let in {what}.", self.origin(), answer.status);
        Failed::Trouble(Trouble::Credentials(words.into()))
    }

    pub(super) fn not_it(&self, status: u16, path: &str) -> Failed {
        let words = format!(
            "{} answers {status} to {}: see whether it is up, or correct tmf640.url and tmf640.base_path.",
            self.origin(),
            path.split('?').next().unwrap_or_default()
        );
        Failed::Trouble(Trouble::Transport(words.into()))
    }
}

impl Client {
    async fn token(&self) -> Result<Arc<str>, Failed> {
        let mut token = self.token.lock().await;
        let now = self.clock.now();
        if let Some((token, until)) = &*token
            && now < *until
        {
            return Ok(Arc::clone(token));
        }
        let form = self.form.clone().into_bytes();
        let call = Call::post(self.path.clone(), "application/x-www-form-urlencoded", form)
            .with(AUTHORIZATION, &self.authorization)
            .with(ACCEPT, "application/json");
        let answer =
            self.server.send(&call).await.map_err(|none| match failed(&self.server, none, "token_url") {
                Failed::Lost => unusable(&self.server, "does not answer"), // and nothing else was sent
                trouble => trouble,
            })?;
        let given = said::json(&answer.body).filter(|_| verdict(answer.status) == Verdict::Taken);
        let fresh = given.as_ref().and_then(|given| given["access_token"].as_str());
        let Some(fresh) = fresh.filter(|token| !token.is_empty()) else {
            return Err(self.none_given(&answer));
        };
        let fresh: Arc<str> = fresh.into();
        let lasts = given.as_ref().and_then(|given| given["expires_in"].as_u64());
        let lasts = lasts.map_or(TOKEN_LASTS, Duration::from_secs);
        *token = Some((Arc::clone(&fresh), now.plus(lasts.saturating_sub(TOKEN_MARGIN.min(lasts / 10)))));
        Ok(fresh)
    }

    /// What was refused is not used again; what somebody else has got since is.
    async fn forget(&self, refused: &Arc<str>) {
        let mut token = self.token.lock().await;
        if token.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, refused)) {
            *token = None;
        }
    }

    fn none_given(&self, answer: &Answer) -> Failed {
        let status = answer.status;
        if !matches!(status, 400 | 401 | 403) {
            return unusable(&self.server, &format!("answers {status} and gives no token"));
        }
        let error = said::json(&answer.body).and_then(|body| Some(body["error"].as_str()?.to_owned()));
        let words = format!(
            "{} does not accept the client ({}): correct tmf640.client_id and tmf640.client_secret_file.",
            self.server.origin(),
            error.unwrap_or_else(|| status.to_string())
        );
        Failed::Trouble(Trouble::Credentials(words.into()))
    }
}

fn failed(server: &Server, unanswered: Unanswered, key: &str) -> Failed {
    match unanswered {
        Unanswered::Lost => Failed::Lost,
        Unanswered::NotSent(words) => {
            let words = format!(
                "{} cannot be reached ({words}): see whether it is up, or correct tmf640.{key}.",
                server.origin()
            );
            Failed::Trouble(Trouble::Transport(words.into()))
        }
    }
}

fn unusable(server: &Server, why: &str) -> Failed {
    let words = format!("{} {why}: see whether it is up, or correct tmf640.token_url.", server.origin());
    Failed::Trouble(Trouble::Transport(words.into()))
}
