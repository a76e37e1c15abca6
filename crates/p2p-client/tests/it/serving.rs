//! What peers are given who ask: by block, bounded, from the store, and not more than they have paid for.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use p2p_storage::{
    DiskConfig, DiskStorage, MemoryStorage,
    fixtures::{Call, Intercepted},
};
use p2p_types::{PeerId, SigningDomain, U256};
use preconfirmation_p2p::{Network, NetworkConfig, NetworkEvent, NetworkHandle, RequestError};
use preconfirmation_types::{
    Container as _, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse,
    GetRawTxList, GetRawTxListRequest, MAX_COMMITMENTS_PER_RESPONSE, keccak256,
};
use tokio::time::timeout;

use super::world::{Block, CHAIN, Node, Tcp, identity};

const DEADLINE: Duration = Duration::from_secs(60);

/// A peer that asks as fast as it can.
async fn asker(key: u8, node: &Node) -> NetworkHandle {
    let mut config = NetworkConfig::local(CHAIN, identity(key));
    config.pacing.requests = NonZeroUsize::MAX;
    let (handle, mut events, service) = Network::new(config).unwrap();
    tokio::spawn(service.run());
    handle.dial(node.address().await).await.unwrap();
    let connected =
        async { while !matches!(events.next().await, Some(NetworkEvent::PeerConnected { .. })) {} };
    timeout(DEADLINE, connected).await.unwrap();
    tokio::spawn(async move { while events.next().await.is_some() {} });
    handle
}

async fn ask(
    asker: &NetworkHandle,
    peer: PeerId,
    from: U256,
    max_count: u32,
) -> Result<GetCommitmentsByNumberResponse, RequestError> {
    let asked = GetCommitmentsByNumberRequest { start_block_number: from, max_count };
    timeout(DEADLINE, asker.request::<GetCommitmentsByNumber>(peer, asked)).await.unwrap()
}

/// A node that has these blocks.
async fn server(chain: &[Block], change: impl FnOnce(&mut NetworkConfig)) -> Node {
    let node = Node::start_with(&Tcp, 1, |config| change(&mut config.network)).await;
    for block in chain {
        timeout(DEADLINE, node.client.publisher().ready()).await.unwrap().unwrap();
        node.client.publisher().publish_commitment(block.signed.clone()).await.map(drop).unwrap();
    }
    node
}

#[tokio::test]
async fn a_page_answers_its_range_from_the_start_without_gaps_up_to_its_cap() {
    let chain = Block::chain(300);
    let node = server(&chain, |_| ()).await;
    let asker = asker(2, &node).await;
    let page = async |from: U256, max_count: u32| {
        let answer = ask(&asker, node.id(), from, max_count).await.unwrap();
        let numbers = answer.into_commitments().into_iter().map(|signed| signed.preconf().block_number.to());
        numbers.collect::<Vec<u64>>()
    };
    let most = u64::try_from(MAX_COMMITMENTS_PER_RESPONSE).unwrap();
    assert_eq!(page(U256::from(11), u32::MAX).await, (11..11 + most).collect::<Vec<_>>());
    assert_eq!(page(U256::from(11 + most), 256).await, (11 + most..=310).collect::<Vec<_>>());
    assert_eq!(page(U256::from(20), 3).await, [20, 21, 22]);
    // What is not there from its start is not there: no block below the base, above the head, beyond all numbers.
    for from in [U256::from(10), U256::from(311), U256::MAX] {
        assert_eq!(page(from, 256).await, [0_u64; 0], "from {from}");
    }
    // The largest page fits well into its frame (§10).
    let largest = ask(&asker, node.id(), U256::from(11), 256).await.unwrap();
    assert!(largest.to_ssz().len() <= 1024 * 1024);
    node.stop().await;
}

/// What is recorded on this thread, which is that of all nodes of a test.
struct Waiting(Snapshotter);

