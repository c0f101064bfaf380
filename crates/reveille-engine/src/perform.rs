//! A claim to a carrier, its reply to an outcome.

use crate::lane::LaneControl;
use crate::order::{Item, foregone};
use crate::record::Ended;
use crate::{CarrierSetup, Chain, Shared};
use reveille_carriers::{Operation, Reply};
use reveille_domain::{
    AccountName, Fault, LeftAs, Network, OperationId, Position, Profile, RequestId, Timestamp, Told, decide,
};
use reveille_store::{Change, Lane, ProfileKey, RequestView, Result, Waiting};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// How long a subrequest is put off when the store could not be read, or earlier work may stand there.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How often what was begun is looked through for what is to be given up.
const GIVE_UP_EVERY: Duration = Duration::from_secs(600);

/// How many subrequests of a cancelled request are read at a time.
const CANCEL_PAGE: usize = 512;

/// Claims and performs what is in one lane until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>, lane: Lane) {
    let mut stopping = shared.stopping.subscribe();
    let mut gave_up_at = shared.now();
    while !shared.is_stopping() {
        refill(&shared, lane);
        if shared.now().since(gave_up_at) >= GIVE_UP_EVERY {
            gave_up_at = shared.now();
            give_up(&shared, lane);
        }
        if claim(&shared, lane) {
            continue;
        }
        let control = shared.lane(lane);
        let woken = control.changed.notified();
        let at = next_wake(&shared, lane);
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

fn next_wake(shared: &Shared, lane: Lane) -> Option<Timestamp> {
    let control = shared.lane(lane);
    let now = shared.now();
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
            end_read(&shared, cancelled).await;
        });
    }
}

/// Whether anything was claimed.
fn claim(shared: &Arc<Shared>, lane: Lane) -> bool {
    let control = shared.lane(lane);
    let now = shared.now();
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
        let mut items = claimed.items;
        let unsure = claimed.unsure.len();
        let sure = shared.sure(claimed.unsure).await;
        shared.lane(lane).end_calls(unsure - sure.len());
        items.extend(sure);
        perform(&shared, lane, items).await;
    });
    true
}

impl Shared {
    /// Those of `unsure` whose turn it is on their eUICC also by the store; the others are put off.
    async fn sure(&self, unsure: Vec<Item>) -> Vec<Item> {
        if unsure.is_empty() {
            return unsure;
        }
        let devices =
            unsure.iter().filter_map(|item| item.waiting.target.as_ref().ok()).map(|target| target.device);
        let earliest = self.store.earliest_on(devices.collect()).await.unwrap_or_default();
        let mut sure = Vec::with_capacity(unsure.len());
        for (index, item) in unsure.into_iter().enumerate() {
            if earliest.get(index).copied().flatten() == Some(item.position()) {
                sure.push(item);
            } else {
                self.order().delay(item, self.now().plus(LOOK_AGAIN_AFTER));
            }
        }
        sure
    }

    fn may_have_begun_before(&self, position: Position) -> bool {
        position.sequence <= self.last_sequence_before
    }

    /// Ends a claimed subrequest: it is recorded, and its eUICC is free when that is durable.
    fn end(&self, item: Item, told: Told, change: Option<Change>) {
        self.lane(item.lane()).begin_recording();
        let _ = self.ended.send(Ended::new(item, told, change, self.now(), true));
    }

    /// Ends a subrequest as failed because its carrier left it unsettled.
    fn end_unsettled(&self, item: Item, profile: &Profile, key: ProfileKey) {
        warn!(request.id = %item.waiting.request.id, tries = item.tries, "Gave up a subrequest unsettled");
        let told = told(profile, Err(Fault::Unsettled));
        let doubtful = item.tries > 0 || self.may_have_begun_before(item.position());
        self.end(item, told, doubtful.then_some(Change::InDoubt { profile: key }));
    }

