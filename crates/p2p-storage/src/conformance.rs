//! What every store must do, as named cases that any backend can be held to.
//!
//! ```
//! # #[cfg(feature = "test-utils")]
//! p2p_storage::conformance::check(p2p_storage::MemoryStorage::new);
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a suite of tests fails by panicking"
)]

use p2p_types::{Address, B256, Base, Head, Preconfirmation, TxList, U256, UnixSeconds};

use crate::{
    Batch, Inserted, NewCommitment, PUBLISHED, Promise, SdkStorage, StorageError, StorageLimits,
    StorageStats,
    fixtures::{Judge, block, chain, equivocation, insert, successor, successor_of_two, txlist},
};

/// Gives an empty store with these limits.
pub type Make<'a> = &'a dyn Fn(StorageLimits) -> Box<dyn SdkStorage>;

/// One behaviour that a store must have.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: a sentence about what must hold.
    pub name: &'static str,
    run: fn(Make<'_>),
}

impl Case {
    /// Panics, naming what differs, if the stores that `make` gives behave otherwise.
    pub fn check<S: SdkStorage>(&self, make: impl Fn(StorageLimits) -> S) {
        (self.run)(&|limits| Box::new(make(limits)));
    }
}

/// Runs every case on fresh stores. Panics at the first that fails.
pub fn check<S: SdkStorage>(make: impl Fn(StorageLimits) -> S) {
    for case in CASES {
        case.check(&make);
    }
}

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        /// All cases.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($case), run: $case }),*];
    };
}

cases! {
    a_chain_is_found_by_number_by_hash_and_by_range,
    without_a_base_nothing_is_stored,
    of_two_leaves_the_later_stands_whichever_came_first,
    the_longer_branch_of_a_turn_stands_against_a_latecomer,
    a_block_that_builds_on_the_loser_brings_it_back,
    the_branch_of_most_turns_stands_in_any_order_and_the_head_may_fall,
    handovers_are_kept_beside_the_chain_and_never_become_it,
    a_newer_base_keeps_the_chain_above_it,
    a_base_that_contradicts_the_chain_removes_what_stood_on_the_wrong_block,
    a_base_on_another_branch_makes_that_the_chain,
    a_base_beyond_the_chain_gives_way_to_a_branch_that_reaches_it,
    a_base_whose_hash_becomes_known_drops_what_does_not_stand_on_it,
    a_base_that_moves_up_drops_branches_from_below_it,
    a_base_below_the_chain_with_a_gap_removes_what_is_no_longer_linked,
    pruning_takes_what_is_settled_and_nothing_else,
    a_full_store_evicts_what_is_settled_first_and_then_says_full,
    txlists_are_bounded_by_bytes_and_settled_ones_go_first,
    a_list_that_a_later_block_shares_stays_for_it,
    txlists_are_bounded_by_count,
    a_discarded_list_is_missing_and_can_be_put_again,
    handovers_and_rivals_of_one_height_keep_their_order_of_arrival,
    what_is_read_is_what_was_inserted,
    many_at_once_are_inserted_in_order_and_each_is_answered,
    many_lists_at_once_are_put_in_order_and_each_is_answered,
    a_list_that_comes_with_its_block_is_kept_if_the_block_stands,
    a_list_without_room_is_refused_and_its_block_is_not,
    counts_follow_what_is_held,
    whatever_stands_at_a_height_is_found_in_order_of_arrival,
    evidence_is_kept_once_for_signer_height_and_kind_and_can_be_verified_again,
    evidence_is_bounded_and_who_misbehaves_most_loses_first,
    evidence_outlives_what_is_pruned_and_dropped,
    blocks_beside_the_chain_are_bounded_and_the_chain_goes_before_them,
    a_withdrawn_chain_ends_lower_and_what_left_it_is_kept,
    a_withdrawn_block_that_comes_again_stays_out,
    a_block_on_a_withdrawn_one_brings_back_all_that_it_stands_on,
    another_branch_takes_the_place_of_a_withdrawn_one,
    what_is_reinstated_counts_as_before,
    nothing_at_or_below_the_base_is_withdrawn,
    promises_outlive_the_chain_until_their_window_is_pruned,
    the_publish_log_keeps_what_was_recorded_last,
}

fn based(make: Make<'_>) -> Box<dyn SdkStorage> {
    let store = make(StorageLimits::default());
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    store
}

/// Handovers that decline a height.
fn handovers(store: &dyn SdkStorage, block: u64) -> Vec<B256> {
    let mut found = store.at(block).unwrap();
    found.retain(crate::StoredCommitment::is_handover);
    hashes(&found)
}

fn head(store: &dyn SdkStorage) -> Option<(u64, B256)> {
    store.head().unwrap().map(|Head { number, hash }| (number, hash))
}