impl Waiting {
    /// Until so many answers wait until they are paid for.
    async fn answers(&self, wanted: f64) {
        let reached = async {
            loop {
                let waiting = self.0.snapshot().into_vec().into_iter().find_map(|(key, _, _, value)| {
                    let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
                    match value {
                        DebugValue::Gauge(value) if labels == ["answers"] => Some(value.into_inner()),
                        _ => None,
                    }
                });
                if waiting == Some(wanted) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap();
    }
}

/// As many pages as the budget has, and no more; others have budgets of their own.
#[tokio::test]
async fn who_asks_the_same_again_and_again_gets_what_it_has_paid_for_and_costs_others_nothing() {
    let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
    let _recorded = metrics::set_default_local_recorder(recorder);
    let waiting = Waiting(recorder.snapshotter());
    const PAGES: usize = 3;
    let chain = Block::chain(256);
    let node = server(&chain, |config| {
        // What a page costs, three times, and nothing more for an hour.
        let page = 4 + 256 * (382 + config.serving.item_bytes);
        config.serving.bytes = NonZeroUsize::new(PAGES * page.next_multiple_of(1024)).unwrap();
        config.serving.bytes_per = Duration::from_secs(3600);
    })
    .await;
    let (greedy, modest) = (asker(2, &node).await, asker(3, &node).await);
    let (first, peer) = (U256::from(11), node.id());
    let mut asked: FuturesUnordered<_> = (0..8).map(|_| ask(&greedy, peer, first, 256)).collect();
    for _ in 0..PAGES {
        assert_eq!(asked.next().await.unwrap().unwrap().into_commitments().len(), 256);
    }
    // The others have been read from the store, and wait.
    tokio::select! {
        answer = asked.next() => panic!("more than was paid for: {answer:?}"),
        () = waiting.answers(5.0) => {}
    }
    assert_eq!(ask(&modest, peer, first, 256).await.unwrap().into_commitments().len(), 256);
    assert!(asked.next().now_or_never().is_none());
    // Nobody is punished for asking.
    for status in node.client.network().peers().await.unwrap() {
        assert!(status.application_score >= 0.0, "{status:?}");
    }
    drop(asked);
    node.stop().await;
}

/// Holds up a thread while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    /// Threads that are held up.
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(self.opened.wait_while(self.closed.lock().unwrap(), |closed| *closed).unwrap());
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn close(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

/// All of a node's tasks are on one thread here: a read in one of them would stop everything.
#[tokio::test]
async fn while_the_store_takes_its_time_gossip_and_the_network_go_on() {
    let gate = Arc::new(Gate::default());
    let at_gate = gate.clone();
    let store = Intercepted::new(Arc::<MemoryStorage>::default(), move |call| {
        if call == Call::Range {
            at_gate.pass();
        }
        Ok(())
    });
    let mut node = Node::with_storage(&Tcp, 1, Arc::new(store), |_| ()).await;
    let author = Node::start(&Tcp, 4).await;
    node.dial(&author).await;
    let asker = asker(2, &node).await;
    let chain = Block::chain(8);
    author.publish(&chain[0]).await;
    node.has(&chain[..1]).await;
    gate.close(true);
    let page = ask(&asker, node.id(), U256::from(11), 7);
    tokio::pin!(page);
    let stuck = async {
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut page => panic!("{answer:?}"),
        () = stuck => {}
    }
    for block in &chain[1..] {
        author.publish(block).await;
    }
    node.has(&chain).await;
    assert!(page.as_mut().now_or_never().is_none(), "the gate is closed");
    gate.close(false);
    assert_eq!(page.await.unwrap().into_commitments().len(), 7);
    author.stop().await;
    node.stop().await;
}

/// A list that a node has, and whose file the disk changes without changing its length.
#[tokio::test]
async fn a_damaged_list_is_not_served_and_is_fetched_again_for_whoever_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = DiskConfig { file_bytes: 1, ..DiskConfig::recommended(SigningDomain::PLACEHOLDER) };
    let store = Arc::new(DiskStorage::open(folder.path(), disk).unwrap());
    let mut node = Node::with_storage(&Tcp, 1, store, |_| ()).await;
    let author = Node::start(&Tcp, 4).await;
    node.dial(&author).await;
    let chain = Block::chain(2);
    for block in &chain {
        author.publish(block).await;
    }
    node.has(&chain).await;
    let (hash, list) = (keccak256(&chain[0].txlist), &chain[0].txlist);
    let name = format!("{hash:x}");
    let path = folder.path().join("txlists").join(&name[..1]).join(&name);
    let damage = || std::fs::write(&path, vec![0; list.len()]).unwrap();
    let asker = asker(2, &node).await;
    let ask = async || {
        let asked = GetRawTxListRequest { raw_tx_list_hash: hash };
        let answer = timeout(DEADLINE, asker.request::<GetRawTxList>(node.id(), asked)).await.unwrap();
        answer.unwrap().txlist
    };
    let chain = node.client.chain();
    let read = async || chain.txlist(hash).await.unwrap().map(|list| list.bytes().clone());
    assert_eq!((ask().await, read().await), (list.clone(), Some(list.clone())));
    // A peer meets it.
    damage();
    assert!(ask().await.is_empty());
    let again = async { while ask().await != *list {} };
    timeout(DEADLINE, again).await.unwrap();
    // The application does.
    damage();
    assert_eq!(read().await, None);
    let again = async { while read().await.is_none() {} };
    timeout(DEADLINE, again).await.unwrap();
    assert_eq!((ask().await, read().await), (list.clone(), Some(list.clone())));
    author.stop().await;
    node.stop().await;
}
