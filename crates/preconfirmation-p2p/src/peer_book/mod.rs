//! Peers that could be dialled, and those among them that were worth it. No clock and no dice: every call
//! says what time it is, the seed comes from the configuration.

mod file;

use std::{
    cmp::Reverse,
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    config::{PeersConfig, after},
    redial::peer_of,
};
pub(crate) use file::{KnownPeer, load, save};

/// Addresses kept of one peer; the one that worked last comes first.
const MAX_ADDRESSES: usize = 4;

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Static,
    /// A peer that was connected before, in this run or an earlier one.
    Book,
    Bootnode,
    Discovery,
    Application,
}

impl Source {
    /// A short label for metrics and logs.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Book => "book",
            Self::Bootnode => "bootnode",
            Self::Discovery => "discovery",
            Self::Application => "application",
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// At least one.
    addresses: Vec<Multiaddr>,
    /// Its node record (ENR), if discovery found one.
    record: Option<String>,
    source: Source,
    /// When it was last seen as a peer of this chain, in unix seconds. Only such a peer is written down.
    seen: Option<u64>,
    /// Dials in vain since the last success.
    failures: u32,
    /// Not dialled before.
    not_before: Instant,
}

/// The bounded list of peers that could be dialled. When it is full, who was never a peer makes room, most
/// failures first; then who was not seen for longest.
#[derive(Debug)]
pub(crate) struct PeerBook {
    config: PeersConfig,
    peers: HashMap<PeerId, Entry>,
    dice: fastrand::Rng,
    changed: bool,
}

impl PeerBook {
    pub(crate) fn new(config: PeersConfig, seed: u64) -> Self {
        Self { config, peers: HashMap::new(), dice: fastrand::Rng::with_seed(seed), changed: false }
    }

    /// Takes what an earlier run wrote down.
    pub(crate) fn restore(&mut self, known: Vec<KnownPeer>, now: Instant) {
        for KnownPeer { peer, mut addresses, record, last_seen } in
            known.into_iter().take(self.config.known.get())
        {
            addresses.truncate(MAX_ADDRESSES);
            if !addresses.is_empty() {
                let (source, seen) = (Source::Book, Some(last_seen));
                let entry = Entry { addresses, record, source, seen, failures: 0, not_before: now };
                self.peers.insert(peer, entry);
            }
        }
    }

    /// Somebody says that a peer of this chain is to be found there. Whether that is news, and there was room.
    pub(crate) fn heard(
        &mut self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        record: Option<String>,
        source: Source,
        now: Instant,
    ) -> bool {
        let addresses: Vec<_> = addresses.into_iter().take(MAX_ADDRESSES).map(bare).collect();
        if addresses.is_empty() {
            return false;
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            if record.is_some() && record != entry.record {
                entry.record = record;
                self.changed |= entry.seen.is_some();
            }
            let mut news = false;
            for address in addresses {
                // What worked stays in front of what is only said to.
                if !entry.addresses.contains(&address) {
                    entry.addresses.truncate(MAX_ADDRESSES - 1);
                    entry.addresses.push(address);
                    news = true;
                }
            }
            return news;
        }
        if !self.make_room(false) {
            return false;
        }
        let entry = Entry { addresses, record, source, seen: None, failures: 0, not_before: now };
        self.peers.insert(peer, entry);
        true
    }

    /// A peer of this chain is connected; where it was dialled, `address` is what worked.
    pub(crate) fn met(&mut self, peer: PeerId, address: Option<Multiaddr>, unix: u64, now: Instant) {
        let address = address.map(bare);
        if !self.peers.contains_key(&peer) {
            let Some(address) = address else { return };
            if !self.make_room(true) {
                return;
            }
            let (addresses, source, seen) = (vec![address], Source::Book, Some(unix));
            let entry = Entry { addresses, record: None, source, seen, failures: 0, not_before: now };
            self.peers.insert(peer, entry);
        } else if let Some(entry) = self.peers.get_mut(&peer) {
            if let Some(address) = address {
                entry.addresses.retain(|known| *known != address);
                entry.addresses.insert(0, address);
                entry.addresses.truncate(MAX_ADDRESSES);
            }
            entry.source = Source::Book;
            entry.seen = Some(unix);
            entry.failures = 0;
        }
        self.changed = true;
    }

    /// The last connection to a peer has closed: it is left alone for a while.
    pub(crate) fn parted(&mut self, peer: &PeerId, unix: u64, now: Instant) {
        self.postpone(peer, now);
        if let Some(entry) = self.peers.get_mut(peer)
            && entry.seen.is_some()
        {
            entry.seen = Some(unix);
            self.changed = true;
        }
    }