fn a_chain_is_found_by_number_by_hash_and_by_range(make: Make<'_>) {
    let store = based(make);
    assert_eq!(head(&*store), None);
    let blocks = chain(&*store, 5);
    assert_eq!(head(&*store), Some((5, blocks[4].hash())));
    assert_eq!(store.by_block(3).unwrap().unwrap().hash(), blocks[2].hash());
    assert_eq!(store.by_hash(&blocks[2].hash()).unwrap().unwrap().block, 3);
    assert_eq!(hashes(&store.at(4).unwrap()), [blocks[3].hash()]);
    let numbers =
        |from, limit| store.range(from, limit).unwrap().iter().map(|stored| stored.block).collect::<Vec<_>>();
    assert_eq!(numbers(2, 3), [2, 3, 4]);
    assert_eq!(numbers(4, 256), [4, 5]);
    assert_eq!(numbers(6, 256), [0; 0]);
    assert_eq!(numbers(u64::MAX, 256), [0; 0]);
    assert_eq!(numbers(0, 256), [0; 0], "a range that cannot begin where asked is empty");
    assert_eq!(insert(&*store, blocks[2].clone()).unwrap(), Inserted::Known);
}

fn without_a_base_nothing_is_stored(make: Make<'_>) {
    let (with, without) = (based(make), make(StorageLimits::default()));
    let linked = Judge::default().linked(&*with, block(1, 1, B256::ZERO, 1));
    assert!(matches!(without.insert(linked), Err(StorageError::NoBase)));
}

fn of_two_leaves_the_later_stands_whichever_came_first(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 2);
    let rival = block(2, 3, blocks[0].hash(), 9);
    let Inserted::Superseded { previous, dropped, adopted } = insert(&*store, rival.clone()).unwrap() else {
        panic!()
    };
    assert_eq!((previous, dropped), (blocks[1].hash(), vec![blocks[1].hash()]));
    assert_eq!(hashes(&adopted), [rival.hash()]);
    assert_eq!(head(&*store), Some((2, rival.hash())));
    assert!(store.by_hash(&blocks[1].hash()).unwrap().is_some(), "kept beside the chain");
    assert_eq!(insert(&*store, blocks[1].clone()).unwrap(), Inserted::Known);
    assert_eq!(head(&*store), Some((2, rival.hash())), "an old acquaintance does not switch back");
    assert_eq!(insert(&*store, block(2, 2, blocks[0].hash(), 8)).unwrap(), Inserted::Side);
}

fn the_longer_branch_of_a_turn_stands_against_a_latecomer(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 3);
    assert_eq!(insert(&*store, block(2, 9, blocks[0].hash(), 9)).unwrap(), Inserted::Side);
    assert_eq!(head(&*store), Some((3, blocks[2].hash())));
}

fn a_block_that_builds_on_the_loser_brings_it_back(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 2);
    let rival = block(2, 3, blocks[0].hash(), 9);
    assert!(matches!(insert(&*store, rival.clone()).unwrap(), Inserted::Superseded { .. }));
    let child = block(3, 3, blocks[1].hash(), 1);
    let Inserted::Superseded { previous, dropped, adopted } = insert(&*store, child.clone()).unwrap() else {
        panic!()
    };
    assert_eq!((previous, dropped), (rival.hash(), vec![rival.hash()]));
    assert_eq!(hashes(&adopted), [blocks[1].hash(), child.hash()]);
    assert_eq!(head(&*store), Some((3, child.hash())));
}

fn the_branch_of_most_turns_stands_in_any_order_and_the_head_may_fall(make: Make<'_>) {
    // Of one signer 1 ─ 2 ─ 3 ─ 4, and of the next one 3' on 2: later, lower.
    let judge = Judge::default();
    let mut long = Vec::new();
    for number in 1..=4 {
        let parent = long.last().map_or(B256::ZERO, Preconfirmation::hash);
        long.push(block(number, number, parent, 1));
    }
    let next = successor(3, long[1].hash(), 9);
    let orders: [&[&Preconfirmation]; 3] = [
        &[&long[0], &long[1], &long[2], &long[3], &next],
        &[&long[0], &long[1], &next, &long[2], &long[3]],
        &[&long[0], &long[1], &long[2], &next, &long[3]],
    ];
    for order in orders {
        let store = based(make);
        for next in order {
            assert_ne!(judge.insert(&*store, (*next).clone()).unwrap(), Inserted::Known);
        }
        assert_eq!(head(&*store), Some((3, next.hash())));
        assert_eq!(store.range(1, 9).unwrap().len(), 3);
    }
    // Once the first signer's long branch is built on by the next turn as well, it has as many turns, and is longer.
    let store = based(make);
    for next in [&long[0], &long[1], &long[2], &long[3], &next] {
        drop(judge.insert(&*store, next.clone()).unwrap());
    }
    let fifth = successor(5, long[3].hash(), 9);
    assert!(matches!(judge.insert(&*store, fifth.clone()).unwrap(), Inserted::Superseded { .. }));
    assert_eq!(head(&*store), Some((5, fifth.hash())));
}

fn handovers_are_kept_beside_the_chain_and_never_become_it(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 2);
    let handover = block(3, 3, blocks[1].hash(), 0);
    assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
    assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::Known);
    assert_eq!(head(&*store), Some((2, blocks[1].hash())));
    assert!(store.by_block(3).unwrap().is_none());
    assert_eq!(handovers(&*store, 3).len(), 1);
    let next = block(3, 4, blocks[1].hash(), 1);
    assert_eq!(insert(&*store, next.clone()).unwrap(), Inserted::New, "the height is still free");
    assert_eq!(handovers(&*store, 3).len(), 1);
    assert_eq!(head(&*store), Some((3, next.hash())));
}

