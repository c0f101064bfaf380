//! The body of a profile action, read in the order in which §9.5 of the contract refuses.

use crate::json::{self, Object};
use reveille_domain::{AccountName, Action, Eid, Iccid, Imei, Msisdn, Refusal, Targets, Terms};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// How many targets one request may have. Source: contract §10.
pub const TARGETS_MAX: usize = 10_000;

/// How many malformed identifiers a refusal names. Source: contract §12 Q15.
const POSITIONS_MAX: usize = 10;

/// How many characters a text beside the targets may have, a service plan's name for one; more is none.
const CHARS_MAX: usize = 256;

/// The plan that marks the body of a consumer-eSIM call, which is served at the same paths elsewhere.
const CONSUMER_PLAN: &str = "HybridESim";

/// The body of a profile action as it came. Members that it does not know are ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileActionBody<'a> {
    /// The targets: each a device with its identifiers, an ICCID among them; of device actions, an EID.
    #[serde(borrow, default)]
    devices: Option<Vec<Option<DeviceBody<'a>>>>,
    /// The account that the profiles belong to.
    #[serde(borrow, default)]
    account_name: Option<Cow<'a, str>>,
    /// A service plan of the account on the profiles' network.
    #[serde(borrow, default)]
    service_plan: Option<Cow<'a, str>>,
    /// On activation: the five digits of the area where a number is wanted.
    #[serde(borrow, default)]
    mdn_zip_code: Option<Cow<'a, str>>,
    /// The SM-SR that manages the card; also spelled `smsrOid`.
    #[serde(borrow, default, alias = "smsrOid")]
    smrs_oid: Option<Cow<'a, str>>,
    /// The carrier, as older products name it.
    #[serde(borrow, default)]
    carrier_name: Option<Cow<'a, str>>,
    /// On deactivation: why, in two characters.
    #[serde(borrow, default)]
    reason_code: Option<Cow<'a, str>>,
    /// On deactivation: whether the fee for an early end is waived; also spelled `etfwaiver`.
    #[serde(default, alias = "etfwaiver")]
    etf_waiver: Option<bool>,
    /// On deactivation: whether what a card falls back to is left alone.
    #[serde(default)]
    check_fallback_profile: Option<bool>,
}

/// A device: an object with its identifiers, or the identifiers themselves, as one SDK sends it.
struct DeviceBody<'a> {
    identifiers: Identifiers<'a>,
}

/// A device as most write it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeviceMembers<'a> {
    #[serde(borrow, default)]
    device_ids: Identifiers<'a>,
    /// The same as `deviceIds`, as one SDK sends it.
    #[serde(borrow, default)]
    ids: Identifiers<'a>,
}

#[derive(Deserialize, JsonSchema)]
struct IdentifierBody<'a> {
    /// `iccid`, `eid`, `imei` or `mdn`, in any case.
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    /// The identifier of that kind.
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

type Identifiers<'a> = Option<Vec<Option<Object<IdentifierBody<'a>>>>>;

impl<'de: 'a, 'a> Deserialize<'de> for DeviceBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Device;
        impl<'de> Visitor<'de> for Device {
            type Value = DeviceBody<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with deviceIds")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DeviceBody<'de>, A::Error> {
                let members = DeviceMembers::deserialize(MapAccessDeserializer::new(map))?;
                match (members.device_ids, members.ids) {
                    (Some(_), Some(_)) => Err(A::Error::custom("a device has either deviceIds or ids")),
                    (device_ids, ids) => Ok(DeviceBody { identifiers: device_ids.or(ids) }),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<DeviceBody<'de>, A::Error> {
                let list = de::value::SeqAccessDeserializer::new(sequence);
                Ok(DeviceBody { identifiers: Some(Vec::deserialize(list)?) })
            }
        }
        deserializer.deserialize_any(Device)
    }
}

impl JsonSchema for DeviceBody<'_> {
    fn schema_name() -> Cow<'static, str> {
        DeviceMembers::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        DeviceMembers::json_schema(generator)
    }
}

