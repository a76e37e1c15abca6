//! Options of peers, of the log, and of rules that are loosened: what an operator sees of them.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::rig::{CHAIN, LOOPBACK, NODE, Node, expect, get, get_json, within};

const STATUS: [&str; 2] = ["--status.addr", "127.0.0.1:0"];

#[test]
fn a_loosened_rule_is_loosened_by_name_only_and_shown() {
    let leniencies = |options: &[&str]| {
        let mut node = Node::run(&[&STATUS, options].concat());
        let address = node.started()["status"].clone();
        let status = within("its status", || {
            let (code, status) = get_json(&address, "/status");
            (code == 200).then_some(status)
        });
        let shown = status["policies"]["leniencies"].clone();
        node.stop();
        let shown: Vec<_> =
            shown.as_array().unwrap().iter().map(|of| of.as_str().unwrap().to_owned()).collect();
        shown
    };
    let any_signer = "ANY SIGNER IS ACCEPTED: for laboratories only";
    assert_eq!(leniencies(&[]), [any_signer]);
    let zero_parent = "a zero parent hash follows the height, without linkage";
    let shown = leniencies(&["--leniency", "zero-parent"]);
    assert!(shown.len() == 2 && shown.iter().any(|of| of == zero_parent), "{shown:?}");
    assert_eq!(leniencies(&["--leniency", "zero-parent,invalid-gossip"]).len(), 3);
    let unknown = [&CHAIN[..], &["--leniency", "everything"]].concat();
    expect(2, &unknown, &["--leniency", "`everything`", "`zero-parent`", "`invalid-gossip`"]);
}

#[test]
fn only_peers_in_the_named_networks_come_in() {
    let connected = |networks: &str| {
        let metrics = ["--metrics.addr", "127.0.0.1:0", "--p2p.netrestrict", networks];
        let mut node = Node::run(&[&STATUS[..], &metrics].concat());
        let started = node.started();
        let address = started["listen"][0].as_str().unwrap();
        let peer = Node::run(&["--p2p.static", address]);
        let is_in = within("a connection, or a refusal", || {
            let (_, metrics) = get(&started["metrics"], "/metrics")?;
            let refused = metrics.contains("p2p_connections_refused_total{limit=\"blocked\"}");
            let (_, status) = get_json(&started["status"], "/status");
            let is_in = status["peers"].as_array().is_some_and(|peers| !peers.is_empty());
            (refused || is_in).then_some(is_in)
        });
        peer.stop();
        node.stop();
        is_in
    };
    assert!(!connected("10.0.0.0/8,2001:db8::/32"));
    assert!(connected("127.0.0.0/8"));
    let wrong = [&CHAIN[..], &["--p2p.netrestrict", "10.0.0.0/99"]].concat();
    expect(2, &wrong, &["--p2p.netrestrict", "`10.0.0.0/99`", "10.0.0.0/8"]);
}

#[test]
fn a_trusted_peer_is_protected_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let datadir = ["--datadir", folder.path().to_str().unwrap()];
    let mut peer = Node::run(&datadir);
    let id = peer.started()["peer"].as_str().unwrap().to_owned();
    peer.stop();
    let protected = |options: &[&str]| {
        let mut node = Node::run(&[&STATUS, options].concat());
        let started = node.started();
        let peer =
            Node::run(&[&datadir[..], &["--p2p.static", started["listen"][0].as_str().unwrap()]].concat());
        let protected = within("the peer", || {
            let (_, status) = get_json(&started["status"], "/status");
            let peer = status["peers"].as_array()?.iter().find(|of| of["peer"] == id.as_str())?.clone();
            assert_eq!(peer["inbound"], true, "{peer}");
            peer["protected"].as_bool()
        });
        peer.stop();
        node.stop();
        protected
    };
    assert!(!protected(&[]));
    assert!(protected(&["--p2p.trusted", &id]));
}

