//! The application's score of a peer (§7.1). No clock: every call is given the time.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use preconfirmation_types::Offence;

use super::PeerManager;
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

/// Whether a peer is to be banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum ScoreState {
    /// It may stay.
    Tolerated,
    /// It has been below the ban threshold for too long.
    Banned,
}

/// A score below this is as good as none, and forgotten.
const NEGLIGIBLE: f64 = 0.01;

/// The application score of one peer, connected or not.
#[derive(Debug)]
pub(super) struct Score {
    /// The score at `at`; since then it has decayed.
    value: f64,
    at: Instant,
    /// Its invalid deliveries, as gossipsub counts them, as far as gossipsub does not, at `at`.
    invalid: f64,
    /// What was charged within the last window, oldest first. At most `offence_cap / smallest cost` long.
    charges: VecDeque<(Instant, f64)>,
    below: Option<Below>,
    /// Its place among the [`DisconnectedScores`].
    place: Option<Magnitude>,
}

/// Time below the ban threshold.
#[derive(Debug, Clone, Copy)]
struct Below {
    total: Duration,
    /// When it was last seen to be below; none since it has disconnected.
    seen: Option<Instant>,
    /// When it was seen to be below the last time of all.
    last: Instant,
}

impl Score {
    pub(super) const fn new(now: Instant) -> Self {
        Self { value: 0.0, at: now, invalid: 0.0, charges: VecDeque::new(), below: None, place: None }
    }

    /// Charges an offence, as far as the cap of the window leaves room. Returns the score.
    pub(super) fn charge(&mut self, offence: Offence, config: &ScoreConfig, now: Instant) -> f64 {
        self.decay(config, now);
        while let Some((at, _)) = self.charges.front()
            && now.saturating_duration_since(*at) >= config.offence_window
        {
            self.charges.pop_front();
        }
        let charged: f64 = self.charges.iter().map(|(_, points)| points).sum();
        let points = cost(offence).min(config.offence_cap - charged);
        if points > 0.0 {
            self.charges.push_back((now, points));
            self.value = (self.value - points).max(-config.clamp);
        }
        self.value
    }

    /// Counts an invalid delivery as gossipsub would, and no offence.
    pub(super) fn invalid_delivery(&mut self, config: &ScoreConfig, now: Instant) {
        self.decay(config, now);
        self.invalid += 1.0;
    }

    /// Credits an accepted message.
    pub(super) fn credit(&mut self, config: &ScoreConfig, now: Instant) {
        self.decay(config, now);
        self.value = (self.value + config.acceptance).min(config.clamp);
    }

    /// Takes note of the application score while the peer is connected, and says whether it has been too low for too
    /// long. Disconnecting does not start that time anew, and time away does not count.
    pub(super) fn observe(&mut self, score: f64, config: &ScoreConfig, now: Instant) -> ScoreState {
        if score >= config.ban_threshold {
            self.below = None;
            return ScoreState::Tolerated;
        }
        self.decay(config, now);
        let below = self.below.get_or_insert(Below { total: Duration::ZERO, seen: None, last: now });
        let since = below.seen.unwrap_or(now);
        below.total = below.total.saturating_add(now.saturating_duration_since(since));
        (below.seen, below.last) = (Some(now), now);
        if below.total > config.ban_after {
            self.below = None;
            ScoreState::Banned
        } else {
            ScoreState::Tolerated
        }
    }

    pub(super) const fn on_disconnected(&mut self) {
        if let Some(below) = &mut self.below {
            below.seen = None;
        }
    }

    /// The application score.
    pub(super) fn value(&self, config: &ScoreConfig, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        self.value * config.decay.powf(elapsed.as_secs_f64() / config.decay_interval.as_secs_f64())
    }

    fn invalid(&self, config: &ScoreConfig, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        self.invalid * config.topic.invalid_deliveries_decay.powf(elapsed.as_secs_f64())
    }

