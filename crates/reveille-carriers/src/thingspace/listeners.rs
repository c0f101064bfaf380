//! That ThingSpace knows where our door is: of each account a listener, registered where there is none, and left alone
//! where it is somebody else's. Source: contract §7.

use super::ThingSpaceConfig;
use super::session::{Failed, Session};
use crate::http::Call;
use reveille_wire::answers::PROFILE_SERVICE;
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
        if let Some(failed) = session.beside_the_point(&answer, &path) {
            return Err(failed);
        }
        let listed = client::registered(&answer.body).filter(|_| answer.status == 200);
        let Some(listed) = listed else { return Err(session.not_it(answer.status, &path)) };
        let there = listed.into_iter().find(|listener| listener.service_name == PROFILE_SERVICE);
        let known = match there {
            Some(there) if there.url != self.url => {
                warn!(
                    account.name = account,
                    "Another listener is registered for {PROFILE_SERVICE} at {}; outcomes are asked for",
                    session.origin()
                );
                Known::SomebodyElses
            }
            Some(there) if there.username == self.username && there.password == self.password => Known::Ours,
            _ => match self.register(session, account, path).await? {
                true => Known::Ours,
                false => return Ok(()), // it is tried again with the next request; outcomes are asked for
            },
        };
        self.known().insert(account.into(), known);
        Ok(())
    }

    /// Whether it is registered now.
    async fn register(&self, session: &Session, account: &str, path: String) -> Result<bool, Failed> {
        let (url, username, password) = (&*self.url, &*self.username, &*self.password);
        let body = client::to_bytes(&Registration { name: PROFILE_SERVICE, url, username, password });
        let answer = session.call(Call::post(path, "application/json", body)).await?;
        let is_registered = (200..300).contains(&answer.status);
        if is_registered {
            info!(account.name = account, "Registered our listener at {}", session.origin());
        } else {
            let code = client::refusal(&answer.body).code;
            warn!(account.name = account, status = answer.status, code, "The listener cannot be registered");
        }
        Ok(is_registered)
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
