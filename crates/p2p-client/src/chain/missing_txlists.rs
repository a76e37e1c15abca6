//! Blocks of the chain that lack their transaction list.

use hashbrown::HashMap;
use p2p_storage::StoredCommitment;
use p2p_types::{B256, BlockNumber};

/// A block that wants a list: its height and hash.
type Block = (BlockNumber, B256);

/// By the hash of the list, because blocks can share one (empty blocks do). Bounded by what catch-up lets in.
#[derive(Debug, Default)]
pub(crate) struct MissingTxLists {
    lists: HashMap<B256, Vec<Block>>,
}

impl MissingTxLists {
    /// Notes a block; returns whether it is new.
    pub(crate) fn insert(&mut self, stored: &StoredCommitment) -> bool {
        let blocks = self.lists.entry(stored.txlist_hash()).or_default();
        let block = (stored.block, stored.hash());
        if blocks.contains(&block) {
            return false;
        }
        blocks.push(block);
        true
    }

    /// The blocks that wait for a list, lowest first; they wait no more.
    pub(crate) fn take(&mut self, txlist: &B256) -> Vec<Block> {
        let mut blocks = self.lists.remove(txlist).unwrap_or_default();
        blocks.sort_unstable();
        blocks
    }

    /// Notes that blocks are no longer in the chain. Returns who no longer wants what.
    pub(crate) fn forget(&mut self, dropped: &[B256]) -> Vec<Block> {
        self.retain(|(_, hash)| !dropped.contains(hash))
    }

    /// Notes what is settled, and what was dropped with it. Returns who no longer wants what.
    pub(crate) fn settle(&mut self, base: BlockNumber, dropped: &[B256]) -> Vec<Block> {
        self.retain(|(block, hash)| *block > base && !dropped.contains(hash))
    }

    /// How many blocks lack their list.
    pub(crate) fn len(&self) -> usize {
        self.lists.values().map(Vec::len).sum()
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
        gone.sort_unstable();
        gone
    }
}
