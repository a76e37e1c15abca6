//! The chain processor, without a network and without a clock.

mod bounds;
mod branches;
mod catching_up;
mod guard;
mod judging;
mod liars;
mod lists;
mod measures;
mod publishing;
mod refusals;
mod schedules;
mod settling;

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
};

use p2p_catchup::{ImportVerdict, Input};
use p2p_storage::{
    CommitmentStore, EvidenceStore, MemoryStorage, PublishLog, SdkStorage, StorageLimits, TxListStore,
    fixtures::{Call, Intercepted},
};
use p2p_types::{
    Address, B256, Conflict, Head, MessageId, Misbehaviour, PeerId, PreconfCommitment, Preconfirmation,
    SdkEvent, SignedCommitment, SigningDomain, SigningKey, StorageTrouble, TxList, U256,
};
use p2p_validation::{IgnoreReason, Rejection, RotatingSchedule, ValidationConfig};
use preconfirmation_types::Container;
use tokio::sync::oneshot;

use super::*;

const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
const BASE: BlockNumber = 10;
const NOW: UnixSeconds = UnixSeconds::new(50_000);
/// A moment in the second window.
const SECOND: UnixSeconds = UnixSeconds::new(150_000);

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, n]).unwrap()
}

fn list(fill: u8) -> TxList {
    TxList::new(vec![fill; 10].into(), 10).unwrap()
}

/// Of two blocks of a height, the one with the higher fill is later.
fn time(number: u64, fill: u8) -> u64 {
    number.saturating_mul(20).saturating_add(u64::from(fill % 20))
}

