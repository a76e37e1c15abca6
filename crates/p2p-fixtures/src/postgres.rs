//! A PostgreSQL server of its own for each test; it ends with it.

#![allow(clippy::disallowed_methods, reason = "it watches another process in real time")]

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, geteuid, kill_process};
use tempfile::TempDir;

/// How long a server may take to start on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The folder of PostgreSQL's programs. None where there is none, which a test says and passes.
fn programs() -> Option<PathBuf> {
    let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let packaged =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let packaged = packaged.max_by_key(|folder| version(folder)).map(|folder| folder.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        packaged.into_iter().chain(env::split_paths(&path)).find(|folder| folder.join("initdb").is_file());
    // The gate on macOS has no package that it could install in a minute.
    let is_gate =
        cfg!(target_os = "linux") && env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(found.is_some() || !is_gate, "no PostgreSQL: `cargo xtask postgres` installs it");
    if found.is_none() {
        eprintln!("skipped: no PostgreSQL; `apt-get install --no-install-recommends postgresql` installs it");
    }
    found
}

/// A program as a user that is not root, as which PostgreSQL does not run.
fn unprivileged(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// A server on a socket in a folder of its own, with the superuser `guard`.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: TempDir,
    settings: Vec<String>,
    running: Option<Child>,
    port: u16,
}

impl Server {
    /// None where there is no PostgreSQL.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::with(&[], |_| ())
    }

    /// With more settings, `name=value`, after something was put into its folder. It listens on TCP if a setting says where.
    #[must_use]
    pub fn with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let programs = programs()?;
        // A socket's path is short.
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        prepare(folder.path());
        if geteuid().is_root() {
            let owned = Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status().unwrap();
            assert!(owned.success());
        }
        let made = unprivileged(&programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=guard",
                "--no-locale",
                "--encoding=UTF8",
                "--no-sync",
                "--pgdata",
            ])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { programs, folder, settings, running: None, port: 5_432 };
        server.run();
        Some(server)
    }

    /// Starts it, or starts it again.
    pub fn run(&mut self) {
        let begun = Instant::now();
        while self.running.is_none() {
            let mut command = unprivileged(&self.programs.join("postgres"));
            command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
            if self.settings.iter().any(|setting| setting.starts_with("listen_addresses")) {
                // It takes no port 0: where somebody else is faster, it is started once more, on another one.
                let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
                self.port = free.unwrap().port();
                command.args(["-p", &self.port.to_string()]);
            } else {
                command.args(["-c", "listen_addresses="]);
            }
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            let log = File::options().create(true).append(true).open(self.log()).unwrap();
            command.stdout(Stdio::null()).stderr(log).process_group(0);
            let mut child = command.spawn().unwrap();
            // What a killed one has left behind may be in use a little longer: then it is started once more.
            while child.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < DEADLINE, "PostgreSQL does not start: {}", self.said());
                if self.answers() {
                    self.running = Some(child);
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The end of what it has logged.
    fn said(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    fn answers(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        let command = command.arg("--quiet").args(["--port", &self.port.to_string()]);
        let command = command.arg("--host").arg(self.folder.path());
        command.status().unwrap().success()
    }

    /// Its folder. Its data is in `data` there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port that it listens on, if it does.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// How to connect to it, as libpq has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("host={} port={} user=guard dbname=postgres", self.folder.path().display(), self.port)
    }

    /// The server's processes, the first one first.
    fn processes(&self) -> Vec<Pid> {
        let Some(child) = &self.running else { return Vec::new() };
        let first = Pid::from_child(child);
        let parent = first.as_raw_nonzero().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        std::iter::once(first).chain(children).collect()
    }

    /// Sends a signal to all of it.
    pub fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // One of its connections may have ended by itself.
            kill_process(process, signal).ok();
        }
    }

    /// Kill -9 of all of it.
    pub fn kill(&mut self) {
        // What is stopped starts no process that nobody would kill, and that would keep the next server from its memory.
        if let Some(first) = self.processes().first() {
            kill_process(*first, Signal::STOP).ok();
        }
        self.signal(Signal::KILL);
        if let Some(mut child) = self.running.take() {
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
