//! What a simulated network does to clients, and what they make of it.

use std::time::Duration;

use p2p_types::{HeadSyncStatus, SdkEvent};
use preconfirmation_p2p::sim::{Link, SimNetwork};
use tokio::time::{Instant, sleep};

use super::world::{Block, Node, Voice};

/// A second a block.
const PACE: Duration = Duration::from_secs(1);

const GOOD: Link = Link {
    delay: Duration::from_millis(20),
    bytes_per_second: None,
    jitter: Duration::ZERO,
    loss: 0.0,
    duplicate: 0.0,
    reorder: 0.0,
};

/// So many nodes, each connected to the next two.
async fn ring(network: &SimNetwork, size: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for key in 1..=size {
        nodes.push(Node::start(network, key).await);
    }
    for (index, node) in nodes.iter().enumerate() {
        for step in [1, 2] {
            node.dial(&nodes[(index + step) % nodes.len()]).await;
        }
    }
    nodes
}

#[tokio::test(start_paused = true)]
async fn a_lost_parent_is_fetched_when_its_child_arrives() {
    let network = SimNetwork::new(1);
    network.set_links(GOOD);
    let (a, mut b) = (Node::start(&network, 1).await, Node::start(&network, 2).await);
    b.dial(&a).await;
    let chain = Block::chain(4);
    a.publish(&chain[0]).await;
    b.has(&chain[..1]).await;
    b.live().await;
    network.set_link(a.id(), b.id(), Link { loss: 1.0, ..GOOD });
    a.publish(&chain[1]).await;
    sleep(PACE).await;
    network.set_link(a.id(), b.id(), GOOD);
    a.publish(&chain[2]).await;
    let published = Instant::now();
    b.has(&chain[..3]).await;
    // Half a second in which gossip may still bring it; then the child has come and the parent and its list have
    // been asked for: some ways of 20 ms.
    assert!(published.elapsed() < Duration::from_millis(700), "{:?}", published.elapsed());
    assert_eq!(network.counts().lost, 2, "the list and the commitment");
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_the_same_moment_is_one_batch_and_moves_the_head_once() {
    let network = SimNetwork::new(1);
    network.set_links(GOOD);
    let mut node = Node::start(&network, 1).await;
    let chain = Block::chain(8);
    let voice = Voice::start(&network, 2, &[&node]).await;
    for block in &chain {
        voice.commit(block).await;
    }
    let mut heads = Vec::new();
    node.until(|event| {
        if let SdkEvent::Head { head } = event {
            heads.extend(head.map(|head| head.number));
        }
        (heads.last() == Some(&chain[7].number())).then_some(())
    })
    .await;
    assert_eq!(heads, [chain[7].number()]);
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_partition_agree_when_it_heals() {
    let network = SimNetwork::new(2);
    let mut nodes = ring(&network, 6).await;
    let chain = Block::chain(20);
    nodes[0].publish(&chain[0]).await;
    for node in &mut nodes {
        node.has(&chain[..1]).await;
    }
    network.partition(nodes[..3].iter().map(Node::id));
    for block in &chain[1..10] {
        nodes[0].publish(block).await;
        sleep(PACE).await;
    }
    nodes[1].has(&chain[..10]).await;
    for node in &nodes[3..] {
        assert_eq!(node.client.chain().head().unwrap().hash, chain[0].hash(), "nothing crosses");
    }
    network.heal();
    for block in &chain[10..] {
        nodes[0].publish(block).await;
        sleep(PACE).await;
    }
    for node in &mut nodes {
        node.has(&chain).await;
    }
}

/// Who loses all peers in the middle of a sync says so, and goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_minute_without_peers_in_the_middle_of_a_sync_costs_less_than_another() {
    let network = SimNetwork::new(4);
    network.set_links(GOOD);
    let (a, mut b) = (Node::start(&network, 1).await, Node::start(&network, 2).await);
    let chain = Block::chain(80);
    for block in &chain {
        a.publish(block).await;
    }
    let started = Instant::now();
    b.dial(&a).await;
    let half = chain[chain.len() / 2].number();
    b.until(|event| matches!(event, SdkEvent::BlockReady { block, .. } if *block >= half).then_some(()))
        .await;
    network.partition([b.id()]);
    b.until(|event| {
        matches!(event, SdkEvent::Status { status: HeadSyncStatus::Stalled { .. } }).then_some(())
    })
    .await;
    sleep(Duration::from_secs(60)).await;
    network.heal();
    b.dial(&a).await;
    b.has(&chain).await;
    b.live().await;
    // What was cut off is given up after some seconds, and nobody is left alone for more than half a minute.
    assert!(started.elapsed() < Duration::from_secs(60 + 60), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_equivocator_cannot_keep_two_sides_apart() {
    let network = SimNetwork::new(3);
    let mut nodes = ring(&network, 6).await;
    let first = Block::after(None, 0);
    nodes[0].publish(&first).await;
    for node in &mut nodes {
        node.has(std::slice::from_ref(&first)).await;
    }
    // Each side is told another second block.
    network.partition(nodes[..3].iter().map(Node::id));
    let (one, other) = (Block::after(Some(&first), 1), Block::after(Some(&first), 2));
    nodes[0].publish(&one).await;
    nodes[5].publish(&other).await;
    for node in &mut nodes[..3] {
        node.has(&[first.clone(), one.clone()]).await;
    }
    for node in &mut nodes[3..] {
        node.has(&[first.clone(), other.clone()]).await;
    }
    network.heal();
    let last = Block::after(Some(&other), 0);
    nodes[4].publish(&last).await;
    let chain = [first, other, last];
    for node in &mut nodes {
        node.has(&chain).await;
    }
}

/// Over links that lose, double, delay and reorder, whatever the rng say, everybody ends with everything.
#[tokio::test(start_paused = true)]
async fn bad_links_delay_but_take_nothing_away() {
    let bad = Link {
        delay: Duration::from_millis(40),
        bytes_per_second: None,
        jitter: Duration::from_millis(200),
        loss: 0.2,
        duplicate: 0.2,
        reorder: 0.2,
    };
    for seed in 0..4 {
        let network = SimNetwork::new(seed);
        network.set_links(bad);
        let mut nodes = ring(&network, 5).await;
        let chain = Block::chain(40);
        for block in &chain {
            nodes[0].publish(block).await;
            sleep(PACE).await;
        }
        let published = Instant::now();
        for node in &mut nodes {
            node.has(&chain).await;
        }
        let counts = network.counts();
        assert!(counts.lost > 100 && counts.duplicated > 100 && counts.reordered > 100, "{counts:?}");
        // Not by waiting for a day: a few turns of the pace that requests keep.
        assert!(published.elapsed() < Duration::from_secs(60), "seed {seed}: {:?}", published.elapsed());
    }
}

/// Nobody pays for what the network does.
#[tokio::test(start_paused = true)]
async fn honest_peers_keep_their_score_on_bad_links() {
    let network = SimNetwork::new(9);
    network.set_links(Link { jitter: Duration::from_millis(300), loss: 0.3, reorder: 0.5, ..GOOD });
    let mut nodes = ring(&network, 4).await;
    let chain = Block::chain(30);
    for block in &chain {
        nodes[0].publish(block).await;
        sleep(PACE).await;
    }
    for node in &mut nodes {
        node.has(&chain).await;
        for peer in node.client.network().peers().await.unwrap() {
            assert!(peer.score >= 0.0, "{peer:?}");
        }
    }
}

/// What is lost while it is live is noticed without a child, by the heads that peers tell.
#[tokio::test(start_paused = true)]
async fn a_lost_last_block_is_noticed() {
    let network = SimNetwork::new(4);
    network.set_links(GOOD);
    let (a, mut b) = (Node::start(&network, 1).await, Node::start(&network, 2).await);
    b.dial(&a).await;
    let chain = Block::chain(2);
    a.publish(&chain[0]).await;
    b.has(&chain[..1]).await;
    network.set_link(a.id(), b.id(), Link { loss: 1.0, ..GOOD });
    a.publish(&chain[1]).await;
    sleep(PACE).await;
    network.set_link(a.id(), b.id(), GOOD);
    b.until(|event| matches!(event, SdkEvent::BlockReady { block: 12, .. }).then_some(())).await;
}
