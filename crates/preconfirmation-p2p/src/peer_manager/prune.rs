//! Watermarks: how many peers to keep, and whom to disconnect when there are too many. No clock: every call is given the
//! time.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::config::PeersConfig;

/// How long an inbound peer that does not use its connection stays where places run out. Whoever wants something subscribes
/// or asks within two round trips; where there is room, `connections.idle_timeout` ends it.
const UNUSED_FOR: Duration = Duration::from_secs(2);

/// A connected peer, as far as pruning is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    /// gossipsub's total.
    pub(crate) score: f64,
    /// Whether it has said that it speaks the protocols of this chain.
    pub(crate) ready: bool,
    /// Static or trusted.
    pub(crate) protected: bool,
    /// Whether we dialled it.
    pub(crate) outbound: bool,
    /// Whether a request of either side is in flight, or was a moment ago: many peers ban whoever hangs up on one.
    pub(crate) in_flight: bool,
    /// Whether it has subscribed to a topic of ours or asked for something.
    pub(crate) used: bool,
    pub(crate) since: Instant,
}

impl PeersConfig {
    /// How many peers should be dialled, with so many connected or being dialled, so many of them by us.
    pub(crate) fn missing(&self, peers: usize, outbound: usize) -> usize {
        self.low.saturating_sub(peers).max(self.outbound().saturating_sub(outbound))
    }

    /// The least number of peers that we dialled: half of `low`.
    fn outbound(&self) -> usize {
        self.low.div_ceil(2)
    }

    /// Whom to disconnect so that `high` peers are left. First who is of no use, then the worst score, then
    /// the youngest; nobody protected, nobody younger than the grace, none that we dialled as long as there are few of
    /// these. So a newcomer above the mark has time to show that it is better than somebody. With a request in
    /// flight nobody goes, and nobody better in its place: its time comes a second later.
    #[must_use]
    pub(crate) fn prune_candidates(&self, peers: &[Candidate], now: Instant) -> Vec<PeerId> {
        let excess = peers.len().saturating_sub(self.high);
        if excess == 0 {
            return Vec::new();
        }
        let may_go =
            |peer: &&Candidate| !peer.protected && now.saturating_duration_since(peer.since) >= self.grace;
        let mut leaving: Vec<_> = peers.iter().filter(may_go).collect();
        leaving.sort_by(|one, other| {
            let order = one.ready.cmp(&other.ready).then(one.score.total_cmp(&other.score));
            order.then_with(|| (Reverse(one.since), one.peer).cmp(&(Reverse(other.since), other.peer)))
        });
        let made = peers.iter().filter(|peer| peer.outbound && peer.ready).count();
        let mut spare = made.saturating_sub(self.outbound());
        leaving.retain(|peer| {
            let counts = peer.outbound && peer.ready;
            let goes = !counts || spare > 0;
            spare -= usize::from(counts && goes);
            goes
        });
        leaving.into_iter().take(excess).filter(|peer| !peer.in_flight).map(|peer| peer.peer).collect()
    }
}

