//! The owner of the chain, without a network and without a clock.

use std::num::NonZeroU64;

use p2p_catchup::ImportVerdict;
use p2p_storage::{CommitmentStore, EvidenceStore, MemoryStorage, StorageLimits, TxListStore};
use p2p_types::{
    Address, Misbehaviour, PreconfCommitment, Preconfirmation, SignedCommitment, SigningDomain, SigningKey,
    U256,
};
use p2p_validation::{RotatingSchedule, ValidationConfig};

use preconfirmation_types::Container;

use super::*;

const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
const BASE: BlockNumber = 10;
const NOW: UnixSeconds = UnixSeconds::new(50_000);

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, n]).unwrap()
}

fn list(fill: u8) -> TxList {
    TxList::new(vec![fill; 10].into(), 10).unwrap()
}

/// A block with the list `fill`, or a handover where that is 0.
fn block(number: u64, parent: B256, fill: u8) -> Preconfirmation {
    Preconfirmation {
        eop: fill == 0,
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash: if fill == 0 { B256::ZERO } else { list(fill).hash() },
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

/// Blocks 11, 12, … each with a list of its own.
fn chain(n: u8) -> Vec<Preconfirmation> {
    let mut parent = B256::ZERO;
    (1..=n)
        .map(|i| {
            let next = block(BASE + u64::from(i), parent, i);
            parent = next.hash();
            next
        })
        .collect()
}

fn sign_by(key: &SigningKey, preconf: &Preconfirmation) -> SignedCommitment {
    PreconfCommitment { preconf: preconf.clone(), slasher_address: SLASHER }.sign(key, &DOMAIN)
}

/// As gossip brings it.
fn arrived(key: &SigningKey, preconf: &Preconfirmation) -> Arrived {
    Arrived {
        ssz: sign_by(key, preconf).to_ssz().into(),
        arrival: Arrival::Live(NOW),
        from: peer(1),
        verdict: None,
        span: Span::none(),
    }
}

struct Rig {
    chain: Chain,
    store: Arc<MemoryStorage>,
    now: Instant,
    reference: Option<BlockNumber>,
}

impl Rig {
    /// A chain whose only preconfer is key 1. Its base is declared unless told otherwise.
    fn new() -> Self {
        let mut rig = Self::without_base(StorageLimits::default());
        rig.set_base(Base::at(BASE));
        rig
    }

    fn without_base(limits: StorageLimits) -> Self {
        let schedule = RotatingSchedule::new(
            vec![key(1).address()],
            UnixSeconds::new(0),
            NonZeroU64::new(WINDOW).unwrap(),
        );
        let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule.unwrap()));
        let store = Arc::new(MemoryStorage::new(limits));
        let now = Instant::now();
        let config = MemoryConfig::default();
        let chain = Chain::new(store.clone(), validator, &config, false, Arc::default(), now);
        Self { chain, store, now, reference: None }
    }

    fn process(&mut self, jobs: Vec<Job>) -> Effects {
        self.process_at(NOW, jobs)
    }

    /// Does the jobs and gives their answers.
    fn process_at(&mut self, unix: UnixSeconds, jobs: Vec<Job>) -> Effects {
        let mut effects = self.chain.process(self.now, unix, self.reference, jobs);
        std::mem::take(&mut effects.answers).into_iter().for_each(Answer::give);
        effects
    }

    fn set_base(&mut self, base: Base) -> Effects {
        let (reply, done) = oneshot::channel();
        let effects = self.process(vec![Job::SetBase { base, open: true, reply }]);
        done.blocking_recv().unwrap().unwrap();
        effects
    }

    fn authenticated(&self, signed: SignedCommitment) -> Authenticated {
        self.chain.validator.authenticate_signed(signed).unwrap()
    }

    fn gossip_by(&mut self, key: &SigningKey, preconf: &Preconfirmation) -> Effects {
        self.process(vec![Job::Gossip(vec![arrived(key, preconf)])])
    }

    fn gossip(&mut self, preconf: &Preconfirmation) -> Effects {
        self.gossip_by(&key(1), preconf)
    }

    fn txlist(&mut self, fill: u8) -> Effects {
        let (txlist, origin) = (list(fill), Origin::Gossip(peer(1)));
        self.process(vec![Job::TxList { txlist, origin, verdict: None, span: Span::none() }])
    }

    fn local(&mut self, preconf: &Preconfirmation, txlist: Option<TxList>) -> (Judged, Effects) {
        self.local_despite(preconf, txlist, None)
    }

    fn local_despite(
        &mut self,
        preconf: &Preconfirmation,
        txlist: Option<TxList>,
        acknowledged: Option<Conflict>,
    ) -> (Judged, Effects) {
        let ((reply, judged), span) = (oneshot::channel(), Span::none());
        let commitment = self.authenticated(sign_by(&key(1), preconf));
        let effects = self.process(vec![Job::Local {
            commitment: Box::new(commitment),
            txlist,
            acknowledged,
            reply,
            span,
        }]);
        (judged.blocking_recv().unwrap(), effects)
    }

    /// The conflict that publishing this meets.
    fn conflict(&mut self, preconf: &Preconfirmation) -> Option<(Misbehaviour, B256)> {
        match self.local(preconf, None).0 {
            Judged::Conflict(conflict) => Some((conflict.kind, conflict.signed)),
            _ => None,
        }
    }

    fn l1_reorg(&mut self, anchor: BlockNumber) -> (L1Reorg, Effects) {
        let (reply, done) = oneshot::channel();
        let effects = self.process(vec![Job::L1Reorg { anchor, reply }]);
        (done.blocking_recv().unwrap().unwrap(), effects)
    }

    /// Another client on the same store.
    fn restarted(&self) -> Self {
        let mut rig = Self::without_base(StorageLimits::default());
        rig.store = self.store.clone();
        rig.chain.store = self.store.clone();
        rig
    }

    fn import(&mut self, page: &[SignedCommitment]) -> (ImportVerdict, Effects) {
        let page = page.iter().map(|signed| self.authenticated(signed.clone())).collect();
        let mut machine = p2p_catchup::CatchUp::new(Default::default(), 0).unwrap();
        machine.handle(self.now, Input::Start { base: BASE, head: None });
        machine.handle(self.now, Input::PeerUp(peer(9)));
        let id = std::iter::from_fn(|| machine.poll_output()).find_map(|output| match output {
            p2p_catchup::Output::Send { id, .. } => Some(id),
            _ => None,
        });
        let effects = self.process(vec![Job::Import { id: id.unwrap(), from: peer(9), page }]);
        let verdict = effects.inputs.iter().find_map(|input| match input {
            Input::Imported { verdict, .. } => Some(*verdict),
            _ => None,
        });
        (verdict.unwrap(), effects)
    }

    fn head(&self) -> Option<BlockNumber> {
        self.store.head().unwrap().map(|head| head.number)
    }
}

