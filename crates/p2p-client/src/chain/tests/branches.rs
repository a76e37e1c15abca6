//! Which blocks are the chain, and what takes them out of it.

use super::*;

#[test]
fn what_waits_for_a_branch_that_lost_still_brings_it_back() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    let loser = block(BASE + 1, B256::ZERO, 8);
    let (on_loser, further) = {
        let next = block(BASE + 2, loser.hash(), 9);
        let last = block(BASE + 3, next.hash(), 10);
        (next, last)
    };
    for next in [&further, &on_loser, &blocks[0], &blocks[1]] {
        rig.gossip(next);
    }
    assert_eq!(rig.head(), Some(12));
    // The loser comes last of all: it is stored beside the chain, and what waited for it makes it win.
    let effects = rig.gossip(&loser);
    assert_eq!(rig.head(), Some(13));
    assert_eq!(shown(&effects), [11, 12, 13]);
}

#[test]
fn a_settled_block_that_contradicts_the_chain_takes_it_down() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for next in &blocks {
        rig.gossip(next);
    }
    let effects = rig.set_base(Base { number: BASE + 1, hash: Some(B256::repeat_byte(0xee)) });
    let dropped = blocks.iter().map(Preconfirmation::hash).collect();
    assert!(effects.events.contains(&SdkEvent::Reorg { dropped, from: BASE + 1 }));
    assert!(effects.events.contains(&SdkEvent::Head { head: None }));
    assert_eq!(rig.chain.wanted.len(), 0);
}

#[test]
fn an_l1_reorg_takes_what_is_anchored_to_it_and_all_that_builds_on_it() {
    let mut rig = Rig::new();
    let mut parent = B256::ZERO;
    let blocks: Vec<Preconfirmation> = (1..=6)
        .map(|i| {
            let anchor_block_number = U256::from(100 + u64::from(i / 2));
            let next = Preconfirmation { anchor_block_number, ..block(BASE + u64::from(i), parent, i) };
            parent = next.hash();
            next
        })
        .collect();
    for next in &blocks {
        rig.gossip(next);
        rig.txlist(u8::try_from(next.block_number.to::<u64>() - BASE).unwrap());
    }
    let (none, effects) = rig.l1_reorg(104);
    assert_eq!((none.from, none.affected.len(), effects.events.len()), (None, 0, 0));

    // Anchors are 100, 101, 101, 102, 102, 103.
    let (reorg, effects) = rig.l1_reorg(102);
    let affected: Vec<B256> = blocks[3..].iter().map(Preconfirmation::hash).collect();
    assert_eq!((reorg.from, &reorg.affected), (Some(BASE + 4), &affected));
    let head = Some(Head { number: BASE + 3, hash: blocks[2].hash() });
    let told = SdkEvent::L1Reorg { anchor: 102, from: BASE + 4, affected };
    assert_eq!(effects.events, [told, SdkEvent::Head { head }]);
    assert!(effects.inputs.contains(&Input::Applied { head }), "catch-up is told that the head fell");
    assert!(effects.forget_seen, "gossip may bring them again");
    assert!(rig.store.by_block(BASE + 4).unwrap().is_none());

    // One comes back by catch-up, complete, as its list was kept.
    let (_, effects) = rig.import(&[sign_by(&key(1), &blocks[3])]);
    assert_eq!((shown(&effects), ready(&effects)), (vec![14], vec![14]));
    // Another preconfirmation takes the place of the next.
    let anchor_block_number = U256::from(102);
    let other = Preconfirmation { anchor_block_number, ..block(BASE + 5, blocks[3].hash(), 9) };
    assert_eq!(shown(&rig.gossip(&other)), [15]);
    // Nothing at or below the base is touched.
    rig.set_base(Base::at(BASE + 4));
    let (reorg, _) = rig.l1_reorg(0);
    assert_eq!((reorg.from, reorg.affected), (Some(BASE + 5), vec![other.hash()]));
    assert!(rig.store.by_block(BASE + 4).unwrap().is_some());
}

#[test]
fn a_child_of_a_block_that_l1_took_brings_it_back() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    rig.gossip(&blocks[0]);
    rig.gossip(&blocks[1]);
    rig.l1_reorg(0);
    assert_eq!(rig.head(), None);
    assert_eq!(shown(&rig.gossip(&blocks[2])), [11, 12, 13]);
}
