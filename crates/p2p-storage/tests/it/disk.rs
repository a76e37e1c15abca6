//! The store on disk as a file: who has it, what outlives the process, many writers, and the one in memory as
//! the measure.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Barrier},
    thread,
};

use p2p_storage::{
    Batch, CommitmentStore, DiskConfig, DiskStorage, Durability, EvidenceStore, Inserted, MemoryStorage,
    NewCommitment, PromiseStore as _, SdkStorage, StorageError, StorageLimits, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, in_window, txlist},
};
use p2p_types::{B256, Base, Preconfirmation, SigningDomain, TxList, U256};
use p2p_validation::ValidationOutcome;

fn config() -> DiskConfig {
    DiskConfig::recommended(DOMAIN)
}

#[test]
fn what_was_stored_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    store.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
    let blocks = chain(&store, 5);
    let judge = Judge::default();
    let rival = block(5, 6, blocks[3].hash(), 9);
    assert!(matches!(judge.insert(&store, rival.clone()).unwrap(), Inserted::Superseded { .. }));
    assert_eq!(judge.insert(&store, block(6, 6, rival.hash(), 0)).unwrap(), Inserted::New);
    assert!(store.put(3, txlist(3, 1_000)).unwrap());
    assert!(store.put_evidence(&equivocation(1, 5, [1, 9])).unwrap());
    let seen = |store: &DiskStorage| {
        let by_hash = store.by_hash(&blocks[4].hash()).unwrap();
        let range = store.range(1, 256).unwrap();
        let beside = (store.at(6).unwrap(), store.evidence().unwrap());
        (range, by_hash, beside, store.stats().unwrap(), store.base().unwrap())
    };
    let before = seen(&store);
    drop(store);
    let store = DiskStorage::open(folder.path(), config()).unwrap();
    assert_eq!(seen(&store), before);
    assert_eq!(store.get(&txlist(3, 1_000).hash()).unwrap(), Some(txlist(3, 1_000)));
    assert_eq!(store.head().unwrap().unwrap().hash, rival.hash());
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_second_owner_is_told_who_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = DiskStorage::open(folder.path(), config()).unwrap();
    let owner = Some(std::process::id());
    assert_eq!(DiskStorage::open(folder.path(), config()).unwrap_err(), StorageError::Locked { owner });
    drop(first);
    assert!(DiskStorage::open(folder.path(), config()).is_ok());
}

/// Set in the process that is to be refused, to the store that another has open.
const TAKEN: &str = "P2P_STORAGE_TEST_TAKEN_STORE";

