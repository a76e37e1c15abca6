//! What is known of one peer on one protocol: requests in flight, round trips, and its rate limit.

use std::time::{Duration, Instant};

use preconfirmation_types::rate_limit::{RateLimit, RateLimitPolicy, SentRequests};

use crate::CatchUpConfig;

/// The time over which requests are spread evenly among equal peers.
const SPREAD: Duration = Duration::from_secs(10);

/// The request/response protocols (§10). A peer limits requests on each of them separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Head,
    Page,
    TxList,
}

impl Protocol {
    pub(crate) const COUNT: usize = 3;

    /// Most requests in flight to one peer.
    pub(crate) const fn max_in_flight(self, config: &CatchUpConfig) -> usize {
        match self {
            Self::Head => 1,
            Self::Page => config.pages_in_flight.get(),
            Self::TxList => config.txlists_per_peer.get(),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct ProtocolState {
    in_flight: usize,
    /// Moving average: each new sample counts for an eighth.
    round_trip: Option<Duration>,
    sent: SentRequests,
    /// The limit that the peer advertises or that the operator names, if any.
    known_limit: Option<RateLimit>,
    /// Requests since `recent_since`.
    recent: usize,
    recent_since: Option<Instant>,
}

impl ProtocolState {
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A request is sent.
    pub(crate) fn sent(&mut self, now: Instant, config: &CatchUpConfig) {
        if self.recent_requests(now) == 0 {
            (self.recent, self.recent_since) = (0, Some(now));
        }
        self.recent = self.recent.saturating_add(1);
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(policy) = policy(config) {
            self.sent.record(policy.limit(self.known_limit, &self.sent, now), now);
        }
    }

    /// A request has ended, with or without a response.
    pub(crate) const fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A response took this long.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |before| before - before / 8 + took / 8));
    }

    pub(crate) const fn set_rate_limit(&mut self, limit: RateLimit) {
        self.known_limit = Some(limit);
    }

    /// When the rate limit allows the next request. `None`: at any time.
    pub(crate) fn next_allowed(&self, config: &CatchUpConfig, now: Instant) -> Option<Instant> {
        policy(config)?.next_allowed(self.known_limit, &self.sent, now)
    }

    pub(crate) fn round_trip_micros(&self) -> Option<u64> {
        self.round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn recent_requests(&self, now: Instant) -> usize {
        let recent = self.recent_since.is_some_and(|since| now.saturating_duration_since(since) < SPREAD);
        if recent { self.recent } else { 0 }
    }
}

/// How requests are scheduled; none if they are not limited. Refusals and restarts are the network's, which enforces.
fn policy(config: &CatchUpConfig) -> Option<RateLimitPolicy> {
    let policy = |default| RateLimitPolicy { default, cooldown: Duration::ZERO, full_until: None };
    config.rate_limit.map(policy)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    const LIMIT: RateLimit =
        RateLimit { requests: NonZeroUsize::MIN.saturating_add(1), window: Duration::from_secs(10) };

    #[test]
    fn no_window_exceeds_the_limit_and_a_known_limit_goes_first() {
        let config = CatchUpConfig { rate_limit: Some(LIMIT), ..CatchUpConfig::recommended() };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut state = ProtocolState::default();
        state.sent(start, &config);
        assert_eq!(state.next_allowed(&config, start), None);
        state.sent(start + second, &config);
        assert_eq!(state.next_allowed(&config, start + second), Some(start + LIMIT.window));
        state.sent(start + LIMIT.window, &config);
        assert_eq!(state.next_allowed(&config, start + LIMIT.window), Some(start + second + LIMIT.window));
        state.set_rate_limit(RateLimit { requests: NonZeroUsize::new(3).unwrap(), ..LIMIT });
        assert_eq!(state.next_allowed(&config, start + LIMIT.window), None);
        let unlimited = CatchUpConfig::recommended();
        assert_eq!(state.next_allowed(&unlimited, start), None);
    }

    #[test]
    fn round_trips_are_smoothed() {
        let mut state = ProtocolState::default();
        state.answered(Duration::from_millis(80));
        state.answered(Duration::from_millis(160));
        assert_eq!(state.round_trip_micros(), Some(90_000));
    }

    #[test]
    fn requests_in_flight_are_counted_until_they_end() {
        let (mut state, config) = (ProtocolState::default(), CatchUpConfig::recommended());
        state.sent(Instant::now(), &config);
        state.sent(Instant::now(), &config);
        state.ended();
        assert_eq!(state.in_flight(), 1);
    }

    #[test]
    fn requests_count_as_recent_for_ten_seconds() {
        let (mut state, start, config) =
            (ProtocolState::default(), Instant::now(), CatchUpConfig::recommended());
        state.sent(start, &config);
        state.sent(start, &config);
        assert_eq!(
            (state.recent_requests(start + SPREAD / 2), state.recent_requests(start + SPREAD)),
            (2, 0)
        );
    }
}
