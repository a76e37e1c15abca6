//! A double of the deployed peers, as far as requests go, and of what they hold against others (feature `test-utils`).
//!
//! It answers eight requests in a tumbling window of ten seconds for each peer and protocol and closes the stream of the
//! ninth without a byte; it asks its peers for head, page and list as long as it is connected; it never closes a
//! connection. It counts what the line of July 2026 bans for at once, and bans nobody:
//!
//! - a ninth request in a window;
//! - a request of its own that fails in any way: no answer, a stream closed without a byte or reset, a time-out, a
//!   protocol that is not offered, a connection closed while it is pending;
//! - an answer that it could not finish, because the stream was reset or the connection closed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    noise, ping,
    request_response::{self, InboundFailure, InboundRequestId, Message, ProtocolSupport, ResponseChannel},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_types::{
    B256, Bytes, FrameError, GetCommitmentsByNumber, GetCommitmentsByNumberRequest,
    GetCommitmentsByNumberResponse, GetHead, GetHeadRequest, GetRawTxList, GetRawTxListRequest,
    GetRawTxListResponse, PreconfHead, Rpc, SignedCommitment, Topic, U256,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    behaviour::protocol,
    codec::{Response, SszCodec},
    config::after,
    error::NetworkError,
};

/// Requests that are answered in a window.
const REQUESTS: usize = 8;

/// The tumbling window.
const WINDOW: Duration = Duration::from_secs(10);

/// How long it waits for an answer, and takes to give one.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at what is to be answered or asked.
const STEP: Duration = Duration::from_millis(20);

/// What is held against a peer. Each of them is a ban for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Punishments {
    /// Requests above the limit of a window.
    pub excess_requests: u64,
    /// Requests of the double that failed.
    pub failed_requests: u64,
    /// Answers of the double that it could not finish.
    pub unfinished_answers: u64,
}

/// What has happened with all peers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// When the window of a peer and protocol began, and how many requests it has had.
    windows: HashMap<(PeerId, &'static str), (Instant, usize)>,
    pub(crate) punishments: HashMap<PeerId, Punishments>,
    served: u64,
    answered: u64,
    last_failure: Option<String>,
}

impl Ledger {
    /// A peer asks. Whether it is within its limit.
    pub(crate) fn asked(&mut self, peer: PeerId, protocol: &'static str, now: Instant) -> bool {
        let (began, requests) = self.windows.entry((peer, protocol)).or_insert((now, 0));
        if now.saturating_duration_since(*began) >= WINDOW {
            (*began, *requests) = (now, 0);
        }
        *requests += 1;
        let allowed = *requests <= REQUESTS;
        if allowed {
            self.served += 1;
        } else {
            self.of(peer).excess_requests += 1;
        }
        allowed
    }

    fn of(&mut self, peer: PeerId) -> &mut Punishments {
        self.punishments.entry(peer).or_default()
    }
}

/// What the double has and does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeployedPeerConfig {
    /// Part of every protocol id.
    pub chain_id: u64,
    /// Who it is.
    pub identity: Keypair,
    /// What it serves, by height.
    pub commitments: BTreeMap<u64, SignedCommitment>,
    /// The lists that it serves.
    pub txlists: HashMap<B256, Bytes>,
    /// How long it takes to answer.
    pub answer_after: Duration,
    /// Between two requests of its own to each peer and protocol; none asks nothing.
    pub ask_every: Option<Duration>,
    /// How many of these at once.
    pub burst: usize,
}

impl DeployedPeerConfig {
    /// Has nothing, answers at once, asks once a second.
    #[must_use]
    pub fn new(chain_id: u64, identity: Keypair) -> Self {
        Self {
            chain_id,
            identity,
            commitments: BTreeMap::new(),
            txlists: HashMap::new(),
            answer_after: Duration::ZERO,
            ask_every: Some(Duration::from_secs(1)),
            burst: 1,
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    head: request_response::Behaviour<SszCodec<GetHead>>,
    commitments: request_response::Behaviour<SszCodec<GetCommitmentsByNumber>>,
    txlist: request_response::Behaviour<SszCodec<GetRawTxList>>,
}

type Answering = Box<dyn FnOnce(&mut Behaviour) + Send>;

/// A protocol as the double speaks it.
trait Spoken: Rpc + Sized {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>>;
    fn answer(config: &DeployedPeerConfig, request: &Self::Request) -> Self::Response;
}

impl Spoken for GetHead {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.head
    }

    fn answer(config: &DeployedPeerConfig, _: &GetHeadRequest) -> PreconfHead {
        let last = config.commitments.last_key_value().map(|(_, signed)| signed.preconf());
        last.map_or_else(PreconfHead::default, |preconf| PreconfHead {
            block_number: preconf.block_number,
            submission_window_end: preconf.submission_window_end,
        })
    }
}

impl Spoken for GetCommitmentsByNumber {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.commitments
    }

