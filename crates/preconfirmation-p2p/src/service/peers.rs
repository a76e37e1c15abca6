//! Peers coming, going, offending.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, identify, ping, swarm::ConnectionId};
use preconfirmation_types::{Offence, Topic, rate_limit::RateLimit};

use super::NetworkService;
use crate::{bans::Ban, config::after, event::Session, handle::PeerInfo, metrics, score::Standing};

/// A connected peer.
pub(super) struct Peer {
    /// At least one, oldest first.
    connections: Vec<Connection>,
    since: Instant,
    agent: Option<String>,
    protocols: Vec<String>,
    round_trip: Option<Duration>,
    ready: bool,
    /// It has subscribed to a topic of ours, or asked for something.
    used: bool,
}

struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    inbound: bool,
}

impl NetworkService {
    pub(super) fn connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let record = self.peers.entry(peer).or_insert_with(|| Peer {
            connections: Vec::new(),
            since: Instant::now(),
            agent: None,
            protocols: Vec::new(),
            round_trip: None,
            ready: false,
            used: false,
        });
        record.connections.push(Connection {
            id,
            address: endpoint.get_remote_address().clone(),
            inbound: endpoint.is_listener(),
        });
        self.dial_succeeded(id, peer);
        self.arrived(peer);
        self.count_peers();
        // A peer that returns finds its score where it was.
        let now = Instant::now();
        self.mirror(&peer, now);
        self.silence(&peer, self.total_score(&peer, now));
        tracing::debug!(%peer, address = %endpoint.get_remote_address(), "connected");
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, id: ConnectionId) {
        self.given_up.remove(&id);
        let Some(record) = self.peers.get_mut(&peer) else {
            return;
        };
        record.connections.retain(|connection| connection.id != id);
        if !record.connections.is_empty() {
            return;
        }
        self.peers.remove(&peer);
        self.scores.left(&peer);
        self.lost(&peer);
        self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        self.forget_requests(&peer);
        self.count_peers();
    }

    /// A peer has subscribed, or asks for something.
    pub(super) fn uses(&mut self, peer: &PeerId) {
        if let Some(record) = self.peers.get_mut(peer) {
            record.used = true;
        }
    }

    pub(super) fn identify_event(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id: peer, connection_id, info } = event else {
            return;
        };
        let speaks = self.protocols.iter().all(|protocol| info.protocols.contains(protocol));
        let Some(record) = self.peers.get(&peer) else {
            return;
        };
        if let Some(connection) = record.connections.iter().find(|connection| connection.id == connection_id)
        {
            let (address, inbound) = (connection.address.clone(), connection.inbound);
            self.identified(peer, speaks, info.listen_addrs, &address, inbound);
        }
        let limit = RateLimit::from_agent(&info.agent_version, &self.config.pacing.bounds());
        self.requests.limiter.learn(peer, limit);
        let Some(record) = self.peers.get_mut(&peer) else {
            return;
        };
        record.agent = Some(info.agent_version);
        record.protocols = info.protocols.iter().map(ToString::to_string).collect();
        if speaks == record.ready {
            return;
        }
        record.ready = speaks;
        tracing::debug!(%peer, agent = ?record.agent, ready = speaks, "identified");
        if speaks {
            self.sessions += 1;
            let rate_limit = self.requests.limiter.known_limit(&peer);
            let session = Session { number: self.sessions, rate_limit };
            self.ready.send_if_modified(|ready| ready.insert(peer, session) != Some(session));
        } else {
            self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        }
    }

    pub(super) fn ping_event(&mut self, event: ping::Event) {
        match event.result {
            Ok(round_trip) => {
                if let Some(record) = self.peers.get_mut(&event.peer) {
                    record.round_trip = Some(round_trip);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::debug!(peer = %event.peer, %error, "ping failed, closing the connection");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// Charges a peer with an offence (§7.1).
    pub(super) fn charge(&mut self, peer: PeerId, offence: Offence) {
        metrics::offence(offence);
        let now = Instant::now();
        let score = self.scores.offence(peer, offence, now);
        self.charged(peer, offence, score, now);
    }

    /// Charges a peer with what the application reports. What only our schedule says may be our own mistake.
    pub(super) fn report(&mut self, peer: PeerId, offence: Offence) {
        if offence != Offence::WrongSigner || self.may_charge(peer, Instant::now()) {
            self.charge(peer, offence);
        }
    }

    pub(super) fn charged(&mut self, peer: PeerId, offence: Offence, score: f64, now: Instant) {
        self.mirror(&peer, now);
        self.silence(&peer, self.total_score(&peer, now));
        tracing::debug!(%peer, offence = offence.label(), score, "offence");
    }

    fn count_peers(&self) {
        let inbound = self.peers.values().filter(|peer| peer.is_inbound()).count();
        metrics::peers(inbound, self.peers.len() - inbound);
    }

    /// gossipsub's total of a peer; where there is none, the application's part.
    pub(super) fn total_score(&self, peer: &PeerId, now: Instant) -> f64 {
        let gossip = self.swarm.behaviour().gossip.peer_score(peer);
        gossip.unwrap_or_else(|| self.scores.mirrored(peer, now))
    }

    /// Leaves gossip of a graylisted peer unread: it would be dropped, but only after its signature was
    /// checked.
    fn silence(&self, peer: &PeerId, total: f64) {
        let graylisted = total < self.config.score.graylist_threshold;
        self.connections.silence(peer, graylisted && !self.keeping.is_protected(peer));
    }

    /// Makes the application score part of gossipsub's.
    pub(super) fn mirror(&mut self, peer: &PeerId, now: Instant) {
        // One that is about to be disconnected for its ban has been forgotten.
        if !self.bans.contains(peer) {
            let score = self.scores.mirrored(peer, now);
            self.swarm.behaviour_mut().gossip.set_application_score(peer, score);
        }
    }

    /// Lets time pass: scores decay, bans begin and end, what is over is forgotten.
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        let (mut banned, mut totals) = (Vec::new(), Vec::new());
        let present = self.peers.keys().filter(|peer| !self.bans.contains(peer));
        for peer in present.copied().collect::<Vec<_>>() {
            self.mirror(&peer, now);
            let total = self.total_score(&peer, now);
            totals.push(total);
            self.silence(&peer, total);
            let application = self.scores.of(&peer, now);
            // What gossipsub counts of its own silences a peer, but does not ban it.
            if self.scores.observe(peer, application, now) == Standing::Banned
                && !self.keeping.is_protected(&peer)
            {
                banned.push((peer, application));
            }
        }
        metrics::scores(&totals);
        self.expire_verdicts(now);
        self.relays.prune(now);
        self.suspicion.expire(now);
        self.tell_suspicion();
        metrics::waiting("open_verdicts", self.verdicts.len());
        for (peer, score) in banned {
            tracing::warn!(%peer, score, "banned");
            metrics::banned("application");
            self.ban(peer, now);
        }
        let over = self.bans.expired(now);
        for peer in &over {
            tracing::info!(%peer, "ban is over");
            self.swarm.behaviour_mut().banned.unblock_peer(*peer);
        }
        if !over.is_empty() {
            self.refuse_hosts();
        }
        self.scores.prune(now);
        self.tick_requests(now);
        self.cut_unread(now);
        self.retry(&Topic::ALL, now);
        self.keep(now);
        metrics::ticked(now.elapsed());
    }

    fn ban(&mut self, peer: PeerId, now: Instant) {
        let record = self.peers.get(&peer);
        let ban = Ban {
            until: after(now, self.config.score.ban_for),
            address: record.and_then(Peer::address).unwrap_or_else(Multiaddr::empty),
            agent: record.and_then(|record| record.agent.clone()),
        };
        if let Some(freed) = self.bans.add(peer, ban) {
            self.swarm.behaviour_mut().banned.unblock_peer(freed);
        }
        self.keeping.book.forget(&peer);
        // gossipsub keeps what it counted of a peer that leaves, as it was, unless its score is positive. A ban is
        // punishment enough, and to lift it is to forgive.
        self.swarm.behaviour_mut().gossip.set_application_score(&peer, f64::MAX);
        // Closes its connections, too.
        self.swarm.behaviour_mut().banned.block_peer(peer);
        self.refuse_hosts();
    }

    /// Refuses the hosts of several banned peers, but for those of static and trusted ones and those whose address
    /// says nothing about who is there.
    fn refuse_hosts(&mut self) {
        let limits = self.config.connections;
        let mut hosts = self.bans.hosts(limits.bans_per_ip);
        hosts.retain(|host| limits.tells_apart(*host) && !self.half_open.is_reserved(*host));
        self.swarm.behaviour_mut().limits.refuse(hosts);
    }

    /// Ends a ban before its time and forgives what led to it. Whether the peer was banned.
    pub(super) fn unban(&mut self, peer: PeerId) -> bool {
        let banned = self.bans.remove(&peer);
        if banned {
            tracing::info!(%peer, "ban is lifted");
            self.scores.forgive(&peer);
            self.swarm.behaviour_mut().banned.unblock_peer(peer);
            self.refuse_hosts();
        }
        banned
    }

    pub(super) fn statuses(&self) -> Vec<PeerInfo> {
        let now = Instant::now();
        let gossip = &self.swarm.behaviour().gossip;
        let mut subscribed: HashMap<PeerId, Vec<Topic>> = gossip
            .all_peers()
            .map(|(peer, topics)| {
                let topics = topics.into_iter().filter_map(|topic| self.topics.topic(topic));
                (*peer, topics.collect())
            })
            .collect();
        let score = |peer: &PeerId| {
            let application = self.scores.of(peer, now);
            (gossip.peer_score(peer).unwrap_or(application), application)
        };
        let connected = self.peers.iter().map(|(peer, record)| {
            let (score, application_score) = score(peer);
            PeerInfo {
                peer: *peer,
                addresses: record.connections.iter().map(|connection| connection.address.clone()).collect(),
                agent: record.agent.clone(),
                inbound: record.is_inbound(),
                protocols: record.protocols.clone(),
                topics: subscribed.remove(peer).unwrap_or_default(),
                round_trip: record.round_trip,
                rate_limit: self.requests.limiter.known_limit(peer),
                score,
                application_score,
                protected: self.keeping.is_protected(peer),
                ready: record.ready,
                connected_for: now.saturating_duration_since(record.since),
                banned_for: None,
            }
        });
        let mut statuses: Vec<_> = connected.collect();
        let banned = self.bans.iter().filter(|(peer, _)| !self.peers.contains_key(peer));
        statuses.extend(banned.map(|(peer, ban)| {
            let (score, application_score) = score(peer);
            PeerInfo {
                peer: *peer,
                addresses: vec![ban.address.clone()],
                agent: ban.agent.clone(),
                inbound: false,
                protocols: Vec::new(),
                topics: Vec::new(),
                round_trip: None,
                rate_limit: None,
                score,
                application_score,
                protected: false,
                ready: false,
                connected_for: Duration::ZERO,
                banned_for: Some(ban.until.saturating_duration_since(now)),
            }
        }));
        statuses
    }
}

impl Peer {
    pub(super) fn address(&self) -> Option<Multiaddr> {
        self.connections.first().map(|connection| connection.address.clone())
    }

    fn is_inbound(&self) -> bool {
        self.connections.first().is_some_and(|connection| connection.inbound)
    }

    /// Whether this is a connection with it.
    pub(super) fn has(&self, id: ConnectionId) -> bool {
        self.connections.iter().any(|connection| connection.id == id)
    }

    /// Whether we opened one of its connections: nobody chooses these but ourselves.
    pub(super) fn is_outbound(&self) -> bool {
        self.connections.iter().any(|connection| !connection.inbound)
    }

    /// The addresses of its connections.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.connections.iter().map(|connection| &connection.address)
    }

    /// Whether it has used its connection for anything but being connected.
    pub(super) const fn is_used(&self) -> bool {
        self.used
    }

    /// Whether it speaks the protocols of this chain.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether it has said what it speaks, and that is another network.
    pub(super) const fn is_foreign(&self) -> bool {
        self.agent.is_some() && !self.ready
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }
}
