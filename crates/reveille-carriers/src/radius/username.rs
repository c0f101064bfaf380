//! What the RADIUS server knows a profile by: a text with the profile's own numbers in it.

use reveille_domain::{Iccid, Imsi, Msisdn};
use std::str::FromStr;

/// How a profile's user name is made: `{imsi}`, `{msisdn}@apn.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Imsi,
    Msisdn,
    Iccid,
}

/// The longest user name that a RADIUS packet has room for.
const LENGTH_MAX: usize = super::packet::VALUE_MAX;

/// The longest that a number of a profile is: an ICCID.
const NUMBER_MAX: usize = 20;

/// Why a text makes no user names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsername {
    /// All profiles would be one user.
    #[error(
        "username is {0:?}, the same for each profile; it names \"{{imsi}}\", \"{{msisdn}}\" or \"{{iccid}}\""
    )]
    NoNumber(Box<str>),
    /// A number that profiles do not have.
    #[error(
        "username names {{{0}}}, which no profile has; it names \"{{imsi}}\", \"{{msisdn}}\" or \"{{iccid}}\""
    )]
    UnknownNumber(Box<str>),
    /// A brace by itself.
    #[error("username is {0:?}, where a brace is by itself")]
    LoneBrace(Box<str>),
    /// A character that does not print.
    #[error("username has a character that cannot be printed")]
    ControlCharacter,
    /// No room in a packet.
    #[error("username makes names of more than {LENGTH_MAX} octets, which RADIUS has no room for")]
    TooLong,
}

/// A number that a user name takes and a profile does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Imsi,
    Msisdn,
}

/// The numbers of a profile.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) imsi: Option<&'a Imsi>,
    pub(super) msisdn: Option<&'a Msisdn>,
    pub(super) iccid: &'a Iccid,
}

impl Username {
    /// The user name of a profile with these numbers.
    pub(super) fn of(&self, numbers: Numbers<'_>) -> Result<String, Missing> {
        let mut name = String::new();
        for part in &self.0 {
            name.push_str(match part {
                Part::Text(text) => text,
                Part::Imsi => numbers.imsi.ok_or(Missing::Imsi)?.as_str(),
                Part::Msisdn => numbers.msisdn.ok_or(Missing::Msisdn)?.as_str(),
                Part::Iccid => numbers.iccid.as_str(),
            });
        }
        Ok(name)
    }

    /// Whether it takes the IMSI.
    pub(super) fn needs_imsi(&self) -> bool {
        self.0.contains(&Part::Imsi)
    }
}

impl Default for Username {
    fn default() -> Self {
        Self(vec![Part::Imsi])
    }
}

impl FromStr for Username {
    type Err = InvalidUsername;

    fn from_str(text: &str) -> Result<Self, InvalidUsername> {
        if text.contains(char::is_control) {
            return Err(InvalidUsername::ControlCharacter);
        }
        let lone_brace = || InvalidUsername::LoneBrace(text.into());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(lone_brace)?;
            parts.push(Part::Text(before.into()));
            parts.push(match name {
                "imsi" => Part::Imsi,
                "msisdn" => Part::Msisdn,
                "iccid" => Part::Iccid,
                other => return Err(InvalidUsername::UnknownNumber(other.into())),
            });
            rest = behind;
        }
        if parts.is_empty() && !text.contains('}') {
            return Err(InvalidUsername::NoNumber(text.into()));
        }
        parts.push(Part::Text(rest.into()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err(lone_brace());
        }
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        let longest =
            parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { NUMBER_MAX });
        if longest.sum::<usize>() > LENGTH_MAX {
            return Err(InvalidUsername::TooLong);
        }
        Ok(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(template: &str) -> Result<String, Missing> {
        let (imsi, iccid) = ("001010000000001".parse().unwrap(), "89148000000000000001".parse().unwrap());
        let numbers = Numbers { imsi: Some(&imsi), msisdn: None, iccid: &iccid };
        template.parse::<Username>().unwrap().of(numbers)
    }

    #[test]
    fn a_user_name_has_the_profiles_numbers_in_it() {
        assert_eq!(name("{imsi}").as_deref(), Ok("001010000000001"));
        assert_eq!(name("{imsi}@apn.example").as_deref(), Ok("001010000000001@apn.example"));
        assert_eq!(name("sim/{iccid}/{imsi}").as_deref(), Ok("sim/89148000000000000001/001010000000001"));
        assert_eq!(name("{msisdn}"), Err(Missing::Msisdn));
        assert_eq!("{imsi}".parse(), Ok(Username::default()));
        assert!(Username::default().needs_imsi());
        assert!(!"{iccid}".parse::<Username>().unwrap().needs_imsi());
    }

    #[test]
    fn what_makes_no_user_names_is_refused() {
        for (template, mistake) in [
            ("", InvalidUsername::NoNumber("".into())),
            ("imsi", InvalidUsername::NoNumber("imsi".into())),
            ("{eid}", InvalidUsername::UnknownNumber("eid".into())),
            ("{IMSI}", InvalidUsername::UnknownNumber("IMSI".into())),
            ("{imsi", InvalidUsername::LoneBrace("{imsi".into())),
            ("imsi}", InvalidUsername::LoneBrace("imsi}".into())),
            ("{imsi}}", InvalidUsername::LoneBrace("{imsi}}".into())),
            ("{imsi}\n", InvalidUsername::ControlCharacter),
        ] {
            assert_eq!(template.parse::<Username>(), Err(mistake), "{template}");
        }
        assert_eq!(format!("{{imsi}}{}", "x".repeat(234)).parse::<Username>(), Err(InvalidUsername::TooLong));
        assert!(format!("{{imsi}}{}", "x".repeat(233)).parse::<Username>().is_ok());
        let words = "{eid}".parse::<Username>().unwrap_err().to_string();
        assert!(words.starts_with("username names {eid}, which no profile has"), "{words}");
    }
}
