//! One keep-alive connection to one listener.
//!
//! hyper's half of a connection is not a task of its own: it moves along inside the future that waits
//! for it. So nothing outlives a [`Connection`], a dropped POST takes its socket with it, and an answer
//! costs no hop between threads.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::failure::AttemptFailed;
use crate::guard::Guard;
use crate::observed::{Heard, Observed};
use crate::tls::Tls;
use crate::url::{Host, ListenerUrl, Scheme};

/// How much of an answer is read. Only its status counts; the rest is read so that the connection can be
/// used again, which a listener that answers with more than this forgoes.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The largest head of an answer, and the read buffer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One keep-alive connection to one listener, for one POST at a time.
///
/// Dropping it closes it at once, and so does dropping the future of [`post`](Self::post).
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    /// `None` when closed. A POST takes it out, and puts it back if the connection may be used again.
    driver: Option<Driver>,
    heard: Heard,
    used: Used,
    target: Uri,
    headers: HeaderMap,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Used {
    Never,
    Before,
}

impl Connection {
    /// Resolves the host, connects to the first address that `guard` admits and that answers, and for
    /// `https` verifies the listener's certificate. No other address is connected to. Addresses are tried
    /// one after the other, in the resolver's order.
    pub async fn open(url: &ListenerUrl, guard: &Guard, tls: &Tls) -> Result<Connection, AttemptFailed> {
        let (address, stream) = connect(url, guard).await?;
        match url.scheme() {
            Scheme::Http => Self::over(stream, address, url).await,
            Scheme::Https => {
                let stream = tls.connect(url.host(), address, stream).await?;
                Self::over(stream, address, url).await
            }
        }
    }

    async fn over<S>(stream: S, address: SocketAddr, url: &ListenerUrl) -> Result<Self, AttemptFailed>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let heard = Heard::default();
        let io = TokioIo::new(Observed::new(stream, heard.clone()));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(io)
            .await
            .map_err(|_| AttemptFailed::Closed { address })?;
        let driver = Some(Driver { running: Some(Box::pin(driver)) });
        let target = url.target().clone();
        Ok(Self { address, sender, driver, heard, used: Used::Never, target, headers: headers(url) })
    }

    /// POSTs `body`, which is JSON, and returns the status of the answer, whatever it is: a redirect is a
    /// status like any other.
    ///
    /// The answer is read to [`ANSWER_BYTES_MAX`]. If it is longer or breaks off, the status counts and
    /// the connection is closed. A failure closes it too, and a POST on a closed connection fails as
    /// [stale](AttemptFailed::is_stale).
    pub async fn post(&mut self, body: Bytes) -> Result<u16, AttemptFailed> {
        let used = std::mem::replace(&mut self.used, Used::Before);
        let Some(mut driver) = self.driver.take() else {
            return Err(self.closed(used));
        };
        if driver.alongside(poll_fn(|cx| self.sender.poll_ready(cx))).await.is_err() {
            return Err(self.closed(used)); // whatever came before anything was sent is no answer
        }
        self.heard.clear();
        let answer = self.sender.send_request(self.request(body));
        let answer = driver.alongside(answer).await.map_err(|error| self.unanswered(error, used))?;
        let status = answer.status().as_u16();
        if driver.reads_to_end(answer.into_body()).await && driver.is_running_still().await {
            self.driver = Some(driver);
        }
        Ok(status)
    }

    /// Whether it may be used again, as far as is known: that the listener has closed it meanwhile shows
    /// only at the next POST, as a failure that [is stale](AttemptFailed::is_stale).
    pub fn is_open(&self) -> bool {
        self.driver.is_some()
    }

    /// The address that it leads to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body)); // hyper adds Content-Length
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn unanswered(&self, error: hyper::Error, used: Used) -> AttemptFailed {
        let address = self.address;
        if error.is_parse() {
            AttemptFailed::NotHttp { address, source: error.into() }
        } else if self.heard.anything() {
            AttemptFailed::Closed { address }
        } else {
            self.closed(used)
        }
    }

    fn closed(&self, used: Used) -> AttemptFailed {
        match used {
            Used::Never => AttemptFailed::Closed { address: self.address },
            Used::Before => AttemptFailed::Stale { address: self.address },
        }
    }
}

/// hyper's half of a connection: reads and writes while it is polled, and closes the socket when dropped.
struct Driver {
    /// `None` once it has ended.
    running: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
}

impl Driver {
    /// Waits for `future` while the connection moves along. Once that has ended, every future that waits
    /// for something from it is told so, and thus ends too.
    async fn alongside<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.advance(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.running
            && connection.as_mut().poll(cx).is_ready()
        {
            self.running = None;
        }
    }

    /// Whether `answer` came whole, and within the limit.
    async fn reads_to_end(&mut self, mut answer: Incoming) -> bool {
        let mut left = ANSWER_BYTES_MAX;
        if answer.size_hint().lower() > left {
            return false;
        }
        while let Some(frame) = self.alongside(answer.frame()).await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length as u64) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    }

    /// Whether the connection goes on after an answer, or was only for this one.
    async fn is_running_still(&mut self) -> bool {
        poll_fn(|cx| {
            self.advance(cx);
            Poll::Ready(self.running.is_some())
        })
        .await
    }
}

async fn connect(url: &ListenerUrl, guard: &Guard) -> Result<(SocketAddr, TcpStream), AttemptFailed> {
    let addresses = resolve(url).await?;
    let (admitted, refused): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| guard.admits(address.ip()));
    let mut failed = refused.first().map(|address| AttemptFailed::NotAdmitted { address: address.ip() });
    for address in admitted {
        match connect_to(address, guard).await {
            Ok(stream) => return Ok((address, stream)),
            Err(reason) => failed = Some(reason),
        }
    }
    Err(failed.unwrap_or_else(|| unresolved(url, io::ErrorKind::NotFound.into())))
}

async fn connect_to(address: SocketAddr, guard: &Guard) -> Result<TcpStream, AttemptFailed> {
    let failed = |source| AttemptFailed::Connect { address, source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let peer = stream.peer_addr().map_err(failed)?.ip(); // the last word, whatever was asked for
    if guard.admits(peer) { Ok(stream) } else { Err(AttemptFailed::NotAdmitted { address: peer }) }
}

async fn resolve(url: &ListenerUrl) -> Result<Vec<SocketAddr>, AttemptFailed> {
    match url.host() {
        Host::Address(address) => Ok(vec![SocketAddr::new(*address, url.port())]),
        Host::Name(name) => match lookup_host((&**name, url.port())).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(source) => Err(unresolved(url, source)),
        },
    }
}

fn unresolved(url: &ListenerUrl, source: io::Error) -> AttemptFailed {
    AttemptFailed::Resolve { name: url.host().to_string().into(), source }
}

fn headers(url: &ListenerUrl) -> HeaderMap {
    let host = HeaderValue::try_from(url.authority()).expect("a parsed host is visible ASCII");
    HeaderMap::from_iter([
        (HOST, host),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(concat!("reveille/", env!("CARGO_PKG_VERSION")))),
    ])
}
