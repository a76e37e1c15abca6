//! Request rate limits (§10): how many requests a peer answers, how it advertises that, and when the next request to
//! it may leave. No clock: every call is given the time.
//!
//! The deployed peers count requests per peer and protocol in a *tumbling* window and ban whoever exceeds it. A
//! requester cannot know when such a window begins, so [`SentRequests`] counts in a *sliding* window of the same
//! length: what a sliding window allows, every tumbling one allows too. A [`RateLimitPolicy`] says which limit applies
//! to a peer: a known one (advertised by the peer, or named by the operator) unless the peer has refused a request
//! recently, the deployed one otherwise.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use serde::Serialize;

/// Marks the rate limit in an identify agent string, as in `requests=2048/4000ms`.
const MARK: &str = "requests=";

/// The longest window that an advertised limit may have. It bounds how long sent requests are remembered.
pub const MAX_ADVERTISED_WINDOW: Duration = Duration::from_secs(60);

/// How many requests a peer answers on one protocol in any window of that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// Most requests.
    pub requests: NonZeroUsize,
    /// The length of the window.
    pub window: Duration,
}

impl RateLimit {
    /// The limit of the deployed peers, 8 requests in 10 s, with half a second more for uneven network delays.
    pub const DEPLOYED: Self = Self {
        requests: match NonZeroUsize::new(8) {
            Some(requests) => requests,
            None => NonZeroUsize::MIN,
        },
        window: Duration::from_millis(10_000 + 500),
    };

    /// Whether this is no limit at all ([`NonZeroUsize::MAX`] requests).
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.requests == NonZeroUsize::MAX
    }

    /// The agent string of a server that answers at this limit.
    #[must_use]
    pub fn advertise(&self, agent: &str) -> String {
        format!("{agent} {MARK}{}/{}ms", self.requests, self.window.as_millis())
    }

    /// The limit that an agent string advertises, clamped to `bounds` and to a window of at most
    /// [`MAX_ADVERTISED_WINDOW`]. The window is a twentieth longer than advertised, for uneven network delays. `None` if
    /// the string advertises nothing, or nonsense.
    #[must_use]
    pub fn from_agent(agent: &str, bounds: &AdvertisedBounds) -> Option<Self> {
        let advertised = agent.split(' ').find_map(|word| word.strip_prefix(MARK))?;
        let (requests, millis) = advertised.strip_suffix("ms")?.split_once('/')?;
        let (requests, millis): (NonZeroUsize, u32) = (requests.parse().ok()?, millis.parse().ok()?);
        let advertised = Duration::from_millis(millis.into()) * 21 / 20;
        if advertised.is_zero() {
            return None;
        }
        let requests = requests.min(bounds.max_requests);
        let fastest = Duration::from_secs(1).mul_f64(ratio(requests.get(), bounds.max_per_second.get()));
        let window = advertised.max(fastest);
        if window <= MAX_ADVERTISED_WINDOW {
            return Some(Self { requests, window });
        }
        // The same rate in the longest window that is allowed.
        let share = MAX_ADVERTISED_WINDOW.as_secs_f64() / window.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of at most `max_requests`"
        )]
        let requests =
            NonZeroUsize::new((requests.get() as f64 * share) as usize).unwrap_or(NonZeroUsize::MIN);
        Some(Self { requests, window: MAX_ADVERTISED_WINDOW })
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(one: usize, other: usize) -> f64 {
    one as f64 / other as f64
}

/// The fastest that a peer is asked, whatever it advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedBounds {
    /// Most requests in one window.
    pub max_requests: NonZeroUsize,
    /// Most requests a second, averaged over a window.
    pub max_per_second: NonZeroUsize,
}

