//! Why a store could not do what was asked.

use p2p_types::B256;

use crate::SystemError;

/// A store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The limit is reached and nothing at or below the base is left to evict. Raise the limit or declare a newer base.
    #[error("{what} are full: {used} used, at most {limit}, and nothing below the base is left to evict")]
    Full {
        /// Which limit is reached.
        what: &'static str,
        /// Usage with the new entry.
        used: usize,
        /// The limit.
        limit: usize,
    },
    /// No base has been declared. Call [`CommitmentStore::set_base`](crate::CommitmentStore::set_base) first.
    #[error("no base has been declared")]
    NoBase,
    /// The parent of a linked commitment is not stored: it was validated against another store, or the base has moved since.
    #[error("the parent {0} is not in the store")]
    UnknownParent(B256),
    /// The disk is full. Nothing was changed; reading goes on.
    #[error("there is no space left on the disk")]
    NoSpace,
    /// A call of the operating system failed. The change may or may not be stored; a retry reports what is already there.
    #[error("cannot read or write the store: {0}")]
    Io(SystemError),
    /// Stored data is damaged. It is not served.
    #[error("the store is corrupt: {what}")]
    Corrupt {
        /// What is damaged.
        what: &'static str,
    },
    /// The store is open in another process, or elsewhere in this one.
    #[error("the store is in use{}", .owner.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The process, if known.
        owner: Option<u32>,
    },
    /// Another version of this software has written the store.
    #[error("the store has schema {found}, this software reads schema {known} only")]
    UnknownSchema {
        /// The store's.
        found: u32,
        /// The one that is known here.
        known: u32,
    },
    /// The store holds the data of another chain.
    #[error("the store belongs to the signing domain {found}")]
    OtherDomain {
        /// The signing domain of the store.
        found: B256,
    },
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// A thread panicked while it had the store locked.
    #[error("a thread panicked while it had the store locked")]
    Poisoned,
}

impl StorageError {
    /// Whether the same call can succeed later with the same configuration.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace => true,
            Self::Io(error) => error.is_transient(),
            _ => false,
        }
    }
}
