//! What has not the form of its topic leaves no trace (§2), and each verdict falls on who is at fault.

use std::time::Duration;

use preconfirmation_p2p::{Bytes, GossipMessage, Keypair, NetworkConfig, NetworkEvent, Published, Verdict};
use preconfirmation_types::{B256, Container as _, Offence, RawTxListGossip, SignedCommitment, Topic, U256};

use crate::rig::{CHAIN, COMMITMENTS, Metrics, Node, commitment, config, eventually, soon, ssz};
use crate::untrusted::{Streams, Untrusted, publish};

const MIB: usize = 1024 * 1024;

fn local() -> NetworkConfig {
    config()
}

/// The same promise with s in the other half.
fn twin(block: u64) -> Bytes {
    const ORDER: &str = "115792089237316195423570985008687907852837564279074904382605163141518161494337";
    let mut twin = commitment(block);
    let s = U256::from_be_slice(&twin.signature[32..64]);
    let mirrored = ORDER.parse::<U256>().unwrap() - s;
    twin.signature[32..64].copy_from_slice(&mirrored.to_be_bytes::<32>());
    twin.signature[64] ^= 1;
    twin.to_ssz().into()
}

#[tokio::test]
async fn a_copy_on_an_unknown_topic_suppresses_nothing_and_is_charged() {
    let metrics = Metrics::install();
    let (mut author, mut node) = (Node::local(), Node::local());
    author.meet(&mut node).await;
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    untrusted.publish("any other topic", 1, &ssz(1)).await;
    node.charged(untrusted.id, -0.9).await;
    assert_eq!(metrics.count("p2p_gossip_received_total", "unknown unknown_topic"), 1);
    assert_eq!(metrics.count("p2p_gossip_copies_total", "commitments"), 0);
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(1))).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(metrics.count("p2p_gossip_copies_total", "commitments"), 1);
}

#[tokio::test]
async fn a_copy_on_the_other_topic_suppresses_nothing_and_costs_only_its_sender() {
    let (mut author, mut node) = (Node::local(), Node::local());
    author.meet(&mut node).await;
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    let (lists, commitments) = (Topic::RawTxLists.on_chain(CHAIN), COMMITMENTS.on_chain(CHAIN));
    untrusted.publish(&lists, 1, &ssz(1)).await;
    // 382 bytes that have both forms: a list of which the hash begins as a bool.
    let mut hash = B256::repeat_byte(7);
    hash[0] = 1;
    let both = RawTxListGossip { raw_tx_list_hash: hash, txlist: vec![3; 382 - 36].into() };
    assert!(SignedCommitment::from_ssz(&both.to_ssz().into()).is_ok());
    untrusted.publish(&commitments, 2, &both.to_ssz()).await;
    // As a commitment it is the application's to judge.
    assert_eq!(node.judge(Verdict::Ignore).await, GossipMessage::Commitment(both.to_ssz().into()));
    let sent = Ok(Published::Sent { peers: 1 });
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(1))).await, sent);
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(soon(author.handle.publish(Topic::RawTxLists, both.to_ssz().into())).await, sent);
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::TxList(both));
    node.charged(untrusted.id, -0.9).await;
    let honest = node.status(author.id()).await.unwrap();
    assert!(honest.score >= 0.0 && honest.application_score > 0.0, "{honest:?}");
}

#[tokio::test]
async fn a_flood_on_unknown_topics_ends_in_silence_and_is_not_kept() {
    let metrics = Metrics::install();
    let node = Node::local();
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    let id = untrusted.id;
    let sending = tokio::spawn(async move {
        for number in 0..200_u64 {
            untrusted.publish("any", number, &vec![7; MIB]).await;
        }
        untrusted
    });
    // Two are as bad as on a topic that we know.
    eventually(|| async { (node.status(id).await?.score < -5.0).then_some(()) }).await;
    // What its connection held when it was silenced may come yet.
    assert!(metrics.count("p2p_gossip_received_total", "unknown_topic") <= 16);
    sending.abort();
}

