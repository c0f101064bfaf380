//! The bodies of questions about devices that are answered by callback. Source: contract §5.3 and §5.4.

use crate::documents::carrier_name;
use crate::json::{self, Object};
use crate::{instant, spelling};
use reveille_domain::{
    AccountName, Eid, Iccid, Imei, InvalidIdentifier, Msisdn, Network, ProfileState, ProfileStatus, Refusal,
    SuspendedBy, Timestamp,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// How many identifiers a list may be asked by, and a history. Source: contract §5.3, §5.4.
const LISTED_MAX: usize = 50;
const HISTORIES_MAX: usize = 100;

/// The contract's words for a service state that no profile here can have. Source: contract §5.3.
const OTHER_STATES: [&str; 9] = [
    "PENDING_ACTIVATION",
    "PENDING_DEACTIVATION",
    "ACTIVATION_READY",
    "INVENTORY",
    "PURGED",
    "REPLACED",
    "RETIRED",
    "TEST_READY",
    "UNKNOWN",
];

/// The body of the device list as it came.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceListBody<'a> {
    /// The account whose devices are listed.
    #[serde(borrow, default)]
    account_name: Option<Cow<'a, str>>,
    /// Only profiles in that service state: `ACTIVE`, `SUSPEND`, `DEACTIVE`, …
    #[serde(borrow, default)]
    provisioning_status_filter: Option<Cow<'a, str>>,
    /// Only profiles of that status on the card: `ENABLE`, `DISABLE`, …
    #[serde(borrow, default)]
    profile_status_filter: Option<Cow<'a, str>>,
    /// Only profiles of that carrier: `Verizon Wireless` or `Global`.
    #[serde(borrow, default)]
    carrier_name_filter: Option<Cow<'a, str>>,
    /// Only profiles with one of these identifiers, or whose device has: kinds `iccid`, `eid`, `imei`, `mdn`.
    #[serde(borrow, default)]
    device_filter: Option<DeviceFilter<'a>>,
}

/// The body of the provisioning history as it came.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceHistoryBody<'a> {
    /// The account whose devices are asked about.
    #[serde(borrow, default)]
    account_name: Option<Cow<'a, str>>,
    /// The devices: one identifier, or a list of up to 100.
    #[serde(borrow, default)]
    device_filter: Option<DeviceFilter<'a>>,
    /// Only changes at this instant or later: RFC 3339; without an offset it is UTC.
    #[serde(borrow, default)]
    earliest: Option<Cow<'a, str>>,
    /// Only changes before this instant.
    #[serde(borrow, default)]
    latest: Option<Cow<'a, str>>,
}

#[derive(Deserialize, JsonSchema)]
struct IdentifierBody<'a> {
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

/// One identifier, or a list of them.
struct DeviceFilter<'a>(Vec<IdentifierBody<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for DeviceFilter<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Filter;
        impl<'de> Visitor<'de> for Filter {
            type Value = DeviceFilter<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an identifier or a list of identifiers")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DeviceFilter<'de>, A::Error> {
                let one = IdentifierBody::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(DeviceFilter(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<DeviceFilter<'de>, A::Error> {
                let list = de::value::SeqAccessDeserializer::new(sequence);
                let objects: Vec<Object<IdentifierBody<'de>>> = Vec::deserialize(list)?;
                Ok(DeviceFilter(objects.into_iter().map(|object| object.0).collect()))
            }
        }
        deserializer.deserialize_any(Filter)
    }
}

impl JsonSchema for DeviceFilter<'_> {
    fn schema_name() -> Cow<'static, str> {
        "DeviceFilter".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<IdentifierBody<'_>>::json_schema(generator)
    }
}

/// Which profiles are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// Only in one of these states; in any where nothing is said, in none where the list is empty.
    pub states: Option<Vec<ProfileState>>,
    /// Only of these statuses on the card; of any where the list is empty.
    pub statuses: Vec<ProfileStatus>,
    /// Only of this network.
    pub network: Option<Network>,
    /// Only with one of these; with any where the list is empty.
    pub identifiers: Vec<QueriedIdentifier>,
}

/// Which history is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of profiles with one of these.
    pub identifiers: Vec<QueriedIdentifier>,
    /// Changes at this time or later.
    pub earliest: Timestamp,
    /// Changes before this time.
    pub latest: Timestamp,
}

/// An identifier that is asked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueriedIdentifier {
    /// A profile's.
    Iccid(Iccid),
    /// An eUICC's.
    Eid(Eid),
    /// A device's.
    Imei(Imei),
    /// A phone number.
    Msisdn(Msisdn),
}

