//! The commitments of the store in memory, and the canonical chain among them.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use p2p_types::{Address, B256, Base, BlockNumber};

use crate::{
    ChainUpdate, Inserted, StorageError, StorageLimits, StoredCommitment,
    fork::{Blocks, Choice, ForkChoice, Node, choose, evaluate, standing, with_descendants, withdrawn_by},
};

#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) base: Option<Base>,
    /// Canonical blocks, non-canonical blocks and handovers.
    pub(super) by_hash: HashMap<B256, StoredCommitment>,
    /// The canonical chain: without gaps above the base, and below as far as it has not been pruned.
    pub(super) canonical: BTreeMap<BlockNumber, B256>,
    /// All hashes by height, in order of arrival.
    pub(super) heights: BTreeMap<BlockNumber, Vec<B256>>,
    /// Blocks whose anchor L1 has replaced.
    withdrawn: HashSet<B256>,
    fork: Option<ForkChoice>,
}

impl Blocks for Chain {
    fn lowest(&self) -> BlockNumber {
        self.base.map_or(0, |base| base.next())
    }

    fn head(&self) -> Option<BlockNumber> {
        let (&head, _) = self.canonical.last_key_value()?;
        (head >= self.lowest()).then_some(head)
    }

    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        Ok(self.canonical.get(&block).copied())
    }

    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError> {
        Ok(self.canonical.get(&block).and_then(|hash| self.node(hash)))
    }

    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError> {
        let chain = self.canonical.range(self.lowest()..);
        let signer = |hash| self.by_hash.get(hash).map(|stored| stored.recovered.signer());
        Ok(chain.filter_map(|(block, hash)| Some((*block, signer(hash)?))).collect())
    }

    fn non_canonical(&self) -> Result<Vec<Node>, StorageError> {
        let beside = |node: &Node| self.canonical.get(&node.block) != Some(&node.hash);
        Ok(self.nodes().filter(beside).collect())
    }
}

impl Chain {
    pub(super) fn stored(&self, hash: Option<&B256>) -> Option<StoredCommitment> {
        hash.and_then(|hash| self.by_hash.get(hash)).cloned()
    }

    #[cfg(feature = "test-utils")]
    pub(super) fn is_withdrawn(&self, hash: &B256) -> bool {
        self.withdrawn.contains(hash)
    }

    /// The block with this hash; none for a handover.
    fn node(&self, hash: &B256) -> Option<Node> {
        let stored = self.by_hash.get(hash).filter(|stored| !stored.is_handover())?;
        Some(Node::new(stored, self.withdrawn.contains(hash)))
    }

    /// The blocks above the base, in order of height.
    fn nodes(&self) -> impl Iterator<Item = Node> {
        let above = self.heights.range(self.lowest()..);
        above.flat_map(|(_, hashes)| hashes).filter_map(|hash| self.node(hash))
    }

    /// Makes these blocks the canonical chain above the base.
    fn adopt(&mut self, chain: &[B256]) -> ChainUpdate {
        let before = self.canonical.split_off(&self.lowest());
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

    /// Makes these blocks, lowest first, the end of the chain.
    fn enter_chain(&mut self, hashes: &[B256]) -> Vec<StoredCommitment> {
        let adopted: Vec<_> = hashes.iter().filter_map(|hash| self.stored(Some(hash))).collect();
        for stored in &adopted {
            self.canonical.insert(stored.block, stored.hash());
            self.withdrawn.remove(&stored.hash());
        }
        adopted
    }

    /// Runs fork choice over all blocks above the base.
    fn decide(&mut self) -> ChainUpdate {
        let nodes: Vec<Node> = self.nodes().collect();
        self.adopt(&evaluate(self.lowest(), &nodes))
    }

    /// As [`CommitmentStore::remove`](crate::CommitmentStore::remove).
    pub(super) fn remove_with_descendants(&mut self, hashes: &[B256]) -> ChainUpdate {
        let nodes: Vec<Node> = self.nodes().collect();
        let gone = with_descendants(hashes, &nodes);
        let lowest = self.lowest();
        let handovers: Vec<B256> = hashes
            .iter()
            .filter(|hash| {
                self.by_hash.get(*hash).is_some_and(|stored| stored.is_handover() && stored.block >= lowest)
            })
            .copied()
            .collect();
        self.remove_all(&handovers);
        if gone.is_empty() {
            return ChainUpdate::default();
        }
        let left: Vec<Node> = nodes.into_iter().filter(|node| !gone.contains(&node.hash)).collect();
        let update = self.adopt(&evaluate(lowest, &left));
        self.drop_fallen(None, &left.iter().map(|node| node.hash).collect());
        update
    }

    /// Removes what is above the base and has an ancestor that is not in `standing`.
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
        self.remove_all(&fallen);
    }

