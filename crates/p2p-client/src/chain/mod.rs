//! The owner of the chain: judges, stores, lets wait, in the order of arrival. Synchronous; runs on a blocking
//! thread, one batch at a time.

mod command;
mod forwarding;
mod guard;
mod import;
mod judge;
mod l1;
mod missing_txlists;
mod pending;
mod staged;
mod store_health;
mod txlists;
mod warm_up;

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use hashbrown::HashMap;
use p2p_catchup::ImportVerdict;
use p2p_catchup::Input;
use p2p_storage::{HeldTxLists, PendingPool, SdkStorage, StorageError};
use p2p_types::{
    Address, B256, Base, BlockNumber, Bytes, Head, Origin, PeerId, SdkEvent, TxList, UnixSeconds,
};
use p2p_validation::{Arrival, Authenticated, Handovers, Missing, Validator, Witness, WitnessLimits};
use preconfirmation_p2p::VerdictToken;
use schnellru::{ByLength, LruMap};
use tracing::Span;

use crate::{config::MemoryConfig, metrics::Metrics};
use forwarding::ForwardingMemory;
use missing_txlists::MissingTxLists;
use staged::Staging;
use store_health::StoreHealth;
use txlists::Applied;

pub(crate) use command::{Command, Effects, PublishDecision, Response, VerifiedTxList};
pub use guard::Conflict;
pub(crate) use judge::soft;
pub use l1::L1Reorg;

/// Most blocks that a live commitment may be above the best known height and still be believed.
pub(crate) const MAX_AHEAD: BlockNumber = 1024;

/// Windows that are remembered as handed over: more than a day of L1 epochs.
const HANDOVERS: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(windows) => windows,
    None => NonZeroUsize::MIN,
};

/// Signers that are remembered as elected: more than take turns in a day.
const SIGNERS: u32 = 256;

/// When a batch is processed, and what is known by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix: UnixSeconds,
    /// The highest height that peers or elected preconfers have shown; none until catch-up knows.
    pub(crate) reference: Option<BlockNumber>,
}

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
    /// When it arrived.
    pub(crate) since: Instant,
    /// It counts among the promises of its signer.
    pub(crate) admitted: bool,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

/// A commitment of gossip that nobody has looked at.
#[derive(Debug)]
pub(crate) struct GossipCommitment {
    pub(crate) ssz: Bytes,
    pub(crate) arrival: Arrival,
    pub(crate) from: PeerId,
    /// Owed to the network, if it is gossip of a network.
    pub(crate) verdict: Option<VerdictToken>,
    /// Goes with the message from its arrival to its event.
    pub(crate) span: Span,
}

impl AsRef<[u8]> for GossipCommitment {
    fn as_ref(&self) -> &[u8] {
        &self.ssz
    }
}

/// The state that only the owner touches.
pub(crate) struct ChainProcessor {
    store: Arc<dyn SdkStorage>,
    validator: Validator,
    pending: PendingPool<Candidate>,
    held: HeldTxLists,
    missing_txlists: MissingTxLists,
    promises: ForwardingMemory,
    /// Signers that have been elected lately.
    signers: LruMap<Address, ()>,
    staged: Staging,
    /// Lists of the application's own blocks that are being stored with them.
    own_lists: HashMap<B256, TxList>,
    /// Blocks of the batch that is being stored, until their lists have been looked for.
    applied: Vec<Applied>,
    witness: Witness,
    handovers: Handovers,
    /// What L1 has replaced, as told last.
    replaced: Option<l1::Replaced>,
    /// The application's promises for windows that ended before this are forgotten.
    promises_until: UnixSeconds,
    /// What is wrong with the store, if anything is.
    store_health: StoreHealth,
    /// What waits has changed, and catch-up has not been told.
    waiting_changed: bool,
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

impl ChainProcessor {
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
            held: HeldTxLists::new(config.held()),
            missing_txlists: MissingTxLists::default(),
            promises: ForwardingMemory::new(config.promises),
            signers: LruMap::new(ByLength::new(SIGNERS)),
            staged: Staging::default(),
            own_lists: HashMap::new(),
            applied: Vec::new(),
            witness: Witness::new(WitnessLimits::default()),
            handovers: Handovers::new(HANDOVERS),
            replaced: None,
            promises_until: UnixSeconds::default(),
            store_health: StoreHealth::default(),
            waiting_changed: false,
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
    pub(crate) fn process(&mut self, at: Moment, jobs: Vec<Command>) -> Effects {
        (self.now, self.unix, self.reference) = (at.now, at.unix, at.reference);
        let silent = jobs.iter().all(Command::is_silent);
        for job in jobs {
            match self.job(job) {
                Ok(()) => {}
                // Time can cure it: what was not stored comes again.
                Err(error) if error.is_retryable() => self.abandon(&error),
                Err(error) => {
                    tracing::error!(%error, "the store failed");
                    self.effects.fatal = Some(error);
                    break;
                }
            }
        }
        if std::mem::take(&mut self.waiting_changed) {
            self.effects.inputs.push(Input::Waiting { highest: self.pending.highest() });
        }
        if !silent {
            self.measure();
        }
        std::mem::take(&mut self.effects)
    }

