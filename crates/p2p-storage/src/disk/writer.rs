//! Changes, inside one write transaction.

use p2p_types::{B256, Base, BlockNumber, SigningDomain};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    STEP,
    fault::{fault, spoils},
    rows::Row,
    state::{State, last_of_chain},
    tables::{CHAIN, COMMITMENTS, HEIGHTS, Place, ROOTS, entry, find, find_at, row, rows_at},
};
use crate::{
    Inserted, StorageError, StorageLimits, StoredCommitment,
    fork::{Branches, Choice, choose, returns},
};

/// A write transaction in work. A call that fails with an error that does not spoil
/// ([`spoils`](super::fault::spoils)) has changed nothing that matters. Tables that few changes need are opened by
/// those: each costs a microsecond or two.
pub(super) struct Writer<'t> {
    pub(super) transaction: &'t WriteTransaction,
    commitments: Table<'t, Place, &'static [u8]>,
    heights: Table<'t, (u64, u64), ()>,
    pub(super) state: State,
    /// As it was before.
    before: State,
    pub(super) limits: StorageLimits,
    domain: SigningDomain,
    pub(super) changed: bool,
    /// What has been evicted so far.
    pub(super) evicted: usize,
    /// Lists in files that have lost their names.
    pub(super) files: Vec<B256>,
}

/// How far a step of the work has come.
pub(super) enum Progress<T> {
    Done(T),
    /// It has removed as much as one step may.
    More,
}

impl Branches for Writer<'_> {
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        match self.state.tip {
            None => Ok(None),
            Some(tip) if tip.number < block => Ok(None),
            Some(tip) if tip.number == block => Ok(Some(tip.hash)),
            Some(_) => Ok(self.row((block, CHAIN))?.map(|row| row.stored.hash())),
        }
    }

    fn block(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        Ok(self.find(hash)?.map(|(_, row)| row.stored))
    }

    fn head(&self) -> Option<BlockNumber> {
        self.state.head().map(|head| head.number)
    }

    fn lowest(&self) -> BlockNumber {
        self.state.lowest()
    }
}

