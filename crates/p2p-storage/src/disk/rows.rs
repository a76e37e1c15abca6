//! The encoding of a commitment in its table: packed, with a checksum.

use std::sync::Arc;

use p2p_types::{Address, B256, BlockNumber, Recovered, SigningDomain};
use preconfirmation_types::{Container as _, SIGNED_COMMITMENT_BYTES};
use twox_hash::XxHash3_64;

use super::tables::{CANONICAL, RowKey, WITHDRAWN};
use crate::{StorageError, StoredCommitment};

/// Bytes of the checksum at the end of each record.
pub(super) const CHECKSUM_BYTES: usize = 8;
/// An unpacked record: arrival number, signer, commitment, and the parent where the commitment does not name it.
const MAX_ROW_BYTES: usize = 8 + 20 + SIGNED_COMMITMENT_BYTES + 32;

/// XXH3 with 64 bits, against accidental damage only. The seed binds it to the height of the record.
pub(super) fn checksum(seed: u64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    XxHash3_64::oneshot_with_seed(seed, bytes).to_be_bytes()
}

/// Appends the checksum.
pub(super) fn seal(seed: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(seed, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Splits the checksum off; none if it is not that of the rest.
pub(super) fn checked(seed: u64, bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (checksum(seed, body) == *sum).then_some(body)
}

/// Run-length encoding of zero bytes: a run becomes one zero and its length. A commitment has six numbers of 32 bytes,
/// mostly zeros, and shrinks to two thirds.
pub(super) fn pack(bytes: &[u8], into: &mut Vec<u8>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain);
        into.extend_from_slice(plain);
        let zeros = after.iter().take(usize::from(u8::MAX)).take_while(|byte| **byte == 0).count();
        if let Ok(count @ 1..) = u8::try_from(zeros) {
            into.extend_from_slice(&[0, count]);
        }
        rest = after.split_at(zeros).1;
    }
}

/// Reverses [`pack`]. None if nothing packs to this, or only more than `limit` bytes.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(limit), packed);
    // Whether a run has just ended that was not as long as runs can be: no zero follows it.
    let mut is_short = false;
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain);
        bytes.extend_from_slice(plain);
        rest = match after {
            [] => after,
            [_, count, after @ ..] if *count > 0 && !(is_short && plain.is_empty()) => {
                bytes.resize(bytes.len() + usize::from(*count), 0);
                is_short = *count < u8::MAX;
                after
            }
            _ => return None,
        };
        if bytes.len() > limit {
            return None;
        }
    }
    Some(bytes)
}

/// The record of a body at a height: packed, with a checksum bound to the height.
pub(super) fn record(block: BlockNumber, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_ROW_BYTES);
    pack(body, &mut bytes);
    seal(block, bytes)
}

/// A decoded record.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Arrival number. Grows with every insert, also across restarts.
    pub(super) arrival: u64,
    pub(super) stored: StoredCommitment,
}

impl Row {
    /// The record: arrival, signer, commitment, and the parent where the commitment does not name it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let recovered = &self.stored.recovered;
        let mut body = Vec::with_capacity(MAX_ROW_BYTES);
        body.extend_from_slice(&self.arrival.to_be_bytes());
        body.extend_from_slice(recovered.signer().as_slice());
        body.extend_from_slice(&recovered.signed().to_ssz());
        if self.stored.parent != recovered.signed().preconf().parent_preconfirmation_hash {
            body.extend_from_slice(self.stored.parent.as_slice());
        }
        record(self.stored.block, &body)
    }

    /// The signer of a record, without decoding the rest.
    pub(super) fn signer(block: BlockNumber, bytes: &[u8]) -> Result<Address, StorageError> {
        const WHAT: StorageError = StorageError::Corrupt { what: "a commitment" };
        let body = checked(block, bytes).and_then(|packed| unpack(packed, MAX_ROW_BYTES)).ok_or(WHAT)?;
        Ok(Address::from_slice(body.get(8..28).ok_or(WHAT)?))
    }

    pub(super) fn decode(key: RowKey, bytes: &[u8], domain: &SigningDomain) -> Result<Self, StorageError> {
        const WHAT: StorageError = StorageError::Corrupt { what: "a commitment" };
        let (block, seq) = key;
        let body = checked(block, bytes).and_then(|packed| unpack(packed, MAX_ROW_BYTES)).ok_or(WHAT)?;
        let (arrival, body) = body.split_first_chunk::<8>().ok_or(WHAT)?;
        let (signer, body) = body.split_first_chunk::<20>().ok_or(WHAT)?;
        let (ssz, parent) = body.split_at_checked(SIGNED_COMMITMENT_BYTES).ok_or(WHAT)?;
        let arrival = u64::from_be_bytes(*arrival);
        if seq != CANONICAL && seq & !WITHDRAWN != arrival {
            return Err(WHAT);
        }
        let recovered =
            Recovered::from_trusted_store(ssz, Address::from(*signer), domain).map_err(|_| WHAT)?;
        let parent = match parent.len() {
            0 => recovered.signed().preconf().parent_preconfirmation_hash,
            32 => B256::from_slice(parent),
            _ => return Err(WHAT),
        };
        let stored = StoredCommitment { block, parent, recovered: Arc::new(recovered) };
        Ok(Self { arrival, stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_packed_comes_back_and_nothing_beyond_the_limit() {
        let mut rng = fastrand::Rng::with_seed(1);
        let some = std::iter::repeat_with(|| {
            let (len, zeros) = (rng.usize(0..700), rng.u8(0..=10));
            (0..len).map(|_| if rng.u8(0..10) < zeros { 0 } else { rng.u8(..) }).collect::<Vec<u8>>()
        });
        let edges = [vec![], vec![0], vec![0; 255], vec![0; 256], vec![0; 511], vec![7; 300], vec![0, 1, 0]];
        for bytes in edges.into_iter().chain(some.take(300)) {
            let mut packed = Vec::new();
            pack(&bytes, &mut packed);
            assert_eq!(unpack(&packed, bytes.len()), Some(bytes.clone()));
            if let Some(less) = bytes.len().checked_sub(1) {
                assert_eq!(unpack(&packed, less), None);
            }
        }
    }

    #[test]
    fn what_nothing_packs_to_is_not_unpacked() {
        for packed in [&[0][..], &[1, 0], &[0, 0], &[5, 0, 0, 5], &[0, 9, 0, 1], &[0, 255, 0, 9, 0, 1]] {
            assert_eq!(unpack(packed, 1_000), None, "{packed:?}");
        }
        assert_eq!(unpack(&[0, 255, 0, 1], 1_000), Some(vec![0; 256]));
    }

    #[test]
    fn a_record_is_bound_to_its_height_and_a_flipped_bit_is_seen() {
        let sealed = record(7, &[3; 40]);
        assert!(checked(7, &sealed).is_some() && checked(8, &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checked(7, &bad), None);
        }
        for short in 0..8 {
            assert_eq!(checked(7, &sealed[..short]), None);
        }
    }
}
