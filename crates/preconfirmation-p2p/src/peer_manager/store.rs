//! The peer store: where peers can be dialled, which of them were reached before, and when each may be dialled again.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};

use super::{
    KnownPeer, PeerManager, backoff,
    index::KnownIndex,
    peer::{AddressSource, DialCandidate, Known},
};
use crate::{
    config::{ConnectionConfig, PeersConfig, after},
    ip::{Host, Subnet, without_peer},
};

/// Addresses kept of one peer; the one that worked last comes first.
const MAX_ADDRESSES: usize = 4;

/// How many peers of each subnet are connected or being dialled.
#[derive(Debug)]
struct SubnetCounts {
    max: usize,
    connections: ConnectionConfig,
    subnets: HashMap<Subnet, usize>,
}

impl SubnetCounts {
    fn new(config: &PeersConfig, connections: ConnectionConfig) -> Self {
        Self { max: config.outbound_per_subnet.get(), connections, subnets: HashMap::new() }
    }

    fn add(&mut self, address: &Multiaddr) {
        if let Some(subnet) = self.subnet(address) {
            *self.subnets.entry(subnet).or_default() += 1;
        }
    }

    fn has_room(&self, address: &Multiaddr) -> bool {
        let known = self.subnet(address).and_then(|subnet| self.subnets.get(&subnet));
        known.is_none_or(|known| *known < self.max)
    }

    fn subnet(&self, address: &Multiaddr) -> Option<Subnet> {
        Host::at(address).filter(|host| self.connections.tells_apart(*host))?;
        Subnet::at(address)
    }
}

/// The known peers are bounded in all, for each address and for each subnet. When there are too many, who was never
/// reached makes room, most failures first; then who was not seen for longest. Connected peers stay.
impl PeerManager {
    /// Takes what an earlier run wrote down, the surest first.
    pub(crate) fn restore(&mut self, known: Vec<KnownPeer>, now: Instant) {
        for KnownPeer { peer, mut addresses, enr, last_seen } in
            known.into_iter().take(self.config.peers.known.get())
        {
            addresses.truncate(MAX_ADDRESSES);
            addresses.retain(|address| self.make_room_at(&peer, address, false));
            if !addresses.is_empty() {
                let mut known = Known::new(addresses, enr, AddressSource::Store, now);
                known.seen = Some(last_seen);
                self.set_known(peer, known);
            }
        }
    }

    /// Somebody says that a peer of this chain is to be found there. Whether that is news, and there was room.
    pub(crate) fn on_discovered(
        &mut self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        enr: Option<String>,
        source: AddressSource,
        now: Instant,
    ) -> bool {
        let mut addresses: Vec<_> = addresses.into_iter().take(MAX_ADDRESSES).map(without_peer).collect();
        let mut changed = false;
        if let Some(known) = self.known_mut(&peer) {
            if enr.is_some() && enr != known.enr {
                known.enr.clone_from(&enr);
                changed = known.seen.is_some();
            }
            // What worked stays in front of what is only said to.
            addresses.retain(|address| !known.addresses.contains(address));
        }
        self.changed |= changed;
        addresses.retain(|address| self.make_room_at(&peer, address, false));
        if addresses.is_empty() {
            return false;
        }
        if let Some(known) = self.peers.get_mut(&peer).and_then(|peer| peer.known.as_deref_mut()) {
            self.known.remove(&peer, &known.addresses);
            for address in addresses {
                known.addresses.truncate(MAX_ADDRESSES - 1);
                known.addresses.push(address);
            }
            self.known.insert(peer, &known.addresses);
            return true;
        }
        if !self.make_room(false) {
            return false;
        }
        self.set_known(peer, Known::new(addresses, enr, source, now));
        true
    }

