//! A store that survives its client: what was written before a crash is there afterwards, and nothing else.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use p2p_storage::{
    DiskConfig, DiskStorage, MemoryStorage, SdkStorage, StorageError,
    fixtures::{Call, Intercepted, SimDisk},
    fuzz::{is_withdrawn, is_withdrawn_on_disk},
};
use p2p_types::B256;

use crate::{settings::storage_limits, stage::DOMAIN};

/// Bytes from which on a list has a file of its own: those of honest blocks have one, or not.
const FILE_BYTES: [usize; 2] = [128, 1024];

/// Changes of a disk in a write to a store, about: pages, and one or two syncs.
const CHANGES: u64 = 12;

/// Where a node stores.
pub(crate) enum Store {
    /// In memory that outlives the client: each write is whole and durable when it returns.
    Memory(Arc<MemoryStorage>),
    /// On a disk that loses what is not synced.
    Disk(SimDisk, Arc<DiskStorage>, DiskConfig),
}

impl Store {
    pub(crate) fn in_memory() -> Self {
        Self::Memory(Arc::new(MemoryStorage::new(storage_limits())))
    }

    pub(crate) fn on_disk(index: usize) -> Self {
        let file_bytes = FILE_BYTES[index % FILE_BYTES.len()];
        let limits = storage_limits();
        let config =
            DiskConfig { limits, file_bytes, cache_bytes: 256 * 1024, ..DiskConfig::recommended(DOMAIN) };
        let disk = SimDisk::recording();
        let store = disk.open(config).unwrap();
        Self::Disk(disk, Arc::new(store), config)
    }

    pub(crate) const fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(..))
    }

    /// What a client is given: the store, as long as there is power.
    pub(crate) fn powered(&self, power: &Arc<Power>) -> Arc<dyn SdkStorage> {
        let power = power.clone();
        match self {
            Self::Memory(store) => Arc::new(Intercepted::new(store.clone(), move |call| power.before(call))),
            Self::Disk(disk, store, _) => {
                let current = power.clone();
                disk.set_power(move |changes| if changes { !current.change() } else { current.is_off() });
                Arc::new(Intercepted::new(store.clone(), move |_| power.on()))
            }
        }
    }

    /// The power is back: what had not come to the disk is lost.
    pub(crate) fn recover(&mut self, rng: &mut Rng) {
        if let Self::Disk(disk, store, config) = self {
            *disk = disk.after_power_loss(|| rng.bool());
            *store = Arc::new(disk.open(*config).unwrap());
        }
    }

    /// Whether L1 has replaced the anchor of a block, or of what it stands on, as far as this store was told.
    pub(crate) fn is_withdrawn(&self, hash: &B256) -> bool {
        match self {
            Self::Memory(store) => is_withdrawn(store, hash),
            Self::Disk(_, store, _) => is_withdrawn_on_disk(store, hash),
        }
        .unwrap()
    }
}

impl Deref for Store {
    type Target = dyn SdkStorage;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Memory(store) => store.as_ref(),
            Self::Disk(_, store, _) => store.as_ref(),
        }
    }
}

/// What a client's store hangs on. When it is cut, no call gets through any more, whatever the client still does.
pub(crate) struct Power {
    off: AtomicBool,
    /// Changes before it is cut: writes to the store, or of the disk below it.
    changes: AtomicU64,
    /// Whether the write at which that happens is stored: it was not answered, so both may be.
    last_is_stored: AtomicBool,
    /// Cuts the network at the same moment.
    on_cut: Box<dyn Fn() + Send + Sync>,
}

impl Power {
    pub(crate) fn new(on_cut: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            off: AtomicBool::new(false),
            changes: AtomicU64::new(u64::MAX),
            last_is_stored: AtomicBool::new(false),
            on_cut: Box::new(on_cut),
        })
    }

    pub(crate) fn cut(&self) {
        if !self.off.swap(true, Ordering::Relaxed) {
            (self.on_cut)();
        }
    }

    /// Cuts it at the write after so many; on a disk, in the middle of one.
    pub(crate) fn cut_after(&self, writes: u64, last_is_stored: bool, store: &Store) {
        let changes = if store.is_on_disk() { writes * CHANGES + CHANGES / 2 } else { writes };
        self.last_is_stored.store(last_is_stored, Ordering::Relaxed);
        self.changes.store(changes, Ordering::Relaxed);
    }

    /// It is not cut any more, unless it has been.
    pub(crate) fn keep_on(&self) {
        self.changes.store(u64::MAX, Ordering::Relaxed);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    fn on(&self) -> Result<(), StorageError> {
        if self.is_off() { Err(StorageError::Corrupt { what: "the process has ended" }) } else { Ok(()) }
    }

    /// Whether a change gets through.
    fn change(&self) -> bool {
        let left = self.changes.load(Ordering::Relaxed);
        match left {
            _ if self.is_off() => return false,
            0 => self.cut(),
            u64::MAX => {}
            _ => self.changes.store(left - 1, Ordering::Relaxed),
        }
        left > 0
    }

    fn before(&self, call: Call) -> Result<(), StorageError> {
        // A batch is written whole or not at all.
        if matches!(call, Call::ApplyTxLists) {
            return Ok(());
        }
        self.on()?;
        if call.is_write() && !self.change() && !self.last_is_stored.load(Ordering::Relaxed) {
            return self.on();
        }
        Ok(())
    }
}
