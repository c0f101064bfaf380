//! The behaviours that a script can ask for, their names and codes, and what each does at which try.

use super::world::{downloads, enables};
use reveille_domain::{EndState, ProfileState, SuspendedBy};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The hints of [`Behaviour::SlowCard`] and [`Behaviour::UnreachableCard`].
const SLOW_CARD: Duration = Duration::from_secs(30);
const UNREACHABLE: Duration = Duration::from_secs(60);

/// The hint of [`Behaviour::RetryWithHint`].
const HINT: Duration = Duration::from_secs(1);

/// What a rejection says; it reaches the customer in the callback.
pub(super) const REFUSED: &str = "Refused by the simulated network";

/// How the simulated network treats an operation. The code in a reserved ICCID is the place in [`Self::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Carried out at the first try, and never in trouble.
    AlwaysDone,
    /// Rejected for good.
    Rejected,
    /// Told to retry later twice, then carried out.
    RetryTwice,
    /// Carried out at the first try without an answer; afterwards already so.
    DoneUnanswered,
    /// Neither carried out nor answered at the first try; then carried out.
    UnansweredThenDone,
    /// Never carried out, and the call stays open until the caller ends it.
    NeverAnswers,
    /// Found to be already so.
    AlwaysAlreadySo,
    /// Carried out, and answered after five seconds whatever the latency.
    Slow,
    /// Told to retry later at each try.
    RetryForever,
    /// Carried out, and the reply told twice.
    AnswersTwice,
    /// Told to retry later once, then rejected for good.
    RetryThenRejected,
    /// Told to retry in a second, then carried out.
    RetryWithHint,
    /// Carried out and told so, then told to be rejected: the first reply is the true one.
    ContradictsItself,
    /// A card that is told to be asked again in half a minute three times; other ends are done at once.
    SlowCard,
    /// A card that is never reached; other ends are done at once.
    UnreachableCard,
    /// A card that tries to enable the profile and goes back; other ends are done at once.
    EnablingFails,
    /// A download that is rejected; other ends are done at once.
    DownloadFails,
    /// Done; a minute after the profile was put in service the network suspends it by itself.
    SuspendedOutside,
    /// Done; a minute after the profile was put in service the network deactivates it by itself.
    DeactivatedOutside,
    /// Not reachable at the first six tries: the whole carrier is left alone for a while. Then carried out.
    NetworkUnreachable,
    /// Likewise for credentials that the network does not accept.
    CredentialsRefused,
    /// Carried out, and never answered: asked how the profile is, it tells.
    DoneNeverAnswered,
    /// Accepted for later under a name of its own, and carried out when it is asked about.
    AcceptedForLater,
    /// Done; a minute after the profile was put in service the network suspends it by itself, and does not say so.
    SuspendedUnseen,
}

/// What the network does at one try of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CarryOut,
    CarryOutSlowly,
    CarryOutUnanswered,
    CarryOutAndAnswerTwice,
    CarryOutAndContradict,
    ClaimAlreadySo,
    /// Carried out as far as the card goes along: it goes back.
    GoBack,
    /// Carried out, and undone by the network itself later.
    CarryOutForNow(ProfileState, Said),
    Reject(&'static str),
    Postpone {
        after: Option<Duration>,
    },
    /// Accepted, and not carried out yet.
    AcceptForLater,
    /// Not even sent: the network is not reachable.
    BeUnreachable,
    /// Not even sent: the network does not accept who calls.
    RefuseCredentials,
    /// Neither carried out nor answered; the call ends.
    Lose,
    /// Neither carried out nor answered; the call stays open.
    Hang,
}

