//! One node of the simulated network: what the service of a real one does, without a swarm.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId, gossipsub::MessageId};
use preconfirmation_types::{
    Bytes, Container as _, GetCommitmentsByNumber, GetHead, GetRawTxList, Offence, PreconfHead, Rpc, Topic,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    address, addressee, now,
    requests::{Asked, Finish, ask, asked},
    wire::{Arrival, Frame, Hub},
};
use crate::{
    bans::{Ban, Bans},
    config::{NetworkConfig, after},
    error::{NetworkError, PublishError, RequestError},
    event::{NetworkEvent, NetworkEvents, Open, Ready, Session, Settlement, Verdict, VerdictToken},
    gossip::{self, gossip_id, id_on},
    handle::{Command, NetworkHandle, PeerInfo, Published},
    inbound::ANSWER_WITHIN,
    inbox::{self, Lane},
    metrics,
    outbox::{Attempt, Outbox, State},
    rate_limiter::{OutboundRateLimiter, Outcome, Start},
    relays::Relays,
    rpc::{Ask, Outgoing, Served},
    score::{Scores, Standing},
    suspicion::Suspicion,
    verdicts::{GivenUp, Opened, Received, Verdicts},
};

/// Between two looks at scores and bans.
const TICK: Duration = Duration::from_secs(1);

/// Most frames taken from the wire before their time. What is behind them stays on the wire.
const TRAVELLING: usize = 64 * 1024;

/// A message that may still be forwarded.
struct Remembered {
    until: Instant,
    ssz: Bytes,
    author: PeerId,
    /// Who else has sent it.
    carriers: BTreeSet<PeerId>,
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
    config: NetworkConfig,
    local: PeerId,
    hub: Arc<Hub>,
    start: Instant,
    inbox: mpsc::Receiver<Arrival>,
    travelling: BinaryHeap<Arrival>,

    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<(PeerId, Offence)>,
    shutdown: Arc<Notify>,
    gossip: inbox::Sender,
    requests: mpsc::Sender<NetworkEvent>,
    verdicts: Verdicts,
    relays: Relays,
    suspicion: Suspicion,
    suspected: watch::Sender<bool>,
    settlements: mpsc::Sender<Settlement>,
    settled: mpsc::Receiver<Settlement>,
    ready: watch::Sender<Ready>,
    sessions: u64,
    /// Held so that the handle's end of it stays open.
    _listening: watch::Sender<Option<Vec<Multiaddr>>>,

