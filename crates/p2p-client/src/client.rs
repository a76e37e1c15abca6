//! The handle that applications hold.

use std::sync::Arc;

use p2p_storage::{SdkStorage, StorageError, StoredCommitment};
use p2p_types::{
    B256, Base, BlockNumber, Bytes, Head, HeadSyncStatus, PeerId, PeerInfo, Recovered, SdkCommand, SdkEvent,
    SignedCommitment, Topic, TxList,
};
use p2p_validation::{Leniency, Lookahead, Rejection};
use preconfirmation_p2p::{Multiaddr, NetworkHandle, PeerStatus, PublishError, Published};
use preconfirmation_types::{Container, PreconfHead, RawTxListGossip};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;

use crate::{
    ClientCounts, P2pClientBuilder, P2pClientConfig, P2pClientError,
    chain::Judged,
    requests::{Asker, offence},
    service::Command,
};

/// What the network did with something that was published. It is stored in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// At least one peer is being sent it.
    Sent,
    /// The network knows the very same bytes already; nothing was sent.
    Duplicate,
    /// No peer is there to take it. Peers that come later find it by catching up.
    NoPeers,
}

/// A client of the preconfirmation network. Cloning gives another handle of the same client; it shuts down
/// when [`shutdown`](Self::shutdown) is called or the last handle is dropped.
#[derive(Clone)]
pub struct P2pClient {
    pub(crate) asker: Asker,
    pub(crate) storage: Arc<dyn SdkStorage>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Weak, so that subscriptions end with the service.
    pub(crate) events: broadcast::WeakSender<SdkEvent>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) tasks: TaskTracker,
}

