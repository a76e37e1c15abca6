//! Gossip goes where verdicts let it.

use std::time::Duration;

use preconfirmation_p2p::{GossipMessage, PublishError, Published, Verdict, gossip_id};
use preconfirmation_types::{Bytes, Container as _, MAX_TXLIST_BYTES, Offence, Topic};

use crate::hostile::Adversary;
use crate::rig::{CHAIN, COMMITMENTS, Metrics, Node, config, eventually, soon, ssz, txlist};
use crate::untrusted::{Streams, Untrusted, idontwant, iwant, prune};

#[tokio::test]
async fn both_topics_reach_a_third_node_through_one_that_accepts() {
    let (mut author, mut middle, mut far) = (Node::local(), Node::local(), Node::local());
    author.meet(&mut middle).await;
    far.meet(&mut middle).await;

    // The largest list that there is.
    let list = txlist(MAX_TXLIST_BYTES);
    let sent = soon(author.handle.publish(Topic::RawTxLists, list.to_ssz().into())).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    let (from, message, token) = middle.gossip().await;
    assert_eq!((from, &message), (author.id(), &GossipMessage::TxList(list.clone())));
    token.settle(Verdict::Accept);
    let (from, message, token) = far.gossip().await;
    assert_eq!((from, message), (middle.id(), GossipMessage::TxList(list)));
    token.settle(Verdict::Accept);

    let sent = soon(author.handle.publish(COMMITMENTS, ssz(1))).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    assert_eq!(middle.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));

    // Two acceptances, a twentieth each; they decay from the first moment on.
    eventually(|| async {
        let score = middle.status(author.id()).await?.application_score;
        (0.09..=0.1).contains(&score).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_that_came_is_announced_as_unwanted_to_who_might_send_it_too() {
    let (mut author, mut node) = (Node::local(), Node::local());
    author.meet(&mut node).await;
    let (_peer, mut heard) = Untrusted::join_and_listen(&node).await;
    let commitment = ssz(1);
    let sent = soon(author.handle.publish(COMMITMENTS, commitment.clone())).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(commitment.clone()));
    heard.wait_for(&commitment).await;
    let list = txlist(128 * 1024);
    let bytes = list.to_ssz();
    let unwanted = idontwant(&gossip_id(&bytes));
    let sent = soon(author.handle.publish(Topic::RawTxLists, bytes.into())).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    // Before the list is judged, and so before it is forwarded.
    heard.wait_for(&unwanted).await;
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::TxList(list));
    // For a commitment the announcement would cost more than it saves.
    assert!(!heard.has(&idontwant(&gossip_id(&commitment))));
}

#[tokio::test]
async fn what_is_ignored_dropped_or_rejected_goes_no_further() {
    let (mut author, mut middle, mut far) = (Node::local(), Node::local(), Node::local());
    author.meet(&mut middle).await;
    far.meet(&mut middle).await;
    for block in 1..=4 {
        let sent = soon(author.handle.publish(COMMITMENTS, ssz(block))).await;
        assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    }
    assert_eq!(middle.judge(Verdict::Ignore).await, GossipMessage::Commitment(ssz(1)));
    let (_, message, token) = middle.gossip().await;
    assert_eq!(message, GossipMessage::Commitment(ssz(2)));
    drop(token);
    let rejected = Verdict::Reject(Offence::WrongSigner);
    assert_eq!(middle.judge(rejected).await, GossipMessage::Commitment(ssz(3)));
    assert_eq!(middle.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(4)));
    // Had one of the first three been forwarded, it would have come before the fourth.
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(4)));

    // The rejected one cost a point, and gossipsub's own count of invalid messages two more.
    let score = middle.charged(author.id(), -0.9).await;
    assert!(score > -1.0, "{score}");
    let total = middle.status(author.id()).await.unwrap().score;
    assert!(total < -1.0, "{total}");
}

