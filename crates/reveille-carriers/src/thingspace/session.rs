//! One login that all share: its bearer token and its session, renewed when they are refused, and never so often that
//! the user would be locked. Source: contract §3.

use super::ThingSpaceConfig;
use super::quota::Quota;
use crate::http::{Answer, Call, Server, Unanswered};
use crate::{LoginEnded, Logins, MayLogIn, Trouble};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName};
use reveille_domain::{Clock, Timestamp};
use reveille_wire::answers::{SessionAnswer, TokenAnswer};
use reveille_wire::client::{self, Login, Refusal};
use ring::digest;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tracing::info;

const SESSION: HeaderName = HeaderName::from_static("vz-m2m-token");

/// What a gateway says of a bearer token that it does not accept. Source: contract §9.1.
const BEARER_REFUSED: [&str; 2] = ["900901", "900902"];

/// How long to wait where another login is under way.
const LOGIN_UNDER_WAY: Duration = Duration::from_millis(500);

/// How long an answer may take: after that nobody knows what came of the call, and its connection is given up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// How long the answer to a login may take: less than it keeps others waiting who would log in.
const LOGGED_IN_WITHIN: Duration = Duration::from_secs(10);

/// When a call is made again that was answered *not now*, without a time.
const NOT_NOW: Duration = Duration::from_secs(5);

/// What is said of an account that the user there does not have. Source: contract §9.3.
const ACCOUNT_REFUSED: [&str; 2] = ["REQUEST_FAILED.AccountName", "REQUEST_FAILED.AccountNotFound"];

/// How often one call is made: its token may have expired, and its session too.
const MADE_MAX: usize = 3;

/// How long before its end a bearer token is not used any more.
const BEARER_MARGIN: Duration = Duration::from_secs(5);

/// A login at ThingSpace. Networks that use the same share it.
pub struct Session {
    server: Server,
    key: String,
    secret: String,
    username: String,
    password: String,
    /// What stands for who logs in, and with what, where logins are counted.
    login: String,
    credentials: String,
    clock: Arc<dyn Clock>,
    quota: Quota,
    logins: OnceLock<Arc<dyn Logins>>,
    /// Held while a token is fetched or a session opened, so that it is done once.
    open: Mutex<Open>,
}

/// What was got so far.
#[derive(Default)]
struct Open {
    bearer: Option<(Arc<str>, Timestamp)>,
    session: Option<Arc<str>>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// It was not made, and may be after that time.
    Wait(Duration),
    /// It was not made: ThingSpace cannot be used.
    Trouble(Trouble),
    /// It was made, and nobody knows what came of it.
    Lost,
    /// It was not made, as nobody wants it any more.
    Unwanted,
    /// It was made, and the account is not accepted, in those words.
    Account(String),
}

type Tried<T> = Result<T, Failed>;

impl Session {
    /// A login that is made when there is something to call.
    pub fn new(config: &ThingSpaceConfig, clock: Arc<dyn Clock>) -> Option<Self> {
        let ThingSpaceConfig { url, key, secret, username, password, .. } = config;
        Some(Self {
            server: Server::at(url)?,
            key: key.clone(),
            secret: secret.clone(),
            username: username.clone(),
            password: password.clone(),
            login: digest_of([url, username]),
            credentials: digest_of([key, secret, password]),
            quota: Quota::new(config.calls_per_minute, Arc::clone(&clock)),
            clock,
            logins: OnceLock::new(),
            open: Mutex::default(),
        })
    }

    pub(super) fn count_logins_in(&self, logins: Arc<dyn Logins>) {
        let _ = self.logins.set(logins); // the other network's carrier may have been first, with the same
    }

    pub(super) fn origin(&self) -> &str {
        self.server.origin()
    }

    /// Makes a call in the session. One that is refused as expired is made again in a new one.
    pub(super) async fn call(&self, call: Call) -> Tried<Answer> {
        self.call_while(&|| true, call).await
    }

