//! Why a store could not do what was asked.

use p2p_types::B256;

use crate::SystemError;

/// A store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Everything in the store is above the settled base, so nothing may be evicted. Raise the limit, or
    /// declare a newer base.
    #[error("{what} are full: {used} used, at most {limit}, and nothing below the base is left to evict")]
    Full {
        /// What is full.
        what: &'static str,
        /// What an insert would bring it to.
        used: usize,
        /// The limit.
        limit: usize,
    },
    /// No base has been declared, so nothing can be linked to it. Call [`CommitmentStore::set_base`] first.
    #[error("no base has been declared")]
    NoBase,
    /// The parent of a linked commitment is not in the store: it was judged against another store, or the
    /// base has moved since.
    #[error("the parent {0} is not in the store")]
    UnknownParent(B256),
    /// The disk has no room for this. Nothing was changed; reading goes on.
    #[error("there is no space left on the disk")]
    NoSpace,
    /// The operating system failed. What was asked for may or may not have been done; asked for again, a store says
    /// that it is there already where it has been done.
    #[error("cannot read or write the store: {0}")]
    Io(SystemError),
    /// What the store kept is not what it was given. It is not served.
    #[error("the store is corrupt: {what}")]
    Corrupt {
        /// What is not as it was written.
        what: &'static str,
    },
    /// Another process, or another part of this one, has the store open.
    #[error("the store is in use{}", .owner.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The process, where it says so.
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
        /// Whose data it holds.
        found: B256,
    },
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// A thread panicked while it held the store.
    #[error("the store was left behind by a panicking thread")]
    Poisoned,
}

impl StorageError {
    /// Whether the same call can succeed later without anybody changing the configuration.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace => true,
            Self::Io(error) => error.is_transient(),
            _ => false,
        }
    }
}
