//! An honest node: what survives a crash, and the client that lives for now.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use p2p_client::{P2pClient, Publishing};
use p2p_storage::StoredCommitment;
use p2p_types::{Base, Clock, PeerId, Recovered, SdkEvent, UnixSeconds};
use p2p_validation::{CachedSchedule, Slot, Window};
use preconfirmation_p2p::sim::SimNetwork;

use crate::{
    crash::{Power, Store},
    settings::{PENDING_BYTES, nz, settings},
    stage::{Block, Owner, Parent, WINDOW, WallClock, end_of, key},
    violation::{Broken, Invariant, holds},
};

/// Most blocks that events have shown since the last look.
const SHOWN: usize = 4096;

pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) id: PeerId,
    pub(crate) store: Store,
    /// By how many seconds its clock is off.
    offset: Arc<AtomicI64>,
    clock: WallClock,
    /// Who is elected, as it knows.
    pub(crate) told: Vec<Owner>,
    /// What it knows to be settled.
    pub(crate) base: Base,
    /// The lowest L1 blocks that it was told are replaced, and when, by its clock.
    pub(crate) replaced: Vec<(u64, u64)>,
    /// Those that were replaced while it was away.
    missed: Vec<u64>,
    has_lived: bool,
    pub(crate) life: Option<Life>,
}

/// From a start to a crash or a shutdown.
pub(crate) struct Life {
    pub(crate) client: P2pClient,
    pub(crate) power: Arc<Power>,
    schedule: Arc<CachedSchedule>,
    /// Windows that the schedule knows.
    known: usize,
    /// Blocks that events have shown.
    shown: Arc<Mutex<VecDeque<Arc<Recovered>>>>,
}

impl Node {
    pub(crate) fn new(index: usize, clock: WallClock, owners: &[Owner], base: Base, store: Store) -> Self {
        let byte = u8::try_from(1 + index).unwrap();
        Self {
            index,
            id: crate::stage::identity(byte).public().to_peer_id(),
            store,
            offset: Arc::default(),
            clock,
            told: owners.to_vec(),
            base,
            replaced: Vec::new(),
            missed: Vec::new(),
            has_lived: false,
            life: None,
        }
    }

