//! Clients in other languages than this one, as `examples/` has them, and curl: what they see of two nodes that start from
//! nothing, one of which is restarted.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use preconfirmation_types::B256;
use serde_json::{Value, json};

use crate::{
    rig::{DEADLINE, Node, now, within},
    rpc::block_in,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether a command can be run and succeeds.
fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What there is or not. Where it is not, a test says so and passes, but in a gate.
fn there<T>(what: &str, found: Option<T>) -> Option<T> {
    let is_gate = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(found.is_some() || !is_gate, "no {what}: `cargo xtask clients` installs it");
    if found.is_none() {
        eprintln!("skipped: no {what}; `cargo xtask clients` installs it");
    }
    found
}

/// Python that has `websockets`, where there is one.
fn python() -> Option<Command> {
    let packages = root().join("target/clients/python");
    let python = || {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages);
        python
    };
    there("Python with websockets", succeeds(python().args(["-c", "import websockets"])).then(python))
}

/// Node.js that runs TypeScript as it is, where there is one.
fn node_js() -> Option<Command> {
    let packages = fs::read_dir(root().join("target/clients/node_modules")).into_iter().flatten().flatten();
    let installed = packages.map(|package| package.path().join("bin/node"));
    let check = "process.exit(process.features.typescript && globalThis.WebSocket ? 0 : 1)";
    let found = installed
        .chain([PathBuf::from("node")])
        .find(|program| succeeds(Command::new(program).args(["-e", check])));
    there("Node.js of 22.18 or later", found.map(Command::new))
}

/// A client that follows a node. It ends with this.
struct Follower {
    child: Child,
    lines: Receiver<Value>,
}

impl Follower {
    fn start(mut program: Command, example: &str, rpc: &str) -> Self {
        let url = format!("ws://{rpc}");
        let follow = program.arg(root().join("examples").join(example)).args([&url, "11"]);
        let mut child = follow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(serde_json::from_str(&line).unwrap()))
        });
        Self { child, lines }
    }

    /// The next block that it has written is this one, complete.
    fn has(&self, number: u64, hash: B256, params: &Value) {
        let block =
            self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("block {number} did not come"));
        let (height, hash) = (json!(format!("{number:#x}")), json!(hash));
        assert_eq!((&block["block"], &block["hash"]), (&height, &hash), "a gap or a duplicate");
        assert_eq!(
            (&block["commitment"], &block["txList"]),
            (&params[0]["commitment"], &params[0]["txList"])
        );
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The result of a call by curl.
fn curl(rpc: &str, method: &str, params: &Value) -> Result<Value, Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let url = format!("http://{rpc}");
    let options =
        ["--silent", "--show-error", "--max-time", "30", "--header", "content-type: application/json"];
    let output = Command::new("curl").args(options).args(["--data", &body, &url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    match answer.get_mut("error") {
        Some(error) => Err(error.take()),
        None => Ok(answer["result"].take()),
    }
}

fn node(datadir: &Path, port: &str) -> (Node, String) {
    let datadir = datadir.to_str().unwrap();
    let mut node = Node::run_for(
        4 * DEADLINE,
        &["--datadir", datadir, "--rpc.port", port, "--rpc.api", "preconf,opp2p"],
    );
    let rpc = node.started()["rpc"].as_str().unwrap().to_owned();
    (node, rpc)
}

/// Connects two nodes, and waits until both know what a block builds on.
fn connect(one: &str, two: &str) {
    let address = curl(two, "opp2p_self", &json!([])).unwrap()["addresses"][0].clone();
    assert_eq!(curl(one, "opp2p_connectPeer", &json!([address])), Ok(Value::Null));
    let is_live = |of: &str| curl(of, "preconf_status", &json!([])).unwrap()["isLive"] == true;
    within("two live nodes", || (is_live(one) && is_live(two)).then_some(()));
}

#[test]
fn clients_of_other_languages_follow_without_a_gap_or_a_duplicate_across_a_restart() {
    if there("curl", succeeds(Command::new("curl").arg("--version")).then_some(())).is_none() {
        return;
    }
    let programs = [(python(), "follow.py"), (node_js(), "follow.ts")];
    let programs: Vec<_> =
        programs.into_iter().filter_map(|(program, example)| Some((program?, example))).collect();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ((first, one), (second, two)) = (node(folders[0].path(), "0"), node(folders[1].path(), "0"));
    connect(&one, &two);
    let followers: Vec<_> =
        programs.into_iter().map(|(program, example)| Follower::start(program, example, &two)).collect();
    let (window_end, mut parent) = (now() + 600, B256::ZERO);
    let mut publish = |number| {
        let (params, hash) = block_in(window_end, number, parent, 1);
        let published = curl(&one, "preconf_publishBlock", &params).unwrap();
        assert_eq!(published["txListHash"], params[0]["txListHash"]);
        parent = hash;
        (hash, params)
    };
    let all_have = |number, (hash, params): &(B256, Value)| {
        followers.iter().for_each(|follower| follower.has(number, *hash, params));
    };
    all_have(11, &publish(11));
    second.stop();
    // Nobody hears this one: the node asks for it when it is there again.
    within("a node without peers", || {
        let stats = curl(&one, "opp2p_peerStats", &json!([])).unwrap();
        (stats["connected"] == 0).then_some(())
    });
    let twelfth = publish(12);
    let (second, again) = node(folders[1].path(), two.rsplit(':').next().unwrap());
    assert_eq!(again, two);
    connect(&one, &two);
    all_have(12, &twelfth);
    all_have(13, &publish(13));
    drop(followers);
    first.stop();
    second.stop();
}
