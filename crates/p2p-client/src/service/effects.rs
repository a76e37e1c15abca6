//! Applies the effects of a batch: seen cache, handle state, events, catch-up's inputs, replies.

use p2p_types::{SdkEvent, UnixSeconds};

use super::{Service, now};
use crate::{
    ClientQueueLengths, P2pClientError,
    chain::{Effects, Moment, Response},
};

impl Service {
    /// Runs the chain worker until it is busy or its inbox empty.
    pub(super) fn run_chain(&mut self) -> Result<(), P2pClientError> {
        loop {
            let at = Moment { now: now(), unix: self.config.clock.now(), reference: self.reference() };
            let Some(effects) = self.worker.run(at, self.ingestion_paused) else { return Ok(()) };
            self.apply(effects)?;
        }
    }

    pub(super) fn apply(&mut self, effects: Effects) -> Result<(), P2pClientError> {
        // What a handle reads is never behind the events that its subscribers have.
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
        for timing in effects.timings {
            self.skew.note(now(), timing);
        }
        let mut told = Vec::new();
        for event in effects.events {
            if let SdkEvent::Commitment { block, commitment, .. } = &event {
                let timestamp = u64::try_from(commitment.signed().preconf().timestamp).unwrap_or(u64::MAX);
                self.newest = Some((*block, UnixSeconds::new(timestamp)));
            }
            self.reorgs.push(now(), event, &mut told);
        }
        self.tell(told);
        for input in effects.inputs {
            self.catch_up(input);
        }
        effects.responses.into_iter().for_each(Response::send);
        effects.fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Emits what a reorg that followed another one closely has changed.
    pub(super) fn release_reorgs(&mut self) {
        let mut told = Vec::new();
        self.reorgs.release(now(), &mut told);
        self.tell(told);
    }

    /// Emits what has changed in the chain, and wakes those who follow it in the store.
    fn tell(&mut self, events: Vec<SdkEvent>) {
        if !events.is_empty() {
            self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
        events.into_iter().for_each(|event| self.emit(event));
    }

    /// Emits an event to every subscriber. Where that leaves a lossless one behind, ingestion pauses.
    pub(super) fn emit(&mut self, event: SdkEvent) {
        self.publish_event(event);
        let waiting = self.lossless.overflow();
        if waiting > 0 && !self.ingestion_paused {
            self.pause_ingestion(true, waiting);
        }
    }

    fn publish_event(&mut self, mut event: SdkEvent) {
        if let SdkEvent::Status { status } = &mut event {
            self.claimed = std::mem::replace(status, self.skew.honest(*status, self.config.clock.now()));
            self.requester.metrics.status(status);
            self.state.send_modify(|state| state.status = *status);
        }
        if let SdkEvent::Storage { trouble } = &event {
            self.state.send_modify(|state| state.storage.clone_from(trouble));
        }
        self.lossless.push(&event);
        // An error only says that nobody subscribes.
        drop(self.events.send(event));
    }

    /// A lossless subscriber has read, or gone. Ingestion resumes once none is behind.
    pub(super) fn resume_ingestion(&mut self) {
        if self.ingestion_paused && self.lossless.overflow() == 0 {
            self.pause_ingestion(false, 0);
        }
    }

    /// Reports what preconfers' timestamps say about our clock, where that has changed.
    pub(super) fn check_clock(&mut self) {
        let Some(check) = self.skew.update(now()) else { return };
        let before = self.state.borrow().clock;
        self.state.send_modify(|state| state.clock = check);
        self.requester.metrics.clock(&check);
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

    fn pause_ingestion(&mut self, paused: bool, waiting: usize) {
        self.ingestion_paused = paused;
        self.state.send_modify(|state| state.paused = paused);
        self.requester.metrics.paused(paused);
        tracing::debug!(paused, waiting, "a lossless subscriber paused or resumed ingestion");
        // Emitted without a check: ingestion that resumes takes something in even where a queue has no room for more than
        // this event.
        self.publish_event(SdkEvent::Backpressure { paused, waiting });
    }

    pub(super) fn measure(&self) {
        self.requester.metrics.queues(ClientQueueLengths {
            commanded: self.worker.inbox.application_commands(),
            commands: self.commands.len(),
            commitments: self.worker.inbox.commitments(),
            txlists: self.txlists.len(),
            jobs: self.worker.inbox.ingested(),
            event_lag: self.lossless.lag().max(self.events.len()),
            ..ClientQueueLengths::default()
        });
        self.requester.metrics.signers(self.requester.validator.signer_counts());
    }
}