impl Behaviour {
    /// Every behaviour, in the order of the codes.
    pub const ALL: [Self; 24] = [
        Self::AlwaysDone,
        Self::Rejected,
        Self::RetryTwice,
        Self::DoneUnanswered,
        Self::UnansweredThenDone,
        Self::NeverAnswers,
        Self::AlwaysAlreadySo,
        Self::Slow,
        Self::RetryForever,
        Self::AnswersTwice,
        Self::RetryThenRejected,
        Self::RetryWithHint,
        Self::ContradictsItself,
        Self::SlowCard,
        Self::UnreachableCard,
        Self::EnablingFails,
        Self::DownloadFails,
        Self::SuspendedOutside,
        Self::DeactivatedOutside,
        Self::NetworkUnreachable,
        Self::CredentialsRefused,
        Self::DoneNeverAnswered,
        Self::AcceptedForLater,
        Self::SuspendedUnseen,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlwaysDone => "always-done",
            Self::Rejected => "rejected",
            Self::RetryTwice => "retry-twice",
            Self::DoneUnanswered => "done-unanswered",
            Self::UnansweredThenDone => "unanswered-then-done",
            Self::NeverAnswers => "never-answers",
            Self::AlwaysAlreadySo => "always-already-so",
            Self::Slow => "slow",
            Self::RetryForever => "retry-forever",
            Self::AnswersTwice => "answers-twice",
            Self::RetryThenRejected => "retry-then-rejected",
            Self::RetryWithHint => "retry-with-hint",
            Self::ContradictsItself => "contradicts-itself",
            Self::SlowCard => "slow-card",
            Self::UnreachableCard => "unreachable-card",
            Self::EnablingFails => "enabling-fails",
            Self::DownloadFails => "download-fails",
            Self::SuspendedOutside => "suspended-outside",
            Self::DeactivatedOutside => "deactivated-outside",
            Self::NetworkUnreachable => "network-unreachable",
            Self::CredentialsRefused => "credentials-refused",
            Self::DoneNeverAnswered => "done-never-answered",
            Self::AcceptedForLater => "accepted-for-later",
            Self::SuspendedUnseen => "suspended-unseen",
        }
    }

    /// What it does to an operation to that end that was tried `tries` times before, and may be accepted already.
    pub(super) fn step(self, tries: u32, end: EndState, accepted: bool) -> Step {
        match (self, tries) {
            (Self::AcceptedForLater, _) if !accepted => Step::AcceptForLater,
            (Self::RetryTwice, 0..=1) | (Self::RetryThenRejected, 0) | (Self::RetryForever, _) => {
                Step::Postpone { after: None }
            }
            (Self::RetryWithHint, 0) => Step::Postpone { after: Some(HINT) },
            (Self::Rejected | Self::RetryThenRejected, _) => Step::Reject(REFUSED),
            (Self::DoneUnanswered, 0) | (Self::DoneNeverAnswered, _) => Step::CarryOutUnanswered,
            (Self::DoneUnanswered | Self::AlwaysAlreadySo, _) => Step::ClaimAlreadySo,
            (Self::UnansweredThenDone, 0) => Step::Lose,
            (Self::NeverAnswers, _) => Step::Hang,
            (Self::Slow, _) => Step::CarryOutSlowly,
            (Self::AnswersTwice, _) => Step::CarryOutAndAnswerTwice,
            (Self::ContradictsItself, _) => Step::CarryOutAndContradict,
            (Self::SlowCard, 0..=2) if end.touches_card() => Step::Postpone { after: Some(SLOW_CARD) },
            (Self::UnreachableCard, _) if end.touches_card() => Step::Postpone { after: Some(UNREACHABLE) },
            (Self::EnablingFails, _) if enables(end) => Step::GoBack,
            (Self::DownloadFails, _) if downloads(end) => Step::Reject("The download failed"),
            (Self::SuspendedOutside, _) if serves(end) => {
                Step::CarryOutForNow(ProfileState::Suspended(SuspendedBy::Profile), Said::Yes)
            }
            (Self::SuspendedUnseen, _) if serves(end) => {
                Step::CarryOutForNow(ProfileState::Suspended(SuspendedBy::Profile), Said::No)
            }
            (Self::DeactivatedOutside, _) if serves(end) => {
                Step::CarryOutForNow(ProfileState::Deactive, Said::Yes)
            }
            (Self::NetworkUnreachable, 0..=5) => Step::BeUnreachable,
            (Self::CredentialsRefused, 0..=5) => Step::RefuseCredentials,
            (Self::AlwaysDone | Self::RetryTwice | Self::UnansweredThenDone | Self::RetryWithHint, _)
            | (Self::SlowCard | Self::UnreachableCard | Self::EnablingFails | Self::DownloadFails, _)
            | (Self::SuspendedOutside | Self::SuspendedUnseen | Self::DeactivatedOutside, _)
            | (Self::NetworkUnreachable | Self::CredentialsRefused | Self::AcceptedForLater, _) => {
                Step::CarryOut
            }
        }
    }
}

/// Whether a network says what it does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Yes,
    No,
}

/// Whether an end puts a profile in service.
fn serves(end: EndState) -> bool {
    matches!(end, EndState::InService | EndState::InServiceAndEnabled)
}

impl Step {
    /// Whether the operation is over once this has been told.
    pub(super) fn settles(self) -> bool {
        match self {
            Self::CarryOut
            | Self::CarryOutSlowly
            | Self::CarryOutAndAnswerTwice
            | Self::CarryOutAndContradict
            | Self::ClaimAlreadySo
            | Self::GoBack
            | Self::CarryOutForNow(..)
            | Self::Reject(_) => true,
            Self::CarryOutUnanswered | Self::Postpone { .. } | Self::AcceptForLater => false,
            Self::BeUnreachable | Self::RefuseCredentials | Self::Lose | Self::Hang => false,
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Behaviour {
    type Err = UnknownBehaviour;
    fn from_str(text: &str) -> Result<Self, UnknownBehaviour> {
        let named = Self::ALL.into_iter().find(|behaviour| behaviour.name() == text);
        named.ok_or_else(|| UnknownBehaviour { given: text.into() })
    }
}

/// A name that no behaviour has. Its text lists those that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no behaviour {given:?}; it is one of {}", Behaviour::ALL.map(Behaviour::name).join(", "))]
pub struct UnknownBehaviour {
    /// What was given.
    pub given: Box<str>,
}