/// One target as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTarget {
    /// The profile.
    pub iccid: Iccid,
    /// The eUICC that it is said to be on.
    pub eid: Option<Eid>,
    /// The device that it is said to be in.
    pub imei: Option<Imei>,
    /// The number that it is said to have.
    pub msisdn: Option<Msisdn>,
    /// The body contradicts itself about this profile.
    pub contradicted: bool,
}

/// One device as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedDevice {
    /// The eUICC.
    pub eid: Eid,
    /// The device that it is said to be in.
    pub imei: Option<Imei>,
    /// The body contradicts itself about this device.
    pub contradicted: bool,
}

impl<'a> ProfileActionBody<'a> {
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
    /// `AccountMissing`; `ForeignAccount` for a text that no account can have as its name.
    pub fn account(&self) -> Result<AccountName, Refusal> {
        match self.account_name.as_deref() {
            None | Some("") => Err(Refusal::AccountMissing),
            Some(name) => name.parse().map_err(|_| Refusal::ForeignAccount),
        }
    }

    /// The service plan that it names for `action`; an empty name is none.
    ///
    /// # Errors
    /// `Malformed`, where it is too long for a name, missing where the action is about it, or of a consumer
    /// eSIM.
    pub fn service_plan(&self, action: Action) -> Result<Option<&str>, Refusal> {
        if action.targets() == Targets::Devices {
            return Ok(None);
        }
        let plan = bounded("servicePlan", self.service_plan.as_ref())?;
        match plan {
            None if action == Action::ServicePlan => {
                malformed("servicePlan is missing: the plan that the profiles move to")
            }
            Some(plan) if plan.eq_ignore_ascii_case(CONSUMER_PLAN) => malformed(format!(
                "{CONSUMER_PLAN} is a plan of consumer eSIMs, which are not served here; name a plan of the account"
            )),
            plan => Ok(plan),
        }
    }

    /// What it says besides, as far as that counts for `action`.
    ///
    /// # Errors
    /// `Malformed`, where a member is not of its form.
    pub fn terms(&self, action: Action) -> Result<Terms, Refusal> {
        let activates = matches!(action, Action::Activate | Action::ActivateEnable);
        let deactivates = action == Action::Deactivate;
        let text = |name: &str, given: &Option<Cow<'_, str>>, counts: bool| {
            let given = given.as_ref().filter(|_| counts);
            bounded(name, given).map(|text| text.map(Box::from))
        };
        let mdn_zip_code: Option<Box<str>> = text("mdnZipCode", &self.mdn_zip_code, activates)?;
        let is_zip = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        if mdn_zip_code.as_deref().is_some_and(|text| !is_zip(text)) {
            return malformed("mdnZipCode has five digits");
        }
        Ok(Terms {
            mdn_zip_code,
            smsr_oid: text("smsrOid", &self.smrs_oid, true)?,
            carrier_name: text("carrierName", &self.carrier_name, true)?,
            reason_code: text("reasonCode", &self.reason_code, deactivates)?,
            etf_waiver: deactivates && self.etf_waiver == Some(true),
            spares_fallback: deactivates && self.check_fallback_profile == Some(true),
            reported: None,
            resumes_at: None,
        })
    }

    /// The distinct profiles that it names, in the order of their first mention.
    ///
    /// # Errors
    /// `DeviceNotProvided`, `KindInvalid`, `IdentifierInvalid`, `TooManyTargets`; the first that holds for
    /// any device, in this order.
    pub fn targets(&self, action: Action) -> Result<Vec<NamedTarget>, Refusal> {
        let devices = self.present()?;
        check_kinds(&devices, Kind::Iccid, action)?;
        distinct(&devices, |named| {
            named.iccids.iter().map(|iccid| NamedTarget::new(iccid.clone(), &named.beside)).collect()
        })
    }

    /// The distinct devices that it names, in the order of their first mention.
    ///
    /// # Errors
    /// Likewise.
    pub fn devices(&self, action: Action) -> Result<Vec<NamedDevice>, Refusal> {
        let devices = self.present()?;
        check_kinds(&devices, Kind::Eid, action)?;
        distinct(&devices, |named| {
            let Beside { imei, contradicted, .. } = named.beside;
            let device = |eid: Eid| NamedDevice { eid, imei: imei.clone(), contradicted };
            named.eids.into_iter().map(device).collect()
        })
    }

    fn present(&self) -> Result<Vec<Device<'_, 'a>>, Refusal> {
        let missing = |detail: String| Err(Refusal::DeviceNotProvided { detail });
        let devices = self.devices.as_deref().unwrap_or_default();
        if devices.is_empty() {
            return missing("devices is missing or empty".into());
        }
        let mut present = Vec::with_capacity(devices.len());
        for (at, device) in devices.iter().enumerate() {
            let identifiers =
                device.as_ref().and_then(|device| device.identifiers.as_deref()).unwrap_or_default();
            if identifiers.is_empty() || identifiers.iter().any(Option::is_none) {
                return missing(format!("devices[{at}].deviceIds is missing, empty, or has an empty member"));
            }
            present.push(identifiers);
        }
        Ok(present)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Iccid,
    Eid,
    Imei,
    Msisdn,
}

