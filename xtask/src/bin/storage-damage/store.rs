//! The store that is copied, and what a node does with a copy.

use std::path::Path;

use p2p_storage::{
    CommitmentStore, DiskConfig, DiskStorage, EvidenceStore, PublishLog, SdkStorage, StorageError,
    StorageLimits, TxListStore,
    fixtures::{DOMAIN, Judge, block, equivocation},
};
use p2p_types::{B256, Base, TxList};

use crate::Failure;

/// Blocks of the store, and of its older self.
const BLOCKS: u64 = 300;
pub(crate) const OLD_BLOCKS: u64 = 200;

/// A list that its number names: most are small, some are of some pages, some are files.
fn list(number: u64) -> Result<TxList, StorageError> {
    let len = match number % 16 {
        0 => 40_000,
        8 => 12_000,
        _ => 64 + usize::try_from(number * 31 % 2_000).unwrap_or(0),
    };
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(len).collect();
    TxList::new(bytes.into(), len).map_err(|_| StorageError::Corrupt { what: "a list" })
}

/// Small files for large lists, so that there are many.
fn config() -> DiskConfig {
    DiskConfig { file_bytes: 32_000, ..DiskConfig::recommended(DOMAIN) }
}

/// Makes a store with branches, handovers, lists, evidence, and pages that were used once. `at` is called at
/// [`OLD_BLOCKS`] and at the end, while the store is open.
pub(crate) fn fill(folder: &Path, mut at: impl FnMut(u64) -> Result<(), Failure>) -> Result<(), Failure> {
    let (store, judge) = (DiskStorage::open(folder, config())?, Judge::default());
    store.set_base(Base::at(0))?;
    let mut parent = B256::ZERO;
    for number in 1..=BLOCKS {
        let made = block(number, number, parent, 1);
        let hash = made.hash();
        let mut all = vec![judge.linked(&store, made)];
        if number % 20 == 0 {
            all.push(judge.linked(&store, block(number, number, parent, 0)));
        }
        for applied in store.apply(all.into()).commitments {
            drop(applied.inserted?);
        }
        store.put(number, list(number)?)?;
        if number % 25 == 0 {
            store.record_published(&[hash])?;
            store.put_evidence(&equivocation(2, number, [1, 2]))?;
            // What is settled goes in part, and leaves free pages.
            store.set_base(Base::at(number / 2))?;
            store.prune_below(number / 4)?;
        }
        parent = hash;
        if number == OLD_BLOCKS || number == BLOCKS {
            at(number)?;
        }
    }
    Ok(())
}

/// What `p2p-node db verify` does.
pub(crate) fn verify(folder: &Path) -> Result<(), Failure> {
    if !DiskStorage::exists(folder) {
        return Err("there is no store".into());
    }
    let config = DiskConfig { limits: StorageLimits::UNLIMITED, ..DiskConfig::recommended(DOMAIN) };
    let report = DiskStorage::open_read_only(folder, config)?.verify()?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} problems: {first}", report.problems.len()).into()),
    }
}

/// Whether everything was as it should be.
pub(crate) enum Opened {
    Whole,
    /// Lists were rotten or missing; they have been put again.
    Rotten,
}

/// What a node does: opens the store, reads everything, fetches again what is rotten, and goes on.
pub(crate) fn open(folder: &Path) -> Result<Opened, Failure> {
    let store = DiskStorage::open(folder, config())?;
    let rotten = read(&store)?;
    let (judge, head) = (Judge::default(), store.head()?.ok_or("the store is empty")?);
    let number = head.number + 1;
    let made = block(number, number, head.hash, 5);
    drop(judge.insert(&store, made.clone())?);
    for number in [1_000_000, 1_000_000 * 16] {
        store.put(number, list(number)?)?;
    }
    age(&store)?;
    drop(store);
    let store = DiskStorage::open(folder, config())?;
    let there = store.head()?.is_some_and(|head| head.hash == made.hash());
    if !there || read(&store)? {
        return Err("what was written is not there".into());
    }
    Ok(if rotten { Opened::Rotten } else { Opened::Whole })
}

/// What a node does in a year: what was settled goes, lists go, and others take their room.
fn age(store: &DiskStorage) -> Result<(), Failure> {
    store.prune_below(u64::MAX)?;
    let mut after = None;
    loop {
        let page = store.txlists_after(after, 64)?;
        let Some(&last) = page.last() else { break };
        after = Some(last);
        for (number, hash) in page.iter().filter(|(number, _)| number % 8 == 1) {
            store.discard(hash)?;
            store.put(2_000_000 + number, list(2_000_000 + number)?)?;
        }
        if last.0 > 1_000_000 {
            break;
        }
    }
    Ok(())
}

/// Reads everything. Whether a list had to be put again.
fn read(store: &DiskStorage) -> Result<bool, Failure> {
    let mut next = store.next_height(0)?;
    while let Some(height) = next {
        for stored in store.at(height)? {
            store.by_hash(&stored.hash())?.ok_or("a commitment is not found")?;
            store.is_published(&stored.hash())?;
        }
        next = store.next_height(height + 1)?;
    }
    let base = store.base()?.map_or(0, |base| base.number);
    let run = store.range(base + 1, usize::MAX)?;
    if run.last().map(|last| last.block) != store.head()?.map(|head| head.number) {
        return Err("the chain has a gap".into());
    }
    store.evidence()?;
    let (mut after, mut rotten) = (None, false);
    loop {
        let page = store.txlists_after(after, 64)?;
        let Some(&last) = page.last() else { return Ok(rotten) };
        after = Some(last);
        for (number, hash) in page {
            match store.get(&hash) {
                Ok(Some(_)) => {}
                Ok(None) => return Err("a list is named and not there".into()),
                Err(StorageError::Corrupt { .. }) => {
                    rotten = true;
                    store.discard(&hash)?;
                    store.put(number, list(number)?)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
