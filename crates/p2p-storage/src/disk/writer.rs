//! Changes, inside one write transaction.

use p2p_types::{B256, BlockNumber, SigningDomain};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    STEP,
    fault::{fault, spoils},
    rows::Row,
    state::State,
    tables::{CHAIN, COMMITMENTS, HEIGHTS, Place, ROOTS, entry, find, find_at, row, rows_at},
};
use crate::{
    Inserted, StorageError, StorageLimits, StoredCommitment,
    fork::{Blocks as _, Choice, ForkChoice, Node, choose},
};

/// A write transaction in work. A call that fails with an error that does not spoil
/// ([`spoils`](super::fault::spoils)) has changed nothing that matters. Tables that few changes need are opened by
/// those: each costs a microsecond or two.
pub(super) struct Writer<'t> {
    pub(super) transaction: &'t WriteTransaction,
    pub(super) commitments: Table<'t, Place, &'static [u8]>,
    heights: Table<'t, (u64, u64), ()>,
    pub(super) state: State,
    /// As of this transaction: it must not be used any more if the transaction fails.
    pub(super) fork: &'t mut Option<ForkChoice>,
    /// As it was before.
    before: State,
    pub(super) limits: StorageLimits,
    pub(super) domain: SigningDomain,
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

    pub(super) fn row(&self, place: Place) -> Result<Option<Row>, StorageError> {
        row(&self.commitments, place, &self.domain)
    }

    pub(super) fn find(&self, hash: &B256) -> Result<Option<(Place, Row)>, StorageError> {
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
    pub(super) fn shift(&mut self, from: Place, slot: u64, row: &Row) -> Result<(), StorageError> {
        self.commitments.remove(from).map_err(fault)?;
        self.write((from.0, slot), row)
    }

    /// Removes rows.
    pub(super) fn erase<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (Place, &'a StoredCommitment)>,
    ) -> Result<(), StorageError> {
        let mut roots = self.transaction.open_table(ROOTS).map_err(fault)?;
        for (place @ (block, _), stored) in rows {
            self.changed = true;
            self.commitments.remove(place).map_err(fault)?;
            self.state.commitments = self.state.commitments.saturating_sub(1);
            let index = entry(&stored.hash(), block);
            // One that stays may begin alike, and is found by the same entry.
            let stay = rows_at(&self.commitments, block, &self.domain)?;
            if !stay.iter().any(|(_, row)| entry(&row.stored.hash(), block) == index) {
                self.heights.remove(index).map_err(fault)?;
            }
            if stay.is_empty() {
                roots.remove(block).map_err(fault)?;
            }
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
        if self.find_at(new.block, &hash)?.is_some() {
            return Ok(Progress::Done(Inserted::Known));
        }
        while let Some(full) = self.limits.commitments_full(self.state.commitments) {
            if self.is_tired() {
                return Ok(Progress::More);
            }
            match self.prune_lowest(BlockNumber::MAX)? {
                0 if self.evict(&new.parent)? => self.evicted += 1,
                0 => return Err(full),
                gone => self.evicted += gone,
            }
        }
        if new.is_handover() {
            self.add(None, new)?;
            return Ok(Progress::Done(Inserted::New));
        }
        let head = new.head();
        let mut fork = self.fork.take();
        let choice = choose(&mut fork, self, Node::new(new, false));
        *self.fork = fork;
        let inserted = match choice? {
            Choice::Side => {
                self.note_root(new)?;
                self.add(None, new)?;
                Inserted::Side
            }
            Choice::Extend => {
                self.note_root(new)?;
                self.add(Some(CHAIN), new)?;
                self.state.tip = Some(head);
                return Ok(Progress::Done(Inserted::New));
            }
            Choice::Switch { from, adopted } => {
                self.note_root(new)?;
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
        Ok(Progress::Done(inserted))
    }

    /// Gives up a block beside the chain, but not `keep`; says whether there was one.
    fn evict(&mut self, keep: &B256) -> Result<bool, StorageError> {
        let mut fork = match self.fork.take() {
            Some(fork) => fork,
            None => ForkChoice::build(self)?,
        };
        let gone = fork.evict(keep);
        *self.fork = Some(fork);
        let Some((block, hash)) = gone else { return Ok(false) };
        if let Some((place, row)) = self.find_at(block, &hash)? {
            self.erase([(place, &row.stored)])?;
        }
        Ok(true)
    }

    /// Remembers the height if this is the first block above the base and does not stand on the chain's block
    /// below: where the hash of the settled block is not known, it may follow anything.
    pub(super) fn note_root(&mut self, first: &StoredCommitment) -> Result<(), StorageError> {
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
