//! The adapter on a control interface in this process, whose trouble comes when a test says so. What a real HLR
//! does is tested in `tests/it/osmo_hlr.rs`.

use super::*;
use crate::conformance;
use reveille_domain::clock::ManualClock;
use reveille_domain::{OperationId, RequestId, Role, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// What becomes of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// The database is in trouble.
    Failed,
    /// It is done, and the connection is closed before that is said.
    Cut,
    /// Something else is answered.
    Confused,
}

/// Subscribers, and what was asked about them over all connections.
#[derive(Default)]
struct State {
    services: BTreeMap<String, [bool; 2]>,
    /// Without their numbers.
    commands: Vec<String>,
    connections: usize,
    /// The first whose text is part of a command decides.
    fates: Vec<(&'static str, Fate)>,
}

/// A control interface. While it is held it reads, and answers nothing.
struct Fake {
    address: String,
    state: Arc<Mutex<State>>,
    held: watch::Sender<bool>,
}

impl Fake {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let (held, holding) = watch::channel(false);
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&served), holding.clone()));
            }
        });
        Self { address, state, held }
    }

    fn fate(&self, of: &'static str, fate: Fate) {
        self.state.lock().unwrap().fates = vec![(of, fate)];
    }

    fn well(&self) {
        self.state.lock().unwrap().fates.clear();
    }

    fn services(&self, imsi: &str) -> [bool; 2] {
        self.state.lock().unwrap().services[imsi]
    }

    /// What was asked since this was asked last.
    fn commands(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().commands)
    }

    /// Waits until that many commands have come since they were looked at last.
    async fn has(&self, count: usize) {
        while self.state.lock().unwrap().commands.len() < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, mut held: watch::Receiver<bool>) {
    let (mut read, mut answers) = (Vec::new(), Vec::new());
    loop {
        while let Ok(Some(frame)) = ipa::decode(&mut read) {
            let text = String::from_utf8(frame.payload[1..].to_vec()).unwrap();
            let Some(answer) = answer(&mut state.lock().unwrap(), &text) else { return };
            answers.extend(ipa::encode(ipa::OSMO, format!("\0{answer}").as_bytes()).unwrap());
        }
        let holds = *held.borrow_and_update();
        if !holds {
            stream.write_all(&answers).await.unwrap();
            answers.clear();
        }
        tokio::select! {
            octets = stream.read_buf(&mut read) => if octets.unwrap_or(0) == 0 { return },
            _ = held.changed(), if holds => {}
        }
    }
}

/// What is said to a command; nothing where the connection is to be closed.
fn answer(state: &mut State, text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let (verb, number, variable) = (words[0], words[1], words[2]);
    let command = [&[verb], &words[2..]].concat().join(" ");
    let fate = state.fates.iter().find(|(of, _)| command.contains(of)).map_or(Fate::Done, |(_, fate)| *fate);
    state.commands.push(command);
    match fate {
        Fate::Failed => return Some(format!("ERROR {number} An error has occurred.")),
        Fate::Confused => return Some("ERROR err Missing ID".into()),
        Fate::Done | Fate::Cut => {}
    }
    let named = variable.strip_prefix("subscriber.by-imsi-").and_then(|of| of.split_once('.'));
    let Some((imsi, field)) = named else { return Some(format!("ERROR {number} Command not found")) };
    let Some([ps, cs]) = state.services.get_mut(imsi) else {
        return Some(format!("ERROR {number} No such subscriber."));
    };
    let value = match field {
        "info" => format!("\nid\t1\nnam_cs\t{}\nnam_ps\t{}", u8::from(*cs), u8::from(*ps)),
        "ps-enabled" | "cs-enabled" => {
            *(if field.starts_with("ps") { ps } else { cs }) = words[3] == "1";
            "OK".into()
        }
        other => panic!("an adapter has no business with {other}"),
    };
    (fate == Fate::Done).then(|| format!("{verb}_REPLY {number} {variable} {value}"))
}

/// A fake, an adapter to it, and subscribers in service.
struct Net {
    fake: Fake,
    carrier: OsmoHlr,
    clock: ManualClock,
}

impl Net {
    async fn start() -> Self {
        Self::with(None).await
    }

