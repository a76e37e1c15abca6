//! The record of one peer: everything that this node knows about it.

use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use super::{Identity, outbound::Outbound, score::Score};
use crate::config::after;

/// How long a connection must have been without a request before it may be closed: an answer may be followed at once by
/// the next request, which must not meet the end of its connection.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// The time of a peer's budgets of unelected commitments.
const MINUTE: Duration = Duration::from_secs(60);

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressSource {
    Static,
    /// A peer that was reached before, in this run or an earlier one.
    Store,
    /// The peer itself, when it dialled us.
    Inbound,
    Bootnode,
    Discovery,
    Application,
}

impl AddressSource {
    /// A short label for metrics and logs.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Store => "store",
            Self::Inbound => "inbound",
            Self::Bootnode => "bootnode",
            Self::Discovery => "discovery",
            Self::Application => "application",
        }
    }
}

/// All that is known of a peer. A record without any of it is dropped.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// While it is connected.
    pub(super) connected: Option<Box<Connected>>,
    /// Where it can be dialled.
    pub(super) known: Option<Box<Known>>,
    pub(super) score: Option<Box<Score>>,
    pub(super) ban: Option<Box<Ban>>,
    /// What was sent to it; remembered for a while after it has disconnected.
    pub(super) outbound: Option<Box<Outbound>>,
}

impl Peer {
    pub(super) const fn is_empty(&self) -> bool {
        self.connected.is_none()
            && self.known.is_none()
            && self.score.is_none()
            && self.ban.is_none()
            && self.outbound.is_none()
    }
}

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Connected {
    /// At least one, oldest first.
    connections: Vec<Connection>,
    pub(crate) since: Instant,
    /// What it calls itself. `None` until it has identified itself.
    pub(crate) agent: Option<String>,
    pub(crate) protocols: Vec<String>,
    pub(crate) round_trip: Option<Duration>,
    /// Whether it has said that it speaks the request protocols of this chain.
    pub(crate) ready: bool,
    /// Whether it has subscribed to a topic of ours, or asked for something.
    pub(crate) used: bool,
    /// Requests of either side.
    pub(crate) in_flight: InFlight,
    /// Since gossipsub reports its send queue as full or stale.
    pub(super) slow: Option<Slow>,
    /// How often it has said who it is.
    pub(super) identified: MinuteCount,
    /// What it has said last, where that was too often: it is taken in when the minute is over.
    pub(super) postponed: Option<Box<(ConnectionId, Identity)>>,
}

/// One connection to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) inbound: bool,
}

impl Connected {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            connections: Vec::new(),
            since: now,
            agent: None,
            protocols: Vec::new(),
            round_trip: None,
            ready: false,
            used: false,
            in_flight: InFlight { requests: 0, last: None, asked: None, burst: None, interval: None },
            slow: None,
            identified: MinuteCount::new(now),
            postponed: None,
        }
    }

    pub(super) fn open(&mut self, connection: Connection) {
        self.connections.push(connection);
    }

    /// Whether it was the last one.
    pub(super) fn close(&mut self, id: ConnectionId) -> bool {
        self.connections.retain(|connection| connection.id != id);
        self.connections.is_empty()
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    /// The addresses of its connections, oldest first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.connections.iter().map(|connection| &connection.address)
    }

    /// Whether it opened its oldest connection.
    pub(crate) fn is_inbound(&self) -> bool {
        self.connections.first().is_some_and(|connection| connection.inbound)
    }

    /// Whether we opened one of its connections: nobody chooses these but ourselves.
    pub(crate) fn is_outbound(&self) -> bool {
        self.connections.iter().any(|connection| !connection.inbound)
    }

    /// Whether it has identified itself as a node of another network.
    pub(crate) const fn is_foreign(&self) -> bool {
        self.agent.is_some() && !self.ready
    }
}

