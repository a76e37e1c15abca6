//! The effects of a batch: events for the application, inputs for catch-up, message ids for the seen cache, replies.
//!
//! Nothing else in the chain processor builds an event or an input, counts or logs a change: the ledger and the judge report
//! *what* has changed, and this file decides who is notified and how.

use std::sync::Arc;

use p2p_catchup::{ImportVerdict, Input, RequestId};
use p2p_storage::{StorageError, StorageStats, StoredCommitment};
use p2p_types::{
    Address, B256, BlockNumber, Head, HeadSyncStatus, MessageId, Missing, Origin, PromiseOutcome, SdkEvent,
    StorageTrouble, TxList,
};
use p2p_validation::{Authenticated, Evidence, Rejection};
use preconfirmation_types::Container as _;
use tracing::Span;

use super::{
    Response,
    l1::{L1Reorg, ScheduleReorg},
};
use crate::{metrics::Metrics, skew::Timing};

/// What a batch of commands brought about, each kind in order.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<SdkEvent>,
    pub(crate) inputs: Vec<Input>,
    /// When commitments of elected preconfers came.
    pub(crate) timings: Vec<Timing>,
    /// Sent last.
    pub(crate) responses: Vec<Response>,
    /// Messages that count as seen.
    pub(crate) seen: Vec<MessageId>,
    /// Messages that were not judged after all: they count as seen no more.
    pub(crate) unseen: Vec<MessageId>,
    /// The store is broken: the client must end.
    pub(crate) fatal: Option<StorageError>,
    /// The pending pool has changed in a way that catch-up is to know of.
    waiting_changed: bool,
    metrics: Arc<Metrics>,
}

impl Effects {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Adds an event, in the span of the message that brought it about, which ends with this.
    fn emit(&mut self, event: SdkEvent) {
        tracing::debug!(event = event.label(), "emitted");
        self.events.push(event);
    }

    pub(super) fn status(&mut self, status: HeadSyncStatus) {
        self.emit(SdkEvent::Status { status });
    }

    // What the judge decides.

    pub(super) fn ignored(&self, span: &Span, reason: &'static str) {
        self.metrics.ignored(reason);
        span.record("outcome", reason);
        tracing::debug!("ignored");
    }

    pub(super) fn rejected(&self, span: &Span, rejection: &Rejection) {
        self.metrics.rejected(rejection.label());
        span.record("outcome", rejection.label());
        tracing::debug!(%rejection, "rejected");
    }

    pub(super) fn evidence(&mut self, evidence: &Evidence) {
        let (kind, signer, block) = (evidence.kind(), evidence.signer(), evidence.block());
        tracing::warn!(kind = kind.label(), %signer, block, "a preconfer has misbehaved");
        self.metrics.evidence(kind);
        let [first, second] =
            [evidence.first(), evidence.second()].map(|signed| Arc::new(signed.recovered().clone()));
        self.emit(SdkEvent::Evidence { kind, signer, block, first, second });
    }

    // What waits.

    /// A message that was not judged after all counts as seen no more.
    pub(super) fn not_judged(&mut self, commitment: &Authenticated) {
        let ssz = commitment.recovered().signed().to_ssz();
        self.unseen.push(MessageId::of_commitment(&ssz));
    }

    /// A commitment waits for a parent that is not known.
    pub(super) fn orphan(&mut self, block: BlockNumber, parent: B256, signer: Address) {
        self.inputs.push(Input::Orphan { block, parent, signer });
    }

    /// Nothing waits for this parent any more.
    pub(super) fn orphan_gone(&mut self, parent: B256) {
        self.inputs.push(Input::OrphanGone { parent });
    }

    /// What waits for parents has changed.
    pub(super) const fn waiting_changed(&mut self) {
        self.waiting_changed = true;
    }

    /// Ends the batch: reports to catch-up what waits now, if that has changed.
    pub(super) fn finish(&mut self, highest_waiting: Option<BlockNumber>) {
        if std::mem::take(&mut self.waiting_changed) {
            self.inputs.push(Input::Waiting { highest: highest_waiting });
        }
    }

    pub(super) fn deferred_too_long(&mut self, block: BlockNumber, hash: B256, waited_for: Missing) {
        self.emit(SdkEvent::DeferredTooLong { block, hash, waited_for });
    }

    // What the ledger has done.

    /// A block has become part of the chain.
    pub(super) fn block_applied(&mut self, stored: &StoredCommitment, origin: Origin) {
        let (block, commitment) = (stored.block, stored.recovered.clone());
        self.emit(SdkEvent::Commitment { block, commitment, origin });
    }

    pub(super) fn handover(&mut self, stored: StoredCommitment, origin: Origin) {
        self.emit(SdkEvent::Handover { block: stored.block, commitment: stored.recovered, origin });
    }

    /// Another branch is the chain, because of an insert.
    pub(super) fn fork(&mut self, previous: B256, dropped: Vec<B256>, from: BlockNumber) {
        tracing::info!(%previous, from, dropped = dropped.len(), "reorg");
        self.metrics.reorg("fork");
        self.emit(SdkEvent::Reorg { dropped, from });
    }

    /// Blocks have left the chain because of a base, or of what L1 has restored.
    pub(super) fn blocks_dropped(&mut self, dropped: Vec<B256>, from: BlockNumber) {
        self.emit(SdkEvent::Reorg { dropped, from });
    }

