//! Whose turn it is: in order per eUICC, accounts in turn on each lane, a bounded window in memory.
//!
//! Pure: what is admitted, claimed, delayed and finished comes in by calls, and nothing here waits. An
//! account's work in a lane is in memory as far as the window reaches; behind it, the store has it in the
//! same order, and is read when the window has room again.

use reveille_domain::{AccountName, Iccid, Position, RequestId, Timestamp};
use reveille_store::{DeviceKey, Lane, Lease, ProfileTarget, Target, Waiting};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// How many subrequests of one account in one lane are in memory at most: more than one whole request.
const WINDOW_OF_ACCOUNT: usize = 16_384;

/// How many each account may have there even when all windows together are full.
const WINDOW_ASSURED: usize = 256;

/// How many are in memory at most before windows shrink to what is assured: about 20 MiB.
const WINDOW_IN_ALL: usize = 131_072;

/// How many subrequests of an account are claimed before the next account has its turn.
const TURN: usize = 32;

/// A waiting subrequest on its way: how often its carrier was asked, since when, and whether that was told.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) waiting: Waiting,
    /// Where other processes work on the store: what it is performed under.
    pub(crate) held: Option<Held>,
    pub(crate) tries: u32,
    pub(crate) called_at: Option<Timestamp>,
    pub(crate) warned: bool,
    /// Under which name its carrier has accepted it, while it waits to be heard of.
    parked_as: Option<Box<str>>,
}

/// The lease under which a subrequest is performed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// Until when, by this process's clock; in truth a little longer.
    pub(crate) until: Timestamp,
    /// Whether another process may have begun it before.
    pub(crate) begun_before: bool,
}

impl Item {
    pub(crate) fn new(waiting: Waiting) -> Self {
        Self { waiting, held: None, tries: 0, called_at: None, warned: false, parked_as: None }
    }

    pub(crate) fn position(&self) -> Position {
        self.waiting.position()
    }

    pub(crate) fn lane(&self) -> Lane {
        self.waiting.lane()
    }

    /// The eUICC that it holds while it is under way.
    pub(crate) fn device(&self) -> Option<DeviceKey> {
        self.waiting.target.as_ref().ok().and_then(Target::device)
    }

    pub(crate) fn profile(&self) -> Option<ProfileTarget> {
        self.waiting.target.as_ref().ok().and_then(Target::profile)
    }

    /// Whether it is a device's own part, which concludes from those before it, cancelled or not.
    pub(crate) fn concludes(&self) -> bool {
        matches!(self.waiting.target, Ok(Target::Device(_)))
    }

    fn account(&self) -> &AccountName {
        &self.waiting.request.account
    }
}

/// A part of the store that is to be read into the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refill {
    pub(crate) account: AccountName,
    pub(crate) after: Position,
    pub(crate) limit: usize,
    skipped: u64,
}

/// What was claimed, and whether earlier work on the same eUICC may stand in the store alone.
pub(crate) struct Claimed {
    pub(crate) items: Vec<Item>,
    pub(crate) unsure: Vec<Item>,
}

/// What was taken out of memory of a cancelled request.
#[derive(Default)]
pub(crate) struct Taken {
    /// Those whose turn it was on their eUICC: a process before this one may have begun them.
    pub(crate) first: Vec<Item>,
    /// Those that waited behind another: nobody has begun them.
    pub(crate) behind: Vec<Item>,
}

/// Everything that waits or is under way, as far as it is in memory.
#[derive(Default)]
pub(crate) struct Order {
    lanes: HashMap<Lane, LaneQueue>,
    devices: HashMap<DeviceKey, Device>,
    /// Where those are among the delayed of which a word of their carrier's is waited for, under this name.
    parked: HashMap<(Box<str>, Iccid), (Lane, Timestamp, Position)>,
    cancelled: HashSet<i64>,
    /// What has ended of requests that are being accepted, by its numbers.
    watched: HashMap<RequestId, HashSet<u32>>,
    in_memory: usize,
    /// Room that is given to readings under way.
    reserved: usize,
}

#[derive(Default)]
struct LaneQueue {
    accounts: HashMap<AccountName, AccountQueue>,
    turns: VecDeque<AccountName>,
    delayed: BTreeMap<(Timestamp, Position), Item>,
    begun: usize,
}

