//! Listeners written by hand, so that each can misbehave in its own way: no HTTP library answers here.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// An answer without a body, after which the connection may go on.
pub(crate) fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n")
}

/// A socket on a port of its own.
pub(crate) struct Listener {
    socket: TcpListener,
}

impl Listener {
    pub(crate) async fn start() -> Self {
        Self { socket: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/callback?a=b", self.address())
    }

    pub(crate) async fn accept(&self) -> Peer<TcpStream> {
        Peer { stream: self.socket.accept().await.expect("a connection").0 }
    }

    /// Whether somebody connected who has not been accepted yet.
    pub(crate) fn was_called(self) -> bool {
        self.socket.into_std().expect("it is bound").accept().is_ok()
    }
}

/// The listener's end of one connection.
pub(crate) struct Peer<S> {
    stream: S,
}

pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// The next POST; `None` when the connection was closed instead.
    pub(crate) async fn request(&mut self) -> Option<Received> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).expect("a head is ASCII").to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let mut body = vec![0; length.expect("a length").parse().expect("a number")];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Received { head, body })
    }

    /// Sends as much of `text` as the other end takes.
    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// Takes one POST and answers with `text`.
    pub(crate) async fn answer(&mut self, text: &str) -> Received {
        let received = self.request().await.expect("a POST");
        self.send(text).await;
        received
    }
}

/// What makes a listener speak TLS, under a certificate that nobody signed but itself.
pub(crate) struct Certified {
    acceptor: TlsAcceptor,
    /// The roots of one who trusts that certificate.
    pub(crate) roots: RootCertStore,
}

impl Certified {
    pub(crate) fn by(issuer: &str, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut wanted = rcgen::CertificateParams::new([name.to_string()]).expect("a name");
        wanted.distinguished_name.push(rcgen::DnType::CommonName, issuer);
        let certificate = wanted.self_signed(&key).expect("a certificate").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), roots }
    }

    pub(crate) async fn accept(&self, listener: &Listener) -> Option<Peer<TlsStream<TcpStream>>> {
        let stream = listener.accept().await.stream;
        Some(Peer { stream: self.acceptor.accept(stream).await.ok()? })
    }
}
