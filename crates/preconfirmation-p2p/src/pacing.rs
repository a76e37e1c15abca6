//! Requests wait for their turn, so that no peer has a reason to punish the asker (§10). No clock: every
//! call says what time it is.
//!
//! A peer that says in its agent string how much it answers is asked at that pace, until it refuses once.
//! Nobody else is asked faster than the deployed peers allow: trying costs four points there.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::config::{PacingConfig, ServingConfig, after};

/// A peer and one of its protocols.
pub(crate) type Lane = (PeerId, &'static str);

/// Marks the pace in an agent string, as in `requests=2048/4000ms`.
const MARK: &str = "requests=";

/// How many requests a peer answers on one protocol in any window of that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pace {
    /// So many.
    pub requests: usize,
    /// The length of the window.
    pub window: Duration,
}

impl Pace {
    /// The agent string of a server with these settings.
    pub(crate) fn advertise(agent: &str, config: &ServingConfig) -> String {
        if !config.advertise {
            return agent.to_owned();
        }
        format!("{agent} {MARK}{}/{}ms", config.requests, config.requests_per.as_millis())
    }

    /// What an agent string says, if it says anything that can be meant, within our own bounds. The window is
    /// a twentieth longer than told, for what the network delays unevenly.
    #[must_use]
    pub fn advertised(agent: &str, config: &PacingConfig) -> Option<Self> {
        let told = agent.split(' ').find_map(|word| word.strip_prefix(MARK))?;
        let (requests, millis) = told.strip_suffix("ms")?.split_once('/')?;
        let (requests, millis): (u32, u32) = (requests.parse().ok()?, millis.parse().ok()?);
        let requests = usize::try_from(requests).ok()?.min(config.most_requests.get());
        let window = Duration::from_millis(millis.into());
        (requests > 0 && !window.is_zero()).then_some(Self { requests, window: window * 21 / 20 })
    }
}

#[derive(Debug)]
struct Queue<T> {
    /// When requests left within the last window, oldest first; never more than the pace allows.
    sent: VecDeque<Instant>,
    waiting: VecDeque<T>,
    in_flight: usize,
    answers: RoundTrips,
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
    fn patience(self, config: PacingConfig) -> Duration {
        let most = config.timeout;
        let likely = self.mean.map(|mean| mean.saturating_add(self.deviation.saturating_mul(4)));
        likely.map_or(most, |likely| likely.clamp(config.least_timeout.min(most), most))
    }
}

/// What is known of a peer's pace.
#[derive(Debug)]
struct Learned {
    pace: Pace,
    /// It has refused: until then the deployed pace is kept.
    careful_until: Option<Instant>,
}

/// The queues of all lanes. In each, at most as many requests as the peer's pace allows leave in any window,
/// and at most `in_flight` are without an answer, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Pacer<T> {
    config: PacingConfig,
    lanes: HashMap<Lane, Queue<T>>,
    learned: HashMap<PeerId, Learned>,
    waiting: usize,
}

impl<T> Pacer<T> {
    pub(crate) fn new(config: PacingConfig) -> Self {
        Self { config, lanes: HashMap::new(), learned: HashMap::new(), waiting: 0 }
    }

    /// Takes note of the pace that a peer has told. A peer that has refused is not believed anew.
    pub(crate) fn learn(&mut self, peer: PeerId, pace: Option<Pace>) {
        match (pace, self.learned.get_mut(&peer)) {
            (Some(pace), Some(learned)) => learned.pace = pace,
            (Some(pace), None) => drop(self.learned.insert(peer, Learned { pace, careful_until: None })),
            (None, _) => drop(self.learned.remove(&peer)),
        }
    }