    /// What gossipsub is told as the application score: the score, and what gossipsub itself would have counted for
    /// messages that only their author could know to be wrong.
    pub(super) fn for_gossipsub(&self, config: &ScoreConfig, now: Instant) -> f64 {
        let invalid = self.invalid(config, now);
        self.value(config, now) + config.topic.weight * config.topic.invalid_deliveries * invalid * invalid
    }

    /// Whether it has decayed to nothing, and was not low recently.
    pub(super) fn is_negligible(&self, config: &ScoreConfig, now: Instant) -> bool {
        let last = self.charges.back();
        let charged = last.is_some_and(|(at, _)| now.saturating_duration_since(*at) < config.offence_window);
        let below =
            self.below.is_some_and(|below| now.saturating_duration_since(below.last) < config.ban_for);
        let scored = self.value(config, now).abs().max(self.invalid(config, now)) >= NEGLIGIBLE;
        !charged && !below && !scored
    }

    /// How far it is from zero.
    fn magnitude(&self, config: &ScoreConfig, reference: Instant) -> Magnitude {
        let intervals =
            self.at.saturating_duration_since(reference).as_secs_f64() / config.decay_interval.as_secs_f64();
        Magnitude(self.value.abs().log2() - intervals * config.decay.log2())
    }

    fn decay(&mut self, config: &ScoreConfig, now: Instant) {
        (self.value, self.invalid) = (self.value(config, now), self.invalid(config, now));
        self.at = self.at.max(now);
    }
}

/// How far a score is from zero: the logarithm of what it would have been at a reference time. As all scores decay alike, the
/// order is the same at any time.
#[derive(Debug, Clone, Copy)]
struct Magnitude(f64);

impl Ord for Magnitude {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Magnitude {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Magnitude {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Magnitude {}

/// The scores of disconnected peers, the one closest to zero first. Those of connected peers are bounded by the connections.
#[derive(Debug)]
pub(super) struct DisconnectedScores {
    reference: Instant,
    order: BTreeSet<(Magnitude, PeerId)>,
}

impl DisconnectedScores {
    pub(super) const fn new(reference: Instant) -> Self {
        Self { reference, order: BTreeSet::new() }
    }

    fn insert(&mut self, peer: PeerId, score: &mut Score, config: &ScoreConfig) {
        self.remove(peer, score);
        let magnitude = score.magnitude(config, self.reference);
        score.place = Some(magnitude);
        self.order.insert((magnitude, peer));
    }

    /// The score is of a connected peer, or forgotten.
    pub(super) fn remove(&mut self, peer: PeerId, score: &mut Score) {
        if let Some(place) = score.place.take() {
            self.order.remove(&(place, peer));
        }
    }
}

impl PeerManager {
    /// Charges a peer with an offence (§7.1), as far as the cap of the window leaves room. Returns its score.
    pub(crate) fn charge(&mut self, peer: PeerId, offence: Offence, now: Instant) -> f64 {
        self.change_score(peer, now, |score, config| score.charge(offence, config, now))
    }

    /// Charges the author of a message with what only it could know to be wrong. gossipsub cannot be told: it would
    /// count an invalid delivery against whoever else has brought the message, too. So that count is kept here, and is
    /// part of what gossipsub is told as the [application score](Self::score_for_gossipsub). Returns the score.
    pub(crate) fn charge_author(&mut self, peer: PeerId, offence: Offence, now: Instant) -> f64 {
        self.change_score(peer, now, |score, config| {
            score.invalid_delivery(config, now);
            score.charge(offence, config, now)
        })
    }

    /// Counts an invalid delivery as gossipsub would, and no offence.
    pub(crate) fn invalid_delivery(&mut self, peer: PeerId, now: Instant) {
        self.change_score(peer, now, |score, config| score.invalid_delivery(config, now));
    }

    /// Credits a peer with an accepted message.
    pub(crate) fn credit(&mut self, peer: PeerId, now: Instant) {
        self.change_score(peer, now, |score, config| score.credit(config, now));
    }

