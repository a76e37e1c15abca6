//! A disk in memory that fails in the ways that disks fail.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a fixture of tests")]

use std::{
    collections::{BTreeMap, HashSet},
    io,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex},
};

use redb::{BackendError, Database, StorageBackend};

use super::{
    DiskConfig, DiskStorage,
    backend::{DatabaseFile, Unsynced},
    fault::fault,
    files::FileSystem,
    group_commit::lock,
    open::Source,
    owner::Owner,
};
use crate::StorageError;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Something that happened to the database, or to the files beside it.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    SetLen(usize),
    Sync,
    /// What was written before it and after the last sync never reaches the disk, whatever is synced later.
    FailedSync,
    Create {
        path: String,
        data: Vec<u8>,
    },
    SyncFile(String),
    Remove(String),
    SyncFolder(String),
}

impl Event {
    /// Whether it makes something durable.
    #[cfg(test)]
    pub(super) const fn is_sync(&self) -> bool {
        matches!(self, Self::Sync | Self::SyncFile(_) | Self::SyncFolder(_))
    }
}

/// What can be asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Of the database, or of a file beside it.
    Read,
    Write,
    Sync,
    WriteFile,
    Remove,
}

/// Decides about a call.
type Decision<C, D> = Box<dyn FnMut(C) -> D + Send>;

/// Files by name.
pub(super) type Tree = BTreeMap<String, Vec<u8>>;

/// What was there at first, and all that has happened since.
#[derive(Default)]
struct Log {
    start: OnDisk,
    events: Vec<Event>,
}

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    tree: Tree,
    log: Option<Log>,
    /// Pages that have room on the disk: a file that is made longer has none until it is written.
    allocated: HashSet<usize>,
    room: Option<usize>,
    /// Nothing happens to it any more.
    is_off: bool,
    /// Whether it is gone, at a call that changes something or not.
    power: Option<Decision<bool, bool>>,
    /// With which of the system's numbers a call fails, if it does.
    fails: Option<Decision<Call, Option<i32>>>,
    unsynced: Arc<Mutex<Unsynced>>,
}

/// A disk in memory with one store. What was written to it and not synced is lost, in part, when the power goes.
///
/// Its clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty disk whose power can go.
    #[must_use]
    pub fn recording() -> Self {
        Self::holding(OnDisk::default())
    }

    fn holding(start: OnDisk) -> Self {
        let (bytes, tree) = (start.bytes.clone(), start.files.survive(|| false));
        let log = Some(Log { start, events: Vec::new() });
        Self(Arc::new(Mutex::new(Inner { bytes, tree, log, ..Inner::default() })))
    }

    /// Opens the store on it, which is created if there is none.
    ///
    /// # Errors
    /// As [`DiskStorage::open`].
    pub fn open(&self, config: DiskConfig) -> Result<DiskStorage, StorageError> {
        DiskStorage::open_source(Box::new(self.clone()), config)
    }

    /// From now on each call asks whether the power is gone, and fails if it is. It is told whether the call changes something.
    pub fn set_power(&self, is_gone: impl FnMut(bool) -> bool + Send + 'static) {
        lock(&self.0).power = Some(Box::new(is_gone));
    }

    /// The disk when the power is back: what was synced, and of the rest what `keep` says, in no order. This one does not change.
    ///
    /// # Panics
    /// If the disk is not one that is [`recording`](Self::recording).
    #[must_use]
    pub fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> Self {
        let on_disk = lock(&self.0).log.as_ref().unwrap().on_disk();
        let mut bytes = on_disk.bytes;
        for event in &on_disk.unsynced {
            let is_whole = keep();
            apply(&mut bytes, event, || is_whole || keep());
        }
        let files = Files::of(on_disk.files.survive(keep));
        Self::holding(OnDisk { bytes, files, unsynced: Vec::new() })
    }

    /// What is on it, bit by bit.
    #[cfg(test)]
    pub(super) fn of(bytes: Vec<u8>, tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(Inner { bytes, tree, ..Inner::default() })))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        lock(&self.0).bytes.clone()
    }

    #[cfg(test)]
    pub(super) fn tree(&self) -> Tree {
        lock(&self.0).tree.clone()
    }

    #[cfg(test)]
    pub(super) fn events(&self) -> Vec<Event> {
        lock(&self.0).log.as_ref().map(|log| log.events.clone()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn happened(&self) -> usize {
        lock(&self.0).log.as_ref().map_or(0, |log| log.events.len())
    }

    /// How many bytes have been written to at least once.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        lock(&self.0).used()
    }

    /// A bit of the database changes by itself.
    #[cfg(test)]
    pub(super) fn flip(&self, at: usize, bit: u8) {
        lock(&self.0).bytes[at] ^= 1 << bit;
    }

    /// From now on some calls fail.
    #[cfg(test)]
    pub(super) fn set_fails(&self, fails: impl FnMut(Call) -> Option<i32> + Send + 'static) {
        lock(&self.0).fails = Some(Box::new(fails));
    }

    /// Lets the next so many calls of a kind fail.
    #[cfg(test)]
    pub(super) fn fail(&self, call: Call, mut times: usize, code: i32) {
        self.set_fails(move |asked| {
            let fails = asked == call && times > 0;
            times -= usize::from(fails);
            fails.then_some(code)
        });
    }

    /// What would be there had the power gone now: whatever a sync that succeeded made certain.
    #[cfg(test)]
    pub(super) fn certain(&self) -> Vec<u8> {
        lock(&self.0).log.as_ref().map(|log| log.on_disk().bytes).unwrap_or_default()
    }

    /// The size of the disk.
    #[cfg(test)]
    pub(super) fn set_room(&self, bytes: usize) {
        lock(&self.0).room = Some(bytes);
    }
}