    /// A peer of this chain has been reached at an address that we dialled. Whoever only dials us shows nothing of where
    /// it can be reached.
    pub(crate) fn on_reached(&mut self, peer: PeerId, address: Multiaddr, unix: u64, now: Instant) {
        let address = without_peer(address);
        let known = self.peers.get(&peer).and_then(|peer| peer.known.as_deref());
        let is_known_there = known.is_some_and(|known| known.addresses.contains(&address));
        let is_known = known.is_some();
        if !is_known_there && !self.make_room_at(&peer, &address, true) {
            return;
        }
        if !is_known && !self.make_room(true) {
            return;
        }
        let record = self.peers.entry(peer).or_default();
        let known = record
            .known
            .get_or_insert_with(|| Box::new(Known::new(Vec::new(), None, AddressSource::Store, now)));
        self.known.remove(&peer, &known.addresses);
        known.addresses.retain(|known| *known != address);
        known.addresses.insert(0, address);
        known.addresses.truncate(MAX_ADDRESSES);
        self.known.insert(peer, &known.addresses);
        known.source = AddressSource::Store;
        known.seen = Some(unix);
        (known.failures, known.backoff) = (0, None);
        self.changed = true;
    }

    /// A peer was not dialled, for a reason that is none of its own: it is not dialled for a while.
    pub(crate) fn postpone_dial(&mut self, peer: &PeerId, now: Instant) {
        let (config, seed) = (self.config.peers, self.rng.u64(..));
        if let Some(known) = self.known_mut(peer) {
            let delay = backoff(config.retry, config.max_retry, seed).next();
            known.not_before = after(now, delay.unwrap_or(config.retry));
        }
    }

    /// A peer could not be reached: the delay before it is dialled again doubles.
    pub(crate) fn on_dial_failed(&mut self, peer: &PeerId, now: Instant) {
        let (config, seed) = (self.config.peers, self.rng.u64(..));
        if let Some(known) = self.known_mut(peer) {
            let backoff = known.backoff.get_or_insert_with(|| backoff(config.retry, config.max_retry, seed));
            known.not_before = after(now, backoff.next().unwrap_or(config.max_retry));
            known.failures = known.failures.saturating_add(1);
        }
    }

    /// The last connection to a peer has closed.
    pub(super) fn on_lost(&mut self, peer: &PeerId, unix: u64, now: Instant) {
        self.postpone_dial(peer, now);
        if let Some(known) = self.known_mut(peer)
            && known.seen.is_some()
        {
            known.seen = Some(unix);
            self.changed = true;
        }
    }

