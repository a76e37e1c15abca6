//! Dials of static peers, of known peers, and of what the application asks for.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::NetworkService;
use crate::{
    error::NetworkError,
    ip::{peer_of, without_peer},
    metrics,
    peer_manager::{AddressSource, DialCandidate, StaticPeerId},
};

/// Dials under way.
#[derive(Default)]
pub(super) struct Dials {
    /// At most `connections.max_pending` and as many as there are static peers.
    pending: HashMap<ConnectionId, Dial>,
    /// Who answered last at the address of a static peer with another key; at most as many as there are of these.
    other_keys: HashMap<Multiaddr, PeerId>,
}

impl Dials {
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }
}

/// A dial under way.
struct Dial {
    source: AddressSource,
    peer: Option<PeerId>,
    address: Multiaddr,
    static_peer: Option<StaticPeerId>,
    reply: Option<oneshot::Sender<Result<(), NetworkError>>>,
}

impl NetworkService {
    /// Dials the static peers that are due.
    pub(super) fn dial_static(&mut self, now: Instant) {
        while let Some((id, dial)) = self.peers.static_peers.next_dial(now) {
            let Some(address) = dial.addresses.first().cloned() else { continue };
            let options = match dial.peer {
                // A second connection does no harm, a dial left out would end nothing.
                Some(peer) => {
                    DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(dial.addresses).build()
                }
                None => DialOpts::unknown_peer_id().address(address.clone()).build(),
            };
            let (source, static_peer) = (AddressSource::Static, Some(id));
            self.start_dial(options, Dial { source, peer: dial.peer, address, static_peer, reply: None });
        }
    }

    /// Dials an address that is said to be this node's. If it is, both ends of the connection are seen here.
    pub(super) fn dial_own_address(&mut self, address: Multiaddr) {
        let options = DialOpts::unknown_peer_id().address(without_peer(address.clone())).build();
        let source = AddressSource::Static;
        self.start_dial(options, Dial { source, peer: None, address, static_peer: None, reply: None });
    }

    /// Dials what the application asks for.
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        let peer = peer_of(&address);
        if peer.is_some_and(|peer| self.swarm.is_connected(&peer)) {
            drop(reply.send(Ok(())));
            return;
        }
        let options = DialOpts::from(address.clone());
        let (source, reply) = (AddressSource::Application, Some(reply));
        self.start_dial(options, Dial { source, peer, address, static_peer: None, reply });
    }

    fn start_dial(&mut self, options: DialOpts, dial: Dial) {
        let connection = options.connection_id();
        self.dials.pending.insert(connection, dial);
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(connection, error);
        }
    }

    pub(super) fn dial_failed(&mut self, connection: ConnectionId, error: DialError) {
        let Some(dial) = self.dials.pending.remove(&connection) else {
            return;
        };
        let Dial { source, peer, address, static_peer, reply } = dial;
        metrics::dialled(source.label(), outcome(&error));
        tracing::debug!(?peer, %address, source = source.label(), %error, "dial failed");
        let now = Instant::now();
        // The stack does not dial what this node listens on.
        if matches!(error, DialError::LocalPeerId { .. } | DialError::NoAddresses) {
            self.on_local_peer(static_peer, &address);
        }
        if let (Some(_), DialError::WrongPeerId { obtained, address }) = (static_peer, &error) {
            self.on_other_key(peer, *obtained, address);
        }
        match (peer, &error) {
            (Some(peer), DialError::Transport(_) | DialError::WrongPeerId { .. }) => {
                self.peers.on_dial_failed(&peer, now);
            }
            (Some(peer), _) => self.peers.postpone_dial(&peer, now),
            (None, _) => {}
        }
        if let Some(id) = static_peer
            && self.peers.static_peers.on_dial_failed(id, &error, now)
        {
            tracing::warn!(%address, %error, "static peer cannot be reached: it is dialled until it can");
        }
        if let Some(reply) = reply {
            let source = error.into();
            drop(reply.send(Err(NetworkError::Dial { address, source })));
        }
    }

    /// A connection stands, whoever made it.
    pub(super) fn dial_succeeded(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(Dial { source, static_peer, reply, address, .. }) = self.dials.pending.remove(&connection)
        {
            metrics::dialled(source.label(), "connected");
            if let Some(id) = static_peer {
                if let Some(before) = self.peers.static_peers.on_dialled(id, peer) {
                    self.on_other_key(Some(before), peer, &address);
                }
                self.swarm.behaviour_mut().limits.protect(peer);
            }
            if let Some(reply) = reply {
                drop(reply.send(Ok(())));
            }
        }
    }

    /// Where a static peer should be is this node itself, or another one with its key.
    fn on_local_peer(&mut self, static_peer: Option<StaticPeerId>, address: &Multiaddr) {
        if let Some(id) = static_peer {
            self.peers.static_peers.on_local_peer(id);
            tracing::warn!(%address, "a static peer is this node itself and is not dialled again");
        }
    }

    /// Somebody answers at the address of a static peer with another key than before, or than configured. Logged once
    /// for each key.
    fn on_other_key(&mut self, expected: Option<PeerId>, found: PeerId, address: &Multiaddr) {
        if self.dials.other_keys.insert(address.clone(), found) == Some(found) {
            return;
        }
        let expected = expected.map(tracing::field::display);
        tracing::warn!(%address, expected, %found, "a static peer answers with another key");
    }

    /// Dials known peers while there are too few, and lets discovery look for more.
    pub(super) fn dial_known(&mut self, now: Instant) {
        let pending = self.dials.pending.values().filter(|dial| dial.static_peer.is_none()).count();
        let missing = self.peers.missing_peers();
        self.discovery.want(missing > 0);
        let room = self.config.peers.dials.get().saturating_sub(pending);
        let count = missing.saturating_sub(pending).min(room);
        if count == 0 {
            return;
        }
        let dialled = self.dials.pending.values().map(|dial| &dial.address);
        let peers: HashSet<_> = self.dials.pending.values().filter_map(|dial| dial.peer).collect();
        let skip = |peer: &PeerId| *peer == self.local || peers.contains(peer);
        for DialCandidate { peer, addresses, source } in self.peers.dial_candidates(count, dialled, skip, now)
        {
            let Some(address) = addresses.first().cloned() else { continue };
            let options = DialOpts::peer_id(peer).addresses(addresses).build();
            self.start_dial(
                options,
                Dial { source, peer: Some(peer), address, static_peer: None, reply: None },
            );
        }
    }
}

/// A short label of what became of a dial.
fn outcome(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "self",
        DialError::NoAddresses => "no_address",
        DialError::DialPeerConditionFalse(_) => "already",
        DialError::Aborted => "aborted",
        DialError::WrongPeerId { .. } => "wrong_peer",
        DialError::Denied { .. } => "denied",
        DialError::Transport(_) => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::{Network, NetworkConfig};

    #[tokio::test]
    async fn as_many_known_peers_are_dialled_at_a_time_as_are_set() {
        let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
        (config.peers.low, config.peers.dials) = (9, 3.try_into().unwrap());
        let (_handle, _events, mut service) = Network::new(config).unwrap();
        let (now, source) = (Instant::now(), AddressSource::Discovery);
        for port in 1..=9 {
            let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
            assert!(service.peers.on_discovered(PeerId::random(), [address], None, source, now));
        }
        // Nothing polls the swarm, so they stay under way.
        service.dial_known(now);
        assert_eq!(service.dials.pending.len(), 3);
        service.dial_known(now);
        assert_eq!(service.dials.pending.len(), 3);
    }
}
