//! What is served, to whom, and who is thrown out.

use std::time::Duration;

use preconfirmation_p2p::{InboundRequest, NetworkError, RequestError};
use preconfirmation_types::{GetHead, GetHeadRequest, Offence, PreconfHead};

use crate::rig::{Metrics, Node, config, eventually, soon};

#[tokio::test]
async fn asking_too_fast_gets_no_answer_and_costs_nothing() {
    let metrics = Metrics::install();
    let mut fast = config();
    fast.pacing.requests = 100.try_into().unwrap();
    let mut strict = config();
    strict.serving.requests = 2.try_into().unwrap();
    strict.serving.requests_per = Duration::from_secs(3600);
    strict.serving.advertise = false;
    let (mut asker, mut server) = (Node::start(fast), Node::start(strict));
    asker.meet(&mut server).await;
    let peer = server.id();
    let (answers, ()) = tokio::join!(
        async {
            let mut answers = Vec::new();
            for _ in 0..3 {
                answers.push(soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {})).await);
            }
            answers
        },
        async {
            for _ in 0..2 {
                let (_, InboundRequest::Head(responder)) = server.request().await else {
                    panic!("another request");
                };
                responder.send(PreconfHead::default());
            }
        }
    );
    assert!(answers[..2].iter().all(Result::is_ok), "{answers:?}");
    assert!(matches!(answers[2], Err(RequestError::NoAnswer)), "{answers:?}");
    metrics.reaches("p2p_reqresp_requests_total", "inbound rate_limited", 1).await;
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound unanswered"), 0);
    assert_eq!(metrics.count("p2p_reqresp_requests_total", "inbound answered"), 2);
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    assert_eq!(server.status(asker.id()).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn requests_in_work_are_bounded() {
    let metrics = Metrics::install();
    let mut busy = config();
    busy.serving.in_work_per_peer = 1.try_into().unwrap();
    let (mut asker, mut server) = (Node::local(), Node::start(busy));
    asker.meet(&mut server).await;
    let peer = server.id();
    let request = || soon(asker.handle.request::<GetHead>(peer, GetHeadRequest {}));
    let ((first, second), ()) = tokio::join!(async { tokio::join!(request(), request()) }, async {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        metrics.reaches("p2p_reqresp_requests_total", "inbound busy", 1).await;
        responder.send(PreconfHead::default());
    });
    let answers = [first, second];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().any(|answer| matches!(answer, Err(RequestError::NoAnswer))));
    // What was in work has been let go of.
    metrics.reaches("p2p_reqresp_requests_total", "inbound answered", 1).await;
    let (third, ()) = tokio::join!(request(), async {
        let (_, InboundRequest::Head(responder)) = server.request().await else {
            panic!("another request");
        };
        responder.send(PreconfHead::default());
    });
    assert!(third.is_ok(), "{third:?}");
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
    assert!(status.banned.is_some_and(|left| left <= Duration::from_secs(10)), "{status:?}");
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
    assert!(judge.status(peer).await.unwrap().banned.is_some_and(|left| left > Duration::from_secs(3500)));
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
