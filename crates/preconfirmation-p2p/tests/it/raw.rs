//! A gossip peer made of bytes: joins the topics, and hears what is written to it.

use std::{io, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::pending};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise,
    request_response::{self, ProtocolSupport},
    tcp, yamux,
};
use preconfirmation_p2p::PeerId;
use preconfirmation_types::Topic;
use tokio::sync::mpsc;

use crate::rig::{CHAIN, Node, soon};

const NEVER: Duration = Duration::from_secs(3600);

/// Writes to the stream that it opens, and tells of the bytes on the other's.
#[derive(Clone)]
struct Codec(mpsc::Sender<Vec<u8>>);

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match io.read(&mut bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                // A test that listens no more needs no more.
                read => drop(self.0.send(bytes[..read].to_vec()).await),
            }
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        pending().await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.flush().await?;
        // The stream stays open.
        pending().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

pub(crate) struct Raw {
    hears: mpsc::Receiver<Vec<u8>>,
    heard: Vec<u8>,
}

impl Raw {
    /// Connects to a node and is in its meshes of both topics when this returns.
    pub(crate) async fn join(node: &Node) -> Self {
        let (tells, hears) = mpsc::channel(64);
        let protocols = [(StreamProtocol::new("/meshsub/1.2.0"), ProtocolSupport::Full)];
        let config = request_response::Config::default().with_request_timeout(NEVER);
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| request_response::Behaviour::with_codec(Codec(tells), protocols, config))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build();
        let id: PeerId = *swarm.local_peer_id();
        swarm.dial(soon(node.handle.listen_addrs()).await.unwrap().remove(0)).unwrap();
        swarm.behaviour_mut().send_request(&node.id(), joining());
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        node.subscribed(id).await;
        Self { hears, heard: Vec::new() }
    }

    /// Waits until these bytes have come.
    pub(crate) async fn hears(&mut self, bytes: &[u8]) {
        while !self.has_heard(bytes) {
            let more = soon(self.hears.recv()).await.unwrap();
            self.heard.extend(more);
        }
    }

    pub(crate) fn has_heard(&self, bytes: &[u8]) -> bool {
        self.heard.windows(bytes.len()).any(|heard| heard == bytes)
    }
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A frame that subscribes to both topics and asks for a place in their meshes.
fn joining() -> Vec<u8> {
    let frame = Topic::ALL.map(|topic| {
        let topic = topic.on_chain(CHAIN);
        let subscription = [&[1 << 3, 1], &*field(2, topic.as_bytes())].concat();
        let graft = field(3, &field(1, topic.as_bytes()));
        let rpc = [field(1, &subscription), field(3, &graft)].concat();
        assert!(rpc.len() < 128, "a length of more than one byte");
        [&[u8::try_from(rpc.len()).unwrap()], &*rpc].concat()
    });
    frame.concat()
}

/// What says that a message is not wanted any more.
pub(crate) fn idontwant(id: &[u8; 20]) -> Vec<u8> {
    field(3, &field(5, &field(1, id)))
}
