//! A signing guard for tests.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use p2p_types::{Conflict, GuardError, GuardFuture, Promise, SigningGuard};

/// A [`SigningGuard`] in memory, for the tests of those who publish: clients of one process share it, and it is gone with
/// the process.
#[derive(Debug, Default)]
pub struct MemoryGuard {
    promises: Mutex<BTreeSet<Promise>>,
}

impl MemoryGuard {
    /// What it has recorded, by window, signer and height.
    #[must_use]
    pub fn promises(&self) -> Vec<Promise> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn record(&self, promise: Promise) -> Result<(), GuardError> {
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = promises.iter().find_map(|old| Some((old.conflicts_with(&promise)?, old.hash)));
        if let Some((kind, signed)) = broken {
            return Err(GuardError::Conflict(Box::new(Conflict::new(kind, signed, &promise))));
        }
        promises.insert(promise);
        Ok(())
    }
}

impl SigningGuard for MemoryGuard {
    fn permit(&self, promise: Promise) -> GuardFuture<'_> {
        Box::pin(async move { self.record(promise) })
    }
}
