//! Settled blocks, as the view of L2 brings them to the chain processor.

use p2p_types::{B256, Base, BlockNumber, SdkEvent};

/// Blocks that were settled, up to the new base.
#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    pub(crate) base: Base,
    /// Catch-up may start.
    pub(crate) open: bool,
    /// Set where the base's block is none of those that were promised for its height.
    pub(crate) refuted: Option<Refuted>,
    /// What there is to tell of these blocks, in order.
    pub(crate) events: Vec<SdkEvent>,
}

/// Promises for a height at which another block was settled.
#[derive(Debug, Clone)]
pub(crate) struct Refuted {
    /// Hash of the settled block on L2, which is no preconfirmation hash.
    pub(crate) settled: B256,
    /// Preconfirmation hashes of the blocks that were promised.
    pub(crate) promised: Vec<B256>,
}

/// The blocks that were promised for the base's height and were not settled: nothing may stand on them.
#[derive(Debug, Default)]
pub(super) struct NotSettled {
    pub(super) block: BlockNumber,
    promised: Vec<B256>,
}

impl NotSettled {
    pub(super) const fn new(block: BlockNumber, promised: Vec<B256>) -> Self {
        Self { block, promised }
    }

    /// Whether a block stands on one of them.
    pub(super) fn carries(&self, block: BlockNumber, parent: B256) -> bool {
        !self.promised.is_empty() && block == self.block.saturating_add(1) && self.promised.contains(&parent)
    }
}
