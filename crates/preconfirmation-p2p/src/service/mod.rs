//! The network service: the one task that owns the swarm. Nothing slow happens in it: signatures of gossip frames are checked
//! and frames decoded in the connections' tasks, messages are judged by the application.

mod addresses;
mod dials;
mod discovery;
mod files;
mod gossip;
mod operator;
mod peers;
mod requests;
mod shutdown;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
    swarm::{ConnectionId, SwarmEvent},
};
use preconfirmation_types::{GetCommitmentsByNumber, GetHead, GetRawTxList, Offence, Topic};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Interval, MissedTickBehavior},
};

use crate::{
    behaviour::{self, Behaviour, BehaviourEvent},
    config::NetworkConfig,
    discovery::Found,
    duplicate_identity::{DuplicateIdentity, DuplicateMonitor, OwnKey},
    error::{DiscoveryError, NetworkError},
    event::{NetworkEvent, NetworkEvents, Ready, Settlement},
    gossip::Topics,
    half_open::HalfOpen,
    handle::{Command, NetworkHandle, NetworkQueues},
    metrics,
    peer_manager::PeerManager,
    publish_queue::PublishQueue,
    responder::Answer,
    rpc::InboundKey,
    send_turns::SendTurns,
    serving::WritePermit,
    slow_reader::{OutboundQueue, SlowReaderMonitor},
    validation::{Outputs, Validation},
};
use addresses::Listener;
use dials::Dials;
use discovery::DiscoveryState;
use files::{Files, Saved};
use requests::Requests;

pub use discovery::first_enr;

/// Between two ticks: scores, bans, peers to dial and to disconnect.
const TICK: Duration = Duration::from_secs(1);

/// After so long without an error, accepting connections works again.
const OUTAGE_OVER: Duration = Duration::from_secs(60);

/// Builds networks.
#[derive(Debug, Clone, Copy)]
pub struct Network;

impl Network {
    /// Builds a node, reads its data directory and binds its sockets. Nothing moves until the service runs.
    /// Must be called inside a Tokio runtime; blocks on the disk for as long as two small files take.
    ///
    /// # Errors
    /// [`NetworkError::Config`] for settings that cannot work, [`NetworkError::Listen`] for an address that
    /// cannot be listened on, [`NetworkError::DataDir`], [`NetworkError::Discovery`],
    /// [`NetworkError::NoRuntime`], [`NetworkError::Stack`].
    #[allow(clippy::new_ret_no_self, reason = "a network is its three halves")]
    pub fn new(
        config: NetworkConfig,
    ) -> Result<(NetworkHandle, NetworkEvents, NetworkService), NetworkError> {
        config.check()?;
        tokio::runtime::Handle::try_current().map_err(NetworkError::NoRuntime)?;
        metrics::describe();

        let topics = Topics::new(config.chain_id);
        let slow_readers = SlowReaderMonitor::new(SendTurns::new(config.gossip.large_sends));
        let half_open = HalfOpen::new(config.connections);
        let local = config.identity.public().to_peer_id();
        let own_key = OwnKey::new(local);
        let swarm = behaviour::swarm(&config, &topics, &slow_readers, &half_open, &own_key)?;

        let queues = config.queues;
        let (commands, commands_receiver) = mpsc::channel(queues.commands.get());
        let (reports, reports_receiver) = mpsc::channel(queues.reports.get());
        let (request_events, requests_receiver) = mpsc::channel(queues.request_events.get());
        let (validation, Outputs { inbox, suspected }) = Validation::new(&config, TICK);
        let (ready, ready_receiver) = watch::channel(Ready::new());
        let (listening, listening_receiver) = watch::channel(None);
        let (enr, enr_receiver) = watch::channel(None);
        let shutdown = Arc::new(Notify::new());
        let now = Instant::now();
        let saved = Saved::load(&config)?;
        let requests = Requests::new(&config)?;
        let mut peers = PeerManager::new(&config, saved.start, now);
        peers.restore(saved.peers.clone(), now);
        let discovery = DiscoveryState::new(&config, &saved.peers, saved.enr, &mut peers, enr, now)?;
        let (duplicate, duplicate_receiver) = watch::channel(None);

        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut service = NetworkService {
            local,
            topics,
            protocols: [
                behaviour::protocol::<GetHead>(config.chain_id)?,
                behaviour::protocol::<GetCommitmentsByNumber>(config.chain_id)?,
                behaviour::protocol::<GetRawTxList>(config.chain_id)?,
            ],
            swarm,
            commands: commands_receiver,
            reports: reports_receiver,
            shutdown: Arc::clone(&shutdown),
            request_events,
            validation,
            ready,
            sessions: 0,
            listeners: Vec::new(),
            listening,
            half_open,
            peers,
            dials: Dials::default(),
            discovery,
            files: saved.files,
            duplicates: DuplicateMonitor::new(now, unix_nanos(), own_key),
            duplicate,
            publish_queue: PublishQueue::new(config.gossip.publish_queue),
            slow_readers,
            outbound_queue: OutboundQueue::new(config.gossip),
            leaving: HashMap::new(),
            given_up: HashMap::new(),
            accept_failed: None,
            drain: None,
            without_room: None,
            requests,
            tick,
            config,
        };
        for peer in service.peers.protected() {
            service.swarm.behaviour_mut().limits.protect(peer);
        }
        service.reserve_places();
        service.listen()?;
        let (listening, record, duplicate) = (listening_receiver, enr_receiver, duplicate_receiver);
        let handle =
            NetworkHandle { local, commands, reports, listening, record, suspected, duplicate, shutdown };
        let events = NetworkEvents::new(ready_receiver, inbox, requests_receiver);
        Ok((handle, events, service))
    }
}

