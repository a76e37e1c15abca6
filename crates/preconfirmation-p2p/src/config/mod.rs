//! All that can be set, with the protocol's defaults. Checked once, by [`Network::new`](crate::Network::new): no duration is
//! longer than ten years, or shorter than a millisecond unless it may be zero; no queue is longer than a million entries.

mod check;
mod connections;
mod gossip;
mod peers;
mod requests;
mod score;
#[cfg(test)]
pub(crate) mod settings;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use preconfirmation_types::{MAX_TXLIST_BYTES, rate_limit::RateLimit};

use crate::{bootnode::Bootnode, operator::IpRange};
pub use connections::ConnectionConfig;
pub(crate) use connections::HANDSHAKE;
pub use gossip::{GossipConfig, MeshConfig, PublishQueueConfig};
pub use peers::{DiscoveryConfig, PeersConfig, RedialConfig};
pub use requests::{PacingConfig, ServingConfig};
pub use score::{ScoreConfig, TopicScoreConfig};

const fn size(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => NonZeroUsize::MIN,
    }
}

/// An instant that much later; for a duration that no clock can express, thirty years later.
pub(crate) fn after(instant: Instant, duration: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    instant.checked_add(duration).or_else(|| instant.checked_add(THIRTY_YEARS)).unwrap_or(instant)
}

/// How a node takes part in the network of one chain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// L2 chain id: part of every topic and protocol id (§2, §10).
    pub chain_id: u64,
    /// Who this node is; signs what it publishes. ed25519 or secp256k1.
    pub identity: Keypair,
    /// Addresses to listen on, `/ip4/…/tcp/…` and `/ip4/…/udp/…/quic-v1`; `/memory/0` for many nodes in one process. Empty: the
    /// node only dials.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others reach this node, where they differ from those it listens on: behind a
    /// router, under a name. If there are any, peers are told of these only. `/ip4/…/udp/…` with nothing behind it is
    /// where discovery is reached, for the record.
    pub advertise: Vec<Multiaddr>,
    /// Peers dialled at the start and, whenever they are lost, until they are back. Never pruned, never
    /// banned, not counted by the connection limits. Addresses with the same `/p2p/<id>` are one peer; at an
    /// address without it, whoever answers is the static peer.
    pub static_peers: Vec<Multiaddr>,
    /// Peers that are never pruned, never banned and not counted by the connection limits.
    pub trusted_peers: Vec<PeerId>,
    /// Where peers may be: whoever connects from elsewhere is refused, and nobody elsewhere is dialled, static and trusted
    /// peers included. A peer that is dialled by a name (DNS) is not asked where it is. Empty: anywhere.
    pub restrict_to: Vec<IpRange>,
    /// Where to begin while there are too few peers.
    pub bootnodes: Vec<Bootnode>,
    /// Directory for what a restart should know: the peers that were connected (`peers.json`), the node's
    /// record (`enr`), and that it has been used (`started`). Made where it is missing. None: a restart begins with the
    /// bootnodes and the static peers, and every start counts as one: peers that do not say how much they answer are
    /// not asked within the first `pacing.window`, as the requests of an earlier run may still count there.
    pub data_dir: Option<PathBuf>,
    /// How many peers, and how known ones are dialled.
    pub peers: PeersConfig,
    /// How static peers are dialled again.
    pub redial: RedialConfig,
    /// Finding unknown peers; none by default. Needs a secp256k1 identity.
    pub discovery: Option<DiscoveryConfig>,
    /// Seeds jitter, the choice among equal peers and the targets of queries. By default it is taken from the
    /// identity, so that nodes differ.
    pub seed: Option<u64>,
    /// Largest transaction list on this chain, in bytes; at most 2 MiB. Longer ones are an offence on gossip.
    pub max_txlist_bytes: usize,
    /// Connections.
    pub connections: ConnectionConfig,
    /// Gossip.
    pub gossip: GossipConfig,
    /// Requests that we make.
    pub pacing: PacingConfig,
    /// How much these peers answer on each protocol, as their operators say: believed before what they advertise.
    pub rate_limits: HashMap<PeerId, RateLimit>,
    /// Requests that we serve.
    pub serving: ServingConfig,
    /// Peer scores and what follows from them.
    pub score: ScoreConfig,
    /// Queues between the network and the application.
    pub queues: QueueConfig,
}

impl NetworkConfig {
    /// The defaults of the protocol; listens nowhere and knows nobody.
    #[must_use]
    pub fn new(chain_id: u64, identity: Keypair) -> Self {
        Self {
            chain_id,
            identity,
            listen: Vec::new(),
            advertise: Vec::new(),
            static_peers: Vec::new(),
            trusted_peers: Vec::new(),
            restrict_to: Vec::new(),
            bootnodes: Vec::new(),
            data_dir: None,
            peers: PeersConfig::default(),
            redial: RedialConfig::default(),
            discovery: None,
            seed: None,
            max_txlist_bytes: MAX_TXLIST_BYTES,
            connections: ConnectionConfig::default(),
            gossip: GossipConfig::default(),
            pacing: PacingConfig::default(),
            rate_limits: HashMap::new(),
            serving: ServingConfig::default(),
            score: ScoreConfig::default(),
            queues: QueueConfig::default(),
        }
    }

    /// As [`NetworkConfig::new`], listening on a free TCP port of the loopback interface. Connects to nobody
    /// and disconnects nobody by itself: the watermarks are 0 and 1024 peers.
    #[must_use]
    pub fn local(chain_id: u64, identity: Keypair) -> Self {
        use libp2p::multiaddr::Protocol;
        let loopback = Protocol::Ip4(std::net::Ipv4Addr::LOCALHOST);
        Self {
            listen: vec![Multiaddr::empty().with(loopback).with(Protocol::Tcp(0))],
            peers: PeersConfig { low: 0, high: 1024, ..PeersConfig::default() },
            ..Self::new(chain_id, identity)
        }
    }

    /// As [`NetworkConfig::local`], but reached by channels of this process: for many nodes in one, without ports and
    /// descriptors.
    #[must_use]
    pub fn in_memory(chain_id: u64, identity: Keypair) -> Self {
        use libp2p::multiaddr::Protocol;
        let listen = vec![Multiaddr::empty().with(Protocol::Memory(0))];
        Self { listen, ..Self::local(chain_id, identity) }
    }

    /// The [`seed`](Self::seed), or the one taken from the identity.
    #[must_use]
    pub fn effective_seed(&self) -> u64 {
        let from_identity = || {
            let id = self.identity.public().to_peer_id().to_bytes();
            id.iter().rev().take(8).fold(0, |seed: u64, byte| (seed << 8) | u64::from(*byte))
        };
        self.seed.unwrap_or_else(from_identity)
    }
}

/// Bounds of the queues towards the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Requests that wait to be read.
    pub request_events: NonZeroUsize,
    /// Gossip messages, read or not, whose verdict is still owed. When there are more, whoever has sent most of them
    /// loses its newest.
    pub open_verdicts: NonZeroUsize,
    /// Bytes of these messages together.
    pub open_verdict_bytes: NonZeroUsize,
    /// Commands of handles.
    pub commands: NonZeroUsize,
    /// Reports of handles.
    pub reports: NonZeroUsize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            request_events: size(128),
            open_verdicts: size(4096),
            open_verdict_bytes: size(128 * 1024 * 1024),
            commands: size(256),
            reports: size(1024),
        }
    }
}
