//! The simulated network under a clock that tests move by hand: nobody sleeps.

use super::*;
use crate::Effect;
use crate::conformance::{self, Bench, Subscription};
use reveille_domain::clock::ManualClock;
use reveille_domain::{Doubt, Network, Profile, ProfileState, ProfileStatus, RequestId, Role, SuspendedBy};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// A network and its clock, with what it takes to talk to it in one line.
struct Net {
    carrier: Arc<Simulated>,
    clock: ManualClock,
    last: AtomicU64,
}

/// One operation on one profile, that a test drives as often as it likes.
struct Driven<'a> {
    net: &'a Net,
    operation: Operation,
}

impl Net {
    fn new(config: SimulatedConfig) -> Self {
        config.check().unwrap();
        let clock = ManualClock::new(Timestamp(1_700_000_000_000));
        let carrier = Arc::new(Simulated::new(config, Arc::new(clock.clone()), Arc::default()));
        Self { carrier, clock, last: AtomicU64::new(1) }
    }

    fn scripted() -> Self {
        Self::new(SimulatedConfig { scripted: true, ..SimulatedConfig::default() })
    }

    /// A resume of that profile, under an id of its own.
    fn resume(&self, iccid: &str) -> Driven<'_> {
        self.operation(iccid, EndState::InService)
    }

    fn operation(&self, iccid: &str, end_state: EndState) -> Driven<'_> {
        let operation = operation(self.request_id(), 1, iccid, end_state);
        Driven { net: self, operation }
    }

    fn state_of(&self, iccid: &str) -> Option<EndState> {
        self.carrier.state_of(&iccid.parse().unwrap())
    }

    /// All replies of one call, with the milliseconds that each took; the clock jumps to whatever is awaited.
    async fn call(&self, operations: Vec<Operation>) -> Vec<(OperationId, Reply, i64)> {
        let began = self.clock.now();
        let (sender, mut replies) = mpsc::unbounded_channel();
        let listen = async {
            let mut told = Vec::new();
            while let Some((id, reply)) = replies.recv().await {
                told.push((id, reply, self.clock.now().0 - began.0));
            }
            told
        };
        let both = async { tokio::join!(listen, self.carrier.apply(operations, sender)).0 };
        self.driving(both).await
    }

    /// Runs `future`, and moves the clock to the next instant awaited whenever nothing else is to be done.
    async fn driving<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                () = tokio::task::yield_now() => {}
            }
            if let Some(at) = self.clock.next_wake() {
                self.clock.move_to(at);
            }
        }
    }
}

impl Driven<'_> {
    /// What one try is told.
    async fn told(&self) -> Vec<Reply> {
        let told = self.net.call(vec![self.operation.clone()]).await;
        told.into_iter().inspect(|said| assert_eq!(said.0, self.operation.id)).map(|said| said.1).collect()
    }
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
        let subscription = |number: u64| Subscription {
            iccid: format!("89148{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: None,
            msisdn: None,
            card: Vec::new(),
        };
        let numbers = std::iter::repeat_with(|| self.last.fetch_add(1, Ordering::Relaxed));
        numbers.take(count).map(subscription).collect()
    }

    async fn fresh_card(&self, count: usize) -> Vec<Subscription> {
        let mut fresh = self.fresh(count).await;
        let eid = fresh[0].eid.clone();
        let roles = [Role::Lead].into_iter().chain(std::iter::repeat(Role::Local));
        let profiles = fresh.iter().zip(roles).map(|(of, role)| profile(&of.iccid, &eid, role));
        let card: Vec<Profile> = profiles.collect();
        for of in &mut fresh {
            (of.eid, of.card) = (eid.clone(), card.clone());
        }
        fresh
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        self.carrier.shows(&of.iccid, &of.eid, end)
    }
}

/// A profile in service: the LEAD enabled, another on the card and disabled.
fn profile(iccid: &Iccid, eid: &Eid, role: Role) -> Profile {
    let lead = role == Role::Lead;
    Profile {
        iccid: iccid.clone(),
        eid: eid.clone(),
        imei: None,
        msisdn: None,
        imsi: None,
        network: if lead { Network::VerizonUs } else { Network::Global },
        role,
        state: ProfileState::Active,
        status: if lead { ProfileStatus::Enable } else { ProfileStatus::Disable },
        fallback: false,
        service_plan: None,
        in_doubt: Doubt::NONE,
    }
}

