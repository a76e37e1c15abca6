//! What is linked and waits for the commit.

use hashbrown::HashMap;
use p2p_storage::StoredCommitment;
use p2p_types::{B256, BlockNumber, Origin, TxList};
use p2p_validation::Linked;
use tracing::Span;

/// Linked against the store and against what stands before it here. Never outlives a batch.
#[derive(Debug, Default)]
pub(super) struct Staging {
    commitments: Vec<Staged>,
    by_hash: HashMap<B256, usize>,
}

/// A commitment, with its transaction list where whoever staged it has that.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) linked: Linked,
    pub(super) stored: StoredCommitment,
    pub(super) txlist: Option<TxList>,
    pub(super) origin: Origin,
    pub(super) span: Span,
}

impl Staging {
    pub(super) fn push(&mut self, linked: Linked, txlist: Option<TxList>, origin: Origin, span: Span) {
        let stored = StoredCommitment::from(linked.clone());
        self.by_hash.entry(stored.hash()).or_insert(self.commitments.len());
        self.commitments.push(Staged { linked, stored, txlist, origin, span });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.commitments.is_empty()
    }

    /// Takes out everything, in order.
    pub(super) fn take(&mut self) -> Vec<Staged> {
        std::mem::take(self).commitments
    }

    pub(super) fn by_hash(&self, hash: &B256) -> Option<&StoredCommitment> {
        let staged = self.commitments.get(*self.by_hash.get(hash)?)?;
        Some(&staged.stored)
    }

    /// The newest block at a height.
    pub(super) fn by_block(&self, block: BlockNumber) -> Option<&StoredCommitment> {
        let is_block = |stored: &&StoredCommitment| stored.block == block && !stored.is_handover();
        self.commitments.iter().rev().map(|staged| &staged.stored).find(is_block)
    }
}