/// Which limit applies to a peer, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitPolicy {
    /// For peers whose limit is not known.
    pub default: RateLimit,
    /// How long the known limit of a peer that has refused a request is not used. For the first `default.window` of it,
    /// nothing is sent.
    pub cooldown: Duration,
    /// After a restart: until then the window of a peer whose limit is not known counts as full, because the requests of
    /// the earlier run count at the responder.
    pub full_until: Option<Instant>,
}

impl RateLimitPolicy {
    /// The limit that applies to a peer now. `known`: the limit that it advertises or that the operator names.
    #[must_use]
    pub fn limit(&self, known: Option<RateLimit>, sent: &SentRequests, now: Instant) -> RateLimit {
        let cools_down = sent.cooldown_until.is_some_and(|until| now < until);
        known.filter(|_| !cools_down && !self.default.is_unlimited()).unwrap_or(self.default)
    }

    /// When the next request may be sent. `None`: at once.
    #[must_use]
    pub fn next_allowed(
        &self,
        known: Option<RateLimit>,
        sent: &SentRequests,
        now: Instant,
    ) -> Option<Instant> {
        let limit = self.limit(known, sent, now);
        if limit.is_unlimited() {
            return None;
        }
        let full_until = self.full_until.filter(|_| known.is_none());
        sent.window_allows(limit).max(sent.paused_until).max(full_until)
    }
}

/// The requests that were sent to one peer on one protocol, as far as they still count.
#[derive(Debug, Clone, Default)]
pub struct SentRequests {
    /// When they were sent, oldest first; never more than the limit allows.
    sent: VecDeque<Instant>,
    paused_until: Option<Instant>,
    cooldown_until: Option<Instant>,
}

impl SentRequests {
    /// A request is sent. Forgets those that are older than the window of `limit`.
    pub fn record(&mut self, limit: RateLimit, now: Instant) {
        while let Some(sent) = self.sent.front()
            && now.saturating_duration_since(*sent) >= limit.window
        {
            self.sent.pop_front();
        }
        if !limit.is_unlimited() {
            self.sent.push_back(now);
        }
    }

    /// The peer has closed a stream without an answer: it was asked too often. Nothing is sent for a whole window, and
    /// its known limit is not used for `policy.cooldown`.
    pub fn refused(&mut self, policy: &RateLimitPolicy, now: Instant) {
        self.paused_until = Some(after(now, policy.default.window));
        self.cooldown_until = Some(after(now, policy.cooldown));
    }

    /// Whether nothing was sent that could still count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.paused_until.is_none()
    }

    /// When the window has room for the next request; `None` if it has room now. Where the limit has become lower, more
    /// may have been sent than it allows; then the last of those beyond it counts.
    fn window_allows(&self, limit: RateLimit) -> Option<Instant> {
        let oldest = self.sent.len().checked_sub(limit.requests.get())?;
        self.sent.get(oldest).map(|sent| after(*sent, limit.window))
    }
}