    /// The application score of a peer; zero if nothing is known of it.
    pub(crate) fn application_score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.score(peer).map_or(0.0, |score| score.value(&self.config.score, now))
    }

    /// What gossipsub is told as the application score of a peer: the score, and what gossipsub itself would have
    /// counted for messages that only their author could know to be wrong.
    pub(crate) fn score_for_gossipsub(&self, peer: &PeerId, now: Instant) -> f64 {
        self.score(peer).map_or(0.0, |score| score.for_gossipsub(&self.config.score, now))
    }

    /// Takes note of the application score of a connected peer, and says whether it has been too low for too long.
    pub(crate) fn observe_score(&mut self, peer: PeerId, score: f64, now: Instant) -> ScoreState {
        if self.score(&peer).is_none() && score >= self.config.score.ban_threshold {
            return ScoreState::Tolerated;
        }
        self.change_score(peer, now, |of, config| of.observe(score, config, now))
    }

    fn score(&self, peer: &PeerId) -> Option<&Score> {
        self.peers.get(peer)?.score.as_deref()
    }

    /// Changes the score of a peer, made if there is none.
    fn change_score<T>(
        &mut self,
        peer: PeerId,
        now: Instant,
        change: impl FnOnce(&mut Score, &ScoreConfig) -> T,
    ) -> T {
        let record = self.peers.entry(peer).or_default();
        let score = record.score.get_or_insert_with(|| Box::new(Score::new(now)));
        let changed = change(score, &self.config.score);
        if record.connected.is_none() {
            self.disconnected_scores.insert(peer, score, &self.config.score);
            self.forget_excess_scores();
        }
        changed
    }

    /// The score of a peer is that of a disconnected one from now on.
    pub(super) fn on_score_disconnected(&mut self, peer: PeerId) {
        if let Some(score) = self.peers.get_mut(&peer).and_then(|record| record.score.as_deref_mut()) {
            score.on_disconnected();
            self.disconnected_scores.insert(peer, score, &self.config.score);
            self.forget_excess_scores();
        }
    }

    fn forget_excess_scores(&mut self) {
        while self.disconnected_scores.order.len() > self.config.score.max_scores.get()
            && let Some((_, least)) = self.disconnected_scores.order.first().copied()
        {
            self.forgive(&least);
        }
    }

    pub(super) fn forgive(&mut self, peer: &PeerId) {
        if let Some(mut score) = self.peers.get_mut(peer).and_then(|record| record.score.take()) {
            self.disconnected_scores.remove(*peer, &mut score);
        }
        self.drop_if_empty(peer);
    }
}

#[cfg(test)]
mod tests {
    use std::{iter::repeat_with, num::NonZeroUsize, time::Duration};

    use libp2p::{Multiaddr, identity::Keypair, swarm::ConnectionId};
    use p2p_fixtures::assert_as_cheap;

    use super::*;
    use crate::{
        NetworkConfig,
        peer_manager::{Connection, Start},
    };

    const EXACT: f64 = 1e-12;

    struct Rig {
        peers: PeerManager,
        peer: PeerId,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self::with(ScoreConfig::default())
        }

        fn with(config: ScoreConfig) -> Self {
            let (mut network, start) = (NetworkConfig::new(1, Keypair::generate_ed25519()), Instant::now());
            network.score = config;
            Self { peers: PeerManager::new(&network, Start::First, start), peer: PeerId::random(), start }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn offence(&mut self, millis: u64) -> f64 {
            let now = self.at(millis);
            self.peers.charge(self.peer, Offence::BadSignature, now)
        }

        fn connect(&mut self, peer: PeerId) {
            let connection =
                Connection { id: ConnectionId::new_unchecked(1), address: Multiaddr::empty(), inbound: true };
            self.peers.on_connected(peer, connection, self.start);
        }

        fn scores(&self) -> usize {
            self.peers.peers.values().filter(|peer| peer.score.is_some()).count()
        }

        fn disconnect(&mut self) {
            self.connect(self.peer);
            let gone = self.peers.on_disconnected(&self.peer, ConnectionId::new_unchecked(1), 0, self.start);
            assert!(gone.is_some());
        }

        #[track_caller]
        fn expect(&self, millis: u64, score: f64) {
            let actual = self.peers.application_score(&self.peer, self.at(millis));
            assert!((actual - score).abs() < EXACT, "{actual} instead of {score} at {millis} ms");
        }
    }

