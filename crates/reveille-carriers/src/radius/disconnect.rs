//! Having a gateway end what sessions a user has, by Disconnect-Request (RFC 5176).
//!
//! Each request has a socket of its own, so an answer to it can be no answer to another.

use super::config::DisconnectConfig;
use super::packet::{Answer, PACKET_MAX, Request, Session};
use reveille_domain::Clock;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Semaphore;

/// How many requests are under way at a time.
const AT_A_TIME: usize = 32;

/// How often a request is sent before the time for its answer is up.
const SENDS: u32 = 3;

/// How many sessions of a user are asked to end. Who has more is said to have one yet.
const SESSIONS_MAX: usize = 8;

/// A gateway that takes Disconnect-Requests.
pub(super) struct Disconnect {
    config: DisconnectConfig,
    clock: Arc<dyn Clock>,
    last: AtomicU8,
    places: Semaphore,
}

impl Disconnect {
    pub(super) fn new(config: DisconnectConfig, clock: Arc<dyn Clock>, bits: u32) -> Self {
        let last = AtomicU8::new(bits.to_be_bytes()[0]);
        Self { config, clock, last, places: Semaphore::new(AT_A_TIME) }
    }

    /// Ends these sessions of a user's, or, where none is known, whatever he has: whether the gateway said in time
    /// that he has none any more. Why it did not is of no use to anybody.
    pub(super) async fn end(&self, user: &str, sessions: &[Session]) -> bool {
        let _place = self.places.acquire().await.expect("it is never closed");
        if sessions.is_empty() {
            return self.ask(user, None).await;
        }
        for session in sessions.iter().take(SESSIONS_MAX) {
            if !self.ask(user, Some(session)).await {
                return false;
            }
        }
        sessions.len() <= SESSIONS_MAX
    }

    async fn ask(&self, user: &str, session: Option<&Session>) -> bool {
        let identifier = self.last.fetch_add(1, Ordering::Relaxed);
        let (at, secret) = (self.clock.now(), self.config.secret.octets());
        let Some(request) = Request::new(identifier, user, session, at, secret) else { return false };
        let answer = self.in_time(self.heard(&request)).await;
        matches!(answer, Some(Ok(Answer::Ended | Answer::NoSuchSession)))
    }

    /// What comes of it within the time that a gateway has for its answer.
    pub(super) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = self.clock.sleep(self.config.timeout) => None,
        }
    }

    /// Sends a request, now and again, until it is answered.
    async fn heard(&self, request: &Request) -> io::Result<Answer> {
        let socket = self.socket().await?;
        let again = self.config.timeout / SENDS;
        for _ in 0..SENDS {
            socket.send(&request.octets).await?;
            tokio::select! {
                biased;
                answer = self.next(&socket, request) => return answer,
                () = self.clock.sleep(again) => {}
            }
        }
        self.next(&socket, request).await
    }

    /// The answer, past whatever is none.
    async fn next(&self, socket: &UdpSocket, request: &Request) -> io::Result<Answer> {
        let mut octets = vec![0; PACKET_MAX];
        loop {
            let length = socket.recv(&mut octets).await?;
            if let Some(answer) = request.answer(&octets[..length], self.config.secret.octets()) {
                return Ok(answer);
            }
        }
    }

    async fn socket(&self) -> io::Result<UdpSocket> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let to = lookup_host(&self.config.address).await?.next().ok_or_else(gone)?;
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from).await?;
        socket.connect(to).await?;
        Ok(socket)
    }
}
