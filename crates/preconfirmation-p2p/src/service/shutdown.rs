//! The end of the service: requests of either side end, and with them their connections, in an orderly way.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use preconfirmation_types::{GetCommitmentsByNumber, GetHead, GetRawTxList, Rpc as _};

use super::{NetworkService, requests::by_protocol, unix_now};
use crate::{behaviour::BehaviourEvent, config::after, error::RequestError, peer_manager::Connection};

/// How long requests of either side may take to end when the service ends: as long as a deployed peer waits for an
/// answer. Those of ours end when they are answered, those of peers are answered at once.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long the connections may take to close once nothing is in flight on them.
const CLOSE: Duration = Duration::from_millis(500);

/// Between two looks at who may be left, at the end.
const GOODBYE_STEP: Duration = Duration::from_millis(50);

impl NetworkService {
    /// The end of all requests: those of peers are answered at once, and so are those that still come; ours are waited
    /// for. A connection is closed when nothing has been asked on it for a moment, and all of them after [`GOODBYE`].
    pub(super) async fn say_goodbye(&mut self) {
        self.requests.closing = true;
        let peers: Vec<_> = self.peers.connected().map(|(peer, _)| *peer).collect();
        for peer in &peers {
            for outgoing in self.requests.queue.remove(peer) {
                outgoing.fail(RequestError::Closed);
            }
        }
        let open = self.requests.inbound.drain().into_iter();
        for key in open.chain(std::mem::take(&mut self.requests.excess)).collect::<Vec<_>>() {
            by_protocol!(key, |id| self.fall_back(id, "closing"));
        }
        let mut step = tokio::time::interval(GOODBYE_STEP);
        let mut end = after(Instant::now(), GOODBYE);
        let mut left = HashSet::new();
        loop {
            let now = Instant::now();
            let mut peers: Vec<_> = self.swarm.connected_peers().copied().collect();
            if peers.is_empty() || now >= end {
                break;
            }
            peers.retain(|peer| !left.contains(peer));
            for peer in &peers {
                if self.peers.is_quiet(peer, now) {
                    left.insert(*peer);
                    // It is connected, so it can be disconnected.
                    let _connected = self.swarm.disconnect_peer_id(*peer).is_ok();
                }
            }
            if peers.iter().all(|peer| left.contains(peer)) {
                end = end.min(after(now, CLOSE));
            }
            tokio::select! {
                event = self.swarm.select_next_some() => self.goodbye_event(event),
                _ = step.tick() => {}
            }
        }
    }

    /// At the end only requests count, and the connections on which they come.
    fn goodbye_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Head(event)) => self.rpc_event::<GetHead>(event),
            SwarmEvent::Behaviour(BehaviourEvent::Commitments(event)) => {
                self.rpc_event::<GetCommitmentsByNumber>(event)
            }
            SwarmEvent::Behaviour(BehaviourEvent::Txlist(event)) => self.rpc_event::<GetRawTxList>(event),
            SwarmEvent::ConnectionEstablished { peer_id: peer, connection_id: id, endpoint, .. } => {
                let (now, address) = (Instant::now(), endpoint.get_remote_address().clone());
                self.peers.on_connected(
                    peer,
                    Connection { id, address, inbound: endpoint.is_listener() },
                    now,
                );
                // Whoever has just connected may be about to ask.
                self.on_request_began(&peer, now);
                self.on_request_ended(&peer, now);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                let _last = self.peers.on_disconnected(&peer_id, connection_id, unix_now(), Instant::now());
            }
            _ => {}
        }
    }
}