    /// The same, unless it is not wanted any more when its turn has come.
    pub(super) async fn call_while(
        &self,
        is_wanted: &(dyn Fn() -> bool + Sync),
        call: Call,
    ) -> Tried<Answer> {
        let mut last = None;
        for _ in 0..MADE_MAX {
            let (bearer, session) = self.get().await?;
            if !is_wanted() {
                return Err(Failed::Unwanted);
            }
            let call = call.clone().with(AUTHORIZATION, &format!("Bearer {bearer}")).with(SESSION, &session);
            let answer = self.send(&call).await?;
            let refusal = client::refusal(&answer.body);
            let has_expired =
                answer.status == 401 || answer.status == 400 && refusal.code.contains("SessionToken");
            if !has_expired {
                return Ok(answer);
            }
            self.forget(&bearer, &session, &refusal).await;
            last = Some(refusal);
        }
        let words = last.map(|refusal| refusal.words).unwrap_or_default();
        Err(self.refused(&format!("does not accept the session that it has just opened ({words})")))
    }

    /// Whether a token is to be had: nothing else is asked for, and nobody logged in.
    pub(super) async fn probe(&self) -> Tried<()> {
        let mut open = self.open.lock().await;
        self.bearer(&mut open).await.map(drop)
    }

    async fn get(&self) -> Tried<(Arc<str>, Arc<str>)> {
        let mut open = self.open.lock().await;
        for _ in 0..2 {
            let bearer = self.bearer(&mut open).await?;
            if let Some(session) = &open.session {
                return Ok((bearer, Arc::clone(session)));
            }
            match self.log_in(&bearer).await? {
                Some(session) => {
                    open.session = Some(Arc::clone(&session));
                    return Ok((bearer, session));
                }
                None => open.bearer = None,
            }
        }
        Err(self.refused("does not accept the bearer token that it has just given"))
    }

    /// What was refused is not used again; what somebody else has got since is.
    async fn forget(&self, bearer: &Arc<str>, session: &Arc<str>, refusal: &Refusal) {
        let mut open = self.open.lock().await;
        let same =
            |known: Option<&Arc<str>>, used: &Arc<str>| known.is_some_and(|known| Arc::ptr_eq(known, used));
        if BEARER_REFUSED.contains(&refusal.code.as_str()) {
            if same(open.bearer.as_ref().map(|(token, _)| token), bearer) {
                open.bearer = None;
            }
        } else if same(open.session.as_ref(), session) {
            open.session = None;
        }
    }

    async fn bearer(&self, open: &mut Open) -> Tried<Arc<str>> {
        let now = self.clock.now();
        if let Some((bearer, until)) = &open.bearer
            && now < *until
        {
            return Ok(Arc::clone(bearer));
        }
        let basic = STANDARD.encode(format!("{}:{}", self.key, self.secret));
        let form = "application/x-www-form-urlencoded";
        let call = Call::post(client::TOKEN.into(), form, client::TOKEN_FORM.into());
        let answer = self.send(&call.with(AUTHORIZATION, &format!("Basic {basic}"))).await?;
        match (answer.status, serde_json::from_slice::<TokenAnswer>(&answer.body)) {
            (200, Ok(token)) => {
                let lasts = Duration::from_secs(u64::from(token.expires_in));
                let bearer: Arc<str> = token.access_token.into();
                open.bearer = Some((Arc::clone(&bearer), now.plus(lasts).minus(BEARER_MARGIN)));
                Ok(bearer)
            }
            (400 | 401 | 403, _) => {
                let words = client::refusal(&answer.body).words;
                let told = format!(
                    "does not accept the client ({words}): correct thingspace.key and thingspace.secret"
                );
                Err(self.refused(&told))
            }
            (status, _) => Err(self.not_it(status, client::TOKEN)),
        }
    }