/// Heights of the blocks that became part of the chain, in the order in which they were shown.
fn shown(effects: &Effects) -> Vec<BlockNumber> {
    let shown = |event: &SdkEvent| match event {
        SdkEvent::Commitment { block, .. } => Some(*block),
        _ => None,
    };
    effects.events.iter().filter_map(shown).collect()
}

fn ready(effects: &Effects) -> Vec<BlockNumber> {
    let ready = |event: &SdkEvent| match event {
        SdkEvent::BlockReady { block, .. } => Some(*block),
        _ => None,
    };
    effects.events.iter().filter_map(ready).collect()
}

#[test]
fn blocks_in_order_are_shown_one_by_one_and_move_the_head() {
    let mut rig = Rig::new();
    for (n, next) in (BASE + 1..).zip(chain(3)) {
        let effects = rig.gossip(&next);
        assert_eq!(shown(&effects), [n]);
        let head = Some(Head { number: n, hash: next.hash() });
        assert!(effects.events.contains(&SdkEvent::Head { head }));
        assert!(effects.inputs.contains(&Input::Applied { head }));
        let wanted = Input::TxListWanted { block: n, hash: next.raw_tx_list_hash, live: true };
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
    let orphan = Input::Orphan { block: BASE + 3, parent: blocks[1].hash() };
    assert_eq!((shown(&effects), effects.inputs), (vec![], vec![orphan]));
    rig.now = rig.chain.next_deadline().unwrap();
    let effects = rig.process(vec![Job::Tick]);
    assert_eq!(effects.inputs, [Input::Unseen { highest: None }]);
    let (block, hash) = (BASE + 3, blocks[2].hash());
    let waited_for = WaitedFor::Parent(blocks[1].hash());
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
fn a_wrong_signer_is_reported_and_not_shown() {
    let mut rig = Rig::new();
    let effects = rig.gossip_by(&key(2), &chain(1)[0]);
    assert_eq!(effects.reports, [(peer(1), Offence::WrongSigner)]);
    assert!(effects.events.is_empty() && rig.head().is_none());
}

#[test]
fn a_broken_link_is_not_shown_and_costs_nobody_who_only_forwarded_it() {
    let mut rig = Rig::new();
    let blocks = chain(1);
    assert_eq!(shown(&rig.gossip(&blocks[0])), [11]);
    let effects = rig.gossip(&block(BASE + 5, blocks[0].hash(), 5));
    assert!(effects.reports.is_empty() && effects.events.is_empty());
    assert_eq!(rig.head(), Some(11));
}

#[test]
fn heights_beyond_reason_are_not_believed() {
    let mut rig = Rig::new();
    rig.reference = Some(BASE);
    let far = block(BASE + MAX_AHEAD + 1, B256::repeat_byte(7), 1);
    assert!(rig.gossip(&far).inputs.is_empty());
    let plausible = block(BASE + MAX_AHEAD, B256::repeat_byte(7), 1);
    assert_eq!(rig.gossip(&plausible).inputs.len(), 1);
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
fn a_list_is_stored_when_a_block_names_it_before_or_after() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    // The list first, as the protocol says.
    assert!(rig.txlist(1).events.is_empty(), "no block names it yet");
    assert!(!rig.store.contains(&list(1).hash()).unwrap());
    let effects = rig.gossip(&blocks[0]);
    assert_eq!(ready(&effects), [11]);
    assert!(effects.inputs.iter().all(|input| !matches!(input, Input::TxListWanted { .. })));
    // The block first.
    assert_eq!(ready(&rig.gossip(&blocks[1])), [0; 0]);
    let effects = rig.txlist(2);
    assert_eq!(ready(&effects), [12]);
    assert!(effects.inputs.contains(&Input::TxListArrived { hash: list(2).hash() }));
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
fn a_replaced_block_is_told_and_its_list_wanted_no_more() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    let other = block(BASE + 1, B256::ZERO, 2);
    let child = block(BASE + 2, first.hash(), 3);
    assert_eq!(shown(&rig.gossip(&first)), [11]);
    let effects = rig.gossip(&other);
    assert!(effects.events.contains(&SdkEvent::Reorg { dropped: vec![first.hash()], from: 11 }));
    assert_eq!(shown(&effects), [11]);
    let unwanted = Input::TxListUnwanted { block: 11, hash: first.raw_tx_list_hash };
    assert!(effects.inputs.contains(&unwanted));
    // A block that builds on the one that lost brings it back.
    let effects = rig.gossip(&child);
    assert!(effects.events.contains(&SdkEvent::Reorg { dropped: vec![other.hash()], from: 11 }));
    assert_eq!(shown(&effects), [11, 12]);
}

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
fn the_application_is_told_what_peers_would_say() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    let (judged, effects) = rig.local(&blocks[0], Some(list(1)));
    assert!(matches!(judged, Judged::Stored));
    assert_eq!((shown(&effects), ready(&effects)), (vec![11], vec![11]));
    assert!(matches!(rig.local(&blocks[0], None).0, Judged::Unsent));
    assert!(matches!(rig.local(&blocks[2], None).0, Judged::Deferred(Missing::Parent(_))));
    let skips = block(BASE + 9, blocks[0].hash(), 1);
    assert!(matches!(rig.local(&skips, None).0, Judged::Rejected(Rejection::BlockNumber { .. })));
    let settled = block(BASE, B256::ZERO, 1);
    assert!(matches!(rig.local(&settled, None).0, Judged::Ignored(IgnoreReason::Settled { .. })));
}

#[test]
fn a_full_store_is_told_and_nothing_is_lost() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 2, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let blocks = chain(3);
    rig.gossip(&blocks[0]);
    rig.gossip(&blocks[1]);
    assert!(matches!(rig.local(&blocks[2], None).0, Judged::Failed(StorageError::Full { .. })));
    let effects = rig.gossip(&blocks[2]);
    assert!(effects.fatal.is_none());
    assert_eq!(effects.inputs, [Input::Seen { block: 13 }], "catch-up will come back for it");
    // The contracts settle, which makes room.
    rig.set_base(Base::at(BASE + 2));
    assert!(matches!(rig.local(&blocks[2], None).0, Judged::Stored));
}