#[tokio::test]
async fn publishing_says_what_became_of_the_message() {
    let metrics = Metrics::install();
    let mut lone = config();
    lone.gossip.publish_queue.messages = 2.try_into().unwrap();
    let mut alone = Node::start(lone);
    // Nobody is there: kept, once, as far as there is room.
    for (block, outcome) in [
        (1, Ok(Published::Queued)),
        (1, Ok(Published::Duplicate)),
        (2, Ok(Published::Queued)),
        (3, Err(PublishError::QueueFull { messages: 2, bytes: 64 * 1024 * 1024 })),
    ] {
        assert_eq!(soon(alone.handle.publish(COMMITMENTS, ssz(block))).await, outcome);
    }
    let mut other = Node::local();
    alone.meet(&mut other).await;
    for block in [1, 2] {
        assert_eq!(other.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(block)));
    }
    assert_eq!(metrics.count("p2p_gossip_publish_total", "sent_late"), 2);
    let publish = |topic, bytes: Bytes| soon(alone.handle.publish(topic, bytes));
    assert_eq!(publish(COMMITMENTS, ssz(1)).await, Ok(Published::Duplicate));
    // There is room again, but no need for it.
    assert_eq!(publish(COMMITMENTS, ssz(3)).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(other.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(3)));
    // What everybody would punish is not sent.
    let (limit, actual) = (382, 383);
    let large = PublishError::TooLarge { limit, actual };
    assert_eq!(publish(COMMITMENTS, vec![0; 383].into()).await, Err(large));
    let malformed = publish(COMMITMENTS, vec![7; 382].into()).await;
    assert!(matches!(malformed, Err(PublishError::Malformed(_))), "{malformed:?}");
    let (limit, actual) = (36 + MAX_TXLIST_BYTES, 37 + MAX_TXLIST_BYTES);
    let large = PublishError::TooLarge { limit, actual };
    assert_eq!(publish(Topic::RawTxLists, vec![0; actual].into()).await, Err(large));
}

#[tokio::test]
async fn what_finds_no_peer_in_time_is_dropped_and_counted() {
    let metrics = Metrics::install();
    let mut hasty = config();
    hasty.gossip.publish_queue.stale_after = std::time::Duration::from_millis(1);
    let mut alone = Node::start(hasty);
    assert_eq!(soon(alone.handle.publish(COMMITMENTS, ssz(1))).await, Ok(Published::Queued));
    metrics.reaches("p2p_gossip_publish_total", "stale", 1).await;
    assert_eq!(metrics.count("p2p_queue_dropped_total", "publish_queue"), 1);
    // It was not sent to anybody, so it can be published anew.
    let mut other = Node::local();
    alone.meet(&mut other).await;
    let sent = soon(alone.handle.publish(COMMITMENTS, ssz(1))).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    assert_eq!(other.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
}

#[tokio::test]
async fn a_reader_that_does_not_read_stalls_nothing_and_every_drop_is_counted() {
    let metrics = Metrics::install();
    let mut small = config();
    small.queues.open_verdicts = 2.try_into().unwrap();
    let (mut author, mut reader) = (Node::local(), Node::start(small));
    author.meet(&mut reader).await;
    for block in 0..20 {
        let sent = soon(author.handle.publish(COMMITMENTS, ssz(block))).await;
        assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    }
    metrics.reaches("p2p_queue_dropped_total", "open_verdicts", 18).await;
    // The loop goes on: it answers, and gossip flows again once there is room. Nobody has been charged.
    let status = soon(reader.status(author.id())).await.unwrap();
    assert!(status.application_score >= 0.0);
    for block in 0..2 {
        assert_eq!(reader.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(block)));
    }
    let sent = soon(author.handle.publish(COMMITMENTS, ssz(100))).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    assert_eq!(reader.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(100)));
    assert_eq!(metrics.count("p2p_queue_dropped_total", "open_verdicts"), 18);
    metrics.reaches("p2p_gossip_received_total", "accepted", 3).await;
    assert_eq!(metrics.count("p2p_gossip_received_total", "dropped"), 18);
}

