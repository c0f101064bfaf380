//! What a service is called there: literal text around what the inventory knows of a profile.

use reveille_domain::{Eid, Iccid, Imsi, Msisdn, Profile};
use std::fmt::Write as _;
use std::str::FromStr;

/// What a profile is known by.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) iccid: &'a Iccid,
    pub(super) eid: &'a Eid,
    pub(super) imsi: Option<&'a Imsi>,
    pub(super) msisdn: Option<&'a Msisdn>,
}

impl<'a> From<&'a Profile> for Known<'a> {
    fn from(of: &'a Profile) -> Self {
        Self { iccid: &of.iccid, eid: &of.eid, imsi: of.imsi.as_ref(), msisdn: of.msisdn.as_ref() }
    }
}

impl<'a> From<&'a crate::Operation> for Known<'a> {
    fn from(of: &'a crate::Operation) -> Self {
        Self { iccid: &of.iccid, eid: &of.eid, imsi: of.imsi.as_ref(), msisdn: of.msisdn.as_ref() }
    }
}

/// One of a profile's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Iccid,
    Eid,
    Imsi,
    Msisdn,
}

const NAMES: [(&str, Name); 4] =
    [("{iccid}", Name::Iccid), ("{eid}", Name::Eid), ("{imsi}", Name::Imsi), ("{msisdn}", Name::Msisdn)];

impl Name {
    fn of<'a>(self, known: &Known<'a>) -> Option<&'a str> {
        match self {
            Self::Iccid => Some(known.iccid.as_str()),
            Self::Eid => Some(known.eid.as_str()),
            Self::Imsi => known.imsi.map(Imsi::as_str),
            Self::Msisdn => known.msisdn.map(Msisdn::as_str),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Name(Name),
}

/// A text with names in it: `esim-{iccid}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

/// A text that names nobody, or somebody whom there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamesNobody;

impl FromStr for Template {
    type Err = NamesNobody;
    fn from_str(mut text: &str) -> Result<Self, NamesNobody> {
        let mut parts = Vec::new();
        while let Some(at) = text.find('{') {
            let (before, rest) = text.split_at(at);
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let (spelling, name) =
                NAMES.into_iter().find(|(spelling, _)| rest.starts_with(spelling)).ok_or(NamesNobody)?;
            parts.push(Part::Name(name));
            text = &rest[spelling.len()..];
        }
        if parts.is_empty() || text.contains('}') {
            return Err(NamesNobody);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(Self(parts))
    }
}

impl Template {
    pub(super) fn uses(&self, name: Name) -> bool {
        self.0.contains(&Part::Name(name))
    }

    /// What it comes to for a profile; else the name that the inventory does not have.
    pub(super) fn of(&self, known: &Known<'_>) -> Result<String, Name> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Name(name) => text.push_str(name.of(known).ok_or(*name)?),
            }
        }
        Ok(text)
    }

    /// A profile's names that it uses.
    pub(super) fn names<'a>(&self, known: &Known<'a>) -> Vec<&'a str> {
        let used = NAMES.into_iter().filter(|(_, name)| self.uses(*name));
        used.filter_map(|(_, name)| name.of(known)).collect()
    }

    /// The ICCID that it was made of; nothing where that cannot be read from it.
    pub(super) fn iccid_in(&self, mut text: &str) -> Option<Iccid> {
        let mut iccid = None;
        for part in &self.0 {
            match part {
                Part::Text(literal) => text = text.strip_prefix(&**literal)?,
                Part::Name(name) => {
                    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                    if *name == Name::Iccid {
                        iccid = text[..digits].parse().ok();
                    }
                    text = &text[digits..];
                }
            }
        }
        iccid.filter(|_| text.is_empty())
    }
}

/// Any text as one segment of a path, or one value of a form.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// What was encoded; nothing where it is none.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut half = || char::from(rest.next()?).to_digit(16);
        bytes.push(if byte == b'%' { (half()? << 4 | half()?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    #[test]
    fn a_template_is_filled_with_what_is_known() {
        let (iccid, eid) = ("89148000000000000019".parse().unwrap(), "8".repeat(32).parse().unwrap());
        let imsi = "001010000000001".parse().unwrap();
        let known = Known { iccid: &iccid, eid: &eid, imsi: Some(&imsi), msisdn: None };
        let of = |text: &str| template(text).of(&known);
        assert_eq!(of("{iccid}"), Ok("89148000000000000019".into()));
        assert_eq!(of("esim:{imsi}/x"), Ok("esim:001010000000001/x".into()));
        assert_eq!(
            of("a=b&v={eid}&w={iccid}"),
            Ok(format!("a=b&v={}&w=89148000000000000019", "8".repeat(32)))
        );
        assert_eq!(of("tel-{msisdn}"), Err(Name::Msisdn));
    }

    #[test]
    fn a_template_that_names_nobody_is_none() {
        for text in ["", "esim", "{iccd}", "{iccid", "{iccid}}", "{iccid}{"] {
            assert_eq!(text.parse::<Template>(), Err(NamesNobody), "{text}");
        }
    }

    #[test]
    fn the_iccid_is_read_back_where_it_stands_in_the_name() {
        let iccid = |of: &str, text| template(of).iccid_in(text).map(|iccid| iccid.as_str().to_owned());
        let it = Some("89148000000000000019".to_owned());
        assert_eq!(iccid("{iccid}", "89148000000000000019"), it);
        assert_eq!(iccid("esim-{iccid}-{imsi}-x", "esim-89148000000000000019-00101-x"), it);
        assert_eq!(iccid("esim-{iccid}", "esim-89148000000000000019-x"), None);
        assert_eq!(iccid("esim-{iccid}", "sim-89148000000000000019"), None);
        assert_eq!(iccid("{imsi}", "001010000000001"), None);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["89148", "a b/c?d#e~f=g%h", "é"] {
            let there = encoded(text);
            assert!(there.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._%".contains(&b)), "{there}");
            assert_eq!(decoded(&there).as_deref(), Some(text));
        }
        assert_eq!((decoded("%4"), decoded("%zz"), decoded("%FF")), (None, None, None));
    }
}
