//! A node in a process of its own, and what its operator sees of it.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

pub(crate) use p2p_fixtures::node::{DEADLINE, now, within};
use serde_json::Value;

pub(crate) const NODE: &str = env!("CARGO_BIN_EXE_p2p-node");

pub(crate) const ZERO: &str = "0x0000000000000000000000000000000000000000";

/// A chain of a laboratory, on loopback, and an empty schedule of options for more.
pub(crate) const CHAIN: [&str; 8] =
    ["run", "--domain", "placeholder", "--slasher", ZERO, "--lookahead", "open", "--base=10"];
pub(crate) const LOOPBACK: [&str; 4] = ["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0"];

/// A running node, killed where a test ends early. What it says is read as it comes.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    pub(crate) log: Receiver<String>,
    /// It was told what to log.
    is_told_levels: bool,
}

/// Kills what has not ended in time, so that whoever reads its pipes does not wait indefinitely.
fn watch(child: &Child, life: Duration) {
    let process = child.id().to_string();
    thread::spawn(move || {
        thread::sleep(life);
        Command::new("kill").args(["-KILL", &process]).status()
    });
}

impl Node {
    /// Starts a program with these options; stdin is what is given.
    pub(crate) fn spawn(program: &str, options: &[&str], stdin: Stdio) -> Self {
        Self::spawn_for(2 * DEADLINE, program, options, stdin)
    }

    /// One that takes longer than others.
    pub(crate) fn spawn_for(life: Duration, program: &str, options: &[&str], stdin: Stdio) -> Self {
        let mut child = Command::new(program)
            .args(options)
            .env_remove("RUST_LOG")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        watch(&child, life);
        let stdout = Some(BufReader::new(child.stdout.take().unwrap()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let is_told_levels = options.iter().any(|option| option.contains("log.") || *option == "debug");
        Self { child, stdout, log, is_told_levels }
    }

    /// A node on free ports of loopback, with these options more.
    pub(crate) fn run(options: &[&str]) -> Self {
        Self::run_for(2 * DEADLINE, options)
    }

    /// The same for one that takes longer than others.
    pub(crate) fn run_for(life: Duration, options: &[&str]) -> Self {
        Self::spawn_for(life, NODE, &[&CHAIN[..], &LOOPBACK, options].concat(), Stdio::null())
    }

    /// A node in a shell that does something before.
    pub(crate) fn after(before: &str, options: &[&str]) -> Self {
        let script = format!("{before}; exec {NODE} \"$@\"");
        let options = [&["-c", &script, "sh"], &CHAIN[..], &LOOPBACK, options].concat();
        Self::spawn("sh", &options, Stdio::null())
    }

    /// The next line of stdout that is such an event.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let lines = self.stdout.as_mut().unwrap().lines();
        let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.into_iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The first line, which says that it runs.
    pub(crate) fn started(&mut self) -> Value {
        self.event("started")
    }

    /// The next line of the log that has all these words.
    pub(crate) fn logs(&self, words: &[&str]) -> String {
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
    pub(crate) fn log_until(&self, word: &str) -> String {
        let mut said = String::new();
        while let Ok(line) = self.log.recv_timeout(DEADLINE) {
            if line.contains(word) {
                return said;
            }
            said = format!("{said}{line}\n");
        }
        panic!("no {word:?} in:\n{said}");
    }

    pub(crate) fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Its end; one that does not come in time is no success.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Told to stop, it ends well, and has not said what only developers want to know.
    pub(crate) fn stop(mut self) {
        self.terminate();
        drop(self.stdout.take());
        assert!(self.ended().success());
        let is_inner = |line: &String| line.contains(" DEBUG ") || line.contains(" TRACE ");
        let inner: Vec<String> = self.log.iter().filter(is_inner).collect();
        assert!(self.is_told_levels || inner.is_empty(), "{inner:#?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Exit code and stderr of a node that cannot start.
fn refused(program: &str, options: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    let command = command.args(options).env_remove("RUST_LOG").stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    watch(&child, 2 * DEADLINE);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A node that cannot start says these words on its last line, and nothing of a panic.
pub(crate) fn expect(code: i32, options: &[&str], words: &[&str]) {
    fails(code, NODE, options, words);
}

/// As [`expect`], as a user without rights over the host, whoever runs this. Where the system has no such user to offer, there
/// is nothing to see.
#[cfg(target_os = "linux")]
pub(crate) fn expect_without_rights(code: i32, options: &[&str], words: &[&str]) {
    let as_nobody = Command::new("unshare").args(["--user", "true"]).status();
    if as_nobody.is_ok_and(|status| status.success()) {
        fails(code, "unshare", &[&["--user", NODE], options].concat(), words);
    }
}

fn fails(code: i32, program: &str, options: &[&str], words: &[&str]) {
    let (actual, said) = refused(program, options);
    assert_eq!(actual, Some(code), "{options:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{options:?}: {word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// The code and the body of an HTTP answer.
pub(crate) fn get(address: &Value, path: &str) -> Option<(u16, String)> {
    let address = address.as_str().unwrap();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

pub(crate) fn get_json(address: &Value, path: &str) -> (u16, Value) {
    let (code, body) = get(address, path).unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

/// A new FIFO with these rights.
pub(crate) fn fifo(folder: &Path, mode: u32) -> String {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}
