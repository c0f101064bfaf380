//! Reveille's own surface: requests, profiles, callbacks and carriers as they are, and what may be done to them.

pub(crate) mod callbacks;
pub(crate) mod carriers;
pub(crate) mod drift;
pub(crate) mod events;
pub(crate) mod listeners;
pub(crate) mod profiles;
pub(crate) mod requests;
pub(crate) mod timeline;
mod why;

use reveille_domain::{Refusal, Timestamp};

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
    reveille_wire::instant::text(at)
}

/// The instant of an RFC 3339 text.
fn parse_instant(name: &str, text: &str) -> Result<Timestamp, Refusal> {
    reveille_wire::instant::parse(text)
        .ok_or_else(|| invalid(format!("{name} is an instant in RFC 3339, 2026-01-31T12:00:00Z")))
}
