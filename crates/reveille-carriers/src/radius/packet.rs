//! The packets that end a session: a Disconnect-Request out, what the gateway says to it in.
//!
//! Sources: RFC 5176 (Disconnect messages, Error-Cause), RFC 2866 §3 (how a request is signed), RFC 2865 §3 (how an
//! answer is), RFC 3579 §3.2 (Message-Authenticator).

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use reveille_domain::Timestamp;
use std::net::IpAddr;

const DISCONNECT_REQUEST: u8 = 40;
const DISCONNECT_ACK: u8 = 41;
const DISCONNECT_NAK: u8 = 42;

const USER_NAME: u8 = 1;
const NAS_IP_ADDRESS: u8 = 4;
const ACCT_SESSION_ID: u8 = 44;
const EVENT_TIMESTAMP: u8 = 55;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const NAS_IPV6_ADDRESS: u8 = 95;
const ERROR_CAUSE: u8 = 101;

/// Code, identifier, length, authenticator.
const HEAD: usize = 20;
const AUTHENTICATOR: std::ops::Range<usize> = 4..HEAD;

/// How many octets fit into an attribute beside its type and length.
pub(super) const VALUE_MAX: usize = 253;

/// The longest packet that there is.
pub(super) const PACKET_MAX: usize = 4096;

/// The Error-Cause of a gateway that has no such session.
const NO_SUCH_SESSION: u32 = 503;

/// A session that accounting knows of and has not seen the end of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// What the gateway calls it.
    pub(super) id: String,
    /// Which gateway.
    pub(super) nas: Option<IpAddr>,
}

/// A Disconnect-Request, as it is sent and sent again.
pub(super) struct Request {
    pub(super) octets: Vec<u8>,
}

/// What a gateway said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has ended what there was.
    Ended,
    /// There was nothing to end.
    NoSuchSession,
    /// It has not.
    Refused,
}

impl Request {
    /// Asks to end the session of that user, or whatever he has. Nothing where a text is longer than an attribute.
    pub(super) fn new(
        identifier: u8,
        user: &str,
        session: Option<&Session>,
        at: Timestamp,
        secret: &[u8],
    ) -> Option<Self> {
        let mut octets = vec![DISCONNECT_REQUEST, identifier, 0, 0];
        octets.resize(HEAD, 0);
        push(&mut octets, MESSAGE_AUTHENTICATOR, &[0; 16])?;
        push(&mut octets, USER_NAME, user.as_bytes())?;
        if let Some(session) = session {
            push(&mut octets, ACCT_SESSION_ID, session.id.as_bytes())?;
            match session.nas {
                Some(IpAddr::V4(nas)) => push(&mut octets, NAS_IP_ADDRESS, &nas.octets())?,
                Some(IpAddr::V6(nas)) => push(&mut octets, NAS_IPV6_ADDRESS, &nas.octets())?,
                None => {}
            }
        }
        let seconds = u32::try_from(at.0 / 1000).unwrap_or(u32::MAX);
        push(&mut octets, EVENT_TIMESTAMP, &seconds.to_be_bytes())?;
        let length = u16::try_from(octets.len()).ok()?;
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        // Both are computed over 16 zero octets in place of what is not known yet.
        let message_authenticator = hmac(secret, &[&octets]);
        octets[HEAD + 2..HEAD + 18].copy_from_slice(&message_authenticator);
        let authenticator = md5(&[&octets, secret]);
        octets[AUTHENTICATOR].copy_from_slice(&authenticator);
        Some(Self { octets })
    }

    /// What `octets` say to it; nothing where they are no answer to it, or of somebody without the secret.
    pub(super) fn answer(&self, octets: &[u8], secret: &[u8]) -> Option<Answer> {
        let length = usize::from(u16::from_be_bytes([*octets.get(2)?, *octets.get(3)?]));
        let octets = octets.get(..length).filter(|octets| octets.len() >= HEAD)?; // what follows is padding
        let (head, attributes) = octets.split_at(HEAD);
        let asked = &self.octets[AUTHENTICATOR];
        let signed = md5(&[&head[..4], asked, attributes, secret]);
        if head[1] != self.octets[1] || head[AUTHENTICATOR] != signed {
            return None;
        }
        let found = parse(attributes)?;
        let of = |kind: u8| found.iter().find(|(each, _)| *each == kind).map(|(_, value)| *value);
        if let Some(code) = of(MESSAGE_AUTHENTICATOR) {
            let blank = blanked(attributes);
            if code != hmac(secret, &[&head[..4], asked, &blank]) {
                return None;
            }
        }
        let cause = of(ERROR_CAUSE).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes);
        match (head[0], cause) {
            (DISCONNECT_ACK, _) => Some(Answer::Ended),
            (DISCONNECT_NAK, Some(NO_SUCH_SESSION)) => Some(Answer::NoSuchSession),
            (DISCONNECT_NAK, _) => Some(Answer::Refused),
            _ => None,
        }
    }
}

fn push(octets: &mut Vec<u8>, kind: u8, value: &[u8]) -> Option<()> {
    let length = u8::try_from(value.len() + 2).ok()?;
    octets.extend([kind, length]);
    octets.extend(value);
    Some(())
}

