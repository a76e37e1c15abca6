//! The three protocols over sockets.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use preconfirmation_p2p::{
    InboundRequest, Keypair, NetworkConfig, NetworkEvent, PeerId, RateLimit, RequestError,
};
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, MAX_TXLIST_BYTES, Mismatch,
    PreconfHead, SignedCommitment, TxList, U256,
};

use crate::rig::{CHAIN, Metrics, Node, commitment, config, soon};

const PAGE: GetCommitmentsByNumberRequest =
    GetCommitmentsByNumberRequest { start_block_number: U256::from_limbs([10, 0, 0, 0]), max_count: 256 };

/// The largest list that there is.
fn largest() -> TxList {
    TxList::new(vec![5; MAX_TXLIST_BYTES].into(), MAX_TXLIST_BYTES).unwrap()
}

/// Lists of 10 KiB, all different.
fn lists(count: u64) -> Vec<TxList> {
    let list = |number: u64| {
        let mut list = vec![7; 10 * 1024];
        list[..8].copy_from_slice(&number.to_le_bytes());
        TxList::new(list.into(), MAX_TXLIST_BYTES).unwrap()
    };
    (0..count).map(list).collect()
}

/// Answers as a good peer does: it has blocks from 10 on, and these transaction lists.
async fn serve(mut node: Node, lists: Vec<TxList>) {
    let lists: HashMap<_, _> = lists.into_iter().map(|list| (list.hash(), list)).collect();
    while let Some(event) = node.events.next().await {
        let NetworkEvent::Request { request, .. } = event else { continue };
        match request {
            InboundRequest::Head(responder) => responder
                .send(PreconfHead { block_number: U256::from(265), submission_window_end: U256::from(12) }),
            InboundRequest::Commitments(request, responder) => {
                let start: u64 = request.start_block_number.to();
                let count = u64::from(request.max_count.min(256));
                let page = (start..start + count).map(commitment).collect();
                responder.send(GetCommitmentsByNumberResponse::new(page).unwrap());
            }
            InboundRequest::TxList(request, responder) => {
                let hash = request.raw_tx_list_hash;
                let list = lists.get(&hash).cloned();
                responder.send(list.map_or_else(|| GetRawTxListResponse::not_found(hash), Into::into));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A node that does not tell how much it answers, like the deployed peers.
fn silent() -> NetworkConfig {
    let mut config = config();
    config.serving.advertise = false;
    config
}

/// As a node that has never run before: nothing that it asked in an earlier run can still count.
fn fresh(mut config: NetworkConfig) -> NetworkConfig {
    config.data_dir = Some(tempfile::tempdir().unwrap().keep());
    config
}

/// The same promise as anyone can write it: s in the upper half, v flipped.
fn high_s(signed: &SignedCommitment) -> SignedCommitment {
    const ORDER: U256 = U256::from_limbs([
        0xbfd2_5e8c_d036_4141,
        0xbaae_dce6_af48_a03b,
        0xffff_ffff_ffff_fffe,
        0xffff_ffff_ffff_ffff,
    ]);
    let mut twin = signed.clone();
    let s = U256::from_be_slice(&twin.signature[32..64]);
    twin.signature[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
    twin.signature[64] ^= 1;
    twin
}

/// Fetches these lists from a server of this kind, which has them all. How long that took, or how many requests
/// were refused. Nobody may be charged.
async fn fetch(lists: &[TxList], config: NetworkConfig) -> Result<Duration, u64> {
    let metrics = Metrics::install();
    let (mut asker, mut server) = (Node::start(fresh(self::config())), Node::start(config));
    asker.meet(&mut server).await;
    let (peer, handle) = (server.id(), server.handle.clone());
    tokio::spawn(serve(server, lists.to_vec()));
    let start = Instant::now();
    let requests = lists.iter().map(|list| GetRawTxListRequest { raw_tx_list_hash: list.hash() });
    let requests = requests.map(|request| asker.handle.request::<GetRawTxList>(peer, request));
    let answers = soon(join_all(requests)).await;
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
    let asked = handle.peers().await.unwrap();
    assert!(asked.iter().all(|status| status.application_score == 0.0), "{asked:?}");
    let refused = |label| metrics.count("p2p_reqresp_requests_total", label);
    let refused = refused("inbound rate_limited") + refused("inbound busy");
    if refused > 0 {
        return Err(refused);
    }
    for (answer, list) in answers.into_iter().zip(lists) {
        assert_eq!(answer.unwrap().verify(MAX_TXLIST_BYTES).unwrap().as_ref(), Some(list));
    }
    Ok(start.elapsed())
}

/// Fetches them without a refusal in this time. A machine that stood still for a moment, so that what was sent
/// apart arrived together, gets two more tries.
async fn fetched(lists: &[TxList], most: Duration, config: impl Fn() -> NetworkConfig) -> Duration {
    let mut tries = Vec::new();
    while tries.len() < 3 {
        match fetch(lists, config()).await {
            Ok(took) if took <= most => return took,
            other => tries.push(other),
        }
    }
    panic!("{tries:?}");
}

#[tokio::test]
async fn twenty_four_lists_from_a_server_with_the_deployed_limit_are_never_refused() {
    let deployed = || {
        let mut deployed = silent();
        deployed.serving.requests = 8.try_into().unwrap();
        deployed.serving.requests_per = Duration::from_secs(10);
        deployed
    };
    let took = fetched(&lists(24), Duration::from_secs(40), deployed).await;
    assert!(took >= Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_thousand_lists_of_10_kib_from_a_server_with_our_limits_take_less_than_five_seconds() {
    fetched(&lists(1000), Duration::from_secs(5), config).await;
}

async fn asker_and_server() -> (Node, PeerId) {
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    tokio::spawn(serve(server, vec![largest()]));
    (asker, peer)
}

#[tokio::test]
async fn a_head() {
    let (asker, peer) = asker_and_server().await;
    let head = soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})).await.unwrap();
    assert_eq!(head.block_number, U256::from(265));
}

#[tokio::test]
async fn a_full_page() {
    let (asker, peer) = asker_and_server().await;
    let page = soon(asker.handle.request::<GetCommitmentsByNumber>(peer, PAGE)).await.unwrap();
    assert_eq!(page.commitments().len(), 256);
    assert_eq!(page.commitments()[255], commitment(265));
}

#[tokio::test]
async fn the_largest_txlist_and_one_that_is_not_there() {
    let (asker, peer) = asker_and_server().await;
    let list = largest();
    let ask = |raw_tx_list_hash| {
        soon(asker.handle.request::<GetRawTxList>(peer, GetRawTxListRequest { raw_tx_list_hash }))
    };
    let found = ask(list.hash()).await.unwrap().verify(MAX_TXLIST_BYTES).unwrap();
    assert_eq!(found, Some(list));
    let missing = ask(B256::repeat_byte(3)).await.unwrap().verify(MAX_TXLIST_BYTES).unwrap();
    assert_eq!(missing, None);
    // Nobody is blamed for what it does not have.
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn a_dropped_responder_is_still_an_answer() {
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let raw_tx_list_hash = B256::repeat_byte(3);
    let (head, page, list, ()) = tokio::join!(
        soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})),
        soon(asker.handle.request::<GetCommitmentsByNumber>(peer, PAGE)),
        soon(asker.handle.request::<GetRawTxList>(peer, GetRawTxListRequest { raw_tx_list_hash })),
        async {
            for _ in 0..3 {
                drop(server.request().await);
            }
        }
    );
    assert_eq!(head.unwrap(), PreconfHead::default());
    assert!(page.unwrap().commitments().is_empty());
    assert_eq!(list.unwrap(), GetRawTxListResponse::not_found(raw_tx_list_hash));
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let metrics = Metrics::install();
    let mut hasty = config();
    hasty.pacing.timeout = Duration::from_millis(300);
    let (mut asker, mut server) = (Node::start(hasty), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answer, request) =
        tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), server.request());
    assert!(matches!(answer, Err(RequestError::TimedOut)), "{answer:?}");
    // The answer comes too late; that does no harm, and the request was let run.
    let (_, InboundRequest::Head(responder)) = request else {
        panic!("another request");
    };
    assert!(responder.is_open());
    responder.send(PreconfHead::default());
    metrics.reaches("p2p_reqresp_requests_total", "inbound answered", 1).await;
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
}

