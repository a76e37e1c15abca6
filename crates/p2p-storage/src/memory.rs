//! A store in memory: the same semantics as one on disk, gone with the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use hashbrown::{HashMap, hash_map::Entry};
use p2p_types::{B256, Base, BlockNumber, Head, TxList};
use p2p_validation::{Evidence, Linked};

use crate::{
    CommitmentStore, EvidenceStore, Inserted, StorageError, StorageLimits, StoredCommitment, StoredEvidence,
    TxListStore,
    evidence::{EvidenceKey, evidence_key, first_of_the_worst},
    fork::{Branches, Choice, choose, returns},
    sent::remember,
};

/// Commitments that one step of pruning removes at least, where there are as many.
const PRUNE_STEP: usize = 256;

/// A bounded store in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    limits: StorageLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    base: Option<Base>,
    /// Everything linked: chain, history, handovers.
    by_hash: HashMap<B256, StoredCommitment>,
    /// The chain. Without gaps from the block above the base, and as far below as has not been pruned.
    chain: BTreeMap<BlockNumber, B256>,
    /// Hashes of everything linked, by height: what pruning walks.
    heights: BTreeMap<BlockNumber, Vec<B256>>,
    children: HashMap<B256, Vec<B256>>,
    txlists: HashMap<B256, (TxList, BlockNumber)>,
    txlist_heights: BTreeMap<(BlockNumber, B256), ()>,
    txlist_bytes: usize,
    evidence: BTreeMap<EvidenceKey, StoredEvidence>,
    sent: Vec<B256>,
}

impl MemoryStorage {
    /// An empty store.
    #[must_use]
    pub fn new(limits: StorageLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        self.state.lock().map_err(|_| StorageError::Poisoned)
    }
}

impl Branches for State {
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        Ok(self.chain.get(&block).copied())
    }

    fn block(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        Ok(self.by_hash.get(hash).cloned())
    }

    fn head(&self) -> Option<BlockNumber> {
        let (&head, _) = self.chain.last_key_value()?;
        (head >= self.lowest()).then_some(head)
    }

    fn lowest(&self) -> BlockNumber {
        self.base.map_or(0, |base| base.next())
    }
}

impl State {
    fn stored(&self, hash: Option<&B256>) -> Option<StoredCommitment> {
        hash.and_then(|hash| self.by_hash.get(hash)).cloned()
    }

    fn add(&mut self, commitment: StoredCommitment) {
        let hash = commitment.hash();
        self.heights.entry(commitment.block).or_default().push(hash);
        if !commitment.recovered.signed().preconf().is_eop_only() {
            self.children.entry(commitment.parent).or_default().push(hash);
        }
        self.by_hash.insert(hash, commitment);
    }

    fn remove(&mut self, hash: &B256) {
        let Some(gone) = self.by_hash.remove(hash) else {
            return;
        };
        let forget = |list: &mut Vec<B256>| {
            list.retain(|other| other != hash);
            list.is_empty()
        };
        if self.heights.get_mut(&gone.block).is_some_and(forget) {
            self.heights.remove(&gone.block);
        }
        if let Entry::Occupied(mut siblings) = self.children.entry(gone.parent)
            && forget(siblings.get_mut())
        {
            siblings.remove();
        }
        if self.chain.get(&gone.block) == Some(hash) {
            self.chain.remove(&gone.block);
        }
    }

    /// Removes the lowest height if it is below the base; says how many commitments went.
    fn prune_lowest(&mut self, below: BlockNumber) -> usize {
        let below = below.min(self.base.map_or(0, |base| base.number));
        let Some((&lowest, hashes)) = self.heights.first_key_value() else {
            return 0;
        };
        if lowest >= below {
            return 0;
        }
        let hashes = hashes.clone();
        for hash in &hashes {
            self.remove(hash);
        }
        hashes.len()
    }

    /// Removes the txlist of the lowest block if that is settled; says whether one went.
    fn evict_txlist(&mut self) -> bool {
        let Some((&(block, hash), ())) = self.txlist_heights.first_key_value() else {
            return false;
        };
        if self.base.is_none_or(|base| block > base.number) {
            return false;
        }
        self.txlist_heights.remove(&(block, hash));
        if let Some((gone, _)) = self.txlists.remove(&hash) {
            self.txlist_bytes -= gone.bytes().len();
        }
        true
    }
}

impl CommitmentStore for MemoryStorage {
    fn note_sent(&self, hashes: &[B256]) -> Result<(), StorageError> {
        remember(&mut self.state()?.sent, hashes);
        Ok(())
    }