    /// Since when each is connected.
    peers: BTreeMap<PeerId, Instant>,
    dials: HashMap<PeerId, Vec<oneshot::Sender<Result<(), NetworkError>>>>,
    scores: Scores,
    bans: Bans,
    /// When each message was first seen.
    seen: HashMap<MessageId, Instant>,
    remembered: HashMap<MessageId, Remembered>,
    outbox: Outbox,
    limiter: OutboundRateLimiter<Outgoing>,
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
        let (gossip, gossip_receiver) = inbox::inbox();
        let (requests, requests_receiver) = mpsc::channel(queues.request_events.get());
        let (settlements, settled) = mpsc::channel(queues.open_verdicts.get());
        let (ready, ready_receiver) = watch::channel(Ready::new());
        let (_listening, listening) = watch::channel(Some(vec![address(local)]));
        let shutdown = Arc::new(Notify::new());
        let (suspects, suspected) = watch::channel(false);
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
            gossip,
            requests,
            verdicts: Verdicts::new(&config, TICK),
            relays: Relays::new(config.gossip.unelected_per_minute),
            suspicion: Suspicion::default(),
            suspected: suspects,
            settlements,
            settled,
            ready,
            sessions: 0,
            _listening,
            peers: BTreeMap::new(),
            dials: HashMap::new(),
            scores: Scores::new(config.score),
            bans: Bans::new(config.score.max_bans),
            seen: HashMap::new(),
            remembered: HashMap::new(),
            outbox: Outbox::new(config.gossip.outbox),
            limiter: OutboundRateLimiter::new(config.pacing, config.rate_limits.clone(), start, now()),
            unanswered: BTreeMap::new(),
            asked: 0,
            answering: FuturesUnordered::new(),
            head: PreconfHead::default(),
            config,
        };
        let handle =
            NetworkHandle { local, commands, reports, listening, record, suspected, duplicate, shutdown };
        (handle, NetworkEvents::new(ready_receiver, gossip_receiver, requests_receiver), service)
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
            let allowed = self.limiter.next_allowed(now());
            tokio::select! {
                // In a fixed order, so that a run can be repeated.
                biased;
                () = &mut shutdown => break,
                Some(settlement) = self.settled.recv() => self.settle(settlement),
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
            Command::Unban { peer, reply } => drop(reply.send(self.unban(peer))),
            Command::Peers { reply } => drop(reply.send(self.statuses())),
        }
    }

    // Connections.

    fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        match addressee(&address) {
            Some(peer) if self.peers.contains_key(&peer) => drop(reply.send(Ok(()))),
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
            _ if !self.peers.contains_key(&from) => {}
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
        if self.bans.iter().any(|(banned, _)| *banned == peer) {
            self.hub.disconnect(self.local, peer);
            return;
        }
        self.peers.insert(peer, now());
        self.sessions += 1;
        let session = Session { number: self.sessions, rate_limit: self.limiter.known_limit(&peer) };
        self.ready.send_if_modified(|ready| ready.insert(peer, session) != Some(session));
        for reply in self.dials.remove(&peer).unwrap_or_default() {
            drop(reply.send(Ok(())));
        }
        self.send_kept();
    }

    fn disconnected(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        self.scores.left(&peer);
        self.ready.send_if_modified(|ready| ready.remove(&peer).is_some());
        for reply in self.dials.remove(&peer).unwrap_or_default() {
            drop(reply.send(Err(unreachable(address(peer)))));
        }
        for outgoing in self.limiter.gone(&peer, now()) {
            outgoing.fail(RequestError::Disconnected);
        }
        let own = self.unanswered.iter().filter(|(_, of)| of.peer == peer);
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(unanswered) = self.unanswered.remove(&id) {
                self.finish(unanswered, Err(RequestError::Disconnected));
            }
        }
    }

    // Gossip.

    fn publish(&mut self, topic: Topic, ssz: Bytes) -> Result<Published, PublishError> {
        let (limit, actual) = (gossip::limit(topic, self.config.max_txlist_bytes), ssz.len());
        if actual > limit {
            return Err(PublishError::TooLarge { limit, actual });
        }
        gossip::decode(topic, ssz.clone(), self.config.max_txlist_bytes)
            .map_err(|malformed| malformed.error)?;
        let id = MessageId::new(&gossip_id(&ssz));
        if self.outbox.contains(topic, &ssz) || self.seen.contains_key(&id) {
            return Ok(Published::Duplicate);
        }
        let peers = self.send_gossip(&[], topic, &ssz, self.local);
        if peers > 0 {
            self.seen.insert(id, now());
            return Ok(Published::Sent { peers });
        }
        self.outbox.keep(topic, ssz, State::Unheard, now())?;
        Ok(Published::Queued)
    }

    /// Sends what is kept, now that somebody may be there.
    fn send_kept(&mut self) {
        // Out of `self` for as long as each message is tried; that reads nothing of it.
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new(self.config.gossip.outbox));
        outbox.retry(&Topic::ALL, |kept| {
            if self.send_gossip(&[], kept.topic, &kept.ssz, self.local) == 0 {
                return Attempt::Waits;
            }
            self.seen.insert(MessageId::new(&gossip_id(&kept.ssz)), now());
            Attempt::Sent
        });
        self.outbox = outbox;
    }

    /// Sends a message to all peers that may be sent one, and says how many they are.
    fn send_gossip(&self, but: &[PeerId], topic: Topic, ssz: &Bytes, author: PeerId) -> usize {
        let (now, least) = (now(), self.config.score.publish_threshold);
        let may = |peer: &&PeerId| !but.contains(peer) && self.scores.mirrored(peer, now) >= least;
        let frame = Frame::Gossip { topic, ssz: ssz.clone(), author };
        self.peers.keys().filter(may).inspect(|peer| self.hub.send(self.local, **peer, &frame)).count()
    }

    fn received(&mut self, from: PeerId, topic: Topic, ssz: Bytes, author: PeerId) {
        let now = now();
        let id = MessageId::new(&id_on(topic, &ssz));
        if self.scores.mirrored(&from, now) < self.config.score.graylist_threshold || author == self.local {
            return;
        }
        if self.seen.contains_key(&id) {
            if let Some(message) = self.remembered.get_mut(&id) {
                message.carriers.insert(from);
            }
            return;
        }
        let bytes = ssz.len();
        let (message, twin_of) = match gossip::read(topic, ssz.clone(), self.config.max_txlist_bytes) {
            Ok(read) => read,
            Err(malformed) => {
                metrics::received(topic, malformed.offence().label());
                self.scores.invalid_delivery(from, now);
                return self.charge(from, malformed.offence());
            }
        };
        self.seen.insert(id.clone(), now);
        let gossip = self.config.gossip;
        let history = u32::try_from(gossip.history.get()).unwrap_or(u32::MAX);
        let until = after(now, gossip.heartbeat.saturating_mul(history));
        self.remembered.insert(id.clone(), Remembered { until, ssz, author, carriers: BTreeSet::new() });
        let is_twin = twin_of.is_some();
        let received = Received { id, from, author: Some(author), topic, bytes, twin_of };
        let (opened, given_up) = self.verdicts.open(received.clone(), now);
        for GivenUp { key, received } in given_up {
            drop(self.gossip.take(key));
            if let Some(received) = received {
                self.drop_message(&received);
            }
        }
        match opened {
            Opened::Ask(key) => {
                let open = Open { key, from, by_author: author == from, is_twin };
                let verdict = VerdictToken::new(open, self.settlements.clone());
                let lane = if self.relays.is_over(&from, now) { Lane::Last } else { Lane::First };
                self.gossip.push(key, lane, NetworkEvent::Gossip { from, message, verdict });
            }
            Opened::Judged(verdict) => self.apply(&received, verdict),
            Opened::WaitsForTwin => {}
            Opened::Refused => self.drop_message(&received),
        }
    }

    fn drop_message(&mut self, received: &Received) {
        self.remembered.remove(&received.id);
        metrics::received(received.topic, "dropped");
    }

    fn settle(&mut self, Settlement { open, verdict }: Settlement) {
        let settled = self.verdicts.settle(open.key, verdict, now());
        if settled.is_empty() && !open.is_twin {
            self.score(open.from, open.by_author, verdict);
        }
        for received in settled {
            self.apply(&received, verdict);
        }
    }

    fn apply(&mut self, received: &Received, verdict: Verdict) {
        let Received { id, from, topic, twin_of, .. } = received;
        let message = self.remembered.remove(id).filter(|message| now() < message.until);
        metrics::received(*topic, if message.is_some() { verdict.label() } else { "late" });
        if twin_of.is_none() {
            match (verdict, message) {
                (Verdict::Accept | Verdict::Forward, Some(Remembered { ssz, author, .. })) => {
                    self.send_gossip(&[*from, author], *topic, &ssz, author);
                }
                (Verdict::Reject(_), Some(Remembered { mut carriers, .. })) => {
                    carriers.insert(*from);
                    for peer in carriers {
                        self.scores.invalid_delivery(peer, now());
                    }
                }
                _ => {}
            }
            self.score(*from, received.author == Some(*from), verdict);
        }
        if (*topic, verdict) == (Topic::Commitments, Verdict::Accept) {
            self.suspicion.accepted();
            self.tell_suspicion();
        }
    }

    fn score(&mut self, from: PeerId, by_author: bool, verdict: Verdict) {
        match verdict {
            Verdict::Accept => drop(self.scores.accepted(from, now())),
            Verdict::Forward | Verdict::Ignore => {}
            Verdict::Reject(offence) => self.charge(from, offence),
            Verdict::RejectAuthor(offence) if by_author && self.may_charge(from) => {
                metrics::offence(offence);
                self.scores.author_offence(from, offence, now());
            }
            Verdict::RejectAuthor(_) => self.relays.passed_on(from, now()),
        }
    }

    fn may_charge(&mut self, peer: PeerId) -> bool {
        let may = self.suspicion.offended(peer, now());
        self.tell_suspicion();
        may
    }

    fn tell_suspicion(&self) {
        let suspected = self.suspicion.is_suspected();
        self.suspected.send_if_modified(|told| std::mem::replace(told, suspected) != suspected);
    }

    fn report(&mut self, peer: PeerId, offence: Offence) {
        if offence != Offence::WrongSigner || self.may_charge(peer) {
            self.charge(peer, offence);
        }
    }

    // Requests.

    fn request(&mut self, outgoing: Outgoing) {
        let (peer, protocol) = (outgoing.peer(), outgoing.protocol());
        if !self.peers.contains_key(&peer) {
            outgoing.fail(RequestError::NotConnected { peer });
        } else if let Err(outgoing) = self.limiter.push((peer, protocol), outgoing) {
            outgoing.fail(RequestError::QueueFull { limit: self.config.pacing.waiting.get() });
        } else {
            self.send_requests();
        }
    }

    fn send_requests(&mut self) {
        while let Some(outgoing) = self.limiter.pop(now(), Outgoing::is_wanted) {
            match outgoing {
                Outgoing::Head(ask) => self.send_request(ask),
                Outgoing::Commitments(ask) => self.send_request(ask),
                Outgoing::TxList(ask) => self.send_request(ask),
            }
        }
    }

    fn send_request<R: Served>(&mut self, request: Ask<R>) {
        let peer = request.peer;
        let (ssz, finish) = ask(request);
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
        self.limiter.done((unanswered.peer, unanswered.protocol), outcome, now());
        if let Some(offence) = (unanswered.finish)(answer) {
            self.charge(unanswered.peer, offence);
        }
    }

    /// Whatever becomes of a request, it is answered: by the application, or without it if that takes too long.
    fn asked_by(&mut self, from: PeerId, id: u64, protocol: &'static str, ssz: &Bytes) {
        let asked = match protocol {
            GetHead::NAME => asked::<GetHead>(ssz, self.head),
            GetCommitmentsByNumber::NAME => asked::<GetCommitmentsByNumber>(ssz, self.head),
            _ => asked::<GetRawTxList>(ssz, self.head),
        };
        let Some(Asked { request, answer, fallback }) = asked else {
            return self.charge(from, Offence::Malformed);
        };
        if self.answering.len() < self.config.serving.in_work.get()
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

    fn charge(&mut self, peer: PeerId, offence: Offence) {
        metrics::offence(offence);
        self.scores.offence(peer, offence, now());
    }

    fn unban(&mut self, peer: PeerId) -> bool {
        let banned = self.bans.remove(&peer);
        if banned {
            self.scores.forgive(&peer);
        }
        banned
    }

    /// Lets time pass: bans begin and end, what is over is forgotten.
    fn tick(&mut self) {
        let now = now();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let score = self.scores.of(&peer, now);
            if self.scores.observe(peer, score, now) == Standing::Banned {
                let until = after(now, self.config.score.ban_for);
                let ban = Ban { until, address: address(peer), agent: None };
                let _freed = self.bans.add(peer, ban);
                self.hub.disconnect(self.local, peer);
            }
        }
        let _over = self.bans.expired(now);
        self.scores.prune(now);
        self.limiter.prune(now);
        for received in self.verdicts.expired(now, |key| self.gossip.contains(key)) {
            self.remembered.remove(&received.id);
            metrics::received(received.topic, "late");
        }
        self.relays.prune(now);
        self.suspicion.expire(now);
        self.tell_suspicion();
        let _stale = self.outbox.stale(now);
        self.remembered.retain(|_, message| now < message.until);
        let cache = self.config.gossip.duplicate_cache;
        self.seen.retain(|_, at| now.saturating_duration_since(*at) < cache);
    }

    fn statuses(&self) -> Vec<PeerInfo> {
        let now = now();
        let status = |peer: &PeerId, since: Option<Instant>, banned_for| {
            let (score, application_score) = (self.scores.mirrored(peer, now), self.scores.of(peer, now));
            PeerInfo {
                peer: *peer,
                addresses: vec![address(*peer)],
                agent: None,
                inbound: false,
                protocols: Vec::new(),
                topics: since.map_or_else(Vec::new, |_| Topic::ALL.to_vec()),
                round_trip: since.map(|_| self.hub.round_trip(self.local, *peer)),
                rate_limit: self.limiter.known_limit(peer),
                score,
                application_score,
                protected: false,
                ready: since.is_some(),
                connected_for: since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
                banned_for,
            }
        };
        let connected = self.peers.iter().map(|(peer, since)| status(peer, Some(*since), None));
        let banned = self.bans.iter().filter(|(peer, _)| !self.peers.contains_key(peer));
        let banned =
            banned.map(|(peer, ban)| status(peer, None, Some(ban.until.saturating_duration_since(now))));
        connected.chain(banned).collect()
    }
}

fn unreachable(address: Multiaddr) -> NetworkError {
    NetworkError::Dial { address, source: "no such node, or a partition in between".into() }
}

/// Sleeps until an instant, which may be past; for ever without one.
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
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}
