//! Batches of jobs for the owner of the chain, and what comes of them.

use p2p_storage::SeenCache;
use p2p_types::{SdkEvent, UnixSeconds};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::{Service, now};
use crate::{
    P2pClientError,
    chain::{Answer, Chain, Effects},
};

/// Where the chain is: here, or with the thread that works on it.
pub(super) enum Owner {
    Idle(Box<Chain>),
    Busy(JoinHandle<(Box<Chain>, Effects)>),
    /// The thread died and took the chain with it.
    Lost,
}

impl Service {
    /// Hands what has gathered to the owner of the chain, if it is not at work.
    pub(super) fn start_batch(&mut self) {
        let nothing = self.commanded.is_empty() && (self.paused || self.jobs.is_empty());
        if nothing || !matches!(self.owner, Owner::Idle(_)) {
            return;
        }
        let mut jobs = std::mem::take(&mut self.commanded);
        if !self.paused {
            jobs.append(&mut self.jobs);
        }
        self.owner = match std::mem::replace(&mut self.owner, Owner::Lost) {
            Owner::Idle(mut chain) => {
                let (now, unix, reference) = (now(), self.config.clock.now(), self.reference());
                Owner::Busy(spawn_blocking(move || {
                    let effects = chain.process(now, unix, reference, jobs);
                    (chain, effects)
                }))
            }
            other => other,
        };
    }

    pub(super) fn finish_batch(
        &mut self,
        done: Result<(Box<Chain>, Effects), JoinError>,
    ) -> Result<Effects, P2pClientError> {
        let Ok((chain, effects)) = done else {
            self.owner = Owner::Lost;
            return Err(P2pClientError::Join("chain"));
        };
        self.chain_deadline = chain.next_deadline();
        self.owner = Owner::Idle(chain);
        Ok(effects)
    }

    pub(super) fn apply(&mut self, effects: Effects) -> Result<(), P2pClientError> {
        // What a handle reads is never behind the events that it has been told.
        let head = effects.events.iter().rev().find_map(|event| match event {
            SdkEvent::Head { head } => Some(*head),
            _ => None,
        });
        if let Some(head) = head {
            self.state.send_modify(|state| state.head = head);
        }
        if effects.forget_seen {
            self.seen = SeenCache::new(self.config.memory.seen, self.config.memory.seen_ttl);
        }
        for id in effects.seen {
            self.seen.insert(now(), id);
        }
        if !effects.events.is_empty() {
            self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
        for event in effects.events {
            if let SdkEvent::Commitment { block, commitment, .. } = &event {
                let timestamp = u64::try_from(commitment.signed().preconf().timestamp).unwrap_or(u64::MAX);
                self.newest = Some((*block, UnixSeconds::new(timestamp)));
            }
            self.emit(event);
        }
        for (peer, offence) in effects.reports {
            self.asker.network.report(peer, offence);
        }
        for input in effects.inputs {
            self.catch_up(input);
        }
        effects.answers.into_iter().for_each(Answer::give);
        effects.fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Tells everybody. If that leaves a lossless reader behind, intake stops.
    pub(super) fn emit(&mut self, event: SdkEvent) {
        if let SdkEvent::Status { status } = event {
            self.asker.metrics.status(&status);
            self.state.send_modify(|state| state.status = status);
        }
        self.taps.push(&event);
        // An error only says that nobody subscribes.
        drop(self.events.send(event));
        let waiting = self.taps.backlog();
        if waiting > 0 && !self.paused {
            self.pause(true, waiting);
        }
    }

    /// A lossless reader has read, or gone. Intake goes on once none is behind.
    pub(super) fn resume(&mut self) {
        if self.taps.backlog() == 0 {
            self.pause(false, 0);
        }
    }

    fn pause(&mut self, paused: bool, waiting: usize) {
        self.paused = paused;
        self.state.send_modify(|state| state.paused = paused);
        self.asker.metrics.paused(paused);
        tracing::debug!(paused, waiting, "a handler decides about intake");
        self.emit(SdkEvent::Backpressure { paused, waiting });
    }

    pub(super) fn measure(&self) {
        let lag = self.taps.lag().max(self.events.len());
        let queues = [
            ("commanded", self.commanded.len()),
            ("commands", self.commands.len()),
            ("commitments", self.commitments.len()),
            ("txlists", self.txlists.len()),
            ("jobs", self.jobs.len()),
        ];
        self.asker.metrics.queues(queues, lag);
    }
}

/// The end of the batch at work; never, if none is.
pub(super) async fn batch_done(owner: &mut Owner) -> Result<(Box<Chain>, Effects), JoinError> {
    match owner {
        Owner::Busy(batch) => batch.await,
        Owner::Idle(_) | Owner::Lost => std::future::pending().await,
    }
}
