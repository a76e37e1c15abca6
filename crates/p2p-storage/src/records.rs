//! What goes into a store and comes out of it.

use std::sync::Arc;

use p2p_types::{Address, B256, BlockNumber, Head, Recovered, TxList};
use p2p_validation::{Evidence, EvidenceRecord, Linked};
use preconfirmation_types::SIGNED_COMMITMENT_BYTES;

use crate::StorageError;

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

/// A block or a handover to be stored, and its transaction list where that is at hand.
#[derive(Debug, Clone)]
pub struct NewCommitment {
    /// What validation has linked.
    pub linked: Linked,
    /// The list that it names. It is stored if the block is part of the chain once the batch is; any other list is
    /// ignored.
    pub txlist: Option<TxList>,
}

impl From<Linked> for NewCommitment {
    fn from(linked: Linked) -> Self {
        Self { linked, txlist: None }
    }
}

/// What is stored in one atomic step ([`SdkStorage::apply`](crate::SdkStorage::apply)).
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Blocks and handovers, in order: one may be the parent of those after it.
    pub commitments: Vec<NewCommitment>,
    /// Lists of blocks that are in the store already, each with the highest block that names it.
    pub txlists: Vec<(BlockNumber, TxList)>,
}

impl From<Vec<Linked>> for Batch {
    fn from(commitments: Vec<Linked>) -> Self {
        Self { commitments: commitments.into_iter().map(NewCommitment::from).collect(), txlists: Vec::new() }
    }
}

impl From<Vec<(BlockNumber, TxList)>> for Batch {
    fn from(txlists: Vec<(BlockNumber, TxList)>) -> Self {
        Self { commitments: Vec::new(), txlists }
    }
}

impl Batch {
    /// All lists, those that come with commitments first. One that its commitment does not name is left out.
    pub fn lists(&self) -> impl Iterator<Item = &TxList> {
        let with = self.commitments.iter().filter_map(|new| {
            let named = new.linked.recovered().signed().preconf().raw_tx_list_hash;
            new.txlist.as_ref().filter(|list| list.hash() == named)
        });
        with.chain(self.txlists.iter().map(|(_, list)| list))
    }

    /// The answer of a store that can do nothing of it.
    pub fn failed(&self, error: &StorageError) -> Applied {
        let commitment = || AppliedCommitment { inserted: Err(error.clone()), txlist: None };
        Applied {
            commitments: self.commitments.iter().map(|_| commitment()).collect(),
            txlists: self.txlists.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// What became of a commitment of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct AppliedCommitment {
    /// What the insert did.
    pub inserted: Result<Inserted, StorageError>,
    /// Of a list that came with it and is kept: whether it is new. None if there was no list for it, or the block is
    /// not in the chain.
    pub txlist: Option<Result<bool, StorageError>>,
}

/// What became of a [`Batch`], in its order. An entry that was refused has changed nothing and does not stop the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// Of each commitment.
    pub commitments: Vec<AppliedCommitment>,
    /// Of each list, whether it is new.
    pub txlists: Vec<Result<bool, StorageError>>,
}
