//! L1 has replaced blocks that blocks of the chain are anchored to.

use p2p_storage::{ChainUpdate, StorageError, StoredCommitment};
use p2p_types::{B256, BlockNumber, Origin, SdkEvent, U256, UnixSeconds};
use p2p_validation::Authenticated;

use super::ChainProcessor;

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

/// L1 has replaced its blocks from `anchor` on, as we heard at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaced {
    anchor: BlockNumber,
    at: UnixSeconds,
}

impl ChainProcessor {
    /// Takes out of the chain every block above the base whose anchor is at or above `anchor`, with all that
    /// stand on it. They stay in the store, as their signers have signed them, and come back only below a block that
    /// was signed after this, or when their anchors are canonical again: a copy that a peer still has says nothing.
    pub(super) fn l1_reorg(&mut self, anchor: BlockNumber) -> Result<L1Reorg, StorageError> {
        let lowest = self.replaced.map_or(anchor, |replaced| replaced.anchor.min(anchor));
        self.replaced = Some(Replaced { anchor: lowest, at: self.unix });
        let before = self.store.head()?;
        let ChainUpdate { dropped, adopted } = self.store.withdraw(anchor)?;
        let affected: Vec<B256> = dropped.iter().map(StoredCommitment::hash).collect();
        let from = dropped.first().map(|lowest| lowest.block);
        if let Some(from) = from {
            tracing::info!(anchor, from, affected = affected.len(), "L1 reorg");
            self.metrics.reorg("l1");
            self.forget_missing(&affected);
            self.emit(SdkEvent::L1Reorg { anchor, from, affected: affected.clone() });
        }
        self.adopted(adopted)?;
        self.head_moved(before)?;
        Ok(L1Reorg { anchor, from, affected })
    }

    /// The L1 blocks from `anchor` on are canonical again: what was taken out for their sake counts as before.
    pub(super) fn l1_restored(&mut self, anchor: BlockNumber) -> Result<(), StorageError> {
        self.replaced = self.replaced.filter(|replaced| replaced.anchor < anchor);
        let before = self.store.head()?;
        let update = self.store.reinstate(anchor)?;
        self.moved(update)?;
        self.head_moved(before)
    }

    /// Whether a commitment is anchored to what L1 has replaced and was signed before we heard of that.
    pub(super) fn is_withdrawn(&self, commitment: &Authenticated) -> bool {
        self.replaced.is_some_and(|Replaced { anchor, at }| {
            commitment.timestamp() <= at && commitment.preconf().anchor_block_number >= U256::from(anchor)
        })
    }

    /// Blocks have left the chain and others have come, other than by an insert.
    pub(super) fn moved(&mut self, update: ChainUpdate) -> Result<(), StorageError> {
        let ChainUpdate { dropped, adopted } = update;
        if let Some(lowest) = dropped.first().map(|lowest| lowest.block) {
            let dropped: Vec<B256> = dropped.iter().map(StoredCommitment::hash).collect();
            self.forget_missing(&dropped);
            self.emit(SdkEvent::Reorg { dropped, from: lowest });
        }
        self.adopted(adopted)
    }

    fn adopted(&mut self, adopted: Vec<StoredCommitment>) -> Result<(), StorageError> {
        for stored in adopted {
            self.applied(stored, Origin::Local);
        }
        self.attach_txlists()
    }
}
