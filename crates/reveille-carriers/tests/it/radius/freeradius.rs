//! A real FreeRADIUS of the test's own with its database, and a client that asks it for access. The client shares
//! no code with the adapter.
//!
//! `tests/radius.sh` keeps the server and `tests/cluster.sh` PostgreSQL. This process holds a pipe to each, so both
//! go when it does: at its end, after a panic, at Ctrl-C, under `kill -9`.

use md5::{Digest, Md5};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/radius.sh");
const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster.sh");
const SCHEMAS: &str = "/etc/freeradius/3.0/mods-config/sql/main";

/// What a gateway shares with the server.
pub(crate) const SECRET: &str = "testing123";

/// The password of every user.
pub(crate) const PASSWORD: &str = "a password of a device";

/// A script that keeps something running as long as this is there.
struct Keeper {
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
}

impl Keeper {
    /// The keeper, and what it says behind "ready".
    fn start(script: &str, arguments: &[&str]) -> (Self, String) {
        let mut command = Command::new(script);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.process_group(0); // Ctrl-C must not end it before it has cleaned up
        let mut child = command.spawn().expect("the script starts");
        let orders = child.stdin.take().expect("it is piped");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        said.read_line(&mut first).expect("the script prints text");
        let Some(ready) = first.strip_prefix("ready ") else {
            said.read_to_string(&mut first).expect("the script prints text");
            panic!("{script} does not start what it keeps: {first}");
        };
        let ready = ready.trim_end().to_owned();
        (Self { pipes: Mutex::new((orders, said)), _child: child }, ready)
    }

    fn order(&self, order: &str) {
        let (orders, said) = &mut *self.pipes.lock().unwrap();
        writeln!(orders, "{order}").expect("the script reads");
        let mut answer = String::new();
        said.read_line(&mut answer).expect("the script prints text");
        assert_eq!(answer, "done\n", "{order}");
    }
}

/// A PostgreSQL cluster that can be stopped and frozen.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    keeper: Keeper,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        // A crash of its processes loses nothing without syncs; one of the machine would.
        let (keeper, ready) = Keeper::start(CLUSTER, &["fsync = off"]);
        let port = ready.split(' ').next().and_then(|port| port.parse().ok());
        Self { port: port.expect("it says where it listens"), keeper }
    }

    /// Has the script carry out an order: `stop immediate`, `start`, `freeze` or `thaw`.
    pub(crate) fn order(&self, order: &str) {
        self.keeper.order(order);
    }
}

/// The tables that FreeRADIUS brings.
pub(crate) fn schema(dialect: &str) -> String {
    let file = format!("{SCHEMAS}/{dialect}/schema.sql");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}; see tests/radius.sh"))
}

/// A running FreeRADIUS; gone when this is.
pub(crate) struct FreeRadius {
    pub(crate) address: Ipv4Addr,
    pub(crate) folder: String,
    asking: Mutex<Asking>,
    _keeper: Keeper,
}

struct Asking {
    socket: UdpSocket,
    sent: u64,
}

impl FreeRadius {
    /// One whose users are in a file.
    pub(crate) fn on_sqlite() -> Self {
        Self::start(&["sqlite"])
    }

    /// One whose users are in that database of 127.0.0.1.
    pub(crate) fn on_postgres(port: u16, name: &str) -> Self {
        Self::start(&["postgresql", &port.to_string(), name])
    }

    fn start(arguments: &[&str]) -> Self {
        let address = fresh_address();
        let text = address.to_string();
        let (keeper, folder) = Keeper::start(KEEPER, &[&[&*text], arguments].concat());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.connect((address, 1812)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let asking = Mutex::new(Asking { socket, sent: 0 });
        Self { address, folder, asking, _keeper: keeper }
    }

    /// Whether that user is let in.
    pub(crate) fn lets_in(&self, user: &str) -> bool {
        self.asking.lock().unwrap().ask(user)
    }

    /// What `radclient` says of it, which is FreeRADIUS's own.
    pub(crate) fn radclient_is_let_in(&self, user: &str) -> bool {
        let mut radclient = Command::new("radclient");
        radclient.args([&self.address.to_string(), "auth", SECRET]);
        radclient.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()); // it is loud where it is refused
        let mut asking = radclient.spawn().unwrap();
        let request = format!("User-Name = \"{user}\", User-Password = \"{PASSWORD}\"\n");
        asking.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        let said = String::from_utf8(asking.wait_with_output().unwrap().stdout).unwrap();
        match (said.contains("Received Access-Accept"), said.contains("Received Access-Reject")) {
            (true, false) => true,
            (false, true) => false,
            _ => panic!("radclient says: {said}"),
        }
    }

    /// Each user that it was told to end, with the session and the gateway that were named.
    pub(crate) fn ended(&self) -> Vec<String> {
        let log = std::fs::read_to_string(format!("{}/ended.log", self.folder)).unwrap();
        log.lines().map(Into::into).collect()
    }
}

/// 127.A.B.C, of the process and of how many it had before; never 127.0.0.1, nor one that an HLR of its tests has.
fn fresh_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(taken < 8, "a test process has eight RADIUS servers at most");
    let [_, high, middle, low] = std::process::id().to_be_bytes(); // at most 22 bits, says Linux
    Ipv4Addr::new(127, high & 0x3f, middle, low.wrapping_add(taken.wrapping_mul(31)))
}

impl Asking {
    /// Asks until it is answered: a server whose database fails is silent, and may be let wait.
    fn ask(&mut self, user: &str) -> bool {
        for _ in 0..100 {
            self.sent += 1;
            let request = access_request(self.sent, user);
            self.socket.send(&request).expect("the server is there");
            let mut answer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut answer) {
                assert!(length >= 20, "an answer has a head");
                match answer[..2] {
                    [2, identifier] if identifier == request[1] => return true,
                    [3, identifier] if identifier == request[1] => return false,
                    _ => {}
                }
            }
        }
        panic!("FreeRADIUS does not answer");
    }
}

/// An Access-Request with a password. Source: RFC 2865 §4.1, §5.2.
fn access_request(number: u64, user: &str) -> Vec<u8> {
    let [.., identifier] = number.to_be_bytes();
    let authenticator: [u8; 16] = Md5::digest(number.to_be_bytes()).into();
    let mut password = PASSWORD.as_bytes().to_vec();
    password.resize(password.len().next_multiple_of(16), 0);
    let mut hidden: Vec<u8> = Vec::new();
    for block in password.chunks(16) {
        let before = hidden.last_chunk::<16>().unwrap_or(&authenticator);
        let key = Md5::new().chain_update(SECRET).chain_update(before).finalize();
        hidden.extend(block.iter().zip(key).map(|(octet, key)| octet ^ key).collect::<Vec<u8>>());
    }
    let mut attributes = Vec::new();
    for (kind, value) in [(1, user.as_bytes()), (2, &hidden)] {
        attributes.extend([kind, u8::try_from(value.len() + 2).unwrap()]);
        attributes.extend(value);
    }
    let length = u16::try_from(20 + attributes.len()).unwrap().to_be_bytes();
    [&[1, identifier], &length[..], &authenticator, &attributes].concat()
}
