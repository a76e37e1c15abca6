//! The peer manager: one record for each peer, with its connections, score, ban, addresses, dial back-off and budgets.
//! No clock and no randomness: every call is given the time, the seed comes from the configuration.
//!
//! The service tells it what happens to peers (`on_connected`, `on_identified`, `on_discovered`, `on_disconnected`) and
//! asks it whom to dial ([`PeerManager::dial_candidates`]), whom to disconnect ([`PeerManager::prune_candidates`]) and
//! whom to ban. A record lives as long as one of its parts does, and the number of each part is bounded:
//!
//! | part | bound | when there are too many |
//! |---|---|---|
//! | connections | `connections` | the connection limits refuse more |
//! | addresses | `peers.known`, and of each address and subnet | who was never reached makes room, then who was not seen for longest |
//! | score | the connections, and `score.max_scores` of disconnected peers | of these the one closest to zero makes room |
//! | ban | `score.max_bans` | the one that would end first makes room |
//! | commitments of unelected signers | [`MAX_COUNTED`] | who brought none for longest is forgotten |
//! | sent requests | the connections, the peers with a named rate limit, and 8,192 disconnected ones | who disconnected first is forgotten |

mod file;
mod index;
mod outbound;
mod peer;
mod prune;
mod score;
mod static_peers;
mod store;
mod trusted;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use preconfirmation_types::rate_limit::{RateLimit, RateLimitPolicy};
use schnellru::{ByLength, LruMap, UnlimitedCompact};

use crate::{
    config::{ConnectionConfig, NetworkConfig, PacingConfig, PeersConfig, ScoreConfig, after},
    ip::{Host, peer_of},
};
pub(crate) use file::{KnownPeer, load, save};
#[cfg(feature = "test-utils")]
pub(crate) use file::{parse, render};
pub(crate) use outbound::{Outcome, PeerProtocol, Start};
pub(crate) use peer::{AddressSource, Ban, Connected, Connection, DialCandidate};
pub(crate) use score::ScoreState;
pub(crate) use static_peers::StaticPeerId;

use index::KnownIndex;
use peer::{MinuteCount, Peer, Slow};
use prune::Candidate;
use score::DisconnectedScores;
use static_peers::{OutageEnd, StaticPeers};

/// Most peers whose unelected commitments are counted. Fewer are ever connected.
const MAX_COUNTED: u32 = 4096;

/// How often in a minute a peer may say who it is. It does so once on each connection, and when it listens elsewhere; whoever does
/// it more often has only the last of it taken in, after that minute.
const MOST_IDENTITIES: u32 = 8;

/// The settings that concern peers.
#[derive(Debug, Clone, Copy)]
struct Config {
    peers: PeersConfig,
    connections: ConnectionConfig,
    score: ScoreConfig,
    pacing: PacingConfig,
    unelected_per_minute: u32,
}

/// All peers.
pub(crate) struct PeerManager {
    config: Config,
    policy: RateLimitPolicy,
    /// The rate limits that the operator names.
    named: HashMap<PeerId, RateLimit>,
    peers: HashMap<PeerId, Peer>,
    /// Those of `peers` that are connected.
    connected: BTreeSet<PeerId>,
    /// Those of `peers` of which addresses are known.
    known: KnownIndex,
    disconnected_scores: DisconnectedScores,
    /// Commitments of unelected signers that peers have relayed.
    relayed: LruMap<PeerId, MinuteCount, ByLength>,
    /// Commitments of unelected signers that peers have published themselves and were not charged for.
    forgiven: LruMap<PeerId, MinuteCount, ByLength>,
    trusted: HashSet<PeerId>,
    /// Disconnected peers whose sent requests still count, in the order in which they disconnected.
    departed: LruMap<PeerId, Instant, UnlimitedCompact>,
    pub(crate) static_peers: StaticPeers,
    /// Static addresses with this node's own peer id that have not been dialled.
    own_addresses: Vec<Multiaddr>,
    rng: fastrand::Rng,
    /// Whether there is something new to write to disk.
    changed: bool,
}