#[derive(Default)]
struct AccountQueue {
    ready: BTreeMap<Position, Item>,
    in_memory: usize,
    last: Option<Position>,
    /// Everything in the store behind this is not in memory.
    behind: Option<Position>,
    /// How many admissions were left to the store so far.
    skipped: u64,
    reading: bool,
    in_turn: bool,
}

/// One eUICC with work: whose turn it is on it, and what waits behind.
#[derive(Default)]
struct Device {
    head: Option<Head>,
    waiting: BTreeMap<Position, Item>,
}

#[derive(Clone, Copy)]
struct Head {
    position: Position,
    begun: bool,
    lane: Lane,
    delayed_until: Option<Timestamp>,
}

impl Order {
    /// The store holds work of this account in this lane that is not in memory: for a start.
    pub(crate) fn expect(&mut self, account: &AccountName, lane: Lane) {
        self.queue(lane, account).behind = Some(Position { sequence: 0, number: 0 });
    }

    /// Takes in a subrequest that was just accepted, or leaves it to the store where the window is full.
    pub(crate) fn admit(&mut self, item: Item) {
        let in_all = self.in_memory + self.reserved;
        let position = item.position();
        let queue = self.queue(item.lane(), item.account());
        let beyond = queue.behind.is_some_and(|behind| position > behind);
        let full = queue.behind.is_none() && queue.is_full(in_all);
        if beyond || full {
            queue.skipped += 1;
            queue.behind = queue.behind.or(queue.last).or(Some(Position { sequence: 0, number: 0 }));
            return;
        }
        self.insert(item);
    }

    /// Takes in what no other process performs, where there is room for it; whether there was.
    pub(crate) fn adopt(&mut self, item: Item) -> bool {
        let in_all = self.in_memory + self.reserved;
        if self.queue(item.lane(), item.account()).is_full(in_all) {
            return false;
        }
        self.place(item);
        true
    }

    /// Which parts of the store are to be read into this lane's windows now.
    pub(crate) fn refills(&mut self, lane: Lane) -> Vec<Refill> {
        let mut in_all = self.in_memory + self.reserved;
        let Some(lane) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let mut refills = Vec::new();
        for (account, queue) in &mut lane.accounts {
            if let Some(after) = queue.behind.filter(|_| queue.wants_refill(in_all)) {
                queue.reading = true;
                let limit = queue.window(in_all) - queue.in_memory;
                in_all += limit;
                refills.push(Refill { account: account.clone(), after, limit, skipped: queue.skipped });
            }
        }
        self.reserved = in_all - self.in_memory;
        refills
    }

    /// Takes in what was read; `None` where the reading failed and is to be tried again. What belongs to
    /// requests that were cancelled is given back: it needs no carrier to end.
    pub(crate) fn refilled(&mut self, lane: Lane, refill: &Refill, read: Option<Vec<Waiting>>) -> Vec<Item> {
        let last = read.as_ref().and_then(|read| read.last()).map(Waiting::position);
        let full = read.as_ref().is_none_or(|read| read.len() == refill.limit);
        let items = read.into_iter().flatten().map(Item::new);
        let is_cancelled = |item: &Item| {
            let request = &item.waiting.request;
            !item.concludes() && (request.cancelled || self.cancelled.contains(&request.sequence))
        };
        let (cancelled, live): (Vec<Item>, Vec<Item>) = items.partition(is_cancelled);
        live.into_iter().for_each(|item| self.insert(item));
        self.reserved -= refill.limit;
        let queue = self.queue(lane, &refill.account);
        queue.reading = false;
        let more = full || queue.skipped != refill.skipped;
        queue.behind = more.then_some(last.unwrap_or(refill.after));
        cancelled
    }

    /// Claims at most `limit` subrequests whose turn it is, accounts in turn.
    pub(crate) fn claim(&mut self, lane: Lane, limit: usize, now: Timestamp) -> Claimed {
        self.wake_delayed(lane, now);
        let mut claimed = Vec::new();
        if let Some(queue) = self.lanes.get_mut(&lane) {
            while claimed.len() < limit
                && let Some(account) = queue.turns.pop_front()
            {
                let Some(of_account) = queue.accounts.get_mut(&account) else { continue };
                let turn = TURN.min(limit - claimed.len());
                claimed.extend(
                    std::iter::from_fn(|| of_account.ready.pop_first()).take(turn).map(|(_, item)| item),
                );
                of_account.in_turn = !of_account.ready.is_empty();
                if of_account.in_turn {
                    queue.turns.push_back(account);
                }
            }
            queue.begun += claimed.len();
        }
        for item in &claimed {
            self.set_head(item, true, None);
        }
        let (unsure, items) = claimed.into_iter().partition(|item| item.tries == 0 && self.is_unsure(item));
        Claimed { items, unsure }
    }

