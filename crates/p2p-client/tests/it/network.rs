//! Clients over real TCP on loopback: through the facade, as a sidecar meets them.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use p2p_client::{P2pClient, P2pClientConfig, P2pClientError, PublishOutcome, Publishing, Subscription};
use p2p_storage::{CommitmentStore, MemoryStorage, TxListStore};
use p2p_types::{
    Address, B256, Base, Bytes, Clock, HeadSyncStatus, Origin, Preconfirmation, SdkCommand, SdkEvent,
    SignedCommitment, SigningDomain, SigningKey, Topic, U256, UnixSeconds,
};
use p2p_validation::{Missing, Rejection, RotatingSchedule, ValidationConfig};
use preconfirmation_p2p::{Keypair, Network, NetworkConfig};
use preconfirmation_types::{Container, PreconfCommitment, keccak256};
use tokio::time::timeout;

const CHAIN: u64 = 167_000;
const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
const BASE: Base = Base::at(10);
/// Long enough for a busy machine, and never waited for where all is well.
const DEADLINE: Duration = Duration::from_secs(30);

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn txlist(fill: u8) -> Bytes {
    vec![fill; 1_000].into()
}

/// Block `number` with the list `fill`.
fn block(number: u64, parent: B256, fill: u8) -> Preconfirmation {
    Preconfirmation {
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from(WINDOW - 1),
        raw_tx_list_hash: keccak256(txlist(fill)),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    }
}

fn sign(preconf: Preconfirmation) -> SignedCommitment {
    PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(1), &DOMAIN)
}

/// Blocks 11, 12, …
fn chain(n: u8) -> Vec<SignedCommitment> {
    let mut parent = B256::ZERO;
    (1..=n)
        .map(|i| {
            let next = block(BASE.number + u64::from(i), parent, i);
            parent = next.hash();
            sign(next)
        })
        .collect()
}

struct Node {
    client: P2pClient,
    storage: Arc<MemoryStorage>,
    events: Subscription,
}

impl Node {
    /// A node whose wall clock stands still and whose only preconfer is key 1.
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut P2pClientConfig)) -> Self {
        let rules = ValidationConfig::new(DOMAIN, SLASHER);
        let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules)
            .with_publishing(Publishing::GuardedUntilRestart);
        config.clock = Arc::new(|| UnixSeconds::new(50_000)) as Arc<dyn Clock>;
        change(&mut config);
        let schedule = RotatingSchedule::new(
            vec![key(1).address()],
            UnixSeconds::new(0),
            NonZeroU64::new(WINDOW).unwrap(),
        );
        let storage = Arc::new(MemoryStorage::default());
        let client = P2pClient::start(config.with_storage(storage.clone()), Arc::new(schedule.unwrap()))
            .await
            .unwrap();
        let events = client.subscribe();
        client.chain().l2_synced(BASE).await.unwrap();
        Self { client, storage, events }
    }

    async fn dial(&self, other: &Self) {
        let address = other.client.network().listen_addrs().await.unwrap().remove(0);
        self.client.network().dial(address).await.unwrap();
        self.client.network().wait_for_peers(1).await.unwrap();
        other.client.network().wait_for_peers(1).await.unwrap();
    }

    async fn publish(&self, signed: &SignedCommitment) -> Result<PublishOutcome, P2pClientError> {
        let fill = u8::try_from(signed.preconf().block_number.to::<u64>() - BASE.number).unwrap();
        timeout(DEADLINE, self.client.publisher().ready()).await.unwrap().unwrap();
        self.client.publisher().publish_block(signed.clone(), txlist(fill)).await
    }

    /// Reads events until one gives a value.
    async fn until<T>(&mut self, mut wanted: impl FnMut(SdkEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.next_event().await.unwrap().expect("the client ended");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, search).await.expect("the event did not come")
    }

    async fn ready(&mut self, number: u64) {
        self.until(|event| {
            matches!(event, SdkEvent::BlockReady { block, .. } if block == number).then_some(())
        })
        .await;
    }

    async fn live(&mut self) {
        // Told once, and not again while it lasts.
        if self.client.status().is_live() {
            return;
        }
        self.until(|event| matches!(event, SdkEvent::Status { status } if status.is_live()).then_some(()))
            .await;
    }
}

