//! The port's part about what carriers must not forget: what the other side sent by itself, and how logins ended.

use crate::Result;
use async_trait::async_trait;
use reveille_domain::{Iccid, Timestamp};

/// What carriers must not forget.
#[async_trait]
pub trait Carriers: Send + Sync + 'static {
    /// Keeps what carriers' other sides sent by itself; of each name and profile the first counts.
    async fn keep_notices(&self, notices: Vec<KeptNotice>) -> Result<()>;

    /// What was sent of those, in the order asked.
    async fn notices(&self, of: Vec<NoticeKey>) -> Result<Vec<Option<Box<str>>>>;

    /// Of what something was sent at `since` or later: the `limit` that were sent last.
    async fn noticed(&self, since: Timestamp, limit: usize) -> Result<Vec<NoticeKey>>;

    /// Whether that login may begin at `at` with those credentials, to end before `until`. It is counted as failed
    /// from then on. Other credentials than those before get one try more.
    async fn begin_login(
        &self,
        login: &str,
        credentials: &str,
        failures_max: u32,
        at: Timestamp,
        until: Timestamp,
    ) -> Result<LoginTurn>;

    /// Tells how a login ended that had begun.
    async fn end_login(&self, login: &str, ended: LoginEnd) -> Result<()>;

    /// Forgives all failed logins, as far as more than `failures` are counted.
    async fn forgive_logins(&self, failures: u32) -> Result<()>;
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoticeKey {
    /// The name under which the operation had been accepted there.
    pub name: Box<str>,
    /// The profile.
    pub iccid: Iccid,
}

/// A notice as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNotice {
    /// What it is about.
    pub key: NoticeKey,
    /// What it says.
    pub text: Box<str>,
    /// When it came.
    pub heard_at: Timestamp,
}

/// Whether a login may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginTurn {
    /// It may.
    Now,
    /// Another one is under way.
    Later,
    /// Too many have failed in a row.
    NoMore,
}

/// How a login ended that was answered, or never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEnd {
    /// The credentials are good.
    Succeeded,
    /// They are not.
    Refused,
    /// It certainly never arrived.
    NotSent,
}
