//! The adapter on a real nextepc-hss and its database, seen by what a handset is told that asks for service.

use crate::hss::Hss;
use crate::real_time::RealTime;
use crate::s6a::{BARRED, GRANTED, UNKNOWN};
use crate::stalling::Stalling;
use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::open5gs::{Mode, Open5gs, Open5gsConfig};
use reveille_carriers::{Carrier, Effect, Health, Operation, Reply, Trouble};
use reveille_domain::{Clock, EndState, Imsi, OperationId, RequestId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// The HSS takes milliseconds to answer: of more subscriptions than this, some are asked about.
const ALL_ARE_ASKED_ABOUT: usize = 1000;

/// One in so many, then.
const SOME: u64 = 64;

/// An HSS, an adapter to its database, and a serving node that asks it for service.
struct Net {
    hss: Hss,
    mode: Mode,
    carrier: Arc<Open5gs>,
    last: AtomicU64,
}

impl Net {
    async fn start(mode: Mode) -> Self {
        let hss = Hss::start().await;
        let carrier = adapter(config(&hss, mode));
        Self { hss, mode, carrier, last: AtomicU64::new(1) }
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
}

fn adapter(config: Open5gsConfig) -> Arc<Open5gs> {
    config.check().unwrap();
    Arc::new(Open5gs::new(config, Arc::new(RealTime)))
}

fn config(hss: &Hss, mode: Mode) -> Open5gsConfig {
    Open5gsConfig { url: hss.url(), database: "nextepc".into(), mode, ..Open5gsConfig::default() }
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
        let kind = if count > ALL_ARE_ASKED_ABOUT { "89149" } else { "89148" };
        let subscription = |number: u64| Subscription {
            iccid: format!("{kind}{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: Some(format!("00101{number:010}").parse().unwrap()),
            msisdn: None,
            card: Vec::new(),
        };
        let fresh: Vec<Subscription> = numbers.take(count).map(subscription).collect();
        let imsis: Vec<String> = fresh.iter().map(|of| imsi(of).as_str().into()).collect();
        self.hss.create(&imsis).await;
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("an HSS knows no ends on the card")
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        let number: u64 = of.iccid.as_str()[5..].parse().unwrap();
        if of.iccid.as_str().starts_with("89149") && !number.is_multiple_of(SOME) {
            return None;
        }
        let served = match (self.mode, self.hss.mme.locate(imsi(of).as_str())) {
            (_, GRANTED) => Some(true),
            (Mode::Hide, UNKNOWN) | (Mode::Status, BARRED) => Some(false),
            _ => None,
        };
        Some(served == Some(end == EndState::InService))
    }

    async fn stranger(&self) -> Option<Subscription> {
        let imsi = Some("001019999999999".parse().unwrap());
        let (iccid, eid) = ("89148999999999999999".parse().unwrap(), "9".repeat(32).parse().unwrap());
        Some(Subscription { iccid, eid, imsi, msisdn: None, card: Vec::new() })
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }

    fn another(&self) -> Arc<dyn Carrier> {
        adapter(config(&self.hss, self.mode))
    }
}

#[async_trait]
impl Peer for Net {
    async fn stop(&self) {
        self.hss.order("stop");
    }

    async fn start(&self) {
        self.hss.order("start");
        self.hss.wait_until_it_reads();
        while self.carrier.probe().await != Health::Ok {} // the driver looks for it twice a second
    }

    async fn freeze(&self) {
        self.hss.order("freeze");
    }

    async fn thaw(&self) {
        self.hss.order("thaw");
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

const DONE: Reply = Reply::Done(Effect::AtNextRegistration);

#[tokio::test]
async fn an_open5gs_conforms_where_subscribers_are_hidden() {
    conformance::conforms(&Net::start(Mode::Hide).await).await;
}

#[tokio::test]
async fn an_open5gs_conforms_where_subscribers_are_barred() {
    let net = Net::start(Mode::Status).await;
    conformance::repeating_an_operation_is_safe(&net).await;
    conformance::a_suspended_profile_is_resumed(&net).await;
    conformance::batches_run_side_by_side(&net).await;
    conformance::a_call_dropped_midway_is_settled_by_repeating(&net).await;
    conformance::every_end_that_is_known_is_reached_and_may_be_repeated(&net).await;
    conformance::an_unknown_subscription_is_rejected_and_disturbs_none(&net).await;
    conformance::observing_agrees_with_the_network_and_changes_nothing(&net).await;
    conformance::a_peer_that_freezes_is_settled_by_repeating(&net).await;
    conformance::what_was_left_on_a_connection_does_not_come_last(&net).await;
}

/// What has nothing to do with how access is taken needs one HSS only.
#[tokio::test]
async fn an_open5gs_is_left_to_its_operator_but_for_what_is_asked() {
    let net = Net::start(Mode::Hide).await;
    what_it_does_not_know_is_rejected_in_words(&net).await;
    nothing_but_the_imsi_and_our_own_field_is_changed(&net).await;
    a_bar_of_reveilles_gives_back_what_was_there(&net).await;
    a_bar_of_somebody_elses_is_left_to_them(&net).await;
    a_subscriber_hidden_by_somebody_else_is_left_to_them(&net).await;
    a_suspension_that_was_undone_by_hand_is_made_again(&net).await;
    a_subscriber_made_anew_while_it_was_hidden_is_not_touched(&net).await;
    a_status_that_the_hss_cannot_read_is_none(&net).await;
    a_cancellation_is_asked_for_before_a_subscriber_is_hidden(&net).await;
    a_change_that_was_held_up_does_not_come_last(&net).await;
    what_the_database_says_is_told_as_it_is_meant(&net).await;
    a_database_that_is_not_there_or_knows_us_not_is_named(&net).await;
}

async fn what_it_does_not_know_is_rejected_in_words(net: &Net) {
    let rejected = |reason: &str| Reply::Rejected { reason: reason.into() };
    let of = Subscription { imsi: None, ..net.subscriber().await };
    let reason = match net.told(&of, EndState::Suspended).await {
        Reply::Rejected { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("IMSI is not in the inventory"), "{reason}");
    let stranger = net.stranger().await.unwrap();
    let told = net.told(&stranger, EndState::Suspended).await;
    assert_eq!(told, rejected("The network has no subscriber with the profile's IMSI"));
}

/// All of a document but what is ours and the form of its IMSI.
fn theirs(document: Option<Document>) -> Document {
    let mut document = document.expect("there is such a subscriber");
    document.remove("reveille");
    document.remove("imsi");
    document
}

async fn nothing_but_the_imsi_and_our_own_field_is_changed(net: &Net) {
    let of = net.subscriber().await;
    let name = imsi(&of).as_str();
    let before = theirs(net.hss.find(name).await);
    assert_eq!(net.told(&of, EndState::Suspended).await, DONE);
    assert_eq!(net.hss.find(name).await, None);
    assert_eq!(net.hss.mme.attach(name), UNKNOWN);
    assert_eq!(theirs(net.hss.find(&format!("suspended:{name}")).await), before);
    assert_eq!(net.told(&of, EndState::OutOfService).await, Reply::AlreadySo);
    assert_eq!(net.told(&of, EndState::InService).await, DONE);
    assert_eq!(theirs(net.hss.find(name).await), before);
    assert_eq!(net.hss.mme.attach(name), GRANTED);
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo);
}

/// One mode only says how access is taken: either gives back what the other has taken.
async fn a_bar_of_reveilles_gives_back_what_was_there(net: &Net) {
    for before in [Some(4), None] {
        let of = net.subscriber().await;
        let name = imsi(&of).as_str();
        if let Some(before) = before {
            net.hss.change(name, doc! { "$set": { "operator_determined_barring": before } }).await;
        }
        let barring = adapter(config(&net.hss, Mode::Status));
        assert_eq!(told(&*barring, net.operation(&of, EndState::Suspended)).await, DONE);
        assert_eq!(net.hss.mme.attach(name), BARRED);
        let barred = net.hss.find(name).await.unwrap();
        assert_eq!(barred.get("operator_determined_barring"), Some(&Bson::Int32(1)));
        assert_eq!(net.told(&of, EndState::Suspended).await, DONE, "it was barred, and not hidden");
        assert_eq!(net.told(&of, EndState::InService).await, DONE);
        let given = net.hss.find(name).await.unwrap();
        assert_eq!(given.get("operator_determined_barring"), before.map(Bson::Int32).as_ref());
        assert_eq!(net.shows(&of, EndState::InService).await, Some(true));
    }
}

async fn is_left_to_others(net: &Net, of: &Subscription, in_service: &str) {
    match net.told(of, EndState::InService).await {
        Reply::Rejected { reason } => assert!(reason.contains("by other means"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(net.hss.find(in_service).await.is_some(), "it was left as it is");
}

async fn a_bar_of_somebody_elses_is_left_to_them(net: &Net) {
    let of = net.subscriber().await;
    let name = imsi(&of).as_str();
    net.hss.change(name, doc! { "$set": { "subscriber_status": 1 } }).await;
    is_left_to_others(net, &of, name).await;
    assert_eq!(net.hss.mme.attach(name), BARRED);
    let barring = adapter(config(&net.hss, Mode::Status));
    assert_eq!(told(&*barring, net.operation(&of, EndState::Suspended)).await, Reply::AlreadySo);
    is_left_to_others(net, &of, name).await;
    net.hss.change(name, doc! { "$set": { "subscriber_status": 0 } }).await;
    assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo);
}

async fn a_subscriber_hidden_by_somebody_else_is_left_to_them(net: &Net) {
    let of = net.subscriber().await;
    let (name, hidden) = (imsi(&of).as_str(), format!("suspended:{}", imsi(&of).as_str()));
    net.hss.change(name, doc! { "$set": { "imsi": &hidden } }).await;
    assert_eq!(net.told(&of, EndState::Suspended).await, Reply::AlreadySo);
    is_left_to_others(net, &of, &hidden).await;
}

async fn a_suspension_that_was_undone_by_hand_is_made_again(net: &Net) {
    let of = net.subscriber().await;
    let name = imsi(&of).as_str();
    assert_eq!(net.told(&of, EndState::Suspended).await, DONE);
    net.hss.change(&format!("suspended:{name}"), doc! { "$set": { "imsi": name } }).await;
    assert_eq!(net.told(&of, EndState::Suspended).await, DONE);
    assert_eq!(net.shows(&of, EndState::Suspended).await, Some(true));
}

async fn a_subscriber_made_anew_while_it_was_hidden_is_not_touched(net: &Net) {
    let of = net.subscriber().await;
    assert_eq!(net.told(&of, EndState::Suspended).await, DONE);
    net.hss.create(&[imsi(&of).as_str().into()]).await;
    for end in [EndState::Suspended, EndState::InService] {
        match net.told(&of, end).await {
            Reply::Rejected { reason } => assert!(reason.contains("twice"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(net.shows(&of, EndState::InService).await, Some(true), "the network finds the new one");
}

/// An HSS reads 32-bit numbers only, and some tools write others.
async fn a_status_that_the_hss_cannot_read_is_none(net: &Net) {
    for status in [Bson::Double(1.0), Bson::Int64(1), Bson::String("1".into())] {
        let of = net.subscriber().await;
        let name = imsi(&of).as_str();
        net.hss.change(name, doc! { "$set": { "subscriber_status": &status } }).await;
        assert_eq!(net.hss.mme.attach(name), GRANTED, "{status}");
        assert_eq!(net.told(&of, EndState::InService).await, Reply::AlreadySo, "{status}");
        let barring = adapter(config(&net.hss, Mode::Status));
        assert_eq!(told(&*barring, net.operation(&of, EndState::Suspended)).await, DONE, "{status}");
        assert_eq!(net.hss.mme.attach(name), BARRED, "{status}");
    }
}

/// Seen as Open5GS's HSS sees it, which watches the collection.
async fn a_cancellation_is_asked_for_before_a_subscriber_is_hidden(net: &Net) {
    let of = net.subscriber().await;
    let name = imsi(&of).as_str();
    let cancel_location = Some(Duration::from_millis(50));
    let carrier = adapter(Open5gsConfig { cancel_location, ..config(&net.hss, Mode::Hide) });
    let mut watched = net.hss.subscribers().await.watch().await.expect("the database can be watched");
    net.hss.change(name, doc! { "$set": { "msisdn": [] } }).await;
    watched.next_if_any().await.unwrap();
    let mut seen = Vec::new();
    for asked_before in [false, true] {
        if asked_before {
            let by_hand = doc! { "$set": { "request_cancel_location": true, "reveille.hidden": true } };
            net.hss.change(name, by_hand).await;
            watched.next_if_any().await.unwrap();
        }
        for end in [EndState::Suspended, EndState::InService] {
            assert_eq!(told(&*carrier, net.operation(&of, end)).await, DONE);
        }
        while let Some(event) = watched.next_if_any().await.unwrap() {
            let fields = event.update_description.expect("nothing but updates").updated_fields;
            seen.extend(
                fields.get("request_cancel_location").and_then(Bson::as_bool).map(|it| it.to_string()),
            );
            seen.extend(fields.get_str("imsi").map(|form| form.replace(name, "X")));
        }
    }
    assert_eq!(
        seen,
        ["true", "false", "suspended:X", "X", "false", "true", "false", "suspended:X", "X"],
        "it changes to true while the IMSI is there for the HSS to read"
    );
}

/// Promise 4 on a real network. A change was sent and lies somewhere; its caller gives up. Others do the same again,
/// and then the opposite; then it arrives after all.
async fn a_change_that_was_held_up_does_not_come_last(net: &Net) {
    for already in [false, true] {
        let of = net.subscriber().await;
        let database = (net.hss.address, 27017).into();
        let mut stalling = Stalling::before(database).await;
        let url = format!("mongodb://{}/?directConnection=true", stalling.at);
        let held = adapter(Open5gsConfig { url, ..config(&net.hss, Mode::Hide) });
        assert_eq!(held.probe().await, Health::Ok);
        stalling.hold();
        let suspend = net.operation(&of, EndState::Suspended);
        tokio::select! {
            biased;
            reply = told(&*held, suspend.clone()) => panic!("its change is held up; said: {reply:?}"),
            () = stalling.has_one() => {}
        }
        if !already {
            let suspend = Operation { begun_before: true, ..suspend };
            assert_eq!(told(&*net.carrier, suspend).await, DONE);
        }
        let resume = Operation { begun_before: true, ..net.operation(&of, EndState::InService) };
        let expected = if already { Reply::AlreadySo } else { DONE };
        assert_eq!(told(&*net.carrier, resume).await, expected);
        stalling.release().await;
        net.deadline().await;
        assert_eq!(net.shows(&of, EndState::InService).await, Some(true), "what came before was done after");
    }
}

/// The database has one command fail, as its makers' tests have it.
async fn what_the_database_says_is_told_as_it_is_meant(net: &Net) {
    let admin = net.hss.subscribers().await.client().database("admin");
    for (fails, how, expected, done) in [
        ("find", doc! { "errorCode": 10107 }, "Unavailable(Transport", false),
        ("find", doc! { "errorCode": 13 }, "Unavailable(Credentials", false),
        ("find", doc! { "closeConnection": true }, "Unavailable(Transport", false),
        ("update", doc! { "errorCode": 10107 }, "Unavailable(Transport", false),
        ("update", doc! { "errorCode": 13 }, "Unavailable(Credentials", false),
        ("update", doc! { "errorCode": 11600 }, "Unknown", false),
        ("update", doc! { "closeConnection": true }, "Unknown", false),
        ("update", doc! { "writeConcernError": { "code": 64, "errmsg": "too slow" } }, "Unknown", true),
    ] {
        let of = net.subscriber().await;
        let mut data = doc! { "failCommands": [fails] };
        data.extend(how);
        let once = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data.clone() };
        admin.run_command(once).await.expect("the database is started with such commands");
        let told = format!("{:?}", net.told(&of, EndState::Suspended).await);
        assert!(told.starts_with(expected), "{data}: {told}");
        assert_eq!(net.shows(&of, EndState::Suspended).await, Some(done), "{data}");
        while net.carrier.probe().await != Health::Ok {}
        let expected = if done { Reply::AlreadySo } else { DONE };
        assert_eq!(net.told(&of, EndState::Suspended).await, expected, "{data}");
    }
}

async fn a_database_that_is_not_there_or_knows_us_not_is_named(net: &Net) {
    let of = net.subscriber().await;
    let users = net.hss.subscribers().await.client().database("admin");
    let user = doc! { "createUser": "reveille", "pwd": "right", "roles": ["readWriteAnyDatabase"] };
    users.run_command(user).await.expect("the database makes a user");
    net.stop().await;
    let words = match net.told(&of, EndState::Suspended).await {
        Reply::Unavailable(Trouble::Transport(words)) => words,
        other => panic!("{other:?}"),
    };
    assert!(words.contains(&format!("database at {}:27017", net.hss.address)), "{words}");
    let Health::Down(Trouble::Transport(words)) = net.carrier.probe().await else { panic!("it is stopped") };
    assert!(words.ends_with("start MongoDB, or correct `url`"), "{words}");

    net.hss.order("lock");
    net.hss.order("start");
    for (who, remedy) in [("reveille:wrong@", "name and the password"), ("", "role readWrite")] {
        let url = net.hss.url().replace("//", &format!("//{who}"));
        let carrier = adapter(Open5gsConfig { url, ..config(&net.hss, Mode::Hide) });
        let words = match told(&*carrier, net.operation(&of, EndState::Suspended)).await {
            Reply::Unavailable(Trouble::Credentials(words)) => words,
            other => panic!("{other:?}"),
        };
        assert!(words.contains(remedy) && !words.contains("wrong"), "{words}");
        assert_eq!(carrier.probe().await, Health::Down(Trouble::Credentials(words)));
    }
    let url = net.hss.url().replace("//", "//reveille:right@");
    let carrier = adapter(Open5gsConfig { url, ..config(&net.hss, Mode::Hide) });
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, DONE);
}
