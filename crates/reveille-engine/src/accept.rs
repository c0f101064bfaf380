//! A request in, one durable write, a request id out.

use crate::order::Item;
use crate::{Chain, Engine, Shared};
use reveille_domain::{
    AccountName, Action, Fate, Fault, Profile, Refusal, RequestId, Subject, Terms, ends_of,
};
use reveille_store::{
    Acceptance, DeviceTarget, IdempotencyKey, Lane, NewRequest, NewSubrequest, Page, ProfileTarget,
    RequestHead, StoreError, Target, Waiting, lane_of,
};
use reveille_wire::profile_action::{NamedDevice, NamedTarget};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long a caller is told to wait when too much waits already.
const BACKLOG_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a caller waits for the fate of a lost commit, and how often the store is asked.
const READ_BACK_WITHIN: Duration = Duration::from_secs(2);
const READ_BACK_EVERY: Duration = Duration::from_millis(100);

/// How often a repeat looks whether the first call's request is in the order.
const ADMITTED_EVERY: Duration = Duration::from_millis(5);

/// What one call asks for, read and checked.
pub struct Asked {
    /// The account that the targets belong to.
    pub account: AccountName,
    /// What is asked for.
    pub action: Action,
    /// The service plan that was named.
    pub service_plan: Option<Box<str>>,
    /// What is said besides.
    pub terms: Terms,
    /// Who asks.
    pub user: Box<str>,
    /// The targets, distinct, in order.
    pub targets: Named,
    /// Under which key, if any.
    pub key: Option<IdempotencyKey>,
}

/// The targets of a call, as they were named.
pub enum Named {
    /// Profiles.
    Profiles(Vec<NamedTarget>),
    /// Devices, each with whatever is on it.
    Devices(Vec<NamedDevice>),
    /// Pages of an answer.
    Pages(Vec<Page>),
}

impl Engine {
    /// Accepts a request: it is on disk when this ends, and its work has begun.
    ///
    /// # Errors
    /// A refusal, after which nothing of it is kept; but for `StoreUnavailable` with an unknown fate.
    pub async fn accept(&self, asked: Asked) -> Result<RequestId, Refusal> {
        self.shared.accept(asked).await
    }
}

impl Shared {
    /// See `Engine::accept`.
    pub(crate) async fn accept(self: &Arc<Self>, asked: Asked) -> Result<RequestId, Refusal> {
        let found = match asked.targets {
            Named::Profiles(named) => self.find_profiles(&asked.account, named).await,
            Named::Devices(named) => self.find_devices(&asked.account, named).await,
            Named::Pages(pages) => Ok(pages.into_iter().map(page).collect()),
        };
        let subrequests = found.map_err(|error| refused(&error))?;
        self.must_be_able(asked.action, &subrequests)?;
        let request = NewRequest {
            id: RequestId::from_random(self.random.bits()),
            account: asked.account,
            action: asked.action,
            service_plan: asked.service_plan,
            terms: asked.terms,
            accepted_at: self.now(),
            user: asked.user,
            key: asked.key,
            subrequests,
        };
        // In a task of its own: a caller that hangs up must not come between the commit and the order.
        let keeping = tokio::spawn(Arc::clone(self).keep(request));
        keeping.await.unwrap_or(Err(Refusal::StoreUnavailable { fate: Fate::Unknown }))
    }

    /// Refuses what the carrier of a target's network cannot do. A network that nobody serves is a fault of its
    /// profiles, at their turn.
    fn must_be_able(&self, action: Action, subrequests: &[NewSubrequest]) -> Result<(), Refusal> {
        let lanes: BTreeSet<Lane> = subrequests.iter().map(|s| lane_of(action, &s.target)).collect();
        for lane in lanes {
            let (Lane::Network(network), Some(setup)) = (lane, &self.lane(lane).setup) else { continue };
            let able = setup.carrier.capabilities().ends;
            if !ends_of(action).all(|end| able.contains(&end)) {
                return Err(Refusal::ActionUnsupported { action, network });
            }
        }
        Ok(())
    }

