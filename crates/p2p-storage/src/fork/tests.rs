//! Fork choice against a naive evaluation of the rule, on blocks without signatures.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use fastrand::Rng;
use p2p_types::U256;
use serde::Deserialize;

use super::*;

/// A chain in memory.
#[derive(Default)]
struct TestChain {
    base: BlockNumber,
    nodes: BTreeMap<(BlockNumber, B256), Node>,
    chain: Vec<Node>,
    fork: Option<ForkChoice>,
}

impl Blocks for TestChain {
    fn lowest(&self) -> BlockNumber {
        self.base + 1
    }

    fn head(&self) -> Option<BlockNumber> {
        self.chain.last().map(|node| node.block).filter(|head| *head > self.base)
    }

    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError> {
        Ok(self.canonical_node(block)?.map(|node| node.hash))
    }

    fn canonical_node(&self, block: BlockNumber) -> Result<Option<Node>, StorageError> {
        Ok(usize::try_from(block).unwrap().checked_sub(1).and_then(|index| self.chain.get(index)).copied())
    }

    fn canonical_signers(&self) -> Result<Vec<(BlockNumber, Address)>, StorageError> {
        let above = self.chain.iter().filter(|node| node.block > self.base);
        Ok(above.map(|node| (node.block, node.signer)).collect())
    }

    fn non_canonical(&self) -> Result<Vec<Node>, StorageError> {
        let beside = |node: &&Node| node.block > self.base && !self.chain.contains(node);
        Ok(self.nodes.values().filter(beside).copied().collect())
    }
}

impl TestChain {
    /// Inserts a block if its parent is there.
    fn insert(&mut self, node: Node) -> bool {
        let mut fork = self.fork.take();
        let choice = choose(&mut fork, self, node);
        self.fork = fork;
        let Ok(choice) = choice else { return false };
        self.nodes.insert((node.block, node.hash), node);
        match choice {
            Choice::Extend => self.chain.push(node),
            Choice::NonCanonical => {}
            Choice::Switch { from, adopted } => {
                self.chain.truncate(usize::try_from(from).unwrap() - 1);
                let of = |hash: &B256| *self.nodes.values().find(|node| node.hash == *hash).unwrap();
                let adopted: Vec<Node> = adopted.iter().map(of).collect();
                self.chain.extend(adopted);
            }
        }
        true
    }

    /// Inserts all, each as soon as its parent is there.
    fn insert_all(&mut self, mut nodes: Vec<Node>) {
        while !nodes.is_empty() {
            let before = nodes.len();
            nodes.retain(|node| !self.insert(*node));
            assert!(nodes.len() < before, "a parent is missing");
        }
    }

    fn hashes(&self) -> Vec<B256> {
        self.chain.iter().map(|node| node.hash).collect()
    }
}

/// The rule, word for word.
fn naive(nodes: &[Node]) -> Vec<B256> {
    fn best(of: &Node, nodes: &[Node]) -> (u64, BlockNumber) {
        let children = nodes.iter().filter(|child| child.parent == of.hash);
        children.fold((1, of.block), |(turns, highest), child| {
            let (above, top) = best(child, nodes);
            (turns.max(above + u64::from(child.signer != of.signer)), highest.max(top))
        })
    }
    let (mut chain, mut at) = (Vec::new(), B256::ZERO);
    while let Some(stands) = nodes.iter().filter(|node| node.parent == at).max_by_key(|node| {
        let (turns, highest) = best(node, nodes);
        (turns, node.window, highest, node.timestamp, Reverse(node.hash))
    }) {
        chain.push(stands.hash);
        at = stands.hash;
    }
    chain
}

fn hash(id: u64) -> B256 {
    B256::from(U256::from(id))
}

#[derive(Deserialize)]
struct Case {
    name: String,
    blocks: Vec<Block>,
    stands: Vec<u64>,
}

#[derive(Deserialize)]
struct Block {
    id: u64,
    parent: u64,
    window: u64,
    signer: String,
    height: BlockNumber,
    timestamp: u64,
}

impl From<&Block> for Node {
    fn from(block: &Block) -> Self {
        Self {
            hash: hash(block.id),
            parent: hash(block.parent),
            block: block.height,
            signer: Address::repeat_byte(block.signer.as_bytes()[0]),
            window: block.window,
            timestamp: block.timestamp,
            anchor: 0,
            withdrawn: false,
        }
    }
}

