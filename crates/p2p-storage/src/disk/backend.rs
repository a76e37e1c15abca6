//! The storage backend under `redb`: retries transient errors, rewrites unsynced data after a failed sync, and falls back
//! to the `owner` file on file systems without locks.

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex},
};

use redb::{BackendError, StorageBackend};

use super::{
    fault::{TRIES, retried},
    group_commit::lock,
    owner::Owner,
};
use crate::SystemError;

/// Bytes written since the last sync that are kept for rewriting.
const MAX_UNSYNCED: usize = 64 * 1024 * 1024;

/// Writes since the last successful sync, in order. Outlives the database that made them: after a failed sync the kernel may
/// mark lost pages as clean, so a later sync proves nothing unless all of this is written again.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    writes: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    /// A sync has failed.
    failed: bool,
    /// More was written than is kept.
    overflowed: bool,
}

impl Unsynced {
    fn note(&mut self, offset: u64, data: &[u8]) {
        self.overflowed |= self.bytes.saturating_add(data.len()) > MAX_UNSYNCED;
        if self.overflowed {
            (self.writes, self.bytes) = (Vec::new(), 0);
        } else {
            self.bytes += data.len();
            self.writes.push((offset, data.to_vec()));
        }
    }

    /// Drops what a truncation cuts off, so that rewriting does not make the file longer again.
    fn cut(&mut self, len: u64) {
        self.writes.retain_mut(|(offset, data)| {
            let left = usize::try_from(len.saturating_sub(*offset)).unwrap_or(usize::MAX);
            data.truncate(left);
            !data.is_empty()
        });
    }
}

/// The file of a writable database.
#[derive(Debug)]
pub(super) struct DatabaseFile<F> {
    file: F,
    unsynced: Arc<Mutex<Unsynced>>,
    owner: Arc<Owner>,
}

impl<F: StorageBackend> DatabaseFile<F> {
    pub(super) const fn new(file: F, unsynced: Arc<Mutex<Unsynced>>, owner: Arc<Owner>) -> Self {
        Self { file, unsynced, owner }
    }

    fn rewrite(&self, unsynced: &Unsynced) -> io::Result<()> {
        unsynced.writes.iter().try_for_each(|(offset, data)| self.file.write(*offset, data))
    }
}

impl<F: StorageBackend> StorageBackend for DatabaseFile<F> {
    fn len(&self) -> io::Result<u64> {
        retried(|| self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        retried(|| self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.unsynced).cut(len);
        retried(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut unsynced = lock(&self.unsynced);
        for tries in 1.. {
            let synced = if unsynced.failed { self.rewrite(&unsynced) } else { Ok(()) };
            match synced.and_then(|()| self.file.sync_data()) {
                Ok(()) => break,
                Err(error) => {
                    unsynced.failed = true;
                    let again = !unsynced.overflowed && SystemError::from(&error).is_transient();
                    if !again || tries >= TRIES {
                        return Err(error);
                    }
                }
            }
        }
        *unsynced = Unsynced::default();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        lock(&self.unsynced).note(offset, data);
        retried(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match self.file.try_lock_range(start, end) {
            Err(error) if has_no_locks(&error) => match (start, end) {
                // The database tries this last, and goes on without a lock if it fails.
                (Bound::Unbounded, Bound::Unbounded) => Ok(self.owner.claim()?),
                _ => Err(BackendError::Unsupported),
            },
            locked => locked,
        }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// Whether an error means that the file system has no locks, not that the lock is taken.
pub(super) fn has_no_locks(error: &BackendError) -> bool {
    /// "No locks available": a network file system without its lock service. The same on Linux and Windows' Linux.
    const ENOLCK: i32 = if cfg!(target_os = "linux") { 37 } else { 77 };
    match error {
        BackendError::Unsupported => true,
        BackendError::Io(error) => {
            error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(ENOLCK)
        }
        _ => false,
    }
}