    /// Tries a subrequest again later, or gives it up.
    fn again(&self, work: Work, after: Option<Duration>, setup: &CarrierSetup) {
        let now = self.now();
        let Work { mut item, profile, key, .. } = work;
        item.tries = item.tries.saturating_add(1);
        let give_up_at = item.waiting.request.accepted_at.plus(setup.give_up_after);
        if now >= give_up_at {
            return self.end_unsettled(item, &profile, key);
        }
        let random = u64::try_from(self.random.bits() & u128::from(u64::MAX)).unwrap_or(0);
        let delay = after.unwrap_or_else(|| setup.backoff.delay_after(item.tries, random));
        self.order().delay(item, now.plus(delay).min(give_up_at));
        self.lane(Lane::Network(profile.network)).wake();
    }
}

/// Gives up what was begun and is still unsettled long after its acceptance, and what waits that long for a
/// carrier that does not answer. What an operator holds waits on.
fn give_up(shared: &Arc<Shared>, lane: Lane) {
    let Some(setup) = &shared.lane(lane).setup else { return };
    let accepted_before = shared.now().minus(setup.give_up_after);
    let unbegun_too = shared.lane(lane).is_silent_and_not_held(shared.now());
    let items = shared.order().give_up(lane, accepted_before, unbegun_too);
    if items.is_empty() {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let profiles = until_read(&shared, || read_profiles(&shared, &items)).await;
        for (item, profile) in items.into_iter().zip(profiles) {
            match (profile, item.waiting.target.clone()) {
                (Some(profile), Ok(target)) => shared.end_unsettled(item, &profile, target.profile),
                _ => {
                    let told = unknown(&item, Fault::Unsettled);
                    shared.end(item, told, None);
                }
            }
        }
    });
}

/// A subrequest whose operation is with its carrier.
struct Work {
    item: Item,
    profile: Profile,
    key: ProfileKey,
    /// How it is left when the carrier has done it.
    left: LeftAs,
}

async fn perform(shared: &Arc<Shared>, lane: Lane, items: Vec<Item>) {
    let control = shared.lane(lane);
    let count = items.len();
    let profiles = match read_profiles(shared, &items).await {
        Ok(profiles) => profiles,
        Err(error) => {
            warn!(error = %Chain(&error), "Cannot read profiles; trying again");
            let at = shared.now().plus(LOOK_AGAIN_AFTER);
            items.into_iter().for_each(|item| shared.order().delay(item, at));
            return control.end_calls(count);
        }
    };
    let mut plans = Plans::default();
    let mut work = HashMap::with_capacity(count);
    let mut operations = Vec::with_capacity(count);
    for (item, profile) in items.into_iter().zip(profiles) {
        if let Some((operation, begun)) = begin(shared, &mut plans, item, profile).await {
            work.insert(operation.id, begun);
            operations.push(operation);
        }
    }
    control.end_calls(count - operations.len());
    if let Some(setup) = &control.setup {
        call(shared, control, setup, operations, work).await;
    }
}

async fn read_profiles(shared: &Shared, items: &[Item]) -> Result<Vec<Option<Profile>>> {
    let keys: Vec<_> = items
        .iter()
        .filter_map(|item| item.waiting.target.as_ref().ok())
        .map(|target| target.profile)
        .collect();
    if keys.is_empty() {
        return Ok(vec![None; items.len()]);
    }
    shared.store.profiles(keys).await
}

/// The operation that a subrequest needs; nothing where it has ended without one.
async fn begin(
    shared: &Shared,
    plans: &mut Plans,
    item: Item,
    profile: Option<Profile>,
) -> Option<(Operation, Work)> {
    let request = Arc::clone(&item.waiting.request);
    if item.tries == 0 && (request.cancelled || shared.order().is_cancelled(request.sequence)) {
        end_cancelled(shared, item, profile.as_ref(), Begun::Perhaps, true);
        return None;
    }
    let (Some(profile), Ok(target)) = (profile, item.waiting.target.clone()) else {
        let fault = foregone(&item).cloned().unwrap_or(Fault::DeviceNotFound);
        let told = unknown(&item, fault);
        shared.end(item, told, None);
        return None;
    };
    if shared.lane(item.lane()).setup.is_none() {
        shared.end(item, told(&profile, Err(Fault::NetworkUnserved)), None);
        return None;
    }
    let contracted = match &request.service_plan {
        Some(_) => match plans.of(shared, &request.account, profile.network).await {
            Ok(contracted) => contracted,
            Err(error) => {
                warn!(error = %Chain(&error), "Cannot read service plans; trying again");
                shared.order().delay(item, shared.now().plus(LOOK_AGAIN_AFTER));
                return None;
            }
        },
        None => Vec::new(),
    };
    match decide(request.action, &profile, request.service_plan.as_deref(), &contracted) {
        Err(fault) => {
            shared.end(item, told(&profile, Err(fault)), None);
            None
        }
        Ok(decided) => {
            let left = LeftAs { state: decided.to, status: profile.status, role: profile.role };
            let operation = Operation {
                id: OperationId { request: request.id, number: item.waiting.number },
                iccid: profile.iccid.clone(),
                eid: profile.eid.clone(),
                imsi: profile.imsi.clone(),
                msisdn: profile.msisdn.clone(),
                end_state: decided.drives,
            };
            Some((operation, Work { item, profile, key: target.profile, left }))
        }
    }
}

