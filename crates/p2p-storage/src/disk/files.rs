//! Blob files: one for each large transaction list, referenced by the database.
//!
//! A file and its directory entry are synced before the database references the list, the reference is gone before the file
//! is removed, and nobody writes to a referenced file. So a referenced file is always complete. Unreferenced files that a
//! crash leaves are overwritten with their list or swept, one folder with each large list that is put.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use p2p_types::B256;

use super::{
    backend::Unsynced,
    fault::{io_fault, retried},
    group_commit::lock,
    owner::Owner,
};
use crate::StorageError;

/// The file system operations that blob files need. Paths are relative to the store's folder.
pub(super) trait FileSystem: Send + Sync {
    /// Creates a folder if it is missing. Returns whether it was.
    fn create_folder(&self, path: &str) -> io::Result<bool>;
    /// Creates a file and syncs its bytes, but not its directory entry.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Syncs the entries of a folder.
    fn sync_folder(&self, path: &str) -> io::Result<()>;
    /// Reads a file, at most `limit` bytes of it.
    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>>;
    /// Bytes of a file.
    fn file_len(&self, path: &str) -> io::Result<u64>;
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a folder.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
}

/// A real folder.
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) owner: Arc<Owner>,
    pub(super) unsynced: Arc<Mutex<Unsynced>>,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), owner: Arc::new(Owner::new(root)), unsynced: Arc::default() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl FileSystem for Folder {
    fn create_folder(&self, path: &str) -> io::Result<bool> {
        let path = self.path(path);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(false),
            // Not ours, and in the way.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&path)?,
            created => return created.map(|()| true),
        }
        fs::create_dir(path).map(|()| true)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        }
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        if cfg!(unix) { fs::File::open(self.path(path))?.sync_all() } else { Ok(()) }
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(limit).unwrap_or(0));
        fs::File::open(self.path(path))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn file_len(&self, path: &str) -> io::Result<u64> {
        let file = fs::metadata(self.path(path))?;
        if file.is_file() { Ok(file.len()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.path(path))?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// The folder of all lists.
pub(super) const ROOT: &str = "txlists";
/// Its subfolders, by the first hex digit of the hash: some thousand files in each even of a large store.
const FOLDERS: [&str; 16] = [
    "txlists/0",
    "txlists/1",
    "txlists/2",
    "txlists/3",
    "txlists/4",
    "txlists/5",
    "txlists/6",
    "txlists/7",
    "txlists/8",
    "txlists/9",
    "txlists/a",
    "txlists/b",
    "txlists/c",
    "txlists/d",
    "txlists/e",
    "txlists/f",
];

/// Whether there is no file, or something else in its place.
fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

fn folder(hash: &B256) -> &'static str {
    let [first, ..] = hash.0;
    FOLDERS.get(usize::from(first >> 4)).copied().unwrap_or(ROOT)
}

fn path(hash: &B256) -> String {
    format!("{}/{hash:x}", folder(hash))
}

/// Unreferenced files that are remembered for removal.
const MAX_UNREFERENCED: usize = 64 * 1024;

/// State of the blob files that is not in the database.
#[derive(Default)]
pub(super) struct Files {
    /// Lists whose files are being written.
    claimed: Mutex<HashSet<B256>>,
    /// A claim was released.
    released: Condvar,
    /// Unreferenced files that are to be removed.
    unreferenced: Mutex<Vec<B256>>,
    /// Whether the last removal failed.
    failing: AtomicBool,
    /// Folders swept since the store was opened.
    swept: AtomicUsize,
}

/// Exclusive right to write or remove the file of a list.
pub(super) struct Claim<'a> {
    files: &'a Files,
    hash: B256,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.files.claimed).remove(&self.hash);
        self.files.released.notify_all();
    }
}

impl Files {
    /// Creates the folders and syncs their entries. Skips the syncs where the store is `known` to be older and no folder was
    /// missing.
    pub(super) fn prepare(system: &dyn FileSystem, known: bool) -> Result<(), StorageError> {
        let prepare = || {
            let mut is_new = !known;
            for folder in [ROOT].into_iter().chain(FOLDERS) {
                is_new |= system.create_folder(folder)?;
            }
            if is_new {
                system.sync_folder(ROOT)?;
                system.sync_folder("")?;
            }
            Ok(())
        };
        prepare().map_err(|error: io::Error| io_fault(&error))
    }

