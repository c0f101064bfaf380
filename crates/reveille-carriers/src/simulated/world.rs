//! What the simulated networks of one process share: which profiles have access, and what their cards hold.
//!
//! A card is in one world with all of its profiles, whatever their networks: enabling a Global profile
//! disables the US one. It is first seen with an operation that touches it, as it is recorded then.

use super::memory::profile_key;
use crate::{Effect, Observed, Operation, Reply};
use reveille_domain::rules::{enabled_instead, falls_back_to};
use reveille_domain::{Eid, EndState, Iccid, Profile, ProfileState, ProfileStatus, Reported};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When to come again for a card that cannot be reached.
const UNREACHABLE_FOR: Duration = Duration::from_secs(30);

/// The world of the simulated networks of one process.
#[derive(Default)]
pub struct World {
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// By ICCID: as many as the networks have profiles.
    services: HashMap<u128, Access>,
    /// By ICCID: of profiles that were moved to another plan.
    plans: HashMap<u128, Box<str>>,
    /// By EID: of eUICCs whose card was touched.
    cards: HashMap<Eid, Vec<Profile>>,
}

/// The network's side of a profile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Given,
    Suspended,
    Taken,
}

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What enabling a profile comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Enabling {
    Works,
    /// The card has the order already, tries, finds no network, and goes back.
    Fails,
}

impl Inner {
    /// The network's side of a profile; nothing until an operation named it.
    pub(super) fn service_of(&self, iccid: &Iccid) -> Option<EndState> {
        self.services.get(&profile_key(iccid)).map(|service| match service {
            Access::Given => EndState::InService,
            Access::Suspended => EndState::Suspended,
            Access::Taken => EndState::OutOfService,
        })
    }

    /// The profile that a card has enabled.
    pub(super) fn enabled_on(&self, eid: &Eid) -> Option<Iccid> {
        let card = self.cards.get(eid)?;
        card.iter().find(|profile| profile.status.is_enabled()).map(|profile| profile.iccid.clone())
    }

    /// Whether a profile is at that end; nothing where that was never asked for.
    pub(super) fn shows(&self, iccid: &Iccid, eid: &Eid, end: EndState) -> Option<bool> {
        let on_card = || self.cards.get(eid)?.iter().find(|profile| profile.iccid == *iccid);
        let service = || self.service_of(iccid);
        match end {
            EndState::InService | EndState::Suspended | EndState::OutOfService => {
                service().map(|is| is == end)
            }
            EndState::OnPlan => Some(self.plans.contains_key(&profile_key(iccid))),
            EndState::Downloaded => on_card().map(|profile| profile.status.is_on_card()),
            EndState::DownloadedAndEnabled | EndState::Enabled => on_card().map(|p| p.status.is_enabled()),
            EndState::InServiceAndEnabled => {
                on_card().map(|p| p.status.is_enabled() && service() == Some(EndState::InService))
            }
            EndState::Disabled => on_card().map(|p| p.status.is_on_card() && !p.status.is_enabled()),
            EndState::Deleted => on_card().map(|profile| !profile.status.is_on_card()),
            EndState::Fallback => on_card().map(|profile| profile.fallback),
        }
    }

    /// How a profile is; nothing of what no operation has touched.
    pub(super) fn observed(&self, iccid: &Iccid, eid: &Eid) -> Observed {
        Observed {
            in_service: self.service_of(iccid).map(|service| service == EndState::InService),
            enabled: self.shows(iccid, eid, EndState::Enabled),
        }
    }

    /// A network changes a profile by itself.
    pub(super) fn change_outside(&mut self, iccid: &Iccid, reported: Reported) {
        let service = reported.state.and_then(|state| match state {
            ProfileState::Active => Some(Access::Given),
            ProfileState::Suspended(_) => Some(Access::Suspended),
            ProfileState::Deactive => Some(Access::Taken),
            ProfileState::PreActive => None,
        });
        if let Some(service) = service {
            self.services.insert(profile_key(iccid), service);
        }
        for card in self.cards.values_mut() {
            if let (Some(at), Some(status)) =
                (card.iter().position(|profile| profile.iccid == *iccid), reported.status)
            {
                if status.is_enabled() {
                    enable(card, at, status);
                }
                card[at].status = status;
            }
        }
    }

    /// Brings a profile to the end that is asked for. One not seen before was not there.
    pub(super) fn carry_out(&mut self, operation: &Operation, enabling: Enabling) -> Reply {
        let key = profile_key(&operation.iccid);
        match operation.end_state {
            EndState::InService => self.serve(key, Access::Given),
            EndState::Suspended => self.serve(key, Access::Suspended),
            EndState::OutOfService => self.serve(key, Access::Taken),
            EndState::OnPlan => {
                let plan = operation.service_plan.clone().unwrap_or_default();
                said(self.plans.insert(key, plan.clone()) == Some(plan))
            }
            _ => self.touch(key, operation, enabling),
        }
    }

    fn serve(&mut self, key: u128, access: Access) -> Reply {
        said(self.services.insert(key, access) == Some(access))
    }

