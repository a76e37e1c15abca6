//! The store on a disk that loses power, is full, or forgets bits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod medium;

use std::collections::HashMap;

use p2p_types::{B256, Base, Preconfirmation, TxList};

use self::medium::{Event, Medium, apply};
use super::{DiskConfig, DiskStorage, Durability};
use crate::{
    CommitmentStore, EvidenceStore, Inserted, SdkStorage, StorageError, StoredCommitment, StoredEvidence,
    TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, txlist},
};

fn open(medium: &Medium) -> Result<DiskStorage, StorageError> {
    open_with(medium, Durability::Immediate)
}

fn open_with(medium: &Medium, durability: Durability) -> Result<DiskStorage, StorageError> {
    // A small cache, so that pages are read from the medium.
    let config = DiskConfig { durability, cache_bytes: 64 * 1024, ..DiskConfig::recommended(DOMAIN) };
    DiskStorage::open_source(Box::new(medium.clone()), config)
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
    let medium = Medium::recording();
    let store = open_with(&medium, durability).unwrap();
    let (judge, mut said) = (Judge::default(), Vec::new());
    store.set_base(Base::at(0)).unwrap();
    let opened = medium.happened();
    let mut parent = B256::ZERO;
    for number in 1..=blocks {
        let made = block(number, number, parent, 1);
        let rival = block(number, number, parent, 2);
        if number.is_multiple_of(7) {
            // Superseded at once: history must outlive the power too.
            assert_eq!(judge.insert(&store, rival.clone()).unwrap(), Inserted::New);
            said.push((medium.happened(), Acknowledged::Block { height: number, hash: rival.hash() }));
        }
        parent = made.hash();
        drop(judge.insert(&store, made).unwrap());
        said.push((medium.happened(), Acknowledged::Block { height: number, hash: parent }));
        assert!(store.put(number, list(number)).unwrap());
        said.push((medium.happened(), Acknowledged::List(list(number).hash())));
        if number.is_multiple_of(20) {
            store.set_base(Base::at(number - 10)).unwrap();
            said.push((medium.happened(), Acknowledged::Base(number - 10)));
            store.prune_below(number - 15).unwrap();
        }
    }
    drop(store);
    let events = medium.events();
    let mut dice = fastrand::Rng::with_seed(5);
    let (mut durable, mut unsynced, mut points, mut lost) = (Vec::new(), Vec::new(), 0_usize, 0);
    for (index, event) in events.iter().enumerate() {
        if !matches!(event, Event::Sync) {
            unsynced.push(event);
            continue;
        }
        if index >= opened {
            for variant in 0..variants {
                // The power goes before this sync ends: at most a part of what was written is there.
                let until = if variant < 3 { unsynced.len() } else { dice.usize(0..=unsynced.len()) };
                let mut image = durable.clone();
                for event in &unsynced[..until] {
                    match variant {
                        0 => apply(&mut image, event, || true),
                        1 => apply(&mut image, event, || false),
                        2 | 3 => apply(&mut image, event, || dice.bool()),
                        4..7 => {
                            let keep = dice.bool();
                            apply(&mut image, event, || keep);
                        }
                        _ => apply(&mut image, event, || dice.u8(0..10) > 0),
                    }
                }
                points += 1;
                lost += missing(&Medium::of(image), &said, index, points.is_multiple_of(8));
            }
        }
        for event in unsynced.drain(..) {
            apply(&mut durable, event, || true);
        }
    }
    (points, said.len(), lost)
}

/// How much of what was acknowledged before an event is not there or not as it was, and how much else `verify`
/// finds where it is asked.
fn missing(medium: &Medium, said: &[(usize, Acknowledged)], event: usize, verify: bool) -> usize {
    let store = match open(medium) {
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
    let gone = before().filter(|said| !kept(said)).count();
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
    let medium = Medium::default();
    let store = open(&medium).unwrap();
    store.set_base(Base::at(0)).unwrap();
    let blocks = chain(&store, 20);
    medium.set_room(medium.used() + 256 * 1024);
    let mut stored = Vec::new();
    let full = (1..200).find_map(|number| match store.put(number, list(number * 8)) {
        Ok(_) => {
            stored.push(number * 8);
            None
        }
        Err(error) => Some(error),
    });
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
    medium.set_room(usize::MAX);
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
fn a_flipped_bit_is_never_served_and_is_found() {
    let medium = Medium::default();
    let store = open(&medium).unwrap();
    let contents = Contents::fill(&store);
    assert!(contents.read(&store) && store.verify().unwrap().is_sound());
    drop(store);
    let good = medium.bytes();
    let mut dice = fastrand::Rng::with_seed(3);
    let (mut harmed, mut refused, mut found) = (0, 0, 0);
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for _ in 0..500 {
        let mut bad = good.clone();
        bad[used[dice.usize(0..used.len())]] ^= 1 << dice.u8(0..8);
        let Ok(store) = open(&Medium::of(bad)) else {
            refused += 1;
            continue;
        };
        let sound = store.verify().is_ok_and(|report| report.is_sound());
        found += usize::from(!sound);
        if !contents.read(&store) {
            harmed += 1;
            assert!(!sound, "something cannot be read, and verify says that all is well");
        }
    }
    println!(
        "500 flips: {refused} refused at opening, {found} found by verify, {harmed} seen by readers, 0 served"
    );
    assert!(harmed > 0 && found >= harmed);
}
