//! What an L1 reorg takes out of the chain, and what brings it back.

use p2p_types::{B256, Base, Preconfirmation, U256};

use super::{Make, based, hashes, head};
use crate::{
    Inserted, SdkStorage,
    fixtures::{block, insert},
};

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

pub(super) fn a_withdrawn_chain_ends_lower_and_what_left_it_is_kept(make: Make<'_>) {
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

pub(super) fn a_withdrawn_block_that_comes_again_stays_out(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    assert_eq!(hashes(&store.withdraw(2).unwrap().dropped), [blocks[1].hash(), blocks[2].hash()]);
    for block in &blocks {
        assert_eq!(insert(&*store, block.clone()).unwrap(), Inserted::Known);
    }
    assert_eq!(head(&*store), Some((1, blocks[0].hash())));
}

pub(super) fn a_block_on_a_withdrawn_one_brings_back_all_that_it_stands_on(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    assert!(!store.withdraw(2).unwrap().is_empty());
    let next = Preconfirmation { anchor_block_number: U256::from(3), ..block(4, 4, blocks[2].hash(), 4) };
    let Inserted::Restored { adopted } = insert(&*store, next.clone()).unwrap() else { panic!() };
    assert_eq!(hashes(&adopted), [blocks[1].hash(), blocks[2].hash(), next.hash()]);
    assert_eq!(head(&*store), Some((4, next.hash())));
    assert_eq!(hashes(&store.withdraw(3).unwrap().dropped), [blocks[2].hash(), next.hash()], "and again");
}

pub(super) fn another_branch_takes_the_place_of_a_withdrawn_one(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 3);
    // It lost, and L1 has not touched its anchor.
    let side = block(2, 2, blocks[0].hash(), 9);
    assert!(matches!(
        insert(&*store, Preconfirmation { anchor_block_number: U256::from(1), ..side.clone() }).unwrap(),
        Inserted::NonCanonical
    ));
    let side = Preconfirmation { anchor_block_number: U256::from(1), ..side };
    let update = store.withdraw(2).unwrap();
    assert_eq!(hashes(&update.dropped), [blocks[1].hash(), blocks[2].hash()]);
    assert_eq!(hashes(&update.adopted), [side.hash()]);
    let next = Preconfirmation { anchor_block_number: U256::from(4), ..block(3, 3, side.hash(), 1) };
    assert_eq!(insert(&*store, next.clone()).unwrap(), Inserted::New);
    assert_eq!(head(&*store), Some((3, next.hash())));
}

pub(super) fn what_is_reinstated_counts_as_before(make: Make<'_>) {
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

pub(super) fn nothing_at_or_below_the_base_is_withdrawn(make: Make<'_>) {
    let store = based(make);
    let blocks = anchored(&*store, 4);
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    let gone: Vec<B256> = blocks[2..].iter().map(Preconfirmation::hash).collect();
    assert_eq!(hashes(&store.withdraw(0).unwrap().dropped), gone);
    assert_eq!(store.by_block(2).unwrap().unwrap().hash(), blocks[1].hash());
    assert_eq!(head(&*store), None);
}
