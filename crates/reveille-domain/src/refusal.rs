//! Why a request is refused at the door, before anything is kept of it.

use crate::{Action, Network};
use std::time::Duration;

/// One refusal: the caller's mistake, or a limit of ours. The rows stand in the order in which they are
/// checked. Source: contract §9.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 1. No such path.
    UnknownPath,
    /// 1. The path exists, with other methods.
    WrongMethod,
    /// 2. No `Authorization`, or one that is not Bearer.
    MissingBearer,
    /// 2. A token call without the Basic credentials of a client.
    MissingClient,
    /// 3. A bearer token that is wrong, expired or revoked.
    InvalidBearer,
    /// 4. No session token.
    MissingSession,
    /// 5. No live session of this client.
    InvalidSession,
    /// 6. The session was not used for too long.
    ExpiredSession,
    /// 7. A limit on rate or backlog is reached.
    Overloaded {
        /// Which limit, and what to do.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// 8. The body is over the limit.
    BodyTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// 9. The body is not announced as JSON.
    NotJsonContent,
    /// 10. There is no body.
    EmptyBody,
    /// 11. The body is not the JSON that the call takes.
    Malformed {
        /// What is wrong, and where.
        detail: String,
    },
    /// 12. No account is named.
    AccountMissing,
    /// 13. The account is unknown, or not one of this user's.
    ForeignAccount,
    /// 14. No device, or a device without identifiers.
    DeviceNotProvided {
        /// What is missing, and where.
        detail: String,
    },
    /// 15. An identifier of a kind that this call does not take.
    KindInvalid {
        /// Which, where, and what is taken.
        detail: String,
    },
    /// 16. An identifier that does not fit its kind.
    IdentifierInvalid {
        /// Up to ten positions.
        detail: String,
    },
    /// 17. More targets than one request may have.
    TooManyTargets {
        /// The limit.
        targets_max: usize,
    },
    /// 18. The Idempotency-Key is malformed, or was used with another body.
    IdempotencyKey {
        /// Which of the two.
        detail: &'static str,
    },
    /// The network of one of the targets cannot do what is asked for; looked at before the write.
    ActionUnsupported {
        /// What is asked for.
        action: Action,
        /// Which network.
        network: Network,
    },
    /// 19. The store cannot answer now.
    StoreUnavailable {
        /// Whether the request may have been accepted all the same.
        fate: Fate,
    },
    /// A field of another call's body is not acceptable.
    InvalidField {
        /// The field, what is wrong with it, and what to do.
        detail: String,
    },
    /// A login or reset that names no user with that password, or a locked one: which, is not told, so that
    /// a locked user's password cannot be tried out.
    LoginFailed,
    /// What the path names does not exist for this user.
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The call is an operator's, and this user is none.
    OperatorsOnly,
}

/// What is known of a request that could not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it was kept.
    Refused,
    /// It may have been accepted: repeat it with the same key.
    Unknown,
}
