//! The store on a disk that loses power, is full, or forgets bits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod faults;
mod opening;

use std::collections::HashMap;

use p2p_types::{B256, Base, Preconfirmation, TxList};

use super::{
    DiskConfig, DiskStorage, Durability, Problem, STEP,
    files::FileSystem,
    sim_disk::{Event, OnDisk, SimDisk, apply},
};
use crate::{
    Batch, CommitmentStore, EvidenceStore, Inserted, NewCommitment, PublishLog, SdkStorage, StorageError,
    StorageLimits, StoredCommitment, StoredEvidence, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, txlist},
};

fn open(disk: &SimDisk) -> Result<DiskStorage, StorageError> {
    open_with(disk, Durability::Immediate)
}

fn open_with(disk: &SimDisk, durability: Durability) -> Result<DiskStorage, StorageError> {
    // A small cache, so that pages are read from the disk; small files.
    let (cache_bytes, file_bytes) = (64 * 1024, 10_000);
    let config = DiskConfig { durability, cache_bytes, file_bytes, ..DiskConfig::recommended(DOMAIN) };
    DiskStorage::open_source(Box::new(disk.clone()), config)
}

/// A list that its number names.
fn list(number: u64) -> TxList {
    let len = if number.is_multiple_of(8) { 20_000 } else { 100 + usize::try_from(number % 97).unwrap() };
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(len).collect();
    TxList::new(bytes.into(), len).unwrap()
}

/// What was acknowledged, and after how many events.
enum Acknowledged {
    Block { height: u64, hash: B256 },
    List(B256),
    Base(u64),
}

#[test]
fn power_loss_loses_nothing_acknowledged_and_leaves_nothing_torn() {
    let (points, acknowledged, lost) = lose_power(Durability::Immediate, 110, 10);
    println!("{points} crash points, {acknowledged} acknowledged, {lost} lost or corrupt");
    assert!(points >= 2_000, "{points}");
    assert_eq!(lost, 0);
}

#[test]
fn a_relaxed_store_loses_what_it_has_not_synced() {
    let (_, _, lost) = lose_power(Durability::Relaxed, 10, 2);
    assert!(lost > 0, "the test above could not fail");
}

/// Fills a store, and looks at what is left if the power goes at each sync, in some variants. Returns how many
/// crash points there were, how much was acknowledged, and how much of it was lost or corrupt, all added up.
fn lose_power(durability: Durability, blocks: u64, variants: usize) -> (usize, usize, usize) {
    let disk = SimDisk::recording();
    let store = open_with(&disk, durability).unwrap();
    let (judge, mut said) = (Judge::default(), Vec::new());
    store.set_base(Base::at(0)).unwrap();
    let opened = disk.happened();
    let mut parent = B256::ZERO;
    for number in 1..=blocks {
        let made = block(number, number, parent, 1);
        let rival = block(number, number, parent, 2);
        if number.is_multiple_of(7) {
            // Superseded at once: history must outlive the power too.
            assert_eq!(judge.insert(&store, rival.clone()).unwrap(), Inserted::New);
            said.push((disk.happened(), Acknowledged::Block { height: number, hash: rival.hash() }));
        }
        // Some come with their lists, some before them.
        let together = number.is_multiple_of(2) && !number.is_multiple_of(7);
        let hash = list(number).hash();
        let made = if together { Preconfirmation { raw_tx_list_hash: hash, ..made } } else { made };
        parent = made.hash();
        let txlist = together.then(|| list(number));
        let new = NewCommitment { linked: judge.linked(&store, made), txlist };
        let applied = store.apply(Batch { commitments: vec![new], ..Batch::default() });
        assert!(applied.commitments[0].inserted.is_ok());
        said.push((disk.happened(), Acknowledged::Block { height: number, hash: parent }));
        assert_eq!(store.put(number, list(number)), Ok(!together));
        said.push((disk.happened(), Acknowledged::List(hash)));
        if number.is_multiple_of(20) {
            store.set_base(Base::at(number - 10)).unwrap();
            said.push((disk.happened(), Acknowledged::Base(number - 10)));
            store.prune_below(number - 15).unwrap();
        }
    }
    drop(store);
    let events = disk.events();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut on_disk = OnDisk::default();
    let (mut points, mut lost) = (0_usize, 0);
    for (index, event) in events.iter().enumerate() {
        if !event.is_sync() {
            on_disk.happen(event);
            continue;
        }
        if index >= opened {
            for variant in 0..variants {
                // The power goes before this sync ends: at most a part of what was written is there.
                let OnDisk { bytes, unsynced, files } = &on_disk;
                let until = if variant < 3 { unsynced.len() } else { rng.usize(0..=unsynced.len()) };
                let mut image = bytes.clone();
                for event in &unsynced[..until] {
                    match variant {
                        0 => apply(&mut image, event, || true),
                        1 => apply(&mut image, event, || false),
                        2 | 3 => apply(&mut image, event, || rng.bool()),
                        4..7 => {
                            let keep = rng.bool();
                            apply(&mut image, event, || keep);
                        }
                        _ => apply(&mut image, event, || rng.u8(0..10) > 0),
                    }
                }
                let tree = match variant {
                    0 => files.survive(|| true),
                    1 => files.survive(|| false),
                    _ => files.survive(|| rng.bool()),
                };
                points += 1;
                lost += missing(&SimDisk::of(image, tree), &said, index, points.is_multiple_of(8));
            }
        }
        on_disk.happen(event);
    }
    (points, said.len(), lost)
}

