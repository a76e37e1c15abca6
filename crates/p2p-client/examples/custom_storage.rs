//! A store of your own: here one that tells an auditor of every block before it is kept, and leaves the rest to
//! another store. `p2p_storage::conformance` (feature `test-utils`) says what any store must do.
//!
//! `cargo run -p p2p-client --example custom_storage`

mod support;

use std::sync::Arc;

use p2p_client::{
    Address, B256, Base, BlockNumber, Head, P2pClient, TxList, UnixSeconds,
    storage::{
        Applied, Batch, ChainUpdate, CommitmentStore, EvidenceStore, Inserted, MemoryStorage, Promise,
        PromiseStore, PublishLog, SdkStorage, StorageError, StorageStats, StoredCommitment, StoredEvidence,
        TxListStore,
    },
    validation::{Evidence, Linked},
};
use support::{BASE, Chain, Outcome, config, schedule};

struct Audited<S> {
    store: S,
    tell: fn(BlockNumber, B256),
}

/// Only validation builds a [`Linked`]: whatever arrives here is authentic, elected and linked to its parent.
impl<S: CommitmentStore> CommitmentStore for Audited<S> {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        (self.tell)(commitment.block(), commitment.recovered().hash());
        self.store.insert(commitment)
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        self.store.by_block(block)
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        self.store.by_hash(hash)
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        self.store.range(from, limit)
    }

    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        self.store.at(block)
    }

    fn head(&self) -> Result<Option<Head>, StorageError> {
        self.store.head()
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        self.store.base()
    }

    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError> {
        self.store.set_base(base)
    }

    fn settle_other(&self, block: BlockNumber, settled: B256) -> Result<ChainUpdate, StorageError> {
        self.store.settle_other(block, settled)
    }

    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.store.withdraw(anchor)
    }

    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.store.reinstate(anchor)
    }

    fn remove(&self, hashes: &[B256]) -> Result<ChainUpdate, StorageError> {
        self.store.remove(hashes)
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        self.store.prune_below(block)
    }
}

impl<S: TxListStore> TxListStore for Audited<S> {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        self.store.put(block, txlist)
    }

    fn renew(&self, lists: &[(BlockNumber, B256)]) -> Vec<Result<bool, StorageError>> {
        self.store.renew(lists)
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        self.store.get(hash)
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        self.store.contains(hash)
    }

    fn discard(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        self.store.discard(hash)
    }
}

impl<S: PromiseStore> PromiseStore for Audited<S> {
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError> {
        self.store.put_promise(promise)
    }

    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError> {
        self.store.promises(signer, window_end)
    }

    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError> {
        self.store.prune_promises(before)
    }

    fn keeps_promises(&self) -> bool {
        self.store.keeps_promises()
    }
}

impl<S: EvidenceStore> EvidenceStore for Audited<S> {
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError> {
        self.store.put_evidence(evidence)
    }

    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError> {
        self.store.evidence()
    }
}

impl<S: PublishLog> PublishLog for Audited<S> {
    fn record_published(&self, hashes: &[B256]) -> Result<(), StorageError> {
        self.store.record_published(hashes)
    }

    fn is_published(&self, hash: &B256) -> Result<bool, StorageError> {
        self.store.is_published(hash)
    }
}

impl<S: SdkStorage> SdkStorage for Audited<S> {
    fn apply(&self, batch: Batch) -> Applied {
        for new in &batch.commitments {
            (self.tell)(new.linked.block(), new.linked.recovered().hash());
        }
        self.store.apply(batch)
    }

    fn stats(&self) -> Result<StorageStats, StorageError> {
        self.store.stats()
    }
}

pub(crate) async fn run() -> Outcome {
    let storage = Arc::new(Audited {
        store: MemoryStorage::default(),
        tell: |block, hash| println!("block {block} {hash} is about to be stored"),
    });
    let client = P2pClient::start(config().with_storage(storage.clone()), schedule()?).await?;
    client.chain().l2_synced(BASE).await?;
    let mut chain = Chain::new()?;
    for _ in 0..2 {
        let (signed, txlist) = chain.block();
        client.publisher().ready().await?;
        let _outcome = client.publisher().publish_block(signed, txlist).await?;
    }
    client.shutdown().await?;
    println!("stored: {} transaction lists", storage.stats()?.txlists);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
