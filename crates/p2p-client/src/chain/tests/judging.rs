//! Commitments of gossip: what is shown, what waits, what is refused.

use super::*;

#[test]
fn blocks_in_order_are_shown_one_by_one_and_move_the_head() {
    let mut rig = Rig::new();
    for (n, next) in (BASE + 1..).zip(chain(3)) {
        let effects = rig.gossip(&next);
        assert_eq!(shown(&effects), [n]);
        let head = Some(Head { number: n, hash: next.hash() });
        assert!(effects.events.contains(&SdkEvent::Head { head }));
        assert!(effects.inputs.contains(&Input::Applied { head }));
        let wanted = Input::TxListMissing { block: n, hash: next.raw_tx_list_hash, live: true };
        assert!(effects.inputs.contains(&wanted));
    }
}

#[test]
fn a_child_waits_for_its_parent_and_the_order_of_arrival_does_not_matter() {
    let blocks = chain(7);
    for seed in 0..200_usize {
        let mut rig = Rig::new();
        let mut left: Vec<&Preconfirmation> = blocks.iter().collect();
        let mut all = Vec::new();
        let mut state = seed;
        while !left.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let next = left.remove((state >> 33) % left.len());
            all.extend(shown(&rig.gossip(next)));
        }
        assert_eq!(all, (BASE + 1..=BASE + 7).collect::<Vec<_>>(), "seed {seed}");
        assert!(rig.chain.pending.is_empty());
    }
}

#[test]
fn what_waits_is_told_to_catch_up_and_given_up_after_its_time() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    let effects = rig.gossip(&blocks[2]);
    let (parent, signer) = (blocks[1].hash(), key(1).address());
    let orphan = Input::Orphan { block: BASE + 3, parent, signer };
    let waiting = |highest| Input::Waiting { highest };
    assert_eq!((shown(&effects), effects.inputs), (vec![], vec![orphan, waiting(Some(BASE + 3))]));
    rig.now = rig.chain.next_deadline().unwrap();
    let effects = rig.process(vec![Command::Tick]);
    assert_eq!(effects.inputs, [Input::OrphanGone { parent }, waiting(None)]);
    let (block, hash) = (BASE + 3, blocks[2].hash());
    let waited_for = Missing::Parent(blocks[1].hash());
    assert_eq!(effects.events, [SdkEvent::DeferredTooLong { block, hash, waited_for }]);
    assert_eq!(rig.head(), None);
}

#[test]
fn before_the_base_is_known_nothing_is_shown_and_everything_is_afterwards() {
    let mut rig = Rig::without_base(StorageLimits::default());
    for next in &chain(3) {
        assert_eq!(shown(&rig.gossip(next)), [0; 0]);
    }
    assert_eq!(shown(&rig.set_base(Base::at(BASE))), [11, 12, 13]);
}

#[test]
fn a_wrong_signer_is_not_shown() {
    let mut rig = Rig::new();
    let effects = rig.gossip_by(&key(2), &chain(1)[0]);
    assert!(effects.events.is_empty() && rig.head().is_none());
    assert_eq!(rig.chain.metrics.counts().rejected, 1);
}

#[test]
fn a_broken_link_is_not_shown() {
    let mut rig = Rig::new();
    let blocks = chain(1);
    assert_eq!(shown(&rig.gossip(&blocks[0])), [11]);
    let effects = rig.gossip(&block(BASE + 5, blocks[0].hash(), 5));
    assert!(effects.events.is_empty());
    assert_eq!(rig.head(), Some(11));
}

#[test]
fn heights_beyond_reason_are_not_believed() {
    let mut rig = Rig::new();
    rig.reference = Some(BASE);
    let far = block(BASE + MAX_AHEAD + 1, B256::repeat_byte(7), 1);
    assert!(rig.gossip(&far).inputs.is_empty());
    let plausible = block(BASE + MAX_AHEAD, B256::repeat_byte(7), 1);
    assert_eq!(rig.gossip(&plausible).inputs.len(), 2);
}

#[test]
fn a_handover_is_shown_and_moves_nothing() {
    let mut rig = Rig::new();
    let blocks = chain(1);
    assert_eq!(shown(&rig.gossip(&blocks[0])), [11]);
    let effects = rig.gossip(&block(BASE + 2, blocks[0].hash(), 0));
    assert!(matches!(effects.events[..], [SdkEvent::Handover { block: 12, .. }]));
    assert_eq!(rig.head(), Some(11));
}

