//! All that can be set, with the protocol's defaults. Checked once, by [`Network::new`](crate::Network::new).

mod peers;
mod score;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use preconfirmation_types::{MAX_GOSSIP_BYTES, MAX_TXLIST_BYTES, TXLIST_HEADER_BYTES};

use crate::{
    discovery::{Bootnode, record},
    error::ConfigError,
};
pub use peers::{DiscoveryConfig, PeersConfig, RedialConfig};
pub use score::{ScoreConfig, TopicScoreConfig};

const fn size(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => NonZeroUsize::MIN,
    }
}

/// An instant that much later; for a duration that no clock can express, thirty years later.
pub(crate) fn after(instant: Instant, duration: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    instant.checked_add(duration).or_else(|| instant.checked_add(FOR_EVER)).unwrap_or(instant)
}

const fn rate(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// How a node takes part in the network of one chain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// L2 chain id: part of every topic and protocol id (§2, §10).
    pub chain_id: u64,
    /// Who this node is; signs what it publishes. ed25519 or secp256k1.
    pub identity: Keypair,
    /// Addresses to listen on, `/ip4/…/tcp/…` and `/ip4/…/udp/…/quic-v1`. Empty: the node only dials.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others reach this node, where they differ from those it listens on: behind a
    /// router, under a name. If there are any, peers are told of these only.
    pub advertise: Vec<Multiaddr>,
    /// Peers dialled at the start and, whenever they are lost, until they are back. Never pruned, never
    /// banned, not counted by the connection limits. Addresses with the same `/p2p/<id>` are one peer; at an
    /// address without it, whoever answers is the static peer.
    pub static_peers: Vec<Multiaddr>,
    /// Peers that are never pruned, never banned and not counted by the connection limits.
    pub trusted_peers: Vec<PeerId>,
    /// Where to begin while there are too few peers.
    pub bootnodes: Vec<Bootnode>,
    /// Directory for what a restart should know: the peers that were connected (`peers.json`) and the node's
    /// record (`enr`). Made where it is missing. None: a restart begins with the bootnodes and the static
    /// peers.
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

    /// See [`NetworkConfig::seed`].
    pub(crate) fn seed(&self) -> u64 {
        let from_identity = || {
            let id = self.identity.public().to_peer_id().to_bytes();
            id.iter().rev().take(8).fold(0, |seed: u64, byte| (seed << 8) | u64::from(*byte))
        };
        self.seed.unwrap_or_else(from_identity)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let mesh = &self.gossip.mesh;
        let (size, low, high, outbound_min) = (mesh.size, mesh.low, mesh.high, mesh.outbound_min);
        let mesh_fits = outbound_min <= low && low <= size && size <= high;
        if size == 0 || !mesh_fits || outbound_min.saturating_mul(2) > size {
            return Err(ConfigError::Mesh { size, low, high, outbound_min });
        }
        let (remembered, gossiped) = (self.gossip.history.get(), self.gossip.history_gossip);
        if gossiped > remembered {
            return Err(ConfigError::History { remembered, gossiped });
        }
        self.check_peers()?;
        let score = &self.score;
        let (gossip, publish, graylist, ban) =
            (score.gossip_threshold, score.publish_threshold, score.graylist_threshold, score.ban_threshold);
        // Written so that a NaN anywhere fails.
        if !(0.0 >= gossip && gossip >= publish && publish >= graylist && graylist >= ban) {
            return Err(ConfigError::Thresholds { gossip, publish, graylist, ban });
        }
        let topic = &score.topic;
        let bounded = |setting, value: f64, range: std::ops::RangeInclusive<f64>| {
            if range.contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { setting, value }) }
        };
        let below_one = f64::MIN_POSITIVE..=1.0 - f64::EPSILON;
        bounded("score.offence_cap", score.offence_cap, 0.0..=f64::MAX)?;
        bounded("score.acceptance", score.acceptance, 0.0..=f64::MAX)?;
        bounded("score.decay", score.decay, 0.0..=1.0)?;
        bounded("score.clamp", score.clamp, 0.0..=f64::MAX)?;
        bounded("score.topic.weight", topic.weight, 0.0..=f64::MAX)?;
        bounded("score.topic.time_in_mesh", topic.time_in_mesh, 0.0..=f64::MAX)?;
        bounded("score.topic.time_in_mesh_cap", topic.time_in_mesh_cap, f64::MIN_POSITIVE..=f64::MAX)?;
        bounded("score.topic.first_deliveries", topic.first_deliveries, 0.0..=f64::MAX)?;
        bounded("score.topic.first_deliveries_decay", topic.first_deliveries_decay, below_one.clone())?;
        let cap = topic.first_deliveries_cap;
        bounded("score.topic.first_deliveries_cap", cap, f64::MIN_POSITIVE..=f64::MAX)?;
        // A positive weight of a penalty makes gossipsub refuse the whole parameter set.
        bounded("score.topic.invalid_deliveries", topic.invalid_deliveries, f64::MIN..=0.0)?;
        bounded("score.topic.invalid_deliveries_decay", topic.invalid_deliveries_decay, below_one)?;
        #[allow(clippy::cast_precision_loss, reason = "only shown to a human")]
        bounded("max_txlist_bytes", self.max_txlist_bytes as f64, 1.0..=MAX_TXLIST_BYTES as f64)?;
        #[allow(clippy::cast_precision_loss, reason = "only shown to a human")]
        bounded(
            "gossip.max_frame_bytes",
            self.gossip.max_frame_bytes as f64,
            (self.max_txlist_bytes + TXLIST_HEADER_BYTES + 1024) as f64..=u32::MAX.into(),
        )?;
        for (setting, duration) in [
            ("gossip.heartbeat", self.gossip.heartbeat),
            ("score.offence_window", score.offence_window),
            ("score.decay_interval", score.decay_interval),
            ("score.topic.time_in_mesh_quantum", topic.time_in_mesh_quantum),
            ("pacing.window", self.pacing.window),
            ("pacing.timeout", self.pacing.timeout),
            ("peers.retry", self.peers.retry),
            ("redial.min_delay", self.redial.min_delay),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::ZeroDuration { setting });
            }
        }
        Ok(())
    }
}

