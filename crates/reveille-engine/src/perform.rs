//! A claim to a carrier, its reply to an outcome.

use crate::cancel::{self, Begun};
use crate::lane::LaneControl;
use crate::order::{Claimed, Held, Item};
use crate::record::Ended;
use crate::{CarrierSetup, Chain, Shared, here, unsettled};
use reveille_carriers::{Asked, Operation, Reply, Trouble, name_in};
use reveille_domain::{
    AccountName, Condition, Decision, Doubt, EndState, Fault, Intent, Left, LeftAs, Network, OperationId,
    Position, Profile, ProfileStatus, Subject, Timestamp, Told, concerns_euicc, decide, enabled_instead,
};
use reveille_store::{
    Change, ChangeCounts, Claim, Guard, Lane, NoticeKey, PlanChange, ProfileKey, RequestHead, Result,
    SettlingCall, UnsettledCall, Warning,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// How long a subrequest is put off when the store could not be read, or earlier work may stand there.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What is told of a profile whose carrier cannot find it.
const NO_IMSI: &str = "the inventory has no IMSI of this profile, by which its network knows it";

/// How long a change waits, each time, that its carrier does not take today.
const TOMORROW_COMES_WITHIN: Duration = Duration::from_secs(600);

/// How often what was begun is looked through for what is to be given up.
const GIVE_UP_EVERY: Duration = Duration::from_secs(600);

/// How many calls that left an operation unsettled are kept for its timeline: its first ones.
const UNSETTLED_CALLS_KEPT: u32 = 20;

/// Claims and performs what is in one lane until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>, lane: Lane) {
    let mut stopping = shared.stopping.subscribe();
    let mut gave_up_at = shared.now();
    while !shared.is_stopping() {
        refill(&shared, lane);
        if shared.now().since(gave_up_at) >= GIVE_UP_EVERY {
            gave_up_at = shared.now();
            unsettled::give_up(&shared, lane);
        }
        // One instant for both: what falls due between them would be claimed by neither, and wake nobody.
        let now = shared.now();
        if claim(&shared, lane, now) {
            continue;
        }
        let control = shared.lane(lane);
        let woken = control.changed.notified();
        let at = next_wake(&shared, lane, now);
        tokio::select! {
            () = woken => {}
            () = sleep_until(&shared, at) => {}
            _ = stopping.changed() => {}
        }
    }
}

async fn sleep_until(shared: &Shared, at: Option<Timestamp>) {
    match at {
        Some(at) => shared.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn next_wake(shared: &Shared, lane: Lane, now: Timestamp) -> Option<Timestamp> {
    let control = shared.lane(lane);
    let order = shared.order();
    let delayed = order.next_wake(lane);
    let waits_for_room = order.is_ready(lane) || delayed.is_some_and(|at| at <= now);
    let room = if waits_for_room { control.room_at(now) } else { None };
    // What has no room is given up in time, whoever holds the carrier.
    let overdue = waits_for_room.then(|| now.plus(GIVE_UP_EVERY));
    [delayed.filter(|at| *at > now), room, overdue].into_iter().flatten().min()
}

/// Reads from the store what has room in memory again.
fn refill(shared: &Arc<Shared>, lane: Lane) {
    for refill in shared.order().refills(lane) {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let read = shared.store.waiting(&refill.account, lane, refill.after, refill.limit).await;
            if let Err(error) = &read {
                warn!(error = %Chain(&error), "Cannot read what waits; trying again");
                shared.clock.sleep(LOOK_AGAIN_AFTER).await;
            }
            let cancelled = shared.order().refilled(lane, &refill, read.ok());
            shared.lane(lane).wake();
            cancel::end_read(&shared, cancelled).await;
        });
    }
}

/// Whether anything was claimed.
fn claim(shared: &Arc<Shared>, lane: Lane, now: Timestamp) -> bool {
    let control = shared.lane(lane);
    let mut order = shared.order();
    let room = control.room(now, control.calls() + control.recording());
    let claimed = order.claim(lane, room, now);
    drop(order);
    let count = claimed.items.len() + claimed.unsure.len();
    if count == 0 {
        return false;
    }
    control.begin_calls(count);
    control.spend(count);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let items = shared.hold(claimed).await;
        shared.lane(lane).give_back(count - items.len());
        shared.lane(lane).end_calls(count - items.len());
        perform(&shared, lane, items).await;
    });
    true
}

