//! What happens: a request is accepted, ordered, performed, recorded and told.
//!
//! The only room where store, carriers and callbacks meet. It decides nothing that `reveille-domain`
//! decides, spells nothing that `reveille-wire` spells, and takes time and randomness from whoever starts it.

mod accept;
mod answers;
mod breaker;
mod cancel;
mod deliver;
mod drift;
mod heard;
mod here;
mod lane;
mod lasting;
mod limits;
mod listeners;
mod metrics;
mod order;
mod outbox;
mod outside;
mod perform;
mod progress;
mod record;
mod retention;
mod secrets;
mod strays;
mod unsettled;

pub use accept::{Asked, Named};
pub use answers::PAGE_ENTRIES;
pub use drift::Comparing;
pub use lane::{CarrierSetup, CarrierView};
pub use limits::ChangeLimits;
pub use metrics::Metrics;
pub use reveille_carriers::{Health, Observation, Observed, Unheard};
pub use secrets::{Random, Secrets};

use lane::LaneControl;
use order::Order;
use outbox::Outbox;
use progress::Progress;
use record::ToRecord;
use reveille_callbacks::{Guard, Tls};
use reveille_carriers::{LOGIN_FAILURES_MAX, Logins, Trouble};
use reveille_domain::{Clock, Network, Position, Profile, RequestId, Schedule, Timestamp};
use reveille_store::{AcceptLimits, Lane, Mark, ReplayScope, RequestView, Result, Store, StoreError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// How many callbacks one step of a replay makes due: one transaction of some ten milliseconds.
const REPLAY_STEP: usize = 1_024;

/// How often what other nodes did is looked for, at least.
const NOTICED_EVERY: Duration = Duration::from_secs(2);

/// How long a carrier may take to say how it is.
const PROBED_WITHIN: Duration = Duration::from_secs(2);

/// How the engine works; made from the configuration.
pub struct EngineConfig {
    /// How much may wait before requests are refused.
    pub limits: AcceptLimits,
    /// When an unacknowledged callback is sent again.
    pub schedule: Schedule,
    /// How long an attempt may take, from connecting to the end of the answer.
    pub attempt_timeout: Duration,
    /// How many connections one listener gets.
    pub connections_per_listener: usize,
    /// How many connections all listeners together get.
    pub connections_in_all: usize,
    /// Where listeners may be.
    pub guard: Guard,
    /// Roots and settings of TLS to listeners.
    pub tls: Tls,
    /// The carriers, by the network that each serves. A network without one is unserved.
    pub carriers: HashMap<Network, CarrierSetup>,
    /// How slow a card may be before that is told; never told where nothing is said.
    pub warn_after: Option<Duration>,
    /// How often a profile may be changed.
    pub change_limits: ChangeLimits,
    /// How long a suspension lasts at most, before it ends by itself; for ever where nothing is said.
    pub suspension_max: Option<Duration>,
    /// How long told requests and archived callbacks are kept.
    pub keep_archived: Duration,
    /// How long the history of profiles is kept; for ever where nothing is said.
    pub keep_history: Option<Duration>,
    /// How long a graceful stop waits for calls and attempts under way.
    pub stop_within: Duration,
}

/// The parts that the engine is given.
pub struct Parts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where ids and nonces come from.
    pub random: Arc<dyn Random>,
    /// What opens callback passwords.
    pub secrets: Arc<Secrets>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The running engine. Dropping it stops its tasks where they are, which loses nothing that was accepted.
pub struct Engine {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

pub(crate) struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    secrets: Arc<Secrets>,
    metrics: Arc<Metrics>,
    config: EngineConfig,
    order: Mutex<Order>,
    lanes: HashMap<Lane, LaneControl>,
    to_record: mpsc::UnboundedSender<ToRecord>,
    outbox: Outbox,
    marks: mpsc::UnboundedSender<Mark>,
    progress: Progress,
    /// How much is done in the background that neither order nor outbox knows of.
    busy: Arc<AtomicUsize>,
    /// What was accepted up to here may have been begun by a process before this one.
    last_sequence_before: i64,
    /// How far the store was looked through for strays.
    strays_after: Mutex<Position>,
    stopping: watch::Sender<bool>,
}

impl Engine {
    /// Starts the engine on what the store holds: what waits goes on, what is untold is told.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn start(config: EngineConfig, parts: Parts) -> Result<Self> {
        let last_sequence_before = parts.store.last_sequence().await?;
        let (to_record, recording) = mpsc::unbounded_channel();
        let (marks, marking) = mpsc::unbounded_channel();
        // An attempt begins only where it ends while the callback is this process's.
        let keep_for = parts.store.lease().map(|lasts| lasts.saturating_sub(config.attempt_timeout));
        let outbox = Outbox::new(config.connections_per_listener, config.connections_in_all, keep_for);
        let shared = Arc::new(Shared {
            order: Mutex::default(),
            lanes: lane::controls(&config.carriers, parts.clock.now()),
            to_record,
            outbox,
            marks,
            progress: Progress::default(),
            busy: Arc::default(),
            last_sequence_before,
            strays_after: Mutex::new(strays::START),
            stopping: watch::Sender::new(false),
            store: parts.store,
            clock: parts.clock,
            random: parts.random,
            secrets: parts.secrets,
            metrics: parts.metrics,
            config,
        });
        let logins: Arc<dyn Logins> = Arc::new(heard::CountedLogins {
            store: Arc::clone(&shared.store),
            clock: Arc::clone(&shared.clock),
        });
        for setup in shared.config.carriers.values() {
            setup.carrier.count_logins_in(Arc::clone(&logins));
        }
        shared.expect_what_is_kept().await?;
        shared.notice_holds().await?;
        let mut tasks = JoinSet::new();
        for lane in shared.lanes.keys() {
            tasks.spawn(perform::run(Arc::clone(&shared), *lane));
        }
        tasks.spawn(record::run(Arc::clone(&shared), recording));
        tasks.spawn(deliver::mark(Arc::clone(&shared), marking));
        tasks.spawn(deliver::run(Arc::clone(&shared)));
        tasks.spawn(retention::run(Arc::clone(&shared)));
        tasks.spawn(cancel::go_on(Arc::clone(&shared)));
        tasks.spawn(lasting::run(Arc::clone(&shared)));
        for (network, setup) in &shared.config.carriers {
            tasks.spawn(outside::run(Arc::clone(&shared), *network, setup.clone()));
            if let Some(pace) = setup.comparing {
                tasks.spawn(drift::run(Arc::clone(&shared), *network, setup.clone(), pace));
            }
        }
        Ok(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// What is kept, to read from.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// What time it is.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// Where the store cannot say what waits.
    pub async fn metrics_text(&self) -> Result<String> {
        let backlog = self.store().backlog().await?;
        let drifts = self.store().drift_counts().await?;
        Ok(self.shared.metrics.encode(backlog, &drifts, &self.carriers()))
    }

    /// Asks a profile's network how the profile truly is; nothing where nobody serves the network.
    pub async fn observe(&self, profile: &Profile) -> Option<Observation> {
        let setup = self.shared.lane(Lane::Network(profile.network)).setup.as_ref()?;
        let mut seen = observed(setup, &*self.shared.clock, std::slice::from_ref(profile)).await.into_iter();
        let silent = || Observation::Unavailable(Trouble::Transport("It does not answer in time.".into()));
        Some(seen.next().unwrap_or_else(silent))
    }

    /// Asks each carrier how it is.
    pub async fn probe_carriers(&self) {
        for control in self.shared.lanes.values() {
            if let Some(setup) = &control.setup {
                control.note_probed(probed(setup, &*self.shared.clock).await);
            }
        }
    }

    /// Where listeners may be.
    pub fn guard(&self) -> &Guard {
        &self.shared.config.guard
    }

    /// How often a callback is attempted at most.
    pub fn attempts_max(&self) -> u32 {
        self.shared.config.schedule.attempts_max()
    }

    /// Cancels a request: what of it was not begun ends as failed, `REQUEST_CANCELLED`, with its callbacks.
    ///
    /// # Errors
    /// Where the store fails; the cancellation may then be kept, and goes on at the next call or start.
    pub async fn cancel(&self, request: RequestId) -> Result<Option<RequestView>> {
        let shared = Arc::clone(&self.shared);
        uncut(async move { cancel::cancel(&shared, request).await }).await
    }

    /// Makes callbacks that have ended due again, each as a new series; how many.
    ///
    /// # Errors
    /// Where the store fails; some may be due again by then.
    pub async fn replay(&self, scope: ReplayScope) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        uncut(async move { shared.replay(scope).await }).await
    }

    /// Looks in the store for callbacks that became due by another way than an outcome of this process.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn notice_callbacks(&self) -> Result<()> {
        self.shared.expect_callbacks().await
    }

    /// A listener was registered or removed: the next attempt looks at it anew.
    pub fn listener_changed(&self) {
        self.shared.outbox.listeners.forget_all();
    }

    /// Holds a network's carrier, or releases it.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn hold(&self, network: Network, hold: bool) -> Result<()> {
        set_hold(&*self.shared.store, network, hold.then(|| self.shared.clock.now())).await?;
        self.shared.notice_holds().await
    }

    /// Looks for what other processes did: holds, and where they work on the store too, what they left.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn notice_others(&self) -> Result<()> {
        self.shared.notice_holds().await?;
        if self.shared.store.lease().is_some() {
            self.shared.notice_notices(self.shared.now().minus(NOTICED_EVERY)).await?;
            strays::take_up(&self.shared).await?;
            self.shared.expect_callbacks().await?;
            self.shared.progress.touch_all();
        }
        Ok(())
    }

    /// Every carrier, with how it is.
    pub fn carriers(&self) -> Vec<CarrierView> {
        let order = self.shared.order();
        let now = self.shared.clock.now();
        let view = |network: Network| {
            let lane = Lane::Network(network);
            self.shared.lanes.get(&lane).map(|control| control.view(network, order.begun(lane), now))
        };
        Network::ALL.into_iter().filter_map(view).collect()
    }

    /// A receiver that changes whenever an outcome of the request was recorded or one of its callbacks ended.
    pub fn watch(&self, request: RequestId) -> watch::Receiver<u64> {
        self.shared.progress.watch(request)
    }

    /// How many callbacks' attempts are under way.
    pub fn attempts_under_way(&self) -> usize {
        self.shared.outbox.attempts_under_way()
    }

    /// Whether anything can go on before the clock moves, carrier calls and attempts under way aside.
    pub fn is_moving(&self) -> bool {
        let order = self.shared.order();
        let now = self.shared.clock.now();
        let performs = |(lane, control): (&Lane, &LaneControl)| {
            let waits = control.calls() + control.recording();
            let claims = order.is_ready(*lane) || order.is_due(*lane, now);
            control.preparing() + control.recording() > 0
                || order.is_reading(*lane)
                || (claims && control.may_claim(now, waits))
        };
        let busy = self.shared.busy.load(Ordering::Acquire) > 0;
        busy || self.shared.lanes.iter().any(performs) || self.shared.outbox.is_moving(now)
    }

    /// Stops taking up new work, waits for what is under way as long as the configuration says, and ends.
    /// What was not finished is driven again at the next start.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        self.shared.wake_everything();
        let limit = self.shared.clock.now().plus(self.shared.config.stop_within);
        while self.is_under_way() && self.shared.clock.now() < limit {
            self.shared.clock.sleep(Duration::from_millis(5)).await;
        }
        if self.is_under_way() {
            warn!("Stopped before everything under way had ended; it is driven again at the next start");
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    fn is_under_way(&self) -> bool {
        let lanes = self.shared.lanes.values().any(|control| control.calls() + control.recording() > 0);
        lanes || self.shared.outbox.is_under_way()
    }
}

