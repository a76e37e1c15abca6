//! What goes wrong in the field, and how the node tells of it: each through the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which watch another process in real time"
)]
#![cfg(unix)]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    num::NonZeroU64,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use p2p_client::{Keypair, P2pClient, P2pClientConfig, Publishing, Sent};
use p2p_storage::MemoryStorage;
use p2p_types::{
    Address, B256, Base, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256, UnixSeconds,
};
use p2p_validation::{OpenSchedule, ValidationConfig};
use preconfirmation_types::keccak256;
use serde_json::{Value, json};

/// For what takes milliseconds on a machine that is not busy.
const DEADLINE: Duration = Duration::from_secs(60);

const ZERO: &str = "0x0000000000000000000000000000000000000000";

/// A chain of a laboratory, on loopback, and an empty schedule of options for more.
const CHAIN: [&str; 6] = ["run", "--slasher", ZERO, "--lookahead", "open", "--base=10"];
const LOOPBACK: [&str; 4] = ["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"];

/// A running node, killed where a test ends early. What it says is read as it comes.
struct Node {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    log: Receiver<String>,
}

/// Kills what has not ended in time, so that whoever reads its pipes does not wait for ever.
fn watch(child: &Child) {
    let process = child.id().to_string();
    thread::spawn(move || {
        thread::sleep(2 * DEADLINE);
        Command::new("kill").args(["-KILL", &process]).status()
    });
}

