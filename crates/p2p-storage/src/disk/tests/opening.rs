//! Who may open a store, and what that changes.

use std::{
    collections::BTreeMap,
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use p2p_types::{B256, Base};
use redb::{BackendError, Database, StorageBackend, backends::FileBackend};

use super::super::{
    DiskConfig, DiskStorage,
    files::{FileSystem, Folder},
    open::Source,
};
use crate::{
    CommitmentStore, EvidenceStore, Inserted, SdkStorage, StorageError, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, txlist},
};

fn config() -> DiskConfig {
    DiskConfig::recommended(DOMAIN)
}

/// A file on a file system that has no locks.
#[derive(Debug)]
struct NoLocks(FileBackend);

impl StorageBackend for NoLocks {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        // As NFS without its lock service says; others say that they do not know locks.
        Err(if cfg!(target_os = "linux") {
            BackendError::Io(std::io::Error::from_raw_os_error(37))
        } else {
            BackendError::Unsupported
        })
    }
}

/// A folder on such a file system.
struct Unlocked(Folder);

impl Source for Unlocked {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError> {
        self.0.open_as(builder, NoLocks)
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.0.len()
    }
}

impl FileSystem for Unlocked {
    fn create_folder(&self, path: &str) -> std::io::Result<bool> {
        self.0.create_folder(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write(path, bytes)
    }

    fn sync_folder(&self, path: &str) -> std::io::Result<()> {
        self.0.sync_folder(path)
    }

    fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        self.0.read(path, limit)
    }

    fn file_len(&self, path: &str) -> std::io::Result<u64> {
        self.0.file_len(path)
    }

    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.0.remove(path)
    }

    fn list(&self, path: &str) -> std::io::Result<Vec<String>> {
        self.0.list(path)
    }
}

fn open_unlocked(folder: &Path) -> Result<DiskStorage, StorageError> {
    DiskStorage::open_source(Box::new(Unlocked(Folder::new(folder))), config())
}

/// Set in the process that opens the store in this folder.
const FOLDER: &str = "P2P_STORAGE_TEST_UNLOCKED_STORE";

