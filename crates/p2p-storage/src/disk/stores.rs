//! `CommitmentStore` and `SdkStorage` of the store on disk.

use p2p_types::{B256, Base, BlockNumber, Head};
use p2p_validation::Linked;
use redb::ReadableTableMetadata;

use super::{
    DiskStorage,
    fault::fault,
    group_commit::Priority,
    index::{find, row, rows_at},
    rows::Row,
    tables::{CANONICAL, COMMITMENTS, EVIDENCE, HEIGHTS},
};
use crate::{
    Applied, Batch, ChainUpdate, CommitmentStore, Inserted, SdkStorage, StorageError, StorageStats,
    StoredCommitment,
};

impl DiskStorage {
    /// The lowest height from `from` on at which something is stored.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    pub fn next_height(&self, from: BlockNumber) -> Result<Option<BlockNumber>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let next =
                commitments.range((from, CANONICAL)..).map_err(fault)?.next().transpose().map_err(fault)?;
            Ok(next.map(|(key, _)| key.value().0))
        })
    }
}

impl CommitmentStore for DiskStorage {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        let applied = self.apply_batch(&vec![commitment].into())?;
        applied.commitments.into_iter().next().map_or(Err(StorageError::Poisoned), |applied| applied.inserted)
    }

    fn by_block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            Ok(row(&commitments, (block, CANONICAL), &self.config.domain)?.map(|row| row.stored))
        })
    }

    fn by_hash(&self, hash: &B256) -> Result<Option<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let heights = file.open_table(HEIGHTS).map_err(fault)?;
            Ok(find(&commitments, &heights, &self.arrivals, hash, &self.config.domain)?
                .map(|(_, row)| row.stored))
        })
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let mut run = Vec::with_capacity(limit.min(256));
            for entry in commitments.range((from, CANONICAL)..).map_err(fault)? {
                let (key, bytes) = entry.map_err(fault)?;
                let key @ (block, seq) = key.value();
                // A height may have non-canonical rows; one without a canonical row ends the run.
                let next = from.saturating_add(run.len() as u64);
                if run.len() >= limit || block > next {
                    break;
                }
                if seq == CANONICAL && block == next {
                    run.push(Row::decode(key, bytes.value(), &self.config.domain)?.stored);
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

    fn settle_other(&self, block: BlockNumber, settled: B256) -> Result<ChainUpdate, StorageError> {
        self.write(move |writer| writer.settle_other(block, settled))
    }

    fn remove(&self, hashes: &[B256]) -> Result<ChainUpdate, StorageError> {
        let hashes = hashes.to_vec();
        self.write(move |writer| writer.remove(&hashes))
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
            match self.write_as(Priority::Low, move |writer| writer.prune(block))? {
                0 => return Ok(pruned),
                gone => pruned += gone,
            }
        }
    }
}

impl SdkStorage for DiskStorage {
    fn apply(&self, batch: Batch) -> Applied {
        self.apply_batch(&batch).unwrap_or_else(|error| batch.failed(&error))
    }

    fn stats(&self) -> Result<StorageStats, StorageError> {
        let evidence = self.read(|file| file.open_table(EVIDENCE).map_err(fault)?.len().map_err(fault))?;
        Ok(StorageStats {
            evidence: usize::try_from(evidence).unwrap_or(usize::MAX),
            ..self.state()?.stats()
        })
    }

    fn commitment_limit(&self) -> Option<usize> {
        Some(self.config.limits.commitments)
    }
}
