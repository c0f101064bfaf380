//! `docs/actions.md`: the table of rules as people read it.

use reveille_domain::rules::{Lead, Others, RULES, Rule, Then, When};
use reveille_domain::{Action, Already, EndState, Fault, ProfileState, ProfileStatus, Role, SuspendedBy};
use reveille_wire::{fault_code, spelling};
use std::fmt::Write;

const INTRODUCTION: &str = "# Profile actions

<!-- Made by a test from the table in crates/reveille-domain/src/rules.rs and the texts in
     crates/reveille/tests/it/actions_page.rs. -->

Every action is `POST /api/m2m/v1/devices/profile/actions/<action>` with 1 to 10,000 targets, and answers
`{\"requestId\"}`. Each target's outcome comes by [callback](callbacks.md). What an action does is decided when the
target's turn has come, on the state that is recorded then, by the first row that fits; where none fits, the fault is
`INPUT_INVALID.DeviceState.Invalid` and nothing is done. A state or status that the right column does not name stays as
it is.

Words: a profile's **state** is its service (`PRE_ACTIVE`, `ACTIVE`, `SUSPEND`, `DEACTIVE`), its **status** is how it is
on the card (`NOT_DOWNLOADED`, `DOWNLOAD_DISABLE`, `DOWNLOAD_ENABLE`, `ENABLE`, `DISABLE`, `DELETE`, `UNKNOWN`), its
**role** is `LEAD` (Verizon US), `LOCAL` (Global) or `DEFAULT` (a boot profile). *Enabled* is `ENABLE` or
`DOWNLOAD_ENABLE`; *on the card* is any but `NOT_DOWNLOADED`, `DELETE` and `UNKNOWN`.
";

const CHOICES: &str = "
## For all of them

- A `servicePlan` that is named must be one of the account's plans on the profile's network, else
  `REQUEST_FAILED.<plan>.NotFound`, before anything else is looked at. `activate`, `activate_enable` and `serviceplan`
  move the profile to it; the others leave the profile on the plan that it has. Device actions ignore it.