/// How much of what was acknowledged before an event is not there or not as it was, and how much else `verify`
/// finds where it is asked.
fn missing(disk: &SimDisk, said: &[(usize, Acknowledged)], event: usize, verify: bool) -> usize {
    let store = match open(disk) {
        Ok(store) => store,
        Err(error) => {
            eprintln!("event {event}: {error}");
            return 1;
        }
    };
    let before = || said.iter().take_while(|(at, _)| *at <= event).map(|(_, said)| said);
    let base =
        before().filter_map(|said| if let Acknowledged::Base(base) = said { Some(*base) } else { None });
    let base = base.last().unwrap_or(0);
    let kept = |said: &&Acknowledged| match said {
        // What is settled may have been pruned.
        Acknowledged::Block { height, hash } => {
            *height < base || store.by_hash(hash).unwrap().is_some_and(|found| found.block == *height)
        }
        Acknowledged::List(hash) => store.get(hash).unwrap().is_some(),
        Acknowledged::Base(_) => store.base().unwrap().is_some_and(|found| found.number >= base),
    };
    // Acknowledged or not, no block is there without the list that came with it.
    let has_list = |stored: &StoredCommitment| {
        let hash = list(stored.block).hash();
        stored.txlist_hash() != hash || store.contains(&hash).unwrap()
    };
    let torn = store.range(base + 1, 256).unwrap().iter().filter(|stored| !has_list(stored)).count();
    let gone = torn + before().filter(|said| !kept(said)).count();
    if !verify {
        return gone;
    }
    let verified = store.verify().unwrap();
    let counted = usize::from(verified.sound != store.stats().unwrap());
    if gone + verified.problems.len() + counted > 0 {
        eprintln!("event {event}: {gone} gone, {:?}", verified.problems);
    }
    gone + verified.problems.len() + counted
}