impl IdentifierBody<'_> {
    fn kind(&self) -> Option<Kind> {
        let kinds = [
            ("iccid", Kind::Iccid),
            ("eid", Kind::Eid),
            ("imei", Kind::Imei),
            ("mdn", Kind::Msisdn),
            ("msisdn", Kind::Msisdn),
        ];
        let kind = self.kind.as_deref()?;
        kinds.into_iter().find(|(name, _)| kind.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
    }
}

type Device<'a, 'b> = &'a [Option<Object<IdentifierBody<'b>>>];

fn malformed<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Malformed { detail: detail.into() })
}

/// A text that is not too long; an empty one is none.
fn bounded<'b>(name: &str, text: Option<&'b Cow<'_, str>>) -> Result<Option<&'b str>, Refusal> {
    let text = text.map(|text| &**text).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > CHARS_MAX) {
        return malformed(format!("{name} has more than {CHARS_MAX} characters"));
    }
    if text.is_some_and(|text| text.contains('\0')) {
        return malformed(format!("{name} has the character U+0000 in it"));
    }
    Ok(text)
}

/// Each device needs an identifier of the kind that names targets; others may stand beside an ICCID, and an
/// IMEI beside an EID.
fn check_kinds(devices: &[Device<'_, '_>], needed: Kind, action: Action) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::KindInvalid { detail });
    let (name, taken) = match needed {
        Kind::Eid => ("eid", "eid, imei"),
        _ => ("iccid", "iccid, eid, imei, mdn"),
    };
    let takes = |kind: Kind| needed == Kind::Iccid || matches!(kind, Kind::Eid | Kind::Imei);
    for (at, identifiers) in devices.iter().enumerate() {
        let kinds = || identifiers.iter().flatten().map(|identifier| identifier.0.kind());
        if let Some(unknown) = kinds().position(|kind| !kind.is_some_and(takes)) {
            return invalid(format!(
                "devices[{at}].deviceIds[{unknown}].kind is none of {taken}; this call takes {name}"
            ));
        }
        if !kinds().any(|kind| kind == Some(needed)) {
            let shared = matches!(action, Action::Activate | Action::Deactivate);
            let consumer = shared && kinds().any(|kind| kind == Some(Kind::Eid));
            let consumer =
                if consumer { " (an EID without it is a consumer eSIM's, not served here)" } else { "" };
            return invalid(format!(
                "devices[{at}] has no identifier of kind {name}, which this call needs{consumer}"
            ));
        }
    }
    Ok(())
}

/// What one device says.
#[derive(Default)]
struct Named {
    iccids: Vec<Iccid>,
    eids: Vec<Eid>,
    beside: Beside,
}

/// What one device says beside its ICCIDs.
#[derive(Default)]
struct Beside {
    eid: Option<Eid>,
    imei: Option<Imei>,
    msisdn: Option<Msisdn>,
    contradicted: bool,
}

/// A target that may be mentioned again.
trait Mentioned {
    type Name: std::hash::Hash + Eq + Clone;
    fn name(&self) -> &Self::Name;
    fn also(&mut self, again: Self);
}

