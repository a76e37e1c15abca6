//! What a store can do. Each trait is one capability, fallible, and usable as `dyn`.

use std::sync::Arc;

use p2p_types::{Address, B256, Base, BlockNumber, Head, Recovered, TxList, UnixSeconds};
use p2p_validation::{Evidence, EvidenceRecord, Linked};
use preconfirmation_types::SIGNED_COMMITMENT_BYTES;

use crate::{Promise, SystemError};

/// Hashes that [`CommitmentStore::note_sent`] remembers: of some dozens of blocks and their lists.
pub const SENT: usize = 64;

/// A store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Everything in the store is above the settled base, so nothing may be evicted. Raise the limit, or
    /// declare a newer base.
    #[error("{what} are full: {used} used, at most {limit}, and nothing below the base is left to evict")]
    Full {
        /// What is full.
        what: &'static str,
        /// What an insert would bring it to.
        used: usize,
        /// The limit.
        limit: usize,
    },
    /// No base has been declared, so nothing can be linked to it. Call [`CommitmentStore::set_base`] first.
    #[error("no base has been declared")]
    NoBase,
    /// The parent of a linked commitment is not in the store: it was judged against another store, or the
    /// base has moved since.
    #[error("the parent {0} is not in the store")]
    UnknownParent(B256),
    /// The disk has no room for this. Nothing was changed; reading goes on.
    #[error("there is no space left on the disk")]
    NoSpace,
    /// The operating system failed. What was asked for may or may not have been done; asked for again, a store says
    /// that it is there already where it has been done.
    #[error("cannot read or write the store: {0}")]
    Io(SystemError),
    /// What the store kept is not what it was given. It is not served.
    #[error("the store is corrupt: {what}")]
    Corrupt {
        /// What is not as it was written.
        what: &'static str,
    },
    /// Another process, or another part of this one, has the store open.
    #[error("the store is in use{}", .owner.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The process, where it says so.
        owner: Option<u32>,
    },
    /// A newer version of this software has written the store.
    #[error("the store has schema {found}, this software knows up to {known}")]
    NewerSchema {
        /// What it has.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The store holds the data of another chain.
    #[error("the store belongs to the signing domain {found}")]
    OtherDomain {
        /// Whose data it holds.
        found: B256,
    },
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// A thread panicked while it held the store.
    #[error("the store was left behind by a panicking thread")]
    Poisoned,
}

impl StorageError {
    /// Whether the same call can succeed later without anybody changing the configuration.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace => true,
            Self::Io(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// A commitment in the store. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommitment {
    /// Its height; of a handover, the height that it declines.
    pub block: BlockNumber,
    /// Preconfirmation hash of the block before. The commitment's own parent hash, unless the operator lets
    /// blocks follow by height.
    pub parent: B256,
    /// The commitment, its signer and its hashes.
    pub recovered: Arc<Recovered>,
}

impl StoredCommitment {
    /// Its preconfirmation hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.recovered.hash()
    }

    /// The hash of its transaction list, zero in a handover.
    #[must_use]
    pub fn txlist_hash(&self) -> B256 {
        self.recovered.signed().preconf().raw_tx_list_hash
    }

    /// Whether it hands over without a block (EOP-only).
    #[must_use]
    pub fn is_handover(&self) -> bool {
        self.recovered.signed().preconf().is_eop_only()
    }

    /// Its number and hash.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { number: self.block, hash: self.hash() }
    }
}

impl From<Linked> for StoredCommitment {
    fn from(linked: Linked) -> Self {
        Self {
            block: linked.block(),
            parent: linked.parent(),
            recovered: Arc::new(linked.recovered().clone()),
        }
    }
}

/// What an insert did. A conflict is a result, never an overwrite in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// It is the new head, or a handover that was not known.
    New,
    /// It was there already; nothing changed.
    Known,
    /// It is linked, but another branch is the chain. Kept beside it.
    Side,
    /// What it stands on had been taken out of the chain by [`CommitmentStore::withdraw`], and stands again with it.
    Restored {
        /// The blocks that came back, lowest first, up to the new head.
        adopted: Vec<StoredCommitment>,
    },
    /// With it another branch is the chain (§7). What was there is kept beside it.
    Superseded {
        /// The block that stood where the winning branch begins.
        previous: B256,
        /// Hashes that are no longer in the chain, lowest first, `previous` included.
        dropped: Vec<B256>,
        /// The blocks that took their place, lowest first, up to the new head. The one that was inserted need not be
        /// among them.
        adopted: Vec<StoredCommitment>,
    },
}

/// How the chain has changed, other than by an insert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainUpdate {
    /// What is no longer in the chain, lowest first.
    pub dropped: Vec<StoredCommitment>,
    /// What has come into the chain, lowest first.
    pub adopted: Vec<StoredCommitment>,
}

