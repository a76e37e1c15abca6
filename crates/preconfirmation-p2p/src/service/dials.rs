//! Dials: of static peers, of known ones, and of what the application asks for.

use std::{collections::HashSet, time::Instant};

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
    metrics,
    peer_book::{Crowd, Source, bare},
    redial::{Target, peer_of},
};

/// A dial under way.
pub(super) struct Dialling {
    source: Source,
    peer: Option<PeerId>,
    address: Multiaddr,
    target: Option<Target>,
    reply: Option<oneshot::Sender<Result<(), NetworkError>>>,
}

impl NetworkService {
    /// Dials the static peers that are due.
    pub(super) fn dial_static(&mut self, now: Instant) {
        while let Some((target, dial)) = self.keeping.redial.due(now) {
            let Some(address) = dial.addresses.first().cloned() else { continue };
            let options = match dial.peer {
                // A second connection does no harm, a dial left out would end nothing.
                Some(peer) => {
                    DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(dial.addresses).build()
                }
                None => DialOpts::unknown_peer_id().address(address.clone()).build(),
            };
            let (source, target) = (Source::Static, Some(target));
            self.start_dial(options, Dialling { source, peer: dial.peer, address, target, reply: None });
        }
    }

    /// Dials an address that is said to be this node's. If it is, both ends of the connection are seen here.
    pub(super) fn dial_own_name(&mut self, address: Multiaddr) {
        let options = DialOpts::unknown_peer_id().address(bare(address.clone())).build();
        let source = Source::Static;
        self.start_dial(options, Dialling { source, peer: None, address, target: None, reply: None });
    }

    /// Dials what the application asks for.
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        let peer = peer_of(&address);
        if peer.is_some_and(|peer| self.swarm.is_connected(&peer)) {
            drop(reply.send(Ok(())));
            return;
        }
        let options = DialOpts::from(address.clone());
        let source = Source::Application;
        self.start_dial(options, Dialling { source, peer, address, target: None, reply: Some(reply) });
    }

    fn start_dial(&mut self, options: DialOpts, dialling: Dialling) {
        let connection = options.connection_id();
        self.keeping.dialling.insert(connection, dialling);
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(connection, error);
        }
    }

    pub(super) fn dial_failed(&mut self, connection: ConnectionId, error: DialError) {
        let Some(dialling) = self.keeping.dialling.remove(&connection) else {
            return;
        };
        let Dialling { source, peer, address, target, reply } = dialling;
        metrics::dialled(source, outcome(&error));
        tracing::debug!(?peer, %address, source = source.label(), %error, "dial failed");
        let now = Instant::now();
        // The stack does not dial what this node listens on.
        if matches!(error, DialError::LocalPeerId { .. } | DialError::NoAddresses) {
            self.met_ourselves(target, &address);
        }
        if let (Some(_), DialError::WrongPeerId { obtained, address }) = (target, &error) {
            self.another_key(peer, *obtained, address);
        }
        match (peer, &error) {
            (Some(peer), DialError::Transport(_) | DialError::WrongPeerId { .. }) => {
                self.keeping.book.failed(&peer, now);
            }
            (Some(peer), _) => self.keeping.book.postpone(&peer, now),
            (None, _) => {}
        }
        if let Some(target) = target
            && self.keeping.redial.failed(target, now)
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
        if let Some(Dialling { source, target, reply, address, .. }) =
            self.keeping.dialling.remove(&connection)
        {
            metrics::dialled(source, "connected");
            if let Some(target) = target {
                if let Some(before) = self.keeping.redial.reached(target, peer) {
                    self.another_key(Some(before), peer, &address);
                }
                self.swarm.behaviour_mut().limits.protect(peer);
            }
            if let Some(reply) = reply {
                drop(reply.send(Ok(())));
            }
        }
        self.keeping.redial.connected(&peer);
    }

    /// Where a static peer should be is this node itself, or another one with its key.
    fn met_ourselves(&mut self, target: Option<Target>, address: &Multiaddr) {
        if let Some(target) = target {
            self.keeping.redial.reached_ourselves(target);
            tracing::warn!(%address, "a static peer is this node itself: it is not dialled again");
        }
    }

    /// Somebody answers at the address of a static peer with another key than before, or than configured. Said once
    /// for each key.
    fn another_key(&mut self, expected: Option<PeerId>, found: PeerId, address: &Multiaddr) {
        if self.keeping.other_keys.insert(address.clone(), found) == Some(found) {
            return;
        }
        let expected = expected.map(tracing::field::display);
        tracing::warn!(%address, expected, %found, "a static peer answers with another key");
    }

    /// Dials peers of the book while there are too few, and lets discovery look for more.
    pub(super) fn dial_known(&mut self, now: Instant) {
        let config = self.config.peers;
        let useful = || self.peers.values().filter(|peer| !peer.is_foreign());
        let outbound = useful().filter(|peer| peer.is_outbound()).count();
        let under_way = self.keeping.dialling.values().filter(|dialling| dialling.target.is_none()).count();
        let missing = config.missing(useful().count(), outbound);
        if let Some(discovery) = &self.keeping.discovery {
            discovery.want(missing > 0);
        }
        let room = config.dials.get().saturating_sub(under_way);
        let count = missing.saturating_sub(under_way).min(room);
        if count == 0 {
            return;
        }
        let (keeping, peers, bans, local) = (&mut self.keeping, &self.peers, &self.bans, self.local);
        let mut crowd = Crowd::new(&config, self.config.connections);
        let made =
            peers.values().filter(|peer| peer.is_outbound()).filter_map(|peer| peer.addresses().next());
        made.chain(keeping.dialling.values().map(|dialling| &dialling.address)).for_each(|at| crowd.add(at));
        let under_way: HashSet<_> = keeping.dialling.values().filter_map(|dialling| dialling.peer).collect();
        let skip = |peer: &PeerId| {
            *peer == local || peers.contains_key(peer) || under_way.contains(peer) || bans.contains(peer)
        };
        for (peer, addresses, source) in keeping.book.due(count, now, crowd, skip) {
            let Some(address) = addresses.first().cloned() else { continue };
            let options = DialOpts::peer_id(peer).addresses(addresses).build();
            self.start_dial(
                options,
                Dialling { source, peer: Some(peer), address, target: None, reply: None },
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
