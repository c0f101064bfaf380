//! Profiles: list, show, history.

use super::requests::queried;
use super::{instant, invalid, limit, why};
use crate::App;
use crate::auth::Caller;
use crate::refused::Refused;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use reveille_domain::{Iccid, Network, ProfileState, Refusal, SuspendedBy};
use reveille_engine::{Observation, Observed};
use reveille_store::{HistoryView, Identifier, OwnedProfile, ProfileFilter};
use reveille_wire::spelling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A profile as it is recorded.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    account: String,
    iccid: String,
    eid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    imei: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msisdn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imsi: Option<String>,
    /// `verizon-us` or `global`.
    network: &'static str,
    /// `LEAD`, `LOCAL` or `DEFAULT`.
    role: &'static str,
    /// `PRE_ACTIVE`, `ACTIVE`, `SUSPEND` or `DEACTIVE`.
    state: &'static str,
    /// `profile` or `device`; of suspended profiles only.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_by: Option<&'static str>,
    profile_status: &'static str,
    /// Whether its card falls back to it.
    fallback: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_plan: Option<String>,
    /// An operation was given up unsettled: the network may differ from the record.
    in_doubt: bool,
}

impl From<OwnedProfile> for Profile {
    fn from(owned: OwnedProfile) -> Self {
        let profile = owned.profile;
        let suspended_by = match profile.state {
            ProfileState::Suspended(by) => Some(spelling::suspended_by(by)),
            _ => None,
        };
        Self {
            account: owned.account.to_string(),
            iccid: profile.iccid.as_str().into(),
            eid: profile.eid.as_str().into(),
            imei: profile.imei.map(|imei| imei.as_str().into()),
            msisdn: profile.msisdn.map(|msisdn| msisdn.as_str().into()),
            imsi: profile.imsi.map(|imsi| imsi.as_str().into()),
            network: profile.network.name(),
            role: spelling::role(profile.role),
            state: spelling::state(profile.state),
            suspended_by,
            profile_status: spelling::status(profile.status),
            fallback: profile.fallback,
            service_plan: profile.service_plan.map(Into::into),
            in_doubt: profile.in_doubt.is_any(),
        }
    }
}

/// A page of profiles, in the order of their ICCIDs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ProfilePage {
    profiles: Vec<Profile>,
    /// The `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileQuery {
    account: String,
    state: Option<String>,
    profile_status: Option<String>,
    network: Option<String>,
    role: Option<String>,
    service_plan: Option<String>,
    in_doubt: Option<bool>,
    eid: Option<String>,
    imei: Option<String>,
    msisdn: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ProfileQuery>, QueryRejection>,
) -> Result<Json<ProfilePage>, Refused> {
    let query = queried(query)?;
    let limit = limit(query.limit)?;
    let filter = filter(&caller, query, limit)?;
    let found = app.engine.store().fleet(filter).await?;
    let profiles: Vec<Profile> = found.into_iter().map(Profile::from).collect();
    let next = profiles.last().filter(|_| profiles.len() == limit).map(|profile| profile.iccid.clone());
    Ok(Json(ProfilePage { profiles, next }))
}

fn filter(caller: &Caller, query: ProfileQuery, limit: usize) -> Result<ProfileFilter, Refusal> {
    let identifiers = identifiers(&query)?;
    let statuses =
        word(query.profile_status, "profileStatus is a status on the card, ENABLE for one", |word| {
            spelling::status_named(word)
        })?;
    Ok(ProfileFilter {
        account: Some(caller.account_named(&query.account)?),
        network: word(query.network, "network is verizon-us or global", Network::named)?,
        states: states(query.state.as_deref())?,
        statuses: statuses.into_iter().collect(),
        role: word(query.role, "role is LEAD, LOCAL or DEFAULT", spelling::role_named)?,
        service_plan: query.service_plan.map(Into::into),
        in_doubt: query.in_doubt,
        identifiers,
        after: word(query.after, "after is an ICCID", |text| text.parse().ok())?,
        limit,
    })
}

/// What a word of the query means; nothing where there is none.
fn word<T>(
    word: Option<String>,
    known: &str,
    find: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    word.map(|word| find(&word).ok_or_else(|| invalid(known))).transpose()
}

/// The one identifier that is asked for: profiles that have several of them are looked for by one.
fn identifiers(query: &ProfileQuery) -> Result<Vec<Identifier>, Refusal> {
    let eid = word(query.eid.clone(), "eid has 32 digits", |text| text.parse().ok().map(Identifier::Eid))?;
    let imei =
        word(query.imei.clone(), "imei has 14 to 16 digits", |text| text.parse().ok().map(Identifier::Imei))?;
    let msisdn = word(query.msisdn.clone(), "msisdn has 5 to 15 digits", |text| {
        text.parse().ok().map(Identifier::Msisdn)
    })?;
    let named: Vec<Identifier> = [eid, imei, msisdn].into_iter().flatten().collect();
    if named.len() > 1 { Err(invalid("name one of eid, imei and msisdn")) } else { Ok(named) }
}

