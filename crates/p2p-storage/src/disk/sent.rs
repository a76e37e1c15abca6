//! What of our own the network has taken, of a store on disk: one record with a checksum.

use p2p_types::B256;
use redb::{ReadTransaction, ReadableTable};

use super::{
    fault::fault,
    rows::{checked, seal},
    tables::META,
    writer::Writer,
};
use crate::{StorageError, sent::remember};

const KEY: &str = "sent";

fn decode(bytes: &[u8]) -> Option<Vec<B256>> {
    let (hashes, []) = checked(0, bytes)?.as_chunks::<32>() else { return None };
    Some(hashes.iter().map(B256::from).collect())
}

fn load(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<B256>, StorageError> {
    match meta.get(KEY).map_err(fault)? {
        None => Ok(Vec::new()),
        Some(bytes) => decode(bytes.value()).ok_or(StorageError::Corrupt { what: "what was sent" }),
    }
}

/// The hashes in a file, oldest first.
pub(super) fn sent(file: &ReadTransaction) -> Result<Vec<B256>, StorageError> {
    load(&file.open_table(META).map_err(fault)?)
}

impl Writer<'_> {
    /// As [`CommitmentStore::note_sent`](crate::CommitmentStore::note_sent).
    pub(super) fn note_sent(&mut self, hashes: &[B256]) -> Result<(), StorageError> {
        let mut meta = self.transaction.open_table(META).map_err(fault)?;
        let mut sent = load(&meta)?;
        if remember(&mut sent, hashes) {
            self.changed = true;
            meta.insert(KEY, &*seal(0, sent.concat())).map_err(fault)?;
        }
        Ok(())
    }
}
