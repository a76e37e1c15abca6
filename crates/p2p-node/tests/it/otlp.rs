//! Spans of a node, as a collector receives them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
};

use alloy_primitives::B256;
use serde_json::json;

use crate::{
    rig::{DEADLINE, within},
    rpc::{block, call, node},
};

/// A collector that takes everything: its URL, and the first line and the body of each request.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (requests, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let requests = requests.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).is_ok_and(|read| read == 0) {
                            return;
                        }
                    }
                    let head = head.to_ascii_lowercase();
                    let (_, length) = head.split_once("content-length:").unwrap();
                    let length = length.lines().next().unwrap().trim().parse().unwrap();
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let line = head.lines().next().unwrap().to_owned();
                    drop(requests.send((line, body)));
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (url, received)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn the_span_of_a_publication_reaches_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (url, received) = collector();
    let mut node = node(folder.path(), &["--otlp.endpoint", &url, "--log.level", "error"]);
    let rpc = node.started()["rpc"].clone();
    within("a publication", || call(&rpc, "preconf_publishBlock", block(11, B256::ZERO, 1).0).ok());
    // What is left is sent at the end.
    node.stop();
    let mut sent = Vec::new();
    while let Ok((line, body)) = received.recv_timeout(DEADLINE) {
        assert_eq!(line, "post /v1/traces http/1.1");
        assert!(contains(&body, "p2p-node"), "the name of the service");
        sent.push(body);
        if sent.iter().any(|body| contains(body, "publish") && contains(body, "outcome")) {
            return;
        }
    }
    panic!("{} requests without the span", sent.len());
}

#[test]
fn a_node_runs_without_its_collector() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(folder.path(), &["--otlp.endpoint", "http://127.0.0.1:1/v1/traces"]);
    let rpc = node.started()["rpc"].clone();
    // The base is taken after the start.
    within("the base", || call(&rpc, "preconf_tip", json!([])).ok().filter(|tip| tip == "0xa"));
    node.stop();
}