/// What this peer answers a request for blocks from 10 on, and what the asker sees of it.
async fn page_of(
    blocks: Vec<SignedCommitment>,
    max_count: u32,
) -> (Node, Node, Result<Vec<SignedCommitment>, RequestError>) {
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let asked = GetCommitmentsByNumberRequest { max_count, ..PAGE };
    let (answer, ()) =
        tokio::join!(soon(asker.handle.request::<GetCommitmentsByNumber>(peer, asked)), async {
            let (_, InboundRequest::Commitments(_, responder)) = server.request().await else {
                panic!("another request");
            };
            responder.send(GetCommitmentsByNumberResponse::new(blocks).unwrap());
        });
    (asker, server, answer.map(GetCommitmentsByNumberResponse::into_commitments))
}

#[tokio::test]
async fn a_page_with_gaps_or_a_later_beginning_is_no_offence() {
    for blocks in [[11, 12], [10, 12], [12, 11]] {
        let page: Vec<_> = blocks.map(commitment).into();
        let (asker, server, answer) = page_of(page.clone(), 256).await;
        assert_eq!(answer.unwrap(), page);
        assert_eq!(asker.status(server.id()).await.unwrap().application_score, 0.0);
    }
}

#[tokio::test]
async fn a_page_longer_than_asked_for_is_an_offence() {
    let (asker, server, answer) = page_of(vec![commitment(10), commitment(11)], 1).await;
    let error = answer.unwrap_err();
    assert!(matches!(error, RequestError::Mismatch(Mismatch::TooMany { asked: 1, actual: 2 })), "{error:?}");
    assert!(error.is_offence() && !error.is_retryable());
    asker.charged(server.id(), -0.9).await;
}