fn a_newer_base_keeps_the_chain_above_it(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    let base = Base { number: 2, hash: Some(blocks[1].hash()) };
    assert!(store.set_base(base).unwrap().is_empty());
    assert!(store.set_base(base).unwrap().is_empty(), "said again");
    assert_eq!(head(&*store), Some((4, blocks[3].hash())));
    assert!(store.set_base(Base::at(4)).unwrap().is_empty());
    assert_eq!(head(&*store), None, "nothing stands above the base");
}

fn a_base_that_contradicts_the_chain_removes_what_stood_on_the_wrong_block(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    let side = block(3, 9, blocks[1].hash(), 9);
    assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::Side));
    let base = Base { number: 2, hash: Some(B256::repeat_byte(0xee)) };
    let update = store.set_base(base).unwrap();
    assert_eq!(hashes(&update.dropped), blocks[1..].iter().map(Preconfirmation::hash).collect::<Vec<_>>());
    assert_eq!(update.adopted, []);
    assert_eq!(head(&*store), None);
    assert!(store.by_hash(&side.hash()).unwrap().is_none(), "nothing may link to it any more");
}

fn a_base_below_the_chain_with_a_gap_removes_what_is_no_longer_linked(make: Make<'_>) {
    let store = make(StorageLimits::default());
    assert!(store.set_base(Base::at(10)).unwrap().is_empty());
    let first = block(11, 1, B256::ZERO, 1);
    assert_eq!(insert(&*store, first.clone()).unwrap(), Inserted::New);
    let dropped = store.set_base(Base::at(8)).unwrap().dropped;
    assert_eq!(
        dropped.iter().map(|block| block.head()).collect::<Vec<_>>(),
        [Head { number: 11, hash: first.hash() }]
    );
    assert_eq!(head(&*store), None);
}

/// Two branches on block 1: the chain, up to 4 and of two turns, and beside it two blocks of the first turn.
fn forked(store: &dyn SdkStorage) -> [Vec<Preconfirmation>; 2] {
    let mut ours = chain(store, 3);
    ours.push(successor(4, ours[2].hash(), 1));
    let mut theirs = vec![block(2, 5, ours[0].hash(), 9)];
    theirs.push(block(3, 6, theirs[0].hash(), 9));
    assert_eq!(insert(store, ours[3].clone()).unwrap(), Inserted::New);
    for block in &theirs {
        assert_eq!(insert(store, block.clone()).unwrap(), Inserted::Side);
    }
    [ours, theirs]
}

fn a_base_on_another_branch_makes_that_the_chain(make: Make<'_>) {
    let store = based(make);
    let [ours, theirs] = forked(&*store);
    let update = store.set_base(Base { number: 2, hash: Some(theirs[0].hash()) }).unwrap();
    assert_eq!(hashes(&update.dropped), [ours[1].hash(), ours[2].hash(), ours[3].hash()]);
    assert_eq!(hashes(&update.adopted), [theirs[1].hash()]);
    assert_eq!(head(&*store), Some((3, theirs[1].hash())));
    assert_eq!(hashes(&store.range(1, 9).unwrap()), [ours[0].hash(), theirs[0].hash(), theirs[1].hash()]);
    assert!(store.by_hash(&ours[2].hash()).unwrap().is_none(), "nothing may link to it any more");
}

fn a_base_beyond_the_chain_gives_way_to_a_branch_that_reaches_it(make: Make<'_>) {
    let store = based(make);
    let mut blocks = chain(&*store, 5);
    // The next signer has taken the chain back to a height below the base to come.
    let rival = successor(2, blocks[0].hash(), 1);
    assert!(matches!(insert(&*store, rival.clone()).unwrap(), Inserted::Superseded { .. }));
    let update = store.set_base(Base::at(3)).unwrap();
    assert_eq!(hashes(&update.adopted), [blocks[3].hash(), blocks[4].hash()]);
    assert_eq!(head(&*store), Some((5, blocks[4].hash())));
    let next = block(6, 6, blocks.remove(4).hash(), 1);
    assert_eq!(insert(&*store, next).unwrap(), Inserted::New);
}

fn a_base_whose_hash_becomes_known_drops_what_does_not_stand_on_it(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 2);
    let settled = B256::repeat_byte(0xee);
    let update = store.set_base(Base { number: 0, hash: Some(settled) }).unwrap();
    assert_eq!(hashes(&update.dropped), [blocks[0].hash(), blocks[1].hash()]);
    assert_eq!((head(&*store), store.stats().unwrap().commitments), (None, 0));
    let right = block(1, 1, settled, 1);
    assert_eq!(insert(&*store, right.clone()).unwrap(), Inserted::New);
    assert!(store.set_base(Base::at(0)).unwrap().is_empty(), "forgotten again, it still stands");
    assert_eq!(head(&*store), Some((1, right.hash())));
}

fn a_base_that_moves_up_drops_branches_from_below_it(make: Make<'_>) {
    let store = based(make);
    let [ours, theirs] = forked(&*store);
    let handover = block(4, 7, theirs[1].hash(), 0);
    assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert_eq!(head(&*store), Some((4, ours[3].hash())));
    for gone in [theirs[1].hash(), handover.hash()] {
        assert!(store.by_hash(&gone).unwrap().is_none(), "it stands on what was not settled");
    }
    // What is left is decided as before.
    let rival = successor(3, ours[1].hash(), 9);
    assert_eq!(insert(&*store, rival.clone()).unwrap(), Inserted::Side);
    let two = successor_of_two(4, rival.hash(), 9);
    assert!(matches!(insert(&*store, two.clone()).unwrap(), Inserted::Superseded { .. }));
    assert_eq!(head(&*store), Some((4, two.hash())));
}

