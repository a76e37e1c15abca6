//! The same mesh twice, interleaved: raw gossipsub, and whole clients that validate, store and tell.
//!
//! Both meshes live in this process over TCP on loopback, with the same parameters and the same links. A turn
//! is some messages of one mesh, each published when the one before it has arrived everywhere. A delivery is
//! timed from the call that publishes to the moment when another node's application has it: the gossipsub
//! event of a raw node, the [`SdkEvent`] of a client.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, gossipsub, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use p2p_client::{Keypair, P2pClient, P2pClientConfig};
use p2p_storage::{CommitmentStore, MemoryStorage, TxListStore};
use p2p_types::{Base, SdkEvent, UnixSeconds};
use p2p_validation::{RotatingSchedule, ValidationConfig};
use preconfirmation_p2p::{GossipConfig, gossip_id};
use preconfirmation_types::{
    B256, Bytes, Container as _, MAX_TXLIST_BYTES, PreconfCommitment, Preconfirmation, SignedCommitment,
    TxList, U256,
};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{DOMAIN, key, signed};

/// Nodes of a mesh.
const NODES: usize = 20;

/// Each node dials so many after it, so that everybody has twice as many links: the size of the mesh.
const DIALS: usize = 4;

/// Messages of a turn.
const TURN: usize = 20;

/// After the last delivery of a turn: what is still on its way belongs to it.
const TAIL: Duration = Duration::from_millis(20);

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

const CHAIN: u64 = 167_000;
const BASE: u64 = 1_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Turns of each mesh.
    pub turns: usize,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// Our middle delivery as a multiple of the raw one.
    pub p50_ratio: f64,
    /// The same of the slowest in a hundred.
    pub p99_ratio: f64,
    /// Process CPU time of a delivery, ours less raw, microseconds: the middle of the turns.
    pub cpu_extra_us: f64,
    /// The middle raw delivery, milliseconds.
    pub raw_p50_ms: f64,
    /// Our middle delivery, milliseconds.
    pub ours_p50_ms: f64,
    /// The slowest in a hundred, raw, milliseconds.
    pub raw_p99_ms: f64,
    /// The slowest in a hundred, ours, milliseconds.
    pub ours_p99_ms: f64,
    /// Process CPU time of a raw delivery, microseconds.
    pub raw_cpu_us: f64,
    /// Process CPU time of a delivery of ours, microseconds.
    pub ours_cpu_us: f64,
    /// Deliveries of each mesh.
    pub deliveries: usize,
}

/// Who has what, and since when: the name of a message and the moment.
type Arrivals = mpsc::Receiver<(B256, Instant)>;

/// One mesh's side of the run.
#[derive(Default)]
struct Side {
    times: Vec<Duration>,
    /// CPU of one delivery in each turn.
    cpu: Vec<Duration>,
}

