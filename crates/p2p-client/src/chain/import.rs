//! Pages of catch-up: the same validator, the same store.

use p2p_catchup::ImportVerdict;
use p2p_storage::StorageError;
use p2p_types::{Origin, PeerId};
use p2p_validation::{Arrival, Authenticated, IgnoreReason, ValidationOutcome};

use super::Chain;

impl Chain {
    /// Judges a page in order, up to the first commitment that is not linked.
    pub(super) fn import(
        &mut self,
        from: PeerId,
        page: Vec<Authenticated>,
    ) -> Result<ImportVerdict, StorageError> {
        let origin = Origin::Sync(from);
        for (index, commitment) in page.into_iter().enumerate() {
            // A peer must not hold us off live with a window that nobody can know yet.
            let future = commitment.timestamp() > self.unix;
            let elected = match self.validator.elect(commitment, Arrival::History(self.unix)) {
                ValidationOutcome::Accept(elected) => elected,
                ValidationOutcome::Defer(_) if future => return Ok(ImportVerdict::Unlinked { index }),
                ValidationOutcome::Defer(_) | ValidationOutcome::Ignore(IgnoreReason::Lookahead(_)) => {
                    return Ok(ImportVerdict::Deferred);
                }
                ValidationOutcome::Ignore(reason) => {
                    self.metrics.ignored(reason.label());
                    return Ok(ImportVerdict::Unlinked { index });
                }
                ValidationOutcome::Reject(rejection) => {
                    self.metrics.rejected(rejection.label());
                    return Ok(ImportVerdict::Faulty(rejection.offence()));
                }
            };
            match self.link(elected)? {
                ValidationOutcome::Accept(linked) => match self.store(linked, origin) {
                    Ok((_, next)) => self.judge_all(next)?,
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "cannot store a page");
                        return Ok(ImportVerdict::Deferred);
                    }
                    Err(error) => return Err(error),
                },
                ValidationOutcome::Defer(_) => return Ok(ImportVerdict::Unlinked { index }),
                // Settled meanwhile: nothing to do.
                ValidationOutcome::Ignore(_) => {}
                ValidationOutcome::Reject(rejection) => {
                    self.metrics.rejected(rejection.label());
                    return Ok(ImportVerdict::Faulty(rejection.offence()));
                }
            }
        }
        Ok(ImportVerdict::Linked)
    }
}