/// Publishes the first block and waits for it: it is sent as soon as gossip has met.
async fn meshed(a: &Node, b: &mut Node, first: &SignedCommitment) {
    assert_ne!(a.publish(first).await.unwrap(), PublishOutcome::AlreadyPublished);
    b.ready(first.preconf().block_number.to()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_published_shown_stored_and_served() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    b.dial(&a).await;
    let blocks = chain(3);
    meshed(&a, &mut b, &blocks[0]).await;
    for signed in &blocks[1..] {
        assert!(a.publish(signed).await.is_ok());
    }
    b.ready(13).await;
    a.ready(13).await;
    assert_eq!(a.client.chain().head(), b.client.chain().head());
    assert_eq!(b.client.chain().head().unwrap().hash, blocks[2].preconf().hash());
    assert_eq!(b.client.chain().txlist(keccak256(txlist(3))).await.unwrap().unwrap().bytes(), &txlist(3));
    assert_eq!(b.client.chain().block(12).await.unwrap().unwrap().recovered.signed(), &blocks[1]);

    // What one has, the other can ask for.
    let asked = a.client.network();
    let head = asked.request_head(None).await.unwrap();
    assert_eq!(head.peer, b.client.network().local_peer_id());
    assert_eq!(head.data.block_number, U256::from(13));
    let page = asked.request_commitments(Some(head.peer), 12, 9).await.unwrap().data;
    assert_eq!(page.iter().map(|c| c.signed().clone()).collect::<Vec<_>>(), blocks[1..]);
    let list = asked.request_raw_txlist(None, keccak256(txlist(2))).await.unwrap().data;
    assert_eq!(list.unwrap().bytes(), &txlist(2));
    let none = asked.request_raw_txlist(None, B256::repeat_byte(9)).await.unwrap().data;
    assert!(none.is_none());
    a.client.shutdown().await.unwrap();
    b.client.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_catches_up_and_says_when_it_is_live() {
    let a = Node::start().await;
    // As many as a peer may be asked for at once: the pace of the deployed network.
    let blocks = chain(8);
    for signed in &blocks {
        assert_eq!(
            a.publish(signed).await.unwrap(),
            PublishOutcome::Queued,
            "stored, and there for who comes"
        );
    }
    assert!(!a.client.status().is_live(), "alone, nobody can say that nothing is missing");
    let mut late = Node::start().await;
    late.dial(&a).await;
    let (peer, mut shown, mut ready, mut live) = (a.client.network().local_peer_id(), 0, 0, false);
    late.until(|event| match event {
        SdkEvent::Commitment { origin, .. } => {
            // By catch-up, or because it was queued for the first who comes.
            assert!(matches!(origin, Origin::Sync(from) | Origin::Gossip(from) if from == peer));
            shown += 1;
            None
        }
        SdkEvent::BlockReady { .. } => {
            ready += 1;
            (live && ready == 8).then_some(())
        }
        SdkEvent::Status { status: HeadSyncStatus::Live { head } } => {
            assert_eq!((head.unwrap().number, shown), (18, 8));
            live = true;
            // A list may still be on its way when its commitment has come just now.
            (ready == 8).then_some(())
        }
        _ => None,
    })
    .await;
    for fill in 1..=8 {
        assert!(late.storage.contains(&keccak256(txlist(fill))).unwrap());
    }
    late.client.shutdown().await.unwrap();
    a.client.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_peers_would_refuse_is_refused_at_home_and_leaves_no_trace() {
    let a = Node::start().await;
    let blocks = chain(2);
    let publish =
        async |signed: SignedCommitment, list: Bytes| a.client.publisher().publish_block(signed, list).await;

    let error = publish(blocks[0].clone(), txlist(9)).await.unwrap_err();
    assert!(matches!(error, P2pClientError::TxList(_)), "{error}");
    let mut forged = blocks[0].clone();
    forged.commitment.slasher_address = Address::ZERO;
    let error = publish(forged, txlist(1)).await.unwrap_err();
    assert!(
        matches!(&error, P2pClientError::Invalid(r) if matches!(**r, Rejection::Slasher { .. })),
        "{error}"
    );
    let unelected = PreconfCommitment { preconf: blocks[0].preconf().clone(), slasher_address: SLASHER };
    let error = publish(unelected.sign(&key(2), &DOMAIN), txlist(1)).await.unwrap_err();
    assert!(matches!(&error, P2pClientError::Invalid(r) if matches!(**r, Rejection::WrongSigner { .. })));
    assert!(!error.is_retryable());
    let error = publish(blocks[1].clone(), txlist(2)).await.unwrap_err();
    assert!(matches!(error, P2pClientError::Deferred(Missing::Parent(_))));
    assert!(error.is_retryable(), "when its parent is there");
    let handover = Preconfirmation { eop: true, raw_tx_list_hash: B256::ZERO, ..blocks[0].preconf().clone() };
    let error = publish(sign(handover.clone()), txlist(1)).await.unwrap_err();
    assert!(matches!(error, P2pClientError::UnexpectedTxList));
    let too_large = vec![0; 2 * 1024 * 1024 + 1].into();
    assert!(matches!(
        a.client.publisher().publish_raw_txlist(too_large).await,
        Err(P2pClientError::TxList(_))
    ));

    assert_eq!(a.client.chain().head(), None);
    assert!(a.storage.by_hash(&blocks[1].preconf().hash()).unwrap().is_none());
    assert_eq!(
        a.client.publisher().publish_commitment(sign(handover)).await.unwrap(),
        PublishOutcome::Queued
    );
    assert!(matches!(a.client.network().request_head(None).await, Err(P2pClientError::MissingPeer)));
    a.client.execute(SdkCommand::Shutdown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_neither_shown_nor_forwarded_and_pays() {
    let (a, mut b) = (Node::start().await, Node::start().await);
    b.dial(&a).await;
    let blocks = chain(2);
    meshed(&a, &mut b, &blocks[0]).await;

    // The liar knows only `a`.
    let (liar, mut liars_events, service) =
        Network::new(NetworkConfig::local(CHAIN, Keypair::generate_ed25519())).unwrap();
    let service = tokio::spawn(service.run());
    let drain = tokio::spawn(async move { while liars_events.next().await.is_some() {} });
    liar.dial(a.client.network().listen_addrs().await.unwrap().remove(0)).await.unwrap();
    a.client.network().wait_for_peers(2).await.unwrap();
    let lie =
        PreconfCommitment { preconf: block(12, blocks[0].preconf().hash(), 7), slasher_address: SLASHER };
    let lie = lie.sign(&key(2), &DOMAIN);
    let score = async || {
        let peers = a.client.network().peers().await.unwrap();
        peers.iter().find(|peer| peer.peer == liar.local_peer_id()).map(|peer| peer.score)
    };
    // Sent as soon as gossip has met, and charged when it arrives.
    let charged = async {
        while liar.publish(Topic::Commitments, lie.to_ssz().into()).await.is_err() {
            tokio::task::yield_now().await;
        }
        while score().await.is_some_and(|score| score > -1.0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, charged).await.unwrap();
    assert_eq!(a.client.counts().rejected, 1);

    // What is published after the lie arrives at `b`; the lie, which was before it, never did.
    assert!(a.publish(&blocks[1]).await.is_ok());
    b.ready(12).await;
    assert_eq!(b.client.counts().rejected, 0);
    for node in [&a, &b] {
        assert!(node.storage.by_hash(&lie.preconf().hash()).unwrap().is_none());
        assert_eq!(node.client.chain().head().unwrap().hash, blocks[1].preconf().hash());
    }
    liar.shutdown();
    service.await.unwrap().unwrap();
    drain.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_shutdown_nothing_answers_and_subscriptions_end() {
    let (a, mut b) = (Node::start().await, Node::start().await);
    b.dial(&a).await;
    let other = a.client.clone();
    let mut events = a.client.subscribe();
    a.client.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert!(matches!(other.chain().l2_synced(BASE).await, Err(P2pClientError::Closed)));
    assert!(matches!(
        other.publisher().publish_commitment(chain(1)[0].clone()).await,
        Err(P2pClientError::Closed)
    ));
    let end = async { while !matches!(events.next_event().await, Ok(None)) {} };
    timeout(DEADLINE, end).await.unwrap();
    assert!(matches!(other.subscribe().next_event().await, Ok(None)));
    b.until(|event| matches!(event, SdkEvent::PeerDisconnected { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_shuts_down() {
    let (a, mut b) = (Node::start().await, Node::start().await);
    b.dial(&a).await;
    let Node { client, storage, mut events } = a;
    drop(client);
    let end = async { while !matches!(events.next_event().await, Ok(None)) {} };
    timeout(DEADLINE, end).await.unwrap();
    b.until(|event| matches!(event, SdkEvent::PeerDisconnected { .. }).then_some(())).await;
    // No task is left that would hold the store.
    let gone = async {
        while Arc::strong_count(&storage) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_is_told_how_much_it_missed() {
    let mut a =
        Node::start_with(|config| config.queues.events = std::num::NonZeroUsize::new(4).unwrap()).await;
    for signed in &chain(10) {
        assert!(a.publish(signed).await.is_ok());
    }
    let lagged = a.events.next_event().await.unwrap_err();
    assert!(lagged.missed > 0);
    assert!(a.events.next_event().await.unwrap().is_some(), "and goes on with what is kept");
    a.client.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_block_is_fetched_when_its_child_arrives() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let blocks = chain(3);
    // Published while nobody listens: no gossip will bring these to `b`.
    assert!(a.publish(&blocks[0]).await.is_ok());
    b.dial(&a).await;
    b.live().await;
    assert_eq!(b.client.chain().head().unwrap().number, 11);
    assert!(a.publish(&blocks[1]).await.is_ok());
    assert!(a.publish(&blocks[2]).await.is_ok());
    b.ready(13).await;
    a.ready(13).await;
    assert_eq!(a.client.chain().head(), b.client.chain().head());
}
