//! The secondary index of commitments: finds a row by its preconfirmation hash.
//!
//! Hashes are random, so an index sorted by hash alone would dirty a page of its own with each insert. This one is
//! sorted by epoch of heights first, so inserts and pruning touch few pages; a lookup asks each epoch, newest first.
//!
//! It leads to a height. Which of the rows there has the hash, [`Arrivals`] says.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, SigningDomain};
use redb::ReadableTable;

use super::{
    fault::fault,
    rows::Row,
    tables::{CANONICAL, RowKey, WITHDRAWN},
};
use crate::StorageError;

/// Heights in an index epoch. Hashes are sorted within an epoch only.
const EPOCH: u64 = 16_384;

/// The index entry of a hash: the epoch of its height, then a prefix of the hash in the high bits and the height within
/// the epoch in the low bits. Prefixes can collide, so a lookup compares with the rows at that height.
pub(super) const fn entry(hash: &B256, block: BlockNumber) -> (u64, u64) {
    (block / EPOCH, prefix(hash) | (block % EPOCH))
}

const fn prefix(hash: &B256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) & !(EPOCH - 1)
}

/// The arrival numbers of rows that were not canonical when they were written or read last, by hash: a preconfer may sign as
/// many siblings of a height as it likes, and none of them may make the others slow to find.
///
/// A cache in memory. Each lookup compares what it finds with the hash, so an entry that is missing or wrong costs a scan of
/// one height, which restores the entries of all its rows.
#[derive(Debug)]
pub(super) struct Arrivals {
    known: Mutex<HashMap<B256, u64>>,
    limit: usize,
}

impl Arrivals {
    /// Remembers at most `limit`, the commitments that there may be.
    pub(super) fn new(limit: usize) -> Self {
        Self { known: Mutex::default(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<B256, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, hash: &B256) -> Option<u64> {
        self.lock().get(hash).copied()
    }

    pub(super) fn insert(&self, hash: B256, arrival: u64) {
        let mut known = self.lock();
        if known.len() >= self.limit && !known.contains_key(&hash) {
            known.clear();
        }
        known.insert(hash, arrival);
    }

    pub(super) fn remove(&self, hash: &B256) {
        self.lock().remove(hash);
    }
}

/// The row at a key.
pub(super) fn row(
    commitments: &impl ReadableTable<RowKey, &'static [u8]>,
    key: RowKey,
    domain: &SigningDomain,
) -> Result<Option<Row>, StorageError> {
    match commitments.get(key).map_err(fault)? {
        None => Ok(None),
        Some(bytes) => Row::decode(key, bytes.value(), domain).map(Some),
    }
}

/// The row with this preconfirmation hash, and its key.
pub(super) fn find(
    commitments: &impl ReadableTable<RowKey, &'static [u8]>,
    heights: &impl ReadableTable<(u64, u64), ()>,
    arrivals: &Arrivals,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(RowKey, Row)>, StorageError> {
    let mut next = heights.last().map_err(fault)?.map(|(newest, _)| newest.value().0);
    while let Some(epoch) = next {
        let (first, last) = ((epoch, prefix(hash)), (epoch, prefix(hash) | (EPOCH - 1)));
        let mut older = None;
        for found in heights.range(..=last).map_err(fault)?.rev() {
            let found = found.map_err(fault)?.0.value();
            if found < first {
                // The next older epoch that has entries.
                older = Some(found.0.min(epoch.saturating_sub(1))).filter(|_| epoch > 0);
                break;
            }
            let block = epoch.saturating_mul(EPOCH).saturating_add(found.1 % EPOCH);
            if let Some(found) = find_at(commitments, arrivals, block, hash, domain)? {
                return Ok(Some(found));
            }
        }
        next = older;
    }
    Ok(None)
}

/// The row with this hash at a height that the index has an entry for.
pub(super) fn find_at(
    commitments: &impl ReadableTable<RowKey, &'static [u8]>,
    arrivals: &Arrivals,
    block: BlockNumber,
    hash: &B256,
    domain: &SigningDomain,
) -> Result<Option<(RowKey, Row)>, StorageError> {
    let beside = arrivals.get(hash).into_iter().flat_map(|arrival| [arrival, arrival | WITHDRAWN]);
    for key in beside.chain([CANONICAL]).map(|seq| (block, seq)) {
        if let Some(row) = row(commitments, key, domain)?.filter(|row| row.stored.hash() == *hash) {
            return Ok(Some((key, row)));
        }
    }
    let (mut found, mut stands) = (None, false);
    for (key, row) in rows_at(commitments, block, domain)? {
        let theirs = row.stored.hash();
        if key.1 != CANONICAL {
            arrivals.insert(theirs, row.arrival);
        }
        stands |= prefix(&theirs) == prefix(hash);
        if theirs == *hash {
            found = Some((key, row));
        }
    }
    // Another hash with the same prefix explains the entry; an entry without one is damage.
    if stands { Ok(found) } else { Err(StorageError::Corrupt { what: "the index of commitments" }) }
}

/// All rows at a height, canonical or not, in order of arrival.
pub(super) fn rows_at(
    commitments: &impl ReadableTable<RowKey, &'static [u8]>,
    block: BlockNumber,
    domain: &SigningDomain,
) -> Result<Vec<(RowKey, Row)>, StorageError> {
    let mut rows = Vec::new();
    for entry in commitments.range((block, CANONICAL)..=(block, u64::MAX)).map_err(fault)? {
        let (key, bytes) = entry.map_err(fault)?;
        let key = key.value();
        rows.push((key, Row::decode(key, bytes.value(), domain)?));
    }
    rows.sort_unstable_by_key(|(_, row)| row.arrival);
    Ok(rows)
}

#[cfg(all(test, feature = "test-utils"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::sync::Arc;

    use preconfirmation_types::PreconfCommitment;
    use redb::{Database, ReadableDatabase as _};

    use super::{
        super::tables::{COMMITMENTS, HEIGHTS},
        *,
    };
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
    fn a_hash_is_found_in_any_epoch_and_a_dangling_entry_is_an_error() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let transaction = database.begin_write().unwrap();
        // Neighbours, epochs with a gap between them, both ends of the range.
        let all = [0, 1, EPOCH - 1, EPOCH, 3 * EPOCH + 5, 1_000 * EPOCH, u64::MAX];
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
            heights.insert(entry(&strange, EPOCH), ()).unwrap();
        }
        transaction.commit().unwrap();
        let read = database.begin_read().unwrap();
        let commitments = read.open_table(COMMITMENTS).unwrap();
        let heights = read.open_table(HEIGHTS).unwrap();
        let arrivals = Arrivals::new(2);
        let find = |hash: &B256| find(&commitments, &heights, &arrivals, hash, &DOMAIN);
        // Once by a scan and once without; and with an entry of another row.
        let again = rows.iter().flat_map(|row| [(row, None), (row, None), (row, Some(row.arrival + 1))]);
        for (row, wrong) in again {
            wrong.into_iter().for_each(|arrival| arrivals.insert(row.stored.hash(), arrival));
            let (key, found) = find(&row.stored.hash()).unwrap().unwrap();
            assert_eq!((key, found.stored), ((row.stored.block, row.arrival), row.stored.clone()));
            let mut other = row.stored.hash();
            other.0[0] ^= 1;
            assert!(find(&other).unwrap().is_none());
            // A hash with the same prefix leads to the same height, where it is not.
            let mut alike = row.stored.hash();
            alike.0[31] ^= 1;
            assert!(find(&alike).unwrap().is_none());
        }
        assert!(matches!(find(&strange), Err(StorageError::Corrupt { .. })));
    }
}
