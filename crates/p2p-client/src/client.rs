//! The handle that applications hold.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use p2p_storage::{SdkStorage, StorageError, StoredCommitment, StoredEvidence};
use p2p_types::{
    B256, Base, BlockNumber, Clock, Head, HeadSyncStatus, PeerId, PeerInfo, Recovered, SdkCommand, SdkEvent,
    Stall, StorageTrouble, TxList,
};
use p2p_validation::{Leniency, Lookahead, Slot};
use preconfirmation_p2p::{DuplicateIdentity, Multiaddr, NetworkHandle, PeerStatus};
use preconfirmation_types::PreconfHead;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;

use crate::{
    ClientCounts, ClockCheck, L1Reorg, P2pClientBuilder, P2pClientConfig, P2pClientError, Publishing,
    chain::Command,
    command::ServiceCommand,
    requests::{Requester, is_relays_fault, offence, readable},
};

/// A client of the preconfirmation network. Cloning gives another handle of the same client; it shuts down
/// when [`shutdown`](Self::shutdown) is called or the last handle is dropped.
#[derive(Clone)]
pub struct P2pClient {
    pub(crate) requester: Requester,
    pub(crate) storage: Arc<dyn SdkStorage>,
    pub(crate) commands: mpsc::Sender<ServiceCommand>,
    /// Weak, so that subscriptions end with the service.
    pub(crate) events: broadcast::WeakSender<SdkEvent>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) handler_queue: NonZeroUsize,
    pub(crate) bootstrap_timeout: Duration,
    pub(crate) soft_fail: bool,
    /// Whether the network looks for peers.
    pub(crate) discovers: bool,
    pub(crate) publishing: Publishing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: TaskTracker,
}

/// What a handle can read without asking.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) head: Option<Head>,
    pub(crate) status: HeadSyncStatus,
    pub(crate) clock: ClockCheck,
    pub(crate) peers: Vec<PeerId>,
    /// Intake stands still because a handler is slow.
    pub(crate) paused: bool,
    /// What is wrong with the store.
    pub(crate) storage: Option<StorageTrouble>,
    /// How the client ended, once it has.
    pub(crate) ended: Option<Result<(), P2pClientError>>,
}

impl P2pClient {
    /// Starts a client with the network that `config` describes; see [`builder`](Self::builder) for more.
    ///
    /// # Errors
    /// As [`P2pClientBuilder::start`].
    pub async fn start(
        config: P2pClientConfig,
        storage: Arc<dyn SdkStorage>,
        lookahead: Arc<dyn Lookahead>,
    ) -> Result<Self, P2pClientError> {
        Self::builder(config).storage(storage).lookahead(lookahead).start().await
    }

    /// Builds a client from its parts.
    pub fn builder(config: P2pClientConfig) -> P2pClientBuilder {
        P2pClientBuilder::new(config)
    }

    /// Who this client is on the network.
    #[must_use]
    pub const fn local_peer_id(&self) -> PeerId {
        self.network().local_peer_id()
    }

