//! What the application asks of the network.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId};
use preconfirmation_types::{Bytes, Offence, Topic, rate_limit::RateLimit};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    duplicate_identity::DuplicateIdentity,
    error::{NetworkError, PublishError, RequestError},
    metrics,
    operator::Blocked,
    rpc::{OutboundRequest, Outgoing, Protocol},
};

/// What became of a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// It is in the send queue of at least one peer.
    Sent {
        /// The peers that it was addressed to. One whose send queue is full misses it.
        peers: usize,
    },
    /// No peer could take it: none subscribes to the topic, or the send queues of all are full. It is kept
    /// and sent once as soon as a peer can, unless it is stale by then (`gossip.publish_queue`).
    Queued,
    /// The same bytes were published or received before, within the time of the duplicate cache, or are kept
    /// already until a peer can take them; nothing was done.
    Duplicate,
}

/// A peer: connected, or banned.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who it is.
    pub peer: PeerId,
    /// The addresses of its connections, oldest first, or the one of its last connection if it is banned.
    pub addresses: Vec<Multiaddr>,
    /// What it calls itself, once it has identified. Text from an untrusted peer.
    pub agent: Option<String>,
    /// Whether it opened its oldest connection.
    pub inbound: bool,
    /// The protocols that it says it speaks. Text from an untrusted peer.
    pub protocols: Vec<String>,
    /// The topics of this chain that it subscribes to.
    pub topics: Vec<Topic>,
    /// The last ping.
    pub round_trip: Option<Duration>,
    /// How much it answers on each protocol, as its operator or its agent string says; where neither does, it is asked
    /// as the deployed peers are.
    pub rate_limit: Option<RateLimit>,
    /// gossipsub's total, the application score included: what the thresholds are compared with (§7.1).
    pub score: f64,
    /// The application's part of it; the rest is what gossipsub counts.
    pub application_score: f64,
    /// Whether it is static or trusted: never pruned, never banned.
    pub protected: bool,
    /// Whether [`NetworkEvent::PeerConnected`](crate::NetworkEvent::PeerConnected) holds for it.
    pub ready: bool,
    /// Since its oldest connection was made; zero if it is not connected.
    pub connected_for: Duration,
    /// How long it will still be refused, if it is banned.
    pub banned_for: Option<Duration>,
}

/// A static peer, connected or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StaticPeerInfo {
    /// Who it is; none while nobody has answered at an address without a peer id.
    pub peer: Option<PeerId>,
    /// Where it is dialled.
    pub addresses: Vec<Multiaddr>,
    /// Whether it is connected, and what is done about it if not.
    pub state: StaticPeerState,
    /// Since it was connected, or lost, or first dialled.
    pub connected_or_lost_for: Duration,
    /// Times that it has been lost or not reached since it was connected last.
    pub attempts: u32,
    /// Why the last dial failed; none while it is connected.
    pub last_error: Option<String>,
}

/// What becomes of a static peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StaticPeerState {
    /// It is connected.
    Connected,
    /// It is being dialled.
    Dialling,
    /// It is dialled again in a while.
    Waiting,
    /// It is this node itself, and is not dialled.
    Local,
}

/// How much waits in a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkQueues {
    /// Messages of this node that no peer could take yet.
    pub publish_queue: usize,
    /// Messages of peers on which the application has not decided.
    pub open_verdicts: usize,
    /// Requests of this node that wait for what a peer allows.
    pub pacing: usize,
    /// Requests of peers that wait for the application.
    pub inbound_requests: usize,
    /// Answers that wait for the limit on bytes.
    pub answers: usize,
}

pub(crate) enum Command {
    Publish {
        topic: Topic,
        ssz: Bytes,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Request(Outgoing),
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    Unban {
        peer: PeerId,
        reply: oneshot::Sender<bool>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Operator {
        order: Order,
        reply: oneshot::Sender<bool>,
    },
    Blocked {
        reply: oneshot::Sender<Vec<Blocked>>,
    },
    StaticPeers {
        reply: oneshot::Sender<Vec<StaticPeerInfo>>,
    },
    Queues {
        reply: oneshot::Sender<NetworkQueues>,
    },
    /// None where discovery is off, or does not run at the moment.
    DiscoveryTable {
        reply: oneshot::Sender<Option<Vec<String>>>,
    },
}

/// What an operator orders beside what is configured. The reply says whether it applies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Disconnect(PeerId),
    Block(Blocked),
    Unblock(Blocked),
    Protect(PeerId),
    Unprotect(PeerId),
}

/// A handle of the network. Cheap to clone; the network ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct NetworkHandle {
    pub(crate) local: PeerId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) reports: mpsc::Sender<(PeerId, Offence)>,
    pub(crate) listening: watch::Receiver<Option<Vec<Multiaddr>>>,
    pub(crate) record: watch::Receiver<Option<String>>,
    pub(crate) suspected: watch::Receiver<bool>,
    pub(crate) duplicate: watch::Receiver<Option<DuplicateIdentity>>,
    pub(crate) shutdown: Arc<Notify>,
}

