//! The origin of a message.

use libp2p_identity::PeerId;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_answers_for_what_it_sent_and_nobody_for_our_own() {
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        for (origin, of, label) in [
            (Origin::Local, None, "local"),
            (Origin::Gossip(peer), Some(peer), "gossip"),
            (Origin::Sync(peer), Some(peer), "sync"),
        ] {
            assert_eq!((origin.peer(), origin.label()), (of, label));
        }
    }
}
