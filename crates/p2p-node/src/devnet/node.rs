//! A full node of the devnet, and the task that reads its events.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use p2p_client::{P2pClient, P2pClientConfig, Publishing, Subscription};
use p2p_storage::{CommitmentStore, MemoryStorage, TxListStore};
use p2p_types::{B256, Origin, SdkEvent};
use preconfirmation_p2p::Multiaddr;
use tokio::task::JoinHandle;

use super::{args::Transport, error::DevnetError, plan::Plan};

/// When each commitment was handed to the network, for everybody to compare with.
pub(crate) type Published = Arc<Mutex<HashMap<B256, Instant>>>;

/// What an observer has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From publishing to the event, for what came by gossip.
    pub(crate) latencies: Vec<Duration>,
    /// Commitments that came by catching up.
    pub(crate) synced_commitments: u64,
    /// Transaction lists that came by catching up.
    pub(crate) synced_txlists: u64,
    /// When each block was complete, its transaction list included.
    ready: BTreeMap<u64, Instant>,
    /// Events that the observer was too slow for.
    pub(crate) missed: u64,
}

impl Seen {
    /// When the last of all blocks up to this one was complete.
    pub(crate) fn complete_up_to(&self, number: u64) -> Option<Instant> {
        self.ready.range(..=number).map(|(_, at)| *at).max()
    }
}

/// A node and its observer.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) client: P2pClient,
    pub(crate) storage: Arc<MemoryStorage>,
    seen: Arc<Mutex<Seen>>,
    observer: JoinHandle<()>,
}

impl Node {
    /// Starts node `index`, listening on `listen` if that is given.
    pub(crate) async fn start(
        plan: &Plan,
        index: usize,
        name: String,
        transport: Transport,
        listen: Option<Multiaddr>,
        published: Published,
    ) -> Result<Self, DevnetError> {
        let mut config = P2pClientConfig::local(plan.chain_id, plan.identity(index)?, plan.validation());
        config.network = transport.network(plan.chain_id, plan.identity(index)?);
        // The keys of a devnet are worth nothing.
        config.publishing = Publishing::GuardedUntilRestart;
        if let Some(address) = listen {
            config.network.listen = vec![address];
        }
        let storage = Arc::new(MemoryStorage::default());
        let client = P2pClient::start(config.with_storage(storage.clone()), plan.schedule.clone()).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let observer = tokio::spawn(observe(client.subscribe(), seen.clone(), published));
        Ok(Self { name, client, storage, seen, observer })
    }

    /// What the observer has seen so far.
    pub(crate) fn seen<T>(&self, read: impl FnOnce(&mut Seen) -> T) -> T {
        read(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the node has this block in its chain.
    pub(crate) fn has_block(&self, number: u64, hash: B256) -> bool {
        matches!(self.storage.by_block(number), Ok(Some(stored)) if stored.hash() == hash)
    }

    /// Whether the node has stored this commitment in whatever role.
    pub(crate) fn has_commitment(&self, hash: &B256) -> bool {
        matches!(self.storage.by_hash(hash), Ok(Some(_)))
    }

    /// Whether the node has stored this list.
    pub(crate) fn has_txlist(&self, hash: &B256) -> bool {
        matches!(self.storage.contains(hash), Ok(true))
    }

    /// Shuts the node down.
    pub(crate) async fn stop(self) -> Result<(), DevnetError> {
        let ended = self.client.shutdown().await;
        drop(self.client);
        // The observer ends with the client's events.
        self.observer.await.map_err(|_| DevnetError::Observer)?;
        Ok(ended?)
    }
}

async fn observe(mut events: Subscription, seen: Arc<Mutex<Seen>>, published: Published) {
    loop {
        let event = match events.next_event().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(lagged) => {
                seen.lock().unwrap_or_else(PoisonError::into_inner).missed += lagged.missed;
                continue;
            }
        };
        let now = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            SdkEvent::Commitment { commitment, origin: Origin::Gossip(_), .. }
            | SdkEvent::Handover { commitment, origin: Origin::Gossip(_), .. } => {
                let published = published.lock().unwrap_or_else(PoisonError::into_inner);
                let since = published.get(&commitment.hash()).copied();
                seen.latencies.extend(since.map(|since| now.saturating_duration_since(since)));
            }
            SdkEvent::Commitment { origin: Origin::Sync(_), .. } => seen.synced_commitments += 1,
            SdkEvent::TxList { origin: Origin::Sync(_), .. } => seen.synced_txlists += 1,
            SdkEvent::BlockReady { block, .. } => drop(seen.ready.insert(block, now)),
            _ => {}
        }
    }
}
