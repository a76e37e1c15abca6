//! A client that follows a real node as its L2: promises of real transactions, kept and broken.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_consensus::TxEnvelope;
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_rlp::Header;
use p2p_client::{
    Base, BrokenPromise, Keypair, P2pClient, P2pClientConfig, PromiseCounts, PromiseOutcome, Publishing,
    SdkEvent, Subscription, TransactionsBreach, UnixSeconds, network::sim::SimNetwork,
};
use p2p_fixtures::{WINDOW, rules, schedule, sign};
use p2p_lookahead::L2Follower;
use p2p_types::Preconfirmation;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    endpoints::{Endpoint, Mood},
    l2::config,
    node::{CHAIN, Node},
    transactions::{key, legacy, list, typed},
};

const DEADLINE: Duration = Duration::from_secs(60);
const FEES: Address = Address::repeat_byte(0xfe);

/// What becomes of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    /// The last transaction is left out.
    WithoutOne,
    /// A second later.
    OtherTime,
    /// An empty block takes the height.
    NotAtAll,
}

fn fate(index: u64) -> Fate {
    match index {
        10 | 30 | 50 | 70 => Fate::WithoutOne,
        20 | 40 | 60 => Fate::OtherTime,
        25 | 45 | 99 => Fate::NotAtAll,
        _ => Fate::Kept,
    }
}

/// A client that follows L2.
struct Follower {
    client: P2pClient,
    events: Subscription,
    following: JoinHandle<Result<(), p2p_client::P2pClientError>>,
    /// What was told of each height.
    told: BTreeMap<u64, PromiseOutcome>,
}

impl Follower {
    async fn start(world: &SimNetwork, identity: u8, clock: &Arc<AtomicU64>, l2: &Endpoint) -> Self {
        let (identity, seconds) = (Keypair::ed25519_from_bytes([identity; 32]).unwrap(), Arc::clone(clock));
        let settings = P2pClientConfig::local(CHAIN, identity, rules())
            .with_publishing(Publishing::GuardedUntilRestart)
            .with_clock(move || UnixSeconds::new(seconds.load(Ordering::Relaxed)));
        let (handle, events, service) = world.join(settings.network.clone()).unwrap();
        let (client, events) = P2pClient::builder(settings, schedule(&[key()]))
            .network(handle, events, service.run())
            .start_subscribed()
            .await
            .unwrap();
        let (_, follower) = L2Follower::new(config(&[l2])).unwrap();
        let chain = client.chain();
        let following = tokio::spawn(async move { chain.follow_l2(follower).await });
        Self { client, events, following, told: BTreeMap::new() }
    }

    async fn publish(&self, preconf: Preconfirmation, txlist: Bytes) {
        let publisher = self.client.publisher();
        timeout(DEADLINE, publisher.ready()).await.unwrap().unwrap();
        let _queued = publisher.publish_block(sign(&key(), preconf), txlist.0).await.unwrap();
    }

    /// Waits until it is told what became of a height.
    async fn settled(&mut self, number: u64) {
        let told = async {
            while !self.told.contains_key(&number) {
                if let Some(SdkEvent::Settled { block, promise, hash, late, .. }) =
                    self.events.next_event().await.unwrap()
                {
                    assert_eq!((hash.is_some(), late), (promise == PromiseOutcome::Kept, false), "{block}");
                    assert_eq!(self.told.insert(block, promise), None, "told once");
                }
            }
        };
        timeout(DEADLINE, told).await.unwrap_or_else(|_| panic!("{number}: {:?}", self.client));
    }

    /// Waits until its chain ends in a block.
    async fn has_head(&self, hash: B256) {
        let came = async {
            while self.client.chain().head().is_none_or(|head| head.hash != hash) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, came).await.unwrap_or_else(|_| panic!("{hash}: {:?}", self.client));
    }
}

/// A preconfer's client, and the node that is its L2, with a block a second.
struct Rig {
    node: Node,
    endpoint: Endpoint,
    preconfer: Follower,
    clock: Arc<AtomicU64>,
    gas_limit: u64,
    /// Nonce of the account that sends.
    nonce: u64,
    parent: B256,
}

