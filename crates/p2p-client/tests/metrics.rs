//! The series of the documentation are those that are described and recorded: no more, no fewer.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait with a deadline; of the shared ones not all are needed here"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use p2p_client::{
    Address, Keypair, L2Tip, L2View, NetworkConfig, PromiseOutcome, Promised, SettledBlock, UnixSeconds,
};
use p2p_types::{Offence, SdkEvent, SigningKey, Topic};
use preconfirmation_p2p::{
    DiscoveryConfig, Network, NetworkEvent, NetworkEvents, NetworkHandle, PeersConfig, Published, Verdict,
    sim::{Link, SimNetwork},
};
use preconfirmation_types::{B256, Container as _, RawTxListGossip};
use tokio::{
    runtime,
    time::{sleep, timeout},
};

#[path = "it/world.rs"]
mod world;

use world::{Block, CHAIN, Node, Tcp, Voice};

const DEADLINE: Duration = Duration::from_secs(60);

/// What the documentation says of a series.
#[derive(Debug, PartialEq)]
struct Documented {
    labels: BTreeSet<String>,
    unit: Unit,
}

/// The table of the crate's first page.
fn documented() -> BTreeMap<String, Documented> {
    let mut table = BTreeMap::new();
    for row in include_str!("../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | `p2p_")) {
        let [name, labels, unit, _meaning, ""] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not a row of the table: {row}");
        };
        let name = format!("p2p_{}", name.strip_suffix('`').unwrap());
        let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
        let unit = match unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            "1/s" => Unit::CountPerSecond,
            _ => Unit::Count,
        };
        let row = Documented { labels: labels.map(str::to_owned).collect(), unit };
        assert_eq!(table.insert(name, row), None, "twice in the table");
    }
    table
}

type Description = (Option<Unit>, SharedString);

/// Records, and remembers what was described.
#[derive(Clone, Default)]
struct Recorder {
    inner: Arc<DebuggingRecorder>,
    described: Arc<Mutex<BTreeMap<String, Description>>>,
    counters: Arc<Mutex<BTreeSet<String>>>,
}

impl Recorder {
    /// Waits for the first count of a series.
    async fn has_counted(&self, name: &str) {
        let counted = async {
            while !self.counters.lock().unwrap().contains(name) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, counted).await.unwrap();
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, description: SharedString) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), (unit, description));
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.counters.lock().unwrap().insert(key.name().to_owned());
        self.inner.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.inner.register_histogram(key, metadata)
    }
}

/// Labels of each series that was recorded, and whether anything but nothing was.
fn recorded(recorder: &Recorder) -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let mut all: BTreeMap<String, (BTreeSet<String>, bool)> = BTreeMap::new();
    for (key, _, _, value) in recorder.inner.snapshotter().snapshot().into_vec() {
        let labels: BTreeSet<_> = key.key().labels().map(|label| label.key().to_owned()).collect();
        let counted = match value {
            DebugValue::Counter(count) => count > 0,
            DebugValue::Gauge(_) => true,
            DebugValue::Histogram(values) => !values.is_empty(),
        };
        let (known, ever) = all.entry(key.key().name().to_owned()).or_insert_with(|| (labels.clone(), false));
        assert_eq!(*known, labels, "{} has not always the same labels", key.key().name());
        *ever |= counted;
    }
    all
}

#[test]
fn every_series_of_the_table_is_described_and_recorded_and_no_other() {
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap();
    let simulated = runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    simulated.block_on(a_client_in_trouble());
    simulated.block_on(a_client_that_follows_l2());
    let real = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    real.block_on(clients_over_tcp(&recorder));
    real.block_on(networks_that_find_and_throw_out());
    real.block_on(networks_that_suspect_and_refuse(&recorder));
    real.block_on(a_store_in_trouble());

    let table = documented();
    let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<BTreeSet<_>>();
    let described = recorder.described.lock().unwrap();
    assert_eq!(names(&mut table.keys()), names(&mut described.keys()), "the table, and what is described");
    let recorded = recorded(&recorder);
    assert_eq!(names(&mut table.keys()), names(&mut recorded.keys()), "the table, and what is recorded");
    for (name, Documented { labels, unit }) in &table {
        let (ours, description) = &described[name];
        assert_eq!(ours.as_ref(), Some(unit), "{name}");
        assert!(!description.is_empty(), "{name}");
        assert_eq!(&recorded[name].0, labels, "{name}");
        assert!(recorded[name].1, "{name} counts nothing");
    }
}

