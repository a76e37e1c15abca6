//! Changes of the commitments inside one write transaction.

use hashbrown::{HashMap, HashSet};
use p2p_types::{B256, BlockNumber, SigningDomain};
use redb::{ReadableTable, ReadableTableMetadata as _, Table, WriteTransaction};

use super::{
    STEP,
    fault::fault,
    index::{Arrivals, entry, find, find_at, row},
    rows::Row,
    state::State,
    tables::{CANONICAL, COMMITMENTS, HEIGHTS, RowKey},
};
use crate::{
    Inserted, StorageError, StorageLimits, StoredCommitment,
    fork::{Choice, ForkChoice, Node, choose},
};

/// What is derived from the rows, as of the last transaction. Dropped if one fails, and then derived anew.
#[derive(Default)]
pub(super) struct Derived {
    /// None until there is a fork.
    pub(super) fork: Option<ForkChoice>,
    /// The index entries that several rows share, each with how many rows it has beyond the first. None: not known.
    shared: Option<HashMap<(u64, u64), usize>>,
}

/// An open write transaction. A method that fails with an error that does not poison it
/// ([`poisons`](super::fault::poisons)) has changed nothing that matters. Tables that few changes need are opened on
/// demand: each costs a microsecond or two.
pub(super) struct Writer<'t> {
    pub(super) transaction: &'t WriteTransaction,
    pub(super) commitments: Table<'t, RowKey, &'static [u8]>,
    heights: Table<'t, (u64, u64), ()>,
    pub(super) state: State,
    arrivals: &'t Arrivals,
    /// As of this transaction.
    pub(super) derived: &'t mut Derived,
    /// The state before the transaction.
    before: State,
    pub(super) limits: StorageLimits,
    pub(super) domain: SigningDomain,
    pub(super) changed: bool,
    /// Files that this transaction leaves unreferenced.
    pub(super) files: Vec<B256>,
}

