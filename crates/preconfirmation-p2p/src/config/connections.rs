//! Which connections are taken and made.

use std::{num::NonZeroUsize, time::Duration};

use super::size;
use crate::ip::Host;

/// From the first packet to an authenticated connection.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bounds on connections. Static and trusted peers have places of their own. An address is one of IPv4 or a /64 of
/// IPv6, a subnet a /24 or a /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Most established connections that others opened. While an eighth of them or less is free, peers that neither subscribe
    /// nor ask for anything within two seconds are disconnected.
    pub max_inbound: u32,
    /// Of these, most from one address.
    pub max_inbound_per_ip: NonZeroUsize,
    /// Of these, most from one subnet.
    pub max_inbound_per_subnet: NonZeroUsize,
    /// Most established connections that we opened; at least `peers.low`.
    pub max_outbound: u32,
    /// Most connections to one peer; two, so that dialling each other at once does no harm.
    pub max_per_peer: u32,
    /// Most connections in negotiation, each way. When one more comes in, the address with the most open and recently failed
    /// negotiations loses one, first one on which nothing was sent yet, then its oldest.
    pub max_pending: u32,
    /// Most inbound connections in negotiation from one address. When one more comes in, its oldest makes room.
    pub max_pending_per_ip: NonZeroUsize,
    /// An inbound TCP connection on which nothing is said for this long is closed; at most 10 s, as long as a handshake.
    pub first_bytes: Duration,
    /// Whether the limits for one address and one subnet hold for loopback and private addresses too. Off: behind a
    /// proxy or a container bridge all peers come from one of these.
    pub limit_private: bool,
    /// So many banned peers of one address ban the address, until the first of these bans is over.
    pub bans_per_ip: NonZeroUsize,
    /// Least time from the beginning of one inbound TCP handshake to that of the next: a flood of connections
    /// costs so many handshakes and no more. They wait for at most `max_pending` times as long, and 10 s. A QUIC handshake
    /// begins at once and takes its turn among them when it is over.
    pub handshake_interval: Duration,
    /// A connection that nothing uses is closed after this: a peer that never opens gossipsub.
    pub idle_timeout: Duration,
    /// Between two pings; one that is not answered within 20 s closes the connection.
    pub ping_interval: Duration,
    /// While the process holds more bytes of physical memory than this, no connection is made or taken.
    /// None by default: only the operator knows what else the process does.
    pub max_process_bytes: Option<NonZeroUsize>,
}

impl ConnectionConfig {
    /// Whether a host's address says anything about who is there.
    pub(crate) fn tells_apart(&self, host: Host) -> bool {
        self.limit_private || host.is_global()
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_inbound: 96,
            max_inbound_per_ip: size(4),
            max_inbound_per_subnet: size(8),
            max_outbound: 64,
            max_per_peer: 2,
            max_pending: 128,
            max_pending_per_ip: size(8),
            first_bytes: Duration::from_secs(3),
            limit_private: false,
            bans_per_ip: size(3),
            handshake_interval: Duration::from_millis(10),
            idle_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            max_process_bytes: None,
        }
    }
}
