//! Transaction lists of a store on disk: small ones in the database, large ones in files.

use hashbrown::HashMap;
use p2p_types::{B256, BlockNumber, TxList};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    DiskStorage,
    fault::fault,
    files::Files,
    state::State,
    tables::{TXLIST_BLOCKS, TXLIST_ORDER, TXLISTS},
    writer::Writer,
};
use crate::{StorageError, TxListStore};

impl DiskStorage {
    /// Removes the files of lists that the database no longer references, now or later.
    pub(super) fn remove_files(&self) {
        self.files.remove_unreferenced(&*self.source, |hash| self.contains(hash));
    }

    /// Removes what is stored under the hash of a list if its bytes are no longer that list.
    pub(super) fn discard_corrupt(&self, txlist: &TxList) -> Result<(), StorageError> {
        match self.get(&txlist.hash()) {
            Err(StorageError::Corrupt { .. }) => self.discard_txlist(&txlist.hash()).map(drop),
            found => found.map(drop),
        }
    }

    fn discard_txlist(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        let hash = *hash;
        self.write(move |writer| writer.discard_txlist(&hash))
    }

    /// Fails if a list of so many bytes has no room even with settled lists evicted. Called before its file is written.
    pub(super) fn room_for(&self, len: usize) -> Result<(), StorageError> {
        let state = self.state()?;
        let Some(full) = self.config.limits.txlists_full(state.txlists, state.txlist_bytes, len) else {
            return Ok(());
        };
        self.read(|file| {
            let order = file.open_table(TXLIST_ORDER).map_err(fault)?;
            let lowest = order.first().map_err(fault)?.map(|(key, _)| key.value().0);
            let settled = state.base.zip(lowest).is_some_and(|(base, lowest)| lowest <= base.number);
            if settled { Ok(()) } else { Err(full.clone()) }
        })
    }

    /// Whether the bytes of a list go into the database.
    pub(super) fn is_small(&self, txlist: &TxList) -> bool {
        txlist.bytes().len() < self.config.file_bytes
    }

    /// Whether a list is stored, as far as that shows without its bytes: small ones are in the database, whose pages are
    /// compared with their checksums when it is opened; of a file, the length is.
    fn is_whole(&self, hash: &B256) -> Result<bool, StorageError> {
        let found = self.read(|file| {
            let blocks = file.open_table(TXLIST_BLOCKS).map_err(fault)?;
            Ok(blocks.get(&hash.0).map_err(fault)?.map(|info| info.value().1))
        })?;
        let Some(len) = found else { return Ok(false) };
        const WHAT: StorageError = StorageError::Corrupt { what: "a transaction list" };
        let len = usize::try_from(len).map_err(|_| WHAT)?;
        if len < self.config.file_bytes || Files::is_whole(&*self.source, hash, len)? {
            return Ok(true);
        }
        // It was stored while fewer lists had files.
        let in_database = self.read(|file| {
            let bytes = file.open_table(TXLISTS).map_err(fault)?;
            Ok(bytes.get(&hash.0).map_err(fault)?.is_some())
        })?;
        // One that was evicted a moment ago is not damaged.
        if in_database || !self.contains(hash)? { Ok(in_database) } else { Err(WHAT) }
    }

    /// The bytes of a list that is in a file. None if it was evicted a moment ago.
    pub(super) fn read_file(&self, hash: &B256, len: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match Files::read(&*self.source, hash, len)? {
            None if self.contains(hash)? => Err(StorageError::Corrupt { what: "a transaction list" }),
            bytes => Ok(bytes),
        }
    }

    /// Hashes of lists in the order of the newest block that names them, after a given one, at most `limit`.
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
                let key = (block, B256::from(*hash));
                if found.len() >= limit {
                    break;
                }
                if Some(key) != after {
                    found.push(key);
                }
            }
            Ok(found)
        })
    }
}

/// The tables of transaction lists in a write transaction.
pub(super) struct Lists<'t> {
    bytes: Table<'t, &'static [u8; 32], &'static [u8]>,
    blocks: Table<'t, &'static [u8; 32], (BlockNumber, u64)>,
    order: Table<'t, (BlockNumber, &'static [u8; 32]), ()>,
}

impl<'t> Lists<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StorageError> {
        Ok(Self {
            bytes: transaction.open_table(TXLISTS).map_err(fault)?,
            blocks: transaction.open_table(TXLIST_BLOCKS).map_err(fault)?,
            order: transaction.open_table(TXLIST_ORDER).map_err(fault)?,
        })
    }
}

