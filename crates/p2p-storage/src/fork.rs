//! Fork choice (§7): which of several branches above the base is the chain.
//!
//! At each fork, from the base upwards, the child stands whose subtree is best by, in this order: the most turns along a
//! path of it (a turn is an uninterrupted run of blocks of one signer), the later window of the child, the highest
//! block, the later timestamp of the child, the lower hash. So the chain is a function of the set of linked blocks, and
//! one elected signer displaces at most one turn of others, whatever it signs and whenever it shows it.
//!
//! [`ForkChoice`] keeps what the decision needs of the blocks beside the chain, so that a new block costs the length of
//! its own branch, however long the chain is; [`evaluate`] decides about a whole set at once, where a base or L1 has
//! changed it. Both know nothing of how a store keeps its blocks.

use std::{cmp::Reverse, collections::BTreeSet};

use hashbrown::{HashMap, HashSet};
use p2p_types::{Address, B256, BlockNumber, U256};

use crate::{StorageError, StoredCommitment};

/// What fork choice needs to know of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) hash: B256,
    pub(crate) parent: B256,
    pub(crate) block: BlockNumber,
    pub(crate) signer: Address,
    /// The end of its submission window, in seconds.
    pub(crate) window: u64,
    /// Its time, in seconds.
    pub(crate) timestamp: u64,
    /// Its anchor on L1.
    pub(crate) anchor: BlockNumber,
    /// L1 has replaced its anchor: it stands only below a block that does not have this mark.
    pub(crate) withdrawn: bool,
}

impl Node {
    pub(crate) fn new(stored: &StoredCommitment, withdrawn: bool) -> Self {
        let preconf = stored.recovered.signed().preconf();
        // What is stored has passed the rules, by which these fit 64 bits.
        let number = |value: U256| u64::try_from(value).unwrap_or(u64::MAX);
        Self {
            hash: stored.hash(),
            parent: stored.parent,
            block: stored.block,
            signer: stored.recovered.signer(),
            window: number(preconf.submission_window_end),
            timestamp: number(preconf.timestamp),
            anchor: number(preconf.anchor_block_number),
            withdrawn,
        }
    }
}

/// What the decision needs to see of a store: its blocks above the base. Handovers are none.
pub(crate) trait Blocks {
    /// The lowest height above the base.
    fn lowest(&self) -> BlockNumber;
    /// The height of the chain's last block; none while nothing stands above the base.
    fn head(&self) -> Option<BlockNumber>;
    /// The hash of the chain's block at a height.
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError>;
    /// The chain's block at a height.
    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError>;
    /// Who signed the blocks of the chain, in order of height.
    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError>;
    /// The blocks beside the chain, in order of height.
    fn non_canonical(&self) -> Result<Vec<Node>, StorageError>;
}

/// What a new block does to the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It stands on the head.
    Extend,
    /// The chain stays as it is.
    Side,
    /// From this height on the chain is these blocks, lowest first. The new one need not be among them.
    Switch { from: BlockNumber, adopted: Vec<B256> },
}

/// How far a subtree reaches: its deepest turn, counted from the base, and its highest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    turn: u64,
    block: BlockNumber,
}

impl Reach {
    fn max(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| Self {
            turn: self.turn.max(other.turn),
            block: self.block.max(other.block),
        })
    }

    fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.map_or(other, |one| Some(one.max(other)))
    }
}

/// By what siblings are compared; the greatest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    turns: u64,
    window: u64,
    highest: BlockNumber,
    timestamp: u64,
    hash: Reverse<B256>,
}

impl Rank {
    fn new(node: &Node, turn: u64, reach: Reach) -> Self {
        Self {
            turns: reach.turn.saturating_sub(turn).saturating_add(1),
            window: node.window,
            highest: reach.block,
            timestamp: node.timestamp,
            hash: Reverse(node.hash),
        }
    }
}

/// A block beside the chain.
#[derive(Debug, Clone, Copy)]
struct Side {
    node: Node,
    /// The number of its turn, counted from the base.
    turn: u64,
    /// How far its subtree reaches; none if all of it is withdrawn.
    reach: Option<Reach>,
}

