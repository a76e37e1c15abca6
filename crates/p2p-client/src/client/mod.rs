//! The handles that applications hold: [`P2pClient`] for the client's life, its events and its status, and one each
//! for the chain, the network and publishing.

mod chain;
mod events;
mod guard;
mod l1;
mod l2;
mod network;
mod outcome;
mod publisher;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use p2p_storage::{SdkStorage, StorageError};
use p2p_types::{B256, Clock, HeadSyncStatus, SdkCommand, SdkEvent, StorageTrouble, TxList, UnixSeconds};
use p2p_validation::{Leniency, Validator};
use preconfirmation_p2p::NetworkHandle;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    ClientCounts, ClientQueueLengths, ClockCheck, Component, P2pClientError, Publishing,
    blocking::spawn_blocking, chain::Command, command::ServiceCommand, promises::PromiseBook,
    requests::Requester, state::State,
};

pub use chain::ChainApi;
pub use events::{Lagged, Subscription};
pub(crate) use guard::Guard;
pub use network::{NetworkApi, PeerResponse};
pub use outcome::PublishOutcome;
pub use publisher::Publisher;

/// A client of the preconfirmation network. A clone is another handle of the same client, and so are
/// [`chain`](Self::chain), [`network`](Self::network) and [`publisher`](Self::publisher). The client shuts down when
/// [`shutdown`](Self::shutdown) is called or the last handle is dropped.
#[derive(Clone)]
pub struct P2pClient {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles of a client share.
pub(crate) struct Inner {
    pub(crate) requester: Requester,
    /// Weak, so that the store is closed when the client has ended, whoever still holds a handle.
    pub(crate) storage: Weak<dyn SdkStorage>,
    pub(crate) commands: mpsc::Sender<ServiceCommand>,
    /// Weak, so that subscriptions end with the service.
    pub(crate) events: broadcast::WeakSender<SdkEvent>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) handler_queue: NonZeroUsize,
    pub(crate) bootstrap_timeout: Duration,
    pub(crate) soft_fail: bool,
    /// Whether discovery is on.
    pub(crate) discovers: bool,
    pub(crate) publishing: Publishing,
    pub(crate) guard: Guard,
    pub(crate) chain_id: u64,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the view of L2 has shown of promises.
    pub(crate) promises: Mutex<PromiseBook>,
    pub(crate) tasks: TaskTracker,
}

impl P2pClient {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The preconfirmed chain: its blocks, and what the application declares about L1 and L2.
    #[must_use]
    pub fn chain(&self) -> ChainApi {
        ChainApi { client: self.inner.clone() }
    }

    /// Peers, addresses, and requests to single peers.
    #[must_use]
    pub fn network(&self) -> NetworkApi {
        NetworkApi { client: self.inner.clone() }
    }

