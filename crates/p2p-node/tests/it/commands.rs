//! `p2p-node publish` and `sync`, beside a node that runs.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use p2p_types::B256;
use serde_json::{Value, json};

use crate::{
    rig::{CHAIN, LOOPBACK, NODE, Node, within},
    rpc::{block, node},
};

fn output(options: &[&str], input: &str) -> Output {
    let mut command = Command::new(NODE);
    let command = command.args(options).env("RUST_LOG", "error").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A block as a line of a file.
fn line(params: &Value) -> String {
    format!("{}\n", json!({ "commitment": params[0]["commitment"], "txlist": params[0]["txList"] }))
}

/// Options of `sync` beside a node.
fn sync<'a>(datadir: &'a Path, peer: &'a str) -> Vec<&'a str> {
    let options = ["--datadir", datadir.to_str().unwrap(), "--p2p.static", peer];
    [&["sync"], &CHAIN[1..], &LOOPBACK, &options].concat()
}

#[test]
fn blocks_are_published_through_a_node_and_synced_from_it() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut running = node(folders[0].path(), &[]);
    let started = running.started();
    let url = format!("http://{}", started["rpc"].as_str().unwrap());
    let (first, parent) = block(11, B256::ZERO, 1);
    let (second, hash) = block(12, parent, 1);
    let file = folders[0].path().join("blocks.jsonl");
    fs::write(&file, line(&first) + "\n" + &line(&second)).unwrap();
    // It has to notice first that it is alone.
    let published = within("a node that publishes", || {
        let published = output(&["publish", "--rpc", &url, file.to_str().unwrap()], "");
        published.status.success().then_some(published)
    });
    let told: Vec<Value> =
        String::from_utf8(published.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|of| of["outcome"].is_string()), "{told:?}");

    let contradicting =
        output(&["publish", "--rpc", &url, "-"], &("\n".to_owned() + &line(&block(11, B256::ZERO, 2).0)));
    assert_eq!(contradicting.status.code(), Some(1));
    assert!(
        said(&contradicting).starts_with("error: line 2: refused, code -32020: "),
        "{}",
        said(&contradicting)
    );

    let peer = started["listen"][0].as_str().unwrap();
    // The second time there is nothing to fetch.
    for _ in 0..2 {
        let synced = output(&sync(folders[1].path(), peer), "");
        assert!(synced.status.success(), "{}", said(&synced));
        let line: Value = serde_json::from_slice(&synced.stdout).unwrap();
        assert_eq!(line, json!({ "event": "synced", "head": { "number": 12, "hash": hash } }));
    }
    running.stop();
    // What was synced is served by a node on the same directory.
    let mut again = node(folders[1].path(), &[]);
    assert_eq!(again.started()["head"]["number"], 12);
    again.stop();
}

#[test]
fn what_cannot_be_published_or_synced_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let good = line(&block(11, B256::ZERO, 1).0);
    for (options, input, words) in [
        (&["publish", missing][..], "", missing),
        (&["publish", "--rpc.jwt-secret", missing, "-"], "", "there is no such file"),
        (&["publish", "-"], "{}", "line 1: not {\"commitment\": hex, \"txlist\": hex}"),
        (&["publish", "--rpc", &nobody, "-"], &good, "does not answer"),
        (&[&["sync"], &CHAIN[1..], &LOOPBACK].concat(), "", "sync needs --datadir"),
    ] {
        let ended = output(options, input);
        assert_eq!(ended.status.code(), Some(1), "{options:?}");
        let said = said(&ended);
        assert!(said.contains(words) && said.lines().count() == 1, "{options:?}: {said}");
    }
}

#[test]
fn a_sync_that_is_stopped_says_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "/ip4/127.0.0.1/tcp/1";
    let mut node = Node::spawn(NODE, &sync(folder.path(), nobody), Stdio::null());
    node.logs(&["listening"]);
    node.terminate();
    assert_eq!(node.ended().code(), Some(1));
    node.logs(&["stopped before it had caught up"]);
}

/// Whether no thread of a process runs, as far as the system tells: a signal to halt is sent before it is obeyed.
fn is_halted(process: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.map_while(Result::ok).all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    })
}

/// Both signals wait for a process that is halted, so that the second one is there when the first is answered.
#[test]
fn a_second_signal_ends_the_shutdown() {
    let mut node = Node::run(&[]);
    node.started();
    let process = node.child.id().to_string();
    let kill =
        |signal: &str| assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    kill("-STOP");
    within("a halted process", || is_halted(&process).then_some(()));
    ["-TERM", "-INT", "-CONT"].into_iter().for_each(kill);
    assert_eq!(node.ended().code(), Some(1));
    node.logs(&["stopped by a second signal"]);
}