impl Rig {
    async fn new() -> Option<Self> {
        let node = Node::start().await?;
        let _: Value = node.rpc("anvil_setBalance", json!([key().address(), "0xffffffffffffffffffff"])).await;
        let _: Value = node.rpc("anvil_setCoinbase", json!([FEES])).await;
        // What is settled in time is not late.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        node.mine_at(now).await;
        let block: Value = node.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        let gas_limit: U64 = block["gasLimit"].as_str().unwrap().parse().unwrap();
        let clock = Arc::new(AtomicU64::new(now));
        let endpoint = Endpoint::before(&node, Mood::Good).await;
        endpoint.originates(1);
        let mut preconfer = Follower::start(&SimNetwork::new(1), 1, &clock, &endpoint).await;
        preconfer.settled(1).await;
        let (gas_limit, nonce, parent) = (gas_limit.to(), 0, B256::ZERO);
        Some(Self { node, endpoint, preconfer, clock, gas_limit, nonce, parent })
    }

    /// Promises the next block, and has L2 make of it what is its fate.
    async fn block(&mut self, fate: Fate) -> u64 {
        let head = self.node.head().await;
        let (number, timestamp) = (head.number + 1, head.timestamp + 1);
        self.clock.store(timestamp, Ordering::Relaxed);
        let transactions = self.transactions();
        let (preconf, txlist) = self.promise(number, timestamp, &transactions);
        self.parent = preconf.hash();
        self.preconfer.publish(preconf, txlist).await;
        let sent = match fate {
            Fate::Kept | Fate::OtherTime => 3,
            Fate::WithoutOne => 2,
            Fate::NotAtAll => 0,
        };
        let later = matches!(fate, Fate::OtherTime | Fate::NotAtAll);
        self.mine(&transactions[..sent], timestamp + u64::from(later)).await;
        number
    }

    fn transactions(&self) -> [TxEnvelope; 3] {
        [legacy(self.nonce), typed(self.nonce + 1), typed(self.nonce + 2)]
    }

    /// The promise of a block on the last one.
    fn promise(&self, number: u64, timestamp: u64, transactions: &[TxEnvelope]) -> (Preconfirmation, Bytes) {
        let txlist = list(transactions);
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            gas_limit: U256::from(self.gas_limit),
            coinbase: FEES,
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: self.parent,
            submission_window_end: U256::from(timestamp - timestamp % WINDOW + WINDOW - 1),
            ..Preconfirmation::default()
        };
        (preconf, txlist)
    }

    /// L2 takes a block in, once it is time for it.
    async fn mine(&mut self, transactions: &[TxEnvelope], timestamp: u64) {
        for transaction in transactions {
            let raw = Bytes::from(envelope(transaction));
            let _: B256 = self.node.rpc("eth_sendRawTransaction", json!([raw])).await;
        }
        self.nonce += transactions.len() as u64;
        let due = UNIX_EPOCH + Duration::from_secs(timestamp);
        sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await;
        self.node.mine_at(timestamp).await;
    }

    /// L1 has settled blocks up to a height.
    async fn settle(&mut self, number: u64) {
        self.endpoint.originates(number);
        self.preconfer.settled(number).await;
        if self.preconfer.told[&number] != PromiseOutcome::Kept {
            // What was settled instead has no preconfirmation hash.
            self.parent = B256::ZERO;
        }
    }
}

