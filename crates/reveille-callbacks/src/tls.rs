//! TLS to listeners: set up once, for all connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::AttemptFailed;
use crate::url::Host;

/// How `https` listeners are verified: TLS 1.2 or 1.3, by ring, no client certificate.
#[derive(Clone)]
pub struct Tls {
    /// `None` without roots: nobody could be verified.
    connector: Option<TlsConnector>,
}

impl Tls {
    /// Trusts the authorities that the system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    ///
    /// Reads files, so it is called once, at the start. Never fails: what cannot be read is left out, and
    /// without any root an attempt at an `https` listener fails with [`AttemptFailed::NoRoots`].
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots)
    }

    /// Trusts `roots` alone.
    pub fn trusting(roots: RootCertStore) -> Self {
        let connector = (!roots.is_empty()).then(|| TlsConnector::from(Arc::new(config(roots))));
        Self { connector }
    }

    pub(crate) async fn connect(
        &self,
        host: &Host,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, AttemptFailed> {
        let connector = self.connector.as_ref().ok_or(AttemptFailed::NoRoots)?;
        let failed = |source| AttemptFailed::Tls { address, source };
        let name = server_name(host).map_err(failed)?;
        connector.connect(name, stream).await.map_err(failed)
    }
}

fn config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|source| io::Error::new(io::ErrorKind::InvalidInput, source)),
        Host::Address(address) => Ok(ServerName::from(*address)),
    }
}
