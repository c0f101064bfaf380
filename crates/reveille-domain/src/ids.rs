//! Identifiers: parsed once, at the edge; valid ever after.
//!
//! They are personal data, so `Debug` shows the last four characters only; `as_str` gives all.

use std::fmt;
use std::str::FromStr;

/// A text that does not fit the identifier it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidIdentifier {
    /// What was expected, as a sentence fragment: "an ICCID has 19 or 20 digits".
    pub expected: &'static str,
}

impl fmt::Display for InvalidIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }
}

impl std::error::Error for InvalidIdentifier {}

fn masked(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    let shown = text.char_indices().rev().nth(3).map_or(text, |(at, _)| &text[at..]);
    write!(f, "{name}(…{shown})")
}

fn digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The whole identifier, as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidIdentifier;
            fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidIdentifier { expected: $expected }) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                masked(f, stringify!($name), &self.0)
            }
        }
    };
}

identifier! {
    /// The number of one profile, 19 or 20 decimal digits. Source: ITU-T E.118; contract §12 Q15.
    Iccid, |text| digits(text, 19..=20), "an ICCID has 19 or 20 digits"
}
identifier! {
    /// The number of one eUICC, exactly 32 decimal digits. Source: GSMA SGP.29; contract §4.
    Eid, |text| digits(text, 32..=32), "an EID has 32 digits"
}
identifier! {
    /// The number of one device, 14 to 16 decimal digits. Source: 3GPP TS 23.003 §6.2; contract §12 Q15.
    Imei, |text| digits(text, 14..=16), "an IMEI has 14 to 16 digits"
}
identifier! {
    /// The subscription that a network knows, 6 to 15 decimal digits. Source: 3GPP TS 23.003 §2.2.
    Imsi, |text| digits(text, 6..=15), "an IMSI has 6 to 15 digits"
}
identifier! {
    /// A phone number, 5 to 15 decimal digits, without `+`. Source: ITU-T E.164; contract §12 Q28.
    Msisdn, |text| digits(text, 5..=15), "an MSISDN has 5 to 15 digits, without +"
}

/// The name of a billing account, `0000123456-00001`: letters, digits and hyphens, 3 to 32 of them.
///
/// Not personal data, so `Debug` shows it whole. Source: contract §4 and §7.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(Box<str>);

impl AccountName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = InvalidIdentifier;
    fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
        let well_formed = (3..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let expected = "an account name has 3 to 32 letters, digits and hyphens";
        if well_formed { Ok(Self(text.into())) } else { Err(InvalidIdentifier { expected }) }
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a service's listeners: its own, which ThingSpace's call registers, or a further one, by a name of 1 to 16
/// lower-case letters, digits and hyphens.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerName([u8; ListenerName::LENGTH_MAX]);

impl ListenerName {
    const LENGTH_MAX: usize = 16;

    /// The service's own, which has no name.
    pub const OWN: Self = Self([0; Self::LENGTH_MAX]);

    /// Whether it is the service's own.
    pub fn is_own(self) -> bool {
        self == Self::OWN
    }

    /// The name; empty of the service's own.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::LENGTH_MAX);
        std::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

impl FromStr for ListenerName {
    type Err = InvalidIdentifier;
    fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=Self::LENGTH_MAX).contains(&text.len()) || !text.bytes().all(is_known) {
            let expected = "a listener's name has 1 to 16 lower-case letters, digits and hyphens";
            return Err(InvalidIdentifier { expected });
        }
        let mut name = Self::OWN;
        name.0[..text.len()].copy_from_slice(text.as_bytes());
        Ok(name)
    }
}

impl fmt::Debug for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one request: a UUID, written in lower case. Source: contract §4; RFC 9562.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u128);

impl RequestId {
    /// A version 4 UUID from 128 random bits, which the caller hands in.
    pub fn from_random(bits: u128) -> Self {
        let version = (bits & !(0xf << 76)) | (0x4 << 76);
        Self((version & !(0x3 << 62)) | (0x2 << 62))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for RequestId {
    type Err = InvalidIdentifier;
    fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
        let invalid = InvalidIdentifier { expected: "a request id is a UUID" };
        let hyphens = text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
        if !hyphens || text.bytes().filter(u8::is_ascii_hexdigit).count() != 32 {
            return Err(invalid);
        }
        let hex: String = text.chars().filter(|&c| c != '-').collect();
        u128::from_str_radix(&hex, 16).map(Self).map_err(|_| invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iccid_has_19_or_20_digits_and_nothing_else() {
        for good in ["8914800000080013970", "89148000000800139708"] {
            assert_eq!(good.parse::<Iccid>().unwrap().as_str(), good);
        }
        for bad in
            ["", "891480000008", "8914800000080013970800000", "8914800000080013970F", "８９148000000800139"]
        {
            assert!(bad.parse::<Iccid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_only_the_last_four_digits() {
        let iccid: Iccid = "89148000000800139708".parse().unwrap();
        assert_eq!(format!("{iccid:?}"), "Iccid(…9708)");
    }

    #[test]
    fn a_request_id_is_written_as_the_contract_writes_it_and_read_back() {
        let text = "d1f08526-5443-4054-9a29-4456490ea9f8";
        assert_eq!(text.parse::<RequestId>().unwrap().to_string(), text);
        assert!("d1f085265443-4054-9a29-4456490ea9f8".parse::<RequestId>().is_err());
        let made = RequestId::from_random(u128::MAX).to_string();
        assert_eq!(made, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn a_listeners_name_is_short_and_reads_back() {
        for good in ["a", "noc", "billing-2", "exactly-16-chars"] {
            let name: ListenerName = good.parse().unwrap();
            assert_eq!((name.as_str(), name.is_own()), (good, false));
        }
        for bad in ["", "NOC", "a b", "exactly-17-chars-", "über"] {
            assert!(bad.parse::<ListenerName>().is_err(), "{bad}");
        }
        assert_eq!(ListenerName::OWN.as_str(), "");
    }

    #[test]
    fn an_account_name_may_hold_letters() {
        assert!("TestAccount-2".parse::<AccountName>().is_ok());
        assert!("0000123456-00001".parse::<AccountName>().is_ok());
        assert!("a b".parse::<AccountName>().is_err());
    }
}
