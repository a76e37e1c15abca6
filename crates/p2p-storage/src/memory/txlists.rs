//! The transaction lists of the store in memory.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, TxList};

use crate::{StorageError, StorageLimits};

#[derive(Debug, Default)]
pub(super) struct TxLists {
    /// Each with the highest block that names it.
    pub(super) lists: HashMap<B256, (TxList, BlockNumber)>,
    /// The order of eviction.
    by_block: BTreeMap<(BlockNumber, B256), ()>,
    pub(super) bytes: usize,
}

impl TxLists {
    /// As [`TxListStore::put`](crate::TxListStore::put), where the block `settled` is settled.
    pub(super) fn put(
        &mut self,
        limits: &StorageLimits,
        settled: Option<BlockNumber>,
        block: BlockNumber,
        txlist: TxList,
    ) -> Result<bool, StorageError> {
        let hash = txlist.hash();
        if self.renew(block, &hash) {
            return Ok(false);
        }
        let bytes = txlist.bytes().len();
        while let Some(full) = limits.txlists_full(self.lists.len(), self.bytes, bytes) {
            if !self.evict(settled) {
                return Err(full);
            }
        }
        self.bytes += bytes;
        self.by_block.insert((block, hash), ());
        self.lists.insert(hash, (txlist, block));
        Ok(true)
    }

    /// As [`TxListStore::renew`](crate::TxListStore::renew), for one list.
    pub(super) fn renew(&mut self, block: BlockNumber, hash: &B256) -> bool {
        let Some((_, lowest)) = self.lists.get_mut(hash) else { return false };
        // The same list serves several blocks (empty blocks do): it goes when the last of them does.
        if block > *lowest {
            let before = std::mem::replace(lowest, block);
            self.by_block.remove(&(before, *hash));
            self.by_block.insert((block, *hash), ());
        }
        true
    }

    /// As [`TxListStore::discard`](crate::TxListStore::discard).
    pub(super) fn discard(&mut self, hash: &B256) -> Option<BlockNumber> {
        let (gone, block) = self.lists.remove(hash)?;
        self.bytes -= gone.bytes().len();
        self.by_block.remove(&(block, *hash));
        Some(block)
    }

    /// Removes the list of the lowest block if that is settled. Returns whether it did.
    fn evict(&mut self, settled: Option<BlockNumber>) -> bool {
        let Some((&(block, hash), ())) = self.by_block.first_key_value() else {
            return false;
        };
        if settled.is_none_or(|settled| block > settled) {
            return false;
        }
        self.by_block.remove(&(block, hash));
        if let Some((gone, _)) = self.lists.remove(&hash) {
            self.bytes -= gone.bytes().len();
        }
        true
    }
}
