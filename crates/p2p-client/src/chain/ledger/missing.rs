//! Blocks of the chain that lack their transaction list.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber};

/// A block that lacks its list: its height and hash.
pub(super) type Block = (BlockNumber, B256);

/// Bounded by what catch-up lets in. What an elected preconfer withholds makes neither a reorg nor a base that moves dear: both
/// cost what leaves.
#[derive(Debug, Default)]
pub(super) struct MissingTxLists {
    /// By the hash of the list, because blocks can share one (empty blocks do).
    lists: HashMap<B256, BTreeSet<Block>>,
    /// The list that each block lacks.
    blocks: BTreeMap<Block, B256>,
    heights: HashMap<B256, BlockNumber>,
}

impl MissingTxLists {
    /// Notes a block that lacks a list; returns whether it is new.
    pub(super) fn insert(&mut self, txlist: B256, block: Block) -> bool {
        let new = self.blocks.insert(block, txlist).is_none();
        self.lists.entry(txlist).or_default().insert(block);
        self.heights.insert(block.1, block.0);
        new
    }

    /// Takes out the blocks that lack a list, lowest first.
    pub(super) fn take(&mut self, txlist: &B256) -> Vec<Block> {
        let blocks: Vec<_> = self.lists.remove(txlist).unwrap_or_default().into_iter().collect();
        for block in &blocks {
            self.blocks.remove(block);
            self.heights.remove(&block.1);
        }
        blocks
    }

    /// Notes that blocks are no longer in the chain. Returns those that need their list no more, each with the hash of that
    /// list.
    pub(super) fn forget(&mut self, dropped: &[B256]) -> Vec<Block> {
        let lacking = dropped.iter().filter_map(|hash| Some((*self.heights.get(hash)?, *hash))).collect();
        self.remove(lacking)
    }

    /// Notes what is settled. Returns the blocks that need their list no more, each with the hash of that list.
    pub(super) fn settle(&mut self, base: BlockNumber) -> Vec<Block> {
        let settled = self.blocks.keys().take_while(|(block, _)| *block <= base).copied().collect();
        self.remove(settled)
    }

    /// How many blocks lack their list.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    fn remove(&mut self, blocks: Vec<Block>) -> Vec<Block> {
        let mut gone = Vec::new();
        for block in blocks {
            let Some(txlist) = self.blocks.remove(&block) else { continue };
            self.heights.remove(&block.1);
            if let Some(lacking) = self.lists.get_mut(&txlist) {
                lacking.remove(&block);
                if lacking.is_empty() {
                    self.lists.remove(&txlist);
                }
            }
            gone.push((block.0, txlist));
        }
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
        assert_eq!((missing.len(), missing.lists.len(), missing.heights.len()), (0, 0, 0));
    }
}
