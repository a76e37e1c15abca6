//! The tables of the database.

use p2p_types::{B256, BlockNumber, SigningDomain};
use preconfirmation_types::keccak256;
use redb::{ReadableTable, TableDefinition};

use super::{fault::fault, rows::Row};
use crate::StorageError;

/// Where a commitment stands: its height, and [`CHAIN`] or its number of arrival.
pub(super) type Place = (BlockNumber, u64);
/// The second half of the place of the one block of a height that is in the chain. Arrivals begin at 1.
pub(super) const CHAIN: u64 = 0;

pub(super) type Commitments = TableDefinition<'static, Place, &'static [u8]>;
pub(super) type Heights = TableDefinition<'static, (u64, BlockNumber), ()>;
pub(super) type TxLists = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
pub(super) type TxListBlocks = TableDefinition<'static, &'static [u8; 32], (BlockNumber, u64)>;
pub(super) type TxListOrder = TableDefinition<'static, (BlockNumber, &'static [u8; 32]), ()>;
/// Signer, height and label of the kind.
pub(super) type EvidencePlace<'a> = (&'a [u8; 20], BlockNumber, &'a str);

/// Schema, domain and state.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// Everything linked: chain, history, handovers. Heights are the order, so that a range is read in one sweep.
pub(super) const COMMITMENTS: Commitments = TableDefinition::new("linked");
/// At which heights to look for a preconfirmation hash that begins like this. Hashes come in no order, so each
/// insert changes a page of its own here: the less an entry has, the fewer pages there are.
pub(super) const HEIGHTS: Heights = TableDefinition::new("heights");
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

/// The entry of a hash among the heights.
pub(super) const fn entry(hash: &B256, block: BlockNumber) -> (u64, BlockNumber) {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), block)
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
    heights: &impl ReadableTable<(u64, BlockNumber), ()>,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(Place, Row)>, StorageError> {
    for found in heights.range(entry(hash, 0)..=entry(hash, BlockNumber::MAX)).map_err(fault)? {
        let (_, block) = found.map_err(fault)?.0.value();
        let mut stands = false;
        for (place, row) in rows_at(commitments, block, domain)? {
            let theirs = row.stored.hash();
            if theirs == *hash {
                return Ok(Some((place, row)));
            }
            stands |= entry(&theirs, block) == entry(hash, block);
        }
        // Another one may begin alike. That none does cannot be.
        if !stands {
            return Err(StorageError::Corrupt { what: "the index of commitments" });
        }
    }
    Ok(None)
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