impl<'t> Writer<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        state: State,
        limits: StorageLimits,
        domain: SigningDomain,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            transaction,
            commitments: transaction.open_table(COMMITMENTS).map_err(fault)?,
            heights: transaction.open_table(HEIGHTS).map_err(fault)?,
            state,
            before: state,
            limits,
            domain,
            changed: false,
            evicted: 0,
            files: Vec::new(),
        })
    }

    /// Writes down the state. None if there is nothing to commit, else the state and the lists whose files have lost
    /// their names.
    pub(super) fn finish(self) -> Result<Option<(State, Vec<B256>)>, StorageError> {
        if !self.changed {
            return Ok(None);
        }
        self.state.save(&self.before, self.transaction)?;
        Ok(Some((self.state, self.files)))
    }

    fn row(&self, place: Place) -> Result<Option<Row>, StorageError> {
        row(&self.commitments, place, &self.domain)
    }

    fn find(&self, hash: &B256) -> Result<Option<(Place, Row)>, StorageError> {
        find(&self.commitments, &self.heights, hash, &self.domain)
    }

    /// What has this hash at the one height that it can have.
    fn find_at(&self, block: BlockNumber, hash: &B256) -> Result<Option<(Place, Row)>, StorageError> {
        match self.heights.get(entry(hash, block)).map_err(fault)? {
            None => Ok(None),
            Some(_) => find_at(&self.commitments, block, hash, &self.domain),
        }
    }

    fn write(&mut self, place: Place, row: &Row) -> Result<(), StorageError> {
        self.changed = true;
        self.commitments.insert(place, &*row.encode()).map(drop).map_err(fault)
    }

    /// Takes a row from one place to another of its height.
    fn shift(&mut self, from: Place, slot: u64, row: &Row) -> Result<(), StorageError> {
        self.commitments.remove(from).map_err(fault)?;
        self.write((from.0, slot), row)
    }

    /// Removes rows: all of each height, so that no entry of the index leads to one that stays.
    fn erase<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (Place, &'a StoredCommitment)>,
    ) -> Result<(), StorageError> {
        let mut roots = self.transaction.open_table(ROOTS).map_err(fault)?;
        for (place, stored) in rows {
            self.changed = true;
            self.commitments.remove(place).map_err(fault)?;
            self.heights.remove(entry(&stored.hash(), place.0)).map_err(fault)?;
            roots.remove(place.0).map_err(fault)?;
            self.state.commitments = self.state.commitments.saturating_sub(1);
        }
        Ok(())
    }

    fn add(&mut self, slot: Option<u64>, new: &StoredCommitment) -> Result<(), StorageError> {
        let arrival = self.state.arrive();
        self.state.commitments = self.state.commitments.saturating_add(1);
        self.heights.insert(entry(&new.hash(), new.block), ()).map_err(fault)?;
        self.write((new.block, slot.unwrap_or(arrival)), &Row { arrival, stored: new.clone() })
    }

    /// Writes one after the other, as far as one step comes; at least one is answered unless more must be evicted
    /// first.
    pub(super) fn each<N, A>(
        &mut self,
        new: &[N],
        write: impl Fn(&mut Self, &N) -> Result<Progress<A>, StorageError>,
    ) -> Result<Vec<Result<A, StorageError>>, StorageError> {
        let mut answers = Vec::with_capacity(new.len());
        for new in new {
            match write(self, new) {
                Ok(Progress::Done(answer)) => answers.push(Ok(answer)),
                Ok(Progress::More) => break,
                Err(error) if spoils(&error) => return Err(error),
                Err(error) => answers.push(Err(error)),
            }
        }
        Ok(answers)
    }

    /// Whether this step may not evict any more. Each insert evicts one at most, unless the limits have shrunk.
    pub(super) const fn is_tired(&self) -> bool {
        self.evicted >= STEP
    }

    /// As [`CommitmentStore::insert`](crate::CommitmentStore::insert), as far as one step comes.
    pub(super) fn insert(&mut self, new: &StoredCommitment) -> Result<Progress<Inserted>, StorageError> {
        if self.state.base.is_none() {
            return Err(StorageError::NoBase);
        }
        let hash = new.hash();
        if let Some((place, row)) = self.find_at(new.block, &hash)? {
            if !returns(self, &row.stored)? {
                return Ok(Progress::Done(Inserted::Known));
            }
            self.note_root(&row.stored)?;
            self.shift(place, CHAIN, &row)?;
            self.state.tip = Some(row.stored.head());
            return Ok(Progress::Done(Inserted::Restored { adopted: vec![row.stored] }));
        }
        while let Some(full) = self.limits.commitments_full(self.state.commitments) {
            if self.is_tired() {
                return Ok(Progress::More);
            }
            match self.prune_lowest(BlockNumber::MAX)? {
                0 => return Err(full),
                gone => self.evicted += gone,
            }
        }
        if new.recovered.signed().preconf().is_eop_only() {
            self.add(None, new)?;
            return Ok(Progress::Done(Inserted::New));
        }
        let head = new.head();
        let choice = choose(self, new)?;
        self.note_root(new)?;
        Ok(Progress::Done(match choice {
            Choice::Side => {
                self.add(None, new)?;
                Inserted::Side
            }
            Choice::Extend => {
                self.add(Some(CHAIN), new)?;
                self.state.tip = Some(head);
                Inserted::New
            }
            Choice::Switch { from, through } => {
                let dropped = self.leave_chain(from)?;
                let mut adopted = Vec::with_capacity(through.len() + 1);
                for hash in &through {
                    let (place, row) = self.find(hash)?.ok_or(StorageError::UnknownParent(*hash))?;
                    self.note_root(&row.stored)?;
                    self.shift(place, CHAIN, &row)?;
                    adopted.push(row.stored);
                }
                self.add(Some(CHAIN), new)?;
                adopted.push(new.clone());
                self.state.tip = Some(head);
                match dropped.first() {
                    Some(&previous) => Inserted::Superseded { previous, dropped, adopted },
                    None => Inserted::Restored { adopted },
                }
            }
        }))
    }

    /// Remembers the height if this is the first block above the base and does not stand on the chain's block
    /// below: where the hash of the settled block is not known, it may follow anything.
    fn note_root(&mut self, first: &StoredCommitment) -> Result<(), StorageError> {
        if first.block != self.state.lowest() {
            return Ok(());
        }
        let below = match first.block.checked_sub(1) {
            Some(below) => self.canonical(below)?,
            None => None,
        };
        if below != Some(first.parent) {
            let mut roots = self.transaction.open_table(ROOTS).map_err(fault)?;
            roots.insert(first.block, ()).map_err(fault)?;
        }
        Ok(())
    }

    /// As [`CommitmentStore::rewind`](crate::CommitmentStore::rewind).
    pub(super) fn rewind(&mut self, from: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let from = from.max(self.state.lowest());
        let gone: Vec<_> = self.chain_from(from)?.into_iter().map(|row| row.stored).collect();
        if !gone.is_empty() {
            self.leave_chain(from)?;
            self.state.tip = last_of_chain(&self.commitments, &self.domain)?;
        }
        Ok(gone)
    }

    /// Makes history of the chain from a height on; says what it was.
    fn leave_chain(&mut self, from: BlockNumber) -> Result<Vec<B256>, StorageError> {
        let mut dropped = Vec::new();
        for row in self.chain_from(from)? {
            dropped.push(row.stored.hash());
            self.shift((row.stored.block, CHAIN), row.arrival, &row)?;
        }
        Ok(dropped)
    }

    /// The chain from a height on.
    fn chain_from(&self, from: BlockNumber) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            let (place, bytes) = entry.map_err(fault)?;
            if let place @ (_, CHAIN) = place.value() {
                rows.push(Row::decode(place, bytes.value(), &self.domain)?);
            }
        }
        Ok(rows)
    }

    /// As [`CommitmentStore::set_base`](crate::CommitmentStore::set_base).
    pub(super) fn set_base(&mut self, base: Base) -> Result<Vec<StoredCommitment>, StorageError> {
        let settled = self.canonical(base.number)?;
        let contradicted = matches!((base.hash, settled), (Some(ours), Some(theirs)) if ours != theirs);
        let gap = self.lowest_of_chain(base.next())?.is_some_and(|lowest| lowest > base.next());
        let from = if contradicted { Some(base.number) } else { gap.then(|| base.next()) };
        self.changed |= self.state.base != Some(base);
        self.state.base = Some(base);
        let Some(from) = from else { return Ok(Vec::new()) };
        let mut gone = Vec::new();
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            let (place, bytes) = entry.map_err(fault)?;
            let place = place.value();
            gone.push((place, Row::decode(place, bytes.value(), &self.domain)?.stored));
        }
        self.erase(gone.iter().map(|(place, stored)| (*place, stored)))?;
        self.state.tip = last_of_chain(&self.commitments, &self.domain)?;
        Ok(gone.into_iter().filter(|((_, slot), _)| *slot == CHAIN).map(|(_, stored)| stored).collect())
    }

    /// The lowest height of the chain from a height on.
    fn lowest_of_chain(&self, from: BlockNumber) -> Result<Option<BlockNumber>, StorageError> {
        for entry in self.commitments.range((from, CHAIN)..).map_err(fault)? {
            if let (block, CHAIN) = entry.map_err(fault)?.0.value() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Removes heights below `below`, lowest first, as far as one step comes; says how many commitments went, zero
    /// when there are no more.
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

    /// Removes the lowest height if it is settled and below `below`; says how many commitments went.
    fn prune_lowest(&mut self, below: BlockNumber) -> Result<usize, StorageError> {
        let below = below.min(self.state.base.map_or(0, |base| base.number));
        let lowest = self.commitments.first().map_err(fault)?.map(|(place, _)| place.value().0);
        let Some(lowest) = lowest.filter(|lowest| *lowest < below) else { return Ok(0) };
        let gone = rows_at(&self.commitments, lowest, &self.domain)?;
        self.erase(gone.iter().map(|(place, row)| (*place, &row.stored)))?;
        if self.state.tip.is_some_and(|tip| tip.number == lowest) {
            self.state.tip = None;
        }
        Ok(gone.len())
    }
}