fn operation(request: RequestId, number: u32, iccid: &str, end_state: EndState) -> Operation {
    Operation {
        id: OperationId { request, number },
        iccid: iccid.parse().unwrap(),
        eid: format!("{number:032}").parse().unwrap(),
        imsi: None,
        msisdn: None,
        role: Role::Local,
        asked: Arc::new(conformance::asked(end_state)),
        end_state,
        service_plan: None,
        card: Vec::new(),
        begun_before: false,
        accepted_as: None,
        heard: None,
    }
}

/// The same `count` resumes for every network: what differs is the network's.
fn resumes(count: u32) -> Vec<Operation> {
    let request = RequestId::from_random(7);
    let resume = |number| operation(request, number, &format!("89148{number:015}"), EndState::InService);
    (1..=count).map(resume).collect()
}

fn rejected() -> Reply {
    Reply::Rejected { reason: REFUSED.into() }
}

const IN_SERVICE: Option<EndState> = Some(EndState::InService);
const RETRY: Reply = Reply::RetryLater { after: None };

/// A profile of the reserved prefix with that code.
fn reserved(code: &str) -> String {
    format!("890000{code}000000000001")
}

#[tokio::test]
async fn a_profile_is_done_once_and_then_already_so() {
    let net = Net::new(SimulatedConfig::default());
    let iccid = "89148000000800139708";
    assert_eq!(net.state_of(iccid), None);
    let resume = net.resume(iccid);
    assert_eq!(resume.told().await, [DONE]);
    assert_eq!(resume.told().await, [Reply::AlreadySo]);
    assert_eq!(net.resume(iccid).told().await, [Reply::AlreadySo]);
    assert_eq!(net.operation(iccid, EndState::Suspended).told().await, [DONE]);
    assert_eq!(net.state_of(iccid), Some(EndState::Suspended));
    assert_eq!(net.carrier.kind(), "simulated");
}

#[tokio::test]
async fn code_00_is_done() {
    let net = Net::scripted();
    assert_eq!(net.resume(&reserved("00")).told().await, [DONE]);
    assert_eq!(net.state_of(&reserved("00")), IN_SERVICE);
}

#[tokio::test]
async fn code_01_is_rejected_at_each_try_and_not_carried_out() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("01"));
    assert_eq!(resume.told().await, [rejected()]);
    assert_eq!(resume.told().await, [rejected()]);
    assert_eq!(net.state_of(&reserved("01")), None);
}

#[tokio::test]
async fn code_02_is_done_at_the_third_try_of_each_operation() {
    let net = Net::scripted();
    for settled in [DONE, Reply::AlreadySo] {
        let resume = net.resume(&reserved("02"));
        assert_eq!(resume.told().await, [RETRY]);
        assert_eq!(resume.told().await, [RETRY]);
        assert_eq!(resume.told().await, [settled]);
    }
}

#[tokio::test]
async fn code_03_is_carried_out_unheard_and_then_already_so() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("03"));
    assert_eq!(resume.told().await, []);
    assert_eq!(net.state_of(&reserved("03")), IN_SERVICE);
    assert_eq!(resume.told().await, [Reply::AlreadySo]);
}

#[tokio::test]
async fn code_04_is_lost_and_then_done() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("04"));
    assert_eq!(resume.told().await, []);
    assert_eq!(net.state_of(&reserved("04")), None);
    assert_eq!(resume.told().await, [DONE]);
}

#[tokio::test]
async fn code_05_keeps_the_call_open_and_holds_no_other_up() {
    let net = Net::scripted();
    let silent = operation(net.request_id(), 1, &reserved("05"), EndState::InService);
    let other = operation(net.request_id(), 2, &reserved("00"), EndState::InService);
    for settled in [DONE, Reply::AlreadySo] {
        let (sender, mut replies) = mpsc::unbounded_channel();
        let mut call = std::pin::pin!(net.carrier.apply(vec![silent.clone(), other.clone()], sender));
        tokio::select! {
            biased;
            () = &mut call => panic!("a network that never answers ended the call"),
            told = replies.recv() => assert_eq!(told, Some((other.id, settled))),
        }
        drop(replies);
        call.await; // nobody listens any more
    }
    assert_eq!(net.state_of(&reserved("05")), None);
}

