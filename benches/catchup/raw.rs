//! The ceilings: libp2p's own request/response, with a codec that only moves bytes and nothing behind it; alone on a
//! connection, or beside what else the protocol asks every node to speak.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    noise, ping,
    request_response::{self, Event, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_benches::unasked::{Unasked, unasked};
use preconfirmation_types::{GetCommitmentsByNumber, GetHead};
use tokio::task::JoinSet;

use crate::{Failed, chain::CHAIN};

/// A request is 32 bytes; an answer has a length of four before it.
#[derive(Clone, Default)]
pub(crate) struct Plain;

impl request_response::Codec for Plain {
    type Protocol = StreamProtocol;
    type Request = [u8; 32];
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<[u8; 32]> {
        let mut request = [0; 32];
        io.read_exact(&mut request).await?;
        Ok(request)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let mut response = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or_default()];
        io.read_exact(&mut response).await?;
        Ok(response)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: [u8; 32],
    ) -> io::Result<()> {
        io.write_all(&request).await?;
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        let length = u32::try_from(response.len()).map_err(io::Error::other)?;
        io.write_all(&length.to_be_bytes()).await?;
        io.write_all(&response).await?;
        io.close().await
    }
}

/// Requests for bytes, by libp2p's own behaviour.
pub(crate) type Lists = request_response::Behaviour<Plain>;

/// What a node speaks.
pub(crate) trait Stack: NetworkBehaviour<ToSwarm: Send> + Send + Sized {
    /// Whether what is checked is kept, as a store would keep it.
    const KEEPS: bool;
    fn new(lists: Lists, key: &Keypair) -> Result<Self, Failed>;
    fn lists(&mut self) -> &mut Lists;
    fn event(event: Self::ToSwarm) -> Option<Event<[u8; 32], Vec<u8>>>;
}

/// Requests and nothing else.
impl Stack for Lists {
    const KEEPS: bool = false;

    fn new(lists: Lists, _: &Keypair) -> Result<Self, Failed> {
        Ok(lists)
    }

    fn lists(&mut self) -> &mut Lists {
        self
    }

    fn event(event: Self::ToSwarm) -> Option<Event<[u8; 32], Vec<u8>>> {
        Some(event)
    }
}

/// All of the protocol, by libp2p's own behaviours beside each other.
#[derive(NetworkBehaviour)]
pub(crate) struct All {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    head: Unasked,
    commitments: Unasked,
    lists: Lists,
}

impl Stack for All {
    const KEEPS: bool = true;

    fn new(lists: Lists, key: &Keypair) -> Result<Self, Failed> {
        let authenticity = gossipsub::MessageAuthenticity::Signed(key.clone());
        let mut gossip = gossipsub::Behaviour::new(authenticity, gossipsub::Config::default())?;
        gossip.subscribe(&gossipsub::IdentTopic::new("commitments"))?;
        gossip.subscribe(&gossipsub::IdentTopic::new("lists"))?;
        Ok(Self {
            identify: identify::Behaviour::new(identify::Config::new("bench".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
            gossip,
            head: unasked::<GetHead>(CHAIN),
            commitments: unasked::<GetCommitmentsByNumber>(CHAIN),
            lists,
        })
    }

    fn lists(&mut self) -> &mut Lists {
        &mut self.lists
    }

    fn event(event: AllEvent) -> Option<Event<[u8; 32], Vec<u8>>> {
        match event {
            AllEvent::Lists(event) => Some(event),
            _ => None,
        }
    }
}

fn swarm<S: Stack>() -> Result<Swarm<S>, Failed> {
    let settings = request_response::Config::default().with_request_timeout(Duration::from_secs(20));
    let protocols = [(StreamProtocol::new("/bench/raw/1"), ProtocolSupport::Full)];
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| S::new(Lists::with_codec(Plain, protocols, settings), key))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(60)))
        .build())
}

/// Answers everybody with so many bytes, for ever. Returns where.
pub(crate) async fn serve<S: Stack>(bytes: usize) -> Result<Multiaddr, Failed> {
    let mut swarm = swarm::<S>()?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with_p2p(*swarm.local_peer_id()).map_err(|_| "an address with a peer")?;
        }
    };
    tokio::spawn(async move {
        let answer = vec![0x5a; bytes];
        loop {
            let SwarmEvent::Behaviour(event) = swarm.select_next_some().await else { continue };
            if let Some(Event::Message { message: Message::Request { channel, .. }, .. }) = S::event(event) {
                // Whoever has gone needs no answer.
                drop(swarm.behaviour_mut().lists().send_response(channel, answer.clone()));
            }
        }
    });
    Ok(address)
}

/// What is done with an answer.
pub(crate) type Check = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Answers a second, with `in_flight` requests on their way to each peer, for so many answers. Each is checked in a
/// task of its own, if at all.
pub(crate) async fn ceiling<S: Stack>(
    peers: &[Multiaddr],
    in_flight: usize,
    answers: usize,
    check: Option<Check>,
) -> Result<f64, Failed> {
    let mut swarm = swarm::<S>()?;
    for peer in peers {
        swarm.dial(peer.clone())?;
    }
    let mut connected: Vec<PeerId> = Vec::new();
    while connected.len() < peers.len() {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            connected.push(peer_id);
        }
    }
    let begun = Instant::now();
    for peer in connected.iter().cycle().take(in_flight * peers.len()) {
        swarm.behaviour_mut().lists().send_request(peer, [7; 32]);
    }
    let (mut done, mut checks) = (0, JoinSet::new());
    while done < answers {
        let SwarmEvent::Behaviour(event) = swarm.select_next_some().await else { continue };
        match S::event(event) {
            Some(Event::Message { peer, message: Message::Response { response, .. }, .. }) => {
                done += 1;
                if let Some(check) = check.clone() {
                    checks.spawn(async move {
                        check(&response);
                        S::KEEPS.then_some(response)
                    });
                }
                swarm.behaviour_mut().lists().send_request(&peer, [7; 32]);
            }
            Some(Event::OutboundFailure { error, .. }) => return Err(error.into()),
            _ => {}
        }
    }
    checks.join_all().await;
    Ok(answers as f64 / begun.elapsed().as_secs_f64())
}
