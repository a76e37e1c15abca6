//! Pages of catch-up: the same validator, the same store.

use p2p_catchup::ImportVerdict;
use p2p_storage::StorageError;
use p2p_types::{Origin, PeerId};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, ValidationOutcome};

use super::Chain;

impl Chain {
    /// Judges a page in order, up to the first commitment that is not linked, and stores what is at once.
    pub(super) fn import(
        &mut self,
        from: PeerId,
        page: Vec<Authenticated>,
    ) -> Result<ImportVerdict, StorageError> {
        let span = tracing::debug_span!("page", peer = %from, commitments = page.len());
        let _entered = span.enter();
        let mut verdict = ImportVerdict::Linked;
        for (index, commitment) in page.into_iter().enumerate() {
            if let Some(end) = self.import_one(from, index, commitment)? {
                verdict = end;
                break;
            }
        }
        let flushed = self.flush()?;
        if flushed.refused().is_some() && !matches!(verdict, ImportVerdict::Faulty(_)) {
            verdict = ImportVerdict::Deferred;
        }
        self.work_off(flushed.next)?;
        Ok(verdict)
    }

    /// Why the page ends here, if it does.
    fn import_one(
        &mut self,
        from: PeerId,
        index: usize,
        commitment: Authenticated,
    ) -> Result<Option<ImportVerdict>, StorageError> {
        // A peer must not hold us off live with a window that nobody can know yet.
        let future = commitment.timestamp() > self.unix;
        let elected = match self.validator.elect(commitment, Arrival::History(self.unix)) {
            ValidationOutcome::Accept(elected) => elected,
            ValidationOutcome::Defer(_) if future => return Ok(Some(ImportVerdict::Unlinked { index })),
            ValidationOutcome::Defer(_) | ValidationOutcome::Ignore(IgnoreReason::Lookahead(_)) => {
                return Ok(Some(ImportVerdict::Deferred));
            }
            ValidationOutcome::Ignore(reason) => {
                self.metrics.ignored(reason.label());
                return Ok(Some(ImportVerdict::Unlinked { index }));
            }
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                return Ok(Some(ImportVerdict::Faulty(rejection.offence())));
            }
        };
        self.note(&elected)?;
        match self.link(elected)? {
            ValidationOutcome::Accept(linked) => {
                self.staged.push(linked, Origin::Sync(from), tracing::Span::none());
                Ok(None)
            }
            ValidationOutcome::Defer(_) => Ok(Some(ImportVerdict::Unlinked { index })),
            // Settled meanwhile: nothing to do.
            ValidationOutcome::Ignore(_) => Ok(None),
            ValidationOutcome::Reject(rejection) => {
                self.metrics.rejected(rejection.label());
                Ok(Some(ImportVerdict::Faulty(rejection.offence())))
            }
        }
    }
}
