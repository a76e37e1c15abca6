//! How a node starts, what it logs, and how it ends.

use std::time::{Duration, Instant};

use crate::rig::{Node, fifo};

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
