//! GSUP, as far as it takes to have a serving node let go: a greeting, Location Cancel, and what comes of it.
//!
//! A message is its type and elements of a tag, a length and a value. Source: OsmoHLR user manual, "GSUP"; 3GPP
//! TS 29.002 for what the messages mean; seen with osmo-hlr 1.5.0.

use super::ipa::{self, TooLong};
use reveille_domain::Imsi;

/// The extension of [`ipa::OSMO`] that is GSUP.
pub(super) const GSUP: u8 = 0x05;

const LOCATION_CANCEL: u8 = 0x1c;
const LOCATION_CANCEL_ERROR: u8 = 0x1d;
const LOCATION_CANCEL_RESULT: u8 = 0x1e;
/// From the HLR itself: nobody of that name is connected.
const ROUTING_ERROR: u8 = 0x4e;

const IMSI: u8 = 0x01;
const CANCEL_TYPE: u8 = 0x06;
const MESSAGE_CLASS: u8 = 0x0a;
const SOURCE: u8 = 0x60;
const DESTINATION: u8 = 0x61;

const WITHDRAWN: u8 = 1;
const SUBSCRIBER_MANAGEMENT: u8 = 1;

/// Tags of what one says of oneself. The unit's number is compulsory; the serial number is the name to route by.
const SERIAL_NUMBER: u8 = 0x00;
const UNIT_NAME: u8 = 0x01;
const UNIT: u8 = 0x08;

/// What came of a Location Cancel, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// In decimal digits.
    pub(super) imsi: String,
    /// The name of the node.
    pub(super) node: String,
    /// Whether it let go. Otherwise it refused to, or is not there.
    pub(super) let_go: bool,
}

/// The answer to the HLR's question who is there.
pub(super) fn i_am(name: &str) -> Result<Vec<u8>, TooLong> {
    let mut payload = vec![ipa::I_AM];
    for (tag, text) in [(UNIT, "0/0/0"), (UNIT_NAME, name), (SERIAL_NUMBER, name)] {
        let length = u16::try_from(text.len() + 2).map_err(|_| TooLong)?;
        payload.extend(length.to_be_bytes());
        payload.push(tag);
        payload.extend(text.as_bytes());
        payload.push(0);
    }
    ipa::encode(ipa::CCM, &payload)
}

/// Tells a node, through the HLR, that the subscription is withdrawn.
pub(super) fn location_cancel(imsi: &Imsi, from: &str, to: &str) -> Result<Vec<u8>, TooLong> {
    let mut payload = vec![GSUP, LOCATION_CANCEL];
    let (source, destination) = (format!("{from}\0"), format!("{to}\0"));
    for (tag, value) in [
        (IMSI, bcd(imsi.as_str()).as_slice()),
        (CANCEL_TYPE, &[WITHDRAWN]),
        (MESSAGE_CLASS, &[SUBSCRIBER_MANAGEMENT]),
        (SOURCE, source.as_bytes()),
        (DESTINATION, destination.as_bytes()),
    ] {
        payload.extend([tag, u8::try_from(value.len()).map_err(|_| TooLong)?]);
        payload.extend(value);
    }
    ipa::encode(ipa::OSMO, &payload)
}

/// What came of a Location Cancel; nothing where a message says something else.
pub(super) fn said(message: &[u8]) -> Option<Said> {
    let (&kind, mut rest) = message.split_first()?;
    let let_go = match kind {
        LOCATION_CANCEL_RESULT => true,
        LOCATION_CANCEL_ERROR | ROUTING_ERROR => false,
        _ => return None,
    };
    let (mut imsi, mut node) = (None, None);
    while let [tag, length, after @ ..] = rest {
        let (value, others) = after.split_at_checked(usize::from(*length))?;
        match *tag {
            IMSI => imsi = Some(undone_bcd(value)),
            SOURCE => node = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()),
            _ => {}
        }
        rest = others;
    }
    Some(Said { imsi: imsi?, node: node?, let_go })
}

/// Telephony BCD: two digits in an octet, the first in its low half, and F to fill. Source: 3GPP TS 29.002, TBCD.
fn bcd(digits: &str) -> Vec<u8> {
    let half = |digit: u8| digit.wrapping_sub(b'0') & 0x0f;
    let octet = |pair: &[u8]| half(pair[0]) | pair.get(1).map_or(0xf0, |second| half(*second) << 4);
    digits.as_bytes().chunks(2).map(octet).collect()
}

fn undone_bcd(octets: &[u8]) -> String {
    let halves = octets.iter().flat_map(|octet| [octet & 0x0f, octet >> 4]);
    halves.take_while(|half| *half < 10).map(|half| char::from(b'0' + half)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        hex.chunks(2).map(octet).collect()
    }

    fn text(text: &str) -> String {
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn one_says_who_one_is_as_the_hlr_has_been_seen_to_accept() {
        let (unit, name) = (text("0/0/0"), text("SGSN-probe-1"));
        let expected = format!("002afe05 0007 08{unit}00 000e 01{name}00 000e 00{name}00");
        assert_eq!(i_am("SGSN-probe-1").unwrap(), octets(&expected));
    }

    #[test]
    fn a_location_cancel_is_as_it_has_been_seen_to_arrive() {
        let (from, to) = (text("REVEILLE-1"), text("SGSN-probe-1"));
        let expected = format!("002e ee051c 0108 00010100000000f1 060101 0a0101 600b{from}00 610d{to}00");
        let imsi = "001010000000001".parse().unwrap();
        assert_eq!(location_cancel(&imsi, "REVEILLE-1", "SGSN-probe-1").unwrap(), octets(&expected));
    }

    #[test]
    fn three_answers_say_what_came_of_it() {
        let (from, to) = (text("SGSN-probe-1"), text("REVEILLE-1"));
        for (kind, let_go) in [("1e", true), ("1d", false), ("4e", false)] {
            let message = octets(&format!("{kind} 0108 00010100000000f1 0a0101 600d{from}00 610b{to}00"));
            let expected = Said { imsi: "001010000000001".into(), node: "SGSN-probe-1".into(), let_go };
            assert_eq!(said(&message), Some(expected));
        }
    }

    #[test]
    fn what_says_something_else_or_is_broken_off_says_nothing() {
        let whole = octets("1e 0108 00010100000000f1 6002 4100");
        assert!(said(&whole).is_some());
        for length in 0..whole.len() {
            let _no_panic = said(&whole[..length]);
        }
        assert_eq!(said(&whole[..whole.len() - 1]), None);
        assert_eq!(said(&octets("10 0108 00010100000000f1 6002 4100")), None);
        assert_eq!(said(&octets("1e 0108 00010100000000f1")), None);
    }

    #[test]
    fn an_imsi_is_read_back_as_it_was_written() {
        for digits in ["001010", "0010100", "00101000000001", "001010000000001"] {
            assert_eq!(undone_bcd(&bcd(digits)), digits);
        }
        assert_eq!(bcd("001010000000001"), octets("00010100000000f1"));
    }
}
