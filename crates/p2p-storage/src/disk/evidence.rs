//! Evidence of a store on disk.

use p2p_types::Address;
use p2p_validation::{Evidence, EvidenceRecord};
use preconfirmation_types::{Container as _, SIGNED_COMMITMENT_BYTES, Unrecovered};
use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    DiskStorage,
    fault::fault,
    rows::{CHECKSUM_BYTES, checksum},
    tables::{EVIDENCE, EvidenceRowKey},
    writer::Writer,
};
use crate::{
    EvidenceStore, StorageError, StoredEvidence,
    evidence::{EvidenceKey, evidence_key, first_of_the_worst, kind_of},
};

const WHAT: StorageError = StorageError::Corrupt { what: "evidence" };

/// The record of a piece of evidence: both commitments, and a checksum over the key and these.
pub(super) fn seal_evidence(key: EvidenceRowKey<'_>, commitments: &[u8]) -> Vec<u8> {
    let (signer, block, label) = key;
    let sum = checksum(block, &[&signer[..], label.as_bytes(), commitments].concat());
    [commitments, &sum].concat()
}

pub(super) fn decode_evidence(key: EvidenceRowKey<'_>, bytes: &[u8]) -> Result<StoredEvidence, StorageError> {
    let (body, _) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(WHAT)?;
    let (first, second) = body.split_at_checked(SIGNED_COMMITMENT_BYTES).ok_or(WHAT)?;
    let decode = |ssz| Unrecovered::from_ssz(ssz).map(|found| found.signed().clone()).map_err(|_| WHAT);
    let (signer, block, label) = key;
    match kind_of(label) {
        Some(kind) if seal_evidence(key, body) == bytes => {
            let record = EvidenceRecord { kind, first: decode(first)?, second: decode(second)? };
            Ok(StoredEvidence { signer: Address::from(*signer), block, record })
        }
        _ => Err(WHAT),
    }
}

fn row_key(key: &EvidenceKey) -> EvidenceRowKey<'_> {
    (&key.0.0.0, key.1, key.2)
}

impl Writer<'_> {
    /// As [`EvidenceStore::put_evidence`].
    fn put_evidence(&mut self, key: EvidenceKey, evidence: &StoredEvidence) -> Result<bool, StorageError> {
        let mut table = self.transaction.open_table(EVIDENCE).map_err(fault)?;
        if table.get(row_key(&key)).map_err(fault)?.is_some() {
            return Ok(false);
        }
        self.changed = true;
        let EvidenceRecord { first, second, .. } = &evidence.record;
        let bytes = [first.to_ssz(), second.to_ssz()].concat();
        table.insert(row_key(&key), &*seal_evidence(row_key(&key), &bytes)).map_err(fault)?;
        let limit = u64::try_from(self.limits.evidence).unwrap_or(u64::MAX);
        let mut kept = true;
        while table.len().map_err(fault)? > limit {
            let mut keys = Vec::new();
            for entry in table.iter().map_err(fault)? {
                let (key, _) = entry.map_err(fault)?;
                let (signer, block, label) = key.value();
                keys.push((Address::from(*signer), block, kind_of(label).ok_or(WHAT)?.label()));
            }
            let Some(worst) = first_of_the_worst(keys.into_iter()) else { break };
            table.remove(row_key(&worst)).map_err(fault)?;
            kept &= worst != key;
        }
        Ok(kept)
    }
}

impl EvidenceStore for DiskStorage {
    fn put_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError> {
        let (key, evidence) = (evidence_key(evidence), StoredEvidence::from(evidence));
        self.write(move |writer| writer.put_evidence(key, &evidence))
    }

    fn evidence(&self) -> Result<Vec<StoredEvidence>, StorageError> {
        self.read(|file| {
            let mut found = Vec::new();
            for entry in file.open_table(EVIDENCE).map_err(fault)?.iter().map_err(fault)? {
                let (key, bytes) = entry.map_err(fault)?;
                found.push(decode_evidence(key.value(), bytes.value())?);
            }
            Ok(found)
        })
    }
}
