//! Fork choice (§7): which branch above the base is the canonical chain.
//!
//! At each fork, from the base upwards, the child with the best subtree is canonical. Subtrees are compared by the most
//! turns along a path (a turn is an uninterrupted run of blocks of one signer), then by the later window of the child, the
//! highest block, the later timestamp of the child, and the lower hash. So the chain is a function of the set of linked
//! blocks, not of their arrival, and one elected signer displaces at most one turn of others.
//!
//! [`ForkChoice`] is incremental: it keeps an index of the non-canonical blocks, so that a new block costs the length of its
//! own branch, however long the chain is. [`evaluate`] decides about a whole set, after a base or an L1 reorg has changed
//! it. Neither knows how a store keeps its blocks.

mod evaluate;
mod rank;

use std::collections::BTreeSet;

use hashbrown::HashMap;
use p2p_types::{Address, B256, BlockNumber};

use crate::StorageError;
use rank::{Rank, Reach, own_reach};

pub(crate) use evaluate::{evaluate, standing, with_descendants, withdrawn_by};
pub(crate) use rank::Node;

/// The view of a store that fork choice takes: its blocks above the base, without handovers.
pub(crate) trait Blocks {
    /// The lowest height above the base.
    fn lowest(&self) -> BlockNumber;
    /// The height of the head; none while the chain above the base is empty.
    fn head(&self) -> Option<BlockNumber>;
    /// The hash of the canonical block at a height.
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError>;
    /// The canonical block at a height.
    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError>;
    /// The signers of the canonical blocks, in order of height.
    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError>;
    /// The non-canonical blocks, in order of height.
    fn non_canonical(&self) -> Result<Vec<Node>, StorageError>;
}

/// What a new block does to the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It extends the head.
    Extend,
    /// It is not canonical, and the chain stays as it is.
    NonCanonical,
    /// A reorg: from this height on the chain is these blocks, lowest first. The new one need not be among them.
    Switch { from: BlockNumber, adopted: Vec<B256> },
}

/// A non-canonical block.
#[derive(Debug, Clone, Copy)]
struct Entry {
    node: Node,
    /// The number of its turn, counted from the base.
    turn: u64,
    /// How far its subtree reaches; none if all of it is withdrawn.
    reach: Option<Reach>,
}

impl Entry {
    fn new(node: Node, turn: u64) -> Self {
        Self { node, turn, reach: own_reach(&node, turn) }
    }

    fn rank(&self) -> Option<Rank> {
        self.reach.map(|reach| Rank::new(&self.node, self.turn, reach))
    }

    /// As a leaf.
    fn leaf(&self) -> Leaf {
        let own = own_reach(&self.node, self.turn);
        (own.map(|reach| Rank::new(&self.node, self.turn, reach)), self.node.hash)
    }
}

/// The rank and the hash of a block without children.
type Leaf = (Option<Rank>, B256);

/// The index of non-canonical blocks. Built from the store with the first block that does not extend the head; from then on
/// it must be told of every change.
#[derive(Debug, Default)]
pub(crate) struct ForkChoice {
    /// The turns of the canonical chain: the height where each begins, and its signer.
    turns: Vec<(BlockNumber, Address)>,
    /// The number of the first of `turns`; earlier ones are below the base.
    first_turn: u64,
    entries: HashMap<B256, Entry>,
    /// Non-canonical blocks by their parent.
    children: HashMap<B256, BTreeSet<B256>>,
    /// The non-canonical blocks without children, by signer, in the order of eviction.
    leaves: HashMap<Address, BTreeSet<Leaf>>,
    /// The roots of non-canonical branches, whose parent is canonical or the base, by height.
    roots: BTreeSet<(BlockNumber, B256)>,
    /// How many non-canonical blocks each signer has.
    by_signer: HashMap<Address, usize>,
}

/// Decides about a linked block that is not in the store.
///
/// # Errors
/// [`StorageError::UnknownParent`] if its parent is not there; the index is unchanged then. Other errors drop the index.
pub(crate) fn choose(
    fork: &mut Option<ForkChoice>,
    store: &impl Blocks,
    new: Node,
) -> Result<Choice, StorageError> {
    let below = new.block.checked_sub(1);
    let on_chain = new.block == store.lowest()
        || match below {
            Some(below) => store.canonical(below)? == Some(new.parent),
            None => false,
        };
    if on_chain && store.canonical(new.block)?.is_none() {
        if let Some(fork) = fork {
            fork.extend(new.block, new.signer);
        }
        return Ok(Choice::Extend);
    }
    let mut known = match fork.take() {
        Some(known) => known,
        None => ForkChoice::build(store)?,
    };
    if !on_chain && !known.entries.contains_key(&new.parent) {
        *fork = Some(known);
        return Err(StorageError::UnknownParent(new.parent));
    }
    let choice = known.insert(store, new, on_chain)?;
    *fork = Some(known);
    Ok(choice)
}