#[test]
fn a_full_disk_is_an_error_reading_goes_on_and_writing_when_there_is_space() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let blocks = chain(&store, 20);
    disk.set_room(disk.used() + 256 * 1024);
    let mut stored = Vec::new();
    let full = (1..200).find_map(|number| match store.put(number, list(number * 8)) {
        Ok(_) => {
            stored.push(number * 8);
            None
        }
        Err(error) => Some(error),
    });
    assert!(stored.len() > 5, "some had room");
    assert_eq!(full, Some(StorageError::NoSpace));
    assert!(full.is_some_and(|full| full.is_retryable()));
    let all_there = || {
        assert_eq!(store.range(1, 256).unwrap().len(), blocks.len());
        for number in &stored {
            assert_eq!(store.get(&list(*number).hash()).unwrap(), Some(list(*number)));
        }
    };
    all_there();
    for number in 300..310 {
        assert_eq!(store.put(number, list(number * 8)), Err(StorageError::NoSpace));
        all_there();
    }
    // What is too small for a file finds the disk full as well, in the end.
    let full = (1..5_000).find_map(|number| store.put(number, list(number * 8 + 1)).err());
    assert_eq!(full, Some(StorageError::NoSpace));
    all_there();
    disk.set_room(usize::MAX);
    assert!(store.put(400, list(3_200)).unwrap());
    all_there();
    assert!(store.verify().unwrap().is_sound());
}

/// All that is in a store.
struct Contents {
    blocks: Vec<Preconfirmation>,
    stored: HashMap<B256, StoredCommitment>,
    lists: Vec<TxList>,
}

impl Contents {
    fn fill(store: &DiskStorage) -> Self {
        store.set_base(Base::at(0)).unwrap();
        let blocks = chain(store, 30);
        let lists: Vec<_> = (1..=16).map(list).chain([txlist(1, 1)]).collect();
        for (number, list) in (1..).zip(&lists) {
            assert!(store.put(number, list.clone()).unwrap());
        }
        assert!(store.put_evidence(&equivocation(1, 5, [1, 2])).unwrap());
        store.record_published(&blocks.iter().map(Preconfirmation::hash).collect::<Vec<_>>()).unwrap();
        let stored =
            blocks.iter().map(|block| (block.hash(), store.by_hash(&block.hash()).unwrap().unwrap()));
        Self { stored: stored.collect(), blocks, lists }
    }

    /// Reads everything; panics if anything is served that is not what was stored. Whether all was there.
    fn read(&self, store: &DiskStorage) -> bool {
        let mut whole = true;
        let mut served =
            |answer: Result<Option<StoredCommitment>, StorageError>, block: &Preconfirmation| match answer {
                Ok(Some(found)) => assert_eq!(Some(&found), self.stored.get(&block.hash())),
                Ok(None) | Err(_) => whole = false,
            };
        for (number, block) in (1..).zip(&self.blocks) {
            served(store.by_hash(&block.hash()), block);
            served(store.by_block(number), block);
        }
        match store.range(1, 256) {
            Ok(run) => {
                for (found, block) in run.iter().zip(&self.blocks) {
                    assert_eq!(Some(found), self.stored.get(&block.hash()));
                }
                whole &= run.len() == self.blocks.len();
            }
            Err(_) => whole = false,
        }
        for list in &self.lists {
            match store.get(&list.hash()) {
                Ok(Some(found)) => assert_eq!(&found, list),
                Ok(None) | Err(_) => whole = false,
            }
        }
        match store.evidence() {
            Ok(found) if !found.is_empty() => {
                assert_eq!(found, [StoredEvidence::from(&equivocation(1, 5, [1, 2]))]);
            }
            _ => whole = false,
        }
        whole
    }
}