/// The contracted plans of the accounts in one batch.
#[derive(Default)]
struct Plans {
    read: HashMap<AccountName, Vec<(Network, Box<str>)>>,
}

impl Plans {
    async fn of(
        &mut self,
        shared: &Shared,
        account: &AccountName,
        network: Network,
    ) -> Result<Vec<Box<str>>> {
        if !self.read.contains_key(account) {
            let plans = shared.store.service_plans(account).await?;
            self.read.insert(account.clone(), plans);
        }
        let plans = self.read.get(account).into_iter().flatten();
        Ok(plans.filter(|(on, _)| *on == network).map(|(_, name)| name.clone()).collect())
    }
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
    let began_at = shared.now();
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
                        settle(shared, control, setup, began_at, begun, reply);
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
        settle(shared, control, setup, began_at, begun, Reply::Unknown);
    }
}

fn settle(
    shared: &Shared,
    control: &LaneControl,
    setup: &CarrierSetup,
    began_at: Timestamp,
    work: Work,
    reply: Reply,
) {
    let now = shared.now();
    shared.metrics.replied(work.profile.network, &reply, now.since(began_at));
    match reply {
        Reply::Unknown => control.unanswered(now),
        _ => control.answered(),
    }
    debug!(request.id = %work.item.waiting.request.id, ?reply, "A carrier replied");
    match reply {
        Reply::Done | Reply::AlreadySo => {
            let Work { item, profile, key, left } = work;
            let change =
                Change::To { profile: key, from: profile.state, to: left.state, status: left.status };
            shared.end(item, told(&profile, Ok(left)), Some(change));
        }
        Reply::Rejected { reason } => {
            let told = told(&work.profile, Err(Fault::CarrierRejected(reason)));
            shared.end(work.item, told, None);
        }
        Reply::RetryLater { after } => shared.again(work, after, setup),
        Reply::Unknown => shared.again(work, None, setup),
    }
}

fn told(profile: &Profile, result: std::result::Result<LeftAs, Fault>) -> Told {
    Told {
        iccid: profile.iccid.clone(),
        eid: Some(profile.eid.clone()),
        imei: profile.imei.clone(),
        msisdn: profile.msisdn.clone(),
        result,
    }
}

/// What is told of a profile that the account does not have: what the request named, and no more.
fn unknown(item: &Item, fault: Fault) -> Told {
    Told { iccid: item.waiting.iccid.clone(), eid: None, imei: None, msisdn: None, result: Err(fault) }
}