    /// A peer was not dialled, for a reason that is none of its own: it is left alone for a while.
    pub(crate) fn postpone(&mut self, peer: &PeerId, now: Instant) {
        let pause = self.pause(0);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.not_before = after(now, pause);
        }
    }

    /// A peer could not be reached: the pause before it is dialled again doubles.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        let failures = self.peers.get(peer).map_or(0, |entry| entry.failures);
        let pause = self.pause(failures);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.failures = failures.saturating_add(1);
            entry.not_before = after(now, pause);
        }
    }

    /// A peer is not wanted: banned, or not of this chain.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.remove(peer) {
            self.changed |= entry.seen.is_some();
        }
    }

    /// At most `count` peers to dial, none that `skip` names: those with the fewest failures, among them those
    /// seen last, the rest by chance.
    pub(crate) fn due(
        &mut self,
        count: usize,
        now: Instant,
        skip: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>, Source)> {
        let due = self.peers.iter().filter(|(peer, entry)| entry.not_before <= now && !skip(peer));
        let mut due: Vec<_> = due.collect();
        // Sorted first, so that the dice fall the same for the same book.
        due.sort_by_key(|(peer, _)| **peer);
        self.dice.shuffle(&mut due);
        due.sort_by_key(|(_, entry)| (entry.failures, Reverse(entry.seen)));
        let dials = due.into_iter().take(count);
        dials.map(|(peer, entry)| (*peer, entry.addresses.clone(), entry.source)).collect()
    }

    /// Whether there is something new to write down since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What the next run should know, the peers seen last first. Those for which `connected` holds are seen
    /// as of now.
    pub(crate) fn known(&self, unix: u64, connected: impl Fn(&PeerId) -> bool) -> Vec<KnownPeer> {
        let known = self.peers.iter().filter_map(|(peer, entry)| {
            let seen = entry.seen?;
            let last_seen = if connected(peer) { unix } else { seen };
            let (addresses, record) = (entry.addresses.clone(), entry.record.clone());
            Some(KnownPeer { peer: *peer, addresses, record, last_seen })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|known| (Reverse(known.last_seen), known.peer));
        known
    }

    /// The pause after so many failures before this one, plus up to as much at random.
    fn pause(&mut self, failures: u32) -> Duration {
        let base = self.config.retry.saturating_mul(2_u32.saturating_pow(failures.min(31)));
        let base = base.min(self.config.max_retry);
        base.saturating_add(base.mul_f64(self.dice.f64()))
    }

    /// Makes room for one more. Only a peer that was met pushes out one that was met.
    fn make_room(&mut self, met: bool) -> bool {
        if self.peers.len() < self.config.known.get() {
            return true;
        }
        let least = self
            .peers
            .iter()
            .min_by_key(|(peer, entry)| (entry.seen, Reverse(entry.failures), **peer))
            .map(|(peer, entry)| (*peer, entry.seen.is_some()));
        match least {
            Some((least, was_met)) if met || !was_met => self.peers.remove(&least).is_some(),
            _ => false,
        }
    }
}