fn blocks_beside_the_chain_are_bounded_and_the_chain_goes_before_them(make: Make<'_>) {
    let limits = StorageLimits { commitments: 9, non_canonical: 4, ..StorageLimits::default() };
    let store = make(limits);
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let blocks = chain(&*store, 3);
    // One honest block that lost, and many of a signer that signs what it likes.
    let honest = successor(2, blocks[0].hash(), 1);
    let third = successor_of_two(4, blocks[2].hash(), 1);
    assert_eq!(insert(&*store, third.clone()).unwrap(), Inserted::New);
    assert_eq!(insert(&*store, honest.clone()).unwrap(), Inserted::Side);
    for salt in 2..60 {
        assert_eq!(insert(&*store, block(2, 2, blocks[0].hash(), salt)).unwrap(), Inserted::Side);
        assert!(store.stats().unwrap().commitments <= 8);
    }
    assert!(store.by_hash(&honest.hash()).unwrap().is_some(), "the flooder has pushed out its own");
    let mut parent = third.hash();
    for number in 5..10 {
        let next = successor_of_two(number, parent, 1);
        parent = next.hash();
        assert_eq!(insert(&*store, next).unwrap(), Inserted::New, "the chain goes on");
    }
    assert_eq!(store.stats().unwrap().commitments, 9);
    let full = insert(&*store, successor_of_two(10, parent, 1)).unwrap_err();
    assert!(matches!(full, StorageError::Full { what: "commitments", .. }));
}

fn pruning_takes_what_is_settled_and_nothing_else(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 6);
    assert!(store.set_base(Base::at(4)).unwrap().is_empty());
    assert_eq!(store.prune_below(3).unwrap(), 2);
    assert_eq!(store.prune_below(u64::MAX).unwrap(), 1, "up to the base, which stays");
    assert!(store.by_block(3).unwrap().is_none() && store.by_hash(&blocks[2].hash()).unwrap().is_none());
    assert_eq!(store.range(4, 9).unwrap().len(), 3);
    assert_eq!(store.stats().unwrap().commitments, 3);
}

fn a_full_store_evicts_what_is_settled_first_and_then_says_full(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 3, txlists: 100, txlist_bytes: 10, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let blocks = chain(&*store, 3);
    let next = block(4, 4, blocks[2].hash(), 1);
    assert!(matches!(
        insert(&*store, next.clone()),
        Err(StorageError::Full { what: "commitments", used: 4, limit: 3 })
    ));
    assert_eq!(head(&*store), Some((3, blocks[2].hash())), "nothing was changed");
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert_eq!(insert(&*store, next.clone()).unwrap(), Inserted::New);
    assert!(store.by_block(1).unwrap().is_none());
    assert_eq!(head(&*store), Some((4, next.hash())));
}

fn txlists_are_bounded_by_bytes_and_settled_ones_go_first(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 100, txlist_bytes: 10, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let list = txlist;
    assert!(store.put(1, list(1, 4)).unwrap());
    assert!(!store.put(1, list(1, 4)).unwrap());
    assert!(store.put(2, list(2, 6)).unwrap());
    assert_eq!(store.get(&list(2, 6).hash()).unwrap(), Some(list(2, 6)));
    let full = StorageError::Full { what: "bytes of transaction lists", used: 11, limit: 10 };
    assert_eq!(store.put(3, list(3, 1)).unwrap_err().to_string(), full.to_string());
    assert!(store.set_base(Base::at(1)).unwrap().is_empty());
    assert!(store.put(3, list(3, 1)).unwrap());
    assert!(!store.contains(&list(1, 4).hash()).unwrap());
    assert_eq!(store.stats().unwrap().txlist_bytes, 7);
}

fn a_list_that_a_later_block_shares_stays_for_it(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 100, txlist_bytes: 10, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let list = |fill: u8| txlist(fill, 5);
    assert!(store.put(1, list(1)).unwrap());
    assert!(store.put(2, list(2)).unwrap());
    assert!(!store.put(3, list(1)).unwrap());
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert!(store.put(4, list(4)).unwrap());
    assert!(store.contains(&list(1).hash()).unwrap(), "block 3 still needs it");
    assert!(!store.contains(&list(2).hash()).unwrap());
}

fn txlists_are_bounded_by_count(make: Make<'_>) {
    let store =
        make(StorageLimits { commitments: 100, txlists: 2, txlist_bytes: 100, ..StorageLimits::default() });
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    assert!(store.put(1, txlist(1, 1)).unwrap() && store.put(2, txlist(2, 1)).unwrap());
    let full = store.put(3, txlist(3, 1)).unwrap_err();
    assert!(matches!(full, StorageError::Full { what: "transaction lists", used: 3, limit: 2 }));
    assert!(full.is_retryable());
    assert!(store.set_base(Base::at(1)).unwrap().is_empty());
    assert!(store.put(3, txlist(3, 1)).unwrap());
    assert!(!store.contains(&txlist(1, 1).hash()).unwrap());
}

