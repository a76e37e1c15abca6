//! A disk in memory that fails in the ways that disks fail.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex},
};

use redb::{Database, StorageBackend};

use super::super::{fault::fault, group::lock, open::Source};
use crate::StorageError;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Something that happened to the file.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
    Sync,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    log: Option<Vec<Event>>,
    /// Pages that have room on the disk: a file that is made longer has none until it is written.
    allocated: HashSet<usize>,
    room: Option<usize>,
}

/// Shared with whoever looks at it from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Medium(Arc<Mutex<Inner>>);

impl Medium {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    /// Notes all that happens.
    pub(super) fn recording() -> Self {
        Self(Arc::new(Mutex::new(Inner { log: Some(Vec::new()), ..Inner::default() })))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        lock(&self.0).bytes.clone()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        lock(&self.0).log.clone().unwrap_or_default()
    }

    pub(super) fn happened(&self) -> usize {
        lock(&self.0).log.as_ref().map_or(0, Vec::len)
    }

    /// How many bytes have been written to at least once.
    pub(super) fn used(&self) -> usize {
        lock(&self.0).allocated.len() * PAGE
    }

    /// The size of the disk.
    pub(super) fn set_room(&self, bytes: usize) {
        lock(&self.0).room = Some(bytes);
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
        Event::SetLen(_) | Event::Sync => {}
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl Inner {
    fn note(&mut self, event: Event) {
        apply(&mut self.bytes, &event, || true);
        if let Some(log) = &mut self.log {
            log.push(event);
        }
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = lock(&self.0);
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
        lock(&self.0).note(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let pages = at(offset) / PAGE..(at(offset) + data.len()).div_ceil(PAGE);
        for page in pages {
            let full = inner.room.is_some_and(|room| (inner.allocated.len() + 1) * PAGE > room);
            if !inner.allocated.contains(&page) && full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner.allocated.insert(page);
        }
        inner.note(Event::Write { offset: at(offset), data: data.to_vec() });
        Ok(())
    }
}

impl Source for Medium {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError> {
        builder.create_with_backend(self.clone()).map_err(fault)
    }
}