    /// Makes the settled block at the base's height and its ancestors canonical, if it is one. Returns the blocks that they
    /// replace, lowest first.
    fn settle(&mut self, number: BlockNumber, settled: B256) -> Vec<StoredCommitment> {
        let mut dropped = Vec::new();
        let is_block = |stored: &StoredCommitment| stored.block == number && !stored.is_handover();
        let mut next = self.stored(Some(&settled)).filter(is_block);
        while let Some(stored) = next.filter(|it| self.canonical.get(&it.block) != Some(&it.hash())) {
            let before = self.canonical.insert(stored.block, stored.hash());
            dropped.extend(before.and_then(|hash| self.stored(Some(&hash))));
            next = self.stored(Some(&stored.parent));
        }
        dropped.reverse();
        dropped
    }

    fn add(&mut self, commitment: StoredCommitment) {
        let hash = commitment.hash();
        self.heights.entry(commitment.block).or_default().push(hash);
        self.by_hash.insert(hash, commitment);
    }

    fn remove(&mut self, hash: &B256) {
        self.remove_all(std::slice::from_ref(hash));
    }

    /// Looks at each height once, however many go there.
    fn remove_all(&mut self, hashes: &[B256]) {
        let mut at = BTreeSet::new();
        for hash in hashes {
            let Some(gone) = self.by_hash.remove(hash) else { continue };
            at.insert(gone.block);
            self.withdrawn.remove(hash);
            if self.canonical.get(&gone.block) == Some(hash) {
                self.canonical.remove(&gone.block);
            }
        }
        for block in at {
            if let Some(here) = self.heights.get_mut(&block) {
                here.retain(|hash| self.by_hash.contains_key(hash));
                if here.is_empty() {
                    self.heights.remove(&block);
                }
            }
        }
    }

    /// Removes the lowest height if it is settled and below `below`. Returns how many commitments were removed.
    pub(super) fn prune_lowest(&mut self, below: BlockNumber) -> usize {
        let below = below.min(self.base.map_or(0, |base| base.number));
        let Some((&lowest, hashes)) = self.heights.first_key_value() else {
            return 0;
        };
        if lowest >= below {
            return 0;
        }
        let hashes = hashes.clone();
        self.remove_all(&hashes);
        hashes.len()
    }

    /// Evicts a non-canonical block other than `keep`. Returns whether there was one.
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

