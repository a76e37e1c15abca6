//! The store in memory: the same semantics as the one on disk, without durability.

mod chain;
mod txlists;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use p2p_types::{Address, B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::{Evidence, Linked};

use crate::{
    Applied, AppliedCommitment, Batch, ChainUpdate, CommitmentStore, EvidenceStore, Inserted, Promise,
    PromiseStore, PublishLog, SdkStorage, StorageError, StorageLimits, StorageStats, StoredCommitment,
    StoredEvidence, TxListStore,
    evidence::{EvidenceKey, evidence_key, first_of_the_worst},
    fork::Blocks,
    promises::MAX_PROMISES,
    published::record,
};
use chain::Chain;
use txlists::TxLists;

/// Commitments that pruning removes before it lets other threads in.
const PRUNE_STEP: usize = 256;

/// A bounded store in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    limits: StorageLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chain: Chain,
    txlists: TxLists,
    evidence: BTreeMap<EvidenceKey, StoredEvidence>,
    published: Vec<B256>,
    promises: BTreeSet<Promise>,
}

impl State {
    fn put(
        &mut self,
        limits: &StorageLimits,
        block: BlockNumber,
        txlist: TxList,
    ) -> Result<bool, StorageError> {
        let settled = self.chain.base.map(|base| base.number);
        self.txlists.put(limits, settled, block, txlist)
    }
}

impl MemoryStorage {
    /// An empty store.
    #[must_use]
    pub fn new(limits: StorageLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Whether L1 has replaced the anchor of a block, as far as this store was told.
    #[cfg(feature = "test-utils")]
    pub(crate) fn is_withdrawn(&self, hash: &B256) -> Result<bool, StorageError> {
        Ok(self.state()?.chain.is_withdrawn(hash))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        self.state.lock().map_err(|_| StorageError::Poisoned)
    }
}

impl CommitmentStore for MemoryStorage {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        self.state()?.chain.insert(&self.limits, commitment.into())
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        let state = self.state()?;
        Ok(state.chain.stored(state.chain.canonical.get(&block)))
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        Ok(self.state()?.chain.stored(Some(hash)))
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        let state = self.state()?;
        let run = state.chain.canonical.range(from..).take(limit).enumerate();
        Ok(run
            .take_while(|(index, (block, _))| (**block - from) == *index as u64)
            .filter_map(|(_, (_, hash))| state.chain.stored(Some(hash)))
            .collect())
    }

    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let state = self.state()?;
        let hashes = state.chain.heights.get(&block).into_iter().flatten();
        Ok(hashes.filter_map(|hash| state.chain.stored(Some(hash))).collect())
    }

    fn head(&self) -> Result<Option<Head>, StorageError> {
        let state = self.state()?;
        let head = Blocks::head(&state.chain)
            .and_then(|block| state.chain.stored(state.chain.canonical.get(&block)));
        Ok(head.map(|head| head.head()))
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        Ok(self.state()?.chain.base)
    }

    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError> {
        Ok(self.state()?.chain.set_base(base))
    }

    fn settle_other(&self, block: BlockNumber, settled: B256) -> Result<ChainUpdate, StorageError> {
        Ok(self.state()?.chain.settle_other(block, settled))
    }

    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        Ok(self.state()?.chain.withdraw(anchor))
    }

    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        Ok(self.state()?.chain.reinstate(anchor))
    }

    fn remove(&self, hashes: &[B256]) -> Result<ChainUpdate, StorageError> {
        Ok(self.state()?.chain.remove_with_descendants(hashes))
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            let mut state = self.state()?;
            let mut step = 0;
            while step < PRUNE_STEP {
                match state.chain.prune_lowest(block) {
                    0 => return Ok(pruned + step),
                    gone => step += gone,
                }
            }
            pruned += step;
        }
    }
}

