//! Static peers, dialled again for ever. No clock and no dice: every call says what time it is, the seed
//! comes from the configuration.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::config::{RedialConfig, after};

/// A peer to dial, at all of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    /// Who has to answer; anybody if it is not known.
    pub(crate) peer: Option<PeerId>,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Which of the static peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target(usize);

/// The end of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Back {
    /// How long it took.
    pub(crate) after: Duration,
    /// How often the peer was dialled in vain.
    pub(crate) attempts: u32,
}

/// All static peers.
#[derive(Debug)]
pub(crate) struct Redial {
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
    /// The waits of this outage, and of the ones before it as long as no connection has lasted.
    backoff: Option<ExponentialBackoff>,
}

/// Connected ends when the peer is lost, Dialling when the dial has succeeded or failed, Waiting in time. All
/// of them end when the peer connects by itself. Ourselves has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    Dialling,
    Waiting(Instant),
    Ourselves,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    attempts: u32,
}

impl Redial {
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

    /// When the next dial is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.peers.iter().filter_map(|peer| match peer.state {
            State::Waiting(until) => Some(until),
            State::Connected | State::Dialling | State::Ourselves => None,
        });
        waiting.min()
    }

    /// A peer to dial, if one is due. Its dial is under way from here on.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Target, Dial)> {
        let is_due = |peer: &StaticPeer| matches!(peer.state, State::Waiting(until) if until <= now);
        let index = self.peers.iter().position(is_due)?;
        let peer = self.peers.get_mut(index)?;
        peer.state = State::Dialling;
        Some((Target(index), peer.dial.clone()))
    }

    /// A dial has failed. Whether that begins an outage: the first failure does.
    #[must_use]
    pub(crate) fn failed(&mut self, target: Target, now: Instant) -> bool {
        let config = self.config;
        let peer = self.peers.get_mut(target.0).filter(|peer| peer.state == State::Dialling);
        peer.is_some_and(|peer| peer.wait(config, now))
    }

    /// A dial has reached this node itself: the address is not dialled any more.
    pub(crate) fn reached_ourselves(&mut self, target: Target) {
        if let Some(peer) = self.peers.get_mut(target.0) {
            peer.state = State::Ourselves;
        }
    }

    /// A dial has succeeded, and says who answered. Who answered there before, if it was somebody else.
    #[must_use]
    pub(crate) fn reached(&mut self, target: Target, peer: PeerId) -> Option<PeerId> {
        let known = self.peers.get_mut(target.0).filter(|known| known.dial.peer.is_none())?;
        known.found.replace(peer).filter(|before| *before != peer)
    }

    /// A peer is connected, whoever dialled.
    pub(crate) fn connected(&mut self, peer: &PeerId) {
        for known in self.peers.iter_mut().filter(|known| known.id() == Some(*peer)) {
            known.state = State::Connected;
        }
    }

    /// A connected peer has said who it is. The outage that this ends, if there was one.
    #[must_use]
    pub(crate) fn identified(&mut self, peer: &PeerId, now: Instant) -> Option<Back> {
        let mut back = None;
        for known in self.peers.iter_mut().filter(|known| known.id() == Some(*peer)) {
            known.identified.get_or_insert(now);
            if let Some(outage) = known.outage.take() {
                let after = now.saturating_duration_since(outage.since);
                back = Some(Back { after, attempts: outage.attempts });
            }
        }
        back
    }

    /// The last connection to a peer has closed. Whether that begins an outage of a static peer.
    #[must_use]
    pub(crate) fn lost(&mut self, peer: &PeerId, now: Instant) -> bool {
        let config = self.config;
        let mut begins = false;
        for known in self.peers.iter_mut() {
            if known.id() == Some(*peer) && known.state == State::Connected {
                let identified = known.identified.take();
                let lasted = identified.map(|since| now.saturating_duration_since(since));
                if lasted.is_some_and(|lasted| lasted >= config.stable_after) {
                    known.backoff = None;
                }
                begins |= known.wait(config, now);
            }
        }
        begins
    }
}

impl StaticPeer {
    fn id(&self) -> Option<PeerId> {
        self.dial.peer.or(self.found)
    }