#[tokio::test]
async fn code_06_is_already_so_from_the_first_try() {
    let net = Net::scripted();
    assert_eq!(net.resume(&reserved("06")).told().await, [Reply::AlreadySo]);
    assert_eq!(net.state_of(&reserved("06")), IN_SERVICE);
}

#[tokio::test]
async fn code_07_is_answered_after_five_seconds_and_holds_no_other_up() {
    let net = Net::scripted();
    let request = net.request_id();
    let slow = operation(request, 1, &reserved("07"), EndState::InService);
    let fast = operation(request, 2, &reserved("00"), EndState::InService);
    let told = net.call(vec![slow.clone(), fast.clone()]).await;
    assert_eq!(told, [(fast.id, DONE, 0), (slow.id, DONE, 5_000)]);
}

#[tokio::test]
async fn code_08_is_told_to_retry_for_ever() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("08"));
    for _ in 0..20 {
        assert_eq!(resume.told().await, [RETRY]);
    }
    assert_eq!(net.state_of(&reserved("08")), None);
}

#[tokio::test]
async fn code_09_is_told_the_same_twice() {
    let net = Net::scripted();
    assert_eq!(net.resume(&reserved("09")).told().await, [DONE, DONE]);
}

#[tokio::test]
async fn code_10_is_rejected_after_a_retry() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("10"));
    assert_eq!(resume.told().await, [RETRY]);
    assert_eq!(resume.told().await, [rejected()]);
    assert_eq!(net.state_of(&reserved("10")), None);
}

#[tokio::test]
async fn code_11_is_done_after_a_retry_with_a_hint() {
    let net = Net::scripted();
    let resume = net.resume(&reserved("11"));
    assert_eq!(resume.told().await, [Reply::RetryLater { after: Some(Duration::from_secs(1)) }]);
    assert_eq!(resume.told().await, [DONE]);
}

#[tokio::test]
async fn code_12_is_done_and_then_said_to_be_rejected() {
    let latency = Duration::from_millis(20);
    let net = Net::new(SimulatedConfig { scripted: true, latency, ..SimulatedConfig::default() });
    assert_eq!(net.resume(&reserved("12")).told().await, [DONE, rejected()]);
    assert_eq!(net.state_of(&reserved("12")), IN_SERVICE);
}

#[tokio::test]
async fn an_unlisted_code_is_done() {
    let net = Net::scripted();
    for code in ["13", "99"] {
        assert_eq!(net.resume(&reserved(code)).told().await, [DONE]);
    }
}

#[tokio::test]
async fn reserved_iccids_mean_nothing_unless_scripted() {
    let net = Net::new(SimulatedConfig::default());
    assert_eq!(net.resume(&reserved("01")).told().await, [DONE]);
}

#[tokio::test]
async fn reserved_iccids_are_spared_from_chance() {
    let net =
        Net::new(SimulatedConfig { scripted: true, rejected_per_mille: 1000, ..SimulatedConfig::default() });
    assert_eq!(net.resume(&reserved("00")).told().await, [DONE]);
    assert_eq!(net.resume("89148000000800139708").told().await, [rejected()]);
}

#[test]
fn every_behaviour_is_read_by_its_name() {
    for behaviour in Behaviour::ALL {
        assert_eq!(behaviour.name().parse(), Ok(behaviour));
    }
    let told = "retry-thrice".parse::<Behaviour>().unwrap_err().to_string();
    assert!(
        told.starts_with("there is no behaviour \"retry-thrice\"; it is one of always-done, rejected, "),
        "{told}"
    );
    assert!(Behaviour::ALL.iter().all(|behaviour| told.contains(behaviour.name())));
}

fn entry(iccid_prefix: &str, behaviour: &str, times: Option<u32>) -> ScriptEntry {
    ScriptEntry { iccid_prefix: iccid_prefix.into(), behaviour: behaviour.parse().unwrap(), times }
}

