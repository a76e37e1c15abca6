//! Names of gossip messages.

use preconfirmation_types::{B256, Topic, keccak256};
use serde::{Deserialize, Serialize};

/// The name under which the client remembers a gossip message: its topic and the keccak256 of its payload.
/// (The id that gossipsub uses on the wire knows no topic and is the network's own business.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// Where it was published.
    pub topic: Topic,
    /// keccak256 of the SSZ bytes.
    pub payload: B256,
}

impl MessageId {
    /// The id of a message.
    #[must_use]
    pub fn of(topic: Topic, ssz: &[u8]) -> Self {
        Self {
            topic,
            payload: keccak256(ssz),
        }
    }
}