    /// The addresses that this client listens on, each ending in `/p2p/<peer id>`.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, P2pClientError> {
        Ok(self.network().listen_addrs().await?)
    }

    /// The node's record (ENR) as text, which others take as a bootnode, as soon as discovery runs; none where
    /// it is off.
    pub async fn record(&self) -> Option<String> {
        if self.discovers { self.network().record_made().await } else { None }
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if no connection could be made.
    pub async fn dial(&self, address: Multiaddr) -> Result<(), P2pClientError> {
        Ok(self.network().dial(address).await?)
    }

    /// The connected peers, then the banned ones.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, P2pClientError> {
        let info = |peer: PeerStatus| PeerInfo {
            peer: peer.peer,
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            agent: peer.agent,
            inbound: peer.inbound,
            protocols: peer.protocols,
            topics: peer.topics,
            round_trip: peer.round_trip,
            score: peer.score,
            application_score: peer.application_score,
            protected: peer.protected,
            ready: peer.ready,
            connected_for: peer.connected_for,
            banned_for: peer.banned,
        };
        Ok(self.network().peers().await?.into_iter().map(info).collect())
    }

    /// Waits until at least this many peers can be asked.
    ///
    /// # Errors
    /// [`P2pClientError::Closed`] if the client ends before.
    pub async fn connected(&self, peers: usize) -> Result<(), P2pClientError> {
        let mut state = self.state.clone();
        let enough = state.wait_for(|state| state.ended.is_some() || state.peers.len() >= peers).await;
        enough.ok().filter(|state| state.ended.is_none()).map(drop).ok_or(P2pClientError::Closed)
    }

    /// Waits until a peer can be asked, for as long as
    /// [`bootstrap_timeout`](P2pClientConfig::bootstrap_timeout) allows. Dialling goes on after that.
    ///
    /// # Errors
    /// [`P2pClientError::Timeout`]; [`P2pClientError::Closed`] if the client ends before.
    pub async fn bootstrapped(&self) -> Result<(), P2pClientError> {
        let limit = self.bootstrap_timeout;
        let late = P2pClientError::Timeout { what: "bootstrap", limit };
        tokio::time::timeout(limit, self.connected(1)).await.unwrap_or(Err(late))
    }

    /// Waits until the client knows what it would build on, so that publishing is not refused for
    /// [`P2pClientError::NotLive`]: it is live, or alone with nothing above its head.
    ///
    /// # Errors
    /// [`P2pClientError::Closed`] if the client ends before.
    pub async fn ready_to_publish(&self) -> Result<(), P2pClientError> {
        let mut state = self.state.clone();
        // What is told of being alone is out of date as soon as a peer has come.
        let alone = |state: &State| matches!(state.status, HeadSyncStatus::Stalled { .. });
        let ready = |state: &State| {
            state.ended.is_some()
                || (knows_its_parent(&state.status) && (state.peers.is_empty() || !alone(state)))
        };
        let ready = state.wait_for(ready).await;
        ready.ok().filter(|state| state.ended.is_none()).map(drop).ok_or(P2pClientError::Closed)
    }

    /// The newest block of the chain above the base.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.state.borrow().head
    }

    /// How far behind the client is.
    #[must_use]
    pub fn status(&self) -> HeadSyncStatus {
        self.state.borrow().status
    }

    /// What elected preconfers' timestamps say about our clock. Where everything they sign comes too early or too late,
    /// [`status`](Self::status) is never live.
    #[must_use]
    pub fn clock(&self) -> ClockCheck {
        self.state.borrow().clock
    }

    /// Whether this node suspects its own lookahead, clock or slasher: several peers have signed within a minute what these
    /// do not expect, and no commitment has passed since. Meanwhile no peer is charged for that.
    #[must_use]
    pub fn suspects_itself(&self) -> bool {
        self.network().suspects_itself()
    }

    /// The last sign, since the start, that another node uses this node's network key; none if there was none.
    #[must_use]
    pub fn duplicate_identity(&self) -> Option<DuplicateIdentity> {
        self.network().duplicate_identity()
    }

    /// The rules that are loosened here, none by default. Part of any honest status.
    #[must_use]
    pub fn leniencies(&self) -> Vec<Leniency> {
        let soft_fail = self.soft_fail.then_some(Leniency::InvalidGossipIgnored);
        self.requester.validator.leniencies().chain(soft_fail).collect()
    }

    /// What is wrong with the store; none while it takes everything. [`SdkEvent::Storage`] tells when that changes.
    #[must_use]
    pub fn storage_trouble(&self) -> Option<StorageTrouble> {
        self.state.borrow().storage.clone()
    }

    /// What this client has counted since it started.
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        self.requester.metrics.counts()
    }

    /// The block of the chain at a height, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, P2pClientError> {
        self.with_store(move |store| store.by_block(block)).await
    }

    /// A transaction list, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn txlist(&self, hash: B256) -> Result<Option<TxList>, P2pClientError> {
        self.with_store(move |store| readable(store, &hash)).await
    }

    /// Works with the store on a thread that may wait for it.
    pub(crate) async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn SdkStorage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, P2pClientError> {
        let store = self.storage.clone();
        let done = spawn_blocking(move || work(store.as_ref())).await;
        Ok(done.map_err(|_| P2pClientError::Join("storage"))??)
    }

    /// The L2 execution has reached the on-chain tip (§6): what is at or below `base` is settled, and
    /// catching up may start above it.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn l2_synced(&self, base: Base) -> Result<(), P2pClientError> {
        self.ask(|reply| Command::SetBase { base, open: true, reply }).await?.map_err(Into::into)
    }

    /// The settled tip has moved: what is at or below `base` is settled. Nothing there is replaced any more,
    /// and blocks above that do not stand on it are dropped. Does not open the gate of
    /// [`l2_synced`](Self::l2_synced).
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn update_head(&self, base: Base) -> Result<(), P2pClientError> {
        self.ask(|reply| Command::SetBase { base, open: false, reply }).await?.map_err(Into::into)
    }

    /// The head of L1 has moved. Until it is told, no anchor is too old.
    ///
    /// # Errors
    /// [`P2pClientError::Closed`].
    pub async fn update_l1_head(&self, l1_head: BlockNumber) -> Result<(), P2pClientError> {
        self.command(ServiceCommand::Chain(Command::L1Head(l1_head))).await
    }

    /// L1 has replaced its blocks from `anchor` on. Every block above the base that is anchored to one of
    /// them (`anchorBlockNumber` at or above `anchor`) leaves the chain, with all that build on it; the answer
    /// names them, [`SdkEvent::L1Reorg`](p2p_types::SdkEvent::L1Reorg) tells everybody, and the head falls.
    /// They stay in the store beside the chain, out of reach of peers that ask. A copy that a peer still has does not
    /// bring them back: only a block that is signed after this and builds on them does, or
    /// [`notify_anchor_restored`](Self::notify_anchor_restored). Catch-up asks peers for what stands there now.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn notify_reorg(&self, anchor: BlockNumber) -> Result<L1Reorg, P2pClientError> {
        self.ask(|reply| Command::L1Reorg { anchor, reply }).await?.map_err(Into::into)
    }

    /// The L1 blocks from `anchor` on that an earlier [`notify_reorg`](Self::notify_reorg) named are canonical again: what
    /// left the chain for their sake counts as before.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn notify_anchor_restored(&self, anchor: BlockNumber) -> Result<(), P2pClientError> {
        self.ask(|reply| Command::L1Restored { anchor, reply }).await?.map_err(Into::into)
    }

    /// The slot of the preconfer to expect now: the elected one, or the next if that one has handed over
    /// (EOP, §6). None where the lookahead does not know.
    ///
    /// # Errors
    /// [`P2pClientError::Lookahead`], [`P2pClientError::Closed`].
    pub async fn expected_preconfer(&self) -> Result<Option<Slot>, P2pClientError> {
        let moment = self.clock.now();
        self.ask(|reply| Command::Expected { moment, reply }).await?.map_err(P2pClientError::Lookahead)
    }

    /// Proofs of misbehaviour that the store holds, by signer and height.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn evidence(&self) -> Result<Vec<StoredEvidence>, P2pClientError> {
        self.with_store(|store| store.evidence()).await
    }

    /// Asks a peer, or the best one, how far it has come. A claim, not a fact.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`].
    pub async fn request_head(&self, peer: Option<PeerId>) -> Result<(PeerId, PreconfHead), P2pClientError> {
        let peer = self.peer_or_best(peer).await?;
        Ok((peer, self.requester.head(peer).await?))
    }

    /// Asks a peer, or the best one, for commitments from a height on. Each is authentic; whether its signer
    /// was elected and its parent is known is not judged here.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`], [`P2pClientError::InvalidAnswer`].
    pub async fn request_commitments(
        &self,
        peer: Option<PeerId>,
        from: BlockNumber,
        max_count: u32,
    ) -> Result<(PeerId, Vec<Recovered>), P2pClientError> {
        let peer = self.peer_or_best(peer).await?;
        let (page, rejection) = self.requester.page(peer, from, max_count).await?;
        if let Some(rejection) = rejection.filter(is_relays_fault) {
            return Err(P2pClientError::InvalidAnswer { peer, rejection: Box::new(rejection) });
        }
        Ok((peer, page.into_iter().map(|commitment| commitment.recovered().clone()).collect()))
    }

    /// Asks a peer, or the best one, for a transaction list; `None` if it does not have it.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`], [`P2pClientError::InvalidTxList`].
    pub async fn request_raw_txlist(
        &self,
        peer: Option<PeerId>,
        hash: B256,
    ) -> Result<(PeerId, Option<TxList>), P2pClientError> {
        let peer = self.peer_or_best(peer).await?;
        Ok((peer, self.charge(peer, self.requester.txlist(peer, hash).await)?))
    }

    fn charge<T>(&self, peer: PeerId, answer: Result<T, P2pClientError>) -> Result<T, P2pClientError> {
        if let Err(error) = &answer
            && let Some(offence) = offence(error)
        {
            self.network().report(peer, offence);
        }
        answer
    }

    /// The peer named, or the one with the shortest round trip among those that can be asked.
    async fn peer_or_best(&self, peer: Option<PeerId>) -> Result<PeerId, P2pClientError> {
        if let Some(peer) = peer {
            return Ok(peer);
        }
        let mut peers = self.network().peers().await?;
        peers.retain(|peer| peer.ready && peer.banned.is_none());
        let best =
            peers.into_iter().min_by_key(|peer| (peer.round_trip.is_none(), peer.round_trip, peer.peer));
        best.map(|peer| peer.peer).ok_or(P2pClientError::MissingPeer)
    }

    /// Does what a command says; for those who drive the client by a channel.
    ///
    /// # Errors
    /// As the method of the same name.
    pub async fn execute(&self, command: SdkCommand) -> Result<(), P2pClientError> {
        match command {
            SdkCommand::PublishCommitment(signed) => self.publish_commitment(*signed).await.map(drop),
            SdkCommand::PublishRawTxList(txlist) => self.publish_raw_txlist(txlist).await.map(drop),
            SdkCommand::PublishBlock { commitment, txlist } => {
                self.publish_block(*commitment, txlist).await.map(drop)
            }
            SdkCommand::L2Synced(base) => self.l2_synced(base).await,
            SdkCommand::UpdateHead(base) => self.update_head(base).await,
            SdkCommand::UpdateL1Head(l1_head) => self.update_l1_head(l1_head).await,
            SdkCommand::NotifyReorg { anchor } => self.notify_reorg(anchor).await.map(drop),
            SdkCommand::NotifyAnchorRestored { anchor } => self.notify_anchor_restored(anchor).await,
            SdkCommand::Shutdown => self.shutdown().await,
            other => Err(P2pClientError::UnknownCommand(Box::new(other))),
        }
    }

    /// Shuts the client down, for all handles, and returns when it has ended: no more commands are taken,
    /// open verdicts are settled, what the store was given is in it, the network is closed, no task is left.
    /// If the client had ended before by an error, that error is returned.
    ///
    /// # Errors
    /// The error that the client ended with.
    pub async fn shutdown(&self) -> Result<(), P2pClientError> {
        // A client that has ended takes no command; its end is read below.
        drop(self.commands.send(ServiceCommand::Shutdown).await);
        self.ended().await
    }

    /// Waits until the client has ended, by a shutdown or by an error.
    ///
    /// # Errors
    /// The error that the client ended with.
    pub async fn ended(&self) -> Result<(), P2pClientError> {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.ended.is_some()).await {
            Ok(state) => state.ended.clone().unwrap_or(Ok(())),
            Err(_) => Err(P2pClientError::Join("client")),
        }
    }

    /// The peers that can be asked now.
    #[must_use]
    pub fn ready_peers(&self) -> Vec<PeerId> {
        self.state.borrow().peers.clone()
    }

    pub(crate) const fn network(&self) -> &NetworkHandle {
        &self.requester.network
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
}

/// Whether what would be built on is the head, as far as can be known: live, or without peers and with nothing seen above.
pub(crate) fn knows_its_parent(status: &HeadSyncStatus) -> bool {
    match status {
        HeadSyncStatus::Live { .. } => true,
        HeadSyncStatus::Stalled { why: Stall::NoPeers, applied, target, .. } => target <= applied,
        _ => false,
    }
}

impl std::fmt::Debug for P2pClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("P2pClient")
            .field("peer", &self.local_peer_id())
            .field("head", &state.head)
            .field("status", &state.status)
            .finish_non_exhaustive()
    }
}
