//! Peers that could be dialled, and those among them that were worth it. No clock and no dice: every call
//! says what time it is, the seed comes from the configuration.

mod file;

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    config::{ConnectionConfig, PeersConfig, after},
    ip::{Host, Subnet},
    redial::peer_of,
};
pub(crate) use file::{KnownPeer, load, save};

/// Addresses kept of one peer; the one that worked last comes first.
const MAX_ADDRESSES: usize = 4;

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Static,
    /// A peer that was reached before, in this run or an earlier one.
    Book,
    /// The peer itself, when it dialled us.
    Inbound,
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
            Self::Inbound => "inbound",
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
    connected: bool,
    /// When it was last connected, in unix seconds, if we ever reached it there. Only such a peer is written down.
    seen: Option<u64>,
    /// Dials in vain since the last success.
    failures: u32,
    /// Not dialled before.
    not_before: Instant,
}

/// The bounded list of peers that could be dialled, bounded too for each address and each subnet. When it is full,
/// who was never reached makes room, most failures first; then who was not seen for longest. Who is connected stays.
#[derive(Debug)]
pub(crate) struct PeerBook {
    config: PeersConfig,
    connections: ConnectionConfig,
    peers: HashMap<PeerId, Entry>,
    dice: fastrand::Rng,
    changed: bool,
}

/// How many peers of each subnet are connected or being dialled.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    connections: ConnectionConfig,
    subnets: HashMap<Subnet, usize>,
}

impl Crowd {
    pub(crate) fn new(config: &PeersConfig, connections: ConnectionConfig) -> Self {
        Self { most: config.outbound_per_subnet.get(), connections, subnets: HashMap::new() }
    }

    /// Counts a peer at this address.
    pub(crate) fn add(&mut self, address: &Multiaddr) {
        if let Some(subnet) = self.subnet(address) {
            *self.subnets.entry(subnet).or_default() += 1;
        }
    }

    fn has_room(&self, address: &Multiaddr) -> bool {
        let known = self.subnet(address).and_then(|subnet| self.subnets.get(&subnet));
        known.is_none_or(|known| *known < self.most)
    }

    fn subnet(&self, address: &Multiaddr) -> Option<Subnet> {
        Host::at(address).filter(|host| self.connections.tells_apart(*host))?;
        Subnet::at(address)
    }
}