/// The recorded states of one word on the wire.
fn states(word: Option<&str>) -> Result<Vec<ProfileState>, Refusal> {
    let Some(word) = word else { return Ok(Vec::new()) };
    let by = [SuspendedBy::Profile, SuspendedBy::Device];
    let mut states: Vec<ProfileState> =
        by.into_iter().filter_map(|by| spelling::state_named(word, by)).collect();
    states.dedup();
    if states.is_empty() {
        Err(invalid("state is PRE_ACTIVE, ACTIVE, SUSPEND or DEACTIVE"))
    } else {
        Ok(states)
    }
}

pub(super) async fn find(app: &App, caller: &Caller, iccid: &str) -> Result<OwnedProfile, Refused> {
    let unknown = || Refusal::NotFound { what: "profile" };
    let iccid: Iccid = iccid.parse().map_err(|_| unknown())?;
    let found = app.engine.store().profile(&iccid).await?;
    Ok(found.filter(|owned| caller.sees(&owned.account)).ok_or_else(unknown)?)
}

/// A profile with what else is on its eUICC.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileWithDevice {
    #[serde(flatten)]
    profile: Profile,
    /// One sentence; absent where the profile is in service.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not_in_service: Option<String>,
    /// Every profile on the eUICC, this one among them, by ICCID.
    device: Vec<Profile>,
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(iccid): Path<String>,
) -> Result<Json<ProfileWithDevice>, Refused> {
    let owned = find(&app, &caller, &iccid).await?;
    let on_device = ProfileFilter {
        account: Some(owned.account.clone()),
        identifiers: vec![Identifier::Eid(owned.profile.eid.clone())],
        limit: super::PAGE_MAX,
        ..ProfileFilter::default()
    };
    let device = app.engine.store().fleet(on_device).await?;
    let history = app.engine.store().history(&owned.profile.iccid, super::PAGE_MAX).await?;
    Ok(Json(ProfileWithDevice {
        why_not_in_service: why::not_in_service(&owned.profile, &device, &history),
        profile: owned.into(),
        device: device.into_iter().map(Profile::from).collect(),
    }))
}

/// What a profile's network says of it, asked just now; nothing is changed by that.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OnNetwork {
    /// `verizon-us` or `global`.
    network: &'static str,
    /// `seen`; `no_such_profile`: the network does not know it; `unserved`, `not_able`, `unavailable`: it could not be
    /// asked.
    answer: &'static str,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// Whether the network gives it access, where it can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_service: Option<bool>,
    /// Whether its card has it enabled, where the network can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// Whether that is as recorded; absent where nothing can be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    agrees: Option<bool>,
}

pub(crate) async fn on_network(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(iccid): Path<String>,
) -> Result<Json<OnNetwork>, Refused> {
    let profile = find(&app, &caller, &iccid).await?.profile;
    let nothing = Observed::default();
    let (answer, trouble, seen) = match app.engine.observe(&profile).await {
        Some(Observation::Seen(seen)) => ("seen", None, seen),
        Some(Observation::NoSuchProfile) => ("no_such_profile", None, nothing),
        Some(Observation::NotAble) => ("not_able", None, nothing),
        Some(Observation::Unavailable(trouble)) => ("unavailable", Some(trouble.to_string()), nothing),
        None => ("unserved", None, nothing),
    };
    let Observed { in_service, enabled } = seen;
    let can_be_compared = in_service.is_some() || enabled.is_some();
    let agrees = can_be_compared.then(|| seen.differing_from(&profile).is_none());
    let network = profile.network.name();
    Ok(Json(OnNetwork { network, answer, trouble, in_service, enabled, agrees }))
}

/// The changes of a profile's record, oldest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct History {
    history: Vec<HistoryEntry>,
}

/// One change of a profile's record.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryEntry {
    at: String,
    /// The request that changed it; absent once that is no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The subrequest's number within it.
    number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    from: &'static str,
    to: &'static str,
    from_status: &'static str,
    to_status: &'static str,
    /// The service plan that it moved to, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_plan: Option<String>,
    in_doubt: bool,
}

impl From<HistoryView> for HistoryEntry {
    fn from(view: HistoryView) -> Self {
        Self {
            at: instant(view.at),
            request_id: view.request.map(|(request, _)| request.to_string()),
            number: view.position.number,
            action: view.request.map(|(_, action)| action.name()),
            user: view.user.map(Into::into),
            from: spelling::state(view.from.state),
            to: spelling::state(view.to.state),
            from_status: spelling::status(view.from.status),
            to_status: spelling::status(view.to.status),
            service_plan: view.plan.map(|plan| plan.to.into()),
            in_doubt: view.in_doubt,
        }
    }
}

pub(crate) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(iccid): Path<String>,
) -> Result<Json<History>, Refused> {
    let owned = find(&app, &caller, &iccid).await?;
    let views = app.engine.store().history(&owned.profile.iccid, super::PAGE_MAX).await?;
    Ok(Json(History { history: views.into_iter().map(HistoryEntry::from).collect() }))
}
