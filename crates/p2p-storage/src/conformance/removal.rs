//! What leaves the store because it should not have come.

use p2p_types::{B256, Base, Preconfirmation};

use super::{Make, based, hashes, head};
use crate::{
    Inserted,
    fixtures::{block, chain, insert},
};

fn of(blocks: &[Preconfirmation]) -> Vec<B256> {
    blocks.iter().map(Preconfirmation::hash).collect()
}

pub(super) fn a_removed_block_takes_its_descendants_with_it(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 5);
    let handovers = [block(4, 40, blocks[2].hash(), 0), block(3, 41, blocks[1].hash(), 0)];
    for handover in &handovers {
        assert_eq!(insert(&*store, handover.clone()).unwrap(), Inserted::New);
    }
    let update = store.remove(&[blocks[2].hash(), B256::repeat_byte(9)]).unwrap();
    assert_eq!((hashes(&update.dropped), update.adopted.len()), (of(&blocks[2..]), 0));
    assert_eq!(head(&*store), Some((2, blocks[1].hash())));
    for gone in of(&blocks[2..]).into_iter().chain([handovers[0].hash()]) {
        assert_eq!(store.by_hash(&gone).unwrap(), None);
    }
    assert_eq!(hashes(&store.at(3).unwrap()), [handovers[1].hash()], "on what stays");
    assert!(store.remove(&[handovers[1].hash()]).unwrap().is_empty(), "no block has left");
    assert_eq!(store.stats().unwrap().commitments, 2);
    assert!(store.remove(&[blocks[2].hash()]).unwrap().is_empty(), "it is gone");
}

pub(super) fn what_is_left_after_a_removal_is_decided_anew(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    let side = block(2, 2, blocks[0].hash(), 9);
    assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::NonCanonical));
    assert!(store.remove(&[side.hash()]).unwrap().is_empty(), "the chain is as it was");
    assert!(matches!(insert(&*store, side.clone()).unwrap(), Inserted::NonCanonical));
    let update = store.remove(&[blocks[1].hash()]).unwrap();
    assert_eq!(hashes(&update.dropped), of(&blocks[1..]));
    assert_eq!(hashes(&update.adopted), [side.hash()]);
    let next = block(3, 3, side.hash(), 1);
    assert_eq!(insert(&*store, next.clone()).unwrap(), Inserted::New);
    assert_eq!(head(&*store), Some((3, next.hash())));
}

pub(super) fn a_removed_block_may_come_again(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 3);
    assert_eq!(hashes(&store.remove(&[blocks[0].hash()]).unwrap().dropped), of(&blocks));
    assert_eq!(head(&*store), None);
    for block in &blocks {
        assert_eq!(insert(&*store, block.clone()).unwrap(), Inserted::New);
    }
    assert_eq!(head(&*store), Some((3, blocks[2].hash())));
}

pub(super) fn nothing_at_or_below_the_base_is_removed(make: Make<'_>) {
    let store = based(make);
    let blocks = chain(&*store, 4);
    assert!(store.set_base(Base::at(2)).unwrap().is_empty());
    assert!(store.remove(&of(&blocks[..2])).unwrap().is_empty());
    assert_eq!(store.by_block(2).unwrap().unwrap().hash(), blocks[1].hash());
    assert_eq!(hashes(&store.remove(&of(&blocks[2..3])).unwrap().dropped), of(&blocks[2..]));
    assert_eq!(head(&*store), None);
}
