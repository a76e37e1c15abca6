//! The sidecar of `docs/guide.md`: taken from the guide as it stands, built outside the workspace, and run beside a devnet.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

const GUIDE: &str = include_str!("../../../../docs/guide.md");

/// What a sidecar may take at most.
const LINES: usize = 40;

/// The first block of this language in the guide.
fn first_block(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The target directory that this test was built in: `target/debug/p2p-node` is the binary under test.
fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_p2p-node")).ancestors().nth(2).unwrap()
}

/// Writes the crate of the guide, with the paths of this checkout in place of versions, and the lock and the profile
/// of the workspace, so that nothing is downloaded and little is built twice.
fn write_crate(folder: &Path) {
    let root = root();
    let manifest = first_block("toml");
    let client = format!("p2p-client = {{ path = {:?} }}", root.join("crates/p2p-client"));
    assert!(manifest.contains("p2p-client = \"0.1\""), "the guide names the client");
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let profile = workspace.find("[profile.dev]").zip(workspace.find("[profile.release]"));
    let profile = profile.and_then(|(from, to)| workspace.get(from..to)).unwrap_or_default();
    let manifest = manifest.replace("p2p-client = \"0.1\"", &client);
    fs::write(folder.join("Cargo.toml"), format!("{manifest}\n[workspace]\n\n{profile}")).unwrap();
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    fs::create_dir(folder.join("src")).unwrap();
    fs::write(folder.join("src/main.rs"), first_block("rust,no_run")).unwrap();
}

/// A process whose output is read line by line, killed when it is dropped.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins with this.
    fn after(&mut self, prefix: &str) -> String {
        let found = self.lines.find_map(|line| line.unwrap().strip_prefix(prefix).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no line begins with {prefix}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_guides_sidecar_builds_and_follows_a_devnet() {
    let source = first_block("rust,no_run");
    let code = source.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"));
    assert!(code.count() <= LINES, "a sidecar of {LINES} lines");

    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path());
    let mut build = Command::new(env!("CARGO"));
    // What cargo tells a test of its package. Build scripts look at these: much of the target directory would be built again,
    // now and by whoever uses it next.
    for (name, _) in std::env::vars() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own)) {
            build.env_remove(name);
        }
    }
    let built = build
        .args(["build", "--offline", "--quiet", "--manifest-path"])
        .arg(folder.path().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target())
        .status();
    assert!(built.unwrap().success(), "the guide's sidecar does not build");

    let mut devnet = Process::start(Command::new(env!("CARGO_BIN_EXE_p2p-node")).args([
        "devnet",
        "--nodes",
        "2",
        "--blocks",
        "3",
        "--hold",
        "600",
        "--listen",
        "127.0.0.1:0",
    ]));
    let slasher = devnet.after("slasher    ");
    let base = devnet.after("base       ");
    let schedule: serde_json::Value = serde_json::from_str(&devnet.after("schedule   ")).unwrap();
    let peer = devnet.after("multiaddr  ");
    let base = base.split(':').next().unwrap();
    let operators = schedule["operators"].as_array().unwrap();
    let operators = operators.iter().map(|operator| operator.as_str().unwrap());

    let mut sidecar = Process::start(
        Command::new(target().join("debug/sidecar"))
            .args([&peer, &slasher, base])
            .args([schedule["genesis"].to_string(), schedule["window"].to_string()])
            .args(operators),
    );
    let base: u64 = base.parse().unwrap();
    for block in base + 1..=base + 3 {
        assert!(sidecar.after(&format!("block {block} ")).starts_with("0x"));
    }
}
