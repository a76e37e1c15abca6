//! The run command against a devnet of another process, as an operator meets it.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use p2p_types::{Address, B256, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256};
use preconfirmation_types::{Container as _, keccak256};
use serde_json::{Value, json};

const BASE: u64 = 1_000_000;

/// A running p2p-node that is killed where a test ends early.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_p2p-node"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the first line that starts with a word.
    fn after(&mut self, word: &str) -> String {
        let found = self.lines.by_ref().find_map(|line| line.unwrap().strip_prefix(word).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no line starts with {word:?}")).trim().to_owned()
    }

    /// The next event for which there is a value.
    fn until<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let event = |line: std::io::Result<String>| serde_json::from_str::<Value>(&line.unwrap()).unwrap();
        self.lines.by_ref().map(event).find_map(|event| wanted(&event)).unwrap()
    }

    /// Waits for a block that is complete.
    fn ready(&mut self, number: u64) {
        self.until(|event| (event["event"] == "block_ready" && event["block"] == number).then_some(()));
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Tells it to stop, reads what it still says, and waits for its end.
    fn stop(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        while self.lines.next().is_some() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A devnet with what it has printed for whoever wants to join.
struct Devnet {
    process: Process,
    slasher: String,
    base: String,
    schedule: String,
    address: String,
    join: String,
}

impl Devnet {
    fn start(blocks: &str) -> Self {
        let options =
            ["devnet", "--nodes", "2", "--blocks", blocks, "--window", "4", "--txlist-bytes", "600"];
        let mut process =
            Process::start(&[&options[..], &["--hold", "600", "--listen", "127.0.0.1:0"]].concat());
        let slasher = process.after("slasher ");
        let base = process.after("base ");
        let schedule = process.after("schedule ");
        let address = process.after("multiaddr ");
        let join = process.after("join ");
        Self { process, slasher, base, schedule, address, join }
    }

    /// A node that joins it, with these options more.
    fn join(&self, folder: &Path, more: &[&str]) -> Process {
        let schedule = folder.join("schedule.json");
        std::fs::write(&schedule, &self.schedule).unwrap();
        let lookahead = format!("rotating:{}", schedule.display());
        let options = [
            "run",
            "--domain",
            "placeholder",
            "--slasher",
            &self.slasher,
            "--base",
            &self.base,
            "--lookahead",
            &lookahead,
        ];
        let network =
            ["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0", "--p2p.static", &self.address];
        Process::start(&[&options[..], &network, more].concat())
    }
}

/// What an HTTP server answers.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The promise of this command: two processes, one follows the other, is stopped, and goes on where it was.
#[test]
fn a_node_follows_a_devnet_and_goes_on_after_a_restart() {
    let devnet = Devnet::start("14");
    let folder = tempfile::tempdir().unwrap();
    let datadir = folder.path().join("data");
    let options = ["--datadir", datadir.to_str().unwrap(), "--status.addr", "127.0.0.1:0"];
    let options = [&options[..], &["--metrics.addr", "127.0.0.1:0"]].concat();

    let mut node = devnet.join(folder.path(), &options);
    let started = node.until(|event| (event["event"] == "started").then(|| event.clone()));
    assert_eq!(started["head"], Value::Null);
    for number in 1..=3 {
        node.ready(BASE + number);
    }
    let status: Value = serde_json::from_str(&get(started["status"].as_str().unwrap(), "/status")).unwrap();
    assert_eq!(status["peer"], started["peer"]);
    assert!(status["applied"].as_u64().unwrap() >= BASE + 3, "{status}");
    assert!(status["seen"].as_u64() >= status["applied"].as_u64(), "{status}");
    assert_eq!(status["policies"]["leniencies"], Value::Array(Vec::new()));
    assert!(devnet.address.ends_with(status["peers"][0]["peer"].as_str().unwrap()), "{status}");
    get(started["status"].as_str().unwrap(), "/healthz");
    let metrics = get(started["metrics"].as_str().unwrap(), "/metrics");
    assert!(metrics.contains("# HELP p2p_gossip_received_total"), "{metrics}");
    assert!(node.stop("-TERM").success());

    // Whatever the devnet does meanwhile, what is missing is fetched.
    let mut node = devnet.join(folder.path(), &options);
    let again = node.until(|event| (event["event"] == "started").then(|| event.clone()));
    assert!(again["head"]["number"].as_u64().unwrap() >= BASE + 3, "{again}");
    assert_eq!(again["peer"], started["peer"], "the key is kept, too");
    node.until(|event| {
        if event["event"] == "commitment" {
            assert!(event["block"].as_u64() > again["head"]["number"].as_u64(), "shown twice: {event}");
        }
        (event["event"] == "block_ready" && event["block"] == BASE + 14).then_some(())
    });
    assert!(node.stop("-INT").success());
    assert!(devnet.process.stop("-TERM").success());
}

/// The line that the devnet prints for it, in a shell.
#[test]
fn the_printed_command_joins() {
    let devnet = Devnet::start("4");
    let command = devnet.join.replace("p2p-node", env!("CARGO_BIN_EXE_p2p-node"));
    // `exec`, so that the signal reaches the node and not a shell around it.
    let mut child = Command::new("sh")
        .args(["-c", &command.replace("| ", "| exec ")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"event\":\"block_ready\"")));
    // A reader that goes away ends it, too: its next event finds a closed pipe.
    drop(lines);
    assert!(child.wait().unwrap().success());
}

/// A node of a laboratory's chain, on free ports of loopback, with the line that it begins with.
fn laboratory(options: &[&str]) -> (Process, Value) {
    let zero = Address::ZERO.to_string();
    let chain = ["run", "--domain", "placeholder", "--slasher", &zero, "--lookahead", "open", "--base", "10"];
    let network = ["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"];
    let mut node = Process::start(&[&chain[..], &network, options].concat());
    let started = node.until(|event| (event["event"] == "started").then(|| event.clone()));
    (node, started)
}

/// Blocks from 11 on and a handover behind them, a line each.
fn to_publish(blocks: u64) -> String {
    let key = SigningKey::from_bytes([1; 32]).unwrap();
    let (mut parent, mut lines) = (B256::ZERO, String::new());
    for number in 11..=11 + blocks {
        let eop = number == 11 + blocks;
        let txlist = format!("the transactions of block {number}");
        let preconf = Preconfirmation {
            eop,
            block_number: U256::from(number),
            timestamp: U256::from(number),
            submission_window_end: U256::from(u64::from(u32::MAX)),
            raw_tx_list_hash: if eop { B256::ZERO } else { keccak256(&txlist) },
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        parent = preconf.hash();
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let commitment =
            alloy_primitives::hex::encode(commitment.sign(&key, &SigningDomain::PLACEHOLDER).to_ssz());
        let txlist = (!eop).then(|| alloy_primitives::hex::encode(&txlist));
        let line = match txlist {
            Some(txlist) => json!({ "commitment": commitment, "txlist": txlist }),
            None => json!({ "commitment": commitment }),
        };
        lines = format!("{lines}{line}\n");
    }
    lines
}

/// Two processes, driven from a shell: what one publishes from a file the other prints, in order.
#[test]
fn what_one_node_publishes_from_a_file_another_prints_in_order() {
    const BLOCKS: u64 = 30;
    let folder = tempfile::tempdir().unwrap();
    let (file, datadir) = (folder.path().join("blocks.jsonl"), folder.path().join("data"));
    std::fs::write(&file, to_publish(BLOCKS)).unwrap();
    let options = ["--publish", file.to_str().unwrap(), "--datadir", datadir.to_str().unwrap()];
    let (publisher, started) = laboratory(&options);
    let address = started["listen"][0].as_str().unwrap();
    let (mut follower, _) = laboratory(&["--p2p.static", address]);
    let (mut shown, mut ready) = (Vec::new(), Vec::new());
    let mut handed_over = false;
    while ready.len() < usize::try_from(BLOCKS).unwrap() || !handed_over {
        let event = follower.until(|event| Some(event.clone()));
        match event["event"].as_str().unwrap() {
            "commitment" => shown.push(event["block"].as_u64().unwrap()),
            "block_ready" => ready.push(event["block"].as_u64().unwrap()),
            "handover" => handed_over = true,
            _ => {}
        }
    }
    let all: Vec<u64> = (11..11 + BLOCKS).collect();
    assert_eq!(shown, all);
    ready.sort_unstable();
    assert_eq!(ready, all);
    assert!(publisher.stop("-TERM").success());

    // The same file once more, on the same store: nothing in it is refused.
    let (mut publisher, started) = laboratory(&options);
    assert_eq!(started["head"]["number"], 10 + BLOCKS);
    publisher.until(|event| (event["event"] == "status").then_some(()));
    assert!(publisher.stop("-TERM").success());
    assert!(follower.stop("-TERM").success());
}

/// discv5 over real sockets: who knows one node's record finds the others.
#[test]
fn nodes_that_know_one_record_find_each_other() {
    let (first, started) = laboratory(&["--p2p.listen.udp", "0"]);
    let enr = started["enr"].as_str().unwrap();
    assert!(enr.starts_with("enr:"), "{started}");
    let join = || laboratory(&["--p2p.listen.udp", "0", "--p2p.bootnodes", enr]);
    let meets = |node: &mut Process, peer: &Value| {
        node.until(|event| (event["event"] == "peer_connected" && event["peer"] == *peer).then_some(()));
    };
    let (mut second, second_started) = join();
    meets(&mut second, &started["peer"]);
    let (mut third, third_started) = join();
    meets(&mut third, &second_started["peer"]);
    meets(&mut second, &third_started["peer"]);
    for node in [first, second, third] {
        assert!(node.stop("-TERM").success());
    }
}

#[test]
fn a_bad_option_is_named_with_its_value_and_what_to_do() {
    let zero = "0x0000000000000000000000000000000000000000";
    let refused = |options: &[&str]| {
        let given = [
            "run",
            "--domain",
            "placeholder",
            "--slasher",
            zero,
            "--p2p.listen.tcp",
            "0",
            "--p2p.listen.ip",
            "127.0.0.1",
        ];
        let output = Command::new(env!("CARGO_BIN_EXE_p2p-node"))
            .args(given.iter().chain(options))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let expect = |code: i32, options: &[&str], words: &[&str]| {
        let (actual, said) = refused(options);
        assert_eq!(actual, code, "{options:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{options:?}: {said}");
        }
    };
    expect(2, &["--lookahead", "anyone"], &["--lookahead <SOURCE>", "'anyone'", "rotating:PATH"]);
    expect(2, &["--lookahead", "open", "--base", "x"], &["--base <BLOCK[:HASH]>", "'x'", "decimal"]);
    expect(
        2,
        &["--lookahead", "open", "--p2p.static", "10.0.0.7"],
        &["--p2p.static <MULTIADDR>", "10.0.0.7"],
    );
    expect(1, &["--lookahead", "file:/no/such"], &["--lookahead file:/no/such", "No such file"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = ["--lookahead", "open", "--status.addr", &address];
    expect(1, &options, &[&format!("--status.addr {address}"), "choose another"]);

    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "secret").unwrap();
    Command::new("chmod").arg("600").arg(&key).status().unwrap();
    let key = key.to_str().unwrap();
    expect(1, &["--lookahead", "open", "--p2p.priv.path", key], &["--p2p.priv.path", key, "64 hexadecimal"]);
    let blocks = folder.path().join("blocks.jsonl");
    std::fs::write(&blocks, "\n{\"commitment\":\"0x00\"}\n").unwrap();
    let path = blocks.to_str().unwrap();
    let options = ["--lookahead", "open", "--base", "1", "--publish", path];
    expect(1, &options, &["--publish: without --datadir", "--forget-on-restart"]);
    let options = [&options[..], &["--forget-on-restart"]].concat();
    expect(1, &options, &[&format!("--publish {path} line 2: commitment:"), "382"]);
}
