//! Unelected signers and elected preconfers who lie, against the chain processor alone.

use p2p_storage::{DiskConfig, DiskStorage, PendingLimits, PromiseStore as _};
use preconfirmation_p2p::Verdict;

use super::*;

fn count(effects: &Effects, label: &str) -> usize {
    effects.events.iter().filter(|event| event.label() == label).count()
}

/// What anybody can sign: a window that no schedule knows, at the very end of the horizon.
fn junk(n: u64) -> Preconfirmation {
    Preconfirmation {
        submission_window_end: U256::from(u64::MAX - n),
        timestamp: U256::from(n),
        ..block(u64::MAX - 1_000 - n, B256::repeat_byte(5), 5)
    }
}

#[test]
fn a_window_beyond_the_horizon_does_not_wait() {
    let mut rig = Rig::new();
    rig.short_schedule();
    for n in 0..600 {
        let effects = rig.gossip_by(&key(99), &junk(n));
        assert_eq!(effects.inputs, []);
    }
    assert!(rig.chain.pending.is_empty());
}

#[test]
fn heights_of_unelected_signers_are_not_seen() {
    let mut rig = Rig::new();
    rig.short_schedule();
    let blocks = chain(3);
    let late = UnixSeconds::new(WINDOW - 10);
    let gossip = |rig: &mut Rig, signer: u8, preconf: &Preconfirmation| {
        let mut one = arrived(&key(signer), preconf);
        one.arrival = Arrival::Live(late);
        rig.process_at(late, vec![Command::Gossip(vec![one])])
    };
    gossip(&mut rig, 1, &blocks[0]);
    // A window of the next epoch, which nobody knows yet, at the end of all heights.
    for n in 0..600_u64 {
        let waits = Preconfirmation {
            submission_window_end: U256::from(WINDOW + n % 60),
            timestamp: U256::from(late.get() - n),
            ..block(u64::MAX - n, B256::ZERO, 5)
        };
        let effects = gossip(&mut rig, 99, &waits);
        assert_eq!(effects.inputs, []);
    }
    let limits = PendingLimits::default();
    assert_eq!(rig.chain.pending.counts(), (0, limits.untimed_per_peer.get()), "a peer has its share");
    // An elected block that waits is seen, and no more once its parent has come.
    let effects = gossip(&mut rig, 1, &blocks[2]);
    assert!(effects.inputs.contains(&Input::Waiting { highest: Some(BASE + 3) }));
    let effects = gossip(&mut rig, 1, &blocks[1]);
    assert!(effects.inputs.contains(&Input::Waiting { highest: None }));
}

#[test]
fn what_waits_expires_while_the_base_moves() {
    let mut rig = Rig::new();
    let blocks = chain(60);
    for next in &blocks[..50] {
        rig.gossip(next);
    }
    rig.gossip(&block(BASE + 900, B256::repeat_byte(0xfa), 9));
    let mut gone = None;
    for i in 1..=50_u64 {
        rig.now += std::time::Duration::from_secs(12);
        let effects = rig.process(vec![Command::Tick]);
        if effects.inputs.contains(&Input::Waiting { highest: None }) {
            gone.get_or_insert(i);
        }
        rig.set_base(Base::at(BASE + i));
    }
    assert_eq!((gone, rig.chain.pending.len()), (Some(10), 0), "after two minutes");
}

#[test]
fn a_handover_before_its_parent_or_a_rejected_child_leaves_nothing_seen() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    rig.gossip(&blocks[0]);
    let effects = rig.gossip(&block(BASE + 3, blocks[1].hash(), 0));
    let waiting = |highest| Input::Waiting { highest };
    assert!(effects.inputs.contains(&waiting(Some(BASE + 2))), "it promises no block of its own");
    assert!(rig.gossip(&blocks[1]).inputs.contains(&waiting(None)));
    // One that breaks a rule of the chain, which shows when its parent comes.
    let bad = Preconfirmation { gas_limit: U256::from(5), ..block(BASE + 4, blocks[2].hash(), 9) };
    assert!(rig.gossip(&bad).inputs.contains(&waiting(Some(BASE + 4))));
    assert!(rig.gossip(&blocks[2]).inputs.contains(&waiting(None)));
}