/// Over a simulated network: everything that the client itself counts.
async fn a_client_in_trouble() {
    let network = SimNetwork::new(1);
    let a = Node::start(&network, 1).await;
    let mut b = Node::start_with(&network, 2, |config| {
        config.queues.handler = 1.try_into().unwrap();
        // No list of a peer finds room before its commitment has come.
        config.memory.held_txlist_bytes_per_peer = 1;
    })
    .await;
    b.dial(&a).await;
    let client = b.client.clone();
    let handling = tokio::spawn(async move {
        client.run_with_handler(|_| async { sleep(Duration::from_millis(50)).await }).await
    });
    let chain = Block::chain(4);
    for block in &chain[..2] {
        a.publish(block).await;
    }
    b.has(&chain[..2]).await;

    let voice = Voice::start(&network, 11, &[&b]).await;
    let liar = SigningKey::from_bytes([2; 32]).unwrap();
    let forged = Block::with(Some(&chain[1]), 0, 13, &liar);
    voice.publish(Topic::Commitments, forged.signed.to_ssz().into()).await;
    let early = Block::with(Some(&chain[1]), 0, 60_000, &world::preconfer());
    voice.publish(Topic::Commitments, early.signed.to_ssz().into()).await;
    let other = RawTxListGossip { raw_tx_list_hash: B256::repeat_byte(1), txlist: vec![1; 9].into() };
    voice.publish(Topic::RawTxLists, other.to_ssz().into()).await;
    voice.tell(&Block::after(Some(&chain[0]), 1)).await;
    b.until(|event| matches!(event, SdkEvent::Evidence { .. }).then_some(())).await;
    assert!(b.client.chain().notify_reorg(0).await.unwrap().from.is_some());
    b.client.chain().notify_anchor_restored(0).await.unwrap();
    for block in &chain {
        a.publish(block).await;
    }
    b.until(|event| matches!(event, SdkEvent::BlockReady { block: 14, .. }).then_some(())).await;

    // By now the network has forgotten what the client still knows.
    sleep(Duration::from_secs(121)).await;
    let again = Voice::start(&network, 12, &[&b]).await;
    again.tell(&chain[3]).await;
    sleep(Duration::from_secs(1)).await;
    network.set_links(Link { loss: 1.0, ..Link::default() });
    b.stop().await;
    handling.await.unwrap().unwrap();
    a.stop().await;
}

/// A view of L2 that has one tip, long after the window of its block, and ends. Every promise is kept.
struct Late(Option<u64>);

impl L2View for Late {
    async fn next_tip(&mut self) -> Option<L2Tip> {
        let (number, lower_at) = (self.0.take()?, Some(UnixSeconds::new(1 << 40)));
        Some(L2Tip { number, hash: B256::repeat_byte(2), synced: true, lower_at })
    }

    async fn block(&mut self, number: u64) -> Option<SettledBlock> {
        Some(SettledBlock {
            number,
            hash: B256::repeat_byte(2),
            timestamp: UnixSeconds::new(0),
            fee_recipient: Address::ZERO,
            gas_limit: None,
            anchor: None,
            transactions: vec![],
        })
    }

    async fn compare(&self, _: &SettledBlock, _: Promised) -> PromiseOutcome {
        PromiseOutcome::Kept
    }
}

/// What is counted of promises.
async fn a_client_that_follows_l2() {
    let node = Node::start(&SimNetwork::new(2), 1).await;
    let block = Block::after(None, 1);
    node.publish(&block).await;
    node.client.chain().follow_l2(Late(Some(block.number()))).await.unwrap();
    node.stop().await;
}

/// Over real sockets: what the network counts of gossip, requests and peers.
async fn clients_over_tcp(recorder: &Recorder) {
    let a = Node::start(&Tcp, 1).await;
    // Enough of one signer for its table.
    let chain = Block::chain(12);
    a.publish(&chain[0]).await;
    let address = a.address().await;
    let mut b = Node::start_with(&Tcp, 2, |config| config.network.static_peers = vec![address]).await;
    b.has(&chain[..1]).await;
    for block in &chain[1..] {
        a.publish(block).await;
    }
    b.has(&chain).await;
    assert_eq!(b.client.network().request_head(Some(a.id())).await.unwrap().peer, a.id());
    recorder.has_counted("p2p_signer_tables_built_total").await;
    b.stop().await;
    a.stop().await;
}

fn join(change: impl FnOnce(&mut NetworkConfig)) -> (NetworkHandle, NetworkEvents) {
    let mut config = NetworkConfig::local(CHAIN, Keypair::generate_secp256k1());
    change(&mut config);
    let (handle, events, service) = Network::new(config).unwrap();
    tokio::spawn(service.run());
    (handle, events)
}

async fn until(events: &mut NetworkEvents, wanted: impl Fn(&NetworkEvent) -> bool) {
    let found = async { while !wanted(&events.next().await.unwrap()) {} };
    timeout(DEADLINE, found).await.unwrap();
}

