//! The base from L2, and which promises were kept, through real nodes and a real execution node.

use std::{fs::File, io::Write as _, process::Stdio};

use alloy_primitives::hex;
use p2p_fixtures::{Anvil, key};
use p2p_types::{Address, B256, PreconfCommitment, Preconfirmation, SigningDomain, U256};
use preconfirmation_types::{Container as _, keccak256};
use serde_json::{Value, json};

use crate::rig::{LOOPBACK, NODE, Node, expect, fifo, get, get_json, now, within};

/// A list without transactions: zlib of an empty RLP list.
const EMPTY: &str = "789c3b000000c100c1";
/// The L2 of these tests.
const CHAIN: u64 = 7;

/// The last settled block that a node has heard of.
fn settled(status: &Value) -> Option<u64> {
    get_json(status, "/status").1["l2"]["seen"]["number"].as_u64()
}

/// The next settled block for which something was promised.
fn promised(node: &mut Node) -> Value {
    loop {
        let told = node.event("settled");
        if told["promise"]["outcome"] != "none" {
            return told;
        }
    }
}

fn node(endpoints: &str, more: &[&str]) -> Node {
    let options = ["run", "--domain", "placeholder", "--slasher", "none", "--lookahead", "open"];
    let l2 = ["--chain-id", "7", "--l2.rpc", endpoints];
    let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
    Node::spawn(NODE, &[&options[..], &l2, &LOOPBACK, &addresses, more].concat(), Stdio::null())
}

/// Blocks that are promised, one on the other, of a preconfer whose window ends in an hour.
struct Chain {
    gas_limit: u64,
    window_end: u64,
    parent: B256,
}

impl Chain {
    /// The promise of an empty block, as a line for `--publish`.
    fn promise(&mut self, number: u64, timestamp: u64) -> String {
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(timestamp),
            gas_limit: U256::from(self.gas_limit),
            submission_window_end: U256::from(self.window_end),
            raw_tx_list_hash: keccak256(hex::decode(EMPTY).unwrap()),
            parent_preconfirmation_hash: self.parent,
            ..Default::default()
        };
        self.parent = preconf.hash();
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let commitment = commitment.sign(&key(1), &SigningDomain::PLACEHOLDER).to_ssz();
        json!({ "commitment": hex::encode(commitment), "txlist": EMPTY }).to_string()
    }
}

/// The first endpoint answers nobody. The nodes start from what L2 has settled, see one promise kept and the next one broken,
/// and what stands on that falls.
#[test]
fn nodes_follow_l2_and_tell_which_promises_were_kept() {
    let genesis = now() - 100;
    let Some(l2) = Anvil::rollup(CHAIN, genesis, 3) else { return };
    let endpoints = format!("http://127.0.0.1:1,{}", l2.http());
    (1..=8).for_each(|number| l2.mine_at(genesis + number));
    let folder = tempfile::tempdir().unwrap();
    let blocks = fifo(folder.path(), 0o600);
    let mut follower = node(&endpoints, &[]);
    let started = follower.started();
    let address = started["listen"][0].as_str().unwrap();
    let options = ["--p2p.static", address, "--publish", &blocks, "--forget-on-restart"];
    let mut publisher = node(&endpoints, &options);
    let statuses = [started["status"].clone(), publisher.started()["status"].clone()];
    let base = within("the base", || settled(&statuses[0]));
    assert!((1..8).contains(&base), "{base}");

    let mut pipe = File::options().write(true).open(&blocks).unwrap();
    let block = l2.rpc("eth_getBlockByNumber", json!(["latest", false]));
    let gas_limit = u64::from_str_radix(&block["gasLimit"].as_str().unwrap()[2..], 16).unwrap();
    let mut chain = Chain { gas_limit, window_end: now() + 600, parent: B256::ZERO };
    // What L2 has already is promised as it is there, and the eighth block a second too late.
    for number in base + 1..=9 {
        let timestamp = genesis + number + u64::from(number >= 8);
        writeln!(pipe, "{}", chain.promise(number, timestamp)).unwrap();
        assert_eq!(follower.event("commitment")["block"], number);
    }

    for number in base + 1..=8 {
        // The safe block follows.
        l2.mine_at(now() + number);
        for node in [&mut follower, &mut publisher] {
            let told = promised(node);
            assert_eq!(told["block"], number, "{told}");
            let outcome = if number == 8 { "broken" } else { "kept" };
            assert_eq!(told["promise"]["outcome"], outcome, "{told}");
            assert_eq!(told["commitment"]["signer"], json!(key(1).address()), "{told}");
        }
    }
    for status in &statuses {
        let (_, status) = within("statistics", || {
            let (code, status) = get_json(status, "/status");
            (status["promises"]["broken"] == 1).then_some((code, status))
        });
        let promises = &status["promises"];
        assert_eq!((&promises["kept"], &promises["unproven"]), (&json!(7 - base), &json!(0)), "{promises}");
        let last = &promises["last_broken"][0];
        assert_eq!((&last["block"], &last["reason"]), (&json!(8), &json!("timestamp")), "{promises}");
        let signer = key(1).address().to_string();
        let signers = promises["signers"].as_object().unwrap();
        assert!(signers.keys().all(|key| key.eq_ignore_ascii_case(&signer)), "{promises}");
        assert_eq!(status["applied"], Value::Null, "what stood on it has fallen: {status}");
        assert_eq!((&status["l2"]["source"], &status["l2"]["seen"]["number"]), (&json!("safe"), &json!(8)));
        let endpoints = &status["l2"]["endpoints"];
        assert!(endpoints[0]["failure"].is_string() && endpoints[1]["in_use"] == true, "{endpoints}");
    }
    let (_, metrics) = get(&started["metrics"], "/metrics").unwrap();
    for series in ["p2p_lookahead_l2_settled 8", "p2p_promises_total{", "outcome=\"broken\"} 1"] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    publisher.stop();
    follower.stop();
}

#[test]
fn a_node_waits_for_an_l2_node_of_its_chain() {
    let Some(l2) = Anvil::rollup(CHAIN + 1, now(), 1) else { return };
    let mut node = node(&l2.http(), &[]);
    let status = node.started()["status"].clone();
    let failure = within("the failure", || {
        let (_, status) = get_json(&status, "/status");
        status["l2"]["endpoints"][0]["failure"].as_str().map(str::to_owned)
    });
    assert!(failure.contains("chain 8, not 7"), "{failure}");
    let (_, status) = get_json(&status, "/status");
    assert!(["idle", "waiting_for_l2"].map(Value::from).contains(&status["sync"]["state"]), "{status}");
    assert_eq!((&status["applied"], &status["l2"]["seen"]), (&Value::Null, &Value::Null));
    node.stop();
}

#[test]
fn options_of_l2_that_do_not_go_together_are_named() {
    let lab = ["run", "--domain", "placeholder", "--slasher", "none", "--lookahead", "open"];
    let with = |more: &[&'static str]| [&lab[..], more, &LOOPBACK].concat();
    expect(2, &with(&["--l2.rpc", "http://127.0.0.1:1", "--base", "7"]), &["--l2.rpc <URL>", "--base"]);
    expect(1, &with(&["--l2.rpc", "ftp://a"]), &["--l2.rpc", "ftp"]);
}
