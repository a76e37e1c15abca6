//! What is served, to whom, and who is thrown out.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::join_all};
use preconfirmation_p2p::{InboundRequest, NetworkError};
use preconfirmation_types::{GetHead, GetHeadRequest, Offence, PreconfHead, U256};

use crate::rig::{Metrics, Node, config, eventually, soon};

/// Takes so many head requests, and answers them with this block.
async fn serve_heads(server: &mut Node, count: usize, block: u64) {
    for _ in 0..count {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        responder.send(PreconfHead { block_number: U256::from(block), ..PreconfHead::default() });
    }
}

#[tokio::test]
async fn asking_too_fast_is_answered_without_the_application_and_costs_nothing() {
    let metrics = Metrics::install();
    let mut fast = config();
    fast.pacing.requests = NonZeroUsize::MAX;
    let mut strict = config();
    strict.serving.requests = 2.try_into().unwrap();
    strict.serving.requests_per = Duration::from_secs(3600);
    strict.serving.advertise = false;
    let (mut asker, mut server) = (Node::start(fast), Node::start(strict));
    asker.meet(&mut server).await;
    let peer = server.id();
    let (heads, ()) = tokio::join!(
        async {
            let mut heads = Vec::new();
            for _ in 0..3 {
                let head = soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})).await;
                heads.push(head.unwrap().block_number);
            }
            heads
        },
        serve_heads(&mut server, 2, 7)
    );
    assert_eq!(heads, [U256::from(7); 3]);
    metrics.reaches("p2p_reqresp_requests_total", "inbound rate_limited", 1).await;
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound answered"), 2);
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    assert_eq!(server.status(asker.id()).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn what_finds_no_place_waits_for_one() {
    let mut busy = config();
    busy.serving.in_flight_per_peer = 1.try_into().unwrap();
    let (mut asker, mut server) = (Node::local(), Node::start(busy));
    asker.meet(&mut server).await;
    let peer = server.id();
    let request = || soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {}));
    let ((first, second), ()) = tokio::join!(async { tokio::join!(request(), request()) }, async {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        assert!(server.events.next().now_or_never().is_none(), "two at a time");
        responder.send(PreconfHead::default());
        serve_heads(&mut server, 1, 0).await;
    });
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_not_waited_for() {
    let metrics = Metrics::install();
    let (mut asker, mut server) = (Node::local(), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let start = Instant::now();
    let (head, held) =
        tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), server.request());
    assert_eq!(head.unwrap(), PreconfHead::default());
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    metrics.reaches("p2p_reqresp_requests_total", "inbound overdue", 1).await;
    let (_, InboundRequest::Head(responder)) = held else { panic!("another request") };
    assert!(!responder.is_open());
}

/// Deployed peers ask for all that they miss, at once.
#[tokio::test]
async fn ninety_requests_at_once_are_all_served() {
    let metrics = Metrics::install();
    let mut greedy = config();
    greedy.pacing.requests = NonZeroUsize::MAX;
    greedy.pacing.in_flight = 90.try_into().unwrap();
    let (mut asker, mut server) = (Node::start(greedy), Node::local());
    asker.meet(&mut server).await;
    let peer = server.id();
    let requests = (0..90).map(|_| asker.handle.request::<GetHead>(peer, GetHeadRequest {}));
    let (heads, ()) = tokio::join!(soon(join_all(requests)), serve_heads(&mut server, 90, 7));
    for head in heads {
        assert_eq!(head.unwrap().block_number, U256::from(7));
    }
    metrics.reaches("p2p_reqresp_requests_total", "inbound answered", 90).await;
}

#[tokio::test]
async fn no_peer_is_pruned_with_a_request_in_flight() {
    let mut small = config();
    (small.peers.low, small.peers.high, small.peers.grace) = (0, 0, Duration::ZERO);
    let (mut asker, mut server) = (Node::local(), Node::start(small));
    // Its time comes within a second or two.
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answer, ()) = tokio::join!(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})), async {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        tokio::time::sleep(Duration::from_secs(3)).await;
        responder.send(PreconfHead::default());
    });
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(server.peer_disconnected().await, asker.id());
}

