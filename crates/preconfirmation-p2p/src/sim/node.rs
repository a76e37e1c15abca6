//! One node of the simulated network: what the service of a real one does, without a swarm.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId, gossipsub::MessageId, swarm::ConnectionId};
use preconfirmation_types::{
    Bytes, Container as _, GetCommitmentsByNumber, GetHead, GetRawTxList, Offence, PreconfHead, Rpc, Topic,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    address, addressee, now,
    requests::{Finish, Incoming, decode, encode},
    wire::{Arrival, Frame, Hub},
};
use crate::{
    config::{NetworkConfig, after},
    error::{NetworkError, RequestError},
    event::{NetworkEvent, NetworkEvents, Ready, Session},
    handle::{Command, NetworkHandle, NetworkQueues, PeerInfo},
    inbound::ANSWER_WITHIN,
    metrics,
    peer_manager::{Connection, Outcome, PeerManager, ScoreState, Start},
    publish_queue::PublishQueue,
    request_queue::RequestQueue,
    rpc::{OutboundRequest, Outgoing, Served},
    validation::{Outputs, Validation},
};

/// Between two looks at scores and bans.
const TICK: Duration = Duration::from_secs(1);

/// Most frames taken from the wire before their time. What is behind them stays on the wire.
const TRAVELLING: usize = 64 * 1024;

/// A message that may still be forwarded.
pub(super) struct Remembered {
    pub(super) until: Instant,
    pub(super) ssz: Bytes,
    pub(super) author: PeerId,
    /// Who else has sent it.
    pub(super) carriers: BTreeSet<PeerId>,
}

/// A request of ours without an answer.
struct Unanswered {
    peer: PeerId,
    protocol: &'static str,
    sent: Instant,
    deadline: Instant,
    finish: Finish,
}

/// One node: a future to be run once. What [`NetworkService`](crate::NetworkService) is to the real network.
#[must_use = "a node does nothing until its service runs"]
pub struct SimService {
    pub(super) config: NetworkConfig,
    pub(super) local: PeerId,
    pub(super) hub: Arc<Hub>,
    start: Instant,
    inbox: mpsc::Receiver<Arrival>,
    travelling: BinaryHeap<Arrival>,

    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<(PeerId, Offence)>,
    shutdown: Arc<Notify>,
    requests: mpsc::Sender<NetworkEvent>,
    pub(super) validation: Validation,
    ready: watch::Sender<Ready>,
    sessions: u64,
    /// Held so that the handle's end of it stays open.
    _listening: watch::Sender<Option<Vec<Multiaddr>>>,

    pub(super) peers: PeerManager,
    dials: HashMap<PeerId, Vec<oneshot::Sender<Result<(), NetworkError>>>>,
    /// When each message was first seen.
    pub(super) seen: HashMap<MessageId, Instant>,
    pub(super) remembered: HashMap<MessageId, Remembered>,
    pub(super) publish_queue: PublishQueue,
    queue: RequestQueue<Outgoing>,
    /// In the order of their deadlines.
    unanswered: BTreeMap<u64, Unanswered>,
    asked: u64,
    answering: FuturesUnordered<BoxFuture<'static, (PeerId, u64, &'static str, Bytes)>>,
    /// The last head that the application has answered.
    head: PreconfHead,
}

