//! Callbacks on their way: a bounded queue per listener, and how many connections it has.
//!
//! What is due but not in memory stands in the store; a queue knows from when on that may be so.

use crate::listeners::Listeners;
use reveille_domain::{ListenerName, Timestamp};
use reveille_store::{Callback, CallbackKey, FURTHER_LISTENERS_MAX, Outlet};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// How many callbacks of a service's own listener are in memory at most: more than one whole request's.
const WINDOW_OF_OWN: usize = 16_384;

/// How many of a further listener are: all that a service may have take no more than its own does.
const WINDOW_OF_FURTHER: usize = WINDOW_OF_OWN / FURTHER_LISTENERS_MAX;

/// How many each listener may have there even when all together are full.
const WINDOW_ASSURED: usize = 64;

/// How many callbacks are in memory at most before windows shrink to what is assured: about 16 MiB.
const WINDOW_IN_ALL: usize = 49_152;

/// How many callbacks of one listener are here at most where other processes work on the store too, and of one that is
/// on trial.
const SHARED: usize = 2_048;
const SHARED_ON_TRIAL: usize = 32;

/// After so many failed attempts in a row a listener is on trial again.
const FAILURES_IN_A_ROW: u32 = 3;

pub(crate) struct Outbox {
    queues: Mutex<Queues>,
    pub(crate) listeners: Listeners,
    /// Something is due, or will be at another time than was thought.
    pub(crate) changed: Notify,
    /// Idle connections look whether they are wanted.
    pub(crate) offered: Notify,
    proven: Arc<Semaphore>,
    trials: Arc<Semaphore>,
    connections_per_listener: usize,
    /// How long a callback may wait here, from when it was offered or read: where other processes work on the
    /// store, it is theirs later.
    keep_for: Option<Duration>,
    attempts: AtomicUsize,
    marking: AtomicUsize,
}

#[derive(Default)]
struct Queues {
    of: HashMap<Outlet, Queue>,
    in_memory: usize,
    /// Room that is given to readings under way.
    reserved: usize,
    /// Marked since a recording began, while one is under way: what it has written was read from the store and
    /// attempted before it could be offered.
    marked_while_recording: Option<HashSet<CallbackKey>>,
}

#[derive(Default)]
struct Queue {
    /// Each with until when it may be attempted.
    waiting: VecDeque<(Callback, Option<Timestamp>)>,
    /// Waiting, in an attempt, or attempted and not yet marked: not to be read from the store again. Each with its
    /// series.
    held: HashMap<CallbackKey, u32>,
    /// From when on the store may hold due callbacks that are not in memory.
    due_in_store: Option<Timestamp>,
    reading: bool,
    /// Read while an older series of theirs was held: they are due again, once that is marked.
    read_while_held: HashSet<CallbackKey>,
    /// Marked since the reading began: what is read of them is out of date.
    marked_meanwhile: HashSet<CallbackKey>,
    connections: usize,
    attempts: usize,
    standing: Standing,
}

/// What is known of a listener: it decides how many connections it gets, and out of which share of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not tried yet, or it failed several times in a row: one connection, out of the half for trials, so
    /// that those that hang take nothing from those that answer.
    #[default]
    OnTrial,
    /// Its attempts succeed, but for so many since the last that did: as many connections as it may have.
    Proven {
        /// Attempts that failed since.
        failures: u32,
    },
}

/// What a connection has to do next.
pub(crate) enum Taken {
    Callback(Box<Callback>),
    /// Wait for more.
    Nothing,
    /// Close: the listener's standing has changed, and with it where its connections come from.
    Excess,
}

impl Outbox {
    pub(crate) fn new(
        connections_per_listener: usize,
        connections_in_all: usize,
        keep_for: Option<Duration>,
    ) -> Self {
        Self {
            queues: Mutex::default(),
            listeners: Listeners::default(),
            changed: Notify::new(),
            offered: Notify::new(),
            proven: Arc::new(Semaphore::new(connections_in_all.div_ceil(2))),
            trials: Arc::new(Semaphore::new(connections_in_all.div_ceil(2))),
            connections_per_listener: connections_per_listener.max(1),
            keep_for,
            attempts: AtomicUsize::new(0),
            marking: AtomicUsize::new(0),
        }
    }

