//! How a node starts, what it logs, and how it ends.

use std::{
    io::Read as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::rig::{DEADLINE, Node, fifo};

/// In a container nobody but the node itself can answer SIGTERM, and its start may take minutes.
#[test]
fn a_signal_while_it_starts_ends_the_node_well() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = fifo(folder.path(), 0o600);
    let mut node = Node::run(&["--p2p.priv.path", &pipe]);
    node.logs(&["INFO", "starting"]);
    let begun = Instant::now();
    node.terminate();
    assert!(node.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "it did not wait for the pipe");
}

/// Nothing happens that would be written, and still it is noticed that nobody would read it.
#[test]
fn a_closed_stdout_ends_the_node_on_a_quiet_network() {
    let mut node = Node::run(&[]);
    node.started();
    node.logs(&["running"]);
    drop(node.stdout.take());
    let begun = Instant::now();
    assert!(node.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_log_tells_of_peers_head_and_lag_unless_it_is_told_not_to() {
    let node = Node::run(&[]);
    node.logs(&["INFO", "running", "peers=0", "sync="]);
    node.stop();
    let mut node = Node::after("export RUST_LOG=error", &[]);
    node.started();
    node.terminate();
    assert!(node.ended().success());
    assert_eq!(node.log.iter().collect::<String>(), "");
}

/// Whoever connects and says nothing takes a file for three seconds.
#[test]
fn a_node_that_has_run_out_of_files_says_so_once() {
    let mut node = Node::after("ulimit -n 64", &[]);
    let address = node.started()["listen"][0].as_str().unwrap().to_owned();
    let port = address.split('/').nth(4).unwrap().parse().unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    node.logs(&["WARN", "cannot be accepted"]);
    // All have been accepted at last, and closed.
    for mut connection in silent {
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        drop(connection.read(&mut [0]));
    }
    node.terminate();
    drop(node.stdout.take());
    assert!(node.ended().success());
    let again: Vec<_> = node.log.iter().filter(|line| line.contains("cannot be accepted")).collect();
    assert!(again.is_empty(), "{again:?}");
}