impl SimService {
    pub(super) fn new(config: NetworkConfig, hub: Arc<Hub>) -> (NetworkHandle, NetworkEvents, Self) {
        let local = config.identity.public().to_peer_id();
        let queues = config.queues;
        let (commands, commands_receiver) = mpsc::channel(queues.commands.get());
        let (reports, reports_receiver) = mpsc::channel(queues.reports.get());
        let (requests, requests_receiver) = mpsc::channel(queues.request_events.get());
        let (validation, Outputs { inbox, suspected }) = Validation::new(&config, TICK);
        let (ready, ready_receiver) = watch::channel(Ready::new());
        let (_listening, listening) = watch::channel(Some(vec![address(local)]));
        let shutdown = Arc::new(Notify::new());
        let (record, duplicate) = (watch::channel(None).1, watch::channel(None).1);
        let (arrivals, returns) = hub.join(local);
        let start = if returns { Start::Restart } else { Start::First };
        let service = Self {
            local,
            start: now(),
            inbox: arrivals,
            hub,
            travelling: BinaryHeap::new(),
            commands: commands_receiver,
            reports: reports_receiver,
            shutdown: Arc::clone(&shutdown),
            requests,
            validation,
            ready,
            sessions: 0,
            _listening,
            peers: PeerManager::new(&config, start, now()),
            dials: HashMap::new(),
            seen: HashMap::new(),
            remembered: HashMap::new(),
            publish_queue: PublishQueue::new(config.gossip.publish_queue),
            queue: RequestQueue::new(config.pacing.waiting),
            unanswered: BTreeMap::new(),
            asked: 0,
            answering: FuturesUnordered::new(),
            head: PreconfHead::default(),
            config,
        };
        let handle =
            NetworkHandle { local, commands, reports, listening, record, suspected, duplicate, shutdown };
        (handle, NetworkEvents::new(ready_receiver, inbox, requests_receiver), service)
    }

    /// Runs the node until [`NetworkHandle::shutdown`] is called or the last handle is dropped.
    ///
    /// # Errors
    /// None; the real service has some.
    pub async fn run(mut self) -> Result<(), NetworkError> {
        for peer in self.config.static_peers.iter().filter_map(addressee) {
            self.hub.connect(self.local, peer);
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = Arc::clone(&self.shutdown);
        let shutdown = shutdown.notified();
        tokio::pin!(shutdown);
        loop {
            let arrival = self.travelling.peek().map(|arrival| arrival.at);
            let deadline = self.unanswered.values().next().map(|unanswered| unanswered.deadline);
            let allowed = self.queue.next_allowed(&self.peers, now());
            tokio::select! {
                // In a fixed order, so that a run can be repeated.
                biased;
                () = &mut shutdown => break,
                settlement = self.validation.next() => self.settle(settlement),
                Some((peer, offence)) = self.reports.recv() => self.report(peer, offence),
                Some((to, id, protocol, ssz)) = self.answering.next() => {
                    if protocol == GetHead::NAME && let Ok(head) = PreconfHead::from_ssz(&ssz) {
                        self.head = head;
                    }
                    self.hub.send(self.local, to, &Frame::Response { id, ssz: Some(ssz) });
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(arrival) = self.inbox.recv(), if self.travelling.len() < TRAVELLING => {
                    self.travelling.push(arrival);
                }
                () = until(arrival) => self.arrive(),
                () = until(deadline) => self.time_out(),
                () = until(allowed) => self.send_requests(),
                _ = tick.tick() => self.tick(),
            }
        }
        self.hub.leave(self.local);
        self.ready.send_modify(Ready::clear);
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            // Whoever has stopped waiting for a reply does not get it.
            Command::Publish { topic, ssz, reply } => drop(reply.send(self.publish(topic, ssz))),
            Command::Request(outgoing) => self.request(outgoing),
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::Unban { peer, reply } => drop(reply.send(self.peers.unban(&peer))),
            Command::Peers { reply } => drop(reply.send(self.statuses())),
            // A simulation has no operator; whoever orders something is told that nobody takes orders.
            Command::Operator { reply, .. } => drop(reply),
            Command::Blocked { reply } => drop(reply.send(Vec::new())),
            Command::StaticPeers { reply } => drop(reply.send(Vec::new())),
            Command::Queues { reply } => drop(reply.send(NetworkQueues {
                publish_queue: self.publish_queue.len(),
                open_verdicts: self.validation.len(),
                pacing: self.queue.waiting(),
                ..NetworkQueues::default()
            })),
            Command::DiscoveryTable { reply } => drop(reply.send(None)),
        }
    }

    // Connections.

    fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        match addressee(&address) {
            Some(peer) if self.peers.is_connected(&peer) => drop(reply.send(Ok(()))),
            Some(peer) if self.hub.connect(self.local, peer) => {
                self.dials.entry(peer).or_default().push(reply);
            }
            _ => drop(reply.send(Err(unreachable(address)))),
        }
    }

