//! Publishing over JSON-RPC against publishing by the client's own API, in one process.
//!
//! One node with a store on disk and one peer. Each block names the one before it, so a block is sent when its parent is
//! answered: both ways publish one block after the other, by RPC over eight connections that take turns. The ratio is that
//! of the rates, of neighbouring turns. Then the same at a steady rate, with a subscriber.

mod caller;
pub(crate) mod chain;
mod hostile;
pub(crate) mod world;

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep_until;

use caller::{Caller, blocks, subscribe};
use chain::{Chain, Made};
use hostile::Hosts;
use world::{World, arrivals, millis, percentile};

/// Connections that call.
const CONNECTIONS: usize = 8;

/// Calls a second where the rate is steady.
const RATE: u32 = 500;

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Turns of each way.
    pub turns: usize,
    /// Blocks of a turn.
    pub blocks: usize,
    /// Blocks at the steady rate.
    pub steady: usize,
    /// Turns beside hostile callers, and as many without.
    pub hostile_turns: usize,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Blocks a second over RPC by those of the client's API: the middle quotient of the turns.
    pub publish_vs_client: f64,
    /// The slowest call in a hundred at the steady rate, from when it was due.
    pub p99_ms: f64,
    /// The slowest block in a hundred at the steady rate, from the client's event to the message at a subscriber.
    pub subscribe_lag_ms_p99: f64,
    /// The slowest delivery in a hundred to the peer beside hostile callers, as a multiple of that without them.
    pub hostile_p99_vs_quiet: f64,
    /// What these are made of.
    pub details: Details,
}

/// What the figures are made of.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    /// Blocks a second over RPC, one after the other: the middle turn.
    pub rpc_per_s: f64,
    /// Blocks a second by the client's API: the middle turn.
    pub client_per_s: f64,
    /// Calls answered a second at the steady rate.
    pub steady_per_s: f64,
    /// The middle call at the steady rate.
    pub p50_ms: f64,
    /// The middle lag of the subscriber.
    pub subscribe_lag_ms_p50: f64,
    /// Cores that the whole process keeps busy at the steady rate: node, peer, callers and subscriber.
    pub steady_cores: f64,
    /// The slowest delivery in a hundred without hostile callers.
    pub quiet_delivery_p99_ms: f64,
    /// The same beside them.
    pub hostile_delivery_p99_ms: f64,
    /// Calls of theirs, each of which was refused as it had to be.
    pub hostile_calls: u64,
}

/// Measures.
///
/// # Panics
/// Where something does not start or a block is refused: there is nothing to measure then.
pub async fn measure(effort: Effort) -> Figures {
    let (world, mut chain) = (World::start().await, Chain::new());
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        callers.push(Caller::connect(world.address).await);
    }
    let (mut rpc, mut client, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn of each warms up and is not counted.
    for turn in 0..=effort.turns {
        let (mut over_rpc, mut by_client) = (0.0, 0.0);
        for step in 0..2 {
            // Each goes first as often as the other.
            let blocks = chain.take(effort.blocks);
            if (turn + step).is_multiple_of(2) {
                over_rpc = rate_of_rpc(&world, &mut callers, &blocks).await;
            } else {
                by_client = rate_of_client(&world, &blocks).await;
            }
        }
        if turn > 0 {
            rpc.push(over_rpc);
            client.push(by_client);
            ratios.push(over_rpc / by_client);
        }
    }
    let steady = steady(&world, &mut callers, &chain.take(effort.steady)).await;
    drop(callers);
    let Beside { mut quiet, mut hostile, calls: hostile_calls } =
        beside_hostile(&world, &mut chain, effort).await;
    let (quiet_delivery_p99_ms, hostile_delivery_p99_ms) =
        (percentile(&mut quiet, 99), percentile(&mut hostile, 99));
    world.stop().await;
    let Steady { mut calls, mut lags, took, cpu } = steady;
    Figures {
        publish_vs_client: percentile(&mut ratios, 50),
        p99_ms: percentile(&mut calls, 99),
        subscribe_lag_ms_p99: percentile(&mut lags, 99),
        hostile_p99_vs_quiet: hostile_delivery_p99_ms / quiet_delivery_p99_ms,
        details: Details {
            rpc_per_s: percentile(&mut rpc, 50),
            client_per_s: percentile(&mut client, 50),
            steady_per_s: calls.len() as f64 / took.as_secs_f64(),
            p50_ms: percentile(&mut calls, 50),
            subscribe_lag_ms_p50: percentile(&mut lags, 50),
            steady_cores: cpu.as_secs_f64() / took.as_secs_f64(),
            quiet_delivery_p99_ms,
            hostile_delivery_p99_ms,
            hostile_calls,
        },
    }
}