    /// Puts a request at the end of its lane, or gives it back if the lane is full.
    pub(crate) fn push(&mut self, lane: Lane, item: T) -> Result<(), T> {
        let queue = self.lanes.entry(lane).or_insert_with(|| Queue {
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            answers: RoundTrips::default(),
        });
        if queue.waiting.len() >= self.config.waiting.get() {
            return Err(item);
        }
        queue.waiting.push_back(item);
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next request whose turn has come and that somebody still wants. The caller sends it at
    /// once, and says when it is [`done`](Self::done): it counts from `now` on. What nobody wants any more
    /// costs no turn.
    pub(crate) fn pop(&mut self, now: Instant, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.waiting == 0 {
            return None;
        }
        let config = self.config;
        for ((peer, _), queue) in &mut self.lanes {
            while queue.waiting.front().is_some_and(|item| !wanted(item)) {
                queue.waiting.pop_front();
                self.waiting -= 1;
            }
            if queue.waiting.is_empty() {
                continue;
            }
            let pace = pace(config, &self.learned, peer, now);
            queue.forget(pace, now);
            if queue.in_flight < config.in_flight.get()
                && queue.turn(pace).is_none_or(|turn| turn <= now)
                && let Some(item) = queue.waiting.pop_front()
            {
                self.waiting -= 1;
                queue.in_flight += 1;
                queue.sent.push_back(now);
                return Some(item);
            }
        }
        None
    }

    /// When the next turn of a waiting request comes; an instant in the past if one has come. `None` if none
    /// waits, or all that do wait for an answer.
    pub(crate) fn next_turn(&self, now: Instant) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        self.lanes
            .iter()
            .filter(|(_, queue)| !queue.waiting.is_empty() && queue.in_flight < self.config.in_flight.get())
            .map(|((peer, _), queue)| queue.turn(pace(self.config, &self.learned, peer, now)).unwrap_or(now))
            .min()
    }

    /// A request that had left has ended.
    pub(crate) fn done(&mut self, lane: Lane, outcome: Outcome, now: Instant) {
        let Some(queue) = self.lanes.get_mut(&lane) else {
            return;
        };
        queue.in_flight = queue.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered(took) => queue.answers.add(took),
            // What is known about this peer's answers is not worth much any more.
            Outcome::TimedOut => queue.answers = RoundTrips::default(),
            Outcome::Refused => {
                if let Some(learned) = self.learned.get_mut(&lane.0) {
                    learned.careful_until = Some(after(now, self.config.careful_for));
                }
            }
            Outcome::Failed => {}
        }
    }

    /// How long an answer may take.
    pub(crate) fn patience(&self, lane: Lane) -> Duration {
        let answers = self.lanes.get(&lane).map(|queue| queue.answers).unwrap_or_default();
        answers.patience(self.config)
    }

    /// How many requests wait for their turn.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes all that waits for a peer that has gone. What was sent to it still counts, should it return.
    pub(crate) fn gone(&mut self, peer: &PeerId) -> Vec<T> {
        let mut items = Vec::new();
        for ((of, _), queue) in &mut self.lanes {
            if of == peer {
                self.waiting -= queue.waiting.len();
                items.extend(queue.waiting.drain(..));
            }
        }
        items
    }

    /// Forgets lanes in which nothing waits and whose window is empty, and peers without a lane that are not
    /// `connected`.
    pub(crate) fn prune(&mut self, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        let (config, learned) = (self.config, &self.learned);
        self.lanes.retain(|(peer, _), queue| {
            let window = pace(config, learned, peer, now).window.max(config.window);
            let recent = |sent: &Instant| now.saturating_duration_since(*sent) < window;
            !queue.waiting.is_empty() || queue.in_flight > 0 || queue.sent.back().is_some_and(recent)
        });
        let lanes = &self.lanes;
        self.learned.retain(|peer, _| connected(peer) || lanes.keys().any(|(of, _)| of == peer));
    }
}

/// How a request that had left has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// After so long.
    Answered(Duration),
    TimedOut,
    /// The stream was closed without an answer.
    Refused,
    Failed,
}

/// The pace of a peer at this time.
fn pace(config: PacingConfig, learned: &HashMap<PeerId, Learned>, peer: &PeerId, now: Instant) -> Pace {
    let deployed = Pace { requests: config.requests.get(), window: config.window };
    match learned.get(peer) {
        _ if config.requests == NonZeroUsize::MAX => deployed,
        Some(learned) if learned.careful_until.is_none_or(|until| until <= now) => learned.pace,
        _ => deployed,
    }
}