/// The node itself: a future to be run once.
#[must_use = "a network does nothing until its service runs"]
pub struct NetworkService {
    config: NetworkConfig,
    local: PeerId,
    topics: Topics,
    protocols: [StreamProtocol; 3],
    swarm: Swarm<Behaviour>,

    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<(PeerId, Offence)>,
    shutdown: Arc<Notify>,

    request_events: mpsc::Sender<NetworkEvent>,
    validation: Validation,

    ready: watch::Sender<Ready>,
    sessions: u64,
    listeners: Vec<Listener>,
    listening: watch::Sender<Option<Vec<Multiaddr>>>,
    half_open: HalfOpen,

    peers: PeerManager,
    dials: Dials,
    discovery: DiscoveryState,
    files: Option<Files>,
    duplicates: DuplicateMonitor,
    duplicate: watch::Sender<Option<DuplicateIdentity>>,

    publish_queue: PublishQueue,
    slow_readers: SlowReaderMonitor,
    outbound_queue: OutboundQueue,
    /// Peers that the operator wants to be disconnected, once no request of theirs or ours is in flight, and at the latest when.
    leaving: HashMap<PeerId, Instant>,
    /// The connections that gossipsub's handlers have given up.
    given_up: HashMap<ConnectionId, PeerId>,
    /// When accepting a connection failed last.
    accept_failed: Option<Instant>,
    /// When to look whether there is room for what waits for it.
    drain: Option<Instant>,
    /// Since when half of a mesh has no room.
    without_room: Option<Instant>,
    requests: Requests,
    tick: Interval,
}

/// One thing for the service to do.
#[allow(clippy::large_enum_variant, reason = "moved once, and the largest is the most frequent")]
enum Input {
    Settled(Settlement),
    HeadAnswer(Answer<GetHead>),
    CommitmentsAnswer(Answer<GetCommitmentsByNumber>),
    TxListAnswer(Answer<GetRawTxList>),
    Paid(InboundKey, WritePermit),
    Report(PeerId, Offence),
    Command(Command),
    SendRequests,
    Redial,
    Drain,
    Discovered(Result<Found, DiscoveryError>),
    Tick,
    Swarm(SwarmEvent<BehaviourEvent>),
    /// All handles are gone.
    Abandoned,
}