#[tokio::test]
async fn a_page_comes_with_low_s_whatever_was_sent() {
    let genuine = commitment(10);
    let (asker, server, answer) = page_of(vec![high_s(&genuine)], 256).await;
    assert_eq!(answer.unwrap(), [genuine]);
    assert_eq!(asker.status(server.id()).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn untrusted_peers_cannot_be_asked() {
    let (asker, untrusted) = (Node::local(), PeerId::random());
    let error = soon(asker.handle.request::<GetHead>(untrusted, GetHeadRequest {})).await.unwrap_err();
    assert!(matches!(error, RequestError::NotConnected { peer } if peer == untrusted), "{error:?}");
}

#[tokio::test]
async fn requests_wait_for_their_turn() {
    let mut slow = config();
    slow.pacing.requests = 2.try_into().unwrap();
    slow.pacing.window = Duration::from_secs(2);
    slow.pacing.waiting = 4.try_into().unwrap();
    let (mut asker, mut server) = (Node::start(fresh(slow)), Node::start(silent()));
    asker.meet(&mut server).await;
    let peer = server.id();
    tokio::spawn(serve(server, Vec::new()));

    let start = Instant::now();
    let requests = (0..8).map(|_| asker.handle.request::<GetHead>(peer, GetHeadRequest {}));
    let answers = soon(join_all(requests)).await;
    // Two at once, four after waiting, and no room for two more.
    assert!(start.elapsed() >= Duration::from_secs(2 * 2), "{:?}", start.elapsed());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 6);
    let full = |answer: &Result<_, _>| matches!(answer, Err(RequestError::QueueFull { limit: 4 }));
    assert_eq!(answers.iter().filter(|answer| full(answer)).count(), 2);
}

#[tokio::test]
async fn what_is_asked_of_a_peer_that_shuts_down_is_answered() {
    let mut slow = config();
    slow.pacing.requests = 1.try_into().unwrap();
    slow.pacing.window = Duration::from_secs(3600);
    let (mut asker, mut server) = (Node::start(fresh(slow)), Node::start(silent()));
    asker.meet(&mut server).await;
    let peer = server.id();
    let request = || asker.handle.request::<GetHead>(peer, GetHeadRequest {});
    let (sent, waiting, ()) = tokio::join!(soon(request()), soon(request()), async {
        let held = server.request().await;
        server.handle.shutdown();
        soon(&mut server.running).await.unwrap().unwrap();
        drop(held);
    });
    // The server's application does not answer any more; the service does.
    assert_eq!(sent.unwrap(), PreconfHead::default());
    assert!(matches!(waiting, Err(RequestError::Disconnected)), "{waiting:?}");
}

#[tokio::test]
async fn a_node_that_shuts_down_waits_for_the_answers_it_is_owed() {
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answer, ()) = tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), async {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        asker.handle.shutdown();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(responder.is_open(), "the connection was closed with a request in flight");
        responder.send(PreconfHead::default());
    });
    assert!(answer.is_ok(), "{answer:?}");
    soon(&mut asker.running).await.unwrap().unwrap();
}

