//! Operations that go in one request: what came from many calls within a moment, sorted by what the request says.

use super::verbs::{By, Verb, verb_of};
use crate::{Operation, Replies};
use reveille_domain::{AccountName, Terms};
use ring::digest;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::Sender;

/// How many targets a request may have. Source: contract §10.
const TARGETS_MAX: usize = 10_000;

/// An operation, and where its reply goes.
pub(super) struct Waiting {
    pub(super) operation: Operation,
    pub(super) replies: Replies,
    /// The request before, which has come to nothing.
    pub(super) instead_of: Option<Box<str>>,
    /// Whether nobody heard why.
    pub(super) second: bool,
    /// Let go of when it was told: the call that it came with ends with the last.
    #[expect(dead_code, reason = "it counts by being held")]
    pub(super) until_told: Sender<()>,
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
    /// first one's id, but not where that is to be made anew. ThingSpace passes it over.
    pub(super) fn key(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for waiting in &self.waiting {
            context.update(waiting.operation.id.to_string().as_bytes());
            context.update(waiting.instead_of.as_deref().unwrap_or_default().as_bytes());
            context.update(b";");
        }
        super::session::hex(context.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::asked;
    use reveille_domain::{EndState, OperationId, RequestId, Role};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    fn waiting(number: u32, end_state: EndState, role: Role) -> Waiting {
        let operation = Operation {
            id: OperationId { request: RequestId::from_random(7), number },
            iccid: format!("89148{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: None,
            msisdn: None,
            role,
            asked: Arc::new(asked(end_state)),
            end_state,
            service_plan: None,
            card: Vec::new(),
            begun_before: false,
            accepted_as: None,
            heard: None,
        };
        let (replies, until_told) = (mpsc::unbounded_channel().0, mpsc::channel(1).0);
        Waiting { operation, replies, instead_of: None, second: false, until_told }
    }

    #[test]
    fn what_says_the_same_goes_in_one_request() {
        let gathering = Gathering::default();
        let (resumed, suspended) = (EndState::InService, EndState::Suspended);
        assert!(gathering.add(vec![waiting(1, resumed, Role::Local), waiting(2, suspended, Role::Local)]));
        assert!(!gathering.add(vec![waiting(3, resumed, Role::Lead)]), "somebody will take them already");
        let bulks = gathering.take();
        assert_eq!(bulks.iter().map(|bulk| bulk.waiting.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(
            (bulks[0].common.verb.name, bulks[1].common.verb.name),
            ("profile_resume", "profile_suspend")
        );
        assert!(gathering.take().is_empty() && !gathering.add(Vec::new()));
    }

    #[test]
    fn a_request_that_is_repeated_has_its_key_and_one_that_is_made_anew_has_another() {
        let bulk = |instead_of: Option<&str>| {
            let gathering = Gathering::default();
            let mut waiting = waiting(1, EndState::InService, Role::Local);
            waiting.instead_of = instead_of.map(Into::into);
            gathering.add(vec![waiting]);
            gathering.take().remove(0).key()
        };
        assert_eq!(bulk(None), bulk(None));
        assert_ne!(bulk(None), bulk(Some("the first")));
        assert_ne!(bulk(Some("the second")), bulk(Some("the first")));
    }

    #[test]
    fn halving_comes_to_the_one_that_is_not_accepted() {
        let gathering = Gathering::default();
        gathering.add((1..=5).map(|number| waiting(number, EndState::InService, Role::Local)).collect());
        let numbers =
            |bulk: &Bulk| bulk.waiting.iter().map(|one| one.operation.id.number).collect::<Vec<_>>();
        let [first, second] = gathering.take().remove(0).halves();
        assert_eq!((numbers(&first), numbers(&second)), (vec![1, 2], vec![3, 4, 5]));
    }
}