impl NetworkConfig {
    /// Finding and keeping peers.
    fn check_peers(&self) -> Result<(), ConfigError> {
        let (peers, redial) = (&self.peers, &self.redial);
        #[allow(clippy::cast_precision_loss, reason = "only shown to a human")]
        for (setting, value, limit_setting, limit) in [
            ("peers.low", peers.low as f64, "peers.high", peers.high as f64),
            ("peers.retry", peers.retry.as_secs_f64(), "peers.max_retry", peers.max_retry.as_secs_f64()),
            (
                "redial.min_delay",
                redial.min_delay.as_secs_f64(),
                "redial.max_delay",
                redial.max_delay.as_secs_f64(),
            ),
        ] {
            if value > limit {
                return Err(ConfigError::Above { setting, value, limit_setting, limit });
            }
        }
        let unspecified = |address: &Multiaddr| record::ip_of(address).is_some_and(|ip| ip.is_unspecified());
        if let Some(index) = self.advertise.iter().position(unspecified) {
            return Err(ConfigError::Advertise { index });
        }
        let Some(discovery) = self.discovery else {
            let unused = self.bootnodes.iter().position(Bootnode::needs_discovery);
            return unused.map_or(Ok(()), |index| Err(ConfigError::BootnodeNeedsDiscovery { index }));
        };
        if discovery.interval.is_zero() {
            return Err(ConfigError::ZeroDuration { setting: "discovery.interval" });
        }
        if record::key(&self.identity).is_none() {
            return Err(ConfigError::DiscoveryIdentity);
        }
        Ok(())
    }
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Most established connections that others opened.
    pub max_inbound: u32,
    /// Most established connections that we opened.
    pub max_outbound: u32,
    /// Most connections to one peer; two, so that dialling each other at once does no harm.
    pub max_per_peer: u32,
    /// Most connections in negotiation, each way.
    pub max_pending: u32,
    /// A connection that nothing uses is closed after this: a peer that never opens gossipsub.
    pub idle_timeout: Duration,
    /// Between two pings; one that is not answered within 20 s closes the connection.
    pub ping_interval: Duration,
    /// While the process holds more bytes of physical memory than this, no connection is made or taken.
    /// None by default: only the operator knows what else the process does.
    pub max_process_bytes: Option<NonZeroUsize>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_inbound: 96,
            max_outbound: 64,
            max_per_peer: 2,
            max_pending: 32,
            idle_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            max_process_bytes: None,
        }
    }
}

