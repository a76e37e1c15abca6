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
    BrokenPromise, Keypair, P2pClient, P2pClientConfig, PromiseCounts, PromiseOutcome, Publishing, SdkEvent,
    Subscription, TransactionsBreach, UnixSeconds, network::sim::SimNetwork,
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

/// A preconfer's client, and the node that is its L2.
struct Rig {
    node: Node,
    endpoint: Endpoint,
    client: P2pClient,
    events: Subscription,
    following: JoinHandle<Result<(), p2p_client::P2pClientError>>,
    clock: Arc<AtomicU64>,
    /// Nonce of the account that sends.
    nonce: u64,
    parent: B256,
    /// What was told of each height.
    told: BTreeMap<u64, PromiseOutcome>,
}

impl Rig {
    async fn new() -> Option<Self> {
        let node = Node::start().await?;
        let _: Value = node.rpc("anvil_setBalance", json!([key().address(), "0xffffffffffffffffffff"])).await;
        let _: Value = node.rpc("anvil_setCoinbase", json!([FEES])).await;
        // What is settled in time is not late.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        node.mine_at(now).await;
        let clock = Arc::new(AtomicU64::new(now));
        let endpoint = Endpoint::before(&node, Mood::Good).await;
        endpoint.originates(1);
        let seconds = Arc::clone(&clock);
        let identity = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let settings = P2pClientConfig::local(CHAIN, identity, rules())
            .with_publishing(Publishing::GuardedUntilRestart)
            .with_clock(move || UnixSeconds::new(seconds.load(Ordering::Relaxed)));
        let (handle, events, service) = SimNetwork::new(1).join(settings.network.clone()).unwrap();
        let (client, events) = P2pClient::builder(settings, schedule(&[key()]))
            .network(handle, events, service.run())
            .start_subscribed()
            .await
            .unwrap();
        let (_, follower) = L2Follower::new(config(&[&endpoint])).unwrap();
        let chain = client.chain();
        let following = tokio::spawn(async move { chain.follow_l2(follower).await });
        let (nonce, parent, told) = (0, B256::ZERO, BTreeMap::new());
        let mut rig = Self { node, endpoint, client, events, following, clock, nonce, parent, told };
        rig.settled(1).await;
        Some(rig)
    }

    /// Promises the next block, and has L2 make of it what is its fate.
    async fn block(&mut self, fate: Fate) -> u64 {
        let head = self.node.head().await;
        let (number, timestamp) = (head.number + 1, head.timestamp + 1);
        self.clock.store(timestamp, Ordering::Relaxed);
        let nonce = self.nonce;
        let transactions = [legacy(nonce), typed(nonce + 1), typed(nonce + 2)];
        let sent = match fate {
            Fate::Kept | Fate::OtherTime => 3,
            Fate::WithoutOne => 2,
            Fate::NotAtAll => 0,
        };
        self.promise(number, timestamp, &transactions).await;
        for transaction in &transactions[..sent] {
            let raw = Bytes::from(envelope(transaction));
            let _: B256 = self.node.rpc("eth_sendRawTransaction", json!([raw])).await;
        }
        self.nonce += sent as u64;
        let later = matches!(fate, Fate::OtherTime | Fate::NotAtAll);
        self.node.mine_at(timestamp + u64::from(later)).await;
        number
    }

    async fn promise(&mut self, number: u64, timestamp: u64, transactions: &[TxEnvelope]) {
        let txlist = list(transactions);
        let gas_limit: U64 = {
            let block: Value = self.node.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
            block["gasLimit"].as_str().unwrap().parse().unwrap()
        };
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            gas_limit: U256::from(gas_limit.to::<u64>()),
            coinbase: FEES,
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: self.parent,
            submission_window_end: U256::from(timestamp - timestamp % WINDOW + WINDOW - 1),
            ..Preconfirmation::default()
        };
        self.parent = preconf.hash();
        let publisher = self.client.publisher();
        timeout(DEADLINE, publisher.ready()).await.unwrap().unwrap();
        let _queued = publisher.publish_block(sign(&key(), preconf), txlist.0).await.unwrap();
    }

    /// L1 has settled blocks up to a height.
    async fn settle(&mut self, number: u64) {
        self.endpoint.originates(number);
        self.settled(number).await;
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
        if !matches!(self.told[&number], PromiseOutcome::Kept) {
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
        let PromiseOutcome::Broken(breach) = rig.told[number] else {
            assert_eq!((rig.told[number], *fate), (PromiseOutcome::Kept, Fate::Kept), "{number}");
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
    // A block is counted after it is told.
    let counted = async {
        loop {
            let stats = rig.client.chain().promises().await.unwrap().unwrap();
            if stats.total.kept + stats.total.broken == expected.len() as u64 {
                return stats;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let stats = timeout(DEADLINE, counted).await.unwrap();
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
    assert_eq!(rig.told.len(), 101, "nothing else is told");
    rig.client.shutdown().await.unwrap();
    assert!(!rig.following.is_finished() || rig.following.await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_settled_is_overdue_and_no_claim_is_made() {
    let Some(mut rig) = Rig::new().await else { return };
    let kept = rig.block(Fate::Kept).await;
    let never = rig.block(Fate::Kept).await;
    rig.settle(kept).await;
    let stats = |rig: &Rig| {
        let chain = rig.client.chain();
        async move { chain.promises().await.unwrap().unwrap() }
    };
    assert_eq!(stats(&rig).await.overdue, 0);
    rig.clock.fetch_add(2 * WINDOW, Ordering::Relaxed);
    let after = stats(&rig).await;
    assert_eq!((after.overdue, after.total.kept, after.total.broken), (1, 1, 0));
    assert!(!rig.told.contains_key(&never));
    rig.client.shutdown().await.unwrap();
}