    /// Puts a claimed subrequest off until `at`. Where it was not begun, an earlier one may go first.
    pub(crate) fn delay(&mut self, item: Item, at: Timestamp) {
        let lane = self.lanes.entry(item.lane()).or_default();
        lane.begun = lane.begun.saturating_sub(1);
        if let Some(earlier) = self.earlier_than(&item) {
            if let Some(key) = item.device() {
                self.devices.entry(key).or_default().waiting.insert(item.position(), item);
            }
            return self.make_ready(earlier);
        }
        self.set_head(&item, item.tries > 0, Some(at));
        let position = item.position();
        self.lanes.entry(item.lane()).or_default().delayed.insert((at, position), item);
    }

    /// The same, of one that its carrier has accepted under that name: a word from there comes before its time.
    pub(crate) fn park(&mut self, mut item: Item, at: Timestamp, name: &str) {
        if let Some(iccid) = item.waiting.subject.iccid().cloned() {
            item.parked_as = Some(name.into());
            self.parked.insert((name.into(), iccid), (item.lane(), at, item.position()));
        }
        self.delay(item, at);
    }

    /// Its carrier was heard of it: it is due now. In which lane; nothing where nobody waits for that.
    pub(crate) fn unpark(&mut self, name: &str, iccid: &Iccid, now: Timestamp) -> Option<Lane> {
        let (lane, at, position) = self.parked.remove(&(name.into(), iccid.clone()))?;
        let delayed = &mut self.lanes.get_mut(&lane)?.delayed;
        let mut item = delayed.remove(&(at, position))?;
        item.parked_as = None;
        self.set_head(&item, true, Some(now));
        self.lanes.entry(lane).or_default().delayed.insert((now, position), item);
        Some(lane)
    }

    /// Whether nobody waits for a word of a carrier.
    pub(crate) fn parks_nothing(&self) -> bool {
        self.parked.is_empty()
    }

    /// It is not put off any more.
    fn forget_parked(&mut self, item: &mut Item) {
        if let (Some(name), Some(iccid)) = (item.parked_as.take(), item.waiting.subject.iccid()) {
            self.parked.remove(&(name, iccid.clone()));
        }
    }

    /// What came in on the same eUICC while a later one, which was not begun, was being claimed.
    fn earlier_than(&mut self, item: &Item) -> Option<Item> {
        let device = self.devices.get_mut(&item.device()?)?;
        let entry = device.waiting.first_entry()?;
        (item.tries == 0 && *entry.key() < item.position()).then(|| entry.remove())
    }

    /// Lets go of a claimed subrequest that has ended; the next on its eUICC has its turn.
    pub(crate) fn finish(&mut self, item: &Item) {
        let lane = self.lanes.entry(item.lane()).or_default();
        lane.begun = lane.begun.saturating_sub(1);
        if let Some(ended) = self.watched.get_mut(&item.waiting.request.id) {
            ended.insert(item.waiting.number);
        }
        self.leave(item);
    }

    /// Notes from now on what ends of a request.
    pub(crate) fn watch(&mut self, request: RequestId) {
        self.watched.entry(request).or_default();
    }

    /// Whether a request is being accepted: not all of it is in memory yet.
    pub(crate) fn is_watched(&self, request: RequestId) -> bool {
        self.watched.contains_key(&request)
    }

    /// What has ended of it since.
    pub(crate) fn unwatch(&mut self, request: RequestId) -> HashSet<u32> {
        self.watched.remove(&request).unwrap_or_default()
    }

    /// Takes out what was accepted before `accepted_before` and was begun, or (`unbegun_too`) waits for a
    /// carrier that does not answer: it is given up.
    pub(crate) fn give_up(&mut self, lane: Lane, accepted_before: Timestamp, unbegun_too: bool) -> Vec<Item> {
        let Some(queue) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let expired = |item: &Item| {
            (item.tries > 0 || unbegun_too) && item.waiting.request.accepted_at <= accepted_before
        };
        let mut taken: Vec<Item> =
            queue.delayed.extract_if(.., |_, item| expired(item)).map(|(_, item)| item).collect();
        for account in queue.accounts.values_mut() {
            taken.extend(account.ready.extract_if(.., |_, item| expired(item)).map(|(_, item)| item));
        }
        queue.begun += taken.len(); // as if claimed: they finish like others
        taken.iter_mut().for_each(|item| self.forget_parked(item));
        taken
    }

