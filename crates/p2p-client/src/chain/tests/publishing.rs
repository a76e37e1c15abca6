//! What the application publishes, and what its signer is bound by.

use super::*;

#[test]
fn the_application_is_told_what_peers_would_say() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    let (judged, effects) = rig.local(&blocks[0], Some(list(1)));
    assert!(matches!(judged, PublishDecision::Stored));
    assert_eq!((shown(&effects), ready(&effects)), (vec![11], vec![11]));
    assert!(matches!(rig.local(&blocks[0], None).0, PublishDecision::Unpublished));
    assert!(matches!(rig.local(&blocks[2], None).0, PublishDecision::Deferred(Missing::Parent(_))));
    let skips = block(BASE + 9, blocks[0].hash(), 1);
    assert!(matches!(rig.local(&skips, None).0, PublishDecision::Rejected(Rejection::BlockNumber { .. })));
    let settled = block(BASE, B256::ZERO, 1);
    assert!(matches!(rig.local(&settled, None).0, PublishDecision::Ignored(IgnoreReason::Settled { .. })));
}

#[test]
fn a_full_store_is_told_and_nothing_is_lost() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 2, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let blocks = chain(3);
    rig.gossip(&blocks[0]);
    rig.gossip(&blocks[1]);
    assert!(matches!(rig.local(&blocks[2], None).0, PublishDecision::Failed(StorageError::Full { .. })));
    let effects = rig.gossip(&blocks[2]);
    assert!(effects.fatal.is_none());
    assert_eq!(effects.inputs, [Input::NotStored { block: 13 }], "catch-up will come back for it");
    // The contracts settle, which makes room.
    rig.set_base(Base::at(BASE + 2));
    assert!(matches!(rig.local(&blocks[2], None).0, PublishDecision::Stored));
}

#[test]
fn a_signer_is_kept_from_contradicting_itself_also_after_a_restart() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    assert!(matches!(rig.local(&first, Some(list(1))).0, PublishDecision::Stored));
    let other = block(BASE + 1, B256::ZERO, 2);
    let refused = Some((Misbehaviour::Equivocation, first.hash()));
    assert_eq!(rig.conflict(&other), refused);
    assert!(rig.store.by_hash(&other.hash()).unwrap().is_none());
    let mut restarted = rig.restarted();
    assert_eq!(restarted.conflict(&other), refused, "from the store alone");
    // To decline a height that one has filled is a contradiction too.
    assert_eq!(restarted.conflict(&block(BASE + 1, B256::ZERO, 0)), refused);
    // What it built on goes on.
    assert!(matches!(restarted.local(&block(BASE + 2, first.hash(), 3), None).0, PublishDecision::Stored));
}

#[test]
fn a_promise_that_lost_its_place_binds_as_well() {
    let mut rig = Rig::new();
    let mine = block(BASE + 1, B256::ZERO, 1);
    rig.gossip(&mine);
    // Another content takes the height; the first is history.
    let winner = block(BASE + 1, B256::ZERO, 2);
    rig.gossip(&winner);
    assert_eq!(rig.store.by_block(BASE + 1).unwrap().unwrap().hash(), winner.hash());
    let third = block(BASE + 1, B256::ZERO, 3);
    assert_eq!(rig.restarted().conflict(&third), Some((Misbehaviour::Equivocation, mine.hash())));
}

#[test]
fn after_a_handover_its_signer_publishes_no_block_of_that_window() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    rig.local(&blocks[0], None);
    let handover = block(BASE + 2, blocks[0].hash(), 0);
    assert!(matches!(rig.local(&handover, None).0, PublishDecision::Stored));
    let mut restarted = rig.restarted();
    assert!(matches!(restarted.local(&handover, None).0, PublishDecision::Unpublished));
    assert_eq!(restarted.conflict(&blocks[1]), Some((Misbehaviour::Equivocation, handover.hash())));
    // A later height, on a block that somebody else (here: gossip) has put there.
    rig.gossip(&blocks[1]);
    let later = block(BASE + 3, blocks[1].hash(), 3);
    assert_eq!(rig.restarted().conflict(&later), Some((Misbehaviour::BlockAfterEop, handover.hash())));
}

#[test]
fn a_handover_below_ones_own_blocks_is_a_contradiction() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for block in &blocks {
        rig.local(block, None);
    }
    let eop = Preconfirmation { eop: true, ..block(BASE + 4, blocks[2].hash(), 4) };
    assert!(matches!(rig.local(&eop, None).0, PublishDecision::Stored), "the last block may hand over");
    let next = block(BASE + 5, eop.hash(), 5);
    assert_eq!(rig.restarted().conflict(&next), Some((Misbehaviour::BlockAfterEop, eop.hash())));
}

