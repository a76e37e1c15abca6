//! The chain processor: judges commitments against the schedule and the chain, and keeps the chain in a store.
//!
//! It has two parts: the pure [`Judge`], and the [`Ledger`], which alone writes to the store. It is synchronous and has no
//! clock; the service's chain worker runs one batch of [`Command`]s at a time, and applies the [`Effects`].

mod command;
mod effects;
mod forwarding;
#[cfg(feature = "test-utils")]
pub mod fuzz;
mod gossip;
mod guard;
mod judge;
mod l1;
mod ledger;
mod page;
mod pending;
mod publish;
mod schedule;
mod settle;
mod settlement;
mod warm_up;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_catchup::ImportVerdict;
use p2p_storage::{PendingPool, SdkStorage, StorageError};
use p2p_types::{Base, BlockNumber, Origin, UnixSeconds};
use p2p_validation::{Arrival, Authenticated, Missing, Validator};
use preconfirmation_p2p::VerdictToken;
use tracing::Span;

use crate::{config::MemoryConfig, metrics::Metrics};
use forwarding::ForwardingMemory;
use judge::Judge;
use ledger::Ledger;
use schedule::Reconsidered;

pub(crate) use command::{Command, GossipCommitment, PublishDecision, Response, VerifiedTxList};
pub(crate) use effects::Effects;
pub(crate) use gossip::soft;
pub(crate) use judge::MAX_AHEAD;
pub(crate) use l1::Rejudged;
pub use l1::{L1Reorg, ScheduleReorg};
pub(crate) use settlement::{Refuted, Settlement};

/// When a batch is processed, and what is known by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix: UnixSeconds,
    /// The highest height that peers or elected preconfers have shown; none until catch-up knows.
    pub(crate) reference: Option<BlockNumber>,
}

/// A commitment of gossip on its way up the ladder.
#[derive(Debug)]
struct Candidate {
    commitment: Authenticated,
    arrival: Arrival,
    origin: Origin,
    /// Owed to the network, until it has been given.
    verdict: Option<VerdictToken>,
    /// What it waits for, while it does.
    missing: Option<Missing>,
    /// When it arrived.
    since: Instant,
    /// It has been screened: it counts among the promises of its signer.
    screened: bool,
    /// Goes with the message from its arrival to its event.
    span: Span,
}

/// Judges commitments and keeps the chain.
pub(crate) struct ChainProcessor {
    judge: Judge,
    ledger: Ledger,
    pending: PendingPool<Candidate>,
    reconsidered: Reconsidered,
    /// The base that catch-up knows, once the application has said that it may start.
    settled: Option<BlockNumber>,
    /// How far back the messages in the store count as seen.
    seen_ttl: Duration,
    /// Invalid gossip costs nobody.
    soft_fail: bool,
    metrics: Arc<Metrics>,
}

