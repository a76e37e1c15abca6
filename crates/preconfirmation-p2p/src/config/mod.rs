//! All that can be set, with the protocol's defaults. Checked once, by [`Network::new`](crate::Network::new).

mod peers;
mod score;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use preconfirmation_types::{MAX_GOSSIP_BYTES, MAX_TXLIST_BYTES, TXLIST_HEADER_BYTES, Topic};

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
        self.gossip.mesh.check()?;
        self.gossip.txlist_mesh.check()?;
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
        #[allow(clippy::cast_precision_loss, reason = "only shown to a human")]
        bounded(
            "gossip.send_queue_bytes",
            self.gossip.send_queue_bytes.get() as f64,
            (self.max_txlist_bytes + TXLIST_HEADER_BYTES) as f64..=f64::MAX,
        )?;
        // A stream on which nobody answers is given up by the stack after 10 s, and with it what was seen.
        bounded("gossip.send_stall", self.gossip.send_stall.as_secs_f64(), 0.001..=9.0)?;
        let most = f64::from(u32::MAX) / 1000.0;
        bounded("serving.requests_per", self.serving.requests_per.as_secs_f64(), 0.0..=most)?;
        for (setting, duration) in [
            ("gossip.heartbeat", self.gossip.heartbeat),
            ("gossip.queue_time", self.gossip.queue_time),
            ("score.offence_window", score.offence_window),
            ("score.decay_interval", score.decay_interval),
            ("score.topic.time_in_mesh_quantum", topic.time_in_mesh_quantum),
            ("pacing.window", self.pacing.window),
            ("pacing.timeout", self.pacing.timeout),
            ("peers.retry", self.peers.retry),
            ("redial.min_delay", self.redial.min_delay),
            ("pacing.least_timeout", self.pacing.least_timeout),
            ("serving.requests_per", self.serving.requests_per),
            ("serving.bytes_per", self.serving.bytes_per),
            ("gossip.outbox.stale_after", self.gossip.outbox.stale_after),
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
    /// Least time from the beginning of one inbound TCP handshake to that of the next: a flood of connections
    /// costs so many handshakes and no more. They wait for at most `max_pending` times as long.
    pub handshake_interval: Duration,
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
            handshake_interval: Duration::from_millis(10),
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
}

impl MeshConfig {
    const fn new(size: usize, low: usize, high: usize, outbound_min: usize) -> Self {
        Self { size, low, high, outbound_min }
    }

    fn check(self) -> Result<(), ConfigError> {
        let Self { size, low, high, outbound_min } = self;
        let fits = outbound_min <= low && low <= size && size <= high;
        if size == 0 || !fits || outbound_min.saturating_mul(2) > size {
            return Err(ConfigError::Mesh { size, low, high, outbound_min });
        }
        Ok(())
    }
}

impl Default for MeshConfig {
    /// The mesh of the deployed peers.
    fn default() -> Self {
        Self::new(8, 6, 12, 2)
    }
}

/// Gossip (§2), as the deployed peers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipConfig {
    /// The mesh of the commitments' topic.
    pub mesh: MeshConfig,
    /// The mesh of the transaction lists' topic: smaller, because every peer in it may send the same list.
    pub txlist_mesh: MeshConfig,
    /// Peers outside the mesh that are told of messages at each heartbeat, at least.
    pub lazy: usize,
    /// Messages longer than this in bytes are announced with IDONTWANT to the mesh on arrival, so that
    /// fewer copies of them come. [`usize::MAX`] announces none.
    pub idontwant_threshold: usize,
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
    /// Most messages that wait to be written to one peer; one more is not sent to it.
    pub send_queue: NonZeroUsize,
    /// Most bytes that may wait behind a message that a peer does not read; a peer behind which more may
    /// wait is disconnected. It counts what gossip was given to send, whether to this peer or not. A peer
    /// that also asks for messages itself (IWANT) can make each wait once more: it pins at most twice this.
    pub send_queue_bytes: NonZeroUsize,
    /// A peer that does not read a whole message in this time is disconnected; at most 9 s. 8 s for the
    /// largest list are 2.1 Mbit/s.
    pub send_stall: Duration,
    /// A message that has waited this long to be written to a peer is not sent to it any more.
    pub queue_time: Duration,
    /// Messages of ours that no peer could be sent yet.
    pub outbox: OutboxConfig,
}