/// An instant that much later; for a duration that no clock can express, thirty years later.
fn after(instant: Instant, duration: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    instant.checked_add(duration).or_else(|| instant.checked_add(THIRTY_YEARS)).unwrap_or(instant)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const WINDOW: Duration = RateLimit::DEPLOYED.window;

    const BOUNDS: AdvertisedBounds = AdvertisedBounds { max_requests: size(4096), max_per_second: size(512) };

    const POLICY: RateLimitPolicy =
        RateLimitPolicy { default: RateLimit::DEPLOYED, cooldown: Duration::from_secs(60), full_until: None };

    const fn size(value: usize) -> NonZeroUsize {
        NonZeroUsize::new(value).unwrap()
    }

    const fn limit(requests: usize, millis: u64) -> RateLimit {
        RateLimit { requests: size(requests), window: Duration::from_millis(millis) }
    }

    /// Sends as many requests as may be sent now, 1000 at most.
    fn send(
        policy: &RateLimitPolicy,
        known: Option<RateLimit>,
        sent: &mut SentRequests,
        now: Instant,
    ) -> usize {
        let allowed = |sent: &SentRequests| policy.next_allowed(known, sent, now).is_none_or(|at| at <= now);
        (0..1000)
            .take_while(|_| {
                let allowed = allowed(sent);
                if allowed {
                    sent.record(policy.limit(known, sent, now), now);
                }
                allowed
            })
            .count()
    }

    #[test]
    fn a_server_advertises_its_limit_and_a_requester_reads_it() {
        let agent = limit(100, 4000).advertise("preconfirmation-p2p/0.1.0");
        assert_eq!(agent, "preconfirmation-p2p/0.1.0 requests=100/4000ms");
        let read = |agent: &str| RateLimit::from_agent(agent, &BOUNDS);
        assert_eq!(read(&agent), Some(limit(100, 4200)));
        // More than we would ever ask is cut down, in a burst and on average; so are windows without an end.
        assert_eq!(read("requests=4294967295/1ms"), Some(limit(4096, 8000)));
        assert_eq!(read("requests=512/1ms"), Some(limit(512, 1000)));
        assert_eq!(read("requests=1/4294967295ms"), Some(limit(1, 60_000)));
        assert_eq!(read("requests=1200/600000ms"), Some(limit(114, 60_000)));
        for nonsense in ["", "rust-libp2p/1.0", "requests=", "requests=5", "requests=0/1ms", "requests=5/0ms"]
        {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        for nonsense in ["requests=-1/1ms", "requests=5/1s", "requests=5/99999999999ms", "requests=1e9/1ms"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn no_window_wherever_it_starts_has_more_than_the_limit() {
        let (mut sent, start) = (SentRequests::default(), Instant::now());
        let mut left = Vec::new();
        for step in 0..1000 {
            let now = start + Duration::from_millis(137 * step);
            left.extend(std::iter::repeat_n(now, send(&POLICY, None, &mut sent, now)));
        }
        assert!(left.len() > 90);
        for (index, first) in left.iter().enumerate() {
            let within = left[index..].iter().filter(|at| **at - *first < WINDOW).count();
            assert!(within <= 8, "{within} in one window");
        }
    }

    #[test]
    fn a_refusal_pauses_for_a_window_and_distrusts_the_known_limit() {
        let (mut sent, start) = (SentRequests::default(), Instant::now());
        let (known, at) = (Some(limit(100, 1000)), |millis| start + Duration::from_millis(millis));
        assert_eq!(send(&POLICY, known, &mut sent, at(0)), 100);
        assert_eq!(send(&POLICY, known, &mut sent, at(1000)), 100);
        sent.refused(&POLICY, at(1000));
        assert_eq!(POLICY.next_allowed(known, &sent, at(1000)), Some(at(1000) + WINDOW));
        assert_eq!(send(&POLICY, known, &mut sent, at(999) + WINDOW), 0);
        assert_eq!(send(&POLICY, known, &mut sent, at(1000) + WINDOW), 8);
        assert!(send(&POLICY, known, &mut sent, at(61_000)) > 8, "a minute later it is trusted again");
    }

    #[test]
    fn after_a_restart_the_windows_of_unknown_limits_are_full() {
        let (start, mut sent) = (Instant::now(), SentRequests::default());
        let policy = RateLimitPolicy { full_until: Some(start + WINDOW), ..POLICY };
        assert_eq!(send(&policy, None, &mut sent, start), 0);
        assert_eq!(policy.next_allowed(None, &sent, start), Some(start + WINDOW));
        assert_eq!(send(&policy, Some(limit(20, 1000)), &mut sent, start), 20);
        assert_eq!(send(&policy, None, &mut SentRequests::default(), start + WINDOW), 8);
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let policy = RateLimitPolicy { default: limit(usize::MAX, 10), ..POLICY };
        let (mut sent, start) = (SentRequests::default(), Instant::now());
        assert_eq!(send(&policy, None, &mut sent, start), 1000);
        assert!(sent.is_empty());
    }
}