    fn measure(&mut self) {
        self.metrics.pending(self.pending.counts(), self.missing_txlists.len(), self.held.bytes());
        match self.store.stats() {
            Ok(stats) => {
                self.metrics.storage(stats);
                self.fills(stats.commitments);
            }
            Err(error) => tracing::debug!(%error, "the store does not tell its size"),
        }
    }

    /// When the next thing that waits is to be given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.next_deadline()
    }

    /// Whether anything waits for the lookahead, or for its time.
    pub(crate) const fn waits_for_time(&self) -> bool {
        self.pending.waits_for_time()
    }

    fn job(&mut self, job: Command) -> Result<(), StorageError> {
        match job {
            Command::Gossip(arrived) => self.gossip(arrived)?,
            Command::Publish { commitment, txlist, acknowledged, reply, span, .. } => {
                let entered = span.entered();
                let judged = match self.local(*commitment, txlist, acknowledged.as_deref()) {
                    Err(error) if error.is_retryable() => {
                        self.abandon(&error);
                        PublishDecision::Failed(error)
                    }
                    judged => judged?,
                };
                if let Some(outcome) = judged.refusal() {
                    entered.record("outcome", outcome);
                }
                self.effects.responses.push(Response::Published(reply, judged));
            }
            Command::TxLists(lists) => self.txlists(lists)?,
            Command::Import { id, from, page } => {
                let verdict = match self.import(from, page) {
                    Err(error) if error.is_retryable() => {
                        self.abandon(&error);
                        ImportVerdict::Deferred
                    }
                    verdict => verdict?,
                };
                let head = self.store.head()?;
                self.effects.inputs.push(Input::Imported { id, head, verdict });
            }
            Command::SetBase { base, open, reply } => {
                let done = self.set_base(base, open);
                self.effects.responses.push(Response::Base(reply, done.clone()));
                done?;
            }
            Command::L1Head(head) => self.validator.set_l1_head(Some(head)),
            Command::L1Reorg { anchor, reply } => {
                let reorg = self.l1_reorg(anchor);
                self.effects.responses.push(Response::L1Reorg(reply, reorg.clone()));
                reorg?;
            }
            Command::L1Restored { anchor, reply } => {
                let done = self.l1_restored(anchor);
                self.effects.responses.push(Response::Base(reply, done.clone()));
                done?;
            }
            Command::Unreadable { block, hash } => self.unreadable(block, hash)?,
            Command::Expected { moment, reply } => {
                let expected = self.handovers.expected(self.validator.lookahead(), moment);
                // Whoever asked may have gone.
                reply.send(expected).ok();
            }
            Command::Status(status) => self.emit(SdkEvent::Status { status }),
            Command::Tick => self.tick()?,
            Command::WarmUp => self.warm_up()?,
        }
        Ok(())
    }

    /// Tells everybody. In the span of the message that brought it about, which ends with this.
    fn emit(&mut self, event: SdkEvent) {
        tracing::debug!(event = event.label(), "tells");
        self.effects.events.push(event);
    }

    /// Tells of the head if a job has moved it.
    fn head_moved(&mut self, before: Option<Head>) -> Result<(), StorageError> {
        let head = self.store.head()?;
        if head != before {
            self.emit(SdkEvent::Head { head });
            self.effects.inputs.push(Input::Applied { head });
            self.metrics.head(head);
        }
        Ok(())
    }

    /// What is settled has moved; `open`: catch-up may start. Costs what has changed, but for the first time.
    fn set_base(&mut self, base: Base, open: bool) -> Result<(), StorageError> {
        let before = (self.store.base()?, self.store.head()?);
        let update = self.store.set_base(base)?;
        self.storage_works();
        for (block, hash) in self.missing_txlists.settle(base.number, &[]) {
            self.effects.inputs.push(Input::TxListUnwanted { block, hash });
        }
        self.moved(update)?;
        let opens = open && !self.open;
        self.open |= open;
        if self.open {
            // What is in the store already may still lack its transaction lists.
            let known = if opens { BlockNumber::MAX } else { before.0.map_or(0, |before| before.number) };
            self.request_missing_lists(base.next(), known)?;
            let head = self.store.head()?;
            self.effects.inputs.push(if opens {
                Input::Start { base: base.number, head }
            } else {
                Input::Settled { base: base.number }
            });
            // The base links what stands on it, and settles what is below.
            let waiting = self.pending.take_up_to(base.next());
            self.taken(&waiting);
            self.work_off(waiting.into())?;
        }
        self.head_moved(before.1)
    }

    /// Asks for the lists that blocks of these heights lack.
    fn request_missing_lists(&mut self, from: BlockNumber, through: BlockNumber) -> Result<(), StorageError> {
        let mut from = from;
        while from <= through {
            let page = self.store.range(from, 256)?;
            let Some(last) = page.last() else { break };
            from = last.block.saturating_add(1);
            for stored in page.iter().filter(|stored| stored.block <= through) {
                if !self.store.contains(&stored.txlist_hash())? {
                    self.request_list(stored, false);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
