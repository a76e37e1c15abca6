//! A node that publishes, with a store on disk and a server, and a peer that hears it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use p2p_client::{Keypair, P2pClient, P2pClientConfig, Publishing, SigningGuard, Subscription};
use p2p_rpc::{Namespace, RpcConfig, RpcHandle, RpcServer};
use p2p_storage::{DiskConfig, DiskStorage, MemoryStorage, SdkStorage};
use p2p_types::{Base, SdkEvent, UnixSeconds};
use p2p_validation::ValidationConfig;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    PATIENCE,
    chain::{BASE, Made, SLASHER, schedule},
};
use crate::DOMAIN;

const CHAIN: u64 = 167_000;

pub(crate) struct World {
    pub(crate) client: P2pClient,
    pub(crate) peer: P2pClient,
    pub(crate) address: SocketAddr,
    /// What the clocks of both show.
    now: Arc<AtomicU64>,
    handle: RpcHandle,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(true, None).await
    }

    /// With a store on disk or in memory, and with a signing guard that is asked beside it.
    pub(crate) async fn with(is_on_disk: bool, guard: Option<Arc<dyn SigningGuard>>) -> Self {
        let (folder, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(BASE)));
        let memory = || Arc::new(MemoryStorage::default());
        let (storage, publishing): (Arc<dyn SdkStorage>, _) = if is_on_disk {
            let disk = DiskStorage::open(folder.path(), DiskConfig::recommended(DOMAIN)).unwrap();
            (Arc::new(disk), Publishing::Guarded)
        } else {
            (memory(), Publishing::GuardedUntilRestart)
        };
        let (client, peer) = (
            start(storage, publishing, guard, now.clone()).await,
            start(memory(), Publishing::Disabled, None, now.clone()).await,
        );
        let there = peer.network().listen_addrs().await.unwrap().into_iter().next().unwrap();
        client.network().dial(there).await.unwrap();
        for one in [&client, &peer] {
            timeout(PATIENCE, one.network().wait_for_peers(1)).await.unwrap().unwrap();
            one.chain().l2_synced(Base::at(BASE)).await.unwrap();
        }
        timeout(PATIENCE, client.publisher().ready()).await.unwrap().unwrap();
        let config = RpcConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))
            .with_namespaces(Namespace::ALL.iter().copied());
        let (handle, server) = RpcServer::bind(config, client.clone()).await.unwrap();
        let (address, serving) = (handle.address(), tokio::spawn(server.run()));
        Self { client, peer, address, now, handle, serving, _folder: folder }
    }

    /// It is time for a block.
    pub(crate) fn turn_to(&self, made: &Made) {
        self.now.store(made.number, Ordering::Release);
    }

    /// Publishes by the client's own API.
    pub(crate) async fn publish(&self, made: &Made) {
        self.turn_to(made);
        let publisher = self.client.publisher();
        let _outcome = publisher.publish_block(made.signed.clone(), made.txlist.clone()).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.handle.stop().await;
        self.serving.await.unwrap();
        self.client.shutdown().await.unwrap();
        self.peer.shutdown().await.unwrap();
    }
}

async fn start(
    storage: Arc<dyn SdkStorage>,
    publishing: Publishing,
    guard: Option<Arc<dyn SigningGuard>>,
    now: Arc<AtomicU64>,
) -> P2pClient {
    let rules = ValidationConfig::new(DOMAIN, SLASHER);
    let mut config =
        P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules).with_publishing(publishing);
    config.clock = Arc::new(move || UnixSeconds::new(now.load(Ordering::Acquire)));
    config.guard = guard;
    storage.set_base(Base::at(BASE)).unwrap();
    P2pClient::start(config.with_storage(storage), Arc::new(schedule())).await.unwrap()
}

/// When a client had each of so many blocks from a height on, by its events: the moment of the commitment.
pub(crate) async fn arrivals(mut events: Subscription, from: u64, count: usize) -> Vec<Option<Instant>> {
    let (mut arrived, mut missing) = (vec![None; count], count);
    let end = Instant::now() + PATIENCE;
    while missing > 0 {
        let next = timeout(end.saturating_duration_since(Instant::now()), events.next_event()).await;
        let Some(SdkEvent::Commitment { block, .. }) = next.unwrap().unwrap() else { continue };
        let index = block.checked_sub(from).and_then(|index| usize::try_from(index).ok());
        if let Some(arrived) = index.and_then(|index| arrived.get_mut(index)).filter(|at| at.is_none()) {
            *arrived = Some(Instant::now());
            missing -= 1;
        }
    }
    arrived
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The nearest rank.
pub(crate) fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}