impl<'t> Writer<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        state: State,
        arrivals: &'t Arrivals,
        derived: &'t mut Derived,
        limits: StorageLimits,
        domain: SigningDomain,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            transaction,
            commitments: transaction.open_table(COMMITMENTS).map_err(fault)?,
            heights: transaction.open_table(HEIGHTS).map_err(fault)?,
            state,
            arrivals,
            derived,
            before: state,
            limits,
            domain,
            changed: false,
            files: Vec::new(),
        })
    }

    /// Writes the state. None if there is nothing to commit, else the state and the files that become unreferenced.
    pub(super) fn finish(self) -> Result<Option<(State, Vec<B256>)>, StorageError> {
        if !self.changed {
            return Ok(None);
        }
        self.state.save(&self.before, self.transaction)?;
        Ok(Some((self.state, self.files)))
    }

    pub(super) fn row(&self, key: RowKey) -> Result<Option<Row>, StorageError> {
        row(&self.commitments, key, &self.domain)
    }

    pub(super) fn find(&self, hash: &B256) -> Result<Option<(RowKey, Row)>, StorageError> {
        find(&self.commitments, &self.heights, self.arrivals, hash, &self.domain)
    }

    /// The row with this hash at a known height.
    fn find_at(&self, block: BlockNumber, hash: &B256) -> Result<Option<(RowKey, Row)>, StorageError> {
        match self.heights.get(entry(hash, block)).map_err(fault)? {
            None => Ok(None),
            Some(_) => find_at(&self.commitments, self.arrivals, block, hash, &self.domain),
        }
    }

    fn write(&mut self, key: RowKey, row: &Row) -> Result<(), StorageError> {
        self.changed = true;
        if key.1 != CANONICAL {
            self.arrivals.insert(row.stored.hash(), row.arrival);
        }
        self.commitments.insert(key, &*row.encode()).map(drop).map_err(fault)
    }

    /// Moves a row to another key of its height.
    pub(super) fn shift(&mut self, from: RowKey, seq: u64, row: &Row) -> Result<(), StorageError> {
        self.commitments.remove(from).map_err(fault)?;
        self.write((from.0, seq), row)
    }

    /// Removes rows.
    pub(super) fn erase<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (RowKey, &'a StoredCommitment)>,
    ) -> Result<(), StorageError> {
        for (key @ (block, _), stored) in rows {
            self.changed = true;
            let hash = stored.hash();
            self.remove_entry(entry(&hash, block))?;
            self.arrivals.remove(&hash);
            self.commitments.remove(key).map_err(fault)?;
            self.state.commitments = self.state.commitments.saturating_sub(1);
        }
        Ok(())
    }

    /// How many more rows there are than index entries: as many as share one with another row.
    fn rows_that_share(&self) -> Result<u64, StorageError> {
        let rows = self.commitments.len().map_err(fault)?;
        Ok(rows.saturating_sub(self.heights.len().map_err(fault)?))
    }

    /// Removes the index entry of a row that is about to be removed, unless another row shares it.
    fn remove_entry(&mut self, index: (u64, u64)) -> Result<(), StorageError> {
        if self.rows_that_share()? > 0 {
            let mut shared = match self.derived.shared.take() {
                Some(known) => known,
                None => self.shared_entries()?,
            };
            let others = shared.get_mut(&index).map(|others| std::mem::replace(others, *others - 1));
            if others == Some(1) {
                shared.remove(&index);
            }
            self.derived.shared = Some(shared);
            if others.is_some() {
                return Ok(());
            }
        }
        self.heights.remove(index).map(drop).map_err(fault)
    }

    /// Reads all rows for the entries that several share. Prefixes of 50 bits rarely collide; whoever looks for
    /// such hashes makes a store read itself once.
    fn shared_entries(&self) -> Result<HashMap<(u64, u64), usize>, StorageError> {
        let (mut shared, mut here, mut height) = (HashMap::new(), HashSet::new(), 0);
        for found in self.commitments.iter().map_err(fault)? {
            let (key, bytes) = found.map_err(fault)?;
            let row = Row::decode(key.value(), bytes.value(), &self.domain)?;
            let index = entry(&row.stored.hash(), row.stored.block);
            if std::mem::replace(&mut height, row.stored.block) != height {
                here.clear();
            }
            if !here.insert(index) {
                *shared.entry(index).or_default() += 1;
            }
        }
        Ok(shared)
    }

    fn add(&mut self, seq: Option<u64>, new: &StoredCommitment) -> Result<(), StorageError> {
        let arrival = self.state.arrive();
        self.state.commitments = self.state.commitments.saturating_add(1);
        let (index, sharing) = (entry(&new.hash(), new.block), self.rows_that_share()?);
        if self.heights.insert(index, ()).map_err(fault)?.is_some() {
            if sharing == 0 {
                self.derived.shared = Some(HashMap::new());
            }
            if let Some(shared) = &mut self.derived.shared {
                *shared.entry(index).or_default() += 1;
            }
        }
        self.write((new.block, seq.unwrap_or(arrival)), &Row { arrival, stored: new.clone() })
    }

    /// As [`CommitmentStore::insert`](crate::CommitmentStore::insert).
    pub(super) fn insert(&mut self, new: &StoredCommitment) -> Result<Inserted, StorageError> {
        if self.state.base.is_none() {
            return Err(StorageError::NoBase);
        }
        let hash = new.hash();
        if self.find_at(new.block, &hash)?.is_some() {
            return Ok(Inserted::Known);
        }
        while let Some(full) = self.limits.commitments_full(self.state.commitments) {
            if self.prune_lowest(BlockNumber::MAX, STEP)? == 0 && !self.evict(&new.parent)? {
                return Err(full);
            }
        }
        if new.is_handover() {
            self.add(None, new)?;
            return Ok(Inserted::New);
        }
        let head = new.head();
        let mut fork = self.derived.fork.take();
        let choice = choose(&mut fork, self, Node::new(new, false));
        self.derived.fork = fork;
        let inserted = match choice? {
            Choice::NonCanonical => {
                self.add(None, new)?;
                Inserted::NonCanonical
            }
            Choice::Extend => {
                self.add(Some(CANONICAL), new)?;
                self.state.tip = Some(head);
                return Ok(Inserted::New);
            }
            Choice::Switch { from, adopted } => {
                let dropped = self.leave_chain(from)?;
                self.add(None, new)?;
                let adopted = self.enter_chain(&adopted)?;
                match dropped.first() {
                    Some(previous) => {
                        let dropped = dropped.iter().map(StoredCommitment::hash).collect();
                        Inserted::Superseded { previous: previous.hash(), dropped, adopted }
                    }
                    None => Inserted::Restored { adopted },
                }
            }
        };
        while self.derived.fork.as_ref().is_some_and(|fork| fork.len() > self.limits.non_canonical)
            && self.evict(&hash)?
        {}
        Ok(inserted)
    }

    /// Evicts a non-canonical block other than `keep`. Returns whether there was one.
    fn evict(&mut self, keep: &B256) -> Result<bool, StorageError> {
        let mut fork = match self.derived.fork.take() {
            Some(fork) => fork,
            None => ForkChoice::build(self)?,
        };
        let gone = fork.evict(keep);
        self.derived.fork = Some(fork);
        let Some((block, hash)) = gone else { return Ok(false) };
        if let Some((key, row)) = self.find_at(block, &hash)? {
            self.erase([(key, &row.stored)])?;
        }
        Ok(true)
    }

    /// One step of removing heights below `below`, lowest first. Returns how many commitments were removed; zero when
    /// there are no more.
    pub(super) fn prune(&mut self, below: BlockNumber) -> Result<usize, StorageError> {
        let mut pruned = 0;
        while pruned < STEP {
            match self.prune_lowest(below, STEP - pruned)? {
                0 => break,
                gone => pruned += gone,
            }
        }
        Ok(pruned)
    }

    /// Removes rows of the lowest height, at most `limit`, if that is settled and below `below`: the canonical one last. Returns
    /// how many were removed.
    pub(super) fn prune_lowest(&mut self, below: BlockNumber, limit: usize) -> Result<usize, StorageError> {
        let below = below.min(self.state.base.map_or(0, |base| base.number));
        let lowest = self.commitments.first().map_err(fault)?.map(|(key, _)| key.value().0);
        let Some(lowest) = lowest.filter(|lowest| *lowest < below) else { return Ok(0) };
        let mut gone = Vec::new();
        let rows = self.commitments.range((lowest, CANONICAL)..=(lowest, u64::MAX)).map_err(fault)?;
        for found in rows.rev().take(limit) {
            let (key, bytes) = found.map_err(fault)?;
            let key = key.value();
            gone.push((key, Row::decode(key, bytes.value(), &self.domain)?.stored));
        }
        self.erase(gone.iter().map(|(key, stored)| (*key, stored)))?;
        let is_tip = |key: RowKey| self.state.tip.is_some_and(|tip| key == (tip.number, CANONICAL));
        if gone.iter().any(|(key, _)| is_tip(*key)) {
            self.state.tip = None;
        }
        Ok(gone.len())
    }
}