impl<T> Queue<T> {
    /// Forgets what was sent more than a window ago.
    fn forget(&mut self, pace: Pace, now: Instant) {
        while let Some(sent) = self.sent.front()
            && now.saturating_duration_since(*sent) >= pace.window
        {
            self.sent.pop_front();
        }
    }

    /// When the next request may leave; `None` if nothing holds it back. Where the pace has become slower,
    /// more may have been sent than it allows; then it is the last of those too many that counts.
    fn turn(&self, pace: Pace) -> Option<Instant> {
        let counts = self.sent.len().checked_sub(pace.requests)?;
        self.sent.get(counts).map(|sent| after(*sent, pace.window))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::{Quota, RateLimiter, clock::FakeRelativeClock};

    use super::*;

    const WINDOW: Duration = Duration::from_millis(10_500);

    fn lane() -> Lane {
        (PeerId::random(), "get_head")
    }

    /// Takes all whose turn has come; each is answered at once.
    fn drain(pacer: &mut Pacer<u32>, now: Instant) -> Vec<u32> {
        let taken = std::iter::from_fn(|| {
            let item = pacer.pop(now, |_| true)?;
            pacer.lanes.values_mut().for_each(|queue| queue.in_flight = 0);
            Some(item)
        });
        taken.collect()
    }

    #[test]
    fn eight_leave_at_once_and_the_ninth_when_the_first_is_a_window_old() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..20 {
            pacer.push(lane, item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start), (0..8).collect::<Vec<_>>());
        assert_eq!(pacer.next_turn(start), Some(start + WINDOW));
        assert!(drain(&mut pacer, start + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut pacer, start + WINDOW), (8..16).collect::<Vec<_>>());
        assert_eq!(drain(&mut pacer, start + 2 * WINDOW), (16..20).collect::<Vec<_>>());
        assert_eq!(pacer.next_turn(start), None);
    }