fn handovers_and_rivals_of_one_height_keep_their_order_of_arrival(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 1);
    let parent = blocks[0].hash();
    let rivals: Vec<_> = (1..4).map(|salt| block(2, 2, parent, salt)).collect();
    let handovers: Vec<_> = (5..8).map(|time| block(2, time, parent, 0)).collect();
    for (rival, handover) in rivals.iter().zip(&handovers) {
        drop(insert(&*store, rival.clone()).unwrap());
        assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
    }
    let hashes = |list: &[Preconfirmation]| list.iter().map(Preconfirmation::hash).collect::<Vec<_>>();
    let found: Vec<_> = store.at(2).unwrap().into_iter().map(|stored| stored.hash()).collect();
    let (even, odd): (Vec<_>, Vec<_>) = found.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
    assert_eq!((even, odd), (hashes(&rivals), hashes(&handovers)));
}

fn what_is_read_is_what_was_inserted(make: Make<'_>) {
    let store = based(make);
    let linked = Judge::default().linked(&*store, block(1, 1, B256::repeat_byte(3), 1));
    let recovered = linked.recovered().clone();
    assert_eq!(store.insert(linked).unwrap(), Inserted::New);
    let stored = store.by_block(1).unwrap().unwrap();
    assert_eq!((&*stored.recovered, stored.block, stored.parent), (&recovered, 1, B256::repeat_byte(3)));
    assert_eq!(store.by_hash(&recovered.hash()).unwrap(), Some(stored.clone()));
    assert_eq!(store.range(1, 1).unwrap(), [stored]);
}

fn a_discarded_list_is_missing_and_can_be_put_again(make: Make<'_>) {
    let limits = StorageLimits { txlists: 2, txlist_bytes: 1_000_000, ..StorageLimits::default() };
    let store = make(limits);
    store.set_base(Base::at(0)).unwrap();
    // A small one and a large one, for stores that keep them apart.
    for list in [txlist(1, 100), txlist(2, 600_000)] {
        let hash = list.hash();
        assert!(!store.discard(&hash).unwrap(), "not there");
        assert!(store.put(5, list.clone()).unwrap());
        assert!(store.discard(&hash).unwrap());
        assert!(!store.contains(&hash).unwrap());
        assert_eq!((store.get(&hash), store.stats().unwrap().txlist_bytes), (Ok(None), 0));
        assert!(!store.discard(&hash).unwrap());
        assert!(store.put(7, list.clone()).unwrap(), "it is new again");
        assert_eq!(store.get(&hash).unwrap(), Some(list));
        assert!(store.discard(&hash).unwrap());
    }
    // What was discarded takes no room and no place in the order of eviction.
    for fill in 3..5 {
        assert!(store.put(u64::from(fill), txlist(fill, 100)).unwrap());
    }
    assert!(matches!(store.put(9, txlist(9, 100)), Err(StorageError::Full { .. })));
    store.set_base(Base::at(3)).unwrap();
    assert!(store.put(9, txlist(9, 100)).unwrap());
    assert!(
        !store.contains(&txlist(3, 100).hash()).unwrap() && store.contains(&txlist(4, 100).hash()).unwrap()
    );
}

fn many_at_once_are_inserted_in_order_and_each_is_answered(make: Make<'_>) {
    let (judge, store, scratch) = (Judge::default(), based(make), based(make));
    let blocks = chain(&*scratch, 3);
    let mut many: Vec<_> = blocks.iter().map(|next| judge.linked(&*scratch, next.clone())).collect();
    many.push(judge.linked(&*scratch, block(5, 5, chain_end(&*scratch, 4), 1)));
    many.push(judge.linked(&*scratch, blocks[1].clone()));
    let applied = store.apply(many.into()).commitments;
    let answers: Vec<_> = applied.into_iter().map(|applied| applied.inserted).collect();
    assert_eq!(answers.len(), 5);
    assert!(answers[..3].iter().all(|answer| matches!(answer, Ok(Inserted::New))));
    assert!(matches!(answers[3], Err(StorageError::UnknownParent(_))));
    assert!(matches!(answers[4], Ok(Inserted::Known)), "one that fails does not stop the others");
    assert_eq!(head(&*store), Some((3, blocks[2].hash())));
}

fn many_lists_at_once_are_put_in_order_and_each_is_answered(make: Make<'_>) {
    let limits = StorageLimits { txlists: 4, ..StorageLimits::default() };
    let (store, list) = (make(limits), |fill| txlist(fill, 100));
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let put = |fills: &[u8]| {
        let lists: Vec<_> = fills.iter().map(|fill| (u64::from(*fill), list(*fill))).collect();
        store.apply(lists.into()).txlists
    };
    let first_answers = put(&[1, 2, 1, 3, 4, 5, 2]);
    let first: Vec<_> =
        first_answers.into_iter().map(|answer| answer.map_err(|error| error.is_retryable())).collect();
    // What is there already is no news, and what has no room does not stop those after it.
    assert_eq!(first, [Ok(true), Ok(true), Ok(false), Ok(true), Ok(true), Err(true), Ok(false)]);
    assert!((1..=4).all(|fill| store.get(&list(fill).hash()).unwrap() == Some(list(fill))));
    assert!(!store.contains(&list(5).hash()).unwrap());
    // As soon as some are settled they make room.
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    let put = put(&[6, 7]);
    assert!(put.iter().all(|answer| matches!(answer, Ok(true))), "{put:?}");
    assert_eq!(store.stats().unwrap().txlists, 4);
}

