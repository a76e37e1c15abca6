//! L1 has replaced blocks that blocks of the chain are anchored to.

use p2p_storage::StorageError;
use p2p_types::{B256, BlockNumber, SdkEvent, U256};

use super::Chain;

/// The blocks that an L1 reorg has taken out of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct L1Reorg {
    /// The lowest L1 block that was replaced.
    pub anchor: BlockNumber,
    /// Height of the lowest block that is affected; none if no block is.
    pub from: Option<BlockNumber>,
    /// Preconfirmation hashes of the affected blocks, lowest first.
    pub affected: Vec<B256>,
}

/// Blocks read from the store at once.
const PAGE: usize = 256;

impl Chain {
    /// Takes out of the chain every block above the base whose anchor is at or above `anchor`, with all that
    /// stand on it. They stay in the store as history: their signers have signed them, and peers may still
    /// hold on to them. One that comes again is judged again and may return.
    pub(super) fn l1_reorg(&mut self, anchor: BlockNumber) -> Result<L1Reorg, StorageError> {
        let mut reorg = L1Reorg { anchor, from: self.lowest_anchored(anchor)?, affected: Vec::new() };
        let Some(from) = reorg.from else { return Ok(reorg) };
        let before = self.store.head()?;
        reorg.affected = self.store.rewind(from)?.iter().map(|stored| stored.hash()).collect();
        tracing::info!(anchor, from, affected = reorg.affected.len(), "L1 reorg");
        self.metrics.reorg("l1");
        self.forget_wanted(&reorg.affected);
        let affected = reorg.affected.clone();
        self.tell(SdkEvent::L1Reorg { anchor, from, affected });
        self.effects.forget_seen = true;
        self.head_moved(before)?;
        Ok(reorg)
    }

    /// The lowest block of the chain above the base whose anchor is at or above `anchor`.
    fn lowest_anchored(&self, anchor: BlockNumber) -> Result<Option<BlockNumber>, StorageError> {
        let Some(base) = self.store.base()? else { return Ok(None) };
        let mut from = base.next();
        loop {
            let page = self.store.range(from, PAGE)?;
            let anchored = page
                .iter()
                .find(|stored| stored.recovered.signed().preconf().anchor_block_number >= U256::from(anchor));
            match (anchored, page.last()) {
                (Some(stored), _) => return Ok(Some(stored.block)),
                (None, None) => return Ok(None),
                (None, Some(last)) => from = last.block.saturating_add(1),
            }
        }
    }
}
