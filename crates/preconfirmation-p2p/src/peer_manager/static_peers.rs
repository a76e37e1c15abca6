//! Static peers: dialled until they are connected, and again whenever they are lost. No clock and no randomness: every
//! call is given the time, the seed comes from the configuration.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use backon::ExponentialBackoff;
use libp2p::{Multiaddr, PeerId};

use super::backoff;
use crate::{
    config::{RedialConfig, after},
    handle::{StaticPeerInfo, StaticPeerState},
    ip::peer_of,
};

/// A peer to dial, at all of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    /// Who has to answer; anybody if it is not known.
    pub(crate) peer: Option<PeerId>,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Which of the static peers; its peer id may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaticPeerId(usize);

/// The end of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutageEnd {
    /// How long it took.
    pub(crate) after: Duration,
    /// Failed dials.
    pub(crate) attempts: u32,
}

/// All static peers.
#[derive(Debug)]
pub(crate) struct StaticPeers {
    config: RedialConfig,
    peers: Vec<StaticPeer>,
}

#[derive(Debug)]
struct StaticPeer {
    dial: Dial,
    /// Who answered there, if nobody was asked for by name.
    found: Option<PeerId>,
    seed: u64,
    state: State,
    /// Since when it has been connected and known by what it says of itself.
    identified: Option<Instant>,
    outage: Option<Outage>,
    /// Why the last dial of this outage failed.
    last_error: Option<String>,
    /// When it was connected, or lost, or first dialled.
    since: Instant,
    /// The waits of this outage, and of the ones before it as long as no connection has lasted.
    backoff: Option<ExponentialBackoff>,
}

/// Connected ends when the peer is lost, Dialling when the dial has succeeded or failed, Waiting in time. All
/// of them end when the peer connects by itself. Local has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    Dialling,
    Waiting(Instant),
    Local,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    attempts: u32,
}

impl StaticPeers {
    /// Addresses with the same peer id are one peer; one without an id is a peer of its own. All are due.
    pub(crate) fn new(addresses: &[Multiaddr], config: RedialConfig, seed: u64, now: Instant) -> Self {
        let mut peers: Vec<StaticPeer> = Vec::new();
        for address in addresses {
            let peer = peer_of(address);
            let known = peers.iter_mut().find(|known| peer.is_some() && known.dial.peer == peer);
            match known {
                Some(known) => known.dial.addresses.push(address.clone()),
                None => peers.push(StaticPeer {
                    dial: Dial { peer, addresses: vec![address.clone()] },
                    found: None,
                    seed: seed.wrapping_add(peers.len() as u64),
                    state: State::Waiting(now),
                    identified: None,
                    outage: None,
                    last_error: None,
                    since: now,
                    backoff: None,
                }),
            }
        }
        Self { config, peers }
    }