impl Writer<'_> {
    /// Raises the block of a stored list. Returns whether the list is stored.
    fn renew(
        &mut self,
        lists: &mut Lists<'_>,
        block: BlockNumber,
        hash: &B256,
    ) -> Result<bool, StorageError> {
        let known = lists.blocks.get(&hash.0).map_err(fault)?.map(|info| info.value());
        let Some((before, bytes)) = known else { return Ok(false) };
        // The same list serves several blocks (empty blocks do): it goes when the last of them does.
        if block > before {
            self.changed = true;
            lists.blocks.insert(&hash.0, (block, bytes)).map_err(fault)?;
            lists.order.remove((before, &hash.0)).map_err(fault)?;
            lists.order.insert((block, &hash.0), ()).map_err(fault)?;
        }
        Ok(true)
    }

    /// As [`TxListStore::put`]. `files` says whether the file of a large list has been written.
    pub(super) fn put(
        &mut self,
        lists: &mut Lists<'_>,
        block: BlockNumber,
        txlist: &TxList,
        files: &HashMap<B256, Result<(), StorageError>>,
    ) -> Result<bool, StorageError> {
        let (hash, bytes) = (txlist.hash(), txlist.bytes());
        if self.renew(lists, block, &hash)? {
            return Ok(false);
        }
        let in_file = files.get(&hash).cloned().transpose()?.is_some();
        loop {
            let State { txlists, txlist_bytes, .. } = self.state;
            match self.limits.txlists_full(txlists, txlist_bytes, bytes.len()) {
                None => break,
                Some(full) if !self.evict_txlist(lists)? => return Err(full),
                Some(_) => {}
            }
        }
        self.changed = true;
        if !in_file {
            lists.bytes.insert(&hash.0, &**bytes).map_err(fault)?;
        }
        lists.blocks.insert(&hash.0, (block, bytes.len() as u64)).map_err(fault)?;
        lists.order.insert((block, &hash.0), ()).map_err(fault)?;
        self.state.txlists = self.state.txlists.saturating_add(1);
        self.state.txlist_bytes = self.state.txlist_bytes.saturating_add(bytes.len());
        Ok(true)
    }

    /// Removes the list of the lowest block if that is settled. Returns whether it did.
    pub(super) fn evict_txlist(&mut self, lists: &mut Lists<'_>) -> Result<bool, StorageError> {
        let lowest = lists.order.first().map_err(fault)?.map(|(key, _)| {
            let (block, hash) = key.value();
            (block, *hash)
        });
        let Some((block, hash)) = lowest else { return Ok(false) };
        if self.state.base.is_none_or(|base| block > base.number) {
            return Ok(false);
        }
        self.forget(lists, block, &hash)?;
        Ok(true)
    }

    /// As [`TxListStore::discard`].
    fn discard_txlist(&mut self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        let mut lists = Lists::open(self.transaction)?;
        let Some((block, _)) = lists.blocks.get(&hash.0).map_err(fault)?.map(|info| info.value()) else {
            return Ok(None);
        };
        self.forget(&mut lists, block, &hash.0)?;
        Ok(Some(block))
    }

    /// Removes a list whose newest block is this one.
    fn forget(
        &mut self,
        lists: &mut Lists<'_>,
        block: BlockNumber,
        hash: &[u8; 32],
    ) -> Result<(), StorageError> {
        self.changed = true;
        lists.order.remove((block, hash)).map_err(fault)?;
        let info = lists.blocks.remove(hash).map_err(fault)?.map(|info| info.value());
        if lists.bytes.remove(hash).map_err(fault)?.is_none() {
            self.files.push(B256::from(*hash));
        }
        let bytes = info.and_then(|(_, bytes)| usize::try_from(bytes).ok()).unwrap_or(0);
        self.state.txlists = self.state.txlists.saturating_sub(1);
        self.state.txlist_bytes = self.state.txlist_bytes.saturating_sub(bytes);
        Ok(())
    }
}

impl TxListStore for DiskStorage {
    fn put(&self, block: BlockNumber, txlist: TxList) -> Result<bool, StorageError> {
        let applied = self.apply_batch(&vec![(block, txlist)].into())?;
        applied.txlists.into_iter().next().unwrap_or(Err(StorageError::Poisoned))
    }

    fn renew(&self, lists: &[(BlockNumber, B256)]) -> Vec<Result<bool, StorageError>> {
        let mut answers: Vec<_> = lists.iter().map(|(_, hash)| self.is_whole(hash)).collect();
        let whole = lists.iter().zip(&answers).filter(|(_, answer)| **answer == Ok(true));
        let whole: Vec<(BlockNumber, B256)> = whole.map(|(list, _)| *list).collect();
        if whole.is_empty() {
            return answers;
        }
        let renewed = self.write(move |writer| {
            let mut lists = Lists::open(writer.transaction)?;
            whole.iter().map(|(block, hash)| writer.renew(&mut lists, *block, hash)).collect()
        });
        let mut renewed = renewed.map(Vec::into_iter);
        for answer in answers.iter_mut().filter(|answer| **answer == Ok(true)) {
            *answer = match &mut renewed {
                Ok(renewed) => renewed.next().ok_or(StorageError::Poisoned),
                Err(error) => Err(error.clone()),
            };
        }
        answers
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

    fn discard(&self, hash: &B256) -> Result<Option<BlockNumber>, StorageError> {
        self.discard_txlist(hash)
    }
}