#[test]
fn the_publish_log_outlives_a_restart() {
    let disk = SimDisk::default();
    let hash = |byte| B256::repeat_byte(byte);
    let store = open(&disk).unwrap();
    assert!(!store.is_published(&hash(1)).unwrap());
    store.record_published(&[hash(1), hash(2)]).unwrap();
    store.record_published(&[hash(3)]).unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    for byte in 1..=4 {
        assert_eq!(store.is_published(&hash(byte)).unwrap(), byte < 4);
    }
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_flipped_bit_is_never_served_and_is_found() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    let contents = Contents::fill(&store);
    assert!(contents.read(&store) && store.verify().unwrap().is_sound());
    drop(store);
    let (good, tree) = (disk.bytes(), disk.tree());
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut harmed, mut refused, mut found) = (0, 0, 0);
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut flip = |disk: &SimDisk| disk.flip(used[rng.usize(0..used.len())], rng.u8(0..8));
    for _ in 0..200 {
        let disk = SimDisk::of(good.clone(), tree.clone());
        flip(&disk);
        match open(&disk) {
            Ok(store) => {
                assert!(contents.read(&store) && store.verify().unwrap().is_sound(), "was not in use")
            }
            Err(error) => {
                assert_eq!(error, StorageError::Corrupt { what: "the database" });
                refused += 1;
            }
        }
    }
    // Under a store that is open already.
    for _ in 0..300 {
        let disk = SimDisk::of(good.clone(), tree.clone());
        let store = open(&disk).unwrap();
        flip(&disk);
        let sound = store.verify().is_ok_and(|report| report.is_sound());
        found += usize::from(!sound);
        if !contents.read(&store) {
            harmed += 1;
            assert!(!sound, "something cannot be read, and verify says that all is well");
        }
    }
    println!(
        "{refused} of 200 refused at opening; of 300 {found} found by verify, {harmed} seen by readers, 0 served"
    );
    assert!(refused > 20 && harmed > 0 && found >= harmed);
}

#[test]
fn a_list_whose_file_is_bad_or_missing_is_never_served_and_is_found() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    let contents = Contents::fill(&store);
    drop(store);
    let (bytes, good) = (disk.bytes(), disk.tree());
    assert_eq!(good.len(), 2, "those of 20,000 bytes");
    let mut rng = fastrand::Rng::with_seed(4);
    for (path, list) in &good {
        for harm in 0..40 {
            let (mut tree, mut bad) = (good.clone(), list.clone());
            match harm {
                0 => drop(tree.remove(path)),
                1 => drop(tree.insert(path.clone(), Vec::new())),
                2 => {
                    bad.push(0);
                    tree.insert(path.clone(), bad);
                }
                3 => {
                    bad.pop();
                    tree.insert(path.clone(), bad);
                }
                _ => {
                    bad[rng.usize(0..list.len())] ^= 1 << rng.u8(0..8);
                    tree.insert(path.clone(), bad);
                }
            }
            let store = open(&SimDisk::of(bytes.clone(), tree)).unwrap();
            assert!(!contents.read(&store), "{path}");
            let report = store.verify().unwrap();
            assert!(
                matches!(report.problems[..], [Problem::TxList(hash)] if path.ends_with(&format!("{hash:x}")))
            );
            // What keeps it for another block looks at its length alone.
            let Problem::TxList(hash) = report.problems[0] else { unreachable!() };
            let seen =
                if harm < 4 { Err(StorageError::Corrupt { what: "a transaction list" }) } else { Ok(true) };
            assert_eq!(store.renew(&[(99, hash)]), [seen], "{harm}");
        }
    }
}

/// Hashes of the files that are there.
fn names(disk: &SimDisk) -> Vec<String> {
    disk.tree().into_keys().map(|path| path.rsplit_once('/').unwrap().1.to_owned()).collect()
}

fn name(list: &TxList) -> String {
    format!("{:x}", list.hash())
}

