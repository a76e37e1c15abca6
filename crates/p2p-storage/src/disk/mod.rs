//! A store on disk: a database of `redb` and files for large lists, the same semantics as the one in memory.

mod backend;
mod branches;
mod evidence;
mod fault;
mod files;
mod group;
mod lists;
mod open;
mod owner;
mod promises;
mod published;
mod rows;
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

use crate::{StorageError, StorageLimits, TxListStore, fork::ForkChoice};
use fault::{TRIES, breaks, fault, is_echo};
use files::{Files, Folder};
use group::{Group, Ticket, Transactions, Turn, lock};
use open::{Source, is_prepared, prepare};
use snapshot::ReadOnlyFolder;
use state::State;
use writer::Writer;

pub use verify::{Problem, VerifyReport};

/// How much one step of pruning or evicting removes, where there is as much: a millisecond or so in a large store, after
/// which other writers have their turn.
const STEP: usize = 32;

/// Files of a relaxed store that wait for the next sync to be removed, before it syncs by itself.
const MAX_UNSYNCED_FILES: usize = 256;

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
    opened: RwLock<Option<Opened>>,
    group: Group,
    files: Files,
    source: Box<dyn Source>,
    config: DiskConfig,
}

/// A database, and what is known of it.
struct Opened {
    database: Database,
    /// As of the last transaction; none until somebody asks.
    state: Mutex<Option<State>>,
    /// As of the last transaction; none until the chain has a branch beside it.
    fork: Mutex<Option<ForkChoice>>,
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
    /// Opens the store in a folder, which is created where it is missing. Reads the whole database and compares every
    /// page with its checksum, so that a file that was damaged is refused here and not trusted: some 0.7 s a GiB from
    /// the system's cache, else as fast as the disk reads. What a crash has left half done is put in order.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if somebody has it open, [`StorageError::UnknownSchema`],
    /// [`StorageError::OtherDomain`], [`StorageError::Corrupt`], or the file system's failure.
    pub fn open(folder: impl AsRef<Path>, config: DiskConfig) -> Result<Self, StorageError> {
        Self::open_source(Box::new(Folder::new(folder.as_ref())), config)
    }

    /// Opens a store to look at it: nothing in its folder is changed, which may be read-only. What [`open`](Self::open)
    /// would put in order is put in order in memory. Others may look at the same time, but
    /// nobody may have it open to write. Whatever changes something is answered with [`StorageError::ReadOnly`].
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
            group: Group::default(),
            files: Files::default(),
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
            Err(error) if breaks(error) => self.close(),
            Err(_) => {}
        }
        synced
    }

    /// Files of evicted transaction lists that could not be removed yet. It is tried again with whatever is written.
    #[must_use]
    pub fn unremoved_files(&self) -> usize {
        self.files.doomed()
    }

    /// Moves what is in the database together, so that its file becomes smaller, and removes files that nobody
    /// names. Nobody else reads or writes meanwhile.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be written.
    pub fn compact(&self) -> Result<(), StorageError> {
        self.changeable()?;
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
        *opened = Some(Opened { database, state: Mutex::default(), fork: Mutex::default() });
        Ok(())
    }

    fn close(&self) {
        let gone = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        // What cannot be closed in order is closed all the same.
        drop(catch_unwind(AssertUnwindSafe(|| drop(gone))));
    }

    /// Works on the database, opened anew where that is necessary.
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

    /// Looks. What fails because of an earlier failure of the file system is tried once more.
    fn look<T>(&self, work: impl Fn(&Opened) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match self.with(&work) {
            Err(error) if breaks(&error) => {
                self.close();
                self.with(&work)
            }
            answered => answered,
        }
    }

    fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.look(|opened| work(&opened.database.begin_read().map_err(fault)?))
    }

    fn state(&self) -> Result<State, StorageError> {
        self.look(|opened| opened.state(&self.config.domain))
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        self.write_in(Turn::Next, work)
    }

    fn write_in<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl Fn(&mut Writer<'_>) -> Result<T, StorageError> + Send + Sync + 'static,
    ) -> Result<T, StorageError> {
        self.changeable()?;
        let answer = self.group.write(self, turn, work);
        // What has been written stays written, whatever becomes of files that nobody names any more.
        match self.config.durability {
            Durability::Immediate => self.remove_files(),
            // Until the next sync the database may remember them again. One that fails is the next caller's.
            Durability::Relaxed if self.files.doomed() > MAX_UNSYNCED_FILES => drop(self.sync()),
            Durability::Relaxed => {}
        }
        answer
    }

    /// Whether this was opened to be written.
    fn changeable(&self) -> Result<(), StorageError> {
        if self.source.is_read_only() { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    /// One try of [`Transactions::transact`].
    fn try_transact(&self, steps: &[Arc<Ticket>]) -> Result<(), (Option<usize>, StorageError)> {
        let mut spoiler = None;
        let (limits, domain) = (self.config.limits, self.config.domain);
        let done = self.with(|opened| {
            let mut transaction = opened.database.begin_write().map_err(fault)?;
            transaction
                .set_durability(match self.config.durability {
                    Durability::Immediate => redb::Durability::Immediate,
                    Durability::Relaxed => redb::Durability::None,
                })
                .map_err(fault)?;
            // What fails leaves none: it is built anew from the database.
            let mut fork = lock(&opened.fork).take();
            let mut writer = Writer::new(&transaction, opened.state(&domain)?, &mut fork, limits, domain)?;
            for (index, step) in steps.iter().enumerate() {
                step.run(&mut writer).inspect_err(|_| spoiler = Some(index))?;
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
            *lock(&opened.fork) = fork;
            Ok(files)
        });
        done.map(|gone| self.files.doom(gone)).map_err(|error| (spoiler, error))
    }
}

/// The database panics on some pages that are not as it wrote them; here that is an error like the others.
fn guarded<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StorageError::Corrupt { what: "the database" }))
}

impl Transactions for DiskStorage {
    fn transact(&self, steps: &[Arc<Ticket>]) -> Result<(), (Option<usize>, StorageError)> {
        for _ in 1..TRIES {
            match self.try_transact(steps) {
                // Somebody who read has met a failure; the steps have not.
                Err((_, error)) if is_echo(&error) => self.close(),
                done => return done,
            }
        }
        self.try_transact(steps)
    }

    fn discard(&self) {
        self.close();
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        // An orderly end; who must know asks `sync` before.
        drop(self.sync());
        self.close();
    }
}

impl fmt::Debug for DiskStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStorage").field("config", &self.config).finish_non_exhaustive()
    }
}