#[test]
fn an_early_block_waits_until_it_is_due_and_a_far_one_may_come_again() {
    let mut rig = Rig::new();
    let at = |ahead: u64| Preconfirmation { timestamp: U256::from(NOW.get() + ahead), ..chain(1).remove(0) };
    let far = rig.gossip(&at(14));
    assert!(!rig.chain.waits_for_time());
    assert_eq!((shown(&far), far.unseen.len()), (vec![], 1), "it was not judged");
    assert_eq!(shown(&rig.gossip(&at(5))), [0; 0]);
    assert!(rig.chain.waits_for_time());
    let tick = |rig: &mut Rig, after: u64| {
        shown(&rig.process_at(UnixSeconds::new(NOW.get() + after), vec![Command::Tick]))
    };
    assert_eq!(tick(&mut rig, 2), [0; 0]);
    assert_eq!(tick(&mut rig, 3), [11]);
}

#[test]
fn a_lookahead_that_fails_leaves_nothing_seen() {
    struct Failing;
    impl p2p_validation::Lookahead for Failing {
        fn turn(
            &self,
            _: UnixSeconds,
        ) -> Result<Option<p2p_validation::Slot>, p2p_validation::LookaheadError> {
            Err(p2p_validation::LookaheadError::Unavailable)
        }
    }
    let mut rig = Rig::new();
    let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(Failing));
    rig.chain = processor(rig.store.clone(), validator);
    assert_eq!(rig.gossip(&chain(1)[0]).unseen.len(), 1);
}

#[test]
fn the_next_preconfer_cannot_rewrite_two_turns() {
    let mut rig = Rig::with_two();
    let honest = chain(20);
    for next in &honest {
        rig.gossip(next);
    }
    // The second has built on that; the first, elected again, wants both turns for itself.
    let built = second(BASE + 21, honest[19].hash(), 1);
    rig.gossip_second(&built);
    let third = UnixSeconds::new(2 * WINDOW + 50_000);
    let mut parent = B256::repeat_byte(0xaa);
    for n in 1..=30_u8 {
        let rewrite = Preconfirmation {
            timestamp: U256::from(2 * WINDOW + time(BASE + u64::from(n), n)),
            submission_window_end: U256::from(3 * WINDOW - 1),
            ..block(BASE + u64::from(n), parent, n)
        };
        parent = rewrite.hash();
        let mut one = arrived(&key(1), &rewrite);
        one.arrival = Arrival::Live(third);
        let effects = rig.process_at(third, vec![Command::Gossip(vec![one])]);
        assert_eq!(count(&effects, "reorg"), 0);
    }
    assert_eq!(rig.head(), Some(BASE + 21));
}

#[test]
fn nodes_with_other_bases_do_not_part() {
    let mut nodes = [Rig::with_two(), Rig::with_two()];
    let honest = chain(40);
    for rig in &mut nodes {
        for next in &honest {
            rig.gossip(next);
        }
    }
    // One of them was told earlier that more is settled; the next preconfer goes back below that.
    nodes[1].set_base(Base::at(BASE + 30));
    let x = second(BASE + 21, honest[19].hash(), 7);
    let y = second(BASE + 22, x.hash(), 8);
    for rig in &mut nodes {
        rig.gossip_second(&x);
        rig.gossip_second(&y);
    }
    assert_eq!(nodes[1].head(), Some(BASE + 40));
    // The other is told in its turn.
    nodes[0].set_base(Base::at(BASE + 30));
    assert_eq!(nodes[0].head(), Some(BASE + 40));
    let z = second(BASE + 41, honest[39].hash(), 9);
    for rig in &mut nodes {
        rig.gossip_second(&z);
        assert_eq!(rig.head(), Some(BASE + 41));
    }
}

