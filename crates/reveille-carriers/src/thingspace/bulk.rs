//! Operations that go in one request: what came from many calls within a moment, sorted by what the request says.

use super::verbs::{By, Verb, verb_of};
use crate::{Operation, Replies};
use reveille_domain::{AccountName, Terms};
use ring::digest;
use std::sync::{Mutex, PoisonError};

/// How many targets a request may have. Source: contract §10.
const TARGETS_MAX: usize = 10_000;

/// An operation, and where its reply goes.
pub(super) struct Waiting {
    pub(super) operation: Operation,
    pub(super) replies: Replies,
    /// Whether a request for it has failed before, and nobody heard why.
    pub(super) second: bool,
}

impl Waiting {
    /// Whether anybody still wants to know. Whoever does not will ask for it again, and what is sent later must not
    /// come behind that.
    pub(super) fn is_wanted(&self) -> bool {
        !self.replies.is_closed()
    }
}

/// What the operations of a request have in common.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) account: AccountName,
    pub(super) verb: Verb,
    pub(super) service_plan: Option<Box<str>>,
    pub(super) terms: Terms,
}

/// A request to be.
pub(super) struct Bulk {
    pub(super) common: Common,
    pub(super) waiting: Vec<Waiting>,
}

/// What is gathered.
#[derive(Default)]
pub(super) struct Gathering {
    bulks: Mutex<Vec<Bulk>>,
}

impl Gathering {
    /// Adds operations; whether they are the first, so that somebody must take them in a moment.
    pub(super) fn add(&self, waiting: Vec<Waiting>) -> bool {
        let mut bulks = self.bulks.lock().unwrap_or_else(PoisonError::into_inner);
        let first = bulks.is_empty();
        for waiting in waiting {
            let verb = verb_of(&waiting.operation);
            let asked = &waiting.operation.asked;
            let common = Common {
                account: asked.account.clone(),
                verb,
                service_plan: waiting.operation.service_plan.clone().filter(|_| verb.by != By::Eid),
                terms: asked.terms.clone(),
            };
            let fits = |bulk: &&mut Bulk| bulk.common == common && bulk.waiting.len() < TARGETS_MAX;
            match bulks.iter_mut().find(fits) {
                Some(bulk) => bulk.waiting.push(waiting),
                None => bulks.push(Bulk { common, waiting: vec![waiting] }),
            }
        }
        first && !bulks.is_empty()
    }

    pub(super) fn take(&self) -> Vec<Bulk> {
        std::mem::take(&mut *self.bulks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bulk {
    /// Its halves, where it has more than one target.
    pub(super) fn halves(self) -> [Self; 2] {
        let Self { common, mut waiting } = self;
        let rest = waiting.split_off(waiting.len() / 2);
        [Self { common: common.clone(), waiting }, Self { common, waiting: rest }]
    }

    /// What names the request to one that remembers its requests: another Reveille answers a repetition with the
    /// first one's id. ThingSpace passes it over.
    pub(super) fn key(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for waiting in &self.waiting {
            context.update(waiting.operation.id.to_string().as_bytes());
            context.update(if waiting.second { b"#2;" } else { b";" });
        }
        super::session::hex(context.finish().as_ref())
    }
}