fn distinct<T: Mentioned>(
    devices: &[Device<'_, '_>],
    targets_of: impl Fn(Named) -> Vec<T>,
) -> Result<Vec<T>, Refusal> {
    let mut targets: Vec<T> = Vec::with_capacity(devices.len());
    let mut known: HashMap<T::Name, usize> = HashMap::with_capacity(devices.len());
    let mut malformed = Vec::new();
    for (at, identifiers) in devices.iter().enumerate() {
        for target in targets_of(parse_device(at, identifiers, &mut malformed)) {
            match known.get(target.name()) {
                Some(&index) => targets[index].also(target),
                None => {
                    known.insert(target.name().clone(), targets.len());
                    targets.push(target);
                }
            }
        }
        if malformed.len() >= POSITIONS_MAX {
            break;
        }
    }
    if !malformed.is_empty() {
        return Err(Refusal::IdentifierInvalid { detail: malformed.join("; ") });
    }
    if targets.len() > TARGETS_MAX {
        return Err(Refusal::TooManyTargets { targets_max: TARGETS_MAX });
    }
    Ok(targets)
}

fn parse_device(at: usize, identifiers: Device<'_, '_>, malformed: &mut Vec<String>) -> Named {
    let mut named = Named::default();
    let Named { iccids, eids, beside } = &mut named;
    for (index, Object(identifier)) in identifiers.iter().flatten().enumerate() {
        let id = identifier.id.as_deref().unwrap_or_default();
        let parsed = match identifier.kind() {
            Some(Kind::Iccid) => id.parse().map(|iccid| iccids.push(iccid)),
            Some(Kind::Eid) => id.parse().map(|eid: Eid| {
                eids.push(eid.clone());
                merge(&mut beside.eid, eid, &mut beside.contradicted);
            }),
            Some(Kind::Imei) => {
                id.parse().map(|imei| merge(&mut beside.imei, imei, &mut beside.contradicted))
            }
            Some(Kind::Msisdn) => id
                .trim_start_matches('+')
                .parse()
                .map(|number| merge(&mut beside.msisdn, number, &mut beside.contradicted)),
            None => Ok(()),
        };
        if let Err(invalid) = parsed
            && malformed.len() < POSITIONS_MAX
        {
            malformed.push(format!("devices[{at}].deviceIds[{index}].id: {invalid}"));
        }
    }
    // Several EIDs are several devices, and no contradiction, where they are what names targets.
    if iccids.is_empty() {
        beside.contradicted = false;
    }
    named
}

/// Keeps `value` where nothing is known yet, and notes where it differs from what is.
fn merge<T: PartialEq>(known: &mut Option<T>, value: T, contradicted: &mut bool) {
    match known {
        Some(first) => *contradicted |= *first != value,
        None => *known = Some(value),
    }
}

impl NamedTarget {
    /// Whether anything is said of it beside its ICCID.
    pub fn says_more(&self) -> bool {
        self.contradicted || self.eid.is_some() || self.imei.is_some() || self.msisdn.is_some()
    }

    /// A profile of which nothing is said but its ICCID.
    pub fn bare(iccid: Iccid) -> Self {
        Self::new(iccid, &Beside::default())
    }

    fn new(iccid: Iccid, beside: &Beside) -> Self {
        Self {
            iccid,
            eid: beside.eid.clone(),
            imei: beside.imei.clone(),
            msisdn: beside.msisdn.clone(),
            contradicted: beside.contradicted,
        }
    }
}

impl Mentioned for NamedTarget {
    type Name = Iccid;

    fn name(&self) -> &Iccid {
        &self.iccid
    }

    fn also(&mut self, again: Self) {
        self.contradicted |= again.contradicted;
        if let Some(eid) = again.eid {
            merge(&mut self.eid, eid, &mut self.contradicted);
        }
        if let Some(imei) = again.imei {
            merge(&mut self.imei, imei, &mut self.contradicted);
        }
        if let Some(msisdn) = again.msisdn {
            merge(&mut self.msisdn, msisdn, &mut self.contradicted);
        }
    }
}

