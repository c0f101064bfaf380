//! Calls of the command line to a server, as any customer would make them.

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Method, Request};

/// Where a server listens that is not configured otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a call is made that the server asks to repeat, or that does not reach it.
const TRIES: u32 = 8;

/// How long to wait before the second, where the server does not say.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Where the server is, and who asks.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// The server; http://127.0.0.1:8080 where nothing is said.
    #[arg(long, env = "REVEILLE_SERVER")]
    server: Option<String>,
    /// A TOML file with any of server, account, key, secret, username, password.
    #[arg(long, value_name = "FILE", env = "REVEILLE_CREDENTIALS")]
    credentials: Option<PathBuf>,
    /// The account.
    #[arg(long, env = "REVEILLE_ACCOUNT")]
    account: Option<String>,
    /// The OAuth2 client's key.
    #[arg(long, env = "REVEILLE_KEY")]
    key: Option<String>,
    /// The OAuth2 client's secret; asked for where it is not given.
    #[arg(long, env = "REVEILLE_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The user.
    #[arg(long, env = "REVEILLE_USERNAME")]
    username: Option<String>,
    /// The user's password; asked for where it is not given.
    #[arg(long, env = "REVEILLE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsFile {
    server: Option<String>,
    account: Option<String>,
    key: Option<String>,
    secret: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Somebody who is logged in.
pub struct Client {
    agent: Agent,
    server: String,
    account: Option<String>,
    who: Who,
    bearer: String,
    session: String,
}

struct Who {
    key: String,
    secret: String,
    username: String,
    password: String,
}

/// An answer: its status, and its body where that is JSON.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Value,
}

impl Access {
    /// Access for a program that knows everything already.
    pub fn of(
        server: String,
        account: &str,
        key: &str,
        secret: &str,
        username: &str,
        password: &str,
    ) -> Self {
        let given = |text: &str| Some(text.to_owned());
        Self {
            server: Some(server),
            credentials: None,
            account: given(account),
            key: given(key),
            secret: given(secret),
            username: given(username),
            password: given(password),
        }
    }

    /// Logs in.
    pub fn log_in(self) -> Result<Client> {
        let file = match &self.credentials {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?
            }
            None => CredentialsFile::default(),
        };
        let asked = |given: Option<String>, what: &str| match given {
            Some(text) => Ok(text),
            None => rpassword::prompt_password(format!("{what}: "))
                .with_context(|| format!("no {what} was given")),
        };
        let needed = |given: Option<String>, flag: &str| given.with_context(|| format!("{flag} is missing"));
        let who = Who {
            key: needed(self.key.or(file.key), "--key (or REVEILLE_KEY, or key in --credentials)")?,
            secret: asked(self.secret.or(file.secret), "client secret")?,
            username: needed(
                self.username.or(file.username),
                "--username (or REVEILLE_USERNAME, or in --credentials)",
            )?,
            password: asked(self.password.or(file.password), "password")?,
        };
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let server = self.server.or(file.server).unwrap_or_else(|| DEFAULT_SERVER.into());
        let server = server.trim_end_matches('/').to_owned();
        let account = self.account.or(file.account);
        let mut client =
            Client { agent, server, account, who, bearer: String::new(), session: String::new() };
        client.renew()?;
        Ok(client)
    }
}

impl Client {
    /// The account that was named.
    pub fn account(&self) -> Result<&str> {
        self.account
            .as_deref()
            .context("--account is missing (or REVEILLE_ACCOUNT, or account in --credentials)")
    }

    /// A GET.
    pub fn get(&mut self, path: &str) -> Result<Value> {
        self.call(&Method::GET, path, None, None)
    }

    /// A POST, with a body where there is one.
    pub fn post(&mut self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(&Method::POST, path, body, None)
    }

    /// A POST that the server recognises when it is repeated.
    pub fn post_once(&mut self, path: &str, body: &Value, key: &str) -> Result<Value> {
        self.call(&Method::POST, path, Some(body), Some(key))
    }

    /// The bearer and session tokens, for whoever goes on by hand.
    pub fn tokens(&self) -> (&str, &str) {
        (&self.bearer, &self.session)
    }

    fn renew(&mut self) -> Result<()> {
        let basic = base64(format!("{}:{}", self.who.key, self.who.secret).as_bytes());
        let url = format!("{}/api/ts/v1/oauth2/token", self.server);
        let answer = self.agent.post(&url).header("Authorization", &format!("Basic {basic}"));
        let answer =
            answer.content_type("application/x-www-form-urlencoded").send("grant_type=client_credentials");
        let answer = read(answer.with_context(|| format!("cannot reach {}", self.server))?)?;
        self.bearer = text_of(&answer, "access_token").context("the token call failed")?;
        let login = json!({"username": self.who.username, "password": self.who.password});
        self.session.clear();
        let answer = self.send(&Method::POST, "/api/m2m/v1/session/login", Some(&login), None)?;
        self.session = text_of(&answer, "sessionToken").context("the login failed")?;
        Ok(())
    }

    /// Calls; where a call with a key or a GET does not get through, again; where the session has ended,
    /// after a new login.
    fn call(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value> {
        let repeatable = key.is_some() || *method == Method::GET;
        let mut renewed = false;
        for attempt in 1.. {
            match self.send(method, path, body, key) {
                Ok(answer) if answer.status < 300 => return Ok(answer.body),
                Ok(answer) if answer.status == 401 && !renewed => {
                    renewed = true;
                    self.renew()?;
                }
                Ok(answer) if matches!(answer.status, 429 | 503) && repeatable && attempt < TRIES => {
                    wait(answer.retry_after.unwrap_or(AGAIN_AFTER * attempt));
                }
                Ok(answer) => return Err(refused(&answer)),
                Err(_) if repeatable && attempt < TRIES => wait(AGAIN_AFTER * attempt),
                Err(error) => return Err(error),
            }
        }
        bail!("unreachable: the loop above ends by itself")
    }

    fn send(&self, method: &Method, path: &str, body: Option<&Value>, key: Option<&str>) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("Authorization", format!("Bearer {}", self.bearer));
        if !self.session.is_empty() {
            request = request.header("VZ-M2M-Token", &self.session);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string())?;
                self.agent.run(request)
            }
            None if *method == Method::POST => self.agent.run(request.body(String::new())?),
            None => self.agent.run(request.body(())?),
        };
        read(answer.with_context(|| format!("cannot reach {}", self.server))?)
    }
}

fn read(answer: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = answer.into_body().into_with_config().limit(64 * 1024 * 1024).read_to_string()?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body })
}

fn text_of(answer: &Answer, member: &str) -> Result<String> {
    let text = answer.body.get(member).and_then(Value::as_str).filter(|_| answer.status < 300);
    text.map(ToOwned::to_owned).ok_or_else(|| refused(answer))
}

fn refused(answer: &Answer) -> anyhow::Error {
    let said =
        ["errorMessage", "error_description"].iter().find_map(|member| answer.body.get(*member)?.as_str());
    anyhow!("{}: {}", answer.status, said.unwrap_or("the server gave no reason"))
}

#[expect(clippy::disallowed_methods, reason = "the command line waits in real time")]
pub(crate) fn wait(duration: Duration) {
    std::thread::sleep(duration);
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = usize::try_from((bits >> (18 - 6 * place)) & 63).unwrap_or(0);
            text.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_pads() {
        assert_eq!(super::base64(b"demo-key:demo-secret"), "ZGVtby1rZXk6ZGVtby1zZWNyZXQ=");
        assert_eq!(super::base64(b"a"), "YQ==");
        assert_eq!(super::base64(b"abc"), "YWJj");
    }
}
