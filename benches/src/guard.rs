//! What a signing guard costs: a publication with none that lasts, with the store's own, and with a database's beside that.
//!
//! Three nodes in one process, each with a peer of its own, publish the same chain by turns, one block after the other.

use std::{sync::Arc, time::Instant};

use p2p_client::SigningGuard;
use p2p_fixtures::{CHAIN, DOMAIN, postgres::Server};
use p2p_guard_postgres::{GuardConfig, PostgresGuard};
use serde::Serialize;

use crate::rpc::{
    chain::Chain,
    world::{World, millis, percentile},
};

/// How long publications took, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Times {
    /// The middle one.
    pub p50: f64,
    /// The slowest in a hundred.
    pub p99: f64,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// The store is in memory, and its guard with it.
    pub none_us: Times,
    /// The store is on disk.
    pub disk_us: Times,
    /// The same, and PostgreSQL is asked before, over a socket on the same disk.
    pub postgres_us: Times,
    /// Publications of each.
    pub publications: usize,
}

/// Measures. None without PostgreSQL.
///
/// # Panics
/// Where something does not start or a block is refused: there is nothing to measure then.
pub async fn measure(turns: usize, blocks: usize) -> Option<Figures> {
    let server = Server::start()?;
    let config = GuardConfig::new(&server.url(), CHAIN, DOMAIN).unwrap();
    let guard: Arc<dyn SigningGuard> = Arc::new(PostgresGuard::open(config).await.unwrap());
    let worlds =
        [World::with(false, None).await, World::with(true, None).await, World::with(true, Some(guard)).await];
    let (mut chain, mut times) = (Chain::new(), [Vec::new(), Vec::new(), Vec::new()]);
    // The first turn warms up and is not counted.
    for turn in 0..=turns {
        let blocks = chain.take(blocks);
        for step in 0..worlds.len() {
            // Each goes first as often as the others.
            let index = (turn + step) % worlds.len();
            for made in &blocks {
                let begun = Instant::now();
                worlds[index].publish(made).await;
                if turn > 0 {
                    times[index].push(1e3 * millis(begun.elapsed()));
                }
            }
        }
    }
    for world in worlds {
        world.stop().await;
    }
    let publications = times[0].len();
    let [none_us, disk_us, postgres_us] =
        times.map(|mut times| Times { p50: percentile(&mut times, 50), p99: percentile(&mut times, 99) });
    Some(Figures { none_us, disk_us, postgres_us, publications })
}
