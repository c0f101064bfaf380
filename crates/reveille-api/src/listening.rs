//! What a listener must be, whichever call registers it. Source: contract §7 and §12 Q17, Q18.

use crate::App;
use hyper::header::HeaderName;
use reveille_callbacks::ListenerUrl;
use reveille_domain::{AccountName, ListenerName, Refusal, Service};
use reveille_store::{Listener, Outlet, StoreError};
use reveille_wire::answers::{CREDENTIAL_CHARS_MAX, SERVICES};

/// The ports of the contract's list, asked for where `strict` is set.
const PORTS: [std::ops::RangeInclusive<u16>; 5] =
    [80..=80, 443..=443, 9001..=9006, 50551..=50559, 28200..=28220];

/// Says how many callbacks are archived: registering sends none of them again by itself, a replay does.
pub(crate) const ARCHIVED: HeaderName = HeaderName::from_static("reveille-archived-callbacks");

/// A listener as a call states it; an empty text is as good as none.
pub(crate) struct Stated {
    pub(crate) service: String,
    pub(crate) name: ListenerName,
    pub(crate) url: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::InvalidField { detail: detail.into() }
}

/// The listener as it is kept, where nothing is wrong with it.
pub(crate) async fn checked(app: &App, stated: Stated) -> Result<Listener, Refusal> {
    let Stated { service, name, url, username, password } = stated;
    if !SERVICES.contains(&service.as_str()) {
        return Err(invalid(format!(
            "{service:?} is none of the callback services: {}",
            SERVICES.join(", ")
        )));
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let url = given(url).ok_or_else(|| invalid("url is missing: where callbacks go"))?;
    let parsed = app.engine.guard().check_registration(&url).await;
    check_port(app, &parsed.map_err(|error| invalid(format!("url: {error}")))?)?;
    let too_long =
        |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > CREDENTIAL_CHARS_MAX);
    if too_long(&username) || too_long(&password) {
        return Err(invalid(format!(
            "username and password have at most {CREDENTIAL_CHARS_MAX} characters each"
        )));
    }
    Ok(Listener {
        service: service.into(),
        name,
        url: url.into(),
        username: given(username).map(Into::into),
        password: given(password).map(|password| app.secrets.seal(&password)),
        registered_at: app.engine.clock().now(),
    })
}

fn check_port(app: &App, url: &ListenerUrl) -> Result<(), Refusal> {
    if app.config.strict && !PORTS.iter().any(|range| range.contains(&url.port())) {
        let ports = "80, 443, 9001-9006, 50551-50559, 28200-28220";
        let port = url.port();
        return Err(invalid(format!("url: port {port} is none of {ports}, which strict = true asks for")));
    }
    Ok(())
}

/// How many callbacks are archived that the listener would have been told.
pub(crate) async fn archived(
    app: &App,
    account: &AccountName,
    service: &str,
    listener: ListenerName,
) -> Result<u64, StoreError> {
    let Some(service) = Service::ALL.into_iter().find(|known| known.name() == service) else { return Ok(0) };
    app.engine.store().archived(&Outlet { account: account.clone(), service, listener }).await
}
