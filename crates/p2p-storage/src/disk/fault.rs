//! What the database and the operating system say, in the store's words.

use std::io;

use crate::{StorageError, SystemError};

/// How often a call is made in all that fails with what passes by itself.
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
        // The database reads within its file only: what ends too early has been cut.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            StorageError::Corrupt { what: "the database" }
        }
        _ => StorageError::Io(error.into()),
    }
}

/// Makes a call, and again at once if it fails with what passes by itself. What takes longer to pass, such as too many
/// open files, is the caller's to try again.
pub(super) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match call() {
            Err(error) if tries < TRIES && SystemError::from(&error).is_transient() => tries += 1,
            done => return done,
        }
    }
}

/// Whether the database must be opened anew after this.
pub(super) const fn breaks(error: &StorageError) -> bool {
    matches!(error, StorageError::Io(_) | StorageError::NoSpace | StorageError::Poisoned)
}

/// Whether this is the echo of an earlier failure, somebody else's perhaps: the database does nothing more until it is
/// opened anew.
pub(super) fn is_echo(error: &StorageError) -> bool {
    matches!(error, StorageError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether a step that failed with this may have changed something, so that its transaction must not be
/// committed.
pub(super) const fn spoils(error: &StorageError) -> bool {
    breaks(error) || matches!(error, StorageError::Corrupt { .. })
}
