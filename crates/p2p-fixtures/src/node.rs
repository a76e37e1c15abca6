//! A node in a process of its own: what it says on stdout, what its status is, and what it is given to publish.

#![allow(clippy::disallowed_methods, reason = "it watches another process in real time")]
#![allow(clippy::indexing_slicing, reason = "a field of JSON that is missing is null")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// How long is waited for what comes within seconds on a machine that is not busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The clock, in unix seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Asks again and again until there is an answer.
pub fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a node has shown of its chain.
#[derive(Debug, Default)]
pub struct Shown {
    /// Its chain, by height: preconfirmation hashes.
    pub chain: BTreeMap<u64, String>,
    /// Blocks that a changed schedule has taken out of it.
    pub unelected: Vec<String>,
    started: Option<Value>,
}

impl Shown {
    fn event(&mut self, event: Value) {
        let number = |field: &str| event[field].as_u64().unwrap_or_default();
        match event["event"].as_str() {
            Some("started") => self.started = Some(event),
            Some("commitment") => {
                let hash = event["commitment"]["preconfirmationHash"].as_str().unwrap_or_default();
                self.chain.insert(number("block"), hash.to_owned());
            }
            Some("reorg" | "l1_reorg") => drop(self.chain.split_off(&number("from"))),
            Some("schedule_reorg") => {
                drop(self.chain.split_off(&number("from")));
                let affected = event["affected"].as_array().into_iter().flatten();
                self.unelected.extend(affected.filter_map(|hash| Some(hash.as_str()?.to_owned())));
            }
            _ => {}
        }
    }
}

/// A running node, killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    shown: Arc<Mutex<Shown>>,
    /// Where it reads what it is to publish.
    blocks: File,
    /// The first address at which it listens.
    pub listen: String,
    /// Where it tells its status.
    pub status_address: String,
    /// Where it answers JSON-RPC; empty where it does not.
    pub rpc_address: String,
}

impl Node {
    /// Starts one by a command to which the options of `p2p-node run` can be appended, and waits until it runs. It reads what it is to
    /// publish from a pipe, which is made where it is missing.
    #[must_use]
    pub fn start(command: &mut Command, pipe: &Path) -> Self {
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let mut child = command
            .args(["--status.addr", "127.0.0.1:0", "--forget-on-restart", "--publish"])
            .arg(pipe)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = Arc::<Mutex<Shown>>::default();
        let (lines, seen) = (BufReader::new(child.stdout.take().unwrap()).lines(), shown.clone());
        thread::spawn(move || {
            let events = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.for_each(|event| seen.lock().unwrap_or_else(PoisonError::into_inner).event(event));
        });
        let started =
            within("a node", || shown.lock().unwrap_or_else(PoisonError::into_inner).started.clone());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (listen, rpc_address) = (text(&started["listen"][0]), text(&started["rpc"]));
        let status_address = text(&started["status"]);
        // Opens once the node reads at the other end.
        let blocks = File::options().write(true).open(pipe).unwrap();
        Self { child, shown, blocks, listen, status_address, rpc_address }
    }

    /// Has it publish a block, as a line of `--publish`.
    pub fn publish(&mut self, line: &str) {
        writeln!(self.blocks, "{line}").unwrap();
    }

    /// Looks at what it has shown.
    pub fn shown<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it tells of itself.
    #[must_use]
    pub fn status(&self) -> Value {
        status(&self.status_address)
    }

    /// Its answer to a call by JSON-RPC.
    #[must_use]
    pub fn call(&self, method: &str, params: &Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let head =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close", body.len());
        exchange(&self.rpc_address, "POST / HTTP/1.1", &format!("{head}\r\n\r\n{body}"))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// What a node tells of itself at an address.
#[must_use]
pub fn status(address: &str) -> Value {
    exchange(address, "GET /status HTTP/1.1", "\r\n")
}

/// The JSON that answers a request, which is one line and what comes after its host.
fn exchange(address: &str, request: &str, rest: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{request}\r\nHost: {address}\r\n{rest}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
