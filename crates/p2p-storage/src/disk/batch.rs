//! Atomic batches: commitments and transaction lists in one transaction, the files of large lists before it.

use std::sync::Arc;

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, TxList};

use super::{
    DiskStorage, Durability, STEP,
    fault::poisons,
    files::{Claim, Files},
    lists::Lists,
    writer::Writer,
};
use crate::{
    Applied, AppliedCommitment, Batch, StorageError, StoredCommitment, TxListStore as _, fork::Blocks as _,
};

/// A batch whose files are written. Shared, because a poisoned transaction runs again.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) commitments: Arc<[(StoredCommitment, Option<TxList>)]>,
    pub(super) txlists: Arc<[(BlockNumber, TxList)]>,
    /// Whether the file of a large list has been written. Lists that are not in here go into the database.
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

impl DiskStorage {
    /// As [`SdkStorage::apply`](crate::SdkStorage::apply): large lists go into files, then all else into one transaction.
    pub(super) fn apply_batch(&self, batch: &Batch) -> Result<Applied, StorageError> {
        self.check_writable()?;
        self.shrink()?;
        let mut large: Vec<&TxList> = batch.lists().filter(|list| !self.is_small(list)).collect();
        // Claimed in one order, so that two batches cannot deadlock.
        large.sort_unstable_by_key(|list| list.hash());
        large.dedup_by_key(|list| list.hash());
        let claims: Vec<Claim<'_>> = large.iter().map(|list| self.files.claim(list.hash())).collect();
        // A list that cannot be read now need not be corrupt; if the store is in trouble, the write says so.
        batch.lists().for_each(|list| drop(self.discard_corrupt(list)));
        let mut files = HashMap::new();
        for (list, claim) in large.iter().zip(&claims) {
            if !self.contains(&list.hash())? {
                let written = self
                    .room_for(list.bytes().len())
                    .and_then(|()| Files::write(&*self.source, claim, list.bytes()));
                files.insert(list.hash(), written);
            }
        }
        let prepared = Prepared::new(batch, files);
        let files = prepared.files.clone();
        let applied = self.write(move |writer| writer.apply(&prepared));
        drop(claims);
        self.clean_up(&files);
        applied
    }

    /// Removes the files just written that the database does not reference, and looks for leftovers of a crash.
    fn clean_up(&self, files: &HashMap<B256, Result<(), StorageError>>) {
        let written = files.iter().filter(|(_, written)| written.is_ok());
        let mut any = false;
        for (hash, _) in written {
            any = true;
            if self.files.remove(&*self.source, hash, || self.contains(hash)).is_err() {
                self.files.defer_removal([*hash]);
            }
        }
        if any
            && self.config.durability == Durability::Immediate
            // The lists are stored, whether leftovers can be removed or not.
            && let Err(error) = self.files.sweep(&*self.source, |hash| self.contains(hash))
        {
            tracing::debug!(%error, "cannot look for files that a crash has left");
        }
    }

    /// Evicts settled data in small transactions where the limits are lower than when it was stored.
    fn shrink(&self) -> Result<(), StorageError> {
        while self.config.limits.are_exceeded(&self.state()?.stats()) {
            if self.write(|writer| writer.shrink())? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// As [`SdkStorage::apply`](crate::SdkStorage::apply).
    pub(super) fn apply(&mut self, batch: &Prepared) -> Result<Applied, StorageError> {
        let mut applied = Applied::default();
        for (new, _) in &*batch.commitments {
            let inserted = unless_poisoned(self.insert(new))?;
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
                applied.txlist = Some(unless_poisoned(self.put(&mut lists, new.block, list, &batch.files))?);
            }
        }
        for (block, list) in &*batch.txlists {
            applied.txlists.push(unless_poisoned(self.put(&mut lists, *block, list, &batch.files))?);
        }
        Ok(applied)
    }

    /// One step of evicting settled data beyond the limits. Returns how many rows were removed.
    pub(super) fn shrink(&mut self) -> Result<usize, StorageError> {
        let mut gone = 0;
        while gone < STEP && self.state.commitments > self.limits.commitments {
            match self.prune_lowest(BlockNumber::MAX, STEP - gone)? {
                0 => break,
                pruned => gone += pruned,
            }
        }
        let mut lists = Lists::open(self.transaction)?;
        while gone < STEP && self.limits.are_exceeded(&self.state.stats()) && self.evict_txlist(&mut lists)? {
            gone += 1;
        }
        Ok(gone)
    }
}

/// Splits the failure of one entry of a batch from one that poisons the transaction.
fn unless_poisoned<T>(answer: Result<T, StorageError>) -> Result<Result<T, StorageError>, StorageError> {
    match answer {
        Err(error) if poisons(&error) => Err(error),
        answer => Ok(answer),
    }
}