/// Runs a test of this file again, in a process of its own that finds the folder.
fn again(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("disk::tests::opening::{name}");
    command.args([&name, "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
    command
}

#[test]
fn without_locks_a_second_process_is_refused_while_the_first_lives() {
    const NAME: &str = "without_locks_a_second_process_is_refused_while_the_first_lives";
    if let Some(folder) = std::env::var_os(FOLDER) {
        match open_unlocked(folder.as_ref()) {
            Err(error) => println!("refused: {error}"),
            // Dies with the store open.
            Ok(store) => {
                store.set_base(Base::at(7)).unwrap();
                std::process::abort();
            }
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open_unlocked(folder.path()).unwrap();
    let me = std::process::id();
    assert_eq!(open_unlocked(folder.path()).unwrap_err(), StorageError::Locked { owner: Some(me) });
    let refused = again(NAME, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains(&format!("refused: the store is in use by process {me}")), "{said}");
    store.set_base(Base::at(3)).unwrap();
    // Closed in order it is free, and so it is when its owner has died.
    drop(store);
    assert!(!folder.path().join("owner").exists());
    let died = again(NAME, folder.path()).stderr(Stdio::null()).output().unwrap();
    assert!(!died.status.success() && folder.path().join("owner").exists());
    let store = open_unlocked(folder.path()).unwrap();
    assert_eq!(store.base(), Ok(Some(Base::at(7))));
}

#[test]
fn of_many_that_find_a_store_whose_owner_died_one_has_it() {
    const NAME: &str = "of_many_that_find_a_store_whose_owner_died_one_has_it";
    if let Some(folder) = std::env::var_os(FOLDER) {
        // Holds what it has until it is told that all have tried.
        let store = open_unlocked(folder.as_ref());
        println!("{}", if store.is_ok() { "has it" } else { "refused" });
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    drop(open_unlocked(folder.path()).unwrap());
    for _ in 0..8 {
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(folder.path().join("owner"), gone.id().to_string()).unwrap();
        let mut all: Vec<_> =
            (0..4).map(|_| again(NAME, folder.path()).stdin(Stdio::piped()).spawn().unwrap()).collect();
        let mut has_it = 0;
        let mut lines: Vec<_> = all
            .iter_mut()
            .map(|child| std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap())))
            .collect();
        for lines in &mut lines {
            let said =
                lines.map(Result::unwrap).find(|line| line.contains("has it") || line.contains("refused"));
            has_it += usize::from(said.unwrap().contains("has it"));
        }
        for child in &mut all {
            drop(child.stdin.take());
        }
        all.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
        assert_eq!(has_it, 1);
    }
}

/// All files below a folder, with their bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    found
}

/// Fills a store, and says what can be seen of it.
fn fill(store: &DiskStorage) {
    store.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
    chain(store, 20);
    assert!(store.put(1, txlist(1, 100)).unwrap() && store.put(2, txlist(2, 300_000)).unwrap());
    assert!(store.put_evidence(&equivocation(1, 5, [1, 2])).unwrap());
}

fn seen(store: &DiskStorage) -> impl PartialEq + std::fmt::Debug + use<> {
    let lists = [txlist(1, 100), txlist(2, 300_000)].map(|list| store.get(&list.hash()).unwrap());
    let rows: Vec<_> = (0..30).map(|height| store.at(height).unwrap()).collect();
    (
        lists,
        rows,
        store.head().unwrap(),
        store.base().unwrap(),
        store.stats().unwrap(),
        store.evidence().unwrap(),
    )
}

#[test]
fn a_store_opened_read_only_is_read_and_nothing_in_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    fill(&store);
    let before = seen(&store);
    let owner = Some(std::process::id());
    let open = || DiskStorage::open_read_only(folder.path(), config());
    assert_eq!(open().unwrap_err(), StorageError::Locked { owner }, "nobody may write meanwhile");
    drop(store);
    fs::remove_file(folder.path().join("owner")).unwrap();
    let files = tree(folder.path());
    let (one, another) = (open().unwrap(), open().unwrap());
    for store in [&one, &another] {
        assert_eq!(seen(store), before);
        assert!(store.verify().unwrap().is_sound());
    }
    // Whoever writes is refused, by the file and by us.
    assert!(matches!(DiskStorage::open(folder.path(), config()), Err(StorageError::Locked { .. })));
    let next = Judge::default().linked(&one, block(21, 21, one.head().unwrap().unwrap().hash, 1));
    let refused = StorageError::ReadOnly;
    assert_eq!(one.insert(next), Err(refused.clone()));
    assert_eq!(one.set_base(Base::at(5)), Err(refused.clone()));
    assert_eq!(one.put(1, txlist(9, 100)), Err(refused.clone()));
    assert_eq!(one.put(1, txlist(9, 300_000)), Err(refused.clone()));
    assert_eq!(one.discard(&txlist(1, 100).hash()), Err(refused.clone()));
    assert_eq!(one.put_evidence(&equivocation(2, 5, [1, 2])), Err(refused.clone()));
    assert_eq!((one.prune_below(9), one.compact()), (Err(refused.clone()), Err(refused)));
    drop((one, another));
    assert_eq!(tree(folder.path()), files);
    assert!(DiskStorage::open(folder.path(), config()).is_ok());
}

#[test]
fn a_store_as_a_crash_left_it_is_read_as_it_is() {
    // The bytes of a database that was not closed.
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    fill(&store);
    let before = seen(&store);
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in tree(folder.path()) {
        let to = copy.path().join(path.strip_prefix(folder.path()).unwrap());
        match bytes {
            None => fs::create_dir_all(to).unwrap(),
            Some(bytes) => {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
        }
    }
    let read = |path: &Path| {
        let files = tree(path);
        let store = DiskStorage::open_read_only(path, config()).unwrap();
        assert_eq!(seen(&store), before);
        assert!(store.verify().unwrap().is_sound());
        drop(store);
        assert_eq!(tree(path), files);
    };
    read(copy.path());
    // Only who opens it to write puts it in order.
    let files = tree(copy.path());
    assert_eq!(seen(&DiskStorage::open(copy.path(), config()).unwrap()), before);
    assert_ne!(tree(copy.path()), files);
}

#[test]
fn looking_at_nothing_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = DiskStorage::open_read_only(&missing, config()).unwrap_err();
    assert!(matches!(error, StorageError::Io(error) if error.kind() == std::io::ErrorKind::NotFound));
    assert!(!missing.exists());
}

#[test]
fn a_store_that_has_lost_its_database_is_not_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    fill(&store);
    drop(store);
    let database = folder.path().join("store.redb");
    fs::write(&database, b"").unwrap();
    let what = "the database, which is missing or empty";
    for _ in 0..2 {
        let refused = DiskStorage::open(folder.path(), config()).unwrap_err();
        assert_eq!(refused, StorageError::Corrupt { what });
        assert!(matches!(
            DiskStorage::open_read_only(folder.path(), config()),
            Err(StorageError::Corrupt { .. })
        ));
    }
    fs::remove_file(&database).unwrap();
    assert_eq!(DiskStorage::open(folder.path(), config()).unwrap_err(), StorageError::Corrupt { what });
    // An empty folder, or an empty file alone, as a crash at the very beginning leaves, is a new store.
    fs::remove_dir_all(folder.path().join("txlists")).unwrap();
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    store.set_base(Base::at(0)).unwrap();
    assert_eq!(Judge::default().insert(&store, block(1, 1, B256::ZERO, 1)), Ok(Inserted::New));
}
