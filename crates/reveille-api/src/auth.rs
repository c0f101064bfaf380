//! Who calls: bearer tokens, sessions and users, as the store knows them, kept for a second.

use crate::App;
use crate::passwords::Passwords;
use crate::refused::unavailable;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use reveille_domain::{AccountName, Refusal, Timestamp};
use reveille_engine::Secrets;
use reveille_store::{Client, Session, User};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long what was read of a client, a session or a user is taken for true: another process may change it.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// How many of each are kept.
const KEPT_MAX: usize = 10_000;

/// How many sessions' uses are kept before those that the store was told of long ago are left out.
const USES_MAX: usize = 100_000;

/// How far the store's note of a session's last use may lag behind.
const TOUCH_AFTER: Duration = Duration::from_secs(30);

/// The session header. Source: contract §2.
pub(crate) const SESSION_HEADER: &str = "vz-m2m-token";

/// Somebody with a live token and a live session of the same client.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Whose session it is.
    pub(crate) user: Arc<User>,
    /// The digest of its session's token.
    pub(crate) session: [u8; 32],
}

impl Caller {
    /// The account, where it is one of the caller's.
    pub(crate) fn account(&self, account: AccountName) -> Result<AccountName, Refusal> {
        if self.sees(&account) { Ok(account) } else { Err(Refusal::ForeignAccount) }
    }

    /// The account of that name, where it is one of the caller's.
    pub(crate) fn account_named(&self, name: &str) -> Result<AccountName, Refusal> {
        self.account(name.parse().map_err(|_| Refusal::ForeignAccount)?)
    }

    /// Whether the account is one of the caller's.
    pub(crate) fn sees(&self, account: &AccountName) -> bool {
        self.user.accounts.contains(account)
    }

    /// Refuses whoever is no operator.
    pub(crate) fn must_operate(&self) -> Result<(), Refusal> {
        if self.user.operator { Ok(()) } else { Err(Refusal::OperatorsOnly) }
    }
}

/// What is remembered of who calls.
#[derive(Default)]
pub(crate) struct Auth {
    clients: Kept<u32, Option<Client>>,
    sessions: Kept<[u8; 32], Option<Session>>,
    users: Kept<Box<str>, Option<Arc<User>>>,
    uses: Mutex<HashMap<[u8; 32], Use>>,
    /// Password resets of the last minute, by session: a repeat gets the same answer.
    pub(crate) resets: tokio::sync::Mutex<HashMap<[u8; 32], Reset>>,
    pub(crate) passwords: Passwords,
}

/// A password reset that was done. Source: contract §12 Q32.
#[derive(Clone)]
pub(crate) struct Reset {
    pub(crate) at: Timestamp,
    pub(crate) old_password_digest: [u8; 32],
    pub(crate) new_password: String,
}

/// When a session was used, and when the store was last told.
#[derive(Clone, Copy)]
struct Use {
    at: Timestamp,
    told_at: Timestamp,
}

/// What was read, with when.
struct Kept<K, V>(Mutex<Rows<K, V>>);