/// What the disconnection of a peer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnected {
    /// Whether an outage of a static peer begins.
    pub(crate) outage_begins: bool,
}

/// What a peer says of itself.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Whether it speaks the request protocols of this chain.
    pub(crate) ready: bool,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) agent: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) listen: Vec<Multiaddr>,
}

impl PeerManager {
    pub(crate) fn new(config: &NetworkConfig, start: Start, now: Instant) -> Self {
        let seed = config.effective_seed();
        let local = config.identity.public().to_peer_id();
        let (own_addresses, others): (Vec<_>, Vec<_>) =
            config.static_peers.iter().cloned().partition(|address| peer_of(address) == Some(local));
        for address in &own_addresses {
            tracing::warn!(%address, "a static peer is this node itself: it is dialled once, in case another node has its key");
        }
        Self {
            config: Config {
                peers: config.peers,
                connections: config.connections,
                score: config.score,
                pacing: config.pacing,
                unelected_per_minute: config.gossip.unelected_per_minute,
            },
            policy: config.pacing.policy(start == Start::Restart, now),
            named: config.rate_limits.clone(),
            peers: HashMap::new(),
            connected: BTreeSet::new(),
            known: KnownIndex::default(),
            disconnected_scores: DisconnectedScores::new(now),
            relayed: LruMap::new(ByLength::new(MAX_COUNTED)),
            forgiven: LruMap::new(ByLength::new(MAX_COUNTED)),
            departed: LruMap::new(UnlimitedCompact),
            trusted: config.trusted_peers.iter().copied().collect(),
            static_peers: StaticPeers::new(&others, config.redial, seed, now),
            own_addresses,
            rng: fastrand::Rng::with_seed(seed),
            changed: false,
        }
    }

    /// The static addresses with this node's own peer id, the first time.
    pub(crate) fn take_own_addresses(&mut self) -> Vec<Multiaddr> {
        std::mem::take(&mut self.own_addresses)
    }

    /// Whether a peer is static or trusted: it is never pruned and never banned.
    pub(crate) fn is_protected(&self, peer: &PeerId) -> bool {
        self.trusted.contains(peer) || self.static_peers.contains(peer)
    }

    /// The protected peers whose id is known.
    pub(crate) fn protected(&self) -> Vec<PeerId> {
        self.trusted.iter().copied().chain(self.static_peers.peers()).collect()
    }

    // Connections.

    pub(crate) fn on_connected(&mut self, peer: PeerId, connection: Connection, now: Instant) {
        let record = self.peers.entry(peer).or_default();
        record.connected.get_or_insert_with(|| Box::new(Connected::new(now))).open(connection);
        self.connected.insert(peer);
        if let Some(score) = &mut record.score {
            self.disconnected_scores.remove(peer, score);
        }
        self.static_peers.on_connected(&peer, now);
    }

    /// A connection has closed. `None` if there is another one to this peer.
    pub(crate) fn on_disconnected(
        &mut self,
        peer: &PeerId,
        id: ConnectionId,
        unix: u64,
        now: Instant,
    ) -> Option<Disconnected> {
        let record = self.peers.get_mut(peer)?;
        if !record.connected.as_deref_mut()?.close(id) {
            return None;
        }
        record.connected = None;
        self.connected.remove(peer);
        self.on_score_disconnected(*peer);
        self.close_outbound(peer, now);
        self.on_lost(peer, unix, now);
        self.drop_if_empty(peer);
        Some(Disconnected { outage_begins: self.static_peers.on_disconnected(peer, now) })
    }