impl NetworkService {
    /// Runs the node until [`NetworkHandle::shutdown`] is called or the last handle is dropped.
    ///
    /// # Errors
    /// [`NetworkError::ListenerClosed`] when a listener ends: a node that can no longer be reached as
    /// configured says so instead of going on.
    pub async fn run(mut self) -> Result<(), NetworkError> {
        let shutdown = Arc::clone(&self.shutdown);
        let shutdown = shutdown.notified();
        tokio::pin!(shutdown);
        let result = loop {
            // Shutdown first. Below it chance decides, so that no source starves another.
            let input = tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                input = self.input() => input,
            };
            match self.handle(input) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.end().await;
        result
    }

    /// Waits for the next input. Cancel-safe, as all its parts are.
    async fn input(&mut self) -> Input {
        let allowed = self.requests.queue.next_allowed(&self.peers, Instant::now());
        let redial = self.peers.static_peers.next_deadline();
        let drain = self.drain;
        let Self { validation, requests, reports, commands, tick, .. } = self;
        let Requests { protocols, throttle, .. } = requests;
        tokio::select! {
            settlement = validation.next() => Input::Settled(settlement),
            // The service holds senders of these, so they never end.
            Some(answer) = protocols.head.answered.recv() => Input::HeadAnswer(answer),
            Some(answer) = protocols.commitments.answered.recv() => Input::CommitmentsAnswer(answer),
            Some(answer) = protocols.txlist.answered.recv() => Input::TxListAnswer(answer),
            // Ends with the commands, which say so.
            Some((peer, offence)) = reports.recv() => Input::Report(peer, offence),
            command = commands.recv() => command.map_or(Input::Abandoned, Input::Command),
            _ = tick.tick() => Input::Tick,
            (paid, permit) = throttle.paid() => Input::Paid(paid, permit),
            () = until(allowed), if allowed.is_some() => Input::SendRequests,
            () = until(drain), if drain.is_some() => Input::Drain,
            () = until(redial), if redial.is_some() => Input::Redial,
            found = self.discovery.next() => Input::Discovered(found),
            event = self.swarm.select_next_some() => Input::Swarm(event),
        }
    }

    /// Does what an input asks. `false` ends the service.
    fn handle(&mut self, input: Input) -> Result<bool, NetworkError> {
        match input {
            Input::Settled(settlement) => self.settle(settlement),
            Input::HeadAnswer(answer) => self.answer(answer),
            Input::CommitmentsAnswer(answer) => self.answer(answer),
            Input::TxListAnswer(answer) => self.answer(answer),
            Input::Paid(paid, permit) => self.paid(paid, permit),
            Input::Report(peer, offence) => self.report(peer, offence),
            Input::Command(command) => self.command(command),
            Input::SendRequests => self.send_requests(),
            Input::Drain => self.retry(&Topic::ALL, Instant::now()),
            Input::Redial => self.dial_static(Instant::now()),
            Input::Discovered(Ok(found)) => self.on_discovered(found),
            Input::Discovered(Err(error)) => self.on_discovery_ended(&error, Instant::now()),
            Input::Tick => self.on_tick(),
            Input::Swarm(event) => self.swarm_event(event)?,
            Input::Abandoned => return Ok(false),
        }
        Ok(true)
    }

    fn command(&mut self, command: Command) {
        match command {
            // Whoever has stopped waiting for a reply does not get it.
            Command::Publish { topic, ssz, reply } => drop(reply.send(self.publish(topic, ssz))),
            Command::Request(outgoing) => self.request(outgoing),
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::Unban { peer, reply } => drop(reply.send(self.unban(peer))),
            Command::Peers { reply } => drop(reply.send(self.statuses())),
            Command::Operator { order, reply } => drop(reply.send(self.order(order, Instant::now()))),
            Command::Blocked { reply } => {
                drop(reply.send(self.swarm.behaviour().limits.blocked.entries()));
            }
            Command::StaticPeers { reply } => {
                drop(reply.send(self.peers.static_peers.infos(Instant::now())));
            }
            Command::Queues { reply } => drop(reply.send(self.queues())),
            Command::DiscoveryTable { reply } => self.discovery.table(reply),
        }
    }

