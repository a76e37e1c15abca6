//! A read-only storage backend: what the database writes for its recovery stays in memory (copy on write).

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    sync::{Arc, Mutex},
};

use redb::{BackendError, Database, StorageBackend, backends::FileBackend};

use super::{
    backend::has_no_locks,
    fault::{fault, io_fault, retried},
    files::{FileSystem, Folder},
    group_commit::lock,
    open::{DATABASE, Source, locked},
    owner::Owner,
};
use crate::StorageError;

const PAGE: usize = 4096;

/// Pages by their number.
#[derive(Debug)]
struct Changed {
    len: u64,
    /// Bytes of the file that are still visible; less than its length after a truncation.
    kept: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// A file with copy-on-write pages in memory: a few after a crash.
#[derive(Debug)]
pub(super) struct Snapshot<F> {
    file: F,
    changed: Mutex<Changed>,
    owner: Arc<Owner>,
}

/// Splits a range by pages: page number, offset in the page, and length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let within = usize::try_from(at % PAGE as u64).ok()?;
        let part = left.min(PAGE - within);
        let found = (part > 0).then_some((at / PAGE as u64, within, part));
        at = at.saturating_add(part as u64);
        left -= part;
        found
    })
}

impl<F: StorageBackend> Snapshot<F> {
    pub(super) fn new(file: F, owner: Arc<Owner>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, changed: Mutex::new(Changed { len, kept: len, pages: BTreeMap::new() }), owner })
    }

    /// Bytes of the file, zeros where it has none.
    fn read_file(&self, kept: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(kept.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { retried(|| self.file.read(offset, there)) }
    }
}

impl<F: StorageBackend> StorageBackend for Snapshot<F> {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.changed).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = lock(&self.changed);
        if offset.saturating_add(out.len() as u64) > changed.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(changed.kept, offset, out)?;
        let mut rest = out;
        for (page, within, part) in parts(offset, rest.len()) {
            let (here, after) = rest.split_at_mut(part);
            if let Some(bytes) = changed.pages.get(&page).and_then(|bytes| bytes.get(within..within + part)) {
                here.copy_from_slice(bytes);
            }
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = lock(&self.changed);
        changed.len = len;
        changed.kept = changed.kept.min(len);
        changed.pages.retain(|page, bytes| {
            let left = usize::try_from(len.saturating_sub(page * PAGE as u64)).unwrap_or(usize::MAX);
            if let Some(cut) = bytes.get_mut(left.min(PAGE)..) {
                cut.fill(0);
            }
            left > 0
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changed = lock(&self.changed);
        changed.len = changed.len.max(offset.saturating_add(data.len() as u64));
        let mut rest = data;
        for (page, within, part) in parts(offset, data.len()) {
            let (here, after) = rest.split_at(part);
            let kept = changed.kept;
            let bytes = match changed.pages.entry(page) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let mut bytes = vec![0; PAGE];
                    self.read_file(kept, page * PAGE as u64, &mut bytes)?;
                    new.insert(bytes)
                }
            };
            if let Some(place) = bytes.get_mut(within..within + part) {
                place.copy_from_slice(here);
            }
            rest = after;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    /// Shared: many readers, no writer.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match self.file.try_lock_shared_range(start, end) {
            Err(error) if has_no_locks(&error) => match (start, end) {
                (Bound::Unbounded, Bound::Unbounded) => Ok(!self.owner.is_held()?),
                _ => Err(BackendError::Unsupported),
            },
            locked => locked,
        }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A folder that is not written.
pub(super) struct ReadOnlyFolder(pub(super) Folder);

impl Source for ReadOnlyFolder {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError> {
        let file = retried(|| fs::File::open(self.0.path(DATABASE))).map_err(|error| io_fault(&error))?;
        let snapshot = Snapshot::new(FileBackend::new(file).map_err(fault)?, self.0.owner.clone());
        let snapshot = snapshot.map_err(|error| io_fault(&error))?;
        if lock(&snapshot.changed).len == 0 {
            return Err(StorageError::Corrupt { what: "the database, which is empty" });
        }
        builder.create_with_backend(snapshot).map_err(|error| locked(error, &self.0.owner))
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.0.len()
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

impl FileSystem for ReadOnlyFolder {
    fn create_folder(&self, _: &str) -> io::Result<bool> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.0.read(path, limit)
    }

    fn file_len(&self, path: &str) -> io::Result<u64> {
        self.0.file_len(path)
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.0.list(path)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// Random writes, cuts and reads, against the same on plain bytes; the file below stays as it is.
    #[test]
    fn a_snapshot_is_like_a_file_and_leaves_the_file_alone() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let below = InMemoryBackend::new();
            let mut plain = vec![0; rng.usize(0..30_000)];
            rng.fill(&mut plain);
            below.set_len(plain.len() as u64).unwrap();
            below.write(0, &plain).unwrap();
            let before = plain.clone();
            let owner = Arc::new(Owner::new(std::path::Path::new("/nowhere")));
            let snapshot = Snapshot::new(below, owner).unwrap();
            for _ in 0..60 {
                let at = rng.usize(0..=plain.len());
                if rng.u8(0..4) == 0 {
                    let len = rng.usize(0..40_000);
                    plain.resize(len, 0);
                    snapshot.set_len(len as u64).unwrap();
                } else {
                    let mut data = vec![0; rng.usize(0..9_000)];
                    rng.fill(&mut data);
                    plain.resize(plain.len().max(at + data.len()), 0);
                    plain[at..at + data.len()].copy_from_slice(&data);
                    snapshot.write(at as u64, &data).unwrap();
                }
                assert_eq!(snapshot.len().unwrap(), plain.len() as u64);
                let (from, to) = (rng.usize(0..=plain.len()), rng.usize(0..=plain.len()));
                let (from, to) = (from.min(to), from.max(to));
                let mut read = vec![7; to - from];
                snapshot.read(from as u64, &mut read).unwrap();
                assert_eq!(read, plain[from..to], "seed {seed}");
                assert!(snapshot.read(to as u64, &mut vec![0; plain.len() - to + 1]).is_err());
            }
            let mut after = vec![0; before.len()];
            snapshot.file.read(0, &mut after).unwrap();
            assert_eq!(after, before);
        }
    }
}
