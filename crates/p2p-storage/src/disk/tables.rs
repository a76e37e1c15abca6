//! What the file holds, byte by byte.

use std::sync::Arc;

use p2p_types::{Address, B256, Base, BlockNumber, Head, Recovered, SigningDomain};
use p2p_validation::EvidenceRecord;
use preconfirmation_types::{Container, SIGNED_COMMITMENT_BYTES, Unrecovered, keccak256};
use redb::{ReadableTable, TableDefinition};

use super::fault::fault;
use crate::{StorageError, StoredCommitment, StoredEvidence, evidence::kind_of};

/// Where a commitment stands: its height, and [`CHAIN`] or its number of arrival.
pub(super) type Place = (BlockNumber, u64);
/// The second half of the place of the one block of a height that is in the chain. Arrivals begin at 1.
pub(super) const CHAIN: u64 = 0;

pub(super) type Commitments = TableDefinition<'static, Place, &'static [u8]>;
pub(super) type Places = TableDefinition<'static, &'static [u8; 32], Place>;
pub(super) type TxLists = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
pub(super) type TxListBlocks = TableDefinition<'static, &'static [u8; 32], (BlockNumber, u64)>;
/// Signer, height and label of the kind.
pub(super) type EvidencePlace<'a> = (&'a [u8; 20], BlockNumber, &'a str);
pub(super) type TxListOrder = TableDefinition<'static, (BlockNumber, &'static [u8; 32]), ()>;

/// Schema, domain and state.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// Everything linked: chain, history, handovers. Heights are the order, so that a range is read in one sweep.
pub(super) const COMMITMENTS: Commitments = TableDefinition::new("commitments");
/// Where a preconfirmation hash stands.
pub(super) const PLACES: Places = TableDefinition::new("places");
/// Heights that begin a chain: a block there has a parent that the chain does not have below it.
pub(super) const ROOTS: TableDefinition<'static, BlockNumber, ()> = TableDefinition::new("roots");
/// The bytes of the lists.
pub(super) const TXLISTS: TxLists = TableDefinition::new("txlists");
/// The newest block that names a list, and its length.
pub(super) const TXLIST_BLOCKS: TxListBlocks = TableDefinition::new("txlist_blocks");
/// The lists by that block: the order of eviction.
pub(super) const TXLIST_ORDER: TxListOrder = TableDefinition::new("txlist_order");
/// Evidence: both commitments and a checksum.
pub(super) const EVIDENCE: TableDefinition<'static, EvidencePlace<'static>, &'static [u8]> =
    TableDefinition::new("evidence");

pub(super) const SCHEMA_KEY: &str = "schema";
pub(super) const DOMAIN_KEY: &str = "domain";
const STATE_KEY: &str = "state";

/// Bytes of the checksum at the end of each record: enough against accidents, which is all that it is for.
const CHECKSUM_BYTES: usize = 8;
/// Height, arrival, signer, commitment, checksum.
const ROW_BYTES: usize = 8 + 8 + 20 + SIGNED_COMMITMENT_BYTES + CHECKSUM_BYTES;

/// A commitment as a record has it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Grows with every insert, so that the order of arrival outlives the process.
    pub(super) arrival: u64,
    pub(super) stored: StoredCommitment,
}

const fn corrupt(what: &'static str) -> StorageError {
    StorageError::Corrupt { what }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(keccak256(bytes).split_at(CHECKSUM_BYTES).0);
    sum
}

/// Splits the checksum off; none if it is not that of the rest.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    (checksum(body) == sum).then_some(body)
}