/// Adds a block to the end of a chain that stands right below it; returns its hash.
fn chain_end(store: &dyn SdkStorage, number: u64) -> B256 {
    let end = block(number, number, store.head().unwrap().unwrap().hash, 1);
    assert_eq!(insert(store, end.clone()).unwrap(), Inserted::New);
    end.hash()
}

fn counts_follow_what_is_held(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 3);
    drop(insert(&*store, block(3, 3, blocks[1].hash(), 9)).unwrap());
    drop(insert(&*store, block(4, 4, blocks[2].hash(), 0)).unwrap());
    assert!(store.put(1, txlist(1, 10)).unwrap() && store.put(2, txlist(2, 20)).unwrap());
    assert!(store.put_evidence(&equivocation(1, 3, [1, 9])).unwrap());
    let stats = store.stats().unwrap();
    assert_eq!(stats, StorageStats { commitments: 5, txlists: 2, txlist_bytes: 30, evidence: 1 });
    assert_eq!(stats.commitment_bytes(), 5 * 382);
    assert!(!store.set_base(Base { number: 1, hash: Some(B256::repeat_byte(0xee)) }).unwrap().is_empty());
    let stats = store.stats().unwrap();
    assert_eq!((stats.commitments, stats.txlists), (0, 2));
}

fn whatever_stands_at_a_height_is_found_in_order_of_arrival(make: Make<'_>) {
    let store = based(make);
    let parent = chain(&*store, 1)[0].hash();
    let (first, handover, second) = (block(2, 2, parent, 1), block(2, 3, parent, 0), block(2, 2, parent, 2));
    for next in [&first, &handover, &second] {
        drop(insert(&*store, next.clone()).unwrap());
    }
    let found: Vec<_> = store.at(2).unwrap().iter().map(|stored| stored.hash()).collect();
    assert_eq!(found, [first.hash(), handover.hash(), second.hash()]);
    assert_eq!(store.at(3).unwrap(), []);
}

/// A block that names a list.
fn naming(list: &TxList, block: Preconfirmation) -> Preconfirmation {
    Preconfirmation { raw_tx_list_hash: list.hash(), ..block }
}

fn a_list_that_comes_with_its_block_is_kept_if_the_block_stands(make: Make<'_>) {
    let (judge, store, scratch) = (Judge::default(), based(make), based(make));
    // Two large ones, for stores that keep them apart.
    let lists = [txlist(1, 10), txlist(2, 300_000), txlist(3, 10), txlist(4, 300_000), txlist(5, 10)];
    let [one, loser, winner, side, other] = &lists;
    let first = naming(one, block(1, 1, B256::ZERO, 1));
    // One that the later one displaces in the same batch, one that never stands, and one with a list that is not its own.
    let second = naming(loser, block(2, 2, first.hash(), 1));
    let later = naming(winner, block(2, 9, first.hash(), 1));
    let early = naming(side, block(2, 3, first.hash(), 1));
    let third = naming(one, block(3, 10, later.hash(), 1));
    let with = [(&first, one), (&second, loser), (&later, winner), (&early, side), (&third, other)];
    let commitments = with.map(|(block, list)| {
        let linked = judge.linked(&*scratch, block.clone());
        assert!(scratch.insert(linked.clone()).is_ok());
        NewCommitment { linked, txlist: Some(list.clone()) }
    });
    let txlists = vec![(1, other.clone()), (3, one.clone())];
    let applied = store.apply(Batch { commitments: commitments.into(), txlists });
    let of_lists: Vec<_> = applied.commitments.iter().map(|applied| applied.txlist.clone()).collect();
    assert_eq!(of_lists, [Some(Ok(true)), None, Some(Ok(true)), None, None]);
    assert!(applied.commitments.iter().all(|applied| applied.inserted.is_ok()));
    assert_eq!(applied.txlists, [Ok(true), Ok(false)]);
    assert_eq!(head(&*store), Some((3, third.hash())));
    for (list, there) in lists.iter().zip([true, false, true, false, true]) {
        assert_eq!(store.get(&list.hash()).unwrap(), there.then(|| list.clone()));
        assert_eq!(store.contains(&list.hash()).unwrap(), there);
    }
    // What was refused for another branch's sake can be put later.
    assert!(store.put(2, side.clone()).unwrap());
}

fn a_list_without_room_is_refused_and_its_block_is_not(make: Make<'_>) {
    for bytes in [100, 300_000] {
        let limits = StorageLimits { txlist_bytes: bytes + 50, ..StorageLimits::default() };
        let (judge, store) = (Judge::default(), make(limits));
        assert!(store.set_base(Base::at(0)).unwrap().is_empty());
        assert!(store.put(1, txlist(1, 100)).unwrap());
        let list = txlist(2, bytes);
        let next = naming(&list, block(1, 1, B256::ZERO, 1));
        let linked = judge.linked(&*store, next.clone());
        let applied = store.apply(Batch {
            commitments: vec![NewCommitment { linked: linked.clone(), txlist: Some(list.clone()) }],
            txlists: Vec::new(),
        });
        let [applied] = &applied.commitments[..] else { panic!() };
        assert_eq!(applied.inserted, Ok(Inserted::New));
        assert!(matches!(applied.txlist, Some(Err(StorageError::Full { .. }))));
        assert_eq!(head(&*store), Some((1, next.hash())));
        // It comes again with its block, when there is room.
        assert!(store.discard(&txlist(1, 100).hash()).unwrap());
        let again = vec![NewCommitment { linked, txlist: Some(list.clone()) }];
        let applied = store.apply(Batch { commitments: again, txlists: Vec::new() });
        let [applied] = &applied.commitments[..] else { panic!() };
        assert_eq!((&applied.inserted, &applied.txlist), (&Ok(Inserted::Known), &Some(Ok(true))));
        assert_eq!(store.get(&list.hash()).unwrap(), Some(list));
    }
}