    /// Waits for the next dial, longer each time until a connection has lasted. Whether an outage begins.
    fn wait(&mut self, config: RedialConfig, now: Instant) -> bool {
        let seed = self.seed;
        let backoff = self.backoff.get_or_insert_with(|| {
            ExponentialBuilder::new()
                .with_min_delay(config.min_delay)
                .with_max_delay(config.max_delay)
                .with_jitter()
                .with_jitter_seed(seed)
                .without_max_times()
                .build()
        });
        // The backoff has no end.
        let delay = backoff.next().unwrap_or(config.max_delay);
        self.state = State::Waiting(after(now, delay));
        let begins = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: now, attempts: 0 });
        outage.attempts = outage.attempts.saturating_add(1);
        begins
    }
}

/// The peer that an address names.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: RedialConfig = RedialConfig {
        min_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
        stable_after: Duration::from_secs(180),
    };

    /// A peer is connected and has said who it is.
    fn back(redial: &mut Redial, peer: &PeerId, now: Instant) -> Option<Back> {
        redial.connected(peer);
        redial.identified(peer, now)
    }

    fn address(port: u16, peer: Option<PeerId>) -> Multiaddr {
        let address: Multiaddr = format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap();
        peer.map_or(address.clone(), |peer| address.with(Protocol::P2p(peer)))
    }

    /// The wait that a failed dial leads to.
    fn fail(redial: &mut Redial, now: Instant) -> Duration {
        let (target, _) = redial.due(now).unwrap();
        assert_eq!(redial.next_deadline(), None);
        let _begins = redial.failed(target, now);
        redial.next_deadline().unwrap() - now
    }

    #[test]
    fn waits_double_up_to_a_minute_plus_as_much_at_random_and_never_end() {
        let mut now = Instant::now();
        let mut redial = Redial::new(&[address(1, Some(PeerId::random()))], CONFIG, 7, now);
        let mut delays = Vec::new();
        for _ in 0..1000 {
            let delay = fail(&mut redial, now);
            assert!(redial.due(now + delay - Duration::from_nanos(1)).is_none());
            now += delay;
            delays.push(delay);
        }
        for (delay, base) in delays.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            let base = Duration::from_secs(base);
            assert!(*delay >= base && *delay < 2 * base, "{delay:?} for {base:?}");
        }
        assert!(delays[999] >= Duration::from_secs(60));
        // Jitter: equal bases, different waits.
        assert_ne!(delays[7], delays[8]);
    }

    #[test]
    fn the_same_seed_waits_the_same_and_two_peers_differ() {
        let now = Instant::now();
        let (one, other) = (address(1, Some(PeerId::random())), address(2, Some(PeerId::random())));
        let waits = |seed| {
            let mut redial = Redial::new(&[one.clone(), other.clone()], CONFIG, seed, now);
            let targets: Vec<_> = std::iter::from_fn(|| redial.due(now)).map(|(target, _)| target).collect();
            let mut wait = |target| {
                assert!(redial.failed(target, now));
                redial.peers[target.0].state
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
        let mut redial = Redial::new(&[address(1, Some(peer))], CONFIG, 0, start);
        let (target, _) = redial.due(start).unwrap();
        assert!(redial.failed(target, start));
        for seconds in [10, 20, 30] {
            let now = start + Duration::from_secs(seconds);
            let (target, _) = redial.due(now).unwrap();
            assert!(!redial.failed(target, now));
        }
        let ended = back(&mut redial, &peer, start + Duration::from_secs(40));
        assert_eq!(ended, Some(Back { after: Duration::from_secs(40), attempts: 4 }));
        assert_eq!(redial.next_deadline(), None);
        // A second connection ends nothing; a loss begins a new outage.
        assert_eq!(back(&mut redial, &peer, start + Duration::from_secs(41)), None);
        let lost = start + Duration::from_secs(50);
        assert!(redial.lost(&peer, lost));
        assert!(!redial.lost(&peer, lost));
        let due = redial.next_deadline().unwrap();
        let (target, _) = redial.due(due).unwrap();
        assert!(!redial.failed(target, due));
        let ended = back(&mut redial, &peer, due + Duration::from_secs(9)).unwrap();
        assert_eq!((ended.after, ended.attempts), (due + Duration::from_secs(9) - lost, 2));
    }

    #[test]
    fn only_a_connection_that_lasted_begins_the_waits_anew() {
        let mut now = Instant::now();
        let peer = PeerId::random();
        let mut redial = Redial::new(&[address(1, Some(peer))], CONFIG, 0, now);
        let connect = |redial: &mut Redial, now| {
            let _dial = redial.due(now).unwrap();
            redial.connected(&peer);
        };
        let wait = |redial: &Redial, now: Instant| (redial.next_deadline().unwrap() - now).as_secs();
        // A server that is full: it takes the connection and closes it at once, again and again.
        for (attempt, least) in [1, 2, 4, 8, 16, 32, 60].into_iter().enumerate() {
            connect(&mut redial, now);
            assert_eq!(redial.lost(&peer, now), attempt == 0, "one outage");
            let waits = wait(&redial, now);
            assert!((least..2 * least).contains(&waits), "{waits} s, not {least}");
            now = redial.next_deadline().unwrap();
        }
        // It says who it is, but does not last.
        connect(&mut redial, now);
        assert_eq!(redial.identified(&peer, now).unwrap().attempts, 7);
        now += CONFIG.stable_after - Duration::from_nanos(1);
        assert!(redial.lost(&peer, now));
        assert!(wait(&redial, now) >= 60);
        now = redial.next_deadline().unwrap();
        connect(&mut redial, now);
        assert!(redial.identified(&peer, now).is_some());
        now += CONFIG.stable_after;
        assert!(redial.lost(&peer, now));
        assert!(wait(&redial, now) < 2);
    }

    #[test]
    fn an_address_of_this_node_itself_is_dialled_once() {
        let now = Instant::now();
        let mut redial = Redial::new(&[address(1, None)], CONFIG, 0, now);
        let (target, _) = redial.due(now).unwrap();
        redial.reached_ourselves(target);
        assert_eq!(redial.next_deadline(), None);
        assert!(!redial.failed(target, now));
    }

    #[test]
    fn a_first_dial_that_succeeds_is_no_outage() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut redial = Redial::new(&[address(1, Some(peer))], CONFIG, 0, now);
        assert!(redial.due(now).is_some() && redial.due(now).is_none());
        assert_eq!(back(&mut redial, &peer, now), None);
    }

    #[test]
    fn a_peer_that_connects_by_itself_is_not_dialled_and_the_dial_under_way_may_fail() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut redial = Redial::new(&[address(1, Some(peer))], CONFIG, 0, now);
        let (target, _) = redial.due(now).unwrap();
        redial.connected(&peer);
        assert!(!redial.failed(target, now));
        assert_eq!(redial.next_deadline(), None);
    }

    #[test]
    fn addresses_of_one_peer_are_dialled_together() {
        let now = Instant::now();
        let (peer, stranger) = (PeerId::random(), PeerId::random());
        let addresses = [address(1, Some(peer)), address(2, None), address(3, Some(peer)), address(4, None)];
        let mut redial = Redial::new(&addresses, CONFIG, 0, now);
        let dials: Vec<_> = std::iter::from_fn(|| redial.due(now)).map(|(_, dial)| dial).collect();
        assert_eq!(dials.len(), 3);
        assert_eq!(dials[0].addresses, [address(1, Some(peer)), address(3, Some(peer))]);
        assert_eq!(dials[1], Dial { peer: None, addresses: vec![address(2, None)] });
        assert!(redial.contains(&peer) && !redial.contains(&stranger));
    }

    #[test]
    fn who_answers_at_an_address_without_a_name_is_the_static_peer() {
        let now = Instant::now();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut redial = Redial::new(&[address(1, None)], CONFIG, 0, now);
        let (target, _) = redial.due(now).unwrap();
        assert_eq!(redial.reached(target, peer), None);
        assert_eq!(back(&mut redial, &peer, now), None);
        assert!(redial.contains(&peer) && redial.lost(&peer, now));
        let (target, _) = redial.due(now + Duration::from_secs(2)).unwrap();
        assert_eq!(redial.reached(target, peer), None);
        redial.connected(&peer);
        assert!(!redial.lost(&peer, now));
        // Another key at the same address, after the operator has replaced it.
        let (target, dial) = redial.due(now + Duration::from_secs(9)).unwrap();
        assert_eq!(dial.peer, None);
        assert_eq!(redial.reached(target, other), Some(peer));
        assert!(back(&mut redial, &other, now + Duration::from_secs(3)).is_some());
        assert!(redial.contains(&other) && !redial.contains(&peer));
    }
}