#[test]
fn the_published_cases_stand_in_any_order_of_arrival() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/vectors/forks.json")).unwrap();
    assert_eq!(cases.len(), 209);
    let mut rng = Rng::with_seed(1);
    for Case { name, blocks, stands } in cases {
        let stands: Vec<B256> = stands.into_iter().map(hash).collect();
        let mut nodes: Vec<Node> = blocks.iter().map(Node::from).collect();
        assert_eq!(naive(&nodes), stands, "{name}");
        for _ in 0..20 {
            rng.shuffle(&mut nodes);
            let mut store = TestChain::default();
            store.insert_all(nodes.clone());
            assert_eq!(store.hashes(), stands, "{name}");
        }
        nodes.sort_by_key(|node| node.block);
        assert_eq!(evaluate(1, &nodes), stands, "{name}");
    }
}

/// Up to six windows of up to four signers, and up to four blocks in each, on one of the last few blocks before.
fn random(rng: &mut Rng) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let windows = rng.u64(2..=6);
    let signers: Vec<u8> = (0..windows).map(|_| rng.u8(1..=4)).collect();
    for (window, signer) in (0..windows).zip(signers) {
        for _ in 0..rng.usize(0..=5) {
            let recent = nodes.len().saturating_sub(rng.usize(1..=8));
            let parent = if rng.u8(..) < 20 { None } else { nodes.get(recent).copied() };
            let block = parent.map_or(0, |parent| parent.block) + 1;
            nodes.push(Node {
                hash: hash(rng.u64(1..)),
                parent: parent.map_or(B256::ZERO, |parent| parent.hash),
                block,
                signer: Address::repeat_byte(signer),
                window,
                timestamp: parent.map_or(0, |parent| parent.timestamp).max(100 * window) + rng.u64(0..3),
                anchor: 0,
                withdrawn: false,
            });
        }
    }
    nodes
}

#[test]
fn after_every_block_in_any_order_the_chain_is_the_naive_one() {
    let mut rng = Rng::with_seed(20_261_128);
    let mut switches = 0;
    for case in 0..20_000 {
        let mut nodes = random(&mut rng);
        rng.shuffle(&mut nodes);
        let mut store = TestChain::default();
        let mut waiting = nodes.clone();
        while let Some(next) = waiting.iter().position(|node| store.insert(*node)) {
            waiting.remove(next);
            // A store that is opened again, or has a new base, builds its index from what is there.
            if rng.u8(..) < 40 {
                store.fork = None;
            }
            if !waiting.is_empty() && rng.bool() {
                continue;
            }
            let known: Vec<Node> = store.nodes.values().copied().collect();
            let stands = naive(&known);
            assert_eq!(store.hashes(), stands, "case {case}");
            assert_eq!(evaluate(1, &known), stands, "case {case}");
        }
        assert!(waiting.is_empty());
        switches += usize::from(store.fork.is_some());
    }
    assert!(switches > 8_000, "{switches} of the cases have a fork");
}

/// Turns of a run of blocks.
fn turns(chain: &[Node]) -> usize {
    chain.chunk_by(|one, other| one.signer == other.signer).count()
}

#[test]
fn one_block_displaces_one_turn_unless_the_branches_were_as_close() {
    let mut rng = Rng::with_seed(3);
    let mut displaced = 0;
    for _ in 0..20_000 {
        let mut nodes = random(&mut rng);
        rng.shuffle(&mut nodes);
        let mut store = TestChain::default();
        let mut waiting = nodes;
        loop {
            let before = store.chain.clone();
            let Some(next) = waiting.iter().position(|node| store.insert(*node)) else { break };
            let new = waiting.remove(next);
            let same = before.iter().zip(&store.chain).take_while(|(one, other)| one == other).count();
            let (dropped, mut adopted) = (&before[same..], store.chain[same..].to_vec());
            if dropped.is_empty() {
                continue;
            }
            displaced += 1;
            let others = turns(dropped);
            adopted.retain(|node| *node != new);
            assert!(others <= 1 || others <= turns(&adopted) + 1, "{dropped:?} by {new:?}");
        }
    }
    assert!(displaced > 5_000, "{displaced}");
}