/// Every attribute, if that is what all of it is.
fn parse(mut octets: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while let [kind, length, ..] = *octets {
        let (attribute, rest) = octets.split_at_checked(usize::from(length)).filter(|_| length >= 2)?;
        found.push((kind, &attribute[2..]));
        octets = rest;
    }
    octets.is_empty().then_some(found)
}

/// Attributes, with zeros for the value of the Message-Authenticator.
fn blanked(attributes: &[u8]) -> Vec<u8> {
    let mut octets = attributes.to_vec();
    let mut at = 0;
    while at < octets.len() {
        let length = usize::from(octets[at + 1]);
        if octets[at] == MESSAGE_AUTHENTICATOR {
            octets[at + 2..at + length].fill(0);
        }
        at += length;
    }
    octets
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    parts.iter().fold(Md5::new(), Digest::chain_update).finalize().into()
}

fn hmac(secret: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"testing123";
    const AT: Timestamp = Timestamp(1_795_392_000_000);

    /// What radclient 3.2.1 sends when it is asked for the same.
    const OF_A_SESSION: &str = "2861004b8b2973724cf97c884b0e7fa5c778c94c50121b016abe7c1e2d6958f60482fe6dd508\
         01113030313031303030303030303030312c0838316132663304060a00000737066b038200";
    const OF_A_USER: &str = "2831003d0d5519804615184fcf74b21b22d3d5185012a3dd7e9ff39412794c88d2861c5005e6\
         011130303130313030303030303030303137066b038200";

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(octet).collect()
    }

    fn of_a_user() -> Request {
        Request::new(0x31, "001010000000001", None, AT, SECRET).unwrap()
    }

    /// An answer to `of_a_user`, signed with that secret.
    fn signed(code: u8, attributes: &[u8], secret: &[u8]) -> Vec<u8> {
        let length = u8::try_from(HEAD + attributes.len()).unwrap();
        let head = [code, 0x31, 0, length];
        let authenticator = md5(&[&head, &of_a_user().octets[AUTHENTICATOR], attributes, secret]);
        [&head, &authenticator[..], attributes].concat()
    }

    #[test]
    fn a_request_is_what_radclient_sends() {
        let session = Session { id: "81a2f3".into(), nas: Some("10.0.0.7".parse().unwrap()) };
        let request = Request::new(0x61, "001010000000001", Some(&session), AT, SECRET).unwrap();
        assert_eq!(request.octets, octets(OF_A_SESSION));
        assert_eq!(of_a_user().octets, octets(OF_A_USER));
    }

    #[test]
    fn an_answer_is_one_that_radclient_takes() {
        let no_such_session = octets("2a31001a8d981c1bde92bd5d95f3a059dadbce8d6506000001f7");
        assert_eq!(of_a_user().answer(&no_such_session, SECRET), Some(Answer::NoSuchSession));
        for (code, attributes, answer) in [
            (41, &[][..], Some(Answer::Ended)),
            (42, &[], Some(Answer::Refused)),
            (42, &[101, 6, 0, 0, 1, 0xf9], Some(Answer::Refused)),
            (42, &[101, 3, 0], Some(Answer::Refused)),
            (44, &[], None),
        ] {
            let octets = signed(code, attributes, SECRET);
            assert_eq!(of_a_user().answer(&octets, SECRET), answer, "{code} {attributes:?}");
            let padded = [&octets[..], &[0, 0]].concat();
            assert_eq!(of_a_user().answer(&padded, SECRET), answer, "what follows the length is padding");
        }
    }

    #[test]
    fn what_somebody_else_says_is_no_answer() {
        let request = of_a_user();
        let good = signed(41, &[], SECRET);
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(request.answer(&other, SECRET), None, "octet {at}");
            assert_eq!(request.answer(&good[..at], SECRET), None, "the first {at} octets");
        }
        assert_eq!(request.answer(&signed(41, &[], b"another"), SECRET), None);
        assert_eq!(request.answer(&request.octets, SECRET), None);
    }

    #[test]
    fn attributes_that_are_none_make_no_answer() {
        for attributes in [&[18, 1][..], &[18, 0], &[18, 5, b'x'], &[18], &[80, 3, 0], &[80, 2]] {
            assert_eq!(of_a_user().answer(&signed(41, attributes, SECRET), SECRET), None, "{attributes:?}");
        }
    }

    #[test]
    fn a_message_authenticator_must_be_right_where_there_is_one() {
        let head = [41, 0x31, 0, 38];
        let asked = of_a_user().octets[AUTHENTICATOR].to_vec();
        let blank = [&[80, 18][..], &[0; 16]].concat();
        let right = hmac(SECRET, &[&head, &asked, &blank]);
        let answer = |code: [u8; 16]| {
            let attributes = [&[80, 18][..], &code].concat();
            of_a_user().answer(&signed(41, &attributes, SECRET), SECRET)
        };
        assert_eq!(answer(right), Some(Answer::Ended));
        assert_eq!(answer([7; 16]), None);
    }

    #[test]
    fn a_text_that_is_too_long_for_an_attribute_is_not_sent() {
        let request = |user: &str| Request::new(1, user, None, AT, SECRET);
        assert!(request(&"1".repeat(VALUE_MAX)).is_some());
        assert!(request(&"1".repeat(VALUE_MAX + 1)).is_none());
    }
}
