//! Outbound requests in the record of a peer: its rate limit, what was sent to it, and how long its answers take.
//!
//! A peer that advertises in its agent string how much it answers, or that the operator names, is asked at that rate,
//! until it refuses once. Nobody else is asked faster than the deployed peers allow: trying costs a ban there. Which
//! limit applies when is the shared model of [`rate_limit`](preconfirmation_types::rate_limit).
//!
//! The window is the responder's, so it outlives a connection of ours, and a restart: what was sent to a peer is
//! remembered for a while after it has disconnected, and after a restart the windows of all peers whose limit is not known
//! count as full.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use preconfirmation_types::rate_limit::{MAX_ADVERTISED_WINDOW, RateLimit, SentRequests};

use super::PeerManager;
use crate::config::PacingConfig;

/// A peer and one of its protocols.
pub(crate) type PeerProtocol = (PeerId, &'static str);

/// Most disconnected peers whose sent requests are remembered. A hundred untrusted peers a second shake hands with us, and one is
/// remembered for a minute: 100 * 60, and some room. In the worst case 3 protocols with `most_requests` instants each;
/// but for that each must have been sent so many.
pub(super) const MAX_DEPARTED: usize = 8192;

/// The requests of ours to one peer.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// What it says of itself, while it is connected.
    advertised: Option<RateLimit>,
    /// By protocol, of which there are three.
    protocols: Vec<(&'static str, OutboundProtocol)>,
}

/// The requests of ours to one peer on one protocol.
#[derive(Debug, Default)]
struct OutboundProtocol {
    sent: SentRequests,
    in_flight: usize,
    answers: RoundTrips,
}

impl Outbound {
    fn protocol(&self, protocol: &'static str) -> Option<&OutboundProtocol> {
        self.protocols.iter().find(|(of, _)| *of == protocol).map(|(_, state)| state)
    }

    fn protocol_mut(&mut self, protocol: &'static str) -> Option<&mut OutboundProtocol> {
        self.protocols.iter_mut().find(|(of, _)| *of == protocol).map(|(_, state)| state)
    }
}

/// How long answers take: a moving mean and a moving mean deviation.
#[derive(Debug, Clone, Copy, Default)]
struct RoundTrips {
    mean: Option<Duration>,
    deviation: Duration,
}

impl RoundTrips {
    /// An eighth of the new for the mean, a quarter for the deviation, as TCP does.
    fn add(&mut self, took: Duration) {
        let Some(mean) = self.mean else {
            (self.mean, self.deviation) = (Some(took), took / 2);
            return;
        };
        self.deviation = (self.deviation * 3 + mean.abs_diff(took)) / 4;
        self.mean = Some((mean * 7 + took) / 8);
    }

    /// Four deviations beyond the mean; the most there is while nothing is known.
    fn timeout(self, config: PacingConfig) -> Duration {
        let most = config.timeout;
        let likely = self.mean.map(|mean| mean.saturating_add(self.deviation.saturating_mul(4)));
        likely.map_or(most, |likely| likely.clamp(config.least_timeout.min(most), most))
    }
}

/// Whether an earlier run of this node may have sent requests that still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// This identity has not been used before.
    First,
    /// It may have been, just now: the windows of peers whose limit is not known count as full.
    Restart,
}

/// How a request that had been sent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// After so long.
    Answered(Duration),
    /// The stream was closed without a byte: the peer was asked too often.
    Refused,
    Failed,
}

impl PeerManager {
    /// Takes note of the limit that a connected peer advertises.
    pub(crate) fn on_advertised(&mut self, peer: PeerId, limit: Option<RateLimit>) {
        self.outbound_mut(peer).advertised = limit;
    }

    /// The limit of a peer, as the operator or the peer itself says; `None` if neither does.
    pub(crate) fn rate_limit(&self, peer: &PeerId) -> Option<RateLimit> {
        self.named.get(peer).copied().or_else(|| self.outbound(peer)?.advertised)
    }

    /// When the next request may be sent; an instant in the past or `now` if one may be sent now. `None` while too many are
    /// in flight.
    pub(crate) fn next_request_allowed(
        &self,
        (peer, protocol): &PeerProtocol,
        now: Instant,
    ) -> Option<Instant> {
        let Some(state) = self.outbound(peer).and_then(|outbound| outbound.protocol(protocol)) else {
            let nothing = SentRequests::default();
            return Some(self.policy.next_allowed(self.rate_limit(peer), &nothing, now).unwrap_or(now));
        };
        let allowed = || self.policy.next_allowed(self.rate_limit(peer), &state.sent, now).unwrap_or(now);
        (state.in_flight < self.config.pacing.in_flight.get()).then(allowed)
    }

