//! The application's score of each peer (§7.1). No clock: every call says what time it is.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use preconfirmation_types::Offence;

use crate::config::ScoreConfig;

/// The one table of what an offence costs, in points. They cost the same: the protocol knows failed
/// validations, not degrees of them.
pub(crate) const fn cost(offence: Offence) -> f64 {
    match offence {
        Offence::Malformed
        | Offence::BadSignature
        | Offence::WrongSigner
        | Offence::InvalidCommitment
        | Offence::HashMismatch
        | Offence::Oversize
        | Offence::WrongAnswer => 1.0,
        // An offence that a later version of the wire crate names.
        _ => 1.0,
    }
}

/// What a score says about the future of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Standing {
    /// It may stay.
    Tolerated,
    /// It has been below the ban threshold for too long.
    Banned,
}

/// A score below this is as good as none, and forgotten.
const FORGOTTEN: f64 = 0.01;

#[derive(Debug)]
struct Entry {
    /// The score at `at`; since then it has decayed.
    value: f64,
    at: Instant,
    /// What it signed for gossip and only it could know to be wrong, as gossipsub counts invalid deliveries, at `at`.
    authored: f64,
    /// What was charged within the last window, oldest first. At most `offence_cap / smallest cost` long.
    charges: VecDeque<(Instant, f64)>,
    below: Option<Below>,
}

/// Time below the ban threshold.
#[derive(Debug, Clone, Copy)]
struct Below {
    spent: Duration,
    /// When it was last seen to be below; none since it has left.
    seen: Option<Instant>,
    /// When it was seen to be below the last time of all.
    last: Instant,
}

/// Application scores of all peers, connected or not.
#[derive(Debug)]
pub(crate) struct Scores {
    config: ScoreConfig,
    peers: HashMap<PeerId, Entry>,
}

impl Scores {
    pub(crate) fn new(config: ScoreConfig) -> Self {
        Self { config, peers: HashMap::new() }
    }

    /// Charges a peer, as far as the cap of the window leaves room. Returns its score.
    pub(crate) fn offence(&mut self, peer: PeerId, offence: Offence, now: Instant) -> f64 {
        let config = self.config;
        let entry = self.entry(peer, now);
        while let Some((at, _)) = entry.charges.front()
            && now.saturating_duration_since(*at) >= config.offence_window
        {
            entry.charges.pop_front();
        }
        let charged: f64 = entry.charges.iter().map(|(_, points)| points).sum();
        let points = cost(offence).min(config.offence_cap - charged);
        if points > 0.0 {
            entry.charges.push_back((now, points));
            entry.value = (entry.value - points).max(-config.clamp);
        }
        entry.value
    }

    /// Charges the author of a message with what only it could know to be wrong. gossipsub cannot be told: it would
    /// count an invalid delivery against whoever else has brought the message, too. So that count is kept here, and is
    /// part of what gossipsub is told as the [application score](Self::mirrored). Returns the score.
    pub(crate) fn author_offence(&mut self, peer: PeerId, offence: Offence, now: Instant) -> f64 {
        self.entry(peer, now).authored += 1.0;
        self.offence(peer, offence, now)
    }

    /// What gossipsub is told as the application score of a peer: the score, and what gossipsub itself would have
    /// counted for messages that only their author could know to be wrong.
    pub(crate) fn mirrored(&self, peer: &PeerId, now: Instant) -> f64 {
        let topic = &self.config.topic;
        self.peers.get(peer).map_or(0.0, |entry| {
            let authored = self.config.authored(entry, now);
            self.config.decayed(entry, now) + topic.weight * topic.invalid_deliveries * authored * authored
        })
    }

    /// Credits a peer with an accepted message. Returns its score.
    pub(crate) fn accepted(&mut self, peer: PeerId, now: Instant) -> f64 {
        let (acceptance, clamp) = (self.config.acceptance, self.config.clamp);
        let entry = self.entry(peer, now);
        entry.value = (entry.value + acceptance).min(clamp);
        entry.value
    }

