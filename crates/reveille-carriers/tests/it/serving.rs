//! A serving node: whoever asks an HLR for service on a handset's behalf, and is told to let go of it. It shares
//! no code with the adapter.
//!
//! Formats: OsmoHLR user manual, "GSUP"; causes: 3GPP TS 24.008 §10.5.5.14.

use crate::hlr::ANSWER_WITHIN;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};

const UPDATE_LOCATION: u8 = 0x04;
const UPDATE_LOCATION_ERROR: u8 = 0x05;
const UPDATE_LOCATION_RESULT: u8 = 0x06;
const PURGE_MS: u8 = 0x0c;
const PURGE_MS_RESULT: u8 = 0x0e;
const INSERT_DATA: u8 = 0x10;
const INSERT_DATA_RESULT: u8 = 0x12;
const LOCATION_CANCEL: u8 = 0x1c;
const LOCATION_CANCEL_RESULT: u8 = 0x1e;

const IMSI: u8 = 0x01;
const CAUSE: u8 = 0x02;
const CANCEL_TYPE: u8 = 0x06;
const MESSAGE_CLASS: u8 = 0x0a;
const DOMAIN: u8 = 0x28;
const SOURCE: u8 = 0x60;
const DESTINATION: u8 = 0x61;

/// What a handset asks for: data, or voice and SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    Ps = 1,
    Cs = 2,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Accepted,
    Refused(u8),
}

/// GPRS services not allowed; PLMN not allowed.
pub(crate) const NO_PS: Told = Told::Refused(7);
pub(crate) const NO_CS: Told = Told::Refused(11);
pub(crate) const UNKNOWN: Told = Told::Refused(2);

/// A Location Cancel that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cancelled {
    pub(crate) imsi: String,
    pub(crate) kind: u8,
    pub(crate) by: String,
}

/// A node with a name, connected as long as the HLR is there.
pub(crate) struct Node {
    address: Ipv4Addr,
    name: String,
    /// Whether it answers a Location Cancel, as one does that has the subscriber.
    pub(crate) answers: Arc<AtomicBool>,
    cancelled: Arc<Mutex<Vec<Cancelled>>>,
    link: Mutex<Option<Link>>,
}

struct Link {
    stream: TcpStream,
    told: Receiver<(String, Told)>,
}

impl Drop for Link {
    fn drop(&mut self) {
        let _gone_already = self.stream.shutdown(Shutdown::Both);
    }
}

impl Node {
    pub(crate) fn new(address: Ipv4Addr, name: &str) -> Self {
        let answers = Arc::new(AtomicBool::new(true));
        Self { address, name: name.into(), answers, cancelled: Arc::default(), link: Mutex::default() }
    }

    /// Asks for service as an attach does, and is connected from then on.
    pub(crate) fn locate(&self, imsi: &str, domain: Domain) -> Told {
        self.ask(UPDATE_LOCATION, imsi, domain)
    }

    /// Says that it has forgotten a handset, which was switched off long ago.
    pub(crate) fn purge(&self, imsi: &str, domain: Domain) {
        assert_eq!(self.ask(PURGE_MS, imsi, domain), Told::Accepted);
    }

    fn ask(&self, kind: u8, imsi: &str, domain: Domain) -> Told {
        let mut link = self.link.lock().unwrap();
        loop {
            let standing = link.get_or_insert_with(|| self.connect());
            let ask = message(kind, &[(IMSI, &bcd(imsi)), (DOMAIN, &[domain as u8])]);
            let sent = standing.stream.write_all(&ask);
            match sent
                .map_or(Err(RecvTimeoutError::Disconnected), |()| standing.told.recv_timeout(ANSWER_WITHIN))
            {
                Ok((of, told)) => {
                    assert_eq!(of, imsi, "another handset was answered");
                    return told;
                }
                Err(RecvTimeoutError::Disconnected) => *link = None, // the HLR was restarted
                Err(RecvTimeoutError::Timeout) => panic!("the HLR does not say where {imsi} may be"),
            }
        }
    }

    /// All that was cancelled since this was asked last.
    pub(crate) fn cancelled(&self) -> Vec<Cancelled> {
        std::mem::take(&mut *self.cancelled.lock().unwrap())
    }

    /// Goes away.
    pub(crate) fn leave(&self) {
        *self.link.lock().unwrap() = None;
    }

    fn connect(&self) -> Link {
        let mut stream = TcpStream::connect((self.address, 4222)).expect("the HLR's GSUP port is there");
        stream.set_nodelay(true).unwrap();
        greet(&mut stream, &self.name).expect("the HLR greets");
        let (told, hears) = mpsc::channel();
        let reader = Reader {
            stream: stream.try_clone().unwrap(),
            name: self.name.clone(),
            answers: self.answers.clone(),
            cancelled: self.cancelled.clone(),
            told,
        };
        std::thread::spawn(move || reader.run());
        Link { stream, told: hears }
    }
}

