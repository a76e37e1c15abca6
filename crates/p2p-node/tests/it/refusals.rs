//! What a node refuses to start with: one line says why, the exit code is not 0, and nothing on disk is changed.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use redb::{Database, TableDefinition};

use crate::rig::{CHAIN, LOOPBACK, NODE, Node, expect};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A folder with a data directory in it, or with none yet.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(folder.0.path(), Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// One that a node has used.
    fn used() -> Self {
        let folder = Self::new();
        let mut node = Node::run(&["--datadir", &folder.path("data")]);
        node.started();
        node.stop();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A node with this data directory and these options says that on its last line, ends with this code, and has changed nothing.
    fn refuses(&self, code: i32, options: &[&str], words: &[&str]) {
        self.refuses_by(&[NODE], code, options, words);
    }

    /// The same for a node that is started by another program.
    fn refuses_by(&self, program: &[&str], code: i32, options: &[&str], words: &[&str]) {
        let before = contents(self.0.path());
        let datadir = self.path("data");
        let (program, begin) = program.split_first().unwrap();
        let output = Command::new(program)
            .args([begin, &CHAIN[..], &LOOPBACK, &["--datadir", &datadir], options].concat())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("error: ") || code == 2, "{options:?}: {said}");
        for word in words {
            assert!(
                if code == 2 { said.contains(word) } else { last.contains(word) },
                "{options:?}: {word:?}: {said}"
            );
        }
        assert!(output.stdout.is_empty(), "{options:?}");
        let after = contents(self.0.path());
        let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before), "{options:?}");
        assert!(after == before, "{options:?} has changed a file");
    }
}

