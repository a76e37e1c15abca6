//! Requests that we make, and that we serve.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, Instant},
};

use preconfirmation_types::rate_limit::{AdvertisedBounds, RateLimit, RateLimitPolicy};

use super::{after, size};

const fn rate(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// How fast we ask (§10). The deployed peers answer 8 requests in 10 s per peer and protocol and ban for the
/// ninth, so requests wait instead. A peer that says in its agent string how much it answers, or of which the operator
/// says it ([`NetworkConfig::rate_limits`](crate::NetworkConfig::rate_limits)), is asked at that rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// Most requests to one peer on one protocol in any `window`; [`NonZeroUsize::MAX`] does not pace.
    pub requests: NonZeroUsize,
    /// The sliding window: 10 s and half a second for what the network delays unevenly.
    pub window: Duration,
    /// Most requests in a window to a peer that says to answer more.
    pub most_requests: NonZeroUsize,
    /// Most requests a second, in the long run, to a peer that says to answer more.
    pub most_per_second: NonZeroUsize,
    /// How long the known rate limit of a peer that has refused a request is not used. For the first `window` of it,
    /// nothing is sent.
    pub cooldown: Duration,
    /// Most requests without an answer per peer and protocol. Heads and pages together stay within the share that a
    /// peer like us has for one asker, `serving.in_flight_per_peer`.
    pub in_flight: NonZeroUsize,
    /// Most requests that wait for their turn per peer and protocol.
    pub waiting: NonZeroUsize,
    /// Most time from opening the stream to the whole answer until the asker is told that there is none; the time
    /// before the request is sent does not count. The request itself is let run for 11 s at least, because deployed
    /// peers ban whoever resets it before: it holds its place `in_flight` as long.
    pub timeout: Duration,
    /// Least time for the same, where it is less than `timeout`. In between, it is what answers of this peer on this protocol have taken, and
    /// four times their deviation.
    pub least_timeout: Duration,
}

impl Default for PacingConfig {
    fn default() -> Self {
        Self {
            requests: RateLimit::DEPLOYED.requests,
            window: RateLimit::DEPLOYED.window,
            most_requests: size(4096),
            most_per_second: size(512),
            cooldown: Duration::from_secs(60),
            in_flight: size(8),
            waiting: size(4096),
            timeout: Duration::from_secs(10),
            least_timeout: Duration::from_secs(2),
        }
    }
}

impl PacingConfig {
    /// Which limit applies to a peer. `restart`: an earlier run may have sent requests until `now`.
    pub(crate) fn policy(&self, restart: bool, now: Instant) -> RateLimitPolicy {
        RateLimitPolicy {
            default: RateLimit { requests: self.requests, window: self.window },
            cooldown: self.cooldown,
            full_until: restart.then(|| after(now, self.window)),
        }
    }

    /// The fastest that a peer is asked, whatever it advertises.
    pub(crate) const fn bounds(&self) -> AdvertisedBounds {
        AdvertisedBounds { max_requests: self.most_requests, max_per_second: self.most_per_second }
    }
}

/// How much we serve, by what it costs us. Every request is answered. What is over `requests` gets our last head, an
/// empty page or *not found* at the next second; an answer over `bytes` waits until it is paid for, and so does a
/// request that finds no place, but at most 5 s: then it gets the same. Nobody is penalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServingConfig {
    /// Whether peers are told in the agent string how many requests are answered, so that they need not keep
    /// to what the deployed peers answer.
    pub advertise: bool,
    /// Requests that a peer may make on one protocol at once after a pause.
    pub requests: NonZeroU32,
    /// In this time as many more, evenly; not more than 49 days.
    pub requests_per: Duration,
    /// Bytes of answers that a peer gets at once after a pause. Counted in KiB, at most 4 TiB.
    pub bytes: NonZeroUsize,
    /// In this time as many more, evenly.
    pub bytes_per: Duration,
    /// What each commitment, head or list counts beside its bytes: looking it up.
    pub item_bytes: usize,
    /// As many peers at one host (an IPv4 address, an IPv6 /64) have the budgets of one peer each; more share them.
    pub peers_per_host: NonZeroU32,
    /// As many peers in all have the budget of bytes of one peer each: the most that is sent to all together.
    pub peers_in_all: NonZeroU32,
    /// Most bytes of answers that are being written to one peer at a time, or one answer; others wait for their turn. A
    /// peer waits 10 s for an answer, and half of that is for its turn: these bytes take the other half at 6.7 Mbit/s.
    pub write_bytes_per_peer: NonZeroUsize,
    /// Most requests of one peer for lists in flight, and as many for heads and pages: from their event to the last byte
    /// of their answer.
    pub in_flight_per_peer: NonZeroUsize,
    /// Most requests in flight, at least two: half of them for lists, the others for heads and pages. One host has at most three
    /// quarters of each half. As a list has 2 MiB, they hold so many MiB at most.
    pub in_flight: NonZeroUsize,
}

impl Default for ServingConfig {
    /// 512 requests and 8 MiB a second for a peer, 32 MiB for a host, 64 MiB (half a gigabit) for all.
    fn default() -> Self {
        Self {
            advertise: true,
            requests: rate(2048),
            requests_per: Duration::from_secs(4),
            bytes: size(32 * 1024 * 1024),
            bytes_per: Duration::from_secs(4),
            item_bytes: 1024,
            peers_per_host: rate(4),
            peers_in_all: rate(8),
            write_bytes_per_peer: size(4 * 1024 * 1024),
            in_flight_per_peer: size(16),
            in_flight: size(64),
        }
    }
}

impl ServingConfig {
    /// The agent string of a server with these settings.
    pub(crate) fn agent(&self, name: &str) -> String {
        if !self.advertise {
            return name.to_owned();
        }
        let requests = usize::try_from(self.requests.get()).ok().and_then(NonZeroUsize::new);
        let limit = RateLimit { requests: requests.unwrap_or(NonZeroUsize::MAX), window: self.requests_per };
        limit.advertise(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_limit_is_used_as_far_as_is_set() {
        let (most_requests, most_per_second) = (100.try_into().unwrap(), 20.try_into().unwrap());
        let pacing = PacingConfig { most_requests, most_per_second, ..PacingConfig::default() };
        let limit = RateLimit::from_agent("requests=1000/1000ms", &pacing.bounds());
        assert_eq!(limit, Some(RateLimit { requests: most_requests, window: Duration::from_secs(5) }));
    }

    #[test]
    fn a_server_advertises_its_limit_unless_it_is_told_not_to() {
        let requests_per = Duration::from_secs(9);
        let serving = ServingConfig { requests: rate(100), requests_per, ..ServingConfig::default() };
        assert_eq!(serving.agent("agent"), "agent requests=100/9000ms");
        assert_eq!(ServingConfig { advertise: false, ..serving }.agent("agent"), "agent");
    }
}
