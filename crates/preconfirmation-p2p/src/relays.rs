//! How much of what nobody has elected each peer passes on. No clock: every call says what time it is.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// The time of a budget.
const MINUTE: Duration = Duration::from_secs(60);

/// Most peers that are counted. As many are never connected; one more is not counted.
const PEERS: usize = 4096;

/// What each peer has passed on in the minute that began with the first of it.
#[derive(Debug)]
pub(crate) struct Relays {
    budget: u32,
    peers: HashMap<PeerId, (Instant, u32)>,
}

impl Relays {
    pub(crate) fn new(budget: u32) -> Self {
        Self { budget, peers: HashMap::new() }
    }

    /// A peer has passed on a commitment of somebody whom nobody has elected.
    pub(crate) fn passed_on(&mut self, peer: PeerId, now: Instant) {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            return;
        }
        let (since, count) = self.peers.entry(peer).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }

    /// Whether a peer has passed on more than it may.
    pub(crate) fn is_over(&self, peer: &PeerId, now: Instant) -> bool {
        self.peers.get(peer).is_some_and(|(since, count)| {
            *count > self.budget && now.saturating_duration_since(*since) < MINUTE
        })
    }

    /// Forgets what is over.
    pub(crate) fn prune(&mut self, now: Instant) {
        self.peers.retain(|_, (since, _)| now.saturating_duration_since(*since) < MINUTE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_for_a_minute_and_for_each_peer() {
        let (mut relays, start) = (Relays::new(2), Instant::now());
        let (one, other) = (PeerId::random(), PeerId::random());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, over) in [(0, false), (1, false), (2, true)] {
            relays.passed_on(one, at(second));
            assert_eq!(relays.is_over(&one, at(second)), over);
        }
        assert!(!relays.is_over(&other, at(2)));
        assert!(relays.is_over(&one, at(59)));
        relays.prune(at(59));
        assert!(relays.is_over(&one, at(59)) && !relays.is_over(&one, at(60)));
        relays.passed_on(one, at(60));
        assert!(!relays.is_over(&one, at(60)));
        relays.prune(at(120));
        assert_eq!(relays.peers.len(), 0);
    }

    #[test]
    fn strangers_without_number_are_not_remembered() {
        let mut relays = Relays::new(2);
        for _ in 0..2 * PEERS {
            relays.passed_on(PeerId::random(), Instant::now());
        }
        assert_eq!(relays.peers.len(), PEERS);
    }
}
