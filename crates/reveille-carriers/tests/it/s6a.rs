//! A serving node: whoever asks an HSS for service on a handset's behalf. It shares no code with the adapter.
//!
//! Formats: RFC 6733 (Diameter), 3GPP TS 29.272 (S6a).

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

/// How long an answer of an HSS's may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

const THREE_GPP: u32 = 10415;
const S6A: u32 = 16_777_251;

const CAPABILITIES: u32 = 257;
const WATCHDOG: u32 = 280;
const UPDATE_LOCATION: u32 = 316;
const AUTHENTICATION_INFORMATION: u32 = 318;
const REQUEST: u32 = 0x80;
const PROXIABLE: u32 = 0x40;

const USER_NAME: u32 = 1;
const HOST_ADDRESS: u32 = 257;
const AUTH_APPLICATION: u32 = 258;
const VENDOR_APPLICATION: u32 = 260;
const SESSION: u32 = 263;
const ORIGIN_HOST: u32 = 264;
const SUPPORTED_VENDOR: u32 = 265;
const VENDOR: u32 = 266;
const RESULT: u32 = 268;
const PRODUCT: u32 = 269;
const SESSION_STATE: u32 = 277;
const DESTINATION_REALM: u32 = 283;
const DESTINATION_HOST: u32 = 293;
const ORIGIN_REALM: u32 = 296;
const EXPERIMENTAL_RESULT: u32 = 297;
const EXPERIMENTAL_RESULT_CODE: u32 = 298;
const SECURITY: u32 = 299;
const RAT_TYPE: u32 = 1032;
const SUBSCRIPTION: u32 = 1400;
const ULR_FLAGS: u32 = 1405;
const VISITED_PLMN: u32 = 1407;
const REQUESTED_VECTORS: u32 = 1408;
const HOW_MANY_VECTORS: u32 = 1410;
const IMMEDIATE: u32 = 1412;
const SUBSCRIBER_STATUS: u32 = 1424;

const SUCCESS: u32 = 2001;
const USER_UNKNOWN: u32 = 5001;

/// What an MME is told of a handset that asks for service: the result code, and the subscriber's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) result: u32,
    pub(crate) status: Option<u32>,
}

pub(crate) const GRANTED: Told = Told { result: SUCCESS, status: Some(0) };

/// Accepted, and said to be barred by its operator: it is for the MME to refuse it.
pub(crate) const BARRED: Told = Told { result: SUCCESS, status: Some(1) };
pub(crate) const UNKNOWN: Told = Told { result: USER_UNKNOWN, status: None };

/// A node, connected as long as the HSS keeps it.
pub(crate) struct Mme {
    address: Ipv4Addr,
    link: Mutex<Option<Link>>,
}

struct Link {
    stream: TcpStream,
    last: u32,
}

impl Mme {
    pub(crate) fn new(address: Ipv4Addr) -> Self {
        Self { address, link: Mutex::default() }
    }

    /// Asks for service as an attach does, first for keys.
    pub(crate) fn attach(&self, imsi: &str) -> Told {
        let told = self.locate(imsi);
        assert_eq!(self.ask(imsi, Link::authenticate), told.result, "the HSS knows a subscriber or does not");
        told
    }

    /// The half of it that costs the HSS no write.
    pub(crate) fn locate(&self, imsi: &str) -> Told {
        self.ask(imsi, Link::locate)
    }

    fn ask<T>(&self, imsi: &str, ask: impl Fn(&mut Link, &str) -> io::Result<T>) -> T {
        let mut link = self.link.lock().unwrap();
        loop {
            let standing =
                link.get_or_insert_with(|| Link::new(self.address).expect("the HSS welcomes its MME"));
            match ask(standing, imsi) {
                Ok(told) => return told,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("the HSS says nothing of {imsi}")
                }
                Err(_) => *link = None, // it was idle for too long
            }
        }
    }
}

impl Link {
    fn new(address: Ipv4Addr) -> io::Result<Self> {
        let stream = TcpStream::connect((address, 3868))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut link = Self { stream, last: 0 };
        let mut octets = vec![0, 1];
        octets.extend(address.octets());
        let who = [
            text(ORIGIN_HOST, "mme.localdomain"),
            text(ORIGIN_REALM, "localdomain"),
            avp(HOST_ADDRESS, &octets),
            number(VENDOR, 0),
            text(PRODUCT, "probe"),
            number(SUPPORTED_VENDOR, THREE_GPP),
            number(SECURITY, 0),
            application(),
        ];
        let welcome = link.ask(CAPABILITIES, REQUEST, 0, &who.concat())?;
        assert_eq!(result(&welcome), SUCCESS, "the HSS lets in whom it is told of");
        Ok(link)
    }

