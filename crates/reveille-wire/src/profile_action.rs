//! The body of a profile action, read in the order in which §9.5 of the contract refuses.

use crate::json::{self, Object};
use reveille_domain::{AccountName, Eid, Iccid, Imei, Msisdn, Refusal};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// How many targets one request may have. Source: contract §10.
pub const TARGETS_MAX: usize = 10_000;

/// How many malformed identifiers a refusal names. Source: contract §12 Q15.
const POSITIONS_MAX: usize = 10;

/// How many characters a service plan's name may have; more is no name.
const PLAN_CHARS_MAX: usize = 256;

/// The body of a profile action as it came. Members that it does not know are ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileActionBody<'a> {
    /// The targets: each a device with its identifiers, an ICCID among them.
    #[serde(borrow, default)]
    devices: Option<Vec<Option<Object<DeviceBody<'a>>>>>,
    /// The account that the profiles belong to.
    #[serde(borrow, default)]
    account_name: Option<Cow<'a, str>>,
    /// A service plan of the account on the profiles' network.
    #[serde(borrow, default)]
    service_plan: Option<Cow<'a, str>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeviceBody<'a> {
    #[serde(borrow, default)]
    device_ids: Identifiers<'a>,
}

#[derive(Deserialize, JsonSchema)]
struct IdentifierBody<'a> {
    /// `iccid`; also `eid`, `imei` and `mdn` beside it. In any case.
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    /// The identifier of that kind.
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

type Identifiers<'a> = Option<Vec<Option<Object<IdentifierBody<'a>>>>>;

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

    /// The service plan that it names; an empty name is none.
    ///
    /// # Errors
    /// `Malformed`, where it is too long for a name.
    pub fn service_plan(&self) -> Result<Option<&str>, Refusal> {
        let plan = self.service_plan.as_deref().filter(|plan| !plan.is_empty());
        if plan.is_some_and(|plan| plan.chars().count() > PLAN_CHARS_MAX) {
            let detail = format!("servicePlan has more than {PLAN_CHARS_MAX} characters");
            return Err(Refusal::Malformed { detail });
        }
        Ok(plan)
    }

    /// The distinct profiles that it names, in the order of their first mention.
    ///
    /// # Errors
    /// `DeviceNotProvided`, `KindInvalid`, `IdentifierInvalid`, `TooManyTargets`; the first that holds for
    /// any device, in this order.
    pub fn targets(&self) -> Result<Vec<NamedTarget>, Refusal> {
        let devices = self.present()?;
        check_kinds(&devices)?;
        let targets = parse(&devices)?;
        if targets.len() > TARGETS_MAX {
            return Err(Refusal::TooManyTargets { targets_max: TARGETS_MAX });
        }
        Ok(targets)
    }

    fn present(&self) -> Result<Vec<&[Option<Object<IdentifierBody<'a>>>]>, Refusal> {
        let missing = |detail: String| Err(Refusal::DeviceNotProvided { detail });
        let devices = self.devices.as_deref().unwrap_or_default();
        if devices.is_empty() {
            return missing("devices is missing or empty".into());
        }
        let mut present = Vec::with_capacity(devices.len());
        for (at, device) in devices.iter().enumerate() {
            let identifiers =
                device.as_ref().and_then(|device| device.0.device_ids.as_deref()).unwrap_or_default();
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

type Devices<'a, 'b> = [&'a [Option<Object<IdentifierBody<'b>>>]];

fn check_kinds(devices: &Devices<'_, '_>) -> Result<(), Refusal> {
    for (at, identifiers) in devices.iter().enumerate() {
        let kinds = || identifiers.iter().flatten().map(|identifier| identifier.0.kind());
        if let Some(unknown) = kinds().position(|kind| kind.is_none()) {
            let detail = format!(
                "devices[{at}].deviceIds[{unknown}].kind is none of iccid, eid, imei, mdn; this call takes iccid"
            );
            return Err(Refusal::KindInvalid { detail });
        }
        if !kinds().any(|kind| kind == Some(Kind::Iccid)) {
            let detail = format!("devices[{at}] has no identifier of kind iccid, which this call needs");
            return Err(Refusal::KindInvalid { detail });
        }
    }
    Ok(())
}

/// What one device says beside its ICCIDs.
#[derive(Default)]
struct Beside {
    eid: Option<Eid>,
    imei: Option<Imei>,
    msisdn: Option<Msisdn>,
    contradicted: bool,
}

fn parse(devices: &Devices<'_, '_>) -> Result<Vec<NamedTarget>, Refusal> {
    let mut targets: Vec<NamedTarget> = Vec::with_capacity(devices.len());
    let mut known: HashMap<Iccid, usize> = HashMap::with_capacity(devices.len());
    let mut malformed = Vec::new();
    for (at, identifiers) in devices.iter().enumerate() {
        let (iccids, beside) = parse_device(at, identifiers, &mut malformed);
        if malformed.len() >= POSITIONS_MAX {
            break;
        }
        for iccid in iccids {
            match known.get(&iccid) {
                Some(&index) => targets[index].also(&beside),
                None => {
                    known.insert(iccid.clone(), targets.len());
                    targets.push(NamedTarget::new(iccid, &beside));
                }
            }
        }
    }
    if malformed.is_empty() {
        Ok(targets)
    } else {
        Err(Refusal::IdentifierInvalid { detail: malformed.join("; ") })
    }
}

fn parse_device(
    at: usize,
    identifiers: &[Option<Object<IdentifierBody<'_>>>],
    malformed: &mut Vec<String>,
) -> (Vec<Iccid>, Beside) {
    let mut iccids = Vec::with_capacity(1);
    let mut beside = Beside::default();
    for (index, Object(identifier)) in identifiers.iter().flatten().enumerate() {
        let id = identifier.id.as_deref().unwrap_or_default();
        let parsed = match identifier.kind() {
            Some(Kind::Iccid) => id.parse().map(|iccid| iccids.push(iccid)),
            Some(Kind::Eid) => id.parse().map(|eid| merge(&mut beside.eid, eid, &mut beside.contradicted)),
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
    (iccids, beside)
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

    fn new(iccid: Iccid, beside: &Beside) -> Self {
        Self {
            iccid,
            eid: beside.eid.clone(),
            imei: beside.imei.clone(),
            msisdn: beside.msisdn.clone(),
            contradicted: beside.contradicted,
        }
    }

    fn also(&mut self, beside: &Beside) {
        self.contradicted |= beside.contradicted;
        if let Some(eid) = beside.eid.clone() {
            merge(&mut self.eid, eid, &mut self.contradicted);
        }
        if let Some(imei) = beside.imei.clone() {
            merge(&mut self.imei, imei, &mut self.contradicted);
        }
        if let Some(msisdn) = beside.msisdn.clone() {
            merge(&mut self.msisdn, msisdn, &mut self.contradicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(json: &str) -> Result<Vec<NamedTarget>, Refusal> {
        ProfileActionBody::decode(json.as_bytes())?.targets()
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
