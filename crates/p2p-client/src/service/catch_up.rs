//! Drives the sync machine: feeds it what happened, does what it asks for.

use std::time::Instant;

use p2p_catchup::{Failure, Input, Output, Reply, RequestId};
use p2p_types::{BlockNumber, HeadSyncStatus, Origin, PeerId};

use super::{Service, now};
use crate::chain::{Command, MAX_AHEAD, VerifiedTxList};

impl Service {
    /// An answer to catch-up. What a head claims is bounded by what the schedule allows: a block has a second of
    /// its own, give or take what gossip is granted too.
    pub(super) fn replied(&mut self, id: RequestId, from: PeerId, reply: Reply) {
        if matches!(reply, Reply::Head { .. })
            && let Some((newest, at)) = self.newest
        {
            let seconds = self.config.clock.now().get().saturating_sub(at.get());
            let block = newest.saturating_add(seconds).saturating_add(MAX_AHEAD);
            self.catch_up(Input::Ceiling { block });
        }
        self.catch_up(Input::Reply { id, from, reply });
    }

    /// Feeds the sync machine and does what it asks for.
    pub(super) fn catch_up(&mut self, input: Input) {
        self.machine.handle(now(), input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { id, to, request } => {
                    let requester = self.requester.clone();
                    let reply = self.tasks.spawn(async move { requester.reply(to, request).await });
                    self.requests.push(Box::pin(async move {
                        let reply = reply.await.unwrap_or(Reply::Failed(Failure::NotAnswered));
                        (id, to, reply)
                    }));
                }
                Output::Import { id, from, page } => {
                    self.worker.inbox.push(Command::Import { id, from, page })
                }
                Output::TxList { from, txlist } => {
                    let span = tracing::debug_span!("txlist", peer = %from, hash = %txlist.hash());
                    let origin = Origin::Sync(from);
                    self.worker.inbox.push_txlist(VerifiedTxList { txlist, origin, verdict: None, span });
                }
                Output::Report { peer, offence } => self.requester.network.report(peer, offence),
                // Behind the commands that it builds on: what is said to be here is in the store by then.
                Output::Status(status) => self.worker.inbox.push(Command::Status(status)),
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.machine.next_deadline(), self.worker.deadline(), self.reorgs.deadline()];
        deadlines.into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self) {
        let now = now();
        if self.worker.deadline().is_some_and(|deadline| deadline <= now) {
            self.worker.inbox.tick_if_empty();
        }
        if self.reorgs.deadline().is_some_and(|deadline| deadline <= now) {
            self.release_reorgs();
        }
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.catch_up(Input::Tick);
        }
    }

    pub(super) fn retry_schedule(&mut self) {
        if self.worker.waits_for_time() && !self.ingestion_paused {
            self.worker.inbox.push(Command::Tick);
        }
    }

    /// The best known height, by which what gossip claims is judged plausible.
    pub(super) fn reference(&self) -> Option<BlockNumber> {
        match self.machine.status() {
            HeadSyncStatus::Live { head } => head.map(|head| head.number),
            HeadSyncStatus::Syncing { applied, seen, target, .. } => Some(applied.max(seen).max(target)),
            HeadSyncStatus::Stalled { applied, target, .. } => Some(applied.max(target)),
            _ => None,
        }
    }
}