impl ChainUpdate {
    /// Whether the chain is as before.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.adopted.is_empty()
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Commitments: the chain, what is beside it, and handovers.
    pub commitments: usize,
    /// Transaction lists.
    pub txlists: usize,
    /// Bytes of transaction lists.
    pub txlist_bytes: usize,
    /// Pieces of evidence.
    pub evidence: usize,
}

impl StorageStats {
    /// Bytes of the commitments on the wire, where each has [`SIGNED_COMMITMENT_BYTES`].
    #[must_use]
    pub const fn commitment_bytes(&self) -> usize {
        self.commitments.saturating_mul(SIGNED_COMMITMENT_BYTES)
    }
}

/// A proof of misbehaviour in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvidence {
    /// Who misbehaved.
    pub signer: Address,
    /// The height of the commitment that should not be.
    pub block: BlockNumber,
    /// Both commitments. [`EvidenceRecord::verify`] makes [`Evidence`] of it again.
    pub record: EvidenceRecord,
}

impl From<&Evidence> for StoredEvidence {
    fn from(evidence: &Evidence) -> Self {
        Self { signer: evidence.signer(), block: evidence.block(), record: evidence.record() }
    }
}

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

    /// Inserts many, in order, and answers for each. One that fails does not stop those after it. A store
    /// that pays for every durable write pays once for all of them.
    fn insert_all(&self, commitments: Vec<Linked>) -> Vec<Result<Inserted, StorageError>> {
        commitments.into_iter().map(|commitment| self.insert(commitment)).collect()
    }

    /// Whether no call ever waits for a device, because everything is in memory. A client then judges a few messages
    /// where they arrive, looks up there what peers ask for, and spares a change of thread for each.
    fn is_immediate(&self) -> bool {
        false
    }

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

    /// Hashes of the blocks, in the chain or not, that name this one as their parent, in order of arrival.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn children(&self, parent: &B256) -> Result<Vec<B256>, StorageError>;

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

    /// Handovers that decline a height, in order of arrival.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn handovers(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let mut found = self.at(block)?;
        found.retain(|stored| stored.recovered.signed().preconf().is_eop_only());
        Ok(found)
    }

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

    /// Notes that the network has taken these of our own, commitments or transaction lists, by their hashes. A store
    /// remembers the last [`SENT`]; one that remembers none, as by default, lets its owner send again what peers know.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    fn note_sent(&self, _hashes: &[B256]) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether this is among what was noted last.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn is_sent(&self, _hash: &B256) -> Result<bool, StorageError> {
        Ok(false)
    }

    /// How many there are: the chain, what is beside it, and handovers.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn commitment_count(&self) -> Result<usize, StorageError>;

    /// How many there may be; none, as by default, where that is not known.
    fn commitment_limit(&self) -> Option<usize> {
        None
    }
}

/// Transaction lists, by hash.
pub trait TxListStore: Send + Sync {
    /// Keeps a list for the block at `block`. Returns whether it is new: it was not there, or what was there was not it
    /// any more and has been replaced.
    ///
    /// # Errors
    /// [`StorageError::Full`] when only lists of unsettled blocks are left and the limit is reached.
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError>;

    /// Puts many, in order, and answers for each. One that fails does not stop those after it. A store that pays for
    /// every durable write pays once for all of them, but for those that are large.
    fn put_all(&self, txlists: Vec<(BlockNumber, TxList)>) -> Vec<Result<bool, StorageError>> {
        txlists.into_iter().map(|(block, txlist)| self.put(block, txlist)).collect()
    }

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

    /// How many there are, and how many bytes they have together.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn txlist_usage(&self) -> Result<(usize, usize), StorageError>;
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

    /// How many pieces there are.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn evidence_count(&self) -> Result<usize, StorageError>;
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

/// All that the client needs of a store; whatever has the parts is one.
pub trait SdkStorage: CommitmentStore + TxListStore + EvidenceStore + PromiseStore + 'static {
    /// How much it holds.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn stats(&self) -> Result<StorageStats, StorageError> {
        let (commitments, (txlists, txlist_bytes)) = (self.commitment_count()?, self.txlist_usage()?);
        Ok(StorageStats { commitments, txlists, txlist_bytes, evidence: self.evidence_count()? })
    }

    /// The transaction list of the chain's block at a height; none where the block or its list is missing.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    fn txlist_of(&self, block: BlockNumber) -> Result<Option<TxList>, StorageError> {
        match self.by_block(block)? {
            Some(stored) => self.get(&stored.txlist_hash()),
            None => Ok(None),
        }
    }
}

impl<S: CommitmentStore + TxListStore + EvidenceStore + PromiseStore + 'static> SdkStorage for S {}
