//! A PostgreSQL server of its own for each test; it ends with it.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use p2p_guard_postgres::{GuardConfig, PostgresGuard};
use p2p_types::{Address, B256, Promise, SigningDomain, UnixSeconds};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

pub(crate) const CHAIN: u64 = 167_000;
pub(crate) const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;
/// How long a test waits for what comes within seconds on a machine that is not busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

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

pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    settings: Vec<String>,
    running: Option<Child>,
    /// Of the socket, and of TCP where it listens there.
    pub(crate) port: u16,
}

impl Server {
    /// None where there is no PostgreSQL.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(&[]).await
    }

    /// With more settings, `name=value`.
    pub(crate) async fn with(settings: &[&str]) -> Option<Self> {
        Self::after(settings, |_| {}).await
    }

    /// After something was put into its folder.
    pub(crate) async fn after(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let programs = programs()?;
        // A socket's path is short.
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        prepare(folder.path());
        if geteuid().is_root() {
            assert!(
                Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status().unwrap().success()
            );
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
        server.run().await;
        Some(server)
    }

    /// Starts it, or starts it again.
    pub(crate) async fn run(&mut self) {
        let begun = Instant::now();
        loop {
            let mut command = unprivileged(&self.programs.join("postgres"));
            command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
            if self.settings.iter().any(|setting| setting.starts_with("listen_addresses")) {
                // It takes no port 0: where somebody else is faster, it is started once more, on another one.
                self.port =
                    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
                command.args(["-p", &self.port.to_string()]);
            } else {
                command.args(["-c", "listen_addresses="]);
            }
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            let mut child = command.spawn().unwrap();
            loop {
                assert!(begun.elapsed() < DEADLINE, "PostgreSQL does not start");
                // What a killed one has left behind may be in use a little longer: then it is started once more.
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if tokio_postgres::connect(&self.url(), NoTls).await.is_ok() {
                    self.running = Some(child);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    pub(crate) fn url(&self) -> String {
        format!("host={} port={} user=guard dbname=postgres", self.folder.path().display(), self.port)
    }

    pub(crate) fn config(&self) -> GuardConfig {
        // Not what is tested here, but on a busy machine.
        let mut config = GuardConfig::new(&self.url(), CHAIN, DOMAIN).unwrap();
        config.deadline = Duration::from_secs(20);
        config
    }

    pub(crate) async fn guard(&self) -> PostgresGuard {
        PostgresGuard::open(self.config()).await.unwrap()
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
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

    pub(crate) fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // One of its connections may have ended by itself.
            kill_process(process, signal).ok();
        }
    }

    /// Kill -9 of all of it.
    pub(crate) fn kill(&mut self) {
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

/// A block that a signer promises. What it says decides its hash, as in a real one.
pub(crate) fn promise(signer: u64, window_end: u64, block: u64, variant: u8) -> Promise {
    let mut hash = B256::repeat_byte(variant);
    hash.0[..8].copy_from_slice(&block.to_be_bytes());
    hash.0[8..16].copy_from_slice(&signer.to_be_bytes());
    hash.0[16..24].copy_from_slice(&window_end.to_be_bytes());
    let mut address = Address::ZERO;
    address.0[12..].copy_from_slice(&signer.to_be_bytes());
    Promise {
        window_end: UnixSeconds::new(window_end),
        signer: address,
        block,
        hash,
        eop: false,
        eop_only: false,
    }
}

/// The last block of a window.
pub(crate) fn last(mut promise: Promise) -> Promise {
    promise.eop = true;
    promise.hash.0[24] ^= 0x40;
    promise
}

/// A handover without a block.
pub(crate) fn declines(promise: Promise) -> Promise {
    let mut promise = last(promise);
    promise.eop_only = true;
    promise.hash.0[24] ^= 0x80;
    promise
}
