//! A listener's URL, parsed once: what is not plainly one thing is refused, never guessed at.
//!
//! Browsers read `0x7f.1`, `2130706433`, `127。0。0。1` and `%31.1.1.1` as addresses, and resolvers read some
//! of them so. Here a host is an address in its usual spelling or an ASCII name that cannot be taken for
//! one; the rest is refused with the remedy. That needs no tables of Unicode.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;

/// The longest URL that is registered: what every HTTP server takes.
pub const URL_BYTES_MAX: usize = 2048;

/// The longest name and the longest label in it (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Why a URL cannot be a listener's: the caller's mistake, as a sentence to show to them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlRefused {
    /// More than [`URL_BYTES_MAX`] bytes.
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// It has letters beyond ASCII, blanks or control characters.
    #[error("the URL has characters that must be encoded: as %XX in a path, as xn--… in a host")]
    NotEncoded,
    /// It is not a URL at all.
    #[error("the URL is malformed")]
    Malformed,
    /// Its scheme is another than `http` and `https`.
    #[error("the URL must begin with http:// or https://")]
    OtherScheme,
    /// It has a user name or a password before the host.
    #[error("the URL must not have a user name or a password in it")]
    UserInfo,
    /// It has a fragment.
    #[error("the URL must not have a fragment (#…)")]
    Fragment,
    /// It has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is neither an address nor a name.
    #[error("the host {host} is neither an IP address nor a host name")]
    InvalidHost {
        /// The host as it was given.
        host: Box<str>,
    },
    /// The host could be read as an IPv4 address in an unusual spelling.
    #[error("the host {host} ends in a number: write an IPv4 address as four decimal numbers")]
    UnusualAddress {
        /// The host as it was given.
        host: Box<str>,
    },
    /// The port is not a number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    InvalidPort,
    /// The host is an address that the guard does not admit.
    #[error("listeners may not be at {address}")]
    NotAdmitted {
        /// The address in the URL.
        address: IpAddr,
    },
    /// The host is a name that has an address that the guard does not admit.
    #[error("{name} leads to {address}, where listeners may not be")]
    NameNotAdmitted {
        /// The name in the URL.
        name: Box<str>,
        /// The first such address.
        address: IpAddr,
    },
}

/// How a listener is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP, port 80 unless given.
    Http,
    /// TLS, port 443 unless given.
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Where a listener is: a name to resolve at each connection, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An ASCII host name, in lower case.
    Name(Box<str>),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A listener's URL, as [`Guard::check`](crate::Guard::check) let it through.
///
/// Two that lead to the same place are equal: letter case of scheme and host and a default port that is
/// written out do not count. `Display` is the whole URL; `Debug` hides the query, where tokens are put.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ListenerUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Path and query alone, as a request line has them.
    target: Uri,
}

impl ListenerUrl {
    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A name or an address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, also where the URL leaves it to the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they were given; at least `/`.
    pub fn path_and_query(&self) -> &str {
        self.target.path_and_query().map_or("/", |target| target.as_str())
    }

    pub(crate) fn target(&self) -> &Uri {
        &self.target
    }

    /// Host and port as in the `Host` field: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Parses without judging addresses.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlRefused> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlRefused::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlRefused::NotEncoded);
        }
        if text.contains('#') {
            return Err(UrlRefused::Fragment); // `Uri` would drop it silently
        }
        let (scheme, rest) = split_scheme(text).ok_or(UrlRefused::OtherScheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority)?;
        Ok(Self {
            scheme,
            host: parse_host(host)?,
            port: port.map_or(Ok(scheme.default_port()), parse_port)?,
            target: parse_target(path)?,
        })
    }
}

impl fmt::Display for ListenerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path_and_query())
    }
}

impl fmt::Debug for ListenerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.target.query().is_some() { "?…" } else { "" };
        write!(f, "ListenerUrl({}://{}{}{hidden})", self.scheme, self.authority(), self.target.path())
    }
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let known = [Scheme::Http, Scheme::Https];
    let scheme = known.into_iter().find(|known| scheme.eq_ignore_ascii_case(&known.to_string()))?;
    Some((scheme, rest))
}

/// Host and port, each as text; an IPv6 host keeps its brackets.
fn split_authority(authority: &str) -> Result<(&str, Option<&str>), UrlRefused> {
    if authority.contains('@') {
        return Err(UrlRefused::UserInfo);
    }
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let colon = authority[host_end..].find(':').map(|colon| host_end + colon);
    let host = &authority[..colon.unwrap_or(authority.len())];
    if host.is_empty() {
        return Err(UrlRefused::NoHost);
    }
    Ok((host, colon.map(|colon| &authority[colon + 1..])))
}

fn parse_host(host: &str) -> Result<Host, UrlRefused> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = bracketed.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        return Ok(Host::Address(address.into()));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(UrlRefused::InvalidHost { host: host.into() });
    }
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(UrlRefused::UnusualAddress { host: host.into() });
    }
    Ok(Host::Name(host.to_ascii_lowercase().into()))
}

fn is_label(label: &str) -> bool {
    let well_formed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    well_formed && (1..=LABEL_BYTES_MAX).contains(&label.len())
}

