//! Detects a second node that uses this node's identity key. No clock: every call is given the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use libp2p::{PeerId, core::ConnectedPoint};

/// Both ends of a connection to oneself are seen within this time, or only one of them ever is.
const SETTLED: Duration = Duration::from_secs(5);

/// Least time between two reports of the same.
const REPEAT: Duration = Duration::from_secs(10 * 60);

/// gossipsub numbers the messages of a run from the time in nanoseconds at which it was made; no run publishes a
/// message each nanosecond of its first second.
const RUN: u64 = 1_000_000_000;

/// For so long after the start, messages of an earlier run may still be on their way.
const ECHO: Duration = Duration::from_secs(5 * 60);

/// How a node noticed that another node uses its identity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DuplicateSign {
    /// The other node has dialled this one.
    Dialled,
    /// The other node has answered where this one dialled.
    Answered,
    /// A message under this node's name has come that it did not publish.
    Published,
}

/// Another node uses this node's identity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DuplicateIdentity {
    /// What showed it last.
    pub sign: DuplicateSign,
    /// When that was.
    pub at: Instant,
}

impl DuplicateSign {
    /// A short label for metrics, logs and status pages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dialled => "dialled",
            Self::Answered => "answered",
            Self::Published => "published",
        }
    }
}

/// Counts the connections whose other end has proved that it has this node's own key. The transport says so once a peer
/// is authenticated: the dialler closes such a connection at once, so that its listener may never have one to tell the
/// swarm of.
#[derive(Debug, Clone)]
pub(crate) struct OwnKey {
    local: PeerId,
    inbound: Arc<AtomicU32>,
    outbound: Arc<AtomicU32>,
}

impl OwnKey {
    pub(crate) fn new(local: PeerId) -> Self {
        Self { local, inbound: Arc::default(), outbound: Arc::default() }
    }

    /// A peer is authenticated. Whether it has our own key.
    pub(crate) fn authenticated(&self, peer: PeerId, endpoint: &ConnectedPoint) -> bool {
        let is_own = peer == self.local;
        if is_own {
            let end = if endpoint.is_listener() { &self.inbound } else { &self.outbound };
            end.fetch_add(1, Ordering::Relaxed);
        }
        is_own
    }
}

/// A node that dials itself sees its own key at both ends, the inbound one and the outbound one; one that sees a single
/// end has met another node with its key.
#[derive(Debug)]
pub(crate) struct DuplicateMonitor {
    started: Instant,
    /// The same in nanoseconds since the epoch.
    numbered_from: u64,
    own_key: OwnKey,
    dialled: Ends,
    answered: Ends,
    reported: Option<Instant>,
}

/// Ends of connections on which the other side had our own key: how many, and since when one waits for its match.
#[derive(Debug, Default)]
struct Ends {
    count: u32,
    last: Option<Instant>,
}

impl Ends {
    fn add(&mut self, count: u32, now: Instant) {
        if count > 0 {
            self.count = self.count.saturating_add(count);
            self.last = Some(now);
        }
    }
}

impl DuplicateMonitor {
    /// This run begins: `nanos` is the time since the epoch, read just before gossip is made.
    pub(crate) fn new(started: Instant, nanos: u64, own_key: OwnKey) -> Self {
        let (dialled, answered) = (Ends::default(), Ends::default());
        Self { started, numbered_from: nanos, own_key, dialled, answered, reported: None }
    }

    /// A message under our name with this number has come from elsewhere. Whether this run cannot have published it;
    /// what an earlier run has published is still told apart while it may be on its way.
    pub(crate) fn has_published(&self, number: Option<u64>, now: Instant) -> bool {
        let own = self.numbered_from..self.numbered_from.saturating_add(RUN);
        number.is_some_and(|number| {
            let earlier = number < own.start && now.saturating_duration_since(self.started) < ECHO;
            !earlier && !own.contains(&number)
        })
    }

