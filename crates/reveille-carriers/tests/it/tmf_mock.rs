//! The adapter on tmf-mock, a server that somebody else wrote: TMF638, whose services are those of TMF640, with ids of
//! its own. It has neither monitors nor events; those are in `tmf640.rs`.

use crate::real_time::RealTime;
use async_trait::async_trait;
use reveille_carriers::conformance::{self, Bench, Peer, Subscription};
use reveille_carriers::tmf640::{Tmf640, Tmf640Config};
use reveille_carriers::{Carrier, Health, Trouble};
use reveille_domain::{Clock, EndState, Iccid, RequestId};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tmf_mock.sh");
const PORT: u16 = 8638;
const BASE: &str = "/tmf-api/serviceInventoryManagement/v4";

/// Where `check` has it.
#[expect(clippy::disallowed_methods, reason = "a test's own, as the programs beside it")]
fn program() -> PathBuf {
    let usual = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/outside").into();
    let cache: PathBuf = std::env::var("REVEILLE_CACHE").map_or_else(|_| usual(), PathBuf::from);
    cache.join("tmf-mock/bin/tmf-mock")
}

/// A running mock; gone when this is.
struct Mock {
    address: Ipv4Addr,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    outside: Mutex<Outside>,
    _keeper: Child,
}

impl Mock {
    /// # Panics
    /// Where tmf-mock is missing, or does not start.
    fn start() -> Self {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high & 0x3f, middle, low);
        let mut script = Command::new(KEEPER);
        script.arg(program()).args([address.to_string(), PORT.to_string()]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut keeper = script.spawn().expect("the script starts");
        let orders = keeper.stdin.take().expect("it is piped");
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut first = String::new();
        said.read_line(&mut first).expect("the script prints text");
        if first != "ready\n" {
            said.read_to_string(&mut first).expect("the script prints text");
            panic!("there is no tmf-mock for this test: {first}");
        }
        let outside = Mutex::new(Outside::to(address));
        Self { address, pipes: Mutex::new((orders, said)), outside, _keeper: keeper }
    }

    fn order(&self, order: &str) {
        let (orders, said) = &mut *self.pipes.lock().unwrap();
        writeln!(orders, "{order}").expect("the script reads");
        let mut answer = String::new();
        said.read_line(&mut answer).expect("the script prints text");
        assert_eq!(answer, "done\n", "{order}");
    }

    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut outside = self.outside.lock().unwrap();
        if let Some(answer) = outside.call(method, path, body) {
            return answer;
        }
        *outside = Outside::to(self.address); // the mock has ended the connection, as nothing came for five seconds
        outside.call(method, path, body).expect("a new connection is not ended")
    }
}

/// A client of the test's own.
struct Outside {
    stream: BufReader<TcpStream>,
}

