//! What a service manager, a container and Prometheus are told of a node.

use std::{fs, os::unix::net::UnixDatagram, process::Command};

use serde_json::Value;

use crate::rig::{DEADLINE, NODE, Node, ZERO, get, within};

/// The address that a node says it listens on.
fn address<'a>(started: &'a Value, endpoint: &str) -> &'a str {
    started[endpoint].as_str().unwrap()
}

/// How `health` ends, and what it says.
fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(NODE).arg("health").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn health_tells_a_node_that_runs_from_one_that_is_ready() {
    let mut node = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let started = node.started();
    let status = address(&started, "status");
    assert_eq!(health(&[status]), (Some(0), String::new()));
    let (code, said) = health(&[status, "--ready"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/readyz answers 503") && said.contains("no_peers"), "{said}");
    let status = status.to_owned();
    node.stop();
    let (code, said) = health(&[&status]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&status) && said.contains("does not answer"), "{said}");
    assert_eq!(health(&["nobody"]).0, Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let environment = format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=300000", path.display());
    let mut node = Node::after(&environment, &[]);
    node.started();
    let first = told();
    assert_eq!(first, "READY=1\n");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    node.terminate();
    while told() != "STOPPING=1\n" {}
    drop(node.stdout.take());
    assert!(node.ended().success());
}

#[test]
fn prometheus_is_told_of_readiness_disk_and_turn() {
    let folder = tempfile::tempdir().unwrap();
    let datadir = folder.path().join("data");
    let metrics = ["--metrics.addr", "127.0.0.1:0", "--metrics.signer", ZERO];
    let mut node = Node::run(&[&metrics[..], &["--datadir", datadir.to_str().unwrap()]].concat());
    let started = node.started();
    let value = |series: &str| {
        let text = within("metrics", || get(&started["metrics"], "/metrics")).1;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")).map(str::to_owned));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    let free = within("the free disk", || value("p2p_node_datadir_free_bytes"));
    assert!(free > 1e6, "{free}");
    assert_eq!(value("p2p_node_ready"), Some(0.0));
    // An open schedule elects the zero address always.
    assert_eq!(value("p2p_node_turn_seconds"), Some(0.0));
    assert_eq!(value(&format!("p2p_node_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), Some(1.0));
    node.stop();
    assert!(fs::exists(datadir.join("p2p.key")).unwrap());
}
