//! An adversarial peer: a bare swarm that writes the bytes of a script, and reads or ignores what it is sent.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _, future::pending,
};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport as _,
    core::upgrade::Version,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    host::{self, Host},
    rig::Failure,
};

const MESHSUB: &str = "/meshsub/1.1.0";
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Between two steps of what is done so many times a second.
const STEP: Duration = Duration::from_millis(10);

/// How long one whose connection has ended stays away.
const RETURN: Duration = Duration::from_secs(1);

/// Frames written by all peers of this process.
pub(crate) static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// What is written to a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// One after the other.
    pub(crate) frames: Arc<Vec<Vec<u8>>>,
    /// How many in a second, after the first.
    pub(crate) per_second: u32,
}

impl Script {
    pub(crate) fn new(frames: Vec<Vec<u8>>, per_second: u32) -> Self {
        Self { frames: Arc::new(frames), per_second }
    }

    async fn write(&self, io: &mut (impl AsyncWrite + Unpin + Send)) -> io::Result<()> {
        let mut tick = tokio::time::interval(STEP);
        let mut left = 1.0;
        for frame in self.frames.iter() {
            while left < 1.0 {
                tick.tick().await;
                left += f64::from(self.per_second) * STEP.as_secs_f64();
            }
            left -= 1.0;
            io.write_all(frame).await?;
            io.flush().await?;
            WRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What a peer does.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Written to the gossip stream that it opens, which then stays open.
    pub(crate) gossip: Option<Script>,
    /// Whether it leaves unread what gossip sends it.
    pub(crate) deaf: bool,
    /// Whether it resets each stream on which gossip sends it something.
    pub(crate) resets: bool,
    /// Written to each request stream that it opens, and how many of these are open at a time.
    pub(crate) requests: Option<(Script, usize)>,
    /// The protocol of these, by the last part of its name; heads without.
    pub(crate) asks_for: Option<&'static str>,
    /// Whether it leaves unread what is answered to them.
    pub(crate) unread: bool,
    /// Whether it leaves them open for writing when all is written.
    pub(crate) holds: bool,
    /// How many of these it opens in a second, after the first; any number without.
    pub(crate) requests_per_second: Option<u32>,
    /// Whether it dials again when its connection has ended.
    pub(crate) returns: bool,
    /// After so long it goes, unless it was dialled, and stays away unless it returns.
    pub(crate) leaves: Option<Duration>,
    /// Whether it listens where it comes from, and says so.
    pub(crate) listens: bool,
    /// Whether it says again and again where it listens, each time somewhere else.
    pub(crate) moves: bool,
    /// Whether it says nothing at all on its connection, and makes another when that is closed.
    pub(crate) idle: bool,
    /// From where it comes; the system chooses if it is unspecified.
    pub(crate) host: Ipv4Addr,
    /// What it calls itself.
    pub(crate) agent: Option<&'static str>,
    /// What it answers, and whether the stream then stays open, by the last part of the protocol.
    pub(crate) answers: HashMap<&'static str, (Vec<u8>, bool)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            gossip: None,
            deaf: false,
            resets: false,
            requests: None,
            asks_for: None,
            unread: false,
            holds: false,
            requests_per_second: None,
            returns: false,
            leaves: None,
            listens: false,
            moves: false,
            idle: false,
            host: Ipv4Addr::UNSPECIFIED,
            agent: None,
            answers: HashMap::new(),
        }
    }
}