    /// Takes the subrequests of a cancelled request that were not begun by this process: those whose turn it
    /// was as if claimed, since they hold their eUICCs until their end is durable; the others out of memory.
    /// What is still to be read of it from the store, or is claimed later, is recognised by `is_cancelled`.
    pub(crate) fn cancel(&mut self, sequence: i64, account: &AccountName) -> Taken {
        self.cancelled.insert(sequence);
        let mut taken = Taken::default();
        let unbegun =
            |at: Position, item: &Item| at.sequence == sequence && item.tries == 0 && !item.concludes();
        for lane in self.lanes.values_mut() {
            let before = taken.first.len();
            if let Some(queue) = lane.accounts.get_mut(account) {
                let ready = queue.ready.extract_if(.., |at, item| unbegun(*at, item));
                taken.first.extend(ready.map(|(_, item)| item));
            }
            let delayed = lane.delayed.extract_if(.., |(_, at), item| unbegun(*at, item));
            taken.first.extend(delayed.map(|(_, item)| item));
            lane.begun += taken.first.len() - before;
        }
        for item in &taken.first {
            self.set_head(item, true, None);
        }
        for device in self.devices.values_mut() {
            let behind = device.waiting.extract_if(.., |at, item| unbegun(*at, item));
            taken.behind.extend(behind.map(|(_, item)| item));
        }
        for item in &taken.behind {
            self.leave(item);
        }
        taken
    }

    /// The store says that the request was cancelled.
    pub(crate) fn note_cancelled(&mut self, sequence: i64) {
        self.cancelled.insert(sequence);
    }

    /// Whether the request was cancelled while this process ran. Kept for good, as a reading of the store
    /// that began before the cancellation may still arrive.
    pub(crate) fn is_cancelled(&self, sequence: i64) -> bool {
        self.cancelled.contains(&sequence)
    }

    /// Whether a subrequest on that eUICC is in memory, begun or not.
    pub(crate) fn holds(&self, device: DeviceKey, position: Position) -> bool {
        self.devices.get(&device).is_some_and(|device| {
            device.head.is_some_and(|head| head.position == position)
                || device.waiting.contains_key(&position)
        })
    }

    /// When the lane has something to do by itself next: a delayed subrequest's time.
    pub(crate) fn next_wake(&self, lane: Lane) -> Option<Timestamp> {
        self.lanes.get(&lane)?.delayed.keys().next().map(|(at, _)| *at)
    }

    /// How many are claimed and have neither ended nor been put off.
    pub(crate) fn begun(&self, lane: Lane) -> usize {
        self.lanes.get(&lane).map_or(0, |lane| lane.begun)
    }