#[test]
fn a_page_is_linked_as_far_as_it_goes() {
    let mut rig = Rig::new();
    let signed: Vec<_> = chain(6).iter().map(|next| sign_by(&key(1), next)).collect();
    let (verdict, effects) = rig.import(&signed[..2]);
    assert_eq!((verdict, shown(&effects)), (ImportVerdict::Linked, vec![11, 12]));
    let wanted = Input::TxListWanted { block: 11, hash: list(1).hash(), live: false };
    assert!(effects.inputs.contains(&wanted));
    assert!(matches!(effects.inputs.last(), Some(Input::Imported { .. })), "after what it wants");
    assert_eq!(rig.import(&signed[3..5]).0, ImportVerdict::Unlinked { index: 0 });
    let with_a_lie = [signed[2].clone(), sign_by(&key(2), signed[3].preconf())];
    assert_eq!(rig.import(&with_a_lie).0, ImportVerdict::Faulty(Offence::WrongSigner));
    assert_eq!(rig.head(), Some(13), "what came before the lie is good");
    assert_eq!(rig.import(&signed[..5]).0, ImportVerdict::Linked, "what is known already does no harm");
    assert_eq!(rig.head(), Some(15));
}

#[test]
fn live_is_not_said_while_a_block_lacks_its_list() {
    let mut rig = Rig::new();
    let live = HeadSyncStatus::Live { head: None };
    let said = |effects: Effects| effects.events.contains(&SdkEvent::Status { status: live });
    assert!(said(rig.process(vec![Job::Status(live)])));
    rig.gossip(&chain(1)[0]);
    assert!(!said(rig.process(vec![Job::Status(live)])));
    rig.txlist(1);
    assert!(said(rig.process(vec![Job::Status(live)])));
}