#[tokio::test]
async fn open_verdicts_are_bounded_by_count_and_by_bytes() {
    let metrics = Metrics::install();
    let mut few = config();
    few.queues.open_verdicts = 3.try_into().unwrap();
    few.queues.open_verdict_bytes = (8 * 1024).try_into().unwrap();
    let (mut author, mut reader) = (Node::local(), Node::start(few));
    author.meet(&mut reader).await;
    let publish = |block| soon(author.handle.publish(COMMITMENTS, ssz(block)));
    let mut open = Vec::new();
    for block in 0..3 {
        assert_eq!(publish(block).await, Ok(Published::Sent { peers: 1 }));
        open.push(reader.gossip().await.2);
    }
    assert_eq!(publish(3).await, Ok(Published::Sent { peers: 1 }));
    metrics.reaches("p2p_queue_dropped_total", "open_verdicts", 1).await;

    // A verdict makes room; a permit is free once the service has taken the verdict.
    open.drain(..).for_each(|token| token.settle(Verdict::Accept));
    metrics.reaches("p2p_gossip_received_total", "accepted", 3).await;
    let large = |bytes| soon(author.handle.publish(Topic::RawTxLists, txlist(bytes).to_ssz().into()));
    assert_eq!(large(6000).await, Ok(Published::Sent { peers: 1 }));
    let held = reader.gossip().await;
    assert_eq!(large(6001).await, Ok(Published::Sent { peers: 1 }));
    metrics.reaches("p2p_queue_dropped_total", "open_verdicts", 2).await;
    drop(held);
    metrics.reaches("p2p_gossip_received_total", "raw_txlists ignored", 1).await;
    // Larger than all that may be open: it gets all of it rather than never a chance.
    assert_eq!(large(20_000).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(reader.judge(Verdict::Accept).await, GossipMessage::TxList(txlist(20_000)));
}

#[tokio::test]
async fn a_verdict_that_gossip_no_longer_waits_for_is_counted_and_still_scores() {
    let metrics = Metrics::install();
    let mut forgetful = config();
    forgetful.gossip.history = 1.try_into().unwrap();
    forgetful.gossip.history_gossip = 1;
    forgetful.gossip.heartbeat = std::time::Duration::from_millis(50);
    let (mut author, mut reader) = (Node::local(), Node::start(forgetful));
    author.meet(&mut reader).await;
    // Open verdicts are asked for again and again until one has become too old.
    for block in 0.. {
        let sent = soon(author.handle.publish(COMMITMENTS, ssz(block))).await;
        assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
        let (_, _, token) = reader.gossip().await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        token.settle(Verdict::Reject(Offence::BadSignature));
        if metrics.count("p2p_gossip_received_total", "late") > 0 {
            break;
        }
        assert!(block < 20, "every verdict was in time");
    }
    reader.charged(author.id(), -0.5).await;
}

#[tokio::test]
async fn what_finds_all_send_queues_full_is_sent_when_the_peer_reads_again() {
    let metrics = Metrics::install();
    let mut narrow = config();
    narrow.gossip.send_queue = 1.try_into().unwrap();
    let mut author = Node::start(narrow);
    let mut peer = Adversary::attack(&mut author, None, Vec::new()).await;
    author.subscribed(peer.id).await;
    let resume = peer.pause().await;
    let mut last = None;
    for byte in 0..32 {
        let mut list = txlist(1024 * 1024);
        list.raw_tx_list_hash = preconfirmation_types::B256::repeat_byte(byte);
        let ssz: Bytes = list.to_ssz().into();
        if soon(author.handle.publish(Topic::RawTxLists, ssz.clone())).await == Ok(Published::Queued) {
            last = Some(ssz);
            break;
        }
        // The connection's own task takes what its streams have room for.
        tokio::task::yield_now().await;
    }
    let queued = last.unwrap();
    // It is one message, however often it is published.
    let again = soon(author.handle.publish(Topic::RawTxLists, queued.clone())).await;
    assert_eq!(again, Ok(Published::Duplicate));
    drop(resume);
    peer.hears(&queued).await;
    metrics.reaches("p2p_gossip_publish_total", "sent_late", 1).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected_before_it_pins_more_than_it_may() {
    let metrics = Metrics::install();
    let mut small = config();
    small.gossip.send_queue_bytes = (4 * 1024 * 1024).try_into().unwrap();
    let (mut author, mut honest) = (Node::start(small), Node::local());
    author.meet(&mut honest).await;
    let deaf = Adversary::attack(&mut author, None, Vec::new()).await;
    author.subscribed(deaf.id).await;
    let _never = deaf.pause().await;
    for byte in 0..32 {
        let mut list = txlist(1024 * 1024);
        list.raw_tx_list_hash = preconfirmation_types::B256::repeat_byte(byte);
        let sent = soon(author.handle.publish(Topic::RawTxLists, list.to_ssz().into())).await;
        assert!(matches!(sent, Ok(Published::Sent { .. })), "{sent:?}");
        // Whoever reads misses nothing.
        assert_eq!(honest.judge(Verdict::Accept).await, GossipMessage::TxList(list));
    }
    eventually(|| async { author.status(deaf.id).await.is_none().then_some(()) }).await;
    assert_eq!(metrics.count("p2p_queue_dropped_total", "send_"), 1);
    assert!(author.status(honest.id()).await.is_some());
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
}

#[tokio::test]
async fn a_burst_of_a_thousand_blocks_is_taken_in_order_as_fast_as_peers_read() {
    let metrics = Metrics::install();
    let (mut author, mut peer) = (Node::local(), Node::local());
    author.meet(&mut peer).await;
    let list = |block: u64| {
        let mut hash = preconfirmation_types::B256::ZERO;
        hash[24..].copy_from_slice(&block.to_be_bytes());
        preconfirmation_types::RawTxListGossip { raw_tx_list_hash: hash, txlist: vec![9; 1024].into() }
    };
    let start = std::time::Instant::now();
    let handle = author.handle.clone();
    let publishing = tokio::spawn(async move {
        for block in 0..1000 {
            let sent = handle.publish(Topic::RawTxLists, list(block).to_ssz().into()).await;
            assert!(matches!(sent, Ok(Published::Sent { .. } | Published::Queued)), "{sent:?}");
            let sent = handle.publish(COMMITMENTS, ssz(block)).await;
            assert!(matches!(sent, Ok(Published::Sent { .. } | Published::Queued)), "{sent:?}");
        }
    });
    for block in 0..1000 {
        assert_eq!(peer.judge(Verdict::Accept).await, GossipMessage::TxList(list(block)));
        assert_eq!(peer.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(block)));
    }
    soon(publishing).await.unwrap();
    // Far from the time of the duplicate cache.
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(metrics.count("p2p_gossip_publish_total", "duplicate"), 0);
}

#[tokio::test]
async fn a_large_list_is_not_copied_for_each_time_that_a_peer_asks_for_it() {
    let metrics = Metrics::install();
    let (mut author, mut node) = (Node::local(), Node::local());
    author.meet(&mut node).await;
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    let list = txlist(MAX_TXLIST_BYTES);
    let bytes = list.to_ssz();
    let id = gossip_id(&bytes);
    let sent = soon(author.handle.publish(Topic::RawTxLists, bytes.into())).await;
    assert_eq!(sent, Ok(Published::Sent { peers: 1 }));
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::TxList(list));
    for _ in 0..32 {
        untrusted.send(iwant(&id, 700)).await;
    }
    // All of them have been read when this has.
    untrusted.publish(&COMMITMENTS.on_chain(CHAIN), 1, &ssz(1)).await;
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(metrics.count("p2p_queue_dropped_total", "gossip_iwant"), 32);
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
}

/// A pause of which the end cannot be represented has ended other nodes, at once or with the next heartbeat.
#[tokio::test]
async fn a_peer_that_is_never_to_be_asked_back_ends_nothing() {
    let mut fast = config();
    fast.gossip.heartbeat = Duration::from_millis(50);
    let heartbeat = fast.gossip.heartbeat;
    let (mut author, mut node) = (Node::local(), Node::start(fast));
    author.meet(&mut node).await;
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    for seconds in (0..usize::BITS).map(|bits| usize::MAX >> bits) {
        for topic in Topic::ALL {
            untrusted.send(prune(&topic.on_chain(CHAIN), seconds)).await;
        }
    }
    // All of them have been read when this has.
    untrusted.publish(&COMMITMENTS.on_chain(CHAIN), 1, &ssz(1)).await;
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    tokio::time::sleep(10 * heartbeat).await;
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(2))).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(2)));
    assert!(node.status(untrusted.id).await.is_some());
}