/// What a handle can read without asking.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) head: Option<Head>,
    pub(crate) status: HeadSyncStatus,
    pub(crate) peers: Vec<PeerId>,
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

    /// The rules that are loosened here, none by default. Part of any honest status.
    #[must_use]
    pub fn leniencies(&self) -> Vec<Leniency> {
        self.asker.validator.leniencies().collect()
    }

    /// What this client has counted since it started.
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        self.asker.metrics.counts()
    }

    /// Events from now on. A reader that is slower than [`events`](crate::ClientQueues::events) allows loses
    /// the oldest and is told how many.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { events: self.events.upgrade().map(|events| events.subscribe()) }
    }

    /// The block of the chain at a height, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn block(&self, block: BlockNumber) -> Result<Option<StoredCommitment>, P2pClientError> {
        self.read(move |store| store.by_block(block)).await
    }

    /// A transaction list, from the store.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn txlist(&self, hash: B256) -> Result<Option<TxList>, P2pClientError> {
        self.read(move |store| store.get(&hash)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn SdkStorage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, P2pClientError> {
        let store = self.storage.clone();
        let done = spawn_blocking(move || read(store.as_ref())).await;
        Ok(done.map_err(|_| P2pClientError::Join("storage"))??)
    }

    /// The L2 execution has reached the on-chain tip (§6): what is at or below `base` is settled, and
    /// catching up may start above it. Call it again whenever the settled tip moves.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`], [`P2pClientError::Closed`].
    pub async fn l2_synced(&self, base: Base) -> Result<(), P2pClientError> {
        let (reply, done) = oneshot::channel();
        self.command(Command::SetBase { base, reply }).await?;
        Ok(done.await.map_err(|_| P2pClientError::Closed)??)
    }

    /// Publishes a block (§6): judged by the rules that peers apply, stored, shown to subscribers, then sent,
    /// the transaction list first and the commitment right after. Goes on if the caller gives up waiting.
    ///
    /// # Errors
    /// The rule that peers would refuse it for, before anything is stored or sent; after that
    /// [`P2pClientError::Publish`] if the network could not take it although there are peers.
    pub async fn publish_block(
        &self,
        signed: SignedCommitment,
        txlist: Bytes,
    ) -> Result<Sent, P2pClientError> {
        self.publish(signed, Some(txlist)).await
    }

    /// Publishes a commitment alone: a handover without a block, or a block whose transaction list was
    /// published before.
    ///
    /// # Errors
    /// As [`publish_block`](Self::publish_block).
    pub async fn publish_commitment(&self, signed: SignedCommitment) -> Result<Sent, P2pClientError> {
        self.publish(signed, None).await
    }

    async fn publish(&self, signed: SignedCommitment, txlist: Option<Bytes>) -> Result<Sent, P2pClientError> {
        let this = self.clone();
        let publishing = self.tasks.spawn(async move {
            let (validator, limit) = (this.asker.validator.clone(), this.asker.max_txlist_bytes);
            let wire = Bytes::from(signed.to_ssz());
            let prepare = spawn_blocking(move || {
                let commitment = validator.authenticate_signed(signed).map_err(invalid)?;
                let txlist = match (commitment.txlist_hash(), txlist) {
                    (Some(hash), Some(bytes)) => Some(TxList::verify(hash, bytes, limit)?),
                    (None, Some(_)) => return Err(P2pClientError::UnexpectedTxList),
                    (_, None) => None,
                };
                Ok((commitment, txlist))
            });
            let (commitment, txlist) = prepare.await.map_err(|_| P2pClientError::Join("publishing"))??;
            let gossip = txlist.clone().map(|txlist| Bytes::from(RawTxListGossip::from(txlist).to_ssz()));
            let (reply, judged) = oneshot::channel();
            this.command(Command::Publish { commitment: Box::new(commitment), txlist, reply }).await?;
            match judged.await.map_err(|_| P2pClientError::Closed)? {
                Judged::Stored | Judged::Known | Judged::Side => {}
                Judged::Deferred(missing) => return Err(P2pClientError::Deferred(missing)),
                Judged::Ignored(reason) => return Err(P2pClientError::Ignored(reason)),
                Judged::Rejected(rejection) => return Err(invalid(rejection)),
                Judged::Failed(error) => return Err(error.into()),
            }
            if let Some(gossip) = gossip {
                this.send(Topic::RawTxLists, gossip).await.map(drop)?;
            }
            this.send(Topic::Commitments, wire).await
        });
        publishing.await.map_err(|_| P2pClientError::Join("publishing"))?
    }

    /// Publishes a transaction list alone. It is stored and shown once a commitment names it.
    ///
    /// # Errors
    /// [`P2pClientError::TxList`] if it is too large, [`P2pClientError::Publish`].
    pub async fn publish_raw_txlist(&self, txlist: Bytes) -> Result<Sent, P2pClientError> {
        let limit = self.asker.max_txlist_bytes;
        let hashed = spawn_blocking(move || TxList::new(txlist, limit)).await;
        let txlist = hashed.map_err(|_| P2pClientError::Join("publishing"))??;
        self.command(Command::TxList(txlist.clone())).await?;
        self.send(Topic::RawTxLists, RawTxListGossip::from(txlist).to_ssz().into()).await
    }

    async fn send(&self, topic: Topic, ssz: Bytes) -> Result<Sent, P2pClientError> {
        match self.network().publish(topic, ssz).await {
            Ok(Published::Sent) => Ok(Sent::Sent),
            Ok(Published::Duplicate) => Ok(Sent::Duplicate),
            Err(PublishError::NoPeers) => Ok(Sent::NoPeers),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks a peer, or the best one, how far it has come. A claim, not a fact.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`].
    pub async fn request_head(&self, peer: Option<PeerId>) -> Result<(PeerId, PreconfHead), P2pClientError> {
        let peer = self.peer_or_best(peer).await?;
        Ok((peer, self.asker.head(peer).await?))
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
        let page = self.charge(peer, self.asker.page(peer, from, max_count).await)?;
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
        Ok((peer, self.charge(peer, self.asker.txlist(peer, hash).await)?))
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
            SdkCommand::Shutdown => self.shutdown().await,
            _ => Ok(()),
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
        drop(self.commands.send(Command::Shutdown).await);
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

    const fn network(&self) -> &NetworkHandle {
        &self.asker.network
    }

    async fn command(&self, command: Command) -> Result<(), P2pClientError> {
        self.commands.send(command).await.map_err(|_| P2pClientError::Closed)
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

fn invalid(rejection: Rejection) -> P2pClientError {
    P2pClientError::Invalid(Box::new(rejection))
}

/// A subscriber missed events because it read too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} events were missed")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// A stream of events.
#[derive(Debug)]
pub struct Subscription {
    events: Option<broadcast::Receiver<SdkEvent>>,
}

impl Subscription {
    /// The next event; `None` after the client has ended. Cancel-safe.
    ///
    /// # Errors
    /// [`Lagged`] says how many events are lost; the call after that goes on with the oldest one kept.
    pub async fn next_event(&mut self) -> Result<Option<SdkEvent>, Lagged> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        match events.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(Lagged { missed }),
        }
    }
}
