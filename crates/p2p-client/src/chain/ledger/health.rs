//! Whether the store takes what it is given: reported once when it fails or fills up, and once when that is over.

use p2p_storage::StorageError;

use super::Ledger;
use crate::chain::effects::Effects;

/// What is wrong with the store.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    failing: bool,
    nearly_full: bool,
}

impl Ledger {
    /// The store has refused something that it may take later.
    pub(super) fn store_failed(&mut self, error: &StorageError, out: &mut Effects) {
        out.store_failed(error, !std::mem::replace(&mut self.health.failing, true));
    }

    /// The store has taken something.
    pub(super) fn store_works(&mut self, out: &mut Effects) {
        if std::mem::take(&mut self.health.failing) {
            out.store_recovered();
        }
    }

    /// Measures the store, and reports once that it fills up with blocks that are not settled, before it takes no more.
    pub(in crate::chain) fn measure(&mut self, out: &mut Effects) {
        match self.store.stats() {
            Ok(stats) => {
                out.measure_store(stats);
                self.fills(stats.commitments, out);
            }
            Err(error) => tracing::debug!(%error, "cannot read the size of the store"),
        }
    }

    fn fills(&mut self, commitments: usize, out: &mut Effects) {
        let Some(limit) = self.store.commitment_limit() else { return };
        // From four fifths on; over below three.
        let full = commitments.saturating_mul(5) >= limit.saturating_mul(4);
        let roomy = commitments.saturating_mul(5) < limit.saturating_mul(3);
        if full && !self.health.nearly_full && self.unsettled().is_ok_and(|unsettled| unsettled > limit / 2) {
            self.health.nearly_full = true;
            out.store_nearly_full(commitments, limit);
        } else if roomy {
            self.health.nearly_full = false;
        }
    }

    /// Blocks of the chain above the base.
    fn unsettled(&self) -> Result<usize, StorageError> {
        let base = self.store.base()?.map_or(0, |base| base.number);
        let head = self.store.head()?.map_or(base, |head| head.number);
        Ok(usize::try_from(head.saturating_sub(base)).unwrap_or(usize::MAX))
    }
}
