//! Peers that break the rules: a bare swarm that writes whatever bytes it is told to.

use std::{io, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify, noise,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use preconfirmation_p2p::{Keypair, NetworkEvent, PeerId, RequestError};
use preconfirmation_types::{
    Container as _, DecodeErrorKind, FrameError, GetHead, GetHeadRequest, Offence, Rpc as _, Topic,
};
use tokio::sync::{mpsc, oneshot};

use crate::rig::{CHAIN, Metrics, Node, config, eventually, soon, ssz, txlist};

/// Reads to the end of a request, writes raw bytes.
#[derive(Clone, Default)]
struct RawCodec;

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut first = [0; 1];
        io.read_exact(&mut first).await?;
        Ok(first.to_vec())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut response = Vec::new();
        io.read_to_end(&mut response).await?;
        Ok(response)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&response).await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
    rpc: request_response::Behaviour<RawCodec>,
}

enum Order {
    /// Publish these bytes as they are.
    Publish(Topic, Vec<u8>),
    /// Send these bytes as a `get_head` request and return what comes back.
    Ask(Vec<u8>, oneshot::Sender<Vec<u8>>),
    /// Read nothing until told.
    Pause(oneshot::Receiver<()>),
}

/// Answers every request with the same bytes and does what it is told.
pub(crate) struct Adversary {
    pub(crate) id: PeerId,
    orders: mpsc::Sender<Order>,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl Adversary {
    /// Connects to a node. `author` signs its gossip.
    pub(crate) async fn attack(node: &mut Node, author: Option<Keypair>, answer: Vec<u8>) -> Self {
        let identity = Keypair::generate_ed25519();
        let author = author.unwrap_or_else(|| identity.clone());
        let protocol = |name: &str| {
            let protocol = format!("/taiko/{CHAIN}/preconf/1/{name}");
            let protocol = StreamProtocol::try_from_owned(protocol).unwrap();
            (protocol, ProtocolSupport::Full)
        };
        let gossip = gossipsub::ConfigBuilder::default()
            .max_transmit_size(20 * 1024 * 1024)
            .flood_publish(true)
            .build()
            .unwrap();
        let mut gossip: gossipsub::Behaviour =
            gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(author), gossip).unwrap();
        for topic in Topic::ALL {
            gossip.subscribe(&gossipsub::IdentTopic::new(topic.on_chain(CHAIN))).unwrap();
        }
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|identity| Behaviour {
                identify: identify::Behaviour::new(identify::Config::new(
                    "any".to_owned(),
                    identity.public(),
                )),
                gossip,
                rpc: request_response::Behaviour::new(
                    [
                        protocol(GetHead::NAME),
                        protocol("get_commitments_by_number"),
                        protocol("get_raw_txlist"),
                    ],
                    request_response::Config::default(),
                ),
            })
            .unwrap()
            .build();
        let address = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
        swarm.dial(address).unwrap();
        let id = *swarm.local_peer_id();
        let (orders, receiver) = mpsc::channel(16);
        let (hears, heard) = mpsc::channel(64);
        tokio::spawn(Self::run(swarm, node.id(), receiver, answer, hears));
        assert_eq!(node.peer_connected().await, id);
        Self { id, orders, heard }
    }

    /// Reads nothing until the sender is used or dropped.
    pub(crate) async fn pause(&self) -> oneshot::Sender<()> {
        let (resume, resumed) = oneshot::channel();
        self.orders.send(Order::Pause(resumed)).await.unwrap();
        resume
    }

    /// Waits until gossip has brought it these bytes.
    pub(crate) async fn hears(&mut self, bytes: &[u8]) {
        while soon(self.heard.recv()).await.unwrap() != bytes {}
    }

    async fn run(
        mut swarm: Swarm<Behaviour>,
        victim: PeerId,
        mut orders: mpsc::Receiver<Order>,
        answer: Vec<u8>,
        hears: mpsc::Sender<Vec<u8>>,
    ) {
        let mut asked = None;
        let mut subscribed = 0;
        loop {
            tokio::select! {
                order = orders.recv(), if subscribed == 2 => match order {
                    Some(Order::Publish(topic, bytes)) => {
                        let topic = gossipsub::IdentTopic::new(topic.on_chain(CHAIN));
                        swarm.behaviour_mut().gossip.publish(topic, bytes).unwrap();
                    }
                    Some(Order::Ask(bytes, reply)) => {
                        swarm.behaviour_mut().rpc.send_request(&victim, bytes);
                        asked = Some(reply);
                    }
                    Some(Order::Pause(resumed)) => drop(resumed.await),
                    None => return,
                },
                event = swarm.select_next_some() => match event {
                    SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Subscribed { .. })) => subscribed += 1,
                    SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                        hears.try_send(message.data).unwrap();
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Rpc(request_response::Event::Message { message, .. })) => match message {
                        request_response::Message::Request { channel, .. } => {
                            swarm.behaviour_mut().rpc.send_response(channel, answer.clone()).unwrap();
                        }
                        request_response::Message::Response { response, .. } => {
                            if let Some(reply) = asked.take() {
                                reply.send(response).unwrap();
                            }
                        }
                    },
                    SwarmEvent::Behaviour(BehaviourEvent::Rpc(request_response::Event::OutboundFailure { .. })) => {
                        drop(asked.take());
                    }
                    _ => {}
                },
            }
        }
    }

    pub(crate) async fn publish(&self, topic: Topic, bytes: Vec<u8>) {
        self.orders.send(Order::Publish(topic, bytes)).await.unwrap();
    }
}

