//! Names of gossip messages.

use preconfirmation_types::{B256, Topic, TxList, keccak256};
use serde::{Deserialize, Serialize};

/// The name under which the client remembers a gossip message: its topic and a hash of its payload.
/// (The id that gossipsub uses on the wire knows no topic and is the network's own business.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// Where it was published.
    pub topic: Topic,
    /// keccak256 of the SSZ of a commitment, or of the bytes of a transaction list.
    pub payload: B256,
}

impl MessageId {
    /// The id of a commitment, from the SSZ bytes of the message.
    #[must_use]
    pub fn of_commitment(ssz: &[u8]) -> Self {
        Self { topic: Topic::Commitments, payload: keccak256(ssz) }
    }

    /// The id of a transaction list, which has been hashed already.
    #[must_use]
    pub const fn of_txlist(txlist: &TxList) -> Self {
        Self { topic: Topic::RawTxLists, payload: txlist.hash() }
    }
}
