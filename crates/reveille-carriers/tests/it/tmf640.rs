//! The adapter on a server of the test's own: what tmf-mock has not.

use crate::real_time::RealTime;
use crate::stub::{BASE, Said, Seen, Stub};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::tmf640::{Access, Tmf640, Tmf640Config};
use reveille_carriers::{Carrier, Effect, Health, Notice, Operation, Reply, Trouble, Unheard, name_in};
use reveille_domain::clock::ManualClock;
use reveille_domain::{Clock, EndState, OperationId, RequestId, Timestamp};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const DONE: Reply = Reply::Done(Effect::Now);
const SOMEBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Net {
    stub: Stub,
    carrier: Arc<Tmf640>,
    last: AtomicU64,
}

impl Net {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(configure: impl FnOnce(&mut Tmf640Config)) -> Self {
        let stub = Stub::start().await;
        let mut config = config(&stub);
        configure(&mut config);
        Self { carrier: adapter(&config), stub, last: AtomicU64::new(1) }
    }

    /// A service of that state, which nobody has touched.
    async fn service(&self, state: &str) -> Subscription {
        let of = self.fresh(1).await.remove(0);
        self.stub.state().services.get_mut(of.iccid.as_str()).unwrap().0 = state.into();
        of
    }

    async fn told(&self, of: &Subscription, end: EndState) -> Reply {
        told(&*self.carrier, operation(of, end)).await
    }

    fn state(&self, of: &Subscription) -> String {
        self.stub.state().services[of.iccid.as_str()].0.clone()
    }
}

fn config(stub: &Stub) -> Tmf640Config {
    Tmf640Config {
        url: format!("http://{}", stub.address),
        base_path: BASE.into(),
        service_id: "{iccid}".into(),
        out_of_service: "inactive".into(),
        probe: "/service?limit=1".into(),
        ask_after: Duration::from_secs(60),
        in_flight: 32,
        late_within: Duration::from_millis(100),
        ..Tmf640Config::default()
    }
}

fn adapter(config: &Tmf640Config) -> Arc<Tmf640> {
    Arc::new(Tmf640::new(config, Arc::new(RealTime)).unwrap())
}

pub(crate) fn operation(of: &Subscription, end_state: EndState) -> Operation {
    static LAST: AtomicU64 = AtomicU64::new(1 << 40);
    let request = RequestId::from_random(LAST.fetch_add(1, Ordering::Relaxed).into());
    conformance::operation(OperationId { request, number: 1 }, of, end_state)
}

/// The same operation, as it comes back when it was accepted under that handle.
fn accepted(operation: &Operation, handle: &str, heard: bool) -> Operation {
    let heard = heard.then(|| "look".into());
    Operation { accepted_as: Some(handle.into()), heard, begun_before: true, ..operation.clone() }
}

pub(crate) async fn told(carrier: &dyn Carrier, operation: Operation) -> Reply {
    let (sender, mut replies) = mpsc::unbounded_channel();
    let id = operation.id;
    carrier.apply(vec![operation], sender).await;
    let (of, reply) = replies.recv().await.expect("each operation has a reply");
    assert_eq!(of, id);
    reply
}

fn pending(reply: Reply) -> (Box<str>, Duration) {
    let Reply::Pending { handle, ask_after } = reply else { panic!("it is accepted for later: {reply:?}") };
    (handle, ask_after)
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
            imsi: None,
            msisdn: None,
            card: Vec::new(),
        };
        let fresh: Vec<Subscription> = numbers.take(count).map(subscription).collect();
        let known = fresh.iter().map(|of| (of.iccid.as_str().to_owned(), ("inactive".to_owned(), 1)));
        self.stub.state().services.extend(known);
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("a service knows no ends on the card")
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        Some((self.state(of) == "active") == (end == EndState::InService))
    }

    async fn stranger(&self) -> Option<Subscription> {
        let (iccid, eid) = ("89149999999999999999".parse().unwrap(), "9".repeat(32).parse().unwrap());
        Some(Subscription { iccid, eid, imsi: None, msisdn: None, card: Vec::new() })
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }

    fn another(&self) -> Arc<dyn Carrier> {
        adapter(&config(&self.stub))
    }
}

