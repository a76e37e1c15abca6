//! A store that survives its client: what was written before the crash is there afterwards, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use p2p_storage::{
    MemoryStorage, SdkStorage, StorageError,
    fixtures::{Call, Intercepted},
};

/// What a client's store hangs on. When it is cut, no call gets through any more, whatever the client still does.
pub(crate) struct Power {
    off: AtomicBool,
    /// Writes before it is cut.
    writes: AtomicU64,
    /// Whether the write at which that happens is stored: it was not answered, so both may be.
    last_is_stored: AtomicBool,
    /// Cuts the network at the same moment.
    on_cut: Box<dyn Fn() + Send + Sync>,
}

impl Power {
    pub(crate) fn new(on_cut: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            off: AtomicBool::new(false),
            writes: AtomicU64::new(u64::MAX),
            last_is_stored: AtomicBool::new(false),
            on_cut: Box::new(on_cut),
        })
    }

    pub(crate) fn cut(&self) {
        if !self.off.swap(true, Ordering::Relaxed) {
            (self.on_cut)();
        }
    }

    /// Cuts it at the write after so many; never, with the greatest number.
    pub(crate) fn cut_after(&self, writes: u64, last_is_stored: bool) {
        self.last_is_stored.store(last_is_stored, Ordering::Relaxed);
        self.writes.store(writes, Ordering::Relaxed);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    fn before(&self, call: Call) -> Result<(), StorageError> {
        const OVER: StorageError = StorageError::Corrupt { what: "the process has ended" };
        // A batch is written whole or not at all.
        if matches!(call, Call::ApplyTxLists) {
            return Ok(());
        }
        if self.is_off() {
            return Err(OVER);
        }
        if call.is_write() {
            let left = self.writes.load(Ordering::Relaxed);
            if left == 0 {
                self.cut();
                return if self.last_is_stored.load(Ordering::Relaxed) { Ok(()) } else { Err(OVER) };
            }
            if left != u64::MAX {
                self.writes.store(left - 1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// The store behind, as long as there is power.
pub(crate) fn powered(store: &Arc<MemoryStorage>, power: &Arc<Power>) -> Arc<dyn SdkStorage> {
    let (store, power): (Arc<dyn SdkStorage>, _) = (store.clone(), power.clone());
    Arc::new(Intercepted::new(store, move |call| power.before(call)))
}