impl Shared {
    /// Those whose turn it is on their eUICCs also by the store, which is asked where earlier work may stand
    /// there, or other processes work on it. The others are put off, or let go where they have ended.
    pub(crate) async fn hold(&self, claimed: Claimed) -> Vec<Item> {
        let Claimed { mut items, unsure: mut asked } = claimed;
        let lease = self.store.lease();
        if lease.is_some() {
            asked.extend(items.extract_if(.., |item| item.device().is_some()));
        }
        if asked.is_empty() {
            return items;
        }
        let now = self.now();
        let claim = |item: &Item| Some((item.device()?, item.position()));
        let claims = match self.store.claim(asked.iter().filter_map(claim).collect()).await {
            Ok(claims) => claims,
            Err(error) => {
                warn!(error = %Chain(&error), "Cannot claim what is to be performed; trying again");
                vec![Claim::Later; asked.len()]
            }
        };
        for (mut item, claim) in asked.into_iter().zip(claims) {
            match claim {
                Claim::Granted { lease: number, begun_before, cancelled } => {
                    let held = |lasts| Held { lease: number, until: now.plus(lasts), begun_before };
                    item.held = lease.map(held);
                    if cancelled {
                        self.order().note_cancelled(item.position().sequence);
                    }
                    items.push(item);
                }
                Claim::Later => self.order().delay(item, self.now().plus(LOOK_AGAIN_AFTER)),
                Claim::Ended => self.order().finish(&item),
            }
        }
        self.lanes.values().for_each(LaneControl::wake); // what goes first now may be another lane's
        items
    }

    /// What must still be so when the item's outcome is recorded.
    pub(crate) fn guard(&self, item: &Item) -> Guard {
        match item.held {
            Some(held) => Guard::Leased(held.lease),
            None if self.store.lease().is_some() && item.device().is_some() => Guard::Unbegun,
            None => Guard::Free,
        }
    }

    /// Whether another process than this one may have begun it.
    pub(crate) fn may_have_begun_before(&self, item: &Item) -> bool {
        match (self.store.lease(), item.held) {
            (Some(_), held) => held.is_some_and(|held| held.begun_before),
            (None, _) => item.position().sequence <= self.last_sequence_before,
        }
    }

    /// Ends a claimed subrequest: it is recorded, and its eUICC is free when that is durable.
    pub(crate) fn end(&self, item: Item, told: Told, changes: Vec<Change>) {
        self.end_by(item, told, changes, None);
    }

    fn end_by(&self, item: Item, told: Told, changes: Vec<Change>, call: Option<SettlingCall>) {
        self.lane(item.lane()).begin_recording();
        self.send(item, Ended { told, changes, call, at: self.now(), claimed: true });
    }

    /// Ends a subrequest as done.
    pub(crate) fn end_done(&self, mut work: Work) {
        let Condition { state, status, .. } = work.decision.to;
        let left = LeftAs { state, status, role: work.profile.role };
        let changes = work.done();
        let told = told(&work.item, Some(&work.profile), Ok(Left::Profile(left)));
        self.end_by(work.item, told, changes, Some(work.call));
    }

    /// Counts a try that settled nothing. Nothing where the time is over: then the subrequest is given up; else
    /// until when it has time.
    fn tried(self: &Arc<Self>, mut work: Work, setup: &CarrierSetup) -> Option<(Item, Timestamp)> {
        let now = self.now();
        work.item.tries = work.item.tries.saturating_add(1);
        let give_up_at = work.item.waiting.request.accepted_at.plus(setup.give_up_after);
        if now >= give_up_at {
            unsettled::end_in_time(self, work);
            return None;
        }
        let Work { mut item, profile, .. } = work;
        self.warn_of(&mut item, &profile, now);
        Some((item, give_up_at))
    }

    /// Tries a subrequest again later, or gives it up.
    fn again(self: &Arc<Self>, work: Work, after: Option<Duration>, setup: &CarrierSetup) {
        let Some((item, give_up_at)) = self.tried(work, setup) else { return };
        let lane = item.lane();
        let random = u64::try_from(self.random.bits() & u128::from(u64::MAX)).unwrap_or(0);
        let delay = after.unwrap_or_else(|| setup.backoff.delay_after(item.tries, random));
        self.order().delay(item, self.now().plus(delay).min(give_up_at));
        self.lane(lane).wake();
    }

