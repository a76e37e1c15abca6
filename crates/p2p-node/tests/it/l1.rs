//! The schedule from L1, through real nodes and a real Ethereum node.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Stdio,
};

use alloy_primitives::hex;
use p2p_fixtures::{Anvil, calls, key};
use p2p_types::{Address, B256, PreconfCommitment, Preconfirmation, SigningDomain, U256};
use preconfirmation_types::{Container as _, keccak256};
use serde_json::{Value, json};

use crate::rig::{LOOPBACK, NODE, Node, expect, fifo, get, get_json, now, within};

/// Seconds of the epoch that are over when a test begins: long after its start, long before its end.
const INTO_EPOCH: u64 = 100;

/// A network on an Ethereum node, with a whitelist of two operators.
struct Network {
    anvil: Anvil,
    whitelist: Address,
    folder: tempfile::TempDir,
    genesis: u64,
}

impl Network {
    fn start() -> Option<Self> {
        let anvil = Anvil::start()?;
        let genesis = now() - INTO_EPOCH;
        let whitelist = anvil.deploy("Whitelist", U256::from(genesis));
        for operator in [1, 2] {
            anvil.send(whitelist, calls::addCall { operator: key(operator).address() });
        }
        let inbox = anvil.deploy("Inbox", whitelist);
        let folder = tempfile::tempdir().unwrap();
        let toml = format!(
            "chain_id = 7\ndomain = \"placeholder\"\nslasher = \"none\"\n\n[l1]\nchain_id = 31337\ngenesis = {genesis}\n\
             slot_seconds = 12\nslots_per_epoch = 32\ninbox = \"{inbox}\"\n"
        );
        fs::write(folder.path().join("network.toml"), toml).unwrap();
        Some(Self { anvil, whitelist, folder, genesis })
    }

    fn file(&self) -> String {
        self.folder.path().join("network.toml").display().to_string()
    }

    /// A node of this network.
    fn node(&self, endpoints: &str, more: &[&str]) -> Node {
        let file = self.file();
        let options = ["run", "--network", &file, "--l1.rpc", endpoints, "--base=10"];
        let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
        Node::spawn(NODE, &[&options[..], &LOOPBACK, &addresses, more].concat(), Stdio::null())
    }

    /// Window end of the whitelist's operator in the present epoch.
    fn window_end(&self) -> u64 {
        self.genesis + 384 - 12
    }
}

/// Blocks of one chain, signed by one operator or the other.
struct Chain<'a> {
    network: &'a Network,
    parent: B256,
    number: u64,
    timestamp: u64,
}

impl Chain<'_> {
    /// The next block, as a line for `--publish`.
    fn sign(&mut self, operator: u8) -> String {
        self.number += 1;
        self.timestamp = now().max(self.timestamp + 1);
        let txlist = format!("the transactions of block {}", self.number);
        let preconf = Preconfirmation {
            block_number: U256::from(self.number),
            timestamp: U256::from(self.timestamp),
            submission_window_end: U256::from(self.network.window_end()),
            raw_tx_list_hash: keccak256(&txlist),
            parent_preconfirmation_hash: self.parent,
            ..Default::default()
        };
        self.parent = preconf.hash();
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let commitment = commitment.sign(&key(operator), &SigningDomain::PLACEHOLDER).to_ssz();
        json!({ "commitment": hex::encode(commitment), "txlist": hex::encode(txlist) }).to_string()
    }

    /// Has the next block published through a pipe, and waits until another node shows it.
    fn publish(&mut self, operator: u8, pipe: &mut File, follower: &mut Node) {
        let line = self.sign(operator);
        writeln!(pipe, "{line}").unwrap();
        let commitment = follower.event("commitment");
        assert_eq!(commitment["block"], self.number);
        assert_eq!(commitment["commitment"]["signer"], json!(key(operator).address()), "{commitment}");
    }
}

fn l1_head(status: &Value) -> u64 {
    get_json(status, "/status").1["l1"]["head"]["number"].as_u64().unwrap_or(0)
}

