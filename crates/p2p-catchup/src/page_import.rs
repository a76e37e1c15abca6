//! The page that the caller validates and stores.

use p2p_types::{Address, B256, BlockNumber, PeerId};

use crate::{RequestId, chain::Mark};

/// The page that is being imported.
#[derive(Debug)]
pub(crate) struct PageImport {
    pub(crate) id: RequestId,
    pub(crate) peer: PeerId,
    pub(crate) first: BlockNumber,
    /// The signer of the first block, and its parent's hash.
    pub(crate) signer: Address,
    pub(crate) parent: B256,
    pub(crate) hashes: Vec<B256>,
    /// It is a page of the ancestor search.
    pub(crate) search: bool,
    /// The head when it was handed out.
    pub(crate) before: Mark,
}

impl PageImport {
    /// The height of the `count`th commitment; none for none.
    pub(crate) fn height(&self, count: usize) -> Option<BlockNumber> {
        let offset = u64::try_from(count).ok()?.checked_sub(1)?;
        self.first.checked_add(offset)
    }

    pub(crate) fn last(&self) -> BlockNumber {
        self.height(self.hashes.len()).unwrap_or(self.first)
    }

    pub(crate) fn tip(&self) -> (BlockNumber, B256) {
        (self.last(), self.hashes.last().copied().unwrap_or_default())
    }

    /// Whether it contains this block, or begins with its child.
    pub(crate) fn follows(&self, block: &B256) -> bool {
        self.parent == *block || self.hashes.contains(block)
    }
}
