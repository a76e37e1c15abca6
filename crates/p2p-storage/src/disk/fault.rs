//! Errors of the database and of the operating system as [`StorageError`]s, and what they mean for a transaction.

use std::io;

use crate::{StorageError, SystemError};

/// Tries of a call that fails with a transient error, the first included.
pub(super) const TRIES: usize = 3;

/// An error of the database.
pub(super) fn fault(error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        redb::Error::Io(error) => io_fault(&error),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StorageError::Io(io::ErrorKind::BrokenPipe.into())
        }
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            StorageError::Locked { owner: None }
        }
        redb::Error::TransactionPoisoned | redb::Error::LockPoisoned(_) => StorageError::Poisoned,
        _ => StorageError::Corrupt { what: "the database" },
    }
}

/// An error of the file system.
pub(super) fn io_fault(error: &io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::NoSpace,
        // The database reads within its file only, so an early end means a truncated file.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            StorageError::Corrupt { what: "the database" }
        }
        _ => StorageError::Io(error.into()),
    }
}

/// Retries a call at once while its error is transient. A condition that lasts longer, such as too many open files, is the
/// caller's to retry.
pub(super) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match call() {
            Err(error) if tries < TRIES && SystemError::from(&error).is_transient() => tries += 1,
            done => return done,
        }
    }
}

/// Whether the database must be reopened after this error.
pub(super) const fn is_fatal(error: &StorageError) -> bool {
    matches!(error, StorageError::Io(_) | StorageError::NoSpace | StorageError::Poisoned)
}

/// Whether this reports an earlier failure, perhaps of another thread: the database refuses everything until it is
/// reopened.
pub(super) fn is_previous_failure(error: &StorageError) -> bool {
    matches!(error, StorageError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether a request that failed with this may have left partial changes, so that its transaction must not be committed.
pub(super) const fn poisons(error: &StorageError) -> bool {
    is_fatal(error) || matches!(error, StorageError::Corrupt { .. })
}
