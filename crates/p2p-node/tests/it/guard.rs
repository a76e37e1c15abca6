//! Two nodes with one key and one signing guard.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use p2p_fixtures::postgres::Server;
use serde_json::{Value, json};

use crate::{
    rig::{CHAIN, LOOPBACK, NODE, Node, expect, get_json, within},
    rpc::{block, call},
};

fn node(datadir: &Path, options: &[&str]) -> Node {
    let datadir = datadir.to_str().unwrap();
    Node::run(&[&["--datadir", datadir, "--rpc.port", "0"], options].concat())
}

/// What `p2p-node lease` says.
fn lease(command: &str, url: &str) -> Value {
    // Not on the command line, where it would be in the list of processes.
    let answer = Command::new(NODE).args(["lease", command]).env("P2P_NODE_GUARD_URL", url).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    serde_json::from_slice(&answer.stdout).unwrap()
}

/// What publishing ends in, once the node is ready to.
fn publish(rpc: &Value, block: &Value) -> Result<Value, Value> {
    within("an answer", || {
        let answer = call(rpc, "preconf_publishBlock", block.clone());
        let is_early = answer.as_ref().is_err_and(|error| error["code"] == -32021);
        (!is_early).then_some(answer)
    })
}

#[test]
fn of_two_nodes_with_one_key_the_leader_publishes_and_the_other_takes_over() {
    let Some(server) = Server::start() else { return };
    let (url, folders) = (server.url(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let mut a = node(folders[0].path(), &["--guard.url", &url, "--guard.node", "a"]);
    let at_a = a.started()["rpc"].clone();
    let status = within("a leader", || Some(lease("status", &url)).filter(|status| status["held"] == true));
    assert_eq!((&status["node"], &status["token"]), (&json!("a"), &json!(1)));
    let mut b =
        node(folders[1].path(), &["--guard.url", &url, "--guard.node", "b", "--status.addr", "127.0.0.1:0"]);
    let started = b.started();
    let (at_b, page_of_b) = (started["rpc"].clone(), started["status"].clone());

    let ((block_a, hash_a), (block_b, _)) = (block(11, B256::ZERO, 1), block(11, B256::ZERO, 2));
    publish(&at_a, &block_a).unwrap();
    let refused = publish(&at_b, &block_b).unwrap_err();
    assert_eq!(refused["code"], -32028, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("a does"), "{refused}");

    // Both say who leads and why, over RPC and on their pages.
    let led = json!({ "role": "leader", "leader": "a", "token": 1, "why": "first" });
    let lease_at = |rpc: &Value| call(rpc, "preconf_status", json!([])).unwrap()["lease"].clone();
    within("what a says", || (lease_at(&at_a) == led).then_some(()));
    let follows = json!({ "role": "standby", "leader": "a", "token": 1, "why": "other" });
    within("what b says", || (lease_at(&at_b) == follows).then_some(()));
    assert_eq!(get_json(&page_of_b, "/status").1["lease"], follows);

    // For an upgrade of a: b takes over, and is bound by what a has signed, of which its own store knows nothing.
    assert_eq!(lease("release", &url), json!({ "released": "a" }));
    let status =
        within("the other one", || Some(lease("status", &url)).filter(|status| status["node"] == "b"));
    assert_eq!((&status["held"], &status["token"]), (&json!(true), &json!(2)));
    let refused = within("an answer of the leader", || {
        publish(&at_b, &block_b).err().filter(|error| error["code"] != -32028)
    });
    assert_eq!(refused["code"], -32020, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(&hash_a.to_string()), "{refused}");
    publish(&at_b, &block_a).unwrap();
    publish(&at_b, &block(12, hash_a, 1).0).unwrap();
    assert_eq!(publish(&at_a, &block(12, hash_a, 2).0).unwrap_err()["code"], -32028);

    // A node that is told to stop lets go at once.
    a.stop();
    b.stop();
    let status = lease("status", &url);
    assert_eq!(
        (&status["node"], &status["held"], &status["released"]),
        (&json!("b"), &json!(false), &json!(true))
    );
}

#[test]
fn when_the_leader_is_killed_the_other_publishes_within_a_slot() {
    let Some(server) = Server::start() else { return };
    let (url, folders) = (server.url(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let mut a = node(folders[0].path(), &["--guard.url", &url, "--guard.node", "a"]);
    let at_a = a.started()["rpc"].clone();
    let ((block_a, hash_a), (block_b, _)) = (block(11, B256::ZERO, 1), block(11, B256::ZERO, 2));
    within("a leader", || publish(&at_a, &block_a).ok());
    let mut b = node(folders[1].path(), &["--guard.url", &url, "--guard.node", "b"]);
    let at_b = b.started()["rpc"].clone();
    assert_eq!(publish(&at_b, &block_a).unwrap_err()["code"], -32028);

    a.child.kill().unwrap();
    let killed = Instant::now();
    within("the block of the other one", || publish(&at_b, &block_a).ok());
    publish(&at_b, &block(12, hash_a, 1).0).unwrap();
    let took = killed.elapsed();
    println!("take-over after kill -9 of a node: {took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(publish(&at_b, &block_b).unwrap_err()["code"], -32020);
}

#[test]
fn a_guard_that_cannot_guard_is_refused() {
    let Some(server) = Server::start() else { return };
    let (url, folder) = (server.url(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let datadir = path("data");
    let node = |options: &[&'static str], words: &[&str]| {
        let publishes = ["--datadir", &datadir, "--rpc.port", "0", "--guard.url", &url];
        expect(1, &[&CHAIN[..], &LOOPBACK, &publishes, options].concat(), words);
    };
    fs::write(path("open"), "s3cret").unwrap();
    node(&["--guard.password-file", "/no/such"], &["--guard.password-file /no/such", "No such file"]);
    node(&["--guard.ca", "/no/such"], &["--guard.url", "/no/such", "docs/high-availability.md"]);
    node(&["--guard.schema", "no-schema"], &["--guard.url", "no-schema"]);
    let idle = ["--guard.url", &url];
    expect(1, &[&CHAIN[..], &LOOPBACK, &idle].concat(), &["--guard.url", "publishes nothing"]);
    // Another chain has made it.
    let another = ["--datadir", &datadir, "--rpc.port", "0", "--chain-id", "1", "--guard.url", &url];
    let elsewhere = path("elsewhere");
    let mut first = Node::run(&["--datadir", &elsewhere, "--rpc.port", "0", "--guard.url", &url]);
    first.started();
    first.stop();
    expect(1, &[&CHAIN[..], &LOOPBACK, &another].concat(), &["guards chain 167000, not chain 1"]);
    drop(server);
    node(&[], &["--guard.url", "failed"]);
}

#[test]
fn the_password_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "s3cret").unwrap();
    let file = file.to_str().unwrap();
    let url = "postgres://guard:s3cret@db.example.org/guard";
    let options = [&CHAIN[1..], &["--guard.url", url, "--guard.password-file", file]].concat();
    let printed =
        Command::new(NODE).args(["config", "print"]).args(options).stdin(Stdio::null()).output().unwrap();
    let said = format!("{printed:?}");
    assert!(printed.status.success() && said.contains("postgres://db.example.org/"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    // Nor may others read it.
    let started =
        [&CHAIN[..], &LOOPBACK, &["--forget-on-restart", "--rpc.port", "0", "--guard.url", url]].concat();
    expect(1, &[&started[..], &["--guard.password-file", file]].concat(), &["chmod 600"]);
}