/// Holds a network's carrier from `at`, or releases it: then it may also log in once more where logins had failed
/// too often.
///
/// # Errors
/// Where the store fails.
pub async fn set_hold(store: &dyn Store, network: Network, at: Option<Timestamp>) -> Result<()> {
    if at.is_none() {
        store.forgive_logins(LOGIN_FAILURES_MAX - 1).await?;
    }
    store.set_hold(network, at).await
}

/// What a carrier says of these profiles; nothing where it does not in time.
pub(crate) async fn observed(
    setup: &CarrierSetup,
    clock: &dyn Clock,
    profiles: &[Profile],
) -> Vec<Observation> {
    tokio::select! {
        biased;
        observed = setup.carrier.observe(profiles) => observed,
        () = clock.sleep(setup.timeout) => Vec::new(),
    }
}

/// How a carrier is; one that does not say so in time is down.
pub async fn probed(setup: &CarrierSetup, clock: &dyn Clock) -> Health {
    tokio::select! {
        biased;
        health = setup.carrier.probe() => health,
        () = clock.sleep(PROBED_WITHIN) => Health::Down(Trouble::Transport("It does not say how it is.".into())),
    }
}

/// Runs to its end also where whoever waits for it goes away.
async fn uncut<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or(Err(StoreError::Unconfirmed))
}