#[test]
fn an_import_frees_what_waited_for_it() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    rig.gossip(&blocks[2]);
    let page: Vec<_> = blocks[..2].iter().map(|next| sign_by(&key(1), next)).collect();
    assert_eq!(shown(&rig.import(&page).1), [11, 12, 13]);
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
        |n: u8| Input::TxListWanted { block: BASE + u64::from(n), hash: list(n).hash(), live: false };
    let head = Some(Head { number: 13, hash: blocks[2].hash() });
    assert_eq!(effects.inputs, [wanted(1), wanted(3), Input::Start { base: BASE, head }]);
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
fn gossip_of_one_batch_is_stored_at_once_and_told_in_order() {
    let mut rig = Rig::new();
    let blocks = chain(5);
    // The last first: it waits, and is stored with a second write.
    let order = [4, 0, 1, 2, 3];
    let gossip = order.iter().map(|&i| arrived(&key(1), &blocks[i])).collect();
    let effects = rig.process(vec![Job::Gossip(gossip)]);
    assert_eq!(shown(&effects), [11, 12, 13, 14, 15]);
    let heads = effects.events.iter().filter(|event| matches!(event, SdkEvent::Head { .. })).count();
    assert_eq!(heads, 2, "one for each write");
}

#[test]
fn what_stands_on_a_block_that_the_store_refused_is_refused_with_it() {
    let mut rig = Rig::without_base(StorageLimits { commitments: 1, ..StorageLimits::default() });
    rig.set_base(Base::at(BASE));
    let gossip = chain(3).iter().map(|block| arrived(&key(1), block)).collect();
    let effects = rig.process(vec![Job::Gossip(gossip)]);
    assert!(effects.fatal.is_none());
    assert_eq!(shown(&effects), [11]);
    assert!(effects.inputs.contains(&Input::Seen { block: 12 }));
    assert!(effects.inputs.contains(&Input::Seen { block: 13 }));
}