/// One SIGTERM and start: the window is the responder's, and it bans for the ninth request.
#[tokio::test]
async fn a_restart_does_not_exceed_the_rate_limit_of_a_deployed_peer() {
    let metrics = Metrics::install();
    let mut deployed = silent();
    deployed.serving.requests = 8.try_into().unwrap();
    deployed.serving.requests_per = Duration::from_secs(10);
    let server = Node::start(deployed);
    let at = soon(server.handle.listen_addrs()).await.unwrap().remove(0);
    let (identity, peer) = (Keypair::generate_ed25519(), server.id());
    tokio::spawn(serve(server, Vec::new()));
    let directory = tempfile::tempdir().unwrap();
    let mut took = Vec::new();
    for with_directory in [true, true, false] {
        let mut config = NetworkConfig::local(CHAIN, identity.clone());
        config.data_dir = with_directory.then(|| directory.path().to_owned());
        let mut node = Node::start(config);
        let start = Instant::now();
        soon(node.handle.dial(at.clone())).await.unwrap();
        node.peer_connected().await;
        for _ in 0..8 {
            soon(node.handle.request::<GetHead>(peer, GetHeadRequest {})).await.unwrap();
        }
        took.push(start.elapsed());
        node.handle.shutdown();
        soon(&mut node.running).await.unwrap().unwrap();
    }
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound rate_limited"), 0);
    // The first run has nothing to wait for.
    let window = Duration::from_millis(10_500);
    assert!(took[0] < Duration::from_secs(5) && took[1] >= window && took[2] >= window, "{took:?}");
}

#[tokio::test]
async fn an_operator_names_a_peer_that_answers_more() {
    let metrics = Metrics::install();
    let (mut server, mut lenient) = (Node::start(silent()), config());
    let peer = server.id();
    let limit = RateLimit { requests: 500.try_into().unwrap(), window: Duration::from_secs(1) };
    lenient.rate_limits.insert(peer, limit);
    let mut asker = Node::start(lenient);
    asker.meet(&mut server).await;
    tokio::spawn(serve(server, Vec::new()));
    let start = Instant::now();
    let requests = (0..100).map(|_| asker.handle.request::<GetHead>(peer, GetHeadRequest {}));
    assert!(soon(join_all(requests)).await.iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(asker.status(peer).await.unwrap().rate_limit, Some(limit));
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound rate_limited"), 0);
}
