//! A preconfer: its turns, its blocks, and what is recorded before it signs.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2p_client::{
    GuardError, GuardFuture, Lookahead, LookaheadError, MemoryGuard, P2pClientConfig, P2pClientError,
    Preconfer, Promise, PublishOutcome, RotatingSchedule, SigningGuard, Slot, Window,
    alloy_signer::{Error, Result as Signed, Signature, Signer, k256},
    preconfer::{BlockFields, NotReady, ProposeError, Proposed, Turn},
};
use p2p_storage::{CommitmentStore as _, MemoryStorage, PromiseStore as _, SdkStorage};
use p2p_types::{Address, B256, Base, Bytes, SdkEvent, SigningKey, U256, UnixSeconds};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::time::timeout;

use super::world::{BASE, Block, Node, preconfer, schedule};

/// What a signer does when it is asked.
#[derive(Clone)]
pub(crate) enum Does {
    Sign,
    /// With s in the upper half.
    SignHigh,
    SignWith(SigningKey),
    Garbage,
    Fail,
    Hang,
}

/// A signer that does what it is told, and first looks at what there is.
#[derive(Clone)]
pub(crate) struct Told {
    does: Arc<Mutex<Does>>,
    asked: Arc<AtomicUsize>,
    looks: Arc<dyn Fn() + Send + Sync>,
}

impl Told {
    pub(crate) fn to(does: Does) -> Self {
        Self { does: Arc::new(Mutex::new(does)), asked: Arc::default(), looks: Arc::new(|| ()) }
    }

    fn looking(looks: impl Fn() + Send + Sync + 'static) -> Self {
        Self { looks: Arc::new(looks), ..Self::to(Does::Sign) }
    }

    pub(crate) fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn signature(key: &SigningKey, hash: &B256) -> Signature {
    Signature::from_raw(key.sign_hash(hash).as_slice()).unwrap()
}

#[async_trait::async_trait]
impl Signer for Told {
    async fn sign_hash(&self, hash: &B256) -> Signed<Signature> {
        (self.looks)();
        self.asked.fetch_add(1, Ordering::SeqCst);
        let does = self.does.lock().unwrap().clone();
        match does {
            Does::Sign => Ok(signature(&preconfer(), hash)),
            Does::SignHigh => {
                let low = signature(&preconfer(), hash);
                let order = U256::from_be_slice(&k256::elliptic_curve::bigint::Encoding::to_be_bytes(
                    &<k256::Secp256k1 as k256::elliptic_curve::Curve>::ORDER,
                ));
                Ok(Signature::new(low.r(), order - low.s(), !low.v()))
            }
            Does::SignWith(key) => Ok(signature(&key, hash)),
            Does::Garbage => Ok(Signature::new(U256::ZERO, U256::ZERO, false)),
            Does::Fail => Err(Error::message("the key service is down")),
            Does::Hang => std::future::pending().await,
        }
    }

    fn address(&self) -> Address {
        preconfer().address()
    }

    fn chain_id(&self) -> Option<u64> {
        None
    }

    fn set_chain_id(&mut self, _: Option<u64>) {}
}

/// The settled block with its hash.
pub(crate) const SETTLED: Base = Base { number: BASE.number, hash: Some(B256::ZERO) };

/// A preconfer on a node of its own, alone.
pub(crate) struct Stage {
    pub(crate) network: SimNetwork,
    pub(crate) node: Node,
    pub(crate) storage: Arc<dyn SdkStorage>,
    pub(crate) signer: Told,
    pub(crate) preconfer: Preconfer,
}

impl Stage {
    pub(crate) async fn new(change: impl FnOnce(&mut P2pClientConfig)) -> Self {
        Self::of(Told::to(Does::Sign), Arc::<MemoryStorage>::default(), schedule(), change).await
    }

    pub(crate) async fn of(
        signer: Told,
        storage: Arc<dyn SdkStorage>,
        schedule: Arc<dyn Lookahead>,
        change: impl FnOnce(&mut P2pClientConfig),
    ) -> Self {
        let network = SimNetwork::new(1);
        let node = Node::with_schedule(&network, 1, storage.clone(), schedule, change).await;
        node.client.chain().l2_synced(SETTLED).await.unwrap();
        node.client.publisher().ready().await.unwrap();
        let preconfer = node.client.preconfer(signer.clone());
        Self { network, node, storage, signer, preconfer }
    }

