//! Whom the operator refuses, whatever they have done.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use libp2p::{Multiaddr, PeerId};

use crate::ip::{ip_of, prefix};

/// Entries of a list. It is written by hand or by an operator's scripts.
const ENTRIES: usize = 4096;

/// Whom the operator refuses: a peer, or all at some addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blocked {
    /// This peer, wherever it is.
    Peer(PeerId),
    /// Whoever is at these addresses. A peer that was dialled by a name (DNS) is not among them.
    Subnet(IpRange),
}

/// The addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpRange {
    ip: IpAddr,
    bits: u8,
}

impl IpRange {
    /// The addresses whose first `bits` are those of `ip`; none if an address has fewer. An IPv4 address mapped into IPv6 is that
    /// IPv4 address.
    #[must_use]
    pub fn new(ip: IpAddr, bits: u8) -> Option<Self> {
        let ip = ip.to_canonical();
        let most = if ip.is_ipv4() { 32 } else { 128 };
        (bits <= most).then(|| Self { ip: prefix(ip, bits.into(), bits.into()), bits })
    }

    /// One address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// The lowest of the addresses.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// How many bits they have in common.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether it is a single address.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.bits == if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// Whether an address begins with an IP in it. A name (DNS) has none.
    pub(crate) fn has(&self, address: &Multiaddr) -> bool {
        ip_of(address).is_some_and(|ip| self.contains(ip))
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.ip.is_ipv4() && prefix(ip, self.bits.into(), self.bits.into()) == self.ip
    }
}

/// An IP address, or one with the number of bits that count behind a slash.
impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let wrong = || IpRangeError { given: text.into() };
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        bits.map_or_else(|| Some(Self::of(ip)), |bits| Self::new(ip, bits)).ok_or_else(wrong)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no range of IP addresses, such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct IpRangeError {
    given: Box<str>,
}

/// What is refused.
#[derive(Debug, Default)]
pub(crate) struct BlockList {
    blocked: BTreeSet<Blocked>,
    /// Where there are any, whoever is elsewhere is refused.
    only: Vec<IpRange>,
}

impl BlockList {
    /// Refuses whoever is outside these ranges, if there are any.
    pub(crate) fn only(ranges: Vec<IpRange>) -> Self {
        Self { blocked: BTreeSet::new(), only: ranges }
    }

    /// Adds an entry. False if there is no room for it.
    pub(crate) fn block(&mut self, entry: Blocked) -> bool {
        let has_room = self.blocked.contains(&entry) || self.blocked.len() < ENTRIES;
        if has_room {
            self.blocked.insert(entry);
        }
        has_room
    }

    /// Removes an entry. Whether there was one.
    pub(crate) fn unblock(&mut self, entry: &Blocked) -> bool {
        self.blocked.remove(entry)
    }

    pub(crate) fn entries(&self) -> Vec<Blocked> {
        self.blocked.iter().copied().collect()
    }

    pub(crate) fn has_peer(&self, peer: PeerId) -> bool {
        self.blocked.contains(&Blocked::Peer(peer))
    }

    /// Whether whoever is at an address is refused.
    pub(crate) fn has_address(&self, address: &Multiaddr) -> bool {
        let mut blocked = self.blocked.iter();
        self.is_outside(address)
            || blocked.any(|entry| matches!(entry, Blocked::Subnet(range) if range.has(address)))
    }

    /// Whether an address is outside of where connections are restricted to. A name (DNS) is not.
    pub(crate) fn is_outside(&self, address: &Multiaddr) -> bool {
        let is_in = |ip| self.only.iter().any(|range| range.contains(ip));
        !self.only.is_empty() && ip_of(address).is_some_and(|ip| !is_in(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(ip: &str, bits: u8) -> IpRange {
        IpRange::new(ip.parse().unwrap(), bits).unwrap()
    }

    #[test]
    fn a_range_has_the_addresses_that_begin_alike() {
        let contains = |range: IpRange, ip: &str| range.contains(ip.parse().unwrap());
        let subnet = range("10.1.2.3", 16);
        assert_eq!((subnet.ip().to_string(), subnet.bits()), ("10.1.0.0".into(), 16));
        assert!(contains(subnet, "10.1.255.255") && contains(subnet, "::ffff:10.1.0.1"));
        assert!(!contains(subnet, "10.2.0.0") && !contains(subnet, "::1"));
        assert!(contains(range("0.0.0.0", 0), "255.0.0.1"));
        assert!(
            contains(range("2001:db8::", 32), "2001:db8:1::1")
                && !contains(range("2001:db8::", 32), "2001:db9::")
        );
        assert!(IpRange::of("10.0.0.7".parse().unwrap()).is_single() && !subnet.is_single());
        for ip in ["10.0.0.7", "::ffff:10.0.0.7"] {
            for bits in [33, 96, 128, 255] {
                assert_eq!(IpRange::new(ip.parse().unwrap(), bits), None, "{ip}/{bits}");
            }
            assert_eq!(range(ip, 32), IpRange::of("10.0.0.7".parse().unwrap()));
        }
        assert_eq!(IpRange::new("::1".parse().unwrap(), 129), None);
    }

    #[test]
    fn a_range_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<IpRange>().unwrap().to_string(), shown);
        }
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "a.example/8", "::1/129"] {
            let error = text.parse::<IpRange>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn where_connections_are_restricted_to_ranges_others_are_refused() {
        let list = BlockList::only(vec![range("10.0.0.0", 8), range("2001:db8::", 32)]);
        let refuses = |address: &str| list.has_address(&address.parse().unwrap());
        for address in ["/ip4/10.1.1.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip6/::ffff:10.0.0.1/tcp/1"] {
            assert!(!refuses(address), "{address}");
        }
        for address in ["/ip4/11.0.0.1/tcp/1", "/ip6/::1/tcp/1"] {
            assert!(refuses(address), "{address}");
        }
        // It is the operator who names names.
        assert!(!refuses("/dns4/a.example/tcp/1"));
        assert!(!BlockList::default().has_address(&"/ip4/11.0.0.1/tcp/1".parse().unwrap()));
    }

    #[test]
    fn a_list_is_bounded_and_knows_peers_and_addresses() {
        let (mut list, peer) = (BlockList::default(), PeerId::random());
        assert!(list.block(Blocked::Peer(peer)) && list.has_peer(peer) && !list.has_peer(PeerId::random()));
        assert!(list.block(Blocked::Subnet(range("127.0.0.0", 8))));
        assert!(list.has_address(&"/ip4/127.0.0.1/tcp/1".parse().unwrap()));
        assert!(!list.has_address(&"/dns4/localhost/tcp/1".parse().unwrap()));
        assert_eq!(list.entries().len(), 2);
        assert!(list.unblock(&Blocked::Peer(peer)) && !list.unblock(&Blocked::Peer(peer)));
        for _ in 0..ENTRIES - 1 {
            assert!(list.block(Blocked::Peer(PeerId::random())));
        }
        assert!(!list.block(Blocked::Peer(peer)));
        assert!(list.block(Blocked::Subnet(range("127.0.0.0", 8))), "it is there already");
    }
}
