//! What untrusted peers cannot take from a node: its places, its search for peers, its time.

use std::{
    io::Read as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use libp2p::multiaddr::Protocol;
use preconfirmation_p2p::{Multiaddr, Network, NetworkConfig, NetworkEvent};
use preconfirmation_types::Offence;

use crate::rig::{Metrics, Node, config, eventually, soon};

async fn address(node: &Node) -> Multiaddr {
    soon(node.handle.listen_addrs()).await.unwrap().remove(0)
}

fn port(address: &Multiaddr) -> u16 {
    address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None }).unwrap()
}

/// A node that is, for others, on a host of its own: what it dials by QUIC comes from where it listens.
fn on_host(number: u8) -> NetworkConfig {
    let mut config = config();
    config.listen = vec![format!("/ip4/127.0.9.{number}/udp/0/quic-v1").parse().unwrap()];
    config
}

/// As if loopback addresses were those of different people.
fn public() -> NetworkConfig {
    let mut config = on_host(1);
    config.connections.limit_private = true;
    config
}

async fn is_refused(node: &Node, by: &Node) {
    // The dialler may see its connection for a moment.
    drop(soon(node.handle.dial(address(by).await)).await);
    eventually(|| async { node.handle.peers().await.unwrap().is_empty().then_some(()) }).await;
    assert!(by.status(node.id()).await.is_none());
}