#[tokio::test]
async fn a_message_over_the_limit_of_its_topic_costs_its_sender_before_it_is_hashed() {
    let node = Node::local();
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    for number in 0..2 {
        untrusted.publish(&COMMITMENTS.on_chain(CHAIN), number, &vec![0; 2 * MIB]).await;
    }
    // gossipsub's count of invalid deliveries: twice the square of two.
    eventually(|| async { (node.status(untrusted.id).await?.score < -7.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_twin_is_judged_as_the_genuine_message_which_still_goes_on() {
    let metrics = Metrics::install();
    let (mut author, mut middle, mut far) = (Node::local(), Node::local(), Node::local());
    author.meet(&mut middle).await;
    far.meet(&mut middle).await;
    let untrusted = Untrusted::join(&middle, Streams::Read).await;
    let topic = COMMITMENTS.on_chain(CHAIN);
    // First the twin: the application sees the genuine form.
    untrusted.publish(&topic, 1, &twin(1)).await;
    let (from, message, token) = middle.gossip().await;
    assert_eq!((from, message), (untrusted.id, GossipMessage::Commitment(ssz(1))));
    // The genuine one while the verdict is owed, and nobody is asked about it.
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(1))).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(2))).await, Ok(Published::Sent { peers: 1 }));
    let (_, message, second) = middle.gossip().await;
    assert_eq!(message, GossipMessage::Commitment(ssz(2)));
    token.settle(Verdict::Accept);
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    second.settle(Verdict::Accept);
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(2)));
    // The genuine one after the verdict.
    untrusted.publish(&topic, 2, &twin(3)).await;
    assert_eq!(middle.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(3)));
    metrics.reaches("p2p_gossip_received_total", "twin", 2).await;
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(3))).await, Ok(Published::Sent { peers: 1 }));
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(3)));
    let carrier = middle.status(untrusted.id).await.unwrap();
    assert!(carrier.application_score == 0.0 && carrier.score >= 0.0, "{carrier:?}");
}

#[tokio::test]
async fn a_twin_costs_nobody_whatever_its_verdict() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    let verdicts = [Verdict::Reject(Offence::WrongSigner), Verdict::RejectAuthor(Offence::WrongSigner)];
    for (number, verdict) in (1..).zip(verdicts) {
        untrusted.publish(&COMMITMENTS.on_chain(CHAIN), number, &twin(number)).await;
        assert_eq!(node.judge(verdict).await, GossipMessage::Commitment(ssz(number)));
    }
    metrics.reaches("p2p_gossip_received_total", "twin", 2).await;
    let carrier = node.status(untrusted.id).await.unwrap();
    assert!(carrier.application_score == 0.0 && carrier.score >= 0.0, "{carrier:?}");
}

#[tokio::test]
async fn what_only_its_author_can_know_costs_the_author_and_never_a_relay() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let (author, relay) =
        (Untrusted::join(&node, Streams::Read).await, Untrusted::join(&node, Streams::Read).await);
    let topic = COMMITMENTS.on_chain(CHAIN);
    let verdict = Verdict::RejectAuthor(Offence::WrongSigner);
    // By a relay first, then by its author: only the first copy is judged, nobody pays.
    relay.send(publish(&author.key, &topic, 1, &ssz(1))).await;
    let (from, _, token) = node.gossip().await;
    assert_eq!(from, relay.id);
    author.publish(&topic, 1, &ssz(1)).await;
    // The other way round, with the relay's copy there before the verdict.
    author.publish(&topic, 2, &ssz(2)).await;
    let (from, _, second) = node.gossip().await;
    assert_eq!(from, author.id);
    relay.send(publish(&author.key, &topic, 2, &ssz(2))).await;
    relay.publish(&topic, 3, &ssz(3)).await;
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(3)));
    token.settle(verdict);
    second.settle(verdict);
    metrics.reaches("p2p_gossip_received_total", "author_rejected", 2).await;
    let status = node.status(author.id).await.unwrap();
    assert!(status.application_score < -0.9, "{status:?}");
    // As much as gossipsub would have taken.
    assert!(status.score < -2.5, "{status:?}");
    let status = node.status(relay.id).await.unwrap();
    assert!(status.application_score > 0.0 && status.score > 0.0, "{status:?}");
}