#[test]
fn handovers_of_one_height_do_not_fill_the_store() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 300, ..StorageLimits::default() });
    rig.elect(&[1, 2]);
    rig.set_base(Base::at(BASE));
    let honest = chain(11);
    for next in &honest[..10] {
        rig.gossip(next);
    }
    let mut told = 0;
    for n in 0..400_u64 {
        let eop = Preconfirmation { proposal_id: U256::from(n), ..second(BASE + 11, honest[9].hash(), 0) };
        told += count(&rig.gossip_second(&eop), "handover");
    }
    assert_eq!((told, rig.store.stats().unwrap().commitments), (1, 11));
    for height in 2..=10_u64 {
        let parent = honest[usize::try_from(height - 2).unwrap()].hash();
        told += count(&rig.gossip_second(&second(BASE + height, parent, 0)), "handover");
    }
    assert_eq!(told, 8, "a window has few of them, whatever their heights");
    assert_eq!(shown(&rig.gossip(&honest[10])), [21]);
}

#[test]
fn siblings_of_one_height_make_few_events_and_what_is_built_on_is_admitted() {
    let mut rig = Rig::with_two();
    let honest = chain(10);
    for next in &honest {
        rig.gossip(next);
    }
    let sibling =
        |n: u64| Preconfirmation { proposal_id: U256::from(n), ..second(BASE + 11, honest[9].hash(), 5) };
    let events: usize = (0..1_000).map(|n| rig.gossip_second(&sibling(n)).events.len()).sum();
    assert!(events <= 12, "{events} events");
    assert_eq!(rig.store.stats().unwrap().commitments, 13, "three of them");
    // One that came too late is named by a block of the next turn: it is fetched, and stands.
    rig.elect(&[3, 2, 1]);
    rig.set_base(Base::at(BASE));
    for n in 0..3 {
        rig.gossip_second(&sibling(n));
    }
    let named = sibling(900);
    let third = UnixSeconds::new(2 * WINDOW + 50_000);
    let child = Preconfirmation {
        timestamp: U256::from(2 * WINDOW + time(BASE + 12, 1)),
        submission_window_end: U256::from(3 * WINDOW - 1),
        proposal_id: named.proposal_id,
        ..block(BASE + 12, named.hash(), 1)
    };
    let mut one = arrived(&key(1), &child);
    one.arrival = Arrival::Live(third);
    rig.process_at(third, vec![Command::Gossip(vec![one])]);
    let page = [sign_by(&key(2), &named), sign_by(&key(1), &child)];
    let page = rig.page(&page);
    rig.process_at(third, vec![page]);
    assert_eq!(rig.head(), Some(BASE + 12));
    assert!(rig.store.by_hash(&named.hash()).unwrap().is_some());
}

#[test]
fn what_cannot_be_a_child_brings_in_neither_a_sibling_nor_a_handover() {
    let mut rig = Rig::with_two();
    let honest = chain(10);
    honest.iter().for_each(|next| drop(rig.gossip(next)));
    let parent = honest[9].hash();
    let sibling = |n: u64| Preconfirmation { proposal_id: U256::from(n), ..second(BASE + 11, parent, 5) };
    let handover = |n: u64| Preconfirmation { proposal_id: U256::from(n), ..second(BASE + 11, parent, 0) };
    for filler in [sibling(0), sibling(1), sibling(2), handover(0)] {
        rig.gossip_second(&filler);
        assert!(rig.store.by_hash(&filler.hash()).unwrap().is_some());
    }
    let mut brings_in = |child_at: BlockNumber, named: &Preconfirmation| {
        rig.gossip_second(&second(child_at, named.hash(), 6));
        assert!(rig.chain.pending.waits_for(&named.hash()));
        rig.gossip_second(named);
        rig.store.by_hash(&named.hash()).unwrap().is_some()
    };
    for height in [BASE + 10, BASE + 13, BASE + 500] {
        assert!(!brings_in(height, &sibling(height)), "{height}");
    }
    assert!(!brings_in(BASE + 12, &handover(1)), "nothing is built on a handover");
    assert!(brings_in(BASE + 12, &sibling(3)), "this could be its child");
}

