//! How many peers are enough, and who goes when there are too many. No clock: every call says what time it is.

use std::{cmp::Reverse, time::Instant};

use libp2p::PeerId;

use crate::config::PeersConfig;

/// A connected peer, as far as it matters for staying.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) peer: PeerId,
    /// gossipsub's total.
    pub(crate) score: f64,
    /// Whether it has said that it speaks the protocols of this chain.
    pub(crate) ready: bool,
    /// Static or trusted.
    pub(crate) protected: bool,
    /// Whether a request of either side is in flight, or was a moment ago.
    pub(crate) in_flight: bool,
    pub(crate) since: Instant,
}

impl PeersConfig {
    /// How many peers should be dialled, with so many connected or being dialled.
    pub(crate) fn missing(&self, peers: usize) -> usize {
        self.low.saturating_sub(peers)
    }

    /// Whom to disconnect so that `high` peers are left. First who is of no use, then the worst score, then
    /// the youngest; nobody protected, nobody younger than the grace, so that a newcomer above the mark has
    /// time to show that it is better than somebody; and nobody with a request in flight, because deployed peers ban
    /// whoever closes a connection with one: its time comes a second later.
    #[must_use]
    pub(crate) fn surplus(&self, peers: &[Standing], now: Instant) -> Vec<PeerId> {
        let surplus = peers.len().saturating_sub(self.high);
        if surplus == 0 {
            return Vec::new();
        }
        let may_go = |peer: &&Standing| {
            let old = now.saturating_duration_since(peer.since) >= self.grace;
            old && !peer.protected && !peer.in_flight
        };
        let mut leaving: Vec<_> = peers.iter().filter(may_go).collect();
        leaving.sort_by(|one, other| {
            let order = one.ready.cmp(&other.ready).then(one.score.total_cmp(&other.score));
            order.then_with(|| (Reverse(one.since), one.peer).cmp(&(Reverse(other.since), other.peer)))
        });
        leaving.into_iter().take(surplus).map(|peer| peer.peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(low: usize, high: usize) -> PeersConfig {
        PeersConfig { low, high, ..PeersConfig::default() }
    }

    fn standing(score: f64, since: Instant) -> Standing {
        Standing { peer: PeerId::random(), score, ready: true, protected: false, in_flight: false, since }
    }

    #[test]
    fn the_defaults_are_twenty_thirty_and_half_a_minute() {
        let config = PeersConfig::default();
        assert_eq!((config.low, config.high, config.grace), (20, 30, Duration::from_secs(30)));
        assert_eq!(
            (config.missing(0), config.missing(19), config.missing(20), config.missing(25)),
            (20, 1, 0, 0)
        );
    }

    #[test]
    fn only_what_is_above_the_high_mark_goes_and_the_worst_first() {
        let start = Instant::now();
        let peers: Vec<_> = [3.0, -1.0, 0.0, -4.0, 2.0].map(|score| standing(score, start)).into();
        let later = start + Duration::from_secs(30);
        assert_eq!(config(0, 3).surplus(&peers, later), [peers[3].peer, peers[1].peer]);
        assert_eq!(config(0, 4).surplus(&peers, later), [peers[3].peer]);
        assert!(config(0, 5).surplus(&peers, later).is_empty());
    }

    #[test]
    fn nobody_goes_before_its_grace_is_over() {
        let start = Instant::now();
        let young = start + Duration::from_secs(10);
        let peers = [standing(-9.0, young), standing(1.0, start)];
        assert!(config(0, 0).surplus(&peers, start + Duration::from_millis(29_999)).is_empty());
        // The better one, because the worse one still has its grace.
        assert_eq!(config(0, 1).surplus(&peers, start + Duration::from_secs(30)), [peers[1].peer]);
        assert_eq!(config(0, 1).surplus(&peers, young + Duration::from_secs(30)), [peers[0].peer]);
    }

    #[test]
    fn static_and_trusted_peers_stay_whatever_their_score() {
        let start = Instant::now();
        let worst = Standing { protected: true, ..standing(-100.0, start) };
        let peers = [worst, standing(5.0, start)];
        assert_eq!(config(0, 0).surplus(&peers, start + Duration::from_secs(60)), [peers[1].peer]);
    }

    #[test]
    fn nobody_goes_with_a_request_in_flight() {
        let start = Instant::now();
        let worst = Standing { in_flight: true, ..standing(-100.0, start) };
        let peers = [worst, standing(5.0, start)];
        let later = start + Duration::from_secs(60);
        assert_eq!(config(0, 1).surplus(&peers, later), [peers[1].peer]);
        assert_eq!(config(0, 0).surplus(&peers, later), [peers[1].peer]);
    }

    #[test]
    fn strangers_to_the_chain_go_first_and_among_equals_the_youngest() {
        let start = Instant::now();
        let foreign = Standing { ready: false, ..standing(9.0, start) };
        let (old, young) = (standing(0.0, start), standing(0.0, start + Duration::from_secs(1)));
        let peers = [old, young, foreign];
        let later = start + Duration::from_secs(60);
        assert_eq!(config(0, 1).surplus(&peers, later), [foreign.peer, young.peer]);
    }
}