/// An address without the peer that it may end in.
fn bare(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    struct Rig {
        book: PeerBook,
        start: Instant,
    }

    impl Rig {
        fn new(known: usize) -> Self {
            let config = PeersConfig { known: NonZeroUsize::new(known).unwrap(), ..PeersConfig::default() };
            Self { book: PeerBook::new(config, 1), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn heard(&mut self, port: u16) -> PeerId {
            let peer = PeerId::random();
            assert!(self.book.heard(peer, [address(port)], None, Source::Discovery, self.start));
            peer
        }

        fn met(&mut self, port: u16, unix: u64) -> PeerId {
            let peer = PeerId::random();
            self.book.met(peer, Some(address(port)), unix, self.start);
            peer
        }

        fn due(&mut self, seconds: u64) -> Vec<PeerId> {
            let now = self.at(seconds);
            self.book.due(usize::MAX, now, |_| false).into_iter().map(|(peer, ..)| peer).collect()
        }
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn who_was_seen_last_is_dialled_first_and_hearsay_after_that() {
        let mut rig = Rig::new(10);
        let heard = rig.heard(1);
        let (old, young) = (rig.met(2, 100), rig.met(3, 200));
        assert_eq!(rig.due(0), [young, old, heard]);
        // A failure outweighs that.
        rig.book.failed(&young, rig.start);
        assert_eq!(rig.due(7200), [old, heard, young]);
        let start = rig.start;
        assert_eq!(rig.book.due(1, start, |peer| *peer == old)[0].0, heard);
    }

    #[test]
    fn a_failure_doubles_the_pause_from_half_a_minute_to_an_hour() {
        let mut rig = Rig::new(10);
        let peer = rig.heard(1);
        let mut now = rig.start;
        for base in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            rig.book.failed(&peer, now);
            let pause = rig.book.peers[&peer].not_before - now;
            assert!(pause >= Duration::from_secs(base) && pause < Duration::from_secs(2 * base), "{pause:?}");
            now += pause;
            assert!(rig.book.due(1, now - Duration::from_nanos(1), |_| false).is_empty());
            assert_eq!(rig.book.due(1, now, |_| false).len(), 1);
        }
        // A success begins anew.
        rig.book.met(peer, Some(address(1)), 5, now);
        rig.book.failed(&peer, now);
        assert!(rig.book.peers[&peer].not_before - now < Duration::from_secs(60));
    }

    #[test]
    fn a_peer_that_leaves_is_left_alone_for_a_while() {
        let mut rig = Rig::new(10);
        let peer = rig.met(1, 100);
        rig.book.parted(&peer, 150, rig.start);
        assert!(rig.due(29).is_empty());
        assert_eq!(rig.due(60), [peer]);
        assert_eq!(rig.book.known(500, |_| false)[0].last_seen, 150);
        assert_eq!(rig.book.known(500, |_| true)[0].last_seen, 500);
    }

    #[test]
    fn what_was_not_its_fault_costs_a_peer_one_pause_and_no_more() {
        let mut rig = Rig::new(10);
        let (postponed, failed) = (rig.heard(1), rig.heard(2));
        for _ in 0..5 {
            rig.book.postpone(&postponed, rig.start);
        }
        rig.book.failed(&failed, rig.start);
        assert!(rig.due(29).is_empty());
        assert_eq!(rig.due(60), [postponed, failed]);
    }

    #[test]
    fn hearsay_never_pushes_out_who_was_met() {
        let mut rig = Rig::new(3);
        let (old, young) = (rig.met(1, 100), rig.met(2, 200));
        for port in 10..100 {
            let news = rig.book.heard(PeerId::random(), [address(port)], None, Source::Discovery, rig.start);
            assert!(news, "the one place of hearsay changes hands");
        }
        assert_eq!(rig.book.peers.len(), 3);
        let third = rig.met(3, 300);
        assert!(!rig.book.heard(PeerId::random(), [address(4)], None, Source::Discovery, rig.start));
        let fourth = rig.met(4, 400);
        let known: Vec<_> = rig.book.known(0, |_| false).into_iter().map(|known| known.peer).collect();
        assert_eq!(known, [fourth, third, young]);
        assert!(!known.contains(&old));
    }

    #[test]
    fn the_address_that_worked_comes_first_and_only_four_are_kept() {
        let mut rig = Rig::new(3);
        let peer = rig.met(1, 100);
        let (start, addresses) = (rig.start, (2..20).map(address));
        assert!(rig.book.heard(peer, addresses, None, Source::Discovery, start));
        assert!(!rig.book.heard(peer, [address(1)], None, Source::Discovery, start));
        assert!(!rig.book.heard(PeerId::random(), [], None, Source::Discovery, start));
        rig.book.met(peer, Some(address(9)), 101, start);
        let known = rig.book.known(0, |_| false);
        assert_eq!(known[0].addresses.len(), 4);
        assert_eq!(known[0].addresses[..2], [address(9), address(1)]);
    }

    #[test]
    fn only_peers_that_were_met_are_written_down_and_only_news_is() {
        let mut rig = Rig::new(3);
        let heard = rig.heard(1);
        assert!(!rig.book.take_changed());
        let met = rig.met(2, 100);
        assert!(rig.book.take_changed() && !rig.book.take_changed());
        // Met by an inbound connection only: the port it came from leads nowhere.
        rig.book.met(PeerId::random(), None, 100, rig.start);
        let known = rig.book.known(0, |_| false);
        assert_eq!(known.iter().map(|known| known.peer).collect::<Vec<_>>(), [met]);
        rig.book.take_changed();
        rig.book.forget(&heard);
        assert!(!rig.book.take_changed());
        rig.book.forget(&met);
        assert!(rig.book.take_changed() && rig.book.known(0, |_| false).is_empty());
    }

    #[test]
    fn what_was_written_down_is_dialled_again_at_once() {
        let mut rig = Rig::new(2);
        let peers = [rig.met(1, 100), rig.met(2, 200)];
        let known = rig.book.known(0, |_| false);
        let mut next = Rig::new(2);
        next.book.restore(known, next.start);
        assert_eq!(next.due(0), [peers[1], peers[0]]);
        assert!(!next.book.take_changed());
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let peers: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
        let chosen = |seed| {
            let (mut book, now) = (PeerBook::new(PeersConfig::default(), seed), Instant::now());
            for peer in &peers {
                assert!(book.heard(*peer, [address(1)], None, Source::Discovery, now));
            }
            book.due(5, now, |_| false).into_iter().map(|(peer, ..)| peer).collect::<Vec<_>>()
        };
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
