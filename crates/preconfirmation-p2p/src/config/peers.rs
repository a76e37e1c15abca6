//! Settings of finding and keeping peers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use super::size;

/// How many peers a node has, and how it comes by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeersConfig {
    /// Below so many peers, known ones are dialled and unknown ones looked for; so too while fewer than half of
    /// it are peers that we dialled ourselves. Whoever dials us can be anybody, as often as he likes.
    pub low: usize,
    /// Above so many peers, the worst are disconnected. Static and trusted peers count, but never go; nor do
    /// those that we dialled, as far as half of [`low`](Self::low) has to be of these.
    pub high: usize,
    /// Most peers of one subnet (/24 of IPv4, /48 of IPv6) that are dialled to reach `low`.
    pub outbound_per_subnet: NonZeroUsize,
    /// A peer stays at least as long, to show what it is worth.
    pub grace: Duration,
    /// Most peers being dialled at a time to reach `low`.
    pub dials: NonZeroUsize,
    /// Most peers remembered to be dialled; at least `low`. Those that were never reached make room first, connected ones never.
    pub known: NonZeroUsize,
    /// Of these, most at one address (a /64 of IPv6).
    pub known_per_ip: NonZeroUsize,
    /// Of these, most in one subnet.
    pub known_per_subnet: NonZeroUsize,
    /// Whether peers that discovery finds at private addresses are dialled although this node's own address is not
    /// one, or not known: untrusted peers could send the node into the operator's network.
    pub dial_private: bool,
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
            outbound_per_subnet: size(2),
            dials: size(8),
            known: size(512),
            known_per_ip: size(4),
            known_per_subnet: size(16),
            dial_private: false,
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
    /// The delays begin anew when a peer has said who it is and has stayed connected for this long: one that takes
    /// connections and closes them at once is not dialled every second.
    pub stable_after: Duration,
}

impl Default for RedialConfig {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            stable_after: Duration::from_secs(3 * 60),
        }
    }
}

/// Finding unknown peers by discv5, over UDP. Needs a secp256k1 identity, which signs the node's record (ENR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// The UDP socket. Its port must not be that of a QUIC listener; port 0 takes a free one. Only nodes of the
    /// same IP version are found.
    pub listen: SocketAddr,
    /// Between two queries, while there are fewer peers than [`PeersConfig::low`]; at most a day. With enough peers nothing
    /// is asked.
    pub interval: Duration,
    /// Whether the routing table takes at most 10 nodes of a /24 subnet, 2 in one bucket.
    pub limit_subnets: bool,
    /// Whether packets that nobody asked for are limited: to `packets_per_ip` a second from one address, which is
    /// not heard for some minutes if it sends more, and to `packets` a second in all, above which they are dropped.
    pub limit_packets: bool,
    /// See [`limit_packets`](Self::limit_packets). A node that looks for others sends a few.
    pub packets_per_ip: NonZeroU64,
    /// See [`limit_packets`](Self::limit_packets). More than the routing table's neighbours send, less than takes a
    /// noticeable part of a processor.
    pub packets: NonZeroU64,
    /// Where the record says that the node is reached, if it is neither at an advertised address nor at a specific
    /// one that it listens on.
    pub advertise_ip: Option<IpAddr>,
    /// The UDP port of the record, if it is not the one that is listened on: behind a router.
    pub advertise_port: Option<NonZeroU16>,
    /// So many nodes have to agree on the address at which they see this one before it says so in its record, where
    /// nothing else says; at least two. Only nodes that this one has contacted itself count.
    pub quorum: usize,
}

impl DiscoveryConfig {
    /// Discovery on the open internet.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            interval: Duration::from_secs(10),
            limit_subnets: true,
            limit_packets: true,
            packets_per_ip: rate(20),
            packets: rate(500),
            advertise_ip: None,
            advertise_port: None,
            quorum: 3,
        }
    }

    /// Discovery among nodes on one machine: on a free port of the loopback interface, without the limits
    /// that would keep neighbours apart, ten queries a second.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            interval: Duration::from_millis(100),
            limit_subnets: false,
            limit_packets: false,
            quorum: 2,
            ..Self::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
        }
    }
}

const fn rate(value: u64) -> NonZeroU64 {
    match NonZeroU64::new(value) {
        Some(value) => value,
        None => NonZeroU64::MIN,
    }
}
