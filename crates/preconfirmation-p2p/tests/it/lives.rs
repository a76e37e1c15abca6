//! How nodes begin and end.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{
    SwarmBuilder, noise,
    swarm::{SwarmEvent, dummy},
    tcp, yamux,
};
use preconfirmation_p2p::{
    ConfigError, Keypair, Multiaddr, Network, NetworkConfig, NetworkError, PublishError,
};
use preconfirmation_types::{GetHead, GetHeadRequest};

use crate::rig::{CHAIN, COMMITMENTS, Node, config, eventually, soon, ssz};

#[tokio::test]
async fn shutdown_ends_the_service_and_everything_that_waits_for_it() {
    let (mut node, mut other) = (Node::local(), Node::local());
    node.meet(&mut other).await;
    let pending = {
        let (handle, peer) = (node.handle.clone(), other.id());
        tokio::spawn(async move { handle.request::<GetHead>(peer, GetHeadRequest {}).await })
    };
    let held = other.request().await;

    node.handle.shutdown();
    drop(held);
    soon(&mut node.running).await.unwrap().unwrap();
    // It had been sent, so its answer was waited for.
    assert!(soon(pending).await.unwrap().is_ok());
    assert_eq!(node.peer_disconnected().await, other.id());
    assert!(soon(node.events.next()).await.is_none());
    assert_eq!(other.peer_disconnected().await, node.id());

    assert_eq!(soon(node.handle.publish(COMMITMENTS, ssz(1))).await, Err(PublishError::Closed));
    assert!(matches!(soon(node.handle.peers()).await, Err(NetworkError::Closed)));
    let nowhere: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    assert!(matches!(soon(node.handle.dial(nowhere)).await, Err(NetworkError::Closed)));
    node.handle.shutdown();
    node.handle.report(other.id(), preconfirmation_types::Offence::Malformed);
}

#[tokio::test]
async fn the_service_ends_with_its_last_handle_and_leaves_nothing_behind() {
    let (handle, mut events, service) = Network::new(config()).unwrap();
    let running = tokio::spawn(service.run());
    let address = soon(handle.listen_addrs()).await.unwrap().remove(0);
    drop(handle.clone());
    assert!(!running.is_finished());
    drop(handle);
    soon(running).await.unwrap().unwrap();
    assert!(soon(events.next()).await.is_none());

    // No task survives, and the port is free again.
    let tasks = tokio::runtime::Handle::current().metrics();
    eventually(|| async { (tasks.num_alive_tasks() == 0).then_some(()) }).await;
    let mut again = NetworkConfig::new(CHAIN, Keypair::generate_ed25519());
    again.listen = vec![address.iter().take(2).collect()];
    drop(eventually(|| async { Network::new(again.clone()).ok() }).await);
}

#[tokio::test]
async fn a_shutdown_before_the_start_is_not_forgotten() {
    let (handle, _events, service) = Network::new(config()).unwrap();
    handle.shutdown();
    soon(service.run()).await.unwrap();
}

#[tokio::test]
async fn static_peers_are_dialled_and_status_tells_about_them() {
    let mut server = Node::start(NetworkConfig::local(CHAIN, Keypair::generate_secp256k1()));
    let mut config = config();
    config.static_peers = soon(server.handle.listen_addrs()).await.unwrap();
    let mut node = Node::start(config);
    assert_eq!(node.peer_connected().await, server.id());
    assert_eq!(server.peer_connected().await, node.id());
    node.subscribed(server.id()).await;
    let status = eventually(|| async {
        let status = node.status(server.id()).await?;
        status.round_trip.is_some().then_some(status)
    })
    .await;
    assert!(status.ready && !status.inbound && status.banned_for.is_none());
    assert!(status.protocols.contains(&format!("/taiko/{CHAIN}/preconf/1/get_head")));
    assert!(status.protocols.contains(&"/meshsub/1.2.0".to_owned()));
    assert!(status.protocols.contains(&"/floodsub/1.0.0".to_owned()));
    assert!(server.status(node.id()).await.unwrap().inbound);
}

/// A peer that does nothing with its connection.
fn idle_peer(address: Multiaddr) -> tokio::task::JoinHandle<()> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.dial(address).unwrap();
    tokio::spawn(async move {
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    })
}