impl Mentioned for NamedDevice {
    type Name = Eid;

    fn name(&self) -> &Eid {
        &self.eid
    }

    fn also(&mut self, again: Self) {
        self.contradicted |= again.contradicted;
        if let Some(imei) = again.imei {
            merge(&mut self.imei, imei, &mut self.contradicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(json: &str) -> Result<Vec<NamedTarget>, Refusal> {
        ProfileActionBody::decode(json.as_bytes())?.targets(Action::ProfileResume)
    }

    #[test]
    fn duplicates_collapse_in_the_order_of_first_mention() {
        let json = r#"{"devices":[
            {"deviceIds":[{"kind":"ICCID","id":"89148000000800139708"},{"kind":"iccid","id":"8914800000080013971"}]},
            {"deviceIds":[{"kind":"iccid","id":"89148000000800139708"}]}]}"#;
        let iccids: Vec<_> =
            targets(json).unwrap().into_iter().map(|t| t.iccid.as_str().to_owned()).collect();
        assert_eq!(iccids, ["89148000000800139708", "8914800000080013971"]);
    }

    #[test]
    fn a_body_that_names_two_euiccs_for_one_profile_contradicts_itself() {
        let json = r#"{"devices":[
            {"deviceIds":[{"kind":"iccid","id":"89148000000800139708"},{"kind":"eid","id":"89049032000001000000000000000001"}]},
            {"deviceIds":[{"kind":"iccid","id":"89148000000800139708"},{"kind":"eid","id":"89049032000001000000000000000002"}]}]}"#;
        assert!(targets(json).unwrap()[0].contradicted);
    }

    #[test]
    fn refusals_come_in_the_order_of_the_table() {
        let refusal = |json| targets(json).unwrap_err();
        for nothing in [
            "{}",
            r#"{"devices":null}"#,
            r#"{"devices":[]}"#,
            r#"{"devices":[null]}"#,
            r#"{"devices":[{}]}"#,
            r#"{"devices":[{"deviceIds":[null]}]}"#,
        ] {
            assert!(matches!(refusal(nothing), Refusal::DeviceNotProvided { .. }), "{nothing}");
        }
        let unknown = r#"{"devices":[{"deviceIds":[{"kind":"esn","id":"letters"}]}]}"#;
        assert!(matches!(refusal(unknown), Refusal::KindInvalid { .. }));
        let no_iccid =
            r#"{"devices":[{"deviceIds":[{"kind":"eid","id":"89049032000001000000000000000001"}]}]}"#;
        assert!(matches!(refusal(no_iccid), Refusal::KindInvalid { .. }));
        let letters = r#"{"devices":[{"deviceIds":[{"kind":"iccid","id":"8914800000080013970x"}]}]}"#;
        assert!(
            matches!(refusal(letters), Refusal::IdentifierInvalid { detail } if detail.contains("devices[0].deviceIds[0].id"))
        );
        assert!(matches!(refusal(r#"{"devices":"all"}"#), Refusal::Malformed { .. }));
    }

    #[test]
    fn at_most_ten_positions_are_named() {
        let device = r#"{"deviceIds":[{"kind":"iccid","id":"1"}]}"#;
        let json = format!(r#"{{"devices":[{}]}}"#, [device; 50].join(","));
        let Err(Refusal::IdentifierInvalid { detail }) = targets(&json) else { panic!("accepted") };
        assert_eq!(detail.matches("devices[").count(), POSITIONS_MAX);
    }

    #[test]
    fn the_limit_counts_distinct_profiles() {
        let many = |n: usize| {
            let devices: Vec<_> = (0..n)
                .map(|i| format!(r#"{{"deviceIds":[{{"kind":"iccid","id":"{:020}"}}]}}"#, i % 10_001))
                .collect();
            targets(&format!(r#"{{"devices":[{}]}}"#, devices.join(",")))
        };
        assert_eq!(many(10_000).unwrap().len(), 10_000);
        assert_eq!(many(10_001).unwrap_err(), Refusal::TooManyTargets { targets_max: 10_000 });
    }
}