#[test]
fn gossip_of_one_batch_is_stored_at_once_and_told_in_order() {
    let mut rig = Rig::new();
    let blocks = chain(5);
    // The last ones wait for the first, and join its write.
    let order = [4, 2, 3, 0, 1];
    let gossip = order.iter().map(|&i| arrived(&key(1), &blocks[i])).collect();
    let effects = rig.process(vec![Command::Gossip(gossip)]);
    assert_eq!(shown(&effects), [11, 12, 13, 14, 15]);
    let heads = effects.events.iter().filter(|event| matches!(event, SdkEvent::Head { .. })).count();
    assert_eq!(heads, 1, "one for each write");
}

#[test]
fn what_stands_on_a_block_that_the_store_refused_is_refused_with_it() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 1, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let gossip = chain(3).iter().map(|block| arrived(&key(1), block)).collect();
    let effects = rig.process(vec![Command::Gossip(gossip)]);
    assert!(effects.fatal.is_none());
    assert_eq!(shown(&effects), [11]);
    assert!(effects.inputs.contains(&Input::NotStored { block: 12 }));
    assert!(effects.inputs.contains(&Input::NotStored { block: 13 }));
}

#[test]
fn evidence_is_stored_and_told_once() {
    let mut rig = Rig::new();
    let (first, other) = (block(BASE + 1, B256::ZERO, 1), block(BASE + 1, B256::ZERO, 2));
    rig.gossip(&first);
    let proofs = |effects: &Effects| {
        let proof = |event: &SdkEvent| match event {
            SdkEvent::Evidence { kind, signer, block, first, second } => {
                assert_eq!(*signer, key(1).address());
                Some((*kind, *block, first.hash(), second.hash()))
            }
            _ => None,
        };
        effects.events.iter().filter_map(proof).collect::<Vec<_>>()
    };
    let effects = rig.gossip(&other);
    assert_eq!(proofs(&effects), [(Misbehaviour::Equivocation, 11, first.hash(), other.hash())]);
    assert_eq!(rig.store.evidence().unwrap().len(), 1);
    assert!(proofs(&rig.gossip(&other)).is_empty());
    // After a restart both are remembered, and the proof is no news.
    let mut restarted = rig.restarted();
    assert!(proofs(&restarted.process(vec![Command::WarmUp])).is_empty());
    // A handover that came before the restart convicts a block that comes after.
    let handover = block(BASE + 2, other.hash(), 0);
    rig.gossip(&handover);
    let mut restarted = rig.restarted();
    restarted.process(vec![Command::WarmUp]);
    let late = block(BASE + 2, other.hash(), 5);
    let kinds: Vec<_> = proofs(&restarted.gossip(&late)).into_iter().map(|proof| proof.0).collect();
    assert_eq!(kinds, [Misbehaviour::BlockAfterEop], "the window's equivocation is proven already");
}

#[test]
fn a_handover_makes_the_next_preconfer_the_expected_one() {
    let mut rig = Rig::new();
    let expected = |rig: &mut Rig| {
        let (reply, answer) = oneshot::channel();
        rig.process(vec![Command::Expected { moment: NOW, reply }]);
        answer.blocking_recv().unwrap().unwrap().unwrap().window.end
    };
    assert_eq!(expected(&mut rig), UnixSeconds::new(WINDOW - 1));
    rig.gossip(&block(BASE + 1, B256::ZERO, 0));
    assert_eq!(expected(&mut rig), UnixSeconds::new(2 * WINDOW - 1));
    let mut restarted = rig.restarted();
    rig.gossip(&block(BASE + 1, B256::ZERO, 7));
    restarted.process(vec![Command::WarmUp]);
    assert_eq!(expected(&mut restarted), UnixSeconds::new(2 * WINDOW - 1), "also after a restart");
}

#[test]
fn the_head_of_l1_decides_how_old_an_anchor_may_be() {
    let mut rig = Rig::new();
    rig.process(vec![Command::L1Head(1_000)]);
    assert!(matches!(
        rig.local(&chain(1)[0], None).0,
        PublishDecision::Rejected(Rejection::StaleAnchor { .. })
    ));
}

#[test]
fn arrivals_of_elected_preconfers_tell_the_time_once() {
    let mut rig = Rig::new();
    let told = |effects: &Effects| -> Vec<(u64, bool)> {
        effects.timings.iter().map(|timing| (timing.timestamp.get(), timing.in_time)).collect()
    };
    let blocks = chain(2);
    let [first, second] = [&blocks[0], &blocks[1]].map(|block| block.timestamp.to::<u64>());
    assert_eq!(told(&rig.gossip_by(&key(9), &blocks[0])), [], "who was not elected says nothing");
    assert_eq!(told(&rig.gossip(&blocks[1])), [(second, true)], "before its parent");
    assert_eq!(told(&rig.gossip(&blocks[0])), [(first, true)], "what had waited is not told again");
    assert_eq!(rig.head(), Some(BASE + 2));
    let late = block(BASE + 3, blocks[1].hash(), 3);
    let mut one = arrived(&key(1), &late);
    one.arrival = Arrival::Live(UnixSeconds::new(2 * WINDOW));
    let effects = rig.process(vec![Command::Gossip(vec![one])]);
    assert_eq!(told(&effects), [(time(BASE + 3, 3), false)]);
}

