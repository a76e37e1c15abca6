//! The tables of the database.

use p2p_types::{B256, BlockNumber, SigningDomain};
use preconfirmation_types::keccak256;
use redb::{ReadableTable, TableDefinition};

use super::{fault::fault, rows::Row};
use crate::StorageError;

/// Where a commitment stands: its height, and [`CHAIN`] or its number of arrival, which may have the mark
/// [`WITHDRAWN`].
pub(super) type Place = (BlockNumber, u64);
/// The second half of the place of the one block of a height that is in the chain. Arrivals begin at 1.
pub(super) const CHAIN: u64 = 0;
/// L1 has replaced the anchor of the block.
pub(super) const WITHDRAWN: u64 = 1 << 63;

pub(super) type Commitments = TableDefinition<'static, Place, &'static [u8]>;
pub(super) type Heights = TableDefinition<'static, (u64, u64), ()>;
pub(super) type TxLists = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
pub(super) type TxListBlocks = TableDefinition<'static, &'static [u8; 32], (BlockNumber, u64)>;
pub(super) type TxListOrder = TableDefinition<'static, (BlockNumber, &'static [u8; 32]), ()>;
/// End of the window, signer, height and preconfirmation hash.
pub(super) type PromisePlace<'a> = (u64, &'a [u8; 20], BlockNumber, &'a [u8; 32]);
/// Signer, height and label of the kind.
pub(super) type EvidencePlace<'a> = (&'a [u8; 20], BlockNumber, &'a str);

/// Schema, domain and state.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// Everything linked: the chain, what is beside it, handovers. Heights are the order, so that a range is read in one sweep.
pub(super) const COMMITMENTS: Commitments = TableDefinition::new("linked");
/// At which height to look for a preconfirmation hash: [`entry`] says how. Hashes come in no order, so each insert
/// changes a page of its own here. There are fewer pages the less an entry has, and those of one [`AGE`] lie together:
/// what is inserted or pruned at a time changes few of them.
pub(super) const HEIGHTS: Heights = TableDefinition::new("heights");
/// The bytes of the lists.
pub(super) const TXLISTS: TxLists = TableDefinition::new("txlists");
/// The newest block that names a list, and its length.
pub(super) const TXLIST_BLOCKS: TxListBlocks = TableDefinition::new("txlist_blocks");
/// The lists by that block: the order of eviction.
pub(super) const TXLIST_ORDER: TxListOrder = TableDefinition::new("txlist_order");
/// Evidence: both commitments and a checksum.
pub(super) const EVIDENCE: TableDefinition<'static, EvidencePlace<'static>, &'static [u8]> =
    TableDefinition::new("evidence");

/// What the application's own signers have promised.
pub(super) const PROMISES: TableDefinition<'static, PromisePlace<'static>, &'static [u8]> =
    TableDefinition::new("promises");

pub(super) const SCHEMA_KEY: &str = "schema";
pub(super) const DOMAIN_KEY: &str = "domain";

/// Heights whose hashes are in order among themselves. A hash is looked for in each age, the newest first.
const AGE: u64 = 16_384;

/// The entry of a hash among the heights: the age of its height, and as much of the hash as leaves room for the height
/// within the age. Another hash of the same age may begin alike, so what stands at the height decides.
pub(super) const fn entry(hash: &B256, block: BlockNumber) -> (u64, u64) {
    (block / AGE, beginning(hash) | (block % AGE))
}

const fn beginning(hash: &B256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) & !(AGE - 1)
}

/// The commitment that stands at a place.
pub(super) fn row(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    place: Place,
    domain: &SigningDomain,
) -> Result<Option<Row>, StorageError> {
    match commitments.get(place).map_err(fault)? {
        None => Ok(None),
        Some(bytes) => Row::decode(place, bytes.value(), domain).map(Some),
    }
}