    /// Outcomes or warnings are about to be written, whose callbacks are offered next; by one task alone.
    pub(crate) fn begin_recording(&self) {
        self.lock().marked_while_recording = Some(HashSet::new());
    }

    /// What was written has been offered.
    pub(crate) fn end_recording(&self) {
        self.lock().marked_while_recording = None;
    }

    /// Takes a callback that is due now and this process's `since` then, or leaves it to the store where
    /// there is no room.
    pub(crate) fn offer(&self, callback: Callback, since: Timestamp) {
        let until = self.keep_for.map(|lasts| since.plus(lasts));
        let mut queues = self.lock();
        if queues.marked_while_recording.as_ref().is_some_and(|marked| marked.contains(&callback.key())) {
            return;
        }
        let window = queues.window();
        let most = most_of(callback.listener);
        let at = callback.request.accepted_at;
        let queue = queues.of.entry(callback.outlet()).or_default();
        let window = window.min(most).min(self.may_hold(queue));
        if queue.held.len() >= window || queue.due_in_store.is_some_and(|due| due <= at) {
            queue.expect(at);
        } else if queue.held.insert(callback.key(), callback.series).is_none() {
            queue.waiting.push_back((callback, until));
            queues.in_memory += 1;
        }
    }

    /// How many callbacks a queue may hold on the listener's account: what others could attempt meanwhile is
    /// not hoarded.
    fn may_hold(&self, queue: &Queue) -> usize {
        match self.keep_for {
            None => usize::MAX,
            Some(_) if queue.standing.is_on_trial() => SHARED_ON_TRIAL,
            Some(_) => SHARED,
        }
    }

    /// The store holds callbacks of this outlet that are due at `at`.
    pub(crate) fn expect(&self, outlet: &Outlet, at: Timestamp) {
        self.lock().of.entry(outlet.clone()).or_default().expect(at);
        self.changed.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_one();
        self.offered.notify_waiters();
    }

    /// The outlets whose due callbacks are to be read now, each with how many at most.
    pub(crate) fn refills(&self, now: Timestamp) -> Vec<(Outlet, usize)> {
        let mut queues = self.lock();
        let Queues { of, in_memory, reserved, .. } = &mut *queues;
        let mut refills = Vec::new();
        for (outlet, queue) in of {
            let window =
                window(*in_memory + *reserved).min(most_of(outlet.listener)).min(self.may_hold(queue));
            let due = queue.due_in_store.is_some_and(|due| due <= now);
            if due && !queue.reading && queue.held.len() <= window / 2 {
                queue.reading = true;
                queue.due_in_store = None;
                *reserved += window;
                refills.push((outlet.clone(), window));
            }
        }
        refills
    }