    /// Proposes a block of this time.
    pub(crate) async fn propose(&self, timestamp: u64) -> Result<Proposed, ProposeError> {
        self.preconfer.propose(at(timestamp), list(1)).await
    }
}

pub(crate) fn at(timestamp: u64) -> BlockFields {
    BlockFields::at(UnixSeconds::new(timestamp))
}

pub(crate) fn list(fill: u8) -> Bytes {
    vec![fill; 100].into()
}

pub(crate) fn window(start: u64, end: u64) -> Window {
    Window { start: UnixSeconds::new(start), end: UnixSeconds::new(end) }
}

/// Key 2 until 60,000, and the preconfer from 40,000 on.
pub(crate) struct Overlapping;

impl Lookahead for Overlapping {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Ok(Some(if moment <= UnixSeconds::new(60_000) {
            Slot { signer: p2p_fixtures::key(2).address(), window: window(0, 60_000) }
        } else {
            Slot { signer: preconfer().address(), window: window(40_000, 99_999) }
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_preconfer_builds_on_the_head_and_hands_over() {
    let mut stage = Stage::new(|_| ()).await;
    let mut follower = Node::start(&stage.network, 2).await;
    follower.dial(&stage.node).await;
    let ready = stage.preconfer.wait_until_ready(Duration::from_secs(60)).await.unwrap();
    assert_eq!(ready, window(0, 99_999));

    let mut parent = B256::ZERO;
    for number in 11..14 {
        let fields = BlockFields { gas_limit: 30_000_000, coinbase: Address::repeat_byte(7), ..at(number) };
        let proposed = stage.preconfer.propose(fields, list(1)).await.unwrap();
        assert_eq!((proposed.block, proposed.outcome), (number, PublishOutcome::Published { peers: 1 }));
        let stored = stage.storage.by_hash(&proposed.hash).unwrap().unwrap();
        let commitment = &stored.recovered.signed().commitment;
        assert_eq!(commitment.preconf.parent_preconfirmation_hash, parent);
        assert_eq!(commitment.preconf.gas_limit, U256::from(30_000_000));
        assert_eq!(stored.recovered.signer(), preconfer().address());
        parent = proposed.hash;
    }
    let over = stage.preconfer.hand_over().await.unwrap();
    assert_eq!((over.block, over.outcome), (14, PublishOutcome::Published { peers: 1 }));
    let again = stage.preconfer.hand_over().await.unwrap();
    assert_eq!((again.hash, again.outcome), (over.hash, PublishOutcome::AlreadyPublished));

    follower.until(|event| matches!(event, SdkEvent::Handover { block: 14, .. }).then_some(())).await;
    for number in 11..14 {
        let here = stage.node.client.chain().block(number).await.unwrap().unwrap().hash();
        assert_eq!(follower.client.chain().block(number).await.unwrap().unwrap().hash(), here);
    }
    stage.node.until(|event| matches!(event, SdkEvent::Handover { .. }).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_block_can_hand_over() {
    let stage = Stage::new(|_| ()).await;
    assert_eq!(stage.preconfer.hand_over_with(at(100), list(1)).await.unwrap().block, 11);
    let preconf = stage.storage.by_block(11).unwrap().unwrap().recovered.signed().preconf().clone();
    assert!(preconf.eop && !preconf.is_eop_only());
    let error = stage.propose(200).await.unwrap_err();
    assert!(matches!(error, ProposeError::NotReady(NotReady::HandedOver { .. })), "{error}");
}

/// Fails if the signer is asked before the promise is recorded.
#[tokio::test(start_paused = true)]
async fn the_promise_is_recorded_before_the_signer_is_asked() {
    let (storage, guard) = (Arc::<MemoryStorage>::default(), Arc::<MemoryGuard>::default());
    let (store, guarded) = (storage.clone(), guard.clone());
    let signer = Told::looking(move || {
        let recorded = store.promises(&preconfer().address(), UnixSeconds::new(99_999)).unwrap();
        assert_eq!(recorded.iter().map(|promise| promise.block).collect::<Vec<_>>(), [11]);
        assert_eq!(guarded.promises(), recorded, "the guard's record");
        assert!(store.by_block(11).unwrap().is_none(), "nothing is stored before it is signed");
    });
    let stage = Stage::of(signer, storage, schedule(), |config| config.guard = Some(guard)).await;
    assert_eq!(stage.propose(100).await.unwrap().block, 11);
    assert_eq!(stage.signer.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_is_slow_or_fails_costs_no_more_than_the_block() {
    let stage = Stage::new(|_| ()).await;
    for does in [Does::Fail, Does::Hang, Does::Garbage, Does::SignWith(p2p_fixtures::key(9))] {
        stage.signer.does(does);
        stage.propose(100).await.unwrap_err();
        assert!(stage.storage.by_block(11).unwrap().is_none());
        // Another block of this height might contradict what was signed after all.
        let other = stage.propose(101).await.unwrap_err();
        assert!(matches!(other, ProposeError::Client(P2pClientError::Conflict(_))), "{other}");
    }
    assert_eq!(stage.signer.asked(), 4);
    // The same one is tried again, and what the signer gives in the high form is published in the low one.
    stage.signer.does(Does::SignHigh);
    let proposed = stage.propose(100).await.unwrap();
    assert_eq!(stage.storage.by_block(11).unwrap().unwrap().hash(), proposed.hash);
    assert_eq!(stage.propose(101).await.unwrap().block, 12);
}

#[tokio::test(start_paused = true)]
async fn turns_begin_and_end_by_the_schedule_and_the_clock() {
    let now = Arc::new(AtomicU64::new(50));
    let clock = now.clone();
    let operators = vec![preconfer().address(), p2p_fixtures::key(2).address()];
    let seconds = NonZeroU64::new(100).unwrap();
    let schedule = Arc::new(RotatingSchedule::new(operators, UnixSeconds::new(0), seconds).unwrap());
    let network = SimNetwork::new(1);
    let change = |config: &mut P2pClientConfig| {
        config.clock = Arc::new(move || UnixSeconds::new(clock.load(Ordering::SeqCst)));
    };
    let node = Node::with_schedule(&network, 1, Arc::<MemoryStorage>::default(), schedule, change).await;
    let preconfer = node.client.preconfer(Told::to(Does::Sign));
    let mut turns = preconfer.turns();
    assert_eq!(turns.next().await, Some(Turn::Begun(window(0, 99))));
    assert!(timeout(Duration::from_secs(60), turns.next()).await.is_err(), "nothing has changed");
    now.store(100, Ordering::SeqCst);
    assert_eq!(turns.next().await, Some(Turn::Ended(window(0, 99))));
    assert!(!preconfer.is_my_turn(UnixSeconds::new(100)).unwrap());
    assert_eq!(preconfer.next_turn().unwrap(), Some(window(200, 299)));
    now.store(450, Ordering::SeqCst);
    assert_eq!(turns.next().await, Some(Turn::Begun(window(400, 499))), "one was slept through");
    node.client.shutdown().await.unwrap();
    assert_eq!(turns.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_preconfer_waits_for_its_predecessor_and_for_a_peer() {
    let signer = Told::to(Does::Sign);
    let stage = Stage::of(signer, Arc::<MemoryStorage>::default(), Arc::new(Overlapping), |_| ()).await;
    let limit = Duration::from_secs(10);
    let why = stage.preconfer.wait_until_ready(limit).await.unwrap_err();
    let other = p2p_fixtures::key(2);
    let until = UnixSeconds::new(60_000);
    assert!(
        matches!(why, NotReady::Predecessor { predecessor, until: end } if predecessor == other.address() && end == until),
        "{why}"
    );

    let mut handover = Block::handover(None, &other);
    handover.signed.commitment.preconf.submission_window_end = U256::from(60_000);
    handover.signed = handover.signed.commitment.sign(&other, &p2p_fixtures::DOMAIN);
    let sent = stage.node.client.publisher().publish_commitment(handover.signed).await.unwrap();
    assert_eq!(sent, PublishOutcome::Queued);
    let why = stage.preconfer.wait_until_ready(limit).await.unwrap_err();
    assert!(matches!(why, NotReady::NoPeers), "{why}");

    let (preconfer, waiting) = (stage.preconfer.clone(), Duration::from_secs(600));
    let waits = tokio::spawn(async move { preconfer.wait_until_ready(waiting).await });
    let peer = Node::start(&stage.network, 2).await;
    peer.dial(&stage.node).await;
    assert_eq!(waits.await.unwrap().unwrap(), window(40_000, 99_999));
}

/// A guard that says yes when it is asked before the signature, and has lost its lease when it is asked again.
#[derive(Debug, Default)]
struct Lost(AtomicUsize);

impl SigningGuard for Lost {
    fn permit(&self, _: Promise) -> GuardFuture<'_> {
        let holds = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        let leader = Some("node-b".to_owned());
        Box::pin(async move { if holds { Ok(()) } else { Err(GuardError::NotLeader { leader }) } })
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_loses_its_lease_while_it_signs_stores_and_sends_nothing() {
    let stage = Stage::new(|config| config.guard = Some(Arc::<Lost>::default())).await;
    let peer = Node::start(&stage.network, 2).await;
    peer.dial(&stage.node).await;
    stage.preconfer.wait_until_ready(Duration::from_secs(60)).await.unwrap();
    let sent = stage.network.counts().sent;
    let error = stage.propose(100).await.unwrap_err();
    let lost = matches!(
        error,
        ProposeError::Client(P2pClientError::Guard(GuardError::NotLeader { leader: Some(_) }))
    );
    assert!(lost, "{error}");
    assert_eq!((stage.signer.asked(), stage.network.counts().sent), (1, sent));
    assert!(stage.storage.by_block(11).unwrap().is_none());
}

/// Two machines with one key, each with other blocks, as fast as they can.
#[tokio::test(start_paused = true)]
async fn two_preconfers_with_one_key_and_one_guard_sign_one_block_a_height() {
    const HEIGHTS: u64 = 100;
    let (network, guard) = (SimNetwork::new(3), Arc::<MemoryGuard>::default());
    let mut nodes = Vec::new();
    for key in [1, 2, 3] {
        let guard = guard.clone();
        let node = Node::start_with(&network, key, |config| config.guard = Some(guard)).await;
        node.client.chain().update_head(SETTLED).await.unwrap();
        nodes.push(node);
    }
    nodes[1].dial(&nodes[0]).await;
    nodes[2].dial(&nodes[0]).await;
    nodes[2].dial(&nodes[1]).await;
    let proposing = |node: usize| {
        let client = nodes[node].client.clone();
        let preconfer = client.preconfer(Told::to(Does::Sign));
        tokio::spawn(async move {
            let mut proposed = 0_u64;
            loop {
                let window = preconfer.wait_until_ready(Duration::from_secs(600)).await.unwrap();
                assert_eq!(window, super::preconfer::window(0, 99_999));
                let head = client.chain().head().map_or(BASE.number, |head| head.number);
                if head >= BASE.number + HEIGHTS {
                    return proposed;
                }
                let txlist = vec![u8::try_from(node).unwrap(); 64].into();
                match preconfer.propose(at(100 + head), txlist).await {
                    // The other one is to have its chance.
                    Ok(_) => {
                        proposed += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    // The other one was first: its block is on its way.
                    Err(error) => {
                        assert!(
                            matches!(
                                error,
                                ProposeError::Client(
                                    P2pClientError::Guard(GuardError::Conflict(_))
                                        | P2pClientError::Conflict(_)
                                        | P2pClientError::StaleHead(_)
                                        | P2pClientError::NotLive(_)
                                        | P2pClientError::Invalid(_)
                                ) | ProposeError::NotReady(_)
                            ),
                            "{error}"
                        );
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        })
    };
    let both = futures::future::join(proposing(0), proposing(1));
    let (one, two) = timeout(Duration::from_secs(24 * 3600), both).await.unwrap();
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one > 0 && two > 0 && one + two >= HEIGHTS, "both have proposed: {one} and {two}");
    let heights: Vec<_> = guard.promises().iter().map(|promise| promise.block).collect();
    assert!(heights.iter().zip(&heights[1..]).all(|(lower, higher)| lower < higher), "one promise a height");
    // Whatever is on its way has arrived by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(nodes[2].client.chain().evidence().await.unwrap().is_empty());
}
