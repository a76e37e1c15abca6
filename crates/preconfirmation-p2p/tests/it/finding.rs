//! Finding peers, keeping them, and finding them again.

use std::{net::SocketAddr, time::Duration};

use preconfirmation_p2p::{
    ConfigError, DiscoveryConfig, Keypair, Multiaddr, Network, NetworkConfig, NetworkError, NetworkEvent,
    PeersConfig,
};
use preconfirmation_types::Offence;

use crate::rig::{CHAIN, Metrics, Node, config, eventually, soon};

/// A node that finds peers by itself.
fn seeker(chain: u64) -> NetworkConfig {
    let mut config = NetworkConfig::local(chain, Keypair::generate_secp256k1());
    config.discovery = Some(DiscoveryConfig::local());
    config.peers = PeersConfig::default();
    config
}

async fn address(node: &Node) -> Multiaddr {
    soon(node.handle.listen_addrs()).await.unwrap().remove(0)
}

async fn record(node: &Node) -> String {
    eventually(|| async { node.handle.record() }).await
}

async fn stop(mut node: Node) {
    node.handle.shutdown();
    soon(&mut node.running).await.unwrap().unwrap();
}

/// Starts a node at the place of one that has just gone, as soon as its ports are free.
async fn start_again(config: &NetworkConfig) -> Node {
    Node::of(eventually(|| async { Network::new(config.clone()).ok() }).await)
}

#[tokio::test]
async fn a_static_peer_that_comes_back_is_connected_again() {
    let metrics = Metrics::install();
    let mut place = config();
    let server = Node::start(place.clone());
    let at = address(&server).await;
    place.listen = vec![at.iter().take(2).collect()];

    let mut config = config();
    config.static_peers = vec![at];
    config.redial.min_delay = Duration::from_millis(50);
    let mut node = Node::start(config);
    let peer = server.id();
    assert_eq!(node.peer_connected().await, peer);
    assert!(node.status(peer).await.unwrap().protected);

    stop(server).await;
    assert_eq!(node.peer_disconnected().await, peer);
    metrics.reaches("p2p_dials_total", "static unreachable", 2).await;
    let _server = start_again(&place).await;
    assert_eq!(node.peer_connected().await, peer);
}

#[tokio::test]
async fn who_answers_at_a_static_address_without_a_name_is_dialled_again_too() {
    let mut place = config();
    let server = Node::start(place.clone());
    let at = address(&server).await;
    place.listen = vec![at.iter().take(2).collect()];
    let mut config = config();
    config.static_peers = place.listen.clone();
    config.redial.min_delay = Duration::from_millis(50);
    let mut node = Node::start(config);
    assert_eq!(node.peer_connected().await, server.id());
    assert!(node.status(server.id()).await.unwrap().protected);
    stop(server).await;
    node.peer_disconnected().await;
    let server = start_again(&place).await;
    assert_eq!(node.peer_connected().await, server.id());
}

#[tokio::test]
async fn static_and_trusted_peers_are_not_banned() {
    let (mut fixed, mut trusted, mut untrusted) = (Node::local(), Node::local(), Node::local());
    let mut harsh = config();
    harsh.static_peers = vec![address(&fixed).await];
    harsh.trusted_peers = vec![trusted.id()];
    harsh.score.graylist_threshold = -2.0;
    harsh.score.ban_threshold = -3.0;
    harsh.score.ban_after = Duration::from_millis(100);
    let mut judge = Node::start(harsh);
    assert_eq!(judge.peer_connected().await, fixed.id());
    fixed.peer_connected().await;
    trusted.meet(&mut judge).await;
    untrusted.meet(&mut judge).await;
    for offender in [fixed.id(), trusted.id(), untrusted.id()] {
        for _ in 0..5 {
            judge.handle.report(offender, Offence::HashMismatch);
        }
    }
    // All have been as bad for as long when the untrusted peer goes.
    assert_eq!(judge.peer_disconnected().await, untrusted.id());
    for offender in [fixed.id(), trusted.id()] {
        let status = judge.status(offender).await.unwrap();
        assert!(
            status.protected && status.banned_for.is_none() && status.application_score < -3.0,
            "{status:?}"
        );
    }
    assert!(judge.status(untrusted.id()).await.unwrap().banned_for.is_some());
}

