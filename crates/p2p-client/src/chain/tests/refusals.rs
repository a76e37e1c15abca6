//! A store that refuses: for now, which is told and made good, or for good, which ends the client.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

/// Time can cure it.
const FOR_NOW: StorageError = StorageError::NoSpace;
/// It cannot.
const FOR_GOOD: StorageError = StorageError::Poisoned;

/// Blocks 11 and 12 are stored without their lists, and the store refuses a call from here on.
fn refusing(call: Call, error: StorageError) -> (Rig, Arc<Mutex<Calls>>) {
    let mut rig = Rig::new();
    for next in &chain(2) {
        rig.gossip(next);
    }
    let calls = rig.intercepted();
    calls.lock().unwrap().refused = Some((call, error));
    (rig, calls)
}

fn accept_all(calls: &Mutex<Calls>) {
    calls.lock().unwrap().refused = None;
}

/// Whether it is told that the store fails.
fn is_failing(effects: &Effects) -> bool {
    let failing = |event: &SdkEvent| {
        matches!(event, SdkEvent::Storage { trouble: Some(StorageTrouble::Failing { .. }) })
    };
    effects.events.iter().any(failing)
}

/// Block 12 as its signer has also signed it: it loses against the one that is stored.
fn beside() -> Preconfirmation {
    block(BASE + 2, chain(1)[0].hash(), 1)
}

fn txlists(fill: u8) -> Command {
    let (txlist, origin) = (list(fill), Origin::Sync(peer(1)));
    Command::TxLists(vec![VerifiedTxList { txlist, origin, verdict: None, span: Span::none() }])
}

fn gossip(blocks: &[Preconfirmation]) -> Command {
    Command::Gossip(blocks.iter().map(|next| arrived(&key(1), next)).collect())
}

type Job = fn(&Rig) -> Command;

/// Commands, and the calls of the store that each needs.
fn jobs() -> Vec<(Job, Vec<Call>)> {
    let publish_beside: Job = |rig| rig.publication(&sign_by(&key(1), &beside()), Some(list(1)), None).0;
    vec![
        (|_| gossip(&chain(3)[2..]), vec![Call::Base, Call::ByHash, Call::Head, Call::Apply, Call::Renew]),
        (|_| gossip(&[chain(3).remove(2), block(BASE + 3, B256::ZERO, 9)]), vec![Call::PutEvidence]),
        (
            |rig| rig.publication(&sign_by(&key(1), &chain(3)[2]), Some(list(3)), None).0,
            vec![Call::ByHash, Call::Promises, Call::PutPromise, Call::Apply, Call::ApplyTxLists],
        ),
        (publish_beside, vec![Call::Apply, Call::ApplyTxLists]),
        (
            |rig| rig.publication(&sign_by(&key(1), &chain(2)[1]), Some(list(2)), None).0,
            vec![Call::IsPublished, Call::Contains, Call::Put],
        ),
        (|rig| rig.page(&[sign_by(&key(1), &chain(3)[2])]), vec![Call::Base, Call::ByHash, Call::Apply]),
        (|_| txlists(1), vec![Call::ApplyTxLists]),
        (|_| txlists(9), vec![Call::Contains]),
        (
            |_| Command::SetBase { base: Base::at(BASE + 1), open: true, reply: oneshot::channel().0 },
            vec![Call::SetBase],
        ),
        (|_| Command::L1Reorg { anchor: 0, reply: oneshot::channel().0 }, vec![Call::Withdraw]),
        (|_| Command::L1Restored { anchor: 0, reply: oneshot::channel().0 }, vec![Call::Reinstate]),
        (|_| Command::Unreadable { hash: list(1).hash() }, vec![Call::Get]),
        (|_| Command::Tick, vec![Call::PrunePromises]),
        (|_| Command::WarmUp, vec![Call::At, Call::Evidence]),
    ]
}

#[test]
fn a_refusal_for_now_ends_nothing_and_one_for_good_ends_all() {
    let late = UnixSeconds::new(1_000_000);
    for (at, (job, calls)) in jobs().into_iter().enumerate() {
        for call in calls {
            let unix = if call == Call::PrunePromises { late } else { NOW };
            let effects = [FOR_NOW, FOR_GOOD].map(|error| {
                let (mut rig, _) = refusing(call, error);
                let command = job(&rig);
                rig.process_at(unix, vec![command])
            });
            let fatal = effects.each_ref().map(|effects| effects.fatal.clone());
            assert_eq!(fatal, [None, Some(FOR_GOOD)], "job {at}, {call:?}");
            assert!(is_failing(&effects[0]), "job {at}, {call:?}");
        }
    }
}

#[test]
fn after_a_refusal_for_good_no_further_command_is_processed() {
    let (mut rig, _) = refusing(Call::Withdraw, FOR_GOOD);
    let reorg = Command::L1Reorg { anchor: 0, reply: oneshot::channel().0 };
    assert_eq!(shown(&rig.process(vec![reorg, gossip(&chain(3)[2..])])), [0; 0]);
    assert_eq!(rig.head(), Some(BASE + 2));
}

