//! Which of two branches is the chain (§7), decided without knowing how a store keeps them.

use p2p_types::{B256, BlockNumber, U256};

use crate::{StorageError, StoredCommitment};

/// What the decision needs to see of a store.
pub(crate) trait Branches {
    /// The block of the chain at a height.
    fn canonical(&self, block: BlockNumber) -> Result<Option<B256>, StorageError>;
    /// A linked block, in the chain or not.
    fn block(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError>;
    /// The last block of the chain, if it stands above the base.
    fn head(&self) -> Option<BlockNumber>;
    /// The lowest height above the base.
    fn lowest(&self) -> BlockNumber;
}

/// What a new block does to the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It stands on the head.
    Extend,
    /// The chain stays as it is.
    Side,
    /// The chain goes from this height on through these blocks, lowest first, and then the new one.
    Switch { from: BlockNumber, through: Vec<B256> },
}

/// Decides about a new block whose parent is in the store, or which is the first above the base.
///
/// The branch that a later commitment builds on wins, wherever it arrived. If both have been built on, the
/// later last block wins (then the higher, then the smaller hash), so that nodes agree whatever the order of
/// arrival; if neither has, the one seen last.
pub(crate) fn choose(store: &impl Branches, new: &StoredCommitment) -> Result<Choice, StorageError> {
    // Walk down from the new block until the chain, or the base, is reached.
    let mut through = Vec::new();
    let (mut from, mut parent) = (new.block, new.parent);
    while from > store.lowest() && store.canonical(from - 1)? != Some(parent) {
        let below = store.block(&parent)?.ok_or(StorageError::UnknownParent(parent))?;
        through.push(parent);
        (from, parent) = (below.block, below.parent);
    }
    through.reverse();
    let Some(rival) = store.canonical(from)? else {
        return Ok(if through.is_empty() { Choice::Extend } else { Choice::Switch { from, through } });
    };
    let head = store.head().unwrap_or(from);
    let wins = match (!through.is_empty(), head > from) {
        (false, false) | (true, false) => true,
        (false, true) => false,
        (true, true) => {
            let tip = match store.canonical(head)? {
                Some(hash) => store.block(&hash)?,
                None => None,
            };
            tip.is_none_or(|tip| rank(new) > rank(&tip))
        }
    };
    debug_assert_ne!(rival, new.hash(), "a known block is not chosen again");
    Ok(if wins { Choice::Switch { from, through } } else { Choice::Side })
}

/// Whether a known block that comes again goes on with the chain: its height is vacant, because the chain was
/// rewound, and what it stands on is the chain's.
pub(crate) fn returns(store: &impl Branches, known: &StoredCommitment) -> Result<bool, StorageError> {
    if known.recovered.signed().preconf().is_eop_only() || known.block < store.lowest() {
        return Ok(false);
    }
    Ok(store.canonical(known.block)?.is_none()
        && (known.block == store.lowest() || store.canonical(known.block - 1)? == Some(known.parent)))
}

/// Later beats earlier, higher beats lower, and a smaller hash beats a greater one.
fn rank(block: &StoredCommitment) -> (U256, BlockNumber, std::cmp::Reverse<B256>) {
    (block.recovered.signed().preconf().timestamp, block.block, std::cmp::Reverse(block.hash()))
}
