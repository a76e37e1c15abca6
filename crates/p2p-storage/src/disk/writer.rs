//! Changes, inside one write transaction.

use std::sync::Arc;

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, SigningDomain, TxList};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    STEP,
    fault::{fault, spoils},
    lists::Lists,
    rows::Row,
    state::State,
    tables::{CHAIN, COMMITMENTS, HEIGHTS, Place, entry, find, find_at, row, rows_at},
};
use crate::{
    Applied, AppliedCommitment, Batch, Inserted, StorageError, StorageLimits, StoredCommitment,
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
    /// Lists in files that have lost their names.
    pub(super) files: Vec<B256>,
}

/// A batch on its way into the database. Shared, because a transaction may have to be run again.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) commitments: Arc<[(StoredCommitment, Option<TxList>)]>,
    pub(super) txlists: Arc<[(BlockNumber, TxList)]>,
    /// Lists that are to be in files of their own: whether their files have been written. All others go into the database.
    pub(super) files: Arc<HashMap<B256, Result<(), StorageError>>>,
}

impl Prepared {
    pub(super) fn new(batch: &Batch, files: HashMap<B256, Result<(), StorageError>>) -> Self {
        let commitments = batch
            .commitments
            .iter()
            .map(|new| (StoredCommitment::from(new.linked.clone()), new.txlist.clone()));
        Self {
            commitments: commitments.collect(),
            txlists: batch.txlists.iter().cloned().collect(),
            files: Arc::new(files),
        }
    }
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
        }
        Ok(())
    }

    fn add(&mut self, slot: Option<u64>, new: &StoredCommitment) -> Result<(), StorageError> {
        let arrival = self.state.arrive();
        self.state.commitments = self.state.commitments.saturating_add(1);
        self.heights.insert(entry(&new.hash(), new.block), ()).map_err(fault)?;
        self.write((new.block, slot.unwrap_or(arrival)), &Row { arrival, stored: new.clone() })
    }

    /// As [`SdkStorage::apply`](crate::SdkStorage::apply).
    pub(super) fn apply(&mut self, batch: &Prepared) -> Result<Applied, StorageError> {
        let mut applied = Applied::default();
        for (new, _) in &*batch.commitments {
            let inserted = not_spoiled(self.insert(new))?;
            applied.commitments.push(AppliedCommitment { inserted, txlist: None });
        }
        let has_lists = batch.commitments.iter().any(|(_, list)| list.is_some()) || !batch.txlists.is_empty();
        if !has_lists {
            return Ok(applied);
        }
        let mut lists = Lists::open(self.transaction)?;
        for ((new, list), applied) in batch.commitments.iter().zip(&mut applied.commitments) {
            if let Some(list) = list
                && list.hash() == new.txlist_hash()
                && applied.inserted.is_ok()
                && self.canonical(new.block)? == Some(new.hash())
            {
                applied.txlist = Some(not_spoiled(self.put(&mut lists, new.block, list, &batch.files))?);
            }
        }
        for (block, list) in &*batch.txlists {
            applied.txlists.push(not_spoiled(self.put(&mut lists, *block, list, &batch.files))?);
        }
        Ok(applied)
    }

    /// As [`CommitmentStore::insert`](crate::CommitmentStore::insert).
    fn insert(&mut self, new: &StoredCommitment) -> Result<Inserted, StorageError> {
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
            Choice::Side => {
                self.add(None, new)?;
                Inserted::Side
            }
            Choice::Extend => {
                self.add(Some(CHAIN), new)?;
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
    pub(super) fn prune_lowest(&mut self, below: BlockNumber) -> Result<usize, StorageError> {
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

/// The answer of one entry of a batch, unless it leaves a transaction that must not be committed.
fn not_spoiled<T>(answer: Result<T, StorageError>) -> Result<Result<T, StorageError>, StorageError> {
    match answer {
        Err(error) if spoils(&error) => Err(error),
        answer => Ok(answer),
    }
}
