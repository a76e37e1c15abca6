//! The chain worker: an inbox of commands for the chain processor, and the one thread at a time that drains it.
//!
//! Each drain of the inbox is a batch, so that a store on disk syncs once for all that has come meanwhile. A batch runs on
//! Tokio's blocking pool, not on a thread of its own: a test's paused clock stands still while a blocking task runs, and a
//! batch that costs less than waking a thread is processed in place where the store waits for no device.

use std::{sync::Arc, time::Instant};

use p2p_storage::SdkStorage;
use tokio::task::{JoinError, JoinHandle};

use crate::{
    Component, P2pClientError,
    blocking::spawn_blocking,
    chain::{ChainProcessor, Command, Effects, GossipCommitment, Moment, VerifiedTxList},
};

/// Most microseconds of work that are done in place: four signatures, a few times what it costs to wake a thread.
const IN_PLACE_MICROS: usize = 250;

type Done = (Box<ChainProcessor>, Effects);

/// Where the processor is.
enum Processor {
    /// Here.
    Idle(Box<ChainProcessor>),
    /// On the thread that runs a batch.
    Running(JoinHandle<Done>),
    /// Gone with a thread that panicked.
    Lost,
}

pub(super) struct ChainWorker {
    processor: Processor,
    store: Arc<dyn SdkStorage>,
    pub(super) inbox: Inbox,
    /// When something in the processor's pending pool is due.
    deadline: Option<Instant>,
}

/// What waits for the next batch.
#[derive(Default)]
pub(super) struct Inbox {
    /// From the application: drained first, and while ingestion is paused.
    application: Vec<Command>,
    /// From catch-up and the timers, in order.
    internal: Vec<Command>,
    txlists: Vec<VerifiedTxList>,
    commitments: Vec<GossipCommitment>,
}

impl Inbox {
    pub(super) fn push_from_application(&mut self, command: Command) {
        self.application.push(command);
    }

    /// Adds a command from catch-up. A status that nothing follows is out of date once there is another.
    pub(super) fn push(&mut self, command: Command) {
        if matches!(command, Command::Status(_)) {
            self.internal.pop_if(|last| matches!(last, Command::Status(_)));
        }
        self.internal.push(command);
    }

    /// Adds a tick, unless other commands wait: it comes again.
    pub(super) fn tick_if_empty(&mut self) {
        if self.internal.is_empty() {
            self.internal.push(Command::Tick);
        }
    }

    pub(super) fn push_txlist(&mut self, txlist: VerifiedTxList) {
        self.txlists.push(txlist);
    }

    pub(super) fn push_commitment(&mut self, commitment: GossipCommitment) {
        self.commitments.push(commitment);
    }

    /// Commands of the application that wait.
    pub(super) const fn application_commands(&self) -> usize {
        self.application.len()
    }

    /// Commands of catch-up and transaction lists that wait.
    pub(super) const fn ingested(&self) -> usize {
        self.internal.len() + self.txlists.len()
    }

    /// Commitments of gossip that wait.
    pub(super) const fn commitments(&self) -> usize {
        self.commitments.len()
    }

    /// Takes out the next batch: what the application asks, then, unless ingestion is paused, what came in.
    fn drain(&mut self, ingestion_paused: bool) -> Vec<Command> {
        let mut batch = std::mem::take(&mut self.application);
        if !ingestion_paused {
            // First, as statuses build on them.
            if !self.txlists.is_empty() {
                batch.push(Command::TxLists(std::mem::take(&mut self.txlists)));
            }
            // Before pages, which are long: the network waits for a verdict.
            if !self.commitments.is_empty() {
                batch.push(Command::Gossip(std::mem::take(&mut self.commitments)));
            }
            batch.append(&mut self.internal);
        }
        batch
    }
}

impl ChainWorker {
    pub(super) fn new(processor: ChainProcessor, store: Arc<dyn SdkStorage>) -> Self {
        let processor = Processor::Idle(Box::new(processor));
        Self { processor, store, inbox: Inbox::default(), deadline: None }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.processor, Processor::Idle(_))
    }

    /// When something in the pending pool is due, unless a batch runs that may change it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.is_idle())
    }

    /// Whether anything waits for the schedule or for its time.
    pub(super) fn waits_for_time(&self) -> bool {
        matches!(&self.processor, Processor::Idle(processor) if processor.waits_for_time())
    }

    /// Drains the inbox into a batch and runs it, unless one runs. Returns the effects of one that was run in place, none
    /// where there was nothing to do or [`finished`](Self::finished) will return them.
    pub(super) fn run(&mut self, at: Moment, ingestion_paused: bool) -> Option<Effects> {
        if !self.is_idle() {
            return None;
        }
        let batch = self.inbox.drain(ingestion_paused);
        if batch.is_empty() {
            return None;
        }
        let in_place = self.is_small(&batch);
        let idle = std::mem::replace(&mut self.processor, Processor::Lost);
        let Processor::Idle(mut processor) = idle else { return None };
        let work = move || {
            let effects = processor.process(at, batch);
            (processor, effects)
        };
        if in_place {
            return Some(self.idle(work()));
        }
        self.processor = Processor::Running(spawn_blocking(work));
        None
    }

    /// Whether waking a thread would take longer than the work. Where catch-up stands is emitted without the store.
    fn is_small(&self, batch: &[Command]) -> bool {
        let micros: Option<usize> = batch.iter().map(Command::micros).sum();
        batch.iter().all(Command::is_silent)
            || (self.store.is_immediate() && micros.is_some_and(|micros| micros <= IN_PLACE_MICROS))
    }

    /// Waits for the running batch; indefinitely, if none runs. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<Effects, P2pClientError> {
        let done = match &mut self.processor {
            Processor::Running(batch) => batch.await,
            Processor::Idle(_) | Processor::Lost => std::future::pending().await,
        };
        self.processor = Processor::Lost;
        Ok(self.idle(done.map_err(died)?))
    }

    fn idle(&mut self, (processor, effects): Done) -> Effects {
        self.deadline = processor.next_deadline();
        self.processor = Processor::Idle(processor);
        effects
    }

    /// Ends: waits for the running batch, if any, and drops what waits in the inbox.
    pub(super) async fn shut_down(self) -> Result<(), P2pClientError> {
        drop(self.inbox);
        match self.processor {
            Processor::Running(batch) => batch.await.map(drop).map_err(died),
            Processor::Idle(_) | Processor::Lost => Ok(()),
        }
    }
}

fn died(_: JoinError) -> P2pClientError {
    P2pClientError::Panicked(Component::Chain)
}

#[cfg(test)]
mod tests {
    use p2p_types::{Bytes, HeadSyncStatus, PeerId, UnixSeconds};
    use p2p_validation::Arrival;
    use tracing::Span;

    use super::*;

    #[test]
    fn gossip_goes_before_catch_up_and_what_the_application_asks_before_both() {
        let from = PeerId::from_bytes(&[0, 1, 1]).unwrap();
        let mut inbox = Inbox::default();
        inbox.tick_if_empty();
        inbox.push(Command::Status(HeadSyncStatus::Idle));
        let arrival = Arrival::Live(UnixSeconds::new(1));
        let ssz = Bytes::new();
        inbox.push_commitment(GossipCommitment { ssz, arrival, from, verdict: None, span: Span::none() });
        inbox.push_from_application(Command::L1Head(1));
        assert!(matches!(inbox.drain(true)[..], [Command::L1Head(1)]));
        assert!(matches!(inbox.drain(false)[..], [Command::Gossip(_), Command::Tick, Command::Status(_)]));
        assert!(inbox.drain(false).is_empty());
    }
}