#[tokio::test]
async fn above_the_high_mark_the_worst_peer_goes_but_no_trusted_one() {
    let metrics = Metrics::install();
    let (mut trusted, mut bad, good) = (Node::local(), Node::local(), Node::local());
    let mut small = config();
    small.peers.high = 2;
    small.peers.grace = Duration::from_secs(1);
    small.trusted_peers = vec![trusted.id()];
    let mut node = Node::start(small);
    trusted.meet(&mut node).await;
    bad.meet(&mut node).await;
    for offender in [trusted.id(), trusted.id(), bad.id()] {
        node.handle.report(offender, Offence::HashMismatch);
    }
    node.charged(bad.id(), -0.5).await;
    soon(good.handle.dial(address(&node).await)).await.unwrap();
    let gone = loop {
        if let NetworkEvent::PeerDisconnected(peer) = node.next().await {
            break peer;
        }
    };
    assert_eq!(gone, bad.id());
    assert_eq!(metrics.count("p2p_peers_pruned_total", ""), 1);
    assert_eq!(node.handle.peers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_bootnode_that_is_an_address_is_dialled_without_discovery() {
    let metrics = Metrics::install();
    let mut bootnode = Node::local();
    let mut config = config();
    config.peers = PeersConfig::default();
    config.bootnodes = vec![address(&bootnode).await.to_string().parse().unwrap()];
    let mut node = Node::start(config);
    assert_eq!(node.peer_connected().await, bootnode.id());
    assert_eq!(bootnode.peer_connected().await, node.id());
    assert_eq!(metrics.count("p2p_dials_total", "bootnode connected"), 1);
}

#[tokio::test]
async fn five_nodes_that_know_one_bootnode_find_each_other_and_leave_another_chain_alone() {
    const NODES: usize = 5;
    let metrics = Metrics::install();
    let bootnode = Node::start(seeker(CHAIN));
    let known = record(&bootnode).await;
    let with = |chain: u64, bootnode: &str| {
        let mut config = seeker(chain);
        config.bootnodes = vec![bootnode.parse().unwrap()];
        config.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
        config
    };
    // The sixth is there first, so that everybody hears of it.
    let foreign = Node::start(with(CHAIN + 1, &known));
    metrics.reaches("p2p_discovery_records_total", "other_chain", 1).await;

    // One knows the bootnode's UDP address instead of its record.
    let discovery: SocketAddr =
        known.parse::<enr::Enr<enr::CombinedKey>>().unwrap().udp4_socket().unwrap().into();
    let contact = format!("/ip4/127.0.0.1/udp/{}/p2p/{}", discovery.port(), bootnode.id());
    let mut nodes = vec![bootnode, Node::start(with(CHAIN, &contact))];
    while nodes.len() < NODES {
        nodes.push(Node::start(with(CHAIN, &known)));
    }
    for node in &nodes {
        eventually(|| async {
            let peers = node.handle.peers().await.unwrap();
            let ready = peers.iter().filter(|peer| peer.ready).count();
            (ready == NODES - 1).then_some(())
        })
        .await;
    }
    assert!(metrics.count("p2p_discovery_records_total", "other_chain") >= 1);
    // Whoever had dialled it would still be connected.
    assert!(foreign.handle.peers().await.unwrap().is_empty());
    for node in nodes {
        assert!(node.status(foreign.id()).await.is_none());
        stop(node).await;
    }
    stop(foreign).await;
}

/// Forty hosts send as many packets together as a node takes in all, and none of them more than it may.
#[tokio::test]
async fn packets_of_many_hosts_keep_nobody_from_being_found() {
    let limited = |host: u8| {
        let mut config = seeker(CHAIN);
        config.listen = vec![format!("/ip4/127.0.10.{host}/tcp/0").parse().unwrap()];
        let mut discovery = DiscoveryConfig::new(SocketAddr::from(([127, 0, 10, host], 0)));
        (discovery.limit_subnets, discovery.interval) = (false, Duration::from_millis(100));
        config.discovery = Some(discovery);
        config
    };
    let node = Node::start(limited(1));
    let known = record(&node).await;
    let at = known.parse::<enr::Enr<enr::CombinedKey>>().unwrap().udp4_socket().unwrap();
    let mut hosts = Vec::new();
    for host in 10..50 {
        hosts.push(tokio::net::UdpSocket::bind(SocketAddr::from(([127, 0, 10, host], 0))).await.unwrap());
    }
    let sending = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(100) / 40);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for host in hosts.iter().cycle() {
            tick.tick().await;
            host.send_to(&[7; 100], at).await.unwrap();
        }
    });
    let mut newcomer = limited(2);
    // Only an answer of its discovery says where it is dialled.
    let contact = format!("/ip4/{}/udp/{}/p2p/{}", at.ip(), at.port(), node.id());
    newcomer.bootnodes = vec![contact.parse().unwrap()];
    let newcomer = Node::start(newcomer);
    eventually(|| async { node.status(newcomer.id()).await }).await;
    sending.abort();
}

