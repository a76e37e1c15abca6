//! The devnet command, run as a newcomer runs it but smaller.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use preconfirmation_p2p::{Keypair, Multiaddr, Network, NetworkConfig, NetworkEvent};
use preconfirmation_types::{
    GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetHeadRequest, U256,
};
use serde_json::Value;
use tokio::time::timeout;

const BASE: u64 = 1_000_000;

fn devnet(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2p-node"));
    command.arg("devnet").args(options).stdin(Stdio::null());
    command
}

#[test]
fn a_small_devnet_agrees_and_fools_nobody() {
    let output =
        devnet(&["--nodes", "3", "--blocks", "5", "--window", "2", "--txlist-bytes", "600", "--json"])
            .output()
            .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(result["nodes"], 3);
    assert_eq!(result["blocks"], 5);
    assert_eq!(result["converged"], true);
    assert_eq!(result["head"]["number"], BASE + 5);
    assert_eq!((&result["missing"], &result["delivered"]), (&Value::from(0), &result["expected"]));
    // Five commitments and lists on each of three nodes, and what was handed over without a block.
    assert!(result["expected"].as_u64().unwrap() >= 30, "{result}");
    assert!(result["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    // Two blocks were there when it came; gossip may have been faster for one than its own question.
    assert!(result["late_joiner"]["commitments"].as_u64().unwrap() <= 2);
    assert!(result["late_joiner"]["txlists"].as_u64().unwrap() <= 2);
    assert!(result["late_joiner"]["elapsed_ms"].as_f64().unwrap() > 0.0);
    assert!(result["liar"]["sent"].as_u64().unwrap() > 10);
    assert_eq!(result["liar"]["accepted"], 0);
    assert!(result["liar"]["score"].as_f64().unwrap() < -1.0, "{result}");
}

/// Channels in the place of sockets, two liars more, and silent peers around the late node.
#[test]
fn a_devnet_in_memory_agrees_among_liars_and_sybils() {
    let size = ["--nodes", "10", "--blocks", "6", "--window", "2", "--txlist-bytes", "600", "--json"];
    let company = ["--transport", "memory", "--hostile", "2", "--sybils", "4"];
    let output = devnet(&[&size[..], &company].concat()).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("multiaddr  /memory/"), "{stdout}");
    let result: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&result["nodes"], &result["liar"]["peers"]), (&10.into(), &7.into()), "{result}");
    assert_eq!((&result["missing"], &result["honest_banned"]), (&0.into(), &0.into()), "{result}");
    // Each delivery is one copy at least.
    assert!(result["cost"]["copies_per_delivery"].as_f64().unwrap() >= 1.0, "{result}");
    assert!(result["cost"]["kib_per_node"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn a_window_shorter_than_a_block_is_refused() {
    let output = devnet(&["--block-time", "3", "--window", "2"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--window 2 is shorter than --block-time 3"));
}

/// A peer of another process joins by the multiaddr that is printed, asks, and is answered; then the network
/// is interrupted and ends by itself, with its table.
#[tokio::test]
async fn another_node_can_join_and_an_interrupt_ends_cleanly() {
    let mut child = devnet(&["--nodes", "2", "--blocks", "2", "--hold", "600", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address: Multiaddr = lines
        .by_ref()
        .find_map(|line| line.unwrap().strip_prefix("multiaddr  ").map(str::to_owned))
        .unwrap()
        .parse()
        .unwrap();

    let (network, mut events, service) =
        Network::new(NetworkConfig::local(167_000, Keypair::generate_ed25519())).unwrap();
    let service = tokio::spawn(service.run());
    network.dial(address).await.unwrap();
    let joined = async {
        loop {
            if let Some(NetworkEvent::PeerConnected { peer, .. }) = events.next().await {
                return peer;
            }
        }
    };
    let peer = timeout(Duration::from_secs(30), joined).await.unwrap();
    // Two blocks, and a window of the liar between them at most.
    let both = async {
        while network.request::<GetHead>(peer, GetHeadRequest {}).await.unwrap().block_number
            != U256::from(BASE + 2)
        {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    timeout(Duration::from_secs(60), both).await.unwrap();
    let asked = GetCommitmentsByNumberRequest { start_block_number: U256::from(BASE + 1), max_count: 9 };
    let page = network.request::<GetCommitmentsByNumber>(peer, asked).await.unwrap();
    assert_eq!(page.commitments().len(), 2);
    network.shutdown();
    service.await.unwrap().unwrap();

    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert!(child.wait().unwrap().success());
    assert!(rest.last().unwrap().starts_with("result   2 of 2 blocks, 0 missing"), "{rest:#?}");
}
