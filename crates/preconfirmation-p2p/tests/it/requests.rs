//! The three protocols over sockets.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use preconfirmation_p2p::{InboundRequest, NetworkConfig, PeerId, RequestError};
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, MAX_TXLIST_BYTES, Mismatch,
    PreconfHead, TxList, U256,
};

use crate::rig::{Metrics, Node, commitment, config, soon};

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
    loop {
        match node.request().await.1 {
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

/// Fetches these lists from a server of this kind, which has them all. How long that took, or how many requests
/// were refused. Nobody may be charged.
async fn fetch(lists: &[TxList], config: NetworkConfig) -> Result<Duration, u64> {
    let metrics = Metrics::install();
    let (mut asker, mut server) = (Node::local(), Node::start(config));
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
async fn a_dropped_responder_is_an_error_and_no_offence() {
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answer, ()) = tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), async {
        drop(server.request().await)
    });
    let error = answer.unwrap_err();
    assert!(matches!(error, RequestError::NoAnswer), "{error:?}");
    assert!(error.is_retryable() && !error.is_offence());
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let mut hasty = config();
    hasty.pacing.timeout = Duration::from_millis(300);
    let (mut asker, mut server) = (Node::start(hasty), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answer, request) =
        tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), server.request());
    assert!(matches!(answer, Err(RequestError::TimedOut)), "{answer:?}");
    // The answer comes too late; that does no harm.
    let (_, InboundRequest::Head(responder)) = request else {
        panic!("another request");
    };
    responder.send(PreconfHead::default());
    assert_eq!(asker.status(peer).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn a_page_from_the_wrong_block_is_an_error_and_charged() {
    let (mut asker, mut liar) = (Node::local(), Node::local());
    asker.meet(&mut liar).await;
    let peer = liar.id();
    let (answer, ()) =
        tokio::join!(soon(asker.handle.request::<GetCommitmentsByNumber>(peer, PAGE)), async {
            let (_, InboundRequest::Commitments(_, responder)) = liar.request().await else {
                panic!("another request");
            };
            responder.send(GetCommitmentsByNumberResponse::new(vec![commitment(11)]).unwrap());
        });
    let error = answer.unwrap_err();
    let RequestError::Mismatch(Mismatch::Block { index: 0, actual, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(actual, U256::from(11));
    assert!(error.is_offence() && !error.is_retryable());
    asker.charged(peer, -0.9).await;
}

#[tokio::test]
async fn strangers_cannot_be_asked() {
    let (asker, stranger) = (Node::local(), PeerId::random());
    let error = soon(asker.handle.request::<GetHead>(stranger, GetHeadRequest {})).await.unwrap_err();
    assert!(matches!(error, RequestError::NotConnected { peer } if peer == stranger), "{error:?}");
}

#[tokio::test]
async fn requests_wait_for_their_turn() {
    let mut slow = config();
    slow.pacing.requests = 2.try_into().unwrap();
    slow.pacing.window = Duration::from_secs(2);
    slow.pacing.waiting = 4.try_into().unwrap();
    let (mut asker, mut server) = (Node::start(slow), Node::start(silent()));
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
async fn a_peer_that_leaves_ends_what_waits_for_it() {
    let mut slow = config();
    slow.pacing.requests = 1.try_into().unwrap();
    slow.pacing.window = Duration::from_secs(3600);
    let (mut asker, mut server) = (Node::start(slow), Node::start(silent()));
    asker.meet(&mut server).await;
    let peer = server.id();
    let request = || asker.handle.request::<GetHead>(peer, GetHeadRequest {});
    let (sent, waiting, ()) = tokio::join!(soon(request()), soon(request()), async {
        let _held = server.request().await;
        server.handle.shutdown();
        soon(&mut server.running).await.unwrap().unwrap();
    });
    assert!(matches!(waiting, Err(RequestError::Disconnected)), "{waiting:?}");
    // The one in flight may find its stream closed just before its connection.
    assert!(sent.is_err());
}