    /// The next commitments at or above the start, with whatever gaps there are.
    fn answer(
        config: &DeployedPeerConfig,
        request: &GetCommitmentsByNumberRequest,
    ) -> GetCommitmentsByNumberResponse {
        let count = usize::try_from(request.max_count).unwrap_or(usize::MAX).min(256);
        let from = u64::try_from(request.start_block_number).unwrap_or(u64::MAX);
        let page = config.commitments.range(from..).take(count).map(|(_, signed)| signed.clone());
        GetCommitmentsByNumberResponse::new(page.collect()).unwrap_or_default()
    }
}

impl Spoken for GetRawTxList {
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<SszCodec<Self>> {
        &mut behaviour.txlist
    }

    fn answer(config: &DeployedPeerConfig, request: &GetRawTxListRequest) -> GetRawTxListResponse {
        let raw_tx_list_hash = request.raw_tx_list_hash;
        let txlist = config.txlists.get(&raw_tx_list_hash).cloned().unwrap_or_default();
        GetRawTxListResponse { raw_tx_list_hash, txlist }
    }
}

/// The double, over TCP on the loopback interface. Ends when it is dropped.
#[derive(Debug)]
pub struct DeployedPeer {
    id: PeerId,
    ledger: Arc<Mutex<Ledger>>,
    address: watch::Receiver<Option<Multiaddr>>,
    running: JoinHandle<()>,
}

impl Drop for DeployedPeer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl DeployedPeer {
    /// Starts it on a free port. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`NetworkError::Stack`].
    pub fn start(config: DeployedPeerConfig) -> Result<Self, NetworkError> {
        let mut swarm = swarm(&config)?;
        let loopback = "/ip4/127.0.0.1/tcp/0".parse::<Multiaddr>().map_err(stack)?;
        swarm.listen_on(loopback).map_err(stack)?;
        let (ledger, id) = (Arc::<Mutex<Ledger>>::default(), *swarm.local_peer_id());
        let (listens, address) = watch::channel(None);
        let double = Double {
            config,
            swarm,
            ledger: Arc::clone(&ledger),
            delayed: VecDeque::new(),
            dropped: Vec::new(),
            ask_at: Instant::now(),
        };
        Ok(Self { id, ledger, address, running: tokio::spawn(double.run(listens)) })
    }

    /// Who it is.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.id
    }

    /// Where it listens, once it does; none if it has ended.
    pub async fn address(&self) -> Option<Multiaddr> {
        let mut address = self.address.clone();
        address.wait_for(Option::is_some).await.ok().and_then(|address| address.clone())
    }

    /// What it holds against each peer; nothing against those that are not there.
    #[must_use]
    pub fn punishments(&self) -> HashMap<PeerId, Punishments> {
        self.ledger().punishments.clone()
    }

    /// What the last thing was that failed, for a human.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.ledger().last_failure.clone()
    }

    /// How many requests of others it has answered, and how many of its own have been answered.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let ledger = self.ledger();
        (ledger.served, ledger.answered)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stack(error: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Stack(error.into())
}

fn swarm(config: &DeployedPeerConfig) -> Result<Swarm<Behaviour>, NetworkError> {
    let identity = config.identity.clone();
    let gossip = gossipsub::ConfigBuilder::default().build().map_err(stack)?;
    let mut gossip: gossipsub::Behaviour =
        gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(identity.clone()), gossip)
            .map_err(|error| NetworkError::Stack(error.into()))?;
    for topic in Topic::ALL {
        gossip.subscribe(&gossipsub::IdentTopic::new(topic.on_chain(config.chain_id))).map_err(stack)?;
    }
    let behaviour = Behaviour {
        gossip,
        identify: identify::Behaviour::new(identify::Config::new(
            "preconf-p2p/0.1".to_owned(),
            identity.public(),
        )),
        ping: ping::Behaviour::default(),
        head: rpc::<GetHead>(config)?,
        commitments: rpc::<GetCommitmentsByNumber>(config)?,
        txlist: rpc::<GetRawTxList>(config)?,
    };
    Ok(SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(stack)?
        .with_behaviour(|_| behaviour)
        .map_err(stack)?
        .build())
}