    /// Asks about a subrequest later that its carrier has accepted, once it is kept under which name; or gives it up.
    fn hand_over(self: &Arc<Self>, work: Work, handle: Box<str>, ask_after: Duration, setup: &CarrierSetup) {
        let Some((item, give_up_at)) = self.tried(work, setup) else { return };
        self.send_handle(item, handle, self.now().plus(ask_after).min(give_up_at));
    }

    /// Leaves a subrequest for later of which nothing was sent, or gives it up, unless it may wait for ever.
    fn put_off(
        self: &Arc<Self>,
        mut work: Work,
        for_ever: bool,
        after: Option<Duration>,
        setup: &CarrierSetup,
    ) {
        let now = self.now();
        if work.item.tries == 0 {
            work.item.called_at = None;
        }
        let give_up_at = work.item.waiting.request.accepted_at.plus(setup.give_up_after);
        if now >= give_up_at && !for_ever {
            return unsettled::end_in_time(self, work);
        }
        let Work { item, profile, .. } = work;
        let random = u64::try_from(self.random.bits() & u128::from(u64::MAX)).unwrap_or(0);
        let delay = after.unwrap_or_else(|| setup.backoff.delay_after(1, random));
        self.order().delay(item, now.plus(delay));
        self.lane(Lane::Network(profile.network)).wake();
    }

    /// Tells that a card is slow, once, where that is wanted.
    fn warn_of(&self, item: &mut Item, profile: &Profile, now: Timestamp) {
        let Some(warn_after) = self.config.warn_after else { return };
        let slow = item.called_at.is_some_and(|at| now.since(at) >= warn_after);
        if item.warned || !slow || !item.waiting.request.action.warns() {
            return;
        }
        item.warned = true;
        let request = Arc::clone(&item.waiting.request);
        let told = told(item, Some(profile), Ok(Left::Waiting));
        self.send_warning(Warning { request, number: item.waiting.number, at: now, told });
    }
}

/// A subrequest whose operation is with its carrier.
pub(crate) struct Work {
    pub(crate) item: Item,
    pub(crate) profile: Profile,
    key: ProfileKey,
    /// What is recorded when the carrier has done it.
    pub(crate) decision: Decision,
    /// The plan that the profile moves to then.
    pub(crate) plan: Option<PlanChange>,
    /// The other profiles on its eUICC, where they matter.
    pub(crate) others: Vec<(ProfileKey, Profile)>,
    /// Which of the operation's calls this is, and when it began.
    pub(crate) call: SettlingCall,
}

/// Performs claimed subrequests; the carrier's replies are taken until all are known.
async fn perform(shared: &Arc<Shared>, lane: Lane, items: Vec<Item>) {
    let control = shared.lane(lane);
    let count = items.len();
    if lane == Lane::Here {
        here::perform(shared, items).await;
        return control.end_calls(count);
    }
    let mut batch = match Batch::read(shared, &items).await {
        Ok(batch) => batch,
        Err(error) => {
            warn!(error = %Chain(&error), "Cannot read what is to be performed; trying again");
            let at = shared.now().plus(LOOK_AGAIN_AFTER);
            items.into_iter().for_each(|item| shared.order().delay(item, at));
            return control.end_calls(count);
        }
    };
    let mut work = HashMap::with_capacity(count);
    let mut operations = Vec::with_capacity(count);
    let profiles = std::mem::take(&mut batch.profiles);
    for (item, profile) in items.into_iter().zip(profiles) {
        if let Some((operation, begun)) = begin(shared, &batch, item, profile) {
            work.insert(operation.id, begun);
            operations.push(operation);
        }
    }
    control.give_back(count - operations.len());
    control.end_calls(count - operations.len());
    if let Some(setup) = &control.setup {
        call(shared, control, setup, operations, work).await;
    }
}

/// What is recorded of the profiles of some subrequests, as far as their actions look at it.
pub(crate) struct Batch {
    pub(crate) profiles: Vec<Option<Profile>>,
    /// What is on their eUICCs, by the profile.
    euiccs: HashMap<ProfileKey, Vec<(ProfileKey, Profile)>>,
    plans: HashMap<AccountName, Vec<(Network, Box<str>)>>,
    counts: HashMap<ProfileKey, ChangeCounts>,
    /// Since when those are suspended whose suspension is to end by itself.
    since: HashMap<ProfileKey, Option<Timestamp>>,
    /// Under which names carriers have accepted them, and what was heard of them since.
    accepted: HashMap<Position, (Box<str>, Option<Box<str>>)>,
}