#[test]
fn a_file_goes_with_its_list_and_leftovers_go_with_the_next_ones() {
    let disk = SimDisk::default();
    let limits = StorageLimits { txlist_bytes: 45_000, ..StorageLimits::default() };
    let config = DiskConfig { limits, file_bytes: 10_000, ..DiskConfig::recommended(DOMAIN) };
    let open = || DiskStorage::open_source(Box::new(disk.clone()), config).unwrap();
    let store = open();
    store.set_base(Base::at(0)).unwrap();
    assert!(store.put(1, list(8)).unwrap() && store.put(2, list(16)).unwrap());
    assert!(matches!(store.put(3, list(24)), Err(StorageError::Full { .. })));
    assert_eq!(names(&disk).len(), 2, "one that has no room is not written");
    store.set_base(Base::at(1)).unwrap();
    assert!(store.put(3, list(24)).unwrap());
    let (mut found, mut expected) = (names(&disk), vec![name(&list(16)), name(&list(24))]);
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "the evicted one is gone");
    drop(store);
    // A crash has left two files that nobody names in every folder.
    for digit in "0123456789abcdef".chars() {
        for other in ["0", "1"] {
            let orphan = format!("txlists/{digit}/{digit}{}", other.repeat(63));
            FileSystem::write(&disk, &orphan, b"").unwrap();
        }
    }
    let store = open();
    store.set_base(Base::at(u64::MAX)).unwrap();
    for number in 4..20 {
        let before = names(&disk).len();
        assert!(store.put(number, list(number * 8)).unwrap());
        assert!(names(&disk).len() < before, "one folder with each");
    }
    assert_eq!(names(&disk).len(), 2);
    FileSystem::write(&disk, &format!("txlists/a/{}", "a".repeat(64)), b"a").unwrap();
    store.compact().unwrap();
    assert_eq!(names(&disk).len(), 2);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_relaxed_store_removes_files_only_after_a_sync() {
    let disk = SimDisk::default();
    let limits = StorageLimits { txlist_bytes: 25_000, ..StorageLimits::default() };
    let (durability, file_bytes) = (Durability::Relaxed, 10_000);
    let config = DiskConfig { limits, durability, file_bytes, ..DiskConfig::recommended(DOMAIN) };
    let store = DiskStorage::open_source(Box::new(disk.clone()), config).unwrap();
    store.set_base(Base::at(9)).unwrap();
    assert!(store.put(1, list(8)).unwrap());
    store.sync().unwrap();
    assert!(store.put(2, list(16)).unwrap());
    assert!(!store.contains(&list(8).hash()).unwrap());
    assert!(names(&disk).contains(&name(&list(8))), "a crash could bring it back");
    store.sync().unwrap();
    assert_eq!(names(&disk), [name(&list(16))]);
}

#[test]
fn only_the_first_opening_waits_for_folders() {
    let disk = SimDisk::recording();
    let synced = || disk.events().iter().filter(|event| matches!(event, Event::SyncFolder(_))).count();
    drop(open(&disk).unwrap());
    assert_eq!(synced(), 2);
    drop(open(&disk).unwrap());
    assert_eq!(synced(), 2);
}

#[test]
fn no_step_removes_more_than_its_share() {
    let (disk, large) = (SimDisk::recording(), StorageLimits::default());
    let small = StorageLimits { commitments: 10, txlists: 1, ..large };
    let config = DiskConfig { limits: large, ..DiskConfig::recommended(DOMAIN) };
    let open =
        |limits| DiskStorage::open_source(Box::new(disk.clone()), DiskConfig { limits, ..config }).unwrap();
    let store = open(large);
    store.set_base(Base::at(0)).unwrap();
    let (blocks, steps) = (5 * STEP as u64, 3);
    chain(&store, blocks);
    for number in 1..=blocks {
        assert!(store.put(number, list(number * 8 + 1)).unwrap());
    }
    store.set_base(Base::at(blocks)).unwrap();
    let syncs = || disk.events().iter().filter(|event| matches!(event, Event::Sync)).count();
    let before = syncs();
    assert_eq!(store.prune_below(2 * STEP as u64 + 1).unwrap(), 2 * STEP);
    assert!(syncs() - before >= 2);
    drop(store);
    let store = open(small);
    let before = syncs();
    assert!(store.put(blocks + 1, list(1)).unwrap());
    assert!(syncs() - before >= 2 * steps, "each step is a transaction of its own");
    assert_eq!(store.stats().unwrap().txlists, 1);
    assert_eq!(store.stats().unwrap().commitments, 10);
    let before = syncs();
    let last = store.by_block(blocks).unwrap().unwrap().hash();
    let next = block(blocks + 1, blocks + 1, last, 1);
    assert_eq!(Judge::default().insert(&store, next).unwrap(), Inserted::New);
    assert!(syncs() - before < steps, "what is within its limits needs no more steps");
    assert_eq!(store.stats().unwrap().commitments, 10);
}
