//! Fork choice over a whole set of blocks at once, and which of them a base, an L1 reorg or their signers take out.

use hashbrown::{HashMap, HashSet};
use p2p_types::{B256, BlockNumber};

use super::rank::{Node, Rank, Reach, own_reach};

/// The canonical chain of a set of blocks in order of height, where those at `lowest` are children of the base: its hashes,
/// lowest first.
pub(crate) fn evaluate(lowest: BlockNumber, nodes: &[Node]) -> Vec<B256> {
    let mut children: HashMap<B256, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let siblings =
            if node.block == lowest { &mut roots } else { children.entry(node.parent).or_default() };
        siblings.push(index);
    }
    // From the highest block down: the turns from each block on, itself included, and the highest block above it.
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

/// Of blocks above a base, in order of height, its descendants. Where its hash is not known, all at the lowest
/// height are its children.
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

/// Of all blocks above the base, in order of height, those that an L1 reorg from `anchor` on withdraws: the blocks anchored
/// there and their descendants.
pub(crate) fn withdrawn_by(anchor: BlockNumber, nodes: &[Node]) -> HashSet<B256> {
    let mut withdrawn = HashSet::new();
    for node in nodes {
        if !node.withdrawn && (node.anchor >= anchor || withdrawn.contains(&node.parent)) {
            withdrawn.insert(node.hash);
        }
    }
    withdrawn
}

/// Of all blocks above the base, in order of height, the named ones and their descendants.
pub(crate) fn with_descendants(named: &[B256], nodes: &[Node]) -> HashSet<B256> {
    let named: HashSet<&B256> = named.iter().collect();
    let mut gone = HashSet::new();
    for node in nodes {
        if named.contains(&node.hash) || gone.contains(&node.parent) {
            gone.insert(node.hash);
        }
    }
    gone
}