#[tokio::test]
async fn a_flood_by_its_author_ends_at_the_graylist() {
    let metrics = Metrics::install();
    let mut node = Node::local();
    let author = Untrusted::join(&node, Streams::Read).await;
    for number in 0..500 {
        author.publish(&COMMITMENTS.on_chain(CHAIN), number, &ssz(number)).await;
    }
    let judging = async {
        loop {
            if let NetworkEvent::Gossip { verdict, .. } = node.events.next().await.unwrap() {
                verdict.settle(Verdict::RejectAuthor(Offence::WrongSigner));
            }
        }
    };
    let handle = node.handle.clone();
    let graylisted = eventually(|| async {
        let peers = handle.peers().await.unwrap();
        peers.iter().any(|status| status.peer == author.id && status.score < -5.0).then_some(())
    });
    tokio::select! { () = judging => {}, () = graylisted => {} }
    assert!(metrics.count("p2p_offences_total", "wrong_signer") >= 2);
}

#[tokio::test]
async fn who_passes_on_too_much_of_the_unelected_is_read_after_everybody_else() {
    let mut strict = local();
    strict.gossip.unelected_per_minute = 2;
    let (mut author, mut node) = (Node::local(), Node::start(strict));
    author.meet(&mut node).await;
    let relay = Untrusted::join(&node, Streams::Read).await;
    let (nobody, topic) = (Keypair::generate_ed25519(), COMMITMENTS.on_chain(CHAIN));
    for number in 0..3 {
        relay.send(publish(&nobody, &topic, number, &ssz(number))).await;
        let verdict = Verdict::RejectAuthor(Offence::WrongSigner);
        assert_eq!(node.judge(verdict).await, GossipMessage::Commitment(ssz(number)));
    }
    // Taken in before the next message, as the same task does both; known by what it says of the peer.
    soon(node.handle.peers()).await.unwrap();
    for number in 3..6 {
        relay.send(publish(&nobody, &topic, number, &ssz(number))).await;
    }
    let metrics = Metrics::install();
    eventually(|| async {
        node.status(relay.id).await?;
        metrics.gauge("p2p_queue_length", "open_verdicts").filter(|open| *open >= 3.0)
    })
    .await;
    assert_eq!(soon(author.handle.publish(COMMITMENTS, ssz(9))).await, Ok(Published::Sent { peers: 1 }));
    eventually(|| async { metrics.gauge("p2p_queue_length", "open_verdicts").filter(|open| *open >= 4.0) })
        .await;
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(9)));
    for number in 3..6 {
        assert_eq!(node.judge(Verdict::Ignore).await, GossipMessage::Commitment(ssz(number)));
    }
    let status = node.status(relay.id).await.unwrap();
    assert!(status.application_score == 0.0 && status.score >= 0.0, "{status:?}");
}

#[tokio::test]
async fn when_several_authors_offend_alike_the_node_suspects_itself() {
    let metrics = Metrics::install();
    let (mut honest, mut node) = (Node::local(), Node::local());
    honest.meet(&mut node).await;
    let verdict = Verdict::RejectAuthor(Offence::WrongSigner);
    let topic = COMMITMENTS.on_chain(CHAIN);
    let mut authors = Vec::new();
    for number in 0..4 {
        let author = Untrusted::join(&node, Streams::Read).await;
        author.publish(&topic, number, &ssz(number)).await;
        assert_eq!(node.judge(verdict).await, GossipMessage::Commitment(ssz(number)));
        metrics.reaches("p2p_gossip_received_total", "author_rejected", number + 1).await;
        authors.push(author);
    }
    assert!(node.handle.suspects_itself());
    assert_eq!(metrics.gauge("p2p_own_schedule_suspected", ""), Some(1.0));
    for (author, charged) in authors.iter().zip([true, true, false, false]) {
        let score = node.status(author.id).await.unwrap().application_score;
        assert_eq!(score < 0.0, charged, "{score}");
    }
    // A commitment that is accepted ends the suspicion, and the next offence is one again.
    assert!(soon(honest.handle.publish(COMMITMENTS, ssz(10))).await.is_ok());
    assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(10)));
    metrics.reaches("p2p_gossip_received_total", "accepted", 1).await;
    assert!(!node.handle.suspects_itself());
    authors[3].publish(&topic, 20, &ssz(20)).await;
    assert_eq!(node.judge(verdict).await, GossipMessage::Commitment(ssz(20)));
    node.charged(authors[3].id, -0.9).await;
}