    /// How much waits, as the gauges have it.
    fn queues(&self) -> NetworkQueues {
        NetworkQueues {
            publish_queue: self.publish_queue.len(),
            open_verdicts: self.validation.len(),
            pacing: self.requests.queue.waiting(),
            inbound_requests: self.requests.inbound.waiting(),
            answers: self.requests.throttle.waiting(),
        }
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) -> Result<(), NetworkError> {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, &endpoint)
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.disconnected(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.dial_failed(connection_id, error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "connection refused");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                self.listener(listener_id, |bound| bound.push(address));
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                tracing::info!(%address, "no longer listening");
                self.listener(listener_id, |bound| bound.retain(|of| *of != address));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(listener) = self.listeners.iter().find(|listener| listener.id == listener_id) {
                    return Err(NetworkError::ListenerClosed {
                        address: listener.address.clone(),
                        source: reason.err(),
                    });
                }
            }
            SwarmEvent::ListenerError { error, .. } => self.accept_failed(&error, Instant::now()),
            _ => {}
        }
        Ok(())
    }

    /// A connection could not be accepted. Where descriptors have run out that happens ten times a second, and is told
    /// once: when it begins, after a minute without.
    fn accept_failed(&mut self, error: &std::io::Error, now: Instant) {
        let last = self.accept_failed.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= OUTAGE_OVER) {
            tracing::warn!(%error, "connections cannot be accepted");
        } else {
            tracing::debug!(%error, "connections still cannot be accepted");
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.gossip_event(event),
            BehaviourEvent::Head(event) => self.rpc_event::<GetHead>(event),
            BehaviourEvent::Commitments(event) => self.rpc_event::<GetCommitmentsByNumber>(event),
            BehaviourEvent::Txlist(event) => self.rpc_event::<GetRawTxList>(event),
            BehaviourEvent::Identify(event) => self.identify_event(event),
            BehaviourEvent::Ping(event) => self.ping_event(event),
            BehaviourEvent::Limits(never) | BehaviourEvent::Memory(never) | BehaviourEvent::Banned(never) => {
                match never {}
            }
        }
    }

    /// The end, in this order: no new commands; no peer is ready any more; discovery ends and the known peers are written
    /// down; nobody is listened to any more; requests of either side end, and with them their connections, in an orderly
    /// way; then the swarm goes, and with it every task and socket.
    async fn end(mut self) {
        self.commands.close();
        self.ready.send_modify(Ready::clear);
        self.discovery.end().await;
        self.save_all().await;
        self.dials.clear();
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener.id);
        }
        self.say_goodbye().await;
        metrics::peers(0, 0);
    }
}

/// Seconds since the epoch; zero for a clock before it.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds since the epoch, as gossipsub numbers its messages.
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Sleeps until an instant, which may be past.
async fn until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        tokio::time::sleep_until(instant.into()).await;
    }
}

impl fmt::Debug for NetworkService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkService")
            .field("local", &self.local)
            .field("chain_id", &self.config.chain_id)
            .field("peers", &self.peers.connected().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::config::settings::{longest, shortest};

    #[tokio::test]
    async fn queues_are_as_long_as_is_set() {
        let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
        config.queues.commands = 3.try_into().unwrap();
        config.queues.reports = 5.try_into().unwrap();
        config.queues.request_events = 7.try_into().unwrap();
        let (handle, _events, service) = Network::new(config).unwrap();
        assert_eq!(handle.commands.max_capacity(), 3);
        assert_eq!(handle.reports.max_capacity(), 5);
        assert_eq!(service.request_events.max_capacity(), 7);
    }

    #[tokio::test]
    async fn a_node_runs_at_the_bounds_of_its_settings() {
        for config in [longest(), shortest()] {
            let (handle, _events, service) = Network::new(config).unwrap();
            let running = tokio::spawn(service.run());
            assert_eq!(handle.listen_addrs().await.unwrap().len(), 1);
            assert!(handle.peers().await.unwrap().is_empty());
            handle.shutdown();
            running.await.unwrap().unwrap();
        }
    }
}