#[test]
fn a_withdrawn_branch_does_not_stand_until_another_block_builds_on_it() {
    let node = |id: u64, parent: u64, block, withdrawn| Node {
        hash: hash(id),
        parent: hash(parent),
        block,
        signer: Address::ZERO,
        window: 1,
        timestamp: id,
        anchor: 0,
        withdrawn,
    };
    let mut store = TestChain::default();
    for withdrawn in [node(2, 1, 2, true), node(3, 2, 3, true)] {
        store.nodes.insert((withdrawn.block, withdrawn.hash), withdrawn);
    }
    assert!(store.insert(node(1, 0, 1, false)));
    assert!(store.insert(node(4, 1, 2, false)));
    assert_eq!(store.hashes(), [1, 4].map(hash));
    assert!(store.insert(node(5, 3, 4, false)));
    assert_eq!(store.hashes(), [1, 2, 3, 5].map(hash));
    assert!(store.insert(node(6, 4, 3, false)), "a shorter one");
    assert_eq!(store.hashes(), [1, 2, 3, 5].map(hash));
}

/// What an index says, in an order and with turns that do not depend on its history.
fn said(fork: &ForkChoice) -> impl PartialEq + std::fmt::Debug + use<> {
    let entries: BTreeMap<B256, _> = fork
        .entries
        .values()
        .map(|Entry { node, turn, reach }| (node.hash, reach.map(|reach| (reach.turn - *turn, reach.block))))
        .collect();
    let children: BTreeMap<B256, BTreeSet<B256>> =
        fork.children.iter().map(|(parent, all)| (*parent, all.iter().copied().collect())).collect();
    let by_signer: BTreeMap<Address, usize> =
        fork.by_signer.iter().map(|(signer, count)| (*signer, *count)).collect();
    let leaves: BTreeMap<Address, BTreeSet<Leaf>> =
        fork.leaves.iter().map(|(signer, leaves)| (*signer, leaves.clone())).collect();
    (entries, children, by_signer, leaves, fork.roots.clone())
}

/// Which leaf is evicted, by a search through all blocks.
fn searched(fork: &ForkChoice, keep: &B256) -> Option<(BlockNumber, B256)> {
    let (worst, _) = fork.by_signer.iter().max_by_key(|(signer, count)| (**count, **signer))?;
    let is_leaf = |entry: &&Entry| entry.node.hash != *keep && !fork.children.contains_key(&entry.node.hash);
    let of_others = |entry: &Entry| entry.node.signer != *worst;
    let leaves = fork.entries.values().filter(is_leaf);
    let gone = leaves.min_by_key(|entry| (of_others(entry), entry.rank(), entry.node.hash))?;
    Some((gone.node.block, gone.node.hash))
}

impl TestChain {
    /// Moves the base along the chain. Removes what does not stand on it.
    fn settle(&mut self, fork: &mut ForkChoice, base: BlockNumber) {
        let settled = self.canonical(base).unwrap();
        self.base = base;
        let above = self.nodes.range((self.lowest(), B256::ZERO)..).map(|(_, node)| *node);
        let above: Vec<Node> = above.collect();
        let stands = standing(self.lowest(), settled, &above);
        let gone: Vec<B256> =
            above.iter().map(|node| node.hash).filter(|hash| !stands.contains(hash)).collect();
        self.nodes.retain(|_, node| !gone.contains(&node.hash));
        fork.settle(self.lowest(), &gone);
    }
}

#[test]
fn an_index_that_was_kept_says_what_one_built_anew_says() {
    let mut rng = Rng::with_seed(5);
    let (mut evicted, mut settled) = (0, 0);
    for _ in 0..2_000 {
        let mut waiting = random(&mut rng);
        rng.shuffle(&mut waiting);
        let mut store = TestChain::default();
        while let Some(next) = waiting.iter().position(|node| store.insert(*node)) {
            let keep = waiting.remove(next).parent;
            let Some(mut fork) = store.fork.take() else { continue };
            let least = searched(&fork, &keep);
            if rng.u8(..) < 60
                && let Some((block, gone)) = fork.evict(&keep)
            {
                assert_eq!(Some((block, gone)), least);
                assert_ne!(gone, keep);
                store.nodes.remove(&(block, gone)).unwrap();
                assert!(store.nodes.values().all(|node| node.parent != gone), "only a leaf goes");
                evicted += 1;
            }
            if rng.u8(..) < 30
                && let Some(head) = store.head()
            {
                let base = rng.u64(store.base..=head);
                settled += usize::from(base > store.base);
                store.settle(&mut fork, base);
                let parent = store.canonical(base).unwrap().unwrap_or_default();
                waiting.retain(|node| {
                    node.block > store.lowest() || node.block == store.lowest() && node.parent == parent
                });
            }
            assert_eq!(said(&fork), said(&ForkChoice::build(&store).unwrap()));
            store.fork = Some(fork);
        }
    }
    assert!(evicted > 500 && settled > 500, "{evicted} evicted, {settled} settled");
}

