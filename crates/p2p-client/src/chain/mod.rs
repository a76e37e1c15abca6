//! The owner of the chain: judges, stores, lets wait, in the order of arrival. Synchronous; runs on a blocking
//! thread, one batch at a time.

mod forward;
mod import;
mod judge;
mod wanted;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use p2p_catchup::{Input, RequestId};
use p2p_storage::{Added, HeldTxLists, PendingPool, SdkStorage, StorageError, StoredCommitment};
use p2p_types::{
    B256, Base, BlockNumber, Head, HeadSyncStatus, Offence, Origin, PeerId, SdkEvent, TxList, UnixSeconds,
};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, Missing, Rejection, Validator};
use preconfirmation_p2p::{Verdict, VerdictToken};
use tokio::sync::oneshot;

use crate::{config::MemoryConfig, metrics::Metrics};
use forward::ForwardMemory;
use wanted::Wanted;

/// Most blocks that a live commitment may be above the best known height and still be believed.
pub(crate) const MAX_AHEAD: BlockNumber = 1024;

/// A commitment on its way through the rules.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) commitment: Authenticated,
    pub(crate) arrival: Arrival,
    pub(crate) origin: Origin,
    /// Owed to the network for what came by gossip, until it has been given.
    pub(crate) verdict: Option<VerdictToken>,
}

/// What became of a commitment that the application published.
#[derive(Debug)]
pub(crate) enum Judged {
    Stored,
    Known,
    /// Stored, but its height belongs to another branch.
    Side,
    Deferred(Missing),
    Ignored(IgnoreReason),
    Rejected(Rejection),
    Failed(StorageError),
}

/// Something for the chain to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// A commitment of gossip.
    Gossip(Candidate),
    /// A commitment of the application, whose transaction list, if given, comes first.
    Local { commitment: Authenticated, txlist: Option<TxList>, reply: oneshot::Sender<Judged> },
    /// A verified transaction list.
    TxList { txlist: TxList, origin: Origin, verdict: Option<VerdictToken> },
    /// A page of catch-up.
    Import { id: RequestId, from: PeerId, page: Vec<Authenticated> },
    /// The application declares what is settled.
    SetBase { base: Base, reply: oneshot::Sender<Result<(), StorageError>> },
    /// Catch-up says where it stands. Told after everything that was handed in before it.
    Status(HeadSyncStatus),
    /// Time went by: what waits may be judged again, or be given up.
    Tick,
}

/// What a batch of jobs brought about.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<SdkEvent>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) reports: Vec<(PeerId, Offence)>,
    /// The store is broken: the client must end.
    pub(crate) fatal: Option<StorageError>,
}

/// The state that only the owner touches.
pub(crate) struct Chain {
    store: Arc<dyn SdkStorage>,
    validator: Validator,
    pending: PendingPool<Candidate>,
    held: HeldTxLists,
    wanted: Wanted,
    forwarded: ForwardMemory,
    /// The highest height that peers or elected preconfers have shown; none until catch-up knows.
    reference: Option<BlockNumber>,
    /// The moment of the running batch.
    now: Instant,
    unix: UnixSeconds,
    effects: Effects,
    metrics: Arc<Metrics>,
}

impl Chain {
    pub(crate) fn new(
        store: Arc<dyn SdkStorage>,
        validator: Validator,
        config: &MemoryConfig,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        Self {
            store,
            validator,
            pending: PendingPool::new(config.pending),
            held: HeldTxLists::new(config.held_txlist_bytes, config.held_txlist_ttl),
            wanted: Wanted::default(),
            forwarded: ForwardMemory::new(config.forwarded),
            reference: None,
            now,
            unix: UnixSeconds::default(),
            effects: Effects::default(),
            metrics,
        }
    }

    /// Does a batch of jobs and returns what came of it.
    pub(crate) fn process(
        &mut self,
        now: Instant,
        unix: UnixSeconds,
        reference: Option<BlockNumber>,
        jobs: Vec<Job>,
    ) -> Effects {
        (self.now, self.unix, self.reference) = (now, unix, reference);
        for job in jobs {
            if let Err(error) = self.job(job) {
                // What can be cured by time or configuration has been answered where it happened.
                tracing::error!(%error, "the store failed");
                self.effects.fatal = Some(error);
                break;
            }
        }
        self.metrics.pending(self.pending.len(), self.wanted.len(), self.held.bytes());
        std::mem::take(&mut self.effects)
    }