    /// The base has moved up along the chain: removes the descendants of other blocks at its height.
    fn drop_beside(&mut self, base: Base, settled: Option<B256>) {
        let mut fallen: HashSet<B256> =
            self.heights.get(&base.number).into_iter().flatten().copied().collect();
        fallen.retain(|hash| Some(*hash) != settled);
        let mut gone = Vec::new();
        for (height, hashes) in self.heights.range(base.next()..) {
            let stands_on = |stored: &StoredCommitment| {
                // A child of a settled block with a known hash names that hash.
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
        self.remove_all(&gone);
        let lowest = self.lowest();
        if let Some(fork) = &mut self.fork {
            fork.settle(lowest, &gone);
        }
    }

    /// As [`CommitmentStore::insert`](crate::CommitmentStore::insert).
    pub(super) fn insert(
        &mut self,
        limits: &StorageLimits,
        new: StoredCommitment,
    ) -> Result<Inserted, StorageError> {
        if self.base.is_none() {
            return Err(StorageError::NoBase);
        }
        let hash = new.hash();
        if self.by_hash.contains_key(&hash) {
            return Ok(Inserted::Known);
        }
        while let Some(full) = limits.commitments_full(self.by_hash.len()) {
            if self.prune_lowest(BlockNumber::MAX) == 0 && !self.evict(&new.parent)? {
                return Err(full);
            }
        }
        if new.is_handover() {
            self.add(new);
            return Ok(Inserted::New);
        }
        let mut fork = self.fork.take();
        let choice = choose(&mut fork, &*self, Node::new(&new, false));
        self.fork = fork;
        let choice = choice?;
        self.add(new.clone());
        let inserted = match choice {
            Choice::Extend => {
                self.canonical.insert(new.block, hash);
                return Ok(Inserted::New);
            }
            Choice::NonCanonical => Inserted::NonCanonical,
            Choice::Switch { from, adopted } => {
                let dropped: Vec<B256> = self.canonical.split_off(&from).into_values().collect();
                let adopted = self.enter_chain(&adopted);
                match dropped.first() {
                    Some(&previous) => Inserted::Superseded { previous, dropped, adopted },
                    None => Inserted::Restored { adopted },
                }
            }
        };
        while self.fork.as_ref().is_some_and(|fork| fork.len() > limits.non_canonical) && self.evict(&hash)? {
        }
        Ok(inserted)
    }

    /// As [`CommitmentStore::set_base`](crate::CommitmentStore::set_base).
    pub(super) fn set_base(&mut self, base: Base) -> ChainUpdate {
        let before = self.base.replace(base);
        if before == Some(base) {
            return ChainUpdate::default();
        }
        let there = self.canonical.get(&base.number).copied();
        let settled = base.hash.or(there);
        let first = self.canonical.get(&base.next()).and_then(|hash| self.node(hash));
        let goes_on = settled.is_some()
            && there == settled
            && before.is_some_and(|before| before.number <= base.number)
            && first.is_none_or(|first| Some(first.parent) == settled);
        if goes_on {
            self.drop_beside(base, settled);
            return ChainUpdate::default();
        }
        let mut dropped = Vec::new();
        if let Some(settled) = base.hash {
            dropped = self.settle(base.number, settled);
            if self.canonical.get(&base.number).is_some_and(|hash| *hash != settled) {
                dropped.extend(self.stored(self.canonical.get(&base.number)));
                let gone = self.heights.get(&base.number).cloned().unwrap_or_default();
                self.remove_all(&gone);
            }
        }
        let nodes: Vec<Node> = self.nodes().collect();
        let standing = standing(self.lowest(), settled, &nodes);
        let nodes: Vec<Node> = nodes.into_iter().filter(|node| standing.contains(&node.hash)).collect();
        let chain = evaluate(self.lowest(), &nodes);
        let mut update = self.adopt(&chain);
        dropped.append(&mut update.dropped);
        self.drop_fallen(settled, &standing);
        ChainUpdate { dropped, ..update }
    }

    /// As [`CommitmentStore::settle_other`](crate::CommitmentStore::settle_other).
    pub(super) fn settle_other(&mut self, block: BlockNumber, settled: B256) -> ChainUpdate {
        // What is stored contradicts this hash, at this height and above.
        let update = self.set_base(Base { number: block, hash: Some(settled) });
        self.set_base(Base::at(block));
        update
    }

    /// As [`CommitmentStore::withdraw`](crate::CommitmentStore::withdraw).
    pub(super) fn withdraw(&mut self, anchor: BlockNumber) -> ChainUpdate {
        let nodes: Vec<Node> = self.nodes().collect();
        let withdrawn = withdrawn_by(anchor, &nodes);
        if withdrawn.is_empty() {
            return ChainUpdate::default();
        }
        self.withdrawn.extend(withdrawn);
        self.decide()
    }

    /// As [`CommitmentStore::reinstate`](crate::CommitmentStore::reinstate).
    pub(super) fn reinstate(&mut self, anchor: BlockNumber) -> ChainUpdate {
        let back: Vec<B256> = self
            .nodes()
            .filter(|node| node.withdrawn && node.anchor >= anchor)
            .map(|node| node.hash)
            .collect();
        if back.is_empty() {
            return ChainUpdate::default();
        }
        for hash in &back {
            self.withdrawn.remove(hash);
        }
        self.decide()
    }
}
