//! Two nodes with one key: both say so, and so does whoever sees them.

use std::{net::SocketAddr, time::Duration};

use libp2p::multiaddr::Protocol;
use preconfirmation_p2p::{DuplicateSign, Keypair, Multiaddr, NetworkConfig};
use tokio::net::UdpSocket;

use crate::{
    hostile::Adversary,
    rig::{CHAIN, COMMITMENTS, Metrics, Node, soon, ssz},
};

const SIGNS: &str = "p2p_identity_used_twice_total";
const TCP: &str = "tcp/0";
const QUIC: &str = "udp/0/quic-v1";

/// On a host of its own: what it dials by QUIC comes from where it listens.
fn on_host(number: u8, transport: &str, identity: &Keypair) -> Node {
    let mut config = NetworkConfig::local(CHAIN, identity.clone());
    config.gossip.history = 120.try_into().unwrap();
    config.listen = vec![format!("/ip4/127.0.8.{number}/{transport}").parse().unwrap()];
    Node::start(config)
}

/// Without the name: a node does not dial its own.
async fn address(node: &Node) -> Multiaddr {
    let address = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

async fn dial(node: &Node, address: Multiaddr) {
    drop(soon(node.handle.dial(address)).await);
}

fn sign(node: &Node) -> Option<DuplicateSign> {
    node.handle.duplicate_identity().map(|duplicate| duplicate.sign)
}

/// Two nodes with one key, of which one dials the other at `via` or where it listens.
async fn are_noticed(transport: &str, via: impl AsyncFn(Multiaddr) -> Multiaddr) {
    let metrics = Metrics::install();
    let identity = Keypair::generate_ed25519();
    let (one, other) = (on_host(1, transport, &identity), on_host(2, transport, &identity));
    dial(&one, via(address(&other).await).await).await;
    metrics.reaches(SIGNS, "answered", 1).await;
    metrics.reaches(SIGNS, "dialled", 1).await;
    assert_eq!((sign(&one), sign(&other)), (Some(DuplicateSign::Answered), Some(DuplicateSign::Dialled)));
    assert_eq!(metrics.count(SIGNS, ""), 2);
}

#[tokio::test]
async fn a_twin_that_dials_over_tcp_is_noticed_on_both_sides() {
    are_noticed(TCP, async |address| address).await;
}

#[tokio::test]
async fn a_twin_that_dials_over_quic_is_noticed_on_both_sides() {
    are_noticed(QUIC, async |address| address).await;
}

/// Passes datagrams on both ways, but for the dialler's second and third: what its listener should know it by.
async fn lossy(listener: Multiaddr) -> Multiaddr {
    let socket = UdpSocket::bind("127.0.8.9:0").await.unwrap();
    let Some(Protocol::Udp(port)) = listener.iter().nth(1) else { panic!("{listener}") };
    let listener = SocketAddr::from(([127, 0, 8, 2], port));
    let here = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut buffer, mut dialler, mut sent) = (vec![0; 65536], None, 0);
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let to = if from == listener {
                dialler
            } else {
                dialler = Some(from);
                sent += 1;
                (!matches!(sent, 2 | 3)).then_some(listener)
            };
            if let Some(to) = to {
                socket.send_to(&buffer[..length], to).await.unwrap();
            }
        }
    });
    format!("/ip4/127.0.8.9/udp/{here}/quic-v1").parse().unwrap()
}

#[tokio::test]
async fn a_twin_whose_packets_are_lost_is_noticed_on_both_sides() {
    are_noticed(QUIC, lossy).await;
}

#[tokio::test]
async fn a_node_that_reaches_itself_is_no_twin() {
    for transport in [TCP, QUIC] {
        let metrics = Metrics::install();
        let identity = Keypair::generate_ed25519();
        let mut config = NetworkConfig::local(CHAIN, identity.clone());
        config.listen = vec![format!("/ip4/0.0.0.0/{transport}").parse().unwrap()];
        let node = Node::start(config);
        // At an address of which it does not know that it listens there.
        let elsewhere = Protocol::Ip4([127, 0, 8, 3].into());
        let elsewhere: Multiaddr =
            std::iter::once(elsewhere).chain(address(&node).await.iter().skip(1)).collect();
        dial(&node, elsewhere.clone()).await;
        metrics.reaches("p2p_dials_total", "application self", 1).await;
        // Both ends count: a twin that comes is one more, not the missing one.
        dial(&on_host(4, transport, &identity), elsewhere).await;
        metrics.reaches(SIGNS, "dialled", 1).await;
        assert_eq!(sign(&node), Some(DuplicateSign::Dialled));
    }
}

#[tokio::test]
async fn a_peer_that_is_at_two_addresses_is_noticed() {
    let metrics = Metrics::install();
    let mut node = on_host(1, QUIC, &Keypair::generate_ed25519());
    let identity = Keypair::generate_ed25519();
    let twins = [on_host(2, QUIC, &identity), on_host(3, QUIC, &identity)];
    for twin in &twins {
        dial(twin, address(&node).await).await;
    }
    node.peer_connected().await;
    metrics.reaches(SIGNS, "two_addresses", 1).await;
}

#[tokio::test]
async fn messages_of_a_twin_are_noticed() {
    let metrics = Metrics::install();
    let identity = Keypair::generate_ed25519();
    let mut node = Node::start(NetworkConfig::local(CHAIN, identity.clone()));
    // Runs that begin within a second cannot be told apart by their messages.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // It brings what a twin has published.
    let relay = Adversary::attack(&mut node, Some(identity), Vec::new()).await;
    node.subscribed(relay.id).await;
    relay.publish(COMMITMENTS, ssz(1).to_vec()).await;
    metrics.reaches(SIGNS, "published", 1).await;
}
