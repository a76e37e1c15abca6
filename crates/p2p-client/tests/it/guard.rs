//! The signing guard that several clients share: when it is asked, and what happens without its yes.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2p_client::{
    GuardError, GuardFuture, MemoryGuard, P2pClientError, Promise, PublishOutcome, SigningGuard,
};
use p2p_storage::{CommitmentStore as _, MemoryStorage, PromiseStore as _};
use p2p_types::{B256, Misbehaviour, SdkEvent, UnixSeconds};
use preconfirmation_p2p::sim::SimNetwork;
use tokio::time::{Instant, timeout};

use super::world::{BASE, Block, Node, World, preconfer};

/// A guard that answers as it is told, and counts how often it is asked.
struct Told<F> {
    answer: F,
    asked: AtomicUsize,
}

impl<F> std::fmt::Debug for Told<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl<F: Fn(Promise) -> GuardFuture<'static> + Send + Sync + 'static> Told<F> {
    fn new(answer: F) -> Arc<Self> {
        Arc::new(Self { answer, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl<F: Fn(Promise) -> GuardFuture<'static> + Send + Sync + 'static> SigningGuard for Told<F> {
    fn permit(&self, promise: Promise) -> GuardFuture<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (self.answer)(promise)
    }
}

fn answers(answer: Result<(), GuardError>) -> GuardFuture<'static> {
    Box::pin(async { answer })
}

async fn publish(node: &Node, block: &Block) -> Result<PublishOutcome, P2pClientError> {
    timeout(node.deadline, node.client.publisher().ready()).await.unwrap()?;
    node.client.publisher().publish_block(block.signed.clone(), block.txlist.clone()).await
}

/// Publishes different blocks by two clients with one key, the clock of one of them so many seconds ahead, at once, height by
/// height. Gives how many times each was refused, and what a third client has seen of it.
async fn two_nodes_with_one_key(
    heights: u64,
    ahead: u64,
    guard: Option<Arc<MemoryGuard>>,
) -> (usize, [usize; 2]) {
    let network = SimNetwork::new(7);
    let shared =
        |config: &mut p2p_client::P2pClientConfig| config.guard = guard.clone().map(|guard| guard as _);
    let one = Node::start_with(&network, 1, shared).await;
    let of_another_clock = |config: &mut p2p_client::P2pClientConfig| {
        shared(config);
        let clock = config.clock.clone();
        *config = config.clone().with_clock(move || UnixSeconds::new(clock.now().get() + ahead));
    };
    let two = Node::start_with(&network, 2, of_another_clock).await;
    let watcher = Node::start(&network, 3).await;
    watcher.dial(&one).await;
    watcher.dial(&two).await;
    one.dial(&two).await;
    let (mut parent, mut refused) = (None::<Block>, [0; 2]);
    for _ in 0..heights {
        let blocks = [Block::after(parent.as_ref(), 1), Block::after(parent.as_ref(), 2)];
        for node in [&one, &two] {
            timeout(node.deadline, node.client.publisher().ready()).await.unwrap().unwrap();
        }
        let outcomes: [_; 2] = tokio::join!(publish(&one, &blocks[0]), publish(&two, &blocks[1])).into();
        for (outcome, refused) in outcomes.into_iter().zip(&mut refused) {
            match outcome {
                Ok(_) => {}
                Err(P2pClientError::Guard(GuardError::Conflict(_)) | P2pClientError::Conflict(_)) => {
                    *refused += 1
                }
                Err(other) => panic!("{other}"),
            }
        }
        let number = blocks[0].number();
        let winner = loop {
            let mut heads = Vec::new();
            for node in [&one, &two, &watcher] {
                heads.push(node.client.chain().block(number).await.unwrap().map(|stored| stored.hash()));
            }
            match heads[..] {
                [Some(a), Some(b), Some(c)] if a == b && b == c => break a,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        parent = blocks.into_iter().find(|block| block.hash() == winner);
    }
    // Whatever is on its way has arrived by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    (watcher.client.chain().evidence().await.unwrap().len(), refused)
}

#[tokio::test(start_paused = true)]
async fn two_clients_with_one_key_and_one_guard_never_contradict_each_other() {
    // With clocks an hour apart, too.
    for ahead in [0, 3_600] {
        let guard = Arc::<MemoryGuard>::default();
        let playing = two_nodes_with_one_key(200, ahead, Some(guard.clone()));
        let (evidence, refused) = timeout(SimNetwork::DEADLINE, playing).await.unwrap();
        assert_eq!((evidence, refused.iter().sum::<usize>()), (0, 200), "at each height one was refused");
        let heights: Vec<_> = guard.promises().iter().map(|promise| promise.block).collect();
        assert_eq!(heights, (BASE.number + 1..=BASE.number + 200).collect::<Vec<_>>());
    }
    let (evidence, _) = timeout(SimNetwork::DEADLINE, two_nodes_with_one_key(1, 0, None)).await.unwrap();
    assert_eq!(evidence, 1, "without a guard the same proves an equivocation");
}

#[tokio::test(start_paused = true)]
async fn without_a_yes_nothing_is_stored_or_sent_and_nobody_is_bound() {
    let conflict = || {
        let other = Promise {
            window_end: UnixSeconds::new(1),
            signer: preconfer().address(),
            block: 11,
            hash: B256::ZERO,
            eop: false,
            eop_only: false,
        };
        let conflict = p2p_client::Conflict::new(Misbehaviour::Equivocation, B256::ZERO, &other);
        answers(Err(GuardError::Conflict(Box::new(conflict))))
    };
    type Answer = Box<dyn Fn() -> GuardFuture<'static> + Send + Sync>;
    let cases: [(&str, Answer, bool); 4] = [
        ("contradicts", Box::new(conflict), false),
        (
            "node-b does",
            Box::new(|| answers(Err(GuardError::NotLeader { leader: Some("node-b".into()) }))),
            true,
        ),
        ("is down", Box::new(|| answers(Err(GuardError::Unavailable("the database is down".into())))), true),
        ("none within 2 s", Box::new(|| Box::pin(pending())), true),
    ];
    for (says, answer, retryable) in cases {
        let network = SimNetwork::new(1);
        let storage = Arc::<MemoryStorage>::default();
        let healthy = Arc::new(Mutex::new(false));
        let is_healthy = healthy.clone();
        let guard = Told::new(move |_| if *is_healthy.lock().unwrap() { answers(Ok(())) } else { answer() });
        let asked = guard.clone();
        let node =
            Node::with_storage(&network, 1, storage.clone(), |config| config.guard = Some(guard)).await;
        let mut peer = Node::start(&network, 2).await;
        peer.dial(&node).await;
        node.client.publisher().ready().await.unwrap();

        let (begun, sent) = (Instant::now(), network.counts().sent);
        let error = publish(&node, &Block::after(None, 1)).await.unwrap_err();
        assert!(matches!(error, P2pClientError::Guard(_)) && error.to_string().contains(says), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!((network.counts().sent, asked.asked()), (sent, 1), "{says}");
        assert!(storage.by_block(11).unwrap().is_none(), "{says}");
        let promised = storage.promises(&preconfer().address(), UnixSeconds::new(99_999)).unwrap();
        assert!(promised.is_empty(), "{says}: {promised:?}");

        // Whatever it would not allow binds nobody here: another block can be published.
        *healthy.lock().unwrap() = true;
        let other = Block::after(None, 2);
        assert_eq!(publish(&node, &other).await.unwrap(), PublishOutcome::Published { peers: 1 });
        peer.has(&[other]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_guard_is_asked_after_all_local_rules_and_before_anything_is_stored() {
    let network = SimNetwork::new(1);
    let storage = Arc::<MemoryStorage>::default();
    let seen = storage.clone();
    let guard = Told::new(move |promise| {
        assert!(seen.by_block(promise.block).unwrap().is_none(), "stored before the guard was asked");
        assert!(seen.promises(&promise.signer, promise.window_end).unwrap().len() < 2);
        answers(Ok(()))
    });
    let asked = guard.clone();
    let node = Node::with_storage(&network, 1, storage, |config| config.guard = Some(guard)).await;
    let first = Block::after(None, 1);
    assert_eq!(publish(&node, &first).await.unwrap(), PublishOutcome::Queued);
    assert_eq!(asked.asked(), 1);

    let mut foreign = Block::after(Some(&first), 1);
    foreign.signed.commitment.slasher_address = Default::default();
    let orphan = Block::after(Some(&Block::after(None, 9)), 1);
    let stale = Block::with(Some(&first), 1, 1, &preconfer());
    let unelected = Block::with(Some(&first), 1, 12, &p2p_fixtures::key(9));
    for (what, block) in [
        ("foreign slasher", foreign),
        ("unknown parent", orphan),
        ("before its parent", stale),
        ("another signer", unelected),
        ("second block", Block::after(None, 2)),
    ] {
        let error = publish(&node, &block).await.unwrap_err();
        assert!(!matches!(error, P2pClientError::Guard(_)), "{what}: {error}");
        assert_eq!(asked.asked(), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_is_waived_is_not_waived_for_the_guard() {
    let network = SimNetwork::new(1);
    let guard = Arc::<MemoryGuard>::default();
    let shared = guard.clone();
    let mut node = Node::start_with(&network, 1, |config| config.guard = Some(shared)).await;
    let _sent = publish(&node, &Block::after(None, 1)).await.unwrap();
    let second = Block::after(None, 2);
    let Err(P2pClientError::Conflict(conflict)) = publish(&node, &second).await else {
        panic!("a second block was published");
    };
    let publisher = node.client.publisher();
    let despite =
        publisher.publish_despite_conflict(second.signed.clone(), Some(second.txlist.clone()), *conflict);
    assert!(matches!(despite.await, Err(P2pClientError::Guard(GuardError::Conflict(_)))));
    node.until(|event| matches!(event, SdkEvent::Commitment { .. }).then_some(())).await;
    assert_eq!(guard.promises().len(), 1);
}