#[tokio::test]
async fn a_killed_node_finds_its_peers_again_without_bootnodes_and_has_the_same_record() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let data = directory.path().join("data");
    let (mut dialled, mut inbound) = (Node::start(seeker(CHAIN)), Node::start(config()));
    let mut config = seeker(CHAIN);
    config.identity = preconfirmation_p2p::identity::load_or_create(&key).unwrap();
    config.data_dir = Some(data.clone());
    config.peers.save_after = Duration::ZERO;
    config.bootnodes = vec![record(&dialled).await.parse().unwrap()];
    let mut node = Node::start(config.clone());
    assert_eq!(node.peer_connected().await, dialled.id());
    dialled.peer_connected().await;
    // Another one comes by itself and says where it listens. Nobody has reached it there.
    inbound.meet(&mut node).await;

    let (id, first) = (node.id(), record(&node).await);
    let written = |what: String| {
        let data = &data;
        eventually(move || {
            let found =
                |name: &str| std::fs::read_to_string(data.join(name)).unwrap_or_default().contains(&what);
            let found = found("peers.json") || found("enr");
            async move { found.then_some(()) }
        })
    };
    written(dialled.id().to_string()).await;
    written(first.clone()).await;
    assert!(!std::fs::read_to_string(data.join("peers.json")).unwrap().contains(&inbound.id().to_string()));
    // The ports that a restart takes again; an operator's are in the configuration.
    let listen = address(&node).await.iter().take(2).collect();
    let discovery = first.parse::<enr::Enr<enr::CombinedKey>>().unwrap().udp4_socket().unwrap();
    node.running.abort();
    assert_eq!(dialled.peer_disconnected().await, id);
    assert_eq!(inbound.peer_disconnected().await, id);

    config.identity = preconfirmation_p2p::identity::load_or_create(&key).unwrap();
    config.bootnodes.clear();
    config.listen = vec![listen];
    config.discovery.as_mut().unwrap().listen = discovery.into();
    let mut again = start_again(&config).await;
    assert_eq!(again.id(), id);
    assert_eq!(again.peer_connected().await, dialled.id());
    assert_eq!(record(&again).await, first);
    stop(again).await;
}

#[tokio::test]
async fn damaged_files_are_kept_aside_and_the_node_starts() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for name in ["peers.json", "enr"] {
        std::fs::write(data.join(name), "damaged").unwrap();
    }
    let mut config = seeker(CHAIN);
    config.data_dir = Some(data.clone());
    let node = Node::start(config);
    record(&node).await;
    for name in ["peers.json.bad", "enr.bad"] {
        assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), "damaged");
    }
    stop(node).await;
    // The end has written them anew.
    assert!(std::fs::read_to_string(data.join("peers.json")).unwrap().contains("\"version\": 1"));
    assert!(std::fs::read_to_string(data.join("enr")).unwrap().starts_with("enr:"));
}