    /// Whether anything could be claimed now.
    pub(crate) fn is_ready(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| !lane.turns.is_empty())
    }

    /// Whether something that was put off may be claimed again.
    pub(crate) fn is_due(&self, lane: Lane, now: Timestamp) -> bool {
        self.next_wake(lane).is_some_and(|at| at <= now)
    }

    /// Whether the store is being read for this lane, or is about to be.
    pub(crate) fn is_reading(&self, lane: Lane) -> bool {
        let wants = |queue: &AccountQueue| queue.reading || queue.wants_refill(self.in_memory);
        self.lanes.get(&lane).is_some_and(|lane| lane.accounts.values().any(wants))
    }

    fn queue(&mut self, lane: Lane, account: &AccountName) -> &mut AccountQueue {
        let accounts = &mut self.lanes.entry(lane).or_default().accounts;
        if !accounts.contains_key(account) {
            accounts.insert(account.clone(), AccountQueue::default());
        }
        accounts.get_mut(account).expect("it was inserted above where it was absent")
    }

    /// Takes in what is next in its window.
    fn insert(&mut self, item: Item) {
        let (lane, account, position) = (item.lane(), item.account().clone(), item.position());
        if self.place(item) {
            let queue = self.queue(lane, &account);
            queue.last = queue.last.max(Some(position));
        }
    }

    /// Whether it was not in memory already.
    fn place(&mut self, item: Item) -> bool {
        if item.device().is_some_and(|device| self.holds(device, item.position())) {
            return false; // read from the store between its commit and its admission
        }
        let position = item.position();
        let queue = self.queue(item.lane(), item.account());
        if queue.ready.contains_key(&position) {
            return false; // likewise, of one without an eUICC
        }
        queue.in_memory += 1;
        self.in_memory += 1;
        let Some(key) = item.device() else {
            self.make_ready(item);
            return true;
        };
        let device = self.devices.entry(key).or_default();
        match device.head {
            None => self.make_ready(item),
            Some(head) if position < head.position && !head.begun => self.overtake(key, head, item),
            Some(_) => drop(device.waiting.insert(position, item)),
        }
        true
    }

    /// An earlier subrequest arrives after a later one of another lane: the later one waits behind it.
    fn overtake(&mut self, key: DeviceKey, head: Head, earlier: Item) {
        let account = earlier.account().clone();
        let lane = self.lanes.entry(head.lane).or_default();
        let later = match head.delayed_until {
            Some(at) => lane.delayed.remove(&(at, head.position)),
            None => lane.accounts.get_mut(&account).and_then(|queue| queue.ready.remove(&head.position)),
        };
        if let Some(later) = later {
            self.devices.entry(key).or_default().waiting.insert(head.position, later);
        }
        self.make_ready(earlier);
    }

    fn make_ready(&mut self, item: Item) {
        self.set_head(&item, item.tries > 0, None);
        let lane = self.lanes.entry(item.lane()).or_default();
        let Some(queue) = lane.accounts.get_mut(item.account()) else { return };
        if !queue.in_turn {
            queue.in_turn = true;
            lane.turns.push_back(item.account().clone());
        }
        queue.ready.insert(item.position(), item);
    }

    fn set_head(&mut self, item: &Item, begun: bool, delayed_until: Option<Timestamp>) {
        if let Some(key) = item.device() {
            let head = Head { position: item.position(), begun, lane: item.lane(), delayed_until };
            self.devices.entry(key).or_default().head = Some(head);
        }
    }

    fn wake_delayed(&mut self, lane: Lane, now: Timestamp) {
        while let Some(queue) = self.lanes.get_mut(&lane)
            && let Some(entry) = queue.delayed.first_entry()
            && entry.key().0 <= now
        {
            let mut item = entry.remove();
            self.forget_parked(&mut item);
            self.make_ready(item);
        }
    }

    /// Removes what has ended from the counts and from its eUICC.
    fn leave(&mut self, item: &Item) {
        self.in_memory -= 1;
        self.queue(item.lane(), item.account()).in_memory -= 1;
        let Some(key) = item.device() else { return };
        let Some(device) = self.devices.get_mut(&key) else { return };
        if device.head.is_some_and(|head| head.position == item.position()) {
            device.head = None;
            match device.waiting.pop_first() {
                Some((_, next)) => self.make_ready(next),
                None => drop(self.devices.remove(&key)),
            }
        }
    }

    /// Whether earlier work on the item's eUICC may be in the store alone: another lane's window overflows.
    fn is_unsure(&self, item: &Item) -> bool {
        let elsewhere = |(lane, queue): (&Lane, &LaneQueue)| {
            *lane != item.lane() && queue.accounts.get(item.account()).is_some_and(|of| of.behind.is_some())
        };
        item.device().is_some() && self.lanes.iter().any(elsewhere)
    }
}

impl AccountQueue {
    fn window(&self, in_all: usize) -> usize {
        if in_all < WINDOW_IN_ALL { WINDOW_OF_ACCOUNT } else { WINDOW_ASSURED }
    }

    fn is_full(&self, in_all: usize) -> bool {
        self.in_memory >= self.window(in_all)
    }