/// Every file and folder in a folder, with its bytes; of a database, which notes that it was opened, only that it is there. Who had
/// a store open last is not part of it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, Vec::new());
        } else if path.is_file() && !path.ends_with("owner") {
            let is_database = path.ends_with("store.redb");
            let bytes = if is_database { Vec::new() } else { fs::read(&path).unwrap() };
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn options_that_cannot_work_leave_no_data_directory() {
    let folder = Folder::new();
    let exposed = folder.file("exposed", KEY, 0o644);
    let broken = folder.file("broken", "0123", 0o600);
    let ed25519 = folder.file("ed25519", &format!("ed25519:{KEY}"), 0o600);
    let file = folder.file("file", "", 0o600);
    for (options, words) in [
        (&["--p2p.priv.path", &exposed][..], &["--p2p.priv.path", "mode 644", "chmod 600"][..]),
        (&["--rpc.port", "0", "--rpc.jwt-secret", &exposed], &["--rpc.jwt-secret", "chmod 600"]),
        (&["--rpc.port", "0", "--rpc.jwt-secret", &broken], &["--rpc.jwt-secret", "64 hexadecimal digits"]),
        (&["--p2p.priv.path", &broken], &["--p2p.priv.path", "64 hexadecimal digits"]),
        (&["--p2p.priv.path", &ed25519, "--p2p.listen.udp", "0"], &["--p2p.priv.path", "secp256k1"]),
        (&["--network", "/no/such.toml"], &["--network /no/such.toml", "No such file"]),
        (&["--l1.rpc", "ws://127.0.0.1:1"], &["--l1.rpc", "--lookahead open"]),
        (&["--p2p.advertise.ip", "0.0.0.0"], &["--p2p.advertise.ip 0.0.0.0", "nobody can dial"]),
        (&["--p2p.peers.lo", "31"], &["--p2p.peers.lo 31", "--p2p.peers.hi"]),
        (&["--publish", "/no/such.jsonl"], &["--publish /no/such.jsonl", "No such file"]),
        (&["--p2p.listen.ip", "192.0.2.1"], &["--p2p.listen.ip", "192.0.2.1", "no address of this host"]),
    ] {
        folder.refuses(1, options, words);
    }
    let inside = format!("{file}/data");
    folder.refuses(1, &["--p2p.peerstore.path", &inside], &["--p2p.peerstore.path", "Not a directory"]);
    for options in
        [&["--p2p.listen.tcp", "65536"][..], &["--no-such-option"], &["--l2.rpc", "ws://a.example"]]
    {
        folder.refuses(2, options, &[options[0]]);
    }
}

#[test]
fn a_port_in_use_leaves_no_data_directory() {
    let folder = Folder::new();
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let tcp = tcp.local_addr().map(|at| (at.to_string(), at.port().to_string(), tcp)).unwrap();
    let udp = udp.local_addr().map(|at| (at.port().to_string(), udp)).unwrap();
    let (datadir, before) = (folder.path("data"), contents(folder.0.path()));
    let taken = ["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", &tcp.1, "--datadir", &datadir];
    let named = format!("--p2p.listen.tcp {}", tcp.1);
    expect(1, &[&CHAIN[..], &taken].concat(), &[&named, "in use", "choose another port"]);
    assert!(contents(folder.0.path()) == before);
    for (option, value) in [
        ("--p2p.listen.udp", &udp.0),
        ("--p2p.listen.quic", &udp.0),
        ("--status.addr", &tcp.0),
        ("--metrics.addr", &tcp.0),
    ] {
        folder.refuses(1, &[option, value], &[&format!("{option} {value}"), "in use", "choose another port"]);
    }
    folder.refuses(1, &["--rpc.port", &tcp.1], &[&format!("--rpc.addr {}", tcp.0), "listens there already"]);
}

/// All that a store holds.
fn exported(folder: &Folder) -> String {
    let output = Command::new(NODE).args(["db", "export", &folder.path("data/chain")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Says of which version a store is.
fn set_schema(folder: &Folder, schema: u32) {
    let database = Database::open(folder.path("data/chain/store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", &schema.to_be_bytes()[..]).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_data_directory_of_another_chain_or_a_newer_version_stays_as_it_is() {
    let folder = Folder::used();
    let (held, datadir) = (exported(&folder), folder.path("data"));
    assert!(held.contains("base"), "{held}");
    let other = format!("0x{}", "11".repeat(32));
    let before = contents(folder.0.path());
    let chain = ["run", "--slasher", "none", "--lookahead", "open", "--base=10", "--domain", &other];
    let options = [&chain[..], &LOOPBACK, &["--datadir", &datadir]].concat();
    expect(1, &options, &["--datadir", "choose another directory, or give that --domain"]);
    assert!(contents(folder.0.path()) == before);
    assert_eq!(exported(&folder), held);

    set_schema(&folder, 1000);
    folder.refuses(1, &[], &["--datadir", "1000", "run that version, or choose another directory"]);
    let check = Command::new(NODE)
        .args([&["config", "check"], &CHAIN[1..], &["--datadir", &datadir]].concat())
        .output()
        .unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(check.status.code() == Some(1) && said.contains("run that version"), "{said}");
    set_schema(&folder, 1);
    assert_eq!(exported(&folder), held);
    let mut node = Node::run(&["--datadir", &datadir]);
    node.started();
    node.stop();
}

#[test]
fn a_data_directory_in_use_stays_as_it_is() {
    let folder = Folder::new();
    let mut node = Node::run(&["--datadir", &folder.path("data")]);
    node.started();
    let process = format!("process {}", node.child.id());
    let names: Vec<_> = contents(folder.0.path()).into_keys().collect();
    let datadir = folder.path("data");
    let second = [&CHAIN[..], &LOOPBACK, &["--datadir", &datadir]].concat();
    expect(1, &second, &["--datadir", "in use", &process, "stop that node"]);
    assert_eq!(contents(folder.0.path()).into_keys().collect::<Vec<_>>(), names);
    node.stop();
}

/// A program that runs another one without rights over the host, if the system lets it.
#[cfg(target_os = "linux")]
fn works(program: &[&str]) -> bool {
    let status = Command::new(program[0]).args(&program[1..]).arg("true").stderr(Stdio::null()).status();
    let works = status.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: {} does not work here", program.join(" "));
    }
    works
}

/// Ends what should have ended by itself.
#[cfg(target_os = "linux")]
const IN_TIME: [&str; 4] = ["timeout", "--signal=KILL", "60", "unshare"];

#[cfg(target_os = "linux")]
#[test]
fn a_data_directory_that_may_not_be_written_stays_as_it_is() {
    let without_rights = [&IN_TIME[..], &["--user"]].concat();
    if !works(&without_rights) {
        return;
    }
    let as_nobody = [&without_rights[..], &[NODE]].concat();
    let folder = Folder::used();
    // Whoever runs this owns them, and without rights over the host that is not enough.
    let protect = |names: &[&str], mode| {
        for name in names {
            fs::set_permissions(folder.path(name), Permissions::from_mode(mode)).unwrap();
        }
    };
    let (file, folders) = ("data/chain/store.redb", ["data/chain", "data"]);
    protect(&[file], 0o444);
    protect(&folders, 0o555);
    folder.refuses_by(&as_nobody, 1, &[], &["--datadir", "Permission denied", "let this user write there"]);
    protect(&folders, 0o755);

    let nothing = Folder::new();
    fs::set_permissions(nothing.0.path(), Permissions::from_mode(0o555)).unwrap();
    nothing.refuses_by(&as_nobody, 1, &[], &["--datadir", "Permission denied", "let this user write there"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_is_no_problem_once_there_is_room() {
    let folder = Folder::new();
    let disk = folder.path("data");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {disk} && {{ head -c 100000 /dev/zero > {disk}/full 2> /dev/null; \"$@\" && exit 9; \
         rm {disk}/full && mount -o remount,size=8m {disk} && \"$@\" | head -n 1; }}"
    );
    let on_disk =
        [&IN_TIME[..], &["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]].concat();
    if !works(
        &[
            &IN_TIME[..],
            &["--user", "--map-root-user", "--mount", "sh", "-c", &format!("mount -t tmpfs tmpfs {disk} #")],
        ]
        .concat(),
    ) {
        return;
    }
    let (program, begin) = on_disk.split_first().unwrap();
    let output = Command::new(program)
        .args([begin, &[NODE], &CHAIN[..], &LOOPBACK, &["--datadir", &disk]].concat())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let full = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(
        full.contains("--datadir") && full.contains("no space left") && full.contains("make room"),
        "{said}"
    );
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    let events = String::from_utf8(output.stdout).unwrap();
    assert!(events.contains("\"event\":\"started\""), "{said}");
}
