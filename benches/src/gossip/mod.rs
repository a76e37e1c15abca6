//! The same mesh five times, interleaved: raw gossipsub, libp2p's own behaviours for all of the protocol, our network
//! that accepts everything, and whole clients that validate, store and tell, with tables of signers and without.
//!
//! All meshes live in this process over TCP on loopback, with the same parameters and the same links. A turn
//! is some messages of one mesh, each published when the one before it has arrived everywhere. A delivery is
//! timed from the call that publishes to the moment when another node's application has it: the gossipsub
//! event of a raw node, the [`SdkEvent`](p2p_types::SdkEvent) of a client.

mod clients;
mod network;
mod raw;

use std::time::{Duration, Instant};

use preconfirmation_p2p::{GossipConfig, gossip_id};
use preconfirmation_types::B256;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use clients::Ours;
use network::Networks;
use raw::{All, Raw};

use crate::cpu;

/// Nodes of a mesh.
const NODES: usize = 20;

/// Each node dials so many after it, so that everybody has twice as many links.
const DIALS: usize = 4;

/// The same for all: every link is in the mesh. With less than that each run has other meshes, whose copies differ
/// by more than what is measured.
fn gossip() -> GossipConfig {
    let mut config = GossipConfig::default();
    config.mesh.size = 2 * DIALS;
    config.mesh.low = config.mesh.size;
    config
}

/// Messages of a turn.
const TURN: usize = 20;

/// After the last delivery of a turn: what is still on its way belongs to it.
const TAIL: Duration = Duration::from_millis(20);

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

const CHAIN: u64 = 167_000;

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
    /// The middle delivery of our network as a multiple of that of libp2p's own behaviours for the same protocols.
    pub p50_vs_same: f64,
    /// The same of the process CPU time of a delivery: the middle quotient of the turns.
    pub cpu_vs_same: f64,
    /// Process CPU time of a delivery, ours less raw, microseconds: the middle of the turns.
    pub cpu_extra_us: f64,
    /// The same of clients that recover every signature.
    pub cpu_extra_recovering_us: f64,
    /// Process CPU time that tables of signers save of a delivery, microseconds: the middle of the turns.
    pub cpu_saved_us: f64,
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
    /// The middle delivery of libp2p's own behaviours for all of the protocol, milliseconds.
    pub all_p50_ms: f64,
    /// The slowest in a hundred of them, milliseconds.
    pub all_p99_ms: f64,
    /// Process CPU time of a delivery of them, microseconds.
    pub all_cpu_us: f64,
    /// The middle delivery of our network without a client, milliseconds.
    pub network_p50_ms: f64,
    /// The slowest in a hundred of it, milliseconds.
    pub network_p99_ms: f64,
    /// Process CPU time of a delivery of it, microseconds.
    pub network_cpu_us: f64,
    /// What the loopback interface carried in the turns of raw gossipsub, for each delivery, bytes. Not a number where
    /// the system does not tell.
    pub raw_bytes: f64,
    /// The same for libp2p's own behaviours.
    pub all_bytes: f64,
    /// The same for our network without a client.
    pub network_bytes: f64,
    /// The same for ours.
    pub ours_bytes: f64,
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
    /// On the loopback interface, in all turns.
    bytes: f64,
}