    /// The static peers whose id is known.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter_map(StaticPeer::id)
    }

    /// Whether a peer is one of them.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.peers().any(|known| known == *peer)
    }

    /// All of them, whether they are connected or not.
    pub(crate) fn infos(&self, now: Instant) -> Vec<StaticPeerInfo> {
        self.peers.iter().map(|peer| peer.info(now)).collect()
    }

    /// When the next dial is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.peers.iter().filter_map(|peer| match peer.state {
            State::Waiting(until) => Some(until),
            State::Connected | State::Dialling | State::Local => None,
        });
        waiting.min()
    }

    /// A peer to dial, if one is due. Its dial is under way from here on.
    pub(crate) fn next_dial(&mut self, now: Instant) -> Option<(StaticPeerId, Dial)> {
        let is_due = |peer: &StaticPeer| matches!(peer.state, State::Waiting(until) if until <= now);
        let index = self.peers.iter().position(is_due)?;
        let peer = self.peers.get_mut(index)?;
        peer.state = State::Dialling;
        Some((StaticPeerId(index), peer.dial.clone()))
    }

    /// A dial has failed. Whether that begins an outage: the first failure does.
    #[must_use]
    pub(crate) fn on_dial_failed(&mut self, id: StaticPeerId, error: &impl Display, now: Instant) -> bool {
        let config = self.config;
        let peer = self.peers.get_mut(id.0).filter(|peer| peer.state == State::Dialling);
        peer.is_some_and(|peer| {
            peer.last_error = Some(error.to_string());
            peer.wait(config, now)
        })
    }

    /// A dial has reached this node itself: the address is not dialled any more.
    pub(crate) fn on_local_peer(&mut self, id: StaticPeerId) {
        if let Some(peer) = self.peers.get_mut(id.0) {
            peer.state = State::Local;
        }
    }

    /// A dial has succeeded, and says who answered. Who answered there before, if it was somebody else.
    #[must_use]
    pub(crate) fn on_dialled(&mut self, id: StaticPeerId, peer: PeerId) -> Option<PeerId> {
        let known = self.peers.get_mut(id.0).filter(|known| known.dial.peer.is_none())?;
        known.found.replace(peer).filter(|before| *before != peer)
    }

    /// A peer is connected, whoever dialled.
    pub(crate) fn on_connected(&mut self, peer: &PeerId, now: Instant) {
        for known in self.peers.iter_mut().filter(|known| known.id() == Some(*peer)) {
            if known.state != State::Connected {
                (known.state, known.since, known.last_error) = (State::Connected, now, None);
            }
        }
    }

    /// A connected peer has said who it is. The outage that this ends, if there was one.
    #[must_use]
    pub(crate) fn on_identified(&mut self, peer: &PeerId, now: Instant) -> Option<OutageEnd> {
        let mut back = None;
        for known in self.peers.iter_mut().filter(|known| known.id() == Some(*peer)) {
            known.identified.get_or_insert(now);
            if let Some(outage) = known.outage.take() {
                let after = now.saturating_duration_since(outage.since);
                back = Some(OutageEnd { after, attempts: outage.attempts });
            }
        }
        back
    }

    /// The last connection to a peer has closed. Whether that begins an outage of a static peer.
    #[must_use]
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId, now: Instant) -> bool {
        let config = self.config;
        let mut begins = false;
        for known in self.peers.iter_mut() {
            if known.id() == Some(*peer) && known.state == State::Connected {
                let identified = known.identified.take();
                let lasted = identified.map(|since| now.saturating_duration_since(since));
                if lasted.is_some_and(|lasted| lasted >= config.stable_after) {
                    known.backoff = None;
                }
                known.since = now;
                begins |= known.wait(config, now);
            }
        }
        begins
    }
}

impl StaticPeer {
    fn info(&self, now: Instant) -> StaticPeerInfo {
        StaticPeerInfo {
            peer: self.id(),
            addresses: self.dial.addresses.clone(),
            state: match self.state {
                State::Connected => StaticPeerState::Connected,
                State::Dialling => StaticPeerState::Dialling,
                State::Waiting(_) => StaticPeerState::Waiting,
                State::Local => StaticPeerState::Local,
            },
            connected_or_lost_for: now.saturating_duration_since(self.since),
            attempts: self.outage.as_ref().map_or(0, |outage| outage.attempts),
            last_error: self.last_error.clone(),
        }
    }

    fn id(&self) -> Option<PeerId> {
        self.dial.peer.or(self.found)
    }

    /// Waits for the next dial, longer each time until a connection has lasted. Whether an outage begins.
    fn wait(&mut self, config: RedialConfig, now: Instant) -> bool {
        let seed = self.seed;
        let backoff = self.backoff.get_or_insert_with(|| backoff(config.min_delay, config.max_delay, seed));
        // The backoff has no end.
        let delay = backoff.next().unwrap_or(config.max_delay);
        self.state = State::Waiting(after(now, delay));
        let begins = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: now, attempts: 0 });
        outage.attempts = outage.attempts.saturating_add(1);
        begins
    }
}

#[cfg(test)]
mod tests {
    use libp2p::multiaddr::Protocol;

    use super::*;

    const CONFIG: RedialConfig = RedialConfig {
        min_delay: Duration::from_secs(2),
        max_delay: Duration::from_secs(20),
        stable_after: Duration::from_secs(90),
    };

    /// A peer is connected and has said who it is.
    fn back(statics: &mut StaticPeers, peer: &PeerId, now: Instant) -> Option<OutageEnd> {
        statics.on_connected(peer, now);
        statics.on_identified(peer, now)
    }

