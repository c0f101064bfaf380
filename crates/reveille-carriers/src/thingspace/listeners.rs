//! That ThingSpace knows where our door is: of each account a listener, registered where there is none, and left alone
//! where it is somebody else's. Source: contract §7.

use super::ThingSpaceConfig;
use super::session::{Failed, Session};
use crate::http::Call;
use reveille_wire::answers::{ListedListener, PROFILE_SERVICE};
use reveille_wire::client::{self, Registration};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tracing::{info, warn};

/// What is registered for which account there.
pub(super) struct Listeners {
    url: String,
    username: String,
    password: String,
    known: Mutex<HashMap<Box<str>, Known>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Ours,
    SomebodyElses,
}

impl Listeners {
    pub(super) fn new(config: &ThingSpaceConfig) -> Self {
        Self {
            url: config.callback_url.clone(),
            username: config.callback_username.clone(),
            password: config.callback_password.clone(),
            known: Mutex::default(),
        }
    }

    /// Sees to it once that callbacks of the account come to us; where they go to somebody else, their requests are
    /// settled by asking.
    pub(super) async fn see_to(&self, session: &Session, account: &str) -> Result<(), Failed> {
        if self.known().contains_key(account) {
            return Ok(());
        }
        let path = client::listeners_path(account);
        let answer = session.call(Call::get(path.clone())).await?;
        if answer.status != 200 {
            return Err(session.not_it(answer.status, &path));
        }
        let listed: Vec<ListedListener> = serde_json::from_slice(&answer.body).unwrap_or_default();
        let there = listed.into_iter().find(|listener| listener.service_name == PROFILE_SERVICE);
        let is_ours = there.as_ref().is_none_or(|there| there.url == self.url);
        let same =
            |there: &ListedListener| there.username == self.username && there.password == self.password;
        if is_ours && !there.as_ref().is_some_and(same) {
            self.register(session, account, path).await?;
        }
        if !is_ours {
            warn!(
                account.name = account,
                "Another listener is registered for {PROFILE_SERVICE} at {}; outcomes are asked for",
                session.origin()
            );
        }
        self.known().insert(account.into(), if is_ours { Known::Ours } else { Known::SomebodyElses });
        Ok(())
    }

    async fn register(&self, session: &Session, account: &str, path: String) -> Result<(), Failed> {
        let (url, username, password) = (&*self.url, &*self.username, &*self.password);
        let body = client::to_bytes(&Registration { name: PROFILE_SERVICE, url, username, password });
        let answer = session.call(Call::post(path, "application/json", body)).await?;
        if !(200..300).contains(&answer.status) {
            let refusal = client::refusal(&answer.body);
            warn!(
                account.name = account,
                "The listener cannot be registered: {} {}", refusal.code, refusal.words
            );
            return Ok(()); // outcomes are asked for
        }
        info!(account.name = account, "Registered our listener at {}", session.origin());
        Ok(())
    }

    /// An account whose callbacks go elsewhere, for whoever looks at how things are.
    pub(super) fn elsewhere(&self) -> Option<Box<str>> {
        let known = self.known();
        known.iter().find(|(_, known)| **known == Known::SomebodyElses).map(|(account, _)| account.clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