    /// When the next thing that waits is to be given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.next_deadline()
    }

    /// Whether anything waits for the lookahead.
    pub(crate) fn waits_for_schedule(&self) -> bool {
        self.pending.waits_for_schedule()
    }

    fn job(&mut self, job: Job) -> Result<(), StorageError> {
        let before = self.store.head()?;
        match job {
            Job::Gossip(candidate) => self.gossip(candidate)?,
            Job::Local { commitment, txlist, reply } => {
                let judged = self.local(commitment, txlist)?;
                self.head_moved(before)?;
                // Whoever published may have gone; the block is stored all the same.
                drop(reply.send(judged));
                return Ok(());
            }
            Job::TxList { txlist, origin, verdict } => {
                self.txlist(txlist, origin)?;
                if let Some(verdict) = verdict {
                    verdict.settle(Verdict::Accept);
                }
            }
            Job::Import { id, from, page } => {
                let verdict = self.import(from, page)?;
                self.head_moved(before)?;
                let head = self.store.head()?;
                self.effects.inputs.push(Input::Imported { id, head, verdict });
                return Ok(());
            }
            Job::SetBase { base, reply } => drop(reply.send(self.set_base(base))),
            // A block of this very batch may lack its list: catch-up is being told, and will say so.
            Job::Status(status) if status.is_live() && self.wanted.len() > 0 => {}
            Job::Status(status) => self.effects.events.push(SdkEvent::Status { status }),
            Job::Tick => self.tick()?,
        }
        self.head_moved(before)
    }

    /// Tells of the head if a job has moved it.
    fn head_moved(&mut self, before: Option<Head>) -> Result<(), StorageError> {
        let head = self.store.head()?;
        if head != before {
            self.effects.events.push(SdkEvent::Head { head });
            self.effects.inputs.push(Input::Applied { head });
            self.metrics.head(head);
        }
        Ok(())
    }

    fn set_base(&mut self, base: Base) -> Result<(), StorageError> {
        let dropped = self.store.set_base(base)?;
        let hashes: Vec<B256> = dropped.iter().map(StoredCommitment::hash).collect();
        for (block, hash) in self.wanted.settle(base.number, &hashes) {
            self.effects.inputs.push(Input::TxListUnwanted { block, hash });
        }
        if let Some(lowest) = dropped.first() {
            self.effects.events.push(SdkEvent::Reorg { dropped: hashes, from: lowest.block });
        }
        // What is in the store already may still lack its transaction lists.
        let mut from = base.next();
        loop {
            let page = self.store.range(from, 256)?;
            let Some(last) = page.last() else { break };
            from = last.block.saturating_add(1);
            for stored in &page {
                if !self.store.contains(&stored.txlist_hash())? {
                    self.want(stored, false);
                }
            }
        }
        let head = self.store.head()?;
        self.effects.inputs.push(Input::Start { base: base.number, head });
        // The base links what could not be linked before.
        let waiting = self.pending.take_all();
        self.judge_all(waiting.into())
    }

    fn tick(&mut self) -> Result<(), StorageError> {
        let given_up = self.pending.expire(self.now);
        if !given_up.is_empty() {
            self.metrics.dropped("pending_expired", given_up.len());
            drop(given_up);
            self.unseen();
        }
        let lookahead = self.validator.clone();
        let known = self.pending.take_scheduled(|end| lookahead.knows(end));
        self.judge_all(known.into())
    }

    fn judge_all(&mut self, waiting: VecDeque<Candidate>) -> Result<(), StorageError> {
        self.work_off(waiting).map(drop)
    }

    /// Lets a candidate wait. Whoever has to go for it settles Ignore by being dropped.
    fn wait(&mut self, missing: Missing, candidate: Candidate) {
        let (hash, block, peer) =
            (candidate.commitment.hash(), candidate.commitment.block(), candidate.origin.peer());
        match self.pending.insert(self.now, (block, hash), missing, peer, candidate) {
            Added::Waiting | Added::Known(_) => {}
            Added::Evicted(gone) => {
                self.metrics.dropped("pending", gone.len());
                self.unseen();
            }
            Added::Crowded(_) => {
                self.metrics.dropped("pending", 1);
                return;
            }
        }
        if let Missing::Parent(parent) = missing {
            self.effects.inputs.push(Input::Orphan { block, parent });
        }
    }

    /// Tells catch-up what the highest height is that still waits.
    fn unseen(&mut self) {
        let highest = self.pending.iter().map(|waiting| waiting.commitment.block()).max();
        self.effects.inputs.push(Input::Unseen { highest });
    }
}

#[cfg(test)]
mod tests;
