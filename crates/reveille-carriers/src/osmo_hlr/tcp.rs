//! Connections to an HLR: made within a time, and given up when the other end is gone.

use super::ipa::{self, Frame};
use reveille_domain::Clock;
use rustix::net::sockopt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long it may take to connect, and to be welcome.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the other end's system may say nothing to what was sent, or when it is asked whether it is there,
/// before the connection counts as lost. It answers while the HLR itself stands still.
const GONE_AFTER: Duration = Duration::from_secs(30);
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// How much is read at a time.
const READ_AT_A_TIME: usize = 16 * 1024;

/// One side of a connection of an HLR's: its address, and what it is called in words for operators.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) what: &'static str,
    pub(super) key: &'static str,
    pub(super) clock: Arc<dyn Clock>,
}

impl Peer {
    /// Connects; else says in words for the operator what to do.
    pub(super) async fn connect(&self) -> Result<Connection, Box<str>> {
        let (at, what, key) = (&self.address, self.what, self.key);
        let connected = self.in_time(TcpStream::connect(at.as_str())).await?;
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("{what} at {at} refuses connections: start osmo-hlr, or correct `{key}`")
            }
            _ => format!("{what} at {at} cannot be connected to ({error}): correct `{key}`, or the network"),
        })?;
        watch(&stream)
            .map_err(|error| format!("the connection to {what} at {at} cannot be set up ({error})"))?;
        Ok(Connection { stream, read: Vec::new(), unsent: Vec::new() })
    }

    /// What comes of it within the time that it may take to be connected and welcome.
    pub(super) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, Box<str>> {
        tokio::select! {
            biased;
            done = future => Ok(done),
            () = self.clock.sleep(CONNECT_WITHIN) => {
                let (at, what) = (&self.address, self.what);
                let within = CONNECT_WITHIN.as_secs();
                Err(format!("{what} at {at} does not answer within {within} s: look after osmo-hlr, or the network").into())
            }
        }
    }

    /// That the connection was lost, in words for the operator.
    pub(super) fn lost(&self, why: &io::Error) -> Box<str> {
        let (at, what) = (&self.address, self.what);
        format!("{what} at {at} was lost ({why}): see whether osmo-hlr runs, and its log").into()
    }
}

/// No waiting for more to send, and an end to waiting for a machine that is gone.
fn watch(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ASKED_EVERY)?;
    sockopt::set_tcp_keepintvl(stream, ASKED_EVERY)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(GONE_AFTER.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// A connection on which frames come and go.
pub(super) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    /// Whether all that was to be sent is on its way, as far as this process is concerned.
    pub(super) fn is_through(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Has a frame sent by and by, while [`Connection::next`] is awaited.
    pub(super) fn send(&mut self, frame: &[u8]) {
        self.unsent.extend(frame);
    }

    /// Sends what is to be sent, until a frame has come: that one; nothing when all is sent before. Safe to drop
    /// while it waits.
    pub(super) async fn turn(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.taken()? {
                return Ok(Some(frame));
            }
            let (mut reading, mut writing) = self.stream.split();
            self.read.reserve(READ_AT_A_TIME);
            tokio::select! {
                biased;
                octets = reading.read_buf(&mut self.read) => if octets? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed from there"));
                },
                octets = writing.write(&self.unsent), if !self.unsent.is_empty() => {
                    self.unsent.drain(..octets?);
                    if self.unsent.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn taken(&mut self) -> io::Result<Option<Frame>> {
        ipa::decode(&mut self.read).map_err(|ipa::TooLong| wrong("a frame that is no frame of an HLR's"))
    }
}

/// The other end says what an HLR does not say.
pub(super) fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
