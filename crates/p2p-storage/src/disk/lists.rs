//! Transaction lists of a store on disk: small ones in the database, large ones in files.

use p2p_types::{B256, BlockNumber, TxList};
use redb::ReadableTable;

use super::{
    DiskStorage, Durability,
    fault::fault,
    files::Files,
    tables::{META, State, TXLIST_BLOCKS, TXLIST_ORDER, TXLISTS},
    writer::Progress,
};
use crate::{StorageError, TxListStore};

impl DiskStorage {
    /// Removes files that the database does not name any more.
    pub(super) fn remove_files(&self, hashes: Vec<B256>) -> Result<(), StorageError> {
        hashes.iter().try_for_each(|hash| self.files.remove(&*self.source, hash, || self.contains(hash)))
    }

    /// Puts a list into a file of its own.
    fn put_file(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        let (hash, len) = (txlist.hash(), txlist.bytes().len());
        let claim = self.files.claim(hash);
        if self.contains(&hash)? && self.write(move |writer| writer.renew_txlist(block, &hash))? {
            return Ok(false);
        }
        self.room_for(len)?;
        Files::write(&*self.source, &claim, txlist.bytes())?;
        let put = self.put_step(block, &txlist, true);
        drop(claim);
        if put.is_err() {
            // The error that matters is the first.
            drop(self.files.remove(&*self.source, &hash, || self.contains(&hash)));
        } else if self.config.durability == Durability::Immediate {
            self.files.sweep(&*self.source, |hash| self.contains(hash))?;
        }
        put
    }

    /// Whether a list of so many bytes has room, or would have if settled ones went; asked before it is written.
    fn room_for(&self, len: usize) -> Result<(), StorageError> {
        self.read(|file| {
            let state = State::load(&file.open_table(META).map_err(fault)?)?;
            let Some(full) = self.config.limits.txlists_full(state.txlists, state.txlist_bytes, len) else {
                return Ok(());
            };
            let order = file.open_table(TXLIST_ORDER).map_err(fault)?;
            let lowest = order.first().map_err(fault)?.map(|(key, _)| key.value().0);
            let settled = state.base.zip(lowest).is_some_and(|(base, lowest)| lowest <= base.number);
            if settled { Ok(()) } else { Err(full) }
        })
    }

    /// Names a list in the database, its bytes with it unless they are in a file, and evicts step by step what must
    /// go for it.
    fn put_step(&self, block: BlockNumber, txlist: &TxList, in_file: bool) -> Result<bool, StorageError> {
        loop {
            let list = txlist.clone();
            match self.write(move |writer| writer.put(block, &list, in_file))? {
                Progress::Done(is_new) => return Ok(is_new),
                Progress::More => {}
            }
        }
    }

    /// The bytes of a list that is in a file. None if it was evicted a moment ago.
    pub(super) fn read_file(&self, hash: &B256, len: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match Files::read(&*self.source, hash, len)? {
            None if self.contains(hash)? => Err(StorageError::Corrupt { what: "a transaction list" }),
            bytes => Ok(bytes),
        }
    }

    /// Hashes of the lists after a place, by the newest block that names them, at most `limit`.
    ///
    /// # Errors
    /// [`StorageError`] if the store cannot be read.
    pub fn txlists_after(
        &self,
        after: Option<(BlockNumber, B256)>,
        limit: usize,
    ) -> Result<Vec<(BlockNumber, B256)>, StorageError> {
        let (block, hash) = after.unwrap_or_default();
        self.read(|file| {
            let mut found = Vec::new();
            let order = file.open_table(TXLIST_ORDER).map_err(fault)?;
            for entry in order.range((block, &hash.0)..).map_err(fault)? {
                let (key, ()) = entry.map(|(key, _)| (key, ())).map_err(fault)?;
                let (block, hash) = key.value();
                let place = (block, B256::from(*hash));
                if found.len() >= limit {
                    break;
                }
                if Some(place) != after {
                    found.push(place);
                }
            }
            Ok(found)
        })
    }
}

impl TxListStore for DiskStorage {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        if txlist.bytes().len() < self.config.file_bytes {
            self.put_step(block, &txlist, false)
        } else {
            self.put_file(block, txlist)
        }
    }

    fn get(&self, hash: &B256) -> Result<Option<TxList>, StorageError> {
        let found = self.read(|file| {
            let blocks = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
            let Some((_, len)) = blocks.get(&hash.0).map_err(fault)?.map(|info| info.value()) else {
                return Ok(None);
            };
            let bytes = file.open_table(TXLISTS).map_err(fault)?.get(&hash.0).map_err(fault)?;
            Ok(Some((len, bytes.map(|bytes| bytes.value().to_vec()))))
        })?;
        const WHAT: StorageError = StorageError::Corrupt { what: "a transaction list" };
        let Some((len, bytes)) = found else { return Ok(None) };
        let len = usize::try_from(len).map_err(|_| WHAT)?;
        let bytes = match bytes {
            None => self.read_file(hash, len)?,
            bytes => bytes,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        TxList::verify(*hash, bytes.into(), len).map(Some).map_err(|_| WHAT)
    }

    fn contains(&self, hash: &B256) -> Result<bool, StorageError> {
        self.read(|file| {
            let blocks = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
            Ok(blocks.get(&hash.0).map_err(fault)?.is_some())
        })
    }

    fn txlist_usage(&self) -> Result<(usize, usize), StorageError> {
        let state = self.state()?;
        Ok((state.txlists, state.txlist_bytes))
    }
}
