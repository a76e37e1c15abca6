//! What can go wrong, and whose fault it is.

use std::{error::Error, io, path::PathBuf};

use libp2p::{Multiaddr, PeerId};
use preconfirmation_types::{DecodeError, FrameError, Mismatch};

/// A source of which only the text matters: the network stack's own error types are not public here.
type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A setting that cannot work. Found by [`Network::new`](crate::Network::new), before anything starts.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The mesh bounds are not `2 * outbound_min <= size`, `outbound_min <= low <= size <= high`.
    #[error("mesh: size {size}, low {low}, high {high}, outbound minimum {outbound_min} do not fit together")]
    Mesh {
        /// Peers wanted in the mesh.
        size: usize,
        /// Below this, peers are added.
        low: usize,
        /// Above this, peers are removed.
        high: usize,
        /// Peers wanted that were dialled from here.
        outbound_min: usize,
    },
    /// The message cache gossips more heartbeats than it remembers.
    #[error("gossip: {gossiped} heartbeats gossiped, only {remembered} remembered")]
    History {
        /// Heartbeats kept.
        remembered: usize,
        /// Heartbeats announced.
        gossiped: usize,
    },
    /// The score thresholds are not `0 >= gossip >= publish >= graylist >= ban`.
    #[error("score thresholds must fall: gossip {gossip}, publish {publish}, graylist {graylist}, ban {ban}")]
    Thresholds {
        /// No gossip below.
        gossip: f64,
        /// No publishing to below.
        publish: f64,
        /// Nothing is read below.
        graylist: f64,
        /// Banned after a while below.
        ban: f64,
    },
    /// A number is outside the range in which it has a meaning.
    #[error("{setting} is {value}, outside its range")]
    OutOfRange {
        /// The setting, as a path from [`NetworkConfig`](crate::NetworkConfig).
        setting: &'static str,
        /// Its value.
        value: f64,
    },
    /// A setting is above another one that bounds it. Durations are in seconds.
    #[error("{setting} is {value}, above {limit_setting}, which is {limit}")]
    Above {
        /// The setting, as a path from [`NetworkConfig`](crate::NetworkConfig).
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The setting that bounds it.
        limit_setting: &'static str,
        /// The value of that one.
        limit: f64,
    },
    /// An advertised address is unspecified (`0.0.0.0`): nobody can dial it.
    #[error("advertise[{index}] is an unspecified address: nobody can dial it")]
    Advertise {
        /// Which, from zero.
        index: usize,
    },
    /// The IP that the node's record should have is unspecified (`0.0.0.0`).
    #[error("discovery.advertise_ip is unspecified: nobody can contact it")]
    AdvertiseIp,
    /// Discovery is configured for an identity that cannot sign its records.
    #[error("discovery needs a secp256k1 identity, this one is ed25519")]
    DiscoveryIdentity,
    /// A bootnode that is only a UDP address cannot be used without discovery.
    #[error("bootnodes[{index}] can only be asked by discovery, which is not configured")]
    BootnodeNeedsDiscovery {
        /// Which, from zero.
        index: usize,
    },
    /// A duration is zero where that has no meaning.
    #[error("{setting} must not be zero")]
    ZeroDuration {
        /// The setting, as a path from [`NetworkConfig`](crate::NetworkConfig).
        setting: &'static str,
    },
}