impl ForkChoice {
    /// Builds the index from a store.
    pub(crate) fn build(store: &impl Blocks) -> Result<Self, StorageError> {
        let mut fork = Self::default();
        for (block, signer) in store.canonical_signers()? {
            fork.extend(block, signer);
        }
        for node in store.non_canonical()? {
            let on_chain = match node.block.checked_sub(1) {
                _ if node.block == store.lowest() => true,
                Some(below) => store.canonical(below)? == Some(node.parent),
                None => false,
            };
            if on_chain || fork.entries.contains_key(&node.parent) {
                fork.add(node, on_chain);
            }
        }
        Ok(fork)
    }

    /// How many non-canonical blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The chain was extended.
    pub(crate) fn extend(&mut self, block: BlockNumber, signer: Address) {
        if self.turns.last().is_none_or(|(_, last)| *last != signer) {
            self.turns.push((block, signer));
        }
    }

    /// The turn of the canonical block at a height; none below the known turns.
    fn turn_at(&self, block: BlockNumber) -> Option<(u64, Address)> {
        let index = self.turns.partition_point(|(first, _)| *first <= block).checked_sub(1)?;
        let (_, signer) = self.turns.get(index)?;
        Some((self.first_turn.saturating_add(index as u64), *signer))
    }

    /// The turn of a block on a parent.
    fn turn_on(parent: Option<(u64, Address)>, first: u64, signer: Address) -> u64 {
        parent.map_or(first, |(turn, before)| turn.saturating_add(u64::from(before != signer)))
    }

    /// Adds a non-canonical block. Returns the root of its branch.
    fn add(&mut self, node: Node, on_chain: bool) -> B256 {
        let parent = if on_chain {
            node.block.checked_sub(1).and_then(|below| self.turn_at(below))
        } else {
            self.entries.get(&node.parent).map(|parent| (parent.turn, parent.node.signer))
        };
        let entry = Entry::new(node, Self::turn_on(parent, self.first_turn, node.signer));
        self.put(entry);
        if on_chain {
            self.roots.insert((node.block, node.hash));
        }
        self.raise(node.hash)
    }

    fn put(&mut self, entry: Entry) {
        let Node { hash, parent, signer, .. } = entry.node;
        if self.entries.insert(hash, entry).is_none() {
            self.remove_leaf(&parent);
            self.children.entry(parent).or_default().insert(hash);
            self.insert_leaf(&hash);
            *self.by_signer.entry(signer).or_default() += 1;
        }
    }

    /// Notes a block, unless it has children.
    fn insert_leaf(&mut self, hash: &B256) {
        if let Some(entry) = self.entries.get(hash)
            && !self.children.contains_key(hash)
        {
            self.leaves.entry(entry.node.signer).or_default().insert(entry.leaf());
        }
    }

    fn remove_leaf(&mut self, hash: &B256) {
        if let Some(entry) = self.entries.get(hash)
            && let Some(leaves) = self.leaves.get_mut(&entry.node.signer)
        {
            leaves.remove(&entry.leaf());
            if leaves.is_empty() {
                self.leaves.remove(&entry.node.signer);
            }
        }
    }

