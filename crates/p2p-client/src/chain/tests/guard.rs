//! The signing guard against random lives of a publisher: whatever happens, it sends no second promise.

use p2p_storage::{DiskConfig, DiskStorage, fixtures::Intercepted};

use super::*;

/// What has left the process under key 1: all of it could be shown to the slasher.
#[derive(Default)]
struct Sent(Vec<Preconfirmation>);

impl Sent {
    fn send(&mut self, new: Preconfirmation) {
        for old in &self.0 {
            let is_same = old.hash() == new.hash();
            assert!(is_same || old.block_number != new.block_number, "a second promise: {old:?} {new:?}");
            // Who has handed over builds no more.
            let is_over = |over: &Preconfirmation, other: &Preconfirmation| {
                over.eop && !other.raw_tx_list_hash.is_zero() && other.block_number > over.block_number
            };
            assert!(is_same || !is_over(old, &new) && !is_over(&new, old), "over: {old:?} {new:?}");
        }
        self.0.push(new);
    }
}

/// A publisher that dies and comes back.
struct Publisher<'a> {
    open: &'a dyn Fn() -> Arc<dyn SdkStorage>,
    /// None while the process is down.
    store: Option<Arc<dyn SdkStorage>>,
    chain: ChainProcessor,
    rng: fastrand::Rng,
    sent: Sent,
    /// Publications that were refused because of an earlier promise, and processes that have ended.
    refused: usize,
    deaths: usize,
}

impl<'a> Publisher<'a> {
    fn new(seed: u64, open: &'a dyn Fn() -> Arc<dyn SdkStorage>) -> Self {
        let store = open();
        store.set_base(Base::at(BASE)).unwrap();
        let chain = processor(store.clone(), rotating(&[1, 2]));
        let rng = fastrand::Rng::with_seed(seed);
        Self { open, store: Some(store), chain, rng, sent: Sent::default(), refused: 0, deaths: 0 }
    }

    /// The process ends, at once or before one of its next writes, and starts anew.
    fn restart(&mut self) {
        // Whoever has the store open must have gone.
        let forgetful: Arc<dyn SdkStorage> = Arc::new(MemoryStorage::default());
        self.chain = processor(forgetful, rotating(&[1, 2]));
        self.store = None;
        let store = (self.open)();
        self.store = Some(store.clone());
        let dies = self.rng.u8(0..3) == 0;
        let store = if dies { Arc::new(Intercepted::dying_after(self.rng.u64(0..8), store)) } else { store };
        self.chain = processor(store, rotating(&[1, 2]));
        self.process(NOW, Command::WarmUp);
    }

    fn process(&mut self, unix: UnixSeconds, command: Command) {
        let at = Moment { now: Instant::now(), unix, reference: None };
        let effects = self.chain.process(at, vec![command]);
        let has_died = effects.fatal.is_some();
        effects.responses.into_iter().for_each(Response::send);
        if has_died {
            self.deaths += 1;
            self.restart();
        }
    }

    fn store(&self) -> &dyn SdkStorage {
        self.store.as_deref().unwrap()
    }

    /// A block of key 1, or a handover, on anything that is stored.
    fn candidate(&mut self) -> (Preconfirmation, Option<TxList>) {
        let head = self.store().head().unwrap().map_or(BASE, |head| head.number);
        let number = self.rng.u64(BASE + 1..=head + 1);
        let parents = self.store().at(number - 1).unwrap();
        let parent = self.rng.choice(&parents).map_or(B256::ZERO, |parent| parent.hash());
        let fill = self.rng.u8(0..4);
        let eop = fill == 0 || self.rng.u8(0..12) == 0;
        let block = block(number, parent, fill);
        let txlist = (fill > 0 && self.rng.bool()).then(|| list(fill));
        (Preconfirmation { eop, anchor_block_number: U256::from(number), ..block }, txlist)
    }

