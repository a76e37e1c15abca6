//! What cannot be judged yet: waits in the pending pool, comes out of it, or is given up.

use p2p_catchup::Input;
use p2p_storage::{Added, Pending, StorageError};
use p2p_types::{B256, MessageId, SdkEvent, WaitedFor};
use p2p_validation::{Arrival, Missing};
use preconfirmation_types::Container as _;
use tracing::Span;

use super::{Candidate, ChainProcessor};

impl ChainProcessor {
    /// Lets a candidate wait, its verdict open for as long as the network lets it. Whoever has to go for it settles Ignore
    /// by being dropped.
    pub(super) fn wait(&mut self, missing: Missing, mut candidate: Candidate) {
        candidate.span.record("outcome", missing.label());
        candidate.missing = Some(missing);
        let commitment = &candidate.commitment;
        let (block, hash, signer) = (commitment.block(), commitment.hash(), commitment.recovered().signer());
        let pending = Pending {
            // A handover promises no block of its own.
            block: if commitment.is_eop_only() { block.saturating_sub(1) } else { block },
            hash,
            missing,
            peer: candidate.origin.peer(),
            known_signer: self.signers.peek(&signer).is_some(),
            since: candidate.since,
        };
        self.waiting_changed |= matches!(missing, Missing::Parent(_));
        match self.pending.insert(pending, candidate) {
            Added::Waiting | Added::Known(_) => {}
            Added::Evicted(gone) => {
                self.metrics.dropped("pending", gone.len());
                gone.iter().for_each(|candidate| self.forget(candidate));
                self.taken(&gone);
            }
            Added::Crowded(candidate) => {
                self.metrics.dropped("pending", 1);
                self.forget(&candidate);
                return;
            }
        }
        if let Missing::Parent(parent) = missing {
            self.effects.inputs.push(Input::Orphan { block, parent, signer });
        }
    }

    /// What waited for a block that is linked now.
    pub(super) fn release(&mut self, parent: B256) -> Vec<Candidate> {
        let waiting = self.pending.take_parent(parent);
        self.taken(&waiting);
        waiting
    }

    /// These wait no more: catch-up need not look for what they waited for.
    pub(super) fn taken(&mut self, gone: &[Candidate]) {
        for candidate in gone {
            if let Some(Missing::Parent(parent)) = candidate.missing {
                self.waiting_changed = true;
                if !self.pending.waits_for(&parent) {
                    self.effects.inputs.push(Input::OrphanGone { parent });
                }
            }
        }
    }

    /// A message that was not judged after all counts as seen no more.
    pub(super) fn forget(&mut self, candidate: &Candidate) {
        let ssz = candidate.commitment.recovered().signed().to_ssz();
        self.effects.unseen.push(MessageId::of_commitment(&ssz));
    }

    /// Time went by.
    pub(super) fn tick(&mut self) -> Result<(), StorageError> {
        let given_up = self.pending.expire(self.now);
        if !given_up.is_empty() {
            self.metrics.dropped("pending_expired", given_up.len());
            given_up.iter().for_each(|candidate| self.given_up(candidate));
            self.taken(&given_up);
        }
        self.forget_promises()?;
        let lookahead = self.validator.clone();
        let mut known = self.pending.take_scheduled(|end| lookahead.knows(end));
        // Strangers may have signed more for the same window than there is room for further on.
        known.sort_by_key(|candidate| !lookahead.elects(&candidate.commitment));
        let mut due = self.pending.take_due(self.unix);
        for candidate in &mut due {
            candidate.arrival = match candidate.arrival {
                Arrival::Live(_) => Arrival::Live(self.unix),
                Arrival::History(_) => Arrival::History(self.unix),
            };
        }
        known.append(&mut due);
        self.work_off(known.into())
    }

    fn given_up(&mut self, candidate: &Candidate) {
        let (block, hash) = (candidate.commitment.block(), candidate.commitment.hash());
        let _entered = candidate.span.enter();
        Span::current().record("outcome", "deferred_too_long");
        self.forget(candidate);
        // Only what an elected preconfer signed is worth telling: anybody can sign for a window that is not known.
        let waited_for = match candidate.missing {
            Some(Missing::Parent(parent)) => WaitedFor::Parent(parent),
            Some(Missing::Time(due)) => WaitedFor::Time(due),
            Some(Missing::Schedule(_)) | None => return,
        };
        self.emit(SdkEvent::DeferredTooLong { block, hash, waited_for });
    }
}