/// One of many valid signatures of key 1.
fn signature(hash: &B256, nonce: u64) -> preconfirmation_types::FixedBytes<65> {
    let secret = secp256k1::SecretKey::from_secret_bytes([1; 32]).unwrap();
    let message = secp256k1::Message::from_digest(hash.0);
    let nonce = B256::from(U256::from(nonce)).0;
    let signed = secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable_with_noncedata(
        message, &secret, &nonce,
    );
    let (v, rs) = signed.serialize_compact();
    preconfirmation_types::FixedBytes::<64>::new(rs)
        .concat_const(preconfirmation_types::FixedBytes::new([v.to_u8()]))
}

#[test]
fn one_promise_is_forwarded_once_in_whatever_bytes() {
    let mut rig = Rig::new();
    let preconf = chain(1).remove(0);
    let commitment = PreconfCommitment { preconf, slasher_address: SLASHER };
    let hash = DOMAIN.signing_hash(&commitment.to_ssz());
    let (mut accepted, mut events) = (0, 0);
    for n in 0..50_u64 {
        let signature = signature(&hash, n);
        let signed = SignedCommitment { commitment: commitment.clone(), signature };
        let (verdict, mut settled) = preconfirmation_p2p::sim::verdict(peer(1));
        let one = GossipCommitment {
            ssz: signed.to_ssz().into(),
            arrival: Arrival::Live(NOW),
            from: peer(1),
            verdict: Some(verdict),
            span: Span::none(),
        };
        events += rig.process(vec![Command::Gossip(vec![one])]).events.len();
        accepted += u32::from(settled.get().unwrap() == Verdict::Accept);
    }
    assert_eq!((accepted, events), (1, 2), "one commitment, one head");
}

#[test]
fn one_handover_below_many_blocks_is_one_proof() {
    let mut rig = Rig::with_two();
    let many = |n: u64| {
        let mut one = arrived(&key(2), &second(BASE + 2 + n, B256::repeat_byte(0xcc), 5));
        one.arrival = Arrival::Live(SECOND);
        one
    };
    rig.process_at(SECOND, vec![Command::Gossip((0..900).map(many).collect())]);
    let mut proofs = 0;
    for n in 0..3_u64 {
        let eop =
            Preconfirmation { proposal_id: U256::from(n), ..second(BASE + 1, B256::repeat_byte(0xdd), 0) };
        proofs += count(&rig.gossip_second(&eop), "evidence");
    }
    assert_eq!((proofs, rig.store.evidence().unwrap().len()), (1, 1));
    // A restart proves nothing anew.
    let mut restarted = Rig::without_base(StorageLimits::default());
    restarted.store = rig.store.clone();
    restarted.elect(&[1, 2]);
    restarted.process_at(SECOND, vec![Command::WarmUp]);
    let eop = Preconfirmation { proposal_id: U256::from(7), ..second(BASE + 1, B256::repeat_byte(0xdd), 0) };
    let later = second(BASE + 3, B256::repeat_byte(0xcc), 6);
    assert_eq!(count(&restarted.gossip_second(&eop), "evidence"), 0);
    assert_eq!(count(&restarted.gossip_second(&later), "evidence"), 0);
}