#[derive(Clone)]
struct Codec(Arc<Plan>);

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Script;
    type Response = (Vec<u8>, bool);

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Script>
    where
        T: AsyncRead + Unpin + Send,
    {
        if protocol.as_ref() == MESHSUB {
            if self.0.deaf {
                pending::<()>().await;
            }
            if self.0.resets {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            futures::io::copy(io, &mut futures::io::sink()).await?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        io.read_exact(&mut [0]).await?;
        Ok(Script::new(vec![protocol.as_ref().as_bytes().to_vec()], 0))
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<(Vec<u8>, bool)>
    where
        T: AsyncRead + Unpin + Send,
    {
        if protocol.as_ref() == MESHSUB || self.0.unread {
            pending::<()>().await;
        }
        futures::io::copy(io, &mut futures::io::sink()).await?;
        Ok((Vec::new(), false))
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, script: Script) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        script.write(io).await?;
        if self.0.holds {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        (bytes, hold): (Vec<u8>, bool),
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.flush().await?;
        WRITTEN.fetch_add(1, Ordering::Relaxed);
        if hold {
            pending::<()>().await;
        }
        io.close().await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: request_response::Behaviour<Codec>,
    rpc: request_response::Behaviour<Codec>,
}

fn behaviour(chain: u64, identity: &Keypair, plan: Plan) -> Behaviour {
    // The first is the one that it asks on.
    let mut names = ["get_head", "get_commitments_by_number", "get_raw_txlist"];
    names.sort_by_key(|name| plan.asks_for.is_some_and(|first| first != *name));
    let mut identify = identify::Config::new("hostile".to_owned(), identity.public());
    if let Some(agent) = plan.agent {
        identify = identify.with_agent_version(agent.to_owned());
    }
    let codec = Codec(Arc::new(plan));
    let parameters =
        request_response::Config::default().with_request_timeout(FOR_EVER).with_max_concurrent_streams(512);
    let rpc = names.into_iter().filter_map(|name| {
        let protocol = format!("/taiko/{chain}/preconf/1/{name}");
        Some((StreamProtocol::try_from_owned(protocol).ok()?, ProtocolSupport::Full))
    });
    let gossip = [(StreamProtocol::new(MESHSUB), ProtocolSupport::Full)];
    Behaviour {
        identify: identify::Behaviour::new(identify),
        gossip: request_response::Behaviour::with_codec(codec.clone(), gossip, parameters.clone()),
        rpc: request_response::Behaviour::with_codec(codec, rpc, parameters),
    }
}

/// Connects to a node and carries out its plan, until it is dropped. Says when it is connected.
pub(crate) async fn run(
    chain: u64,
    identity: Keypair,
    victim: Multiaddr,
    plan: Plan,
    connected: mpsc::Sender<()>,
) -> Result<(), Failure> {
    if plan.idle {
        return idle(plan.host, &victim, &connected).await;
    }
    let mut swarm: Swarm<Behaviour> = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_other_transport(|identity| {
            // The first dials, the second listens.
            let tcp = Host(plan.host).or_transport(tcp::tokio::Transport::default());
            let tcp = tcp.map(|either, _| either.into_inner()).upgrade(Version::V1);
            Ok(tcp.authenticate(noise::Config::new(identity)?).multiplex(yamux::Config::default()))
        })?
        .with_behaviour(|identity| behaviour(chain, identity, plan.clone()))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(FOR_EVER))
        .build();
    if plan.listens {
        swarm.listen_on(Multiaddr::from(plan.host).with(Protocol::Tcp(0)))?;
        // What it says of itself when it is asked for it includes where it listens.
        while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    }
    swarm.dial(victim.clone())?;
    let mut tick = tokio::time::interval(STEP);
    // Streams of requests to be opened, and how many may be.
    let (mut wanted, mut may) = (0, 0.0);
    let (mut peer, mut moved) = (None, 0_u16);
    let (mut goes_at, mut returns_at) = (None, None);
    loop {
        let event = tokio::select! {
            () = until(goes_at), if goes_at.is_some() => {
                if !plan.returns {
                    return Ok(());
                }
                goes_at = None;
                // It may have been closed.
                let _connected = peer.is_some_and(|peer| swarm.disconnect_peer_id(peer).is_ok());
                continue;
            }
            () = until(returns_at), if returns_at.is_some() => {
                returns_at = None;
                if !peer.is_some_and(|peer| swarm.is_connected(&peer)) {
                    swarm.dial(victim.clone())?;
                }
                continue;
            }
            event = swarm.select_next_some() => event,
            _ = tick.tick(), if wanted > 0 || plan.moves => {
                if let Some(peer) = peer.filter(|_| plan.moves) {
                    moved = moved.wrapping_add(1);
                    say_moved(&mut swarm, peer, moved);
                }
                may += plan.requests_per_second.map_or(f64::INFINITY, f64::from) * STEP.as_secs_f64();
                if let (Some((script, _)), Some(peer)) = (&plan.requests, &peer) {
                    while wanted > 0 && may >= 1.0 {
                        (wanted, may) = (wanted - 1, may - 1.0);
                        swarm.behaviour_mut().rpc.send_request(peer, script.clone());
                    }
                }
                // What it could not use in this step is lost.
                may = may.min(1.0);
                continue;
            }
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, num_established, endpoint, .. }
                if num_established.get() == 1 =>
            {
                peer = Some(peer_id);
                let leaves = plan.leaves.filter(|_| endpoint.is_dialer());
                goes_at = leaves.and_then(|after| Instant::now().checked_add(after));
                // Whoever has heard it once need not hear it again.
                let _first = connected.try_send(()).is_ok();
                let behaviour = swarm.behaviour_mut();
                if let Some(script) = &plan.gossip {
                    behaviour.gossip.send_request(&peer_id, script.clone());
                }
                if let Some((script, streams)) = &plan.requests {
                    for _ in 0..*streams {
                        behaviour.rpc.send_request(&peer_id, script.clone());
                    }
                }
            }
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }
                if plan.returns =>
            {
                returns_at = Instant::now().checked_add(RETURN);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Rpc(event)) => match event {
                request_response::Event::Message {
                    message: request_response::Message::Request { request, channel, .. },
                    ..
                } => {
                    let protocol = request.frames.concat();
                    let name = plan.answers.keys().find(|name| protocol.ends_with(name.as_bytes()));
                    if let Some(answer) = name.and_then(|name| plan.answers.get(name)) {
                        // The stream may have gone.
                        drop(swarm.behaviour_mut().rpc.send_response(channel, answer.clone()));
                    }
                }
                // The next in its place.
                request_response::Event::Message { .. } | request_response::Event::OutboundFailure { .. } => {
                    wanted += 1
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// Says to a peer that it listens somewhere else, by the number of times that it has done so.
fn say_moved(swarm: &mut Swarm<Behaviour>, peer: PeerId, moved: u16) {
    let before: Vec<_> = swarm.external_addresses().cloned().collect();
    before.iter().for_each(|address| swarm.remove_external_address(address));
    let [high, low] = moved.to_be_bytes();
    swarm.add_external_address(Multiaddr::from(Ipv4Addr::new(9, high, low, 1)).with(Protocol::Tcp(9)));
    swarm.behaviour_mut().identify.push([peer]);
    WRITTEN.fetch_add(1, Ordering::Relaxed);
}

/// Sleeps until an instant; indefinitely if there is none.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

/// Connects, says nothing, and does so again when that has an end.
async fn idle(from: Ipv4Addr, victim: &Multiaddr, connected: &mpsc::Sender<()>) -> Result<(), Failure> {
    let to = host::socket_address(victim).ok_or("no address of TCP over IPv4")?;
    loop {
        // A victim that has no place refuses.
        if let Ok(mut stream) = host::connect(from, to).await {
            let _first = connected.try_send(()).is_ok();
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        }
        tokio::time::sleep(STEP).await;
    }
}
