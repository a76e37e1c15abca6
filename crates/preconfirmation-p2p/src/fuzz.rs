//! Decoders that are no part of the API, for the fuzz targets of this workspace. Nothing here is stable.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use discv5::Enr;
use futures::{AsyncRead, FutureExt as _};
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{DataTransform as _, RawMessage, TopicHash},
    swarm::ConnectionId,
};
use preconfirmation_types::{Rpc, Topic};

use crate::{
    NetworkConfig,
    codec::{self, malformed},
    discovery::record,
    event::GossipMessage,
    filter::Form,
    frames,
    gossip::{self, Topics},
    ip::{Host, Scope, Source, Subnet, ip_of, peer_of, without_peer},
    peer_manager::{self, AddressSource, Connection, Identity, PeerManager, Start},
};

/// The filter in front of gossipsub, and what the service makes of a message behind it.
#[derive(Debug)]
pub struct Gossip {
    form: Form,
    topics: Topics,
    max_txlist_bytes: usize,
}

/// A message that the filter lets pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// As the application gets it.
    pub message: GossipMessage,
    /// Its id on its topic.
    pub id: [u8; 20],
    /// The id of the genuine message, if this is its high-s twin.
    pub genuine: Option<Vec<u8>>,
}

impl Gossip {
    /// The filter of a chain.
    #[must_use]
    pub fn new(chain_id: u64, max_txlist_bytes: usize) -> Self {
        let topics = Topics::new(chain_id);
        Self { form: Form::new(topics.clone(), max_txlist_bytes), topics, max_txlist_bytes }
    }

    /// The message of a payload; none where the filter refuses it.
    ///
    /// # Panics
    /// If the service cannot read what the filter lets pass.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a failed property")]
    pub fn receive(&self, topic: &str, data: Vec<u8>) -> Option<Received> {
        let topic = TopicHash::from_raw(topic);
        let raw = RawMessage {
            source: None,
            data,
            sequence_number: Some(1),
            topic: topic.clone(),
            signature: None,
            key: None,
            validated: false,
        };
        let passed = self.form.inbound_transform(raw).ok()?;
        let known = self.topics.topic(&topic).expect("an unknown topic has passed");
        let id = gossip::id_on(known, &passed.data);
        let read = gossip::read(known, passed.data.into(), self.max_txlist_bytes);
        let (message, genuine) = read.expect("the filter lets pass what the service cannot read");
        Some(Received { message, id, genuine: genuine.map(|id| id.0) })
    }

    /// The names of the chain's topics.
    #[must_use]
    pub fn topics(chain_id: u64) -> [String; 2] {
        Topic::ALL.map(|topic| topic.on_chain(chain_id))
    }
}

/// Gives so many bytes at a time.
struct Steps<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Steps<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let (part, rest) = self.bytes.split_at(self.step.min(self.bytes.len()).min(into.len()));
        into.iter_mut().zip(part).for_each(|(into, byte)| *into = *byte);
        self.bytes = rest;
        Poll::Ready(Ok(part.len()))
    }
}

/// What reading a frame from a stream came to.
#[derive(Debug)]
pub enum Read<C> {
    /// A container, and how many bytes it took.
    Container(C, usize),
    /// The bytes are the peer's fault.
    Malformed(preconfirmation_types::FrameError),
    /// The stream ended.
    Ended,
}

fn read<C: preconfirmation_types::Container>(bytes: &[u8], step: usize, cap: usize) -> Read<C> {
    let mut stream = Steps { bytes, step: step.max(1) };
    match codec::read(&mut stream, cap).now_or_never() {
        Some(Ok(container)) => Read::Container(container, bytes.len() - stream.bytes.len()),
        Some(Err(error)) => malformed(&error).map_or(Read::Ended, Read::Malformed),
        None => Read::Ended,
    }
}

/// Reads a request as the codec does, from a stream that gives `step` bytes at a time.
#[must_use]
pub fn request<R: Rpc>(bytes: &[u8], step: usize) -> Read<R::Request> {
    read(bytes, step, R::REQUEST_CAP)
}

/// Reads a response, likewise.
#[must_use]
pub fn response<R: Rpc>(bytes: &[u8], step: usize) -> Read<R::Response> {
    read(bytes, step, R::RESPONSE_CAP)
}

/// Follows the frames of a gossip stream.
#[derive(Debug)]
pub struct Frames {
    frames: frames::Frames,
    now: Instant,
}

impl Default for Frames {
    fn default() -> Self {
        Self { frames: frames::Frames::with_controls(), now: Instant::now() }
    }
}