#[test]
fn a_signer_is_kept_from_contradicting_itself_also_after_a_restart() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    assert!(matches!(rig.local(&first, Some(list(1))).0, Judged::Stored));
    let other = block(BASE + 1, B256::ZERO, 2);
    let refused = Some((Misbehaviour::Equivocation, first.hash()));
    assert_eq!(rig.conflict(&other), refused);
    assert!(rig.store.by_hash(&other.hash()).unwrap().is_none());
    let mut restarted = rig.restarted();
    assert_eq!(restarted.conflict(&other), refused, "from the store alone");
    // To decline a height that one has filled is a contradiction too.
    assert_eq!(restarted.conflict(&block(BASE + 1, B256::ZERO, 0)), refused);
    // What it built on goes on.
    assert!(matches!(restarted.local(&block(BASE + 2, first.hash(), 3), None).0, Judged::Stored));
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
    assert!(matches!(rig.local(&handover, None).0, Judged::Stored));
    let mut restarted = rig.restarted();
    assert!(matches!(restarted.local(&handover, None).0, Judged::Unsent));
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
    assert!(matches!(rig.local(&eop, None).0, Judged::Stored), "the last block may hand over");
    let next = block(BASE + 5, eop.hash(), 5);
    assert_eq!(rig.restarted().conflict(&next), Some((Misbehaviour::BlockAfterEop, eop.hash())));
}

#[test]
fn only_the_conflict_that_was_shown_is_waived() {
    let mut rig = Rig::new();
    let first = block(BASE + 1, B256::ZERO, 1);
    rig.local(&first, None);
    let other = block(BASE + 1, B256::ZERO, 2);
    let Judged::Conflict(conflict) = rig.local(&other, None).0 else { panic!() };
    let third = block(BASE + 1, B256::ZERO, 3);
    assert!(matches!(rig.local_despite(&third, None, Some(conflict)).0, Judged::Conflict(_)));
    let (judged, effects) = rig.local_despite(&other, None, Some(conflict));
    assert!(matches!(judged, Judged::Stored));
    let told =
        |event: &SdkEvent| matches!(event, SdkEvent::Evidence { kind: Misbehaviour::Equivocation, .. });
    assert!(effects.events.iter().any(told), "everybody will know, so we say it");
}

#[test]
fn a_block_published_twice_is_no_news_even_when_it_would_be_late() {
    let mut rig = Rig::new();
    let first = &chain(1)[0];
    assert!(matches!(rig.local(first, None).0, Judged::Stored));
    rig.store.note_sent(&[first.hash()]).unwrap();
    assert!(matches!(rig.local(first, None).0, Judged::Known));
    assert!(matches!(rig.local(first, Some(list(1))).0, Judged::Stored), "its list is news");
    let (judged, effects) = published_late(&rig, first);
    assert!(matches!(judged, Judged::Known));
    assert!(effects.events.is_empty());
}

/// After a restart, when the window is over.
fn published_late(rig: &Rig, preconf: &Preconfirmation) -> (Judged, Effects) {
    let (mut restarted, (reply, judged)) = (rig.restarted(), oneshot::channel());
    let commitment = Box::new(restarted.authenticated(sign_by(&key(1), preconf)));
    let (txlist, acknowledged, span) = (Some(list(1)), None, Span::none());
    let late = UnixSeconds::new(WINDOW + 1_000);
    let effects =
        restarted.process_at(late, vec![Job::Local { commitment, txlist, acknowledged, reply, span }]);
    (judged.blocking_recv().unwrap(), effects)
}

