//! What the view of L2 has shown to be settled.

use p2p_types::PromiseOutcome;

use super::*;

/// The block at a height is none of these.
fn refuted(number: BlockNumber, promised: &[B256]) -> Settlement {
    let refuted = Refuted { settled: B256::repeat_byte(0xee), promised: promised.to_vec() };
    Settlement { base: Base::at(number), open: false, refuted: Some(refuted), events: vec![told(number)] }
}

fn told(block: BlockNumber) -> SdkEvent {
    let (promise, commitment, settled) = (PromiseOutcome::None, None, None);
    SdkEvent::Settled { block, promise, commitment, settled, hash: None, late: false }
}

fn settle(rig: &mut Rig, settlement: Settlement) -> Effects {
    let (reply, done) = oneshot::channel();
    let effects = rig.process(vec![Command::Settle { settlement: Box::new(settlement), reply }]);
    done.blocking_recv().unwrap().unwrap();
    effects
}

fn signed(blocks: &[Preconfirmation]) -> Vec<SignedCommitment> {
    blocks.iter().map(|block| sign_by(&key(1), block)).collect()
}

#[test]
fn what_stands_on_a_broken_promise_falls_before_that_is_told() {
    let (mut rig, blocks) = (Rig::new(), chain(4));
    assert_eq!(rig.import(&signed(&blocks)).0, ImportVerdict::Linked);
    let effects = settle(&mut rig, refuted(12, &[blocks[1].hash()]));
    let dropped = blocks[1..].iter().map(Preconfirmation::hash).collect();
    assert_eq!(
        effects.events,
        [SdkEvent::Reorg { dropped, from: 12 }, SdkEvent::Head { head: None }, told(12)]
    );
    assert_eq!(rig.store.base().unwrap(), Some(Base::at(12)));
}

#[test]
fn what_stood_on_a_broken_promise_does_not_come_back() {
    let (mut rig, blocks) = (Rig::new(), chain(4));
    assert_eq!(rig.import(&signed(&blocks)).0, ImportVerdict::Linked);
    drop(settle(&mut rig, refuted(12, &[blocks[1].hash()])));
    assert_eq!(rig.import(&signed(&blocks[2..])).0, ImportVerdict::Unusable { index: 0 });
    assert!(rig.gossip(&blocks[2]).events.is_empty());
    let own = block(13, blocks[1].hash(), 9);
    let decision = rig.local(&own, Some(list(9))).0;
    assert!(
        matches!(decision, PublishDecision::Ignored(IgnoreReason::Settled { block: 13, base: 12 })),
        "{decision:?}"
    );
    assert_eq!(rig.store.head().unwrap(), None);
    // Whoever builds on what was settled names another parent.
    let next = block(13, B256::repeat_byte(3), 8);
    drop(rig.gossip(&next));
    assert_eq!(rig.store.head().unwrap(), Some(Head { number: 13, hash: next.hash() }));
}

#[test]
fn a_base_that_moves_on_forgets_what_was_not_settled() {
    let (mut rig, blocks) = (Rig::new(), chain(4));
    assert_eq!(rig.import(&signed(&blocks)).0, ImportVerdict::Linked);
    drop(settle(&mut rig, refuted(12, &[blocks[1].hash()])));
    let on = |number| Settlement { base: Base::at(number), open: false, refuted: None, events: vec![] };
    drop(settle(&mut rig, on(12)));
    assert!(rig.chain.judge.not_settled.carries(13, blocks[1].hash()), "said again, it still holds");
    drop(settle(&mut rig, on(11)));
    assert!(!rig.chain.judge.not_settled.carries(13, blocks[1].hash()));
}

#[test]
fn a_settled_block_beside_the_chain_becomes_the_base() {
    let (mut rig, blocks) = (Rig::with_two(), chain(2));
    assert_eq!(rig.import(&signed(&blocks)).0, ImportVerdict::Linked);
    let rival = second(12, blocks[0].hash(), 7);
    drop(rig.gossip_second(&rival));
    let standing = rig.store.head().unwrap().unwrap().hash;
    let [loser] =
        [blocks[1].hash(), rival.hash()].into_iter().filter(|hash| *hash != standing).collect::<Vec<_>>()[..]
    else {
        panic!("both are there")
    };
    let base = Base { number: 12, hash: Some(loser) };
    let effects = settle(&mut rig, Settlement { base, open: false, refuted: None, events: vec![told(12)] });
    assert_eq!(effects.events[0], SdkEvent::Reorg { dropped: vec![standing], from: 12 });
    assert_eq!(rig.store.by_block(12).unwrap().map(|stored| stored.hash()), Some(loser));
}

#[test]
fn a_settlement_that_the_store_refuses_tells_nothing() {
    let (mut rig, blocks) = (Rig::new(), chain(2));
    assert_eq!(rig.import(&signed(&blocks)).0, ImportVerdict::Linked);
    let calls = rig.intercepted();
    calls.lock().unwrap().refused = Some((Call::SettleOther, StorageError::NoSpace));
    let (reply, done) = oneshot::channel();
    let settlement = Box::new(refuted(11, &[blocks[0].hash()]));
    let effects = rig.process(vec![Command::Settle { settlement, reply }]);
    assert_eq!(done.blocking_recv().unwrap(), Err(StorageError::NoSpace));
    assert!(!effects.events.contains(&told(11)));
    assert_eq!(rig.store.base().unwrap(), Some(Base::at(BASE)));
}