    fn authenticate(&mut self, imsi: &str) -> io::Result<u32> {
        let vectors = [number(HOW_MANY_VECTORS, 1), number(IMMEDIATE, 1)].concat();
        let asked = [self.about(imsi), avp(REQUESTED_VECTORS, &vectors)].concat();
        Ok(result(&self.ask(AUTHENTICATION_INFORMATION, REQUEST | PROXIABLE, S6A, &asked)?))
    }

    fn locate(&mut self, imsi: &str) -> io::Result<Told> {
        let asked = [self.about(imsi), number(RAT_TYPE, 1004), number(ULR_FLAGS, 34)].concat();
        let answer = self.ask(UPDATE_LOCATION, REQUEST | PROXIABLE, S6A, &asked)?;
        let subscription = answer.get(&SUBSCRIPTION).map(|octets| parsed(octets)).unwrap_or_default();
        let status = subscription.get(&SUBSCRIBER_STATUS).map(|octets| u32_of(octets));
        Ok(Told { result: result(&answer), status })
    }

    fn about(&self, imsi: &str) -> Vec<u8> {
        let session = format!("mme.localdomain;{};{imsi}", self.last);
        [
            text(SESSION, &session),
            application(),
            number(SESSION_STATE, 1),
            text(ORIGIN_HOST, "mme.localdomain"),
            text(ORIGIN_REALM, "localdomain"),
            text(DESTINATION_REALM, "localdomain"),
            text(DESTINATION_HOST, "hss.localdomain"),
            text(USER_NAME, imsi),
            avp(VISITED_PLMN, &[0x00, 0xf1, 0x10]),
        ]
        .concat()
    }

    /// Sends a request and hears its answer; watchdogs are answered on the way.
    fn ask(&mut self, command: u32, flags: u32, of: u32, avps: &[u8]) -> io::Result<HashMap<u32, Vec<u8>>> {
        self.last += 1;
        let asked = self.last;
        self.send(command, flags, of, asked, avps)?;
        loop {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head)?;
            let [length, command, _, hop, _] = std::array::from_fn(|at| u32_of(&head[4 * at..4 * at + 4]));
            let mut avps = vec![0; (length & 0xff_ffff) as usize - head.len()];
            self.stream.read_exact(&mut avps)?;
            if command >> 24 & REQUEST == 0 && hop == asked {
                return Ok(parsed(&avps));
            }
            if command & 0xff_ffff == WATCHDOG {
                let alive = [
                    number(RESULT, SUCCESS),
                    text(ORIGIN_HOST, "mme.localdomain"),
                    text(ORIGIN_REALM, "localdomain"),
                ];
                self.send(WATCHDOG, 0, 0, hop, &alive.concat())?;
            }
        }
    }

    fn send(&mut self, command: u32, flags: u32, of: u32, hop: u32, avps: &[u8]) -> io::Result<()> {
        let length = u32::try_from(20 + avps.len()).unwrap();
        let mut message = Vec::new();
        for word in [1 << 24 | length, flags << 24 | command, of, hop, hop] {
            message.extend(word.to_be_bytes());
        }
        message.extend(avps);
        self.stream.write_all(&message)
    }
}

fn application() -> Vec<u8> {
    avp(VENDOR_APPLICATION, &[number(VENDOR, THREE_GPP), number(AUTH_APPLICATION, S6A)].concat())
}

fn number(code: u32, value: u32) -> Vec<u8> {
    avp(code, &value.to_be_bytes())
}

fn text(code: u32, value: &str) -> Vec<u8> {
    avp(code, value.as_bytes())
}

/// One attribute; those from 1000 on are 3GPP's.
fn avp(code: u32, value: &[u8]) -> Vec<u8> {
    let (flags, vendor) = if code < 1000 { (0x40, None) } else { (0xc0, Some(THREE_GPP)) };
    let length = u32::try_from(8 + if vendor.is_some() { 4 } else { 0 } + value.len()).unwrap();
    let mut octets = code.to_be_bytes().to_vec();
    octets.extend((flags << 24 | length).to_be_bytes());
    octets.extend(vendor.into_iter().flat_map(u32::to_be_bytes));
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// Attributes by code.
fn parsed(mut octets: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut found = HashMap::new();
    while octets.len() >= 8 {
        let (code, length) = (u32_of(octets), u32_of(&octets[4..]));
        let head = if length >> 24 & 0x80 == 0 { 8 } else { 12 };
        let length = (length & 0xff_ffff) as usize;
        found.insert(code, octets[head..length].to_vec());
        octets = &octets[length.next_multiple_of(4).min(octets.len())..];
    }
    found
}

fn u32_of(octets: &[u8]) -> u32 {
    u32::from_be_bytes(octets[..4].try_into().unwrap())
}

fn result(answer: &HashMap<u32, Vec<u8>>) -> u32 {
    match answer.get(&RESULT) {
        Some(code) => u32_of(code),
        None => u32_of(&parsed(&answer[&EXPERIMENTAL_RESULT])[&EXPERIMENTAL_RESULT_CODE]),
    }
}
