//! Full verification: reads everything in the store and recomputes checksums, hashes, signatures, links and counts.

use std::{collections::BTreeSet, fmt};

use p2p_fastverify::hash_all;
use p2p_types::{Address, B256, BlockNumber, Recovered};
use preconfirmation_types::Container;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::{
    DiskStorage,
    evidence::decode_evidence,
    fault::fault,
    guarded,
    index::entry,
    published::published,
    rows::Row,
    state::State,
    tables::{CANONICAL, COMMITMENTS, EVIDENCE, HEIGHTS, TXLIST_BLOCKS, TXLIST_ORDER, TXLISTS},
};
use crate::{StorageError, StorageStats};

/// Damage that verification has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A commitment of this height does not have its checksum, its hash or its signer.
    Commitment(BlockNumber),
    /// A canonical block is not a child of the one below.
    Link(BlockNumber),
    /// A hash does not lead to its commitment.
    Index(B256),
    /// A transaction list does not have its hash, its length or its place in the order of eviction.
    TxList(B256),
    /// Evidence does not have its checksum, or its signer did not sign both commitments.
    Evidence {
        /// Whom it accuses.
        signer: Address,
        /// At which height.
        block: BlockNumber,
    },
    /// The counts do not match the rows.
    Counts,
    /// A part of the file cannot be read.
    Unreadable,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commitment(block) => {
                write!(f, "a commitment of block {block} does not match its checksum, hash or signer")
            }
            Self::Link(block) => write!(f, "block {block} is not a child of the one below"),
            Self::Index(hash) => write!(f, "the hash {hash} does not lead to its commitment"),
            Self::TxList(hash) => {
                write!(f, "the transaction list {hash} is missing or does not match its hash")
            }
            Self::Evidence { signer, block } => {
                write!(f, "the evidence against {signer} at block {block} does not hold")
            }
            Self::Counts => f.write_str("the counts do not match the rows"),
            Self::Unreadable => f.write_str("a part of the database cannot be read"),
        }
    }
}

/// What [`DiskStorage::verify`] has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct VerifyReport {
    /// Intact data.
    pub sound: StorageStats,
    /// Damaged data.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl DiskStorage {
    /// Reads everything and recomputes checksums, hashes, signatures, links, indexes and counts. Takes some 50 µs a
    /// commitment; reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`StorageError`] if the database cannot be opened at all. Damage inside is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StorageError> {
        self.read(|file| {
            let mut report = VerifyReport::default();
            for part in [commitments, txlists, evidence, publish_log, counts] {
                let read = guarded(|| {
                    let mut found = report.clone();
                    part(self, file, &mut found)?;
                    Ok(found)
                });
                match read {
                    Ok(found) => report = found,
                    Err(StorageError::Corrupt { .. }) => report.problems.push(Problem::Unreadable),
                    Err(error) => return Err(error),
                }
            }
            Ok(report)
        })
    }
}

fn publish_log(
    _store: &DiskStorage,
    file: &ReadTransaction,
    _report: &mut VerifyReport,
) -> Result<(), StorageError> {
    published(file).map(drop)
}

fn commitments(
    store: &DiskStorage,
    file: &ReadTransaction,
    report: &mut VerifyReport,
) -> Result<(), StorageError> {
    let rows = file.open_table(COMMITMENTS).map_err(fault)?;
    let heights = file.open_table(HEIGHTS).map_err(fault)?;
    let lowest = State::load(file, &store.config.domain)?.lowest();
    let domain = &store.config.domain;
    let mut below = None;
    // Index entries that lead to a row: hashes of one height with the same prefix share one.
    let (mut entries, mut here, mut height) = (0, BTreeSet::new(), 0);
    for row in rows.iter().map_err(fault)? {
        let (key, bytes) = row.map_err(fault)?;
        let key @ (block, seq) = key.value();
        let signed_as_said = |row: &Row| {
            let kept = &*row.stored.recovered;
            Recovered::from_ssz(&kept.signed().to_ssz(), domain).is_ok_and(|again| again == *kept)
        };
        let Some(row) = Row::decode(key, bytes.value(), domain).ok().filter(signed_as_said) else {
            report.problems.push(Problem::Commitment(block));
            continue;
        };
        report.sound.commitments += 1;
        let hash = row.stored.hash();
        let entry = entry(&hash, block);
        if heights.get(entry).map_err(fault)?.is_none() {
            report.problems.push(Problem::Index(hash));
        }
        if std::mem::replace(&mut height, block) != block {
            here.clear();
        }
        entries += u64::from(here.insert(entry));
        if seq == CANONICAL {
            let linked = match below {
                Some((number, hash)) if number + 1 == block => row.stored.parent == hash,
                _ => true,
            };
            // The first block above a base without a hash may name a parent that is not stored.
            if !linked && block > lowest {
                report.problems.push(Problem::Link(block));
            }
            below = Some((block, hash));
        }
    }
    if report.is_sound() && heights.len().map_err(fault)? != entries {
        report.problems.push(Problem::Counts);
    }
    Ok(())
}