impl Batch {
    pub(crate) async fn read(shared: &Shared, items: &[Item]) -> Result<Self> {
        let profiles = read_profiles(shared, items).await?;
        let targets: Vec<_> = items.iter().filter_map(|item| Some((item, item.profile()?))).collect();
        let (concerned, devices): (Vec<_>, Vec<_>) = targets
            .iter()
            .filter(|(item, _)| concerns_euicc(item.waiting.request.action))
            .map(|(_, target)| (target.profile, target.device))
            .unzip();
        let euiccs = if devices.is_empty() { Vec::new() } else { shared.store.on_devices(devices).await? };
        let mut plans = HashMap::new();
        for item in items.iter().filter(|item| item.waiting.request.service_plan.is_some()) {
            let account = &item.waiting.request.account;
            if !plans.contains_key(account) {
                plans.insert(account.clone(), shared.store.service_plans(account).await?);
            }
        }
        let keys = targets.iter().map(|(_, target)| target.profile).collect();
        let counts = shared.change_counts(keys).await?;
        let ending = targets.iter().filter(|(item, _)| item.waiting.request.terms.resumes_at.is_some());
        let ending: Vec<ProfileKey> = ending.map(|(_, target)| target.profile).collect();
        let since = if ending.is_empty() {
            HashMap::new()
        } else {
            let since = shared.store.suspended_since(ending.clone()).await?;
            ending.into_iter().zip(since).collect()
        };
        let accepted = read_accepted(shared, items).await?;
        Ok(Self {
            profiles,
            euiccs: concerned.into_iter().zip(euiccs).collect(),
            plans,
            counts,
            since,
            accepted,
        })
    }

    /// Whether something was heard of an item that its carrier had accepted: what became of it is known then.
    pub(crate) fn is_heard_of(&self, item: &Item) -> bool {
        matches!(self.accepted.get(&item.position()), Some((_, Some(_))))
    }

