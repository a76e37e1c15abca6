//! The data types of the store: commitments, batches, and the outcome of a change.

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

    /// Whether it is a handover without a block (EOP-only).
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

/// What an insert did. A conflict between blocks is reported, not overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// It is the new head, or a handover that was not known.
    New,
    /// It was there already; nothing changed.
    Known,
    /// Another branch is canonical. The block is kept as non-canonical.
    NonCanonical,
    /// Its ancestors had been withdrawn ([`CommitmentStore::withdraw`](crate::CommitmentStore::withdraw)), and are canonical
    /// again with it.
    Restored {
        /// The blocks that came back, lowest first, up to the new head.
        adopted: Vec<StoredCommitment>,
    },
    /// A reorg: another branch is canonical now (§7). The blocks that it replaces are kept as non-canonical.
    Superseded {
        /// The block that was canonical where the new branch begins.
        previous: B256,
        /// Hashes of the blocks that are no longer canonical, lowest first, `previous` included.
        dropped: Vec<B256>,
        /// The blocks that replace them, lowest first, up to the new head. The inserted one need not be among them.
        adopted: Vec<StoredCommitment>,
    },
}

/// How the canonical chain has changed, other than by an insert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainUpdate {
    /// Blocks that are no longer canonical, lowest first.
    pub dropped: Vec<StoredCommitment>,
    /// Blocks that became canonical, lowest first.
    pub adopted: Vec<StoredCommitment>,
}

impl ChainUpdate {
    /// Whether the chain is unchanged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.adopted.is_empty()
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Commitments: canonical blocks, non-canonical blocks and handovers.
    pub commitments: usize,
    /// Transaction lists.
    pub txlists: usize,
    /// Bytes of transaction lists.
    pub txlist_bytes: usize,
    /// Pieces of evidence.
    pub evidence: usize,
}

impl StorageStats {
    /// Size of the commitments on the wire, [`SIGNED_COMMITMENT_BYTES`] each.
    #[must_use]
    pub const fn commitment_bytes(&self) -> usize {
        self.commitments.saturating_mul(SIGNED_COMMITMENT_BYTES)
    }
}

/// A stored proof of misbehaviour.
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
    /// The list that it names. It is stored if the block is canonical once the batch is applied. A list that the commitment
    /// does not name is ignored.
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
    /// Blocks and handovers, in order: parents before their children.
    pub commitments: Vec<NewCommitment>,
    /// Lists of blocks that are stored already, each with the highest block that names it.
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
    /// All lists that can be stored, those of commitments first.
    pub fn lists(&self) -> impl Iterator<Item = &TxList> {
        let with = self.commitments.iter().filter_map(|new| {
            let named = new.linked.recovered().signed().preconf().raw_tx_list_hash;
            new.txlist.as_ref().filter(|list| list.hash() == named)
        });
        with.chain(self.txlists.iter().map(|(_, list)| list))
    }

    /// The outcome when the store can apply nothing.
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
    /// Whether its list is new, or why it was refused. None if it came without its list, or is not canonical.
    pub txlist: Option<Result<bool, StorageError>>,
}

/// The outcome of a [`Batch`], in its order. A refused entry changes nothing and does not stop the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// For each commitment.
    pub commitments: Vec<AppliedCommitment>,
    /// For each list, whether it is new.
    pub txlists: Vec<Result<bool, StorageError>>,
}
