//! Where listeners may be: which addresses, judged at registration and again at each connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::lookup_host;

use crate::url::{Host, ListenerUrl, UrlRefused};

/// Whether a listener may be on the machine that the server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// 127.0.0.0/8 and `::1` are admitted.
    Allowed,
    /// They are admitted only where `allow` has them.
    Refused,
}

/// Where listeners may be.
///
/// Public addresses are admitted. Private and reserved ones are where a network of `allow` has them.
/// Link-local, metadata, unspecified, multicast and broadcast ones are only where `allow` has exactly
/// that address, a /32 or a /128. An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4)
/// is judged, and listed, as the IPv4 address; Teredo addresses are refused.
#[derive(Clone, Debug)]
pub struct Guard {
    allow: Box<[IpNet]>,
    loopback: Loopback,
}

impl Guard {
    /// A guard that admits the networks `allow` besides public addresses.
    pub fn new(allow: Vec<IpNet>, loopback: Loopback) -> Self {
        Self { allow: allow.into(), loopback }
    }

    /// Whether a listener may be at `address`.
    pub fn admits(&self, address: IpAddr) -> bool {
        let judged = ipv4_inside(address).map_or(address, IpAddr::V4);
        let readable = !is_nat64_of_unknown_length(address) || self.lists(address);
        readable
            && match range_of(judged) {
                Range::Public => true,
                Range::Loopback => self.loopback == Loopback::Allowed || self.lists(judged),
                Range::Private => self.lists(judged),
                Range::Special => self.lists_exactly(judged),
                Range::Teredo => false,
            }
    }

    /// Parses and judges a URL as it is registered: `http` or `https`, a host, no user info, no
    /// fragment, and an address that is admitted if the host is one. A name is not resolved.
    pub fn check(&self, url: &str) -> Result<ListenerUrl, UrlRefused> {
        let url = ListenerUrl::parse(url)?;
        match *url.host() {
            Host::Address(address) if !self.admits(address) => Err(UrlRefused::NotAdmitted { address }),
            Host::Address(_) | Host::Name(_) => Ok(url),
        }
    }

    /// `check`, and then resolves a name: refused when any address that it has now is not admitted. A
    /// name that does not resolve now is let through, as it is judged again at each connection.
    ///
    /// Dropped, it leaves the look-up to the runtime's blocking threads, where it ends by itself.
    pub async fn check_registration(&self, url: &str) -> Result<ListenerUrl, UrlRefused> {
        let url = self.check(url)?;
        if let Host::Name(name) = url.host()
            && let Ok(mut addresses) = lookup_host((&**name, url.port())).await
            && let Some(refused) = addresses.find(|address| !self.admits(address.ip()))
        {
            return Err(UrlRefused::NameNotAdmitted { name: name.clone(), address: refused.ip() });
        }
        Ok(url)
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(&address))
    }

    fn lists_exactly(&self, address: IpAddr) -> bool {
        self.allow.contains(&IpNet::from(address))
    }
}

/// What kind of address it is, as far as that decides who may be called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Public,
    Loopback,
    /// Private, shared, for documentation, for benchmarks, or reserved.
    Private,
    /// Admitted by exact address only: what answers there is never meant to be a listener.
    Special,
    /// Leads to an IPv4 address behind a server that the address names: nothing to judge it by.
    Teredo,
}

/// The first row that has the address counts; what no row has is public. Sources: the IANA registry of
/// IPv4 special-purpose addresses (RFC 6890), RFC 5771 for multicast; for metadata, the clouds' pages.
const IPV4: &[(Ipv4Net, Range)] = &[
    ipv4([0, 0, 0, 0], 8, Range::Special),  // unspecified, "this network"
    ipv4([10, 0, 0, 0], 8, Range::Private), // private
    ipv4([100, 100, 100, 200], 32, Range::Special), // metadata: Alibaba
    ipv4([100, 64, 0, 0], 10, Range::Private), // shared by a provider's customers (CGNAT)
    ipv4([127, 0, 0, 0], 8, Range::Loopback), // loopback
    ipv4([168, 63, 129, 16], 32, Range::Special), // metadata: Azure's "wire server"
    ipv4([169, 254, 0, 0], 16, Range::Special), // link-local; metadata of most clouds
    ipv4([172, 16, 0, 0], 12, Range::Private), // private
    ipv4([192, 0, 0, 192], 32, Range::Special), // metadata: Oracle, older
    ipv4([192, 0, 0, 0], 24, Range::Private), // protocol assignments
    ipv4([192, 0, 2, 0], 24, Range::Private), // documentation
    ipv4([192, 88, 99, 0], 24, Range::Private), // 6to4 relays, no longer in use
    ipv4([192, 168, 0, 0], 16, Range::Private), // private
    ipv4([198, 18, 0, 0], 15, Range::Private), // benchmarks
    ipv4([198, 51, 100, 0], 24, Range::Private), // documentation
    ipv4([203, 0, 113, 0], 24, Range::Private), // documentation
    ipv4([224, 0, 0, 0], 4, Range::Special), // multicast
    ipv4([255, 255, 255, 255], 32, Range::Special), // broadcast
    ipv4([240, 0, 0, 0], 4, Range::Private), // reserved
];