/// The requests in flight with a peer, of either side, and when a peer that asks at regular intervals will ask again: a
/// request that is on its way when its connection closes has failed for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InFlight {
    requests: usize,
    /// When one began or ended last.
    last: Option<Instant>,
    /// When the peer asked last.
    asked: Option<Instant>,
    /// When its last burst of requests began, and how long after the one before.
    burst: Option<Instant>,
    interval: Option<Duration>,
}

impl InFlight {
    /// A request of ours.
    pub(crate) const fn begin(&mut self, now: Instant) {
        (self.requests, self.last) = (self.requests.saturating_add(1), Some(now));
    }

    /// A request of the peer.
    pub(crate) fn begin_inbound(&mut self, now: Instant) {
        self.begin(now);
        let before = self.asked.replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= QUIET) {
            let burst = self.burst.replace(now);
            self.interval = burst.map(|burst| now.saturating_duration_since(burst));
        }
    }

    pub(crate) const fn end(&mut self, now: Instant) {
        (self.requests, self.last) = (self.requests.saturating_sub(1), Some(now));
    }

    /// Whether the connection may be closed without failing a request.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        let is_idle = self.last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        self.requests == 0 && is_idle && !self.is_due(now)
    }

    /// Whether the peer's next request comes now, if it keeps to its interval.
    fn is_due(&self, now: Instant) -> bool {
        let next = self.burst.zip(self.interval).map(|(burst, interval)| after(burst, interval));
        next.is_some_and(|next| after(now, QUIET) >= next && now < after(next, QUIET))
    }
}

/// For how long gossipsub has reported a peer as slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slow {
    pub(super) since: Instant,
    pub(super) last: Instant,
}

/// Where a peer can be dialled, and when.
#[derive(Debug)]
pub(super) struct Known {
    /// At least one; the one that worked last comes first.
    pub(super) addresses: Vec<Multiaddr>,
    /// Its node record (ENR), if discovery found one.
    pub(super) enr: Option<String>,
    pub(super) source: AddressSource,
    /// When it was last connected, in unix seconds, if we ever reached it. Only such a peer is written to disk.
    pub(super) seen: Option<u64>,
    /// Failed dials since the last success.
    pub(super) failures: u32,
    /// The delays of these failures.
    pub(super) backoff: Option<ExponentialBackoff>,
    /// Not dialled before.
    pub(super) not_before: Instant,
}

impl Known {
    pub(super) const fn new(
        addresses: Vec<Multiaddr>,
        enr: Option<String>,
        source: AddressSource,
        now: Instant,
    ) -> Self {
        Self { addresses, enr, source, seen: None, failures: 0, backoff: None, not_before: now }
    }
}

/// A ban, with what was known of the peer when it began.
#[derive(Debug, Clone)]
pub(crate) struct Ban {
    pub(crate) until: Instant,
    pub(crate) address: Multiaddr,
    pub(crate) agent: Option<String>,
}

/// How often something has happened in the minute that began with the first time.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinuteCount {
    since: Instant,
    count: u32,
}

impl MinuteCount {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    pub(super) fn add(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn exceeds(&self, budget: u32, now: Instant) -> bool {
        self.count > budget && !self.is_over(now)
    }

    /// Whether the minute is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= MINUTE
    }
}

/// A peer to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DialCandidate {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) source: AddressSource,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_when_its_peer_is_about_to_ask_again() {
        let (mut in_flight, start) = (InFlight::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(in_flight.is_quiet(start));
        // Three at once, every three seconds.
        for begun in [0, 3000] {
            for millis in [0, 20, 400] {
                in_flight.begin_inbound(at(begun + millis));
                assert!(!in_flight.is_quiet(at(begun + millis)));
                in_flight.end(at(begun + millis));
            }
            assert!(!in_flight.is_quiet(at(begun + 899)));
            assert!(in_flight.is_quiet(at(begun + 900)));
        }
        let quiet = [5499, 5500, 6000, 6499, 6500].map(|millis| in_flight.is_quiet(at(millis)));
        assert_eq!(quiet, [true, false, false, false, true]);
    }
}
