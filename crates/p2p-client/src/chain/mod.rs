//! The owner of the chain: judges, stores, lets wait, in the order of arrival. Synchronous; runs on a blocking
//! thread, one batch at a time.

mod forward;
mod guard;
mod import;
mod job;
mod judge;
mod l1;
mod recall;
mod staged;
mod txlists;
mod wanted;

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use p2p_catchup::Input;
use p2p_storage::{Added, HeldTxLists, PendingPool, SdkStorage, StorageError, StoredCommitment};
use p2p_types::{B256, Base, BlockNumber, Bytes, Head, Origin, PeerId, SdkEvent, UnixSeconds, WaitedFor};
use p2p_validation::{Arrival, Authenticated, Handovers, Missing, Validator, Witness, WitnessLimits};
use preconfirmation_p2p::VerdictToken;
use tracing::Span;

use crate::{config::MemoryConfig, metrics::Metrics};
use forward::ForwardMemory;
use staged::Staging;
use txlists::Applied;
use wanted::Wanted;

pub use guard::Conflict;
pub(crate) use job::{Answer, Effects, Job, Judged, Listed};
pub(crate) use judge::soft;
pub use l1::L1Reorg;

/// Most blocks that a live commitment may be above the best known height and still be believed.
pub(crate) const MAX_AHEAD: BlockNumber = 1024;

/// Windows that are remembered as handed over: more than a day of L1 epochs.
const HANDOVERS: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(windows) => windows,
    None => NonZeroUsize::MIN,
};

/// A commitment on its way through the rules.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) commitment: Authenticated,
    pub(crate) arrival: Arrival,
    pub(crate) origin: Origin,
    /// Owed to the network for what came by gossip, until it has been given.
    pub(crate) verdict: Option<VerdictToken>,
    /// What it waits for, while it does.
    pub(crate) missing: Option<Missing>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

/// A commitment of gossip that nobody has looked at.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) ssz: Bytes,
    pub(crate) arrival: Arrival,
    pub(crate) from: PeerId,
    /// Owed to the network, if it is gossip of a network.
    pub(crate) verdict: Option<VerdictToken>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

impl AsRef<[u8]> for Arrived {
    fn as_ref(&self) -> &[u8] {
        &self.ssz
    }
}