impl NetworkHandle {
    /// Who this node is.
    #[must_use]
    pub const fn local_peer_id(&self) -> PeerId {
        self.local
    }

    /// The addresses that this node listens on, as soon as every configured listener has one. Each ends in
    /// `/p2p/<peer id>`, ready to be another node's static peer. Needs a running service.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, NetworkError> {
        let mut listening = self.listening.clone();
        let addresses = listening.wait_for(Option::is_some).await.map_err(|_| NetworkError::Closed)?;
        Ok(addresses.clone().unwrap_or_default())
    }

    /// The node's record (ENR) as text, once discovery runs; what others take as a bootnode.
    #[must_use]
    pub fn record(&self) -> Option<String> {
        self.record.borrow().clone()
    }

    /// As [`record`](Self::record), but waits until discovery runs; none where it never will.
    pub async fn record_made(&self) -> Option<String> {
        let mut record = self.record.clone();
        record.wait_for(Option::is_some).await.ok().and_then(|record| record.clone())
    }

    /// Whether this node suspects its own lookahead, clock or configuration: several peers have signed within a minute
    /// what it does not expect, and no commitment has passed since. While it does, nobody is charged for that.
    #[must_use]
    pub fn suspects_itself(&self) -> bool {
        *self.suspected.borrow()
    }

    /// The last sign that another node uses this node's identity key, since the start; none if there was none.
    #[must_use]
    pub fn duplicate_identity(&self) -> Option<DuplicateIdentity> {
        *self.duplicate.borrow()
    }

    /// Publishes a message (§6) and returns when it is in the send queues of peers, or is kept for the first
    /// peer to come. The bytes are checked first: what every peer would punish is not sent.
    ///
    /// # Errors
    /// [`PublishError`] tells why it was neither sent nor kept.
    pub async fn publish(&self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        let (reply, published) = oneshot::channel();
        self.command(Command::Publish { topic, ssz, reply }).await.map_err(|()| PublishError::Closed)?;
        published.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Asks a connected peer (§10, §11). Waits until the peer's rate limit allows it, then for the answer, at most
    /// `pacing.timeout` from then on. The answer is within its size cap, well formed and answers this
    /// request as far as the two alone can tell; a peer that gives another one is charged here. Dropping
    /// the future before the request is sent takes it back; later it is let run, and its answer goes nowhere.
    ///
    /// # Errors
    /// [`RequestError`] tells why there is no answer.
    pub async fn request<R: Protocol>(
        &self,
        peer: PeerId,
        request: R::Request,
    ) -> Result<R::Response, RequestError> {
        let (reply, response) = oneshot::channel();
        let request = OutboundRequest { peer, request, reply };
        self.command(Command::Request(R::outgoing(request))).await.map_err(|()| RequestError::Closed)?;
        response.await.unwrap_or(Err(RequestError::Closed))
    }

    /// Charges a peer with an offence that the application found (§7.1). Never blocks; when too many reports
    /// wait, this one is dropped and counted. An offence in a gossip message belongs in its verdict instead.
    pub fn report(&self, peer: PeerId, offence: Offence) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.reports.try_send((peer, offence)) {
            metrics::dropped("reports");
        }
    }

    /// Connects to an address and returns when the connection stands, encrypted and authenticated. An
    /// address that ends in the `/p2p/<id>` of a connected peer is already reached.
    ///
    /// # Errors
    /// [`NetworkError::Dial`] or [`NetworkError::Closed`].
    pub async fn dial(&self, addr: Multiaddr) -> Result<(), NetworkError> {
        let (reply, dialled) = oneshot::channel();
        self.command(Command::Dial { address: addr, reply }).await.map_err(|()| NetworkError::Closed)?;
        dialled.await.unwrap_or(Err(NetworkError::Closed))
    }

    /// Lifts the ban of a peer (§7.1) and sets its application score to zero, so that it is not banned again
    /// for the same. Whether it was banned.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn unban(&self, peer: PeerId) -> Result<bool, NetworkError> {
        let (reply, unbanned) = oneshot::channel();
        self.command(Command::Unban { peer, reply }).await.map_err(|()| NetworkError::Closed)?;
        unbanned.await.map_err(|_| NetworkError::Closed)
    }

    /// Closes the connections to a peer, as soon as no request of either side is in flight on them, and after 10 s in any case.
    /// Whether it is connected. A static peer is dialled again; [`block`](Self::block) keeps a peer away.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<bool, NetworkError> {
        self.order(Order::Disconnect(peer)).await
    }

    /// Refuses connections from and to a peer or addresses, static and trusted peers included, until
    /// [`unblock`](Self::unblock) or the end of the process, and closes those that there are, as
    /// [`disconnect`](Self::disconnect) does. False if the list of what is refused is full (4,096 entries).
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn block(&self, entry: Blocked) -> Result<bool, NetworkError> {
        self.order(Order::Block(entry)).await
    }

    /// Takes an entry off the list of what is refused. Whether it was on it. A ban is lifted by [`unban`](Self::unban).
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn unblock(&self, entry: Blocked) -> Result<bool, NetworkError> {
        self.order(Order::Unblock(entry)).await
    }

    /// The list of what is refused.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn blocked(&self) -> Result<Vec<Blocked>, NetworkError> {
        let (reply, blocked) = oneshot::channel();
        self.command(Command::Blocked { reply }).await.map_err(|()| NetworkError::Closed)?;
        blocked.await.map_err(|_| NetworkError::Closed)
    }

    /// Trusts a peer until [`unprotect`](Self::unprotect) or the end of the process: it is never pruned and never banned.
    /// False if too many are trusted (4,096).
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn protect(&self, peer: PeerId) -> Result<bool, NetworkError> {
        self.order(Order::Protect(peer)).await
    }

    /// Trusts a peer no more, whether by [`protect`](Self::protect) or by the configuration. Whether it was trusted; a static
    /// peer stays protected.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn unprotect(&self, peer: PeerId) -> Result<bool, NetworkError> {
        self.order(Order::Unprotect(peer)).await
    }

    async fn order(&self, order: Order) -> Result<bool, NetworkError> {
        let (reply, done) = oneshot::channel();
        self.command(Command::Operator { order, reply }).await.map_err(|()| NetworkError::Closed)?;
        done.await.map_err(|_| NetworkError::Closed)
    }

    /// All connected peers, then all banned ones.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NetworkError> {
        let (reply, peers) = oneshot::channel();
        self.command(Command::Peers { reply }).await.map_err(|()| NetworkError::Closed)?;
        peers.await.map_err(|_| NetworkError::Closed)
    }

    /// The static peers, whether they are connected or not.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn static_peers(&self) -> Result<Vec<StaticPeerInfo>, NetworkError> {
        let (reply, peers) = oneshot::channel();
        self.command(Command::StaticPeers { reply }).await.map_err(|()| NetworkError::Closed)?;
        peers.await.map_err(|_| NetworkError::Closed)
    }

    /// How much waits in the network at the moment.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn queues(&self) -> Result<NetworkQueues, NetworkError> {
        let (reply, queues) = oneshot::channel();
        self.command(Command::Queues { reply }).await.map_err(|()| NetworkError::Closed)?;
        queues.await.map_err(|_| NetworkError::Closed)
    }

    /// The records (ENR) of the nodes in the routing table of discovery, as text; none where discovery is off, or does not run
    /// at the moment.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn discovery_table(&self) -> Result<Option<Vec<String>>, NetworkError> {
        let (reply, table) = oneshot::channel();
        self.command(Command::DiscoveryTable { reply }).await.map_err(|()| NetworkError::Closed)?;
        // Whoever was to answer may have ended meanwhile; the network goes on without it.
        Ok(table.await.unwrap_or_default())
    }

    /// Ends the service: [`NetworkService::run`](crate::NetworkService::run) returns once it has said goodbye to its
    /// peers: requests of theirs are answered, those of ours that were sent are waited for, at most 10 s. What was not
    /// sent is answered with `Closed`.
    pub fn shutdown(&self) {
        self.shutdown.notify_one();
    }

    async fn command(&self, command: Command) -> Result<(), ()> {
        self.commands.send(command).await.map_err(drop)
    }
}