#[test]
fn only_the_conflict_that_was_shown_is_waived() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    rig.local(&first, None);
    let other = block(BASE + 1, B256::ZERO, 2);
    let PublishDecision::Conflict(conflict) = rig.local(&other, None).0 else { panic!() };
    let third = block(BASE + 1, B256::ZERO, 3);
    assert!(matches!(rig.local_despite(&third, None, Some(conflict)).0, PublishDecision::Conflict(_)));
    let (judged, effects) = rig.local_despite(&other, None, Some(conflict));
    assert!(matches!(judged, PublishDecision::Stored));
    let told =
        |event: &SdkEvent| matches!(event, SdkEvent::Evidence { kind: Misbehaviour::Equivocation, .. });
    assert!(effects.events.iter().any(told), "everybody will know, so we say it");
}

#[test]
fn a_block_published_twice_is_no_news_even_when_it_would_be_late() {
    let mut rig = Rig::new();
    let first = &chain(1)[0];
    assert!(matches!(rig.local(first, None).0, PublishDecision::Stored));
    rig.store.record_published(&[first.hash()]).unwrap();
    assert!(matches!(rig.local(first, None).0, PublishDecision::AlreadyStored));
    assert!(matches!(rig.local(first, Some(list(1))).0, PublishDecision::Stored), "its list is news");
    let (judged, effects) = published_late(&rig, first);
    assert!(matches!(judged, PublishDecision::AlreadyStored));
    assert!(effects.events.is_empty());
}

/// After a restart, when the window is over.
fn published_late(rig: &Rig, preconf: &Preconfirmation) -> (PublishDecision, Effects) {
    let (mut restarted, (reply, judged)) = (rig.restarted(), oneshot::channel());
    let commitment = Box::new(restarted.authenticated(sign_by(&key(1), preconf)));
    let (txlist, acknowledged, span) = (Some(list(1)), None, Span::none());
    let late = UnixSeconds::new(WINDOW + 1_000);
    let effects = restarted.process_at(
        late,
        vec![Command::Publish { commitment, txlist, acknowledged, allow_behind: false, reply, span }],
    );
    (judged.blocking_recv().unwrap(), effects)
}

#[test]
fn what_has_not_gone_out_is_still_to_be_sent_while_that_is_of_use() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    assert!(matches!(rig.local(&blocks[0], Some(list(1))).0, PublishDecision::Stored));
    let (judged, effects) = rig.local(&blocks[0], Some(list(1)));
    assert!(matches!(judged, PublishDecision::Unpublished), "{judged:?}");
    assert!(effects.events.is_empty(), "it has been shown");
    assert!(matches!(rig.restarted().local(&blocks[0], None).0, PublishDecision::Unpublished));
    assert!(matches!(published_late(&rig, &blocks[0]).0, PublishDecision::AlreadyStored), "too late");
    // Whoever hears of its child fetches it.
    assert!(matches!(rig.local(&blocks[1], None).0, PublishDecision::Stored));
    assert!(matches!(rig.local(&blocks[0], None).0, PublishDecision::AlreadyStored));
    assert!(matches!(rig.local(&blocks[1], None).0, PublishDecision::Unpublished));
    // A handover, too.
    let over = block(BASE + 3, blocks[1].hash(), 0);
    assert!(matches!(rig.local(&over, None).0, PublishDecision::Stored));
    assert!(matches!(rig.local(&over, None).0, PublishDecision::Unpublished));
    rig.store.record_published(&[over.hash()]).unwrap();
    assert!(matches!(rig.local(&over, None).0, PublishDecision::AlreadyStored));
}

#[test]
fn a_stored_block_under_another_signature_is_judged_anew() {
    let mut rig = Rig::new();
    let first = chain(1).remove(0);
    assert!(matches!(rig.local(&first, None).0, PublishDecision::Stored));
    let (command, judged) = rig.publication(&sign_by(&key(2), &first), None, None);
    rig.process(vec![command]);
    let judged = judged.blocking_recv().unwrap();
    let PublishDecision::Rejected(rejection) = judged else { panic!("{judged:?}") };
    assert!(matches!(rejection, Rejection::WrongSigner { .. }), "{rejection}");
}

#[test]
fn the_list_of_a_settled_block_is_not_stored() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    for next in &blocks {
        assert!(matches!(rig.local(next, None).0, PublishDecision::Stored));
    }
    rig.set_base(Base::at(BASE + 1));
    assert!(matches!(rig.local(&blocks[0], Some(list(1))).0, PublishDecision::AlreadyStored));
    assert!(matches!(rig.local(&blocks[1], Some(list(2))).0, PublishDecision::Stored));
    assert_eq!([1, 2].map(|fill| rig.store.contains(&list(fill).hash()).unwrap()), [false, true]);
}
