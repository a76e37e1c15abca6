//! What multiaddresses say: their peer, their IP, and IPs grouped by who can have many of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// The IP that an address begins with; an IPv4 address mapped into IPv6 is that IPv4 address.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// The peer that an address ends in.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// An address without the peer that it may end in.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// What one host has at least: an IPv4 address, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Host(IpAddr);

impl Host {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(prefix(ip, 32, 64))
    }

    pub(crate) fn at(address: &Multiaddr) -> Option<Self> {
        ip_of(address).map(Self::of)
    }

    /// The host of a peer that pays for itself and its like; all whose address has no IP count as one.
    pub(crate) fn or_unknown(address: Option<&Multiaddr>) -> Self {
        address.and_then(Self::at).unwrap_or(Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }

    /// Whether it is on the open internet.
    pub(crate) fn is_global(self) -> bool {
        Scope::of(self.0) == Scope::Global
    }
}

/// What one operator easily has: a /24 of IPv4, or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subnet(IpAddr);

impl Subnet {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(prefix(ip, 24, 48))
    }

    pub(crate) fn at(address: &Multiaddr) -> Option<Self> {
        ip_of(address).map(Self::of)
    }
}

/// What a source of connections pays for: one IPv4 address, or a /48 of IPv6, which has as many /64s as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn at(address: &Multiaddr) -> Option<Self> {
        ip_of(address).map(|ip| Self(prefix(ip, 32, 48)))
    }
}

/// The address with nothing left but its first bits.
pub(crate) fn prefix(ip: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - v4).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - v6).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// From nowhere: unspecified, multicast, link-local, documentation and other reserved ranges.
    Nowhere,
    /// From the same machine.
    Loopback,
    /// From the same private network, shared address space of providers included.
    Private,
    /// From everywhere.
    Global,
}

impl Scope {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            // This network, link-local, protocol assignments, documentation, benchmarking, multicast and reserved.
            [0, ..]
            | [169, 254, ..]
            | [192, 0, 0 | 2, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [198, 18 | 19, ..]
            | [224..=255, ..] => Self::Nowhere,
            _ => Self::Global,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfc00..=0xfdff, ..] => Self::Private,
            [0x2001, 0xdb8, ..] => Self::Nowhere,
            // Global unicast is what has been given out so far: 2000::/3.
            [0x2000..=0x3fff, ..] => Self::Global,
            _ => Self::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_one_ipv4_address_or_one_ipv6_subnet_of_64_bits() {
        let same = |one: &str, other: &str| Host::of(ip(one)) == Host::of(ip(other));
        assert!(same("192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8:0:0:ffff::2") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    }

    #[test]
    fn a_subnet_is_24_bits_of_ipv4_or_48_of_ipv6() {
        let same = |one: &str, other: &str| Subnet::of(ip(one)) == Subnet::of(ip(other));
        assert!(same("192.0.2.1", "192.0.2.255") && !same("192.0.2.1", "192.0.3.1"));
        assert!(same("2001:db8::1", "2001:db8:0:ffff::2") && !same("2001:db8::1", "2001:db8:1::1"));
    }

    #[test]
    fn a_source_is_one_ipv4_address_or_an_ipv6_subnet_of_48_bits() {
        let at = |text: &str| Source::at(&format!("{text}/tcp/1").parse().unwrap());
        assert_ne!(at("/ip4/192.0.2.1"), at("/ip4/192.0.2.2"));
        assert_eq!(at("/ip6/2001:db8::1"), at("/ip6/2001:db8:0:ffff::2"));
        assert_ne!(at("/ip6/2001:db8::1"), at("/ip6/2001:db8:1::1"));
    }

    #[test]
    fn only_addresses_of_the_open_internet_are_global() {
        for global in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "192.1.0.1", "2600::1", "::ffff:8.8.8.8"] {
            assert_eq!(Scope::of(ip(global)), Scope::Global, "{global}");
        }
        for private in ["10.0.0.5", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"] {
            assert_eq!(Scope::of(ip(private)), Scope::Private, "{private}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(Scope::of(ip(loopback)), Scope::Loopback, "{loopback}");
        }
        let nowhere = [
            "0.0.0.0",
            "169.254.169.254",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::1",
        ];
        for nowhere in nowhere {
            assert_eq!(Scope::of(ip(nowhere)), Scope::Nowhere, "{nowhere}");
        }
    }
}