impl Side {
    fn new(node: Node, turn: u64) -> Self {
        Self { node, turn, reach: own_reach(&node, turn) }
    }

    fn rank(&self) -> Option<Rank> {
        self.reach.map(|reach| Rank::new(&self.node, self.turn, reach))
    }
}

fn own_reach(node: &Node, turn: u64) -> Option<Reach> {
    (!node.withdrawn).then_some(Reach { turn, block: node.block })
}

/// Decides about one new block after the other. Built from the store when the first block comes that does not extend the
/// chain; from then on it must be told of every change.
#[derive(Debug, Default)]
pub(crate) struct ForkChoice {
    /// The turns of the chain: where each begins, and whose it is.
    turns: Vec<(BlockNumber, Address)>,
    /// The number of the first of them: earlier ones are below the base.
    first_turn: u64,
    sides: HashMap<B256, Side>,
    /// Blocks beside the chain by their parent.
    children: HashMap<B256, Vec<B256>>,
    /// Blocks beside the chain whose parent is in it or is the base, with their heights.
    roots: BTreeSet<(BlockNumber, B256)>,
    /// Blocks beside the chain that each signer has.
    by_signer: HashMap<Address, usize>,
}

/// Decides about a new block that is linked and not known yet.
///
/// # Errors
/// [`StorageError::UnknownParent`] if its parent is not there; nothing is noted then. Other errors leave nothing built.
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
    if !on_chain && !known.sides.contains_key(&new.parent) {
        *fork = Some(known);
        return Err(StorageError::UnknownParent(new.parent));
    }
    let choice = known.insert(store, new, on_chain)?;
    *fork = Some(known);
    Ok(choice)
}