    fn take(&mut self, hash: &B256) -> Option<Entry> {
        self.remove_leaf(hash);
        let entry = self.entries.remove(hash)?;
        let Node { parent, block, signer, .. } = entry.node;
        self.roots.remove(&(block, *hash));
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(hash);
            if siblings.is_empty() {
                self.children.remove(&parent);
                self.insert_leaf(&parent);
            }
        }
        if let Some(count) = self.by_signer.get_mut(&signer) {
            *count -= 1;
            if *count == 0 {
                self.by_signer.remove(&signer);
            }
        }
        Some(entry)
    }

    /// Propagates the reach of a block to its ancestors. Returns the root of its branch.
    fn raise(&mut self, hash: B256) -> B256 {
        let (mut at, mut reach) = (hash, self.entries.get(&hash).and_then(|entry| entry.reach));
        while let Some(parent) = self.entries.get(&at).map(|entry| entry.node.parent)
            && let Some(entry) = self.entries.get_mut(&parent)
        {
            entry.reach = Reach::union(entry.reach, reach);
            (at, reach) = (parent, entry.reach);
        }
        at
    }

    fn insert(&mut self, store: &impl Blocks, new: Node, on_chain: bool) -> Result<Choice, StorageError> {
        let root = self.add(new, on_chain);
        let Some((from, rank)) =
            self.entries.get(&root).and_then(|entry| Some((entry.node.block, entry.rank()?)))
        else {
            return Ok(Choice::NonCanonical);
        };
        // Only the fork at the root can change: at forks below it, the canonical child's reach has grown as well.
        if let (Some(rival), Some(head)) = (store.canonical_node(from)?, store.head())
            && self.outranks(&rival, head, rank)
        {
            return Ok(Choice::NonCanonical);
        }
        let adopted = self.best_path(root);
        self.switch(store, from, &adopted)?;
        Ok(Choice::Switch { from, adopted })
    }

    /// Whether a canonical block, where the chain ends at `head`, has a higher rank than a sibling.
    fn outranks(&self, node: &Node, head: BlockNumber, sibling: Rank) -> bool {
        let (Some((turn, _)), Some((last_turn, _))) = (self.turn_at(node.block), self.turn_at(head)) else {
            return false;
        };
        let mut reach = Reach { turn: last_turn, block: head };
        // Most siblings lose against the chain itself; branches that leave it above can only raise its rank.
        if Rank::new(node, turn, reach) > sibling {
            return true;
        }
        self.roots.range((node.block.saturating_add(1), B256::ZERO)..).any(|(_, root)| {
            reach = reach.max(self.entries.get(root).and_then(|entry| entry.reach));
            Rank::new(node, turn, reach) > sibling
        })
    }

    /// The best path from the root of a non-canonical branch to a leaf.
    fn best_path(&self, root: B256) -> Vec<B256> {
        let mut path = vec![root];
        let mut at = root;
        while let Some((_, best)) =
            self.children_of(&at).filter_map(|hash| Some((self.entries.get(hash)?.rank()?, *hash))).max()
        {
            path.push(best);
            at = best;
        }
        path
    }

    fn children_of(&self, hash: &B256) -> impl Iterator<Item = &B256> {
        self.children.get(hash).into_iter().flatten()
    }

    /// Makes `adopted` canonical from this height on, and the canonical blocks there non-canonical.
    fn switch(
        &mut self,
        store: &impl Blocks,
        from: BlockNumber,
        adopted: &[B256],
    ) -> Result<(), StorageError> {
        let mut left = Vec::new();
        for block in from..=store.head().unwrap_or_default() {
            let node = store.canonical_node(block)?;
            left.extend(node.and_then(|node| Some(Entry::new(node, self.turn_at(block)?.0))));
        }
        // Roots above become inner blocks of the branch that leaves the chain.
        self.roots.split_off(&(from.saturating_add(1), B256::ZERO));
        while self.turns.last().is_some_and(|(first, _)| *first >= from) {
            self.turns.pop();
        }
        for hash in adopted {
            if let Some(entry) = self.take(hash) {
                self.extend(entry.node.block, entry.node.signer);
            }
        }
        let beside: Vec<B256> = adopted.iter().flat_map(|hash| self.children_of(hash)).copied().collect();
        for hash in beside {
            self.roots.extend(self.entries.get(&hash).map(|entry| (entry.node.block, hash)));
        }
        self.roots.extend(left.first().map(|lowest| (from, lowest.node.hash)));
        for entry in left.into_iter().rev() {
            self.put(entry);
            self.update_reach(entry.node.hash);
        }
        Ok(())
    }

    /// Recomputes the reach of a block from its children.
    fn update_reach(&mut self, hash: B256) {
        let Some(entry) = self.entries.get(&hash) else { return };
        let children = self.children_of(&hash).filter_map(|child| self.entries.get(child));
        let reach = children
            .fold(own_reach(&entry.node, entry.turn), |reach, child| Reach::union(reach, child.reach));
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.reach = reach;
        }
    }

    /// Recomputes the reach of a block that has lost a child. Returns whether it has changed. It cannot have grown, so no
    /// more children are looked at than reach as far together.
    fn lower_reach(&mut self, hash: B256) -> bool {
        let Some(entry) = self.entries.get(&hash) else { return false };
        let mut reach = own_reach(&entry.node, entry.turn);
        for child in self.children_of(&hash).filter_map(|child| self.entries.get(child)) {
            if reach == entry.reach {
                return false;
            }
            reach = Reach::union(reach, child.reach);
        }
        let changed = entry.reach != reach;
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.reach = reach;
        }
        changed
    }

    /// The base has moved up along the chain, and `gone` has been removed.
    pub(crate) fn settle(&mut self, lowest: BlockNumber, gone: &[B256]) {
        for hash in gone {
            self.take(hash);
        }
        let settled: Vec<B256> = self
            .entries
            .values()
            .map(|entry| entry.node)
            .filter(|node| node.block < lowest)
            .map(|node| node.hash)
            .collect();
        for hash in &settled {
            self.take(hash);
        }
        let over = self.turns.iter().skip(1).take_while(|(first, _)| *first <= lowest).count();
        self.turns.drain(..over);
        self.first_turn = self.first_turn.saturating_add(over as u64);
    }

    /// Evicts a non-canonical leaf: of the signer with the most non-canonical blocks, the one of the lowest rank. Spares
    /// `keep`, which is about to get a child. Returns its height and hash.
    pub(crate) fn evict(&mut self, keep: &B256) -> Option<(BlockNumber, B256)> {
        let (worst, _) = self.by_signer.iter().max_by_key(|(signer, count)| (**count, **signer))?;
        let least = |leaves: &BTreeSet<Leaf>| leaves.iter().find(|(_, hash)| hash != keep).copied();
        let gone = self.leaves.get(worst).and_then(least);
        let (_, hash) = gone.or_else(|| self.leaves.values().filter_map(least).min())?;
        let gone = self.take(&hash)?.node;
        let mut at = gone.parent;
        while self.lower_reach(at)
            && let Some(entry) = self.entries.get(&at)
        {
            at = entry.node.parent;
        }
        Some((gone.block, gone.hash))
    }
}

#[cfg(all(test, feature = "test-utils"))]
mod tests;