fn rpc<R: Rpc>(
    config: &DeployedPeerConfig,
) -> Result<request_response::Behaviour<SszCodec<R>>, NetworkError> {
    let protocols = [(protocol::<R>(config.chain_id)?, ProtocolSupport::Full)];
    let parameters = request_response::Config::default().with_request_timeout(TIMEOUT);
    Ok(request_response::Behaviour::with_codec(SszCodec::new(), protocols, parameters))
}

struct Double {
    config: DeployedPeerConfig,
    swarm: Swarm<Behaviour>,
    ledger: Arc<Mutex<Ledger>>,
    /// Answers that are to be given, each with its time.
    delayed: VecDeque<(Instant, Answering)>,
    /// Requests whose streams it has closed itself.
    dropped: Vec<(&'static str, InboundRequestId)>,
    ask_at: Instant,
}

impl Double {
    async fn run(mut self, listens: watch::Sender<Option<Multiaddr>>) {
        let mut step = tokio::time::interval(STEP);
        loop {
            let event = tokio::select! {
                event = self.swarm.select_next_some() => event,
                _ = step.tick() => {
                    self.step(Instant::now());
                    continue;
                }
            };
            match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    let id = *self.swarm.local_peer_id();
                    listens.send_replace(address.with_p2p(id).ok());
                }
                SwarmEvent::Behaviour(BehaviourEvent::Head(event)) => self.event::<GetHead>(event),
                SwarmEvent::Behaviour(BehaviourEvent::Commitments(event)) => {
                    self.event::<GetCommitmentsByNumber>(event)
                }
                SwarmEvent::Behaviour(BehaviourEvent::Txlist(event)) => self.event::<GetRawTxList>(event),
                _ => {}
            }
        }
    }

    fn step(&mut self, now: Instant) {
        while self.delayed.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, answer)) = self.delayed.pop_front() {
                answer(self.swarm.behaviour_mut());
            }
        }
        let Some(every) = self.config.ask_every.filter(|_| self.ask_at <= now) else { return };
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        if peers.is_empty() {
            return;
        }
        self.ask_at = after(now, every);
        let from = self.config.commitments.keys().next().copied().unwrap_or_default();
        let page = GetCommitmentsByNumberRequest { start_block_number: U256::from(from), max_count: 256 };
        let list = GetRawTxListRequest {
            raw_tx_list_hash: self.config.txlists.keys().next().copied().unwrap_or_default(),
        };
        for peer in peers {
            for _ in 0..self.config.burst {
                let behaviour = self.swarm.behaviour_mut();
                behaviour.head.send_request(&peer, Ok(GetHeadRequest {}));
                behaviour.commitments.send_request(&peer, Ok(page));
                behaviour.txlist.send_request(&peer, Ok(list));
            }
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event<R: Spoken>(
        &mut self,
        event: request_response::Event<Result<R::Request, FrameError>, Response<R::Response>>,
    ) {
        use request_response::Event;
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                let now = Instant::now();
                let allowed = self.ledger().asked(peer, R::NAME, now);
                match request.ok().filter(|_| allowed) {
                    Some(request) => {
                        let answer = R::answer(&self.config, &request);
                        self.delayed.push_back((
                            after(now, self.config.answer_after),
                            Box::new(move |behaviour| send::<R>(behaviour, channel, answer)),
                        ));
                    }
                    // The stream closes without a byte.
                    None => self.dropped.push((R::NAME, request_id)),
                }
            }
            Event::Message { message: Message::Response { .. }, .. } => self.ledger().answered += 1,
            Event::OutboundFailure { peer, error, .. } => {
                let mut ledger = self.ledger();
                ledger.of(peer).failed_requests += 1;
                ledger.last_failure = Some(format!("{}: {error}", R::NAME));
            }
            Event::InboundFailure { peer, request_id, error, .. } => {
                let dropped = self.dropped.iter().position(|of| *of == (R::NAME, request_id));
                if let Some(index) = dropped {
                    self.dropped.swap_remove(index);
                } else if !matches!(error, InboundFailure::ResponseOmission) {
                    let mut ledger = self.ledger();
                    ledger.of(peer).unfinished_answers += 1;
                    ledger.last_failure = Some(format!("answering {}: {error}", R::NAME));
                }
            }
            Event::ResponseSent { .. } => {}
        }
    }
}

