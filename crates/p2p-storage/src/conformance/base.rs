//! What a base, pruning and limits take away.

use p2p_types::{B256, Base, Head, Preconfirmation};

use super::{Make, based, hashes, head};
use crate::{
    Inserted, SdkStorage, StorageError, StorageLimits,
    fixtures::{Judge, block, chain, insert, successor, successor_of_two},
};

pub(super) fn without_a_base_nothing_is_stored(make: Make<'_>) {
    let (with, without) = (based(make), make(StorageLimits::default()));
    let linked = Judge::default().linked(&*with, block(1, 1, B256::ZERO, 1));
    assert!(matches!(without.insert(linked), Err(StorageError::NoBase)));
}

pub(super) fn a_newer_base_keeps_the_chain_above_it(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    let base = Base { number: 2, hash: Some(blocks[1].hash()) };
    assert!(store.set_base(base).unwrap().is_empty());
    assert!(store.set_base(base).unwrap().is_empty(), "said again");
    assert_eq!(head(&*store), Some((4, blocks[3].hash())));
    assert!(store.set_base(Base::at(4)).unwrap().is_empty());
    assert_eq!(head(&*store), None, "nothing stands above the base");
}

pub(super) fn a_base_that_contradicts_the_chain_removes_what_stood_on_the_wrong_block(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    let side = block(3, 9, blocks[1].hash(), 9);
    assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::NonCanonical));
    let base = Base { number: 2, hash: Some(B256::repeat_byte(0xee)) };
    let update = store.set_base(base).unwrap();
    assert_eq!(hashes(&update.dropped), blocks[1..].iter().map(Preconfirmation::hash).collect::<Vec<_>>());
    assert_eq!(update.adopted, []);
    assert_eq!(head(&*store), None);
    assert!(store.by_hash(&side.hash()).unwrap().is_none(), "nothing may link to it any more");
}

pub(super) fn a_base_makes_neither_a_handover_nor_a_block_of_another_height_canonical(make: Make<'_>) {
    for named in 0..3 {
        let store = based(make);
        let blocks = chain(&*store, 4);
        let [handover, side] = [block(2, 9, blocks[0].hash(), 0), block(3, 9, blocks[1].hash(), 9)];
        assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
        assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::NonCanonical));
        let hash = [&handover, &side, &blocks[3]][named].hash();
        let update = store.set_base(Base { number: 2, hash: Some(hash) }).unwrap();
        let gone = blocks[1..].iter().map(Preconfirmation::hash).collect::<Vec<_>>();
        assert_eq!((hashes(&update.dropped), update.adopted), (gone, vec![]), "{named}");
        assert_eq!(hashes(&store.range(1, 9).unwrap()), [blocks[0].hash()]);
        assert_eq!((head(&*store), store.by_block(2).unwrap()), (None, None));
    }
}

pub(super) fn another_settled_block_takes_all_that_is_stored_above_it(make: Make<'_>) {
    // Once above the base, once at it, once below it.
    for base in [0, 2, 3] {
        let store = based(make);
        let blocks = chain(&*store, 4);
        let side = block(2, 9, blocks[0].hash(), 9);
        assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::NonCanonical));
        if base > 0 {
            assert!(store.set_base(Base::at(base)).unwrap().is_empty());
        }
        let update = store.settle_other(2, B256::repeat_byte(0xee)).unwrap();
        let gone = blocks[1..].iter().map(Preconfirmation::hash).collect::<Vec<_>>();
        assert_eq!((hashes(&update.dropped), update.adopted), (gone, vec![]), "{base}");
        assert_eq!((store.base().unwrap(), head(&*store)), (Some(Base::at(2)), None));
        for block in blocks[1..].iter().chain([&side]) {
            assert!(store.by_hash(&block.hash()).unwrap().is_none(), "nothing may link to it any more");
        }
        assert_eq!(hashes(&store.range(1, 9).unwrap()), [blocks[0].hash()], "what is below stays");
        assert_eq!(insert(&*store, block(3, 3, B256::repeat_byte(3), 9)).unwrap(), Inserted::New);
        assert!(store.settle_other(2, B256::repeat_byte(0xee)).unwrap().adopted.is_empty(), "said again");
    }
}

pub(super) fn a_base_below_the_chain_with_a_gap_removes_what_is_no_longer_linked(make: Make<'_>) {
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
        assert_eq!(insert(store, block.clone()).unwrap(), Inserted::NonCanonical);
    }
    [ours, theirs]
}

pub(super) fn a_base_on_another_branch_makes_that_the_chain(make: Make<'_>) {
    let store = based(make);
    let [ours, theirs] = forked(&*store);
    let update = store.set_base(Base { number: 2, hash: Some(theirs[0].hash()) }).unwrap();
    assert_eq!(hashes(&update.dropped), [ours[1].hash(), ours[2].hash(), ours[3].hash()]);
    assert_eq!(hashes(&update.adopted), [theirs[1].hash()]);
    assert_eq!(head(&*store), Some((3, theirs[1].hash())));
    assert_eq!(hashes(&store.range(1, 9).unwrap()), [ours[0].hash(), theirs[0].hash(), theirs[1].hash()]);
    assert!(store.by_hash(&ours[2].hash()).unwrap().is_none(), "nothing may link to it any more");
}