/// Lists that are hashed beside each other: 16 MiB at most.
const LISTS_TOGETHER: usize = 8;

/// Compares the hashes of lists with their names.
fn hash_lists(read: &mut Vec<(B256, Vec<u8>)>, report: &mut VerifyReport) {
    let hashes = hash_all(&read.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>());
    for ((name, bytes), hash) in read.drain(..).zip(hashes) {
        if name == hash {
            report.sound.txlists += 1;
            report.sound.txlist_bytes = report.sound.txlist_bytes.saturating_add(bytes.len());
        } else {
            report.problems.push(Problem::TxList(name));
        }
    }
}

fn txlists(
    store: &DiskStorage,
    file: &ReadTransaction,
    report: &mut VerifyReport,
) -> Result<(), StorageError> {
    let lists = file.open_table(TXLISTS).map_err(fault)?;
    let blocks = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
    let order = file.open_table(TXLIST_ORDER).map_err(fault)?;
    let (mut in_database, mut read) = (0, Vec::with_capacity(LISTS_TOGETHER));
    for entry in blocks.iter().map_err(fault)? {
        let (hash, info) = entry.map_err(fault)?;
        let (hash, (block, len)) = (B256::from(*hash.value()), info.value());
        let is_placed = order.get((block, &hash.0)).map_err(fault)?.is_some();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = match lists.get(&hash.0).map_err(fault)? {
            Some(bytes) => {
                in_database += 1;
                Some(bytes.value().to_vec())
            }
            None => match store.read_file(&hash, len) {
                Ok(Some(bytes)) => Some(bytes),
                // Evicted since this began to read.
                Ok(None) if is_placed => {
                    report.sound.txlists += 1;
                    report.sound.txlist_bytes = report.sound.txlist_bytes.saturating_add(len);
                    continue;
                }
                Ok(None) | Err(StorageError::Corrupt { .. }) => None,
                Err(error) => return Err(error),
            },
        };
        match bytes.filter(|bytes| is_placed && bytes.len() == len) {
            Some(bytes) => read.push((hash, bytes)),
            None => report.problems.push(Problem::TxList(hash)),
        }
        if read.len() == LISTS_TOGETHER {
            hash_lists(&mut read, report);
        }
    }
    hash_lists(&mut read, report);
    let counted = [(blocks.len(), order.len()), (lists.len(), Ok(in_database))];
    for (theirs, ours) in counted {
        if theirs.map_err(fault)? != ours.map_err(fault)? {
            report.problems.push(Problem::Counts);
        }
    }
    Ok(())
}

fn evidence(
    store: &DiskStorage,
    file: &ReadTransaction,
    report: &mut VerifyReport,
) -> Result<(), StorageError> {
    for entry in file.open_table(EVIDENCE).map_err(fault)?.iter().map_err(fault)? {
        let (key, bytes) = entry.map_err(fault)?;
        let (signer, block, _) = key.value();
        let signer = Address::from(*signer);
        let signed_by_signer = |ssz: &[u8]| {
            Recovered::from_ssz(ssz, &store.config.domain).is_ok_and(|found| found.signer() == signer)
        };
        let sound = decode_evidence(key.value(), bytes.value()).is_ok_and(|found| {
            signed_by_signer(&found.record.first.to_ssz()) && signed_by_signer(&found.record.second.to_ssz())
        });
        if sound {
            report.sound.evidence += 1;
        } else {
            report.problems.push(Problem::Evidence { signer, block });
        }
    }
    Ok(())
}

fn counts(
    store: &DiskStorage,
    file: &ReadTransaction,
    report: &mut VerifyReport,
) -> Result<(), StorageError> {
    let State { commitments, txlists, txlist_bytes, .. } = State::load(file, &store.config.domain)?;
    let counted = StorageStats { commitments, txlists, txlist_bytes, evidence: report.sound.evidence };
    if report.is_sound() && counted != report.sound {
        report.problems.push(Problem::Counts);
    }
    Ok(())
}
