//! The port's part about who may do what: accounts, plans, clients, users, sessions, listeners, holds.

use crate::Result;
use async_trait::async_trait;
use reveille_domain::{AccountName, ListenerName, Network, Timestamp};

/// How many further listeners a service of an account may have.
pub const FURTHER_LISTENERS_MAX: usize = 8;

/// Accounts and what belongs to them, and who acts for them.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Writes what is declared, in one transaction; what is absent from it stays.
    async fn apply(&self, declaration: Declaration, at: Timestamp) -> Result<Applied>;

    /// Whether `fingerprint` is of the key under which this store's secrets are kept; a store that has none yet
    /// takes it.
    async fn takes_key(&self, fingerprint: [u8; 32]) -> Result<bool>;

    /// The client of that key.
    async fn client(&self, key: &str) -> Result<Option<Client>>;

    /// The client of that number.
    async fn client_numbered(&self, number: u32) -> Result<Option<Client>>;

    /// The issue time of the client's token: the present one where it was issued after `not_before` and not
    /// revoked, else `at` (or a millisecond after the last). Nothing where there is no such client.
    async fn issue_token(
        &self,
        client: u32,
        at: Timestamp,
        not_before: Timestamp,
    ) -> Result<Option<Timestamp>>;

    /// Revokes the client's token.
    async fn revoke_token(&self, client: u32) -> Result<()>;

    /// The user of that name.
    async fn user(&self, name: &str) -> Result<Option<User>>;

    /// Every user's name, and whether it is locked.
    async fn users(&self) -> Result<Vec<(Box<str>, bool)>>;

    /// Counts a failed login; the user is locked when `failures_max` in a row are reached.
    async fn login_failed(&self, user: &str, at: Timestamp, failures_max: u32) -> Result<LoginFailure>;

    /// Opens a session, and forgets failed logins; false, and nothing opened, where the user is locked.
    async fn open_session(&self, session: Session) -> Result<bool>;

    /// The session of that token.
    async fn session(&self, token_digest: [u8; 32]) -> Result<Option<Session>>;

    /// Notes uses of sessions.
    async fn touch_sessions(&self, uses: Vec<([u8; 32], Timestamp)>) -> Result<()>;

    /// Ends a session.
    async fn end_session(&self, token_digest: [u8; 32], at: Timestamp) -> Result<()>;

    /// Gives a user another password; false where there is none of that name.
    async fn set_password(&self, user: &str, password_hash: String) -> Result<bool>;

    /// Lets a locked user log in again; false where there is none of that name.
    async fn unlock(&self, user: &str) -> Result<bool>;

    /// Registers a listener, in the place of the one of that name that the account has for that service.
    async fn register(&self, account: &AccountName, listener: Listener) -> Result<()>;

    /// Removes a listener; false where there was none.
    async fn deregister(&self, account: &AccountName, service: &str, name: ListenerName) -> Result<bool>;

    /// The account's listeners, by service and name.
    async fn listeners(&self, account: &AccountName) -> Result<Vec<Listener>>;

    /// The account's plans.
    async fn service_plans(&self, account: &AccountName) -> Result<Vec<(Network, Box<str>)>>;

    /// Whether there is such an account.
    async fn account_exists(&self, account: &AccountName) -> Result<bool>;

    /// The networks whose carriers are held.
    async fn holds(&self) -> Result<Vec<Network>>;

    /// Holds a network's carrier from `at`, or releases it.
    async fn set_hold(&self, network: Network, held_at: Option<Timestamp>) -> Result<()>;
}

/// What an apply file declares; secrets already digested or encrypted.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// Accounts.
    pub accounts: Vec<AccountName>,
    /// Their plans.
    pub service_plans: Vec<(AccountName, Network, Box<str>)>,
    /// Their listeners.
    pub listeners: Vec<ListenerDeclaration>,
    /// OAuth2 clients.
    pub clients: Vec<ClientDeclaration>,
    /// Users.
    pub users: Vec<UserDeclaration>,
}

/// A declared listener.
#[derive(Clone, Debug)]
pub struct ListenerDeclaration {
    /// Its account.
    pub account: AccountName,
    /// The listener.
    pub listener: Listener,
}

/// A declared client.
#[derive(Clone, Debug)]
pub struct ClientDeclaration {
    /// Its key.
    pub key: Box<str>,
    /// The digest of its secret.
    pub secret_digest: [u8; 32],
    /// Whether the secret was given: a generated one is taken only where the client is new.
    pub given: bool,
}

/// A declared user.
#[derive(Clone, Debug)]
pub struct UserDeclaration {
    /// Its name.
    pub name: Box<str>,
    /// The hash of its initial password, taken only where the user is new.
    pub password_hash: String,
    /// Whether it may do what operators do; nothing leaves that as it is.
    pub operator: Option<bool>,
    /// The accounts that it sees, besides those it sees already.
    pub accounts: Vec<AccountName>,
}

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Accounts that are new.
    pub accounts_new: usize,
    /// Plans that are new.
    pub service_plans_new: usize,
    /// Listeners that are new or changed.
    pub listeners_set: usize,
    /// Keys of clients that are new.
    pub clients_new: Vec<Box<str>>,
    /// Keys of clients whose secret was rotated.
    pub clients_rotated: Vec<Box<str>>,
    /// Names of users that are new.
    pub users_new: Vec<Box<str>>,
}

/// An OAuth2 client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its number, which stands in its tokens.
    pub number: u32,
    /// The digest of its secret.
    pub secret_digest: [u8; 32],
    /// When its token was issued; nothing where it has none, or the last was revoked.
    pub token_issued_at: Option<Timestamp>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Box<str>,
    /// argon2id, in PHC form.
    pub password_hash: String,
    /// Whether it may do what operators do.
    pub operator: bool,
    /// Whether it is locked.
    pub locked: bool,
    /// The accounts that it sees.
    pub accounts: Vec<AccountName>,
}

/// What a failed login led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// It was counted.
    Counted,
    /// The user is locked, now or before.
    Locked,
    /// There is no such user.
    NoUser,
}

/// A session of a user, opened with a client's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The digest of its token.
    pub token_digest: [u8; 32],
    /// Whose it is.
    pub user: Box<str>,
    /// The client whose tokens it works with.
    pub client: u32,
    /// When it was used last, as far as that was noted.
    pub last_used_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

/// Where an account's callbacks of one service go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The callback service.
    pub service: Box<str>,
    /// Which of the service's listeners it is.
    pub name: ListenerName,
    /// The URL.
    pub url: Box<str>,
    /// Echoed in callbacks.
    pub username: Option<Box<str>>,
    /// Likewise; encrypted.
    pub password: Option<Box<[u8]>>,
    /// When it was registered.
    pub registered_at: Timestamp,
}
