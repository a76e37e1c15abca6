//! What the operator orders at run time: whom to disconnect, to refuse, to trust.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::NetworkService;
use crate::handle::Order;

/// How long a peer that is to leave may have requests in flight before its connections are closed all the same: longer than a
/// request may take.
const LEAVING: Duration = Duration::from_secs(10);

impl NetworkService {
    pub(super) fn order(&mut self, order: Order, now: Instant) -> bool {
        match order {
            Order::Disconnect(peer) => self.leave([peer], now),
            Order::Block(entry) => {
                let blocked = self.swarm.behaviour_mut().limits.blocked.block(entry);
                if blocked {
                    tracing::info!(?entry, "blocked by the operator");
                    let connected = self.swarm.behaviour().limits.connected(&entry);
                    self.leave(connected, now);
                }
                blocked
            }
            Order::Unblock(entry) => {
                let unblocked = self.swarm.behaviour_mut().limits.blocked.unblock(&entry);
                if unblocked {
                    tracing::info!(?entry, "unblocked by the operator");
                    for peer in self.swarm.behaviour().limits.connected(&entry) {
                        self.leaving.remove(&peer);
                    }
                }
                unblocked
            }
            Order::Protect(peer) => {
                let trusted = self.peers.trust(peer);
                if trusted {
                    self.swarm.behaviour_mut().limits.protect(peer);
                    self.reserve_places();
                }
                trusted
            }
            Order::Unprotect(peer) => {
                let trusted = self.peers.distrust(&peer);
                if !self.peers.is_protected(&peer) {
                    self.swarm.behaviour_mut().limits.unprotect(&peer);
                    self.reserve_places();
                }
                trusted
            }
        }
    }

    /// Disconnects peers as soon as that fails no request, or after some time. Whether one of them is connected.
    fn leave(&mut self, peers: impl IntoIterator<Item = PeerId>, now: Instant) -> bool {
        let connected: Vec<_> = peers.into_iter().filter(|peer| self.peers.is_connected(peer)).collect();
        for peer in &connected {
            self.leaving.entry(*peer).or_insert(now + LEAVING);
        }
        self.disconnect_leaving(now);
        !connected.is_empty()
    }

    /// Closes the connections of those who are to leave, where no request is in flight or their time is over.
    pub(super) fn disconnect_leaving(&mut self, now: Instant) {
        let (peers, swarm) = (&self.peers, &mut self.swarm);
        self.leaving.retain(|peer, until| {
            let is_connected = peers.is_connected(peer);
            if is_connected && (peers.is_quiet(peer, now) || now >= *until) {
                // It is connected, so it can be disconnected.
                return swarm.disconnect_peer_id(*peer).is_err();
            }
            is_connected
        });
    }
}
