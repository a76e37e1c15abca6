//! The outbound rate limiter: requests of ours wait until the peer's rate limit allows them, so that no peer has a reason
//! to punish the requester (§10). No clock: every call says what time it is.
//!
//! A peer that advertises in its agent string how much it answers, or that the operator names, is asked at that rate,
//! until it refuses once. Nobody else is asked faster than the deployed peers allow: trying costs a ban there. Which
//! limit applies when is the shared model of [`rate_limit`](preconfirmation_types::rate_limit).
//!
//! The window is the responder's, so it outlives a connection of ours, and a restart: what was sent to a peer is
//! remembered for a while after it has disconnected, and after a restart the windows of all peers whose limit is not known
//! count as full.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use preconfirmation_types::rate_limit::{MAX_ADVERTISED_WINDOW, RateLimit, RateLimitPolicy, SentRequests};
use schnellru::{ByLength, LruMap};

use crate::config::PacingConfig;

/// A peer and one of its protocols.
pub(crate) type PeerProtocol = (PeerId, &'static str);

/// Most disconnected peers whose windows are remembered. A hundred strangers a second shake hands with us, and one is
/// remembered for a minute: 100 * 60, and some room. In the worst case 3 protocols with `most_requests` instants each;
/// but for that each must have been sent so many.
const MAX_ABSENT: u32 = 8192;

/// The requests of ours to one peer on one protocol.
#[derive(Debug)]
struct Queue<T> {
    sent: SentRequests,
    waiting: VecDeque<T>,
    in_flight: usize,
    answers: RoundTrips,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            sent: SentRequests::default(),
            waiting: VecDeque::new(),
            in_flight: 0,
            answers: RoundTrips::default(),
        }
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

/// What is known of a peer.
#[derive(Debug)]
struct Peer<T> {
    advertised: Option<RateLimit>,
    /// By protocol, of which there are three.
    queues: Vec<(&'static str, Queue<T>)>,
}

impl<T> Peer<T> {
    const fn new() -> Self {
        Self { advertised: None, queues: Vec::new() }
    }

    fn queue(&self, protocol: &'static str) -> Option<&Queue<T>> {
        self.queues.iter().find(|(of, _)| *of == protocol).map(|(_, queue)| queue)
    }

    fn queue_mut(&mut self, protocol: &'static str) -> Option<&mut Queue<T>> {
        self.queues.iter_mut().find(|(of, _)| *of == protocol).map(|(_, queue)| queue)
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

/// The requests to all peers. Of each peer and protocol, at most as many as the rate limit allows leave in any window, and at
/// most `in_flight` are unanswered, in the order in which they came.
pub(crate) struct OutboundRateLimiter<T> {
    config: PacingConfig,
    policy: RateLimitPolicy,
    /// What the operator says of peers.
    named: HashMap<PeerId, RateLimit>,
    /// As many as there are connections.
    connected: HashMap<PeerId, Peer<T>>,
    /// Disconnected peers, each with the time when it went, oldest first. Nothing of theirs waits.
    absent: LruMap<PeerId, (Instant, Peer<T>), ByLength>,
    /// Where something waits.
    active: BTreeSet<PeerProtocol>,
    waiting: usize,
}

impl<T> OutboundRateLimiter<T> {
    pub(crate) fn new(
        config: PacingConfig,
        named: HashMap<PeerId, RateLimit>,
        start: Start,
        now: Instant,
    ) -> Self {
        Self {
            config,
            policy: config.policy(start == Start::Restart, now),
            named,
            connected: HashMap::new(),
            absent: LruMap::new(ByLength::new(MAX_ABSENT)),
            active: BTreeSet::new(),
            waiting: 0,
        }
    }

    /// Takes note of what a connected peer says of itself.
    pub(crate) fn learn(&mut self, peer: PeerId, advertised: Option<RateLimit>) {
        self.peer(peer).advertised = advertised;
    }

    /// The limit that a peer is asked at: what the operator says, what it says itself, or nothing but the deployed one.
    pub(crate) fn known_limit(&self, peer: &PeerId) -> Option<RateLimit> {
        let advertised = || self.connected.get(peer).and_then(|peer| peer.advertised);
        self.named.get(peer).copied().or_else(advertised)
    }

    fn peer(&mut self, peer: PeerId) -> &mut Peer<T> {
        let absent = &mut self.absent;
        self.connected
            .entry(peer)
            .or_insert_with(|| absent.remove(&peer).map_or_else(Peer::new, |(_, known)| known))
    }

    /// Puts a request to a connected peer at the end of its queue, or gives it back if the queue is full.
    pub(crate) fn push(&mut self, key: PeerProtocol, item: T) -> Result<(), T> {
        let (limit, protocol) = (self.config.waiting.get(), key.1);
        let peer = self.peer(key.0);
        if peer.queue(protocol).is_none() {
            peer.queues.push((protocol, Queue::default()));
        }
        let Some(queue) = peer.queue_mut(protocol).filter(|queue| queue.waiting.len() < limit) else {
            return Err(item);
        };
        queue.waiting.push_back(item);
        self.active.insert(key);
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next request that may be sent and that somebody still wants. The caller sends it at once, and says
    /// when it is [`done`](Self::done): it counts from `now` on. What nobody wants any more costs nothing.
    pub(crate) fn pop(&mut self, now: Instant, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut emptied = Vec::new();
        let mut next = None;
        for key @ (peer, protocol) in &self.active {
            let Some(Peer { advertised, queues }) = self.connected.get_mut(peer) else {
                continue;
            };
            let known = self.named.get(peer).copied().or(*advertised);
            let Some((_, queue)) = queues.iter_mut().find(|(of, _)| of == protocol) else {
                continue;
            };
            while queue.waiting.front().is_some_and(|item| !wanted(item)) {
                queue.waiting.pop_front();
                self.waiting -= 1;
            }
            let allowed = self.policy.next_allowed(known, &queue.sent, now);
            if !queue.waiting.is_empty()
                && queue.in_flight < self.config.in_flight.get()
                && allowed.is_none_or(|allowed| allowed <= now)
            {
                next = queue.waiting.pop_front();
                self.waiting -= 1;
                queue.in_flight += 1;
                queue.sent.record(self.policy.limit(known, &queue.sent, now), now);
            }
            if queue.waiting.is_empty() {
                emptied.push(*key);
            }
            if next.is_some() {
                break;
            }
        }
        for key in emptied {
            self.active.remove(&key);
        }
        next
    }

    /// When the next waiting request may be sent; an instant in the past if one may be now. `None` if none waits, or
    /// all that do wait for an answer.
    pub(crate) fn next_allowed(&self, now: Instant) -> Option<Instant> {
        let allowed = self.active.iter().filter_map(|(peer, protocol)| {
            let queue = self.connected.get(peer)?.queue(protocol)?;
            let waits = !queue.waiting.is_empty() && queue.in_flight < self.config.in_flight.get();
            let known = self.known_limit(peer);
            waits.then(|| self.policy.next_allowed(known, &queue.sent, now).unwrap_or(now))
        });
        allowed.min()
    }

    /// A request that had been sent has ended.
    pub(crate) fn done(&mut self, (peer, protocol): PeerProtocol, outcome: Outcome, now: Instant) {
        let policy = self.policy;
        let Some(queue) = self.connected.get_mut(&peer).and_then(|peer| peer.queue_mut(protocol)) else {
            return;
        };
        queue.in_flight = queue.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered(took) => queue.answers.add(took),
            Outcome::Refused => queue.sent.refused(&policy, now),
            Outcome::Failed => {}
        }
    }

    /// An answer has taken longer than answers of this peer should: what is known about them is not worth much any
    /// more. The request stays in flight until it is [`done`](Self::done).
    pub(crate) fn late(&mut self, (peer, protocol): PeerProtocol) {
        if let Some(queue) = self.connected.get_mut(&peer).and_then(|peer| peer.queue_mut(protocol)) {
            queue.answers = RoundTrips::default();
        }
    }

    /// How long an answer may take until its asker hears that it is late.
    pub(crate) fn timeout(&self, (peer, protocol): PeerProtocol) -> Duration {
        let queue = self.connected.get(&peer).and_then(|peer| peer.queue(protocol));
        queue.map(|queue| queue.answers).unwrap_or_default().timeout(self.config)
    }

    /// How many requests wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes all that waits for a peer that has gone, and forgets what it has said of itself. What was sent to it
    /// still counts, should it return.
    pub(crate) fn gone(&mut self, peer: &PeerId, now: Instant) -> Vec<T> {
        let Some(mut known) = self.connected.remove(peer) else {
            return Vec::new();
        };
        let mut items = Vec::new();
        for (protocol, queue) in &mut known.queues {
            self.active.remove(&(*peer, *protocol));
            self.waiting -= queue.waiting.len();
            items.extend(queue.waiting.drain(..));
            queue.waiting = VecDeque::new();
            queue.in_flight = 0;
        }
        known.advertised = None;
        if known.queues.iter().any(|(_, queue)| !queue.sent.is_empty()) {
            self.absent.insert(*peer, (now, known));
        }
        items
    }

    /// Forgets peers that have gone and whose windows are over. Work for those only that are forgotten.
    pub(crate) fn prune(&mut self, now: Instant) {
        let memory = MAX_ADVERTISED_WINDOW.max(self.policy.default.window).max(self.policy.cooldown);
        let over = |gone: Instant| now.saturating_duration_since(gone) >= memory;
        while self.absent.peek_oldest().is_some_and(|(_, (gone, _))| over(*gone)) {
            self.absent.pop_oldest();
        }
    }
}

/// How a request that had been sent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// After so long.
    Answered(Duration),
    /// The stream was closed without a byte: it was asked too often.
    Refused,
    Failed,
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use governor::{Quota, RateLimiter, clock::FakeRelativeClock};

    use super::*;
    use crate::config::ServingConfig;

    const WINDOW: Duration = Duration::from_millis(10_500);

    fn key() -> PeerProtocol {
        (PeerId::random(), "get_head")
    }

    fn limiter<T>(config: PacingConfig) -> OutboundRateLimiter<T> {
        OutboundRateLimiter::new(config, HashMap::new(), Start::First, Instant::now())
    }

    fn answered<T>(limiter: &mut OutboundRateLimiter<T>) {
        let queues = limiter.connected.values_mut().flat_map(|peer| &mut peer.queues);
        queues.for_each(|(_, queue)| queue.in_flight = 0);
    }

    /// Takes all that may be sent; each is answered at once.
    fn drain(limiter: &mut OutboundRateLimiter<u32>, now: Instant) -> Vec<u32> {
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
    fn strangers_that_have_gone_are_forgotten_after_a_minute() {
        let (mut limiter, start) = (limiter(PacingConfig::default()), Instant::now());
        for _ in 0..100 {
            let key = key();
            limiter.learn(key.0, advertised("raw requests=1/4294967295ms"));
            limiter.push(key, 1).unwrap();
            assert_eq!(limiter.pop(start, |_| true), Some(1));
            assert!(limiter.gone(&key.0, start).is_empty());
        }
        assert_eq!((limiter.connected.len(), limiter.absent.len()), (0, 100));
        limiter.prune(start + MAX_ADVERTISED_WINDOW - Duration::from_millis(1));
        assert_eq!(limiter.absent.len(), 100);
        limiter.prune(start + MAX_ADVERTISED_WINDOW);
        assert_eq!(limiter.absent.len(), 0);
        // Who was never asked is not remembered at all.
        limiter.learn(PeerId::random(), advertised("requests=100/1000ms"));
        let silent = *limiter.connected.keys().next().unwrap();
        limiter.gone(&silent, start);
        assert_eq!(limiter.absent.len(), 0);
    }

    #[test]
    fn a_flood_of_strangers_takes_bounded_memory_and_the_last_are_kept() {
        let (mut limiter, start) = (limiter(PacingConfig::default()), Instant::now());
        let last = (0..MAX_ABSENT + 10).map(|item| {
            let key = key();
            limiter.push(key, item).unwrap();
            assert_eq!(limiter.pop(start, |_| true), Some(item));
            limiter.gone(&key.0, start);
            key
        });
        let last = last.last().unwrap();
        assert_eq!(limiter.absent.len(), MAX_ABSENT as usize);
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
        let mut limiter = OutboundRateLimiter::new(PacingConfig::default(), names, Start::Restart, start);
        limiter.learn(told.0, Some(fast));
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
        limiter.done(key, Outcome::Refused, refused);
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
        let mut limiter = OutboundRateLimiter::new(PacingConfig::default(), names, Start::First, start);
        limiter.learn(key.0, advertised("requests=2/1000ms"));
        assert_eq!(limiter.known_limit(&key.0), Some(limit));
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
        limiter.learn(key.0, advertised("requests=100/1000ms"));
        for item in 0..300 {
            limiter.push(key, item).unwrap();
        }
        let second = Duration::from_millis(1050);
        assert_eq!(drain(&mut limiter, start).len(), 100);
        assert_eq!(drain(&mut limiter, start + second).len(), 100);
        // One refusal: the deployed limit, and what was sent within its window counts.
        limiter.done(key, Outcome::Refused, start + second);
        assert_eq!(limiter.next_allowed(start + second), Some(start + second + WINDOW));
        limiter.learn(key.0, advertised("requests=100/1000ms"));
        assert!(drain(&mut limiter, start + second + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut limiter, start + second + WINDOW).len(), 8);
        // A minute later it is believed again.
        assert_eq!(drain(&mut limiter, start + second + Duration::from_secs(60)).len(), 92);
    }

    #[test]
    fn a_peer_that_tells_nothing_any_more_is_asked_at_the_deployed_limit() {
        let (mut limiter, start, key) = (limiter(PacingConfig::default()), Instant::now(), key());
        limiter.learn(key.0, advertised("requests=100/1000ms"));
        limiter.learn(key.0, None);
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
        let pop = |limiter: &mut OutboundRateLimiter<i32>| limiter.pop(start, |_| true);
        assert_eq!([pop(&mut limiter), pop(&mut limiter), pop(&mut limiter)], [Some(0), Some(1), Some(2)]);
        assert_eq!((pop(&mut limiter), limiter.next_allowed(start)), (None, None));
        limiter.done(key, Outcome::Failed, start);
        assert_eq!(limiter.next_allowed(start), Some(start));
        assert_eq!((pop(&mut limiter), pop(&mut limiter)), (Some(3), None));
    }

    #[test]
    fn the_timeout_follows_what_answers_take() {
        let (mut limiter, start, key) = (limiter::<u32>(PacingConfig::default()), Instant::now(), key());
        limiter.push(key, 0).unwrap();
        let took = |limiter: &mut OutboundRateLimiter<u32>, millis| {
            limiter.done(key, Outcome::Answered(Duration::from_millis(millis)), start);
            limiter.timeout(key)
        };
        let seconds = Duration::from_secs;
        assert_eq!(limiter.timeout(key), seconds(10), "nothing is known");
        // 1 s, and four times half a second.
        assert_eq!(took(&mut limiter, 1000), seconds(3));
        // Never below two seconds, however fast, and never above ten, however slow.
        for _ in 0..100 {
            took(&mut limiter, 1);
        }
        assert_eq!(limiter.timeout(key), seconds(2));
        for _ in 0..100 {
            took(&mut limiter, 60_000);
        }
        assert_eq!(limiter.timeout(key), seconds(10));
        for _ in 0..100 {
            took(&mut limiter, 1);
        }
        limiter.late(key);
        assert_eq!(limiter.timeout(key), seconds(10));
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
        limiter.learn(key.0, limit.filter(|_| told));
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
            (0..8).for_each(|_| limiter.done(key, Outcome::Answered(step), start + now));
            if limiter.waiting() == 0 {
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