/// Asks an adversary that answers with these bytes.
async fn answer_of(answer: &[u8]) -> (RequestError, f64) {
    let mut node = Node::local();
    let adversary = Adversary::attack(&mut node, None, answer.to_vec()).await;
    let error = soon(node.handle.request::<GetHead>(adversary.id, GetHeadRequest {})).await.unwrap_err();
    let score = node.status(adversary.id).await.unwrap().application_score;
    (error, score)
}

#[tokio::test]
async fn an_announced_length_over_the_cap_is_refused_and_charged() {
    // 2^35 - 1 bytes, and none of them sent.
    let (error, score) = answer_of(&[0xff, 0xff, 0xff, 0xff, 0x7f]).await;
    let RequestError::Malformed(FrameError::TooLarge { length, cap }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((length, cap), ((1 << 35) - 1, GetHead::RESPONSE_CAP));
    assert!(score < -0.9, "{score}");
}

#[tokio::test]
async fn a_length_in_more_bytes_than_it_needs_is_refused_and_charged() {
    let (error, score) = answer_of(&[0xc0, 0x00]).await;
    assert!(matches!(error, RequestError::Malformed(FrameError::Prefix)), "{error:?}");
    assert!(score < -0.9, "{score}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_container_is_refused_and_charged() {
    let (error, score) = answer_of(&[3, 1, 2, 3]).await;
    let RequestError::Malformed(FrameError::Content(content)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(content.kind, DecodeErrorKind::Length { expected: 64, actual: 3 });
    assert!(score < -0.9, "{score}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_no_offence() {
    let (error, score) = answer_of(&[64, 1, 2, 3]).await;
    assert!(matches!(error, RequestError::CutOff), "{error:?}");
    assert_eq!(score, 0.0);
    let (error, score) = answer_of(&[]).await;
    assert!(matches!(error, RequestError::NoAnswer), "{error:?}");
    assert_eq!(score, 0.0);
}

#[tokio::test]
async fn a_malformed_request_is_charged_and_reaches_nobody() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let adversary = Adversary::attack(&mut node, None, Vec::new()).await;
    let (reply, answer) = oneshot::channel();
    let order = Order::Ask(vec![4, 9, 9, 9, 9], reply);
    adversary.orders.send(order).await.unwrap();
    // Even that is answered, as if nothing were there.
    assert_eq!(soon(answer).await.unwrap(), [&[64], &[0; 64][..]].concat());
    node.charged(adversary.id, -0.9).await;
    metrics.reaches("p2p_reqresp_requests_total", "inbound malformed", 1).await;
    assert_eq!(metrics.count("p2p_offences_total", "malformed"), 1);
    node.handle.shutdown();
    // Nothing but its leaving is told.
    assert_eq!(node.peer_disconnected().await, adversary.id);
    assert!(soon(node.events.next()).await.is_none());
}

#[tokio::test]
async fn malformed_requests_are_limited_as_others_are() {
    let metrics = Metrics::install();
    let mut strict = config();
    strict.serving.requests = 2.try_into().unwrap();
    strict.serving.requests_per = Duration::from_secs(3600);
    let mut node = Node::start(strict);
    let adversary = Adversary::attack(&mut node, None, Vec::new()).await;
    for _ in 0..3 {
        let (reply, answer) = oneshot::channel();
        adversary.orders.send(Order::Ask(vec![4, 9, 9, 9, 9], reply)).await.unwrap();
        assert_eq!(soon(answer).await.unwrap(), [&[64], &[0; 64][..]].concat());
    }
    metrics.reaches("p2p_reqresp_requests_total", "inbound rate_limited", 1).await;
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound malformed"), 2);
    assert_eq!(metrics.count("p2p_offences_total", "malformed"), 3);
}

#[tokio::test]
async fn malformed_gossip_is_rejected_at_once_and_lowers_the_score() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let adversary = Adversary::attack(&mut node, None, Vec::new()).await;
    adversary.publish(Topic::Commitments, vec![9; 382]).await;
    node.charged(adversary.id, -0.9).await;
    let status = node.status(adversary.id).await.unwrap();
    // A point of ours, and two by gossipsub's own count of invalid messages.
    assert!(status.score < -2.5, "{}", status.score);
    assert_eq!(metrics.count("p2p_gossip_received_total", "malformed"), 1);
    assert_eq!(metrics.count("p2p_offences_total", "malformed"), 1);
}

#[tokio::test]
async fn a_txlist_over_the_chains_cap_is_an_offence_of_its_own() {
    let metrics = Metrics::install();
    let mut small = config();
    small.max_txlist_bytes = 1000;
    let mut node = Node::start(small);
    let adversary = Adversary::attack(&mut node, None, Vec::new()).await;
    adversary.publish(Topic::RawTxLists, txlist(1000).to_ssz()).await;
    let (from, message, _) = node.gossip().await;
    assert_eq!((from, message.topic()), (adversary.id, Topic::RawTxLists));
    adversary.publish(Topic::RawTxLists, txlist(1001).to_ssz()).await;
    node.charged(adversary.id, -0.9).await;
    metrics.reaches("p2p_offences_total", Offence::Oversize.label(), 1).await;
}

#[tokio::test]
async fn our_own_messages_are_ignored_when_somebody_brings_them_back() {
    let metrics = Metrics::install();
    let identity = Keypair::generate_ed25519();
    let mut own = config();
    own.identity = identity.clone();
    let mut node = Node::start(own);
    // What we published before a restart, say.
    let messenger = Adversary::attack(&mut node, Some(identity), Vec::new()).await;
    messenger.publish(Topic::Commitments, ssz(1).to_vec()).await;
    metrics.reaches("p2p_gossip_received_total", "own", 1).await;
    let status = node.status(messenger.id).await.unwrap();
    assert!(status.score >= 0.0, "{}", status.score);
    node.handle.shutdown();
    assert!(matches!(node.next().await, NetworkEvent::PeerDisconnected(_)));
    assert!(soon(node.events.next()).await.is_none());
}

#[tokio::test]
async fn a_flood_of_bad_gossip_ends_at_the_graylist() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let adversary = Adversary::attack(&mut node, None, Vec::new()).await;
    for byte in 2..=200 {
        let mut bad = vec![byte; 382];
        bad[1] = 1;
        adversary.publish(Topic::Commitments, bad).await;
    }
    // Two bad messages: 2 * 2^2 and two points. From then on nothing is read.
    eventually(|| async {
        let status = node.status(adversary.id).await?;
        (status.score < -5.0).then_some(())
    })
    .await;
    let read = || metrics.count("p2p_gossip_received_total", "malformed");
    assert!((2..=10).contains(&read()), "{} bad messages were read", read());
}