#[tokio::test]
async fn forwarding_a_list_earns_nobody_anything() {
    let (mut author, mut middle, mut far) = (Node::local(), Node::local(), Node::local());
    author.meet(&mut middle).await;
    far.meet(&mut middle).await;
    assert!(soon(author.handle.publish(COMMITMENTS, ssz(1))).await.is_ok());
    assert_eq!(middle.judge(Verdict::Forward).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(1)));
    assert_eq!(middle.status(author.id()).await.unwrap().application_score, 0.0);
}

#[tokio::test]
async fn who_takes_most_gives_way_to_others() {
    let metrics = Metrics::install();
    let mut few = local();
    few.queues.open_verdicts = 4.try_into().unwrap();
    let (mut author, mut node) = (Node::local(), Node::start(few));
    author.meet(&mut node).await;
    let greedy = Untrusted::join(&node, Streams::Read).await;
    for number in 0..10 {
        greedy.publish(&COMMITMENTS.on_chain(CHAIN), number, &ssz(number)).await;
    }
    metrics.reaches("p2p_queue_dropped_total", "open_verdicts", 6).await;
    // Two each in the end.
    for number in 100..103 {
        assert!(soon(author.handle.publish(COMMITMENTS, ssz(number))).await.is_ok());
    }
    metrics.reaches("p2p_queue_dropped_total", "open_verdicts", 9).await;
    for number in [0, 1, 100, 101] {
        assert_eq!(node.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(number)));
    }
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
}