    /// Forgets all that a peer has done.
    pub(crate) fn forgive(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// The score of a peer; zero for strangers.
    pub(crate) fn of(&self, peer: &PeerId, now: Instant) -> f64 {
        self.peers.get(peer).map_or(0.0, |entry| self.config.decayed(entry, now))
    }

    /// Takes note of the application score of a connected peer, and says whether it has been too low for too long.
    /// Leaving and coming back does not start that time anew, and time away does not count.
    pub(crate) fn observe(&mut self, peer: PeerId, score: f64, now: Instant) -> Standing {
        if score >= self.config.ban_threshold {
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.below = None;
            }
            return Standing::Tolerated;
        }
        let ban_after = self.config.ban_after;
        let entry = self.entry(peer, now);
        let below = entry.below.get_or_insert(Below { spent: Duration::ZERO, seen: None, last: now });
        let since = below.seen.unwrap_or(now);
        below.spent = below.spent.saturating_add(now.saturating_duration_since(since));
        (below.seen, below.last) = (Some(now), now);
        if below.spent > ban_after {
            entry.below = None;
            Standing::Banned
        } else {
            Standing::Tolerated
        }
    }

    /// The last connection of a peer has closed.
    pub(crate) fn left(&mut self, peer: &PeerId) {
        if let Some(below) = self.peers.get_mut(peer).and_then(|entry| entry.below.as_mut()) {
            below.seen = None;
        }
    }

    /// Forgets scores that have decayed to nothing, and long ago low totals of peers that did not return.
    pub(crate) fn prune(&mut self, now: Instant) {
        let config = self.config;
        self.peers.retain(|_, entry| {
            let charged = entry
                .charges
                .back()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) < config.offence_window);
            let below =
                entry.below.is_some_and(|below| now.saturating_duration_since(below.last) < config.ban_for);
            let scored = config.decayed(entry, now).abs().max(config.authored(entry, now)) >= FORGOTTEN;
            charged || below || scored
        });
    }

    /// The entry of a peer, decayed to `now`, made if there is none. A full map gives up the entry that
    /// says least.
    fn entry(&mut self, peer: PeerId, now: Instant) -> &mut Entry {
        let config = self.config;
        if !self.peers.contains_key(&peer) && self.peers.len() >= config.max_scores.get() {
            self.prune(now);
            if self.peers.len() >= config.max_scores.get() {
                let least = self
                    .peers
                    .iter()
                    .map(|(peer, entry)| (*peer, config.decayed(entry, now).abs()))
                    .min_by(|(_, one), (_, other)| one.total_cmp(other));
                if let Some((least, _)) = least {
                    self.peers.remove(&least);
                }
            }
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            value: 0.0,
            at: now,
            authored: 0.0,
            charges: VecDeque::new(),
            below: None,
        });
        (entry.value, entry.authored) = (config.decayed(entry, now), config.authored(entry, now));
        entry.at = entry.at.max(now);
        entry
    }
}

impl ScoreConfig {
    fn decayed(&self, entry: &Entry, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(entry.at);
        entry.value * self.decay.powf(elapsed.as_secs_f64() / self.decay_interval.as_secs_f64())
    }

