//! The contracts of a store. Each trait is one capability, fallible, and usable as `dyn`.

use p2p_types::{Address, B256, Base, BlockNumber, Head, TxList, UnixSeconds};
use p2p_validation::{Evidence, Linked};

use crate::{
    Applied, Batch, ChainUpdate, Inserted, Promise, StorageError, StorageStats, StoredCommitment,
    StoredEvidence,
};

/// Hashes that [`PublishLog::record_published`] remembers: of some dozens of blocks and their lists.
pub const PUBLISHED: usize = 64;

/// Commitments: one chain above the base, the branches that it won against, and handovers.
///
/// Which branch is the chain (§7) follows from the set of blocks, not from their arrival: at each fork, from the base
/// upwards, the child whose subtree has the most turns (runs of blocks of one signer) along a path; then the one of the
/// later window, with the highest block, the later timestamp, the lower hash. Nothing at or below the base is changed by
/// an insert.
pub trait CommitmentStore: Send + Sync {
    /// Adds what validation has linked, be it a block or a handover, and decides between branches.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError>;

    /// The block of the chain at a height.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError>;

    /// Whatever has this preconfirmation hash: a block of the chain, of a branch that lost, or a handover.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError>;

    /// Blocks of the chain from a height on, without a gap, at most `limit`.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError>;

    /// Everything that is stored at a height, in order of arrival: the block of the chain, those of branches
    /// that lost, and handovers.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError>;

    /// The last block of the chain; none while nothing stands above the base.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn head(&self) -> Result<Option<Head>, StorageError>;

    /// What the contracts have settled, as declared last.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn base(&self) -> Result<Option<Base>, StorageError>;

    /// Declares what the contracts have settled. Blocks above that do not stand on it are removed for good: those of
    /// another block at its height, where its hash is known or the chain has a block there, and those above a gap.
    /// Where that takes the chain with it, the best of what is left is the chain.
    ///
    /// A base that moves along the chain costs what it settles, not what is above.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError>;

    /// L1 has replaced its blocks from `anchor` on: the blocks above the base that are anchored to them, and what stands
    /// on those, leave the chain. They are kept beside it and count again below a block that is inserted later, or after
    /// [`reinstate`](Self::reinstate); the same block again does not bring them back.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError>;

    /// The L1 blocks from `anchor` on are canonical again: what [`withdraw`](Self::withdraw) has taken out for their sake
    /// counts as before.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError>;

    /// Removes commitments below a height, which is taken down to the settled height where it is above:
    /// what is not settled is never pruned. Returns how many went. Works in small steps, between which
    /// other writers have their turn.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError>;
}

/// Transaction lists, by hash.
pub trait TxListStore: Send + Sync {
    /// Keeps a list for the block at `block`. Returns whether it is new: it was not there, or what was there was not it
    /// any more and has been replaced.
    ///
    /// # Errors
    /// [`StorageError::Full`] when only lists of unsettled blocks are left and the limit is reached.
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError>;

    /// The list with this hash; its bytes are shared.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError>;

    /// Whether a list is there. Its bytes are not read: [`get`](Self::get) may still find that they are not those
    /// that were put.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn contains(&self, hash: &B256) -> Result<bool, StorageError>;

    /// Forgets a list, of whatever block. Returns whether it was there. For one that [`get`](Self::get) finds
    /// [`Corrupt`](StorageError::Corrupt): it is missing from then on, and can be fetched and put again.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn discard(&self, hash: &B256) -> Result<bool, StorageError>;
}

/// Proofs of misbehaviour. They outlive the commitments that they are made of: pruning, a newer base and a
/// switch of branches leave them alone.
pub trait EvidenceStore: Send + Sync {
    /// Keeps evidence, the first for its signer, height and kind. When the limit is reached, the signer with
    /// the most pieces (of several, the one with the highest address) loses the one of its lowest height, be
    /// it the new one: whoever misbehaves often pushes out only its own. Returns whether it was not there and
    /// is there now.
    ///
    /// # Errors
    /// [`StorageError`]; nothing was changed then.
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError>;

    /// All evidence, by signer, height and the label of its kind. Bounded by
    /// [`StorageLimits::evidence`](crate::StorageLimits::evidence).
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError>;
}

/// What the application's own signers have promised, kept apart from the chain: no base, branch, reorg or pruning of
/// commitments takes it away.
pub trait PromiseStore: Send + Sync {
    /// Keeps a promise. Where [`keeps_promises`](Self::keeps_promises) holds, it is there after a crash once this has
    /// returned.
    ///
    /// # Errors
    /// [`StorageError`]; then it must not be counted on, and nothing may be signed or sent for it.
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError>;

    /// What a signer has promised for the window that ends then, in order of height.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError>;

    /// Forgets the promises for windows that ended before this. Returns how many went.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError>;

    /// Whether a promise that was kept is there after the process has been killed, or the machine has lost power.
    fn keeps_promises(&self) -> bool;
}

/// The last commitments and transaction lists of our own that the network has taken, by hash: who publishes again after a
/// restart need not send again what peers have. A store that remembers none, as by default, lets its owner send again.
pub trait PublishLog: Send + Sync {
    /// Records that the network has taken these. A store remembers the last [`PUBLISHED`].
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn record_published(&self, _hashes: &[B256]) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether this is among what was recorded last.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn is_published(&self, _hash: &B256) -> Result<bool, StorageError> {
        Ok(false)
    }
}

/// All that the client needs of a store.
pub trait SdkStorage:
    CommitmentStore + TxListStore + EvidenceStore + PromiseStore + PublishLog + 'static
{
    /// Stores commitments and transaction lists in one atomic step: after a crash all of it is there or nothing. As
    /// [`insert`](CommitmentStore::insert) for each commitment, in order, then [`put`](TxListStore::put) for each list. A
    /// list that comes with a commitment is put if that is part of the chain after all of them are inserted.
    fn apply(&self, batch: Batch) -> Applied;

    /// How much it holds.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn stats(&self) -> Result<StorageStats, StorageError>;

    /// Whether no call ever waits for a device, because everything is in memory. A client then judges a few messages
    /// where they arrive, looks up there what peers ask for, and spares a change of thread for each.
    fn is_immediate(&self) -> bool {
        false
    }

    /// How many commitments there may be; none, as by default, where that is not known.
    fn commitment_limit(&self) -> Option<usize> {
        None
    }
}