impl<'a> DeviceListBody<'a> {
    /// Reads the JSON.
    ///
    /// # Errors
    /// `Malformed`, where it is not JSON of this shape.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refusal> {
        json::decode(bytes)
    }

    /// The account that it names.
    ///
    /// # Errors
    /// `AccountMissing`, `ForeignAccount`.
    pub fn account(&self) -> Result<AccountName, Refusal> {
        account(self.account_name.as_deref())
    }

    /// Which profiles it asks for.
    ///
    /// # Errors
    /// `InvalidField` for a word that the contract does not have, `KindInvalid`, `IdentifierInvalid`.
    pub fn filter(&self) -> Result<ListFilter, Refusal> {
        let given = |text: &'_ Option<Cow<'_, str>>| {
            text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let status = given(&self.profile_status_filter).map(|word| status(&word)).transpose()?;
        Ok(ListFilter {
            states: given(&self.provisioning_status_filter).map(|word| states(&word)).transpose()?,
            statuses: status.into_iter().collect(),
            network: given(&self.carrier_name_filter).map(|name| network(&name)).transpose()?,
            identifiers: identifiers(self.device_filter.as_ref(), LISTED_MAX)?,
        })
    }
}

impl<'a> DeviceHistoryBody<'a> {
    /// Reads the JSON.
    ///
    /// # Errors
    /// `Malformed`, where it is not JSON of this shape.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refusal> {
        json::decode(bytes)
    }

    /// The account that it names.
    ///
    /// # Errors
    /// `AccountMissing`, `ForeignAccount`.
    pub fn account(&self) -> Result<AccountName, Refusal> {
        account(self.account_name.as_deref())
    }

    /// What it asks about.
    ///
    /// # Errors
    /// `DeviceNotProvided`, `KindInvalid`, `IdentifierInvalid`; `InvalidField`, where an instant is none.
    pub fn filter(&self) -> Result<HistoryFilter, Refusal> {
        let identifiers = identifiers(self.device_filter.as_ref(), HISTORIES_MAX)?;
        if identifiers.is_empty() {
            let detail = format!(
                "deviceFilter is missing or empty: name 1 to {HISTORIES_MAX} devices; an account's history as a whole is not told"
            );
            return Err(Refusal::DeviceNotProvided { detail });
        }
        let earliest = bound("earliest", self.earliest.as_deref(), Timestamp(0))?;
        let latest = bound("latest", self.latest.as_deref(), Timestamp(i64::MAX))?;
        if earliest > latest {
            return Err(invalid("earliest is after latest"));
        }
        Ok(HistoryFilter { identifiers, earliest, latest })
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::InvalidField { detail: detail.into() }
}

fn account(name: Option<&str>) -> Result<AccountName, Refusal> {
    match name {
        None | Some("") => Err(Refusal::AccountMissing),
        Some(name) => name.parse().map_err(|_| Refusal::ForeignAccount),
    }
}

fn bound(name: &str, text: Option<&str>, none: Timestamp) -> Result<Timestamp, Refusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(none) };
    instant::parse(text).ok_or_else(|| {
        invalid(format!(
            "{name} is an instant in RFC 3339, 2021-10-15T04:49:35Z; without an offset it is UTC"
        ))
    })
}

/// The states of one of the contract's words; none for a word that no profile here can have.
fn states(word: &str) -> Result<Vec<ProfileState>, Refusal> {
    let word = match word {
        "ACTIVATED" => "ACTIVE",
        "DEACTIVATED" => "DEACTIVE",
        word => word,
    };
    let by = [SuspendedBy::Profile, SuspendedBy::Device];
    let mut states: Vec<ProfileState> =
        by.into_iter().filter_map(|by| spelling::state_named(word, by)).collect();
    states.dedup();
    if states.is_empty() && !OTHER_STATES.contains(&word) {
        let own = "ACTIVE, ACTIVATED, DEACTIVE, DEACTIVATED, SUSPEND, PRE_ACTIVE";
        return Err(invalid(format!(
            "provisioningStatusFilter is none of {own}, {}",
            OTHER_STATES.join(", ")
        )));
    }
    Ok(states)
}

fn status(word: &str) -> Result<ProfileStatus, Refusal> {
    spelling::status_named(word).ok_or_else(|| {
        let words = spelling::STATUSES.map(spelling::status).join(", ");
        invalid(format!("profileStatusFilter is none of {words}"))
    })
}

/// The network of a carrier's name; spaces and case do not count, as an SDK writes `VerizonWireless`.
fn network(name: &str) -> Result<Network, Refusal> {
    let plain = |name: &str| name.replace(' ', "").to_ascii_lowercase();
    let is = |network: &Network| {
        [carrier_name(*network), network.name()].iter().any(|known| plain(known) == plain(name))
    };
    Network::ALL.into_iter().find(is).ok_or_else(|| {
        let names = Network::ALL.map(carrier_name).join(" or ");
        invalid(format!("carrierNameFilter is {names}"))
    })
}

fn identifiers(filter: Option<&DeviceFilter<'_>>, max: usize) -> Result<Vec<QueriedIdentifier>, Refusal> {
    let given = filter.map(|filter| filter.0.as_slice()).unwrap_or_default();
    if given.len() > max {
        return Err(invalid(format!("deviceFilter has more than {max} identifiers")));
    }
    given.iter().enumerate().map(|(at, identifier)| queried(at, identifier)).collect()
}