impl Log {
    /// What is certain by now, and what is on its way.
    fn on_disk(&self) -> OnDisk {
        let mut on_disk = self.start.clone();
        self.events.iter().for_each(|event| on_disk.happen(event));
        on_disk
    }
}

/// What is on a disk for certain, and what is on its way.
#[derive(Debug, Clone, Default)]
pub(super) struct OnDisk {
    /// Of the database.
    pub(super) bytes: Vec<u8>,
    /// Writes to the database since the last sync.
    pub(super) unsynced: Vec<Event>,
    pub(super) files: Files,
}

impl OnDisk {
    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Write { .. } | Event::SetLen(_) => self.unsynced.push(event.clone()),
            Event::FailedSync => self.unsynced.clear(),
            Event::Sync => self.unsynced.drain(..).for_each(|event| apply(&mut self.bytes, &event, || true)),
            _ => self.files.happen(event),
        }
    }
}

/// What an event does to the bytes; of a write, those sectors that `keep` lets through.
pub(super) fn apply(bytes: &mut Vec<u8>, event: &Event, mut keep: impl FnMut() -> bool) {
    match event {
        Event::Write { offset, data } => {
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                if keep() {
                    let start = offset + index * SECTOR;
                    let end = start + sector.len();
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                    }
                    bytes[start..end].copy_from_slice(sector);
                }
            }
        }
        Event::SetLen(len) if keep() => bytes.resize(*len, 0),
        _ => {}
    }
}

/// Files as a disk has them: what is certain, and what is on its way. Bytes belong to files, names to folders, and
/// each is synced by itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// All files that ever were: their bytes, and whether those are synced.
    bytes: Vec<(Vec<u8>, bool)>,
    /// The names that are certain.
    durable: BTreeMap<String, usize>,
    /// The names as the process sees them.
    seen: BTreeMap<String, usize>,
    /// Changes of names that are on their way, in order: one name goes, one comes.
    changes: Vec<Change>,
}

/// A name, and the file that it leads to from then on, if any.
type Change = (String, Option<usize>);

fn change(names: &mut BTreeMap<String, usize>, (name, file): &Change) {
    match file {
        Some(file) => drop(names.insert(name.clone(), *file)),
        None => drop(names.remove(name)),
    }
}

impl Files {
    /// Files that are certain.
    fn of(tree: Tree) -> Self {
        let names: BTreeMap<_, _> = tree.keys().cloned().zip(0..).collect();
        let bytes = tree.into_values().map(|bytes| (bytes, true)).collect();
        Self { bytes, durable: names.clone(), seen: names, changes: Vec::new() }
    }

