//! A node that is killed, or told to stop, while blocks are published over JSON-RPC: what was acknowledged is there afterwards.
//!
//! `cargo xtask crash --node` runs this with more cycles (`KILL_CYCLES`, `KILL_SEED`).

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use preconfirmation_types::B256;
use serde_json::{Value, json};

use crate::{
    rig::{DEADLINE, NODE, Node, now, within},
    rpc::{block_in, call},
};

/// Cycles over one store: old enough to have grown, short enough to be read whole at its end.
const CYCLES_OF_A_STORE: u32 = 25;

/// The settled block.
const BASE: u64 = 10;

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At once, by SIGKILL.
    Killed,
    /// In order, by SIGTERM.
    Told,
}

/// What was acknowledged: a chain from the block after the base on.
#[derive(Debug)]
struct Acknowledged {
    window_end: u64,
    /// Preconfirmation hashes.
    hashes: Vec<B256>,
}

impl Acknowledged {
    fn new() -> Self {
        Self { window_end: now() + 600, hashes: Vec::new() }
    }

    /// The block at an index, on the one before it. Another salt makes another block.
    fn block(&self, index: usize, salt: u8) -> (Value, B256) {
        let number = BASE + 1 + u64::try_from(index).unwrap();
        let parent = index.checked_sub(1).map(|below| self.hashes[below]).unwrap_or_default();
        block_in(self.window_end, number, parent, salt)
    }

    /// How many of those from an index on the node has not, whole.
    fn lost(&self, rpc: &Value, from: usize) -> u64 {
        let mut lost = 0;
        for (index, hash) in self.hashes.iter().enumerate().skip(from) {
            let (params, _) = self.block(index, 1);
            let there = call(rpc, "preconf_getBlock", json!([hash])).is_ok_and(|found| {
                (&found["commitment"], &found["txList"]) == (&params[0]["commitment"], &params[0]["txList"])
            });
            if !there {
                lost += 1;
                eprintln!("lost: the block {index} above the base, {hash}");
            }
        }
        lost
    }
}

/// A connection over which one call follows the other. None where the node is gone.
struct Connection(BufReader<TcpStream>, String);

impl Connection {
    fn open(address: &Value) -> Option<Self> {
        let address = address.as_str().unwrap();
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self(BufReader::new(stream), address.to_owned()))
    }

    fn publish(&mut self, params: &Value) -> Option<Value> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "preconf_publishBlock", "params": params });
        let body = call.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.1,
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes()).ok()?;
        let (mut line, mut length) = (String::new(), None);
        loop {
            line.clear();
            // An end of the stream is an answer that was not given.
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse().ok();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length?];
        self.0.read_exact(&mut body).ok()?;
        serde_json::from_slice(&body).ok()
    }
}

/// Publishes block after block until the node is gone, and notes what it acknowledges.
fn publish(rpc: &Value, acknowledged: &mut Acknowledged, begun: &AtomicBool) {
    let Some(mut connection) = Connection::open(rpc) else { return };
    loop {
        let index = acknowledged.hashes.len();
        let (params, hash) = acknowledged.block(index, 1);
        let Some(answer) = connection.publish(&params) else { return };
        match answer["error"]["code"].as_i64() {
            None => {
                assert_eq!(answer["result"]["txListHash"], params[0]["txListHash"], "{answer}");
                acknowledged.hashes.push(hash);
                begun.store(true, Ordering::Release);
            }
            // It does not know yet that it is alone.
            Some(-32021) => thread::sleep(Duration::from_millis(5)),
            Some(_) => panic!("the block {index} above the base: {answer}"),
        }
    }
}

/// Starts a node, has it publish, and ends it after a while. Returns how many acknowledged blocks were lost before that, of
/// those from an index on.
fn cycle(folder: &Path, acknowledged: &mut Acknowledged, from: usize, end: End, pause: Duration) -> u64 {
    let datadir = folder.to_str().unwrap();
    let mut node = Node::run(&["--datadir", datadir, "--rpc.port", "0"]);
    let rpc = node.started()["rpc"].clone();
    let lost = acknowledged.lost(&rpc, from);
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&rpc, acknowledged, &begun));
        within("a first block", || (begun.load(Ordering::Acquire) || publishing.is_finished()).then_some(()));
        thread::sleep(pause);
        match end {
            End::Killed => node.child.kill().unwrap(),
            End::Told => node.terminate(),
        }
        publishing.join().unwrap();
    });
    drop(node.stdout.take());
    assert_eq!(node.ended().success(), end == End::Told, "{end:?}");
    lost
}

/// A number that the environment may set.
fn setting(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_node_is_killed_or_told_to_stop() {
    let (cycles, seed) = (setting("KILL_CYCLES", 4), setting("KILL_SEED", 1));
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let (mut blocks, mut lost, mut done) = (0, 0, 0);
    while done < cycles {
        let folder = tempfile::tempdir().unwrap();
        let (mut acknowledged, mut from) = (Acknowledged::new(), 0);
        for _ in 0..CYCLES_OF_A_STORE.min(cycles - done) {
            let end = if done % 2 == 0 { End::Killed } else { End::Told };
            let pause = Duration::from_micros(rng.u64(0..300_000));
            let before = acknowledged.hashes.len();
            lost += cycle(folder.path(), &mut acknowledged, from, end, pause);
            assert!(acknowledged.hashes.len() > before, "nothing was published");
            from = before;
            done += 1;
        }
        lost += read_whole(folder.path(), &acknowledged);
        blocks += acknowledged.hashes.len();
    }
    println!("{}", json!({ "cycles": done, "acknowledged": blocks, "lost": lost }));
    assert_eq!(lost, 0);
}

/// How much of what was ever acknowledged is not there at last. The signer is bound by it, and the store is sound.
fn read_whole(folder: &Path, acknowledged: &Acknowledged) -> u64 {
    let datadir = folder.to_str().unwrap();
    let mut node = Node::run(&["--datadir", datadir, "--rpc.port", "0"]);
    let rpc = node.started()["rpc"].clone();
    let lost = acknowledged.lost(&rpc, 0);
    let last = acknowledged.hashes.len() - 1;
    let (other, _) = acknowledged.block(last, 2);
    let refused = within("an answer", || {
        call(&rpc, "preconf_publishBlock", other.clone()).err().filter(|error| error["code"] != -32021)
    });
    assert_eq!(refused["code"], -32020, "{refused}");
    assert!(
        refused["message"].as_str().unwrap().contains(&acknowledged.hashes[last].to_string()),
        "{refused}"
    );
    node.stop();
    let verified = Command::new(NODE).args(["db", "verify"]).arg(folder.join("chain")).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    lost
}