/// Cancels a request: durably first, then what of it is in memory, then what is in the store alone.
pub(crate) async fn cancel(shared: &Arc<Shared>, request: RequestId) -> Result<Option<RequestView>> {
    let Some(view) = shared.store.cancel(request, shared.now()).await? else { return Ok(None) };
    if view.ended_at.is_some() {
        return Ok(Some(view));
    }
    info!(request.id = %request, "Cancelled request {request}");
    let taken = shared.order().cancel(view.head.sequence, &view.head.account);
    end_taken(shared, taken.first, Begun::Perhaps).await;
    end_taken(shared, taken.behind, Begun::Never).await;
    let mut after = 0;
    loop {
        let page = shared.store.waiting_of(request, after, CANCEL_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        let begun_here = |waiting: &Waiting| {
            let target = waiting.target.as_ref();
            target.is_ok_and(|target| shared.order().holds(target.device, waiting.position()))
        };
        let items = page.into_iter().filter(|waiting| !begun_here(waiting)).map(Item::new).collect();
        end_read(shared, items).await;
    }
    shared.flushed().await;
    shared.store.request(request).await
}

/// Goes on with cancellations that a process before this one left unfinished.
pub(crate) async fn go_on_cancelling(shared: Arc<Shared>) {
    let cancelled = until_read(&shared, || shared.store.cancelled()).await;
    for request in cancelled {
        if let Err(error) = cancel(&shared, request).await {
            warn!(error = %Chain(&error), request.id = %request, "Cannot end what was cancelled; it ends at the next start");
        }
    }
}

/// Whether a process before this one may have begun a cancelled subrequest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Never,
    Perhaps,
}

/// Ends cancelled subrequests that were read from the store: those whose turn it was on their eUICC may
/// have been begun.
async fn end_read(shared: &Shared, items: Vec<Item>) {
    let devices =
        items.iter().filter_map(|item| item.waiting.target.as_ref().ok()).map(|target| target.device);
    let devices: Vec<_> = devices.collect();
    let mut earliest = until_read(shared, || shared.store.earliest_on(devices.clone())).await.into_iter();
    let mut first_on_its_device =
        |item: &Item| item.waiting.target.is_ok() && earliest.next().flatten() == Some(item.position());
    let (first, behind): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| first_on_its_device(item));
    end_taken(shared, first, Begun::Perhaps).await;
    end_taken(shared, behind, Begun::Never).await;
}

async fn end_taken(shared: &Shared, items: Vec<Item>, begun: Begun) {
    for part in items.chunks(CANCEL_PAGE) {
        let profiles = until_read(shared, || read_profiles_of_some(shared, part)).await;
        for (item, profile) in part.iter().zip(profiles) {
            end_cancelled(shared, item.clone(), profile.as_ref(), begun, false);
        }
    }
}

/// Reads from the store until it answers: what was taken out of memory must end.
async fn until_read<T, F: Future<Output = Result<T>>>(shared: &Shared, read: impl Fn() -> F) -> T {
    loop {
        match read().await {
            Ok(read) => return read,
            Err(error) => warn!(error = %Chain(&error), "Cannot read the store; trying again"),
        }
        shared.clock.sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Like `read_profiles`, where not every item has a target.
async fn read_profiles_of_some(shared: &Shared, items: &[Item]) -> Result<Vec<Option<Profile>>> {
    let targets = items.iter().filter_map(|item| item.waiting.target.as_ref().ok());
    let keys = targets.map(|target| target.profile).collect();
    let mut read = shared.store.profiles(keys).await?.into_iter();
    Ok(items
        .iter()
        .map(|item| item.waiting.target.as_ref().ok().and_then(|_| read.next().flatten()))
        .collect())
}

/// Ends a subrequest that this process has not begun. Where one before it may have, its profile is in doubt
/// from now on.
fn end_cancelled(shared: &Shared, item: Item, profile: Option<&Profile>, begun: Begun, claimed: bool) {
    let fault = Fault::Cancelled;
    let (told, change) = match (profile, item.waiting.target.as_ref()) {
        (Some(profile), Ok(target)) => {
            let doubtful = begun == Begun::Perhaps && shared.may_have_begun_before(item.position());
            let doubt = doubtful.then_some(Change::InDoubt { profile: target.profile });
            (told(profile, Err(fault)), doubt)
        }
        _ => (unknown(&item, fault), None),
    };
    shared.lane(item.lane()).begin_recording();
    let _ = shared.ended.send(Ended::new(item, told, change, shared.now(), claimed));
}

impl Shared {
    /// Ends when everything that was sent to be recorded before has been.
    async fn flushed(&self) {
        let (flushed, wait) = tokio::sync::oneshot::channel();
        if self.ended.send(Ended::flush(flushed)).is_ok() {
            let _ = wait.await;
        }
    }
}