    #[test]
    fn an_offence_costs_a_point_and_an_acceptance_earns_a_twentieth() {
        let mut rig = Rig::new();
        rig.expect(0, 0.0);
        rig.offence(0);
        rig.expect(0, -1.0);
        rig.peers.credit(rig.peer, rig.at(0));
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
            assert_eq!(rig.peers.charge(rig.peer, offence, rig.at(0)), -points, "{offence:?}");
            rig.expect(10_000, -0.9 * points);
            rig.expect(60_000, -0.9_f64.powi(6) * points);
        }
    }

    #[test]
    fn what_is_forgiven_is_forgotten() {
        let mut rig = Rig::new();
        rig.offence(0);
        rig.peers.forgive(&rig.peer.clone());
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
            rig.peers.credit(rig.peer, rig.at(0));
        }
        rig.expect(0, 10.0);
    }

    #[test]
    fn offences_cost_as_much_in_a_window_as_is_set() {
        let (decay, offence_window) = (1.0, Duration::from_secs(3));
        let mut rig =
            Rig::with(ScoreConfig { offence_cap: 2.0, offence_window, decay, ..ScoreConfig::default() });
        for (millis, score) in
            [(0, -1.0), (1, -2.0), (2_999, -2.0), (3_000, -3.0), (3_000, -3.0), (3_001, -4.0)]
        {
            assert_eq!(rig.offence(millis), score, "at {millis} ms");
        }
    }

    #[test]
    fn a_score_grows_decays_and_ends_as_is_set() {
        let (decay, decay_interval) = (0.5, Duration::from_secs(4));
        let config =
            ScoreConfig { acceptance: 0.75, decay, decay_interval, clamp: 2.0, ..ScoreConfig::default() };
        let mut rig = Rig::with(config);
        for score in [0.75, 1.5, 2.0, 2.0] {
            rig.peers.credit(rig.peer, rig.at(0));
            rig.expect(0, score);
        }
        rig.expect(4_000, 1.0);
        rig.expect(8_000, 0.5);
        for _ in 0..4 {
            rig.offence(0);
        }
        rig.expect(0, -2.0);
    }

    #[test]
    fn an_authors_fault_costs_what_gossipsub_would_take() {
        let mut config = ScoreConfig::default();
        (config.topic.weight, config.topic.invalid_deliveries) = (3.0, -0.5);
        config.topic.invalid_deliveries_decay = 0.5;
        let mut rig = Rig::with(config);
        rig.peers.invalid_delivery(rig.peer, rig.at(0));
        rig.peers.invalid_delivery(rig.peer, rig.at(0));
        for (millis, mirrored) in [(0, -6.0), (1_000, -1.5)] {
            let actual = rig.peers.score_for_gossipsub(&rig.peer, rig.at(millis));
            assert!((actual - mirrored).abs() < EXACT, "{actual} at {millis} ms");
        }
    }

    #[test]
    fn a_ban_comes_after_the_time_and_below_the_score_set() {
        let mut config = ScoreConfig::default();
        (config.ban_threshold, config.ban_after) = (-7.0, Duration::from_secs(2));
        config.ban_for = Duration::from_secs(9);
        let mut rig = Rig::with(config);
        let peer = rig.peer;
        for (score, millis, state) in [
            (-7.0, 0, ScoreState::Tolerated),
            (-7.1, 5_000, ScoreState::Tolerated),
            (-7.1, 7_000, ScoreState::Tolerated),
            (-7.1, 7_001, ScoreState::Banned),
        ] {
            assert_eq!(rig.peers.observe_score(peer, score, rig.at(millis)), state, "at {millis} ms");
        }
        assert_eq!(rig.peers.ban(peer, rig.at(7_001)), None);
        assert!(rig.peers.expire_bans(rig.at(16_000)).is_empty());
        assert_eq!(rig.peers.expire_bans(rig.at(16_001)), [peer]);
    }