#[test]
fn another_process_is_told_who_has_the_file_and_changes_nothing() {
    const NAME: &str = "disk::another_process_is_told_who_has_the_file_and_changes_nothing";
    if let Some(folder) = std::env::var_os(TAKEN) {
        let error = DiskStorage::open(Path::new(&folder), config()).unwrap_err();
        println!("refused: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = DiskStorage::open(folder.path(), config()).unwrap();
    first.set_base(Base::at(0)).unwrap();
    let me = std::env::current_exe().unwrap();
    let other =
        Command::new(me).args([NAME, "--exact", "--nocapture"]).env(TAKEN, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    let expected = format!("refused: the store is in use by process {}", std::process::id());
    assert!(other.status.success() && said.contains(&expected), "{said}");
    assert_eq!(chain(&first, 3).len(), 3);
    drop(first);
    assert_eq!(DiskStorage::open(folder.path(), config()).unwrap().range(1, 9).unwrap().len(), 3);
}

#[test]
fn writers_and_pruning_go_on_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let relaxed = DiskConfig { durability: Durability::Relaxed, ..config() };
    let store = DiskStorage::open(folder.path(), relaxed).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let mut last = chain(&store, 400).pop().unwrap();
    store.set_base(Base::at(400)).unwrap();
    let judge = Judge::default();
    thread::scope(|scope| {
        let pruning = scope.spawn(|| store.prune_below(400).unwrap());
        for number in 401..450 {
            let next = block(number, number, last.hash(), 1);
            assert_eq!(judge.insert(&store, next.clone()).unwrap(), Inserted::New);
            last = next;
        }
        assert_eq!(pruning.join().unwrap(), 399);
    });
    assert_eq!(store.stats().unwrap().commitments, 50);
    assert_eq!(store.range(400, 256).unwrap().len(), 50);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_file_of_another_chain_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(DiskStorage::open(folder.path(), config()).unwrap());
    let other = SigningDomain::new(B256::repeat_byte(1));
    let error = DiskStorage::open(folder.path(), DiskConfig::recommended(other)).unwrap_err();
    assert_eq!(error, StorageError::OtherDomain { found: B256::from(*DOMAIN.as_bytes()) });
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.redb");
    std::fs::write(&file, vec![7; 10_000]).unwrap();
    let error = DiskStorage::open(folder.path(), config()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), vec![7; 10_000], "whose file it is has it still");
}

#[test]
fn a_relaxed_store_is_whole_after_an_orderly_end() {
    let folder = tempfile::tempdir().unwrap();
    let relaxed = DiskConfig { durability: Durability::Relaxed, ..config() };
    let store = DiskStorage::open(folder.path(), relaxed).unwrap();
    store.set_base(Base::at(0)).unwrap();
    chain(&store, 3);
    drop(store);
    let store = DiskStorage::open(folder.path(), relaxed).unwrap();
    assert_eq!(store.range(1, 9).unwrap().len(), 3);
}

#[test]
fn many_writers_at_once_are_all_answered_and_one_full_error_stops_nobody_else() {
    const WRITERS: u8 = 8;
    let folder = tempfile::tempdir().unwrap();
    let limits = StorageLimits { txlist_bytes: 100_000, ..StorageLimits::default() };
    let store = Arc::new(DiskStorage::open(folder.path(), DiskConfig { limits, ..config() }).unwrap());
    store.set_base(Base::at(0)).unwrap();
    let start = Arc::new(Barrier::new(usize::from(WRITERS)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, start) = (store.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                for round in 0..20 {
                    let list = txlist(writer, 100 + round);
                    assert!(store.put(1, list.clone()).unwrap());
                    assert_eq!(store.get(&list.hash()).unwrap(), Some(list), "what returned is there");
                    let too_large = store.put(1, txlist(writer, 200_000));
                    assert!(matches!(too_large, Err(StorageError::Full { .. })));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(store.stats().unwrap().txlists, usize::from(WRITERS) * 20);
    assert!(store.verify().unwrap().is_sound());
}

/// Set in the process whose store lies on a small file system, to where that is.
const SMALL: &str = "P2P_STORAGE_TEST_SMALL_FILE_SYSTEM";

/// On a file system of its own, where the system lets the test mount one.
#[test]
fn a_full_file_system_is_an_error_and_writing_goes_on_when_there_is_space() {
    const NAME: &str = "disk::a_full_file_system_is_an_error_and_writing_goes_on_when_there_is_space";
    if let Some(folder) = std::env::var_os(SMALL) {
        return fill_up(folder.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=8m none \"$1\" || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", mount, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(SMALL, folder.path())
        .output();
    match run {
        Ok(run) if run.status.success() => {
            assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{run:?}");
        }
        // No such command, or not allowed to: the unit tests fill a disk of their own.
        Err(_) => println!("skipped: no unshare"),
        Ok(run)
            if run.status.code() == Some(77) || String::from_utf8_lossy(&run.stderr).contains("unshare") =>
        {
            println!("skipped: {}", String::from_utf8_lossy(&run.stderr));
        }
        Ok(run) => {
            panic!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
        }
    }
}

fn fill_up(folder: &Path) {
    let (store, ballast) = (folder.join("store"), folder.join("ballast"));
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let store = DiskStorage::open(store, config()).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let (judge, mut blocks) = (Judge::default(), chain(&store, 20));
    let large = |number: u32| {
        let bytes: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(300_000).collect();
        TxList::new(bytes.into(), 300_000).unwrap()
    };
    let (mut lists, mut failures) = (Vec::new(), 0);
    for number in 0..60 {
        match store.put(u64::from(number), large(number)) {
            Ok(_) => lists.push(number),
            Err(error) => {
                assert_eq!(error, StorageError::NoSpace);
                failures += 1;
            }
        }
    }
    assert!(lists.len() > 5 && failures > 20, "{} stored, {failures} failed", lists.len());
    // Commitments need less; they find the disk full in the end as well.
    let mut insert = |number: u64| {
        let made = block(number, number, blocks.last().unwrap().hash(), 1);
        let inserted = judge.insert(&store, made.clone());
        if inserted.is_ok() {
            blocks.push(made);
        }
        inserted
    };
    let mut next = 21..;
    let full = next.find_map(|number| insert(number).err());
    assert_eq!(full, Some(StorageError::NoSpace));
    let stored = store.stats().unwrap().commitments as u64;
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(insert(stored + 1).unwrap(), Inserted::New);
    assert!(store.put(99, large(99)).unwrap());
    lists.push(99);
    drop(store);
    let store = DiskStorage::open(folder.join("store"), config()).unwrap();
    for (number, made) in (1..).zip(&blocks) {
        assert_eq!(store.by_block(number).unwrap().unwrap().hash(), made.hash());
    }
    for number in lists {
        assert_eq!(store.get(&large(number).hash()).unwrap(), Some(large(number)));
    }
    assert!(store.verify().unwrap().is_sound());
}

/// Set in the process that may open few files only, to the folder of its store.
const FEW: &str = "P2P_STORAGE_TEST_FEW_DESCRIPTORS";

#[cfg(unix)]
#[test]
fn too_many_open_files_is_an_error_that_passes_and_costs_nothing_acknowledged() {
    const NAME: &str = "disk::too_many_open_files_is_an_error_that_passes_and_costs_nothing_acknowledged";
    if let Some(folder) = std::env::var_os(FEW) {
        return run_out_of_descriptors(folder.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let few = Command::new("sh")
        .args(["-c", "ulimit -n 48 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FEW, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&few.stdout);
    assert!(
        few.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&few.stderr)
    );
}

#[cfg(unix)]
fn run_out_of_descriptors(folder: &Path) {
    let store = DiskStorage::open(folder, config()).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let blocks = chain(&store, 5);
    let large = |fill| txlist(fill, 300_000);
    assert!(store.put(1, large(1)).unwrap());
    let mut all = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        all.push(file);
    }
    for failed in [store.put(2, large(2)).map(drop), store.get(&large(1).hash()).map(drop)] {
        let error = failed.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("os error 24"), "{error}");
    }
    // What needs no file of its own goes on.
    let next = block(6, 6, blocks[4].hash(), 1);
    assert_eq!(Judge::default().insert(&store, next).unwrap(), Inserted::New);
    assert!(store.put(3, txlist(3, 100)).unwrap());
    drop(all);
    assert!(store.put(2, large(2)).unwrap());
    assert_eq!(store.get(&large(1).hash()).unwrap(), Some(large(1)));
    drop(store);
    let store = DiskStorage::open(folder, config()).unwrap();
    assert_eq!((store.range(1, 9).unwrap().len(), store.stats().unwrap().txlists), (6, 3));
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn only_a_store_that_syncs_every_write_keeps_promises() {
    let folder = tempfile::tempdir().unwrap();
    let keeps = |durability| {
        let config = DiskConfig { durability, ..config() };
        DiskStorage::open(folder.path(), config).unwrap().keeps_promises()
    };
    assert!(keeps(Durability::Immediate));
    assert!(!keeps(Durability::Relaxed));
    assert!(!MemoryStorage::default().keeps_promises());
}

/// A random step, the same on both stores; their answers and all that can be seen of them must agree.
#[test]
fn both_stores_answer_alike_whatever_happens() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let limits = StorageLimits {
            commitments: 40,
            non_canonical: 9,
            txlists: 12,
            txlist_bytes: 2_000,
            evidence: 5,
        };
        let relaxed = DiskConfig { limits, durability: Durability::Relaxed, ..config() };
        let (memory, mut disk) =
            (MemoryStorage::new(limits), DiskStorage::open(folder.path(), relaxed).unwrap());
        let judge = Judge::default();
        assert_eq!(memory.set_base(Base::at(0)), disk.set_base(Base::at(0)));
        let mut known: Vec<Preconfirmation> = Vec::new();
        for step in 0..300_u64 {
            match rng.u8(0..20) {
                0..12 => {
                    // On one of the last blocks, or where a chain begins.
                    let recent = known.len().saturating_sub(6);
                    let lowest = memory.base().unwrap().unwrap().next();
                    let (number, parent) = match rng.usize(recent..=known.len()) {
                        at if at < known.len() => (known[at].block_number.to::<u64>() + 1, known[at].hash()),
                        _ => (lowest, B256::repeat_byte(rng.u8(0..3))),
                    };
                    let made = Preconfirmation {
                        anchor_block_number: U256::from(number),
                        ..block(number, number + rng.u64(0..3), parent, rng.u8(0..4))
                    };
                    let list = txlist(rng.u8(0..30), rng.usize(1..400));
                    let mut made = in_window(rng.u8(0..3), made);
                    if !made.is_eop_only() && rng.bool() {
                        made.raw_tx_list_hash = list.hash();
                    }
                    if let ValidationOutcome::Accept(linked) = judge.judge(&memory, made.clone()) {
                        let eop = made.is_eop_only();
                        let commitments = vec![NewCommitment { linked, txlist: Some(list) }];
                        let batch = Batch { commitments, txlists: Vec::new() };
                        let answer = memory.apply(batch.clone());
                        assert_eq!(answer, disk.apply(batch), "seed {seed} step {step}");
                        if answer.commitments[0].inserted.is_ok() && !eop {
                            known.push(made);
                        }
                    }
                }
                12..16 => {
                    let (list, at) = (txlist(rng.u8(0..30), rng.usize(1..400)), rng.u64(0..step + 2));
                    assert_eq!(memory.put(at, list.clone()), disk.put(at, list), "seed {seed} step {step}");
                }
                16 | 17 => {
                    let head = memory.head().unwrap().map_or(0, |head| head.number);
                    let number = head.saturating_sub(rng.u64(0..4));
                    let ours = memory.by_block(number).unwrap().map(|found| found.hash());
                    let hash = [None, ours, Some(B256::repeat_byte(9))][rng.usize(0..3)];
                    let base = Base { number, hash };
                    assert_eq!(memory.set_base(base), disk.set_base(base), "seed {seed} step {step}");
                }
                18 if step % 2 == 0 => {
                    let made = equivocation(rng.u8(1..4), rng.u64(0..20), [1, 2]);
                    assert_eq!(memory.put_evidence(&made), disk.put_evidence(&made));
                    assert_eq!(memory.evidence(), disk.evidence(), "seed {seed} step {step}");
                }
                18 if step % 3 == 0 => {
                    let head = memory.head().unwrap().map_or(0, |head| head.number);
                    let anchor = head.saturating_sub(rng.u64(0..4));
                    let (ours, theirs) = if rng.bool() {
                        (memory.withdraw(anchor), disk.withdraw(anchor))
                    } else {
                        (memory.reinstate(anchor), disk.reinstate(anchor))
                    };
                    assert_eq!(ours, theirs, "seed {seed} step {step}");
                }
                18 => {
                    let below = rng.u64(0..60);
                    assert_eq!(memory.prune_below(below), disk.prune_below(below));
                }
                _ => {
                    drop(disk);
                    disk = DiskStorage::open(folder.path(), relaxed).unwrap();
                }
            }
            assert_eq!(memory.head(), disk.head(), "seed {seed} step {step}");
            assert_eq!(memory.stats(), disk.stats(), "seed {seed} step {step}");
            let from = rng.u64(0..40);
            assert_eq!(memory.range(from, 9), disk.range(from, 9));
            assert_eq!(memory.at(from), disk.at(from));
            if !known.is_empty() {
                let one = known[rng.usize(0..known.len())].hash();
                assert_eq!(memory.by_hash(&one), disk.by_hash(&one));
            }
        }
        assert!(disk.verify().unwrap().is_sound(), "{:?}", disk.verify());
    }
}
