//! A real osmo-hlr of the test's own, and its control interface as anybody else would use it.
//!
//! `tests/hlr.sh` keeps the program. This process holds a pipe to that script, so the HLR goes when the process
//! does: at its end, after a panic, at Ctrl-C, under `kill -9`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hlr.sh");

/// How long anything of an HLR's may take.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A running HLR; gone when this is.
pub(crate) struct Hlr {
    pub(crate) address: Ipv4Addr,
    pub(crate) folder: String,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _keeper: Child,
}

impl Hlr {
    /// One at an address that no other test has, whichever process runs it.
    ///
    /// # Panics
    /// Where osmo-hlr is missing, or does not start.
    pub(crate) fn start() -> Self {
        let address = fresh_address();
        let mut script = Command::new(KEEPER);
        script.arg(address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        script.process_group(0); // Ctrl-C must not end it before it has cleaned up
        let mut keeper = script.spawn().expect("the script starts");
        let orders = keeper.stdin.take().expect("it is piped");
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut first = String::new();
        said.read_line(&mut first).expect("the script prints text");
        let Some(folder) = first.strip_prefix("ready ") else {
            said.read_to_string(&mut first).expect("the script prints text");
            panic!("there is no HLR for this test: {first}");
        };
        let folder = folder.trim_end().into();
        Self { address, folder, pipes: Mutex::new((orders, said)), _keeper: keeper }
    }

    /// Has the script carry out an order: `stop`, `start`, `freeze` or `thaw`.
    pub(crate) fn order(&self, order: &str) {
        let (orders, said) = &mut *self.pipes.lock().unwrap();
        writeln!(orders, "{order}").expect("the script reads");
        let mut answer = String::new();
        said.read_line(&mut answer).expect("the script prints text");
        assert_eq!(answer, "done\n", "{order}");
    }

    pub(crate) fn ctrl(&self) -> Ctrl {
        let stream = TcpStream::connect((self.address, 4259)).expect("the control interface is there");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ctrl { stream, sent: 0 }
    }
}

/// 127.A.B.C, of the process and of how many it had before; never 127.0.0.1.
fn fresh_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(taken < 3, "a test process has three HLRs at most");
    let [_, high, middle, low] = std::process::id().to_be_bytes(); // at most 22 bits, says Linux
    Ipv4Addr::new(127, (taken + 1) << 6 | high & 0x3f, middle, low)
}

/// The control interface, one command after the other or many at a time.
pub(crate) struct Ctrl {
    stream: TcpStream,
    sent: u64,
}

impl Ctrl {
    /// Sends a command such as `SET subscriber.create 001010000000001`, and waits for nothing.
    pub(crate) fn send(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap();
        self.sent += 1;
        let text = format!("\0{verb} {} {rest}", self.sent);
        let mut frame = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        frame.push(0xee);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).expect("the HLR reads");
    }

    /// The next answer, without its number.
    pub(crate) fn answer(&mut self) -> String {
        let mut head = [0; 3];
        self.stream.read_exact(&mut head).expect("the HLR answers");
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[0], head[1]]))];
        self.stream.read_exact(&mut payload).expect("the HLR answers");
        let text = String::from_utf8(payload[1..].to_vec()).unwrap();
        let mut words = text.splitn(3, ' ');
        let (kind, _number) = (words.next().unwrap(), words.next());
        format!("{kind} {}", words.next().unwrap_or_default())
    }

    /// Has commands carried out, each of which must be.
    pub(crate) fn all(&mut self, commands: impl IntoIterator<Item = String>) {
        let mut unanswered = VecDeque::new();
        for command in commands {
            self.send(&command);
            unanswered.push_back(command);
            if unanswered.len() == 64 {
                self.accepted(&unanswered.pop_front().unwrap());
            }
        }
        unanswered.iter().for_each(|command| self.accepted(command));
    }

    fn accepted(&mut self, command: &str) {
        let answer = self.answer();
        assert!(answer.starts_with("SET_REPLY "), "{command}: {answer}");
    }

    /// New subscribers, with both services.
    pub(crate) fn create(&mut self, imsis: &[String]) {
        self.all(imsis.iter().map(|imsi| format!("SET subscriber.create {imsi}")));
        let msisdn = |imsi: &String| format!("SET subscriber.by-imsi-{imsi}.msisdn 1{}", &imsi[5..]);
        self.all(imsis.iter().map(msisdn));
    }
}
