//! QUIC, DNS, and what peers are told about where a node is.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use futures::future::join_all;
use preconfirmation_p2p::{InboundRequest, Multiaddr, Network, NetworkError, Published, Verdict};
use preconfirmation_types::{GetHead, GetHeadRequest, PreconfHead, U256};

use crate::rig::{COMMITMENTS, Node, config, eventually, soon, ssz};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

fn listening(addresses: &[&str]) -> Node {
    let mut config = config();
    config.listen = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Node::start(config)
}

/// A message from one to the other, and a question.
async fn talk(one: &mut Node, other: &mut Node) {
    assert_eq!(soon(one.handle.publish(COMMITMENTS, ssz(1))).await, Ok(Published::Sent { peers: 1 }));
    other.judge(Verdict::Accept).await;
    let (head, ()) =
        tokio::join!(soon(one.handle.request::<GetHead>(other.id(), GetHeadRequest {})), async {
            let (_, InboundRequest::Head(responder)) = other.request().await else {
                panic!("another request");
            };
            responder.send(PreconfHead { block_number: U256::from(7), ..PreconfHead::default() });
        });
    assert_eq!(head.unwrap().block_number, U256::from(7));
}

#[tokio::test]
async fn gossip_and_requests_over_channels_of_one_process() {
    let (mut one, mut other) = (listening(&["/memory/0"]), listening(&["/memory/0"]));
    one.meet(&mut other).await;
    talk(&mut one, &mut other).await;
}

#[tokio::test]
async fn gossip_and_requests_over_quic() {
    let (mut one, mut other) = (listening(&[QUIC]), listening(&[QUIC]));
    one.meet(&mut other).await;
    let status = one.status(other.id()).await.unwrap();
    assert!(status.addresses[0].to_string().contains("/quic-v1"), "{status:?}");
    talk(&mut one, &mut other).await;
}

#[tokio::test]
async fn tcp_and_quic_between_the_same_two_do_no_harm() {
    let (mut one, mut other) = (listening(&[QUIC, TCP]), listening(&[QUIC, TCP]));
    one.meet(&mut other).await;
    let addresses = soon(other.handle.listen_addrs()).await.unwrap();
    assert_eq!(addresses.len(), 2);
    // The address without the peer is dialled whether or not there is a connection.
    let tcp = addresses.iter().find(|address| address.to_string().contains("/tcp/")).unwrap();
    soon(one.handle.dial(tcp.iter().take(2).collect())).await.unwrap();
    assert_eq!(one.handle.peers().await.unwrap().len(), 1);
    talk(&mut one, &mut other).await;
    talk_back(&mut other, &mut one).await;
}

async fn talk_back(one: &mut Node, other: &mut Node) {
    assert_eq!(soon(one.handle.publish(COMMITMENTS, ssz(2))).await, Ok(Published::Sent { peers: 1 }));
    other.judge(Verdict::Accept).await;
}

#[tokio::test]
async fn names_are_resolved() {
    let mut server = listening(&[TCP]);
    let address = soon(server.handle.listen_addrs()).await.unwrap().remove(0);
    // The hosts file knows this one; no name server is asked.
    let named: Multiaddr = address.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost").parse().unwrap();
    let mut node = Node::local();
    soon(node.handle.dial(named)).await.unwrap();
    assert_eq!(node.peer_connected().await, server.id());
    assert_eq!(server.peer_connected().await, node.id());
}

#[tokio::test]
async fn a_quic_port_that_is_taken_says_so() {
    let node = listening(&[QUIC]);
    let taken: Multiaddr = soon(node.handle.listen_addrs()).await.unwrap().remove(0).iter().take(3).collect();
    let mut second = config();
    second.listen = vec![taken.clone()];
    let error = Network::new(second).unwrap_err();
    assert!(matches!(&error, NetworkError::Listen { address, .. } if *address == taken), "{error:?}");
}

#[tokio::test]
async fn inbound_handshakes_take_turns() {
    let mut patient = config();
    patient.connections.handshake_interval = Duration::from_millis(300);
    let server = Node::start(patient);
    let address = soon(server.handle.listen_addrs()).await.unwrap().remove(0);
    let dialling = [Node::local(), Node::local(), Node::local()];
    let start = Instant::now();
    let dials = dialling.iter().map(|node| node.handle.dial(address.clone()));
    for dialled in soon(join_all(dials)).await {
        dialled.unwrap();
    }
    assert!(start.elapsed() >= 2 * Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn inbound_quic_connections_take_turns() {
    let mut patient = config();
    patient.connections.handshake_interval = Duration::from_millis(300);
    patient.listen = vec![QUIC.parse().unwrap()];
    let server = Node::start(patient);
    let address = soon(server.handle.listen_addrs()).await.unwrap().remove(0);
    let dialling = [Node::local(), Node::local(), Node::local()];
    let start = Instant::now();
    let dials = dialling.iter().map(|node| node.handle.dial(address.clone()));
    soon(join_all(dials)).await.into_iter().for_each(|dialled| dialled.unwrap());
    eventually(|| async { (server.handle.peers().await.unwrap().len() == 3).then_some(()) }).await;
    assert!(start.elapsed() >= 2 * Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_process_over_its_memory_limit_takes_no_connections() {
    let mut full = config();
    full.connections.max_process_bytes = NonZeroUsize::new(1);
    let (full, node) = (Node::start(full), Node::local());
    let address = soon(full.handle.listen_addrs()).await.unwrap().remove(0);
    let own = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
    let refused = soon(full.handle.dial(own)).await;
    assert!(matches!(refused, Err(NetworkError::Dial { .. })), "{refused:?}");
    // The dialler may see its connection for a moment.
    drop(soon(node.handle.dial(address)).await);
    eventually(|| async { node.handle.peers().await.unwrap().is_empty().then_some(()) }).await;
    assert!(full.handle.peers().await.unwrap().is_empty());
}