pub(super) fn handovers_stand_with_the_branch_that_they_are_on(make: Make<'_>) {
    let store = based(make);
    let [ours, theirs] = forked(&*store);
    let at = |below: &Preconfirmation, number| block(number, 50 + number, below.hash(), 0);
    let (kept, gone) =
        ([at(&theirs[0], 3), at(&theirs[1], 4)], [at(&ours[1], 3), at(&ours[2], 4), at(&ours[3], 5)]);
    for handover in kept.iter().chain(&gone) {
        assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
    }
    let update = store.set_base(Base { number: 2, hash: Some(theirs[0].hash()) }).unwrap();
    assert_eq!(hashes(&update.adopted), [theirs[1].hash()]);
    assert!(kept.iter().all(|handover| store.by_hash(&handover.hash()).unwrap().is_some()));
    assert!(gone.iter().all(|handover| store.by_hash(&handover.hash()).unwrap().is_none()));
}

pub(super) fn a_base_that_falls_back_is_decided_anew(make: Make<'_>) {
    let store = based(make);
    let first = chain(&*store, 1).remove(0);
    let (later, earlier) = (block(2, 5, first.hash(), 1), block(2, 4, first.hash(), 9));
    assert_eq!(insert(&*store, later.clone()).unwrap(), Inserted::New);
    assert_eq!(insert(&*store, earlier.clone()).unwrap(), Inserted::NonCanonical);
    let update = store.set_base(Base { number: 2, hash: Some(earlier.hash()) }).unwrap();
    assert_eq!((hashes(&update.dropped), hashes(&update.adopted)), (vec![later.hash()], vec![]));
    let update = store.set_base(Base { number: 1, hash: Some(first.hash()) }).unwrap();
    assert_eq!(
        (hashes(&update.dropped), hashes(&update.adopted)),
        (vec![earlier.hash()], vec![later.hash()])
    );
    assert_eq!(head(&*store), Some((2, later.hash())));
}

pub(super) fn a_block_that_was_linked_to_another_base_falls_once_the_hash_is_known(make: Make<'_>) {
    let (store, other) = (based(make), make(StorageLimits::default()));
    let blocks = chain(&*store, 2);
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert!(other.set_base(Base::at(2)).unwrap().is_empty());
    // Validated while the settled block was not here.
    let stray = block(3, 3, B256::repeat_byte(0xee), 1);
    assert_eq!(store.insert(Judge::default().linked(&*other, stray.clone())).unwrap(), Inserted::New);
    let update = store.set_base(Base { number: 2, hash: Some(blocks[1].hash()) }).unwrap();
    assert_eq!(hashes(&update.dropped), [stray.hash()]);
    assert_eq!(head(&*store), None);
}

pub(super) fn a_base_beyond_the_chain_gives_way_to_a_branch_that_reaches_it(make: Make<'_>) {
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

pub(super) fn a_base_whose_hash_becomes_known_drops_what_does_not_stand_on_it(make: Make<'_>) {
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

pub(super) fn a_base_that_moves_up_drops_branches_from_below_it(make: Make<'_>) {
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
    assert_eq!(insert(&*store, rival.clone()).unwrap(), Inserted::NonCanonical);
    let two = successor_of_two(4, rival.hash(), 9);
    assert!(matches!(insert(&*store, two.clone()).unwrap(), Inserted::Superseded { .. }));
    assert_eq!(head(&*store), Some((4, two.hash())));
}

pub(super) fn blocks_beside_the_chain_are_bounded_and_the_chain_goes_before_them(make: Make<'_>) {
    let limits = StorageLimits { commitments: 9, non_canonical: 4, ..StorageLimits::default() };
    let store = make(limits);
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    let blocks = chain(&*store, 3);
    // One honest block that lost, and many of a signer that signs what it likes.
    let honest = successor(2, blocks[0].hash(), 1);
    let third = successor_of_two(4, blocks[2].hash(), 1);
    assert_eq!(insert(&*store, third.clone()).unwrap(), Inserted::New);
    assert_eq!(insert(&*store, honest.clone()).unwrap(), Inserted::NonCanonical);
    for salt in 2..60 {
        assert_eq!(insert(&*store, block(2, 2, blocks[0].hash(), salt)).unwrap(), Inserted::NonCanonical);
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

pub(super) fn pruning_takes_what_is_settled_and_nothing_else(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 6);
    assert!(store.set_base(Base::at(4)).unwrap().is_empty());
    assert_eq!(store.prune_below(3).unwrap(), 2);
    assert_eq!(store.prune_below(u64::MAX).unwrap(), 1, "up to the base, which stays");
    assert!(store.by_block(3).unwrap().is_none() && store.by_hash(&blocks[2].hash()).unwrap().is_none());
    assert_eq!(store.range(4, 9).unwrap().len(), 3);
    assert_eq!(store.stats().unwrap().commitments, 3);
}

pub(super) fn a_full_store_evicts_what_is_settled_first_and_then_says_full(make: Make<'_>) {
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
