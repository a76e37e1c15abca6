//! The storage traits. Each is one capability, fallible and `dyn`-compatible.

use p2p_types::{Address, B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::{Evidence, Linked};

use crate::{
    Applied, Batch, ChainUpdate, Inserted, Promise, StorageError, StorageStats, StoredCommitment,
    StoredEvidence,
};

/// Hashes that [`PublishLog::record_published`] remembers: of some dozens of blocks and their lists.
pub const PUBLISHED: usize = 64;

/// Commitments: the canonical chain above the [base](p2p_types::Base), non-canonical blocks, and handovers.
///
/// Which branch is canonical (§7) follows from the set of blocks, not from their arrival: at each fork, from the base
/// upwards, the child whose subtree has the most turns (runs of blocks of one signer) along a path; then the one of the
/// later window, with the highest block, the later timestamp, the lower hash. An insert changes nothing at or below the
/// base.
pub trait CommitmentStore: Send + Sync {
    /// Adds a block or a handover that validation has linked, and runs fork choice.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError>;

    /// The canonical block at a height.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError>;

    /// The commitment with this preconfirmation hash: a canonical or non-canonical block, or a handover.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError>;

    /// Canonical blocks from a height on, without a gap, at most `limit`.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError>;

    /// All commitments at a height, in order of arrival: the canonical block, non-canonical ones, and handovers.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError>;

    /// The last canonical block; none while the chain above the base is empty.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn head(&self) -> Result<Option<Head>, StorageError>;

    /// The base, as declared last.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn base(&self) -> Result<Option<Base>, StorageError>;

    /// Declares a new base. Blocks above it that are not its descendants are removed: descendants of another block at its
    /// height, where its hash is known or a canonical block is there, and blocks above a gap. If that removes canonical
    /// blocks, fork choice runs on the rest. A hash that is stored as that of a handover, or of another height, is that of no
    /// block that is stored.
    ///
    /// A base that moves up along the chain costs in proportion to what it settles, not to what is above.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError>;

    /// Declares a new base at whose height another block was settled than any that is stored: with these all that is above it
    /// is removed. `settled` is that block's hash on L2, which is no preconfirmation hash: the base has none, and whatever is
    /// inserted next above it may name any parent. One write: after a crash all of it is stored or nothing.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn settle_other(&self, block: BlockNumber, settled: B256) -> Result<ChainUpdate, StorageError>;

    /// L1 has replaced its blocks from `anchor` on: withdraws the blocks above the base that are anchored to them, and their
    /// descendants. Withdrawn blocks are kept as non-canonical. They become canonical again as ancestors of a block that is
    /// inserted later, or by [`reinstate`](Self::reinstate); inserting the same block again does not bring them back.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError>;

    /// The L1 blocks from `anchor` on are canonical again: undoes [`withdraw`](Self::withdraw) for them.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError>;

    /// Removes these blocks and handovers above the base, with the descendants of the blocks, and runs fork choice on the rest:
    /// what stays is what would be stored if they had never come. Hashes that are not stored above the base are ignored.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn remove(&self, hashes: &[B256]) -> Result<ChainUpdate, StorageError>;

    /// Removes commitments below a height, or below the base if that is lower: only settled commitments are pruned. Returns
    /// how many were removed. Works in small transactions, between which other threads write.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError>;
}

/// Transaction lists by hash.
pub trait TxListStore: Send + Sync {
    /// Stores the list of a block at this height. Returns whether it is new: it was missing, or its stored bytes were corrupt
    /// and have been replaced.
    ///
    /// # Errors
    /// [`StorageError::Full`] if the limit is reached and only lists of unsettled blocks are left.
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError>;

    /// Keeps stored lists for the blocks of these heights as well, without their bytes, in one write. Answers for each, in order:
    /// whether it is stored.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] of a list whose bytes are missing or of another length, as far as that shows without reading
    /// them; [`StorageError`] if the store cannot be read or written.
    fn renew(&self, lists: &[(BlockNumber, B256)]) -> Vec<Result<bool, StorageError>>;

    /// The list with this hash.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError>;

    /// Whether a list is stored. Does not read its bytes: [`get`](Self::get) may still find them corrupt.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn contains(&self, hash: &B256) -> Result<bool, StorageError>;

    /// Removes a list, whatever block names it. Returns the highest block that it was kept for, none if it was not stored. Meant
    /// for one that [`get`](Self::get) finds [`Corrupt`](StorageError::Corrupt), so that it counts as missing and is fetched
    /// again.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn discard(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError>;
}

/// Proofs of misbehaviour. Pruning, a newer base and reorgs do not remove them.
pub trait EvidenceStore: Send + Sync {
    /// Stores evidence, the first for its signer, height and kind. At the limit, the signer with the most pieces (of several,
    /// the one with the highest address) loses the piece of its lowest height, even if that is the new one: a signer that
    /// misbehaves often displaces only its own evidence. Returns whether the evidence was added.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError>;

    /// All evidence, sorted by signer, height and the label of its kind. Bounded by
    /// [`StorageLimits::evidence`](crate::StorageLimits::evidence).
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError>;
}

/// Promises of the application's own signers, the record that the slashing guard checks. Independent of the chain: no base,
/// reorg or pruning of commitments removes them.
pub trait PromiseStore: Send + Sync {
    /// Records a promise. If [`keeps_promises`](Self::keeps_promises) holds, it is durable when this returns.
    ///
    /// # Errors
    /// [`StorageError`]; then nothing may be signed or sent for it.
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError>;

    /// The promises of a signer for the window that ends then, in order of height.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError>;

    /// Removes the promises for windows that ended before this. Returns how many were removed.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError>;

    /// Whether recorded promises survive a crash of the process and a loss of power.
    fn keeps_promises(&self) -> bool;
}

/// Hashes of the own commitments and transaction lists that the network has taken last, so that they are not sent again
/// after a restart. A store without a log, as by default, lets its owner send them again.
pub trait PublishLog: Send + Sync {
    /// Records that the network has taken these. A log keeps the last [`PUBLISHED`].
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn record_published(&self, _hashes: &[B256]) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether this is in the log.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn is_published(&self, _hash: &B256) -> Result<bool, StorageError> {
        Ok(false)
    }
}

/// Everything that the client needs of a store.
pub trait SdkStorage:
    CommitmentStore + TxListStore + EvidenceStore + PromiseStore + PublishLog + 'static
{
    /// Applies a batch atomically: after a crash all of it is stored or nothing. Does as [`insert`](CommitmentStore::insert)
    /// for each commitment, in order, then as [`put`](TxListStore::put) for each list; the list of a commitment only if that
    /// is canonical after all inserts.
    fn apply(&self, batch: Batch) -> Applied;

    /// How much is stored.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn stats(&self) -> Result<StorageStats, StorageError>;

    /// Whether no call waits for a device, because everything is in memory. The client then works on small batches and looks
    /// up what peers ask for without a change of thread.
    fn is_immediate(&self) -> bool {
        false
    }

    /// The limit of stored commitments, if the store has one.
    fn commitment_limit(&self) -> Option<usize> {
        None
    }
}
