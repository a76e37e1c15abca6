//! Gossip messages of this network (§2): their ids, their form, their topics.

use libp2p::gossipsub::{IdentTopic, MessageId, TopicHash};
use preconfirmation_types::{
    Bytes, Container as _, DecodeError, DecodeErrorKind, MAX_GOSSIP_BYTES, Offence, RawTxListGossip,
    SIGNED_COMMITMENT_BYTES, SignedCommitment, TXLIST_HEADER_BYTES, Topic,
};
use sha2::{Digest as _, Sha256};

use crate::{error::PublishError, event::GossipMessage};

/// A raw snappy block expands at most to this: a copy of 3 bytes stands for 64.
const MAX_SNAPPY_EXPANSION: usize = 64 / 3 + 1;

/// The message id that the deployed peers use: 20 bytes of `sha256(0x01000000 ‖ uncompressed)` where `data`
/// is a valid raw snappy block, of `sha256(0x00000000 ‖ data)` otherwise (§2). The topic is not part of it.
///
/// What a block claims to expand to is judged before anything is allocated: over [`MAX_GOSSIP_BYTES`], or
/// more than snappy can express in that many bytes, it is not a block.
#[must_use]
pub fn gossip_id(data: &[u8]) -> [u8; 20] {
    let mut hasher = Sha256::new();
    if let Some(uncompressed) = uncompressed(data) {
        hasher.update([1, 0, 0, 0]);
        hasher.update(&uncompressed);
    } else {
        hasher.update([0, 0, 0, 0]);
        hasher.update(data);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let mut id = [0; 20];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

/// The id by which gossipsub knows a message: [`gossip_id`], but for what is on the commitments' topic and could be a
/// transaction list as well. 382 bytes can be both, and a copy on the other topic would suppress a genuine list. A genuine
/// commitment cannot: where a list has its offset, 36, it has the highest byte of a block number.
pub(crate) fn id_on(topic: Topic, data: &[u8]) -> [u8; 20] {
    let mut id = gossip_id(data);
    if topic == Topic::Commitments
        && data.get(32).is_some_and(|byte| usize::from(*byte) == TXLIST_HEADER_BYTES)
    {
        id.iter_mut().for_each(|byte| *byte = !*byte);
    }
    id
}

/// The low form of a commitment's bytes, if they are the high one (§4).
fn low_form(ssz: &Bytes) -> Option<Bytes> {
    let signed = SignedCommitment::from_ssz(ssz).ok()?;
    let signature = signed.signature;
    let low = signed.with_low_s();
    (low.signature != signature).then(|| low.to_ssz().into())
}

fn uncompressed(data: &[u8]) -> Option<Vec<u8>> {
    let claimed = snap::raw::decompress_len(data).ok()?;
    if claimed > MAX_GOSSIP_BYTES.min(data.len().saturating_mul(MAX_SNAPPY_EXPANSION)) {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(data).ok()
}

/// Judges the form of a message: size first, then the container. Costs the same for any length.
pub(crate) fn decode(topic: Topic, data: Bytes, max_txlist_bytes: usize) -> Result<GossipMessage, Malformed> {
    match topic {
        Topic::Commitments => match SignedCommitment::from_ssz(&data) {
            Ok(_) => Ok(GossipMessage::Commitment(data)),
            Err(error) => Err(Malformed { error, oversize: data.len() > SIGNED_COMMITMENT_BYTES }),
        },
        Topic::RawTxLists => {
            let (limit, actual) = (max_txlist_bytes, data.len().saturating_sub(TXLIST_HEADER_BYTES));
            if actual > limit {
                let error = DecodeError {
                    container: RawTxListGossip::NAME,
                    kind: DecodeErrorKind::ListTooLong { field: "txlist", limit, actual },
                };
                return Err(Malformed { error, oversize: true });
            }
            RawTxListGossip::from_ssz(&data)
                .map(GossipMessage::TxList)
                .map_err(|error| Malformed { error, oversize: false })
        }
    }
}

/// A message of a topic, and the id of the genuine one if it is the high-s twin of one: then it is in its low form (§4).
pub(crate) fn read(
    topic: Topic,
    data: Bytes,
    max_txlist_bytes: usize,
) -> Result<(GossipMessage, Option<MessageId>), Malformed> {
    let message = decode(topic, data, max_txlist_bytes)?;
    if let GossipMessage::Commitment(ssz) = &message
        && let Some(low) = low_form(ssz)
    {
        let genuine = MessageId::new(&id_on(topic, &low));
        return Ok((GossipMessage::Commitment(low), Some(genuine)));
    }
    Ok((message, None))
}

/// Bytes that are not the container of their topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Malformed {
    pub(crate) error: DecodeError,
    /// Whether they are too many.
    pub(crate) oversize: bool,
}

impl Malformed {
    pub(crate) const fn offence(&self) -> Offence {
        if self.oversize { Offence::Oversize } else { Offence::Malformed }
    }
}

/// Whether a message of ours is what peers accept: its size first, then its form.
pub(crate) fn check(topic: Topic, ssz: &Bytes, max_txlist_bytes: usize) -> Result<(), PublishError> {
    let (limit, actual) = (limit(topic, max_txlist_bytes), ssz.len());
    if actual > limit {
        return Err(PublishError::TooLarge { limit, actual });
    }
    decode(topic, ssz.clone(), max_txlist_bytes).map_err(|malformed| malformed.error)?;
    Ok(())
}

/// Most bytes of a message on a topic.
pub(crate) const fn limit(topic: Topic, max_txlist_bytes: usize) -> usize {
    match topic {
        Topic::Commitments => SIGNED_COMMITMENT_BYTES,
        Topic::RawTxLists => TXLIST_HEADER_BYTES + max_txlist_bytes,
    }
}

/// The topics of a chain as gossipsub names them.
#[derive(Debug, Clone)]
pub(crate) struct Topics([(Topic, IdentTopic, TopicHash); 2]);

impl Topics {
    pub(crate) fn new(chain_id: u64) -> Self {
        Self(Topic::ALL.map(|topic| {
            let ident = IdentTopic::new(topic.on_chain(chain_id));
            let hash = ident.hash();
            (topic, ident, hash)
        }))
    }

    pub(crate) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        self.0.iter().find(|(_, _, of)| of == hash).map(|(topic, _, _)| *topic)
    }

    pub(crate) fn idents(&self) -> impl Iterator<Item = &IdentTopic> {
        self.0.iter().map(|(_, ident, _)| ident)
    }

    pub(crate) fn hashes(&self) -> impl Iterator<Item = TopicHash> {
        self.0.iter().map(|(_, _, hash)| hash.clone())
    }

    pub(crate) fn hash(&self, topic: Topic) -> TopicHash {
        let [(first, _, of_first), (_, _, of_second)] = &self.0;
        if *first == topic { of_first.clone() } else { of_second.clone() }
    }
}

#[cfg(test)]
mod tests {
    use preconfirmation_types::B256;

    use super::*;

    fn hex(id: [u8; 20]) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn ids_of_plain_messages() {
        // The first 20 bytes of sha256 over four zero bytes and the message.
        assert_eq!(hex(gossip_id(b"hello")), "44c0a0d0ddc9808a27834e778f82623f9c897072");
        // No bytes are no snappy block.
        assert_eq!(hex(gossip_id(b"")), "df3f619804a92fdb4057192dc43dd748ea778adc");
    }

    #[test]
    fn ids_of_snappy_blocks_are_of_what_they_expand_to() {
        // Length 5, a literal of 5 bytes.
        assert_eq!(hex(gossip_id(b"\x05\x10hello")), "79d62a59d0e47597aeb73cb85ba034c3f67f90e8");
        let block = snap::raw::Encoder::new().compress_vec(&[b'a'; 1000]).unwrap();
        assert!(block.len() < 100);
        assert_eq!(hex(gossip_id(&block)), "ace16c17d91c9916c200dbba4292a6b9cc820c14");
    }

    #[test]
    fn what_claims_too_much_is_hashed_as_it_is() {
        let plain = |data: &[u8]| {
            let digest = Sha256::new().chain_update([0; 4]).chain_update(data).finalize();
            <[u8; 20]>::try_from(&digest[..20]).unwrap()
        };
        // Over the frame limit: 10 MiB and one byte of zeros, well compressed.
        let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; MAX_GOSSIP_BYTES + 1]).unwrap();
        assert!(snap::raw::Decoder::new().decompress_vec(&bomb).is_ok());
        assert_eq!(gossip_id(&bomb), plain(&bomb));
        // A few bytes that claim 10 MiB, which no block of that size can mean.
        let claim = [0x80, 0x80, 0x80, 0x05, 0, 0];
        assert_eq!(snap::raw::decompress_len(&claim).unwrap(), MAX_GOSSIP_BYTES);
        assert_eq!(uncompressed(&claim), None);
        assert_eq!(gossip_id(&claim), plain(&claim));
    }

    #[test]
    fn the_best_compression_there_is_stays_within_the_expansion_bound() {
        for length in [1, 60, 1000, 64 * 1024, 1024 * 1024, MAX_GOSSIP_BYTES] {
            let block = snap::raw::Encoder::new().compress_vec(&vec![7; length]).unwrap();
            assert_eq!(uncompressed(&block).map(|data| data.len()), Some(length));
        }
    }

    #[test]
    fn size_is_judged_before_form() {
        let txlist = |bytes: usize| {
            let gossip = RawTxListGossip { raw_tx_list_hash: B256::ZERO, txlist: vec![0; bytes].into() };
            Bytes::from(gossip.to_ssz())
        };
        assert!(decode(Topic::RawTxLists, txlist(100), 100).is_ok());
        let malformed = decode(Topic::RawTxLists, txlist(101), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        // Too long *and* no container: still its size.
        let malformed = decode(Topic::RawTxLists, vec![0xff; 200].into(), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        for length in [0, 35, 100] {
            let malformed = decode(Topic::RawTxLists, vec![0xff; length].into(), 100).unwrap_err();
            assert_eq!(malformed.offence(), Offence::Malformed);
        }
        let malformed = decode(Topic::Commitments, vec![0; 383].into(), 100).unwrap_err();
        assert_eq!(malformed.offence(), Offence::Oversize);
        for bad in [vec![0; 381], vec![2; 382]] {
            let malformed = decode(Topic::Commitments, bad.into(), 100).unwrap_err();
            assert_eq!(malformed.offence(), Offence::Malformed);
        }
    }
}
