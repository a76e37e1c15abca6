//! The settled base, from a real node and from ones that fail.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_lookahead::{L2Config, L2Follower, L2Handle, SettledSource};
use p2p_types::{L2Tip, L2View};
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    endpoints::{Endpoint, Mood},
    node::{CHAIN, Node},
};

const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn config(endpoints: &[&Endpoint]) -> L2Config {
    let urls = endpoints.iter().map(|endpoint| endpoint.url.parse().unwrap()).collect();
    L2Config {
        poll_interval: Duration::from_millis(20),
        call_timeout: Duration::from_secs(1),
        anchor_gas: Some(0),
        ..L2Config::recommended(urls, CHAIN)
    }
}

/// A follower, and how long it may take.
struct Rig {
    handle: L2Handle,
    follower: L2Follower,
}

impl Rig {
    fn new(config: L2Config) -> Self {
        let (handle, follower) = L2Follower::new(config).unwrap();
        Self { handle, follower }
    }

    async fn tip(&mut self) -> L2Tip {
        let tip = timeout(DEADLINE, self.follower.next_tip()).await;
        tip.unwrap_or_else(|_| panic!("{:?}", self.handle)).unwrap()
    }

    /// Asks for a while, in which nothing may be told.
    async fn tells_nothing(&mut self) {
        let told = timeout(Duration::from_millis(300), self.follower.next_tip()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

/// A node with blocks up to a height, and an endpoint before it.
async fn node(height: u64) -> Option<(Node, Endpoint)> {
    let node = Node::start().await?;
    for _ in 0..height {
        node.mine().await;
    }
    let endpoint = Endpoint::before(&node, Mood::Good).await;
    Some((node, endpoint))
}

#[tokio::test]
async fn the_tip_is_what_came_from_l1() {
    let Some((node, endpoint)) = node(9).await else { return };
    endpoint.originates(4);
    let mut rig = Rig::new(config(&[&endpoint]));
    let tip = rig.tip().await;
    assert_eq!((tip.number, tip.synced), (4, true));
    let block = rig.follower.block(4).await.unwrap();
    assert_eq!((block.hash, block.transactions.len()), (tip.hash, 0));
    rig.tells_nothing().await;
    endpoint.originates(9);
    let tip = rig.tip().await;
    assert_eq!((tip.number, tip.hash), (9, node.head().await.hash));
    assert!(tip.lower_at.is_some());
    let status = rig.handle.status();
    assert_eq!(status.source, Some(SettledSource::HeadL1Origin));
    let seen = status.seen.unwrap();
    assert_eq!((seen.number, seen.hash, status.error), (9, tip.hash, None));
    assert!(status.synced && status.endpoints[0].in_use && status.calls > 4);
}

#[tokio::test]
async fn where_the_origin_is_not_served_the_tip_is_what_is_safe() {
    let Some(node) = Node::with(&["--slots-in-an-epoch", "2"]).await else { return };
    for _ in 0..9 {
        node.mine().await;
    }
    let endpoint = Endpoint::before(&node, Mood::Good).await;
    let mut rig = Rig::new(config(&[&endpoint]));
    let first = rig.tip().await;
    assert!((1..9).contains(&first.number), "{first:?}");
    assert_eq!(rig.handle.status().source, Some(SettledSource::Safe));
    node.mine().await;
    assert_eq!(rig.tip().await.number, first.number + 1);
}

#[tokio::test]
async fn a_node_that_synchronizes_itself_is_not_synced() {
    let Some((_node, endpoint)) = node(9).await else { return };
    endpoint.turn(Mood::Syncing);
    endpoint.originates(4);
    let mut rig = Rig::new(config(&[&endpoint]));
    let tip = rig.tip().await;
    assert_eq!((tip.number, tip.synced), (4, false));
    rig.tells_nothing().await;
    endpoint.turn(Mood::Good);
    let tip = rig.tip().await;
    assert_eq!((tip.number, tip.synced), (4, true));
    // What came from L1 is not there yet.
    endpoint.originates(12);
    rig.tells_nothing().await;
}

#[tokio::test]
async fn blocks_that_l2_replaces_take_the_tip_back() {
    let Some((node, endpoint)) = node(9).await else { return };
    endpoint.originates(5);
    let mut rig = Rig::new(config(&[&endpoint]));
    assert_eq!(rig.tip().await.number, 5);
    endpoint.originates(7);
    let before = rig.tip().await;
    assert_eq!(before.number, 7);
    assert!(rig.follower.block(6).await.is_some());
    // What replaces empty blocks has to differ from them.
    let _: serde_json::Value = node
        .rpc("anvil_setCoinbase", serde_json::json!(["0x00000000000000000000000000000000000000aa"]))
        .await;
    node.reorg(3).await;
    let back = rig.tip().await;
    assert_eq!(back.number, 6, "7, 8 and 9 were replaced");
    let again = rig.tip().await;
    assert_eq!(again.number, 7);
    assert_ne!(again.hash, before.hash);
    assert_eq!(rig.handle.status().reorgs, 1);
}

#[tokio::test]
async fn an_l2_endpoint_that_fails_gives_way_to_the_next() {
    for failing in [Mood::Dead, Mood::Hung, Mood::Liar, Mood::OtherBlocks] {
        let Some((node, first)) = node(9).await else { return };
        let second = Endpoint::before(&node, Mood::Good).await;
        first.turn(failing);
        first.originates(4);
        second.originates(4);
        let mut rig = Rig::new(config(&[&first, &second]));
        assert_eq!(rig.tip().await.number, 4);
        let status = rig.handle.status();
        assert!(status.endpoints[1].in_use, "{failing:?}: {status:?}");
        let failure = status.endpoints[0].failure.clone().unwrap();
        assert_eq!(failure.contains("chain 1, not 31337"), failing == Mood::Liar, "{failure}");
        // And the other way round, once it is well.
        if failing == Mood::Dead {
            first.turn(Mood::Good);
            second.turn(Mood::Dead);
            first.originates(6);
            assert_eq!(rig.tip().await.number, 6);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_stalls_gives_way_and_is_told() {
    let Some((node, first)) = node(9).await else { return };
    let second = Endpoint::before(&node, Mood::Good).await;
    first.originates(4);
    second.originates(8);
    let mut rig = Rig::new(L2Config { silence: Duration::from_millis(200), ..config(&[&first, &second]) });
    assert_eq!(rig.tip().await.number, 4);
    assert_eq!(rig.tip().await.number, 8);
    let status = rig.handle.status();
    assert!(status.endpoints[0].failure.clone().unwrap().contains("no new block"), "{status:?}");
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn count(&self, what: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(what).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn ten_minutes_without_l2_are_one_warning() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let Some((_node, endpoint)) = node(9).await else { return };
    endpoint.turn(Mood::Dead);
    endpoint.originates(4);
    let mut rig = Rig::new(L2Config { poll_interval: Duration::from_secs(4), ..config(&[&endpoint]) });
    tokio::time::pause();
    let told = timeout(Duration::from_secs(600), rig.follower.next_tip()).await;
    assert!(told.is_err(), "{told:?}");
    let status = rig.handle.status();
    assert!(status.error.is_some() && status.endpoints[0].failure.is_some(), "{status:?}");
    assert_eq!((status.seen, status.source), (None, None));
    assert!((15..60).contains(&status.calls), "it backs off: {}", status.calls);
    tokio::time::resume();
    endpoint.turn(Mood::Good);
    assert_eq!(rig.tip().await.number, 4);
    assert_eq!((log.count("an endpoint fails"), log.count("an endpoint has recovered")), (1, 1));
}