/// The first row that has the address counts; the last one has all, so that only what is known to be
/// public is. Sources: the IANA registries of IPv6 special-purpose addresses and of the address space.
const IPV6: &[(Ipv6Net, Range)] = &[
    ipv6([0, 0, 0, 0, 0, 0, 0, 0], 128, Range::Special), // unspecified
    ipv6([0, 0, 0, 0, 0, 0, 0, 1], 128, Range::Loopback), // loopback
    ipv6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Range::Teredo), // RFC 4380
    ipv6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Range::Private), // protocol assignments; benchmarks
    ipv6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Range::Private), // documentation
    ipv6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Range::Private), // documentation
    ipv6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Range::Public), // global unicast, but for the rows above
    ipv6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Range::Special), // metadata: AWS, and its other services
    ipv6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Range::Special), // metadata: Google
    ipv6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128, Range::Special), // metadata: Oracle
    ipv6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128, Range::Special), // metadata: Scaleway
    ipv6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Range::Special), // link-local
    ipv6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Range::Special), // multicast
    ipv6([0, 0, 0, 0, 0, 0, 0, 0], 0, Range::Private),   // unique local, discard, reserved
];

const fn ipv4([a, b, c, d]: [u8; 4], length: u8, range: Range) -> (Ipv4Net, Range) {
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length), range)
}

const fn ipv6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8, range: Range) -> (Ipv6Net, Range) {
    (Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length), range)
}

fn range_of(address: IpAddr) -> Range {
    let row = match address {
        IpAddr::V4(address) => IPV4.iter().find(|row| row.0.contains(&address)).map(|row| row.1),
        IpAddr::V6(address) => IPV6.iter().find(|row| row.0.contains(&address)).map(|row| row.1),
    };
    row.unwrap_or(Range::Public)
}

/// The IPv4 address that an IPv6 one stands for, if it does.
fn ipv4_inside(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., g, h] = address.segments();
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None, // unspecified and loopback are IPv6's own
        [0, 0, 0, 0, 0, 0, ..]                // compatible
        | [0, 0, 0, 0, 0, 0xffff, ..]         // mapped
        | [0, 0, 0, 0, 0xffff, 0, ..]         // translated (RFC 2765)
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]      // NAT64 (RFC 6052)
        | [0x64, 0xff9b, 1, ..] => Some(joined(g, h)), // NAT64, local (RFC 8215)
        [0x2002, b, c, ..] => Some(joined(b, c)), // 6to4 (RFC 3056)
        _ => None,
    }
}

