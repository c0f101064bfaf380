//! Opening a socket to the database, in TLS where its URL asks for that (`sslmode=require`).
//!
//! The server's certificate is checked against the system's roots and those in the file that SSL_CERT_FILE
//! names; there is no way to have TLS without that check.

use super::connection::{Sql, SqlError};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects; the connection's socket is driven by the runtime that this runs on.
pub(super) async fn connect(url: &str) -> Sql<Client> {
    let mut config: Config = url.parse()?;
    config.application_name("reveille");
    config.tcp_user_timeout(std::time::Duration::from_secs(20));
    if config.get_ssl_mode() == SslMode::Require {
        let (client, connection) = config.connect(MakeRustlsConnect::new(client_config()?)).await?;
        tokio::spawn(connection);
        return Ok(client);
    }
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Has the database end what this connection waits for.
pub(super) async fn cancel(client: &Client) -> Sql<()> {
    // The token remembers whether the connection has TLS, and the connector is not asked where it has none.
    Ok(client.cancel_token().cancel_query(MakeRustlsConnect::new(client_config()?)).await?)
}

fn client_config() -> Sql<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| SqlError::Setup(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