/// An error with its causes, for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Something that is done in the background, until this is dropped.
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// Counts as moving until the answer is dropped, which must not wait for the clock.
    pub(crate) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.busy))
    }

    async fn replay(&self, scope: ReplayScope) -> Result<usize> {
        let mut scope = scope;
        let mut callbacks = 0;
        loop {
            let step = self.store.replay(scope.clone(), self.now(), REPLAY_STEP).await?;
            callbacks += step.callbacks;
            match (&mut scope, step.next) {
                (ReplayScope::Account { after, .. }, Some(next)) => *after = next,
                _ => break,
            }
        }
        info!(callbacks, "Replaying {callbacks} callbacks");
        self.expect_callbacks().await?;
        Ok(callbacks)
    }

    pub(crate) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lane(&self, lane: Lane) -> &LaneControl {
        self.lanes.get(&lane).expect("every lane has a control from the start")
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn wake_everything(&self) {
        self.lanes.values().for_each(LaneControl::wake);
        self.outbox.wake();
    }

    async fn notice_holds(&self) -> Result<()> {
        let held = self.store.holds().await?;
        for (lane, control) in &self.lanes {
            if let Lane::Network(network) = lane {
                control.set_held(held.contains(network));
            }
        }
        Ok(())
    }

    async fn expect_what_is_kept(&self) -> Result<()> {
        // What other processes may be performing is taken up as a stray, once it is seen to be one.
        if self.store.lease().is_none() {
            for (account, lane) in self.store.lanes().await? {
                self.order().expect(&account, lane);
            }
        }
        self.expect_callbacks().await
    }

    async fn expect_callbacks(&self) -> Result<()> {
        for (outlet, due) in self.store.untold().await? {
            self.outbox.expect(&outlet, due);
        }
        Ok(())
    }
}