fn the_publish_log_keeps_what_was_recorded_last(make: Make<'_>) {
    let store = make(StorageLimits::default());
    let hash = |number: usize| B256::from(U256::from(number));
    assert!(!store.is_published(&hash(1)).unwrap());
    store.record_published(&[hash(1), hash(2)]).unwrap();
    assert!(store.is_published(&hash(1)).unwrap() && !store.is_published(&hash(3)).unwrap());
    let more: Vec<B256> = (3..PUBLISHED + 2).map(hash).collect();
    store.record_published(&more).unwrap();
    assert!(!store.is_published(&hash(1)).unwrap(), "the oldest is forgotten");
    assert!((2..PUBLISHED + 2).all(|number| store.is_published(&hash(number)).unwrap()));
}

fn evidence_is_kept_once_for_signer_height_and_kind_and_can_be_verified_again(make: Make<'_>) {
    let store = based(make);
    let first = equivocation(1, 5, [1, 2]);
    assert!(store.put_evidence(&first).unwrap());
    assert!(!store.put_evidence(&equivocation(1, 5, [3, 4])).unwrap(), "the first one stays");
    assert!(store.put_evidence(&equivocation(1, 4, [1, 2])).unwrap());
    assert!(store.put_evidence(&equivocation(2, 5, [1, 2])).unwrap());
    let found = store.evidence().unwrap();
    let mut keys: Vec<_> = found.iter().map(|found| (found.signer, found.block)).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.is_sorted());
    keys.retain(|key| *key == (first.signer(), 5));
    assert_eq!(keys.len(), 1);
    let again = found.into_iter().find(|found| (found.signer, found.block) == (first.signer(), 5));
    assert_eq!(again.unwrap().record.verify(Judge::default().validator()), Ok(first));
}

fn evidence_is_bounded_and_who_misbehaves_most_loses_first(make: Make<'_>) {
    let store = make(StorageLimits { evidence: 3, ..StorageLimits::default() });
    let rare = equivocation(1, 1, [1, 2]);
    assert!(store.put_evidence(&rare).unwrap());
    for number in 5..9 {
        assert!(store.put_evidence(&equivocation(2, number, [1, 2])).unwrap());
    }
    assert!(!store.put_evidence(&equivocation(2, 3, [1, 2])).unwrap(), "it is the first to go");
    let mut found: Vec<_> =
        store.evidence().unwrap().iter().map(|found| (found.signer == rare.signer(), found.block)).collect();
    found.sort_unstable();
    assert_eq!(found, [(false, 7), (false, 8), (true, 1)]);
    assert_eq!(store.stats().unwrap().evidence, 3);
    let none = make(StorageLimits { evidence: 0, ..StorageLimits::default() });
    assert!(!none.put_evidence(&rare).unwrap());
    assert_eq!(none.evidence().unwrap(), []);
}

fn evidence_outlives_what_is_pruned_and_dropped(make: Make<'_>) {
    let store = based(make);
    chain(&*store, 4);
    assert!(store.put_evidence(&equivocation(1, 2, [1, 2])).unwrap());
    assert!(store.put_evidence(&equivocation(1, 4, [1, 2])).unwrap());
    assert!(!store.set_base(Base { number: 3, hash: Some(B256::repeat_byte(0xee)) }).unwrap().is_empty());
    assert_eq!(store.prune_below(u64::MAX).unwrap(), 2);
    assert_eq!(store.stats().unwrap().evidence, 2);
}

fn hashes(stored: &[crate::StoredCommitment]) -> Vec<B256> {
    stored.iter().map(crate::StoredCommitment::hash).collect()
}

/// As [`chain`], where each block is anchored to the L1 block of its own number.
fn anchored(store: &dyn SdkStorage, n: u64) -> Vec<Preconfirmation> {
    let mut blocks: Vec<Preconfirmation> = Vec::new();
    for number in 1..=n {
        let parent = blocks.last().map_or(B256::ZERO, Preconfirmation::hash);
        let next =
            Preconfirmation { anchor_block_number: U256::from(number), ..block(number, number, parent, 1) };
        assert_eq!(insert(store, next.clone()).unwrap(), Inserted::New);
        blocks.push(next);
    }
    blocks
}

fn a_withdrawn_chain_ends_lower_and_what_left_it_is_kept(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 5);
    let gone: Vec<B256> = blocks[2..].iter().map(Preconfirmation::hash).collect();
    assert_eq!(hashes(&store.withdraw(3).unwrap().dropped), gone);
    assert_eq!(head(&*store), Some((2, blocks[1].hash())));
    assert!(store.by_block(3).unwrap().is_none());
    assert!(store.range(3, 9).unwrap().is_empty());
    assert_eq!(hashes(&store.at(3).unwrap()), [blocks[2].hash()], "kept beside the chain");
    assert!(store.by_hash(&blocks[4].hash()).unwrap().is_some());
    assert!(store.withdraw(3).unwrap().is_empty());
    assert_eq!(store.stats().unwrap().commitments, 5);
}