/// Where a hash stands, and what stands there.
pub(super) fn find(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    heights: &impl ReadableTable<(u64, u64), ()>,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(Place, Row)>, StorageError> {
    let mut next = heights.last().map_err(fault)?.map(|(newest, _)| newest.value().0);
    while let Some(age) = next {
        let (first, last) = ((age, beginning(hash)), (age, beginning(hash) | (AGE - 1)));
        let mut older = None;
        for found in heights.range(..=last).map_err(fault)?.rev() {
            let found = found.map_err(fault)?.0.value();
            if found < first {
                // Of the same age, or the newest of those below.
                older = Some(found.0.min(age.saturating_sub(1))).filter(|_| age > 0);
                break;
            }
            let block = age.saturating_mul(AGE).saturating_add(found.1 % AGE);
            if let Some(found) = find_at(commitments, block, hash, domain)? {
                return Ok(Some(found));
            }
        }
        next = older;
    }
    Ok(None)
}

/// What has this hash at a height at which the index says that one like it is.
pub(super) fn find_at(
    commitments: &impl ReadableTable<Place, &'static [u8]>,
    block: BlockNumber,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(Place, Row)>, StorageError> {
    let mut stands = false;
    for (place, row) in rows_at(commitments, block, domain)? {
        let theirs = row.stored.hash();
        if theirs == *hash {
            return Ok(Some((place, row)));
        }
        stands |= beginning(&theirs) == beginning(hash);
    }
    // Another one may begin alike. That none does cannot be.
    if stands { Ok(None) } else { Err(StorageError::Corrupt { what: "the index of commitments" }) }
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
        let place = place.value();
        rows.push((place, Row::decode(place, bytes.value(), domain)?));
    }
    rows.sort_unstable_by_key(|(_, row)| row.arrival);
    Ok(rows)
}

/// Hashes a list that was read and compares.
pub(super) fn verify_txlist(hash: &B256, bytes: &[u8]) -> Result<(), StorageError> {
    if keccak256(bytes) == *hash { Ok(()) } else { Err(StorageError::Corrupt { what: "a transaction list" }) }
}

#[cfg(all(test, feature = "test-utils"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::sync::Arc;

    use preconfirmation_types::PreconfCommitment;
    use redb::{Database, ReadableDatabase as _};

    use super::*;
    use crate::{
        StoredCommitment,
        fixtures::{DOMAIN, block, key},
    };

    fn row_of(number: BlockNumber, arrival: u64) -> Row {
        let salt = u8::try_from(arrival).unwrap();
        let preconf = block(number, 1, B256::ZERO, salt);
        let signed = PreconfCommitment { preconf, ..Default::default() }.sign(&key(), &DOMAIN);
        let recovered = Arc::new(signed.recover(&DOMAIN).unwrap());
        Row { arrival, stored: StoredCommitment { block: number, parent: B256::ZERO, recovered } }
    }

    #[test]
    fn a_hash_is_found_in_whatever_age_it_is_and_an_entry_that_leads_nowhere_is_an_error() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let transaction = database.begin_write().unwrap();
        // Neighbours, ages with a gap between them, both ends of the numbers.
        let all = [0, 1, AGE - 1, AGE, 3 * AGE + 5, 1_000 * AGE, u64::MAX];
        let rows: Vec<_> =
            all.iter().flat_map(|number| [*number; 3]).zip(1..).map(|(n, at)| row_of(n, at)).collect();
        let strange = B256::repeat_byte(0xab);
        {
            let mut commitments = transaction.open_table(COMMITMENTS).unwrap();
            let mut heights = transaction.open_table(HEIGHTS).unwrap();
            for row in &rows {
                let block = row.stored.block;
                commitments.insert((block, row.arrival), &*row.encode()).unwrap();
                heights.insert(entry(&row.stored.hash(), block), ()).unwrap();
            }
            heights.insert(entry(&strange, AGE), ()).unwrap();
        }
        transaction.commit().unwrap();
        let read = database.begin_read().unwrap();
        let commitments = read.open_table(COMMITMENTS).unwrap();
        let heights = read.open_table(HEIGHTS).unwrap();
        let find = |hash: &B256| find(&commitments, &heights, hash, &DOMAIN);
        for row in &rows {
            let (place, found) = find(&row.stored.hash()).unwrap().unwrap();
            assert_eq!((place, found.stored), ((row.stored.block, row.arrival), row.stored.clone()));
            let mut other = row.stored.hash();
            other.0[0] ^= 1;
            assert!(find(&other).unwrap().is_none());
            // One that begins like it leads to the same height, where it is not.
            let mut alike = row.stored.hash();
            alike.0[31] ^= 1;
            assert!(find(&alike).unwrap().is_none());
        }
        assert!(matches!(find(&strange), Err(StorageError::Corrupt { .. })));
    }
}
