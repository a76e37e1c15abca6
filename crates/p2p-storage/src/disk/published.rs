//! The publish log of a store on disk: one record with a checksum.

use p2p_types::B256;
use redb::{ReadTransaction, ReadableTable};

use super::{
    DiskStorage,
    fault::fault,
    rows::{checked, seal},
    tables::META,
    writer::Writer,
};
use crate::{PublishLog, StorageError, published::record};

const KEY: &str = "published";

pub(super) fn decode(bytes: &[u8]) -> Option<Vec<B256>> {
    let (hashes, []) = checked(0, bytes)?.as_chunks::<32>() else { return None };
    Some(hashes.iter().map(B256::from).collect())
}

fn load(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<B256>, StorageError> {
    match meta.get(KEY).map_err(fault)? {
        None => Ok(Vec::new()),
        Some(bytes) => decode(bytes.value()).ok_or(StorageError::Corrupt { what: "the publish log" }),
    }
}

/// The hashes in a file, oldest first.
pub(super) fn published(file: &ReadTransaction) -> Result<Vec<B256>, StorageError> {
    load(&file.open_table(META).map_err(fault)?)
}

impl Writer<'_> {
    fn record_published(&mut self, hashes: &[B256]) -> Result<(), StorageError> {
        let mut meta = self.transaction.open_table(META).map_err(fault)?;
        let mut published = load(&meta)?;
        if record(&mut published, hashes) {
            self.changed = true;
            meta.insert(KEY, &*seal(0, published.concat())).map_err(fault)?;
        }
        Ok(())
    }
}

impl PublishLog for DiskStorage {
    fn record_published(&self, hashes: &[B256]) -> Result<(), StorageError> {
        let hashes = hashes.to_vec();
        self.write(move |writer| writer.record_published(&hashes))
    }

    fn is_published(&self, hash: &B256) -> Result<bool, StorageError> {
        self.read(|file| Ok(published(file)?.contains(hash)))
    }
}
