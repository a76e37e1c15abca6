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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    #[test]
    fn a_page_follows_its_parent_and_what_it_contains() {
        let [parent, first, last, other] = [1, 2, 3, 4].map(B256::repeat_byte);
        let page = PageImport {
            id: RequestId(1),
            peer: PeerId::from_bytes(&[0, 1, 7]).unwrap(),
            first: 8,
            signer: Address::ZERO,
            parent,
            hashes: vec![first, last],
            search: false,
            before: Chain::default().mark(),
        };
        assert!([parent, first, last].iter().all(|block| page.follows(block)));
        assert!(!page.follows(&other));
        assert_eq!((page.last(), page.tip()), (9, (9, last)));
    }
}
