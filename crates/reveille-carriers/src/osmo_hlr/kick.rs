//! Having serving nodes let go of a subscriber, by Location Cancel through the HLR's GSUP port.
//!
//! An HLR whose control interface takes a service tells nobody; a device that is attached keeps it until it
//! registers next. Here one more node asks, under a name of its own, and the HLR passes that on by name.

use super::gsup;
use super::ipa;
use super::tcp::{Connection, Peer, wrong};
use reveille_domain::Imsi;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// How many may wait for a node before those are looked for who do so no longer.
const WAITING_MAX: usize = 1024;

/// How many orders wait for the connection to take them.
const ORDERS_MAX: usize = 64;

/// A connection to the GSUP port, made with the first order and again after it was lost.
pub(super) struct Kick {
    peer: Peer,
    /// Whose name is whose: no two processes have these in common.
    bits: u32,
    within: Duration,
    line: Mutex<Option<Line>>,
}

/// What leads to the task that has the connection. It goes when this does.
struct Line {
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Order {
    /// Have that node let go of that subscriber.
    LetGo { imsi: Imsi, node: Box<str>, let_go: oneshot::Sender<bool> },
    /// Say whether the HLR is there.
    Ping(oneshot::Sender<Result<(), Box<str>>>),
}

/// Of a connection whose task is no more: its runtime was shut down.
const ENDED: &str = "The connection to the HLR is being closed: the server stops";

impl Kick {
    pub(super) fn new(peer: Peer, within: Duration, bits: u32) -> Self {
        Self { peer, bits, within, line: Mutex::default() }
    }

    /// Has these nodes let go of a subscriber: whether all of them said in time that they did. Why one did not
    /// is of no use to anybody: it does not serve him, it is not there, or the connection is not.
    pub(super) async fn let_go(&self, imsi: &Imsi, nodes: &[&str]) -> bool {
        let asking = async {
            let mut asked = Vec::with_capacity(nodes.len());
            for node in nodes {
                let (let_go, says) = oneshot::channel();
                let order = Order::LetGo { imsi: imsi.clone(), node: (*node).into(), let_go };
                if self.orders().send(order).await.is_err() {
                    return false;
                }
                asked.push(says);
            }
            for says in asked {
                if says.await != Ok(true) {
                    return false;
                }
            }
            true
        };
        tokio::select! {
            biased;
            all = asking => all,
            () = self.peer.clock.sleep(self.within) => false,
        }
    }

    /// Whether the HLR would pass something on.
    pub(super) async fn ping(&self) -> Result<(), Box<str>> {
        let (ping, pong) = oneshot::channel();
        if self.orders().send(Order::Ping(ping)).await.is_err() {
            return Err(ENDED.into());
        }
        pong.await.unwrap_or_else(|_| Err(ENDED.into()))
    }

    fn orders(&self) -> mpsc::Sender<Order> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_ref().filter(|line| !line.orders.is_closed()) {
            return line.orders.clone();
        }
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let task = tokio::spawn(keep(self.peer.clone(), self.bits, ordered)).abort_handle();
        line.insert(Line { orders, task }).orders.clone()
    }
}

/// Connects when there is something to order, and sees to the connection until it is lost; for ever.
async fn keep(peer: Peer, mut bits: u32, mut orders: mpsc::Receiver<Order>) {
    while let Some(first) = orders.recv().await {
        // Never a name twice: the HLR welcomes both, and answers go to the one it has not yet noticed to be dead.
        let name = format!("REVEILLE-{bits:08X}");
        bits = bits.wrapping_add(1);
        let words = match greeted(&peer, &name).await {
            Err(words) => {
                first.fails(&words);
                words
            }
            Ok(connection) => {
                info!(hlr.address = %peer.address, "Connected to {} at {} as {name}", peer.what, peer.address);
                let mut link = Link { connection, name, waiting: HashMap::new(), pings: VecDeque::new() };
                link.carry_out(first);
                let Err(why) = link.serve(&mut orders).await else { return };
                let words = peer.lost(&why);
                warn!(hlr.address = %peer.address, "{words}");
                link.pings.into_iter().for_each(|ping| Order::Ping(ping).fails(&words));
                words
            }
        };
        while let Ok(order) = orders.try_recv() {
            order.fails(&words);
        }
    }
}

