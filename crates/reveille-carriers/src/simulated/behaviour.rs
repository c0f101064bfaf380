//! The behaviours that a script can ask for, their names and codes, and what each does at which try.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The hint of [`Behaviour::RetryWithHint`].
const HINT: Duration = Duration::from_secs(1);

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
    Reject,
    Postpone {
        after: Option<Duration>,
    },
    /// Neither carried out nor answered; the call ends.
    Lose,
    /// Neither carried out nor answered; the call stays open.
    Hang,
}

impl Behaviour {
    /// Every behaviour, in the order of the codes.
    pub const ALL: [Self; 13] = [
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
        }
    }

    /// What it does to an operation that was tried `tries` times before.
    pub(super) fn step(self, tries: u32) -> Step {
        match (self, tries) {
            (Self::RetryTwice, 0..=1) | (Self::RetryThenRejected, 0) | (Self::RetryForever, _) => {
                Step::Postpone { after: None }
            }
            (Self::RetryWithHint, 0) => Step::Postpone { after: Some(HINT) },
            (Self::Rejected | Self::RetryThenRejected, _) => Step::Reject,
            (Self::DoneUnanswered, 0) => Step::CarryOutUnanswered,
            (Self::DoneUnanswered | Self::AlwaysAlreadySo, _) => Step::ClaimAlreadySo,
            (Self::UnansweredThenDone, 0) => Step::Lose,
            (Self::NeverAnswers, _) => Step::Hang,
            (Self::Slow, _) => Step::CarryOutSlowly,
            (Self::AnswersTwice, _) => Step::CarryOutAndAnswerTwice,
            (Self::ContradictsItself, _) => Step::CarryOutAndContradict,
            (Self::AlwaysDone | Self::RetryTwice | Self::UnansweredThenDone | Self::RetryWithHint, _) => {
                Step::CarryOut
            }
        }
    }
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
            | Self::Reject => true,
            Self::CarryOutUnanswered | Self::Postpone { .. } | Self::Lose | Self::Hang => false,
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