    /// A peer has identified itself on this connection. Whether it has become ready, or has ceased to be; `None` if neither.
    pub(crate) fn on_identified(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        identity: Identity,
        unix: u64,
        now: Instant,
    ) -> Option<bool> {
        let connected = self.connection_mut(&peer)?;
        connected.identified.add(now);
        if connected.identified.exceeds(MOST_IDENTITIES, now) {
            connected.postponed = Some(Box::new((id, identity)));
            return None;
        }
        connected.postponed = None;
        let connection = connected.connection(id).cloned();
        let Identity { ready, rate_limit, agent, protocols, listen } = identity;
        self.on_advertised(peer, rate_limit);
        if let Some(Connection { address, inbound, .. }) = connection {
            if let Some(OutageEnd { after, attempts }) = self.static_peers.on_identified(&peer, now) {
                tracing::info!(%peer, ?after, attempts, "static peer is connected again");
            }
            if ready {
                // Its listen addresses are trusted only at the IP where we see it: else it could send us to others.
                let ip = crate::ip::ip_of(&address);
                let listen = listen.into_iter().filter(|at| ip.is_some() && crate::ip::ip_of(at) == ip);
                let source = if inbound { AddressSource::Inbound } else { AddressSource::Store };
                let _news = self.on_discovered(peer, listen, None, source, now);
                // An inbound connection comes from a port where nobody listens.
                if !inbound {
                    self.on_reached(peer, address, unix, now);
                }
            } else {
                self.forget_addresses(&peer);
            }
        }
        let connected = self.peers.get_mut(&peer)?.connected.as_deref_mut()?;
        let changed = std::mem::replace(&mut connected.ready, ready) != ready;
        (connected.agent, connected.protocols) = (Some(agent), protocols);
        changed.then_some(ready)
    }

    /// What peers have said of themselves too often, and what may be taken in now.
    pub(crate) fn take_postponed(&mut self, now: Instant) -> Vec<(PeerId, ConnectionId, Identity)> {
        let due = |connected: &Connected| connected.postponed.is_some() && connected.identified.is_over(now);
        let due: Vec<_> = self.connected().filter(|(_, of)| due(of)).map(|(peer, _)| *peer).collect();
        let postponed = due.into_iter().filter_map(|peer| {
            let (id, identity) = *self.connection_mut(&peer)?.postponed.take()?;
            Some((peer, id, identity))
        });
        postponed.collect()
    }

    /// The connected peers.
    pub(crate) fn connected(&self) -> impl Iterator<Item = (&PeerId, &Connected)> {
        self.connected.iter().filter_map(|id| Some((id, self.connection(id)?)))
    }

    /// A peer, if it is connected.
    pub(crate) fn connection(&self, peer: &PeerId) -> Option<&Connected> {
        self.peers.get(peer)?.connected.as_deref()
    }

    pub(crate) fn connection_mut(&mut self, peer: &PeerId) -> Option<&mut Connected> {
        self.peers.get_mut(peer)?.connected.as_deref_mut()
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connection(peer).is_some()
    }

    /// Whether a connection may be closed without failing a request of either side.
    pub(crate) fn is_quiet(&self, peer: &PeerId, now: Instant) -> bool {
        self.connection(peer).is_none_or(|connected| connected.in_flight.is_quiet(now))
    }

    /// gossipsub reports that the send queue of a peer was full, or that messages grew too old there. Returns for how
    /// long it has done so without a break of `memory`.
    pub(crate) fn on_slow(&mut self, peer: &PeerId, memory: Duration, now: Instant) -> Duration {
        let Some(connected) = self.connection_mut(peer) else { return Duration::ZERO };
        let slow = connected.slow.filter(|slow| now.saturating_duration_since(slow.last) <= memory);
        let since = slow.map_or(now, |slow| slow.since);
        connected.slow = Some(Slow { since, last: now });
        now.saturating_duration_since(since)
    }

    /// Whether gossipsub has reported a peer as slow since then.
    pub(crate) fn was_slow_since(&self, peer: &PeerId, since: Instant) -> bool {
        self.connection(peer).and_then(|connected| connected.slow).is_some_and(|slow| slow.last >= since)
    }

