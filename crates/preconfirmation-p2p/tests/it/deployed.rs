//! Nodes beside a double of the deployed peers, over real TCP: what they would ban for does not happen.
//! `DEPLOYED_SECONDS` says how long at least; ten by default.

use std::{
    net::SocketAddr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use libp2p::multiaddr::Protocol;
use preconfirmation_p2p::{
    InboundRequest, Keypair, NetworkConfig, NetworkEvent, NetworkEvents, NetworkHandle, PeerId,
    deployed::{DeployedPeer, DeployedPeerConfig},
};
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, PreconfHead, SignedCommitment,
    TxList, U256,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::rig::{CHAIN, Node, commitment, config, eventually, soon};

fn length() -> Duration {
    let seconds = std::env::var("DEPLOYED_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

fn double(change: impl FnOnce(&mut DeployedPeerConfig)) -> DeployedPeer {
    let list = TxList::new(vec![3; 600 * 1024].into(), 2 * 1024 * 1024).unwrap();
    let mut config = DeployedPeerConfig::new(CHAIN, Keypair::generate_ed25519());
    config.commitments = (10..300).map(|block| (block, commitment(block))).collect();
    config.txlists.insert(list.hash(), list.bytes().clone());
    change(&mut config);
    DeployedPeer::start(config).unwrap()
}

/// A full page. Signing it for each request would hold up all nodes of a test, which share a thread.
fn page() -> GetCommitmentsByNumberResponse {
    static PAGE: LazyLock<Vec<SignedCommitment>> = LazyLock::new(|| (0..256).map(commitment).collect());
    GetCommitmentsByNumberResponse::new(PAGE.clone()).unwrap()
}

/// Answers, but forgets every fifth request.
async fn serve(mut events: NetworkEvents) {
    let mut count = 0;
    while let Some(event) = events.next().await {
        let NetworkEvent::Request { request, .. } = event else { continue };
        count += 1;
        match request {
            _ if count % 5 == 0 => {}
            InboundRequest::Head(responder) => responder.send(PreconfHead::default()),
            InboundRequest::Commitments(_, responder) => responder.send(page()),
            InboundRequest::TxList(asked, responder) => responder.send(GetRawTxListResponse {
                raw_tx_list_hash: asked.raw_tx_list_hash,
                // What a busy machine can send in time without optimisation.
                txlist: vec![1; 20 * 1024].into(),
            }),
            other => panic!("{other:?}"),
        }
    }
}

/// Sixteen of these take a line of 8 Mbit/s 15 s: all at once, none would end before a deployed peer's time-out of 10 s.
const LARGE_LIST: usize = 900 * 1024;

/// Answers each request for a list with a large one.
async fn serve_large_lists(mut events: NetworkEvents) {
    while let Some(event) = events.next().await {
        let NetworkEvent::Request { request, .. } = event else { continue };
        match request {
            InboundRequest::Head(responder) => responder.send(PreconfHead::default()),
            InboundRequest::Commitments(_, responder) => responder.send(Default::default()),
            InboundRequest::TxList(asked, responder) => responder.send(GetRawTxListResponse {
                raw_tx_list_hash: asked.raw_tx_list_hash,
                txlist: vec![1; LARGE_LIST].into(),
            }),
            other => panic!("{other:?}"),
        }
    }
}

/// A line to an address that carries so many bytes a second there, and any number back.
async fn slow_line(to: SocketAddr, bytes_per_second: usize) -> SocketAddr {
    const STEPS: u16 = 100;
    let socket = TcpSocket::new_v4().unwrap();
    // What waits for the line waits at its sender.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let (mut near_reads, mut near_writes) = near.into_split();
        let (mut far_reads, mut far_writes) = far.into_split();
        let back = tokio::io::copy(&mut far_reads, &mut near_writes);
        let there = async {
            let mut step = tokio::time::interval(Duration::from_secs(1) / u32::from(STEPS));
            let mut bytes = vec![0; bytes_per_second / usize::from(STEPS)];
            loop {
                step.tick().await;
                match near_reads.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => far_writes.write_all(bytes.get(..read).unwrap()).await.unwrap(),
                }
            }
        };
        tokio::select! { _ = back => {}, () = there => {} }
    });
    address
}