    fn is_sent(&self, hash: &B256) -> Result<bool, StorageError> {
        Ok(self.state()?.sent.contains(hash))
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        let mut state = self.state()?;
        if state.base.is_none() {
            return Err(StorageError::NoBase);
        }
        let new = StoredCommitment::from(commitment);
        let hash = new.hash();
        if let Some(known) = state.by_hash.get(&hash).cloned() {
            if !returns(&*state, &known)? {
                return Ok(Inserted::Known);
            }
            state.chain.insert(known.block, hash);
            return Ok(Inserted::Restored { adopted: vec![known] });
        }
        while let Some(full) = self.limits.commitments_full(state.by_hash.len()) {
            if state.prune_lowest(BlockNumber::MAX) == 0 {
                return Err(full);
            }
        }
        if new.recovered.signed().preconf().is_eop_only() {
            state.add(new);
            return Ok(Inserted::New);
        }
        let choice = choose(&*state, &new)?;
        state.add(new.clone());
        match choice {
            Choice::Extend => {
                state.chain.insert(new.block, hash);
                Ok(Inserted::New)
            }
            Choice::Side => Ok(Inserted::Side),
            Choice::Switch { from, mut through } => {
                through.push(hash);
                let dropped: Vec<B256> = state.chain.split_off(&from).into_values().collect();
                let adopted: Vec<_> = through.iter().filter_map(|hash| state.stored(Some(hash))).collect();
                state.chain.extend(adopted.iter().map(|block| (block.block, block.hash())));
                Ok(match dropped.first() {
                    Some(&previous) => Inserted::Superseded { previous, dropped, adopted },
                    None => Inserted::Restored { adopted },
                })
            }
        }
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        let state = self.state()?;
        Ok(state.stored(state.chain.get(&block)))
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        Ok(self.state()?.stored(Some(hash)))
    }

    fn children(&self, parent: &B256) -> Result<Vec<B256>, StorageError> {
        Ok(self.state()?.children.get(parent).cloned().unwrap_or_default())
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        let state = self.state()?;
        let run = state.chain.range(from..).take(limit).enumerate();
        Ok(run
            .take_while(|(index, (block, _))| (**block - from) == *index as u64)
            .filter_map(|(_, (_, hash))| state.stored(Some(hash)))
            .collect())
    }

    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let state = self.state()?;
        let hashes = state.heights.get(&block).into_iter().flatten();
        Ok(hashes.filter_map(|hash| state.stored(Some(hash))).collect())
    }

    fn head(&self) -> Result<Option<Head>, StorageError> {
        let state = self.state()?;
        let head = Branches::head(&*state).and_then(|block| state.stored(state.chain.get(&block)));
        Ok(head.map(|head| head.head()))
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        Ok(self.state()?.base)
    }

    fn set_base(&self, base: Base) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut state = self.state()?;
        let settled = state.chain.get(&base.number).copied();
        let lowest_unsettled = state.chain.range(base.next()..).next().map(|(&block, _)| block);
        let contradicted = matches!((base.hash, settled), (Some(ours), Some(theirs)) if ours != theirs);
        let gap = lowest_unsettled.is_some_and(|lowest| lowest > base.next());
        // Branches that lost go as well wherever the chain goes: whether they stand on this base is unknown.
        let from = if contradicted { Some(base.number) } else { gap.then(|| base.next()) };
        state.base = Some(base);
        let Some(from) = from else { return Ok(Vec::new()) };
        let dropped = state.chain.range(from..).filter_map(|(_, hash)| state.stored(Some(hash))).collect();
        let above: Vec<B256> = state.heights.range(from..).flat_map(|(_, hashes)| hashes.clone()).collect();
        for hash in above {
            state.remove(&hash);
        }
        Ok(dropped)
    }

    fn rewind(&self, from: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut state = self.state()?;
        let from = from.max(state.lowest());
        let gone = state.chain.split_off(&from);
        Ok(gone.values().filter_map(|hash| state.stored(Some(hash))).collect())
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            let mut state = self.state()?;
            let mut step = 0;
            while step < PRUNE_STEP {
                match state.prune_lowest(block) {
                    0 => return Ok(pruned + step),
                    gone => step += gone,
                }
            }
            pruned += step;
        }
    }

    fn commitment_count(&self) -> Result<usize, StorageError> {
        Ok(self.state()?.by_hash.len())
    }
}

impl TxListStore for MemoryStorage {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        let mut state = self.state()?;
        let hash = txlist.hash();
        if let Some((_, lowest)) = state.txlists.get_mut(&hash) {
            // The same list serves several blocks (empty blocks do): it goes when the last of them does.
            if block > *lowest {
                let before = std::mem::replace(lowest, block);
                state.txlist_heights.remove(&(before, hash));
                state.txlist_heights.insert((block, hash), ());
            }
            return Ok(false);
        }
        let bytes = txlist.bytes().len();
        while let Some(full) = self.limits.txlists_full(state.txlists.len(), state.txlist_bytes, bytes) {
            if !state.evict_txlist() {
                return Err(full);
            }
        }
        state.txlist_bytes += bytes;
        state.txlist_heights.insert((block, hash), ());
        state.txlists.insert(hash, (txlist, block));
        Ok(true)
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        Ok(self.state()?.txlists.get(hash).map(|(txlist, _)| txlist.clone()))
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        Ok(self.state()?.txlists.contains_key(hash))
    }

    fn discard(&self, hash: &B256) -> Result<bool, StorageError> {
        let mut state = self.state()?;
        let Some((gone, block)) = state.txlists.remove(hash) else { return Ok(false) };
        state.txlist_bytes -= gone.bytes().len();
        state.txlist_heights.remove(&(block, *hash));
        Ok(true)
    }

    fn txlist_usage(&self) -> Result<(usize, usize), StorageError> {
        let state = self.state()?;
        Ok((state.txlists.len(), state.txlist_bytes))
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

    fn evidence_count(&self) -> Result<usize, StorageError> {
        Ok(self.state()?.evidence.len())
    }
}