#[test]
fn a_publication_refused_for_now_is_stored_when_repeated() {
    let next = chain(3).remove(2);
    for call in [Call::ByHash, Call::Promises, Call::PutPromise, Call::Apply] {
        let (mut rig, calls) = refusing(call, FOR_NOW);
        let refused = rig.local(&next, None).0;
        assert!(matches!(refused, PublishDecision::Failed(FOR_NOW)), "{call:?} {refused:?}");
        assert_eq!(rig.head(), Some(BASE + 2));
        accept_all(&calls);
        let (decision, effects) = rig.local(&next, None);
        assert!(matches!(decision, PublishDecision::Stored), "{call:?} {decision:?}");
        assert!(effects.events.contains(&SdkEvent::Storage { trouble: None }), "it works again");
    }
}

#[test]
fn a_page_that_is_refused_for_now_is_deferred() {
    let page = [sign_by(&key(1), &chain(3)[2])];
    for call in [Call::Base, Call::ByHash, Call::Apply] {
        let (mut rig, calls) = refusing(call, FOR_NOW);
        assert_eq!(rig.import(&page).0, ImportVerdict::Deferred, "{call:?}");
        accept_all(&calls);
        assert_eq!(rig.import(&page).0, ImportVerdict::Linked, "{call:?}");
        assert_eq!(rig.head(), Some(BASE + 3));
    }
}

#[test]
fn blocks_that_a_failing_store_did_not_take_are_fetched_again() {
    for call in [Call::ByHash, Call::Apply] {
        let (mut rig, _) = refusing(call, FOR_NOW);
        let effects = rig.process(vec![gossip(&chain(4)[2..])]);
        for block in [BASE + 3, BASE + 4] {
            assert!(effects.inputs.contains(&Input::NotStored { block }), "{call:?} {:?}", effects.inputs);
        }
    }
}

#[test]
fn a_list_that_cannot_be_read_for_now_is_fetched() {
    let (mut rig, _) = refusing(Call::Get, FOR_NOW);
    let effects = rig.process(vec![gossip(&chain(3)[2..])]);
    assert_eq!(shown(&effects), [BASE + 3]);
    let head = rig.store.head().unwrap();
    assert!(effects.events.contains(&SdkEvent::Head { head }));
    let wanted = Input::TxListMissing { block: BASE + 3, hash: list(3).hash(), live: true };
    assert!(effects.inputs.contains(&wanted));
}

#[test]
fn a_list_that_is_refused_for_now_is_still_missing() {
    let (mut rig, calls) = refusing(Call::ApplyTxLists, FOR_NOW);
    let effects = rig.process(vec![txlists(1)]);
    let wanted = Input::TxListMissing { block: BASE + 1, hash: list(1).hash(), live: false };
    assert_eq!((ready(&effects), effects.inputs), (vec![], vec![wanted]));
    accept_all(&calls);
    assert_eq!(ready(&rig.process(vec![txlists(1)])), [BASE + 1]);
}

#[test]
fn a_list_of_a_block_beside_the_chain_may_be_refused_for_now() {
    let (mut rig, _) = refusing(Call::ApplyTxLists, FOR_NOW);
    let (decision, effects) = rig.local(&beside(), Some(list(1)));
    assert!(matches!(decision, PublishDecision::NonCanonical), "{decision:?}");
    assert!(effects.events.iter().all(|event| !matches!(event, SdkEvent::TxList { .. })));
}

#[test]
fn evidence_that_cannot_be_stored_for_now_is_told() {
    let (mut rig, _) = refusing(Call::PutEvidence, FOR_NOW);
    let effects = rig.process(vec![gossip(&[chain(3).remove(2), block(BASE + 3, B256::ZERO, 9)])]);
    assert!(effects.events.iter().any(|event| matches!(event, SdkEvent::Evidence { block: 13, .. })));
}

#[test]
fn a_commitment_that_was_refused_for_now_may_come_again() {
    let blocks = chain(3);
    for next in [&blocks[2], &block(BASE + 3, blocks[1].hash(), 0)] {
        let (mut rig, calls) = refusing(Call::Apply, FOR_NOW);
        assert!(rig.gossip(next).inputs.contains(&Input::NotStored { block: BASE + 3 }));
        accept_all(&calls);
        rig.gossip(next);
        assert!(rig.store.by_hash(&next.hash()).unwrap().is_some(), "{next:?}");
    }
}

/// What catch-up and the application know from the effects.
#[derive(Default)]
struct Told {
    starts: usize,
    head: Option<Head>,
    applied: Option<Head>,
    dropped: Vec<B256>,
    missing: BTreeSet<(BlockNumber, B256)>,
    not_stored: BTreeSet<BlockNumber>,
    verdicts: Vec<ImportVerdict>,
}

