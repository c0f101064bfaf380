//! The control interface: commands as text, answered in the order in which they were sent.
//!
//! There is one connection, kept as long as the other end keeps it. Of several, an HLR takes a command in turn,
//! so that what lies unread on one is carried out after what was sent later over another; on one, order holds.
//! Therefore nobody's deadline closes it: what was sent and is not answered stays in the queue, heard or not.

use super::ipa;
use super::tcp::{Connection, Peer, wrong};
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// How many commands are sent before the first of them is answered. Above 16 nothing gets faster; and of what
/// this leaves unread, [`Ctrl::fence`] must send as much again.
pub(super) const IN_FLIGHT: usize = 64;

/// The extension of [`ipa::OSMO`] that is the control interface.
const CTRL: u8 = 0x00;

/// One command. Values of either are digits and names of the interface's own, never free text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Get { variable: String },
    Set { variable: String, value: &'static str },
}

/// What was said to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The value, of a variable that was set `OK`.
    Value(String),
    /// An error, in its words.
    Refused(String),
}

/// Why nothing was said, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It was not sent, not even in part.
    NotSent(Box<str>),
    /// It was sent, and the connection lost before the answer.
    Lost(Box<str>),
}

impl Unheard {
    pub(super) fn into_words(self) -> Box<str> {
        match self {
            Self::NotSent(words) | Self::Lost(words) => words,
        }
    }
}

pub(super) type Heard = Result<Answer, Unheard>;

/// A connection to the control interface, made with the first command and again after it was lost.
pub(super) struct Ctrl {
    peer: Peer,
    line: Mutex<Option<Line>>,
    fences: Fences,
}

/// What leads to the task that has the connection. It goes when this does.
struct Line {
    calls: mpsc::Sender<Call>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A command, and who waits for what is said.
struct Call {
    command: Command,
    heard: oneshot::Sender<Heard>,
}

/// A command that will be sent in its turn. Whoever drops this before has it not sent at all.
pub(super) struct Queued(oneshot::Receiver<Heard>);

impl Queued {
    pub(super) async fn heard(self) -> Heard {
        self.0.await.unwrap_or_else(|_| Err(Unheard::Lost(ENDED.into())))
    }
}

/// Of a connection whose task is no more: its runtime was shut down.
const ENDED: &str = "The connection to the HLR is being closed: the server stops";

/// Which fences have been asked for, and which have been put up.
#[derive(Default)]
struct Fences {
    asked: Mutex<u64>,
    /// All that were asked for up to this one stand. Locked while one is being put up.
    standing: tokio::sync::Mutex<u64>,
}

impl Ctrl {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, line: Mutex::default(), fences: Fences::default() }
    }

    /// Sends a command, when those before it leave room, and waits for what is said.
    pub(super) async fn ask(&self, command: Command) -> Heard {
        self.queue(command).await?.heard().await
    }

    /// Has a command sent. Commands are sent in the order in which this returns.
    pub(super) async fn queue(&self, command: Command) -> Result<Queued, Unheard> {
        let (heard, queued) = oneshot::channel();
        let sent = self.calls().send(Call { command, heard }).await;
        sent.map(|()| Queued(queued)).map_err(|_| Unheard::NotSent(ENDED.into()))
    }

    /// A command that is answered and has no effect, nor a line in the log.
    pub(super) fn harmless() -> Command {
        Command::Get { variable: "fence".into() }
    }

    /// Waits until all is done that any other connection had sent before this was called, dead ones too: the
    /// HLR takes a command of each in turn, and nobody leaves more than [`IN_FLIGHT`] on one. Those who wait at
    /// the same time share a fence.
    pub(super) async fn fence(&self) -> Result<(), Unheard> {
        let mine = {
            let mut asked = self.fences.asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked += 1;
            *asked
        };
        let mut standing = self.fences.standing.lock().await;
        if *standing >= mine {
            return Ok(());
        }
        let covered = *self.fences.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queued = Vec::with_capacity(IN_FLIGHT);
        for _ in 0..IN_FLIGHT {
            queued.push(self.queue(Self::harmless()).await?);
        }
        for each in queued {
            each.heard().await?;
        }
        *standing = covered;
        Ok(())
    }

    /// Where calls are handed in, to a task that is there.
    fn calls(&self) -> mpsc::Sender<Call> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_ref().filter(|line| !line.calls.is_closed()) {
            return line.calls.clone();
        }
        let (calls, called) = mpsc::channel(IN_FLIGHT);
        let task = tokio::spawn(keep(self.peer.clone(), called)).abort_handle();
        line.insert(Line { calls, task }).calls.clone()
    }
}

/// Connects when something is to be sent, and sees to the connection until it is lost; for ever.
async fn keep(peer: Peer, mut calls: mpsc::Receiver<Call>) {
    while let Some(first) = calls.recv().await {
        if first.heard.is_closed() {
            continue;
        }
        let words = match peer.connect().await {
            Err(words) => {
                first.fails(Unheard::NotSent(words.clone()));
                words
            }
            Ok(connection) => {
                info!(hlr.address = %peer.address, "Connected to {} at {}", peer.what, peer.address);
                let mut link = Link { connection, unanswered: VecDeque::new(), last: 0 };
                link.begin(first);
                let Err(why) = link.serve(&mut calls).await else { return };
                let words = peer.lost(&why);
                let unanswered = link.unanswered.len();
                warn!(hlr.address = %peer.address, unanswered, "{words}; {unanswered} commands are unanswered");
                link.unanswered.into_iter().for_each(|sent| sent.call.fails(Unheard::Lost(words.clone())));
                words
            }
        };
        while let Ok(call) = calls.try_recv() {
            call.fails(Unheard::NotSent(words.clone()));
        }
    }
}

