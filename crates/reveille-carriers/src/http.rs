//! One HTTP server, as its client sees it: an origin, a pool of connections, TLS by the authorities that the system
//! trusts, or by one's own. It says of each call whether it was answered, was never sent, or was sent and nobody knows.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// How much of an answer is read: the status of the largest request is a good megabyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a connection may take to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);

/// A server.
pub(crate) struct Server {
    origin: Box<str>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What is asked of it.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Its media type, and the bytes.
    pub(crate) body: Option<(&'static str, Bytes)>,
}

/// What it answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// What names the version of what it is about.
    pub(crate) etag: Option<Box<str>>,
    /// Where to look next.
    pub(crate) location: Option<Box<str>>,
    pub(crate) body: Bytes,
}

/// Whom to trust and who to be, in PEM: where nothing is said, the system's authorities, and nobody.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tls<'a> {
    pub(crate) authorities: Option<&'a [u8]>,
    /// A chain of certificates, and the key of the first.
    pub(crate) identity: Option<(&'a [u8], &'a [u8])>,
}

/// Why PEM cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum InvalidTls {
    #[error("no certificate of an authority can be read")]
    Authorities,
    #[error("no certificate of ours can be read")]
    Certificate,
    #[error("no private key can be read")]
    Key,
    #[error("certificate and key do not go together: {0}")]
    Pair(rustls::Error),
}

/// Why there is no answer, in words.
pub(crate) enum Unanswered {
    /// Nothing was sent.
    NotSent(String),
    /// It may have arrived.
    Lost,
}

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: None }
    }

    pub(crate) fn post(path: String, media: &'static str, body: Vec<u8>) -> Self {
        let body = Some((media, Bytes::from(body)));
        Self { method: Method::POST, path, headers: Vec::new(), body }
    }

    pub(crate) fn patch(path: String, media: &'static str, body: Vec<u8>) -> Self {
        Self { method: Method::PATCH, ..Self::post(path, media, body) }
    }

    /// The same with a header more. A value that no header can have is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            self.headers.push((name, value));
        }
        self
    }
}

impl Server {
    /// The server at that origin, `https://host` or `http://host:port`; nothing where it is none.
    pub(crate) fn at(origin: &str) -> Option<Self> {
        let tls = Tls::default().config().expect("the system's authorities and nobody go together");
        Self::in_tls(origin, tls)
    }

    /// The same, with TLS of one's own.
    pub(crate) fn in_tls(origin: &str, tls: ClientConfig) -> Option<Self> {
        is_origin(origin).then(|| Self { origin: origin.into(), client: client(tls) })
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Unanswered> {
        let request = self.request(call).map_err(|error| Unanswered::NotSent(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            let words = with_causes(&error);
            if error.is_connect() {
                return Unanswered::NotSent(words);
            }
            debug!(origin = &*self.origin, words, "A call was not answered");
            Unanswered::Lost
        })?;
        let (head, body) = answer.into_parts();
        let header = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let seconds = header(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: seconds.map(Duration::from_secs),
            etag: header(ETAG).map(Into::into),
            location: header(LOCATION).map(Into::into),
            body: body.map_err(|_| Unanswered::Lost)?.to_bytes(),
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let uri = format!("{}{}", self.origin, call.path);
        let mut request = Request::builder().method(call.method.clone()).uri(uri);
        request = request.header(USER_AGENT, concat!("reveille/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        match &call.body {
            Some((media, body)) => request.header(CONTENT_TYPE, *media).body(Full::new(body.clone())),
            None => request.body(Full::default()),
        }
    }
}

/// Whether it is a scheme and a host, with a port at most.
pub(crate) fn is_origin(text: &str) -> bool {
    let parsed: Option<Uri> = text.parse().ok();
    parsed.is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.ends_with('/');
        let host = uri.authority().is_some_and(|at| !at.as_str().contains('@') && !at.host().is_empty());
        scheme && bare && host
    })
}

impl Tls<'_> {
    pub(crate) fn config(self) -> Result<ClientConfig, InvalidTls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusting = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(self.roots()?);
        let Some((certificates, key)) = self.identity else { return Ok(trusting.with_no_client_auth()) };
        let chain = certificates_in(certificates).ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(InvalidTls::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidTls::Key)?;
        trusting.with_client_auth_cert(chain, key).map_err(InvalidTls::Pair)
    }

    fn roots(self) -> Result<RootCertStore, InvalidTls> {
        let mut roots = RootCertStore::empty();
        let Some(authorities) = self.authorities else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for authority in certificates_in(authorities).map_err(|_| InvalidTls::Authorities)? {
            roots.add(authority).map_err(|_| InvalidTls::Authorities)?;
        }
        if roots.is_empty() { Err(InvalidTls::Authorities) } else { Ok(roots) }
    }
}

fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

fn client(tls: ClientConfig) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECTED_WITHIN));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).build(connector)
}

fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for good in ["https://thingspace.verizon.com", "http://127.0.0.1:8080", "http://[::1]:1"] {
            assert!(is_origin(good), "{good}");
        }
        let bad =
            ["", "host", "ftp://host", "https://host/", "https://host/api", "https://u:p@host", "https://"];
        for bad in bad {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
