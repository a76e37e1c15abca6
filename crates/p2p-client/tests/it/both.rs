//! Scenarios that are the same wherever they are played.

use preconfirmation_p2p::sim::SimNetwork;

use super::relay::a_relay_of_twins_and_of_the_unelected_stops_nobody;
use super::world::{Block, Node, Tcp, Voice, World};

/// Plays a scenario in both worlds.
macro_rules! in_both_worlds {
    ($($name:ident)*) => {
        mod over_tcp {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(&super::Tcp).await;
                }
            )*
        }

        mod simulated {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    super::$name(&super::SimNetwork::new(1)).await;
                }
            )*
        }
    };
}

in_both_worlds! {
    what_one_publishes_all_follow
    a_late_joiner_catches_up_and_is_live
    who_was_away_gets_what_it_missed_and_follows_on
    of_two_blocks_the_one_built_on_wins_everywhere
    a_relay_of_twins_and_of_the_unelected_stops_nobody
}

/// The last in the row hears of blocks only from the middle.
async fn what_one_publishes_all_follow(world: &impl World) {
    let (a, mut b, mut c) =
        (Node::start(world, 1).await, Node::start(world, 2).await, Node::start(world, 3).await);
    b.dial(&a).await;
    c.dial(&b).await;
    let chain = Block::chain(6);
    for block in &chain {
        a.publish(block).await;
    }
    b.has(&chain).await;
    c.has(&chain).await;
    assert_eq!(a.client.chain().head(), c.client.chain().head());
    for node in [a, b, c] {
        node.stop().await;
    }
}

async fn a_late_joiner_catches_up_and_is_live(world: &impl World) {
    let (a, mut b) = (Node::start(world, 1).await, Node::start(world, 2).await);
    // As many as one peer may be asked for at once.
    let chain = Block::chain(8);
    for block in &chain {
        a.publish(block).await;
    }
    b.dial(&a).await;
    b.has(&chain).await;
    if !b.client.status().is_live() {
        b.live().await;
    }
}

/// The one that returns has its store, and misses the parent of what it hears first.
async fn who_was_away_gets_what_it_missed_and_follows_on(world: &impl World) {
    let (a, mut b, c) =
        (Node::start(world, 1).await, Node::start(world, 2).await, Node::start(world, 3).await);
    b.dial(&a).await;
    c.dial(&a).await;
    let chain = Block::chain(5);
    a.publish(&chain[0]).await;
    b.has(&chain[..1]).await;
    let left = b.stop().await;
    a.publish(&chain[1]).await;
    a.publish(&chain[2]).await;
    let mut b = Node::back(world, left).await;
    assert_eq!(b.client.chain().head().map(|head| head.hash), Some(chain[0].hash()));
    b.dial(&a).await;
    a.publish(&chain[3]).await;
    a.publish(&chain[4]).await;
    b.has(&chain[1..]).await;
}

/// An elected preconfer signs two blocks for one height. Until one is built on, nodes may differ.
async fn of_two_blocks_the_one_built_on_wins_everywhere(world: &impl World) {
    let (mut a, mut b) = (Node::start(world, 1).await, Node::start(world, 2).await);
    b.dial(&a).await;
    let first = Block::after(None, 0);
    let (one, other) = (Block::after(Some(&first), 1), Block::after(Some(&first), 2));
    let last = Block::after(Some(&one), 0);
    // Each hears another order.
    let (to_a, to_b) = (Voice::start(world, 11, &[&a]).await, Voice::start(world, 12, &[&b]).await);
    to_a.tell(&first).await;
    let chain = [first, one, last];
    a.has(&chain[..1]).await;
    b.has(&chain[..1]).await;
    to_a.tell(&chain[1]).await;
    to_b.tell(&other).await;
    to_b.tell(&chain[2]).await;
    a.has(&chain).await;
    b.has(&chain).await;
}