#[test]
fn known_peers_are_kept_where_the_option_says() {
    let folder = tempfile::tempdir().unwrap();
    let (datadir, peers) = (folder.path().join("data"), folder.path().join("peers"));
    let options = ["--datadir", datadir.to_str().unwrap(), "--p2p.peerstore.path", peers.to_str().unwrap()];
    let mut node = Node::run(&options);
    node.started();
    assert!(peers.join("started").is_file());
    assert!(datadir.join("chain").is_dir() && !datadir.join("network").exists());
    node.stop();
    fs::write(folder.path().join("file"), "").unwrap();
    let inside = folder.path().join("file/peers");
    let nowhere = [&CHAIN[..], &LOOPBACK, &["--p2p.peerstore.path", inside.to_str().unwrap()]].concat();
    expect(1, &nowhere, &["--p2p.peerstore.path", "Not a directory"]);
}

#[test]
fn settings_of_peers_that_cannot_work_are_told_in_the_words_of_the_options() {
    for (options, words) in [
        (&["--p2p.peers.lo", "31"][..], "--p2p.peers.lo 31: is above --p2p.peers.hi, which is 30"),
        (&["--p2p.ban.threshold", "-1"], "--p2p.ban.threshold -1: must be -5 or less"),
        (&["--p2p.ban.duration", "100years"], "--p2p.ban.duration"),
    ] {
        expect(1, &[&CHAIN[..], &LOOPBACK, options].concat(), &[words]);
    }
    expect(
        2,
        &[&CHAIN[..], &["--p2p.peers.grace", "soon"]].concat(),
        &["--p2p.peers.grace", "expected number"],
    );
    expect(2, &[&CHAIN[..], &["--p2p.trusted", "me"]].concat(), &["--p2p.trusted", "`me` is no peer id"]);
}

#[test]
fn the_log_is_text_or_json_and_as_long_as_is_said() {
    let node = Node::run(&["--log.format", "json"]);
    let line: Value = serde_json::from_str(&node.logs(&["running"])).unwrap();
    assert_eq!(
        (&line["level"], &line["message"], &line["peers"]),
        (&"INFO".into(), &"running".into(), &0.into())
    );
    assert!(line["timestamp"].is_string() && line["target"] == "p2p_node::run::report", "{line}");
    node.stop();

    let said = |options: &[&str], variable: Option<&str>| {
        let mut command = Command::new(NODE);
        command
            .args([&CHAIN[..], &["--p2p.listen.ip", "192.0.2.1", "--p2p.listen.tcp", "0"], options].concat());
        command.env_remove("RUST_LOG").envs(variable.map(|value| ("RUST_LOG", value)));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // Whoever reads JSON reads what ends the node, too.
    for line in said(&["--log.format", "json"], None).lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    let warnings = said(&["--log.level", "warn"], None);
    assert!(said(&[], None).contains(" INFO ") && !warnings.contains(" INFO "), "{warnings}");
    let quiet = Node::run(&["--log.level", "warn"]);
    quiet.logs(&["WARN", "ANY SIGNER"]);
    quiet.stop();
    let everything = [&CHAIN[..], &LOOPBACK, &["--log.level", "debug"]].concat();
    let node = Node::spawn(NODE, &everything, Stdio::null());
    node.logs(&["DEBUG", "p2p_client"]);
    node.stop();
    assert_eq!(said(&["--log.level", "error"], None).lines().count(), 1);
    assert_eq!(said(&["--log.filter", "off"], Some("info")).lines().count(), 1);
    assert_eq!(said(&[], Some("off")).lines().count(), 1);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "log.filter = \"off\"\n").unwrap();
    let named = ["--config", file.to_str().unwrap()];
    assert_eq!(said(&named, None).lines().count(), 1);
    // It is a variable, and so goes before the file.
    assert!(said(&named, Some("info")).contains(" INFO "));

    expect(2, &[&CHAIN[..], &["--log.level", "loud"]].concat(), &["--log.level", "`trace`"]);
    expect(
        2,
        &[&CHAIN[..], &["--log.filter", "p2p_node=loud"]].concat(),
        &["--log.filter", "a list of levels"],
    );
    expect(2, &[&CHAIN[..], &["--log.format", "xml"]].concat(), &["--log.format", "`json`"]);
}