#[async_trait]
impl Peer for Net {
    async fn stop(&self) {
        self.stub.stop().await;
    }

    async fn start(&self) {
        self.stub.start_again().await;
    }

    async fn freeze(&self) {
        self.stub.freeze(true);
    }

    async fn thaw(&self) {
        self.stub.freeze(false);
    }

    async fn deadline(&self) {
        RealTime.sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_server_without_entity_tags_conforms() {
    conformance::conforms(&Net::start().await).await;
}

#[tokio::test]
async fn a_server_with_entity_tags_conforms() {
    let net = Net::with(|config| config.late_within = Duration::ZERO).await;
    net.stub.state().tags = true;
    conformance::repeating_an_operation_is_safe(&net).await;
    conformance::batches_run_side_by_side(&net).await;
    conformance::a_call_dropped_midway_is_settled_by_repeating(&net).await;
    conformance::a_peer_that_stops_midway_is_settled_by_repeating(&net).await;
    conformance::a_peer_that_freezes_is_settled_by_repeating(&net).await;
    conformance::what_was_left_on_a_connection_does_not_come_last(&net).await;
}

/// Has a suspension sent that is cut off, and lies unread at the server.
async fn cut_off(net: &Net, of: &Subscription) {
    net.stub.hold_next_change();
    tokio::select! {
        _told = net.told(of, EndState::Suspended) => panic!("the server lies on it"),
        () = net.stub.holds_one() => {}
    }
}

fn begun_before(of: &Subscription, end: EndState) -> Operation {
    Operation { begun_before: true, ..operation(of, end) }
}

#[tokio::test]
async fn a_change_that_was_cut_off_is_not_overtaken_by_the_next_of_this_process() {
    let net = Net::start().await;
    let of = net.service("active").await;
    cut_off(&net, &of).await;
    let going_on = async {
        RealTime.sleep(Duration::from_millis(200)).await;
        assert!(
            !net.stub.calls().iter().any(|call| call.starts_with("PATCH")),
            "nothing is sent before it ends"
        );
        net.stub.let_go();
    };
    let (told, ()) = tokio::join!(net.told(&of, EndState::InService), going_on);
    assert_eq!((told, net.state(&of).as_str()), (DONE, "active"));
}

#[tokio::test]
async fn a_change_that_another_process_has_left_is_waited_for_a_while() {
    let net = Net::start().await;
    let of = net.service("active").await;
    cut_off(&net, &of).await;
    let other = net.another();
    let going_on = async {
        RealTime.sleep(Duration::from_millis(50)).await; // within `late_within`
        net.stub.let_go();
    };
    let (told, ()) = tokio::join!(told(&*other, begun_before(&of, EndState::Suspended)), going_on);
    assert_eq!(told, Reply::AlreadySo, "it was read after that");
}

/// Whether a change that another process has left, and that is carried out long after, comes last.
async fn comes_last(tags: bool) -> bool {
    let net = Net::start().await;
    net.stub.state().tags = tags;
    let of = net.service("active").await;
    cut_off(&net, &of).await;
    let other = net.another();
    assert_eq!(told(&*other, begun_before(&of, EndState::Suspended)).await, DONE);
    assert_eq!(told(&*other, operation(&of, EndState::InService)).await, DONE);
    net.stub.let_go();
    let left = |seen: &Seen| seen.call.starts_with("PATCH");
    while net.stub.state().seen.iter().filter(|seen| left(seen)).count() < 3 {
        tokio::task::yield_now().await;
    }
    net.state(&of) == "inactive"
}

#[tokio::test]
async fn a_change_that_comes_very_late_is_outdated_where_there_are_entity_tags_and_only_there() {
    assert!(!comes_last(true).await, "it is refused, as it is of an older version");
    assert!(comes_last(false).await, "as docs/carriers/tmf640.md says");
}

#[tokio::test]
async fn a_service_is_read_and_changed_once() {
    let net = Net::start().await;
    let of = net.service("inactive").await;
    let path = format!("{BASE}/service/{}", of.iccid.as_str());
    assert_eq!(net.told(&of, EndState::InService).await, DONE);
    let seen = net.stub.seen();
    assert_eq!(
        seen.iter().map(|seen| &seen.call).collect::<Vec<_>>(),
        [&format!("GET {path}"), &format!("PATCH {path}")]
    );
    assert_eq!(seen[1].body, r#"{"state":"active"}"#);
    assert_eq!(seen[1].media, "application/json;charset=utf-8");
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo);
    assert_eq!(net.stub.calls(), [format!("GET {path}")]);
    assert_eq!(net.told(&of, EndState::OutOfService).await, DONE);
    assert_eq!(net.state(&of), "inactive", "as that can be taken back");
}

#[tokio::test]
async fn a_state_that_is_not_told_is_read_back() {
    let net = Net::start().await;
    let of = net.service("inactive").await;
    net.stub.answers_next("PATCH", Said::new(204, Value::Null));
    let (handle, after) = pending(net.told(&of, EndState::InService).await);
    assert_eq!(after, Duration::from_secs(60), "it was taken, and is not so yet");
    let again = accepted(&operation(&of, EndState::InService), &handle, false);
    assert_eq!(told(&*net.carrier, again.clone()).await, DONE, "it is asked for again");
    assert_eq!(net.state(&of), "active");
    let hinted = Operation { heard: Some("look".into()), end_state: EndState::Suspended, ..again };
    let (other, _) = pending(told(&*net.carrier, hinted).await);
    assert_ne!(name_in(&other), name_in(&handle), "a hint is heard once, and changes nothing");
    assert_eq!(net.state(&of), "active");
}

#[tokio::test]
async fn what_is_accepted_is_asked_about_until_it_is_done() {
    let net = Net::start().await;
    net.stub.state().accepts = true;
    let of = net.service("inactive").await;
    let id = of.iccid.as_str().to_owned();
    let monitor = format!("m-{id}");
    let resume = operation(&of, EndState::InService);
    let (handle, _) = pending(told(&*net.carrier, resume.clone()).await);
    assert_eq!(&*handle, format!("{monitor}#{id}"));
    let again = accepted(&resume, &handle, false);
    net.stub.seen();
    assert_eq!(pending(told(&*net.carrier, again.clone()).await).0, handle, "it is under way");
    assert_eq!(net.stub.calls(), [format!("GET {BASE}/monitor/{monitor}")], "and not asked for again");

    net.stub.state().services.get_mut(&id).unwrap().0 = "active".into();
    net.stub.state().monitors.get_mut(&monitor).unwrap()["state"] = "Completed".into();
    assert_eq!(told(&*net.carrier, again.clone()).await, DONE);
    net.stub.state().monitors.clear();
    assert_eq!(told(&*net.carrier, again.clone()).await, DONE, "a monitor that is gone says nothing else");
    net.stub.state().services.get_mut(&id).unwrap().0 = "inactive".into();
    assert_eq!(pending(told(&*net.carrier, again).await).1, Duration::from_secs(60), "nor that it was done");
}

#[tokio::test]
async fn what_is_accepted_and_fails_is_told_or_asked_for_again() {
    let net = Net::start().await;
    let of = net.service("inactive").await;
    let resume = operation(&of, EndState::InService);
    for (response, expected) in [
        (
            json!({ "statusCode": "422", "body": r#"{"code":"9","reason":"Not provisioned"}"# }),
            Some(" 422 9 Not provisioned"),
        ),
        (Value::Null, Some("")),
        (json!({ "statusCode": "503" }), None),
        (json!({ "statusCode": 409 }), None),
    ] {
        let monitor = json!({ "id": "m", "state": "InError", "response": response });
        net.stub.state().monitors.insert("m".into(), monitor);
        let handle = format!("m#{}", of.iccid.as_str());
        let reply = told(&*net.carrier, accepted(&resume, &handle, false)).await;
        match expected {
            Some(words) => {
                let reason = format!("The network accepted the change, and it failed:{words}").into();
                assert_eq!(reply, Reply::Rejected { reason });
            }
            None => {
                let (later, after) = pending(reply);
                assert_eq!(after, Duration::from_secs(60));
                assert_eq!(told(&*net.carrier, accepted(&resume, &later, false)).await, DONE);
                net.stub.state().services.get_mut(of.iccid.as_str()).unwrap().0 = "inactive".into();
            }
        }
    }
}

#[tokio::test]
async fn refusals_and_troubles_are_told_apart() {
    let net = Net::start().await;
    let of = net.service("inactive").await;
    let said = |status, body: Value| Said::new(status, body);
    let v3 = json!({ "code": 22, "reason": "Invalid body", "message": "No enum match" });
    for (call, answer, expected) in [
        (
            "PATCH",
            said(400, v3),
            Reply::Rejected { reason: "The network refuses: 400 22 Invalid body No enum match".into() },
        ),
        (
            "PATCH",
            said(422, json!({ "detail": "illegal" })),
            Reply::Rejected { reason: "The network refuses: 422 illegal".into() },
        ),
        ("PATCH", said(405, Value::Null), Reply::Rejected { reason: "The network refuses: 405".into() }),
        ("PATCH", said(409, Value::Null), Reply::RetryLater { after: None }),
        (
            "PATCH",
            said(429, Value::Null).with("retry-after", "7"),
            Reply::RetryLater { after: Some(Duration::from_secs(7)) },
        ),
        ("PATCH", said(423, Value::Null), Reply::RetryLater { after: None }),
        ("PATCH", said(500, Value::Null), Reply::RetryLater { after: None }),
        (
            "PATCH",
            said(503, Value::Null).with("retry-after", "9"),
            Reply::RetryLater { after: Some(Duration::from_secs(9)) },
        ),
        (
            "GET",
            said(503, Value::Null).with("retry-after", "9"),
            Reply::RetryLater { after: Some(Duration::from_secs(9)) },
        ),
        (
            "GET",
            said(400, json!({ "detail": "no" })),
            Reply::Rejected { reason: "The network refuses: 400 no".into() },
        ),
        ("GET", said(200, json!("<html>")), Reply::RetryLater { after: None }),
    ] {
        let status = answer.status;
        net.stub.answers_next(call, answer);
        assert_eq!(net.told(&of, EndState::InService).await, expected, "{call} {status}");
        assert_eq!(net.state(&of), "inactive", "{call} {status}");
    }
    for (call, status) in [("PATCH", 401), ("PATCH", 403), ("GET", 403)] {
        net.stub.answers_next(call, said(status, json!({ "code": "41", "reason": "Who are you" })));
        let reply = net.told(&of, EndState::InService).await;
        let Reply::Unavailable(Trouble::Credentials(words)) = reply else {
            panic!("{call} {status}: {reply:?}")
        };
        assert!(words.contains(&format!("answers {status} (41 Who are you)")), "{words}");
    }
    net.stub.answers_next("PATCH", said(302, Value::Null));
    assert!(matches!(net.told(&of, EndState::InService).await, Reply::Unavailable(Trouble::Transport(_))));
}

#[tokio::test]
async fn a_change_that_failed_and_was_done_all_the_same_is_done() {
    for status in [500, 502, 408] {
        let net = Net::start().await;
        let of = net.service("inactive").await;
        net.stub.freeze(true);
        let resumed = net.told(&of, EndState::InService);
        let meanwhile = async {
            RealTime.sleep(Duration::from_millis(20)).await;
            net.stub.answers_next("GET", Said::new(200, json!({ "id": "x", "state": "inactive" })));
            net.stub.answers_next("PATCH", Said::new(status, Value::Null));
            net.stub.state().services.get_mut(of.iccid.as_str()).unwrap().0 = "active".into();
            net.stub.freeze(false);
        };
        let (reply, ()) = tokio::join!(resumed, meanwhile);
        assert_eq!(reply, DONE, "{status}");
    }
}

#[tokio::test]
async fn a_service_that_somebody_else_changes_is_read_again() {
    let net = Net::start().await;
    net.stub.state().tags = true;
    let of = net.service("inactive").await;
    net.stub.answers_next("GET", Said::new(200, json!({ "state": "inactive" })).with("etag", "\"0\""));
    assert_eq!(net.told(&of, EndState::InService).await, DONE);
    let tags: Vec<String> = net.stub.seen().into_iter().map(|seen| seen.if_match).collect();
    assert_eq!(tags, ["", "\"0\"", "", "\"1\""]);
    let weak = Said::new(200, json!({ "state": "active" })).with("etag", "W/\"2\"");
    net.stub.answers_next("GET", weak);
    assert_eq!(net.told(&of, EndState::Suspended).await, DONE);
    assert!(net.stub.seen().iter().all(|seen| seen.if_match.is_empty()), "a weak one matches nothing");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_from_a_server_that_is_not_it() {
    let net = Net::start().await;
    let stranger = net.stranger().await.unwrap();
    let reason = "The network has no service of the profile: 60 Resource not found".into();
    assert_eq!(net.told(&stranger, EndState::InService).await, Reply::Rejected { reason });
    let lost = adapter(&Tmf640Config { base_path: "/tmg".into(), ..config(&net.stub) });
    let reply = told(&*lost, operation(&net.service("inactive").await, EndState::InService)).await;
    assert!(matches!(reply, Reply::Unavailable(Trouble::Transport(_))), "{reply:?}");
}

#[tokio::test]
async fn a_lookup_finds_one_service_or_says_why_not() {
    let query = "serviceCharacteristic.name=iccid&serviceCharacteristic.value={iccid}";
    let net = Net::with(|config| config.lookup = Some(query.into())).await;
    let of = net.service("inactive").await;
    let id = of.iccid.as_str();
    net.stub.answers_next("GET /tmf/service?", Said::new(200, json!([{ "id": id, "state": "inactive" }])));
    assert_eq!(net.told(&of, EndState::InService).await, DONE);
    let calls = net.stub.calls();
    assert_eq!(calls[0], format!("GET {BASE}/service?{}", query.replace("{iccid}", id)));
    assert_eq!(calls[1], format!("PATCH {BASE}/service/{id}"));
    net.stub.answers_next("GET /tmf/service?", Said::new(200, json!([{ "href": format!("/x/{id}") }])));
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo, "a list may say little of each");
    net.stub.state().services.insert("1".into(), ("inactive".into(), 1)); // somebody else's
    for (all, expected) in [
        (json!([]), "no service"),
        (json!([{ "id": "1" }, { "id": "2" }]), "more than one service"),
        (json!([{ "id": "1", "state": "inactive" }]), "does not name the profile"),
    ] {
        net.stub.answers_next("GET /tmf/service?", Said::new(200, all));
        let reply = net.told(&of, EndState::InService).await;
        let Reply::Rejected { reason } = reply else { panic!("{reply:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
    net.stub.answers_next("GET /tmf/service?", Said::new(200, json!({ "fault": "of a gateway" })));
    assert_eq!(net.told(&of, EndState::InService).await, Reply::RetryLater { after: None });
    assert!(!net.stub.calls().iter().any(|call| call.starts_with("PATCH")), "and nobody's is changed");
}

#[tokio::test]
async fn a_name_that_the_inventory_does_not_have_is_said() {
    let net = Net::with(|config| config.service_id = "tel-{msisdn}".into()).await;
    let of = net.service("inactive").await;
    let reply = net.told(&of, EndState::InService).await;
    let Reply::Rejected { reason } = reply else { panic!("{reply:?}") };
    assert!(reason.contains("phone number"), "{reason}");
    assert!(!net.carrier.capabilities().needs_imsi);
    assert!(
        adapter(&Tmf640Config { service_id: "{imsi}".into(), ..config(&net.stub) }).capabilities().needs_imsi
    );
    assert!(net.stub.calls().is_empty());
}

#[tokio::test]
async fn events_wake_who_waits_and_settle_nothing() {
    let door = "http://reveille.example/api/reveille/v1/carriers/global/callbacks";
    let with_door = |config: Tmf640Config| Tmf640Config {
        callback_url: Some(door.into()),
        callback_query: "eventType=ServiceStateChangeEvent".into(),
        callback_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..config
    };
    let net = Net::with(|config| *config = with_door(config.clone())).await;
    net.stub.state().accepts = true;
    let of = net.service("inactive").await;
    let resume = operation(&of, EndState::InService);
    let (handle, _) = pending(told(&*net.carrier, resume.clone()).await);
    net.told(&of, EndState::InService).await;
    let registered = json!({ "callback": door, "query": "eventType=ServiceStateChangeEvent" });
    assert_eq!(net.stub.state().hubs, [registered], "once");

    let event = |service: &str| {
        json!({ "eventId": "1", "event": { "service": { "id": service, "state": "active" } } }).to_string()
    };
    let hear = |carrier: &Tmf640, body: &str| carrier.hear(SOMEBODY, body.as_bytes());
    let notice =
        |name: &str| vec![Notice { name: name.into(), iccid: of.iccid.clone(), text: "look".into() }];
    let id = of.iccid.as_str();
    assert_eq!(hear(&net.carrier, &event(id)), Ok(notice(name_in(&handle))));
    assert_eq!(hear(&net.carrier, &event("another")), Ok(Vec::new()));
    assert_eq!(hear(&net.carrier, "{}"), Err(Unheard::Unreadable));
    assert_eq!(net.carrier.hear("10.0.0.1".parse().unwrap(), event(id).as_bytes()), Err(Unheard::Stranger));

    let (next, _) = pending(told(&*net.carrier, accepted(&resume, &handle, true)).await);
    assert_ne!(name_in(&next), name_in(&handle), "it came too early, and the next one is heard too");
    assert_eq!(hear(&net.carrier, &event(id)), Ok(notice(name_in(&next))));
    net.stub.state().monitors.clear();
    net.stub.state().services.get_mut(id).unwrap().0 = "active".into();
    assert_eq!(told(&*net.carrier, accepted(&resume, &next, true)).await, DONE);
    assert_eq!(hear(&net.carrier, &event(id)), Ok(Vec::new()), "nobody waits any more");

    let elsewhere = adapter(&with_door(config(&net.stub)));
    let about_monitor = json!({ "event": { "monitor": { "id": "m-1", "state": "Completed", "sourceHref": format!("http://h/service/{id}") } } });
    assert_eq!(
        hear(&elsewhere, &about_monitor.to_string()),
        Ok(notice("m-1")),
        "another node may wait for it"
    );
    let silent = adapter(&config(&net.stub));
    assert_eq!(hear(&silent, &event(id)), Err(Unheard::NotExpected));
}

#[tokio::test]
async fn a_door_that_is_known_already_is_not_registered_again_and_one_that_is_not_taken_is_told() {
    let door = "http://reveille.example/api/reveille/v1/carriers/global/callbacks";
    let with_door = |config: &mut Tmf640Config| {
        config.callback_url = Some(door.into());
        config.callback_from = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let net = Net::with(with_door).await;
    let of = net.service("inactive").await;
    net.stub.answers_next("POST /tmf/hub", Said::new(403, Value::Null));
    net.told(&of, EndState::InService).await;
    let Health::Degraded(words) = net.carrier.probe().await else { panic!("events do not come") };
    assert!(words.contains("so outcomes are asked for"), "{words}");
    for known in ["GET /tmf/hub", "POST /tmf/hub"] {
        let mut known_already = config(&net.stub);
        with_door(&mut known_already);
        let carrier = adapter(&known_already);
        let said = if known.starts_with("GET") {
            Said::new(200, json!([{ "id": "1", "callback": door }]))
        } else {
            Said::new(409, json!({ "code": "29", "reason": "Duplicate" }))
        };
        net.stub.answers_next(known, said);
        told(&*carrier, operation(&of, EndState::InService)).await;
        assert_eq!(carrier.probe().await, Health::Ok, "{known}");
    }
    assert!(net.stub.state().hubs.is_empty());
}

#[tokio::test]
async fn a_token_that_stays_is_shown_and_never_told() {
    let net = Net::start().await;
    let of = net.service("inactive").await;
    net.stub.state().token = Some("s3cret".into());
    let with =
        |token: &str| adapter(&Tmf640Config { access: Access::Token(token.into()), ..config(&net.stub) });
    assert_eq!(told(&*with("s3cret"), operation(&of, EndState::InService)).await, DONE);
    for carrier in [with("wr0ng"), net.carrier.clone()] {
        let Health::Down(Trouble::Credentials(words)) = carrier.probe().await else {
            panic!("it is not let in")
        };
        assert!(words.contains("tmf640.token_file") && !words.contains("wr0ng"), "{words}");
    }
}

#[tokio::test]
async fn tokens_are_fetched_once_and_renewed_before_they_end_or_when_they_are_refused() {
    let stub = Stub::start().await;
    let access = Access::Client {
        token_url: format!("http://{}/login/token", stub.address),
        id: "client:1".into(),
        secret: "s3cret".into(),
        scope: "service write".into(),
    };
    let clock = ManualClock::new(Timestamp(0));
    let config = Tmf640Config { access, ..config(&stub) };
    let carrier = Tmf640::new(&config, Arc::new(clock.clone())).unwrap();
    let gives = |token: &str| {
        let lasts = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3_600 });
        stub.answers_next("POST /login/token", Said::new(200, lasts));
        stub.state().token = Some(token.into());
    };
    gives("first");
    assert_eq!((carrier.probe().await, carrier.probe().await), (Health::Ok, Health::Ok));
    let seen = stub.seen();
    assert_eq!(seen.len(), 3, "a token, and two calls: {seen:?}");
    assert_eq!(seen[0].authorization, "Basic Y2xpZW50JTNBMTpzM2NyZXQ=", "client%3A1:s3cret");
    assert_eq!(seen[0].body, "grant_type=client_credentials&scope=service%20write");
    assert_eq!(seen[0].media, "application/x-www-form-urlencoded");

    clock.advance(Duration::from_secs(3_569));
    assert_eq!((carrier.probe().await, stub.seen().len()), (Health::Ok, 1));
    clock.advance(Duration::from_secs(2));
    gives("second");
    assert_eq!((carrier.probe().await, stub.seen().len()), (Health::Ok, 2), "a moment before it ends");

    gives("third");
    assert_eq!((carrier.probe().await, stub.seen().len()), (Health::Ok, 3), "refused, renewed, made again");
    gives("fourth");
    stub.state().token = Some("another".into());
    let Health::Down(Trouble::Credentials(words)) = carrier.probe().await else { panic!("once") };
    assert!(words.contains("the token that it has just been given"), "{words}");

    stub.answers_next("POST /login/token", Said::new(401, json!({ "error": "invalid_client" })));
    clock.advance(Duration::from_secs(3_600));
    let Health::Down(Trouble::Credentials(words)) = carrier.probe().await else { panic!("it is refused") };
    assert!(words.contains("does not accept the client (invalid_client)"), "{words}");
    assert!(!words.contains("s3cret") && !format!("{config:?}").contains("s3cret"), "{words}");
    stub.answers_next("POST /login/token", Said::new(503, Value::Null));
    let Health::Down(Trouble::Transport(words)) = carrier.probe().await else { panic!("it is not there") };
    assert!(words.contains("tmf640.token_url"), "{words}");
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(Vec::new()).unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = pem("CERTIFICATE", wanted.self_signed(&key).unwrap().der());
        Self { pem, issuer: Issuer::new(wanted, key) }
    }

    /// A certificate and its key, in PEM.
    fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let wanted = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = wanted.signed_by(&key, &self.issuer).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }
}

#[tokio::test]
async fn both_sides_show_certificates() {
    use rustls::pki_types::pem::PemObject;
    let (authority, other) = (Authority::new(), Authority::new());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let (certificate, key) = authority.signs("127.0.0.1");
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    let stub = Stub::with(Some(tls)).await;
    let with = |authority: &Authority, identity: Option<(String, String)>| {
        let identity = identity.map(|(chain, key)| (chain.into_bytes(), key.into_bytes()));
        let url = format!("https://{}", stub.address);
        adapter(&Tmf640Config {
            url,
            authorities: Some(authority.pem.clone().into()),
            identity,
            ..config(&stub)
        })
    };
    let ours = authority.signs("reveille");
    assert_eq!(with(&authority, Some(ours.clone())).probe().await, Health::Ok);
    for (trusted, identity) in
        [(&authority, None), (&authority, Some(other.signs("reveille"))), (&other, Some(ours))]
    {
        let health = with(trusted, identity).probe().await;
        assert!(matches!(health, Health::Down(Trouble::Transport(_))), "{health:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_said_with_a_remedy() {
    let good = Tmf640Config {
        url: "https://oss.example".into(),
        base_path: "/tmf-api/ServiceActivationAndConfiguration/v4".into(),
        service_id: "{iccid}".into(),
        out_of_service: "inactive".into(),
        probe: "/service?limit=1".into(),
        ask_after: Duration::from_secs(1),
        in_flight: 1,
        ..Tmf640Config::default()
    };
    assert_eq!(good.check(), Ok(()));
    assert_eq!(Tmf640Config { base_path: String::new(), ..good.clone() }.check(), Ok(()));
    let client = |token_url: &str, secret: &str| Access::Client {
        token_url: token_url.into(),
        id: "id".into(),
        secret: secret.into(),
        scope: String::new(),
    };
    let pem = |text: &str| text.as_bytes().to_vec();
    for (config, remedy) in [
        (Tmf640Config { url: "https://h/tmf".into(), ..good.clone() }, "origin without a path"),
        (Tmf640Config { base_path: "tmf".into(), ..good.clone() }, "begins with \"/\""),
        (Tmf640Config { base_path: "/tmf/".into(), ..good.clone() }, "base_path"),
        (Tmf640Config { probe: "service".into(), ..good.clone() }, "probe"),
        (Tmf640Config { service_id: "x".into(), ..good.clone() }, "{iccid}"),
        (Tmf640Config { lookup: Some("a b={iccid}".into()), ..good.clone() }, "lookup"),
        (Tmf640Config { out_of_service: "gone".into(), ..good.clone() }, "\"terminated\""),
        (Tmf640Config { access: client("https://h", "s"), ..good.clone() }, "token_url"),
        (Tmf640Config { access: client("https://h/t", ""), ..good.clone() }, "client_secret"),
        (Tmf640Config { authorities: Some(pem("x")), ..good.clone() }, "ca_file"),
        (Tmf640Config { identity: Some((pem("x"), pem("y"))), ..good.clone() }, "certificate_file"),
        (Tmf640Config { authorities: Some(pem("x")), url: "http://h".into(), ..good.clone() }, "no https"),
        (Tmf640Config { callback_url: Some("here".into()), ..good.clone() }, "carriers/NETWORK/callbacks"),
        (Tmf640Config { callback_url: Some("https://h/x".into()), ..good.clone() }, "callback_from"),
        (Tmf640Config { ask_after: Duration::ZERO, ..good.clone() }, "ask_after"),
        (Tmf640Config { in_flight: 0, ..good.clone() }, "in_flight"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(remedy), "{error}");
    }
}