    /// Takes in what was read, this process's `since` then, and from when on the store may hold more.
    pub(crate) fn refilled(
        &self,
        outlet: &Outlet,
        limit: usize,
        read: Vec<Callback>,
        since: Timestamp,
        more_at: Option<Timestamp>,
    ) {
        let until = self.keep_for.map(|lasts| since.plus(lasts));
        let mut queues = self.lock();
        queues.reserved -= limit;
        let queue = queues.of.entry(outlet.clone()).or_default();
        queue.reading = false;
        let mut new = 0;
        let marked = std::mem::take(&mut queue.marked_meanwhile);
        for callback in read {
            let key = callback.key();
            if marked.contains(&key) {
                continue;
            }
            match queue.held.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(callback.series);
                    queue.waiting.push_back((callback, until));
                    new += 1;
                }
                Entry::Occupied(held) if *held.get() < callback.series => {
                    queue.read_while_held.insert(key);
                }
                Entry::Occupied(_) => {}
            }
        }
        if let Some(at) = more_at {
            queue.expect(at);
        }
        queues.in_memory += new;
    }

    /// When the store may have something due, at the earliest.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let queues = self.lock();
        queues.of.values().filter(|queue| !queue.reading).filter_map(|queue| queue.due_in_store).min()
    }

    /// The outlets whose listeners are to have one connection more, each counted as having it.
    pub(crate) fn wanted(&self) -> Vec<(Outlet, Standing)> {
        let mut queues = self.lock();
        let mut wanted = Vec::new();
        for (outlet, queue) in &mut queues.of {
            let allowed = queue.connections_max(self.connections_per_listener);
            while queue.connections < allowed && queue.connections < queue.waiting.len() {
                queue.connections += 1;
                wanted.push((outlet.clone(), queue.standing));
            }
        }
        wanted
    }

    /// The connections among which a listener of that standing has its share.
    pub(crate) fn share_of(&self, standing: Standing) -> &Arc<Semaphore> {
        match standing {
            Standing::OnTrial => &self.trials,
            Standing::Proven { .. } => &self.proven,
        }
    }

    /// The next callback for one of the outlet's connections, which it got in that standing.
    pub(crate) fn take(&self, outlet: &Outlet, standing: Standing, now: Timestamp) -> Taken {
        let mut queues = self.lock();
        let Queues { of, in_memory, .. } = &mut *queues;
        let Some(queue) = of.get_mut(outlet) else { return Taken::Excess };
        if queue.standing.is_on_trial() != standing.is_on_trial() {
            return Taken::Excess;
        }
        *in_memory -= queue.let_go(now);
        let Some((callback, _)) = queue.waiting.pop_front() else {
            drop(queues);
            self.changed.notify_one();
            return Taken::Nothing;
        };
        queue.attempts += 1;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        Taken::Callback(Box::new(callback))
    }

    /// A connection is given back.
    pub(crate) fn leave(&self, outlet: &Outlet) {
        let mut queues = self.lock();
        if let Some(queue) = queues.of.get_mut(outlet) {
            queue.connections = queue.connections.saturating_sub(1);
            if queue.is_idle() {
                queues.of.remove(outlet);
            }
        }
        drop(queues);
        self.changed.notify_one();
    }

    /// Whether the outlet's queue has anything for a connection.
    pub(crate) fn has_work(&self, outlet: &Outlet) -> bool {
        self.lock().of.get(outlet).is_some_and(|queue| !queue.waiting.is_empty())
    }

    /// Puts back what could not be attempted for no fault of the listener's.
    pub(crate) fn put_back(&self, callback: Callback, now: Timestamp) {
        let until = self.keep_for.map(|_| now); // it is read again
        self.attempts.fetch_sub(1, Ordering::AcqRel);
        let mut queues = self.lock();
        let queue = queues.of.entry(callback.outlet()).or_default();
        queue.attempts = queue.attempts.saturating_sub(1);
        queue.waiting.push_front((callback, until));
    }

    /// An attempt ended; its mark is to be written.
    pub(crate) fn attempted(&self, outlet: &Outlet, failed: bool) {
        self.marking.fetch_add(1, Ordering::AcqRel);
        self.attempts.fetch_sub(1, Ordering::AcqRel);
        let mut queues = self.lock();
        let Some(queue) = queues.of.get_mut(outlet) else { return };
        queue.attempts = queue.attempts.saturating_sub(1);
        let before = queue.standing;
        queue.standing = before.after(failed);
        let changed = before.is_on_trial() != queue.standing.is_on_trial();
        drop(queues);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Marks were written: the callbacks may be read from the store again when they are due.
    pub(crate) fn marked<'a>(
        &self,
        marks: impl Iterator<Item = (&'a Outlet, CallbackKey, Option<Timestamp>)>,
    ) {
        let mut queues = self.lock();
        for (outlet, key, next_at) in marks {
            self.marking.fetch_sub(1, Ordering::AcqRel);
            if let Some(marked) = &mut queues.marked_while_recording {
                marked.insert(key);
            }
            let Some(queue) = queues.of.get_mut(outlet) else { continue };
            let held = queue.held.remove(&key).is_some();
            if queue.read_while_held.remove(&key) {
                queue.expect(Timestamp(0));
            }
            if queue.reading {
                queue.marked_meanwhile.insert(key);
            }
            if let Some(at) = next_at {
                queue.expect(at);
            }
            if queue.is_idle() {
                queues.of.remove(outlet);
            }
            queues.in_memory -= usize::from(held);
        }
        drop(queues);
        self.changed.notify_one();
    }

    pub(crate) fn attempts_under_way(&self) -> usize {
        self.attempts.load(Ordering::Acquire)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.attempts_under_way() + self.marking.load(Ordering::Acquire) > 0
    }

    /// Whether anything goes on without the clock being moved, attempts under way aside.
    pub(crate) fn is_moving(&self, now: Timestamp) -> bool {
        let queues = self.lock();
        let moves = |queue: &Queue| {
            let waits = !queue.waiting.is_empty()
                && queue.attempts < queue.connections_max(self.connections_per_listener);
            waits || queue.reading || queue.due_in_store.is_some_and(|due| due <= now)
        };
        self.marking.load(Ordering::Acquire) > 0 || queues.of.values().any(moves)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    pub(crate) fn is_on_trial(self) -> bool {
        self == Self::OnTrial
    }

    fn after(self, failed: bool) -> Self {
        match (self, failed) {
            (_, false) => Self::Proven { failures: 0 },
            (Self::Proven { failures }, true) if failures + 1 < FAILURES_IN_A_ROW => {
                Self::Proven { failures: failures + 1 }
            }
            (_, true) => Self::OnTrial,
        }
    }
}

impl Queues {
    fn window(&self) -> usize {
        window(self.in_memory + self.reserved)
    }
}

fn window(in_all: usize) -> usize {
    if in_all < WINDOW_IN_ALL { WINDOW_OF_OWN } else { WINDOW_ASSURED }
}

fn most_of(listener: ListenerName) -> usize {
    if listener.is_own() { WINDOW_OF_OWN } else { WINDOW_OF_FURTHER }
}

impl Queue {
    /// Leaves what has waited too long to whoever reads it from the store next; how many.
    fn let_go(&mut self, now: Timestamp) -> usize {
        let mut gone = 0;
        while let Some((callback, Some(until))) = self.waiting.front()
            && *until <= now
        {
            self.held.remove(&callback.key());
            self.waiting.pop_front();
            gone += 1;
        }
        if gone > 0 {
            self.expect(now);
        }
        gone
    }

    fn expect(&mut self, at: Timestamp) {
        self.due_in_store = Some(self.due_in_store.map_or(at, |due| due.min(at)));
    }

    fn connections_max(&self, per_listener: usize) -> usize {
        if self.standing.is_on_trial() { 1 } else { per_listener }
    }

    fn is_idle(&self) -> bool {
        let nothing = self.held.is_empty() && self.due_in_store.is_none() && !self.reading;
        nothing && self.connections == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_domain::{Action, Left, ListenerName, ProfileState, RequestId, Subject, Terms, Told};
    use reveille_store::RequestHead;

    const NOW: Timestamp = Timestamp(0);

    fn callback(number: u32) -> Callback {
        let request = RequestHead {
            sequence: 1,
            id: RequestId::from_random(1),
            account: "0000123456-00001".parse().unwrap(),
            action: Action::ProfileResume,
            service_plan: None,
            terms: Terms::default(),
            accepted_at: NOW,
            cancelled: false,
        };
        let subject = Subject::Profile(format!("8914800{number:013}").parse().unwrap());
        let result = Ok(Left::Device(ProfileState::Active));
        let told = Told { subject, eid: None, imei: None, msisdn: None, result };
        let listener = ListenerName::OWN;
        Callback { request: Arc::new(request), number, listener, told, series: 1, attempts: 0 }
    }

    /// Attempts whatever waits, and has it marked as delivered; the numbers.
    fn deliver(outbox: &Outbox, outlet: &Outlet) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Taken::Callback(callback) = outbox.take(outlet, Standing::OnTrial, NOW) {
            outbox.attempted(outlet, true);
            outbox.marked([(outlet, callback.key(), None)].into_iter());
            numbers.push(callback.number);
        }
        numbers
    }

    #[test]
    fn what_was_read_and_marked_before_it_was_offered_is_not_sent_again() {
        let outbox = Outbox::new(1, 2, None);
        let outlet = callback(1).outlet();
        outbox.expect(&outlet, NOW);
        outbox.begin_recording();
        for (outlet, limit) in outbox.refills(NOW) {
            outbox.refilled(&outlet, limit, vec![callback(1)], NOW, None); // recorded, and read at once
        }
        assert_eq!(deliver(&outbox, &outlet), [1]);
        outbox.offer(callback(1), NOW);
        outbox.offer(callback(2), NOW);
        outbox.end_recording();
        assert_eq!(deliver(&outbox, &outlet), [2]);
    }
}
