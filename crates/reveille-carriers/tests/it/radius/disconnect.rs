//! Ending sessions: what FreeRADIUS makes of our requests, and what we make of a gateway's answers.

use super::LATER;
use super::bench::{Net, adapter, config, name, told};
use super::freeradius::SECRET;
use md5::{Digest, Md5};
use reveille_carriers::conformance::{self, Bench};
use reveille_carriers::radius::{DisconnectConfig, Radius, RadiusConfig};
use reveille_carriers::{Carrier, Effect, Health, Reply};
use reveille_domain::EndState;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const NOW: Reply = Reply::Done(Effect::Now);

/// An adapter whose users are named so, and that has their sessions ended there.
fn ending(net: &Net, username: &str, address: &str, secret: &str) -> Arc<Radius> {
    let (address, timeout) = (address.to_owned(), Duration::from_millis(600));
    let disconnect = Some(DisconnectConfig { address, secret: secret.into(), timeout });
    let username = username.parse().unwrap();
    adapter(RadiusConfig { username, disconnect, ..config(&net.users) })
}

/// What is said of suspending a profile whose user has that behind its IMSI.
async fn suspended(net: &Net, behind: &str, address: &str, secret: &str) -> Reply {
    let of = net.user().await;
    net.users.create(&[format!("{}{behind}", name(&of))]).await;
    let carrier = ending(net, &format!("{{imsi}}{behind}"), address, secret);
    told(&*carrier, net.operation(&of, EndState::Suspended)).await
}

#[tokio::test]
async fn sessions_are_ended_when_access_is_taken() {
    let net = Net::on_sqlite();
    let at = format!("{}:3799", net.server.address);
    freeradius_is_asked_for_the_session(&net, &at).await;
    what_freeradius_says_is_believed(&net, &at).await;
    a_batch_ends_its_sessions_side_by_side(&net, &at).await;
    what_a_gateway_says_is_believed_if_it_has_the_secret(&net).await;
    sessions_that_cannot_be_read_are_ended_by_user_name(&net, &at).await;
}

async fn freeradius_is_asked_for_the_session(net: &Net, at: &str) {
    let carrier = ending(net, "{imsi}", at, SECRET);
    assert_eq!(carrier.probe().await, Health::Ok);
    let of = net.user().await;
    let user = name(&of);
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, NOW);
    assert_eq!(net.server.ended(), [format!("{user}  ")]);
    assert_eq!(told(&*carrier, net.operation(&of, EndState::InService)).await, LATER);
    assert_eq!(net.server.ended().len(), 1, "nothing is ended when access is given");
    for (session, nas, stopped) in [
        ("81a2f3", "10.0.0.7", "NULL"),
        ("81a2f4", "10.0.0.8", "NULL"),
        ("ended", "10.0.0.9", "'2026-11-23'"),
    ] {
        let row = format!(
            "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime, acctstoptime)
             VALUES ('{session}', '{session}', '{user}', '{nas}', '2026-11-22', {stopped})"
        );
        net.users.run(&row).await;
    }
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, NOW);
    let open = [format!("{user} 81a2f4 10.0.0.8"), format!("{user} 81a2f3 10.0.0.7")];
    assert_eq!(net.server.ended()[1..], open, "each that accounting has not seen the end of");
    assert_eq!(told(&*carrier, net.operation(&of, EndState::Suspended)).await, Reply::AlreadySo);
    assert_eq!(net.server.ended().len(), 5, "the try before may have died before it came to that");
}

async fn what_freeradius_says_is_believed(net: &Net, at: &str) {
    assert_eq!(suspended(net, "-gone", at, SECRET).await, NOW, "it has no such session");
    assert_eq!(suspended(net, "-kept", at, SECRET).await, LATER, "it has not ended it");
    assert_eq!(
        suspended(net, "", at, "another secret").await,
        LATER,
        "it does not answer whom it does not know"
    );
    assert!(net.server.ended().iter().all(|user| !user.is_empty()));
}

async fn a_batch_ends_its_sessions_side_by_side(net: &Net, at: &str) {
    struct Ending<'a>(&'a Net, Arc<Radius>);
    #[async_trait::async_trait]
    impl Bench for Ending<'_> {
        fn carrier(&self) -> Arc<dyn Carrier> {
            self.1.clone()
        }
        fn request_id(&self) -> reveille_domain::RequestId {
            self.0.request_id()
        }
        async fn fresh(&self, count: usize) -> Vec<conformance::Subscription> {
            self.0.fresh(count).await
        }
        async fn fresh_card(&self, count: usize) -> Vec<conformance::Subscription> {
            self.0.fresh_card(count).await
        }
        async fn shows(&self, of: &conformance::Subscription, end: EndState) -> Option<bool> {
            self.0.shows(of, end).await
        }
    }
    let bench = Ending(net, ending(net, "{imsi}", at, SECRET));
    conformance::a_suspended_profile_is_resumed(&bench).await;
    conformance::batches_run_side_by_side(&bench).await;
    conformance::a_call_dropped_midway_is_settled_by_repeating(&bench).await;
}

/// A gateway that answers each request with what is made of it, and keeps what it was sent.
struct Gateway {
    at: String,
    heard: JoinHandle<Vec<Vec<u8>>>,
}

/// How long nothing comes before a gateway goes home.
const QUIET: Duration = Duration::from_millis(900);

impl Gateway {
    fn answering(answer: impl Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(QUIET)).unwrap();
        let at = socket.local_addr().unwrap().to_string();
        let heard = std::thread::spawn(move || {
            let (mut heard, mut octets) = (Vec::new(), [0; 4096]);
            while let Ok((length, from)) = socket.recv_from(&mut octets) {
                heard.push(octets[..length].to_vec());
                if let Some(answer) = answer(heard.len(), &octets[..length]) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
            heard
        });
        Self { at, heard }
    }
}

/// An answer to a request. Source: RFC 5176 §2.3.
fn answer(code: u8, request: &[u8], secret: &str) -> Vec<u8> {
    let head = [code, request[1], 0, 20];
    let authenticator = Md5::new().chain_update(head).chain_update(&request[4..20]).chain_update(secret);
    [&head[..], &authenticator.finalize()].concat()
}

async fn what_a_gateway_says_is_believed_if_it_has_the_secret(net: &Net) {
    let late = Gateway::answering(|number, request| (number == 2).then(|| answer(41, request, SECRET)));
    assert_eq!(suspended(net, "", &late.at, SECRET).await, NOW, "the first request was lost");
    let heard = late.heard.join().unwrap();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0], heard[1], "it is the same request");

    let silent = Gateway::answering(|_, _| None);
    assert_eq!(suspended(net, "", &silent.at, SECRET).await, LATER);
    assert_eq!(silent.heard.join().unwrap().len(), 3);

    let stranger = Gateway::answering(|_, request| Some(answer(41, request, "another secret")));
    assert_eq!(suspended(net, "", &stranger.at, SECRET).await, LATER);
    let nobody = silent.at;
    assert_eq!(suspended(net, "", &nobody, SECRET).await, LATER, "nobody is there any more");
}

async fn sessions_that_cannot_be_read_are_ended_by_user_name(net: &Net, at: &str) {
    net.users.run("ALTER TABLE radacct RENAME TO elsewhere").await;
    let Health::Degraded(words) = ending(net, "{imsi}", at, SECRET).probe().await else {
        panic!("it is gone")
    };
    assert!(words.contains("radacct") && words.ends_with("sessions are ended by user name alone"), "{words}");
    assert_eq!(suspended(net, "", at, SECRET).await, NOW);
}