/// Whom to disconnect because so many inbound places, or all but an eighth of them, are taken: peers that came and have used
/// their connection for nothing since. So a flood of connections keeps newcomers out for two seconds, not for as long as an
/// idle connection may last.
#[must_use]
pub(crate) fn unused(peers: &[Candidate], places: usize, now: Instant) -> Vec<PeerId> {
    let came = || peers.iter().filter(|peer| !peer.outbound && !peer.protected);
    if came().count() < places.saturating_sub(places / 8) {
        return Vec::new();
    }
    let idle = |peer: &&Candidate| {
        !peer.used && !peer.in_flight && now.saturating_duration_since(peer.since) >= UNUSED_FOR
    };
    came().filter(idle).map(|peer| peer.peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(low: usize, high: usize) -> PeersConfig {
        PeersConfig { low, high, ..PeersConfig::default() }
    }

    fn candidate(score: f64, since: Instant) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            score,
            ready: true,
            protected: false,
            outbound: false,
            in_flight: false,
            used: true,
            since,
        }
    }

    #[test]
    fn the_defaults_are_twenty_thirty_and_half_a_minute() {
        let config = PeersConfig::default();
        assert_eq!((config.low, config.high, config.grace), (20, 30, Duration::from_secs(30)));
        let missing = [0, 19, 20, 25].map(|peers| config.missing(peers, 10));
        assert_eq!(missing, [20, 1, 0, 0]);
    }

    #[test]
    fn half_of_the_low_mark_is_dialled_however_many_have_come() {
        let missing = [0, 4, 9, 10, 30].map(|outbound| PeersConfig::default().missing(90, outbound));
        assert_eq!(missing, [10, 6, 1, 0, 0]);
        // A node that looks for nobody.
        assert_eq!(config(0, 10).missing(0, 0), 0);
    }

    #[test]
    fn those_that_we_dialled_stay_as_far_as_they_are_needed() {
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        let dialled: Vec<_> =
            (0..3).map(|score| Candidate { outbound: true, ..candidate(score.into(), start) }).collect();
        let came: Vec<_> = (10..13).map(|score| candidate(score.into(), start)).collect();
        let all: Vec<_> = dialled.iter().chain(&came).copied().collect();
        // Two of them are half of the low mark: one may go, then those that came by themselves.
        let gone = config(4, 2).prune_candidates(&all, later);
        assert_eq!(gone, [dialled[0].peer, came[0].peer, came[1].peer, came[2].peer]);
    }

    #[test]
    fn nobody_goes_with_a_request_in_flight() {
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        let busy = Candidate { in_flight: true, ..candidate(-1.0, start) };
        let peers = [busy, candidate(0.0, start), candidate(1.0, start)];
        assert_eq!(config(0, 2).prune_candidates(&peers, later), []);
        assert_eq!(config(0, 1).prune_candidates(&peers, later), [peers[1].peer]);
    }

    #[test]
    fn only_what_is_above_the_high_mark_goes_and_the_worst_first() {
        let start = Instant::now();
        let peers: Vec<_> = [3.0, -1.0, 0.0, -4.0, 2.0].map(|score| candidate(score, start)).into();
        let later = start + Duration::from_secs(30);
        assert_eq!(config(0, 3).prune_candidates(&peers, later), [peers[3].peer, peers[1].peer]);
        assert_eq!(config(0, 4).prune_candidates(&peers, later), [peers[3].peer]);
        assert!(config(0, 5).prune_candidates(&peers, later).is_empty());
    }

    #[test]
    fn nobody_goes_before_its_grace_is_over() {
        let start = Instant::now();
        let young = start + Duration::from_secs(10);
        let peers = [candidate(-9.0, young), candidate(1.0, start)];
        assert!(config(0, 0).prune_candidates(&peers, start + Duration::from_millis(29_999)).is_empty());
        // The better one, because the worse one still has its grace.
        assert_eq!(config(0, 1).prune_candidates(&peers, start + Duration::from_secs(30)), [peers[1].peer]);
        assert_eq!(config(0, 1).prune_candidates(&peers, young + Duration::from_secs(30)), [peers[0].peer]);
    }

    #[test]
    fn a_newcomer_has_the_grace_that_is_set() {
        let (start, grace) = (Instant::now(), Duration::from_secs(7));
        let (config, peers) = (PeersConfig { grace, ..config(0, 0) }, [candidate(0.0, start)]);
        assert!(config.prune_candidates(&peers, start + Duration::from_millis(6999)).is_empty());
        assert_eq!(config.prune_candidates(&peers, start + grace), [peers[0].peer]);
    }

    #[test]
    fn static_and_trusted_peers_stay_whatever_their_score() {
        let start = Instant::now();
        let worst = Candidate { protected: true, ..candidate(-100.0, start) };
        let peers = [worst, candidate(5.0, start)];
        assert_eq!(config(0, 0).prune_candidates(&peers, start + Duration::from_secs(60)), [peers[1].peer]);
    }

    #[test]
    fn untrusted_peers_to_the_chain_go_first_and_among_equals_the_youngest() {
        let start = Instant::now();
        let foreign = Candidate { ready: false, ..candidate(9.0, start) };
        let (old, young) = (candidate(0.0, start), candidate(0.0, start + Duration::from_secs(1)));
        let peers = [old, young, foreign];
        let later = start + Duration::from_secs(60);
        assert_eq!(config(0, 1).prune_candidates(&peers, later), [foreign.peer, young.peer]);
    }

    #[test]
    fn where_inbound_places_run_out_peers_that_do_nothing_leave() {
        let start = Instant::now();
        let later = start + UNUSED_FOR;
        let idle = || Candidate { used: false, ..candidate(0.0, start) };
        let idle = [idle(), idle()];
        let kept = [
            candidate(0.0, start),
            Candidate { in_flight: true, ..idle[0] },
            Candidate { outbound: true, ..idle[0] },
            Candidate { protected: true, ..idle[0] },
            Candidate { since: later, ..idle[0] },
        ];
        let all = [&idle[..], &kept].concat();
        // Five of them have come by themselves; one of eight places stays free.
        assert_eq!(unused(&all, 5, later), idle.map(|peer| peer.peer));
        assert_eq!(unused(&all, 6, later), []);
        let eight: Vec<_> = (0..7).map(|_| idle[0]).collect();
        assert_eq!(unused(&eight, 8, later).len(), 7);
        assert_eq!(unused(&eight[1..], 8, later), []);
    }
}
