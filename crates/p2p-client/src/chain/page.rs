//! Pages of catch-up: the same ladder, the same ledger.

use p2p_catchup::ImportVerdict;
use p2p_storage::StorageError;
use p2p_types::{B256, Origin, PeerId};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, Missing};
use tracing::Span;

use super::{
    ChainProcessor, Moment,
    effects::Effects,
    judge::{Cause, Fall, Source},
    ledger::Committed,
};

impl ChainProcessor {
    /// Judges a page in order, up to the first commitment that is not linked, and stores what is at once.
    pub(super) fn import(
        &mut self,
        at: Moment,
        from: PeerId,
        page: Vec<Authenticated>,
        out: &mut Effects,
    ) -> Result<ImportVerdict, StorageError> {
        let span = tracing::debug_span!("page", peer = %from, commitments = page.len());
        let _entered = span.enter();
        let mut verdict = ImportVerdict::Linked;
        let parents: Vec<B256> = page.iter().map(Authenticated::parent_hash).collect();
        // A commitment that was signed after the L1 reorg confirms all below it, on the page or waiting for the page.
        let renewed = page
            .iter()
            .rposition(|commitment| !self.judge.is_withdrawn(commitment) || self.is_built_on(commitment));
        for (index, commitment) in page.into_iter().enumerate() {
            let hash = commitment.hash();
            let source = Source::Page {
                awaited: self.is_built_on(&commitment),
                built_on: parents.get(index + 1) == Some(&hash),
                renewed: renewed.is_some_and(|last| index <= last),
            };
            if let Some(end) = self.import_one(at, from, index, commitment, source, out)? {
                verdict = end;
                break;
            }
        }
        let mut waiting = Vec::new();
        for (hash, committed) in self.ledger.commit(out)? {
            match committed {
                Committed::Stored | Committed::NonCanonical => waiting.extend(self.release(hash, out)),
                Committed::Known => {}
                Committed::Failed(_) => verdict = ImportVerdict::Deferred,
            }
        }
        self.judge_all(at, waiting.into(), out)?;
        Ok(verdict)
    }

    /// Why the page ends here, if it does. Whatever breaks a rule is the fault of whoever signed it: a peer that serves
    /// what it has been told cannot know, so the rest is asked of others and nobody pays.
    fn import_one(
        &mut self,
        at: Moment,
        from: PeerId,
        index: usize,
        commitment: Authenticated,
        source: Source<'_>,
        out: &mut Effects,
    ) -> Result<Option<ImportVerdict>, StorageError> {
        let unusable = Ok(Some(ImportVerdict::Unusable { index }));
        if commitment.is_eop_only() {
            // No block: a page that has it in the place of one has nothing for this height.
            return unusable;
        }
        let judgement = self.judge.judge(&self.ledger, commitment, Arrival::History(at.unix), source)?;
        self.ledger.store_evidence(judgement.evidence, out)?;
        let fall = match judgement.outcome {
            Ok(linked) => {
                self.ledger.stage(linked, None, Origin::Sync(from), Span::none());
                return Ok(None);
            }
            Err(fall) => fall,
        };
        match fall {
            // A peer must not hold us off live with what is not due.
            Fall::NotElected(Cause::Waits(Missing::Time(_))) => {}
            Fall::NotElected(Cause::Waits(_) | Cause::Ignored(IgnoreReason::Lookahead(_))) => {
                return Ok(Some(ImportVerdict::Deferred));
            }
            // Settled meanwhile: nothing to do.
            Fall::NotLinked(Cause::Ignored(_)) => return Ok(None),
            // The peer's chain may have left ours below.
            Fall::NotLinked(Cause::Waits(_)) => return Ok(Some(ImportVerdict::Unlinked { index })),
            Fall::NotElected(Cause::Ignored(reason)) => out.ignored(&Span::none(), reason.label()),
            Fall::Useless(reason) => out.ignored(&Span::none(), reason),
            Fall::Unconfirmed(reason) => {
                out.ignored(&Span::none(), reason);
                return Ok(Some(ImportVerdict::Unconfirmed { index }));
            }
            Fall::NotElected(Cause::Rejected(rejection)) | Fall::NotLinked(Cause::Rejected(rejection)) => {
                out.rejected(&Span::none(), &rejection);
            }
            Fall::Conflict(_) => {}
        }
        unusable
    }
}