#[test]
fn a_store_that_fills_up_is_told_once_until_it_has_room() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 10, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let is_told = |effects: Effects| {
        let nearly = |event: &SdkEvent| {
            matches!(event, SdkEvent::Storage { trouble: Some(StorageTrouble::NearlyFull { limit: 10, .. }) })
        };
        effects.events.iter().any(nearly)
    };
    let blocks = chain(15);
    let told = |rig: &mut Rig, range: std::ops::Range<usize>| -> Vec<bool> {
        blocks[range].iter().map(|block| is_told(rig.gossip(block))).collect()
    };
    assert!(!told(&mut rig, 0..7).contains(&true));
    rig.set_base(Base::at(BASE + 3));
    assert_eq!(told(&mut rig, 7..9), [false, true], "of eight, no more than half the limit is unsettled");
    rig.set_base(Base::at(BASE + 6));
    assert_eq!(rig.store.prune_below(BASE + 4).unwrap(), 3);
    assert_eq!(told(&mut rig, 8..12), [false; 4], "six of ten are not room enough");
    rig.set_base(Base::at(BASE + 8));
    assert_eq!(rig.store.prune_below(BASE + 8).unwrap(), 4);
    assert_eq!(told(&mut rig, 11..15), [false, false, false, true]);
}

#[test]
fn zero_parents_follow_the_heights_of_their_own_batch() {
    let zero = |number, fill| arrived(&key(1), &block(BASE + number, B256::ZERO, fill));
    // A handover is nothing to follow, and neither is a block of another height, however new.
    let mut rig = Rig::following_height();
    let batch = vec![zero(1, 1), zero(2, 0), zero(2, 2), zero(3, 3), zero(2, 4)];
    let effects = rig.process(vec![Command::Gossip(batch)]);
    let parent = |number: u64, fill| {
        let hash = block(BASE + number, B256::ZERO, fill).hash();
        rig.store.by_hash(&hash).unwrap().map(|stored| stored.parent)
    };
    let hash = |number: u64, fill| Some(block(BASE + number, B256::ZERO, fill).hash());
    assert_eq!(shown(&effects)[0], BASE + 1);
    assert_eq!([parent(2, 2), parent(2, 4)], [hash(1, 1); 2]);
    assert_eq!(parent(3, 3), hash(2, 2));
}

#[test]
fn a_block_on_another_than_the_settled_one_waits_for_that() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    rig.gossip(&blocks[0]);
    rig.set_base(Base::at(BASE + 1));
    let unknown = B256::repeat_byte(0xcc);
    let effects = rig.gossip(&block(BASE + 2, unknown, 7));
    let waits = Input::Orphan { block: BASE + 2, parent: unknown, signer: key(1).address() };
    assert!(shown(&effects).is_empty() && effects.inputs.contains(&waits), "{:?}", effects.inputs);
    assert_eq!(shown(&rig.gossip(&blocks[1])), [BASE + 2]);
}

#[test]
fn unelected_signers_do_not_push_out_those_elected_before() {
    let mut rig = Rig::new();
    rig.short_schedule();
    let late = UnixSeconds::new(WINDOW - 10);
    let mut gossip = |signer: u8, preconf: &Preconfirmation| {
        let mut one = arrived(&key(signer), preconf);
        one.arrival = Arrival::Live(late);
        rig.process_at(late, vec![Command::Gossip(vec![one])]);
        let waiting = |signer: u8| {
            let is_of =
                |waiting: &&Candidate| waiting.commitment.recovered().signer() == key(signer).address();
            rig.chain.pending.iter().filter(is_of).count()
        };
        [waiting(1), waiting(99)]
    };
    // For a window that nobody knows yet.
    let waits = |n: u64| Preconfirmation {
        submission_window_end: U256::from(WINDOW + n % 60),
        timestamp: U256::from(late.get() - n),
        ..block(BASE + 2 + n, B256::ZERO, 5)
    };
    gossip(1, &chain(1)[0]);
    assert_eq!(gossip(1, &waits(0)), [1, 0]);
    let share = p2p_storage::PendingLimits::default().untimed_per_peer.get();
    let last = (1..=100).map(|n| gossip(99, &waits(n))).last();
    assert_eq!(last, Some([1, share - 1]));
    assert_eq!(gossip(1, &waits(101)), [2, share - 2], "it takes the place of one of theirs");
}