    #[test]
    fn a_ban_needs_more_than_thirty_seconds_below_five_without_a_break() {
        let mut rig = Rig::new();
        let peer = rig.peer;
        assert_eq!(rig.peers.observe_score(peer, -5.1, rig.at(0)), ScoreState::Tolerated);
        assert_eq!(rig.peers.observe_score(peer, -5.1, rig.at(30_000)), ScoreState::Tolerated);
        assert_eq!(rig.peers.observe_score(peer, -5.0, rig.at(30_000)), ScoreState::Tolerated);
        assert_eq!(rig.peers.observe_score(peer, -9.0, rig.at(30_001)), ScoreState::Tolerated);
        assert_eq!(rig.peers.observe_score(peer, -9.0, rig.at(60_001)), ScoreState::Tolerated);
        assert_eq!(rig.peers.observe_score(peer, -9.0, rig.at(60_002)), ScoreState::Banned);
    }

    #[test]
    fn time_away_does_not_count_as_below_and_is_no_break_either() {
        let mut rig = Rig::new();
        let peer = rig.peer;
        let below = |rig: &mut Rig, millis| {
            rig.peers.observe_score(peer, -6.0, rig.start + Duration::from_millis(millis))
        };
        assert_eq!(below(&mut rig, 0), ScoreState::Tolerated);
        assert_eq!(below(&mut rig, 20_000), ScoreState::Tolerated);
        rig.disconnect();
        // An hour less a second later.
        assert_eq!(below(&mut rig, 3_599_000), ScoreState::Tolerated);
        assert_eq!(below(&mut rig, 3_609_000), ScoreState::Tolerated);
        assert_eq!(below(&mut rig, 3_609_001), ScoreState::Banned);
    }

    #[test]
    fn a_low_score_of_a_peer_that_never_returns_is_forgotten_in_the_end() {
        let mut rig = Rig::new();
        assert_eq!(rig.peers.observe_score(rig.peer, -6.0, rig.at(0)), ScoreState::Tolerated);
        rig.disconnect();
        rig.peers.prune(rig.at(3_599_999));
        assert_eq!(rig.scores(), 1);
        rig.peers.prune(rig.at(3_600_000));
        assert_eq!(rig.scores(), 0);
    }

    #[test]
    fn what_only_the_author_can_know_counts_as_an_invalid_delivery_of_the_author() {
        let mut rig = Rig::new();
        for (times, invalid) in [(1.0, -2.0), (2.0, -8.0)] {
            rig.peers.charge_author(rig.peer, Offence::WrongSigner, rig.at(0));
            rig.expect(0, -times);
            let mirrored = rig.peers.score_for_gossipsub(&rig.peer, rig.at(0));
            assert!((mirrored - (invalid - times)).abs() < EXACT, "{mirrored}");
        }
        // After ten seconds: 0.99^10 of two, squared, twice; and 0.9 of two points.
        let later = -2.0 * (2.0 * 0.99_f64.powi(10)).powi(2) - 1.8;
        let mirrored = rig.peers.score_for_gossipsub(&rig.peer, rig.at(10_000));
        assert!((mirrored - later).abs() < EXACT, "{mirrored}");
        rig.peers.forgive(&rig.peer.clone());
        assert_eq!(rig.peers.score_for_gossipsub(&rig.peer, rig.at(10_000)), 0.0);
    }

