//! A schedule that changes under the chain.

use p2p_validation::{Lookahead, LookaheadError, Slot};

use super::*;

/// Elects one key for all time, another after a change, or does not know.
#[derive(Default)]
struct Changing(Mutex<Option<RotatingSchedule>>);

impl Changing {
    fn elect(&self, byte: Option<u8>) {
        let window = NonZeroU64::new(WINDOW).unwrap();
        let of =
            |byte| RotatingSchedule::new(vec![key(byte).address()], UnixSeconds::new(0), window).unwrap();
        *self.0.lock().unwrap() = byte.map(of);
    }
}

impl Lookahead for Changing {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        self.0.lock().unwrap().as_ref().map_or(Ok(None), |schedule| Ok(schedule.turn(moment)))
    }
}

/// An empty chain, for which key 1 is elected.
fn elected() -> (Rig, Arc<Changing>) {
    let mut rig = Rig::new();
    let schedule = Arc::<Changing>::default();
    schedule.elect(Some(1));
    let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), schedule.clone());
    rig.chain = processor(rig.store.clone(), validator);
    rig.set_base(Base::at(BASE));
    (rig, schedule)
}

/// A chain of three blocks of key 1, and who is elected.
fn three_blocks() -> (Rig, Arc<Changing>, Vec<Preconfirmation>) {
    let (mut rig, schedule) = elected();
    let blocks = chain(3);
    for next in &blocks {
        rig.gossip(next);
    }
    assert_eq!(rig.head(), Some(BASE + 3));
    (rig, schedule, blocks)
}

/// Tells that the schedule has changed since the timestamp of a block.
fn change(rig: &mut Rig, since: &Preconfirmation) -> (ScheduleReorg, Effects) {
    let (reply, done) = oneshot::channel();
    let since = UnixSeconds::new(since.timestamp.to());
    let effects = rig.process(vec![Command::ScheduleChanged { since, from: 0, reply }]);
    (done.blocking_recv().unwrap().unwrap().reorg, effects)
}

#[test]
fn blocks_of_whoever_is_elected_no_more_leave_the_chain() {
    let (mut rig, schedule, blocks) = three_blocks();
    let handover = block(BASE + 4, blocks[2].hash(), 0);
    rig.gossip(&handover);
    let (unchanged, effects) = change(&mut rig, &blocks[0]);
    assert_eq!((unchanged.from, unchanged.affected.len(), effects.events.len()), (None, 0, 0));

    schedule.elect(Some(2));
    let (reorg, effects) = change(&mut rig, &blocks[1]);
    let affected: Vec<B256> = blocks[1..].iter().map(Preconfirmation::hash).collect();
    assert_eq!((reorg.from, &reorg.affected), (Some(BASE + 2), &affected));
    let head = Some(Head { number: BASE + 1, hash: blocks[0].hash() });
    let told = SdkEvent::ScheduleReorg { since: reorg.since, from: BASE + 2, affected };
    assert_eq!(effects.events, [told, SdkEvent::Head { head }], "what was signed before stays");
    assert!(effects.inputs.contains(&Input::Applied { head }), "catch-up is told that the head fell");
    for gone in [&blocks[1], &blocks[2], &handover] {
        assert_eq!(rig.store.by_hash(&gone.hash()).unwrap(), None);
    }

    assert_eq!(shown(&rig.gossip(&blocks[1])), [0; 0], "a copy that a peer still has");
    let other = block(BASE + 2, blocks[0].hash(), 7);
    assert_eq!(shown(&rig.gossip_by(&key(2), &other)), [BASE + 2]);
    assert!(change(&mut rig, &blocks[1]).0.affected.is_empty(), "told once");
}

#[test]
fn what_a_schedule_elects_again_returns_to_the_chain() {
    let (mut rig, schedule, blocks) = three_blocks();
    schedule.elect(Some(2));
    assert_eq!(change(&mut rig, &blocks[1]).0.affected.len(), 2);
    assert_eq!(change(&mut rig, &blocks[0]).0.affected, [blocks[0].hash()]);
    schedule.elect(Some(1));
    let (reorg, effects) = change(&mut rig, &blocks[0]);
    assert_eq!((reorg.affected.len(), shown(&effects)), (0, vec![11, 12, 13]));
    assert!(change(&mut rig, &blocks[0]).1.events.is_empty(), "once");
}

#[test]
fn what_the_schedule_does_not_tell_stays_until_it_does() {
    let (mut rig, schedule, blocks) = three_blocks();
    schedule.elect(None);
    let (reorg, effects) = change(&mut rig, &blocks[1]);
    assert_eq!((reorg.affected.len(), effects.events.len()), (0, 0));
    assert!(rig.chain.waits_for_time());
    assert!(rig.process(vec![Command::Tick]).events.is_empty());
    schedule.elect(Some(2));
    let affected = blocks[1..].iter().map(Preconfirmation::hash).collect();
    let told = SdkEvent::ScheduleReorg {
        since: UnixSeconds::new(blocks[1].timestamp.to()),
        from: BASE + 2,
        affected,
    };
    assert!(rig.process(vec![Command::Tick]).events.contains(&told));
    assert!(!rig.chain.waits_for_time());

    let (mut rig, schedule, blocks) = three_blocks();
    schedule.elect(None);
    change(&mut rig, &blocks[0]);
    schedule.elect(Some(1));
    assert!(rig.process(vec![Command::Tick]).events.is_empty(), "its signer is the one after all");
    assert!(!rig.chain.waits_for_time());
}

