//! The store on disk: a `redb` database, and blob files for large transaction lists.
//!
//! Writes go through group commit (`group_commit`, `writer`, `batch`), reads through snapshots of the database. After a
//! failure of the file system the database is closed and reopened by the next call.

mod backend;
mod batch;
mod branches;
mod evidence;
mod fault;
mod files;
#[cfg(feature = "test-utils")]
pub(crate) mod fuzz;
mod group_commit;
mod index;
mod lists;
mod open;
mod owner;
mod promises;
mod published;
mod rows;
#[cfg(feature = "test-utils")]
pub(crate) mod sim_disk;
mod snapshot;
mod state;
mod stores;
mod tables;
#[cfg(all(test, feature = "test-utils"))]
mod tests;
mod verify;
mod writer;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use p2p_types::SigningDomain;
use redb::{Database, ReadTransaction, ReadableDatabase};

use crate::{StorageError, StorageLimits, TxListStore};
use fault::{TRIES, fault, is_fatal, is_previous_failure};
use files::{Files, Folder};
use group_commit::{GroupCommit, Priority, Transactions, WriteRequest, lock};
use index::Arrivals;
use open::{Source, is_prepared, prepare};
use snapshot::ReadOnlyFolder;
use state::State;
use writer::{Derived, Writer};

pub use verify::{Problem, VerifyReport};

/// Rows that one transaction of pruning removes: about a millisecond in a large store, after which other writers run.
const STEP: usize = 32;

/// Unreferenced files of a relaxed store before it syncs by itself to remove them.
const MAX_UNSYNCED_FILES: usize = 256;

/// When a change is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// A call that returned is on disk.
    #[default]
    Immediate,
    /// A call that returned is visible, and on disk after the next [`DiskStorage::sync`] or orderly shutdown. A crash loses
    /// the last calls and leaves the store consistent.
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
    /// Memory for pages of the database.
    pub cache_bytes: usize,
    /// Transaction lists from this size on have a file each; smaller ones are in the database. May differ from
    /// one opening to the next.
    pub file_bytes: usize,
}

impl DiskConfig {
    /// The limits of [`StorageLimits::default`], everything on disk at once, 32 MiB of cache, files for lists
    /// from 256 KiB on.
    #[must_use]
    pub fn recommended(domain: SigningDomain) -> Self {
        Self {
            domain,
            limits: StorageLimits::default(),
            durability: Durability::default(),
            cache_bytes: 32 * 1024 * 1024,
            file_bytes: 256 * 1024,
        }
    }
}

/// A bounded store in one folder.
///
/// Writers on many threads share their syncs: requests that come while a transaction is being written are committed
/// together in the next one. Every commitment is read with its checksum and its hashes computed anew,
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
    /// None after a failure of the file system, until the next call reopens it.
    opened: RwLock<Option<Opened>>,
    commits: GroupCommit,
    files: Files,
    arrivals: Arrivals,
    source: Box<dyn Source>,
    config: DiskConfig,
}

/// An open database, and its state in memory.
struct Opened {
    database: Database,
    /// As of the last transaction; loaded on demand.
    state: Mutex<Option<State>>,
    /// As of the last transaction.
    derived: Mutex<Derived>,
}

impl Opened {
    fn state(&self, domain: &SigningDomain) -> Result<State, StorageError> {
        let mut known = lock(&self.state);
        match *known {
            Some(state) => Ok(state),
            None => Ok(*known.insert(State::load(&self.database.begin_read().map_err(fault)?, domain)?)),
        }
    }
}

impl DiskStorage {
    /// Opens the store in a folder, which is created if it is missing. Reads the whole database and checks every page against
    /// its checksum, so that a damaged file is refused: some 0.7 s a GiB from the page cache, else as fast as the disk
    /// reads. Recovers from a crash.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another owner has it open, [`StorageError::UnknownSchema`],
    /// [`StorageError::OtherDomain`], [`StorageError::Corrupt`], or the file system's failure.
    pub fn open(folder: impl AsRef<Path>, config: DiskConfig) -> Result<Self, StorageError> {
        Self::open_source(Box::new(Folder::new(folder.as_ref())), config)
    }