/// Why there is no discovery. Ends the service: a node that would find nobody says so instead of going on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The UDP socket cannot be bound or used.
    #[error("the UDP socket of discovery")]
    Socket(#[source] io::Error),
    /// The node's record cannot be made or signed.
    #[error("the node's record cannot be signed")]
    Record,
    /// discv5 did not start.
    #[error("discv5 did not start")]
    Start(#[source] BoxError),
    /// discv5 has ended by itself.
    #[error("discv5 has ended")]
    Ended,
}

/// Why the network cannot start, go on, or do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// [`Network::new`](crate::Network::new) was called outside a Tokio runtime with I/O and time enabled.
    #[error("a network must be built inside a Tokio runtime")]
    NoRuntime(#[source] tokio::runtime::TryCurrentError),
    /// Gossip or encryption refused its parameters.
    #[error("the network stack refused its parameters")]
    Stack(#[source] BoxError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of the configuration.
        address: Multiaddr,
        /// Why.
        source: io::Error,
    },
    /// A listener has ended: the node can no longer be reached there. Ends the service.
    #[error("the listener of {address} has ended")]
    ListenerClosed {
        /// The address of the configuration.
        address: Multiaddr,
        /// Why, where the listener told.
        source: Option<io::Error>,
    },
    /// The data directory cannot be made.
    #[error("cannot make the data directory {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Discovery cannot start.
    #[error("discovery has failed")]
    Discovery(#[from] DiscoveryError),
    /// No connection could be made.
    #[error("cannot dial {address}")]
    Dial {
        /// The address asked for.
        address: Multiaddr,
        /// Why.
        source: BoxError,
    },
    /// The service has ended.
    #[error("the network has shut down")]
    Closed,
}

impl NetworkError {
    /// Whether the same call can succeed later. Only a failed dial can.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Dial { .. })
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No peer can be sent the message, and no more messages are kept until one can: `gossip.publish_queue`.
    #[error(
        "no peer can be sent the message, and no more than {messages} messages of {bytes} bytes are kept"
    )]
    QueueFull {
        /// Most messages kept.
        messages: usize,
        /// Most bytes of them together.
        bytes: usize,
    },
    /// The message is longer than its topic allows.
    #[error("{actual} bytes, at most {limit} allowed")]
    TooLarge {
        /// Most bytes of the message on its topic.
        limit: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The bytes are not the container of the topic; every peer would punish us for them.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The message could not be signed or encoded.
    #[error("the message could not be signed")]
    Unsigned,
    /// The service has ended.
    #[error("the network has shut down")]
    Closed,
}

impl PublishError {
    /// Whether publishing the same bytes again later can succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::QueueFull { .. })
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No connection to the peer.
    #[error("not connected to {peer}")]
    NotConnected {
        /// The peer asked.
        peer: PeerId,
    },
    /// The connection closed before the answer came.
    #[error("the connection closed before an answer came")]
    Disconnected,
    /// The peer does not speak the protocol, or this crate does not know it.
    #[error("the protocol {protocol} is not spoken")]
    Unsupported {
        /// [`Rpc::NAME`](preconfirmation_types::Rpc::NAME).
        protocol: &'static str,
    },
    /// As many requests as may wait for the rate limit of this peer and protocol already do.
    #[error("{limit} requests already wait for this peer's rate limit")]
    QueueFull {
        /// Most requests that wait.
        limit: usize,
    },
    /// The peer closed the stream without a byte: it has no answer, or finds that it is asked too often.
    /// Not an offence.
    #[error("the peer closed the stream without an answer")]
    NoAnswer,
    /// The stream ended inside the answer. Not an offence: connections break.
    #[error("the stream ended inside the answer")]
    CutOff,
    /// No whole answer within the time that requests have.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is not one frame with the container that belongs in it. The peer has been charged.
    #[error("malformed answer: {0}")]
    Malformed(#[source] FrameError),
    /// The answer answers another question. The peer has been charged.
    #[error("wrong answer: {0}")]
    Mismatch(#[source] Mismatch),
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[source] io::Error),
    /// The service has ended.
    #[error("the network has shut down")]
    Closed,
}

impl RequestError {
    /// Whether asking the *same* peer again, after a pause, can succeed. Another peer can always be asked,
    /// but after [`RequestError::Closed`].
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::QueueFull { .. } | Self::NoAnswer | Self::CutOff | Self::TimedOut | Self::Io(_))
    }

    /// Whether the peer was at fault, and has been charged for it.
    #[must_use]
    pub const fn is_offence(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Mismatch(_))
    }

    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "not_connected",
            Self::Disconnected => "disconnected",
            Self::Unsupported { .. } => "unsupported",
            Self::QueueFull { .. } => "queue_full",
            Self::NoAnswer => "no_answer",
            Self::CutOff => "cut_off",
            Self::TimedOut => "timed_out",
            Self::Malformed(_) => "malformed",
            Self::Mismatch(_) => "mismatch",
            Self::Io(_) => "io",
            Self::Closed => "closed",
        }
    }
}