    /// Whom to disconnect because there are too many peers, or too few free inbound places. `score`: gossipsub's total of a peer.
    pub(crate) fn prune_candidates(&self, score: impl Fn(&PeerId) -> f64, now: Instant) -> Vec<PeerId> {
        let candidate = |(id, connected): (&PeerId, &Connected)| Candidate {
            peer: *id,
            score: score(id),
            ready: connected.ready,
            protected: self.is_protected(id),
            outbound: connected.is_outbound(),
            in_flight: !connected.in_flight.is_quiet(now),
            used: connected.used,
            since: connected.since,
        };
        let candidates: Vec<_> = self.connected().map(candidate).collect();
        let mut peers = prune::unused(&candidates, self.config.connections.max_inbound as usize, now);
        let excess = self.config.peers.prune_candidates(&candidates, now);
        peers.extend(excess.into_iter().filter(|peer| !peers.contains(peer)).collect::<Vec<_>>());
        peers
    }

    // Bans.

    /// Bans a peer and forgets where it can be dialled. Returns the peer whose ban was given up for it, the one that
    /// would have ended first.
    #[must_use]
    pub(crate) fn ban(&mut self, peer: PeerId, now: Instant) -> Option<PeerId> {
        let connected = self.connection(&peer);
        let address = connected.and_then(|connected| connected.addresses().next().cloned());
        let agent = connected.and_then(|connected| connected.agent.clone());
        let until = after(now, self.config.score.ban_for);
        self.forget_addresses(&peer);
        self.add_ban(peer, Ban { until, address: address.unwrap_or_else(Multiaddr::empty), agent })
    }

    fn add_ban(&mut self, peer: PeerId, ban: Ban) -> Option<PeerId> {
        let mut freed = None;
        if !self.is_banned(&peer) && self.bans().count() >= self.config.score.max_bans.get() {
            freed = self.bans().min_by_key(|(_, ban)| ban.until).map(|(peer, _)| *peer);
            if let Some(freed) = freed {
                self.lift_ban(&freed);
            }
        }
        self.peers.entry(peer).or_default().ban = Some(Box::new(ban));
        freed
    }

    /// Ends the bans whose time is up and returns whose they were.
    #[must_use]
    pub(crate) fn expire_bans(&mut self, now: Instant) -> Vec<PeerId> {
        let expired = self.bans().filter(|(_, ban)| ban.until <= now).map(|(peer, _)| *peer);
        let expired: Vec<_> = expired.collect();
        expired.iter().for_each(|peer| {
            self.lift_ban(peer);
        });
        expired
    }

    /// Ends a ban before its time and forgives what led to it. Whether the peer was banned.
    pub(crate) fn unban(&mut self, peer: &PeerId) -> bool {
        let banned = self.lift_ban(peer);
        if banned {
            self.forgive(peer);
        }
        banned
    }

    fn lift_ban(&mut self, peer: &PeerId) -> bool {
        let banned = self.peers.get_mut(peer).is_some_and(|peer| peer.ban.take().is_some());
        self.drop_if_empty(peer);
        banned
    }