    fn publish(&mut self) {
        let (preconf, txlist) = self.candidate();
        let signed = sign_by(&key(1), &preconf);
        let commitment = Box::new(self.chain.judge.validator.authenticate_signed(signed).unwrap());
        let ((reply, judged), span) = (oneshot::channel(), Span::none());
        let (acknowledged, allow_behind) = (None, false);
        self.process(NOW, Command::Publish { commitment, txlist, acknowledged, allow_behind, reply, span });
        match judged.blocking_recv() {
            Ok(PublishDecision::Stored | PublishDecision::NonCanonical | PublishDecision::Unpublished) => {
                self.sent.send(preconf)
            }
            Ok(PublishDecision::Conflict(_)) => self.refused += 1,
            _ => {}
        }
    }

    /// The next preconfer builds on something.
    fn successor(&mut self) {
        let head = self.store().head().unwrap().map_or(BASE, |head| head.number);
        let number = self.rng.u64(BASE + 1..=head + 1);
        let parents = self.store().at(number - 1).unwrap();
        let parent = self.rng.choice(&parents).map_or(B256::ZERO, |parent| parent.hash());
        let preconf = second(number, parent, self.rng.u8(1..4));
        let arrival = Arrival::Live(SECOND);
        self.process(
            SECOND,
            Command::Gossip(vec![GossipCommitment { arrival, ..arrived(&key(2), &preconf) }]),
        );
    }

    fn step(&mut self) {
        match self.rng.u8(0..12) {
            0..6 => self.publish(),
            6 | 7 => self.successor(),
            8 => {
                let base = self.store().base().unwrap().unwrap();
                let number = base.number + self.rng.u64(0..2);
                let known = self.store().by_block(number).unwrap().map(|block| block.hash());
                let hash = [None, known, Some(B256::repeat_byte(self.rng.u8(..)))];
                let (base, (reply, _done)) =
                    (Base { number, hash: hash[self.rng.usize(..3)] }, oneshot::channel());
                self.process(NOW, Command::SetBase { base, open: true, reply });
            }
            9 => {
                let (anchor, (reply, _done)) = (self.rng.u64(BASE..BASE + 6), oneshot::channel());
                self.process(NOW, Command::L1Reorg { anchor, reply });
            }
            10 => {
                let (anchor, (reply, _done)) = (self.rng.u64(BASE..BASE + 6), oneshot::channel());
                self.process(NOW, Command::L1Restored { anchor, reply });
            }
            // A clock that is hours ahead for a moment, too.
            _ if self.rng.bool() => self.process(UnixSeconds::new(WINDOW + 80_000), Command::Tick),
            _ => self.restart(),
        }
    }
}

/// Lives of a publisher; how many promises they sent, and how many they were refused.
fn live(seeds: std::ops::Range<u64>, open: &dyn Fn(u64) -> Arc<dyn SdkStorage>) {
    let (mut sent, mut refused, mut deaths) = (0, 0, 0);
    for seed in seeds {
        let store = || open(seed);
        let mut publisher = Publisher::new(seed, &store);
        for _ in 0..25 {
            publisher.step();
        }
        sent += publisher.sent.0.len();
        refused += publisher.refused;
        deaths += publisher.deaths;
    }
    assert!(sent > 0 && refused > 0 && deaths > 0, "{sent} sent, {refused} refused, {deaths} deaths");
}

#[test]
fn no_life_of_a_publisher_sends_a_second_promise() {
    let stores = std::sync::Mutex::new(std::collections::HashMap::new());
    live(0..2_000, &|seed| {
        let mut stores = stores.lock().unwrap();
        let store: &Arc<MemoryStorage> = stores.entry(seed).or_default();
        Arc::<MemoryStorage>::clone(store)
    });
}

#[test]
fn no_life_of_a_publisher_on_disk_sends_a_second_promise() {
    let folder = tempfile::tempdir().unwrap();
    live(0..40, &|seed| {
        let store = DiskStorage::open(folder.path().join(seed.to_string()), DiskConfig::recommended(DOMAIN));
        Arc::new(store.unwrap())
    });
}
