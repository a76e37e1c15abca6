//! Storage of the client, and the bounded caches beside it.
//!
//! The traits ([`CommitmentStore`], [`TxListStore`], [`EvidenceStore`], [`PromiseStore`], [`PublishLog`], together
//! [`SdkStorage`]) are what a backend implements; [`MemoryStorage`] and, with the feature `disk`, `DiskStorage` implement
//! them. Only what validation has [`Linked`](p2p_validation::Linked) can be inserted, and a conflict between two blocks
//! of one height is a result ([`Inserted`]), never an overwrite in silence. Beside the store stand three plain structs
//! that take `now`: [`PendingPool`] (what waits), [`HeldTxLists`] (lists that no commitment names yet) and
//! [`SeenCache`] (message ids).
//!
//! This crate sits on [`p2p_validation`]; it knows no runtime and no clock. All calls are synchronous: the
//! client makes them on a thread of its own.
//!
//! ```
//! use p2p_storage::{CommitmentStore, Inserted, MemoryStorage, StorageError};
//! use p2p_types::{Base, Head};
//! use p2p_validation::Linked;
//!
//! /// What a sidecar's own store is asked to do with each valid block.
//! fn keep(store: &dyn CommitmentStore, block: Linked) -> Result<Option<Head>, StorageError> {
//!     match store.insert(block)? {
//!         Inserted::New | Inserted::Known | Inserted::NonCanonical => {}
//!         Inserted::Restored { adopted } => println!("{} blocks are back", adopted.len()),
//!         Inserted::Superseded { previous, adopted, .. } => {
//!             println!("{previous} has lost against a branch of {} blocks", adopted.len());
//!         }
//!     }
//!     store.head()
//! }
//!
//! let store = MemoryStorage::default();
//! assert!(store.set_base(Base::at(41))?.is_empty());
//! assert_eq!(store.head()?, None);
//! assert!(store.range(42, 256)?.is_empty());
//! # let _ = keep;
//! # Ok::<(), StorageError>(())
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "made-up time needs an origin"))]

#[cfg(feature = "test-utils")]
pub mod conformance;
#[cfg(feature = "disk")]
mod disk;
mod error;
mod evidence;
#[cfg(feature = "test-utils")]
pub mod fixtures;
mod fork;
#[cfg(feature = "test-utils")]
#[doc(hidden)]
pub mod fuzz;
mod held;
mod limits;
mod memory;
mod pending;
mod promises;
mod published;
mod records;
mod seen;
mod system;
mod traits;

pub use p2p_types::Promise;

#[cfg(feature = "disk")]
pub use disk::{DiskConfig, DiskStorage, Durability, Problem, VerifyReport};
pub use error::StorageError;
pub use held::{Held, HeldLimits, HeldTxLists};
pub use limits::StorageLimits;
pub use memory::MemoryStorage;
pub use pending::{Added, Pending, PendingLimits, PendingPool};
pub use records::{
    Applied, AppliedCommitment, Batch, ChainUpdate, Inserted, NewCommitment, StorageStats, StoredCommitment,
    StoredEvidence,
};
pub use seen::SeenCache;
pub use system::SystemError;
pub use traits::{
    CommitmentStore, EvidenceStore, PUBLISHED, PromiseStore, PublishLog, SdkStorage, TxListStore,
};