impl Row {
    /// The record: height, arrival, signer, commitment, the parent where the commitment does not name it, and
    /// the checksum of all that.
    pub(super) fn encode(&self) -> Vec<u8> {
        let recovered = &self.stored.recovered;
        let mut bytes = Vec::with_capacity(ROW_BYTES + 32);
        bytes.extend_from_slice(&self.stored.block.to_be_bytes());
        bytes.extend_from_slice(&self.arrival.to_be_bytes());
        bytes.extend_from_slice(recovered.signer().as_slice());
        bytes.extend_from_slice(&recovered.signed().to_ssz());
        if self.stored.parent != recovered.signed().preconf().parent_preconfirmation_hash {
            bytes.extend_from_slice(self.stored.parent.as_slice());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    pub(super) fn decode(
        block: BlockNumber,
        bytes: &[u8],
        domain: &SigningDomain,
    ) -> Result<Self, StorageError> {
        const WHAT: StorageError = corrupt("a commitment");
        let body = checked(bytes).ok_or(WHAT)?;
        let body = body.strip_prefix(&block.to_be_bytes()).ok_or(WHAT)?;
        let (arrival, body) = body.split_first_chunk::<8>().ok_or(WHAT)?;
        let (signer, body) = body.split_first_chunk::<20>().ok_or(WHAT)?;
        let (ssz, parent) = body.split_at_checked(SIGNED_COMMITMENT_BYTES).ok_or(WHAT)?;
        let recovered =
            Recovered::from_trusted_store(ssz, Address::from(*signer), domain).map_err(|_| WHAT)?;
        let parent = match parent.len() {
            0 => recovered.signed().preconf().parent_preconfirmation_hash,
            32 => B256::from_slice(parent),
            _ => return Err(WHAT),
        };
        let stored = StoredCommitment { block, parent, recovered: Arc::new(recovered) };
        Ok(Self { arrival: u64::from_be_bytes(*arrival), stored })
    }
}

/// What is not a record of its own: one small record, written with every change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) base: Option<Base>,
    /// The last block of the chain, above the base or not.
    pub(super) tip: Option<Head>,
    pub(super) commitments: usize,
    pub(super) txlists: usize,
    pub(super) txlist_bytes: usize,
    /// The number of the last arrival.
    pub(super) arrivals: u64,
}

impl State {
    /// The last block of the chain, if it stands above the base.
    pub(super) fn head(&self) -> Option<Head> {
        self.tip.filter(|tip| tip.number >= self.lowest())
    }