    fn wants_refill(&self, in_all: usize) -> bool {
        self.behind.is_some() && !self.reading && self.in_memory <= self.window(in_all) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_domain::{Action, Network, Subject, Terms};
    use reveille_store::{ProfileKey, RequestHead};
    use std::sync::Arc;

    const US: Lane = Lane::Network(Network::VerizonUs);
    const GLOBAL: Lane = Lane::Network(Network::Global);
    const NOW: Timestamp = Timestamp(0);

    fn item(account: &str, sequence: i64, number: u32, device: i64, network: Network) -> Item {
        let head = RequestHead {
            sequence,
            id: RequestId::from_random(u128::try_from(sequence).unwrap()),
            account: account.parse().unwrap(),
            action: Action::ProfileResume,
            service_plan: None,
            terms: Terms::default(),
            accepted_at: NOW,
            cancelled: false,
        };
        let target = ProfileTarget { profile: ProfileKey(device * 2), device: DeviceKey(device), network };
        let subject = Subject::Profile(format!("89{sequence:08}{number:09}").parse().unwrap());
        Item::new(Waiting { request: Arc::new(head), number, subject, target: Ok(Target::Profile(target)) })
    }

    fn us(account: &str, sequence: i64, number: u32, device: i64) -> Item {
        item(account, sequence, number, device, Network::VerizonUs)
    }

    fn numbers(claimed: &Claimed) -> Vec<(i64, u32)> {
        claimed.items.iter().map(|item| (item.position().sequence, item.position().number)).collect()
    }

    #[test]
    fn one_euicc_never_has_two_operations_under_way() {
        let mut order = Order::default();
        order.admit(us("acc-1", 1, 1, 7));
        order.admit(us("acc-1", 2, 1, 7));
        order.admit(item("acc-1", 3, 1, 7, Network::Global));
        let first = order.claim(US, 10, NOW);
        assert_eq!(numbers(&first), [(1, 1)]);
        assert!(order.claim(US, 10, NOW).items.is_empty());
        assert!(order.claim(GLOBAL, 10, NOW).items.is_empty());
        order.finish(&first.items[0]);
        let second = order.claim(US, 10, NOW);
        assert_eq!(numbers(&second), [(2, 1)]);
        order.finish(&second.items[0]);
        assert_eq!(numbers(&order.claim(GLOBAL, 10, NOW)), [(3, 1)]);
    }

    #[test]
    fn accounts_take_turns_whatever_the_length_of_their_queues() {
        let mut order = Order::default();
        for number in 1..=1_000 {
            order.admit(us("acc-big", 1, number, i64::from(number)));
        }
        order.admit(us("acc-small", 2, 1, 5_000));
        let claimed = order.claim(US, TURN + 1, NOW);
        assert!(numbers(&claimed).contains(&(2, 1)));
    }

    #[test]
    fn the_window_overflows_into_the_store_and_is_read_back_in_order() {
        let mut order = Order::default();
        let total = u32::try_from(WINDOW_OF_ACCOUNT).unwrap() + 10;
        for number in 1..=total {
            order.admit(us("acc-1", 1, number, i64::from(number)));
        }
        assert_eq!(order.in_memory, WINDOW_OF_ACCOUNT);
        assert!(order.refills(US).is_empty());
        for item in order.claim(US, WINDOW_OF_ACCOUNT, NOW).items {
            order.finish(&item);
        }
        let refills = order.refills(US);
        assert_eq!(refills[0].after, Position { sequence: 1, number: total - 10 });
        assert!(order.refills(US).is_empty(), "one reading at a time");
        let rest: Vec<_> = (total - 9..=total).map(|n| us("acc-1", 1, n, i64::from(n)).waiting).collect();
        assert!(order.refilled(US, &refills[0], Some(rest)).is_empty());
        assert_eq!(order.claim(US, 100, NOW).items.len(), 10);
        assert!(order.refills(US).is_empty(), "nothing is left in the store");
    }

    #[test]
    fn what_is_accepted_while_the_store_is_read_is_read_again() {
        let mut order = Order::default();
        order.expect(&"acc-1".parse().unwrap(), US);
        let refill = order.refills(US).remove(0);
        order.admit(us("acc-1", 9, 1, 9)); // committed after the reading began
        assert!(order.refilled(US, &refill, Some(vec![us("acc-1", 1, 1, 1).waiting])).is_empty());
        let again = order.refills(US).remove(0);
        assert_eq!(again.after, Position { sequence: 1, number: 1 });
    }

    #[test]
    fn an_earlier_subrequest_that_arrives_late_goes_first() {
        let mut order = Order::default();
        order.expect(&"acc-1".parse().unwrap(), US);
        order.admit(item("acc-1", 5, 1, 7, Network::Global));
        let claimed = order.claim(GLOBAL, 10, NOW);
        assert!(claimed.items.is_empty(), "earlier work may stand in the store");
        order.delay(claimed.unsure.into_iter().next().unwrap(), Timestamp(250));
        let refill = order.refills(US).remove(0);
        assert!(order.refilled(US, &refill, Some(vec![us("acc-1", 3, 1, 7).waiting])).is_empty());
        let first = order.claim(US, 10, NOW);
        assert_eq!(numbers(&first), [(3, 1)]);
        assert!(order.claim(GLOBAL, 10, Timestamp(500)).items.is_empty());
        order.finish(&first.items[0]);
        assert_eq!(numbers(&order.claim(GLOBAL, 10, Timestamp(500))), [(5, 1)]);
    }

    #[test]
    fn an_earlier_subrequest_that_arrives_while_a_later_one_is_claimed_goes_first_when_that_is_put_off() {
        let mut order = Order::default();
        order.admit(us("acc-1", 5, 1, 7));
        let later = order.claim(US, 10, NOW).items.remove(0);
        assert!(order.adopt(us("acc-1", 3, 1, 7)));
        order.delay(later, Timestamp(250));
        let first = order.claim(US, 10, NOW);
        assert_eq!(numbers(&first), [(3, 1)]);
        order.finish(&first.items[0]);
        assert_eq!(numbers(&order.claim(US, 10, NOW)), [(5, 1)]);
    }

    #[test]
    fn a_delayed_subrequest_keeps_its_euicc_and_comes_again_at_its_time() {
        let mut order = Order::default();
        order.admit(us("acc-1", 1, 1, 7));
        order.admit(us("acc-1", 2, 1, 7));
        let mut item = order.claim(US, 10, NOW).items.remove(0);
        item.tries = 1;
        order.delay(item, Timestamp(1_000));
        assert!(order.claim(US, 10, Timestamp(999)).items.is_empty());
        assert_eq!(order.next_wake(US), Some(Timestamp(1_000)));
        assert_eq!(numbers(&order.claim(US, 10, Timestamp(1_000))), [(1, 1)]);
    }

    #[test]
    fn what_waits_for_a_word_of_its_carrier_is_due_when_it_is_heard_of() {
        let mut order = Order::default();
        order.admit(us("acc-1", 1, 1, 7));
        order.admit(us("acc-1", 1, 2, 8));
        let iccid = |item: &Item| item.waiting.subject.iccid().unwrap().clone();
        let mut items = order.claim(US, 10, NOW).items;
        items.iter_mut().for_each(|item| item.tries = 1);
        let heard_of = iccid(&items[1]);
        for item in items {
            order.park(item, Timestamp(1_000), "theirs");
        }
        assert_eq!(order.unpark("another", &heard_of, Timestamp(5)), None);
        assert!(order.claim(US, 10, Timestamp(5)).items.is_empty());
        assert_eq!(order.unpark("theirs", &heard_of, Timestamp(5)), Some(US));
        assert_eq!(order.unpark("theirs", &heard_of, Timestamp(5)), None, "once");
        assert_eq!(numbers(&order.claim(US, 10, Timestamp(5))), [(1, 2)]);
        assert_eq!(numbers(&order.claim(US, 10, Timestamp(1_000))), [(1, 1)]);
        assert!(order.parks_nothing());
    }

    #[test]
    fn what_was_begun_too_long_ago_is_given_up_and_what_was_not_begun_waits_on() {
        let mut order = Order::default();
        order.admit(us("acc-1", 1, 1, 7));
        order.admit(us("acc-1", 1, 2, 8));
        let mut begun = order.claim(US, 1, NOW).items.remove(0);
        begun.tries = 1;
        order.delay(begun, Timestamp(1_000));
        assert!(order.give_up(US, Timestamp(-1), false).is_empty());
        let given_up = order.give_up(US, NOW, false);
        assert_eq!(given_up.len(), 1);
        order.finish(&given_up[0]);
        assert_eq!(numbers(&order.claim(US, 10, Timestamp(5_000))), [(1, 2)]);
    }

    #[test]
    fn cancelling_takes_what_is_not_begun_and_leaves_the_rest() {
        let mut order = Order::default();
        for number in 1..=4 {
            order.admit(us("acc-1", 1, number, i64::from(number % 2)));
        }
        order.admit(us("acc-1", 2, 1, 1));
        let begun = order.claim(US, 1, NOW).items.remove(0);
        let taken = order.cancel(1, &"acc-1".parse().unwrap());
        assert_eq!((taken.first.len(), taken.behind.len()), (1, 2));
        order.finish(&begun);
        assert_eq!(numbers(&order.claim(US, 10, NOW)), [(2, 1)]);
        assert!(order.is_cancelled(1));
    }
}
