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
    assert_eq!(rig.chain.ledger.txlist_counts().0, 0);
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
    assert!(rig.store.by_block(BASE + 4).unwrap().is_none());

    // A copy that a peer still has does not bring it back, by catch-up or by gossip.
    let (verdict, effects) = rig.import(&[sign_by(&key(1), &blocks[3])]);
    assert_eq!((verdict, shown(&effects)), (ImportVerdict::Linked, vec![]), "known, and out of the chain");
    assert_eq!(shown(&rig.gossip(&blocks[3])), [0; 0]);
    // Another preconfirmation takes its place.
    let anchor_block_number = U256::from(102);
    let other = Preconfirmation { anchor_block_number, ..block(BASE + 4, blocks[2].hash(), 9) };
    let renewed = Preconfirmation { timestamp: U256::from(NOW.get() + 1), ..other };
    assert_eq!(shown(&rig.gossip(&renewed)), [14]);
    // Nothing at or below the base is touched.
    rig.set_base(Base::at(BASE + 3));
    let (reorg, _) = rig.l1_reorg(0);
    assert_eq!((reorg.from, reorg.affected), (Some(BASE + 4), vec![renewed.hash()]));
    assert!(rig.store.by_block(BASE + 3).unwrap().is_some());
}

#[test]
fn a_block_signed_after_an_l1_reorg_brings_back_what_it_stands_on() {
    let mut rig = Rig::new();
    let blocks = chain(4);
    rig.gossip(&blocks[0]);
    rig.gossip(&blocks[1]);
    rig.l1_reorg(0);
    assert_eq!(rig.head(), None);
    assert_eq!(shown(&rig.gossip(&blocks[2])), [0; 0], "signed before");
    let page = [&blocks[2], &blocks[3]].map(|old| sign_by(&key(1), old));
    assert_eq!(rig.import(&page).0, ImportVerdict::Unconfirmed { index: 0 }, "old copies speak for none");
    let after = Preconfirmation { timestamp: U256::from(NOW.get() + 1), ..blocks[2].clone() };
    assert_eq!(shown(&rig.gossip(&after)), [11, 12, 13]);
}

/// A page ends below what waits for it. Found by a seed of the simulator, in which old copies in such a page were refused indefinitely.
#[test]
fn a_block_that_waits_for_a_page_speaks_for_all_of_it() {
    let mut rig = Rig::new();
    let blocks = chain(4);
    rig.gossip(&blocks[0]);
    rig.l1_reorg(0);
    let after = block(BASE + 5, blocks[3].hash(), 5);
    let after = Preconfirmation { timestamp: U256::from(NOW.get() + 1), ..after };
    assert_eq!(shown(&rig.gossip(&after)), [0; 0], "it waits");
    let page = [&blocks[1], &blocks[2], &blocks[3]].map(|old| sign_by(&key(1), old));
    let (verdict, effects) = rig.import(&page);
    assert_eq!((verdict, shown(&effects)), (ImportVerdict::Linked, vec![11, 12, 13, 14, 15]));
}

/// What is behind by more than a page when L1 reorganises for the second time must not take all since the first for replaced.
#[test]
fn between_two_l1_reorgs_only_what_each_has_replaced_is_withdrawn() {
    let mut rig = Rig::new();
    let anchored = |next: Preconfirmation, anchor: u64| Preconfirmation {
        anchor_block_number: U256::from(anchor),
        ..next
    };
    let early = UnixSeconds::new(NOW.get() - 5);
    let (reply, _done) = oneshot::channel();
    rig.process_at(early, vec![Command::L1Reorg { anchor: 100, reply }]);
    let between = anchored(block(BASE + 1, B256::ZERO, 1), 150);
    let between = Preconfirmation { timestamp: U256::from(NOW.get() - 1), ..between };
    rig.l1_reorg(200);
    assert_eq!(shown(&rig.gossip(&between)), [11]);
    let replaced = anchored(block(BASE + 2, between.hash(), 2), 200);
    assert_eq!(shown(&rig.gossip(&Preconfirmation { timestamp: between.timestamp, ..replaced })), [0; 0]);
}

/// Found by a seed of the simulator: a node whose clock had been 54 s ahead refused for as long what was signed after the reorg.
#[test]
fn an_l1_reorg_heard_of_by_a_clock_that_was_ahead_takes_nothing_signed_since() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    rig.gossip(&blocks[0]);
    let (reply, _done) = oneshot::channel();
    rig.process_at(UnixSeconds::new(NOW.get() + 3_600), vec![Command::L1Reorg { anchor: 0, reply }]);
    assert_eq!(rig.head(), None);
    assert_eq!(shown(&rig.gossip(&blocks[1])), [0; 0], "signed before");
    let since = Preconfirmation { timestamp: U256::from(NOW.get() + 1), ..blocks[1].clone() };
    assert_eq!(shown(&rig.gossip(&since)), [11, 12]);
}

#[test]
fn what_l1_gives_back_stands_as_before() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for next in &blocks {
        rig.gossip(next);
    }
    rig.l1_reorg(0);
    let (reply, done) = oneshot::channel();
    let effects = rig.process(vec![Command::L1Restored { anchor: 0, reply }]);
    done.blocking_recv().unwrap().unwrap();
    assert_eq!(shown(&effects), [11, 12, 13]);
    assert_eq!(shown(&rig.gossip(&block(BASE + 4, blocks[2].hash(), 4))), [14]);
}

#[test]
fn a_base_on_another_branch_brings_that_back() {
    let mut rig = Rig::with_two();
    let blocks = chain(4);
    for next in &blocks {
        rig.gossip(next);
    }
    let rival = second(BASE + 2, blocks[0].hash(), 7);
    rig.gossip_second(&rival);
    assert_eq!(rig.head(), Some(BASE + 2), "within the turn of the other");
    let effects = rig.set_base(Base { number: BASE + 2, hash: Some(blocks[1].hash()) });
    assert_eq!(shown(&effects), [13, 14]);
    assert_eq!(rig.head(), Some(BASE + 4));
}

#[test]
fn a_base_whose_hash_becomes_known_takes_down_what_contradicts_it() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for next in &blocks {
        rig.gossip(next);
    }
    rig.set_base(Base { number: BASE, hash: Some(B256::repeat_byte(0xee)) });
    assert_eq!(rig.head(), None);
    let right = block(BASE + 1, B256::repeat_byte(0xee), 1);
    assert_eq!(shown(&rig.gossip(&right)), [11]);
}

#[test]
fn a_base_that_moves_costs_what_it_settles() {
    let mut rig = Rig::new();
    for next in &chain(60) {
        rig.gossip(next);
    }
    let effects = rig.set_base(Base::at(BASE + 5));
    // Nothing is doubted, and of the blocks above nothing is asked again.
    let settled = Input::Settled { base: BASE + 5 };
    assert!(effects.inputs.contains(&settled), "{:?}", effects.inputs);
    assert_eq!(
        effects.inputs.iter().filter(|input| matches!(input, Input::TxListNotNeeded { .. })).count(),
        5
    );
    assert_eq!(effects.inputs.len(), 6);
    assert!(effects.events.is_empty());
}