    fn address(port: u16, peer: Option<PeerId>) -> Multiaddr {
        let address: Multiaddr = format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap();
        peer.map_or(address.clone(), |peer| address.with(Protocol::P2p(peer)))
    }

    /// The wait that a failed dial leads to.
    fn fail(statics: &mut StaticPeers, now: Instant) -> Duration {
        let (target, _) = statics.next_dial(now).unwrap();
        assert_eq!(statics.next_deadline(), None);
        let _begins = statics.on_dial_failed(target, &"refused", now);
        statics.next_deadline().unwrap() - now
    }

    #[test]
    fn waits_double_up_to_the_longest_and_never_end() {
        let mut now = Instant::now();
        let mut statics = StaticPeers::new(&[address(1, Some(PeerId::random()))], CONFIG, 7, now);
        let mut delays = Vec::new();
        for _ in 0..1000 {
            let delay = fail(&mut statics, now);
            assert!(statics.next_dial(now + delay - Duration::from_nanos(1)).is_none());
            now += delay;
            delays.push(delay);
        }
        for (delay, base) in delays.iter().zip([2, 4, 8, 16, 20, 20, 20]) {
            let base = Duration::from_secs(base);
            assert!(*delay >= base && *delay < 2 * base, "{delay:?} for {base:?}");
        }
        assert!(delays[999] >= Duration::from_secs(20));
        // Jitter: equal bases, different waits.
        assert_ne!(delays[7], delays[8]);
    }

    #[test]
    fn the_same_seed_waits_the_same_and_two_peers_differ() {
        let now = Instant::now();
        let (one, other) = (address(1, Some(PeerId::random())), address(2, Some(PeerId::random())));
        let waits = |seed| {
            let mut statics = StaticPeers::new(&[one.clone(), other.clone()], CONFIG, seed, now);
            let targets: Vec<_> =
                std::iter::from_fn(|| statics.next_dial(now)).map(|(target, _)| target).collect();
            let mut wait = |target| {
                assert!(statics.on_dial_failed(target, &"refused", now));
                statics.peers[target.0].state
            };
            (wait(targets[0]), wait(targets[1]))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert_ne!(waits(1).0, waits(1).1);
    }

    #[test]
    fn an_outage_is_announced_once_and_its_end_once() {
        let start = Instant::now();
        let peer = PeerId::random();
        let mut statics = StaticPeers::new(&[address(1, Some(peer))], CONFIG, 0, start);
        let (target, _) = statics.next_dial(start).unwrap();
        assert!(statics.on_dial_failed(target, &"refused", start));
        for seconds in [10, 20, 40] {
            let now = start + Duration::from_secs(seconds);
            let (target, _) = statics.next_dial(now).unwrap();
            assert!(!statics.on_dial_failed(target, &"refused", now));
        }
        let ended = back(&mut statics, &peer, start + Duration::from_secs(60));
        assert_eq!(ended, Some(OutageEnd { after: Duration::from_secs(60), attempts: 4 }));
        assert_eq!(statics.next_deadline(), None);
        // A second connection ends nothing; a loss begins a new outage.
        assert_eq!(back(&mut statics, &peer, start + Duration::from_secs(61)), None);
        let lost = start + Duration::from_secs(70);
        assert!(statics.on_disconnected(&peer, lost));
        assert!(!statics.on_disconnected(&peer, lost));
        let due = statics.next_deadline().unwrap();
        let (target, _) = statics.next_dial(due).unwrap();
        assert!(!statics.on_dial_failed(target, &"refused", due));
        let ended = back(&mut statics, &peer, due + Duration::from_secs(9)).unwrap();
        assert_eq!((ended.after, ended.attempts), (due + Duration::from_secs(9) - lost, 2));
    }

    #[test]
    fn only_a_connection_that_lasted_begins_the_waits_anew() {
        let mut now = Instant::now();
        let peer = PeerId::random();
        let mut statics = StaticPeers::new(&[address(1, Some(peer))], CONFIG, 0, now);
        let connect = |statics: &mut StaticPeers, now| {
            let _dial = statics.next_dial(now).unwrap();
            statics.on_connected(&peer, now);
        };
        let wait = |statics: &StaticPeers, now: Instant| (statics.next_deadline().unwrap() - now).as_secs();
        // A server that is full: it takes the connection and closes it at once, again and again.
        for (attempt, least) in [2, 4, 8, 16, 20].into_iter().enumerate() {
            connect(&mut statics, now);
            assert_eq!(statics.on_disconnected(&peer, now), attempt == 0, "one outage");
            let waits = wait(&statics, now);
            assert!((least..2 * least).contains(&waits), "{waits} s, not {least}");
            now = statics.next_deadline().unwrap();
        }
        // It says who it is, but does not last.
        connect(&mut statics, now);
        assert_eq!(statics.on_identified(&peer, now).unwrap().attempts, 5);
        now += CONFIG.stable_after - Duration::from_nanos(1);
        assert!(statics.on_disconnected(&peer, now));
        assert!(wait(&statics, now) >= 20);
        now = statics.next_deadline().unwrap();
        connect(&mut statics, now);
        assert!(statics.on_identified(&peer, now).is_some());
        now += CONFIG.stable_after;
        assert!(statics.on_disconnected(&peer, now));
        assert!(wait(&statics, now) < 4);
    }

    #[test]
    fn an_address_of_this_node_itself_is_dialled_once() {
        let now = Instant::now();
        let mut statics = StaticPeers::new(&[address(1, None)], CONFIG, 0, now);
        let (target, _) = statics.next_dial(now).unwrap();
        statics.on_local_peer(target);
        assert_eq!(statics.next_deadline(), None);
        assert!(!statics.on_dial_failed(target, &"refused", now));
    }

    #[test]
    fn a_first_dial_that_succeeds_is_no_outage() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut statics = StaticPeers::new(&[address(1, Some(peer))], CONFIG, 0, now);
        assert!(statics.next_dial(now).is_some() && statics.next_dial(now).is_none());
        assert_eq!(back(&mut statics, &peer, now), None);
    }

