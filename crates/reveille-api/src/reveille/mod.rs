//! Reveille's own surface: requests, profiles, callbacks and carriers as they are, and what may be done to them.

pub(crate) mod callbacks;
pub(crate) mod carriers;
pub(crate) mod events;
pub(crate) mod profiles;
pub(crate) mod requests;

use reveille_domain::{Refusal, Timestamp};
use std::time::{Duration, UNIX_EPOCH};

/// How many rows a page has at most.
const PAGE_MAX: usize = 1_000;

/// How many it has where nothing is said.
const PAGE: usize = 100;

/// A page's length, as it was asked for and within the limit.
fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(invalid(format!("limit is a number from 1 to {PAGE_MAX}"))),
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::InvalidField { detail: detail.into() }
}

/// An instant in RFC 3339, with milliseconds.
pub(crate) fn instant(at: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// The instant of an RFC 3339 text.
fn parse_instant(name: &str, text: &str) -> Result<Timestamp, Refusal> {
    let parsed = humantime::parse_rfc3339_weak(text).ok();
    let since = parsed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let millis = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    millis
        .map(Timestamp)
        .ok_or_else(|| invalid(format!("{name} is an instant in RFC 3339, 2026-01-31T12:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_with_milliseconds_and_read_back() {
        let text = instant(Timestamp(1_769_860_800_123));
        assert_eq!(text, "2026-01-31T12:00:00.123Z");
        assert_eq!(parse_instant("from", &text).unwrap(), Timestamp(1_769_860_800_123));
        assert!(parse_instant("from", "yesterday").is_err());
    }
}
