//! The HTTP endpoints: what they tell, and that nobody who reaches them can end the node.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::rig::{DEADLINE, LOOPBACK, NODE, Node, ZERO, fifo, get, get_json, now, within};

/// Open files of a process.
fn files(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.child.id())).unwrap().count()
}

/// A process of 256 files, and 400 connections that say nothing.
#[test]
fn whoever_reaches_the_status_can_neither_end_the_node_nor_keep_probes_out() {
    let mut node = Node::after("ulimit -n 256", &["--status.addr", "127.0.0.1:0"]);
    node.logs(&["WARN", "256 files", "ulimit -n"]);
    let status = node.started()["status"].clone();
    let quiet = files(&node);
    let mut idle = Vec::new();
    for number in 0..400 {
        idle.push(TcpStream::connect(status.as_str().unwrap()).unwrap());
        if number % 40 == 0 {
            assert_eq!(get(&status, "/healthz").unwrap().0, 200, "with {number} idle connections");
            assert!(files(&node) <= quiet + 16 + 4, "{} files", files(&node));
        }
    }
    assert_eq!(get_json(&status, "/status").0, 200);
    // Half a request is no reason to wait indefinitely, nor is one that reads nothing.
    let mut half = TcpStream::connect(status.as_str().unwrap()).unwrap();
    half.write_all(b"GET /status HTTP/1.1\r\nHost:").unwrap();
    let begun = Instant::now();
    half.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).ok();
    assert!(begun.elapsed() < Duration::from_secs(20));
    node.stop();
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let mut node = Node::after("ulimit -S -n 64", &[]);
    node.started();
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = files.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft > 64, "{files}");
    node.stop();
}

/// The process lives from the first moment on; it is ready once it follows the chain with others.
#[test]
fn readiness_is_the_truth_and_health_is_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let later = folder.path().join("later.json");
    let slot = json!([{ "signer": ZERO, "start": now() + 3600, "end": now() + 7200 }]);
    fs::write(&later, slot.to_string()).unwrap();
    let lookahead = format!("file:{}", later.display());
    let options =
        ["run", "--domain", "placeholder", "--slasher", ZERO, "--lookahead", &lookahead, "--base=10"];
    let options = [&options[..], &LOOPBACK, &["--status.addr", "127.0.0.1:0"]].concat();
    let mut node = Node::spawn(NODE, &options, Stdio::null());
    let status = node.started()["status"].clone();
    assert_eq!(get(&status, "/healthz").unwrap().0, 200);
    let (code, body) = get_json(&status, "/readyz");
    let reasons: Vec<_> = body["reasons"].as_array().unwrap().iter().map(|of| &of["reason"]).collect();
    assert_eq!((code, &body["ready"]), (503, &json!(false)));
    assert_eq!(reasons, ["not_live", "no_peers", "schedule_unknown"], "{body}");
    node.stop();

    let mut first = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let started = first.started();
    let peer = started["listen"][0].as_str().unwrap();
    let mut second = Node::run(&["--status.addr", "127.0.0.1:0", "--p2p.static", peer]);
    let status = second.started()["status"].clone();
    let ready = within("readiness", || Some(get_json(&status, "/readyz")).filter(|(code, _)| *code == 200));
    assert_eq!(ready.1, json!({ "ready": true, "reasons": [] }));

    // Its last peer goes, and so does its readiness.
    first.stop();
    let gone =
        within("the peer's end", || Some(get_json(&status, "/readyz")).filter(|(code, _)| *code == 503));
    assert!(gone.1["reasons"].as_array().unwrap().iter().any(|of| of["reason"] == "no_peers"), "{gone:?}");
    second.stop();
}

/// While a node opens its files, probes are answered; the status comes later.
#[test]
fn a_node_that_starts_is_healthy_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = fifo(folder.path(), 0o600);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let status = json!(free.local_addr().unwrap().to_string());
    drop(free);
    let key = ["--p2p.priv.path", pipe.as_str(), "--status.addr", status.as_str().unwrap()];
    let node = Node::run(&key);
    let health = within("health", || get(&status, "/healthz"));
    assert_eq!(health.0, 200);
    assert_eq!(
        get_json(&status, "/readyz"),
        (503, json!({ "ready": false, "reasons": [{ "reason": "starting" }] }))
    );
    assert_eq!(get(&status, "/status").unwrap().0, 503);
    node.stop();
}

#[test]
fn the_status_tells_when_its_peers_were_asked_for() {
    let mut node = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let status = node.started()["status"].clone();
    let at = |(code, body): (u16, Value)| (code == 200).then(|| body["peers_at"].as_u64().unwrap());
    let first = within("a first look", || at(get_json(&status, "/status")).filter(|at| *at > 0));
    assert!(first.abs_diff(now()) <= 60);
    within("a second look", || at(get_json(&status, "/status")).filter(|at| *at > first));
    node.stop();
}
