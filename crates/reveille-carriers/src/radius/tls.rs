//! Opening a socket to PostgreSQL, in TLS where its URL asks for that (`sslmode=require`).
//!
//! The server's certificate is checked against the system's roots; there is no way to have TLS without that check.

use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects; the handle is of the task that drives the socket.
pub(super) async fn connect(mut config: Config) -> Result<(Client, AbortHandle), Error> {
    if config.get_ssl_mode() == SslMode::Require {
        let (client, connection) = config.connect(MakeRustlsConnect::new(client_config())).await?;
        return Ok((client, tokio::spawn(async { drop(connection.await) }).abort_handle()));
    }
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    Ok((client, tokio::spawn(async { drop(connection.await) }).abort_handle()))
}

fn client_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has what the protocol's versions need");
    builder.with_root_certificates(roots).with_no_client_auth()
}