fn a_withdrawn_block_that_comes_again_stays_out(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    assert_eq!(hashes(&store.withdraw(2).unwrap().dropped), [blocks[1].hash(), blocks[2].hash()]);
    for block in &blocks {
        assert_eq!(insert(&*store, block.clone()).unwrap(), Inserted::Known);
    }
    assert_eq!(head(&*store), Some((1, blocks[0].hash())));
}

fn a_block_on_a_withdrawn_one_brings_back_all_that_it_stands_on(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    assert!(!store.withdraw(2).unwrap().is_empty());
    let next = Preconfirmation { anchor_block_number: U256::from(3), ..block(4, 4, blocks[2].hash(), 4) };
    let Inserted::Restored { adopted } = insert(&*store, next.clone()).unwrap() else { panic!() };
    assert_eq!(hashes(&adopted), [blocks[1].hash(), blocks[2].hash(), next.hash()]);
    assert_eq!(head(&*store), Some((4, next.hash())));
    assert_eq!(hashes(&store.withdraw(3).unwrap().dropped), [blocks[2].hash(), next.hash()], "and again");
}

fn another_branch_takes_the_place_of_a_withdrawn_one(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    // It lost, and L1 has not touched its anchor.
    let side = block(2, 2, blocks[0].hash(), 9);
    assert!(matches!(
        insert(&*store, Preconfirmation { anchor_block_number: U256::from(1), ..side.clone() }).unwrap(),
        Inserted::Side
    ));
    let side = Preconfirmation { anchor_block_number: U256::from(1), ..side };
    let update = store.withdraw(2).unwrap();
    assert_eq!(hashes(&update.dropped), [blocks[1].hash(), blocks[2].hash()]);
    assert_eq!(hashes(&update.adopted), [side.hash()]);
    let next = Preconfirmation { anchor_block_number: U256::from(4), ..block(3, 3, side.hash(), 1) };
    assert_eq!(insert(&*store, next.clone()).unwrap(), Inserted::New);
    assert_eq!(head(&*store), Some((3, next.hash())));
}

fn what_is_reinstated_counts_as_before(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 4);
    assert!(!store.withdraw(3).unwrap().is_empty());
    let other = Preconfirmation { anchor_block_number: U256::from(2), ..block(3, 3, blocks[1].hash(), 9) };
    assert_eq!(insert(&*store, other.clone()).unwrap(), Inserted::New);
    assert!(store.reinstate(5).unwrap().is_empty(), "of a later anchor nothing was withdrawn");
    let update = store.reinstate(3).unwrap();
    assert_eq!(hashes(&update.dropped), [other.hash()]);
    assert_eq!(hashes(&update.adopted), [blocks[2].hash(), blocks[3].hash()], "the longer branch");
    assert_eq!(head(&*store), Some((4, blocks[3].hash())));
    assert!(store.reinstate(3).unwrap().is_empty());
}

fn nothing_at_or_below_the_base_is_withdrawn(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 4);
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    let gone: Vec<B256> = blocks[2..].iter().map(Preconfirmation::hash).collect();
    assert_eq!(hashes(&store.withdraw(0).unwrap().dropped), gone);
    assert_eq!(store.by_block(2).unwrap().unwrap().hash(), blocks[1].hash());
    assert_eq!(head(&*store), None);
}

fn promises_outlive_the_chain_until_their_window_is_pruned(make: Make<'_>) {
    let store = based(make);
    chain(&*store, 3);
    let promise = |window_end, signer, block, hash| Promise {
        window_end: UnixSeconds::new(window_end),
        signer: Address::repeat_byte(signer),
        block,
        hash: B256::repeat_byte(hash),
        eop: hash > 8,
        eop_only: hash == 9,
    };
    let (one, two, eop) = (promise(50, 1, 2, 1), promise(50, 1, 2, 2), promise(50, 1, 4, 9));
    let (other, next) = (promise(50, 2, 2, 1), promise(60, 1, 3, 10));
    for kept in [eop, two, one, one, other, next] {
        store.put_promise(kept).unwrap();
    }
    let of = |signer, window_end| {
        store.promises(&Address::repeat_byte(signer), UnixSeconds::new(window_end)).unwrap()
    };
    assert_eq!(of(1, 50), [one, two, eop]);
    assert_eq!((of(2, 50), of(1, 60), of(1, 55), of(3, 50)), (vec![other], vec![next], vec![], vec![]));
    store.set_base(Base { number: 2, hash: Some(B256::repeat_byte(0xee)) }).unwrap();
    store.prune_below(u64::MAX).unwrap();
    assert_eq!(of(1, 50), [one, two, eop], "neither a base nor pruning takes them");
    assert_eq!(store.prune_promises(UnixSeconds::new(50)).unwrap(), 0);
    assert_eq!(store.prune_promises(UnixSeconds::new(51)).unwrap(), 4);
    assert_eq!((of(1, 50), of(1, 60)), (vec![], vec![next]));
}