    /// Blocks have left the chain because of L1.
    pub(super) fn l1_reorg(&mut self, reorg: &L1Reorg) {
        let L1Reorg { anchor, from, affected } = reorg;
        if let Some(from) = *from {
            tracing::info!(anchor, from, affected = affected.len(), "L1 reorg");
            self.metrics.reorg("l1");
            self.emit(SdkEvent::L1Reorg { anchor: *anchor, from, affected: affected.clone() });
        }
    }

    /// Blocks have left the chain because their signers are elected no more.
    pub(super) fn schedule_reorg(&mut self, reorg: &ScheduleReorg) {
        let ScheduleReorg { since, from, affected } = reorg;
        if let Some(from) = *from {
            tracing::info!(%since, from, affected = affected.len(), "the schedule no longer elects who signed these blocks");
            self.metrics.reorg("schedule");
            self.emit(SdkEvent::ScheduleReorg { since: *since, from, affected: affected.clone() });
        }
    }

    pub(super) fn head_moved(&mut self, head: Option<Head>) {
        self.emit(SdkEvent::Head { head });
        self.inputs.push(Input::Applied { head });
        self.metrics.head(head);
    }

    /// A transaction list that a block names has been stored.
    pub(super) fn txlist_stored(&mut self, txlist: &TxList, origin: Origin) {
        self.emit(SdkEvent::TxList { hash: txlist.hash(), bytes: txlist.bytes().len(), origin });
    }

    /// So has one that had been reported missing.
    pub(super) fn missing_txlist_stored(&mut self, txlist: &TxList, origin: Origin) {
        self.inputs.push(Input::TxListStored { hash: txlist.hash() });
        self.seen.push(MessageId::of_txlist(txlist));
        self.txlist_stored(txlist, origin);
    }

    pub(super) fn block_ready(&mut self, block: BlockNumber, hash: B256, raw_tx_list_hash: B256) {
        self.emit(SdkEvent::BlockReady { block, hash, raw_tx_list_hash });
    }

    pub(super) fn txlist_missing(&mut self, block: BlockNumber, hash: B256, live: bool) {
        self.inputs.push(Input::TxListMissing { block, hash, live });
    }

    /// Blocks that lacked their lists need them no more.
    pub(super) fn txlists_unneeded(&mut self, blocks: Vec<(BlockNumber, B256)>) {
        let unneeded = |(block, hash)| Input::TxListNotNeeded { block, hash };
        self.inputs.extend(blocks.into_iter().map(unneeded));
    }

    /// A transaction list in the store is damaged.
    pub(super) fn txlist_unreadable(&self, hash: &B256, what: &'static str) {
        tracing::warn!(%hash, what, "a transaction list in the store is damaged and is fetched again");
        self.metrics.unreadable();
    }

    /// Catch-up may start.
    pub(super) fn start(&mut self, base: BlockNumber, head: Option<Head>) {
        self.inputs.push(Input::Start { base, head });
    }

    /// What became of the promise for a settled block, or that one was taken back.
    pub(super) fn settled_block(&mut self, event: SdkEvent) {
        if let SdkEvent::Settled { block, promise: PromiseOutcome::Broken(breach), commitment, .. } = &event {
            let signer = commitment.as_ref().map(|commitment| commitment.signer());
            tracing::warn!(block, ?signer, reason = breach.reason(), "a promise is broken");
        }
        self.emit(event);
    }

    pub(super) fn settled(&mut self, base: BlockNumber) {
        self.inputs.push(Input::Settled { base });
    }

    pub(super) fn imported(&mut self, id: RequestId, head: Option<Head>, verdict: ImportVerdict) {
        self.inputs.push(Input::Imported { id, head, verdict });
    }

    /// A block that was not stored has been seen: catch-up fetches it again.
    pub(super) fn not_stored(&mut self, block: BlockNumber) {
        self.inputs.push(Input::NotStored { block });
    }

    /// What a full queue, a full store or age cost.
    pub(super) fn dropped(&self, queue: &'static str, count: usize) {
        self.metrics.dropped(queue, count);
    }

    // How the store is.

    /// The store has refused something that it may take later; `first`: it took everything before.
    pub(super) fn store_failed(&mut self, error: &StorageError, first: bool) {
        self.metrics.storage_failed();
        if first {
            tracing::warn!(%error, "the store fails; what it did not take is fetched again");
            let trouble = Some(StorageTrouble::Failing { reason: error.to_string() });
            self.emit(SdkEvent::Storage { trouble });
        }
    }

    pub(super) fn store_recovered(&mut self) {
        tracing::info!("the store works again");
        self.metrics.storage_recovered();
        self.emit(SdkEvent::Storage { trouble: None });
    }

    pub(super) fn store_nearly_full(&mut self, used: usize, limit: usize) {
        tracing::warn!(used, limit, "the store fills up: no newer base has been declared for long");
        self.emit(SdkEvent::Storage { trouble: Some(StorageTrouble::NearlyFull { used, limit }) });
    }

    // Gauges.

    pub(super) fn measure_pending(&self, counts: (usize, usize), missing: usize, orphan_bytes: usize) {
        self.metrics.pending(counts, missing, orphan_bytes);
    }

    pub(super) fn measure_store(&self, stats: StorageStats) {
        self.metrics.storage(stats);
    }
}
