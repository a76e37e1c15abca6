//! How much a store may hold.

use preconfirmation_types::SIGNED_COMMITMENT_BYTES;

use crate::StorageError;

/// Limits of a store. At a limit, settled data is evicted, lowest height first. Unsettled data is never evicted; the insert
/// fails instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLimits {
    /// Commitments: canonical blocks, non-canonical blocks and handovers. 382 bytes each on the wire, about 700 in memory.
    pub commitments: usize,
    /// Non-canonical blocks above the base. At the limit, the signer with the most of them loses a leaf, other than the block
    /// that is inserted: a single branch that grows, and what an L1 reorg has taken out of the chain, may be longer. They are
    /// evicted before an insert fails for `commitments`.
    pub non_canonical: usize,
    /// Transaction lists.
    pub txlists: usize,
    /// Bytes of transaction lists.
    pub txlist_bytes: usize,
    /// Pieces of evidence. At the limit, the signer with the most loses the one of its lowest height.
    pub evidence: usize,
}

impl Default for StorageLimits {
    /// 100,000 commitments (about 70 MiB in memory), 4,096 of them non-canonical, as many transaction lists as
    /// commitments, 1 GiB of those, 1,024 pieces of evidence.
    fn default() -> Self {
        Self {
            commitments: 100_000,
            non_canonical: 4096,
            txlists: 100_000,
            txlist_bytes: 1024 * 1024 * 1024,
            evidence: 1024,
        }
    }
}

impl StorageLimits {
    /// No limits: for tools that open a store of whatever limits and evict nothing.
    pub const UNLIMITED: Self = Self {
        commitments: usize::MAX,
        non_canonical: usize::MAX,
        txlists: usize::MAX,
        txlist_bytes: usize::MAX,
        evidence: usize::MAX,
    };

    /// These limits with as many commitments as have so many bytes on the wire.
    #[must_use]
    pub const fn with_commitment_bytes(self, bytes: usize) -> Self {
        Self { commitments: bytes / SIGNED_COMMITMENT_BYTES, ..self }
    }

    /// Whether more is stored than allowed, evidence aside: the limits were higher when it was stored.
    /// Whether more is stored than allowed, evidence aside: the limits were higher when it was stored.
    #[cfg(feature = "disk")]
    pub(crate) const fn are_exceeded(&self, held: &crate::StorageStats) -> bool {
        held.commitments > self.commitments
            || held.txlists > self.txlists
            || held.txlist_bytes > self.txlist_bytes
    }

    /// Why one more commitment does not fit beside `held` ones.
    pub(crate) const fn commitments_full(&self, held: usize) -> Option<StorageError> {
        if held < self.commitments {
            return None;
        }
        let (used, limit) = (held.saturating_add(1), self.commitments);
        Some(StorageError::Full { what: "commitments", used, limit })
    }

    /// Why one more list of `more` bytes does not fit beside `held` ones that have `bytes`.
    pub(crate) const fn txlists_full(&self, held: usize, bytes: usize, more: usize) -> Option<StorageError> {
        let used = bytes.saturating_add(more);
        if used > self.txlist_bytes {
            let limit = self.txlist_bytes;
            return Some(StorageError::Full { what: "bytes of transaction lists", used, limit });
        }
        if held < self.txlists {
            return None;
        }
        let (used, limit) = (held.saturating_add(1), self.txlists);
        Some(StorageError::Full { what: "transaction lists", used, limit })
    }
}