    pub(crate) fn is_banned(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.ban.is_some())
    }

    pub(crate) fn bans(&self) -> impl Iterator<Item = (&PeerId, &Ban)> {
        self.peers.iter().filter_map(|(id, peer)| Some((id, peer.ban.as_deref()?)))
    }

    /// The hosts of at least so many banned peers: whoever makes a new key for each ban has no new address.
    pub(crate) fn banned_hosts(&self, least: NonZeroUsize) -> HashSet<Host> {
        let mut counts = HashMap::<_, usize>::new();
        for host in self.bans().filter_map(|(_, ban)| Host::at(&ban.address)) {
            *counts.entry(host).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count >= least.get()).map(|(host, _)| host).collect()
    }

    // Commitments of unelected signers.

    /// A peer has relayed a commitment whose signer nobody has elected.
    pub(crate) fn on_relayed_unelected(&mut self, peer: PeerId, now: Instant) {
        count(&mut self.relayed, peer, now);
    }

    /// A peer has published a commitment whose signer nobody has elected, and was not charged for it.
    pub(crate) fn on_forgiven(&mut self, peer: PeerId, now: Instant) {
        count(&mut self.forgiven, peer, now);
    }

    /// Whether a peer has relayed more of these within a minute than it may.
    pub(crate) fn is_over_relay_budget(&self, peer: &PeerId, now: Instant) -> bool {
        self.is_over_budget(self.relayed.peek(peer), now)
    }

    /// Whether a peer was forgiven so many within a minute that what it publishes cannot be the commitments of a preconfer,
    /// however wrong our schedule is.
    pub(crate) fn is_forgiven_enough(&self, peer: &PeerId, now: Instant) -> bool {
        self.is_over_budget(self.forgiven.peek(peer), now)
    }

    fn is_over_budget(&self, count: Option<&MinuteCount>, now: Instant) -> bool {
        count.is_some_and(|count| count.exceeds(self.config.unelected_per_minute, now))
    }

    // Housekeeping.

    /// Drops what is over: scores that have decayed to nothing, counts of a minute, empty records.
    pub(crate) fn prune(&mut self, now: Instant) {
        self.prune_departed(now);
        let config = self.config.score;
        self.peers.retain(|id, peer| {
            if let Some(mut score) = peer.score.take_if(|score| score.is_negligible(&config, now)) {
                self.disconnected_scores.remove(*id, &mut score);
            }
            !peer.is_empty()
        });
        for counts in [&mut self.relayed, &mut self.forgiven] {
            while counts.peek_oldest().is_some_and(|(_, count)| count.is_over(now)) {
                counts.pop_oldest();
            }
        }
    }

    fn drop_if_empty(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(Peer::is_empty) {
            self.peers.remove(peer);
        }
    }
}

fn count(counts: &mut LruMap<PeerId, MinuteCount, ByLength>, peer: PeerId, now: Instant) {
    if let Some(count) = counts.get_or_insert(peer, || MinuteCount::new(now)) {
        count.add(now);
    }
}