/// In 64:ff9b:1::/48 a translator may have chosen a prefix of any length, so the IPv4 address need not be
/// in the last bits. Unless it is plainly there, the network has to be listed as well.
fn is_nat64_of_unknown_length(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    matches!(address.segments(), [0x64, 0xff9b, 1, d, e, f, ..] if (d, e, f) != (0, 0, 0))
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str], loopback: Loopback) -> Guard {
        Guard::new(allow.iter().map(|network| network.parse().unwrap()).collect(), loopback)
    }

    fn check(guard: &Guard, admitted: &str, refused: &str) {
        for address in admitted.split_whitespace() {
            assert!(guard.admits(address.parse().unwrap()), "{address} should be admitted");
        }
        for address in refused.split_whitespace() {
            assert!(!guard.admits(address.parse().unwrap()), "{address} should be refused");
        }
    }

    #[test]
    fn only_public_addresses_are_admitted_unasked() {
        check(
            &guard(&[], Loopback::Refused),
            "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.17 169.253.255.255
             169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
             198.20.0.0 203.0.112.255 223.255.255.255
             2000:: 2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00::1 3ffe::1",
            "0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255
             127.0.0.0 127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255
             172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255
             198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.255 224.0.0.1 239.255.255.255 240.0.0.0
             255.255.255.254 255.255.255.255
             :: ::1 100::1 1fff::1 2001::1 2001:2::1 2001:1ff:ffff::1 2001:db8::1 3fff::1 3fff:fff::1 4000::1
             5f00::1 fc00::1 fd00::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fdff::1 fe80::1
             febf::1 fec0::1 ff02::1 ff0e::1",
        );
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_judged_as_ipv4() {
        check(
            &guard(&["10.20.0.0/16"], Loopback::Refused),
            "::ffff:8.8.8.8 ::8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b:1::8.8.8.8 2002:808:808::1
             ::ffff:10.20.0.1 64:ff9b::10.20.0.1 2002:a14:1::1",
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::127.0.0.1 ::10.0.0.1 ::2
             ::ffff:0:10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::192.168.0.1
             64:ff9b:1::10.0.0.1 64:ff9b:1:a00:0:100:808:808 64:ff9b:1:2::8.8.8.8
             64:ff9b:2::8.8.8.8 2002:7f00:1::1 2002:a9fe:a9fe::1 2002:a00:1::8.8.8.8",
        );
    }

    #[test]
    fn a_listed_network_admits_what_is_private_in_it_and_nothing_special() {
        check(
            &guard(&["0.0.0.0/0", "::/0"], Loopback::Refused),
            "10.0.0.1 100.64.0.1 127.0.0.1 192.0.2.1 198.18.0.1 240.0.0.1 ::1 fd00::1 2001:db8::1 100::1 4000::1
             ::ffff:10.0.0.1 64:ff9b:1:2::8.8.8.8",
            "0.0.0.0 100.100.100.200 169.254.169.254 224.0.0.1 255.255.255.255 :: fe80::1 ff02::1 fd00:ec2::254
             2001::1 ::ffff:169.254.169.254 64:ff9b:1:2::169.254.169.254",
        );
        check(
            &guard(&["10.20.0.0/16"], Loopback::Refused),
            "10.20.255.255",
            "10.21.0.0 192.168.0.1 127.0.0.1",
        );
        check(&guard(&["fd12::/16"], Loopback::Refused), "fd12::1", "fd13::1");
    }

    #[test]
    fn a_special_address_is_admitted_when_listed_exactly() {
        check(
            &guard(
                &[
                    "169.254.169.254/32",
                    "224.0.0.1/32",
                    "0.0.0.0/32",
                    "fe80::1/128",
                    "fd00:ec2::254/128",
                    "::/128",
                ],
                Loopback::Refused,
            ),
            "169.254.169.254 ::ffff:169.254.169.254 224.0.0.1 0.0.0.0 fe80::1 fd00:ec2::254 ::",
            "169.254.169.253 224.0.0.2 fe80::2 fd00:ec2::253",
        );
        check(
            &guard(&["169.254.169.254/31", "2001::1/128"], Loopback::Refused),
            "",
            "169.254.169.254 2001::1",
        );
    }

    #[test]
    fn loopback_is_admitted_when_allowed_or_listed() {
        check(
            &guard(&[], Loopback::Allowed),
            "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1",
            "10.0.0.1 0.0.0.0 ::",
        );
        check(&guard(&["127.0.0.1/32"], Loopback::Refused), "127.0.0.1", "127.0.0.2 ::1");
    }

    #[test]
    fn a_literal_address_is_judged_at_once_and_a_name_is_not() {
        let guard = guard(&[], Loopback::Refused);
        for url in ["http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "https://[fd00:ec2::254]:8443/"] {
            assert!(matches!(guard.check(url), Err(UrlRefused::NotAdmitted { .. })), "{url}");
        }
        assert!(guard.check("http://8.8.8.8/").is_ok());
        assert!(guard.check("http://localhost/").is_ok());
    }

    #[tokio::test]
    async fn a_name_is_judged_at_registration_by_the_addresses_that_it_has() {
        let url = "http://localhost:9001/callback";
        let refused = guard(&[], Loopback::Refused).check_registration(url).await;
        assert!(matches!(refused, Err(UrlRefused::NameNotAdmitted { .. })), "{refused:?}");
        assert!(guard(&[], Loopback::Allowed).check_registration(url).await.is_ok());
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_now_is_let_through_at_registration() {
        let url = "http://nowhere.invalid/callback";
        assert!(guard(&[], Loopback::Refused).check_registration(url).await.is_ok());
    }
}