impl Frames {
    /// Takes bytes; whether a frame of gossip is unfinished after them.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        self.frames.read(bytes, self.now).is_some()
    }

    /// The control frames since the last call, and whether the next byte begins a message.
    pub fn state(&mut self) -> (Vec<Vec<u8>>, bool) {
        (self.frames.take_controls(), self.frames.is_between_messages())
    }
}

/// The peers' file, read and written again.
#[must_use]
pub fn peers_file(text: &str, chain_id: u64) -> Option<Vec<u8>> {
    peer_manager::render(chain_id, &peer_manager::parse(text, chain_id).ok()?).ok()
}

/// What is read from a node record: chain, peer, and addresses.
#[must_use]
pub fn record(record: &Enr) -> (Option<u64>, Option<PeerId>, Vec<Multiaddr>) {
    (record::chain(record), record::peer_id(record), record::addresses(record))
}

/// What a multiaddress says: the address without its peer, that peer, whether it has an IP and whether that is global.
///
/// # Panics
/// If the parts contradict each other.
#[must_use]
pub fn address(address: &Multiaddr) -> (Multiaddr, Option<PeerId>, bool, bool) {
    let (ip, peer, bare) = (ip_of(address), peer_of(address), without_peer(address.clone()));
    assert!(peer.is_some() || bare == *address, "nothing to take away");
    assert_eq!(Host::at(address).is_some(), ip.is_some());
    assert_eq!(Subnet::at(address).is_some(), ip.is_some());
    assert_eq!(Source::at(address).is_some(), ip.is_some());
    if let Some(ip) = ip {
        assert!(ip == ip.to_canonical(), "a mapped address");
        assert_eq!(ip_of(&bare), Some(ip));
        assert_eq!(Host::of(ip).is_global(), Scope::of(ip) == Scope::Global, "a host is in one scope");
    }
    (bare, peer, ip.is_some(), ip.is_some_and(|ip| Scope::of(ip) == Scope::Global))
}

/// The peer manager, as far as it keeps what untrusted peers say of addresses.
pub struct PeerBook {
    manager: PeerManager,
    config: NetworkConfig,
    now: Instant,
    connections: usize,
}

impl PeerBook {
    /// An empty one.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        let now = Instant::now();
        let manager = PeerManager::new(&config, Start::First, now);
        Self { manager, config, now, connections: 0 }
    }

    /// Takes what a file says.
    pub fn restore(&mut self, text: &str, chain_id: u64) -> bool {
        let known = peer_manager::parse(text, chain_id);
        known.map(|known| self.manager.restore(known, self.now)).is_ok()
    }

    /// Discovery has found a peer.
    pub fn discovered(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, enr: Option<String>) {
        let _news = self.manager.on_discovered(peer, addresses, enr, AddressSource::Discovery, self.now);
    }

    /// A connection to or of a peer, what it says of itself, and its end.
    pub fn identified(
        &mut self,
        peer: PeerId,
        at: Multiaddr,
        inbound: bool,
        ready: bool,
        listen: Vec<Multiaddr>,
    ) {
        self.connections += 1;
        let id = ConnectionId::new_unchecked(self.connections);
        self.manager.on_connected(peer, Connection { id, address: at, inbound }, self.now);
        let identity =
            Identity { ready, rate_limit: None, agent: String::new(), protocols: Vec::new(), listen };
        let _ready = self.manager.on_identified(peer, id, identity, 1, self.now);
        let _gone = self.manager.on_disconnected(&peer, id, 2, self.now);
    }

    /// A dial has failed.
    pub fn dial_failed(&mut self, peer: &PeerId) {
        self.manager.on_dial_failed(peer, self.now);
    }

    /// Everything that may be dialled, at most `count` peers.
    ///
    /// # Panics
    /// If there are more, one twice, or one without an address.
    pub fn dial(&mut self, count: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let found = self.manager.dial_candidates(count, std::iter::empty(), |_| false, self.now);
        assert!(found.len() <= count);
        let found: Vec<_> = found.into_iter().map(|dial| (dial.peer, dial.addresses)).collect();
        assert!(found.iter().all(|(_, addresses)| !addresses.is_empty()));
        found
    }

    /// The file of what is known.
    ///
    /// # Panics
    /// If it is not read again as it was written, or has more peers than are remembered.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a failed property")]
    pub fn file(&self, chain_id: u64) -> Vec<u8> {
        let known = self.manager.known_peers(3);
        assert!(known.len() <= self.config.peers.known.get());
        let file = peer_manager::render(chain_id, &known).expect("it is written");
        let text = std::str::from_utf8(&file).expect("it is text");
        assert_eq!(peer_manager::parse(text, chain_id).expect("it is read again"), known);
        file
    }
}