impl Told {
    fn hear(&mut self, effects: Effects) {
        assert_eq!(effects.fatal, None);
        for event in effects.events {
            match event {
                SdkEvent::Head { head } => self.head = head,
                SdkEvent::Reorg { dropped, .. } => self.dropped.extend(dropped),
                _ => {}
            }
        }
        for input in effects.inputs {
            match input {
                Input::Applied { head } => self.applied = head,
                Input::Start { head, .. } => {
                    self.starts += 1;
                    assert_eq!(head, self.applied);
                }
                Input::TxListMissing { block, hash, .. } => drop(self.missing.insert((block, hash))),
                Input::TxListStored { hash } => self.missing.retain(|(_, list)| *list != hash),
                Input::TxListNotNeeded { block, hash } => drop(self.missing.remove(&(block, hash))),
                Input::NotStored { block } => drop(self.not_stored.insert(block)),
                Input::Imported { head, verdict, .. } => {
                    assert_eq!(head, self.applied, "the head is told before the page");
                    self.verdicts.push(verdict);
                }
                _ => {}
            }
        }
    }
}

/// What comes again until it is done, as it does from the application and from catch-up.
fn until_done(rig: &mut Rig, told: &mut Told, attempt: impl Fn(&mut Rig) -> (bool, Effects)) {
    for _ in 0..3 {
        let (done, effects) = attempt(rig);
        told.hear(effects);
        if done {
            return;
        }
    }
    panic!("refused more than once");
}

fn declare(base: BlockNumber) -> impl Fn(&mut Rig) -> (bool, Effects) {
    move |rig| {
        let (reply, done) = oneshot::channel();
        let effects = rig.process(vec![Command::SetBase { base: Base::at(base), open: true, reply }]);
        (done.blocking_recv().unwrap().is_ok(), effects)
    }
}

/// Runs everything a client does on a store that refuses its call number `refused`, once. Returns how many calls it has got.
fn run_with_refusal(refused: usize) -> usize {
    let mut rig = Rig::without_base(StorageLimits::default());
    let blocks = chain(6);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let store = Intercepted::new(rig.store.clone(), move |_| {
        if counter.fetch_add(1, Ordering::Relaxed) == refused { Err(FOR_NOW) } else { Ok(()) }
    });
    rig.chain = processor(Arc::new(store), rotating(&[1]));
    let mut told = Told::default();
    // From before the start.
    told.hear(rig.process(vec![gossip(&blocks[1..2])]));
    until_done(&mut rig, &mut told, declare(BASE));
    told.hear(rig.process(vec![gossip(&blocks[..1])]));
    told.hear(rig.process(vec![txlists(1), txlists(9)]));
    // A child comes before its parent, with its list.
    told.hear(rig.process(vec![gossip(&blocks[3..4]), txlists(4)]));
    told.hear(rig.process(vec![gossip(&blocks[2..3])]));
    until_done(&mut rig, &mut told, |rig| {
        let (decision, effects) = rig.local(&blocks[4], Some(list(5)));
        (!matches!(decision, PublishDecision::Failed(_)), effects)
    });
    until_done(&mut rig, &mut told, declare(BASE + 1));
    until_done(&mut rig, &mut told, declare(BASE));
    told.hear(rig.process(vec![Command::Tick]));
    assert_eq!([told.head, told.applied], [rig.store.head().unwrap(); 2]);
    assert_eq!(told.starts, 1);
    let lacking: BTreeSet<_> = rig
        .store
        .range(BASE + 1, 100)
        .unwrap()
        .iter()
        .map(|stored| (stored.block, stored.txlist_hash()))
        .filter(|(_, hash)| !rig.store.contains(hash).unwrap())
        .collect();
    assert_eq!(told.missing, lacking);
    // The application knows itself what became of its own block.
    for (next, block) in blocks[..4].iter().zip(BASE + 1..) {
        let waits = rig.chain.pending.iter().any(|waiting| waiting.commitment.hash() == next.hash());
        let known = waits || rig.store.by_hash(&next.hash()).unwrap().is_some();
        let told_of = told.dropped.contains(&next.hash()) || told.not_stored.contains(&block);
        assert!(known || told_of, "block {block} is lost after refusal {refused}");
    }
    // Catch-up brings all of it, and what is next.
    let page: Vec<_> = blocks.iter().map(|next| sign_by(&key(1), next)).collect();
    until_done(&mut rig, &mut told, |rig| {
        let (verdict, effects) = rig.import(&page);
        (verdict == ImportVerdict::Linked, effects)
    });
    for fill in 1..=6 {
        until_done(&mut rig, &mut told, |rig| {
            let effects = rig.process(vec![txlists(fill)]);
            (rig.store.contains(&list(fill).hash()).unwrap(), effects)
        });
    }
    told.hear(rig.process(vec![Command::Tick]));
    assert_eq!(rig.head(), Some(BASE + 6));
    assert_eq!((told.head, told.missing), (rig.store.head().unwrap(), BTreeSet::new()));
    calls.load(Ordering::Relaxed)
}

#[test]
fn whichever_call_is_refused_once_nothing_is_lost() {
    let calls = run_with_refusal(usize::MAX);
    assert!(calls > 50, "{calls}");
    for refused in 0..calls {
        run_with_refusal(refused);
    }
}