impl ForkChoice {
    /// What a store holds now.
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
            if on_chain || fork.sides.contains_key(&node.parent) {
                fork.add(node, on_chain);
            }
        }
        Ok(fork)
    }

    /// How many blocks there are beside the chain.
    pub(crate) fn len(&self) -> usize {
        self.sides.len()
    }

    /// The chain goes on.
    pub(crate) fn extend(&mut self, block: BlockNumber, signer: Address) {
        if self.turns.last().is_none_or(|(_, last)| *last != signer) {
            self.turns.push((block, signer));
        }
    }

    /// The chain's turn at a height; none below what is known of it.
    fn turn_at(&self, block: BlockNumber) -> Option<(u64, Address)> {
        let index = self.turns.partition_point(|(first, _)| *first <= block).checked_sub(1)?;
        let (_, signer) = self.turns.get(index)?;
        Some((self.first_turn.saturating_add(index as u64), *signer))
    }

    /// The turn of a block on a parent.
    fn turn_on(parent: Option<(u64, Address)>, first: u64, signer: Address) -> u64 {
        parent.map_or(first, |(turn, before)| turn.saturating_add(u64::from(before != signer)))
    }

    /// Notes a block beside the chain; returns the one at which its branch leaves the chain.
    fn add(&mut self, node: Node, on_chain: bool) -> B256 {
        let parent = if on_chain {
            node.block.checked_sub(1).and_then(|below| self.turn_at(below))
        } else {
            self.sides.get(&node.parent).map(|parent| (parent.turn, parent.node.signer))
        };
        let side = Side::new(node, Self::turn_on(parent, self.first_turn, node.signer));
        self.put(side);
        if on_chain {
            self.roots.insert((node.block, node.hash));
        }
        self.raise(node.hash)
    }

    fn put(&mut self, side: Side) {
        let Node { hash, parent, signer, .. } = side.node;
        if self.sides.insert(hash, side).is_none() {
            self.children.entry(parent).or_default().push(hash);
            *self.by_signer.entry(signer).or_default() += 1;
        }
    }

    fn take(&mut self, hash: &B256) -> Option<Side> {
        let side = self.sides.remove(hash)?;
        let Node { parent, block, signer, .. } = side.node;
        self.roots.remove(&(block, *hash));
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.retain(|other| other != hash);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        if let Some(count) = self.by_signer.get_mut(&signer) {
            *count -= 1;
            if *count == 0 {
                self.by_signer.remove(&signer);
            }
        }
        Some(side)
    }

    /// Tells the ancestors of a block how far it reaches; returns the lowest of them beside the chain.
    fn raise(&mut self, hash: B256) -> B256 {
        let (mut at, mut reach) = (hash, self.sides.get(&hash).and_then(|side| side.reach));
        while let Some(parent) = self.sides.get(&at).map(|side| side.node.parent)
            && let Some(side) = self.sides.get_mut(&parent)
        {
            side.reach = Reach::union(side.reach, reach);
            (at, reach) = (parent, side.reach);
        }
        at
    }

    fn insert(&mut self, store: &impl Blocks, new: Node, on_chain: bool) -> Result<Choice, StorageError> {
        let root = self.add(new, on_chain);
        let Some((from, rank)) = self.sides.get(&root).and_then(|side| Some((side.node.block, side.rank()?)))
        else {
            return Ok(Choice::Side);
        };
        // Only this fork can be decided otherwise: at those below, what the chain's child reaches has grown with it.
        if let (Some(rival), Some(head)) = (store.canonical_node(from)?, store.head())
            && self.canonical_rank(&rival, head) > Some(rank)
        {
            return Ok(Choice::Side);
        }
        let adopted = self.best_path(root);
        self.switch(store, from, &adopted)?;
        Ok(Choice::Switch { from, adopted })
    }

    /// The rank of a block of the chain among its siblings, where the chain ends at `head`.
    fn canonical_rank(&self, node: &Node, head: BlockNumber) -> Option<Rank> {
        let ((turn, _), (last_turn, _)) = (self.turn_at(node.block)?, self.turn_at(head)?);
        let mut reach = Reach { turn: last_turn, block: head };
        for (_, root) in self.roots.range((node.block.saturating_add(1), B256::ZERO)..) {
            reach = reach.max(self.sides.get(root).and_then(|side| side.reach));
        }
        Some(Rank::new(node, turn, reach))
    }

    /// From a block beside the chain upwards, the best child of each.
    fn best_path(&self, root: B256) -> Vec<B256> {
        let mut path = vec![root];
        let mut at = root;
        while let Some((_, best)) =
            self.children_of(&at).filter_map(|hash| Some((self.sides.get(hash)?.rank()?, *hash))).max()
        {
            path.push(best);
            at = best;
        }
        path
    }

    fn children_of(&self, hash: &B256) -> impl Iterator<Item = &B256> {
        self.children.get(hash).into_iter().flatten()
    }

    /// The chain goes through `adopted` from this height on; what it was there now stands beside it.
    fn switch(
        &mut self,
        store: &impl Blocks,
        from: BlockNumber,
        adopted: &[B256],
    ) -> Result<(), StorageError> {
        let mut left = Vec::new();
        for block in from..=store.head().unwrap_or_default() {
            let node = store.canonical_node(block)?;
            left.extend(node.and_then(|node| Some(Side::new(node, self.turn_at(block)?.0))));
        }
        // Branches that left the chain above are now part of this one.
        self.roots.split_off(&(from.saturating_add(1), B256::ZERO));
        while self.turns.last().is_some_and(|(first, _)| *first >= from) {
            self.turns.pop();
        }
        for hash in adopted {
            if let Some(side) = self.take(hash) {
                self.extend(side.node.block, side.node.signer);
            }
        }
        let beside: Vec<B256> = adopted.iter().flat_map(|hash| self.children_of(hash)).copied().collect();
        for hash in beside {
            self.roots.extend(self.sides.get(&hash).map(|side| (side.node.block, hash)));
        }
        self.roots.extend(left.first().map(|lowest| (from, lowest.node.hash)));
        for side in left.into_iter().rev() {
            self.put(side);
            self.reach_anew(side.node.hash);
        }
        Ok(())
    }

    /// Says anew how far the subtree of a block reaches, by its children; returns whether that is another answer.
    fn reach_anew(&mut self, hash: B256) -> bool {
        let Some(side) = self.sides.get(&hash) else { return false };
        let children = self.children_of(&hash).filter_map(|child| self.sides.get(child));
        let reach =
            children.fold(own_reach(&side.node, side.turn), |reach, child| Reach::union(reach, child.reach));
        let changed = side.reach != reach;
        if let Some(side) = self.sides.get_mut(&hash) {
            side.reach = reach;
        }
        changed
    }

    /// The base has moved up along the chain; `gone` does not stand on it any more.
    pub(crate) fn settle(&mut self, lowest: BlockNumber, gone: &[B256]) {
        for hash in gone {
            self.take(hash);
        }
        let settled: Vec<B256> = self
            .sides
            .values()
            .map(|side| side.node)
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

    /// Gives up a block beside the chain on which nothing stands: of the signer who has most of them, the one of the
    /// lowest rank. Not `keep`, on which something is about to stand. Says which, and its height.
    pub(crate) fn evict(&mut self, keep: &B256) -> Option<(BlockNumber, B256)> {
        let (worst, _) = self.by_signer.iter().max_by_key(|(signer, count)| (**count, **signer))?;
        let leaves = || {
            self.sides
                .values()
                .filter(|side| side.node.hash != *keep && !self.children.contains_key(&side.node.hash))
        };
        let least = |side: &&Side| (side.rank(), side.node.hash);
        let gone = leaves().filter(|side| side.node.signer == *worst).min_by_key(least);
        let gone = gone.or_else(|| leaves().min_by_key(least))?.node;
        self.take(&gone.hash);
        let mut at = gone.parent;
        while self.reach_anew(at)
            && let Some(side) = self.sides.get(&at)
        {
            at = side.node.parent;
        }
        Some((gone.block, gone.hash))
    }
}