    /// Waits until nobody else has the claim of this list.
    pub(super) fn claim(&self, hash: B256) -> Claim<'_> {
        let mut claimed = lock(&self.claimed);
        while !claimed.insert(hash) {
            claimed = self.released.wait(claimed).unwrap_or_else(PoisonError::into_inner);
        }
        Claim { files: self, hash }
    }

    /// Writes and syncs the file of a list that the database does not reference.
    pub(super) fn write(
        system: &dyn FileSystem,
        claim: &Claim<'_>,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        // Each try rewrites the file: after a failed sync, pages that were lost may count as clean.
        let written = retried(|| {
            system.write(&path(&claim.hash), bytes)?;
            system.sync_folder(folder(&claim.hash))
        });
        written.map_err(|error| {
            // If this fails, the sweep finds it.
            drop(system.remove(&path(&claim.hash)));
            io_fault(&error)
        })
    }

    /// The bytes of a list, cut to `len` and one more; none if there is no such file.
    pub(super) fn read(
        system: &dyn FileSystem,
        hash: &B256,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match retried(|| system.read(&path(hash), (len as u64).saturating_add(1))) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_no_file(&error) => Ok(None),
            Err(error) => Err(io_fault(&error)),
        }
    }

    /// Whether the file of a list is there and has its length.
    pub(super) fn is_whole(system: &dyn FileSystem, hash: &B256, len: usize) -> Result<bool, StorageError> {
        match retried(|| system.file_len(&path(hash))) {
            Ok(bytes) => Ok(bytes == len as u64),
            Err(error) if is_no_file(&error) => Ok(false),
            Err(error) => Err(io_fault(&error)),
        }
    }

    /// Remembers unreferenced files for removal. Beyond [`MAX_UNREFERENCED`], the sweep after the next opening finds them.
    pub(super) fn defer_removal(&self, hashes: impl IntoIterator<Item = B256>) {
        let mut unreferenced = lock(&self.unreferenced);
        let room = MAX_UNREFERENCED.saturating_sub(unreferenced.len());
        unreferenced.extend(hashes.into_iter().take(room));
    }

    pub(super) fn unreferenced(&self) -> usize {
        lock(&self.unreferenced).len()
    }

    /// Removes unreferenced files. A failure is logged once, and the rest is tried again the next time.
    pub(super) fn remove_unreferenced(
        &self,
        system: &dyn FileSystem,
        is_referenced: impl Fn(&B256) -> Result<bool, StorageError>,
    ) {
        let mut unreferenced = std::mem::take(&mut *lock(&self.unreferenced));
        if unreferenced.is_empty() {
            return;
        }
        while let Some(hash) = unreferenced.last() {
            if let Err(error) = self.remove(system, hash, || is_referenced(hash)) {
                let waiting = unreferenced.len();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, waiting, "cannot remove files of evicted transaction lists; trying again later");
                }
                self.defer_removal(unreferenced);
                return;
            }
            unreferenced.pop();
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("files of evicted transaction lists are removed again");
        }
    }

    /// Removes the file of a list unless it is claimed or referenced.
    pub(super) fn remove(
        &self,
        system: &dyn FileSystem,
        hash: &B256,
        is_referenced: impl FnOnce() -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let claimed = lock(&self.claimed);
        if claimed.contains(hash) || is_referenced()? {
            return Ok(());
        }
        match retried(|| system.remove(&path(hash))) {
            Err(error) if !is_no_file(&error) => Err(io_fault(&error)),
            _ => Ok(()),
        }
    }

    /// Sweeps the next folder: removes unreferenced files that a crash has left. Returns whether a folder was left to sweep.
    pub(super) fn sweep(
        &self,
        system: &dyn FileSystem,
        is_referenced: impl Fn(&B256) -> Result<bool, StorageError>,
    ) -> Result<bool, StorageError> {
        let Some(folder) = FOLDERS.get(self.swept.fetch_add(1, Ordering::Relaxed)) else {
            self.swept.store(FOLDERS.len(), Ordering::Relaxed);
            return Ok(false);
        };
        for name in retried(|| system.list(folder)).map_err(|error| io_fault(&error))? {
            if let Ok(hash) = name.parse::<B256>() {
                self.remove(system, &hash, || is_referenced(&hash))?;
            }
        }
        Ok(true)
    }

    /// Starts the sweep over.
    pub(super) fn start_over(&self) {
        self.swept.store(0, Ordering::Relaxed);
    }
}
