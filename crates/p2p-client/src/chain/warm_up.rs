//! What a client remembers of the time before it started, by what the store holds of it.

use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{MessageId, Preconfirmation, Topic, U256};
use p2p_validation::{Arrival, ValidationOutcome};
use preconfirmation_types::Container;

use super::ChainProcessor;

/// Most heights that are looked at: some tens of milliseconds of recoveries.
const MAX_HEIGHTS: usize = 1024;

impl ChainProcessor {
    /// Goes through the blocks and handovers of windows that were open in the last minutes, newest first:
    /// their signers' promises count as made, and messages of the last minutes as seen.
    pub(super) fn warm_up(&mut self) -> Result<(), StorageError> {
        let Some(base) = self.store.base()? else { return Ok(()) };
        let top = self.store.head()?.map_or(base.number, |head| head.number);
        let since = U256::from(self.unix.get().saturating_sub(self.seen_ttl.as_secs()));
        let mut recent = Vec::new();
        // A handover after the head declines the height above it.
        for height in (0..=top.saturating_add(1)).rev().take(MAX_HEIGHTS) {
            let here = self.store.at(height)?;
            let over = |stored: &StoredCommitment| preconf(stored).submission_window_end < since;
            if (here.is_empty() && height <= top) || (!here.is_empty() && here.iter().all(over)) {
                break;
            }
            recent.push(here);
        }
        // What was proven before is not told again.
        for evidence in self.store.evidence()? {
            if evidence.record.second.preconf().submission_window_end >= since
                && let Ok(evidence) = evidence.record.verify(&self.validator)
            {
                self.witness.keep(evidence);
            }
        }
        // Oldest first, as they came.
        for stored in recent.into_iter().rev().flatten() {
            self.warm_up_one(&stored, since)?;
        }
        Ok(())
    }

    fn warm_up_one(&mut self, stored: &StoredCommitment, since: U256) -> Result<(), StorageError> {
        let signed = stored.recovered.signed();
        if preconf(stored).timestamp >= since {
            self.effects.seen.push(MessageId::of_commitment(&signed.to_ssz()));
            let payload = stored.txlist_hash();
            if self.store.contains(&payload)? {
                self.effects.seen.push(MessageId { topic: Topic::RawTxLists, payload });
            }
        }
        // Under other rules than today's it may not be valid; then it binds nobody.
        let Ok(commitment) = self.validator.authenticate_signed(signed.clone()) else { return Ok(()) };
        match self.validator.elect(commitment, Arrival::History(self.unix)) {
            ValidationOutcome::Accept(elected) => {
                self.promises.admit(&elected);
                self.note(&elected)
            }
            _ => Ok(()),
        }
    }
}

fn preconf(stored: &StoredCommitment) -> &Preconfirmation {
    stored.recovered.signed().preconf()
}