#[test]
fn lists_that_nothing_names_push_out_nobody_elses_and_earn_nothing() {
    let mut rig = Rig::new();
    let listed = |from: u8, fill: u8, len: usize| {
        let (verdict, settled) = preconfirmation_p2p::sim::verdict(peer(from));
        let txlist = TxList::new(vec![fill; len].into(), len).unwrap();
        let origin = Origin::Gossip(peer(from));
        (VerifiedTxList { txlist, origin, verdict: Some(verdict), span: Span::none() }, settled)
    };
    let (honest, mut told) = listed(1, 1, 10);
    rig.process(vec![Command::TxLists(vec![honest])]);
    assert_eq!(told.get().unwrap(), Verdict::Forward, "nobody's credit");
    let mut ignored = 0;
    for fill in 0..30 {
        let (junk, mut told) = listed(2, 100 + fill, 1024 * 1024);
        rig.process(vec![Command::TxLists(vec![junk])]);
        ignored += u32::from(told.get().unwrap() == Verdict::Ignore);
    }
    assert_eq!(ignored, 23, "8 MiB of one sender go on");
    assert_eq!(ready(&rig.gossip(&chain(1)[0])), [11], "the honest list is still there");
    // One that an elected commitment names, waiting for its parent, has room whoever sent it.
    rig.gossip(&block(BASE + 9, B256::repeat_byte(9), 77));
    for (fill, verdict) in [(77, Verdict::Accept), (78, Verdict::Forward)] {
        let (named, mut told) = listed(2, fill, 10);
        rig.process(vec![Command::TxLists(vec![named])]);
        assert_eq!(told.get().unwrap(), verdict, "{fill}");
    }
}

#[test]
fn own_promises_outlive_bases_reorgs_and_restarts() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for next in &blocks {
        assert!(matches!(rig.local(next, None).0, PublishDecision::Stored));
    }
    rig.set_base(Base { number: BASE + 1, hash: Some(B256::repeat_byte(0xee)) });
    rig.l1_reorg(0);
    let other = block(BASE + 2, B256::repeat_byte(0xee), 7);
    let refused = Some((Misbehaviour::Equivocation, blocks[1].hash()));
    assert_eq!(rig.conflict(&other), refused);
    let mut restarted = rig.restarted();
    assert_eq!(restarted.conflict(&other), refused);
    // For a day after the window and its grace: a clock that is hours ahead forgets nothing.
    let window_end = UnixSeconds::new(WINDOW - 1);
    let kept = |rig: &Rig| rig.store.promises(&key(1).address(), window_end).unwrap().len();
    restarted.process_at(UnixSeconds::new(WINDOW + 86_400), vec![Command::Tick]);
    assert_eq!(kept(&restarted), 3);
    restarted.process_at(UnixSeconds::new(WINDOW + 87_000), vec![Command::Tick]);
    assert_eq!(kept(&restarted), 0);
}

#[test]
fn what_its_signer_has_signed_elsewhere_and_merely_waits_binds_it_too() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    // From another machine, without its parent.
    rig.gossip(&blocks[1]);
    rig.gossip(&block(BASE + 1, B256::ZERO, 9));
    let other = block(BASE + 2, block(BASE + 1, B256::ZERO, 9).hash(), 3);
    assert_eq!(rig.conflict(&other), Some((Misbehaviour::Equivocation, blocks[1].hash())));
}

#[test]
fn a_block_that_another_branch_beats_says_so() {
    let mut rig = Rig::with_two();
    let honest = chain(4);
    for next in &honest {
        rig.gossip(next);
    }
    rig.gossip_second(&second(BASE + 5, honest[3].hash(), 1));
    // Key 1, in its own turn, on what two turns have left behind.
    let mine = block(BASE + 3, honest[1].hash(), 19);
    let PublishDecision::Conflict(conflict) = rig.local(&mine, None).0 else { panic!() };
    assert!(matches!(rig.local_despite(&mine, None, Some(conflict)).0, PublishDecision::NonCanonical));
    assert_eq!(rig.head(), Some(BASE + 5));
}