/// Delays between dials: doubled after each failure, plus up to as much at random, without an end.
fn backoff(min: Duration, max: Duration, seed: u64) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(min)
        .with_max_delay(max)
        .with_jitter()
        .with_jitter_seed(seed)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use p2p_fixtures::assert_as_cheap;
    use preconfirmation_types::Offence;

    use super::*;

    fn manager(change: impl FnOnce(&mut NetworkConfig)) -> (PeerManager, Instant) {
        let (mut config, now) = (NetworkConfig::new(1, Keypair::generate_ed25519()), Instant::now());
        change(&mut config);
        (PeerManager::new(&config, Start::First, now), now)
    }

    fn with_bans(max: usize) -> (PeerManager, Instant) {
        manager(|config| config.score.max_bans = max.try_into().unwrap())
    }

    fn until(until: Instant) -> Ban {
        Ban { until, address: Multiaddr::empty(), agent: None }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ban_ends_when_its_time_is_up() {
        let (mut bans, now) = with_bans(8);
        let peer = PeerId::random();
        assert_eq!(bans.add_ban(peer, until(now + HOUR)), None);
        assert!(bans.expire_bans(now + Duration::from_secs(3599)).is_empty());
        assert_eq!(bans.expire_bans(now + HOUR), [peer]);
        assert_eq!(bans.bans().count(), 0);
    }

    #[test]
    fn a_ban_can_be_lifted_once() {
        let (mut bans, now) = with_bans(8);
        let peer = PeerId::random();
        assert_eq!(bans.add_ban(peer, until(now + HOUR)), None);
        assert!(bans.unban(&peer));
        assert!(!bans.unban(&peer));
        assert!(bans.expire_bans(now + HOUR).is_empty());
    }

    #[test]
    fn several_bans_of_one_host_are_a_ban_of_the_host() {
        let (mut bans, now) = with_bans(8);
        let two = NonZeroUsize::new(2).unwrap();
        let mut add = |address: &str, seconds| {
            let until = now + Duration::from_secs(seconds);
            let ban = Ban { until, address: address.parse().unwrap(), agent: None };
            assert_eq!(bans.add_ban(PeerId::random(), ban), None);
        };
        add("/ip4/1.1.1.1/tcp/1", 1);
        add("/ip4/1.1.1.2/tcp/1", 9);
        add("/ip4/1.1.1.1/udp/2/quic-v1", 9);
        assert_eq!(bans.banned_hosts(two), HashSet::from([Host::of([1, 1, 1, 1].into())]));
        // The first of them is over, and so is that of the host.
        assert_eq!(bans.expire_bans(now + Duration::from_secs(1)).len(), 1);
        assert_eq!(bans.banned_hosts(two), HashSet::new());
    }

    #[test]
    fn a_full_list_gives_up_the_ban_that_ends_first() {
        let (mut bans, now) = with_bans(2);
        let (first, second, third) = (PeerId::random(), PeerId::random(), PeerId::random());
        assert_eq!(bans.add_ban(second, until(now + Duration::from_secs(2))), None);
        assert_eq!(bans.add_ban(first, until(now + Duration::from_secs(1))), None);
        assert_eq!(bans.add_ban(first, until(now + Duration::from_secs(1))), None);
        assert_eq!(bans.add_ban(third, until(now + Duration::from_secs(3))), Some(first));
        assert_eq!(bans.bans().count(), 2);
    }

    #[test]
    fn a_ban_forgives_when_it_is_lifted_and_forgets_addresses_when_it_begins() {
        let (mut peers, now) = with_bans(8);
        let (peer, address) = (PeerId::random(), "/ip4/1.1.1.1/tcp/1".parse::<Multiaddr>().unwrap());
        peers.on_reached(peer, address, 1, now);
        peers.charge(peer, Offence::Malformed, now);
        assert_eq!(peers.ban(peer, now), None);
        assert!(peers.is_banned(&peer) && peers.known_peers(1).is_empty());
        assert!(peers.unban(&peer));
        assert_eq!(peers.application_score(&peer, now), 0.0);
        assert!(peers.peers.is_empty(), "nothing is left of it");
    }

    #[test]
    fn who_says_without_end_who_it_is_is_heard_a_few_times_a_minute() {
        let (mut peers, start) = manager(|_| ());
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
        let address = "/ip4/1.1.1.1/tcp/1".parse().unwrap();
        peers.on_connected(peer, Connection { id, address, inbound: true }, start);
        let identity = |n: usize| Identity {
            ready: n.is_multiple_of(2),
            rate_limit: None,
            agent: n.to_string(),
            protocols: Vec::new(),
            listen: vec![format!("/ip4/1.1.1.1/tcp/{}", n + 1).parse().unwrap()],
        };
        let most = MOST_IDENTITIES as usize;
        for n in 0..1000 {
            let changed = peers.on_identified(peer, id, identity(n), 1, start);
            assert_eq!(changed, (n < most).then_some(n.is_multiple_of(2)), "{n}");
        }
        let later = start + Duration::from_secs(60);
        assert!(peers.take_postponed(later - Duration::from_nanos(1)).is_empty());
        let postponed = peers.take_postponed(later);
        let agents: Vec<_> = postponed.iter().map(|(peer, id, of)| (*peer, *id, of.agent.as_str())).collect();
        assert_eq!(agents, [(peer, id, "999")]);
        assert!(peers.take_postponed(later).is_empty());
        // What comes in time is newer than what was postponed.
        for n in 0..=most {
            assert_eq!(peers.on_identified(peer, id, identity(n), 1, later).is_some(), n < most);
        }
        let now = later + Duration::from_secs(60);
        assert_eq!(peers.on_identified(peer, id, identity(0), 1, now), Some(true));
        assert!(peers.take_postponed(now + Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn static_peers_are_redialled_as_is_set() {
        let (peer, seconds) = (PeerId::random(), Duration::from_secs);
        let (mut peers, mut now) = manager(|config| {
            config.static_peers = vec![format!("/ip4/1.1.1.1/tcp/1/p2p/{peer}").parse().unwrap()];
            let redial = &mut config.redial;
            (redial.min_delay, redial.max_delay, redial.stable_after) = (seconds(7), seconds(9), seconds(11));
        });
        let wait =
            |peers: &PeerManager, now: Instant| (peers.static_peers.next_deadline().unwrap() - now).as_secs();
        for least in [7, 9, 9] {
            let (id, _) = peers.static_peers.next_dial(now).unwrap();
            let _begins = peers.static_peers.on_dial_failed(id, &"refused", now);
            assert!((least..2 * least).contains(&wait(&peers, now)));
            now = peers.static_peers.next_deadline().unwrap();
        }
        for (lasts, least) in [(10, 9), (11, 7)] {
            peers.static_peers.on_connected(&peer, now);
            let _outage = peers.static_peers.on_identified(&peer, now);
            now += seconds(lasts);
            assert!(peers.static_peers.on_disconnected(&peer, now));
            assert!((least..2 * least).contains(&wait(&peers, now)), "{lasts}");
        }
    }

    #[test]
    fn a_relay_budget_is_for_a_minute_and_for_each_peer() {
        let (mut relays, start) = manager(|config| config.gossip.unelected_per_minute = 2);
        let (one, other) = (PeerId::random(), PeerId::random());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, over) in [(0, false), (1, false), (2, true)] {
            relays.on_relayed_unelected(one, at(second));
            assert_eq!(relays.is_over_relay_budget(&one, at(second)), over);
        }
        assert!(!relays.is_over_relay_budget(&other, at(2)));
        assert!(relays.is_over_relay_budget(&one, at(59)));
        relays.prune(at(59));
        assert!(relays.is_over_relay_budget(&one, at(59)) && !relays.is_over_relay_budget(&one, at(60)));
        relays.on_relayed_unelected(one, at(60));
        assert!(!relays.is_over_relay_budget(&one, at(60)));
        relays.prune(at(120));
        assert!(relays.relayed.is_empty());
    }

    #[test]
    fn of_relays_without_number_those_that_go_on_are_counted() {
        let (mut relays, start) = manager(|config| config.gossip.unelected_per_minute = 2);
        let peer = PeerId::random();
        for n in 0..2 * MAX_COUNTED {
            relays.on_relayed_unelected(PeerId::random(), start);
            relays.on_forgiven(PeerId::random(), start);
            if n % (MAX_COUNTED / 2) == 0 {
                relays.on_relayed_unelected(peer, start);
            }
        }
        assert!(relays.is_over_relay_budget(&peer, start));
        assert_eq!([relays.relayed.len(), relays.forgiven.len()], [MAX_COUNTED as usize; 2]);
    }

    #[test]
    fn a_count_costs_no_more_where_as_many_are_counted_as_may_be() {
        let cost = |counted: u32| {
            let (mut relays, start) = manager(|_| ());
            (0..counted).for_each(|_| relays.on_relayed_unelected(PeerId::random(), start));
            let newcomers: Vec<_> = std::iter::repeat_with(PeerId::random).take(128).collect();
            let begun = Instant::now();
            newcomers.into_iter().for_each(|peer| relays.on_relayed_unelected(peer, start));
            begun.elapsed()
        };
        assert_as_cheap("a count", 10, || cost(MAX_COUNTED), || cost(0));
    }

    #[test]
    fn a_slow_peer_is_slow_since_its_first_report_without_a_break() {
        let (mut peers, start) = manager(|_| ());
        let (peer, second) = (PeerId::random(), Duration::from_secs(1));
        assert_eq!(peers.on_slow(&peer, second, start), Duration::ZERO, "not connected");
        let (id, address) = (ConnectionId::new_unchecked(1), Multiaddr::empty());
        peers.on_connected(peer, Connection { id, address, inbound: true }, start);
        for half in 0..4 {
            let now = start + second / 2 * half;
            assert_eq!(peers.on_slow(&peer, second, now), second / 2 * half);
        }
        assert_eq!(peers.on_slow(&peer, second, start + second * 10), Duration::ZERO);
    }
}
