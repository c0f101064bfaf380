//! The remaining bodies of the contract: tokens, sessions, listeners, accepted requests and their status.

use reveille_domain::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer of the token call. Source: contract §3.1.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TokenAnswer {
    /// 32 hexadecimal digits.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// The seconds that it has left.
    pub expires_in: u32,
    /// Always `default`.
    pub scope: String,
}

/// Why no token was given, in the words of RFC 6749 §5.2.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct OauthError {
    /// `invalid_request`, `invalid_client` or `unsupported_grant_type`.
    pub error: String,
    /// In a sentence.
    pub error_description: String,
}

/// Body of a login. Source: contract §3.2.
#[derive(Deserialize, JsonSchema)]
pub struct LoginBody {
    /// The user's name.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Answer of a login, and of a logout: the session token that was opened or ended.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAnswer {
    /// A UUID.
    pub session_token: String,
}

/// Body of a password reset.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetBody {
    /// The password until now.
    pub old_password: String,
}

/// Answer of a password reset.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetAnswer {
    /// The password from now on.
    pub new_password: String,
}

/// Body of a listener's registration. Source: contract §7.
#[derive(Deserialize, JsonSchema)]
pub struct ListenerBody {
    /// The callback service, `DeviceProfileService` for the eSIM calls.
    #[serde(default)]
    pub name: Option<String>,
    /// Where its callbacks go.
    #[serde(default)]
    pub url: Option<String>,
    /// Echoed in every callback; at most 40 characters.
    #[serde(default)]
    pub username: Option<String>,
    /// Likewise.
    #[serde(default)]
    pub password: Option<String>,
}

/// Answer of a registration and of a deregistration.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerAnswer {
    /// The account.
    pub account_name: String,
    /// The callback service.
    pub service_name: String,
}

/// One listener in the list. Never null: an absent credential is an empty text.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedListener {
    /// The account.
    pub account_name: String,
    /// The callback service.
    pub service_name: String,
    /// Where its callbacks go.
    pub url: String,
    /// As registered.
    pub username: String,
    /// As registered, in clear: the contract says so.
    pub password: String,
}

/// The longest user name and password of a listener. Source: contract §7.
pub const CREDENTIAL_CHARS_MAX: usize = 40;

/// The callback services of the contract, §7; a registration of any other is refused.
pub const SERVICES: [&str; 24] = [
    "AlertService",
    "AlertsService",
    "CarrierService",
    "DevicePRLInformation",
    "DeviceProfileService",
    "DevicePromoUsage",
    "DeviceService",
    "DeviceSuspensionStatus",
    "DeviceUsage",
    "DiagnosticsService",
    "EnhancedConnectivityService",
    "ExtendedEnhancedConnectivityService",
    "ExternalProvisioningChanges",
    "IntelligenceService",
    "NetworkEventService",
    "NiddService",
    "PromoChanges",
    "PwnService",
    "QoS",
    "ResumeTrackingNotification",
    "SMSDeliveryConfirmation",
    "StateService",
    "SubscriptionNotificationService",
    "VIPCallbackService",
];

/// The callback service that the outcomes of profile actions are told to. Source: contract §12 Q1.
pub const PROFILE_SERVICE: &str = "DeviceProfileService";

/// Answer of every profile action: the request was accepted, and is on disk.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedAnswer {
    /// The request.
    pub request_id: String,
}

impl AcceptedAnswer {
    /// The answer that names `request`.
    pub fn new(request: RequestId) -> Self {
        Self { request_id: request.to_string() }
    }
}

/// Answer of the v2 status call. Source: contract §5.1.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusAnswer {
    /// The request.
    pub request_id: String,
    /// `Pending` while any subrequest is; then `Failed` if any failed; else `Success`.
    pub status: String,
    /// Each subrequest, in order.
    pub sub_requests: Vec<SubrequestStatus>,
}

/// One subrequest in the v2 status.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SubrequestStatus {
    /// Its ICCID.
    pub ids: Vec<StatusIdentifier>,
    /// `Pending`, `Success` or `Failed`.
    pub status: String,
}

/// An identifier as the v2 status spells it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct StatusIdentifier {
    /// The digits.
    pub id: String,
    /// `iccid`.
    pub kind: String,
}

/// Answer of the v1 status call. Source: contract §5.2.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SimpleStatusAnswer {
    /// The request.
    pub request_id: String,
    /// `Pending`, `Success` or `Failed`.
    pub status: String,
}

/// The status of a request, or of one subrequest, from its counts. Source: contract §12 Q20.
pub fn status_word(waiting: u32, failed: u32) -> &'static str {
    match (waiting, failed) {
        (0, 0) => "Success",
        (0, _) => "Failed",
        _ => "Pending",
    }
}