/// What is kept of our own messages while no peer can be sent them. One more than fits is refused with
/// [`PublishError::QueueFull`](crate::PublishError::QueueFull).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxConfig {
    /// Most messages.
    pub messages: NonZeroUsize,
    /// Most bytes of them together.
    pub bytes: NonZeroUsize,
    /// One that has waited this long is dropped and counted. An L1 epoch, 32 slots of 12 s: no submission
    /// window (§4) is open for longer, and peers ignore what comes after its end.
    pub stale_after: Duration,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { messages: size(512), bytes: size(64 * 1024 * 1024), stale_after: Duration::from_secs(32 * 12) }
    }
}

impl GossipConfig {
    pub(crate) const fn mesh_of(&self, topic: Topic) -> &MeshConfig {
        match topic {
            Topic::Commitments => &self.mesh,
            Topic::RawTxLists => &self.txlist_mesh,
        }
    }
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            mesh: MeshConfig::default(),
            txlist_mesh: MeshConfig::new(4, 3, 6, 1),
            lazy: 6,
            idontwant_threshold: 1000,
            heartbeat: Duration::from_millis(500),
            history: size(12),
            history_gossip: 3,
            fanout_ttl: Duration::from_secs(60),
            duplicate_cache: Duration::from_secs(120),
            max_frame_bytes: MAX_GOSSIP_BYTES,
            send_queue: size(128),
            send_queue_bytes: size(32 * 1024 * 1024),
            send_stall: Duration::from_secs(8),
            queue_time: Duration::from_secs(5),
            outbox: OutboxConfig::default(),
        }
    }
}

/// How fast we ask (§10). The deployed peers answer 8 requests in 10 s per peer and protocol and punish the
/// ninth, so requests wait for their turn instead. A peer that says in its agent string how much it answers
/// is asked at that pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// Most requests to one peer on one protocol in any `window`; [`NonZeroUsize::MAX`] does not pace.
    pub requests: NonZeroUsize,
    /// The sliding window: 10 s and half a second for what the network delays unevenly.
    pub window: Duration,
    /// Most requests in a window to a peer that says to answer more.
    pub most_requests: NonZeroUsize,
    /// How long the pace of a peer that has refused is not believed.
    pub careful_for: Duration,
    /// Most requests without an answer per peer and protocol. Three protocols together stay below the share
    /// that a peer like us has for one asker, `serving.in_work_per_peer`.
    pub in_flight: NonZeroUsize,
    /// Most requests that wait for their turn per peer and protocol.
    pub waiting: NonZeroUsize,
    /// Most time from opening the stream to the whole answer. Waiting for a turn does not count. As long
    /// does a peer that asks us wait for our answer.
    pub timeout: Duration,
    /// Least time for the same. In between, it is what answers of this peer on this protocol have taken, and
    /// four times their deviation.
    pub least_timeout: Duration,
}

impl Default for PacingConfig {
    fn default() -> Self {
        Self {
            requests: size(8),
            window: Duration::from_millis(10_000 + 500),
            most_requests: size(4096),
            careful_for: Duration::from_secs(60),
            in_flight: size(8),
            waiting: size(4096),
            timeout: Duration::from_secs(10),
            least_timeout: Duration::from_secs(2),
        }
    }
}

/// How much we serve, by what it costs us. A request over `requests` finds its stream closed without an
/// answer; an answer over `bytes` waits until it is paid for. Nobody is penalised.
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
    /// Most requests of one peer in work, from their event to the last byte of their answer.
    pub in_work_per_peer: NonZeroUsize,
    /// Most requests in work.
    pub in_work: NonZeroUsize,
}

impl Default for ServingConfig {
    /// 512 requests and 8 MiB a second.
    fn default() -> Self {
        Self {
            advertise: true,
            requests: rate(2048),
            requests_per: Duration::from_secs(4),
            bytes: size(32 * 1024 * 1024),
            bytes_per: Duration::from_secs(4),
            item_bytes: 1024,
            in_work_per_peer: size(32),
            in_work: size(128),
        }
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
