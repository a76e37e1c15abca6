//! The ledger: the only writer of the store.
//!
//! It stages what the judge has linked, each block with its transaction list where that is at hand, and commits all that
//! is staged in one atomic step. It also knows which blocks lack their lists, and caches
//! the lists that no block names yet. What a commit changes, it reports to [`Effects`], after the store has it.

mod health;
mod missing;
mod staging;
mod txlists;

use std::sync::Arc;

use hashbrown::HashSet;
use p2p_storage::{
    Batch, ChainUpdate, HeldLimits, HeldTxLists, Inserted, Promise, SdkStorage, StorageError,
    StoredCommitment, StoredEvidence,
};
use p2p_types::{Address, B256, Base, BlockNumber, Head, Origin, TxList, U256, UnixSeconds};
use p2p_validation::{Evidence, Linked};
use tracing::Span;

use super::{
    effects::Effects,
    l1::{L1Reorg, ScheduleReorg},
};
use health::StoreHealth;
use missing::MissingTxLists;
use staging::{Staged, Staging};
use txlists::Applied;

/// Heights that are judged again in one go after a change of the schedule: some milliseconds.
const SLICE: u64 = 256;

pub(super) use txlists::TxListOutcome;

/// What became of a staged commitment.
#[derive(Debug)]
pub(super) enum Committed {
    /// It is in the chain, or a handover that was not known.
    Stored,
    /// It is stored, and another branch is the chain.
    NonCanonical,
    /// It was stored already.
    Known,
    /// The store did not take it, and may later.
    Failed(StorageError),
}

/// The store and what waits to be written to it.
pub(super) struct Ledger {
    store: Arc<dyn SdkStorage>,
    staging: Staging,
    missing: MissingTxLists,
    /// Transaction lists that no block names yet.
    orphans: HeldTxLists,
    /// Blocks that have become part of the chain, until their lists have been looked for.
    applied: Vec<Applied>,
    health: StoreHealth,
    /// The head as it was reported last.
    reported: Option<Head>,
    /// The application's promises for windows that ended before this have been forgotten.
    promises_until: UnixSeconds,
}

/// Reading.
impl Ledger {
    pub(super) fn new(store: Arc<dyn SdkStorage>, orphans: HeldLimits) -> Self {
        // One that cannot be read now is reported once it can.
        let reported = store.head().unwrap_or_default();
        Self {
            store,
            staging: Staging::default(),
            missing: MissingTxLists::default(),
            orphans: HeldTxLists::new(orphans),
            applied: Vec::new(),
            health: StoreHealth::default(),
            reported,
            promises_until: UnixSeconds::default(),
        }
    }

    pub(super) fn base(&self) -> Result<Option<Base>, StorageError> {
        self.store.base()
    }

    pub(super) fn head(&self) -> Result<Option<Head>, StorageError> {
        self.store.head()
    }

    /// What is stored with this preconfirmation hash, in the chain or not.
    pub(super) fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        self.store.by_hash(hash)
    }

    /// The block of the chain at a height.
    pub(super) fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        self.store.by_block(block)
    }

    /// Everything that is stored at a height.
    pub(super) fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        self.store.at(block)
    }

    /// What is staged or stored with this preconfirmation hash.
    pub(super) fn staged_or_stored(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        match self.staging.by_hash(hash) {
            Some(staged) => Ok(Some(staged.clone())),
            None => self.store.by_hash(hash),
        }
    }

    /// The newest staged block at a height, or the one of the chain.
    pub(super) fn staged_or_stored_at(
        &self,
        block: BlockNumber,
    ) -> Result<Option<StoredCommitment>, StorageError> {
        match self.staging.by_block(block) {
            Some(staged) => Ok(Some(staged.clone())),
            None => self.store.by_block(block),
        }
    }

    /// What is stored above the base at the next [`SLICE`] heights from one on and was signed at or after a second, lowest
    /// first; and the height to go on from, unless that was all.
    pub(super) fn signed_since(
        &self,
        since: UnixSeconds,
        from: BlockNumber,
    ) -> Result<(Vec<StoredCommitment>, Option<BlockNumber>), StorageError> {
        let Some(base) = self.store.base()? else { return Ok((Vec::new(), None)) };
        let from = from.max(base.next());
        let to = from.saturating_add(SLICE);
        let timestamp = |stored: &StoredCommitment| stored.recovered.signed().preconf().timestamp;
        let mut found = Vec::new();
        for height in from..to {
            // Every block stands on one below it, down to the base: there are no gaps.
            let here = self.store.at(height)?;
            if here.is_empty() {
                return Ok((found, None));
            }
            found.extend(here.into_iter().filter(|stored| timestamp(stored) >= U256::from(since.get())));
        }
        Ok((found, Some(to).filter(|to| *to > from)))
    }

    /// Whether the network has taken one of our own commitments.
    pub(super) fn is_published(&self, hash: &B256) -> Result<bool, StorageError> {
        self.store.is_published(hash)
    }

    /// What a signer of ours has promised for a window.
    pub(super) fn promises(
        &self,
        signer: &Address,
        window_end: UnixSeconds,
    ) -> Result<Vec<Promise>, StorageError> {
        self.store.promises(signer, window_end)
    }

    pub(super) fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError> {
        self.store.evidence()
    }
}

