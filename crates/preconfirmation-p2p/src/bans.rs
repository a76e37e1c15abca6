//! Who is refused, and until when. No clock: every call says what time it is.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};

use crate::ip::Host;

/// A refused peer, with what was known of it when it was banned.
#[derive(Debug, Clone)]
pub(crate) struct Ban {
    pub(crate) until: Instant,
    pub(crate) address: Multiaddr,
    pub(crate) agent: Option<String>,
}

/// The bounded list of bans.
#[derive(Debug)]
pub(crate) struct Bans {
    limit: NonZeroUsize,
    peers: HashMap<PeerId, Ban>,
}

impl Bans {
    pub(crate) fn new(limit: NonZeroUsize) -> Self {
        Self { limit, peers: HashMap::new() }
    }

    /// Adds a ban. Returns the peer whose ban was given up for it, the one that would have ended first.
    #[must_use]
    pub(crate) fn add(&mut self, peer: PeerId, ban: Ban) -> Option<PeerId> {
        let mut freed = None;
        if !self.peers.contains_key(&peer) && self.peers.len() >= self.limit.get() {
            freed = self.peers.iter().min_by_key(|(_, ban)| ban.until).map(|(peer, _)| *peer);
            if let Some(freed) = freed {
                self.peers.remove(&freed);
            }
        }
        self.peers.insert(peer, ban);
        freed
    }

    /// Ends the bans whose time is up and returns whose they were.
    #[must_use]
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<PeerId> {
        self.peers.extract_if(|_, ban| ban.until <= now).map(|(peer, _)| peer).collect()
    }

    /// Whether a peer is refused.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Ends a ban. Whether there was one.
    pub(crate) fn remove(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer).is_some()
    }

    /// The hosts of at least so many banned peers: whoever makes a new key for each ban has no new address.
    pub(crate) fn hosts(&self, least: NonZeroUsize) -> HashSet<Host> {
        let mut counts = HashMap::<_, usize>::new();
        for host in self.peers.values().filter_map(|ban| Host::at(&ban.address)) {
            *counts.entry(host).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count >= least.get()).map(|(host, _)| host).collect()
    }

    /// All bans.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Ban)> {
        self.peers.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn until(until: Instant) -> Ban {
        Ban { until, address: Multiaddr::empty(), agent: None }
    }

    #[test]
    fn a_ban_ends_when_its_time_is_up() {
        let (mut bans, now) = (Bans::new(NonZeroUsize::new(8).unwrap()), Instant::now());
        let peer = PeerId::random();
        assert_eq!(bans.add(peer, until(now + Duration::from_secs(3600))), None);
        assert!(bans.expired(now + Duration::from_secs(3599)).is_empty());
        assert_eq!(bans.expired(now + Duration::from_secs(3600)), [peer]);
        assert_eq!(bans.iter().count(), 0);
    }

    #[test]
    fn a_ban_can_be_lifted_once() {
        let (mut bans, now) = (Bans::new(NonZeroUsize::new(8).unwrap()), Instant::now());
        let peer = PeerId::random();
        assert_eq!(bans.add(peer, until(now + Duration::from_secs(3600))), None);
        assert!(bans.remove(&peer));
        assert!(!bans.remove(&peer));
        assert!(bans.expired(now + Duration::from_secs(3600)).is_empty());
    }

    #[test]
    fn several_bans_of_one_host_are_a_ban_of_the_host() {
        let (mut bans, now) = (Bans::new(NonZeroUsize::new(8).unwrap()), Instant::now());
        let two = NonZeroUsize::new(2).unwrap();
        let mut add = |address: &str, seconds| {
            let until = now + Duration::from_secs(seconds);
            let ban = Ban { until, address: address.parse().unwrap(), agent: None };
            assert_eq!(bans.add(PeerId::random(), ban), None);
        };
        add("/ip4/1.1.1.1/tcp/1", 1);
        add("/ip4/1.1.1.2/tcp/1", 9);
        add("/ip4/1.1.1.1/udp/2/quic-v1", 9);
        assert_eq!(bans.hosts(two), HashSet::from([Host::of([1, 1, 1, 1].into())]));
        // The first of them is over, and so is that of the host.
        assert_eq!(bans.expired(now + Duration::from_secs(1)).len(), 1);
        assert_eq!(bans.hosts(two), HashSet::new());
    }

    #[test]
    fn a_full_list_gives_up_the_ban_that_ends_first() {
        let (mut bans, now) = (Bans::new(NonZeroUsize::new(2).unwrap()), Instant::now());
        let (first, second, third) = (PeerId::random(), PeerId::random(), PeerId::random());
        assert_eq!(bans.add(second, until(now + Duration::from_secs(2))), None);
        assert_eq!(bans.add(first, until(now + Duration::from_secs(1))), None);
        assert_eq!(bans.add(first, until(now + Duration::from_secs(1))), None);
        assert_eq!(bans.add(third, until(now + Duration::from_secs(3))), Some(first));
        assert_eq!(bans.iter().count(), 2);
    }
}
