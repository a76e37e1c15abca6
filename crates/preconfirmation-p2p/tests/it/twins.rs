//! Two nodes with one key: both say so, and so does whoever sees them.

use std::time::Duration;

use preconfirmation_p2p::{DuplicateSign, Keypair, NetworkConfig};

use crate::{
    hostile::Adversary,
    rig::{CHAIN, COMMITMENTS, Metrics, Node, soon, ssz},
};

const SIGNS: &str = "p2p_identity_used_twice_total";

/// On a host of its own: what it dials by QUIC comes from where it listens.
fn on_host(number: u8, identity: &Keypair) -> Node {
    let mut config = NetworkConfig::local(CHAIN, identity.clone());
    config.gossip.history = 120.try_into().unwrap();
    config.listen = vec![format!("/ip4/127.0.8.{number}/udp/0/quic-v1").parse().unwrap()];
    Node::start(config)
}

async fn dial(node: &Node, other: &Node) {
    let address = soon(other.handle.listen_addrs()).await.unwrap().remove(0);
    // Without the name: a node does not dial its own.
    drop(soon(node.handle.dial(address.iter().take(3).collect())).await);
}

#[tokio::test]
async fn a_twin_that_dials_is_noticed_on_both_sides() {
    let metrics = Metrics::install();
    let identity = Keypair::generate_ed25519();
    let (one, other) = (on_host(1, &identity), on_host(2, &identity));
    dial(&one, &other).await;
    metrics.reaches(SIGNS, "answered", 1).await;
    metrics.reaches(SIGNS, "dialled", 1).await;
    let sign = |node: &Node| node.handle.duplicate_identity().map(|duplicate| duplicate.sign);
    assert_eq!((sign(&one), sign(&other)), (Some(DuplicateSign::Answered), Some(DuplicateSign::Dialled)));
    // Whoever dials itself is alone.
    let alone = on_host(3, &Keypair::generate_ed25519());
    dial(&alone, &alone).await;
    assert_eq!(metrics.count(SIGNS, ""), 2);
    assert_eq!(sign(&alone), None);
}

#[tokio::test]
async fn a_peer_that_is_at_two_addresses_is_noticed() {
    let metrics = Metrics::install();
    let mut node = on_host(1, &Keypair::generate_ed25519());
    let identity = Keypair::generate_ed25519();
    let twins = [on_host(2, &identity), on_host(3, &identity)];
    for twin in &twins {
        dial(twin, &node).await;
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
