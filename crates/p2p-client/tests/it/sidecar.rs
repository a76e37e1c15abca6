//! What a sidecar does with its client over weeks: follow, restart, lag, publish by mistake, stop.

use std::{
    io::{BufRead as _, BufReader},
    num::{NonZeroU64, NonZeroUsize},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2p_client::{
    BlockUpdate, ConfigError, ErrorKind, Lagged, MAINNET_CHAIN_ID, P2pClient, P2pClientBuilder,
    P2pClientConfig, P2pClientError, PublishOutcome, Publishing,
};
use p2p_storage::{DiskConfig, DiskStorage, MemoryStorage};
use p2p_types::{
    Address, B256, Base, Bytes, Misbehaviour, PreconfCommitment, Preconfirmation, Recovered, SdkCommand,
    SdkEvent, SignedCommitment, SigningDomain, SigningKey, TxList, U256, UnixSeconds,
};
use p2p_validation::{Leniency, RotatingSchedule, ValidationConfig};
use preconfirmation_p2p::{Keypair, Network, NetworkError};
use preconfirmation_types::{MAX_TXLIST_BYTES, TxListError, keccak256};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
    task::yield_now,
    time::timeout,
};

const CHAIN: u64 = 167_000;
const SLASHER: Address = Address::repeat_byte(0x51);
const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
const WINDOW: u64 = 100_000;
const BASE: Base = Base::at(10);
/// Long enough for a busy machine, and never waited for where all is well.
const DEADLINE: Duration = Duration::from_secs(120);

fn key() -> SigningKey {
    SigningKey::from_bytes([1; 32]).unwrap()
}

/// A block and its list.
#[derive(Clone)]
struct Block {
    signed: SignedCommitment,
    txlist: Bytes,
}

impl Block {
    fn new(number: u64, parent: B256, salt: u64) -> Self {
        let txlist = Bytes::from([number.to_be_bytes(), salt.to_be_bytes()].concat());
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(number),
            submission_window_end: U256::from(WINDOW - 1),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        let signed = PreconfCommitment { preconf, slasher_address: SLASHER }.sign(&key(), &DOMAIN);
        Self { signed, txlist }
    }

    /// Blocks 11, 12, …
    fn chain(length: u64) -> Vec<Self> {
        let mut parent = B256::ZERO;
        (BASE.next()..BASE.next() + length)
            .map(|number| {
                let block = Self::new(number, parent, 0);
                parent = block.hash();
                block
            })
            .collect()
    }

    fn hash(&self) -> B256 {
        self.signed.preconf().hash()
    }
}

fn config() -> P2pClientConfig {
    P2pClientConfig::test(CHAIN, ValidationConfig::new(DOMAIN, SLASHER))
        .with_clock(|| UnixSeconds::new(50_000))
}

fn builder(config: P2pClientConfig) -> P2pClientBuilder {
    let window = NonZeroU64::new(WINDOW).unwrap();
    let schedule = RotatingSchedule::new(vec![key().address()], UnixSeconds::new(0), window);
    P2pClient::builder(config, Arc::new(schedule.unwrap()))
}

async fn start(config: P2pClientConfig, storage: &Arc<MemoryStorage>) -> P2pClient {
    let client = builder(config.with_storage(storage.clone())).start().await.unwrap();
    client.chain().l2_synced(BASE).await.unwrap();
    client
}

/// Publishes a block as soon as the client is live: a peer that comes in between has its head asked first.
async fn publish(client: &P2pClient, block: &Block) -> Result<PublishOutcome, P2pClientError> {
    loop {
        client.publisher().ready().await?;
        match client.publisher().publish_block(block.signed.clone(), block.txlist.clone()).await {
            Err(P2pClientError::NotLive(_)) => {}
            answer => return answer,
        }
    }
}

/// Waits for what must come by itself.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}

const KILLED: &str =
    "sidecar::a_sidecar_that_is_killed_at_random_gets_each_of_5000_blocks_once_with_its_list";

/// In the environment of a sidecar: its folder, its peer, and the height to follow from.
const SIDECAR: [&str; 3] = ["SIDECAR_FOLDER", "SIDECAR_PEER", "SIDECAR_FROM"];