/// Asks the double for all that it has, as fast as it may, until this is dropped.
async fn sync(handle: &NetworkHandle, peer: PeerId) {
    let page = GetCommitmentsByNumberRequest { start_block_number: U256::from(10), max_count: 256 };
    let list = GetRawTxListRequest { raw_tx_list_hash: Default::default() };
    loop {
        // One that waits for its rate limit when the peer leaves ends with an error.
        let _asked = tokio::join!(
            handle.request::<GetHead>(peer, GetHeadRequest {}),
            handle.request::<GetCommitmentsByNumber>(peer, page),
            handle.request::<GetRawTxList>(peer, list),
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a node knows what the double speaks; none if it is not connected.
async fn is_ready(handle: &NetworkHandle, double: &DeployedPeer) -> Option<bool> {
    let peers = handle.peers().await.unwrap();
    peers.iter().find(|status| status.peer == double.peer_id()).map(|status| status.ready)
}

async fn meet(handle: &NetworkHandle, double: &DeployedPeer) {
    soon(handle.dial(double.address().await.unwrap())).await.unwrap();
    eventually(|| async { is_ready(handle, double).await.filter(|ready| *ready) }).await;
}

/// Starts with this configuration, serves, and syncs from the double for so long; then shuts down.
async fn live(config: NetworkConfig, double: &DeployedPeer, life: Duration) {
    let Node { handle, events, running, .. } = Node::start(config);
    let serving = tokio::spawn(serve(events));
    meet(&handle, double).await;
    let _over = tokio::time::timeout(life, sync(&handle, double.peer_id())).await.is_err();
    handle.shutdown();
    soon(running).await.unwrap().unwrap();
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn restarts_and_shutdowns_beside_a_deployed_peer_earn_no_punishment() {
    let (identity, directory) = (Keypair::generate_ed25519(), tempfile::tempdir().unwrap());
    // One answers at once and asks ninety times in a burst, one takes its time with either.
    let busy = double(|config| (config.burst, config.ask_every) = (30, Some(Duration::from_secs(3))));
    let slow = double(|config| {
        (config.answer_after, config.ask_every) = (Duration::from_secs(4), Some(Duration::from_millis(1700)));
    });
    let lives = async |double: &DeployedPeer, name: &str| {
        let end = Instant::now() + length();
        // A short life, which the next one must not exceed the limit after, and one that outlives the window.
        for seconds in [5, 14].into_iter().cycle() {
            let mut config = NetworkConfig::local(CHAIN, identity.clone());
            config.data_dir = Some(directory.path().join(name));
            live(config, double, Duration::from_secs(seconds)).await;
            if Instant::now() >= end {
                break;
            }
        }
    };
    tokio::join!(lives(&busy, "busy"), lives(&slow, "slow"));
    for double in [busy, slow] {
        let failure = double.last_failure();
        assert!(double.punishments().is_empty(), "{:?} {failure:?}", double.punishments());
        let (served, answered) = double.traffic();
        println!("{served} requests answered by the double, {answered} of its own answered, none punished");
        assert!(served > 3 && answered > 10, "{served} {answered}");
    }
}

#[tokio::test]
async fn pruning_a_deployed_peer_earns_no_punishment() {
    let double = double(|config| config.ask_every = Some(Duration::from_millis(1900)));
    let mut config = config();
    (config.peers.low, config.peers.high, config.peers.grace) = (0, 0, Duration::from_secs(1));
    let Node { handle, events, .. } = Node::start(config);
    tokio::spawn(serve(events));
    for _ in 0..3 {
        meet(&handle, &double).await;
        eventually(|| async { is_ready(&handle, &double).await.is_none().then_some(()) }).await;
    }
    let failure = double.last_failure();
    assert!(double.punishments().is_empty(), "{:?} {failure:?}", double.punishments());
    assert!(double.traffic().1 > 0);
}

/// Sixteen lists at once are more than a line of 8 Mbit/s carries before the double's time-out: those that cannot end in time are
/// answered without their list.
#[tokio::test]
async fn large_lists_over_a_slow_line_earn_no_punishment() {
    let double = double(|config| (config.burst, config.ask_every) = (16, Some(Duration::from_secs(3600))));
    let Node { handle, events, .. } = Node::start(config());
    tokio::spawn(serve_large_lists(events));
    let address = double.address().await.unwrap();
    let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
    let line = slow_line(SocketAddr::from(([127, 0, 0, 1], port.unwrap())), 1_000_000).await;
    let over_the_line = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", line.port(), double.peer_id());
    soon(handle.dial(over_the_line.parse().unwrap())).await.unwrap();
    // A head, a page and a list for each of the burst.
    eventually(|| async {
        let failed = double.punishments().get(&handle.local_peer_id()).copied();
        assert_eq!(failed, None, "{:?}", double.last_failure());
        (double.traffic().1 == 3 * 16).then_some(())
    })
    .await;
}