#[test]
fn a_zero_parent_costs_nobody_where_the_base_is_known() {
    let mut rig = Rig::following_height();
    let zero: Vec<_> = (1..=4).map(|n| block(BASE + u64::from(n), B256::ZERO, n)).collect();
    assert_eq!(shown(&rig.gossip(&zero[0])), [11]);
    assert_eq!(shown(&rig.gossip(&zero[1])), [12]);
    rig.set_base(Base { number: BASE + 2, hash: Some(zero[1].hash()) });
    assert_eq!(shown(&rig.gossip(&zero[2])), [13]);
    let page = [sign_by(&key(1), &zero[2]), sign_by(&key(1), &zero[3])];
    let (verdict, effects) = rig.import(&page);
    assert_eq!((verdict, shown(&effects)), (ImportVerdict::Linked, vec![14]));
}

#[test]
fn a_damaged_list_is_fetched_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = DiskConfig { file_bytes: 1, ..DiskConfig::recommended(DOMAIN) };
    let store = Arc::new(DiskStorage::open(folder.path(), config).unwrap());
    let mut rig = Rig::new();
    rig.chain = processor(store, rotating(&[1]));
    rig.set_base(Base::at(BASE));
    let blocks = chain(1);
    rig.gossip(&blocks[0]);
    rig.txlist(1);
    let name = format!("{:x}", list(1).hash());
    let path = folder.path().join("txlists").join(&name[..1]).join(&name);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[1..]).unwrap();
    // Another block with the same list, as empty blocks have.
    let next = block(BASE + 2, blocks[0].hash(), 1);
    let effects = rig.gossip(&next);
    assert!(effects.fatal.is_none());
    let hash = list(1).hash();
    assert!(effects.inputs.contains(&Input::TxListMissing { block: BASE + 2, hash, live: true }));
    assert_eq!(ready(&rig.txlist(1)), [12]);
    // What has its length is damaged as well, which shows only to those who read it.
    std::fs::write(&path, vec![0; good.len()]).unwrap();
    let next = block(BASE + 3, next.hash(), 1);
    assert_eq!(ready(&rig.gossip(&next)), [13]);
    let effects = rig.process(vec![Command::Unreadable { hash }, Command::Unreadable { hash }]);
    assert!(effects.fatal.is_none());
    assert_eq!(effects.inputs, [Input::TxListMissing { block: BASE + 3, hash, live: false }]);
    assert_eq!(ready(&rig.txlist(1)), [13]);
    // Kept for a higher block, in whose place another one stands.
    let first = next.hash();
    assert_eq!(ready(&rig.gossip(&block(BASE + 4, first, 1))), [14]);
    let rival = block(BASE + 4, first, 4);
    rig.gossip(&rival);
    rig.gossip(&block(BASE + 5, rival.hash(), 5));
    std::fs::write(&path, vec![0; good.len()]).unwrap();
    let effects = rig.process(vec![Command::Unreadable { hash }]);
    let missing = |block| Input::TxListMissing { block, hash, live: false };
    assert_eq!(effects.inputs, [missing(BASE + 1), missing(BASE + 2), missing(BASE + 3)]);
}

#[test]
fn a_store_that_is_full_says_so_before_and_when_and_when_it_is_over() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 20, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let blocks = chain(21);
    let trouble = |effects: &Effects| {
        let trouble = |event: &SdkEvent| match event {
            SdkEvent::Storage { trouble } => Some(trouble.clone()),
            _ => None,
        };
        effects.events.iter().filter_map(trouble).collect::<Vec<_>>()
    };
    let told: Vec<_> = blocks.iter().flat_map(|next| trouble(&rig.gossip(next))).collect();
    let nearly = p2p_types::StorageTrouble::NearlyFull { used: 16, limit: 20 };
    let [Some(first), Some(p2p_types::StorageTrouble::Failing { reason })] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first, reason.contains("full")), (&nearly, true));
    assert_eq!(trouble(&rig.set_base(Base::at(BASE + 15))), [None]);
}
