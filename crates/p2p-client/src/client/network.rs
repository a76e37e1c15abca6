//! [`NetworkApi`]: peers, addresses, and requests to single peers.

use std::sync::Arc;

use p2p_types::{B256, BlockNumber, PeerId, Recovered, TxList};
use preconfirmation_p2p::{Blocked, DuplicateIdentity, Multiaddr, NetworkQueues, PeerInfo, StaticPeerInfo};
use preconfirmation_types::PreconfHead;

use super::Inner;
use crate::{
    P2pClientError,
    requests::{is_relays_fault, offence},
};

/// The client's place in the network. See [`P2pClient::network`](crate::P2pClient::network). A clone is another handle
/// of the same client.
#[derive(Debug, Clone)]
pub struct NetworkApi {
    pub(super) client: Arc<Inner>,
}

/// What a peer answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerResponse<T> {
    /// The peer that answered.
    pub peer: PeerId,
    /// Its answer.
    pub data: T,
}

impl NetworkApi {
    /// The identity of this client on the network.
    #[must_use]
    pub fn local_peer_id(&self) -> PeerId {
        self.client.network().local_peer_id()
    }

    /// The addresses that this client listens on, each ending in `/p2p/<peer id>`.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, P2pClientError> {
        Ok(self.client.network().listen_addrs().await?)
    }

    /// The node record (ENR) of this client as text, which other nodes take as a bootnode. Waits until discovery
    /// runs; none where discovery is off.
    pub async fn local_enr(&self) -> Option<String> {
        if self.client.discovers { self.client.network().record_made().await } else { None }
    }

    /// Connects to a peer and returns when the connection is established.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if no connection could be made.
    pub async fn dial(&self, address: Multiaddr) -> Result<(), P2pClientError> {
        Ok(self.client.network().dial(address).await?)
    }

    /// Closes the connections to a peer, as soon as no request of either side is in flight on them. Whether it is connected.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn disconnect(&self, peer: PeerId) -> Result<bool, P2pClientError> {
        Ok(self.client.network().disconnect(peer).await?)
    }

    /// Refuses a peer or addresses until [`unblock`](Self::unblock) or the end of the process, and closes their connections.
    /// False if too many are refused already.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn block(&self, entry: Blocked) -> Result<bool, P2pClientError> {
        Ok(self.client.network().block(entry).await?)
    }

    /// Refuses them no more. Whether they were refused.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn unblock(&self, entry: Blocked) -> Result<bool, P2pClientError> {
        Ok(self.client.network().unblock(entry).await?)
    }

    /// What [`block`](Self::block) refuses.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn blocked(&self) -> Result<Vec<Blocked>, P2pClientError> {
        Ok(self.client.network().blocked().await?)
    }

    /// Lifts the ban that a peer has for its offences, and forgives them. Whether it was banned.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn unban(&self, peer: PeerId) -> Result<bool, P2pClientError> {
        Ok(self.client.network().unban(peer).await?)
    }

    /// Trusts a peer until [`unprotect`](Self::unprotect) or the end of the process: it is never pruned and never banned. False
    /// if too many are trusted already.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn protect(&self, peer: PeerId) -> Result<bool, P2pClientError> {
        Ok(self.client.network().protect(peer).await?)
    }

    /// Trusts a peer no more. Whether it was trusted.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn unprotect(&self, peer: PeerId) -> Result<bool, P2pClientError> {
        Ok(self.client.network().unprotect(peer).await?)
    }

    /// The connected peers, then the banned ones.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, P2pClientError> {
        Ok(self.client.network().peers().await?)
    }

    /// The static peers, whether they are connected or not.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn static_peers(&self) -> Result<Vec<StaticPeerInfo>, P2pClientError> {
        Ok(self.client.network().static_peers().await?)
    }

    /// How much waits in the network at the moment.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn queues(&self) -> Result<NetworkQueues, P2pClientError> {
        Ok(self.client.network().queues().await?)
    }

    /// The records (ENR) of the nodes in the routing table of discovery, as text; none where discovery is off, or does not run
    /// at the moment.
    ///
    /// # Errors
    /// [`P2pClientError::Network`] if the network has ended.
    pub async fn discovery_table(&self) -> Result<Option<Vec<String>>, P2pClientError> {
        Ok(self.client.network().discovery_table().await?)
    }

    /// The connected peers that speak the protocols of this chain and can be asked.
    #[must_use]
    pub fn ready_peers(&self) -> Vec<PeerId> {
        self.client.state.borrow().peers.clone()
    }

    /// Waits until at least this many peers are [ready](Self::ready_peers).
    ///
    /// # Errors
    /// [`P2pClientError::Closed`] if the client ends before.
    pub async fn wait_for_peers(&self, peers: usize) -> Result<(), P2pClientError> {
        self.client.wait_for(|state| state.peers.len() >= peers).await
    }

    /// Waits for a first [ready](Self::ready_peers) peer, at most
    /// [`bootstrap_timeout`](crate::P2pClientConfig::bootstrap_timeout). Dialling goes on after that.
    ///
    /// # Errors
    /// [`P2pClientError::BootstrapTimeout`]; [`P2pClientError::Closed`] if the client ends before.
    pub async fn wait_for_bootstrap(&self) -> Result<(), P2pClientError> {
        let limit = self.client.bootstrap_timeout;
        let late = P2pClientError::BootstrapTimeout { limit };
        tokio::time::timeout(limit, self.wait_for_peers(1)).await.unwrap_or(Err(late))
    }

    /// Whether this node suspects its own lookahead, clock or slasher: several peers have signed within a minute what these
    /// do not expect, and no commitment has passed since. Meanwhile no peer is charged for that.
    #[must_use]
    pub fn suspects_itself(&self) -> bool {
        self.client.network().suspects_itself()
    }

    /// The last sign, since the start, that another node uses this node's network key; none if there was none.
    #[must_use]
    pub fn duplicate_identity(&self) -> Option<DuplicateIdentity> {
        self.client.network().duplicate_identity()
    }

    /// Asks a peer for its head; without a peer, the one with the shortest round trip. The answer is a claim, not a fact.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`].
    pub async fn request_head(
        &self,
        peer: Option<PeerId>,
    ) -> Result<PeerResponse<PreconfHead>, P2pClientError> {
        let peer = self.peer_or_nearest(peer).await?;
        Ok(PeerResponse { peer, data: self.client.requester.head(peer).await? })
    }

    /// Asks a peer for at most `max_count` commitments from height `from` on; without a peer, the one with the shortest
    /// round trip. Signatures are checked; whether the signers were elected and the parents are known is not.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`], [`P2pClientError::InvalidAnswer`].
    pub async fn request_commitments(
        &self,
        peer: Option<PeerId>,
        from: BlockNumber,
        max_count: u32,
    ) -> Result<PeerResponse<Vec<Recovered>>, P2pClientError> {
        let peer = self.peer_or_nearest(peer).await?;
        let (page, rejection) = self.client.requester.page(peer, from, max_count).await?;
        if let Some(rejection) = rejection.filter(is_relays_fault) {
            return Err(P2pClientError::InvalidAnswer { peer, rejection: Box::new(rejection) });
        }
        let data = page.into_iter().map(|commitment| commitment.recovered().clone()).collect();
        Ok(PeerResponse { peer, data })
    }

    /// Asks a peer for a transaction list; without a peer, the one with the shortest round trip. None if the peer does
    /// not have it.
    ///
    /// # Errors
    /// [`P2pClientError::MissingPeer`], [`P2pClientError::Request`], [`P2pClientError::InvalidTxList`].
    pub async fn request_raw_txlist(
        &self,
        peer: Option<PeerId>,
        hash: B256,
    ) -> Result<PeerResponse<Option<TxList>>, P2pClientError> {
        let peer = self.peer_or_nearest(peer).await?;
        let answer = self.client.requester.txlist(peer, hash).await;
        if let Some(offence) = answer.as_ref().err().and_then(offence) {
            self.client.network().report(peer, offence);
        }
        Ok(PeerResponse { peer, data: answer? })
    }

    /// The peer named, or the one with the shortest round trip among those that can be asked.
    async fn peer_or_nearest(&self, peer: Option<PeerId>) -> Result<PeerId, P2pClientError> {
        if let Some(peer) = peer {
            return Ok(peer);
        }
        let mut peers = self.client.network().peers().await?;
        peers.retain(|peer| peer.ready && peer.banned_for.is_none());
        let nearest =
            peers.into_iter().min_by_key(|peer| (peer.round_trip.is_none(), peer.round_trip, peer.peer));
        nearest.map(|peer| peer.peer).ok_or(P2pClientError::MissingPeer)
    }
}