- What is [in doubt](choices.md#states-of-a-profile) is never found to be *already* so: the carrier is asked.
- Where the account is so limited (`limits.actions_per_day`, `limits.plan_changes_per_month`; off by default), a change
  of state too many within 24 hours is `REQUEST_FAILED.ActionsPerDayExceeded`, a `serviceplan` too many within 30 days
  `REQUEST_FAILED.PlanChangesPerMonthExceeded`. Only changes that were made count, and not what a network did by itself.
- One eUICC never has two operations under way, and has them in the order in which they were accepted.

## What the public contract leaves open

Each is a choice of Reveille's. *Q* is the question in [choices.md](choices.md).

| | choice |
| --- | --- |
| targets | Profile actions need an `iccid`; `eid`, `imei` and `mdn` may stand beside it and must agree with the inventory. Device actions need an `eid`; an `imei` may stand beside it. A target that the account does not have is `REQUEST_FAILED.DeviceNotFound`. |
| bodies | `ids` may stand for `deviceIds`, and a device may be a list of identifiers, as SDKs send both. `smrsOid` and `smsrOid`, `etfWaiver` and `etfwaiver` are the same. `smsrOid` is never required. `mdnZipCode` counts on activation only. A consumer-eSIM body (`HybridESim`, or on `activate` and `deactivate` an EID without ICCID) is 400, and so is `renew_activation_code`, which consumer eSIMs alone have. |
| roles (Q11) | A target of the wrong role is accepted, and gets `DeviceState.Invalid` by callback. A `DEFAULT` profile takes part in device actions alone. |
| resume (Q8, Q29) | `profile_resume` lifts a suspension whatever laid it. |
| suspension (Q29) | `profile_suspend` of a profile that is suspended with its device is *already suspended*, and stays suspended with its device. |
| device actions (Q9, Q10, Q30) | One callback for each profile that was on the eUICC when the request was accepted, and one for the device, which is recorded last: `SUCCESS` unless every profile failed. Its callback may arrive before a profile's all the same, one that has to be sent again for instance. One that `device_resume` leaves suspended on its own gets `DeviceState.Invalid` and does not count. Where all failed alike the device has their fault, else `REQUEST_FAILED.DeviceActionFailed`. The device's `state` is `ACTIVE` where one of its profiles is, else `SUSPEND` where one is, and so on. |
| activation | A LOCAL profile that is not on the card becomes `NOT_DOWNLOADED`; any other keeps its status. `activate_enable` needs the profile on the card. |
| deactivation | The status stays. With `checkFallbackProfile`, what the card falls back to is spared: `DeviceState.Invalid`. `reasonCode` and `etfWaiver` are kept with the request. |
| downloads | The LEAD profile on the eUICC must be in service (`ACTIVE` and enabled): the device is reached through it. `download_disable` is `download` by another name. |
| enabling (Q23) | Only of `ACTIVE` profiles; a profile whose status is `UNKNOWN` may be enabled, which settles it. Enabling one disables the others on the card. If the card tries and goes back, the outcome is `REQUEST_FAILED.CarrierRejected`, and what the card has enabled then is recorded. |
| disabling | In any state. The card enables what it falls back to: the profile with the fallback attribute, else its boot profile (`DEFAULT`), else its LEAD profile. |
| deletion (Q27) | Disabled **and** deactivated or never activated, and not what the card falls back to. |
| fallback | One profile of an eUICC has the attribute; setting it takes it from the other. |
| plans | `serviceplan` without a `servicePlan` is 400. To the plan that the profile has: `REQUEST_FAILED.ServicePlanAlreadySet`. |
| warnings (Q22) | Off by default. With `callbacks.warnings`, an action on the card that is unsettled for `callbacks.warn_after` is told by a callback with status `warning`, once; its outcome follows in a callback of its own, whose `callbackCount` begins at 1. |
| long suspensions | Off by default. With `suspensions.longest`, a profile that Reveille suspended so long ago is resumed by a request of the user `reveille`; the listener of ResumeTrackingNotification is told seven days before, or at once where less is left. Profiles that were imported as suspended are left alone, since nobody knows since when. |
| changes outside | What a network reports to have changed by itself is recorded by a request of the user `reveille` with the action `external_change`, in its turn, and told to the listener of ExternalProvisioningChanges. Reports do not overtake one another. One whose state or status an operation has changed that ended after the report was taken up changes nothing, and is told as `Failed` with `DeviceState.Invalid`. A profile that is suspended stays so by whatever suspended it. |
";

/// Every action of the table, in its order.
fn actions() -> Vec<Action> {
    let mut actions: Vec<Action> = Vec::new();
    for rule in RULES {
        if !actions.contains(&rule.action) {
            actions.push(rule.action);
        }
    }
    actions
}

pub(crate) fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for action in actions() {
        writeln!(page, "\n## {}\n\n{}\n", action.name(), summary(action)).unwrap();
        page.push_str("| role | state | status | what follows |\n| --- | --- | --- | --- |\n");
        for rule in RULES.iter().filter(|rule| rule.action == action) {
            writeln!(page, "{}", row(rule)).unwrap();
        }
    }
    page.push_str(CHOICES);
    page
}

fn summary(action: Action) -> &'static str {
    match action {
        Action::ProfileResume => "Brings suspended profiles back into service.",
        Action::ProfileSuspend => "Suspends Global profiles; a US profile is suspended with its device only.",
        Action::DeviceSuspend => "For devices: suspends every active profile on the eUICC.",
        Action::DeviceResume => {
            "For devices: brings back what was suspended with them. What was suspended on its own stays so."
        }
        Action::Activate => "Begins the service of profiles, or begins it again after a deactivation.",
        Action::ActivateEnable => "Activates profiles that are on their cards, and enables them there.",
        Action::Deactivate => "Ends the service of profiles; they can be activated again.",
        Action::Enable => "Makes profiles the enabled ones of their cards.",
        Action::Disable => "Takes enabled Global profiles out of use on their cards.",
        Action::Download => "Brings Global profiles onto their cards.",
        Action::DownloadEnable => "Brings Global profiles onto their cards and enables them.",
        Action::DownloadDisable => "Brings Global profiles onto their cards and leaves them disabled.",
        Action::Delete => "Removes Global profiles from their cards.",
        Action::SetFallback => "Makes profiles what their cards fall back to.",
        Action::ServicePlan => "Moves profiles to another service plan.",
        Action::DeviceList
        | Action::DeviceHistory
        | Action::ResumeNotice
        | Action::ExternalChange
        | Action::Drift => {
            unreachable!("no rule is about them")
        }
    }
}