#[test]
fn what_is_settled_is_not_judged_by_another_schedule() {
    let (mut rig, schedule, blocks) = three_blocks();
    schedule.elect(None);
    change(&mut rig, &blocks[0]);
    rig.set_base(Base::at(BASE + 2));
    schedule.elect(Some(2));
    rig.process(vec![Command::Tick]);
    assert_eq!(rig.head(), None, "the block above the base is not elected");
    assert_eq!(rig.store.by_block(BASE + 2).unwrap().unwrap().hash(), blocks[1].hash());
}

#[test]
fn a_removal_that_the_store_refuses_can_be_repeated() {
    let (mut rig, schedule, blocks) = three_blocks();
    let calls = rig.intercepted();
    let store = Arc::clone(&rig.store);
    let refused = StorageError::NoSpace;
    let seen = calls.clone();
    let store = Intercepted::new(store, move |call| seen.lock().unwrap().answer(call));
    let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), schedule.clone());
    rig.chain = processor(Arc::new(store), validator);
    rig.set_base(Base::at(BASE));
    schedule.elect(Some(2));
    for call in [Call::At, Call::Remove] {
        calls.lock().unwrap().refused = Some((call, refused.clone()));
        let (reply, done) = oneshot::channel();
        let since = UnixSeconds::new(0);
        let effects = rig.process(vec![Command::ScheduleChanged { since, from: 0, reply }]);
        assert_eq!(done.blocking_recv().unwrap().unwrap_err(), refused, "{call:?}");
        assert_eq!(effects.fatal, None);
        assert_eq!(rig.head(), Some(BASE + 3));
    }
    calls.lock().unwrap().refused = None;
    assert_eq!(change(&mut rig, &blocks[0]).0.affected.len(), 3);
}

#[test]
fn a_long_chain_is_judged_again_in_slices() {
    let (mut rig, schedule) = elected();
    let mut parent = B256::ZERO;
    for height in 1..=600 {
        let next = block(BASE + height, parent, 1);
        parent = next.hash();
        rig.gossip(&next);
    }
    assert_eq!(rig.head(), Some(BASE + 600));
    schedule.elect(Some(2));
    // All but the last block were signed before.
    let last = rig.store.by_block(BASE + 600).unwrap().unwrap();
    let since = UnixSeconds::new(last.recovered.signed().preconf().timestamp.to());
    let (mut next, mut calls, mut affected) = (Some(0), 0, Vec::new());
    while let Some(from) = next {
        let (reply, done) = oneshot::channel();
        rig.process(vec![Command::ScheduleChanged { since, from, reply }]);
        let rejudged = done.blocking_recv().unwrap().unwrap();
        calls += 1;
        next = rejudged.next;
        affected.extend(rejudged.reorg.affected);
    }
    assert_eq!((calls, affected), (3, vec![last.hash()]));
    assert_eq!(rig.head(), Some(BASE + 599));
}

#[test]
fn what_the_store_refuses_for_now_is_removed_or_returns_later() {
    let (mut rig, schedule, blocks) = three_blocks();
    let calls = rig.intercepted();
    let (store, seen) = (Arc::clone(&rig.store), calls.clone());
    let store = Intercepted::new(store, move |call| seen.lock().unwrap().answer(call));
    let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), schedule.clone());
    rig.chain = processor(Arc::new(store), validator);
    rig.set_base(Base::at(BASE));
    schedule.elect(None);
    for _ in 0..3 {
        change(&mut rig, &blocks[1]);
    }
    assert_eq!(rig.chain.reconsidered.undecided.len(), 2, "each once, however often it is asked");

    let refuse = |call: Option<Call>| {
        calls.lock().unwrap().refused = call.map(|call| (call, StorageError::NoSpace));
    };
    schedule.elect(Some(2));
    refuse(Some(Call::Remove));
    rig.process(vec![Command::Tick]);
    assert_eq!(rig.head(), Some(BASE + 3));
    refuse(None);
    rig.process(vec![Command::Tick]);
    assert_eq!(rig.head(), Some(BASE + 1));

    schedule.elect(Some(1));
    refuse(Some(Call::Apply));
    change(&mut rig, &blocks[1]);
    assert_eq!(rig.head(), Some(BASE + 1));
    refuse(None);
    change(&mut rig, &blocks[1]);
    assert_eq!(rig.head(), Some(BASE + 3));
    assert!(rig.chain.reconsidered.removed.is_empty(), "what is stored is remembered no more");
}