impl Outside {
    fn to(address: Ipv4Addr) -> Self {
        let stream = TcpStream::connect((address, PORT)).expect("the mock is there");
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let address = self.stream.get_ref().peer_addr().unwrap();
        let length = body.len();
        let request = format!(
            "{method} {BASE}{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header).expect("the mock answers");
            let header = header.trim().to_ascii_lowercase();
            if let Some(bytes) = header.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the mock answers");
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// A mock and an adapter to it, which finds a service by the category that the test gave it.
struct Net {
    mock: Mock,
    carrier: Arc<Tmf640>,
    ids: Mutex<HashMap<Iccid, String>>,
    last: AtomicU64,
}

fn config(mock: &Mock) -> Tmf640Config {
    Tmf640Config {
        url: format!("http://{}:{PORT}", mock.address),
        base_path: BASE.into(),
        lookup: Some("category={iccid}".into()),
        out_of_service: "inactive".into(),
        probe: "/service?limit=1".into(),
        ask_after: Duration::from_secs(60),
        in_flight: 32,
        late_within: Duration::from_millis(200),
        ..Tmf640Config::default()
    }
}

fn adapter(config: &Tmf640Config) -> Arc<Tmf640> {
    Arc::new(Tmf640::new(config, Arc::new(RealTime)).unwrap())
}

impl Net {
    fn start() -> Self {
        let mock = Mock::start();
        let carrier = adapter(&config(&mock));
        Self { mock, carrier, ids: Mutex::default(), last: AtomicU64::new(1) }
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
        let numbers = std::iter::repeat_with(|| self.last.fetch_add(1, Ordering::Relaxed));
        let subscription = |number: u64| Subscription {
            iccid: format!("89148{number:015}").parse().unwrap(),
            eid: format!("{number:032}").parse().unwrap(),
            imsi: None,
            msisdn: None,
            card: Vec::new(),
        };
        let fresh: Vec<Subscription> = numbers.take(count).map(subscription).collect();
        for of in &fresh {
            let body = json!({ "name": "esim", "category": of.iccid.as_str(), "state": "inactive" });
            let (status, service) = self.mock.call("POST", "/service", &body.to_string());
            assert_eq!(status, 201, "{service}");
            let id = service["id"].as_str().expect("it has an id").to_owned();
            self.ids.lock().unwrap().insert(of.iccid.clone(), id);
        }
        fresh
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        panic!("a service knows no ends on the card")
    }

    async fn shows(&self, of: &Subscription, end: EndState) -> Option<bool> {
        let id = self.ids.lock().unwrap()[&of.iccid].clone();
        let (status, service) = self.mock.call("GET", &format!("/service/{id}"), "");
        assert_eq!(status, 200, "{service}");
        let expected = if end == EndState::InService { "active" } else { "inactive" };
        Some(service["state"] == expected)
    }

    async fn stranger(&self) -> Option<Subscription> {
        let (iccid, eid) = ("89149999999999999999".parse().unwrap(), "9".repeat(32).parse().unwrap());
        Some(Subscription { iccid, eid, imsi: None, msisdn: None, card: Vec::new() })
    }

    fn peer(&self) -> Option<&dyn Peer> {
        Some(self)
    }

    fn another(&self) -> Arc<dyn Carrier> {
        adapter(&config(&self.mock))
    }
}

#[async_trait]
impl Peer for Net {
    async fn stop(&self) {
        panic!("it would forget what it has")
    }

    async fn start(&self) {
        panic!("it was not stopped")
    }

    async fn freeze(&self) {
        self.mock.order("freeze");
    }

    async fn thaw(&self) {
        self.mock.order("thaw");
    }

    async fn deadline(&self) {
        RealTime.sleep(Duration::from_millis(1_000)).await;
    }
}

/// All of the suite but the parts that stop the peer, which forgets, and the 10,000 profiles, for which it is slow.
#[tokio::test]
async fn tmf_mock_conforms() {
    let net = Net::start();
    conformance::an_empty_batch_has_no_replies(&net).await;
    conformance::repeating_an_operation_is_safe(&net).await;
    conformance::a_suspended_profile_is_resumed(&net).await;
    conformance::batches_run_side_by_side(&net).await;
    conformance::a_call_dropped_at_once_is_settled_by_repeating(&net).await;
    conformance::a_call_dropped_midway_is_settled_by_repeating(&net).await;
    conformance::every_end_that_is_known_is_reached_and_may_be_repeated(&net).await;
    conformance::ends_that_are_not_known_are_rejected(&net).await;
    conformance::an_unknown_subscription_is_rejected_and_disturbs_none(&net).await;
    conformance::observing_agrees_with_the_network_and_changes_nothing(&net).await;
    conformance::a_peer_that_freezes_is_settled_by_repeating(&net).await;
    conformance::what_was_left_on_a_connection_does_not_come_last(&net).await;
    what_is_terminated_stays_so(&net).await;
    a_wrong_path_is_no_profiles_fault(&net).await;
}

async fn what_is_terminated_stays_so(net: &Net) {
    use crate::tmf640::{operation, told};
    use reveille_carriers::{Effect, Reply};
    let ending = adapter(&Tmf640Config { out_of_service: "terminated".into(), ..config(&net.mock) });
    let of = net.fresh(1).await.remove(0);
    assert_eq!(told(&*ending, operation(&of, EndState::OutOfService)).await, Reply::Done(Effect::Now));
    assert_eq!(told(&*net.carrier, operation(&of, EndState::OutOfService)).await, Reply::AlreadySo);
    let back = told(&*ending, operation(&of, EndState::InService)).await;
    let Reply::Rejected { reason } = back else { panic!("it is terminal there: {back:?}") };
    assert!(reason.starts_with("The network refuses: 422 Service '"), "{reason}");
    assert!(reason.contains("illegal state transition"), "{reason}");
}

async fn a_wrong_path_is_no_profiles_fault(net: &Net) {
    use crate::tmf640::{operation, told};
    use reveille_carriers::Reply;
    let of = net.fresh(1).await.remove(0);
    let lost = adapter(&Tmf640Config { base_path: "/tmf-api/v0".into(), ..config(&net.mock) });
    let reply = told(&*lost, operation(&of, EndState::InService)).await;
    let Reply::Unavailable(Trouble::Transport(words)) = reply else { panic!("{reply:?}") };
    assert!(words.contains("answers 404 to /tmf-api/v0/service:"), "{words}");
    assert!(matches!(lost.probe().await, Health::Down(Trouble::Transport(_))));
}