/// What only networks count that three authors deceive, that have no place left, or whose key another one has.
async fn networks_that_suspect_and_refuse(recorder: &Recorder) {
    let (judge, mut events) = join(|_| ());
    let address = judge.listen_addrs().await.unwrap().remove(0);
    let mut authors = Vec::new();
    for (block, parent) in Block::chain(3).into_iter().zip(0_u8..) {
        let (author, kept) = join(|_| ());
        author.dial(address.clone()).await.unwrap();
        until(&mut events, |event| matches!(event, NetworkEvent::PeerConnected { .. })).await;
        let ssz = block.signed.to_ssz().into();
        assert_ne!(author.publish(Topic::Commitments, ssz).await.unwrap(), Published::Duplicate, "{parent}");
        loop {
            if let Some(NetworkEvent::Gossip { verdict, .. }) =
                timeout(DEADLINE, events.next()).await.unwrap()
            {
                break verdict.settle(Verdict::RejectAuthor(Offence::WrongSigner));
            }
        }
        authors.push((author, kept));
    }
    while !judge.suspects_itself() {
        tokio::task::yield_now().await;
    }
    let (tight, _events) = join(|config| {
        config.connections.limit_private = true;
        config.connections.max_inbound_per_ip = 1.try_into().unwrap();
    });
    let address = tight.listen_addrs().await.unwrap().remove(0);
    authors[0].0.dial(address.clone()).await.unwrap();
    // The handshake may be over before the connection is refused.
    drop(authors[1].0.dial(address.clone()).await);
    let key = Keypair::generate_secp256k1();
    // On two hosts: what they dial by QUIC comes from where they listen.
    let on_host = |number: u8| {
        join(|config| {
            config.identity = key.clone();
            config.listen = vec![format!("/ip4/127.0.8.{number}/udp/0/quic-v1").parse().unwrap()];
        })
    };
    let ((one, _first), (other, _second)) = (on_host(1), on_host(2));
    // As an untrusted peer would: without the identity that it expects there.
    let address = other.listen_addrs().await.unwrap().remove(0);
    assert!(one.dial(address.iter().take(3).collect()).await.is_err());
    // One end alone is told once the other cannot come any more.
    recorder.has_counted("p2p_identity_used_twice_total").await;
    for network in authors.iter().map(|(author, _)| author).chain([&judge, &tight, &one, &other]) {
        network.shutdown();
    }
}

/// What only a client counts whose store is full, and finds a list damaged.
async fn a_store_in_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let limits = p2p_storage::StorageLimits { commitments: 1, ..Default::default() };
    let recommended = p2p_storage::DiskConfig::recommended(p2p_types::SigningDomain::PLACEHOLDER);
    let config = p2p_storage::DiskConfig { limits, file_bytes: 1, ..recommended };
    let store = std::sync::Arc::new(p2p_storage::DiskStorage::open(folder.path(), config).unwrap());
    let node = Node::with_storage(&Tcp, 1, store, |_| ()).await;
    let chain = Block::chain(2);
    node.publish(&chain[0]).await;
    let full = node.client.publisher().publish_block(chain[1].signed.clone(), chain[1].txlist.clone()).await;
    assert!(full.unwrap_err().is_retryable());
    let name = format!("{:x}", chain[0].signed.preconf().raw_tx_list_hash);
    std::fs::write(folder.path().join("txlists").join(&name[..1]).join(&name), [0; 10]).unwrap();
    let mut feed = node.client.events_from(11);
    let update = feed.next().await.unwrap();
    assert!(matches!(update, Some(p2p_client::BlockUpdate::Waiting { block: 11, .. })), "{update:?}");
    // Behind what the feed has told of the damage.
    node.client.chain().update_l1_head(1).await.unwrap();
    node.client.chain().update_head(p2p_types::Base::at(10)).await.unwrap();
    drop(feed);
    node.stop().await;
}

/// What only networks count that look for peers, ban one, and have too many.
async fn networks_that_find_and_throw_out() {
    let (found, _kept) = join(|config| config.discovery = Some(DiscoveryConfig::local()));
    let record = async {
        loop {
            match found.record() {
                Some(record) => return record,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let record = timeout(DEADLINE, record).await.unwrap();
    let (finder, mut events) = join(|config| {
        config.discovery = Some(DiscoveryConfig::local());
        config.peers = PeersConfig::default();
        config.bootnodes = vec![record.parse().unwrap()];
        config.queues.reports = 5.try_into().unwrap();
        config.score.graylist_threshold = -2.0;
        config.score.ban_threshold = -3.0;
        config.score.ban_after = Duration::from_millis(1);
    });
    until(&mut events, |event| matches!(event, NetworkEvent::PeerConnected { .. })).await;
    // More than the queue takes, and enough for a ban.
    for _ in 0..20 {
        finder.report(found.local_peer_id(), Offence::HashMismatch);
    }
    until(&mut events, |event| matches!(event, NetworkEvent::PeerDisconnected(_))).await;

    let (crowded, mut events) = join(|config| {
        config.peers.low = 0;
        config.peers.high = 1;
        config.peers.grace = Duration::ZERO;
    });
    let address = crowded.listen_addrs().await.unwrap().remove(0);
    let (one, _events) = join(|_| ());
    let (other, _more) = join(|_| ());
    one.dial(address.clone()).await.unwrap();
    other.dial(address).await.unwrap();
    until(&mut events, |event| matches!(event, NetworkEvent::PeerDisconnected(_))).await;
    for network in [found, finder, crowded, one, other] {
        network.shutdown();
    }
}