/// Two nodes learn from the contract who may sign, follow a removal and the reorg that takes it back, and agree.
#[test]
fn nodes_follow_the_contract_through_a_removal_and_its_reorg() {
    let Some(network) = Network::start() else { return };
    let blocks = fifo(network.folder.path(), 0o600);
    // The first endpoint answers nobody.
    let endpoints = format!("http://127.0.0.1:1,{}", network.anvil.ws());
    let mut follower = network.node(&endpoints, &[]);
    let started = follower.started();
    let address = started["listen"][0].as_str().unwrap();
    let options = ["--p2p.static", address, "--publish", &blocks, "--forget-on-restart"];
    let mut publisher = network.node(&network.anvil.http(), &options);
    let statuses = [started["status"].clone(), publisher.started()["status"].clone()];
    let reach = |height: u64| {
        for status in &statuses {
            within("L1's head", || (l1_head(status) >= height).then_some(()));
        }
    };
    let mut pipe = File::options().write(true).open(&blocks).unwrap();
    let mut chain = Chain { network: &network, parent: B256::ZERO, number: 10, timestamp: 0 };
    reach(1);
    chain.publish(1, &mut pipe, &mut follower);
    chain.publish(1, &mut pipe, &mut follower);
    let (number, parent) = (chain.number, chain.parent);
    // The first operator is removed, and the second has the rest of the epoch.
    let removal = calls::removeCall { operator: key(1).address() };
    let removed = network.anvil.send(network.whitelist, removal);
    reach(removed);
    chain.publish(2, &mut pipe, &mut follower);
    // L1 takes the removal back: what the second one has signed since is valid no more.
    network.anvil.replace_from(removed);
    for node in [&mut follower, &mut publisher] {
        let lost = node.event("schedule_reorg");
        assert_eq!((&lost["from"], &lost["affected"]), (&json!(13), &json!([chain.parent])));
    }
    (chain.number, chain.parent) = (number, parent);
    chain.publish(1, &mut pipe, &mut follower);

    for status in &statuses {
        let (_, status) = get_json(status, "/status");
        assert_eq!((&status["chain_id"], &status["p2p_chain_id"]), (&json!(7), &json!(7)));
        assert_eq!(status["policies"]["lookahead"], "l1");
        assert_eq!(status["l1"]["generation"], "whitelist");
        assert_eq!((&status["applied"], &status["l1"]["reorgs"]), (&json!(13), &json!(1)));
        assert_eq!(status["schedule"]["now"]["signer"], json!(key(1).address()));
        let peer = &status["peers"][0];
        assert!(peer["score"].as_f64().is_none_or(|score| score >= 0.0), "nobody pays: {peer}");
    }
    let (_, status) = get_json(&statuses[0], "/status");
    let endpoints = &status["l1"]["endpoints"];
    assert!(endpoints[0]["failure"].is_string() && endpoints[1]["in_use"] == true, "{endpoints}");
    let (_, metrics) = get(&started["metrics"], "/metrics").unwrap();
    for series in ["p2p_lookahead_l1_head ", "p2p_lookahead_generation{generation=\"whitelist\"} 1"] {
        assert!(metrics.contains(series), "{metrics}");
    }
    publisher.stop();
    follower.stop();
}

#[test]
fn what_was_learned_from_l1_is_in_the_datadir() {
    let Some(network) = Network::start() else { return };
    let datadir = network.folder.path().join("data");
    let options = ["--datadir", datadir.to_str().unwrap()];
    let mut node = network.node(&network.anvil.http(), &options);
    let status = node.started()["status"].clone();
    within("the schedule", || (l1_head(&status) > 0).then_some(()));
    let file = datadir.join("l1/lookahead.json");
    within("the file", || file.is_file().then_some(()));
    node.stop();
    let mut node = network.node(&network.anvil.http(), &options);
    let status = node.started()["status"].clone();
    within("the schedule", || (l1_head(&status) > 0).then_some(()));
    node.stop();
}

#[test]
fn a_network_whose_contract_tells_no_schedule_ends_the_node() {
    let Some(network) = Network::start() else { return };
    let file = fs::read_to_string(network.file()).unwrap();
    let (start, _) = file.split_once("inbox").unwrap();
    let nobody = Address::repeat_byte(9);
    fs::write(network.file(), format!("{start}lookahead = \"{nobody}\"\n")).unwrap();
    let file = network.file();
    let http = network.anvil.http();
    let options = [&["run", "--network", &file, "--l1.rpc", &http][..], &LOOPBACK].concat();
    expect(1, &options, &["--network:", &nobody.to_string(), "neither a whitelist nor a lookahead store"]);
}

#[test]
fn options_of_l1_that_do_not_go_together_are_named() {
    let lab = ["run", "--domain", "placeholder", "--slasher", "none"];
    let with = |more: &[&'static str]| [&lab[..], more, &LOOPBACK].concat();
    let url = "http://127.0.0.1:1";
    expect(2, &with(&[]), &["--lookahead <SOURCE>"]);
    expect(2, &["run", "--lookahead", "open"], &["--domain <HEX>", "--slasher <ADDRESS>"]);
    expect(1, &with(&["--l1.rpc", url]), &["--lookahead l1", "--network"]);
    expect(1, &with(&["--lookahead", "l1"]), &["--lookahead l1", "--network"]);
    let hoodi = ["--network", "hoodi", "--lookahead"];
    expect(1, &with(&[&hoodi[..], &["l1"]].concat()), &["--l1.rpc", "at least one"]);
    expect(1, &with(&[&hoodi[..], &["open", "--l1.rpc", url]].concat()), &["--l1.rpc", "--lookahead open"]);
    expect(1, &with(&[&hoodi[..], &["l1", "--l1.rpc", "ftp://a"]].concat()), &["--l1.rpc", "ftp"]);
    expect(
        1,
        &["run", "--network", "hoodi", "--l1.rpc", url, "--slasher", "none"],
        &["--network hoodi", "--domain placeholder"],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "chain_id = 7\n");
    expect(1, &["run", "--network", &file, "--l1.rpc", url], &["--network", &file, "l1"]);
    expect(1, &["run", "--network", "no/such", "--l1.rpc", url], &["--network no/such", "`hoodi`"]);
}

fn write(folder: &Path, toml: &str) -> String {
    let path = folder.join("network.toml");
    fs::write(&path, toml).unwrap();
    path.display().to_string()
}