impl ChainProcessor {
    pub(crate) fn new(
        store: Arc<dyn SdkStorage>,
        validator: Validator,
        config: &MemoryConfig,
        soft_fail: bool,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            judge: Judge::new(validator, ForwardingMemory::new(config.promises)),
            ledger: Ledger::new(store, config.held()),
            pending: PendingPool::new(config.pending),
            reconsidered: Reconsidered::default(),
            settled: None,
            seen_ttl: config.seen_ttl,
            soft_fail,
            metrics,
        }
    }

    /// Processes a batch of commands, in order.
    pub(crate) fn process(&mut self, at: Moment, batch: Vec<Command>) -> Effects {
        let mut out = Effects::new(self.metrics.clone());
        self.judge.replaced.set_clock(at.unix);
        let silent = batch.iter().all(Command::is_silent);
        for command in batch {
            let done = self.command(at, command, &mut out);
            match done.and_then(|()| if silent { Ok(()) } else { self.ledger.report_head(&mut out) }) {
                Ok(()) => {}
                // Time can cure it: what was not stored comes again.
                Err(error) if error.is_retryable() => self.ledger.abandon(&error, &mut out),
                Err(error) => {
                    tracing::error!(%error, "the store failed");
                    out.fatal = Some(error);
                    break;
                }
            }
        }
        out.finish(self.pending.highest());
        if !silent {
            let (missing, orphan_bytes) = self.ledger.txlist_counts();
            out.measure_pending(self.pending.counts(), missing, orphan_bytes);
            self.ledger.measure(&mut out);
        }
        out
    }

    /// When the next thing that waits is to be given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.next_deadline()
    }

    /// Whether anything waits for the lookahead, or for its time.
    pub(crate) fn waits_for_time(&self) -> bool {
        self.pending.waits_for_time() || self.reconsidered.waits()
    }

    fn command(&mut self, at: Moment, command: Command, out: &mut Effects) -> Result<(), StorageError> {
        match command {
            Command::Gossip(arrived) => self.gossip(at, arrived, out)?,
            Command::Publish { commitment, txlist, acknowledged, reply, span, .. } => {
                let entered = span.entered();
                let decision = match self.publish(at, *commitment, txlist, acknowledged.as_deref(), out) {
                    Err(error) if error.is_retryable() => {
                        self.ledger.abandon(&error, out);
                        PublishDecision::Failed(error)
                    }
                    decision => decision?,
                };
                if let Some(outcome) = decision.refusal() {
                    entered.record("outcome", outcome);
                }
                out.responses.push(Response::Published(reply, decision));
            }
            Command::Permit { draft, record, on_head, acknowledged, reply, .. } => {
                let permitted = self.permit(at, &draft, on_head, record, acknowledged.as_deref());
                let decision = match permitted {
                    Err(error) if error.is_retryable() => {
                        self.ledger.abandon(&error, out);
                        PublishDecision::Failed(error)
                    }
                    decision => decision?,
                };
                out.responses.push(Response::Published(reply, decision));
            }
            Command::TxLists(lists) => self.txlists(at, lists, out)?,
            Command::Import { id, from, page } => {
                let imported = self.import(at, from, page, out);
                // Catch-up knows the new head before it is told what the page brought.
                let reported = imported.and_then(|verdict| self.ledger.report_head(out).map(|()| verdict));
                let verdict = match reported {
                    Err(error) if error.is_retryable() => {
                        self.ledger.abandon(&error, out);
                        ImportVerdict::Deferred
                    }
                    verdict => verdict?,
                };
                out.imported(id, self.ledger.reported_head(), verdict);
            }
            Command::SetBase { base, open, reply } => {
                let done = self.set_base(at, base, open, out);
                out.responses.push(Response::Base(reply, done.clone()));
                done?;
            }
            Command::Settle { settlement, reply } => {
                let done = self.settle(at, *settlement, out);
                out.responses.push(Response::Base(reply, done.clone()));
                done?;
            }
            Command::L1Head(head) => self.judge.validator.set_l1_head(Some(head)),
            Command::L1Reorg { anchor, reply } => {
                let reorg = self.l1_reorg(at, anchor, out);
                out.responses.push(Response::L1Reorg(reply, reorg.clone()));
                reorg?;
            }
            Command::L1Restored { anchor, reply } => {
                let done = self.l1_restored(anchor, out);
                out.responses.push(Response::Base(reply, done.clone()));
                done?;
            }
            Command::ScheduleChanged { since, from, reply } => {
                let rejudged = self.schedule_changed(at, since, from, out);
                out.responses.push(Response::Rejudged(reply, rejudged.clone()));
                rejudged?;
            }
            Command::Unreadable { hash } => self.ledger.unreadable(hash, out)?,
            Command::Expected { moment, reply } => {
                let expected = self.judge.handovers.expected(self.judge.validator.lookahead(), moment);
                // Whoever asked may have gone.
                reply.send(expected).ok();
            }
            Command::Status(status) => out.status(status),
            Command::Tick => self.tick(at, out)?,
            Command::WarmUp => self.warm_up(at, out)?,
        }
        Ok(())
    }

    /// Takes out of the chain every block above the base whose anchor is at or above `anchor`, with all that
    /// stand on it. They stay in the store, as their signers have signed them, and come back only below a block that
    /// was signed after this, or when their anchors are canonical again: a copy that a peer still has says nothing.
    fn l1_reorg(
        &mut self,
        at: Moment,
        anchor: BlockNumber,
        out: &mut Effects,
    ) -> Result<L1Reorg, StorageError> {
        self.judge.replaced.add(anchor, at.unix);
        self.ledger.withdraw(anchor, out)
    }

    /// The L1 blocks from `anchor` on are canonical again: what was taken out for their sake counts as before.
    fn l1_restored(&mut self, anchor: BlockNumber, out: &mut Effects) -> Result<(), StorageError> {
        self.judge.replaced.restore(anchor);
        self.ledger.reinstate(anchor, out)
    }

    /// What is settled has moved; `open`: catch-up may start. Costs what has changed, but for the first time.
    fn set_base(
        &mut self,
        at: Moment,
        base: Base,
        open: bool,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        self.ledger.set_base(base, out)?;
        self.base_moved(at, base, open, out)
    }

    /// The store has a new base.
    fn base_moved(
        &mut self,
        at: Moment,
        base: Base,
        open: bool,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        if open || self.settled.is_some() {
            // What is in the store already may still lack its transaction lists.
            let looked_through = self.settled.unwrap_or(BlockNumber::MAX);
            self.ledger.report_missing_in(base.next(), looked_through, out)?;
            self.ledger.report_head(out)?;
            match self.settled.replace(base.number) {
                None => out.start(base.number, self.ledger.reported_head()),
                Some(_) => out.settled(base.number),
            }
            // The base links what stands on it, and settles what is below.
            let waiting = self.pending.take_up_to(base.next());
            self.waits_no_more(&waiting, out);
            self.judge_all(at, waiting.into(), out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