    fn happen(&mut self, event: &Event) {
        let next = match event {
            Event::Create { path, data } => {
                self.bytes.push((data.clone(), false));
                (path.clone(), Some(self.bytes.len() - 1))
            }
            Event::Remove(path) => (path.clone(), None),
            Event::SyncFile(path) => {
                self.bytes[self.seen[path]].1 = true;
                return;
            }
            Event::SyncFolder(folder) => {
                let inside =
                    |(name, _): &Change| name.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
                let (now, later) = std::mem::take(&mut self.changes).into_iter().partition(inside);
                self.changes = later;
                let now: Vec<_> = now;
                now.iter().for_each(|next| change(&mut self.durable, next));
                return;
            }
            _ => return,
        };
        change(&mut self.seen, &next);
        self.changes.push(next);
    }

    /// What is there after the power has gone: each name that is on its way may have come or not, bytes that were
    /// not synced may be there in part.
    pub(super) fn survive(&self, mut keep: impl FnMut() -> bool) -> Tree {
        let mut names = self.durable.clone();
        for next in &self.changes {
            if keep() {
                change(&mut names, next);
            }
        }
        let file = |(name, file): (String, usize)| {
            let (bytes, synced) = &self.bytes[file];
            let mut bytes = bytes.clone();
            if !synced {
                for sector in bytes.chunks_mut(SECTOR) {
                    if !keep() {
                        sector.fill(0);
                    }
                }
            }
            (name, bytes)
        };
        names.into_iter().map(file).collect()
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl Inner {
    fn used(&self) -> usize {
        let files: usize = self.tree.values().map(|file| file.len().div_ceil(PAGE)).sum();
        (self.allocated.len() + files) * PAGE
    }

    fn ask(&mut self, call: Call) -> io::Result<()> {
        const EIO: i32 = 5;
        self.is_off |= self.power.as_mut().is_some_and(|is_gone| is_gone(call != Call::Read));
        if self.is_off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        match self.fails.as_mut().and_then(|fails| fails(call)) {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        }
    }

    fn note(&mut self, event: Event) {
        if self.is_off {
            return;
        }
        apply(&mut self.bytes, &event, || true);
        if let Some(log) = &mut self.log {
            log.events.push(event);
        }
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.ask(Call::Read)?;
        let from = inner.bytes.get(at(offset)..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.allocated.retain(|page| page * PAGE < at(len));
        inner.note(Event::SetLen(at(len)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let asked = inner.ask(Call::Sync);
        inner.note(if asked.is_ok() { Event::Sync } else { Event::FailedSync });
        asked
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.ask(Call::Write)?;
        let pages = at(offset) / PAGE..(at(offset) + data.len()).div_ceil(PAGE);
        for page in pages {
            let full = inner.room.is_some_and(|room| inner.used() + PAGE > room);
            if !inner.allocated.contains(&page) && full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner.allocated.insert(page);
        }
        inner.note(Event::Write { offset: at(offset), data: data.to_vec() });
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Source for SimDisk {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError> {
        let owner = Arc::new(Owner::new(Path::new("")));
        let unsynced = lock(&self.0).unsynced.clone();
        builder.create_with_backend(DatabaseFile::new(self.clone(), unsynced, owner)).map_err(fault)
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(lock(&self.0).bytes.len() as u64)
    }
}

impl FileSystem for SimDisk {
    fn create_folder(&self, _: &str) -> io::Result<bool> {
        Ok(false)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.ask(Call::WriteFile)?;
        let free = inner.room.map_or(usize::MAX, |room| room.saturating_sub(inner.used()));
        // A full disk takes what it has room for.
        let data = bytes[..bytes.len().min(free)].to_vec();
        let whole = data.len() == bytes.len();
        inner.tree.insert(path.to_owned(), data.clone());
        inner.note(Event::Create { path: path.to_owned(), data });
        if !whole {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.note(Event::SyncFile(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        lock(&self.0).note(Event::SyncFolder(path.to_owned()));
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut inner = lock(&self.0);
        inner.ask(Call::Read)?;
        let bytes = inner.tree.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes[..bytes.len().min(at(limit))].to_vec())
    }

    fn file_len(&self, path: &str) -> io::Result<u64> {
        let mut inner = lock(&self.0);
        inner.ask(Call::Read)?;
        Ok(inner.tree.get(path).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.ask(Call::Remove)?;
        inner.tree.remove(path).ok_or(io::ErrorKind::NotFound)?;
        inner.note(Event::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let inner = lock(&self.0);
        let names = inner.tree.keys().filter_map(|name| name.strip_prefix(path)?.strip_prefix('/'));
        Ok(names.map(str::to_owned).collect())
    }
}