#[tokio::test]
async fn discovery_ends_with_the_service() {
    let node = Node::start(seeker(CHAIN));
    let known = record(&node).await;
    let port = known.parse::<enr::Enr<enr::CombinedKey>>().unwrap().udp4_socket().unwrap();
    stop(node).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    eventually(|| async { (tasks.num_alive_tasks() == 0).then_some(()) }).await;
    drop(std::net::UdpSocket::bind(port).unwrap());
}

#[tokio::test]
async fn settings_of_peers_that_cannot_work_are_refused() {
    let refused = |change: fn(&mut NetworkConfig)| {
        let mut config = seeker(CHAIN);
        change(&mut config);
        match Network::new(config) {
            Err(NetworkError::Config(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let error = refused(|config| config.peers.low = 31);
    assert_eq!(error.to_string(), "peers.low is 31, above peers.high, which is 30");
    let error = refused(|config| config.redial.min_delay = Duration::from_secs(61));
    assert_eq!(error.to_string(), "redial.min_delay is 61, above redial.max_delay, which is 60");
    let error = refused(|config| config.peers.retry = Duration::ZERO);
    assert!(matches!(error, ConfigError::ZeroDuration { setting: "peers.retry" }), "{error:?}");
    let error = refused(|config| config.identity = Keypair::generate_ed25519());
    assert_eq!(error, ConfigError::DiscoveryIdentity);
    let error = refused(|config| config.advertise = vec!["/ip4/0.0.0.0/tcp/1".parse().unwrap()]);
    assert_eq!(error, ConfigError::Advertise { index: 0 });
    let error = refused(|config| {
        let peer = config.identity.public().to_peer_id();
        config.bootnodes = vec![format!("/ip4/192.0.2.1/udp/1/p2p/{peer}").parse().unwrap()];
        config.discovery = None;
    });
    assert_eq!(error, ConfigError::BootnodeNeedsDiscovery { index: 0 });
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = seeker(CHAIN);
    config.data_dir = Some(file.path().join("data"));
    assert!(matches!(Network::new(config), Err(NetworkError::DataDir { .. })));
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = seeker(CHAIN);
    config.discovery.as_mut().unwrap().listen = taken.local_addr().unwrap();
    assert!(matches!(Network::new(config), Err(NetworkError::Discovery(_))));
}

#[tokio::test]
async fn a_node_that_listens_everywhere_learns_its_address_from_two_others() {
    let others = [Node::start(seeker(CHAIN)), Node::start(seeker(CHAIN))];
    let mut everywhere = seeker(CHAIN);
    everywhere.discovery.as_mut().unwrap().listen = "0.0.0.0:0".parse().unwrap();
    for other in &others {
        everywhere.bootnodes.push(record(other).await.parse().unwrap());
    }
    let node = Node::start(everywhere);
    eventually(|| async {
        let known: enr::Enr<enr::CombinedKey> = node.handle.record()?.parse().unwrap();
        (known.ip4()? == std::net::Ipv4Addr::LOCALHOST).then_some(())
    })
    .await;
}

#[tokio::test]
async fn advertised_addresses_are_what_peers_and_the_record_are_told() {
    let mut hidden = seeker(CHAIN);
    hidden.advertise = vec!["/ip4/192.0.2.7/tcp/443".parse().unwrap()];
    let (mut node, hidden) = (Node::local(), Node::start(hidden));
    let known: enr::Enr<enr::CombinedKey> = record(&hidden).await.parse().unwrap();
    assert_eq!(known.tcp4_socket(), Some("192.0.2.7:443".parse().unwrap()));
    soon(node.handle.dial(address(&hidden).await)).await.unwrap();
    while !matches!(node.next().await, NetworkEvent::PeerConnected { peer, .. } if peer == hidden.id()) {}
}