    /// Opens a store for reading only. Nothing in its folder changes, which may be read-only; recovery from a crash happens in
    /// memory. Any number of readers may have it open, and no writer. Writes fail with [`StorageError::ReadOnly`].
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`StorageError::Io`] where there is no store.
    pub fn open_read_only(folder: impl AsRef<Path>, config: DiskConfig) -> Result<Self, StorageError> {
        Self::open_source(Box::new(ReadOnlyFolder(Folder::new(folder.as_ref()))), config)
    }

    /// Whether a folder has a store.
    #[must_use]
    pub fn exists(folder: impl AsRef<Path>) -> bool {
        folder.as_ref().join(open::DATABASE).is_file()
    }

    fn open_source(source: Box<dyn Source>, config: DiskConfig) -> Result<Self, StorageError> {
        let store = Self {
            opened: RwLock::new(None),
            commits: GroupCommit::default(),
            files: Files::default(),
            arrivals: Arrivals::new(config.limits.commitments),
            source,
            config,
        };
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
        let synced =
            self.with(|opened| opened.database.begin_write().map_err(fault)?.commit().map_err(fault));
        match &synced {
            Ok(()) => self.remove_files(),
            Err(error) if is_fatal(error) => self.close(),
            Err(_) => {}
        }
        synced
    }

    /// Files of evicted transaction lists that could not be removed yet. Every write tries again.
    #[must_use]
    pub fn unremoved_files(&self) -> usize {
        self.files.unreferenced()
    }

    /// Compacts the database file and removes unreferenced files. Blocks reads and writes meanwhile.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    pub fn compact(&self) -> Result<(), StorageError> {
        self.check_writable()?;
        self.sync()?;
        self.with(|_| Ok(()))?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &mut *opened {
            guarded(|| opened.database.compact().map(drop).map_err(fault))?;
        }
        drop(opened);
        self.files.start_over();
        while self.files.sweep(&*self.source, |hash| self.contains(hash))? {}
        Ok(())
    }

    /// Bytes of the database file; large transaction lists are beside it.
    ///
    /// # Errors
    /// [`StorageError`] if the file system does not say.
    pub fn database_bytes(&self) -> Result<u64, StorageError> {
        self.source.len()
    }

    fn reopen(&self) -> Result<(), StorageError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.is_some() {
            return Ok(());
        }
        let database = guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(self.config.cache_bytes).set_check_integrity_on_open(true);
            let database = self.source.open(&builder)?;
            if !self.source.is_read_only() {
                Files::prepare(&*self.source, is_prepared(&database)?)?;
            }
            prepare(&database, &self.config.domain)?;
            Ok(database)
        })?;
        *opened = Some(Opened { database, state: Mutex::default(), derived: Mutex::default() });
        Ok(())
    }

    fn close(&self) {
        let gone = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        // A panic while closing changes nothing: it is closed.
        drop(catch_unwind(AssertUnwindSafe(|| drop(gone))));
    }

    /// Works on the database, reopened if necessary.
    fn with<T>(&self, work: impl FnOnce(&Opened) -> Result<T, StorageError>) -> Result<T, StorageError> {
        loop {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(opened) = &*opened {
                return guarded(|| work(opened));
            }
            drop(opened);
            self.reopen()?;
        }
    }

    /// Reads. Retries once after a failure that needs the database to be reopened.
    fn read_with<T>(&self, work: impl Fn(&Opened) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match self.with(&work) {
            Err(error) if is_fatal(&error) => {
                self.close();
                self.with(&work)
            }
            answered => answered,
        }
    }

    fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.read_with(|opened| work(&opened.database.begin_read().map_err(fault)?))
    }

    fn state(&self) -> Result<State, StorageError> {
        self.read_with(|opened| opened.state(&self.config.domain))
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        self.write_as(Priority::Normal, work)
    }

    fn write_as<T: Send + 'static>(
        &self,
        priority: Priority,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        self.check_writable()?;
        let answer = self.commits.write(self, priority, work);
        // The write is committed, whether unreferenced files can be removed or not.
        match self.config.durability {
            Durability::Immediate => self.remove_files(),
            // Until the next sync a crash can bring the references back. A failed sync is reported to the next caller.
            Durability::Relaxed if self.files.unreferenced() > MAX_UNSYNCED_FILES => drop(self.sync()),
            Durability::Relaxed => {}
        }
        answer
    }

    /// Fails if the store is open for reading only.
    fn check_writable(&self) -> Result<(), StorageError> {
        if self.source.is_read_only() { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    /// One try of [`Transactions::transact`].
    fn try_transact(&self, requests: &[Arc<WriteRequest>]) -> Result<(), (Option<usize>, StorageError)> {
        let mut failed = None;
        let (limits, domain) = (self.config.limits, self.config.domain);
        let done = self.with(|opened| {
            let mut transaction = opened.database.begin_write().map_err(fault)?;
            transaction
                .set_durability(match self.config.durability {
                    Durability::Immediate => redb::Durability::Immediate,
                    Durability::Relaxed => redb::Durability::None,
                })
                .map_err(fault)?;
            // A failed transaction leaves none: it is rebuilt from the database.
            let mut derived = std::mem::take(&mut *lock(&opened.derived));
            let (state, arrivals) = (opened.state(&domain)?, &self.arrivals);
            let mut writer = Writer::new(&transaction, state, arrivals, &mut derived, limits, domain)?;
            for (index, request) in requests.iter().enumerate() {
                request.run(&mut writer).inspect_err(|_| failed = Some(index))?;
            }
            let finished = writer.finish()?;
            let files = match finished {
                None => Vec::new(),
                Some((state, files)) => {
                    transaction.commit().map_err(fault)?;
                    *lock(&opened.state) = Some(state);
                    files
                }
            };
            *lock(&opened.derived) = derived;
            Ok(files)
        });
        done.map(|gone| self.files.defer_removal(gone)).map_err(|error| (failed, error))
    }
}

/// Turns a panic of the database on damaged pages into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StorageError::Corrupt { what: "the database" }))
}

impl Transactions for DiskStorage {
    fn transact(&self, requests: &[Arc<WriteRequest>]) -> Result<(), (Option<usize>, StorageError)> {
        for _ in 1..TRIES {
            match self.try_transact(requests) {
                // Another thread met the failure; these requests have not run.
                Err((_, error)) if is_previous_failure(&error) => self.close(),
                done => return done,
            }
        }
        self.try_transact(requests)
    }

    fn invalidate(&self) {
        self.close();
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        // Best effort: a caller that must know calls `sync` before.
        drop(self.sync());
        self.close();
    }
}

impl fmt::Debug for DiskStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStorage").field("config", &self.config).finish_non_exhaustive()
    }
}