async fn rate_of_rpc(world: &World, callers: &mut [Caller], blocks: &[Made]) -> f64 {
    let calls: Vec<_> = blocks.iter().map(Made::call).collect();
    let begun = Instant::now();
    for (index, (call, made)) in calls.iter().zip(blocks).enumerate() {
        world.turn_to(made);
        callers[index % CONNECTIONS].call(call).await;
    }
    blocks.len() as f64 / begun.elapsed().as_secs_f64()
}

async fn rate_of_client(world: &World, blocks: &[Made]) -> f64 {
    let begun = Instant::now();
    for made in blocks {
        world.publish(made).await;
    }
    blocks.len() as f64 / begun.elapsed().as_secs_f64()
}

/// What a steady rate came to, times in milliseconds.
struct Steady {
    calls: Vec<f64>,
    lags: Vec<f64>,
    took: Duration,
    cpu: Duration,
}

/// Calls as often as [`RATE`] says. A call that is late because the one before it was is timed from when it was due.
async fn steady(world: &World, callers: &mut [Caller], blocks: &[Made]) -> Steady {
    let (from, count) = (blocks[0].number, blocks.len());
    let received = tokio::spawn(self::blocks(subscribe(world.address, from).await, from, count));
    let told = tokio::spawn(arrivals(world.client.subscribe(), from, count));
    let calls: Vec<_> = blocks.iter().map(Made::call).collect();
    let (begun, cpu_before, mut times) = (Instant::now(), crate::cpu(), Vec::with_capacity(count));
    for (index, (call, made)) in (0..).zip(calls.iter().zip(blocks)) {
        let due = begun + Duration::from_secs(1) * index / RATE;
        let since = if Instant::now() < due {
            sleep_until(due.into()).await;
            // What the timer is late by is not the server's.
            Instant::now()
        } else {
            due
        };
        world.turn_to(made);
        callers[usize::try_from(index).unwrap() % CONNECTIONS].call(call).await;
        times.push(millis(since.elapsed()));
    }
    let (took, cpu) = (begun.elapsed(), crate::cpu() - cpu_before);
    let (received, told) = (received.await.unwrap(), told.await.unwrap());
    let lags = received
        .iter()
        .zip(told)
        .filter_map(|(received, told)| Some(millis(received.saturating_duration_since(told?))));
    Steady { calls: times, lags: lags.collect(), took, cpu }
}

/// From one block to the next beside hostile callers, and without.
const PACE: Duration = Duration::from_millis(10);

/// Deliveries in milliseconds.
#[derive(Default)]
struct Beside {
    quiet: Vec<f64>,
    hostile: Vec<f64>,
    /// Calls that were refused as they had to be.
    calls: u64,
}

/// Deliveries from the node to its peer, by turns without and beside hostile callers.
async fn beside_hostile(world: &World, chain: &mut Chain, effort: Effort) -> Beside {
    let (hosts, mut beside) = (Hosts::start(world).await, Beside::default());
    for _ in 0..effort.hostile_turns {
        beside.quiet.extend(deliveries(world, &chain.take(effort.blocks)).await);
        let blocks = chain.take(effort.blocks);
        let attack = hosts.attack().await;
        beside.hostile.extend(deliveries(world, &blocks).await);
        beside.calls += attack.end().await;
    }
    hosts.stop().await;
    beside
}

/// From the call that publishes a block to the peer's event.
async fn deliveries(world: &World, blocks: &[Made]) -> Vec<f64> {
    let arrived = tokio::spawn(arrivals(world.peer.subscribe(), blocks[0].number, blocks.len()));
    let (mut sent, mut pace) = (Vec::with_capacity(blocks.len()), tokio::time::interval(PACE));
    for made in blocks {
        pace.tick().await;
        sent.push(Instant::now());
        world.publish(made).await;
    }
    let arrived = arrived.await.unwrap();
    sent.iter()
        .zip(arrived)
        .filter_map(|(sent, arrived)| Some(millis(arrived?.saturating_duration_since(*sent))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little of it: every block is taken, the subscriber has each once and in order, and every hostile call is refused as it
    /// has to be.
    #[tokio::test(flavor = "multi_thread")]
    async fn blocks_over_rpc_are_taken_and_told_and_hostile_calls_refused() {
        let figures = measure(Effort { turns: 1, blocks: 16, steady: 64, hostile_turns: 1 }).await;
        assert!(figures.publish_vs_client > 0.0 && figures.p99_ms > 0.0, "{figures:?}");
        assert!(figures.details.p50_ms <= figures.p99_ms, "{figures:?}");
        assert!(figures.subscribe_lag_ms_p99 < 10_000.0, "{figures:?}");
        assert!(figures.details.hostile_calls >= 9 && figures.hostile_p99_vs_quiet > 0.0, "{figures:?}");
    }
}