    #[test]
    fn what_has_decayed_to_nothing_is_forgotten() {
        let mut rig = Rig::new();
        rig.offence(0);
        rig.peers.prune(rig.at(60_000));
        assert_eq!(rig.scores(), 1);
        // 0.9^44 = 0.0097
        rig.peers.prune(rig.at(440_000));
        assert_eq!(rig.scores(), 0);
    }

    #[test]
    fn a_full_map_keeps_those_who_offended_most() {
        let mut rig =
            Rig::with(ScoreConfig { max_scores: NonZeroUsize::new(3).unwrap(), ..ScoreConfig::default() });
        rig.offence(0);
        rig.offence(0);
        for _ in 0..100 {
            rig.peers.charge(PeerId::random(), Offence::Malformed, rig.at(1));
        }
        assert_eq!(rig.scores(), 3);
        assert!(rig.peers.application_score(&rig.peer, rig.at(1)) < -1.9);
    }

    #[test]
    fn in_a_full_map_a_connected_peer_that_goes_on_offending_gets_its_score() {
        let mut rig = Rig::with(ScoreConfig { max_scores: NonZeroUsize::MIN, ..ScoreConfig::default() });
        for _ in 0..4 {
            rig.offence(0);
        }
        let connected = [(); 2].map(|()| PeerId::random());
        for peer in connected {
            rig.connect(peer);
        }
        for points in [1.0, 2.0, 3.0] {
            for peer in connected {
                assert_eq!(rig.peers.charge(peer, Offence::Malformed, rig.at(0)), -points);
            }
        }
        // When they have gone, the one closest to zero makes room.
        for peer in connected {
            let id = ConnectionId::new_unchecked(1);
            assert!(rig.peers.on_disconnected(&peer, id, 0, rig.start).is_some());
        }
        rig.expect(0, -4.0);
        assert_eq!(rig.scores(), 1);
    }

    #[test]
    fn the_first_to_be_forgotten_is_the_closest_to_zero_now() {
        let mut rig =
            Rig::with(ScoreConfig { max_scores: NonZeroUsize::new(3).unwrap(), ..ScoreConfig::default() });
        let charge = |rig: &mut Rig, millis| {
            let peer = PeerId::random();
            rig.peers.charge(peer, Offence::Malformed, rig.at(millis));
            peer
        };
        let old = charge(&mut rig, 0);
        let older_but_worse = charge(&mut rig, 0);
        rig.peers.charge(older_but_worse, Offence::Malformed, rig.at(0));
        let young = charge(&mut rig, 30_000);
        charge(&mut rig, 30_000);
        let has_score = |peer| rig.peers.score(peer).is_some();
        assert_eq!([&old, &older_but_worse, &young].map(has_score), [false, true, true]);
        // What returns is not forgotten, whatever comes.
        rig.connect(young);
        for _ in 0..9 {
            charge(&mut rig, 40_000);
        }
        assert!(rig.peers.score(&young).is_some());
        rig.peers.forgive(&older_but_worse);
        assert_eq!((rig.scores(), rig.peers.disconnected_scores.order.len()), (3, 2));
        rig.peers.prune(rig.at(3_600_000));
        assert_eq!((rig.scores(), rig.peers.disconnected_scores.order.len()), (0, 0));
    }

    #[test]
    fn a_new_score_costs_no_more_where_the_map_is_full() {
        let cost = |disconnected: usize| {
            let mut rig = Rig::new();
            for peer in repeat_with(PeerId::random).take(disconnected) {
                for _ in 0..4 {
                    rig.peers.charge(peer, Offence::Malformed, rig.at(0));
                }
            }
            let newcomers: Vec<_> = repeat_with(PeerId::random).take(128).collect();
            let begun = Instant::now();
            for peer in newcomers {
                rig.peers.charge(peer, Offence::Malformed, rig.at(1));
            }
            begun.elapsed()
        };
        assert_as_cheap("a new score", 10, || cost(ScoreConfig::default().max_scores.get()), || cost(0));
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
