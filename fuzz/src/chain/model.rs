//! What a store has to be, said a second time: from its commitments alone, without an index.

use std::{cmp::Reverse, collections::HashMap};

use p2p_client::{
    MemoryStorage, StoredCommitment,
    storage::{CommitmentStore as _, SdkStorage as _, fuzz::is_withdrawn},
};
use p2p_types::{Address, B256, U256};

use super::universe::{Universe, WINDOW, elected_address};

/// The canonical blocks above the base: each on the one below, down to the base.
pub(super) fn canonical(store: &MemoryStorage) -> Vec<StoredCommitment> {
    let Some(base) = store.base().unwrap() else {
        assert_eq!(store.stats().unwrap().commitments, 0, "stored without a base");
        return Vec::new();
    };
    let all =
        |from: u64| (from..=Universe::get().highest() + 2).map(|height| store.by_block(height).unwrap());
    let chain: Vec<StoredCommitment> = all(base.next()).map_while(|block| block).collect();
    let gap = base.next() + chain.len() as u64;
    assert!(all(gap).all(|block| block.is_none()), "a canonical block above a gap");
    for (block, height) in chain.iter().zip(base.next()..) {
        assert_eq!(block.block, height);
        assert!(!block.is_handover(), "a handover in the chain");
        assert!(!is_withdrawn(store, &block.hash()).unwrap() || on_renewed(store, block, &chain));
    }
    for pair in chain.windows(2) {
        assert_eq!(pair[1].parent, pair[0].hash(), "a block that does not stand on the one below");
    }
    if let (Some(first), Some(hash)) = (chain.first(), base.hash) {
        assert_eq!(first.parent, hash, "a first block that does not stand on the base");
    }
    assert_eq!(store.range(base.next(), usize::MAX).unwrap(), chain);
    chain
}

/// Whether something above a block speaks for it.
fn on_renewed(store: &MemoryStorage, block: &StoredCommitment, chain: &[StoredCommitment]) -> bool {
    chain.iter().any(|above| above.block > block.block && !is_withdrawn(store, &above.hash()).unwrap())
}

/// Whether it was its signer's turn, in the schedule to begin with.
pub(super) fn is_elected(block: &StoredCommitment) -> bool {
    let end: u64 = block.recovered.signed().preconf().submission_window_end.to();
    block.recovered.signer() == elected_address(end / WINDOW)
}

/// All that is stored, by height.
fn rows(store: &MemoryStorage) -> Vec<StoredCommitment> {
    (0..=Universe::get().highest() + 2).flat_map(|height| store.at(height).unwrap()).collect()
}

/// Each row is found in every way, and stands on one that is stored. How many blocks are beside the
/// chain, and how many of them have no other on top of them.
pub(super) fn check_rows(store: &MemoryStorage, is_small: bool) -> (usize, usize) {
    let Some(base) = store.base().unwrap() else { return (0, 0) };
    let rows = rows(store);
    assert_eq!(rows.len(), store.stats().unwrap().commitments, "rows that no height has");
    let mut beside = Vec::new();
    for row in &rows {
        assert_eq!(store.by_hash(&row.hash()).unwrap().as_ref(), Some(row));
        let number = row.recovered.signed().preconf().block_number;
        assert_eq!(number, U256::from(row.block));
        let is_canonical = store.by_block(row.block).unwrap().is_some_and(|block| block.hash() == row.hash());
        assert!(!(is_canonical && row.is_handover()));
        if row.block <= base.number {
            continue;
        }
        if !is_canonical && !row.is_handover() {
            beside.push(row);
        }
        let parent = store.by_hash(&row.parent).unwrap();
        let stands = parent.is_some_and(|parent| parent.block + 1 == row.block && !parent.is_handover());
        // Where there is no room, a leaf goes without its handovers.
        let may_hang = row.block == base.next() || (is_small && row.is_handover());
        assert!(stands || may_hang, "a block that stands on nothing");
    }
    let is_leaf = |row: &&&StoredCommitment| beside.iter().all(|above| above.parent != row.hash());
    (beside.len(), beside.iter().filter(is_leaf).count())
}

/// A block, as fork choice sees it.
struct Node {
    hash: B256,
    signer: Address,
    window: U256,
    timestamp: U256,
    block: u64,
    is_withdrawn: bool,
}

/// The chain of all stored blocks: at each fork the child with the most turns along a path, then that of the later window,
/// with the highest block, the later timestamp, the lower hash.
pub(super) fn best_chain(store: &MemoryStorage) -> Vec<(u64, B256)> {
    let Some(base) = store.base().unwrap() else { return Vec::new() };
    let (mut roots, mut children) = (Vec::new(), HashMap::<B256, Vec<Node>>::new());
    for row in rows(store).into_iter().filter(|row| row.block > base.number && !row.is_handover()) {
        let preconf = row.recovered.signed().preconf();
        let node = Node {
            hash: row.hash(),
            signer: row.recovered.signer(),
            window: preconf.submission_window_end,
            timestamp: preconf.timestamp,
            block: row.block,
            is_withdrawn: is_withdrawn(store, &row.hash()).unwrap(),
        };
        let siblings =
            if row.block == base.next() { &mut roots } else { children.entry(row.parent).or_default() };
        siblings.push(node);
    }
    let (mut chain, mut siblings) = (Vec::new(), &roots);
    while let Some(best) = siblings.iter().filter_map(|node| rank(node, &children)).max() {
        let (.., Reverse(hash)) = best;
        let height = siblings.iter().find(|node| node.hash == hash).map(|node| node.block);
        chain.push((height.unwrap(), hash));
        match children.get(&hash) {
            Some(next) => siblings = next,
            None => break,
        }
    }
    chain
}

type Rank = (usize, U256, u64, U256, Reverse<B256>);

fn rank(node: &Node, children: &HashMap<B256, Vec<Node>>) -> Option<Rank> {
    let (turns, highest) = reach(node, children)?;
    Some((turns, node.window, highest, node.timestamp, Reverse(node.hash)))
}

/// The most turns along a path from a block, itself included, and the highest block above it; none where all is withdrawn.
fn reach(node: &Node, children: &HashMap<B256, Vec<Node>>) -> Option<(usize, u64)> {
    let own = (!node.is_withdrawn).then_some((1, node.block));
    let above = children.get(&node.hash).into_iter().flatten().filter_map(|child| {
        let (turns, highest) = reach(child, children)?;
        Some((turns + usize::from(child.signer != node.signer), highest))
    });
    own.into_iter()
        .chain(above)
        .reduce(|(turns, highest), (other, other_highest)| (turns.max(other), highest.max(other_highest)))
}