    #[test]
    fn a_peer_that_connects_by_itself_is_not_dialled_and_the_dial_under_way_may_fail() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut statics = StaticPeers::new(&[address(1, Some(peer))], CONFIG, 0, now);
        let (target, _) = statics.next_dial(now).unwrap();
        statics.on_connected(&peer, now);
        assert!(!statics.on_dial_failed(target, &"refused", now));
        assert_eq!(statics.next_deadline(), None);
    }

    #[test]
    fn addresses_of_one_peer_are_dialled_together() {
        let now = Instant::now();
        let (peer, untrusted) = (PeerId::random(), PeerId::random());
        let addresses = [address(1, Some(peer)), address(2, None), address(3, Some(peer)), address(4, None)];
        let mut statics = StaticPeers::new(&addresses, CONFIG, 0, now);
        let dials: Vec<_> = std::iter::from_fn(|| statics.next_dial(now)).map(|(_, dial)| dial).collect();
        assert_eq!(dials.len(), 3);
        assert_eq!(dials[0].addresses, [address(1, Some(peer)), address(3, Some(peer))]);
        assert_eq!(dials[1], Dial { peer: None, addresses: vec![address(2, None)] });
        assert!(statics.contains(&peer) && !statics.contains(&untrusted));
    }

    #[test]
    fn who_answers_at_an_address_without_a_name_is_the_static_peer() {
        let now = Instant::now();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut statics = StaticPeers::new(&[address(1, None)], CONFIG, 0, now);
        let (target, _) = statics.next_dial(now).unwrap();
        assert_eq!(statics.on_dialled(target, peer), None);
        assert_eq!(back(&mut statics, &peer, now), None);
        assert!(statics.contains(&peer) && statics.on_disconnected(&peer, now));
        let (target, _) = statics.next_dial(now + Duration::from_secs(4)).unwrap();
        assert_eq!(statics.on_dialled(target, peer), None);
        statics.on_connected(&peer, now);
        assert!(!statics.on_disconnected(&peer, now));
        // Another key at the same address, after the operator has replaced it.
        let (target, dial) = statics.next_dial(now + Duration::from_secs(9)).unwrap();
        assert_eq!(dial.peer, None);
        assert_eq!(statics.on_dialled(target, other), Some(peer));
        assert!(back(&mut statics, &other, now + Duration::from_secs(3)).is_some());
        assert!(statics.contains(&other) && !statics.contains(&peer));
    }
}
