//! A peer made of bytes: writes gossip frames by hand, and may refuse every stream that is opened to it.

use std::{io, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::pending};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise,
    request_response::{self, ProtocolSupport},
    tcp, yamux,
};
use preconfirmation_p2p::{Keypair, PeerId};
use preconfirmation_types::Topic;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::rig::{CHAIN, Node, soon};

const NEVER: Duration = Duration::from_secs(3600);

/// What it does with the streams that are opened to it.
#[derive(Clone)]
pub(crate) enum Streams {
    Read,
    /// Tells of what it reads.
    Heard(mpsc::Sender<Vec<u8>>),
    /// Resets each stream as soon as it is used.
    Reset,
}

#[derive(Clone)]
struct Codec(Streams);

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = mpsc::Receiver<Vec<u8>>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let ended = Err(io::ErrorKind::UnexpectedEof.into());
        if matches!(self.0, Streams::Reset) {
            return ended;
        }
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = io.read(&mut bytes).await?;
            if read == 0 {
                return ended;
            }
            if let Streams::Heard(tells) = &self.0 {
                // A test that listens no more needs no more.
                drop(tells.send(bytes[..read].to_vec()).await);
            }
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        pending().await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        mut frames: Self::Request,
    ) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        while let Some(frame) = frames.recv().await {
            io.write_all(&frame).await?;
            io.flush().await?;
        }
        pending().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

pub(crate) struct Untrusted {
    pub(crate) id: PeerId,
    pub(crate) key: Keypair,
    frames: mpsc::Sender<Vec<u8>>,
    running: JoinHandle<()>,
}

impl Drop for Untrusted {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Untrusted {
    /// Connects to a node, which knows it as a subscriber of both topics when this returns.
    pub(crate) async fn join(node: &Node, streams: Streams) -> Self {
        let key = Keypair::generate_ed25519();
        let (frames, written) = mpsc::channel(64);
        let protocols = [(StreamProtocol::new("/meshsub/1.2.0"), ProtocolSupport::Full)];
        let config = request_response::Config::default().with_request_timeout(NEVER);
        let mut swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| request_response::Behaviour::with_codec(Codec(streams), protocols, config))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build();
        let id = *swarm.local_peer_id();
        swarm.dial(soon(node.handle.listen_addrs()).await.unwrap().remove(0)).unwrap();
        swarm.behaviour_mut().send_request(&node.id(), written);
        let running = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let untrusted = Self { id, key, frames, running };
        untrusted.send(joining()).await;
        node.subscribed(id).await;
        untrusted
    }

    /// The same, and what is written to it.
    pub(crate) async fn join_and_listen(node: &Node) -> (Self, Heard) {
        let (tells, hears) = mpsc::channel(64);
        (Self::join(node, Streams::Heard(tells)).await, Heard { hears, bytes: Vec::new() })
    }

    pub(crate) async fn send(&self, frame: Vec<u8>) {
        soon(self.frames.send(frame)).await.unwrap();
    }

    /// Publishes a message of its own.
    pub(crate) async fn publish(&self, topic: &str, sequence: u64, data: &[u8]) {
        self.send(publish(&self.key, topic, sequence, data)).await;
    }
}

/// What a node has written to one that listens.
pub(crate) struct Heard {
    hears: mpsc::Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Heard {
    /// Waits until these bytes have come.
    pub(crate) async fn wait_for(&mut self, bytes: &[u8]) {
        while !self.has(bytes) {
            let more = soon(self.hears.recv()).await.unwrap();
            self.bytes.extend(more);
        }
    }

    pub(crate) fn has(&self, bytes: &[u8]) -> bool {
        self.bytes.windows(bytes.len()).any(|heard| heard == bytes)
    }
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    varint(&mut frame, bytes.len());
    frame.extend_from_slice(bytes);
    frame
}

/// Subscribes to both topics and asks for a place in their meshes.
fn joining() -> Vec<u8> {
    let (mut rpc, mut control) = (Vec::new(), Vec::new());
    for topic in Topic::ALL.map(|topic| topic.on_chain(CHAIN)) {
        let mut subscription = vec![1 << 3, 1];
        field(&mut subscription, 2, topic.as_bytes());
        field(&mut rpc, 1, &subscription);
        let mut graft = Vec::new();
        field(&mut graft, 1, topic.as_bytes());
        field(&mut control, 3, &graft);
    }
    field(&mut rpc, 3, &control);
    framed(&rpc)
}

/// Leaves the mesh of a topic, not to be asked back for so many seconds.
pub(crate) fn prune(topic: &str, seconds: usize) -> Vec<u8> {
    let (mut rpc, mut control, mut prune) = (Vec::new(), Vec::new(), Vec::new());
    field(&mut prune, 1, topic.as_bytes());
    prune.push(3 << 3);
    varint(&mut prune, seconds);
    field(&mut control, 4, &prune);
    field(&mut rpc, 3, &control);
    framed(&rpc)
}

/// Asks for a message, so many times.
pub(crate) fn iwant(id: &[u8], times: usize) -> Vec<u8> {
    let (mut rpc, mut control, mut iwant) = (Vec::new(), Vec::new(), Vec::new());
    (0..times).for_each(|_| field(&mut iwant, 1, id));
    field(&mut control, 2, &iwant);
    field(&mut rpc, 3, &control);
    framed(&rpc)
}

/// What a frame has that says that a message is not wanted any more.
pub(crate) fn idontwant(id: &[u8; 20]) -> Vec<u8> {
    let (mut rpc, mut control, mut idontwant) = (Vec::new(), Vec::new(), Vec::new());
    field(&mut idontwant, 1, id);
    field(&mut control, 5, &idontwant);
    field(&mut rpc, 3, &control);
    rpc
}

/// A message as this key would publish it.
pub(crate) fn publish(key: &Keypair, topic: &str, sequence: u64, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    field(&mut message, 1, &key.public().to_peer_id().to_bytes());
    field(&mut message, 2, data);
    field(&mut message, 3, &sequence.to_be_bytes());
    field(&mut message, 4, topic.as_bytes());
    let signature = key.sign(&[b"libp2p-pubsub:", &message[..]].concat()).unwrap();
    field(&mut message, 5, &signature);
    field(&mut message, 6, &key.public().encode_protobuf());
    let mut rpc = Vec::new();
    field(&mut rpc, 2, &message);
    framed(&rpc)
}
