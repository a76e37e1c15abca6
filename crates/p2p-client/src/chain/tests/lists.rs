//! Transaction lists: stored, held, wanted.

use super::*;

#[test]
fn a_list_is_stored_when_a_block_names_it_before_or_after() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    // The list first, as the protocol says.
    assert!(rig.txlist(1).events.is_empty(), "no block names it yet");
    assert!(!rig.store.contains(&list(1).hash()).unwrap());
    let effects = rig.gossip(&blocks[0]);
    assert_eq!(ready(&effects), [11]);
    assert!(effects.inputs.iter().all(|input| !matches!(input, Input::TxListMissing { .. })));
    // The block first.
    assert_eq!(ready(&rig.gossip(&blocks[1])), [0; 0]);
    let effects = rig.txlist(2);
    assert_eq!(ready(&effects), [12]);
    assert!(effects.inputs.contains(&Input::TxListStored { hash: list(2).hash() }));
    assert!(rig.txlist(2).events.is_empty(), "only once");
}

#[test]
fn one_list_serves_all_blocks_that_name_it() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 7);
    let second = block(BASE + 2, first.hash(), 7);
    let third = block(BASE + 3, second.hash(), 7);
    rig.gossip(&first);
    rig.gossip(&second);
    assert_eq!(ready(&rig.txlist(7)), [11, 12]);
    assert_eq!(ready(&rig.gossip(&third)), [13]);
}