#[tokio::test]
async fn a_configured_script_decides_by_the_first_entry_that_fits_and_before_the_reserved_prefix() {
    let script = vec![
        entry("891481", "rejected", None),
        entry("89148", "always-already-so", None),
        entry("89000001", "always-done", None),
    ];
    let net = Net::new(SimulatedConfig { scripted: true, script, ..SimulatedConfig::default() });
    assert_eq!(net.resume("89148100000000000001").told().await, [rejected()]);
    assert_eq!(net.resume("89148200000000000001").told().await, [Reply::AlreadySo]);
    assert_eq!(net.resume(&reserved("01")).told().await, [DONE]);
    assert_eq!(net.resume("89880000000000000001").told().await, [DONE]);
}

#[tokio::test]
async fn an_entry_applies_to_as_many_operations_as_it_says_however_often_each_is_tried() {
    let script = vec![entry("89", "retry-twice", Some(2)), entry("89148", "rejected", Some(1))];
    let net = Net::new(SimulatedConfig { script, ..SimulatedConfig::default() });
    let (one, two, three, four) = (
        net.resume("89148000000000000001"),
        net.resume("89148000000000000002"),
        net.resume("89148000000000000003"),
        net.resume("89148000000000000004"),
    );
    for resume in [&one, &two, &one, &two] {
        assert_eq!(resume.told().await, [RETRY]);
    }
    assert_eq!(three.told().await, [rejected()]);
    assert_eq!(four.told().await, [DONE]);
    assert_eq!(one.told().await, [DONE]);
    assert_eq!(two.told().await, [DONE]);
}

#[tokio::test]
async fn an_unanswered_operation_uses_up_one_time_only() {
    let script = vec![entry("", "unanswered-then-done", Some(1))];
    let net = Net::new(SimulatedConfig { script, ..SimulatedConfig::default() });
    let resume = net.resume("89148000000000000001");
    assert_eq!(resume.told().await, []);
    assert_eq!(net.resume("89148000000000000002").told().await, [DONE]);
    assert_eq!(resume.told().await, [DONE]);
}

fn troubled(seed: u64) -> SimulatedConfig {
    SimulatedConfig {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        seed,
        retry_later_per_mille: 200,
        unanswered_per_mille: 100,
        rejected_per_mille: 50,
        ..SimulatedConfig::default()
    }
}

#[tokio::test]
async fn the_same_seed_answers_the_same_at_the_same_time_and_another_does_not() {
    let (one, same, other) = (Net::new(troubled(1)), Net::new(troubled(1)), Net::new(troubled(2)));
    let (mut answers, mut answers_in_parts) = (Vec::new(), Vec::new());
    for _try in 1..=3 {
        answers.extend(one.call(resumes(400)).await);
        for part in resumes(400).chunks(7).rev() {
            answers_in_parts.extend(same.call(part.to_vec()).await); // neither order nor company matters
        }
    }
    let by_id = |answers: &[(OperationId, Reply, i64)]| {
        let mut sorted = answers.to_vec();
        sorted.sort_by_key(|(id, ..)| *id); // stable: the tries of one stay in order
        sorted
    };
    assert_eq!(by_id(&answers), by_id(&answers_in_parts));
    assert_ne!(one.call(resumes(400)).await, other.call(resumes(400)).await);
}

#[tokio::test]
async fn trouble_comes_in_the_configured_shares() {
    let net = Net::new(troubled(3));
    let told = net.call(resumes(10_000)).await;
    let share = |wanted: &Reply| told.iter().filter(|(_, reply, _)| reply == wanted).count();
    assert!((400..600).contains(&share(&rejected())), "{}", share(&rejected())); // 5 % of all
    assert!((1700..2100).contains(&share(&RETRY)), "{}", share(&RETRY)); // 20 % of the rest
    let unanswered = 10_000 - told.len(); // 10 % of the rest
    assert!((850..1050).contains(&unanswered), "{unanswered}");
}

#[tokio::test]
async fn who_is_rejected_stays_rejected_and_nobody_is_after_being_carried_out() {
    let net = Net::new(troubled(4));
    let mut told: HashMap<OperationId, Vec<Reply>> = HashMap::new();
    for _try in 1..=20 {
        for (id, reply, _) in net.call(resumes(500)).await {
            told.entry(id).or_default().push(reply);
        }
    }
    for replies in told.values() {
        let rejections = replies.iter().filter(|reply| **reply == rejected()).count();
        assert!(rejections == 0 || rejections == 20, "{replies:?}");
    }
}