    /// Opens a session; nothing where the bearer token is not accepted any more.
    async fn log_in(&self, bearer: &str) -> Tried<Option<Arc<str>>> {
        let Some(logins) = self.logins.get() else { return Err(Failed::Wait(LOGIN_UNDER_WAY)) };
        match logins.begin(&self.login, &self.credentials).await {
            MayLogIn::Now => {}
            MayLogIn::Later => return Err(Failed::Wait(LOGIN_UNDER_WAY)),
            MayLogIn::NoMore => {
                return Err(self.refused(
                    "has refused too many logins in a row, and one more might lock the user: correct \
                     thingspace.username and thingspace.password; `reveille carriers release NETWORK` tries once more",
                ));
            }
        }
        let body = client::to_bytes(&Login { username: &self.username, password: &self.password });
        let call = Call::post(client::LOGIN.into(), "application/json", body);
        let call = call.with(AUTHORIZATION, &format!("Bearer {bearer}"));
        let answer = match self.send_within(LOGGED_IN_WITHIN, &call).await {
            Ok(answer) => answer,
            Err(Failed::Lost) => return Err(Failed::Lost), // it counts until another succeeds
            Err(not_sent) => {
                logins.end(&self.login, LoginEnded::NotSent).await;
                return Err(not_sent);
            }
        };
        let refusal = || client::refusal(&answer.body);
        match (answer.status, serde_json::from_slice::<SessionAnswer>(&answer.body)) {
            (200, Ok(opened)) => {
                logins.end(&self.login, LoginEnded::Succeeded).await;
                info!(origin = self.origin(), "Opened a session at {}", self.origin());
                Ok(Some(opened.session_token.into()))
            }
            (401, _) if BEARER_REFUSED.contains(&refusal().code.as_str()) => {
                logins.end(&self.login, LoginEnded::NotSent).await; // the gateway did not let it through
                Ok(None)
            }
            (429, _) => {
                logins.end(&self.login, LoginEnded::NotSent).await;
                Err(Failed::Wait(answer.retry_after.unwrap_or(LOGIN_UNDER_WAY)))
            }
            (400..=499, _) => {
                logins.end(&self.login, LoginEnded::Refused).await;
                let words = refusal().words;
                let told = format!(
                    "does not accept the user ({words}): correct thingspace.username and thingspace.password"
                );
                Err(self.refused(&told))
            }
            (status, _) => Err(self.not_it(status, client::LOGIN)),
        }
    }

    async fn send(&self, call: &Call) -> Tried<Answer> {
        self.send_within(ANSWERED_WITHIN, call).await
    }

    async fn send_within(&self, within: Duration, call: &Call) -> Tried<Answer> {
        self.quota.take().map_err(Failed::Wait)?;
        let answer = tokio::select! {
            biased;
            answer = self.server.send(call) => answer,
            () = self.clock.sleep(within) => Err(Unanswered::Lost),
        };
        answer.map_err(|unanswered| match unanswered {
            Unanswered::Lost => Failed::Lost,
            Unanswered::NotSent(words) => Failed::Trouble(Trouble::Transport(
                format!(
                    "{} cannot be reached ({words}): see whether it is up, or correct thingspace.url.",
                    self.origin()
                )
                .into(),
            )),
        })
    }

    fn refused(&self, why: &str) -> Failed {
        Failed::Trouble(Trouble::Credentials(format!("{} {why}.", self.origin()).into()))
    }

    /// Why an answer is none to what was asked, where it says nothing of that: it is for later, it is the account, or
    /// this is not ThingSpace.
    pub(super) fn beside_the_point(&self, answer: &Answer, path: &str) -> Option<Failed> {
        let refusal = client::refusal(&answer.body);
        match answer.status {
            429 | 503 => Some(Failed::Wait(answer.retry_after.unwrap_or(NOT_NOW))),
            status if refuses_account(status, &refusal.code) => Some(Failed::Account(refusal.words)),
            404 | 405 => Some(self.not_it(answer.status, path)),
            _ => None,
        }
    }

    pub(super) fn not_it(&self, status: u16, path: &str) -> Failed {
        let words = format!(
            "{} answers {status} to {path}: see whether it is up, or correct thingspace.url.",
            self.origin()
        );
        Failed::Trouble(Trouble::Transport(words.into()))
    }
}

/// Whether a refusal is of the account, and so of all that is asked for in it; not of a device that is asked for.
fn refuses_account(status: u16, code: &str) -> bool {
    status == 403 || status == 400 && ACCOUNT_REFUSED.contains(&code)
}

fn digest_of<'a>(parts: impl IntoIterator<Item = &'a String>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex(context.finish().as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_in_the_account_is_not_the_account() {
        assert!(refuses_account(403, ""));
        assert!(refuses_account(400, "REQUEST_FAILED.AccountNotFound"));
        assert!(!refuses_account(400, "INPUT_INVALID.Device.Account.Invalid"));
        assert!(!refuses_account(400, "REQUEST_FAILED.DeviceNotFound"));
    }
}
