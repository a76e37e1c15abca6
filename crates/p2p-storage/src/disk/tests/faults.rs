//! A disk that fails now and then, or for a while.

use p2p_types::{B256, Base};

use super::{
    super::{
        DiskConfig, DiskStorage, Durability,
        sim_disk::{Call, SimDisk},
    },
    list, name, names, open,
};
use crate::{
    CommitmentStore, Inserted, MemoryStorage, SdkStorage, StorageError, StorageLimits, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, txlist},
};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

fn is(error: &StorageError, code: i32) -> bool {
    matches!(error, StorageError::Io(error) if error.raw_os_error() == Some(code)) && error.is_retryable()
}

#[test]
fn what_fails_once_is_tried_again_and_not_told() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let (judge, mut parent) = (Judge::default(), B256::ZERO);
    let calls = [Call::Read, Call::Write, Call::Sync, Call::WriteFile, Call::Remove];
    for (number, (call, code)) in (1..).zip(calls.iter().flat_map(|call| [(*call, EINTR), (*call, EIO)])) {
        disk.fail(call, 2, code);
        let made = block(number, number, parent, 1);
        parent = made.hash();
        assert_eq!(judge.insert(&store, made), Ok(Inserted::New), "{call:?} {code}");
        assert_eq!(store.put(number, list(number * 8)), Ok(true), "{call:?} {code}");
        assert_eq!(store.get(&list(number * 8).hash()), Ok(Some(list(number * 8))), "{call:?} {code}");
        assert_eq!(store.discard(&list(number * 8).hash()), Ok(Some(number)), "{call:?} {code}");
    }
    assert_eq!(names(&disk), [""; 0]);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn what_fails_for_longer_is_told_in_the_systems_words_and_the_store_goes_on() {
    for call in [Call::Read, Call::Write, Call::Sync, Call::WriteFile] {
        let disk = SimDisk::default();
        let store = open(&disk).unwrap();
        store.set_base(Base::at(0)).unwrap();
        let blocks = chain(&store, 30);
        assert!(store.put(1, list(8)).unwrap());
        disk.fail(call, 1_000, EIO);
        let asked = match call {
            Call::Read => store.get(&list(8).hash()).map(drop),
            _ => store.put(2, list(16)).map(drop),
        };
        let error = asked.unwrap_err();
        assert!(is(&error, EIO) && error.to_string().contains("os error 5"), "{call:?}: {error}");
        disk.set_fails(|_| None);
        // It may have been done.
        store.put(2, list(16)).unwrap();
        let next = block(31, 31, blocks[29].hash(), 1);
        assert_eq!(Judge::default().insert(&store, next).unwrap(), Inserted::New);
        drop(store);
        let store = open(&disk).unwrap();
        assert_eq!(store.range(1, 256).unwrap().len(), 31);
        assert!([8, 16].iter().all(|number| store.get(&list(*number).hash()) == Ok(Some(list(*number)))));
        assert!(store.verify().unwrap().is_sound());
    }
}

#[test]
fn a_sync_that_failed_is_not_believed_afterwards() {
    // Tried again at once, or by the next caller.
    for times in [1, 2, 20] {
        let disk = SimDisk::recording();
        let store = open(&disk).unwrap();
        store.set_base(Base::at(0)).unwrap();
        let mut known: Vec<_> = chain(&store, 3).iter().map(|block| block.hash()).collect();
        // Validated against another store, which can always be read.
        let (judge, twin) = (Judge::default(), MemoryStorage::default());
        twin.set_base(Base::at(0)).unwrap();
        chain(&twin, 3);
        disk.fail(Call::Sync, times, EIO);
        for number in 0..30 {
            let made = block(known.len() as u64 + 1, known.len() as u64 + 1, known[known.len() - 1], 1);
            let linked = judge.linked(&twin, made.clone());
            match store.insert(linked.clone()) {
                // What was told as failed may have been done.
                Ok(Inserted::New | Inserted::Known) => {
                    known.push(made.hash());
                    drop(twin.insert(linked).unwrap());
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert!(is(&error, EIO), "{error}");
                    continue;
                }
            }
            let power_lost = SimDisk::of(disk.certain(), disk.tree());
            let again = open(&power_lost).unwrap();
            assert!(known.iter().all(|hash| again.by_hash(hash).unwrap().is_some()), "{times} {number}");
        }
        assert!(known.len() > 3);
    }
}

