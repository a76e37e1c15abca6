//! The format of an export: JSON lines, a header first.

use p2p_types::{B256, Base, BlockNumber, Bytes, Head, SignedCommitment};
use p2p_validation::EvidenceRecord;
use serde::{Deserialize, Serialize};

/// The version of these lines.
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) version: u32,
    /// The domain that the commitments are signed under.
    pub(super) domain: B256,
    /// The lowest height at which there is a commitment.
    pub(super) lowest: Option<BlockNumber>,
    pub(super) base: Option<Base>,
    pub(super) head: Option<Head>,
}

/// Every other line: commitments by height and in order of arrival, then lists, then evidence.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum Line {
    /// A block or a handover.
    Commitment(Box<SignedCommitment>),
    /// A transaction list and the newest block that names it.
    Txlist { block: BlockNumber, hash: B256, txlist: Bytes },
    /// Proof of misbehaviour.
    Evidence { record: Box<EvidenceRecord> },
}
