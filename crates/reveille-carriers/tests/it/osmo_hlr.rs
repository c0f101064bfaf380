//! The adapter on a real osmo-hlr, seen by what a handset is told that asks for service.

use crate::hlr::{Ctrl, Hlr};
use crate::real_time::RealTime;
use crate::serving::{Domain, NO_CS, NO_PS, Node, Told, UNKNOWN};
use async_trait::async_trait;
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::osmo_hlr::{OsmoHlr, OsmoHlrConfig, Service};
use reveille_carriers::{Carrier, Effect, Health, Operation, Reply, Trouble};
use reveille_domain::{Clock, EndState, Imsi, OperationId, RequestId};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// An HLR, an adapter to it, and a serving node that asks it for service.
struct Net {
    hlr: Hlr,
    node: Node,
    carrier: Arc<OsmoHlr>,
    last: AtomicU64,
}

impl Net {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// One whose adapter kicks.
    fn kicking() -> Self {
        Self::with(|config| config.kick = Some(config.address.replace(":4259", ":4222")))
    }

    fn with(configure: impl FnOnce(&mut OsmoHlrConfig)) -> Self {
        let hlr = Hlr::start();
        let node = Node::new(hlr.address, "SGSN-outside");
        let mut config = config(&hlr);
        configure(&mut config);
        let carrier = adapter(config);
        Self { hlr, node, carrier, last: AtomicU64::new(1) }
    }

    /// A subscriber that nobody has touched.
    async fn subscriber(&self) -> Subscription {
        self.fresh(1).await.remove(0)
    }

    /// What one try of an operation of its own is told.
    async fn told(&self, of: &Subscription, end: EndState) -> Reply {
        told(&*self.carrier, self.operation(of, end)).await
    }

    fn operation(&self, of: &Subscription, end_state: EndState) -> Operation {
        let id = OperationId { request: self.request_id(), number: 1 };
        conformance::operation(id, of, end_state)
    }

    fn serves(&self, imsi: &str) -> (Told, Told) {
        (self.node.locate(imsi, Domain::Ps), self.node.locate(imsi, Domain::Cs))
    }
}

fn adapter(config: OsmoHlrConfig) -> Arc<OsmoHlr> {
    config.check().unwrap();
    Arc::new(OsmoHlr::new(config, Arc::new(RealTime), 0x5eed_0001))
}

fn config(hlr: &Hlr) -> OsmoHlrConfig {
    OsmoHlrConfig { address: format!("{}:4259", hlr.address), ..OsmoHlrConfig::default() }
}

#[async_trait]
impl Bench for Net {
    fn carrier(&self) -> Arc<dyn Carrier> {
        self.carrier.clone()
    }

    fn request_id(&self) -> RequestId {
        RequestId::from_random(self.last.fetch_add(1, Ordering::Relaxed).into())
    }

    async fn fresh(&self, count: usize) -> Vec<Subscription> {
        let numbers = std::iter::repeat_with(|| self.last.fetch_add(1, Ordering::Relaxed));
        let subscription = |number: u64| Subscription {
            iccid: format!("89148{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: Some(format!("00101{number:010}").parse().unwrap()),
            msisdn: None,
            card: Vec::new(),
        };
        let fresh: Vec<Subscription> = numbers.take(count).map(subscription).collect();
        let imsis: Vec<String> = fresh.iter().map(|of| imsi(of).as_str().into()).collect();
        self.hlr.ctrl().create(&imsis);
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("an HLR knows no ends on the card")
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        let served = match self.serves(imsi(of).as_str()) {
            (Told::Accepted, Told::Accepted) => Some(true),
            (NO_PS, NO_CS) => Some(false),
            _ => None,
        };
        Some(served == Some(end == EndState::InService))
    }

    async fn stranger(&self) -> Option<Subscription> {
        let imsi = Some("001019999999999".parse().unwrap());
        let (iccid, eid) = ("89149999999999999999".parse().unwrap(), "9".repeat(32).parse().unwrap());
        Some(Subscription { iccid, eid, imsi, msisdn: None, card: Vec::new() })
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }

    fn another(&self) -> Arc<dyn Carrier> {
        adapter(config(&self.hlr))
    }
}

#[async_trait]
impl Peer for Net {
    async fn stop(&self) {
        self.hlr.order("stop");
    }