/// A block with the list `fill`, or a handover where that is 0.
fn block(number: u64, parent: B256, fill: u8) -> Preconfirmation {
    Preconfirmation {
        eop: fill == 0,
        block_number: U256::from(number),
        timestamp: U256::from(time(number, fill)),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash: if fill == 0 { B256::ZERO } else { list(fill).hash() },
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

/// A block of the second window.
fn second(number: u64, parent: B256, fill: u8) -> Preconfirmation {
    Preconfirmation {
        timestamp: U256::from(WINDOW + time(number, fill)),
        submission_window_end: U256::from(2 * WINDOW - 1),
        ..block(number, parent, fill)
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
fn arrived(key: &SigningKey, preconf: &Preconfirmation) -> GossipCommitment {
    GossipCommitment {
        ssz: sign_by(key, preconf).to_ssz().into(),
        arrival: Arrival::Live(NOW),
        from: peer(1),
        verdict: None,
        span: Span::none(),
    }
}

/// These preconfers take turns.
fn rotating(keys: &[u8]) -> Validator {
    let signers = keys.iter().map(|byte| key(*byte).address()).collect();
    let window = NonZeroU64::new(WINDOW).unwrap();
    let schedule = RotatingSchedule::new(signers, UnixSeconds::new(0), window).unwrap();
    Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule))
}

fn processor(store: Arc<dyn SdkStorage>, validator: Validator) -> ChainProcessor {
    ChainProcessor::new(store, validator, &MemoryConfig::default(), false, Arc::default())
}

/// The calls that a store has got, and those that it refuses.
#[derive(Default)]
struct Calls {
    made: Vec<Call>,
    refused: Option<(Call, StorageError)>,
}

impl Calls {
    fn answer(&mut self, call: Call) -> Result<(), StorageError> {
        self.made.push(call);
        match &self.refused {
            Some((refused, error)) if *refused == call => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn count(&self, call: Call) -> usize {
        self.made.iter().filter(|made| **made == call).count()
    }
}

struct Rig {
    chain: ChainProcessor,
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
        let store = Arc::new(MemoryStorage::new(limits));
        let chain = processor(store.clone(), rotating(&[1]));
        Self { chain, store, now: Instant::now(), reference: None }
    }

    fn process(&mut self, jobs: Vec<Command>) -> Effects {
        self.process_at(NOW, jobs)
    }

    /// Does the jobs and gives their answers.
    fn process_at(&mut self, unix: UnixSeconds, jobs: Vec<Command>) -> Effects {
        let mut effects = self.chain.process(Moment { now: self.now, unix, reference: self.reference }, jobs);
        std::mem::take(&mut effects.responses).into_iter().for_each(Response::send);
        effects
    }

    fn set_base(&mut self, base: Base) -> Effects {
        let (reply, done) = oneshot::channel();
        let effects = self.process(vec![Command::SetBase { base, open: true, reply }]);
        done.blocking_recv().unwrap().unwrap();
        effects
    }

    fn authenticated(&self, signed: SignedCommitment) -> Authenticated {
        self.chain.judge.validator.authenticate_signed(signed).unwrap()
    }

    fn gossip_by(&mut self, key: &SigningKey, preconf: &Preconfirmation) -> Effects {
        self.process(vec![Command::Gossip(vec![arrived(key, preconf)])])
    }

    fn gossip(&mut self, preconf: &Preconfirmation) -> Effects {
        self.gossip_by(&key(1), preconf)
    }

    fn txlist(&mut self, fill: u8) -> Effects {
        let (txlist, origin) = (list(fill), Origin::Gossip(peer(1)));
        self.process(vec![Command::TxLists(vec![VerifiedTxList {
            txlist,
            origin,
            verdict: None,
            span: Span::none(),
        }])])
    }

    fn local(&mut self, preconf: &Preconfirmation, txlist: Option<TxList>) -> (PublishDecision, Effects) {
        self.local_despite(preconf, txlist, None)
    }

    fn local_despite(
        &mut self,
        preconf: &Preconfirmation,
        txlist: Option<TxList>,
        acknowledged: Option<Conflict>,
    ) -> (PublishDecision, Effects) {
        let (command, judged) = self.publication(&sign_by(&key(1), preconf), txlist, acknowledged);
        let effects = self.process(vec![command]);
        (judged.blocking_recv().unwrap(), effects)
    }

    fn publication(
        &self,
        signed: &SignedCommitment,
        txlist: Option<TxList>,
        acknowledged: Option<Conflict>,
    ) -> (Command, oneshot::Receiver<PublishDecision>) {
        let ((reply, judged), span) = (oneshot::channel(), Span::none());
        let commitment = Box::new(self.authenticated(signed.clone()));
        let acknowledged = acknowledged.map(Box::new);
        let allow_behind = false;
        (Command::Publish { commitment, txlist, acknowledged, allow_behind, reply, span }, judged)
    }

    /// The conflict that publishing this meets.
    fn conflict(&mut self, preconf: &Preconfirmation) -> Option<(Misbehaviour, B256)> {
        match self.local(preconf, None).0 {
            PublishDecision::Conflict(conflict) => Some((conflict.kind, conflict.signed)),
            _ => None,
        }
    }

    fn l1_reorg(&mut self, anchor: BlockNumber) -> (L1Reorg, Effects) {
        let (reply, done) = oneshot::channel();
        let effects = self.process(vec![Command::L1Reorg { anchor, reply }]);
        (done.blocking_recv().unwrap().unwrap(), effects)
    }

    /// Another client on the same store, started as the service does it.
    fn restarted(&self) -> Self {
        let mut rig = Self::without_base(StorageLimits::default());
        rig.store = self.store.clone();
        rig.elect(&[1]);
        rig.process(vec![Command::WarmUp]);
        rig
    }

    /// Preconfers 1 and 2 take turns: the window of key 2 follows that of key 1.
    fn with_two() -> Self {
        let mut rig = Self::without_base(StorageLimits::default());
        rig.elect(&[1, 2]);
        rig.set_base(Base::at(BASE));
        rig
    }

    /// Other preconfers take turns; what was judged so far is forgotten.
    fn elect(&mut self, keys: &[u8]) {
        self.chain = processor(self.store.clone(), rotating(keys));
    }

    /// A schedule that ends with the first window.
    fn short_schedule(&mut self) {
        let window = p2p_validation::Window { start: UnixSeconds::new(0), end: UnixSeconds::new(WINDOW - 1) };
        let slot = p2p_validation::Slot { signer: key(1).address(), window };
        let schedule = p2p_validation::StaticSchedule::new(vec![slot]).unwrap();
        let validator = Validator::new(ValidationConfig::new(DOMAIN, SLASHER), Arc::new(schedule));
        self.chain = processor(self.store.clone(), validator);
        self.set_base(Base::at(BASE));
    }

    /// A zero parent hash stands for whatever block is below.
    fn following_height() -> Self {
        let mut rig = Self::new();
        let window = NonZeroU64::new(WINDOW).unwrap();
        let schedule = RotatingSchedule::new(vec![key(1).address()], UnixSeconds::new(0), window).unwrap();
        let zero_parent = p2p_validation::ZeroParent::FollowsHeight;
        let rules = ValidationConfig { zero_parent, ..ValidationConfig::new(DOMAIN, SLASHER) };
        rig.chain = processor(rig.store.clone(), Validator::new(rules, Arc::new(schedule)));
        rig.set_base(Base::at(BASE));
        rig
    }

    /// From here on the calls of the store are seen, and can be refused. What was judged so far is forgotten.
    fn intercepted(&mut self) -> Arc<Mutex<Calls>> {
        let calls = Arc::<Mutex<Calls>>::default();
        let seen = calls.clone();
        let store = Intercepted::new(self.store.clone(), move |call| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).answer(call)
        });
        self.chain = processor(Arc::new(store), rotating(&[1]));
        let base = self.store.base().unwrap().unwrap();
        self.set_base(base);
        calls.lock().unwrap().made.clear();
        calls
    }

    /// Gossip in the window of key 2.
    fn gossip_second(&mut self, preconf: &Preconfirmation) -> Effects {
        let mut one = arrived(&key(2), preconf);
        one.arrival = Arrival::Live(SECOND);
        self.process_at(SECOND, vec![Command::Gossip(vec![one])])
    }

    /// A page of catch-up.
    fn page(&self, page: &[SignedCommitment]) -> Command {
        let page = page.iter().map(|signed| self.authenticated(signed.clone())).collect();
        let mut machine = p2p_catchup::CatchUp::new(Default::default(), 0).unwrap();
        machine.handle(self.now, Input::Start { base: BASE, head: None });
        machine.handle(self.now, Input::PeerUp(peer(9)));
        let id = std::iter::from_fn(|| machine.poll_output()).find_map(|output| match output {
            p2p_catchup::Output::Send { id, .. } => Some(id),
            _ => None,
        });
        Command::Import { id: id.unwrap(), from: peer(9), page }
    }

    fn import(&mut self, page: &[SignedCommitment]) -> (ImportVerdict, Effects) {
        let page = self.page(page);
        let effects = self.process(vec![page]);
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