#[test]
fn nothing_acknowledged_is_lost_on_a_disk_that_fails_now_and_then() {
    let (mut failed, mut stored) = (0, 0);
    for seed in 0..20 {
        let disk = SimDisk::recording();
        let store = open(&disk).unwrap();
        store.set_base(Base::at(0)).unwrap();
        let (mut rng, mut bad) = (fastrand::Rng::with_seed(seed), 0);
        disk.set_fails(move |_| {
            // Single failures, and runs of them.
            bad = match (bad, rng.u8(0..40)) {
                (0, 0) => rng.usize(1..12),
                (left, _) => left.saturating_sub(1),
            };
            (bad > 0).then(|| [EINTR, EIO, EMFILE][rng.usize(0..3)])
        });
        let (judge, twin) = (Judge::default(), MemoryStorage::default());
        twin.set_base(Base::at(0)).unwrap();
        let (mut known, mut lists) = (vec![B256::ZERO], Vec::new());
        for number in 1..60 {
            let height = known.len() as u64;
            let made = block(height, height, known[known.len() - 1], 1);
            let linked = judge.linked(&twin, made.clone());
            match store.insert(linked.clone()) {
                Ok(_) => {
                    known.push(made.hash());
                    drop(twin.insert(linked).unwrap());
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    failed += 1;
                }
            }
            match store.put(number, list(number)) {
                Ok(_) => lists.push(number),
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    failed += 1;
                }
            }
        }
        disk.set_fails(|_| None);
        stored += known.len() + lists.len();
        let whole = |store: &DiskStorage| {
            assert!(known[1..].iter().all(|hash| store.by_hash(hash).unwrap().is_some()), "{seed}");
            assert!(
                lists.iter().all(|list_of| store.get(&list(*list_of).hash()) == Ok(Some(list(*list_of))))
            );
        };
        whole(&store);
        assert!(store.verify().unwrap().is_sound());
        whole(&open(&SimDisk::of(disk.certain(), disk.tree())).unwrap());
        drop(store);
        whole(&open(&disk).unwrap());
    }
    println!("{stored} stored, {failed} failed");
    assert!(failed > 20 && stored > 1_000, "{stored} stored, {failed} failed");
}

#[test]
fn a_file_that_cannot_be_removed_costs_nobody_and_goes_later() {
    for durability in [Durability::Immediate, Durability::Relaxed] {
        let disk = SimDisk::default();
        let limits = StorageLimits { txlist_bytes: 45_000, ..StorageLimits::default() };
        let config = DiskConfig { limits, durability, file_bytes: 10_000, ..DiskConfig::recommended(DOMAIN) };
        let store = DiskStorage::open_source(Box::new(disk.clone()), config).unwrap();
        store.set_base(Base::at(90)).unwrap();
        disk.fail(Call::Remove, usize::MAX, EIO);
        for number in 1..=4 {
            assert_eq!(store.put(number, list(number * 8)), Ok(true));
            store.sync().unwrap();
        }
        // Those that went for others, and one that was forgotten.
        assert_eq!(store.discard(&list(32).hash()), Ok(Some(4)));
        store.sync().unwrap();
        assert_eq!((store.unremoved_files(), names(&disk).len()), (3, 4));
        // One of them comes again: its file is not removed any more.
        assert_eq!(store.put(5, list(8)), Ok(true));
        disk.set_fails(|_| None);
        assert_eq!(store.put(6, list(1)), Ok(true));
        store.sync().unwrap();
        assert_eq!(store.unremoved_files(), 0);
        let mut left = names(&disk);
        left.sort();
        let mut expected = [name(&list(8)), name(&list(24))];
        expected.sort();
        assert_eq!(left, expected);
        assert!(store.verify().unwrap().is_sound());
    }
}

#[test]
fn a_corrupt_list_is_replaced_when_it_is_put_again_or_discarded() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let large = list(8);
    let rot = || {
        let path = disk.tree().into_keys().next().unwrap();
        let mut bytes = disk.tree().remove(&path).unwrap();
        bytes[100] ^= 1;
        super::FileSystem::write(&disk, &path, &bytes).unwrap();
    };
    assert!(store.put(1, large.clone()).unwrap());
    rot();
    assert!(matches!(store.get(&large.hash()), Err(StorageError::Corrupt { .. })));
    assert!(store.contains(&large.hash()).unwrap());
    assert_eq!(store.put(2, large.clone()), Ok(true), "replaced");
    assert_eq!(store.get(&large.hash()), Ok(Some(large.clone())));
    assert_eq!(store.put(2, large.clone()), Ok(false));
    // Missing altogether.
    let path = disk.tree().into_keys().next().unwrap();
    super::FileSystem::remove(&disk, &path).unwrap();
    let again = store.apply(vec![(3, txlist(1, 50)), (3, large.clone())].into());
    assert_eq!(again.txlists, [Ok(true), Ok(true)]);
    rot();
    assert_eq!(store.discard(&large.hash()), Ok(Some(3)));
    assert_eq!((store.get(&large.hash()), names(&disk).len()), (Ok(None), 0));
    assert_eq!(store.put(4, large.clone()), Ok(true));
    let stats = store.stats().unwrap();
    assert_eq!((stats.txlists, stats.txlist_bytes), (2, 50 + large.bytes().len()));
    assert!(store.verify().unwrap().is_sound());
    // A small one of a store whose lists were files once.
    rot();
    drop(store);
    let config = DiskConfig { file_bytes: usize::MAX, ..DiskConfig::recommended(DOMAIN) };
    let store = DiskStorage::open_source(Box::new(disk.clone()), config).unwrap();
    assert_eq!(store.put(4, large.clone()), Ok(true));
    assert_eq!((store.get(&large.hash()), names(&disk).len()), (Ok(Some(large)), 0));
    assert_eq!(store.stats().unwrap().txlists, 2);
}