/// Writing.
impl Ledger {
    /// Adds what is to be stored with the next commit. What follows is linked against it.
    pub(super) fn stage(&mut self, linked: Linked, txlist: Option<TxList>, origin: Origin, span: Span) {
        self.staging.push(linked, txlist, origin, span);
    }

    /// Stores what is staged, and reports what that has changed. Answers for each by its preconfirmation hash, in order.
    pub(super) fn commit(&mut self, out: &mut Effects) -> Result<Vec<(B256, Committed)>, StorageError> {
        if self.staging.is_empty() {
            return Ok(Vec::new());
        }
        let staged = self.staging.take();
        let own = |staged: &Staged| Some((staged.stored.block, staged.txlist.clone()?));
        let batch = Batch {
            commitments: staged.iter().map(|staged| staged.linked.clone().into()).collect(),
            txlists: staged.iter().filter_map(own).collect(),
        };
        let spans = staged.iter().map(|staged| &staged.span);
        let applied = store_span(spans).in_scope(|| self.store.apply(batch));
        let mut lists = applied.txlists.into_iter();
        let answers = applied.commitments.into_iter().map(|applied| applied.inserted);
        let (mut committed, mut txlists) = (Vec::with_capacity(staged.len()), Vec::new());
        for (Staged { stored, txlist, origin, span, .. }, answer) in staged.into_iter().zip(answers) {
            let (_entered, hash) = (span.entered(), stored.hash());
            let list = txlist.and_then(|txlist| Some((stored.block, txlist, lists.next()?)));
            let became = match answer {
                Ok(inserted) => {
                    self.store_works(out);
                    txlists.extend(list);
                    self.inserted(stored, inserted, origin, out)
                }
                // A child of what could not be stored shares its fate, and one of what had to go meanwhile.
                Err(error) if error.is_retryable() || matches!(error, StorageError::UnknownParent(_)) => {
                    Span::current().record("outcome", "store_full");
                    if error.is_retryable() {
                        self.store_failed(&error, out);
                    }
                    out.dropped("store_full", 1);
                    out.not_stored(stored.block);
                    Committed::Failed(error)
                }
                Err(error) => return Err(error),
            };
            committed.push((hash, became));
        }
        self.attach_txlists(txlists, out)?;
        Ok(committed)
    }

    /// Reports what an insert did.
    fn inserted(
        &mut self,
        stored: StoredCommitment,
        inserted: Inserted,
        origin: Origin,
        out: &mut Effects,
    ) -> Committed {
        Span::current().record("outcome", label(&inserted));
        match inserted {
            Inserted::Known => Committed::Known,
            Inserted::NonCanonical => Committed::NonCanonical,
            Inserted::New if stored.is_handover() => {
                out.handover(stored, origin);
                Committed::Stored
            }
            Inserted::New => {
                self.apply([stored], origin, out);
                Committed::Stored
            }
            // An L1 reorg had taken it, and what it stands on, out of the chain.
            Inserted::Restored { adopted } => {
                self.apply(adopted, origin, out);
                Committed::Stored
            }
            Inserted::Superseded { previous, dropped, adopted } => {
                let from = adopted.first().map_or(stored.block, |lowest| lowest.block);
                self.forget_dropped(&dropped, out);
                out.fork(previous, dropped, from);
                // What wins need not be the one that was inserted.
                let stands = adopted.iter().any(|block| block.hash() == stored.hash());
                self.apply(adopted, origin, out);
                if stands { Committed::Stored } else { Committed::NonCanonical }
            }
        }
    }

    /// What is settled has moved.
    pub(super) fn set_base(&mut self, base: Base, out: &mut Effects) -> Result<(), StorageError> {
        let update = self.store.set_base(base)?;
        self.store_works(out);
        out.txlists_unneeded(self.missing.settle(base.number));
        self.chain_updated(update, out)
    }

    /// Moves the base to a settled block that is none of those stored at its height.
    pub(super) fn settle_other(
        &mut self,
        block: BlockNumber,
        settled: B256,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let update = self.store.settle_other(block, settled)?;
        self.store_works(out);
        out.txlists_unneeded(self.missing.settle(block));
        self.chain_updated(update, out)
    }

    /// Takes what is anchored to L1 blocks from `anchor` on out of the chain.
    pub(super) fn withdraw(
        &mut self,
        anchor: BlockNumber,
        out: &mut Effects,
    ) -> Result<L1Reorg, StorageError> {
        let update = self.store.withdraw(anchor)?;
        let mut reorg = L1Reorg { anchor, from: None, affected: Vec::new() };
        self.replaced(update, out, |from, affected, out| {
            (reorg.from, reorg.affected) = (from, affected);
            out.l1_reorg(&reorg);
        })?;
        Ok(reorg)
    }