    /// The plans that the item's account has on that network.
    fn contracted(&self, item: &Item, network: Network) -> Vec<Box<str>> {
        let plans = self.plans.get(&item.waiting.request.account).into_iter().flatten();
        plans.filter(|(on, _)| *on == network).map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn others(&self, key: ProfileKey) -> Vec<(ProfileKey, Profile)> {
        let on_euicc = self.euiccs.get(&key).into_iter().flatten();
        on_euicc.filter(|(other, _)| *other != key).cloned().collect()
    }
}

/// The recorded profiles of items; nothing where one is about none.
async fn read_profiles(shared: &Shared, items: &[Item]) -> Result<Vec<Option<Profile>>> {
    let keys: Vec<_> = items.iter().filter_map(Item::profile).map(|target| target.profile).collect();
    if keys.is_empty() {
        return Ok(vec![None; items.len()]);
    }
    let mut read = shared.store.profiles(keys).await?.into_iter();
    Ok(items.iter().map(|item| item.profile().and_then(|_| read.next().flatten())).collect())
}

/// Under which names carriers have accepted what may have been begun, by this process or another, and what was heard
/// of it.
async fn read_accepted(
    shared: &Shared,
    items: &[Item],
) -> Result<HashMap<Position, (Box<str>, Option<Box<str>>)>> {
    let accepts = |item: &&Item| {
        let setup = shared.lane(item.lane()).setup.as_ref();
        setup.is_some_and(|setup| setup.carrier.capabilities().accepts_for_later)
    };
    let begun = items.iter().filter(|item| item.tries > 0 || shared.may_have_begun_before(item));
    let begun: Vec<&Item> = begun.filter(accepts).collect();
    if begun.is_empty() {
        return Ok(HashMap::new());
    }
    let handles = shared.store.handles(begun.iter().map(|item| item.position()).collect()).await?;
    let accepted: Vec<_> =
        begun.into_iter().zip(handles).filter_map(|(item, handle)| Some((item, handle?))).collect();
    let keys = accepted.iter().filter_map(|(item, handle)| notice_key(item, handle)).collect();
    let mut heard = shared.store.notices(keys).await?.into_iter();
    let mut with_heard = |(item, handle): (&Item, Box<str>)| {
        let heard = notice_key(item, &handle).and_then(|_| heard.next().flatten());
        (item.position(), (handle, heard))
    };
    Ok(accepted.into_iter().map(&mut with_heard).collect())
}

/// What is heard of a subrequest that its carrier has accepted comes under this key.
pub(crate) fn notice_key(item: &Item, handle: &str) -> Option<NoticeKey> {
    let iccid = item.waiting.subject.iccid()?.clone();
    Some(NoticeKey { name: name_in(handle).into(), iccid })
}

/// The operation that a subrequest needs; nothing where it has ended without one.
fn begin(shared: &Shared, batch: &Batch, item: Item, profile: Option<Profile>) -> Option<(Operation, Work)> {
    let request = Arc::clone(&item.waiting.request);
    let others = item.profile().map(|target| batch.others(target.profile)).unwrap_or_default();
    let is_accepted = batch.accepted.contains_key(&item.position());
    let is_cancelled = request.cancelled || shared.order().is_cancelled(request.sequence);
    if item.tries == 0 && is_cancelled && !is_accepted {
        cancel::end(shared, item, profile.as_ref(), &others, Begun::Perhaps, true);
        return None;
    }
    let (Some(profile), Some(target)) = (profile, item.profile()) else {
        let told = told(&item, None, Err(Fault::DeviceNotFound));
        shared.end(item, told, Vec::new());
        return None;
    };
    if !lasts_for_a_call(shared, &item) {
        shared.order().delay(item, shared.now());
        return None;
    }
    match decided(shared, batch, &item, &profile, &others) {
        Err(fault) => {
            let told = told(&item, Some(&profile), Err(fault));
            shared.end(item, told, Vec::new());
            None
        }
        Ok(decision)
            if item.tries == 0
                && shared.waits_for_tomorrow(&decision, &profile, batch.counts.get(&target.profile)) =>
        {
            shared.order().delay(item, shared.now().plus(TOMORROW_COMES_WITHIN));
            None
        }
        Ok(decision) => {
            let id = OperationId { request: request.id, number: item.waiting.number };
            let mut operation = operation(id, &decision, &profile, &others, &request);
            // What was given up, and left the profile in doubt, may still be on its way too.
            operation.begun_before =
                item.tries > 0 || shared.may_have_begun_before(&item) || profile.in_doubt.is_any();
            if let Some((handle, heard)) = batch.accepted.get(&item.position()) {
                (operation.accepted_as, operation.heard) = (Some(handle.clone()), heard.clone());
            }
            Some((operation, Work::new(item, profile, target.profile, decision, others, shared.now())))
        }
    }
}

/// Whether the lease is certain to last longer than a call to the carrier: only then may it begin.
fn lasts_for_a_call(shared: &Shared, item: &Item) -> bool {
    let Some(held) = item.held else { return true };
    let timeout = shared.lane(item.lane()).setup.as_ref().map_or(Duration::ZERO, |setup| setup.timeout);
    shared.now().plus(timeout) < held.until
}

pub(crate) fn decided(
    shared: &Shared,
    batch: &Batch,
    item: &Item,
    profile: &Profile,
    others: &[(ProfileKey, Profile)],
) -> std::result::Result<Decision, Fault> {
    let request = &item.waiting.request;
    let Some(setup) = &shared.lane(item.lane()).setup else { return Err(Fault::NetworkUnserved) };
    if let (Some(at), Some(target)) = (request.terms.resumes_at, item.profile()) {
        let since = batch.since.get(&target.profile).copied().flatten();
        if !shared.lasts_until(since, at) {
            return Err(Fault::DeviceStateInvalid); // another suspension, which lasts on
        }
    }
    let intent = Intent {
        action: request.action,
        service_plan: request.service_plan.as_deref(),
        spares_fallback: request.terms.spares_fallback,
    };
    let contracted =
        if intent.service_plan.is_some() { batch.contracted(item, profile.network) } else { Vec::new() };
    let others: Vec<Profile> = others.iter().map(|(_, other)| other.clone()).collect();
    let decision = decide(intent, profile, &others, &contracted)?;
    match item.profile().and_then(|target| batch.counts.get(&target.profile)) {
        Some(counts) if item.tries == 0 => shared.within_limits(&decision, profile, *counts, request)?,
        _ => {}
    }
    if setup.carrier.capabilities().needs_imsi && profile.imsi.is_none() {
        return Err(Fault::CarrierRejected(NO_IMSI.into()));
    }
    Ok(decision)
}

fn operation(
    id: OperationId,
    decision: &Decision,
    profile: &Profile,
    others: &[(ProfileKey, Profile)],
    request: &RequestHead,
) -> Operation {
    let card = if decision.drives.touches_card() {
        others.iter().map(|(_, other)| other.clone()).chain([profile.clone()]).collect()
    } else {
        Vec::new()
    };
    Operation {
        id,
        iccid: profile.iccid.clone(),
        eid: profile.eid.clone(),
        imsi: profile.imsi.clone(),
        msisdn: profile.msisdn.clone(),
        role: profile.role,
        asked: Arc::new(Asked {
            account: request.account.clone(),
            action: request.action,
            terms: request.terms.clone(),
        }),
        end_state: decision.drives,
        service_plan: request.service_plan.clone(),
        card,
        begun_before: false,
        accepted_as: None,
        heard: None,
    }
}

impl Work {
    pub(crate) fn new(
        mut item: Item,
        profile: Profile,
        key: ProfileKey,
        decision: Decision,
        others: Vec<(ProfileKey, Profile)>,
        now: Timestamp,
    ) -> Self {
        item.called_at.get_or_insert(now);
        let named = item.waiting.request.service_plan.as_ref().filter(|_| decision.takes_plan);
        let plan = named
            .filter(|plan| profile.service_plan.as_ref() != Some(*plan))
            .map(|plan| PlanChange { from: profile.service_plan.clone(), to: plan.clone() });
        let call = SettlingCall { ordinal: item.tries.saturating_add(1), began_at: now, reply: "" };
        Self { item, profile, key, decision, plan, others, call }
    }

