//! Applications that are slow, for a minute.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use p2p_client::{Lagged, P2pClient};
use p2p_types::SdkEvent;
use preconfirmation_p2p::sim::{Link, SimNetwork};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::world::{Block, Node};

const MINUTE: Duration = Duration::from_secs(60);
const BLOCKS: u32 = 120;

/// Events that are kept for a subscriber.
const KEPT: usize = 64;

/// Events with the time since the beginning.
type Times = Vec<(Duration, SdkEvent)>;

/// Reads all events, as they come.
fn follow(client: &P2pClient, begun: Instant) -> JoinHandle<Times> {
    let mut events = client.subscribe();
    tokio::spawn(async move {
        let mut times = Times::new();
        while let Some(event) = events.next_event().await.unwrap() {
            times.push((begun.elapsed(), event));
        }
        times
    })
}

/// Three nodes that know each other, of which the first publishes for a minute; the second is told to be slow.
struct Play {
    nodes: [Node; 3],
    begun: Instant,
    followers: [JoinHandle<Times>; 2],
    chain: Vec<Block>,
}

impl Play {
    /// With so many events kept for each subscriber of the second.
    async fn begin(kept: usize) -> Self {
        let network = SimNetwork::new(5);
        network.set_links(Link { delay: Duration::from_millis(20), ..Link::default() });
        let a = Node::start(&network, 1).await;
        let b = Node::start_with(&network, 2, |config| {
            config.queues.events = kept.try_into().unwrap();
            config.queues.handler = NonZeroUsize::MIN;
        })
        .await;
        let c = Node::start(&network, 3).await;
        b.dial(&a).await;
        c.dial(&a).await;
        c.dial(&b).await;
        let begun = Instant::now();
        let followers = [follow(&b.client, begun), follow(&c.client, begun)];
        let chain = Block::chain(usize::try_from(BLOCKS).unwrap());
        Self { nodes: [a, b, c], begun, followers, chain }
    }

    /// A minute of blocks. No score falls.
    async fn publish(&self) {
        for block in &self.chain {
            self.nodes[0].publish(block).await;
            sleep(MINUTE / BLOCKS).await;
            for node in &self.nodes {
                for peer in node.client.network().peers().await.unwrap() {
                    assert!(peer.score >= 0.0, "{peer:?}");
                }
            }
        }
        assert!(self.begun.elapsed() >= MINUTE);
    }

    /// What the second and the third have told, and when.
    async fn end(self) -> [Times; 2] {
        for node in self.nodes {
            node.stop().await;
        }
        let [second, third] = self.followers;
        [second.await.unwrap(), third.await.unwrap()]
    }
}

/// When each block was told of and complete. What workers do at the same moment may be told in any order.
fn blocks(times: &Times) -> BTreeSet<(Duration, u64, bool)> {
    let block = |(at, event): &(Duration, SdkEvent)| match event {
        SdkEvent::Commitment { block, .. } => Some((*at, *block, false)),
        SdkEvent::BlockReady { block, .. } => Some((*at, *block, true)),
        _ => None,
    };
    times.iter().filter_map(block).collect()
}

/// What it is when nobody is slow.
async fn undisturbed() -> [BTreeSet<(Duration, u64, bool)>; 2] {
    let play = Play::begin(4096).await;
    play.publish().await;
    play.end().await.map(|times| blocks(&times))
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_sleeps_for_a_minute_is_told_what_it_missed_and_nobody_notices() {
    let play = Play::begin(KEPT).await;
    let mut sleeper = play.nodes[1].client.subscribe();
    play.publish().await;
    assert!(!play.nodes[1].client.is_paused());
    let Err(Lagged { missed }) = sleeper.next_event().await else { panic!("nothing was lost") };
    let mut kept = Vec::new();
    while let Some(Ok(Some(event))) = sleeper.next_event().now_or_never() {
        kept.push(event);
    }
    assert_eq!(kept.len(), KEPT, "memory is bounded");
    let times = play.end().await;
    let all: Vec<&SdkEvent> = times[0].iter().map(|(_, event)| event).collect();
    let missed = usize::try_from(missed).unwrap();
    assert!(missed > KEPT);
    // Both subscribed in the same moment.
    assert!(kept.iter().eq(all[missed..missed + KEPT].iter().copied()));
    assert_eq!(times.map(|times| blocks(&times)), undisturbed().await, "to the millisecond");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_slow_for_a_minute_slows_its_own_intake_and_nobody_else() {
    let mut play = Play::begin(4096).await;
    let (client, begun, handled) =
        (play.nodes[1].client.clone(), play.begun, Arc::new(Mutex::new(Vec::new())));
    let log = handled.clone();
    let handling = tokio::spawn(async move {
        let handle = |event| {
            log.lock().unwrap().push(event);
            let slow = begun.elapsed() < MINUTE;
            async move {
                if slow {
                    sleep(Duration::from_secs(2)).await;
                }
            }
        };
        client.run_with_handler(handle).await
    });
    play.publish().await;
    let slow = &play.nodes[1].client;
    assert!(slow.is_paused());
    let behind = slow.chain().head().unwrap().number;
    assert!(behind < play.chain.last().unwrap().number(), "intake stands still: {behind}");
    let chain = play.chain.clone();
    play.nodes[1].has(&chain).await;
    let [second, third] = play.end().await;
    handling.await.unwrap().unwrap();
    let handled = handled.lock().unwrap().clone();
    let shown = second.iter().map(|(_, event)| event);
    assert!(shown.skip(second.len() - handled.len()).eq(handled.iter()), "nothing is lost");
    let ready = handled.iter().filter(|event| matches!(event, SdkEvent::BlockReady { .. })).count();
    assert_eq!(ready, chain.len());
    assert_eq!(blocks(&third), undisturbed().await[1], "to the millisecond");
}