    #[test]
    fn no_window_wherever_it_starts_has_more_than_eight() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        let mut left = Vec::new();
        let mut next = 0;
        // A caller that asks every 300 ms, a loop that comes round at odd times.
        for step in 0..1000_u32 {
            let now = start + Duration::from_millis(u64::from(step * 137));
            if step % 2 == 0 && pacer.push(lane, next).is_ok() {
                next += 1;
            }
            left.extend(drain(&mut pacer, now).iter().map(|_| now));
        }
        assert!(left.len() > 90);
        for (index, first) in left.iter().enumerate() {
            let within = left[index..].iter().filter(|at| **at - *first < WINDOW).count();
            assert!(within <= 8, "{within} in one window");
        }
    }

    #[test]
    fn lanes_do_not_hold_each_other_back() {
        let (mut pacer, start) = (Pacer::new(PacingConfig::default()), Instant::now());
        let peer = PeerId::random();
        for item in 0..9 {
            pacer.push((peer, "get_head"), item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start).len(), 8);
        pacer.push((peer, "get_raw_txlist"), 100).unwrap();
        pacer.push((PeerId::random(), "get_head"), 200).unwrap();
        let mut now = drain(&mut pacer, start);
        now.sort_unstable();
        assert_eq!(now, [100, 200]);
    }

    #[test]
    fn a_full_lane_gives_the_request_back() {
        let config = PacingConfig { waiting: NonZeroUsize::new(2).unwrap(), ..PacingConfig::default() };
        let (mut pacer, lane) = (Pacer::new(config), lane());
        assert_eq!(pacer.push(lane, 1), Ok(()));
        assert_eq!(pacer.push(lane, 2), Ok(()));
        assert_eq!(pacer.push(lane, 3), Err(3));
    }

    #[test]
    fn what_nobody_wants_any_more_costs_no_turn() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..16 {
            pacer.push(lane, item).unwrap();
        }
        let odd: Vec<u32> = std::iter::from_fn(|| pacer.pop(start, |item| item % 2 == 1)).collect();
        assert_eq!(odd, [1, 3, 5, 7, 9, 11, 13, 15]);
    }

    #[test]
    fn a_peer_that_returns_finds_its_window_as_it_was() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        for item in 0..10 {
            pacer.push(lane, item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start).len(), 8);
        assert_eq!(pacer.gone(&lane.0), [8, 9]);
        assert_eq!(pacer.next_turn(start), None);
        pacer.push(lane, 10).unwrap();
        assert!(drain(&mut pacer, start + Duration::from_secs(5)).is_empty());
    }

    #[test]
    fn without_a_limit_nothing_piles_up() {
        let config = PacingConfig {
            requests: NonZeroUsize::MAX,
            window: Duration::from_millis(10),
            ..PacingConfig::default()
        };
        let (mut pacer, start, lane) = (Pacer::new(config), Instant::now(), lane());
        for step in 0..1000 {
            pacer.push(lane, step).unwrap();
            assert_eq!(drain(&mut pacer, start + Duration::from_millis(u64::from(step))), [step]);
        }
        assert_eq!(pacer.lanes[&lane].sent.len(), 10);
    }

    #[test]
    fn quiet_lanes_are_forgotten() {
        let (mut pacer, start) = (Pacer::new(PacingConfig::default()), Instant::now());
        for item in 0..100 {
            pacer.push(lane(), item).unwrap();
        }
        while pacer.pop(start, |_| true).is_some() {}
        pacer.prune(start + Duration::from_secs(10), |_| false);
        assert_eq!(pacer.lanes.len(), 100);
        pacer.prune(start + WINDOW, |_| false);
        assert_eq!(pacer.lanes.len(), 100, "none of them has an answer yet");
        pacer.lanes.values_mut().for_each(|queue| queue.in_flight = 0);
        pacer.prune(start + WINDOW, |_| false);
        assert_eq!(pacer.lanes.len(), 0);
    }

    fn advertised(agent: &str) -> Option<Pace> {
        Pace::advertised(agent, &PacingConfig::default())
    }

    #[test]
    fn a_server_tells_its_pace_and_an_asker_reads_it() {
        let serving = ServingConfig { requests: NonZeroU32::new(100).unwrap(), ..ServingConfig::default() };
        let agent = Pace::advertise("preconfirmation-p2p/0.1.0", &serving);
        assert_eq!(agent, "preconfirmation-p2p/0.1.0 requests=100/4000ms");
        let silent = ServingConfig { advertise: false, ..serving };
        assert_eq!(Pace::advertise("agent", &silent), "agent");
        let pace = advertised(&agent).unwrap();
        assert_eq!(pace, Pace { requests: 100, window: Duration::from_millis(4200) });
        // More than we would ever ask is cut down, what means nothing is not read.
        assert_eq!(advertised("requests=4294967295/1ms").map(|pace| pace.requests), Some(4096));
        for nonsense in ["", "rust-libp2p/1.0", "requests=", "requests=5", "requests=0/1ms", "requests=5/0ms"]
        {
            assert_eq!(advertised(nonsense), None, "{nonsense}");
        }
        for nonsense in ["requests=-1/1ms", "requests=5/1s", "requests=5/99999999999ms", "requests=1e9/1ms"] {
            assert_eq!(advertised(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_peer_that_tells_more_is_asked_more_until_it_refuses() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        pacer.learn(lane.0, advertised("requests=100/1000ms"));
        for item in 0..300 {
            pacer.push(lane, item).unwrap();
        }
        let second = Duration::from_millis(1050);
        assert_eq!(drain(&mut pacer, start).len(), 100);
        assert_eq!(drain(&mut pacer, start + second).len(), 100);
        // One refusal: the deployed pace, and what was sent within its window counts.
        pacer.done(lane, Outcome::Refused, start + second);
        assert_eq!(pacer.next_turn(start + second), Some(start + second + WINDOW));
        pacer.learn(lane.0, advertised("requests=100/1000ms"));
        assert!(drain(&mut pacer, start + second + WINDOW - Duration::from_millis(1)).is_empty());
        assert_eq!(drain(&mut pacer, start + second + WINDOW).len(), 8);
        // A minute later it is believed again.
        assert_eq!(drain(&mut pacer, start + second + Duration::from_secs(60)).len(), 92);
    }

    #[test]
    fn a_peer_that_tells_nothing_any_more_is_asked_at_the_deployed_pace() {
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        pacer.learn(lane.0, advertised("requests=100/1000ms"));
        pacer.learn(lane.0, None);
        for item in 0..20 {
            pacer.push(lane, item).unwrap();
        }
        assert_eq!(drain(&mut pacer, start).len(), 8);
    }

    #[test]
    fn what_is_without_an_answer_is_bounded() {
        let config = PacingConfig { in_flight: NonZeroUsize::new(3).unwrap(), ..PacingConfig::default() };
        let (mut pacer, start, lane) = (Pacer::new(config), Instant::now(), lane());
        for item in 0..8 {
            pacer.push(lane, item).unwrap();
        }
        let pop = |pacer: &mut Pacer<i32>| pacer.pop(start, |_| true);
        assert_eq!([pop(&mut pacer), pop(&mut pacer), pop(&mut pacer)], [Some(0), Some(1), Some(2)]);
        assert_eq!((pop(&mut pacer), pacer.next_turn(start)), (None, None));
        pacer.done(lane, Outcome::Failed, start);
        assert_eq!(pacer.next_turn(start), Some(start));
        assert_eq!((pop(&mut pacer), pop(&mut pacer)), (Some(3), None));
    }

    #[test]
    fn patience_follows_what_answers_take() {
        let (mut pacer, start, lane) = (Pacer::<u32>::new(PacingConfig::default()), Instant::now(), lane());
        pacer.push(lane, 0).unwrap();
        let took = |pacer: &mut Pacer<u32>, millis| {
            pacer.done(lane, Outcome::Answered(Duration::from_millis(millis)), start);
            pacer.patience(lane)
        };
        let seconds = Duration::from_secs;
        assert_eq!(pacer.patience(lane), seconds(10), "nothing is known");
        // 1 s, and four times half a second.
        assert_eq!(took(&mut pacer, 1000), seconds(3));
        // Never below two seconds, however fast, and never above ten, however slow.
        for _ in 0..100 {
            took(&mut pacer, 1);
        }
        assert_eq!(pacer.patience(lane), seconds(2));
        for _ in 0..100 {
            took(&mut pacer, 60_000);
        }
        assert_eq!(pacer.patience(lane), seconds(10));
        for _ in 0..100 {
            took(&mut pacer, 1);
        }
        pacer.done(lane, Outcome::TimedOut, start);
        assert_eq!(pacer.patience(lane), seconds(10));
    }

    /// Asks for so many at once from a server with these limits. How many were refused, and when the last was
    /// answered. Time is virtual.
    fn fetch(count: u32, serving: &ServingConfig, told: bool) -> (usize, Duration) {
        let clock = FakeRelativeClock::default();
        let period = serving.requests_per / serving.requests.get();
        let quota = Quota::with_period(period).unwrap().allow_burst(serving.requests);
        let server = RateLimiter::direct_with_clock(quota, clock.clone());
        let (mut pacer, start, lane) = (Pacer::new(PacingConfig::default()), Instant::now(), lane());
        let pace = Pace::advertised(&Pace::advertise("", serving), &PacingConfig::default());
        pacer.learn(lane.0, pace.filter(|_| told));
        for item in 0..count {
            pacer.push(lane, item).unwrap();
        }
        let (mut refused, mut now) = (0, Duration::ZERO);
        let step = Duration::from_millis(10);
        loop {
            // What is in flight is answered 10 ms later.
            while pacer.pop(start + now, |_| true).is_some() {
                refused += usize::from(server.check().is_err());
            }
            (0..8).for_each(|_| pacer.done(lane, Outcome::Answered(step), start + now));
            if pacer.waiting() == 0 {
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