    /// A peer is not to be dialled: banned, or not of this chain.
    pub(crate) fn forget_addresses(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer).and_then(|peer| peer.known.take()) {
            self.known.remove(peer, &known.addresses);
            self.changed |= known.seen.is_some();
        }
        self.drop_if_empty(peer);
    }

    /// How many peers should be dialled, with the dials under way: with too few peers, or too few that we dialled.
    pub(crate) fn missing_peers(&self) -> usize {
        let useful = || self.connected().filter(|(_, peer)| !peer.is_foreign());
        let outbound = useful().filter(|(_, peer)| peer.is_outbound()).count();
        self.config.peers.missing(useful().count(), outbound)
    }

    /// At most `count` peers to dial: none that is connected, banned or named by `skip`, none of a subnet of which
    /// enough are connected or among the addresses being `dialled`. Those with the fewest failures, among them those
    /// seen last, the rest randomly; and each in turn from another source, so that no single one decides who is dialled.
    pub(crate) fn dial_candidates<'a>(
        &mut self,
        count: usize,
        dialled: impl Iterator<Item = &'a Multiaddr>,
        skip: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Vec<DialCandidate> {
        let mut subnets = SubnetCounts::new(&self.config.peers, self.config.connections);
        let outbound = self.connected().filter(|(_, peer)| peer.is_outbound());
        let outbound = outbound.filter_map(|(_, peer)| peer.addresses().next());
        outbound.for_each(|address| subnets.add(address));
        dialled.for_each(|address| subnets.add(address));
        let candidates = self.known.all().iter().filter_map(|id| {
            let peer = self.peers.get(id)?;
            let known = peer.known.as_deref()?;
            let may = peer.connected.is_none() && peer.ban.is_none() && known.not_before <= now && !skip(id);
            may.then_some((*id, known))
        });
        // In the order of their ids, so that the same seed chooses the same from the same store.
        let mut candidates: Vec<_> = candidates.collect();
        self.rng.shuffle(&mut candidates);
        candidates.sort_by_key(|(_, known)| (known.failures, Reverse(known.seen)));
        let mut sources: Vec<(AddressSource, VecDeque<_>)> = Vec::new();
        for candidate in candidates {
            match sources.iter_mut().find(|(source, _)| *source == candidate.1.source) {
                Some((_, candidates)) => candidates.push_back(candidate),
                None => sources.push((candidate.1.source, VecDeque::from([candidate]))),
            }
        }
        let mut dials = Vec::new();
        while dials.len() < count && !sources.is_empty() {
            for (source, candidates) in &mut sources {
                let fits = |(_, known): &(_, &Known)| known.addresses.iter().any(|at| subnets.has_room(at));
                let Some(index) = candidates.iter().position(fits) else {
                    candidates.clear();
                    continue;
                };
                // Those before it have no room now, and will have none later.
                candidates.drain(..index);
                let Some((peer, known)) = candidates.pop_front().filter(|_| dials.len() < count) else {
                    break;
                };
                let mut addresses = known.addresses.clone();
                addresses.retain(|address| subnets.has_room(address));
                addresses.iter().for_each(|address| subnets.add(address));
                dials.push(DialCandidate { peer, addresses, source: *source });
            }
            sources.retain(|(_, candidates)| !candidates.is_empty());
        }
        dials
    }

    /// The node records (ENR) of the peers that have one.
    pub(crate) fn enrs(&self) -> impl Iterator<Item = &str> {
        self.known.all().iter().filter_map(|id| self.peers.get(id)?.known.as_ref()?.enr.as_deref())
    }

    /// Whether there is something new to write to disk since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What the next run should know, the peers seen last first. Connected peers are seen as of now.
    pub(crate) fn known_peers(&self, unix: u64) -> Vec<KnownPeer> {
        let known = self.known.all().iter().filter_map(|id| {
            let peer = self.peers.get(id)?;
            let known = peer.known.as_ref()?;
            let seen = known.seen?;
            let last_seen = if peer.connected.is_some() { unix } else { seen };
            let (addresses, enr) = (known.addresses.clone(), known.enr.clone());
            Some(KnownPeer { peer: *id, addresses, enr, last_seen })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|known| (Reverse(known.last_seen), known.peer));
        known
    }

    fn known_mut(&mut self, peer: &PeerId) -> Option<&mut Known> {
        self.peers.get_mut(peer)?.known.as_deref_mut()
    }

    fn set_known(&mut self, peer: PeerId, known: Known) {
        self.known.insert(peer, &known.addresses);
        self.peers.entry(peer).or_default().known = Some(Box::new(known));
    }

    /// Makes room for one more. Only a peer that was reached displaces one that was reached.
    fn make_room(&mut self, reached: bool) -> bool {
        let may_go = |known: &Known| reached || known.seen.is_none();
        self.make_room_among(self.config.peers.known.get(), None, |known| Some(known.all()), may_go)
    }

    /// Makes room for a peer at an address, among those of the same address and of the same subnet. There hearsay
    /// makes room for hearsay only after a dial has failed: else whoever comes later would displace whoever came
    /// before.
    fn make_room_at(&mut self, peer: &PeerId, address: &Multiaddr, reached: bool) -> bool {
        let Some(host) = Host::at(address).filter(|host| self.config.connections.tells_apart(*host)) else {
            return true;
        };
        let (subnet, config) = (Subnet::at(address), self.config.peers);
        let may_go = |known: &Known| reached || known.seen.is_none() && known.failures > 0;
        self.make_room_among(config.known_per_ip.get(), Some(peer), |known| known.at_host(host), may_go)
            && self.make_room_among(
                config.known_per_subnet.get(),
                Some(peer),
                |known| known.in_subnet(subnet?),
                may_go,
            )
    }

    /// Whether fewer than so many others are known in a place, if need be because the least of those that may go is
    /// forgotten. No connected peer may.
    fn make_room_among(
        &mut self,
        most: usize,
        peer: Option<&PeerId>,
        place: impl Fn(&KnownIndex) -> Option<&BTreeSet<PeerId>>,
        may_go: impl Fn(&Known) -> bool,
    ) -> bool {
        let Some(known) = place(&self.known) else { return true };
        let others = known.len() - usize::from(peer.is_some_and(|peer| known.contains(peer)));
        if others < most {
            return true;
        }
        let candidates = known.iter().filter_map(|id| {
            let peer = self.peers.get(id)?;
            let known = peer.known.as_deref().filter(|known| peer.connected.is_none() && may_go(known))?;
            Some((*id, (known.seen, Reverse(known.failures), *id)))
        });
        let Some((least, _)) = candidates.min_by_key(|(_, order)| *order) else { return false };
        self.forget_addresses(&least);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use libp2p::{identity::Keypair, swarm::ConnectionId};
    use p2p_fixtures::assert_as_cheap;
    use preconfirmation_types::Offence;

    use super::*;
    use crate::{
        NetworkConfig,
        config::ScoreConfig,
        peer_manager::{Connection, Start},
    };

    struct Rig {
        store: PeerManager,
        start: Instant,
    }

    impl Rig {
        fn new(known: usize) -> Self {
            Self::seeded(known, 1)
        }

        fn seeded(known: usize, seed: u64) -> Self {
            Self::with(|config| {
                (config.peers.known, config.seed) = (NonZeroUsize::new(known).unwrap(), Some(seed));
            })
        }

        fn with(change: impl FnOnce(&mut NetworkConfig)) -> Self {
            let (mut config, start) = (NetworkConfig::new(1, Keypair::generate_ed25519()), Instant::now());
            change(&mut config);
            Self { store: PeerManager::new(&config, Start::First, start), start }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn discovered(&mut self, port: u16) -> PeerId {
            let peer = PeerId::random();
            assert!(self.store.on_discovered(
                peer,
                [address(port)],
                None,
                AddressSource::Discovery,
                self.start
            ));
            peer
        }

        fn reached(&mut self, port: u16, unix: u64) -> PeerId {
            self.reached_at(address(port), unix)
        }

        /// A peer that was reached and has gone.
        fn reached_at(&mut self, address: Multiaddr, unix: u64) -> PeerId {
            let peer = PeerId::random();
            self.store.on_reached(peer, address, unix, self.start);
            peer
        }

        fn connect(&mut self, peer: PeerId) {
            let (id, address) = (ConnectionId::new_unchecked(1), Multiaddr::empty());
            self.store.on_connected(peer, Connection { id, address, inbound: false }, self.start);
        }

        fn disconnect(&mut self, peer: &PeerId, unix: u64) {
            let id = ConnectionId::new_unchecked(1);
            assert!(self.store.on_disconnected(peer, id, unix, self.start).is_some());
        }

        fn known(&self, peer: &PeerId) -> Option<&Known> {
            self.store.peers.get(peer)?.known.as_deref()
        }

        fn count(&self) -> usize {
            let known = self.store.peers.values().filter(|peer| peer.known.is_some()).count();
            assert_eq!(known, self.store.known.all().len());
            known
        }

        fn due(&mut self, seconds: u64) -> Vec<PeerId> {
            let now = self.at(seconds);
            self.dials(usize::MAX, now, |_| false)
        }

        fn dials(&mut self, count: usize, now: Instant, skip: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
            let dials = self.store.dial_candidates(count, std::iter::empty(), skip, now);
            dials.into_iter().map(|candidate| candidate.peer).collect()
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
        let heard = rig.discovered(1);
        let (old, young) = (rig.reached(2, 100), rig.reached(3, 200));
        // From each source in turn.
        assert_eq!(rig.due(0), [young, heard, old]);
        // A failure outweighs that.
        rig.store.on_dial_failed(&young, rig.start);
        assert_eq!(rig.due(7200), [old, heard, young]);
        let start = rig.start;
        assert_eq!(rig.dials(1, start, |peer| *peer == old), [heard]);
    }

    #[test]
    fn a_failure_doubles_the_pause_from_half_a_minute_to_an_hour() {
        let mut rig = Rig::new(10);
        let peer = rig.discovered(1);
        let mut now = rig.start;
        for base in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            rig.store.on_dial_failed(&peer, now);
            let pause = rig.known(&peer).unwrap().not_before - now;
            assert!(pause >= Duration::from_secs(base) && pause < Duration::from_secs(2 * base), "{pause:?}");
            now += pause;
            assert!(rig.dials(1, now - Duration::from_nanos(1), |_| false).is_empty());
            assert_eq!(rig.dials(1, now, |_| false).len(), 1);
        }
        // A success begins anew.
        rig.store.on_reached(peer, address(1), 5, now);
        rig.store.on_dial_failed(&peer, now);
        assert!(rig.known(&peer).unwrap().not_before - now < Duration::from_secs(60));
    }

    #[test]
    fn pauses_double_from_the_shortest_to_the_longest_set() {
        let seconds = Duration::from_secs;
        let mut rig =
            Rig::with(|config| (config.peers.retry, config.peers.max_retry) = (seconds(2), seconds(7)));
        let (peer, start) = (rig.discovered(1), rig.start);
        let pause = |rig: &Rig| rig.known(&peer).unwrap().not_before - start;
        for base in [2, 4, 7, 7] {
            rig.store.on_dial_failed(&peer, start);
            assert!((seconds(base)..seconds(2 * base)).contains(&pause(&rig)), "{:?}", pause(&rig));
        }
        rig.store.postpone_dial(&peer, start);
        assert!((seconds(2)..seconds(4)).contains(&pause(&rig)), "{:?}", pause(&rig));
    }

    #[test]
    fn an_address_and_a_subnet_have_the_places_that_are_set() {
        let mut rig = Rig::with(|config| {
            config.peers.known_per_ip = 2.try_into().unwrap();
            config.peers.known_per_subnet = 3.try_into().unwrap();
            config.peers.outbound_per_subnet = NonZeroUsize::MIN;
        });
        let (start, source) = (rig.start, AddressSource::Discovery);
        let mut hear = |host, port| {
            rig.store.on_discovered(PeerId::random(), [global(1, host, port)], None, source, start)
        };
        assert_eq!([hear(1, 1), hear(1, 2), hear(1, 3)], [true, true, false]);
        assert_eq!([hear(2, 1), hear(3, 1)], [true, false]);
        assert_eq!((rig.count(), rig.due(0).len()), (3, 1));
    }

    #[test]
    fn a_peer_that_leaves_is_left_alone_for_a_while() {
        let mut rig = Rig::new(10);
        let peer = rig.reached(1, 100);
        rig.connect(peer);
        rig.disconnect(&peer, 150);
        assert!(rig.due(29).is_empty());
        assert_eq!(rig.due(60), [peer]);
        assert_eq!(rig.store.known_peers(500)[0].last_seen, 150);
        rig.connect(peer);
        assert_eq!(rig.store.known_peers(500)[0].last_seen, 500);
    }

    #[test]
    fn what_was_not_its_fault_costs_a_peer_one_pause_and_no_more() {
        let mut rig = Rig::new(10);
        let (postponed, failed) = (rig.discovered(1), rig.discovered(2));
        for _ in 0..5 {
            rig.store.postpone_dial(&postponed, rig.start);
        }
        rig.store.on_dial_failed(&failed, rig.start);
        assert!(rig.due(29).is_empty());
        assert_eq!(rig.due(60), [postponed, failed]);
    }

    #[test]
    fn hearsay_never_pushes_out_who_was_met() {
        let mut rig = Rig::new(3);
        let (old, young) = (rig.reached(1, 100), rig.reached(2, 200));
        for port in 10..100 {
            let news = rig.store.on_discovered(
                PeerId::random(),
                [address(port)],
                None,
                AddressSource::Discovery,
                rig.start,
            );
            assert!(news, "the one place of hearsay changes hands");
        }
        assert_eq!(rig.count(), 3);
        let third = rig.reached(3, 300);
        assert!(!rig.store.on_discovered(
            PeerId::random(),
            [address(4)],
            None,
            AddressSource::Discovery,
            rig.start
        ));
        let fourth = rig.reached(4, 400);
        let known: Vec<_> = rig.store.known_peers(0).into_iter().map(|known| known.peer).collect();
        assert_eq!(known, [fourth, third, young]);
        assert!(!known.contains(&old));
    }

    #[test]
    fn the_address_that_worked_comes_first_and_only_four_are_kept() {
        let mut rig = Rig::new(3);
        let peer = rig.reached(1, 100);
        let (start, addresses) = (rig.start, (2..20).map(address));
        assert!(rig.store.on_discovered(peer, addresses, None, AddressSource::Discovery, start));
        assert!(!rig.store.on_discovered(peer, [address(1)], None, AddressSource::Discovery, start));
        assert!(!rig.store.on_discovered(PeerId::random(), [], None, AddressSource::Discovery, start));
        rig.store.on_reached(peer, address(9), 101, start);
        let known = rig.store.known_peers(0);
        assert_eq!(known[0].addresses.len(), 4);
        assert_eq!(known[0].addresses[..2], [address(9), address(1)]);
    }

    #[test]
    fn only_peers_that_were_met_are_written_down_and_only_news_is() {
        let mut rig = Rig::new(3);
        let heard = rig.discovered(1);
        assert!(!rig.store.take_changed());
        let met = rig.reached(2, 100);
        assert!(rig.store.take_changed() && !rig.store.take_changed());
        // Only connected inbound: the port it came from leads nowhere.
        rig.connect(PeerId::random());
        let known = rig.store.known_peers(0);
        assert_eq!(known.iter().map(|known| known.peer).collect::<Vec<_>>(), [met]);
        rig.store.take_changed();
        rig.store.forget_addresses(&heard);
        assert!(!rig.store.take_changed());
        rig.store.forget_addresses(&met);
        assert!(rig.store.take_changed() && rig.store.known_peers(0).is_empty());
    }

    #[test]
    fn what_was_written_down_is_dialled_again_at_once() {
        let mut rig = Rig::new(2);
        let peers = [rig.reached(1, 100), rig.reached(2, 200)];
        let known = rig.store.known_peers(0);
        let mut next = Rig::new(2);
        next.store.restore(known, next.start);
        assert_eq!(next.due(0), [peers[1], peers[0]]);
        assert!(!next.store.take_changed());
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let peers: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
        let chosen = |seed| {
            let mut rig = Rig::seeded(100, seed);
            for peer in &peers {
                assert!(rig.store.on_discovered(
                    *peer,
                    [address(1)],
                    None,
                    AddressSource::Discovery,
                    rig.start
                ));
            }
            let now = rig.start;
            rig.dials(5, now, |_| false)
        };
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn one_host_gets_the_places_of_one_host_and_dials_of_one() {
        let mut rig = Rig::new(512);
        let honest: Vec<_> = (0..30).map(|subnet| rig.reached_at(global(subnet, 1, 1), 100)).collect();
        // Identities of one host, each connected for a moment, at port after port of it.
        for port in 1000..1600 {
            let (peer, start, at) = (PeerId::random(), rig.start, global(99, 1, port));
            let _news = rig.store.on_discovered(peer, [at], None, AddressSource::Inbound, start);
            rig.connect(peer);
            rig.disconnect(&peer, 200);
        }
        assert_eq!(rig.count(), honest.len() + rig.store.config.peers.known_per_ip.get());
        let dialled = rig.due(3600);
        assert_eq!(dialled.iter().filter(|peer| honest.contains(peer)).count(), honest.len());
        assert_eq!(dialled.len(), honest.len() + rig.store.config.peers.outbound_per_subnet.get());
        // Only who was reached is known to be good.
        assert_eq!(rig.store.known_peers(0).len(), honest.len());
    }

    #[test]
    fn a_subnet_gets_its_places_and_no_more_and_hearsay_goes_after_a_failure() {
        let mut rig = Rig::new(512);
        let start = rig.start;
        let hear = |rig: &mut Rig, host| {
            let peer = PeerId::random();
            rig.store
                .on_discovered(peer, [global(1, host, 1)], None, AddressSource::Discovery, start)
                .then_some(peer)
        };
        let first: Vec<_> = (0..16).map(|host| hear(&mut rig, host).unwrap()).collect();
        assert_eq!(hear(&mut rig, 100), None);
        rig.store.on_dial_failed(&first[3], start);
        let next = hear(&mut rig, 100).unwrap();
        assert!(rig.known(&first[3]).is_none() && rig.known(&next).is_some());
        // Who was reached pushes out hearsay; a name has no subnet.
        let reached = rig.reached_at(global(1, 101, 1), 1);
        assert!(rig.known(&reached).is_some() && rig.count() == 16);
        let named = "/dns4/example.org/tcp/1".parse().unwrap();
        assert!(rig.store.on_discovered(PeerId::random(), [named], None, AddressSource::Bootnode, start));
    }

    #[test]
    fn who_is_connected_stays_whoever_comes() {
        let mut rig = Rig::new(30);
        let first: Vec<_> = (0..30)
            .map(|subnet| {
                let peer = PeerId::random();
                rig.connect(peer);
                rig.store.on_reached(peer, global(subnet, 1, 1), 100, rig.start);
                peer
            })
            .collect();
        let late = rig.reached_at(global(100, 1, 1), 300);
        assert!(first.iter().all(|peer| rig.known(peer).is_some()));
        assert!(rig.known(&late).is_none());
        rig.disconnect(&first[7], 400);
        let late = rig.reached_at(global(100, 1, 1), 500);
        assert!(rig.known(&late).is_some() && rig.known(&first[7]).is_none());
    }

    #[test]
    fn subnets_that_are_connected_are_not_dialled_again() {
        let mut rig = Rig::new(100);
        let (one, other) = (rig.reached_at(global(1, 1, 1), 1), rig.reached_at(global(2, 1, 1), 1));
        let (now, dialled) = (rig.start, [global(1, 7, 7), global(1, 8, 7)]);
        let dials = rig.store.dial_candidates(9, dialled.iter(), |_| false, now);
        assert_eq!(dials.iter().map(|candidate| candidate.peer).collect::<Vec<_>>(), [other]);
        assert!(rig.due(0).contains(&one));
    }

    #[test]
    fn a_new_address_and_a_connection_cost_no_more_where_many_peers_are_remembered() {
        let cost = |known: u8, scores: usize| {
            let mut rig = Rig::new(512);
            for subnet in 0..known {
                rig.reached_at(global(subnet, 1, 1), 100);
                rig.reached_at(global(subnet, 2, 1), 100);
            }
            for _ in 0..scores {
                rig.store.charge(PeerId::random(), Offence::Malformed, rig.start);
            }
            let peer = rig.reached_at("/ip4/8.8.8.8/tcp/1".parse().unwrap(), 100);
            rig.connect(peer);
            let addresses: Vec<Multiaddr> =
                (2..130).map(|port| format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()).collect();
            let begun = Instant::now();
            for address in addresses {
                assert!(rig.store.on_discovered(peer, [address], None, AddressSource::Inbound, rig.start));
                assert_eq!(rig.store.connected().count(), 1);
            }
            begun.elapsed()
        };
        let scores = ScoreConfig::default().max_scores.get();
        assert_as_cheap("an address and a connection", 10, || cost(250, scores), || cost(0, 0));
    }
}