/// Builds both meshes and measures them in turns.
///
/// # Panics
/// Where a mesh does not form or a message does not arrive: there is nothing to measure then.
pub async fn measure(effort: Effort) -> Figures {
    let mut raw = Raw::start().await;
    let mut ours = Ours::start().await;
    let (mut raw_side, mut our_side) = (Side::default(), Side::default());
    // The first turn of each forms the mesh and is not counted.
    for turn in 0..=effort.turns {
        let (mut raw_turn, mut our_turn) = (Side::default(), Side::default());
        if turn % 2 == 0 {
            raw.turn(&mut raw_turn).await;
            ours.turn(&mut our_turn).await;
        } else {
            ours.turn(&mut our_turn).await;
            raw.turn(&mut raw_turn).await;
        }
        if turn > 0 {
            for (side, turn) in [(&mut raw_side, raw_turn), (&mut our_side, our_turn)] {
                side.times.extend(turn.times);
                side.cpu.extend(turn.cpu);
            }
        }
    }
    ours.end().await;
    raw_side.times.sort_unstable();
    our_side.times.sort_unstable();
    let mut extra: Vec<f64> =
        our_side.cpu.iter().zip(&raw_side.cpu).map(|(ours, raw)| micros(*ours) - micros(*raw)).collect();
    extra.sort_by(f64::total_cmp);
    let millis = |side: &Side, percent| micros(percentile(&side.times, percent)) / 1e3;
    let (raw_p50_ms, ours_p50_ms) = (millis(&raw_side, 50), millis(&our_side, 50));
    let (raw_p99_ms, ours_p99_ms) = (millis(&raw_side, 99), millis(&our_side, 99));
    let middle = |mut times: Vec<Duration>| {
        times.sort_unstable();
        micros(percentile(&times, 50))
    };
    Figures {
        p50_ratio: ours_p50_ms / raw_p50_ms,
        p99_ratio: ours_p99_ms / raw_p99_ms,
        cpu_extra_us: extra[extra.len() / 2],
        raw_p50_ms,
        ours_p50_ms,
        raw_p99_ms,
        ours_p99_ms,
        deliveries: raw_side.times.len(),
        raw_cpu_us: middle(raw_side.cpu),
        ours_cpu_us: middle(our_side.cpu),
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// What this process has used of the processors.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap(), used.tv_nsec.try_into().unwrap())
}

/// Waits until a message is everywhere but at its author.
async fn arrived(arrivals: &mut Arrivals, name: B256, since: Instant, side: &mut Side) {
    let mut missing = NODES - 1;
    while missing > 0 {
        let (of, at) = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        if of == name {
            side.times.push(at.saturating_duration_since(since));
            missing -= 1;
        }
    }
}

/// A turn: CPU from before its first message to after its tail.
async fn turn<M: Mesh>(mesh: &mut M, side: &mut Side) {
    let before = cpu();
    for _ in 0..TURN {
        mesh.one(side).await;
    }
    sleep(TAIL).await;
    let deliveries = u32::try_from(TURN * (NODES - 1)).unwrap();
    side.cpu.push((cpu() - before) / deliveries);
}

trait Mesh {
    /// Publishes one message and waits until it is everywhere.
    async fn one(&mut self, side: &mut Side);
}

/// Gossipsub and nothing else; what arrives is forwarded at once.
struct Raw {
    publishers: Vec<mpsc::Sender<Vec<u8>>>,
    arrivals: Arrivals,
    number: u64,
    running: Vec<JoinHandle<()>>,
}

impl Raw {
    async fn start() -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let mut swarms: Vec<_> = (0..NODES).map(|_| swarm()).collect();
        let mut addresses = Vec::new();
        for swarm in &mut swarms {
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            addresses.push(address);
        }
        let (meshed, _) = watch::channel(0_usize);
        let mut raw = Self { publishers: Vec::new(), arrivals, number: 0, running: Vec::new() };
        for (index, mut swarm) in swarms.into_iter().enumerate() {
            for step in 1..=DIALS {
                swarm.dial(addresses[(index + step) % NODES].clone()).unwrap();
            }
            let (publisher, messages) = mpsc::channel(1);
            raw.publishers.push(publisher);
            raw.running.push(tokio::spawn(run_raw(swarm, messages, report.clone(), meshed.clone())));
        }
        let mut links = meshed.subscribe();
        timeout(PATIENCE, links.wait_for(|links| *links >= 2 * DIALS * NODES)).await.unwrap().unwrap();
        // Grafting takes a heartbeat.
        sleep(2 * GossipConfig::default().heartbeat).await;
        raw
    }

    async fn turn(&mut self, side: &mut Side) {
        turn(self, side).await;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Mesh for Raw {
    async fn one(&mut self, side: &mut Side) {
        self.number += 1;
        // As long as a commitment, and like one in that no two are the same.
        let message = signed(self.number).unwrap().to_ssz();
        let name = name(&message);
        let author = &self.publishers[usize::try_from(self.number).unwrap() % NODES];
        let since = Instant::now();
        author.send(message).await.unwrap();
        arrived(&mut self.arrivals, name, since, side).await;
    }
}

fn name(message: &[u8]) -> B256 {
    B256::right_padding_from(&gossip_id(message))
}

fn swarm() -> Swarm<gossipsub::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let config = GossipConfig::default();
            let parameters = gossipsub::ConfigBuilder::default()
                .validation_mode(gossipsub::ValidationMode::Strict)
                .message_id_fn(|message| gossipsub::MessageId::new(&gossip_id(&message.data)))
                .mesh_n(config.mesh.size)
                .mesh_n_low(config.mesh.low)
                .mesh_n_high(config.mesh.high)
                .mesh_outbound_min(config.mesh.outbound_min)
                .gossip_lazy(config.lazy)
                .heartbeat_interval(config.heartbeat)
                .heartbeat_initial_delay(Duration::ZERO)
                .history_length(config.history.get())
                .history_gossip(config.history_gossip)
                .flood_publish(false)
                .build()
                .unwrap();
            let authenticity = gossipsub::MessageAuthenticity::Signed(key.clone());
            let mut behaviour = gossipsub::Behaviour::new(authenticity, parameters)?;
            behaviour.subscribe(&topic())?;
            Ok(behaviour)
        })
        .unwrap()
        .build()
}

fn topic() -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new("raw")
}