impl PeerBook {
    pub(crate) fn new(config: PeersConfig, connections: ConnectionConfig, seed: u64) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        Self { config, connections, peers: HashMap::new(), dice, changed: false }
    }

    /// Takes what an earlier run wrote down, the first the surest.
    pub(crate) fn restore(&mut self, known: Vec<KnownPeer>, now: Instant) {
        for KnownPeer { peer, mut addresses, record, last_seen } in
            known.into_iter().take(self.config.known.get())
        {
            addresses.truncate(MAX_ADDRESSES);
            addresses.retain(|address| self.make_room_at(&peer, address, false));
            if !addresses.is_empty() {
                let (source, seen) = (Source::Book, Some(last_seen));
                let entry =
                    Entry { addresses, record, source, connected: false, seen, failures: 0, not_before: now };
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
        let mut addresses: Vec<_> = addresses.into_iter().take(MAX_ADDRESSES).map(bare).collect();
        if let Some(entry) = self.peers.get_mut(&peer) {
            if record.is_some() && record != entry.record {
                entry.record.clone_from(&record);
                self.changed |= entry.seen.is_some();
            }
            // What worked stays in front of what is only said to.
            addresses.retain(|address| !entry.addresses.contains(address));
        }
        addresses.retain(|address| self.make_room_at(&peer, address, false));
        if addresses.is_empty() {
            return false;
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            for address in addresses {
                entry.addresses.truncate(MAX_ADDRESSES - 1);
                entry.addresses.push(address);
            }
            return true;
        }
        if !self.make_room(false) {
            return false;
        }
        let entry =
            Entry { addresses, record, source, connected: false, seen: None, failures: 0, not_before: now };
        self.peers.insert(peer, entry);
        true
    }

    /// A peer of this chain is connected; where we dialled it, `reached` is what worked. Whoever only dials us shows
    /// nothing of where it can be reached.
    pub(crate) fn met(&mut self, peer: PeerId, reached: Option<Multiaddr>, unix: u64, now: Instant) {
        let Some(address) = reached.map(bare) else {
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.connected = true;
            }
            return;
        };
        let is_known = self.peers.get(&peer).is_some_and(|entry| entry.addresses.contains(&address));
        if !is_known && !self.make_room_at(&peer, &address, true) {
            return;
        }
        if !self.peers.contains_key(&peer) && !self.make_room(true) {
            return;
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            record: None,
            source: Source::Book,
            connected: true,
            seen: None,
            failures: 0,
            not_before: now,
        });
        entry.addresses.retain(|known| *known != address);
        entry.addresses.insert(0, address);
        entry.addresses.truncate(MAX_ADDRESSES);
        entry.source = Source::Book;
        entry.connected = true;
        entry.seen = Some(unix);
        entry.failures = 0;
        self.changed = true;
    }

    /// The last connection to a peer has closed: it is left alone for a while.
    pub(crate) fn parted(&mut self, peer: &PeerId, unix: u64, now: Instant) {
        self.postpone(peer, now);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.connected = false;
            if entry.seen.is_some() {
                entry.seen = Some(unix);
                self.changed = true;
            }
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

    /// At most `count` peers to dial, none that `skip` names, none of a subnet of which there are enough. Those
    /// with the fewest failures, among them those seen last, the rest by chance; and each in turn from another source,
    /// so that no single one decides who is dialled.
    pub(crate) fn due(
        &mut self,
        count: usize,
        now: Instant,
        mut crowd: Crowd,
        skip: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>, Source)> {
        let due = self.peers.iter().filter(|(peer, entry)| entry.not_before <= now && !skip(peer));
        let mut due: Vec<_> = due.collect();
        // Sorted first, so that the dice fall the same for the same book.
        due.sort_by_key(|(peer, _)| **peer);
        self.dice.shuffle(&mut due);
        due.sort_by_key(|(_, entry)| (entry.failures, Reverse(entry.seen)));
        let mut sources: Vec<(Source, VecDeque<_>)> = Vec::new();
        for candidate in due {
            match sources.iter_mut().find(|(source, _)| *source == candidate.1.source) {
                Some((_, candidates)) => candidates.push_back(candidate),
                None => sources.push((candidate.1.source, VecDeque::from([candidate]))),
            }
        }
        let mut dials = Vec::new();
        while dials.len() < count && !sources.is_empty() {
            for (source, candidates) in &mut sources {
                let fits = |(_, entry): &(_, &Entry)| entry.addresses.iter().any(|at| crowd.has_room(at));
                let Some(index) = candidates.iter().position(fits) else {
                    candidates.clear();
                    continue;
                };
                // Those before it have no room now, and will have none later.
                candidates.drain(..index);
                let Some((peer, entry)) = candidates.pop_front().filter(|_| dials.len() < count) else {
                    break;
                };
                let mut addresses = entry.addresses.clone();
                addresses.retain(|address| crowd.has_room(address));
                addresses.iter().for_each(|address| crowd.add(address));
                dials.push((*peer, addresses, *source));
            }
            sources.retain(|(_, candidates)| !candidates.is_empty());
        }
        dials
    }

    /// The node records (ENR) of the peers that have one.
    pub(crate) fn records(&self) -> impl Iterator<Item = &str> {
        self.peers.values().filter_map(|entry| entry.record.as_deref())
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

    /// Makes room for one more. Only a peer that was reached pushes out one that was reached.
    fn make_room(&mut self, reached: bool) -> bool {
        self.peers.len() < self.config.known.get() || self.drop_least(|entry| reached || entry.seen.is_none())
    }

    /// Makes room for a peer at an address, among those of the same address and of the same subnet. There hearsay
    /// makes room for hearsay only after a dial has failed: else whoever comes later would push out whoever came
    /// before.
    fn make_room_at(&mut self, peer: &PeerId, address: &Multiaddr, reached: bool) -> bool {
        let Some(host) = Host::at(address).filter(|host| self.connections.tells_apart(*host)) else {
            return true;
        };
        let (subnet, config) = (Subnet::at(address), self.config);
        let at_host = |entry: &Entry| entry.addresses.iter().any(|at| Host::at(at) == Some(host));
        let in_subnet = |entry: &Entry| entry.addresses.iter().any(|at| Subnet::at(at) == subnet);
        let may_go = |entry: &Entry| reached || entry.seen.is_none() && entry.failures > 0;
        (self.others(peer, at_host) < config.known_per_ip.get()
            || self.drop_least(|entry| at_host(entry) && may_go(entry)))
            && (self.others(peer, in_subnet) < config.known_per_subnet.get()
                || self.drop_least(|entry| in_subnet(entry) && may_go(entry)))
    }

    fn others(&self, peer: &PeerId, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.peers.iter().filter(|(known, entry)| *known != peer && wanted(entry)).count()
    }

    /// Forgets the least of those that may go, if there is one. Nobody who is connected may.
    fn drop_least(&mut self, may_go: impl Fn(&Entry) -> bool) -> bool {
        let candidates = self.peers.iter().filter(|(_, entry)| !entry.connected && may_go(entry));
        let least = candidates.min_by_key(|(peer, entry)| (entry.seen, Reverse(entry.failures), **peer));
        let Some(least) = least.map(|(peer, _)| *peer).and_then(|least| self.peers.remove(&least)) else {
            return false;
        };
        self.changed |= least.seen.is_some();
        true
    }
}

/// An address without the peer that it may end in.
pub(crate) fn bare(mut address: Multiaddr) -> Multiaddr {
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
            Self { book: PeerBook::new(config, ConnectionConfig::default(), 1), start: Instant::now() }
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
            self.met_at(address(port), unix)
        }

        /// A peer that was reached and has gone.
        fn met_at(&mut self, address: Multiaddr, unix: u64) -> PeerId {
            let peer = PeerId::random();
            self.book.met(peer, Some(address), unix, self.start);
            if let Some(entry) = self.book.peers.get_mut(&peer) {
                entry.connected = false;
            }
            peer
        }

        fn due(&mut self, seconds: u64) -> Vec<PeerId> {
            let now = self.at(seconds);
            self.dials(usize::MAX, now, |_| false).into_iter().map(|(peer, ..)| peer).collect()
        }

        fn dials(
            &mut self,
            count: usize,
            now: Instant,
            skip: impl Fn(&PeerId) -> bool,
        ) -> Vec<(PeerId, Vec<Multiaddr>, Source)> {
            let crowd = Crowd::new(&self.book.config, self.book.connections);
            self.book.due(count, now, crowd, skip)
        }
    }

    /// Of so manieth subnet of the open internet, and a host there.
    fn global(subnet: u8, host: u8, port: u16) -> Multiaddr {
        format!("/ip4/1.1.{subnet}.{host}/tcp/{port}").parse().unwrap()
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn who_was_seen_last_is_dialled_first_and_hearsay_after_that() {
        let mut rig = Rig::new(10);
        let heard = rig.heard(1);
        let (old, young) = (rig.met(2, 100), rig.met(3, 200));
        // From each source in turn.
        assert_eq!(rig.due(0), [young, heard, old]);
        // A failure outweighs that.
        rig.book.failed(&young, rig.start);
        assert_eq!(rig.due(7200), [old, heard, young]);
        let start = rig.start;
        assert_eq!(rig.dials(1, start, |peer| *peer == old)[0].0, heard);
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
            assert!(rig.dials(1, now - Duration::from_nanos(1), |_| false).is_empty());
            assert_eq!(rig.dials(1, now, |_| false).len(), 1);
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
            let mut rig = Rig::new(100);
            rig.book.dice = fastrand::Rng::with_seed(seed);
            for peer in &peers {
                assert!(rig.book.heard(*peer, [address(1)], None, Source::Discovery, rig.start));
            }
            let now = rig.start;
            rig.dials(5, now, |_| false).into_iter().map(|(peer, ..)| peer).collect::<Vec<_>>()
        };
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn one_host_gets_the_places_of_one_host_and_dials_of_one() {
        let mut rig = Rig::new(512);
        let honest: Vec<_> = (0..30).map(|subnet| rig.met_at(global(subnet, 1, 1), 100)).collect();
        // Identities of one host, each connected for a moment, at port after port of it.
        for port in 1000..1600 {
            let (peer, start, at) = (PeerId::random(), rig.start, global(99, 1, port));
            let _news = rig.book.heard(peer, [at], None, Source::Inbound, start);
            rig.book.met(peer, None, 200, start);
            rig.book.parted(&peer, 200, start);
        }
        assert_eq!(rig.book.peers.len(), honest.len() + rig.book.config.known_per_ip.get());
        let dialled = rig.due(3600);
        assert_eq!(dialled.iter().filter(|peer| honest.contains(peer)).count(), honest.len());
        assert_eq!(dialled.len(), honest.len() + rig.book.config.outbound_per_subnet.get());
        // Only who was reached is known to be good.
        assert_eq!(rig.book.known(0, |_| false).len(), honest.len());
    }

    #[test]
    fn a_subnet_gets_its_places_and_no_more_and_hearsay_goes_after_a_failure() {
        let mut rig = Rig::new(512);
        let start = rig.start;
        let hear = |rig: &mut Rig, host| {
            let peer = PeerId::random();
            rig.book.heard(peer, [global(1, host, 1)], None, Source::Discovery, start).then_some(peer)
        };
        let first: Vec<_> = (0..16).map(|host| hear(&mut rig, host).unwrap()).collect();
        assert_eq!(hear(&mut rig, 100), None);
        rig.book.failed(&first[3], start);
        let next = hear(&mut rig, 100).unwrap();
        assert!(!rig.book.peers.contains_key(&first[3]) && rig.book.peers.contains_key(&next));
        // Who was reached pushes out hearsay; a name has no subnet.
        let reached = rig.met_at(global(1, 101, 1), 1);
        assert!(rig.book.peers.contains_key(&reached) && rig.book.peers.len() == 16);
        let named = "/dns4/example.org/tcp/1".parse().unwrap();
        assert!(rig.book.heard(PeerId::random(), [named], None, Source::Bootnode, start));
    }

    #[test]
    fn who_is_connected_stays_whoever_comes() {
        let mut rig = Rig::new(30);
        let first: Vec<_> = (0..30)
            .map(|subnet| {
                let peer = PeerId::random();
                rig.book.met(peer, Some(global(subnet, 1, 1)), 100, rig.start);
                peer
            })
            .collect();
        let late = rig.met_at(global(100, 1, 1), 300);
        assert!(first.iter().all(|peer| rig.book.peers.contains_key(peer)));
        assert!(!rig.book.peers.contains_key(&late));
        rig.book.parted(&first[7], 400, rig.start);
        let late = rig.met_at(global(100, 1, 1), 500);
        assert!(rig.book.peers.contains_key(&late) && !rig.book.peers.contains_key(&first[7]));
    }

    #[test]
    fn subnets_that_are_connected_are_not_dialled_again() {
        let mut rig = Rig::new(100);
        let (one, other) = (rig.met_at(global(1, 1, 1), 1), rig.met_at(global(2, 1, 1), 1));
        let mut crowd = Crowd::new(&rig.book.config, rig.book.connections);
        crowd.add(&global(1, 7, 7));
        crowd.add(&global(1, 8, 7));
        let now = rig.start;
        let dials = rig.book.due(9, now, crowd, |_| false);
        assert_eq!(dials.iter().map(|(peer, ..)| *peer).collect::<Vec<_>>(), [other]);
        assert!(rig.due(0).contains(&one));
    }
}