/// What a sidecar says of a block that it has got.
fn line(commitment: B256, txlist: B256) -> String {
    format!("got {commitment} {txlist}")
}

/// The process that is killed: a client with its store on disk, and a line for each block.
async fn sidecar([folder, peer, from]: [String; 3]) {
    let disk = DiskStorage::open(&folder, DiskConfig::recommended(DOMAIN)).unwrap();
    let config = config().with_static_peers([peer.parse().unwrap()]);
    let client = builder(config.with_storage(Arc::new(disk))).start().await.unwrap();
    client.chain().l2_synced(BASE).await.unwrap();
    let mut feed = client.events_from(from.parse().unwrap());
    while let Some(update) = feed.next().await.unwrap() {
        match update {
            BlockUpdate::Block(block) => {
                println!("{}", line(block.commitment.hash(), keccak256(block.txlist.bytes())));
            }
            BlockUpdate::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A sidecar in a process of its own, and the lines that it says.
struct Killed {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Killed {
    fn start(of: [&str; 3]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([KILLED, "--exact", "--nocapture"])
            .envs(SIDECAR.into_iter().zip(of))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (lines, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in said.map_while(Result::ok).filter(|line| line.starts_with("got ")) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines: waiting }
    }
}

impl Drop for Killed {
    /// SIGKILL, on the systems that have it.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Publishes all blocks, a little ahead of what is `seen`; each seventh list comes after its commitment.
async fn flow(client: P2pClient, blocks: Arc<Vec<Block>>, mut seen: watch::Receiver<usize>) {
    for (at, block) in blocks.iter().enumerate() {
        seen.wait_for(|seen| at < seen + 300).await.unwrap();
        let (publisher, signed, txlist) = (client.publisher(), block.signed.clone(), block.txlist.clone());
        let sent = if at % 7 == 0 {
            let commitment = publisher.publish_when_ready(signed, None).await;
            commitment.and(publisher.publish_raw_txlist(txlist).await)
        } else {
            publisher.publish_when_ready(signed, Some(txlist)).await
        };
        // The network keeps only so much that nobody takes: the block is stored, and served.
        assert!(matches!(sent, Ok(_) | Err(P2pClientError::Publish(_))), "{sent:?}");
    }
}

#[test]
fn a_sidecar_that_is_killed_at_random_gets_each_of_5000_blocks_once_with_its_list() {
    const BLOCKS: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let [Ok(folder), Ok(peer), Ok(from)] = SIDECAR.map(std::env::var) {
        return runtime.block_on(sidecar([folder, peer, from]));
    }
    let (folder, storage, mut rng) =
        (tempfile::tempdir().unwrap(), Arc::default(), fastrand::Rng::with_seed(7));
    let (client, address) = runtime.block_on(async {
        let client = start(config(), &storage).await;
        let address = client.network().listen_addrs().await.unwrap().remove(0).to_string();
        (client, address)
    });
    let blocks = Arc::new(Block::chain(BLOCKS));
    let (told, progress) = watch::channel(0);
    let flowing = runtime.spawn(flow(client.clone(), blocks.clone(), progress));
    let (mut seen, mut kills) = (Vec::new(), 0);
    while seen.len() < blocks.len() {
        let from = (BASE.next() + seen.len() as u64).to_string();
        let sidecar = Killed::start([folder.path().to_str().unwrap(), &address, &from]);
        // At times before it has said anything.
        let kill_after = seen.len() + rng.usize(..500);
        while seen.len() < kill_after.min(blocks.len()) {
            seen.push(sidecar.lines.recv_timeout(DEADLINE).unwrap());
            told.send_replace(seen.len());
        }
        drop(sidecar);
        kills += 1;
    }
    let all: Vec<_> = blocks.iter().map(|block| line(block.hash(), keccak256(&block.txlist))).collect();
    assert_eq!(seen, all);
    assert!(kills > 10, "{kills} kills");
    runtime.block_on(async {
        flowing.await.unwrap();
        client.shutdown().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_stops_intake_visibly_loses_nothing_and_costs_no_peer_anything() {
    let (ours, theirs) = (Arc::default(), Arc::default());
    let mut slow = config();
    slow.queues.handler = NonZeroUsize::new(8).unwrap();
    let (a, b) = (start(config(), &theirs).await, start(slow, &ours).await);
    let gate = Arc::new(Semaphore::new(0));
    let (handled, mut quick) = (Arc::new(Mutex::new(Vec::new())), b.subscribe());
    let (client, open, log) = (b.clone(), gate.clone(), handled.clone());
    let handling = tokio::spawn(async move {
        client
            .run_with_handler(|event| {
                log.lock().unwrap().push(event);
                let open = open.clone();
                async move { open.acquire().await.unwrap().forget() }
            })
            .await
    });
    // The handler is in place before anything comes: it is told of the peer.
    b.network().dial(a.network().listen_addrs().await.unwrap().remove(0)).await.unwrap();
    eventually(|| !handled.lock().unwrap().is_empty()).await;

    let blocks = Block::chain(60);
    for block in &blocks {
        let _sent = publish(&a, block).await.unwrap();
    }
    eventually(|| b.is_paused()).await;
    assert!(b.chain().head().is_none_or(|head| head.number < BASE.number + 60), "not all came in");
    // Commands work on, peers are served, and nobody has paid.
    b.chain().update_l1_head(0).await.unwrap();
    assert!(a.network().request_head(Some(b.network().local_peer_id())).await.is_ok());
    assert!(b.network().peers().await.unwrap().iter().all(|peer| peer.score >= 0.0));

    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    eventually(|| b.chain().head().is_some_and(|head| head.number == BASE.number + 60)).await;
    let last = blocks[59].hash();
    let is_last = |event: &SdkEvent| matches!(event, SdkEvent::BlockReady { hash, .. } if *hash == last);
    eventually(|| handled.lock().unwrap().iter().any(is_last)).await;
    eventually(|| !b.is_paused()).await;
    assert_eq!(b.counts().rejected, 0);
    b.shutdown().await.unwrap();
    handling.await.unwrap().unwrap();

    // The handler has had what a subscriber had that was never slow.
    let mut all = Vec::new();
    while let Some(event) = quick.next_event().await.unwrap() {
        all.push(event);
    }
    let handled = handled.lock().unwrap().clone();
    assert_eq!(all[all.len() - handled.len()..], handled[..]);
    let paused = |paused| {
        all.iter().filter(|e| matches!(e, SdkEvent::Backpressure { paused: p, .. } if *p == paused)).count()
    };
    assert!(paused(true) >= 1);
    assert_eq!(paused(true), paused(false));
    let shown: Vec<u64> = handled
        .iter()
        .filter_map(|event| match event {
            SdkEvent::Commitment { block, .. } => Some(*block),
            _ => None,
        })
        .collect();
    assert_eq!(shown, (11..=70).collect::<Vec<u64>>());
    a.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_handler_may_publish() {
    let storage = Arc::default();
    let mut small = config();
    small.queues.handler = NonZeroUsize::MIN;
    let client = start(small, &storage).await;
    let blocks = Block::chain(20);
    let first = publish(&client, &blocks[0]);
    let left = Arc::new(Mutex::new(blocks[1..].iter().cloned()));
    let publisher = client.clone();
    // In place before anything is published.
    let handling = client.run_with_handler(|_| {
        let (client, next) = (publisher.clone(), left.lock().unwrap().next());
        async move {
            match next {
                Some(block) => {
                    let _sent = publish(&client, &block).await.unwrap();
                }
                None => client.execute(SdkCommand::Shutdown).await.unwrap(),
            }
        }
    });
    let (handled, _) = timeout(DEADLINE, async { tokio::join!(handling, first) }).await.unwrap();
    handled.unwrap();
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_is_told_how_much_it_missed_and_slows_nobody() {
    let storage = Arc::default();
    let mut small = config();
    small.queues.events = NonZeroUsize::new(32).unwrap();
    let client = start(small, &storage).await;
    let (mut slow, mut quick) = (client.subscribe(), client.subscribe());
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(event) = quick.next_event().await.unwrap() {
            all.push(event);
        }
        all
    });
    for block in &Block::chain(60) {
        let _sent = publish(&client, block).await.unwrap();
        yield_now().await;
    }
    assert!(!client.is_paused());
    client.shutdown().await.unwrap();
    let all = reading.await.unwrap();
    let Err(Lagged { missed }) = slow.next_event().await else { panic!("nothing was lost") };
    let mut kept = Vec::new();
    while let Some(event) = slow.next_event().await.unwrap() {
        kept.push(event);
    }
    assert_eq!(usize::try_from(missed).unwrap() + kept.len(), all.len());
    assert_eq!(kept.len(), 32, "what is kept is bounded");
    assert_eq!(all[all.len() - 32..], kept[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_published_alone_is_queued_and_is_sent_once() {
    let (ours, theirs) = (Arc::default(), Arc::default());
    let (a, b) = (start(config(), &ours).await, start(config(), &theirs).await);
    let block = &Block::chain(1)[0];
    assert_eq!(publish(&a, block).await.unwrap(), PublishOutcome::Queued);
    assert_eq!(publish(&a, block).await.unwrap(), PublishOutcome::AlreadyPublished);
    let mut events = b.subscribe();
    b.network().dial(a.network().listen_addrs().await.unwrap().remove(0)).await.unwrap();
    let mut shown = 0;
    while !matches!(
        timeout(DEADLINE, events.next_event()).await.unwrap().unwrap().unwrap(),
        SdkEvent::BlockReady { .. }
    ) {}
    // Another one comes later: by then the first had every chance to come twice.
    let next = Block::new(12, block.hash(), 0);
    a.publisher().ready().await.unwrap();
    let _sent = publish(&a, &next).await.unwrap();
    loop {
        match timeout(DEADLINE, events.next_event()).await.unwrap().unwrap().unwrap() {
            SdkEvent::Commitment { block: 11, .. } => shown += 1,
            SdkEvent::BlockReady { block: 12, .. } => break,
            _ => {}
        }
    }
    assert_eq!(shown, 0, "shown once, before");
    a.shutdown().await.unwrap();
    b.shutdown().await.unwrap();
}

#[tokio::test]
async fn publishing_twice_is_no_news_and_a_contradiction_is_refused_also_after_a_restart() {
    let storage = Arc::default();
    let block = &Block::chain(1)[0];
    let other = Block::new(11, B256::ZERO, 1);
    for restart in 0..2 {
        let client = start(config(), &storage).await;
        let mut events = client.subscribe();
        // Nobody was there to take it, and what is queued ends with the process.
        assert_eq!(publish(&client, block).await.unwrap(), PublishOutcome::Queued);
        assert_eq!(publish(&client, block).await.unwrap(), PublishOutcome::AlreadyPublished);
        assert_eq!(
            client.publisher().publish_commitment(block.signed.clone()).await.unwrap(),
            PublishOutcome::AlreadyPublished
        );
        assert_eq!(
            client.publisher().publish_raw_txlist(block.txlist.clone()).await.unwrap(),
            PublishOutcome::AlreadyPublished
        );
        let refused = publish(&client, &other).await.unwrap_err();
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Conflict, false));
        let P2pClientError::Conflict(conflict) = refused else { panic!("{refused}") };
        assert_eq!((conflict.kind, conflict.block), (Misbehaviour::Equivocation, 11));
        assert_eq!((conflict.signed, conflict.refused), (block.hash(), other.hash()));
        client.shutdown().await.unwrap();
        let mut shown = 0;
        while let Some(event) = events.next_event().await.unwrap() {
            assert!(!matches!(event, SdkEvent::Evidence { .. }));
            shown += usize::from(matches!(event, SdkEvent::Commitment { .. }));
        }
        assert_eq!(shown, usize::from(restart == 0));
    }
    // Whoever insists has been shown what it means.
    let client = start(config(), &storage).await;
    let P2pClientError::Conflict(conflict) = publish(&client, &other).await.unwrap_err() else { panic!() };
    let (signed, txlist) = (other.signed.clone(), Some(other.txlist.clone()));
    let sent = client.publisher().publish_despite_conflict(signed, txlist, *conflict).await.unwrap();
    assert!(matches!(sent, PublishOutcome::Queued | PublishOutcome::NonCanonical { .. }), "{sent:?}");
    assert_eq!(client.chain().evidence().await.unwrap().len(), 1);
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_of_commands_is_told_at_once_to_those_who_try() {
    let storage = Arc::default();
    let mut small = config();
    small.queues.commands = NonZeroUsize::MIN;
    let client = start(small, &storage).await;
    let blocks = Block::chain(2);
    let first = publish(&client, &blocks[0]);
    tokio::pin!(first);
    // Polled once: it has the only place.
    assert!(futures::poll!(&mut first).is_pending());
    let refused =
        client.publisher().try_publish_block(blocks[1].signed.clone(), blocks[1].txlist.clone()).await;
    let refused = refused.unwrap_err();
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Backpressure, true));
    assert!(matches!(
        client.publisher().try_publish_raw_txlist(blocks[1].txlist.clone()).await,
        Err(P2pClientError::Backpressure)
    ));
    let _sent = first.await.unwrap();
    let _sent = client
        .publisher()
        .try_publish_block(blocks[1].signed.clone(), blocks[1].txlist.clone())
        .await
        .unwrap();
    client.shutdown().await.unwrap();
}

/// What the application has computed is believed, but for what it could have computed of something else.
#[tokio::test]
async fn what_is_recovered_already_is_published_by_the_same_rules() {
    let client = start(config(), &Arc::default()).await;
    client.publisher().ready().await.unwrap();
    let Block { signed, txlist } = Block::chain(1).remove(0);
    let publish = async |recovered: &Recovered, list: &Bytes| {
        let list = TxList::new(list.clone(), list.len()).unwrap();
        client.publisher().try_publish_recovered(recovered.clone(), Some(list)).await
    };
    let recovered = signed.clone().recover(&DOMAIN).unwrap();
    let other = publish(&recovered, &Bytes::from_static(b"other")).await.unwrap_err();
    assert!(matches!(other, P2pClientError::TxList(TxListError::HashMismatch { .. })), "{other}");
    let large = publish(&recovered, &vec![0; MAX_TXLIST_BYTES + 1].into()).await.unwrap_err();
    assert!(matches!(large, P2pClientError::TxList(TxListError::TooLarge { .. })), "{large}");
    assert_eq!(client.chain().head(), None);
    // Recovered under another domain it has another signer, who is not elected here.
    let elsewhere = signed.recover(&SigningDomain::new(B256::repeat_byte(7))).unwrap();
    assert_ne!(elsewhere.signer(), recovered.signer());
    let _queued = publish(&elsewhere, &txlist).await.unwrap();
    assert_eq!(client.chain().head().map(|head| head.hash), Some(recovered.hash()));
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_task_survives_and_a_feed_ends_with_what_was_stored() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (ours, theirs) = (Arc::default(), Arc::default());
    let (a, b) = (start(config(), &ours).await, start(config(), &theirs).await);
    b.network().dial(a.network().listen_addrs().await.unwrap().remove(0)).await.unwrap();
    b.network().wait_for_bootstrap().await.unwrap();
    a.network().wait_for_bootstrap().await.unwrap();
    a.publisher().ready().await.unwrap();
    let mut feed = a.events_from(11);
    let _sent = publish(&a, &Block::chain(1)[0]).await.unwrap();
    assert!(Handle::current().metrics().num_alive_tasks() > before);
    a.shutdown().await.unwrap();
    b.shutdown().await.unwrap();
    assert!(matches!(feed.next().await.unwrap(), Some(BlockUpdate::Block(_))));
    assert_eq!(feed.next().await.unwrap(), None);
    assert!(matches!(publish(&a, &Block::chain(1)[0]).await, Err(P2pClientError::Closed)));
    eventually(|| Handle::current().metrics().num_alive_tasks() == before).await;
}

/// On a disk, where what is published next waits while a batch is being written.
#[tokio::test]
async fn a_shutdown_in_the_middle_of_publishing_answers_everybody_and_ends_in_order() {
    let blocks = Block::chain(16);
    for attempt in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskStorage::open(folder.path(), DiskConfig::recommended(DOMAIN)).unwrap();
        let client = builder(config().with_storage(Arc::new(disk))).start().await.unwrap();
        client.chain().l2_synced(BASE).await.unwrap();
        let mut events = client.subscribe();
        let publish = |block: &Block| {
            let (client, block) = (client.clone(), block.clone());
            tokio::spawn(async move { publish(&client, &block).await.map(drop) })
        };
        let publishing: Vec<_> = blocks.iter().map(publish).collect();
        // At times before anything is prepared, at times after something is stored.
        if attempt % 2 == 0 {
            yield_now().await;
        } else {
            while !matches!(events.next_event().await.unwrap().unwrap(), SdkEvent::Commitment { .. }) {}
        }
        client.shutdown().await.unwrap();
        for published in publishing {
            // Stored and sent, or told why not.
            drop(timeout(DEADLINE, published).await.unwrap().unwrap());
        }
    }
}

#[tokio::test]
async fn a_network_that_dies_ends_the_client_with_its_error() {
    for panics in [false, true] {
        let config = config();
        let (handle, events, service) = Network::new(config.network.clone()).unwrap();
        let (kill, killed) = oneshot::channel::<()>();
        let dying = async move {
            tokio::select! {
                ended = service.run() => ended,
                _ = killed => {
                    assert!(!panics, "the network panics");
                    Err(NetworkError::Closed)
                }
            }
        };
        let client = builder(config).network(handle, events, dying).start().await.unwrap();
        let mut events = client.subscribe();
        kill.send(()).unwrap();
        let ended = timeout(DEADLINE, client.closed()).await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), if panics { ErrorKind::Panicked } else { ErrorKind::Network });
        assert!(matches!(events.next_event().await, Ok(None)));
        assert_eq!(client.chain().l2_synced(BASE).await.unwrap_err().kind(), ErrorKind::Shutdown);
    }
}

#[tokio::test]
async fn without_a_peer_bootstrapping_ends_in_time() {
    let storage = Arc::default();
    let client = start(config().with_bootstrap_timeout(Duration::from_millis(1)), &storage).await;
    let late = client.network().wait_for_bootstrap().await.unwrap_err();
    assert_eq!((late.kind(), late.is_retryable()), (ErrorKind::Timeout, true));
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_loosened_shows_and_what_cannot_work_does_not_start() {
    let storage = Arc::default();
    let client = start(config().with_soft_fail(true).with_metrics(false), &storage).await;
    assert_eq!(client.leniencies(), [Leniency::InvalidGossipIgnored]);
    client.shutdown().await.unwrap();
    let error = builder(config().with_bootstrap_timeout(Duration::ZERO)).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let guarded = config().with_publishing(Publishing::Guarded);
    let error = builder(guarded).start().await.unwrap_err();
    assert!(matches!(error, P2pClientError::Config(ConfigError::ForgetfulStore)), "{error}");
    let mainnet = P2pClientConfig::mainnet(Keypair::generate_ed25519(), DOMAIN, SLASHER);
    assert_eq!(mainnet.network.chain_id, MAINNET_CHAIN_ID);
    assert_eq!(mainnet.check(), Ok(()));
}

#[tokio::test]
async fn an_l1_reorg_is_answered_told_and_healed() {
    let storage = Arc::default();
    let client = start(config(), &storage).await;
    let (mut feed, blocks) = (client.events_from(11), Block::chain(3));
    for block in &blocks {
        let _sent = publish(&client, block).await.unwrap();
    }
    for block in &blocks {
        let Some(BlockUpdate::Block(next)) = feed.next().await.unwrap() else { panic!() };
        assert_eq!(next.commitment.hash(), block.hash());
    }
    assert_eq!(client.chain().head().unwrap().number, 13);
    let reorg = client.chain().notify_reorg(0).await.unwrap();
    assert_eq!((reorg.from, reorg.affected.len()), (Some(11), 3));
    let Some(BlockUpdate::Reorg { from: 11, dropped }) = feed.next().await.unwrap() else { panic!() };
    assert_eq!(dropped, reorg.affected);
    assert_eq!(client.chain().head(), None, "the head falls");
    // The same bytes again bring nothing back; L1 does.
    assert_eq!(publish(&client, &blocks[0]).await.unwrap(), PublishOutcome::AlreadyPublished);
    client.chain().notify_anchor_restored(0).await.unwrap();
    for block in &blocks {
        let Some(BlockUpdate::Block(back)) = feed.next().await.unwrap() else { panic!() };
        assert_eq!(back.commitment.hash(), block.hash());
    }
    client.shutdown().await.unwrap();
}
