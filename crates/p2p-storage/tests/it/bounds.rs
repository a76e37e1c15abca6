//! What a call costs where an elected preconfer has signed as many siblings of a height as are kept: about as much as where
//! there are none.

#![allow(clippy::disallowed_methods, reason = "what takes time is measured")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::time::{Duration, Instant};

use p2p_fixtures::assert_as_cheap;
use p2p_storage::{
    CommitmentStore, DiskConfig, DiskStorage, Durability, Inserted, SdkStorage, StorageLimits,
    fixtures::{DOMAIN, Judge, block, successor},
};
use p2p_types::{B256, Base, Preconfirmation};
use p2p_validation::Linked;
use tempfile::TempDir;

/// Non-canonical blocks that are kept.
const BESIDE: u64 = 1_024;

/// Calls in one run.
const CALLS: u64 = 64;

/// How many times as much a call may cost. What reads each of a thousand siblings is far above.
const LIMIT: u32 = 8;

/// A store whose chain has a block of the first preconfer at height 1, and siblings of it.
struct Rig {
    folder: TempDir,
    store: DiskStorage,
    /// The canonical block first.
    siblings: Vec<Preconfirmation>,
}

fn open(folder: &TempDir) -> DiskStorage {
    let limits = StorageLimits { non_canonical: BESIDE as usize, ..StorageLimits::default() };
    let config = DiskConfig { durability: Durability::Relaxed, limits, ..DiskConfig::recommended(DOMAIN) };
    DiskStorage::open(folder.path(), config).unwrap()
}

/// A block of height 1: the later it is, the better.
fn sibling(n: u64) -> Preconfirmation {
    block(1, 1_000_000 - n, B256::ZERO, 1)
}

/// Preconfirmations in one transaction.
fn store_all(store: &DiskStorage, blocks: &[Preconfirmation]) {
    let judge = Judge::default();
    let linked: Vec<Linked> = blocks.iter().map(|block| judge.linked(store, block.clone())).collect();
    for applied in store.apply(linked.into()).commitments {
        assert!(matches!(applied.inserted, Ok(Inserted::New | Inserted::NonCanonical)), "{applied:?}");
    }
}

impl Rig {
    fn new(beside: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
        let siblings: Vec<_> = (0..=beside).map(sibling).collect();
        store_all(&store, &siblings);
        Self { folder, store, siblings }
    }

    /// Opens the store again.
    fn restart(self) -> Self {
        let Self { folder, store, siblings } = self;
        drop(store);
        let store = open(&folder);
        Self { folder, store, siblings }
    }
}

/// Compares a full store with one with few siblings.
fn compare(name: &str, limit: u32, cost: impl Fn(u64) -> Duration) {
    assert_as_cheap(name, limit, || cost(BESIDE), || cost(CALLS));
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn compare_lookups(rigs: &[Rig; 2]) {
    compare("a lookup", LIMIT, |beside| {
        let rig = &rigs[usize::from(beside == BESIDE)];
        timed(|| {
            for block in rig.siblings.iter().step_by((beside / CALLS) as usize) {
                assert_eq!(rig.store.by_hash(&block.hash()).unwrap().unwrap().block, 1);
            }
        })
    });
}

#[test]
fn siblings_make_no_lookup_dear() {
    compare_lookups(&[CALLS, BESIDE].map(Rig::new));
}

#[test]
fn siblings_make_no_lookup_dear_after_a_restart() {
    let rigs = [CALLS, BESIDE].map(|beside| Rig::new(beside).restart());
    // The first one reads the whole height.
    for rig in &rigs {
        rig.store.by_hash(&rig.siblings[7].hash()).unwrap().unwrap();
    }
    compare_lookups(&rigs);
}

#[test]
fn a_sibling_in_place_of_another_reads_no_other() {
    compare("an insert", LIMIT, |beside| {
        let rig = Rig::new(beside);
        let judge = Judge::default();
        let more = (beside + 1..).take(CALLS as usize);
        let more: Vec<Linked> = more.map(|n| judge.linked(&rig.store, sibling(n))).collect();
        let time = timed(|| {
            for linked in more {
                assert_eq!(rig.store.insert(linked).unwrap(), Inserted::NonCanonical);
            }
        });
        assert!(rig.store.stats().unwrap().commitments <= BESIDE as usize + 1);
        assert!(rig.store.verify().unwrap().is_sound());
        time
    });
}

/// The time of one row, where all siblings go at once.
fn each(beside: u64, time: Duration) -> Duration {
    time * 1_000 / u32::try_from(beside).unwrap()
}

#[test]
fn a_sibling_costs_no_more_to_remove_where_there_are_many() {
    compare("what goes with its parent", LIMIT, |beside| {
        let rig = Rig::new(beside);
        let hashes: Vec<B256> = rig.siblings.iter().map(Preconfirmation::hash).collect();
        let time = timed(|| {
            assert_eq!(rig.store.remove(&hashes).unwrap().dropped.len(), 1);
        });
        assert_eq!(rig.store.stats().unwrap().commitments, 0);
        each(beside, time)
    });
}

#[test]
fn a_sibling_costs_no_more_to_settle_and_prune_where_there_are_many() {
    compare("what is pruned", LIMIT, |beside| {
        let rig = Rig::new(beside);
        let stands = rig.siblings[0].hash();
        store_all(&rig.store, &[successor(2, stands, 1)]);
        // Siblings of the second height fall when the first one settles; those of the first are pruned.
        let time = timed(|| {
            rig.store.set_base(Base { number: 1, hash: Some(stands) }).unwrap();
            rig.store.set_base(Base::at(2)).unwrap();
            assert_eq!(rig.store.prune_below(2).unwrap() as u64, beside + 1);
        });
        assert_eq!(rig.store.stats().unwrap().commitments, 1);
        assert!(rig.store.verify().unwrap().is_sound());
        each(beside, time)
    });
}

#[test]
fn what_stands_beside_the_settled_block_costs_no_more_to_drop_where_there_is_much() {
    compare("what falls", LIMIT, |beside| {
        let rig = Rig::new(1);
        let [stands, falls] = [0, 1].map(|n| rig.siblings[n].hash());
        store_all(&rig.store, &[successor(2, stands, 1)]);
        let fallen: Vec<_> = (0..beside - 1).map(|n| block(2, 1_000_000 + n, falls, 1)).collect();
        store_all(&rig.store, &fallen);
        let time = timed(|| {
            rig.store.set_base(Base { number: 1, hash: Some(stands) }).unwrap();
        });
        assert_eq!(rig.store.stats().unwrap().commitments, 3);
        assert!(rig.store.verify().unwrap().is_sound());
        each(beside, time)
    });
}