    /// Removes what somebody has signed who is elected no more, with all that stand on it. Tells which blocks have left the
    /// chain.
    pub(super) fn remove_unelected(
        &mut self,
        since: UnixSeconds,
        hashes: &[B256],
        out: &mut Effects,
    ) -> Result<(ScheduleReorg, Vec<StoredCommitment>), StorageError> {
        let update = self.store.remove(hashes)?;
        let dropped = update.dropped.clone();
        let mut reorg = ScheduleReorg { since, from: None, affected: Vec::new() };
        self.replaced(update, out, |from, affected, out| {
            (reorg.from, reorg.affected) = (from, affected);
            out.schedule_reorg(&reorg);
        })?;
        Ok((reorg, dropped))
    }

    /// What [`withdraw`](Self::withdraw) took out counts as before.
    pub(super) fn reinstate(&mut self, anchor: BlockNumber, out: &mut Effects) -> Result<(), StorageError> {
        let update = self.store.reinstate(anchor)?;
        self.chain_updated(update, out)
    }

    /// Blocks have left the chain and others have come, other than by an insert.
    fn chain_updated(&mut self, update: ChainUpdate, out: &mut Effects) -> Result<(), StorageError> {
        self.replaced(update, out, |from, dropped, out| {
            if let Some(from) = from {
                out.blocks_dropped(dropped, from);
            }
        })
    }

    /// Blocks have left the chain, which `report` tells with the lowest of their heights, and others have come.
    fn replaced(
        &mut self,
        update: ChainUpdate,
        out: &mut Effects,
        report: impl FnOnce(Option<BlockNumber>, Vec<B256>, &mut Effects),
    ) -> Result<(), StorageError> {
        let dropped: Vec<B256> = update.dropped.iter().map(StoredCommitment::hash).collect();
        self.forget_dropped(&dropped, out);
        report(update.dropped.first().map(|lowest| lowest.block), dropped, out);
        self.apply(update.adopted, Origin::Local, out);
        self.attach_txlists(Vec::new(), out)
    }

    /// Reports the head if it has moved since it was reported last.
    pub(super) fn report_head(&mut self, out: &mut Effects) -> Result<(), StorageError> {
        let head = self.store.head()?;
        if head != self.reported {
            self.reported = head;
            out.head_moved(head);
        }
        Ok(())
    }

    /// The head as it was reported last.
    pub(super) const fn reported_head(&self) -> Option<Head> {
        self.reported
    }

    /// Blocks have become part of the chain. Their lists follow with those of the whole commit.
    fn apply(
        &mut self,
        blocks: impl IntoIterator<Item = StoredCommitment>,
        origin: Origin,
        out: &mut Effects,
    ) {
        for stored in blocks {
            out.block_applied(&stored, origin);
            self.applied.push(Applied { stored, origin, span: Span::current() });
        }
    }

    /// Blocks that have left the chain need no lists.
    fn forget_dropped(&mut self, dropped: &[B256], out: &mut Effects) {
        let gone: HashSet<&B256> = dropped.iter().collect();
        self.applied.retain(|applied| !gone.contains(&applied.stored.hash()));
        out.txlists_unneeded(self.missing.forget(dropped));
    }

    /// Gives up what is staged, as a command could not be finished: catch-up comes back for it.
    pub(super) fn abandon(&mut self, error: &StorageError, out: &mut Effects) {
        self.store_failed(error, out);
        for Staged { stored, .. } in self.staging.take() {
            out.not_stored(stored.block);
        }
    }

    /// Stores proofs of misbehaviour and reports those that are new.
    pub(super) fn store_evidence(
        &mut self,
        evidence: Vec<Evidence>,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        for evidence in evidence {
            match self.store.put_evidence(&evidence) {
                Ok(true) => {}
                // Reported before the last restart.
                Ok(false) => continue,
                Err(error) if error.is_retryable() => self.store_failed(&error, out),
                Err(error) => return Err(error),
            }
            out.evidence(&evidence);
        }
        Ok(())
    }

    /// Records what the application is about to publish. Nothing may be stored or sent for it before.
    pub(super) fn promise(&self, promise: Promise) -> Result<(), StorageError> {
        self.store.put_promise(promise)
    }

    /// Forgets the promises for windows that ended before this. What cannot be forgotten now is with the next.
    pub(super) fn forget_promises(
        &mut self,
        before: UnixSeconds,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        if self.promises_until < before {
            self.promises_until = before;
            match self.store.prune_promises(before) {
                Err(error) if error.is_retryable() => self.store_failed(&error, out),
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// The span of storing a batch: part of its first message, and what follows from all others.
fn store_span<'a>(mut messages: impl ExactSizeIterator<Item = &'a Span>) -> Span {
    let count = messages.len();
    let _first = messages.next().map(Span::enter);
    let span = tracing::debug_span!("store", messages = count);
    for other in messages {
        span.follows_from(other);
    }
    span
}

const fn label(inserted: &Inserted) -> &'static str {
    match inserted {
        Inserted::New => "applied",
        Inserted::Known => "known",
        Inserted::NonCanonical => "side",
        Inserted::Restored { .. } => "restored",
        Inserted::Superseded { .. } => "superseded",
    }
}
