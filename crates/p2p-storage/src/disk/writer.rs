//! Changes of the commitments inside one write transaction.

use p2p_types::{B256, BlockNumber, SigningDomain};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    STEP,
    fault::fault,
    index::{entry, find, find_at, row, rows_at},
    rows::Row,
    state::State,
    tables::{CANONICAL, COMMITMENTS, HEIGHTS, RowKey},
};
use crate::{
    Inserted, StorageError, StorageLimits, StoredCommitment,
    fork::{Choice, ForkChoice, Node, choose},
};

/// An open write transaction. A method that fails with an error that does not poison it
/// ([`poisons`](super::fault::poisons)) has changed nothing that matters. Tables that few changes need are opened on
/// demand: each costs a microsecond or two.
pub(super) struct Writer<'t> {
    pub(super) transaction: &'t WriteTransaction,
    pub(super) commitments: Table<'t, RowKey, &'static [u8]>,
    heights: Table<'t, (u64, u64), ()>,
    pub(super) state: State,
    /// Fork choice as of this transaction. Dropped if the transaction fails.
    pub(super) fork: &'t mut Option<ForkChoice>,
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
        fork: &'t mut Option<ForkChoice>,
        limits: StorageLimits,
        domain: SigningDomain,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            transaction,
            commitments: transaction.open_table(COMMITMENTS).map_err(fault)?,
            heights: transaction.open_table(HEIGHTS).map_err(fault)?,
            state,
            fork,
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
        find(&self.commitments, &self.heights, hash, &self.domain)
    }

    /// The row with this hash at a known height.
    fn find_at(&self, block: BlockNumber, hash: &B256) -> Result<Option<(RowKey, Row)>, StorageError> {
        match self.heights.get(entry(hash, block)).map_err(fault)? {
            None => Ok(None),
            Some(_) => find_at(&self.commitments, block, hash, &self.domain),
        }
    }

    fn write(&mut self, key: RowKey, row: &Row) -> Result<(), StorageError> {
        self.changed = true;
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
            self.commitments.remove(key).map_err(fault)?;
            self.state.commitments = self.state.commitments.saturating_sub(1);
            let index = entry(&stored.hash(), block);
            // A hash with the same prefix shares the entry.
            let stay = rows_at(&self.commitments, block, &self.domain)?;
            if !stay.iter().any(|(_, row)| entry(&row.stored.hash(), block) == index) {
                self.heights.remove(index).map_err(fault)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, seq: Option<u64>, new: &StoredCommitment) -> Result<(), StorageError> {
        let arrival = self.state.arrive();
        self.state.commitments = self.state.commitments.saturating_add(1);
        self.heights.insert(entry(&new.hash(), new.block), ()).map_err(fault)?;
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
            if self.prune_lowest(BlockNumber::MAX)? == 0 && !self.evict(&new.parent)? {
                return Err(full);
            }
        }
        if new.is_handover() {
            self.add(None, new)?;
            return Ok(Inserted::New);
        }
        let head = new.head();
        let mut fork = self.fork.take();
        let choice = choose(&mut fork, self, Node::new(new, false));
        *self.fork = fork;
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
        while self.fork.as_ref().is_some_and(|fork| fork.len() > self.limits.non_canonical)
            && self.evict(&hash)?
        {}
        Ok(inserted)
    }

    /// Evicts a non-canonical block other than `keep`. Returns whether there was one.
    fn evict(&mut self, keep: &B256) -> Result<bool, StorageError> {
        let mut fork = match self.fork.take() {
            Some(fork) => fork,
            None => ForkChoice::build(self)?,
        };
        let gone = fork.evict(keep);
        *self.fork = Some(fork);
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
            match self.prune_lowest(below)? {
                0 => break,
                gone => pruned += gone,
            }
        }
        Ok(pruned)
    }

    /// Removes the lowest height if it is settled and below `below`. Returns how many commitments were removed.
    pub(super) fn prune_lowest(&mut self, below: BlockNumber) -> Result<usize, StorageError> {
        let below = below.min(self.state.base.map_or(0, |base| base.number));
        let lowest = self.commitments.first().map_err(fault)?.map(|(key, _)| key.value().0);
        let Some(lowest) = lowest.filter(|lowest| *lowest < below) else { return Ok(0) };
        let gone = rows_at(&self.commitments, lowest, &self.domain)?;
        self.erase(gone.iter().map(|(key, row)| (*key, &row.stored)))?;
        if self.state.tip.is_some_and(|tip| tip.number == lowest) {
            self.state.tip = None;
        }
        Ok(gone.len())
    }
}
