//! JSON-RPC of a running node: off unless asked for, kept from others, and what two nodes do with it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use alloy_primitives::hex;
use preconfirmation_types::{
    Address, B256, Container as _, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256,
    keccak256,
};
use serde_json::{Value, json};

use crate::rig::{CHAIN, LOOPBACK, Node, expect, now, within};

/// The status and the body of an answer to a call.
fn post(address: &Value, body: &Value) -> Option<(u16, String)> {
    post_to(address, address.as_str().unwrap(), body)
}

/// The same of a call for another host.
fn post_to(address: &Value, host: &str, body: &Value) -> Option<(u16, String)> {
    let (address, body) = (address.as_str().unwrap(), body.to_string());
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The result of a call, or its error.
pub(crate) fn call(address: &Value, method: &str, params: Value) -> Result<Value, Value> {
    ask(address, method, params).unwrap()
}

/// The same; none where nobody answers.
pub(crate) fn ask(address: &Value, method: &str, params: Value) -> Option<Result<Value, Value>> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let (status, body) = post(address, &request)?;
    assert_eq!(status, 200, "{body}");
    let mut answer: Value = serde_json::from_str(&body).ok()?;
    Some(match answer.get_mut("error") {
        Some(error) => Err(error.take()),
        None => Ok(answer["result"].take()),
    })
}

/// The end of the window that all blocks are of.
fn window_end() -> u64 {
    static END: OnceLock<u64> = OnceLock::new();
    *END.get_or_init(|| now() + 600)
}

/// A block of a laboratory, where anybody may sign, as `preconf_publishBlock` takes it, and its hash.
pub(crate) fn block(number: u64, parent: B256, salt: u8) -> (Value, B256) {
    block_in(window_end(), number, parent, salt)
}

/// The same, of a window that ends then.
pub(crate) fn block_in(window_end: u64, number: u64, parent: B256, salt: u8) -> (Value, B256) {
    // A zlib stream, stored, of an RLP list of one byte.
    let txlist = [&[0x78, 0x01, 0x01, 2, 0, 0xfd, 0xff, 0xc1, salt][..], &adler32(&[0xc1, salt])].concat();
    let preconf = Preconfirmation {
        block_number: U256::from(number),
        // However many there are, none is ahead of the clock.
        timestamp: U256::from(window_end - 100_000 + number),
        submission_window_end: U256::from(window_end),
        raw_tx_list_hash: keccak256(&txlist),
        parent_preconfirmation_hash: parent,
        ..Default::default()
    };
    let hash = preconf.hash();
    let key = SigningKey::from_bytes([1; 32]).unwrap();
    let signed =
        PreconfCommitment { preconf, slasher_address: Address::ZERO }.sign(&key, &SigningDomain::PLACEHOLDER);
    let params = json!([{
        "commitment": hex::encode_prefixed(signed.to_ssz()),
        "txListHash": keccak256(&txlist),
        "txList": hex::encode_prefixed(txlist),
    }]);
    (params, hash)
}

fn adler32(bytes: &[u8]) -> [u8; 4] {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    ((b << 16) | a).to_be_bytes()
}

pub(crate) fn node(datadir: &Path, options: &[&str]) -> Node {
    let datadir = datadir.to_str().unwrap();
    Node::run(&[&["--datadir", datadir, "--rpc.port", "0", "--rpc.api", "preconf,opp2p"], options].concat())
}

/// Two nodes from empty directories: connected, a block published at one and read at the other, before and after a restart.
#[test]
fn a_block_published_over_rpc_reaches_another_node() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = node(folders[0].path(), &[]);
    let mut second = node(folders[1].path(), &[]);
    let (one, two) = (first.started()["rpc"].clone(), second.started()["rpc"].clone());
    let address = call(&two, "opp2p_self", json!([])).unwrap()["addresses"][0].clone();
    assert_eq!(call(&one, "opp2p_connectPeer", json!([address])), Ok(Value::Null));
    let status = |of: &Value| call(of, "preconf_status", json!([])).unwrap();
    within("two live nodes", || [&one, &two].iter().all(|of| status(of)["isLive"] == true).then_some(()));

    let (params, hash) = block(11, B256::ZERO, 1);
    let published = call(&one, "preconf_publishBlock", params.clone()).unwrap();
    assert_eq!(published["txListHash"], params[0]["txListHash"]);
    let read = within("the block with its list", || {
        call(&two, "preconf_getBlock", json!([hash])).ok().filter(|block| block["txList"].is_string())
    });
    assert_eq!((&read["block"], &read["txList"]), (&json!("0xb"), &params[0]["txList"]));
    second.stop();

    // What its signer has promised binds the node after a restart, too.
    first.stop();
    let mut first = node(folders[0].path(), &[]);
    let one = first.started()["rpc"].clone();
    assert_eq!(call(&one, "preconf_tip", json!([])).unwrap(), "0xb");
    let (other, _) = block(11, B256::ZERO, 2);
    let refused = within("an answer", || {
        call(&one, "preconf_publishBlock", other.clone()).err().filter(|error| error["code"] != -32021)
    });
    assert_eq!(refused["code"], -32020, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(&hash.to_string()), "{refused}");
    let (next, _) = block(12, hash, 1);
    call(&one, "preconf_publishBlock", next).unwrap();
    first.stop();
}

