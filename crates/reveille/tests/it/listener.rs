//! A customer's callback listener, scripted by the test: it answers, hangs, closes, is slow, goes away.

use reveille_domain::clock::ManualClock;
use reveille_domain::{Clock, Timestamp};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What the listener does with one POST.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with that status.
    Status(u16),
    /// Takes it and says nothing, until the other end closes.
    Hangs,
    /// Closes the connection without a word.
    Closes,
    /// Answers 200, that much virtual time later.
    Late(Duration),
    /// Answers 307 with that place.
    Redirects(String),
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::Status(status)
    }
}

/// One POST as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Timestamp,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a callback is JSON")
    }

    /// The ICCID that it is about.
    pub(crate) fn iccid(&self) -> String {
        let json = self.json();
        let ids = json["deviceIds"].as_array().expect("a callback names its device");
        let iccid = ids.iter().find(|id| id["kind"] == "Iccid").expect("a callback names its ICCID");
        iccid["id"].as_str().expect("an id is a text").to_owned()
    }
}

/// A listener on a port of its own; its clones are the same listener.
#[derive(Clone)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    clock: ManualClock,
    replies: Mutex<VecDeque<Reply>>,
    afterwards: Mutex<Reply>,
    received: Mutex<Vec<Received>>,
    hanging: AtomicUsize,
    accepting: Mutex<Option<JoinHandle<()>>>,
    away: Mutex<Option<TcpSocket>>,
}

impl Listener {
    pub(crate) async fn start(clock: &ManualClock) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shared = Shared {
            address: socket.local_addr().expect("it is bound"),
            clock: clock.clone(),
            replies: Mutex::default(),
            afterwards: Mutex::new(Reply::Status(200)),
            received: Mutex::default(),
            hanging: AtomicUsize::new(0),
            accepting: Mutex::default(),
            away: Mutex::default(),
        };
        let listener = Self { shared: Arc::new(shared) };
        listener.accept_on(socket);
        listener
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/callbacks", self.shared.address)
    }

    /// The next POSTs are replied to like this, one after the other; those after them with 200.
    pub(crate) fn answers<R: Into<Reply>>(&self, replies: impl IntoIterator<Item = R>) {
        self.shared.replies.lock().unwrap().extend(replies.into_iter().map(Into::into));
    }

    /// What follows is replied to like this, until something else is said.
    pub(crate) fn always_answers(&self, reply: impl Into<Reply>) {
        self.shared.replies.lock().unwrap().clear();
        *self.shared.afterwards.lock().unwrap() = reply.into();
    }

    /// Every POST so far, in the order of arrival.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.received().iter().map(Received::json).collect()
    }

    /// The `callbackCount` of every POST so far.
    pub(crate) fn callback_counts(&self) -> Vec<u64> {
        let count = |body: &Value| body["callbackCount"].as_u64().expect("callbackCount is an integer");
        self.bodies().iter().map(count).collect()
    }

    /// The last POST.
    pub(crate) fn last(&self) -> Value {
        self.bodies().pop().expect("a callback has arrived")
    }

    /// How many POSTs are held without an answer now.
    pub(crate) fn hanging(&self) -> usize {
        self.shared.hanging.load(Ordering::Acquire)
    }

    /// Stops listening, so that connections are refused; the port stays its own.
    pub(crate) async fn goes_away(&self) {
        let accepting = self.shared.accepting.lock().unwrap().take();
        let accepting = accepting.expect("it listens");
        accepting.abort();
        let _ = accepting.await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.shared.address).unwrap();
        *self.shared.away.lock().unwrap() = Some(socket);
    }

    /// Listens again after it went away.
    pub(crate) fn comes_back(&self) {
        let socket = self.shared.away.lock().unwrap().take().expect("it went away");
        self.accept_on(socket.listen(1_024).expect("the port stayed its own"));
    }

    fn accept_on(&self, socket: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                connections.spawn(serve(Arc::clone(&shared), stream));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.shared.accepting.lock().unwrap() = Some(task);
    }
}

impl Shared {
    fn next_reply(&self) -> Reply {
        let scripted = self.replies.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| self.afterwards.lock().unwrap().clone())
    }
}

/// POSTs of one connection, until it is closed.
async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = post(&mut stream).await {
        let at = shared.clock.now();
        shared.received.lock().unwrap().push(Received { at, head, body });
        let answer = match shared.next_reply() {
            Reply::Status(status) => format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n"),
            Reply::Redirects(to) => {
                format!("HTTP/1.1 307 There\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
            Reply::Closes => return,
            Reply::Hangs => return hang(&shared, &mut stream, None).await,
            Reply::Late(after) => {
                let at = at.plus(after);
                return hang(&shared, &mut stream, Some(at)).await;
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Says nothing until the other end closes, or until `at`; then 200.
async fn hang(shared: &Shared, stream: &mut BufReader<TcpStream>, at: Option<Timestamp>) {
    let hanging = Hanging::of(&shared.hanging);
    let mut nothing = [0; 1];
    let late = async {
        match at {
            Some(at) => shared.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = stream.read(&mut nothing) => {}
        () = late => {
            drop(hanging);
            let answer = b"HTTP/1.1 200 So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    }
}

/// Counts a POST that hangs, for as long as it does.
struct Hanging<'a>(&'a AtomicUsize);

impl<'a> Hanging<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The next POST's head and body; nothing when the connection was closed instead.
async fn post(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).ok()?))
}