    fn arrive(&mut self) {
        let Some(arrival) = self.travelling.pop() else { return };
        self.hub.arrived(self.local, self.start, &arrival);
        let from = arrival.from;
        match arrival.frame {
            Frame::Hello => self.connected(from),
            Frame::Bye => self.disconnected(from),
            // What was on its way when the connection closed.
            _ if !self.peers.is_connected(&from) => {}
            Frame::Gossip { topic, ssz, author } => self.received(from, topic, ssz, author),
            Frame::Request { id, protocol, ssz } => self.asked_by(from, id, protocol, &ssz),
            Frame::Response { id, ssz } => {
                // A late one, or a second one, is answered to nobody.
                if let Some(unanswered) = self.unanswered.remove(&id) {
                    self.finish(unanswered, ssz.ok_or(RequestError::NoAnswer));
                }
            }
        }
    }

    fn connected(&mut self, peer: PeerId) {
        if self.peers.is_banned(&peer) {
            self.hub.disconnect(self.local, peer);
            return;
        }
        let connection = Connection { id: connection_id(), address: address(peer), inbound: false };
        self.peers.on_connected(peer, connection, now());
        self.sessions += 1;
        let session = Session { number: self.sessions, rate_limit: self.peers.rate_limit(&peer) };
        self.ready.send_if_modified(|ready| ready.insert(peer, session) != Some(session));
        for reply in self.dials.remove(&peer).unwrap_or_default() {
            drop(reply.send(Ok(())));
        }
        self.send_waiting();
    }