#[test]
fn a_node_without_options_serves_and_publishes_nothing() {
    let mut silent = Node::run(&[]);
    assert_eq!(silent.started()["rpc"], Value::Null);
    silent.stop();
    let mut reads = Node::run(&["--rpc.port", "0"]);
    let rpc = reads.started()["rpc"].clone();
    // It says that it has started before it is told of its base.
    within("the base", || (call(&rpc, "preconf_tip", json!([])).unwrap() == "0xa").then_some(()));
    assert_eq!(call(&rpc, "preconf_publishBlock", block(11, B256::ZERO, 1).0).unwrap_err()["code"], -32022);
    assert_eq!(call(&rpc, "opp2p_self", json!([])).unwrap_err()["code"], -32601);
    reads.stop();
}

#[test]
fn on_another_address_than_loopback_a_token_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--rpc.addr", "0.0.0.0", "--rpc.port", "0"];
    expect(
        1,
        &[&CHAIN[..], &LOOPBACK, &options].concat(),
        &["--rpc.addr", "0.0.0.0", "--rpc.jwt-secret", "--datadir"],
    );
    let datadir = ["--datadir", folder.path().to_str().unwrap()];
    let mut node = Node::run(&[&options[..], &datadir].concat());
    let rpc = node.started()["rpc"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
    let tip = json!({ "jsonrpc": "2.0", "id": 1, "method": "preconf_tip" });
    assert_eq!(post(&json!(rpc), &tip).unwrap().0, 401);
    let secret = folder.path().join("jwt.hex");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&secret).unwrap().trim().len(), 64);
    node.stop();
    // Others may read it now, so it is no secret.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = [&CHAIN[..], &LOOPBACK, &options, &datadir].concat();
    expect(1, &exposed, &["--rpc.jwt-secret", "chmod 600"]);
}

#[test]
fn a_taken_port_and_an_unknown_namespace_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let options = [&CHAIN[..], &LOOPBACK, &["--rpc.port", &port]].concat();
    expect(1, &options, &["--rpc.addr", &port, "something listens there already"]);
    expect(2, &[&CHAIN[..], &["--rpc.api", "admin"]].concat(), &["--rpc.api", "`admin`"]);
}

#[test]
fn what_is_logged_is_changed_while_the_node_runs() {
    let mut node = Node::run(&["--rpc.port", "0", "--rpc.api", "debug"]);
    let rpc = node.started()["rpc"].clone();
    let before = call(&rpc, "debug_logFilter", json!([])).unwrap();
    assert!(before.as_str().unwrap().contains("p2p_node=info"), "{before}");
    let wrong = call(&rpc, "debug_setLogFilter", json!(["p2p_node=loud"])).unwrap_err();
    assert_eq!(wrong["code"], -32602, "{wrong}");
    assert_eq!(call(&rpc, "debug_setLogFilter", json!(["error,p2p_rpc=debug"])), Ok(before));
    // It says so by the new filter already.
    node.logs(&["WARN", "has changed what is logged"]);
    let foreign = json!({ "jsonrpc": "2.0", "id": 1, "method": "debug_counts" });
    assert_eq!(post_to(&rpc, "evil.example", &foreign).unwrap().0, 403);
    node.logs(&["DEBUG", "a request is refused"]);
    node.terminate();
    drop(node.stdout.take());
    assert!(node.ended().success());
    assert!(!node.log.iter().any(|line| line.contains("shutting down")), "p2p_node=info is off");
}