#[tokio::test]
async fn replies_are_told_in_the_order_of_their_time() {
    let net = Net::new(SimulatedConfig {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        scripted: true,
        ..SimulatedConfig::default()
    });
    let slow = operation(RequestId::from_random(8), 1, &reserved("07"), EndState::InService);
    let batch: Vec<Operation> = std::iter::once(slow.clone()).chain(resumes(500)).collect();
    let told = net.call(batch).await;
    let times: Vec<i64> = told.iter().map(|(.., after)| *after).collect();
    assert!(times.is_sorted());
    assert_eq!((times[0], times[499], times[500]), (20, 50, 5_000));
    assert_eq!(told[500].0, slow.id);
}

#[tokio::test]
async fn a_batch_is_answered_when_its_latency_has_passed_and_not_before() {
    let net = Net::new(SimulatedConfig { latency: Duration::from_millis(20), ..SimulatedConfig::default() });
    let (sender, mut replies) = mpsc::unbounded_channel();
    let mut call = net.carrier.apply(resumes(512), sender);
    assert!(
        std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context)))
            .await
            .is_pending()
    );
    assert!(replies.try_recv().is_err());
    net.clock.advance(Duration::from_millis(20));
    assert_eq!(net.clock.next_wake(), None);
    call.await;
    assert_eq!(replies.len(), 512);
}