struct Rows<K, V> {
    of: HashMap<K, (Timestamp, V)>,
    /// Grows whenever something is to be read again: what was being read then is not kept.
    generation: u64,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Rows { of: HashMap::new(), generation: 0 }))
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// What is kept, or else the generation to give to `put` after reading.
    fn get(&self, key: &K, now: Timestamp) -> Result<V, u64> {
        let kept = lock(&self.0);
        let fresh = kept.of.get(key).filter(|(at, _)| now.since(*at) < KEPT_FOR);
        fresh.map(|(_, value)| value.clone()).ok_or(kept.generation)
    }

    fn put(&self, key: K, value: V, now: Timestamp, generation: u64) {
        let mut kept = lock(&self.0);
        if kept.generation != generation {
            return;
        }
        if kept.of.len() >= KEPT_MAX {
            kept.of.clear();
        }
        kept.of.insert(key, (now, value));
    }

    fn forget(&self, key: &K) {
        let mut kept = lock(&self.0);
        kept.generation += 1;
        kept.of.remove(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// The client whose token the request bears. Source: contract §9.5, rows 2 and 3.
    pub(crate) async fn bearer(&self, headers: &HeaderMap) -> Result<Client, Refusal> {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) =
            authorization.and_then(|value| value.split_once(' ')).ok_or(Refusal::MissingBearer)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::MissingBearer);
        }
        let token = token.trim();
        let number = Secrets::client_of(token).ok_or(Refusal::InvalidBearer)?;
        if let Some(client) = self.client(number).await?.filter(|client| self.is_token_of(token, client)) {
            return Ok(client);
        }
        // Another node may have issued it since the client was read.
        self.client_changed(number);
        let client = self.client(number).await?.filter(|client| self.is_token_of(token, client));
        client.ok_or(Refusal::InvalidBearer)
    }

    /// Whether it is the token that the client has now.
    fn is_token_of(&self, token: &str, client: &Client) -> bool {
        client.token_issued_at.is_some_and(|issued_at| {
            let own = self.secrets.token(client.number, issued_at);
            let live = self.engine.clock().now() < issued_at.plus(self.config.token_life);
            live && Secrets::same(token.to_ascii_lowercase().as_bytes(), own.as_bytes())
        })
    }

    /// Who calls: the bearer's client and a live session that was opened with it. Rows 2 to 6.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let client = self.bearer(headers).await?;
        let token = headers.get(SESSION_HEADER).map(|value| value.to_str().unwrap_or_default().trim());
        let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::MissingSession)?;
        let digest = Secrets::digest(&token.to_ascii_lowercase());
        let session = self.session(digest).await?.ok_or(Refusal::InvalidSession)?;
        if session.client != client.number || session.ended_at.is_some() {
            return Err(Refusal::InvalidSession);
        }
        self.use_session(&session)?;
        let user = self.user(&session.user).await?.ok_or(Refusal::InvalidSession)?;
        Ok(Caller { user, session: digest })
    }

    /// A login or logout or reset changed what is remembered.
    pub(crate) fn session_changed(&self, digest: [u8; 32]) {
        self.auth.sessions.forget(&digest);
    }

    /// A token was issued or revoked.
    pub(crate) fn client_changed(&self, number: u32) {
        self.auth.clients.forget(&number);
    }

    async fn client(&self, number: u32) -> Result<Option<Client>, Refusal> {
        let now = self.engine.clock().now();
        let generation = match self.auth.clients.get(&number, now) {
            Ok(client) => return Ok(client),
            Err(generation) => generation,
        };
        let client =
            self.engine.store().client_numbered(number).await.map_err(|error| unavailable(&error))?;
        self.auth.clients.put(number, client.clone(), now, generation);
        Ok(client)
    }

    async fn session(&self, digest: [u8; 32]) -> Result<Option<Session>, Refusal> {
        let now = self.engine.clock().now();
        let generation = match self.auth.sessions.get(&digest, now) {
            Ok(session) => return Ok(session),
            Err(generation) => generation,
        };
        let session = self.engine.store().session(digest).await.map_err(|error| unavailable(&error))?;
        if session.is_some() {
            self.auth.sessions.put(digest, session.clone(), now, generation); // what does not exist may be opened elsewhere
        }
        Ok(session)
    }

    async fn user(&self, name: &str) -> Result<Option<Arc<User>>, Refusal> {
        let now = self.engine.clock().now();
        let name: Box<str> = name.into();
        let generation = match self.auth.users.get(&name, now) {
            Ok(user) => return Ok(user),
            Err(generation) => generation,
        };
        let user = self.engine.store().user(&name).await.map_err(|error| unavailable(&error))?.map(Arc::new);
        self.auth.users.put(name, user.clone(), now, generation);
        Ok(user)
    }

    /// Each use extends the session. The store is told now and then, and nobody waits for that.
    fn use_session(&self, session: &Session) -> Result<(), Refusal> {
        let now = self.engine.clock().now();
        let mut uses = lock(&self.auth.uses);
        if uses.len() >= USES_MAX {
            uses.retain(|_, known| now.since(known.told_at) < TOUCH_AFTER);
        }
        let stored = Use { at: session.last_used_at, told_at: session.last_used_at };
        let known = uses.entry(session.token_digest).or_insert(stored);
        if now >= known.at.max(session.last_used_at).plus(self.config.session_idle) {
            return Err(Refusal::ExpiredSession);
        }
        known.at = now;
        if now.since(known.told_at) >= TOUCH_AFTER {
            known.told_at = now;
            let store = Arc::clone(self.engine.store());
            let touched = vec![(session.token_digest, now)];
            tokio::spawn(async move { store.touch_sessions(touched).await });
        }
        Ok(())
    }
}
