//! Pages of catch-up: the same validator, the same store.

use p2p_catchup::ImportVerdict;
use p2p_storage::StorageError;
use p2p_types::{B256, Origin, PeerId};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, Missing, ValidationOutcome};

use super::{ChainProcessor, forwarding::Admission};

/// What of a page stands behind one of its commitments.
#[derive(Debug, Clone, Copy)]
struct Above {
    /// The next one names it as its parent.
    builds_on: bool,
    /// One of those above was signed after L1 had replaced its anchor.
    renewed: bool,
}

impl ChainProcessor {
    /// Judges a page in order, up to the first commitment that is not linked, and stores what is at once.
    pub(super) fn import(
        &mut self,
        from: PeerId,
        page: Vec<Authenticated>,
    ) -> Result<ImportVerdict, StorageError> {
        let span = tracing::debug_span!("page", peer = %from, commitments = page.len());
        let _entered = span.enter();
        let mut verdict = ImportVerdict::Linked;
        let parents: Vec<B256> = page.iter().map(Authenticated::parent_hash).collect();
        let renewed = page.iter().rposition(|commitment| !self.is_withdrawn(commitment));
        for (index, commitment) in page.into_iter().enumerate() {
            let builds_on = parents.get(index + 1) == Some(&commitment.hash());
            let above = Above { builds_on, renewed: renewed.is_some_and(|last| index <= last) };
            if let Some(end) = self.import_one(from, index, commitment, above)? {
                verdict = end;
                break;
            }
        }
        let flushed = self.flush()?;
        if flushed.refused().is_some() {
            verdict = ImportVerdict::Deferred;
        }
        self.work_off(flushed.next)?;
        Ok(verdict)
    }

    /// Why the page ends here, if it does. Whatever breaks a rule is the fault of whoever signed it: a peer that serves
    /// what it has been told cannot know, so the rest is asked of others and nobody pays.
    fn import_one(
        &mut self,
        from: PeerId,
        index: usize,
        commitment: Authenticated,
        above: Above,
    ) -> Result<Option<ImportVerdict>, StorageError> {
        let unusable = Ok(Some(ImportVerdict::Unusable { index }));
        if commitment.is_eop_only() {
            // No block: a page that has it in the place of one has nothing for this height.
            return unusable;
        }
        let elected = match self.validator.elect(commitment, Arrival::History(self.unix)) {
            ValidationOutcome::Accept(elected) => elected,
            // A peer must not hold us off live with what is not due.
            ValidationOutcome::Defer(Missing::Time(_)) => return unusable,
            ValidationOutcome::Defer(_) | ValidationOutcome::Ignore(IgnoreReason::Lookahead(_)) => {
                return Ok(Some(ImportVerdict::Deferred));
            }
            ValidationOutcome::Ignore(reason) => {
                self.metrics.ignored(reason.label());
                return unusable;
            }
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                return unusable;
            }
        };
        let waited_for = self.pending.waits_for(&elected.hash());
        if self.promises.admit(&elected) == Admission::Full && !above.builds_on && !waited_for {
            self.metrics.ignored("too_many_promises");
            return unusable;
        }
        if !above.renewed && !waited_for && self.store.by_hash(&elected.hash())?.is_none() {
            self.metrics.ignored("l1_replaced");
            return unusable;
        }
        self.note(&elected)?;
        match self.link(elected)? {
            ValidationOutcome::Accept(linked) => {
                self.staged.push(linked, Origin::Sync(from), tracing::Span::none());
                Ok(None)
            }
            // Settled meanwhile: nothing to do.
            ValidationOutcome::Ignore(_) => Ok(None),
            // The peer's chain may have left ours below.
            ValidationOutcome::Defer(_) => Ok(Some(ImportVerdict::Unlinked { index })),
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                unusable
            }
        }
    }
}
