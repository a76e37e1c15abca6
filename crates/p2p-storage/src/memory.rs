//! A store in memory: the same semantics as one on disk, gone with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use hashbrown::{HashMap, HashSet, hash_map::Entry};
use p2p_types::{Address, B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::{Evidence, Linked};

use crate::{
    ChainUpdate, CommitmentStore, EvidenceStore, Inserted, Promise, PromiseStore, StorageError,
    StorageLimits, StoredCommitment, StoredEvidence, TxListStore,
    evidence::{EvidenceKey, evidence_key, first_of_the_worst},
    fork::{Blocks, Choice, ForkChoice, Node, choose, evaluate, standing, withdrawn_by},
    promises::MAX_PROMISES,
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
    /// Everything linked: the chain, what is beside it, handovers.
    by_hash: HashMap<B256, StoredCommitment>,
    /// The chain. Without gaps from the block above the base, and as far below as has not been pruned.
    chain: BTreeMap<BlockNumber, B256>,
    /// Hashes of everything linked, by height: what pruning walks.
    heights: BTreeMap<BlockNumber, Vec<B256>>,
    children: HashMap<B256, Vec<B256>>,
    /// Blocks whose anchor L1 has replaced.
    withdrawn: HashSet<B256>,
    fork: Option<ForkChoice>,
    txlists: HashMap<B256, (TxList, BlockNumber)>,
    txlist_heights: BTreeMap<(BlockNumber, B256), ()>,
    txlist_bytes: usize,
    evidence: BTreeMap<EvidenceKey, StoredEvidence>,
    sent: Vec<B256>,
    promises: BTreeSet<Promise>,
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

impl Blocks for State {
    fn lowest(&self) -> BlockNumber {
        self.base.map_or(0, |base| base.next())
    }

    fn head(&self) -> Option<BlockNumber> {
        let (&head, _) = self.chain.last_key_value()?;
        (head >= self.lowest()).then_some(head)
    }

    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        Ok(self.chain.get(&block).copied())
    }

    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError> {
        Ok(self.chain.get(&block).and_then(|hash| self.node(hash)))
    }

    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError> {
        let chain = self.chain.range(self.lowest()..);
        let signer = |hash| self.by_hash.get(hash).map(|stored| stored.recovered.signer());
        Ok(chain.filter_map(|(block, hash)| Some((*block, signer(hash)?))).collect())
    }

    fn non_canonical(&self) -> Result<Vec<Node>, StorageError> {
        let beside = |node: &Node| self.chain.get(&node.block) != Some(&node.hash);
        Ok(self.nodes().filter(beside).collect())
    }
}

impl State {
    fn stored(&self, hash: Option<&B256>) -> Option<StoredCommitment> {
        hash.and_then(|hash| self.by_hash.get(hash)).cloned()
    }

    /// The block with this hash; none if that is a handover.
    fn node(&self, hash: &B256) -> Option<Node> {
        let stored = self.by_hash.get(hash).filter(|stored| !stored.is_handover())?;
        Some(Node::new(stored, self.withdrawn.contains(hash)))
    }

    /// The blocks above the base, in order of height.
    fn nodes(&self) -> impl Iterator<Item = Node> {
        let above = self.heights.range(self.lowest()..);
        above.flat_map(|(_, hashes)| hashes).filter_map(|hash| self.node(hash))
    }

    /// Makes these blocks the chain above the base.
    fn adopt(&mut self, chain: &[B256]) -> ChainUpdate {
        let before = self.chain.split_off(&self.lowest());
        let mut update = ChainUpdate::default();
        let after: HashSet<&B256> = chain.iter().collect();
        for hash in before.values().filter(|hash| !after.contains(hash)) {
            update.dropped.extend(self.stored(Some(hash)));
        }
        let mut adopted = self.enter_chain(chain);
        adopted.retain(|stored| before.get(&stored.block) != Some(&stored.hash()));
        self.fork = None;
        ChainUpdate { adopted, ..update }
    }

    /// The chain goes on with these blocks, lowest first.
    fn enter_chain(&mut self, hashes: &[B256]) -> Vec<StoredCommitment> {
        let adopted: Vec<_> = hashes.iter().filter_map(|hash| self.stored(Some(hash))).collect();
        for stored in &adopted {
            self.chain.insert(stored.block, stored.hash());
            self.withdrawn.remove(&stored.hash());
        }
        adopted
    }

    /// Decides anew between all branches above the base.
    fn decide(&mut self) -> ChainUpdate {
        let nodes: Vec<Node> = self.nodes().collect();
        self.adopt(&evaluate(self.lowest(), &nodes))
    }

    /// Removes what stands on blocks that are not `standing`, or on the wrong side of the base.
    fn drop_fallen(&mut self, settled: Option<B256>, standing: &HashSet<B256>) {
        let lowest = self.lowest();
        let falls = |stored: &StoredCommitment| match stored.is_handover() {
            false => !standing.contains(&stored.hash()),
            true if stored.block == lowest => settled.is_some_and(|settled| settled != stored.parent),
            true => !standing.contains(&stored.parent),
        };
        let above = self.heights.range(lowest..).flat_map(|(_, hashes)| hashes);
        let fallen: Vec<B256> =
            above.filter(|hash| self.by_hash.get(*hash).is_some_and(falls)).copied().collect();
        for hash in &fallen {
            self.remove(hash);
        }
    }

    /// The block with this hash at the base's height was settled: it and what it stands on are the chain there.
    fn settle(&mut self, settled: B256) -> Vec<StoredCommitment> {
        let mut dropped = Vec::new();
        let mut next = Some(settled);
        while let Some(stored) = next.and_then(|hash| self.stored(Some(&hash)))
            && self.chain.get(&stored.block) != Some(&stored.hash())
        {
            let before = self.chain.insert(stored.block, stored.hash());
            dropped.extend(before.and_then(|hash| self.stored(Some(&hash))));
            next = Some(stored.parent);
        }
        dropped.reverse();
        dropped
    }

    fn add(&mut self, commitment: StoredCommitment) {
        let hash = commitment.hash();
        self.heights.entry(commitment.block).or_default().push(hash);
        if !commitment.is_handover() {
            self.children.entry(commitment.parent).or_default().push(hash);
        }
        self.by_hash.insert(hash, commitment);
    }

    fn remove(&mut self, hash: &B256) {
        let Some(gone) = self.by_hash.remove(hash) else {
            return;
        };
        self.withdrawn.remove(hash);
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

    /// Gives up a block beside the chain, but not `keep`; says whether there was one.
    fn evict(&mut self, keep: &B256) -> Result<bool, StorageError> {
        let mut fork = match self.fork.take() {
            Some(fork) => fork,
            None => ForkChoice::build(self)?,
        };
        let gone = fork.evict(keep);
        self.fork = Some(fork);
        if let Some((_, hash)) = gone {
            self.remove(&hash);
        }
        Ok(gone.is_some())
    }

    /// The base has moved up along the chain: what stands on another block of its height falls.
    fn drop_beside(&mut self, base: Base, settled: Option<B256>) {
        let mut fallen: HashSet<B256> =
            self.heights.get(&base.number).into_iter().flatten().copied().collect();
        fallen.retain(|hash| Some(*hash) != settled);
        let mut gone = Vec::new();
        for (height, hashes) in self.heights.range(base.next()..) {
            let stands_on = |stored: &StoredCommitment| {
                // Of a settled block whose hash is known, only what names it goes on.
                fallen.contains(&stored.parent)
                    || (*height == base.next() && base.hash.is_some_and(|hash| hash != stored.parent))
            };
            let falls = |hash: &&B256| self.by_hash.get(*hash).is_some_and(stands_on);
            let next: HashSet<B256> = hashes.iter().filter(falls).copied().collect();
            if next.is_empty() {
                break;
            }
            gone.extend(next.iter().copied());
            fallen = next;
        }
        for hash in &gone {
            self.remove(hash);
        }
        let lowest = self.lowest();
        if let Some(fork) = &mut self.fork {
            fork.settle(lowest, &gone);
        }
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
        if state.by_hash.contains_key(&hash) {
            return Ok(Inserted::Known);
        }
        while let Some(full) = self.limits.commitments_full(state.by_hash.len()) {
            if state.prune_lowest(BlockNumber::MAX) == 0 && !state.evict(&new.parent)? {
                return Err(full);
            }
        }
        if new.is_handover() {
            state.add(new);
            return Ok(Inserted::New);
        }
        let mut fork = state.fork.take();
        let choice = choose(&mut fork, &*state, Node::new(&new, false));
        state.fork = fork;
        let choice = choice?;
        state.add(new.clone());
        let inserted = match choice {
            Choice::Extend => {
                state.chain.insert(new.block, hash);
                return Ok(Inserted::New);
            }
            Choice::Side => Inserted::Side,
            Choice::Switch { from, adopted } => {
                let dropped: Vec<B256> = state.chain.split_off(&from).into_values().collect();
                let adopted = state.enter_chain(&adopted);
                match dropped.first() {
                    Some(&previous) => Inserted::Superseded { previous, dropped, adopted },
                    None => Inserted::Restored { adopted },
                }
            }
        };
        while state.fork.as_ref().is_some_and(|fork| fork.len() > self.limits.non_canonical)
            && state.evict(&hash)?
        {}
        Ok(inserted)
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
        let head = Blocks::head(&*state).and_then(|block| state.stored(state.chain.get(&block)));
        Ok(head.map(|head| head.head()))
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        Ok(self.state()?.base)
    }

    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError> {
        let mut state = self.state()?;
        let before = state.base.replace(base);
        if before == Some(base) {
            return Ok(ChainUpdate::default());
        }
        let there = state.chain.get(&base.number).copied();
        let settled = base.hash.or(there);
        let first = state.chain.get(&base.next()).and_then(|hash| state.node(hash));
        let goes_on = settled.is_some()
            && there == settled
            && before.is_some_and(|before| before.number <= base.number)
            && first.is_none_or(|first| Some(first.parent) == settled);
        if goes_on {
            state.drop_beside(base, settled);
            return Ok(ChainUpdate::default());
        }
        let mut dropped = Vec::new();
        if let Some(settled) = base.hash {
            dropped = state.settle(settled);
            if state.chain.get(&base.number).is_some_and(|hash| *hash != settled) {
                dropped.extend(state.stored(state.chain.get(&base.number)));
                for hash in state.heights.get(&base.number).cloned().unwrap_or_default() {
                    state.remove(&hash);
                }
            }
        }
        let nodes: Vec<Node> = state.nodes().collect();
        let standing = standing(state.lowest(), settled, &nodes);
        let nodes: Vec<Node> = nodes.into_iter().filter(|node| standing.contains(&node.hash)).collect();
        let chain = evaluate(state.lowest(), &nodes);
        let mut update = state.adopt(&chain);
        dropped.append(&mut update.dropped);
        state.drop_fallen(settled, &standing);
        Ok(ChainUpdate { dropped, ..update })
    }

    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        let mut state = self.state()?;
        let nodes: Vec<Node> = state.nodes().collect();
        let withdrawn = withdrawn_by(anchor, &nodes);
        if withdrawn.is_empty() {
            return Ok(ChainUpdate::default());
        }
        state.withdrawn.extend(withdrawn);
        Ok(state.decide())
    }

    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        let mut state = self.state()?;
        let back: Vec<B256> = state
            .nodes()
            .filter(|node| node.withdrawn && node.anchor >= anchor)
            .map(|node| node.hash)
            .collect();
        if back.is_empty() {
            return Ok(ChainUpdate::default());
        }
        for hash in &back {
            state.withdrawn.remove(hash);
        }
        Ok(state.decide())
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

    fn commitment_limit(&self) -> Option<usize> {
        Some(self.limits.commitments)
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
