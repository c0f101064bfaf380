//! A way to a database on which changes can be held back: what was sent and lies somewhere, until it comes after all.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// What a message of MongoDB's protocol begins with, after its heads, that changes documents.
const CHANGE: &[u8] = b"\x02update\0";

/// A listening port behind which the database is.
pub(crate) struct Stalling {
    pub(crate) at: SocketAddr,
    holding: watch::Sender<bool>,
    held: mpsc::UnboundedReceiver<()>,
    passed: mpsc::UnboundedReceiver<()>,
}

struct Way {
    holding: watch::Receiver<bool>,
    held: mpsc::UnboundedSender<()>,
    passed: mpsc::UnboundedSender<()>,
}

impl Stalling {
    pub(crate) async fn before(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (holding, told) = watch::channel(false);
        let (held, held_there) = mpsc::unbounded_channel();
        let (passed, passed_there) = mpsc::unbounded_channel();
        let way = Arc::new(Way { holding: told, held, passed });
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (from, to_near) = near.into_split();
                let (from_far, to) = TcpStream::connect(database).await.unwrap().into_split();
                tokio::spawn(there(from, to, Arc::clone(&way)));
                tokio::spawn(back(from_far, to_near));
            }
        });
        Self { at, holding, held: held_there, passed: passed_there }
    }

    /// From now on changes are held back.
    pub(crate) fn hold(&self) {
        self.holding.send_replace(true);
    }

    /// Ends when one is.
    pub(crate) async fn has_one(&mut self) {
        self.held.recv().await.unwrap();
    }

    /// Lets what was held go on to the database, and ends when the first of it has been answered.
    pub(crate) async fn release(&mut self) {
        self.holding.send_replace(false);
        self.passed.recv().await.unwrap();
    }
}

/// Goes on to the end, though whoever sent it has gone.
async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Arc<Way>) {
    let mut octets = vec![0; 1 << 16];
    let mut holding = way.holding.clone();
    while let Ok(read @ 1..) = from.read(&mut octets).await {
        let some = &octets[..read];
        let held = *holding.borrow() && some.windows(CHANGE.len()).any(|at| at == CHANGE);
        if held {
            way.held.send(()).unwrap();
            holding.wait_for(|holding| !holding).await.unwrap();
        }
        to.write_all(some).await.unwrap();
        if held {
            way.passed.send(()).unwrap();
        }
    }
    std::future::pending::<()>().await; // the database is not to learn that anybody has gone
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _gone = tokio::io::copy(&mut from, &mut to).await;
}