fn queried(at: usize, body: &IdentifierBody<'_>) -> Result<QueriedIdentifier, Refusal> {
    let id = body.id.as_deref().unwrap_or_default();
    let parsed: Result<QueriedIdentifier, InvalidIdentifier> =
        match body.kind.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
            "iccid" => id.parse().map(QueriedIdentifier::Iccid),
            "eid" => id.parse().map(QueriedIdentifier::Eid),
            "imei" => id.parse().map(QueriedIdentifier::Imei),
            "mdn" | "msisdn" => id.trim_start_matches('+').parse().map(QueriedIdentifier::Msisdn),
            _ => {
                let detail = format!("deviceFilter[{at}].kind is none of iccid, eid, imei, mdn");
                return Err(Refusal::KindInvalid { detail });
            }
        };
    parsed.map_err(|error| Refusal::IdentifierInvalid { detail: format!("deviceFilter[{at}].id: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Result<ListFilter, Refusal> {
        DeviceListBody::decode(json.as_bytes())?.filter()
    }

    fn history(json: &str) -> Result<HistoryFilter, Refusal> {
        DeviceHistoryBody::decode(json.as_bytes())?.filter()
    }

    #[test]
    fn every_word_of_the_contract_is_a_filter() {
        let states = |word: &str| {
            list(&format!(r#"{{"provisioningStatusFilter":"{word}"}}"#)).unwrap().states.unwrap()
        };
        assert_eq!(states("ACTIVATED"), [ProfileState::Active]);
        assert_eq!(states("SUSPEND").len(), 2);
        assert_eq!(states("RETIRED"), []);
        assert!(matches!(
            list(r#"{"provisioningStatusFilter":"asleep"}"#),
            Err(Refusal::InvalidField { detail }) if detail.contains("PRE_ACTIVE")
        ));
        let filter =
            list(r#"{"profileStatusFilter":"ENABLE","carrierNameFilter":"Verizon Wireless"}"#).unwrap();
        assert_eq!(
            (filter.statuses, filter.network),
            (vec![ProfileStatus::Enable], Some(Network::VerizonUs))
        );
        let nothing =
            list(r#"{"profileStatusFilter":"","carrierNameFilter":null,"deviceFilter":[]}"#).unwrap();
        assert_eq!(
            nothing,
            ListFilter { states: None, statuses: vec![], network: None, identifiers: vec![] }
        );
    }

    #[test]
    fn a_carrier_is_known_by_its_name_without_spaces_and_case() {
        let network =
            |name: &str| Ok(list(&format!(r#"{{"carrierNameFilter":"{name}"}}"#))?.network.unwrap());
        for name in ["Verizon Wireless", "VerizonWireless", "verizon wireless", "verizon-us"] {
            assert_eq!(network(name), Ok(Network::VerizonUs), "{name}");
        }
        assert_eq!(network("GLOBAL"), Ok(Network::Global));
        assert!(matches!(
            network("Vodafone"),
            Err(Refusal::InvalidField { detail }) if detail == "carrierNameFilter is Verizon Wireless or Global"
        ));
    }

    #[test]
    fn a_history_is_asked_by_one_identifier_or_by_many() {
        let one = r#"{"deviceFilter":{"kind":"iccid","id":"89148000000800139708"}}"#;
        let many = r#"{"deviceFilter":[{"kind":"ICCID","id":"89148000000800139708"}],"earliest":"2021-10-15T04:49:35"}"#;
        assert_eq!(history(one).unwrap().identifiers, history(many).unwrap().identifiers);
        assert_eq!(history(many).unwrap().earliest, Timestamp(1_634_273_375_000));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        for nobody in ["{}", r#"{"deviceFilter":[]}"#, r#"{"earliest":"2021-10-15T04:49:35"}"#] {
            assert!(matches!(
                history(nobody),
                Err(Refusal::DeviceNotProvided { detail }) if detail.contains("name 1 to 100 devices")
            ));
        }
        let one = r#""deviceFilter":{"kind":"iccid","id":"89148000000800139708"}"#;
        let backwards =
            format!(r#"{{{one},"earliest":"2022-01-01T00:00:00","latest":"2021-01-01T00:00:00"}}"#);
        assert!(matches!(history(&backwards), Err(Refusal::InvalidField { .. })));
        let when = format!(r#"{{{one},"earliest":"yesterday"}}"#);
        assert!(matches!(history(&when), Err(Refusal::InvalidField { .. })));
        assert!(matches!(
            list(r#"{"deviceFilter":[{"kind":"esn","id":"1"}]}"#),
            Err(Refusal::KindInvalid { .. })
        ));
        assert!(matches!(
            list(r#"{"deviceFilter":[{"kind":"eid","id":"1"}]}"#),
            Err(Refusal::IdentifierInvalid { .. })
        ));
        let positional = r#"{"deviceFilter":[["iccid","89148000000800139708"]]}"#;
        assert!(matches!(list(positional), Err(Refusal::Malformed { .. })));
        let many = vec![r#"{"kind":"mdn","id":"15550000001"}"#; 51].join(",");
        assert!(matches!(
            list(&format!(r#"{{"deviceFilter":[{many}]}}"#)),
            Err(Refusal::InvalidField { .. })
        ));
    }
}