    /// A request is sent.
    pub(crate) fn on_request_sent(&mut self, (peer, protocol): &PeerProtocol, now: Instant) {
        let (policy, known) = (self.policy, self.rate_limit(peer));
        let outbound = self.outbound_mut(*peer);
        if outbound.protocol(protocol).is_none() {
            outbound.protocols.push((*protocol, OutboundProtocol::default()));
        }
        if let Some(state) = outbound.protocol_mut(protocol) {
            state.in_flight += 1;
            state.sent.record(policy.limit(known, &state.sent, now), now);
        }
    }

    /// A request that had been sent has ended.
    pub(crate) fn on_request_done(
        &mut self,
        (peer, protocol): &PeerProtocol,
        outcome: Outcome,
        now: Instant,
    ) {
        let policy = self.policy;
        let Some(state) = self.sent_mut(peer, protocol) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered(took) => state.answers.add(took),
            Outcome::Refused => state.sent.refused(&policy, now),
            Outcome::Failed => {}
        }
    }

    /// An answer has taken longer than answers of this peer should: what is known about them is not worth much any
    /// more. The request stays in flight until it is [done](Self::on_request_done).
    pub(crate) fn on_request_late(&mut self, (peer, protocol): &PeerProtocol) {
        if let Some(state) = self.sent_mut(peer, protocol) {
            state.answers = RoundTrips::default();
        }
    }

    /// How long an answer may take until the requester is told that it is late.
    pub(crate) fn request_timeout(&self, (peer, protocol): &PeerProtocol) -> Duration {
        let state = self.outbound(peer).and_then(|outbound| outbound.protocol(protocol));
        state.map(|state| state.answers).unwrap_or_default().timeout(self.config.pacing)
    }

    /// A peer has disconnected: forgets what it has advertised. What was sent to it still counts, should it return.
    pub(super) fn close_outbound(&mut self, peer: &PeerId, now: Instant) {
        let Some(record) = self.peers.get_mut(peer) else { return };
        let Some(outbound) = record.outbound.as_deref_mut() else { return };
        outbound.advertised = None;
        outbound.protocols.iter_mut().for_each(|(_, state)| state.in_flight = 0);
        if outbound.protocols.iter().all(|(_, state)| state.sent.is_empty()) {
            record.outbound = None;
            return;
        }
        // A window that the operator names may be of any length, and there are no more of these than he names.
        if self.named.contains_key(peer) {
            return;
        }
        if self.departed.len() >= MAX_DEPARTED
            && let Some((oldest, _)) = self.departed.pop_oldest()
        {
            self.forget_outbound(&oldest);
        }
        self.departed.insert(*peer, now);
    }

    /// Forgets what was sent to peers that have disconnected so long ago that it does not count any more. Work for those
    /// only that are forgotten.
    pub(super) fn prune_departed(&mut self, now: Instant) {
        let memory = MAX_ADVERTISED_WINDOW.max(self.policy.default.window).max(self.policy.cooldown);
        let is_over = |left: Instant| now.saturating_duration_since(left) >= memory;
        while self.departed.peek_oldest().is_some_and(|(_, left)| is_over(*left))
            && let Some((peer, _)) = self.departed.pop_oldest()
        {
            self.forget_outbound(&peer);
        }
    }

    fn forget_outbound(&mut self, peer: &PeerId) {
        if let Some(record) = self.peers.get_mut(peer) {
            record.outbound = None;
        }
        self.drop_if_empty(peer);
    }

    fn outbound(&self, peer: &PeerId) -> Option<&Outbound> {
        self.peers.get(peer)?.outbound.as_deref()
    }

    /// Of a peer that is, or is about to be, connected.
    fn outbound_mut(&mut self, peer: PeerId) -> &mut Outbound {
        self.departed.remove(&peer);
        self.peers.entry(peer).or_default().outbound.get_or_insert_default()
    }

    fn sent_mut(&mut self, peer: &PeerId, protocol: &'static str) -> Option<&mut OutboundProtocol> {
        self.peers.get_mut(peer)?.outbound.as_deref_mut()?.protocol_mut(protocol)
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use governor::{Quota, RateLimiter, clock::FakeRelativeClock};

    use std::collections::HashMap;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::{
        config::{NetworkConfig, ServingConfig},
        request_queue::RequestQueue,
    };

    const WINDOW: Duration = Duration::from_millis(10_500);

    fn key() -> PeerProtocol {
        (PeerId::random(), "get_head")
    }

    fn limiter<T>(config: PacingConfig) -> Limiter<T> {
        Limiter::new(config, HashMap::new(), Start::First, Instant::now())
    }

    /// A queue and the records of its peers.
    struct Limiter<T> {
        peers: PeerManager,
        queue: RequestQueue<T>,
    }

    impl<T> Limiter<T> {
        fn new(pacing: PacingConfig, named: HashMap<PeerId, RateLimit>, start: Start, now: Instant) -> Self {
            let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
            (config.pacing, config.rate_limits) = (pacing, named);
            Self { peers: PeerManager::new(&config, start, now), queue: RequestQueue::new(pacing.waiting) }
        }

        fn push(&mut self, key: PeerProtocol, item: T) -> Result<(), T> {
            self.queue.push(key, item)
        }

        fn pop(&mut self, now: Instant, wanted: impl Fn(&T) -> bool) -> Option<T> {
            self.queue.pop(&mut self.peers, now, wanted)
        }

        fn next_allowed(&self, now: Instant) -> Option<Instant> {
            self.queue.next_allowed(&self.peers, now)
        }

        fn gone(&mut self, peer: &PeerId, now: Instant) -> Vec<T> {
            self.peers.close_outbound(peer, now);
            self.peers.drop_if_empty(peer);
            self.queue.remove(peer)
        }
    }

    fn answered<T>(limiter: &mut Limiter<T>) {
        let outbound = limiter.peers.peers.values_mut().filter_map(|peer| peer.outbound.as_deref_mut());
        outbound.flat_map(|of| &mut of.protocols).for_each(|(_, state)| state.in_flight = 0);
    }

    /// Takes all that may be sent; each is answered at once.
    fn drain(limiter: &mut Limiter<u32>, now: Instant) -> Vec<u32> {
        let taken = std::iter::from_fn(|| {
            let item = limiter.pop(now, |_| true)?;
            answered(limiter);
            Some(item)
        });
        taken.collect()
    }

    #[test]
    fn eight_leave_at_once_and_the_ninth_when_the_first_is_a_window_old() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        for item in 0..20 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start), (0..8).collect::<Vec<_>>());
        assert_eq!(limiter.next_allowed(start), Some(start + WINDOW));
        assert!(drain(&mut limiter, start + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut limiter, start + WINDOW), (8..16).collect::<Vec<_>>());
        assert_eq!(drain(&mut limiter, start + 2 * WINDOW), (16..20).collect::<Vec<_>>());
        assert_eq!(limiter.next_allowed(start), None);
    }

    #[test]
    fn as_many_leave_in_a_window_as_are_set() {
        let (requests, window) = (3.try_into().unwrap(), Duration::from_secs(7));
        let config = PacingConfig { requests, window, ..PacingConfig::default() };
        let (mut limiter, start, key) = (limiter(config), Instant::now(), key());
        for item in 0..5 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start), [0, 1, 2]);
        assert_eq!(limiter.next_allowed(start), Some(start + window));
    }

    #[test]
    fn a_limit_is_believed_again_after_the_cooldown_set() {
        let cooldown = Duration::from_secs(20);
        let config = PacingConfig { cooldown, ..PacingConfig::default() };
        let (mut limiter, start, key) = (limiter(config), Instant::now(), key());
        limiter.peers.on_advertised(key.0, advertised("requests=100/1000ms"));
        for item in 0..100 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(limiter.pop(start, |_| true), Some(0));
        limiter.peers.on_request_done(&key, Outcome::Refused, start);
        assert_eq!(drain(&mut limiter, start + cooldown - Duration::from_millis(1)).len(), 8);
        assert_eq!(drain(&mut limiter, start + cooldown).len(), 91);
    }

    #[test]
    fn a_timeout_stays_within_what_is_set() {
        let seconds = Duration::from_secs;
        for (least, most, fast) in [(1, 5, 1), (8, 5, 5)] {
            let config = PacingConfig {
                timeout: seconds(most),
                least_timeout: seconds(least),
                ..PacingConfig::default()
            };
            let (mut limiter, start, key) = (limiter::<u32>(config), Instant::now(), key());
            limiter.push(key, 0).unwrap();
            assert_eq!(limiter.pop(start, |_| true), Some(0));
            assert_eq!(limiter.peers.request_timeout(&key), seconds(most));
            for (took, expected) in [(Duration::from_millis(1), fast), (seconds(60), most)] {
                for _ in 0..100 {
                    limiter.peers.on_request_done(&key, Outcome::Answered(took), start);
                }
                assert_eq!(limiter.peers.request_timeout(&key), seconds(expected));
            }
        }
    }

    #[test]
    fn what_was_sent_to_a_named_peer_counts_for_its_window() {
        let (start, key, window) = (Instant::now(), key(), Duration::from_secs(600));
        let names = HashMap::from([(key.0, RateLimit { requests: NonZeroUsize::MIN, window })]);
        let mut limiter = Limiter::new(PacingConfig::default(), names, Start::First, start);
        limiter.push(key, 0).unwrap();
        assert_eq!(drain(&mut limiter, start), [0]);
        assert!(limiter.gone(&key.0, start).is_empty());
        let returns = start + window - Duration::from_millis(1);
        limiter.peers.prune(returns);
        limiter.push(key, 1).unwrap();
        assert!(drain(&mut limiter, returns).is_empty());
        assert_eq!(drain(&mut limiter, start + window), [1]);
    }

    #[test]
    fn protocols_and_peers_do_not_hold_each_other_back() {
        let (mut limiter, start) = (limiter(PacingConfig::default()), Instant::now());
        let peer = PeerId::random();
        for item in 0..9 {
            limiter.push((peer, "get_head"), item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start).len(), 8);
        limiter.push((peer, "get_raw_txlist"), 100).unwrap();
        limiter.push((PeerId::random(), "get_head"), 200).unwrap();
        let mut now = drain(&mut limiter, start);
        now.sort_unstable();
        assert_eq!(now, [100, 200]);
    }

    #[test]
    fn a_full_queue_gives_the_request_back() {
        let config = PacingConfig { waiting: NonZeroUsize::new(2).unwrap(), ..PacingConfig::default() };
        let (mut limiter, key) = (limiter(config), key());
        assert_eq!(limiter.push(key, 1), Ok(()));
        assert_eq!(limiter.push(key, 2), Ok(()));
        assert_eq!(limiter.push(key, 3), Err(3));
    }

    #[test]
    fn what_nobody_wants_any_more_costs_no_turn() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        for item in 0..16 {
            limiter.push(key, item).unwrap();
        }
        let odd: Vec<u32> = std::iter::from_fn(|| limiter.pop(start, |item| item % 2 == 1)).collect();
        assert_eq!(odd, [1, 3, 5, 7, 9, 11, 13, 15]);
    }

    #[test]
    fn a_peer_that_returns_finds_its_window_as_it_was() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        for item in 0..10 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start).len(), 8);
        assert_eq!(limiter.gone(&key.0, start), [8, 9]);
        assert_eq!(limiter.next_allowed(start), None);
        limiter.push(key, 10).unwrap();
        assert!(drain(&mut limiter, start + Duration::from_secs(5)).is_empty());
    }

    #[test]
    fn untrusted_peers_that_have_gone_are_forgotten_after_a_minute() {
        let (mut limiter, start) = (limiter(PacingConfig::default()), Instant::now());
        for _ in 0..100 {
            let key = key();
            limiter.peers.on_advertised(key.0, advertised("raw requests=1/4294967295ms"));
            limiter.push(key, 1).unwrap();
            assert_eq!(limiter.pop(start, |_| true), Some(1));
            assert!(limiter.gone(&key.0, start).is_empty());
        }
        assert_eq!((limiter.peers.peers.len(), limiter.peers.departed.len()), (100, 100));
        limiter.peers.prune(start + MAX_ADVERTISED_WINDOW - Duration::from_millis(1));
        assert_eq!(limiter.peers.departed.len(), 100);
        limiter.peers.prune(start + MAX_ADVERTISED_WINDOW);
        assert_eq!((limiter.peers.peers.len(), limiter.peers.departed.len()), (0, 0));
        // Who was never asked is not remembered at all.
        let silent = PeerId::random();
        limiter.peers.on_advertised(silent, advertised("requests=100/1000ms"));
        limiter.gone(&silent, start);
        assert_eq!((limiter.peers.peers.len(), limiter.peers.departed.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_untrusted_peers_takes_bounded_memory_and_the_last_are_kept() {
        let (mut limiter, start) = (limiter(PacingConfig::default()), Instant::now());
        let last = (0..u32::try_from(MAX_DEPARTED).unwrap() + 10).map(|item| {
            let key = key();
            limiter.push(key, item).unwrap();
            assert_eq!(limiter.pop(start, |_| true), Some(item));
            limiter.gone(&key.0, start);
            key
        });
        let last = last.last().unwrap();
        assert_eq!((limiter.peers.peers.len(), limiter.peers.departed.len()), (MAX_DEPARTED, MAX_DEPARTED));
        for item in 0..9 {
            limiter.push(last, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start).len(), 7);
    }

    #[test]
    fn after_a_restart_only_the_lenient_are_asked_within_the_first_window() {
        let start = Instant::now();
        let (told, named, deployed) = (key(), key(), key());
        let fast = RateLimit { requests: NonZeroUsize::new(100).unwrap(), window: Duration::from_secs(1) };
        let names = HashMap::from([(named.0, fast)]);
        let mut limiter = Limiter::new(PacingConfig::default(), names, Start::Restart, start);
        limiter.peers.on_advertised(told.0, Some(fast));
        for key in [told, named, deployed] {
            for item in 0..20 {
                limiter.push(key, item).unwrap();
            }
        }
        assert_eq!(drain(&mut limiter, start).len(), 40);
        assert_eq!(limiter.next_allowed(start), Some(start + WINDOW));
        assert!(drain(&mut limiter, start + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut limiter, start + WINDOW).len(), 8);
    }

    #[test]
    fn a_refusal_pauses_that_peer_and_protocol_for_a_whole_window() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        limiter.push(key, 0).unwrap();
        assert_eq!(drain(&mut limiter, start), [0]);
        let refused = start + Duration::from_secs(3);
        limiter.peers.on_request_done(&key, Outcome::Refused, refused);
        limiter.push(key, 1).unwrap();
        limiter.push((key.0, "get_raw_txlist"), 2).unwrap();
        assert_eq!(drain(&mut limiter, refused), [2]);
        // It goes, and comes back: that changes nothing.
        assert_eq!(limiter.gone(&key.0, refused), [1]);
        limiter.push(key, 3).unwrap();
        assert!(drain(&mut limiter, refused + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut limiter, refused + WINDOW), [3]);
    }

    #[test]
    fn the_operator_is_believed_more_than_the_peer() {
        let (start, key) = (Instant::now(), key());
        let limit = RateLimit { requests: NonZeroUsize::new(30).unwrap(), window: Duration::from_secs(1) };
        let names = HashMap::from([(key.0, limit)]);
        let mut limiter = Limiter::new(PacingConfig::default(), names, Start::First, start);
        limiter.peers.on_advertised(key.0, advertised("requests=2/1000ms"));
        assert_eq!(limiter.peers.rate_limit(&key.0), Some(limit));
        for item in 0..100 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start).len(), 30);
    }

    fn advertised(agent: &str) -> Option<RateLimit> {
        RateLimit::from_agent(agent, &PacingConfig::default().bounds())
    }

    #[test]
    fn a_peer_that_tells_more_is_asked_more_until_it_refuses() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        limiter.peers.on_advertised(key.0, advertised("requests=100/1000ms"));
        for item in 0..300 {
            limiter.push(key, item).unwrap();
        }
        let second = Duration::from_millis(1050);
        assert_eq!(drain(&mut limiter, start).len(), 100);
        assert_eq!(drain(&mut limiter, start + second).len(), 100);
        // One refusal: the deployed limit, and what was sent within its window counts.
        limiter.peers.on_request_done(&key, Outcome::Refused, start + second);
        assert_eq!(limiter.next_allowed(start + second), Some(start + second + WINDOW));
        limiter.peers.on_advertised(key.0, advertised("requests=100/1000ms"));
        assert!(drain(&mut limiter, start + second + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut limiter, start + second + WINDOW).len(), 8);
        // A minute later it is believed again.
        assert_eq!(drain(&mut limiter, start + second + Duration::from_secs(60)).len(), 92);
    }

    #[test]
    fn a_peer_that_tells_nothing_any_more_is_asked_at_the_deployed_limit() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        limiter.peers.on_advertised(key.0, advertised("requests=100/1000ms"));
        limiter.peers.on_advertised(key.0, None);
        for item in 0..20 {
            limiter.push(key, item).unwrap();
        }
        assert_eq!(drain(&mut limiter, start).len(), 8);
    }

    #[test]
    fn what_is_without_an_answer_is_bounded() {
        let config = PacingConfig { in_flight: NonZeroUsize::new(3).unwrap(), ..PacingConfig::default() };
        let (mut limiter, start, key) = (limiter(config), Instant::now(), key());
        for item in 0..8 {
            limiter.push(key, item).unwrap();
        }
        let pop = |limiter: &mut Limiter<i32>| limiter.pop(start, |_| true);
        assert_eq!([pop(&mut limiter), pop(&mut limiter), pop(&mut limiter)], [Some(0), Some(1), Some(2)]);
        assert_eq!((pop(&mut limiter), limiter.next_allowed(start)), (None, None));
        limiter.peers.on_request_done(&key, Outcome::Failed, start);
        assert_eq!(limiter.next_allowed(start), Some(start));
        assert_eq!((pop(&mut limiter), pop(&mut limiter)), (Some(3), None));
    }

    #[test]
    fn the_timeout_follows_what_answers_take() {
        let (mut limiter, start, key) = (limiter::<u32>(PacingConfig::default()), Instant::now(), key());
        limiter.push(key, 0).unwrap();
        assert_eq!(limiter.pop(start, |_| true), Some(0));
        let took = |limiter: &mut Limiter<u32>, millis| {
            limiter.peers.on_request_done(&key, Outcome::Answered(Duration::from_millis(millis)), start);
            limiter.peers.request_timeout(&key)
        };
        let seconds = Duration::from_secs;
        assert_eq!(limiter.peers.request_timeout(&key), seconds(10), "nothing is known");
        // 1 s, and four times half a second.
        assert_eq!(took(&mut limiter, 1000), seconds(3));
        // Never below two seconds, however fast, and never above ten, however slow.
        for _ in 0..100 {
            took(&mut limiter, 1);
        }
        assert_eq!(limiter.peers.request_timeout(&key), seconds(2));
        for _ in 0..100 {
            took(&mut limiter, 60_000);
        }
        assert_eq!(limiter.peers.request_timeout(&key), seconds(10));
        for _ in 0..100 {
            took(&mut limiter, 1);
        }
        limiter.peers.on_request_late(&key);
        assert_eq!(limiter.peers.request_timeout(&key), seconds(10));
    }

    /// Asks for so many at once from a server with these limits. How many were refused, and when the last was
    /// answered. Time is virtual.
    fn fetch(count: u32, serving: &ServingConfig, told: bool) -> (usize, Duration) {
        let clock = FakeRelativeClock::default();
        let period = serving.requests_per / serving.requests.get();
        let quota = Quota::with_period(period).unwrap().allow_burst(serving.requests);
        let server = RateLimiter::direct_with_clock(quota, clock.clone());
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        let limit = advertised(&serving.agent(""));
        limiter.peers.on_advertised(key.0, limit.filter(|_| told));
        for item in 0..count {
            limiter.push(key, item).unwrap();
        }
        let (mut refused, mut now) = (0, Duration::ZERO);
        let step = Duration::from_millis(10);
        loop {
            // What is in flight is answered 10 ms later.
            while limiter.pop(start + now, |_| true).is_some() {
                refused += usize::from(server.check().is_err());
            }
            (0..8).for_each(|_| limiter.peers.on_request_done(&key, Outcome::Answered(step), start + now));
            if limiter.queue.waiting() == 0 {
                return (refused, now);
            }
            now += step;
            clock.advance(step);
        }
    }

    #[test]
    fn twenty_four_lists_from_a_deployed_peer_take_two_windows_and_no_refusal() {
        let requests = NonZeroU32::new(8).unwrap();
        let deployed =
            ServingConfig { requests, requests_per: Duration::from_secs(10), ..ServingConfig::default() };
        assert_eq!(fetch(24, &deployed, false), (0, WINDOW * 2));
        assert_eq!(fetch(24, &deployed, true), (0, WINDOW * 2));
    }

    #[test]
    fn a_thousand_lists_from_a_peer_like_us_take_seconds() {
        let (refused, took) = fetch(1000, &ServingConfig::default(), true);
        assert_eq!(refused, 0);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}
