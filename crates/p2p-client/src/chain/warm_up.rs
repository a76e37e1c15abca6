//! Warm-up from the store: what a client knows of the time before it started.

use p2p_storage::{StorageError, StoredCommitment};
use p2p_types::{MessageId, Preconfirmation, Topic, U256};
use preconfirmation_types::Container;

use super::{ChainProcessor, Moment, effects::Effects};

/// Most heights that are looked at: some tens of milliseconds of recoveries.
const MAX_HEIGHTS: usize = 1024;

impl ChainProcessor {
    /// Goes through the blocks and handovers of windows that were open in the last minutes, newest first:
    /// their signers' promises count as made, and messages of the last minutes as seen.
    pub(super) fn warm_up(&mut self, at: Moment, out: &mut Effects) -> Result<(), StorageError> {
        let Some(base) = self.ledger.base()? else { return Ok(()) };
        let top = self.ledger.head()?.map_or(base.number, |head| head.number);
        let since = U256::from(at.unix.get().saturating_sub(self.seen_ttl.as_secs()));
        let mut recent = Vec::new();
        // A handover after the head declines the height above it.
        for height in (0..=top.saturating_add(1)).rev().take(MAX_HEIGHTS) {
            let here = self.ledger.at(height)?;
            let over = |stored: &StoredCommitment| preconf(stored).submission_window_end < since;
            if (here.is_empty() && height <= top) || (!here.is_empty() && here.iter().all(over)) {
                break;
            }
            recent.push(here);
        }
        // What was proven before is not reported again.
        for evidence in self.ledger.evidence()? {
            if evidence.record.second.preconf().submission_window_end >= since
                && let Ok(evidence) = evidence.record.verify(&self.judge.validator)
            {
                self.judge.witness.keep(evidence);
            }
        }
        // Oldest first, as they came.
        for stored in recent.into_iter().rev().flatten() {
            self.warm_up_one(at, &stored, since, out)?;
        }
        Ok(())
    }

    fn warm_up_one(
        &mut self,
        at: Moment,
        stored: &StoredCommitment,
        since: U256,
        out: &mut Effects,
    ) -> Result<(), StorageError> {
        let signed = stored.recovered.signed();
        if preconf(stored).timestamp >= since {
            out.seen.push(MessageId::of_commitment(&signed.to_ssz()));
            let payload = stored.txlist_hash();
            if self.ledger.has_txlist(&payload)? {
                out.seen.push(MessageId { topic: Topic::RawTxLists, payload });
            }
        }
        // Under other rules than today's it may not be valid; then it binds nobody.
        let Ok(commitment) = self.judge.validator.authenticate_recovered(&stored.recovered) else {
            return Ok(());
        };
        let evidence = self.judge.remember(commitment, at.unix);
        self.ledger.store_evidence(evidence, out)
    }
}

fn preconf(stored: &StoredCommitment) -> &Preconfirmation {
    stored.recovered.signed().preconf()
}
