//! What ThingSpace says of a profile, and what that comes to.

use super::verbs::already;
use crate::{Effect, Notice, Reply};
use reveille_domain::EndState;
use reveille_wire::client::{Heard, Says};
use std::time::Duration;

/// How long is waited where a profile was changed as often as it may be within a day.
const DAY_IS_FULL: Duration = Duration::from_secs(3_600);

/// How long is waited where the other side gave up and may have done it or not.
const LEFT_OPEN: Duration = Duration::from_secs(60);

/// What stands behind a handle's `#` where its request has failed once, and nobody heard why.
const SECOND: &str = "2";

/// Where a request stands of which a handle tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// It is to be made: for the first time, or in the place of one that came to nothing.
    ToMake { instead_of: Option<&'a str> },
    /// It was made.
    Made { request: &'a str, second: bool },
}

/// The handle of a request.
pub(super) fn handle(request: &str, second: bool) -> Box<str> {
    if second { format!("{request}#{SECOND}").into() } else { request.into() }
}

/// The handle of an operation whose request has come to nothing, and which is to be asked for anew.
fn handle_instead_of(request: &str) -> Box<str> {
    format!("#{request}").into()
}

/// What a handle tells.
pub(super) fn standing(handle: Option<&str>) -> Standing<'_> {
    let Some(handle) = handle else { return Standing::ToMake { instead_of: None } };
    match handle.split_once('#') {
        Some(("", request)) => Standing::ToMake { instead_of: Some(request) },
        Some((request, rest)) => Standing::Made { request, second: rest == SECOND },
        None => Standing::Made { request: handle, second: false },
    }
}

/// A callback as a notice; nothing where no operation of ours is waiting for it: a device's own, a warning.
pub(super) fn notice_of(heard: Heard) -> Option<Notice> {
    let text = match heard.says {
        Says::Succeeded => "SUCCESS".into(),
        Says::Failed { code, text } => format!("{code} {text}").into(),
        Says::NotYet => return None,
    };
    Some(Notice { name: heard.request.into(), iccid: heard.iccid?, text })
}

/// What a notice of that request comes to, for an operation that leads to `end`.
pub(super) fn reply_to(notice: &str, request: &str, end: EndState) -> Reply {
    match notice.split_once(' ') {
        None => Reply::Done(Effect::Now),
        Some((code, text)) => failed(code, text, request, end),
    }
}

fn failed(code: &str, text: &str, request: &str, end: EndState) -> Reply {
    let again = |ask_after| Reply::Pending { handle: handle_instead_of(request), ask_after };
    if is_already(code, text, end) {
        Reply::AlreadySo
    } else if code.ends_with("PerDayExceeded") || text.to_ascii_lowercase().contains("per day") {
        again(DAY_IS_FULL)
    } else if code.ends_with(".Unsettled") {
        again(LEFT_OPEN)
    } else {
        Reply::Relayed { code: code.into(), text: text.into() }
    }
}

/// Whether it says that the profile is at that end already: by its text, which is published, or by its code.
fn is_already(code: &str, text: &str, end: EndState) -> bool {
    let words: Vec<String> = text
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let said = words.windows(2).any(|pair| pair[0] == "already" && already(end).contains(&pair[1].as_str()));
    let code = code.to_ascii_lowercase();
    let coded = code.split_once("already").is_some_and(|(_, state)| already(end).contains(&state));
    said || coded
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_domain::{Already, Fault};

    fn told(fault: &Fault) -> String {
        format!("{} {}", reveille_wire::fault_code(fault), reveille_wire::fault_text(fault))
    }

    #[test]
    fn what_is_so_already_is_no_failure_and_what_is_so_otherwise_is() {
        for (end, already) in [
            (EndState::InService, Already::Resumed),
            (EndState::InService, Already::Active),
            (EndState::Suspended, Already::Suspended),
            (EndState::OutOfService, Already::Deactivated),
            (EndState::Enabled, Already::Enabled),
            (EndState::Downloaded, Already::Downloaded),
            (EndState::Deleted, Already::Deleted),
            (EndState::Fallback, Already::Fallback),
            (EndState::OnPlan, Already::OnPlan),
            (EndState::DownloadedAndEnabled, Already::Downloaded),
            (EndState::InServiceAndEnabled, Already::Active),
        ] {
            assert_eq!(reply_to(&told(&Fault::Already(already)), "r", end), Reply::AlreadySo, "{end:?}");
        }
        let other = reply_to(&told(&Fault::Already(Already::Suspended)), "r", EndState::InService);
        assert!(matches!(other, Reply::Relayed { .. }), "{other:?}");
        let other = reply_to(&told(&Fault::Already(Already::Deactivated)), "r", EndState::InService);
        assert!(matches!(other, Reply::Relayed { .. }), "{other:?}");
        let bare = "REQUEST_FAILED Profile is already resumed";
        assert_eq!(reply_to(bare, "r", EndState::InService), Reply::AlreadySo, "no code is published for it");
    }

    #[test]
    fn a_fault_is_told_on_as_it_came() {
        let fault = Fault::DeviceNotFound;
        let Reply::Relayed { code, text } = reply_to(&told(&fault), "r", EndState::InService) else {
            panic!("it is a fault")
        };
        assert_eq!(
            (&*code, &*text),
            ("REQUEST_FAILED.DeviceNotFound", "REQUEST_FAILED. Device is not found")
        );
        assert_eq!(reply_to("SUCCESS", "r", EndState::InService), Reply::Done(Effect::Now));
    }

    #[test]
    fn a_full_day_is_waited_out() {
        let fault = Fault::LimitReached(reveille_domain::Limit::ActionsPerDay);
        let Reply::Pending { handle, .. } = reply_to(&told(&fault), "r", EndState::InService) else {
            panic!("it waits")
        };
        assert_eq!(
            standing(Some(&handle)),
            Standing::ToMake { instead_of: Some("r") },
            "it is asked for anew"
        );
    }

    #[test]
    fn a_handle_tells_where_a_request_stands() {
        assert_eq!(standing(None), Standing::ToMake { instead_of: None });
        let first = handle("an-id", false);
        assert_eq!(standing(Some(&first)), Standing::Made { request: "an-id", second: false });
        let second = handle("an-id", true);
        assert_eq!(standing(Some(&second)), Standing::Made { request: "an-id", second: true });
        assert_eq!(crate::name_in(&second), "an-id");
    }
}
