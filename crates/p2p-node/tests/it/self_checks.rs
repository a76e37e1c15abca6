//! What a node notices about itself: its clock, its schedule, its key.

use std::{fs, num::NonZeroU64, path::Path, process::Stdio, sync::Arc};

use p2p_client::{Keypair, P2pClient, P2pClientConfig, PublishOutcome, Publishing};
use p2p_types::{
    Address, B256, Base, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256, UnixSeconds,
};
use p2p_validation::{OpenSchedule, ValidationConfig};
use preconfirmation_p2p::{Network, NetworkConfig, NetworkHandle};
use preconfirmation_types::{Container as _, Topic, keccak256};
use serde_json::{Value, json};

use crate::rig::{LOOPBACK, NODE, Node, ZERO, get, get_json, now, within};

/// A preconfer whose clock is a minute ahead of the node's, which is the same as a node's that is a minute behind.
#[tokio::test]
async fn a_clock_that_disagrees_with_preconfers_is_told_of() {
    let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
    let mut node = Node::run(&addresses);
    let started = node.started();
    let key = SigningKey::from_bytes([1; 32]).unwrap();
    let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO);
    let config = P2pClientConfig::local(167_000, Keypair::generate_secp256k1(), rules)
        .with_clock(|| UnixSeconds::new(now() + 60))
        .with_publishing(Publishing::GuardedUntilRestart)
        .with_static_peers([started["listen"][0].as_str().unwrap().parse().unwrap()]);
    let anyone = OpenSchedule::accepting_any_signer(UnixSeconds::new(0), NonZeroU64::new(1 << 32).unwrap());
    let preconfer = P2pClient::start(config, Arc::new(anyone)).await.unwrap();
    preconfer.chain().l2_synced(Base::at(10)).await.unwrap();
    preconfer.network().wait_for_peers(1).await.unwrap();
    let first = now() + 50;
    let mut parent = B256::ZERO;
    for number in 11..=20 {
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(first + number - 11),
            submission_window_end: U256::from(u32::MAX),
            raw_tx_list_hash: keccak256([0]),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        parent = preconf.hash();
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let signed = commitment.sign(&key, &SigningDomain::PLACEHOLDER);
        preconfer.publisher().ready().await.unwrap();
        let sent = preconfer.publisher().publish_block(signed, vec![0].into()).await.unwrap();
        assert!(matches!(sent, PublishOutcome::Published { .. } | PublishOutcome::Queued), "{sent:?}");
    }
    node.logs(&["WARN", "clock of this host", "offset=-"]);
    let clock = get_json(&started["status"], "/status").1["clock"].clone();
    assert_eq!((&clock["off"], &clock["unusable"]), (&json!(true), &json!(true)), "{clock}");
    assert!((-60..=-30).contains(&clock["offset"].as_i64().unwrap()), "{clock}");
    let metrics = get(&started["metrics"], "/metrics").unwrap().1;
    assert!(metrics.contains("p2p_clock_unusable 1\n"), "{metrics}");
    preconfer.shutdown().await.unwrap();
    node.stop();
}

/// A node whose schedule has one slot, of nobody who signs here.
fn with_slot(folder: &Path, start: u64, end: u64) -> (Node, Value) {
    let schedule = folder.join("schedule.json");
    let elected = "0x00000000000000000000000000000000000000e1";
    fs::write(&schedule, json!([{ "signer": elected, "start": start, "end": end }]).to_string()).unwrap();
    let lookahead = format!("file:{}", schedule.display());
    let options =
        ["run", "--domain", "placeholder", "--slasher", ZERO, "--lookahead", &lookahead, "--base=10"];
    let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
    let mut node = Node::spawn(NODE, &[&options[..], &LOOPBACK, &addresses].concat(), Stdio::null());
    let started = node.started();
    (node, started)
}