/// How many peers a topic's mesh has (§2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshConfig {
    /// D: peers wanted.
    pub size: usize,
    /// Below this, peers are added at the next heartbeat.
    pub low: usize,
    /// Above this, peers are removed at the next heartbeat.
    pub high: usize,
    /// Peers wanted among them that we dialled.
    pub outbound_min: usize,
    /// Peers outside the mesh that are told of messages at each heartbeat, at least.
    pub lazy: usize,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self { size: 8, low: 6, high: 12, outbound_min: 2, lazy: 6 }
    }
}

/// Gossip (§2), as the deployed peers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipConfig {
    /// The mesh of each topic.
    pub mesh: MeshConfig,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Heartbeats that a message is remembered for. `history * heartbeat` (6 s) is how long a verdict can
    /// take and still have a message forwarded.
    pub history: NonZeroUsize,
    /// Of these, heartbeats in which it is announced.
    pub history_gossip: usize,
    /// How long peers of a topic that we do not subscribe to are remembered.
    pub fanout_ttl: Duration,
    /// How long a message id is known as seen.
    pub duplicate_cache: Duration,
    /// Largest gossip frame in bytes, with what surrounds a message.
    pub max_frame_bytes: usize,
    /// Most messages that wait to be written to one peer. Counted, not measured: with transaction lists of
    /// 2 MiB a peer that reads nothing holds at most `send_queue * 2 MiB` for a few seconds.
    pub send_queue: NonZeroUsize,
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            mesh: MeshConfig::default(),
            heartbeat: Duration::from_millis(500),
            history: size(12),
            history_gossip: 3,
            fanout_ttl: Duration::from_secs(60),
            duplicate_cache: Duration::from_secs(120),
            max_frame_bytes: MAX_GOSSIP_BYTES,
            send_queue: size(128),
        }
    }
}

/// How fast we ask (§10). The deployed peers answer 8 requests in 10 s per peer and protocol and punish the
/// ninth, so requests wait for their turn instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// Most requests to one peer on one protocol in any `window`; [`NonZeroUsize::MAX`] does not pace.
    pub requests: NonZeroUsize,
    /// The sliding window: 10 s and half a second for what the network delays unevenly.
    pub window: Duration,
    /// Most requests that wait for their turn per peer and protocol.
    pub waiting: NonZeroUsize,
    /// From opening the stream to the whole answer. Waiting for a turn does not count. As long does a peer
    /// that asks us wait for our answer.
    pub timeout: Duration,
}

impl Default for PacingConfig {
    fn default() -> Self {
        Self {
            requests: size(8),
            window: Duration::from_millis(10_000 + 500),
            waiting: size(64),
            timeout: Duration::from_secs(10),
        }
    }
}

/// How much we serve. Over these bounds a stream is closed without an answer, and nobody is penalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServingConfig {
    /// Requests a second and peer, over all protocols, in the long run.
    pub per_second: NonZeroU32,
    /// Requests that a peer may make at once after a pause.
    pub burst: NonZeroU32,
    /// Most requests of one peer in work, from their event to the last byte of their answer.
    pub in_work_per_peer: NonZeroUsize,
    /// Most requests in work.
    pub in_work: NonZeroUsize,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self { per_second: rate(8), burst: rate(64), in_work_per_peer: size(32), in_work: size(128) }
    }
}

/// Bounds of the queues towards the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Gossip messages that wait to be read.
    pub gossip_events: NonZeroUsize,
    /// Requests that wait to be read.
    pub request_events: NonZeroUsize,
    /// Gossip messages, read or not, whose verdict is still owed.
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
            gossip_events: size(1024),
            request_events: size(128),
            open_verdicts: size(4096),
            open_verdict_bytes: size(128 * 1024 * 1024),
            commands: size(256),
            reports: size(1024),
        }
    }
}