    /// Starts a client with what is stored. L1 tells it all that there is by now.
    pub(crate) async fn start(&mut self, network: &SimNetwork, owners: &[Owner], base: Base, windows: usize) {
        let (clock, offset) = (self.clock, self.offset.clone());
        let byte = u8::try_from(1 + self.index).unwrap();
        let skewed =
            move || UnixSeconds::new(clock.now().saturating_add_signed(offset.load(Ordering::Relaxed)));
        let mut config = settings(byte, Arc::new(skewed) as Arc<dyn Clock>);
        config.metrics = false;
        if self.store.keeps_promises() {
            config.publishing = Publishing::Guarded;
        }
        // One peer may fill it, so that it is the memory that bounds it.
        let pending = &mut config.memory.pending;
        pending.untimed = pending.entries;
        (pending.per_peer, pending.untimed_per_peer) = (pending.entries, pending.untimed);
        pending.bytes = nz(PENDING_BYTES);
        let (net, id) = (network.clone(), self.id);
        let power = Power::new(move || net.crash(id));
        let schedule = Arc::new(CachedSchedule::new(nz(1024)));
        let (handle, events, service) = network.join(config.network.clone()).unwrap();
        let config = config.with_storage(self.store.powered(&power));
        let started = P2pClient::builder(config, schedule.clone()).network(handle, events, service.run());
        let (client, mut events) = started.start_subscribed().await.unwrap();
        let shown = Arc::<Mutex<VecDeque<Arc<Recovered>>>>::default();
        let noted = shown.clone();
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.next_event().await {
                if let SdkEvent::Commitment { commitment, .. } | SdkEvent::Handover { commitment, .. } = event
                {
                    let mut noted = noted.lock().unwrap();
                    noted.push_back(commitment);
                    if noted.len() > SHOWN {
                        noted.pop_front();
                    }
                }
            }
        });
        self.told = owners.to_vec();
        self.base = base;
        self.life = Some(Life { client, power, schedule, known: 0, shown });
        self.learn(windows);
        let Some(life) = &self.life else { return };
        // Either fails where the crash comes first.
        drop(life.client.chain().l2_synced(base).await);
        drop(life.client.chain().notify_schedule_changed(UnixSeconds::new(0)).await);
        self.has_lived = true;
        // What it had saved of L1 shows what was replaced meanwhile.
        for anchor in std::mem::take(&mut self.missed) {
            self.take_out(anchor).await;
        }
    }

    /// Its schedule is known for all windows before this one.
    pub(crate) fn learn(&mut self, before: usize) {
        let Some(life) = &mut self.life else { return };
        let seconds = |first, last| Window { start: UnixSeconds::new(first), end: UnixSeconds::new(last) };
        while life.known < before.min(self.told.len()) {
            let window = seconds(end_of(life.known) + 1 - WINDOW, end_of(life.known));
            let signer = key(self.told[life.known].key()).address();
            life.schedule.update(life.known as u64, window, vec![Slot { signer, window }]).unwrap();
            life.known += 1;
        }
    }

    /// L1 elects others from a window on.
    pub(crate) async fn hear_of_election(&mut self, owners: &[Owner], window: usize) {
        // What else L1 has changed is heard of at a moment of its own.
        self.told[window..].clone_from_slice(&owners[window..]);
        let Some(life) = &mut self.life else { return };
        let known = life.known;
        if known > window {
            // The number of a window is that of the L1 block that told it; the first is never told anew.
            life.schedule.roll_back_to(window as u64 - 1);
            life.known = window;
        }
        let client = life.client.clone();
        self.learn(known);
        let since = UnixSeconds::new(end_of(window) + 1 - WINDOW);
        drop(client.chain().notify_schedule_changed(since).await);
    }

    /// L1 has replaced its blocks from `anchor` on.
    pub(crate) async fn hear_of_replaced(&mut self, anchor: u64) -> Result<(), Broken> {
        let now = self.now();
        let is_done = self.take_out(anchor).await && self.alive().is_some();
        // What is left was signed since, or stands below what was.
        let chain = if is_done { self.chain() } else { Vec::new() };
        let newest = chain.last().map_or(0, |head| parent(head).timestamp);
        let stale = chain.iter().find(|block| anchor_of(block) >= anchor && parent(block).timestamp <= now);
        holds(stale.is_none() || newest > now, self.index, Invariant::Withdrawn, || {
            format!("{stale:?} is in the chain, anchored to an L1 block from {anchor} on that is replaced")
        })
    }

    /// Takes out what is anchored to L1 blocks from `anchor` on, now or once it is back.
    async fn take_out(&mut self, anchor: u64) -> bool {
        let Some(client) = self.alive().map(|life| life.client.clone()) else {
            self.missed.extend(self.has_lived.then_some(anchor));
            return false;
        };
        self.replaced.push((anchor, self.now()));
        client.chain().notify_reorg(anchor).await.is_ok()
    }

    /// L1 has its blocks from `anchor` on again.
    pub(crate) async fn hear_of_restored(&mut self, anchor: u64) {
        self.missed.retain(|missed| *missed != anchor);
        if let Some(life) = self.alive() {
            drop(life.client.chain().notify_anchor_restored(anchor).await);
        }
    }

    pub(crate) async fn hear_of_base(&mut self, base: Base) {
        self.base = base;
        if let Some(life) = &self.life {
            drop(life.client.chain().update_head(base).await);
        }
    }

    /// Its life, unless that has ended by a crash that nobody has noticed yet.
    pub(crate) fn alive(&self) -> Option<&Life> {
        self.life.as_ref().filter(|life| !life.power.is_off())
    }

    pub(crate) fn set_offset(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::Relaxed);
    }

    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// The time by its clock.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().saturating_add_signed(self.offset())
    }

    /// The newest block of its chain.
    pub(crate) fn tip(&self) -> Parent {
        let head = self.store.head().unwrap();
        head.and_then(|head| self.at(head.number)).map_or(Parent::BASE, |stored| parent(&stored))
    }

    /// The block of its chain at a height.
    pub(crate) fn at(&self, number: u64) -> Option<StoredCommitment> {
        self.store.by_block(number).unwrap()
    }

    /// Its chain above its base.
    pub(crate) fn chain(&self) -> Vec<StoredCommitment> {
        self.store.range(self.base.next(), 1024).unwrap()
    }

    /// All blocks above its base, in order of height.
    pub(crate) fn blocks(&self) -> Vec<StoredCommitment> {
        let heights = (self.base.next()..).map(|height| self.store.at(height).unwrap());
        heights.take_while(|at| !at.is_empty()).flatten().filter(|stored| !stored.is_handover()).collect()
    }

    /// Whether it has the list of a block.
    pub(crate) fn has_list(&self, stored: &StoredCommitment) -> bool {
        self.store.contains(&stored.txlist_hash()).unwrap()
    }

    pub(crate) fn stats(&self) -> p2p_storage::StorageStats {
        self.store.stats().unwrap()
    }

    /// What events have shown since the last look.
    pub(crate) fn take_shown(&self) -> VecDeque<Arc<Recovered>> {
        self.life.as_ref().map(|life| std::mem::take(&mut *life.shown.lock().unwrap())).unwrap_or_default()
    }

    /// The block that it would sign now on its head, if it is its turn by its clock and its schedule.
    pub(crate) fn next_block(&self, salt: u64) -> Option<(usize, Block)> {
        self.alive()?;
        let (now, parent) = (self.now(), self.tip());
        let window = usize::try_from(now.checked_sub(crate::stage::GENESIS)? / WINDOW).unwrap();
        if self.told.get(window) != Some(&Owner::Honest(self.index)) {
            return None;
        }
        let (timestamp, end) = (now.max(parent.timestamp + 1), end_of(window));
        let signer = key(Owner::Honest(self.index).key());
        (timestamp <= end).then(|| (window, Block::on(parent, timestamp, end, salt, &signer)))
    }
}

/// The L1 block that a block is anchored to.
pub(crate) fn anchor_of(stored: &StoredCommitment) -> u64 {
    stored.recovered.signed().preconf().anchor_block_number.to()
}

/// What a block on this one names.
pub(crate) fn parent(stored: &StoredCommitment) -> Parent {
    let timestamp = stored.recovered.signed().preconf().timestamp.to();
    Parent { number: stored.block, hash: stored.hash(), timestamp }
}