async fn stop(mut node: Node) {
    node.handle.shutdown();
    soon(&mut node.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_keep_newcomers_out() {
    let metrics = Metrics::install();
    let mut small = config();
    small.connections.max_pending = 32;
    let mut node = Node::start(small);
    let port = port(&address(&node).await);
    let _idle: Vec<_> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    metrics.reaches("p2p_queue_dropped_total", "half_open", 160).await;
    for _ in 0..3 {
        Node::local().meet(&mut node).await;
        node.peer_disconnected().await;
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_is_closed() {
    let mut hasty = config();
    hasty.connections.first_bytes = Duration::from_millis(200);
    let node = Node::start(hasty);
    let port = port(&address(&node).await);
    let closed = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(socket.read(&mut [0; 8]));
        start.elapsed()
    });
    let after = soon(closed).await.unwrap();
    assert!(after >= Duration::from_millis(200), "{after:?}");
}

#[tokio::test]
async fn many_keys_of_one_host_get_few_places() {
    let mut node = public();
    node.connections.max_inbound_per_ip = 2.try_into().unwrap();
    let mut node = Node::start(node);
    let mut first = [Node::start(on_host(2)), Node::start(on_host(2))];
    for peer in &mut first {
        peer.meet(&mut node).await;
    }
    is_refused(&Node::start(on_host(2)), &node).await;
    Node::start(on_host(3)).meet(&mut node).await;
}

#[tokio::test]
async fn who_is_trusted_comes_from_a_host_that_has_no_more_places() {
    let mut trusted = Node::start(on_host(2));
    let mut node = public();
    node.connections.max_inbound = 1;
    node.trusted_peers = vec![trusted.id()];
    let mut node = Node::start(node);
    Node::start(on_host(2)).meet(&mut node).await;
    node.peer_disconnected().await;
    let mut untrusted = Node::start(on_host(2));
    untrusted.meet(&mut node).await;
    is_refused(&Node::start(on_host(2)), &node).await;
    trusted.meet(&mut node).await;
}

#[tokio::test]
async fn several_bans_of_one_address_ban_the_address() {
    let mut harsh = public();
    harsh.connections.bans_per_ip = 2.try_into().unwrap();
    harsh.score.graylist_threshold = -2.0;
    harsh.score.ban_threshold = -3.0;
    harsh.score.ban_after = Duration::from_millis(100);
    let mut node = Node::start(harsh);
    let mut offenders = Vec::new();
    for _ in 0..2 {
        let mut offender = Node::start(on_host(2));
        offender.meet(&mut node).await;
        for _ in 0..5 {
            node.handle.report(offender.id(), Offence::HashMismatch);
        }
        assert_eq!(node.peer_disconnected().await, offender.id());
        offenders.push(offender);
    }
    let newcomer = Node::start(on_host(2));
    is_refused(&newcomer, &node).await;
    Node::start(on_host(3)).meet(&mut node).await;
    // One of the bans is lifted, and so is that of the address.
    assert!(soon(node.handle.unban(offenders[0].id())).await.unwrap());
    eventually(|| async {
        drop(newcomer.handle.dial(address(&node).await).await);
        node.status(newcomer.id()).await
    })
    .await;
}

#[tokio::test]
async fn inbound_untrusted_peers_do_not_end_the_search_for_peers() {
    let mut untrusted = [Node::local(), Node::local()];
    // A place where an honest peer will be.
    let mut place = config();
    let honest = Node::start(place.clone());
    let at = address(&honest).await;
    place.listen = vec![at.iter().take(2).collect()];
    stop(honest).await;
    let mut config = config();
    config.peers.low = 2;
    config.peers.retry = Duration::from_millis(100);
    config.peers.max_retry = Duration::from_millis(200);
    config.bootnodes = vec![at.to_string().parse().unwrap()];
    let mut node = Node::start(config);
    for untrusted in &mut untrusted {
        untrusted.meet(&mut node).await;
    }
    let honest = Node::of(eventually(|| async { Network::new(place.clone()).ok() }).await);
    assert_eq!(node.peer_connected().await, honest.id());
}

#[tokio::test]
async fn a_static_peer_that_hangs_up_is_dialled_less_and_less() {
    let metrics = Metrics::install();
    let mut full = config();
    full.connections.max_inbound = 0;
    let server = Node::start(full);
    let mut config = config();
    config.static_peers = vec![address(&server).await];
    config.redial.min_delay = Duration::from_millis(100);
    let start = Instant::now();
    let _node = Node::start(config);
    metrics.reaches("p2p_dials_total", "static", 5).await;
    // 100, 200, 400 and 800 ms between the five.
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_static_peer_that_is_the_node_itself_is_dialled_once() {
    let metrics = Metrics::install();
    let mut config = config();
    let node = Node::start(config.clone());
    let own = address(&node).await;
    stop(node).await;
    // One by its name, one by its address alone.
    config.listen = vec![own.iter().take(2).collect()];
    config.static_peers = vec![own.clone(), config.listen[0].clone()];
    config.redial.min_delay = Duration::from_millis(10);
    let mut other = Node::local();
    config.static_peers.push(address(&other).await);
    let mut node = Node::of(eventually(|| async { Network::new(config.clone()).ok() }).await);
    assert_eq!(node.peer_connected().await, other.id());
    assert_eq!(other.peer_connected().await, node.id());
    metrics.reaches("p2p_dials_total", "static no_address", 2).await;
    // A loss is dialled again after at least 10 ms; by then the node itself would have been, too.
    stop(other).await;
    metrics.reaches("p2p_dials_total", "static unreachable", 3).await;
    assert_eq!(metrics.count("p2p_dials_total", "static no_address"), 2);
    assert_eq!(metrics.count("p2p_identity_used_twice_total", ""), 0);
}

#[tokio::test]
async fn both_ip_versions_listen_on_one_port() {
    for order in [["/ip4/0.0.0.0", "/ip6/::"], ["/ip6/::", "/ip4/0.0.0.0"]] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut both = config();
        both.listen = order.iter().map(|ip| format!("{ip}/tcp/{port}").parse().unwrap()).collect();
        let node = Node::start(both);
        for to in [format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip6/::1/tcp/{port}")] {
            let other = Node::local();
            soon(other.handle.dial(to.parse().unwrap())).await.unwrap();
        }
        stop(node).await;
    }
}

#[tokio::test]
async fn a_peer_on_the_same_port_of_another_address_is_reached() {
    let mut node = Node::local();
    let port = port(&address(&node).await);
    let mut beside = config();
    beside.listen = vec![format!("/ip4/127.0.9.7/tcp/{port}").parse().unwrap()];
    let mut other = Node::start(beside);
    node.meet(&mut other).await;
}

#[tokio::test]
async fn twenty_local_nodes_meet_one() {
    let mut node = Node::local();
    let mut others: Vec<_> = (0..24).map(|_| Node::local()).collect();
    for other in &mut others {
        soon(other.handle.dial(address(&node).await)).await.unwrap();
    }
    for _ in 0..others.len() {
        assert!(matches!(node.next().await, NetworkEvent::PeerConnected { .. }));
    }
}
