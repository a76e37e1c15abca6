//! A store on disk: one file of `redb`, the same semantics as the one in memory.

mod fault;
mod group;
mod open;
mod tables;
#[cfg(all(test, feature = "test-utils"))]
mod tests;
mod verify;
mod writer;

use std::{
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use p2p_types::{B256, Base, BlockNumber, Head, SigningDomain, TxList};
use p2p_validation::{Evidence, Linked};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::{
    CommitmentStore, EvidenceStore, Inserted, StorageError, StorageLimits, StoredCommitment, StoredEvidence,
    TxListStore, evidence::evidence_key,
};
use fault::{breaks, fault};
use group::{Group, Ticket, Transactions};
use open::{Folder, Source, prepare};
use tables::{
    CHAIN, COMMITMENTS, EVIDENCE, META, PLACES, ROOTS, Row, State, TXLIST_BLOCKS, TXLISTS, decode_evidence,
    find, row, rows_at,
};
use writer::Writer;

pub use verify::{Problem, VerifyReport};

/// Commitments that one step of pruning removes at least, where there are as many: some hundred microseconds,
/// after which other writers have their turn.
const PRUNE_STEP: usize = 64;

/// When a change is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// A call that returned is on disk.
    #[default]
    Immediate,
    /// A call that returned is visible, and on disk after the next [`DiskStorage::sync`] or orderly end. A
    /// crash loses what came since, from the end backwards; what is left is whole.
    Relaxed,
}

/// How a [`DiskStorage`] is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskConfig {
    /// What the commitments are signed under. A file belongs to one domain.
    pub domain: SigningDomain,
    /// How much it may hold.
    pub limits: StorageLimits,
    /// When a change is on disk.
    pub durability: Durability,
    /// Memory for pages of the file.
    pub cache_bytes: usize,
}

impl DiskConfig {
    /// The limits of [`StorageLimits::default`], everything on disk at once, 32 MiB of cache.
    #[must_use]
    pub fn recommended(domain: SigningDomain) -> Self {
        Self {
            domain,
            limits: StorageLimits::default(),
            durability: Durability::default(),
            cache_bytes: 32 * 1024 * 1024,
        }
    }
}

/// A bounded store in one file.
///
/// Writers on many threads share their syncs: while one transaction is being written, whoever comes waits
/// and rides the next one together. Every commitment is read with its checksum and its hashes computed anew,
/// every transaction list with its hash: what is not as it was written is an error
/// ([`StorageError::Corrupt`]), never an answer. When the disk is full, writing fails with
/// [`StorageError::NoSpace`], reading goes on, and so does writing when there is space again.
///
/// ```no_run
/// use p2p_storage::{DiskConfig, DiskStorage};
/// use p2p_types::SigningDomain;
///
/// let store = DiskStorage::open("data/chain", DiskConfig::recommended(SigningDomain::PLACEHOLDER))?;
/// assert!(store.verify()?.is_sound());
/// # Ok::<(), p2p_storage::StorageError>(())
/// ```
pub struct DiskStorage {
    /// None after a failure of the file system, until the next call opens it anew.
    database: RwLock<Option<Database>>,
    group: Group,
    source: Box<dyn Source>,
    config: DiskConfig,
}

impl DiskStorage {
    /// Opens the store in a folder, which is created where it is missing. After a crash the file is repaired
    /// first, which reads all of it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if somebody has it open, [`StorageError::NewerSchema`],
    /// [`StorageError::OtherDomain`], [`StorageError::Corrupt`], or the file system's failure.
    pub fn open(folder: impl AsRef<Path>, config: DiskConfig) -> Result<Self, StorageError> {
        Self::open_source(Box::new(Folder(folder.as_ref().to_owned())), config)
    }

    fn open_source(source: Box<dyn Source>, config: DiskConfig) -> Result<Self, StorageError> {
        let store = Self { database: RwLock::new(None), group: Group::default(), source, config };
        store.reopen()?;
        Ok(store)
    }

    /// Makes everything that has returned durable; nothing to do unless [`Durability::Relaxed`].
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    pub fn sync(&self) -> Result<(), StorageError> {
        if self.config.durability == Durability::Immediate {
            return Ok(());
        }
        self.with(|database| database.begin_write().map_err(fault)?.commit().map_err(fault))
    }

    fn reopen(&self) -> Result<(), StorageError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(());
        }
        let opened = guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(self.config.cache_bytes);
            let opened = self.source.open(&builder)?;
            prepare(&opened, &self.config.domain)?;
            Ok(opened)
        })?;
        *database = Some(opened);
        Ok(())
    }

    fn close(&self) {
        let gone = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        // What cannot be closed in order is closed all the same.
        drop(catch_unwind(AssertUnwindSafe(|| drop(gone))));
    }

    /// Works on the database, opened anew where that is necessary.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StorageError>) -> Result<T, StorageError> {
        loop {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*database {
                return guarded(|| work(database));
            }
            drop(database);
            self.reopen()?;
        }
    }

    /// Reads. What fails because of an earlier failure of the file system is tried once more.
    fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let read = || self.with(|database| work(&database.begin_read().map_err(fault)?));
        match read() {
            Err(error) if breaks(&error) => {
                self.close();
                read()
            }
            answered => answered,
        }
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        self.group.write(self, work)
    }

    fn state(&self) -> Result<State, StorageError> {
        self.read(|file| State::load(&file.open_table(META).map_err(fault)?))
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

/// The database panics on some pages that are not as it wrote them; here that is an error like the others.
fn guarded<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StorageError::Corrupt { what: "the database" }))
}

