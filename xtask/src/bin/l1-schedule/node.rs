//! A node in a process of its own: what it says on stdout, what its status is, and what it is given to publish.

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

use serde_json::Value;

/// How long is waited for what comes within seconds on a machine that is not busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Asks again and again until there is an answer.
pub(crate) fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
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
pub(crate) struct Shown {
    /// Its chain, by height: preconfirmation hashes.
    pub(crate) chain: BTreeMap<u64, String>,
    /// Blocks that a changed schedule has taken out of it.
    pub(crate) unelected: Vec<String>,
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

pub(crate) struct Node {
    child: Child,
    shown: Arc<Mutex<Shown>>,
    /// Where it reads what it is to publish.
    blocks: File,
    pub(crate) listen: String,
    status: String,
}

impl Node {
    /// Starts one with these options, and waits until it runs.
    pub(crate) fn start(program: &Path, pipe: &Path, options: &[&str]) -> Self {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let publish = pipe.to_string_lossy();
        let mut child = Command::new(program)
            .args(["run", "--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"])
            .args(["--status.addr", "127.0.0.1:0", "--publish", &publish, "--forget-on-restart"])
            .args(options)
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
        let (listen, status) = (text(&started["listen"][0]), text(&started["status"]));
        // Opens once the node reads at the other end.
        let blocks = File::options().write(true).open(pipe).unwrap();
        Self { child, shown, blocks, listen, status }
    }

    /// Has it publish a block, as a line of `--publish`.
    pub(crate) fn publish(&mut self, line: &str) {
        writeln!(self.blocks, "{line}").unwrap();
    }

    /// Looks at what it has shown.
    pub(crate) fn shown<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn status(&self) -> Value {
        let mut stream = TcpStream::connect(&self.status).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /status HTTP/1.1\r\nHost: {}\r\n\r\n", self.status).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
