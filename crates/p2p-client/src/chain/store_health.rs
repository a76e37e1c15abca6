//! StoreHealth with the store that time or the operator can cure: told once, and once when it is over.

use p2p_catchup::Input;
use p2p_storage::StorageError;
use p2p_types::{SdkEvent, StorageTrouble};

use super::ChainProcessor;

/// What is wrong with the store.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    failing: bool,
    nearly_full: bool,
}

impl ChainProcessor {
    /// The store has refused something that it may take later.
    pub(super) fn storage_failed(&mut self, error: &StorageError) {
        self.metrics.storage_failed();
        if !std::mem::replace(&mut self.store_health.failing, true) {
            tracing::warn!(%error, "the store fails; what it did not take is fetched again");
            self.emit(SdkEvent::Storage {
                trouble: Some(StorageTrouble::Failing { reason: error.to_string() }),
            });
        }
    }

    /// The store has taken something.
    pub(super) fn storage_works(&mut self) {
        if std::mem::take(&mut self.store_health.failing) {
            tracing::info!("the store works again");
            self.metrics.storage_recovered();
            self.emit(SdkEvent::Storage { trouble: None });
        }
    }

    /// A job could not be finished: what was about to be stored is not, and catch-up comes back for it.
    pub(super) fn abandon(&mut self, error: &StorageError) {
        self.storage_failed(error);
        for block in self.staged.abandon() {
            self.effects.inputs.push(Input::Seen { block });
        }
        let applied: Vec<_> = std::mem::take(&mut self.applied);
        for applied in &applied {
            self.request_list(&applied.stored, false);
        }
        self.own_lists.clear();
    }

    /// Says once that the store fills up with blocks that are not settled, before it takes no more.
    pub(super) fn fills(&mut self, commitments: usize) {
        let Some(limit) = self.store.commitment_limit() else { return };
        // From four fifths on; over below three.
        let full = commitments.saturating_mul(5) >= limit.saturating_mul(4);
        let roomy = commitments.saturating_mul(5) < limit.saturating_mul(3);
        if full
            && !self.store_health.nearly_full
            && self.unsettled().is_ok_and(|unsettled| unsettled > limit / 2)
        {
            self.store_health.nearly_full = true;
            tracing::warn!(
                commitments,
                limit,
                "the store fills up: no newer base has been declared for long"
            );
            let trouble = StorageTrouble::NearlyFull { used: commitments, limit };
            self.emit(SdkEvent::Storage { trouble: Some(trouble) });
        } else if roomy {
            self.store_health.nearly_full = false;
        }
    }

    /// Blocks of the chain above the base.
    fn unsettled(&self) -> Result<usize, StorageError> {
        let base = self.store.base()?.map_or(0, |base| base.number);
        let head = self.store.head()?.map_or(base, |head| head.number);
        Ok(usize::try_from(head.saturating_sub(base)).unwrap_or(usize::MAX))
    }
}
