//! The pending pool: commitments that cannot be judged yet go in, come out when what they miss is there, or are given up.

use p2p_storage::{Added, Pending, StorageError};
use p2p_types::B256;
use p2p_validation::{Arrival, Authenticated, Missing};
use tracing::Span;

use super::{Candidate, ChainProcessor, Moment, effects::Effects, guard::promises_over};

impl ChainProcessor {
    /// Lets a candidate wait, its verdict open for as long as the network lets it. Whoever has to go for it settles Ignore
    /// by being dropped.
    pub(super) fn wait(&mut self, missing: Missing, mut candidate: Candidate, out: &mut Effects) {
        candidate.span.record("outcome", missing.label());
        candidate.missing = Some(missing);
        let commitment = &candidate.commitment;
        let (block, hash, signer) = (commitment.block(), commitment.hash(), commitment.recovered().signer());
        let pending = Pending {
            // A handover promises no block of its own.
            block: if commitment.is_eop_only() { block.saturating_sub(1) } else { block },
            hash,
            txlist: commitment.txlist_hash(),
            missing,
            peer: candidate.origin.peer(),
            known_signer: self.judge.knows_signer(&signer),
            since: candidate.since,
        };
        if matches!(missing, Missing::Parent(_)) {
            out.waiting_changed();
        }
        match self.pending.insert(pending, candidate) {
            Added::Waiting | Added::Known(_) => {}
            Added::Evicted(gone) => {
                out.dropped("pending", gone.len());
                gone.iter().for_each(|candidate| out.not_judged(&candidate.commitment));
                self.waits_no_more(&gone, out);
            }
            Added::Crowded(candidate) => {
                out.dropped("pending", 1);
                out.not_judged(&candidate.commitment);
                return;
            }
        }
        if let Missing::Parent(parent) = missing {
            out.orphan(block, parent, signer);
        }
    }

    /// Takes out what waited for a block that is linked now.
    pub(super) fn release(&mut self, parent: B256, out: &mut Effects) -> Vec<Candidate> {
        let waiting = self.pending.take_parent(parent);
        self.waits_no_more(&waiting, out);
        waiting
    }

    /// Whether a block or a handover that waits can be built on this one. Not whatever names it as its parent: a signer could
    /// bring in any number of siblings, each named by a commitment of another height.
    pub(super) fn is_built_on(&self, commitment: &Authenticated) -> bool {
        let next = commitment.block().checked_add(1);
        !commitment.is_eop_only()
            && self
                .pending
                .waiting_for(&commitment.hash())
                .any(|waiting| Some(waiting.commitment.block()) == next)
    }

    /// These wait no more: catch-up need not look for what they waited for.
    pub(super) fn waits_no_more(&self, gone: &[Candidate], out: &mut Effects) {
        for candidate in gone {
            if let Some(Missing::Parent(parent)) = candidate.missing {
                out.waiting_changed();
                if !self.pending.waits_for(&parent) {
                    out.orphan_gone(parent);
                }
            }
        }
    }

    /// Time went by.
    pub(super) fn tick(&mut self, at: Moment, out: &mut Effects) -> Result<(), StorageError> {
        let given_up = self.pending.expire(at.now);
        if !given_up.is_empty() {
            out.dropped("pending_expired", given_up.len());
            given_up.iter().for_each(|candidate| give_up(candidate, out));
            self.waits_no_more(&given_up, out);
        }
        let validator = &self.judge.validator;
        let grace = validator.config().executor_slot_grace;
        self.ledger.forget_promises(promises_over(at.unix, grace), out)?;
        let mut known = self.pending.take_scheduled(|end| validator.knows(end));
        let mut due = self.pending.take_due(at.unix);
        for candidate in &mut due {
            candidate.arrival = match candidate.arrival {
                Arrival::Live(_) => Arrival::Live(at.unix),
                Arrival::History(_) => Arrival::History(at.unix),
            };
        }
        known.append(&mut due);
        self.judge_all(at, known.into(), out)?;
        self.reconsider(at, out)
    }
}

/// Gives up what has waited too long.
fn give_up(candidate: &Candidate, out: &mut Effects) {
    let (block, hash) = (candidate.commitment.block(), candidate.commitment.hash());
    let _entered = candidate.span.enter();
    Span::current().record("outcome", "deferred_too_long");
    out.not_judged(&candidate.commitment);
    // Only what an elected preconfer signed is worth reporting: anybody can sign for a window that is not known.
    if let Some(waited_for @ (Missing::Parent(_) | Missing::Time(_))) = candidate.missing {
        out.deferred_too_long(block, hash, waited_for);
    }
}