#[tokio::test]
async fn a_lasting_offender_is_banned_and_forgiven_when_its_time_is_up() {
    let mut harsh = config();
    harsh.score.graylist_threshold = -2.0;
    harsh.score.ban_threshold = -3.0;
    harsh.score.ban_after = Duration::from_millis(100);
    harsh.score.ban_for = Duration::from_secs(10);
    let (mut judge, mut offender) = (Node::start(harsh), Node::local());
    offender.meet(&mut judge).await;
    let (peer, address) = (offender.id(), judge.handle.listen_addrs().await.unwrap().remove(0));
    for _ in 0..5 {
        judge.handle.report(peer, Offence::HashMismatch);
    }
    assert_eq!(judge.peer_disconnected().await, peer);
    assert_eq!(offender.peer_disconnected().await, judge.id());
    let status = judge.status(peer).await.unwrap();
    assert!(status.banned_for.is_some_and(|left| left <= Duration::from_secs(10)), "{status:?}");
    assert!(status.agent.unwrap().starts_with("preconfirmation-p2p/"));

    // Refused both ways; from outside it looks like a connection that does not last.
    let refused =
        soon(judge.handle.dial(soon(offender.handle.listen_addrs()).await.unwrap().remove(0))).await;
    assert!(matches!(refused, Err(NetworkError::Dial { .. })), "{refused:?}");

    eventually(|| async { judge.status(peer).await.is_none().then_some(()) }).await;
    soon(offender.handle.dial(address)).await.unwrap();
    assert_eq!(judge.peer_connected().await, peer);
    // The ban is over, the score is not.
    assert!(judge.status(peer).await.unwrap().application_score < -1.0);
}

#[tokio::test]
async fn a_ban_can_be_lifted_before_its_time() {
    let mut harsh = config();
    harsh.score.graylist_threshold = -2.0;
    harsh.score.ban_threshold = -3.0;
    harsh.score.ban_after = Duration::from_millis(100);
    let (mut judge, mut offender) = (Node::start(harsh), Node::local());
    offender.meet(&mut judge).await;
    let (peer, address) = (offender.id(), judge.handle.listen_addrs().await.unwrap().remove(0));
    assert!(!judge.handle.unban(peer).await.unwrap(), "it is not banned yet");
    for _ in 0..5 {
        judge.handle.report(peer, Offence::HashMismatch);
    }
    assert_eq!(judge.peer_disconnected().await, peer);
    assert!(
        judge.status(peer).await.unwrap().banned_for.is_some_and(|left| left > Duration::from_secs(3500))
    );
    assert!(judge.handle.unban(peer).await.unwrap());
    assert!(judge.status(peer).await.is_none());
    soon(offender.handle.dial(address)).await.unwrap();
    assert_eq!(judge.peer_connected().await, peer);
    assert_eq!(judge.status(peer).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn reports_over_the_bound_are_dropped_and_counted() {
    let metrics = Metrics::install();
    let mut small = config();
    small.queues.reports = 3.try_into().unwrap();
    let (mut node, mut other) = (Node::start(small), Node::local());
    node.meet(&mut other).await;
    // The service does not run in between: this task does not yield.
    for _ in 0..10 {
        node.handle.report(other.id(), Offence::Malformed);
    }
    assert_eq!(metrics.count("p2p_queue_dropped_total", "reports"), 7);
    metrics.reaches("p2p_offences_total", "malformed", 3).await;
}

#[tokio::test]
async fn more_peers_than_allowed_are_refused() {
    let mut small = config();
    small.connections.max_inbound = 1;
    let mut node = Node::start(small);
    let (mut first, second) = (Node::local(), Node::local());
    first.meet(&mut node).await;
    let address = node.handle.listen_addrs().await.unwrap().remove(0);
    // The dialler may see its connection for a moment; the node never counts it.
    drop(soon(second.handle.dial(address)).await);
    eventually(|| async { second.handle.peers().await.unwrap().is_empty().then_some(()) }).await;
    assert_eq!(node.handle.peers().await.unwrap().len(), 1);
}