impl TxListStore for MemoryStorage {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        self.state()?.put(&self.limits, block, txlist)
    }

    fn renew(&self, lists: &[(BlockNumber, B256)]) -> Vec<Result<bool, StorageError>> {
        match self.state() {
            Ok(mut state) => {
                lists.iter().map(|(block, hash)| Ok(state.txlists.renew(*block, hash))).collect()
            }
            Err(error) => vec![Err(error); lists.len()],
        }
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        Ok(self.state()?.txlists.lists.get(hash).map(|(txlist, _)| txlist.clone()))
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        Ok(self.state()?.txlists.lists.contains_key(hash))
    }

    fn discard(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        Ok(self.state()?.txlists.discard(hash))
    }
}

impl EvidenceStore for MemoryStorage {
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError> {
        let (key, mut state) = (evidence_key(evidence), self.state()?);
        if state.evidence.contains_key(&key) {
            return Ok(false);
        }
        state.evidence.insert(key, evidence.into());
        let mut kept = true;
        while state.evidence.len() > self.limits.evidence
            && let Some(worst) = first_of_the_worst(state.evidence.keys().copied())
        {
            state.evidence.remove(&worst);
            kept &= worst != key;
        }
        Ok(kept)
    }

    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError> {
        Ok(self.state()?.evidence.values().cloned().collect())
    }
}

impl PromiseStore for MemoryStorage {
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError> {
        let mut state = self.state()?;
        if state.promises.len() >= MAX_PROMISES && !state.promises.contains(&promise) {
            let used = state.promises.len().saturating_add(1);
            return Err(StorageError::Full { what: "promises", used, limit: MAX_PROMISES });
        }
        state.promises.insert(promise);
        Ok(())
    }

    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError> {
        let state = self.state()?;
        let of_turn = |promise: &&Promise| (promise.window_end, promise.signer) == (window_end, *signer);
        let first =
            Promise { window_end, signer: *signer, block: 0, hash: B256::ZERO, eop: false, eop_only: false };
        Ok(state.promises.range(first..).take_while(of_turn).copied().collect())
    }

    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError> {
        let mut state = self.state()?;
        let had = state.promises.len();
        state.promises.retain(|promise| promise.window_end >= before);
        Ok(had - state.promises.len())
    }

    fn keeps_promises(&self) -> bool {
        false
    }
}

impl PublishLog for MemoryStorage {
    fn record_published(&self, hashes: &[B256]) -> Result<(), StorageError> {
        record(&mut self.state()?.published, hashes);
        Ok(())
    }

    fn is_published(&self, hash: &B256) -> Result<bool, StorageError> {
        Ok(self.state()?.published.contains(hash))
    }
}

impl SdkStorage for MemoryStorage {
    fn apply(&self, batch: Batch) -> Applied {
        let mut state = match self.state() {
            Ok(state) => state,
            Err(error) => return batch.failed(&error),
        };
        let mut applied = Applied::default();
        let mut lists = Vec::new();
        for new in batch.commitments {
            let stored = StoredCommitment::from(new.linked);
            let list = new.txlist.filter(|list| list.hash() == stored.txlist_hash());
            lists.push(list.map(|list| (stored.block, stored.hash(), list)));
            let inserted = state.chain.insert(&self.limits, stored);
            applied.commitments.push(AppliedCommitment { inserted, txlist: None });
        }
        for (applied, list) in applied.commitments.iter_mut().zip(lists) {
            if let Some((block, hash, list)) = list
                && applied.inserted.is_ok()
                && state.chain.canonical.get(&block) == Some(&hash)
            {
                applied.txlist = Some(state.put(&self.limits, block, list));
            }
        }
        for (block, list) in batch.txlists {
            applied.txlists.push(state.put(&self.limits, block, list));
        }
        applied
    }

    fn stats(&self) -> Result<StorageStats, StorageError> {
        let state = self.state()?;
        Ok(StorageStats {
            commitments: state.chain.by_hash.len(),
            txlists: state.txlists.lists.len(),
            txlist_bytes: state.txlists.bytes,
            evidence: state.evidence.len(),
        })
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn commitment_limit(&self) -> Option<usize> {
        Some(self.limits.commitments)
    }
}