    async fn with(kick: Option<String>) -> Self {
        let fake = Fake::start().await;
        let services = (0..200).map(|number| (imsi(number), [true, true])).collect();
        fake.state.lock().unwrap().services = services;
        let clock = ManualClock::new(Timestamp(1_700_000_000_000));
        let config = OsmoHlrConfig { address: fake.address.clone(), kick, ..OsmoHlrConfig::default() };
        config.check().unwrap();
        let carrier = OsmoHlr::new(config, Arc::new(clock.clone()), 7);
        Self { fake, carrier, clock }
    }

    /// What one try of a suspension is told.
    async fn suspend(&self, begun_before: bool) -> Reply {
        let (sender, mut replies) = mpsc::unbounded_channel();
        let operation = Operation { begun_before, ..suspensions(1).remove(0) };
        self.carrier.apply(vec![operation], sender).await;
        replies.recv().await.expect("each operation has a reply").1
    }

    /// A call that is dropped when that many of its commands have come.
    async fn cut_off_after(&self, commands: usize) {
        let (sender, mut replies) = mpsc::unbounded_channel();
        tokio::select! {
            biased;
            () = self.carrier.apply(suspensions(200), sender) => panic!("nothing is answered"),
            () = self.fake.has(commands) => {}
        }
        assert!(replies.recv().await.is_none(), "nothing is answered, and nobody is left to");
    }
}

fn imsi(number: u32) -> String {
    format!("00101{number:010}")
}

fn suspensions(count: u32) -> Vec<Operation> {
    let suspension = |number: u32| Operation {
        id: OperationId { request: RequestId::from_random(7), number },
        iccid: format!("89148{number:015}").parse().unwrap(),
        eid: format!("{number:032}").parse().unwrap(),
        imsi: Some(imsi(number).parse().unwrap()),
        msisdn: None,
        role: Role::Local,
        asked: Arc::new(conformance::asked(EndState::Suspended)),
        end_state: EndState::Suspended,
        service_plan: None,
        card: Vec::new(),
        begun_before: false,
        accepted_as: None,
        heard: None,
    };
    (0..count).map(suspension).collect()
}

const DONE: Reply = Reply::Done(Effect::AtNextRegistration);

#[tokio::test]
async fn what_is_not_as_wanted_is_set_and_nothing_else() {
    let net = Net::start().await;
    assert_eq!(net.suspend(false).await, DONE);
    let subscriber = format!("subscriber.by-imsi-{}", imsi(0));
    let expected = [
        format!("GET {subscriber}.info"),
        format!("SET {subscriber}.ps-enabled 0"),
        format!("SET {subscriber}.cs-enabled 0"),
    ];
    assert_eq!(net.fake.commands(), expected);
    assert_eq!(net.suspend(false).await, Reply::AlreadySo);
    assert_eq!(net.fake.commands(), expected[..1]);
    assert_eq!(net.fake.state.lock().unwrap().connections, 1);
}

#[tokio::test]
async fn what_may_have_been_begun_is_fenced_off_and_read_back() {
    let net = Net::start().await;
    assert_eq!(net.suspend(true).await, DONE);
    let commands = net.fake.commands();
    assert!(commands[..IN_FLIGHT].iter().all(|command| command == "GET fence"));
    let kinds: Vec<&str> =
        commands[IN_FLIGHT..].iter().map(|command| command.split('.').next_back().unwrap()).collect();
    assert_eq!(kinds, ["info", "ps-enabled 0", "cs-enabled 0", "info"]);
}

#[tokio::test]
async fn operations_that_wait_at_the_same_time_share_a_fence() {
    let net = Net::start().await;
    let (sender, mut replies) = mpsc::unbounded_channel();
    let mut batch = suspensions(32);
    batch.iter_mut().for_each(|operation| operation.begun_before = true);
    net.carrier.apply(batch, sender).await;
    while let Some((_, reply)) = replies.recv().await {
        assert_eq!(reply, DONE);
    }
    let fences = net.fake.commands().iter().filter(|command| *command == "GET fence").count();
    assert_eq!(fences, 2 * IN_FLIGHT, "one for the first, and one for all who came while it was put up");
}

#[tokio::test]
async fn a_change_that_was_sent_and_not_answered_is_unknown_and_settled_by_repeating() {
    let net = Net::start().await;
    net.fake.fate("SET", Fate::Cut);
    assert_eq!(net.suspend(false).await, Reply::Unknown);
    net.fake.well();
    assert_eq!(net.suspend(true).await, DONE, "one of the two was done unheard");
    assert_eq!(net.fake.services(&imsi(0)), [false, false]);
}

