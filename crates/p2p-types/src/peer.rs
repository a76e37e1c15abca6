//! Peers as the application sees them.

use std::time::Duration;

use libp2p_identity::PeerId;
use preconfirmation_types::Topic;
use serde::{Deserialize, Serialize};

/// Where something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// This client published it.
    Local,
    /// A peer forwarded it by gossip.
    Gossip(PeerId),
    /// A peer sent it on request.
    Sync(PeerId),
}

impl Origin {
    /// The peer that answers for it, if any.
    #[must_use]
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Local => None,
            Self::Gossip(peer) | Self::Sync(peer) => Some(*peer),
        }
    }

    /// A short label for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Gossip(_) => "gossip",
            Self::Sync(_) => "sync",
        }
    }
}

/// A peer: connected, or banned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Who it is.
    pub peer: PeerId,
    /// The addresses of its connections, oldest first, or the one of its last connection.
    pub addresses: Vec<String>,
    /// What it says that it runs; nothing until it has said so. Text from a stranger.
    pub agent: Option<String>,
    /// Whether it dialled us.
    pub inbound: bool,
    /// The protocols that it says it speaks. Text from a stranger.
    pub protocols: Vec<String>,
    /// The topics that it subscribes to.
    pub topics: Vec<Topic>,
    /// Last measured round trip.
    pub round_trip: Option<Duration>,
    /// The score that decides about its messages; below zero is bad.
    pub score: f64,
    /// The part of it that the application gave; the rest is what gossip counts.
    pub application_score: f64,
    /// Whether it is static or trusted: never disconnected for too many peers, never banned.
    pub protected: bool,
    /// Whether it speaks the protocols of this chain and can be asked.
    pub ready: bool,
    /// Since its oldest connection was made; zero if it is not connected.
    pub connected_for: Duration,
    /// How long it will still be refused, if it is banned.
    pub banned_for: Option<Duration>,
}
