//! What is no part of the API, for the fuzz targets of this workspace. Nothing here is stable.

use p2p_types::B256;

use crate::{MemoryStorage, StorageError};

#[cfg(feature = "disk")]
pub use crate::disk::fuzz::{
    commitment, evidence, is_withdrawn_on_disk, packed, promise, published, state, written_promise,
};

/// Whether L1 has replaced the anchor of a block, as far as a store was told.
///
/// # Errors
/// [`StorageError`] if the store cannot be read.
pub fn is_withdrawn(store: &MemoryStorage, hash: &B256) -> Result<bool, StorageError> {
    store.is_withdrawn(hash)
}
