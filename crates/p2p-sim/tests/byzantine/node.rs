//! An honest node: a whole client with its application.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use p2p_client::{Multiaddr, P2pClient, P2pClientError};
use p2p_sim::{
    settings::{COMMITMENTS, EVIDENCE, HELD_BYTES, PENDING, TXLISTS, UNTIMED, nz, settings, storage_limits},
    stage::{BASE, Block, GENESIS, Owner, Parent, WINDOW, WallClock, end_of},
};
use p2p_storage::{MemoryStorage, SdkStorage};
use p2p_types::{B256, Base, PeerId, SdkEvent, UnixSeconds};
use p2p_validation::{CachedSchedule, Slot, Window};
use preconfirmation_p2p::sim::SimNetwork;

use crate::{bounds, plan::Plan};

pub(crate) struct Node {
    pub(crate) client: P2pClient,
    pub(crate) storage: Arc<dyn SdkStorage>,
    schedule: Arc<CachedSchedule>,
    /// Windows that the schedule knows.
    known: usize,
    events: Arc<AtomicUsize>,
    /// What left the chain, by switch.
    dropped: Arc<Mutex<Vec<Vec<B256>>>>,
}

impl Node {
    pub(crate) async fn start(network: &SimNetwork, clock: WallClock, key: u8) -> Self {
        bounds::record();
        let config = settings(key, Arc::new(move || clock.unix()));
        let storage: Arc<dyn SdkStorage> = Arc::new(MemoryStorage::new(storage_limits()));
        let schedule = Arc::new(CachedSchedule::new(nz(1024)));
        let (handle, network_events, service) = network.join(config.network.clone()).unwrap();
        let client = P2pClient::builder(config.with_storage(storage.clone()), schedule.clone())
            .network(handle, network_events, Box::pin(service.run()))
            .start()
            .await
            .unwrap();
        let events = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::<Mutex<Vec<Vec<B256>>>>::default();
        let (mut subscription, counted, noted) = (client.subscribe(), events.clone(), dropped.clone());
        tokio::spawn(async move {
            while let Some(event) = subscription.next_event().await.unwrap() {
                counted.fetch_add(1, Ordering::Relaxed);
                if let SdkEvent::Reorg { dropped, .. } = event {
                    noted.lock().unwrap().push(dropped);
                }
            }
        });
        client.chain().l2_synced(Base::at(BASE)).await.unwrap();
        Self { client, storage, schedule, known: 0, events, dropped }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.client.network().local_peer_id()
    }

    pub(crate) async fn address(&self) -> Multiaddr {
        self.client.network().listen_addrs().await.unwrap().remove(0)
    }

    /// Events that the application was told so far.
    pub(crate) fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    /// Whether anything was refused, or lost against what others have signed.
    pub(crate) fn has_noticed(&self) -> bool {
        let counts = self.client.counts();
        let chain = self.client.chain().head().map_or(0, |head| head.number - BASE);
        let stored = self.storage.stats().unwrap().commitments as u64;
        counts.rejected + counts.ignored + counts.dropped > 0 || stored > chain
    }

    /// The most turns of honest preconfers that one switch took out of the chain. A turn is a window here.
    pub(crate) fn turns_displaced(&self, plan: &Plan) -> usize {
        let honest = |hash: &B256| {
            let preconf = self.storage.by_hash(hash).unwrap()?.recovered.signed().preconf().clone();
            let window_end: u64 = preconf.submission_window_end.to();
            let window = usize::try_from((window_end - GENESIS) / WINDOW).unwrap();
            matches!(plan.owners[window], Owner::Honest(_)).then_some(window)
        };
        let turns = |dropped: &Vec<B256>| dropped.iter().filter_map(honest).collect::<BTreeSet<_>>().len();
        self.dropped.lock().unwrap().iter().map(turns).max().unwrap_or_default()
    }

    /// Its source has learned of all windows before this one.
    pub(crate) fn learn(&mut self, plan: &Plan, before: usize) {
        let seconds = |first, last| Window { start: UnixSeconds::new(first), end: UnixSeconds::new(last) };
        while self.known < before.min(plan.owners.len()) {
            let window = seconds(end_of(self.known) + 1 - WINDOW, end_of(self.known));
            let signer = plan.signer(plan.owners[self.known]).address();
            self.schedule.update(self.known as u64, window, vec![Slot { signer, window }]).unwrap();
            self.known += 1;
        }
    }

    /// The newest block of its chain.
    pub(crate) async fn tip(&self) -> Parent {
        match self.client.chain().head() {
            Some(head) => self.at(head.number).await.unwrap_or(Parent::BASE),
            None => Parent::BASE,
        }
    }

    /// The block of its chain at a height.
    pub(crate) async fn at(&self, number: u64) -> Option<Parent> {
        let stored = self.client.chain().block(number).await.unwrap()?;
        let timestamp = stored.recovered.signed().preconf().timestamp.to();
        Some(Parent { number, hash: stored.hash(), timestamp })
    }

    /// Publishes as an honest preconfer does: on its own head, once a second at most.
    pub(crate) async fn build(&self, plan: &Plan, clock: WallClock) -> Result<(), P2pClientError> {
        let (window, parent) = (clock.window(), self.tip().await);
        let timestamp = clock.now().max(parent.timestamp + 1);
        let end = end_of(window);
        if timestamp > end {
            return Ok(());
        }
        let signer = plan.signer(plan.owners[window]);
        let block = Block::on(parent, timestamp, end, 0, &signer);
        self.client.publisher().publish_block(block.signed, block.txlist).await.map(drop)
    }

    /// Nothing is larger than it may be.
    pub(crate) fn check_bounds(&self) {
        let stats = self.storage.stats().unwrap();
        assert!(stats.commitments <= COMMITMENTS && stats.txlists <= TXLISTS, "{stats:?}");
        assert!(stats.evidence <= EVIDENCE, "{stats:?}");
        let most = |series, limit: usize| {
            #[allow(clippy::cast_precision_loss, reason = "limits are small")]
            let limit = limit as f64;
            let peak = bounds::peak(series);
            assert!(peak <= limit, "{series}: {peak}");
        };
        most("p2p_pending parent", PENDING);
        most("p2p_pending schedule", UNTIMED);
        most("p2p_pending txlist", COMMITMENTS);
        most("p2p_txlists_held_bytes", HELD_BYTES);
    }
}
