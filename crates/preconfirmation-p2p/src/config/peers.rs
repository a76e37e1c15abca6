//! Settings of finding and keeping peers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use super::size;

/// How many peers a node has, and how it comes by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeersConfig {
    /// Below so many peers, known ones are dialled and unknown ones looked for.
    pub low: usize,
    /// Above so many peers, the worst are disconnected. Static and trusted peers count, but never go.
    pub high: usize,
    /// A peer stays at least as long, to show what it is worth.
    pub grace: Duration,
    /// Most peers being dialled at a time to reach `low`.
    pub dials: NonZeroUsize,
    /// Most peers remembered to be dialled. Those that were never connected make room first.
    pub known: NonZeroUsize,
    /// Pause before a peer that failed or left is dialled again, plus up to as much at random. Each further
    /// failure doubles it.
    pub retry: Duration,
    /// Longest such pause, without what chance adds.
    pub max_retry: Duration,
    /// From a change among the peers worth remembering to writing it down.
    pub save_after: Duration,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            low: 20,
            high: 30,
            grace: Duration::from_secs(30),
            dials: size(8),
            known: size(512),
            retry: Duration::from_secs(30),
            max_retry: Duration::from_secs(3600),
            save_after: Duration::from_secs(5),
        }
    }
}

/// How static peers are dialled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedialConfig {
    /// From the loss of a peer, or the first failure, to the next dial, plus up to as much at random. Each
    /// further failure doubles it.
    pub min_delay: Duration,
    /// Longest such delay, without what chance adds.
    pub max_delay: Duration,
}

impl Default for RedialConfig {
    fn default() -> Self {
        Self { min_delay: Duration::from_secs(1), max_delay: Duration::from_secs(60) }
    }
}

/// Finding unknown peers by discv5, over UDP. Needs a secp256k1 identity, which signs the node's record (ENR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// The UDP socket. Its port must not be that of a QUIC listener; port 0 takes a free one. Only nodes of the
    /// same IP version are found.
    pub listen: SocketAddr,
    /// Between two queries, while there are fewer peers than [`PeersConfig::low`]. With enough peers nothing
    /// is asked.
    pub interval: Duration,
    /// Whether the routing table takes at most 10 nodes of a /24 subnet, 2 in one bucket.
    pub limit_subnets: bool,
    /// Whether packets are limited to 10 a second in all, 9 from one address.
    pub limit_packets: bool,
}

impl DiscoveryConfig {
    /// Discovery on the open internet.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self { listen, interval: Duration::from_secs(10), limit_subnets: true, limit_packets: true }
    }

    /// Discovery among nodes on one machine: on a free port of the loopback interface, without the limits
    /// that would keep neighbours apart, ten queries a second.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            listen: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            interval: Duration::from_millis(100),
            limit_subnets: false,
            limit_packets: false,
        }
    }
}