fn row(rule: &Rule) -> String {
    let when = match rule.when {
        When::Always => "",
        When::LeadInService => " while the LEAD profile on the eUICC is in service",
        When::IsFallback => ", where the card falls back to it",
        When::IsNotFallback => ", where the card does not fall back to it",
        When::FallbackAllows => ", unless `checkFallbackProfile` spares it",
        When::SamePlan => ", where it is on the plan that is named",
    };
    let then = match rule.then {
        Then::Leads(lead) => format!("{}: {}", asked(lead.drives), leads(lead)),
        Then::Already(already, _) => format!("fault `{}`", fault_code(&Fault::Already(already))),
    };
    format!(
        "| {} | {} | {}{when} | {then} |",
        roles(rule.roles),
        states(rule.states),
        statuses(rule.statuses)
    )
}

fn roles(roles: &[Role]) -> String {
    if roles.len() == Role::ALL.len() {
        return "any".into();
    }
    roles.iter().map(|role| format!("`{}`", spelling::role(*role))).collect::<Vec<_>>().join(", ")
}

fn states(states: &[ProfileState]) -> String {
    if states.len() == ProfileState::ALL.len() {
        return "any".into();
    }
    let both = [SuspendedBy::Profile, SuspendedBy::Device].map(ProfileState::Suspended);
    let whatever = both.iter().all(|state| states.contains(state));
    let mut words: Vec<String> = Vec::new();
    for state in states {
        let word = match state {
            ProfileState::Suspended(by) if !whatever => {
                format!("`SUSPEND` by {}", spelling::suspended_by(*by))
            }
            state => format!("`{}`", spelling::state(*state)),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn statuses(statuses: &[ProfileStatus]) -> String {
    let is = |all: fn(ProfileStatus) -> bool| {
        ProfileStatus::ALL.into_iter().all(|status| all(status) == statuses.contains(&status))
    };
    match () {
        () if statuses.len() == ProfileStatus::ALL.len() => "any".into(),
        () if is(ProfileStatus::is_enabled) => "enabled".into(),
        () if is(ProfileStatus::is_on_card) => "on the card".into(),
        () => {
            let words = statuses.iter().map(|status| format!("`{}`", spelling::status(*status)));
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

fn asked(end: EndState) -> &'static str {
    match end {
        EndState::InService => "put in service",
        EndState::Suspended => "suspended",
        EndState::OutOfService => "put out of service",
        EndState::OnPlan => "moved to the plan",
        EndState::Downloaded => "downloaded",
        EndState::DownloadedAndEnabled => "downloaded and enabled",
        EndState::Enabled => "enabled",
        EndState::InServiceAndEnabled => "put in service and enabled",
        EndState::Disabled => "disabled",
        EndState::Deleted => "deleted",
        EndState::Fallback => "made the fallback",
    }
}

fn leads(lead: Lead) -> String {
    let mut parts = Vec::new();
    match lead.state {
        Some(ProfileState::Suspended(by)) => {
            parts.push(format!("`SUSPEND` by {}", spelling::suspended_by(by)));
        }
        Some(state) => parts.push(format!("`{}`", spelling::state(state))),
        None => {}
    }
    parts.extend(lead.status.map(|status| format!("`{}`", spelling::status(status))));
    if lead.takes_plan {
        parts.push("the plan that is named".into());
    }
    match lead.others {
        Others::Stay => {}
        Others::AreDisabled => parts.push("the card's enabled one becomes `DISABLE`".into()),
        Others::FallbackIsEnabled => parts.push("what the card falls back to becomes `ENABLE`".into()),
        Others::LoseFallback => parts.push("no other has the attribute".into()),
    }
    if parts.is_empty() { "nothing else changes".into() } else { parts.join(", ") }
}

#[test]
fn every_already_has_its_row() {
    for already in Already::ALL {
        let told = RULES.iter().any(|rule| matches!(rule.then, Then::Already(told, _) if told == already));
        assert!(told, "{already:?} is told by no row");
    }
}
