//! Drives the sync machine: feeds it what happened, does what it asks for.

use std::time::Instant;

use p2p_catchup::{Failure, Input, Output, Reply, RequestId};
use p2p_types::{BlockNumber, HeadSyncStatus, Origin, PeerId};

use super::{Service, batch::Owner, now};
use crate::chain::{Job, Listed, MAX_AHEAD};

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
                    let asker = self.asker.clone();
                    let reply = self.tasks.spawn(async move { asker.reply(to, request).await });
                    self.requests.push(Box::pin(async move {
                        let reply = reply.await.unwrap_or(Reply::Failed(Failure::NotAnswered));
                        (id, to, reply)
                    }));
                }
                Output::Import { id, from, page } => self.jobs.push(Job::Import { id, from, page }),
                Output::TxList { from, txlist } => {
                    let span = tracing::debug_span!("txlist", peer = %from, hash = %txlist.hash());
                    self.listed.push(Listed { txlist, origin: Origin::Sync(from), verdict: None, span });
                }
                Output::Report { peer, offence } => self.asker.network.report(peer, offence),
                // Behind the jobs that it builds on: what is said to be here is in the store by then.
                Output::Status(status) => {
                    self.jobs.pop_if(|last| matches!(last, Job::Status(_)));
                    self.jobs.push(Job::Status(status));
                }
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let chain = matches!(self.owner, Owner::Idle(_)).then_some(self.chain_deadline).flatten();
        [self.machine.next_deadline(), chain].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self) {
        let now = now();
        if self.chain_deadline.is_some_and(|deadline| deadline <= now) && self.jobs.is_empty() {
            self.jobs.push(Job::Tick);
        }
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.catch_up(Input::Tick);
        }
    }

    pub(super) fn retry_schedule(&mut self) {
        if let Owner::Idle(chain) = &self.owner
            && chain.waits_for_time()
            && !self.paused
        {
            self.jobs.push(Job::Tick);
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