#[tokio::test]
async fn a_question_that_was_not_answered_leaves_nothing_begun() {
    let net = Net::start().await;
    net.fake.fate("info", Fate::Cut);
    let Reply::Unavailable(trouble) = net.suspend(false).await else { panic!("nothing was begun") };
    assert!(trouble.words().contains("see whether osmo-hlr runs"), "{trouble}");
    assert_eq!(net.fake.services(&imsi(0)), [true, true]);
}

#[tokio::test]
async fn a_change_that_fails_is_tried_again_later_unless_half_of_it_was_done() {
    let net = Net::start().await;
    net.fake.fate("SET", Fate::Failed);
    assert_eq!(net.suspend(false).await, RETRY);
    net.fake.fate("info", Fate::Failed);
    assert_eq!(net.suspend(false).await, RETRY);
    net.fake.fate("cs-enabled", Fate::Failed);
    assert_eq!(net.suspend(false).await, Reply::Unknown);
    net.fake.well();
    assert_eq!(net.suspend(true).await, DONE);
}

#[tokio::test]
async fn an_answer_to_something_else_ends_the_connection_and_the_next_command_makes_another() {
    let net = Net::start().await;
    net.fake.fate("info", Fate::Confused);
    assert!(matches!(net.suspend(false).await, Reply::Unavailable(_)));
    net.fake.well();
    assert_eq!(net.suspend(false).await, DONE);
    assert_eq!(net.fake.state.lock().unwrap().connections, 2);
}

#[tokio::test]
async fn a_call_that_was_dropped_sends_nothing_more_and_keeps_its_place() {
    let net = Net::start().await;
    net.fake.held.send_replace(true);
    net.cut_off_after(AT_A_TIME).await;
    net.cut_off_after(IN_FLIGHT).await;
    let (sender, replies) = mpsc::unbounded_channel();
    tokio::select! {
        biased;
        () = net.carrier.apply(suspensions(200), sender) => panic!("nothing is answered"),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await; } } => {}
    }
    drop(replies);
    assert_eq!(net.fake.commands().len(), IN_FLIGHT, "more may not be under way");
    net.fake.held.send_replace(false);
    assert_eq!(net.suspend(false).await, DONE, "the answers before were somebody else's");
    assert_eq!(net.fake.commands().len(), 3, "nobody waits for what was not sent");
    assert_eq!(net.fake.state.lock().unwrap().connections, 1, "a deadline does not close it");
}

#[tokio::test]
async fn observing_asks_and_sees_what_is_granted() {
    let net = Net::start().await;
    net.fake.state.lock().unwrap().services.insert(imsi(1), [false, false]);
    net.fake.state.lock().unwrap().services.insert(imsi(2), [true, false]);
    let profile = |imsi: Option<String>| Profile {
        iccid: "89148000000000000019".parse().unwrap(),
        eid: "1".repeat(32).parse().unwrap(),
        imei: None,
        msisdn: None,
        imsi: imsi.map(|imsi| imsi.parse().unwrap()),
        network: reveille_domain::Network::Global,
        role: reveille_domain::Role::Local,
        state: reveille_domain::ProfileState::Active,
        status: reveille_domain::ProfileStatus::Enable,
        fallback: false,
        service_plan: None,
        in_doubt: reveille_domain::Doubt::NONE,
    };
    let asked = [Some(imsi(0)), Some(imsi(1)), Some(imsi(2)), Some(imsi(999)), None].map(profile);
    let seen = |in_service| Observation::Seen(Observed { in_service, enabled: None });
    let expected = [
        seen(Some(true)),
        seen(Some(false)),
        seen(None), // half of it
        Observation::NoSuchProfile,
        Observation::NotAble,
    ];
    assert_eq!(net.carrier.observe(&asked).await, expected);
    assert!(net.fake.commands().iter().all(|command| command.starts_with("GET ")));
}

#[tokio::test]
async fn a_gsup_port_that_does_not_greet_is_given_up_in_time_and_named() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let net = Net::with(Some(silent.local_addr().unwrap().to_string())).await;
    let moving = async {
        loop {
            tokio::task::yield_now().await;
            net.clock.advance(Duration::from_millis(1));
        }
    };
    let health = tokio::select! {
        health = net.carrier.probe() => health,
        () = moving => unreachable!("time does not end"),
    };
    let Health::Degraded(words) = health else { panic!("{health:?}") };
    assert!(words.starts_with("The HLR's GSUP port at 127.0.0.1:"), "{words}");
    assert!(words.ends_with("does not answer within 3 s: look after osmo-hlr, or the network"), "{words}");
}