#[tokio::test]
async fn a_peer_that_resets_its_gossip_streams_is_disconnected() {
    let metrics = Metrics::install();
    let mut author = Node::local();
    let untrusted = Untrusted::join(&author, Streams::Reset).await;
    let mut block = 0;
    while author.status(untrusted.id).await.is_some() {
        block += 1;
        assert!(block < 3000, "it still takes what it does not read");
        assert!(soon(author.handle.publish(COMMITMENTS, ssz(block))).await.is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(metrics.count("p2p_queue_dropped_total", "gossip_given_up"), 1);
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    // Nothing pins it: the next one to come is served.
    let mut honest = Node::local();
    author.meet(&mut honest).await;
    assert!(soon(author.handle.publish(COMMITMENTS, ssz(5000))).await.is_ok());
}

#[tokio::test]
async fn what_gossipsub_counts_alone_bans_nobody() {
    let mut harsh = local();
    harsh.score.ban_after = Duration::from_millis(100);
    let node = Node::start(harsh);
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    // Two invalid messages are eight points by gossipsub's count, and two by ours.
    for number in 0..2 {
        untrusted.publish(&COMMITMENTS.on_chain(CHAIN), number, &[2; 382]).await;
    }
    eventually(|| async { (node.status(untrusted.id).await?.score < -8.0).then_some(()) }).await;
    // Some looks at the scores later it is still there.
    let start = std::time::Instant::now();
    eventually(|| async { (start.elapsed() > Duration::from_secs(3)).then_some(()) }).await;
    let status = node.status(untrusted.id).await.unwrap();
    assert!(status.banned_for.is_none() && status.score < -5.0, "{status:?}");
}

#[tokio::test]
async fn lifting_a_ban_clears_what_gossipsub_has_counted_too() {
    let mut harsh = local();
    harsh.score.graylist_threshold = -2.0;
    harsh.score.ban_threshold = -3.0;
    harsh.score.ban_after = Duration::from_millis(100);
    let (mut node, mut offender) = (Node::start(harsh), Node::local());
    offender.meet(&mut node).await;
    assert!(soon(offender.handle.publish(COMMITMENTS, ssz(1))).await.is_ok());
    let reject = Verdict::Reject(Offence::BadSignature);
    assert_eq!(node.judge(reject).await, GossipMessage::Commitment(ssz(1)));
    for _ in 0..4 {
        node.handle.report(offender.id(), Offence::HashMismatch);
    }
    assert_eq!(node.peer_disconnected().await, offender.id());
    assert!(node.handle.unban(offender.id()).await.unwrap());
    assert_eq!(offender.peer_disconnected().await, node.id());
    offender.meet(&mut node).await;
    let status = node.status(offender.id()).await.unwrap();
    assert!(status.score >= 0.0 && status.application_score == 0.0, "{status:?}");
}

#[tokio::test]
async fn who_does_not_end_a_frame_is_disconnected_and_not_charged() {
    let metrics = Metrics::install();
    let mut hasty = local();
    hasty.gossip.frame_time = Duration::from_secs(1);
    let (mut honest, mut node) = (Node::local(), Node::start(hasty));
    honest.meet(&mut node).await;
    let untrusted = Untrusted::join(&node, Streams::Read).await;
    let frame = publish(&untrusted.key, &COMMITMENTS.on_chain(CHAIN), 1, &ssz(1));
    untrusted.send(frame[..100].to_vec()).await;
    eventually(|| async { node.status(untrusted.id).await.is_none().then_some(()) }).await;
    assert_eq!(metrics.count("p2p_queue_dropped_total", "half_frame"), 1);
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    assert!(node.status(honest.id()).await.is_some());
}

/// What the deployed peers do: accept, forward and serve whatever signature recovers, in either form, elected or not.
#[tokio::test]
async fn a_relay_of_twins_and_of_the_unelected_is_never_charged_and_every_block_goes_on() {
    const BLOCKS: u64 = 40;
    let metrics = Metrics::install();
    let (mut near, mut far) = (Node::local(), Node::local());
    near.meet(&mut far).await;
    let relay = Untrusted::join(&near, Streams::Read).await;
    let (preconfer, nobody) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let topic = COMMITMENTS.on_chain(CHAIN);
    let attack = async {
        for block in 1..=BLOCKS {
            // Somebody without any key makes the twin, and is faster than the genuine message.
            relay.send(publish(&nobody, &topic, 2 * block, &twin(block))).await;
            relay.send(publish(&nobody, &topic, 2 * block + 1, &ssz(1000 + block))).await;
            relay.send(publish(&preconfer, &topic, block, &ssz(block))).await;
        }
    };
    let judging = async {
        let mut accepted = 0;
        while accepted < BLOCKS {
            let (_, message, token) = near.gossip().await;
            let GossipMessage::Commitment(ssz) = message else { panic!("{message:?}") };
            let block: u64 = SignedCommitment::from_ssz(&ssz).unwrap().preconf().block_number.to();
            if block <= BLOCKS {
                accepted += 1;
                token.settle(Verdict::Accept);
            } else {
                token.settle(Verdict::RejectAuthor(Offence::WrongSigner));
            }
        }
    };
    let going_on = async {
        for block in 1..=BLOCKS {
            assert_eq!(far.judge(Verdict::Accept).await, GossipMessage::Commitment(ssz(block)));
        }
    };
    tokio::join!(attack, judging, going_on);
    let status = near.status(relay.id).await.unwrap();
    assert!(status.application_score >= 0.0 && status.score >= 0.0, "{status:?}");
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    assert!(!near.handle.suspects_itself());
}