impl Order {
    fn fails(self, words: &str) {
        match self {
            Self::LetGo { let_go, .. } => drop(let_go.send(false)),
            Self::Ping(ping) => drop(ping.send(Err(words.into()))),
        }
    }
}

/// A connection that the HLR has welcomed under that name.
async fn greeted(peer: &Peer, name: &str) -> Result<Connection, Box<str>> {
    let mut connection = peer.connect().await?;
    peer.in_time(greet(&mut connection, name)).await?.map_err(|why| peer.lost(&why))?;
    Ok(connection)
}

async fn greet(connection: &mut Connection, name: &str) -> io::Result<()> {
    loop {
        let Some(frame) = connection.turn().await? else { continue };
        match (frame.protocol, frame.payload.first()) {
            (ipa::CCM, Some(&ipa::WHO)) => {
                connection.send(&gsup::i_am(name).map_err(|_| wrong("our name is too long"))?);
                connection.send(&ccm(ipa::WELCOME));
            }
            (ipa::CCM, Some(&ipa::WELCOME)) => return Ok(()),
            (ipa::CCM, Some(&ipa::PING)) => connection.send(&ccm(ipa::PONG)),
            _ => return Err(wrong("it speaks, but does not greet as a GSUP port does")),
        }
    }
}

fn ccm(what: u8) -> Vec<u8> {
    ipa::encode(ipa::CCM, &[what]).expect("one octet is not too long")
}

/// A connection that stands, and who waits for what.
struct Link {
    connection: Connection,
    name: String,
    /// By subscriber and node: a message has no number.
    waiting: HashMap<(String, String), Vec<oneshot::Sender<bool>>>,
    pings: VecDeque<oneshot::Sender<Result<(), Box<str>>>>,
}

impl Link {
    /// Orders and hears until the connection is lost, or nobody is left who could order.
    async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) -> io::Result<()> {
        loop {
            let room = self.connection.is_through();
            tokio::select! {
                biased;
                frame = self.connection.turn() => if let Some(frame) = frame? {
                    self.hear(&frame);
                },
                order = orders.recv(), if room => match order {
                    Some(order) => self.carry_out(order),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends what an order takes, unless nobody waits for it any more.
    fn carry_out(&mut self, order: Order) {
        match order {
            Order::LetGo { let_go, .. } if let_go.is_closed() => {}
            Order::LetGo { imsi, node, let_go } => match gsup::location_cancel(&imsi, &self.name, &node) {
                Ok(frame) => {
                    self.connection.send(&frame);
                    self.clear_away();
                    let whose = (imsi.as_str().to_owned(), node.into());
                    self.waiting.entry(whose).or_default().push(let_go);
                }
                Err(ipa::TooLong) => drop(let_go.send(false)), // such a name is none that it was registered by
            },
            Order::Ping(ping) => {
                self.connection.send(&ccm(ipa::PING));
                self.pings.push_back(ping);
            }
        }
    }

    fn hear(&mut self, frame: &ipa::Frame) {
        match (frame.protocol, frame.payload.as_slice()) {
            (ipa::CCM, [ipa::PING, ..]) => self.connection.send(&ccm(ipa::PONG)),
            (ipa::CCM, [ipa::PONG, ..]) => {
                if let Some(ping) = self.pings.pop_front() {
                    let _nobody_waits = ping.send(Ok(()));
                }
            }
            (ipa::OSMO, [gsup::GSUP, message @ ..]) => {
                let Some(said) = gsup::said(message) else { return };
                for waiting in self.waiting.remove(&(said.imsi, said.node)).unwrap_or_default() {
                    let _nobody_waits = waiting.send(said.let_go);
                }
            }
            _ => {}
        }
    }

    /// Forgets those who wait no longer, now and then.
    fn clear_away(&mut self) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.retain(|_, waiting| {
                waiting.retain(|one| !one.is_closed());
                !waiting.is_empty()
            });
        }
    }
}
