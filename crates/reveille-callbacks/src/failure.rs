//! Why a delivery attempt came to no status.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why an attempt came to no status. `Display` is short and fit to show to the listener's owner; what
/// lies beneath, where something does, is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptFailed {
    /// The name could not be resolved, or has no address.
    #[error("the name {name} could not be resolved")]
    Resolve {
        /// The host of the URL.
        name: Box<str>,
        /// What the resolver said.
        source: io::Error,
    },
    /// Every address of the host is one where listeners may not be. Nothing was sent.
    #[error("listeners may not be at {address}")]
    NotAdmitted {
        /// The first such address.
        address: IpAddr,
    },
    /// No TCP connection; with several addresses, the last one's reason.
    #[error("{} {address}", no_connection(source))]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no root certificates, so no listener's certificate can be verified.
    #[error("this server has no root certificates to verify a listener's with")]
    NoRoots,
    /// No TLS connection.
    #[error("{}", no_tls(source, address))]
    Tls {
        /// With whom.
        address: SocketAddr,
        /// What rustls said.
        source: io::Error,
    },
    /// A connection that had been used before was closed, and no byte of an answer came. That is what
    /// happens when a listener tires of an idle connection: a fresh one may do better.
    #[error("{address} closed the connection that was kept open")]
    Stale {
        /// The listener.
        address: SocketAddr,
    },
    /// The connection was closed before the answer's head was whole.
    #[error("{address} closed the connection without an answer")]
    Closed {
        /// The listener.
        address: SocketAddr,
    },
    /// What came is not an HTTP/1 answer, or its head is too large.
    #[error("{address} did not answer in HTTP/1.1")]
    NotHttp {
        /// The listener.
        address: SocketAddr,
        /// What hyper said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AttemptFailed {
    /// Whether the POST failed on a connection that had been used before and no byte of an answer came:
    /// the caller may then open a fresh one within the same attempt.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

fn no_connection(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused by",
        io::ErrorKind::TimedOut => "no answer to connecting to",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to",
        _ => "no connection to",
    }
}

fn no_tls(source: &io::Error, address: &SocketAddr) -> String {
    use rustls::CertificateError as Why;
    let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return format!("no TLS connection with {address}");
    };
    let flaw = match why {
        Why::UnknownIssuer | Why::BadSignature => "is not signed by an authority that this server trusts",
        Why::Expired | Why::ExpiredContext { .. } => "has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "is not valid yet",
        Why::NotValidForName | Why::NotValidForNameContext { .. } => "is for another host",
        other => return format!("the certificate of {address} is not valid: {other}"),
    };
    format!("the certificate of {address} {flaw}")
}