async fn run_raw(
    mut swarm: Swarm<gossipsub::Behaviour>,
    mut messages: mpsc::Receiver<Vec<u8>>,
    report: mpsc::Sender<(B256, Instant)>,
    links: watch::Sender<usize>,
) {
    type Event = SwarmEvent<<gossipsub::Behaviour as NetworkBehaviour>::ToSwarm>;
    loop {
        let event: Event = tokio::select! {
            Some(message) = messages.recv() => {
                swarm.behaviour_mut().publish(topic(), message).unwrap();
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => {
                let at = Instant::now();
                report.send((name(&message.data), at)).await.unwrap();
            }
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => {
                links.send_modify(|links| *links += 1);
            }
            _ => {}
        }
    }
}

/// Whole clients with memory storage. Every block has the same transaction list, which everybody has from the
/// start, so that a message is one commitment, as in the raw mesh.
struct Ours {
    clients: Vec<P2pClient>,
    arrivals: Arrivals,
    parent: Option<SignedCommitment>,
    number: u64,
}

impl Ours {
    async fn start() -> Self {
        let (report, arrivals) = mpsc::channel(NODES * TURN);
        let mut clients: Vec<P2pClient> = Vec::new();
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for _ in 0..NODES {
            let client = client().await;
            addresses.extend(client.listen_addrs().await.unwrap().into_iter().next());
            tokio::spawn(watch_events(client.subscribe(), report.clone()));
            clients.push(client);
        }
        for (index, client) in clients.iter().enumerate() {
            for step in 1..=DIALS {
                client.dial(addresses[(index + step) % NODES].clone()).await.unwrap();
            }
        }
        for client in &clients {
            timeout(PATIENCE, client.connected(2 * DIALS)).await.unwrap().unwrap();
            client.l2_synced(Base::at(BASE)).await.unwrap();
        }
        sleep(2 * GossipConfig::default().heartbeat).await;
        Self { clients, arrivals, parent: None, number: 0 }
    }

    async fn turn(&mut self, side: &mut Side) {
        turn(self, side).await;
    }

    async fn end(self) {
        for client in self.clients {
            client.shutdown().await.unwrap();
        }
    }
}

impl Mesh for Ours {
    async fn one(&mut self, side: &mut Side) {
        self.number += 1;
        let parent = self.parent.as_ref().map(|parent| parent.preconf().hash()).unwrap_or_default();
        let signed = block(BASE + self.number, parent);
        let name = signed.preconf().hash();
        self.parent = Some(signed.clone());
        let author = &self.clients[usize::try_from(self.number).unwrap() % NODES];
        let since = Instant::now();
        let _sent = author.publish_commitment(signed).await.unwrap();
        arrived(&mut self.arrivals, name, since, side).await;
    }
}

fn txlist() -> TxList {
    TxList::new(Bytes::from_static(&[7; 300]), MAX_TXLIST_BYTES).unwrap()
}

fn block(number: u64, parent: B256) -> SignedCommitment {
    let preconf = Preconfirmation {
        block_number: U256::from(number),
        timestamp: U256::from(number),
        submission_window_end: U256::from(WINDOW.get() - 1),
        raw_tx_list_hash: txlist().hash(),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    };
    let slasher_address = p2p_types::Address::repeat_byte(0x51);
    PreconfCommitment { preconf, slasher_address }.sign(&key().unwrap(), &DOMAIN)
}

const WINDOW: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();

async fn client() -> P2pClient {
    let rules = ValidationConfig::new(DOMAIN, p2p_types::Address::repeat_byte(0x51));
    let mut config = P2pClientConfig::local(CHAIN, Keypair::generate_ed25519(), rules);
    config.clock = Arc::new(|| UnixSeconds::new(500_000));
    config.network.gossip.mesh.size = 2 * DIALS;
    config.queues.events = NonZeroUsize::new(16 * 1024).unwrap();
    let storage = MemoryStorage::default();
    storage.set_base(Base::at(BASE)).unwrap();
    storage.put(BASE + 1, txlist()).unwrap();
    let schedule =
        RotatingSchedule::new(vec![key().unwrap().address()], UnixSeconds::new(0), WINDOW).unwrap();
    P2pClient::start(config, Arc::new(storage), Arc::new(schedule)).await.unwrap()
}

async fn watch_events(mut events: p2p_client::Subscription, report: mpsc::Sender<(B256, Instant)>) {
    while let Some(event) = events.next_event().await.unwrap() {
        if let SdkEvent::Commitment { commitment, origin, .. } = event
            && origin.peer().is_some()
        {
            let at = Instant::now();
            // The run may be over.
            report.send((commitment.hash(), at)).await.ok();
        }
    }
}