    /// The lowest height above the base.
    pub(super) fn lowest(&self) -> BlockNumber {
        self.base.map_or(0, |base| base.next())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let place = |bytes: &mut Vec<u8>, known: u8, number: u64, hash: B256| {
            bytes.push(known);
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(hash.as_slice());
        };
        match self.base {
            None => place(&mut bytes, 0, 0, B256::ZERO),
            Some(Base { number, hash: None }) => place(&mut bytes, 1, number, B256::ZERO),
            Some(Base { number, hash: Some(hash) }) => place(&mut bytes, 2, number, hash),
        }
        let tip = self.tip.unwrap_or(Head { number: 0, hash: B256::ZERO });
        place(&mut bytes, u8::from(self.tip.is_some()), tip.number, tip.hash);
        for count in [self.commitments, self.txlists, self.txlist_bytes] {
            bytes.extend_from_slice(&(count as u64).to_be_bytes());
        }
        bytes.extend_from_slice(&self.arrivals.to_be_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        fn place(bytes: &[u8]) -> Option<(u8, u64, B256, &[u8])> {
            let ([known], bytes) = bytes.split_first_chunk::<1>()?;
            let (number, bytes) = bytes.split_first_chunk::<8>()?;
            let (hash, bytes) = bytes.split_first_chunk::<32>()?;
            Some((*known, u64::from_be_bytes(*number), B256::from(*hash), bytes))
        }
        let (known, number, hash, bytes) = place(checked(bytes)?)?;
        let base = match known {
            0 => None,
            1 => Some(Base { number, hash: None }),
            2 => Some(Base { number, hash: Some(hash) }),
            _ => return None,
        };
        let (known, number, hash, bytes) = place(bytes)?;
        let tip = (known == 1).then_some(Head { number, hash });
        let (counts, rest) = bytes.as_chunks::<8>();
        let [commitments, txlists, txlist_bytes, arrivals] = counts else { return None };
        let count = |bytes: &[u8; 8]| usize::try_from(u64::from_be_bytes(*bytes)).ok();
        let (commitments, txlists, txlist_bytes) =
            (count(commitments)?, count(txlists)?, count(txlist_bytes)?);
        let arrivals = u64::from_be_bytes(*arrivals);
        rest.is_empty().then_some(Self { base, tip, commitments, txlists, txlist_bytes, arrivals })
    }

    pub(super) fn load(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, StorageError> {
        match meta.get(STATE_KEY).map_err(fault)? {
            None => Ok(Self::default()),
            Some(bytes) => Self::decode(bytes.value()).ok_or(corrupt("the state")),
        }
    }

    pub(super) fn save(
        &self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StorageError> {
        meta.insert(STATE_KEY, &*self.encode()).map(drop).map_err(fault)
    }
}

/// The commitment that stands at a place.
pub(super) fn row(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    place: Place,
    domain: &SigningDomain,
) -> Result<Option<Row>, StorageError> {
    match commitments.get(place).map_err(fault)? {
        None => Ok(None),
        Some(bytes) => Row::decode(place.0, bytes.value(), domain).map(Some),
    }
}

/// Where a hash stands, and what stands there.
pub(super) fn find(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    places: &impl ReadableTable<&'static [u8; 32], Place>,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(Place, Row)>, StorageError> {
    let Some(place) = places.get(&hash.0).map_err(fault)? else { return Ok(None) };
    let place = place.value();
    match row(commitments, place, domain)? {
        Some(row) if row.stored.hash() == *hash => Ok(Some((place, row))),
        _ => Err(corrupt("the index of commitments")),
    }
}

/// Whatever stands at a height, the chain or not, in order of arrival.
pub(super) fn rows_at(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    block: BlockNumber,
    domain: &SigningDomain,
) -> Result<Vec<(Place, Row)>, StorageError> {
    let mut rows = Vec::new();
    for entry in commitments.range((block, CHAIN)..=(block, u64::MAX)).map_err(fault)? {
        let (place, bytes) = entry.map_err(fault)?;
        rows.push((place.value(), Row::decode(block, bytes.value(), domain)?));
    }
    rows.sort_unstable_by_key(|(_, row)| row.arrival);
    Ok(rows)
}

/// What the checksum of a piece of evidence is of: its place, and the bytes of both commitments.
fn evidence_checksum((signer, block, label): EvidencePlace<'_>, commitments: &[u8]) -> [u8; CHECKSUM_BYTES] {
    checksum(&[&signer[..], &block.to_be_bytes(), label.as_bytes(), commitments].concat())
}

/// The record of a piece of evidence: both commitments and the checksum.
pub(super) fn encode_evidence(place: EvidencePlace<'_>, evidence: &StoredEvidence) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * SIGNED_COMMITMENT_BYTES + CHECKSUM_BYTES);
    bytes.extend_from_slice(&evidence.record.first.to_ssz());
    bytes.extend_from_slice(&evidence.record.second.to_ssz());
    let sum = evidence_checksum(place, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

pub(super) fn decode_evidence(
    place: EvidencePlace<'_>,
    bytes: &[u8],
) -> Result<StoredEvidence, StorageError> {
    const WHAT: StorageError = corrupt("evidence");
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(WHAT)?;
    let (first, second) = body.split_at_checked(SIGNED_COMMITMENT_BYTES).ok_or(WHAT)?;
    let decode = |ssz| Unrecovered::from_ssz(ssz).map(|found| found.signed().clone()).map_err(|_| WHAT);
    let (signer, block, label) = place;
    match kind_of(label) {
        Some(kind) if evidence_checksum(place, body) == *sum => {
            let record = EvidenceRecord { kind, first: decode(first)?, second: decode(second)? };
            Ok(StoredEvidence { signer: Address::from(*signer), block, record })
        }
        _ => Err(WHAT),
    }
}

/// Hashes a list that was read and compares.
pub(super) fn verify_txlist(hash: &B256, bytes: &[u8]) -> Result<(), StorageError> {
    if keccak256(bytes) == *hash { Ok(()) } else { Err(corrupt("a transaction list")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_as_it_was_written_and_a_flipped_bit_is_seen() {
        let hash = B256::repeat_byte(7);
        let state = State {
            base: Some(Base { number: 4, hash: Some(hash) }),
            tip: Some(Head { number: 9, hash }),
            commitments: 1,
            txlists: 2,
            txlist_bytes: 3,
            arrivals: 11,
        };
        for state in [State::default(), State { base: Some(Base::at(3)), ..State::default() }, state] {
            let bytes = state.encode();
            assert_eq!(State::decode(&bytes), Some(state));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(State::decode(&bad), None);
            }
        }
    }
}