    /// What is recorded when it is done.
    fn done(&mut self) -> Vec<Change> {
        let own = Change::To {
            profile: self.key,
            from: self.profile.condition(),
            to: self.decision.to,
            plan: self.plan.take(),
            settles: self.decision.drives.settles(),
        };
        let mut changes = vec![own];
        changes.extend(changed(&self.others, std::mem::take(&mut self.decision.others)));
        changes
    }

    /// What is recorded when the card went back and has that profile enabled: one of all on it, or none.
    fn rolled_back(&self, enabled: Option<&reveille_domain::Iccid>) -> Vec<Change> {
        let drives = self.decision.drives;
        let mut own = self.profile.clone();
        if drives == EndState::DownloadedAndEnabled {
            own.status = ProfileStatus::DownloadDisable;
        }
        let others = self.others.iter().map(|(_, other)| other.clone());
        let card: Vec<Profile> = others.chain([own.clone()]).collect();
        let enabled = enabled.and_then(|iccid| card.iter().position(|profile| profile.iccid == *iccid));
        let moved = enabled_instead(&card, enabled);
        let is_own = |(at, _): &&(usize, Condition)| *at == self.others.len();
        let own_now = moved.iter().find(is_own).map_or(own.condition(), |(_, to)| *to);
        let serves = drives == EndState::InServiceAndEnabled; // it may be in service, and not enabled
        if moved.is_empty() && own == self.profile && !own.in_doubt.is_any() && !serves {
            return Vec::new();
        }
        let mut changes = vec![Change::To {
            profile: self.key,
            from: self.profile.condition(),
            to: own_now,
            plan: None,
            settles: drives.settles().without(Doubt::SERVICE),
        }];
        if serves {
            changes.push(Change::InDoubt { profile: self.key, of: Doubt::SERVICE });
        }
        changes.extend(changed(&self.others, moved));
        changes
    }
}

/// Changes of those among `profiles` whose places are named.
pub(crate) fn changed(
    profiles: &[(ProfileKey, Profile)],
    to: Vec<(usize, Condition)>,
) -> impl Iterator<Item = Change> {
    to.into_iter().filter_map(|(at, to)| {
        let (key, profile) = profiles.get(at)?;
        let settles = Doubt::NONE; // it was not asked about them
        Some(Change::To { profile: *key, from: profile.condition(), to, plan: None, settles })
    })
}

/// Hands operations to the carrier, and takes its replies until all are known or the deadline has passed.
async fn call(
    shared: &Arc<Shared>,
    control: &LaneControl,
    setup: &CarrierSetup,
    operations: Vec<Operation>,
    mut work: HashMap<OperationId, Work>,
) {
    if operations.is_empty() {
        return;
    }
    control.hand_over(operations.len());
    let (sender, mut replies) = mpsc::unbounded_channel();
    let mut deadline = shared.clock.sleep(setup.timeout);
    let mut applying = setup.carrier.apply(operations, sender);
    let mut applied = false;
    while !work.is_empty() {
        tokio::select! {
            biased;
            reply = replies.recv() => match reply {
                Some((id, reply)) => {
                    // A second reply to the same operation finds nothing: the first counts.
                    if let Some(begun) = work.remove(&id) {
                        control.take_back(1);
                        settle(shared, control, setup, begun, reply);
                    }
                }
                None => break,
            },
            () = &mut applying, if !applied => applied = true,
            () = &mut deadline => break,
        }
    }
    drop(applying);
    control.take_back(work.len());
    for begun in work.into_values() {
        settle(shared, control, setup, begun, Reply::Unknown);
    }
}

fn settle(shared: &Arc<Shared>, control: &LaneControl, setup: &CarrierSetup, mut work: Work, reply: Reply) {
    let now = shared.now();
    shared.metrics.replied(work.profile.network, &reply, now.since(work.call.began_at));
    match &reply {
        Reply::Unknown => control.unanswered(now),
        Reply::NotSent { .. } => {}
        Reply::Unavailable(trouble) => control.unavailable(now, trouble.clone()),
        _ => control.answered(),
    }
    debug!(request.id = %work.item.waiting.request.id, reply = reply.word(), "A carrier replied");
    work.call.reply = reply.word();
    match reply {
        Reply::Done(_) | Reply::AlreadySo => {
            shared.end_done(work);
        }
        Reply::Rejected { reason } => fail(shared, work, Fault::CarrierRejected(reason), Vec::new()),
        Reply::Relayed { code, text } => {
            fail(shared, work, Fault::Relayed(format!("{code} {text}").into()), Vec::new());
        }
        Reply::RolledBack { reason, enabled } => {
            let changes = work.rolled_back(enabled.as_ref());
            fail(shared, work, Fault::CarrierRejected(reason), changes);
        }
        Reply::RetryLater { after } => {
            note(shared, &work, now);
            shared.again(work, after, setup);
        }
        Reply::Unknown => {
            note(shared, &work, now);
            shared.again(work, None, setup);
        }
        Reply::Pending { handle, ask_after } => {
            note(shared, &work, now);
            shared.hand_over(work, handle, ask_after, setup);
        }
        Reply::NotSent { after } => {
            control.give_back(1);
            shared.put_off(work, control.waits_for_credentials(), Some(after), setup);
        }
        Reply::Unavailable(trouble) => {
            control.give_back(1);
            shared.put_off(work, matches!(trouble, Trouble::Credentials(_)), None, setup);
        }
    }
}

fn fail(shared: &Shared, work: Work, fault: Fault, changes: Vec<Change>) {
    let told = told(&work.item, Some(&work.profile), Err(fault));
    shared.end_by(work.item, told, changes, Some(work.call));
}

/// Keeps a call that left its operation unsettled, for the timeline.
fn note(shared: &Shared, work: &Work, ended_at: Timestamp) {
    let SettlingCall { ordinal, began_at, reply } = work.call;
    if ordinal <= UNSETTLED_CALLS_KEPT {
        let account = work.item.waiting.request.account.clone();
        let position = work.item.position();
        shared.send_call(UnsettledCall { position, account, ordinal, began_at, ended_at, reply });
    }
}

/// What is told of a subrequest: of a profile what is recorded, of one that the account does not have what
/// the request named, and no more.
pub(crate) fn told(item: &Item, profile: Option<&Profile>, result: std::result::Result<Left, Fault>) -> Told {
    Told {
        subject: item.waiting.subject.clone(),
        eid: match (&item.waiting.subject, profile) {
            (Subject::Device(eid), None) => Some(eid.clone()),
            (_, profile) => profile.map(|profile| profile.eid.clone()),
        },
        imei: profile.and_then(|profile| profile.imei.clone()),
        msisdn: profile.and_then(|profile| profile.msisdn.clone()),
        result,
    }
}

/// Reads from the store until it answers: what was taken out of memory must end.
pub(crate) async fn until_read<T, F: Future<Output = Result<T>>>(shared: &Shared, read: impl Fn() -> F) -> T {
    loop {
        match read().await {
            Ok(read) => return read,
            Err(error) => warn!(error = %Chain(&error), "Cannot read the store; trying again"),
        }
        shared.clock.sleep(LOOK_AGAIN_AFTER).await;
    }
}
