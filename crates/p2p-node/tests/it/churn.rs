//! What passing identities leave behind in a node, and how long its network task is busy with upkeep meanwhile.
//!
//! `CHURN_IDENTITIES` says how many come and go, 200 by default, in four rounds. If it is given, memory is read after each
//! round when the node has forgotten whom it has met, which takes five minutes. The figures are printed:
//! `CHURN_IDENTITIES=1000 cargo test --release -p p2p-node --test it churn -- --nocapture`.

use std::{
    fs,
    io::BufRead as _,
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use preconfirmation_p2p::{Keypair, Multiaddr, Network, NetworkConfig, NetworkEvent};
use serde_json::Value;

use crate::rig::{DEADLINE, Node, get};

/// The first of them is the warm-up.
const ROUNDS: usize = 4;

/// Most memory that the last round may leave beyond the first: what the allocator keeps back of what was freed. Two
/// kilobytes for each of the identities of the others would be more.
const SLACK_KIB: u64 = 1024;

/// When a node has forgotten who has gone: scores are kept for a minute (`score.retain`).
const FORGOTTEN: Duration = Duration::from_secs(70);

/// Identities that are connected at a time.
const AT_A_TIME: usize = 4;

/// One identity connects, is identified, and goes.
async fn pass(address: Multiaddr) {
    let mut config = NetworkConfig::local(167_000, Keypair::generate_ed25519());
    config.listen.clear();
    let (handle, mut events, service) = Network::new(config).unwrap();
    let running = tokio::spawn(service.run());
    handle.dial(address).await.unwrap();
    while !matches!(events.next().await.unwrap(), NetworkEvent::PeerConnected { .. }) {}
    handle.shutdown();
    running.await.unwrap().unwrap();
}

/// The value of the metric whose line begins so.
fn metric(started: &Value, line: &str) -> u64 {
    let (_, body) = get(&started["metrics"], "/metrics").unwrap();
    let found = body.lines().find_map(|of| of.strip_prefix(line));
    found.unwrap_or_else(|| panic!("no {line} in {body}")).trim().parse().unwrap()
}

fn resident_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn passing_identities_leave_nothing_behind_and_keep_nobody_waiting() {
    let given = std::env::var("CHURN_IDENTITIES").ok().map(|given| given.parse().unwrap());
    let identities: usize = given.unwrap_or(200);
    let mut node = Node::run_for(30 * DEADLINE, &["--metrics.addr", "127.0.0.1:0"]);
    let started = node.started();
    let address: Multiaddr = started["listen"][0].as_str().unwrap().parse().unwrap();
    // Somebody reads what happens.
    let stdout = node.stdout.take().unwrap();
    thread::spawn(move || stdout.lines().for_each(drop));
    let pass_some = async |count: usize| {
        let passing = stream::iter(0..count).map(|_| pass(address.clone())).buffer_unordered(AT_A_TIME);
        tokio::time::timeout(10 * DEADLINE, passing.for_each(async |()| ())).await.unwrap();
        let end = Instant::now() + DEADLINE;
        while metric(&started, "p2p_peers{direction=\"inbound\"}") > 0 {
            assert!(Instant::now() < end, "peers do not go");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if given.is_some() {
            tokio::time::sleep(FORGOTTEN).await;
        }
        resident_kib(&node)
    };
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        resident.push(pass_some(identities / ROUNDS).await);
    }
    let fast = metric(&started, "p2p_service_tick_seconds_bucket{le=\"0.001\"}");
    let all = metric(&started, "p2p_service_tick_seconds_count");
    println!(
        "{identities} identities: {resident:?} KiB resident after each round; {fast} of {all} ticks within 1 ms"
    );
    let grown = resident[ROUNDS - 1].saturating_sub(resident[0]);
    assert!(grown < SLACK_KIB, "{resident:?} KiB after each round");
    // Of each hundred ticks one may be interrupted; without optimisation and beside other tests, every second one.
    let slow = if cfg!(debug_assertions) { all / 2 } else { all.div_ceil(100) };
    assert!(all - fast <= slow, "{fast} of {all} ticks within 1 ms");
}