#[test]
fn what_has_not_gone_out_is_still_to_be_sent_while_that_is_of_use() {
    let mut rig = Rig::new();
    let blocks = chain(2);
    assert!(matches!(rig.local(&blocks[0], Some(list(1))).0, Judged::Stored));
    let (judged, effects) = rig.local(&blocks[0], Some(list(1)));
    assert!(matches!(judged, Judged::Unsent), "{judged:?}");
    assert!(effects.events.is_empty(), "it has been shown");
    assert!(matches!(rig.restarted().local(&blocks[0], None).0, Judged::Unsent));
    assert!(matches!(published_late(&rig, &blocks[0]).0, Judged::Known), "too late");
    // Whoever hears of its child fetches it.
    assert!(matches!(rig.local(&blocks[1], None).0, Judged::Stored));
    assert!(matches!(rig.local(&blocks[0], None).0, Judged::Known));
    assert!(matches!(rig.local(&blocks[1], None).0, Judged::Unsent));
    // A handover, too.
    let over = block(BASE + 3, blocks[1].hash(), 0);
    assert!(matches!(rig.local(&over, None).0, Judged::Stored));
    assert!(matches!(rig.local(&over, None).0, Judged::Unsent));
    rig.store.note_sent(&[over.hash()]).unwrap();
    assert!(matches!(rig.local(&over, None).0, Judged::Known));
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
    assert!(proofs(&restarted.process(vec![Job::Recall])).is_empty());
    // A handover that came before the restart convicts a block that comes after.
    let handover = block(BASE + 2, other.hash(), 0);
    rig.gossip(&handover);
    let mut restarted = rig.restarted();
    restarted.process(vec![Job::Recall]);
    let late = block(BASE + 2, other.hash(), 5);
    let kinds: Vec<_> = proofs(&restarted.gossip(&late)).into_iter().map(|proof| proof.0).collect();
    assert_eq!(kinds, [Misbehaviour::Equivocation, Misbehaviour::BlockAfterEop]);
}

#[test]
fn a_handover_makes_the_next_preconfer_the_expected_one() {
    let mut rig = Rig::new();
    let expected = |rig: &mut Rig| {
        let (reply, answer) = oneshot::channel();
        rig.process(vec![Job::Expected { moment: NOW, reply }]);
        answer.blocking_recv().unwrap().unwrap().unwrap().window.end
    };
    assert_eq!(expected(&mut rig), UnixSeconds::new(WINDOW - 1));
    rig.gossip(&block(BASE + 1, B256::ZERO, 0));
    assert_eq!(expected(&mut rig), UnixSeconds::new(2 * WINDOW - 1));
    let mut restarted = rig.restarted();
    rig.gossip(&block(BASE + 1, B256::ZERO, 7));
    restarted.process(vec![Job::Recall]);
    assert_eq!(expected(&mut restarted), UnixSeconds::new(2 * WINDOW - 1), "also after a restart");
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

#[test]
fn the_head_of_l1_decides_how_old_an_anchor_may_be() {
    let mut rig = Rig::new();
    rig.process(vec![Job::L1Head(1_000)]);
    assert!(matches!(rig.local(&chain(1)[0], None).0, Judged::Rejected(Rejection::StaleAnchor { .. })));
}

#[test]
fn what_the_store_holds_of_the_last_minutes_counts_as_seen() {
    let mut rig = Rig::new();
    let now = NOW.get();
    let old = Preconfirmation { timestamp: U256::from(now - 601), ..block(BASE + 1, B256::ZERO, 1) };
    let recent = Preconfirmation { timestamp: U256::from(now - 599), ..block(BASE + 2, old.hash(), 2) };
    let handover = Preconfirmation { timestamp: U256::from(now), ..block(BASE + 3, recent.hash(), 0) };
    for next in [&old, &recent, &handover] {
        rig.gossip(next);
    }
    rig.txlist(2);
    let id = |preconf| {
        MessageId::of_commitment(&preconfirmation_types::Container::to_ssz(&sign_by(&key(1), preconf)))
    };
    let seen = rig.restarted().process(vec![Job::Recall]).seen;
    assert_eq!(seen, [id(&recent), MessageId::of_txlist(&list(2)), id(&handover)]);
}

#[test]
fn a_base_alone_does_not_open_the_gate() {
    let mut rig = Rig::without_base(StorageLimits::default());
    let (reply, _done) = oneshot::channel();
    let effects = rig.process(vec![Job::SetBase { base: Base::at(BASE), open: false, reply }]);
    assert!(effects.inputs.is_empty());
    let effects = rig.set_base(Base::at(BASE));
    assert_eq!(effects.inputs, [Input::Start { base: BASE, head: None }]);
}
