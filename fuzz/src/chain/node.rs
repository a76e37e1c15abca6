//! A client's chain processor, and what its subscribers know.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use p2p_client::{
    MemoryConfig, MemoryStorage, PendingLimits, StorageLimits,
    fuzz::{Chain, Done},
    storage::{CommitmentStore as _, EvidenceStore as _, PromiseStore as _, SdkStorage as _},
};
use p2p_types::{B256, Base, Bytes, Head, Origin, PeerId, Promise, SdkEvent, TxList, UnixSeconds};
use preconfirmation_types::{Container as _, RawTxListGossip};

use super::{
    model,
    universe::{BASE, Switch, Universe, WINDOW, validator},
};

/// Memory for a few commitments that wait.
const PENDING_BYTES: usize = 8 * 1024;

/// A client.
pub(crate) struct Node {
    chain: Chain,
    store: Arc<MemoryStorage>,
    switch: Arc<Switch>,
    limits: StorageLimits,
    memory: MemoryConfig,
    unix: UnixSeconds,
    /// The blocks that subscribers take for the chain.
    shown: BTreeMap<u64, B256>,
    head: Option<Head>,
    /// What was published.
    promised: Vec<Promise>,
    /// The limits are so low that blocks have to go.
    is_small: bool,
    /// Blocks have left the chain otherwise than by an insert, so that more may stand beside it until the next one.
    has_shrunk: bool,
    /// The schedule is the one to begin with.
    is_first_schedule: bool,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(0)
    }

    /// A node with room for everything, or for little; with a base, or without one.
    pub(super) fn with(kind: u8) -> Self {
        let is_small = kind & 3 == 3;
        let limits = if is_small {
            StorageLimits { commitments: 24, non_canonical: 6, txlists: 6, txlist_bytes: 120, evidence: 4 }
        } else {
            StorageLimits::default()
        };
        let size = |n| NonZeroUsize::new(n).unwrap();
        let mut memory = MemoryConfig::default();
        if kind & 4 == 4 {
            memory.pending = PendingLimits {
                entries: size(12),
                per_peer: size(6),
                per_key: size(3),
                per_height: size(4),
                untimed: size(6),
                untimed_per_peer: size(3),
                ..PendingLimits::default()
            };
            (memory.held_txlist_bytes, memory.held_txlist_bytes_per_peer) = (900, 500);
        }
        if kind & 16 == 16 {
            memory.pending.bytes = size(PENDING_BYTES);
        }
        static START: OnceLock<Instant> = OnceLock::new();
        let now = *START.get_or_init(Instant::now);
        let (store, switch) = (Arc::new(MemoryStorage::new(limits)), Arc::<Switch>::default());
        let chain = Chain::new(store.clone(), validator(switch.clone()), memory, now);
        let unix = UnixSeconds::new(WINDOW * 19 / 10);
        let (shown, promised) = (BTreeMap::new(), Vec::new());
        let mut node = Self {
            chain,
            store,
            switch,
            limits,
            memory,
            unix,
            shown,
            head: None,
            promised,
            is_small,
            has_shrunk: false,
            is_first_schedule: true,
        };
        if kind & 8 == 0 {
            node.set_base(Base::at(BASE));
        }
        node
    }

    /// Bytes as they are, or those of a commitment or a list with something changed.
    pub(crate) fn payload(&self, bytes: &[u8], how: u8) -> Vec<u8> {
        let universe = Universe::get();
        let [which, change @ ..] = bytes else { return Vec::new() };
        let mut payload = match how % 4 {
            0 => return bytes.to_vec(),
            1 => match universe.list(usize::from(*which)) {
                Some(list) => RawTxListGossip::from(list).to_ssz(),
                None => Vec::new(),
            },
            _ => universe.ssz(usize::from(*which)).to_vec(),
        };
        for change in change.as_chunks::<3>().0.iter().take(2) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % payload.len().max(1);
            if let Some(byte) = payload.get_mut(at) {
                *byte ^= change[2];
            }
        }
        payload
    }

    /// Takes note of what subscribers are told.
    fn told(&mut self, done: Done) {
        assert_eq!(done.fatal, None, "the store is broken");
        for event in done.events {
            match event {
                SdkEvent::Commitment { block, commitment, .. } => {
                    let before = self.shown.insert(block, commitment.hash());
                    assert_eq!(before, None, "shown in the place of a block that was not dropped");
                }
                SdkEvent::Reorg { dropped, .. }
                | SdkEvent::L1Reorg { affected: dropped, .. }
                | SdkEvent::ScheduleReorg { affected: dropped, .. } => {
                    for hash in dropped {
                        let shown = self.shown.iter().find(|(_, shown)| **shown == hash);
                        let height = shown.map(|(height, _)| *height);
                        self.shown.remove(&height.expect("dropped without having been shown"));
                    }
                }
                SdkEvent::Head { head } => self.head = head,
                SdkEvent::BlockReady { block, hash, .. } => {
                    assert_eq!(self.shown.get(&block), Some(&hash), "ready without having been shown");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn gossip_bytes(&mut self, from: PeerId, ssz: Bytes) {
        let done = self.chain.gossip_bytes(self.unix, from, vec![ssz]);
        self.told(done);
    }

    pub(super) fn gossip(&mut self, from: PeerId, which: impl IntoIterator<Item = usize>) {
        let universe = Universe::get();
        let commitments = which.into_iter().map(|which| universe.commitment(which)).collect();
        let done = self.chain.gossip(self.unix, from, commitments);
        self.told(done);
    }

    pub(super) fn page(&mut self, from: PeerId, which: Vec<usize>) {
        let universe = Universe::get();
        let page = which.into_iter().map(|which| universe.commitment(which)).collect();
        let done = self.chain.page(self.unix, from, page);
        self.told(done);
    }

    pub(super) fn publish(&mut self, which: usize, with_list: bool) {
        let (universe, list) = (Universe::get(), Universe::get().list(which).filter(|_| with_list));
        let commitment = universe.commitment(which);
        let promise = Promise::from(&commitment);
        let done = self.chain.publish(self.unix, commitment, list);
        if done.is_published && self.promises_of(&promise).contains(&promise) {
            self.promised.push(promise);
        }
        self.told(done);
    }

    fn promises_of(&self, promise: &Promise) -> Vec<Promise> {
        self.store.promises(&promise.signer, promise.window_end).unwrap()
    }

    pub(crate) fn txlist(&mut self, origin: Origin, list: TxList) {
        let done = self.chain.txlist(self.unix, origin, list);
        self.told(done);
    }

    pub(super) fn set_base(&mut self, base: Base) {
        // What a small store has pruned does not come back with a lower base.
        let before = self.store.base().unwrap();
        if self.is_small && before.is_some_and(|before| base.number < before.number) {
            return;
        }
        self.has_shrunk |= before.is_some();
        let done = self.chain.set_base(self.unix, base);
        self.told(done);
        self.settle();
    }

    /// Whoever declares a base knows the blocks up to it: nobody is told of one there that was not the chain's.
    fn settle(&mut self) {
        let lowest = self.store.base().unwrap().map_or(0, |base| base.next());
        for height in BASE..lowest.min(Universe::get().highest() + 1) {
            match self.store.by_block(height).unwrap() {
                Some(block) => self.shown.insert(height, block.hash()),
                None => self.shown.remove(&height),
            };
        }
    }

    pub(super) fn settle_other(&mut self, block: u64, settled: B256, promised: Vec<B256>) {
        let before = self.store.base().unwrap();
        if before.is_some_and(|before| block >= before.number) {
            let done = self.chain.settle_other(self.unix, block, settled, promised);
            self.told(done);
            self.settle();
        }
    }

    /// A base somewhere in the chain.
    pub(super) fn settled_in_chain(&self, above: u8) -> Base {
        let base = self.store.base().unwrap().unwrap_or(Base::at(BASE));
        let number = base.number + u64::from(above % 8);
        let hash = self.store.by_block(number).unwrap().map(|block| block.hash());
        Base { number, hash: hash.or(base.hash.filter(|_| number == base.number)) }
    }

    pub(super) fn l1_reorg(&mut self, anchor: u64) {
        self.has_shrunk = true;
        let done = self.chain.l1_reorg(self.unix, anchor);
        self.told(done);
    }

    pub(super) fn l1_restored(&mut self, anchor: u64) {
        let done = self.chain.l1_restored(self.unix, anchor);
        self.told(done);
    }

    pub(super) fn l1_head(&mut self, head: u64) {
        let done = self.chain.l1_head(self.unix, head);
        self.told(done);
    }

    pub(super) fn change_schedule(&mut self, to: u8) {
        self.has_shrunk = true;
        self.is_first_schedule = false;
        self.switch.set(to);
        let since = UnixSeconds::new(u64::from(to / 4 % 4) * WINDOW);
        let done = self.chain.schedule_changed(self.unix, since);
        self.told(done);
    }

    pub(super) fn restart(&mut self) {
        let done = self.chain.restart(self.unix);
        self.told(done);
    }

    pub(super) const fn set_reference(&mut self, reference: Option<u64>) {
        self.chain.set_reference(reference);
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.chain.wait(time);
        let done = self.chain.tick(self.unix);
        self.told(done);
    }

    /// The clock goes to a window.
    pub(super) fn enter(&mut self, window: u64) {
        self.unix = UnixSeconds::new(window * WINDOW + WINDOW * 9 / 10);
        let done = self.chain.tick(self.unix);
        self.told(done);
    }

    /// The store is sound, subscribers know what is in it, and everything is within its bounds.
    pub(crate) fn check(&self) {
        let chain = model::canonical(&self.store);
        let lowest = self.store.base().unwrap().map_or(u64::MAX, |base| base.next());
        let shown: Vec<(u64, B256)> =
            self.shown.range(lowest..).map(|(block, hash)| (*block, *hash)).collect();
        let stored: Vec<(u64, B256)> = chain.iter().map(|block| (block.block, block.hash())).collect();
        assert_eq!(shown, stored, "what is shown is what is stored");
        assert!(!self.is_first_schedule || chain.iter().all(model::is_elected), "whose turn it was not");
        assert_eq!(self.store.head().unwrap(), chain.last().map(|head| head.head()));
        assert_eq!(self.head, self.store.head().unwrap(), "the head that was told");
        let (beside, leaves) = model::check_rows(&self.store, self.is_small);
        // A single branch is not cut while it grows.
        let within = beside <= self.limits.non_canonical || leaves <= 1;
        assert!(self.has_shrunk || within, "{beside} non-canonical blocks, {leaves} leaves");
        if !self.is_small {
            assert_eq!(
                model::best_chain(&self.store),
                stored,
                "the chain is what fork choice makes of all blocks"
            );
        }
        self.check_bounds();
        self.check_promises();
    }

    fn check_bounds(&self) {
        let base = self.store.base().unwrap();
        if let (Some(base), Some(lowest)) = (base, self.chain.lowest_pending()) {
            // Where the base has no hash and the chain has a block there, one on another waits for that.
            let may_wait = base.hash.is_none() && self.store.by_block(base.number).unwrap().is_some();
            assert!(may_wait || lowest > base.next(), "a block on the base waits");
        }
        let stats = self.store.stats().unwrap();
        assert!(stats.commitments <= self.limits.commitments);
        assert!(stats.txlists <= self.limits.txlists && stats.txlist_bytes <= self.limits.txlist_bytes);
        assert!(self.store.evidence().unwrap().len() <= self.limits.evidence);
        let ((parents, others), pending) = (self.chain.pending(), &self.memory.pending);
        assert!(parents <= pending.entries.get() && others <= pending.untimed.get());
        assert!(self.chain.pending_bytes() <= pending.bytes.get());
        assert!(self.chain.txlists().1 <= self.memory.held_txlist_bytes);
    }

    /// No signer has two promises that contradict each other, and none that was given is forgotten.
    fn check_promises(&self) {
        for promise in &self.promised {
            let all = self.promises_of(promise);
            assert!(all.contains(promise), "a promise is forgotten");
            let broken = all.iter().find(|other| other.conflicts_with(promise).is_some());
            assert_eq!(broken, None, "two promises that contradict each other: {promise:?}");
        }
    }
}