    async fn find_profiles(
        &self,
        account: &AccountName,
        named: Vec<NamedTarget>,
    ) -> reveille_store::Result<Arc<[NewSubrequest]>> {
        let iccids = named.iter().map(|target| target.iccid.clone()).collect();
        let found = self.store.resolve(account, iccids).await?;
        let disagreeing = self.disagreeing(&named, &found).await?;
        let targets = named.into_iter().zip(found).enumerate();
        Ok(targets
            .map(|(index, (named, found))| profile(named, found, disagreeing.contains(&index)))
            .collect())
    }

    /// Each profile on a device is a subrequest, and the device itself another, which ends last.
    async fn find_devices(
        &self,
        account: &AccountName,
        named: Vec<NamedDevice>,
    ) -> reveille_store::Result<Arc<[NewSubrequest]>> {
        let eids = named.iter().map(|device| device.eid.clone()).collect();
        let found = self.store.resolve_devices(account, eids).await?;
        Ok(named.into_iter().zip(found).flat_map(|(named, found)| device(named, found)).collect())
    }

    /// Writes the request and hands it to the order as the store confirms it, so that of two requests the
    /// order sees the earlier first. A refill may find it in the store in between, so what ends of it is
    /// noted from before the commit: it must not be performed again.
    async fn keep(self: Arc<Self>, request: NewRequest) -> Result<RequestId, Refusal> {
        self.order().watch(request.id);
        let (shared, durable) = (Arc::clone(&self), request.clone());
        let admit = Box::new(move |sequence| shared.admit(sequence, durable));
        let kept = match self.store.accept_then(request.clone(), self.config.limits, admit).await {
            Err(StoreError::Unconfirmed) => return self.read_back(request).await,
            Err(error) => Err(refused(&error)),
            Ok(Acceptance::Accepted { .. }) => return Ok(request.id),
            Ok(Acceptance::Repeated { request }) => self.admitted(request).await,
            Ok(Acceptance::KeyReused) => {
                Err(Refusal::IdempotencyKey { detail: "this key was used with another body; use a new one" })
            }
            Ok(Acceptance::Overloaded) => Err(Refusal::Overloaded {
                what: "Too many profiles of this account, or in all, wait for their turn.",
                retry_after: BACKLOG_RETRY_AFTER,
            }),
            Ok(Acceptance::NoAccount) => Err(Refusal::ForeignAccount),
        };
        self.order().unwatch(request.id);
        kept
    }

    /// The first request, once it is in the order: while the fate of its commit is being settled, it may be on
    /// disk and not in memory yet, and what is asked for after this answer must not overtake it.
    async fn admitted(&self, first: RequestId) -> Result<RequestId, Refusal> {
        let limit = self.now().plus(READ_BACK_WITHIN);
        while self.order().is_watched(first) {
            if self.now() >= limit {
                return Err(Refusal::StoreUnavailable { fate: Fate::Unknown });
            }
            self.clock.sleep(ADMITTED_EVERY).await;
        }
        Ok(first)
    }

