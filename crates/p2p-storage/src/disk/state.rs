//! The state of the store beside its rows: base, tip, counts, arrival numbers.

use p2p_types::{B256, Base, BlockNumber, Head, SigningDomain};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{
    fault::fault,
    rows::{Row, checked, seal},
    tables::{CANONICAL, COMMITMENTS, META, RowKey, TXLIST_BLOCKS},
};
use crate::{StorageError, StorageStats};

const STATE_KEY: &str = "state";

/// Arrival numbers reserved at a time. Those left over at the end of a process are never used.
const RESERVE: u64 = 1 << 20;

/// Loaded when the database is opened and kept in memory. Tip and counts are derived from the tables, so an insert does
/// not write them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) base: Option<Base>,
    /// The last block of the chain, above the base or not.
    pub(super) tip: Option<Head>,
    pub(super) commitments: usize,
    pub(super) txlists: usize,
    pub(super) txlist_bytes: usize,
    /// The last arrival number.
    arrivals: u64,
    /// Arrival numbers up to this one are recorded as used.
    reserved: u64,
}

const fn corrupt() -> StorageError {
    StorageError::Corrupt { what: "the state" }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl State {
    /// The last block of the chain, if it stands above the base.
    pub(super) fn head(&self) -> Option<Head> {
        self.tip.filter(|tip| tip.number >= self.lowest())
    }

    /// How much is stored, evidence aside.
    pub(super) fn stats(&self) -> StorageStats {
        let Self { commitments, txlists, txlist_bytes, .. } = *self;
        StorageStats { commitments, txlists, txlist_bytes, evidence: 0 }
    }

    /// The lowest height above the base.
    pub(super) fn lowest(&self) -> BlockNumber {
        self.base.map_or(0, |base| base.next())
    }

    /// The next arrival number.
    pub(super) const fn arrive(&mut self) -> u64 {
        self.arrivals = self.arrivals.saturating_add(1);
        if self.arrivals > self.reserved {
            self.reserved = self.arrivals.saturating_add(RESERVE);
        }
        self.arrivals
    }

    /// The part that is written.
    const fn record(&self) -> (Option<Base>, usize, u64) {
        (self.base, self.txlist_bytes, self.reserved)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (known, base) = match self.base {
            None => (0, Base::at(0)),
            Some(base @ Base { hash: None, .. }) => (1, base),
            Some(base) => (2, base),
        };
        let mut bytes = vec![known];
        bytes.extend_from_slice(&base.number.to_be_bytes());
        bytes.extend_from_slice(base.hash.unwrap_or(B256::ZERO).as_slice());
        bytes.extend_from_slice(&(self.txlist_bytes as u64).to_be_bytes());
        bytes.extend_from_slice(&self.reserved.to_be_bytes());
        seal(0, bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let ([known], bytes) = checked(0, bytes)?.split_first_chunk::<1>()?;
        let (number, bytes) = bytes.split_first_chunk::<8>()?;
        let (hash, bytes) = bytes.split_first_chunk::<32>()?;
        let number = u64::from_be_bytes(*number);
        let base = match known {
            0 => None,
            1 => Some(Base { number, hash: None }),
            2 => Some(Base { number, hash: Some(B256::from(*hash)) }),
            _ => return None,
        };
        let ([txlist_bytes, reserved], []) = bytes.as_chunks::<8>() else { return None };
        let txlist_bytes = usize::try_from(u64::from_be_bytes(*txlist_bytes)).ok()?;
        let reserved = u64::from_be_bytes(*reserved);
        Some(Self { base, txlist_bytes, arrivals: reserved, reserved, ..Self::default() })
    }

    /// Loads the state of a database.
    pub(super) fn load(file: &ReadTransaction, domain: &SigningDomain) -> Result<Self, StorageError> {
        let meta = file.open_table(META).map_err(fault)?;
        let kept = match meta.get(STATE_KEY).map_err(fault)? {
            None => Self::default(),
            Some(bytes) => Self::decode(bytes.value()).ok_or(corrupt())?,
        };
        let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
        let lists = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
        Ok(Self {
            tip: last_of_chain(&commitments, domain)?,
            commitments: count(commitments.len().map_err(fault)?),
            txlists: count(lists.len().map_err(fault)?),
            ..kept
        })
    }

    /// Writes the recorded part if it differs from `before`.
    pub(super) fn save(&self, before: &Self, transaction: &WriteTransaction) -> Result<(), StorageError> {
        if self.record() == before.record() {
            return Ok(());
        }
        let mut meta = transaction.open_table(META).map_err(fault)?;
        meta.insert(STATE_KEY, &*self.encode()).map(drop).map_err(fault)
    }
}

/// The last block of the chain.
pub(super) fn last_of_chain(
    commitments: &impl ReadableTable<RowKey, &'static [u8]>,
    domain: &SigningDomain,
) -> Result<Option<Head>, StorageError> {
    for entry in commitments.iter().map_err(fault)?.rev() {
        let (key, bytes) = entry.map_err(fault)?;
        if let key @ (_, CANONICAL) = key.value() {
            return Ok(Some(Row::decode(key, bytes.value(), domain)?.stored.head()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_read_as_it_was_written_and_a_flipped_bit_is_seen() {
        let base = Some(Base { number: 4, hash: Some(B256::repeat_byte(7)) });
        let full = State { base, txlist_bytes: 3, arrivals: 11, reserved: 11, ..State::default() };
        for state in [State::default(), State { base: Some(Base::at(3)), ..State::default() }, full] {
            let bytes = state.encode();
            assert_eq!(State::decode(&bytes), Some(state));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(State::decode(&bad), None);
            }
        }
    }

    #[test]
    fn no_number_of_arrival_is_given_twice_however_often_the_record_is_read_again() {
        let (mut state, mut last) = (State::default(), 0);
        for _ in 0..3 {
            let mut written = state;
            for _ in 0..10 {
                let next = state.arrive();
                assert!(next > last);
                last = next;
                if state.record() != written.record() {
                    written = state;
                }
            }
            state = State::decode(&written.encode()).unwrap();
        }
        assert_eq!(state.reserved, 3 * (1 + RESERVE));
    }
}