#[tokio::test]
async fn a_connection_that_nothing_uses_ends_after_the_time_set() {
    let took = async |timeout| {
        let mut config = config();
        config.connections.idle_timeout = timeout;
        let node = Node::start(config);
        let start = Instant::now();
        soon(idle_peer(soon(node.handle.listen_addrs()).await.unwrap().remove(0))).await.unwrap();
        start.elapsed()
    };
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(2));
    let (short, least) = tokio::join!(took(short), took(long));
    assert!(short < Duration::from_secs(10) && least >= long, "{short:?}, {least:?}");
}

#[tokio::test]
async fn peers_are_pinged_as_often_as_is_set() {
    let mut frequent = config();
    frequent.connections.ping_interval = Duration::from_millis(20);
    let (mut node, mut other) = (Node::start(frequent), Node::local());
    node.meet(&mut other).await;
    // By default so many would take longer than the test may.
    soon(async {
        for _ in 0..8 {
            let before = node.status(other.id()).await.unwrap().round_trip;
            eventually(|| async {
                let round_trip = node.status(other.id()).await?.round_trip;
                (round_trip != before).then_some(())
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn peers_of_another_chain_are_not_announced() {
    let (node, mut foreign) =
        (Node::local(), Node::start(NetworkConfig::local(CHAIN + 1, Keypair::generate_ed25519())));
    let address = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
    soon(foreign.handle.dial(address)).await.unwrap();
    let status = eventually(|| async {
        let status = node.status(foreign.id()).await?;
        status.agent.is_some().then_some(status)
    })
    .await;
    assert!(!status.ready && status.topics.is_empty());
    foreign.handle.shutdown();
    soon(&mut foreign.running).await.unwrap().unwrap();
    assert!(soon(foreign.events.next()).await.is_none(), "it has announced a peer");
}

#[tokio::test]
async fn what_cannot_be_dialled_or_listened_on_says_so() {
    let node = Node::local();
    let (busy, own) = {
        let address = soon(node.handle.listen_addrs()).await.unwrap().remove(0);
        (address.iter().take(2).collect::<Multiaddr>(), address)
    };
    let mut second = config();
    second.listen = vec![busy.clone()];
    let error = Network::new(second).unwrap_err();
    assert!(matches!(&error, NetworkError::Listen { address, .. } if *address == busy), "{error:?}");

    let unspoken: Multiaddr = "/ip4/127.0.0.1/tcp/0/ws".parse().unwrap();
    let mut third = config();
    third.listen = vec![unspoken.clone()];
    let error = Network::new(third).unwrap_err();
    assert!(matches!(&error, NetworkError::Listen { address, .. } if *address == unspoken), "{error:?}");

    let error = soon(node.handle.dial(own)).await.unwrap_err();
    assert!(matches!(error, NetworkError::Dial { .. }) && error.is_retryable(), "{error:?}");
    let closed: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let error = soon(node.handle.dial(closed)).await.unwrap_err();
    assert!(matches!(error, NetworkError::Dial { .. }), "{error:?}");
    let error = soon(node.handle.dial(unspoken)).await.unwrap_err();
    assert!(matches!(error, NetworkError::Dial { .. }), "{error:?}");
}

#[test]
fn there_is_no_network_without_a_runtime() {
    assert!(matches!(Network::new(config()), Err(NetworkError::NoRuntime(_))));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |change: fn(&mut NetworkConfig)| {
        let mut config = config();
        change(&mut config);
        match Network::new(config) {
            Err(NetworkError::Config(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let error = refused(|config| config.gossip.mesh.low = 9);
    assert!(matches!(error, ConfigError::Mesh { size: 8, low: 9, .. }), "{error:?}");
    let error = refused(|config| config.gossip.history_gossip = 121);
    assert!(matches!(error, ConfigError::History { gossiped: 121, .. }), "{error:?}");
    let error = refused(|config| config.score.ban_threshold = -1.0);
    assert!(matches!(error, ConfigError::Thresholds { .. }), "{error:?}");
    let error = refused(|config| config.score.publish_threshold = f64::NAN);
    assert!(matches!(error, ConfigError::Thresholds { .. }), "{error:?}");
    let error = refused(|config| config.score.topic.invalid_deliveries = 2.0);
    assert!(matches!(error, ConfigError::OutOfRange { value: 2.0, .. }), "{error:?}");
    let error = refused(|config| config.max_txlist_bytes = 0);
    assert!(matches!(error, ConfigError::OutOfRange { setting: "max_txlist_bytes", .. }), "{error:?}");
    let error = refused(|config| config.pacing.window = std::time::Duration::ZERO);
    assert!(matches!(error, ConfigError::ZeroDuration { .. }), "{error:?}");
}