    async fn start(&self) {
        self.hlr.order("start");
    }

    async fn freeze(&self) {
        self.hlr.order("freeze");
    }

    async fn thaw(&self) {
        self.hlr.order("thaw");
    }

    async fn deadline(&self) {
        RealTime.sleep(Duration::from_millis(300)).await;
    }
}

fn imsi(of: &Subscription) -> &Imsi {
    of.imsi.as_ref().expect("each has one")
}

async fn told(carrier: &dyn Carrier, operation: Operation) -> Reply {
    let (sender, mut replies) = mpsc::unbounded_channel();
    let id = operation.id;
    carrier.apply(vec![operation], sender).await;
    let (of, reply) = replies.recv().await.expect("each operation has a reply");
    assert_eq!(of, id);
    reply
}

const AT_NEXT_REGISTRATION: Reply = Reply::Done(Effect::AtNextRegistration);
const NOW: Reply = Reply::Done(Effect::Now);

#[tokio::test]
async fn an_osmo_hlr_conforms() {
    conformance::conforms(&Net::start()).await;
}

#[tokio::test]
async fn an_osmo_hlr_conforms_where_serving_nodes_are_kicked() {
    let net = Net::kicking();
    conformance::repeating_an_operation_is_safe(&net).await;
    conformance::a_suspended_profile_is_resumed(&net).await;
    conformance::batches_run_side_by_side(&net).await;
    conformance::a_call_dropped_midway_is_settled_by_repeating(&net).await;
    conformance::a_peer_that_is_not_there_is_unavailable_and_nothing_begun(&net).await;
    conformance::a_peer_that_freezes_is_settled_by_repeating(&net).await;

    kicks_are_heard(&net).await;
    a_node_that_has_forgotten_is_not_asked_to_let_go(&net).await;
    each_connection_has_a_name_of_its_own(&net).await;
    a_node_that_is_silent_or_gone_is_no_reason_to_wait(&net).await;
}

async fn kicks_are_heard(net: &Net) {
    let of = net.subscriber().await;
    assert_eq!(net.told(&of, EndState::Suspended).await, NOW, "nobody serves who never registered");
    assert_eq!(net.told(&of, EndState::InService).await, AT_NEXT_REGISTRATION);
    assert_eq!(net.serves(imsi(&of).as_str()), (Told::Accepted, Told::Accepted));
    net.node.cancelled();
    assert_eq!(net.told(&of, EndState::Suspended).await, NOW, "the node that serves it has let go");
    let heard = net.node.cancelled();
    assert_eq!(heard.len(), 1, "a node that serves both services is told once: {heard:?}");
    assert_eq!((heard[0].imsi.as_str(), heard[0].kind), (imsi(&of).as_str(), 1));
    assert!(heard[0].by.starts_with("REVEILLE-5EED"), "{heard:?}");
    assert_eq!(net.told(&of, EndState::Suspended).await, Reply::AlreadySo);
    assert_eq!(net.node.cancelled().len(), 1, "the try before may have died before it came to that");
}

async fn a_node_that_has_forgotten_is_not_asked_to_let_go(net: &Net) {
    let of = net.subscriber().await;
    let imsi = imsi(&of).as_str();
    assert_eq!(net.serves(imsi), (Told::Accepted, Told::Accepted));
    net.node.purge(imsi, Domain::Ps);
    net.node.purge(imsi, Domain::Cs);
    net.node.cancelled();
    assert_eq!(net.told(&of, EndState::Suspended).await, NOW);
    assert_eq!(net.node.cancelled(), []);
}

/// The HLR takes a name twice, and would answer the connection that it has not yet noticed to be dead.
async fn each_connection_has_a_name_of_its_own(net: &Net) {
    let mut names = Vec::new();
    for _ in 0..2 {
        let of = net.subscriber().await;
        assert_eq!(net.serves(imsi(&of).as_str()), (Told::Accepted, Told::Accepted));
        assert_eq!(net.told(&of, EndState::Suspended).await, NOW);
        names.extend(net.node.cancelled().into_iter().map(|heard| heard.by));
        net.stop().await;
        net.start().await;
        while net.carrier.probe().await != Health::Ok {} // it may learn only now that it was cut off
    }
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

async fn a_node_that_is_silent_or_gone_is_no_reason_to_wait(net: &Net) {
    let of = net.subscriber().await;
    let imsi = imsi(&of).as_str();
    assert_eq!(net.serves(imsi), (Told::Accepted, Told::Accepted));
    net.node.answers.store(false, Ordering::Relaxed);
    net.node.cancelled();
    assert_eq!(net.told(&of, EndState::Suspended).await, AT_NEXT_REGISTRATION, "it does not answer");
    assert_eq!(net.node.cancelled().len(), 1);
    assert_eq!(net.told(&of, EndState::InService).await, AT_NEXT_REGISTRATION);
    net.node.leave();
    assert_eq!(net.told(&of, EndState::Suspended).await, AT_NEXT_REGISTRATION, "it is not there");
    net.node.answers.store(true, Ordering::Relaxed);
    assert_eq!(net.carrier.probe().await, Health::Ok);
}

/// What is peculiar to an HLR, all on one, since each test process has few.
#[tokio::test]
async fn an_osmo_hlr_is_driven_as_it_must_be() {
    let net = Net::start();
    a_subscriber_without_imsi_or_unknown_is_rejected(&net).await;
    a_service_that_is_not_ours_stays_as_it_is(&net).await;
    a_database_that_is_locked_is_tried_again_later(&net).await;
    commands_that_others_left_do_not_come_last(&net).await;
    a_frozen_hlr_is_connected_to_and_not_well(&net).await;
    a_gsup_port_that_is_not_there_is_no_reason_to_stop(&net).await;
    an_hlr_that_is_not_there_is_named(&net).await;
}

async fn a_subscriber_without_imsi_or_unknown_is_rejected(net: &Net) {
    let nameless = Subscription { imsi: None, ..net.subscriber().await };
    let reason = match net.told(&nameless, EndState::Suspended).await {
        Reply::Rejected { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("IMSI is not in the inventory"), "{reason}");
    let stranger = net.stranger().await.unwrap();
    let rejected = net.told(&stranger, EndState::Suspended).await;
    assert_eq!(
        rejected,
        Reply::Rejected { reason: "The network has no subscriber with the profile's IMSI".into() }
    );
    assert_eq!(net.serves(imsi(&stranger).as_str()), (UNKNOWN, UNKNOWN));
}

async fn a_service_that_is_not_ours_stays_as_it_is(net: &Net) {
    let of = net.subscriber().await;
    let name = imsi(&of).as_str();
    let ours = adapter(OsmoHlrConfig { services: vec![Service::Ps], ..config(&net.hlr) });
    net.hlr.ctrl().all([format!("SET subscriber.by-imsi-{name}.cs-enabled 0")]);
    assert_eq!(told(&*ours, net.operation(&of, EndState::InService)).await, Reply::AlreadySo);
    assert_eq!(net.serves(name), (Told::Accepted, NO_CS), "a data-only SIM is given no voice");
    assert_eq!(told(&*ours, net.operation(&of, EndState::Suspended)).await, AT_NEXT_REGISTRATION);
    assert_eq!(net.serves(name), (NO_PS, NO_CS));
    net.hlr.ctrl().all([format!("SET subscriber.by-imsi-{name}.cs-enabled 1")]);
    assert_eq!(told(&*ours, net.operation(&of, EndState::OutOfService)).await, Reply::AlreadySo);
    assert_eq!(net.serves(name), (NO_PS, Told::Accepted));
    assert_eq!(net.told(&of, EndState::Suspended).await, AT_NEXT_REGISTRATION, "half of it was so");
    assert_eq!(net.serves(name), (NO_PS, NO_CS));
}

/// Another process holds the database's write lock: an HLR then fails each change, and answers what it is asked.
async fn a_database_that_is_locked_is_tried_again_later(net: &Net) {
    let of = net.subscriber().await;
    let lock = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); \
                db.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()";
    let mut python = Command::new("python3");
    python.args(["-c", lock, &format!("{}/hlr.db", net.hlr.folder)]);
    let mut locking = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 is there");
    let mut said = String::new();
    BufReader::new(locking.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "locked\n");
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo);
    assert_eq!(net.told(&of, EndState::Suspended).await, Reply::RetryLater { after: None });
    drop(locking.stdin.take());
    locking.wait().unwrap();
    assert_eq!(net.shows(&of, EndState::InService).await, Some(true));
    assert_eq!(net.told(&of, EndState::Suspended).await, AT_NEXT_REGISTRATION);
}

/// Promise 4 on a real network. Other processes have sent suspensions that the frozen HLR has not read. When it goes
/// on, the last of them is suspended again by this process, and then resumed.
async fn commands_that_others_left_do_not_come_last(net: &Net) {
    for (begun_before, expected) in [(false, Some(false)), (true, Some(true))] {
        let subscriptions = net.fresh(64).await;
        let last = subscriptions.last().unwrap();
        let mut others: Vec<Ctrl> = std::iter::repeat_with(|| net.hlr.ctrl()).take(32).collect();
        net.freeze().await;
        for other in &mut others {
            for of in &subscriptions {
                other.send(&format!("SET subscriber.by-imsi-{}.ps-enabled 0", imsi(of).as_str()));
            }
        }
        let ours = adapter(config(&net.hlr));
        let suspend = Operation { begun_before, ..net.operation(last, EndState::Suspended) };
        let thawing = async {
            net.deadline().await;
            net.thaw().await;
        };
        let (suspended, ()) = tokio::join!(told(&*ours, suspend), thawing);
        assert_eq!(suspended, AT_NEXT_REGISTRATION);
        assert_eq!(told(&*ours, net.operation(last, EndState::InService)).await, AT_NEXT_REGISTRATION);
        for other in &mut others {
            (0..subscriptions.len()).for_each(|_| drop(other.answer()));
        }
        let shows = net.shows(last, EndState::InService).await;
        assert_eq!(
            shows, expected,
            "what others left is waited for where it was begun before, and only there"
        );
    }
}

async fn a_frozen_hlr_is_connected_to_and_not_well(net: &Net) {
    assert_eq!(net.carrier.probe().await, Health::Ok);
    net.freeze().await;
    tokio::select! {
        biased;
        health = net.carrier.probe() => panic!("a frozen HLR answers nothing; said: {health:?}"),
        () = net.deadline() => {}
    }
    net.thaw().await;
    assert_eq!(net.carrier.probe().await, Health::Ok);
}

async fn a_gsup_port_that_is_not_there_is_no_reason_to_stop(net: &Net) {
    let kick = Some(format!("{}:4221", net.hlr.address));
    let carrier = adapter(OsmoHlrConfig { kick, ..config(&net.hlr) });
    let Health::Degraded(words) = carrier.probe().await else { panic!("its GSUP port is not there") };
    assert!(words.contains(":4221 refuses connections: start osmo-hlr, or correct `kick`"), "{words}");
    let of = net.subscriber().await;
    assert_eq!(net.serves(imsi(&of).as_str()), (Told::Accepted, Told::Accepted));
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, AT_NEXT_REGISTRATION);
}

async fn an_hlr_that_is_not_there_is_named(net: &Net) {
    let of = net.subscriber().await;
    net.stop().await;
    let words = match net.told(&of, EndState::Suspended).await {
        Reply::Unavailable(Trouble::Transport(words)) => words,
        other => panic!("{other:?}"),
    };
    assert!(words.contains(&format!("The HLR's control interface at {}:4259", net.hlr.address)), "{words}");
    let Health::Down(Trouble::Transport(words)) = net.carrier.probe().await else { panic!("it is stopped") };
    assert!(words.ends_with("refuses connections: start osmo-hlr, or correct `address`"), "{words}");
    let observed = net.carrier.observe(&[]).await;
    assert!(observed.is_empty());
}
