//! Batches of jobs for the owner of the chain, and what comes of them.

use p2p_types::{SdkEvent, UnixSeconds};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::{Service, now};
use crate::{
    P2pClientError,
    chain::{Answer, Chain, Effects, Job},
};

/// Where the chain is: here, or with the thread that works on it.
pub(super) enum Owner {
    Idle(Box<Chain>),
    Busy(JoinHandle<(Box<Chain>, Effects)>),
    /// The thread died and took the chain with it.
    Lost,
}

/// What takes no more microseconds is done in the task that waits, where the store lets it: four signatures, a few
/// times what it costs to wake a thread.
const IN_PLACE: usize = 250;

impl Service {
    /// Hands what has gathered to the owner of the chain, if it is not at work.
    pub(super) fn start_batch(&mut self) -> Result<(), P2pClientError> {
        while matches!(self.owner, Owner::Idle(_)) {
            let jobs = self.gathered();
            if jobs.is_empty() {
                return Ok(());
            }
            let in_place = self.is_small(&jobs);
            let (now, unix, reference) = (now(), self.config.clock.now(), self.reference());
            let Owner::Idle(mut chain) = std::mem::replace(&mut self.owner, Owner::Lost) else { continue };
            let work = move || {
                let effects = chain.process(now, unix, reference, jobs);
                (chain, effects)
            };
            if in_place {
                let effects = self.finish_batch(Ok(work()))?;
                self.apply(effects)?;
            } else {
                self.owner = Owner::Busy(spawn_blocking(work));
            }
        }
        Ok(())
    }

    /// What is to be done next: what the application asks, then what came in, unless intake is paused.
    fn gathered(&mut self) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.commanded);
        if !self.paused {
            // First, as statuses build on them.
            if !self.listed.is_empty() {
                jobs.push(Job::TxLists(std::mem::take(&mut self.listed)));
            }
            jobs.append(&mut self.jobs);
            if !self.commitments.is_empty() {
                jobs.push(Job::Gossip(std::mem::take(&mut self.commitments)));
            }
        }
        jobs
    }

    /// Whether waking a thread would take longer than the work. Where catch-up stands is told without the store.
    fn is_small(&self, jobs: &[Job]) -> bool {
        let micros: Option<usize> = jobs.iter().map(Job::micros).sum();
        jobs.iter().all(Job::is_silent)
            || (self.store.is_immediate() && micros.is_some_and(|micros| micros <= IN_PLACE))
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
        for id in effects.unseen {
            self.seen.remove(&id);
        }
        for id in effects.seen {
            self.seen.insert(now(), id);
        }
        if !effects.events.is_empty() {
            self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
        for timing in effects.timings {
            self.skew.note(now(), timing);
        }
        for event in effects.events {
            if let SdkEvent::Commitment { block, commitment, .. } = &event {
                let timestamp = u64::try_from(commitment.signed().preconf().timestamp).unwrap_or(u64::MAX);
                self.newest = Some((*block, UnixSeconds::new(timestamp)));
            }
            self.emit(event);
        }
        for input in effects.inputs {
            self.catch_up(input);
        }
        effects.answers.into_iter().for_each(Answer::give);
        effects.fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Tells everybody. If that leaves a lossless reader behind, intake stops.
    pub(super) fn emit(&mut self, event: SdkEvent) {
        self.tell(event);
        let waiting = self.taps.backlog();
        if waiting > 0 && !self.paused {
            self.pause(true, waiting);
        }
    }

    fn tell(&mut self, mut event: SdkEvent) {
        if let SdkEvent::Status { status } = &mut event {
            self.claimed = std::mem::replace(status, self.skew.honest(*status, self.config.clock.now()));
            self.asker.metrics.status(status);
            self.state.send_modify(|state| state.status = *status);
        }
        if let SdkEvent::Storage { trouble } = &event {
            self.state.send_modify(|state| state.storage.clone_from(trouble));
        }
        self.taps.push(&event);
        // An error only says that nobody subscribes.
        drop(self.events.send(event));
    }

    /// A lossless reader has read, or gone. Intake goes on once none is behind.
    pub(super) fn resume(&mut self) {
        if self.paused && self.taps.backlog() == 0 {
            self.pause(false, 0);
        }
    }

    /// Says what preconfers' timestamps say of our clock, where that has changed.
    pub(super) fn check_clock(&mut self) {
        let Some(check) = self.skew.update(now()) else { return };
        let before = self.state.borrow().clock;
        self.state.send_modify(|state| state.clock = check);
        self.asker.metrics.clock(&check);
        match (before.is_off || before.is_unusable, check.is_off || check.is_unusable, check.offset) {
            (false, true, Some(offset)) => tracing::warn!(
                offset,
                too_early_or_late = check.is_unusable,
                "what preconfers sign arrives {offset} s after its timestamp: is the clock of this host right (NTP)?"
            ),
            (true, false, offset) => {
                tracing::info!(offset, "the clock of this host agrees with preconfers again")
            }
            _ => {}
        }
        if before.is_unusable != check.is_unusable {
            self.emit(SdkEvent::Status { status: self.claimed });
        }
    }

    fn pause(&mut self, paused: bool, waiting: usize) {
        self.paused = paused;
        self.state.send_modify(|state| state.paused = paused);
        self.asker.metrics.paused(paused);
        tracing::debug!(paused, waiting, "a handler decides about intake");
        // That intake goes on does not stop it again where a reader has no room for more than this: each time something
        // is taken in.
        self.tell(SdkEvent::Backpressure { paused, waiting });
    }

    pub(super) fn measure(&self) {
        let lag = self.taps.lag().max(self.events.len());
        let queues = [
            ("commanded", self.commanded.len()),
            ("commands", self.commands.len()),
            ("commitments", self.commitments.len()),
            ("txlists", self.txlists.len()),
            ("jobs", self.jobs.len() + self.listed.len()),
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
