//! The conformance suite, on what it must pass and on what it must fail.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

use p2p_storage::{
    Applied, Batch, ChainUpdate, CommitmentStore, EvidenceStore, Inserted, MemoryStorage, Promise,
    PromiseStore, PublishLog, SdkStorage, StorageError, StorageLimits, StorageStats, StoredCommitment,
    StoredEvidence, TxListStore, conformance,
};
use p2p_types::{Address, B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::{Evidence, Linked};

#[test]
fn the_store_in_memory_conforms() {
    conformance::check(MemoryStorage::new);
}

/// Forgets what was superseded, as a store that overwrites does.
struct Forgetful {
    inner: MemoryStorage,
    forgotten: Mutex<HashSet<B256>>,
}

impl Forgetful {
    fn new(limits: StorageLimits) -> Self {
        Self { inner: MemoryStorage::new(limits), forgotten: Mutex::default() }
    }
}

impl CommitmentStore for Forgetful {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        let inserted = self.inner.insert(commitment)?;
        if let Inserted::Superseded { dropped, .. } = &inserted {
            self.forgotten.lock().unwrap().extend(dropped);
        }
        Ok(inserted)
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        let forgotten = self.forgotten.lock().unwrap().contains(hash);
        if forgotten { Ok(None) } else { self.inner.by_hash(hash) }
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        self.inner.by_block(block)
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        self.inner.range(from, limit)
    }

    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        self.inner.at(block)
    }

    fn head(&self) -> Result<Option<Head>, StorageError> {
        self.inner.head()
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        self.inner.base()
    }

    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError> {
        self.inner.set_base(base)
    }

    fn settle_other(&self, block: BlockNumber, settled: B256) -> Result<ChainUpdate, StorageError> {
        self.inner.settle_other(block, settled)
    }

    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.inner.withdraw(anchor)
    }

    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.inner.reinstate(anchor)
    }

    fn remove(&self, hashes: &[B256]) -> Result<ChainUpdate, StorageError> {
        self.inner.remove(hashes)
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        self.inner.prune_below(block)
    }
}

impl TxListStore for Forgetful {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        self.inner.put(block, txlist)
    }

    fn renew(&self, lists: &[(BlockNumber, B256)]) -> Vec<Result<bool, StorageError>> {
        self.inner.renew(lists)
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        self.inner.get(hash)
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        self.inner.contains(hash)
    }

    fn discard(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        self.inner.discard(hash)
    }
}

impl PromiseStore for Forgetful {
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError> {
        self.inner.put_promise(promise)
    }

    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError> {
        self.inner.promises(signer, window_end)
    }

    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError> {
        self.inner.prune_promises(before)
    }

    fn keeps_promises(&self) -> bool {
        self.inner.keeps_promises()
    }
}

impl EvidenceStore for Forgetful {
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError> {
        self.inner.put_evidence(evidence)
    }

    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError> {
        self.inner.evidence()
    }
}

impl PublishLog for Forgetful {}

impl SdkStorage for Forgetful {
    fn apply(&self, batch: Batch) -> Applied {
        self.inner.apply(batch)
    }

    fn stats(&self) -> Result<StorageStats, StorageError> {
        self.inner.stats()
    }
}

#[test]
fn a_store_that_forgets_what_was_superseded_fails_where_history_is_asked_for() {
    let fails =
        |case: &&conformance::Case| catch_unwind(AssertUnwindSafe(|| case.check(Forgetful::new))).is_err();
    let failed: Vec<_> = conformance::CASES.iter().filter(fails).map(|case| case.name).collect();
    assert!(failed.contains(&"of_two_leaves_the_later_stands_whichever_came_first"), "{failed:?}");
    assert!(!failed.contains(&"pruning_takes_what_is_settled_and_nothing_else"), "{failed:?}");
}

#[cfg(feature = "disk")]
#[test]
fn the_store_on_disk_conforms() {
    use p2p_storage::{DiskConfig, DiskStorage, fixtures};

    let folder = tempfile::tempdir().unwrap();
    let opened = std::sync::atomic::AtomicUsize::new(0);
    conformance::check(|limits| {
        let number = opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let config = DiskConfig { limits, ..DiskConfig::recommended(fixtures::DOMAIN) };
        DiskStorage::open(folder.path().join(number.to_string()), config).unwrap()
    });
}
