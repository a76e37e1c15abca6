//! What the database says, in the store's words.

use std::io;

use crate::StorageError;

/// An error of the database.
pub(super) fn fault(error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        redb::Error::Io(error) => io_fault(&error),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => StorageError::Io(io::ErrorKind::BrokenPipe),
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
        kind => StorageError::Io(kind),
    }
}

/// Whether the database must be opened anew after this.
pub(super) const fn breaks(error: &StorageError) -> bool {
    matches!(error, StorageError::Io(_) | StorageError::NoSpace | StorageError::Poisoned)
}

/// Whether a step that failed with this may have changed something, so that its transaction must not be
/// committed.
pub(super) const fn spoils(error: &StorageError) -> bool {
    breaks(error) || matches!(error, StorageError::Corrupt { .. })
}