    /// What is certain by now: ends without a match. Called every second.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<DuplicateSign> {
        self.dialled.add(self.own_key.inbound.swap(0, Ordering::Relaxed), now);
        self.answered.add(self.own_key.outbound.swap(0, Ordering::Relaxed), now);
        let last = self.dialled.last.max(self.answered.last)?;
        if now.saturating_duration_since(last) < SETTLED {
            return None;
        }
        let (dialled, answered) = (std::mem::take(&mut self.dialled), std::mem::take(&mut self.answered));
        match dialled.count.cmp(&answered.count) {
            std::cmp::Ordering::Greater => Some(DuplicateSign::Dialled),
            std::cmp::Ordering::Less => Some(DuplicateSign::Answered),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// Whether it is time to report it again.
    pub(crate) fn should_report(&mut self, now: Instant) -> bool {
        let due = self.reported.is_none_or(|reported| now.saturating_duration_since(reported) >= REPEAT);
        if due {
            self.reported = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, core::Endpoint, core::transport::PortUse};

    use super::*;

    fn monitor() -> DuplicateMonitor {
        DuplicateMonitor::new(Instant::now(), 1_000_000_000_000, OwnKey::new(PeerId::random()))
    }

    fn inbound() -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: Multiaddr::empty() }
    }

    fn outbound() -> ConnectedPoint {
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
        ConnectedPoint::Dialer { address: Multiaddr::empty(), role_override, port_use }
    }

    impl DuplicateMonitor {
        /// Our own key is at the other end.
        fn meets(&self, endpoint: &ConnectedPoint) {
            assert!(self.own_key.authenticated(self.own_key.local, endpoint));
        }
    }

    #[test]
    fn a_message_of_no_run_of_ours_is_another_nodes() {
        let monitor = monitor();
        let (own, start) = (monitor.numbered_from, monitor.started);
        assert!(!monitor.has_published(Some(own + 1), start + ECHO * 2));
        assert!(monitor.has_published(Some(own + RUN), start));
        // An echo of an earlier run, until there can be none any more.
        assert!(!monitor.has_published(Some(own - 1), start));
        assert!(monitor.has_published(Some(own - 1), start + ECHO));
    }

    #[test]
    fn who_dials_itself_has_no_duplicate() {
        let (mut monitor, start) = (monitor(), Instant::now());
        monitor.meets(&outbound());
        assert_eq!(monitor.settle(start), None);
        monitor.meets(&inbound());
        assert_eq!(monitor.settle(start + SETTLED), None);
        assert_eq!(monitor.settle(start + SETTLED * 2), None);
        assert_eq!(monitor.settle(start + SETTLED * 3), None);
    }

    #[test]
    fn one_end_alone_is_another_node_once_the_other_is_late() {
        let (mut monitor, start) = (monitor(), Instant::now());
        for (endpoint, sign) in [(inbound(), DuplicateSign::Dialled), (outbound(), DuplicateSign::Answered)] {
            monitor.meets(&endpoint);
            assert_eq!(monitor.settle(start), None);
            assert_eq!(monitor.settle(start + SETTLED - Duration::from_nanos(1)), None);
            assert_eq!(monitor.settle(start + SETTLED), Some(sign));
            assert_eq!(monitor.settle(start + SETTLED * 2), None);
        }
    }

    #[test]
    fn peers_with_keys_of_their_own_are_no_duplicates() {
        let (mut monitor, start) = (monitor(), Instant::now());
        assert!(!monitor.own_key.authenticated(PeerId::random(), &inbound()));
        assert_eq!(monitor.settle(start), None);
        assert_eq!(monitor.settle(start + SETTLED), None);
    }

    #[test]
    fn the_same_is_not_reported_again_and_again() {
        let (mut monitor, start) = (monitor(), Instant::now());
        assert!(monitor.should_report(start));
        assert!(!monitor.should_report(start + REPEAT - Duration::from_nanos(1)));
        assert!(monitor.should_report(start + REPEAT));
    }
}
