//! `reveille listen`: a callback listener for development.

use super::{asked_to_stop, block_on};
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The port on 127.0.0.1; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// The status to answer with.
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// Count in silence.
    #[arg(long)]
    quiet: bool,
}

/// What is called with the body of each callback.
pub(crate) type Heard = Arc<dyn Fn(&Bytes) + Send + Sync>;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status = StatusCode::from_u16(arguments.status).context("--status is an HTTP status, 200 for one")?;
    let quiet = arguments.quiet;
    let port = arguments.port;
    block_on(async move {
        let heard: Heard = Arc::new(move |body| {
            if !quiet {
                println!("{}", String::from_utf8_lossy(body));
            }
        });
        let address = listen(port, status, heard).await?;
        eprintln!("Listening for callbacks on http://{address}/callbacks");
        asked_to_stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Listens on loopback until the runtime ends.
pub(crate) async fn listen(port: u16, status: StatusCode, heard: Heard) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let heard = Arc::clone(&heard);
            let service = service_fn(move |request| answer(request, status, Arc::clone(&heard)));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

async fn answer(
    request: Request<Incoming>,
    status: StatusCode,
    heard: Heard,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            heard(&body.to_bytes());
            *response.status_mut() = status;
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}