/// The envelope of a transaction, as nodes take it: in a list a typed one is wrapped in a string.
fn envelope(transaction: &TxEnvelope) -> Vec<u8> {
    let rlp = alloy_rlp::encode(transaction);
    if transaction.is_legacy() { rlp } else { Header::decode_bytes(&mut &rlp[..], false).unwrap().to_vec() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_promises_exactly_the_broken_ones_are_told() {
    let Some(mut rig) = Rig::new().await else { return };
    let mut expected = BTreeMap::new();
    for index in 0..100 {
        let fate = fate(index);
        let number = rig.block(fate).await;
        expected.insert(number, fate);
        // L1 settles several blocks at once; what follows a broken promise is promised once that is known.
        if fate != Fate::Kept || index % 5 == 4 {
            rig.settle(number).await;
        }
    }
    for (number, fate) in &expected {
        let PromiseOutcome::Broken(breach) = rig.preconfer.told[number] else {
            assert_eq!((rig.preconfer.told[number], *fate), (PromiseOutcome::Kept, Fate::Kept), "{number}");
            continue;
        };
        match fate {
            Fate::WithoutOne => {
                let one = TransactionsBreach::Differ { promised: 3, missing: 1, added: 0, first: 2 };
                assert_eq!((breach.transactions, breach.timestamp), (Some(one), None), "{number}");
                assert_eq!(breach.reason(), "transactions");
            }
            Fate::OtherTime => {
                let timestamp = breach.timestamp.unwrap();
                assert_eq!(timestamp.promised + 1, timestamp.settled);
                assert_eq!((breach.transactions, breach.reason()), (None, "timestamp"), "{number}");
            }
            Fate::NotAtAll => assert_eq!(breach.reason(), "not_settled", "{number}"),
            Fate::Kept => panic!("{number} was kept, not {breach:?}"),
        }
    }
    let stats = rig.preconfer.client.chain().promises().await.unwrap().unwrap();
    let counts = |kept, broken| {
        let mut counts = PromiseCounts::default();
        (counts.kept, counts.broken) = (kept, broken);
        counts
    };
    assert_eq!((stats.total, stats.unpromised, stats.overdue), (counts(90, 10), 1, 0));
    assert_eq!(stats.signers, BTreeMap::from([(key().address(), counts(90, 10))]));
    let broken: Vec<u64> = stats.broken.iter().map(|broken: &BrokenPromise| broken.settled.number).collect();
    let fated = expected.iter().filter(|(_, fate)| **fate != Fate::Kept).map(|(number, _)| *number);
    assert_eq!(broken, fated.collect::<Vec<_>>());
    assert_eq!(rig.preconfer.told.len(), 101, "nothing else is told");
    rig.preconfer.client.shutdown().await.unwrap();
    let following = rig.preconfer.following;
    assert!(!following.is_finished() || following.await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_settled_is_overdue_and_no_claim_is_made() {
    let Some(mut rig) = Rig::new().await else { return };
    let kept = rig.block(Fate::Kept).await;
    let never = rig.block(Fate::Kept).await;
    rig.settle(kept).await;
    let stats = |rig: &Rig| {
        let chain = rig.preconfer.client.chain();
        async move { chain.promises().await.unwrap().unwrap() }
    };
    assert_eq!(stats(&rig).await.overdue, 0);
    rig.clock.fetch_add(2 * WINDOW, Ordering::Relaxed);
    let after = stats(&rig).await;
    assert_eq!((after.overdue, after.total.kept, after.total.broken), (1, 1, 0));
    assert!(!rig.preconfer.told.contains_key(&never));
    rig.preconfer.client.shutdown().await.unwrap();
}

/// Two machines that do not know each other sign with one key: whatever each has promised, both end on what was settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_with_different_forks_end_on_the_settled_one() {
    let Some(mut rig) = Rig::new().await else { return };
    let world = SimNetwork::new(2);
    let mut nodes = [
        Follower::start(&world, 2, &rig.clock, &rig.endpoint).await,
        Follower::start(&world, 3, &rig.clock, &rig.endpoint).await,
    ];
    let head = rig.node.head().await;
    rig.clock.store(head.timestamp + 2, Ordering::Relaxed);
    // The first one promises what is going to be settled, the other one a block without the last transaction.
    let transactions = rig.transactions();
    let mut forks = [Vec::new(), Vec::new()];
    for (index, promised) in [&transactions[..], &transactions[..2]].into_iter().enumerate() {
        nodes[index].settled(head.number).await;
        rig.parent = B256::ZERO;
        for (number, transactions) in [(2, promised), (3, &[])] {
            let (preconf, txlist) = rig.promise(number, head.timestamp + number - 1, transactions);
            rig.parent = preconf.hash();
            forks[index].push(preconf.hash());
            nodes[index].publish(preconf, txlist).await;
        }
        nodes[index].has_head(forks[index][1]).await;
    }
    rig.mine(&transactions, head.timestamp + 1).await;
    rig.endpoint.originates(2);
    for node in &mut nodes {
        node.settled(2).await;
    }
    let [kept, broken] = nodes.each_ref().map(|node| node.told[&2]);
    assert_eq!((kept, broken.label()), (PromiseOutcome::Kept, "broken"));
    assert_eq!(nodes[1].client.chain().head(), None, "what stood on it has fallen");
    // They meet: the one takes over what stands on the settled block.
    let [first, second] = nodes.each_ref().map(|node| node.client.network());
    second.dial(first.listen_addrs().await.unwrap().remove(0)).await.unwrap();
    for node in &nodes {
        node.has_head(forks[0][1]).await;
    }
    rig.mine(&[], head.timestamp + 2).await;
    rig.endpoint.originates(3);
    for node in &mut nodes {
        node.settled(3).await;
        let base = node.client.chain().base().await.unwrap();
        let settled = Base { number: 3, hash: Some(forks[0][1]) };
        assert_eq!((node.told[&3], base), (PromiseOutcome::Kept, Some(settled)));
    }
}