    /// Which targets name identifiers beside their ICCID that are not those of the inventory.
    async fn disagreeing(
        &self,
        named: &[NamedTarget],
        found: &[Option<ProfileTarget>],
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
    fn admit(&self, sequence: i64, request: NewRequest) {
        let head = Arc::new(RequestHead {
            sequence,
            id: request.id,
            account: request.account,
            action: request.action,
            service_plan: request.service_plan,
            terms: request.terms,
            accepted_at: request.accepted_at,
            cancelled: false,
        });
        self.note_accepted(&head, request.subrequests.len());
        let mut order = self.order();
        let ended = order.unwatch(head.id);
        for (number, subrequest) in (1..).zip(request.subrequests.iter()) {
            if ended.contains(&number) {
                continue;
            }
            let NewSubrequest { subject, target } = subrequest.clone();
            order.admit(Item::new(Waiting { request: Arc::clone(&head), number, subject, target }));
        }
        drop(order);
        self.lanes.values().for_each(crate::lane::LaneControl::wake);
    }

    fn note_accepted(&self, head: &RequestHead, subrequests: usize) {
        let action = head.action.name();
        info!(
            request.id = %head.id, account.name = %head.account, action, subrequests,
            "Accepted request {}, {action}, {subrequests} subrequests", head.id
        );
        self.metrics.accepted(head.action, subrequests);
    }

    /// The answer of a commit was lost: the store is asked whether it took the request. Where it cannot tell
    /// in time, the caller is told so, and the question stays.
    async fn read_back(self: Arc<Self>, request: NewRequest) -> Result<RequestId, Refusal> {
        let id = request.id;
        let mut asking = tokio::spawn(Arc::clone(&self).settle_fate(request));
        tokio::select! {
            biased;
            settled = &mut asking => match settled {
                Ok(true) => Ok(id),
                Ok(false) => Err(Refusal::StoreUnavailable { fate: Fate::Refused }),
                Err(_) => Err(Refusal::StoreUnavailable { fate: Fate::Unknown }),
            },
            () = self.clock.sleep(READ_BACK_WITHIN) => {
                warn!(request.id = %id, "The fate of request {id} is unknown; asking on");
                Err(Refusal::StoreUnavailable { fate: Fate::Unknown })
            }
        }
    }

    /// Asks until the store can tell; whether it took the request, which then goes its way.
    async fn settle_fate(self: Arc<Self>, request: NewRequest) -> bool {
        loop {
            match self.store.request(request.id).await {
                Ok(Some(kept)) => {
                    info!(request.id = %request.id, "Found request {} after its commit was not confirmed", request.id);
                    self.admit(kept.head.sequence, request);
                    return true;
                }
                Ok(None) => {
                    self.order().unwatch(request.id);
                    return false;
                }
                Err(_) => self.clock.sleep(READ_BACK_EVERY).await,
            }
        }
    }
}

/// A profile as it stands in the inventory, or the fault that it will end with.
fn profile(named: NamedTarget, found: Option<ProfileTarget>, disagrees: bool) -> NewSubrequest {
    let target = match found {
        None => Err(Fault::DeviceNotFound),
        Some(_) if disagrees => Err(Fault::IdentifierMismatch),
        Some(target) => Ok(Target::Profile(target)),
    };
    NewSubrequest { subject: Subject::Profile(named.iccid), target }
}

/// A device's profiles and the device itself, or the fault that it will end with.
fn device(named: NamedDevice, found: Option<DeviceTarget>) -> Vec<NewSubrequest> {
    let differs =
        |known: &DeviceTarget| named.imei.is_some() && known.imei.is_some() && named.imei != known.imei;
    let fault = match &found {
        None => Some(Fault::DeviceNotFound),
        Some(known) if named.contradicted || differs(known) => Some(Fault::IdentifierMismatch),
        Some(_) => None,
    };
    let subject = Subject::Device(named.eid);
    let (Some(found), None) = (found, &fault) else {
        return vec![NewSubrequest { subject, target: Err(fault.unwrap_or(Fault::DeviceNotFound)) }];
    };
    let own = NewSubrequest { subject, target: Ok(Target::Device(found.device)) };
    let profiles = found.profiles.into_iter().map(|(iccid, target)| NewSubrequest {
        subject: Subject::Profile(iccid),
        target: Ok(Target::Profile(target)),
    });
    profiles.chain([own]).collect()
}

fn page(page: Page) -> NewSubrequest {
    NewSubrequest { subject: Subject::Page, target: Ok(Target::Page(page)) }
}

fn disagrees(named: &NamedTarget, profile: &Profile) -> bool {
    named.contradicted
        || named.eid.as_ref().is_some_and(|eid| *eid != profile.eid)
        || named.imei.as_ref().zip(profile.imei.as_ref()).is_some_and(|(named, known)| named != known)
        || named.msisdn.as_ref().zip(profile.msisdn.as_ref()).is_some_and(|(named, known)| named != known)
}

pub(crate) fn refused(error: &StoreError) -> Refusal {
    warn!(error = %Chain(error), "Refused a request: the store cannot take it");
    let fate = if matches!(error, StoreError::Unconfirmed) { Fate::Unknown } else { Fate::Refused };
    Refusal::StoreUnavailable { fate }
}