    fn authored(&self, entry: &Entry, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(entry.at);
        entry.authored * self.topic.invalid_deliveries_decay.powf(elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use super::*;

    const EXACT: f64 = 1e-12;

    struct Rig {
        scores: Scores,
        peer: PeerId,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self::with(ScoreConfig::default())
        }

        fn with(config: ScoreConfig) -> Self {
            Self { scores: Scores::new(config), peer: PeerId::random(), start: Instant::now() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn offence(&mut self, millis: u64) -> f64 {
            let now = self.at(millis);
            self.scores.offence(self.peer, Offence::BadSignature, now)
        }

        #[track_caller]
        fn expect(&self, millis: u64, score: f64) {
            let actual = self.scores.of(&self.peer, self.at(millis));
            assert!((actual - score).abs() < EXACT, "{actual} instead of {score} at {millis} ms");
        }
    }

    #[test]
    fn an_offence_costs_a_point_and_an_acceptance_earns_a_twentieth() {
        let mut rig = Rig::new();
        rig.expect(0, 0.0);
        rig.offence(0);
        rig.expect(0, -1.0);
        rig.scores.accepted(rig.peer, rig.at(0));
        rig.expect(0, -0.95);
    }

    #[test]
    fn every_row_of_the_table_costs_what_it_says() {
        for (offence, points) in [
            (Offence::Malformed, 1.0),
            (Offence::BadSignature, 1.0),
            (Offence::WrongSigner, 1.0),
            (Offence::InvalidCommitment, 1.0),
            (Offence::HashMismatch, 1.0),
            (Offence::Oversize, 1.0),
            (Offence::WrongAnswer, 1.0),
        ] {
            let mut rig = Rig::new();
            assert_eq!(cost(offence), points, "{offence:?}");
            assert_eq!(rig.scores.offence(rig.peer, offence, rig.at(0)), -points, "{offence:?}");
            rig.expect(10_000, -0.9 * points);
            rig.expect(60_000, -0.9_f64.powi(6) * points);
        }
    }

    #[test]
    fn what_is_forgiven_is_forgotten() {
        let mut rig = Rig::new();
        rig.offence(0);
        rig.scores.forgive(&rig.peer);
        rig.expect(0, 0.0);
        // The window of the cap, too.
        for _ in 0..9 {
            rig.offence(1);
        }
        rig.expect(1, -4.0);
    }

    #[test]
    fn a_flood_costs_four_points_in_any_ten_seconds() {
        let mut rig = Rig::with(ScoreConfig { decay: 1.0, ..ScoreConfig::default() });
        for millis in 0..1000 {
            rig.offence(millis);
        }
        rig.expect(1000, -4.0);
        // The window slides: the first charge (at 0 ms) leaves it at 10 s, the fourth (at 3 ms) at 10,003 ms.
        rig.offence(9_999);
        rig.expect(9_999, -4.0);
        rig.offence(10_000);
        rig.offence(10_000);
        rig.expect(10_000, -5.0);
        for _ in 0..10 {
            rig.offence(10_003);
        }
        rig.expect(10_003, -8.0);
    }

    #[test]
    fn what_the_cap_left_out_is_not_charged_later() {
        let mut rig = Rig::new();
        for _ in 0..100 {
            rig.offence(0);
        }
        rig.expect(20_000, -4.0 * 0.81);
    }

    #[test]
    fn time_alone_decays_a_score_by_a_tenth_in_ten_seconds() {
        let mut rig = Rig::new();
        rig.offence(0);
        rig.expect(10_000, -0.9);
        rig.expect(20_000, -0.81);
        rig.expect(5_000, -(0.9_f64.sqrt()));
        // An event in between changes nothing about the decay.
        rig.offence(10_000);
        rig.expect(20_000, -1.9 * 0.9);
    }

    #[test]
    fn a_score_stays_within_ten() {
        let mut rig = Rig::with(ScoreConfig { offence_cap: 100.0, ..ScoreConfig::default() });
        for _ in 0..50 {
            rig.offence(0);
        }
        rig.expect(0, -10.0);
        for _ in 0..1000 {
            rig.scores.accepted(rig.peer, rig.at(0));
        }
        rig.expect(0, 10.0);
    }

    #[test]
    fn a_ban_needs_more_than_thirty_seconds_below_five_without_a_break() {
        let mut rig = Rig::new();
        let peer = rig.peer;
        assert_eq!(rig.scores.observe(peer, -5.1, rig.at(0)), Standing::Tolerated);
        assert_eq!(rig.scores.observe(peer, -5.1, rig.at(30_000)), Standing::Tolerated);
        assert_eq!(rig.scores.observe(peer, -5.0, rig.at(30_000)), Standing::Tolerated);
        assert_eq!(rig.scores.observe(peer, -9.0, rig.at(30_001)), Standing::Tolerated);
        assert_eq!(rig.scores.observe(peer, -9.0, rig.at(60_001)), Standing::Tolerated);
        assert_eq!(rig.scores.observe(peer, -9.0, rig.at(60_002)), Standing::Banned);
    }

    #[test]
    fn time_away_does_not_count_as_below_and_is_no_break_either() {
        let mut rig = Rig::new();
        let peer = rig.peer;
        let below =
            |rig: &mut Rig, millis| rig.scores.observe(peer, -6.0, rig.start + Duration::from_millis(millis));
        assert_eq!(below(&mut rig, 0), Standing::Tolerated);
        assert_eq!(below(&mut rig, 20_000), Standing::Tolerated);
        rig.scores.left(&peer);
        // An hour less a second later.
        assert_eq!(below(&mut rig, 3_599_000), Standing::Tolerated);
        assert_eq!(below(&mut rig, 3_609_000), Standing::Tolerated);
        assert_eq!(below(&mut rig, 3_609_001), Standing::Banned);
    }

    #[test]
    fn a_low_score_of_a_peer_that_never_returns_is_forgotten_in_the_end() {
        let mut rig = Rig::new();
        assert_eq!(rig.scores.observe(rig.peer, -6.0, rig.at(0)), Standing::Tolerated);
        rig.scores.left(&rig.peer.clone());
        rig.scores.prune(rig.at(3_599_999));
        assert_eq!(rig.scores.peers.len(), 1);
        rig.scores.prune(rig.at(3_600_000));
        assert_eq!(rig.scores.peers.len(), 0);
    }

    #[test]
    fn what_only_the_author_can_know_counts_as_an_invalid_delivery_of_the_author() {
        let mut rig = Rig::new();
        for (times, invalid) in [(1.0, -2.0), (2.0, -8.0)] {
            rig.scores.author_offence(rig.peer, Offence::WrongSigner, rig.at(0));
            rig.expect(0, -times);
            let mirrored = rig.scores.mirrored(&rig.peer, rig.at(0));
            assert!((mirrored - (invalid - times)).abs() < EXACT, "{mirrored}");
        }
        // After ten seconds: 0.99^10 of two, squared, twice; and 0.9 of two points.
        let later = -2.0 * (2.0 * 0.99_f64.powi(10)).powi(2) - 1.8;
        let mirrored = rig.scores.mirrored(&rig.peer, rig.at(10_000));
        assert!((mirrored - later).abs() < EXACT, "{mirrored}");
        rig.scores.forgive(&rig.peer);
        assert_eq!(rig.scores.mirrored(&rig.peer, rig.at(10_000)), 0.0);
    }

    #[test]
    fn what_has_decayed_to_nothing_is_forgotten() {
        let mut rig = Rig::new();
        rig.offence(0);
        rig.scores.prune(rig.at(60_000));
        assert_eq!(rig.scores.peers.len(), 1);
        // 0.9^44 = 0.0097
        rig.scores.prune(rig.at(440_000));
        assert_eq!(rig.scores.peers.len(), 0);
    }

    #[test]
    fn a_full_map_keeps_those_who_offended_most() {
        let mut rig =
            Rig::with(ScoreConfig { max_scores: NonZeroUsize::new(3).unwrap(), ..ScoreConfig::default() });
        rig.offence(0);
        rig.offence(0);
        for _ in 0..100 {
            rig.scores.offence(PeerId::random(), Offence::Malformed, rig.at(1));
        }
        assert_eq!(rig.scores.peers.len(), 3);
        assert!(rig.scores.of(&rig.peer, rig.at(1)) < -1.9);
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut rig = Rig::new();
        rig.offence(10_000);
        rig.offence(0);
        rig.expect(0, -2.0);
        rig.expect(20_000, -1.8);
    }
}