/// Three peers of a node, each of which has signed a block of now in a window that ends then, and sends it itself.
async fn three_sign(started: &Value, window_end: u64) -> Vec<NetworkHandle> {
    let mut authors = Vec::new();
    for number in 1..=3 {
        let (author, _, service) =
            Network::new(NetworkConfig::local(167_000, Keypair::generate_secp256k1())).unwrap();
        tokio::spawn(service.run());
        author.dial(started["listen"][0].as_str().unwrap().parse().unwrap()).await.unwrap();
        let preconf = Preconfirmation {
            block_number: U256::from(11),
            timestamp: U256::from(now()),
            submission_window_end: U256::from(window_end),
            raw_tx_list_hash: keccak256([number]),
            ..Default::default()
        };
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let key = SigningKey::from_bytes([number; 32]).unwrap();
        let signed = commitment.sign(&key, &SigningDomain::PLACEHOLDER);
        let _published = author.publish(Topic::Commitments, signed.to_ssz().into()).await.unwrap();
        authors.push(author);
    }
    authors
}

/// A node whose schedule elects somebody else than all that sign.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_expects_other_signers_than_all_peers_suspects_itself() {
    let folder = tempfile::tempdir().unwrap();
    let end = now() + 3600;
    let (node, started) = with_slot(folder.path(), now() - 60, end);
    let status = || get_json(&started["status"], "/status").1;
    assert_eq!(status()["suspects_itself"], false);
    let _authors = three_sign(&started, end).await;
    node.logs(&["ERROR", "lookahead", "clock", "slasher"]);
    assert_eq!(status()["suspects_itself"], true);
    let metrics = get(&started["metrics"], "/metrics").unwrap().1;
    assert!(metrics.contains("p2p_own_schedule_suspected 1\n"), "{metrics}");
    node.stop();
}

/// What is signed for a time of which the schedule says nothing yet waits, and is nobody's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn before_its_schedule_begins_a_node_charges_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (node, started) = with_slot(folder.path(), now() + 3600, now() + 7200);
    let authors = three_sign(&started, now() + 60).await;
    within("what waits for the schedule", || {
        let metrics = get(&started["metrics"], "/metrics").unwrap().1;
        metrics.contains("p2p_pending{kind=\"schedule\"} 3\n").then_some(())
    });
    let status = within("the scores of all", || {
        let status = get_json(&started["status"], "/status").1;
        (status["peers"].as_array().unwrap().len() == authors.len()).then_some(status)
    });
    assert_eq!(status["suspects_itself"], false, "{status}");
    for peer in status["peers"].as_array().unwrap() {
        assert_eq!(peer["application_score"], 0.0, "{status}");
    }
    node.stop();
}

/// An operator copies a data directory, key included, to a second machine.
#[test]
fn nodes_with_one_key_of_which_one_dials_the_other_both_say_so() {
    // By the name that is its own, and by an address alone.
    for (transport, named, more) in
        [("/tcp/", true, &[][..]), ("/quic-v1", false, &["--p2p.listen.quic", "0"])]
    {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
        let options = [&["--p2p.priv.path", key.to_str().unwrap()][..], &addresses, more].concat();
        let mut first = Node::run(&options);
        let first_started = first.started();
        assert_eq!(get_json(&first_started["status"], "/status").1["duplicate_identity"], Value::Null);
        let listen: Vec<_> =
            first_started["listen"].as_array().unwrap().iter().map(|at| at.as_str().unwrap()).collect();
        let address = listen.iter().find(|address| address.contains(transport)).unwrap();
        let peer = if named { address } else { address.split("/p2p/").next().unwrap() };
        let mut second = Node::run(&[&options[..], &["--p2p.static", peer]].concat());
        let second_started = second.started();
        assert_eq!(first_started["peer"], second_started["peer"]);
        for (node, started, sign) in
            [(&second, &second_started, "answered"), (&first, &first_started, "dialled")]
        {
            node.logs(&["ERROR", "another node uses the key", sign]);
            let status = get_json(&started["status"], "/status").1;
            assert_eq!(status["duplicate_identity"]["sign"], sign, "{status}");
            assert!(status["duplicate_identity"]["seconds_ago"].as_u64().unwrap() <= 60, "{status}");
            let metrics = get(&started["metrics"], "/metrics").unwrap().1;
            let line = format!("p2p_identity_used_twice_total{{sign=\"{sign}\"}} 1");
            assert!(metrics.contains(&line), "{metrics}");
        }
        first.stop();
        second.stop();
    }
}