    fn disconnected(&mut self, peer: PeerId) {
        let _last = self.peers.on_disconnected(&peer, connection_id(), 0, now());
        self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        for reply in self.dials.remove(&peer).unwrap_or_default() {
            drop(reply.send(Err(unreachable(address(peer)))));
        }
        for outgoing in self.queue.remove(&peer) {
            outgoing.fail(RequestError::Disconnected);
        }
        let own = self.unanswered.iter().filter(|(_, of)| of.peer == peer);
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(unanswered) = self.unanswered.remove(&id) {
                self.finish(unanswered, Err(RequestError::Disconnected));
            }
        }
    }

    // Requests.

    fn request(&mut self, outgoing: Outgoing) {
        let (peer, protocol) = (outgoing.peer(), outgoing.protocol());
        if !self.peers.is_connected(&peer) {
            outgoing.fail(RequestError::NotConnected { peer });
        } else if let Err(outgoing) = self.queue.push((peer, protocol), outgoing) {
            outgoing.fail(RequestError::QueueFull { limit: self.config.pacing.waiting.get() });
        } else {
            self.send_requests();
        }
    }

    fn send_requests(&mut self) {
        while let Some(outgoing) = self.queue.pop(&mut self.peers, now(), Outgoing::is_wanted) {
            match outgoing {
                Outgoing::Head(request) => self.send_request(request),
                Outgoing::Commitments(request) => self.send_request(request),
                Outgoing::TxList(request) => self.send_request(request),
            }
        }
    }

    fn send_request<R: Served>(&mut self, request: OutboundRequest<R>) {
        let peer = request.peer;
        let (ssz, finish) = encode(request);
        let deadline = after(now(), self.config.pacing.timeout);
        self.asked += 1;
        let unanswered = Unanswered { peer, protocol: R::NAME, sent: now(), deadline, finish };
        self.unanswered.insert(self.asked, unanswered);
        let frame = Frame::Request { id: self.asked, protocol: R::NAME, ssz };
        self.hub.send(self.local, peer, &frame);
    }

    fn time_out(&mut self) {
        if let Some((_, unanswered)) = self.unanswered.pop_first() {
            self.finish(unanswered, Err(RequestError::TimedOut));
        }
    }

    fn finish(&mut self, unanswered: Unanswered, answer: Result<Bytes, RequestError>) {
        let outcome = match &answer {
            Ok(_) => Outcome::Answered(now().saturating_duration_since(unanswered.sent)),
            Err(RequestError::NoAnswer) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.peers.on_request_done(&(unanswered.peer, unanswered.protocol), outcome, now());
        if let Some(offence) = (unanswered.finish)(answer) {
            self.charge(unanswered.peer, offence);
        }
    }

    /// Whatever becomes of a request, it is answered: by the application, or without it if that takes too long.
    fn asked_by(&mut self, from: PeerId, id: u64, protocol: &'static str, ssz: &Bytes) {
        let incoming = match protocol {
            GetHead::NAME => decode::<GetHead>(ssz, self.head),
            GetCommitmentsByNumber::NAME => decode::<GetCommitmentsByNumber>(ssz, self.head),
            _ => decode::<GetRawTxList>(ssz, self.head),
        };
        let Some(Incoming { request, answer, fallback }) = incoming else {
            return self.charge(from, Offence::Malformed);
        };
        if self.answering.len() < self.config.serving.in_flight.get()
            && let Ok(place) = self.requests.try_reserve()
        {
            place.send(NetworkEvent::Request { from, request });
            self.answering.push(Box::pin(async move {
                let answer = timeout(ANSWER_WITHIN, answer).await.ok().flatten();
                (from, id, protocol, answer.unwrap_or(fallback))
            }));
        } else {
            self.hub.send(self.local, from, &Frame::Response { id, ssz: Some(fallback) });
        }
    }

    // Scores.

    pub(super) fn charge(&mut self, peer: PeerId, offence: Offence) {
        metrics::offence(offence);
        self.peers.charge(peer, offence, now());
    }

    /// Lets time pass: bans begin and end, what is over is forgotten.
    fn tick(&mut self) {
        let now = now();
        for peer in self.peers.connected().map(|(peer, _)| *peer).collect::<Vec<_>>() {
            let score = self.peers.application_score(&peer, now);
            if self.peers.observe_score(peer, score, now) == ScoreState::Banned {
                let _freed = self.peers.ban(peer, now);
                self.hub.disconnect(self.local, peer);
            }
        }
        let _expired = self.peers.expire_bans(now);
        self.peers.prune(now);
        for received in self.validation.expire(now) {
            self.remembered.remove(&received.id);
            metrics::received(received.topic, "late");
        }
        let _stale = self.publish_queue.stale(now);
        self.remembered.retain(|_, message| now < message.until);
        let cache = self.config.gossip.duplicate_cache;
        self.seen.retain(|_, at| now.saturating_duration_since(*at) < cache);
    }

    fn statuses(&self) -> Vec<PeerInfo> {
        let now = now();
        let status = |peer: &PeerId, since: Option<Instant>, banned_for| {
            let (score, application_score) =
                (self.peers.score_for_gossipsub(peer, now), self.peers.application_score(peer, now));
            PeerInfo {
                peer: *peer,
                addresses: vec![address(*peer)],
                agent: None,
                inbound: false,
                protocols: Vec::new(),
                topics: since.map_or_else(Vec::new, |_| Topic::ALL.to_vec()),
                round_trip: since.map(|_| self.hub.round_trip(self.local, *peer)),
                rate_limit: self.peers.rate_limit(peer),
                score,
                application_score,
                protected: false,
                ready: since.is_some(),
                connected_for: since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
                banned_for,
            }
        };
        let connected = self.peers.connected().map(|(peer, of)| status(peer, Some(of.since), None));
        let banned = self.peers.bans().filter(|(peer, _)| !self.peers.is_connected(peer));
        let banned =
            banned.map(|(peer, ban)| status(peer, None, Some(ban.until.saturating_duration_since(now))));
        connected.chain(banned).collect()
    }
}

/// Two nodes have one connection at most.
fn connection_id() -> ConnectionId {
    ConnectionId::new_unchecked(0)
}

fn unreachable(address: Multiaddr) -> NetworkError {
    NetworkError::Dial { address, source: "no such node, or a partition in between".into() }
}

/// Sleeps until an instant, which may be past; indefinitely without one.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for SimService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimService")
            .field("local", &self.local)
            .field("peers", &self.peers.connected().count())
            .finish_non_exhaustive()
    }
}
