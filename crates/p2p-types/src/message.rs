//! Ids of gossip messages inside the client.

use preconfirmation_types::{B256, Topic, TxList, keccak256};
use serde::{Deserialize, Serialize};

/// The id by which the client deduplicates a gossip message: its topic and a hash of its payload. The message id of
/// gossipsub, which does not include the topic, is a matter of the network layer.
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

#[cfg(test)]
mod tests {
    use preconfirmation_types::Bytes;

    use super::*;

    #[test]
    fn the_same_bytes_on_two_topics_are_two_messages() {
        let txlist = TxList::new(Bytes::from_static(b"bytes"), 5).unwrap();
        let (commitment, list) = (MessageId::of_commitment(b"bytes"), MessageId::of_txlist(&txlist));
        assert_eq!(commitment.payload, list.payload);
        assert_ne!(commitment, list);
        assert_ne!(commitment, MessageId::of_commitment(b"others"));
    }
}