/// Says who it is when the HLR asks; the name is what the HLR routes by.
fn greet(stream: &mut TcpStream, name: &str) -> io::Result<()> {
    assert_eq!(receive(stream)?.1[0], 0x04, "the HLR asks who is there");
    let mut who = vec![0x05];
    for (tag, text) in [(0x08, "0/0/0"), (0x01, name), (0x00, name)] {
        who.extend([0, u8::try_from(text.len() + 2).unwrap(), tag]);
        who.extend(text.as_bytes());
        who.push(0);
    }
    stream.write_all(&framed(0xfe, &who))?;
    stream.write_all(&framed(0xfe, &[0x06]))?;
    assert_eq!(receive(stream)?.1[0], 0x06, "the HLR welcomes {name}");
    Ok(())
}

/// Hears all that the HLR says, and answers what must be answered at once.
struct Reader {
    stream: TcpStream,
    name: String,
    answers: Arc<AtomicBool>,
    cancelled: Arc<Mutex<Vec<Cancelled>>>,
    told: Sender<(String, Told)>,
}

impl Reader {
    fn run(mut self) {
        while let Ok((protocol, payload)) = receive(&mut self.stream) {
            let heard = match (protocol, payload.as_slice()) {
                (0xfe, [0x00]) => self.stream.write_all(&framed(0xfe, &[0x01])),
                (0xee, [0x05, kind, elements @ ..]) => self.hear(*kind, &parsed(elements)),
                _ => Ok(()),
            };
            if heard.is_err() {
                return;
            }
        }
    }

    fn hear(&mut self, kind: u8, elements: &HashMap<u8, Vec<u8>>) -> io::Result<()> {
        let imsi = undone_bcd(&elements[&IMSI]);
        match kind {
            INSERT_DATA => {
                return self.stream.write_all(&message(INSERT_DATA_RESULT, &[(IMSI, &elements[&IMSI])]));
            }
            UPDATE_LOCATION_RESULT | PURGE_MS_RESULT => drop(self.told.send((imsi, Told::Accepted))),
            UPDATE_LOCATION_ERROR => drop(self.told.send((imsi, Told::Refused(elements[&CAUSE][0])))),
            LOCATION_CANCEL => {
                let by = String::from_utf8(elements[&SOURCE].clone()).unwrap();
                let by = by.trim_end_matches('\0').into();
                self.cancelled.lock().unwrap().push(Cancelled { imsi, kind: elements[&CANCEL_TYPE][0], by });
                if self.answers.load(Ordering::Relaxed) {
                    let answer = message(
                        LOCATION_CANCEL_RESULT,
                        &[
                            (IMSI, &elements[&IMSI]),
                            (MESSAGE_CLASS, &[1]),
                            (SOURCE, format!("{}\0", self.name).as_bytes()),
                            (DESTINATION, &elements[&SOURCE]),
                        ],
                    );
                    return self.stream.write_all(&answer);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn receive(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 3];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[0], head[1]]))];
    stream.read_exact(&mut payload)?;
    Ok((head[2], payload))
}

fn framed(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.push(protocol);
    frame.extend(payload);
    frame
}

fn message(kind: u8, elements: &[(u8, &[u8])]) -> Vec<u8> {
    let mut payload = vec![0x05, kind];
    for (tag, value) in elements {
        payload.extend([*tag, u8::try_from(value.len()).unwrap()]);
        payload.extend(*value);
    }
    framed(0xee, &payload)
}

fn parsed(mut elements: &[u8]) -> HashMap<u8, Vec<u8>> {
    let mut found = HashMap::new();
    while let [tag, length, rest @ ..] = elements {
        let (value, after) = rest.split_at(usize::from(*length));
        found.insert(*tag, value.to_vec());
        elements = after;
    }
    found
}

/// Telephony BCD: the low half first, F to fill.
fn bcd(digits: &str) -> Vec<u8> {
    let half = |digit: Option<&u8>| digit.map_or(0xf, |digit| digit - b'0');
    digits.as_bytes().chunks(2).map(|pair| half(pair.get(1)) << 4 | half(pair.first())).collect()
}

fn undone_bcd(octets: &[u8]) -> String {
    let halves = octets.iter().flat_map(|octet| [octet & 0xf, octet >> 4]);
    halves.take_while(|half| *half < 10).map(|half| char::from(b'0' + half)).collect()
}