/// Builds the meshes and measures them in turns.
///
/// # Panics
/// Where a mesh does not form or a message does not arrive: there is nothing to measure then.
pub async fn measure(effort: Effort) -> Figures {
    let mut raw = Raw::start::<libp2p::gossipsub::Behaviour>().await;
    let mut all = Raw::start::<All>().await;
    let (mut network, mut ours) = (Networks::start().await, Ours::start(true).await);
    let mut recovering = Ours::start(false).await;
    let mut sides: [Side; 5] = Default::default();
    // The first turn of each forms the mesh and is not counted.
    for turn in 0..=effort.turns {
        let mut turns: [Side; 5] = Default::default();
        let [of_raw, of_all, of_network, of_ours, of_recovering] = &mut turns;
        // Each of them goes first, and last, as often as another.
        for step in 0..5 {
            match (turn + step) % 5 {
                0 => run_turn(&mut raw, of_raw).await,
                1 => run_turn(&mut all, of_all).await,
                2 => run_turn(&mut network, of_network).await,
                3 => run_turn(&mut ours, of_ours).await,
                _ => run_turn(&mut recovering, of_recovering).await,
            }
        }
        if turn > 0 {
            for (side, turn) in sides.iter_mut().zip(turns) {
                side.times.extend(turn.times);
                side.cpu.extend(turn.cpu);
                side.bytes += turn.bytes;
            }
        }
    }
    ours.end().await;
    recovering.end().await;
    let [raw, all, network, ours, recovering] = &sides;
    let less = |one: &Side, other: &Side| middle(&one.cpu, &other.cpu, |one, other| one - other);
    let (cpu_extra_us, cpu_extra_recovering_us) = (less(ours, raw), less(recovering, raw));
    let cpu_saved_us = less(recovering, ours);
    let cpu_vs_same = middle(&network.cpu, &all.cpu, |network, all| network / all);
    for side in &mut sides {
        side.times.sort_unstable();
        side.cpu.sort_unstable();
    }
    let millis = |percent| sides.each_ref().map(|side| micros(percentile(&side.times, percent)) / 1e3);
    let [raw_p50_ms, all_p50_ms, network_p50_ms, ours_p50_ms, _] = millis(50);
    let [raw_p99_ms, all_p99_ms, network_p99_ms, ours_p99_ms, _] = millis(99);
    let [raw_cpu_us, all_cpu_us, network_cpu_us, ours_cpu_us, _] =
        sides.each_ref().map(|side| micros(percentile(&side.cpu, 50)));
    let [raw_bytes, all_bytes, network_bytes, ours_bytes, _] =
        sides.each_ref().map(|side| side.bytes / side.times.len() as f64);
    Figures {
        p50_ratio: ours_p50_ms / raw_p50_ms,
        p99_ratio: ours_p99_ms / raw_p99_ms,
        p50_vs_same: network_p50_ms / all_p50_ms,
        cpu_vs_same,
        cpu_extra_us,
        cpu_extra_recovering_us,
        cpu_saved_us,
        raw_p50_ms,
        ours_p50_ms,
        raw_p99_ms,
        ours_p99_ms,
        raw_cpu_us,
        ours_cpu_us,
        all_p50_ms,
        all_p99_ms,
        all_cpu_us,
        network_p50_ms,
        network_p99_ms,
        network_cpu_us,
        raw_bytes,
        all_bytes,
        network_bytes,
        ours_bytes,
        deliveries: sides[0].times.len(),
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle of what comes of each pair, in microseconds.
fn middle(ones: &[Duration], others: &[Duration], of: impl Fn(f64, f64) -> f64) -> f64 {
    let mut all: Vec<_> =
        ones.iter().zip(others).map(|(one, other)| of(micros(*one), micros(*other))).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// What the loopback interface has carried, bytes.
fn carried() -> f64 {
    let told = std::fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes");
    told.ok().and_then(|told| told.trim().parse().ok()).unwrap_or(f64::NAN)
}

fn name(message: &[u8]) -> B256 {
    B256::right_padding_from(&gossip_id(message))
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

/// A turn: CPU and bytes from before its first message to after its tail.
async fn run_turn<M: Mesh>(mesh: &mut M, side: &mut Side) {
    let (before, carried_before) = (cpu(), carried());
    for _ in 0..TURN {
        mesh.one(side).await;
    }
    sleep(TAIL).await;
    let deliveries = u32::try_from(TURN * (NODES - 1)).unwrap();
    side.cpu.push((cpu() - before) / deliveries);
    side.bytes = carried() - carried_before;
}

trait Mesh {
    /// Publishes one message and waits until it is everywhere.
    async fn one(&mut self, side: &mut Side);
}
