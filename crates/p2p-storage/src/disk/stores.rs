//! Commitments of a store on disk.

use std::collections::BTreeSet;

use p2p_types::{B256, Base, BlockNumber, Head};
use p2p_validation::Linked;
use redb::ReadableTable;

use super::{
    DiskStorage,
    fault::fault,
    group::Turn,
    rows::Row,
    sent::sent,
    tables::{CHAIN, COMMITMENTS, HEIGHTS, ROOTS, find, row, rows_at},
};
use crate::{ChainUpdate, CommitmentStore, Inserted, StorageError, StoredCommitment};

impl DiskStorage {
    /// The lowest height from `from` on at which something is stored.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    pub fn next_height(&self, from: BlockNumber) -> Result<Option<BlockNumber>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let next =
                commitments.range((from, CHAIN)..).map_err(fault)?.next().transpose().map_err(fault)?;
            Ok(next.map(|(place, _)| place.value().0))
        })
    }

    /// Commitments of the heights where a parent can be missing: where a chain begins, and above what has been
    /// pruned.
    fn orphans(&self) -> Result<Vec<StoredCommitment>, StorageError> {
        let rows = self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let lowest = commitments.first().map_err(fault)?.map(|(place, _)| place.value().0);
            let mut heights: BTreeSet<BlockNumber> = lowest.into_iter().collect();
            for entry in file.open_table(ROOTS).map_err(fault)?.iter().map_err(fault)? {
                heights.insert(entry.map_err(fault)?.0.value());
            }
            let mut rows = Vec::new();
            for block in heights {
                rows.extend(rows_at(&commitments, block, &self.config.domain)?);
            }
            rows.sort_unstable_by_key(|(_, row)| row.arrival);
            Ok(rows)
        })?;
        Ok(rows.into_iter().map(|(_, row)| row.stored).collect())
    }
}

impl CommitmentStore for DiskStorage {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        self.insert_all(vec![commitment]).pop().unwrap_or(Err(StorageError::Poisoned))
    }

    fn insert_all(&self, commitments: Vec<Linked>) -> Vec<Result<Inserted, StorageError>> {
        let new = commitments.into_iter().map(StoredCommitment::from).collect();
        self.write_all(new, |writer, new| writer.insert(new))
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            Ok(row(&commitments, (block, CHAIN), &self.config.domain)?.map(|row| row.stored))
        })
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let heights = file.open_table(HEIGHTS).map_err(fault)?;
            Ok(find(&commitments, &heights, hash, &self.config.domain)?.map(|(_, row)| row.stored))
        })
    }

    fn children(&self, parent: &B256) -> Result<Vec<B256>, StorageError> {
        let mut children = match self.by_hash(parent)? {
            Some(parent) => self.at(parent.block.saturating_add(1))?,
            None => self.orphans()?,
        };
        children.retain(|child| child.parent == *parent && !child.is_handover());
        Ok(children.iter().map(StoredCommitment::hash).collect())
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let mut run = Vec::with_capacity(limit.min(256));
            for entry in commitments.range((from, CHAIN)..).map_err(fault)? {
                let (place, bytes) = entry.map_err(fault)?;
                let place @ (block, slot) = place.value();
                // One height may have others beside the chain; a height without the chain ends the run.
                let next = from.saturating_add(run.len() as u64);
                if run.len() >= limit || block > next {
                    break;
                }
                if slot == CHAIN && block == next {
                    run.push(Row::decode(place, bytes.value(), &self.config.domain)?.stored);
                }
            }
            Ok(run)
        })
    }

    fn at(&self, block: BlockNumber) -> Result<Vec<StoredCommitment>, StorageError> {
        let rows = self.read(|file| {
            rows_at(&file.open_table(COMMITMENTS).map_err(fault)?, block, &self.config.domain)
        })?;
        Ok(rows.into_iter().map(|(_, row)| row.stored).collect())
    }

    fn head(&self) -> Result<Option<Head>, StorageError> {
        Ok(self.state()?.head())
    }

    fn base(&self) -> Result<Option<Base>, StorageError> {
        Ok(self.state()?.base)
    }

    fn set_base(&self, base: Base) -> Result<ChainUpdate, StorageError> {
        self.write(move |writer| writer.set_base(base))
    }

    fn withdraw(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.write(move |writer| writer.withdraw(anchor))
    }

    fn reinstate(&self, anchor: BlockNumber) -> Result<ChainUpdate, StorageError> {
        self.write(move |writer| writer.reinstate(anchor))
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            match self.write_in(Turn::Spare, move |writer| writer.prune(block))? {
                0 => return Ok(pruned),
                gone => pruned += gone,
            }
        }
    }

    fn note_sent(&self, hashes: &[B256]) -> Result<(), StorageError> {
        let hashes = hashes.to_vec();
        self.write(move |writer| writer.note_sent(&hashes))
    }

    fn is_sent(&self, hash: &B256) -> Result<bool, StorageError> {
        self.read(|file| Ok(sent(file)?.contains(hash)))
    }

    fn commitment_count(&self) -> Result<usize, StorageError> {
        Ok(self.state()?.commitments)
    }
}
