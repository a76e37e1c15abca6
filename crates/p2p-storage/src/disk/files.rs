//! Large transaction lists: a file each, beside the database, which says which of them there are.
//!
//! A file and its name are on disk before the database names the list, and the database has forgotten the list
//! before its file is removed; nobody writes to the file of a list that is named. So whatever is named is whole.
//! What nobody names after a crash is written anew with its list, or removed: folder by folder, one with each
//! large list that is put.

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
    group::lock,
    owner::Owner,
};
use crate::StorageError;

/// The file system, as far as the lists need it. Paths are relative to the store's folder.
pub(super) trait FileSystem: Send + Sync {
    /// Creates a folder, unless it is there already; says whether it was not.
    fn create_folder(&self, path: &str) -> io::Result<bool>;
    /// Creates a file and returns when its bytes are on disk. Its name is not, until the folder is synced.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Returns when the names in a folder are on disk.
    fn sync_folder(&self, path: &str) -> io::Result<()>;
    /// Reads a file, at most `limit` bytes of it.
    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>>;
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a folder.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
}

/// A folder of the operating system's.
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
            // Nothing of ours: no list could be put there.
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
/// Its folders, by the first digit of the hash: some thousand files in each even of a large store.
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

/// Files that wait to be removed, of lists that the database has forgotten: some megabytes of names, were it more.
const MAX_DOOMED: usize = 64 * 1024;

/// What is known about the files beyond what the database says.
#[derive(Default)]
pub(super) struct Files {
    /// Lists that are being put.
    claimed: Mutex<HashSet<B256>>,
    /// One of them is done.
    released: Condvar,
    /// Lists that the database has forgotten, whose files are still there.
    doomed: Mutex<Vec<B256>>,
    /// Whether the last one that was to be removed could not be.
    failing: AtomicBool,
    /// Folders that have been looked through since the opening.
    swept: AtomicUsize,
}

/// The right to write the file of a list. Nobody else writes or removes it meanwhile.
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
    /// Makes the folders, so that no list has to. They are on disk when this returns, as they are before where that is
    /// `known` and none was missing: an opening after a crash has syncs enough to wait for.
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

    /// Waits until nobody else puts this list.
    pub(super) fn claim(&self, hash: B256) -> Claim<'_> {
        let mut claimed = lock(&self.claimed);
        while !claimed.insert(hash) {
            claimed = self.released.wait(claimed).unwrap_or_else(PoisonError::into_inner);
        }
        Claim { files: self, hash }
    }

    /// Writes the file of a list that the database does not name. It is on disk when this returns.
    pub(super) fn write(
        system: &dyn FileSystem,
        claim: &Claim<'_>,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        // Each try writes all of it: after a failed sync the system may take for written what it has lost.
        let written = retried(|| {
            system.write(&path(&claim.hash), bytes)?;
            system.sync_folder(folder(&claim.hash))
        });
        written.map_err(|error| {
            // What is left of it would be removed later all the same.
            drop(system.remove(&path(&claim.hash)));
            io_fault(&error)
        })
    }

    /// The bytes of a list, one more than `len` where there are more; none if there is no such file.
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

    /// The database has forgotten these; their files go when that is on disk. Of more than [`MAX_DOOMED`] the rest is
    /// found when the folders are looked through after the next opening.
    pub(super) fn doom(&self, hashes: impl IntoIterator<Item = B256>) {
        let mut doomed = lock(&self.doomed);
        let room = MAX_DOOMED.saturating_sub(doomed.len());
        doomed.extend(hashes.into_iter().take(room));
    }

    pub(super) fn doomed(&self) -> usize {
        lock(&self.doomed).len()
    }

    /// Removes the files of lists that the database has forgotten. What cannot be removed now waits for the next time;
    /// that is said once until it works again.
    pub(super) fn remove_doomed(
        &self,
        system: &dyn FileSystem,
        is_named: impl Fn(&B256) -> Result<bool, StorageError>,
    ) {
        let mut doomed = std::mem::take(&mut *lock(&self.doomed));
        if doomed.is_empty() {
            return;
        }
        while let Some(hash) = doomed.last() {
            if let Err(error) = self.remove(system, hash, || is_named(hash)) {
                let waiting = doomed.len();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, waiting, "cannot remove files of evicted transaction lists; trying again later");
                }
                self.doom(doomed);
                return;
            }
            doomed.pop();
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("files of evicted transaction lists are removed again");
        }
    }

    /// Removes the file of a list, unless somebody is writing it or the database names it.
    pub(super) fn remove(
        &self,
        system: &dyn FileSystem,
        hash: &B256,
        is_named: impl FnOnce() -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let claimed = lock(&self.claimed);
        if claimed.contains(hash) || is_named()? {
            return Ok(());
        }
        match retried(|| system.remove(&path(hash))) {
            Err(error) if !is_no_file(&error) => Err(io_fault(&error)),
            _ => Ok(()),
        }
    }

    /// Looks through the next folder that has not been looked through since the opening, and removes what a crash
    /// has left there. Whether there was one.
    pub(super) fn sweep(
        &self,
        system: &dyn FileSystem,
        is_named: impl Fn(&B256) -> Result<bool, StorageError>,
    ) -> Result<bool, StorageError> {
        let Some(folder) = FOLDERS.get(self.swept.fetch_add(1, Ordering::Relaxed)) else {
            self.swept.store(FOLDERS.len(), Ordering::Relaxed);
            return Ok(false);
        };
        for name in retried(|| system.list(folder)).map_err(|error| io_fault(&error))? {
            if let Ok(hash) = name.parse::<B256>() {
                self.remove(system, &hash, || is_named(&hash))?;
            }
        }
        Ok(true)
    }

    /// Looks through all folders again.
    pub(super) fn start_over(&self) {
        self.swept.store(0, Ordering::Relaxed);
    }
}