impl Transactions for DiskStorage {
    fn transact(&self, steps: &[Arc<Ticket>]) -> Result<(), (Option<usize>, StorageError)> {
        let mut spoiler = None;
        let done = self.with(|database| {
            let mut transaction = database.begin_write().map_err(fault)?;
            transaction
                .set_durability(match self.config.durability {
                    Durability::Immediate => redb::Durability::Immediate,
                    Durability::Relaxed => redb::Durability::None,
                })
                .map_err(fault)?;
            let mut writer = Writer::new(&transaction, self.config.limits, self.config.domain)?;
            for (index, step) in steps.iter().enumerate() {
                step.run(&mut writer).inspect_err(|_| spoiler = Some(index))?;
            }
            let changed = writer.finish()?;
            if changed { transaction.commit().map_err(fault) } else { Ok(()) }
        });
        done.map_err(|error| (spoiler, error))
    }

    fn discard(&self) {
        self.close();
    }
}

impl CommitmentStore for DiskStorage {
    fn insert(&self, commitment: Linked) -> Result<Inserted, StorageError> {
        let new = StoredCommitment::from(commitment);
        self.write(move |writer| writer.insert(new.clone()))
    }

    fn insert_all(&self, commitments: Vec<Linked>) -> Vec<Result<Inserted, StorageError>> {
        let many = commitments.len();
        let new: Vec<_> = commitments.into_iter().map(StoredCommitment::from).collect();
        let inserted = self.write(move |writer| {
            let mut answers = Vec::with_capacity(new.len());
            for new in &new {
                let answer = writer.insert(new.clone());
                match answer {
                    Err(error) if fault::spoils(&error) => return Err(error),
                    answer => answers.push(answer),
                }
            }
            Ok(answers)
        });
        inserted.unwrap_or_else(|error| vec![Err(error); many])
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
            let places = file.open_table(PLACES).map_err(fault)?;
            Ok(find(&commitments, &places, hash, &self.config.domain)?.map(|(_, row)| row.stored))
        })
    }

    fn children(&self, parent: &B256) -> Result<Vec<B256>, StorageError> {
        let mut children = match self.by_hash(parent)? {
            Some(parent) => self.at(parent.block.saturating_add(1))?,
            None => self.orphans()?,
        };
        children.retain(|child| child.parent == *parent && !child.recovered.signed().preconf().is_eop_only());
        Ok(children.iter().map(StoredCommitment::hash).collect())
    }

    fn range(&self, from: BlockNumber, limit: usize) -> Result<Vec<StoredCommitment>, StorageError> {
        self.read(|file| {
            let commitments = file.open_table(COMMITMENTS).map_err(fault)?;
            let mut run = Vec::with_capacity(limit.min(256));
            for entry in commitments.range((from, CHAIN)..).map_err(fault)? {
                let (place, bytes) = entry.map_err(fault)?;
                let (block, slot) = place.value();
                // One height may have others beside the chain; a height without the chain ends the run.
                let next = from.saturating_add(run.len() as u64);
                if run.len() >= limit || block > next {
                    break;
                }
                if slot == CHAIN && block == next {
                    run.push(Row::decode(block, bytes.value(), &self.config.domain)?.stored);
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

    fn set_base(&self, base: Base) -> Result<Vec<StoredCommitment>, StorageError> {
        self.write(move |writer| writer.set_base(base))
    }

    fn prune_below(&self, block: BlockNumber) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            let gone = self.write(move |writer| {
                let mut gone = 0;
                while gone < PRUNE_STEP {
                    match writer.prune_lowest(block)? {
                        0 => break,
                        more => gone += more,
                    }
                }
                Ok(gone)
            })?;
            pruned += gone;
            if gone == 0 {
                return Ok(pruned);
            }
        }
    }

    fn commitment_count(&self) -> Result<usize, StorageError> {
        Ok(self.state()?.commitments)
    }
}

impl TxListStore for DiskStorage {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        self.write(move |writer| writer.put(block, &txlist))
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        let bytes = self.read(|file| {
            let lists = file.open_table(TXLISTS).map_err(fault)?;
            Ok(lists.get(&hash.0).map_err(fault)?.map(|bytes| bytes.value().to_vec()))
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let limit = bytes.len();
        match TxList::verify(*hash, bytes.into(), limit) {
            Ok(txlist) => Ok(Some(txlist)),
            Err(_) => Err(StorageError::Corrupt { what: "a transaction list" }),
        }
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        self.read(|file| {
            let blocks = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
            Ok(blocks.get(&hash.0).map_err(fault)?.is_some())
        })
    }

    fn txlist_usage(&self) -> Result<(usize, usize), StorageError> {
        let state = self.state()?;
        Ok((state.txlists, state.txlist_bytes))
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

    fn evidence_count(&self) -> Result<usize, StorageError> {
        self.read(|file| {
            let len = file.open_table(EVIDENCE).map_err(fault)?.len().map_err(fault)?;
            Ok(usize::try_from(len).unwrap_or(usize::MAX))
        })
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        // An orderly end; who must know asks `sync` before.
        drop(self.sync());
    }
}

impl fmt::Debug for DiskStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStorage").field("config", &self.config).finish_non_exhaustive()
    }
}
