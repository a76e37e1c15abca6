//! Each setting of a client has an effect. What a client hands on to one crate is shown by the tests of that crate: the
//! rules by p2p-validation, catch-up by p2p-catchup, stores and pools by p2p-storage, the network by preconfirmation-p2p.

use std::{
    collections::BTreeSet,
    future::pending,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use p2p_client::{
    B256, ErrorKind, Lookahead, LookaheadError, P2pClient, P2pClientError, Preconfirmation, Rejection,
    RotatingSchedule, SdkEvent, SignedCommitment, SigningDomain, Slot, StorageChoice, StorageLimits, U256,
    UnixSeconds,
    network::{
        InboundRequest, NetworkConfig, NetworkEvent,
        sim::{Link, SimNetwork},
    },
    validation::BlockRules,
    wire::{Container as _, RawTxListGossip, Topic},
};
use tokio::time::{Instant, sleep};

use super::world::{BASE, Block, CHAIN, Node, Voice, config, identity, preconfer, schedule};

const SECOND: Duration = Duration::from_secs(1);

fn gossip(block: &Block) -> RawTxListGossip {
    RawTxListGossip {
        raw_tx_list_hash: block.signed.preconf().raw_tx_list_hash,
        txlist: block.txlist.clone(),
    }
}

/// A block without a transaction list that is no handover: an offence of whoever relays it.
fn invalid(salt: u8) -> SignedCommitment {
    let mut commitment = Block::after(None, salt).signed.commitment;
    commitment.preconf.raw_tx_list_hash = B256::ZERO;
    commitment.preconf.gas_limit += U256::from(salt);
    commitment.sign(&preconfer(), &SigningDomain::PLACEHOLDER)
}

async fn rejections(node: &Node, count: u64) {
    while node.client.counts().rejected < count {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn soft_fail_costs_nobody_for_invalid_gossip() {
    for soft_fail in [false, true] {
        let network = SimNetwork::new(1);
        let node =
            Node::start_with(&network, 1, |config| config.gossipsub_validation_soft_fail = soft_fail).await;
        let voice = Voice::start(&network, 2, &[&node]).await;
        voice.publish(Topic::Commitments, invalid(0).to_ssz().into()).await;
        rejections(&node, 1).await;
        sleep(SECOND).await;
        let peers = node.client.network().peers().await.unwrap();
        assert_eq!(peers[0].score < 0.0, !soft_fail, "{:?}", peers[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn seen_messages_are_remembered_within_bounds() {
    for (seen, seen_ttl, rejected) in [(16, 60, 2), (1, 60, 3), (16, 1, 3)] {
        let network = SimNetwork::new(1);
        let node = Node::start_with(&network, 1, |config| {
            config.memory.seen = seen;
            config.memory.seen_ttl = seen_ttl * SECOND;
            config.network.gossip.duplicate_cache = SECOND;
        })
        .await;
        let first = Voice::start(&network, 2, &[&node]).await;
        for salt in [0, 1] {
            first.publish(Topic::Commitments, invalid(salt).to_ssz().into()).await;
            rejections(&node, u64::from(salt) + 1).await;
        }
        // The network has forgotten it by now, and asks again.
        sleep(5 * SECOND).await;
        let second = Voice::start(&network, 3, &[&node]).await;
        second.publish(Topic::Commitments, invalid(0).to_ssz().into()).await;
        sleep(5 * SECOND).await;
        assert_eq!(node.client.counts().rejected, rejected, "seen {seen}, for {seen_ttl} s");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_are_held_for_as_long_as_is_set() {
    for (ttl, held) in [(10, false), (100, true)] {
        let network = SimNetwork::new(1);
        let mut node =
            Node::start_with(&network, 1, |config| config.memory.held_txlist_ttl = ttl * SECOND).await;
        let voice = Voice::start(&network, 2, &[&node]).await;
        let block = Block::after(None, 0);
        voice.publish(Topic::RawTxLists, gossip(&block).to_ssz().into()).await;
        sleep(50 * SECOND).await;
        // What is too old makes room for what comes.
        voice.publish(Topic::RawTxLists, gossip(&Block::after(None, 1)).to_ssz().into()).await;
        sleep(SECOND).await;
        voice.commit(&block).await;
        node.until(|event| matches!(event, SdkEvent::Commitment { .. }).then_some(())).await;
        let hash = block.signed.preconf().raw_tx_list_hash;
        assert_eq!(node.client.chain().txlist(hash).await.unwrap().is_some(), held, "for {ttl} s");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_are_held_within_the_budgets_that_are_set() {
    // A list counts 336 bytes. One after the other comes from one peer, or from two.
    for (of_one, of_all, peers, held) in
        [(1_000, 10_000, 1, 2), (450, 10_000, 1, 1), (450, 10_000, 2, 2), (450, 450, 2, 1)]
    {
        let network = SimNetwork::new(1);
        let node = Node::start_with(&network, 1, |config| {
            config.network.max_txlist_bytes = 300;
            config.memory.held_txlist_bytes_per_peer = of_one;
            config.memory.held_txlist_bytes = of_all;
        })
        .await;
        let voices = [Voice::start(&network, 2, &[&node]).await, Voice::start(&network, 3, &[&node]).await];
        let chain = Block::chain(2);
        for (at, block) in chain.iter().enumerate() {
            voices[at % peers].publish(Topic::RawTxLists, gossip(block).to_ssz().into()).await;
            sleep(SECOND).await;
        }
        for block in &chain {
            voices[0].commit(block).await;
            sleep(SECOND).await;
        }
        let mut found = 0;
        for block in &chain {
            let hash = block.signed.preconf().raw_tx_list_hash;
            found += usize::from(node.client.chain().txlist(hash).await.unwrap().is_some());
        }
        assert_eq!(found, held, "{of_one} of one peer, {of_all} in all, {peers} peers");
    }
}

#[tokio::test(start_paused = true)]
async fn commitments_wait_for_as_long_as_is_set() {
    for ttl in [5, 50] {
        let network = SimNetwork::new(1);
        let mut node = Node::start_with(&network, 1, |config| config.memory.pending.ttl = ttl * SECOND).await;
        let voice = Voice::start(&network, 2, &[&node]).await;
        let begun = Instant::now();
        voice.commit(&Block::chain(2)[1]).await;
        node.until(|event| matches!(event, SdkEvent::DeferredTooLong { .. }).then_some(())).await;
        assert_eq!(begun.elapsed().as_secs(), u64::from(ttl));
    }
}

/// A schedule that is not known at first.
struct Late(AtomicBool, Arc<RotatingSchedule>);

impl Lookahead for Late {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        if self.0.load(Ordering::Relaxed) { Ok(self.1.turn(moment)) } else { Ok(None) }
    }
}

#[tokio::test(start_paused = true)]
async fn the_schedule_is_asked_again_as_often_as_is_set() {
    let mut waits = Vec::new();
    for retry in [100, 4_000] {
        let network = SimNetwork::new(1);
        let late = Arc::new(Late(AtomicBool::new(false), schedule()));
        let mut config = config(1);
        config.schedule_retry = Duration::from_millis(retry);
        config.validation.horizon = Duration::from_secs(86_400);
        let (handle, events, service) = network.join(config.network.clone()).unwrap();
        let client = P2pClient::builder(config, late.clone())
            .network(handle, events, service.run())
            .start()
            .await
            .unwrap();
        client.chain().l2_synced(BASE).await.unwrap();
        let mut events = client.subscribe();
        let address = client.network().listen_addrs().await.unwrap().remove(0);
        let voice = Voice::dialling(&network, 2, vec![address]).await;
        voice.commit(&Block::after(None, 0)).await;
        sleep(5 * SECOND).await;
        late.0.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while !matches!(events.next_event().await.unwrap().unwrap(), SdkEvent::Commitment { .. }) {}
        waits.push(begun.elapsed());
        client.shutdown().await.unwrap();
    }
    assert!(waits[0] <= Duration::from_millis(110), "{waits:?}");
    assert!(waits[1] > SECOND && waits[1] <= 4 * SECOND + Duration::from_millis(10), "{waits:?}");
}

/// Refuses every block.
struct Never;

impl BlockRules for Never {
    fn check(&self, _child: &Preconfirmation, _parent: &Preconfirmation) -> Result<(), Rejection> {
        Ok(())
    }

    fn check_alone(&self, _block: &Preconfirmation) -> Result<(), Rejection> {
        Err(Rejection::ZeroCoinbase)
    }
}

#[tokio::test(start_paused = true)]
async fn the_chains_block_rules_are_asked() {
    let network = SimNetwork::new(1);
    let node = Node::start_with(&network, 1, |config| config.block_rules = Arc::new(Never)).await;
    let block = Block::after(None, 0);
    node.client.publisher().ready().await.unwrap();
    let refused = node.client.publisher().publish_block(block.signed, block.txlist).await.unwrap_err();
    assert!(
        matches!(&refused, P2pClientError::Invalid(rule) if **rule == Rejection::ZeroCoinbase),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_may_be_as_long_as_is_set() {
    let network = SimNetwork::new(1);
    let node = Node::start_with(&network, 1, |config| {
        *config = config.clone().with_max_txlist_bytes(NonZeroUsize::new(300).unwrap());
    })
    .await;
    let publisher = node.client.publisher();
    let refused = publisher.publish_raw_txlist(vec![7; 301].into()).await.unwrap_err();
    assert!(matches!(refused, P2pClientError::TxList(_)), "{refused}");
    let _outcome = publisher.publish_raw_txlist(vec![7; 300].into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_store_holds_as_much_as_is_set() {
    let limits = StorageLimits { commitments: 256, ..StorageLimits::default() };
    let network = SimNetwork::new(1);
    let config = config(1).with_storage(StorageChoice::Memory(limits));
    let (handle, events, service) = network.join(config.network.clone()).unwrap();
    let client =
        P2pClient::builder(config, schedule()).network(handle, events, service.run()).start().await.unwrap();
    client.chain().l2_synced(BASE).await.unwrap();
    let publisher = client.publisher();
    publisher.ready().await.unwrap();
    for (at, block) in Block::chain(257).into_iter().enumerate() {
        let published = publisher.publish_block(block.signed, block.txlist).await;
        match published {
            Ok(_) => assert!(at < 256),
            Err(error) => assert_eq!((at, error.kind()), (256, ErrorKind::Storage)),
        }
    }
    client.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_from_the_start_has_the_first_peer() {
    let network = SimNetwork::new(1);
    let other = Node::start(&network, 1).await;
    let config = config(2);
    let (handle, events, service) = network.join(config.network.clone()).unwrap();
    let builder = P2pClient::builder(config, schedule()).network(handle, events, service.run());
    let (client, mut subscription) = builder.start_subscribed().await.unwrap();
    client.network().dial(other.address().await).await.unwrap();
    client.network().wait_for_peers(1).await.unwrap();
    let event = subscription.next_event().await.unwrap().unwrap();
    assert!(matches!(event, SdkEvent::PeerConnected { peer, .. } if peer == other.id()), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_after_its_timeout() {
    for seconds in [3, 30] {
        let network = SimNetwork::new(1);
        let node = Node::start_with(&network, 1, |config| {
            *config = config.clone().with_request_timeout(seconds * SECOND);
        })
        .await;
        let silent = Node::start(&network, 2).await;
        node.dial(&silent).await;
        network.set_link(silent.id(), node.id(), Link { loss: 1.0, ..Link::default() });
        sleep(60 * SECOND).await;
        let begun = Instant::now();
        let error = node.client.network().request_head(Some(silent.id())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(begun.elapsed().as_secs(), u64::from(seconds), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_abandoned_after_its_timeout() {
    let network = SimNetwork::new(1);
    let mut config = config(1);
    config.shutdown_timeout = 7 * SECOND;
    let (handle, events, service) = network.join(config.network.clone()).unwrap();
    // A network that never says goodbye.
    let never = async move {
        let _stays = service;
        pending().await
    };
    let client = P2pClient::builder(config, schedule()).network(handle, events, never).start().await;
    let begun = Instant::now();
    let error = client.unwrap().shutdown().await.unwrap_err();
    assert!(matches!(error, P2pClientError::ShutdownTimeout { limit } if limit == 7 * SECOND), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 7);
}

/// The peers that a client with this seed asks first, of eight.
async fn asked_first(seed: u64) -> BTreeSet<u8> {
    let network = SimNetwork::new(1);
    let asked = Arc::<Mutex<BTreeSet<u8>>>::default();
    let mut addresses = Vec::new();
    for key in 10..18 {
        let (handle, mut events, service) = network.join(NetworkConfig::local(CHAIN, identity(key))).unwrap();
        tokio::spawn(service.run());
        addresses.push(handle.listen_addrs().await.unwrap().remove(0));
        let asked = asked.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let NetworkEvent::Request { request: InboundRequest::Head(_), .. } = event {
                    asked.lock().unwrap().insert(key);
                }
            }
            drop(handle);
        });
    }
    let mut config = config(1).with_static_peers(addresses);
    config.network.seed = Some(seed);
    let (handle, events, service) = network.join(config.network.clone()).unwrap();
    let client = P2pClient::builder(config, schedule()).network(handle, events, service.run()).start().await;
    let client = client.unwrap();
    // Everybody is there when it begins to ask.
    client.network().wait_for_peers(8).await.unwrap();
    client.chain().l2_synced(BASE).await.unwrap();
    // One way of a link takes 5 ms: the questions of the first round are here, and no answer is.
    sleep(Duration::from_millis(8)).await;
    asked.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_among_equal_peers() {
    let first = asked_first(1).await;
    assert!(!first.is_empty() && first.len() < 8, "{first:?}");
    assert_eq!(asked_first(1).await, first);
    let mut others = BTreeSet::new();
    for seed in 2..8 {
        others.insert(asked_first(seed).await);
    }
    assert!(others.len() > 1, "{others:?}");
}
