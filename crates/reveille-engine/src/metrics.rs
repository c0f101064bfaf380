//! What is counted, in the form that Prometheus reads. Names and labels: docs/operating.md.

use crate::lane::CarrierView;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reveille_carriers::{Health, Reply};
use reveille_domain::{Action, Network};
use reveille_store::{Backlog, Recorded, Recording};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAction {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
    fault: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReply {
    carrier: &'static str,
    reply: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCarrier {
    carrier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAttempt {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    call: &'static str,
    status: u16,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<ByAction, Counter>,
    subrequests: Family<ByAction, Counter>,
    outcomes: Family<ByOutcome, Counter>,
    replies: Family<ByReply, Counter>,
    call_seconds: Family<ByCarrier, Histogram, fn() -> Histogram>,
    attempts: Family<ByAttempt, Counter>,
    attempt_seconds: Histogram,
    carrier_health: Family<ByCarrier, Gauge<f64, AtomicU64>>,
    compared: Family<ByCarrier, Counter>,
    drifting: Family<ByCarrier, Gauge>,
    calls: Family<ByCall, Counter>,
    waiting: Gauge,
    untold: Gauge,
    scrape: Mutex<()>,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("reveille"),
            requests: Family::default(),
            subrequests: Family::default(),
            outcomes: Family::default(),
            replies: Family::default(),
            call_seconds: Family::new_with_constructor(seconds),
            attempts: Family::default(),
            attempt_seconds: seconds(),
            carrier_health: Family::default(),
            compared: Family::default(),
            drifting: Family::default(),
            calls: Family::default(),
            waiting: Gauge::default(),
            untold: Gauge::default(),
            scrape: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests_accepted", "Requests accepted", self.requests.clone());
        registry.register("subrequests_accepted", "Subrequests accepted", self.subrequests.clone());
        registry.register(
            "subrequests_ended",
            "Subrequests ended, by outcome and fault",
            self.outcomes.clone(),
        );
        registry.register("carrier_replies", "Replies of carriers; unknown is silence", self.replies.clone());
        registry.register(
            "carrier_call_seconds",
            "From a call to each reply in it",
            self.call_seconds.clone(),
        );
        registry.register(
            "carrier_health",
            "How carriers are: 1 ok, 0.5 degraded, 0 down",
            self.carrier_health.clone(),
        );
        registry.register("profiles_compared", "Profiles compared with their network", self.compared.clone());
        registry.register(
            "profiles_drifting",
            "Profiles whose network says otherwise than their record",
            self.drifting.clone(),
        );
        registry.register("callback_attempts", "Delivery attempts, by their answer", self.attempts.clone());
        registry.register("callback_attempt_seconds", "How long attempts took", self.attempt_seconds.clone());
        registry.register("http_requests", "HTTP requests, by call and status", self.calls.clone());
        registry.register("subrequests_waiting", "Subrequests without outcome", self.waiting.clone());
        registry.register(
            "callbacks_waiting",
            "Callbacks neither delivered nor archived",
            self.untold.clone(),
        );
    }

    /// The text that Prometheus reads, with what the store counts and how the carriers are.
    pub(crate) fn encode(
        &self,
        backlog: Backlog,
        drifts: &[(Network, u64)],
        carriers: &[CarrierView],
    ) -> String {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        for network in Network::ALL {
            let profiles = drifts.iter().find(|(of, _)| *of == network).map_or(0, |(_, profiles)| *profiles);
            let label = ByCarrier { carrier: network.name() };
            self.drifting.get_or_create(&label).set(i64::try_from(profiles).unwrap_or(i64::MAX));
        }
        for carrier in carriers.iter().filter(|carrier| carrier.kind.is_some()) {
            let health = match carrier.health {
                Health::Ok => 1.0,
                Health::Degraded(_) => 0.5,
                Health::Down(_) => 0.0,
            };
            self.carrier_health.get_or_create(&ByCarrier { carrier: carrier.network.name() }).set(health);
        }
        self.waiting.set(i64::try_from(backlog.waiting).unwrap_or(i64::MAX));
        self.untold.set(i64::try_from(backlog.untold).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    /// An HTTP request was answered.
    pub fn answered(&self, call: &'static str, status: u16) {
        self.calls.get_or_create(&ByCall { call, status }).inc();
    }

    pub(crate) fn accepted(&self, action: Action, subrequests: usize) {
        let label = ByAction { action: action.name() };
        self.requests.get_or_create(&label).inc();
        self.subrequests.get_or_create(&label).inc_by(u64::try_from(subrequests).unwrap_or(u64::MAX));
    }

    pub(crate) fn ended(&self, recordings: &[Recording], recorded: &[Recorded]) {
        for (recording, _) in
            recordings.iter().zip(recorded).filter(|(_, recorded)| **recorded == Recorded::Now)
        {
            let label = match &recording.told.result {
                Ok(_) => ByOutcome { outcome: "succeeded", fault: "" },
                Err(fault) => ByOutcome { outcome: "failed", fault: fault.name() },
            };
            self.outcomes.get_or_create(&label).inc();
        }
    }

    pub(crate) fn replied(&self, network: Network, reply: &Reply, after: Duration) {
        let carrier = network.name();
        let reply = reply.word();
        self.replies.get_or_create(&ByReply { carrier, reply }).inc();
        self.call_seconds.get_or_create(&ByCarrier { carrier }).observe(after.as_secs_f64());
    }

    pub(crate) fn compared(&self, network: Network, profiles: usize) {
        let label = ByCarrier { carrier: network.name() };
        self.compared.get_or_create(&label).inc_by(u64::try_from(profiles).unwrap_or(u64::MAX));
    }

    pub(crate) fn attempted(&self, status: Option<u16>, took: Duration) {
        let answer = match status {
            Some(200..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(_) => "5xx",
            None => "none",
        };
        self.attempts.get_or_create(&ByAttempt { answer }).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }
}
