//! Peers that connect, identify themselves, disconnect and offend; scores and bans.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{PeerId, core::ConnectedPoint, identify, ping, swarm::ConnectionId};
use preconfirmation_types::{Offence, Topic, rate_limit::RateLimit};

use super::{NetworkService, unix_now};
use crate::{
    duplicate_identity::{DuplicateIdentity, DuplicateSign},
    event::Session,
    handle::PeerInfo,
    ip::{Host, ip_of},
    metrics,
    peer_manager::{Connection, Identity, ScoreState},
};

impl NetworkService {
    pub(super) fn connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        self.dial_succeeded(id, peer);
        let address = endpoint.get_remote_address().clone();
        tracing::debug!(%peer, %address, "connected");
        self.peers.on_connected(peer, Connection { id, address, inbound: endpoint.is_listener() }, now);
        if self.peers.is_protected(&peer) {
            self.reserve_places();
        }
        self.check_addresses(peer, now);
        self.count_peers();
        // A peer that returns finds its score where it was.
        self.update_gossip_score(&peer, now);
        self.gate_reads(&peer, self.total_score(&peer, now));
    }

    /// Reports a peer that is connected from two addresses. One of each IP version is one node.
    fn check_addresses(&mut self, peer: PeerId, now: Instant) {
        let connected = self.peers.connection(&peer).into_iter();
        let mut ips: Vec<_> =
            connected.flat_map(|connected| connected.addresses()).filter_map(ip_of).collect();
        ips.dedup();
        if let [.., one, other] = ips.as_slice()
            && one.is_ipv4() == other.is_ipv4()
        {
            metrics::duplicate_identity("two_addresses");
            if self.duplicates.should_report(now) {
                tracing::warn!(%peer, %one, %other, "a peer is connected from two addresses: two nodes may use its key");
            }
        }
    }

    /// Another node uses this node's key.
    pub(super) fn on_duplicate_identity(&mut self, sign: DuplicateSign, now: Instant) {
        metrics::duplicate_identity(sign.label());
        self.duplicate.send_replace(Some(DuplicateIdentity { sign, at: now }));
        if self.duplicates.should_report(now) {
            tracing::error!(
                sign = sign.label(),
                "another node uses the key of this one: give each node a key of its own"
            );
        }
    }

    /// A message under this node's name has come from a peer.
    pub(super) fn own_message(&mut self, sequence_number: Option<u64>) {
        let now = Instant::now();
        if self.duplicates.has_published(sequence_number, now) {
            self.on_duplicate_identity(DuplicateSign::Published, now);
        }
    }

    /// Tells the half-open connections which hosts have places of their own: those of the addresses of static peers,
    /// and those at which static and trusted peers are connected.
    pub(super) fn reserve_places(&mut self) {
        let named = self.config.static_peers.iter().filter_map(Host::at);
        let connected = self.swarm.behaviour().limits.protected_hosts();
        self.half_open.reserve(named.chain(connected).collect());
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, id: ConnectionId) {
        self.given_up.remove(&id);
        let Some(disconnected) = self.peers.on_disconnected(&peer, id, unix_now(), Instant::now()) else {
            return;
        };
        if disconnected.outage_begins {
            tracing::warn!(%peer, "static peer has disconnected: it is dialled until it is connected again");
        }
        self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        self.forget_requests(&peer);
        self.count_peers();
    }

    /// A peer has subscribed, or asks for something.
    pub(super) fn on_connection_used(&mut self, peer: &PeerId) {
        if let Some(connected) = self.peers.connection_mut(peer) {
            connected.used = true;
        }
    }

    pub(super) fn identify_event(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id: peer, connection_id, info } = event else {
            return;
        };
        if !self.peers.is_connected(&peer) {
            return;
        }
        let identity = Identity {
            ready: self.protocols.iter().all(|protocol| info.protocols.contains(protocol)),
            rate_limit: RateLimit::from_agent(&info.agent_version, &self.config.pacing.bounds()),
            agent: info.agent_version,
            protocols: info.protocols.iter().map(ToString::to_string).collect(),
            listen: info.listen_addrs,
        };
        self.identified(peer, connection_id, identity, Instant::now());
    }

    fn identified(&mut self, peer: PeerId, id: ConnectionId, identity: Identity, now: Instant) {
        let changed = self.peers.on_identified(peer, id, identity, unix_now(), now);
        let Some(ready) = changed else { return };
        tracing::debug!(%peer, ready, "identified");
        if ready {
            self.sessions += 1;
            let rate_limit = self.peers.rate_limit(&peer);
            let session = Session { number: self.sessions, rate_limit };
            self.ready.send_if_modified(|ready| ready.insert(peer, session) != Some(session));
        } else {
            self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        }
    }

    pub(super) fn ping_event(&mut self, event: ping::Event) {
        match event.result {
            Ok(round_trip) => {
                if let Some(connected) = self.peers.connection_mut(&event.peer) {
                    connected.round_trip = Some(round_trip);
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
        let score = self.peers.charge(peer, offence, now);
        self.charged(peer, offence, score, now);
    }

    /// Charges a peer with what the application reports.
    pub(super) fn report(&mut self, peer: PeerId, offence: Offence) {
        if self.validation.may_report(peer, offence, Instant::now()) {
            self.charge(peer, offence);
        }
    }

    pub(super) fn charged(&mut self, peer: PeerId, offence: Offence, score: f64, now: Instant) {
        self.update_gossip_score(&peer, now);
        self.gate_reads(&peer, self.total_score(&peer, now));
        tracing::debug!(%peer, offence = offence.label(), score, "offence");
    }

    fn count_peers(&self) {
        let (mut inbound, mut outbound) = (0, 0);
        for (_, connected) in self.peers.connected() {
            *if connected.is_inbound() { &mut inbound } else { &mut outbound } += 1;
        }
        metrics::peers(inbound, outbound);
    }

    /// gossipsub's total of a peer; where there is none, the application's part.
    pub(super) fn total_score(&self, peer: &PeerId, now: Instant) -> f64 {
        let gossip = self.swarm.behaviour().gossip.peer_score(peer);
        gossip.unwrap_or_else(|| self.peers.score_for_gossipsub(peer, now))
    }

    /// Leaves gossip of a graylisted peer unread: it would be dropped, but only after its signature was
    /// checked.
    fn gate_reads(&self, peer: &PeerId, total: f64) {
        let graylisted = total < self.config.score.graylist_threshold;
        self.slow_readers.set_read_gate(peer, graylisted && !self.peers.is_protected(peer));
    }

    /// Makes the application score part of gossipsub's.
    pub(super) fn update_gossip_score(&mut self, peer: &PeerId, now: Instant) {
        // One that is about to be disconnected for its ban has been forgotten.
        if !self.peers.is_banned(peer) {
            let score = self.peers.score_for_gossipsub(peer, now);
            self.swarm.behaviour_mut().gossip.set_application_score(peer, score);
        }
    }

    /// Once a second: scores decay, bans begin and end, too many peers become fewer, too few are dialled, what is over is
    /// forgotten.
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        self.update_scores(now);
        self.expire_verdicts(now);
        metrics::waiting("open_verdicts", self.validation.len());
        self.expire_bans(now);
        self.peers.prune(now);
        for (peer, id, identity) in self.peers.take_postponed(now) {
            self.identified(peer, id, identity, now);
        }
        self.tick_requests(now);
        self.cut_slow_readers(now);
        self.cut_half_frames(now);
        self.retry(&Topic::ALL, now);
        if let Some(sign) = self.duplicates.settle(now) {
            self.on_duplicate_identity(sign, now);
        }
        self.watch_discovery(now);
        self.prune_peers(now);
        self.disconnect_leaving(now);
        for address in self.peers.take_own_addresses() {
            self.dial_own_address(address);
        }
        self.dial_known(now);
        self.save_changes(now);
        metrics::ticked(now.elapsed());
    }

    /// Tells gossipsub the scores of connected peers, and bans those whose application score was too low for too long.
    fn update_scores(&mut self, now: Instant) {
        let connected = self.peers.connected().map(|(peer, _)| *peer);
        let connected: Vec<_> = connected.filter(|peer| !self.peers.is_banned(peer)).collect();
        let mut totals = Vec::with_capacity(connected.len());
        for peer in connected {
            self.update_gossip_score(&peer, now);
            let total = self.total_score(&peer, now);
            totals.push(total);
            self.gate_reads(&peer, total);
            // What gossipsub counts of its own silences a peer, but does not ban it.
            let score = self.peers.application_score(&peer, now);
            if self.peers.observe_score(peer, score, now) == ScoreState::Banned
                && !self.peers.is_protected(&peer)
            {
                tracing::warn!(%peer, score, "banned");
                metrics::banned("application");
                self.ban(peer, now);
            }
        }
        metrics::scores(&totals);
    }

    fn prune_peers(&mut self, now: Instant) {
        for peer in self.peers.prune_candidates(|peer| self.total_score(peer, now), now) {
            tracing::debug!(%peer, "too many peers: this one is disconnected");
            metrics::pruned();
            // It is connected, so it can be disconnected.
            let _connected = self.swarm.disconnect_peer_id(peer).is_ok();
        }
    }

    fn ban(&mut self, peer: PeerId, now: Instant) {
        if let Some(freed) = self.peers.ban(peer, now) {
            self.swarm.behaviour_mut().banned.unblock_peer(freed);
        }
        // gossipsub keeps what it counted of a peer that leaves, as it was, unless its score is positive. A ban is
        // punishment enough, and to lift it is to forgive.
        self.swarm.behaviour_mut().gossip.set_application_score(&peer, f64::MAX);
        // Closes its connections, too.
        self.swarm.behaviour_mut().banned.block_peer(peer);
        self.refuse_hosts();
    }

    fn expire_bans(&mut self, now: Instant) {
        let expired = self.peers.expire_bans(now);
        for peer in &expired {
            tracing::info!(%peer, "ban has expired");
            self.swarm.behaviour_mut().banned.unblock_peer(*peer);
        }
        if !expired.is_empty() {
            self.refuse_hosts();
        }
    }

    /// Refuses the hosts of several banned peers, but for those of static and trusted ones and those whose address
    /// says nothing about who is there.
    fn refuse_hosts(&mut self) {
        let limits = self.config.connections;
        let mut hosts = self.peers.banned_hosts(limits.bans_per_ip);
        hosts.retain(|host| limits.tells_apart(*host) && !self.half_open.is_reserved(*host));
        self.swarm.behaviour_mut().limits.refuse(hosts);
    }

    /// Ends a ban before its time and forgives what led to it. Whether the peer was banned.
    pub(super) fn unban(&mut self, peer: PeerId) -> bool {
        let banned = self.peers.unban(&peer);
        if banned {
            tracing::info!(%peer, "ban is lifted");
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
            let application = self.peers.application_score(peer, now);
            (gossip.peer_score(peer).unwrap_or(application), application)
        };
        let connected = self.peers.connected().map(|(peer, connected)| {
            let (score, application_score) = score(peer);
            PeerInfo {
                peer: *peer,
                addresses: connected.addresses().cloned().collect(),
                agent: connected.agent.clone(),
                inbound: connected.is_inbound(),
                protocols: connected.protocols.clone(),
                topics: subscribed.remove(peer).unwrap_or_default(),
                round_trip: connected.round_trip,
                rate_limit: self.peers.rate_limit(peer),
                score,
                application_score,
                protected: self.peers.is_protected(peer),
                ready: connected.ready,
                connected_for: now.saturating_duration_since(connected.since),
                banned_for: None,
            }
        });
        let mut statuses: Vec<_> = connected.collect();
        let banned = self.peers.bans().filter(|(peer, _)| !self.peers.is_connected(peer));
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