#[cfg(all(test, feature = "test-utils"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::sync::Arc;

    use preconfirmation_types::PreconfCommitment;
    use redb::Database;

    use super::*;
    use crate::fixtures::{DOMAIN, block, key};

    fn stored(number: BlockNumber, salt: u8) -> StoredCommitment {
        let preconf = block(number, 1, B256::ZERO, salt);
        let signed = PreconfCommitment { preconf, ..Default::default() }.sign(&key(), &DOMAIN);
        StoredCommitment {
            block: number,
            parent: B256::ZERO,
            recovered: Arc::new(signed.recover(&DOMAIN).unwrap()),
        }
    }

    /// Hashes with one prefix are a matter of minutes for whoever looks for them; two rows of one hash share an entry as
    /// theirs would.
    #[test]
    fn an_index_entry_goes_with_the_last_row_that_shares_it() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let (arrivals, limits) = (Arrivals::new(8), StorageLimits::default());
        let (alike, other) = (stored(1, 1), stored(1, 2));
        for derived_anew in [false, true] {
            let transaction = database.begin_write().unwrap();
            let mut derived = Derived::default();
            let state = State::default();
            let mut writer =
                Writer::new(&transaction, state, &arrivals, &mut derived, limits, DOMAIN).unwrap();
            for stored in [&alike, &alike, &other, &alike] {
                writer.add(None, stored).unwrap();
            }
            assert_eq!(writer.rows_that_share(), Ok(2));
            for (gone, stored, left) in [(1, &alike, 2), (3, &other, 1), (2, &alike, 1), (4, &alike, 0)] {
                if derived_anew {
                    *writer.derived = Derived::default();
                }
                writer.erase([((1, gone), stored)]).unwrap();
                assert_eq!(writer.heights.len().unwrap(), left, "after {gone}, {derived_anew}");
            }
            assert_eq!(writer.commitments.len().unwrap(), 0);
        }
    }

    #[test]
    fn one_step_prunes_a_part_of_a_height_and_its_canonical_block_last() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let transaction = database.begin_write().unwrap();
        let (arrivals, mut derived) = (Arrivals::new(8), Derived::default());
        let limits = StorageLimits::default();
        let mut writer =
            Writer::new(&transaction, State::default(), &arrivals, &mut derived, limits, DOMAIN).unwrap();
        writer.state.base = Some(p2p_types::Base::at(2));
        let canonical = stored(1, 1);
        writer.add(Some(CANONICAL), &canonical).unwrap();
        writer.state.tip = Some(canonical.head());
        for salt in 2..=2 + u8::try_from(STEP).unwrap() {
            writer.add(None, &stored(1, salt)).unwrap();
        }
        assert_eq!(writer.prune(2), Ok(STEP));
        assert!(writer.row((1, CANONICAL)).unwrap().is_some() && writer.state.tip.is_some());
        assert_eq!((writer.prune(2), writer.prune(2)), (Ok(2), Ok(0)));
        assert_eq!((writer.heights.len().unwrap(), writer.state.tip), (0, None));
    }
}