#[tokio::test]
async fn a_call_cut_off_was_carried_out_and_its_tries_still_count() {
    let net = Net::new(SimulatedConfig {
        latency: Duration::from_millis(20),
        scripted: true,
        ..SimulatedConfig::default()
    });
    let resume = net.resume(&reserved("11"));
    assert_eq!(resume.told().await, [Reply::RetryLater { after: Some(Duration::from_secs(1)) }]);
    let (sender, _replies) = mpsc::unbounded_channel();
    tokio::select! {
        biased;
        () = net.carrier.apply(vec![resume.operation.clone()], sender) => panic!("the clock stands still"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(net.clock.next_wake(), None); // nothing of it is left
    assert_eq!(net.state_of(&reserved("11")), IN_SERVICE);
    assert_eq!(resume.told().await, [Reply::AlreadySo]);
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_with_its_mistake() {
    let mistake = |config: SimulatedConfig| config.check().unwrap_err().to_string();
    let config = SimulatedConfig::default();
    assert_eq!(
        mistake(SimulatedConfig { rejected_per_mille: 1001, ..config.clone() }),
        "rejected_per_mille is 1001; a share is at most 1000"
    );
    assert_eq!(
        mistake(SimulatedConfig { retry_later_per_mille: 600, unanswered_per_mille: 401, ..config.clone() }),
        "retry_later_per_mille and unanswered_per_mille come to 1001; together they are at most 1000"
    );
    assert_eq!(
        mistake(SimulatedConfig { script: vec![entry("89x", "rejected", None)], ..config }),
        "iccid_prefix is \"89x\"; it is made of digits, at most 20"
    );
}

#[tokio::test]
async fn the_simulated_network_conforms() {
    conformance::conforms(&Net::new(SimulatedConfig::default())).await;
}

#[tokio::test]
async fn the_simulated_network_conforms_under_latency() {
    let latency = Duration::from_millis(20);
    let net = Net::new(SimulatedConfig { latency, jitter: latency, ..SimulatedConfig::default() });
    net.driving(conformance::conforms(&net)).await;
}

#[tokio::test]
async fn the_simulated_network_conforms_in_trouble() {
    let net = Net::new(SimulatedConfig { rejected_per_mille: 0, ..troubled(5) });
    net.driving(conformance::conforms(&net)).await;
}

/// A card of that many profiles whose ICCIDs begin with a reserved code, all but the LEAD of that code.
fn card(code: &str, count: u32) -> Vec<Profile> {
    let eid: Eid = "89049032000001000000000000000001".parse().unwrap();
    let lead = profile(&"89148000000000000001".parse().unwrap(), &eid, Role::Lead);
    let local = |number| profile(&format!("890000{code}{number:012}").parse().unwrap(), &eid, Role::Local);
    std::iter::once(lead).chain((1..count).map(local)).collect()
}

impl Net {
    /// An operation on one profile of a card.
    fn on_card(&self, card: &[Profile], at: usize, end_state: EndState) -> Driven<'_> {
        let id = OperationId { request: self.request_id(), number: 1 };
        let (iccid, eid) = (card[at].iccid.clone(), card[at].eid.clone());
        let card = card.to_vec();
        let operation = Operation {
            id,
            iccid,
            eid,
            imsi: None,
            msisdn: None,
            role: Role::Local,
            asked: Arc::new(conformance::asked(end_state)),
            end_state,
            service_plan: None,
            card,
            begun_before: false,
            accepted_as: None,
            heard: None,
        };
        Driven { net: self, operation }
    }

    fn enabled(&self, card: &[Profile]) -> Option<Iccid> {
        self.carrier.enabled_on(&card[0].eid)
    }
}

/// What most operations come to.
const DONE: Reply = Reply::Done(Effect::Now);

const LATER: Reply = Reply::RetryLater { after: Some(Duration::from_secs(30)) };

#[tokio::test]
async fn both_networks_share_their_cards() {
    let (us, card) = (Net::scripted(), card("00", 2));
    let clock: Arc<dyn Clock> = Arc::new(us.clock.clone());
    let global = Simulated::new(SimulatedConfig::default(), clock, Arc::clone(&us.carrier.world));
    assert_eq!(us.on_card(&card, 1, EndState::Enabled).told().await, [DONE]);
    assert_eq!(global.enabled_on(&card[0].eid), Some(card[1].iccid.clone()));
}

#[tokio::test]
async fn a_card_whose_enabled_profile_has_no_service_cannot_be_reached() {
    let (net, mut card) = (Net::scripted(), card("00", 2));
    card[0].state = ProfileState::Suspended(SuspendedBy::Device);
    let enable = net.on_card(&card, 1, EndState::Enabled);
    assert_eq!(enable.told().await, [LATER]);
    assert_eq!(net.operation(card[0].iccid.as_str(), EndState::InService).told().await, [DONE]);
    assert_eq!(enable.told().await, [DONE]);
    assert_eq!(net.operation(card[1].iccid.as_str(), EndState::Suspended).told().await, [DONE]);
    assert_eq!(net.on_card(&card, 0, EndState::Enabled).told().await, [LATER]);
}

#[tokio::test]
async fn what_a_card_uses_or_falls_back_to_cannot_be_deleted() {
    let (net, card) = (Net::scripted(), card("00", 3));
    let said = async |at: usize, end| net.on_card(&card, at, end).told().await.remove(0);
    assert_eq!(said(1, EndState::Fallback).await, DONE);
    assert!(matches!(said(1, EndState::Deleted).await, Reply::Rejected { .. }));
    assert!(matches!(said(0, EndState::Deleted).await, Reply::Rejected { .. }));
    assert_eq!(said(2, EndState::Fallback).await, DONE);
    assert_eq!(said(1, EndState::Deleted).await, DONE);
    assert!(matches!(said(1, EndState::Enabled).await, Reply::Rejected { .. }));
}

#[tokio::test]
async fn a_disabled_profile_gives_way_to_what_the_card_falls_back_to() {
    let (net, card) = (Net::scripted(), card("00", 3));
    let said = async |at: usize, end| net.on_card(&card, at, end).told().await.remove(0);
    assert_eq!(said(2, EndState::Fallback).await, DONE);
    assert_eq!(said(1, EndState::Enabled).await, DONE);
    assert_eq!(said(1, EndState::Disabled).await, DONE);
    assert_eq!(net.enabled(&card), Some(card[2].iccid.clone()));
}

#[tokio::test]
async fn code_13_is_a_card_that_answers_the_fourth_time() {
    let (net, card) = (Net::scripted(), card("13", 2));
    let enable = net.on_card(&card, 1, EndState::Enabled);
    for _ in 0..3 {
        assert_eq!(enable.told().await, [LATER]);
    }
    assert_eq!(enable.told().await, [DONE]);
    assert_eq!(net.resume(card[1].iccid.as_str()).told().await, [DONE], "its network is quick");
}

#[tokio::test]
async fn code_14_is_a_card_that_is_never_reached() {
    let (net, card) = (Net::scripted(), card("14", 2));
    let enable = net.on_card(&card, 1, EndState::Enabled);
    for _ in 0..10 {
        assert!(matches!(enable.told().await[..], [Reply::RetryLater { after: Some(_) }]));
    }
    assert_eq!(net.enabled(&card), None, "it was never touched");
}

/// What a card has enabled after it went back.
fn went_back(replies: Vec<Reply>) -> Option<Iccid> {
    match replies.into_iter().next() {
        Some(Reply::RolledBack { enabled, .. }) => enabled,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn code_15_goes_back_to_what_was_enabled_before_whatever_the_fallback() {
    let (net, card) = (Net::scripted(), card("15", 3));
    let lead = || Some(card[0].iccid.clone());
    assert_eq!(went_back(net.on_card(&card, 1, EndState::Enabled).told().await), lead());
    assert_eq!(net.enabled(&card), lead());
    assert_eq!(net.on_card(&card, 2, EndState::Fallback).told().await, [DONE]);
    assert_eq!(went_back(net.on_card(&card, 1, EndState::DownloadedAndEnabled).told().await), lead());
}

#[tokio::test]
async fn code_15_goes_back_to_the_fallback_where_the_former_profile_has_no_service() {
    let suspended = ProfileState::Suspended(SuspendedBy::Device);
    // What has the attribute, whether there is a boot profile, and what comes back when 1 cannot be enabled.
    for (fallback, boot, expected) in
        [(Some(2), true, 2), (None, true, 3), (None, false, 0), (Some(1), true, 3), (Some(1), false, 0)]
    {
        let (net, mut card) = (Net::scripted(), card("15", 5));
        card[0].status = ProfileStatus::Disable;
        (card[4].status, card[4].state) = (ProfileStatus::Enable, suspended);
        if boot {
            card[3].role = Role::Default;
        }
        if let Some(fallback) = fallback {
            card[fallback].fallback = true;
        }
        let back = went_back(net.on_card(&card, 1, EndState::Enabled).told().await);
        assert_eq!(back, Some(card[expected].iccid.clone()), "{fallback:?}, {boot}");
        assert_eq!(net.enabled(&card), back);
    }
}

#[tokio::test]
async fn code_16_rejects_downloads_and_nothing_else() {
    let (net, mut card) = (Net::scripted(), card("16", 2));
    card[1].status = ProfileStatus::NotDownloaded;
    let download = net.on_card(&card, 1, EndState::Downloaded).told().await;
    assert_eq!(download, [Reply::Rejected { reason: "The download failed".into() }]);
    assert_eq!(net.resume(card[1].iccid.as_str()).told().await, [DONE]);
}

#[tokio::test]
async fn codes_17_and_18_are_undone_by_the_network_a_minute_later_and_reported() {
    for (code, state) in
        [("17", ProfileState::Suspended(SuspendedBy::Profile)), ("18", ProfileState::Deactive)]
    {
        let net = Net::scripted();
        let began = net.clock.now();
        assert_eq!(net.resume(&reserved(code)).told().await, [DONE]);
        let report = net.driving(net.carrier.report()).await;
        assert_eq!(net.clock.now().since(began), Duration::from_secs(60));
        assert_eq!(report.reported, Reported { state: Some(state), status: None });
        assert_ne!(net.state_of(&reserved(code)), IN_SERVICE);
    }
}

#[tokio::test]
async fn a_report_that_nobody_took_is_not_lost() {
    let net = Net::scripted();
    let reported = Reported { state: Some(ProfileState::Deactive), status: None };
    drop(net.carrier.report());
    net.carrier.change_outside(&reserved("00").parse().unwrap(), reported);
    assert_eq!(net.carrier.report().await.reported, reported);
}

#[test]
fn the_page_for_users_lists_every_code_and_behaviour() {
    let page = include_str!("../../../../docs/simulated-network.md");
    for (code, behaviour) in Behaviour::ALL.into_iter().enumerate() {
        let row = format!("| `{RESERVED_PREFIX}{code:02}…` | `{behaviour}` |");
        assert!(page.contains(&row), "docs/simulated-network.md has no row {row}");
    }
}