    /// Publishes blocks, handovers and transaction lists.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher { client: self.inner.clone() }
    }

    /// How far the client is behind the network.
    #[must_use]
    pub fn status(&self) -> HeadSyncStatus {
        self.inner.state.borrow().status
    }

    /// Our clock, compared with the timestamps of elected preconfers. While everything that they sign comes too early
    /// or too late, [`status`](Self::status) is never live.
    #[must_use]
    pub fn clock(&self) -> ClockCheck {
        self.inner.state.borrow().clock
    }

    /// The rules that the configuration loosens; none by default. Show them wherever the status is shown.
    #[must_use]
    pub fn leniencies(&self) -> Vec<Leniency> {
        let soft_fail = self.inner.soft_fail.then_some(Leniency::InvalidGossipIgnored);
        self.inner.requester.validator.leniencies().chain(soft_fail).collect()
    }

    /// The chain id in the topics and protocol ids of this client.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// The rules that commitments are judged by here, and the schedule behind them.
    #[must_use]
    pub fn validator(&self) -> &Validator {
        &self.inner.requester.validator
    }

    /// The present, by the clock that commitments are judged by.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        self.inner.clock.now()
    }

    /// What is wrong with the store; none while it takes everything. [`SdkEvent::Storage`] reports each change.
    #[must_use]
    pub fn storage_trouble(&self) -> Option<StorageTrouble> {
        self.inner.state.borrow().storage.clone()
    }

    /// What this client has counted since it started.
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        self.inner.requester.metrics.counts()
    }

    /// How much waits in this client.
    #[must_use]
    pub fn queues(&self) -> ClientQueueLengths {
        self.inner.requester.metrics.queue_lengths()
    }

    /// Whether ingestion of gossip and catch-up is paused because a handler of
    /// [`run_with_handler`](Self::run_with_handler) is slow.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.inner.state.borrow().paused
    }

    /// Executes a command, for applications that drive the client through a channel.
    ///
    /// # Errors
    /// As the method for the same command; [`P2pClientError::UnknownCommand`] for a command of a later version of
    /// `p2p-types`.
    pub async fn execute(&self, command: SdkCommand) -> Result<(), P2pClientError> {
        let (chain, publisher) = (self.chain(), self.publisher());
        match command {
            SdkCommand::PublishCommitment(signed) => publisher.publish_commitment(*signed).await.map(drop),
            SdkCommand::PublishRawTxList(txlist) => publisher.publish_raw_txlist(txlist).await.map(drop),
            SdkCommand::PublishBlock { commitment, txlist } => {
                publisher.publish_block(*commitment, txlist).await.map(drop)
            }
            SdkCommand::L2Synced(base) => chain.l2_synced(base).await,
            SdkCommand::UpdateHead(base) => chain.update_head(base).await,
            SdkCommand::UpdateL1Head(l1_head) => chain.update_l1_head(l1_head).await,
            SdkCommand::NotifyReorg { anchor } => chain.notify_reorg(anchor).await.map(drop),
            SdkCommand::NotifyAnchorRestored { anchor } => chain.notify_anchor_restored(anchor).await,
            SdkCommand::NotifyScheduleChanged { since } => {
                chain.notify_schedule_changed(since).await.map(drop)
            }
            SdkCommand::Shutdown => self.shutdown().await,
            other => Err(P2pClientError::UnknownCommand { command: other.label() }),
        }
    }

    /// Shuts the client down, for all handles, and returns when it has ended: no more commands are taken,
    /// open verdicts are settled, what the store was given is in it, the network is closed, no task is left. The store is
    /// closed too, unless a [`BlockFeed`](crate::BlockFeed) or the application still holds it.
    ///
    /// # Errors
    /// The error that the client ended with, if it had ended by an error before.
    pub async fn shutdown(&self) -> Result<(), P2pClientError> {
        // A client that has ended takes no command; its end is read below.
        drop(self.inner.commands.send(ServiceCommand::Shutdown).await);
        self.closed().await
    }

    /// Waits until the client has ended, by a shutdown or by an error.
    ///
    /// # Errors
    /// The error that the client ended with.
    pub async fn closed(&self) -> Result<(), P2pClientError> {
        let mut state = self.inner.state.clone();
        match state.wait_for(|state| state.ended.is_some()).await {
            Ok(state) => state.ended.clone().unwrap_or(Ok(())),
            Err(_) => Err(P2pClientError::Panicked(Component::Client)),
        }
    }
}

impl Inner {
    pub(crate) const fn network(&self) -> &NetworkHandle {
        &self.requester.network
    }

    /// Calls the store on a blocking thread.
    pub(crate) async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn SdkStorage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, P2pClientError> {
        let store = self.storage.upgrade().ok_or(P2pClientError::Closed)?;
        let done = spawn_blocking(move || work(store.as_ref())).await;
        Ok(done.map_err(|_| P2pClientError::Panicked(Component::Storage))??)
    }

    /// A list of the store. One that is damaged is missing: the chain processor is told, and it is fetched again.
    async fn txlist(&self, hash: B256) -> Result<Option<TxList>, P2pClientError> {
        match self.with_store(move |store| store.get(&hash)).await {
            Err(P2pClientError::Storage(error)) if matches!(*error, StorageError::Corrupt { .. }) => {
                // Where the queue is full, the next reader says so again.
                drop(self.commands.try_send(ServiceCommand::Chain(Command::Unreadable { hash })));
                Ok(None)
            }
            answer => answer,
        }
    }

    pub(crate) async fn command(&self, command: ServiceCommand) -> Result<(), P2pClientError> {
        self.commands.send(command).await.map_err(|_| P2pClientError::Closed)
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, P2pClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(ServiceCommand::Chain(command(reply))).await?;
        answer.await.map_err(|_| P2pClientError::Closed)
    }

    /// Waits until something holds.
    async fn wait_for(&self, holds: impl Fn(&State) -> bool) -> Result<(), P2pClientError> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| state.ended.is_some() || holds(state)).await;
        state.ok().filter(|state| state.ended.is_none()).map(drop).ok_or(P2pClientError::Closed)
    }
}

/// The pause before a store that has failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until the store has answered, or has failed for good.
async fn retried<T, F: Future<Output = Result<T, P2pClientError>>>(
    ask: impl Fn() -> F,
) -> Result<T, P2pClientError> {
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

impl std::fmt::Debug for P2pClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("P2pClient")
            .field("peer", &self.network().local_peer_id())
            .field("head", &state.head)
            .field("status", &state.status)
            .finish_non_exhaustive()
    }
}