/// Whether a last label makes an address of the host: decimal, octal or hexadecimal.
/// Source: the URL Standard, "ends in a number checker".
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn parse_port(port: &str) -> Result<u16, UrlRefused> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()); // `parse` would take a `+`
    let parsed = if digits { port.parse().ok() } else { None };
    parsed.filter(|port| *port != 0).ok_or(UrlRefused::InvalidPort)
}

fn parse_target(path: &str) -> Result<Uri, UrlRefused> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    Uri::try_from(format!("{slash}{path}")).map_err(|_| UrlRefused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> ListenerUrl {
        ListenerUrl::parse(url).unwrap()
    }

    fn check(url: &str, canonical: &str) {
        assert_eq!(parsed(url).to_string(), canonical);
        assert_eq!(parsed(canonical), parsed(url));
    }

    fn refused(url: &str) -> UrlRefused {
        ListenerUrl::parse(url).expect_err(url)
    }

    #[test]
    fn a_url_is_brought_into_one_form() {
        check("http://example.com", "http://example.com/");
        check("HTTPS://Example.COM:443/Callback?A=b", "https://example.com/Callback?A=b");
        check("http://example.com:80?x=1", "http://example.com/?x=1");
        check("http://example.com:0443/", "http://example.com:443/");
        check("http://xn--bcher-kva.example./a@b:c//d", "http://xn--bcher-kva.example./a@b:c//d");
        check("http://my_listener:9001//evil.example/x", "http://my_listener:9001//evil.example/x");
        check("http://8.8.8.8:50551/", "http://8.8.8.8:50551/");
        check("http://[2001:DB8:0::1]:8080/", "http://[2001:db8::1]:8080/");
        check("http://[::ffff:10.0.0.1]/", "http://[::ffff:10.0.0.1]/");
    }

    #[test]
    fn its_parts_can_be_asked_for() {
        let url = parsed("https://Example.com/a?b");
        let expected = (Scheme::Https, &Host::Name("example.com".into()), 443, "/a?b");
        assert_eq!((url.scheme(), url.host(), url.port(), url.path_and_query()), expected);
        assert_eq!(*parsed("http://[::1]/").host(), Host::Address(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn debug_hides_the_query() {
        assert_eq!(
            format!("{:?}", parsed("http://example.com/a?token=s3cret")),
            "ListenerUrl(http://example.com/a?…)"
        );
    }

    #[test]
    fn an_address_in_an_unusual_spelling_is_refused() {
        for host in [
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0X7F000001",
            "127.1",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "999.1.1.1",
            "0x",
            "a.0x1",
        ] {
            let reason = refused(&format!("http://{host}/"));
            assert!(matches!(reason, UrlRefused::UnusualAddress { .. }), "{host}: {reason:?}");
        }
    }

    #[test]
    fn a_host_that_is_no_name_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        for host in [
            "%31%32%37.0.0.1",
            "localhost%00",
            "a..b",
            ".",
            "a\\b",
            "[::1",
            "::1]",
            "[::1]x",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "a,b",
            &long,
        ] {
            let reason = refused(&format!("http://{host}/"));
            assert!(matches!(reason, UrlRefused::InvalidHost { .. }), "{host}: {reason:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        for (url, reason) in [
            ("", UrlRefused::OtherScheme),
            ("example.com/callback", UrlRefused::OtherScheme),
            ("ftp://example.com/", UrlRefused::OtherScheme),
            ("file:///etc/passwd", UrlRefused::OtherScheme),
            ("http:example.com", UrlRefused::OtherScheme),
            ("http://", UrlRefused::NoHost),
            ("http:///path", UrlRefused::NoHost),
            ("http://:80/", UrlRefused::NoHost),
            ("http://user:secret@example.com/", UrlRefused::UserInfo),
            ("http://@example.com/", UrlRefused::UserInfo),
            ("http://example.com/#top", UrlRefused::Fragment),
            ("http://example.com#@evil.example/", UrlRefused::Fragment),
            ("http://bücher.example/", UrlRefused::NotEncoded),
            ("http://127。0。0。1/", UrlRefused::NotEncoded),
            ("http://example.com/a b", UrlRefused::NotEncoded),
            ("http://example.com/\r\nX: y", UrlRefused::NotEncoded),
            (" http://example.com/", UrlRefused::NotEncoded),
            ("http://example.com:/", UrlRefused::InvalidPort),
            ("http://example.com:0/", UrlRefused::InvalidPort),
            ("http://example.com:+80/", UrlRefused::InvalidPort),
            ("http://example.com:65536/", UrlRefused::InvalidPort),
            ("http://example.com:80:90/", UrlRefused::InvalidPort),
        ] {
            assert_eq!(refused(url), reason, "{url}");
        }
    }

    #[test]
    fn a_url_may_be_2048_bytes_long_and_no_longer() {
        let longest = format!("http://example.com/{}", "a".repeat(URL_BYTES_MAX - 19));
        assert_eq!(parsed(&longest).to_string(), longest);
        assert_eq!(refused(&format!("{longest}a")), UrlRefused::TooLong);
    }
}
