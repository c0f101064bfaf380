//! Outbound: one POST to one listener, and the guard on where it may go.
//!
//! A [`Guard`] judges where listeners may be, a [`ListenerUrl`] is a URL that it let through, a
//! [`Connection`] is one keep-alive connection to one listener. Left to the engine: which callback is
//! sent when, how many connections there are, and time. Nothing here ends by itself after a while: the
//! caller races a future against its own clock, and dropping it closes the connection.
//!
//! What leaves here follows no redirect, keeps no cookie and asks no proxy.

#![forbid(unsafe_code)]

mod connection;
mod failure;
mod guard;
mod observed;
mod tls;
mod url;

pub use connection::{ANSWER_BYTES_MAX, Connection};
pub use failure::AttemptFailed;
pub use guard::{Guard, Loopback};
pub use tls::Tls;
pub use url::{Host, ListenerUrl, Scheme, URL_BYTES_MAX, UrlRefused};