impl Call {
    fn fails(self, why: Unheard) {
        let _nobody_waits = self.heard.send(Err(why));
    }
}

/// A connection that stands, and what was sent over it and is not answered.
struct Link {
    connection: Connection,
    unanswered: VecDeque<Sent>,
    last: u64,
}

struct Sent {
    number: u64,
    call: Call,
}

impl Link {
    /// Sends and hears until the connection is lost, or nobody is left who could call.
    async fn serve(&mut self, calls: &mut mpsc::Receiver<Call>) -> io::Result<()> {
        loop {
            let room = self.connection.is_through() && self.unanswered.len() < IN_FLIGHT;
            tokio::select! {
                biased;
                frame = self.connection.turn() => if let Some(frame) = frame? {
                    self.hear(&frame)?;
                },
                call = calls.recv(), if room => match call {
                    Some(call) => self.begin(call),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends a command, unless nobody waits for it any more.
    fn begin(&mut self, call: Call) {
        if call.heard.is_closed() {
            return;
        }
        let number = self.last + 1;
        let Ok(frame) = ipa::encode(ipa::OSMO, &call.command.octets(number)) else {
            return call.fails(Unheard::NotSent("A command is longer than an HLR takes".into()));
        };
        self.last = number;
        self.connection.send(&frame);
        self.unanswered.push_back(Sent { number, call });
    }

    fn hear(&mut self, frame: &ipa::Frame) -> io::Result<()> {
        match (frame.protocol, frame.payload.split_first()) {
            (ipa::CCM, Some((&ipa::PING, _))) => {
                let pong = ipa::encode(ipa::CCM, &[ipa::PONG]).expect("one octet is not too long");
                self.connection.send(&pong);
                Ok(())
            }
            (ipa::CCM, _) => Ok(()),
            (ipa::OSMO, Some((&CTRL, text))) => self.hear_text(&String::from_utf8_lossy(text)),
            _ => Err(wrong("it speaks, but not as a control interface does")),
        }
    }

    fn hear_text(&mut self, text: &str) -> io::Result<()> {
        if text.starts_with("TRAP ") {
            return Ok(()); // a report to whom it may concern
        }
        let sent = self.unanswered.front().ok_or_else(|| wrong("it answers what was not asked"))?;
        let answer = sent.call.command.answer(sent.number, text);
        let answer = answer.ok_or_else(|| wrong("it answers something else than what was asked"))?;
        if let Some(sent) = self.unanswered.pop_front() {
            let _nobody_waits = sent.call.heard.send(Ok(answer));
        }
        Ok(())
    }
}

impl Command {
    fn octets(&self, number: u64) -> Vec<u8> {
        let text = match self {
            Self::Get { variable } => format!("\0GET {number} {variable}"),
            Self::Set { variable, value } => format!("\0SET {number} {variable} {value}"),
        };
        debug_assert_eq!(text.as_bytes()[0], CTRL);
        text.into_bytes()
    }

    /// What `text` says to this command under that number; nothing where it is no answer to it.
    fn answer(&self, number: u64, text: &str) -> Option<Answer> {
        let (kind, rest) = text.split_once(' ')?;
        let rest = rest.strip_prefix(&number.to_string())?.strip_prefix(' ')?;
        if kind == "ERROR" {
            return Some(Answer::Refused(rest.into()));
        }
        let (expected, variable) = match self {
            Self::Get { variable } => ("GET_REPLY", variable),
            Self::Set { variable, .. } => ("SET_REPLY", variable),
        };
        let value = rest.strip_prefix(variable.as_str())?.strip_prefix(' ')?;
        (kind == expected).then(|| Answer::Value(value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> Command {
        Command::Get { variable: "subscriber.by-imsi-001010000000001.info".into() }
    }

    fn set() -> Command {
        Command::Set { variable: "subscriber.by-imsi-001010000000001.ps-enabled".into(), value: "0" }
    }

    #[test]
    fn commands_are_texts_with_a_number() {
        assert_eq!(get().octets(7), b"\0GET 7 subscriber.by-imsi-001010000000001.info");
        assert_eq!(set().octets(18), b"\0SET 18 subscriber.by-imsi-001010000000001.ps-enabled 0");
    }

    #[test]
    fn a_value_is_all_that_follows_the_variable() {
        let said = "GET_REPLY 7 subscriber.by-imsi-001010000000001.info \nid\t1\nimsi\t001010000000001";
        let value = Answer::Value("\nid\t1\nimsi\t001010000000001".into());
        assert_eq!(get().answer(7, said), Some(value));
        let said = "SET_REPLY 8 subscriber.by-imsi-001010000000001.ps-enabled OK";
        assert_eq!(set().answer(8, said), Some(Answer::Value("OK".into())));
        let refused = Answer::Refused("No such subscriber.".into());
        assert_eq!(get().answer(15, "ERROR 15 No such subscriber."), Some(refused));
    }

    #[test]
    fn what_answers_something_else_is_no_answer() {
        for other in [
            "GET_REPLY 8 subscriber.by-imsi-001010000000001.info x",
            "GET_REPLY 7 subscriber.by-imsi-001010000000002.info x",
            "SET_REPLY 7 subscriber.by-imsi-001010000000001.info OK",
            "ERROR err Missing ID",
            "ERROR 77 Command not found",
            "GET_REPLY",
            "",
        ] {
            assert_eq!(get().answer(7, other), None, "{other}");
        }
    }
}