#[test]
fn blocks_of_one_page_share_their_list_and_it_is_news_once() {
    let mut rig = Rig::without_base(StorageLimits { txlists: 1, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    rig.txlist(1);
    let first = block(BASE + 1, B256::ZERO, 1);
    let second = block(BASE + 2, first.hash(), 2);
    let third = block(BASE + 3, second.hash(), 1);
    let (_, effects) = rig.import(&[&first, &second, &third].map(|next| sign_by(&key(1), next)));
    assert_eq!(ready(&effects), [BASE + 1, BASE + 3]);
    let news = |event: &&SdkEvent| matches!(event, SdkEvent::TxList { .. });
    assert_eq!(effects.events.iter().filter(news).count(), 1);
    let wanted = Input::TxListMissing { block: BASE + 2, hash: list(2).hash(), live: false };
    assert!(effects.inputs.contains(&wanted));
    // It stays for the highest of them, which is not settled.
    rig.set_base(Base { number: BASE + 2, hash: Some(second.hash()) });
    assert!(rig.store.put(BASE + 4, list(4)).unwrap_err().is_retryable());
}

#[test]
fn a_block_that_is_replaced_in_its_own_batch_is_not_ready_and_wants_nothing() {
    let mut rig = Rig::new();
    rig.txlist(1);
    let (lost, missing) = (block(BASE + 1, B256::ZERO, 1), block(BASE + 1, B256::ZERO, 2));
    let both = [&lost, &missing].map(|next| arrived(&key(1), next));
    let effects = rig.process(vec![Command::Gossip(both.into())]);
    assert_eq!((shown(&effects), ready(&effects)), (vec![BASE + 1, BASE + 1], vec![]));
    let wanted = |input: &Input| match input {
        Input::TxListMissing { hash, .. } => Some(*hash),
        _ => None,
    };
    let wanted: Vec<_> = effects.inputs.iter().filter_map(wanted).collect();
    assert_eq!(wanted, [list(2).hash()]);
}

#[test]
fn lists_that_come_together_are_each_stored_held_or_known() {
    let mut rig = Rig::new();
    for next in chain(2) {
        rig.gossip(&next);
    }
    let listed = |fill| VerifiedTxList {
        txlist: list(fill),
        origin: Origin::Sync(peer(1)),
        verdict: None,
        span: Span::none(),
    };
    let effects = rig.process(vec![Command::TxLists([2, 3, 1, 2].map(listed).into())]);
    assert_eq!(ready(&effects), [BASE + 2, BASE + 1]);
    let stored = [1, 2, 3].map(|fill| rig.store.contains(&list(fill).hash()).unwrap());
    assert_eq!(stored, [true, true, false]);
    // The third was held until its block came.
    assert_eq!(ready(&rig.gossip(&chain(3)[2])), [BASE + 3]);
}

#[test]
fn a_replaced_block_is_told_and_its_list_wanted_no_more() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    let other = block(BASE + 1, B256::ZERO, 2);
    let child = block(BASE + 2, first.hash(), 3);
    assert_eq!(shown(&rig.gossip(&first)), [11]);
    let effects = rig.gossip(&other);
    assert!(effects.events.contains(&SdkEvent::Reorg { dropped: vec![first.hash()], from: 11 }));
    assert_eq!(shown(&effects), [11]);
    let unwanted = Input::TxListNotNeeded { block: 11, hash: first.raw_tx_list_hash };
    assert!(effects.inputs.contains(&unwanted));
    // A block that builds on the one that lost brings it back.
    let effects = rig.gossip(&child);
    assert!(effects.events.contains(&SdkEvent::Reorg { dropped: vec![other.hash()], from: 11 }));
    assert_eq!(shown(&effects), [11, 12]);
}

#[test]
fn a_reorg_reads_no_list_that_is_stored_and_keeps_each_for_its_blocks() {
    let mut rig = Rig::without_base(StorageLimits { txlists: 3, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let first = block(BASE + 1, B256::ZERO, 1);
    let [one, two] = [2, 3].map(|fill| block(BASE + 2, first.hash(), fill));
    let above = block(BASE + 3, one.hash(), 1);
    for (next, fill) in [(&first, 1), (&one, 2), (&two, 3)] {
        rig.gossip(next);
        assert_eq!(ready(&rig.txlist(fill)), [next.block_number.to::<u64>()]);
    }
    let calls = rig.intercepted();
    // Back to the first branch, whose lists are here: those of two blocks that come and of one that has come before.
    let effects = rig.gossip(&above);
    assert_eq!((shown(&effects), ready(&effects)), (vec![12, 13], vec![12, 13]));
    let made = |call| calls.lock().unwrap().count(call);
    assert_eq!([Call::Renew, Call::Get, Call::Put, Call::ApplyTxLists].map(made), [1, 0, 0, 0]);
    // The list of the first block stays for the third one.
    rig.set_base(Base { number: BASE + 2, hash: Some(one.hash()) });
    assert!([list(4), list(5)].iter().all(|list| rig.store.put(BASE + 4, list.clone()).unwrap()));
    let left = [1, 2, 3].map(|fill| rig.store.contains(&list(fill).hash()).unwrap());
    assert_eq!(left, [true, false, false]);
}

#[test]
fn a_restart_names_the_lists_that_are_still_missing() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    rig.txlist(2);
    for next in &blocks {
        rig.gossip(next);
    }
    let effects = rig.restarted().set_base(Base::at(BASE));
    let wanted =
        |n: u8| Input::TxListMissing { block: BASE + u64::from(n), hash: list(n).hash(), live: false };
    let head = Some(Head { number: 13, hash: blocks[2].hash() });
    assert_eq!(effects.inputs, [wanted(1), wanted(3), Input::Start { base: BASE, head }]);
}

#[test]
fn an_own_list_is_stored_with_its_block_without_the_cache() {
    let mut rig = Rig::new();
    let no_cache = MemoryConfig { held_txlist_bytes: 1, ..MemoryConfig::default() };
    rig.chain = ChainProcessor::new(rig.store.clone(), rotating(&[1]), &no_cache, false, Arc::default());
    rig.set_base(Base::at(BASE));
    let has = |rig: &Rig, fill| rig.store.contains(&list(fill).hash()).unwrap();
    let first = block(BASE + 1, B256::ZERO, 5);
    let (decision, effects) = rig.local(&first, Some(list(5)));
    assert!(matches!(decision, PublishDecision::Stored));
    assert_eq!((ready(&effects), has(&rig, 5)), (vec![BASE + 1], true));
    // One that another branch has won against already.
    let beside = block(BASE + 1, B256::ZERO, 4);
    let PublishDecision::Conflict(conflict) = rig.local(&beside, None).0 else { panic!() };
    let (decision, effects) = rig.local_despite(&beside, Some(list(4)), Some(conflict));
    assert!(matches!(decision, PublishDecision::NonCanonical), "{decision:?}");
    let stored = SdkEvent::TxList { hash: list(4).hash(), bytes: 10, origin: Origin::Local };
    assert!(effects.events.contains(&stored));
    assert_eq!((ready(&effects), has(&rig, 4)), (vec![], true));
    // One whose block has come by gossip, and is beside the chain too.
    let other = block(BASE + 1, B256::ZERO, 3);
    rig.gossip(&other);
    assert!(matches!(rig.local(&other, Some(list(3))).0, PublishDecision::Stored), "its list is news");
    assert!(has(&rig, 3));
}

#[test]
fn a_list_that_the_store_refuses_is_not_published_as_stored() {
    let mut rig = Rig::without_base(StorageLimits { txlists: 1, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let blocks = chain(2);
    assert!(matches!(rig.local(&blocks[0], Some(list(1))).0, PublishDecision::Stored));
    let (decision, effects) = rig.local(&blocks[1], Some(list(2)));
    assert!(matches!(decision, PublishDecision::Stored));
    let missing = Input::TxListMissing { block: BASE + 2, hash: list(2).hash(), live: false };
    assert!(effects.inputs.contains(&missing), "catch-up fetches it");
    let again = rig.local(&blocks[1], Some(list(2))).0;
    assert!(matches!(again, PublishDecision::Failed(StorageError::Full { .. })), "{again:?}");
    rig.set_base(Base::at(BASE + 1));
    assert!(matches!(rig.local(&blocks[1], Some(list(2))).0, PublishDecision::Stored));
    assert_eq!(rig.store.get(&list(2).hash()).unwrap(), Some(list(2)));
}

#[test]
fn a_list_stays_as_long_as_the_highest_block_that_lacked_it() {
    let mut rig = Rig::without_base(StorageLimits { txlists: 1, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let first = block(BASE + 1, B256::ZERO, 1);
    let second = block(BASE + 2, first.hash(), 1);
    rig.gossip(&first);
    rig.gossip(&second);
    assert_eq!(ready(&rig.txlist(1)), [BASE + 1, BASE + 2]);
    rig.set_base(Base { number: BASE + 1, hash: Some(first.hash()) });
    assert!(rig.store.put(BASE + 3, list(3)).unwrap_err().is_retryable(), "its place is taken");
    rig.set_base(Base { number: BASE + 2, hash: Some(second.hash()) });
    assert!(rig.store.put(BASE + 3, list(3)).unwrap());
}