/// The chain that stands of all these blocks, which come in order of height and of which those at `lowest` stand on the
/// base: its hashes, lowest first.
pub(crate) fn evaluate(lowest: BlockNumber, nodes: &[Node]) -> Vec<B256> {
    let mut children: HashMap<B256, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let siblings =
            if node.block == lowest { &mut roots } else { children.entry(node.parent).or_default() };
        siblings.push(index);
    }
    // From the highest down: the turns from a block on, itself included, and the highest block above it.
    let mut reached: Vec<Option<Reach>> = vec![None; nodes.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        let mut reach = own_reach(node, 1);
        for child in children.get(&node.hash).into_iter().flatten() {
            let above = reached.get(*child).copied().flatten().zip(nodes.get(*child));
            let above = above.map(|(above, child)| Reach {
                turn: above.turn.saturating_add(u64::from(child.signer != node.signer)),
                ..above
            });
            reach = Reach::union(reach, above);
        }
        if let Some(slot) = reached.get_mut(index) {
            *slot = reach;
        }
    }
    let best = |siblings: &[usize]| {
        let ranked = siblings.iter().filter_map(|index| {
            let (node, reach) = (nodes.get(*index)?, reached.get(*index).copied().flatten()?);
            Some((Rank::new(node, 1, reach), node.hash))
        });
        ranked.max().map(|(_, hash)| hash)
    };
    let mut chain = Vec::new();
    let mut next = best(&roots);
    while let Some(hash) = next {
        chain.push(hash);
        next = children.get(&hash).and_then(|children| best(children));
    }
    chain
}

/// Of these blocks above a base, in order of height, those that stand on it; where its hash is not known, all at the
/// lowest height do. The others contradict it.
pub(crate) fn standing(lowest: BlockNumber, settled: Option<B256>, nodes: &[Node]) -> HashSet<B256> {
    let mut standing = HashSet::new();
    for node in nodes {
        let stands = if node.block == lowest {
            settled.is_none_or(|settled| settled == node.parent)
        } else {
            standing.contains(&node.parent)
        };
        if stands {
            standing.insert(node.hash);
        }
    }
    standing
}

/// The blocks that go out of the chain with the L1 blocks from `anchor` on, of all above the base, in order of height:
/// those that are anchored there, and what stands on them.
pub(crate) fn withdrawn_by(anchor: BlockNumber, nodes: &[Node]) -> HashSet<B256> {
    let mut withdrawn = HashSet::new();
    for node in nodes {
        if !node.withdrawn && (node.anchor >= anchor || withdrawn.contains(&node.parent)) {
            withdrawn.insert(node.hash);
        }
    }
    withdrawn
}

#[cfg(all(test, feature = "test-utils"))]
mod tests;
