//! Which branch is the chain, and how its blocks are found.

use p2p_types::{B256, Base, Preconfirmation};

use super::{Make, based, hashes, head};
use crate::{
    Inserted, SdkStorage, StorageError, StorageStats, StoredCommitment,
    fixtures::{Judge, block, chain, equivocation, insert, successor, txlist},
};

/// Handovers that decline a height.
fn handovers(store: &dyn SdkStorage, block: u64) -> Vec<B256> {
    let mut found = store.at(block).unwrap();
    found.retain(StoredCommitment::is_handover);
    hashes(&found)
}

pub(super) fn a_chain_is_found_by_number_by_hash_and_by_range(make: Make<'_>) {
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

pub(super) fn of_two_leaves_the_later_stands_whichever_came_first(make: Make<'_>) {
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
    assert_eq!(insert(&*store, block(2, 2, blocks[0].hash(), 8)).unwrap(), Inserted::NonCanonical);
}

pub(super) fn the_longer_branch_of_a_turn_stands_against_a_latecomer(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 3);
    assert_eq!(insert(&*store, block(2, 9, blocks[0].hash(), 9)).unwrap(), Inserted::NonCanonical);
    assert_eq!(head(&*store), Some((3, blocks[2].hash())));
}

pub(super) fn a_block_that_builds_on_the_loser_brings_it_back(make: Make<'_>) {
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

pub(super) fn the_branch_of_most_turns_stands_in_any_order_and_the_head_may_fall(make: Make<'_>) {
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

pub(super) fn handovers_are_kept_beside_the_chain_and_never_become_it(make: Make<'_>) {
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

pub(super) fn handovers_and_rivals_of_one_height_keep_their_order_of_arrival(make: Make<'_>) {
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

pub(super) fn what_is_read_is_what_was_inserted(make: Make<'_>) {
    let store = based(make);
    let linked = Judge::default().linked(&*store, block(1, 1, B256::repeat_byte(3), 1));
    let recovered = linked.recovered().clone();
    assert_eq!(store.insert(linked).unwrap(), Inserted::New);
    let stored = store.by_block(1).unwrap().unwrap();
    assert_eq!((&*stored.recovered, stored.block, stored.parent), (&recovered, 1, B256::repeat_byte(3)));
    assert_eq!(store.by_hash(&recovered.hash()).unwrap(), Some(stored.clone()));
    assert_eq!(store.range(1, 1).unwrap(), [stored]);
}

pub(super) fn many_at_once_are_inserted_in_order_and_each_is_answered(make: Make<'_>) {
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

/// Adds a block to the end of a chain that stands right below it; returns its hash.
fn chain_end(store: &dyn SdkStorage, number: u64) -> B256 {
    let end = block(number, number, store.head().unwrap().unwrap().hash, 1);
    assert_eq!(insert(store, end.clone()).unwrap(), Inserted::New);
    end.hash()
}

pub(super) fn counts_follow_what_is_held(make: Make<'_>) {
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

pub(super) fn whatever_stands_at_a_height_is_found_in_order_of_arrival(make: Make<'_>) {
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
