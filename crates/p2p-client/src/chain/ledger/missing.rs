//! Blocks of the chain that lack their transaction list.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use p2p_types::{B256, BlockNumber};

/// A block that lacks its list: its height and hash.
pub(super) type Block = (BlockNumber, B256);

/// By the hash of the list, because blocks can share one (empty blocks do). Bounded by what catch-up lets in.
#[derive(Debug, Default)]
pub(super) struct MissingTxLists {
    lists: HashMap<B256, BTreeSet<Block>>,
    /// Blocks of all lists together: asked for after each batch.
    blocks: usize,
}

impl MissingTxLists {
    /// Notes a block that lacks a list; returns whether it is new.
    pub(super) fn insert(&mut self, txlist: B256, block: Block) -> bool {
        let new = self.lists.entry(txlist).or_default().insert(block);
        self.blocks += usize::from(new);
        new
    }

    /// Takes out the blocks that lack a list, lowest first.
    pub(super) fn take(&mut self, txlist: &B256) -> Vec<Block> {
        let blocks: Vec<_> = self.lists.remove(txlist).unwrap_or_default().into_iter().collect();
        self.blocks -= blocks.len();
        blocks
    }

    /// Notes that blocks are no longer in the chain. Returns those that need their list no more, each with the hash of that
    /// list.
    pub(super) fn forget(&mut self, dropped: &[B256]) -> Vec<Block> {
        let dropped: HashSet<_> = dropped.iter().collect();
        self.retain(|(_, hash)| !dropped.contains(hash))
    }

    /// Notes what is settled. Returns the blocks that need their list no more, each with the hash of that list.
    pub(super) fn settle(&mut self, base: BlockNumber) -> Vec<Block> {
        self.retain(|(block, _)| *block > base)
    }

    /// How many blocks lack their list.
    pub(super) const fn len(&self) -> usize {
        self.blocks
    }

    fn retain(&mut self, mut keep: impl FnMut(&Block) -> bool) -> Vec<Block> {
        let mut gone = Vec::new();
        self.lists.retain(|txlist, blocks| {
            blocks.retain(|block| {
                let kept = keep(block);
                if !kept {
                    gone.push((block.0, *txlist));
                }
                kept
            });
            !blocks.is_empty()
        });
        self.blocks -= gone.len();
        gone.sort_unstable();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_missing_while_any_block_needs_it() {
        let [shared, other, one, two, three] = [1, 2, 3, 4, 5].map(B256::repeat_byte);
        let mut missing = MissingTxLists::default();
        for (txlist, block) in [(shared, (12, two)), (shared, (11, one)), (other, (12, three))] {
            assert!(missing.insert(txlist, block));
            assert!(!missing.insert(txlist, block), "it is counted once");
        }
        assert_eq!(missing.len(), 3);
        assert_eq!(missing.settle(11), [(11, shared)]);
        assert_eq!(missing.len(), 2);
        assert_eq!(missing.forget(&[two]), [(12, shared)]);
        assert_eq!((missing.len(), missing.lists.len()), (1, 1), "nothing is kept of what nobody needs");
        assert_eq!(missing.take(&other), [(12, three)]);
        assert_eq!(missing.len(), 0);
    }
}