    fn touch(&mut self, key: u128, operation: &Operation, enabling: Enabling) -> Reply {
        let Self { services, cards, .. } = self;
        let card = cards.entry(operation.eid.clone()).or_default();
        for profile in &operation.card {
            if !card.iter().any(|known| known.iccid == profile.iccid) {
                card.push(profile.clone());
            }
        }
        let Some(at) = card.iter().position(|profile| profile.iccid == operation.iccid) else {
            return rejected("the card does not know the profile");
        };
        let is_served = |profile: &Profile| match services.get(&profile_key(&profile.iccid)) {
            Some(service) => *service == Access::Given,
            None => profile.state == ProfileState::Active,
        };
        let enabled = card.iter().position(|profile| profile.status.is_enabled());
        let fails = enabling == Enabling::Fails && enables(operation.end_state) && enabled != Some(at);
        if fails {
            let before = enabled.filter(|before| is_served(&card[*before]));
            let back = before.or_else(|| falls_back_without(card, at));
            return go_back(card, at, back, operation.end_state);
        }
        if enabled.is_some_and(|other| other != at && !is_served(&card[other])) {
            return Reply::RetryLater { after: Some(UNREACHABLE_FOR) };
        }
        let reply = change(card, at, operation.end_state);
        if operation.end_state == EndState::InServiceAndEnabled && !matches!(reply, Reply::Rejected { .. }) {
            let served = services.insert(key, Access::Given) == Some(Access::Given);
            return said(reply == Reply::AlreadySo && served);
        }
        reply
    }
}

/// Whether an end makes a profile the enabled one.
pub(super) fn enables(end: EndState) -> bool {
    matches!(end, EndState::Enabled | EndState::DownloadedAndEnabled | EndState::InServiceAndEnabled)
}

/// Whether an end brings a profile onto the card.
pub(super) fn downloads(end: EndState) -> bool {
    matches!(end, EndState::Downloaded | EndState::DownloadedAndEnabled)
}

fn said(already: bool) -> Reply {
    if already { Reply::AlreadySo } else { Reply::Done(Effect::Now) }
}

fn rejected(reason: &str) -> Reply {
    Reply::Rejected { reason: reason.into() }
}

fn enable(card: &mut [Profile], at: usize, as_status: ProfileStatus) {
    for (other, condition) in enabled_instead(card, Some(at)) {
        card[other].status = condition.status;
    }
    card[at].status = as_status;
}

/// What a card falls back to when the profile at that place is of no use.
fn falls_back_without(card: &mut [Profile], at: usize) -> Option<usize> {
    let status = std::mem::replace(&mut card[at].status, ProfileStatus::NotDownloaded);
    let back = falls_back_to(card);
    card[at].status = status;
    back
}

/// The card goes back to what was enabled before, or to what it falls back to.
fn go_back(card: &mut [Profile], at: usize, back: Option<usize>, end: EndState) -> Reply {
    if end == EndState::DownloadedAndEnabled {
        card[at].status = ProfileStatus::DownloadDisable;
    }
    for (other, condition) in enabled_instead(card, back) {
        card[other].status = condition.status;
    }
    Reply::RolledBack {
        reason: "the card found no network with the profile and went back".into(),
        enabled: back.map(|back| card[back].iccid.clone()),
    }
}

/// Brings the profile at that place of a card to an end that the card alone knows.
fn change(card: &mut [Profile], at: usize, end: EndState) -> Reply {
    let status = card[at].status;
    match end {
        EndState::Downloaded if status.is_on_card() => Reply::AlreadySo,
        EndState::Downloaded => {
            card[at].status = ProfileStatus::DownloadDisable;
            Reply::Done(Effect::Now)
        }
        EndState::DownloadedAndEnabled => {
            enable(card, at, ProfileStatus::DownloadEnable);
            said(status.is_enabled())
        }
        EndState::Enabled | EndState::InServiceAndEnabled
            if !status.is_on_card() && status != ProfileStatus::Unknown =>
        {
            rejected("the profile is not on the card")
        }
        EndState::Enabled | EndState::InServiceAndEnabled => {
            enable(card, at, ProfileStatus::Enable);
            said(status.is_enabled())
        }
        EndState::Disabled if !status.is_on_card() => rejected("the profile is not on the card"),
        EndState::Disabled if !status.is_enabled() => Reply::AlreadySo,
        EndState::Disabled => {
            card[at].status = ProfileStatus::Disable;
            if let Some(back) = falls_back_without(card, at) {
                enable(card, back, ProfileStatus::Enable);
            }
            Reply::Done(Effect::Now)
        }
        EndState::Deleted if !status.is_on_card() => Reply::AlreadySo,
        EndState::Deleted if status.is_enabled() => rejected("the profile is the enabled one"),
        EndState::Deleted if card[at].fallback => rejected("the card falls back to the profile"),
        EndState::Deleted => {
            card[at].status = ProfileStatus::Delete;
            Reply::Done(Effect::Now)
        }
        EndState::Fallback if !status.is_on_card() => rejected("the profile is not on the card"),
        EndState::Fallback => {
            let already = card[at].fallback;
            card.iter_mut().enumerate().for_each(|(other, profile)| profile.fallback = other == at);
            said(already)
        }
        EndState::InService | EndState::Suspended | EndState::OutOfService | EndState::OnPlan => {
            Reply::Done(Effect::Now)
        }
    }
}