fn send<R: Spoken>(
    behaviour: &mut Behaviour,
    channel: ResponseChannel<Response<R::Response>>,
    answer: R::Response,
) {
    // Where the stream has gone, a failure says so.
    let _sent = R::behaviour(behaviour).send_response(channel, Response::new(answer).0).is_ok();
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::*;
    use crate::{
        config::{NetworkConfig, ServingConfig},
        inbound::{Asker, InboundRequests, Kind},
        ip::Host,
        peer_manager::{Connection, Outcome, PeerManager, Start},
        request_queue::RequestQueue,
    };

    const PROTOCOLS: [&str; 3] = [GetHead::NAME, GetCommitmentsByNumber::NAME, GetRawTxList::NAME];
    const TICK: Duration = Duration::from_millis(20);

    /// One node beside the double, as far as it decides when to ask, to answer and to close. No clock, no sockets.
    struct Node {
        now: Instant,
        peer: PeerId,
        peers: PeerManager,
        queue: RequestQueue<&'static str>,
        /// Requests of the node, each with the time when its answer comes.
        ours: Vec<(Instant, &'static str)>,
        inbound: InboundRequests<u32>,
        /// Requests of the double, each with the time when it came.
        theirs: HashMap<u32, Instant>,
        /// When the application answers, if ever.
        served: Vec<(Instant, u32)>,
        next: u32,
        slowest: Duration,
    }

    impl Node {
        fn new(start: Start, now: Instant, peer: PeerId) -> Self {
            let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
            (config.peers.low, config.peers.high) = (0, 0);
            let mut node = Self {
                now,
                peer,
                peers: PeerManager::new(&config, start, now),
                queue: RequestQueue::new(config.pacing.waiting),
                ours: Vec::new(),
                inbound: InboundRequests::new(&ServingConfig::default()),
                theirs: HashMap::new(),
                served: Vec::new(),
                next: 0,
                slowest: Duration::ZERO,
            };
            node.connect(now);
            node
        }

        fn connect(&mut self, now: Instant) {
            let (id, address) = (ConnectionId::new_unchecked(1), Multiaddr::empty());
            self.peers.on_connected(self.peer, Connection { id, address, inbound: true }, now);
        }

        fn disconnect(&mut self) {
            let id = ConnectionId::new_unchecked(1);
            assert!(self.peers.on_disconnected(&self.peer, id, 0, self.now).is_some());
            self.queue.remove(&self.peer);
        }

        fn begin(&mut self) {
            self.peers.connection_mut(&self.peer).unwrap().in_flight.begin(self.now);
        }

        fn end(&mut self) {
            self.peers.connection_mut(&self.peer).unwrap().in_flight.end(self.now);
        }

        fn answered(&mut self, key: u32) {
            if let Some(came) = self.theirs.remove(&key) {
                self.slowest = self.slowest.max(self.now - came);
                self.end();
            }
            self.inbound.remove(key);
        }

        fn asked(&mut self, kind: Kind) {
            let asker = Asker { peer: self.peer, host: Host::or_unknown(None) };
            self.next += 1;
            self.theirs.insert(self.next, self.now);
            self.peers.connection_mut(&self.peer).unwrap().in_flight.begin_inbound(self.now);
            if let Some(busy) = self.inbound.push(self.next, asker, kind, self.now) {
                self.answered(busy);
            }
        }

        /// What happens at this time, while the node asks as fast as it may.
        fn step(&mut self, ledger: &mut Ledger, rng: &mut fastrand::Rng, asks: bool) {
            let now = self.now;
            for protocol in PROTOCOLS.iter().filter(|_| asks && rng.u8(..8) == 0) {
                let _full = self.queue.push((self.peer, protocol), protocol).is_err();
            }
            while asks && let Some(protocol) = self.queue.pop(&mut self.peers, now, |_| true) {
                // On its way for up to a fifth of a second.
                let arrives = now + Duration::from_millis(rng.u64(..200));
                assert!(ledger.asked(self.peer, protocol, arrives), "a ninth request at {now:?}");
                self.begin();
                self.ours.push((arrives + Duration::from_millis(rng.u64(..9800)), protocol));
            }
            let ended: Vec<_> = self.ours.extract_if(.., |(at, _)| *at <= now).collect();
            for (_, protocol) in ended {
                self.peers.on_request_done(&(self.peer, protocol), Outcome::Answered(TICK), now);
                self.end();
            }
            let served: Vec<_> = self.served.extract_if(.., |(at, _)| *at <= now).collect();
            served.into_iter().for_each(|(_, key)| self.answered(key));
            while let Some(next) = self.inbound.next(now) {
                // Sometimes the application forgets about it.
                if rng.u8(..20) > 0 {
                    self.served.push((now + Duration::from_millis(rng.u64(..7000)), next.serve));
                }
            }
        }

        /// What happens once a second. Whether the double is to be disconnected for the watermarks.
        fn tick(&mut self) -> bool {
            self.inbound.overdue(self.now).into_iter().for_each(|key| self.answered(key));
            self.peers.prune(self.now);
            !self.peers.prune_candidates(|_| 0.0, self.now).is_empty()
        }

        fn is_idle(&self) -> bool {
            self.ours.is_empty() && self.theirs.is_empty()
        }
    }

    /// Syncing, serving, being pruned, restarting and shutting down beside the double: an hour for each of some seeds.
    #[test]
    fn an_hour_beside_deployed_peers_earns_no_punishment() {
        for seed in 0..2 {
            let (mut rng, start) = (fastrand::Rng::with_seed(seed), Instant::now());
            let (mut ledger, peer) = (Ledger::default(), PeerId::random());
            let mut node = Node::new(Start::First, start, peer);
            let (mut away_until, mut tick) = (start, start);
            let (mut ends, mut pruned, mut restarts) = (start + Duration::from_secs(97), 0, 0);
            while node.now < start + Duration::from_secs(3600) {
                node.now += TICK;
                let now = node.now;
                let (here, ending) = (now >= away_until, now >= ends);
                if here && !ending && rng.u16(..400) == 0 {
                    // All that it misses, at once.
                    for _ in 0..rng.u8(1..90) {
                        node.asked(if rng.bool() { Kind::List } else { Kind::Small });
                    }
                }
                // A request that comes when the node is ending is answered as all that are open.
                if ending {
                    let open = node.inbound.drain();
                    open.into_iter().for_each(|key| node.answered(key));
                }
                node.step(&mut ledger, &mut rng, here && !ending);
                if now >= tick {
                    tick = now + Duration::from_secs(1);
                    if node.tick() && here && !ending {
                        assert!(node.is_idle(), "pruned with a request in flight");
                        pruned += 1;
                        node.disconnect();
                        away_until = now + Duration::from_millis(rng.u64(..20_000));
                        node.connect(away_until);
                    }
                }
                if ending && node.peers.is_quiet(&peer, now) {
                    assert!(node.is_idle(), "ended with a request in flight");
                    restarts += 1;
                    let slowest = node.slowest;
                    node = Node::new(Start::Restart, now, peer);
                    node.slowest = slowest;
                    ends = now + Duration::from_secs(rng.u64(20..150));
                }
            }
            assert_eq!(ledger.punishments.get(&peer), None);
            println!(
                "seed {seed}: {} requests answered by the double, {restarts} restarts, pruned {pruned} times, its own \
                 answered within {:?}, none punished",
                ledger.served, node.slowest
            );
            assert!(node.slowest <= Duration::from_millis(7100), "{:?}", node.slowest);
            assert!(
                ledger.served > 2000 && restarts > 20 && pruned > 3,
                "{} {restarts} {pruned}",
                ledger.served
            );
        }
    }

    #[test]
    fn the_ninth_request_of_a_window_is_held_against_its_asker() {
        let (mut ledger, peer, now) = (Ledger::default(), PeerId::random(), Instant::now());
        let asked: Vec<_> = (0..10).map(|_| ledger.asked(peer, GetHead::NAME, now)).collect();
        assert_eq!(asked, [[true; 8].as_slice(), &[false; 2]].concat());
        assert!(ledger.asked(peer, GetRawTxList::NAME, now));
        assert!(ledger.asked(peer, GetHead::NAME, now + WINDOW));
        assert_eq!(ledger.punishments[&peer], Punishments { excess_requests: 2, ..Punishments::default() });
    }
}