impl Node {
    /// Starts a program with these options; stdin is what is given.
    fn spawn(program: &str, options: &[&str], stdin: Stdio) -> Self {
        let mut child = Command::new(program)
            .args(options)
            .env_remove("RUST_LOG")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        watch(&child);
        let stdout = Some(BufReader::new(child.stdout.take().unwrap()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, stdout, log }
    }

    /// A node on free ports of loopback, with these options more.
    fn run(options: &[&str]) -> Self {
        Self::spawn(NODE, &[&CHAIN[..], &LOOPBACK, options].concat(), Stdio::null())
    }

    /// A node in a shell that does something before.
    fn after(before: &str, options: &[&str]) -> Self {
        let script = format!("{before}; exec {NODE} \"$@\"");
        let options = [&["-c", &script, "sh"], &CHAIN[..], &LOOPBACK, options].concat();
        Self::spawn("sh", &options, Stdio::null())
    }

    /// The next line of stdout that is such an event.
    fn event(&mut self, name: &str) -> Value {
        let lines = self.stdout.as_mut().unwrap().lines();
        let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.into_iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The first line, which says that it runs.
    fn started(&mut self) -> Value {
        self.event("started")
    }

    /// The next line of the log that has all these words.
    fn logs(&self, words: &[&str]) -> String {
        let end = Instant::now() + DEADLINE;
        let mut said = String::new();
        loop {
            let line = self.log.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("no line with {words:?} in:\n{said}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            said = format!("{said}{line}\n");
        }
    }

    /// The log up to and without the first line that has this word.
    fn log_until(&self, word: &str) -> String {
        let mut said = String::new();
        while let Ok(line) = self.log.recv_timeout(DEADLINE) {
            if line.contains(word) {
                return said;
            }
            said = format!("{said}{line}\n");
        }
        panic!("no {word:?} in:\n{said}");
    }

    fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Its end, which comes in time.
    fn ended(&mut self) -> ExitStatus {
        within("the node's end", || self.child.try_wait().unwrap())
    }

    /// Told to stop, it ends well.
    fn stop(mut self) {
        self.terminate();
        drop(self.stdout.take());
        assert!(self.ended().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const NODE: &str = env!("CARGO_BIN_EXE_p2p-node");

/// Asks again and again until there is an answer.
fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Exit code and stderr of a node that cannot start.
fn refused(options: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(NODE);
    let command = command.args(options).env_remove("RUST_LOG").stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    watch(&child);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A node that cannot start says these words on its last line, and nothing of a panic.
fn expect(code: i32, options: &[&str], words: &[&str]) {
    let (actual, said) = refused(options);
    assert_eq!(actual, Some(code), "{options:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{options:?}: {word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// The code and the body of an HTTP answer.
fn get(address: &Value, path: &str) -> Option<(u16, String)> {
    let address = address.as_str().unwrap();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn get_json(address: &Value, path: &str) -> (u16, Value) {
    let (code, body) = get(address, path).unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

// Addresses.

/// A record (ENR) of a node that listens everywhere is of use where its operator says where it is.
#[test]
fn an_advertised_address_is_in_the_record_and_a_missing_one_is_asked_for() {
    let everywhere = [&CHAIN[..], &["--p2p.listen.tcp", "0", "--p2p.listen.udp", "0"]].concat();
    let node = Node::spawn(NODE, &everywhere, Stdio::null());
    node.logs(&["WARN", "--p2p.listen.ip 0.0.0.0", "--p2p.advertise.ip"]);
    node.stop();

    let advertise = ["--p2p.advertise.ip", "127.0.0.1", "--p2p.advertise.tcp", "30303"];
    let advertise = [&everywhere[..], &advertise, &["--p2p.advertise.udp", "30304"]].concat();
    let mut node = Node::spawn(NODE, &advertise, Stdio::null());
    let said = node.log_until("running");
    assert!(!said.contains("--p2p.advertise.ip"), "{said}");
    let enr: discv5::Enr = node.started()["enr"].as_str().unwrap().parse().unwrap();
    let told = (enr.ip4().unwrap().to_string(), enr.tcp4(), enr.udp4());
    assert_eq!(told, ("127.0.0.1".into(), Some(30303), Some(30304)));
    node.stop();

    let free = [&CHAIN[..], &LOOPBACK, &["--p2p.advertise.ip"]].concat();
    expect(
        1,
        &[&free[..], &["192.0.2.1"]].concat(),
        &["--p2p.advertise.ip 192.0.2.1", "--p2p.advertise.tcp"],
    );
    expect(1, &[&free[..], &["0.0.0.0"]].concat(), &["--p2p.advertise.ip 0.0.0.0", "nobody can dial"]);
    let port = [&CHAIN[..], &LOOPBACK, &["--p2p.advertise.tcp", "1"]].concat();
    expect(2, &port, &["--p2p.advertise.ip <IP>"]);
}

#[test]
fn a_node_listens_on_several_addresses() {
    let options = [&CHAIN[..], &["--p2p.listen.tcp", "0", "--p2p.listen.ip"]].concat();
    let mut node = Node::spawn(NODE, &[&options[..], &["127.0.0.1, 127.0.0.2,"]].concat(), Stdio::null());
    let started = node.started();
    let listen: Vec<_> =
        started["listen"].as_array().unwrap().iter().map(|at| at.as_str().unwrap()).collect();
    assert_eq!(listen.len(), 2, "{listen:?}");
    for ip in ["/ip4/127.0.0.1/", "/ip4/127.0.0.2/"] {
        assert!(listen.iter().any(|address| address.starts_with(ip)), "{listen:?}");
    }
    node.stop();
}

/// A name that is written into /etc/hosts while the node runs, and a resolver that never answers. Needs a mount namespace
/// of its own; where the system allows none, there is nothing to see.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_gets_an_address_later_is_dialled_there() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        return;
    }
    let mut peer = Node::run(&[]);
    let address =
        peer.started()["listen"][0].as_str().unwrap().replace("/ip4/127.0.0.1/", "/dns4/peer.test/");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (hosts, resolver) =
        (file("hosts", "127.0.0.1 localhost\n"), file("resolv.conf", "nameserver 127.0.0.1\n"));
    let script = format!(
        "mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec {NODE} \"$@\""
    );
    let shell = [&namespace[..], &["sh", "-c", &script, "sh"]].concat();
    let options = [&shell[..], &CHAIN, &LOOPBACK, &["--p2p.static", &address]].concat();
    let mut node = Node::spawn("unshare", &options, Stdio::null());
    node.logs(&["WARN", "peer.test"]);
    // In place: the name is bound, not the directory.
    fs::write(&hosts, "127.0.0.1 localhost peer.test\n").unwrap();
    let met = node.event("peer_connected");
    assert!(address.ends_with(met["peer"].as_str().unwrap()));
    peer.stop();
    node.stop();
}

#[test]
fn lists_of_peers_take_commas_and_nothing() {
    let mut first = Node::run(&[]);
    let address = first.started()["listen"][0].as_str().unwrap().to_owned();
    let lists = ["--p2p.static", &format!(" ,{address},, "), "--p2p.static", "", "--p2p.bootnodes", " ,"];
    let mut second = Node::run(&lists);
    let met = second.event("peer_connected");
    assert!(address.ends_with(met["peer"].as_str().unwrap()));
    first.stop();
    second.stop();

    let chain = [&CHAIN[..], &LOOPBACK].concat();
    let peers = format!("{address},10.0.0.7:9222");
    let bad = [&chain[..], &["--p2p.static", &peers]].concat();
    expect(2, &bad, &["--p2p.static <MULTIADDR>", "`10.0.0.7:9222`", "/ip4/10.0.0.7/tcp/9222"]);
    expect(2, &[&chain[..], &["--p2p.bootnodes", "x,"]].concat(), &["--p2p.bootnodes <NODE>", "`x`"]);
    let rate = [&chain[..], &["--p2p.rate-limit", "12D3=1"]].concat();
    expect(2, &rate, &["--p2p.rate-limit <PEER=N/S>", "`12D3=1`", "N requests in S seconds"]);
}

#[test]
fn an_address_that_cannot_be_bound_names_option_value_reason_and_remedy() {
    let chain = [&CHAIN[..], &["--p2p.listen.ip", "127.0.0.1"]].concat();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let in_use = ["Address already in use (os error 98)", "stop it, or choose another port"];
    let option = format!("--p2p.listen.tcp {port}");
    expect(
        1,
        &[&chain[..], &["--p2p.listen.tcp", &port]].concat(),
        &[&[option.as_str()], &in_use[..]].concat(),
    );

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    let option = format!("--p2p.listen.udp {port}");
    let options = ["--p2p.listen.tcp", "0", "--p2p.listen.udp", &port];
    expect(1, &[&chain[..], &options].concat(), &[&[option.as_str()], &in_use[..]].concat());

    let elsewhere = [&CHAIN[..], &["--p2p.listen.ip", "192.0.2.1", "--p2p.listen.tcp", "0"]].concat();
    expect(
        1,
        &elsewhere,
        &["--p2p.listen.ip", "192.0.2.1", "Cannot assign requested address", "of this host"],
    );

    for option in ["--status.addr", "--metrics.addr"] {
        let port = tcp.local_addr().unwrap().to_string();
        let options = [&chain[..], &["--p2p.listen.tcp", "0", option, &port]].concat();
        expect(1, &options, &[&[option, &port], &in_use[..]].concat());
    }
}

// HTTP.

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
    // Half a request is no reason to wait for ever, nor is one that reads nothing.
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
    let options = ["run", "--slasher", ZERO, "--lookahead", &lookahead, "--base=10"];
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

// Schedules.

#[test]
fn a_schedule_in_milliseconds_is_refused_and_one_for_another_time_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schedule.json");
    let source = |kind: &str| format!("{kind}:{}", path.display());
    let file = |start: u64, end: u64| {
        fs::write(&path, json!([{ "signer": ZERO, "start": start, "end": end }]).to_string()).unwrap();
    };
    let rotation = |genesis: u64| {
        let rotation = json!({ "genesis": genesis, "window": 12, "operators": [ZERO] });
        fs::write(&path, rotation.to_string()).unwrap();
    };
    let options = |lookahead: &str| {
        ["run", "--slasher", ZERO, "--lookahead", lookahead, "--base=10"]
            .iter()
            .chain(&LOOPBACK)
            .map(|option| (*option).to_owned())
            .collect::<Vec<_>>()
    };
    let run = |lookahead: &str| {
        let options = options(lookahead);
        Node::spawn(NODE, &options.iter().map(String::as_str).collect::<Vec<_>>(), Stdio::null())
    };
    let refuse = |lookahead: &str, words: &[&str]| {
        let options = options(lookahead);
        expect(1, &options.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };

    file(now() * 1000, now() * 1000 + 12_000);
    refuse(&source("file"), &["--lookahead file:", "[0].start", "milliseconds", "unix seconds"]);
    rotation(now() * 1000);
    refuse(&source("rotating"), &["--lookahead rotating:", "genesis", "milliseconds"]);

    file(now() + 3600, now() + 7200);
    let node = run(&source("file"));
    node.logs(&["WARN", "--lookahead file:", "begins in 3"]);
    node.stop();
    rotation(now() + 3600);
    let node = run(&source("rotating"));
    node.logs(&["WARN", "--lookahead rotating:", "begins in 3"]);
    node.stop();
    file(1000, 2000);
    let node = run(&source("file"));
    node.logs(&["WARN", "--lookahead file:", "ended"]);
    node.stop();
    // One that never ends, and one that runs, are neither.
    for last in [now() + 3600, u64::MAX] {
        file(1000, last);
        let node = run(&source("file"));
        let said = node.log_until("running");
        assert!(!said.contains("--lookahead"), "{said}");
        node.stop();
    }
}

// The clock.

/// A preconfer whose clock is a minute ahead of the node's, which is the same as a node's that is a minute behind.
#[tokio::test]
async fn a_clock_that_disagrees_with_preconfers_is_told_of() {
    let addresses = ["--status.addr", "127.0.0.1:0", "--metrics.addr", "127.0.0.1:0"];
    let mut node = Node::run(&addresses);
    let started = node.started();
    let key = SigningKey::from_bytes([1; 32]).unwrap();
    let rules = ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO);
    let config = P2pClientConfig::local(167_000, Keypair::generate_secp256k1(), rules)
        .with_clock(|| UnixSeconds::new(now() + 60))
        .with_publishing(Publishing::GuardedUntilRestart)
        .with_static_peers([started["listen"][0].as_str().unwrap().parse().unwrap()]);
    let anyone = OpenSchedule::accepting_any_signer(UnixSeconds::new(0), NonZeroU64::new(1 << 32).unwrap());
    let preconfer =
        P2pClient::start(config, Arc::new(MemoryStorage::default()), Arc::new(anyone)).await.unwrap();
    preconfer.l2_synced(Base::at(10)).await.unwrap();
    preconfer.connected(1).await.unwrap();
    let first = now() + 50;
    let mut parent = B256::ZERO;
    for number in 11..=20 {
        let preconf = Preconfirmation {
            block_number: U256::from(number),
            timestamp: U256::from(first + number - 11),
            submission_window_end: U256::from(u32::MAX),
            raw_tx_list_hash: keccak256([0]),
            parent_preconfirmation_hash: parent,
            ..Default::default()
        };
        parent = preconf.hash();
        let commitment = PreconfCommitment { preconf, slasher_address: Address::ZERO };
        let signed = commitment.sign(&key, &SigningDomain::PLACEHOLDER);
        preconfer.ready_to_publish().await.unwrap();
        let sent = preconfer.publish_block(signed, vec![0].into()).await.unwrap();
        assert!(matches!(sent, Sent::Sent { .. } | Sent::Queued), "{sent:?}");
    }
    node.logs(&["WARN", "clock of this host", "offset=-"]);
    let clock = get_json(&started["status"], "/status").1["clock"].clone();
    assert_eq!((&clock["off"], &clock["unusable"]), (&json!(true), &json!(true)), "{clock}");
    assert!((-60..=-30).contains(&clock["offset"].as_i64().unwrap()), "{clock}");
    let metrics = get(&started["metrics"], "/metrics").unwrap().1;
    assert!(metrics.contains("p2p_clock_unusable 1\n"), "{metrics}");
    preconfer.shutdown().await.unwrap();
    node.stop();
}

// Files and pipes.

/// A new FIFO with these rights.
fn fifo(folder: &Path, mode: u32) -> String {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A key, and the peer that it makes.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_key_may_come_from_a_group_mount_a_pipe_or_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, KEY).unwrap();
    let mode = |mode: u32| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let key = ["--p2p.priv.path", path.to_str().unwrap()];
    mode(0o440);
    let mut node = Node::run(&key);
    let peer = node.started()["peer"].clone();
    node.stop();
    mode(0o640);
    let exposed = [&CHAIN[..], &LOOPBACK, &key].concat();
    expect(1, &exposed, &["--p2p.priv.path", "mode 640", "chmod 600", "0440"]);

    let stdin = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", "/dev/stdin"]].concat();
    let mut node = Node::spawn(NODE, &stdin, Stdio::piped());
    node.child.stdin.take().unwrap().write_all(KEY.as_bytes()).unwrap();
    assert_eq!(node.started()["peer"], peer);
    node.stop();

    let pipe = fifo(folder.path(), 0o600);
    let mut node = Node::run(&["--p2p.priv.path", &pipe]);
    fs::write(&pipe, KEY).unwrap();
    assert_eq!(node.started()["peer"], peer);
    node.stop();
}

#[test]
fn a_pipe_into_which_nobody_writes_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = fifo(folder.path(), 0o600);
    let lookahead = format!("rotating:{pipe}");
    let chain = ["run", "--slasher", ZERO, "--base=10", "--lookahead"];
    let options = [&chain[..], &[&lookahead], &LOOPBACK].concat();
    let key = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", &pipe]].concat();
    thread::scope(|scope| {
        scope.spawn(|| expect(1, &options, &["--lookahead", "within 10 s", "nobody writes"]));
        scope.spawn(|| expect(1, &key, &["--p2p.priv.path", "within 10 s", "nobody writes"]));
    });
}

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let chain = ["run", "--slasher", ZERO, "--base=10", "--lookahead"];
    let options = |lookahead| [&chain[..], &[lookahead], &LOOPBACK].concat();
    let directory = format!("file:{path}");
    expect(1, &options(&directory), &["--lookahead file:", path, "Is a directory", "name the file"]);
    expect(
        1,
        &options("rotating:/no/such"),
        &["--lookahead rotating:/no/such", "No such file", "check the path"],
    );
    let key = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", path]].concat();
    expect(1, &key, &["--p2p.priv.path", path, "is a directory"]);
    let publish = [&CHAIN[..], &LOOPBACK, &["--forget-on-restart", "--publish", "/no/such"]].concat();
    expect(1, &publish, &["--publish /no/such", "No such file", "check the path"]);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let datadir = [&CHAIN[..], &LOOPBACK, &["--datadir", inside.to_str().unwrap()]].concat();
    expect(1, &datadir, &["--datadir", "Not a directory"]);
}

#[test]
fn a_store_in_use_names_the_process_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let datadir = ["--datadir", folder.path().to_str().unwrap()];
    let mut node = Node::run(&datadir);
    node.started();
    let process = format!("process {}", node.child.id());
    let second = [&CHAIN[..], &LOOPBACK, &datadir].concat();
    expect(1, &second, &["--datadir", "in use", &process, "stop that node"]);
    node.stop();
}

// Beginning and end.

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