#[test]
fn a_block_that_joins_the_chain_no_longer_counts_against_its_signer() {
    let node = |id: u64, parent: u64, block, signer, window| Node {
        hash: hash(id),
        parent: hash(parent),
        block,
        signer: Address::repeat_byte(signer),
        window,
        timestamp: id,
        anchor: 0,
        withdrawn: false,
    };
    let mut store = TestChain::default();
    let ours = [node(1, 0, 1, 1, 1), node(2, 1, 2, 1, 9), node(3, 2, 3, 1, 9)];
    let theirs = [node(4, 1, 2, 2, 2), node(5, 4, 3, 2, 2)];
    store.insert_all([&ours[..], &theirs[..]].concat());
    assert_eq!(store.hashes(), [1, 2, 3].map(hash));
    assert!(store.insert(node(6, 5, 4, 3, 3)));
    assert_eq!(store.hashes(), [1, 4, 5, 6].map(hash), "the branch of more turns");
    assert!(store.insert(node(7, 1, 2, 2, 1)));
    let evicted = store.fork.as_mut().unwrap().evict(&B256::ZERO);
    assert_eq!(evicted, Some((3, hash(3))), "of who has most beside the chain now");
}

/// A block of one signer in its only window.
fn of_one_window(id: u64, parent: u64, block: BlockNumber, timestamp: u64) -> Node {
    Node {
        hash: hash(id),
        parent: hash(parent),
        block,
        signer: Address::ZERO,
        window: 1,
        timestamp,
        anchor: 0,
        withdrawn: false,
    }
}

#[test]
fn a_long_chain_makes_a_fork_no_dearer() {
    // Only what stands beside the chain is remembered block by block.
    let node = |id, parent, block| of_one_window(id, parent, block, id);
    let mut store = TestChain::default();
    for id in 1..=1_000 {
        assert!(store.insert(node(id, id - 1, id)));
    }
    assert!(store.fork.is_none(), "without a fork nothing is built");
    assert!(store.insert(node(5_000, 500, 501)));
    let fork = store.fork.as_ref().unwrap();
    assert_eq!((fork.len(), fork.turns.len(), fork.roots.len()), (1, 1, 1));
}

/// A signer that fills the index must not make each further block search through it: its siblings at one height, or the
/// children of one block beside the chain.
#[test]
#[allow(clippy::disallowed_methods, reason = "a search takes many times as long as is allowed")]
fn what_stands_beside_the_chain_makes_no_eviction_dear() {
    let node = |id, parent, block| of_one_window(id, parent, block, 1_000_000 - id);
    let cost = |beside: u64, parent: u64, block| {
        let mut store = TestChain::default();
        store.insert_all(vec![node(1, 0, 1), node(2, 1, 2), node(3, 2, 3), node(4, 1, 2)]);
        assert!((10..10 + beside).all(|id| store.insert(node(id, parent, block))));
        let more: Vec<Node> = (10 + beside..).take(256).map(|id| node(id, parent, block)).collect();
        let begun = std::time::Instant::now();
        for new in more {
            assert!(store.insert(new));
            assert!(store.fork.as_mut().unwrap().evict(&new.hash).is_some());
        }
        begun.elapsed()
    };
    for (parent, block) in [(2, 3), (4, 3)] {
        let (mut full, mut idle) = (std::time::Duration::MAX, std::time::Duration::MAX);
        let is_cheap = (0..8).any(|_| {
            (full, idle) = (full.min(cost(4_096, parent, block)), idle.min(cost(64, parent, block)));
            full < idle * 8
        });
        assert!(is_cheap, "{full:?} beside many, {idle:?} beside few: on {parent}");
    }
}
