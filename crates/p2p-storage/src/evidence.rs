//! Keys and eviction order of evidence, shared by both stores.

use p2p_types::{Address, BlockNumber};
use p2p_validation::Evidence;

/// Signer, height of the second commitment, label of the kind.
pub(crate) type EvidenceKey = (Address, BlockNumber, &'static str);

/// The key of a piece of evidence.
pub(crate) const fn evidence_key(evidence: &Evidence) -> EvidenceKey {
    (evidence.signer(), evidence.block(), evidence.kind().label())
}

/// The key to evict at the limit, of sorted keys.
pub(crate) fn first_of_the_worst(keys: impl Iterator<Item = EvidenceKey>) -> Option<EvidenceKey> {
    let keys: Vec<_> = keys.collect();
    let worst = keys.chunk_by(|a, b| a.0 == b.0).max_by_key(|of_signer| of_signer.len())?;
    worst.first().copied()
}

/// The kind that a label names.
#[cfg(feature = "disk")]
pub(crate) fn kind_of(label: &str) -> Option<p2p_types::Misbehaviour> {
    p2p_types::Misbehaviour::ALL.iter().copied().find(|kind| kind.label() == label)
}