/// The state that only the owner touches.
pub(crate) struct Chain {
    store: Arc<dyn SdkStorage>,
    validator: Validator,
    pending: PendingPool<Candidate>,
    held: HeldTxLists,
    wanted: Wanted,
    forwarded: ForwardMemory,
    staged: Staging,
    /// Blocks of the batch that is being stored, until their lists have been looked for.
    applied: Vec<Applied>,
    witness: Witness,
    handovers: Handovers,
    /// The turn in which the application published last, and the height below which it has not handed over.
    no_eop_below: Option<(guard::Turn, BlockNumber)>,
    /// Whether the application has said that catch-up may start.
    open: bool,
    /// How far back the messages in the store count as seen.
    seen_ttl: std::time::Duration,
    /// Invalid gossip costs nobody.
    soft_fail: bool,
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
        soft_fail: bool,
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
            staged: Staging::default(),
            applied: Vec::new(),
            witness: Witness::new(WitnessLimits::default()),
            handovers: Handovers::new(HANDOVERS),
            no_eop_below: None,
            open: false,
            seen_ttl: config.seen_ttl,
            soft_fail,
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
        let silent = jobs.iter().all(Job::is_silent);
        if let Err(error) = jobs.into_iter().try_for_each(|job| self.job(job)) {
            // What can be cured by time or configuration has been answered where it happened.
            tracing::error!(%error, "the store failed");
            self.effects.fatal = Some(error);
        }
        if !silent {
            self.measure();
        }
        std::mem::take(&mut self.effects)
    }

    fn measure(&self) {
        let of_schedules = self
            .pending
            .iter()
            .filter(|waiting| matches!(waiting.missing, Some(Missing::Schedule(_))))
            .count();
        let of_parents = self.pending.len() - of_schedules;
        self.metrics.pending((of_parents, of_schedules), self.wanted.len(), self.held.bytes());
        match self.store.stats() {
            Ok(stats) => self.metrics.storage(stats),
            Err(error) => tracing::debug!(%error, "the store does not tell its size"),
        }
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
        match job {
            Job::Gossip(arrived) => self.gossip(arrived)?,
            Job::Local { commitment, txlist, acknowledged, reply, span } => {
                let entered = span.entered();
                let judged = self.local(*commitment, txlist, acknowledged.as_ref())?;
                if let Some(outcome) = judged.refusal() {
                    entered.record("outcome", outcome);
                }
                self.effects.answers.push(Answer::Judged(reply, judged));
            }
            Job::TxLists(lists) => self.txlists(lists)?,
            Job::Import { id, from, page } => {
                let verdict = self.import(from, page)?;
                let head = self.store.head()?;
                self.effects.inputs.push(Input::Imported { id, head, verdict });
            }
            Job::SetBase { base, open, reply } => {
                let before = self.store.head()?;
                let done = self.set_base(base, open);
                self.effects.answers.push(Answer::Base(reply, done));
                self.head_moved(before)?;
            }
            Job::L1Head(head) => self.validator.set_l1_head(Some(head)),
            Job::L1Reorg { anchor, reply } => {
                let reorg = self.l1_reorg(anchor);
                self.effects.answers.push(Answer::L1Reorg(reply, reorg));
            }
            Job::Expected { moment, reply } => {
                let expected = self.handovers.expected(self.validator.lookahead(), moment);
                // Whoever asked may have gone.
                reply.send(expected).ok();
            }
            // A block of this very batch may lack its list: catch-up is being told, and will say so.
            Job::Status(status) if status.is_live() && self.wanted.len() > 0 => {}
            Job::Status(status) => self.tell(SdkEvent::Status { status }),
            Job::Tick => self.tick()?,
            Job::Recall => self.recall()?,
        }
        Ok(())
    }

    /// Tells everybody. In the span of the message that brought it about, which ends with this.
    fn tell(&mut self, event: SdkEvent) {
        tracing::debug!(event = event.label(), "tells");
        self.effects.events.push(event);
    }

    /// Tells of the head if a job has moved it.
    fn head_moved(&mut self, before: Option<Head>) -> Result<(), StorageError> {
        let head = self.store.head()?;
        if head != before {
            self.tell(SdkEvent::Head { head });
            self.effects.inputs.push(Input::Applied { head });
            self.metrics.head(head);
        }
        Ok(())
    }

    fn set_base(&mut self, base: Base, open: bool) -> Result<(), StorageError> {
        let dropped = self.store.set_base(base)?;
        let hashes: Vec<B256> = dropped.iter().map(StoredCommitment::hash).collect();
        for (block, hash) in self.wanted.settle(base.number, &hashes) {
            self.effects.inputs.push(Input::TxListUnwanted { block, hash });
        }
        if let Some(lowest) = dropped.first() {
            self.tell(SdkEvent::Reorg { dropped: hashes, from: lowest.block });
        }
        self.open |= open;
        if !self.open {
            return Ok(());
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
        self.work_off(waiting.into())
    }

    fn tick(&mut self) -> Result<(), StorageError> {
        let given_up = self.pending.expire(self.now);
        if !given_up.is_empty() {
            self.metrics.dropped("pending_expired", given_up.len());
            for candidate in given_up {
                self.given_up(&candidate);
            }
            self.unseen();
        }
        let lookahead = self.validator.clone();
        let known = self.pending.take_scheduled(|end| lookahead.knows(end));
        self.work_off(known.into())
    }

    fn given_up(&mut self, candidate: &Candidate) {
        let (block, hash) = (candidate.commitment.block(), candidate.commitment.hash());
        let _entered = candidate.span.enter();
        Span::current().record("outcome", "deferred_too_long");
        let Some(missing) = candidate.missing else { return };
        let waited_for = match missing {
            Missing::Parent(parent) => WaitedFor::Parent(parent),
            Missing::Schedule(end) => WaitedFor::Schedule(end),
        };
        self.tell(SdkEvent::DeferredTooLong { block, hash, waited_for });
    }

    /// Lets a candidate wait. Whoever has to go for it settles Ignore by being dropped.
    fn wait(&mut self, missing: Missing, mut candidate: Candidate) {
        candidate.span.record("outcome", missing.label());
        candidate.missing = Some(missing);
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
