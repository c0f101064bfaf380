//! A request in, one durable write, a request id out.

use crate::order::Item;
use crate::{Chain, Engine, Shared};
use reveille_domain::{AccountName, Action, Fate, Fault, Profile, Refusal, RequestId};
use reveille_store::{
    Acceptance, IdempotencyKey, NewRequest, NewSubrequest, RequestHead, StoreError, Target, Waiting,
};
use reveille_wire::profile_action::NamedTarget;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long a caller is told to wait when too much waits already.
const BACKLOG_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often a lost commit is read back before its fate is left unknown, and how long in between.
const READ_BACK_TRIES: u32 = 20;
const READ_BACK_EVERY: Duration = Duration::from_millis(100);

/// What one call asks for, read and checked.
pub struct Asked {
    /// The account that the targets belong to.
    pub account: AccountName,
    /// What is asked for.
    pub action: Action,
    /// The service plan that was named.
    pub service_plan: Option<Box<str>>,
    /// Who asks.
    pub user: Box<str>,
    /// The targets, distinct, in order.
    pub targets: Vec<NamedTarget>,
    /// Under which key, if any.
    pub key: Option<IdempotencyKey>,
}

impl Engine {
    /// Accepts a request: it is on disk when this ends, and its work has begun.
    ///
    /// # Errors
    /// A refusal, after which nothing of it is kept; but for `StoreUnavailable` with an unknown fate.
    pub async fn accept(&self, asked: Asked) -> Result<RequestId, Refusal> {
        let shared = &self.shared;
        let iccids = asked.targets.iter().map(|target| target.iccid.clone()).collect();
        let found = shared.store.resolve(&asked.account, iccids).await.map_err(|error| refused(&error))?;
        let disagreeing =
            shared.disagreeing(&asked.targets, &found).await.map_err(|error| refused(&error))?;
        let targets = asked.targets.into_iter().zip(found).enumerate();
        let subrequests: Arc<[NewSubrequest]> = targets
            .map(|(index, (named, found))| subrequest(named, found, disagreeing.contains(&index)))
            .collect();
        let request = NewRequest {
            id: RequestId::from_random(shared.random.bits()),
            account: asked.account,
            action: asked.action,
            service_plan: asked.service_plan,
            accepted_at: shared.now(),
            user: asked.user,
            key: asked.key,
            subrequests,
        };
        // In a task of its own: a caller that hangs up must not come between the commit and the order.
        let keeping = tokio::spawn(Arc::clone(shared).keep(request));
        keeping.await.unwrap_or(Err(Refusal::StoreUnavailable { fate: Fate::Unknown }))
    }
}

impl Shared {
    /// Writes the request and hands it to the order.
    async fn keep(self: Arc<Self>, request: NewRequest) -> Result<RequestId, Refusal> {
        let acceptance = match self.store.accept(request.clone(), self.config.limits).await {
            Err(StoreError::Unconfirmed) => return self.read_back(&request).await,
            answer => answer.map_err(|error| refused(&error))?,
        };
        match acceptance {
            Acceptance::Accepted { sequence } => Ok(self.admit(sequence, request)),
            Acceptance::Repeated { request } => Ok(request),
            Acceptance::KeyReused => {
                Err(Refusal::IdempotencyKey { detail: "this key was used with another body; use a new one" })
            }
            Acceptance::Overloaded => Err(Refusal::Overloaded {
                what: "Too many profiles of this account, or in all, wait for their turn.",
                retry_after: BACKLOG_RETRY_AFTER,
            }),
            Acceptance::NoAccount => Err(Refusal::ForeignAccount),
        }
    }

    /// Which targets name identifiers beside their ICCID that are not those of the inventory.
    async fn disagreeing(
        &self,
        named: &[NamedTarget],
        found: &[Option<Target>],
    ) -> reveille_store::Result<HashSet<usize>> {
        let beside = named.iter().zip(found).enumerate().filter(|(_, (named, _))| named.says_more());
        let beside: Vec<_> =
            beside.filter_map(|(index, (named, found))| Some((index, named, (*found)?))).collect();
        if beside.is_empty() {
            return Ok(HashSet::new());
        }
        let keys = beside.iter().map(|(_, _, target)| target.profile).collect();
        let profiles = self.store.profiles(keys).await?;
        let pairs = beside.into_iter().zip(profiles);
        let disagreeing =
            pairs.filter(|((_, named, _), profile)| profile.as_ref().is_none_or(|p| disagrees(named, p)));
        Ok(disagreeing.map(|((index, _, _), _)| index).collect())
    }

    /// Hands an accepted request to the order, straight from memory.
    fn admit(&self, sequence: i64, request: NewRequest) -> RequestId {
        let head = Arc::new(RequestHead {
            sequence,
            id: request.id,
            account: request.account,
            action: request.action,
            service_plan: request.service_plan,
            accepted_at: request.accepted_at,
            cancelled: false,
        });
        let profiles = request.subrequests.len();
        info!(request.id = %head.id, account.name = %head.account, profiles, "Accepted request {}, {profiles} profiles", head.id);
        self.metrics.accepted(head.action, profiles);
        let mut order = self.order();
        for (number, subrequest) in (1..).zip(request.subrequests.iter()) {
            let NewSubrequest { iccid, target } = subrequest.clone();
            order.admit(Item::new(Waiting { request: Arc::clone(&head), number, iccid, target }));
        }
        drop(order);
        self.lanes.values().for_each(crate::lane::LaneControl::wake);
        head.id
    }

    /// The answer of a commit was lost: the store is asked whether it took the request.
    async fn read_back(&self, request: &NewRequest) -> Result<RequestId, Refusal> {
        for _ in 0..READ_BACK_TRIES {
            match self.store.request(request.id).await {
                Ok(Some(kept)) => {
                    info!(request.id = %request.id, "Found request {} after its commit was not confirmed", request.id);
                    return Ok(self.admit(kept.head.sequence, request.clone()));
                }
                Ok(None) => return Err(Refusal::StoreUnavailable { fate: Fate::Refused }),
                Err(_) => self.clock.sleep(READ_BACK_EVERY).await,
            }
        }
        warn!(request.id = %request.id, "The fate of request {} is unknown", request.id);
        Err(Refusal::StoreUnavailable { fate: Fate::Unknown })
    }
}

/// A target as it stands in the inventory, or the fault that it will end with.
fn subrequest(named: NamedTarget, found: Option<Target>, disagrees: bool) -> NewSubrequest {
    let target = match found {
        None => Err(Fault::DeviceNotFound),
        Some(_) if disagrees => Err(Fault::IdentifierMismatch),
        Some(target) => Ok(target),
    };
    NewSubrequest { iccid: named.iccid, target }
}

fn disagrees(named: &NamedTarget, profile: &Profile) -> bool {
    named.contradicted
        || named.eid.as_ref().is_some_and(|eid| *eid != profile.eid)
        || named.imei.as_ref().zip(profile.imei.as_ref()).is_some_and(|(named, known)| named != known)
        || named.msisdn.as_ref().zip(profile.msisdn.as_ref()).is_some_and(|(named, known)| named != known)
}

fn refused(error: &StoreError) -> Refusal {
    warn!(error = %Chain(error), "Refused a request: the store cannot take it");
    let fate = if matches!(error, StoreError::Unconfirmed) { Fate::Unknown } else { Fate::Refused };
    Refusal::StoreUnavailable { fate }
}
