//! Own promises of the store on disk: one row each, sorted by window, so that pruning removes a range.

use p2p_types::{Address, B256, BlockNumber, UnixSeconds};
use redb::{ReadableTable, ReadableTableMetadata as _};

use super::{
    DiskStorage, Durability, STEP,
    fault::fault,
    rows::checksum,
    tables::{PROMISES, PromiseKey},
    writer::Writer,
};
use crate::{Promise, PromiseStore, StorageError, promises::MAX_PROMISES};

const WHAT: StorageError = StorageError::Corrupt { what: "a promise" };

pub(super) fn row_key(promise: &Promise) -> PromiseKey<'_> {
    (promise.window_end.get(), &promise.signer.0.0, promise.block, &promise.hash.0)
}

/// The two flags, and a checksum over the key and these.
pub(super) fn record(promise: &Promise) -> Vec<u8> {
    let flags = [u8::from(promise.eop), u8::from(promise.eop_only)];
    let body = [&promise.signer[..], &promise.block.to_be_bytes(), &promise.hash[..], &flags].concat();
    [&flags[..], &checksum(promise.window_end.get(), &body)].concat()
}

pub(super) fn decode(
    (window_end, signer, block, hash): PromiseKey<'_>,
    bytes: &[u8],
) -> Result<Promise, StorageError> {
    let [eop @ (0 | 1), eop_only @ (0 | 1), ..] = bytes else { return Err(WHAT) };
    let promise = Promise {
        window_end: UnixSeconds::new(window_end),
        signer: Address::from(*signer),
        block,
        hash: B256::from(*hash),
        eop: *eop == 1,
        eop_only: *eop_only == 1,
    };
    if record(&promise) == bytes { Ok(promise) } else { Err(WHAT) }
}

impl Writer<'_> {
    fn put_promise(&mut self, promise: &Promise) -> Result<(), StorageError> {
        let mut table = self.transaction.open_table(PROMISES).map_err(fault)?;
        let limit = u64::try_from(MAX_PROMISES).unwrap_or(u64::MAX);
        if table.len().map_err(fault)? >= limit && table.get(row_key(promise)).map_err(fault)?.is_none() {
            let used = MAX_PROMISES.saturating_add(1);
            return Err(StorageError::Full { what: "promises", used, limit: MAX_PROMISES });
        }
        self.changed = true;
        table.insert(row_key(promise), &*record(promise)).map(drop).map_err(fault)
    }

    /// One step of pruning.
    fn prune_promises(&mut self, before: UnixSeconds) -> Result<usize, StorageError> {
        let mut table = self.transaction.open_table(PROMISES).map_err(fault)?;
        let mut gone = 0;
        while gone < STEP
            && table.first().map_err(fault)?.is_some_and(|(key, _)| key.value().0 < before.get())
        {
            table.pop_first().map_err(fault)?;
            self.changed = true;
            gone += 1;
        }
        Ok(gone)
    }
}

impl PromiseStore for DiskStorage {
    fn put_promise(&self, promise: Promise) -> Result<(), StorageError> {
        self.write(move |writer| writer.put_promise(&promise))
    }

    fn promises(&self, signer: &Address, window_end: UnixSeconds) -> Result<Vec<Promise>, StorageError> {
        self.read(|file| {
            let table = file.open_table(PROMISES).map_err(fault)?;
            let of = |block, hash| (window_end.get(), &signer.0.0, block, hash);
            let all = of(BlockNumber::MIN, &[0; 32])..=of(BlockNumber::MAX, &[u8::MAX; 32]);
            let mut found = Vec::new();
            for entry in table.range(all).map_err(fault)? {
                let (key, bytes) = entry.map_err(fault)?;
                found.push(decode(key.value(), bytes.value())?);
            }
            Ok(found)
        })
    }

    fn prune_promises(&self, before: UnixSeconds) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            match self.write(move |writer| writer.prune_promises(before))? {
                0 => return Ok(pruned),
                gone => pruned += gone,
            }
        }
    }

    fn keeps_promises(&self) -> bool {
        self.config.durability == Durability::Immediate
    }
}
